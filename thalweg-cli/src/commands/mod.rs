//! The commands, one file each.

pub mod bench;
pub mod doctor;
pub mod inspect;
pub mod model;
pub mod predict;
pub mod report;
pub mod tune;

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::process::Command;

use clap::CommandFactory as _;
use thalweg::backend::{BuildOptions, Surroundings};
use thalweg::units::Nanos;

use crate::args::{Cli, GpuArgs, ShapeArgs, WorkloadArgs};
use crate::output::print;

/// Names of the files in an output folder.
pub mod file {
    pub const MEASUREMENT: &str = "measurement.json";
    pub const OUTCOME: &str = "outcome.json";
    pub const TUNED: &str = "tuned.json";
    pub const REPORT: &str = "report.html";
    pub const TRACE: &str = "trace.json";
}

pub fn print_completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "thalweg", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub fn print_manual() -> anyhow::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    print(&String::from_utf8_lossy(&page))
}

fn input_shapes(args: &ShapeArgs) -> BTreeMap<String, Vec<usize>> {
    args.shapes.iter().cloned().collect()
}

fn milliseconds(milliseconds: f64) -> Nanos {
    Nanos::from_seconds(milliseconds / 1e3)
}

/// A folder with TensorRT to look into before all others but that of `--tensorrt-dir`.
const TENSORRT_DIR: &str = "THALWEG_TENSORRT_DIR";

/// Where to look for a GPU's libraries.
fn surroundings(args: &GpuArgs) -> Surroundings {
    let of_environment = env::var_os(TENSORRT_DIR).map(PathBuf::from);
    Surroundings {
        directories: args.tensorrt_dir.iter().cloned().chain(of_environment).collect(),
        site_packages: site_packages(),
        device: args.device.clone(),
    }
}

/// Where the active Python keeps its packages, NVIDIA's wheels among them; nowhere without a Python.
fn site_packages() -> Vec<PathBuf> {
    let question = "import site, sys; print('\\n'.join(p for p in sys.path if p.endswith('-packages')))";
    let answer = Command::new("python3").args(["-c", question]).output();
    let answer = answer.ok().filter(|answer| answer.status.success()).map(|answer| answer.stdout);
    String::from_utf8_lossy(&answer.unwrap_or_default()).lines().map(PathBuf::from).collect()
}

/// What the builder of an engine may do.
fn build_options(args: &WorkloadArgs) -> BuildOptions {
    BuildOptions { precision: args.precision, ..BuildOptions::default() }
}
