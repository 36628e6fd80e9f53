//! A CUDA stream, its execution contexts and its slots.
//!
//! Each slot is a lane of the device with a job for each size of executions. A context keeps the shapes that it was given first:
//! to set others takes the host a millisecond, and a graph has but one (docs/design-notes.md). A slot that is enqueued leaves
//! its page-locked memory with the lane until the device is done. A thread beside the submitter waits for the device and wakes
//! it, unless it spins or waits itself.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_nvidia::cuda::{DeviceBuffer, EventClock, EventWait, PinnedBuffer, PinnedMemory};
use thalweg_nvidia::execution::{
    Compute, ExecutionTimes, Finished, GraphScope, HostBuffers, Interval, Job, JobId, Lane, LaneSpec,
    LaneStreams, StageIntervals, StageMarks,
};

use super::engine::{TensorRtEngine, byte_counts};
use super::meter::Meter;
use super::streams::SharedLanes;
use super::waiter::Waiter;
use crate::backend::residency::Residency;
use crate::backend::{
    Completion, CudaGraph, Executor, ExecutorSpec, HostTensor, Observer, Outcome, PlantedFault, Rejected,
    Slot, SlotId, Span, StageTimes, TimesTaken, Wait, Waker,
};
use crate::error::{Error, Result};
use crate::units::{Clock, Nanos};

pub(super) struct TensorRtExecutor {
    engine: Arc<TensorRtEngine>,
    stream: usize,
    clock: Clock,
    event_clock: EventClock,
    /// By index of the slot.
    lanes: Vec<SlotLane>,
    /// Slots that were not handed out yet.
    slots: Vec<Slot>,
    /// Indices of the slots that run, in the order in which they were enqueued.
    running: VecDeque<usize>,
    is_lost: bool,
    remark: Option<String>,
    residency: Residency,
    /// `None` where the submitter never sleeps while something runs.
    waiter: Option<Waiter>,
    /// How the oldest slot that runs has ended, where that was waited for.
    waited: Option<Finished>,
    /// The running slot that the waiter was last asked to watch.
    watched: Option<usize>,
    sampling: Sampling,
}

/// Which executions tell the times of their stages.
struct Sampling {
    /// When they are to be taken again; `None` where they always are.
    due: Option<Instant>,
}

impl Sampling {
    fn new(taken: TimesTaken, now: Instant) -> Self {
        Self { due: (taken == TimesTaken::Some).then_some(now) }
    }

    /// The marks of an execution that starts now.
    fn marks(&mut self, now: impl FnOnce() -> Instant) -> StageMarks {
        let Some(due) = &mut self.due else { return StageMarks::All };
        let now = now();
        if now < *due {
            return StageMarks::Last;
        }
        *due = now + SAMPLING;
        StageMarks::All
    }
}

/// Where the times of stages are taken of some executions only: of one in this time. At eight streams that is 1.6 % of a
/// core at 20 us for each (docs/benchmarks.md, "At the limit of the machine").
const SAMPLING: Duration = Duration::from_millis(10);

/// A slot's half on the device.
struct SlotLane {
    lane: Lane,
    /// By size of execution, ascending.
    jobs: Vec<(usize, JobId)>,
    /// The slot without its memory, while it runs.
    shell: Option<Slot>,
    /// Lists without buffers, while the slot has them: used again, so that an execution does not allocate.
    lists: HostBuffers,
}

impl TensorRtExecutor {
    /// The executor of this index, with what it shares with the others of its pool.
    pub fn new(
        engine: Arc<TensorRtEngine>,
        stream: usize,
        spec: &ExecutorSpec,
        shared: &SharedLanes,
    ) -> Result<Self> {
        let streams = engine.streams(spec, stream, shared)?;
        let memory = engine.activation_memory()?;
        let maker = SlotMaker { engine: &engine, stream, spec, streams, memory };
        let (lanes, mut slots, remark) = maker.make_all()?;
        // They are handed out from the end.
        slots.reverse();
        Ok(Self {
            stream,
            clock: spec.clock.clone(),
            event_clock: EventClock::new(&engine.context)?,
            lanes,
            slots,
            running: VecDeque::new(),
            is_lost: false,
            remark,
            residency: Residency::new(spec),
            waiter: (spec.wait != Wait::Spin).then(|| Waiter::start(stream, spec.depth)).transpose()?,
            waited: None,
            watched: None,
            sampling: Sampling::new(spec.stage_times, Instant::now()),
            engine,
        })
    }

    /// Its lanes, each with its job at the largest batch and its host buffers, for whoever drives them otherwise.
    pub fn into_lanes(self, spec: &ExecutorSpec) -> Result<Vec<(Lane, JobId, HostBuffers)>> {
        if let Some(reason) = self.remark {
            return Err(Error::InvalidSetting {
                name: "cuda-graph",
                value: spec.cuda_graph.to_string(),
                reason,
            });
        }
        // Slots are handed out from the end.
        let both = self.lanes.into_iter().zip(self.slots.into_iter().rev());
        let take = |(mut lane, mut slot): (SlotLane, Slot)| {
            let host = take_buffers(&mut slot, &mut lane.lists);
            let job = lane.job(spec.batch_size);
            (lane.lane, job, host)
        };
        Ok(both.map(take).collect())
    }

    fn launch(&mut self, slot: &mut Slot) -> Result<()> {
        let lane = &mut self.lanes[slot.id.index];
        lane.lane.set_stage_marks(self.sampling.marks(Instant::now));
        let job = lane.job(slot.batch_size);
        let host = take_buffers(slot, &mut lane.lists);
        let launched = if self.residency.must_copy(slot) {
            lane.lane.launch(job, host)
        } else {
            lane.lane.launch_without_copies(job, host)
        };
        match launched {
            Ok(()) => Ok(()),
            Err(refused) => {
                let is_whole = is_whole(&refused.host, &self.engine);
                put_buffers(slot, refused.host, &mut lane.lists);
                Err(self.refusal(slot.id, refused.error, is_whole))
            }
        }
    }

    /// TensorRT tells a failure of the device in words only, so the device itself is asked. A slot whose outputs the device may
    /// still write to can never run again.
    fn refusal(&mut self, slot: SlotId, error: thalweg_nvidia::Error, is_whole: bool) -> Error {
        let is_broken = |error: &thalweg_nvidia::Error| error.is_sticky();
        if is_whole && !is_broken(&error) && !self.engine.context.memory().as_ref().is_err_and(is_broken) {
            return error.into();
        }
        self.is_lost = true;
        Error::DeviceLost { stream: slot.executor, slot: slot.index, reason: error.to_string() }
    }

    fn watch(&mut self, index: usize) {
        if let Some(waiter) = &self.waiter {
            waiter.watch(self.lanes[index].lane.finish_event());
        }
        self.watched = Some(index);
    }

    fn keep_clock(&mut self) {
        if self.event_clock.is_stale() {
            // Where it cannot be renewed the old reading goes on: only the offset of times gets worse.
            let _ = self.event_clock.renew();
        }
    }

    fn complete(&mut self, index: usize) -> Option<Completion> {
        self.keep_clock();
        let lane = &mut self.lanes[index];
        let finished = self.waited.take().or_else(|| lane.lane.poll(&self.event_clock))?;
        let mut slot = lane.shell.take().expect("bug: a lane ran without its slot");
        let is_whole = is_whole(&finished.host, &self.engine);
        put_buffers(&mut slot, finished.host, &mut lane.lists);
        let (outcome, times) = match finished.outcome {
            Ok(times) => {
                self.residency.note(&slot);
                (Outcome::Done, stage_times(&self.clock, &times))
            }
            Err(error) => (self.failure(index, &error, is_whole), StageTimes::default()),
        };
        Some(Completion { slot, outcome, times })
    }

    /// Errors that the context keeps leave nothing to go on with, and neither do outputs that the device may still write to.
    fn failure(&mut self, slot: usize, error: &thalweg_nvidia::Error, is_whole: bool) -> Outcome {
        let (stream, reason) = (self.stream, error.to_string());
        if error.is_sticky() || !is_whole {
            self.is_lost = true;
            Outcome::Lost(Error::DeviceLost { stream, slot, reason })
        } else {
            Outcome::Failed(Error::Execution { stream, slot, reason })
        }
    }
}

/// Whether a job came back with all its outputs. A wait that failed keeps them for ever.
fn is_whole(host: &HostBuffers, engine: &TensorRtEngine) -> bool {
    host.outputs.len() == engine.signature.outputs.len()
}

impl Executor for TensorRtExecutor {
    fn take_slot(&mut self) -> Option<Slot> {
        self.slots.pop()
    }

    fn enqueue(&mut self, mut slot: Slot) -> Result<(), Box<Rejected>> {
        if self.is_lost {
            let error = Error::DeviceLost {
                stream: self.stream,
                slot: slot.id.index,
                reason: "it has failed before".to_owned(),
            };
            return Err(Box::new(Rejected { slot, error }));
        }
        if let Err(error) = self.launch(&mut slot) {
            return Err(Box::new(Rejected { slot, error }));
        }
        let index = slot.id.index;
        self.lanes[index].shell = Some(slot);
        self.running.push_back(index);
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        let index = *self.running.front()?;
        let completion = self.complete(index)?;
        self.running.pop_front();
        self.watched = self.watched.filter(|watched| *watched != index);
        Some(completion)
    }

    fn wake_with(&mut self, waker: Waker) {
        if let Some(waiter) = &self.waiter {
            waiter.wake_with(waker);
        }
    }

    fn wait(&mut self) -> bool {
        let Some(&oldest) = self.running.front() else { return false };
        if self.waited.is_none() {
            self.keep_clock();
            self.waited = self.lanes[oldest].lane.wait(&self.event_clock);
        }
        true
    }

    /// Only now: a submitter that spins first, or waits itself, sleeps less often, and a waiter that runs beside each execution
    /// would cost what that is to save.
    fn expect_sleep(&mut self) {
        if let Some(&oldest) = self.running.front()
            && self.watched != Some(oldest)
        {
            self.watch(oldest);
        }
    }

    fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    fn observer(&self) -> Option<Box<dyn Observer>> {
        Some(Box::new(Meter::new(self.engine.counters.clone())))
    }
}

impl SlotLane {
    /// The job of an execution of so many samples.
    fn job(&self, batch_size: usize) -> JobId {
        let prepared = self.jobs.iter().find(|(step, _)| *step == batch_size);
        prepared.expect("bug: an execution of a size that is no step").1
    }
}

/// What all slots of an executor are made of.
struct SlotMaker<'a> {
    engine: &'a Arc<TensorRtEngine>,
    stream: usize,
    spec: &'a ExecutorSpec,
    streams: LaneStreams,
    memory: Arc<DeviceBuffer>,
}

impl SlotMaker<'_> {
    /// All slots, and a remark where their work could not be captured: the executor runs without a graph then.
    fn make_all(&self) -> Result<(Vec<SlotLane>, Vec<Slot>, Option<String>)> {
        let make = |graph| -> Result<(Vec<_>, Vec<_>)> {
            // NVIDIA's rule: one execution context for each captured graph. Without one, slots run one after the other.
            let shared = if graph == CudaGraph::Off { Some(self.computes()?) } else { None };
            let made = (0..self.spec.depth).map(|index| self.make(index, graph, shared.as_deref()));
            Ok(made.collect::<Result<Vec<_>>>()?.into_iter().unzip())
        };
        match make(self.spec.cuda_graph) {
            Err(Error::Nvidia(error)) if error.is_only_the_capture() => {
                let (lanes, slots) = make(CudaGraph::Off)?;
                let remark = format!("Stream {} runs without a CUDA graph: {error}.", self.stream);
                Ok((lanes, slots, Some(remark)))
            }
            made => made.map(|(lanes, slots)| (lanes, slots, None)),
        }
    }

    /// One for each size of executions. They compute in the same memory, since a stream runs one after the other.
    fn computes(&self) -> Result<Vec<Arc<Compute>>> {
        let compute = |_| self.engine.compute(&self.streams.compute, &self.memory);
        self.spec.batch_steps.iter().map(compute).collect()
    }

    fn make(
        &self,
        index: usize,
        graph: CudaGraph,
        shared: Option<&[Arc<Compute>]>,
    ) -> Result<(SlotLane, Slot)> {
        let (engine, batch_size) = (self.engine, self.spec.batch_size);
        let mut lane = Lane::new(&LaneSpec {
            streams: self.streams.clone(),
            input_byte_counts: byte_counts(&engine.signature.inputs, batch_size),
            output_byte_counts: byte_counts(&engine.signature.outputs, batch_size),
            // Nobody sleeps for an event while the submitter spins.
            wait: if self.spec.wait == Wait::Spin { EventWait::AsContext } else { EventWait::Block },
        })?;
        let memory = match self.spec.fault {
            Some(PlantedFault::PageableMemory) => PinnedMemory::Pageable,
            _ => PinnedMemory::Cached,
        };
        let mut host = lane.host_buffers_of(&engine.host_memory, memory)?;
        let scope = match graph {
            CudaGraph::Off => GraphScope::Off,
            CudaGraph::Compute => GraphScope::Compute,
            CudaGraph::Copies => GraphScope::Copies,
        };
        let computes = shared.map_or_else(|| self.computes(), |shared| Ok(shared.to_vec()))?;
        let steps = self.spec.batch_steps.iter().zip(computes);
        let jobs = steps
            .map(|(&step, compute)| Ok((step, lane.prepare(job(engine, compute, step, scope), &mut host)?)))
            .collect::<Result<_>>()?;
        let mut slot = self.shell(index);
        let mut lists = HostBuffers::default();
        put_buffers(&mut slot, host, &mut lists);
        Ok((SlotLane { lane, jobs, shell: None, lists }, slot))
    }

    fn shell(&self, index: usize) -> Slot {
        let signature = &self.engine.signature;
        let tensors = |specs: &[_]| {
            specs.iter().map(|spec| HostTensor::without_memory(spec, self.spec.batch_size)).collect()
        };
        Slot {
            id: SlotId { executor: self.stream, index },
            batch_size: 0,
            inputs: tensors(&signature.inputs),
            outputs: tensors(&signature.outputs),
        }
    }
}

fn job(engine: &TensorRtEngine, compute: Arc<Compute>, batch_size: usize, graph: GraphScope) -> Job {
    Job {
        compute,
        batch_size,
        input_byte_counts: byte_counts(&engine.signature.inputs, batch_size),
        output_byte_counts: byte_counts(&engine.signature.outputs, batch_size),
        graph,
    }
}

fn take_buffers(slot: &mut Slot, lists: &mut HostBuffers) -> HostBuffers {
    let mut host = mem::take(lists);
    host.inputs.extend(slot.inputs.iter_mut().filter_map(HostTensor::take_pinned));
    host.outputs.extend(slot.outputs.iter_mut().filter_map(HostTensor::take_pinned));
    host
}

/// After a failure of the device outputs may be missing: it might still write to them.
fn put_buffers(slot: &mut Slot, mut host: HostBuffers, lists: &mut HostBuffers) {
    let put = |tensors: &mut Vec<HostTensor>, buffers: &mut Vec<PinnedBuffer>| {
        tensors.iter_mut().zip(buffers.drain(..)).for_each(|(tensor, buffer)| tensor.put_pinned(buffer));
    };
    put(&mut slot.inputs, &mut host.inputs);
    put(&mut slot.outputs, &mut host.outputs);
    *lists = host;
}

fn stage_times(clock: &Clock, times: &ExecutionTimes) -> StageTimes {
    let span = |interval: Interval| Span { start: clock.at(interval.start), end: clock.at(interval.end) };
    let (enqueue, copy_calls) = (span(times.enqueue), Nanos::from_duration(times.copy_calls));
    match times.stages {
        Some(StageIntervals { h2d, compute, d2h }) => {
            StageTimes { enqueue, copy_calls, h2d: span(h2d), compute: span(compute), d2h: span(d2h) }
        }
        None => StageTimes { enqueue, copy_calls, ..StageTimes::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_of_one_execution_in_ten_milliseconds_or_of_all() {
        let start = Instant::now();
        let taken = |taken| {
            let mut sampling = Sampling::new(taken, start);
            let marks = |ms| sampling.marks(|| start + Duration::from_millis(ms)) == StageMarks::All;
            [0, 1, 9, 10, 11, 25, 34, 36].map(marks)
        };
        assert_eq!(taken(TimesTaken::Some), [true, false, false, true, false, true, false, true]);
        assert_eq!(taken(TimesTaken::Each), [true; 8]);
    }
}
