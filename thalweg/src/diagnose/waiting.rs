//! Who waits for whom: executions that are ready and do not start, though nothing is in their way.
//!
//! In: records of requests. Out: shares of time. They tell a host that waits for each execution, and
//! streams that wait for each other, from a device that has its hands full. What follows from them is left to
//! [`limits`](super::limits).

use std::collections::BTreeMap;

use crate::backend::{CudaGraph, SlotId, Transfers};
use crate::measure::{Execution, Record, executions, took_place};
use crate::pool::Configuration;
use crate::units::Nanos;

/// Shares of the time between the first and the last moment that the records tell of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Waiting {
    /// One execution was on the device, and another, which could run beside it, was ready and not enqueued, though no
    /// thread was in an enqueue call and no copy to the device was under way.
    pub held_by_host: f64,
    /// The same, but the other was enqueued.
    pub held_on_device: f64,
    /// Exactly one execution was on the device, as a part of the time in which any was.
    pub alone: f64,
}

impl Waiting {
    /// `None` where there are no records. Where a host computes, one thread of an executor does all that there is to do.
    pub fn of(records: &[Record], configuration: &Configuration, is_host: bool) -> Option<Self> {
        let executions = executions(records);
        let ready = ready(records);
        let mut moments: Vec<(Nanos, Edge)> = Vec::with_capacity(8 * executions.len());
        for execution in &executions {
            let times = execution.times;
            let stream = execution.slot.executor;
            let start = start(execution);
            let end = times.d2h.end.max(times.compute.end);
            let ready = ready.get(&key(execution)).copied().unwrap_or(times.enqueue.start);
            let mut add = |from: Nanos, to: Nanos, what: What| {
                if to > from {
                    moments.push((from, Edge { stream, what, step: 1 }));
                    moments.push((to, Edge { stream, what, step: -1 }));
                }
            };
            add(ready, times.enqueue.start.min(start), What::Ready);
            add(times.enqueue.start, times.enqueue.end, What::Call);
            add(times.enqueue.end, start, What::Enqueued);
            add(times.h2d.start, times.h2d.end, What::Copy);
            add(start, end, What::Running);
        }
        moments.sort_unstable_by_key(|(at, _)| *at);
        let (first, last) = (moments.first()?.0, moments.last()?.0);
        let mut state = State::new(configuration, &executions, is_host);
        let mut sums = Sums::default();
        let mut now = first;
        for (at, edge) in moments {
            sums.add(at - now, &state);
            now = at;
            state.apply(edge);
        }
        Some(sums.shares(last - first))
    }
}

type Key = (SlotId, Nanos);

fn key(execution: &Execution) -> Key {
    (execution.slot, execution.times.compute.start)
}

/// When the last request of each execution was handed to the pool.
fn ready(records: &[Record]) -> BTreeMap<Key, Nanos> {
    let mut ready: BTreeMap<Key, Nanos> = BTreeMap::new();
    for record in records {
        let last = ready.entry((record.slot, record.stages.compute.start)).or_default();
        *last = record.submitted.max(*last);
    }
    ready
}

/// When an execution reached the device.
fn start(execution: &Execution) -> Nanos {
    let times = execution.times;
    if took_place(times.h2d) { times.h2d.start } else { times.compute.start }
}

#[derive(Clone, Copy)]
enum What {
    Ready,
    Call,
    Enqueued,
    Copy,
    Running,
}

#[derive(Clone, Copy)]
struct Edge {
    stream: usize,
    what: What,
    step: i64,
}

/// What goes on at one moment.
struct State {
    /// Whether an execution may start beside another one of its own stream: only where copies are stages of their own.
    shares_stream: bool,
    calls: i64,
    copies: i64,
    running: Vec<i64>,
    ready: Vec<i64>,
    enqueued: Vec<i64>,
}

impl State {
    fn new(configuration: &Configuration, executions: &[Execution], is_host: bool) -> Self {
        let copies = executions.iter().filter(|it| took_place(it.times.h2d)).count();
        let none = || vec![0; configuration.streams];
        Self {
            shares_stream: !is_host
                && configuration.cuda_graph != CudaGraph::Copies
                && configuration.transfers == Transfers::On
                && 2 * copies > executions.len(),
            calls: 0,
            copies: 0,
            running: none(),
            ready: none(),
            enqueued: none(),
        }
    }

    fn apply(&mut self, edge: Edge) {
        let count = match edge.what {
            What::Call => &mut self.calls,
            What::Copy => &mut self.copies,
            What::Running => &mut self.running[edge.stream],
            What::Ready => &mut self.ready[edge.stream],
            What::Enqueued => &mut self.enqueued[edge.stream],
        };
        *count += edge.step;
    }

    /// Whether one of these executions could run and does not.
    fn holds(&self, waiting: &[i64]) -> bool {
        let is_free = |stream: usize| self.shares_stream || self.running[stream] == 0;
        self.calls == 0
            && self.copies == 0
            && waiting.iter().enumerate().any(|(stream, count)| *count > 0 && is_free(stream))
    }
}

#[derive(Default)]
struct Sums {
    by_host: Nanos,
    on_device: Nanos,
    alone: Nanos,
    running: Nanos,
}

impl Sums {
    fn add(&mut self, span: Nanos, state: &State) {
        let running: i64 = state.running.iter().sum();
        if running == 0 || span == Nanos::ZERO {
            return;
        }
        self.running += span;
        if running == 1 {
            self.alone += span;
        }
        if state.holds(&state.enqueued) {
            self.on_device += span;
        } else if state.holds(&state.ready) {
            self.by_host += span;
        }
    }

    fn shares(&self, whole: Nanos) -> Waiting {
        let share = |part: Nanos, whole: Nanos| part.as_seconds() / whole.as_seconds().max(f64::MIN_POSITIVE);
        Waiting {
            held_by_host: share(self.by_host, whole),
            held_on_device: share(self.on_device, whole),
            alone: share(self.alone, self.running),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Span, StageTimes};

    const PERIOD: u64 = 100;

    /// An execution that is ready, enqueued and on the device from these moments on, its copy and its computation of 10
    /// and 70 each.
    fn record(stream: usize, (ready, enqueued, start): (u64, u64, u64)) -> Record {
        let span = |from, to| Span { start: Nanos(from), end: Nanos(to) };
        let stages = StageTimes {
            enqueue: span(enqueued, enqueued + 5),
            h2d: span(start, start + 10),
            compute: span(start + 10, start + 80),
            d2h: span(start + 80, start + 90),
            ..StageTimes::default()
        };
        Record {
            sequence: ready,
            slot: SlotId { executor: stream, index: 0 },
            samples: 1,
            batch_size: 1,
            execution_samples: None,
            intended: Nanos(ready),
            submitted: Nanos(ready),
            stages,
            readable: Nanos(start + 90),
        }
    }

    fn waiting(record_of: impl Fn(u64) -> Record) -> Waiting {
        let records: Vec<Record> = (0..50).map(record_of).collect();
        let configuration = Configuration { streams: 2, ..Configuration::default() };
        Waiting::of(&records, &configuration, false).expect("there are records")
    }

    fn is_near(value: f64, expected: f64) -> bool {
        (value - expected).abs() < 0.03
    }

    #[test]
    fn a_host_that_waits_for_each_execution_is_told_from_streams_that_wait_for_each_other() {
        // Each is ready a period before it may start.
        let by_host = waiting(|n| {
            let start = (n + 1) * PERIOD;
            record((n % 2) as usize, (n * PERIOD, start - 5, start))
        });
        assert!(is_near(by_host.held_by_host, 0.8) && by_host.held_on_device < 0.01, "{by_host:?}");
        assert!(is_near(by_host.alone, 1.0), "{by_host:?}");
        let on_device = waiting(|n| {
            let start = (n + 1) * PERIOD;
            record((n % 2) as usize, (n * PERIOD, n * PERIOD, start))
        });
        assert!(is_near(on_device.held_on_device, 0.8) && on_device.held_by_host < 0.01, "{on_device:?}");
    }

    #[test]
    fn nothing_is_held_where_each_starts_as_soon_as_it_is_ready() {
        let free =
            waiting(|n| record((n % 2) as usize, (n * PERIOD / 2, n * PERIOD / 2, n * PERIOD / 2 + 5)));
        assert!(free.held_by_host < 0.01 && free.held_on_device < 0.01 && free.alone < 0.3, "{free:?}");
    }

    #[test]
    fn what_waits_behind_its_own_stream_is_not_held_where_that_runs_in_order() {
        let records: Vec<Record> =
            (0..50).map(|n| record(0, (n * PERIOD, n * PERIOD, (n + 1) * PERIOD))).collect();
        let held = |cuda_graph, is_host| {
            let configuration = Configuration { cuda_graph, ..Configuration::default() };
            Waiting::of(&records, &configuration, is_host).expect("there are records").held_on_device
        };
        assert!(held(CudaGraph::Compute, false) > 0.7);
        assert!(held(CudaGraph::Copies, false) < 0.01);
        // A host's executor copies and computes on one thread.
        assert!(held(CudaGraph::Off, false) > 0.7 && held(CudaGraph::Off, true) < 0.01);
    }
}
