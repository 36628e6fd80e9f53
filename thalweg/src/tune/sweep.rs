//! How good a search's choice is: every candidate of its space measured, and the best of them beside the choice.
//!
//! In: the job of a search and what it chose. Out: a [`Sweep`]. It takes many times the time of the search, so it is for
//! whoever wants to see whether the search can be believed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::forecast::{Forecast, forecasts};
use super::room::lack_of_room;
use super::slice::{compliance, is_doubtful};
use super::{Compliance, Instruments, Limits, Slice, Trial, TuneJob, pace, saturating_load};
use crate::backend::Counters;
use crate::error::{Error, Result};
use crate::measure::stats::paired_ratio_by_ranks;
use crate::measure::{Estimate, StageSummary};
use crate::pool::Configuration;
use crate::random::Random;
use crate::units::Nanos;

/// How often choice and best are measured beside each other: so many that one or two disturbed turns do not decide.
const TURNS: usize = 7;

/// The part of the time in which somebody else may work on the core of a submitting thread that limits a candidate: its
/// throughput is a tenth lower then (docs/benchmarks.md, "Two speeds of the enqueue call").
const ALLOWED_COMPANY: f64 = 0.25;

/// How often a candidate is measured again that had more of it. Candidates with and without company are not comparable;
/// who is there changes from second to second.
const TRIES_FOR_A_CORE: usize = 5;

/// What measuring everything showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// How long each candidate was measured, warm-up included, unless its network is slow.
    #[serde(rename = "slice_ns")]
    pub slice: Nanos,
    /// How long all candidates took, their pools' setting up included.
    #[serde(rename = "time_ns")]
    pub time: Nanos,
    /// How long it took besides to measure candidates again whose submitting thread had company; in files of earlier versions
    /// it is part of `time`.
    #[serde(rename = "again_ns", default)]
    pub again: Nanos,
    /// Every candidate that has room, in the order of measuring.
    pub points: Vec<SweepPoint>,
    /// Candidates that were not measured since they have none; files of earlier versions have them among the points.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Index of the fastest that keeps the limits.
    pub best: Option<usize>,
    /// What the search chose.
    pub choice: Configuration,
    /// Both once more, in turns: first the choice, then the best.
    pub turns: Vec<[SweepPoint; 2]>,
    /// Throughput of the choice over that of the best, in these turns, by ranks.
    pub ratio: Option<Estimate>,
    /// What one stream and a probe would have said of more streams.
    pub forecasts: Vec<Forecast>,
}

/// One slice of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// What was measured.
    pub configuration: Configuration,
    /// Inferences per second.
    pub throughput_inferences_per_s: Estimate,
    /// Median times of the stages.
    pub stages: StageSummary,
    /// What the device said about itself.
    pub counters: Option<Counters>,
    /// Why it could not be measured; then the other fields mean nothing.
    pub failure: Option<String>,
    /// Whether it may run under the limits of the search.
    pub compliance: Compliance,
}

/// A candidate that needs more of the device's memory than there is, or than the limit allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The candidate.
    pub configuration: Configuration,
    /// What it needs, and what is there.
    pub reason: String,
}

impl SweepPoint {
    fn of(configuration: Configuration, slice: Slice, limits: &Limits) -> Self {
        let seen = [slice];
        let verdict = compliance(limits, seen.iter());
        let is_in_doubt = verdict == Compliance::Unproven && is_doubtful(limits, seen.iter());
        let [Slice { throughput_inferences_per_s, stages, counters, failure, .. }] = seen;
        let compliance = if is_in_doubt { Compliance::Breaks } else { verdict };
        Self { configuration, throughput_inferences_per_s, stages, counters, failure, compliance }
    }

    fn throughput(&self) -> f64 {
        self.throughput_inferences_per_s.value
    }

    /// What held the device back meanwhile though the work did not ask for it, also when it was measured again.
    pub fn disturbance(&self) -> Option<&str> {
        self.counters.as_ref().and_then(Counters::disturbance)
    }

    /// Whether somebody else worked on the core of a submitting thread that limits it, each time that it was measured.
    pub fn is_crowded(&self) -> bool {
        let Configuration { batch_size, submitters, .. } = self.configuration;
        let executions_per_s = self.throughput() / batch_size as f64;
        self.stages.limiting_company(executions_per_s, submitters) > Some(ALLOWED_COMPANY)
    }
}

/// Measures every candidate of the job's space for so long, in a shuffled order, and then the fastest of them and
/// `choice` in turns.
///
/// # Errors
/// As [`tune_with`](super::tune_with); [`Error::Interrupted`] where the user stopped it.
pub fn sweep_with(
    job: &TuneJob,
    choice: Configuration,
    slice: Duration,
    instruments: &mut Instruments<'_>,
) -> Result<Sweep> {
    let mut order = job.candidates()?;
    let mut random = Random::new(job.policy.seed);
    random.shuffle(&mut order);
    let start = (instruments.elapsed)();
    let mut sweeper = Sweeper { job, slice, instruments, expected: None, again: Duration::ZERO };
    let (mut points, mut left_out) = (Vec::new(), Vec::new());
    for configuration in order {
        match lack_of_room(sweeper.instruments, &configuration, &job.limits)? {
            Some(reason) => left_out.push(LeftOut { configuration, reason }),
            None => points.push(sweeper.measure_in_peace(configuration)?),
        }
    }
    let again = sweeper.again;
    let time = ((sweeper.instruments.elapsed)() - start).saturating_sub(again);
    let best = fastest(&points);
    let turns = match best {
        Some(best) => sweeper.turns(choice, points[best].configuration, &mut random)?,
        None => Vec::new(),
    };
    let pairs = turns.iter().filter(|turn| turn.iter().all(|point| point.failure.is_none()));
    let pairs: Vec<(f64, f64)> = pairs.map(|[own, other]| (own.throughput(), other.throughput())).collect();
    Ok(Sweep {
        slice: Nanos::from_duration(slice),
        time: Nanos::from_duration(time),
        again: Nanos::from_duration(again),
        best,
        choice,
        ratio: paired_ratio_by_ranks(&pairs),
        forecasts: forecasts(&points, &job.device),
        turns,
        points,
        left_out,
    })
}

struct Sweeper<'a, 'i> {
    job: &'a TuneJob,
    slice: Duration,
    instruments: &'a mut Instruments<'i>,
    /// Inferences per second of the last candidate that ran.
    expected: Option<f64>,
    /// What measuring again took where there had been company.
    again: Duration,
}

impl Sweeper<'_, '_> {
    /// Measures, and again as long as the submitting thread has company that matters, for some times.
    fn measure_in_peace(&mut self, configuration: Configuration) -> Result<SweepPoint> {
        let mut point = self.measure(configuration)?;
        let start = (self.instruments.elapsed)();
        let is_limited = point.is_crowded();
        for _ in 0..if is_limited { TRIES_FOR_A_CORE } else { 0 } {
            if point.stages.shared_core <= Some(ALLOWED_COMPANY) {
                break;
            }
            let again = self.measure(configuration)?;
            let is_sound = again.failure.is_none() && again.disturbance().is_none();
            let is_told = again.stages.shared_core.is_some();
            // Where fewer executions ran, calls were less of the time: they are compared by their company alone.
            if is_sound && is_told && again.stages.shared_core < point.stages.shared_core {
                point = again;
            }
        }
        self.again += (self.instruments.elapsed)() - start;
        Ok(point)
    }

    fn measure(&mut self, configuration: Configuration) -> Result<SweepPoint> {
        if (self.instruments.is_stopped)() {
            return Err(Error::Interrupted);
        }
        let trial = self.trial(configuration);
        let mut slice = self.measure_once(&trial)?;
        if slice.disturbance().is_some() {
            // As the search does; what is disturbed again is marked by its counters.
            slice = self.measure_once(&trial)?;
        }
        if slice.failure.is_none() {
            self.expected = Some(slice.throughput_inferences_per_s.value);
        }
        Ok(SweepPoint::of(configuration, slice, &self.job.limits))
    }

    fn measure_once(&mut self, trial: &Trial) -> Result<Slice> {
        match (self.instruments.measure)(trial) {
            Ok(measurement) => Ok(Slice::of(&measurement, &self.job.limits)),
            Err(error @ (Error::Interrupted | Error::Bug(_))) => Err(error),
            Err(error) if error.is_device_lost() => Err(error),
            Err(error) => Ok(Slice::failed(&error)),
        }
    }

    fn trial(&self, configuration: Configuration) -> Trial {
        let load = saturating_load(&configuration, self.job.samples_per_request);
        let expected = self.expected.or(self.job.sample_time.map(|time| 1.0 / time.as_seconds()));
        let length = pace::stretched(self.slice, &configuration, expected, Duration::MAX);
        pace::trial(configuration, load, length)
    }

    fn turns(
        &mut self,
        choice: Configuration,
        best: Configuration,
        random: &mut Random,
    ) -> Result<Vec<[SweepPoint; 2]>> {
        let turn = |_| {
            // Who comes first is a matter of chance, so that it is no advantage.
            if random.below(2) == 0 {
                let own = self.measure(choice)?;
                Ok([own, self.measure(best)?])
            } else {
                let other = self.measure(best)?;
                Ok([self.measure(choice)?, other])
            }
        };
        (0..TURNS).map(turn).collect()
    }
}

fn fastest(points: &[SweepPoint]) -> Option<usize> {
    let may_run = |point: &SweepPoint| point.failure.is_none() && point.compliance != Compliance::Breaks;
    let possible = (0..points.len()).filter(|index| may_run(&points[*index]));
    possible.max_by(|a, b| points[*a].throughput().total_cmp(&points[*b].throughput()))
}
