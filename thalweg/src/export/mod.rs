//! A tuned configuration as files for other programs: Triton, `trtexec`, or a C++ program of one's own.
//!
//! In: a [`TunedConfig`]. Out: text, with comments on what the other program cannot express. Nothing is written here.

mod build_line;
mod cpp;
mod triton;
mod trtexec;

use std::fmt;

use crate::backend::{DeviceSpec, work_queues};
use crate::engine::EngineSource;
use crate::error::{Error, Result};
use crate::report::printable;
use crate::tune::TunedConfig;

pub use build_line::{build_options, builder_options, shell_word};

/// Name of the engine's file in everything that is exported: what Triton looks for.
const ENGINE_FILE: &str = "model.plan";

/// What a configuration is exported for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// NVIDIA's Triton Inference Server: a `config.pbtxt` for its TensorRT backend.
    Triton,
    /// The nearest command line of TensorRT's `trtexec`.
    Trtexec,
    /// A complete C++ program against TensorRT's own interface (8.5 and later).
    Cpp,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Triton, Self::Trtexec, Self::Cpp];

    /// The usual name of a file of this format.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Triton => "config.pbtxt",
            Self::Trtexec => "trtexec.sh",
            Self::Cpp => "pipeline.cpp",
        }
    }
}

/// The name on the command line.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Triton => "triton",
            Self::Trtexec => "trtexec",
            Self::Cpp => "cpp",
        })
    }
}

/// The configuration for another program.
///
/// # Errors
/// [`Error::CannotExport`] where the other program cannot run it, or where the file is of a version of Thalweg that did
/// not write inputs and outputs.
pub fn export(tuned: &TunedConfig, format: Format) -> Result<String> {
    check_device(&tuned.device, format)?;
    let signature = tuned.signature.as_ref();
    let signature =
        signature.ok_or_else(|| refused(format, "it does not say its inputs and outputs: tune again"))?;
    match format {
        Format::Triton => triton::config(tuned, signature).map_err(|reason| refused(format, &reason)),
        Format::Trtexec => Ok(trtexec::command(tuned, signature)),
        Format::Cpp => cpp::program(tuned).map_err(|reason| refused(format, &reason)),
    }
}

/// Whether what is tuned on a device can be exported at all, which is better known before a search than after it.
///
/// # Errors
/// [`Error::CannotExport`] for the cores of a CPU.
pub fn check_device(device: &DeviceSpec, format: Format) -> Result<()> {
    if device.is_host() {
        let reason = "what is tuned for the cores of a CPU says nothing of a GPU's best number of streams";
        return Err(refused(format, reason));
    }
    Ok(())
}

fn refused(format: Format, reason: &str) -> Error {
    Error::CannotExport { format: format.to_string(), reason: reason.to_owned() }
}

/// What was measured and where, a comment line each.
fn origin(tuned: &TunedConfig, comment: &str) -> String {
    let rate = tuned.throughput_inferences_per_s;
    let name = tuned.model.path.file_name().unwrap_or_default().to_string_lossy();
    let lines = [
        format!("Tuned by Thalweg {}: {}.", tuned.thalweg_version, tuned.configuration),
        format!(
            "Measured: {:.0} inferences/s ({:.0} to {:.0}) on {}, {} backend.",
            rate.value, rate.lower, rate.upper, tuned.device.name, tuned.device.backend
        ),
        format!(
            "Model: {}, SHA-256 {}, with the types of inputs that it was tuned with.",
            name, tuned.model.sha256
        ),
        engine(tuned),
    ];
    // A name may hold anything, and a line break in it would end the comment.
    lines.iter().map(|line| format!("{comment} {}\n", printable(line))).collect()
}

/// Where the engine is expected, and how to have it.
fn engine(tuned: &TunedConfig) -> String {
    let build = format!("thalweg build MODEL.onnx -o {ENGINE_FILE}{}", build_options(tuned));
    let how = match &tuned.engine {
        Some(EngineSource::File(path)) => {
            return format!("The engine is expected as {ENGINE_FILE}: copy {} there.", path.display());
        }
        Some(EngineSource::Built(_)) => "built by",
        None => "built with the options that `tune` was given",
    };
    format!("The engine is expected as {ENGINE_FILE}, {how}: {build}")
}

/// Whether CUDA's own work queues are too few for the streams, of which each copies by itself where `copy_lanes` is `None`.
fn wants_queues(tuned: &TunedConfig, copy_lanes: Option<usize>) -> bool {
    work_queues::needed(tuned.configuration.streams, copy_lanes, tuned.aux_streams()) > work_queues::DEFAULT
}

/// `1x3x224x224`.
fn sizes(shape: &[usize], between: &str) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests;
