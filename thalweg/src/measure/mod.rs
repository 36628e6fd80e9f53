//! Measuring a configuration: load, verification, statistics, and the result as plain data.
//!
//! In: an engine, a [`Configuration`](crate::pool::Configuration), a [`Load`], samples and a reference, as
//! an [`Experiment`]. Out: a [`Measurement`], or an error if a single output was wrong. What to measure
//! next is left to [`tune`](crate::tune).

mod comparison;
pub mod distribution;
mod execution;
mod experiment;
mod feed;
mod host_use;
mod load;
mod measurement;
mod neighbours;
mod observation;
mod overhead;
mod overlap;
mod rate;
mod samples;
pub mod stats;
mod verify;
mod virtual_run;
mod what_fits;
mod windows;
mod workload;

pub use comparison::{Comparison, Difference, Objection, ObjectionKind};
pub(crate) use execution::{Execution, executions, has_all_times, took_place};
pub use experiment::{Experiment, Observing, Pacing, StopSignal};
pub use feed::{FeedSummary, Feeding};
pub use load::{Arrival, Load};
pub use measurement::{
    Estimate, Failures, LatencySummary, Measurement, Record, Stability, StageSummary, Verification, Window,
};
pub use neighbours::{Interference, InterferenceTurn, Neighbour, Neighbours, neighbours};
pub use overhead::{Overhead, OverheadTurn, Pace, overhead};
pub use overlap::Overlap;
pub(crate) use overlap::{Running, sweep};
pub use samples::SampleSet;
pub use verify::Reference;
pub use what_fits::measure_what_fits;
pub(crate) use what_fits::narrowed;
pub use workload::{Workload, WorkloadSpec};
