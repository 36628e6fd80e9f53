//! TensorRT's objects: how a method is reached, and who deletes what when.
//!
//! In: addresses that TensorRT returned. Out: an [`Object`], which is such an address with the tables of its
//! version, and an [`Owned`], which deletes its object and keeps alive whatever the object needs. What the
//! methods mean is left to the modules of the single classes.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use super::abi::{Abi, Method};
use super::callbacks::{Allocator, MemoryAccount, Recorder, Said, hear};
use super::session::Session;
use crate::cuda::CudaContext;
use crate::error::{Error, Result};

/// Addresses below are null with an offset, not objects: without a driver, `createInferRuntime_INTERNAL` of
/// 10 and 11 returns 0x228 (seen with the lean runtimes 10.16.1 and 11.4.0). The first page is never mapped
/// on Linux.
const LOWEST_ADDRESS: usize = 4096;

/// Entry of the deleting destructor in the vtable of every class that derives from `INoCopy`: the second of
/// the two that a virtual destructor takes (Itanium C++ ABI, 2.5.2).
const DELETING_DESTRUCTOR: usize = 1;

/// The address of an object of TensorRT's, and in which version's tables to look for its methods.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    address: NonNull<c_void>,
    abi: Abi,
}

impl Object {
    /// `None` for null and for what is null in disguise.
    pub(crate) fn new(address: *mut c_void, abi: Abi) -> Option<Self> {
        let address = NonNull::new(address).filter(|address| address.addr().get() >= LOWEST_ADDRESS)?;
        Some(Self { address, abi })
    }

    pub(crate) fn abi(self) -> Abi {
        self.abi
    }

    pub(crate) fn as_ptr(self) -> *mut c_void {
        self.address.as_ptr()
    }

    /// What to call a method with, and its code.
    ///
    /// # Safety
    /// - The object lives and is of the class that declares the method.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`] where this version has no such method.
    pub(crate) unsafe fn method(self, method: &Method) -> Result<(*mut c_void, *const c_void)> {
        let entry = self.abi.entry(method)?;
        let this = if method.is_direct() {
            self.as_ptr()
        } else {
            // SAFETY: behind its vtable pointer such an object has `mImpl`, its first and only member.
            let implementation = unsafe { self.as_ptr().cast::<*mut c_void>().add(1) };
            // SAFETY: as above.
            unsafe { implementation.read() }
        };
        // SAFETY: `this` is a C++ object with virtual methods, and the tables say that its vtable is that
        // long.
        let code = unsafe { code_at(this, entry) };
        Ok((this, code))
    }

    /// # Safety
    /// - The object lives, is ours to delete, and nothing uses it any more.
    /// - `entry` is the place of its deleting destructor.
    unsafe fn delete(self, entry: usize) {
        // SAFETY: the caller promises that the object lives and has this entry.
        let code = unsafe { code_at(self.as_ptr(), entry) };
        // SAFETY: a deleting destructor takes the object and returns nothing.
        let delete: unsafe extern "C" fn(*mut c_void) = unsafe { std::mem::transmute(code) };
        // SAFETY: the caller gives the object up.
        unsafe { delete(self.as_ptr()) };
    }
}

/// An entry of the vtable of a C++ object.
///
/// # Safety
/// - `this` is a living C++ object with at least `entry + 1` entries in its vtable.
pub(crate) unsafe fn code_at(this: *mut c_void, entry: usize) -> *const c_void {
    // SAFETY: the first word of an object with virtual methods points to its vtable.
    let vtable = unsafe { this.cast::<*const *const c_void>().read() };
    // SAFETY: the caller promises the entry.
    let entry = unsafe { vtable.add(entry) };
    // SAFETY: as above.
    unsafe { entry.read() }
}

/// How a new object is told which callback to use: one of the `set_error_recorder` or `set_gpu_allocator` in
/// [`calls`](super::abi::calls).
pub(crate) type SetCallback = unsafe fn(Object, *mut c_void) -> Result<()>;

/// An object that this program deletes, with everything that has to outlive it.
pub(crate) struct Owned {
    object: Object,
    destructor: usize,
    // All three are used by the object, so they go after it: `drop` deletes it before any field is dropped.
    recorder: Option<Recorder>,
    /// Where it and its children get device memory from.
    allocator: Option<Arc<Allocator>>,
    parent: Option<Arc<Owned>>,
    /// Whose memory it uses. TensorRT takes whichever device is current on the calling thread.
    device: Option<Arc<CudaContext>>,
    session: Arc<Session>,
}

// SAFETY: TensorRT's objects have no home thread. "The TensorRT runtime can be used by multiple threads
// simultaneously, so long as each object uses a different execution context"
// (https://docs.nvidia.com/deeplearning/tensorrt/latest/architecture/how-trt-works.html#threading).
unsafe impl Send for Owned {}
// SAFETY: sharing an `Owned` shares nothing but the right to call `unsafe` functions with its object, each of
// which asks its caller to exclude other threads. The safe types around it are `Sync` only for classes whose
// methods NVIDIA calls thread-safe, see `Engine`; the others opt out.
unsafe impl Sync for Owned {}

impl Owned {
    /// Takes an object that a function of the library returned.
    ///
    /// # Safety
    /// - `address` is null, null in disguise or a new object that derives from `INoCopy` and is ours to
    ///   delete.
    pub(crate) unsafe fn first(
        address: *mut c_void,
        session: &Arc<Session>,
        device: Option<Arc<CudaContext>>,
    ) -> Option<Self> {
        let object = Object::new(address, session.abi())?;
        let session = Arc::clone(session);
        let (destructor, recorder, allocator, parent) = (DELETING_DESTRUCTOR, None, None, None);
        Some(Self { object, destructor, recorder, allocator, parent, device, session })
    }

    /// Takes an object that outlives neither this one nor what this one needs.
    ///
    /// # Safety
    /// As [`first`](Self::first).
    pub(crate) unsafe fn child(self: &Arc<Self>, address: *mut c_void) -> Option<Self> {
        // SAFETY: as the caller promises.
        let mut child = unsafe { Self::first(address, &self.session, self.device.clone()) }?;
        child.allocator.clone_from(&self.allocator);
        child.parent = Some(Arc::clone(self));
        Some(child)
    }

    /// Whether it was made by this parent.
    pub(crate) fn is_child_of(&self, parent: &Arc<Self>) -> bool {
        self.parent.as_ref().is_some_and(|own| Arc::ptr_eq(own, parent))
    }

    /// Says that the object is called directly and has its destructor elsewhere, as the ONNX parser.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`] where this version has none.
    pub(crate) fn with_destructor(mut self, method: &Method) -> Result<Self> {
        self.destructor = self.object.abi.entry(method)?;
        Ok(self)
    }

    /// Gives the object its own record of errors.
    ///
    /// # Safety
    /// - `set` belongs to the object's class.
    pub(crate) unsafe fn with_recorder(mut self, set: SetCallback) -> Result<Self> {
        let recorder = Recorder::new(self.object.abi);
        // SAFETY: the object is new and of the class of `set`; the recorder lives on the heap until after it.
        unsafe { set(self.object, recorder.as_ptr()) }?;
        self.recorder = Some(recorder);
        Ok(self)
    }

    /// Lets the object and its children get device memory from this allocator.
    ///
    /// # Safety
    /// - `set` belongs to the object's class.
    pub(crate) unsafe fn with_allocator(mut self, allocator: Allocator, set: SetCallback) -> Result<Self> {
        // SAFETY: the object is new and of the class of `set`; the allocator lives on the heap until after it.
        unsafe { set(self.object, allocator.as_ptr()) }?;
        self.allocator = Some(Arc::new(allocator));
        Ok(self)
    }

    pub(crate) fn object(&self) -> Object {
        self.object
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Runs a call and returns what it returned with what TensorRT said meanwhile.
    ///
    /// # Panics
    /// With the panic of a callback that the call made.
    pub(crate) fn listen<T>(&self, call: impl FnOnce(Object) -> Result<T>) -> Result<(T, Said)> {
        if let Some(device) = &self.device {
            device.enter()?;
        }
        if let Some(recorder) = &self.recorder {
            recorder.take();
        }
        let account = self.allocator.as_ref().map(|allocator| allocator.account());
        account.map(MemoryAccount::take_refusal);
        let (result, mut said) = self.session.listen(|| call(self.object));
        for recorded in self.recorder.iter().flat_map(Recorder::take) {
            // Most errors are both logged and recorded, the log's text being the longer one.
            if !said.errors.iter().any(|logged| logged.contains(&recorded)) {
                said.errors.push(recorded);
            }
        }
        said.refusal = account.and_then(MemoryAccount::take_refusal);
        Ok((result?, said))
    }

    /// Runs a call that returns whether it succeeded.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where it did not.
    pub(crate) fn agree(
        &self,
        action: &'static str,
        call: impl FnOnce(Object) -> Result<bool>,
    ) -> Result<()> {
        let (is_done, said) = self.listen(call)?;
        if is_done { Ok(()) } else { Err(self.session.refusal(action, said)) }
    }

    /// Runs a call that returns nothing and fails by reporting an error.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where it reported one.
    pub(crate) fn instruct(
        &self,
        action: &'static str,
        call: impl FnOnce(Object) -> Result<()>,
    ) -> Result<()> {
        let ((), said) = self.listen(call)?;
        if said.errors.is_empty() { Ok(()) } else { Err(self.session.refusal(action, said)) }
    }

    /// Runs a call that makes a new object.
    ///
    /// # Safety
    /// - What `call` returns is as [`first`](Self::first) asks.
    ///
    /// # Errors
    /// [`Error::TensorRt`] where it made none.
    pub(crate) unsafe fn make(
        self: &Arc<Self>,
        action: &'static str,
        call: impl FnOnce(Object) -> Result<*mut c_void>,
    ) -> Result<Self> {
        let (address, said) = self.listen(call)?;
        // SAFETY: as the caller promises.
        let child = unsafe { self.child(address) };
        child.ok_or_else(|| self.session.refusal(action, said))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Where this fails, the device is gone, and its memory with it.
        let _ = self.device.as_ref().map(|device| device.enter().map(|_| ()));
        // What it says while it goes is the error of no call, and a panic of the log's sink waits for the
        // next call: raised here it could end the process.
        hear(|| {
            // SAFETY: children hold an `Arc` of this, so none is left, and it was ours to delete.
            unsafe { self.object.delete(self.destructor) };
        });
    }
}

/// A name as TensorRT takes it.
///
/// # Errors
/// [`Error::ZeroInText`] where it has a zero byte.
pub(crate) fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::ZeroInText { text: text.to_owned() })
}

/// A text of TensorRT's, `None` for null.
///
/// # Safety
/// - `text` is null or ends in a zero byte, and nothing writes to it meanwhile.
pub(crate) unsafe fn text_at(text: *const c_char) -> Option<String> {
    if text.addr() < LOWEST_ADDRESS {
        return None;
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;

    #[test]
    fn null_in_disguise_is_no_object() {
        let version = Version { major: 10, minor: 16, patch: Some(1) };
        let abi = Abi { family: super::super::Family::TensorRt10, version };
        assert!(Object::new(std::ptr::null_mut(), abi).is_none());
        assert!(Object::new(std::ptr::without_provenance_mut(0x228), abi).is_none());
        assert!(Object::new(std::ptr::without_provenance_mut(0x7f00_0000), abi).is_some());
    }
}
