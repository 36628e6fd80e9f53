//! The driver itself: found, opened, initialised.

use std::fmt;
use std::sync::Arc;

use crate::cuda::Device;
use crate::cuda::api::DriverApi;
use crate::error::{Error, Result};
use crate::kind::LibraryKind;
use crate::library::Library;
use crate::places::Places;
use crate::version::{self, Version};

/// The CUDA driver of this machine.
#[derive(Clone)]
pub struct Driver {
    api: Arc<DriverApi>,
}

impl Driver {
    /// Opens the driver and initialises it.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no driver; [`Error::Status`] where it does not start, for example with
    /// `CUDA_ERROR_NO_DEVICE` where it sees no GPU.
    #[doc(alias = "cuInit")]
    pub fn open(places: &Places) -> Result<Self> {
        let api = DriverApi::new(Library::open(LibraryKind::CudaDriver, places)?);
        // SAFETY: it may be called at any time, from any thread and more than once; the flags must be 0.
        unsafe { api.init(0) }?;
        Ok(Self { api: Arc::new(api) })
    }

    /// The newest CUDA version that the driver can serve.
    ///
    /// # Errors
    /// Where the driver refuses.
    pub fn cuda_version(&self) -> Result<Version> {
        version::cuda_driver(self.library())
    }

    /// The library that was opened.
    pub fn library(&self) -> &Library {
        self.api.library()
    }

    /// All devices that this process may see, in CUDA's order.
    ///
    /// # Errors
    /// Where the driver does not describe one of them.
    #[doc(alias = "cuDeviceGetCount")]
    pub fn devices(&self) -> Result<Vec<Device>> {
        let mut count = 0;
        // SAFETY: `count` is writable and the driver is initialised.
        unsafe { self.api.device_count(&raw mut count) }?;
        (0..count).map(|index| Device::open(Arc::clone(&self.api), index)).collect()
    }

    /// The device with this index, or with a UUID that begins with this text (`GPU-5fd4…`; a MIG slice is found by
    /// `MIG-5fd4…` too, as `nvidia-smi` writes it).
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`] where there is none, or more than one.
    pub fn device(&self, wanted: &str) -> Result<Device> {
        let devices = self.devices()?;
        let index: Option<u32> = wanted.parse().ok();
        let uuid = wanted.strip_prefix("MIG-").map(|rest| format!("GPU-{rest}"));
        let uuid = uuid.as_deref().unwrap_or(wanted);
        let is_wanted = |device: &&Device| match index {
            Some(index) => device.properties().index == index,
            None => !uuid.is_empty() && device.properties().uuid.starts_with(uuid),
        };
        let mut found = devices.iter().filter(is_wanted);
        if let (Some(device), None) = (found.next(), found.next()) {
            return Ok(device.clone());
        }
        let describe =
            |device: &Device| format!("{} ({})", device.properties().index, device.properties().uuid);
        Err(Error::NoSuchDevice { wanted: wanted.to_owned(), found: devices.iter().map(describe).collect() })
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("path", &self.library().path()).finish()
    }
}
