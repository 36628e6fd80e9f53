//! Plain tables, and those of a diagnosis: limits, evidence and remedies.

use serde::Serialize;

use super::candidate_table::Cell;
use crate::diagnose::{Diagnosis, KernelReading, Reading, Remedy};
use crate::report::{verdicts, wording};
use crate::units::Bytes;

/// Letters of a kernel's name that are shown.
const KERNEL_NAME: usize = 70;

/// A heading, a table, and a sentence that explains it.
#[derive(Serialize)]
pub(super) struct PlainTable {
    pub(super) heading: &'static str,
    pub(super) heads: Vec<&'static str>,
    pub(super) rows: Vec<Vec<Cell>>,
    pub(super) note: &'static str,
}

impl PlainTable {
    pub(super) fn new(
        heading: &'static str,
        heads: Vec<&'static str>,
        rows: Vec<Vec<Cell>>,
        note: &'static str,
    ) -> Self {
        Self { heading, heads, rows, note }
    }

    pub(super) fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// All tables of a diagnosis that have rows.
    pub(super) fn of(diagnosis: &Diagnosis) -> Vec<Self> {
        let mut tables =
            vec![limits(diagnosis), remedies(diagnosis), evidence(diagnosis), kernels(diagnosis)];
        tables.retain(Self::has_rows);
        tables
    }
}

/// A text that is no number.
pub(super) fn plain(text: impl Into<String>) -> Cell {
    Cell::number(text.into(), None)
}

fn limits(diagnosis: &Diagnosis) -> PlainTable {
    let limits = &diagnosis.judgement.limits;
    let rows = limits.iter().map(|it| {
        let gain = format!("{} times", wording::number(it.gain_if_doubled));
        vec![
            plain(verdicts::limit(diagnosis, it.limit)),
            Cell::with_bar(wording::percent(it.pressure), it.pressure, it.pressure),
            Cell::with_bar(gain, it.gain_if_doubled, it.gain_if_doubled - 1.0),
        ]
    });
    PlainTable {
        heading: "How close each limit is",
        heads: vec!["limit", "reached", "if it were twice as far"],
        rows: rows.collect(),
        note: "Throughput over what each limit allows, and what would be gained if that limit alone were twice as far \
               away. The one that gains most names the verdict; of several within 3 %, the one that the others wait for.",
    }
}

fn remedies(diagnosis: &Diagnosis) -> PlainTable {
    let row = |remedy: &Remedy| {
        let measured = remedy.ratio().map(|ratio| ratio.value);
        vec![
            plain(remedy.to_string()),
            Cell::number(wording::times(&remedy.predicted), Some(remedy.predicted.value)),
            Cell::number(verdicts::tried(remedy), measured),
        ]
    };
    PlainTable {
        heading: "What would help",
        heads: vec!["remedy", "predicted", "measured"],
        rows: diagnosis.remedies.iter().map(row).collect(),
        note: "Throughput over that of the setup as it was. Measured in turns with it, with 95 % intervals; those of predictions \
               are of what they rest on, and simpler than what comes: on H200s 29 of 31 came true within 15 %.",
    }
}

fn kernels(diagnosis: &Diagnosis) -> PlainTable {
    let row = |kernel: &KernelReading| {
        vec![
            plain(wording::shortened(&wording::printable(&kernel.name), KERNEL_NAME)),
            Cell::with_bar(wording::percent(kernel.share), kernel.share, kernel.share),
            Cell::number(wording::number(kernel.per_execution), Some(kernel.per_execution)),
            Cell::number(kernel.mean.to_string(), Some(kernel.mean.as_seconds())),
            Cell::with_bar(wording::percent(kernel.grid_fill), kernel.grid_fill, kernel.grid_fill),
            plain(format!(
                "{} blocks of {} threads, {} registers, {} of shared memory",
                kernel.blocks,
                kernel.threads,
                kernel.registers,
                Bytes(kernel.shared_memory_bytes.into())
            )),
        ]
    };
    PlainTable {
        heading: "The largest kernels",
        heads: vec!["kernel", "of their time", "in an execution", "each", "evenness", "shape"],
        rows: diagnosis.kernels.iter().flat_map(|kernels| &kernels.largest).map(row).collect(),
        note: "From a window in which each kernel was recorded. Evenness: blocks over the SMs times the most blocks that \
               one of them gets.",
    }
}

fn evidence(diagnosis: &Diagnosis) -> PlainTable {
    let row = |reading: &Reading| {
        let (text, source) = match reading.value {
            Some(value) => (verdicts::value(reading.quantity, value), wording::printable(&reading.source)),
            None => {
                (wording::NONE.to_owned(), format!("not available: {}", wording::printable(&reading.source)))
            }
        };
        let number = match (reading.value, reading.unit.as_str()) {
            (Some(value), "share") => Cell::with_bar(text, value, value),
            (value, _) => Cell::number(text, value),
        };
        vec![plain(reading.quantity.to_string()), number, plain(source)]
    };
    PlainTable {
        heading: "Evidence",
        heads: vec!["what", "value", "source"],
        rows: diagnosis.evidence.readings.iter().map(row).collect(),
        note: "What the verdict rests on, and what is not available and why.",
    }
}
