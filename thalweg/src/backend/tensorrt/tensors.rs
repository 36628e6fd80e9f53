//! Inputs and outputs of an engine, in our words.

use thalweg_nvidia::tensorrt::{self, Engine, EngineTensor, TensorLocation, TensorMode};

use crate::error::{Error, Result};
use crate::model::{DataType, Signature, TensorSpec};

/// What goes into an engine and what comes out, in the engine's order and with its types: TensorRT 8 makes 32-bit
/// integers of 64-bit ones.
///
/// `declared` is what the model said. Without it, as for a plan of somebody else's, a first dimension that is
/// open is the batch, and other open dimensions have the size that the profile was tuned for.
///
/// # Errors
/// [`Error::DataTypeMismatch`] for a type that we have no name for, [`Error::InvalidSetting`] for an input that
/// lies in host memory or an output whose size only the execution tells.
pub(super) fn signature(engine: &Engine, declared: Option<&Signature>) -> Result<Signature> {
    let of = |mode| engine.tensors().iter().filter(move |tensor| tensor.mode == mode);
    let inputs: Result<Vec<_>> =
        of(TensorMode::Input).map(|tensor| input(engine, tensor, declared)).collect();
    let inputs = inputs?;
    let batch_sizes = match declared {
        Some(declared) => declared.batch_sizes.clone(),
        None => batch_sizes(engine)?,
    };
    let outputs = match declared {
        Some(declared) => {
            of(TensorMode::Output).map(|tensor| output(tensor, declared)).collect::<Result<_>>()?
        }
        None => outputs_by_trial(engine, &inputs, *batch_sizes.end())?,
    };
    Ok(Signature { inputs, outputs, batch_sizes })
}

fn input(engine: &Engine, tensor: &EngineTensor, declared: Option<&Signature>) -> Result<TensorSpec> {
    if tensor.location == TensorLocation::Host {
        return Err(unusable(
            &tensor.name,
            "its values are shapes, which have to be fixed when the engine is built",
        ));
    }
    let data_type = data_type(tensor)?;
    if let Some(declared) = declared {
        let known = &declared.inputs[declared.input_index(&tensor.name)?];
        return Ok(TensorSpec { data_type, ..known.clone() });
    }
    let is_batched = tensor.shape.first() == Some(&-1);
    let sizes = match tensor.shape.contains(&-1) {
        true => engine.profile_shapes(&tensor.name, 0)?.opt,
        false => tensor.shape.clone(),
    };
    let shape = sizes.iter().skip(usize::from(is_batched)).map(|size| dimension(*size)).collect();
    Ok(TensorSpec { name: tensor.name.clone(), data_type, shape, is_batched })
}

fn output(tensor: &EngineTensor, declared: &Signature) -> Result<TensorSpec> {
    let known = &declared.outputs[declared.output_index(&tensor.name)?];
    Ok(TensorSpec { data_type: data_type(tensor)?, ..known.clone() })
}

/// The batch sizes that the first profile allows.
fn batch_sizes(engine: &Engine) -> Result<std::ops::RangeInclusive<usize>> {
    let mut inputs = engine.tensors().iter().filter(|tensor| tensor.mode == TensorMode::Input);
    let Some(batched) = inputs.find(|tensor| tensor.shape.first() == Some(&-1)) else { return Ok(1..=1) };
    let range = engine.profile_shapes(&batched.name, 0)?;
    Ok(dimension(range.min[0])..=dimension(range.max[0]))
}

/// Sets the inputs to the largest batch in a context and reads the outputs' shapes.
fn outputs_by_trial(engine: &Engine, inputs: &[TensorSpec], batch_size: usize) -> Result<Vec<TensorSpec>> {
    let mut context = engine.create_execution_context(tensorrt::Activations::UserManaged)?;
    for input in inputs.iter().filter(|input| is_open(engine, &input.name)) {
        context.set_input_shape(&input.name, &super::build::shape(input, batch_size))?;
    }
    context.infer_shapes()?;
    let outputs = engine.tensors().iter().filter(|tensor| tensor.mode == TensorMode::Output);
    let spec = |tensor: &EngineTensor| {
        let sizes = context.tensor_shape(&tensor.name)?;
        if sizes.contains(&-1) {
            return Err(unusable(&tensor.name, "its size depends on what the network computes"));
        }
        let is_batched = tensor.shape.first() == Some(&-1);
        let shape = sizes.iter().skip(usize::from(is_batched)).map(|size| dimension(*size)).collect();
        Ok(TensorSpec { name: tensor.name.clone(), data_type: data_type(tensor)?, shape, is_batched })
    };
    outputs.map(spec).collect()
}

/// Whether TensorRT has to be told the shape of this input.
pub(super) fn is_open(engine: &Engine, input: &str) -> bool {
    engine.tensors().iter().any(|tensor| tensor.name == input && tensor.shape.contains(&-1))
}

fn data_type(tensor: &EngineTensor) -> Result<DataType> {
    Ok(match tensor.data_type {
        tensorrt::DataType::Float32 => DataType::F32,
        tensorrt::DataType::Float16 => DataType::F16,
        tensorrt::DataType::BFloat16 => DataType::BF16,
        tensorrt::DataType::Int8 => DataType::I8,
        tensorrt::DataType::Uint8 => DataType::U8,
        tensorrt::DataType::Int32 => DataType::I32,
        tensorrt::DataType::Int64 => DataType::I64,
        tensorrt::DataType::Bool => DataType::Bool,
        other => {
            return Err(Error::DataTypeMismatch {
                tensor: tensor.name.clone(),
                expected: "a type of whole bytes".to_owned(),
                got: format!("{other:?}"),
            });
        }
    })
}

fn dimension(size: i64) -> usize {
    usize::try_from(size).unwrap_or(0)
}

fn unusable(tensor: &str, reason: &str) -> Error {
    Error::InvalidSetting { name: "tensor", value: tensor.to_owned(), reason: reason.to_owned() }
}
