//! What can go wrong between this program and NVIDIA's libraries, as facts.

use std::path::PathBuf;

use crate::kind::LibraryKind;
use crate::tensorrt::ParserProblem;
use crate::version::Version;

/// The result of a fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can fail in this crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A library is in none of the places.
    #[error("{library} is not there: no {} in {}; {}", sonames.join(" or "), searched.join(", "), library.remedy())]
    NotFound {
        /// The library.
        library: LibraryKind,
        /// The file names that would have done.
        sonames: Vec<&'static str>,
        /// The places that were searched, in this order.
        searched: Vec<String>,
    },

    /// A library is there, but the loader refuses it.
    #[error("{library} cannot be loaded from {}: {reason}", path.display())]
    CannotLoad {
        /// The library.
        library: LibraryKind,
        /// The file, or its bare name where the loader found it by itself.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },

    /// A TensorRT that comes without plugins.
    #[error("{tensorrt} has no library of plugins: models with plugins need the full TensorRT")]
    NoPluginLibrary {
        /// Which TensorRT.
        tensorrt: LibraryKind,
    },

    /// A library of plugins cannot be loaded.
    #[error("the plugins in {} cannot be loaded: {reason}", path.display())]
    CannotLoadPlugins {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },

    /// A library lacks a function, most often because it is too old or a stub.
    #[error("{} has no function {symbol}: it may be of another version, or a stub", path.display())]
    MissingSymbol {
        /// The library.
        path: PathBuf,
        /// The function.
        symbol: &'static str,
    },

    /// A function of a library failed.
    #[error("{function} failed with status {code}{}", in_brackets(name.as_ref()))]
    Status {
        /// The function.
        function: &'static str,
        /// The number that it returned.
        code: i32,
        /// What the library calls this number, where it knows it.
        name: Option<String>,
    },

    /// A TensorRT whose interface is not known.
    #[error("{library} {version} in {} cannot be used: supported are {supported}", path.display())]
    UnsupportedTensorRt {
        /// Which TensorRT.
        library: LibraryKind,
        /// Its version.
        version: Version,
        /// The file.
        path: PathBuf,
        /// What could be used.
        supported: &'static str,
    },

    /// This version of TensorRT lacks something.
    #[error("TensorRT {version} has no {method}{}", came_with(*since))]
    NotInThisVersion {
        /// What NVIDIA calls it.
        method: &'static str,
        /// The version that lacks it.
        version: Version,
        /// First version, major and minor, of the same family that has it, if any has.
        since: Option<(u32, u32)>,
    },

    /// The ONNX parser is of another release than TensorRT.
    #[error(
        "TensorRT {version} in {} and the ONNX parser {parser_version} in {} are of two releases: install one of them, or name its folder first",
        tensorrt.display(), parser.display()
    )]
    MixedVersions {
        /// TensorRT's file.
        tensorrt: PathBuf,
        /// Its version.
        version: Version,
        /// The parser's file.
        parser: PathBuf,
        /// The version in its name.
        parser_version: String,
    },

    /// The lean runtime was asked to build.
    #[error("{} is the lean runtime, which neither parses nor builds: install the full TensorRT for that", path.display())]
    NoBuilder {
        /// The file.
        path: PathBuf,
    },

    /// TensorRT refused something.
    #[error("TensorRT cannot {action}: {}", if said.is_empty() { "it gives no reason".to_owned() } else { said.join("; ") })]
    TensorRt {
        /// What it was asked for.
        action: &'static str,
        /// What it said, word for word.
        said: Vec<String>,
    },

    /// The ONNX parser refused a model.
    #[error("TensorRT cannot parse the model: {}", problem_list(problems, said))]
    Onnx {
        /// What it has against the model.
        problems: Vec<ParserProblem>,
        /// What it logged meanwhile.
        said: Vec<String>,
    },

    /// A network was to be filled a second time.
    #[error("the network has a model already: create another network")]
    NetworkIsFilled,

    /// An engine was to be refitted that somebody else has too.
    #[error("the engine is in use: drop its clones, execution contexts and inspectors before it is refitted")]
    EngineInUse,

    /// A runtime configuration of another engine.
    #[error("the runtime configuration is of another engine: make one with this engine")]
    OtherEngine,

    /// Objects of two builders were to work together.
    #[error("network, configuration and profiles are not all of the same builder")]
    OtherBuilder,

    /// A network was to be calibrated with samples for another one.
    #[error("the configuration calibrates another network: call it with this one, after its shapes are set")]
    OtherNetwork,

    /// An engine or a network has no tensor of this name.
    #[error("there is no tensor {tensor}, but {}", known.join(", "))]
    NoSuchTensor {
        /// The name.
        tensor: String,
        /// The names that it has.
        known: Vec<String>,
    },

    /// A number that is no optimization profile's.
    #[error("there is no optimization profile {profile}")]
    NoSuchProfile {
        /// The number.
        profile: usize,
    },

    /// A shape that TensorRT cannot take.
    #[error(
        "TensorRT cannot take the shape {shape:?} here: it has at most 8 dimensions, none of them open, and 8.x counts in 32 bits"
    )]
    ShapeDoesNotFit {
        /// The shape.
        shape: Vec<i64>,
    },

    /// A tensor whose size does not follow yet.
    #[error("the size of {tensor} is not known: set the shapes of all inputs first")]
    ShapeNotKnown {
        /// The tensor.
        tensor: String,
    },

    /// A tensor that has no memory.
    #[error("{tensor} is bound to no memory")]
    NotBound {
        /// The tensor.
        tensor: String,
    },

    /// A tensor whose elements do not lie one after the other.
    #[error("{tensor} has a layout of TensorRT's own: build the engine with linear inputs and outputs")]
    NotLinear {
        /// The tensor.
        tensor: String,
    },

    /// A tensor that lies elsewhere.
    #[error(
        "{tensor} does not lie in memory of this kind: shape values lie in host memory, all else on the device"
    )]
    WrongLocation {
        /// The tensor.
        tensor: String,
    },

    /// Memory that is too small for what is to lie in it.
    #[error("the memory for {buffer} has {given} bytes, {needed} are needed")]
    BufferTooSmall {
        /// What is to lie in it.
        buffer: String,
        /// How many bytes that takes.
        needed: usize,
        /// How many there are.
        given: usize,
    },

    /// An execution context that waits for activation memory.
    #[error("the execution context has no memory to compute in: give it some for this profile")]
    NoActivationMemory,

    /// An execution context that has memory of its own.
    #[error(
        "the execution context has its own memory to compute in: create it with user-managed activations"
    )]
    WrongActivations,

    /// A text that C cannot take.
    #[error("{text:?} has a zero byte, which no name or path may have")]
    ZeroInText {
        /// The text.
        text: String,
    },
    /// CUDA sees no such device, or several that fit.
    #[error("no single device {wanted}: there is {}; name one of them by its index or its UUID", list(found))]
    NoSuchDevice {
        /// What was asked for.
        wanted: String,
        /// The devices that there are.
        found: Vec<String>,
    },

    /// A buffer does not have the size that the work needs.
    #[error("{what} {index} has {got} bytes, but {expected} are needed")]
    WrongSize {
        /// What the buffer is for.
        what: &'static str,
        /// Which of them, from 0.
        index: usize,
        /// The bytes that are needed.
        expected: usize,
        /// The bytes that it has.
        got: usize,
    },

    /// There are too few or too many buffers for the work.
    #[error("there are {got} {what} buffers, but {expected} are needed")]
    WrongCount {
        /// What the buffers are for.
        what: &'static str,
        /// As many as are needed.
        expected: usize,
        /// As many as there are.
        got: usize,
    },

    /// A graph with its copies was captured with other host memory than it is launched with.
    #[error(
        "the job was captured with another {what} buffer {index}; launch it with the buffers it was prepared with"
    )]
    OtherBuffer {
        /// What the buffer is for.
        what: &'static str,
        /// Which of them, from 0.
        index: usize,
    },

    /// A lane still runs its last job.
    #[error("the lane still runs a job; wait until that is finished")]
    Busy,

    /// A job was not prepared in the lane that it is launched in.
    #[error("the lane has no such job; prepare it in the same lane first")]
    NoSuchJob,

    /// A job whose copies are a part of its graph was to run without them.
    #[error(
        "the copies of this job are in its graph, so they cannot be left out; prepare it without a graph, or with one of the compute stage alone"
    )]
    CopiesInGraph,

    /// The compute stage of a job runs on another stream than the lane's.
    #[error("the compute stage belongs to another stream than the lane's; make both with the same stream")]
    OtherStream,

    /// A panic in the compute stage has left a job unfinished.
    #[error("the job was left by a panic while it was being enqueued")]
    Abandoned,

    /// Work cannot be captured as a CUDA graph.
    #[error("the work cannot be captured as a CUDA graph: {cause}; it can run without one")]
    CannotCapture {
        /// What went wrong while it was captured.
        cause: Box<Error>,
    },

    /// The device has no GPM: it came with Hopper.
    #[error("{device} has no GPM metrics; they need a GPU of the Hopper generation or newer, and no MIG")]
    NoGpm {
        /// The UUID of the device.
        device: String,
    },

    /// CUPTI of a version whose records are not known.
    #[error("CUPTI in {} has the interface {version}, whose records are not known: supported are CUDA 11.8 to 13.x", path.display())]
    UnsupportedCupti {
        /// Its number.
        version: u32,
        /// The file.
        path: PathBuf,
    },

    /// A second recording was to be started while one runs.
    #[error("this process is recorded already; there can be one recording at a time")]
    RecordsAlready,

    /// Somebody else in this process uses CUPTI, which has one user at a time.
    #[error(
        "another profiler, such as Nsight Systems or `thalweg watch`, uses CUPTI in this process already; run it without \
         that one"
    )]
    CuptiIsTaken,

    /// CUPTI is older than PM sampling.
    #[error(
        "CUPTI in {} has the interface {version} and no PM sampling, which came with CUDA 12.6: install that or a newer \
         one, for example with `pip install nvidia-cuda-cupti`",
        path.display()
    )]
    NoPmSampling {
        /// The number of its interface.
        version: u32,
        /// The file.
        path: PathBuf,
    },

    /// The driver keeps performance counters for administrators.
    #[error(
        "{function} has no right to read the GPU's performance counters: run as root (a container with --cap-add \
         SYS_ADMIN), or have the driver's kernel module loaded with NVreg_RestrictProfilingToAdminUsers=0"
    )]
    NoRightToCounters {
        /// The function that was refused.
        function: &'static str,
    },

    /// CUPTI can sample nothing that is asked for.
    #[error("CUPTI can sample none of the metrics that are wanted on a {chip}")]
    NoMetrics {
        /// What NVIDIA calls the chip.
        chip: String,
    },

    /// Counters are sampled already, by CUPTI, which has one user at a time.
    #[error(
        "this process samples a GPU's counters already; there can be one sampler at a time, and no recording beside"
    )]
    SamplesAlready,

    /// The GPU wrote samples faster than they were read.
    #[error(
        "samples of the GPU's counters were lost: its buffer was full before this program came to read it"
    )]
    SamplesLost,

    /// Sampling ended before there was one sample.
    #[error("there is no sample of the GPU's counters: the time was too short")]
    NoSamples,

    /// The system gives no thread.
    #[error("cannot start a thread: {reason}")]
    NoThread {
        /// What the system says.
        reason: String,
    },

    /// NVML has not measured a value.
    #[error("NVML gives no {what}")]
    NoReading {
        /// The value.
        what: &'static str,
    },
}

/// Codes of CUDA after which, as cuda.h says of each, all further work in this process returns the same error.
/// 214 (`CUDA_ERROR_ECC_UNCORRECTABLE`), 709 (`CUDA_ERROR_CONTEXT_IS_DESTROYED`) and 710 (`CUDA_ERROR_ASSERT`) are
/// said to do so only of the context, which is the process's only one here.
const STICKY_CUDA_CODES: [i32; 15] =
    [214, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911];

/// `CUDA_ERROR_OUT_OF_MEMORY` of cuda.h.
const CUDA_OUT_OF_MEMORY: i32 = 2;

impl Error {
    /// Whether the device has too little memory left. TensorRT says that in words only.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Status { function, code, .. } => is_of_cuda(function) && *code == CUDA_OUT_OF_MEMORY,
            Self::TensorRt { said, .. } => said.iter().any(|line| {
                let line = line.to_lowercase();
                line.contains("out of memory") || line.contains("outofmemory")
            }),
            Self::CannotCapture { cause } => cause.is_out_of_memory(),
            _ => false,
        }
    }

    /// Whether work cannot be captured as a graph, but may well run without one: neither is the memory full nor is the
    /// device broken.
    pub fn is_only_the_capture(&self) -> bool {
        matches!(self, Self::CannotCapture { .. }) && !self.is_out_of_memory() && !self.is_sticky()
    }

    /// Whether CUDA cannot be used any more in this process: what is finished can be saved, nothing else can run.
    pub fn is_sticky(&self) -> bool {
        match self {
            Self::Status { function, code, .. } => is_of_cuda(function) && STICKY_CUDA_CODES.contains(code),
            Self::CannotCapture { cause } => cause.is_sticky(),
            _ => false,
        }
    }
}

/// CUPTI's functions count otherwise.
fn is_of_cuda(function: &str) -> bool {
    function.starts_with("cu") && !function.starts_with("cupti")
}

fn list(found: &[String]) -> String {
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}

fn in_brackets(name: Option<&String>) -> String {
    name.map(|name| format!(" ({name})")).unwrap_or_default()
}

fn came_with(since: Option<(u32, u32)>) -> String {
    since.map(|(major, minor)| format!(": it came with {major}.{minor}")).unwrap_or_default()
}

/// The parser's problems, or what it logged where it names none.
fn problem_list(problems: &[ParserProblem], said: &[String]) -> String {
    if problems.is_empty() {
        return if said.is_empty() { "it gives no reason".to_owned() } else { said.join("; ") };
    }
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Error {
        Error::TensorRt { action: "load the engine", said: vec![line.to_owned()] }
    }

    #[test]
    fn too_little_memory_is_told_from_other_failures() {
        let status = |code| Error::Status { function: "cuMemAlloc_v2", code, name: None };
        assert!(status(2).is_out_of_memory() && !status(700).is_out_of_memory());
        assert!(status(700).is_sticky() && status(810).is_sticky() && !status(2).is_sticky());
        let of_cupti = Error::Status { function: "cuptiActivityFlushAll", code: 2, name: None };
        assert!(!of_cupti.is_out_of_memory(), "there it is an invalid device");
        assert!(
            said("Requested amount of GPU memory (1 bytes) could not be allocated: out of memory")
                .is_out_of_memory()
        );
        assert!(said("Error Code 2: OutOfMemory (no further information)").is_out_of_memory());
        assert!(!said("The engine plan file is not compatible with this version").is_out_of_memory());
        assert!(!Error::NoActivationMemory.is_out_of_memory());
    }

    #[test]
    fn a_capture_that_fails_for_want_of_memory_or_with_the_device_is_no_mere_capture() {
        let capture = |code| {
            let cause = Error::Status { function: "cuStreamEndCapture", code, name: None };
            Error::CannotCapture { cause: Box::new(cause) }
        };
        assert!(capture(901).is_only_the_capture());
        assert!(!capture(CUDA_OUT_OF_MEMORY).is_only_the_capture() && !capture(700).is_only_the_capture());
        assert!(!Error::NoSuchJob.is_only_the_capture());
    }
}
