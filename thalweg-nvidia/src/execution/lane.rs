//! The device's half of a slot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cuda::{
    DeviceBuffer, EventClock, EventWait, Graph, PinnedBuffer, PinnedMemory, PinnedReserve, Stream,
    StreamPriority,
};
use crate::error::{Error, Result};
use crate::execution::flight::{Flight, Progress};
use crate::execution::job::{PreparedJob, addresses, check_sizes};
use crate::execution::stages::{Copies, Joins, Marks, Recording, StageMarks, Stages};
use crate::execution::{
    Call, ExecutionTimes, FinishEvent, Finished, GraphScope, HostBuffers, Interval, Job, JobId, LaneStreams,
    Refused,
};

/// What a lane is made of.
#[derive(Clone, Debug)]
pub struct LaneSpec {
    /// The streams of its stages.
    pub streams: LaneStreams,
    /// Size of each input at the largest batch, in bytes.
    pub input_byte_counts: Vec<usize>,
    /// Size of each output at the largest batch, in bytes.
    pub output_byte_counts: Vec<usize>,
    /// How [`Lane::wait`] waits.
    pub wait: EventWait,
}

/// Device buffers, events and streams that run one job at a time. It moves between threads.
///
/// While a job runs, its host buffers belong to the lane:
///
/// ```compile_fail,E0382
/// fn read_too_soon(
///     lane: &mut thalweg_nvidia::execution::Lane,
///     job: thalweg_nvidia::execution::JobId,
///     host: thalweg_nvidia::execution::HostBuffers,
/// ) -> u8 {
///     lane.launch(job, host).unwrap();
///     host.outputs[0][0]
/// }
/// ```
pub struct Lane {
    streams: LaneStreams,
    inputs: Vec<Arc<DeviceBuffer>>,
    outputs: Vec<Arc<DeviceBuffer>>,
    marks: Marks,
    jobs: Vec<PreparedJob>,
    flight: Option<Flight>,
    stage_marks: StageMarks,
    /// The bug of [`plant_early_return`](Self::plant_early_return).
    returns_early: bool,
}

impl Lane {
    /// Takes device memory for all inputs and outputs, filled with zeros.
    ///
    /// # Errors
    /// Where the device lacks the memory.
    pub fn new(spec: &LaneSpec) -> Result<Self> {
        let stream = &spec.streams.compute;
        let buffer = |byte_count: &usize| {
            let buffer = DeviceBuffer::new(stream.context(), *byte_count)?;
            stream.zero(&buffer)?;
            Ok(Arc::new(buffer))
        };
        Ok(Self {
            streams: spec.streams.clone(),
            inputs: spec.input_byte_counts.iter().map(buffer).collect::<Result<_>>()?,
            outputs: spec.output_byte_counts.iter().map(buffer).collect::<Result<_>>()?,
            marks: Marks::new(stream.context(), spec.wait)?,
            jobs: Vec::new(),
            flight: None,
            stage_marks: StageMarks::All,
            returns_early: false,
        })
    }

    /// Host buffers that fit it, filled with zeros. Outputs are read on the host, so they are never write-combined.
    ///
    /// # Errors
    /// Where the host cannot lock so much memory.
    pub fn host_buffers(&self, input_memory: PinnedMemory) -> Result<HostBuffers> {
        let context = self.streams.compute.context();
        self.host_buffers_by(input_memory, |byte_count, kind| PinnedBuffer::new(context, byte_count, kind))
    }

    /// As [`host_buffers`](Self::host_buffers), from a reserve.
    ///
    /// # Errors
    /// As there.
    pub fn host_buffers_of(
        &self,
        reserve: &Arc<PinnedReserve>,
        input_memory: PinnedMemory,
    ) -> Result<HostBuffers> {
        self.host_buffers_by(input_memory, |byte_count, kind| reserve.take(byte_count, kind))
    }

    fn host_buffers_by(
        &self,
        input_memory: PinnedMemory,
        take: impl Fn(usize, PinnedMemory) -> Result<PinnedBuffer>,
    ) -> Result<HostBuffers> {
        let output_memory = match input_memory {
            PinnedMemory::Pageable => PinnedMemory::Pageable,
            PinnedMemory::Cached | PinnedMemory::WriteCombined => PinnedMemory::Cached,
        };
        let pinned = |buffers: &[Arc<DeviceBuffer>], memory| -> Result<Vec<_>> {
            buffers.iter().map(|buffer| take(buffer.byte_count(), memory)).collect()
        };
        Ok(HostBuffers {
            inputs: pinned(&self.inputs, input_memory)?,
            outputs: pinned(&self.outputs, output_memory)?,
        })
    }

    /// The inputs on the device.
    pub fn inputs(&self) -> &[Arc<DeviceBuffer>] {
        &self.inputs
    }

    /// The outputs on the device.
    pub fn outputs(&self) -> &[Arc<DeviceBuffer>] {
        &self.outputs
    }

    /// Makes a job ready to be launched. One with a graph runs its compute stage once before the capture, as
    /// TensorRT asks for, on whatever is in the device buffers.
    ///
    /// # Errors
    /// [`Error::WrongSize`], [`Error::WrongCount`] and [`Error::OtherStream`] where the job does not fit the lane;
    /// [`Error::CannotCapture`] where only its graph fails; [`Error::Busy`].
    pub fn prepare(&mut self, job: Job, host: &mut HostBuffers) -> Result<JobId> {
        if self.flight.is_some() {
            return Err(Error::Busy);
        }
        self.check(&job)?;
        job.check(host)?;
        let graph = match job.graph {
            GraphScope::Off => None,
            GraphScope::Compute | GraphScope::Copies => Some(self.capture(&job, host)?),
        };
        let is_bound = job.graph == GraphScope::Copies;
        let host_addresses =
            is_bound.then(|| (addresses(&host.inputs).collect(), addresses(&host.outputs).collect()));
        self.jobs.push(PreparedJob { job, graph, host_addresses });
        Ok(JobId(self.jobs.len() - 1))
    }

    /// How many operations the graph of a job has; `None` where it has no graph.
    pub fn node_count(&self, id: JobId) -> Option<usize> {
        Some(self.jobs.get(id.0)?.graph.as_ref()?.node_count())
    }

    /// Whether the launches from now on take the times of their stages; at first they do.
    pub fn set_stage_marks(&mut self, stage_marks: StageMarks) {
        self.stage_marks = stage_marks;
    }

    /// Starts a job and returns at once. The buffers come back through [`poll`](Self::poll) or
    /// [`wait`](Self::wait).
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::NoSuchJob`]; [`Error::WrongSize`], [`Error::WrongCount`] and
    /// [`Error::OtherBuffer`] where the buffers do not fit; what CUDA or the compute stage refuse.
    /// Where a part of the job had been enqueued already, that is waited for.
    pub fn launch(&mut self, id: JobId, host: HostBuffers) -> Result<(), Box<Refused>> {
        self.start(id, host, Copies::Made)
    }

    /// As [`launch`](Self::launch), but nothing is copied: the compute stage runs alone, on the inputs that are on the
    /// device from before, and its outputs stay there. The host's outputs are left as they are.
    ///
    /// # Errors
    /// As there; [`Error::CopiesInGraph`] where they cannot be left out.
    pub fn launch_without_copies(&mut self, id: JobId, host: HostBuffers) -> Result<(), Box<Refused>> {
        self.start(id, host, Copies::LeftOut)
    }

    fn start(&mut self, id: JobId, host: HostBuffers, copies: Copies) -> Result<(), Box<Refused>> {
        if let Err(error) = self.check_launch(id, &host, copies) {
            return Err(Box::new(Refused { host, error }));
        }
        let start = Instant::now();
        // From here on the lane owns the buffers, so that a panic while enqueueing does not free them.
        self.flight = Some(Flight {
            job: id,
            inputs: Some(host.inputs),
            outputs: host.outputs,
            copies,
            stage_marks: self.stage_marks,
            enqueue: Interval { start, end: start },
            copy_calls: Duration::ZERO,
            progress: Progress::Enqueueing,
        });
        let enqueued = self.enqueue();
        let mut flight = self.flight.take().expect("bug: it was set above");
        match enqueued {
            Ok(copy_calls) => {
                flight.copy_calls = copy_calls;
                flight.enqueue.end = Instant::now();
                flight.progress = Progress::Enqueued;
                self.flight = Some(flight);
                Ok(())
            }
            Err(error) => {
                let stopped = self.streams.synchronize();
                Err(Box::new(Refused { host: flight.into_host(&stopped), error }))
            }
        }
    }

    /// Whether a job runs, or is finished and was not taken back yet.
    pub fn is_busy(&self) -> bool {
        self.flight.is_some()
    }

    /// The inputs of the job that runs, as soon as they are copied; `None` before, and after they were taken.
    /// A graph with its copies gives them back at its end only.
    ///
    /// # Errors
    /// Where the device has failed; [`poll`](Self::poll) says the same.
    pub fn take_inputs(&mut self) -> Result<Option<Vec<PinnedBuffer>>> {
        let Some(flight) = &mut self.flight else { return Ok(None) };
        let is_one_graph = self.jobs[flight.job.0].job.graph == GraphScope::Copies;
        if is_one_graph || flight.progress != Progress::Enqueued || !self.marks.h2d_end.is_complete()? {
            return Ok(None);
        }
        Ok(flight.inputs.take())
    }

    /// The job that ran, if it is finished. Does not block, except after a panic in its compute stage.
    pub fn poll(&mut self, clock: &EventClock) -> Option<Finished> {
        let flight = self.flight.as_ref()?;
        match flight.progress {
            Progress::Enqueueing => self.wait(clock),
            Progress::Enqueued if self.returns_early => self.finish(&Ok(()), clock),
            Progress::Enqueued => match self.marks.d2h_end.is_complete() {
                Ok(false) => None,
                Ok(true) => self.finish(&Ok(()), clock),
                Err(error) => self.finish(&Err(error), clock),
            },
        }
    }

    /// Plants a bug, to see that a test finds it: from now on [`poll`](Self::poll) gives the buffers back at once, while
    /// the device still uses them.
    ///
    /// # Safety
    /// Until the device has finished everything, no buffer of the lane or of its host's half is dropped.
    #[doc(hidden)]
    pub unsafe fn plant_early_return(&mut self) {
        self.returns_early = true;
    }

    /// Waits until the job is finished; `None` where none runs.
    pub fn wait(&mut self, clock: &EventClock) -> Option<Finished> {
        let waited = self.flight.as_ref()?.settle(&self.marks, &self.streams);
        self.finish(&waited, clock)
    }

    /// The event behind the job that runs, for a thread that waits beside the one that drives the lane.
    pub fn finish_event(&self) -> FinishEvent {
        FinishEvent(Arc::clone(&self.marks.d2h_end))
    }

    fn finish(&mut self, waited: &Result<()>, clock: &EventClock) -> Option<Finished> {
        let flight = self.flight.take()?;
        let outcome = waited.clone().and_then(|()| match flight.progress {
            Progress::Enqueueing => Err(Error::Abandoned),
            Progress::Enqueued => self.times(&flight, clock),
        });
        Some(Finished { host: flight.into_host(waited), outcome })
    }

    fn times(&self, flight: &Flight, clock: &EventClock) -> Result<ExecutionTimes> {
        let stages = match flight.stage_marks {
            StageMarks::All => Some(self.marks.stages(self.joins(flight), clock)?),
            StageMarks::Last => None,
        };
        Ok(ExecutionTimes { enqueue: flight.enqueue, copy_calls: flight.copy_calls, stages })
    }

    fn joins(&self, flight: &Flight) -> Joins {
        match flight.copies {
            Copies::LeftOut => Joins::ALL,
            Copies::Made => self.joins_with_copies(flight.job),
        }
    }

    fn joins_with_copies(&self, id: JobId) -> Joins {
        match self.jobs[id.0].job.graph {
            GraphScope::Copies => Joins::ALL,
            GraphScope::Off | GraphScope::Compute => self.streams.joins(),
        }
    }

    fn check(&self, job: &Job) -> Result<()> {
        let size = |buffer: &Arc<DeviceBuffer>| buffer.byte_count();
        check_sizes("input", &job.input_byte_counts, &self.inputs, size)?;
        check_sizes("output", &job.output_byte_counts, &self.outputs, size)?;
        let is_ours = Arc::ptr_eq(job.compute.stream(), &self.streams.compute);
        if is_ours { Ok(()) } else { Err(Error::OtherStream) }
    }

    fn check_launch(&self, id: JobId, host: &HostBuffers, copies: Copies) -> Result<()> {
        if self.flight.is_some() {
            return Err(Error::Busy);
        }
        let prepared = self.jobs.get(id.0).ok_or(Error::NoSuchJob)?;
        if copies == Copies::LeftOut && prepared.job.graph == GraphScope::Copies {
            return Err(Error::CopiesInGraph);
        }
        prepared.check(host)
    }

    /// Whether [`launch_bare`](Self::launch_bare) may launch a job that was prepared with these buffers.
    pub(super) fn check_replay(&self, id: JobId, host: &HostBuffers) -> Result<()> {
        let prepared = self.jobs.get(id.0).ok_or(Error::NoSuchJob)?;
        let has_copies = prepared.job.graph == GraphScope::Copies;
        self.check_launch(id, host, if has_copies { Copies::Made } else { Copies::LeftOut })
    }

    /// Launches the graph of a job, or its compute stage, and the last mark behind it; all marks where they are asked for
    /// and the graph has none inside.
    ///
    /// # Safety
    /// [`check_replay`](Self::check_replay) has seen job and host buffers. Until the mark is complete the lane and the
    /// host buffers live, and nobody else uses them.
    pub(super) unsafe fn launch_bare(&mut self, id: JobId, marks: StageMarks) -> Result<()> {
        let joins = self.streams.joins();
        let PreparedJob { job, graph, .. } = &mut self.jobs[id.0];
        let stream = &self.streams.compute;
        let call = Call { stream, inputs: &self.inputs, outputs: &self.outputs, batch_size: job.batch_size };
        let is_marked = marks == StageMarks::All && job.graph != GraphScope::Copies;
        if is_marked {
            self.marks.record_before(joins, stream)?;
        }
        match graph {
            // SAFETY: the lane owns all that was captured but the host buffers, which the caller keeps.
            Some(graph) => unsafe { graph.launch(stream) },
            // SAFETY: the lane keeps its buffers and its jobs, and `prepare` has seen that the stream is the job's.
            None => unsafe { job.compute.enqueue(&call) },
        }?;
        if is_marked {
            self.marks.record_behind(joins, stream)?;
        }
        self.marks.d2h_end.record(stream)
    }

    /// Reads all marks of an execution of the job that has ended, for the time that it takes.
    pub(super) fn read_marks(&self, id: JobId) -> Result<()> {
        self.marks.read(self.joins_with_copies(id)).map(drop)
    }

    /// Waits for everything on the lane's streams.
    pub(super) fn synchronize(&self) -> Result<()> {
        self.streams.synchronize()
    }

    /// Captures a graph of the job. Nothing of it runs afterwards.
    fn capture(&self, job: &Job, host: &mut HostBuffers) -> Result<Graph> {
        let stream = &self.streams.compute;
        let _settled = WaitOnDrop(stream);
        // SAFETY: it is the job's stream. Its buffers and `Compute` outlive this function, and `_settled` waits.
        unsafe { self.compute(job, stream) }?;
        stream.synchronize()?;
        // What another thread enqueues on a stream in capture would become part of the graph: nobody else has this one.
        let private = Arc::new(Stream::new(stream.context(), StreamPriority::Normal)?);
        // SAFETY: the stream is in capture.
        let compute = || unsafe { self.compute(job, &private) };
        if job.graph == GraphScope::Compute {
            return Graph::capture(&private, compute);
        }
        let streams = LaneStreams::single(&private);
        let stages = self.stages(&streams, Recording::InGraph);
        Graph::capture(&private, || {
            // SAFETY: `prepare` has checked the sizes. Captured work does not run here; a launch checks that the
            // host buffers are the same ones and owns them.
            unsafe { stages.enqueue(job, &host.inputs, &mut host.outputs, compute) }.map(drop)
        })
    }

    /// Enqueues the compute stage.
    ///
    /// # Safety
    /// As [`Compute::enqueue`](crate::execution::Compute), for the lane's buffers and the job's compute stage.
    unsafe fn compute(&self, job: &Job, stream: &Stream) -> Result<()> {
        let call = Call { stream, inputs: &self.inputs, outputs: &self.outputs, batch_size: job.batch_size };
        // SAFETY: as the caller promises.
        unsafe { job.compute.enqueue(&call) }
    }

    fn stages<'a>(&'a self, streams: &'a LaneStreams, recording: Recording) -> Stages<'a> {
        let Self { marks, inputs, outputs, .. } = self;
        let (stage_marks, copies) = (StageMarks::All, Copies::Made);
        Stages { streams, marks, inputs, outputs, recording, stage_marks, copies }
    }

    /// Enqueues the job of `flight`, and gives the time that the calls for its copies took.
    fn enqueue(&mut self) -> Result<Duration> {
        let flight = self.flight.as_mut().expect("bug: `launch` has set it");
        let PreparedJob { job, graph, .. } = &mut self.jobs[flight.job.0];
        let stream = &self.streams.compute;
        if let (GraphScope::Copies, Some(graph)) = (job.graph, graph.as_mut()) {
            // SAFETY: the lane owns the graph, the events and, as `check_launch` has seen, the buffers that were
            // captured; it keeps them until the mark behind the launch is complete.
            unsafe { graph.launch(stream) }?;
            self.marks.d2h_end.record(stream)?;
            return Ok(Duration::ZERO);
        }
        let alone = LaneStreams::single(stream);
        let stages = Stages {
            streams: if flight.copies == Copies::Made { &self.streams } else { &alone },
            marks: &self.marks,
            inputs: &self.inputs,
            outputs: &self.outputs,
            recording: Recording::Live,
            stage_marks: flight.stage_marks,
            copies: flight.copies,
        };
        let inputs = flight.inputs.as_ref().expect("bug: they cannot be taken before the end of `launch`");
        let call = Call { stream, inputs: &self.inputs, outputs: &self.outputs, batch_size: job.batch_size };
        let compute = || match graph {
            // SAFETY: the lane owns all that was captured, and keeps it until the last mark is complete.
            Some(graph) => unsafe { graph.launch(stream) },
            // SAFETY: the lane keeps its buffers and its jobs until the last mark is complete, and `prepare` has seen
            // that the stream is the job's.
            None => unsafe { job.compute.enqueue(&call) },
        };
        // SAFETY: `check_launch` has seen the sizes; the lane owns the buffers, and nobody reaches them until the
        // last mark is complete.
        unsafe { stages.enqueue(job, inputs, &mut flight.outputs, compute) }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let Some(flight) = self.flight.take() else { return };
        let waited = flight.settle(&self.marks, &self.streams);
        // Dropped only now, with the outputs given up where the wait has failed.
        drop(flight.into_host(&waited));
    }
}

/// Waits for a stream at the end of a scope, also when that is left by an error or a panic.
struct WaitOnDrop<'a>(&'a Stream);

impl Drop for WaitOnDrop<'_> {
    fn drop(&mut self) {
        let _ = self.0.synchronize();
    }
}
