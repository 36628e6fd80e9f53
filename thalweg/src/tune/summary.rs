//! From a finished search to its outcome: order, comparisons, the Pareto front.

use std::cmp::Reverse;

use super::{Candidate, Comparison, Compliance, Finals, Search, Standing};
use crate::measure::stats::{mean, t_mean};
use crate::measure::{Estimate, LatencySummary};
use crate::units::Nanos;

/// Candidates in the order of an outcome, and where the ones that matter ended up.
pub(super) struct Ranking {
    pub candidates: Vec<Candidate>,
    /// Throughputs that the candidates were ordered by, freed from drift.
    pub scores: Vec<Option<f64>>,
    pub winner: Option<usize>,
    pub runner_up: Option<Comparison>,
    pub baseline: Option<Comparison>,
}

/// The candidates that play a role in an outcome, as indices into the search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roles {
    pub winner: Option<usize>,
    pub runner_up: Option<usize>,
    /// As fast as the winner for all that matters, it seems, and with a shorter latency.
    pub calmer: Option<usize>,
    pub baseline: usize,
}

/// Orders the candidates: the winner, then those that keep the limits or may, by speed, then the others.
pub(super) fn rank(search: &Search, finals: &Finals, roles: Roles) -> Ranking {
    let scores = scores(search, finals, roles.winner);
    let candidates: Vec<Candidate> = (0..scores.len()).map(|index| candidate(search, index, roles)).collect();
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|a, b| {
        let speed = |index: usize| scores[index].unwrap_or_else(|| mean_throughput(&candidates[index]));
        let class = |index: usize| (roles.winner != Some(index), class(&candidates[index]));
        class(*a).cmp(&class(*b)).then(speed(*b).total_cmp(&speed(*a)))
    });
    let place = |index: usize| order.iter().position(|at| *at == index);
    let compare = |other: Option<usize>| {
        let (winner, other) = (roles.winner?, other?);
        let ratio = if winner == other { SAME } else { ratio(search, finals, (winner, other))? };
        Some(Comparison { candidate: place(other)?, ratio })
    };
    Ranking {
        winner: roles.winner.and_then(place),
        runner_up: compare(roles.runner_up),
        baseline: compare(Some(roles.baseline)),
        scores: order.iter().map(|index| scores[*index]).collect(),
        candidates: order.iter().map(|index| candidates[*index].clone()).collect(),
    }
}

/// Those of the race; who met the winner in the finals has what they showed, however early it left the race.
fn scores(search: &Search, finals: &Finals, winner: Option<usize>) -> Vec<Option<f64>> {
    let mut scores = search.scores();
    let Some((winner, best)) = winner.and_then(|winner| Some((winner, scores[winner]?))) else {
        return scores;
    };
    for (index, score) in scores.iter_mut().enumerate().filter(|(index, _)| *index != winner) {
        if let Some(ratio) = finals.ratio(winner, index) {
            *score = Some(best / ratio.value);
        }
    }
    scores
}

/// From the finals, or where they were cut short from the rounds of the race that measured both.
fn ratio(search: &Search, finals: &Finals, (winner, other): (usize, usize)) -> Option<Estimate> {
    let in_race = || Finals::ratio_of(&search.common_rounds(winner, other));
    finals.ratio(winner, other).or_else(in_race)
}

/// A candidate over itself.
const SAME: Estimate = Estimate { value: 1.0, lower: 1.0, upper: 1.0 };

fn candidate(search: &Search, index: usize, roles: Roles) -> Candidate {
    let is_winner = roles.winner == Some(index);
    Candidate {
        configuration: search.candidates()[index],
        slice_count: search.slices(index).count(),
        throughput_inferences_per_s: throughput(search, index),
        latency: search.latency(index),
        compliance: search.compliance(index),
        standing: if is_winner { Standing::Winner } else { search.standing(index) },
        failure: search.failure(index).map(str::to_owned),
        predicted: search.prediction(index).copied(),
    }
}

/// Slices from which on their spread makes the interval. For two slices, t would be 13 standard errors wide.
const SLICES_FOR_SPREAD: usize = 5;

/// Over all slices, those of the finals included. From few slices, the mean of their own intervals, which is
/// not narrowed by their number.
fn throughput(search: &Search, index: usize) -> Option<Estimate> {
    let slices: Vec<Estimate> =
        search.good_slices(index).map(|slice| slice.throughput_inferences_per_s).collect();
    let all = |part: fn(&Estimate) -> f64| -> Vec<f64> { slices.iter().map(part).collect() };
    match slices.len() {
        0 => None,
        SLICES_FOR_SPREAD.. => {
            t_mean(&all(|slice| slice.value)).map(|mean| Estimate { lower: mean.lower.max(0.0), ..mean })
        }
        _ => Some(Estimate {
            value: mean(&all(|slice| slice.value)),
            lower: mean(&all(|slice| slice.lower)),
            upper: mean(&all(|slice| slice.upper)),
        }),
    }
}

fn class(candidate: &Candidate) -> u8 {
    match candidate.standing {
        Standing::Winner => 0,
        Standing::Contender | Standing::Slower | Standing::Baseline => 1,
        Standing::OverLimit => 2,
        Standing::NotMeasured | Standing::Unpromising => 3,
        Standing::Failed | Standing::DoesNotFit => 4,
    }
}

/// Measured, or else predicted.
fn mean_throughput(candidate: &Candidate) -> f64 {
    let predicted = || candidate.predicted.map(|prediction| prediction.throughput);
    candidate.throughput_inferences_per_s.or_else(predicted).map_or(0.0, |estimate| estimate.value)
}

/// Candidates that no other beats in both throughput and tail latency, by rising throughput.
pub(super) fn pareto(candidates: &[Candidate]) -> Vec<usize> {
    let point = |(index, candidate): (usize, &Candidate)| {
        let throughput = candidate.throughput_inferences_per_s?.value;
        let runs = candidate.standing != Standing::Failed;
        candidate.latency.filter(|_| runs).map(|latency| (index, throughput, tail(&latency)))
    };
    let mut points: Vec<(usize, f64, Nanos)> = candidates.iter().enumerate().filter_map(point).collect();
    // From the fastest down, a point is on the front where its tail is shorter than all before.
    points.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.2.cmp(&b.2)));
    let mut shortest = Nanos(u64::MAX);
    points.retain(|(_, _, tail)| {
        let is_shorter = *tail < shortest;
        shortest = shortest.min(*tail);
        is_shorter
    });
    points.into_iter().rev().map(|(index, ..)| index).collect()
}

fn tail(latency: &LatencySummary) -> Nanos {
    latency.p99.unwrap_or(latency.max)
}

/// Where every candidate breaks a limit: the one with the shortest tail.
pub(super) fn closest(candidates: &[Candidate]) -> Option<&Candidate> {
    let broke = candidates.iter().filter(|candidate| candidate.compliance == Compliance::Breaks);
    broke.filter(|candidate| candidate.latency.is_some()).min_by_key(|candidate| {
        let least = candidate.latency.as_ref().map(tail);
        (least, Reverse(candidate.slice_count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Configuration;
    use crate::tune::synthetic::{candidate as synthetic, slice};
    use crate::tune::verdict::verdict;
    use crate::tune::{Limits, Policy};

    #[test]
    fn what_the_finals_show_of_one_that_left_the_race_counts() {
        let with = |streams, batch_size| Configuration { streams, batch_size, ..Configuration::default() };
        let candidates = vec![with(2, 4), with(1, 4), with(1, 8)];
        let mut search = Search::new(candidates, Limits::default(), Policy::default());
        // The default was unlucky once and left the race; the finals measure it five times.
        let speed = |candidate| [500.0, 290.0, 303.0][candidate];
        while let Some(candidate) = search.next().filter(|_| search.round() < 3) {
            search.record(candidate, slice(speed(candidate)));
        }
        assert_eq!((search.standing(1), search.slices(1).count()), (Standing::Slower, 1));
        let mut finals = Finals::default();
        for round in 0..5 {
            finals.record(round, 0, 450.0);
            finals.record(round, 1, 0.72 * 450.0);
        }
        let roles = Roles { winner: Some(0), runner_up: None, calmer: None, baseline: 1 };
        let ranking = rank(&search, &finals, roles);
        let order: Vec<_> = ranking.candidates.iter().map(|it| it.configuration).collect();
        assert_eq!(order, [with(2, 4), with(1, 4), with(1, 8)]);
        let text = verdict(&ranking, &Limits::default(), None, None);
        // One stream at batch 8 differs in two knobs and says nothing of either.
        assert!(text.ends_with("the same with 1 stream reaches 72 %"), "{text}");
    }

    #[test]
    fn the_front_holds_what_nothing_beats_in_both() {
        let candidates =
            [synthetic(100.0, 50), synthetic(90.0, 60), synthetic(80.0, 20), synthetic(70.0, 20)];
        assert_eq!(pareto(&candidates), [2, 0]);
    }

    #[test]
    fn what_did_not_run_is_not_on_the_front() {
        let failed = Candidate { standing: Standing::Failed, ..synthetic(500.0, 1) };
        let unmeasured = Candidate { throughput_inferences_per_s: None, latency: None, ..synthetic(0.0, 1) };
        assert_eq!(pareto(&[failed, synthetic(100.0, 50), unmeasured]), [1]);
    }
}
