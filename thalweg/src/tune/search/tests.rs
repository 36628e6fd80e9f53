//! Searches over candidates whose true speeds are known.

use super::*;
use crate::tune::synthetic::{Truth, slice};
use crate::tune::synthetic_gpu::{Gpu, space};

/// Runs a search to its end or for at most `most` slices; gives the search and the number of slices.
fn run(truth: &Truth, seed: u64, most: usize) -> (Search, usize) {
    let policy = Policy { seed, ..Policy::default() };
    let mut search = Search::new(truth.configurations(), Limits::default(), policy);
    let mut noise = Random::new(seed ^ 0xfeed);
    for count in 0..most {
        let Some(candidate) = search.next() else { return (search, count) };
        let reading = truth.reading(candidate, count, &mut noise);
        search.record(candidate, slice(reading));
    }
    (search, most)
}

#[test]
fn the_pick_is_within_three_per_cent_of_the_best_under_noise_and_drift() {
    let truth = Truth::plateau(24);
    let good = (0..40).filter(|seed| {
        let (search, _) = run(&truth, *seed, 150);
        truth.speeds[search.winner().unwrap()] >= 0.97 * truth.best()
    });
    let good = good.count();
    assert!(good >= 38, "{good} of 40");
}

#[test]
fn the_search_costs_a_fraction_of_measuring_all_equally_often() {
    let truth = Truth::plateau(24);
    for seed in 0..10 {
        let (search, slices) = run(&truth, seed, 150);
        let exhaustive = 24 * search.round();
        assert!(3 * slices < exhaustive, "seed {seed}: {slices} of {exhaustive}");
    }
}

#[test]
fn a_clear_winner_is_decided_in_few_rounds() {
    let (search, _) = run(&Truth::steep(24), 5, 1_000);
    assert!(search.is_decided());
    assert_eq!((search.winner(), search.round()), (Some(8), 3));
}

#[test]
fn the_best_candidate_is_hardly_ever_dropped() {
    let truth = Truth::plateau(12);
    let best = truth.speeds.iter().position(|speed| *speed == truth.best()).unwrap();
    let dropped = (0..40).filter(|seed| run(&truth, *seed, 120).0.standing(best) == Standing::Slower);
    let dropped = dropped.count();
    assert!(dropped <= 2, "{dropped} of 40");
}

#[test]
fn candidates_far_behind_leave_after_one_round() {
    let mut search = Search::new(Truth::plateau(3).configurations(), Limits::default(), Policy::default());
    for (candidate, throughput) in [(0, 100.0), (1, 59.0), (2, 61.0)] {
        search.record(candidate, slice(throughput));
    }
    let standings: Vec<Standing> = (0..3).map(|candidate| search.standing(candidate)).collect();
    assert_eq!(standings, [Standing::Contender, Standing::Slower, Standing::Contender]);
}

#[test]
fn equals_are_decided_by_latency() {
    let configurations = Truth::plateau(2).configurations();
    let mut search = Search::new(configurations, Limits::default(), Policy::default());
    while let Some(candidate) = search.next() {
        let latency = if candidate == 0 { 2_000_000 } else { 1_000_000 };
        search.record(candidate, Slice { latencies_ns: vec![(latency, 10)], ..slice(100.0) });
    }
    assert!(search.is_decided());
    assert_eq!(search.winner(), Some(1));
}

#[test]
fn a_failure_is_kept_and_the_others_go_on() {
    let mut search = Search::new(Truth::plateau(2).configurations(), Limits::default(), Policy::default());
    search.record(0, Slice::failed(&crate::Error::Stopped));
    search.record(1, slice(100.0));
    assert_eq!(search.standing(0), Standing::Failed);
    assert_eq!(search.failure(0), Some("the pool was stopped"));
    assert_eq!(search.winner(), Some(1));
    assert!(search.is_decided());
}

#[test]
fn who_lost_to_a_candidate_that_breaks_the_limit_comes_back() {
    let limits = Limits { p99: Some(Nanos(1_000)), memory_bytes: None };
    let mut search = Search::new(Truth::plateau(2).configurations(), limits, Policy::default());
    let with =
        |late, throughput| Slice { latencies_ns: vec![(900, 50)], over_limit: late, ..slice(throughput) };
    search.record(0, with(5, 100.0));
    search.record(1, with(0, 50.0));
    assert_eq!((search.standing(1), search.next()), (Standing::Slower, Some(0)));
    search.record(0, with(5, 100.0));
    assert_eq!(search.standing(0), Standing::OverLimit);
    assert_eq!((search.standing(1), search.next()), (Standing::Contender, Some(1)));
}

#[test]
fn a_slower_candidate_that_keeps_the_limit_wins_over_an_unproven_one() {
    let limits = Limits { p99: Some(Nanos(1_000)), memory_bytes: None };
    let mut search = Search::new(Truth::plateau(2).configurations(), limits, Policy::default());
    let with = |records, throughput| Slice { latencies_ns: vec![(900, records)], ..slice(throughput) };
    search.record(0, with(100, 110.0));
    search.record(1, with(400, 100.0));
    assert_eq!(search.winner(), Some(1));
    assert!(!search.is_decided());
}

#[test]
fn where_all_break_the_limit_nobody_wins() {
    let limits = Limits { p99: Some(Nanos(1_000)), memory_bytes: None };
    let mut search = Search::new(Truth::plateau(2).configurations(), limits, Policy::default());
    for candidate in 0..2 {
        search.record(candidate, Slice { latencies_ns: vec![(2_000, 50)], over_limit: 50, ..slice(9.0) });
    }
    assert_eq!((search.winner(), search.next()), (None, None));
}

/// A guided search over one made-up GPU, of at most so many slices: the share of the best throughput that its pick
/// reaches.
fn guided(seed: u64, most: usize) -> f64 {
    let mut random = Random::new(seed);
    let gpu = Gpu::draw(&mut random);
    let policy = Policy { seed, ..Policy::default() };
    let mut search = Search::guided(space(), Limits::default(), policy, None);
    for _ in 0..most {
        let Some(candidate) = search.next() else { break };
        let slice = gpu.slice(&search.candidates()[candidate], &mut random);
        search.record(candidate, slice);
    }
    let best = space().iter().map(|candidate| gpu.throughput(candidate)).fold(0.0, f64::max);
    let pick = gpu.throughput(&search.candidates()[search.winner().unwrap()]);
    pick / best
}

#[test]
fn a_guided_search_finds_the_best_with_a_tenth_of_the_slices() {
    for seed in 0..12 {
        let share = guided(seed, space().len() / 10);
        assert!(share > 0.97, "seed {seed}: {share}");
    }
}

#[test]
fn a_guided_search_under_a_limit_goes_on_until_something_keeps_it() {
    let mut random = Random::new(3);
    let gpu = Gpu::draw(&mut random);
    let latency = |candidate: &Configuration| gpu.slice(candidate, &mut Random::new(1)).latencies_ns[0].0;
    let fastest = space().into_iter().max_by(|a, b| gpu.throughput(a).total_cmp(&gpu.throughput(b))).unwrap();
    let limit = latency(&fastest) / 4;
    let limits = Limits { p99: Some(Nanos(limit)), memory_bytes: None };
    let mut search = Search::guided(space(), limits, Policy::default(), None);
    while let Some(candidate) = search.next() {
        let slice = gpu.slice(&search.candidates()[candidate], &mut random);
        let late = if slice.latencies_ns[0].0 > limit { slice.latencies_ns[0].1 } else { 0 };
        search.record(candidate, Slice { over_limit: late, ..slice });
    }
    let winner = search.candidates()[search.winner().unwrap()];
    let kept = space().into_iter().filter(|candidate| latency(candidate) < limit);
    let best = kept.map(|candidate| gpu.throughput(&candidate)).fold(0.0, f64::max);
    assert!(gpu.throughput(&winner) > 0.97 * best, "{winner} of {best}");
}
