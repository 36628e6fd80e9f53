//! Diagnoses of simulated devices: the labelled suite, hidden counters, and remedies that are tried.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod blind;
mod cases;
mod devices;
#[allow(dead_code, reason = "the benchmarks use the rest")]
mod verdicts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use blind::BlindEngine;
use cases::{Case, Labelled, suite};
use thalweg::backend::simulated::SimulatedBackend;
use thalweg::backend::{Backend, BuildOptions, CudaGraph, PlantedFault, Precision};
use thalweg::capacity::PaperWorkload;
use thalweg::diagnose::{
    self, Confidence, Diagnosis, EngineVariant, Knob, Limit, Quantity, Rebuild, Remedy, Setup, Tried, Verdict,
};
use thalweg::engine::MaxBatch;
use thalweg::measure::{Arrival, Load, Observing, Pacing, StopSignal, Workload, WorkloadSpec};
use thalweg::model::zoo::Network;
use thalweg::model::{DataType, Model};
use thalweg::pool::Configuration;
use thalweg::precision::{InputType, with_inputs};
use thalweg::units::Nanos;

/// Part of the suite that has to be judged right.
const RIGHT: f64 = 0.95;

/// The same where no counter tells how full the device is: most of what it limits then looks healthy or underfilled.
const RIGHT_WITHOUT_COUNTERS: f64 = 0.5;

/// Cases of every verdict that the suite has at least.
const LEAST_PER_VERDICT: usize = 8;

fn share(suite: &[Labelled], is_right: impl Fn(&Labelled) -> bool) -> f64 {
    suite.iter().filter(|labelled| is_right(labelled)).count() as f64 / suite.len() as f64
}

#[test]
fn the_suite_has_every_verdict_in_both_parts() {
    let suite = suite();
    assert!(suite.len() >= 60, "{} cases", suite.len());
    for verdict in Verdict::ALL {
        let of: Vec<&Labelled> = suite.iter().filter(|labelled| labelled.label == verdict).collect();
        assert!(of.len() >= LEAST_PER_VERDICT, "{} are {verdict}", of.len());
        let tuned_on = of.iter().filter(|labelled| labelled.is_tuned_on).count();
        assert!(tuned_on > 0 && tuned_on < of.len(), "{tuned_on} of {} {verdict} are tuned on", of.len());
    }
}

#[test]
fn the_suite_is_judged_right() {
    let suite = suite();
    let right = share(&suite, |labelled| {
        let (judgement, _) = Case::of(labelled.seed).judged();
        labelled.right().contains(&judgement.verdict)
    });
    assert!(right >= RIGHT, "{:.1} % are right", 100.0 * right);
}

/// Verdicts that rest on the host and the bus alone.
const NEED_NO_COUNTER: [Verdict; 4] =
    [Verdict::TransferBound, Verdict::EnqueueBound, Verdict::SynchronisationBound, Verdict::InputStarved];

#[test]
fn without_counters_no_verdict_is_surer_than_with_them_and_none_about_the_device_is_sure_at_all() {
    let reasons = ["the device tells nothing about itself", "this GPU has no GPM"];
    let needs_none = [Verdict::TransferBound, Verdict::EnqueueBound, Verdict::InputStarved];
    let (mut right, mut of_host, mut right_of_host) = (0.0, 0.0, 0.0);
    let mut pretending = Vec::new();
    let suite = suite();
    for labelled in &suite {
        let (whole, less) = Case::of(labelled.seed).judged_with_less();
        for (judgement, reason) in less.iter().zip(reasons) {
            let seed = labelled.seed;
            // Beside what host and bus show there may be a device that nobody sees.
            let is_right = labelled.right().contains(&judgement.verdict);
            let is_sure = judgement.confidence == Confidence::High;
            if judgement.confidence > whole.confidence || (is_sure && !is_right) {
                let [less, whole] =
                    [judgement, &whole].map(|it| format!("{}, {} confidence", it.verdict, it.confidence));
                pretending.push(format!("seed {seed}: {less}; with counters {whole}"));
            }
            if !NEED_NO_COUNTER.contains(&judgement.verdict) {
                assert_eq!(judgement.confidence, Confidence::Low, "seed {seed}");
                assert!(judgement.missing.iter().any(|it| it.ends_with(reason)), "seed {seed}");
            }
            let is_right = f64::from(u8::from(is_right));
            right += is_right;
            if needs_none.contains(&labelled.label) {
                of_host += 1.0;
                right_of_host += is_right;
            }
        }
    }
    assert!(pretending.is_empty(), "{}", pretending.join("\n"));
    let right = right / (2 * suite.len()) as f64;
    assert!(right >= RIGHT_WITHOUT_COUNTERS, "{:.1} % are right", 100.0 * right);
    let right = right_of_host / of_host;
    assert!(right >= 0.9, "{:.1} % of what host and bus limit are right", 100.0 * right);
}

fn workload(network: Network) -> Workload {
    let model = Model::from_proto(network.generate(0), "network.onnx").unwrap();
    let backend = SimulatedBackend::preset("h100").unwrap();
    assert!(backend.device().backend.starts_with("simulated:"));
    let spec = WorkloadSpec { max_batch: MaxBatch::UpTo(8), ..WorkloadSpec::default() };
    Workload::prepare(&backend, &model, &spec).unwrap()
}

fn diagnosed(workload: &Workload, configuration: Configuration, tries: usize) -> Diagnosis {
    let case = case(workload, configuration, tries);
    diagnose::diagnose(&case, &StopSignal::default(), &mut |_| {}).unwrap()
}

fn case(workload: &Workload, configuration: Configuration, tries: usize) -> diagnose::Case<'_> {
    let outstanding = configuration.streams * configuration.depth;
    let load =
        Load { arrival: Arrival::Concurrency(outstanding), samples_per_request: configuration.batch_size };
    diagnose::Case {
        workload,
        setup: Setup::new(configuration, workload.feeding, load),
        pacing: Pacing { window: Duration::from_millis(300), ..Pacing::default() },
        tries,
        rounds: diagnose::ROUNDS,
        seed: 0,
        model: Err("there is no model"),
        recording: Observing::On,
        rebuild: Err("nobody builds other engines here"),
    }
}

#[test]
fn remedies_for_an_empty_device_help_as_much_as_was_predicted() {
    let one_stream = Configuration { cuda_graph: CudaGraph::Compute, ..Configuration::default() };
    let diagnosis = diagnosed(&workload(Network::Underfilled), one_stream, 3);
    assert_eq!(diagnosis.judgement.verdict, Verdict::Underfilled);
    let tried = diagnosis.remedies.iter().filter_map(|remedy| Some((remedy, remedy.ratio()?)));
    let mut count = 0;
    for (remedy, ratio) in tried {
        count += 1;
        let error = (remedy.predicted.value / ratio.value - 1.0).abs();
        assert!(error < 0.3, "{remedy}: predicted {:.2}, was {:.2}", remedy.predicted.value, ratio.value);
    }
    assert!(count >= 2, "{count} were tried");
    let gained = diagnosis.gained.unwrap();
    assert!(gained.ratio.lower > 2.0, "{:?}", gained.ratio);
    assert!(gained.setup.configuration.streams > 1 || gained.setup.configuration.batch_size > 1);
}

#[test]
fn a_graph_is_tried_where_launching_is_the_limit() {
    let diagnosis = diagnosed(&workload(Network::Launch), Configuration::default(), 8);
    assert_eq!(diagnosis.judgement.verdict, Verdict::EnqueueBound);
    let graph = diagnosis.remedies.iter().find(|remedy| remedy.knob == Knob::CudaGraph).unwrap();
    let ratio = graph.ratio().unwrap();
    assert!((graph.predicted.lower..=graph.predicted.upper).contains(&ratio.value), "{ratio:?}");
    assert!(diagnosis.gained.is_some());
}

#[test]
fn nothing_is_tried_where_nobody_asks() {
    let diagnosis = diagnosed(&workload(Network::Underfilled), Configuration::default(), 0);
    assert!(diagnosis.remedies.iter().all(|remedy| remedy.tried.is_none()));
    assert_eq!(diagnosis.gained, None);
}

#[test]
fn with_hidden_counters_a_probe_tells_how_full_the_device_is() {
    let seen = workload(Network::Underfilled);
    let blind = Workload { engine: Arc::new(BlindEngine(Arc::clone(&seen.engine))), ..seen };
    let one_stream = Configuration { cuda_graph: CudaGraph::Compute, ..Configuration::default() };
    let diagnosis = diagnosed(&blind, one_stream, 1);
    assert_eq!(diagnosis.judgement.verdict, Verdict::Underfilled);
    let fill = diagnosis.evidence.reading(Quantity::DeviceFill).unwrap();
    assert!(fill.source.starts_with("probe: twice the streams ran 1."), "{}", fill.source);
    assert_eq!(diagnosis.evidence.value(Quantity::DramFill), None);
    assert_eq!(diagnosis.judgement.confidence, Confidence::Medium);

    let untried = diagnosed(&blind, one_stream, 0);
    assert_eq!(untried.judgement.confidence, Confidence::Low);
    let reason = "how full the device is is not known: the device tells nothing about itself";
    assert_eq!(untried.judgement.missing, [reason]);
}

#[test]
fn a_diagnosis_is_plain_data_whose_verdict_is_a_name_of_the_table() {
    let diagnosis = diagnosed(&workload(Network::Transfer), Configuration::default(), 0);
    let json = serde_json::to_value(&diagnosis).unwrap();
    assert_eq!(json["verdict"], "transfer-bound");
    assert_eq!(serde_json::from_value::<Diagnosis>(json).unwrap(), diagnosis);
    assert!(diagnosis.advice.iter().any(|advice| advice.contains("smaller inputs")));
}

fn four_streams(fault: PlantedFault) -> Configuration {
    let cuda_graph = CudaGraph::Compute;
    Configuration { streams: 4, cuda_graph, fault: Some(fault), ..Configuration::default() }
}

#[test]
fn a_host_that_waits_for_each_execution_is_found_out() {
    let workload = workload(Network::Underfilled);
    let diagnosis = diagnosed(&workload, four_streams(PlantedFault::WaitPerItem), 1);
    assert_eq!(diagnosis.judgement.verdict, Verdict::SynchronisationBound);
    assert_eq!(diagnosis.judgement.limits[0].limit, Limit::Barriers);
    assert!(diagnosis.evidence.value(Quantity::AloneOnDevice).unwrap() > 0.95);
    let finding = "the submitting thread waits for each before it starts the next";
    assert!(diagnosis.judgement.findings.iter().any(|it| it.ends_with(finding)), "{diagnosis:?}");

    let sound = Configuration { fault: None, ..four_streams(PlantedFault::WaitPerItem) };
    let sound = diagnosed(&workload, sound, 0);
    assert_ne!(sound.judgement.verdict, Verdict::SynchronisationBound);
    let rate = |it: &Diagnosis| it.measurement.throughput_inferences_per_s.value;
    assert!(rate(&sound) > 1.5 * rate(&diagnosis), "{} {}", rate(&sound), rate(&diagnosis));
}

#[test]
fn a_slow_feed_is_found_out() {
    let slow = four_streams(PlantedFault::SlowFeed(Nanos(3_000_000)));
    let diagnosis = diagnosed(&workload(Network::Underfilled), slow, 0);
    assert_eq!(diagnosis.judgement.verdict, Verdict::InputStarved);
    let empty = diagnosis.evidence.value(Quantity::PoolEmpty).unwrap();
    assert!(empty > 0.5, "{empty}");
    let finding =
        format!("the pool has no request in {:.0} % of the time, while the device idles", 100.0 * empty);
    assert!(diagnosis.judgement.findings.contains(&finding), "{:?}", diagnosis.judgement.findings);
}

#[test]
fn what_only_a_driver_can_do_wrong_is_refused_without_one() {
    let workload = workload(Network::Underfilled);
    for fault in [PlantedFault::PageableMemory, PlantedFault::DefaultStream] {
        let load = Load { arrival: Arrival::Concurrency(8), samples_per_request: 1 };
        let experiment = workload.experiment(four_streams(fault), load, Pacing::default());
        let refused = experiment.run(&StopSignal::default()).err().unwrap().to_string();
        assert_eq!(refused, format!("plant-fault {fault}: the simulated backend uses no CUDA"));
    }
}

#[test]
fn a_roofline_stands_where_no_counter_does() {
    let seen = workload(Network::Compute);
    let model = Model::from_proto(Network::Compute.generate(0), "network.onnx").unwrap();
    let types = (DataType::F32, Precision::Fp16);
    let paper = PaperWorkload::of(&model, &BTreeMap::new(), 8, types).unwrap();
    let blind = Workload { engine: Arc::new(BlindEngine(Arc::clone(&seen.engine))), ..seen };
    let configuration = Configuration {
        streams: 2,
        batch_size: 8,
        cuda_graph: CudaGraph::Compute,
        ..Configuration::default()
    };
    let case = diagnose::Case { model: Ok(&paper), ..case(&blind, configuration, 0) };
    let diagnosis = diagnose::diagnose(&case, &StopSignal::default(), &mut |_| {}).unwrap();
    assert_eq!(diagnosis.evidence.value(Quantity::DeviceFill), None);
    let arithmetic = diagnosis.evidence.reading(Quantity::PaperArithmetic).unwrap();
    // Eight samples of 34.4 GFLOP in each execution, by the zoo's description.
    let rate = diagnosis.measurement.throughput_inferences_per_s.value;
    let expected = rate * 34.4e9 / 989.4e12;
    assert!((arithmetic.value.unwrap() / expected - 1.0).abs() < 0.02, "{arithmetic:?}");
    assert_eq!(arithmetic.source, "model's cost in fp16, data sheet");
    let findings = &diagnosis.judgement.findings;
    assert!(
        findings.iter().any(|it| it.starts_with("no counter tells what the device does")),
        "{findings:?}"
    );
}

/// Rebuilds a zoo network for the simulated H100 as the command line does.
fn rebuilt(network: Network, variant: EngineVariant, batch: usize) -> Result<Workload, String> {
    let model = Model::from_proto(network.generate(0), "network.onnx").unwrap();
    let line = || InputType::U8 { scale: vec![1.0], shift: vec![0.0] };
    let retyped = variant.input_type.map(|it| if it == DataType::U8 { line() } else { InputType::F16 });
    let model = retyped.map_or(Ok(model.clone()), |to| Ok(with_inputs(&model, &to)?.0));
    let model = model.map_err(|error: thalweg::Error| error.to_string())?;
    let precision = variant.precision.unwrap_or_default();
    let spec = WorkloadSpec {
        max_batch: MaxBatch::UpTo(batch),
        options: BuildOptions { precision, ..BuildOptions::default() },
        ..WorkloadSpec::default()
    };
    let backend = SimulatedBackend::preset("h100").unwrap();
    Workload::prepare(&backend, &model, &spec).map_err(|error| error.to_string())
}

#[test]
fn a_diagnosis_says_what_each_resource_is_asked_for_and_what_other_numbers_of_streams_reach() {
    let one_stream = Configuration { cuda_graph: CudaGraph::Compute, ..Configuration::default() };
    let diagnosis = diagnosed(&workload(Network::Underfilled), one_stream, 3);
    let outlook = diagnosis.outlook.unwrap();
    let copies = diagnosis.measurement.stages.h2d.as_seconds();
    let asked = outlook.demands.h2d_engine.unwrap().seconds;
    assert!((asked / copies - 1.0).abs() < 0.01, "{asked} {copies}");
    assert_eq!(outlook.curve.points.iter().map(|it| it.streams).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32]);
    let reached = |streams: usize| {
        let point = outlook.curve.points.iter().find(|it| it.streams == streams).unwrap();
        point.prediction.throughput.value
    };
    let measured = diagnosis.measurement.throughput_inferences_per_s.value;
    assert!((reached(1) / measured - 1.0).abs() < 0.05, "{} {measured}", reached(1));
    // What twice the streams were tried to gain is no surprise to it.
    let twice = diagnosis.remedies.iter().find(|it| it.knob == Knob::Streams).unwrap();
    let (predicted, tried) = (reached(2) / reached(1), twice.ratio().unwrap().value);
    assert!((predicted / tried - 1.0).abs() < 0.15, "{predicted} {tried}");
    assert!(reached(8) > 2.0 * reached(1), "an empty device has room");
}

#[test]
fn nothing_is_said_of_fewer_streams_than_were_measured() {
    let workload = workload(Network::Memory);
    let eight = Configuration {
        streams: 8,
        batch_size: 8,
        cuda_graph: CudaGraph::Compute,
        ..Configuration::default()
    };
    let told = |tries| {
        let points = diagnosed(&workload, eight, tries).outlook.unwrap().curve.points.into_iter();
        points.map(|it| (it.streams, it.prediction.throughput.value)).collect::<BTreeMap<_, _>>()
    };
    let (without_one, with_one) = (told(0), told(1));
    assert_eq!(without_one.keys().copied().collect::<Vec<_>>(), [8, 16, 32]);
    assert_eq!(with_one.keys().copied().collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32]);
    // One leaves little of DRAM to the others; eight alone look as if each of them were as fast by itself.
    assert!(with_one[&8] < 1.5 * with_one[&1], "{with_one:?}");
}

#[test]
fn what_more_requests_gain_is_known_from_one_stream_that_had_enough() {
    let workload = workload(Network::Resnet50);
    let configuration =
        Configuration { streams: 8, cuda_graph: CudaGraph::Compute, ..Configuration::default() };
    let full = case(&workload, configuration, 1);
    let load = Load { arrival: Arrival::Concurrency(2), ..full.setup.load };
    let few = diagnose::Case { setup: Setup { load, ..full.setup }, ..full };
    let diagnosis = diagnose::diagnose(&few, &StopSignal::default(), &mut |_| {}).unwrap();
    assert_eq!(diagnosis.judgement.verdict, Verdict::InputStarved);
    let more = &diagnosis.remedies[0];
    assert_eq!(more.knob, Knob::Load);
    assert_near(more);
    // What was measured is no pool of eight streams that all have work, and is not taken for one.
    let outlook = diagnosis.outlook.as_ref().unwrap();
    let of_eight = outlook.curve.points.iter().find(|it| it.streams == 8).unwrap();
    let gained =
        of_eight.prediction.throughput.value / diagnosis.measurement.throughput_inferences_per_s.value;
    assert!(gained > 2.0, "{gained} {:?}", more.ratio());
}

#[test]
fn a_feed_that_is_too_slow_hides_what_streams_would_reach() {
    let workload = workload(Network::Resnet50);
    let slow = |outstanding: Option<usize>| {
        let configuration = Configuration {
            streams: 4,
            cuda_graph: CudaGraph::Compute,
            fault: Some(PlantedFault::SlowFeed(Nanos(5_000_000))),
            ..Configuration::default()
        };
        let full = case(&workload, configuration, 1);
        let arrival = outstanding.map_or(full.setup.load.arrival, Arrival::Concurrency);
        let load = Load { arrival, ..full.setup.load };
        let slow = diagnose::Case { setup: Setup { load, ..full.setup }, ..full };
        diagnose::diagnose(&slow, &StopSignal::default(), &mut |_| {}).unwrap()
    };
    // With two requests outstanding one stream asks for both of its slots, and has no work for them either.
    let [full, few] = [None, Some(2)].map(slow);
    for diagnosis in [&full, &few] {
        assert_eq!(diagnosis.judgement.verdict, Verdict::InputStarved);
        assert!(diagnosis.outlook.is_none(), "{:?}", diagnosis.outlook);
    }
    // What takes 5 ms whatever it holds gains all of a larger batch.
    let batch = full.remedies.iter().find(|it| it.knob == Knob::Batch && it.ratio().is_some());
    assert_near(batch.unwrap());
}

/// Diagnoses with other engines at hand, or none.
fn diagnosed_with_engines(network: Network, batch_size: usize, has_model: bool) -> Diagnosis {
    let model = Model::from_proto(network.generate(0), "network.onnx").unwrap();
    let paper =
        PaperWorkload::of(&model, &BTreeMap::new(), batch_size, (DataType::F32, Precision::Fp16)).unwrap();
    let workload = rebuilt(network, EngineVariant::default(), batch_size).unwrap();
    let configuration =
        Configuration { streams: 4, batch_size, cuda_graph: CudaGraph::Compute, ..Configuration::default() };
    let build = |variant, batch| rebuilt(network, variant, batch);
    let case = diagnose::Case {
        model: if has_model { Ok(&paper) } else { Err(NO_MODEL) },
        rebuild: if has_model { Ok(Rebuild { build: &build, may_grow: false }) } else { Err(NO_MODEL) },
        ..case(&workload, configuration, 3)
    };
    diagnose::diagnose(&case, &StopSignal::default(), &mut |_| {}).unwrap()
}

const NO_MODEL: &str = "the engine came without its model";

fn remedy(diagnosis: &Diagnosis, variant: EngineVariant) -> &Remedy {
    diagnosis.remedies.iter().find(|remedy| remedy.setup.engine == variant).unwrap()
}

fn assert_near(remedy: &Remedy) {
    let ratio = remedy.ratio().unwrap().value;
    let error = (remedy.predicted.value - ratio).abs();
    assert!(error <= (0.15 * ratio).max(0.05), "{remedy}: predicted {:?}, was {ratio:.2}", remedy.predicted);
}

#[test]
fn smaller_inputs_are_built_and_tried_where_the_bus_is_full() {
    let diagnosis = diagnosed_with_engines(Network::Transfer, 8, true);
    assert_eq!(diagnosis.judgement.verdict, Verdict::TransferBound);
    let bytes = EngineVariant { input_type: Some(DataType::U8), ..EngineVariant::default() };
    let tried = remedy(&diagnosis, bytes);
    assert_eq!((tried.knob, tried.to_string()), (Knob::InputType, "inputs as u8".to_owned()));
    assert!(tried.ratio().unwrap().lower > 2.0, "{tried:?}");
    assert!(tried.build.is_some() && tried.rests_on.is_some());
    assert_near(tried);
    assert_near(remedy(&diagnosis, EngineVariant { input_type: Some(DataType::F16), ..bytes }));
    let gained = diagnosis.gained.unwrap();
    assert_eq!(gained.setup.engine, bytes);
    assert!(gained.ratio.lower > 2.0, "{gained:?}");
}

#[test]
fn a_lower_precision_is_built_and_tried_where_the_sms_are_full() {
    let diagnosis = diagnosed_with_engines(Network::Compute, 8, true);
    assert_eq!(diagnosis.judgement.verdict, Verdict::ComputeBound);
    let int8 = EngineVariant { precision: Some(Precision::Int8), ..EngineVariant::default() };
    let tried = remedy(&diagnosis, int8);
    assert_eq!((tried.knob, tried.to_string()), (Knob::Precision, "precision int8".to_owned()));
    assert!(tried.rests_on.as_ref().unwrap().contains("by the model's roofline"), "{tried:?}");
    assert!(tried.ratio().unwrap().lower > 1.2, "{tried:?}");
    assert_near(tried);
    // What is not the limit is predicted as well, and not built.
    let bytes =
        remedy(&diagnosis, EngineVariant { input_type: Some(DataType::U8), ..EngineVariant::default() });
    assert!(bytes.predicted.value < 1.05 && bytes.tried.is_none(), "{bytes:?}");
}

#[test]
fn a_lower_precision_is_built_and_tried_where_dram_is_full() {
    let diagnosis = diagnosed_with_engines(Network::Memory, 8, true);
    assert_eq!(diagnosis.judgement.verdict, Verdict::MemoryBound);
    let int8 = EngineVariant { precision: Some(Precision::Int8), ..EngineVariant::default() };
    let tried = remedy(&diagnosis, int8);
    assert!(tried.ratio().unwrap().lower > 1.2, "{tried:?}");
    assert_near(tried);
}

#[test]
fn without_the_model_other_engines_are_predicted_and_the_reason_why_they_are_not_tried_is_said() {
    for (network, knob) in [(Network::Transfer, Knob::InputType), (Network::Compute, Knob::Precision)] {
        let diagnosis = diagnosed_with_engines(network, 8, false);
        let first = diagnosis.remedies.iter().find(|it| it.knob == knob).unwrap();
        assert!(first.predicted.value > 1.1, "{first:?}");
        assert_eq!(first.tried, Some(Tried::Untried(NO_MODEL.to_owned())));
        for side in [Quantity::PaperArithmetic, Quantity::PaperTraffic] {
            let reading = diagnosis.evidence.reading(side).unwrap();
            assert_eq!((reading.value, reading.source.as_str()), (None, NO_MODEL));
        }
        // They take no place among those that are tried.
        let tried = diagnosis.remedies.iter().filter(|it| it.ratio().is_some()).count();
        let in_pool = |it: &&Remedy| it.setup.engine.is_given() && it.predicted.upper >= 1.02;
        let worth = diagnosis.remedies.iter().filter(in_pool);
        let fits = worth.filter(|it| it.setup.configuration.batch_size <= 8).count();
        assert_eq!(tried, fits.min(3));
    }
}
