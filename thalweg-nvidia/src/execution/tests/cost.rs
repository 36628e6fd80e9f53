//! What an execution costs: marks, interrupts, allocations, and memory that pools take one after the other.

use super::*;
use crate::cuda::PinnedReserve;
use crate::stand_in::allocations::allocation_count;

#[test]
fn without_times_of_stages_there_are_no_marks_but_those_that_somebody_waits_for() {
    for (streams, marks_of) in [(Streams::One, [2, 2, 1]), (Streams::Three, [3, 3, 1])] {
        for (graph, mark_count) in
            [GraphScope::Off, GraphScope::Compute, GraphScope::Copies].iter().zip(marks_of)
        {
            let mut bench = Bench::new("lane-unmarked", &streams);
            let job = bench.prepare(*graph);
            bench.lane.set_stage_marks(StageMarks::Last);
            for value in [1, 2] {
                let host = bench.filled(value);
                bench.stand_in.take_log();
                bench.lane.launch(job, host).unwrap();
                let finished = bench.lane.wait(&bench.clock).unwrap();
                let log = bench.stand_in.take_log();
                let count = |name: &str| log.iter().filter(|call| call.starts_with(name)).count();
                assert_eq!(
                    (count("cuEventRecord"), count("cuEventElapsed")),
                    (mark_count, 0),
                    "{graph:?} {log:?}"
                );
                assert_eq!(finished.outcome.unwrap().stages, None);
                assert_eq!(&finished.host.outputs[0][..], &[value; BYTE_COUNT], "{graph:?}");
                bench.host = finished.host;
            }
            bench.lane.set_stage_marks(StageMarks::All);
            let host = bench.filled(3);
            bench.lane.launch(job, host).unwrap();
            let stages = bench.lane.wait(&bench.clock).unwrap().outcome.unwrap().stages.unwrap();
            assert!(stages.h2d.start < stages.h2d.end && stages.d2h.start < stages.d2h.end, "{graph:?}");
        }
    }
}

#[test]
fn an_execution_allocates_nothing() {
    for graph in [GraphScope::Off, GraphScope::Compute, GraphScope::Copies] {
        let mut bench = Bench::new(&format!("lane-allocations-{graph:?}"), &Streams::Three);
        let job = bench.prepare(graph);
        let mut host = bench.filled(1);
        let mut counts = Vec::with_capacity(3);
        for _ in 0..3 {
            let before = allocation_count();
            bench.lane.launch(job, host).unwrap();
            let finished = bench.lane.wait(&bench.clock).unwrap();
            counts.push(allocation_count() - before);
            host = finished.host;
        }
        assert_eq!(counts, [0; 3], "{graph:?}");
    }
}

#[test]
fn only_the_last_mark_of_an_execution_may_interrupt_the_host() {
    let stand_in = DriverStandIn::new("lane-marks");
    let context = stand_in.context();
    let stream = Arc::new(Stream::new(&context, StreamPriority::Normal).unwrap());
    stand_in.take_log();
    let spec = LaneSpec {
        streams: LaneStreams::single(&stream),
        input_byte_counts: vec![BYTE_COUNT],
        output_byte_counts: vec![BYTE_COUNT],
        wait: EventWait::Block,
    };
    let _lane = Lane::new(&spec).unwrap();
    let log = stand_in.take_log();
    let made: Vec<_> = log.iter().filter(|call| call.starts_with("cuEventCreate")).collect();
    let slept_for = made.iter().filter(|call| call.ends_with("to sleep for")).count();
    assert_eq!((made.len(), slept_for), (6, 1), "{log:?}");
}

#[test]
fn buffers_from_a_reserve_hold_nothing_that_was_there_before() {
    let bench = Bench::new("lane-reserve", &Streams::One);
    let reserve = PinnedReserve::new(&bench.context, 1 << 20);
    let buffers = || bench.lane.host_buffers_of(&reserve, PinnedMemory::Cached).unwrap();
    let mut host = buffers();
    host.inputs[0].fill(5);
    host.outputs[0].fill(6);
    drop(host);
    let count = bench.stand_in.live().host_buffers;
    let host = buffers();
    assert_eq!(bench.stand_in.live().host_buffers, count, "nothing new was locked");
    assert_eq!((&host.inputs[0][..], &host.outputs[0][..]), (&[0; BYTE_COUNT][..], &[0; BYTE_COUNT][..]));
}
