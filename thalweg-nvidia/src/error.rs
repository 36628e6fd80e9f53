//! What can go wrong between this program and NVIDIA's libraries, as facts.

use std::path::PathBuf;

use crate::kind::LibraryKind;

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
const STICKY_CUDA_CODES: [i32; 14] = [214, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 911];

impl Error {
    /// Whether CUDA cannot be used any more in this process: what is finished can be saved, nothing else can run.
    pub fn is_sticky(&self) -> bool {
        match self {
            Self::Status { function, code, .. } => {
                function.starts_with("cu") && STICKY_CUDA_CODES.contains(code)
            }
            Self::CannotCapture { cause } => cause.is_sticky(),
            _ => false,
        }
    }
}

fn list(found: &[String]) -> String {
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}

fn in_brackets(name: Option<&String>) -> String {
    name.map(|name| format!(" ({name})")).unwrap_or_default()
}
