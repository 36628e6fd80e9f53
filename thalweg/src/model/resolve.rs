//! From declared shapes and a user's choices to a [`Signature`]: which dimension is the batch, and how large
//! all others are.

use std::collections::{BTreeMap, HashMap};

use super::shapes::{self, Shape, Shapes};
use super::{Dimension, Model, Signature, TensorInfo, TensorSpec, tensor_info};
use crate::error::{Error, Result};

type InputShapes = BTreeMap<String, Shape>;

/// A usual side of an image, for the example in a message.
const EXAMPLE_SIDE: usize = 224;
/// A usual number of colours.
const EXAMPLE_CHANNELS: usize = 3;
/// A short sequence: of words, of frames.
const EXAMPLE_LENGTH: usize = 16;

/// See [`Model::signature`].
pub fn signature(model: &Model, given: &InputShapes, max_batch_size: usize) -> Result<Signature> {
    if max_batch_size == 0 {
        return Err(batch_error(0, "a batch holds at least one sample".into()));
    }
    check_given(model, given)?;
    match open_batch_outputs(model, given) {
        Ok(outputs) => batched(model, given, outputs, max_batch_size),
        Err(reason) => not_open(model, given, max_batch_size, reason),
    }
}

/// The signature of a model with a fixed batch or none; `reason` says why it has no open one.
fn not_open(model: &Model, given: &InputShapes, max_batch_size: usize, reason: String) -> Result<Signature> {
    let inputs = input_shapes(model, given, None)?;
    let outputs = output_shapes(model, &shapes::infer(model, &inputs)?);
    match fixed_batch(model, &outputs) {
        Some(size) if max_batch_size == size || max_batch_size == 1 => {
            let sample = |shape: Shape| shape[1..].to_vec();
            let inputs = inputs.into_iter().map(|(name, shape)| (name, sample(shape))).collect();
            let outputs = outputs.into_iter().map(sample).collect();
            assemble(model, inputs, outputs, Some(size..=size))
        }
        Some(size) => {
            let reason = format!("the model has a fixed batch of {size}: use it, or export an open one");
            Err(batch_error(max_batch_size, reason))
        }
        None if max_batch_size > 1 => Err(batch_error(max_batch_size, reason)),
        None => assemble(model, inputs, outputs, None),
    }
}

/// See [`Model::infer_shapes`].
pub fn infer_shapes(model: &Model, given: &InputShapes) -> Result<Shapes> {
    check_given(model, given)?;
    shapes::infer(model, &input_shapes(model, given, None)?)
}

/// The outputs' shapes for one sample, where all inputs and, with them, all outputs start with an open batch
/// dimension; or else the reason why there is none. Found by trying it: what a file declares about its outputs
/// is often missing and sometimes wrong.
fn open_batch_outputs(model: &Model, given: &InputShapes) -> Result<Vec<Shape>, String> {
    let is_open = |tensor: &TensorInfo| matches!(tensor.shape.first(), Some(Dimension::Open(_)));
    if let Some(input) = model.inputs().iter().find(|input| !is_open(input)) {
        let shape = input.display_shape();
        return Err(format!("input `{}` {shape} has no open batch dimension", input.name));
    }
    if model.inputs().is_empty() {
        return Err("the model has no inputs".into());
    }
    let at = |batch_size| shapes::infer(model, &input_shapes(model, given, Some(batch_size))?);
    let (one, two) = (at(1).map_err(|error| error.to_string())?, at(2).map_err(|error| error.to_string())?);
    let sample = |output: &TensorInfo| {
        let inferred = (one.shape(&output.name), two.shape(&output.name));
        sample_shape(output, inferred).ok_or_else(|| {
            format!("output `{}` {} does not grow with the batch", output.name, output.display_shape())
        })
    };
    model.outputs().iter().map(sample).collect()
}

/// An output's shape for one sample, where its first dimension is the batch. Where it cannot be inferred, what
/// the file declares decides.
fn sample_shape(output: &TensorInfo, inferred: (Option<&[usize]>, Option<&[usize]>)) -> Option<Shape> {
    match inferred {
        (Some([1, one @ ..]), Some([2, two @ ..])) => (one == two).then(|| one.to_vec()),
        (Some(_), Some(_)) => None,
        _ => match output.shape.split_first()? {
            (Dimension::Open(_), rest) => Some(closed(rest)),
            (Dimension::Fixed(_), _) => None,
        },
    }
}

/// The fixed size above 1 that all tensors start with. For inputs only what is declared counts: sizes that were
/// given may be the same by chance.
fn fixed_batch(model: &Model, outputs: &[Shape]) -> Option<usize> {
    let first = |input: &TensorInfo| match input.shape.first() {
        Some(Dimension::Fixed(size)) => Some(*size),
        _ => None,
    };
    let outputs = outputs.iter().map(|shape| shape.first().copied());
    let mut sizes = model.inputs().iter().map(first).chain(outputs);
    let size = sizes.next()?.filter(|size| *size > 1)?;
    sizes.all(|other| other == Some(size)).then_some(size)
}

fn batched(model: &Model, given: &InputShapes, outputs: Vec<Shape>, largest: usize) -> Result<Signature> {
    let whole = input_shapes(model, given, Some(1))?;
    let inputs = whole.into_iter().map(|(name, shape)| (name, shape[1..].to_vec())).collect();
    assemble(model, inputs, outputs, Some(1..=largest))
}

fn assemble(
    model: &Model,
    inputs: InputShapes,
    outputs: Vec<Shape>,
    batch_sizes: Option<std::ops::RangeInclusive<usize>>,
) -> Result<Signature> {
    let is_batched = batch_sizes.is_some();
    let batch_sizes = batch_sizes.unwrap_or(1..=1);
    let spec = |tensor: &TensorInfo, shape: Shape| {
        let TensorInfo { name, data_type, .. } = tensor.clone();
        let spec = TensorSpec { name, data_type, shape, is_batched };
        check_size(&spec, *batch_sizes.end()).map(|()| spec)
    };
    let mut inputs = inputs;
    let inputs =
        model.inputs().iter().map(|input| spec(input, inputs.remove(&input.name).unwrap_or_default()));
    let inputs = inputs.collect::<Result<_>>()?;
    let outputs = model.outputs().iter().zip(outputs).map(|(output, shape)| spec(output, shape));
    let outputs = outputs.collect::<Result<_>>()?;
    Ok(Signature { inputs, outputs, batch_sizes })
}

/// Whether a whole batch of it can be addressed at all.
fn check_size(spec: &TensorSpec, batch_size: usize) -> Result<()> {
    let mut factors = spec.shape.iter().chain([&batch_size]);
    let bytes = factors.try_fold(spec.data_type.byte_count(), |product, size| product.checked_mul(*size));
    match bytes {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => Err(Error::ShapeMismatch {
            tensor: spec.name.clone(),
            expected: "a tensor that fits in memory".into(),
            got: format!("{:?} times a batch of {batch_size}", spec.shape),
        }),
    }
}

/// Whether the given shapes name inputs and agree with what these declare.
fn check_given(model: &Model, given: &InputShapes) -> Result<()> {
    for (name, shape) in given {
        let input = model.inputs().iter().find(|input| input.name == *name);
        let input = input.ok_or_else(|| Error::UnknownTensor {
            role: "input",
            name: name.clone(),
            known: model.inputs().iter().map(|input| input.name.clone()).collect(),
        })?;
        let fits = declared(model, input).is_none_or(|dimensions| {
            let same = |(dimension, size): (&Dimension, &usize)| match dimension {
                Dimension::Fixed(fixed) => fixed == size,
                Dimension::Open(_) => true,
            };
            dimensions.len() == shape.len() && dimensions.iter().zip(shape).all(same)
        });
        if !fits || shape.contains(&0) {
            return Err(Error::ShapeMismatch {
                tensor: name.clone(),
                expected: input.display_shape(),
                got: format!("{shape:?}"),
            });
        }
    }
    Ok(())
}

/// The whole shape of every input. `batch_size` replaces every first dimension; without one, an open first
/// dimension that is not given becomes 1. Dimensions with the same symbol as a given one take its size.
fn input_shapes(model: &Model, given: &InputShapes, batch_size: Option<usize>) -> Result<InputShapes> {
    let symbols = symbols(model, given);
    let shape_of = |input: &TensorInfo| {
        let mut shape = match (given.get(&input.name), declared(model, input)) {
            (Some(given), _) => given.clone(),
            (None, Some(dimensions)) => {
                let sizes = dimensions.iter().enumerate().map(|(axis, dimension)| match dimension {
                    Dimension::Fixed(size) => Some(*size),
                    Dimension::Open(symbol) => symbols.get(symbol).copied().or((axis == 0).then_some(1)),
                });
                sizes.collect::<Option<Shape>>().ok_or_else(|| open_dimension(input, &dimensions))?
            }
            (None, None) => return Err(open_dimension(input, &[])),
        };
        if let (Some(batch_size), Some(first)) = (batch_size, shape.first_mut()) {
            *first = batch_size;
        }
        Ok((input.name.clone(), shape))
    };
    model.inputs().iter().map(shape_of).collect()
}

/// The sizes that the given shapes bind to symbols.
fn symbols(model: &Model, given: &InputShapes) -> HashMap<String, usize> {
    let mut symbols = HashMap::new();
    for input in model.inputs() {
        let shape = given.get(&input.name).map(Vec::as_slice).unwrap_or_default();
        for (dimension, size) in input.shape.iter().zip(shape) {
            if let Dimension::Open(symbol) = dimension
                && !matches!(symbol.as_str(), "" | "?")
            {
                symbols.entry(symbol.clone()).or_insert(*size);
            }
        }
    }
    symbols
}

/// The outputs' shapes: inferred, or as declared with open dimensions of 1. Where not even their number is
/// declared the shape is empty; a backend knows better after the first run.
fn output_shapes(model: &Model, shapes: &Shapes) -> Vec<Shape> {
    let shape =
        |output: &TensorInfo| shapes.shape(&output.name).map_or_else(|| closed(&output.shape), <[_]>::to_vec);
    model.outputs().iter().map(shape).collect()
}

fn closed(dimensions: &[Dimension]) -> Shape {
    let size = |dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => *size,
        Dimension::Open(_) => 1,
    };
    dimensions.iter().map(size).collect()
}

fn declared(model: &Model, input: &TensorInfo) -> Option<Vec<Dimension>> {
    let value = model.graph().input.iter().find(|value| value.name() == input.name)?;
    tensor_info::declared_shape(value)
}

fn open_dimension(input: &TensorInfo, dimensions: &[Dimension]) -> Error {
    let shape = if dimensions.is_empty() { "of unknown shape".into() } else { input.display_shape() };
    Error::OpenDimension { tensor: input.name.clone(), shape, example: example(dimensions) }
}

/// A shape that would do, as the command line takes it: images for four dimensions, short sequences otherwise.
fn example(dimensions: &[Dimension]) -> String {
    let has_channels_last = matches!(dimensions.last(), Some(Dimension::Fixed(1..=4)));
    let open = |axis: usize| match (dimensions.len(), axis) {
        (_, 0) => 1,
        (4, 1) if !has_channels_last => EXAMPLE_CHANNELS,
        (4, _) => EXAMPLE_SIDE,
        _ => EXAMPLE_LENGTH,
    };
    let size = |(axis, dimension): (usize, &Dimension)| match dimension {
        Dimension::Fixed(size) => size.to_string(),
        Dimension::Open(_) => open(axis).to_string(),
    };
    if dimensions.is_empty() {
        return format!("1x{EXAMPLE_CHANNELS}x{EXAMPLE_SIDE}x{EXAMPLE_SIDE}");
    }
    dimensions.iter().enumerate().map(size).collect::<Vec<_>>().join("x")
}

fn batch_error(value: usize, reason: String) -> Error {
    Error::InvalidSetting { name: "batch", value: value.to_string(), reason }
}

#[cfg(test)]
mod tests;
