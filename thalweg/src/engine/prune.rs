//! Keeps a cache of engines below its limit: what was used longest ago goes first.
//!
//! In: the cache's folder, its limit, and the entry that was written just now. Out: what was removed. Which files an
//! entry has is up to `cache` and `stored`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::cache::ENGINE_EXTENSION;
use super::stored::label_path;
use crate::units::Bytes;

/// Digits of an entry's name: a SHA-256 in hexadecimal. Other files in the folder are somebody else's.
const NAME_LENGTH: usize = 64;

/// Engines that are not there any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub count: usize,
    pub bytes: Bytes,
}

struct Entry {
    path: PathBuf,
    bytes: Bytes,
    last_used: SystemTime,
}

/// Notes that an entry was used now. Where that cannot be written, the entry counts as older than it is.
pub(super) fn touch(engine: &Path) {
    let _ = File::open(engine).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Removes entries until all together have `limit` bytes at most, `kept` always staying. Another process's entry is
/// left alone while it is being built, and so is what cannot be removed.
pub(super) fn prune(folder: &Path, limit: Bytes, kept: &Path) -> Removed {
    let mut entries = entries(folder);
    entries.sort_by(|a, b| (a.last_used, &a.path).cmp(&(b.last_used, &b.path)));
    let mut left: Bytes = entries.iter().map(|entry| entry.bytes).sum();
    let mut removed = Removed::default();
    for entry in entries.iter().filter(|entry| entry.path != kept) {
        if left <= limit {
            break;
        }
        if remove(&entry.path) {
            left = Bytes(left.0.saturating_sub(entry.bytes.0));
            removed.count += 1;
            removed.bytes += entry.bytes;
        }
    }
    removed
}

/// The engines in the folder, with the sizes of their labels. What cannot be read is not there.
fn entries(folder: &Path) -> Vec<Entry> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let entry = |path: PathBuf| {
        let about = is_engine(&path).then(|| fs::metadata(&path).ok()).flatten()?;
        let label = fs::metadata(label_path(&path)).map_or(0, |label| label.len());
        let last_used = about.modified().ok()?;
        Some(Entry { path, bytes: Bytes(about.len() + label), last_used })
    };
    files.filter_map(|file| entry(file.path())).collect()
}

fn is_engine(path: &Path) -> bool {
    let is_name =
        |name: &str| name.len() == NAME_LENGTH && name.bytes().all(|digit| digit.is_ascii_hexdigit());
    path.extension().is_some_and(|extension| extension == ENGINE_EXTENSION)
        && path.file_stem().and_then(|stem| stem.to_str()).is_some_and(is_name)
}

/// The lock's file stays: whoever waits for it would otherwise lock a file that nobody else finds.
fn remove(engine: &Path) -> bool {
    let Ok(lock) = File::create(super::cache::lock_path(engine)) else { return false };
    if lock.try_lock().is_err() {
        return false;
    }
    // The engine first: a label alone is no entry, an engine alone looks like a damaged one.
    let is_removed = fs::remove_file(engine).is_ok();
    if is_removed {
        let _ = fs::remove_file(label_path(engine));
    }
    is_removed
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A folder with entries of 100 bytes, the first one used longest ago.
    fn folder(name: &str, count: u64) -> (PathBuf, Vec<PathBuf>) {
        let folder = std::env::temp_dir().join(format!("thalweg-prune-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let entry = |index: u64| {
            let path = folder.join(format!("{index:064x}.{ENGINE_EXTENSION}"));
            fs::write(&path, [0; 90]).unwrap();
            fs::write(label_path(&path), [0; 10]).unwrap();
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(index);
            File::open(&path).unwrap().set_modified(used).unwrap();
            path
        };
        let paths = (1..=count).map(entry).collect();
        (folder, paths)
    }

    fn there(paths: &[PathBuf]) -> Vec<bool> {
        paths.iter().map(|path| path.exists()).collect()
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_only_as_much_as_has_to() {
        let (folder, paths) = folder("oldest", 4);
        touch(&paths[0]);
        let removed = prune(&folder, Bytes(250), &paths[3]);
        assert_eq!(removed, Removed { count: 2, bytes: Bytes(200) });
        assert_eq!(there(&paths), [true, false, false, true]);
        assert!(!label_path(&paths[1]).exists());
        assert_eq!(prune(&folder, Bytes(250), &paths[3]), Removed::default());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_new_one_the_locked_one_and_files_of_others_stay() {
        let (folder, paths) = folder("locked", 3);
        let lock = File::create(super::super::cache::lock_path(&paths[1])).unwrap();
        lock.lock().unwrap();
        fs::write(folder.join("mine.engine"), [0; 1000]).unwrap();
        let removed = prune(&folder, Bytes(0), &paths[0]);
        assert_eq!(removed.count, 1);
        assert_eq!(there(&paths), [true, true, false]);
        assert!(folder.join("mine.engine").exists());
        fs::remove_dir_all(folder).unwrap();
    }
}
