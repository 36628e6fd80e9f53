//! `IHostMemory`: bytes that TensorRT made, such as a serialised engine.

use std::ops::Deref;

use super::abi::calls;
use super::object::Owned;
use crate::error::Result;

/// Bytes that TensorRT made. They are freed with it.
#[doc(alias = "IHostMemory")]
pub struct HostMemory {
    // The address points into what `owned` owns.
    address: *const u8,
    byte_count: usize,
    _owned: Owned,
}

// SAFETY: the bytes never change, and `Owned` may move between threads.
unsafe impl Send for HostMemory {}
// SAFETY: the bytes never change.
unsafe impl Sync for HostMemory {}

impl HostMemory {
    /// # Safety
    /// - `owned` is an `IHostMemory`.
    ///
    /// # Errors
    /// None that a supported version has.
    pub(crate) unsafe fn new(owned: Owned) -> Result<Self> {
        // SAFETY: the object lives and is of this class, as the caller promises.
        let address = unsafe { calls::host_memory::data(owned.object()) }?;
        // SAFETY: as above.
        let byte_count = unsafe { calls::host_memory::size(owned.object()) }?;
        Ok(Self { address, byte_count, _owned: owned })
    }
}

impl Deref for HostMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.address.is_null() {
            return &[];
        }
        // SAFETY: TensorRT gives the address of `byte_count` bytes that live as long as the object and never change.
        unsafe { std::slice::from_raw_parts(self.address, self.byte_count) }
    }
}
