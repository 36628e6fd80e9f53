//! Where to look for a library, and in which order.
//!
//! 1. the folders that the caller names;
//! 2. the loader's own path: `LD_LIBRARY_PATH`, the program's run path, `ld.so.conf`;
//! 3. where Debian's packages and NVIDIA's installers put things;
//! 4. inside the `site-packages` folders that the caller names, where pip puts NVIDIA's wheels.
//!
//! The first place that has any version wins; within one place the newest version does. No environment
//! variable is read here.

use std::fs;
use std::path::{Path, PathBuf, absolute};

use crate::kind::LibraryKind;

/// Where Debian's packages and NVIDIA's installers put libraries.
const USUAL_FOLDERS: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/extras/CUPTI/lib64",
    "/usr/local/tensorrt/lib",
    "/opt/tensorrt/lib",
];

/// Where NVIDIA's wheels put libraries, below `site-packages`. CUDA's own wheels use `nvidia/*/lib` beside.
const WHEEL_FOLDERS: [&str; 4] = ["tensorrt_libs", "tensorrt", "tensorrt_rtx_libs", "tensorrt_lean_libs"];

/// The name under which the loader's own path appears in lists of searched places.
const LOADER: &str = "the loader's path";

/// Where to look for libraries.
///
/// What is in these folders is loaded and run, so name only folders whose content is trusted.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Folders that are searched first, in this order.
    pub directories: Vec<PathBuf>,
    /// Python's `site-packages` folders, searched last, in this order.
    pub site_packages: Vec<PathBuf>,
    /// Whether the machine's own places are searched too.
    pub system: SystemPlaces,
}

/// Whether the loader's path and the usual folders are searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SystemPlaces {
    /// They are.
    #[default]
    Searched,
    /// Only the folders that were named are.
    Ignored,
}

/// One place: the newest version in it wins over all places behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The loader's own path.
    Loader,
    /// Some folders that count as one.
    Folders(Vec<PathBuf>),
}

impl Places {
    /// Whether one of the named folders has this library.
    pub(crate) fn names(&self, kind: LibraryKind) -> bool {
        let has = |folder: &PathBuf| kind.sonames().iter().any(|soname| folder.join(soname).is_file());
        self.directories.iter().any(has)
    }

    /// All places in the order of the search, relative paths made absolute.
    pub(crate) fn in_order(&self) -> Vec<Place> {
        let mut places: Vec<_> = self.directories.iter().map(|folder| Place::folders([folder])).collect();
        if self.system == SystemPlaces::Searched {
            places.push(Place::Loader);
            places.push(Place::folders(USUAL_FOLDERS));
        }
        places.extend(self.site_packages.iter().map(|folder| Place::folders(wheel_folders(folder))));
        places
    }
}

impl Place {
    fn folders<P: AsRef<Path>>(folders: impl IntoIterator<Item = P>) -> Self {
        // A bare file name would make the loader search its own path, so no path may stay relative.
        let absolute = |folder: P| absolute(&folder).unwrap_or_else(|_| folder.as_ref().to_owned());
        Self::Folders(folders.into_iter().map(absolute).collect())
    }

    /// For lists of searched places.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Loader => vec![LOADER.to_owned()],
            Self::Folders(folders) => folders.iter().map(|folder| folder.display().to_string()).collect(),
        }
    }
}

/// The folders below one `site-packages` folder, those of CUDA's wheels sorted so that the order is always
/// the same.
fn wheel_folders(site_packages: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<_> = WHEEL_FOLDERS.iter().map(|name| site_packages.join(name)).collect();
    let nvidia = site_packages.join("nvidia");
    let entries = fs::read_dir(&nvidia).into_iter().flatten().flatten();
    let mut cuda: Vec<_> = entries.map(|entry| entry.path().join("lib")).collect();
    cuda.sort();
    folders.extend(cuda);
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_folders_come_first_and_site_packages_last() {
        let places = Places {
            directories: vec!["/a".into(), "/b".into()],
            site_packages: vec!["/python".into()],
            system: SystemPlaces::Searched,
        };
        let order = places.in_order();
        assert_eq!(order[0], Place::Folders(vec!["/a".into()]));
        assert_eq!(order[1], Place::Folders(vec!["/b".into()]));
        assert_eq!(order[2], Place::Loader);
        assert_eq!(order[3].names(), USUAL_FOLDERS);
        assert_eq!(order[4].names()[0], "/python/tensorrt_libs");
        assert_eq!(order.len(), 5);
    }

    #[test]
    fn only_named_folders_are_searched_where_the_system_is_ignored() {
        let places =
            Places { directories: vec!["/a".into()], system: SystemPlaces::Ignored, ..Places::default() };
        assert_eq!(places.in_order(), [Place::Folders(vec!["/a".into()])]);
    }

    #[test]
    fn a_relative_folder_becomes_absolute() {
        let places = Places { directories: vec!["libraries".into()], ..Places::default() };
        let Place::Folders(folders) = &places.in_order()[0] else { panic!("the first place is a folder") };
        assert!(folders[0].is_absolute());
    }
}
