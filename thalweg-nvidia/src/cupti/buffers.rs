//! Memory that CUPTI writes its records to: given out, taken back, and used again.

use std::alloc::{self, Layout};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// Buffers that nobody uses now, and which ones CUPTI has.
pub(super) struct Buffers {
    // Contended by the threads of the program, whose calls may need a buffer, and CUPTI's own, which gives them back.
    places: Mutex<Places>,
}

struct Places {
    free: Vec<Buffer>,
    /// Those that CUPTI has. It may deliver others: what it was given by another client, whose callbacks ours replaced.
    given: Vec<Buffer>,
}

/// A buffer that we own.
struct Buffer(NonNull<u8>);

// SAFETY: it is memory that nobody else refers to, unless CUPTI has it, and then we do not.
unsafe impl Send for Buffer {}

impl Buffers {
    pub(super) const fn new() -> Self {
        Self { places: Mutex::new(Places { free: Vec::new(), given: Vec::new() }) }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of [`BUFFER_BYTES`] for CUPTI, which owns it from here on; null where there is no memory.
    pub(super) fn give(&self) -> *mut u8 {
        let mut places = self.places();
        let buffer = places.free.pop().or_else(|| {
            // SAFETY: its size is not zero.
            NonNull::new(unsafe { alloc::alloc(layout()) }).map(Buffer)
        });
        let Some(buffer) = buffer else { return ptr::null_mut() };
        let address = buffer.0.as_ptr();
        places.given.push(buffer);
        address
    }

    /// Takes a buffer back. One that is none of ours stays whose it is.
    ///
    /// # Safety
    /// - CUPTI has delivered it, and nobody reads it any more.
    pub(super) unsafe fn take_back(&self, buffer: *mut u8) {
        let mut places = self.places();
        let Some(place) = places.given.iter().position(|given| given.0.as_ptr() == buffer) else { return };
        let buffer = places.given.swap_remove(place);
        if places.free.len() < MOST_FREE {
            places.free.push(buffer);
            return;
        }
        drop(places);
        // SAFETY: it was given out, so it was allocated with this layout, and CUPTI is done with it.
        unsafe { alloc::dealloc(buffer.0.as_ptr(), layout()) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_of_somebody_else_is_not_taken_and_ours_only_once() {
        let buffers = Buffers::new();
        let mut foreign = [0_u64; 8];
        let ours = buffers.give();
        for buffer in [ptr::null_mut(), foreign.as_mut_ptr().cast(), ours, ours] {
            // SAFETY: nobody uses any of them.
            unsafe { buffers.take_back(buffer) };
        }
        let free = &buffers.places().free;
        assert!(free.len() == 1 && free[0].0.as_ptr() == ours);
    }
}
