//! `thalweg doctor`: what is here, what is missing, how to get it.

use crate::args::DoctorArgs;
use crate::output::Output;

pub fn run(args: &DoctorArgs, output: &Output) -> anyhow::Result<()> {
    let _ = args;
    let backend = thalweg::backend::open("auto")?;
    let device = backend.device();
    output.result(|| serde_json::to_value(device), |_| format!("{device:#?}\n"))
}
