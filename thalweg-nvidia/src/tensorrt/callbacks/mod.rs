//! Objects of ours that TensorRT calls: C++ objects with a vtable, written in Rust.
//!
//! Each starts with the address of a [`Vtable`] and continues with what is ours. Their layouts differ by
//! family: until 8, and for `ILogger` and `IProfiler` until 10, interfaces have no base class; from then on
//! they derive from `IVersionedInterface`, which puts four entries in front.
//!
//! TensorRT never deletes them, and no panic leaves them: it is kept in [`Panics`] and goes on after the
//! call.

mod allocator;
mod calibrator;
mod logger;
mod output_allocator;
mod panics;
mod profiler;
mod progress;
mod recorder;

use std::ffi::{c_char, c_void};

pub(crate) use allocator::Allocator;
pub use allocator::MemoryAccount;
pub use calibrator::CalibrationBatches;
pub(crate) use calibrator::Calibrator;
pub use logger::{LogSink, Severity};
pub(crate) use logger::{Logger, Said, hear};
pub(crate) use output_allocator::OutputAllocator;
pub(crate) use panics::Panics;
pub use profiler::LayerTime;
pub(crate) use profiler::Profiler;
pub(crate) use progress::ProgressMonitor;
pub use progress::{BuildProgress, ProgressSink};
pub(crate) use recorder::Recorder;

/// A vtable as C++ lays it out (Itanium C++ ABI, 2.5.2). Objects point to its `entries`.
#[repr(C)]
struct Vtable<const N: usize> {
    /// From this part of the object to its start: nothing, as it has one part only.
    offset_to_top: isize,
    /// For `dynamic_cast` and `typeid`. None: TensorRT uses neither on objects of its callers.
    type_info: *const c_void,
    entries: [Entry; N],
}

/// The code of a virtual method.
type Entry = *const c_void;

// SAFETY: it is never written, and what it points to is code.
unsafe impl<const N: usize> Sync for Vtable<N> {}

impl<const N: usize> Vtable<N> {
    const fn new(entries: [Entry; N]) -> Self {
        Self { offset_to_top: 0, type_info: std::ptr::null(), entries }
    }

    /// What an object of ours starts with.
    fn address(&'static self) -> *const Entry {
        self.entries.as_ptr()
    }
}

/// `InterfaceInfo` of NvInferRuntimeBase.h, from TensorRT 10 on.
#[repr(C)]
struct InterfaceInfo {
    kind: *const c_char,
    major: i32,
    minor: i32,
}

impl InterfaceInfo {
    /// Version 1.0, which all interfaces here have in every family that asks.
    const fn of(kind: &'static std::ffi::CStr) -> Self {
        Self { kind: kind.as_ptr(), major: 1, minor: 0 }
    }
}

/// `IVersionedInterface::getAPILanguage`: C++, as far as TensorRT can tell.
unsafe extern "C" fn api_language(_: *const c_void) -> i32 {
    const CPP: i32 = 0;
    CPP
}

/// Both entries of a destructor: TensorRT never destroys what its caller made.
unsafe extern "C" fn never_destroyed(_: *mut c_void) {}
