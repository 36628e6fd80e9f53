//! A network on a device as the model sees it: what each stage takes at every batch size, what the host pays for
//! submitting, and how full one execution makes the device.
//!
//! In: everything that was observed. Out: [`ExecutionTimes`], [`Contention`] and [`ServiceDemands`] of any
//! configuration. Times come from one stream where there is one, since under load they include waiting.

use std::collections::BTreeMap;

use super::batch_curve::{BatchCurve, interpolate};
use super::clocks::{Clocks, clock, stretch};
use super::contention::{Calibration, Contention, FillRange, SeenSlowDown};
use super::demand::{Demand, dram_fill, estimated, measured, sm_fill};
use super::events::ExecutionTimes;
use super::{Observation, ServiceDemands};
use crate::backend::{Counters, CudaGraph};
use crate::measure::StageSummary;
use crate::pool::Configuration;
use crate::units::Nanos;

/// Without a graph, kernels that take less than this many times the launching were waiting to be launched: their
/// span says nothing about the device.
const LAUNCH_BOUND: f64 = 1.2;

/// What a CUDA graph saves of the submitting time until both were measured: ResNet-50 takes 0.48 to 0.85 ms
/// without and some tens of microseconds with one (TensorRT 8.6 on an H100).
const GRAPH_SAVES: f64 = 10.0;

/// What the calls for the copies of an execution take at most where memory is page-locked: a few microseconds each (a
/// call of the driver), some tensors, and no waiting. Ordinary memory takes 100 us for the first megabyte (9 GB/s on an
/// H100's host), and each further one as long.
pub(crate) const COPY_CALLS: f64 = 50e-6;

/// How much longer submitting takes for each further thread, as a part of the time alone, until it was measured.
/// At 1 the threads take turns: the driver holds a lock while it launches.
const LOCK_SHARE: f64 = 1.0;

/// Concurrency from which on executions can have slowed each other down enough to tell.
const LEAST_CONCURRENCY: f64 = 1.1;

/// Kernels of inference keep tensor pipes active for this part of their time on SMs at most: the `compute` network reads 0.57
/// where four times the batch gains no more than 1.07 (H200, TensorRT 8.6). Matrices of thousands reach 0.9.
const TENSOR_CEILING: f64 = 0.6;

/// Below this part most kernels use other pipes, which are not read: FP32 ones, and depthwise convolutions. MobileNetV2 has
/// 0.07, BERT-base at batch 1 the least of the others, 0.19 (H200).
const LEAST_TENSOR_PART: f64 = 0.1;

/// The useful part of the time of SMs where no counter tells it: between a third (ResNet-50 and BERT-base at batch 8) and nearly
/// all of it.
const USUALLY_USEFUL: f64 = 0.5;

/// Relative uncertainty of times and counters that were measured at this or at another batch size.
const CURVE_UNCERTAINTY: f64 = 0.1;

/// All that is known of a workload.
#[derive(Clone, Debug)]
pub(super) struct WorkloadModel {
    compute: BatchCurve,
    h2d: BatchCurve,
    d2h: BatchCurve,
    host: HostCosts,
    device: DeviceShares,
    clocks: Clocks,
    calibration: Calibration,
}

impl WorkloadModel {
    /// From what was observed; `None` where nothing usable was.
    pub fn of(observations: &[&Observation]) -> Option<Self> {
        let times = compute_times(observations);
        // The largest batch is where a single point is known to be closest to pure work.
        let device = DeviceShares::of(observations, &times);
        let largest = *times.last()?;
        let compute =
            BatchCurve::of_kernels(&times, device.range(largest.0, 0.0).upper, device.useful(largest.0))?;
        let h2d = BatchCurve::of_copies(&copy_times(observations, |stages| stages.h2d))?;
        let d2h = BatchCurve::of_copies(&copy_times(observations, |stages| stages.d2h))?;
        let host = HostCosts::of(observations);
        let clocks = Clocks::of(observations);
        let mut model = Self { compute, h2d, d2h, host, device, clocks, calibration: Calibration::to(&[]) };
        let seen: Vec<SeenSlowDown> = observations
            .iter()
            .copied()
            .filter_map(|observation| model.seen_slow_down(observation))
            .collect();
        model.calibration = Calibration::to(&seen);
        Some(model)
    }

    /// The clock while this configuration runs so many executions per second, 1 being the highest.
    pub fn clock(&self, configuration: &Configuration, executions_per_s: f64) -> f64 {
        let compute = self.compute.at(configuration.batch_size);
        self.clocks.at(executions_per_s * compute * self.range(configuration.batch_size).upper)
    }

    /// What each stage takes alone at this clock.
    pub fn times_at(&self, configuration: &Configuration, clock: f64) -> ExecutionTimes {
        let times = self.times(configuration);
        let stretch = stretch(clock, self.device.dram_at(configuration.batch_size));
        ExecutionTimes { compute: times.compute * stretch, ..times }
    }

    /// What each stage takes alone at the highest clock.
    pub fn times(&self, configuration: &Configuration) -> ExecutionTimes {
        let batch_size = configuration.batch_size;
        ExecutionTimes {
            enqueue: self.host.enqueue(configuration),
            h2d: self.h2d.at(batch_size),
            compute: self.compute.at(batch_size),
            d2h: self.d2h.at(batch_size),
        }
    }

    /// How executions of this configuration slow each other down.
    pub fn contention(&self, configuration: &Configuration) -> Contention {
        self.calibration.contention(self.range(configuration.batch_size), configuration.streams)
    }

    /// What an inference asks for where one execution fills this part of the device at this clock. Several
    /// submitting threads share the work of submitting.
    pub fn demands(&self, configuration: &Configuration, fill: f64, clock: f64) -> ServiceDemands {
        let batch_size = configuration.batch_size;
        let times = self.times(configuration);
        let per_inference = |seconds: f64| seconds / batch_size as f64;
        let known = |seconds: f64| Some(measured(per_inference(seconds), CURVE_UNCERTAINTY));
        let counted =
            |points: &[(f64, f64)]| -> Option<Demand> { known(at(points, batch_size)? * times.compute) };
        let compute = self.times_at(configuration, clock).compute;
        ServiceDemands {
            submitting_thread: known(times.enqueue / configuration.submitters as f64),
            h2d_engine: known(times.h2d),
            d2h_engine: known(times.d2h),
            sms: Some(estimated(per_inference(compute * fill))),
            tensor_pipes: counted(&self.device.tensor_pipes),
            dram: counted(&self.device.dram),
        }
    }

    fn range(&self, batch_size: usize) -> FillRange {
        self.device.range(batch_size, self.compute.work_share(batch_size))
    }

    /// By Little's law, executions that compute at once are their rate times how long they compute.
    fn seen_slow_down(&self, observation: &Observation) -> Option<SeenSlowDown> {
        let Configuration { streams, batch_size, .. } = observation.configuration;
        let span = observation.stages.compute.as_seconds();
        if streams == 1 || is_launch_bound(observation) {
            return None;
        }
        let concurrency = (observation.executions_per_s() * span).min(streams as f64);
        let stretch = stretch(clock(observation), self.device.dram_at(batch_size));
        let slow_down = span / (self.compute.at(batch_size) * stretch);
        let range = self.range(batch_size);
        (concurrency >= LEAST_CONCURRENCY).then_some(SeenSlowDown { range, concurrency, slow_down })
    }
}

fn is_launch_bound(observation: &Observation) -> bool {
    let stages = &observation.stages;
    observation.configuration.cuda_graph == CudaGraph::Off
        && stages.compute.as_seconds() < LAUNCH_BOUND * stages.enqueue.as_seconds()
}

/// The least of these by batch size, over the observations that tell most: the first that has any.
fn least_by_batch<'a>(
    observations: &[&'a Observation],
    tells: &[&dyn Fn(&Observation) -> bool],
    time: impl Fn(&'a Observation) -> f64,
) -> Vec<(usize, f64)> {
    for tells in tells {
        let mut least = BTreeMap::new();
        for observation in observations.iter().copied().filter(|observation| tells(observation)) {
            let own = time(observation);
            let known: &mut f64 = least.entry(observation.configuration.batch_size).or_insert(own);
            *known = known.min(own);
        }
        if !least.is_empty() {
            return least.into_iter().collect();
        }
    }
    Vec::new()
}

fn compute_times(observations: &[&Observation]) -> Vec<(usize, f64)> {
    let is_alone = |observation: &Observation| observation.configuration.streams == 1;
    let is_clear = |observation: &Observation| is_alone(observation) && !is_launch_bound(observation);
    least_by_batch(observations, &[&is_clear, &is_alone, &|_| true], at_full_clock)
}

/// What the kernels would take at the highest clock.
fn at_full_clock(observation: &Observation) -> f64 {
    let span = observation.stages.compute.as_seconds();
    let busy = (observation.executions_per_s() * span).min(1.0);
    let dram = observation.counters.as_ref().and_then(dram_fill).unwrap_or(0.0) / busy;
    span / stretch(clock(observation), dram)
}

fn copy_times(observations: &[&Observation], stage: fn(&StageSummary) -> Nanos) -> Vec<(usize, f64)> {
    // A copy of no time at all would have no logarithm.
    let time = |observation: &Observation| stage(&observation.stages).as_seconds().max(1e-9);
    let is_alone = |observation: &Observation| observation.configuration.streams == 1;
    least_by_batch(observations, &[&is_alone, &|_| true], time)
}

/// Seconds of an enqueue call in which copies hold the thread up, by the seconds of all of it and of its calls for copies.
pub(crate) fn held_by_copies(enqueue: f64, copy_calls: f64) -> f64 {
    (copy_calls - COPY_CALLS).min(enqueue).max(0.0)
}

fn blocked(observation: &Observation) -> f64 {
    let StageSummary { enqueue, copy_calls, .. } = observation.stages;
    held_by_copies(enqueue.as_seconds(), copy_calls.as_seconds())
}

/// What submitting takes.
#[derive(Clone, Debug)]
struct HostCosts {
    /// Seconds of one thread alone, for each kind of graph, without copies that hold it up.
    alone: BTreeMap<CudaGraph, f64>,
    lock_share: f64,
    /// Seconds that the copies of each sample hold a thread up.
    blocked_per_sample: f64,
}

impl HostCosts {
    fn of(observations: &[&Observation]) -> Self {
        let enqueue =
            |observation: &Observation| observation.stages.enqueue.as_seconds() - blocked(observation);
        let of_kind = |kind: CudaGraph| {
            let own = observations
                .iter()
                .copied()
                .filter(|observation| observation.configuration.cuda_graph == kind);
            let alone = own.filter(|observation| observation.configuration.submitters == 1);
            Some((kind, median(alone.map(enqueue).collect())?))
        };
        let alone: BTreeMap<CudaGraph, f64> = CudaGraph::ALL.into_iter().filter_map(of_kind).collect();
        let of_sample = |it: &&Observation| blocked(it) / it.configuration.batch_size as f64;
        let blocked_per_sample = median(observations.iter().map(of_sample).collect()).unwrap_or(0.0);
        let costs = Self { alone, lock_share: LOCK_SHARE, blocked_per_sample };
        let share = |observation: &Observation| {
            let others = observation.configuration.submitters.saturating_sub(1);
            let alone = costs.alone.get(&observation.configuration.cuda_graph)?;
            (others > 0).then(|| ((enqueue(observation) / alone - 1.0) / others as f64).max(0.0))
        };
        let lock_share =
            median(observations.iter().copied().filter_map(share).collect()).unwrap_or(LOCK_SHARE);
        Self { lock_share, ..costs }
    }

    /// Seconds that a thread is busy with one execution, the others at work too.
    fn enqueue(&self, configuration: &Configuration) -> f64 {
        let others = configuration.submitters.saturating_sub(1) as f64;
        let blocked = self.blocked_per_sample * configuration.batch_size as f64;
        self.alone(configuration.cuda_graph) * (1.0 + others * self.lock_share) + blocked
    }

    fn alone(&self, kind: CudaGraph) -> f64 {
        let known = |kind: CudaGraph| self.alone.get(&kind).copied();
        let with_graph = || known(CudaGraph::Compute).or_else(|| known(CudaGraph::Copies));
        let guessed = || match kind {
            CudaGraph::Off => with_graph().map(|time| time * GRAPH_SAVES),
            CudaGraph::Compute | CudaGraph::Copies => {
                with_graph().or_else(|| known(CudaGraph::Off).map(|time| time / GRAPH_SAVES))
            }
        };
        known(kind).or_else(guessed).unwrap_or(0.0)
    }
}

/// The middle one; `None` where there are none.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// What lies at a batch size between points over its logarithm.
fn at(points: &[(f64, f64)], batch_size: usize) -> Option<f64> {
    interpolate(points, (batch_size as f64).ln())
}

/// Which part of each resource one execution uses while it computes, over the logarithm of the batch size.
#[derive(Clone, Debug, Default)]
struct DeviceShares {
    resident: Vec<(f64, f64)>,
    tensor_pipes: Vec<(f64, f64)>,
    dram: Vec<(f64, f64)>,
}

impl DeviceShares {
    fn of(observations: &[&Observation], times: &[(usize, f64)]) -> Self {
        type Pick = fn(Option<f64>, Option<f64>) -> Option<f64>;
        let share = |counter: fn(&Counters) -> Option<f64>, pick: Pick| {
            let of_one = |(batch_size, time): &(usize, f64)| {
                let part = |observation: &Observation| {
                    let part = counter(observation.counters.as_ref()?)?;
                    let span = observation.stages.compute.as_seconds().min(time / clock(observation));
                    Some((part / (observation.executions_per_s() * span)).clamp(0.0, 1.0))
                };
                let of_batch =
                    || observations.iter().copied().filter(|it| it.configuration.batch_size == *batch_size);
                let alone = of_batch().filter(|it| it.configuration.streams == 1).filter_map(part).collect();
                let several = of_batch().filter(|it| it.configuration.streams > 1).filter_map(part).collect();
                Some(((*batch_size as f64).ln(), pick(median(alone), median(several))?))
            };
            times.iter().filter_map(of_one).collect()
        };
        // In company an execution can take more of the SMs' time than alone: ResNet-50 at batch 8 on an H200 31 us an inference
        // alone, and 41 with two, four and eight streams. Where they share SMs each seems to take less.
        let most: Pick = |alone, several| alone.into_iter().chain(several).reduce(f64::max);
        Self {
            resident: share(sm_fill, most),
            tensor_pipes: share(|counters| counters.tensor_activity, Option::or),
            dram: share(dram_fill, Option::or),
        }
    }

    /// The part of the kernels' time in which DRAM is full, at their highest clock.
    fn dram_at(&self, batch_size: usize) -> f64 {
        at(&self.dram, batch_size).unwrap_or(0.0)
    }

    /// The part of the time of SMs in which tensor pipes or DRAM are as busy as they come to be.
    fn useful(&self, batch_size: usize) -> f64 {
        let at = |points: &[(f64, f64)]| at(points, batch_size);
        let resident = at(&self.resident).filter(|resident| *resident > 0.0).unwrap_or(1.0);
        let part = |points| at(points).map(|busy| busy / resident);
        let tensor_pipes = part(&self.tensor_pipes).filter(|part| *part >= LEAST_TENSOR_PART);
        let tensor_pipes = tensor_pipes.map_or(USUALLY_USEFUL, |part| part / TENSOR_CEILING);
        tensor_pipes.max(part(&self.dram).unwrap_or(0.0))
    }

    /// Where the fill lies, if large batches prove that at least `work_share` of the time is work.
    fn range(&self, batch_size: usize, work_share: f64) -> FillRange {
        let at = |points: &[(f64, f64)]| at(points, batch_size);
        let used = at(&self.tensor_pipes).unwrap_or(0.0).max(at(&self.dram).unwrap_or(0.0));
        let lower = used.max(work_share);
        FillRange { lower, upper: at(&self.resident).unwrap_or(1.0).max(lower) }
    }
}
