//! Addresses and handles that cross between the modules of this crate, and that other crates may only pass on.

use std::ffi::c_void;

/// An address in device memory. It says nothing about how long the memory lives: that is its owner's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct DevicePointer(pub(crate) u64);

/// A CUDA stream as TensorRT takes it (`CUstream`, which is `cudaStream_t` too).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct RawStream(pub(crate) *mut c_void);
