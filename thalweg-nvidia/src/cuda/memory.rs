//! Memory on the device, and memory on the host that the device can reach by itself.

use std::alloc::{self, Layout};
use std::ffi::c_uint;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::cuda::CudaContext;
use crate::cuda::api::{Address, HOST_MEMORY_PORTABLE, HOST_MEMORY_WRITE_COMBINED};
use crate::error::Result;
use crate::raw::DevicePointer;

/// The driver refuses to allocate nothing, but a tensor may be empty.
const LEAST_ALLOCATION: usize = 1;

/// Device memory is taken in whole multiples of this: the driver does not give less either, and TensorRT 8.6 counts
/// the outputs of a network in steps of 512 bytes.
const DEVICE_STEP: usize = 512;

/// Host buffers begin at multiples of this.
const PAGE: usize = 4096;

/// Owned device memory, aligned to 256 bytes at least. What is in it at first is undefined.
pub struct DeviceBuffer {
    context: Arc<CudaContext>,
    address: Address,
    byte_count: usize,
    capacity: usize,
}

impl DeviceBuffer {
    /// Takes so many bytes of device memory.
    ///
    /// # Errors
    /// `CUDA_ERROR_OUT_OF_MEMORY` where there are not so many left.
    #[doc(alias = "cuMemAlloc")]
    pub fn new(context: &Arc<CudaContext>, byte_count: usize) -> Result<Self> {
        let api = context.enter()?;
        let mut address = 0;
        let capacity = byte_count.max(LEAST_ALLOCATION).next_multiple_of(DEVICE_STEP);
        // SAFETY: `address` is writable, a context is current, and the size is not 0.
        unsafe { api.memory_allocate(&raw mut address, capacity) }?;
        Ok(Self { context: Arc::clone(context), address, byte_count, capacity })
    }

    /// Where it begins.
    pub fn pointer(&self) -> DevicePointer {
        DevicePointer(self.address)
    }

    /// Its size, in bytes.
    pub fn byte_count(&self) -> usize {
        self.byte_count
    }

    /// How many bytes may be written from its start on: its size, rounded up.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The context that it belongs to.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    pub(crate) fn address(&self) -> Address {
        self.address
    }
}

impl fmt::Debug for DeviceBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceBuffer").field("byte_count", &self.byte_count).finish_non_exhaustive()
    }
}

impl Drop for DeviceBuffer {
    #[doc(alias = "cuMemFree")]
    fn drop(&mut self) {
        let Ok(api) = self.context.enter() else { return };
        // SAFETY: nobody else owns the memory, and whoever enqueued work on it keeps it until that is done.
        let _ = unsafe { api.memory_free(self.address) };
    }
}

/// What pinned memory is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PinnedMemory {
    /// Read and written by the host as any other memory.
    #[default]
    Cached,
    /// Not cached, so that copies to the device disturb no cache and may be faster. Reading it on the host is
    /// very slow: for inputs that are written from start to end.
    WriteCombined,
    /// Not pinned after all but ordinary memory, as a program has it that knows no better: the driver copies by way of a
    /// buffer of its own, and holds the calling thread up. To see that somebody notices.
    Pageable,
}

/// Owned page-locked host memory: only from and to such memory do copies run beside other work. It begins at a
/// page and is page-locked for every device, unless it is [`PinnedMemory::Pageable`].
pub struct PinnedBuffer {
    /// `None` only while it is dropped.
    block: Option<PinnedBlock>,
    byte_count: usize,
    /// Where its memory goes when it is dropped; without one it is freed.
    reserve: Weak<PinnedReserve>,
}

impl PinnedBuffer {
    /// Takes so many bytes, filled with zeros.
    ///
    /// # Errors
    /// `CUDA_ERROR_OUT_OF_MEMORY` where the host cannot lock so many pages.
    pub fn new(context: &Arc<CudaContext>, byte_count: usize, kind: PinnedMemory) -> Result<Self> {
        let block = PinnedBlock::new(context, byte_count, kind)?;
        Ok(Self { block: Some(block), byte_count, reserve: Weak::new() })
    }

    /// Its size, in bytes.
    pub fn byte_count(&self) -> usize {
        self.byte_count
    }

    fn memory(&self) -> NonNull<u8> {
        self.block.as_ref().expect("bug: it is there until the drop").memory
    }
}

/// Page-locked memory of buffers that were dropped, kept for those that come: to lock a gigabyte and to free it again takes
/// two thirds of a second, and who tries one shape of pool after the other does that each time.
pub struct PinnedReserve {
    context: Arc<CudaContext>,
    spare: Mutex<Vec<PinnedBlock>>,
    /// What is kept at most, in bytes.
    limit: usize,
}

impl PinnedReserve {
    /// One that has nothing yet and keeps at most so many bytes.
    pub fn new(context: &Arc<CudaContext>, limit: usize) -> Arc<Self> {
        Arc::new(Self { context: Arc::clone(context), spare: Mutex::default(), limit })
    }

    /// So many bytes, filled with zeros: what another network has left there may be anything.
    ///
    /// # Errors
    /// `CUDA_ERROR_OUT_OF_MEMORY` where the host cannot lock so many pages, also without those that are kept.
    pub fn take(self: &Arc<Self>, byte_count: usize, kind: PinnedMemory) -> Result<PinnedBuffer> {
        let reserve = Arc::downgrade(self);
        if let Some(block) = self.spare(byte_count, kind) {
            let mut buffer = PinnedBuffer { block: Some(block), byte_count, reserve };
            buffer.fill(0);
            return Ok(buffer);
        }
        let block = PinnedBlock::new(&self.context, byte_count, kind).or_else(|_| {
            self.blocks().clear();
            PinnedBlock::new(&self.context, byte_count, kind)
        })?;
        Ok(PinnedBuffer { block: Some(block), byte_count, reserve })
    }

    /// The smallest one that is large enough, unless less than half of it would be used.
    fn spare(&self, byte_count: usize, kind: PinnedMemory) -> Option<PinnedBlock> {
        let mut spare = self.blocks();
        let fits = |block: &PinnedBlock| {
            block.kind == kind && block.byte_count >= byte_count && block.byte_count / 2 <= byte_count
        };
        let fitting = spare.iter().enumerate().filter(|(_, block)| fits(block));
        let (index, _) = fitting.min_by_key(|(_, block)| block.byte_count)?;
        Some(spare.remove(index))
    }

    /// In place of those that nobody has wanted for longest. Ordinary memory is cheap to have again.
    fn keep(&self, block: PinnedBlock) {
        if block.kind == PinnedMemory::Pageable || block.byte_count > self.limit {
            return;
        }
        let mut spare = self.blocks();
        spare.push(block);
        let mut kept: usize = spare.iter().map(|block| block.byte_count).sum();
        while kept > self.limit {
            kept -= spare.remove(0).byte_count;
        }
    }

    fn blocks(&self) -> MutexGuard<'_, Vec<PinnedBlock>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for PinnedReserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedReserve").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Memory with one owner.
struct PinnedBlock {
    context: Arc<CudaContext>,
    memory: NonNull<u8>,
    byte_count: usize,
    kind: PinnedMemory,
}

impl PinnedBlock {
    #[doc(alias = "cuMemHostAlloc")]
    fn new(context: &Arc<CudaContext>, byte_count: usize, kind: PinnedMemory) -> Result<Self> {
        let memory = if kind == PinnedMemory::Pageable {
            pageable(byte_count)
        } else {
            let flags = HOST_MEMORY_PORTABLE | write_combined(kind);
            let api = context.enter()?;
            let mut memory = ptr::null_mut();
            // SAFETY: `memory` is writable, a context is current, the size is not 0 and cuda.h defines the flags.
            unsafe { api.host_memory_allocate(&raw mut memory, byte_count.max(LEAST_ALLOCATION), flags) }?;
            NonNull::new(memory.cast::<u8>()).expect("bug: cuMemHostAlloc succeeded with no memory")
        };
        // SAFETY: so many bytes were just allocated, and nobody else has them.
        unsafe { memory.write_bytes(0, byte_count) };
        Ok(Self { context: Arc::clone(context), memory, byte_count, kind })
    }
}

/// Whole pages of ordinary memory.
fn pageable(byte_count: usize) -> NonNull<u8> {
    let layout = page_layout(byte_count);
    // SAFETY: the layout's size is not 0.
    let memory = unsafe { alloc::alloc(layout) };
    NonNull::new(memory).unwrap_or_else(|| alloc::handle_alloc_error(layout))
}

fn page_layout(byte_count: usize) -> Layout {
    let size = byte_count.max(LEAST_ALLOCATION);
    Layout::from_size_align(size, PAGE).expect("bug: a tensor is larger than half of all addresses")
}

fn write_combined(kind: PinnedMemory) -> c_uint {
    if kind == PinnedMemory::WriteCombined { HOST_MEMORY_WRITE_COMBINED } else { 0 }
}

// SAFETY: it is plain memory with one owner. Copies that run in the background own the buffer until they are done.
unsafe impl Send for PinnedBlock {}
// SAFETY: a shared one can only be read.
unsafe impl Sync for PinnedBlock {}

impl Deref for PinnedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes at least were allocated and filled, and they live as long as `self`.
        unsafe { slice::from_raw_parts(self.memory().as_ptr(), self.byte_count) }
    }
}

impl DerefMut for PinnedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.memory().as_ptr(), self.byte_count) }
    }
}

impl fmt::Debug for PinnedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedBuffer").field("byte_count", &self.byte_count).finish_non_exhaustive()
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        if let (Some(block), Some(reserve)) = (self.block.take(), self.reserve.upgrade()) {
            reserve.keep(block);
        }
    }
}

impl Drop for PinnedBlock {
    #[doc(alias = "cuMemFreeHost")]
    fn drop(&mut self) {
        if self.kind == PinnedMemory::Pageable {
            // SAFETY: `pageable` has allocated it with this layout, and no copy uses it, as below.
            return unsafe { alloc::dealloc(self.memory.as_ptr(), page_layout(self.byte_count)) };
        }
        let Ok(api) = self.context.enter() else { return };
        // SAFETY: nobody else owns the memory, and no copy uses it: a copy owns its buffers until it is done.
        let _ = unsafe { api.host_memory_free(self.memory.as_ptr().cast()) };
    }
}
