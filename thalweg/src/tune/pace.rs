//! How long each slice may take, so that a search fits into its time.
//!
//! Pure arithmetic on durations; the clock is the caller's.

use std::time::Duration;

use crate::measure::Load;
use crate::pool::Configuration;

/// One measurement that the search asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// What to run.
    pub configuration: Configuration,
    /// How to drive it.
    pub load: Load,
    /// Time to run before measuring.
    pub warm_up: Duration,
    /// Length of one measurement window.
    pub window: Duration,
    /// How many windows to measure.
    pub window_count: usize,
}

impl Trial {
    /// Warm-up and all windows.
    pub fn duration(&self) -> Duration {
        self.warm_up + self.window * u32::try_from(self.window_count).unwrap_or(u32::MAX)
    }
}

/// Shortest slice: below it, starting the threads and the timer's jitter are more than 1 % of it.
const SHORTEST_SLICE: Duration = Duration::from_millis(150);

/// The same where predictions rest on what a GPU's counters say of it: they are renewed every 100 ms and tell of one renewal
/// before, so from the warm-up on two have to pass, and each may have to be waited for.
const SHORTEST_SLICE_WITH_COUNTERS: Duration = Duration::from_millis(330);

/// Longest slice: above it, more and shorter slices average the drift of the machine better.
const LONGEST_SLICE: Duration = Duration::from_secs(2);

/// Part of the whole time for the first round, which has to see every candidate.
const FIRST_ROUND: f64 = 0.4;

/// Part of the remaining time for each later round, so that there are enough rounds for an interval.
const LATER_ROUND: f64 = 0.2;

/// Part of the remaining time for each later round where few contenders are left by predictions. They are halved from
/// round to round, so that slices become longer: streams that start in step can be faster for the first hundred
/// executions than they are after that.
const HALVING_ROUND: f64 = 0.4;

/// Part of the whole time that is kept for measuring the finalists against each other.
const RESERVE: f64 = 0.25;

/// The same where predictions choose what is measured: the race is short then, and the finals tell how good a finalist
/// is in the long run.
const GUIDED_RESERVE: f64 = 0.4;

/// Rounds of the finals: with five pairs a 95 % interval is 2.8 standard errors wide to each side, with three it is
/// 4.3.
const FINAL_ROUNDS: usize = 5;

/// Rounds of the finals where five would have short slices: the fewest that give an interval.
const FEWEST_FINAL_ROUNDS: usize = super::finals::FEWEST_ROUNDS;

/// Shorter slices of the finals say too little of the long run.
const LONG_ENOUGH: Duration = Duration::from_millis(250);

/// Longest useful reserve.
const LONGEST_RESERVE: Duration = Duration::from_secs(20);

/// Part of the reserve for the last, long measurement of the winner.
const LAST_LOOK: f64 = 0.3;

/// Windows of the last measurement: as many as a verdict on stability asks for, and two to settle.
const LAST_LOOK_WINDOWS: usize = 5;

/// The fewest windows of it, those of the verdict, where they take no more than this part of all the time.
const LEAST_LOOK_WINDOWS: usize = 3;
const LEAST_LOOK: f64 = 0.05;

/// Part of a slice that warms up before its window. All streams start together and run in step for their first two
/// executions or so, which can be faster than what follows.
const WARM_UP: f64 = 0.35;

/// Executions that a slice should see: with fewer, the one that is cut at its end is over 10 % of it.
const LEAST_EXECUTIONS: f64 = 10.0;

/// Executions of each slot that a slice should see, its warm-up included: two whole rounds after that, so that every
/// slot completes twice and has a rate of its own.
const LEAST_EXECUTIONS_PER_SLOT: f64 = 3.2;

/// A single slice takes at most this part of the time that is left, so that with a slow network the second
/// and the third candidate are measured too.
const LARGEST_SHARE: f64 = 0.25;

/// Time at the end that belongs to the finalists.
pub(super) fn reserve(budget: Duration) -> Duration {
    budget.mul_f64(RESERVE).min(LONGEST_RESERVE)
}

/// The same where predictions choose what is measured.
pub(super) fn guided_reserve(budget: Duration) -> Duration {
    budget.mul_f64(GUIDED_RESERVE).min(LONGEST_RESERVE)
}

/// Slices of the first round over so many candidates.
pub(super) fn first_round_slice(budget: Duration, candidate_count: usize) -> Duration {
    share(budget.mul_f64(FIRST_ROUND), candidate_count)
}

/// Slices of a later round, with the time that the search has left.
pub(super) fn later_round_slice(left: Duration, contender_count: usize) -> Duration {
    share(left.mul_f64(LATER_ROUND), contender_count)
}

/// Slices of a later round of few contenders, with the time that the search has left.
pub(super) fn halving_round_slice(left: Duration, contender_count: usize) -> Duration {
    share(left.mul_f64(HALVING_ROUND), contender_count)
}

/// How many rounds the finals have, with so much time for so many finalists.
pub(super) fn final_rounds(time: Duration, finalist_count: usize) -> usize {
    let slice = time.div_f64((FINAL_ROUNDS * finalist_count.max(1)) as f64);
    if slice < LONG_ENOUGH { FEWEST_FINAL_ROUNDS } else { FINAL_ROUNDS }
}

/// The part of a reserve that is for comparing finalists.
pub(super) fn final_part(reserve: Duration) -> Duration {
    reserve.mul_f64(1.0 - LAST_LOOK)
}

/// The rest of it, for the last measurement of the winner.
pub(super) fn last_part(reserve: Duration) -> Duration {
    reserve.mul_f64(LAST_LOOK)
}

/// What comparing finalists may take of the time that is left: more would tell them apart no better than they repeat.
pub(super) fn final_time(left: Duration) -> Duration {
    left.min(LONGEST_RESERVE)
}

/// Slices for comparing finalists in so much time, so many of them, each with what it costs to set up and check a pool.
pub(super) fn final_slice(time: Duration, slice_count: usize, overhead: Duration) -> Duration {
    let slices = u32::try_from(slice_count).unwrap_or(u32::MAX);
    share(time.saturating_sub(overhead * slices), slice_count)
}

/// What the last measurement of the winner has at least, from its shortest slice: the windows of a verdict on stability where
/// they take little of all the time, else one.
pub(super) fn least_last_look(shortest: Trial, budget: Duration) -> Trial {
    let whole = Trial { window_count: LEAST_LOOK_WINDOWS, ..shortest };
    if whole.duration() <= budget.mul_f64(LEAST_LOOK) { whole } else { shortest }
}

/// The last measurement of the winner: windows of a stretched slice, as many as the time left allows, or shorter ones, down to
/// its shortest slice, rather than too few for a verdict.
pub(super) fn last_look(slice: Trial, shortest: Trial, left: Duration) -> Trial {
    let fits = |trial: Trial, count: usize| {
        let windows =
            left.saturating_sub(trial.warm_up).div_duration_f64(trial.window.max(SHORTEST_SLICE / 2));
        (1..count).filter(|count| *count as f64 <= windows - 1.0).count() + 1
    };
    let window_count = fits(slice, LAST_LOOK_WINDOWS);
    if window_count >= LEAST_LOOK_WINDOWS {
        return Trial { window_count, ..slice };
    }
    let window_count = fits(shortest, LEAST_LOOK_WINDOWS);
    let window = left.saturating_sub(shortest.warm_up).div_f64(window_count as f64);
    Trial { window: window.min(slice.window).max(shortest.window), window_count, ..shortest }
}

/// Length of one window of the last measurement, where the network is not slow.
pub(super) fn last_look_window(reserve: Duration) -> Duration {
    share(last_part(reserve), LAST_LOOK_WINDOWS)
}

/// A slice in which counters can be read.
pub(super) fn long_enough_for_counters(length: Duration) -> Duration {
    length.max(SHORTEST_SLICE_WITH_COUNTERS)
}

fn share(time: Duration, count: usize) -> Duration {
    time.div_f64(count.max(1) as f64).clamp(SHORTEST_SLICE, LONGEST_SLICE)
}

/// The longest slice for a slow network where so much time is left.
pub(super) fn longest_slice(left: Duration) -> Duration {
    left.mul_f64(LARGEST_SHARE)
}

/// A slice long enough for a slow network: `length`, or what the least number of executions takes at the
/// expected throughput, but not more than `most`.
pub(super) fn stretched(
    length: Duration,
    trial: &Configuration,
    throughput: Option<f64>,
    most: Duration,
) -> Duration {
    let Some(throughput) = throughput.filter(|throughput| *throughput > 0.0) else { return length };
    let executions = LEAST_EXECUTIONS.max(LEAST_EXECUTIONS_PER_SLOT * (trial.streams * trial.depth) as f64);
    let seconds = executions * trial.batch_size as f64 / throughput;
    let needed = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    length.max(needed.min(most))
}

/// A trial whose warm-up and window last this long together.
pub(super) fn trial(configuration: Configuration, load: Load, length: Duration) -> Trial {
    let warm_up = length.mul_f64(WARM_UP);
    Trial { configuration, load, warm_up, window: length - warm_up, window_count: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_minute_is_enough_to_see_forty_candidates_and_to_confirm() {
        let first = first_round_slice(MINUTE, 40) * 40;
        assert_eq!(first, Duration::from_secs(24));
        assert!(first + reserve(MINUTE) < MINUTE.mul_f64(0.7));
    }

    #[test]
    fn slices_stay_within_their_bounds() {
        assert_eq!(first_round_slice(MINUTE, 1_000), SHORTEST_SLICE);
        assert_eq!(later_round_slice(MINUTE, 1), LONGEST_SLICE);
    }

    #[test]
    fn a_slow_network_gets_the_time_for_ten_executions() {
        let configuration = Configuration { batch_size: 4, ..Configuration::default() };
        let second = Duration::from_secs(1);
        let stretch = |throughput| stretched(second, &configuration, throughput, longest_slice(MINUTE));
        assert_eq!(stretch(Some(8.0)), Duration::from_secs(5));
        assert_eq!(stretch(Some(0.1)), MINUTE / 4);
        assert_eq!(stretch(Some(1_000.0)), second);
        assert_eq!(stretch(None), second);
    }

    #[test]
    fn the_finals_have_three_rounds_rather_than_short_slices() {
        let rounds = |seconds| final_rounds(Duration::from_secs(seconds), 4);
        assert_eq!([0, 4, 5, 60].map(rounds), [3, 3, 5, 5]);
    }

    #[test]
    fn the_last_look_has_as_many_windows_as_fit() {
        let configuration = Configuration::default();
        let of = |length| trial(configuration, super::super::saturating_load(&configuration, None), length);
        let (slice, shortest) = (of(LONGEST_SLICE), of(SHORTEST_SLICE));
        let look = |seconds| last_look(slice, shortest, Duration::from_secs(seconds));
        assert_eq!([0, 2, 5, 6, 60].map(|seconds| look(seconds).window_count), [1, 3, 3, 4, 5]);
        // Where there is no time for long windows they are shorter.
        assert_eq!(look(0).window, shortest.window);
        assert!(look(2).window > shortest.window && look(2).duration() < Duration::from_millis(2_001));
        assert_eq!((look(5).window, look(60).window), (slice.window, slice.window));
        // A slow network has one window, as long as it takes.
        let slow = of(Duration::from_secs(4));
        assert_eq!(last_look(slow, slow, Duration::from_secs(3)), slow);
        assert_eq!(least_last_look(shortest, MINUTE).window_count, 3);
        assert_eq!(least_last_look(slow, MINUTE), slow);
    }

    #[test]
    fn setting_up_pools_does_not_lengthen_the_finals() {
        let (reserve, overhead) = (Duration::from_secs(15), Duration::from_millis(100));
        let slices = final_slice(final_part(reserve), 15, overhead) + overhead;
        assert!(slices * 15 + last_look_window(reserve) * 5 <= reserve + Duration::from_millis(1));
    }
}
