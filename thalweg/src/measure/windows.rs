//! Cutting a run into measurement windows, and the verdict on whether they agree.
//!
//! A window ends at a completion, not at a tick: the time from one completion to another holds a whole
//! number of executions, so a few slow ones do not make the throughput jump.

use super::measurement::{Record, Stability, Window};
use crate::units::Nanos;

/// Windows that must agree: perf_analyzer's rule (`docs/cli.md`, stability).
pub(super) const STABLE_WINDOWS: usize = 3;

/// Largest ratio of throughputs, and of mean latencies, among windows that agree; perf_analyzer's 10 %.
const LARGEST_SPREAD: f64 = 1.10;

/// A window is prolonged until it holds this many requests, or one slow execution would be a window.
const REQUESTS_PER_WINDOW: usize = 8;

/// Sorts records into windows as they come.
#[derive(Debug)]
pub(super) struct WindowCutter {
    length: Nanos,
    /// The last completion before the current window; `None` until one came after the warm-up.
    start: Option<Nanos>,
    /// When the current window should end.
    nominal_end: Nanos,
    /// The last completion.
    latest: Nanos,
    /// Records of all closed windows and the current one, in order of completion.
    records: Vec<Record>,
    /// Index of the current window's first record.
    first: usize,
    windows: Vec<Window>,
    /// Index of each closed window's first record.
    firsts: Vec<usize>,
}

impl WindowCutter {
    /// Windows of at least `length`, from `warm_up_end` on.
    pub(super) fn new(warm_up_end: Nanos, length: Nanos) -> Self {
        Self {
            length,
            start: None,
            nominal_end: warm_up_end,
            latest: Nanos::ZERO,
            records: Vec::new(),
            first: 0,
            windows: Vec::new(),
            firsts: Vec::new(),
        }
    }

    /// Lets the warm-up last so much longer; nothing where it is over.
    pub(super) fn prolong_warm_up(&mut self, time: Nanos) {
        if self.start.is_none() {
            self.nominal_end += time;
        }
    }

    /// Takes in the next record, and closes the window that it is too late for.
    pub(super) fn push(&mut self, record: Record) {
        let is_new_completion = record.readable > self.latest;
        if is_new_completion && record.readable >= self.nominal_end {
            self.close(REQUESTS_PER_WINDOW);
        }
        self.latest = record.readable;
        if self.start.is_some() {
            self.records.push(record);
        }
    }

    /// Ends the current window at the latest completion, where it has as many requests, or starts the first one there.
    fn close(&mut self, least_requests: usize) {
        let Some(start) = self.start else {
            // The warm-up is over. The record that says so opens the first window.
            if self.latest > Nanos::ZERO {
                self.start = Some(self.latest);
                self.nominal_end = self.latest + self.length;
            }
            return;
        };
        let records = &self.records[self.first..];
        if records.len() < least_requests {
            return;
        }
        let latencies: Nanos = records.iter().map(Record::latency).sum();
        self.windows.push(Window {
            start,
            end: self.latest,
            inferences: records.iter().map(|record| record.samples as u64).sum(),
            mean_latency: Nanos(latencies.0 / records.len() as u64),
        });
        self.firsts.push(self.first);
        self.first = self.records.len();
        self.start = Some(self.latest);
        self.nominal_end = self.latest + self.length;
    }

    /// Nothing more comes, sooner than planned. What there is of the first window becomes a window; later ones have
    /// others before them, so nothing but a part of a window is lost.
    pub(super) fn end_early(&mut self) {
        if self.windows.is_empty() && self.start.is_some() {
            self.close(1);
        }
    }

    /// Whether a window that ended now would hold anything.
    pub(super) fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    pub(super) fn window_count(&self) -> usize {
        self.windows.len()
    }

    /// When the first window started, if it has.
    pub(super) fn started(&self) -> Option<Nanos> {
        self.windows.first().map(|window| window.start).or(self.start)
    }

    /// The verdict on the last windows so far.
    pub(super) fn stability(&self) -> Stability {
        let Some(from) = self.windows.len().checked_sub(STABLE_WINDOWS) else {
            return Stability::TooShort;
        };
        let last = &self.windows[from..];
        let throughput_spread = spread(last.iter().map(Window::throughput));
        let latency_spread = spread(last.iter().map(|window| window.mean_latency.as_seconds()));
        if throughput_spread <= LARGEST_SPREAD && latency_spread <= LARGEST_SPREAD {
            Stability::Stable { throughput_spread, latency_spread }
        } else {
            Stability::Unstable { throughput_spread, latency_spread }
        }
    }

    /// All windows, and the records of those that count: the last three if they agree, else all.
    pub(super) fn finish(mut self) -> (Vec<Window>, usize, Vec<Record>) {
        let is_stable = matches!(self.stability(), Stability::Stable { .. });
        let used = if is_stable { STABLE_WINDOWS } else { self.windows.len() };
        let from = self.firsts.get(self.windows.len() - used).copied().unwrap_or(0);
        self.records.truncate(self.first);
        (self.windows, used, self.records.split_off(from))
    }
}

/// Largest over smallest.
fn spread(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(0.0, f64::max);
    let smallest = values.fold(f64::INFINITY, f64::min);
    largest / smallest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{SlotId, StageTimes};

    fn record(readable: u64, latency: u64) -> Record {
        Record {
            sequence: 0,
            slot: SlotId { executor: 0, index: 0 },
            samples: 1,
            batch_size: 1,
            execution_samples: None,
            intended: Nanos(readable - latency),
            submitted: Nanos(readable - latency),
            stages: StageTimes::default(),
            readable: Nanos(readable),
        }
    }

    fn cut(completions: impl Iterator<Item = u64>) -> WindowCutter {
        let mut cutter = WindowCutter::new(Nanos(1000), Nanos(1000));
        for readable in completions {
            cutter.push(record(readable, 50));
        }
        cutter
    }

    #[test]
    fn a_window_runs_from_completion_to_completion() {
        let (windows, used, records) = cut((1..60).map(|i| i * 70)).finish();
        // Up to 980 is warm-up; the first window ends at the last completion before 1,980.
        assert_eq!((windows[0].start, windows[0].end), (Nanos(980), Nanos(1960)));
        assert_eq!(windows[0].inferences, 14);
        assert!((windows[0].throughput() - 1e9 / 70.0).abs() < 1.0, "{}", windows[0].throughput());
        assert_eq!(windows[1].start, windows[0].end);
        assert_eq!(used, 3);
        assert_eq!(records.len() as u64, windows.iter().map(|window| window.inferences).sum::<u64>());
    }

    #[test]
    fn a_warm_up_lasts_longer_until_it_is_over() {
        let mut cutter = WindowCutter::new(Nanos(1000), Nanos(1000));
        let push = |cutter: &mut WindowCutter, from: u64, to: u64| {
            (from..to).for_each(|i| cutter.push(record(i * 100, 50)));
        };
        push(&mut cutter, 1, 5);
        cutter.prolong_warm_up(Nanos(500));
        assert_eq!(cutter.started(), None);
        push(&mut cutter, 5, 20);
        assert_eq!(cutter.started(), Some(Nanos(1400)));
        cutter.prolong_warm_up(Nanos(500));
        push(&mut cutter, 20, 26);
        assert_eq!(cutter.window_count(), 1, "a window is as long as it was meant to be");
    }

    #[test]
    fn requests_of_one_execution_stay_in_one_window() {
        let twice = (1..40).flat_map(|i| [i * 100, i * 100]);
        let (windows, _, _) = cut(twice).finish();
        assert!(windows.iter().all(|window| window.inferences % 2 == 0), "{windows:?}");
    }

    #[test]
    fn a_slow_network_gets_longer_windows() {
        let (windows, _, _) = cut((1..30).map(|i| i * 700)).finish();
        assert!(windows.iter().all(|window| window.inferences >= REQUESTS_PER_WINDOW as u64), "{windows:?}");
    }

    #[test]
    fn an_early_end_keeps_what_there_is_of_the_first_window() {
        let mut cutter = cut((1..24).map(|i| i * 70));
        cutter.end_early();
        let (windows, used, records) = cutter.finish();
        assert_eq!((windows.len(), used, records.len()), (1, 1, 9));
        let mut cutter = cut((1..20).map(|i| i * 70));
        cutter.end_early();
        assert_eq!(cutter.finish().0[0].inferences, 5, "less than a window that is not the only one");
        let mut cutter = cut((1..15).map(|i| i * 70));
        cutter.end_early();
        assert_eq!(cutter.finish().0.len(), 0, "the warm-up had all");
    }

    #[test]
    fn windows_that_differ_are_unstable_and_all_count() {
        let slowing = (1..30).map(|i: u64| i * 70).chain((0..20).map(|i| 2100 + i * 140));
        let cutter = cut(slowing);
        assert!(
            matches!(cutter.stability(), Stability::Unstable { throughput_spread, .. } if throughput_spread > 1.5)
        );
        let (windows, used, _) = cutter.finish();
        assert_eq!(used, windows.len());
    }
}
