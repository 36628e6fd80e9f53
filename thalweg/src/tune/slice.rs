//! One short measurement of one candidate, reduced to what a search needs and a journal keeps.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{Compliance, Limits};
use crate::backend::Counters;
use crate::error::Error;
use crate::measure::distribution::{binomial_lower_bound, binomial_upper_bound};
use crate::measure::stats::CONFIDENCE;
use crate::measure::{Estimate, LatencySummary, Measurement, StageSummary};
use crate::units::Nanos;

/// Significant digits of latencies over all slices: an error below 0.1 %.
const LATENCY_DIGITS: u8 = 3;

/// Fraction of requests that may take longer than the p99 limit.
const ALLOWED_EXCESS: f64 = 0.01;

/// Above this fraction of late requests the median itself is over the limit, and one slice is enough to say
/// so. Below it a single disturbance of the machine could be the cause, so a second slice has to agree.
const HOPELESS_EXCESS: f64 = 0.5;

/// How many slices have to show that a limit is broken. Late requests come in bunches, and freed memory of
/// the candidate before may still be resident: one slice alone can be bad luck.
const SLICES_TO_BREAK: usize = 2;

/// One short measurement of one candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Inferences per second.
    pub throughput_inferences_per_s: Estimate,
    /// Latencies in nanoseconds, rounded to three digits, and how many requests had them.
    pub latencies_ns: Vec<(u64, u64)>,
    /// Requests whose exact latency was above the p99 limit.
    pub over_limit: u64,
    /// Device memory as predicted where the device has its own, else resident memory of the process at the end, in bytes.
    pub memory_bytes: Option<u64>,
    /// Median times of the stages.
    #[serde(default)]
    pub stages: StageSummary,
    /// What the device said about itself.
    #[serde(default)]
    pub counters: Option<Counters>,
    /// Why it could not be measured; then the other fields mean nothing.
    pub failure: Option<String>,
}

impl Slice {
    /// What a search needs of a measurement. Failed requests, or none that finished, are a failure; so are streams
    /// that did otherwise than asked, such as without a CUDA graph, or a candidate would be ranked by what another
    /// one does.
    pub fn of(measurement: &Measurement, limits: &Limits) -> Self {
        let throughput = measurement.throughput_inferences_per_s;
        let latencies = measurement.records.iter().map(crate::measure::Record::latency);
        let is_late = |latency: &Nanos| limits.p99.is_some_and(|limit| *latency > limit);
        Self {
            throughput_inferences_per_s: throughput,
            latencies_ns: sparse(&histogram(latencies.clone().map(|latency| (latency.0, 1)))),
            over_limit: latencies.filter(is_late).count() as u64,
            memory_bytes: measurement.device_memory_bytes.or(measurement.host_memory_bytes),
            stages: measurement.stages,
            counters: measurement.counters.clone(),
            failure: failure(measurement),
        }
    }

    /// A candidate that could not be measured.
    pub fn failed(error: &Error) -> Self {
        Self {
            throughput_inferences_per_s: Estimate { value: 0.0, lower: 0.0, upper: 0.0 },
            latencies_ns: Vec::new(),
            over_limit: 0,
            memory_bytes: None,
            stages: StageSummary::default(),
            counters: None,
            failure: Some(error.to_string()),
        }
    }

    /// What held the device back meanwhile though the work did not ask for it.
    pub fn disturbance(&self) -> Option<&str> {
        self.counters.as_ref().and_then(Counters::disturbance)
    }

    /// Number of requests.
    pub fn record_count(&self) -> u64 {
        self.latencies_ns.iter().map(|(_, count)| count).sum()
    }
}

fn failure(measurement: &Measurement) -> Option<String> {
    if let Err(error) = measurement.check_requests().and_then(|()| measurement.check_as_asked()) {
        return Some(error.to_string());
    }
    let throughput = measurement.throughput_inferences_per_s.value;
    let has_result = throughput.is_finite() && throughput > 0.0;
    (!has_result).then(|| "no request finished in the time given: allow more with --time".to_owned())
}

/// Latencies over several slices; `None` before the first request.
pub(super) fn latency_of<'a>(slices: impl Iterator<Item = &'a Slice>) -> Option<LatencySummary> {
    let counts = slices.flat_map(|slice| slice.latencies_ns.iter().copied());
    LatencySummary::of_histogram(&histogram(counts))
}

fn histogram(counts: impl Iterator<Item = (u64, u64)>) -> Histogram<u64> {
    let mut histogram = Histogram::new(LATENCY_DIGITS).expect("bug: three digits are within 0 to 5");
    for (latency, count) in counts {
        // An auto-resizing histogram takes every u64, so nothing can fail here.
        histogram.record_n(latency, count).expect("bug: the histogram did not grow");
    }
    histogram
}

fn sparse(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram
        .iter_recorded()
        .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
        .collect()
}

/// What the slices of one candidate say about the limits.
///
/// For the p99 the number of late requests is binomial with an unknown probability, and Clopper and
/// Pearson's exact bounds say whether that is at most 1 %: 299 records without a late one are the fewest
/// that prove it. The bounds are one-sided, with 95 % confidence each time they are looked at.
pub(super) fn compliance<'a>(limits: &Limits, slices: impl Iterator<Item = &'a Slice> + Clone) -> Compliance {
    let verdicts = [p99_compliance(limits, slices.clone()), memory_compliance(limits, slices)];
    if verdicts.contains(&Compliance::Breaks) {
        Compliance::Breaks
    } else if verdicts.contains(&Compliance::Unproven) {
        Compliance::Unproven
    } else {
        Compliance::Keeps
    }
}

/// Whether what was seen points to a broken limit, proven or not.
pub(super) fn is_doubtful<'a>(limits: &Limits, slices: impl Iterator<Item = &'a Slice> + Clone) -> bool {
    let n: u64 = slices.clone().map(Slice::record_count).sum();
    let late: u64 = slices.clone().map(|slice| slice.over_limit).sum();
    let is_late = limits.p99.is_some() && late as f64 > ALLOWED_EXCESS * n as f64;
    let least = slices.filter_map(|slice| slice.memory_bytes).min();
    is_late || least.zip(limits.memory_bytes).is_some_and(|(least, limit)| least > limit)
}

fn p99_compliance<'a>(limits: &Limits, slices: impl Iterator<Item = &'a Slice> + Clone) -> Compliance {
    if limits.p99.is_none() {
        return Compliance::Keeps;
    }
    let n: u64 = slices.clone().map(Slice::record_count).sum();
    let late: u64 = slices.clone().map(|slice| slice.over_limit).sum();
    let late_slices = slices.filter(|slice| slice.over_limit > 0).count();
    if n == 0 {
        return Compliance::Unproven;
    }
    let at_least = binomial_lower_bound(late, n, CONFIDENCE);
    let is_seen_often = late_slices >= SLICES_TO_BREAK || at_least > HOPELESS_EXCESS;
    if at_least > ALLOWED_EXCESS && is_seen_often {
        Compliance::Breaks
    } else if binomial_upper_bound(late, n, CONFIDENCE) <= ALLOWED_EXCESS {
        Compliance::Keeps
    } else {
        Compliance::Unproven
    }
}

/// A candidate needs no more than the least that was resident while it ran.
fn memory_compliance<'a>(limits: &Limits, slices: impl Iterator<Item = &'a Slice>) -> Compliance {
    let Some(limit) = limits.memory_bytes else { return Compliance::Keeps };
    let resident: Vec<u64> = slices.filter_map(|slice| slice.memory_bytes).collect();
    match resident.iter().min() {
        Some(least) if *least <= limit => Compliance::Keeps,
        Some(_) if resident.len() >= SLICES_TO_BREAK => Compliance::Breaks,
        _ => Compliance::Unproven,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::synthetic::slice;

    const LIMITS: Limits = Limits { p99: Some(Nanos(1_000_000)), memory_bytes: None };

    fn with_late(records: u64, late: u64) -> Slice {
        Slice { latencies_ns: vec![(900_000, records)], over_limit: late, ..slice(100.0) }
    }

    fn judged(slices: &[Slice]) -> Compliance {
        compliance(&LIMITS, slices.iter())
    }

    #[test]
    fn a_limit_is_kept_from_299_records_on() {
        assert_eq!(judged(&[with_late(298, 0)]), Compliance::Unproven);
        assert_eq!(judged(&[with_late(149, 0), with_late(150, 0)]), Compliance::Keeps);
    }

    #[test]
    fn two_slices_have_to_agree_that_a_limit_is_broken() {
        assert_eq!(judged(&[with_late(200, 10)]), Compliance::Unproven);
        assert_eq!(judged(&[with_late(200, 10), with_late(200, 8)]), Compliance::Breaks);
    }

    #[test]
    fn one_slice_is_enough_where_most_requests_are_late() {
        assert_eq!(judged(&[with_late(20, 19)]), Compliance::Breaks);
    }

    #[test]
    fn without_limits_everything_is_kept() {
        assert_eq!(compliance(&Limits::default(), [with_late(20, 19)].iter()), Compliance::Keeps);
    }

    #[test]
    fn memory_counts_by_the_least_that_was_resident() {
        let limits = Limits { p99: None, memory_bytes: Some(1_000) };
        let using = |bytes| Slice { memory_bytes: Some(bytes), ..slice(100.0) };
        let judged = |slices: &[Slice]| compliance(&limits, slices.iter());
        assert_eq!(judged(&[using(1_001)]), Compliance::Unproven);
        assert_eq!(judged(&[using(1_001), using(1_200)]), Compliance::Breaks);
        assert_eq!(judged(&[using(1_200), using(999)]), Compliance::Keeps);
    }

    #[test]
    fn latencies_of_all_slices_make_one_summary() {
        let slices = [with_late(100, 0), with_late(250, 0)];
        let summary = latency_of(slices.iter()).unwrap();
        assert_eq!(summary.n, 350);
        assert!(summary.p99.is_some_and(|p99| p99.0.abs_diff(900_000) < 900));
        assert_eq!(latency_of([].iter()), None);
    }
}
