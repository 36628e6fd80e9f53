//! `IGpuAllocator`: where TensorRT gets device memory from, so that it can be counted and limited.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Entry, InterfaceInfo, Panics, Vtable, api_language, never_destroyed};
use crate::cuda::{CudaContext, DeviceBuffer};
use crate::tensorrt::abi::{Abi, Family};

/// The device memory that TensorRT has taken, and the most that it may take. Clones are the same account, and
/// several builders and runtimes may share one.
#[derive(Clone, Debug, Default)]
pub struct MemoryAccount(Arc<Account>);

#[derive(Debug, Default)]
struct Account {
    limit_bytes: Option<u64>,
    // Contended by TensorRT's own threads, which allocate during a build.
    balance: Mutex<Balance>,
}

#[derive(Debug, Default)]
struct Balance {
    used_bytes: u64,
    peak_bytes: u64,
    /// What could not be had since somebody asked.
    refusal: Option<String>,
}

impl MemoryAccount {
    /// An account that allows as much as the device has.
    pub fn new() -> Self {
        Self::default()
    }

    /// An account that refuses what would be more than this.
    pub fn limited_to(limit_bytes: u64) -> Self {
        Self(Arc::new(Account { limit_bytes: Some(limit_bytes), ..Account::default() }))
    }

    /// What TensorRT has taken and not given back, in bytes.
    pub fn used_bytes(&self) -> u64 {
        self.balance().used_bytes
    }

    /// The most that it ever had, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        self.balance().peak_bytes
    }

    /// The last allocation that failed since the last call, as a sentence with its size.
    pub(crate) fn take_refusal(&self) -> Option<String> {
        self.balance().refusal.take()
    }

    fn balance(&self) -> MutexGuard<'_, Balance> {
        self.0.balance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Books `bytes`, unless the limit forbids it.
    fn book(&self, bytes: u64) -> bool {
        let mut balance = self.balance();
        let used = balance.used_bytes.saturating_add(bytes);
        if let Some(limit) = self.0.limit_bytes.filter(|limit| used > *limit) {
            balance.refusal = Some(format!(
                "out of memory: {bytes} bytes were asked for, {} are taken, and {limit} are allowed",
                balance.used_bytes
            ));
            return false;
        }
        balance.used_bytes = used;
        balance.peak_bytes = balance.peak_bytes.max(used);
        true
    }

    fn give_back(&self, bytes: u64) {
        let mut balance = self.balance();
        balance.used_bytes = balance.used_bytes.saturating_sub(bytes);
    }

    /// Takes note that the device refused `bytes`, which were booked.
    fn refuse(&self, bytes: u64, reason: &str) {
        self.give_back(bytes);
        let mut balance = self.balance();
        let used = balance.used_bytes;
        balance.refusal =
            Some(format!("out of memory: {bytes} bytes were asked for, {used} are taken: {reason}"));
    }
}

/// An allocator at an address that does not change.
pub(crate) struct Allocator(Box<State>);

/// An `IGpuAllocator`.
#[repr(C)]
struct State {
    vtable: *const Entry,
    context: Arc<CudaContext>,
    account: MemoryAccount,
    // Contended by TensorRT's own threads, which allocate during a build.
    blocks: Mutex<HashMap<usize, DeviceBuffer>>,
    panics: Arc<Panics>,
}

// SAFETY: the vtable is never written; all else is `Send`.
unsafe impl Send for Allocator {}
// SAFETY: the vtable is never written; all else is `Sync` or behind a lock.
unsafe impl Sync for Allocator {}

impl Allocator {
    pub(crate) fn new(
        abi: Abi,
        context: &Arc<CudaContext>,
        account: &MemoryAccount,
        panics: &Arc<Panics>,
    ) -> Self {
        let vtable = match abi.family {
            Family::TensorRt8 => PLAIN.address(),
            Family::TensorRt10 | Family::TensorRt11 | Family::Rtx1 => VERSIONED.address(),
        };
        let (context, account, panics) = (Arc::clone(context), account.clone(), Arc::clone(panics));
        Self(Box::new(State { vtable, context, account, blocks: Mutex::default(), panics }))
    }

    /// What TensorRT takes for an `IGpuAllocator*`. It is good as long as this lives.
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        ptr::from_ref::<State>(&self.0).cast_mut().cast()
    }

    pub(crate) fn account(&self) -> &MemoryAccount {
        &self.0.account
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // TensorRT gives all of it back before its objects are gone; what it forgot is freed with the blocks.
        let forgotten = self.blocks().values().map(|block| block.byte_count() as u64).sum();
        self.account.give_back(forgotten);
    }
}

impl State {
    fn blocks(&self) -> MutexGuard<'_, HashMap<usize, DeviceBuffer>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, size: u64, alignment: u64) -> *mut c_void {
        let Ok(byte_count) = usize::try_from(size) else { return ptr::null_mut() };
        // NVIDIA: a request of size 0 gives null.
        if size == 0 || !self.account.book(size) {
            return ptr::null_mut();
        }
        let block = match DeviceBuffer::new(&self.context, byte_count) {
            Ok(block) => block,
            Err(error) => {
                self.account.refuse(size, &error.to_string());
                return ptr::null_mut();
            }
        };
        let address = block.pointer().as_ptr();
        if alignment != 0 && !(address.addr() as u64).is_multiple_of(alignment) {
            self.account.refuse(size, &format!("no memory is aligned to {alignment} bytes"));
            return ptr::null_mut();
        }
        self.blocks().insert(address.addr(), block);
        address
    }

    /// Whether the memory was of this allocator; null always is.
    fn free(&self, memory: *mut c_void) -> bool {
        if memory.is_null() {
            return true;
        }
        // Not under the lock: freeing may wait for the device.
        let block = self.blocks().remove(&memory.addr());
        if let Some(block) = &block {
            self.account.give_back(block.byte_count() as u64);
        }
        block.is_some()
    }
}

/// `IGpuAllocator` of 8 has no base class, and what came later stands behind its destructor.
static PLAIN: Vtable<6> = Vtable::new([
    allocate as Entry,
    free as Entry,
    never_destroyed as Entry,
    never_destroyed as Entry,
    reallocate as Entry,
    deallocate as Entry,
]);

static VERSIONED: Vtable<9> = Vtable::new([
    api_language as Entry,
    interface_info as Entry,
    never_destroyed as Entry,
    never_destroyed as Entry,
    allocate as Entry,
    reallocate as Entry,
    deallocate as Entry,
    allocate_async as Entry,
    deallocate_async as Entry,
]);

unsafe extern "C" fn interface_info(_: *const c_void) -> InterfaceInfo {
    InterfaceInfo::of(c"IGpuAllocator")
}

/// `allocate`
unsafe extern "C" fn allocate(this: *const State, size: u64, alignment: u64, _flags: u32) -> *mut c_void {
    // SAFETY: TensorRT passes the allocator it was given, which outlives all objects that allocate with it.
    let state = unsafe { &*this };
    state.panics.guard(ptr::null_mut(), || state.take(size, alignment))
}

/// `free`, of 8 alone
unsafe extern "C" fn free(this: *const State, memory: *mut c_void) {
    // SAFETY: as in `allocate`.
    unsafe { deallocate(this, memory) };
}

/// `reallocate`: null says that it cannot be done, and TensorRT takes new memory instead.
unsafe extern "C" fn reallocate(_: *const State, _: *mut c_void, _: u64, _: u64) -> *mut c_void {
    ptr::null_mut()
}

/// `deallocate`
unsafe extern "C" fn deallocate(this: *const State, memory: *mut c_void) -> bool {
    // SAFETY: as in `allocate`.
    let state = unsafe { &*this };
    state.panics.guard(false, || state.free(memory))
}

/// `allocateAsync`: memory that is there at once is there for the stream too.
unsafe extern "C" fn allocate_async(
    this: *const State,
    size: u64,
    alignment: u64,
    flags: u32,
    _stream: *mut c_void,
) -> *mut c_void {
    // SAFETY: as the caller promises.
    unsafe { allocate(this, size, alignment, flags) }
}

/// `deallocateAsync`: cuMemFree waits for the work that uses the memory.
unsafe extern "C" fn deallocate_async(this: *const State, memory: *mut c_void, _stream: *mut c_void) -> bool {
    // SAFETY: as the caller promises.
    unsafe { deallocate(this, memory) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::cuda::DriverStandIn;
    use crate::tensorrt::object::code_at;
    use crate::version::Version;

    /// The stand-in takes its memory from the heap.
    const ALIGNMENT: u64 = 8;

    type Allocate = unsafe extern "C" fn(*const c_void, u64, u64, u32) -> *mut c_void;
    type Deallocate = unsafe extern "C" fn(*const c_void, *mut c_void) -> bool;

    fn abi(family: Family) -> Abi {
        Abi { family, version: Version { major: 0, minor: 0, patch: None } }
    }

    /// Calls the entries that the family's headers name.
    struct Caller {
        this: *mut c_void,
        allocate: Allocate,
        deallocate: Deallocate,
    }

    impl Caller {
        fn new(allocator: &Allocator, family: Family) -> Self {
            let (allocate, deallocate) = if family == Family::TensorRt8 { (0, 5) } else { (4, 6) };
            let this = allocator.as_ptr();
            // SAFETY: the vtable of the family has both entries; here and below.
            let allocate = unsafe { code_at(this, allocate) };
            // SAFETY: see above.
            let deallocate = unsafe { code_at(this, deallocate) };
            // SAFETY: it is the entry of `allocate`.
            let allocate = unsafe { std::mem::transmute::<Entry, Allocate>(allocate) };
            // SAFETY: it is the entry of `deallocate`.
            let deallocate = unsafe { std::mem::transmute::<Entry, Deallocate>(deallocate) };
            Self { this, allocate, deallocate }
        }

        fn take(&self, size: u64) -> *mut c_void {
            // SAFETY: the allocator lives as long as the test.
            unsafe { (self.allocate)(self.this, size, ALIGNMENT, 0) }
        }

        fn free(&self, memory: *mut c_void) -> bool {
            // SAFETY: as above.
            unsafe { (self.deallocate)(self.this, memory) }
        }
    }

    #[test]
    fn what_each_family_takes_and_gives_back_is_counted() {
        let device = DriverStandIn::new("allocator");
        for family in Family::ALL {
            let account = MemoryAccount::new();
            let allocator = Allocator::new(abi(family), &device.context(), &account, &Arc::default());
            let tensorrt = Caller::new(&allocator, family);
            let (first, second) = (tensorrt.take(1000), tensorrt.take(24));
            assert!(!first.is_null() && !second.is_null(), "{family:?}");
            assert_eq!((account.used_bytes(), account.peak_bytes()), (1024, 1024));
            assert!(tensorrt.free(first) && !tensorrt.free(first), "{family:?}");
            assert_eq!((account.used_bytes(), account.peak_bytes()), (24, 1024));
            assert!(tensorrt.take(0).is_null() && tensorrt.free(ptr::null_mut()));
            // What TensorRT has not given back goes with the allocator.
            drop(allocator);
            assert_eq!((account.used_bytes(), device.live().device_buffers), (0, 0));
        }
    }

    #[test]
    fn more_than_the_limit_is_refused_with_all_sizes() {
        let device = DriverStandIn::new("allocator-limit");
        let account = MemoryAccount::limited_to(1000);
        let family = Family::TensorRt10;
        let allocator = Allocator::new(abi(family), &device.context(), &account, &Arc::default());
        let tensorrt = Caller::new(&allocator, family);
        assert!(!tensorrt.take(900).is_null());
        assert!(tensorrt.take(101).is_null());
        let text = "out of memory: 101 bytes were asked for, 900 are taken, and 1000 are allowed";
        assert_eq!(account.take_refusal().as_deref(), Some(text));
        assert_eq!((account.take_refusal(), account.used_bytes()), (None, 900));
    }

    #[test]
    fn a_device_without_memory_is_told_with_cudas_code() {
        let device = DriverStandIn::new("allocator-full");
        let account = MemoryAccount::new();
        let family = Family::Rtx1;
        let allocator = Allocator::new(abi(family), &device.context(), &account, &Arc::default());
        device.fail("cuMemAlloc", 2);
        assert!(Caller::new(&allocator, family).take(64).is_null());
        let refusal = account.take_refusal().unwrap();
        assert!(refusal.starts_with("out of memory: 64 bytes were asked for, 0 are taken: "), "{refusal}");
        assert!(refusal.contains("status 2"), "{refusal}");
        assert_eq!(account.used_bytes(), 0);
    }
}
