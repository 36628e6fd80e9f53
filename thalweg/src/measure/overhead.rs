//! What the pool itself costs: a configuration in turns with the same executions in a bare loop.
//!
//! In: a workload and a configuration. Out: an [`Overhead`]. The loop ([`Engine::replay`](crate::backend::Engine::replay))
//! launches executions on one thread as soon as the ones before have ended; it has no requests, fills no inputs, compares
//! no outputs and takes no times, so it is the most that any pool can reach. A second loop takes the times of stages by
//! events and does nothing else: the ratio of the two is what that costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::host_use::HostUse;
use super::stats::{paired_ratio, paired_ratio_by_ranks};
use super::{Estimate, Load, Observing, Pacing, StopSignal, Workload};
use crate::backend::{Counters, DeviceSpec, Timing};
use crate::error::{Error, Result};
use crate::model::ModelIdentity;
use crate::pool::Configuration;
use crate::units::{Clock, Nanos};

/// Part of the time that a loop runs before it is counted.
const WARM_UP: f64 = 0.3;

/// A pool beside a bare loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overhead {
    /// Which network.
    pub model: ModelIdentity,
    /// Where.
    pub device: DeviceSpec,
    /// What both ran.
    pub configuration: Configuration,
    /// What was measured, turn by turn.
    pub turns: Vec<OverheadTurn>,
    /// Executions per second, the pool's over the loop's; `None` for a single turn.
    pub throughput: Option<Estimate>,
    /// CPU time of the whole process for each execution, the pool's over the loop's.
    pub host_cpu: Option<Estimate>,
    /// Executions per second of the loop while it takes the times of stages, over the loop's without; `None` for a single
    /// turn. Graphs of copies have their events inside, so there it is what reading them costs.
    #[serde(default)]
    pub stage_times: Option<Estimate>,
}

/// One turn of an [`Overhead`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverheadTurn {
    /// Through the pool, with all that a measurement does.
    pub pool: Pace,
    /// In the bare loop.
    pub bare: Pace,
    /// In the same loop while it takes the times of stages.
    pub timed: Pace,
    /// What the device said about itself while the pool ran.
    pub counters: Option<Counters>,
}

/// How fast executions followed each other, and what each took of the host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Executions per second.
    pub executions_per_s: f64,
    /// CPU time of the whole process for each execution.
    #[serde(rename = "host_cpu_ns")]
    pub host_cpu: Nanos,
    /// How often a thread left its core, for each execution.
    pub context_switches: Option<f64>,
}

/// Measures pool and loop so many times in turns, each for so long.
///
/// # Errors
/// [`Error::InvalidSetting`] where the backend has no bare loop; as [`Experiment::run_whole`](super::Experiment::run_whole).
pub fn overhead(
    workload: &Workload,
    (configuration, load): (Configuration, Load),
    time: Duration,
    turns: usize,
    stop: &StopSignal,
) -> Result<Overhead> {
    // The loop runs full executions, so the pool does too.
    let configuration = Configuration { smallest_batch: None, ..configuration };
    let turn = |_| {
        let bare = looped(workload, &configuration, time, Timing::Left)?;
        let timed = looped(workload, &configuration, time, Timing::Taken)?;
        let pacing = Pacing { warm_up: time.mul_f64(WARM_UP), window: time, max_windows: 1, longest: None };
        // Nobody reads counters beside the loops either.
        let experiment = workload.experiment(configuration, load, pacing).observed(Observing::Clock);
        let measured = experiment.run_whole(stop)?;
        let pool = Pace {
            executions_per_s: measured.executions_per_s,
            host_cpu: Nanos::from_seconds(measured.host_cpu_cores / measured.executions_per_s),
            context_switches: measured.context_switches_per_execution,
        };
        Ok(OverheadTurn { pool, bare, timed, counters: measured.counters })
    };
    let turns = (0..turns).map(turn).collect::<Result<Vec<_>>>()?;
    let ratio = |of: fn(&OverheadTurn) -> (f64, f64)| {
        let pairs: Vec<_> = turns.iter().map(of).collect();
        // A turn on a host that others use may say nothing; ranks need six.
        paired_ratio_by_ranks(&pairs).or_else(|| paired_ratio(&pairs))
    };
    Ok(Overhead {
        model: workload.model.clone(),
        device: workload.device.clone(),
        configuration,
        throughput: ratio(|turn| (turn.pool.executions_per_s, turn.bare.executions_per_s)),
        host_cpu: ratio(|turn| (turn.pool.host_cpu.as_seconds(), turn.bare.host_cpu.as_seconds())),
        stage_times: ratio(|turn| (turn.timed.executions_per_s, turn.bare.executions_per_s)),
        turns,
    })
}

fn looped(workload: &Workload, configuration: &Configuration, time: Duration, times: Timing) -> Result<Pace> {
    let spec = configuration.executor_spec(workload.engine.signature(), Clock::start());
    let mut replay = Arc::clone(&workload.engine).replay(&spec)?.ok_or_else(|| Error::InvalidSetting {
        name: "overhead",
        value: workload.device.backend.clone(),
        reason: "only tensorrt can launch executions with nothing around them".to_owned(),
    })?;
    replay(time.mul_f64(WARM_UP), times)?;
    let (start, before) = (Instant::now(), HostUse::now());
    let executions = replay(time, times)? as f64;
    let (seconds, used) = (start.elapsed().as_secs_f64(), HostUse::now().since(before));
    Ok(Pace {
        executions_per_s: executions / seconds,
        host_cpu: Nanos::from_seconds(used.cpu.as_seconds() / executions),
        context_switches: used.context_switches_per(executions),
    })
}
