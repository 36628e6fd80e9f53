//! What the model misses, learnt from what was measured, and how far a prediction may be off.
//!
//! In: the logarithms of measured over modelled throughput. Out: for any configuration the correction that its
//! neighbours suggest, and how uncertain it remains. This is regression with a Gaussian process (Rasmussen and
//! Williams, "Gaussian Processes for Machine Learning", 2006, section 2.2) on the discrepancy of a model (Kennedy
//! and O'Hagan, "Bayesian Calibration of Computer Models", JRSS B 63, 2001): near a measured configuration the
//! correction is exact and certain, far away it vanishes and the model's own uncertainty remains.

use crate::pool::Configuration;

/// How far the model is off for one stream: what batches between measured ones may hide.
const ONE_STREAM_SPREAD: f64 = 0.05;

/// What many streams add, besides what the caller knows about contention.
const MANY_STREAMS_SPREAD: f64 = 0.08;

/// What several submitting threads add: how they share the driver's lock.
const SUBMITTERS_SPREAD: f64 = 0.15;

/// The discrepancy has a part that changes slowly and one that is local; both count the same.
const LENGTHS: [f64; 2] = [1.5, 4.0];

/// Distance of two kinds of CUDA graph, in doublings of a knob.
const GRAPH_DISTANCE: f64 = 1.0;

/// Part of the discrepancy that is a kind's own: how streams wait for each other depends on what is in the graph.
/// MobileNetV2 on a simulated L4 is a fifth to a third faster with its copies in the graph than measurements of the
/// other kinds say, several of their standard deviations if kinds were merely distant.
const KINDS_OWN: f64 = 0.5;

/// The spreads above count as much as so many discrepancies that were measured: the probes and as many again.
const EXPECTED_COUNT: f64 = 12.0;

/// The smallest and the largest noise of a measurement. The interval of a short one overstates it: it is cut into
/// blocks of few executions, which differ by more than measurements do.
const LEAST_NOISE: f64 = 0.005;
const MOST_NOISE: f64 = 0.03;

/// Measured discrepancies, ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct Residuals {
    places: Vec<Place>,
    /// Lower triangle of the Cholesky factor of the observations' covariance.
    factor: Vec<Vec<f64>>,
    /// The inverse of the covariance times the discrepancies.
    weights: Vec<f64>,
    /// How many times larger than expected the discrepancies turned out to be, and at least one.
    surprise: f64,
}

/// Where a discrepancy is measured or asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    configuration: Configuration,
    /// Standard deviation of the discrepancy before anything was measured.
    spread: f64,
}

impl Place {
    /// A configuration that the model itself is uncertain about by `contention`: the standard deviation of the
    /// logarithm of its throughput.
    pub fn new(configuration: Configuration, contention: f64) -> Self {
        // Nothing for one stream, half of it for two, all of it for very many.
        let beyond_one = |count: usize| 1.0 - 1.0 / count as f64;
        let streams = MANY_STREAMS_SPREAD * beyond_one(configuration.streams);
        let submitters = SUBMITTERS_SPREAD * beyond_one(configuration.submitters);
        let parts = [ONE_STREAM_SPREAD, streams, submitters, contention];
        Self { configuration, spread: parts.iter().map(|part| part * part).sum::<f64>().sqrt() }
    }
}

/// A discrepancy that was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Residual {
    /// Where.
    pub place: Place,
    /// Logarithm of measured over modelled throughput.
    pub value: f64,
    /// Standard deviation of that, from the measurement alone.
    pub noise: f64,
}

impl Residuals {
    /// Learns from these.
    pub fn of(residuals: &[Residual]) -> Self {
        let places: Vec<Place> = residuals.iter().map(|residual| residual.place).collect();
        let covariances = |(index, residual): (usize, &Residual)| {
            let others = &places[..=index];
            let mut row: Vec<f64> = others.iter().map(|other| covariance(&residual.place, other)).collect();
            row[index] += residual.noise.clamp(LEAST_NOISE, MOST_NOISE).powi(2);
            row
        };
        let factor = cholesky(residuals.iter().enumerate().map(covariances).collect());
        let values: Vec<f64> = residuals.iter().map(|residual| residual.value).collect();
        let weights = solve_transposed(&factor, &solve(&factor, &values));
        let surprise = surprise(&values, &weights);
        Self { places, factor, weights, surprise }
    }

    /// The mean and the standard deviation of the discrepancy there.
    pub fn at(&self, place: &Place) -> (f64, f64) {
        let shared: Vec<f64> = self.places.iter().map(|other| covariance(place, other)).collect();
        let mean = shared.iter().zip(&self.weights).map(|(shared, weight)| shared * weight).sum();
        let explained: f64 = solve(&self.factor, &shared).iter().map(|part| part * part).sum();
        let variance = (covariance(place, place) - explained).max(0.0);
        (mean, self.surprise * variance.sqrt())
    }
}

/// The scale of all standard deviations, learnt from the discrepancies (Rasmussen and Williams, section 5.4.1): where
/// the model was off by more than it says, it may be so elsewhere. Few discrepancies say little, and some that are
/// small by chance do not make the model better than it is.
fn surprise(values: &[f64], weights: &[f64]) -> f64 {
    let squares: f64 = values.iter().zip(weights).map(|(value, weight)| value * weight).sum();
    ((squares + EXPECTED_COUNT) / (values.len() as f64 + EXPECTED_COUNT)).sqrt().max(1.0)
}

/// Knobs as doublings.
fn doublings(configuration: &Configuration) -> [f64; 4] {
    let Configuration { streams, batch_size, depth, submitters, .. } = *configuration;
    [streams, batch_size, depth, submitters].map(|count| (count as f64).log2())
}

fn covariance(first: &Place, second: &Place) -> f64 {
    let (one, other) = (&first.configuration, &second.configuration);
    let (graph, shared) =
        if one.cuda_graph == other.cuda_graph { (0.0, 1.0) } else { (GRAPH_DISTANCE, 1.0 - KINDS_OWN) };
    let pairs = doublings(one).into_iter().zip(doublings(other));
    let distance = pairs.map(|(one, other)| (one - other).powi(2)).sum::<f64>() + graph * graph;
    let alike = LENGTHS.map(|length| (-0.5 * distance / (length * length)).exp());
    first.spread * second.spread * shared * alike.iter().sum::<f64>() / LENGTHS.len() as f64
}

/// The lower triangle L with L x L^T = `matrix`, which is given by its own lower triangle.
fn cholesky(mut matrix: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    for row in 0..matrix.len() {
        for column in 0..=row {
            let products = matrix[row][..column].iter().zip(&matrix[column][..column]);
            let rest = matrix[row][column] - products.map(|(a, b)| a * b).sum::<f64>();
            // Noise on the diagonal keeps it positive; rounding may not take it below.
            let pivot = matrix[column][column];
            matrix[row][column] =
                if row == column { rest.max(f64::MIN_POSITIVE).sqrt() } else { rest / pivot };
        }
    }
    matrix
}

/// x with L x = `values`.
fn solve(factor: &[Vec<f64>], values: &[f64]) -> Vec<f64> {
    let mut solution = Vec::with_capacity(values.len());
    for (row, value) in factor.iter().zip(values) {
        let known: f64 = row.iter().zip(&solution).map(|(a, x)| a * x).sum();
        solution.push((value - known) / row[solution.len()]);
    }
    solution
}

/// x with L^T x = `values`.
fn solve_transposed(factor: &[Vec<f64>], values: &[f64]) -> Vec<f64> {
    let mut solution = values.to_vec();
    for row in (0..factor.len()).rev() {
        solution[row] /= factor[row][row];
        for column in 0..row {
            solution[column] -= factor[row][column] * solution[row];
        }
    }
    solution
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::CudaGraph;

    fn at(streams: usize, batch_size: usize) -> Place {
        Place::new(Configuration { streams, batch_size, ..Configuration::default() }, 0.1)
    }

    fn residual(streams: usize, value: f64) -> Residual {
        Residual { place: at(streams, 8), value, noise: 0.0 }
    }

    #[test]
    fn a_measured_configuration_is_corrected_and_certain() {
        let residuals = Residuals::of(&[residual(1, 0.01), residual(2, -0.1), residual(8, -0.2)]);
        let (mean, deviation) = residuals.at(&at(8, 8));
        assert!((mean + 0.2).abs() < 0.01 && deviation < 0.006, "{mean} {deviation}");
    }

    #[test]
    fn neighbours_are_corrected_less_and_stay_less_certain() {
        let residuals = Residuals::of(&[residual(8, -0.2)]);
        let (near, far) = (residuals.at(&at(4, 8)), residuals.at(&at(4, 1)));
        assert!(near.0 < -0.1 && near.0 < far.0 && far.0 < 0.0, "{near:?} {far:?}");
        assert!(near.1 < far.1, "{near:?} {far:?}");
    }

    #[test]
    fn a_model_that_was_far_off_is_less_certain_elsewhere() {
        let off_by = |value| Residuals::of(&[residual(2, value), residual(4, -value)]).at(&at(4, 1)).1;
        assert!(off_by(0.01) == off_by(0.02) && off_by(0.4) > 1.5 * off_by(0.01), "{}", off_by(0.4));
    }

    #[test]
    fn another_kind_of_graph_stays_much_less_certain() {
        let residuals = Residuals::of(&[residual(8, 0.0), residual(4, 0.0)]);
        let of_kind = |cuda_graph| {
            let configuration =
                Configuration { streams: 8, batch_size: 16, cuda_graph, ..Default::default() };
            residuals.at(&Place::new(configuration, 0.1)).1
        };
        let (same, other) = (of_kind(CudaGraph::Off), of_kind(CudaGraph::Copies));
        let alone = Residuals::of(&[]).at(&at(8, 16)).1;
        assert!(1.5 * same < other && other > 0.9 * alone, "{same} {other} {alone}");
    }

    #[test]
    fn without_measurements_only_the_models_own_uncertainty_is_left() {
        let residuals = Residuals::of(&[]);
        let (mean, deviation) = residuals.at(&at(8, 8));
        assert!(mean == 0.0 && deviation > residuals.at(&at(1, 8)).1, "{deviation}");
    }

    #[test]
    fn the_same_configuration_twice_does_no_harm() {
        let residuals = Residuals::of(&[residual(2, 0.1), residual(2, 0.12)]);
        assert!((residuals.at(&at(2, 8)).0 - 0.11).abs() < 0.005);
    }
}
