//! Precision as one more dimension: each has an engine and a search of its own, then their winners are measured in turns.
//!
//! In: for each precision what it loses and what its search found. Out: a [`PrecisionOutcome`]. An engine is no knob of
//! a pool, so searches stay as they are, and what decides is a ratio that was measured side by side. A precision that
//! loses too much is never measured.

use serde::{Deserialize, Serialize};

use super::TunedConfig;
use crate::diagnose::{Entrant, ROUNDS, Setup, Tried, Turns, race};
use crate::error::Result;
use crate::measure::{Estimate, StopSignal, Workload};
use crate::precision::Accuracy;

/// Version of [`PrecisionOutcome`]'s format.
pub const PRECISIONS_VERSION: u32 = 1;

/// The result of a search over precisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrecisionOutcome {
    /// [`PRECISIONS_VERSION`].
    pub schema_version: u32,
    /// What a precision may lose, as on the command line.
    pub limits: Vec<String>,
    /// Every precision, in the order in which they were asked for.
    pub candidates: Vec<PrecisionCandidate>,
    /// Index of the winner; `None` where nothing ran within the limits.
    pub winner: Option<usize>,
}

/// One precision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrecisionCandidate {
    /// Its name: `int8`.
    pub precision: String,
    /// What it loses against FP32; `None` for that itself, and where it could not be run.
    pub accuracy: Option<Accuracy>,
    /// The best configuration; `None` where it was refused or nothing won.
    pub tuned: Option<TunedConfig>,
    /// Its throughput over that of the first one that ran, measured in turns.
    pub over_first: Option<Estimate>,
    /// Why it was not tuned.
    pub refused: Option<String>,
}

/// The best configuration of a precision, and what runs it.
pub struct Finalist<'a> {
    /// The engine with its samples.
    pub workload: &'a Workload,
    /// What its search found.
    pub tuned: &'a TunedConfig,
}

/// Measures finalists in turns; for each but the first its throughput over the first one's, or why there is none.
///
/// # Errors
/// [`Error::Bug`](crate::Error::Bug).
pub fn race_precisions<'a>(
    finalists: &[Finalist<'a>],
    seed: u64,
    stop: &StopSignal,
) -> Result<Vec<Result<Estimate, String>>> {
    let entrant = |finalist: &Finalist<'a>| {
        let (configuration, load) = (finalist.tuned.configuration, finalist.tuned.load);
        let setup = Setup { configuration, feeding: finalist.workload.feeding, load };
        let rate = finalist.tuned.throughput_inferences_per_s.value / configuration.streams as f64;
        Entrant::of_rate(finalist.workload, setup, rate)
    };
    let entrants: Vec<Entrant<'a>> = finalists.iter().map(entrant).collect();
    let ratio = |tried| match tried {
        Tried::Ratio(ratio) => Ok(ratio),
        Tried::Failed(reason) => Err(reason),
    };
    let turns = Turns { rounds: ROUNDS, seed };
    Ok(race(&entrants, turns, stop, &mut |_| {})?.into_iter().map(ratio).collect())
}

impl PrecisionOutcome {
    /// Says who won: of those that are surely faster than the first one that ran, the fastest; else the first itself,
    /// which as a rule is the most exact.
    pub fn of(limits: Vec<String>, candidates: Vec<PrecisionCandidate>) -> Self {
        let ran = |candidate: &PrecisionCandidate| candidate.tuned.is_some() && candidate.refused.is_none();
        let first = candidates.iter().position(ran);
        let surely = |candidate: &PrecisionCandidate| {
            candidate.over_first.filter(|ratio| ran(candidate) && ratio.lower > 1.0).map(|ratio| ratio.value)
        };
        let faster = candidates.iter().enumerate().filter_map(|(index, it)| Some((index, surely(it)?)));
        let fastest = faster.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(index, _)| index);
        Self { schema_version: PRECISIONS_VERSION, limits, winner: fastest.or(first), candidates }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::synthetic::tuned;

    fn candidate(precision: &str, over_first: Option<(f64, f64)>, is_refused: bool) -> PrecisionCandidate {
        PrecisionCandidate {
            precision: precision.to_owned(),
            accuracy: None,
            tuned: (!is_refused).then(tuned),
            over_first: over_first.map(|(value, lower)| Estimate {
                value,
                lower,
                upper: 2.0 * value - lower,
            }),
            refused: is_refused.then(|| "it loses too much".to_owned()),
        }
    }

    fn winner(candidates: Vec<PrecisionCandidate>) -> Option<usize> {
        PrecisionOutcome::of(vec!["cosine=0.99".to_owned()], candidates).winner
    }

    #[test]
    fn the_fastest_that_is_surely_faster_wins() {
        let first = || candidate("fp32", None, false);
        let fp16 = || candidate("fp16", Some((1.5, 1.4)), false);
        assert_eq!(winner(vec![first(), fp16(), candidate("int8", Some((2.0, 1.9)), false)]), Some(2));
        // What may as well be slower does not.
        assert_eq!(winner(vec![first(), fp16(), candidate("int8", Some((2.0, 0.9)), false)]), Some(1));
        assert_eq!(winner(vec![first(), candidate("fp16", Some((0.5, 0.4)), false)]), Some(0));
    }

    #[test]
    fn what_loses_too_much_never_wins() {
        let refused = || candidate("int8", None, true);
        assert_eq!(winner(vec![candidate("fp32", None, false), refused()]), Some(0));
        assert_eq!(winner(vec![refused(), candidate("fp16", None, false)]), Some(1));
        assert_eq!(winner(vec![refused()]), None);
    }
}
