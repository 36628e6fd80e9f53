//! The library that a CUDA driver loads into a watched process: where it is, and what it is told.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use thalweg_inject::{KERNELS, variable};

/// What cargo calls it.
const FILE: &str = "libthalweg_inject.so";

/// Where it may be from the folder of the program: beside it, where cargo leaves it that builds it for a test, and where
/// a package would put it.
const FOLDERS: [&str; 3] = ["", "deps", "../lib/thalweg"];

/// What a CUDA driver reads while it starts (CUPTI's documentation, "CUDA Injection").
const DRIVER_VARIABLE: &str = "CUDA_INJECTION64_PATH";

/// Names that are tried for the folder. More are left behind only where somebody makes them to be in the way.
const MOST_FOLDERS: u32 = 1000;

/// A folder for what the processes of a command write, removed with all that is in it.
pub struct Injection {
    library: PathBuf,
    folder: PathBuf,
}

impl Injection {
    /// Finds the library and makes the folder.
    pub fn prepare() -> anyhow::Result<Self> {
        ensure!(
            env::var_os(DRIVER_VARIABLE).is_none(),
            "{DRIVER_VARIABLE} is set: the driver loads one library only, so another tool watches already; unset it"
        );
        let program =
            env::current_exe().and_then(fs::canonicalize).context("cannot find this program's own file")?;
        let library = find(program.parent().unwrap_or(Path::new("/")))?;
        let folder = make_folder(&env::temp_dir(), &format!("thalweg-watch-{}", std::process::id()))?;
        Ok(Self { library, folder })
    }

    /// Lets the CUDA driver of a command load the library.
    pub fn apply(
        &self,
        command: &mut Command,
        site_packages: &[PathBuf],
        records_graph_kernels: GraphKernels,
    ) {
        command.env(DRIVER_VARIABLE, &self.library).env(variable::FOLDER, &self.folder);
        // A path with a colon cannot be told, and is one place less to look for CUPTI.
        let joined: OsString = env::join_paths(site_packages).unwrap_or_default();
        command.env(variable::SITE_PACKAGES, joined);
        if records_graph_kernels == GraphKernels::Recorded {
            command.env(variable::GRAPHS, KERNELS);
        }
    }

    /// Where the files of activities are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // What is left behind is in a temporary folder.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether each kernel in a CUDA graph is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphKernels {
    Recorded,
    AsAWhole,
}

/// Makes a folder that only this user can look into, under the first name that is free: one of an earlier process of the
/// same number may be left, or one that somebody else has made.
fn make_folder(parent: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let mut candidates = (0..MOST_FOLDERS).map(|number| parent.join(format!("{name}-{number}")));
    let made = candidates.find_map(|folder| match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
        made => Some(made.map(|()| folder)),
    });
    let made = made.unwrap_or_else(|| Err(io::ErrorKind::AlreadyExists.into()));
    made.with_context(|| format!("cannot create {name} in {}", parent.display()))
}

fn find(folder: &Path) -> anyhow::Result<PathBuf> {
    let candidates: Vec<_> = FOLDERS.iter().map(|place| folder.join(place).join(FILE)).collect();
    let found = candidates.iter().find(|file| file.is_file());
    found.cloned().with_context(|| {
        let looked: Vec<_> = candidates.iter().map(|file| file.display().to_string()).collect();
        format!(
            "the library that watches a process is not there: no {}; it is built with this program (cargo build \
             --release --workspace) and belongs beside it",
            looked.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_left_from_before_is_left_alone_and_nobody_else_looks_into_the_new_one() {
        use std::os::unix::fs::PermissionsExt as _;
        let name = format!("thalweg-injection-{}", std::process::id());
        let [first, second] = [(); 2].map(|()| make_folder(&env::temp_dir(), &name).unwrap());
        let mode = fs::metadata(&second).unwrap().permissions().mode();
        for folder in [&first, &second] {
            fs::remove_dir(folder).unwrap();
        }
        assert_ne!(first, second);
        assert_eq!(mode & 0o777, 0o700);
        let error = make_folder(Path::new("/nowhere"), "a").unwrap_err().to_string();
        assert_eq!(error, "cannot create a in /nowhere");
    }

    #[test]
    fn a_program_without_its_library_says_where_it_looked() {
        let error = find(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(
            error.contains("/nowhere/libthalweg_inject.so, /nowhere/deps/libthalweg_inject.so"),
            "{error}"
        );
        assert!(error.contains("belongs beside it"), "{error}");
    }
}
