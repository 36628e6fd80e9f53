//! Files that are written whole or not at all, and folders that one run has to itself.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

const LOCK_FILE: &str = ".lock";
const PROBE_FILE: &str = ".probe";

/// As large as the journal, report and configuration of a usual search together.
const PROBE_BYTES: usize = 1 << 20;

/// Writes a file so that a reader sees the old one or the new one, never a part: under another name in the
/// same folder first, because renaming within a folder is atomic.
///
/// # Errors
/// [`Error::Io`] where it cannot be written; what was there before is untouched.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_pieces(path, [bytes])
}

/// The same for bytes that are in several places, one piece after the other. A script can be run then by whoever may read it.
///
/// # Errors
/// As [`write_whole`].
pub fn write_pieces<'a>(path: &Path, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
    let part = part_of(path);
    let mut pieces = pieces.into_iter().peekable();
    let is_script = pieces.peek().is_some_and(|first| first.starts_with(b"#!"));
    let written = File::create(&part)
        .and_then(|mut file| {
            pieces.try_for_each(|piece| file.write_all(piece))?;
            if is_script {
                let mut permissions = file.metadata()?.permissions();
                permissions.set_mode(permissions.mode() | (permissions.mode() & 0o444) >> 2);
                file.set_permissions(permissions)?;
            }
            file.sync_all()
        })
        .and_then(|()| fs::rename(&part, path));
    written.map_err(|source| {
        // What is left of a failed write is of no use; that it may stay behind is the lesser trouble.
        let _ = fs::remove_file(&part);
        Error::Io { action: "write", path: path.to_owned(), source }
    })
}

/// SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// [`Error::Io`] where it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    fs::read(path).map(|bytes| hex_digest(&bytes)).map_err(Error::io("read", path))
}

/// SHA-256 of bytes, likewise.
pub fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Finds out before long work whether [`write_whole`] will be able to write this file.
///
/// # Errors
/// [`Error::Io`] where it will not.
pub fn check_writable(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::io("write", path)(ErrorKind::IsADirectory.into()));
    }
    let part = part_of(path);
    let written = File::create(&part).and_then(|_| fs::remove_file(&part));
    written.map_err(Error::io("write", path))
}

/// A name in the same folder that no other process uses at the same time.
fn part_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(format!(".{}.part", std::process::id()));
    name.into()
}

/// A folder that one run has to itself, until it is dropped.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
    /// Holds the lock; the operating system lets go of it even after `kill -9`.
    _lock: File,
}

impl OutputFolder {
    /// Makes the folder where it does not exist, takes it for this run, and writes and removes a file of
    /// a megabyte: a folder that is read-only or full shows now, not after the long work.
    ///
    /// # Errors
    /// [`Error::Busy`] where another run uses it, [`Error::Io`] where it cannot be written.
    pub fn claim(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => {
                return Err(Error::Io { action: "lock", path: lock_path, source });
            }
        }
        let probe = path.join(PROBE_FILE);
        // Not zeros, which a file system may store without using space.
        let written = fs::write(&probe, vec![0x5a; PROBE_BYTES]);
        let removed = fs::remove_file(&probe);
        written.and(removed).map_err(Error::io("write", &probe))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file in it, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path.join(name);
        write_whole(&path, bytes)?;
        Ok(path)
    }

    /// Removes a file in it, where there is one.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty_folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("thalweg-files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_script_can_be_run_by_whoever_may_read_it() {
        let folder = empty_folder("script");
        let mode = |name: &str, text: &str| {
            let path = folder.join(name);
            write_whole(&path, text.as_bytes()).unwrap();
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        let plain = mode("list.txt", "milk\n");
        assert_eq!(plain & 0o111, 0);
        assert_eq!(mode("run.sh", "#!/bin/sh\n"), plain | (plain & 0o444) >> 2);
    }

    #[test]
    fn a_folder_belongs_to_one_run_at_a_time() {
        let path = empty_folder("busy");
        let first = OutputFolder::claim(&path).unwrap();
        let error = OutputFolder::claim(&path).unwrap_err();
        assert!(matches!(error, Error::Busy { .. }), "{error}");
        drop(first);
        OutputFolder::claim(&path).unwrap();
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_shows_at_once() {
        let path = empty_folder("unwritable");
        fs::write(path.join("file"), "").unwrap();
        let error = OutputFolder::claim(&path.join("file/below")).unwrap_err();
        assert!(matches!(error, Error::Io { action: "create", .. }), "{error}");
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let path = empty_folder("whole");
        let folder = OutputFolder::claim(&path).unwrap();
        folder.write("result.json", b"old").unwrap();
        // A folder of that name cannot be replaced by a file.
        fs::create_dir(path.join("taken")).unwrap();
        assert!(folder.write("taken", b"new").is_err());
        assert_eq!(fs::read(path.join("result.json")).unwrap(), b"old");
        let left: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
        fs::remove_dir_all(path).unwrap();
    }
}
