//! A job that runs in a lane, and what it keeps until its end.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::cuda::{Event, PinnedBuffer};
use crate::error::Result;
use crate::execution::stages::{Copies, Marks, StageMarks};
use crate::execution::{HostBuffers, Interval, JobId, LaneStreams};

/// The event behind the job that a lane launched last. It can be waited for, but only the lane records it.
#[derive(Clone, Debug)]
pub struct FinishEvent(pub(super) Arc<Event>);

impl FinishEvent {
    /// As [`Event::is_complete`].
    ///
    /// # Errors
    /// Where the job has failed.
    pub fn is_complete(&self) -> Result<bool> {
        self.0.is_complete()
    }

    /// As [`Event::wait`]. What the lane launches during the wait is not waited for.
    ///
    /// # Errors
    /// Where the job has failed.
    pub fn wait(&self) -> Result<()> {
        self.0.wait()
    }
}

/// A job that runs.
pub(super) struct Flight {
    pub(super) job: JobId,
    /// `None` once they were taken.
    pub(super) inputs: Option<Vec<PinnedBuffer>>,
    pub(super) outputs: Vec<PinnedBuffer>,
    pub(super) copies: Copies,
    pub(super) stage_marks: StageMarks,
    pub(super) enqueue: Interval,
    /// How long the calls for the copies took of that.
    pub(super) copy_calls: Duration,
    pub(super) progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The last mark may be missing.
    Enqueueing,
    /// Everything lies before the last mark.
    Enqueued,
}

impl Flight {
    /// Waits until the device uses nothing of the job any more.
    pub(super) fn settle(&self, marks: &Marks, streams: &LaneStreams) -> Result<()> {
        match self.progress {
            Progress::Enqueueing => streams.synchronize(),
            Progress::Enqueued => marks.d2h_end.wait(),
        }
    }

    /// The buffers, after a wait. Where that has failed nothing proves that the device is done. It only reads inputs,
    /// so they can be used; but it might write to outputs, so they are leaked.
    pub(super) fn into_host(self, waited: &Result<()>) -> HostBuffers {
        let inputs = self.inputs.unwrap_or_default();
        if waited.is_ok() {
            return HostBuffers { inputs, outputs: self.outputs };
        }
        mem::forget(self.outputs);
        HostBuffers { inputs, outputs: Vec::new() }
    }
}
