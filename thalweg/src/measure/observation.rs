//! What is seen while a configuration runs, and the measurement that follows from it.
//!
//! In: responses, as they come. Out: a [`Measurement`]. Who sends and who waits is left to
//! [`experiment`](super::experiment).

use std::collections::BTreeSet;

use super::host_use::HostUse;
use super::measurement::{Estimate, Failures, Record, StageSummary, Verification};
use super::windows::{STABLE_WINDOWS, WindowCutter};
use super::{Experiment, LatencySummary, Measurement, Overlap, Pacing, Stability, rate, stats};
use crate::backend::{ClockReading, Counters, Observer, SlotId};
use crate::error::{Error, Result};
use crate::pool::{PoolState, Response};
use crate::units::{Clock, Nanos};

/// Share of the time that comparing outputs may take once every slot was compared at least once, so that
/// it does not disturb what is measured.
const VERIFICATION_SHARE: f64 = 0.02;

/// Blocks that the time is cut into for the confidence interval of the throughput, where there are as many executions. More
/// blocks give a better estimate of the spread, as long as each is longer than what makes neighbours alike (a few
/// executions); one that is shorter than an execution is empty or not by chance.
const BLOCKS: usize = 24;

/// Part of a window for which the device may go without input as the counters are started. NVML's take some milliseconds,
/// sampling by CUPTI some hundred.
const MOST_STALL: f64 = 0.05;

/// Failures without a single success after which a measurement gives up.
const FAILURES_TO_GIVE_UP: u64 = 16;

/// The remark on a measurement that was stopped, or whose streams were all lost.
const ENDED_EARLY: &str =
    "The measurement ended before its time; the figures are of what had come in by then.";

/// What is read beside the responses when the windows begin and when they end.
#[derive(Clone, Copy, Default)]
pub(super) struct Situation {
    pub host: HostUse,
    pub pool: PoolState,
}

/// What has been seen of a measurement so far.
pub(super) struct Observation<'a> {
    experiment: &'a Experiment<'a>,
    clock: Clock,
    windows: WindowCutter,
    /// When the work began.
    begun: Nanos,
    verification: Verification,
    verification_time: Nanos,
    verified_slots: Vec<SlotId>,
    /// Room for the values of what is compared.
    compared: Vec<f64>,
    failures: Failures,
    remarks: Vec<String>,
    deviating_streams: BTreeSet<usize>,
    /// What the process had used and how the pool was supplied when the first window started.
    at_start: Option<(Nanos, Situation)>,
    at_end: (Nanos, Situation),
    observer: Option<Box<dyn Observer>>,
    /// When the counters were started.
    observing_since: Option<Nanos>,
    counters: Option<Counters>,
    /// The clock at the end of each window.
    clocks: Vec<ClockReading>,
    clocked_windows: usize,
}

impl<'a> Observation<'a> {
    pub(super) fn new(
        experiment: &'a Experiment<'a>,
        clock: Clock,
        observer: Option<Box<dyn Observer>>,
    ) -> Self {
        Self {
            experiment,
            windows: windows(experiment, clock.now()),
            begun: clock.now(),
            clock,
            verification: Verification {
                batch_difference: experiment.batch_difference(),
                ..Verification::default()
            },
            verification_time: Nanos::ZERO,
            verified_slots: Vec::new(),
            compared: Vec::new(),
            failures: Failures::default(),
            remarks: Vec::new(),
            deviating_streams: BTreeSet::new(),
            at_start: None,
            at_end: <(Nanos, Situation)>::default(),
            observer,
            observing_since: None,
            counters: None,
            clocks: Vec::new(),
            clocked_windows: 0,
        }
    }

    /// Whether the windows agree, there are enough of them, or nothing succeeds.
    pub(super) fn is_complete(&self) -> bool {
        let count = self.windows.window_count();
        let is_stable = matches!(self.windows.stability(), Stability::Stable { .. });
        let all_failed = self.failures.count >= FAILURES_TO_GIVE_UP && self.verification.samples == 0;
        let may_end_early = count >= STABLE_WINDOWS && is_stable && self.counters_can_tell();
        count >= self.experiment.pacing.max_windows || may_end_early || all_failed || self.is_over()
    }

    /// Whether the longest time is up, and there is something to tell.
    fn is_over(&self) -> bool {
        let Some(longest) = self.experiment.pacing.longest else { return false };
        let first = self.windows.started().filter(|_| self.windows.has_records());
        first.is_some_and(|first| self.clock.now() >= first + Nanos::from_duration(longest))
    }

    /// Whether counters have run for so long that they surely tell something, or never will.
    fn counters_can_tell(&self) -> bool {
        let Some(observer) = &self.observer else { return true };
        let (now, least_time) = (self.clock.now(), observer.least_time());
        match (self.observing_since, self.windows.started()) {
            // They may be renewed just after the start and just before the end.
            (Some(since), _) => now >= since + least_time + least_time,
            (None, Some(start)) => now + least_time > self.last_end(start),
            (None, None) => false,
        }
    }

    /// Takes in a response: compares its outputs and keeps its record.
    pub(super) fn take(&mut self, response: &Response, situation: &dyn Fn() -> Situation) -> Result<()> {
        if let Some(error) = response.error() {
            self.failures.count += 1;
            self.failures.first.get_or_insert_with(|| error.to_string());
            if response.has_lost_its_stream() {
                self.failures.lost_streams.insert(response.slot().executor);
                self.failures.has_lost_device |= error.is_device_lost();
            }
            return Ok(());
        }
        self.note(response);
        self.verify(response)?;
        let record = Record {
            sequence: response.sequence(),
            slot: response.slot(),
            samples: response.samples().len(),
            batch_size: response.batch_size(),
            execution_samples: Some(response.request_samples()).filter(|it| *it < response.batch_size()),
            intended: response.intended(),
            submitted: response.submitted(),
            stages: response.stages(),
            readable: response.readable(),
        };
        self.windows.push(record);
        if self.observing_since.is_none()
            && self.windows.started().is_some_and(|start| self.may_observe(start))
        {
            self.start_observer();
        }
        if self.windows.started().is_some() && self.at_start.is_none() {
            self.at_start = Some((self.clock.now(), situation()));
        }
        Ok(())
    }

    /// Whether counters that begin now tell of this work alone, and can tell before the last window has ended, where the first
    /// started at that time.
    fn may_observe(&self, start: Nanos) -> bool {
        let Some(observer) = &self.observer else { return true };
        let now = self.clock.now();
        now >= self.begun + observer.lag() && now + observer.least_time() <= self.last_end(start)
    }

    /// When the last window that there may be ends, where the first started at that time.
    fn last_end(&self, start: Nanos) -> Nanos {
        let pacing = self.experiment.pacing;
        let windows = u32::try_from(pacing.max_windows).unwrap_or(u32::MAX);
        start + Nanos::from_duration(pacing.window.saturating_mul(windows))
    }

    /// Starts the counters. Some take so long for it that the device runs dry meanwhile: then it is warmed up again.
    fn start_observer(&mut self) {
        let before = self.clock.now();
        self.observing_since = Some(before);
        let Some(observer) = &mut self.observer else { return };
        observer.start();
        let stall = (self.clock.now() - before).as_seconds();
        if stall > MOST_STALL * self.experiment.pacing.window.as_secs_f64() {
            self.windows = windows(self.experiment, self.clock.now());
            self.at_start = None;
            self.clocks.clear();
            self.clocked_windows = 0;
        }
    }

    /// Keeps the clock where a window has ended. That takes a moment, so it is for when nobody waits for the response.
    pub(super) fn note_clock(&mut self) {
        let ended = self.windows.window_count();
        if ended > self.clocked_windows {
            self.clocked_windows = ended;
            self.clocks.extend(self.observer.as_mut().and_then(|observer| observer.clock()));
        }
    }

    /// Keeps what the response's stream does otherwise than asked.
    fn note(&mut self, response: &Response) {
        let Some(remark) = response.remark() else { return };
        self.deviating_streams.insert(response.slot().executor);
        if !self.remarks.iter().any(|known| known == remark) {
            self.remarks.push(remark.to_owned());
        }
    }

    /// Nothing more is taken in.
    pub(super) fn end(&mut self, situation: Situation) {
        if !self.is_complete() {
            self.remarks.push(ENDED_EARLY.to_owned());
        }
        self.windows.end_early();
        self.at_end = (self.clock.now(), situation);
        self.note_clock();
        self.counters = self.observer.as_mut().map(|observer| observer.read());
        if let Some(counters) = &mut self.counters {
            // Heat in the middle disturbs as much as heat at the end.
            for reason in self.clocks.iter().flat_map(|clock| &clock.throttle_reasons) {
                if !counters.throttle_reasons.contains(reason) {
                    counters.throttle_reasons.push(reason.clone());
                }
            }
        }
    }

    /// How many requests a closed loop keeps outstanding; `None` in an open loop.
    pub(super) fn outstanding(&self) -> Option<usize> {
        self.experiment.load.outstanding()
    }

    /// Compares the response if its slot was not compared yet, or if there is time for it.
    fn verify(&mut self, response: &Response) -> Result<()> {
        let samples = response.samples().len() as u64;
        self.verification.samples += samples;
        let now = self.clock.now();
        let is_new_slot = !self.verified_slots.contains(&response.slot());
        if !is_new_slot && self.verification_time.as_seconds() > VERIFICATION_SHARE * now.as_seconds() {
            return Ok(());
        }
        let first_sample = usize::try_from(response.tag()).expect("bug: a tag is a sample's index");
        let error = self.experiment.workload.reference.check(response, first_sample, &mut self.compared)?;
        let taken = self.clock.now() - now;
        if is_new_slot {
            self.verified_slots.push(response.slot());
            // Whoever compares may be who drives the executors. Of a large output that takes longer than a short slice warms up,
            // and what counts would begin with a device that has run dry.
            self.windows.prolong_warm_up(taken);
        }
        self.verification_time += taken;
        self.verification.verified_samples += samples;
        self.verification.verified_slots = self.verified_slots.len();
        self.verification.worst_relative_error = self.verification.worst_relative_error.max(error);
        Ok(())
    }

    /// Everything that follows from the records.
    pub(super) fn summarise(self, experiment: &Experiment<'_>) -> Result<Measurement> {
        let stability = self.windows.stability();
        let (windows, used_windows, records) = self.windows.finish();
        let mut latencies: Vec<Nanos> = records.iter().map(Record::latency).collect();
        let Some(latency) = LatencySummary::of(&mut latencies) else {
            let lost = self.failures.streams_lost(experiment.configuration.streams);
            return Err(lost.or_else(|| self.failures.requests_failed()).unwrap_or(Error::Interrupted));
        };
        let used = &windows[windows.len() - used_windows..];
        let (start, end) = (used[0].start, used[used.len() - 1].end);
        // What the host has done is known of the whole time, the part of a window at its end included.
        let ((then, at_start), (now, at_end)) = (self.at_start.unwrap_or(self.at_end), self.at_end);
        let (host, host_time) = (at_end.host.since(at_start.host), (now - then).as_seconds());
        let rate =
            if experiment.fills_every_slot() { rate::of_slots(&records) } else { rate::of_streams(&records) };
        let throughput = throughput(&records, rate, (start, end));
        let executions_per_s = throughput.value * executions_per_inference(&records);
        Ok(Measurement {
            model: experiment.workload.model.clone(),
            engine: experiment.workload.source.clone(),
            configuration: experiment.configuration,
            load: experiment.load,
            feed: None,
            device: experiment.workload.device.clone(),
            stability,
            throughput_inferences_per_s: throughput,
            executions_per_s,
            latency,
            stages: StageSummary {
                shared_core: at_end.pool.shared_core_share_since(&at_start.pool),
                ..StageSummary::of(&records)
            },
            starved_share: at_end.pool.starved_share_since(&at_start.pool),
            overlap: Overlap::of(&records),
            host_cpu_cores: if host_time > 0.0 { host.cpu.as_seconds() / host_time } else { 0.0 },
            context_switches_per_execution: host.context_switches_per(executions_per_s * host_time),
            host_memory_bytes: if experiment.workload.engine.is_simulated() {
                None
            } else {
                resident_memory()
            },
            device_memory_bytes: device_memory(experiment),
            counters: self.counters,
            clocks: self.clocks,
            verification: self.verification,
            failures: self.failures,
            remarks: self.remarks,
            deviating_streams: self.deviating_streams,
            unix_start: self.clock.unix_start(),
            windows,
            used_windows,
            records,
        })
    }
}

/// Windows after a warm-up from now on.
fn windows(experiment: &Experiment<'_>, now: Nanos) -> WindowCutter {
    let Pacing { warm_up, window, .. } = experiment.pacing;
    WindowCutter::new(now + Nanos::from_duration(warm_up), Nanos::from_duration(window))
}

/// Inferences per second from `start` to `end`, with a block-bootstrap confidence interval. Without a `rate` of whole
/// executions, all over the whole time.
fn throughput(records: &[Record], rate: Option<f64>, (start, end): (Nanos, Nanos)) -> Estimate {
    let wall = end - start;
    let executions: f64 = records.iter().map(Record::share_of_execution).sum();
    let blocks = (1..=BLOCKS).take_while(|blocks| *blocks as f64 <= executions).count().max(1);
    let block = wall.0.div_ceil(blocks as u64).max(1);
    let mut inferences = vec![0.0; blocks];
    for record in records {
        // Completions lie in (start, end].
        let index = (record.readable - start).0.saturating_sub(1) / block;
        inferences[usize::try_from(index).map_or(blocks - 1, |index| index.min(blocks - 1))] +=
            record.samples as f64;
    }
    let rates: Vec<f64> = inferences.iter().map(|count| count / Nanos(block).as_seconds()).collect();
    let all = || records.iter().map(|record| record.samples as f64).sum::<f64>() / wall.as_seconds();
    let value = rate.unwrap_or_else(all);
    match stats::block_bootstrap_mean(&rates, 0) {
        // The blocks take all of the time, the point estimate whole rounds of each slot.
        Some(Estimate { lower, upper, .. }) => {
            Estimate { value, lower: lower.min(value), upper: upper.max(value) }
        }
        // One execution says nothing of the next.
        None => Estimate { value, lower: 0.0, upper: 2.0 * value },
    }
}

/// Executions behind the records: each record counts its share of its execution.
fn executions_per_inference(records: &[Record]) -> f64 {
    let executions: f64 = records.iter().map(Record::share_of_execution).sum();
    executions / records.iter().map(|record| record.samples as f64).sum::<f64>()
}

/// Device memory of the engine and its executors in bytes, as predicted.
fn device_memory(experiment: &Experiment<'_>) -> Option<u64> {
    let configuration = &experiment.configuration;
    let memory = configuration.memory(experiment.workload.engine.as_ref()).ok().flatten();
    memory.map(|memory| memory.total_bytes(configuration.streams))
}

/// Resident memory of the process in bytes, from Linux's `/proc/self/status`.
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}
