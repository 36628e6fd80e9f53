//! The commands, one file each.

pub mod bench;
pub mod doctor;
pub mod inspect;
pub mod model;
pub mod predict;
pub mod report;
pub mod tune;

use std::collections::BTreeMap;

use clap::CommandFactory as _;
use thalweg::units::Nanos;

use crate::args::{Cli, ShapeArgs};
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
