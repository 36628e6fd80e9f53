//! Two pools that share a device: what each reaches alone, and what beside the other.
//!
//! In: two workloads on one backend, each with its configuration and load. Out: [`Neighbours`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::experiment::{Together, whole};
use super::stats::paired_ratio;
use super::{Estimate, Experiment, Load, Pacing, StopSignal, Workload};
use crate::backend::{Counters, DeviceSpec};
use crate::error::{Error, Result};
use crate::model::ModelIdentity;
use crate::pool::Configuration;
use crate::units::Nanos;

/// Part of the time that pools run before they are measured.
const WARM_UP: f64 = 0.3;

/// One of two pools.
#[derive(Clone, Copy)]
pub struct Neighbour<'a> {
    /// What runs, with which samples.
    pub workload: &'a Workload,
    /// The pool.
    pub configuration: Configuration,
    /// How it is driven.
    pub load: Load,
}

/// Two pools on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbours {
    /// The device that they share.
    pub device: DeviceSpec,
    /// What became of each.
    pub pools: [Interference; 2],
    /// What the device said about itself in each turn in which both ran.
    pub counters: Vec<Option<Counters>>,
}

/// What a pool loses to another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interference {
    /// Which network.
    pub model: ModelIdentity,
    /// What was run.
    pub configuration: Configuration,
    /// In each turn: without and with the other.
    pub turns: Vec<InterferenceTurn>,
    /// Throughput beside the other over throughput alone; `None` for a single turn.
    pub ratio: Option<Estimate>,
}

/// One turn of an [`Interference`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterferenceTurn {
    /// Inferences per second alone.
    pub alone_inferences_per_s: f64,
    /// Inferences per second beside the other.
    pub beside_inferences_per_s: f64,
    /// Median latency alone.
    #[serde(rename = "alone_p50_ns")]
    pub alone_p50: Nanos,
    /// Median latency beside the other.
    #[serde(rename = "beside_p50_ns")]
    pub beside_p50: Nanos,
}

/// Measures each alone and both at once, so many times in turns and each for so long. Every output is compared as in any
/// measurement.
///
/// # Errors
/// [`Error::InvalidSetting`] in virtual time, in which one pool runs at a time; as [`Experiment::run_whole`].
pub fn neighbours(
    pools: [Neighbour<'_>; 2],
    time: Duration,
    turns: usize,
    stop: &StopSignal,
) -> Result<Neighbours> {
    if pools.iter().any(|pool| pool.workload.engine.is_simulated()) {
        return Err(Error::InvalidSetting {
            name: "beside",
            value: pools[0].workload.device.backend.clone(),
            reason: "in virtual time one pool runs at a time".to_owned(),
        });
    }
    let experiments = pools.map(|pool| pool.experiment(time));
    let turns = (0..turns).map(|_| turn(&experiments, stop)).collect::<Result<Vec<_>>>()?;
    let interference = |index: usize| {
        let turns: Vec<InterferenceTurn> = turns.iter().map(|(both, _)| both[index]).collect();
        let pairs = turns.iter().map(|turn| (turn.beside_inferences_per_s, turn.alone_inferences_per_s));
        let Neighbour { workload, configuration, .. } = pools[index];
        let ratio = paired_ratio(&pairs.collect::<Vec<_>>());
        Interference { model: workload.model.clone(), configuration, ratio, turns }
    };
    Ok(Neighbours {
        device: pools[0].workload.device.clone(),
        pools: [0, 1].map(interference),
        counters: turns.into_iter().map(|(_, counters)| counters).collect(),
    })
}

impl<'a> Neighbour<'a> {
    fn experiment(self, time: Duration) -> Experiment<'a> {
        // One window each: two that agree sooner than the others would leave these alone.
        let pacing = Pacing { warm_up: time.mul_f64(WARM_UP), window: time, max_windows: 1, longest: None };
        self.workload.experiment(self.configuration, self.load, pacing)
    }
}

fn turn(
    experiments: &[Experiment<'_>; 2],
    stop: &StopSignal,
) -> Result<([InterferenceTurn; 2], Option<Counters>)> {
    let [first, second] = experiments;
    let alone = [first.run_whole(stop)?, second.run_whole(stop)?];
    // Both pools are there before either is measured.
    let (one, other) = (first.start()?, second.start()?);
    let together = Together::of(2);
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| second.drive(other, &together, stop));
        let one = first.drive(one, &together, stop);
        (one, other.join())
    });
    let other = other.map_err(|_| Error::Bug("a measuring thread panicked".to_owned()))?;
    let beside = [whole(one?, stop)?, whole(other?, stop)?];
    let counters = beside[0].counters.clone();
    let turn = |index: usize| InterferenceTurn {
        alone_inferences_per_s: alone[index].throughput_inferences_per_s.value,
        beside_inferences_per_s: beside[index].throughput_inferences_per_s.value,
        alone_p50: alone[index].latency.p50,
        beside_p50: beside[index].latency.p50,
    };
    Ok(([turn(0), turn(1)], counters))
}
