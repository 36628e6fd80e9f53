//! The `tensorrt` backend: real inference on an NVIDIA GPU, with whatever TensorRT is installed.
//!
//! A serialised engine is TensorRT's own plan. A stream is a CUDA stream with an execution context; a slot is a
//! lane of page-locked buffers, device buffers and events (see `thalweg_nvidia::execution`).

mod build;
mod engine;
mod executor;
mod meter;
mod tensors;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use thalweg_nvidia::cuda::{CudaContext, Driver, HostWait};
use thalweg_nvidia::nvml::{Nvml, NvmlDevice};
use thalweg_nvidia::tensorrt::TensorRt;

use crate::backend::{Backend, BuildSpec, DeviceSpec, Engine, SerializedEngine, Surroundings};
use crate::error::{Error, Result};
use crate::model::Model;

use engine::TensorRtEngine;

/// The backend's name.
const NAME: &str = "tensorrt";

/// Builds and runs engines on one GPU.
pub struct TensorRtBackend {
    tensorrt: TensorRt,
    context: Arc<CudaContext>,
    /// The same GPU as NVML sees it, or why it does not.
    nvml: Result<NvmlDevice, thalweg_nvidia::Error>,
    device: DeviceSpec,
}

impl TensorRtBackend {
    /// The GPU that was asked for, or the first one.
    ///
    /// # Errors
    /// [`Error::Nvidia`] with what is missing: the CUDA driver, a GPU, or TensorRT.
    pub fn open(surroundings: &Surroundings) -> Result<Self> {
        let places = surroundings.places();
        let driver = Driver::open(&places)?;
        let device = driver.device(surroundings.device.as_deref().unwrap_or("0"))?;
        let context = device.retain_primary_context(HostWait::Unchanged)?;
        let tensorrt = TensorRt::open(&places)?;
        let properties = device.properties();
        let nvml = Nvml::open(&places).and_then(|nvml| nvml.device_by_uuid(&properties.uuid));
        let mut versions = BTreeMap::from([
            ("cuda driver".to_owned(), driver.cuda_version()?.to_string()),
            ("tensorrt".to_owned(), tensorrt.version().to_string()),
            ("thalweg".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ]);
        versions.extend(tensorrt.abi_note().map(|note| ("tensorrt interface".to_owned(), note)));
        let spec = DeviceSpec {
            backend: NAME.to_owned(),
            name: properties.name.clone(),
            core_count: thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: Some(properties.memory_total_bytes),
            versions,
        };
        Ok(Self { tensorrt, context, nvml, device: spec })
    }
}

impl Backend for TensorRtBackend {
    fn device(&self) -> &DeviceSpec {
        &self.device
    }

    fn build(&self, model: &Model, spec: &BuildSpec) -> Result<SerializedEngine> {
        let signature = model.signature(&spec.input_shapes, spec.max_batch_size)?;
        let builder = self.tensorrt.builder_on(&self.context)?;
        let plan = build::build(&builder, model, &signature, &spec.options)?;
        Ok(SerializedEngine {
            backend: NAME.to_owned(),
            bytes: Bytes::copy_from_slice(&plan),
            spec: Some(spec.clone()),
            signature: Some(signature),
        })
    }

    fn load(&self, engine: &SerializedEngine) -> Result<Arc<dyn Engine>> {
        if engine.backend != NAME {
            return Err(Error::InvalidSetting {
                name: "engine",
                value: format!("of the {} backend", engine.backend),
                reason: format!("the {NAME} backend only loads its own"),
            });
        }
        let runtime = self.tensorrt.runtime_on(&self.context)?;
        // An engine that brings its runtime along is code; it is trusted as TensorRT's own files are.
        let is_portable = engine.spec.as_ref().is_some_and(|spec| spec.options.is_version_compatible);
        if is_portable {
            runtime.allow_engine_host_code()?;
        }
        let loaded = runtime.deserialize_engine(&engine.bytes)?;
        let signature = tensors::signature(&loaded, engine.signature.as_ref())?;
        let weights = engine.bytes.len() as u64;
        let (context, nvml) = (Arc::clone(&self.context), self.nvml.clone());
        Ok(Arc::new(TensorRtEngine { engine: loaded, signature, context, nvml, weights }))
    }

    fn build_identity(&self) -> Option<String> {
        let properties = self.context.properties();
        let (major, minor) = properties.compute_capability;
        let (version, name) = (self.tensorrt.version(), &properties.name);
        Some(format!("TensorRT {version} on {name}, compute capability {major}.{minor}"))
    }
}
