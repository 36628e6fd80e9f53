//! What is to be said of a watched program: findings, the largest loss first, and the numbers behind them.

use serde::{Deserialize, Serialize};

use super::losses::{Cause, Culprit, Losses, PinnedRate, culprit};
use super::overlap::{Gap, Sharing, Waits, share};
use super::program::HostMemory;
use super::{CallKind, DeviceWork, GpuReadings, Program, What};
use crate::units::{Bytes, Nanos};

/// A program that loses less than this share of its time to the largest of its causes is healthy: two runs of one
/// program differ by as much.
const HEALTHY: f64 = 0.05;

/// What loses less than this share is not worth a line.
const WORTH_A_LINE: f64 = 0.002;

/// Of the time in which a program used its GPU at most this part is left out as its start.
const MOST_WARM_UP: u64 = 3;

/// How a program is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Time from the first work of a device on that is left out: loading kernels and filling caches is no habit.
    pub warm_up: Nanos,
    /// Rate of pinned copies, in bytes per second, where the program has none of its own that tell it.
    pub pinned_bytes_per_s: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { warm_up: Nanos(500_000_000), pinned_bytes_per_s: None }
    }
}

/// What was seen of a command: its processes, and the GPU meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// The command and its words.
    pub command: Vec<String>,
    /// Its exit code; `None` where a signal ended it.
    pub exit_code: Option<i32>,
    /// How long it ran.
    #[serde(rename = "wall_ns")]
    pub wall: Nanos,
    /// Its processes that started CUDA, the one that used its GPU longest first.
    pub processes: Vec<Observation>,
    /// What NVML said meanwhile.
    pub gpu: Option<GpuReadings>,
    /// Why NVML said nothing, or why what it said may be of another GPU.
    pub gpu_problem: Option<String>,
}

/// What was seen of one process on the device that it used most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The operating system's number of the process.
    pub process: u32,
    /// The file that it ran.
    pub program: String,
    /// CUDA's number of the device.
    pub device: u32,
    /// Time that was looked at, from the first work behind the warm-up to the last.
    #[serde(rename = "window_ns")]
    pub window: Nanos,
    /// What costs most: a cause, or `healthy` where none costs a twentieth, or `nothing_ran`.
    pub verdict: String,
    /// What costs time, the most expensive first.
    pub findings: Vec<Finding>,
    /// What ran beside what.
    pub sharing: Sharing,
    /// What streams waited for between two computations, the longest first.
    pub gaps: Vec<Gap>,
    /// Threads that called CUDA, the one with most work first.
    pub threads: Vec<ThreadReading>,
    /// Streams that had work.
    pub streams: Vec<StreamReading>,
    /// Kernels that were recorded one by one.
    pub kernel_count: u64,
    /// Runs of CUDA graphs: as a whole, or launches of graphs whose kernels were recorded.
    pub graph_run_count: u64,
    /// Kernels of each run of a graph; `None` where there were no graphs, or they were recorded as a whole.
    pub kernels_per_graph_run: Option<f64>,
    /// Rate of pinned copies to the device that pageable ones are held against, in bytes per second.
    pub pinned_bytes_per_s: f64,
    /// Whether the program's own copies to the device told that rate.
    pub pinned_rate_is_measured: bool,
    /// The same for copies from the device.
    pub pinned_d2h_bytes_per_s: f64,
    /// Whether the program's own copies from the device told that rate.
    pub pinned_d2h_rate_is_measured: bool,
    /// What a reader should know before believing the rest.
    pub remarks: Vec<String>,
}

/// Something that costs time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What the device waited for.
    pub cause: Cause,
    /// The thread that caused the largest part, where that is known.
    pub thread: Option<u32>,
    /// The call that tells it.
    pub call: Option<String>,
    /// How often: copies, or times that the device waited.
    pub count: u64,
    /// Bytes that were copied, for copies from or to pageable memory.
    pub bytes: Option<Bytes>,
    /// Time in which the device computed nothing because of it. For serial streams, and in part for the default stream,
    /// time in which only a small kernel ran and more could have: that is computing time too, so with it the losses and
    /// the computing are more than the whole.
    #[serde(rename = "lost_ns")]
    pub lost: Nanos,
    /// That time over the window.
    pub share: f64,
}

/// What one thread of the host did with CUDA.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThreadReading {
    /// The operating system's number of the thread.
    pub thread: u32,
    /// Calls that gave the device work.
    pub enqueue_count: u64,
    /// Share of the window that it spent in them.
    pub enqueue_share: f64,
    /// Calls that waited for the device.
    pub wait_count: u64,
    /// Share of the window that it spent in them.
    pub wait_share: f64,
}

/// What one stream did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamReading {
    /// CUPTI's number of its context.
    pub context: u32,
    /// CUPTI's number for it.
    pub stream: u32,
    /// Whether it is the default stream.
    pub is_default: bool,
    /// Kernels and runs of graphs.
    pub computation_count: u64,
    /// Share of the window in which it computed.
    pub computing: f64,
    /// Copies.
    pub copy_count: u64,
    /// Share of the window in which it copied.
    pub copying: f64,
}

/// Looks at what one process did.
pub fn observe(program: &Program, settings: &Settings) -> Observation {
    let device = main_device(program);
    let all: Vec<_> = program.work.iter().filter(|work| work.device == device).collect();
    let start = window_start(&all, settings.warm_up);
    let work: Vec<_> = all.into_iter().filter(|work| work.span.start >= start).collect();
    let start = work.first().map_or(start, |work| work.span.start);
    let end = work.iter().map(|work| work.span.end).max().unwrap_or(start);
    let window = end - start;
    let rate = PinnedRate::of(program, device, settings.pinned_bytes_per_s);
    let waits = Waits::of(program, &work);
    let mut losses = Losses::of(program, &work, &rate);
    add_waits(&mut losses, program, &waits);
    let findings = findings(program, &work, &losses, window);
    let kernel_count = count(&work, |what| matches!(what, What::Kernel { .. }));
    let graph_kernels = count(&work, |what| matches!(what, What::Kernel { is_in_graph: true, .. }));
    let graph_run_count = if graph_kernels > 0 {
        calls_since(program, start).filter(|call| call.kind == CallKind::GraphLaunch).count() as u64
    } else {
        count(&work, |what| matches!(what, What::Graph))
    };
    Observation {
        process: program.process,
        program: program.path.clone(),
        device,
        window,
        verdict: verdict(&findings, &work),
        findings,
        sharing: Sharing::of(&work, window),
        gaps: waits.gaps,
        threads: threads(program, start, window),
        streams: streams(program, &work, window),
        kernel_count,
        graph_run_count,
        kernels_per_graph_run: (graph_kernels > 0 && graph_run_count > 0)
            .then(|| graph_kernels as f64 / graph_run_count as f64),
        pinned_bytes_per_s: rate.h2d,
        pinned_rate_is_measured: rate.h2d_is_measured,
        pinned_d2h_bytes_per_s: rate.d2h,
        pinned_d2h_rate_is_measured: rate.d2h_is_measured,
        remarks: remarks(program, device),
    }
}

/// The device that computed longest.
fn main_device(program: &Program) -> u32 {
    let mut times = std::collections::BTreeMap::<u32, Nanos>::new();
    for work in program.work.iter().filter(|work| work.computes()) {
        *times.entry(work.device).or_default() += work.span.duration();
    }
    times.into_iter().max_by_key(|(device, time)| (*time, std::cmp::Reverse(*device))).map_or(0, |it| it.0)
}

fn window_start(work: &[&DeviceWork], warm_up: Nanos) -> Nanos {
    let first = work.first().map_or(Nanos::ZERO, |work| work.span.start);
    let last = work.iter().map(|work| work.span.end).max().unwrap_or(first);
    first + warm_up.min(Nanos((last - first).0 / MOST_WARM_UP))
}

fn count(work: &[&DeviceWork], holds: impl Fn(&What) -> bool) -> u64 {
    work.iter().filter(|work| holds(&work.what)).count() as u64
}

fn calls_since(program: &Program, start: Nanos) -> impl Iterator<Item = &super::HostCall> {
    program.calls.iter().filter(move |call| call.span.start >= start)
}

/// Work that waited behind small kernels belongs to the default stream where one of the two is in it.
fn add_waits(losses: &mut Losses, program: &Program, waits: &Waits<'_>) {
    for (waiting, running, span) in &waits.behind_small {
        let is_default = [waiting, running].iter().any(|work| program.streams[work.stream].is_default);
        let cause = if is_default { Cause::DefaultStream } else { Cause::SerialStreams };
        losses.add(cause, *span, culprit(program, waiting));
    }
}

fn findings(program: &Program, work: &[&DeviceWork], losses: &Losses, window: Nanos) -> Vec<Finding> {
    let (pageable_count, pageable_bytes) = pageable(work);
    let finding = |(cause, loss): (&Cause, &super::losses::Loss)| {
        let (thread, call): Culprit = loss.main_culprit();
        let is_pageable = *cause == Cause::PageableCopy;
        Finding {
            cause: *cause,
            thread,
            call: call.map(|name| program.name(name).to_owned()),
            count: if is_pageable { pageable_count } else { loss.count },
            bytes: is_pageable.then_some(pageable_bytes),
            lost: loss.lost,
            share: share(loss.lost, window),
        }
    };
    let mut findings: Vec<_> = losses.by_cause.iter().map(finding).collect();
    findings.retain(|finding| finding.share >= WORTH_A_LINE);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.lost));
    findings
}

/// How many copies went from or to pageable memory, and their bytes.
fn pageable(work: &[&DeviceWork]) -> (u64, Bytes) {
    let sizes = work.iter().filter_map(|work| match work.what {
        What::Copy { bytes, host_memory: HostMemory::Pageable, .. } => Some(Bytes(bytes)),
        _ => None,
    });
    (sizes.clone().count() as u64, sizes.sum())
}

fn verdict(findings: &[Finding], work: &[&DeviceWork]) -> String {
    match findings.first() {
        _ if !work.iter().any(|work| work.computes()) => "nothing_ran".to_owned(),
        Some(first) if first.share >= HEALTHY => first.cause.name().to_owned(),
        _ => "healthy".to_owned(),
    }
}

fn threads(program: &Program, start: Nanos, window: Nanos) -> Vec<ThreadReading> {
    let mut readings = Vec::new();
    for (thread, range) in program.threads() {
        let calls: Vec<_> = program.calls[range].iter().filter(|call| call.span.start >= start).collect();
        let of = |holds: &dyn Fn(&super::HostCall) -> bool| {
            let calls = calls.iter().filter(|call| holds(call));
            let time: Nanos = calls.clone().map(|call| call.span.duration()).sum();
            (calls.count() as u64, share(time, window))
        };
        let (enqueue_count, enqueue_share) = of(&|call| call.kind.gives_work() && !call.is_waiting);
        let (wait_count, wait_share) = of(&|call| call.is_waiting);
        if enqueue_count + wait_count > 0 {
            readings.push(ThreadReading { thread, enqueue_count, enqueue_share, wait_count, wait_share });
        }
    }
    readings.sort_by_key(|reading| std::cmp::Reverse(reading.enqueue_count));
    readings
}

fn streams(program: &Program, work: &[&DeviceWork], window: Nanos) -> Vec<StreamReading> {
    let reading = |(index, stream): (usize, &super::StreamOfProgram)| {
        let of_stream = || work.iter().filter(move |work| work.stream == index);
        let computing = || of_stream().filter(|work| work.computes());
        let copying = || of_stream().filter(|work| matches!(work.what, What::Copy { .. }));
        StreamReading {
            context: stream.context,
            stream: stream.stream,
            is_default: stream.is_default,
            computation_count: computing().count() as u64,
            computing: share(computing().map(|work| work.span.duration()).sum(), window),
            copy_count: copying().count() as u64,
            copying: share(copying().map(|work| work.span.duration()).sum(), window),
        }
    };
    let mut readings: Vec<_> = program.streams.iter().enumerate().map(reading).collect();
    readings.retain(|reading| reading.computation_count + reading.copy_count > 0);
    readings
}

fn remarks(program: &Program, device: u32) -> Vec<String> {
    let mut remarks = program.remarks.clone();
    if !program.is_whole {
        remarks.push("the recording has no end: what happened last is missing".to_owned());
    }
    if program.dropped > 0 {
        remarks.push(format!("{} activities were lost for want of memory", program.dropped));
    }
    let others = program.work.iter().filter(|work| work.device != device).count();
    if others > 0 {
        remarks.push(format!("only device {device} is looked at; others had {others} pieces of work"));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::samples::{MS, Sample, US, naive};

    const NO_WARM_UP: Settings = Settings { warm_up: Nanos::ZERO, pinned_bytes_per_s: Some(50e9) };

    #[test]
    fn the_largest_loss_names_the_verdict_its_thread_its_call_and_its_count() {
        let observation = observe(&naive(20).program(), &NO_WARM_UP);
        assert_eq!(observation.verdict, "pageable_copy");
        let first = &observation.findings[0];
        assert_eq!((first.cause, first.thread), (Cause::PageableCopy, Some(4242)));
        assert_eq!(first.call.as_deref(), Some("cudaMemcpyAsync"));
        assert_eq!((first.count, first.bytes), (20, Some(Bytes(200_000_000))));
        // At 50 GB/s the copy takes 200 us of its millisecond. The first lies before the first kernel.
        assert_eq!(first.lost, Nanos(19 * 800 * US));
        let second = &observation.findings[1];
        // The host waited until 5 us behind the kernel, then for 475 us it did something else.
        assert_eq!((second.cause, second.lost), (Cause::HostPause, Nanos(19 * 475 * US)));
        let third = &observation.findings[2];
        assert_eq!((third.cause, third.lost), (Cause::DefaultStream, Nanos(19 * 200 * US)));
        assert!(observation.findings.is_sorted_by(|a, b| a.lost >= b.lost));
    }

    #[test]
    fn losses_and_computation_add_up_to_the_window() {
        let observation = observe(&naive(20).program(), &NO_WARM_UP);
        let lost: Nanos = observation.findings.iter().map(|finding| finding.lost).sum();
        let computed = observation.sharing.computing * observation.window.as_seconds();
        // Before the first kernel nothing is lost: 1.02 ms.
        let whole = observation.window.as_seconds() - 1.02e-3;
        assert!((lost.as_seconds() + computed - whole).abs() < 1e-3 * whole, "{lost} and {computed} s");
    }

    #[test]
    fn what_is_lost_behind_small_kernels_comes_on_top_of_the_window() {
        let mut sample = Sample::new();
        for item in 0..10 {
            let at = item * 300 * US;
            for (stream, start) in [(13, at), (14, at + 100 * US)] {
                sample.on_stream(stream).call("cudaLaunchKernel", 0, US);
                sample.kernel_of(8, "small", (start + 2 * US, start + 102 * US));
            }
        }
        let observation = observe(&sample.program(), &NO_WARM_UP);
        let of = |wanted: Cause| {
            let found = observation.findings.iter().find(|finding| finding.cause == wanted);
            found.map_or(Nanos::ZERO, |finding| finding.lost)
        };
        let computed = observation.sharing.computing * observation.window.as_seconds();
        let idle = observation.window.as_seconds() - computed;
        assert_eq!(of(Cause::Device), Nanos(9 * 100 * US), "idle for want of anything that was seen");
        assert!((of(Cause::Device).as_seconds() - idle).abs() < 1e-9, "{idle} s idle");
        assert!(of(Cause::SerialStreams) > Nanos::ZERO, "{:?}", observation.findings);
    }

    #[test]
    fn threads_and_streams_are_counted() {
        let observation = observe(&naive(20).program(), &NO_WARM_UP);
        let [thread] = observation.threads[..] else { panic!("one thread: {:?}", observation.threads) };
        assert_eq!((thread.enqueue_count, thread.wait_count), (40, 20));
        assert!((0.24..0.27).contains(&thread.wait_share), "{thread:?}");
        let [stream] = observation.streams[..] else { panic!("one stream: {:?}", observation.streams) };
        assert!(stream.is_default && (stream.computation_count, stream.copy_count) == (20, 20));
    }

    #[test]
    fn the_thread_that_loses_most_is_named() {
        let mut sample = Sample::new();
        for item in 0..10 {
            let at = item * MS;
            let (thread, end) = if item < 8 { (11, at + 100 * US) } else { (12, at + 900 * US) };
            sample.on_thread(thread).call("cudaLaunchKernel", at, at + 5 * US);
            sample.kernel("a", at + 6 * US, end);
            sample.call("cudaDeviceSynchronize", at + 6 * US, end + 3 * US);
        }
        let observation = observe(&sample.program(), &NO_WARM_UP);
        let first = &observation.findings[0];
        assert_eq!((first.cause, first.thread), (Cause::HostPause, Some(11)));
        let threads: Vec<_> = observation.threads.iter().map(|it| (it.thread, it.enqueue_count)).collect();
        // The first launch lies before the first work, where the window begins.
        assert_eq!(threads, [(11, 7), (12, 2)]);
    }

    #[test]
    fn kernels_one_behind_the_other_are_healthy() {
        let mut sample = Sample::new();
        for item in 0..100 {
            sample.on_stream(13).call("cudaLaunchKernel", item * 10 * US, item * 10 * US + 3 * US);
            sample.kernel("gemm", MS + item * 100 * US, MS + item * 100 * US + 99 * US);
        }
        let observation = observe(&sample.program(), &NO_WARM_UP);
        assert_eq!(observation.verdict, "healthy");
        assert!(observation.sharing.computing > 0.98);
    }

    #[test]
    fn the_start_of_a_program_is_left_out_but_never_more_than_a_third() {
        let sample = naive(60);
        let settings = Settings { warm_up: Nanos(20 * MS), ..NO_WARM_UP };
        assert_eq!(observe(&sample.program(), &settings).findings[0].count, 50);
        let settings = Settings { warm_up: Nanos(1000 * MS), ..NO_WARM_UP };
        assert_eq!(observe(&sample.program(), &settings).findings[0].count, 40);
    }

    #[test]
    fn graphs_that_are_recorded_as_a_whole_are_counted_and_say_nothing_of_their_kernels() {
        let mut sample = Sample::new();
        for item in 0..50 {
            sample.call("cudaGraphLaunch", item * 100 * US, item * 100 * US + 8 * US);
            sample.graph(item * 100 * US + 10 * US, item * 100 * US + 30 * US);
        }
        let observation = observe(&sample.program(), &NO_WARM_UP);
        assert_eq!((observation.graph_run_count, observation.kernel_count), (50, 0));
        assert_eq!(observation.kernels_per_graph_run, None);
        let first = &observation.findings[0];
        assert_eq!((first.cause, first.call.as_deref()), (Cause::Submission, Some("cudaGraphLaunch")));
    }

    #[test]
    fn a_process_that_ran_nothing_says_so_with_the_reason() {
        let mut file = Vec::new();
        let mut writer = thalweg_nvidia::activity::Writer::begin(&mut file, 1, "x").unwrap();
        writer.put(&thalweg_nvidia::activity::Entry::Remark("nothing was recorded: no CUPTI".to_owned()));
        writer.flush().unwrap();
        let observation = observe(&Program::from_bytes(&file).unwrap(), &Settings::default());
        assert_eq!(observation.verdict, "nothing_ran");
        assert_eq!(observation.remarks.len(), 2, "{:?}", observation.remarks);
    }
}
