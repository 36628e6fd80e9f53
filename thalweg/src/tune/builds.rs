//! Engines as an outer loop: each has a build and a search of its own, then their winners are measured in turns.
//!
//! In: for each engine how it was built, what it loses, and what its search found. Out: a [`BuildOutcome`]. An engine is
//! no knob of a pool, so searches stay as they are, and what decides is a ratio that was measured side by side. An
//! engine that loses too much is never measured, and one that is not built for lack of time is named.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::TunedConfig;
use crate::backend::{BuildOptions, BuildWatch};
use crate::diagnose::{Entrant, ROUNDS, Setup, Tried, Turns, race};
use crate::error::Result;
use crate::measure::{Estimate, StopSignal, Workload};
use crate::precision::{Accuracy, RouteTaken};
use crate::units::Nanos;

/// Version of [`BuildOutcome`]'s format.
pub const BUILDS_VERSION: u32 = 1;

/// The shortest turn of a finalist: shorter ones say too little of the long run.
const SHORTEST_TURN: Duration = Duration::from_millis(200);

/// The longest one: more time would be better spent on the searches.
const LONGEST_TURN: Duration = Duration::from_secs(2);

/// The part of a turn that is measured; the rest warms up.
const MEASURED: f64 = 0.8;

/// The result of a search over several engines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BuildOutcome {
    /// [`BUILDS_VERSION`].
    pub schema_version: u32,
    /// What an engine may lose, as on the command line.
    pub limits: Vec<String>,
    /// How long the search of each engine could take.
    #[serde(rename = "search_time_ns")]
    pub search_time: Nanos,
    /// Every engine, in the order in which they were asked for.
    pub candidates: Vec<BuildCandidate>,
    /// Index of the winner; `None` where nothing ran within the limits.
    pub winner: Option<usize>,
}

/// One engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BuildCandidate {
    /// What tells it from the others: `int8`, or `fp16, level 5`.
    pub name: String,
    /// What its builder may do.
    pub options: BuildOptions,
    /// How its precision reaches the builder; `None` for FP32, and in files of earlier versions.
    #[serde(default)]
    pub precision_route: Option<RouteTaken>,
    /// How long it took to have it: converting the model, building, and comparing with FP32; next to nothing where the
    /// cache had it. `None` for one that was not begun.
    #[serde(rename = "build_time_ns")]
    pub build_time: Option<Nanos>,
    /// What it loses against FP32; `None` where that is not asked, and where it could not be run.
    pub accuracy: Option<Accuracy>,
    /// The best configuration; `None` where it was refused or nothing won.
    pub tuned: Option<TunedConfig>,
    /// Its throughput over that of the first one that ran, measured in turns.
    pub over_first: Option<Estimate>,
    /// Why it takes no part.
    pub refused: Option<String>,
}

/// The time that all engines together may take until they are built. It counts from the first one that is there: without
/// any there would be nothing to tune.
#[derive(Clone, Copy, Debug, Default)]
pub struct BuildBudget {
    limit: Option<Duration>,
    spent: Duration,
    has_engine: bool,
}

impl BuildBudget {
    /// This much time; without a limit every engine is built.
    pub fn new(limit: Option<Duration>) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Counts what an engine took that is there now.
    pub fn count_built(&mut self, time: Duration) {
        self.spent += time;
        self.has_engine = true;
    }

    /// Counts what one took that failed.
    pub fn count_failed(&mut self, time: Duration) {
        self.spent += time;
    }

    /// Why no further engine is begun; `None` while there is time.
    pub fn refusal(&self) -> Option<String> {
        let limit = self.limit.filter(|limit| self.has_engine && self.spent >= *limit)?;
        let (spent, limit) = (Nanos::from_duration(self.spent), Nanos::from_duration(limit));
        Some(format!("not built: those before took {spent} of the {limit} that builds may take"))
    }

    /// A watch that also stops a build where the time is up, if the builder can be stopped.
    pub fn watched(&self, watch: BuildWatch) -> BuildWatch {
        match self.limit {
            Some(limit) if self.has_engine => watch.until(Instant::now() + limit.saturating_sub(self.spent)),
            _ => watch,
        }
    }
}

/// The best configuration of an engine, and what runs it.
pub struct Finalist<'a> {
    /// The engine with its samples.
    pub workload: &'a Workload,
    /// What its search found.
    pub tuned: &'a TunedConfig,
}

/// Measures finalists in turns, in about so much time. For each its throughput over that of the first one that did not
/// fail, or why there is none; `None` for that one itself.
///
/// # Errors
/// Where the device is lost, and [`Error::Bug`](crate::Error::Bug).
pub fn race_builds<'a>(
    finalists: &[Finalist<'a>],
    time: Duration,
    seed: u64,
    stop: &StopSignal,
) -> Result<Vec<Result<Option<Estimate>, String>>> {
    let share = time.div_f64((ROUNDS * finalists.len().max(1)) as f64);
    let turn = share.mul_f64(MEASURED).clamp(SHORTEST_TURN, LONGEST_TURN);
    let entrant = |finalist: &Finalist<'a>| {
        let (configuration, load) = (finalist.tuned.configuration, finalist.tuned.load);
        let setup = Setup::new(configuration, finalist.workload.feeding, load);
        let rate = finalist.tuned.throughput_inferences_per_s.value / configuration.streams as f64;
        Entrant { turn, ..Entrant::of_rate(finalist.workload, setup, rate) }
    };
    let entrants: Vec<Entrant<'a>> = finalists.iter().map(entrant).collect();
    let turns = Turns { rounds: ROUNDS, seed };
    let race = race(&entrants, turns, stop, &mut |_| {})?.unless_device_lost()?;
    let has_failed = |index: usize| race.failure(index).is_some();
    let first = (0..entrants.len()).find(|index| !has_failed(*index)).unwrap_or(0);
    let ratio = |index| match race.over(first, index) {
        _ if index == first && !has_failed(first) => Ok(None),
        Tried::Ratio(ratio) => Ok(Some(ratio)),
        Tried::Failed(reason) | Tried::Untried(reason) => Err(reason),
    };
    Ok((0..entrants.len()).map(ratio).collect())
}

impl BuildCandidate {
    /// Whether it was searched, and nothing spoke against it afterwards.
    pub fn ran(&self) -> bool {
        self.tuned.is_some() && self.refused.is_none()
    }
}

impl BuildOutcome {
    /// Says who won: of those that are surely faster than the first one that ran, the fastest; else the first itself,
    /// which as a rule is the most exact, or what one would build without asking.
    pub fn of(limits: Vec<String>, search_time: Duration, candidates: Vec<BuildCandidate>) -> Self {
        let first = candidates.iter().position(BuildCandidate::ran);
        let surely = |candidate: &BuildCandidate| {
            let ratio = candidate.over_first.filter(|ratio| candidate.ran() && ratio.lower > 1.0);
            ratio.map(|ratio| ratio.value)
        };
        let faster = candidates.iter().enumerate().filter_map(|(index, it)| Some((index, surely(it)?)));
        let fastest = faster.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(index, _)| index);
        Self {
            schema_version: BUILDS_VERSION,
            limits,
            search_time: Nanos::from_duration(search_time),
            winner: fastest.or(first),
            candidates,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::BuildEvent;
    use crate::tune::synthetic::build_candidate;

    fn candidate(name: &str, over_first: Option<(f64, f64)>) -> BuildCandidate {
        let estimate = |(value, lower)| Estimate { value, lower, upper: 2.0 * value - lower };
        BuildCandidate { over_first: over_first.map(estimate), ..build_candidate(name) }
    }

    fn refused(name: &str) -> BuildCandidate {
        let refused = Some("it loses too much".to_owned());
        BuildCandidate { tuned: None, refused, ..build_candidate(name) }
    }

    fn winner(candidates: Vec<BuildCandidate>) -> Option<usize> {
        let limits = vec!["cosine=0.99".to_owned()];
        BuildOutcome::of(limits, Duration::from_secs(20), candidates).winner
    }

    #[test]
    fn the_fastest_that_is_surely_faster_wins() {
        let first = || candidate("fp32", None);
        let fp16 = || candidate("fp16", Some((1.5, 1.4)));
        assert_eq!(winner(vec![first(), fp16(), candidate("int8", Some((2.0, 1.9)))]), Some(2));
        // What may as well be slower does not.
        assert_eq!(winner(vec![first(), fp16(), candidate("int8", Some((2.0, 0.9)))]), Some(1));
        assert_eq!(winner(vec![first(), candidate("fp16", Some((0.5, 0.4)))]), Some(0));
    }

    #[test]
    fn what_loses_too_much_never_wins() {
        assert_eq!(winner(vec![candidate("fp32", None), refused("int8")]), Some(0));
        assert_eq!(winner(vec![refused("int8"), candidate("fp16", None)]), Some(1));
        assert_eq!(winner(vec![refused("int8")]), None);
    }

    #[test]
    fn after_the_first_engine_builds_end_with_their_time() {
        let watch = || BuildWatch::new(|_| std::ops::ControlFlow::Continue(()));
        let is_stopped = |budget: &BuildBudget| {
            let watch = budget.watched(watch());
            std::thread::sleep(Duration::from_millis(2));
            watch.tell(BuildEvent::Said("kernels")).is_break()
        };
        let mut budget = BuildBudget::new(Some(Duration::from_millis(1)));
        budget.count_failed(Duration::from_nanos(1));
        assert!(!is_stopped(&budget), "there is no engine yet");
        budget.count_built(Duration::from_nanos(1));
        assert!(is_stopped(&budget));
        assert_eq!(budget.refusal(), None);
        budget.count_failed(Duration::from_millis(3));
        let refusal = "not built: those before took 3.00 ms of the 1.00 ms that builds may take";
        assert_eq!(budget.refusal().as_deref(), Some(refusal));
        let mut unlimited = BuildBudget::new(None);
        unlimited.count_built(Duration::from_hours(1));
        assert!(!is_stopped(&unlimited) && unlimited.refusal().is_none());
    }
}
