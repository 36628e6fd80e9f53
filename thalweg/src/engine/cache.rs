//! Engines that were built before, in a folder that several processes may share.
//!
//! An engine is filed under what it is made from: the model's content, the build's specification, what built it for
//! which device, and calibration samples. A path is no part of that, so a model that is edited in place is built
//! anew. After each build, what was used longest ago is removed until the limit is kept (`prune`).

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::Remark;
use super::prune::{Removed, prune, touch};
use super::stored::{StoredEngine, label_path};
use crate::backend::{Backend, BuildEvent, BuildOrder, Calibration};
use crate::error::{Error, Result};
use crate::files::hex_digest;
use crate::units::Bytes;

/// Part of every key: counted up where what an entry means changes, or how a backend builds.
const CACHE_VERSION: u32 = 1;

/// How often a process that waits for another one's build looks whether it is done.
const LOCK_CHECK: Duration = Duration::from_millis(100);

/// Bytes of a cache that was given no other limit: a hundred engines of ResNet-50's size, or a few dozen of BERT's, and
/// a small part of a disk that TensorRT itself takes two gigabytes of.
const DEFAULT_LIMIT: Bytes = Bytes(10_000_000_000);

/// What an engine's file ends in.
pub(super) const ENGINE_EXTENSION: &str = "engine";

/// A folder of engines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    folder: PathBuf,
    limit: Bytes,
}

/// The right to write one entry, until it is dropped. The operating system lets go of it even after `kill -9`.
pub(super) struct Claim {
    _lock: File,
}

impl Cache {
    /// The cache in this folder, which is made where it does not exist. It keeps 10 GB of engines.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be made.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        Ok(Self { folder: folder.to_owned(), limit: DEFAULT_LIMIT })
    }

    /// The same with another limit to what all engines take together. One that is larger is kept alone.
    #[must_use]
    pub fn with_limit(self, limit: Bytes) -> Self {
        Self { limit, ..self }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the engine of this order is, once it is built; `None` for a backend whose engines are not worth storing.
    ///
    /// # Errors
    /// [`Error::ExternalData`] where the model's content cannot be read.
    pub fn path(&self, backend: &dyn Backend, order: &BuildOrder<'_>) -> Result<Option<PathBuf>> {
        let Some(identity) = backend.build_identity() else { return Ok(None) };
        let facts = (
            CACHE_VERSION,
            &backend.device().backend,
            identity,
            order.model.content_hash()?,
            order.spec,
            order.calibration.map(Calibration::sha256),
        );
        let facts = serde_json::to_vec(&facts).expect("bug: a key is plain data");
        Ok(Some(self.folder.join(hex_digest(&facts)).with_extension(ENGINE_EXTENSION)))
    }

    /// Takes the entry for this process, after whoever has it now.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be locked, [`Error::BuildStopped`] where the watch breaks off the wait.
    pub(super) fn claim(path: &Path, order: &BuildOrder<'_>) -> Result<Claim> {
        let lock_path = lock_path(path);
        let lock = File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Claim { _lock: lock }),
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", lock_path)(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            if order.watch.is_some_and(|watch| watch.tell(BuildEvent::Waiting).is_break()) {
                return Err(Error::BuildStopped);
            }
            thread::sleep(LOCK_CHECK);
        }
    }

    /// Writes an engine, and makes room for it: what the user should know of that.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub(super) fn write(&self, path: &Path, engine: &StoredEngine) -> Result<Option<Remark>> {
        engine.write(path)?;
        let Removed { count, bytes } = prune(&self.folder, self.limit, path);
        Ok((count > 0).then_some(Remark::Removed { count, bytes: bytes.0, limit_bytes: self.limit.0 }))
    }

    /// The engine at `path`; `None` where there is none.
    ///
    /// # Errors
    /// Where there is one and it is damaged.
    pub(super) fn read(path: &Path) -> Result<Option<StoredEngine>> {
        if !path.exists() {
            return Ok(None);
        }
        let stored = StoredEngine::read(path)?;
        match stored.origin {
            Some(_) => {
                touch(path);
                Ok(Some(stored))
            }
            None => Err(Error::NotAnEngine {
                path: path.to_owned(),
                reason: format!("{} is missing", label_path(path).display()),
            }),
        }
    }
}

/// The file that whoever builds an entry holds.
pub(super) fn lock_path(engine: &Path) -> PathBuf {
    engine.with_extension("lock")
}
