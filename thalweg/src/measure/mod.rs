//! Measuring a configuration: load, verification, statistics, and the result as plain data.

pub mod distribution;
mod load;
mod measurement;
pub mod random;
pub mod stats;

pub use load::{Arrival, Load};
pub use measurement::{
    Estimate, Failures, LatencySummary, Measurement, Record, Stability, StageSummary, Verification, Window,
};
