//! Copies from host memory to host memory that a device is about to read.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

/// Copies past the caches of the core, into memory that a device reads next, such as a
/// [`PinnedBuffer`](crate::cuda::PinnedBuffer).
///
/// A device gets lines that cores have just written out of their caches, and that is slow: on a host with Intel Xeon
/// processors of the fourth generation an H100 read 5 MB that eight threads had written by ordinary stores at 23 GiB/s,
/// and at 49 GiB/s, as fast as memory that nobody wrote, after this function (`scripts/gpu/written_inputs.cu`,
/// docs/benchmarks.md). When it returns, the bytes are where devices see them.
///
/// # Panics
/// Where the lengths differ.
#[cfg(target_arch = "x86_64")]
pub fn copy_past_caches(to: &mut [u8], from: &[u8]) {
    assert_eq!(to.len(), from.len(), "both sides of a copy have the same length");
    // SAFETY: any 16 bytes are an `__m128i`, and the other way round.
    let (head, middle, tail) = unsafe { to.align_to_mut::<__m128i>() };
    let (from_head, from) = from.split_at(head.len());
    let (from_middle, from_tail) = from.split_at(size_of_val(middle));
    head.copy_from_slice(from_head);
    tail.copy_from_slice(from_tail);
    for (to, from) in middle.iter_mut().zip(from_middle.chunks_exact(size_of::<__m128i>())) {
        // SAFETY: so many bytes are there, and need not be aligned.
        let bytes = unsafe { _mm_loadu_si128(from.as_ptr().cast()) };
        // SAFETY: a reference is valid, and aligned as its type asks for. Every x86-64 processor has SSE2.
        unsafe { _mm_stream_si128(to, bytes) };
    }
    // Such stores are ordered by nothing else, not even by handing the buffer to another thread.
    // SAFETY: every x86-64 processor has it.
    unsafe { _mm_sfence() };
}

/// As ordinary copies: this processor has no such stores.
///
/// # Panics
/// Where the lengths differ.
#[cfg(not(target_arch = "x86_64"))]
pub fn copy_past_caches(to: &mut [u8], from: &[u8]) {
    assert_eq!(to.len(), from.len(), "both sides of a copy have the same length");
    to.copy_from_slice(from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_arrive_whatever_the_alignment_and_the_length_and_none_beside_them() {
        let from: Vec<u8> = (0..600_u32).map(|index| (index % 251) as u8).collect();
        for start in 0..70 {
            for length in [0, 1, 15, 63, 64, 65, 127, 128, 200, 511] {
                let mut to = vec![255; 700];
                copy_past_caches(&mut to[start..start + length], &from[7..7 + length]);
                assert_eq!(
                    &to[start..start + length],
                    &from[7..7 + length],
                    "{length} bytes from {start} on"
                );
                assert!(to[..start].iter().chain(&to[start + length..]).all(|byte| *byte == 255));
            }
        }
    }

    #[test]
    #[should_panic(expected = "the same length")]
    fn both_sides_have_the_same_length() {
        copy_past_caches(&mut [0; 3], &[0; 4]);
    }
}
