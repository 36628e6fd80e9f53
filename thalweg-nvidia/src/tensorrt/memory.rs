//! Memory of a device, as far as TensorRT is concerned.

use crate::raw::DevicePointer;

/// Memory of a device that stays where it is as long as the value lives.
///
/// # Safety
/// - The device may read and write `byte_count` bytes from `pointer` on until the value is dropped.
/// - Both methods give the same every time.
/// - Dropping the value waits for all work that was enqueued with it, or frees the memory behind that work.
pub unsafe trait DeviceMemory: Send + Sync {
    /// Where it starts.
    fn pointer(&self) -> DevicePointer;

    /// How many bytes there are.
    fn byte_count(&self) -> usize;
}
