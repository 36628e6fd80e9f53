//! Diagnoses of simulated devices: the labelled suite, hidden counters, and remedies that are tried.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod blind;
mod cases;

use std::sync::Arc;
use std::time::Duration;

use blind::BlindEngine;
use cases::{Case, Labelled, suite};
use thalweg::backend::simulated::SimulatedBackend;
use thalweg::backend::{Backend, CudaGraph};
use thalweg::diagnose::{self, Confidence, Diagnosis, Knob, Quantity, Setup, Verdict};
use thalweg::engine::MaxBatch;
use thalweg::measure::{Arrival, Load, Pacing, StopSignal, Workload, WorkloadSpec};
use thalweg::model::Model;
use thalweg::model::zoo::Network;
use thalweg::pool::Configuration;

/// Part of the suite that has to be judged right.
const RIGHT: f64 = 0.95;

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

#[test]
fn without_counters_no_verdict_about_the_device_is_sure_of_itself() {
    for labelled in suite() {
        let judgement = Case::of(labelled.seed).judged_without_counters();
        let is_about_the_host = matches!(
            judgement.verdict,
            Verdict::TransferBound
                | Verdict::EnqueueBound
                | Verdict::SynchronisationBound
                | Verdict::InputStarved
        );
        if !is_about_the_host {
            assert_eq!(judgement.confidence, Confidence::Low, "seed {}", labelled.seed);
            assert!(!judgement.missing.is_empty(), "seed {}", labelled.seed);
        }
    }
}

#[test]
fn what_host_and_bus_limit_is_seen_without_counters() {
    let needs_none = [Verdict::TransferBound, Verdict::EnqueueBound, Verdict::InputStarved];
    let suite: Vec<Labelled> =
        suite().into_iter().filter(|labelled| needs_none.contains(&labelled.label)).collect();
    let right = share(&suite, |labelled| {
        let judgement = Case::of(labelled.seed).judged_without_counters();
        labelled.right().contains(&judgement.verdict)
    });
    assert!(right >= 0.9, "{:.1} % are right", 100.0 * right);
}

fn workload(network: Network) -> Workload {
    let model = Model::from_proto(network.generate(0), "network.onnx").unwrap();
    let backend = SimulatedBackend::preset("h100").unwrap();
    assert!(backend.device().backend.starts_with("simulated:"));
    let spec = WorkloadSpec { max_batch: MaxBatch::UpTo(8), ..WorkloadSpec::default() };
    Workload::prepare(&backend, &model, &spec).unwrap()
}

fn diagnosed(workload: &Workload, configuration: Configuration, tries: usize) -> Diagnosis {
    let outstanding = configuration.streams * configuration.depth;
    let load =
        Load { arrival: Arrival::Concurrency(outstanding), samples_per_request: configuration.batch_size };
    let case = diagnose::Case {
        workload,
        setup: Setup { configuration, feeding: workload.feeding, load },
        pacing: Pacing { window: Duration::from_millis(300), ..Pacing::default() },
        tries,
        seed: 0,
        larger: None,
    };
    diagnose::diagnose(&case, &StopSignal::default(), &mut |_| {}).unwrap()
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
