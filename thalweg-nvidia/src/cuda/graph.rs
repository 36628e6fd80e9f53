//! CUDA graphs: work that was captured once from a stream and is launched with one call.

use std::ptr;
use std::sync::Arc;

use crate::cuda::api::{CAPTURE_THREAD_LOCAL, Handle};
use crate::cuda::{CudaContext, Stream};
use crate::error::{Error, Result};

/// A captured graph, ready to be launched. It keeps no hold on the memory and the events that it uses.
pub(crate) struct Graph {
    context: Arc<CudaContext>,
    executable: Handle,
    node_count: usize,
}

impl Graph {
    /// Captures what `enqueue` puts on `stream`, which runs none of it, and makes it ready on the device.
    ///
    /// Captured in thread-local mode: other threads may meanwhile allocate, which would break a capture in the
    /// global mode.
    ///
    /// # Errors
    /// [`Error::CannotCapture`] with the cause. The stream is out of capture again in any case.
    pub(crate) fn capture(stream: &Stream, enqueue: impl FnOnce() -> Result<()>) -> Result<Self> {
        let template = Capture::begin(stream).and_then(|capture| {
            let enqueued = enqueue();
            // Ended first: an error of `enqueue` must not leave the stream in capture.
            let template = capture.end();
            enqueued.and(template)
        });
        let graph = template.and_then(|template| template.instantiate(stream));
        graph.map_err(|cause| Error::CannotCapture { cause: Box::new(cause) })
    }

    /// How many operations it has.
    pub(crate) fn node_count(&self) -> usize {
        self.node_count
    }

    /// Enqueues all of it.
    ///
    /// # Safety
    /// - All memory and events that were captured live until the stream has reached the end of the graph.
    /// - The graph does so too.
    #[doc(alias = "cuGraphLaunch")]
    pub(crate) unsafe fn launch(&mut self, stream: &Stream) -> Result<()> {
        let api = self.context.enter()?;
        // SAFETY: both exist, and `&mut` keeps other threads off the graph, which the driver asks for.
        unsafe { api.graph_launch(self.executable.0, stream.handle().0) }
    }
}

impl Drop for Graph {
    #[doc(alias = "cuGraphExecDestroy")]
    fn drop(&mut self) {
        let Ok(api) = self.context.enter() else { return };
        // SAFETY: nobody else has the handle, and its user lets it go only when no launch of it runs.
        let _ = unsafe { api.graph_executable_destroy(self.executable.0) };
    }
}

/// A stream in capture. Dropped without `end`, as by a panic, it throws away what was captured.
struct Capture<'a> {
    stream: &'a Stream,
    is_open: bool,
}

impl<'a> Capture<'a> {
    #[doc(alias = "cuStreamBeginCapture")]
    fn begin(stream: &'a Stream) -> Result<Self> {
        let api = stream.context().enter()?;
        // SAFETY: the stream exists; it is none of the default streams, which cannot be captured.
        unsafe { api.stream_begin_capture(stream.handle().0, CAPTURE_THREAD_LOCAL) }?;
        Ok(Self { stream, is_open: true })
    }

    #[doc(alias = "cuStreamEndCapture")]
    fn end(mut self) -> Result<Template> {
        self.is_open = false;
        end_capture(self.stream)
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if self.is_open {
            let _ = end_capture(self.stream);
        }
    }
}

fn end_capture(stream: &Stream) -> Result<Template> {
    let api = stream.context().enter()?;
    let mut graph = ptr::null_mut();
    // SAFETY: `graph` is writable, and this thread has begun the capture. After an error it is null.
    let ended = unsafe { api.stream_end_capture(stream.handle().0, &raw mut graph) };
    let template = Template { context: Arc::clone(stream.context()), handle: Handle(graph) };
    ended.map(|()| template)
}

/// A graph as captured, from which the executable one is made. May be null, after a capture that failed.
struct Template {
    context: Arc<CudaContext>,
    handle: Handle,
}

impl Template {
    #[doc(alias = "cuGraphInstantiate")]
    #[doc(alias = "cuGraphUpload")]
    fn instantiate(&self, stream: &Stream) -> Result<Graph> {
        let api = self.context.enter()?;
        let mut node_count = 0;
        // SAFETY: with no room for nodes, only their number is written.
        unsafe { api.graph_nodes(self.handle.0, ptr::null_mut(), &raw mut node_count) }?;
        let mut executable = ptr::null_mut();
        // SAFETY: `executable` is writable and the graph exists.
        unsafe { api.graph_instantiate(&raw mut executable, self.handle.0, 0) }?;
        let graph = Graph { context: Arc::clone(&self.context), executable: Handle(executable), node_count };
        // So that the first launch costs no more than the others.
        // SAFETY: both exist.
        unsafe { api.graph_upload(executable, stream.handle().0) }?;
        stream.synchronize()?;
        Ok(graph)
    }
}

impl Drop for Template {
    #[doc(alias = "cuGraphDestroy")]
    fn drop(&mut self) {
        let Ok(api) = self.context.enter() else { return };
        if !self.handle.0.is_null() {
            // SAFETY: nobody else has the handle; executable graphs made from it do not need it.
            let _ = unsafe { api.graph_destroy(self.handle.0) };
        }
    }
}
