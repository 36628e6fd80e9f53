//! `IOutputAllocator`: where an output goes whose shape only the execution tells, such as that of `NonZero`.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Entry, InterfaceInfo, Panics, Vtable, api_language, never_destroyed};
use crate::raw::DevicePointer;
use crate::tensorrt::abi::{Abi, Dims32, Dims64, Family};

/// An output allocator at an address that does not change. It gives TensorRT the memory that the output is bound to,
/// where that is large enough, and notes the shape that came out.
pub(crate) struct OutputAllocator(Box<State>);

/// An `IOutputAllocator`.
#[repr(C)]
struct State {
    vtable: *const Entry,
    // Contended by nobody today: TensorRT calls on the thread that enqueues. It does not promise that.
    output: Mutex<Output>,
    panics: Arc<Panics>,
}

#[derive(Default)]
struct Output {
    /// Where the output may be written, and how many bytes there are.
    memory: Option<(DevicePointer, usize)>,
    shape: Option<Vec<i64>>,
    /// What the last execution wanted, where that was more than there is.
    missing_bytes: Option<u64>,
}

// SAFETY: the vtable is never written; all else is `Send`.
unsafe impl Send for OutputAllocator {}
// SAFETY: the vtable is never written; all else is behind a lock.
unsafe impl Sync for OutputAllocator {}

impl OutputAllocator {
    pub(crate) fn new(abi: Abi, panics: &Arc<Panics>) -> Self {
        let vtable = match abi.family {
            Family::TensorRt8 => PLAIN.address(),
            Family::TensorRt10 | Family::TensorRt11 => VERSIONED.address(),
            Family::Rtx1 => WITHOUT_DEPRECATED.address(),
        };
        Self(Box::new(State { vtable, output: Mutex::default(), panics: Arc::clone(panics) }))
    }

    /// What TensorRT takes for an `IOutputAllocator*`. It is good as long as this lives.
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        ptr::from_ref::<State>(&self.0).cast_mut().cast()
    }

    /// Where executions write the output from now on.
    pub(crate) fn bind(&self, memory: DevicePointer, byte_count: usize) {
        self.0.output().memory = Some((memory, byte_count));
    }

    /// The shape that the last execution gave, once.
    pub(crate) fn take_shape(&self) -> Option<Vec<i64>> {
        self.0.output().shape.take()
    }

    /// How many bytes the last execution wanted, where it was refused them; once.
    pub(crate) fn take_missing_bytes(&self) -> Option<u64> {
        self.0.output().missing_bytes.take()
    }
}

impl State {
    fn output(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, size: u64, alignment: u64) -> *mut c_void {
        let mut output = self.output();
        let Some((memory, byte_count)) = output.memory else { return ptr::null_mut() };
        let address = memory.as_ptr();
        if size > byte_count as u64 {
            output.missing_bytes = Some(size);
            return ptr::null_mut();
        }
        let is_aligned = alignment == 0 || (address.addr() as u64).is_multiple_of(alignment);
        if is_aligned { address } else { ptr::null_mut() }
    }
}

/// `IOutputAllocator` of 8 has no base class but a method for its version. The destructor came with 8.6, at the end.
static PLAIN: Vtable<5> = Vtable::new([
    interface_version as Entry,
    reallocate as Entry,
    notify_narrow as Entry,
    never_destroyed as Entry,
    never_destroyed as Entry,
]);

static VERSIONED: Vtable<7> = Vtable::new([
    api_language as Entry,
    interface_info as Entry,
    never_destroyed as Entry,
    never_destroyed as Entry,
    reallocate as Entry,
    reallocate_async as Entry,
    notify_wide as Entry,
]);

/// TensorRT for RTX has dropped what 10 had deprecated.
static WITHOUT_DEPRECATED: Vtable<6> = Vtable::new([
    api_language as Entry,
    interface_info as Entry,
    never_destroyed as Entry,
    never_destroyed as Entry,
    reallocate_async as Entry,
    notify_wide as Entry,
]);

unsafe extern "C" fn interface_info(_: *const c_void) -> InterfaceInfo {
    InterfaceInfo::of(c"IOutputAllocator")
}

/// `getInterfaceVersion`
unsafe extern "C" fn interface_version(_: *const c_void) -> i32 {
    1
}

/// `reallocateOutput`: null says that it cannot be done, and the execution fails.
unsafe extern "C" fn reallocate(
    this: *const State,
    _tensor: *const c_char,
    _current: *mut c_void,
    size: u64,
    alignment: u64,
) -> *mut c_void {
    // SAFETY: TensorRT passes the allocator it was given, which outlives the context that has it.
    let state = unsafe { &*this };
    state.panics.guard(ptr::null_mut(), || state.place(size, alignment))
}

/// `reallocateOutputAsync`: memory that is there at once is there for the stream too.
unsafe extern "C" fn reallocate_async(
    this: *const State,
    tensor: *const c_char,
    current: *mut c_void,
    size: u64,
    alignment: u64,
    _stream: *mut c_void,
) -> *mut c_void {
    // SAFETY: as the caller promises.
    unsafe { reallocate(this, tensor, current, size, alignment) }
}

/// `notifyShape` of 8
unsafe extern "C" fn notify_narrow(this: *const State, _tensor: *const c_char, dims: *const Dims32) {
    // SAFETY: TensorRT passes dims that live until this returns.
    let shape = unsafe { *dims };
    // SAFETY: as in `reallocate`.
    let state = unsafe { &*this };
    state.panics.guard((), || state.output().shape = shape.into());
}

/// `notifyShape` of the others
unsafe extern "C" fn notify_wide(this: *const State, _tensor: *const c_char, dims: *const Dims64) {
    // SAFETY: TensorRT passes dims that live until this returns.
    let shape = unsafe { *dims };
    // SAFETY: as in `reallocate`.
    let state = unsafe { &*this };
    state.panics.guard((), || state.output().shape = shape.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::DeviceBuffer;
    use crate::stand_in::cuda::DriverStandIn;
    use crate::tensorrt::abi::Dims;
    use crate::tensorrt::object::code_at;
    use crate::version::Version;

    type Reallocate =
        unsafe extern "C" fn(*const c_void, *const c_char, *mut c_void, u64, u64, *mut c_void) -> *mut c_void;
    type Notify = unsafe extern "C" fn(*const c_void, *const c_char, *const c_void);

    fn abi(family: Family) -> Abi {
        Abi { family, version: Version { major: 0, minor: 0, patch: None } }
    }

    /// Calls the entries that the family's headers name: `reallocate`, then `notify`.
    fn run(allocator: &OutputAllocator, family: Family, size: u64, shape: &[i64]) -> *mut c_void {
        let (reallocate, notify) = match family {
            Family::TensorRt8 => (1, 2),
            Family::TensorRt10 | Family::TensorRt11 => (5, 6),
            Family::Rtx1 => (4, 5),
        };
        let this = allocator.as_ptr();
        // SAFETY: the vtable of the family has both entries; here and below.
        let reallocate = unsafe { code_at(this, reallocate) };
        // SAFETY: see above.
        let notify = unsafe { code_at(this, notify) };
        // SAFETY: it is an entry of `reallocateOutput`; the one of 8 ignores the last argument.
        let reallocate = unsafe { std::mem::transmute::<Entry, Reallocate>(reallocate) };
        // SAFETY: it is the entry of `notifyShape`.
        let notify = unsafe { std::mem::transmute::<Entry, Notify>(notify) };
        let name = c"found".as_ptr();
        // SAFETY: allocator and name live.
        let given = unsafe { reallocate(this, name, ptr::null_mut(), size, 8, ptr::null_mut()) };
        let dims = Dims::new(abi(family), shape).unwrap();
        // SAFETY: as above, and the dims are the family's.
        unsafe { notify(this, name, dims.as_ptr()) };
        given
    }

    #[test]
    fn each_family_gets_the_bound_memory_and_tells_the_shape() {
        let device = DriverStandIn::new("output-allocator");
        let memory = DeviceBuffer::new(&device.context(), 64).unwrap();
        for family in Family::ALL {
            let allocator = OutputAllocator::new(abi(family), &Arc::default());
            allocator.bind(memory.pointer(), memory.byte_count());
            let given = run(&allocator, family, 48, &[2, 3]);
            assert_eq!(given, memory.pointer().as_ptr(), "{family:?}");
            assert_eq!(allocator.take_shape(), Some(vec![2, 3]), "{family:?}");
            assert_eq!((allocator.take_shape(), allocator.take_missing_bytes()), (None, None));
        }
    }

    #[test]
    fn more_than_is_bound_is_refused_and_the_size_is_known() {
        let device = DriverStandIn::new("output-allocator-small");
        let memory = DeviceBuffer::new(&device.context(), 64).unwrap();
        let allocator = OutputAllocator::new(abi(Family::TensorRt10), &Arc::default());
        assert!(run(&allocator, Family::TensorRt10, 8, &[1]).is_null());
        allocator.bind(memory.pointer(), memory.byte_count());
        assert!(run(&allocator, Family::TensorRt10, 65, &[65]).is_null());
        assert_eq!((allocator.take_missing_bytes(), allocator.take_missing_bytes()), (Some(65), None));
    }
}
