//! NVML: the clocks, power and load of a GPU, and the counters that it keeps without a profiler (GPM).
//!
//! In: the [`Places`] where `libnvidia-ml.so.1` may be, and the UUID of a device, since NVML numbers
//! devices differently from CUDA. Out: plain values, or for each value that this GPU or driver does not give, the
//! reason. Nothing here changes a setting of the GPU.
//!
//! The functions that are needed are thirty, so they come from a small table as the driver's do, and not from the
//! crate `nvml-wrapper`, which brings 24 more crates, finds its library on its own and has its own errors.

mod api;
mod gpm;
mod processes;
mod state;

#[cfg(test)]
mod tests;

use std::ffi::{CStr, CString, c_char, c_uint};
use std::fmt;
use std::ptr;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kind::LibraryKind;
use crate::library::Library;
use crate::places::Places;

use api::{DeviceHandle, NvmlApi};

pub use gpm::{GpmMetrics, GpmSampler, RenewedGpm};
pub use processes::ProcessOnDevice;
pub use state::{ClockState, DeviceState, ThrottleReason};

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

    /// All devices, in NVML's order, which is that of their places on the PCI bus.
    ///
    /// # Errors
    /// Where NVML cannot tell one of them.
    #[doc(alias = "nvmlDeviceGetCount_v2")]
    #[doc(alias = "nvmlDeviceGetHandleByIndex_v2")]
    pub fn devices(&self) -> Result<Vec<NvmlDevice>> {
        let api = &self.session.api;
        let mut count = 0;
        // SAFETY: the number is writable, and NVML is initialised.
        unsafe { api.device_count(&raw mut count) }?;
        let device = |index| {
            let mut handle = ptr::null_mut();
            // SAFETY: `handle` is writable, and NVML is initialised.
            unsafe { api.device_by_index(index, &raw mut handle) }?;
            // SAFETY: the device is NVML's; the text has so many bytes.
            let uuid = text(|text, size| unsafe { api.uuid(handle, text, size) })?;
            Ok(NvmlDevice { session: Arc::clone(&self.session), handle, uuid })
        };
        (0..count).map(device).collect()
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

/// `NVML_DEVICE_UUID_V2_BUFFER_SIZE` and `NVML_DEVICE_NAME_V2_BUFFER_SIZE` of nvml.h.
const TEXT_SIZE: c_uint = 96;

/// A text that NVML writes.
fn text(write: impl FnOnce(*mut c_char, c_uint) -> Result<()>) -> Result<String> {
    let mut bytes = [0_u8; TEXT_SIZE as usize];
    write(bytes.as_mut_ptr().cast(), TEXT_SIZE)?;
    let text = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
    Ok(text.to_string_lossy().into_owned())
}

/// A GPU as NVML sees it.
#[derive(Clone)]
pub struct NvmlDevice {
    session: Arc<Session>,
    handle: DeviceHandle,
    uuid: String,
}

// SAFETY: "NVML is thread-safe so it is safe to make simultaneous NVML calls from multiple threads",
// <https://docs.nvidia.com/deploy/nvml-api/nvml-api-reference.html>; the handle is only passed to it. Samples of GPM are an
// exception, which `gpm.rs` sees to.
unsafe impl Send for NvmlDevice {}
// SAFETY: as above.
unsafe impl Sync for NvmlDevice {}

impl NvmlDevice {
    /// The UUID that it was found by.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// What NVIDIA calls it.
    ///
    /// # Errors
    /// Where NVML does not tell.
    #[doc(alias = "nvmlDeviceGetName")]
    pub fn name(&self) -> Result<String> {
        // SAFETY: the device is NVML's; the text has so many bytes.
        text(|text, size| unsafe { self.api().name(self.handle, text, size) })
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
