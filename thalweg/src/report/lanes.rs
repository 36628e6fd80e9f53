//! What ran when, in lanes: stages, kernels and copies by stream, calls by thread, gauges over time.
//!
//! In: a recorded [`Program`], and for a window of a diagnosis what the pool measured meanwhile. Out: [`Lanes`], plain data
//! on one clock, the last pieces where there are too many. How they are drawn is left to the page.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use crate::backend::Span;
use crate::diagnose::KernelWindow;
use crate::measure::{Execution, executions, took_place};
use crate::report::watching;
use crate::units::Nanos;
use crate::watch::{CallKind, DeviceWork, Direction, Gauge, GpuReadings, HostCall, Program, What};

/// Pieces that are shown, the last ones: so many are drawn smoothly, in a page of about a megabyte.
const MOST_PIECES: usize = 100_000;

/// Lanes that are shown of each kind, those with most in them; more would not be looked at.
const MOST_LANES: usize = 32;

/// Gauges that say how full something is, in the order in which they are shown.
const GAUGES: [Gauge; 5] = [Gauge::SmActivity, Gauge::Dram, Gauge::PcieRx, Gauge::PcieTx, Gauge::SmClock];

/// What ran when, on one clock.
#[derive(Default)]
pub(super) struct Lanes {
    /// From the first start to the last end.
    pub(super) span: Span,
    pub(super) lanes: Vec<Lane>,
    pub(super) gauges: Vec<GaugeLine>,
    /// What pieces are called.
    pub(super) names: Vec<Name>,
    /// Earlier pieces that are not shown, and whole lanes.
    pub(super) pieces_left_out: usize,
    pub(super) lanes_left_out: usize,
}

/// Pieces of one stream or thread, by start.
pub(super) struct Lane {
    pub(super) group: Group,
    pub(super) label: String,
    pub(super) pieces: Vec<Piece>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Stages,
    Streams,
    /// Calls of the thread of this number.
    Thread(u32),
}

#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) span: Span,
    /// Its place among the names.
    pub(super) name: usize,
    /// The thread whose call asked for it, and when that began.
    pub(super) caller: Option<(u32, Nanos)>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) text: String,
    /// Class in the style sheet.
    pub(super) class: &'static str,
}

/// A gauge at each reading, as a part of its limit.
pub(super) struct GaugeLine {
    pub(super) label: &'static str,
    pub(super) points: Vec<(Nanos, f64)>,
    /// The highest reading in words.
    pub(super) highest: String,
}

impl Lanes {
    /// A watched program; `None` where it did nothing.
    pub(super) fn of_program(program: &Program, gpu: Option<&GpuReadings>) -> Option<Self> {
        let mut maker = Maker::default();
        maker.add_streams(program);
        maker.add_threads(program);
        maker.finish(program.unix_start.zip(gpu))
    }

    /// The window of a diagnosis: what the pool saw above what was recorded.
    pub(super) fn of_window(window: &KernelWindow) -> Option<Self> {
        let mut maker = Maker::default();
        maker.add_stages(&executions(&window.measurement.records));
        maker.add_streams(&window.program);
        maker.add_threads(&window.program);
        maker.finish(window.measurement.unix_start.zip(window.gpu.as_ref()))
    }
}

#[derive(Default)]
struct Maker {
    lanes: Vec<Lane>,
    names: Vec<Name>,
    known: HashMap<Name, usize>,
    lanes_left_out: usize,
}

impl Maker {
    fn name(&mut self, text: &str, class: &'static str) -> usize {
        let name = Name { text: text.to_owned(), class };
        *self.known.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            self.names.len() - 1
        })
    }

    /// Adds lanes of one group: of the fullest sets, in their order. Lanes of a set are shown together or not at all.
    fn add(&mut self, mut sets: Vec<Vec<Lane>>) {
        sets.iter_mut().for_each(|set| set.retain(|lane| !lane.pieces.is_empty()));
        let size = |set: &usize| sets[*set].iter().map(|lane| lane.pieces.len()).sum::<usize>();
        let mut by_size: Vec<usize> = (0..sets.len()).collect();
        by_size.sort_by_key(|set| Reverse(size(set)));
        let mut lane_count = 0;
        let shown = by_size.into_iter().take_while(|set| {
            lane_count += sets[*set].len();
            lane_count <= MOST_LANES
        });
        let shown: HashSet<usize> = shown.collect();
        for (place, set) in sets.into_iter().enumerate() {
            if shown.contains(&place) {
                self.lanes.extend(set);
            } else {
                self.lanes_left_out += set.len();
            }
        }
    }

    fn add_stages(&mut self, executions: &[Execution]) {
        let stream_count = executions.iter().map(|it| it.slot.executor + 1).max().unwrap_or(0);
        let mut sets = Vec::new();
        for stream in 0..stream_count {
            let mut lanes = Vec::new();
            let of_stream = || executions.iter().filter(move |it| it.slot.executor == stream);
            for (class, label, stage) in STAGES {
                let name = self.name(label, class);
                let spans = of_stream().map(stage).filter(|span| took_place(*span));
                let pieces = spans.map(|span| Piece { span, name, caller: None }).collect();
                lanes.push(Lane { group: Group::Stages, label: format!("stream {stream} {label}"), pieces });
            }
            sets.push(lanes);
        }
        self.add(sets);
    }

    fn add_streams(&mut self, program: &Program) {
        let lane = |stream: &crate::watch::StreamOfProgram| Lane {
            group: Group::Streams,
            label: format!(
                "CUDA stream {}{}",
                stream.stream,
                if stream.is_default { " (default)" } else { "" }
            ),
            pieces: Vec::new(),
        };
        let mut lanes: Vec<Lane> = program.streams.iter().map(lane).collect();
        for work in &program.work {
            let (text, class) = work_name(program, work);
            let caller =
                work.call.map(|call| &program.calls[call]).map(|call| (call.thread, call.span.start));
            lanes[work.stream].pieces.push(Piece { span: work.span, name: self.name(text, class), caller });
        }
        self.add(lanes.into_iter().map(|lane| vec![lane]).collect());
    }

    fn add_threads(&mut self, program: &Program) {
        let mut lanes = Vec::new();
        for (thread, calls) in program.threads() {
            let piece = |call: &HostCall| Piece {
                span: call.span,
                name: self.name(program.name(call.name), call_class(call)),
                caller: None,
            };
            let pieces = program.calls[calls].iter().map(piece).collect();
            lanes.push(vec![Lane {
                group: Group::Thread(thread),
                label: format!("thread {thread}"),
                pieces,
            }]);
        }
        self.add(lanes);
    }

    fn finish(mut self, gpu: Option<(Nanos, &GpuReadings)>) -> Option<Lanes> {
        let count = self.lanes.iter().map(|lane| lane.pieces.len()).sum::<usize>();
        let pieces_left_out = count.saturating_sub(MOST_PIECES);
        if pieces_left_out > 0 {
            let mut starts: Vec<Nanos> = self.pieces().map(|piece| piece.span.start).collect();
            let (_, from, _) = starts.select_nth_unstable(pieces_left_out);
            let from = *from;
            self.lanes.iter_mut().for_each(|lane| lane.pieces.retain(|piece| piece.span.start >= from));
        }
        self.lanes.iter_mut().for_each(|lane| lane.pieces.sort_by_key(|piece| piece.span.start));
        let start = self.pieces().map(|piece| piece.span.start).min()?;
        let end = self.pieces().map(|piece| piece.span.end).max()?;
        let span = Span { start, end };
        Some(Lanes {
            span,
            gauges: gpu.map_or_else(Vec::new, |(unix_start, gpu)| gauges(gpu, unix_start, span)),
            pieces_left_out: count - self.pieces().count(),
            lanes: self.lanes,
            names: self.names,
            lanes_left_out: self.lanes_left_out,
        })
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.lanes.iter().flat_map(|lane| &lane.pieces)
    }
}

/// Class and name of the stages on a device, and when one ran.
type Stage = (&'static str, &'static str, fn(&Execution) -> Span);
const STAGES: [Stage; 3] = [
    ("h2d", "H2D", |it| it.times.h2d),
    ("compute", "compute", |it| it.times.compute),
    ("d2h", "D2H", |it| it.times.d2h),
];

fn work_name<'a>(program: &'a Program, work: &DeviceWork) -> (&'a str, &'static str) {
    match work.what {
        What::Kernel { name, .. } => (program.name(name), "kernel"),
        What::Graph => ("graph", "compute"),
        What::Copy { direction: Direction::H2d, .. } => ("copy H2D", "h2d"),
        What::Copy { direction: Direction::D2h, .. } => ("copy D2H", "d2h"),
        What::Copy { .. } => ("copy on the device", "copy"),
        What::Fill => ("fill", "copy"),
    }
}

fn call_class(call: &HostCall) -> &'static str {
    match call.kind {
        _ if call.is_waiting => "waiting",
        CallKind::Launch | CallKind::GraphLaunch => "launch",
        CallKind::Copy => "copy-call",
        CallKind::Synchronise | CallKind::SetUp | CallKind::Other => "call",
    }
}

/// A reading is a mean since the one before it, so the first one behind the end still belongs to it.
fn gauges(gpu: &GpuReadings, unix_start: Nanos, span: Span) -> Vec<GaugeLine> {
    let timed = gpu.readings.iter().filter_map(|reading| {
        let at = Nanos(reading.unix.0.checked_sub(unix_start.0)?);
        (at > span.start).then_some((at, reading))
    });
    let mut readings: Vec<_> = timed.collect();
    readings.truncate(readings.partition_point(|(at, _)| *at < span.end) + 1);
    let line = |gauge: Gauge| {
        let known = readings.iter().filter_map(|(at, it)| Some((*at, gauge.value(it)?, gauge.limit(it)?)));
        let highest = known.clone().map(|(_, value, _)| value).reduce(f64::max)?;
        let point =
            |(at, value, limit): (Nanos, f64, f64)| (at.min(span.end), (value / limit).clamp(0.0, 1.0));
        Some(GaugeLine {
            label: watching::gauge(gauge),
            points: known.map(point).collect(),
            highest: watching::gauge_value(gauge, Some(highest)),
        })
    };
    GAUGES.into_iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{SlotId, StageTimes};
    use crate::watch::samples::{Sample, US, naive};

    fn labels(lanes: &Lanes) -> Vec<(&str, usize)> {
        lanes.lanes.iter().map(|lane| (lane.label.as_str(), lane.pieces.len())).collect()
    }

    #[test]
    fn a_program_has_a_lane_for_each_stream_and_each_thread_and_work_knows_its_call() {
        let lanes = Lanes::of_program(&naive(10).program(), None).unwrap();
        assert_eq!(labels(&lanes), [("CUDA stream 7 (default)", 20), ("thread 4242", 30)]);
        let kernel = lanes.lanes[0].pieces[1];
        assert_eq!(lanes.names[kernel.name].text, "gemm");
        // The copy's call is at zero, the kernel's 10 us behind the end of the copy.
        assert_eq!(kernel.caller, Some((4242, Nanos(1_010 * US))));
        assert_eq!((lanes.pieces_left_out, lanes.lanes_left_out), (0, 0));
    }

    #[test]
    fn of_too_many_pieces_the_last_ones_are_shown() {
        let mut sample = Sample::new();
        for item in 0..MOST_PIECES as u64 {
            sample.call("cudaLaunchKernel", item * 10 * US, item * 10 * US + US);
            sample.kernel("a", item * 10 * US + 2 * US, item * 10 * US + 8 * US);
        }
        let lanes = Lanes::of_program(&sample.program(), None).unwrap();
        assert_eq!(lanes.pieces_left_out, MOST_PIECES);
        assert_eq!(labels(&lanes), [("CUDA stream 7 (default)", 50_000), ("thread 4242", 50_000)]);
        assert_eq!(lanes.span.start, Nanos(50_000 * 10 * US));
    }

    #[test]
    fn of_too_many_lanes_the_fullest_are_shown_in_their_order_and_the_first_of_equal_ones() {
        let mut sample = Sample::new();
        for stream in 0..MOST_LANES + 2 {
            for kernel in 0..if stream == MOST_LANES { 2 } else { 1 } {
                let start = (10 * stream + kernel) as u64 * US;
                sample.on_stream(100 + u32::try_from(stream).unwrap()).kernel("a", start, start + US);
            }
        }
        let lanes = Lanes::of_program(&sample.program(), None).unwrap();
        let mut expected: Vec<_> =
            (0..MOST_LANES - 1).map(|stream| (format!("CUDA stream {}", 100 + stream), 1)).collect();
        expected.push((format!("CUDA stream {}", 100 + MOST_LANES), 2));
        let expected: Vec<_> = expected.iter().map(|(label, count)| (label.as_str(), *count)).collect();
        assert_eq!((labels(&lanes), lanes.lanes_left_out), (expected, 2));
    }

    #[test]
    fn stages_of_a_stream_are_shown_together_or_not_at_all() {
        let span = Span { start: Nanos(1), end: Nanos(2) };
        let times = StageTimes { h2d: span, compute: span, d2h: span, ..StageTimes::default() };
        let execution = |executor| Execution { slot: SlotId { executor, index: 0 }, batch_size: 1, times };
        let mut maker = Maker::default();
        maker.add_stages(&(0..16).map(execution).collect::<Vec<_>>());
        assert_eq!((maker.lanes.len(), maker.lanes_left_out), (30, 18));
        assert_eq!(maker.lanes[29].label, "stream 9 D2H");
    }

    #[test]
    fn a_gauge_has_the_readings_that_say_something_of_the_span() {
        let mut gpu = crate::report::samples::watched().gpu.unwrap();
        let reading = gpu.readings.remove(0);
        // The program runs for 18 ms and a half.
        gpu.readings = [-5, 0, 10, 25, 35]
            .map(|ms: i64| {
                let mut reading = reading.clone();
                reading.unix = Nanos(Sample::UNIX_NS.checked_add_signed(ms * 1_000_000).unwrap());
                reading
            })
            .into();
        let lanes = Lanes::of_program(&naive(10).program(), Some(&gpu)).unwrap();
        let activity = &lanes.gauges[0];
        assert_eq!((activity.label, activity.highest.as_str()), ("SM activity", "25.0 %"));
        assert_eq!(activity.points, [(Nanos(10_000 * US), 0.25), (lanes.span.end, 0.25)]);
    }

    #[test]
    fn a_program_that_did_nothing_has_no_lanes() {
        assert!(Lanes::of_program(&Program::default(), None).is_none());
    }
}
