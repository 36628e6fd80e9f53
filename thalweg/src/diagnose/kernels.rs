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
use crate::backend::{CudaGraph, GraphDetail, Recorder, Span};
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
    /// Throughput while each kernel was recorded over that of a turn right before.
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
    let found = || -> Result<(Window, Option<Window>)> {
        let graphs = match entrant.setup.configuration.cuda_graph {
            CudaGraph::Off => None,
            CudaGraph::Compute | CudaGraph::Copies => {
                Some(Window::record(recorder, GraphDetail::Runs, entrant, stop)?)
            }
        };
        Ok((Window::record(recorder, GraphDetail::Kernels, entrant, stop)?, graphs))
    };
    let reason = match found() {
        Err(error @ Error::Bug(_)) => return Err(error),
        Err(Error::Interrupted) => "it was stopped before".to_owned(),
        Err(error) => error.to_string(),
        Ok((window, _)) if !window.seen.program.work.iter().any(DeviceWork::computes) => {
            let said = window.seen.program.remarks.join("; ");
            if said.is_empty() { "CUPTI recorded no kernel".to_owned() } else { said }
        }
        Ok((window, graphs)) => {
            if let Some(graphs) = &graphs {
                graphs.read_graph_runs(evidence);
            }
            window.read(evidence, recorder.sm_count);
            let mut summary = window.summary(recorder.sm_count);
            summary.graph_pace = graphs.map(|graphs| graphs.pace);
            return Ok(Some((summary, window.seen)));
        }
    };
    WANTED.into_iter().for_each(|quantity| evidence.put_missing(quantity, reason.as_str()));
    Ok(None)
}

/// One recorded turn.
struct Window {
    seen: KernelWindow,
    pace: f64,
    length: Nanos,
    execution_count: usize,
}

impl Window {
    fn record(
        recorder: &Recorder,
        graphs: GraphDetail,
        entrant: &Entrant<'_>,
        stop: &StopSignal,
    ) -> Result<Self> {
        let plain = trial::measure(entrant, stop)?;
        let watched = &recorder.surroundings;
        // Where NVML is missing there are kernels without counters.
        let watcher = (!watched.leaves_counters)
            .then(|| Gauges::open(watched).and_then(|gauges| Watcher::start(gauges, PERIOD)).ok());
        let recorded = recorder.record(graphs, || trial::measure(entrant, stop));
        let gpu = watcher.flatten().map(Watcher::stop);
        let (measurement, bytes) = recorded?;
        let measurement = measurement?;
        let of_plain = plain.throughput_inferences_per_s.value;
        let pace = measurement.throughput_inferences_per_s.value / of_plain;
        let span = measured(&measurement);
        let whole =
            Program::from_bytes(&bytes).map_err(|error| Error::Bug(format!("own activities: {error}")))?;
        let unix_start = measurement.unix_start.unwrap_or_default();
        // Clocks that cannot be compared leave nothing that lies in the measured time.
        let program = whole.within(span, unix_start).unwrap_or_default();
        let execution_count = executions(&measurement.records).len();
        let seen = KernelWindow { program, measurement, gpu };
        Ok(Self { seen, pace, length: span.duration(), execution_count })
    }

    fn source(&self) -> String {
        format!("CUPTI, each kernel recorded, at {:.0} % of the pace", 100.0 * self.pace)
    }

    fn read(&self, evidence: &mut Evidence, sm_count: u32) {
        let program = &self.seen.program;
        let observation = observe(program, &Settings { warm_up: Nanos::ZERO, pinned_bytes_per_s: None });
        let source = self.source();
        let mut put = |quantity, value: Option<f64>, without: &str| match value {
            Some(value) => evidence.put(quantity, value, source.as_str()),
            None => evidence.put_missing(quantity, without),
        };
        let kernels = by_kernel(program);
        let count: u64 = kernels.iter().map(|(_, used)| used.count).sum();
        let time = |kernels: &[(Kernel, Used)]| {
            kernels.iter().map(|(_, used)| used.time).sum::<Nanos>().as_seconds()
        };
        let all = time(&kernels);
        let filled: f64 =
            kernels.iter().map(|(it, used)| used.time.as_seconds() * grid_fill(it.blocks, sm_count)).sum();
        let of_kernels = |value: f64| (count > 0).then_some(value);
        const GRAPHS: &str = "kernels of graphs were not told one by one";
        put(Quantity::KernelsPerExecution, of_kernels(count as f64 / self.execution_count as f64), GRAPHS);
        put(Quantity::KernelsRunning, Some(observation.sharing.computing), "");
        put(Quantity::LargestKernels, of_kernels(time(&kernels[..kernels.len().min(LARGEST)]) / all), GRAPHS);
        put(Quantity::GridFill, of_kernels(filled / all), GRAPHS);
        put(Quantity::KernelGaps, self.gaps(&observation, None), "");
        put(Quantity::LaunchGaps, self.gaps(&observation, Some(GapCause::Host)), "");
        put(Quantity::LaunchTime, mean_launch(program), "no call was recorded that launches");
        let launcher = observation.threads.first();
        const NOBODY: &str = "no thread was recorded that launches";
        put(Quantity::LauncherBusy, launcher.map(|thread| thread.enqueue_share), NOBODY);
        put(Quantity::LauncherWaits, launcher.map(|thread| thread.wait_share), NOBODY);
        put(Quantity::PageableCopies, pageable(program), "nothing was copied between host and device");
    }

    /// Gaps between computations with this cause, or with any, as a part of the time of all streams.
    fn gaps(&self, observation: &Observation, cause: Option<GapCause>) -> Option<f64> {
        let streams = observation.streams.iter().filter(|stream| stream.computation_count > 0).count();
        let gaps = observation.gaps.iter().filter(|gap| cause.is_none_or(|cause| gap.cause == cause));
        let total: f64 = gaps.map(|gap| gap.total.as_seconds()).sum();
        (streams > 0).then(|| total / (streams as f64 * self.length.as_seconds()))
    }

    fn read_graph_runs(&self, evidence: &mut Evidence) {
        let runs = self.seen.program.work.iter().filter(|work| work.what == What::Graph);
        let source = format!("CUPTI, graphs as a whole, at {:.0} % of the pace", 100.0 * self.pace);
        match mean(runs.map(|work| work.span)) {
            Some(time) => evidence.put(Quantity::GraphRunTime, time, source),
            None => evidence.put_missing(Quantity::GraphRunTime, "CUPTI recorded no run of a graph"),
        }
    }

    fn summary(&self, sm_count: u32) -> KernelSummary {
        let program = &self.seen.program;
        let kernels = by_kernel(program);
        let all: f64 = kernels.iter().map(|(_, used)| used.time.as_seconds()).sum();
        let reading = |(kernel, used): &(Kernel, Used)| KernelReading {
            name: program.name(kernel.name).to_owned(),
            per_execution: used.count as f64 / self.execution_count as f64,
            share: used.time.as_seconds() / all,
            mean: Nanos(used.time.0 / used.count),
            blocks: kernel.blocks,
            threads: kernel.threads,
            registers: kernel.registers,
            shared_memory_bytes: kernel.shared_memory_bytes,
            grid_fill: grid_fill(kernel.blocks, sm_count),
        };
        let mut remarks = program.remarks.clone();
        if program.dropped > 0 {
            remarks.push(format!("CUPTI lost {} records for want of memory", program.dropped));
        }
        let largest = kernels.iter().take(LISTED).map(reading).collect();
        KernelSummary { pace: self.pace, graph_pace: None, largest, remarks }
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

    #[test]
    fn a_grid_fills_the_sms_that_have_a_block_and_evenly_only_by_whole_rounds() {
        assert_eq!(grid_fill(33, 132), 0.25);
        assert_eq!(grid_fill(132, 132), 1.0);
        assert_eq!(grid_fill(133, 132), 133.0 / 264.0);
        assert_eq!(grid_fill(264, 132), 1.0);
        assert_eq!(grid_fill(0, 132), 0.0);
    }
}
