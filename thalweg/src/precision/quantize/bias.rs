//! What rounding shifts on average, and biases that take it back.
//!
//! In: a model, thresholds, and samples. Out: [`BiasShifts`], the mean error of each channel of each quantised node, as
//! it is on the original's values. An error of one value is noise, which sums drown; a mean one, as of an activation
//! whose small negative values all become 0, goes through the network like another bias (M. Nagel et al., "Data-Free
//! Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2, there from statistics). Each
//! node is looked at by itself, with the original's values in front of it, so that corrections add up and a part of them
//! is as right as all.

use std::collections::BTreeMap;

use super::{QuantizationSpec, planned, rewrite};
use crate::error::Result;
use crate::model::Model;
use crate::precision::CalibrationTable;
use crate::precision::probe::{Probe, SampleSource};

/// Random samples where none are given.
const RANDOM_SAMPLES: usize = 8;

/// The mean error of each channel, by the output of the node that makes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BiasShifts {
    shifts: BTreeMap<String, Vec<f32>>,
}

impl BiasShifts {
    /// Runs a model with each node that will be quantised beside its quantised twin.
    ///
    /// # Errors
    /// As [`CalibrationTable::measure`], and as [`quantize`](fn@super::quantize).
    pub fn measure(
        model: &Model,
        table: &CalibrationTable,
        spec: &QuantizationSpec<'_>,
        source: &SampleSource<'_>,
    ) -> Result<Self> {
        let (model, plan) = planned(&model.embedded()?, spec, Some(table))?;
        let (proto, twins) = rewrite::with_twins(&model, &plan, table)?;
        if twins.is_empty() {
            return Ok(Self::default());
        }
        let names: Vec<String> = twins.iter().map(|twin| twin.error.clone()).collect();
        let probe = Probe::new(&Model::from_proto(proto, model.path())?, &names, source, RANDOM_SAMPLES)?;
        let mut means: BTreeMap<&str, Mean> =
            twins.iter().map(|twin| (twin.error.as_str(), Mean::of(twin.channels))).collect();
        for sample in 0..probe.sample_count() {
            probe.look(sample, |name, numbers| {
                if let Some(mean) = means.get_mut(name) {
                    mean.add(numbers);
                }
            })?;
        }
        let shift = |twin: &Twin| Some((twin.output.clone(), means[twin.error.as_str()].shift()?));
        Ok(Self { shifts: twins.iter().filter_map(shift).collect() })
    }

    /// The mean error of the channels of a value; `None` where nobody looked.
    pub(super) fn get(&self, output: &str) -> Option<&[f32]> {
        self.shifts.get(output).map(Vec::as_slice)
    }
}

/// A node and what its quantised twin makes of the same values.
pub(super) struct Twin {
    /// What the node makes.
    pub output: String,
    /// The twin's result less that, channels last, or averaged over all that is behind them.
    pub error: String,
    pub channels: usize,
}

/// Sums of the errors of each channel.
struct Mean {
    sums: Vec<f64>,
    count: u64,
}

impl Mean {
    fn of(channels: usize) -> Self {
        Self { sums: vec![0.0; channels], count: 0 }
    }

    fn add(&mut self, numbers: &[f64]) {
        for row in numbers.chunks_exact(self.sums.len().max(1)) {
            self.sums.iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
            self.count += 1;
        }
    }

    /// The mean; `None` where nothing was seen, or something that is not finite.
    fn shift(&self) -> Option<Vec<f32>> {
        if self.count == 0 || !self.sums.iter().all(|sum| sum.is_finite()) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "they are differences of numbers of type f32")]
        Some(self.sums.iter().map(|sum| (sum / self.count as f64) as f32).collect())
    }
}
