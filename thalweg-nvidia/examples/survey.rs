//! Prints as JSON which of NVIDIA's libraries this machine has.
//!
//! Arguments are folders: those called `site-packages` or `dist-packages` are searched for NVIDIA's wheels, all
//! others directly.
#![expect(clippy::print_stdout, reason = "it is a program")]

use std::path::PathBuf;

use thalweg_nvidia::{Places, survey};

fn main() -> Result<(), serde_json::Error> {
    let folders = std::env::args_os().skip(1).map(PathBuf::from);
    let is_python = |folder: &PathBuf| folder.to_string_lossy().ends_with("-packages");
    let (site_packages, directories) = folders.partition(is_python);
    let places = Places { directories, site_packages, ..Places::default() };
    println!("{}", serde_json::to_string_pretty(&survey(&places))?);
    Ok(())
}
