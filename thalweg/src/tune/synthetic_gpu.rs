//! Made-up GPUs with a known truth, for tests of the guided search. Their formulas are not those of `capacity`:
//! streams share the device as customers of one server do (exact mean value analysis), and bottlenecks blend.

use super::Slice;
use super::synthetic::{normal, slice};
use crate::backend::{Counters, CudaGraph};
use crate::measure::{Estimate, StageSummary};
use crate::pool::Configuration;
use crate::random::Random;
use crate::units::Nanos;

/// Standard deviation of the noise of one slice.
const NOISE: f64 = 0.01;

/// A network on a GPU. Times in seconds.
#[derive(Debug)]
pub struct Gpu {
    launch: f64,
    graph_launch: f64,
    lock_share: f64,
    copy_per_sample: f64,
    latency: f64,
    work_per_sample: f64,
    dram_share: f64,
}

impl Gpu {
    /// A draw: networks of 50 us to 5 ms, of which a large batch fills anything from a part to all.
    pub fn draw(random: &mut Random) -> Self {
        let mut between = |low: f64, high: f64| low * (high / low).powf(random.unit());
        let latency = between(50e-6, 5e-3);
        Self {
            launch: latency * between(0.2, 3.0),
            graph_launch: between(5e-6, 30e-6),
            lock_share: between(0.3, 2.0),
            copy_per_sample: between(0.2e-6, 20e-6),
            latency,
            work_per_sample: latency * between(0.01, 1.0),
            dram_share: between(0.1, 1.0),
        }
    }

    /// Seconds that so many executions at once take, by mean value analysis of one server and a delay.
    fn together(&self, batch: f64, streams: usize) -> f64 {
        let served = self.work_per_sample * batch;
        let (mut queued, mut time) = (0.0, 0.0);
        for customers in 1..=streams {
            let served = served * (1.0 + queued);
            time = self.latency + served;
            queued = customers as f64 * served / time;
        }
        time
    }

    /// Inferences per second, without noise.
    pub fn throughput(&self, configuration: &Configuration) -> f64 {
        let batch = configuration.batch_size as f64;
        let streams = configuration.streams as f64;
        let (enqueue, copy) = (self.enqueue(configuration), self.copy_per_sample * batch);
        let together = self.together(batch, configuration.streams);
        let in_order = match configuration.cuda_graph {
            CudaGraph::Copies => together + copy,
            CudaGraph::Compute => together,
            CudaGraph::Off => together.max(enqueue),
        };
        let slots = streams * configuration.depth as f64;
        let limits = [
            streams / in_order,
            copy.recip(),
            configuration.submitters as f64 / enqueue,
            slots / (enqueue + copy + together),
        ];
        limits.iter().map(|limit| limit.powi(-12)).sum::<f64>().powf(-1.0 / 12.0) * batch
    }

    fn enqueue(&self, configuration: &Configuration) -> f64 {
        let alone = if configuration.cuda_graph == CudaGraph::Off { self.launch } else { self.graph_launch };
        alone * (1.0 + self.lock_share * (configuration.submitters - 1) as f64)
    }

    /// What one slice of it shows.
    pub fn slice(&self, configuration: &Configuration, random: &mut Random) -> Slice {
        let batch = configuration.batch_size as f64;
        let throughput = self.throughput(configuration) * (NOISE * normal(random)).exp();
        let executions = throughput / batch;
        let seconds = |seconds: f64| Nanos::from_seconds(seconds);
        let enqueue = self.enqueue(configuration);
        let mut compute = self.together(batch, configuration.streams);
        if configuration.cuda_graph == CudaGraph::Off {
            compute = compute.max(enqueue);
        }
        let busy = executions * self.work_per_sample * batch;
        let outstanding = (configuration.streams * configuration.depth) as f64 / executions;
        Slice {
            throughput_inferences_per_s: Estimate {
                value: throughput,
                lower: throughput * (1.0 - 2.0 * NOISE),
                upper: throughput * (1.0 + 2.0 * NOISE),
            },
            latencies_ns: vec![(seconds(outstanding).0, 400)],
            stages: StageSummary {
                enqueue: seconds(enqueue),
                h2d: seconds(self.copy_per_sample * batch),
                compute: seconds(compute),
                d2h: Nanos(500),
                ..Default::default()
            },
            counters: Some(Counters {
                sm_activity: Some((1.5 * busy).min(1.0)),
                dram_utilisation: Some((0.84 * self.dram_share * busy).min(0.84)),
                ..Counters::default()
            }),
            ..slice(throughput)
        }
    }
}

/// Streams, batches, graphs, depths and submitters as a search over a GPU has them: 384 candidates.
pub fn space() -> Vec<Configuration> {
    let mut candidates = Vec::new();
    for streams in [1, 2, 4, 8] {
        for batch_size in [1, 2, 4, 8, 16, 32, 64, 128] {
            for cuda_graph in CudaGraph::ALL {
                for depth in [1, 2] {
                    for submitters in [1, 2] {
                        let candidate = Configuration {
                            streams,
                            batch_size,
                            cuda_graph,
                            depth,
                            submitters,
                            ..Configuration::default()
                        };
                        candidates.extend((submitters <= streams).then_some(candidate));
                    }
                }
            }
        }
    }
    candidates
}
