//! Host memory of one tensor, aligned for every element type and filled in place.

use std::ops::Range;

use bytemuck::Pod;
use thalweg_nvidia::cuda::{PinnedBuffer, copy_past_caches};

use crate::model::{DataType, TensorSpec};

/// One tensor of a slot in host memory: room for a whole batch, row-major.
#[derive(Debug)]
pub struct HostTensor {
    spec: TensorSpec,
    /// The shape of the tensor now, batch included. Inputs always have room for the whole batch;
    /// outputs take the shape that the last execution gave them.
    shape: Vec<usize>,
    memory: Memory,
    byte_count: usize,
}

/// A way to copy bytes within the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostCopy {
    /// Into the caches, where the cores that compute find them.
    Cached,
    /// Past the caches, because the device that reads them would have to get them out of there: see
    /// [`copy_past_caches`].
    PastCaches,
}

impl HostCopy {
    /// Copies all bytes.
    ///
    /// # Panics
    /// Where the lengths differ.
    pub fn copy(self, to: &mut [u8], from: &[u8]) {
        match self {
            Self::Cached => to.copy_from_slice(from),
            Self::PastCaches => copy_past_caches(to, from),
        }
    }
}

/// Where the bytes are. Both are aligned for any element type.
#[derive(Debug)]
enum Memory {
    Pageable(Vec<u128>),
    /// Page-locked: copies from and to it run beside other work.
    Pinned(PinnedBuffer),
}

impl Memory {
    fn of_size(byte_count: usize) -> Self {
        Self::Pageable(vec![0; byte_count.div_ceil(size_of::<u128>())])
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Pageable(block) => bytemuck::cast_slice(block),
            Self::Pinned(buffer) => buffer,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Pageable(block) => bytemuck::cast_slice_mut(block),
            Self::Pinned(buffer) => buffer,
        }
    }
}

impl HostTensor {
    /// Zeroed memory for `batch_size` samples of `spec`.
    pub fn zeroed(spec: &TensorSpec, batch_size: usize) -> Self {
        let byte_count = spec.byte_count_at(batch_size);
        Self {
            spec: spec.clone(),
            shape: spec.shape_at(batch_size),
            memory: Memory::of_size(byte_count),
            byte_count,
        }
    }

    /// The same without memory, which comes with [`put_pinned`](Self::put_pinned).
    pub(super) fn without_memory(spec: &TensorSpec, batch_size: usize) -> Self {
        let byte_count = spec.byte_count_at(batch_size);
        let shape = spec.shape_at(batch_size);
        Self { spec: spec.clone(), shape, memory: Memory::of_size(0), byte_count }
    }

    /// Name, element type and shape of one sample.
    pub fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    /// The type of the elements.
    pub fn data_type(&self) -> DataType {
        self.spec.data_type
    }

    /// The shape of the tensor now, batch included.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.memory.bytes()[..self.byte_count]
    }

    /// All bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory.bytes_mut()[..self.byte_count]
    }

    /// The bytes of some samples of the batch; of the whole tensor where it has no batch dimension.
    ///
    /// # Panics
    /// Where the tensor does not hold these samples.
    pub fn samples(&self, samples: Range<usize>) -> &[u8] {
        let range = self.byte_range(samples);
        &self.bytes()[range]
    }

    /// As [`samples`](Self::samples), to be filled.
    ///
    /// # Panics
    /// Where the tensor does not hold these samples.
    pub fn samples_mut(&mut self, samples: Range<usize>) -> &mut [u8] {
        let range = self.byte_range(samples);
        &mut self.bytes_mut()[range]
    }

    /// How bytes that its device is to read are best written to it.
    pub fn host_copy(&self) -> HostCopy {
        match self.memory {
            Memory::Pageable(_) => HostCopy::Cached,
            Memory::Pinned(_) => HostCopy::PastCaches,
        }
    }

    /// The elements, seen as `T`.
    ///
    /// # Panics
    /// Where the bytes are no whole number of `T`.
    pub fn elements<T: Pod>(&self) -> &[T] {
        bytemuck::cast_slice(self.bytes())
    }

    /// The elements, seen as `T`, to be filled.
    ///
    /// # Panics
    /// Where the bytes are no whole number of `T`.
    pub fn elements_mut<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self.bytes_mut())
    }

    /// Gives an output the shape of an execution's result. Where the memory has to grow, the bytes are zero.
    pub fn reshape(&mut self, shape: &[usize]) {
        self.byte_count = shape.iter().product::<usize>() * self.spec.data_type.byte_count();
        if self.memory.bytes().len() < self.byte_count {
            self.memory = Memory::of_size(self.byte_count);
        }
        shape.clone_into(&mut self.shape);
    }

    /// Takes the page-locked memory out, so that a copy can own it; `None` where it has none.
    pub(super) fn take_pinned(&mut self) -> Option<PinnedBuffer> {
        match std::mem::replace(&mut self.memory, Memory::of_size(0)) {
            Memory::Pinned(buffer) => Some(buffer),
            Memory::Pageable(_) => None,
        }
    }

    /// Puts page-locked memory in.
    ///
    /// # Panics
    /// Where it is smaller than the tensor.
    pub(super) fn put_pinned(&mut self, buffer: PinnedBuffer) {
        assert!(buffer.byte_count() >= self.byte_count, "bug: a pinned buffer of another tensor");
        self.memory = Memory::Pinned(buffer);
    }

    fn byte_range(&self, samples: Range<usize>) -> Range<usize> {
        if !self.spec.is_batched {
            return 0..self.byte_count;
        }
        let bytes = self.spec.byte_count();
        samples.start * bytes..samples.end * bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> TensorSpec {
        TensorSpec { name: "images".into(), data_type: DataType::F32, shape: vec![3], is_batched: true }
    }

    #[test]
    fn a_sample_is_a_slice_of_the_batch() {
        let mut tensor = HostTensor::zeroed(&images(), 4);
        tensor.samples_mut(2..3).copy_from_slice(bytemuck::cast_slice(&[1f32, 2.0, 3.0]));
        assert_eq!(tensor.shape(), [4, 3]);
        assert_eq!(tensor.elements::<f32>()[6..9], [1.0, 2.0, 3.0]);
    }

    #[test]
    fn an_output_takes_the_shape_of_its_result() {
        let mut tensor = HostTensor::zeroed(&images(), 1);
        tensor.reshape(&[5, 3]);
        assert_eq!(tensor.bytes().len(), 60);
        tensor.reshape(&[1, 3]);
        assert_eq!(tensor.elements::<f32>().len(), 3);
    }
}
