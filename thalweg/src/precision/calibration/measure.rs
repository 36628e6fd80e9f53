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

/// Elements of the values that are looked at in one run. Each takes 16 bytes for the time of a sample: rten's, the
/// slot's, and the number that is looked at. So this is half a gibibyte.
const MOST_ELEMENTS: usize = 1 << 25;

/// Elements of a value whose shape does not follow from the model.
const USUAL_ELEMENTS: usize = 1 << 20;

impl CalibrationTable {
    /// Runs a model on samples and chooses the thresholds of these values. Values that were not finite once have none.
    /// Where they are too large to be kept all at once, the model runs once more for each part of them.
    ///
    /// # Errors
    /// Where the `cpu` backend cannot run the model, or the samples cannot be read.
    pub fn measure(
        model: &Model,
        values: &[String],
        method: CalibrationMethod,
        source: &SampleSource<'_>,
    ) -> Result<Self> {
        let mut table = Self { method: Some(method), source: None, thresholds: BTreeMap::new() };
        let mut sample_count = 0;
        for part in parts(model, values, source)? {
            let probe = Probe::new(model, part, source, RANDOM_SAMPLES)?;
            sample_count = probe.sample_count();
            let thresholds = thresholds(&probe, part, method)?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "they are magnitudes of numbers of type f32"
            )]
            table.thresholds.extend(thresholds.into_iter().map(|(name, it)| (name.to_owned(), it as f32)));
        }
        let value_count = table.len();
        table.source = Some(RangeSource { sample_count, is_random: source.path.is_none(), value_count });
        Ok(table)
    }
}

/// The values in parts that are small enough to be looked at together.
fn parts<'v>(model: &Model, values: &'v [String], source: &SampleSource<'_>) -> Result<Vec<&'v [String]>> {
    let shapes = model.infer_shapes(source.input_shapes)?;
    let elements = |name: &String| match shapes.shape(name) {
        Some(shape) => shape.iter().fold(1, |product: usize, size| product.saturating_mul(*size)),
        None => USUAL_ELEMENTS,
    };
    let (mut parts, mut start, mut sum) = (Vec::new(), 0, 0_usize);
    for (place, name) in values.iter().enumerate() {
        let more = elements(name);
        if place > start && sum.saturating_add(more) > MOST_ELEMENTS {
            parts.push(&values[start..place]);
            (start, sum) = (place, 0);
        }
        sum = sum.saturating_add(more);
    }
    parts.push(&values[start..]);
    Ok(parts)
}

fn thresholds<'v>(
    probe: &Probe,
    values: &'v [String],
    method: CalibrationMethod,
) -> Result<BTreeMap<&'v str, f64>> {
    let mut largest: BTreeMap<&str, f64> = values.iter().map(|name| (name.as_str(), 0.0)).collect();
    for sample in 0..probe.sample_count() {
        probe.look(sample, |name, numbers| {
            if let Some(largest) = largest.get_mut(name) {
                *largest = numbers.iter().fold(*largest, |most, number| most.max(magnitude(*number)));
            }
        })?;
    }
    largest.retain(|_, largest| largest.is_finite());
    if !method.needs_histogram() {
        return Ok(largest);
    }
    let mut histograms: BTreeMap<&str, Histogram> =
        largest.into_iter().map(|(name, largest)| (name, Histogram::up_to(largest))).collect();
    for sample in 0..probe.sample_count() {
        probe.look(sample, |name, numbers| {
            if let Some(histogram) = histograms.get_mut(name) {
                histogram.add(numbers);
            }
        })?;
    }
    Ok(histograms.into_iter().map(|(name, histogram)| (name, method.threshold(&histogram))).collect())
}

/// NaN is larger than everything.
fn magnitude(number: f64) -> f64 {
    if number.is_nan() { f64::INFINITY } else { number.abs() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sketch::Sketch;

    #[test]
    fn values_are_looked_at_in_parts_that_fit() {
        let sketch = Sketch::new().input("x", "1,4096,4096").output("y").node("a = Relu(x)", &[]);
        let model = sketch.node("b = Relu(a)", &[]).node("y = Mystery(b)", &[]).model();
        let values = ["x", "a", "b", "y"].map(str::to_owned);
        let input_shapes = BTreeMap::new();
        let source = SampleSource { input_shapes: &input_shapes, path: None, seed: 0 };
        let parts: Vec<_> = parts(&model, &values, &source).unwrap().iter().map(|part| part.len()).collect();
        assert_eq!(parts, [2, 2]);
    }
}
