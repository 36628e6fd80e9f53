//! A stand-in for the CUDA driver with memory, streams, events and graphs; see `libcuda_model.rs` beside this file.

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::sync::{Arc, OnceLock};

use super::Folder;
use crate::cuda::{CudaContext, Driver, HostWait};

/// Room for the names of all functions that one test calls.
const LOG_SIZE: usize = 1 << 20;

/// What exists in the driver.
#[derive(Debug, PartialEq, Eq)]
pub struct Live {
    pub device_buffers: usize,
    pub host_buffers: usize,
    pub streams: usize,
    pub events: usize,
    pub graphs: usize,
    pub executables: usize,
    pub contexts: usize,
}

impl Live {
    pub const NOTHING: Self = Self {
        device_buffers: 0,
        host_buffers: 0,
        streams: 0,
        events: 0,
        graphs: 0,
        executables: 0,
        contexts: 0,
    };
}

/// A driver of the test's own, with a state of its own.
pub struct DriverStandIn {
    pub driver: Driver,
    _folder: Folder,
}

impl DriverStandIn {
    pub fn new(test: &str) -> Self {
        static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
        let folder = Folder::new(test);
        let source = concat!(include_str!("libcuda_model.rs"), include_str!("libcuda.rs"));
        folder.build_once("libcuda.so.1", source, &BUILT);
        Self { driver: Driver::open(&folder.places()).unwrap(), _folder: folder }
    }

    pub fn context(&self) -> Arc<CudaContext> {
        self.driver.device("0").unwrap().retain_primary_context(HostWait::Unchanged).unwrap()
    }

    /// How often an event may be asked for before it is complete.
    pub fn set_delay(&self, queries: u32) {
        let set: unsafe extern "C" fn(c_uint) =
            // SAFETY: the type is that of `libcuda_model.rs`.
            unsafe { self.driver.library().function("stand_in_set_delay") }.unwrap();
        // SAFETY: any number may be set.
        unsafe { set(queries) };
    }

    /// Lets the next call of a function fail.
    pub fn fail(&self, function: &str, code: i32) {
        let fail: unsafe extern "C" fn(*const c_char, c_int) =
            // SAFETY: the type is that of `libcuda_model.rs`.
            unsafe { self.driver.library().function("stand_in_fail") }.unwrap();
        let function = CString::new(function).unwrap();
        // SAFETY: the name ends in a zero, and is copied.
        unsafe { fail(function.as_ptr(), code) };
    }

    /// Lets the device fail when it reaches this place.
    pub fn break_later(&self, code: i32) {
        let break_later: unsafe extern "C" fn(c_int) =
            // SAFETY: the type is that of `libcuda_model.rs`.
            unsafe { self.driver.library().function("stand_in_break_later") }.unwrap();
        // SAFETY: any code may be given.
        unsafe { break_later(code) };
    }

    /// What was made and not yet destroyed.
    pub fn live(&self) -> Live {
        let count: unsafe extern "C" fn(*mut [usize; 7]) =
            // SAFETY: the type is that of `libcuda_model.rs`.
            unsafe { self.driver.library().function("stand_in_live") }.unwrap();
        let mut counts = [0; 7];
        // SAFETY: `counts` is writable.
        unsafe { count(&raw mut counts) };
        let [device_buffers, host_buffers, streams, events, graphs, executables, contexts] = counts;
        Live { device_buffers, host_buffers, streams, events, graphs, executables, contexts }
    }

    /// The functions that were called since the last time.
    pub fn take_log(&self) -> Vec<String> {
        let take: unsafe extern "C" fn(*mut c_char, usize) =
            // SAFETY: the type is that of `libcuda_model.rs`.
            unsafe { self.driver.library().function("stand_in_take_log") }.unwrap();
        let mut text = vec![0_u8; LOG_SIZE];
        // SAFETY: so many bytes can be written.
        unsafe { take(text.as_mut_ptr().cast(), text.len()) };
        let text = CStr::from_bytes_until_nul(&text).unwrap().to_str().unwrap();
        text.lines().map(str::to_owned).collect()
    }
}
