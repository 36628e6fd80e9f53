//! What this machine has to run networks on, for `thalweg doctor`.

use std::path::PathBuf;

use serde::Serialize;
use thalweg_nvidia::{Finding, LibraryKind};

use super::tensorrt::machine;
use super::{DeviceSpec, Surroundings, open};
use crate::error::Result;

/// What was found on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Examination {
    /// The device that `--backend auto` runs networks on.
    pub device: DeviceSpec,
    /// The GPUs that CUDA sees.
    pub gpus: Vec<GpuFinding>,
    /// Why there is no GPU, where there is none.
    pub gpu_problem: Option<String>,
    /// `CUDA_DEVICE_MAX_CONNECTIONS`, the number of queues that CUDA's streams share, where it is set. A library reads
    /// no environment: whoever does puts it in here.
    pub max_connections: Option<String>,
    /// The TensorRT that networks are built and run with.
    pub tensorrt: Option<TensorRtFinding>,
    /// Why there is no TensorRT, where there is none.
    pub tensorrt_problem: Option<String>,
    /// NVIDIA's libraries, each with its version or with what to do about its absence.
    pub libraries: Vec<LibraryFinding>,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GpuFinding {
    /// CUDA's number for it.
    pub index: u32,
    /// What NVIDIA calls it.
    pub name: String,
    /// What tells it from all others.
    pub uuid: String,
    /// For example `9.0`.
    pub compute_capability: String,
    /// Size of its memory, in bytes.
    pub memory_total_bytes: u64,
    /// Its streaming multiprocessors.
    pub sm_count: u32,
    /// Its copy engines, where the driver tells.
    pub copy_engine_count: Option<u32>,
    /// Where it is on the PCI bus.
    pub pci_bus_id: String,
    /// Its state now; `None` where NVML does not tell.
    pub state: Option<GpuState>,
    /// Why NVML does not tell.
    pub state_problem: Option<String>,
}

/// The state of a GPU at one moment, as far as NVML tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GpuState {
    /// Clock of the SMs, in MHz.
    pub sm_clock_mhz: Option<u32>,
    /// The highest that clock can be, in MHz.
    pub sm_clock_max_mhz: Option<u32>,
    /// Clock of the memory, in MHz.
    pub memory_clock_mhz: Option<u32>,
    /// What it draws, in watts.
    pub power_watts: Option<f64>,
    /// What it may draw, in watts.
    pub power_limit_watts: Option<f64>,
    /// Temperature, in degrees Celsius.
    pub temperature_c: Option<u32>,
    /// What keeps its clocks down besides that it idles; empty where nothing does.
    pub throttle_reasons: Option<Vec<String>>,
    /// Memory that is taken, in bytes.
    pub memory_used_bytes: Option<u64>,
    /// Generation of the PCIe link now; an idle GPU lowers it.
    pub pcie_generation: Option<u32>,
    /// Lanes of the PCIe link.
    pub pcie_width: Option<u32>,
}

/// The TensorRT that networks are built and run with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorRtFinding {
    /// Which of NVIDIA's three it is.
    pub name: &'static str,
    /// Its version.
    pub version: String,
    /// The versions whose interface it shares.
    pub family: String,
    /// The file it was loaded from.
    pub path: PathBuf,
    /// That it is newer than what is known of it, where it is.
    pub note: Option<String>,
    /// Whether it builds engines, which the lean runtime does not.
    pub can_build: bool,
    /// Why it cannot read ONNX models, where it cannot.
    pub parser_problem: Option<String>,
    /// Why models and engines with its plugins are refused, where they are.
    pub plugins_problem: Option<String>,
}

/// One of NVIDIA's libraries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LibraryFinding {
    /// What it is: `TensorRT`.
    pub name: &'static str,
    /// Where it is and in which version; `None` where it cannot be used.
    pub found: Option<FoundLibrary>,
    /// Why it cannot be used, or does not tell its version.
    pub problem: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Places that were searched in vain, in this order.
    pub searched: Vec<String>,
}

/// Where a library is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundLibrary {
    /// The file.
    pub path: PathBuf,
    /// Its version, where it tells it.
    pub version: Option<String>,
}

/// Looks around: first in the named directories, then in the system's places, last in `site-packages`.
///
/// # Errors
/// Where not even the `cpu` backend can be opened.
pub fn examine(surroundings: &Surroundings) -> Result<Examination> {
    let places = surroundings.places();
    let survey = thalweg_nvidia::survey(&places);
    let libraries = survey.libraries.into_iter().map(|report| finding(report.library, report.finding));
    let libraries = libraries.collect();
    let (gpus, gpu_problem) = parted(machine::gpus(&places));
    let (tensorrt, tensorrt_problem) = parted(machine::tensorrt(&places));
    let device = open("auto", surroundings)?.device().clone();
    let gpus = gpus.unwrap_or_default();
    let max_connections = None;
    Ok(Examination { device, gpus, gpu_problem, max_connections, tensorrt, tensorrt_problem, libraries })
}

/// What was found, and why nothing was.
fn parted<T>(finding: thalweg_nvidia::Result<T>) -> (Option<T>, Option<String>) {
    match finding {
        Ok(found) => (Some(found), None),
        Err(error) => (None, Some(error.to_string())),
    }
}

fn finding(kind: LibraryKind, finding: Finding) -> LibraryFinding {
    let name = kind.name();
    match finding {
        Finding::Found { path, version, version_problem, .. } => LibraryFinding {
            name,
            found: Some(FoundLibrary { path, version }),
            problem: version_problem,
            remedy: None,
            searched: Vec::new(),
        },
        Finding::Missing { reason, searched, remedy } => LibraryFinding {
            name,
            found: None,
            problem: Some(reason),
            remedy: Some(remedy.to_owned()),
            searched,
        },
    }
}
