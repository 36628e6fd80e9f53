//! `IExecutionContext`: one execution of an engine at a time.
//!
//! What can be asked and set is here. To run, it becomes a [`Compute`](crate::execution::Compute), see
//! `compute`: that keeps streams and buffers alive, which TensorRT only knows by address.

use std::cell::Cell;
use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use super::abi::{Dims, calls};
use super::callbacks::{LayerTime, OutputAllocator, Profiler};
use super::engine::{Activations, Engine, TensorLocation, TensorMode, profile_number};
use super::object::{Owned, text_at};
use super::runtime_config::RuntimeConfig;
use crate::cuda::{DeviceBuffer, Stream};
use crate::error::{Error, Result};
use crate::raw::{DevicePointer, RawStream};

/// One execution of an engine at a time. It moves between threads, and only one thread at a time uses it:
///
/// ```
/// fn moves_between_threads<T: Send>() {}
/// moves_between_threads::<thalweg_nvidia::tensorrt::ExecutionContext>();
/// ```
///
/// ```compile_fail
/// fn is_shared_by_threads<T: Sync>() {}
/// is_shared_by_threads::<thalweg_nvidia::tensorrt::ExecutionContext>();
/// ```
#[doc(alias = "IExecutionContext")]
pub struct ExecutionContext {
    // First, because it refers to the profiler, the allocators, the configuration and the memory.
    owned: Owned,
    profiler: Option<Arc<Profiler>>,
    /// How it was made, where it was told.
    _config: Option<RuntimeConfig>,
    engine: Engine,
    activations: Activations,
    activation_memory: Option<Arc<DeviceBuffer>>,
    /// Where each tensor of the engine lies, in the engine's order.
    bindings: Vec<Option<Binding>>,
    /// For outputs whose shape only an execution tells, in the same order.
    output_allocators: Vec<Option<Arc<OutputAllocator>>>,
    profile: usize,
    is_checked: bool,
    _not_sync: PhantomData<Cell<()>>,
}

/// Where a tensor lies.
enum Binding {
    /// On the device. Whoever enqueues keeps the memory until that is done.
    Device { address: DevicePointer, byte_count: usize },
    /// On the host, and here.
    Host(Box<[i64]>),
}

impl Binding {
    fn byte_count(&self) -> usize {
        match self {
            Self::Device { byte_count, .. } => *byte_count,
            Self::Host(values) => size_of_val::<[i64]>(values),
        }
    }
}

/// The times of the layers of a context's executions.
pub struct LayerTimes(Arc<Profiler>);

impl LayerTimes {
    /// Those since the last call, in the order of the executions and their layers.
    pub fn take(&self) -> Vec<LayerTime> {
        self.0.take()
    }
}

/// The shape of an output that only executions tell, such as that of `NonZero`.
pub struct OutputShape(Arc<OutputAllocator>);

impl OutputShape {
    /// The shape that the last execution gave, once. TensorRT tells it while it enqueues.
    pub fn take(&self) -> Option<Vec<i64>> {
        self.0.take_shape()
    }
}

impl ExecutionContext {
    /// # Safety
    /// - `owned` is an `IExecutionContext` of this engine, made with these activations.
    pub(crate) unsafe fn new(owned: Owned, engine: Engine, activations: Activations) -> Result<Self> {
        // SAFETY: this is the context's setter.
        let owned = unsafe { owned.with_recorder(calls::execution_context::set_error_recorder) }?;
        let bindings = engine.tensors().iter().map(|_| None).collect();
        let output_allocators = engine.tensors().iter().map(|_| None).collect();
        Ok(Self {
            owned,
            profiler: None,
            _config: None,
            engine,
            activations,
            activation_memory: None,
            bindings,
            output_allocators,
            profile: 0,
            is_checked: false,
            _not_sync: PhantomData,
        })
    }

    /// Keeps what it was made with.
    pub(crate) fn keep(self, config: RuntimeConfig) -> Self {
        Self { _config: Some(config), ..self }
    }

    /// The engine that it runs.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The optimization profile that it uses.
    pub fn optimization_profile(&self) -> usize {
        self.profile
    }

    /// Sets the shape of an input with open dimensions.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] for a wrong name, [`Error::TensorRt`] where the profile does not allow the
    /// shape.
    #[doc(alias = "setInputShape")]
    pub fn set_input_shape(&mut self, input: &str, shape: &[i64]) -> Result<()> {
        self.is_checked = false;
        let (_, name) = self.engine.tensor(input)?;
        let dims = Dims::new(self.owned.object().abi(), shape)?;
        // SAFETY: the context lives and `&mut self` keeps others away, as in all methods here; it copies the
        // dims.
        self.owned.agree("set the shape of an input", |context| unsafe {
            calls::execution_context::set_input_shape(context, name.as_ptr(), dims.as_ptr())
        })
    }

    /// Computes the shapes of the outputs, and returns the inputs whose shape or values are still missing.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where the shapes contradict each other.
    #[doc(alias = "inferShapes")]
    pub fn infer_shapes(&mut self) -> Result<Vec<String>> {
        let mut missing = vec![ptr::null(); self.bindings.len()];
        let capacity = i32::try_from(missing.len()).expect("bug: TensorRT counts tensors with an int32_t");
        // SAFETY: see `set_input_shape`; `missing` has room for `capacity` names.
        let (count, said) = self.owned.listen(|context| unsafe {
            calls::execution_context::infer_shapes(context, capacity, missing.as_mut_ptr())
        })?;
        let Ok(count) = usize::try_from(count) else {
            return Err(self.owned.session().refusal("infer the shapes", said));
        };
        // SAFETY: TensorRT wrote the names of `count` tensors, which live as long as the engine.
        Ok(missing.into_iter().take(count).filter_map(|name| unsafe { text_at(name) }).collect())
    }

    /// The shape of a tensor: of an input as it was set, of an output as it follows from the inputs.
    /// Dimensions that only the execution will tell are -1.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] for a wrong name, [`Error::TensorRt`] where the shape does not follow yet.
    #[doc(alias = "getTensorShape")]
    pub fn tensor_shape(&self, tensor: &str) -> Result<Vec<i64>> {
        let (_, name) = self.engine.tensor(tensor)?;
        self.shape_of(name)
    }

    /// Lets a tensor lie in this memory of the device, from the next execution on.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT refuses it.
    #[doc(alias = "setTensorAddress")]
    pub(crate) fn bind_device(&mut self, index: usize, memory: &DeviceBuffer) -> Result<()> {
        let (address, byte_count) = (memory.pointer(), memory.capacity());
        match &self.bindings[index] {
            // The usual case, on the way of every execution.
            Some(Binding::Device { address: a, byte_count: b }) if *a == address && *b == byte_count => {
                Ok(())
            }
            _ => {
                if let Some(allocator) = &self.output_allocators[index] {
                    allocator.bind(address, byte_count);
                }
                self.bind_at(index, address.as_ptr(), Binding::Device { address, byte_count })
            }
        }
    }

    /// Has executions tell the shape of an output that depends on what they compute. Such an output is written to
    /// the start of the memory that it is bound to. Executions wait for the device in between then, and cannot be
    /// captured as a graph.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] for a wrong name, [`Error::TensorRt`] where TensorRT refuses it.
    #[doc(alias = "setOutputAllocator")]
    #[doc(alias = "IOutputAllocator")]
    pub fn note_output_shape(&mut self, output: &str) -> Result<OutputShape> {
        let index = self.engine.tensor_index(output)?;
        let name = self.engine.name(index);
        let allocator =
            Arc::new(OutputAllocator::new(self.owned.object().abi(), self.owned.session().panics()));
        // SAFETY: see `set_input_shape`; the allocator is kept below.
        self.owned.agree("set the allocator of an output", |context| unsafe {
            calls::execution_context::set_output_allocator(context, name.as_ptr(), allocator.as_ptr())
        })?;
        if let Some(Binding::Device { address, byte_count }) = &self.bindings[index] {
            allocator.bind(*address, *byte_count);
        }
        self.output_allocators[index] = Some(Arc::clone(&allocator));
        Ok(OutputShape(allocator))
    }

    /// Gives an input that lies in host memory its values. Types of 32 bits are taken from the low halves.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] for a wrong name, [`Error::WrongLocation`] for one that lies in device memory,
    /// [`Error::TensorRt`] where TensorRT refuses it.
    #[doc(alias = "setTensorAddress")]
    pub fn bind_host_values(&mut self, input: &str, values: &[i64]) -> Result<()> {
        let index = self.engine.tensor_index(input)?;
        let tensor = &self.engine.tensors()[index];
        if tensor.location != TensorLocation::Host {
            return Err(Error::WrongLocation { tensor: input.to_owned() });
        }
        let bytes = match tensor.data_type.bit_count() {
            Some(64) => values.to_vec(),
            _ => pack_32(values),
        };
        let values = bytes.into_boxed_slice();
        let address = values.as_ptr().cast_mut().cast();
        self.bind_at(index, address, Binding::Host(values))
    }

    fn bind_at(&mut self, index: usize, address: *mut c_void, binding: Binding) -> Result<()> {
        self.is_checked = false;
        let name = self.engine.name(index);
        // SAFETY: see `set_input_shape`; the address is used by executions only, whose caller keeps the
        // memory, and its size is checked before.
        self.owned.agree("set the address of a tensor", |context| unsafe {
            calls::execution_context::set_tensor_address(context, name.as_ptr(), address)
        })?;
        self.bindings[index] = Some(binding);
        Ok(())
    }

    /// Gives it the memory that it computes in, where that is the caller's business
    /// ([`Activations::UserManaged`]). Contexts that share it must not run at the same time, or their outputs
    /// are wrong.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] where [`Engine::device_memory_size`] of the profile is more,
    /// [`Error::WrongActivations`] where the context has memory of its own.
    #[doc(alias = "setDeviceMemory")]
    #[doc(alias = "setDeviceMemoryV2")]
    pub fn set_activation_memory(&mut self, memory: Arc<DeviceBuffer>) -> Result<()> {
        if self.activations != Activations::UserManaged {
            return Err(Error::WrongActivations);
        }
        let needed = self.engine.device_memory_size(self.profile)?;
        let given = memory.byte_count();
        if given < needed {
            return Err(Error::BufferTooSmall { buffer: "activations".into(), needed, given });
        }
        let address = memory.pointer().as_ptr();
        let size = i64::try_from(given).expect("bug: no device has that much memory");
        self.owned.instruct("set the activation memory", |context| {
            if context.abi().has(&calls::execution_context::SET_DEVICE_MEMORY_V2) {
                // SAFETY: see `set_input_shape`; the memory is kept below.
                unsafe { calls::execution_context::set_device_memory_v2(context, address, size) }
            } else {
                // SAFETY: as above.
                unsafe { calls::execution_context::set_device_memory(context, address) }
            }
        })?;
        self.activation_memory = Some(memory);
        Ok(())
    }

    /// Measures each layer of the following executions. They wait for the GPU then and take longer, and
    /// cannot be captured as a graph.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT refuses it.
    #[doc(alias = "setProfiler")]
    pub fn measure_layers(&mut self) -> Result<LayerTimes> {
        let profiler = Arc::new(Profiler::new(self.owned.object().abi()));
        // SAFETY: see `set_input_shape`; the profiler is kept below.
        self.owned.instruct("set the profiler", |context| unsafe {
            calls::execution_context::set_profiler(context, profiler.as_ptr())
        })?;
        self.profiler = Some(Arc::clone(&profiler));
        Ok(LayerTimes(profiler))
    }

    /// Has executions name no ranges for profilers any more, which takes time in each call that enqueues: one for each layer,
    /// in full where the engine was built to be inspected. False where TensorRT goes on naming them.
    ///
    /// # Errors
    /// None that a supported version has.
    #[doc(alias = "setNvtxVerbosity")]
    pub fn name_no_ranges(&mut self) -> Result<bool> {
        // `ProfilingVerbosity::kNONE`.
        const NONE: i32 = 1;
        // SAFETY: see `set_input_shape`.
        unsafe { calls::execution_context::set_nvtx_verbosity(self.owned.object(), NONE) }
    }

    /// Chooses an optimization profile and waits until that is done. All shapes have to be set again then,
    /// and activation memory be given again.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where the profile is not there, or another context uses it (see
    /// [`SharedProfiles`](super::SharedProfiles)); what CUDA refuses.
    #[doc(alias = "setOptimizationProfileAsync")]
    pub fn set_optimization_profile(&mut self, profile: usize, stream: &Stream) -> Result<()> {
        let number = profile_number(profile)?;
        self.is_checked = false;
        // SAFETY: see `set_input_shape`; nothing of this context is in flight as long as it can be reached,
        // and the stream lives until it has caught up below.
        self.owned.agree("choose the optimization profile", |context| unsafe {
            calls::execution_context::set_optimization_profile_async(context, number, stream.raw().0)
        })?;
        self.profile = profile;
        self.activation_memory = None;
        stream.synchronize()
    }

    /// Enqueues one execution. It returns before the execution is done.
    ///
    /// # Safety
    /// - The stream lives until the execution is done, and so does this context.
    /// - What was enqueued of this context before is done, or was on the same stream.
    /// - All memory that is bound to it lives until the execution is done.
    ///
    /// # Errors
    /// [`Error::NotBound`] and [`Error::BufferTooSmall`] where a tensor has no memory or too little,
    /// [`Error::NotLinear`] where it would have another layout, [`Error::NoActivationMemory`] where the context has nothing to
    /// compute in, [`Error::TensorRt`] where TensorRT refuses it.
    #[doc(alias = "enqueueV3")]
    pub(crate) unsafe fn enqueue_on(&mut self, stream: RawStream) -> Result<()> {
        if !self.is_checked {
            self.check_bindings()?;
            self.is_checked = true;
        }
        // SAFETY: see `set_input_shape`; all memory is there, large enough and alive, and the caller promises
        // the rest.
        let enqueued = self.owned.agree("enqueue an execution", |context| unsafe {
            calls::execution_context::enqueue_v3(context, stream.0)
        });
        enqueued.map_err(|error| self.output_too_small().unwrap_or(error))
    }

    /// The output that turned out to need more than its memory in the execution that has just failed.
    fn output_too_small(&self) -> Option<Error> {
        let mut tensors = self.engine.tensors().iter().zip(&self.bindings).zip(&self.output_allocators);
        tensors.find_map(|((tensor, binding), allocator)| {
            let needed = allocator.as_ref()?.take_missing_bytes()?;
            let given = binding.as_ref().map_or(0, Binding::byte_count);
            let needed = usize::try_from(needed).unwrap_or(usize::MAX);
            Some(Error::BufferTooSmall { buffer: tensor.name.clone(), needed, given })
        })
    }

    /// That every tensor has enough memory for its shape, and the context some to compute in.
    fn check_bindings(&self) -> Result<()> {
        if self.activations == Activations::UserManaged && self.activation_memory.is_none() {
            // Some networks need none at all.
            if self.engine.device_memory_size(self.profile)? > 0 {
                return Err(Error::NoActivationMemory);
            }
        }
        for (index, tensor) in self.engine.tensors().iter().enumerate() {
            let Some(binding) = &self.bindings[index] else {
                return Err(Error::NotBound { tensor: tensor.name.clone() });
            };
            if !tensor.is_linear {
                return Err(Error::NotLinear { tensor: tensor.name.clone() });
            }
            let (needed, given) = (self.needed_bytes(index)?, binding.byte_count());
            if given < needed {
                return Err(Error::BufferTooSmall { buffer: tensor.name.clone(), needed, given });
            }
        }
        Ok(())
    }

    /// How many bytes an execution reads or writes of a tensor, at most.
    fn needed_bytes(&self, index: usize) -> Result<usize> {
        let tensor = &self.engine.tensors()[index];
        let name = self.engine.name(index);
        let unknown = || Error::ShapeNotKnown { tensor: tensor.name.clone() };
        if let Some(bytes) = tensor.data_type.byte_count(&self.shape_of(name)?) {
            return Ok(bytes);
        }
        if tensor.mode == TensorMode::Input {
            return Err(unknown());
        }
        // A bound for a shape that only the execution will tell.
        // SAFETY: context and name live, and the method changes nothing that it should.
        let most = unsafe { calls::execution_context::max_output_size(self.owned.object(), name.as_ptr()) }?;
        // Asked for that, 8.6.0 runs the next execution with the shapes that were set before the present ones, unless it is
        // asked for a shape too (`scripts/gpu/shapes.cu`).
        self.shape_of(name)?;
        usize::try_from(most).map_err(|_| unknown())
    }

    fn shape_of(&self, name: &CStr) -> Result<Vec<i64>> {
        let (shape, said) = self.owned.listen(|context| {
            // SAFETY: context and name live, and the method changes nothing.
            unsafe { calls::execution_context::tensor_shape(context, name.as_ptr()) }
        })?;
        shape.ok_or_else(|| self.owned.session().refusal("tell the shape of a tensor", said))
    }
}

/// Puts values of 32 bits one behind the other, in the memory of values of 64.
#[expect(clippy::cast_possible_truncation, reason = "the low halves are asked for")]
fn pack_32(values: &[i64]) -> Vec<i64> {
    let pack = |pair: &[i64]| {
        let mut bytes = [0; 8];
        for (half, value) in bytes.chunks_exact_mut(4).zip(pair) {
            half.copy_from_slice(&(*value as i32).to_ne_bytes());
        }
        i64::from_ne_bytes(bytes)
    };
    values.chunks(2).map(pack).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_32_bits_lie_one_behind_the_other() {
        let packed = pack_32(&[1, -2, 3]);
        let bytes: Vec<u8> = packed.iter().flat_map(|value| value.to_ne_bytes()).collect();
        let values: Vec<_> =
            bytes.chunks_exact(4).map(|half| i32::from_ne_bytes(half.try_into().unwrap())).collect();
        assert_eq!(values, [1, -2, 3, 0]);
    }
}
