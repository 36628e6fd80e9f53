//! What can be typed about results that are there already.

use std::path::PathBuf;

use clap::Args;
use thalweg::export::Format;
use thalweg::measure::ObjectionKind;

use crate::values::{format_parser, objection_parser, parse_positive};

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The tuned.json of `tune`
    pub tuned: PathBuf,
    /// What it is for: triton, trtexec or cpp
    #[arg(long, value_name = "FORMAT", value_parser = format_parser())]
    pub to: Format,
    /// File to write; printed without it
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Result of `bench` or `tune`: measurement.json, outcome.json or the folder with it
    pub first: PathBuf,
    /// The one that is compared with it
    pub second: PathBuf,
    /// Fail where the second has less than so many times the throughput of the first, by the ratio in the middle of its
    /// interval: equal runs would fall below its lower end
    #[arg(long, value_name = "RATIO", value_parser = parse_positive, allow_negative_numbers = true)]
    pub fail_below: Option<f64>,
    /// Compare although this differs, or is in doubt
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = objection_parser())]
    pub despite: Vec<ObjectionKind>,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Folder that `bench`, `diagnose`, `tune` or `watch` wrote with --out
    pub folder: PathBuf,
    /// Explain every number
    #[arg(long)]
    pub explain: bool,
}
