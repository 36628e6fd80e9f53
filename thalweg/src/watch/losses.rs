//! Time in which a device computed nothing, by what it waited for.
//!
//! Every stretch between two computations is cut into pieces. A piece in which a copy ran is the copy's; of a copy from or
//! to pageable memory, what it took longer than a pinned one would. Before work that was enqueued too late the host is
//! looked at: the thread that enqueued it waited for the device first, prepared something, was slow, or did something
//! else; where it waited and then did something else for long, the gap is divided at the end of the wait. The pieces
//! add up to the whole idle time. What is lost behind small kernels of other streams comes on top of it: the device
//! computed meanwhile, only less than it could have.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use thalweg_nvidia::activity::NameId;

use super::program::{Direction, HostMemory};
use super::{CallKind, DeviceWork, HostCall, Program, What};
use crate::backend::Span;
use crate::units::Nanos;

/// A host that leaves the device without work for so long between two launches does something else than launching: an
/// eager framework takes 5 to 50 us from one launch to the next (PyTorch on an H100), C++ 2 to 10 us.
const PAUSE: Nanos = Nanos(200_000);

/// Clocks of host and device agree to about a microsecond in CUPTI's records; a call that ended so shortly before the
/// device fell idle has waited for that.
const SLACK: Nanos = Nanos(2_000);

/// From the end of a launch until its kernel can start lie some microseconds: work that was launched less than this
/// before the device fell idle came too late.
const LAUNCH_LATENCY: Nanos = Nanos(5_000);

/// Copies from this size on show the rate of the bus: below, the 5 to 10 us that any copy takes count.
const LEAST_BYTES_FOR_A_RATE: u64 = 1 << 20;

/// The rate of pinned copies that is assumed where none was seen and nobody names the bus, in bytes per second: what
/// PCIe 4.0 with 16 lanes reaches.
const USUAL_PINNED_RATE: f64 = 25e9;

/// What a device waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Copies from or to pageable memory: what they took longer than pinned ones.
    PageableCopy,
    /// Copies on the default stream, beside which nothing else can run, and work that waited for small kernels on it or
    /// waited on it for those of others.
    DefaultStream,
    /// Other copies that no computation ran beside.
    SerialCopy,
    /// Memory that was set, beside which no computation ran.
    SerialFill,
    /// The host, which had waited for the device before it enqueued more.
    Synchronisation,
    /// The host, which enqueued work more slowly than it was done.
    Submission,
    /// The host, which did something else.
    HostPause,
    /// The host, which allocated memory, loaded kernels or the like.
    SetUp,
    /// Nothing that can be seen: work that was enqueued in time.
    Device,
    /// Streams that never ran beside each other, although their kernels are small.
    SerialStreams,
    /// Who enqueued the work was not recorded.
    Unknown,
}

impl Cause {
    /// Its name in data.
    pub fn name(self) -> &'static str {
        match self {
            Self::PageableCopy => "pageable_copy",
            Self::DefaultStream => "default_stream",
            Self::SerialCopy => "serial_copy",
            Self::SerialFill => "serial_fill",
            Self::Synchronisation => "synchronisation",
            Self::Submission => "submission",
            Self::HostPause => "host_pause",
            Self::SetUp => "set_up",
            Self::Device => "device",
            Self::SerialStreams => "serial_streams",
            Self::Unknown => "unknown",
        }
    }
}

/// How fast pinned copies are, in bytes per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PinnedRate {
    pub(super) h2d: f64,
    pub(super) d2h: f64,
    /// Whether pinned copies of the program itself, in that direction, told it.
    pub(super) h2d_is_measured: bool,
    pub(super) d2h_is_measured: bool,
}

impl PinnedRate {
    /// The best of the program's own pinned copies from and to a device; else `assumed`, else the usual.
    pub(super) fn of(program: &Program, device: u32, assumed: Option<f64>) -> Self {
        let best = |wanted: Direction| {
            let of_device = program.work.iter().filter(|work| work.device == device);
            let rates = of_device.filter_map(|work| match work.what {
                What::Copy { bytes, direction, host_memory: HostMemory::Pinned }
                    if direction == wanted && bytes >= LEAST_BYTES_FOR_A_RATE =>
                {
                    Some(bytes as f64 / work.span.duration().as_seconds())
                }
                _ => None,
            });
            rates.filter(|rate| rate.is_finite()).reduce(f64::max)
        };
        let (h2d, d2h) = (best(Direction::H2d), best(Direction::D2h));
        let usual = assumed.unwrap_or(USUAL_PINNED_RATE);
        Self {
            h2d: h2d.or(d2h).unwrap_or(usual),
            d2h: d2h.or(h2d).unwrap_or(usual),
            h2d_is_measured: h2d.is_some(),
            d2h_is_measured: d2h.is_some(),
        }
    }

    /// The share of a copy's time that it would not take if its memory were pinned.
    fn excess(&self, work: &DeviceWork) -> f64 {
        let What::Copy { bytes, direction, host_memory: HostMemory::Pageable } = work.what else {
            return 0.0;
        };
        let rate = if direction == Direction::D2h { self.d2h } else { self.h2d };
        let pinned = bytes as f64 / rate;
        (1.0 - pinned / work.span.duration().as_seconds()).clamp(0.0, 1.0)
    }
}

/// Who caused a part of a loss: a thread, and the call that tells it.
pub(super) type Culprit = (Option<u32>, Option<NameId>);

/// How often something was waited for, and how long in all.
#[derive(Clone, Debug, Default)]
pub(super) struct Loss {
    pub(super) count: u64,
    pub(super) lost: Nanos,
    by: HashMap<Culprit, (u64, Nanos)>,
}

impl Loss {
    pub(super) fn add(&mut self, lost: Nanos, culprit: Culprit) {
        self.count += 1;
        self.lost += lost;
        let entry = self.by.entry(culprit).or_default();
        entry.0 += 1;
        entry.1 += lost;
    }

    /// Who has caused the largest part.
    pub(super) fn main_culprit(&self) -> Culprit {
        let largest = self.by.iter().max_by_key(|(culprit, (_, lost))| (*lost, std::cmp::Reverse(**culprit)));
        largest.map_or((None, None), |(culprit, _)| *culprit)
    }
}

/// Losses of one device.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    pub(super) by_cause: BTreeMap<Cause, Loss>,
    /// Time without any computation between the first and the last one.
    pub(super) idle: Nanos,
}

impl Losses {
    /// Of the work of one device, which comes by start.
    pub(super) fn of(program: &Program, work: &[&DeviceWork], rate: &PinnedRate) -> Self {
        let mut losses = Self::default();
        let copies = CopyTimes::of(work);
        let mut computing = work.iter().filter(|work| work.computes());
        let Some(first) = computing.next() else { return losses };
        let (mut end, mut next_copy) = (first.span.end, 0);
        for next in computing {
            if next.span.start > end {
                let gap = Span { start: end, end: next.span.start };
                losses.idle += gap.duration();
                next_copy = copies.first_behind(next_copy, gap.start);
                let pieces = copies.pieces(next_copy, gap, next);
                losses.add_pieces(program, &pieces, rate);
            }
            end = end.max(next.span.end);
        }
        losses
    }

    pub(super) fn add(&mut self, cause: Cause, lost: Nanos, culprit: Culprit) {
        self.by_cause.entry(cause).or_default().add(lost, culprit);
    }

    fn add_pieces(&mut self, program: &Program, pieces: &[Piece<'_>], rate: &PinnedRate) {
        for piece in pieces {
            match piece.running {
                Some(copy) => self.add_copy(program, copy, piece.span.duration(), rate),
                None => {
                    for (span, cause, culprit) in waited_for(program, piece.span, piece.next) {
                        self.add(cause, span.duration(), culprit);
                    }
                }
            }
        }
    }

    fn add_copy(&mut self, program: &Program, copy: &DeviceWork, span: Nanos, rate: &PinnedRate) {
        let culprit = culprit(program, copy);
        if copy.what == What::Fill {
            self.add(Cause::SerialFill, span, culprit);
            return;
        }
        let excess = Nanos::from_seconds(span.as_seconds() * rate.excess(copy));
        if excess > Nanos::ZERO {
            self.add(Cause::PageableCopy, excess, culprit);
        }
        let is_default = program.streams[copy.stream].is_default;
        let cause = if is_default { Cause::DefaultStream } else { Cause::SerialCopy };
        self.add(cause, span - excess, culprit);
    }
}

/// The thread and the call that asked for some work.
pub(super) fn culprit(program: &Program, work: &DeviceWork) -> Culprit {
    work.call.map_or((None, None), |call| (Some(program.calls[call].thread), Some(program.calls[call].name)))
}

/// What the device waited for from the end of all before until `next` started, one after the other.
fn waited_for(program: &Program, gap: Span, next: &DeviceWork) -> Vec<(Span, Cause, Culprit)> {
    let Some(index) = next.call else { return vec![(gap, Cause::Unknown, (None, None))] };
    let call = &program.calls[index];
    if call.span.end + LAUNCH_LATENCY <= gap.start {
        return vec![(gap, Cause::Device, culprit(program, next))];
    }
    // Calls of one thread follow each other, so those in the gap are right before this one, the last one first.
    let before = program.calls[..index].iter().rev();
    let in_gap = before
        .take_while(|it| it.thread == call.thread && it.span.end + SLACK > gap.start)
        .collect::<Vec<_>>();
    let Some(last_wait) = in_gap.iter().position(|it| it.is_waiting) else {
        let (cause, culprit) = host_was_late(&in_gap, gap, call);
        return vec![(gap, cause, culprit)];
    };
    // What the host did once it had waited may cost more than that it waited.
    let (waiting, behind) = (in_gap[last_wait], &in_gap[..last_wait]);
    let waited = (Some(call.thread), Some(waiting.name));
    let end = waiting.span.end.max(gap.start).min(gap.end);
    match host_was_late(behind, Span { start: end, end: gap.end }, call) {
        (Cause::Submission, _) => vec![(gap, Cause::Synchronisation, waited)],
        (cause, culprit) => {
            let (wait, rest) = (Span { start: gap.start, end }, Span { start: end, end: gap.end });
            let mut parts = vec![(wait, Cause::Synchronisation, waited), (rest, cause, culprit)];
            parts.retain(|(span, ..)| span.duration() > Nanos::ZERO);
            parts
        }
    }
}

/// Why `call` came late after a time in which its thread waited for nothing and made the calls `before` it.
fn host_was_late(before: &[&HostCall], gap: Span, call: &HostCall) -> (Cause, Culprit) {
    let time_in_gap = |span: Span| span.end.min(gap.end) - span.start.max(gap.start);
    let set_up = before.iter().filter(|it| it.kind == CallKind::SetUp);
    let preparing: Nanos = set_up.clone().map(|it| time_in_gap(it.span)).sum();
    let longest = set_up.max_by_key(|it| time_in_gap(it.span));
    let thread = Some(call.thread);
    match longest {
        Some(longest) if preparing.0 > gap.duration().0 / 2 => (Cause::SetUp, (thread, Some(longest.name))),
        _ if call.span.start - gap.start >= PAUSE => (Cause::HostPause, (thread, Some(call.name))),
        _ => (Cause::Submission, (thread, Some(call.name))),
    }
}

/// A part of an idle stretch.
struct Piece<'a> {
    span: Span,
    /// The copy or the fill that ran in it.
    running: Option<&'a DeviceWork>,
    /// What ran next.
    next: &'a DeviceWork,
}

/// When copies ran, and fills, none beside another: where two did, the time is that of the first.
struct CopyTimes<'a> {
    times: Vec<(Span, &'a DeviceWork)>,
}

impl<'a> CopyTimes<'a> {
    fn of(work: &[&'a DeviceWork]) -> Self {
        let mut times = Vec::new();
        let mut end = Nanos::ZERO;
        for copy in work.iter().filter(|work| !work.computes()) {
            if copy.span.end > end {
                times.push((Span { start: copy.span.start.max(end), end: copy.span.end }, *copy));
                end = copy.span.end;
            }
        }
        Self { times }
    }

    /// The first from `place` on that ends behind a moment.
    fn first_behind(&self, place: usize, moment: Nanos) -> usize {
        place + self.times[place..].iter().take_while(|(span, _)| span.end <= moment).count()
    }

    /// An idle stretch in pieces with and without a copy. `place` is the first copy that ends in or behind it.
    fn pieces(&self, place: usize, gap: Span, next: &'a DeviceWork) -> Vec<Piece<'a>> {
        let (mut pieces, mut now) = (Vec::new(), gap.start);
        for (span, copy) in self.times[place..].iter().take_while(|(span, _)| span.start < gap.end) {
            if span.start > now {
                pieces.push(Piece { span: Span { start: now, end: span.start }, running: None, next: copy });
            }
            let piece = Span { start: span.start.max(now), end: span.end.min(gap.end) };
            pieces.push(Piece { span: piece, running: Some(copy), next });
            now = piece.end;
        }
        if now < gap.end {
            pieces.push(Piece { span: Span { start: now, end: gap.end }, running: None, next });
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::samples::{MS, Sample, US};

    fn losses(sample: &Sample) -> (Losses, Program) {
        let program = sample.program();
        let work: Vec<_> = program.work.iter().collect();
        let losses = Losses::of(&program, &work, &PinnedRate::of(&program, 0, None));
        (losses, program)
    }

    fn lost(losses: &Losses, cause: Cause) -> u64 {
        losses.by_cause.get(&cause).map_or(0, |loss| loss.lost.0)
    }

    #[test]
    fn a_gap_after_a_synchronisation_is_lost_to_it() {
        let mut sample = Sample::new();
        for item in 0..10 {
            let at = item * 300 * US;
            sample.call("cudaLaunchKernel", at, at + 5 * US);
            sample.kernel("gemm", at + 8 * US, at + 200 * US);
            sample.call("cudaStreamSynchronize", at + 6 * US, at + 203 * US);
        }
        let (losses, program) = losses(&sample);
        let loss = &losses.by_cause[&Cause::Synchronisation];
        assert_eq!((loss.count, loss.lost), (9, Nanos(9 * 108 * US)));
        assert_eq!(losses.idle, loss.lost, "all of it");
        let (thread, call) = loss.main_culprit();
        assert_eq!((thread, program.name(call.unwrap())), (Some(4242), "cudaStreamSynchronize"));
    }

    #[test]
    fn what_the_host_did_for_long_behind_a_synchronisation_is_not_lost_to_that() {
        let mut sample = Sample::new();
        sample.call("cudaLaunchKernel", 0, 5 * US);
        sample.kernel("gemm", 8 * US, 200 * US);
        sample.call("cudaStreamSynchronize", 6 * US, 203 * US);
        // Ten milliseconds of something else.
        sample.call("cudaLaunchKernel", 10_203 * US, 10_208 * US);
        sample.kernel("gemm", 10_211 * US, 10_400 * US);
        sample.call("cudaStreamSynchronize", 10_209 * US, 10_403 * US);
        sample.call("cudaMalloc", 10_405 * US, 10_505 * US);
        sample.call("cudaLaunchKernel", 10_506 * US, 10_511 * US);
        sample.kernel("gemm", 10_514 * US, 10_600 * US);
        let (losses, program) = losses(&sample);
        assert_eq!(lost(&losses, Cause::Synchronisation), 2 * 3 * US);
        assert_eq!(lost(&losses, Cause::HostPause), 10_008 * US);
        assert_eq!(lost(&losses, Cause::SetUp), 111 * US);
        let (_, call) = losses.by_cause[&Cause::HostPause].main_culprit();
        assert_eq!(program.name(call.unwrap()), "cudaLaunchKernel", "what came late");
        assert_eq!(losses.by_cause.values().map(|loss| loss.lost).sum::<Nanos>(), losses.idle);
    }

    #[test]
    fn short_gaps_without_one_are_lost_to_submission_and_long_ones_to_what_the_host_did_else() {
        let mut sample = Sample::new();
        for (start, end) in [(0, 5), (20, 25), (40, 45), (10_000, 10_005)] {
            sample.call("cudaLaunchKernel", start * US, end * US);
            sample.kernel("relu", (end + 1) * US, (end + 3) * US);
        }
        let (losses, _) = losses(&sample);
        assert_eq!(lost(&losses, Cause::Submission), 2 * 18 * US);
        assert_eq!(lost(&losses, Cause::HostPause), (10_006 - 48) * US);
    }

    #[test]
    fn a_launch_that_ended_just_before_the_device_fell_idle_came_too_late() {
        let mut sample = Sample::new();
        for item in 0..10 {
            let at = item * 6 * US;
            sample.call("cudaLaunchKernel", at, at + 3 * US);
            sample.kernel("add", at + 5 * US, at + 7 * US);
        }
        let (losses, _) = losses(&sample);
        assert_eq!(lost(&losses, Cause::Submission), 9 * 4 * US);
    }

    #[test]
    fn a_pageable_copy_loses_what_a_pinned_one_of_the_same_program_would_not_take() {
        let mut sample = Sample::new();
        sample.call("cudaMemcpyAsync", 0, 5 * US);
        sample.copy(Direction::H2d, HostMemory::Pinned, 10_000_000, (6 * US, 206 * US));
        sample.call("cudaLaunchKernel", 6 * US, 9 * US);
        sample.kernel("gemm", 207 * US, 500 * US);
        sample.on_stream(9).call("cudaMemcpyAsync", 10 * US, 1500 * US);
        sample.copy(Direction::H2d, HostMemory::Pageable, 10_000_000, (500 * US, 1500 * US));
        sample.call("cudaLaunchKernel", 100 * US, 110 * US);
        sample.kernel("gemm", 1500 * US, 1600 * US);
        let (losses, program) = losses(&sample);
        // The pinned one moved 50 GB/s, at which this one would take 200 us.
        assert_eq!(lost(&losses, Cause::PageableCopy), 800 * US);
        assert_eq!(lost(&losses, Cause::SerialCopy), 200 * US);
        assert_eq!(losses.idle, Nanos(MS));
        let (thread, call) = losses.by_cause[&Cause::PageableCopy].main_culprit();
        assert_eq!((thread, program.name(call.unwrap())), (Some(4242), "cudaMemcpyAsync"));
    }

    #[test]
    fn pinned_copies_on_the_default_stream_are_lost_to_it_and_under_a_kernel_nothing_is() {
        let mut sample = Sample::new();
        let copy = |sample: &mut Sample, at| {
            sample.call("cudaMemcpyAsync", 0, US);
            sample.copy(Direction::H2d, HostMemory::Pinned, 1 << 20, (at, at + 100 * US));
        };
        sample.call("cudaLaunchKernel", 0, US);
        sample.kernel("a", 2 * US, 300 * US);
        copy(sample.on_stream(13), 50 * US);
        copy(sample.on_stream(7), 300 * US);
        sample.call("cudaLaunchKernel", 0, US);
        sample.kernel("b", 400 * US, 500 * US);
        copy(sample.on_stream(13), 500 * US);
        sample.on_stream(7).call("cudaLaunchKernel", 0, US);
        sample.kernel("b", 620 * US, 700 * US);
        let (losses, _) = losses(&sample);
        assert_eq!(lost(&losses, Cause::DefaultStream), 100 * US);
        assert_eq!(lost(&losses, Cause::SerialCopy), 100 * US);
        assert_eq!(lost(&losses, Cause::Device), 20 * US, "what was enqueued in time");
    }

    #[test]
    fn a_rate_is_measured_only_in_the_direction_and_on_the_device_of_a_copy() {
        let mut sample = Sample::new();
        sample.call("cudaMemcpyAsync", 0, US);
        sample.copy(Direction::D2h, HostMemory::Pinned, 10_000_000, (2 * US, 202 * US));
        let program = sample.program();
        let rate = PinnedRate::of(&program, 0, Some(20e9));
        assert_eq!((rate.h2d_is_measured, rate.d2h_is_measured), (false, true));
        assert_eq!((rate.h2d, rate.d2h), (50e9, 50e9), "the nearest that is known");
        let rate = PinnedRate::of(&program, 1, Some(20e9));
        assert_eq!((rate.h2d_is_measured, rate.d2h_is_measured), (false, false));
        assert_eq!((rate.h2d, rate.d2h), (20e9, 20e9));
    }

    #[test]
    fn memory_that_is_set_is_no_copy() {
        let mut sample = Sample::new();
        sample.call("cudaLaunchKernel", 0, US);
        sample.kernel("a", 2 * US, 10 * US);
        sample.call("cudaMemsetAsync", 2 * US, 3 * US);
        sample.fill(10 * US, 40 * US);
        sample.call("cudaLaunchKernel", 4 * US, 5 * US);
        sample.kernel("a", 40 * US, 50 * US);
        let (losses, _) = losses(&sample);
        assert_eq!(lost(&losses, Cause::SerialFill), 30 * US);
        assert_eq!(losses.by_cause.len(), 1, "{:?}", losses.by_cause);
    }

    #[test]
    fn allocations_between_launches_are_named() {
        let mut sample = Sample::new();
        sample.call("cudaLaunchKernel", 0, 5 * US);
        sample.kernel("a", 6 * US, 10 * US);
        sample.call("cudaMalloc", 12 * US, 1000 * US);
        sample.call("cudaLaunchKernel", 1005 * US, 1010 * US);
        sample.kernel("a", 1011 * US, 1015 * US);
        let (losses, program) = losses(&sample);
        let (_, call) = losses.by_cause[&Cause::SetUp].main_culprit();
        assert_eq!(program.name(call.unwrap()), "cudaMalloc");
        assert_eq!(lost(&losses, Cause::SetUp), 1001 * US);
    }

    #[test]
    fn what_nobody_was_seen_to_enqueue_is_unknown() {
        let mut sample = Sample::new();
        sample.kernel("a", 0, US);
        sample.kernel("a", 3 * US, 4 * US);
        assert_eq!(lost(&losses(&sample).0, Cause::Unknown), 2 * US);
    }
}
