//! The finalists, measured against each other.
//!
//! A search picks the candidate that looked best, so its readings are a little too good. The finalists are
//! therefore measured again, side by side in a shuffled order, and only these readings make the ratios that
//! are reported.

use std::collections::BTreeMap;

use crate::measure::stats::paired_ratio;
use crate::measure::{Estimate, Measurement};
use crate::random::Random;

/// Rounds from which on an interval is given.
pub(super) const FEWEST_ROUNDS: usize = 3;

/// Readings of the finals.
#[derive(Debug, Default)]
pub(super) struct Finals {
    /// Throughput of each finalist in each round.
    rounds: Vec<BTreeMap<usize, f64>>,
    /// The winner once more, at length.
    pub last_look: Option<Measurement>,
}

impl Finals {
    /// Which finalist to measure in which round, in order.
    pub fn schedule(finalists: &[usize], rounds: usize, seed: u64) -> Vec<(usize, usize)> {
        let mut random = Random::new(seed);
        let round = |round| {
            let mut order = finalists.to_vec();
            random.shuffle(&mut order);
            order.into_iter().map(move |finalist| (round, finalist))
        };
        (0..rounds).flat_map(round).collect()
    }

    /// Takes a reading.
    pub fn record(&mut self, round: usize, finalist: usize, throughput: f64) {
        if self.rounds.len() <= round {
            self.rounds.resize_with(round + 1, BTreeMap::new);
        }
        self.rounds[round].insert(finalist, throughput);
    }

    /// Throughputs of the two in the rounds that have both.
    pub fn pairs(&self, first: usize, second: usize) -> Vec<(f64, f64)> {
        let pair = |round: &BTreeMap<usize, f64>| Some((*round.get(&first)?, *round.get(&second)?));
        self.rounds.iter().filter_map(pair).collect()
    }

    /// Throughput of the first over the second; `None` where too few rounds have both.
    pub fn ratio(&self, first: usize, second: usize) -> Option<Estimate> {
        Self::ratio_of(&self.pairs(first, second))
    }

    /// Mean ratio of pairs that were measured in the same round; `None` where there are too few.
    pub fn ratio_of(pairs: &[(f64, f64)]) -> Option<Estimate> {
        if pairs.len() < FEWEST_ROUNDS { None } else { paired_ratio(pairs) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_every_finalist_once_in_its_own_order() {
        let schedule = Finals::schedule(&[4, 7, 9], 5, 1);
        let of_round = |round| -> Vec<usize> {
            schedule.iter().filter(|(at, _)| *at == round).map(|(_, finalist)| *finalist).collect()
        };
        for round in 0..5 {
            let mut order = of_round(round);
            order.sort_unstable();
            assert_eq!(order, [4, 7, 9]);
        }
        assert!((1..5).any(|round| of_round(round) != of_round(0)));
    }

    #[test]
    fn a_ratio_needs_three_rounds_with_both() {
        let mut finals = Finals::default();
        for round in 0..3 {
            assert_eq!(finals.ratio(0, 1), None);
            let drift = 1.0 + round as f64;
            finals.record(round, 0, 120.0 * drift);
            finals.record(round, 1, 100.0 * drift);
        }
        let ratio = finals.ratio(0, 1).unwrap();
        assert!((ratio.value - 1.2).abs() < 1e-12 && ratio.upper - ratio.lower < 1e-9, "{ratio:?}");
    }
}
