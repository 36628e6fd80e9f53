//! The `tensorrt` backend: real inference on an NVIDIA GPU, with whatever TensorRT is installed.
//!
//! A serialised engine is TensorRT's own plan. A stream is a CUDA stream with an execution context; a slot is a
//! lane of page-locked buffers, device buffers and events (see `thalweg_nvidia::execution`).

mod build;
mod calibrate;
mod engine;
mod executor;
pub(super) mod machine;
mod meter;
mod onnx;
mod profiles;
mod progress;
mod streams;
mod tensors;
mod timings;
mod waiter;
mod watched;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use thalweg_nvidia::cuda::{CudaContext, Driver, HostWait, PinnedReserve};
use thalweg_nvidia::nvml::{Nvml, NvmlDevice};
use thalweg_nvidia::tensorrt::{Builder, Family, MemoryAccount, TensorRt};

use crate::backend::{
    Backend, BuildOrder, CounterChoice, DeviceSpec, Engine, Observer, Precision, Recorder, SerializedEngine,
    Surroundings,
};
use crate::error::{Error, Result};
use crate::files;

use build::Workshop;
use engine::{Taken, TensorRtEngine};
use meter::{CounterAccess, PmSampling};
use profiles::Profiles;
use streams::Streams;
use watched::LogRelay;

/// The backend's name.
pub(crate) const NAME: &str = "tensorrt";

/// Builds and runs engines on one GPU.
pub struct TensorRtBackend {
    tensorrt: TensorRt,
    /// The GPU, or why there is none: then engines can be built at most.
    gpu: Result<Gpu, thalweg_nvidia::Error>,
    device: DeviceSpec,
    log: LogRelay,
    timing_cache: Option<PathBuf>,
    /// SHA-256 of each library of plugins: engines depend on them.
    plugins: Vec<String>,
}

/// Page-locked memory of pools that have ended, kept for those that come, in bytes: 24 slots of ResNet-50 at batch 128 take
/// 1.9 GB, and locking and freeing them took longer than a slice of a search lasts.
const HOST_MEMORY_KEPT: usize = 4 << 30;

struct Gpu {
    context: Arc<CudaContext>,
    /// Those of all its engines: what counts is what ran first in the process.
    streams: Arc<Streams>,
    /// What slots of pools before have left.
    host_memory: Arc<PinnedReserve>,
    counters: CounterAccess,
    recorder: Recorder,
    cuda_version: String,
    has_profiler: bool,
}

impl Gpu {
    fn open(surroundings: &Surroundings) -> Result<Self, thalweg_nvidia::Error> {
        let places = surroundings.places();
        let driver = Driver::open(&places)?;
        let device = driver.device(surroundings.device.as_deref().unwrap_or("0"))?;
        let context = device.retain_primary_context(HostWait::Unchanged)?;
        let properties = device.properties();
        let nvml = Nvml::open(&places).and_then(|nvml| nvml.device_by_uuid(&properties.uuid));
        let recorder = Recorder::new(surroundings, &properties.uuid, properties.sm_count);
        let sampling = Some(PmSampling { places, device_index: properties.index });
        let counters = CounterAccess { nvml, sampling, choice: surroundings.counters };
        let cuda_version = driver.cuda_version()?.to_string();
        let host_memory = PinnedReserve::new(&context, HOST_MEMORY_KEPT);
        let (streams, has_profiler) = (Arc::default(), surroundings.has_profiler);
        Ok(Self { context, streams, host_memory, counters, recorder, cuda_version, has_profiler })
    }
}

impl TensorRtBackend {
    /// The GPU that was asked for, or the first one.
    ///
    /// # Errors
    /// [`Error::Nvidia`] with what is missing: the CUDA driver, a GPU, or TensorRT.
    pub fn open(surroundings: &Surroundings) -> Result<Self> {
        let gpu = Gpu::open(surroundings)?;
        Self::with_gpu(surroundings, Ok(gpu))
    }

    /// The same, and where there is no GPU a backend that can only build, as TensorRT for RTX does without one.
    ///
    /// # Errors
    /// [`Error::Nvidia`] where there is no TensorRT, or not the GPU that was asked for; [`Error::Io`] where the file of
    /// timings cannot be written.
    pub fn open_to_build(surroundings: &Surroundings) -> Result<Self> {
        match (Gpu::open(surroundings), &surroundings.device) {
            (Err(error), Some(_)) => Err(error.into()),
            (gpu, _) => Self::with_gpu(surroundings, gpu),
        }
    }

    fn with_gpu(surroundings: &Surroundings, gpu: Result<Gpu, thalweg_nvidia::Error>) -> Result<Self> {
        if let Some(file) = &surroundings.timing_cache {
            files::check_writable(file)?;
        }
        let log = LogRelay::default();
        let tensorrt = TensorRt::open_with_log(&surroundings.places(), &log.sink())?;
        let load = |file: &PathBuf| load_plugins(&tensorrt, file);
        let plugins = surroundings.plugins.iter().map(load).collect::<Result<_>>()?;
        let mut versions = BTreeMap::from([
            ("tensorrt".to_owned(), tensorrt.version().to_string()),
            ("thalweg".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ]);
        versions.extend(tensorrt.abi_note().map(|note| ("tensorrt interface".to_owned(), note)));
        versions.extend(gpu.as_ref().ok().map(|gpu| ("cuda driver".to_owned(), gpu.cuda_version.clone())));
        let properties = gpu.as_ref().ok().map(|gpu| gpu.context.properties());
        let device = DeviceSpec {
            backend: NAME.to_owned(),
            name: properties.map_or_else(|| "no GPU".to_owned(), |it| it.name.clone()),
            core_count: thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: properties.map(|it| it.memory_total_bytes),
            versions,
        };
        Ok(Self { tensorrt, gpu, device, log, timing_cache: surroundings.timing_cache.clone(), plugins })
    }

    /// # Errors
    /// Why there is no GPU.
    fn gpu(&self) -> Result<&Gpu> {
        self.gpu.as_ref().map_err(|error| error.clone().into())
    }

    fn builder(&self) -> Result<Builder> {
        Ok(match &self.gpu {
            // Counted, so that too little memory is told with sizes.
            Ok(gpu) => self.tensorrt.counted_builder_on(&gpu.context, &MemoryAccount::new())?,
            Err(_) => self.tensorrt.builder()?,
        })
    }
}

impl Backend for TensorRtBackend {
    fn device(&self) -> &DeviceSpec {
        &self.device
    }

    fn build(&self, order: &BuildOrder<'_>) -> Result<SerializedEngine> {
        check_calibration(order)?;
        let signature = order.signature()?;
        let context = self.gpu.as_ref().ok().map(|gpu| &gpu.context);
        let workshop = Workshop {
            builder: self.builder()?,
            context,
            log: &self.log,
            timing_cache: self.timing_cache.as_deref(),
        };
        let bytes = workshop.build(order, &signature)?;
        Ok(SerializedEngine {
            backend: NAME.to_owned(),
            bytes: Bytes::copy_from_slice(&bytes),
            spec: Some(order.spec.clone()),
            signature: Some(signature),
        })
    }

    fn load(&self, engine: &SerializedEngine) -> Result<Arc<dyn Engine>> {
        engine.check_backend(NAME)?;
        let gpu = self.gpu()?;
        let account = MemoryAccount::new();
        let runtime = self.tensorrt.counted_runtime_on(&gpu.context, &account)?;
        // An engine that brings its runtime along is code; it is trusted as TensorRT's own files are.
        let is_portable = engine.spec.as_ref().is_some_and(|spec| spec.options.is_version_compatible);
        if is_portable {
            runtime.allow_engine_host_code()?;
        }
        let loaded = runtime.deserialize_engine(&engine.bytes)?;
        let signature = tensors::signature(&loaded, engine.signature.as_ref())?;
        let taken = Taken::by(&loaded, &account, engine.bytes.len())?;
        Ok(Arc::new(TensorRtEngine {
            profiles: Profiles::of(&loaded, self.tensorrt.family())?,
            engine: loaded,
            signature,
            precision: engine.spec.as_ref().map(|spec| spec.options.precision),
            context: Arc::clone(&gpu.context),
            streams: Arc::clone(&gpu.streams),
            host_memory: Arc::clone(&gpu.host_memory),
            counters: gpu.counters.clone(),
            recorder: gpu.recorder.clone(),
            taken,
            names_ranges: gpu.has_profiler,
        }))
    }

    fn can_run(&self) -> bool {
        self.gpu.is_ok()
    }

    fn takes_types_from_model(&self) -> bool {
        matches!(self.tensorrt.family(), Family::TensorRt11 | Family::Rtx1)
    }

    fn takes_bf16(&self) -> bool {
        self.tensorrt.family() != Family::TensorRt8
    }

    /// TensorRT 8's parser refuses them ("invalid weights type of Int8").
    fn takes_int8_weights(&self) -> bool {
        self.tensorrt.family() != Family::TensorRt8
    }

    /// TensorRT 8's parser knows operator set 17, before there were any.
    fn takes_half_scales(&self) -> bool {
        self.tensorrt.family() != Family::TensorRt8
    }

    fn build_identity(&self) -> Option<String> {
        let device = match &self.gpu {
            Ok(gpu) => {
                let properties = gpu.context.properties();
                let (major, minor) = properties.compute_capability;
                format!("{}, compute capability {major}.{minor}", properties.name)
            }
            Err(_) => self.device.name.clone(),
        };
        let (flavour, version) = (self.tensorrt.flavour().name(), self.tensorrt.version());
        let plugins = self.plugins.iter().map(|sha256| format!(", plugins {sha256}")).collect::<String>();
        // Kernels that were chosen by timings from elsewhere are not what others expect to find.
        let timings = if self.timing_cache.is_some() { ", shared timings" } else { "" };
        Some(format!("{flavour} {version} on {device}{plugins}{timings}"))
    }
}

/// Loads plugins and gives the SHA-256 of their file.
fn load_plugins(tensorrt: &TensorRt, file: &Path) -> Result<String> {
    let sha256 = files::sha256(file)?;
    // The loader would look for a bare name on its own path, and maybe find another file.
    let file = fs::canonicalize(file).map_err(Error::io("find", file))?;
    tensorrt.load_plugins(&file)?;
    Ok(sha256)
}

/// INT8 takes its ranges from samples, or from a model that has them: then it needs none.
fn check_calibration(order: &BuildOrder<'_>) -> Result<()> {
    if order.calibration.is_none() || order.spec.options.precision == Precision::Int8 {
        return Ok(());
    }
    Err(Error::InvalidSetting {
        name: "precision",
        value: order.spec.options.precision.to_string(),
        reason: "calibration is for int8: add --precision int8, or leave --calibrate out".to_owned(),
    })
}

/// Reads the counters that a GPU keeps itself, whoever uses it: a [`PmSampler`](thalweg_nvidia::cupti::PmSampler) would be
/// for one process that knows of it.
pub(crate) fn meter(device: NvmlDevice) -> Box<dyn Observer> {
    let access = CounterAccess { nvml: Ok(device), sampling: None, choice: CounterChoice::Gpm };
    Box::new(meter::Meter::new(access))
}
