//! What a program did, watched or recorded in a diagnosis, as a trace for Perfetto: streams with their kernels and copies,
//! threads with their calls, an arrow from each call to its work, and gauges of the GPU over time.

use serde_json::{Value, json};

use super::trace::{DEVICE, HOST, events_of_records, lane_name, metadata, written};
use super::watching;
use crate::diagnose::KernelWindow;
use crate::units::Nanos;
use crate::watch::{DeviceWork, Gauge, GpuReadings, HostMemory, Program, What};

/// Process of the gauges.
const GAUGES: u32 = 3;
/// Processes of what was recorded beside a pool's own lanes.
const KERNELS: u32 = 4;
const CALLS: u32 = 5;

/// Where the lanes of a program are in a trace: processes for its work and for its calls, with their names.
struct Place {
    work: (u32, String),
    calls: (u32, String),
}

/// Pieces of work that are shown, the last ones: with their calls and arrows some 60 MB, which Perfetto opens in seconds.
const MOST_WORK: usize = 100_000;

/// One process as Chrome trace event JSON, times in microseconds, sorted. How much of its work is not shown is in
/// `otherData`.
pub fn trace_of_program(program: &Program, gpu: Option<&GpuReadings>) -> String {
    let place =
        Place { work: (DEVICE, "device".to_owned()), calls: (HOST, format!("process {}", program.process)) };
    let (mut events, mut timed, skipped) = events_of(program, &place);
    timed.extend(program.unix_start.into_iter().flat_map(|start| gauges(gpu, start)));
    events.extend(gpu.map(|_| metadata("process_name", GAUGES, 0, &json!({ "name": "gauges" }))));
    timed.sort_by_key(|(at, _)| *at);
    events.extend(timed.into_iter().map(|(_, event)| event));
    written(&json!({ "program": program.path, "work_left_out": skipped }), &events)
}

/// The window of a diagnosis as Chrome trace event JSON: the stages of the pool, and below them each kernel and call.
pub fn trace_of_window(window: &KernelWindow) -> String {
    let place = Place { work: (KERNELS, "kernels".to_owned()), calls: (CALLS, "calls of CUDA".to_owned()) };
    let (of_kernels, mut timed, skipped) = events_of(&window.program, &place);
    let (mut events, of_pool) = events_of_records(&window.measurement.records);
    events.extend(of_kernels);
    timed.extend(of_pool);
    let gpu = window.gpu.as_ref();
    timed.extend(window.measurement.unix_start.into_iter().flat_map(|start| gauges(gpu, start)));
    events.extend(gpu.map(|_| metadata("process_name", GAUGES, 0, &json!({ "name": "gauges" }))));
    timed.sort_by_key(|(at, _)| *at);
    events.extend(timed.into_iter().map(|(_, event)| event));
    written(&json!({ "work_left_out": skipped }), &events)
}

/// Names of lanes and events of a program, and how much of its work is left out.
fn events_of(program: &Program, place: &Place) -> (Vec<Value>, Vec<(Nanos, Value)>, usize) {
    let skipped = program.work.len().saturating_sub(MOST_WORK);
    let work = &program.work[skipped..];
    let from = if skipped == 0 { Nanos::ZERO } else { work[0].span.start };
    let mut timed: Vec<(Nanos, Value)> = Vec::new();
    for (index, work) in work.iter().enumerate() {
        timed.push((work.span.start, work_event(program, work, place.work.0)));
        timed.extend(arrow(program, index, work, place));
    }
    let calls = program.calls.iter().filter(|call| call.span.start >= from);
    timed.extend(calls.map(|call| {
        let event = json!({
            "name": program.name(call.name), "cat": "call", "ph": "X", "pid": place.calls.0, "tid": call.thread,
            "ts": call.span.start.as_micros(), "dur": call.span.duration().as_micros(),
        });
        (call.span.start, event)
    }));
    (names(program, place), timed, skipped)
}

fn work_event(program: &Program, work: &DeviceWork, process: u32) -> Value {
    let (name, arguments) = match work.what {
        What::Kernel { name, blocks, threads, registers, .. } => {
            let arguments = json!({ "blocks": blocks, "threads": threads, "registers": registers });
            (program.name(name).to_owned(), arguments)
        }
        What::Graph => ("graph".to_owned(), json!({})),
        What::Copy { bytes, direction, host_memory } => {
            let kind = if host_memory == HostMemory::Pageable { "pageable" } else { "pinned or device" };
            (format!("copy {direction:?}").to_uppercase(), json!({ "bytes": bytes, "memory": kind }))
        }
        What::Fill => ("fill".to_owned(), json!({})),
    };
    json!({
        "name": name, "cat": "work", "ph": "X", "pid": process, "tid": work.stream + 1,
        "ts": work.span.start.as_micros(), "dur": work.span.duration().as_micros(), "args": arguments,
    })
}

/// From the call that asked for some work to where it ran.
fn arrow(program: &Program, id: usize, work: &DeviceWork, place: &Place) -> Vec<(Nanos, Value)> {
    let Some(call) = work.call.map(|call| &program.calls[call]) else { return Vec::new() };
    let event = |phase: &str, process: u32, lane: u64, at: Nanos| {
        let value = json!({
            "name": "enqueue", "cat": "flow", "ph": phase, "bp": "e", "id": id, "pid": process, "tid": lane,
            "ts": at.as_micros(),
        });
        (at, value)
    };
    let start = event("s", place.calls.0, u64::from(call.thread), call.span.start);
    vec![start, event("f", place.work.0, work.stream as u64 + 1, work.span.start)]
}

fn gauges(gpu: Option<&GpuReadings>, unix_start: Nanos) -> Vec<(Nanos, Value)> {
    let readings = gpu.map_or(&[][..], |gpu| &gpu.readings);
    let events = readings.iter().filter(|reading| reading.unix >= unix_start).flat_map(|reading| {
        let at = reading.unix - unix_start;
        Gauge::ALL.into_iter().filter_map(move |gauge| {
            let value = gauge.value(reading)?;
            let event = json!({
                "name": watching::gauge(gauge), "ph": "C", "pid": GAUGES, "ts": at.as_micros(),
                "args": { "value": value },
            });
            Some((at, event))
        })
    });
    events.collect()
}

fn names(program: &Program, place: &Place) -> Vec<Value> {
    let mut names = Vec::new();
    for (process, name) in [&place.work, &place.calls] {
        names.push(metadata("process_name", *process, 0, &json!({ "name": name })));
        names.push(metadata("process_sort_index", *process, 0, &json!({ "sort_index": process })));
    }
    for (index, stream) in program.streams.iter().enumerate() {
        let default = if stream.is_default { " (default)" } else { "" };
        names.extend(lane_name(place.work.0, index + 1, &format!("stream {}{default}", stream.stream)));
    }
    for (thread, _) in program.threads() {
        names.extend(lane_name(place.calls.0, thread as usize, &format!("thread {thread}")));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;
    use crate::watch::samples::{Sample, naive};

    fn events(trace: &str) -> Vec<Value> {
        let trace: Value = serde_json::from_str(trace).unwrap();
        trace["traceEvents"].as_array().unwrap().clone()
    }

    fn count(events: &[Value], phase: &str) -> usize {
        events.iter().filter(|event| event["ph"] == phase).count()
    }

    #[test]
    fn every_call_and_all_work_has_a_named_lane_and_an_arrow_between() {
        let events = events(&trace_of_program(&naive(10).program(), None));
        assert_eq!(count(&events, "X"), 10 * 5);
        assert_eq!((count(&events, "s"), count(&events, "f")), (20, 20));
        let lane = |event: &Value| (event["pid"].as_u64(), event["tid"].as_u64());
        let named: Vec<_> = events.iter().filter(|event| event["name"] == "thread_name").map(lane).collect();
        assert!(events.iter().filter(|event| event["ph"] == "X").all(|event| named.contains(&lane(event))));
        let times: Vec<_> = events.iter().filter_map(|event| event["ts"].as_f64()).collect();
        assert!(times.is_sorted());
    }

    #[test]
    fn kernels_of_a_window_lie_beside_the_pools_own_lanes_with_an_arrow_from_each_launch() {
        let events = events(&trace_of_window(&samples::window(5, 10)));
        let of = |process: u32, phase: &str| {
            events.iter().filter(|event| event["pid"] == process && event["ph"] == phase).count()
        };
        assert_eq!((of(DEVICE, "X"), of(HOST, "X")), (4 * 5 * 3, 4 * 5));
        assert_eq!((of(KERNELS, "X"), of(CALLS, "X")), (4 * 5 * 11, 4 * 5 * 12));
        assert_eq!((of(CALLS, "s"), of(KERNELS, "f")), (4 * 5 * 11, 4 * 5 * 11));
        let lane = |event: &Value| (event["pid"].as_u64(), event["tid"].as_u64());
        let named: Vec<_> = events.iter().filter(|event| event["name"] == "thread_name").map(lane).collect();
        assert!(events.iter().filter(|event| event["ph"] == "X").all(|event| named.contains(&lane(event))));
        assert!(of(GAUGES, "C") > 0);
    }

    #[test]
    fn gauges_lie_where_the_worlds_clock_puts_them() {
        let mut gpu = samples::watched().gpu.unwrap();
        gpu.readings.truncate(1);
        gpu.readings[0].unix = Nanos(Sample::UNIX_NS + 5_000_000);
        let events = events(&trace_of_program(&naive(10).program(), Some(&gpu)));
        let clock = events.iter().find(|event| event["name"] == "SM clock").unwrap();
        assert_eq!((clock["ph"].as_str(), clock["ts"].as_f64()), (Some("C"), Some(5_000.0)));
    }
}
