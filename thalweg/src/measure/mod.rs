//! Measuring a configuration: load, verification, statistics, and the result as plain data.

mod load;
mod measurement;

pub use load::{Arrival, Load};
pub use measurement::{
    Estimate, Failures, LatencySummary, Measurement, Record, Stability, StageSummary, Verification, Window,
};
