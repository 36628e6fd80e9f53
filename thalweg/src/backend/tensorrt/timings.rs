//! How long kernels took in earlier builds, in a file that builds share.
//!
//! In: the file, which need not exist. Out: a build that measures only kernels that are new to it, and the file with
//! these added. Timings that were taken while something else kept the GPU busy stay wrong, so nobody gets such a file
//! without asking for it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use thalweg_nvidia::tensorrt::{BuilderConfig, TimingCache};

use crate::backend::{BuildEvent, BuildOrder};
use crate::error::{Error, Result};
use crate::files;

/// The timings that a build uses and fills.
pub(super) struct Timings<'a> {
    file: &'a Path,
    cache: TimingCache,
}

impl<'a> Timings<'a> {
    /// Has the build of `config` use the timings in `file`. Where TensorRT refuses them, as those of another version or
    /// GPU, that is a remark and all are measured anew.
    ///
    /// # Errors
    /// [`Error::Io`] where the file is there and cannot be read.
    pub fn read(config: &mut BuilderConfig, file: &'a Path, order: &BuildOrder<'_>) -> Result<Self> {
        let content = match fs::read(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            content => content.map_err(Error::io("read", file))?,
        };
        let cache = match config.use_timing_cache(&content) {
            Err(refused) if !content.is_empty() => {
                let file = file.display();
                remark(
                    order,
                    &format!(
                        "the timings in {file} are of no use here, kernels are measured anew: {refused}"
                    ),
                );
                config.use_timing_cache(&[])?
            }
            cache => cache?,
        };
        Ok(Self { file, cache })
    }

    /// Writes them for the next build. That they cannot be written is a remark: there is an engine all the same.
    pub fn write(&self, order: &BuildOrder<'_>) {
        let written = self.cache.serialize().map_err(Error::from);
        if let Err(error) = written.and_then(|bytes| files::write_whole(self.file, &bytes)) {
            remark(order, &format!("the timings are not kept for the next build: {error}"));
        }
    }
}

fn remark(order: &BuildOrder<'_>, text: &str) {
    if let Some(watch) = order.watch {
        // Whoever wants to stop says so again when the build goes on.
        let _ = watch.tell(BuildEvent::Remark(text));
    }
}
