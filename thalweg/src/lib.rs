//! Thalweg finds, proves and runs the fastest way to push inferences through an engine on several streams.
#![forbid(unsafe_code)]

pub mod backend;
pub mod engine;
pub mod error;
pub mod files;
pub mod measure;
pub mod model;
pub mod pool;
pub mod report;
pub mod tune;
pub mod units;

pub use error::{Error, Result};
