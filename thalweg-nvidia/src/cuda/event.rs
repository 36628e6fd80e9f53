//! Events: marks in a stream that can be waited for and that know their time.

use std::fmt;
use std::ptr;
use std::sync::Arc;

use crate::cuda::api::{EVENT_BLOCKING_SYNC, EVENT_DISABLE_TIMING, EVENT_RECORD_EXTERNAL, Handle};
use crate::cuda::{CudaContext, Stream};
use crate::error::Result;

/// A mark in a stream. It can be recorded again and again; it then stands for the last time.
pub struct Event {
    context: Arc<CudaContext>,
    handle: Handle,
}

/// Whether an event remembers when it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventTiming {
    /// It does.
    On,
    /// It does not, and costs the device a little less.
    Off,
}

/// How a host thread waits for an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventWait {
    /// As the context does; see [`HostWait`](crate::cuda::HostWait).
    #[default]
    AsContext,
    /// It sleeps until the device interrupts, some ten microseconds later than spinning would see it.
    Block,
}

impl Event {
    /// A new event, not recorded yet.
    ///
    /// # Errors
    /// Where the driver has no more of them.
    #[doc(alias = "cuEventCreate")]
    pub fn new(context: &Arc<CudaContext>, timing: EventTiming, wait: EventWait) -> Result<Self> {
        let timing = if timing == EventTiming::Off { EVENT_DISABLE_TIMING } else { 0 };
        let wait = if wait == EventWait::Block { EVENT_BLOCKING_SYNC } else { 0 };
        let api = context.enter()?;
        let mut handle = ptr::null_mut();
        // SAFETY: `handle` is writable, a context is current, and cuda.h defines the flags.
        unsafe { api.event_create(&raw mut handle, timing | wait) }?;
        Ok(Self { context: Arc::clone(context), handle: Handle(handle) })
    }

    /// Marks the place behind everything that is on the stream now.
    ///
    /// # Errors
    /// Where the stream is of another device.
    #[doc(alias = "cuEventRecord")]
    pub fn record(&self, stream: &Stream) -> Result<()> {
        let api = self.context.enter()?;
        // SAFETY: both exist.
        unsafe { api.event_record(self.handle.0, stream.handle().0) }
    }

    /// As [`record`](Self::record), but while `stream` is captured: each launch of the graph records the event.
    #[doc(alias = "cuEventRecordWithFlags")]
    pub(crate) fn record_in_graph(&self, stream: &Stream) -> Result<()> {
        let api = self.context.enter()?;
        // SAFETY: both exist. A graph keeps no hold on the event, so its owner keeps both.
        unsafe { api.event_record_with_flags(self.handle.0, stream.handle().0, EVENT_RECORD_EXTERNAL) }
    }

    /// Whether the work before the mark is done. So it is where the event was never recorded.
    ///
    /// # Errors
    /// Where some of that work has failed.
    #[doc(alias = "cuEventQuery")]
    pub fn is_complete(&self) -> Result<bool> {
        let api = self.context.enter()?;
        // SAFETY: the event exists as long as `self`.
        let code = unsafe { api.event_query(self.handle.0) }?;
        api.is_finished("cuEventQuery", code)
    }

    /// Waits until the work before the mark is done.
    ///
    /// # Errors
    /// Where some of that work has failed.
    #[doc(alias = "cuEventSynchronize")]
    pub fn wait(&self) -> Result<()> {
        let api = self.context.enter()?;
        // SAFETY: the event exists as long as `self`.
        unsafe { api.event_synchronize(self.handle.0) }
    }

    /// Milliseconds from `earlier` to this event, negative where it came first. The device counts in steps of
    /// about half a microsecond.
    ///
    /// # Errors
    /// Where one of them is not complete, was never recorded or has no timing.
    #[doc(alias = "cuEventElapsedTime")]
    pub fn elapsed_ms(&self, earlier: &Self) -> Result<f32> {
        let api = self.context.enter()?;
        let mut milliseconds = 0.0;
        // SAFETY: `milliseconds` is writable and both events exist.
        unsafe { api.event_elapsed(&raw mut milliseconds, earlier.handle.0, self.handle.0) }?;
        Ok(milliseconds)
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Drop for Event {
    #[doc(alias = "cuEventDestroy")]
    fn drop(&mut self) {
        let Ok(api) = self.context.enter() else { return };
        // SAFETY: nobody else has the handle. The driver keeps an event that is not complete until it is.
        let _ = unsafe { api.event_destroy(self.handle.0) };
    }
}
