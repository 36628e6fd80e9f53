//! Streams, and the copies that wait until they are done.

use std::fmt;
use std::ptr;
use std::sync::Arc;

use crate::cuda::api::{DriverApi, Handle, STREAM_NON_BLOCKING};
use crate::cuda::{CudaContext, DeviceBuffer, Event};
use crate::error::{Error, Result};
use crate::raw::RawStream;

/// A CUDA stream: what is enqueued on it runs in order, and beside everything on other streams. It never waits
/// for the default stream, unless it is [that one](Self::default_of).
pub struct Stream {
    context: Arc<CudaContext>,
    handle: Handle,
}

/// Which streams the device prefers where several have work ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamPriority {
    /// That of other streams.
    #[default]
    Normal,
    /// The highest that the device has.
    Highest,
}

impl Stream {
    /// A new stream.
    ///
    /// # Errors
    /// Where the driver has no more of them.
    #[doc(alias = "cuStreamCreateWithPriority")]
    pub fn new(context: &Arc<CudaContext>, priority: StreamPriority) -> Result<Self> {
        let api = context.enter()?;
        let priority = match priority {
            StreamPriority::Normal => 0,
            StreamPriority::Highest => highest_priority(api)?,
        };
        let mut handle = ptr::null_mut();
        // SAFETY: `handle` is writable, a context is current, and priorities out of range are clamped.
        unsafe { api.stream_create(&raw mut handle, STREAM_NON_BLOCKING, priority) }?;
        Ok(Self { context: Arc::clone(context), handle: Handle(handle) })
    }

    /// The context's default stream, which is there once for all: whoever takes it runs behind everybody else who does.
    /// Nothing can be captured on it. To see what it costs.
    #[doc(alias = "CU_STREAM_LEGACY")]
    pub fn default_of(context: &Arc<CudaContext>) -> Self {
        Self { context: Arc::clone(context), handle: Handle(ptr::null_mut()) }
    }

    /// The context that it belongs to.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// The handle, for TensorRT.
    pub fn raw(&self) -> RawStream {
        RawStream(self.handle.0)
    }

    /// Waits until everything that was enqueued on it is done.
    ///
    /// # Errors
    /// Where some of that work has failed.
    #[doc(alias = "cuStreamSynchronize")]
    pub fn synchronize(&self) -> Result<()> {
        let api = self.context.enter()?;
        // SAFETY: the stream exists as long as `self`.
        unsafe { api.stream_synchronize(self.handle.0) }
    }

    /// Whether everything that was enqueued on it is done.
    ///
    /// # Errors
    /// Where some of that work has failed.
    #[doc(alias = "cuStreamQuery")]
    pub fn is_idle(&self) -> Result<bool> {
        let api = self.context.enter()?;
        // SAFETY: as above.
        let code = unsafe { api.stream_query(self.handle.0) }?;
        api.is_finished("cuStreamQuery", code)
    }

    /// Lets everything that is enqueued from now on wait for the work that the event was last recorded behind.
    /// The host does not wait.
    ///
    /// # Errors
    /// Where the event is of another device.
    #[doc(alias = "cuStreamWaitEvent")]
    pub fn wait_for(&self, event: &Event) -> Result<()> {
        let api = self.context.enter()?;
        // SAFETY: both exist; the driver keeps what it needs of an event that is destroyed before it is reached.
        unsafe { api.stream_wait_event(self.handle.0, event.handle().0, 0) }
    }

    /// Copies from the host to the start of a device buffer, and waits until that is done.
    ///
    /// # Errors
    /// [`Error::WrongSize`] where the buffer is shorter than `source`; where the copy fails.
    pub fn upload(&self, source: &[u8], target: &DeviceBuffer) -> Result<()> {
        fits("device buffer", source.len(), target.byte_count())?;
        // SAFETY: `source` is readable and `target` long enough, and both stay until `synchronize` has returned.
        unsafe { self.enqueue_upload(source.as_ptr(), target, source.len()) }?;
        self.synchronize()
    }

    /// Copies from the start of a device buffer to the host, and waits until that is done.
    ///
    /// # Errors
    /// [`Error::WrongSize`] where the buffer is shorter than `target`; where the copy fails.
    pub fn download(&self, source: &DeviceBuffer, target: &mut [u8]) -> Result<()> {
        fits("device buffer", target.len(), source.byte_count())?;
        // SAFETY: `target` is writable and `source` long enough, and both stay until `synchronize` has returned.
        unsafe { self.enqueue_download(source, target.as_mut_ptr(), target.len()) }?;
        self.synchronize()
    }

    /// Fills a device buffer with zeros, and waits until that is done.
    ///
    /// # Errors
    /// Where the driver refuses.
    #[doc(alias = "cuMemsetD8Async")]
    pub fn zero(&self, target: &DeviceBuffer) -> Result<()> {
        let api = self.context.enter()?;
        // SAFETY: the buffer has so many bytes, and stays until `synchronize` has returned.
        unsafe { api.memory_fill(target.address(), 0, target.byte_count(), self.handle.0) }?;
        self.synchronize()
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    /// Enqueues a copy to the start of a device buffer and does not wait.
    ///
    /// # Safety
    /// - `target` has so many bytes, and as many can be read at `source`.
    /// - Until the stream has reached the end of the copy, both live and nobody writes to `source`.
    #[doc(alias = "cuMemcpyHtoDAsync")]
    pub(crate) unsafe fn enqueue_upload(
        &self,
        source: *const u8,
        target: &DeviceBuffer,
        byte_count: usize,
    ) -> Result<()> {
        let api = self.context.enter()?;
        // SAFETY: as the caller promises.
        unsafe { api.copy_h2d(target.address(), source.cast(), byte_count, self.handle.0) }
    }

    /// Enqueues a copy from the start of a device buffer and does not wait.
    ///
    /// # Safety
    /// - `source` has so many bytes, and as many can be written at `target`.
    /// - Until the stream has reached the end of the copy, both live and nobody else touches `target`.
    #[doc(alias = "cuMemcpyDtoHAsync")]
    pub(crate) unsafe fn enqueue_download(
        &self,
        source: &DeviceBuffer,
        target: *mut u8,
        byte_count: usize,
    ) -> Result<()> {
        let api = self.context.enter()?;
        // SAFETY: as the caller promises.
        unsafe { api.copy_d2h(target.cast(), source.address(), byte_count, self.handle.0) }
    }

    /// Enqueues a copy between device buffers and does not wait.
    ///
    /// # Safety
    /// Both buffers live until the stream has reached the end of the copy.
    #[doc(alias = "cuMemcpyDtoDAsync")]
    pub(crate) unsafe fn enqueue_copy(&self, source: &DeviceBuffer, target: &DeviceBuffer) -> Result<()> {
        let byte_count = source.byte_count().min(target.byte_count());
        let api = self.context.enter()?;
        // SAFETY: both are long enough and live long enough, as the caller promises.
        unsafe { api.copy_d2d(target.address(), source.address(), byte_count, self.handle.0) }
    }
}

/// The driver counts down: the greatest priority is the lowest number.
#[doc(alias = "cuCtxGetStreamPriorityRange")]
fn highest_priority(api: &DriverApi) -> Result<i32> {
    let (mut least, mut greatest) = (0, 0);
    // SAFETY: both are writable, and the caller has made a context current.
    unsafe { api.stream_priority_range(&raw mut least, &raw mut greatest) }?;
    Ok(greatest)
}

fn fits(what: &'static str, wanted: usize, capacity: usize) -> Result<()> {
    if wanted <= capacity {
        Ok(())
    } else {
        Err(Error::WrongSize { what, index: 0, expected: wanted, got: capacity })
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Drop for Stream {
    #[doc(alias = "cuStreamDestroy")]
    fn drop(&mut self) {
        if self.handle.0.is_null() {
            // The default stream belongs to the context.
            return;
        }
        let Ok(api) = self.context.enter() else { return };
        // SAFETY: nobody else has the handle. Work that is still enqueued is finished first, by the driver.
        let _ = unsafe { api.stream_destroy(self.handle.0) };
    }
}
