//! `IRuntime`: loads serialised engines.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use super::abi::{Family, calls};
use super::callbacks::{Allocator, MemoryAccount};
use super::engine::Engine;
use super::object::{Object, Owned, SetCallback};
use super::session::Session;
use crate::cuda::CudaContext;
use crate::error::Result;

/// Loads serialised engines. Clones are the same one, and it may be used from several threads.
#[doc(alias = "IRuntime")]
#[derive(Clone)]
pub struct Runtime {
    owned: Arc<Owned>,
}

/// `createInferRuntime_INTERNAL` and `createInferBuilder_INTERNAL`: logger and version of the caller's
/// headers to object.
type Create = unsafe extern "C" fn(*mut c_void, i32) -> *mut c_void;

impl Runtime {
    #[doc(alias = "createInferRuntime_INTERNAL")]
    pub(crate) fn new(session: &Arc<Session>, target: Target<'_>) -> Result<Self> {
        session.require_driver("create a runtime")?;
        // SAFETY: the function makes an `IRuntime`.
        let owned =
            unsafe { create_first(session, &target, "createInferRuntime_INTERNAL", "create a runtime") }?;
        // SAFETY: this is the runtime's setter.
        let owned = unsafe { target.account_for(owned, calls::runtime::set_gpu_allocator) }?;
        // SAFETY: this is the runtime's setter.
        let owned = unsafe { owned.with_recorder(calls::runtime::set_error_recorder) }?;
        Ok(Self { owned: Arc::new(owned) })
    }

    /// Loads an engine. The bytes are not needed any more afterwards.
    ///
    /// An engine is code: load only what was built here or comes from somebody trusted.
    ///
    /// # Errors
    /// [`Error::TensorRt`](crate::Error::TensorRt) where the bytes are no engine, or one of another version
    /// or for another GPU.
    pub fn deserialize_engine(&self, serialized: &[u8]) -> Result<Engine> {
        let (data, size) = (serialized.as_ptr(), serialized.len());
        let load = |runtime: Object| match runtime.abi().family {
            // SAFETY: runtime and bytes live, and NVIDIA allows it from several threads (see `Owned`); here
            // and below.
            Family::TensorRt8 => unsafe {
                calls::runtime::deserialize_cuda_engine_8(runtime, data, size, ptr::null_mut())
            },
            // SAFETY: see above.
            _ => unsafe { calls::runtime::deserialize_cuda_engine(runtime, data, size) },
        };
        // SAFETY: NVIDIA gives the caller a new `ICudaEngine`.
        let owned = unsafe { self.owned.make("load the engine", load) }?;
        // SAFETY: it is an `ICudaEngine`.
        unsafe { Engine::new(owned) }
    }

    /// Lets version-compatible engines run the lean runtime that they bring along, which is code in them.
    ///
    /// # Errors
    /// [`Error::NotInThisVersion`](crate::Error::NotInThisVersion) before 8.6.
    #[doc(alias = "setEngineHostCodeAllowed")]
    pub fn allow_engine_host_code(&self) -> Result<()> {
        self.owned.instruct("allow host code in engines", |runtime| {
            // SAFETY: the runtime lives; the flag is only read by later loads.
            unsafe { calls::runtime::set_engine_host_code_allowed(runtime, true) }
        })
    }
}

/// What a first object is for.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    /// `None` for CUDA's first device, or for none where TensorRT allows that.
    pub(crate) device: Option<&'a Arc<CudaContext>>,
    /// What counts the device memory that it takes, on a device alone.
    pub(crate) account: Option<&'a MemoryAccount>,
}

impl Target<'_> {
    /// Lets the account count what a new object takes.
    ///
    /// # Safety
    /// - `set` is the setter of the object's class for its allocator.
    pub(crate) unsafe fn account_for(&self, owned: Owned, set: SetCallback) -> Result<Owned> {
        let Some((device, account)) = self.device.zip(self.account) else { return Ok(owned) };
        let session = owned.session();
        let allocator = Allocator::new(session.abi(), device, account, session.panics());
        // SAFETY: as the caller promises.
        unsafe { owned.with_allocator(allocator, set) }
    }
}

/// Calls one of the two functions that make the first object.
///
/// # Safety
/// - `symbol` is one of the two that [`Create`] is the type of.
pub(crate) unsafe fn create_first(
    session: &Arc<Session>,
    target: &Target<'_>,
    symbol: &'static str,
    action: &'static str,
) -> Result<Owned> {
    // SAFETY: both functions have this type in every version.
    let create: Create = unsafe { session.library().function(symbol) }?;
    // The version of the headers that the caller was compiled with: ours are those of the library itself.
    let version = crate::version::tensorrt_number(session.library())?;
    if let Some(device) = target.device {
        device.enter()?;
    }
    // SAFETY: the logger lives for ever.
    let (address, said) = session.listen(|| unsafe { create(session.logger(), version) });
    // SAFETY: the function gives null, null in disguise or a new object.
    let owned = unsafe { Owned::first(address, session, target.device.cloned()) };
    owned.ok_or_else(|| session.refusal_to_start(action, said))
}
