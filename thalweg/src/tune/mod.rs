//! Searching for the best configuration.

mod outcome;
mod race;
mod search;
mod slice;
mod space;
#[cfg(test)]
mod synthetic;

pub use outcome::{Candidate, Comparison, Compliance, Ending, Limits, ModelIdentity, Standing, TuneOutcome};
pub use search::{Policy, Search};
pub use slice::Slice;
pub use space::{Space, baseline, saturating_load};
