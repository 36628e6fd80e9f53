//! Searching for the best configuration.

mod outcome;

pub use outcome::{Candidate, Comparison, Compliance, Ending, Limits, ModelIdentity, Standing, TuneOutcome};
