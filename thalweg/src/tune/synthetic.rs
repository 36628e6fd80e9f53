//! Synthetic devices and measurements with a known truth, and sweeps that were recorded, for the tests of this module.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::journal::{Header, JOURNAL_VERSION, Reading, SetupTime};
use super::{
    BuildCandidate, Candidate, Compliance, Limits, Slice, Space, Standing, Sweep, TUNED_VERSION, Trial,
    TunedConfig,
};
use crate::backend::{BuildOptions, DeviceSpec, SlotId, StageTimes};
use crate::files::OutputFolder;
use crate::measure::{
    Arrival, Estimate, Failures, Feeding, LatencySummary, Load, Measurement, Record, Stability, StageSummary,
    Verification,
};
use crate::model::{DataType, ModelIdentity, Signature, TensorSpec};
use crate::pool::Configuration;
use crate::random::Random;
use crate::units::Nanos;

/// The sweeps of a file in docs/data, by the names of their cells: `resnet50,128`. They were recorded on H200s
/// (docs/benchmarks.md, "At the limit of the machine").
pub fn recorded_sweeps(file: &str) -> Vec<(String, Sweep, DeviceSpec)> {
    let path = format!("{}/../docs/data/{file}", env!("CARGO_MANIFEST_DIR"));
    let data: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let of_cell = |(cell, tuned): (&String, &Value)| {
        let sweep = serde_json::from_value(tuned["sweep"].clone()).unwrap();
        (cell.clone(), sweep, serde_json::from_value(tuned["device"].clone()).unwrap())
    };
    data["tune"].as_object().unwrap().iter().map(of_cell).collect()
}

/// Standard deviation of the noise of one slice.
pub const NOISE: f64 = 0.02;

/// A CPU with this many cores.
pub fn cpu(core_count: usize) -> DeviceSpec {
    DeviceSpec {
        backend: "cpu".to_owned(),
        name: "synthetic".to_owned(),
        core_count,
        memory_bytes: None,
        versions: BTreeMap::from([("rten".to_owned(), "0.27".to_owned())]),
    }
}

/// A network with one input and one output and this largest batch.
pub fn signature(largest_batch: usize) -> Signature {
    let tensor = |name: &str| TensorSpec {
        name: name.to_owned(),
        data_type: DataType::F32,
        shape: vec![4],
        is_batched: true,
    };
    Signature { inputs: vec![tensor("x")], outputs: vec![tensor("y")], batch_sizes: 1..=largest_batch }
}

/// A slice with this throughput and 20 requests of 1 ms.
pub fn slice(throughput: f64) -> Slice {
    Slice {
        throughput_inferences_per_s: Estimate {
            value: throughput,
            lower: 0.97 * throughput,
            upper: 1.03 * throughput,
        },
        latencies_ns: vec![(1_000_000, 20)],
        over_limit: 0,
        memory_bytes: None,
        stages: StageSummary::default(),
        counters: None,
        failure: None,
    }
}

/// True speeds of candidates, which nobody measures exactly.
pub struct Truth {
    /// Inferences per second.
    pub speeds: Vec<f64>,
}

impl Truth {
    /// Speeds that fall slowly and then fast from 100: several are nearly as good as the best.
    pub fn plateau(count: usize) -> Self {
        let fraction = |index: usize| (index * 7 % count) as f64 / count as f64;
        Self { speeds: (0..count).map(|index| 100.0 * (1.0 - 0.7 * fraction(index).powf(1.5))).collect() }
    }

    /// One clear winner, the next one 15 % behind.
    pub fn steep(count: usize) -> Self {
        let speed = |index| if index == count / 3 { 100.0 } else { 85.0 - index as f64 };
        Self { speeds: (0..count).map(speed).collect() }
    }

    pub fn best(&self) -> f64 {
        self.speeds.iter().copied().fold(0.0, f64::max)
    }

    pub fn configurations(&self) -> Vec<Configuration> {
        (1..=self.speeds.len())
            .map(|batch_size| Configuration { batch_size, ..Configuration::default() })
            .collect()
    }

    /// A reading at a time: the machine slowly swings by 10 % and every reading has noise.
    pub fn reading(&self, candidate: usize, time: usize, random: &mut Random) -> f64 {
        let drift = 1.0 + 0.05 * (time as f64 / 40.0).sin();
        self.speeds[candidate] * drift * (NOISE * normal(random)).exp()
    }
}

/// Standard normal, by Box and Muller.
pub fn normal(random: &mut Random) -> f64 {
    (2.0 * random.exponential(1.0)).sqrt() * (std::f64::consts::TAU * random.unit()).cos()
}

/// A model's identity.
pub fn model() -> ModelIdentity {
    ModelIdentity { path: "net.onnx".into(), sha256: "abc123".to_owned(), input_shapes: BTreeMap::new() }
}

/// The header of a search on two cores.
pub fn header() -> Header {
    Header {
        schema_version: JOURNAL_VERSION,
        model: model(),
        engine: None,
        engine_sha256: None,
        device: cpu(2),
        space: Space::for_device(&cpu(2), &signature(8)),
        limits: Limits::default(),
        samples_per_request: None,
        feeding: Feeding::default(),
        seed: 0,
    }
}

/// A journal's reading of a candidate.
pub fn reading(candidate: usize, throughput: f64) -> Reading {
    Reading {
        candidate,
        configuration: String::new(),
        slice: slice(throughput),
        elapsed: Nanos(5),
        predicted: None,
        setup: SetupTime::default(),
    }
}

/// A candidate that keeps its limits, with 100 records up to this latency.
pub fn candidate(throughput: f64, max_ns: u64) -> Candidate {
    Candidate {
        configuration: Configuration::default(),
        slice_count: 3,
        throughput_inferences_per_s: Some(Estimate {
            value: throughput,
            lower: 0.98 * throughput,
            upper: 1.02 * throughput,
        }),
        latency: LatencySummary::of(&mut [Nanos(max_ns); 100]),
        compliance: Compliance::Keeps,
        standing: Standing::Contender,
        failure: None,
        predicted: None,
    }
}

/// A tuned configuration of [`model`] on two cores.
pub fn tuned() -> TunedConfig {
    TunedConfig {
        schema_version: TUNED_VERSION,
        thalweg_version: "0.1.0".to_owned(),
        model: model(),
        engine: None,
        device: cpu(2),
        configuration: Configuration { streams: 2, ..Configuration::default() },
        load: Load { arrival: Arrival::Concurrency(4), samples_per_request: 1 },
        limits: Limits { p99: Some(Nanos(20_000_000)), memory_bytes: None },
        compliance: Compliance::Keeps,
        throughput_inferences_per_s: Estimate { value: 100.0, lower: 97.0, upper: 103.1 },
        latency: LatencySummary::of(&mut [Nanos(1_000_000); 300]).unwrap(),
        verdict: "it won".to_owned(),
        signature: Some(signature(8)),
    }
}

/// An engine of that name whose search found [`tuned`].
pub fn build_candidate(name: &str) -> BuildCandidate {
    BuildCandidate {
        name: name.to_owned(),
        options: BuildOptions::default(),
        precision_route: None,
        build_time: Some(Nanos(3_200_000_000)),
        accuracy: None,
        tuned: Some(tuned()),
        over_first: None,
        refused: None,
    }
}

/// What measuring a trial gives on a machine with this throughput: every slot is always full, so a request
/// takes as long as all that are outstanding (Little's law).
pub fn measurement(trial: &Trial, throughput: f64) -> Measurement {
    let Trial { configuration, load, .. } = *trial;
    let outstanding = configuration.streams * configuration.depth * configuration.batch_size;
    let latency = outstanding as f64 / throughput;
    let requests = (throughput * trial.window.as_secs_f64() / load.samples_per_request as f64).max(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
    let records =
        (0..requests as u64).map(|sequence| record(sequence, load.samples_per_request, latency)).collect();
    Measurement {
        model: model(),
        configuration,
        load,
        device: cpu(2),
        stability: Stability::TooShort,
        throughput_inferences_per_s: slice(throughput).throughput_inferences_per_s,
        executions_per_s: throughput / configuration.batch_size as f64,
        latency: LatencySummary::of(&mut [Nanos::from_seconds(latency)]).unwrap(),
        stages: StageSummary::default(),
        feed: None,
        host_cpu_cores: 2.0,
        context_switches_per_execution: None,
        starved_share: None,
        clocks: Vec::new(),
        device_memory_bytes: None,
        host_memory_bytes: Some(100_000_000),
        counters: None,
        verification: Verification::default(),
        failures: Failures::default(),
        remarks: Vec::new(),
        deviating_streams: BTreeSet::new(),
        engine: None,
        unix_start: None,
        overlap: None,
        windows: Vec::new(),
        used_windows: 1,
        records,
    }
}

fn record(sequence: u64, samples: usize, latency: f64) -> Record {
    Record {
        sequence,
        slot: SlotId { executor: 0, index: 0 },
        samples,
        batch_size: samples,
        execution_samples: None,
        intended: Nanos::ZERO,
        submitted: Nanos::ZERO,
        stages: StageTimes::default(),
        readable: Nanos::from_seconds(latency),
    }
}

/// A folder of its own for a test, removed at its end.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty folder; each name may be used by one test only.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("thalweg-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes it for one run.
    pub fn claim(&self) -> OutputFolder {
        OutputFolder::claim(&self.0).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
