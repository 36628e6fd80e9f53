//! A search that goes on: what its journal holds, fed to a fresh search.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::journal::{Entry, Header, JOURNAL_VERSION, Journal, Reading, SetupTime};
use super::super::{Earlier, Search, TuneJob};
use crate::engine::EngineSource;
use crate::error::{Error, Result};
use crate::files;
use crate::units::Nanos;

pub(super) fn open_journal(job: &TuneJob) -> Result<(Journal, Vec<Entry>)> {
    let (engine, engine_sha256) = match &job.engine {
        Some(EngineSource::Built(spec)) => (Some(spec.clone()), None),
        Some(EngineSource::File(path)) => (None, Some(files::sha256(path)?)),
        None => (None, None),
    };
    let header = Header {
        schema_version: JOURNAL_VERSION,
        model: job.model.clone(),
        engine,
        engine_sha256,
        device: job.device.clone(),
        space: job.space.clone(),
        limits: job.limits,
        samples_per_request: job.samples_per_request,
        feeding: job.feeding,
        seed: job.policy.seed,
    };
    match job.earlier {
        Earlier::Refuse => Ok((Journal::create(&job.folder, &header)?, Vec::new())),
        Earlier::Resume => Journal::resume(&job.folder, &header),
    }
}

/// What earlier sessions left behind, but for what the search learnt.
#[derive(Default)]
pub(super) struct Replayed {
    pub slice_count: usize,
    pub elapsed: Nanos,
    pub setup: SetupTime,
}

impl Replayed {
    fn note(&mut self, reading: &Reading) {
        self.slice_count += 1;
        (self.elapsed, self.setup) = (reading.elapsed, reading.setup);
    }
}

/// Feeds a journal to a fresh search, which then decides as it would have then.
pub(super) fn replay(search: &mut Search, entries: Vec<Entry>, path: &Path) -> Result<Replayed> {
    let mut replayed = Replayed::default();
    let left_out = entries.iter().filter_map(|entry| match entry {
        Entry::LeftOut { candidate, reason, .. } => Some((*candidate, reason.clone())),
        _ => None,
    });
    let left_out: BTreeMap<usize, String> =
        left_out.filter(|(candidate, _)| *candidate < search.candidates().len()).collect();
    if !left_out.is_empty() {
        search.leave_out(left_out);
    }
    for entry in entries {
        match entry {
            // Where it is not found worth it any more, the slice that follows is refused.
            Entry::Instead { candidate, .. } => _ = search.pass_over(|other| other == candidate),
            Entry::Slice(reading) if search.next() == Some(reading.candidate) => {
                replayed.note(&reading);
                search.record(reading.candidate, reading.slice);
            }
            Entry::Final(reading) if reading.candidate < search.candidates().len() => {
                replayed.note(&reading);
                search.record_aside(reading.candidate, reading.slice);
            }
            Entry::Slice(reading) | Entry::Final(reading) => {
                let reason = format!(
                    "measurement {} is of candidate {}, where the search asks for another: \
                     it was written by another version, choose another --out",
                    replayed.slice_count, reading.candidate
                );
                return Err(Error::Mismatch { path: path.to_owned(), reason });
            }
            Entry::LeftOut { .. } | Entry::Note { .. } | Entry::Ended { .. } => {}
        }
    }
    Ok(replayed)
}
