//! CUPTI: what a program asks of CUDA and what its GPUs do, recorded while it runs.
//!
//! In: the [`Places`] where `libcupti.so` may be, and a [`Writer`](crate::activity::Writer). Out: a file of
//! [`activity`](crate::activity), or the reason why this machine has none. CUPTI exists once in a process and gives its
//! callbacks no pointer of ours, so a process can have one [`Recording`] at a time. Counters of the hardware are left to
//! [`nvml`](crate::nvml), which needs no rights; for a GPU where that has none there is a [`PmSampler`].

mod api;
mod buffers;
mod calls;
mod layout;
mod pm_sampling;
mod record;
mod recording;

#[cfg(test)]
mod tests;

use std::path::Path;

use crate::error::{Error, Result};
use crate::kind::LibraryKind;
use crate::library::Library;
use crate::places::Places;
use crate::version;

use api::CuptiApi;

pub use pm_sampling::{PmMetrics, PmSampler};
pub use recording::{GraphDetail, Recording};

/// The oldest interface whose records have all fields that are read: `CUPTI_API_VERSION` of 11.8.
const OLDEST_VERSION: u32 = 18;

/// Above this the interface belongs to a major version that did not exist when the layout of records was checked: from
/// CUDA 13 on the number is that of CUDA, `major * 10000 + minor * 100 + patch`.
const NEWEST_VERSION: u32 = 139_999;

/// CUPTI, found and of a version whose records can be read.
pub struct Cupti {
    api: CuptiApi,
    version: u32,
}

impl Cupti {
    /// Opens CUPTI. Where the process has one already, that one is taken: two would get in each other's way.
    ///
    /// # Errors
    /// [`Error::NotFound`] where it is not there, [`Error::UnsupportedCupti`] where its records are not known,
    /// [`Error::Status`] where it misses the CUDA driver at once, as 13.4 does.
    #[doc(alias = "cuptiGetVersion")]
    pub fn open(places: &Places) -> Result<Self> {
        let library = match Library::loaded_major(LibraryKind::Cupti) {
            Some(major) => Library::open_major(LibraryKind::Cupti, major, places),
            None => Library::open(LibraryKind::Cupti, places),
        }?;
        let version = version::cupti(&library)?;
        if !(OLDEST_VERSION..=NEWEST_VERSION).contains(&version) {
            return Err(Error::UnsupportedCupti { version, path: library.path().to_owned() });
        }
        Ok(Self { api: CuptiApi::new(library), version })
    }

    /// The file that it was loaded from.
    pub fn path(&self) -> &Path {
        self.api.library().path()
    }

    /// Number of its interface, `CUPTI_API_VERSION`.
    pub fn version(&self) -> u32 {
        self.version
    }
}
