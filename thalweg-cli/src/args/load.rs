//! What requests are like.

use clap::{Args, ValueEnum};

use crate::values::{parse_count, parse_outstanding, parse_positive};

#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Requests that are always outstanding [default: as many as there are slots]
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = parse_outstanding)]
    pub concurrency: Option<usize>,
    /// Requests per second, whether or not the pool keeps up
    #[arg(long, value_name = "PER_S", value_parser = parse_positive, allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// How requests at a rate are spaced
    #[arg(long, value_enum, default_value_t = Spacing::Poisson, requires = "rate")]
    pub spacing: Spacing,
    /// Samples of each request [default: a whole batch]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub request_samples: Option<usize>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Spacing {
    /// Exponential gaps, as independent callers make them
    Poisson,
    /// Equal gaps
    Constant,
}
