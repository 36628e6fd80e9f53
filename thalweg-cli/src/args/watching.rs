//! What can be typed to look at programs of others.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::values::{parse_seconds, parse_span};

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// A process that runs already: what it takes of its GPU, by NVML
    #[arg(long, value_name = "N", required_unless_present = "command", conflicts_with = "command")]
    pub pid: Option<u32>,
    /// The command to run and watch, with its words, behind `--`: its calls, copies and kernels, by CUPTI
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// Which GPU to read: NVML's number for it, or its UUID [default: that of --pid; for a command the first]
    #[arg(long, value_name = "INDEX|UUID")]
    pub device: Option<String>,
    /// How long to watch a process that runs already, in seconds
    #[arg(
        long, value_name = "S", default_value = "10", requires = "pid",
        value_parser = parse_span, allow_negative_numbers = true
    )]
    pub duration: Duration,
    /// Time between two readings of the GPU, in seconds
    #[arg(
        long, value_name = "S", default_value = "0.5",
        value_parser = parse_span, allow_negative_numbers = true
    )]
    pub period: Duration,
    /// Time from the first work on the GPU on that is left out, in seconds; never more than a third of all
    #[arg(
        long, value_name = "S", default_value = "0.5", conflicts_with = "pid",
        value_parser = parse_seconds, allow_negative_numbers = true
    )]
    pub warm_up: Duration,
    /// Record each kernel in a CUDA graph, which costs more than recording each run as a whole
    #[arg(long, conflicts_with = "pid")]
    pub graph_kernels: bool,
    /// Folder for watched.json, report.html and trace.json
    #[arg(long, value_name = "DIR", conflicts_with = "pid")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct TopArgs {
    /// Which GPU: NVML's number for it, or its UUID [default: the first]
    #[arg(long, value_name = "INDEX|UUID")]
    pub device: Option<String>,
    /// Print a line for each reading instead of bars, for logs
    #[arg(long)]
    pub plain: bool,
    /// Time between two readings, in seconds
    #[arg(
        long, value_name = "S", default_value = "1",
        value_parser = parse_span, allow_negative_numbers = true
    )]
    pub period: Duration,
    /// End after so many seconds [default: when interrupted]
    #[arg(long, value_name = "S", value_parser = parse_span, allow_negative_numbers = true)]
    pub duration: Option<Duration>,
}
