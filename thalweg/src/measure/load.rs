//! How a pool is driven: how many requests, and when.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The load on a pool.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// When requests are sent.
    pub arrival: Arrival,
    /// Samples of each request.
    pub samples_per_request: usize,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// Closed loop: this many requests are always outstanding.
    Concurrency(usize),
    /// Open loop: this many requests per second, evenly spaced.
    ConstantRate(f64),
    /// Open loop: this many requests per second on average, with exponential gaps.
    PoissonRate(f64),
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.arrival {
            Arrival::Concurrency(count) => write!(f, "closed loop, {count} outstanding")?,
            Arrival::ConstantRate(rate) => write!(f, "open loop, {rate} requests/s")?,
            Arrival::PoissonRate(rate) => write!(f, "open loop, {rate} requests/s, Poisson")?,
        }
        write!(f, ", {} per request", self.samples_per_request)
    }
}
