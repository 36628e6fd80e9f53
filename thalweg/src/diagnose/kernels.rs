//! Kernels, copies and calls of a setup, recorded one by one in a short window of its own.
//!
//! In: an engine that can record, and the setup. Out: numbers for the [`Evidence`], a [`KernelSummary`] for the result,
//! and a [`KernelWindow`] for whoever draws it. Recording takes time, so it comes when all that is compared has been
//! measured, and what it costs is one of the numbers.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::trial::{self, Entrant};
use super::{Evidence, Quantity};
use crate::backend::{CounterChoice, CudaGraph, GraphDetail, Recorder, Span};
use crate::error::{Error, Result};
use crate::measure::{Measurement, StopSignal, executions};
use crate::units::Nanos;
use crate::watch::{
    CallKind, DeviceWork, Direction, GapCause, Gauges, GpuReadings, HostMemory, Observation, Program,
    Settings, Watcher, What, observe,
};

/// How often the device's counters are read meanwhile: NVIDIA's change every 100 ms.
const PERIOD: Duration = Duration::from_millis(100);

/// Kernels that are listed.
const LISTED: usize = 12;

/// Kernels that [`Quantity::LargestKernels`] is the share of: a network with one slow layer shows in the first, one with
/// a slow kind of layer in a few.
const LARGEST: usize = 3;

/// What the window is asked for, in the order in which it is shown.
const WANTED: [Quantity; 10] = [
    Quantity::KernelsPerExecution,
    Quantity::KernelsRunning,
    Quantity::LargestKernels,
    Quantity::GridFill,
    Quantity::KernelGaps,
    Quantity::LaunchGaps,
    Quantity::LaunchTime,
    Quantity::LauncherBusy,
    Quantity::LauncherWaits,
    Quantity::PageableCopies,
];

/// Everything that was recorded, on the clock of the measurement that ran meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelWindow {
    /// Kernels, copies and calls.
    pub program: Program,
    /// What the pool measured of itself, with records.
    pub measurement: Measurement,
    /// The device's counters; `None` where NVML does not tell them.
    pub gpu: Option<GpuReadings>,
}

/// What the result keeps of the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelSummary {
    /// Throughput while each kernel was recorded over that of a turn before: one of each, so it is no more than a hint.
    pub pace: f64,
    /// The same while graphs were recorded as a whole; `None` where none ran.
    pub graph_pace: Option<f64>,
    /// Kernels by time, the one that takes most first. The same kernel with another grid is another one.
    pub largest: Vec<KernelReading>,
    /// What a reader should know before believing the numbers.
    pub remarks: Vec<String>,
}

/// What one kernel takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelReading {
    /// Its name, mangled as the compiler left it.
    pub name: String,
    /// How often it ran for each execution.
    pub per_execution: f64,
    /// Its part of the time of all kernels.
    pub share: f64,
    /// How long it took on average.
    #[serde(rename = "mean_ns")]
    pub mean: Nanos,
    /// Its blocks.
    pub blocks: u64,
    /// Threads of each block.
    pub threads: u64,
    /// Registers of each thread.
    pub registers: u16,
    /// Shared memory of each block, in bytes.
    pub shared_memory_bytes: u32,
    /// How evenly its blocks fill the SMs, as [`Quantity::GridFill`].
    pub grid_fill: f64,
}

/// Records the setup, once with graphs as a whole where it has any and once kernel by kernel, and adds what that shows to
/// the evidence, or why it shows nothing.
///
/// # Errors
/// [`Error::Bug`].
pub(super) fn record(
    evidence: &mut Evidence,
    recorder: &Recorder,
    entrant: &Entrant<'_>,
    stop: &StopSignal,
) -> Result<Option<(KernelSummary, KernelWindow)>> {
    let has_graphs = entrant.setup.configuration.cuda_graph != CudaGraph::Off;
    let mut graph_pace = None;
    let recorded = RecordingTurns::begin(recorder, entrant, stop).and_then(|turns| {
        if has_graphs {
            let (graphs, ..) = turns.record(GraphDetail::Runs)?;
            graphs.read_graph_runs(evidence);
            graph_pace = Some(graphs.pace);
        }
        turns.record(GraphDetail::Kernels)
    });
    let reason = match recorded {
        Err(error @ Error::Bug(_)) => return Err(error),
        Err(Error::Interrupted) => "it was stopped before".to_owned(),
        Err(error) => error.to_string(),
        Ok((Window { lacks: Some(reason), .. }, ..)) => reason,
        Ok((window, measurement, gpu)) => {
            window.read(evidence, recorder.sm_count);
            let summary = window.summary(graph_pace, recorder.sm_count);
            return Ok(Some((summary, KernelWindow { program: window.program, measurement, gpu })));
        }
    };
    let of_graphs = has_graphs.then_some(Quantity::GraphRunTime);
    note_missing(evidence, WANTED.into_iter().chain(of_graphs), &reason);
    Ok(None)
}

/// Says why there is no number; what an earlier turn told stays.
fn note_missing(evidence: &mut Evidence, wanted: impl Iterator<Item = Quantity>, reason: &str) {
    for quantity in wanted {
        if evidence.reading(quantity).is_none() {
            evidence.put_missing(quantity, reason);
        }
    }
}

/// The setup in turns, of which the first was not recorded: the others are held against it.
struct RecordingTurns<'a> {
    recorder: &'a Recorder,
    entrant: &'a Entrant<'a>,
    stop: &'a StopSignal,
    /// Throughput of the first.
    plain: f64,
}

impl<'a> RecordingTurns<'a> {
    fn begin(recorder: &'a Recorder, entrant: &'a Entrant<'a>, stop: &'a StopSignal) -> Result<Self> {
        recorder.check()?;
        let (plain, _) = watched(recorder, || trial::measure(entrant, stop));
        Ok(Self { recorder, entrant, stop, plain: plain?.throughput_inferences_per_s.value })
    }

    fn record(&self, graphs: GraphDetail) -> Result<(Window, Measurement, Option<GpuReadings>)> {
        let work = || trial::measure(self.entrant, self.stop);
        let (recorded, gpu) = watched(self.recorder, || self.recorder.record(graphs, work));
        let (measurement, bytes) = recorded?;
        let measurement = measurement?;
        let whole =
            Program::from_bytes(&bytes).map_err(|error| Error::Bug(format!("own activities: {error}")))?;
        let starts: Vec<_> =
            executions(&measurement.records).iter().map(|execution| execution.times.compute.start).collect();
        let clock = (measured(&measurement), measurement.unix_start.unwrap_or_default());
        let pace = measurement.throughput_inferences_per_s.value / self.plain;
        Ok((Window::of(&whole, clock, &starts, pace), measurement, gpu))
    }
}

/// Does some work while the device's counters are read: in every turn, so that this makes no difference between them. Where
/// NVML is missing there are none.
fn watched<T>(recorder: &Recorder, work: impl FnOnce() -> T) -> (T, Option<GpuReadings>) {
    let surroundings = &recorder.surroundings;
    let watcher = (surroundings.counters != CounterChoice::Off)
        .then(|| Gauges::open(surroundings).and_then(|gauges| Watcher::start(gauges, PERIOD)).ok());
    let done = work();
    (done, watcher.flatten().map(Watcher::stop))
}

/// One recorded turn.
struct Window {
    program: Program,
    /// Kernels by the time that they took in all, the most first.
    kernels: Vec<(Kernel, Used)>,
    observation: Observation,
    /// Why there is nothing to read in it.
    lacks: Option<String>,
    pace: f64,
    length: Nanos,
    execution_count: usize,
}

impl Window {
    /// What was recorded in the measured time, which is given on a clock that showed zero at the second number, with the
    /// moments at which executions began.
    fn of(whole: &Program, (span, unix_start): (Span, Nanos), starts: &[Nanos], pace: f64) -> Self {
        let within = whole.within(span, unix_start);
        let lacks = why_empty(whole, within.as_ref());
        let program = within.unwrap_or_default();
        // What had no room any more says nothing of the rest of the time.
        let last = program.work.iter().map(|work| work.span.end).max().unwrap_or(span.start);
        let end = if program.is_whole { span.end } else { last.min(span.end) };
        Self {
            observation: observe(&program, &Settings { warm_up: Nanos::ZERO, pinned_bytes_per_s: None }),
            kernels: by_kernel(&program),
            lacks,
            pace,
            length: end - span.start,
            execution_count: starts.iter().filter(|start| **start < end).count(),
            program,
        }
    }

    fn source(&self) -> String {
        format!("CUPTI, each kernel recorded, at {:.0} % of the pace", 100.0 * self.pace)
    }

    fn read(&self, evidence: &mut Evidence, sm_count: u32) {
        // Where graphs ran they were launched as a whole in a turn that recording held up less.
        if evidence.value(Quantity::LaunchTime).is_none() {
            self.read_launches(evidence, &self.source());
        }
        let source = self.source();
        let mut put = |quantity, value, without| evidence.put_or_missing(quantity, value, &source, without);
        let kernels = &self.kernels;
        let count: u64 = kernels.iter().map(|(_, used)| used.count).sum();
        let time = |kernels: &[(Kernel, Used)]| {
            kernels.iter().map(|(_, used)| used.time).sum::<Nanos>().as_seconds()
        };
        let all = time(kernels);
        let filled: f64 =
            kernels.iter().map(|(it, used)| used.time.as_seconds() * grid_fill(it.blocks, sm_count)).sum();
        let of_kernels = |value: f64| (count > 0).then_some(value);
        const GRAPHS: &str = "kernels of graphs were not told one by one";
        put(Quantity::KernelsPerExecution, of_kernels(count as f64 / self.execution_count as f64), GRAPHS);
        put(Quantity::KernelsRunning, Some(self.observation.sharing.computing), "");
        put(Quantity::LargestKernels, of_kernels(time(&kernels[..kernels.len().min(LARGEST)]) / all), GRAPHS);
        put(Quantity::GridFill, of_kernels(filled / all), GRAPHS);
        put(Quantity::KernelGaps, self.gaps(None), "");
        put(Quantity::LaunchGaps, self.gaps(Some(GapCause::Host)), "");
        put(Quantity::PageableCopies, pageable(&self.program), "nothing was copied between host and device");
    }

    /// What the threads that launch do.
    fn read_launches(&self, evidence: &mut Evidence, source: &str) {
        let mut put = |quantity, value, without| evidence.put_or_missing(quantity, value, source, without);
        const NOBODY: &str = "no thread was recorded that launches";
        let launcher = self.observation.threads.first();
        put(Quantity::LaunchTime, mean_launch(&self.program), "no call was recorded that launches");
        put(Quantity::LauncherBusy, launcher.map(|thread| thread.enqueue_share), NOBODY);
        put(Quantity::LauncherWaits, launcher.map(|thread| thread.wait_share), NOBODY);
    }

    /// Gaps between computations with this cause, or with any, as a part of the time of all streams.
    fn gaps(&self, cause: Option<GapCause>) -> Option<f64> {
        let observation = &self.observation;
        let streams = observation.streams.iter().filter(|stream| stream.computation_count > 0).count();
        let gaps = observation.gaps.iter().filter(|gap| cause.is_none_or(|cause| gap.cause == cause));
        let total: f64 = gaps.map(|gap| gap.total.as_seconds()).sum();
        (streams > 0).then(|| total / (streams as f64 * self.length.as_seconds()))
    }

    fn read_graph_runs(&self, evidence: &mut Evidence) {
        if let Some(reason) = &self.lacks {
            return evidence.put_missing(Quantity::GraphRunTime, reason.as_str());
        }
        let source = format!("CUPTI, graphs as a whole, at {:.0} % of the pace", 100.0 * self.pace);
        self.read_launches(evidence, &source);
        let runs = self.program.work.iter().filter(|work| work.what == What::Graph);
        match mean(runs.map(|work| work.span)) {
            Some(time) => evidence.put(Quantity::GraphRunTime, time, source),
            None => evidence.put_missing(Quantity::GraphRunTime, "CUPTI recorded no run of a graph"),
        }
    }

    fn summary(&self, graph_pace: Option<f64>, sm_count: u32) -> KernelSummary {
        let all: f64 = self.kernels.iter().map(|(_, used)| used.time.as_seconds()).sum();
        let reading = |(kernel, used): &(Kernel, Used)| KernelReading {
            name: self.program.name(kernel.name).to_owned(),
            per_execution: used.count as f64 / self.execution_count as f64,
            share: used.time.as_seconds() / all,
            mean: Nanos(used.time.0 / used.count),
            blocks: kernel.blocks,
            threads: kernel.threads,
            registers: kernel.registers,
            shared_memory_bytes: kernel.shared_memory_bytes,
            grid_fill: grid_fill(kernel.blocks, sm_count),
        };
        let largest = self.kernels.iter().take(LISTED).map(reading).collect();
        KernelSummary { pace: self.pace, graph_pace, largest, remarks: self.observation.remarks.clone() }
    }
}

/// Why there is no kernel in the part of a recording that was measured; `None` where there is one.
fn why_empty(whole: &Program, within: Option<&Program>) -> Option<String> {
    let ran = |program: &Program| program.work.iter().any(DeviceWork::computes);
    let Some(within) = within else {
        return Some("CUPTI did not tell the time, so nothing can be put beside the measurement".to_owned());
    };
    if ran(within) {
        None
    } else if ran(whole) {
        Some(
            "of the kernels that CUPTI recorded none lies in the measured time: the system's clock was set meanwhile, or \
             the recording ended early"
                .to_owned(),
        )
    } else if whole.remarks.is_empty() {
        Some("CUPTI recorded no kernel".to_owned())
    } else {
        Some(whole.remarks.join("; "))
    }
}

/// The windows that count.
fn measured(measurement: &Measurement) -> Span {
    let used = &measurement.windows[measurement.windows.len() - measurement.used_windows..];
    let start = used.first().map_or(Nanos::ZERO, |window| window.start);
    Span { start, end: used.last().map_or(start, |window| window.end) }
}

/// A kernel with the shape that it was launched in.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kernel {
    name: thalweg_nvidia::activity::NameId,
    blocks: u64,
    threads: u64,
    registers: u16,
    shared_memory_bytes: u32,
}

/// How often it ran, and for how long in all.
#[derive(Clone, Copy, Default)]
struct Used {
    count: u64,
    time: Nanos,
}

/// Kernels by the time that they took in all, the most first.
fn by_kernel(program: &Program) -> Vec<(Kernel, Used)> {
    let mut kernels: HashMap<Kernel, Used> = HashMap::new();
    for work in &program.work {
        if let What::Kernel { name, blocks, threads, registers, shared_memory_bytes, .. } = work.what {
            let kernel = Kernel { name, blocks, threads, registers, shared_memory_bytes };
            let used = kernels.entry(kernel).or_default();
            used.count += 1;
            used.time += work.span.duration();
        }
    }
    let mut kernels: Vec<_> = kernels.into_iter().collect();
    kernels.sort_by_key(|(kernel, used)| (std::cmp::Reverse(used.time), kernel.name, kernel.blocks));
    kernels
}

/// Blocks of a kernel over those that would run in the same time were they dealt out evenly: the SM with the most of them
/// ends last. Below one block for each SM it is the share of SMs that have work at all.
fn grid_fill(blocks: u64, sm_count: u32) -> f64 {
    let sms = u64::from(sm_count.max(1));
    blocks as f64 / (blocks.div_ceil(sms).max(1) * sms) as f64
}

fn mean_launch(program: &Program) -> Option<f64> {
    let launches =
        program.calls.iter().filter(|call| matches!(call.kind, CallKind::Launch | CallKind::GraphLaunch));
    mean(launches.map(|call| call.span))
}

/// Mean length of spans, in seconds.
fn mean(spans: impl Iterator<Item = Span> + Clone) -> Option<f64> {
    let count = spans.clone().count();
    let total: Nanos = spans.map(Span::duration).sum();
    (count > 0).then(|| total.as_seconds() / count as f64)
}

/// The part of all bytes between host and device that went from or to pageable memory.
fn pageable(program: &Program) -> Option<f64> {
    let copies = program.work.iter().filter_map(|work| match work.what {
        What::Copy { bytes, direction: Direction::H2d | Direction::D2h, host_memory } => {
            Some((bytes as f64, host_memory))
        }
        _ => None,
    });
    let all: f64 = copies.clone().map(|(bytes, _)| bytes).sum();
    let of_pageable = copies.filter(|(_, memory)| *memory == HostMemory::Pageable).map(|(bytes, _)| bytes);
    (all > 0.0).then(|| of_pageable.sum::<f64>() / all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::samples::{MS, Sample, naive};

    #[test]
    fn what_holds_no_kernel_of_the_measured_time_says_why() {
        let whole = naive(10).program();
        let within = |whole: &Program, start: u64| {
            let span = Span { start: Nanos(start), end: Nanos(start + 10_000_000) };
            why_empty(whole, whole.within(span, Nanos(Sample::UNIX_NS)).as_ref())
        };
        assert_eq!(within(&whole, 0), None);
        assert!(within(&whole, 3_600_000_000_000).unwrap().contains("clock was set"));
        let mut timeless = whole.clone();
        timeless.unix_start = None;
        assert!(within(&timeless, 0).unwrap().contains("did not tell the time"));
        let mut idle = whole;
        idle.work.clear();
        assert_eq!(within(&idle, 0).unwrap(), "CUPTI recorded no kernel");
    }

    /// A turn of ten executions, each two milliseconds long, at half of the pace.
    fn window(change: impl FnOnce(&mut Program)) -> Window {
        let mut program = naive(10).program();
        change(&mut program);
        let starts: Vec<_> = (0..10).map(|execution| Nanos(execution * 2 * MS)).collect();
        let span = Span { start: Nanos::ZERO, end: Nanos(20 * MS) };
        Window::of(&program, (span, Nanos(Sample::UNIX_NS)), &starts, 0.5)
    }

    #[test]
    fn a_recording_that_is_not_whole_says_so_and_counts_only_the_time_that_it_has() {
        let whole = window(|program| program.is_whole = true);
        assert_eq!((&whole.lacks, whole.length, whole.execution_count), (&None, Nanos(20 * MS), 10));
        assert_eq!(whole.summary(None, 132).remarks, [""; 0]);
        let cut = window(|program| {
            program.is_whole = false;
            program.work.truncate(program.work.len() / 2);
        });
        let remarks = cut.summary(None, 132).remarks;
        assert!(remarks.iter().any(|remark| remark.contains("has no end")), "{remarks:?}");
        assert!(cut.length < Nanos(10 * MS) && cut.execution_count == 5, "{}", cut.length);
    }

    #[test]
    fn what_graphs_told_as_a_whole_stays_where_the_turn_kernel_by_kernel_fails() {
        let mut evidence = Evidence::default();
        window(|_| {}).read_graph_runs(&mut evidence);
        let launch = evidence.value(Quantity::LaunchTime);
        note_missing(&mut evidence, WANTED.into_iter(), "it was stopped before");
        assert!(launch.is_some() && evidence.value(Quantity::LaunchTime) == launch);
        let reading = |quantity| evidence.reading(quantity).unwrap();
        assert_eq!(reading(Quantity::GridFill).source, "it was stopped before");
        assert_eq!(reading(Quantity::GraphRunTime).source, "CUPTI recorded no run of a graph");
    }

    #[test]
    fn a_grid_fills_the_sms_that_have_a_block_and_evenly_only_by_whole_rounds() {
        assert_eq!(grid_fill(33, 132), 0.25);
        assert_eq!(grid_fill(132, 132), 1.0);
        assert_eq!(grid_fill(133, 132), 133.0 / 264.0);
        assert_eq!(grid_fill(264, 132), 1.0);
        assert_eq!(grid_fill(0, 132), 0.0);
    }
}
