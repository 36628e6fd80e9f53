//! Devices and networks drawn at random, all their configurations measured, and what the tuner and the
//! predictor make of them.

#![allow(dead_code, reason = "the benchmark and the test use a part of it each")]

use std::time::Duration;

use thalweg::backend::simulated::{Parameters, SimulatedBackend};
use thalweg::backend::{Backend as _, CudaGraph, DataSheet};
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
const TOLD_SHARE: f64 = 0.97;

/// What the truth is measured with: noise is a few per mille then.
const TRUE_SLICE: Duration = Duration::from_millis(100);

/// A simulated device has found its clock by then.
const CLOCK_SETTLES: Duration = Duration::from_millis(50);

/// A device and a network.
pub struct Draw {
    pub seed: u64,
    pub network: Network,
    pub parameters: Parameters,
    pub workload: Workload,
}

impl Draw {
    /// Everything that data sheets do not say is off by up to a factor of two or three from the presets.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x7468_616c_7765_6721);
        let network = Network::ALL[random.below(Network::ALL.len())];
        let sheet = DataSheet::all()[random.below(DataSheet::all().len())];
        let mut parameters = Parameters::preset(sheet.key).expect("a preset");
        let mut between = |low: f64, high: f64| low * (high / low).powf(random.unit());
        for knob in [
            &mut parameters.kernels.ramp_s,
            &mut parameters.kernels.block_s,
            &mut parameters.kernels.gap_s,
            &mut parameters.kernels.tile,
            &mut parameters.kernels.cache_reach,
            &mut parameters.host.launch_s,
            &mut parameters.host.graph_launch_s,
            &mut parameters.host.execution_s,
        ] {
            *knob *= between(0.5, 2.0);
        }
        parameters.kernels.tensor_efficiency = between(0.3, 0.9);
        parameters.kernels.crowding = between(0.05, 1.5);
        parameters.copies.efficiency = between(0.2, 0.9);
        parameters.host.contention = between(0.05, 1.0);
        parameters.host.wake_s = between(2e-6, 40e-6);
        parameters.clock.sustained = between(0.6, 1.0);
        parameters.jitter = between(0.005, 0.05);
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

    /// The true throughput of a configuration; `None` where the device lacks the memory.
    pub fn truth(&self, configuration: &Configuration) -> Option<f64> {
        self.measure(configuration, TRUE_SLICE).map(|it| it.throughput_inferences_per_s.value)
    }

    pub fn measure(&self, configuration: &Configuration, slice: Duration) -> Option<Measurement> {
        // Slow networks need longer for as many executions.
        let sample_s = self.workload.reference.sample_time().as_seconds();
        let executions = 40.0 * configuration.streams as f64;
        let least = Duration::from_secs_f64(sample_s * configuration.batch_size as f64 * executions);
        let window = slice.max(least);
        // By then the clock has settled.
        let pacing = Pacing { warm_up: (window / 5).max(CLOCK_SETTLES), window, max_windows: 1 };
        let load = saturating_load(configuration, None);
        self.workload.experiment(*configuration, load, pacing).run(&StopSignal::default()).ok()
    }

    /// Lets the tuner search.
    pub fn tune(&self, budget: Duration) -> TuneOutcome {
        let folder = std::env::temp_dir().join(format!("thalweg-draw-{}-{}", std::process::id(), self.seed));
        let job = TuneJob {
            model: self.workload.model.clone(),
            device: self.workload.device.clone(),
            signature: self.workload.engine.signature().clone(),
            space: self.space(),
            limits: Limits::default(),
            samples_per_request: None,
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
fn slice(candidate: &Configuration, throughput: f64) -> Duration {
    if throughput == 0.0 {
        return Duration::ZERO;
    }
    let (per_stream, in_all) = EXHAUSTIVE_EXECUTIONS;
    let executions = in_all.max(per_stream * candidate.streams) as f64;
    EXHAUSTIVE_SLICE.max(Duration::from_secs_f64(executions * candidate.batch_size as f64 / throughput))
}

/// Measures every candidate, lets the tuner search, and compares.
pub fn score(draw: &Draw) -> Score {
    let candidates = draw.candidates();
    let truths: Vec<f64> = candidates.iter().map(|it| draw.truth(it).unwrap_or(0.0)).collect();
    let best = (0..truths.len()).max_by(|a, b| truths[*a].total_cmp(&truths[*b])).expect("candidates");
    let exhaustive: Duration = candidates.iter().zip(&truths).map(|(it, truth)| slice(it, *truth)).sum();
    let outcome = draw.tune(exhaustive.mul_f64(ALLOWED_SHARE * TOLD_SHARE));
    let winner = outcome.winner.expect("a winner");
    let pick = outcome.candidates[winner].configuration;
    let reached = candidates.iter().position(|it| *it == pick).map_or(0.0, |index| truths[index]);
    Score {
        reached: reached / truths[best],
        spent: outcome.search_time.as_seconds() / exhaustive.as_secs_f64(),
        candidate_count: candidates.len(),
        pick: pick.to_string(),
        optimum: candidates[best].to_string(),
    }
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
    let one = draw.measure(&at(1), EXHAUSTIVE_SLICE).expect("one stream runs");
    let two = draw.measure(&at(2), EXHAUSTIVE_SLICE).expect("two streams run");
    let truths = STREAMS.map(|streams| draw.truth(&at(streams)).unwrap_or(0.0));
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
