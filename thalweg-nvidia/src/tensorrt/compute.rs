//! An execution context as the compute stage of a lane.

use std::sync::Arc;

use super::engine::TensorMode;
use super::execution_context::ExecutionContext;
use crate::cuda::{DeviceBuffer, Stream};
use crate::error::{Error, Result};
use crate::execution::{Call, Compute};

/// The shapes of the inputs with open dimensions, for a batch size.
pub type InputShapes = Box<dyn FnMut(usize) -> Vec<(String, Vec<i64>)> + Send>;

impl ExecutionContext {
    /// Makes it the compute stage of lanes on this stream. Their inputs and outputs are those tensors of
    /// [`Engine::tensors`](super::Engine::tensors) that lie on the device, in that order.
    ///
    /// A job with a graph needs a context of its own: NVIDIA asks for one per captured graph. Contexts on one stream may
    /// share their activation memory.
    #[doc(alias = "enqueueV3")]
    pub fn into_compute(self, stream: Arc<Stream>, shapes: InputShapes) -> Arc<Compute> {
        let mut stage = Stage {
            inputs: self.engine().on_device(TensorMode::Input).collect(),
            outputs: self.engine().on_device(TensorMode::Output).collect(),
            context: self,
            shapes,
            batch_size: None,
        };
        // SAFETY: an execution is enqueued on the stream of the call alone; TensorRT joins its auxiliary streams with it.
        // It uses the buffers of the call, and the activation memory and the engine, which the context keeps.
        unsafe { Compute::new(stream, move |call| stage.enqueue(call)) }
    }
}

/// A context and what it was last set to.
struct Stage {
    context: ExecutionContext,
    /// Places of the lane's inputs among the engine's tensors.
    inputs: Vec<usize>,
    /// Places of the lane's outputs among them.
    outputs: Vec<usize>,
    shapes: InputShapes,
    /// What the shapes are set for.
    batch_size: Option<usize>,
}

impl Stage {
    fn enqueue(&mut self, call: &Call<'_>) -> Result<()> {
        if self.batch_size != Some(call.batch_size) {
            self.batch_size = None;
            for (input, shape) in (self.shapes)(call.batch_size) {
                self.context.set_input_shape(&input, &shape)?;
            }
            self.batch_size = Some(call.batch_size);
        }
        bind(&mut self.context, "input", &self.inputs, call.inputs)?;
        bind(&mut self.context, "output", &self.outputs, call.outputs)?;
        // SAFETY: the stream and the buffers live until the work of the call is done, as `Compute` asks of its caller, and
        // so does this stage. All calls are on one stream, or in capture.
        unsafe { self.context.enqueue_on(call.stream.raw()) }
    }
}

fn bind(
    context: &mut ExecutionContext,
    what: &'static str,
    places: &[usize],
    buffers: &[Arc<DeviceBuffer>],
) -> Result<()> {
    if places.len() != buffers.len() {
        return Err(Error::WrongCount { what, expected: places.len(), got: buffers.len() });
    }
    places.iter().zip(buffers).try_for_each(|(place, buffer)| context.bind_device(*place, buffer))
}
