//! What was seen of a running workload: numbers, each with its unit and its source, or the reason why it is missing.
//!
//! In: a [`Measurement`]. Out: [`Evidence`]. Nothing is judged here; that is left to [`rules`](super::rules).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::waiting::Waiting;
use crate::backend::{Counters, DataSheet, LEAST_TIME_OF_POWER, Span};
use crate::capacity::{DRAM_CEILING, PaperWorkload};
use crate::measure::stats::percentile;
use crate::measure::{Measurement, Record, executions, took_place};
use crate::units::Nanos;

/// What a [`Reading`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Executions that ended per second.
    Executions,
    /// Part of the load's requests that were answered; 1 where the pool keeps up with an open loop.
    LoadServed,
    /// Part of the slots that a closed loop can fill with what it keeps outstanding.
    SlotsAsked,
    /// Part of the slots that held an execution, from its submission to readable outputs.
    SlotsInUse,
    /// Share of the time in which slots were being filled.
    FeedBusy,
    /// How many slots may be filled at the same time.
    Senders,
    /// Share of the time in which a submitting thread was in an enqueue call. Several threads in it at once count once:
    /// the driver's lock lets only one of them launch.
    SubmitterBusy,
    /// Share of the time in which a copy to the device ran.
    H2dBusy,
    /// Share of the time in which a copy to the host ran.
    D2hBusy,
    /// Share of the time in which a stream was between the first and the last kernel of an execution, averaged over
    /// the streams.
    StreamsComputing,
    /// Share of the time in which any stream was computing: what `nvidia-smi` calls GPU utilisation, which is 1 for one
    /// small kernel after the other.
    DeviceComputing,
    /// Share of the time in which no request was in the pool: nothing to run.
    PoolEmpty,
    /// Share of the time in which one execution was on the device and a ready one, free to run beside it, waited to be
    /// enqueued, though no thread was in a call.
    HeldByHost,
    /// The same for one that was enqueued: it waited for work of another stream.
    HeldOnDevice,
    /// Exactly one execution on the device, as a part of the time in which any is.
    AloneOnDevice,
    /// Host time of starting one execution.
    EnqueueTime,
    /// Part of that in which the calls for its copies had the thread; the driver returns at once from those of
    /// page-locked memory.
    CopyCallTime,
    /// Copy of the inputs of one execution.
    H2dTime,
    /// Kernels of one execution.
    ComputeTime,
    /// What the kernels of one execution take at most when none waits to be launched: each has one SM at least, so they cannot
    /// have run for longer than SMs were at work.
    KernelsAtMost,
    /// Copy of the outputs of one execution.
    D2hTime,
    /// What the host adds to a slot's round: seeing the end of an execution, and starting the next.
    TurnaroundTime,
    /// How full the device is: SMs with a resident warp, or busy cores on the `cpu` backend.
    DeviceFill,
    /// Resident warps over the most that fit: how many there are to hide a wait behind.
    Occupancy,
    /// Share of cycles in which a tensor pipe was busy.
    TensorActivity,
    /// DRAM traffic over the most that a copy reaches.
    DramFill,
    /// Arithmetic of the model at this throughput over the peak of the data sheet: needs no counter.
    PaperArithmetic,
    /// DRAM traffic of the model at this throughput over the bandwidth of the data sheet, were each tensor written and
    /// read: more than is moved where kernels are fused or a cache holds it.
    PaperTraffic,
    /// Bytes from host to device, by the bus's own counter.
    PcieRx,
    /// Bytes from device to host, by the bus's own counter.
    PcieTx,
    /// Clock of the SMs over the highest one.
    ClockShare,
    /// Power drawn.
    Power,
    /// Cores of the host that the process kept busy.
    HostCores,
    /// Kernels of one execution. This and all below are of a short window in which each of them was recorded.
    KernelsPerExecution,
    /// Share of the time in which any kernel ran.
    KernelsRunning,
    /// Part of the time of all kernels that the three largest take.
    LargestKernels,
    /// Blocks of a kernel over the SMs times the most blocks that one of them gets, averaged over the time of kernels: 1
    /// where all get the same number, 0.25 where one SM in four has a block.
    GridFill,
    /// Part of the streams' time that lies between two kernels, graphs or executions.
    KernelGaps,
    /// Part of the streams' time in which the next kernel was not launched yet.
    LaunchGaps,
    /// Mean time of a call that launches a kernel or a graph.
    LaunchTime,
    /// Share of its time that the thread that launches most spends in calls that give work.
    LauncherBusy,
    /// Share of its time that this thread spends in calls that wait for the device.
    LauncherWaits,
    /// Part of the bytes between host and device that went from or to memory that is not page-locked.
    PageableCopies,
    /// Mean time of a run of a CUDA graph on the device, from its first kernel to its last.
    GraphRunTime,
}

impl Quantity {
    /// Its unit: `share` is a fraction of 1.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Executions => "1/s",
            Self::EnqueueTime
            | Self::CopyCallTime
            | Self::H2dTime
            | Self::ComputeTime
            | Self::KernelsAtMost
            | Self::D2hTime
            | Self::TurnaroundTime
            | Self::LaunchTime
            | Self::GraphRunTime => "s",
            Self::PcieRx | Self::PcieTx => "bytes/s",
            Self::Power => "W",
            Self::HostCores => "cores",
            Self::Senders => "threads",
            Self::KernelsPerExecution => "kernels",
            _ => "share",
        }
    }
}

/// As in a table's first column.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Executions => "executions",
            Self::LoadServed => "load served",
            Self::SlotsAsked => "slots asked for",
            Self::SlotsInUse => "slots in use",
            Self::FeedBusy => "filling slots",
            Self::Senders => "filling threads",
            Self::SubmitterBusy => "submitting threads",
            Self::H2dBusy => "H2D copy engine",
            Self::D2hBusy => "D2H copy engine",
            Self::StreamsComputing => "streams computing",
            Self::DeviceComputing => "any stream computing",
            Self::PoolEmpty => "nothing to run",
            Self::HeldByHost => "ready, held by host",
            Self::HeldOnDevice => "ready, held on device",
            Self::AloneOnDevice => "alone on device",
            Self::EnqueueTime => "enqueue",
            Self::CopyCallTime => "calls for copies",
            Self::H2dTime => "H2D",
            Self::ComputeTime => "compute",
            Self::KernelsAtMost => "kernels, at most",
            Self::D2hTime => "D2H",
            Self::TurnaroundTime => "turnaround",
            Self::DeviceFill => "device fill",
            Self::Occupancy => "occupancy",
            Self::TensorActivity => "tensor pipes",
            Self::DramFill => "DRAM",
            Self::PaperArithmetic => "arithmetic, on paper",
            Self::PaperTraffic => "DRAM, on paper",
            Self::PcieRx => "PCIe to device",
            Self::PcieTx => "PCIe to host",
            Self::ClockShare => "SM clock",
            Self::Power => "power",
            Self::HostCores => "host cores",
            Self::KernelsPerExecution => "kernels in an execution",
            Self::KernelsRunning => "any kernel running",
            Self::LargestKernels => "three largest kernels",
            Self::GridFill => "evenness of grids",
            Self::KernelGaps => "gaps between kernels",
            Self::LaunchGaps => "gaps before launches",
            Self::LaunchTime => "time of a launch",
            Self::LauncherBusy => "thread launching",
            Self::LauncherWaits => "thread waiting",
            Self::PageableCopies => "pageable copies",
            Self::GraphRunTime => "time of a graph's run",
        })
    }
}

/// One number, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// What it says.
    pub quantity: Quantity,
    /// The number, in [`unit`](Self::unit).
    pub value: Option<f64>,
    /// Its unit.
    pub unit: String,
    /// Where it comes from; for a number that is missing, why.
    pub source: String,
}

/// All that the rules look at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The numbers, and the reasons for those that are missing.
    pub readings: Vec<Reading>,
    /// Why clocks were lower than they could be, in the driver's words.
    pub throttle_reasons: Vec<String>,
}

impl Evidence {
    /// Of one measurement.
    pub fn of(measurement: &Measurement) -> Self {
        let mut evidence = Self::default();
        evidence.read_load(measurement);
        evidence.read_host(measurement);
        evidence.read_stages(measurement);
        evidence.read_waiting(measurement);
        evidence.read_device(measurement);
        evidence.throttle_reasons =
            measurement.counters.as_ref().map(|it| it.throttle_reasons.clone()).unwrap_or_default();
        evidence
    }

    /// The roofline's two sides, from what the model computes and moves: they stand without any counter, and say what
    /// would be needed at least, not how full anything is.
    pub fn read_roofline(&mut self, model: Result<&PaperWorkload, &str>, measurement: &Measurement) {
        let sides = [Quantity::PaperArithmetic, Quantity::PaperTraffic];
        let model = match model {
            Ok(model) => model,
            Err(reason) => return sides.into_iter().for_each(|side| self.put_missing(side, reason)),
        };
        let device = &measurement.device.name;
        let Some(sheet) = DataSheet::of_device(device) else {
            let reason = format!("there is no data sheet of {device}");
            return sides.into_iter().for_each(|side| self.put_missing(side, reason.as_str()));
        };
        let shares = model.shares(&sheet, measurement.throughput_inferences_per_s.value);
        let source = format!("model's cost in {}, data sheet", model.precision);
        self.put(Quantity::PaperArithmetic, shares.arithmetic, source.as_str());
        let cached = if shares.traffic > 1.0 { "; caches hold what is above" } else { "" };
        self.put(Quantity::PaperTraffic, shares.traffic, source + cached);
    }

    /// The number, where it is known.
    pub fn value(&self, quantity: Quantity) -> Option<f64> {
        self.reading(quantity)?.value
    }

    /// The reading, where anybody tried to take it.
    pub fn reading(&self, quantity: Quantity) -> Option<&Reading> {
        self.readings.iter().find(|reading| reading.quantity == quantity)
    }

    /// Puts a number in, in place of one that was there.
    pub fn put(&mut self, quantity: Quantity, value: f64, source: impl Into<String>) {
        self.replace(quantity, Some(value), source.into());
    }

    /// Takes a number out: it is not available for this reason.
    pub fn put_missing(&mut self, quantity: Quantity, reason: impl Into<String>) {
        self.replace(quantity, None, reason.into());
    }

    /// Puts a number in where there is one, and why there is none elsewhere.
    pub fn put_or_missing(&mut self, quantity: Quantity, value: Option<f64>, source: &str, without: &str) {
        match value {
            Some(value) => self.put(quantity, value, source),
            None => self.put_missing(quantity, without),
        }
    }

    fn replace(&mut self, quantity: Quantity, value: Option<f64>, source: String) {
        let reading = Reading {
            quantity,
            value: value.filter(|value| value.is_finite()),
            unit: quantity.unit().to_owned(),
            source,
        };
        match self.readings.iter_mut().find(|known| known.quantity == quantity) {
            Some(known) => *known = reading,
            None => self.readings.push(reading),
        }
    }

    fn read_load(&mut self, measurement: &Measurement) {
        const RECORDS: &str = "host clock, every request";
        self.put(Quantity::Executions, measurement.executions_per_s, RECORDS);
        let slots = (measurement.configuration.streams * measurement.configuration.depth) as f64;
        let per_request = measurement.load.samples_per_request as f64;
        if let Some(served) = measurement.served_share() {
            self.put(Quantity::LoadServed, served, "throughput over the rate of requests");
        }
        if let Some(count) = measurement.load.outstanding() {
            let executions = count as f64 * per_request / measurement.configuration.batch_size as f64;
            self.put(Quantity::SlotsAsked, (executions / slots).min(1.0), "outstanding requests");
        }
        let seconds = seconds(measurement);
        let held = measurement
            .records
            .iter()
            .map(|record| (record.readable - record.submitted).as_seconds() * record.share_of_execution());
        match held.sum::<f64>() {
            held if held > 0.0 => self.put(Quantity::SlotsInUse, (held / seconds / slots).min(1.0), RECORDS),
            _ => self.put_missing(Quantity::SlotsInUse, "the measurement has no records of requests"),
        }
    }

    fn read_host(&mut self, measurement: &Measurement) {
        match &measurement.feed {
            Some(feed) => {
                self.put(Quantity::FeedBusy, feed.busy_share, "host clock, sending threads");
                self.put(Quantity::Senders, feed.senders as f64, "host, those that fill a slot each");
            }
            None => self.put_missing(Quantity::FeedBusy, "in virtual time filling takes none"),
        }
        let calls = executions(&measurement.records).into_iter().map(|it| it.times.enqueue).collect();
        let any = covered(calls).as_seconds() / seconds(measurement);
        // Without records the median stands for the mean.
        let median = measurement.stages.enqueue.as_seconds() * measurement.executions_per_s;
        let busy = if any > 0.0 { any } else { median / measurement.configuration.submitters as f64 };
        self.put(Quantity::SubmitterBusy, busy.min(1.0), "host clock, enqueue calls");
        let cores = measurement.host_cpu_cores;
        self.put(Quantity::HostCores, cores, "CPU time of the process");
    }

    fn read_stages(&mut self, measurement: &Measurement) {
        let source = if measurement.device.is_host() { "host clock" } else { "events on the device" };
        let stages = &measurement.stages;
        let times = [
            (Quantity::EnqueueTime, stages.enqueue, "host clock, median"),
            (Quantity::H2dTime, stages.h2d, source),
            (Quantity::ComputeTime, stages.compute, source),
            (Quantity::D2hTime, stages.d2h, source),
        ];
        for (quantity, time, source) in times {
            self.put(quantity, time.as_seconds(), source);
        }
        // Where nothing is enqueued by calls there is nothing to say.
        if stages.copy_calls > Nanos::ZERO {
            self.put(Quantity::CopyCallTime, stages.copy_calls.as_seconds(), "host clock, median");
        }
        if measurement.records.is_empty() {
            let of_records =
                [Quantity::H2dBusy, Quantity::D2hBusy, Quantity::StreamsComputing, Quantity::DeviceComputing];
            for quantity in of_records {
                self.put_missing(quantity, "the measurement has no records of requests");
            }
            return;
        }
        let executions = executions(&measurement.records);
        let seconds = seconds(measurement);
        let share = |spans: Vec<Span>| (covered(spans).as_seconds() / seconds).min(1.0);
        self.put(Quantity::H2dBusy, share(executions.iter().map(|it| it.times.h2d).collect()), source);
        self.put(Quantity::D2hBusy, share(executions.iter().map(|it| it.times.d2h).collect()), source);
        let computing = share(executions.iter().map(|it| it.times.compute).collect());
        self.put(Quantity::DeviceComputing, computing, source);
        let computing: f64 = executions.iter().map(|it| it.times.compute.duration().as_seconds()).sum();
        let streams = measurement.configuration.streams as f64;
        self.put(Quantity::StreamsComputing, (computing / seconds / streams).min(1.0), source);
        if let Some(turnaround) = turnaround(measurement) {
            self.put(Quantity::TurnaroundTime, turnaround.as_seconds(), "host and device clock, median");
        }
    }

    fn read_waiting(&mut self, measurement: &Measurement) {
        let records = &measurement.records;
        let is_host = measurement.device.is_host();
        let Some(waiting) = Waiting::of(records, &measurement.configuration, is_host) else { return };
        const SOURCE: &str = "host and device clock";
        self.put(Quantity::HeldByHost, waiting.held_by_host, SOURCE);
        self.put(Quantity::HeldOnDevice, waiting.held_on_device, SOURCE);
        self.put(Quantity::AloneOnDevice, waiting.alone, SOURCE);
        let in_pool = records.iter().map(|it| Span { start: it.submitted, end: it.readable }).collect();
        let empty = 1.0 - covered(in_pool).as_seconds() / seconds(measurement);
        self.put(Quantity::PoolEmpty, empty.clamp(0.0, 1.0), "host clock, every request");
    }

    fn read_device(&mut self, measurement: &Measurement) {
        let counters = measurement.counters.as_ref();
        if measurement.device.is_host() {
            let fill = measurement.host_cpu_cores / measurement.device.core_count.max(1) as f64;
            self.put(Quantity::DeviceFill, fill.min(1.0), "CPU time of the process over its cores");
        } else {
            self.put_counter(counters, Quantity::DeviceFill, |counters| counters.sm_activity);
        }
        self.read_kernels_at_most(measurement);
        self.put_counter(counters, Quantity::Occupancy, |counters| counters.sm_occupancy);
        self.put_counter(counters, Quantity::TensorActivity, |counters| counters.tensor_activity);
        self.put_counter(counters, Quantity::DramFill, |counters| {
            counters.dram_utilisation.map(|utilisation| (utilisation / DRAM_CEILING).min(1.0))
        });
        self.put_counter(counters, Quantity::PcieRx, |counters| counters.pcie_rx_bytes_per_s);
        self.put_counter(counters, Quantity::PcieTx, |counters| counters.pcie_tx_bytes_per_s);
        self.put_counter(counters, Quantity::ClockShare, |counters| {
            Some((counters.sm_clock_mhz? / counters.sm_clock_max_mhz?).min(1.0))
        });
        self.put_counter(counters, Quantity::Power, |counters| counters.power_watts);
        let is_short = |it: &Counters| it.power_watts.is_none() && it.window < LEAST_TIME_OF_POWER;
        if counters.is_some_and(is_short) {
            self.put_missing(Quantity::Power, "the driver tells no mean of so short a time");
        }
    }

    /// It says something where kernels are tiny: launching them one by one takes longer than they run.
    fn read_kernels_at_most(&mut self, measurement: &Measurement) {
        let fill = measurement.counters.as_ref().and_then(|counters| counters.sm_activity);
        let sheet = DataSheet::of_device(&measurement.device.name);
        let (Some(fill), Some(sheet)) = (fill, sheet) else { return };
        let seconds = fill * f64::from(sheet.sm_count) / measurement.executions_per_s;
        if seconds < measurement.stages.compute.as_seconds() {
            self.put(Quantity::KernelsAtMost, seconds, "SMs at work, one for each kernel");
        }
    }

    fn put_counter(
        &mut self,
        counters: Option<&Counters>,
        quantity: Quantity,
        counter: impl Fn(&Counters) -> Option<f64>,
    ) {
        let Some(counters) = counters else {
            return self.put_missing(quantity, "the device tells nothing about itself");
        };
        match counter(counters) {
            Some(value) => {
                // NVML shows clock and power, wherever counters come from.
                let is_nvml = matches!(quantity, Quantity::ClockShare | Quantity::Power);
                let source = counters.source.filter(|_| !is_nvml);
                let source = source.map(|source| source.to_string());
                let source = source.as_deref().unwrap_or("the device's counters");
                match quantity {
                    Quantity::DramFill => {
                        let most = 100.0 * DRAM_CEILING;
                        self.put(
                            quantity,
                            value,
                            format!("{source}, over the {most:.0} % that copies reach"),
                        );
                    }
                    _ => self.put(quantity, value, source),
                }
            }
            None => {
                let reason = counters.unavailable.as_deref().unwrap_or("the device does not count it");
                self.put_missing(quantity, reason);
            }
        }
    }
}

/// Length of the windows that count.
fn seconds(measurement: &Measurement) -> f64 {
    let used = &measurement.windows[measurement.windows.len().saturating_sub(measurement.used_windows)..];
    let length: f64 = used.iter().map(|window| (window.end - window.start).as_seconds()).sum();
    length.max(f64::MIN_POSITIVE)
}

/// How long at least one of the spans lasted.
fn covered(mut spans: Vec<Span>) -> Nanos {
    spans.retain(|span| took_place(*span));
    spans.sort_unstable_by_key(|span| span.start);
    let (mut total, mut reached) = (Nanos::ZERO, Nanos::ZERO);
    for span in spans {
        let start = span.start.max(reached);
        if span.end > start {
            total += span.end - start;
            reached = span.end;
        }
    }
    total
}

/// What the host adds to each round of a slot: from the end of an execution to readable outputs, and from a request's
/// arrival to its enqueue call. Time in which a thread was in another enqueue call is no part of it, since that is the
/// submitting thread's own pressure.
fn turnaround(measurement: &Measurement) -> Option<Nanos> {
    let mut calls: Vec<Span> =
        executions(&measurement.records).into_iter().map(|it| it.times.enqueue).collect();
    calls.sort_unstable_by_key(|span| span.start);
    let calls = Calls::of(calls);
    let idle =
        |start: Nanos, end: Nanos| if end > start { calls.idle_between(start, end) } else { Nanos::ZERO };
    let of_record = |record: &Record| {
        let times = &record.stages;
        let end = times.d2h.end.max(times.compute.end);
        idle(end, record.readable) + idle(record.submitted, times.enqueue.start)
    };
    let mut waits: Vec<Nanos> = measurement.records.iter().map(of_record).collect();
    waits.sort_unstable();
    (!waits.is_empty()).then(|| percentile(&waits, 0.5))
}

/// Enqueue calls that do not overlap, by time, with the time in calls before each.
struct Calls {
    spans: Vec<Span>,
    before: Vec<Nanos>,
}

impl Calls {
    /// Of calls by their start; those of several threads may overlap.
    fn of(sorted: Vec<Span>) -> Self {
        let mut spans: Vec<Span> = Vec::new();
        for call in sorted {
            match spans.last_mut() {
                Some(last) if call.start <= last.end => last.end = last.end.max(call.end),
                _ => spans.push(call),
            }
        }
        let before = spans.iter().scan(Nanos::ZERO, |sum, span| {
            let before = *sum;
            *sum += span.duration();
            Some(before)
        });
        let before = before.collect();
        Self { spans, before }
    }

    /// Time in calls up to a moment.
    fn until(&self, moment: Nanos) -> Nanos {
        let index = self.spans.partition_point(|span| span.start < moment);
        let Some(last) = index.checked_sub(1) else { return Nanos::ZERO };
        let span = self.spans[last];
        self.before[last] + (moment.min(span.end) - span.start)
    }

    fn idle_between(&self, start: Nanos, end: Nanos) -> Nanos {
        (end - start) - (self.until(end) - self.until(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_several_spans_cover_counts_once() {
        let span = |start, end| Span { start: Nanos(start), end: Nanos(end) };
        assert_eq!(covered(vec![span(0, 10), span(5, 12), span(20, 21), span(6, 7)]), Nanos(13));
        assert_eq!(covered(Vec::new()), Nanos(0));
    }

    #[test]
    fn time_in_calls_is_no_idle_time() {
        let span = |start, end| Span { start: Nanos(start), end: Nanos(end) };
        let calls = Calls::of(vec![span(10, 20), span(15, 25), span(40, 50)]);
        assert_eq!(calls.idle_between(Nanos(0), Nanos(60)), Nanos(60 - 25));
        assert_eq!(calls.idle_between(Nanos(12), Nanos(45)), Nanos(33 - 13 - 5));
        assert_eq!(calls.idle_between(Nanos(12), Nanos(22)), Nanos(0));
    }

    #[test]
    fn a_counter_is_told_with_where_it_comes_from_and_what_is_missing_beside_it_with_its_reason() {
        let mut journal: serde_json::Value = serde_json::to_value(Counters::default()).unwrap();
        assert!(journal.get("source").is_none(), "nothing is said where there is no source");
        journal["source"] = "pm_sampling".into();
        journal["dram_utilisation"] = 0.42.into();
        journal["unavailable"] = "CUPTI's PM sampling of a SI100 gives no tensor utilisation".into();
        let counters: Counters = serde_json::from_value(journal).unwrap();
        let mut evidence = Evidence::default();
        evidence.put_counter(Some(&counters), Quantity::DramFill, |counters| counters.dram_utilisation);
        evidence.put_counter(Some(&counters), Quantity::TensorActivity, |counters| counters.tensor_activity);
        evidence.put_counter(Some(&counters), Quantity::ClockShare, |_| Some(1.0));
        let sources: Vec<_> = evidence.readings.iter().map(|it| (it.value, it.source.as_str())).collect();
        let expected = [
            (Some(0.42), "the device's counters (CUPTI's PM sampling), over the 84 % that copies reach"),
            (None, "CUPTI's PM sampling of a SI100 gives no tensor utilisation"),
            (Some(1.0), "the device's counters"),
        ];
        assert_eq!(sources, expected);
    }

    #[test]
    fn a_number_that_is_none_is_missing() {
        let mut evidence = Evidence::default();
        evidence.put(Quantity::DramFill, 0.4, "counter");
        evidence.put(Quantity::DramFill, f64::NAN, "counter");
        assert_eq!((evidence.readings.len(), evidence.value(Quantity::DramFill)), (1, None));
    }
}
