//! What a measurement is, as plain data: raw records, and everything computed from them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Arrival, FeedSummary, Load, Overlap, stats, took_place};
use crate::backend::{ClockReading, Counters, DeviceSpec, SlotId, StageTimes};
use crate::engine::EngineSource;
use crate::error::{Error, Result};
use crate::model::ModelIdentity;
use crate::pool::Configuration;
use crate::units::Nanos;

/// One request, from the moment it was meant to be sent to the moment its outputs were readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Order of submission, counted from 0 over the whole run, warm-up included.
    pub sequence: u64,
    /// Where it ran.
    pub slot: SlotId,
    /// Samples of this request.
    pub samples: usize,
    /// Samples that the execution computed which it ran in.
    pub batch_size: usize,
    /// Samples of all requests of that execution, where they are fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_samples: Option<usize>,
    /// When it was meant to be sent. In a closed loop that is when it was sent.
    pub intended: Nanos,
    /// When its inputs were complete and it was handed to the pool.
    pub submitted: Nanos,
    /// When each stage of its execution ran.
    pub stages: StageTimes,
    /// When its outputs were readable on the host.
    pub readable: Nanos,
}

impl Record {
    /// Its part of the requests that its execution served, 0 to 1.
    pub fn share_of_execution(&self) -> f64 {
        self.samples as f64 / self.execution_samples.unwrap_or(self.batch_size) as f64
    }

    /// From the intended send time to readable outputs. So a request that could not be sent in time
    /// because the pool was full counts its wait (no coordinated omission).
    pub fn latency(&self) -> Nanos {
        self.readable - self.intended
    }
}

/// A number with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The best guess.
    pub value: f64,
    /// Lower end of the interval.
    pub lower: f64,
    /// Upper end of the interval.
    pub upper: f64,
}

/// Latencies of all requests, nearest-rank percentiles. A percentile that too few records support is
/// `None`: p99 needs 300 records and p99.9 needs 3,000 for a 95 % upper bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// Number of records.
    pub n: usize,
    /// Arithmetic mean.
    #[serde(rename = "mean_ns")]
    pub mean: Nanos,
    /// Median.
    #[serde(rename = "p50_ns")]
    pub p50: Nanos,
    /// 90th percentile.
    #[serde(rename = "p90_ns")]
    pub p90: Nanos,
    /// 95th percentile.
    #[serde(rename = "p95_ns")]
    pub p95: Nanos,
    /// 99th percentile, from 300 records on.
    #[serde(rename = "p99_ns")]
    pub p99: Option<Nanos>,
    /// 99.9th percentile, from 3,000 records on.
    #[serde(rename = "p999_ns")]
    pub p999: Option<Nanos>,
    /// The largest.
    #[serde(rename = "max_ns")]
    pub max: Nanos,
}

/// A submitting thread that spends more than this part of its time enqueueing is the limit or close to it, at least with one more
/// stream: without a graph ResNet-50 has 0.85 on four streams and more, and 0.45 to 0.6 on one (batches 1 and 8, H200).
const LIMITING_ENQUEUE: f64 = 0.5;

/// Median time of each stage of an execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageSummary {
    /// Host time of starting it.
    #[serde(rename = "enqueue_ns")]
    pub enqueue: Nanos,
    /// The part of it that the calls for copies take: next to nothing, unless they wait for their memory.
    #[serde(rename = "copy_calls_ns", default)]
    pub copy_calls: Nanos,
    /// The part of the time of enqueueing, 0 to 1, in which somebody else worked on the submitting thread's core, its other
    /// hyperthread included, so that calls took longer. `None` where they took too little time, or nobody can tell
    /// ([`PoolState::calls`](crate::pool::PoolState::calls)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_core: Option<f64>,
    /// Inputs from host to device.
    #[serde(rename = "h2d_ns")]
    pub h2d: Nanos,
    /// The network.
    #[serde(rename = "compute_ns")]
    pub compute: Nanos,
    /// Outputs from device to host.
    #[serde(rename = "d2h_ns")]
    pub d2h: Nanos,
}

impl StageSummary {
    /// The part of the time, 0 to 1, that each of so many submitting threads spends enqueueing at this rate.
    pub fn enqueueing_share(&self, executions_per_s: f64, submitters: usize) -> f64 {
        (executions_per_s * self.enqueue.as_seconds() / submitters as f64).min(1.0)
    }

    /// [`shared_core`](Self::shared_core), where enqueueing is most of what submitting threads do, so that throughput suffers.
    pub fn limiting_company(&self, executions_per_s: f64, submitters: usize) -> Option<f64> {
        let is_limiting = self.enqueueing_share(executions_per_s, submitters) >= LIMITING_ENQUEUE;
        self.shared_core.filter(|_| is_limiting)
    }

    /// Of these records. What stages take on the device comes from those that tell it; where none does it is 0.
    pub(super) fn of(records: &[Record]) -> Self {
        let median = |records: &mut dyn Iterator<Item = &Record>, time: fn(&Record) -> Nanos| {
            let mut times: Vec<Nanos> = records.map(time).collect();
            times.sort_unstable();
            if times.is_empty() { Nanos::ZERO } else { stats::percentile(&times, 0.5) }
        };
        let of_all = |time| median(&mut records.iter(), time);
        let tells = |record: &&Record| took_place(record.stages.compute);
        let of_timed = |time| median(&mut records.iter().filter(tells), time);
        Self {
            enqueue: of_all(|record| record.stages.enqueue.duration()),
            copy_calls: of_all(|record| record.stages.copy_calls),
            shared_core: None,
            h2d: of_timed(|record| record.stages.h2d.duration()),
            compute: of_timed(|record| record.stages.compute.duration()),
            d2h: of_timed(|record| record.stages.d2h.duration()),
        }
    }
}

/// One measurement window: requests that became readable in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// When it started.
    #[serde(rename = "start_ns")]
    pub start: Nanos,
    /// When it ended.
    #[serde(rename = "end_ns")]
    pub end: Nanos,
    /// Samples whose outputs became readable in it.
    pub inferences: u64,
    /// Mean latency of its requests.
    #[serde(rename = "mean_latency_ns")]
    pub mean_latency: Nanos,
}

impl Window {
    /// Inferences per second.
    pub fn throughput(&self) -> f64 {
        let seconds = (self.end - self.start).as_seconds();
        if seconds > 0.0 { self.inferences as f64 / seconds } else { 0.0 }
    }
}

/// Whether a measurement may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stability {
    /// The last windows agree within the limit, in throughput and in latency.
    Stable {
        /// Largest over smallest throughput of the windows that were used.
        throughput_spread: f64,
        /// Largest over smallest mean latency of them.
        latency_spread: f64,
    },
    /// They never did; all windows were used.
    Unstable {
        /// Largest over smallest throughput of the last windows.
        throughput_spread: f64,
        /// Largest over smallest mean latency of them.
        latency_spread: f64,
    },
    /// There were fewer windows than a verdict needs.
    TooShort,
}

/// How outputs compared with the single-stream reference. A difference above the tolerance is not in
/// here: it is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Samples whose outputs were compared.
    pub verified_samples: u64,
    /// Samples that ran, warm-up included.
    pub samples: u64,
    /// Slots that had at least one output compared.
    pub verified_slots: usize,
    /// Largest relative error seen: max |a - b| over max |b|, per tensor.
    pub worst_relative_error: f64,
    /// How far one stream at this batch size is from one sample alone, likewise, where outputs differed from those of
    /// a sample alone; they are then compared with the former.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_difference: Option<f64>,
}

/// The result of running one configuration under one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Which network.
    pub model: ModelIdentity,
    /// What it takes to have its engine again; `None` where nobody knows, and in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineSource>,
    /// What was run.
    pub configuration: Configuration,
    /// How it was driven.
    pub load: Load,
    /// How its inputs got into the slots; `None` in virtual time, where they get there in no time.
    #[serde(default)]
    pub feed: Option<FeedSummary>,
    /// Where it ran.
    pub device: DeviceSpec,
    /// Whether the numbers below may be trusted.
    pub stability: Stability,
    /// Inferences (samples) per second over the windows that were used.
    pub throughput_inferences_per_s: Estimate,
    /// Executions per second over the same time; what trtexec calls qps.
    pub executions_per_s: f64,
    /// From the intended send time to readable outputs.
    pub latency: LatencySummary,
    /// Median times of the stages.
    pub stages: StageSummary,
    /// Part of the executors' time, 0 to 1, in which they had nothing to run for want of input, over all windows. `None`
    /// where nobody counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starved_share: Option<f64>,
    /// How much of the stages ran at the same time; `None` where none has a length, or where times were taken of some
    /// executions only.
    #[serde(default)]
    pub overlap: Option<Overlap>,
    /// CPU time of the whole process per second of wall time: 1.0 is one core busy.
    pub host_cpu_cores: f64,
    /// How often a thread of the process left its core for each execution, because it waited or because another one had
    /// its turn; `None` where nobody counts.
    #[serde(default)]
    pub context_switches_per_execution: Option<f64>,
    /// Resident memory of the whole process at the end, in bytes, where the system tells.
    pub host_memory_bytes: Option<u64>,
    /// Device memory of the engine and its executors as predicted, in bytes; `None` where the device has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_memory_bytes: Option<u64>,
    /// What the device said about itself from the first window on, or from a little later where its counters lag behind, with
    /// the reasons of each window's throttling; `None` where it says nothing.
    #[serde(default)]
    pub counters: Option<Counters>,
    /// The clock at the end of each window, in the order of `windows`; empty where nobody tells it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clocks: Vec<ClockReading>,
    /// How outputs compared with the reference.
    pub verification: Verification,
    /// Requests that failed, with the first error's text.
    pub failures: Failures,
    /// What was done otherwise than asked, in whole sentences: fewer streams, no graph, an early end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Streams that did otherwise than asked, in ascending order; the remarks say what. Where there are any, the
    /// measurement is none of this configuration.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub deviating_streams: BTreeSet<usize>,
    /// Nanoseconds since 1970 at time zero of windows and records; `None` in virtual time.
    #[serde(default, rename = "unix_start_ns")]
    pub unix_start: Option<Nanos>,
    /// All windows after the warm-up; the last `used_windows` of them count.
    pub windows: Vec<Window>,
    /// How many of the last windows the numbers above come from.
    pub used_windows: usize,
    /// Raw records of the used windows, in the order in which they became readable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<Record>,
}

impl Measurement {
    /// What a stream did otherwise than asked, without a full stop; `None` where all did as they were asked.
    pub fn deviation(&self) -> Option<&str> {
        let remark = self.remarks.first().map_or("no reason given", |remark| remark.trim_end_matches('.'));
        (!self.deviating_streams.is_empty()).then_some(remark)
    }

    /// The part of an open loop's requests that were answered, 0 to 1; `None` for a closed loop.
    pub fn served_share(&self) -> Option<f64> {
        let (Arrival::ConstantRate(rate) | Arrival::PoissonRate(rate)) = self.load.arrival else {
            return None;
        };
        let offered = rate * self.load.samples_per_request as f64;
        Some((self.throughput_inferences_per_s.value / offered).min(1.0))
    }

    /// That part, where requests come faster than they are answered, so that latencies grow for as long as they do. The
    /// number of requests that come in a time is known to its square root; what is missing is more than three of these.
    pub fn overload(&self) -> Option<f64> {
        let by_chance = 3.0 / (self.latency.n.max(1) as f64).sqrt();
        self.served_share().filter(|served| served + by_chance < 0.99)
    }

    /// Refuses a measurement in which requests failed, or streams were lost: it counts what was left of the load.
    ///
    /// # Errors
    /// [`Error::StreamsLost`], [`Error::RequestsFailed`].
    pub fn check_requests(&self) -> Result<()> {
        self.check_streams()?;
        self.failures.requests_failed().map_or(Ok(()), Err)
    }

    /// Refuses a measurement of something else than was asked for.
    ///
    /// # Errors
    /// [`Error::Deviated`].
    pub fn check_as_asked(&self) -> Result<()> {
        let deviated = |deviation: &str| Err(Error::Deviated { deviation: deviation.to_owned() });
        self.deviation().map_or(Ok(()), deviated)
    }

    /// Refuses a measurement in which streams were lost: it is worth showing, but it is none of what was asked for.
    ///
    /// # Errors
    /// [`Error::StreamsLost`].
    pub fn check_streams(&self) -> Result<()> {
        self.failures.streams_lost(self.configuration.streams).map_or(Ok(()), Err)
    }
}

/// Requests that failed in a measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// How many.
    pub count: u64,
    /// Text of the first.
    pub first: Option<String>,
    /// Streams that failed for good, in ascending order. Where there are any, the measurement is none of the whole
    /// configuration.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lost_streams: BTreeSet<usize>,
    /// Whether one of them was lost with the device, so that only a new process can go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_lost_device: bool,
}

impl Failures {
    /// The error of requests that failed, where there are any.
    pub(super) fn requests_failed(&self) -> Option<Error> {
        (self.count > 0).then(|| Error::RequestsFailed { count: self.count, first: self.reason() })
    }

    /// The error of streams that failed for good, where there are any of these `streams`.
    pub(super) fn streams_lost(&self, streams: usize) -> Option<Error> {
        let lost = self.lost_streams.len();
        let with_device = self.has_lost_device;
        (lost > 0).then(|| Error::StreamsLost { lost, streams, first: self.reason(), with_device })
    }

    fn reason(&self) -> String {
        self.first.clone().unwrap_or_else(|| "no reason given".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Span;

    #[test]
    fn company_on_a_core_counts_where_enqueueing_is_the_limit() {
        let stages =
            StageSummary { enqueue: Nanos(300_000), shared_core: Some(0.5), ..StageSummary::default() };
        assert!((stages.enqueueing_share(3_000.0, 1) - 0.9).abs() < 1e-12);
        assert_eq!(stages.limiting_company(3_000.0, 1), Some(0.5));
        assert_eq!((stages.limiting_company(3_000.0, 2), stages.limiting_company(1_000.0, 1)), (None, None));
        assert_eq!(StageSummary { shared_core: None, ..stages }.limiting_company(3_000.0, 1), None);
    }

    #[test]
    fn the_medians_of_stages_are_of_those_executions_that_tell_them() {
        let span = |length| Span { start: Nanos(100), end: Nanos(100 + length) };
        let record = |enqueue, compute: Option<u64>| Record {
            sequence: 0,
            slot: SlotId { executor: 0, index: 0 },
            samples: 1,
            batch_size: 1,
            execution_samples: None,
            intended: Nanos::ZERO,
            submitted: Nanos::ZERO,
            stages: StageTimes {
                enqueue: span(enqueue),
                compute: compute.map(span).unwrap_or_default(),
                ..StageTimes::default()
            },
            readable: Nanos(1_000),
        };
        let records = [record(1, None), record(2, Some(30)), record(3, None), record(4, None)];
        let medians = StageSummary::of(&records);
        assert_eq!((medians.enqueue, medians.compute, medians.h2d), (Nanos(2), Nanos(30), Nanos::ZERO));
        assert_eq!(StageSummary::of(&records[..1]).compute, Nanos::ZERO);
    }
}
