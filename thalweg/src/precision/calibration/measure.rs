//! Thresholds by running the network: once for the largest magnitudes, and once more for how they are distributed.

use std::collections::BTreeMap;

use super::histogram::Histogram;
use super::{CalibrationMethod, CalibrationTable};
use crate::error::Result;
use crate::model::Model;
use crate::precision::RangeSource;
use crate::precision::probe::{Probe, SampleSource};

/// Random samples where none are given.
const RANDOM_SAMPLES: usize = 8;

impl CalibrationTable {
    /// Runs a model on samples and chooses the thresholds of these values. Values that were not finite once have none.
    ///
    /// # Errors
    /// Where the `cpu` backend cannot run the model, or the samples cannot be read.
    pub fn measure(
        model: &Model,
        values: &[String],
        method: CalibrationMethod,
        source: &SampleSource<'_>,
    ) -> Result<Self> {
        let probe = Probe::new(model, values, source, RANDOM_SAMPLES)?;
        let mut largest: BTreeMap<&str, f64> = values.iter().map(|name| (name.as_str(), 0.0)).collect();
        for sample in 0..probe.sample_count() {
            probe.look(sample, |name, numbers| {
                if let Some(largest) = largest.get_mut(name) {
                    *largest = numbers.iter().fold(*largest, |most, number| most.max(magnitude(*number)));
                }
            })?;
        }
        largest.retain(|_, largest| largest.is_finite());
        let thresholds = match method.needs_histogram() {
            false => largest.into_iter().map(|(name, largest)| (name.to_owned(), largest)).collect(),
            true => by_histogram(&probe, &largest, method)?,
        };
        let source = RangeSource {
            sample_count: probe.sample_count(),
            is_random: source.path.is_none(),
            value_count: thresholds.len(),
        };
        #[expect(clippy::cast_possible_truncation, reason = "they are magnitudes of numbers of type f32")]
        let thresholds = thresholds.into_iter().map(|(name, threshold)| (name, threshold as f32)).collect();
        Ok(Self { method: Some(method), source: Some(source), thresholds })
    }
}

/// NaN is larger than everything.
fn magnitude(number: f64) -> f64 {
    if number.is_nan() { f64::INFINITY } else { number.abs() }
}

fn by_histogram(
    probe: &Probe,
    largest: &BTreeMap<&str, f64>,
    method: CalibrationMethod,
) -> Result<BTreeMap<String, f64>> {
    let mut histograms: BTreeMap<&str, Histogram> =
        largest.iter().map(|(name, largest)| (*name, Histogram::up_to(*largest))).collect();
    for sample in 0..probe.sample_count() {
        probe.look(sample, |name, numbers| {
            if let Some(histogram) = histograms.get_mut(name) {
                histogram.add(numbers);
            }
        })?;
    }
    Ok(histograms.iter().map(|(name, it)| ((*name).to_owned(), method.threshold(it))).collect())
}
