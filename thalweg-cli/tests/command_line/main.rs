//! The program as its user meets it: what is typed, what is printed, which exit code, and what is left in the
//! folder. Each test runs the binary; what a command computes is tested in the library.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod accuracy;
mod arrays;
mod bad_inputs;
mod bad_models;
mod bad_results;
mod bad_settings;
mod builds;
mod comparisons;
mod connections;
mod conversion;
mod diagnoses;
mod ended_early;
mod engines;
mod input_types;
mod knobs;
mod models;
mod output_folders;
mod predictions;
mod printing;
mod program;
mod searches;
mod turns;
mod watching;
