//! Trying remedies: each is measured in turns with the baseline, and what counts is the ratio within a round.
//!
//! In: setups. Out: for each its throughput over another one's, with an interval. Rounds are shuffled, so that a
//! device that warms up or a neighbour that comes and goes favours nobody.

use std::time::Duration;

use super::remedies::{Setup, Tried};
use crate::error::{Error, Result};
use crate::measure::stats::paired_ratio;
use crate::measure::{Measurement, Observing, Pacing, StopSignal, Workload};
use crate::random::Random;

/// Rounds: with five pairs a 95 % interval is 2.8 standard errors wide to each side, with three it would be 4.3.
pub const ROUNDS: usize = 5;

/// Rounds from which on there is an interval worth giving.
const LEAST_ROUNDS: usize = 3;

/// Measured time of one turn; a fifth of it warms up.
const TURN: Duration = Duration::from_millis(400);

/// A simulated device has found its clock by then, and a real one its rhythm.
const LEAST_WARM_UP: Duration = Duration::from_millis(100);

/// Executions of every stream that a turn has to hold.
const LEAST_EXECUTIONS: f64 = 12.0;

/// Below this rate a turn is no longer made longer: ten samples of it take as long as a user waits.
const LEAST_RATE: f64 = 0.2;

/// A setup and the workload that it runs on.
#[derive(Clone, Copy)]
pub(crate) struct Entrant<'a> {
    pub workload: &'a Workload,
    pub setup: Setup,
    pub observing: Observing,
    /// How long a turn is measured at least.
    pub turn: Duration,
    /// Samples per second and stream that the setup as it was runs: how long a turn has to be follows from it.
    pub rate_per_stream: f64,
}

impl<'a> Entrant<'a> {
    /// A setup where `measured` is the one that was there at first.
    pub fn new(workload: &'a Workload, setup: Setup, measured: &Measurement) -> Self {
        let streams = measured.configuration.streams as f64;
        Self::of_rate(workload, setup, measured.throughput_inferences_per_s.value / streams)
    }

    /// A setup that runs so many samples per second and stream.
    pub fn of_rate(workload: &'a Workload, setup: Setup, rate_per_stream: f64) -> Self {
        Self { workload, setup, observing: Observing::On, turn: TURN, rate_per_stream }
    }

    /// The same with turns no longer than this.
    pub fn within(self, longest: Duration) -> Self {
        Self { turn: self.turn.min(longest), ..self }
    }
}

/// How often, and in which order.
#[derive(Clone, Copy)]
pub(crate) struct Turns {
    pub rounds: usize,
    pub seed: u64,
}

/// What turns showed.
pub(crate) struct Race {
    /// Throughputs by round and entrant; `None` where an entrant was not measured.
    rounds: Vec<Vec<Option<f64>>>,
    /// Why an entrant took no further part.
    failures: Vec<Option<Error>>,
}

/// Measures all in turns. What fails takes no further part, and a stop leaves those that lack rounds without a ratio.
///
/// # Errors
/// [`Error::Bug`].
pub(crate) fn race(
    entrants: &[Entrant<'_>],
    turns: Turns,
    stop: &StopSignal,
    progress: &mut dyn FnMut(&Setup),
) -> Result<Race> {
    let mut random = Random::new(turns.seed);
    let mut failures: Vec<Option<Error>> = entrants.iter().map(|_| None).collect();
    let mut rounds: Vec<Vec<Option<f64>>> = Vec::new();
    for _ in 0..turns.rounds {
        let mut order: Vec<usize> = (0..entrants.len()).collect();
        random.shuffle(&mut order);
        let mut round = vec![None; entrants.len()];
        for index in order {
            if failures[index].is_some() || stop.is_requested() {
                continue;
            }
            progress(&entrants[index].setup);
            let measured = measure(&entrants[index], stop);
            // The setup as it is may do otherwise than asked: then that is what remedies are compared with.
            match if index == 0 { measured } else { measured.and_then(as_asked) } {
                Ok(measurement) => round[index] = Some(measurement.throughput_inferences_per_s.value),
                Err(Error::Interrupted) => {}
                Err(error @ Error::Bug(_)) => return Err(error),
                Err(error) => failures[index] = Some(error),
            }
        }
        rounds.push(round);
    }
    Ok(Race { rounds, failures })
}

impl Race {
    /// For each but the first its throughput over the first one's.
    pub fn over_first(&self) -> Vec<Tried> {
        (1..self.failures.len()).map(|index| self.over(0, index)).collect()
    }

    /// The throughput of the entrant at `index` over that of the one at `base`.
    pub fn over(&self, base: usize, index: usize) -> Tried {
        if let Some(reason) = self.failure(index) {
            return Tried::Failed(reason.to_string());
        }
        if let Some(reason) = self.failure(base) {
            return Tried::Failed(format!("the setup as it was failed: {reason}"));
        }
        let pair = |round: &Vec<Option<f64>>| Some((round[index]?, round[base]?));
        let pairs: Vec<(f64, f64)> = self.rounds.iter().filter_map(pair).collect();
        match (pairs.len() >= LEAST_ROUNDS).then(|| paired_ratio(&pairs)).flatten() {
            Some(ratio) => Tried::Ratio(ratio),
            None => Tried::Failed("it was stopped before enough rounds were measured".to_owned()),
        }
    }

    /// Why an entrant took no further part.
    pub fn failure(&self, index: usize) -> Option<&Error> {
        self.failures[index].as_ref()
    }

    /// The race, unless the device was lost in it: then what failed afterwards says nothing of the entrants.
    ///
    /// # Errors
    /// The first entrant's that saw it.
    pub fn unless_device_lost(mut self) -> Result<Self> {
        let lost = self.failures.iter_mut().find(|it| it.as_ref().is_some_and(Error::is_device_lost));
        lost.and_then(Option::take).map_or(Ok(self), Err)
    }
}

/// The measurement, unless it ran otherwise than asked: then its setup was not tried.
pub(super) fn as_asked(measurement: Measurement) -> Result<Measurement> {
    measurement.check_as_asked().map(|()| measurement)
}

/// One turn by itself.
///
/// # Errors
/// As [`Experiment::run_whole`](crate::measure::Experiment::run_whole).
pub(super) fn measure(entrant: &Entrant<'_>, stop: &StopSignal) -> Result<Measurement> {
    let Setup { configuration, feeding, load, .. } = entrant.setup;
    let in_turn = LEAST_EXECUTIONS * configuration.batch_size as f64;
    let window = entrant.turn.max(Duration::from_secs_f64(in_turn / entrant.rate_per_stream.max(LEAST_RATE)));
    let pacing = Pacing { warm_up: (window / 5).max(LEAST_WARM_UP), window, max_windows: 1, longest: None };
    let measurement = entrant.workload.experiment(configuration, load, pacing).fed(feeding);
    measurement.observed(entrant.observing).run_whole(stop)
}
