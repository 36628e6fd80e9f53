//! Addresses and handles that cross between the modules of this crate, and that other crates may only pass on.

use std::ffi::c_void;
use std::ptr;

/// An address in device memory. It says nothing about how long the memory lives: that is its owner's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct DevicePointer(pub(crate) u64);

impl DevicePointer {
    /// As C++ passes it.
    pub(crate) fn as_ptr(self) -> *mut c_void {
        let address = usize::try_from(self.0).expect("bug: CUDA is for platforms with 64-bit addresses");
        ptr::with_exposed_provenance_mut(address)
    }
}

/// A CUDA stream as TensorRT takes it (`CUstream`, which is `cudaStream_t` too).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct RawStream(pub(crate) *mut c_void);
