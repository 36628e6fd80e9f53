//! Results for people: text for a terminal, one self-contained HTML page, a trace for Perfetto.
//!
//! In go an [`Inspection`](crate::model::Inspection), a [`Measurement`](crate::measure::Measurement), a
//! [`Diagnosis`](crate::diagnose::Diagnosis), a [`TuneOutcome`](crate::tune::TuneOutcome),
//! a [`LossReport`](crate::precision::LossReport), what was [`Watched`](crate::watch::Watched) or raw
//! [`Record`](crate::measure::Record)s, out comes a
//! `String`. Nothing is measured, decided or written to disk here, and JSON needs no code: the results are
//! `serde` types already.

mod definitions;
mod html;
mod lanes;
mod program_trace;
#[cfg(test)]
mod samples;
mod text;
mod trace;
mod verdicts;
mod watching;
mod wording;

pub use definitions::definitions;
pub use html::{
    has_timeline, html_of_diagnosis, html_of_loss, html_of_measurement, html_of_tuning, html_of_watched,
};
pub use program_trace::{trace_of_program, trace_of_window};
pub use text::{
    Style, bars_of_reading, line_of_reading, text_of_accuracy, text_of_build, text_of_builds,
    text_of_comparison, text_of_conversion, text_of_converted_nodes, text_of_definitions, text_of_diagnosis,
    text_of_examination, text_of_gpu, text_of_inspection, text_of_layers, text_of_measurement,
    text_of_memory, text_of_mix, text_of_neighbours, text_of_overhead, text_of_paper, text_of_tuning,
    text_of_unknown_accuracy, text_of_watched,
};
pub use trace::trace;
pub(crate) use wording::printable;
