//! What is measured next on devices whose every candidate is known.

use super::*;
use crate::backend::Counters;
use crate::measure::{Estimate, StageSummary};
use crate::tune::synthetic::slice;
use crate::units::Nanos;

fn space() -> Vec<Configuration> {
    let mut candidates = Vec::new();
    for streams in [1, 2, 4, 8] {
        for batch_size in [1, 4, 16, 64] {
            for cuda_graph in CudaGraph::ALL {
                candidates.push(Configuration { streams, batch_size, cuda_graph, ..Default::default() });
            }
        }
    }
    candidates
}

/// A device that one stream fills: 1 ms and 0.1 ms for each sample, 0.5 ms to launch without a graph.
fn full_device(configuration: &Configuration) -> Slice {
    let batch = configuration.batch_size as f64;
    let launching = if configuration.cuda_graph == CudaGraph::Off { 0.5e-3 } else { 10e-6 };
    let alone = 1e-3 + 0.1e-3 * batch;
    let throughput = batch / alone;
    let compute = Nanos::from_seconds(configuration.streams as f64 * alone);
    let counters = Counters { dram_utilisation: Some(0.84), sm_activity: Some(1.0), ..Counters::default() };
    Slice {
        throughput_inferences_per_s: Estimate {
            value: throughput,
            lower: 0.995 * throughput,
            upper: 1.005 * throughput,
        },
        stages: StageSummary { enqueue: Nanos::from_seconds(launching), compute, ..Default::default() },
        counters: Some(counters),
        ..slice(throughput)
    }
}

/// By Little's law.
fn slice_latency(configuration: &Configuration, throughput: f64) -> Nanos {
    let in_flight = configuration.streams * configuration.depth * configuration.batch_size;
    Nanos::from_seconds(in_flight as f64 / throughput)
}

fn explore(measure: impl Fn(&Configuration) -> Slice, limits: Limits) -> (Exploration, Vec<usize>) {
    explore_all(&space(), measure, limits)
}

fn explore_all(
    candidates: &[Configuration],
    measure: impl Fn(&Configuration) -> Slice,
    limits: Limits,
) -> (Exploration, Vec<usize>) {
    let mut exploration = Exploration::new(candidates, limits, None);
    let (mut leader, mut order): (Option<Leader>, _) = (None, Vec::new());
    while let Some(candidate) = exploration.choose(candidates, leader) {
        let slice = measure(&candidates[candidate]);
        let throughput = slice.throughput_inferences_per_s.value;
        if leader.is_none_or(|leader| leader.throughput < throughput) {
            let latency = slice_latency(&candidates[candidate], throughput);
            leader = Some(Leader { candidate, throughput, latency });
        }
        exploration.learn(candidate, candidates, &slice);
        order.push(candidate);
    }
    (exploration, order)
}

#[test]
fn on_a_full_device_few_candidates_are_measured_and_the_best_is_among_them() {
    let (_, order) = explore(full_device, Limits::default());
    assert!(order.len() <= LEAST_EXPLORED, "{order:?}");
    assert!(order.iter().any(|index| space()[*index].batch_size == 64), "{order:?}");
}

#[test]
fn a_measured_candidate_keeps_what_was_predicted_before() {
    let (exploration, order) = explore(full_device, Limits::default());
    // The first was measured before anything was known.
    assert!(exploration.prediction(order[0]).is_none());
    let last = *order.last().unwrap();
    let measured = full_device(&space()[last]).throughput_inferences_per_s.value;
    let predicted = exploration.prediction(last).unwrap().throughput;
    assert!(predicted.lower < measured && measured < predicted.upper, "{predicted:?} {measured}");
}

#[test]
fn without_stage_times_every_candidate_is_measured() {
    let (_, order) = explore(|_| slice(100.0), Limits::default());
    assert_eq!(order.len(), space().len());
}

#[test]
fn a_latency_far_above_the_limit_is_not_measured_beyond_the_probes() {
    let limits = Limits { p99: Some(Nanos(3_000_000)), memory_bytes: None };
    let (_, order) = explore(full_device, limits);
    let beyond = order.iter().skip(6).map(|index| space()[*index].batch_size);
    assert!(beyond.clone().all(|batch_size| batch_size < 64), "{:?}", beyond.collect::<Vec<_>>());
}

#[test]
fn the_best_one_is_measured_with_every_kind_of_graph() {
    let (_, order) = explore(full_device, Limits::default());
    let throughput = |index: &usize| full_device(&space()[*index]).throughput_inferences_per_s.value;
    // Of several that are alike the first one leads.
    let best = *order.iter().rev().max_by(|a, b| throughput(a).total_cmp(&throughput(b))).unwrap();
    let Configuration { streams, batch_size, .. } = space()[best];
    for cuda_graph in CudaGraph::ALL {
        let wanted = Configuration { streams, batch_size, cuda_graph, ..Configuration::default() };
        assert!(order.iter().any(|index| space()[*index] == wanted), "{wanted}");
    }
}

#[test]
fn a_kind_of_graph_that_the_backend_refuses_is_tried_twice_and_no_more() {
    let refuse = |configuration: &Configuration| match configuration.cuda_graph {
        CudaGraph::Off => full_device(configuration),
        _ => Slice { failure: Some("it cannot be captured".to_owned()), ..slice(0.0) },
    };
    let (_, order) = explore(refuse, Limits::default());
    for kind in [CudaGraph::Compute, CudaGraph::Copies] {
        let tried = order.iter().filter(|index| space()[**index].cuda_graph == kind).count();
        assert!(tried <= REFUSED_AFTER, "{kind:?}: {tried}");
    }
    assert!(order.iter().any(|index| space()[*index].batch_size == 64), "{order:?}");
}

#[test]
fn a_chance_is_that_of_a_normal_variable() {
    let ahead = Ahead { mean: 1.03_f64.ln() - 0.2, deviation: 0.1 };
    assert!((ahead.chance_of(0.03) - 0.022_75).abs() < 1e-4);
}

#[test]
fn an_expected_improvement_is_what_integration_gives() {
    // Integrated numerically: a normal variable of mean -0.05 and deviation 0.1, above zero.
    assert!((expected_improvement(-0.05, 0.1) - 0.019_780).abs() < 1e-5);
    assert_eq!((expected_improvement(0.2, 0.0), expected_improvement(-0.2, 0.0)), (0.2, 0.0));
}

#[test]
fn the_best_one_known_is_tried_with_each_way_to_wait_and_no_other() {
    let with_waits = |it: Configuration| [Wait::Block, Wait::Spin].map(|wait| Configuration { wait, ..it });
    let candidates: Vec<Configuration> = space().into_iter().flat_map(with_waits).collect();
    let (_, plain) = explore(full_device, Limits::default());
    let (_, order) = explore_all(&candidates, full_device, Limits::default());
    let measured = |wait| order.iter().map(|it| candidates[*it]).filter(move |it| it.wait == wait);
    let asking: Vec<Configuration> = measured(Wait::Spin).collect();
    let spinning = |it: &usize| Configuration { wait: Wait::Spin, ..space()[*it] };
    assert_eq!(asking, plain.iter().map(spinning).collect::<Vec<_>>());
    let throughput = |it: &Configuration| full_device(it).throughput_inferences_per_s.value;
    let best = asking.iter().map(throughput).fold(0.0, f64::max);
    let asleep: Vec<Configuration> = measured(Wait::Block).collect();
    assert!(asleep.len() == 1 && throughput(&asleep[0]) == best, "{asleep:?}");
}

#[test]
fn where_streams_share_copy_lanes_they_are_measured_as_others_are() {
    // As a space lists them: no lanes where they would not be shared.
    let shared = |mut candidate: Configuration| {
        let is_shared = candidate.streams > 2 && candidate.cuda_graph != CudaGraph::Copies;
        candidate.copy_lanes = is_shared.then_some(2);
        candidate
    };
    let candidates: Vec<Configuration> = space().into_iter().map(shared).collect();
    let (_, order) = explore_all(&candidates, full_device, Limits::default());
    let (_, as_before) = explore(full_device, Limits::default());
    assert_eq!(order, as_before);
    let (exploration, _) = explore_all(&candidates, full_device, Limits::default());
    assert!((0..candidates.len()).all(|it| exploration.usual.is(&candidates[it])));
}
