//! What a watched program did as a trace for Perfetto: streams with their kernels and copies, threads with their calls,
//! an arrow from each call to its work, and gauges of the GPU over time.

use serde_json::{Value, json};

use super::trace::{DEVICE, HOST, lane_name, metadata, written};
use super::watching;
use crate::units::Nanos;
use crate::watch::{DeviceWork, Gauge, GpuReadings, HostMemory, Program, What};

/// Process of the gauges.
const GAUGES: u32 = 3;

/// Pieces of work that are shown, the last ones: with their calls and arrows some 60 MB, which Perfetto opens in seconds.
const MOST_WORK: usize = 100_000;

/// One process as Chrome trace event JSON, times in microseconds, sorted. How much of its work is not shown is in
/// `otherData`.
pub fn trace_of_program(program: &Program, gpu: Option<&GpuReadings>) -> String {
    let skipped = program.work.len().saturating_sub(MOST_WORK);
    let work = &program.work[skipped..];
    let from = if skipped == 0 { Nanos::ZERO } else { work[0].span.start };
    let mut timed: Vec<(Nanos, Value)> = Vec::new();
    for (index, work) in work.iter().enumerate() {
        timed.push((work.span.start, work_event(program, work)));
        timed.extend(arrow(program, index, work));
    }
    let calls = program.calls.iter().filter(|call| call.span.start >= from);
    timed.extend(calls.map(|call| {
        let event = json!({
            "name": program.name(call.name), "cat": "call", "ph": "X", "pid": HOST, "tid": call.thread,
            "ts": call.span.start.as_micros(), "dur": call.span.duration().as_micros(),
        });
        (call.span.start, event)
    }));
    timed.extend(program.unix_start.into_iter().flat_map(|start| gauges(gpu, start)));
    timed.sort_by_key(|(at, _)| *at);
    let mut events = names(program, gpu.is_some());
    events.extend(timed.into_iter().map(|(_, event)| event));
    written(&json!({ "program": program.path, "work_left_out": skipped }), &events)
}

fn work_event(program: &Program, work: &DeviceWork) -> Value {
    let (name, arguments) = match work.what {
        What::Kernel { name, blocks, .. } => (program.name(name).to_owned(), json!({ "blocks": blocks })),
        What::Graph => ("graph".to_owned(), json!({})),
        What::Copy { bytes, direction, host_memory } => {
            let kind = if host_memory == HostMemory::Pageable { "pageable" } else { "pinned or device" };
            (format!("copy {direction:?}").to_uppercase(), json!({ "bytes": bytes, "memory": kind }))
        }
        What::Fill => ("fill".to_owned(), json!({})),
    };
    json!({
        "name": name, "cat": "work", "ph": "X", "pid": DEVICE, "tid": work.stream + 1,
        "ts": work.span.start.as_micros(), "dur": work.span.duration().as_micros(), "args": arguments,
    })
}

/// From the call that asked for some work to where it ran.
fn arrow(program: &Program, id: usize, work: &DeviceWork) -> Vec<(Nanos, Value)> {
    let Some(call) = work.call.map(|call| &program.calls[call]) else { return Vec::new() };
    let event = |phase: &str, process: u32, lane: u64, at: Nanos| {
        let value = json!({
            "name": "enqueue", "cat": "flow", "ph": phase, "bp": "e", "id": id, "pid": process, "tid": lane,
            "ts": at.as_micros(),
        });
        (at, value)
    };
    let start = event("s", HOST, u64::from(call.thread), call.span.start);
    vec![start, event("f", DEVICE, work.stream as u64 + 1, work.span.start)]
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

fn names(program: &Program, has_gauges: bool) -> Vec<Value> {
    let mut names = vec![
        metadata("process_name", DEVICE, 0, &json!({ "name": "device" })),
        metadata("process_name", HOST, 0, &json!({ "name": format!("process {}", program.process) })),
        metadata("process_sort_index", DEVICE, 0, &json!({ "sort_index": 0 })),
        metadata("process_sort_index", HOST, 0, &json!({ "sort_index": 1 })),
    ];
    if has_gauges {
        names.push(metadata("process_name", GAUGES, 0, &json!({ "name": "gauges" })));
    }
    for (index, stream) in program.streams.iter().enumerate() {
        let default = if stream.is_default { " (default)" } else { "" };
        names.extend(lane_name(DEVICE, index + 1, &format!("stream {}{default}", stream.stream)));
    }
    for (thread, _) in program.threads() {
        names.extend(lane_name(HOST, thread as usize, &format!("thread {thread}")));
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
    fn gauges_lie_where_the_worlds_clock_puts_them() {
        let mut gpu = samples::watched().gpu.unwrap();
        gpu.readings.truncate(1);
        gpu.readings[0].unix = Nanos(Sample::UNIX_NS + 5_000_000);
        let events = events(&trace_of_program(&naive(10).program(), Some(&gpu)));
        let clock = events.iter().find(|event| event["name"] == "SM clock").unwrap();
        assert_eq!((clock["ph"].as_str(), clock["ts"].as_f64()), (Some("C"), Some(5_000.0)));
    }
}
