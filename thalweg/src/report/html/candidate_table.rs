//! The candidates of a search as a table that can be sorted.

use serde::Serialize;

use super::search_charts::candidate_title;
use crate::report::wording::{self, NONE};
use crate::tune::{Candidate, Standing, TuneOutcome};
use crate::units::Nanos;

/// Rows shown at most, the best ones. The rest is in the JSON.
const ROWS_SHOWN: usize = 200;

/// Heads, rows, and a sentence on what is not shown.
#[derive(Serialize)]
pub(super) struct CandidateTable {
    heads: Vec<&'static str>,
    rows: Vec<Row>,
    note: String,
}

#[derive(Serialize)]
struct Row {
    class: &'static str,
    title: String,
    cells: Vec<Cell>,
}

/// A text, and the number to sort by where there is one.
#[derive(Serialize)]
pub(super) struct Cell {
    text: String,
    value: Option<f64>,
    /// Length of a bar beneath the number, in per cent of the fastest.
    bar: Option<f64>,
}

impl CandidateTable {
    /// `None` where nothing was tried.
    pub(super) fn of(outcome: &TuneOutcome) -> Option<Self> {
        let candidates = &outcome.candidates;
        let has_delay = candidates.iter().any(|it| it.configuration.batching_delay > Nanos::ZERO);
        let has_lanes = candidates.iter().any(|it| it.configuration.copy_lanes.is_some());
        let has_prediction = candidates.iter().any(|it| it.predicted.is_some());
        let fastest = candidates.iter().filter_map(throughput).fold(0.0, f64::max);
        let shown = candidates.iter().take(ROWS_SHOWN).enumerate();
        let rows = shown.map(|(index, candidate)| {
            let mut cells = cells(candidate, outcome.pareto.contains(&index), has_delay, fastest);
            if has_lanes {
                let lanes = wording::copy_lanes(candidate.configuration.copy_lanes);
                cells.insert(COLUMNS_TO_GRAPH, Cell::number(lanes, None));
            }
            if has_prediction {
                cells.insert(cells.len() - COLUMNS_AFTER_THROUGHPUT, predicted(candidate));
            }
            Row { class: class(candidate), title: candidate_title(candidate), cells }
        });
        (!candidates.is_empty()).then(|| Self {
            heads: heads(has_lanes, has_delay, has_prediction),
            rows: rows.collect(),
            note: note(outcome),
        })
    }
}

/// Streams, batch, depth, submitters, threads and graph.
const COLUMNS_TO_GRAPH: usize = 6;

/// Median, p99, front and standing.
const COLUMNS_AFTER_THROUGHPUT: usize = 4;

/// What was predicted before the candidate was measured.
fn predicted(candidate: &Candidate) -> Cell {
    let value = candidate.predicted.map(|it| it.throughput.value);
    Cell::number(value.map_or_else(|| NONE.to_owned(), wording::number), value)
}

fn throughput(candidate: &Candidate) -> Option<f64> {
    candidate.throughput_inferences_per_s.map(|it| it.value).filter(|it| it.is_finite())
}

fn heads(has_lanes: bool, has_delay: bool, has_prediction: bool) -> Vec<&'static str> {
    let mut heads = vec!["streams", "batch", "depth", "submitters", "threads", "graph"];
    if has_lanes {
        heads.push("copy lanes");
    }
    if has_delay {
        heads.push("delay, ms");
    }
    heads.push("inferences/s");
    if has_prediction {
        heads.push("predicted");
    }
    heads.extend(["p50, ms", "p99, ms", "front", "standing"]);
    heads
}

fn cells(candidate: &Candidate, is_on_front: bool, has_delay: bool, fastest: f64) -> Vec<Cell> {
    let it = &candidate.configuration;
    let counts = [it.streams, it.batch_size, it.depth, it.submitters, it.threads_per_stream];
    let mut cells: Vec<_> =
        counts.map(|count| Cell::number(wording::count(count), Some(count as f64))).into();
    cells.push(Cell::number(it.cuda_graph.to_string(), None));
    if has_delay {
        cells.push(Cell::time(Some(it.batching_delay)));
    }
    let estimate = candidate.throughput_inferences_per_s.as_ref();
    let text = estimate.map_or_else(|| NONE.to_owned(), wording::with_half_width);
    let value = throughput(candidate);
    let bar = value.filter(|_| fastest > 0.0).map(|value| (value / fastest * 100.0).round());
    cells.push(Cell { text, value, bar });
    cells.push(Cell::time(candidate.latency.map(|it| it.p50)));
    cells.push(Cell::time(candidate.latency.and_then(|it| it.p99)));
    let (mark, rank) = if is_on_front { ("●", 1.0) } else { ("", 0.0) };
    cells.push(Cell::number(mark.to_owned(), Some(rank)));
    cells.push(Cell::number(wording::standing(candidate.standing).to_owned(), None));
    cells
}

impl Cell {
    pub(super) fn number(text: String, value: Option<f64>) -> Self {
        Self { text, value, bar: None }
    }

    /// A number with a bar of this length, a part of 1.
    pub(super) fn with_bar(text: String, value: f64, length: f64) -> Self {
        Self { text, value: Some(value), bar: Some((100.0 * length.clamp(0.0, 1.0)).round()) }
    }

    fn time(span: Option<Nanos>) -> Self {
        let text = span.map_or_else(|| NONE.to_owned(), wording::millis);
        Self::number(text, span.map(Nanos::as_millis))
    }
}

fn class(candidate: &Candidate) -> &'static str {
    match candidate.standing {
        Standing::Winner => "won",
        Standing::Contender | Standing::Slower | Standing::Baseline => "",
        Standing::OverLimit
        | Standing::Failed
        | Standing::DoesNotFit
        | Standing::NotMeasured
        | Standing::Unpromising => "out",
    }
}

fn note(outcome: &TuneOutcome) -> String {
    let hidden = outcome.candidates.len().saturating_sub(ROWS_SHOWN);
    let hidden = match hidden {
        0 => String::new(),
        1 => " One more candidate is not shown.".to_owned(),
        _ => format!(" {} more candidates are not shown.", wording::count(hidden)),
    };
    format!("{}.{hidden}", wording::ending(outcome))
}
