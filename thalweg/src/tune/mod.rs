//! Searching for the best configuration.
//!
//! [`tune`] takes a [`TuneJob`] (what to tune, where, under which limits, in how much time) and gives a
//! [`TuneOutcome`]; [`TunedConfig`] is the part of it that is deployed. On the way it keeps a [`journal`], so
//! that nothing measured is lost and a search can be continued.
//!
//! Measuring, the clock and the wish to stop come in as [`Instruments`] (see [`tune_with`]); everything else
//! here is pure, but for the files. How a configuration is measured is left to
//! [`measure`](crate::measure).

mod builds;
mod explore;
mod finals;
mod forecast;
pub mod journal;
mod outcome;
mod pace;
mod probes;
mod race;
mod room;
mod run;
mod search;
mod settle;
mod slice;
mod space;
mod summary;
mod sweep;
#[cfg(test)]
pub(crate) mod synthetic;
#[cfg(test)]
mod synthetic_gpu;
mod tuned;
mod verdict;

use std::cell::Cell;
use std::time::Duration;

pub use builds::{BUILDS_VERSION, BuildBudget, BuildCandidate, BuildOutcome, Finalist, race_builds};
use finals::Finals;
pub use forecast::{Forecast, Gain};
pub use outcome::{
    Candidate, Comparison, Compliance, Ending, Limits, OUTCOME_VERSION, Standing, TuneOutcome,
};
pub use pace::Trial;
pub use search::{Policy, Search};
pub use slice::Slice;
pub use space::{Space, baseline, saturating_load};
pub use sweep::{LeftOut, Sweep, SweepPoint, sweep_with};
pub use tuned::{TUNED_FILE, TUNED_VERSION, TunedConfig};

use crate::backend::{DeviceSpec, EngineMemory};
use crate::engine::EngineSource;
use crate::error::{Error, Result};
use crate::files::OutputFolder;
use crate::measure::{Feeding, Measurement, Pacing, StopSignal, Workload};
use crate::model::{ModelIdentity, Signature};
use crate::pool::Configuration;
use crate::units::{Clock, Nanos};

/// What to tune.
#[derive(Debug)]
pub struct TuneJob {
    /// The model.
    pub model: ModelIdentity,
    /// What it takes to have its engine again.
    pub engine: Option<EngineSource>,
    /// The device.
    pub device: DeviceSpec,
    /// Inputs, outputs and possible batch sizes of the engine.
    pub signature: Signature,
    /// What to search.
    pub space: Space,
    /// What the winner has to respect.
    pub limits: Limits,
    /// Size of requests; `None` is a whole batch each.
    pub samples_per_request: Option<usize>,
    /// How slots are filled.
    pub feeding: Feeding,
    /// How long it may take, the comparison of the finalists included and earlier sessions too.
    pub budget: Duration,
    /// Time of one sample on one stream where it is known already, so that slices suit a slow network.
    pub sample_time: Option<Nanos>,
    /// How to decide.
    pub policy: Policy,
    /// Folder of the journal.
    pub folder: OutputFolder,
    /// What to do with a journal that is there.
    pub earlier: Earlier,
}

impl TuneJob {
    /// What its space has room for and its requests fit into.
    ///
    /// # Errors
    /// As [`Space::candidates`], and [`Error::InvalidSetting`] where a request is larger than every batch, or smaller
    /// executions are asked of cores.
    fn candidates(&self) -> Result<Vec<Configuration>> {
        let mut candidates = self.space.candidates(&self.signature, &self.device)?;
        let least = self.samples_per_request.unwrap_or(1);
        let largest = candidates.iter().map(|candidate| candidate.batch_size).max().unwrap_or(1);
        candidates.retain(|candidate| candidate.batch_size >= least);
        for candidate in &mut candidates {
            *candidate = self.prepared(*candidate)?;
        }
        if candidates.is_empty() {
            let reason = format!("a request fits into one batch, and the largest that is tried is {largest}");
            return Err(Error::InvalidSetting { name: "request-samples", value: least.to_string(), reason });
        }
        Ok(candidates)
    }

    /// The same with the smaller executions that are prepared for its requests. Cores run any number of samples.
    fn prepared(&self, candidate: Configuration) -> Result<Configuration> {
        let least = *self.signature.batch_sizes.start();
        match (self.space.smallest_batch, self.samples_per_request) {
            (Some(smallest), _) => {
                let asked = candidate.with_smallest_batch(smallest, &self.device)?;
                Ok(if smallest < candidate.batch_size { asked } else { candidate })
            }
            (None, Some(samples)) if !self.device.is_host() => {
                Ok(candidate.for_requests_of(samples.max(least)))
            }
            (None, _) => Ok(candidate),
        }
    }
}

/// What to do with the journal of an earlier run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Earlier {
    /// Refuse to start.
    #[default]
    Refuse,
    /// Continue it.
    Resume,
}

/// Where a search touches the world.
pub struct Instruments<'a> {
    /// Builds a pool, warms it up, measures, verifies, and drops it. An error is the candidate's failure and
    /// does not end the search, but for [`Interrupted`](Error::Interrupted), which ends it, and
    /// [`Bug`](Error::Bug). The measurement has to hold its records.
    pub measure: &'a mut dyn FnMut(&Trial) -> Result<Measurement>,
    /// Device memory that a configuration would take; `None` where the device has none of its own. Read while no pool
    /// runs. An error ends the search.
    pub memory: &'a dyn Fn(&Configuration) -> Result<Option<EngineMemory>>,
    /// Time since the start of this session.
    pub elapsed: &'a dyn Fn() -> Duration,
    /// Whether the user wants it to end now.
    pub is_stopped: &'a dyn Fn() -> bool,
}

/// What happens in a search, for whoever shows it.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// The search begins.
    Started {
        /// How many candidates there are.
        candidate_count: usize,
        /// How many slices came from the journal.
        resumed_slices: usize,
    },
    /// A slice begins.
    Measuring {
        /// The round, counted from 0.
        round: usize,
        /// How many candidates are in the race.
        contender_count: usize,
        /// What is measured.
        configuration: &'a Configuration,
        /// Time that the search has taken.
        elapsed: Duration,
    },
    /// A slice is done.
    Measured {
        /// What was measured.
        configuration: &'a Configuration,
        /// The result.
        slice: &'a Slice,
        /// The best so far.
        leader: Option<&'a Configuration>,
    },
    /// A candidate is measured no further.
    Dropped {
        /// The candidate.
        configuration: &'a Configuration,
        /// Why.
        standing: Standing,
    },
    /// A finalist is measured once more.
    Confirming {
        /// What is measured.
        configuration: &'a Configuration,
        /// Which measurement of the finals this is, counted from 0.
        step: usize,
        /// How many there are at most.
        step_count: usize,
    },
    /// The winner is measured once more, at length.
    LastLook {
        /// The winner.
        configuration: &'a Configuration,
    },
}

/// Finds the best configuration of a workload: [`tune_with`] real measurements and the real clock.
///
/// # Errors
/// As there.
pub fn tune(
    job: &TuneJob,
    workload: &Workload,
    stop: &StopSignal,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<TuneOutcome> {
    with_instruments(workload, stop, |instruments| tune_with(job, instruments, progress))
}

/// Measures all that a search could have chosen, and the best of it beside its choice: [`sweep_with`] real measurements
/// and the real clock.
///
/// # Errors
/// As there.
pub fn sweep(
    job: &TuneJob,
    workload: &Workload,
    choice: Configuration,
    slice: Duration,
    stop: &StopSignal,
) -> Result<Sweep> {
    with_instruments(workload, stop, |instruments| sweep_with(job, choice, slice, instruments))
}

fn with_instruments<T>(
    workload: &Workload,
    stop: &StopSignal,
    work: impl FnOnce(&mut Instruments<'_>) -> Result<T>,
) -> Result<T> {
    let clock = Clock::start();
    // On a simulated device the budget is its time, not that of whoever waits for the simulation.
    let simulated = Cell::new(Duration::ZERO);
    let is_simulated = workload.engine.is_simulated();
    let mut instruments = Instruments {
        measure: &mut |trial| {
            let Trial { configuration, load, warm_up, window, window_count } = *trial;
            let pacing = Pacing { warm_up, window, max_windows: window_count, longest: None };
            simulated.set(simulated.get() + trial.duration());
            workload.experiment(configuration, load, pacing).run_whole(stop)
        },
        memory: &|it| it.memory(workload.engine.as_ref()),
        elapsed: &|| if is_simulated { simulated.get() } else { clock.now().to_duration() },
        is_stopped: &|| stop.is_requested(),
    };
    work(&mut instruments)
}

/// Finds the best configuration: races the candidates, measures the finalists against each other, and says
/// what won and why. Where the time is up or the user stops it, with what was measured until then.
///
/// # Errors
/// [`Error::InvalidSetting`] for a space without candidates; what
/// [`Journal::create`](journal::Journal::create) and [`Journal::resume`](journal::Journal::resume) say;
/// [`Error::Interrupted`] where nothing was measured; where every candidate
/// failed, the error of the first.
pub fn tune_with(
    job: &TuneJob,
    instruments: &mut Instruments<'_>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<TuneOutcome> {
    let mut run = run::Run::start(job, instruments, progress)?;
    let ending = run.race()?;
    run.check_something_ran(ending)?;
    let (roles, finals) = run.finals(ending)?;
    let ending = run.ended_in_finals(ending)?;
    Ok(run.finish(ending, roles, finals))
}
