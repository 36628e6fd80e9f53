//! What can go wrong, as facts: which tensor, what was expected, what came.
//!
//! [`Error::blame`] says whose turn it is: the caller's input, the device, or a bug of ours.

use std::fmt;
use std::path::PathBuf;

/// The result of a fallible function of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can fail in this library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `write`, `create`, `lock`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// The bytes are not an ONNX model, or a truncated one.
    #[error("{} is not a readable ONNX model: {reason}", path.display())]
    NotOnnx {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },

    /// The model's graph contradicts itself or ONNX.
    #[error("invalid model: {reason}")]
    InvalidModel {
        /// What contradicts what, with the names of nodes and tensors.
        reason: String,
    },

    /// A tensor's bytes are in another file, and that file cannot be used.
    #[error("tensor `{tensor}` keeps its data in {}, which cannot be used: {reason}", path.display())]
    ExternalData {
        /// The tensor's name.
        tensor: String,
        /// The file that should hold its bytes.
        path: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },

    /// The backend has no implementation of an operator of the model.
    #[error("the {backend} backend cannot run operator `{operator}`{}: {reason}", in_node(node))]
    UnsupportedOperator {
        /// The backend's name.
        backend: String,
        /// ONNX name of the operator, with its domain where it is not ONNX's own.
        operator: String,
        /// Name of the node, empty where it has none.
        node: String,
        /// What the backend said.
        reason: String,
    },

    /// No input or output has this name.
    #[error("the model has no {role} `{name}`; it has {}", list(known))]
    UnknownTensor {
        /// `input` or `output`.
        role: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },

    /// A dynamic dimension was left open.
    #[error(
        "input `{tensor}` is {shape}: give the size of its open dimensions, for example --shape {tensor}={example}"
    )]
    OpenDimension {
        /// The input.
        tensor: String,
        /// Its shape as the model declares it, for example `[batch, 3, height, width]`.
        shape: String,
        /// A shape that would do, for example `1x3x224x224`.
        example: String,
    },

    /// A shape does not fit the model.
    #[error("shape of `{tensor}`: expected {expected}, got {got}")]
    ShapeMismatch {
        /// The tensor.
        tensor: String,
        /// What the model declares.
        expected: String,
        /// What was given.
        got: String,
    },

    /// A data type does not fit the model.
    #[error("data type of `{tensor}`: expected {expected}, got {got}")]
    DataTypeMismatch {
        /// The tensor.
        tensor: String,
        /// What the model declares.
        expected: String,
        /// What was given.
        got: String,
    },

    /// NVIDIA's software is missing, or refused something.
    #[error(transparent)]
    Nvidia(#[from] thalweg_nvidia::Error),

    /// A setting is outside what is possible.
    #[error("{name} {value}: {reason}")]
    InvalidSetting {
        /// The setting, as the user knows it: `batch`, `streams`, `p99-ms`.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be possible.
        reason: String,
    },

    /// There is no room for so many streams.
    #[error("{} into {room}, {fits} do: {reason}; use {}", do_not_fit(*streams), room.remedy())]
    DoesNotFit {
        /// Streams that were asked for.
        streams: usize,
        /// The most that fit.
        fits: usize,
        /// What they do not fit into.
        room: Room,
        /// What they take and what there is, or what the device said.
        reason: String,
    },

    /// The device has failed for good: nothing runs on it any more in this process.
    #[error(
        "the device failed for good on stream {stream}, slot {slot}: {reason}; what has come out is kept, only a new process can go on"
    )]
    DeviceLost {
        /// The executor that saw it, counted from 0.
        stream: usize,
        /// The slot in it, counted from 0.
        slot: usize,
        /// What the device said.
        reason: String,
    },

    /// Streams of a measurement failed for good.
    #[error(
        "{lost} of {streams} streams failed for good, and what they had not finished is missing: {first}"
    )]
    StreamsLost {
        /// How many.
        lost: usize,
        /// How many there were.
        streams: usize,
        /// What the first failure was.
        first: String,
        /// Whether the device was lost with them.
        with_device: bool,
    },

    /// One execution failed on the device. Its inputs are still in the slot.
    #[error("execution failed on stream {stream}, slot {slot}: {reason}")]
    Execution {
        /// The executor, counted from 0.
        stream: usize,
        /// The slot in it, counted from 0.
        slot: usize,
        /// What the backend said.
        reason: String,
    },

    /// Requests of a measurement failed.
    #[error("{count} requests failed, the first: {first}")]
    RequestsFailed {
        /// How many.
        count: u64,
        /// What the first failure was.
        first: String,
    },

    /// A stream of a measurement did otherwise than asked, such as without a CUDA graph.
    #[error("it did otherwise than asked: {deviation}")]
    Deviated {
        /// What it did.
        deviation: String,
    },

    /// An output differs from the single-stream reference.
    #[error(
        "wrong result on stream {stream} at batch {batch_size}: `{tensor}`[{index}] is {got}, the single-stream reference has {expected}"
    )]
    WrongResult {
        /// The executor, counted from 0.
        stream: usize,
        /// Samples of the execution.
        batch_size: usize,
        /// The output.
        tensor: String,
        /// Index into the sample's elements, row-major.
        index: usize,
        /// The reference's value.
        expected: f64,
        /// The value that came out.
        got: f64,
    },

    /// The queue in front of the pool is full.
    #[error("the queue is full: {capacity} requests are waiting")]
    QueueFull {
        /// Its capacity in requests.
        capacity: usize,
    },

    /// The pool accepts no more requests.
    #[error("the pool was stopped")]
    Stopped,

    /// No executor is left to run anything.
    #[error("all {executor_count} executors failed")]
    NoExecutor {
        /// How many there were.
        executor_count: usize,
    },

    /// Another run uses the folder.
    #[error("{} is in use by another run: give each run its own --out", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },

    /// A file that we wrote earlier does not belong to this run.
    #[error("{} cannot be continued: {reason}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What differs, with both values.
        reason: String,
    },

    /// The folder holds the journal of an earlier run, and nobody asked to continue it.
    #[error(
        "{} holds {} of an earlier run: continue with --resume, or choose another --out",
        path.display(),
        measurements(*reading_count)
    )]
    EarlierJournal {
        /// The journal.
        path: PathBuf,
        /// Measurements in it.
        reading_count: usize,
    },

    /// A measurement could not be added to the journal. All before it are kept.
    #[error(
        "cannot add to {}, which keeps {kept} measurements: continue with --resume once the cause is gone",
        path.display()
    )]
    JournalWrite {
        /// The journal.
        path: PathBuf,
        /// Measurements that are safe in it.
        kept: usize,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// The file is not a configuration that `tune` wrote, or not one of this version.
    #[error("{} is not a usable tuned configuration: {reason}", path.display())]
    NotTuned {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },

    /// Another program cannot run what was tuned, or too little is known of it.
    #[error("cannot export for {format}: {reason}")]
    CannotExport {
        /// What it was to be exported for.
        format: String,
        /// Why not.
        reason: String,
    },

    /// A tuned configuration belongs to another model.
    #[error(
        "the configuration was tuned for another model, {}: expected sha256 {expected}, got {got}; tune this one",
        path.display()
    )]
    OtherModel {
        /// Where the tuned model was read from.
        path: PathBuf,
        /// SHA-256 of the model it was tuned for.
        expected: String,
        /// SHA-256 of the model that was given.
        got: String,
    },

    /// Not one configuration of a resumed search could run.
    #[error("none of {candidate_count} configurations could run; the first failed with: {first}")]
    NothingRan {
        /// How many were tried.
        candidate_count: usize,
        /// Text of the first failure.
        first: String,
    },

    /// A file holds no calibration table, or a damaged one.
    #[error("{} is no calibration table: {reason}", path.display())]
    NotACalibrationTable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The file is not a serialised engine, or its label does not fit it.
    #[error("{} is not a usable engine: {reason}", path.display())]
    NotAnEngine {
        /// The engine's file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },

    /// A lower precision costs more accuracy than was allowed.
    #[error(
        "output `{output}` is too far from FP32: {got:.6} where {limit} was asked for; use a higher precision, or calibrate with more samples"
    )]
    AccuracyLost {
        /// The output.
        output: String,
        /// The limit, as on the command line: `cosine=0.999`.
        limit: String,
        /// What it is.
        got: f64,
    },

    /// The file holds no recorded activities, or damaged ones.
    #[error("{} holds no usable record of a program: {reason}", path.display())]
    NotActivities {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },

    /// The user stopped a build.
    #[error("the build was stopped: there is no engine")]
    BuildStopped,

    /// The user stopped it before there was anything to report.
    #[error("interrupted before anything was measured")]
    Interrupted,

    /// Our own mistake.
    #[error("bug: {0}; please report it")]
    Bug(String),
}

/// Who can do something about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller: another input or setting would work.
    Caller,
    /// The device, the operating system, or the load on them.
    Device,
    /// Us.
    Bug,
}

impl Error {
    /// Who can do something about it.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Bug(_) => Blame::Bug,
            Self::Io { .. }
            | Self::Execution { .. }
            | Self::DoesNotFit { .. }
            | Self::DeviceLost { .. }
            | Self::StreamsLost { .. }
            | Self::RequestsFailed { .. }
            | Self::Deviated { .. }
            | Self::WrongResult { .. }
            | Self::QueueFull { .. }
            | Self::Stopped
            | Self::NoExecutor { .. }
            | Self::Busy { .. }
            | Self::JournalWrite { .. }
            | Self::NothingRan { .. }
            | Self::BuildStopped
            | Self::AccuracyLost { .. }
            | Self::Interrupted => Blame::Device,
            _ => Blame::Caller,
        }
    }

    /// Whether the device has failed for good, so that only a new process can go on.
    pub fn is_device_lost(&self) -> bool {
        match self {
            Self::DeviceLost { .. } => true,
            Self::StreamsLost { with_device, .. } => *with_device,
            Self::Nvidia(error) => error.is_sticky(),
            _ => false,
        }
    }

    /// Whether the device has too little memory left: less work, or fewer processes on it, would do.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::DoesNotFit { room, .. } => *room == Room::Memory,
            Self::Nvidia(error) => error.is_out_of_memory(),
            _ => false,
        }
    }

    /// For `map_err`: an I/O error with what was tried and on which path.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

fn in_node(node: &str) -> String {
    if node.is_empty() { String::new() } else { format!(" (node `{node}`)") }
}

fn measurements(count: usize) -> String {
    if count == 1 { "1 measurement".to_owned() } else { format!("{count} measurements") }
}

/// `1 stream does not fit`
fn do_not_fit(streams: usize) -> String {
    if streams == 1 { "1 stream does not fit".to_owned() } else { format!("{streams} streams do not fit") }
}

fn list(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// What streams need room in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The device's memory.
    Memory,
    /// The optimization profiles of an engine whose contexts cannot share one (TensorRT 8).
    Profiles,
}

impl Room {
    /// What needs less of it.
    fn remedy(self) -> &'static str {
        match self {
            Self::Memory => "fewer streams or slots, or a smaller batch",
            Self::Profiles => "fewer streams, or no CUDA graph",
        }
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "the device's memory",
            Self::Profiles => "the engine's optimization profiles",
        })
    }
}
