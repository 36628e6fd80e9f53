//! The stretch of time over which a short measurement counts.
//!
//! Streams tend to finish together, in bursts. A stretch that holds two bursts of eight executions and the rest of
//! the one it began in counts up to 23 executions where 16 are due. From one completion of a slot to another of the
//! same slot, all slots that go round equally fast do so equally often, so nothing is counted too much.

use super::Record;
use crate::units::Nanos;

/// The stretch holds at least this part of the records' time, or it would waste too many of them.
const LEAST_PART: f64 = 0.5;

/// The longest stretch that starts and ends with the slot of the first record, and the samples that became readable
/// in it: its start excluded, its end included. `None` where that slot did not come back late enough.
pub(super) fn whole_rounds(records: &[Record]) -> Option<(Nanos, f64)> {
    let (first, last) = (records.first()?, records.last()?);
    let end = records.iter().rev().find(|record| record.slot == first.slot)?.readable;
    let stretch = end - first.readable;
    if stretch.as_seconds() <= LEAST_PART * (last.readable - first.readable).as_seconds() {
        return None;
    }
    let inside = records.iter().filter(|record| record.readable > first.readable && record.readable <= end);
    Some((stretch, inside.map(|record| record.samples as f64).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{SlotId, StageTimes};

    fn record(executor: usize, readable: u64) -> Record {
        Record {
            sequence: 0,
            slot: SlotId { executor, index: 0 },
            samples: 4,
            batch_size: 4,
            intended: Nanos(0),
            submitted: Nanos(0),
            stages: StageTimes::default(),
            readable: Nanos(readable),
        }
    }

    #[test]
    fn slots_that_finish_together_do_not_count_twice() {
        // Three bursts of eight slots, 10 ms apart, a little after one another.
        let burst = |start: u64| (0..8).map(move |slot| record(slot, start + 1_000 * slot as u64));
        let records: Vec<Record> = [0, 10_000_000, 20_000_000].into_iter().flat_map(burst).collect();
        assert_eq!(whole_rounds(&records), Some((Nanos(20_000_000), 64.0)));
    }

    #[test]
    fn a_slot_that_does_not_come_back_gives_no_rounds() {
        let records = [record(0, 0), record(1, 10), record(0, 20), record(1, 100)];
        assert_eq!(whole_rounds(&records), None);
        assert_eq!(whole_rounds(&[]), None);
    }
}
