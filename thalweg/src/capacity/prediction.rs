//! What a configuration will reach, from what others did.

use serde::{Deserialize, Serialize};

use super::events::settle;
use super::residual::{Place, Residual, Residuals};
use super::workload::WorkloadModel;
use super::{Bounds, Curve, CurvePoint, Observation, Resource, ServiceDemands};
use crate::measure::Estimate;
use crate::pool::Configuration;
use crate::units::{Bytes, Nanos};

/// Standard deviations from the middle to either end of a 95 % interval.
const TWO_SIDED: f64 = 1.96;

/// From this utilisation on a resource counts as full: the rest is lost where executions meet.
pub const FULL: f64 = 0.9;

/// Steps in which clock and activity are brought to agree. Activity depends on the clock only where the device is not
/// full, and then weakly.
const CLOCK_STEPS: usize = 4;

/// A change of the clock below this does not matter.
const CLOCK_TOLERANCE: f64 = 0.005;

/// What a configuration will probably do. It was not measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Inferences per second.
    #[serde(rename = "throughput_inferences_per_s")]
    pub throughput: Estimate,
    /// Mean time of a request while every slot is busy, by Little's law.
    #[serde(rename = "latency_ns")]
    pub latency: Nanos,
    /// The resource that fills up first as more work is in flight.
    pub first_saturating: Resource,
    /// How busy it will be, 0..1.
    pub utilisation: f64,
    /// What the throughput cannot exceed.
    pub bounds: Bounds,
    /// Resident memory of the process, where two configurations of different size were measured.
    pub memory: Option<Bytes>,
}

impl Prediction {
    /// Whether the resource is full: more streams will not help.
    pub fn is_saturated(&self) -> bool {
        self.utilisation >= FULL
    }
}

/// Learns a workload from measured configurations and predicts the others.
///
/// One stream at one batch size is enough for a first prediction with a wide interval. Other batch sizes, the
/// kinds of CUDA graph, and above all several streams make it narrower.
#[derive(Clone, Debug, Default)]
pub struct Predictor {
    observations: Vec<Repeated>,
    learnt: Option<Learnt>,
}

/// Observations of one configuration.
#[derive(Clone, Debug)]
struct Repeated {
    /// The latest, with the mean throughput of all and the interval that their number leaves.
    mean: Observation,
    count: f64,
}

impl Repeated {
    fn add(&mut self, observation: &Observation) {
        let (old, new) = (self.mean.throughput_inferences_per_s, observation.throughput_inferences_per_s);
        let count = self.count + 1.0;
        let value = (old.value * self.count + new.value) / count;
        // Relative widths, of independent errors.
        let width = |estimate: &Estimate| (estimate.upper - estimate.lower) / (2.0 * estimate.value);
        let half = value * (width(&old) * self.count).hypot(width(&new)) / count;
        let throughput_inferences_per_s = Estimate { value, lower: value - half, upper: value + half };
        *self = Self { mean: Observation { throughput_inferences_per_s, ..observation.clone() }, count };
    }
}

#[derive(Clone, Debug)]
struct Learnt {
    workload: WorkloadModel,
    residuals: Residuals,
    memory: Option<MemoryLine>,
}

impl Predictor {
    /// One that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an observation into account. One without times of its kernels says nothing and is left out.
    pub fn learn(&mut self, observation: Observation) {
        self.learn_all([observation]);
    }

    /// Takes several observations into account at once, which is faster than one by one.
    pub fn learn_all(&mut self, observations: impl IntoIterator<Item = Observation>) {
        for observation in observations.into_iter().filter(Observation::is_usable) {
            let known = |known: &&mut Repeated| known.mean.configuration == observation.configuration;
            match self.observations.iter_mut().find(known) {
                Some(known) => known.add(&observation),
                None => self.observations.push(Repeated { mean: observation, count: 1.0 }),
            }
        }
        self.learnt = Learnt::of(&self.observations);
    }

    /// How many different configurations it knows observations of.
    pub fn configuration_count(&self) -> usize {
        self.observations.len()
    }

    /// What this configuration will do; `None` before anything usable was learnt.
    pub fn predict(&self, configuration: &Configuration) -> Option<Prediction> {
        let learnt = self.learnt.as_ref()?;
        let modelled = Modelled::of(&learnt.workload, configuration);
        let throughput = learnt.corrected(&modelled);
        let demands = learnt.workload.demands(configuration, modelled.fill, modelled.clock);
        let (first_saturating, demand) = demands.largest()?;
        let in_flight = configuration.streams * configuration.depth * configuration.batch_size;
        Some(Prediction {
            throughput,
            latency: Nanos::from_seconds(in_flight as f64 / throughput.value),
            first_saturating,
            utilisation: (throughput.value * demand.seconds).min(1.0),
            bounds: Bounds::of(configuration, &learnt.workload.times(configuration), &demands),
            memory: learnt.memory.map(|line| line.at(configuration)),
        })
    }

    /// What an inference asks for in this configuration; `None` before anything usable was learnt.
    pub fn demands(&self, configuration: &Configuration) -> Option<ServiceDemands> {
        let workload = &self.learnt.as_ref()?.workload;
        let Modelled { fill, clock, .. } = Modelled::of(workload, configuration);
        Some(workload.demands(configuration, fill, clock))
    }

    /// Predictions for this configuration with other numbers of streams, in the given order.
    pub fn curve(&self, configuration: &Configuration, streams: &[usize]) -> Option<Curve> {
        let point = |&streams: &usize| {
            let submitters = configuration.submitters.min(streams);
            let prediction = self.predict(&Configuration { streams, submitters, ..*configuration })?;
            Some(CurvePoint { streams, prediction })
        };
        let points: Option<Vec<CurvePoint>> = streams.iter().map(point).collect();
        Some(Curve { batch_size: configuration.batch_size, points: points? })
    }
}

impl Learnt {
    fn of(observations: &[Repeated]) -> Option<Self> {
        let observations: Vec<&Observation> = observations.iter().map(|repeated| &repeated.mean).collect();
        let workload = WorkloadModel::of(&observations)?;
        let residual = |observation: &&Observation| {
            let Estimate { value, lower, upper } = observation.throughput_inferences_per_s;
            let noise = if lower > 0.0 { (upper / lower).ln() / (2.0 * TWO_SIDED) } else { 1.0 };
            let modelled = Modelled::of(&workload, &observation.configuration);
            Residual { place: modelled.place, value: (value / modelled.throughput).ln(), noise }
        };
        let residuals: Vec<Residual> = observations.iter().map(residual).collect();
        let residuals = Residuals::of(&residuals);
        Some(Self { workload, residuals, memory: MemoryLine::through(&observations) })
    }

    fn corrected(&self, modelled: &Modelled) -> Estimate {
        let (correction, deviation) = self.residuals.at(&modelled.place);
        let value = modelled.throughput * correction.exp();
        let factor = (TWO_SIDED * deviation).exp();
        Estimate { value, lower: value / factor, upper: value * factor }
    }
}

/// What the event model says, before any correction.
struct Modelled {
    /// Inferences per second.
    throughput: f64,
    fill: f64,
    clock: f64,
    place: Place,
}

impl Modelled {
    fn of(workload: &WorkloadModel, configuration: &Configuration) -> Self {
        let contention = workload.contention(configuration);
        let (likely, clock) = settle_with_clock(workload, configuration, &contention.likely);
        // One stream has no company, so nothing about it is uncertain.
        let uncertainty = if configuration.streams == 1 {
            0.0
        } else {
            let (pessimistic, _) = settle_with_clock(workload, configuration, &contention.pessimistic);
            (likely / pessimistic).ln().abs()
        };
        Self {
            throughput: likely * configuration.batch_size as f64,
            fill: contention.fill,
            clock,
            place: Place::new(*configuration, uncertainty),
        }
    }
}

/// Executions per second, and the clock, where the clock and the activity that it allows agree.
fn settle_with_clock(
    workload: &WorkloadModel,
    configuration: &Configuration,
    slow_downs: &[f64],
) -> (f64, f64) {
    let mut clock = 1.0;
    let mut executions = settle(configuration, &workload.times(configuration), slow_downs);
    for _ in 0..CLOCK_STEPS {
        // At a lower clock the same work takes longer, so the SMs are as busy as the executions per cycle say.
        let next = workload.clock(configuration, executions / clock);
        if (next - clock).abs() < CLOCK_TOLERANCE {
            break;
        }
        clock = next;
        executions = settle(configuration, &workload.times_at(configuration, clock), slow_downs);
    }
    (executions, clock)
}

/// Memory as a base and a part for each sample that slots have room for.
#[derive(Clone, Copy, Debug)]
struct MemoryLine {
    base: f64,
    per_sample: f64,
}

impl MemoryLine {
    fn samples(configuration: &Configuration) -> f64 {
        (configuration.streams * configuration.depth * configuration.batch_size) as f64
    }

    /// Least squares; `None` where all observations have room for the same number of samples.
    fn through(observations: &[&Observation]) -> Option<Self> {
        let point = |observation: &&Observation| {
            Some((Self::samples(&observation.configuration), observation.memory_bytes? as f64))
        };
        let points: Vec<(f64, f64)> = observations.iter().filter_map(point).collect();
        let count = points.len() as f64;
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
        let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        let shared: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        if points.is_empty() || spread == 0.0 {
            return None;
        }
        // Freed memory may stay resident, so a larger configuration can look smaller; it never is.
        let per_sample = (shared / spread).max(0.0);
        Some(Self { base: (mean_y - per_sample * mean_x).max(0.0), per_sample })
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float-to-integer cast saturates, and no machine has that much"
    )]
    fn at(self, configuration: &Configuration) -> Bytes {
        Bytes((self.base + self.per_sample * Self::samples(configuration)) as u64)
    }
}

#[cfg(test)]
mod tests;
