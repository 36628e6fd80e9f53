//! The tables of a watched program: what costs time, gaps, threads, streams, and the GPU.

use super::candidate_table::Cell;
use super::diagnosis_tables::{PlainTable, plain};
use crate::report::{watching, wording};
use crate::watch::{Gauge, GpuReadings, Observation, Watched};

impl PlainTable {
    /// All tables of a watched command that have rows.
    pub(super) fn of_watched(watched: &Watched, observation: &Observation) -> Vec<Self> {
        let mut tables = vec![findings(observation), threads(observation), streams(observation)];
        tables.extend(watched.gpu.as_ref().map(gpu));
        tables.retain(|table| !table.rows.is_empty());
        tables
    }
}

fn count(value: u64) -> Cell {
    Cell::number(wording::count(value), Some(value as f64))
}

fn share(value: f64) -> Cell {
    Cell::with_bar(wording::percent(value), value, value)
}

fn findings(observation: &Observation) -> PlainTable {
    let rows = observation.findings.iter().map(|finding| {
        let thread = finding.thread.map_or_else(|| wording::NONE.to_owned(), |thread| thread.to_string());
        let call = finding.call.as_deref().map_or_else(|| wording::NONE.to_owned(), wording::printable);
        vec![
            plain(watching::what(finding)),
            plain(thread),
            plain(call),
            count(finding.count),
            Cell::number(finding.lost.to_string(), Some(finding.lost.as_seconds())),
            share(finding.share),
            plain(watching::advice(finding)),
        ]
    });
    PlainTable {
        heading: "What costs time",
        heads: vec!["what", "thread", "call", "count", "lost", "share", "what would help"],
        rows: rows.collect(),
        note: "Time in which the GPU computed nothing, by what it waited for: these rows do not overlap, and with the \
               time in which it computed they add up to the whole. Streams that never overlap, and work that waits for \
               a small kernel on the default stream, lose time on top of that, in which the GPU could have computed \
               more.",
    }
}

fn threads(observation: &Observation) -> PlainTable {
    let rows = observation.threads.iter().map(|thread| {
        vec![
            plain(thread.thread.to_string()),
            count(thread.enqueue_count),
            share(thread.enqueue_share),
            count(thread.wait_count),
            share(thread.wait_share),
        ]
    });
    PlainTable {
        heading: "Threads",
        heads: vec!["thread", "calls that give work", "time in them", "calls that wait", "time in them"],
        rows: rows.collect(),
        note: "Calls of CUDA by threads of the host.",
    }
}

fn streams(observation: &Observation) -> PlainTable {
    let rows = observation.streams.iter().map(|stream| {
        let default = if stream.is_default { " (default)" } else { "" };
        vec![
            plain(format!("{}{default}", stream.stream)),
            count(stream.computation_count),
            share(stream.computing),
            count(stream.copy_count),
            share(stream.copying),
        ]
    });
    PlainTable {
        heading: "Streams",
        heads: vec!["stream", "computations", "time in them", "copies", "time in them"],
        rows: rows.collect(),
        note: "What ran on the GPU, by stream. A graph that was recorded as a whole is one computation.",
    }
}

fn gpu(gpu: &GpuReadings) -> PlainTable {
    let row = |gauge: Gauge| {
        let values: Vec<f64> = gpu.readings.iter().filter_map(|reading| gauge.value(reading)).collect();
        let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        let cell = |value| Cell::number(watching::gauge_value(gauge, value), value);
        let limit = gpu.readings.last().and_then(|reading| gauge.limit(reading));
        vec![
            plain(watching::gauge(gauge)),
            cell(mean),
            cell(values.iter().copied().reduce(f64::max)),
            cell(limit),
        ]
    };
    PlainTable {
        heading: "The GPU meanwhile",
        heads: vec!["gauge", "mean", "highest", "limit"],
        rows: if gpu.readings.is_empty() { Vec::new() } else { Gauge::ALL.map(row).into() },
        note: "What NVML said. `any kernel` is what NVIDIA calls GPU utilisation: the share of time in which something \
               ran, however little of the GPU that took.",
    }
}
