//! `IProfiler`: how long each layer of an execution took.

use std::ffi::{c_char, c_void};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Entry, InterfaceInfo, Vtable, api_language, never_destroyed};
use crate::tensorrt::abi::{Abi, Family};
use crate::tensorrt::object::text_at;

/// How long one layer of one execution took on the GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTime {
    /// The layer, as the engine's inspector calls it.
    pub layer: String,
    /// Its time. TensorRT runs the layers one by one to measure it, so the sum is more than an execution takes.
    pub time: Duration,
}

/// A profiler at an address that does not change.
pub(crate) struct Profiler(Box<Record>);

/// An `IProfiler`.
#[repr(C)]
struct Record {
    vtable: *const Entry,
    // Contended by nobody today: TensorRT reports on the thread that enqueues. It does not promise that.
    times: Mutex<Vec<LayerTime>>,
}

// SAFETY: the vtable is never written, the times are behind a lock.
unsafe impl Send for Profiler {}
// SAFETY: as above.
unsafe impl Sync for Profiler {}

impl Profiler {
    pub(crate) fn new(abi: Abi) -> Self {
        let vtable = match abi.family {
            Family::TensorRt8 | Family::TensorRt10 => PLAIN.address(),
            Family::TensorRt11 | Family::Rtx1 => VERSIONED.address(),
        };
        Self(Box::new(Record { vtable, times: Mutex::default() }))
    }

    /// What TensorRT takes for an `IProfiler*`. It is good as long as this lives.
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        std::ptr::from_ref::<Record>(&self.0).cast_mut().cast()
    }

    /// The times since the last call, in the order of the layers.
    pub(crate) fn take(&self) -> Vec<LayerTime> {
        std::mem::take(&mut *self.0.times.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `IProfiler` has no base class until 10.
static PLAIN: Vtable<3> =
    Vtable::new([report_layer_time as Entry, never_destroyed as Entry, never_destroyed as Entry]);

static VERSIONED: Vtable<5> = Vtable::new([
    api_language as Entry,
    interface_info as Entry,
    never_destroyed as Entry,
    never_destroyed as Entry,
    report_layer_time as Entry,
]);

unsafe extern "C" fn interface_info(_: *const c_void) -> InterfaceInfo {
    InterfaceInfo::of(c"IProfiler")
}

/// `reportLayerTime`
unsafe extern "C" fn report_layer_time(this: *const Record, layer: *const c_char, ms: f32) {
    // SAFETY: TensorRT passes the profiler it was given, which outlives the context that has it.
    let record = unsafe { &*this };
    // SAFETY: TensorRT keeps the text until this returns.
    let layer = unsafe { text_at(layer) }.unwrap_or_default();
    // Nothing that TensorRT could pass makes this fail; a negative time would be no time.
    let time = Duration::try_from_secs_f64(f64::from(ms) / 1e3).unwrap_or_default();
    record.times.lock().unwrap_or_else(PoisonError::into_inner).push(LayerTime { layer, time });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;

    #[test]
    fn times_come_through_the_entry_of_each_family_in_milliseconds() {
        type Report = unsafe extern "C" fn(*const c_void, *const c_char, f32);
        for (family, entry) in [(Family::TensorRt8, 0), (Family::TensorRt10, 0), (Family::TensorRt11, 4)] {
            let profiler =
                Profiler::new(Abi { family, version: Version { major: 0, minor: 0, patch: None } });
            // SAFETY: the vtable of the family has this entry.
            let code = unsafe { profiler.0.vtable.add(entry).read() };
            // SAFETY: it is the entry of `reportLayerTime`.
            let report = unsafe { std::mem::transmute::<Entry, Report>(code) };
            // SAFETY: profiler and text live.
            unsafe { report(profiler.as_ptr(), c"conv1".as_ptr(), 0.25) };
            let times = profiler.take();
            assert_eq!(times, [LayerTime { layer: "conv1".into(), time: Duration::from_micros(250) }]);
            assert!(profiler.take().is_empty());
        }
    }
}
