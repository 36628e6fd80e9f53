//! Devices and networks drawn at random, all their configurations measured, and what the tuner and the
//! predictor make of them.

#![allow(dead_code, reason = "the benchmark and the test use a part of it each")]

use std::time::Duration;

use crate::devices::{CLOCK_SETTLES, Least, drawn};

use thalweg::backend::simulated::{Parameters, SimulatedBackend};
use thalweg::backend::{Backend as _, CudaGraph};
use thalweg::capacity::{Observation, Predictor};
use thalweg::engine::MaxBatch;
use thalweg::files::OutputFolder;
use thalweg::measure::{Measurement, Pacing, StopSignal, Workload, WorkloadSpec};
use thalweg::model::Model;
use thalweg::model::zoo::Network;
use thalweg::pool::Configuration;
use thalweg::random::Random;
use thalweg::tune::{self, Earlier, Limits, Policy, Space, TuneJob, TuneOutcome, saturating_load};

pub const STREAMS: [usize; 4] = [1, 2, 4, 8];
pub const BATCHES: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// What an exhaustive search would give each candidate at least.
pub const EXHAUSTIVE_SLICE: Duration = Duration::from_millis(500);

/// Executions of each stream, and in all, that it would see at least.
const EXHAUSTIVE_EXECUTIONS: (usize, usize) = (2, 10);

/// Part of the exhaustive search's device time that the tuner may spend.
pub const ALLOWED_SHARE: f64 = 0.1;

/// Part of that which it is told: its last slice may end a little late.
pub const TOLD_SHARE: f64 = 0.97;

/// What an exhaustive search measures every candidate with here, and executions of each stream in it at least:
/// noise is below 3 % then, mostly.
pub const FIRST_LOOK: (Duration, usize) = (Duration::from_millis(40), 40);

/// What contenders for the optimum are compared with: noise is 0.5 % then.
const SECOND_LOOK: (Duration, usize) = (Duration::from_millis(400), 100);

/// What the optimum and the tuner's pick are judged by: noise is 0.3 % then.
pub const LONG_LOOK: (Duration, usize) = (Duration::from_secs(1), 200);

/// Part of the highest throughput at the first look that a contender for the optimum shows there: four times the
/// noise below.
const CONTENDS: f64 = 0.92;

/// Contenders that get a second look at most.
const MOST_CONTENDERS: usize = 12;

/// A look that lacks fewer executions than this factor has seen enough of them.
const ENOUGH: f64 = 1.5;

/// A device and a network.
pub struct Draw {
    pub seed: u64,
    pub network: Network,
    pub parameters: Parameters,
    pub workload: Workload,
}

impl Draw {
    /// Any network on any device.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x7468_616c_7765_6721);
        let network = Network::ALL[random.below(Network::ALL.len())];
        let parameters = drawn(&mut random, &Least { copy_efficiency: 0.2, sustained_clock: 0.6 });
        Self { seed, network, parameters, workload: workload(network, parameters, seed) }
    }

    /// Every candidate.
    pub fn space(&self) -> Space {
        let signature = self.workload.engine.signature();
        Space {
            streams: STREAMS.to_vec(),
            batch_sizes: BATCHES.to_vec(),
            submitters: vec![1, 2, 4],
            ..Space::for_device(&self.workload.device, signature)
        }
    }

    pub fn candidates(&self) -> Vec<Configuration> {
        let signature = self.workload.engine.signature();
        self.space().candidates(signature, &self.workload.device).expect("candidates")
    }

    /// Inferences per second of a configuration; 0 where the device lacks the memory.
    pub fn throughput(&self, configuration: &Configuration, look: (Duration, usize)) -> f64 {
        self.measure(configuration, look).map_or(0.0, |it| it.throughput_inferences_per_s.value)
    }

    /// Each measurement has noise of its own. Where copies rather than the kernels take the time, the time of a sample
    /// says too little of how long it has to last: then it is repeated as long as it took to see too few executions.
    pub fn measure(&self, configuration: &Configuration, look: (Duration, usize)) -> Option<Measurement> {
        let (slice, executions) = look;
        let wanted = (executions * configuration.streams) as f64;
        let sample_s = self.workload.reference.sample_time().as_seconds();
        let least = Duration::from_secs_f64(sample_s * configuration.batch_size as f64 * wanted);
        let window = slice.max(least);
        let measured = self.measure_for(configuration, window)?;
        let lacking = wanted / (measured.executions_per_s * window.as_secs_f64());
        if lacking <= ENOUGH {
            Some(measured)
        } else {
            self.measure_for(configuration, window.mul_f64(lacking))
        }
    }

    fn measure_for(&self, configuration: &Configuration, window: Duration) -> Option<Measurement> {
        // By then the clock has settled.
        let pacing =
            Pacing { warm_up: (window / 5).max(CLOCK_SETTLES), window, max_windows: 1, longest: None };
        let load = saturating_load(configuration, None);
        self.workload.experiment(*configuration, load, pacing).run(&StopSignal::default()).ok()
    }

    /// Lets the tuner search.
    pub fn tune(&self, budget: Duration) -> TuneOutcome {
        let folder = std::env::temp_dir().join(format!("thalweg-draw-{}-{}", std::process::id(), self.seed));
        let job = TuneJob {
            model: self.workload.model.clone(),
            engine: None,
            device: self.workload.device.clone(),
            signature: self.workload.engine.signature().clone(),
            space: self.space(),
            limits: Limits::default(),
            samples_per_request: None,
            feeding: self.workload.feeding,
            budget,
            sample_time: Some(self.workload.reference.sample_time()),
            policy: Policy { seed: self.seed, ..Policy::default() },
            folder: OutputFolder::claim(&folder).expect("a folder"),
            earlier: Earlier::Refuse,
        };
        let outcome = tune::tune(&job, &self.workload, &StopSignal::default(), &mut |_| {});
        drop(job);
        std::fs::remove_dir_all(&folder).expect("the folder was ours");
        outcome.expect("something was measured")
    }
}

fn workload(network: Network, parameters: Parameters, seed: u64) -> Workload {
    let model = Model::from_proto(network.generate(0), "network.onnx").expect("a model");
    let backend = SimulatedBackend::new(parameters, seed);
    let largest = BATCHES[BATCHES.len() - 1];
    let spec = WorkloadSpec { max_batch: MaxBatch::Exactly(largest), ..WorkloadSpec::default() };
    assert!(backend.device().backend.starts_with("simulated:"));
    Workload::prepare(&backend, &model, &spec).expect("a workload")
}

/// How a tuner did on one draw.
pub struct Score {
    /// Throughput of its pick over the true optimum.
    pub reached: f64,
    /// Device time that it spent over the exhaustive search's.
    pub spent: f64,
    pub candidate_count: usize,
    pub pick: String,
    pub optimum: String,
}

/// What an exhaustive search would spend on a candidate of this throughput; one that cannot run costs nothing.
pub fn slice(candidate: &Configuration, throughput: f64) -> Duration {
    if throughput == 0.0 {
        return Duration::ZERO;
    }
    let (per_stream, in_all) = EXHAUSTIVE_EXECUTIONS;
    let executions = in_all.max(per_stream * candidate.streams) as f64;
    EXHAUSTIVE_SLICE.max(Duration::from_secs_f64(executions * candidate.batch_size as f64 / throughput))
}

/// Lets the tuner search, finds the optimum, and compares.
pub fn score(draw: &Draw) -> Score {
    let candidates = draw.candidates();
    let seen: Vec<f64> = candidates.iter().map(|it| draw.throughput(it, FIRST_LOOK)).collect();
    let exhaustive: Duration = candidates.iter().zip(&seen).map(|(it, seen)| slice(it, *seen)).sum();
    let outcome = draw.tune(exhaustive.mul_f64(ALLOWED_SHARE * TOLD_SHARE));
    let pick = outcome.candidates[outcome.winner.expect("a winner")].configuration;
    let optimum = optimum(draw, &candidates, &seen);
    // The largest of many noisy values is too large, so the optimum is measured afresh too.
    let throughput = |configuration| draw.throughput(configuration, LONG_LOOK);
    Score {
        reached: if pick == optimum { 1.0 } else { throughput(&pick) / throughput(&optimum) },
        spent: outcome.search_time.as_seconds() / exhaustive.as_secs_f64(),
        candidate_count: candidates.len(),
        pick: pick.to_string(),
        optimum: optimum.to_string(),
    }
}

/// The fastest of the candidates: of those that look good at first, the best at the second look.
pub fn optimum(draw: &Draw, candidates: &[Configuration], seen: &[f64]) -> Configuration {
    let best = seen.iter().copied().fold(0.0, f64::max);
    let mut contenders: Vec<usize> = (0..seen.len()).filter(|it| seen[*it] >= CONTENDS * best).collect();
    contenders.sort_by(|a, b| seen[*b].total_cmp(&seen[*a]));
    contenders.truncate(MOST_CONTENDERS);
    let looked = contenders.iter().map(|it| (draw.throughput(&candidates[*it], SECOND_LOOK), *it));
    let (_, optimum) = looked.max_by(|a, b| a.0.total_cmp(&b.0)).expect("candidates");
    candidates[optimum]
}

/// Predicted and true gain of the best number of streams over one stream.
pub struct Gain {
    pub predicted: f64,
    /// With a probe of two streams on top of the one.
    pub probed: f64,
    pub truth: f64,
}

impl Gain {
    /// Whether the error is at most 0.05 or 15 %, whichever is more.
    pub fn is_met_by(&self, predicted: f64) -> bool {
        (predicted - self.truth).abs() <= (0.15 * self.truth).max(0.05)
    }
}

/// Predicts the gain of a configuration of this draw, which its seed picks, and measures it.
pub fn gain(draw: &Draw) -> Gain {
    let mut random = Random::new(draw.seed);
    let base = Configuration {
        batch_size: BATCHES[random.below(BATCHES.len())],
        cuda_graph: CudaGraph::ALL[random.below(CudaGraph::ALL.len())],
        ..Configuration::default()
    };
    let at = |streams| Configuration { streams, ..base };
    let probe = (EXHAUSTIVE_SLICE, FIRST_LOOK.1);
    let one = draw.measure(&at(1), probe).expect("one stream runs");
    let two = draw.measure(&at(2), probe).expect("two streams run");
    let truths = STREAMS.map(|streams| draw.throughput(&at(streams), LONG_LOOK));
    let mut predictor = Predictor::new();
    let mut predicted = |measurement| {
        predictor.learn(Observation::of(measurement));
        let curve = predictor.curve(&base, &STREAMS).expect("something was learnt");
        curve.gain().expect("a curve has points")
    };
    Gain {
        predicted: predicted(&one),
        probed: predicted(&two),
        truth: truths.iter().copied().fold(0.0, f64::max) / truths[0],
    }
}
