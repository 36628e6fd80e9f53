//! Choosing a threshold: what is beyond it is clipped, what is within is rounded more finely the lower it is.
//!
//! In: a [`Histogram`] of magnitudes. Out: the threshold. All methods are symmetric around 0.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::LARGEST_STEP;
use super::histogram::{CELLS, Histogram};

/// The share of magnitudes that [`CalibrationMethod::Percentile`] does not clip: 99.99 %, as NVIDIA's tools have it.
const UNCLIPPED: f64 = 0.9999;

/// Magnitudes that eight bits tell apart in [`CalibrationMethod::Entropy`]: 0 to 127.
const LEVELS: usize = 128;

/// Cells from one threshold that is tried to the next: 1/512 of the range, which a step of 1/127 does not feel.
const STRIDE: usize = 4;

/// How thresholds are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMethod {
    /// That for which the distribution of rounded values is closest to the original one, by Kullback and Leibler's
    /// divergence, as TensorRT's calibrator does it (S. Migacz, "8-bit Inference with TensorRT", GTC 2017).
    Entropy,
    /// The largest magnitude that was seen: nothing is clipped.
    MinMax,
    /// The magnitude that 99.99 % do not pass.
    Percentile,
    /// That for which the mean squared error is least.
    #[default]
    Mse,
}

impl CalibrationMethod {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Entropy, Self::MinMax, Self::Percentile, Self::Mse];

    /// Whether it needs more than the largest magnitude.
    pub(super) fn needs_histogram(self) -> bool {
        self != Self::MinMax
    }

    /// The threshold for these magnitudes.
    pub(super) fn threshold(self, histogram: &Histogram) -> f64 {
        match self {
            Self::MinMax => histogram.largest(),
            Self::Percentile => percentile(histogram),
            Self::Entropy => best_cell(histogram, LEVELS, divergence),
            Self::Mse => best_cell(histogram, STRIDE, squared_error),
        }
    }
}

impl fmt::Display for CalibrationMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entropy => "entropy",
            Self::MinMax => "minmax",
            Self::Percentile => "percentile",
            Self::Mse => "mse",
        })
    }
}

fn percentile(histogram: &Histogram) -> f64 {
    let total = histogram.zeros() + histogram.cells().iter().sum::<u64>();
    let most = total as f64 * UNCLIPPED;
    let mut seen = histogram.zeros();
    let cell = histogram.cells().iter().position(|count| {
        seen += count;
        seen as f64 >= most
    });
    histogram.end_of(cell.unwrap_or(CELLS - 1))
}

/// The end of the cell after which clipping costs least: the first of equals. At least `least` cells are kept.
fn best_cell(histogram: &Histogram, least: usize, cost: impl Fn(&Histogram, usize) -> f64) -> f64 {
    let costs = (least..=CELLS).step_by(STRIDE).map(|kept| (kept, cost(histogram, kept)));
    let best = costs.min_by(|(_, a), (_, b)| a.total_cmp(b));
    histogram.end_of(best.map_or(CELLS, |(kept, _)| kept) - 1)
}

/// What a cell counts as that is empty in 128 levels and is not in the original: without it the divergence would be
/// infinite wherever the last cell happens to be empty. As small as ONNX Runtime's calibrator has it.
const LEAST_SHARE: f64 = 1e-4;

/// The divergence of the first `kept` cells, with all that is beyond in the last of them, from the same in 128 levels.
fn divergence(histogram: &Histogram, kept: usize) -> f64 {
    let cells = histogram.cells();
    let clipped: u64 = cells[kept..].iter().sum();
    let total = (cells[..kept].iter().sum::<u64>() + clipped) as f64;
    let inside = total - clipped as f64;
    let mut divergence = 0.0;
    for level in 0..LEVELS {
        let (start, end) = (level * kept / LEVELS, (level + 1) * kept / LEVELS);
        let level_total: u64 = cells[start..end].iter().sum();
        let filled = cells[start..end].iter().filter(|count| **count > 0).count();
        for (place, count) in cells[start..end].iter().enumerate() {
            let beyond = if start + place + 1 == kept { clipped } else { 0 };
            if count + beyond == 0 {
                continue;
            }
            let original = (count + beyond) as f64 / total;
            let is_empty = *count == 0;
            let rounded = if is_empty { LEAST_SHARE } else { level_total as f64 / filled as f64 / inside };
            divergence += original * (original / rounded).ln();
        }
    }
    divergence
}

/// The sum of squared errors where all beyond the first `kept` cells is clipped. Within, each magnitude counts as the
/// middle of its cell, or where steps are finer than cells, as lying anywhere between two steps.
fn squared_error(histogram: &Histogram, kept: usize) -> f64 {
    let threshold = histogram.end_of(kept - 1);
    let step = threshold / f64::from(LARGEST_STEP);
    let cell_width = histogram.end_of(0);
    let error = |cell: usize| {
        let middle = histogram.end_of(cell) - cell_width / 2.0;
        if cell >= kept {
            return (middle - threshold).powi(2);
        }
        if step < cell_width {
            // The variance of a uniform distribution over one step.
            return step * step / 12.0;
        }
        (middle - (middle / step).round() * step).powi(2)
    };
    histogram.cells().iter().enumerate().map(|(cell, count)| *count as f64 * error(cell)).sum()
}
