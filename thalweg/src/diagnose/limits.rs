//! How much of each limit a workload uses, and what it would gain if one of them were twice as far away.
//!
//! In: [`Evidence`] of one configuration. Out: a [`Limit`] for everything that can hold the throughput back. Each
//! limit is a bound of the operational analysis (see [`capacity`](crate::capacity)): the throughput over the bound is
//! its *pressure*, 1 where it is reached. Near a bound throughput bends before it gets there, since queues form, so
//! the model is a soft minimum of all bounds, and a gain is the model with one bound moved over the model as it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Evidence, HEALTHY_GAIN, Quantity};
use crate::backend::CudaGraph;
use crate::capacity::held_by_copies;
use crate::measure::Estimate;
use crate::pool::Configuration;

/// Exponent of the soft minimum: at 16 two bounds of the same height cost 4 % of the throughput. Stages of one engine
/// hardly differ from execution to execution, so queues are short: random times (mean value analysis) would cost a
/// seventh with six executions under way. This and the next three were fitted to simulated cases that the suite marks
/// for it; none of them is sharp, half or twice as much costs a few per cent of accuracy.
const SHARPNESS: f64 = 16.0;

/// How fast kernels get with a device of twice the size, as a power of how full it is on average: fill 0.9 means that
/// most of the time it was full, fill 0.5 that kernels hardly ever were.
const ELASTICITY: f64 = 4.0;

/// How much of the SMs' fill is waiting for DRAM, as a power of how full that is: an SM that waits counts as busy.
const DRAM_WAIT: f64 = 6.0;

/// What kernels that waited to be launched gain when launching takes half as long, as a part of their time. At 0.5 they
/// would have done nothing but wait.
const LATE_KERNELS: f64 = 0.3;

/// Kernel times from this many launch times on do not wait for being launched, and down to ...
const LAUNCHED_AHEAD: f64 = 1.5;
/// ... this many they do.
const LAUNCHED_LATE: f64 = 1.1;

/// What company costs even on an empty device, as a part of the time alone: the usual one of
/// [`capacity`](crate::capacity), which ResNet-50 on an H100 has.
const DISTURBANCE: f64 = 0.5;

/// What a CUDA graph leaves of the time of submitting: some tens of microseconds where ResNet-50 takes 0.48 to 0.85 ms
/// without (TensorRT 8.6 on an H100), ...
const GRAPH_LEAVES: f64 = 0.1;
/// ... and no more than this, in seconds, however many kernels it has: 20 to 47 us for 58 and for 200 of them, whose calls take
/// 0.3 and 1.2 to 2 ms (H200, five runs of the real cases).
const GRAPH_LAUNCH: f64 = 35e-6;

/// Executions run one after the other where so much of the time only one is on the device ...
const SERIAL: f64 = 0.9;
/// ... while for so much of it another is ready and free to run: less is the time in which a thread wakes up.
const HELD: f64 = 0.2;

/// What can hold throughput back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Requests, and whoever fills slots with them.
    Input,
    /// The threads that submit.
    Submission,
    /// The copy engines, both directions.
    Copies,
    /// The clock of the SMs.
    Clock,
    /// Executions that wait for each other though they could run side by side: a host that waits for each, or streams
    /// that do, as on CUDA's default stream.
    Barriers,
    /// Slots: executions that may be under way at once.
    Slots,
    /// DRAM.
    Dram,
    /// SMs with their tensor pipes; the cores on the `cpu` backend.
    Sms,
    /// Streams: work on the device at once.
    Streams,
}

impl Limit {
    /// All of them, in their order: causes before what follows from them.
    pub const ALL: [Self; 9] = [
        Self::Input,
        Self::Submission,
        Self::Copies,
        Self::Clock,
        Self::Barriers,
        Self::Slots,
        Self::Dram,
        Self::Sms,
        Self::Streams,
    ];

    /// Whether this one may be near only because another one is: of two that would gain alike that is named. Slots and streams
    /// wait for whatever comes before them, and SMs for DRAM and their clock; two resources do not wait for each other.
    pub(super) fn follows_from(self, other: Self) -> bool {
        matches!(self, Self::Barriers | Self::Slots | Self::Sms | Self::Streams) && other < self
    }
}

/// As in a table's first column.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "requests",
            Self::Submission => "submitting threads",
            Self::Copies => "copy engines",
            Self::Clock => "SM clock",
            Self::Barriers => "waits between executions",
            Self::Slots => "slots per stream",
            Self::Dram => "DRAM",
            Self::Sms => "SMs",
            Self::Streams => "streams",
        })
    }
}

/// What moves when a limit is moved, as factors.
#[derive(Clone, Copy)]
struct Change {
    input: f64,
    enqueue: f64,
    h2d: f64,
    d2h: f64,
    /// Time from the first to the last kernel of an execution.
    compute: f64,
    sms: f64,
    dram: f64,
    barriers: f64,
    slots: f64,
    streams: f64,
}

const NOTHING: Change = Change {
    input: 1.0,
    enqueue: 1.0,
    h2d: 1.0,
    d2h: 1.0,
    compute: 1.0,
    sms: 1.0,
    dram: 1.0,
    barriers: 1.0,
    slots: 1.0,
    streams: 1.0,
};

impl Change {
    /// Both at once.
    fn and(self, other: Self) -> Self {
        Self {
            input: self.input * other.input,
            enqueue: self.enqueue * other.enqueue,
            h2d: self.h2d * other.h2d,
            d2h: self.d2h * other.d2h,
            compute: self.compute * other.compute,
            sms: self.sms * other.sms,
            dram: self.dram * other.dram,
            barriers: self.barriers * other.barriers,
            slots: self.slots * other.slots,
            streams: self.streams * other.streams,
        }
    }
}

/// What lets executions run one by one though others are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Nothing: they run side by side, or nothing else is ready.
    Free,
    /// The host starts one when the one before has ended.
    ByHost,
    /// Streams wait for each other.
    OnDevice,
}

impl Order {
    pub(super) fn of(evidence: &Evidence) -> Self {
        let value = |quantity| evidence.value(quantity).unwrap_or(0.0);
        let (by_host, on_device) = (value(Quantity::HeldByHost), value(Quantity::HeldOnDevice));
        match value(Quantity::AloneOnDevice) >= SERIAL && by_host + on_device >= HELD {
            false => Self::Free,
            true if by_host > on_device => Self::ByHost,
            true => Self::OnDevice,
        }
    }
}

/// How close a workload is to each of its limits.
#[derive(Clone, Debug)]
pub struct Limits {
    configuration: Configuration,
    executions_per_s: f64,
    /// Seconds of one execution.
    turnaround: f64,
    enqueue: f64,
    /// Part of it in which copies hold the thread up, 0..1.
    blocked_by_copies: f64,
    /// What the kernels take at most when none waits to be launched.
    kernels_at_most: f64,
    h2d: f64,
    compute: f64,
    d2h: f64,
    /// Whether executions run one by one though others are ready.
    order: Order,
    /// Time between two of them then.
    between: f64,
    /// Pressures that are measured as such.
    feed: f64,
    /// How many slots are filled at the same time.
    senders: f64,
    submitters: f64,
    h2d_engine: f64,
    d2h_engine: f64,
    sms: f64,
    dram: f64,
    clock: f64,
    /// Part of the offered requests that were answered in an open loop, ...
    served: Option<f64>,
    /// ... part of the slots that a closed loop can fill.
    asked: f64,
}

impl Limits {
    /// From what was seen of this configuration. What is missing limits nothing.
    pub fn of(evidence: &Evidence, configuration: &Configuration) -> Self {
        let value = |quantity| evidence.value(quantity).unwrap_or(0.0);
        let enqueue = value(Quantity::EnqueueTime);
        let blocked = held_by_copies(enqueue, value(Quantity::CopyCallTime));
        let known = Self {
            configuration: *configuration,
            executions_per_s: value(Quantity::Executions),
            turnaround: value(Quantity::TurnaroundTime),
            enqueue,
            blocked_by_copies: blocked / enqueue.max(f64::MIN_POSITIVE),
            kernels_at_most: evidence.value(Quantity::KernelsAtMost).unwrap_or(f64::INFINITY),
            order: Order::of(evidence),
            between: 0.0,
            h2d: value(Quantity::H2dTime),
            compute: value(Quantity::ComputeTime),
            d2h: value(Quantity::D2hTime),
            feed: value(Quantity::FeedBusy),
            senders: evidence.value(Quantity::Senders).unwrap_or(1.0),
            submitters: value(Quantity::SubmitterBusy),
            h2d_engine: value(Quantity::H2dBusy),
            d2h_engine: value(Quantity::D2hBusy),
            sms: value(Quantity::DeviceFill),
            dram: value(Quantity::DramFill),
            clock: evidence.value(Quantity::ClockShare).unwrap_or(1.0),
            served: evidence.value(Quantity::LoadServed),
            asked: evidence.value(Quantity::SlotsAsked).unwrap_or(1.0),
        };
        Self { between: known.between_executions(), ..known }
    }

    /// Throughput over what this limit allows: 1 where it is reached.
    pub fn pressure(&self, limit: Limit) -> f64 {
        match limit {
            // What a clock holds back is the SMs.
            Limit::Clock => (1.0 - self.clock) * self.pressure_of(Limit::Sms),
            other => self.pressure_of(other),
        }
        .min(1.0)
    }

    /// Highest pressure of a limit's bounds.
    fn pressure_of(&self, wanted: Limit) -> f64 {
        let pressures = self.pressures(&NOTHING);
        let own = pressures.iter().filter(|(limit, _)| *limit == wanted);
        own.map(|(_, pressure)| *pressure).fold(0.0, f64::max)
    }

    /// Throughput with this limit twice as far away over the throughput as it is.
    pub fn gain(&self, limit: Limit) -> f64 {
        self.gain_of_all(&[limit])
    }

    /// The same with several limits twice as far away at once.
    pub(super) fn gain_of_all(&self, limits: &[Limit]) -> f64 {
        let all = limits.iter().map(|limit| self.doubled(*limit)).fold(NOTHING, Change::and);
        self.reach(&all) / self.reach(&NOTHING)
    }

    /// Whether executions wait for each other though others are ready.
    pub(super) fn runs_one_by_one(&self) -> bool {
        self.order != Order::Free
    }

    /// The same with a CUDA graph in place of launches. How long the kernels themselves take is not known where they
    /// waited to be launched, so the interval is wide there. Where the SMs' time bounds it, the middle is taken of that and of
    /// half of the time: between the kernels of a graph there are gaps too.
    pub fn gain_of_graph(&self) -> Estimate {
        let late = self.launch_share();
        // It tells as much as kernels wait to be launched.
        let at_most = 1.0 - late * (1.0 - (self.kernels_at_most / self.compute).min(1.0));
        let enqueue = GRAPH_LEAVES.min(GRAPH_LAUNCH / self.enqueue.max(f64::MIN_POSITIVE));
        let gain = |compute: f64| self.reach(&Change { enqueue, compute, ..NOTHING }) / self.reach(&NOTHING);
        let half = 1.0 - 0.5 * late;
        let middle = (half * half.min(at_most)).sqrt();
        let least = 1.0 - late * (1.0 - GRAPH_LEAVES);
        Estimate { value: gain(middle), lower: gain(1.0), upper: gain(least.min(middle)) }
    }

    /// The same with inputs of so many times the bytes, and all else as it is.
    pub fn gain_of_input_bytes(&self, factor: f64) -> f64 {
        self.reach(&Change { h2d: factor, ..NOTHING }) / self.reach(&NOTHING)
    }

    /// The same with kernels that ask for this part of the SMs' time, and for this part of DRAM's. As with a device that
    /// is twice as large, kernels get shorter as far as they fill it.
    pub fn gain_of_demands(&self, sms: f64, dram: f64) -> f64 {
        let shorter = self.own_sms().powf(ELASTICITY) * (1.0 - sms) + self.dram_elasticity() * (1.0 - dram);
        let compute = (1.0 - shorter).max(sms.min(dram));
        self.reach(&Change { sms, dram, compute, ..NOTHING }) / self.reach(&NOTHING)
    }

    /// The same with so many times the requests, or the threads that send them.
    pub fn gain_of_requests(&self, factor: f64) -> f64 {
        self.reach(&self.requests(factor)) / self.reach(&NOTHING)
    }

    /// The same with so many times the batch, where filling slots is what holds it back: a part of the time of a fill is the
    /// same whatever it fills, the rest grows with it. All work of the device grows too, which is the worst case.
    pub(super) fn gain_of_larger_fills(&self, factor: f64, fixed: f64) -> f64 {
        let input = fixed + (1.0 - fixed) * factor;
        let grown =
            Change { input, h2d: factor, d2h: factor, compute: factor, sms: factor, dram: factor, ..NOTHING };
        factor * self.reach(&grown) / self.reach(&NOTHING)
    }

    /// Whether filling slots is what holds it back, and not too few requests.
    pub(super) fn is_fed_too_slowly(&self) -> bool {
        let most = Limit::ALL.into_iter().map(|limit| self.gain(limit)).fold(1.0, f64::max);
        let is_input = self.gain(Limit::Input) >= most.max(HEALTHY_GAIN);
        is_input && self.served.is_none() && self.asked >= 1.0
    }

    /// How many times as much those who fill slots now could deliver if nothing else held them up.
    pub(super) fn gain_of_feeding(&self) -> f64 {
        self.feed.max(f64::MIN_POSITIVE).recip()
    }

    fn requests(&self, factor: f64) -> Change {
        Change { input: factor.recip(), compute: self.more_company_of_requests(factor), ..NOTHING }
    }

    fn doubled(&self, limit: Limit) -> Change {
        match limit {
            Limit::Input => self.requests(2.0),
            Limit::Submission => {
                Change { enqueue: 0.5, compute: 1.0 - LATE_KERNELS * self.launch_share(), ..NOTHING }
            }
            Limit::Copies => Change { h2d: 0.5, d2h: 0.5, ..NOTHING },
            Limit::Clock => {
                // Twice the clock, but no more than the highest.
                let time = self.clock.max(0.5);
                let compute = 1.0 - (1.0 - time) * (1.0 - self.dram_elasticity());
                Change { sms: time, compute, ..NOTHING }
            }
            // Where nothing waits, moving what waits changes nothing.
            Limit::Barriers if self.order == Order::Free => NOTHING,
            Limit::Barriers => {
                let compute = company(2.0 * self.computing()) / company(self.computing());
                Change { barriers: 0.5, compute, ..NOTHING }
            }
            Limit::Slots => Change { slots: 0.5, ..NOTHING },
            Limit::Dram => Change { dram: 0.5, compute: 1.0 - self.dram_elasticity() / 2.0, ..NOTHING },
            Limit::Sms => {
                let elasticity = self.own_sms().powf(ELASTICITY);
                Change { sms: 0.5, compute: 1.0 - elasticity / 2.0, ..NOTHING }
            }
            Limit::Streams => {
                let compute = company(2.0 * self.computing()) / company(self.computing());
                Change { streams: 0.5, slots: 0.5, compute, ..NOTHING }
            }
        }
    }

    /// Soft minimum of all bounds, in units of the throughput.
    fn reach(&self, change: &Change) -> f64 {
        let pressures = self.pressures(change);
        let sum: f64 = pressures.iter().map(|(_, pressure)| pressure.powf(SHARPNESS)).sum();
        sum.max(f64::MIN_POSITIVE).powf(-SHARPNESS.recip())
    }

    fn pressures(&self, change: &Change) -> [(Limit, f64); 11] {
        let Configuration { streams, depth, cuda_graph, .. } = self.configuration;
        let (h2d, d2h) = (self.h2d * change.h2d, self.d2h * change.d2h);
        let launching = self.launching(change);
        let (enqueue, compute) = (self.enqueue * launching, self.compute * change.compute);
        let in_stream = match cuda_graph {
            CudaGraph::Off | CudaGraph::Compute => compute,
            CudaGraph::Copies => h2d + compute + d2h,
        };
        let on_the_way = match cuda_graph {
            // Kernels run while others are being launched.
            CudaGraph::Off => enqueue.max(h2d + compute) + d2h,
            CudaGraph::Compute | CudaGraph::Copies => enqueue + h2d + compute + d2h,
        };
        let rate = self.executions_per_s;
        // Host and device by turns where the host waits; else the host enqueues while the device works.
        let one_by_one = match self.order {
            Order::Free => 0.0,
            Order::ByHost => on_the_way,
            Order::OnDevice => h2d + compute + d2h,
        };
        // A slot that is being filled is in no execution either.
        let filling = if rate > 0.0 { self.feed * self.senders * change.input / rate } else { 0.0 };
        let round = filling + self.turnaround_of_slots() + on_the_way;
        let all_slots = (streams * depth) as f64;
        let own_sms = self.own_sms();
        let input = match self.served {
            Some(served) => served,
            None if self.asked < 1.0 => rate * round / (all_slots * self.asked),
            None => 0.0,
        };
        [
            (Limit::Input, input * change.input),
            (Limit::Input, self.feed * change.input),
            (Limit::Submission, self.submitters * launching),
            (Limit::Copies, self.h2d_engine * change.h2d),
            (Limit::Copies, self.d2h_engine * change.d2h),
            (Limit::Clock, 0.0),
            (Limit::Barriers, rate * (one_by_one + self.between) * change.barriers),
            (Limit::Slots, rate * round / all_slots * change.slots),
            (Limit::Dram, self.dram * change.dram),
            (Limit::Sms, own_sms * change.sms + (self.sms - own_sms) * change.dram),
            (Limit::Streams, rate * in_stream / streams as f64 * change.streams),
        ]
    }

    /// Time of an enqueue call over what it is now.
    fn launching(&self, change: &Change) -> f64 {
        let all = (self.h2d + self.d2h).max(f64::MIN_POSITIVE);
        let copies = (self.h2d * change.h2d + self.d2h * change.d2h) / all;
        (1.0 - self.blocked_by_copies) * change.enqueue + self.blocked_by_copies * copies
    }

    /// What the host adds to each round of a slot. Where executions run one by one, most of that is waiting for the
    /// others.
    fn turnaround_of_slots(&self) -> f64 {
        if self.order == Order::Free { self.turnaround } else { self.turnaround.min(self.between) }
    }

    /// Time between two executions that run one by one.
    fn between_executions(&self) -> f64 {
        let pressure = self.pressure_of(Limit::Barriers);
        if self.order == Order::Free { 0.0 } else { ((1.0 - pressure) / self.executions_per_s).max(0.0) }
    }

    /// Executions that compute at once, on average while any does.
    fn computing(&self) -> f64 {
        (self.executions_per_s * self.compute).max(1.0)
    }

    /// What so many times the requests of a closed loop add to the time of kernels, where streams lie idle for want of
    /// them.
    fn more_company_of_requests(&self, factor: f64) -> f64 {
        if self.served.is_some() || self.asked >= 1.0 {
            return 1.0;
        }
        let streams = self.configuration.streams as f64;
        company((factor * self.computing()).min(streams)) / company(self.computing().min(streams))
    }

    /// How full the SMs are of work of their own.
    fn own_sms(&self) -> f64 {
        self.sms * (1.0 - self.dram.powf(DRAM_WAIT))
    }

    fn dram_elasticity(&self) -> f64 {
        self.dram.powf(ELASTICITY)
    }

    /// How much kernels wait to be launched: 0 not at all, 1 as much as can be seen.
    fn launch_share(&self) -> f64 {
        if self.configuration.cuda_graph != CudaGraph::Off || self.enqueue == 0.0 {
            return 0.0;
        }
        let launches = self.compute / self.enqueue;
        ((LAUNCHED_AHEAD - launches) / (LAUNCHED_AHEAD - LAUNCHED_LATE)).clamp(0.0, 1.0)
    }
}

/// How much longer kernels take beside those of other streams, when so many executions compute at once.
fn company(computing: f64) -> f64 {
    1.0 + DISTURBANCE * (1.0 - computing.recip())
}
