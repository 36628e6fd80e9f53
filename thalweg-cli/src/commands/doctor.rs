//! `thalweg doctor`: what is here, what is missing, how to get it.

use thalweg::{backend, report};

use super::surroundings;
use crate::args::DoctorArgs;
use crate::output::Output;

pub fn run(args: &DoctorArgs, output: &Output) -> anyhow::Result<()> {
    let examination = backend::examine(&surroundings(&args.gpu))?;
    output.result(
        || serde_json::to_value(&examination),
        |style| report::text_of_examination(&examination, style),
    )
}
