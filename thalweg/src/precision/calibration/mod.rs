//! How large the values of a network get on real samples, for eight bits.
//!
//! In: a model, names of its values, and samples; or a file, as [`CalibrationTable::read`] takes it. Out: a
//! [`CalibrationTable`] with one threshold for each value: what is beyond is clipped, what is within gets a number from
//! -127 to 127. What is done with it is left to [`quantize`](fn@super::quantize).

mod files;
mod histogram;
mod measure;
mod method;
mod tensorrt_cache;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RangeSource;

pub use method::CalibrationMethod;

/// The largest whole number that a symmetric scale reaches: -128 stays unused, so that negating is exact.
pub(super) const LARGEST_STEP: f32 = 127.0;

/// The threshold of each value of a network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CalibrationTable {
    /// How the thresholds were chosen; `None` where the table is somebody else's.
    pub method: Option<CalibrationMethod>,
    /// What they were taken from; `None` as above.
    pub source: Option<RangeSource>,
    thresholds: BTreeMap<String, f32>,
}

/// A threshold that eight bits can have.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f32")]
struct Threshold(f32);

impl TryFrom<f32> for Threshold {
    type Error = String;

    fn try_from(threshold: f32) -> Result<Self, String> {
        if threshold.is_finite() && threshold >= 0.0 {
            return Ok(Self(threshold));
        }
        Err(format!("{threshold} is no threshold: it must be finite and not below 0"))
    }
}

impl CalibrationTable {
    /// The threshold of a value; `None` where nobody looked.
    pub fn threshold(&self, value: &str) -> Option<f32> {
        self.thresholds.get(value).copied()
    }

    /// The step from one whole number to the next: the threshold over 127. `None` where nobody looked, or where the
    /// value was always 0, so that any step would do and none is known to.
    pub fn scale(&self, value: &str) -> Option<f32> {
        let scale = self.threshold(value)? / LARGEST_STEP;
        scale.is_normal().then_some(scale)
    }

    /// Values with their thresholds, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f32)> {
        self.thresholds.iter().map(|(name, threshold)| (name.as_str(), *threshold))
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        self.thresholds.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.thresholds.is_empty()
    }
}
