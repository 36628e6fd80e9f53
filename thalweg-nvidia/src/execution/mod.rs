//! Executions on the device: copy the inputs in, compute, copy the outputs out, with nothing used twice.
//!
//! A [`Lane`] is the device's half of a slot: device buffers, events and the streams they are used on. Its other
//! half are [`HostBuffers`], which a producer fills on any thread. [`Lane::launch`] takes them **by value** and
//! [`Lane::poll`] gives them back when the device is done, so while copies run nobody can reach the memory: the
//! compiler holds this, and no `unsafe` is needed outside of this crate. A lane that is dropped waits first.
//!
//! What runs between the copies is a [`Compute`], shared by the lanes of one stream. A [`Job`] is one way to run it:
//! a batch size, and whether the computation alone or all three stages are captured as a CUDA graph.
//!
//! One lane runs one job at a time. Its inputs come back as soon as they are copied ([`Lane::take_inputs`]); three
//! lanes on three streams keep both copy engines and the SMs busy at once. How many lanes there are, who fills
//! them and how to wait is left to the caller.

mod compute;
mod flight;
mod job;
mod lane;
mod replay;
mod stages;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::cuda::PinnedBuffer;
use crate::error::{Error, Result};

pub use compute::Compute;
pub use flight::FinishEvent;
pub use job::{GraphScope, Job, JobId};
pub use lane::{Lane, LaneSpec};
pub use replay::{Replay, ReplayWait};
pub use stages::{LaneStreams, StageMarks};

pub(crate) use compute::Call;

/// The host's half of a slot, in the order of the lane's inputs and outputs.
#[derive(Debug, Default)]
pub struct HostBuffers {
    /// What is copied to the device.
    pub inputs: Vec<PinnedBuffer>,
    /// Where the results are copied to.
    pub outputs: Vec<PinnedBuffer>,
}

/// A job that was not started.
#[derive(Debug)]
pub struct Refused {
    /// The buffers, inputs unchanged. The outputs are missing where [`Finished::host`] misses them too.
    pub host: HostBuffers,
    /// Why.
    pub error: Error,
}

/// A job that has come to its end.
#[derive(Debug)]
pub struct Finished {
    /// The buffers, without inputs that were taken before. Where the device could not be waited for, the outputs
    /// are missing: it might still write to them, so that memory is given up.
    pub host: HostBuffers,
    /// When it ran, or why the job failed.
    pub outcome: Result<ExecutionTimes>,
}

/// When one execution ran, on the host's clock, and each of its stages where that was taken.
///
/// The device's intervals are placed with the [`EventClock`](crate::cuda::EventClock)'s uncertainty; how long they
/// are, and how they lie to each other, is exact to about half a microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutionTimes {
    /// The calling thread was busy starting it.
    pub enqueue: Interval,
    /// Part of that in which the calls for the copies had the thread: microseconds, unless the host's buffers are not
    /// pinned or the driver's queue is full. A graph with its copies has no such calls.
    pub copy_calls: Duration,
    /// `None` where they were not taken.
    pub stages: Option<StageIntervals>,
}

/// When each stage ran on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageIntervals {
    /// Inputs went to the device.
    pub h2d: Interval,
    /// The device computed.
    pub compute: Interval,
    /// Outputs came from the device.
    pub d2h: Interval,
}

/// From when to when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// When it began.
    pub start: Instant,
    /// When it ended.
    pub end: Instant,
}
