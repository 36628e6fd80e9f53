//! `IInt8EntropyCalibrator2`: sample inputs for the ranges of INT8, in TensorRT 8 and 10.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Entry, InterfaceInfo, Panics, Vtable, api_language, never_destroyed};
use crate::cuda::DeviceBuffer;
use crate::tensorrt::abi::{Abi, Family};
use crate::tensorrt::object::text_at;

/// Gives sample inputs, batch by batch.
pub trait CalibrationBatches: Send {
    /// The next batch: for each of these inputs, in this order, memory of the device with its values, in the
    /// shape that the calibration profile calls the most usual one. `None` after the last.
    fn next_batch(&mut self, inputs: &[&str]) -> Option<Vec<Arc<DeviceBuffer>>>;
}

/// A calibrator at an address that does not change.
pub(crate) struct Calibrator(Box<State>);

/// An `IInt8EntropyCalibrator2`.
#[repr(C)]
struct State {
    vtable: *const Entry,
    // Contended by nobody: the builder calibrates on the thread that builds. It does not promise that.
    batches: Mutex<Batches>,
    /// Name and bytes of each input.
    sizes: Vec<(String, usize)>,
    panics: Arc<Panics>,
}

struct Batches {
    source: Box<dyn CalibrationBatches>,
    /// TensorRT reads a batch until it asks for the next.
    current: Vec<Arc<DeviceBuffer>>,
}

// SAFETY: the vtable is never written, the batches are `Send` and behind a lock.
unsafe impl Send for Calibrator {}

impl Calibrator {
    /// `sizes` are the bytes that TensorRT will read of each input.
    pub(crate) fn new(
        abi: Abi,
        source: Box<dyn CalibrationBatches>,
        sizes: Vec<(String, usize)>,
        panics: Arc<Panics>,
    ) -> Self {
        let vtable = match abi.family {
            Family::TensorRt8 => PLAIN.address(),
            // 11 and RTX have no calibrator: setting it is an error there, so the vtable does not matter.
            Family::TensorRt10 | Family::TensorRt11 | Family::Rtx1 => VERSIONED.address(),
        };
        let batches = Mutex::new(Batches { source, current: Vec::new() });
        Self(Box::new(State { vtable, batches, sizes, panics }))
    }

    /// Name and bytes of each input that it gives.
    pub(crate) fn sizes(&self) -> &[(String, usize)] {
        &self.0.sizes
    }

    /// What TensorRT takes for an `IInt8Calibrator*`. It is good as long as this lives.
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        ptr::from_ref::<State>(&self.0).cast_mut().cast()
    }
}

impl State {
    /// Puts the next batch behind `bindings`; false where there is none.
    fn next(&self, bindings: &mut [*mut c_void], names: &[String]) -> bool {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let Some(batch) = batches.source.next_batch(&names) else { return false };
        assert_eq!(batch.len(), names.len(), "a calibration batch has one buffer for each of {names:?}");
        for ((memory, name), binding) in batch.iter().zip(&names).zip(bindings) {
            let needed = self.sizes.iter().find(|(input, _)| input == name).map(|(_, bytes)| *bytes);
            let needed = needed.unwrap_or_else(|| panic!("calibration asks for {name}, which is no input"));
            assert!(memory.byte_count() >= needed, "a calibration batch of {name} has {needed} bytes");
            *binding = memory.pointer().as_ptr();
        }
        batches.current = batch;
        true
    }
}

/// `IInt8Calibrator` of 8 has no base class and declares its destructor last.
static PLAIN: Vtable<7> = Vtable::new([
    batch_size as Entry,
    get_batch as Entry,
    read_cache as Entry,
    write_cache as Entry,
    algorithm as Entry,
    never_destroyed as Entry,
    never_destroyed as Entry,
]);

static VERSIONED: Vtable<9> = Vtable::new([
    api_language as Entry,
    interface_info as Entry,
    never_destroyed as Entry,
    never_destroyed as Entry,
    batch_size as Entry,
    get_batch as Entry,
    read_cache as Entry,
    write_cache as Entry,
    algorithm as Entry,
]);

unsafe extern "C" fn interface_info(_: *const c_void) -> InterfaceInfo {
    InterfaceInfo::of(c"IInt8EntropyCalibrator2")
}

/// `getBatchSize`: ignored where the batch is a dimension of the network, as it is in all networks from ONNX.
unsafe extern "C" fn batch_size(_: *const State) -> i32 {
    1
}

/// `getBatch`
unsafe extern "C" fn get_batch(
    this: *const State,
    bindings: *mut *mut c_void,
    names: *const *const c_char,
    count: i32,
) -> bool {
    // SAFETY: TensorRT passes the calibrator it was given, which lives as long as the configuration that has
    // it.
    let state = unsafe { &*this };
    state.panics.guard(false, || {
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: TensorRT passes two arrays of `count` each, for this call alone.
        let bindings = unsafe { std::slice::from_raw_parts_mut(bindings, count) };
        // SAFETY: see above.
        let names = unsafe { std::slice::from_raw_parts(names, count) };
        // SAFETY: each is a name that TensorRT keeps until this returns.
        let names: Vec<_> = names.iter().map(|name| unsafe { text_at(*name) }.unwrap_or_default()).collect();
        state.next(bindings, &names)
    })
}

/// `readCalibrationCache`: there is none, so that the given samples always count.
unsafe extern "C" fn read_cache(_: *const State, length: *mut usize) -> *const c_void {
    // SAFETY: TensorRT passes where to write the length.
    unsafe { length.write(0) };
    ptr::null()
}

/// `writeCalibrationCache`
unsafe extern "C" fn write_cache(_: *const State, _: *const c_void, _: usize) {}

/// `getAlgorithm`: `CalibrationAlgoType::kENTROPY_CALIBRATION_2`.
unsafe extern "C" fn algorithm(_: *const State) -> i32 {
    2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::cuda::DriverStandIn;
    use crate::version::Version;

    /// Each buffer is one batch of one input.
    struct Given(Vec<Arc<DeviceBuffer>>);

    impl CalibrationBatches for Given {
        fn next_batch(&mut self, inputs: &[&str]) -> Option<Vec<Arc<DeviceBuffer>>> {
            assert_eq!(inputs, ["x"]);
            self.0.pop().map(|buffer| vec![buffer])
        }
    }

    fn ask(calibrator: &Calibrator) -> (bool, usize) {
        let mut bindings = [ptr::null_mut()];
        let names = [c"x".as_ptr()];
        let this = calibrator.as_ptr().cast();
        // SAFETY: all of it lives, and both arrays have one element.
        let is_there = unsafe { get_batch(this, bindings.as_mut_ptr(), names.as_ptr(), 1) };
        (is_there, bindings[0].addr())
    }

    fn calibrator(needed: usize, buffers: &[Arc<DeviceBuffer>], panics: &Arc<Panics>) -> Calibrator {
        let version = Version { major: 8, minor: 6, patch: None };
        let abi = Abi { family: Family::TensorRt8, version };
        let given = Given(buffers.iter().rev().cloned().collect());
        Calibrator::new(abi, Box::new(given), vec![("x".into(), needed)], Arc::clone(panics))
    }

    #[test]
    fn batches_are_handed_over_until_there_are_none() {
        let device = DriverStandIn::new("calibrator");
        let context = device.context();
        let buffer = || Arc::new(DeviceBuffer::new(&context, 16).unwrap());
        let buffers = [buffer(), buffer()];
        let panics = Arc::default();
        let calibrator = calibrator(16, &buffers, &panics);
        assert_eq!(ask(&calibrator), (true, buffers[0].pointer().as_ptr().addr()));
        assert_eq!(ask(&calibrator), (true, buffers[1].pointer().as_ptr().addr()));
        assert_eq!(Arc::strong_count(&buffers[1]), 2, "TensorRT still reads the last batch");
        assert!(!ask(&calibrator).0);
        panics.raise();
    }

    #[test]
    fn a_batch_that_is_too_small_ends_the_build_with_a_panic() {
        let device = DriverStandIn::new("small-calibrator");
        let buffers = [Arc::new(DeviceBuffer::new(&device.context(), 16).unwrap())];
        let panics: Arc<Panics> = Arc::default();
        assert_eq!(ask(&calibrator(17, &buffers, &panics)), (false, 0));
        let raised = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panics.raise())).unwrap_err();
        let text = raised.downcast_ref::<String>().unwrap();
        assert!(text.contains("a calibration batch of x has 17 bytes"), "{text}");
    }
}
