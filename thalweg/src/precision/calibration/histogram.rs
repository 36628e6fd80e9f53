//! How often a value's magnitudes fall where.

/// Cells from 0 to the largest magnitude. TensorRT's calibrators take as many.
pub(super) const CELLS: usize = 2048;

/// Counts of the magnitudes of one value. Zeros stand apart: every scale holds them exactly.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    largest: f64,
    zeros: u64,
    cells: Vec<u64>,
}

impl Histogram {
    /// Nothing is counted yet. `largest` is the largest magnitude that will come.
    pub fn up_to(largest: f64) -> Self {
        Self { largest, zeros: 0, cells: vec![0; CELLS] }
    }

    /// Counts the finite ones of these numbers.
    pub fn add(&mut self, values: &[f64]) {
        let per_cell = CELLS as f64 / self.largest;
        for magnitude in values.iter().map(|value| value.abs()).filter(|value| value.is_finite()) {
            if magnitude == 0.0 {
                self.zeros += 1;
                continue;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "not negative, and casts from float saturate"
            )]
            let cell = (magnitude * per_cell) as usize;
            self.cells[cell.min(CELLS - 1)] += 1;
        }
    }

    /// The counts, from the smallest magnitudes on.
    pub fn cells(&self) -> &[u64] {
        &self.cells
    }

    /// How many zeros there were.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The largest magnitude.
    pub fn largest(&self) -> f64 {
        self.largest
    }

    /// The magnitude where a cell ends.
    pub fn end_of(&self, cell: usize) -> f64 {
        self.largest * (cell + 1) as f64 / CELLS as f64
    }
}
