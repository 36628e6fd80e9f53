//! The throughput of a short measurement.
//!
//! Streams tend to finish together, in bursts. A stretch that holds two bursts of eight executions and the rest of
//! the one it began in counts up to 23 executions where 16 are due. From one completion of a stream to a later one of
//! the same stream nothing is counted too much, whatever the others do meanwhile, so each stream has a rate of its
//! own, and the throughput is their sum.

use std::collections::BTreeMap;

use super::Record;
use crate::units::Nanos;

/// A stream's own stretch lasts at least this part of the records' time. One that was idle for longer has no steady
/// rate.
const LEAST_PART: f64 = 0.5;

/// What one stream completed after its first completion.
struct Stretch {
    start: Nanos,
    end: Nanos,
    samples: f64,
}

/// Samples per second of all streams together. `None` where one of them did not complete anything twice, or only
/// within a small part of the time: then only counting all over the whole time is fair.
pub(super) fn of_streams(records: &[Record]) -> Option<f64> {
    let (first, last) = (records.first()?, records.last()?);
    let least = LEAST_PART * (last.readable - first.readable).as_seconds();
    let mut stretches = BTreeMap::new();
    for record in records {
        let readable = record.readable;
        let fresh = Stretch { start: readable, end: readable, samples: 0.0 };
        let stretch = stretches.entry(record.slot.executor).or_insert(fresh);
        // Several requests of the first execution may become readable together.
        if readable > stretch.start {
            stretch.end = readable;
            stretch.samples += record.samples as f64;
        }
    }
    let rate = |stretch: &Stretch| {
        let seconds = (stretch.end - stretch.start).as_seconds();
        (seconds > least).then(|| stretch.samples / seconds)
    };
    stretches.values().map(rate).sum()
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
    fn streams_that_finish_together_do_not_count_twice() {
        // Three bursts of eight streams, 10 ms apart; the order within a burst is different each time.
        let burst = |start: u64, step: u64| {
            (0..8).map(move |place| record((place * step % 8) as usize, start + 1_000 * place))
        };
        let records: Vec<Record> =
            burst(0, 1).chain(burst(10_000_000, 3)).chain(burst(20_000_000, 5)).collect();
        let rate = of_streams(&records).unwrap();
        assert!((rate / 3_200.0 - 1.0).abs() < 1e-3, "{rate}");
    }

    #[test]
    fn streams_of_different_speed_add_up() {
        let records = [record(0, 0), record(1, 0), record(0, 10_000), record(0, 20_000), record(1, 20_000)];
        let rate = of_streams(&records).unwrap();
        assert!((rate - (8.0 + 4.0) / 20e-6).abs() < 1e-3, "{rate}");
    }

    #[test]
    fn a_stream_that_was_mostly_idle_has_no_rate() {
        let records = [record(0, 0), record(1, 10), record(0, 20), record(1, 100)];
        assert_eq!(of_streams(&records), None);
        assert_eq!(of_streams(&records[..1]), None);
        assert_eq!(of_streams(&[]), None);
    }
}
