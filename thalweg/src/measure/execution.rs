//! Executions, found again in the records of the requests that they served.

use std::collections::BTreeSet;

use super::Record;
use crate::backend::{SlotId, Span, StageTimes};

/// One execution, whatever number of requests it served.
#[derive(Clone, Copy)]
pub(crate) struct Execution {
    pub(crate) slot: SlotId,
    pub(crate) batch_size: usize,
    pub(crate) times: StageTimes,
}

/// Each execution once, in the order of its first record: the requests of a batch share their slot and
/// their times.
pub(crate) fn executions(records: &[Record]) -> Vec<Execution> {
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

/// Whether the times of all executions were taken.
pub(crate) fn has_all_times(records: &[Record]) -> bool {
    records.iter().all(|record| took_place(record.stages.compute))
}

/// Whether a stage took place: copies on a CPU, for example, do not.
pub(crate) fn took_place(span: Span) -> bool {
    span.end > span.start
}
