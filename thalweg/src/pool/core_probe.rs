//! Whether a submitter has its core for itself, and on to another one where it has not.
//!
//! The hyperthreads of a core share its execution units, so that calls which start executions take longer while somebody
//! works on the other one: 1.37 times for ResNet-50 without a CUDA graph (docs/benchmarks.md, "Two speeds of the enqueue call"). The
//! kernel counts that time as ours, and in a virtual machine it does not even know which cores are halves of one. So it is
//! measured: what several chains of dependent operations take side by side, over what one takes. One waits for its own
//! results, whoever works beside it; several need what both hyperthreads share.

use std::hint::black_box;
use std::time::Instant;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::random::Random;
use crate::units::Nanos;

/// Chains side by side. A step of a chain takes five cycles, of which three are its multiplication, and most x86-64 cores start one
/// multiplication a cycle (Fog, "Instruction tables"), so that five take as long as one where nobody disturbs them: 1.02 to
/// 1.08 times on an AMD EPYC and an Intel Xeon of 2023. Of cores on which it never is as short nothing is told.
const CHAINS: usize = 5;

/// Steps of each chain, 2 us.
const STEPS: usize = 1_000;

/// Of so many turns the fastest counts, since a thread can be interrupted.
const TURNS: usize = 3;

/// From this ratio on somebody else is there. It is 1.2 to 1.6 then: five chains want 25 operations in five cycles,
/// and a core that starts six a cycle gives each of two threads half of them.
const SHARED_FROM: f64 = 1.15;

/// Below this ratio the one chain was interrupted each time, and the look is taken again after the next call.
const PLAUSIBLE_FROM: f64 = 0.95;

/// Time in calls between two looks while nobody else is there. A look takes 12 us, so a thread that does nothing but start
/// executions spends less than a thousandth on them, and one that launches graphs hardly any.
const INTERVAL: Nanos = Nanos(20_000_000);

/// Time in calls from a move to the next look; twice as much after each further move that was in vain, as often as
/// `MOST_DOUBLINGS`, so that a machine without a free core, or one whose cores are of another kind, costs next to nothing.
const AFTER_MOVE: Nanos = Nanos(2_000_000);
const MOST_DOUBLINGS: u32 = 6;

/// With fewer cores some thread of ours is on each of them.
const LEAST_CORES: u32 = 4;

/// Cores of other kinds mostly have one thread, and other ratios; unoptimised code waits for its memory instead of its
/// multiplications.
const CAN_TELL: bool = cfg!(target_arch = "x86_64") && !cfg!(debug_assertions);

/// Looks at the core of the thread that it is called on.
pub(super) struct CoreProbe {
    /// Time in calls since the last look.
    spent: Nanos,
    /// Time in calls from the last look to the next.
    interval: Nanos,
    /// Looks in a row that found somebody else.
    in_vain: u32,
    /// Whether a look has ever found nobody, so that one can tell here.
    has_been_alone: bool,
    random: Random,
    seen: Nanos,
    shared: Nanos,
}

impl CoreProbe {
    /// Of a thread that is to choose other cores than those of other seeds.
    pub fn new(seed: u64) -> Self {
        Self {
            spent: Nanos::ZERO,
            interval: AFTER_MOVE,
            in_vain: 0,
            has_been_alone: false,
            random: Random::new(seed),
            seen: Nanos::ZERO,
            shared: Nanos::ZERO,
        }
    }

    /// Time in calls before all looks, and that before looks that found somebody else.
    pub fn seen(&self) -> (Nanos, Nanos) {
        if self.has_been_alone { (self.seen, self.shared) } else { (Nanos::ZERO, Nanos::ZERO) }
    }

    /// A call has taken this time. Where somebody else works on the core the thread goes on to another one of those that
    /// it may run on.
    pub fn after_call(&mut self, took: Nanos) {
        self.spent += took;
        if CAN_TELL && self.spent >= self.interval {
            let ratio = side_by_side_over_alone();
            if ratio < PLAUSIBLE_FROM {
                return;
            }
            let is_shared = ratio >= SHARED_FROM;
            self.note(is_shared);
            if is_shared {
                self.move_on();
            }
        }
    }

    fn note(&mut self, is_shared: bool) {
        let spent = std::mem::replace(&mut self.spent, Nanos::ZERO);
        self.seen += spent;
        if is_shared {
            self.shared += spent;
            self.interval = Nanos(AFTER_MOVE.0 << self.in_vain.min(MOST_DOUBLINGS));
            self.in_vain += 1;
        } else {
            (self.interval, self.in_vain, self.has_been_alone) = (INTERVAL, 0, true);
        }
    }

    /// Best effort: a thread that may not choose stays where it is, and none goes where its data would be far. Afterwards it
    /// may run wherever it could before.
    fn move_on(&mut self) {
        let Ok(allowed) = sched_getaffinity(None) else { return };
        if allowed.count() < LEAST_CORES {
            return;
        }
        let here = sched_getcpu();
        let file = format!("/sys/devices/system/cpu/cpu{here}/cache/index3/shared_cpu_list");
        let near = std::fs::read_to_string(file).unwrap_or_default();
        let others = (0..CpuSet::MAX_CPU)
            .filter(|core| allowed.is_set(*core) && *core != here && is_listed(&near, *core));
        let count = others.clone().count();
        if count == 0 {
            return;
        }
        let Some(core) = others.clone().nth(self.random.below(count)) else { return };
        let mut there = CpuSet::new();
        there.set(core);
        if sched_setaffinity(None, &there).is_ok() {
            // It was allowed a moment ago.
            let _ = sched_setaffinity(None, &allowed);
        }
    }
}

/// Whether a list of the kernel's, `0-3,8`, has this core. One that cannot be read has all.
fn is_listed(list: &str, core: usize) -> bool {
    let is_in = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let ends = first.parse().ok().zip(last.parse().ok());
        ends.is_some_and(|(first, last): (usize, usize)| (first..=last).contains(&core))
    };
    list.trim().is_empty() || list.trim().split(',').any(is_in)
}

fn side_by_side_over_alone() -> f64 {
    let fastest = |time: fn() -> f64| (0..TURNS).map(|_| time()).fold(f64::INFINITY, f64::min);
    fastest(time_of::<CHAINS>) / fastest(time_of::<1>)
}

/// Seconds for all steps of so many chains.
fn time_of<const COUNT: usize>() -> f64 {
    let mut values: [u64; COUNT] = std::array::from_fn(|chain| black_box(chain as u64 + 1));
    let start = Instant::now();
    for _ in 0..STEPS {
        for value in &mut values {
            // Neither can a compiler take two steps at once, nor is there a vector instruction for it everywhere.
            *value = (*value ^ (*value >> 29)).wrapping_mul(0x5851_f42d_4c95_7f2d);
        }
    }
    black_box(values);
    start.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks that find what they are told, each when it is due; how long after the one before.
    fn intervals(looks: &[bool]) -> (Vec<u64>, CoreProbe) {
        let mut probe = CoreProbe::new(1);
        let look = |is_shared: &bool| {
            let interval = probe.interval;
            probe.spent = interval;
            probe.note(*is_shared);
            interval.0 / 1_000_000
        };
        (looks.iter().map(look).collect(), probe)
    }

    #[test]
    fn it_looks_again_soon_after_a_move_and_less_often_where_moving_is_in_vain() {
        let (told, probe) = intervals(&[false, false, true, true, false, false]);
        assert_eq!(told, [2, 20, 20, 2, 4, 20]);
        assert_eq!(probe.seen(), (Nanos(68_000_000), Nanos(22_000_000)));
        let (told, probe) = intervals(&[true; 12]);
        assert_eq!(told, [2, 2, 4, 8, 16, 32, 64, 128, 128, 128, 128, 128]);
        // It may be a core of another kind.
        assert_eq!(probe.seen(), (Nanos::ZERO, Nanos::ZERO));
    }

    #[test]
    fn cores_of_one_cache_are_read_from_the_kernels_list() {
        let listed = |list| (0..20).filter(|core| is_listed(list, *core)).collect::<Vec<_>>();
        assert_eq!(listed("0-2,8,16-17\n"), [0, 1, 2, 8, 16, 17]);
        assert_eq!(listed("3\n"), [3]);
        assert_eq!((listed("").len(), listed("none").len()), (20, 0));
    }

    #[test]
    fn who_moves_on_is_elsewhere_and_may_run_where_it_could_before() {
        let before = sched_getaffinity(None).unwrap();
        let (mut probe, mut has_moved) = (CoreProbe::new(1), false);
        for _ in 0..20 {
            let here = sched_getcpu();
            probe.move_on();
            has_moved |= sched_getcpu() != here;
            let after = sched_getaffinity(None).unwrap();
            assert!((0..CpuSet::MAX_CPU).all(|core| before.is_set(core) == after.is_set(core)));
        }
        assert!(has_moved || before.count() < LEAST_CORES);
    }

    #[test]
    fn a_core_of_ones_own_shows_within_a_while() {
        let (start, mut seen) = (Instant::now(), Vec::new());
        let is_alone = |ratio: &f64| (PLAUSIBLE_FROM..SHARED_FROM).contains(ratio);
        while CAN_TELL && !seen.last().is_some_and(is_alone) && start.elapsed().as_secs() < 30 {
            seen.push(side_by_side_over_alone());
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(!CAN_TELL || seen.last().is_some_and(is_alone), "{seen:.2?}");
    }
}
