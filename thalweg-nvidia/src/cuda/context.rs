//! The primary context of a device: the parent of everything that is made on it.

use std::fmt;
use std::ptr;
use std::sync::Arc;

use serde::Serialize;

use crate::cuda::DeviceProperties;
use crate::cuda::api::{DeviceOrdinal, DriverApi, Handle};
use crate::error::Result;

/// The primary context of one device. What is made in it keeps it alive.
pub struct CudaContext {
    api: Arc<DriverApi>,
    ordinal: DeviceOrdinal,
    handle: Handle,
    properties: DeviceProperties,
}

/// Device memory, of all processes on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryInfo {
    /// Not taken by anybody, in bytes.
    pub free_bytes: u64,
    /// All there is, in bytes.
    pub total_bytes: u64,
}

impl CudaContext {
    pub(crate) fn retain(
        api: Arc<DriverApi>,
        ordinal: DeviceOrdinal,
        properties: DeviceProperties,
    ) -> Result<Self> {
        let mut handle = ptr::null_mut();
        // SAFETY: `handle` is writable; the device exists. `Drop` releases what is retained here.
        unsafe { api.primary_context_retain(&raw mut handle, ordinal) }?;
        Ok(Self { api, ordinal, handle: Handle(handle), properties })
    }

    /// The device that it belongs to.
    pub fn properties(&self) -> &DeviceProperties {
        &self.properties
    }

    /// How much device memory is free.
    ///
    /// # Errors
    /// Where the driver refuses, for example after a sticky error.
    #[doc(alias = "cuMemGetInfo")]
    pub fn memory(&self) -> Result<MemoryInfo> {
        let (mut free, mut total) = (0, 0);
        let api = self.enter()?;
        // SAFETY: both are writable, and a context is current.
        unsafe { api.memory_info(&raw mut free, &raw mut total) }?;
        Ok(MemoryInfo { free_bytes: free as u64, total_bytes: total as u64 })
    }

    /// Waits until the device has finished everything of this context.
    ///
    /// # Errors
    /// Where some of that work has failed.
    #[doc(alias = "cuCtxSynchronize")]
    pub fn synchronize(&self) -> Result<()> {
        let api = self.enter()?;
        // SAFETY: a context is current.
        unsafe { api.context_synchronize() }
    }

    /// Makes the context current on the calling thread, as most functions need it. Costs some ten nanoseconds.
    #[doc(alias = "cuCtxSetCurrent")]
    pub(crate) fn enter(&self) -> Result<&DriverApi> {
        // SAFETY: the context is retained until `self` is dropped.
        unsafe { self.api.context_set_current(self.handle.0) }?;
        Ok(&self.api)
    }
}

impl fmt::Debug for CudaContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaContext").field("device", &self.properties.index).finish()
    }
}

impl Drop for CudaContext {
    #[doc(alias = "cuDevicePrimaryCtxRelease")]
    fn drop(&mut self) {
        // SAFETY: it undoes the one retain of `retain`. Everything made in the context held an `Arc` of it, so
        // nothing is left that needs it.
        let _ = unsafe { self.api.primary_context_release(self.ordinal) };
    }
}
