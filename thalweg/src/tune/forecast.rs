//! What can be known of more streams from one and a probe, held against what was measured.
//!
//! In: the points of a sweep. Out: a [`Forecast`] for each shape of which the sweep has several numbers of streams.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::sweep::SweepPoint;
use crate::backend::DeviceSpec;
use crate::capacity::{Observation, Predictor, power_limit_watts};
use crate::pool::Configuration;

/// The number of streams to take is the smallest that reaches this part of the best: more of them only cost latency,
/// and which of several equal ones is ahead in a short slice is chance.
const ENOUGH: f64 = 0.97;

/// An error of a gain below this part of it, or below the other, is a hit.
const ALLOWED_ERROR: (f64, f64) = (0.15, 0.05);

/// From one stream and a probe of a few more: how many streams to take, and what they gain.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// The shape, with one stream.
    pub configuration: Configuration,
    /// Streams of the probe.
    pub probe_streams: usize,
    /// What was predicted.
    pub predicted: Gain,
    /// What the sweep measured.
    pub measured: Gain,
}

/// What more streams bring.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// The fewest streams that reach 97 % of the best.
    pub streams: usize,
    /// The best over one stream.
    pub gain: f64,
}

impl Forecast {
    /// Whether the number of streams is right within a factor of two.
    pub fn has_the_streams(&self) -> bool {
        let (predicted, measured) = (self.predicted.streams, self.measured.streams);
        predicted <= 2 * measured && measured <= 2 * predicted
    }

    /// Whether the gain is right within 15 % or 0.05, whichever is more.
    pub fn has_the_gain(&self) -> bool {
        is_hit(self.predicted.gain, self.measured.gain)
    }

    /// Whether somebody who always says that nothing is gained would have been right.
    pub fn is_no_gain(&self) -> bool {
        is_hit(1.0, self.measured.gain)
    }
}

fn is_hit(predicted: f64, measured: f64) -> bool {
    let (part, least) = ALLOWED_ERROR;
    (predicted - measured).abs() <= (part * measured).max(least)
}

/// One for each shape that was measured with one stream and at least two other numbers; the next number is the probe.
pub(super) fn forecasts(points: &[SweepPoint], device: &DeviceSpec) -> Vec<Forecast> {
    let mut shapes: BTreeMap<Configuration, Vec<&SweepPoint>> = BTreeMap::new();
    for point in points.iter().filter(|point| point.failure.is_none()) {
        let shape = Configuration { streams: 1, copy_lanes: None, ..point.configuration };
        shapes.entry(shape).or_default().push(point);
    }
    let of_shape = |(shape, points): (Configuration, Vec<&SweepPoint>)| {
        let of_lanes = |(copy_lanes, curve)| forecast(Configuration { copy_lanes, ..shape }, &curve, device);
        curves(&points).into_iter().filter_map(of_lanes).collect::<Vec<_>>()
    };
    shapes.into_iter().flat_map(of_shape).collect()
}

/// The points of a shape by their streams, for each number of copy lanes. As many streams as lanes share none, and are
/// measured as those with lanes of their own: they are the beginning of each curve.
fn curves<'a>(points: &[&'a SweepPoint]) -> Vec<(Option<usize>, BTreeMap<usize, &'a SweepPoint>)> {
    let has = |point: &SweepPoint, lanes| point.configuration.copy_lanes == lanes;
    let shared: BTreeSet<usize> = points.iter().filter_map(|point| point.configuration.copy_lanes).collect();
    // Where all streams but so few share lanes, those few are no curve of their own.
    let most = shared.last().copied();
    let own = points.iter().any(|point| has(point, None) && Some(point.configuration.streams) > most);
    let curve = |lanes: Option<usize>| {
        let belongs = |point: &&&SweepPoint| {
            has(point, lanes) || (has(point, None) && Some(point.configuration.streams) <= lanes)
        };
        let points = points.iter().filter(belongs);
        (lanes, points.map(|point| (point.configuration.streams, *point)).collect())
    };
    own.then_some(None).into_iter().chain(shared.into_iter().map(Some)).map(curve).collect()
}

fn forecast(
    configuration: Configuration,
    curve: &BTreeMap<usize, &SweepPoint>,
    device: &DeviceSpec,
) -> Option<Forecast> {
    let streams: Vec<usize> = curve.keys().copied().collect();
    let &[1, probe_streams, _, ..] = streams.as_slice() else { return None };
    let mut predictor = Predictor::new();
    predictor.learn_all([1, probe_streams].map(|streams| observation(curve[&streams], device)));
    let predicted = predictor.curve(&configuration, &streams)?;
    let predicted: Vec<f64> = predicted.points.iter().map(|it| it.prediction.throughput.value).collect();
    let measured: Vec<f64> = curve.values().map(|point| point.throughput_inferences_per_s.value).collect();
    let (predicted, measured) = (Gain::of(&streams, &predicted)?, Gain::of(&streams, &measured)?);
    Some(Forecast { configuration, probe_streams, predicted, measured })
}

impl Gain {
    fn of(streams: &[usize], throughputs: &[f64]) -> Option<Self> {
        let best = throughputs.iter().copied().fold(0.0, f64::max);
        let mut both = streams.iter().zip(throughputs);
        let (&streams, _) = both.find(|(_, throughput)| **throughput >= ENOUGH * best)?;
        Some(Self { streams, gain: best / throughputs.first()? })
    }
}

fn observation(point: &SweepPoint, device: &DeviceSpec) -> Observation {
    Observation {
        configuration: point.configuration,
        throughput_inferences_per_s: point.throughput_inferences_per_s,
        stages: point.stages,
        counters: point.counters.clone(),
        memory_bytes: None,
        power_limit_watts: power_limit_watts(device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Estimate, StageSummary};
    use crate::tune::Compliance;
    use crate::tune::sweep::Sweep;
    use crate::tune::synthetic::cpu;
    use crate::units::Nanos;

    fn forecast_of(predicted: (usize, f64), measured: (usize, f64)) -> Forecast {
        let gain = |(streams, gain)| Gain { streams, gain };
        let configuration = Configuration::default();
        Forecast { configuration, probe_streams: 2, predicted: gain(predicted), measured: gain(measured) }
    }

    /// Of streams that are as fast as one up to four of them; those that share lanes are a tenth slower.
    fn point(streams: usize, copy_lanes: Option<usize>) -> SweepPoint {
        let value = 1000.0 * streams.min(4) as f64 * if copy_lanes.is_some() { 0.9 } else { 1.0 };
        let compute = Nanos::from_seconds(streams as f64 / value);
        SweepPoint {
            configuration: Configuration { streams, copy_lanes, ..Configuration::default() },
            throughput_inferences_per_s: Estimate { value, lower: 0.99 * value, upper: 1.01 * value },
            stages: StageSummary { enqueue: Nanos(1_000), compute, ..StageSummary::default() },
            counters: None,
            failure: None,
            compliance: Compliance::Keeps,
        }
    }

    #[test]
    fn streams_that_share_copy_lanes_are_forecast_from_those_that_are_too_few_to_share() {
        let told = |points: &[(usize, Option<usize>)]| -> Vec<_> {
            let points: Vec<_> = points.iter().map(|(streams, lanes)| point(*streams, *lanes)).collect();
            let forecasts = forecasts(&points, &cpu(1)).into_iter();
            forecasts.map(|it| (it.configuration.copy_lanes, it.probe_streams, it.measured.gain)).collect()
        };
        let own = [(1, None), (2, None), (4, None), (8, None)];
        assert_eq!(told(&own), [(None, 2, 4.0)]);
        let shared = [(1, None), (2, None), (4, Some(2)), (8, Some(2))];
        assert_eq!(told(&shared), [(Some(2), 2, 3.6)]);
        let both = [own.as_slice(), &shared[2..]].concat();
        assert_eq!(told(&both), [(None, 2, 4.0), (Some(2), 2, 3.6)]);
    }

    #[test]
    fn the_fewest_streams_that_are_as_good_as_the_best_are_taken() {
        let gain = Gain::of(&[1, 2, 4, 8], &[100.0, 190.0, 196.0, 200.0]).unwrap();
        assert_eq!((gain.streams, gain.gain), (4, 2.0));
        assert_eq!(Gain::of(&[1, 2], &[100.0, 90.0]).unwrap(), Gain { streams: 1, gain: 1.0 });
    }

    #[test]
    fn hits_are_within_a_factor_of_two_and_fifteen_per_cent() {
        assert!(forecast_of((4, 2.2), (8, 2.0)).has_the_streams());
        assert!(!forecast_of((2, 2.0), (8, 2.0)).has_the_streams());
        assert!(forecast_of((4, 2.29), (4, 2.0)).has_the_gain());
        assert!(!forecast_of((4, 2.31), (4, 2.0)).has_the_gain());
        assert!(
            forecast_of((1, 1.0), (1, 1.05)).has_the_gain() && forecast_of((1, 3.0), (1, 1.1)).is_no_gain()
        );
        assert!(!forecast_of((1, 1.0), (2, 1.2)).is_no_gain());
    }

    /// Sweeps of ResNet-50 on an H200 (docs/benchmarks.md, "At the limit of the machine"). What executions take in company
    /// was changed on them, so they hold it and are no evidence for it.
    #[test]
    fn one_stream_and_two_of_a_real_gpu_tell_what_eight_gain() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/data/limit-2026-11-29.json");
        let data: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let mut all = Vec::new();
        for tuned in data["tune"].as_object().unwrap().values() {
            let sweep: Sweep = serde_json::from_value(tuned["sweep"].clone()).unwrap();
            let device: DeviceSpec = serde_json::from_value(tuned["device"].clone()).unwrap();
            all.extend(forecasts(&sweep.points, &device));
        }
        let gaining: Vec<_> = all.iter().filter(|it| it.measured.gain >= 1.2).collect();
        let hits = gaining.iter().filter(|it| it.has_the_gain()).count();
        assert_eq!((all.len(), gaining.len()), (48, 35));
        assert!(hits >= 34 && all.iter().filter(|it| it.has_the_gain()).count() >= 47, "{hits} of the gains");
        assert!(all.iter().filter(|it| it.has_the_streams()).count() >= 45);
    }
}
