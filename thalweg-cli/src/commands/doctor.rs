//! `thalweg doctor`: what is here, what is missing, how to get it.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use thalweg::{backend, report};

use crate::args::DoctorArgs;
use crate::output::Output;

/// A folder to look into before all others.
const TENSORRT_DIR: &str = "THALWEG_TENSORRT_DIR";

pub fn run(args: &DoctorArgs, output: &Output) -> anyhow::Result<()> {
    let directories: Vec<PathBuf> =
        args.tensorrt_dir.iter().cloned().chain(env::var_os(TENSORRT_DIR).map(PathBuf::from)).collect();
    let examination = backend::examine(&directories, &site_packages())?;
    output.result(
        || serde_json::to_value(&examination),
        |style| report::text_of_examination(&examination, style),
    )
}

/// Where the active Python keeps its packages, NVIDIA's wheels among them; nowhere without a Python.
fn site_packages() -> Vec<PathBuf> {
    let question = "import site, sys; print('\\n'.join(p for p in sys.path if p.endswith('-packages')))";
    let answer = Command::new("python3").args(["-c", question]).output();
    let answer = answer.ok().filter(|answer| answer.status.success()).map(|answer| answer.stdout);
    String::from_utf8_lossy(&answer.unwrap_or_default()).lines().map(PathBuf::from).collect()
}
