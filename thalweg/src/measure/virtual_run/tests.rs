use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::backend::simulated::SimulatedBackend;
use crate::backend::{CudaGraph, Transfers, Wait};
use crate::engine::MaxBatch;
use crate::error::{Error, Result};
use crate::measure::{
    Arrival, Load, Measurement, Pacing, Record, Stability, StopSignal, Workload, WorkloadSpec,
};
use crate::model::Model;
use crate::model::zoo::Network;
use crate::pool::Configuration;
use crate::pool::faults::{self, Fault};
use crate::units::Nanos;

fn workload(network: Network) -> Workload {
    let model = Model::from_proto(network.generate(0), "network.onnx").unwrap();
    let backend = SimulatedBackend::preset("h100").unwrap();
    let spec = WorkloadSpec { max_batch: MaxBatch::Exactly(8), ..WorkloadSpec::default() };
    Workload::prepare(&backend, &model, &spec).unwrap()
}

fn eight_streams() -> Configuration {
    Configuration { streams: 8, cuda_graph: CudaGraph::Compute, ..Configuration::default() }
}

fn closed_loop(count: usize) -> Load {
    Load { arrival: Arrival::Concurrency(count), samples_per_request: 1 }
}

fn run(workload: &Workload, configuration: Configuration, load: Load, time: Duration) -> Result<Measurement> {
    let pacing = Pacing { warm_up: time / 10, window: time, max_windows: 1, longest: None };
    workload.experiment(configuration, load, pacing).run(&StopSignal::default())
}

/// A number that any change of any record changes.
fn digest(measurement: &Measurement) -> u64 {
    let fold = |digest: u64, value: u64| (digest ^ value).wrapping_mul(0x0100_0000_01b3);
    let times = measurement.records.iter().flat_map(|record| {
        let stages = record.stages;
        [record.sequence, record.submitted.0, stages.enqueue.end.0, stages.compute.end.0, record.readable.0]
    });
    times.fold(0xcbf2_9ce4_8422_2325, fold)
}

#[test]
fn the_same_seed_gives_the_same_records_on_every_machine() {
    let second = Duration::from_secs(1);
    let once = || run(&workload(Network::Underfilled), eight_streams(), closed_loop(16), second).unwrap();
    let (first, again) = (once(), once());
    assert_eq!(first.records, again.records);
    // Computed once; arithmetic that rounds differently on another machine would change it.
    assert_eq!(digest(&first), 0x3994_5121_1aa7_bb0f, "{:#x}", digest(&first));
}

#[test]
fn two_runs_of_one_engine_differ_by_noise() {
    let workload = workload(Network::Underfilled);
    let throughput = || {
        let run = run(&workload, eight_streams(), closed_loop(16), Duration::from_millis(200)).unwrap();
        run.throughput_inferences_per_s.value
    };
    let (first, second) = (throughput(), throughput());
    assert!(first != second && (first / second - 1.0).abs() < 0.02, "{first} {second}");
}

fn thread_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("a time since the thread's start")
}

#[test]
fn ten_virtual_seconds_with_eight_streams_take_less_than_one() {
    let workload = workload(Network::Resnet50);
    // This thread's own time, so that other work on the machine does not count, and the best of three, since whoever works on the
    // other hyperthread of its core does.
    let took = || {
        let start = thread_time();
        let measured = run(&workload, eight_streams(), closed_loop(16), Duration::from_secs(10)).unwrap();
        assert!(measured.records.len() > 50_000);
        thread_time() - start
    };
    // Unoptimised code is an order of magnitude slower.
    let bound = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 1 });
    let mut all = Vec::new();
    while all.len() < 3 && all.last().is_none_or(|last| *last >= bound) {
        all.push(took());
    }
    assert!(all.last() < Some(&bound), "{all:?}");
}

#[test]
fn an_open_loop_below_capacity_is_answered_at_its_rate() {
    let load = Load { arrival: Arrival::ConstantRate(1_000.0), samples_per_request: 1 };
    let measured = run(&workload(Network::Resnet50), eight_streams(), load, Duration::from_secs(1)).unwrap();
    let rate = measured.throughput_inferences_per_s.value;
    assert!((rate - 1_000.0).abs() < 5.0, "{rate}");
    // Alone, an execution takes about half a millisecond.
    assert!(measured.latency.p50.as_millis() < 1.0, "{}", measured.latency.p50);
}

#[test]
fn a_pool_that_is_asked_little_says_that_it_lacks_input() {
    let workload = workload(Network::Resnet50);
    let starved = |load| {
        let measured = run(&workload, eight_streams(), load, Duration::from_millis(200)).unwrap();
        measured.starved_share.unwrap()
    };
    let little = starved(Load { arrival: Arrival::ConstantRate(100.0), samples_per_request: 1 });
    let enough = starved(closed_loop(16));
    assert!(little > 0.9 && enough < 0.05, "{little} {enough}");
}

fn batches_of_eight() -> Configuration {
    Configuration { batch_size: 8, cuda_graph: CudaGraph::Compute, ..Configuration::default() }
}

#[test]
fn a_request_waits_since_it_might_have_been_sent() {
    let workload = workload(Network::Resnet50);
    let with = |count| run(&workload, eight_streams(), closed_loop(count), Duration::from_secs(1)).unwrap();
    for count in [16, 1_000] {
        // Little's law: what is outstanding is what comes a second times how long each takes.
        let measured = with(count);
        let there = measured.throughput_inferences_per_s.value * measured.latency.mean.as_seconds();
        assert!((there / count as f64 - 1.0).abs() < 0.05, "{there} of {count}");
    }
}

#[test]
fn small_requests_share_slots() {
    let workload = workload(Network::Resnet50);
    let with = |load| {
        let measured = run(&workload, batches_of_eight(), load, Duration::from_millis(500)).unwrap();
        measured.throughput_inferences_per_s.value
    };
    let whole = with(Load { arrival: Arrival::Concurrency(2), samples_per_request: 8 });
    for samples_per_request in [1, 2, 4] {
        let count = 16 / samples_per_request;
        let small = with(Load { arrival: Arrival::Concurrency(count), samples_per_request });
        assert!(small > 0.97 * whole, "{samples_per_request}: {small} {whole}");
    }
    // Where the thread that enqueues is what limits, only what comes meanwhile fills slots.
    let slow_calls = Configuration { streams: 8, cuda_graph: CudaGraph::Off, ..batches_of_eight() };
    let with_slow_calls = |count, samples_per_request| {
        let load = Load { arrival: Arrival::Concurrency(count), samples_per_request };
        let measured = run(&workload, slow_calls, load, Duration::from_millis(500)).unwrap();
        measured.throughput_inferences_per_s.value
    };
    let (eight, one) = (with_slow_calls(16, 8), with_slow_calls(128, 1));
    assert!(one > 0.95 * eight, "{one} {eight}");
    // An open loop of single samples, 0.8 of what whole batches reach.
    let rate = 0.8 * whole;
    let kept = with(Load { arrival: Arrival::PoissonRate(rate), samples_per_request: 1 });
    assert!((kept / rate - 1.0).abs() < 0.05, "{kept} {rate}");
}

#[test]
fn lone_requests_are_answered_by_small_executions() {
    let workload = workload(Network::Resnet50);
    let load = Load { arrival: Arrival::Concurrency(1), samples_per_request: 1 };
    let latency = |configuration| {
        let measured = run(&workload, configuration, load, Duration::from_millis(200)).unwrap();
        assert!(measured.records.iter().all(|it| it.execution_samples.unwrap_or(it.batch_size) == 1));
        measured.latency.p50.as_seconds()
    };
    let (whole, small) = (latency(batches_of_eight()), latency(batches_of_eight().for_requests_of(1)));
    assert!(small < 0.8 * whole, "{small} {whole}");
    let alone = latency(Configuration { batch_size: 1, ..batches_of_eight() });
    assert!((small / alone - 1.0).abs() < 0.05, "{small} {alone}");
}

#[test]
fn a_measurement_ends_when_its_longest_time_is_up() {
    let workload = workload(Network::Resnet50);
    let load = Load { arrival: Arrival::PoissonRate(2.0), samples_per_request: 1 };
    let with = |longest| {
        let tenth = Duration::from_millis(300);
        let pacing = Pacing { warm_up: tenth, window: tenth, max_windows: 10, longest };
        let measured =
            workload.experiment(Configuration::default(), load, pacing).run(&StopSignal::default());
        measured.unwrap()
    };
    let short = with(Some(Duration::from_secs(3)));
    let took = short.windows.last().unwrap().end - short.windows[0].start;
    assert!((2.0..6.0).contains(&took.as_seconds()), "{took}");
    assert!(short.remarks.is_empty() && short.stability == Stability::TooShort, "{:?}", short.remarks);
    let whole = with(None);
    let took = whole.windows.last().unwrap().end - whole.windows[0].start;
    assert!(took.as_seconds() > 10.0, "{took}");
}

#[test]
fn each_seed_has_arrivals_of_its_own() {
    let load = Load { arrival: Arrival::PoissonRate(500.0), samples_per_request: 1 };
    let first_gap = |seed| {
        let workload = Workload { seed, ..workload(Network::Underfilled) };
        let measured = run(&workload, eight_streams(), load, Duration::from_millis(300)).unwrap();
        measured.records[1].intended - measured.records[0].intended
    };
    assert_ne!(first_gap(1), first_gap(2));
    assert_eq!(first_gap(1), first_gap(1));
}

#[test]
fn without_transfers_each_slot_copies_once() {
    let workload = workload(Network::Resnet50);
    let with = |transfers| {
        let configuration = Configuration { transfers, ..Configuration::default() };
        run(&workload, configuration, closed_loop(1), Duration::from_millis(200)).unwrap()
    };
    let (on, off) = (with(Transfers::On), with(Transfers::Off));
    assert!(on.stages.h2d > Nanos::ZERO && on.stages.d2h > Nanos::ZERO);
    let copied = |record: &Record| record.stages.h2d.end > record.stages.h2d.start;
    assert!(
        on.records.iter().all(copied) && !off.records.iter().any(copied),
        "the warm-up had the first ones"
    );
    assert_eq!(off.verification.verified_slots, 1, "one outstanding request stays in one slot");
    assert!(off.latency.p50 < on.latency.p50, "{} {}", off.latency.p50, on.latency.p50);
}

#[test]
fn a_copy_lane_for_each_stream_is_what_each_has_of_its_own() {
    let with = |copy_lanes| {
        let configuration = Configuration { copy_lanes, ..eight_streams() };
        let workload = workload(Network::Resnet50);
        run(&workload, configuration, closed_loop(16), Duration::from_millis(50)).unwrap().records
    };
    assert_eq!(with(None), with(Some(8)));
}

#[test]
fn in_virtual_time_every_way_to_wait_is_the_same() {
    let with = |wait| {
        let configuration = Configuration { wait, ..eight_streams() };
        let workload = workload(Network::Launch);
        run(&workload, configuration, closed_loop(16), Duration::from_millis(10)).unwrap().records
    };
    let [first, others @ ..] = Wait::ALL.map(with);
    assert!(others.iter().all(|other| *other == first));
}

#[test]
fn copies_of_one_lane_leave_in_the_order_in_which_executions_were_submitted() {
    let overtaking = |copy_lanes| {
        let configuration = Configuration { copy_lanes, ..eight_streams() };
        let workload = workload(Network::Resnet50);
        let measured = run(&workload, configuration, closed_loop(16), Duration::from_millis(50)).unwrap();
        assert!(measured.verification.verified_samples > 0);
        let mut stages: Vec<_> = measured.records.iter().map(|record| record.stages).collect();
        stages.sort_by_key(|stages| stages.enqueue.start);
        stages.windows(2).filter(|pair| pair[1].d2h.start < pair[0].d2h.start).count()
    };
    assert_eq!(overtaking(Some(1)), 0);
    assert!(overtaking(None) > 0);
}

#[test]
fn copy_lanes_that_nobody_shares_are_refused() {
    let refused = |configuration: Configuration| {
        let load = closed_loop(16);
        let run = run(&workload(Network::Launch), configuration, load, Duration::from_millis(10));
        run.map(drop).unwrap_err().to_string()
    };
    let with = |copy_lanes| Configuration { copy_lanes: Some(copy_lanes), ..eight_streams() };
    assert_eq!(refused(with(0)), "copy-lanes 0: must be at least 1");
    assert_eq!(refused(with(9)), "copy-lanes 9: there are only 8 streams to share them");
    let inside = Configuration { cuda_graph: CudaGraph::Copies, ..with(2) };
    assert!(refused(inside).starts_with("copy-lanes 2: a graph of copies has them inside"));
}

#[test]
fn a_graph_with_its_copies_cannot_leave_them_out() {
    let configuration =
        Configuration { cuda_graph: CudaGraph::Copies, transfers: Transfers::Off, ..eight_streams() };
    let load = closed_loop(16);
    let refused = run(&workload(Network::Launch), configuration, load, Duration::from_millis(10)).map(drop);
    let Err(error @ Error::InvalidSetting { name: "transfers", .. }) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().ends_with("use --cuda-graph compute or off"), "{error}");
}

#[test]
fn submitters_that_share_a_driver_are_slower_than_one_with_a_graph() {
    let workload = workload(Network::Launch);
    let with = |submitters, cuda_graph| {
        let configuration = Configuration { streams: 8, submitters, cuda_graph, ..Configuration::default() };
        let run = run(&workload, configuration, closed_loop(16), Duration::from_millis(500)).unwrap();
        run.throughput_inferences_per_s.value
    };
    let (one, many) = (with(1, CudaGraph::Off), with(8, CudaGraph::Off));
    let graph = with(1, CudaGraph::Compute);
    assert!(many < 0.6 * one && one < 0.2 * graph, "{many} {one} {graph}");
}

#[test]
fn room_that_is_reused_too_early_shows_as_a_wrong_output() {
    let workload = workload(Network::Underfilled);
    let batching_delay = Nanos(1_000_000);
    let configuration = Configuration { batch_size: 4, batching_delay, ..Configuration::default() };
    let measured = || run(&workload, configuration, closed_loop(16), Duration::from_millis(100));
    assert!(measured().is_ok());
    let found = faults::with(Fault::RoomReusedTooEarly, measured).map(drop);
    assert!(matches!(found, Err(Error::WrongResult { .. })), "{found:?}");
}

#[test]
fn a_lost_completion_is_found() {
    let workload = workload(Network::Underfilled);
    let measured = || run(&workload, eight_streams(), closed_loop(16), Duration::from_millis(100));
    let found = faults::with(Fault::LostCompletion(40), measured).map(drop);
    let Err(Error::Bug(reason)) = found else { panic!("{found:?}") };
    assert!(reason.contains("a completion was lost"), "{reason}");
}

/// At the end a slot may be waited for that holds room which nobody fills any more.
#[test]
fn a_measurement_of_small_requests_ends_wherever_it_is_cut() {
    let workload = workload(Network::Launch);
    for (streams, submitters, samples_per_request) in [(2, 1, 4), (2, 2, 1), (4, 2, 1), (4, 1, 3)] {
        let configuration = Configuration { streams, submitters, ..batches_of_eight() };
        for (count, milliseconds) in [(3, 40), (16, 50), (100, 61), (1_000, 70)] {
            let load = Load { samples_per_request, ..closed_loop(count) };
            let measured = run(&workload, configuration, load, Duration::from_millis(milliseconds));
            assert!(measured.is_ok(), "{streams} {submitters} {count}: {:?}", measured.map(drop));
        }
    }
}

#[test]
fn more_small_requests_than_a_queue_holds_are_no_failure() {
    let spec = WorkloadSpec { max_batch: MaxBatch::Exactly(8192), ..WorkloadSpec::default() };
    let model = Model::from_proto(Network::Launch.generate(0), "network.onnx").unwrap();
    let workload = Workload::prepare(&SimulatedBackend::preset("h100").unwrap(), &model, &spec).unwrap();
    let configuration = Configuration { batch_size: 8192, ..batches_of_eight() };
    let measured = run(&workload, configuration, closed_loop(20_000), Duration::from_millis(20));
    assert!(measured.is_ok(), "{:?}", measured.map(drop));
}
