//! Thalweg finds, proves and runs the fastest way to push inferences through a network on several streams.
//!
//! From a model file to a tuned configuration:
//!
//! ```
//! use std::time::Duration;
//! use thalweg::backend;
//! use thalweg::measure::{Pacing, StopSignal, Workload, WorkloadSpec};
//! use thalweg::model::{Model, zoo::Network};
//! use thalweg::pool::Configuration;
//! use thalweg::{engine::MaxBatch, report, tune::saturating_load};
//!
//! # fn main() -> thalweg::Result<()> {
//! let model = Model::from_proto(Network::Launch.generate(0), "launch.onnx")?; // or Model::read(path)
//! let backend = backend::open("cpu", &backend::Surroundings::default())?;
//! let spec = WorkloadSpec { max_batch: MaxBatch::Exactly(4), ..WorkloadSpec::default() };
//! let workload = Workload::prepare(backend.as_ref(), &model, &spec)?; // engine, samples, reference
//!
//! let configuration = Configuration { streams: 2, batch_size: 4, ..Configuration::default() };
//! let load = saturating_load(&configuration, None);
//! let pacing = Pacing { window: Duration::from_millis(50), ..Pacing::default() };
//! let measurement = workload.experiment(configuration, load, pacing).run(&StopSignal::default())?;
//!
//! // Every stream's outputs were compared with the single-stream reference, or `run` had failed.
//! assert!(measurement.verification.verified_slots >= 2);
//! println!("{}", report::text_of_measurement(&measurement, report::Style::Plain));
//! # Ok(()) }
//! ```
//!
//! [`tune::tune`] does this for every configuration worth trying; [`pool::ExecutionPool`] is what it
//! measures, and what a program that serves inferences uses directly.
//!
//! Modules use only those to their left: `units, error, files, random -> model -> backend -> engine -> pool ->
//! measure -> precision -> watch -> capacity -> diagnose -> tune -> report, export`. Nothing here prints, reads environment
//! variables or keeps state for the process.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod backend;
pub mod capacity;
pub mod diagnose;
pub mod engine;
pub mod error;
pub mod export;
pub mod files;
pub mod measure;
pub mod model;
pub mod pool;
pub mod precision;
pub mod random;
pub mod report;
pub mod tune;
pub mod units;
pub mod watch;

pub use error::{Error, Result, Room};
