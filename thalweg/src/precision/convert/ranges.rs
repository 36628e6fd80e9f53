//! How large a network's values get, by running it.
//!
//! In: a model and samples. Out: [`Ranges`] of every FP32 value of its main graph. The `cpu` backend runs it, with all
//! those values as outputs, one sample after the other.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::HalfType;
use crate::error::Result;
use crate::model::{DataType, Model};
use crate::precision::probe::{Probe, SampleSource};

/// Random samples where none are given. Each keeps all values of the network at once.
const RANDOM_SAMPLES: usize = 2;

/// Given samples that are looked at, from the first on: more of them cost time and find little.
const MOST_SAMPLES: usize = 16;

/// How large the values of a network get.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranges {
    values: BTreeMap<String, ValueRange>,
    source: RangeSource,
}

/// What ranges were taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeSource {
    /// How many samples were run.
    pub sample_count: usize,
    /// Whether they were random numbers, which say little about real ones.
    pub is_random: bool,
    /// Values that were looked at.
    pub value_count: usize,
}

/// How large one value gets, and what it would lose in half.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ValueRange {
    /// The largest finite magnitude.
    pub largest: f64,
    /// Sum of all errors over the sum of all magnitudes, of the worst sample.
    pub relative_error: f64,
}

impl Ranges {
    /// Runs a model on samples: a NumPy file or a folder of them, or random ones from a seed.
    ///
    /// # Errors
    /// Where the `cpu` backend cannot run the model, or the samples cannot be read.
    pub fn measure(
        model: &Model,
        half: HalfType,
        input_shapes: &BTreeMap<String, Vec<usize>>,
        samples: Option<&Path>,
        seed: u64,
    ) -> Result<Self> {
        let source = SampleSource { input_shapes, path: samples, seed };
        let probe = Probe::new(model, &full_values(model)?, &source, RANDOM_SAMPLES)?;
        let sample_count = probe.sample_count().min(MOST_SAMPLES);
        let mut values = BTreeMap::<String, ValueRange>::new();
        for sample in 0..sample_count {
            probe.look(sample, |name, numbers| {
                values.entry(name.to_owned()).or_default().add(numbers, half);
            })?;
        }
        let source = RangeSource { sample_count, is_random: samples.is_none(), value_count: values.len() };
        Ok(Self { values, source })
    }

    /// The range of a value of the original; `None` where nobody looked.
    pub fn get(&self, value: &str) -> Option<&ValueRange> {
        self.values.get(value)
    }

    /// What the ranges were taken from.
    pub fn source(&self) -> &RangeSource {
        &self.source
    }
}

impl ValueRange {
    #[expect(clippy::cast_possible_truncation, reason = "they are numbers of type f32")]
    fn add(&mut self, values: &[f64], half: HalfType) {
        let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        let loss = half.loss(&values);
        self.largest = self.largest.max(loss.largest);
        // What overflows is off without bound, and told by its size.
        let is_told = loss.clipped == 0;
        self.relative_error = self.relative_error.max(if is_told { loss.relative_error } else { 0.0 });
    }
}

/// The FP32 values that nodes of the main graph make.
fn full_values(model: &Model) -> Result<Vec<String>> {
    let types = model.element_types(model.graph(), &Default::default())?;
    let made = model.graph().node.iter().filter(|node| node.op_type() != "Constant");
    let names = made.flat_map(|node| &node.output).filter(|name| types.get(*name) == Some(&DataType::F32));
    Ok(names.cloned().collect())
}
