//! Inputs and outputs of an engine, in our words.

use std::ops::RangeInclusive;

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
/// [`Error::DataTypeMismatch`] for a type that we have no name for, [`Error::InvalidSetting`] for a tensor that lies in host
/// memory or in a layout of TensorRT's own, and for an output whose size only the execution tells or which does not grow
/// with the batch as the inputs do.
pub(super) fn signature(engine: &Engine, declared: Option<&Signature>) -> Result<Signature> {
    engine.tensors().iter().try_for_each(check_place)?;
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
        None => outputs_by_trial(engine, &inputs, &batch_sizes)?,
    };
    Ok(Signature { inputs, outputs, batch_sizes })
}

fn check_place(tensor: &EngineTensor) -> Result<()> {
    if tensor.location == TensorLocation::Host {
        let reason = "its values are shapes, which have to be fixed when the engine is built";
        return Err(unusable(&tensor.name, reason));
    }
    if !tensor.is_linear {
        let reason = "it has a layout of TensorRT's own: build the engine with linear inputs and outputs (trtexec: \
                      without --inputIOFormats and --outputIOFormats, or with :chw)";
        return Err(unusable(&tensor.name, reason));
    }
    Ok(())
}

fn input(engine: &Engine, tensor: &EngineTensor, declared: Option<&Signature>) -> Result<TensorSpec> {
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
fn batch_sizes(engine: &Engine) -> Result<RangeInclusive<usize>> {
    let mut inputs = engine.tensors().iter().filter(|tensor| tensor.mode == TensorMode::Input);
    let Some(batched) = inputs.find(|tensor| tensor.shape.first() == Some(&-1)) else { return Ok(1..=1) };
    let range = engine.profile_shapes(&batched.name, 0)?;
    Ok(dimension(range.min[0])..=dimension(range.max[0]))
}

/// Sets the inputs to the smallest and to the largest batch in a context and reads the outputs' shapes.
fn outputs_by_trial(
    engine: &Engine,
    inputs: &[TensorSpec],
    batch_sizes: &RangeInclusive<usize>,
) -> Result<Vec<TensorSpec>> {
    let outputs = || engine.tensors().iter().filter(|tensor| tensor.mode == TensorMode::Output);
    let mut context = engine.create_execution_context(tensorrt::Activations::UserManaged)?;
    let mut shapes_at = |batch_size: usize| -> Result<Vec<Vec<i64>>> {
        for input in inputs.iter().filter(|input| is_open(engine, &input.name)) {
            context.set_input_shape(&input.name, &super::build::shape(input, batch_size))?;
        }
        context.infer_shapes()?;
        outputs().map(|tensor| Ok(context.tensor_shape(&tensor.name)?)).collect()
    };
    let (least, most) = (shapes_at(*batch_sizes.start())?, shapes_at(*batch_sizes.end())?);
    let spec = |(tensor, (least, most)): (&EngineTensor, (&Vec<i64>, &Vec<i64>))| {
        let (is_batched, shape) = shape_of_sample(tensor, (least, most), batch_sizes)?;
        Ok(TensorSpec { name: tensor.name.clone(), data_type: data_type(tensor)?, shape, is_batched })
    };
    outputs().zip(least.iter().zip(&most)).map(spec).collect()
}

/// Whether an output has the batch in front, and the shape of what is behind it, from its shapes at the smallest and at the
/// largest batch.
fn shape_of_sample(
    output: &EngineTensor,
    (least, most): (&[i64], &[i64]),
    batch_sizes: &RangeInclusive<usize>,
) -> Result<(bool, Vec<usize>)> {
    if most.contains(&-1) {
        return Err(unusable(&output.name, "its size depends on what the network computes"));
    }
    let is_batched = output.shape.first() == Some(&-1);
    let skipped = usize::from(is_batched);
    let has_batch =
        |sizes: &[i64], batch: usize| !is_batched || sizes.first().map(|it| dimension(*it)) == Some(batch);
    let follows = has_batch(least, *batch_sizes.start()) && has_batch(most, *batch_sizes.end());
    if !follows || least.get(skipped..) != most.get(skipped..) {
        let (first, last) = (batch_sizes.start(), batch_sizes.end());
        let reason = format!(
            "it is {least:?} at batch {first} and {most:?} at batch {last}: only its first dimension may be the batch, \
             and nothing else may change with it"
        );
        return Err(unusable(&output.name, &reason));
    }
    Ok((is_batched, most.iter().skip(skipped).map(|size| dimension(*size)).collect()))
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
                expected: "a type that is known here".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn output(shape: &[i64]) -> EngineTensor {
        EngineTensor {
            name: "y".to_owned(),
            mode: TensorMode::Output,
            data_type: tensorrt::DataType::Float32,
            shape: shape.to_vec(),
            location: TensorLocation::Device,
            is_linear: true,
        }
    }

    #[test]
    fn an_output_grows_with_the_batch_in_front_or_not_at_all() {
        let told = |declared: &[i64], least: &[i64], most: &[i64]| {
            shape_of_sample(&output(declared), (least, most), &(1..=8)).map_err(|error| error.to_string())
        };
        assert_eq!(told(&[-1, 10], &[1, 10], &[8, 10]), Ok((true, vec![10])));
        assert_eq!(told(&[3, 10], &[3, 10], &[3, 10]), Ok((false, vec![3, 10])));
        for (declared, least, most) in [
            // The batch is the second dimension, or a part of the first, or squared.
            (vec![5, -1, 10], vec![5, 1, 10], vec![5, 8, 10]),
            (vec![-1, 10], vec![4, 10], vec![32, 10]),
            (vec![-1, -1], vec![1, 1], vec![8, 8]),
        ] {
            let reason = told(&declared, &least, &most).unwrap_err();
            assert!(
                reason.contains(&format!("it is {least:?} at batch 1 and {most:?} at batch 8")),
                "{reason}"
            );
        }
        let open = told(&[-1, -1], &[1, -1], &[8, -1]).unwrap_err();
        assert!(open.contains("depends on what the network computes"), "{open}");
    }

    #[test]
    fn a_tensor_that_is_padded_or_lies_on_the_host_is_refused() {
        assert!(check_place(&output(&[-1, 3])).is_ok());
        let padded = EngineTensor { is_linear: false, ..output(&[-1, 3]) };
        assert!(check_place(&padded).unwrap_err().to_string().contains("--inputIOFormats"));
        let on_host = EngineTensor { location: TensorLocation::Host, ..output(&[2]) };
        assert!(check_place(&on_host).unwrap_err().to_string().contains("its values are shapes"));
    }
}
