//! Executions, found again in the records of the requests that they served.

use std::collections::BTreeSet;

use crate::backend::{SlotId, Span, StageTimes};
use crate::measure::Record;

/// One execution, whatever number of requests it served.
#[derive(Clone, Copy)]
pub(super) struct Execution {
    pub(super) slot: SlotId,
    pub(super) batch_size: usize,
    pub(super) times: StageTimes,
}

/// Each execution once, in the order of its first record: the requests of a batch share their slot and
/// their times.
pub(super) fn executions(records: &[Record]) -> Vec<Execution> {
    let mut seen = BTreeSet::new();
    let is_first = |record: &&Record| {
        let times = record.stages;
        seen.insert((record.slot, times.enqueue.start, times.compute.start, times.compute.end))
    };
    let execution = |record: &Record| Execution {
        slot: record.slot,
        batch_size: record.batch_size,
        times: record.stages,
    };
    records.iter().filter(is_first).map(execution).collect()
}

/// Whether a stage took place: copies on a CPU, for example, do not.
pub(super) fn took_place(span: Span) -> bool {
    span.end > span.start
}
