//! What may help: each remedy turns one knob and says what it should gain, before anybody tries.
//!
//! In: a measurement and how close it is to its limits. Out: [`Remedy`]s, the most promising first. Gains come from
//! [`capacity`](crate::capacity), which knows batches and graphs, or from the limits, and are held below what untouched
//! limits allow. Whether they come true is left to [`trial`](super::trial).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Verdict;
use super::engines::EngineVariant;
use super::limits::{Limit, Limits};
use super::outlook::{learnt, supplied};
use crate::backend::{CudaGraph, DeviceSpec, Precision};
use crate::capacity::{IDLE_GROWTH, Predictor};
use crate::measure::{Arrival, Estimate, Feeding, Load, Measurement, Record};
use crate::pool::Configuration;
use crate::units::Nanos;

/// Most threads that are worth filling slots: eight write as fast as a PCIe 5.0 link reads.
const MOST_FEEDING_THREADS: usize = 8;

/// Relative half-width of gains that only the limits tell.
const LIMITS_UNCERTAINTY: f64 = 0.15;

/// What a remedy changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Knob {
    /// Number of streams.
    Streams,
    /// Samples per execution.
    Batch,
    /// What is replayed as a CUDA graph.
    CudaGraph,
    /// Slots per stream.
    Depth,
    /// Threads that submit.
    Submitters,
    /// Threads that compute for each stream, where cores compute.
    Threads,
    /// Threads that fill slots.
    Feed,
    /// Requests that are outstanding.
    Load,
    /// Type in which inputs cross the bus: another engine.
    InputType,
    /// Precision of the layers: another engine.
    Precision,
}

/// How a workload is run: all that remedies change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The pool.
    pub configuration: Configuration,
    /// How slots are filled.
    pub feeding: Feeding,
    /// How it is driven.
    pub load: Load,
    /// What it runs, where that is not the engine that was given.
    #[serde(default, skip_serializing_if = "EngineVariant::is_given")]
    pub engine: EngineVariant,
}

/// `2 streams x batch 4, 1 thread per stream, inputs copied by 8 threads`
impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, inputs {}", self.configuration, self.feeding)?;
        if self.engine.is_given() { Ok(()) } else { write!(f, ", {}", self.engine) }
    }
}

/// What came of trying a remedy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tried {
    /// Its throughput over the baseline's, measured in turns.
    Ratio(Estimate),
    /// It could not be measured: the reason.
    Failed(String),
    /// There is no engine to try it with: the reason.
    Untried(String),
}

/// One change and what it should do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remedy {
    /// What it changes.
    pub knob: Knob,
    /// All of how it runs.
    pub setup: Setup,
    /// Throughput over the baseline's, as predicted.
    pub predicted: Estimate,
    /// What the prediction rests on, where that is not what was measured of this pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rests_on: Option<String>,
    /// How long the engine took to build that it was tried with; `None` where that was there.
    #[serde(rename = "build_ns", default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Nanos>,
    /// What came of it; `None` where it was not tried.
    pub tried: Option<Tried>,
}

impl Remedy {
    /// The measured ratio, where there is one.
    pub fn ratio(&self) -> Option<Estimate> {
        match self.tried {
            Some(Tried::Ratio(ratio)) => Some(ratio),
            _ => None,
        }
    }
}

/// `8 streams`, `batch 4`, `graph of compute`
impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { configuration, feeding, load, engine } = &self.setup;
        match (self.knob, load.arrival) {
            (Knob::Streams, _) => write!(f, "{} streams", configuration.streams),
            (Knob::Batch, _) => write!(f, "batch {}", configuration.batch_size),
            (Knob::CudaGraph, _) => write!(f, "CUDA graph of {}", configuration.cuda_graph),
            (Knob::Depth, _) => write!(f, "{} slots per stream", configuration.depth),
            (Knob::Submitters, _) => write!(f, "{} submitting threads", configuration.submitters),
            (Knob::Threads, _) => write!(f, "{} threads per stream", configuration.threads_per_stream),
            (Knob::Feed, _) => write!(f, "inputs {feeding}"),
            (Knob::Load, Arrival::Concurrency(count)) => write!(f, "{count} requests outstanding"),
            (Knob::Load, _) => write!(f, "more requests"),
            (Knob::InputType | Knob::Precision, _) => engine.fmt(f),
        }
    }
}

/// All changes that can be made to this measurement's setup, the most promising first. Where that has several streams, a
/// measurement of one `alone` makes predictions better.
pub fn remedies(
    measurement: &Measurement,
    alone: Option<&Measurement>,
    feeding: Feeding,
    limits: &Limits,
) -> Vec<Remedy> {
    let base = Setup::new(measurement.configuration, feeding, measurement.load);
    let predictor = learnt(measurement, alone);
    let is_host = measurement.device.is_host();
    let supplied = supplied(measurement, alone);
    let throughput = measurement.throughput_inferences_per_s.value;
    let fixed_fill = measurement.feed.map_or(0.0, |feed| feed.fixed_share());
    let growth = measurement.configuration.batch_size as f64 / mean_execution(measurement);
    let forecast = Forecast { predictor, supplied, throughput, fixed_fill, growth, limits, base, is_host };
    let mut remedies: Vec<Remedy> = changes(&base, &measurement.device)
        .into_iter()
        .filter_map(|(knob, setup)| {
            let predicted = forecast.gain(knob, &setup)?;
            Some(Remedy { knob, setup, predicted, rests_on: None, build: None, tried: None })
        })
        .collect();
    remedies.sort_by(|a, b| b.predicted.value.total_cmp(&a.predicted.value));
    remedies
}

/// Samples that an execution computed in the mean, whatever of them was asked for.
fn mean_execution(measurement: &Measurement) -> f64 {
    let executions: f64 = measurement.records.iter().map(Record::share_of_execution).sum();
    let computed = measurement.records.iter().map(|it| it.batch_size as f64 * it.share_of_execution());
    if executions > 0.0 {
        computed.sum::<f64>() / executions
    } else {
        measurement.configuration.batch_size as f64
    }
}

/// What would help a verdict and cannot be tried by turning a knob of the pool, for an engine of this precision; `None` where
/// nobody knows it.
pub fn advice(verdict: Verdict, device: &DeviceSpec, precision: Option<Precision>) -> Vec<String> {
    let lower = |limit: &str| match precision {
        None | Some(Precision::Fp32) => {
            Some(format!("a lower precision {limit}: build with --precision fp16 or int8"))
        }
        Some(Precision::Fp16 | Precision::Bf16) => {
            Some(format!("a lower precision {limit}: build with --precision int8"))
        }
        Some(Precision::Int8) => None,
    };
    let advice: &[&str] = match verdict {
        Verdict::ComputeBound if device.is_host() => {
            &["8-bit arithmetic computes more per second on these cores", "so do more cores"]
        }
        Verdict::ComputeBound => return lower("computes more per second").into_iter().collect(),
        Verdict::MemoryBound => return lower("moves fewer bytes").into_iter().collect(),
        Verdict::TransferBound => &[
            "smaller inputs are copied faster: 8-bit images have a quarter of the bytes of FP32, and the network can \
             convert them itself",
        ],
        Verdict::Throttled => &[
            "see what holds the clocks back (power limit, cooling), and compare no figures across clock states",
        ],
        Verdict::InputStarved => &["have more threads prepare inputs, and keep more requests outstanding"],
        Verdict::EnqueueBound | Verdict::Underfilled | Verdict::SynchronisationBound | Verdict::Healthy => {
            &[]
        }
    };
    advice.iter().map(|&text| text.to_owned()).collect()
}

/// One turn of every knob.
fn changes(base: &Setup, device: &DeviceSpec) -> Vec<(Knob, Setup)> {
    let configuration = base.configuration;
    let with = |configuration: Configuration| base.with(configuration);
    let twice = Configuration { streams: 2 * configuration.streams, ..configuration };
    let streams = if device.is_host() {
        // Streams share the cores.
        Configuration { threads_per_stream: configuration.threads_per_stream.div_ceil(2), ..twice }
    } else {
        twice
    };
    let mut changes = vec![
        (Knob::Streams, with(streams)),
        (Knob::Batch, with(Configuration { batch_size: 2 * configuration.batch_size, ..configuration })),
        (Knob::Batch, with(Configuration { batch_size: 4 * configuration.batch_size, ..configuration })),
        (Knob::Depth, with(Configuration { depth: 2 * configuration.depth, ..configuration })),
    ];
    if !device.is_host() && configuration.cuda_graph != CudaGraph::Compute {
        changes
            .push((Knob::CudaGraph, with(Configuration { cuda_graph: CudaGraph::Compute, ..configuration })));
    }
    let submitters = match configuration.submitters {
        1 => 2,
        several => several / 2,
    };
    if submitters <= configuration.streams {
        changes.push((Knob::Submitters, with(Configuration { submitters, ..configuration })));
    }
    let threads_per_stream = 2 * configuration.threads_per_stream;
    if device.is_host() && configuration.streams * threads_per_stream <= device.core_count {
        changes.push((Knob::Threads, with(Configuration { threads_per_stream, ..configuration })));
    }
    if let Feeding::Copy { threads } = base.feeding {
        let most = MOST_FEEDING_THREADS.min(device.core_count);
        let threads = (threads.max(1) * 4).min(most);
        if base.feeding != (Feeding::Copy { threads }) {
            changes.push((Knob::Feed, Setup { feeding: Feeding::Copy { threads }, ..*base }));
        }
    }
    if let Some(load) = base.fuller_load() {
        changes.push((Knob::Load, Setup { load, ..*base }));
    }
    changes
}

impl Setup {
    /// With the engine that was given.
    pub fn new(configuration: Configuration, feeding: Feeding, load: Load) -> Self {
        Self { configuration, feeding, load, engine: EngineVariant::default() }
    }

    /// The same with another configuration. A closed loop keeps as large a part of the slots supplied, and its whole batches
    /// stay whole; larger requests of an open loop would be more load. Smaller executions are prepared as for the old one,
    /// by the size of requests where nobody has said otherwise.
    pub fn with(&self, configuration: Configuration) -> Self {
        let old = &self.configuration;
        let by_requests = |it: Configuration| it.for_requests_of(self.load.samples_per_request);
        let configuration = if *old == by_requests(*old) && old.smallest_batch.is_some() {
            by_requests(configuration)
        } else {
            configuration
        };
        let is_whole = self.load.samples_per_request == old.batch_size;
        let samples_per_request = if is_whole && self.load.outstanding().is_some() {
            configuration.batch_size
        } else {
            self.load.samples_per_request
        };
        let room =
            |it: &Configuration, samples: usize| it.streams * it.depth * it.batch_size / samples.max(1);
        let arrival = match self.load.arrival {
            Arrival::Concurrency(count) if count >= room(old, self.load.samples_per_request) => {
                Arrival::Concurrency(room(&configuration, samples_per_request).max(configuration.streams))
            }
            other => other,
        };
        Self { configuration, load: Load { arrival, samples_per_request }, ..*self }
    }

    /// The same with the knob of a remedy for `base` turned as well; one that differs from `base` already stays.
    pub(super) fn with_knob_of(&self, base: &Self, remedy: &Remedy) -> Self {
        let new = remedy.setup.configuration;
        let (old, mut configuration) = (base.configuration, self.configuration);
        match remedy.knob {
            Knob::Feed => return Self { feeding: remedy.setup.feeding, ..*self },
            Knob::InputType => {
                let engine = EngineVariant { input_type: remedy.setup.engine.input_type, ..self.engine };
                return Self { engine, ..*self };
            }
            Knob::Precision => {
                let engine = EngineVariant { precision: remedy.setup.engine.precision, ..self.engine };
                return Self { engine, ..*self };
            }
            Knob::Load => return Self { load: self.fuller_load().unwrap_or(self.load), ..*self },
            Knob::Streams if configuration.streams == old.streams => {
                configuration.streams = new.streams;
                configuration.threads_per_stream = new.threads_per_stream;
            }
            Knob::Batch if configuration.batch_size == old.batch_size => {
                configuration.batch_size = new.batch_size;
            }
            Knob::CudaGraph => configuration.cuda_graph = new.cuda_graph,
            Knob::Depth => configuration.depth = new.depth,
            Knob::Submitters => configuration.submitters = new.submitters,
            Knob::Threads if configuration.streams == old.streams => {
                configuration.threads_per_stream = new.threads_per_stream;
            }
            Knob::Streams | Knob::Batch | Knob::Threads => {}
        }
        self.with(configuration)
    }

    /// A load that keeps every slot supplied; `None` where this one does.
    fn fuller_load(&self) -> Option<Load> {
        let Configuration { streams, depth, batch_size, .. } = self.configuration;
        let room = (streams * depth * batch_size / self.load.samples_per_request.max(1)).max(streams);
        let is_full = matches!(self.load.arrival, Arrival::Concurrency(count) if count >= room);
        (!is_full).then_some(Load { arrival: Arrival::Concurrency(room), ..self.load })
    }
}

/// With the uncertainty of gains that only the limits tell.
pub(super) fn around(value: f64) -> Estimate {
    let half = (value - 1.0).abs().max(LIMITS_UNCERTAINTY / 3.0) * LIMITS_UNCERTAINTY;
    Estimate { value, lower: value - half, upper: value + half }
}

/// What predicts gains.
struct Forecast<'a> {
    predictor: Predictor,
    /// One that has only seen a stream whose slots all had work, where those of the setup have not.
    supplied: Option<Predictor>,
    /// Inferences per second of the setup as it is.
    throughput: f64,
    /// Part of the time of filling a slot that does not grow with what is filled in, 0..1.
    fixed_fill: f64,
    /// How many times as large executions become when slots are full.
    growth: f64,
    limits: &'a Limits,
    base: Setup,
    /// Streams share cores there, and limits do not know how.
    is_host: bool,
}

impl Forecast<'_> {
    fn gain(&self, knob: Knob, setup: &Setup) -> Option<Estimate> {
        let gain = match knob {
            Knob::Load => self.of_load(setup),
            Knob::Feed => self.of_requests(setup),
            Knob::Depth => self.below_input(self.of_limits(Limit::Slots)),
            Knob::CudaGraph if self.base.configuration.cuda_graph == CudaGraph::Off => {
                self.below_input(self.limits.gain_of_graph())
            }
            Knob::Streams if !self.is_host => self.below_input(self.of_streams(setup)),
            Knob::Submitters => self.below_input(self.of_submitters()),
            Knob::Threads => self.below_input(self.of_threads()),
            Knob::Batch => self.of_batch(setup)?,
            // Other engines are no business of the pool's.
            Knob::InputType | Knob::Precision => return None,
            Knob::Streams | Knob::CudaGraph => self.below_input(self.of_capacity(&setup.configuration)?),
        };
        Some(gain)
    }

    fn of_limits(&self, limit: Limit) -> Estimate {
        around(self.limits.gain(limit))
    }

    /// What one stream alone and several beside each other show of how they slow each other down says more than how full
    /// the device is; nothing else knows the rest.
    fn of_streams(&self, setup: &Setup) -> Estimate {
        if setup.load.outstanding().is_some_and(|count| count <= self.base.configuration.streams) {
            // Each request that there will be has a stream already.
            return around(1.0);
        }
        let by_limits = self.of_limits(Limit::Streams);
        match self.of_capacity(&setup.configuration) {
            Some(by_capacity)
                if self.predictor.configuration_count() > 1 && by_capacity.value < by_limits.value =>
            {
                by_capacity
            }
            _ => by_limits,
        }
    }

    /// An execution of more samples takes no less time, so executions a second do not become more.
    fn of_batch(&self, setup: &Setup) -> Option<Estimate> {
        let factor = setup.configuration.batch_size as f64 / self.base.configuration.batch_size as f64;
        if self.limits.is_fed_too_slowly() {
            // Requests that stay as they are only become more for each execution.
            let is_larger = setup.load.samples_per_request > self.base.load.samples_per_request;
            let fixed = if is_larger { self.fixed_fill } else { 0.0 };
            return Some(around(self.limits.gain_of_larger_fills(factor, fixed)));
        }
        let Estimate { value, lower, upper } = self.below_input(self.of_capacity(&setup.configuration)?);
        Some(Estimate { value: value.min(factor), lower: lower.min(factor), upper: upper.min(factor) })
    }

    /// Where one stream has shown what slots do that all have work, capacity knows what all streams do; who fills the slots
    /// has to keep pace. Limits know of a few executions how they disturb each other, and promise less of many than comes;
    /// capacity of one stream does not see what a second one saves of the host's time. So the larger gain is promised.
    fn of_load(&self, setup: &Setup) -> Estimate {
        let by_limits = self.of_requests(setup);
        let most = self.limits.gain_of_feeding() * self.more_requests(setup);
        let by_capacity = self.supplied.as_ref().filter(|_| !self.is_host).and_then(|supplied| {
            let prediction = supplied.predict(&self.as_it_runs(&setup.configuration))?;
            let Estimate { value, lower, upper } = prediction.throughput;
            let gain = |throughput: f64| (throughput / self.throughput).min(most);
            Some(Estimate { value: gain(value), lower: gain(lower), upper: gain(upper) })
        });
        let gain = by_capacity.filter(|it| it.value > by_limits.value).unwrap_or(by_limits);
        // Neither knows that executions grow with what is asked for. How much longer they take is between nothing, where they
        // hardly use the device, and as much.
        let growth = self.growth.min(self.more_requests(setup)).max(1.0);
        let (value, lower) = (gain.value / growth.powf(IDLE_GROWTH), gain.lower / growth);
        Estimate { value, lower, ..gain }
    }

    fn of_requests(&self, setup: &Setup) -> Estimate {
        around(self.limits.gain_of_requests(self.more_requests(setup)))
    }

    /// How many times the requests, or the threads that send them, another setup has.
    fn more_requests(&self, setup: &Setup) -> f64 {
        match (setup.load.outstanding(), self.base.load.outstanding()) {
            (Some(new), Some(old)) if new != old => new as f64 / old as f64,
            _ => match (setup.feeding, self.base.feeding) {
                (Feeding::Copy { threads: new }, Feeding::Copy { threads: old }) if new > old => {
                    new as f64 / old.max(1) as f64
                }
                // An open loop that becomes a closed one: at least twice as many.
                _ => 2.0,
            },
        }
    }

    /// Two threads launch no faster than one as far as the driver's lock goes, and twice as fast where it does not.
    fn of_submitters(&self) -> Estimate {
        let upper = self.limits.gain(Limit::Submission);
        Estimate { value: 1.0_f64.midpoint(upper), lower: 1.0, upper }
    }

    /// Twice the threads run what can be shared among them twice as fast, as long as there are idle cores, and how much of
    /// it that is nobody knows before.
    fn of_threads(&self) -> Estimate {
        let upper = self.limits.pressure(Limit::Sms).max(0.5).recip();
        Estimate { value: 1.0_f64.midpoint(upper), lower: 1.0, upper }
    }

    /// By what capacity knows from what was measured.
    fn of_capacity(&self, configuration: &Configuration) -> Option<Estimate> {
        let base = self.predictor.predict(&self.as_it_runs(&self.base.configuration))?.throughput.value;
        let Estimate { value, lower, upper } =
            self.predictor.predict(&self.as_it_runs(configuration))?.throughput;
        Some(Estimate { value: value / base, lower: lower / base, upper: upper / base })
    }

    /// Executions that run one by one run as those of one stream with one slot.
    fn as_it_runs(&self, configuration: &Configuration) -> Configuration {
        if self.limits.runs_one_by_one() {
            Configuration { streams: 1, depth: 1, submitters: 1, ..*configuration }
        } else {
            *configuration
        }
    }

    /// No knob of the pool makes requests come faster.
    fn below_input(&self, gain: Estimate) -> Estimate {
        let pressure = self.limits.pressure(Limit::Input);
        if pressure <= 0.0 {
            return gain;
        }
        let most = pressure.recip().max(1.0);
        Estimate { value: gain.value.min(most), lower: gain.lower.min(most), upper: gain.upper.min(most) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn nobody_is_told_to_build_what_is_built_already() {
        let gpu = DeviceSpec {
            backend: "tensorrt".to_owned(),
            name: "a GPU".to_owned(),
            core_count: 16,
            memory_bytes: None,
            versions: BTreeMap::new(),
        };
        let told = |precision| advice(Verdict::MemoryBound, &gpu, precision).concat();
        assert!(told(None).ends_with("build with --precision fp16 or int8"));
        assert!(told(Some(Precision::Fp32)).ends_with("build with --precision fp16 or int8"));
        assert!(told(Some(Precision::Bf16)).ends_with("build with --precision int8"));
        assert_eq!(told(Some(Precision::Int8)), "");
    }
}
