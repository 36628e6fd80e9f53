//! From evidence to a verdict: which limit holds the throughput back, and how sure that is.
//!
//! In: [`Evidence`] and the configuration that it is of. Out: a [`Judgement`]. Pure functions; nothing is run. The rule
//! is one sentence: the limit that would gain most if it were twice as far away names the verdict, and where none
//! would gain much the workload is healthy. How the gains come about is the business of [`limits`](super::limits).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::limits::{Limit, Limits, Order};
use super::{Evidence, Knob, PROBE, Quantity, Reading, Remedy};
use crate::backend::CudaGraph;
use crate::capacity::COPY_CALLS;
use crate::measure::Estimate;
use crate::pool::Configuration;

/// Below this gain nothing is worth naming: twice of anything would give less than a tenth. It is also about what the
/// choice of configuration leaves on the table when nobody tunes it further.
pub const HEALTHY_GAIN: f64 = 1.1;

/// Gains whose throughputs differ by less than this are the same: two measurements of one configuration differ by as
/// much.
const SAME_GAIN: f64 = 0.03;

/// A second limit whose gain is within this part of the first one's is a finding of its own: both hold it back. Chosen,
/// not fitted: a first gain of 1.5 names a second one from 1.3 on. No verdict rests on it.
const ALSO_LIMITS: f64 = 0.6;

/// From this gap between the two largest gains on the first one stands alone: five times what measurements of one
/// configuration differ by ([`SAME_GAIN`]).
const CLEAR_GAP: f64 = 0.15;

/// A largest gain that is so far below [`HEALTHY_GAIN`] is surely healthy. Nothing below it can be as far as the gap above.
const CLEARLY_HEALTHY: f64 = 0.05;

/// From this gain on two limits at once are worth naming where neither is alone: well above what both would add up to if
/// each gained as much as a healthy workload may.
const WORTH_BOTH: f64 = 1.0 + 3.0 * (HEALTHY_GAIN - 1.0);

/// A clock below this part of the highest is worth saying, whatever the verdict: 0.5 % is what it wanders by itself.
const FULL_CLOCK: f64 = 0.995;

/// SMs that hold warps while their tensor pipes are busy for less than this part of that time compute little: a
/// matrix product of full tiles reaches above 0.7, ResNet-50 at batch 128 has 0.4 (H100, TensorRT 8.6).
const IDLE_PIPES: f64 = 0.4;

/// From this fill on that is worth saying: emptier SMs are their own explanation.
const BUSY_SMS: f64 = 0.7;

/// What limits a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The SMs, or their tensor pipes, are full; on a CPU the cores.
    ComputeBound,
    /// DRAM is full.
    MemoryBound,
    /// A copy engine, or the bus, is full.
    TransferBound,
    /// The submitting threads, or the lock of the driver, are busy all the time.
    EnqueueBound,
    /// Nothing is full: too little work is on the device at once.
    Underfilled,
    /// Streams wait for the host between executions.
    SynchronisationBound,
    /// There is nothing to run.
    InputStarved,
    /// Clocks are held back.
    Throttled,
    /// No single thing would help much: it runs close to several limits at once.
    Healthy,
}

impl Verdict {
    /// All of them, in the order of a table.
    pub const ALL: [Self; 9] = [
        Self::ComputeBound,
        Self::MemoryBound,
        Self::TransferBound,
        Self::EnqueueBound,
        Self::Underfilled,
        Self::SynchronisationBound,
        Self::InputStarved,
        Self::Throttled,
        Self::Healthy,
    ];

    /// The verdict where this limit is the one.
    pub fn of(limit: Limit) -> Self {
        match limit {
            Limit::Input => Self::InputStarved,
            Limit::Submission => Self::EnqueueBound,
            Limit::Copies => Self::TransferBound,
            Limit::Clock => Self::Throttled,
            Limit::Barriers | Limit::Slots => Self::SynchronisationBound,
            Limit::Dram => Self::MemoryBound,
            Limit::Sms => Self::ComputeBound,
            Limit::Streams => Self::Underfilled,
        }
    }
}

/// As in JSON: `compute-bound`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ComputeBound => "compute-bound",
            Self::MemoryBound => "memory-bound",
            Self::TransferBound => "transfer-bound",
            Self::EnqueueBound => "enqueue-bound",
            Self::Underfilled => "underfilled",
            Self::SynchronisationBound => "synchronisation-bound",
            Self::InputStarved => "input-starved",
            Self::Throttled => "throttled",
            Self::Healthy => "healthy",
        })
    }
}

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// What would tell it from another one is missing.
    Low,
    /// Another limit is nearly as close.
    Medium,
    /// One limit stands alone, and everything that matters was measured, how full the device is among it.
    High,
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        })
    }
}

/// How close one limit is, and what moving it would give.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitReading {
    /// Which limit.
    pub limit: Limit,
    /// Throughput over what it allows, 0..1.
    pub pressure: f64,
    /// Throughput with the limit twice as far away over the throughput as it is.
    pub gain_if_doubled: f64,
}

/// What the rules make of evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// What limits the workload.
    pub verdict: Verdict,
    /// How sure that is.
    pub confidence: Confidence,
    /// All limits, the one that would gain most first.
    pub limits: Vec<LimitReading>,
    /// What else there is to say, in whole sentences.
    pub findings: Vec<String>,
    /// What the verdict would need and nobody could measure, in whole sentences.
    pub missing: Vec<String>,
}

/// Judges a configuration by what was seen of it.
pub fn judge(evidence: &Evidence, configuration: &Configuration) -> Judgement {
    let known = Limits::of(evidence, configuration);
    let mut limits: Vec<LimitReading> = Limit::ALL
        .into_iter()
        .map(|limit| LimitReading {
            limit,
            pressure: known.pressure(limit),
            gain_if_doubled: known.gain(limit),
        })
        .collect();
    let ahead = limits.iter().max_by(|a, b| a.gain_if_doubled.total_cmp(&b.gain_if_doubled));
    let ahead = *ahead.expect("bug: there is a list of limits");
    let most = ahead.gain_if_doubled.max(1.0);
    let is_first = |it: &LimitReading| {
        it.gain_if_doubled >= most
            || it.gain_if_doubled > most * (1.0 - SAME_GAIN) && ahead.limit.follows_from(it.limit)
    };
    let first = limits.iter().position(is_first).unwrap_or(0);
    let first = limits.remove(first);
    limits.sort_by(|a, b| b.gain_if_doubled.total_cmp(&a.gain_if_doubled));
    limits.insert(0, first);
    let verdict = if most < HEALTHY_GAIN { Verdict::Healthy } else { Verdict::of(first.limit) };
    let missing = missing(evidence, verdict);
    Judgement {
        verdict,
        confidence: confidence(&limits, verdict, !missing.is_empty()).min(most_confidence(evidence)),
        findings: findings(&known, evidence, verdict, &limits),
        limits,
        missing,
    }
}

/// Part of a verdict's gain that its own remedies have to show when they are tried. Chosen, not fitted: a remedy is not the
/// doubling that the gain is of, and meets the next limit as it works, so that a part of the gain is enough.
const CONFIRMS: f64 = 0.25;

/// What twice the streams gained, where counters see half of the device at work, the verdict promises that they gain much
/// and they did not: kernels of which each fills half of the SMs may still find no room beside each other. Where less is at
/// work something else holds them back.
pub(super) fn no_more_fits(
    judgement: &Judgement,
    evidence: &Evidence,
    remedies: &[Remedy],
) -> Option<Estimate> {
    if judgement.verdict != Verdict::Underfilled || evidence.value(Quantity::DeviceFill)? < MAY_BE_FULL {
        return None;
    }
    let streams = remedies.iter().find(|remedy| remedy.knob == Knob::Streams)?;
    streams.ratio().filter(|ratio| !confirms(judgement, ratio.upper))
}

/// Whether what came of a remedy is as much as its verdict promises.
fn confirms(judgement: &Judgement, ratio: f64) -> bool {
    ratio - 1.0 >= CONFIRMS * (judgement.limits[0].gain_if_doubled - 1.0)
}

/// Holds a verdict against what came of trying the remedies that it calls for.
pub fn weigh(judgement: &mut Judgement, remedies: &[Remedy]) {
    let levers: &[Knob] = match judgement.verdict {
        Verdict::Underfilled => &[Knob::Streams, Knob::Batch],
        Verdict::EnqueueBound => &[Knob::CudaGraph, Knob::Batch, Knob::Submitters],
        Verdict::SynchronisationBound if judgement.limits[0].limit == Limit::Slots => {
            &[Knob::Depth, Knob::Streams]
        }
        Verdict::InputStarved => &[Knob::Feed, Knob::Load],
        Verdict::TransferBound => &[Knob::InputType],
        // No knob moves these limits: a lower precision is no larger device, and may find no faster kernels.
        Verdict::ComputeBound
        | Verdict::MemoryBound
        | Verdict::SynchronisationBound
        | Verdict::Throttled
        | Verdict::Healthy => &[],
    };
    let called_for = remedies.iter().filter(|remedy| levers.contains(&remedy.knob));
    let best = called_for.filter_map(Remedy::ratio).map(|ratio| ratio.upper).reduce(f64::max);
    if best.is_some_and(|best| !confirms(judgement, best)) {
        judgement.confidence = Confidence::Low;
        judgement.findings.push("what this verdict calls for was tried and hardly helped".to_owned());
    }
}

fn confidence(limits: &[LimitReading], verdict: Verdict, lacks_evidence: bool) -> Confidence {
    let gap = match verdict {
        Verdict::Healthy => HEALTHY_GAIN - limits[0].gain_if_doubled,
        _ => limits[0].gain_if_doubled - limits[1].gain_if_doubled,
    };
    match (lacks_evidence, verdict, gap) {
        (true, ..) => Confidence::Low,
        (_, Verdict::Healthy, gap) if gap >= CLEARLY_HEALTHY => Confidence::High,
        (_, _, gap) if gap >= CLEAR_GAP => Confidence::High,
        _ => Confidence::Medium,
    }
}

/// From this share of SMs with any warp on a device may be full: kernels that want more than half of the SMs each find no
/// room beside each other.
const MAY_BE_FULL: f64 = 0.5;

/// A device with any kernel on it for this share of the time may be what holds executions up: one that is twice as large
/// would save an eighth of the time, which is about [`HEALTHY_GAIN`].
const MAY_HOLD_UP: f64 = 0.25;

/// Where no counter tells how full a device is that computes much of the time, it may be a limit that nobody sees beside
/// the one that is named: then no verdict stands alone. A probe tells it only on average.
fn most_confidence(evidence: &Evidence) -> Confidence {
    let fill = evidence.reading(Quantity::DeviceFill);
    let is_counted = |fill: &Reading| fill.value.is_some() && !fill.source.starts_with(PROBE);
    let product = || Some(evidence.value(Quantity::Executions)? * evidence.value(Quantity::ComputeTime)?);
    let computing = evidence.value(Quantity::DeviceComputing).or_else(product);
    let may_hold_up = computing.is_none_or(|share| share >= MAY_HOLD_UP);
    if may_hold_up && !fill.is_none_or(is_counted) { Confidence::Medium } else { Confidence::High }
}

/// What could turn the verdict into another one and is not known.
fn missing(evidence: &Evidence, verdict: Verdict) -> Vec<String> {
    let fill = (Quantity::DeviceFill, "how full the device is is not known");
    let dram = (Quantity::DramFill, "how busy DRAM is is not known, and kernels may wait for it");
    let times = (Quantity::StreamsComputing, "how long the streams computed is not known");
    let needed: &[(Quantity, &str)] = match verdict {
        Verdict::ComputeBound | Verdict::Healthy | Verdict::Throttled => &[fill, dram, times],
        Verdict::MemoryBound | Verdict::Underfilled => &[fill, times],
        Verdict::TransferBound
        | Verdict::EnqueueBound
        | Verdict::SynchronisationBound
        | Verdict::InputStarved => &[],
    };
    let lacks = |(quantity, text): &(Quantity, &str)| {
        let reading = evidence.reading(*quantity).filter(|reading| reading.value.is_none())?;
        Some(format!("{text}: {}", reading.source))
    };
    needed.iter().filter_map(lacks).collect()
}

fn findings(known: &Limits, evidence: &Evidence, verdict: Verdict, limits: &[LimitReading]) -> Vec<String> {
    let mut findings = other_limits(verdict, limits);
    findings.extend(held_together(known, evidence, verdict, limits));
    findings.extend(held_clock(evidence));
    findings.extend(waits_between(evidence));
    findings.extend(blocking_copies(evidence));
    findings.extend(nothing_to_run(evidence, verdict));
    findings.extend(idle_pipes(evidence));
    findings.extend(roofline(evidence));
    findings.extend(hint_of_nvidia_smi(evidence));
    findings.extend(hint_of_trtexec(evidence, verdict));
    findings
}

/// Limits that are in each other's way: neither is worth moving alone, and both are, since the device has room for more.
fn held_together(
    known: &Limits,
    evidence: &Evidence,
    verdict: Verdict,
    limits: &[LimitReading],
) -> Option<String> {
    let fill = evidence.value(Quantity::DeviceFill).filter(|fill| *fill < MAY_BE_FULL)?;
    let [first, second, ..] = limits else { return None };
    let gain = known.gain_of_all(&[first.limit, second.limit]);
    (verdict == Verdict::Healthy && gain >= WORTH_BOTH).then(|| {
        format!(
            "nothing is worth moving alone, but {} and {} hold it back together: both twice as far away would give {gain:.2} \
             times, and the device is {:.0} % full",
            first.limit,
            second.limit,
            100.0 * fill
        )
    })
}

fn other_limits(verdict: Verdict, limits: &[LimitReading]) -> Vec<String> {
    if verdict == Verdict::Healthy {
        return Vec::new();
    }
    let least = (1.0 + ALSO_LIMITS * (limits[0].gain_if_doubled - 1.0)).max(HEALTHY_GAIN);
    let others = limits.iter().skip(1).filter(|also| also.gain_if_doubled >= least);
    others.map(|also| format!("it is {} as well", Verdict::of(also.limit))).collect()
}

fn held_clock(evidence: &Evidence) -> Option<String> {
    let clock = evidence.value(Quantity::ClockShare).filter(|clock| *clock < FULL_CLOCK)?;
    let reasons = match evidence.throttle_reasons.as_slice() {
        [] => "no reason given".to_owned(),
        reasons => reasons.join(", "),
    };
    Some(format!("the SM clock is {:.1} % below its highest ({reasons})", 100.0 * (1.0 - clock)))
}

/// Who lets executions wait for each other.
fn waits_between(evidence: &Evidence) -> Option<String> {
    let share = |quantity| 100.0 * evidence.value(quantity).unwrap_or(0.0);
    match Order::of(evidence) {
        Order::Free => None,
        Order::ByHost => Some(format!(
            "for {:.0} % of the time an execution is ready, free to run beside the one on the device, and not enqueued: \
             the submitting thread waits for each before it starts the next",
            share(Quantity::HeldByHost)
        )),
        Order::OnDevice => Some(format!(
            "for {:.0} % of the time an execution is enqueued, free to run beside the one on the device, and waits: \
             streams wait for each other, as they do on CUDA's default stream",
            share(Quantity::HeldOnDevice)
        )),
    }
}

/// Calls for copies that take as long as the copies: memory that is page-locked is copied after the call.
fn blocking_copies(evidence: &Evidence) -> Option<String> {
    let calls = evidence.value(Quantity::CopyCallTime).filter(|calls| *calls > COPY_CALLS)?;
    let copies = evidence.value(Quantity::H2dTime)? + evidence.value(Quantity::D2hTime)?;
    (calls >= BLOCKING * copies).then(|| {
        format!(
            "copies hold the submitting thread up for {:.2} ms of each execution: the host's buffers are not page-locked",
            1e3 * calls
        )
    })
}

/// Part of the copies' time from which on the calls for them wait for them: page-locked memory takes some microseconds a
/// call, whatever the size; ordinary memory as long as the copy.
const BLOCKING: f64 = 0.5;

/// What kernels that were recorded one by one, at this part of the throughput, say whatever the verdict: they come when it
/// is made.
pub(super) fn kernel_findings(evidence: &Evidence, configuration: &Configuration, pace: f64) -> Vec<String> {
    let percent = |quantity, counts: &dyn Fn(f64) -> bool| {
        evidence.value(quantity).filter(|value| counts(*value)).map(|value| format!("{:.0} %", 100.0 * value))
    };
    let small = percent(Quantity::GridFill, &|fill| fill < FILLED_GRIDS).map(|fill| {
        format!(
            "kernels deal out their blocks so that {fill} of the SMs' time is used: where there are fewer blocks than SMs, or \
             a few more than as many for each, SMs idle, and a larger batch makes it less uneven"
        )
    });
    // Recording makes each launch longer, and what that costs is no gap of the program's own.
    let late = percent(Quantity::LaunchGaps, &|share| share >= LATE_LAUNCHES + (1.0 - pace).max(0.0));
    let launches = evidence.value(Quantity::SubmitterBusy).is_some_and(|busy| busy >= BUSY_LAUNCHING);
    let late = late.filter(|_| launches && configuration.cuda_graph == CudaGraph::Off).map(|share| {
        format!(
            "while recorded, streams wait for {share} of their time for the next kernel to be launched: a CUDA graph launches \
             all of an execution at once"
        )
    });
    let pageable = percent(Quantity::PageableCopies, &|share| share > 0.0).map(|share| {
        format!("{share} of the bytes between host and device go through memory that is not page-locked")
    });
    small.into_iter().chain(late).chain(pageable).collect()
}

/// Grids that use less of the SMs' time than this leave room for another kernel: one with a last round that is half empty
/// has 0.75 where it takes two of them.
const FILLED_GRIDS: f64 = 0.7;

/// Waiting for launches is worth a word from here on: the gaps between executions alone take some per cent.
const LATE_LAUNCHES: f64 = 0.1;

/// A thread that is launching for less of the time than this has nothing to launch, and a graph would not help: ResNet-50 at
/// batch 1 has 0.55 without a graph and 0.12 with one (H200, scripts/gpu/kernels.py).
const BUSY_LAUNCHING: f64 = 0.5;

/// Streams that idle because nobody has sent anything.
fn nothing_to_run(evidence: &Evidence, verdict: Verdict) -> Option<String> {
    let empty = evidence.value(Quantity::PoolEmpty).filter(|empty| *empty >= LEAST_EMPTY)?;
    (verdict == Verdict::InputStarved).then(|| {
        format!("the pool has no request in {:.0} % of the time, while the device idles", 100.0 * empty)
    })
}

/// An empty pool is worth a word from here on: that much of the throughput is lost to it at least.
const LEAST_EMPTY: f64 = 0.05;

fn idle_pipes(evidence: &Evidence) -> Option<String> {
    let fill = evidence.value(Quantity::DeviceFill).filter(|fill| *fill >= BUSY_SMS)?;
    let tensor = evidence.value(Quantity::TensorActivity).filter(|tensor| *tensor < IDLE_PIPES * fill)?;
    Some(format!(
        "the SMs hold work in {:.0} % of the time, their tensor pipes compute in {:.0} %: kernels are small or wait for \
         memory, so a larger batch may use them better",
        100.0 * fill,
        100.0 * tensor
    ))
}

/// Where no counter tells how full the device is, what the model's arithmetic and traffic ask of it.
fn roofline(evidence: &Evidence) -> Option<String> {
    let is_counted = |quantity| evidence.value(quantity).is_some();
    if is_counted(Quantity::DramFill) {
        return None;
    }
    let arithmetic = evidence.value(Quantity::PaperArithmetic)?;
    let traffic = evidence.value(Quantity::PaperTraffic)?;
    let (more, most) = if arithmetic > traffic { ("arithmetic", arithmetic) } else { ("DRAM", traffic) };
    Some(format!(
        "no counter tells what the device does; by the model's cost it needs {:.0} % of the peak arithmetic and {:.0} % \
         of the DRAM bandwidth, so of these two {more} comes first, {}",
        100.0 * arithmetic,
        100.0 * traffic,
        if most >= NEAR_ROOF { "and it is near" } else { "and it is far away" }
    ))
}

/// Large kernels reach about half of the peak of a data sheet (ResNet-50 FP16 on an H100: 0.28 over all its layers, 0.45
/// in its large ones), and copies 0.84 of the bandwidth.
const NEAR_ROOF: f64 = 0.4;

/// `nvidia-smi` shows the share of the time in which any kernel or copy ran: 100 % for a loop of products and for a loop
/// of copies to the device alike (H100, driver 580).
fn hint_of_nvidia_smi(evidence: &Evidence) -> Option<String> {
    // The cores of a CPU have no such figure; only a GPU counts its tensor pipes.
    evidence.value(Quantity::TensorActivity)?;
    let busy = [Quantity::DeviceComputing, Quantity::H2dBusy, Quantity::D2hBusy];
    let shown = busy.into_iter().filter_map(|it| evidence.value(it)).fold(0.0, f64::max);
    let fill = evidence.value(Quantity::DeviceFill)?;
    (shown >= LOOKS_BUSY && fill < HALF_EMPTY).then(|| {
        format!(
            "nvidia-smi would show about {:.0} % utilisation, though only {:.0} % of the SMs hold work: it counts the \
             time with any kernel or copy",
            100.0 * shown,
            100.0 * fill
        )
    })
}

/// From here on a figure of utilisation looks as if nothing more were to be had ...
const LOOKS_BUSY: f64 = 0.8;
/// ... and below this fill more than twice as much is.
const HALF_EMPTY: f64 = 0.4;

/// Where `trtexec` would say something else, or nothing.
fn hint_of_trtexec(evidence: &Evidence, verdict: Verdict) -> Option<String> {
    let is_in_its_rules = matches!(verdict, Verdict::EnqueueBound | Verdict::TransferBound);
    let said = trtexec_verdict(evidence);
    if said == Some(verdict) || (said.is_none() && !is_in_its_rules) {
        return None;
    }
    let said = said.map_or("would not say so".to_owned(), |said| format!("would call it {said}"));
    Some(format!("trtexec {said}: it compares the medians of one execution, not how busy each part is"))
}

/// Enqueue time over compute time from which on `trtexec` warns (`kENQUEUE_BOUND_REPORTING_THRESHOLD` in
/// NVIDIA/TensorRT, samples/common/sampleReporting.cpp).
const TRTEXEC_ENQUEUE: f64 = 0.8;

/// What `trtexec` would print of the same times, by the rules of its `printEpilog`; `None` where it prints nothing.
pub fn trtexec_verdict(evidence: &Evidence) -> Option<Verdict> {
    let time = |quantity| evidence.value(quantity).unwrap_or(0.0);
    let compute = evidence.value(Quantity::ComputeTime)?;
    let copies = time(Quantity::H2dTime).max(time(Quantity::D2hTime));
    let is_enqueue_bound = time(Quantity::EnqueueTime) > TRTEXEC_ENQUEUE * compute;
    is_enqueue_bound
        .then_some(Verdict::EnqueueBound)
        .or((copies >= compute).then_some(Verdict::TransferBound))
}

#[cfg(test)]
mod tests;
