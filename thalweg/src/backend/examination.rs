//! What this machine has to run networks on, for `thalweg doctor`.

use std::path::PathBuf;

use serde::Serialize;
use thalweg_nvidia::{Finding, LibraryKind};

use super::{DeviceSpec, Surroundings, open};
use crate::error::Result;

/// What was found on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Examination {
    /// The device that `--backend auto` runs networks on.
    pub device: DeviceSpec,
    /// NVIDIA's libraries, each with its version or with what to do about its absence.
    pub libraries: Vec<LibraryFinding>,
}

/// One of NVIDIA's libraries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LibraryFinding {
    /// What it is: `TensorRT`.
    pub name: &'static str,
    /// Where it is and in which version; `None` where it cannot be used.
    pub found: Option<FoundLibrary>,
    /// Why it cannot be used, or does not tell its version.
    pub problem: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Places that were searched in vain, in this order.
    pub searched: Vec<String>,
}

/// Where a library is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundLibrary {
    /// The file.
    pub path: PathBuf,
    /// Its version, where it tells it.
    pub version: Option<String>,
}

/// Looks around: first in the named directories, then in the system's places, last in `site-packages`.
///
/// # Errors
/// Where not even the `cpu` backend can be opened.
pub fn examine(surroundings: &Surroundings) -> Result<Examination> {
    let places = surroundings.places();
    let survey = thalweg_nvidia::survey(&places);
    let libraries = survey.libraries.into_iter().map(|report| finding(report.library, report.finding));
    Ok(Examination { device: open("auto", surroundings)?.device().clone(), libraries: libraries.collect() })
}

fn finding(kind: LibraryKind, finding: Finding) -> LibraryFinding {
    let name = kind.name();
    match finding {
        Finding::Found { path, version, version_problem, .. } => LibraryFinding {
            name,
            found: Some(FoundLibrary { path, version }),
            problem: version_problem,
            remedy: None,
            searched: Vec::new(),
        },
        Finding::Missing { reason, searched, remedy } => LibraryFinding {
            name,
            found: None,
            problem: Some(reason),
            remedy: Some(remedy.to_owned()),
            searched,
        },
    }
}
