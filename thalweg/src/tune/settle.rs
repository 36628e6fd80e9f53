//! Who wins, once the finals were held.
//!
//! In: the search, the readings of the finals, and who played which role in them. Out: the roles as they stand then.
//! Holding the finals is left to `run.rs`.

use super::summary::Roles;
use super::{Compliance, Finals, Search, Standing};
use crate::measure::stats::mean;

/// The runner-up or the default takes over where it was faster, and then whoever is as fast as the winner for all that matters
/// (`indifference` is the part that does not) and answers sooner, or leaves the core free that asking all the time takes. Who
/// takes over keeps the limits no less surely.
///
/// The ratio in the middle decides, however wide its interval is: readings of the finals are the longest there are,
/// and nobody became a finalist by them. Where they are too noisy to tell two candidates apart, no throughput is known
/// to be lost by the shorter latency, which is well known.
pub(super) fn settle(search: &Search, finals: &Finals, roles: Roles, indifference: f64) -> Roles {
    let roles = after_comparison(search, finals, roles);
    after_ties(search, finals, roles, indifference)
}

fn after_comparison(search: &Search, finals: &Finals, roles: Roles) -> Roles {
    let Some(winner) = roles.winner else { return roles };
    // One unlucky slice puts the default out of the race. Where the space does not have it, it is only compared with.
    let is_candidate = |baseline: &usize| search.standing(*baseline) != Standing::Baseline;
    let others = roles.runner_up.into_iter().chain(Some(roles.baseline).filter(is_candidate));
    let over_winner = |other: usize| Some((other, ratio(search, finals, other, winner)?));
    let faster = others
        .filter(|other| *other != winner && may_replace(search, *other, winner))
        .filter_map(over_winner)
        .filter(|(_, ratio)| *ratio > 1.0);
    match faster.max_by(|a, b| a.1.total_cmp(&b.1)) {
        Some((fastest, _)) => Roles { winner: Some(fastest), runner_up: Some(winner), ..roles },
        None => roles,
    }
}

fn after_ties(search: &Search, finals: &Finals, roles: Roles, indifference: f64) -> Roles {
    let Some(winner) = roles.winner else { return roles };
    let p50 = |candidate| search.latency(candidate).map(|latency| latency.p50);
    let is_wanted = |candidate: &usize| {
        let ratio = ratio(search, finals, *candidate, winner);
        let is_tie = ratio.is_some_and(|ratio| ratio >= 1.0 - indifference);
        search.wins_ties(*candidate, winner) && is_tie && may_replace(search, *candidate, winner)
    };
    let others = [roles.calmer, roles.runner_up].into_iter().flatten().filter(is_wanted);
    match others.min_by_key(|candidate| p50(*candidate)) {
        Some(calmest) => Roles { winner: Some(calmest), runner_up: Some(winner), ..roles },
        None => roles,
    }
}

/// Throughput of one over the other in the finals; where they were cut short, together with the rounds of the race that
/// measured both. One pair is enough: nobody has to be told apart here, somebody has to be taken.
fn ratio(search: &Search, finals: &Finals, first: usize, second: usize) -> Option<f64> {
    if let Some(ratio) = finals.ratio(first, second) {
        return Some(ratio.value);
    }
    let mut pairs = finals.pairs(first, second);
    pairs.extend(search.common_rounds(first, second));
    let logarithms: Vec<f64> = pairs.iter().map(|(first, second)| (first / second).ln()).collect();
    (!logarithms.is_empty()).then(|| mean(&logarithms).exp())
}

fn may_replace(search: &Search, other: usize, winner: usize) -> bool {
    let compliance = search.compliance(other);
    let is_as_sure = compliance == Compliance::Keeps || compliance == search.compliance(winner);
    is_as_sure && !is_out(search, other)
}

/// Whether it broke a limit, failed or has no room.
pub(super) fn is_out(search: &Search, candidate: usize) -> bool {
    matches!(search.standing(candidate), Standing::OverLimit | Standing::Failed | Standing::DoesNotFit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Wait;
    use crate::pool::Configuration;
    use crate::tune::synthetic::slice;
    use crate::tune::{Limits, Policy, Slice};

    const BASELINE: usize = 0;

    /// Three candidates that answer in 1, 2 and 4 ms, all of which were measured once.
    fn search() -> Search {
        let with = |batch_size| Configuration { batch_size, ..Configuration::default() };
        let mut search = Search::new([1, 8, 16].map(with).to_vec(), Limits::default(), Policy::default());
        for (candidate, milliseconds) in [1, 2, 4].into_iter().enumerate() {
            let latencies_ns = vec![(milliseconds * 1_000_000, 400)];
            search.record(candidate, Slice { latencies_ns, ..slice(100.0) });
        }
        search
    }

    fn settled(readings: &[(f64, f64)], roles: Roles) -> (Option<usize>, Option<usize>) {
        let mut finals = Finals::default();
        for (round, (first, second)) in readings.iter().enumerate() {
            finals.record(round, 1, *first);
            finals.record(round, 2, *second);
        }
        let roles = settle(&search(), &finals, roles, 0.01);
        (roles.winner, roles.runner_up)
    }

    /// The one with batch 16 leads; nobody was seen to be calmer before the finals.
    const LED_BY_THE_LARGE: Roles =
        Roles { winner: Some(2), runner_up: Some(1), calmer: None, baseline: BASELINE };

    #[test]
    fn a_runner_up_in_a_noisy_tie_wins_by_half_the_latency() {
        // The larger one reaches 1.004 of the smaller one's throughput, 0.8 to 1.25.
        let noisy = [(100.0, 120.0), (120.0, 100.0), (100.0, 118.0), (118.0, 100.0), (100.0, 102.0)];
        assert_eq!(settled(&noisy, LED_BY_THE_LARGE), (Some(1), Some(2)));
    }

    #[test]
    fn a_runner_up_that_is_slower_does_not_win_by_its_latency() {
        assert_eq!(settled(&[(98.0, 100.0); 5], LED_BY_THE_LARGE), (Some(2), Some(1)));
    }

    #[test]
    fn one_that_sleeps_wins_a_tie_with_one_that_asks_all_the_time() {
        let with = |wait| Configuration { wait, ..Configuration::default() };
        let candidates = [Wait::Hybrid, Wait::Block, Wait::Spin].map(with).to_vec();
        let winner = |asleep: f64, asking: f64, milliseconds_asleep: u64| {
            let mut search = Search::new(candidates.clone(), Limits::default(), Policy::default());
            for (candidate, milliseconds) in [4, milliseconds_asleep, 4].into_iter().enumerate() {
                let latencies_ns = vec![(milliseconds * 1_000_000, 400)];
                search.record(candidate, Slice { latencies_ns, ..slice(100.0) });
            }
            let mut finals = Finals::default();
            for round in 0..3 {
                finals.record(round, 1, asleep);
                finals.record(round, 2, asking);
            }
            settle(&search, &finals, LED_BY_THE_LARGE, 0.01).winner
        };
        assert_eq!(winner(99.5, 100.0, 4), Some(1));
        assert_eq!(winner(98.0, 100.0, 4), Some(2));
        assert_eq!(winner(99.5, 100.0, 60), Some(2), "an answer that takes so much longer is a price too");
    }

    #[test]
    fn one_round_of_the_finals_is_enough_to_take_over() {
        // In the race both had 100.
        let led_by_the_small = Roles { winner: Some(1), runner_up: Some(2), ..LED_BY_THE_LARGE };
        assert_eq!(settled(&[(94.0, 100.0)], led_by_the_small), (Some(2), Some(1)));
        assert_eq!(settled(&[(101.0, 100.0)], led_by_the_small), (Some(1), Some(2)));
    }

    #[test]
    fn a_default_that_was_unlucky_in_the_race_takes_over() {
        let settled = |default: f64, search: &Search| {
            let mut finals = Finals::default();
            for round in 0..5 {
                let readings = [default, 101.0, 100.0];
                readings.into_iter().enumerate().for_each(|(it, reading)| finals.record(round, it, reading));
            }
            settle(search, &finals, LED_BY_THE_LARGE, 0.01).winner
        };
        assert_eq!(settled(110.0, &search()), Some(BASELINE));
        assert_eq!(settled(90.0, &search()), Some(1));

        // Where the space has other batches only, the default is none of what may be chosen.
        let with = |batch_size| Configuration { batch_size, ..Configuration::default() };
        let mut search = Search::new([8, 16].map(with).to_vec(), Limits::default(), Policy::default());
        let baseline = search.add_baseline(with(1));
        [0, 1, baseline].into_iter().for_each(|candidate| search.record_aside(candidate, slice(100.0)));
        let mut finals = Finals::default();
        for round in 0..5 {
            finals.record(round, 0, 100.0);
            finals.record(round, baseline, 110.0);
        }
        let roles = Roles { winner: Some(0), runner_up: None, calmer: None, baseline };
        assert_eq!(settle(&search, &finals, roles, 0.01).winner, Some(0));
    }

    #[test]
    fn who_was_faster_in_the_finals_takes_over() {
        let led_by_the_small = Roles { winner: Some(1), runner_up: Some(2), ..LED_BY_THE_LARGE };
        assert_eq!(settled(&[(100.0, 103.0); 5], led_by_the_small), (Some(2), Some(1)));
        // A tie stays with the shorter latency.
        assert_eq!(settled(&[(100.0, 100.5); 5], led_by_the_small), (Some(1), Some(2)));
    }
}
