//! What ran beside what: shares of time, and what streams waited for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DeviceWork, Program, What};
use crate::backend::{Span, StageTimes};
use crate::measure::sweep;
use crate::units::Nanos;

/// Between two kernels of a stream that were enqueued in time lie about a microsecond; what is shorter is no gap.
const SHORTEST_GAP: Nanos = Nanos(2_000);

/// A kernel of fewer blocks leaves half of the SMs of a data centre's GPU free (an H100 has 132), so something else
/// could have run beside it.
pub(super) const SMALL_GRID: u64 = 66;

/// Computations before a moment that are looked at for one that still runs: more do not fit beside each other on a device
/// (CUDA's limit is 128 kernels).
const MOST_BESIDE: usize = 128;

/// Shares of the time from the first work to the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sharing {
    /// In which a kernel or a graph ran.
    pub computing: f64,
    /// In which kernels or graphs of two or more streams ran.
    pub computing_twice: f64,
    /// In which a copy ran.
    pub copying: f64,
    /// Of the time of all copies, the share in which something computed; `None` where nothing was copied.
    pub copies_under_compute: Option<f64>,
}

impl Sharing {
    pub(super) fn of(work: &[&DeviceWork], window: Nanos) -> Self {
        let stages = work.iter().filter_map(|work| match work.what {
            What::Kernel { .. } | What::Graph => {
                Some(StageTimes { compute: work.span, ..StageTimes::default() })
            }
            What::Copy { .. } => Some(StageTimes { h2d: work.span, ..StageTimes::default() }),
            // A kernel of the driver or its copy engine, and no traffic of the bus: neither of the two.
            What::Fill => None,
        });
        let [mut computing, mut twice, mut copying, mut copies, mut hidden] = [Nanos::ZERO; 5];
        sweep(stages, |span, running| {
            let times = |count: u64| Nanos(span.0.saturating_mul(count));
            computing += times(running.computations.min(1));
            twice += times(u64::from(running.computations > 1));
            copying += times(running.copies.min(1));
            copies += times(running.copies);
            hidden += times(if running.computations > 0 { running.copies } else { 0 });
        });
        Self {
            computing: share(computing, window),
            computing_twice: share(twice, window),
            copying: share(copying, window),
            copies_under_compute: (copies > Nanos::ZERO).then(|| share(hidden, copies)),
        }
    }
}

/// One time over another, 0 where that is none.
pub(super) fn share(part: Nanos, whole: Nanos) -> f64 {
    if whole > Nanos::ZERO { part.0 as f64 / whole.0 as f64 } else { 0.0 }
}

/// What a stream waited for between two of its computations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// The next one was not enqueued yet.
    Host,
    /// A copy or a fill of its own.
    Copy,
    /// Computations of another stream.
    OtherStream,
    /// Nothing that can be seen.
    Device,
}

/// Gaps of all streams with one cause.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// What was waited for.
    pub cause: GapCause,
    /// How often.
    pub count: u64,
    /// How long in all, over all streams.
    #[serde(rename = "total_ns")]
    pub total: Nanos,
}

/// What streams waited for, and what small kernels of others kept them from.
#[derive(Clone, Debug, Default)]
pub(super) struct Waits<'a> {
    pub(super) gaps: Vec<Gap>,
    /// Work that waited while only small kernels ran, with the one it waited for and how long.
    pub(super) behind_small: Vec<(&'a DeviceWork, &'a DeviceWork, Nanos)>,
}

impl<'a> Waits<'a> {
    /// Of the work of one device, which comes by start.
    pub(super) fn of(program: &Program, work: &[&'a DeviceWork]) -> Self {
        let computing: Vec<_> = work.iter().filter(|work| work.computes()).copied().collect();
        let mut last: BTreeMap<usize, Last> = BTreeMap::new();
        let mut totals: BTreeMap<GapCause, (u64, Nanos)> = BTreeMap::new();
        let mut behind_small = Vec::new();
        for next in work.iter().copied() {
            let last = last.entry(next.stream).or_default();
            if !next.computes() {
                last.copying += next.span.duration();
                last.copied = last.copied.max(next.span.end);
                continue;
            }
            if let Some(end) = last.computed
                && next.span.start > end + SHORTEST_GAP
            {
                let gap = Span { start: end, end: next.span.start };
                let (cause, other) = cause(program, &computing, gap, next, last);
                let total = totals.entry(cause).or_default();
                *total = (total.0 + 1, total.1 + gap.duration());
                if let Some((other, waited)) = other.filter(|(other, _)| is_small(other)) {
                    behind_small.push((next, other, waited));
                }
            }
            *last = Last { computed: Some(next.span.end), ..Last::default() };
        }
        let gap = |(cause, (count, total)): (GapCause, (u64, Nanos))| Gap { cause, count, total };
        let mut gaps: Vec<_> = totals.into_iter().map(gap).collect();
        gaps.sort_by_key(|gap| std::cmp::Reverse(gap.total));
        Self { gaps, behind_small }
    }
}

fn is_small(work: &DeviceWork) -> bool {
    matches!(work.what, What::Kernel { blocks, .. } if blocks < SMALL_GRID)
}

/// What a stream did last.
#[derive(Default)]
struct Last {
    computed: Option<Nanos>,
    /// Time of its copies since then, and when the last of them ended.
    copying: Nanos,
    copied: Nanos,
}

/// The largest part of a gap: before the next one was enqueued, under copies, or behind another stream, whose work is
/// given with the time that it ran meanwhile.
fn cause<'a>(
    program: &Program,
    computing: &[&'a DeviceWork],
    gap: Span,
    next: &DeviceWork,
    last: &Last,
) -> (GapCause, Option<(&'a DeviceWork, Nanos)>) {
    let enqueued = next.call.map_or(gap.start, |call| program.calls[call].span.end);
    let late = enqueued.min(gap.end) - gap.start;
    let ready = Span { start: gap.start.max(enqueued).max(last.copied).min(gap.end), end: gap.end };
    let host = late - last.copying;
    if host >= last.copying && host >= ready.duration() {
        return (GapCause::Host, None);
    }
    if last.copying >= ready.duration() {
        return (GapCause::Copy, None);
    }
    match running_beside(computing, ready, next.stream) {
        Some(other) => (GapCause::OtherStream, Some(other)),
        None => (GapCause::Device, None),
    }
}

/// The computation of another stream that ran longest in a span, and how long.
fn running_beside<'a>(
    computing: &[&'a DeviceWork],
    span: Span,
    stream: usize,
) -> Option<(&'a DeviceWork, Nanos)> {
    let before = computing.partition_point(|work| work.span.start < span.end);
    let candidates = computing[..before].iter().rev().take(MOST_BESIDE);
    let beside = |work: &&'a DeviceWork| {
        let ran = work.span.end.min(span.end) - work.span.start.max(span.start);
        (work.stream != stream && work.span.end > span.start + SHORTEST_GAP).then_some((*work, ran))
    };
    candidates.filter_map(beside).max_by_key(|(_, ran)| *ran)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::program::{Direction, HostMemory};
    use crate::watch::samples::{Sample, US};

    fn gaps(sample: &Sample) -> Vec<(GapCause, u64, u64)> {
        let program = sample.program();
        let work: Vec<_> = program.work.iter().collect();
        let gaps = Waits::of(&program, &work).gaps;
        gaps.iter().map(|gap| (gap.cause, gap.count, gap.total.0 / US)).collect()
    }

    #[test]
    fn a_stream_waits_for_the_host_for_its_copy_or_for_another_stream() {
        let mut sample = Sample::new();
        sample.on_stream(13).call("cudaLaunchKernel", 0, US);
        sample.kernel("a", 2 * US, 100 * US);
        // Enqueued 50 us late.
        sample.call("cudaLaunchKernel", 145 * US, 150 * US);
        sample.kernel("a", 152 * US, 200 * US);
        // Behind a copy of its own.
        sample.call("cudaMemcpyAsync", 152 * US, 154 * US);
        sample.copy(Direction::H2d, HostMemory::Pinned, 1 << 20, (200 * US, 300 * US));
        sample.call("cudaLaunchKernel", 155 * US, 156 * US);
        sample.kernel("a", 302 * US, 400 * US);
        // Behind a kernel of another stream.
        sample.on_stream(14).call("cudaLaunchKernel", 157 * US, 158 * US);
        sample.kernel("b", 400 * US, 700 * US);
        sample.on_stream(13).call("cudaLaunchKernel", 159 * US, 160 * US);
        sample.kernel("a", 701 * US, 800 * US);
        let expected = [(GapCause::OtherStream, 1, 301), (GapCause::Copy, 1, 102), (GapCause::Host, 1, 52)];
        assert_eq!(gaps(&sample), expected);
    }

    #[test]
    fn shares_of_time_count_what_ran_beside_what() {
        let mut sample = Sample::new();
        sample.on_stream(13).kernel("a", 0, 50 * US);
        sample.on_stream(14).kernel("a", 40 * US, 80 * US);
        sample.copy(Direction::H2d, HostMemory::Pinned, 1, (70 * US, 90 * US));
        sample.fill(85 * US, 100 * US);
        let program = sample.program();
        let work: Vec<_> = program.work.iter().collect();
        let sharing = Sharing::of(&work, Nanos(100 * US));
        let expected =
            Sharing { computing: 0.8, computing_twice: 0.1, copying: 0.2, copies_under_compute: Some(0.5) };
        assert_eq!(sharing, expected);
    }

    #[test]
    fn what_ran_longest_is_what_was_waited_for_not_what_started_last() {
        let mut sample = Sample::new();
        sample.on_stream(13).call("cudaLaunchKernel", 0, US);
        sample.kernel("first", 2 * US, 10 * US);
        sample.on_stream(14).call("cudaLaunchKernel", 0, US);
        sample.kernel("large", 10 * US, 110 * US);
        sample.on_stream(15).call("cudaLaunchKernel", 0, US);
        sample.kernel_of(8, "small", (105 * US, 130 * US));
        sample.on_stream(13).call("cudaLaunchKernel", 0, US);
        sample.kernel("next", 110 * US, 150 * US);
        let program = sample.program();
        let work: Vec<_> = program.work.iter().collect();
        let waits = Waits::of(&program, &work);
        assert_eq!(waits.gaps[0].cause, GapCause::OtherStream);
        assert!(waits.behind_small.is_empty(), "{:?}", waits.behind_small);
    }

    #[test]
    fn work_behind_a_small_kernel_of_another_stream_could_have_run_beside_it() {
        let mut sample = Sample::new();
        for (blocks, at) in [(8, 0), (132, 1000)] {
            sample.on_stream(13).call("cudaLaunchKernel", 0, US);
            sample.kernel("first", (at + 2) * US, (at + 10) * US);
            sample.on_stream(14).call("cudaLaunchKernel", 0, US);
            sample.kernel_of(blocks, "other", ((at + 10) * US, (at + 110) * US));
            sample.on_stream(13).call("cudaLaunchKernel", 0, US);
            sample.kernel("next", (at + 110) * US, (at + 150) * US);
        }
        let program = sample.program();
        let work: Vec<_> = program.work.iter().collect();
        let waits = Waits::of(&program, &work).behind_small;
        assert_eq!(waits.len(), 1, "{waits:?}");
        assert_eq!(waits[0].2, Nanos(100 * US));
    }
}
