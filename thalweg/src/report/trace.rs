//! Records as a trace for Perfetto or `chrome://tracing`.
//!
//! The format is the Trace Event Format (JSON object form): complete events for what ran in a lane,
//! async events for requests, which overlap freely, flow events from an enqueue call to the computation that it started,
//! and metadata that names and orders the lanes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::backend::Span;
use crate::measure::{Execution, Overlap, Record, executions, took_place};
use crate::units::Nanos;

/// Process of the lanes on the device.
pub(super) const DEVICE: u32 = 1;
/// Process of the lanes on the host.
pub(super) const HOST: u32 = 2;
/// Lanes of each stream on the device: H2D, compute, D2H.
const LANES_PER_STREAM: usize = 3;

/// Records as Chrome trace event JSON: per stream the lanes H2D, compute and D2H on the device and an
/// enqueue lane on the host (an executor is driven by one thread, so its spans never overlap), and every
/// request as an async span. An arrow leads from each enqueue call to its computation. Times are in microseconds,
/// sorted. How much ran at the same time is in `otherData`.
pub fn trace(records: &[Record]) -> String {
    let (mut events, mut timed) = events_of_records(records);
    timed.extend(executions(records).into_iter().enumerate().flat_map(arrow));
    timed.sort_by_key(|(at, _)| *at);
    events.extend(timed.into_iter().map(|(_, event)| event));
    written(&json!({ "overlap": Overlap::of(records) }), &events)
}

/// Names of lanes, and events with their times.
pub(super) fn events_of_records(records: &[Record]) -> (Vec<Value>, Vec<(Nanos, Value)>) {
    let mut timed: Vec<(Nanos, Value)> = records.iter().flat_map(request).collect();
    timed.extend(executions(records).into_iter().flat_map(stages));
    (names(records), timed)
}

/// The file, one event in each line.
pub(super) fn written(about: &Value, events: &[Value]) -> String {
    let lines: Vec<_> = events.iter().map(Value::to_string).collect();
    format!(
        "{{\"displayTimeUnit\":\"ms\",\"otherData\":{about},\"traceEvents\":[\n{}\n]}}\n",
        lines.join(",\n")
    )
}

fn stages(execution: Execution) -> Vec<(Nanos, Value)> {
    let stream = execution.slot.executor;
    let times = execution.times;
    let lanes = [
        ("enqueue", HOST, stream, times.enqueue),
        ("H2D", DEVICE, stream * LANES_PER_STREAM, times.h2d),
        ("compute", DEVICE, stream * LANES_PER_STREAM + 1, times.compute),
        ("D2H", DEVICE, stream * LANES_PER_STREAM + 2, times.d2h),
    ];
    let event = |(name, process, lane, span): (&str, u32, usize, Span)| {
        let value = json!({
            "name": name, "cat": "execution", "ph": "X", "pid": process, "tid": lane + 1,
            "ts": span.start.as_micros(), "dur": span.duration().as_micros(),
            "args": { "slot": execution.slot.index, "batch_size": execution.batch_size },
        });
        (span.start, value)
    };
    lanes.into_iter().filter(|(.., span)| took_place(*span)).map(event).collect()
}

/// From the call that started an execution to its computation on the device.
fn arrow((id, execution): (usize, Execution)) -> Vec<(Nanos, Value)> {
    let Execution { slot, times, .. } = execution;
    if !took_place(times.enqueue) || !took_place(times.compute) {
        return Vec::new();
    }
    let ends = [
        ("s", HOST, slot.executor + 1, times.enqueue.start),
        ("f", DEVICE, slot.executor * LANES_PER_STREAM + 2, times.compute.start),
    ];
    let event = |(phase, process, lane, at): (&str, u32, usize, Nanos)| {
        let value = json!({
            "name": "enqueue", "cat": "flow", "ph": phase, "bp": "e", "id": id, "pid": process, "tid": lane,
            "ts": at.as_micros(),
        });
        (at, value)
    };
    ends.map(event).into()
}

fn request(record: &Record) -> [(Nanos, Value); 2] {
    let event = |phase: &str, at: Nanos| {
        let value = json!({
            "name": "request", "cat": "request", "ph": phase, "id": record.sequence, "pid": HOST, "tid": 0,
            "ts": at.as_micros(),
            "args": { "sequence": record.sequence, "samples": record.samples, "stream": record.slot.executor },
        });
        (at, value)
    };
    [event("b", record.intended), event("e", record.readable.max(record.intended))]
}

/// Metadata: a name for each process and lane, and their order.
fn names(records: &[Record]) -> Vec<Value> {
    let streams: BTreeSet<_> = records.iter().map(|record| record.slot.executor).collect();
    let mut names = vec![
        metadata("process_name", DEVICE, 0, &json!({ "name": "device" })),
        metadata("process_name", HOST, 0, &json!({ "name": "host" })),
        metadata("process_sort_index", DEVICE, 0, &json!({ "sort_index": 0 })),
        metadata("process_sort_index", HOST, 0, &json!({ "sort_index": 1 })),
    ];
    for stream in streams {
        for (offset, stage) in ["H2D", "compute", "D2H"].iter().enumerate() {
            let lane = stream * LANES_PER_STREAM + offset + 1;
            names.extend(lane_name(DEVICE, lane, &format!("stream {stream} {stage}")));
        }
        names.extend(lane_name(HOST, stream + 1, &format!("enqueue stream {stream}")));
    }
    names
}

pub(super) fn lane_name(process: u32, lane: usize, name: &str) -> [Value; 2] {
    [
        metadata("thread_name", process, lane, &json!({ "name": name })),
        metadata("thread_sort_index", process, lane, &json!({ "sort_index": lane })),
    ]
}

pub(super) fn metadata(name: &str, process: u32, lane: usize, args: &Value) -> Value {
    json!({ "name": name, "ph": "M", "pid": process, "tid": lane, "args": args })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn events(records: &[Record]) -> Vec<Value> {
        let trace: Value = serde_json::from_str(&trace(records)).unwrap();
        trace["traceEvents"].as_array().unwrap().clone()
    }

    fn of_phase(events: &[Value], phase: &str) -> Vec<Value> {
        events.iter().filter(|event| event["ph"] == phase).cloned().collect()
    }

    #[test]
    fn each_execution_appears_once_whatever_its_batch() {
        let records = samples::records(&samples::configuration(2, 4), 10);
        assert_eq!(records.len(), 80);
        let events = events(&records);
        assert_eq!(of_phase(&events, "X").len(), 2 * 10 * 4);
        assert_eq!(of_phase(&events, "b").len(), 80);
        assert_eq!(of_phase(&events, "e").len(), 80);
    }

    #[test]
    fn times_are_microseconds_sorted_and_lanes_never_overlap() {
        let records = samples::records(&samples::configuration(4, 1), 50);
        let complete = of_phase(&events(&records), "X");
        let mut ends = std::collections::BTreeMap::new();
        let mut last = 0.0;
        for event in &complete {
            let (start, duration) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
            assert!(start >= last, "{event} comes after {last}");
            last = start;
            let lane = (event["pid"].as_u64(), event["tid"].as_u64());
            let end = ends.insert(lane, start + duration).unwrap_or(0.0);
            assert!(start >= end - 1e-3, "{event} starts before {end}");
        }
        let compute = records[0].stages.compute;
        let first = complete.iter().find(|event| event["name"] == "compute").unwrap();
        assert_eq!(first["ts"], compute.start.0 as f64 / 1e3);
        assert_eq!(first["dur"], compute.duration().0 as f64 / 1e3);
    }

    #[test]
    fn an_arrow_leads_from_each_enqueue_call_to_its_computation() {
        let records = samples::records(&samples::configuration(2, 4), 10);
        let events = events(&records);
        let key = |event: &Value| (event["pid"].as_u64(), event["tid"].as_u64(), event["ts"].to_string());
        let slices: std::collections::BTreeMap<_, _> =
            of_phase(&events, "X").iter().map(|event| (key(event), event["name"].clone())).collect();
        let (starts, ends) = (of_phase(&events, "s"), of_phase(&events, "f"));
        assert_eq!((starts.len(), ends.len()), (20, 20));
        for start in &starts {
            let [end] = &ends.iter().filter(|end| end["id"] == start["id"]).collect::<Vec<_>>()[..] else {
                panic!("{start} has one end");
            };
            assert_eq!((&slices[&key(start)], &slices[&key(end)]), (&json!("enqueue"), &json!("compute")));
            assert_eq!((start["pid"].as_u64(), end["pid"].as_u64()), (Some(2), Some(1)));
            assert!(start["ts"].as_f64() <= end["ts"].as_f64(), "{start} {end}");
        }
    }

    #[test]
    fn every_lane_has_a_name() {
        let events = events(&samples::records(&samples::configuration(3, 1), 4));
        let lane = |event: &Value| (event["pid"].as_u64(), event["tid"].as_u64());
        let named: Vec<_> = events.iter().filter(|event| event["name"] == "thread_name").map(lane).collect();
        assert_eq!(named.len(), 12);
        assert!(of_phase(&events, "X").iter().all(|event| named.contains(&lane(event))));
    }

    #[test]
    fn requests_begin_before_they_end() {
        let records = samples::records(&samples::configuration(2, 2), 20);
        let mut open = std::collections::BTreeSet::new();
        for event in events(&records) {
            let id = event["id"].as_u64();
            match event["ph"].as_str() {
                Some("b") => assert!(open.insert(id)),
                Some("e") => assert!(open.remove(&id)),
                _ => {}
            }
        }
        assert!(open.is_empty());
    }

    #[test]
    fn says_how_much_ran_at_the_same_time() {
        let records = samples::records(&samples::configuration(4, 1), 50);
        let trace: Value = serde_json::from_str(&trace(&records)).unwrap();
        let share = trace["otherData"]["overlap"]["two_or_more_stages"].as_f64().unwrap();
        assert_eq!(Some(share), Overlap::of(&records).map(|it| it.two_or_more_stages));
    }

    #[test]
    fn no_records_are_a_valid_trace() {
        assert_eq!(events(&[]).len(), 4);
    }

    #[test]
    fn stages_that_did_not_take_place_are_left_out() {
        let mut records = samples::records(&samples::configuration(1, 1), 1);
        records[0].stages.h2d = Span::default();
        records[0].stages.d2h = Span::default();
        let names: Vec<_> =
            of_phase(&events(&records), "X").iter().map(|event| event["name"].clone()).collect();
        assert_eq!(names, ["enqueue", "compute"]);
    }
}
