//! Observations made by hand, for the tests of this module.

use super::Observation;
use crate::backend::{Counters, CudaGraph};
use crate::measure::{Estimate, StageSummary};
use crate::pool::Configuration;
use crate::units::Nanos;

/// A throughput that is known within one per cent.
pub fn known(value: f64) -> Estimate {
    Estimate { value, lower: 0.995 * value, upper: 1.005 * value }
}

/// One stream with a graph whose kernels never pause, at this batch and inferences per second. Copies and
/// submitting take next to nothing.
pub fn alone(batch_size: usize, throughput: f64) -> Observation {
    let copy = Nanos(1_000);
    let compute = Nanos::from_seconds(batch_size as f64 / throughput);
    Observation {
        configuration: Configuration {
            batch_size,
            cuda_graph: CudaGraph::Compute,
            ..Configuration::default()
        },
        throughput_inferences_per_s: known(throughput),
        stages: StageSummary { enqueue: Nanos(1_000), h2d: copy, compute, d2h: copy, ..Default::default() },
        counters: None,
        memory_bytes: None,
        power_limit_watts: None,
    }
}

/// The same with more streams, all of which compute all the time.
pub fn beside(alone: &Observation, streams: usize, throughput: f64) -> Observation {
    let configuration = Configuration { streams, ..alone.configuration };
    let compute = Nanos::from_seconds((streams * configuration.batch_size) as f64 / throughput);
    let stages = StageSummary { compute, ..alone.stages };
    Observation { configuration, throughput_inferences_per_s: known(throughput), stages, ..alone.clone() }
}

/// The same with counters.
pub fn with_counters(mut observation: Observation, counters: Counters) -> Observation {
    observation.counters = Some(counters);
    observation
}
