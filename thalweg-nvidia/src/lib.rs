//! TensorRT, CUDA, NVML and CUPTI, found and loaded at run time.
//!
//! In: the [`Places`] to look in. Out: an open [`Library`], its [`version`], and a [`survey`] of what this
//! machine has. A library that is missing is an [`Error`] with the places that were searched and a remedy,
//! never a panic, so everything here compiles and runs on a machine with no NVIDIA software.
//!
//! All `unsafe` of the project is in this crate, but for the one function that `thalweg-inject` exports, and every public
//! item of it is safe, but for one hidden switch that plants a bug for a test. It knows nothing of models, pools or
//! tuning. It builds on Unix; the file names it looks for are those of Linux.

pub mod activity;
pub mod cuda;
pub mod cupti;
mod error;
pub mod execution;
mod kind;
mod library;
pub mod nvml;
mod places;
mod raw;
mod survey;
mod table;
pub mod tensorrt;
pub mod version;

#[cfg(test)]
mod stand_in;
// Tests that run over the stand-in and on a GPU call this crate by its name.
#[cfg(test)]
extern crate self as thalweg_nvidia;

pub use error::{Error, Result};
pub use kind::LibraryKind;
pub use library::{Library, Rejected};
pub use places::{Places, SystemPlaces};
pub use raw::{DevicePointer, RawStream};
pub use survey::{Finding, LibraryReport, Survey, survey};
