//! How much of what a device does goes on at the same time, from the stages of the records.
//!
//! In: records. Out: two shares of time. Whether an overlap pays is left to the throughput.

use serde::{Deserialize, Serialize};

use super::{Record, executions, has_all_times, took_place};
use crate::backend::StageTimes;
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
    /// The overlap in these records, each execution counted once; `None` where no stage has a length, or where times were
    /// taken of some executions only.
    ///
    /// An execution's own copies never lie under its own computation, so a copy beside any computation is one beside
    /// another execution's.
    pub fn of(records: &[Record]) -> Option<Self> {
        if !has_all_times(records) {
            return None;
        }
        let (mut copy_time, mut hidden_copy_time, mut any_time, mut several_time) = (0, 0, 0, 0);
        sweep(executions(records).iter().map(|execution| execution.times), |span, running| {
            copy_time += span.0 * running.copies;
            hidden_copy_time += if running.computations > 0 { span.0 * running.copies } else { 0 };
            let stages = running.copies + running.computations;
            any_time += if stages > 0 { span.0 } else { 0 };
            several_time += if stages > 1 { span.0 } else { 0 };
        });
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        Some(Self {
            copies_under_compute: share(hidden_copy_time, copy_time),
            two_or_more_stages: share(several_time, any_time)?,
        })
    }
}

/// How many stages run at the same time.
#[derive(Clone, Copy, Default)]
pub(crate) struct Running {
    pub(crate) copies: u64,
    pub(crate) computations: u64,
}

/// Goes through the time from the first start to the last end, and shows each span in which the same number of stages
/// runs.
pub(crate) fn sweep(times: impl Iterator<Item = StageTimes>, mut show: impl FnMut(Nanos, Running)) {
    let mut edges: Vec<Edge> = times.flat_map(|times| edges(&times)).collect();
    // At the same moment ends come before starts: stages that only touch do not overlap.
    edges.sort_unstable_by_key(|edge| (edge.at, edge.is_start));
    let (mut now, mut running) = (Nanos::ZERO, Running::default());
    for edge in edges {
        show(edge.at - now, running);
        now = edge.at;
        let count = if edge.is_copy { &mut running.copies } else { &mut running.computations };
        *count = if edge.is_start { *count + 1 } else { *count - 1 };
    }
}

/// A stage starts or ends.
struct Edge {
    at: Nanos,
    is_start: bool,
    is_copy: bool,
}

fn edges(times: &StageTimes) -> impl Iterator<Item = Edge> + use<> {
    let stages = [(times.h2d, true), (times.compute, false), (times.d2h, true)];
    stages.into_iter().filter(|(span, _)| took_place(*span)).flat_map(|(span, is_copy)| {
        [(span.start, true), (span.end, false)].map(|(at, is_start)| Edge { at, is_start, is_copy })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{SlotId, Span};

    fn record(executor: usize, h2d: (u64, u64), compute: (u64, u64), d2h: (u64, u64)) -> Record {
        let span = |(start, end)| Span { start: Nanos(start), end: Nanos(end) };
        let stages =
            StageTimes { h2d: span(h2d), compute: span(compute), d2h: span(d2h), ..StageTimes::default() };
        let (intended, submitted, readable) = (Nanos(h2d.0), Nanos(h2d.0), Nanos(d2h.1));
        let slot = SlotId { executor, index: 0 };
        Record {
            sequence: 0,
            slot,
            samples: 1,
            batch_size: 1,
            execution_samples: None,
            intended,
            submitted,
            stages,
            readable,
        }
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
    fn where_some_executions_have_no_times_nobody_knows_what_lay_beside_them() {
        let timed = record(0, (0, 10), (10, 40), (40, 50));
        assert_eq!(Overlap::of(&[timed, record(1, (0, 0), (0, 0), (0, 0))]), None);
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
