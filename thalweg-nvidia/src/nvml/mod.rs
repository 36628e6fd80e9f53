//! NVML: the clocks, power and load of a GPU, and the counters that it keeps without a profiler (GPM).
//!
//! In: the [`Places`] where `libnvidia-ml.so.1` may be, and the UUID of a device, since NVML numbers
//! devices differently from CUDA. Out: plain values, or for each value that this GPU or driver does not give, the
//! reason. Nothing here changes a setting of the GPU.
//!
//! The functions that are needed are twenty, so they come from a small table as the driver's do, and not from the
//! crate `nvml-wrapper`, which brings 24 more crates, finds its library on its own and has its own errors.

mod api;
mod gpm;
mod state;

#[cfg(test)]
mod tests;

use std::ffi::CString;
use std::fmt;
use std::ptr;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kind::LibraryKind;
use crate::library::Library;
use crate::places::Places;

use api::{DeviceHandle, NvmlApi};

pub use gpm::{GpmMetrics, GpmSampler};
pub use state::{DeviceState, ThrottleReason};

/// NVML, initialised.
#[derive(Clone)]
pub struct Nvml {
    session: Arc<Session>,
}

/// Between initialisation and shutdown, which NVML counts.
struct Session {
    api: NvmlApi,
}

impl Nvml {
    /// Opens NVML and initialises it.
    ///
    /// # Errors
    /// [`Error::NotFound`] where it is not there; [`Error::Status`] where the kernel's driver is not loaded or does
    /// not fit.
    #[doc(alias = "nvmlInit_v2")]
    pub fn open(places: &Places) -> Result<Self> {
        let api = NvmlApi::new(Library::open(LibraryKind::Nvml, places)?);
        // SAFETY: it may be called at any time, from any thread and more than once.
        unsafe { api.init() }?;
        Ok(Self { session: Arc::new(Session { api }) })
    }

    /// The device with this UUID, as [`DeviceProperties`](crate::cuda::DeviceProperties) has it.
    ///
    /// CUDA gives a MIG slice's UUID as plain bytes, which are written like those of a whole GPU; NVML writes `MIG-`
    /// before it. So that is tried too.
    ///
    /// # Errors
    /// Where NVML does not know it.
    pub fn device_by_uuid(&self, uuid: &str) -> Result<NvmlDevice> {
        self.find(uuid).or_else(|error| match uuid.strip_prefix("GPU-") {
            Some(bare) => self.find(&format!("MIG-{bare}")).map_err(|_| error),
            None => Err(error),
        })
    }

    #[doc(alias = "nvmlDeviceGetHandleByUUID")]
    fn find(&self, uuid: &str) -> Result<NvmlDevice> {
        let unknown = |_| Error::NoSuchDevice { wanted: uuid.to_owned(), found: Vec::new() };
        let text = CString::new(uuid).map_err(unknown)?;
        let mut handle = ptr::null_mut();
        // SAFETY: `text` ends in a zero, `handle` is writable, and NVML is initialised.
        unsafe { self.session.api.device_by_uuid(text.as_ptr(), &raw mut handle) }?;
        Ok(NvmlDevice { session: Arc::clone(&self.session), handle, uuid: uuid.to_owned() })
    }
}

impl fmt::Debug for Nvml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nvml").field("path", &self.session.api.library().path()).finish()
    }
}

impl Drop for Session {
    #[doc(alias = "nvmlShutdown")]
    fn drop(&mut self) {
        // SAFETY: it closes the one initialisation of `open`; all devices and samples held the session.
        let _ = unsafe { self.api.shutdown() };
    }
}

/// A GPU as NVML sees it.
#[derive(Clone)]
pub struct NvmlDevice {
    session: Arc<Session>,
    handle: DeviceHandle,
    uuid: String,
}

// SAFETY: "NVML is thread-safe so it is safe to make simultaneous NVML calls from multiple threads",
// <https://docs.nvidia.com/deploy/nvml-api/nvml-api-reference.html>; the handle is only passed to it.
unsafe impl Send for NvmlDevice {}
// SAFETY: as above.
unsafe impl Sync for NvmlDevice {}

impl NvmlDevice {
    /// The UUID that it was found by.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    fn api(&self) -> &NvmlApi {
        &self.session.api
    }
}

impl fmt::Debug for NvmlDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NvmlDevice").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}
