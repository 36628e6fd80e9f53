//! Lanes over the stand-in driver: what runs in which order, who owns what, and what is left after failures.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::cuda::{CudaContext, EventClock, EventWait, PinnedMemory, Stream, StreamPriority};
use crate::stand_in::cuda::{DriverStandIn, Live};

/// The hunt that runs on a GPU too.
#[path = "../../tests/sequence/mod.rs"]
mod sequence;

use sequence::{Bug, Hunt, wrong_outputs};

mod cost;

const BYTE_COUNT: usize = 64;

/// A lane that copies its input to its output on the device.
struct Bench {
    context: Arc<CudaContext>,
    clock: EventClock,
    lane: Lane,
    host: HostBuffers,
    compute: Arc<Compute>,
    stand_in: DriverStandIn,
}

enum Streams {
    One,
    Three,
    Default,
}

impl Bench {
    fn new(test: &str, streams: &Streams) -> Self {
        Self::with_compute(test, streams, Compute::copies)
    }

    fn with_compute(
        test: &str,
        streams: &Streams,
        compute: impl FnOnce(Arc<Stream>) -> Arc<Compute>,
    ) -> Self {
        let stand_in = DriverStandIn::new(test);
        let context = stand_in.context();
        let stream = || Arc::new(Stream::new(&context, StreamPriority::Normal).unwrap());
        let streams = match streams {
            Streams::One => LaneStreams::single(&stream()),
            Streams::Three => LaneStreams { h2d: stream(), compute: stream(), d2h: stream() },
            Streams::Default => LaneStreams::single(&Arc::new(Stream::default_of(&context))),
        };
        let compute = compute(Arc::clone(&streams.compute));
        let lane = Lane::new(&LaneSpec {
            streams,
            input_byte_counts: vec![BYTE_COUNT],
            output_byte_counts: vec![BYTE_COUNT],
            wait: EventWait::AsContext,
        });
        let lane = lane.unwrap();
        let host = lane.host_buffers(PinnedMemory::WriteCombined).unwrap();
        let clock = EventClock::new(&context).unwrap();
        Self { context, clock, lane, host, compute, stand_in }
    }

    fn job(&self, graph: GraphScope) -> Job {
        Job {
            compute: Arc::clone(&self.compute),
            batch_size: 1,
            input_byte_counts: vec![BYTE_COUNT],
            output_byte_counts: vec![BYTE_COUNT],
            graph,
        }
    }

    fn prepare(&mut self, graph: GraphScope) -> JobId {
        let job = self.job(graph);
        self.lane.prepare(job, &mut self.host).unwrap()
    }

    /// Takes the host buffers out, the input filled.
    fn filled(&mut self, value: u8) -> HostBuffers {
        let empty = HostBuffers { inputs: Vec::new(), outputs: Vec::new() };
        let mut host = std::mem::replace(&mut self.host, empty);
        host.inputs[0].fill(value);
        host
    }
}

#[test]
fn each_kind_of_graph_brings_the_input_to_the_output_whatever_the_streams() {
    for (name, streams) in [("one", Streams::One), ("three", Streams::Three), ("default", Streams::Default)] {
        for graph in [GraphScope::Off, GraphScope::Compute, GraphScope::Copies] {
            let mut bench = Bench::new(&format!("lane-{name}-{graph:?}"), &streams);
            let job = bench.prepare(graph);
            for value in [1, 2, 3] {
                let host = bench.filled(value);
                bench.lane.launch(job, host).unwrap();
                let finished = bench.lane.wait(&bench.clock).unwrap();
                let times = finished.outcome.unwrap();
                let enqueue = times.enqueue;
                let times = times.stages.unwrap();
                assert_eq!(&finished.host.outputs[0][..], &[value; BYTE_COUNT], "{name} {graph:?}");
                assert_eq!(&finished.host.inputs[0][..], &[value; BYTE_COUNT]);
                assert!(times.h2d.start < times.h2d.end && times.h2d.end <= times.compute.start);
                assert!(times.compute.start < times.compute.end && times.compute.end <= times.d2h.start);
                assert!(times.d2h.start < times.d2h.end && enqueue.start <= enqueue.end);
                bench.host = finished.host;
            }
        }
    }
}

#[test]
fn pageable_memory_is_no_pinned_memory_and_is_kept_as_long() {
    let mut bench = Bench::new("lane-pageable", &Streams::Three);
    let pinned = bench.stand_in.live().host_buffers;
    bench.host = bench.lane.host_buffers(PinnedMemory::Pageable).unwrap();
    assert_eq!((pinned, bench.stand_in.live().host_buffers), (2, 0));
    let job = bench.prepare(GraphScope::Off);
    let host = bench.filled(6);
    bench.stand_in.set_delay(1);
    bench.lane.launch(job, host).unwrap();
    assert!(bench.lane.poll(&bench.clock).is_none(), "the buffers are still with the lane");
    let finished = bench.lane.poll(&bench.clock).unwrap();
    assert_eq!(&finished.host.outputs[0][..], &[6; BYTE_COUNT]);
    let times = finished.outcome.unwrap();
    assert!(times.copy_calls <= times.enqueue.end - times.enqueue.start, "{times:?}");
}

#[test]
fn lanes_on_the_default_stream_wait_for_each_other_and_leave_it_alone_at_their_end() {
    let mut bench = Bench::new("lane-default", &Streams::Default);
    let streams = LaneStreams::single(&Arc::new(Stream::default_of(&bench.context)));
    let compute = Compute::copies(Arc::clone(&streams.compute));
    let spec = LaneSpec {
        streams,
        input_byte_counts: vec![BYTE_COUNT],
        output_byte_counts: vec![BYTE_COUNT],
        wait: EventWait::AsContext,
    };
    let mut second = Lane::new(&spec).unwrap();
    let mut host = second.host_buffers(PinnedMemory::Cached).unwrap();
    let second_job = Job { compute, ..bench.job(GraphScope::Off) };
    let second_job = second.prepare(second_job, &mut host).unwrap();
    let first_job = bench.prepare(GraphScope::Off);
    let first_host = bench.filled(1);
    bench.lane.launch(first_job, first_host).unwrap();
    second.launch(second_job, host).unwrap();
    // The first one's work lies before the second one's, though nobody has asked for it.
    let late = second.wait(&bench.clock).unwrap().outcome.unwrap().stages.unwrap();
    let early = bench.lane.poll(&bench.clock).unwrap().outcome.unwrap().stages.unwrap();
    assert!(early.d2h.end <= late.h2d.start, "{early:?} {late:?}");
    let streams = bench.stand_in.live().streams;
    drop(second);
    assert_eq!(bench.stand_in.live().streams, streams);
}

#[test]
fn lanes_that_share_their_copy_streams_keep_their_numbers_apart() {
    let stand_in = DriverStandIn::new("lane-shared-copies");
    let context = stand_in.context();
    let stream = || Arc::new(Stream::new(&context, StreamPriority::Normal).unwrap());
    let (h2d, d2h, clock) = (stream(), stream(), EventClock::new(&context).unwrap());
    let lane = || {
        let streams = LaneStreams { h2d: Arc::clone(&h2d), compute: stream(), d2h: Arc::clone(&d2h) };
        let compute = Compute::copies(Arc::clone(&streams.compute));
        let (input_byte_counts, output_byte_counts) = (vec![BYTE_COUNT], vec![BYTE_COUNT]);
        let wait = EventWait::AsContext;
        let mut lane = Lane::new(&LaneSpec {
            streams,
            input_byte_counts: input_byte_counts.clone(),
            output_byte_counts: output_byte_counts.clone(),
            wait,
        })
        .unwrap();
        let mut host = lane.host_buffers(PinnedMemory::WriteCombined).unwrap();
        let graph = GraphScope::Compute;
        let job = Job { compute, batch_size: 1, input_byte_counts, output_byte_counts, graph };
        let job = lane.prepare(job, &mut host).unwrap();
        (lane, job, Some(host))
    };
    let mut lanes = [lane(), lane()];
    for value in [1, 2, 3] {
        for ((lane, job, host), base) in lanes.iter_mut().zip([0, 100]) {
            let mut filled = host.take().unwrap();
            filled.inputs[0].fill(base + value);
            lane.launch(*job, filled).unwrap();
        }
        for ((lane, _, host), base) in lanes.iter_mut().zip([0, 100]).rev() {
            let finished = lane.wait(&clock).unwrap();
            assert_eq!(&finished.host.outputs[0][..], &[base + value; BYTE_COUNT]);
            *host = Some(finished.host);
        }
    }
}

#[test]
fn a_job_is_finished_only_when_its_last_event_is_complete() {
    let mut bench = Bench::new("lane-late", &Streams::One);
    let job = bench.prepare(GraphScope::Off);
    let host = bench.filled(9);
    bench.stand_in.set_delay(2);
    bench.lane.launch(job, host).unwrap();
    assert!(bench.lane.poll(&bench.clock).is_none());
    assert!(bench.lane.poll(&bench.clock).is_none());
    let finished = bench.lane.poll(&bench.clock).unwrap();
    assert_eq!(finished.host.outputs[0][0], 9);
    assert!(!bench.lane.is_busy());
}

#[test]
fn inputs_come_back_as_soon_as_they_are_copied() {
    let mut bench = Bench::new("lane-inputs", &Streams::Three);
    let job = bench.prepare(GraphScope::Off);
    let host = bench.filled(5);
    bench.stand_in.set_delay(1);
    bench.lane.launch(job, host).unwrap();
    assert!(bench.lane.take_inputs().unwrap().is_none(), "they are not copied yet");
    let mut inputs = bench.lane.take_inputs().unwrap().unwrap();
    inputs[0].fill(0);
    assert!(bench.lane.poll(&bench.clock).is_none(), "the rest still runs");
    assert!(bench.lane.take_inputs().unwrap().is_none(), "they were taken");
    let finished = bench.lane.wait(&bench.clock).unwrap();
    assert_eq!(finished.host.outputs[0][0], 5);
    assert!(finished.host.inputs.is_empty());
}

#[test]
fn a_graph_with_its_copies_gives_its_inputs_back_at_its_end_only() {
    let mut bench = Bench::new("lane-inputs-graph", &Streams::One);
    let job = bench.prepare(GraphScope::Copies);
    let host = bench.filled(5);
    bench.lane.launch(job, host).unwrap();
    assert!(bench.lane.take_inputs().unwrap().is_none());
    let finished = bench.lane.wait(&bench.clock).unwrap();
    assert_eq!((finished.host.inputs[0][0], finished.host.outputs[0][0]), (5, 5));
}

#[test]
fn a_lane_dropped_in_flight_waits_before_its_memory_goes() {
    let mut bench = Bench::new("lane-dropped", &Streams::Three);
    let job = bench.prepare(GraphScope::Copies);
    let host = bench.filled(1);
    bench.lane.launch(job, host).unwrap();
    bench.stand_in.take_log();
    drop(bench.lane);
    let log = bench.stand_in.take_log();
    let first = |name: &str| log.iter().position(|call| call == name).unwrap();
    for freed in ["cuMemFree", "cuMemFreeHost", "cuEventDestroy", "cuGraphExecDestroy"] {
        assert!(first("cuEventSynchronize") < first(freed), "{freed}: {log:?}");
    }
    drop((bench.host, bench.compute, bench.clock, bench.context));
    assert_eq!(bench.stand_in.live(), Live::NOTHING);
}

#[test]
fn a_call_that_fails_half_way_waits_and_gives_the_buffers_back() {
    let mut bench = Bench::new("lane-refused", &Streams::Three);
    let job = bench.prepare(GraphScope::Off);
    let host = bench.filled(4);
    bench.stand_in.fail("cuMemcpyDtoDAsync", 2);
    bench.stand_in.take_log();
    let refused = bench.lane.launch(job, host).unwrap_err();
    let log = bench.stand_in.take_log();
    assert_eq!(log.last().unwrap(), "cuStreamSynchronize", "{log:?}");
    let expected =
        "cuMemcpyDtoDAsync_v2 failed with status 2 (CUDA_ERROR_OUT_OF_MEMORY: out of memory)".to_owned();
    assert_eq!(refused.error.to_string(), expected);
    assert!(!refused.error.is_sticky());
    bench.lane.launch(job, refused.host).unwrap();
    let finished = bench.lane.wait(&bench.clock).unwrap();
    assert_eq!(finished.host.outputs[0][0], 4);
}

#[test]
fn a_call_that_fails_behind_the_first_copy_waits_for_that_copy() {
    let mut bench = Bench::new("lane-refused-early", &Streams::Three);
    let job = bench.prepare(GraphScope::Off);
    let host = bench.filled(4);
    bench.stand_in.fail("cuStreamWaitEvent", 2);
    let refused = bench.lane.launch(job, host).unwrap_err();
    assert!(matches!(refused.error, Error::Status { function: "cuStreamWaitEvent", code: 2, .. }));
    // Were the copy of the input still to run, it would now read memory that is gone.
    drop(refused.host);
    bench.context.synchronize().unwrap();
}

#[test]
fn a_broken_device_keeps_the_outputs_and_gives_the_inputs_back() {
    let mut bench = Bench::new("lane-broken", &Streams::One);
    let job = bench.prepare(GraphScope::Off);
    let host = bench.filled(4);
    bench.stand_in.break_later(700);
    bench.lane.launch(job, host).unwrap();
    let finished = bench.lane.wait(&bench.clock).unwrap();
    assert!(finished.outcome.unwrap_err().is_sticky());
    assert_eq!(finished.host.inputs[0][0], 4);
    assert!(finished.host.outputs.is_empty());
    assert!(!bench.lane.is_busy());
    assert!(bench.context.memory().unwrap_err().to_string().contains("CUDA_ERROR_ILLEGAL_ADDRESS"));
}

#[test]
fn a_lane_that_finds_no_memory_leaves_nothing_behind_and_the_others_run() {
    for (full, kind) in [("cuMemAlloc", "device"), ("cuEventCreate", "driver")] {
        let mut bench = Bench::new(&format!("lane-full-{kind}"), &Streams::One);
        let job = bench.prepare(GraphScope::Off);
        let before = bench.stand_in.live();
        bench.stand_in.fail(full, 2);
        let stream = Arc::clone(bench.compute.stream());
        let spec = LaneSpec {
            streams: LaneStreams::single(&stream),
            input_byte_counts: vec![BYTE_COUNT; 3],
            output_byte_counts: vec![BYTE_COUNT],
            wait: EventWait::AsContext,
        };
        let error = Lane::new(&spec).map(drop).unwrap_err();
        assert!(error.is_out_of_memory() && !error.is_sticky(), "{error}");
        assert_eq!(bench.stand_in.live(), before, "{kind}");
        let host = bench.filled(3);
        bench.lane.launch(job, host).unwrap();
        assert_eq!(bench.lane.wait(&bench.clock).unwrap().host.outputs[0][0], 3);
    }
}

#[test]
fn a_capture_that_fails_says_so_and_the_job_runs_without_a_graph() {
    let mut bench = Bench::new("lane-capture", &Streams::One);
    bench.stand_in.fail("cuStreamEndCapture", 901);
    let job = bench.job(GraphScope::Compute);
    let error = bench.lane.prepare(job, &mut bench.host).unwrap_err();
    let Error::CannotCapture { cause } = &error else { panic!("{error}") };
    assert!(cause.to_string().contains("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"), "{error}");
    assert_eq!((bench.stand_in.live().graphs, bench.stand_in.live().executables), (0, 0));
    let job = bench.prepare(GraphScope::Off);
    let host = bench.filled(6);
    bench.lane.launch(job, host).unwrap();
    assert_eq!(bench.lane.wait(&bench.clock).unwrap().host.outputs[0][0], 6);
}

#[test]
fn a_computation_that_cannot_be_captured_ends_the_capture_and_keeps_its_own_error() {
    let mut call_count = 0;
    let fails_second = move |_: &Call<'_>| {
        call_count += 1;
        if call_count == 2 { Err(Error::NoSuchJob) } else { Ok(()) }
    };
    // SAFETY: it enqueues nothing.
    let compute = |stream| unsafe { Compute::new(stream, fails_second) };
    let mut bench = Bench::with_compute("lane-uncapturable", &Streams::One, compute);
    let job = bench.job(GraphScope::Copies);
    let error = bench.lane.prepare(job, &mut bench.host).unwrap_err();
    assert_eq!(error, Error::CannotCapture { cause: Box::new(Error::NoSuchJob) });
    assert!(bench.stand_in.take_log().contains(&"cuStreamEndCapture".to_owned()));
    assert_eq!(bench.stand_in.live().graphs, 0);
}

#[test]
fn a_panic_while_enqueueing_leaves_the_buffers_with_the_lane_until_the_device_is_done() {
    // SAFETY: it enqueues nothing.
    let compute = |stream| unsafe { Compute::new(stream, |_| panic!("a callback of the network panicked")) };
    let mut bench = Bench::with_compute("lane-panic", &Streams::Three, compute);
    let job = bench.prepare(GraphScope::Off);
    let host = bench.filled(1);
    let launch = AssertUnwindSafe(|| bench.lane.launch(job, host));
    assert!(panic::catch_unwind(launch).is_err());
    assert!(bench.lane.is_busy());
    assert!(bench.lane.take_inputs().unwrap().is_none(), "their copy may still run");
    let finished = bench.lane.poll(&bench.clock).unwrap();
    assert_eq!(finished.outcome.unwrap_err(), Error::Abandoned);
    // Were the copy of the input still to run, it would now read memory that is gone.
    drop(finished.host);
    bench.context.synchronize().unwrap();
}

#[test]
fn a_graph_with_its_copies_runs_with_the_buffers_it_was_captured_with_only() {
    let mut bench = Bench::new("lane-buffers", &Streams::One);
    let job = bench.prepare(GraphScope::Copies);
    assert_eq!(bench.lane.node_count(job), Some(6), "three copies, each with a mark before it");
    let other = bench.lane.host_buffers(PinnedMemory::Cached).unwrap();
    let refused = bench.lane.launch(job, other).unwrap_err();
    assert_eq!(refused.error, Error::OtherBuffer { what: "input", index: 0 });
    let own = bench.filled(1);
    bench.lane.launch(job, own).unwrap();
}

#[test]
fn what_does_not_fit_the_lane_is_refused_with_the_facts() {
    let mut bench = Bench::new("lane-unfit", &Streams::One);
    let mut prepare = |job: Job| bench.lane.prepare(job, &mut bench.host).unwrap_err();
    let job = |inputs: &[usize], compute: &Arc<Compute>| Job {
        compute: Arc::clone(compute),
        batch_size: 1,
        input_byte_counts: inputs.to_vec(),
        output_byte_counts: vec![BYTE_COUNT],
        graph: GraphScope::Off,
    };
    let error = prepare(job(&[65], &bench.compute));
    assert_eq!(error.to_string(), "input 0 has 64 bytes, but 65 are needed");
    let error = prepare(job(&[], &bench.compute));
    assert_eq!(error, Error::WrongCount { what: "input", expected: 0, got: 1 });
    let other = Arc::new(Stream::new(&bench.context, StreamPriority::Highest).unwrap());
    assert_eq!(prepare(job(&[64], &Compute::nothing(other))), Error::OtherStream);
}

#[test]
fn a_busy_lane_takes_no_second_job() {
    let mut bench = Bench::new("lane-busy", &Streams::One);
    let job = bench.prepare(GraphScope::Off);
    let mut second = bench.lane.host_buffers(PinnedMemory::Cached).unwrap();
    let host = bench.filled(1);
    bench.lane.launch(job, host).unwrap();
    let next = bench.job(GraphScope::Off);
    assert_eq!(bench.lane.prepare(next, &mut second).unwrap_err(), Error::Busy);
    let refused = bench.lane.launch(job, second).unwrap_err();
    assert_eq!(refused.error, Error::Busy);
    assert_eq!(refused.host.outputs.len(), 1);
}

#[test]
fn no_copies_are_made_where_transfers_are_off() {
    let mut bench = Bench::new("lane-transfers", &Streams::One);
    let job = Job { input_byte_counts: vec![0], output_byte_counts: vec![0], ..bench.job(GraphScope::Off) };
    let job = bench.lane.prepare(job, &mut bench.host).unwrap();
    let host = bench.filled(7);
    bench.stand_in.take_log();
    bench.lane.launch(job, host).unwrap();
    let finished = bench.lane.wait(&bench.clock).unwrap();
    let log = bench.stand_in.take_log();
    assert!(!log.iter().any(|call| call.contains("HtoD") || call.contains("DtoH")), "{log:?}");
    assert_eq!(finished.host.outputs[0][0], 0);
}

#[test]
fn a_launch_without_copies_computes_on_what_is_on_the_device_and_keeps_the_outputs() {
    for graph in [GraphScope::Off, GraphScope::Compute] {
        let mut bench = Bench::new(&format!("lane-resident-{graph:?}"), &Streams::Three);
        let job = bench.prepare(graph);
        let host = bench.filled(7);
        bench.lane.launch(job, host).unwrap();
        bench.host = bench.lane.wait(&bench.clock).unwrap().host;
        let host = bench.filled(8);
        bench.stand_in.take_log();
        bench.lane.launch_without_copies(job, host).unwrap();
        let log = bench.stand_in.take_log();
        let finished = bench.lane.wait(&bench.clock).unwrap();
        let times = finished.outcome.unwrap().stages.unwrap();
        assert_eq!(finished.host.outputs[0][0], 7, "{graph:?}: nothing came from the device");
        let copies_or_waits =
            |call: &String| ["HtoD", "DtoH", "WaitEvent"].iter().any(|it| call.contains(it));
        assert!(!log.iter().any(copies_or_waits), "{log:?}");
        assert!(times.h2d.end <= times.compute.start && times.compute.start < times.compute.end);
    }
}

#[test]
fn copies_inside_of_a_graph_cannot_be_left_out() {
    let mut bench = Bench::new("lane-resident-graph", &Streams::One);
    let job = bench.prepare(GraphScope::Copies);
    let host = bench.filled(1);
    let refused = bench.lane.launch_without_copies(job, host).unwrap_err();
    assert_eq!(refused.error, Error::CopiesInGraph);
    bench.lane.launch(job, refused.host).unwrap();
}

#[test]
fn another_thread_can_wait_for_the_end_of_a_job() {
    let mut bench = Bench::new("lane-waiter", &Streams::One);
    let job = bench.prepare(GraphScope::Off);
    let host = bench.filled(3);
    bench.lane.launch(job, host).unwrap();
    let event = bench.lane.finish_event();
    std::thread::spawn(move || event.wait()).join().unwrap().unwrap();
    assert_eq!(bench.lane.poll(&bench.clock).unwrap().host.outputs[0][0], 3);
}

#[test]
fn the_compute_stage_learns_which_batch_it_runs() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let report = move |call: &Call<'_>| {
        sender.send(call.batch_size).unwrap();
        Ok(())
    };
    // SAFETY: it enqueues nothing.
    let compute = |stream| unsafe { Compute::new(stream, report) };
    let mut bench = Bench::with_compute("lane-batch", &Streams::One, compute);
    let job = Job { batch_size: 3, ..bench.job(GraphScope::Off) };
    let job = bench.lane.prepare(job, &mut bench.host).unwrap();
    let host = bench.filled(0);
    bench.lane.launch(job, host).unwrap();
    assert_eq!(receiver.recv().unwrap(), 3);
}

#[test]
fn each_number_comes_out_in_its_own_output_however_long_stages_take() {
    for graph in [GraphScope::Off, GraphScope::Compute, GraphScope::Copies] {
        let stand_in = DriverStandIn::new(&format!("hunt-{graph:?}"));
        stand_in.set_delay(3);
        let hunt = Hunt { graph, executions: 400, ballast_byte_count: BYTE_COUNT, bug: Bug::None };
        assert_eq!(wrong_outputs(&stand_in.context(), hunt), 0, "{graph:?}");
    }
}

#[test]
fn buffers_that_come_back_too_early_are_caught() {
    for graph in [GraphScope::Off, GraphScope::Compute, GraphScope::Copies] {
        let stand_in = DriverStandIn::new(&format!("hunt-planted-{graph:?}"));
        let hunt = Hunt { graph, executions: 40, ballast_byte_count: BYTE_COUNT, bug: Bug::EarlyReturn };
        let wrong = wrong_outputs(&stand_in.context(), hunt);
        assert!(wrong > 0, "{graph:?}");
    }
}

#[test]
fn a_replay_launches_each_kind_of_graph_until_the_time_is_up_and_leaves_nothing_behind() {
    for graph in [GraphScope::Off, GraphScope::Compute, GraphScope::Copies] {
        for wait in [ReplayWait::Sleep, ReplayWait::Ask] {
            let mut bench = Bench::new(&format!("replay-{graph:?}-{wait:?}"), &Streams::One);
            let job = bench.prepare(graph);
            let host = bench.filled(7);
            let Bench { lane, stand_in, context, clock, compute, .. } = bench;
            let mut replay = Replay::new([(lane, job, host)]).unwrap();
            for marks in [StageMarks::Last, StageMarks::All] {
                let count = replay.run(Duration::from_millis(5), wait, marks).unwrap();
                assert!(count > 1, "{graph:?} {wait:?} {marks:?}: {count}");
            }
            drop((replay, context, clock, compute));
            let Live { device_buffers, host_buffers, streams, events, graphs, executables, .. } =
                stand_in.live();
            let left = [device_buffers, host_buffers, streams, events, graphs, executables];
            assert_eq!(left, [0; 6], "{graph:?} {wait:?}");
        }
    }
}

#[test]
fn a_replay_refuses_buffers_that_its_graph_was_not_captured_with() {
    let mut bench = Bench::new("replay-other", &Streams::One);
    let job = bench.prepare(GraphScope::Copies);
    let other = bench.lane.host_buffers(PinnedMemory::Cached).unwrap();
    let Bench { lane, .. } = bench;
    assert!(matches!(Replay::new([(lane, job, other)]), Err(Error::OtherBuffer { .. })));
}
