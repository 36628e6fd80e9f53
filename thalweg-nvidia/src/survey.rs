//! What this machine has, all at once: for `thalweg doctor`.

use std::path::PathBuf;

use serde::Serialize;

use crate::error::Error;
use crate::kind::LibraryKind;
use crate::library::{Library, Rejected};
use crate::places::Places;
use crate::version;

/// Which of NVIDIA's libraries this machine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// One report per library, in the order of [`LibraryKind::ALL`].
    pub libraries: Vec<LibraryReport>,
}

impl Survey {
    /// The report on one library.
    #[expect(clippy::missing_panics_doc, reason = "there is one report for each kind")]
    pub fn report(&self, kind: LibraryKind) -> &LibraryReport {
        let report = self.libraries.iter().find(|report| report.library == kind);
        report.expect("bug: `survey` reports on every kind")
    }
}

/// What was found of one library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LibraryReport {
    /// The library.
    pub library: LibraryKind,
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
}

/// Whether a library is there and works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// It is loaded.
    Found {
        /// The name it was found under, for example `libnvinfer.so.10`.
        soname: &'static str,
        /// The file it was loaded from.
        path: PathBuf,
        /// Its version, where it has one and tells it.
        version: Option<String>,
        /// Why it does not tell its version.
        version_problem: Option<String>,
        /// Files that came before it in the search and could not be loaded.
        rejected: Vec<Rejected>,
    },
    /// It cannot be used.
    Missing {
        /// Why.
        reason: String,
        /// The places that were searched, in this order; empty where a file was there, but not usable.
        searched: Vec<String>,
        /// What to do about it.
        remedy: &'static str,
    },
}

/// Looks for every library and asks each for its version.
///
/// All that are found get loaded and stay loaded, TensorRT and its variants side by side: call it in a process
/// that does nothing else with them.
pub fn survey(places: &Places) -> Survey {
    let mut libraries = Vec::with_capacity(LibraryKind::ALL.len());
    let mut tensorrt_major = None;
    for kind in LibraryKind::ALL {
        // Parts of another TensorRT than the one above would be of no use.
        let opened = match (kind, tensorrt_major) {
            (LibraryKind::TensorRtPlugins | LibraryKind::OnnxParser, Some(major)) => {
                Library::open_major(kind, major, places)
            }
            _ => Library::open(kind, places),
        };
        if let (LibraryKind::TensorRt, Ok(library)) = (kind, &opened) {
            tensorrt_major = library.major();
        }
        let finding = opened.map_or_else(|error| missing(kind, &error), |library| found(&library));
        libraries.push(LibraryReport { library: kind, finding });
    }
    Survey { libraries }
}

fn found(library: &Library) -> Finding {
    let (version, version_problem) = match version::text(library) {
        Some(Ok(version)) => (Some(version), None),
        Some(Err(problem)) => (None, Some(problem.to_string())),
        None => (None, None),
    };
    Finding::Found {
        soname: library.soname(),
        path: library.path().to_owned(),
        version,
        version_problem,
        rejected: library.rejected().to_vec(),
    }
}

fn missing(kind: LibraryKind, error: &Error) -> Finding {
    let (reason, searched) = match error {
        Error::NotFound { sonames, searched, .. } => {
            (format!("no {} in any place", sonames.join(" or ")), searched.clone())
        }
        error => (error.to_string(), Vec::new()),
    };
    Finding::Missing { reason, searched, remedy: kind.remedy() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::SystemPlaces;
    use crate::stand_in::{self, Folder};

    #[test]
    fn a_machine_with_nothing_gets_a_remedy_for_each_library() {
        let survey = survey(&Places { system: SystemPlaces::Ignored, ..Places::default() });
        let kinds: Vec<_> = survey.libraries.iter().map(|report| report.library).collect();
        assert_eq!(kinds, LibraryKind::ALL);
        for report in survey.libraries {
            let Finding::Missing { reason, remedy, .. } = report.finding else {
                panic!("{:?}", report.library)
            };
            assert!(reason.contains(report.library.sonames()[0]), "{reason}");
            assert!(!remedy.is_empty());
        }
    }

    #[test]
    fn this_machine_can_be_surveyed_whatever_it_has() {
        let survey = survey(&Places::default());
        assert_eq!(survey.libraries.len(), LibraryKind::ALL.len());
        for report in survey.libraries {
            if let Finding::Missing { reason, .. } = report.finding {
                assert!(reason.contains(".so."), "{reason}");
            }
        }
    }

    #[test]
    fn wheels_in_site_packages_are_found_and_the_parser_goes_with_its_tensorrt() {
        let folder = Folder::new("wheels");
        folder.build("tensorrt_libs/libnvinfer.so.10", &stand_in::tensorrt(101_300));
        folder.build("tensorrt_libs/libnvonnxparser.so.10", "");
        folder.build("tensorrt_libs/libnvonnxparser.so.11", "");
        folder.build("nvidia/cu13/lib/libcupti.so.13", "");
        let places = Places {
            site_packages: vec![folder.path().to_owned()],
            system: SystemPlaces::Ignored,
            ..Places::default()
        };
        let survey = survey(&places);
        let json = serde_json::to_value(survey.report(LibraryKind::TensorRt)).unwrap();
        assert_eq!(json["library"], "tensorrt");
        assert_eq!(json["finding"], "found");
        assert_eq!(json["version"], "10.13.0");
        let json = serde_json::to_value(survey.report(LibraryKind::OnnxParser)).unwrap();
        assert_eq!(json["soname"], "libnvonnxparser.so.10");
        let json = serde_json::to_value(survey.report(LibraryKind::Cupti)).unwrap();
        assert!(json["version_problem"].as_str().unwrap().contains("cuptiGetVersion"));
    }
}
