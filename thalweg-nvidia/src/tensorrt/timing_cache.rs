//! `ITimingCache`: how long kernels took, so that the next build need not measure them again.

use std::sync::Arc;

use super::abi::calls;
use super::host_memory::HostMemory;
use super::object::Owned;
use crate::error::Result;

/// How long kernels took. It is of use for the same GPU and the same version only.
#[doc(alias = "ITimingCache")]
pub struct TimingCache {
    owned: Arc<Owned>,
    /// The builder writes to it on the thread that builds.
    _on_one_thread: std::marker::PhantomData<*const ()>,
}

impl TimingCache {
    /// # Safety
    /// - `owned` is an `ITimingCache`.
    pub(crate) unsafe fn new(owned: Owned) -> Self {
        Self { owned: Arc::new(owned), _on_one_thread: std::marker::PhantomData }
    }

    pub(crate) fn owned(&self) -> &Arc<Owned> {
        &self.owned
    }

    /// Its content, to be kept for the next build.
    ///
    /// # Errors
    /// [`Error::TensorRt`](crate::Error::TensorRt) where TensorRT cannot write it.
    pub fn serialize(&self) -> Result<HostMemory> {
        // SAFETY: NVIDIA gives the caller a new `IHostMemory`; the cache lives and stays on this thread.
        let owned = unsafe {
            self.owned.make("serialise the timing cache", |cache| calls::timing_cache::serialize(cache))
        }?;
        // SAFETY: it is an `IHostMemory`.
        unsafe { HostMemory::new(owned) }
    }
}
