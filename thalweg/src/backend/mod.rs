//! The seam: what a device must be able to do, and the plain data that crosses it.
//!
//! A [`Backend`] builds and loads engines for one device, an [`Engine`] makes [`Executor`]s, and an
//! executor runs one execution after the other on its own stream. Nothing to the right of this module
//! knows which backend runs. None of an executor's calls blocks but [`Executor::wait`]: *how* to wait is the pool's
//! business.

mod build;
mod counters;
pub mod cpu;
mod data_sheet;
mod examination;
mod executor_spec;
mod fitting;
mod host;
mod memory;
mod order;
mod planted_fault;
mod recorder;
mod residency;
pub mod simulated;
pub mod tensorrt;
pub mod work_queues;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
pub use thalweg_nvidia::tensorrt::TacticSource;
use thalweg_nvidia::{Places, SystemPlaces};

use crate::error::{Error, Result};
use crate::model::Signature;
use crate::units::Nanos;

pub use build::{BuildOptions, BuildSpec, Precision, SerializedEngine};
pub(crate) use counters::{ClockAlone, LEAST_TIME_OF_POWER};
pub use counters::{ClockReading, CounterChoice, CounterSource, Counters, Observer};
pub use data_sheet::DataSheet;
pub use examination::{
    Examination, FoundLibrary, GpuFinding, GpuState, LibraryFinding, TensorRtFinding, examine,
};
pub use executor_spec::{CudaGraph, ExecutorSpec, TimesTaken, Transfers, Wait};
pub use host::{HostCopy, HostTensor};
pub use memory::EngineMemory;
pub use order::{BuildEvent, BuildOrder, BuildWatch, Calibration};
pub use planted_fault::PlantedFault;
pub use recorder::{GraphDetail, Recorder};

/// Where to look for a device and its libraries.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Folders with TensorRT, searched first.
    pub directories: Vec<PathBuf>,
    /// Python's `site-packages` folders, searched last.
    pub site_packages: Vec<PathBuf>,
    /// Libraries with plugins for TensorRT, which is code that is run.
    pub plugins: Vec<PathBuf>,
    /// Which GPU: CUDA's number for it or its UUID. `None` for the first.
    pub device: Option<String>,
    /// Which of the GPU's performance counters are read.
    pub counters: CounterChoice,
    /// File of kernel timings that TensorRT's builds use and add to; made where it does not exist.
    pub timing_cache: Option<PathBuf>,
    /// Whether a profiler reads the ranges that executions name, such as Nsight Systems; where none does they name none.
    pub has_profiler: bool,
}

impl Surroundings {
    /// The places that they name.
    pub(crate) fn places(&self) -> Places {
        Places {
            directories: self.directories.clone(),
            site_packages: self.site_packages.clone(),
            system: SystemPlaces::Searched,
        }
    }
}

/// Opens a backend by name: `tensorrt`, `cpu`, `simulated:` and a device, or `auto` for the best one that this
/// machine has.
///
/// # Errors
/// [`Error::InvalidSetting`] where there is no backend of this name; for `tensorrt` what is missing.
pub fn open(name: &str, surroundings: &Surroundings) -> Result<Box<dyn Backend>> {
    let has_gpus = matches!(name, "auto" | "tensorrt");
    if let Some(device) = surroundings.device.as_ref().filter(|_| !has_gpus) {
        let reason = format!("it chooses a GPU, and the backend {name} has none");
        return Err(Error::InvalidSetting { name: "device", value: device.clone(), reason });
    }
    match name {
        "cpu" => Ok(Box::new(cpu::CpuBackend::new())),
        "tensorrt" => Ok(Box::new(tensorrt::TensorRtBackend::open(surroundings)?)),
        "auto" => match tensorrt::TensorRtBackend::open(surroundings) {
            Ok(backend) => Ok(Box::new(backend)),
            // Who names plugins or a GPU wants TensorRT.
            Err(Error::Nvidia(_)) if surroundings.plugins.is_empty() && surroundings.device.is_none() => {
                Ok(Box::new(cpu::CpuBackend::new()))
            }
            Err(other) => Err(other),
        },
        _ if name.starts_with(simulated::PREFIX) => {
            Ok(Box::new(simulated::SimulatedBackend::preset(&name[simulated::PREFIX.len()..])?))
        }
        _ => Err(Error::InvalidSetting {
            name: "backend",
            value: name.to_owned(),
            reason: "the backends are auto, tensorrt, cpu, and simulated:h100 (or h200, a100, l4, orin)"
                .to_owned(),
        }),
    }
}

/// As [`open`], for a backend that builds engines for later: for `tensorrt` no GPU need be here where TensorRT builds
/// without one, see [`Backend::can_run`].
///
/// # Errors
/// As [`open`].
pub fn open_to_build(name: &str, surroundings: &Surroundings) -> Result<Box<dyn Backend>> {
    match name {
        "tensorrt" => Ok(Box::new(tensorrt::TensorRtBackend::open_to_build(surroundings)?)),
        _ => open(name, surroundings),
    }
}

/// Builds and loads engines for one device.
pub trait Backend: Send + Sync {
    /// The device that engines of this backend run on.
    fn device(&self) -> &DeviceSpec;

    /// Turns a model into an engine that can be stored.
    ///
    /// # Errors
    /// [`Error::UnsupportedOperator`] where the backend lacks an operator, [`Error::OpenDimension`] and
    /// [`Error::ShapeMismatch`] where the shapes of the order do not fit the model, [`Error::BuildStopped`] where
    /// its watch stopped the build.
    fn build(&self, order: &BuildOrder<'_>) -> Result<SerializedEngine>;

    /// Makes a stored engine ready to run.
    ///
    /// # Errors
    /// Where the engine is damaged or was built by another backend.
    fn load(&self, engine: &SerializedEngine) -> Result<Arc<dyn Engine>>;

    /// Whether there is a device to load engines on. Without one some can still build.
    fn can_run(&self) -> bool {
        true
    }

    /// Whether layers compute in the types of the model alone, so that a lower precision is asked for by converting the
    /// model and not in [`BuildOptions`].
    fn takes_types_from_model(&self) -> bool {
        false
    }

    /// Whether layers can compute in BF16 at all.
    fn takes_bf16(&self) -> bool {
        true
    }

    /// Whether a model may store weights as eight-bit integers.
    fn takes_int8_weights(&self) -> bool {
        true
    }

    /// Whether the scales around eight bits may be in half.
    fn takes_half_scales(&self) -> bool {
        true
    }

    /// What an engine's bytes depend on besides model and [`BuildSpec`], such as versions and the device's
    /// generation; `None` where building is so quick that storing engines is not worth it.
    fn build_identity(&self) -> Option<String> {
        None
    }
}

/// Launches executions for so long, waits for the last ones, and gives their number.
pub type Replay = Box<dyn FnMut(Duration, Timing) -> Result<u64>>;

/// Whether a [`Replay`] takes the times of stages by events, as executors do, to see what that costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// It does.
    Taken,
    /// It does not.
    Left,
}

/// A network ready to run on a device. Shared by all its executors.
pub trait Engine: Send + Sync {
    /// Inputs, outputs and possible batch sizes.
    fn signature(&self) -> &Signature;

    /// What crosses the bus: the signature, but for a simulated device, whose tensors are stand-ins.
    fn transferred(&self) -> &Signature {
        self.signature()
    }

    /// The least precision that its layers may compute in; `None` where nobody knows, or where there is no choice.
    fn precision(&self) -> Option<Precision> {
        None
    }

    /// Makes all executors of a pool at once, since they may share resources of the device.
    ///
    /// # Errors
    /// [`Error::DoesNotFit`] where the device lacks memory for them, with the number that fits; whatever else the
    /// backend says.
    fn executors(self: Arc<Self>, spec: &ExecutorSpec) -> Result<Vec<Box<dyn Executor>>>;

    /// What became of the network's layers, as the builder's own JSON; `None` where it does not tell.
    fn layers_json(&self) -> Option<Result<String>> {
        None
    }

    /// The device memory that executors of this shape would take; `None` where the device has no memory of its own. A
    /// CUDA graph has an execution context for each slot.
    ///
    /// # Errors
    /// Where the device does not tell.
    fn memory(&self, spec: &ExecutorSpec) -> Result<Option<EngineMemory>> {
        let _ = spec;
        Ok(None)
    }

    /// Executions of this shape, launched over and over with nothing around them; `None` where a backend has nothing
    /// simpler than its executors.
    ///
    /// # Errors
    /// As [`executors`](Self::executors), and where they would do otherwise than `spec` asks.
    fn replay(self: Arc<Self>, spec: &ExecutorSpec) -> Result<Option<Replay>> {
        let _ = spec;
        Ok(None)
    }

    /// Whoever can record what its executors do, kernel by kernel; `None` where nobody can.
    fn recorder(&self) -> Option<&Recorder> {
        None
    }

    /// Whether executions are prepared for their number of samples, one of [`ExecutorSpec::batch_steps`]: a slot that is not
    /// full runs as the smallest of them that holds it, with whatever lies in the rest. Otherwise any number is run.
    fn prepares_executions(&self) -> bool {
        false
    }

    /// Whether time has to be moved by hand for its executors to get anywhere: a simulated device.
    fn is_simulated(&self) -> bool {
        false
    }
}

/// A stream, its execution context and its slots. It runs one execution after the other, moves between
/// threads and is never shared between them:
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<Box<dyn thalweg::backend::Executor>>();
/// ```
pub trait Executor: Send {
    /// One of the executor's `depth` slots that was not handed out yet. A slot stays out until the pool
    /// is dropped; it comes back through [`poll`](Self::poll) after each execution.
    fn take_slot(&mut self) -> Option<Slot>;

    /// Starts an execution of the first [`Slot::batch_size`] samples and returns at once.
    ///
    /// # Errors
    /// Where it could not be started; the slot comes back untouched. [`Error::DeviceLost`] says that the executor can
    /// run no more.
    fn enqueue(&mut self, slot: Slot) -> Result<(), Box<Rejected>>;

    /// The oldest finished execution, if there is one.
    fn poll(&mut self) -> Option<Completion>;

    /// Asks the executor to call `waker`, from any thread, when an execution has finished, at least if it was told before
    /// that the submitter [sleeps](Self::expect_sleep): once for each, so who was woken asks. A submitter that never sleeps while
    /// something runs ([`Wait::Spin`]) does not ask.
    fn wake_with(&mut self, waker: Waker);

    /// Sleeps until the oldest execution has ended, and says so; where it cannot, or nothing runs, it says `false` at once.
    /// A submitter with nothing else to wait for asks for it.
    fn wait(&mut self) -> bool {
        false
    }

    /// The submitter polls no more until it is woken. An executor that wakes it after each execution anyway has
    /// nothing to do here.
    fn expect_sleep(&mut self) {}

    /// What it does otherwise than its [`ExecutorSpec`] asks, as a whole sentence; `None` where it obeys.
    fn remark(&self) -> Option<&str> {
        None
    }

    /// Whoever can say what the device does while executors of this pool run. `None` where nobody can.
    fn observer(&self) -> Option<Box<dyn Observer>> {
        None
    }

    /// In virtual time: lets the device, which all executors of a pool share, run on until the first
    /// completion that a host thread can see, and at most until `limit`; gives the time it got to. Devices
    /// in the world's time do nothing here: their time passes by itself.
    fn run_until(&mut self, limit: Nanos) -> Nanos {
        limit
    }
}

/// An execution that could not be started.
pub struct Rejected {
    /// The slot, with its inputs.
    pub slot: Slot,
    /// Why.
    pub error: Error,
}

/// Tells a sleeping submitter that an execution has finished. Cheap to call, never blocks.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes the submitter.
    pub fn wake(&self) {
        (self.0)();
    }
}

/// The place of a slot: executor and index in it, both counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotId {
    /// The executor, which is also the stream.
    pub executor: usize,
    /// The slot in that executor, below `depth`.
    pub index: usize,
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}, slot {}", self.executor, self.index)
    }
}

/// One set of input and output buffers on the host, and whatever the backend keeps with it on the device.
///
/// Owned and `Send`: a producer fills the inputs in place on its own thread.
#[derive(Debug)]
pub struct Slot {
    /// Where it belongs.
    pub id: SlotId,
    /// How many samples the next execution runs, from the start of each batched tensor.
    pub batch_size: usize,
    /// Input buffers, in the order of [`Signature::inputs`].
    pub inputs: Vec<HostTensor>,
    /// Output buffers, in the order of [`Signature::outputs`].
    pub outputs: Vec<HostTensor>,
}

/// A finished execution.
pub struct Completion {
    /// Its slot: outputs readable, inputs unchanged.
    pub slot: Slot,
    /// How it ended.
    pub outcome: Outcome,
    /// When each stage ran.
    pub times: StageTimes,
}

/// How an execution ended.
#[derive(Debug)]
pub enum Outcome {
    /// The outputs are there.
    Done,
    /// This execution failed; the executor goes on.
    Failed(Error),
    /// This execution failed and the executor can run no more. It still returns its other slots.
    Lost(Error),
}

/// Start and end of one stage, on the clock of the [`ExecutorSpec`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// When it started.
    pub start: Nanos,
    /// When it ended.
    pub end: Nanos,
}

impl Span {
    /// How long it took.
    pub fn duration(self) -> Nanos {
        self.end - self.start
    }
}

/// When each stage of one execution ran. Where [`TimesTaken`] leaves an execution out, only its `enqueue` and `copy_calls`
/// are known, and the others are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimes {
    /// The submitting thread was busy starting it.
    pub enqueue: Span,
    /// Part of that in which calls for copies had the thread, where the backend tells. Long calls mean that copies do not
    /// run by themselves: the host's memory is not page-locked.
    #[serde(default)]
    pub copy_calls: Nanos,
    /// Inputs went from host to device.
    pub h2d: Span,
    /// The network ran.
    pub compute: Span,
    /// Outputs went from device to host.
    pub d2h: Span,
}

/// A device, as far as results depend on it. Written into every result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Name of the backend: `cpu`.
    pub backend: String,
    /// What the vendor calls the device.
    pub name: String,
    /// Processor cores that the backend may use; on a GPU the host's cores.
    pub core_count: usize,
    /// Memory of the device in bytes, where it is known.
    pub memory_bytes: Option<u64>,
    /// Versions of everything that runs the network, by name.
    pub versions: BTreeMap<String, String>,
}

impl DeviceSpec {
    /// Whether networks run on the host's own cores.
    pub fn is_host(&self) -> bool {
        self.backend == cpu::NAME
    }

    /// Whether it is simulated, in virtual time.
    pub fn is_simulated(&self) -> bool {
        self.backend.starts_with(simulated::PREFIX)
    }
}
