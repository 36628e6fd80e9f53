//! The CUDA driver, safely: devices, their primary context, streams, events, memory and graphs.
//!
//! In: the [`Places`](crate::Places) where `libcuda.so.1` may be. Out: owners that keep their parents alive, so a
//! buffer or a stream may outlive the variable its context was in. A driver without a function that is needed,
//! or a call that fails, is an [`Error`](crate::Error) with CUDA's code and name.
//!
//! Only streams that do not wait for the default stream are made, and nothing is enqueued on the default stream but by who
//! asks for it ([`Stream::default_of`]). Every call first makes its context current on the calling thread, and leaves it so: that is the
//! context that TensorRT and the CUDA runtime use for this device too. What fails while something is dropped is
//! ignored; an error that matters is sticky, and the next call reports it.
//!
//! Nothing public here starts work that outlives the call: that takes memory that cannot go away, which a
//! [`Lane`](crate::execution::Lane) has.

mod api;
mod clock;
mod context;
mod device;
mod driver;
mod event;
mod graph;
mod host_copy;
mod memory;
mod stream;

#[cfg(test)]
mod tests;

pub use clock::EventClock;
pub use context::{CudaContext, MemoryInfo};
pub use device::{Device, DeviceProperties, HostWait};
pub use driver::Driver;
pub use event::{Event, EventTiming, EventWait};
pub use host_copy::copy_past_caches;
pub use memory::{DeviceBuffer, PinnedBuffer, PinnedMemory, PinnedReserve};
pub use stream::{Stream, StreamPriority};

pub(crate) use clock::shifted;
pub(crate) use graph::Graph;
