//! How a pool is driven: how many requests, and when.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::random::Random;
use crate::units::Nanos;

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

/// Fewest requests a second of an open loop, one in a quarter of an hour: with fewer nothing would ever be measured.
const LEAST_RATE: f64 = 1e-3;

impl Load {
    /// Checks that requests come at all, and fit into a batch.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for no requests, too many samples or none, or a rate with which none come.
    pub fn check(&self, batch_size: usize) -> Result<()> {
        let samples = self.samples_per_request;
        if !(1..=batch_size).contains(&samples) {
            let reason = format!("a request has 1 to {batch_size} samples, the batch size");
            return Err(Error::InvalidSetting {
                name: "request-samples",
                value: samples.to_string(),
                reason,
            });
        }
        let (name, value, problem) = match self.arrival {
            Arrival::Concurrency(count) => {
                let problem = (count == 0).then(|| "must be above zero".to_owned());
                ("concurrency", count.to_string(), problem)
            }
            Arrival::ConstantRate(rate) | Arrival::PoissonRate(rate) => {
                let is_possible = rate.is_finite() && rate >= LEAST_RATE;
                let problem = (!is_possible).then(|| format!("must be at least {LEAST_RATE} a second"));
                ("rate", rate.to_string(), problem)
            }
        };
        problem.map_or(Ok(()), |reason| Err(Error::InvalidSetting { name, value, reason }))
    }

    /// Requests that are always outstanding in a closed loop; `None` in an open one.
    pub fn outstanding(&self) -> Option<usize> {
        match self.arrival {
            Arrival::Concurrency(count) => Some(count),
            Arrival::ConstantRate(_) | Arrival::PoissonRate(_) => None,
        }
    }

    /// The intended send times of an open loop, counted from its start; `None` in a closed loop, where
    /// a request is sent when another is answered.
    pub fn send_times(&self, seed: u64) -> Option<impl Iterator<Item = Nanos> + Send + use<>> {
        let (rate, is_random) = match self.arrival {
            Arrival::Concurrency(_) => return None,
            Arrival::ConstantRate(rate) => (rate, false),
            Arrival::PoissonRate(rate) => (rate, true),
        };
        let mut random = Random::new(seed);
        let mut seconds = 0.0;
        Some(std::iter::repeat_with(move || {
            let now = Nanos::from_seconds(seconds);
            seconds += if is_random { random.exponential(1.0 / rate) } else { 1.0 / rate };
            now
        }))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn times(arrival: Arrival, count: usize) -> Vec<Nanos> {
        let load = Load { arrival, samples_per_request: 1 };
        load.send_times(7).expect("an open loop").take(count).collect()
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced() {
        assert_eq!(times(Arrival::ConstantRate(1000.0), 3), [Nanos(0), Nanos(1_000_000), Nanos(2_000_000)]);
    }

    #[test]
    fn a_poisson_rate_keeps_its_mean_and_has_exponential_gaps() {
        let times = times(Arrival::PoissonRate(1000.0), 20_001);
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        // Of an exponential distribution 1/e = 36.8 % lie above the mean.
        let above = gaps.iter().filter(|gap| **gap > 1.0).count() as f64 / gaps.len() as f64;
        assert!((above - 0.368).abs() < 0.015, "{above}");
    }

    #[test]
    fn a_load_without_requests_is_refused() {
        let refusal = |arrival| Load { arrival, samples_per_request: 1 }.check(8).map_err(|e| e.to_string());
        assert_eq!(refusal(Arrival::Concurrency(0)), Err("concurrency 0: must be above zero".to_owned()));
        assert_eq!(
            refusal(Arrival::PoissonRate(f64::NAN)),
            Err("rate NaN: must be at least 0.001 a second".to_owned())
        );
        assert_eq!(refusal(Arrival::ConstantRate(5.0)), Ok(()));
    }

    #[test]
    fn a_request_fits_into_a_batch() {
        let load = |samples_per_request| Load { arrival: Arrival::Concurrency(1), samples_per_request };
        assert!(load(1).check(8).is_ok() && load(8).check(8).is_ok());
        for samples in [0, 9, usize::MAX] {
            let error = load(samples).check(8).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("request-samples {samples}: a request has 1 to 8 samples, the batch size")
            );
        }
    }
}
