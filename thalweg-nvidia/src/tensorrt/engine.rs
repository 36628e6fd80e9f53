//! `ICudaEngine`: a network that is built and ready to run.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use serde::Serialize;

use super::abi::{Family, calls};
use super::data_type::DataType;
use super::engine_inspector::EngineInspector;
use super::execution_context::ExecutionContext;
use super::object::{Object, Owned, c_string, text_at};
use super::optimization_profile::ShapeRange;
use super::runtime_config::RuntimeConfig;
use crate::error::{Error, Result};

/// A network that is built and ready to run. Clones are the same one, and it may be used from several
/// threads.
#[doc(alias = "ICudaEngine")]
#[derive(Clone)]
pub struct Engine {
    owned: Arc<Owned>,
    tensors: Arc<[EngineTensor]>,
    names: Arc<[CString]>,
}

/// An input or an output of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineTensor {
    /// Its name.
    pub name: String,
    /// Whether it is read or written.
    pub mode: TensorMode,
    /// Type of its elements.
    pub data_type: DataType,
    /// Its shape, -1 for dimensions that are open.
    pub shape: Vec<i64>,
    /// Where its address has to point to.
    pub location: TensorLocation,
    /// Whether its elements lie one after the other, row-major. Other layouts interleave channels and pad them, so that they
    /// take more bytes than elements.
    #[doc(alias = "TensorFormat")]
    pub is_linear: bool,
}

/// Whether a tensor is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[doc(alias = "TensorIOMode")]
pub enum TensorMode {
    /// The network reads it.
    Input,
    /// The network writes it.
    Output,
}

/// Where a tensor lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TensorLocation {
    /// In the memory of the device.
    Device,
    /// In the memory of the host, because its values are shapes.
    Host,
}

/// Who owns the memory that an execution context computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "ExecutionContextAllocationStrategy")]
pub enum Activations {
    /// The context takes as much as its largest profile needs.
    OwnedByContext,
    /// The caller gives it, so that contexts that never run at the same time can share it.
    UserManaged,
}

impl Activations {
    /// Its number in `ExecutionContextAllocationStrategy` of TensorRT 10 and later.
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::OwnedByContext => 0,
            Self::UserManaged => 2,
        }
    }
}

impl Engine {
    /// # Safety
    /// - `owned` is an `ICudaEngine`.
    pub(crate) unsafe fn new(owned: Owned) -> Result<Self> {
        // SAFETY: this is the engine's setter.
        let owned = unsafe { owned.with_recorder(calls::cuda_engine::set_error_recorder) }?;
        let engine = owned.object();
        // SAFETY: the engine lives.
        let count = unsafe { calls::cuda_engine::tensor_count(engine) }?;
        let mut tensors = Vec::new();
        for index in 0..count {
            // SAFETY: the engine lives.
            let name = unsafe { calls::cuda_engine::tensor_name(engine, index) }?;
            // SAFETY: TensorRT gives null or a name that lives as long as the engine.
            let name = unsafe { text_at(name) }.unwrap_or_default();
            tensors.push(read_tensor(engine, name)?);
        }
        let names: Result<Vec<_>> = tensors.iter().map(|tensor| c_string(&tensor.name)).collect();
        Ok(Self { owned: Arc::new(owned), tensors: tensors.into(), names: names?.into() })
    }

    /// Its inputs and outputs, in TensorRT's order.
    pub fn tensors(&self) -> &[EngineTensor] {
        &self.tensors
    }

    /// The name of one of them as TensorRT takes it.
    pub(crate) fn name(&self, index: usize) -> &CStr {
        &self.names[index]
    }

    /// Places of those of a mode that lie on the device.
    pub(crate) fn on_device(&self, mode: TensorMode) -> impl Iterator<Item = usize> {
        let tensors = self.tensors.iter().enumerate();
        tensors
            .filter(move |(_, tensor)| tensor.mode == mode && tensor.location == TensorLocation::Device)
            .map(|(index, _)| index)
    }

    /// The place of the one of this name.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] where none has this name.
    pub(crate) fn tensor_index(&self, name: &str) -> Result<usize> {
        let index = self.tensors.iter().position(|tensor| tensor.name == name);
        index.ok_or_else(|| Error::NoSuchTensor {
            tensor: name.to_owned(),
            known: self.tensors.iter().map(|tensor| tensor.name.clone()).collect(),
        })
    }

    /// One of them, with its name as TensorRT takes it.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] where none has this name.
    pub(crate) fn tensor(&self, name: &str) -> Result<(&EngineTensor, &CStr)> {
        let index = self.tensor_index(name)?;
        Ok((&self.tensors[index], &self.names[index]))
    }

    /// How many layers it has after fusion.
    ///
    /// # Errors
    /// None that a supported version has.
    #[doc(alias = "getNbLayers")]
    pub fn layer_count(&self) -> Result<usize> {
        // SAFETY: the engine lives, and the method changes nothing.
        let count = unsafe { calls::cuda_engine::layer_count(self.owned.object()) }?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// How many streams beside its own one context uses.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`] before 8.6.
    #[doc(alias = "getNbAuxStreams")]
    pub fn aux_stream_count(&self) -> Result<usize> {
        // SAFETY: the engine lives, and the method changes nothing.
        let count = unsafe { calls::cuda_engine::aux_stream_count(self.owned.object()) }?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// How many optimization profiles it was built with.
    ///
    /// # Errors
    /// None that a supported version has.
    #[doc(alias = "getNbOptimizationProfiles")]
    pub fn profile_count(&self) -> Result<usize> {
        // SAFETY: the engine lives, and the method changes nothing.
        let count = unsafe { calls::cuda_engine::profile_count(self.owned.object()) }?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// The shapes that a profile allows an input.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] for a wrong name, [`Error::TensorRt`] for an output or a profile that is not
    /// there.
    #[doc(alias = "getProfileShape")]
    pub fn profile_shapes(&self, input: &str, profile: usize) -> Result<ShapeRange> {
        let (_, name) = self.tensor(input)?;
        let profile = profile_number(profile)?;
        let shape = |selector| {
            let (shape, said) = self.owned.listen(|engine| {
                // SAFETY: engine and name live, and the method changes nothing.
                unsafe { calls::cuda_engine::profile_shape(engine, name.as_ptr(), profile, selector) }
            })?;
            shape.ok_or_else(|| self.owned.session().refusal("give the shapes of the profile", said))
        };
        // `OptProfileSelector`: kMIN, kOPT, kMAX.
        Ok(ShapeRange { min: shape(0)?, opt: shape(1)?, max: shape(2)? })
    }

    /// Bytes of device memory that a context with a profile computes in, beside the weights, which all
    /// contexts share. Before 10 this is the most that any profile needs.
    ///
    /// # Errors
    /// [`Error::TensorRt`] for a profile that is not there.
    #[doc(alias = "getDeviceMemorySizeForProfileV2")]
    pub fn device_memory_size(&self, profile: usize) -> Result<usize> {
        use calls::cuda_engine as engine_calls;
        let number = profile_number(profile)?;
        let (size, said) = self.owned.listen(|engine| {
            if engine.abi().has(&engine_calls::GET_DEVICE_MEMORY_SIZE_FOR_PROFILE_V2) {
                // SAFETY: the engine lives, and the method changes nothing, here and below.
                let size = unsafe { engine_calls::device_memory_size_for_profile_v2(engine, number) }?;
                return Ok(usize::try_from(size).unwrap_or(0));
            }
            if engine.abi().has(&engine_calls::GET_DEVICE_MEMORY_SIZE_FOR_PROFILE) {
                // SAFETY: see above.
                return unsafe { engine_calls::device_memory_size_for_profile(engine, number) };
            }
            // SAFETY: see above.
            unsafe { engine_calls::device_memory_size(engine) }
        })?;
        if said.errors.is_empty() {
            Ok(size)
        } else {
            Err(self.owned.session().refusal("give the memory size of the profile", said))
        }
    }

    /// A context to run it in.
    ///
    /// # Errors
    /// [`Error::TensorRt`], most often because the device has too little memory.
    #[doc(alias = "createExecutionContext")]
    #[doc(alias = "createExecutionContextWithoutDeviceMemory")]
    pub fn create_execution_context(&self, activations: Activations) -> Result<ExecutionContext> {
        let create = |engine: Object| match (engine.abi().family, activations) {
            // SAFETY: the engine lives, and NVIDIA allows it from several threads; here and below.
            (Family::TensorRt8, Activations::OwnedByContext) => unsafe {
                calls::cuda_engine::create_execution_context_8(engine)
            },
            // SAFETY: see above.
            (Family::TensorRt8, Activations::UserManaged) => unsafe {
                calls::cuda_engine::create_execution_context_without_device_memory(engine)
            },
            // SAFETY: see above.
            (_, activations) => unsafe {
                calls::cuda_engine::create_execution_context(engine, activations.number())
            },
        };
        // SAFETY: NVIDIA gives the caller a new `IExecutionContext`.
        let owned = unsafe { self.owned.make("create an execution context", create) }?;
        // SAFETY: it is an `IExecutionContext` of this engine.
        unsafe { ExecutionContext::new(owned, self.clone(), activations) }
    }

    /// A configuration for contexts of this engine.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`] before 10.11, [`Error::TensorRt`] where TensorRT makes none.
    #[doc(alias = "createRuntimeConfig")]
    pub fn create_runtime_config(&self) -> Result<RuntimeConfig> {
        // SAFETY: the engine lives.
        let create = |engine: Object| unsafe { calls::cuda_engine::create_runtime_config(engine) };
        // SAFETY: NVIDIA gives the caller a new `IRuntimeConfig`.
        let owned = unsafe { self.owned.make("create a runtime configuration", create) }?;
        Ok(RuntimeConfig::new(owned))
    }

    /// A context to run it in, made as this configuration says. It keeps the configuration, which nobody changes then.
    ///
    /// # Errors
    /// [`Error::OtherEngine`] where another engine made the configuration, [`Error::TensorRt`] most often because the
    /// device has too little memory.
    #[doc(alias = "createExecutionContextWithRuntimeConfig")]
    pub fn create_configured_context(&self, config: RuntimeConfig) -> Result<ExecutionContext> {
        if !config.owned().is_child_of(&self.owned) {
            return Err(Error::OtherEngine);
        }
        let address = config.owned().object().as_ptr();
        let create = |engine: Object| {
            // SAFETY: engine and configuration live.
            unsafe { calls::cuda_engine::create_configured_context(engine, address) }
        };
        // SAFETY: NVIDIA gives the caller a new `IExecutionContext`.
        let owned = unsafe { self.owned.make("create an execution context", create) }?;
        // SAFETY: it is an `IExecutionContext` of this engine, with these activations.
        let context = unsafe { ExecutionContext::new(owned, self.clone(), config.activations()) }?;
        Ok(context.keep(config))
    }

    /// Whether it was built so that it can be given other weights.
    ///
    /// # Errors
    /// None that a supported version has.
    #[doc(alias = "isRefittable")]
    pub fn is_refittable(&self) -> Result<bool> {
        // SAFETY: the engine lives, and the method changes nothing.
        unsafe { calls::cuda_engine::is_refittable(self.owned.object()) }
    }

    pub(crate) fn owned(&self) -> &Arc<Owned> {
        &self.owned
    }

    /// An inspector, which tells what became of the network's layers.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where TensorRT makes none.
    #[doc(alias = "createEngineInspector")]
    pub fn create_inspector(&self) -> Result<EngineInspector> {
        // SAFETY: the engine lives.
        let create = |engine: Object| unsafe { calls::cuda_engine::create_engine_inspector(engine) };
        // SAFETY: NVIDIA gives the caller a new `IEngineInspector`.
        let owned = unsafe { self.owned.make("create an engine inspector", create) }?;
        // SAFETY: it is an `IEngineInspector`.
        unsafe { EngineInspector::new(owned) }
    }
}

fn read_tensor(engine: Object, name: String) -> Result<EngineTensor> {
    const OUTPUT: i32 = 2;
    const HOST: i32 = 1;
    const LINEAR: i32 = 0;
    let c_name = c_string(&name)?;
    // SAFETY: engine and name live, and the method changes nothing; here and below.
    let mode = unsafe { calls::cuda_engine::tensor_io_mode(engine, c_name.as_ptr()) }?;
    // SAFETY: see above.
    let data_type = unsafe { calls::cuda_engine::tensor_data_type(engine, c_name.as_ptr()) }?;
    // SAFETY: see above.
    let shape = unsafe { calls::cuda_engine::tensor_shape(engine, c_name.as_ptr()) }?;
    // SAFETY: see above.
    let location = unsafe { calls::cuda_engine::tensor_location(engine, c_name.as_ptr()) }?;
    // SAFETY: see above.
    let format = unsafe { calls::cuda_engine::tensor_format(engine, c_name.as_ptr()) }?;
    Ok(EngineTensor {
        name,
        mode: if mode == OUTPUT { TensorMode::Output } else { TensorMode::Input },
        data_type: DataType::of(data_type),
        shape: shape.unwrap_or_default(),
        location: if location == HOST { TensorLocation::Host } else { TensorLocation::Device },
        is_linear: format == LINEAR,
    })
}

/// # Errors
/// [`Error::NoSuchProfile`] where it is no number of TensorRT's.
pub(crate) fn profile_number(profile: usize) -> Result<i32> {
    i32::try_from(profile).map_err(|_| Error::NoSuchProfile { profile })
}
