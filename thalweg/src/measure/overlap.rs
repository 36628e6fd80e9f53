//! How much of what a device does goes on at the same time, from the stages of the records.
//!
//! In: records. Out: two shares of time. Whether an overlap pays is left to the throughput.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Record;
use crate::backend::{SlotId, Span, StageTimes};
use crate::units::Nanos;

/// Which share of the time stages of different executions ran beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overlap {
    /// Of the time of all copies together, the share in which another execution computed: 1 where the copies cost
    /// nothing. `None` where nothing was copied.
    pub copies_under_compute: Option<f64>,
    /// Of the time in which any stage ran, H2D, compute or D2H, the share in which two or more did.
    pub two_or_more_stages: f64,
}

impl Overlap {
    /// The overlap in these records, each execution counted once; `None` where no stage has a length.
    pub fn of(records: &[Record]) -> Option<Self> {
        let mut sweep = Sweep::default();
        let mut edges: Vec<Edge> = executions(records).flat_map(|times| edges(&times)).collect();
        // At the same moment ends come before starts: stages that only touch do not overlap.
        edges.sort_unstable_by_key(|edge| (edge.at, edge.is_start));
        for edge in edges {
            sweep.step(edge);
        }
        sweep.overlap()
    }
}

/// Each execution once, though several requests may share it.
fn executions(records: &[Record]) -> impl Iterator<Item = StageTimes> {
    let mut seen: BTreeSet<(SlotId, Nanos)> = BTreeSet::new();
    records.iter().filter(move |it| seen.insert((it.slot, it.stages.compute.end))).map(|it| it.stages)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Copy,
    Compute,
}

/// A stage starts or ends.
#[derive(Clone, Copy)]
struct Edge {
    at: Nanos,
    is_start: bool,
    stage: Stage,
}

fn edges(times: &StageTimes) -> impl Iterator<Item = Edge> + use<> {
    let stages = [(Stage::Copy, times.h2d), (Stage::Compute, times.compute), (Stage::Copy, times.d2h)];
    let took_place = |(_, span): &(Stage, Span)| span.end > span.start;
    stages.into_iter().filter(took_place).flat_map(|(stage, span)| {
        [(span.start, true), (span.end, false)].map(|(at, is_start)| Edge { at, is_start, stage })
    })
}

/// What runs while time goes on. An execution's own copies never lie under its own computation, so a copy beside any
/// computation is one beside another execution's.
#[derive(Default)]
struct Sweep {
    now: Nanos,
    copies: u64,
    computations: u64,
    copy_time: u64,
    hidden_copy_time: u64,
    any_time: u64,
    several_time: u64,
}

impl Sweep {
    fn step(&mut self, edge: Edge) {
        let length = (edge.at - self.now).0;
        let running = self.copies + self.computations;
        self.copy_time += length * self.copies;
        self.hidden_copy_time += if self.computations > 0 { length * self.copies } else { 0 };
        self.any_time += if running > 0 { length } else { 0 };
        self.several_time += if running > 1 { length } else { 0 };
        self.now = edge.at;
        let count = match edge.stage {
            Stage::Copy => &mut self.copies,
            Stage::Compute => &mut self.computations,
        };
        *count = if edge.is_start { *count + 1 } else { *count - 1 };
    }

    fn overlap(&self) -> Option<Overlap> {
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        Some(Overlap {
            copies_under_compute: share(self.hidden_copy_time, self.copy_time),
            two_or_more_stages: share(self.several_time, self.any_time)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(executor: usize, h2d: (u64, u64), compute: (u64, u64), d2h: (u64, u64)) -> Record {
        let span = |(start, end)| Span { start: Nanos(start), end: Nanos(end) };
        let stages =
            StageTimes { enqueue: Span::default(), h2d: span(h2d), compute: span(compute), d2h: span(d2h) };
        let (intended, submitted, readable) = (Nanos(h2d.0), Nanos(h2d.0), Nanos(d2h.1));
        let slot = SlotId { executor, index: 0 };
        Record { sequence: 0, slot, samples: 1, batch_size: 1, intended, submitted, stages, readable }
    }

    #[test]
    fn stages_one_after_the_other_do_not_overlap() {
        let alone = record(0, (0, 10), (10, 40), (40, 50));
        let next = record(0, (50, 60), (60, 90), (90, 100));
        let expected = Overlap { copies_under_compute: Some(0.0), two_or_more_stages: 0.0 };
        assert_eq!(Overlap::of(&[alone, next]), Some(expected));
    }

    #[test]
    fn copies_under_another_computation_count_with_their_length() {
        // The second's input is copied while the first computes; of the four copies of 10 that is one, and of the
        // 80 that anything runs, 10 have two stages, and 10 more the first's output beside the second's computation.
        let first = record(0, (0, 10), (10, 40), (40, 50));
        let second = record(1, (20, 30), (40, 70), (70, 80));
        let expected = Overlap { copies_under_compute: Some(0.5), two_or_more_stages: 0.25 };
        assert_eq!(Overlap::of(&[first, second]), Some(expected));
    }

    #[test]
    fn requests_of_one_execution_count_once() {
        let first = record(0, (0, 10), (10, 40), (40, 50));
        assert_eq!(Overlap::of(&[first, first, first]), Overlap::of(&[first]));
    }

    #[test]
    fn without_copies_and_without_stages_there_are_no_such_shares() {
        let computing = |executor, start| record(executor, (start, start), (start, start + 30), (0, 0));
        let overlap = Overlap::of(&[computing(0, 0), computing(1, 15)]).unwrap();
        assert_eq!((overlap.copies_under_compute, overlap.two_or_more_stages), (None, 1.0 / 3.0));
        assert_eq!(Overlap::of(&[]), None);
    }
}
