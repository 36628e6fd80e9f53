//! The throughput of a short measurement.
//!
//! Executions tend to finish together, in bursts. A stretch that holds two bursts of eight executions and the rest of
//! the one it began in counts up to 23 executions where 16 are due. The same happens within one stream whose slots
//! finish in pairs. A slot does one execution after the other, so from one of its completions to a later one nothing is
//! counted too much, whatever the others do meanwhile: each slot has a rate of its own, and the throughput is their
//! sum. Over 30 draws of simulated devices this halves the error of slices of 10 executions a stream, from 2.6 % to 1.1 %
//! (root mean square, against 400 executions), compared with a rate for each stream.

use std::collections::BTreeMap;

use super::Record;
use crate::units::Nanos;

/// A slot's own stretch lasts at least this part of the records' time. One that was idle for longer has no steady
/// rate.
const LEAST_PART: f64 = 0.5;

/// Who is silent at the beginning or at the end for more than this many times the longest gap between two of its
/// completions was not at work then, and no rate of its own would hold for all of the time. One gap of silence is
/// usual, and no two gaps are equal.
const LONGEST_SILENCE: u64 = 2;

/// What was completed after the first completion.
struct Stretch {
    start: Nanos,
    end: Nanos,
    /// The longest time between two completions in a row.
    gap: Nanos,
    samples: f64,
}

impl Stretch {
    fn add(&mut self, record: &Record) {
        // Several requests of one execution may become readable together, those of the first one too.
        if record.readable > self.start {
            self.gap = self.gap.max(record.readable - self.end);
            self.end = record.readable;
            self.samples += record.samples as f64;
        }
    }

    /// Samples per second, where there was work for nearly all of the time from `first` to `last`.
    fn rate(&self, first: Nanos, last: Nanos) -> Option<f64> {
        let seconds = (self.end - self.start).as_seconds();
        let silence = (self.start - first).max(last - self.end);
        let is_steady = silence.0 <= LONGEST_SILENCE * self.gap.0;
        let is_long = seconds > LEAST_PART * (last - first).as_seconds();
        (is_steady && is_long).then(|| self.samples / seconds)
    }
}

/// Samples per second of all slots together, where there is always work for each of them: a slot that idles between
/// two executions completes too few to tell its rate. Where some are seldom used all the same, that of all streams.
pub(super) fn of_slots(records: &[Record]) -> Option<f64> {
    let of_slots = sum_of_rates(records, |record| (record.slot.executor, record.slot.index));
    of_slots.or_else(|| of_streams(records))
}

/// Samples per second of all streams together. `None` where one did not complete anything twice, or only within a part
/// of the time: then only counting all over the whole time is fair.
pub(super) fn of_streams(records: &[Record]) -> Option<f64> {
    sum_of_rates(records, |record| (record.slot.executor, 0))
}

/// The sum over all that have this key in common.
fn sum_of_rates(records: &[Record], key: fn(&Record) -> (usize, usize)) -> Option<f64> {
    let (first, last) = (records.first()?.readable, records.last()?.readable);
    let mut stretches = BTreeMap::new();
    for record in records {
        let readable = record.readable;
        let fresh = Stretch { start: readable, end: readable, gap: Nanos::ZERO, samples: 0.0 };
        stretches.entry(key(record)).or_insert(fresh).add(record);
    }
    stretches.values().map(|stretch| stretch.rate(first, last)).sum()
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
            execution_samples: None,
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
        let rate = of_slots(&records).unwrap();
        assert!((rate / 3_200.0 - 1.0).abs() < 1e-3, "{rate}");
    }

    #[test]
    fn slots_that_finish_in_pairs_do_not_count_twice() {
        // One stream, two slots: pairs, 10 ms apart. It begins within a pair and ends with a whole one.
        let in_slot = |index: usize, readable: u64| {
            let slot = SlotId { executor: 0, index };
            Record { slot, ..record(0, readable) }
        };
        let pairs = (1..=4).flat_map(|pair| [(0, 10_000_000 * pair), (1, 10_000_000 * pair + 100_000)]);
        let records: Vec<Record> = [(1, 100_000)]
            .into_iter()
            .chain(pairs)
            .map(|(index, readable)| in_slot(index, readable))
            .collect();
        let rate = of_slots(&records).unwrap();
        assert!((rate / 800.0 - 1.0).abs() < 1e-3, "{rate}");
    }

    #[test]
    fn streams_of_different_speed_add_up() {
        let records = [record(0, 0), record(1, 0), record(0, 10_000), record(0, 20_000), record(1, 20_000)];
        let rate = of_slots(&records).unwrap();
        assert!((rate - (8.0 + 4.0) / 20e-6).abs() < 1e-3, "{rate}");
    }

    #[test]
    fn a_stream_that_ends_early_or_starts_late_does_not_count_as_if_it_had_run_all_the_time() {
        // One stream completes every 10 us for 100 us, the other one does so for 70 us only.
        let at = |executor: usize, steps: std::ops::RangeInclusive<u64>| {
            steps.map(move |step| record(executor, 10_000 * step))
        };
        let mut early: Vec<Record> = at(0, 0..=10).chain(at(1, 0..=7)).collect();
        early.sort_by_key(|record| record.readable);
        assert_eq!(of_slots(&early), None);
        let mut late: Vec<Record> = at(0, 0..=10).chain(at(1, 3..=10)).collect();
        late.sort_by_key(|record| record.readable);
        assert_eq!(of_slots(&late), None);
        let mut whole: Vec<Record> = at(0, 0..=10).chain(at(1, 1..=9)).collect();
        whole.sort_by_key(|record| record.readable);
        let rate = of_slots(&whole).unwrap();
        assert!((rate / 800e3 - 1.0).abs() < 1e-9, "{rate}");
    }

    #[test]
    fn a_stream_that_was_mostly_idle_has_no_rate() {
        let records = [record(0, 0), record(1, 10), record(0, 20), record(1, 100)];
        assert_eq!(of_slots(&records), None);
        assert_eq!(of_slots(&records[..1]), None);
        assert_eq!(of_slots(&[]), None);
    }
}
