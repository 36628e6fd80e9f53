//! What no configuration can exceed, whatever happens in between.
//!
//! Asymptotic bounds of a closed system (Lazowska, Zahorjan, Graham and Sevcik, "Quantitative System Performance",
//! 1984, chapter 5): the busiest resource can serve no more than one inference in each of its demands, and so
//! many executions under way can finish no faster than each takes alone.

use serde::{Deserialize, Serialize};

use super::ServiceDemands;
use super::demand::Resource;
use super::events::ExecutionTimes;
use crate::backend::CudaGraph;
use crate::pool::Configuration;

/// Three upper bounds of the throughput, in inferences per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// One over the largest demand, where it is known.
    pub resources: Option<f64>,
    /// The resource of that demand.
    pub busiest: Option<Resource>,
    /// Each stream runs the kernels of one execution after the other.
    pub streams: f64,
    /// Each slot goes through all stages, one after the other.
    pub slots: f64,
}

impl Bounds {
    /// Of a configuration whose stages take these times alone. With several threads that submit, the demand of
    /// the submitting thread is the caller's to share out among them.
    pub(super) fn of(
        configuration: &Configuration,
        times: &ExecutionTimes,
        demands: &ServiceDemands,
    ) -> Self {
        let Configuration { streams, depth, batch_size, .. } = *configuration;
        let batch = batch_size as f64;
        let largest = demands.largest();
        let ExecutionTimes { enqueue, h2d, compute, d2h } = *times;
        let in_stream = match configuration.cuda_graph {
            CudaGraph::Off => compute.max(enqueue - h2d),
            CudaGraph::Compute => compute,
            CudaGraph::Copies => h2d + compute + d2h,
        };
        let alone = match configuration.cuda_graph {
            // Kernels run while others are being launched.
            CudaGraph::Off => enqueue.max(h2d + compute) + d2h,
            CudaGraph::Compute | CudaGraph::Copies => enqueue + h2d + compute + d2h,
        };
        Self {
            resources: largest.map(|(_, demand)| demand.seconds.recip()),
            busiest: largest.map(|(resource, _)| resource),
            streams: streams as f64 * batch / in_stream,
            slots: (streams * depth) as f64 * batch / alone,
        }
    }

    /// The lowest of them.
    pub fn lowest(&self) -> f64 {
        self.resources.unwrap_or(f64::INFINITY).min(self.streams).min(self.slots)
    }
}

#[cfg(test)]
mod tests {
    use super::super::demand::measured;
    use super::*;

    #[test]
    fn each_bound_is_what_its_formula_says() {
        let configuration = Configuration {
            streams: 2,
            batch_size: 4,
            depth: 3,
            cuda_graph: CudaGraph::Compute,
            ..Configuration::default()
        };
        let times = ExecutionTimes { enqueue: 0.1, h2d: 0.2, compute: 0.5, d2h: 0.2 };
        let demands = ServiceDemands {
            h2d_engine: Some(measured(0.05, 0.0)),
            sms: Some(measured(0.1, 0.0)),
            ..ServiceDemands::default()
        };
        let bounds = Bounds::of(&configuration, &times, &demands);
        assert_eq!((bounds.resources, bounds.busiest), (Some(10.0), Some(Resource::Sms)));
        assert!((bounds.streams - 16.0).abs() < 1e-12 && (bounds.slots - 24.0).abs() < 1e-12, "{bounds:?}");
        assert_eq!(bounds.lowest(), 10.0);
    }
}
