//! The files of the workspace, for tests that read them.

use std::path::{Path, PathBuf};

/// Written by programs, not by us.
const NOT_OURS: [&str; 4] = [".git", "target", "thalweg-out", ".models"];

/// The folder with the workspace's `Cargo.toml`.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a workspace").to_path_buf()
}

/// All files below a folder, relative to it and sorted. Links are not followed.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(current) = folders.pop() {
        let entries = std::fs::read_dir(&current).expect("a folder of the workspace can be read");
        for entry in entries {
            let entry = entry.expect("its entries can be read");
            let kind = entry.file_type().expect("their kind is known");
            if kind.is_dir() && !NOT_OURS.iter().any(|name| entry.file_name() == *name) {
                folders.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path();
                files.push(path.strip_prefix(folder).expect("it is below the folder").to_path_buf());
            }
        }
    }
    files.sort();
    files
}
