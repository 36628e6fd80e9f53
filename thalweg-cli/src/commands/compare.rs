//! `thalweg compare`: which of two results is faster.

use std::error::Error;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, ensure};
use thalweg::measure::{Comparison, Measurement, ObjectionKind};
use thalweg::report;
use thalweg::tune::TuneOutcome;

use super::{file, in_folder};
use crate::args::CompareArgs;
use crate::output::Output;

/// Two results that must not be compared, which is not the same as one that is too slow.
#[derive(Debug)]
pub struct Refusal {
    texts: String,
    kinds: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { texts, kinds } = self;
        write!(f, "the two cannot be compared: {texts}; --despite {kinds} overrules that")
    }
}

impl Error for Refusal {}

pub fn run(args: &CompareArgs, output: &Output) -> anyhow::Result<()> {
    let comparison = Comparison::of(&read(&args.first)?, &read(&args.second)?);
    let is_overruled = |kind: &ObjectionKind| args.despite.contains(kind);
    let refused: Vec<_> = comparison.objections.iter().filter(|it| !is_overruled(&it.kind)).collect();
    if !refused.is_empty() {
        let texts: Vec<&str> = refused.iter().map(|it| it.text.as_str()).collect();
        let mut kinds: Vec<String> = refused.iter().map(|it| it.kind.to_string()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        return Err(Refusal { texts: texts.join("; "), kinds: kinds.join(",") }.into());
    }
    output.result(
        || serde_json::to_value(&comparison),
        |style| report::text_of_comparison(&comparison, style),
    )?;
    if let Some(least) = args.fail_below {
        let ratio = comparison.throughput.value;
        ensure!(
            ratio >= least,
            "the second has {ratio:.3} times the throughput of the first, less than {least}"
        );
    }
    Ok(())
}

/// A measurement of `bench`, or the last look at the winner of a search: a file, or the folder with it.
fn read(path: &Path) -> anyhow::Result<Measurement> {
    let names = [file::MEASUREMENT, file::OUTCOME];
    let path = in_folder(path, &names);
    let neither = names.join(" nor ");
    ensure!(!path.is_dir(), "{} has no {neither}: it is no folder of bench or tune", path.display());
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if let Ok(measurement) = serde_json::from_str::<Measurement>(&text) {
        return Ok(measurement);
    }
    let outcome: TuneOutcome = serde_json::from_str(&text)
        .with_context(|| format!("{} is neither a result of bench nor one of tune", path.display()))?;
    outcome.confirmation.with_context(|| format!("the search of {} confirmed no winner", path.display()))
}
