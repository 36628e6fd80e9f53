//! Running one configuration under one load, and measuring it.
//!
//! Two threads besides the pool's: one sends requests at their intended times, the calling thread reads
//! responses, compares them with the reference and cuts them into windows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::time::{ClockId, clock_gettime};

use super::measurement::{Estimate, Failures, Record, StageSummary, Verification};
use super::windows::{STABLE_WINDOWS, WindowCutter};
use super::{Arrival, LatencySummary, Load, Measurement, SampleSet, Stability, Workload, stats};
use crate::backend::{Counters, Observer, SlotId};
use crate::error::{Error, Result};
use crate::pool::{Configuration, ExecutionPool, NoResponse, Order, Producer, Response};
use crate::units::{Clock, Nanos};

/// Share of the time that comparing outputs may take once every slot was compared at least once, so that
/// it does not disturb what is measured.
const VERIFICATION_SHARE: f64 = 0.02;

/// Blocks that the time is cut into for the confidence interval of the throughput. More blocks give a
/// better estimate of the spread, as long as each is longer than what makes neighbours alike (a few
/// executions).
const BLOCKS: usize = 24;

/// Failures without a single success after which a measurement gives up.
const FAILURES_TO_GIVE_UP: u64 = 16;

/// How often a measurement looks whether it was stopped.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Discarded time at the start.
    pub warm_up: Duration,
    /// Shortest length of one measurement window.
    pub window: Duration,
    /// Windows after which it ends even if they do not agree. From three on, three that agree end it.
    pub max_windows: usize,
}

impl Default for Pacing {
    fn default() -> Self {
        Self { warm_up: Duration::from_millis(500), window: Duration::from_secs(1), max_windows: 10 }
    }
}

/// Asks a measurement or a search to end early, from any thread.
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Asks to end.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// One configuration under one load.
pub struct Experiment<'a> {
    /// What runs, where, with which samples.
    pub workload: &'a Workload,
    /// The pool.
    pub configuration: Configuration,
    /// How it is driven.
    pub load: Load,
    /// How long.
    pub pacing: Pacing,
}

impl Experiment<'_> {
    /// Builds the pool, warms it up, measures until the windows agree, and takes it down.
    ///
    /// # Errors
    /// [`Error::WrongResult`] where an output differs from the reference, [`Error::Execution`] where not
    /// a single request succeeded, [`Error::Interrupted`] where `stop` came before the first window was
    /// full, and whatever the backend says where the pool cannot be made.
    pub fn run(&self, stop: &StopSignal) -> Result<Measurement> {
        self.load.check()?;
        let clock = Clock::start();
        let mut pool =
            ExecutionPool::start(Arc::clone(&self.workload.engine), &self.configuration, clock.clone())?;
        let mut observation = Observation::new(self, clock.clone());
        observation.observer = pool.take_observer();
        let (permit, permits) = unbounded();
        let inputs = &self.workload.inputs;
        let sender = Feed { producer: pool.producer(), load: self.load, inputs, clock, permits };
        let observed = std::thread::scope(|scope| {
            let sender = scope.spawn(|| sender.run());
            let observed = observation.run(&pool, permit, &|| sender.is_finished(), stop);
            // Stopping refuses the request that the sender may be waiting with, so it ends.
            let stopped = pool.stop();
            let sent = sender.join().map_err(|_| Error::Bug("the sending thread panicked".to_owned()))?;
            observed.and(stopped).and(sent)
        });
        observed?;
        observation.summarise(self)
    }
}

/// What the sending thread needs.
struct Feed<'a> {
    producer: Producer,
    load: Load,
    inputs: &'a SampleSet,
    clock: Clock,
    /// One message per request that may be sent; disconnected at the end.
    permits: Receiver<()>,
}

impl Feed<'_> {
    /// Sends requests until the measurement ends.
    fn run(&self) -> Result<()> {
        let start = self.clock.now();
        let mut send_times = self.load.send_times(0);
        let mut first_sample = 0;
        loop {
            let intended = match &mut send_times {
                None if self.permits.recv().is_ok() => self.clock.now(),
                Some(times) => {
                    let due = start + times.next().unwrap_or_default();
                    if !self.sleep_until(due) {
                        return Ok(());
                    }
                    due
                }
                None => return Ok(()),
            };
            let mut reservation = match self.producer.reserve(self.load.samples_per_request) {
                Err(Error::Stopped) => return Ok(()),
                // The streams are gone; what they failed with is on its way to the observer.
                Err(Error::NoExecutor { .. }) => return Ok(()),
                other => other?,
            };
            self.inputs.fill(&mut reservation, first_sample);
            reservation.commit_intended(first_sample as u64, intended);
            first_sample = (first_sample + self.load.samples_per_request) % self.inputs.count();
        }
    }

    /// Whether the measurement still runs at that time.
    fn sleep_until(&self, due: Nanos) -> bool {
        let patience = due - self.clock.now();
        !matches!(
            self.permits.recv_timeout(patience.to_duration()),
            Err(crossbeam_channel::RecvTimeoutError::Disconnected)
        )
    }
}

/// What the reading thread has seen so far.
struct Observation<'a> {
    experiment: &'a Experiment<'a>,
    clock: Clock,
    windows: WindowCutter,
    verification: Verification,
    verification_time: Nanos,
    verified_slots: Vec<SlotId>,
    failures: Failures,
    /// CPU time of the process when the first window started.
    cpu_at_start: Option<Nanos>,
    cpu_at_end: Nanos,
    observer: Option<Box<dyn Observer>>,
    counters: Option<Counters>,
}

impl<'a> Observation<'a> {
    fn new(experiment: &'a Experiment<'a>, clock: Clock) -> Self {
        let warm_up = Nanos::from_duration(experiment.pacing.warm_up);
        let window = Nanos::from_duration(experiment.pacing.window);
        Self {
            experiment,
            windows: WindowCutter::new(clock.now() + warm_up, window),
            clock,
            verification: Verification::default(),
            verification_time: Nanos::ZERO,
            verified_slots: Vec::new(),
            failures: Failures::default(),
            cpu_at_start: None,
            cpu_at_end: Nanos::ZERO,
            observer: None,
            counters: None,
        }
    }

    /// Reads responses until the windows agree, there are enough of them, or nothing more is to be had:
    /// somebody stopped it, or all streams are lost.
    fn run(
        &mut self,
        pool: &ExecutionPool,
        permit: Sender<()>,
        sender_is_gone: &dyn Fn() -> bool,
        stop: &StopSignal,
    ) -> Result<()> {
        let mut responses = pool.responses(Order::Completion);
        let is_closed_loop = matches!(self.experiment.load.arrival, Arrival::Concurrency(_));
        if let Arrival::Concurrency(count) = self.experiment.load.arrival {
            // The sender lives as long as we do not drop `permit`.
            for _ in 0..count {
                let _ = permit.send(());
            }
        }
        while !self.is_complete() && !stop.is_requested() {
            match responses.next_within(STOP_CHECK) {
                Ok(response) => self.take(&response)?,
                Err(NoResponse::Yet) if sender_is_gone() => break,
                Err(NoResponse::Yet) => continue,
                Err(NoResponse::Ever) => break,
            }
            if is_closed_loop {
                let _ = permit.send(());
            }
        }
        self.cpu_at_end = process_cpu_time();
        self.counters = self.observer.as_mut().map(|observer| observer.read());
        drop(permit);
        // Whatever still runs is left to the pool's stop.
        Ok(())
    }

    fn is_complete(&self) -> bool {
        let count = self.windows.window_count();
        let is_stable = matches!(self.windows.stability(), Stability::Stable { .. });
        let all_failed = self.failures.count >= FAILURES_TO_GIVE_UP && self.verification.samples == 0;
        count >= self.experiment.pacing.max_windows || (count >= STABLE_WINDOWS && is_stable) || all_failed
    }

    fn take(&mut self, response: &Response) -> Result<()> {
        if let Some(error) = response.error() {
            self.failures.count += 1;
            self.failures.first.get_or_insert_with(|| error.to_string());
            return Ok(());
        }
        self.verify(response)?;
        let record = Record {
            sequence: response.sequence(),
            slot: response.slot(),
            samples: response.samples().len(),
            batch_size: response.batch_size(),
            intended: response.intended(),
            submitted: response.submitted(),
            stages: response.stages(),
            readable: response.readable(),
        };
        self.windows.push(record);
        if self.cpu_at_start.is_none() && self.windows.started().is_some() {
            self.cpu_at_start = Some(process_cpu_time());
            self.observer.iter_mut().for_each(|observer| observer.start());
        }
        Ok(())
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
        let error = self.experiment.workload.reference.check(response, first_sample)?;
        if is_new_slot {
            self.verified_slots.push(response.slot());
        }
        self.verification_time += self.clock.now() - now;
        self.verification.verified_samples += samples;
        self.verification.verified_slots = self.verified_slots.len();
        self.verification.worst_relative_error = self.verification.worst_relative_error.max(error);
        Ok(())
    }

    fn summarise(self, experiment: &Experiment<'_>) -> Result<Measurement> {
        let stability = self.windows.stability();
        let (windows, used_windows, records) = self.windows.finish();
        let mut latencies: Vec<Nanos> = records.iter().map(Record::latency).collect();
        let Some(latency) = LatencySummary::of(&mut latencies) else {
            return Err(match self.failures.first {
                Some(reason) => Error::Execution { stream: 0, slot: 0, reason },
                None => Error::Interrupted,
            });
        };
        let used = &windows[windows.len() - used_windows..];
        let (start, end) = (used[0].start, used[used.len() - 1].end);
        let wall = windows[windows.len() - 1].end - windows[0].start;
        let cpu = self.cpu_at_end - self.cpu_at_start.unwrap_or(self.cpu_at_end);
        Ok(Measurement {
            model: experiment.workload.model.clone(),
            configuration: experiment.configuration,
            load: experiment.load,
            device: experiment.workload.device.clone(),
            stability,
            throughput_inferences_per_s: throughput(&records, start, end),
            executions_per_s: executions(&records) / (end - start).as_seconds(),
            latency,
            stages: stage_summary(&records),
            host_cpu_cores: cpu.as_seconds() / wall.as_seconds(),
            host_memory_bytes: resident_memory(),
            counters: self.counters,
            verification: self.verification,
            failures: self.failures,
            windows,
            used_windows,
            records,
        })
    }
}

/// Inferences per second from `start` to `end`, with a block-bootstrap confidence interval.
fn throughput(records: &[Record], start: Nanos, end: Nanos) -> Estimate {
    let wall = end - start;
    let block = wall.0.div_ceil(BLOCKS as u64).max(1);
    let mut inferences = [0.0; BLOCKS];
    for record in records {
        // Completions lie in (start, end].
        let index = (record.readable - start).0.saturating_sub(1) / block;
        inferences[usize::try_from(index).map_or(BLOCKS - 1, |index| index.min(BLOCKS - 1))] +=
            record.samples as f64;
    }
    let rates: Vec<f64> = inferences.iter().map(|count| count / Nanos(block).as_seconds()).collect();
    let value = records.iter().map(|record| record.samples as f64).sum::<f64>() / wall.as_seconds();
    match stats::block_bootstrap_mean(&rates, 0) {
        // The last block is up to one block-nanosecond short; the point estimate takes the exact time.
        Some(estimate) => Estimate { value, ..estimate },
        None => Estimate { value, lower: value, upper: value },
    }
}

/// Executions behind the records: each record counts its share of its execution.
fn executions(records: &[Record]) -> f64 {
    records.iter().map(|record| record.samples as f64 / record.batch_size as f64).sum()
}

fn stage_summary(records: &[Record]) -> StageSummary {
    let median = |stage: fn(&Record) -> Nanos| {
        let mut times: Vec<Nanos> = records.iter().map(stage).collect();
        times.sort_unstable();
        stats::percentile(&times, 0.5)
    };
    StageSummary {
        enqueue: median(|record| record.stages.enqueue.duration()),
        h2d: median(|record| record.stages.h2d.duration()),
        compute: median(|record| record.stages.compute.duration()),
        d2h: median(|record| record.stages.d2h.duration()),
    }
}

/// CPU time of all threads of the process, user and system.
fn process_cpu_time() -> Nanos {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Nanos(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Resident memory of the process in bytes, from Linux's `/proc/self/status`.
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}
