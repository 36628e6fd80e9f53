//! From declared shapes and a user's choices to a [`Signature`].

use std::collections::BTreeMap;

use super::{Dimension, Model, Signature, TensorInfo, TensorSpec};
use crate::error::{Error, Result};

type InputShapes = BTreeMap<String, Vec<usize>>;

/// See [`Model::signature`].
pub fn signature(model: &Model, input_shapes: &InputShapes, max_batch_size: usize) -> Result<Signature> {
    if max_batch_size == 0 {
        return Err(Error::InvalidSetting {
            name: "batch",
            value: "0".into(),
            reason: "a batch holds at least one sample".into(),
        });
    }
    for name in input_shapes.keys() {
        if !model.inputs().iter().any(|input| input.name == *name) {
            return Err(Error::UnknownTensor {
                role: "input",
                name: name.clone(),
                known: model.inputs().iter().map(|input| input.name.clone()).collect(),
            });
        }
    }
    let all = || model.inputs().iter().chain(model.outputs());
    let is_batched = all().all(|tensor| matches!(tensor.shape.first(), Some(Dimension::Open(_))));
    let inputs = model
        .inputs()
        .iter()
        .map(|input| input_spec(input, input_shapes.get(&input.name), is_batched))
        .collect::<Result<_>>()?;
    let outputs = model.outputs().iter().map(|output| declared_spec(output, is_batched)).collect();
    let largest = if is_batched { max_batch_size } else { 1 };
    Ok(Signature { inputs, outputs, batch_sizes: 1..=largest })
}

fn input_spec(input: &TensorInfo, given: Option<&Vec<usize>>, is_batched: bool) -> Result<TensorSpec> {
    let shape = match given {
        Some(given) => given.clone(),
        None => declared_sizes(input),
    };
    let shape = if is_batched { shape[1..].to_vec() } else { shape };
    Ok(TensorSpec { name: input.name.clone(), data_type: input.data_type, shape, is_batched })
}

fn declared_sizes(tensor: &TensorInfo) -> Vec<usize> {
    let size = |dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => *size,
        Dimension::Open(_) => 1,
    };
    tensor.shape.iter().map(size).collect()
}

fn declared_spec(tensor: &TensorInfo, is_batched: bool) -> TensorSpec {
    let shape = declared_sizes(tensor)[usize::from(is_batched)..].to_vec();
    TensorSpec { name: tensor.name.clone(), data_type: tensor.data_type, shape, is_batched }
}
