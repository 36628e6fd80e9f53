//! What runs between the copies.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cuda::{DeviceBuffer, Stream};
use crate::error::Result;

type Enqueue = dyn FnMut(&Call<'_>) -> Result<()> + Send;

/// The compute stage: enqueues work on a stream, between the inputs and outputs of the lane that calls it.
///
/// It is made by this crate only, from work that is known to keep what it uses: see
/// [`execution`](crate::execution). One is shared by all lanes whose jobs run on its stream.
pub struct Compute {
    stream: Arc<Stream>,
    /// Uncontended as long as one thread drives all lanes of a stream, as it should; the lock makes sharing between
    /// lanes possible, and what is enqueued stays whole where several threads do so nevertheless.
    enqueue: Mutex<Box<Enqueue>>,
}

/// One call of the compute stage.
pub(crate) struct Call<'a> {
    /// Where to enqueue.
    pub(crate) stream: &'a Stream,
    /// The lane's inputs.
    pub(crate) inputs: &'a [Arc<DeviceBuffer>],
    /// The lane's outputs.
    pub(crate) outputs: &'a [Arc<DeviceBuffer>],
    /// How many samples the job runs.
    pub(crate) batch_size: usize,
}

impl Compute {
    /// # Safety
    /// - `enqueue` puts work on the call's stream only, or on streams that this one then waits for. That is `stream`,
    ///   or a stream in capture, on which nothing runs.
    /// - The work uses the buffers of the call, and otherwise only memory and objects that live as long as
    ///   `enqueue` does: it is dropped when no work of it is left.
    pub(crate) unsafe fn new(
        stream: Arc<Stream>,
        enqueue: impl FnMut(&Call<'_>) -> Result<()> + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { stream, enqueue: Mutex::new(Box::new(enqueue)) })
    }

    /// No computation, to measure what the copies cost alone.
    pub fn nothing(stream: Arc<Stream>) -> Arc<Self> {
        // SAFETY: it enqueues nothing.
        unsafe { Self::new(stream, |_| Ok(())) }
    }

    /// Copies the first input to the first output, the second to the second and so on, as many bytes as fit: to
    /// measure the memory of the device, and to test lanes without a network.
    pub fn copies(stream: Arc<Stream>) -> Arc<Self> {
        let copy = |call: &Call<'_>| {
            let mut pairs = call.inputs.iter().zip(call.outputs);
            // SAFETY: the buffers of a call live until its work is done.
            pairs.try_for_each(|(input, output)| unsafe { call.stream.enqueue_copy(input, output) })
        };
        // SAFETY: only the buffers of the call are used.
        unsafe { Self::new(stream, copy) }
    }

    /// As [`copies`](Self::copies), some time later: before it, the first of `ballast` is copied to the second as often
    /// as `count` says, anew for each call. With it tests let stages take any time they like.
    pub fn late_copies(
        stream: Arc<Stream>,
        ballast: [DeviceBuffer; 2],
        mut count: impl FnMut() -> usize + Send + 'static,
    ) -> Arc<Self> {
        let copy = move |call: &Call<'_>| {
            for _ in 0..count() {
                // SAFETY: both belong to this closure, which is dropped when no work of it is left.
                unsafe { call.stream.enqueue_copy(&ballast[0], &ballast[1]) }?;
            }
            let mut pairs = call.inputs.iter().zip(call.outputs);
            // SAFETY: the buffers of a call live until its work is done.
            pairs.try_for_each(|(input, output)| unsafe { call.stream.enqueue_copy(input, output) })
        };
        // SAFETY: only the buffers of the call and the closure's own are used.
        unsafe { Self::new(stream, copy) }
    }

    /// The stream that it runs on: what it uses besides the buffers of the lanes is used in the order of this stream.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Enqueues the work once.
    ///
    /// # Safety
    /// - The buffers and `self` live until the work is done.
    /// - The stream of the call is that of `self`, or is in capture.
    pub(super) unsafe fn enqueue(&self, call: &Call<'_>) -> Result<()> {
        // A panic in an earlier call was passed on to its caller; what it left half enqueued is no reason to panic.
        let mut enqueue = self.enqueue.lock().unwrap_or_else(PoisonError::into_inner);
        enqueue(call)
    }
}

impl fmt::Debug for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compute").field("stream", &self.stream).finish_non_exhaustive()
    }
}
