//! What can be known of more streams from one and a probe, held against what was measured.
//!
//! In: the points of a sweep. Out: a [`Forecast`] for each shape of which the sweep has several numbers of streams.

use std::collections::BTreeMap;

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
    let mut shapes: BTreeMap<Configuration, BTreeMap<usize, &SweepPoint>> = BTreeMap::new();
    for point in points.iter().filter(|point| point.failure.is_none()) {
        let shape = Configuration { streams: 1, ..point.configuration };
        shapes.entry(shape).or_default().insert(point.configuration.streams, point);
    }
    shapes.into_iter().filter_map(|(shape, curve)| forecast(shape, &curve, device)).collect()
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

    fn forecast_of(predicted: (usize, f64), measured: (usize, f64)) -> Forecast {
        let gain = |(streams, gain)| Gain { streams, gain };
        let configuration = Configuration::default();
        Forecast { configuration, probe_streams: 2, predicted: gain(predicted), measured: gain(measured) }
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
}
