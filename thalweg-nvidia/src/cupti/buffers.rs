//! Memory that CUPTI writes its records to: given out, taken back, and used again.

use std::alloc::{self, Layout};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

/// Bytes of a buffer. NVIDIA's samples use 8 MB; a quarter of that is delivered four times as often, so that less is
/// lost in a crash, and holds some 20,000 records still.
pub(super) const BUFFER_BYTES: usize = 2 << 20;

/// `ACTIVITY_RECORD_ALIGNMENT` of cupti_activity.h.
const ALIGNMENT: usize = 8;

/// Buffers that are kept for the next request; more at a time are given back to the system.
const MOST_FREE: usize = 16;

fn layout() -> Layout {
    Layout::from_size_align(BUFFER_BYTES, ALIGNMENT).expect("bug: the alignment is a power of two")
}

/// Buffers that nobody uses now.
pub(super) struct Buffers {
    // Contended by the threads of the program, whose calls may need a buffer, and CUPTI's own, which gives them back.
    free: Mutex<Vec<Buffer>>,
}

/// A buffer that we own.
struct Buffer(NonNull<u8>);

// SAFETY: it is memory that nobody else refers to.
unsafe impl Send for Buffer {}

impl Buffers {
    pub(super) const fn new() -> Self {
        Self { free: Mutex::new(Vec::new()) }
    }

    /// A buffer of [`BUFFER_BYTES`] for CUPTI, which owns it from here on; null where there is no memory.
    pub(super) fn give(&self) -> *mut u8 {
        let used = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(buffer) = used {
            return buffer.0.as_ptr();
        }
        // SAFETY: its size is not zero.
        unsafe { alloc::alloc(layout()) }
    }

    /// Takes a buffer back.
    ///
    /// # Safety
    /// - It is from [`give`](Self::give) of this pool, and CUPTI has delivered it.
    pub(super) unsafe fn take_back(&self, buffer: *mut u8) {
        let Some(buffer) = NonNull::new(buffer) else { return };
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < MOST_FREE {
            free.push(Buffer(buffer));
            return;
        }
        drop(free);
        // SAFETY: `give` has allocated it with this layout, as the caller promises.
        unsafe { alloc::dealloc(buffer.as_ptr(), layout()) };
    }
}

/// The bytes of a delivered record from its kind on.
///
/// # Safety
/// - `record` is from `cuptiActivityGetNextRecord`, so a record of its kind is there, and `length` is no more than that
///   kind has.
/// - The buffer that it lies in is not given back while the slice is used.
pub(super) unsafe fn bytes_of<'a>(record: *const u8, length: usize) -> &'a [u8] {
    // SAFETY: as the caller promises.
    unsafe { &*ptr::slice_from_raw_parts(record, length) }
}
