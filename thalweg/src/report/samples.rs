//! Made-up but plausible results to test the reports with: a GPU that one stream fills to a fifth.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{Counters, DeviceSpec, SlotId, Span, StageTimes};
use crate::diagnose::{self, Diagnosis, Evidence, Gained, KernelWindow, Setup, Tried};
use crate::measure::{
    Arrival, Estimate, Execution, Failures, Feeding, LatencySummary, Load, Measurement, Overlap, Record,
    Stability, StageSummary, Verification, Window, executions,
};
use crate::model::{DataType, ModelIdentity};
use crate::pool::Configuration;
use crate::precision::{
    Accuracy, CalibrationMethod, Conversion, LOSS_VERSION, LayerError, LayerErrors, LossReport, Mix,
    NodeSensitivity, OutputAccuracy, QuantizationReport, QuantizedWeights, RangeSource, SkipReason,
    SkippedNode,
};
use crate::tune::{Candidate, Comparison, Compliance, Ending, Limits, Standing, TuneOutcome};
use crate::units::{Bytes, Nanos};
use crate::watch::samples::{Sample, naive};
use crate::watch::{Direction, GpuReadings, HostMemory, ProcessReading, Reading, Settings, Watched, observe};

pub(super) fn configuration(streams: usize, batch_size: usize) -> Configuration {
    Configuration { streams, batch_size, submitters: streams.min(2), ..Configuration::default() }
}

pub(super) fn device() -> DeviceSpec {
    let versions = [("TensorRT", "10.16.1"), ("CUDA driver", "580.82"), ("thalweg", "0.1.0")];
    DeviceSpec {
        backend: "tensorrt".to_owned(),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        core_count: 16,
        memory_bytes: Some(85_520_809_984),
        versions: versions.map(|(name, version)| (name.to_owned(), version.to_owned())).into(),
    }
}

/// A small linear congruential generator (Knuth, MMIX), uniform in 0..1: the same samples every time.
pub(super) struct Dice(pub u64);

impl Dice {
    pub(super) fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn around(value: f64, relative_half_width: f64) -> Estimate {
    Estimate { value, lower: value * (1.0 - relative_half_width), upper: value * (1.0 + relative_half_width) }
}

/// One execution without company, in seconds.
fn execution_seconds(batch_size: usize) -> f64 {
    420e-6 + 27e-6 * batch_size as f64
}

/// Streams overlap until the device is full.
fn throughput(configuration: &Configuration) -> f64 {
    let batch = configuration.batch_size as f64;
    let alone = configuration.streams as f64 * batch / execution_seconds(configuration.batch_size);
    let full = 34_000.0 * batch / (batch + 2.5);
    (alone.powi(-4) + full.powi(-4)).powf(-0.25)
}

/// `per_stream` executions of each stream, whose copies share one engine each way.
pub(super) fn records(configuration: &Configuration, per_stream: usize) -> Vec<Record> {
    let mut dice = Dice(7);
    let batch = configuration.batch_size as f64;
    let busy = configuration.streams as f64 * batch / throughput(configuration);
    let mut ready = vec![0.0; configuration.streams];
    let mut copy_free = [0.0; 2];
    let mut records = Vec::new();
    for execution in 0..per_stream * configuration.streams {
        let stream = execution % configuration.streams;
        let sent = ready[stream] - 0.8 * busy * dice.roll();
        let h2d = span(f64::max(ready[stream], copy_free[0]), 0.08 * busy);
        let slow = if dice.roll() > 0.999 { 2.5 * dice.roll() } else { 0.0 };
        let compute = span(h2d.1, (0.7 + 0.2 * dice.roll() + slow) * busy);
        let d2h = span(f64::max(compute.1, copy_free[1]), 0.03 * busy);
        copy_free = [h2d.1, d2h.1];
        ready[stream] = compute.1;
        let stages = StageTimes {
            enqueue: nanos((h2d.0 - 12e-6, h2d.0)),
            copy_calls: Nanos::ZERO,
            h2d: nanos(h2d),
            compute: nanos(compute),
            d2h: nanos(d2h),
        };
        let slot =
            SlotId { executor: stream, index: execution / configuration.streams % configuration.depth };
        for _ in 0..configuration.batch_size {
            records.push(Record {
                sequence: records.len() as u64,
                slot,
                samples: 1,
                batch_size: configuration.batch_size,
                execution_samples: None,
                intended: point(sent),
                submitted: point(sent + 2e-6),
                stages,
                readable: stages.d2h.end,
            });
        }
    }
    records
}

fn span(start: f64, seconds: f64) -> (f64, f64) {
    (start, start + seconds)
}

/// A point after a warm-up of a second.
fn point(seconds: f64) -> Nanos {
    Nanos::from_seconds(1.0 + seconds)
}

fn nanos((start, end): (f64, f64)) -> Span {
    Span { start: point(start), end: point(end) }
}

pub(super) fn latency(records: &[Record]) -> LatencySummary {
    let mut sorted: Vec<_> = records.iter().map(Record::latency).collect();
    sorted.sort();
    let n = sorted.len();
    let rank =
        |percent: usize| sorted.get((n * percent).div_ceil(1000).max(1) - 1).copied().unwrap_or_default();
    LatencySummary {
        n,
        mean: Nanos(sorted.iter().map(|it| it.0).sum::<u64>() / n.max(1) as u64),
        p50: rank(500),
        p90: rank(900),
        p95: rank(950),
        p99: (n >= 300).then(|| rank(990)),
        p999: (n >= 3000).then(|| rank(999)),
        max: sorted.last().copied().unwrap_or_default(),
    }
}

pub(super) fn measurement(configuration: Configuration, per_stream: usize) -> Measurement {
    let records = records(&configuration, per_stream);
    let throughput = throughput(&configuration);
    let mut dice = Dice(3);
    let windows: Vec<_> = (0..5u64)
        .map(|index| Window {
            start: Nanos(1_000_000_000 * (index + 1)),
            end: Nanos(1_000_000_000 * (index + 2)),
            inferences: Nanos::from_seconds(throughput * (0.99 + 0.02 * dice.roll()) / 1e9).0,
            mean_latency: Nanos(1_400_000),
        })
        .collect();
    Measurement {
        model: model(),
        configuration,
        load: Load {
            arrival: Arrival::Concurrency(
                configuration.streams * configuration.depth * configuration.batch_size,
            ),
            samples_per_request: 1,
        },
        device: device(),
        stability: Stability::Stable { throughput_spread: 1.014, latency_spread: 1.032 },
        throughput_inferences_per_s: around(throughput, 0.011),
        executions_per_s: throughput / configuration.batch_size as f64,
        latency: latency(&records),
        stages: records.first().map(|record| stages(&record.stages)).unwrap_or_default(),
        feed: None,
        host_cpu_cores: 2.38,
        context_switches_per_execution: None,
        starved_share: None,
        clocks: Vec::new(),
        device_memory_bytes: None,
        host_memory_bytes: Some(1_312_000_000),
        counters: None,
        verification: Verification {
            verified_samples: 4096,
            samples: 5000,
            verified_slots: 16,
            worst_relative_error: 2.13e-7,
            batch_difference: None,
        },
        failures: Failures::default(),
        overlap: Overlap::of(&records),
        remarks: Vec::new(),
        deviating_streams: BTreeSet::new(),
        engine: None,
        unix_start: None,
        windows,
        used_windows: 3,
        records,
    }
}

fn stages(times: &StageTimes) -> StageSummary {
    StageSummary {
        enqueue: times.enqueue.duration(),
        copy_calls: times.copy_calls,
        shared_core: None,
        h2d: times.h2d.duration(),
        compute: times.compute.duration(),
        d2h: times.d2h.duration(),
    }
}

fn candidate(configuration: Configuration) -> Candidate {
    let per_stream = 600 / (configuration.streams * configuration.batch_size).min(60);
    let records = records(&configuration, per_stream);
    Candidate {
        configuration,
        slice_count: 12,
        throughput_inferences_per_s: Some(around(throughput(&configuration), 0.014)),
        latency: Some(latency(&records)),
        compliance: Compliance::Keeps,
        standing: Standing::Slower,
        failure: None,
        predicted: None,
    }
}

/// A search over streams and batches under a limit of 4 ms.
pub(super) fn outcome() -> TuneOutcome {
    let limit = Nanos(4_000_000);
    let configurations =
        [1, 2, 3, 4, 6, 8].map(|streams| [1, 2, 4, 8, 16, 32].map(|batch| configuration(streams, batch)));
    let mut candidates: Vec<_> = configurations.into_iter().flatten().map(candidate).collect();
    for candidate in &mut candidates {
        if candidate.latency.and_then(|it| it.p99) > Some(limit) {
            candidate.compliance = Compliance::Breaks;
            candidate.standing = Standing::OverLimit;
        }
    }
    candidates.sort_by(|a, b| {
        let key = |it: &Candidate| (it.compliance == Compliance::Breaks, -throughput(&it.configuration));
        key(a).partial_cmp(&key(b)).unwrap()
    });
    candidates[0].standing = Standing::Winner;
    candidates[1].standing = Standing::Contender;
    candidates.push(Candidate {
        standing: Standing::Failed,
        throughput_inferences_per_s: None,
        latency: None,
        slice_count: 0,
        compliance: Compliance::Unproven,
        failure: Some("out of device memory: 512 slots of 154 MB".to_owned()),
        ..candidate(configuration(8, 64))
    });
    let default = candidates.iter().position(|it| it.configuration == configuration(1, 1)).unwrap();
    let winner = candidates[0].configuration;
    let ratio = throughput(&winner) / throughput(&configuration(1, 1));
    TuneOutcome {
        schema_version: 1,
        model: model(),
        engine: None,
        device: device(),
        signature: None,
        limits: Limits { p99: Some(limit), memory_bytes: None },
        samples_per_request: None,
        search_time: Nanos(61_200_000_000),
        ending: Ending::Decided,
        pareto: pareto(&candidates),
        verdict: format!(
            "{} streams with batch {} run {ratio:.1} times the inferences of the default, at a p99 under the limit of 4 ms.",
            winner.streams, winner.batch_size
        ),
        winner: Some(0),
        runner_up: Some(Comparison { candidate: 1, ratio: around(1.03, 0.006) }),
        baseline: Some(Comparison { candidate: default, ratio: around(ratio, 0.021) }),
        curve: None,
        confirmation: Some(measurement(winner, 100)),
        sweep: None,
        disturbed_slices: 0,
        candidates,
    }
}

fn pareto(candidates: &[Candidate]) -> Vec<usize> {
    let point = |it: &Candidate| {
        it.throughput_inferences_per_s
            .zip(it.latency)
            .map(|(rate, latency)| (rate.value, latency.p99.unwrap_or(latency.max)))
    };
    let mut front: Vec<_> = (0..candidates.len())
        .filter(|&index| {
            point(&candidates[index]).is_some_and(|(rate, tail)| {
                !candidates
                    .iter()
                    .filter_map(point)
                    .any(|(other_rate, other_tail)| other_rate > rate && other_tail <= tail)
            })
        })
        .collect();
    front.sort_by(|&a, &b| point(&candidates[a]).partial_cmp(&point(&candidates[b])).unwrap());
    front
}

/// An outcome where nothing was found: every optional field is empty.
pub(super) fn empty_outcome() -> TuneOutcome {
    TuneOutcome {
        candidates: Vec::new(),
        winner: None,
        runner_up: None,
        baseline: None,
        pareto: Vec::new(),
        verdict: "No candidate could be measured.".to_owned(),
        confirmation: None,
        limits: Limits::default(),
        ..outcome()
    }
}

fn model() -> ModelIdentity {
    ModelIdentity {
        path: "models/resnet50-v1.5.onnx".into(),
        sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
        input_shapes: BTreeMap::from([("images".to_owned(), vec![1, 3, 224, 224])]),
    }
}

/// What limits four streams of batch 2: streams and batch were tried, and both together.
pub(super) fn diagnosis() -> Diagnosis {
    let counters = Counters {
        sm_activity: Some(0.31),
        tensor_activity: Some(0.08),
        dram_utilisation: Some(0.12),
        pcie_rx_bytes_per_s: Some(8.04e9),
        pcie_tx_bytes_per_s: Some(5.3e7),
        sm_clock_mhz: Some(1_905.0),
        sm_clock_max_mhz: Some(1_980.0),
        throttle_reasons: vec!["power cap".to_owned()],
        ..Counters::default()
    };
    let measured = Measurement { counters: Some(counters), ..measurement(configuration(4, 2), 100) };
    let feeding = Feeding::Copy { threads: 8 };
    let setup = Setup::new(measured.configuration, feeding, measured.load);
    let evidence = Evidence::of(&measured);
    let judgement = diagnose::judge(&evidence, &setup.configuration);
    let limits = diagnose::Limits::of(&evidence, &setup.configuration);
    let mut remedies = diagnose::remedies(&measured, None, feeding, &limits);
    remedies[0].tried = Some(Tried::Ratio(around(1.52, 0.01)));
    remedies[1].tried = Some(Tried::Failed("out of\u{1b}[2J memory".to_owned()));
    let gained = Some(Gained { setup: remedies[0].setup, ratio: around(1.52, 0.01) });
    let advice = vec!["stand <b>back</b>".to_owned()];
    let measurement = Measurement { records: Vec::new(), ..measured };
    let observing = Some(around(0.998, 0.004));
    Diagnosis {
        judgement,
        evidence,
        outlook: None,
        remedies,
        gained,
        observing,
        kernels: None,
        window: None,
        advice,
        setup,
        measurement,
    }
}

/// What was recorded beside four streams: each execution copies, launches so many kernels that fill its computation, and
/// is waited for.
pub(super) fn window(executions_per_stream: usize, kernels: u64) -> KernelWindow {
    let configuration = configuration(4, 1);
    let mut measurement = measurement(configuration, executions_per_stream);
    let unix_start = Nanos(Sample::UNIX_NS);
    measurement.unix_start = Some(unix_start);
    let mut sample = Sample::new();
    for Execution { slot, times, .. } in executions(&measurement.records) {
        let number = u32::try_from(slot.executor).expect("four streams");
        sample.on_stream(13 + number).on_thread(4242);
        sample.call("cudaMemcpyAsync", times.enqueue.start.0, times.enqueue.start.0 + 2_000);
        sample.copy(Direction::H2d, HostMemory::Pinned, 1 << 20, (times.h2d.start.0, times.h2d.end.0));
        let (each, launch) = (
            times.compute.duration().0 / kernels,
            times.enqueue.duration().0.saturating_sub(2_000) / kernels,
        );
        for kernel in 0..kernels {
            let called = times.enqueue.start.0 + 2_000 + kernel * launch;
            sample.call("cudaLaunchKernel", called, called + launch * 4 / 5);
            let start = times.compute.start.0 + kernel * each;
            let name = format!("sm90_xmma_fprop_implicit_gemm_{}", kernel % 7);
            sample.kernel_of(132, &name, (start, start + each * 9 / 10));
        }
        sample.on_thread(4243 + number);
        sample.call("cudaEventSynchronize", times.h2d.start.0, times.d2h.end.0);
    }
    let all = Span { start: Nanos::ZERO, end: Nanos(u64::MAX) };
    let program = sample.program().within(all, unix_start).expect("its clock is known");
    let mut gpu = watched().gpu.expect("it was read");
    let reading = gpu.readings.remove(0);
    let first = program.work.iter().map(|work| work.span.start).min().unwrap_or_default();
    let last = program.work.iter().map(|work| work.span.end).max().unwrap_or_default();
    gpu.readings = (1..=8_u32)
        .map(|step| {
            let mut reading = reading.clone();
            reading.unix = unix_start + first + Nanos((last - first).0 / 8 * u64::from(step));
            reading.counters.sm_activity = Some(0.5 + f64::from(step % 3) / 8.0);
            reading
        })
        .collect();
    KernelWindow { program, measurement, gpu: Some(gpu) }
}

/// A naive program of 20 items, and a GPU that was read once meanwhile.
pub(super) fn watched() -> Watched {
    let settings = Settings { warm_up: Nanos::ZERO, pinned_bytes_per_s: Some(50e9) };
    let counters = Counters {
        sm_activity: Some(0.25),
        dram_utilisation: Some(0.12),
        pcie_rx_bytes_per_s: Some(8.04e9),
        sm_clock_mhz: Some(1_980.0),
        sm_clock_max_mhz: Some(1_980.0),
        power_watts: Some(240.0),
        throttle_reasons: vec!["PowerCap".to_owned()],
        ..Counters::default()
    };
    let reading = Reading {
        unix: Nanos(1),
        counters,
        gpu_utilisation: Some(1.0),
        memory_used: Some(Bytes(4_000_000_000)),
        memory_total: Some(Bytes(80_000_000_000)),
        power_limit_watts: Some(700.0),
        pcie_limit_bytes_per_s: Some(55.1e9),
        processes: vec![ProcessReading {
            process: 42,
            memory: Some(Bytes(3_000_000_000)),
            gpu_utilisation: None,
        }],
        busiest_thread: Some(0.97),
    };
    Watched {
        command: vec!["python3".to_owned(), "serve.py".to_owned()],
        exit_code: Some(0),
        wall: Nanos(2_000_000_000),
        processes: vec![observe(&naive(20).program(), &settings)],
        gpu: Some(GpuReadings {
            name: "NVIDIA H100".to_owned(),
            uuid: "GPU-1".to_owned(),
            readings: vec![reading],
        }),
        gpu_problem: None,
    }
}

/// A network of twenty layers in eight bits, whose error passes the limit in the middle; a name is hostile.
pub(super) fn loss() -> LossReport {
    let output = OutputAccuracy {
        output: "<b>logits".to_owned(),
        cosine: 0.99931,
        max_relative_error: 0.0312,
        top1_agreement: Some(0.96875),
        top5_agreement: Some(1.0),
    };
    let accuracy = Accuracy {
        reference: "original on the cpu backend".to_owned(),
        sample_count: 32,
        is_random: false,
        outputs: vec![output],
    };
    let skipped = |node: &str, reason| SkippedNode { node: node.into(), operator: "Conv".into(), reason };
    let report = QuantizationReport {
        method: Some(CalibrationMethod::Mse),
        source: Some(RangeSource { sample_count: 32, is_random: false, value_count: 18 }),
        opset_before: 13,
        opset: 13,
        quantized: [("Conv".to_owned(), 18)].into(),
        value_count: 18,
        residual_count: 0,
        pool_count: 0,
        skipped: vec![skipped("block0/conv", SkipReason::First), skipped("block19/conv", SkipReason::Last)],
        other_nodes: 20,
        weights: QuantizedWeights {
            tensors: 18,
            elements: 40_000,
            doubled_tensors: 0,
            relative_error: 0.01,
            corrected_biases: 0,
        },
        rest: None,
        bytes_before: 160_000,
        bytes_after: 42_000,
    };
    let sensitivity = |index: u32| NodeSensitivity {
        node: format!("block{index}/conv"),
        operator: "Conv".to_owned(),
        node_count: 1,
        relative_error: 1e-3,
        lost_cosine: 1e-4 / f64::from(index),
        saved_ns: 120.0,
    };
    let mix = Mix {
        nodes: (1..19).map(sensitivity).collect(),
        kept: 2,
        tried: 5,
        accuracy: accuracy.clone(),
        rest: None,
    };
    LossReport {
        schema_version: LOSS_VERSION,
        reference: "model.onnx".into(),
        other: "int8.onnx".into(),
        limits: vec!["rel=0.01".to_owned()],
        accuracy: Some(accuracy),
        layers: Some(layer_errors()),
        conversion: Some(Conversion::Int8(Box::new(report))),
        mix: Some(mix),
    }
}

fn layer_errors() -> LayerErrors {
    let error = |index: usize| 1.1e-3 * 1.3_f64.powi(i32::try_from(index).expect("twenty layers"));
    let layer = |index: usize| LayerError {
        node: format!("block{index}/conv"),
        operator: "Conv".to_owned(),
        value: format!("x{index}"),
        computes_in: if index == 0 { DataType::F32 } else { DataType::I8 },
        cosine: 1.0 - error(index) / 40.0,
        max_relative_error: error(index),
        read_relative_error: if index == 0 { 0.0 } else { error(index - 1) },
    };
    LayerErrors {
        sample_count: 4,
        is_random: false,
        limits: vec!["rel=0.01".to_owned()],
        layers: (0..20).map(layer).collect(),
        first_over: Some(9),
    }
}
