//! The three stages of an execution, in order on up to three streams, with a mark before and behind each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cuda::shifted;
use crate::cuda::{
    CudaContext, DeviceBuffer, Event, EventClock, EventTiming, EventWait, PinnedBuffer, Stream,
};
use crate::error::Result;
use crate::execution::{Interval, Job, StageIntervals};

/// The streams of a lane. They may be one, two or three: stages on the same stream follow each other without events.
#[derive(Clone, Debug)]
pub struct LaneStreams {
    /// Inputs are copied on it.
    pub h2d: Arc<Stream>,
    /// The compute stage runs on it.
    pub compute: Arc<Stream>,
    /// Outputs are copied on it.
    pub d2h: Arc<Stream>,
}

impl LaneStreams {
    /// One stream for all stages.
    pub fn single(stream: &Arc<Stream>) -> Self {
        Self { h2d: Arc::clone(stream), compute: Arc::clone(stream), d2h: Arc::clone(stream) }
    }

    /// Waits for all of them, and gives the first error.
    pub(super) fn synchronize(&self) -> Result<()> {
        let each = [&self.h2d, &self.compute, &self.d2h].map(|stream| stream.synchronize());
        each.into_iter().collect()
    }

    pub(super) fn joins(&self) -> Joins {
        Joins {
            h2d_and_compute: Arc::ptr_eq(&self.h2d, &self.compute),
            compute_and_d2h: Arc::ptr_eq(&self.compute, &self.d2h),
        }
    }
}

/// Which neighbouring stages run on the same stream, so that one mark ends the first and begins the second.
#[derive(Clone, Copy)]
pub(super) struct Joins {
    h2d_and_compute: bool,
    compute_and_d2h: bool,
}

impl Joins {
    /// All stages run on one stream.
    pub(super) const ALL: Self = Self { h2d_and_compute: true, compute_and_d2h: true };
}

/// Whether the times of stages are taken. Each mark and each reading is a call of the driver of some microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageMarks {
    /// There is one mark behind each execution, which somebody has to wait for, those that stages wait for, and no times.
    Last,
    /// All marks around the stages are made and read. A graph of copies has its marks inside either way.
    All,
}

/// The marks around the stages.
pub(super) struct Marks {
    h2d_start: Event,
    pub(super) h2d_end: Event,
    compute_start: Event,
    compute_end: Event,
    d2h_start: Event,
    /// Everything of the execution lies before it.
    pub(super) d2h_end: Arc<Event>,
}

impl Marks {
    /// `wait` is for the last mark alone: nobody waits for the others, and a device that reaches a mark which somebody may
    /// sleep for interrupts the host.
    pub(super) fn new(context: &Arc<CudaContext>, wait: EventWait) -> Result<Self> {
        let event = |wait| Event::new(context, EventTiming::On, wait);
        let unwatched = || event(EventWait::AsContext);
        Ok(Self {
            h2d_start: unwatched()?,
            h2d_end: unwatched()?,
            compute_start: unwatched()?,
            compute_end: unwatched()?,
            d2h_start: unwatched()?,
            d2h_end: Arc::new(event(wait)?),
        })
    }

    /// When the stages ran, once `d2h_end` is complete. All are placed from the first mark, because times over
    /// short distances are exact. Each reading is a call of the driver, so marks that two stages share are read once.
    pub(super) fn stages(&self, joins: Joins, clock: &EventClock) -> Result<StageIntervals> {
        let origin = clock.host_time(&self.h2d_start)?;
        let [h2d_end, compute_start, compute_end, d2h_start, d2h_end] =
            self.read(joins)?.map(|milliseconds| shifted(origin, milliseconds));
        Ok(StageIntervals {
            h2d: Interval { start: origin, end: h2d_end },
            compute: Interval { start: compute_start, end: compute_end },
            d2h: Interval { start: d2h_start, end: d2h_end },
        })
    }

    /// Milliseconds from the first mark to each of the others, in their order.
    pub(super) fn read(&self, joins: Joins) -> Result<[f32; 5]> {
        let time = |event: &Event| event.elapsed_ms(&self.h2d_start);
        let (h2d_end, compute_end) = (time(&self.h2d_end)?, time(&self.compute_end)?);
        let compute_start = if joins.h2d_and_compute { h2d_end } else { time(&self.compute_start)? };
        let d2h_start = if joins.compute_and_d2h { compute_end } else { time(&self.d2h_start)? };
        Ok([h2d_end, compute_start, compute_end, d2h_start, time(&self.d2h_end)?])
    }
}

/// For a bare loop, which has no stages around its computation but may want their marks.
impl Marks {
    pub(super) fn record_before(&self, joins: Joins, stream: &Stream) -> Result<()> {
        self.h2d_start.record(stream)?;
        self.h2d_end.record(stream)?;
        if joins.h2d_and_compute { Ok(()) } else { self.compute_start.record(stream) }
    }

    pub(super) fn record_behind(&self, joins: Joins, stream: &Stream) -> Result<()> {
        self.compute_end.record(stream)?;
        if joins.compute_and_d2h { Ok(()) } else { self.d2h_start.record(stream) }
    }
}

/// How marks are recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Recording {
    /// As the stream reaches them.
    Live,
    /// While the stream is captured, for each launch. Not the last mark: whether a mark inside a graph is complete
    /// may be asked only after the graph has run, so the last one is recorded behind each launch.
    InGraph,
}

/// Whether the stages on both sides of the compute stage do anything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Copies {
    Made,
    LeftOut,
}

/// Everything that the stages of one execution use.
pub(super) struct Stages<'a> {
    pub(super) streams: &'a LaneStreams,
    pub(super) marks: &'a Marks,
    pub(super) inputs: &'a [Arc<DeviceBuffer>],
    pub(super) outputs: &'a [Arc<DeviceBuffer>],
    pub(super) recording: Recording,
    pub(super) stage_marks: StageMarks,
    pub(super) copies: Copies,
}

impl Stages<'_> {
    /// Enqueues all three, `compute` in the middle, and gives the time that the calls for the copies took.
    ///
    /// # Safety
    /// - The host buffers are as many as the job's sizes and at least as large, and so are the device buffers.
    /// - Until the last mark is complete, or for a graph until its launches are: all buffers and events live, nobody
    ///   writes to the host inputs, and nobody touches the host outputs.
    pub(super) unsafe fn enqueue(
        &self,
        job: &Job,
        host_inputs: &[PinnedBuffer],
        host_outputs: &mut [PinnedBuffer],
        compute: impl FnOnce() -> Result<()>,
    ) -> Result<Duration> {
        let LaneStreams { h2d, compute: compute_stream, d2h } = self.streams;
        let joins = self.joins();
        self.record_for_time(&self.marks.h2d_start, h2d)?;
        let uploading = Instant::now();
        for (index, byte_count) in self.copied(&job.input_byte_counts) {
            let source = host_inputs[index].as_ptr();
            // SAFETY: as the caller promises.
            unsafe { h2d.enqueue_upload(source, &self.inputs[index], byte_count) }?;
        }
        let upload_calls = uploading.elapsed();
        // Also for whoever takes the inputs back before the end.
        if self.copies == Copies::Made {
            self.record(&self.marks.h2d_end, h2d)?;
        } else {
            self.record_for_time(&self.marks.h2d_end, h2d)?;
        }
        if !joins.h2d_and_compute {
            compute_stream.wait_for(&self.marks.h2d_end)?;
            self.record_for_time(&self.marks.compute_start, compute_stream)?;
        }
        compute()?;
        if joins.compute_and_d2h {
            self.record_for_time(&self.marks.compute_end, compute_stream)?;
        } else {
            self.record(&self.marks.compute_end, compute_stream)?;
            d2h.wait_for(&self.marks.compute_end)?;
            self.record_for_time(&self.marks.d2h_start, d2h)?;
        }
        let downloading = Instant::now();
        for (index, byte_count) in self.copied(&job.output_byte_counts) {
            let target = host_outputs[index].as_mut_ptr();
            // SAFETY: as the caller promises.
            unsafe { d2h.enqueue_download(&self.outputs[index], target, byte_count) }?;
        }
        let copy_calls = upload_calls + downloading.elapsed();
        if self.recording == Recording::Live {
            self.marks.d2h_end.record(d2h)?;
        }
        Ok(copy_calls)
    }

    /// The buffers that are copied, each with its number of bytes.
    fn copied(&self, byte_counts: &[usize]) -> impl Iterator<Item = (usize, usize)> {
        let is_copied = |count: usize| count > 0 && self.copies == Copies::Made;
        byte_counts.iter().copied().enumerate().filter(move |(_, count)| is_copied(*count))
    }

    /// Which stages share a mark.
    pub(super) fn joins(&self) -> Joins {
        self.streams.joins()
    }

    /// A mark that nobody waits for.
    fn record_for_time(&self, event: &Event, stream: &Stream) -> Result<()> {
        if self.stage_marks == StageMarks::All { self.record(event, stream) } else { Ok(()) }
    }

    fn record(&self, event: &Event, stream: &Stream) -> Result<()> {
        match self.recording {
            Recording::Live => event.record(stream),
            Recording::InGraph => event.record_in_graph(stream),
        }
    }
}
