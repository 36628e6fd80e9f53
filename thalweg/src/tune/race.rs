//! Which candidate is faster, and how sure that is.
//!
//! A reading is modelled as candidate x round x noise: in each round every candidate that is still in the
//! race is measured once, so what slows the whole machine for a while slows the round and cancels when two
//! candidates are compared within their common rounds. Everything is done on logarithms, where ratios are
//! differences.

use crate::measure::distribution::t_quantile;
use crate::measure::stats::{mean, standard_deviation};

/// Sweeps of the alternating fit at most. One that was measured in many rounds hangs together with those that left after
/// the first by that round alone, so each sweep closes only a small part of the gap.
const FIT_SWEEPS: usize = 1_000;

/// The fit ends where no round moves by more: it may still be off by hundreds of such steps, which nobody sees.
const SETTLED: f64 = 1e-8;

/// All readings of one race, fitted.
pub(super) struct Race {
    /// For each candidate its readings: round and logarithm of the throughput.
    readings: Vec<Vec<(usize, f64)>>,
    /// For each candidate its logarithm without the round's part; `None` where it has no reading.
    scores: Vec<Option<f64>>,
    /// Standard deviation of the noise, and the degrees of freedom it is known with.
    noise: Option<(f64, f64)>,
    /// How many standard errors an interval reaches to each side; infinite while the noise is not known.
    critical_value: f64,
}

/// Logarithm of the ratio of two candidates in their common rounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Difference {
    /// The middle.
    pub value: f64,
    /// Half the width of its interval; infinite while the noise is not known.
    pub half_width: f64,
    /// How many rounds it comes from.
    pub rounds: usize,
}

impl Race {
    /// Fits the model by least squares, one side after the other. Each interval will miss the truth, to one
    /// side, with at most the probability `miss`.
    pub fn of(readings: Vec<Vec<(usize, f64)>>, miss: f64) -> Self {
        let round_count = readings.iter().flatten().map(|(round, _)| round + 1).max().unwrap_or(0);
        let mut rounds = vec![0.0; round_count];
        let mut scores = Vec::new();
        for _ in 0..FIT_SWEEPS {
            scores = candidate_parts(&readings, &rounds);
            let before = std::mem::replace(&mut rounds, round_parts(&readings, &scores, round_count));
            if before.iter().zip(&rounds).all(|(before, after)| (before - after).abs() < SETTLED) {
                break;
            }
        }
        let noise = noise(&readings, &scores, &rounds);
        let critical_value = noise.map_or(f64::INFINITY, |(_, freedom)| t_quantile(1.0 - miss, freedom));
        Self { readings, scores, noise, critical_value }
    }

    /// The logarithm of a candidate's throughput, freed from the rounds it happened to be in.
    pub fn score(&self, candidate: usize) -> Option<f64> {
        self.scores[candidate]
    }

    /// The first candidate over the second in their common rounds; `None` where they have none.
    ///
    /// The noise of a pair is the larger of what all candidates show together, which is known best, and
    /// what this pair shows, since one candidate may be less steady than the others.
    pub fn difference(&self, first: usize, second: usize) -> Option<Difference> {
        let differences = self.common_rounds(first, second);
        if differences.is_empty() {
            return None;
        }
        let shared = self.noise.map_or(f64::INFINITY, |(noise, _)| noise * f64::sqrt(2.0));
        let own = standard_deviation(&differences).unwrap_or(0.0);
        let error = shared.max(own) / (differences.len() as f64).sqrt();
        let half_width = self.critical_value * error;
        Some(Difference { value: mean(&differences), half_width, rounds: differences.len() })
    }

    fn common_rounds(&self, first: usize, second: usize) -> Vec<f64> {
        // Readings are in the order of their rounds.
        let others = &self.readings[second];
        let other = |round: usize| others.binary_search_by_key(&round, |(at, _)| *at).map(|at| others[at].1);
        let readings = self.readings[first].iter();
        readings.filter_map(|(round, reading)| Some(reading - other(*round).ok()?)).collect()
    }
}

fn candidate_parts(readings: &[Vec<(usize, f64)>], rounds: &[f64]) -> Vec<Option<f64>> {
    let part = |own: &Vec<(usize, f64)>| {
        let parts: Vec<f64> = own.iter().map(|(round, reading)| reading - rounds[*round]).collect();
        (!parts.is_empty()).then(|| mean(&parts))
    };
    readings.iter().map(part).collect()
}

fn round_parts(readings: &[Vec<(usize, f64)>], scores: &[Option<f64>], round_count: usize) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); round_count];
    for (own, score) in readings.iter().zip(scores) {
        for (round, reading) in own {
            sums[*round].0 += reading - score.unwrap_or(0.0);
            sums[*round].1 += 1.0;
        }
    }
    let part = |(sum, count): &(f64, f64)| if *count > 0.0 { sum / count } else { 0.0 };
    let parts: Vec<f64> = sums.iter().map(part).collect();
    // Only sums of both parts are determined: the first round is taken as the normal one.
    let first = parts.first().copied().unwrap_or(0.0);
    parts.iter().map(|part| part - first).collect()
}

fn noise(readings: &[Vec<(usize, f64)>], scores: &[Option<f64>], rounds: &[f64]) -> Option<(f64, f64)> {
    let mut squares = 0.0;
    for (own, score) in readings.iter().zip(scores) {
        let residual = |(round, reading): &(usize, f64)| reading - score.unwrap_or(0.0) - rounds[*round];
        squares += own.iter().map(|reading| residual(reading).powi(2)).sum::<f64>();
    }
    let reading_count = readings.iter().map(Vec::len).sum::<usize>();
    let part_count = scores.iter().flatten().count() + rounds.len();
    let freedom = (reading_count + 1).saturating_sub(part_count);
    (freedom > 0).then(|| ((squares / freedom as f64).sqrt(), freedom as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_round_does_not_count_against_those_measured_in_it() {
        // The second candidate is 10 % slower; only the first was measured in the second, slow round.
        let race = Race::of(vec![vec![(0, 1.0), (1, 0.5), (2, 1.0)], vec![(0, 0.9), (2, 0.9)]], 0.05);
        let scores = (race.score(0).unwrap(), race.score(1).unwrap());
        assert!((scores.0 - scores.1 - 0.1).abs() < 1e-6, "{scores:?}");
    }

    #[test]
    fn a_long_race_does_not_blur_what_a_slow_machine_has_cost() {
        // After the first round the machine is half as fast for thirty rounds, which only the first two candidates see.
        let slow =
            |logarithm: f64| (0..31).map(move |at| (at, if at == 0 { logarithm } else { logarithm - 0.7 }));
        let race = Race::of(vec![slow(1.0).collect(), slow(0.9).collect(), vec![(0, 0.8)]], 0.05);
        let scores: Vec<f64> = (0..3).map(|candidate| race.score(candidate).unwrap()).collect();
        assert!((scores[1] - scores[2] - 0.1).abs() < 1e-3, "{scores:?}");
    }

    #[test]
    fn the_noise_is_what_candidates_and_rounds_do_not_explain() {
        // Two candidates, two rounds, one degree of freedom: residuals are all +-0.05.
        let race = Race::of(vec![vec![(0, 1.0), (1, 1.2)], vec![(0, 1.0), (1, 1.0)]], 0.05);
        let (noise, freedom) = race.noise.unwrap();
        assert!((noise - 0.1).abs() < 1e-9 && freedom == 1.0, "{noise} {freedom}");
    }

    #[test]
    fn one_round_tells_no_noise() {
        let race = Race::of(vec![vec![(0, 1.0)], vec![(0, 0.5)], vec![]], 0.05);
        let difference = race.difference(0, 1).unwrap();
        assert!((difference.value - 0.5).abs() < 1e-12 && difference.half_width.is_infinite());
        assert!(race.difference(0, 2).is_none());
    }
}
