//! What goes into a network and what comes out of it, with every dimension but the batch fixed.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::DataType;
use crate::error::{Error, Result};

/// One input or output of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Its name in the model.
    pub name: String,
    /// Type of its elements, as the model declares it.
    pub data_type: DataType,
    /// Its shape: of one sample without the batch dimension where `is_batched`, else as a whole.
    pub shape: Vec<usize>,
    /// Whether its first dimension is the batch.
    pub is_batched: bool,
}

impl TensorSpec {
    /// The whole shape at a batch size.
    pub fn shape_at(&self, batch_size: usize) -> Vec<usize> {
        let batch = self.is_batched.then_some(batch_size);
        batch.into_iter().chain(self.shape.iter().copied()).collect()
    }

    /// Elements of one sample, or of the whole tensor where it is not batched.
    pub fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of one sample, or of the whole tensor where it is not batched.
    pub fn byte_count(&self) -> usize {
        self.element_count() * self.data_type.byte_count()
    }

    /// Bytes of the whole tensor at a batch size; sizes that no memory holds stop at the largest number.
    pub fn byte_count_at(&self, batch_size: usize) -> usize {
        self.byte_count().saturating_mul(if self.is_batched { batch_size } else { 1 })
    }
}

/// What goes in and what comes out of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Inputs, in the model's order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, in the model's order.
    pub outputs: Vec<TensorSpec>,
    /// Smallest and largest number of samples of one execution.
    pub batch_sizes: RangeInclusive<usize>,
}

impl Signature {
    /// Whether requests of several callers may run in one execution: every tensor has a batch dimension.
    pub fn is_batchable(&self) -> bool {
        *self.batch_sizes.end() > 1 && self.is_batched()
    }

    /// Whether every tensor has a batch dimension.
    pub fn is_batched(&self) -> bool {
        self.inputs.iter().chain(&self.outputs).all(|tensor| tensor.is_batched)
    }

    /// The whole shape of every input at a batch size, as [`Model::infer_shapes`](super::Model::infer_shapes)
    /// takes them.
    pub fn input_shapes(&self, batch_size: usize) -> BTreeMap<String, Vec<usize>> {
        self.inputs.iter().map(|input| (input.name.clone(), input.shape_at(batch_size))).collect()
    }

    /// Position of an input.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`] with the names that exist.
    pub fn input_index(&self, name: &str) -> Result<usize> {
        position(&self.inputs, "input", name)
    }

    /// Position of an output.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`] with the names that exist.
    pub fn output_index(&self, name: &str) -> Result<usize> {
        position(&self.outputs, "output", name)
    }
}

fn position(tensors: &[TensorSpec], role: &'static str, name: &str) -> Result<usize> {
    tensors.iter().position(|tensor| tensor.name == name).ok_or_else(|| Error::UnknownTensor {
        role,
        name: name.to_owned(),
        known: tensors.iter().map(|tensor| tensor.name.clone()).collect(),
    })
}
