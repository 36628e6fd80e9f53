//! Whether one measurement is faster than another, by how much, and whether the two can be compared at all.
//!
//! Throughputs of two runs differ for many reasons besides what was changed on purpose. What is known to spoil a
//! comparison is listed as [`Objection`]s; whether to compare nevertheless is for the caller to say.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::{Estimate, Measurement, Stability};
use crate::engine::EngineSource;
use crate::pool::Configuration;

/// Most that SM clocks may differ, as a share. What computes follows the clock one to one, so beyond this the clocks
/// make up for, or pass for, differences of the size that people look for.
const MOST_CLOCK_DIFFERENCE: f64 = 0.02;

/// What two runs of the same thing differ by, besides what windows of one run tell: half of a 95 % interval, as a share.
/// Streams keep for seconds whatever order they started in; two runs on an H100 agreed within 1 % (docs/benchmarks.md).
const BETWEEN_RUNS: f64 = 0.01;

/// The second of two measurements over the first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What can be said.
    pub verdict: Difference,
    /// Inferences per second, the second over the first. The 95 % interval has both runs' own in it, and what runs of
    /// the same thing differ by anyway.
    pub throughput: Estimate,
    /// Median latency, the second over the first.
    pub p50_latency: f64,
    /// 99th percentile, the second over the first, where both have one.
    pub p99_latency: Option<f64>,
    /// What was run first and second.
    pub configurations: [Configuration; 2],
    /// The engines that it was run with, as far as they are known.
    pub engines: [Option<EngineSource>; 2],
    /// Inferences per second of the first and the second.
    pub throughputs_inferences_per_s: [Estimate; 2],
    /// Why the above may mean nothing.
    pub objections: Vec<Objection>,
}

/// What a ratio and its interval say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// The second has the higher throughput: all of the interval is above 1.
    Faster,
    /// The second has the lower throughput: all of the interval is below 1.
    Slower,
    /// The interval includes 1.
    NotSeen,
}

/// Something besides what was to be compared that differs, or that keeps figures from being true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Objection {
    /// Its kind.
    pub kind: ObjectionKind,
    /// What it is, as part of a sentence.
    pub text: String,
}

/// Kinds of objections, which callers may overrule one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectionKind {
    /// They ran on different devices.
    Device,
    /// They ran different networks, or the same with other shapes.
    Model,
    /// They ran with different versions of the driver, of TensorRT or of Thalweg.
    Versions,
    /// Clocks differed, or something held back the clocks of one only.
    Clocks,
    /// An open loop gives the throughput that was asked for, and inputs that get to the device in another way are another
    /// load.
    Load,
    /// A run never became steady, or was too short to tell.
    Unsteady,
    /// A run lost streams, or did otherwise than asked.
    Incomplete,
}

impl ObjectionKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Device,
        Self::Model,
        Self::Versions,
        Self::Clocks,
        Self::Load,
        Self::Unsteady,
        Self::Incomplete,
    ];
}

/// The name on the command line.
impl fmt::Display for ObjectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Model => "model",
            Self::Versions => "versions",
            Self::Clocks => "clocks",
            Self::Load => "load",
            Self::Unsteady => "unsteady",
            Self::Incomplete => "incomplete",
        })
    }
}

impl Comparison {
    /// Compares two measurements, whatever may be said against it.
    pub fn of(first: &Measurement, second: &Measurement) -> Self {
        let throughputs = [first.throughput_inferences_per_s, second.throughput_inferences_per_s];
        let throughput = ratio(throughputs[1], throughputs[0]);
        let verdict = match throughput {
            Estimate { lower, .. } if lower > 1.0 => Difference::Faster,
            Estimate { upper, .. } if upper < 1.0 => Difference::Slower,
            _ => Difference::NotSeen,
        };
        let (before, after) = (&first.latency, &second.latency);
        Self {
            verdict,
            throughput,
            p50_latency: after.p50.as_seconds() / before.p50.as_seconds(),
            p99_latency: after
                .p99
                .zip(before.p99)
                .map(|(after, before)| after.as_seconds() / before.as_seconds()),
            configurations: [first.configuration, second.configuration],
            engines: [first.engine.clone(), second.engine.clone()],
            throughputs_inferences_per_s: throughputs,
            objections: objections(first, second),
        }
    }
}

/// The most that an estimate may be off by: of a run that was too short an end of the interval may be nothing.
const MOST_OFF: f64 = 1e3;

/// Of two independent estimates. Their relative errors add up as squares.
fn ratio(numerator: Estimate, denominator: Estimate) -> Estimate {
    let value = numerator.value / denominator.value;
    let off = |by: f64| by.min(MOST_OFF).ln();
    let together = |over: f64, under: f64| off(over).hypot(off(under)).hypot(BETWEEN_RUNS);
    let down = together(numerator.value / numerator.lower, denominator.upper / denominator.value);
    let up = together(numerator.upper / numerator.value, denominator.value / denominator.lower);
    Estimate { value, lower: value * (-down).exp(), upper: value * up.exp() }
}

fn objections(first: &Measurement, second: &Measurement) -> Vec<Objection> {
    let mut found = Vec::new();
    let mut object = |kind, text| found.push(Objection { kind, text });
    let machine =
        |it: &Measurement| (it.device.backend.clone(), it.device.name.clone(), it.device.core_count);
    if machine(first) != machine(second) {
        let name = |it: &Measurement| {
            format!("{} ({}, {} cores)", it.device.name, it.device.backend, it.device.core_count)
        };
        object(ObjectionKind::Device, format!("one ran on {}, the other on {}", name(first), name(second)));
    }
    if first.model.sha256 != second.model.sha256 || first.model.input_shapes != second.model.input_shapes {
        object(
            ObjectionKind::Model,
            "they ran different networks, or the same with other input shapes".to_owned(),
        );
    }
    different_versions(first, second).into_iter().for_each(|text| object(ObjectionKind::Versions, text));
    let feeding = |it: &Measurement| (it.feed.map(|feed| feed.feeding), it.configuration.transfers);
    if feeding(first) != feeding(second) {
        object(ObjectionKind::Load, "their inputs got to the device in different ways".to_owned());
    }
    different_clocks(first, second).into_iter().for_each(|text| object(ObjectionKind::Clocks, text));
    for (name, it) in [("first", first), ("second", second)] {
        if it.load.outstanding().is_none() {
            let text =
                format!("the {name} was sent requests at a fixed rate, which is the throughput it got");
            object(ObjectionKind::Load, text);
        }
        let doubt = match it.stability {
            Stability::Stable { .. } => None,
            Stability::Unstable { .. } => Some("never became steady"),
            Stability::TooShort => Some("was too short"),
        };
        if let Some(doubt) = doubt {
            object(ObjectionKind::Unsteady, format!("the {name} {doubt}"));
        }
        if it.failures.count > 0 {
            object(ObjectionKind::Incomplete, format!("{} requests of the {name} failed", it.failures.count));
        }
        if let Some(remark) = it.remarks.first() {
            object(ObjectionKind::Incomplete, format!("of the {name}: {remark}"));
        }
    }
    found
}

fn different_versions(first: &Measurement, second: &Measurement) -> Vec<String> {
    let [before, after] = [first, second].map(|it| &it.device.versions);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let text = |version: Option<&String>| version.map_or("absent", String::as_str).to_owned();
    differing.map(|name| format!("{name} {} and {}", text(before.get(name)), text(after.get(name)))).collect()
}

fn different_clocks(first: &Measurement, second: &Measurement) -> Option<String> {
    let clock = |it: &Measurement| it.counters.as_ref().and_then(|counters| counters.sm_clock_mhz);
    match (clock(first), clock(second)) {
        (None, Some(_)) => return Some("the SM clock of the first is not known".to_owned()),
        (Some(_), None) => return Some("the SM clock of the second is not known".to_owned()),
        (Some(before), Some(after)) if (after / before).ln().abs() > MOST_CLOCK_DIFFERENCE.ln_1p() => {
            return Some(format!("SM clocks of {before:.0} and {after:.0} MHz"));
        }
        _ => {}
    }
    let held_back = |it| {
        let reasons = usual_reasons(it)?;
        Some(if reasons.is_empty() { "nothing".to_owned() } else { reasons.join(", ") })
    };
    let (before, after) = (held_back(first)?, held_back(second)?);
    (before != after)
        .then(|| format!("{before} held back the clocks of the first, {after} those of the second"))
}

/// What held the clocks back in most windows: near the power limit one window of several may touch it. A device that is
/// idle when it is asked is not held back. `None` where it has no counters.
fn usual_reasons(measurement: &Measurement) -> Option<Vec<&str>> {
    let named = measurement.counters.as_ref()?.throttle_reasons.iter().map(String::as_str);
    let is_usual = |reason: &&str| {
        let clocks = &measurement.clocks;
        let held = clocks.iter().filter(|it| it.throttle_reasons.iter().any(|own| own == reason)).count();
        *reason != "Idle" && (clocks.is_empty() || 2 * held > clocks.len())
    };
    let usual: BTreeSet<&str> = named.filter(is_usual).collect();
    Some(usual.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(value: f64, half_width: f64) -> Estimate {
        Estimate { value, lower: value - half_width, upper: value + half_width }
    }

    #[test]
    fn the_interval_of_a_ratio_is_that_of_both_errors_together() {
        let ratio = ratio(estimate(220.0, 2.2), estimate(200.0, 2.0));
        assert!((ratio.value - 1.1).abs() < 1e-12);
        // One per cent each, and one between runs: 1.73 % together.
        assert!((ratio.upper / ratio.value - 1.0175).abs() < 2e-4, "{ratio:?}");
        assert!((ratio.value / ratio.lower - 1.0175).abs() < 2e-4, "{ratio:?}");
    }

    #[test]
    fn what_may_be_nothing_has_an_interval_all_the_same() {
        let unknown = Estimate { value: 1.0, lower: 0.0, upper: 2.0 };
        let of_unknown = ratio(estimate(2.0, 0.1), unknown);
        assert!(of_unknown.lower > 0.0 && of_unknown.upper.is_finite(), "{of_unknown:?}");
        assert!(of_unknown.lower < 1.0 && 1_000.0 < of_unknown.upper, "{of_unknown:?}");
    }

    #[test]
    fn runs_that_are_exact_in_themselves_still_differ_by_what_runs_do() {
        let of_exact = ratio(estimate(110.0, 0.0), estimate(100.0, 0.0));
        assert!((of_exact.upper - 1.1 * BETWEEN_RUNS.exp()).abs() < 1e-9, "{of_exact:?}");
    }
}
