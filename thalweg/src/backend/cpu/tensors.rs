//! Between the tensors of slots and those of rten.
//!
//! rten computes in `f32`, `i32`, `i8` and `u8` only. Inputs of these types are viewed where they are; all
//! others are converted on the way in and back on the way out, and a value that would not survive this is an
//! error. What goes wrong is told as a sentence; the caller knows which execution it belongs to.

use bytemuck::Pod;
use half::f16;
use rten::{Value, ValueOrView, ValueView};
use rten_tensor::prelude::*;
use rten_tensor::{Tensor, TensorView};

use crate::backend::HostTensor;
use crate::model::DataType;

/// What rten can take and give, directly or converted.
pub(super) const SUPPORTED_TYPES: [DataType; 8] = [
    DataType::F32,
    DataType::F16,
    DataType::F64,
    DataType::I8,
    DataType::U8,
    DataType::I32,
    DataType::I64,
    DataType::Bool,
];

/// The first `batch_size` samples of an input as rten takes them.
pub(super) fn view(tensor: &HostTensor, batch_size: usize) -> Result<ValueOrView<'_>, String> {
    let shape = tensor.spec().shape_at(batch_size);
    let bytes = tensor.samples(0..batch_size);
    match tensor.data_type() {
        DataType::F32 => viewed::<f32>(&shape, bytes),
        DataType::I32 => viewed::<i32>(&shape, bytes),
        DataType::I8 => viewed::<i8>(&shape, bytes),
        DataType::U8 => viewed::<u8>(&shape, bytes),
        DataType::F16 => converted(&shape, bytes, |half: f16| Ok(half.to_f32())),
        DataType::F64 => converted(&shape, bytes, |double: f64| Ok(narrowed(double))),
        DataType::Bool => converted(&shape, bytes, |byte: u8| Ok(i32::from(byte != 0))),
        DataType::I64 => converted(&shape, bytes, |long: i64| {
            i32::try_from(long).map_err(|_| {
                format!("input `{}` holds {long}, but rten computes i64 in 32 bits", tensor.spec().name)
            })
        }),
        other => Err(format!("input `{}` is {other}, which rten cannot take", tensor.spec().name)),
    }
}

/// Copies a result of rten into an output, which takes its shape.
pub(super) fn store(value: &Value, output: &mut HostTensor) -> Result<(), String> {
    output.reshape(&value.shape());
    match (value, output.data_type()) {
        (Value::FloatTensor(floats), DataType::F32) => fill(floats, output, |float| float),
        (Value::FloatTensor(floats), DataType::F16) => fill(floats, output, f16::from_f32),
        (Value::FloatTensor(floats), DataType::F64) => fill(floats, output, f64::from),
        (Value::Int32Tensor(ints), DataType::I32) => fill(ints, output, |int| int),
        (Value::Int32Tensor(ints), DataType::I64) => fill(ints, output, i64::from),
        (Value::Int32Tensor(ints), DataType::Bool) => fill(ints, output, |int| u8::from(int != 0)),
        (Value::Int8Tensor(bytes), DataType::I8) => fill(bytes, output, |byte| byte),
        (Value::UInt8Tensor(bytes), DataType::U8) => fill(bytes, output, |byte| byte),
        (value, declared) => {
            let name = &output.spec().name;
            return Err(format!(
                "output `{name}` is declared as {declared}, but rten computed {}",
                value.dtype()
            ));
        }
    }
    Ok(())
}

fn viewed<'a, T: Pod>(shape: &[usize], bytes: &'a [u8]) -> Result<ValueOrView<'a>, String>
where
    ValueView<'a>: From<TensorView<'a, T>>,
{
    let view = ValueView::from_shape(shape, bytemuck::cast_slice::<u8, T>(bytes));
    view.map(ValueOrView::from).map_err(|error| error.to_string())
}

fn converted<'a, S: Pod, T>(
    shape: &[usize],
    bytes: &[u8],
    convert: impl Fn(S) -> Result<T, String>,
) -> Result<ValueOrView<'a>, String>
where
    Value: From<Tensor<T>>,
{
    let elements = bytemuck::cast_slice::<u8, S>(bytes).iter().map(|&element| convert(element));
    let value = Value::from_shape(shape, elements.collect::<Result<Vec<T>, _>>()?);
    value.map(ValueOrView::from).map_err(|error| error.to_string())
}

fn fill<S: Copy, T: Pod>(result: &Tensor<S>, output: &mut HostTensor, convert: impl Fn(S) -> T) {
    // Results may be strided views, for example of a transposed tensor; contiguous ones are not copied here.
    let contiguous = result.to_contiguous();
    for (element, &result) in output.elements_mut::<T>().iter_mut().zip(contiguous.data()) {
        *element = convert(result);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rten has no f64; this rounds to the nearest f32")]
fn narrowed(double: f64) -> f32 {
    double as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TensorSpec;

    fn tensor_of<T: Pod>(data_type: DataType, elements: &[T]) -> HostTensor {
        let spec = TensorSpec { name: "t".into(), data_type, shape: vec![elements.len()], is_batched: false };
        let mut tensor = HostTensor::zeroed(&spec, 1);
        tensor.elements_mut::<T>().copy_from_slice(elements);
        tensor
    }

    /// What comes out of a network that hands its input through.
    fn through_rten(tensor: &HostTensor) -> HostTensor {
        let value = view(tensor, 1).unwrap().into_owned();
        let mut output = HostTensor::zeroed(tensor.spec(), 1);
        store(&value, &mut output).unwrap();
        output
    }

    #[test]
    fn every_supported_type_survives_the_way_in_and_out() {
        let halves = [f16::from_f32(-1.5), f16::MAX];
        let tensors = [
            tensor_of(DataType::F32, &[1.5f32, f32::MIN]),
            tensor_of(DataType::F16, &halves),
            tensor_of(DataType::F64, &[0.25f64, -3.0]),
            tensor_of(DataType::I8, &[-128i8, 127]),
            tensor_of(DataType::U8, &[0u8, 255]),
            tensor_of(DataType::I32, &[i32::MIN, i32::MAX]),
            tensor_of(DataType::I64, &[-5i64, i64::from(i32::MAX)]),
            tensor_of(DataType::Bool, &[0u8, 1]),
        ];
        for tensor in &tensors {
            assert_eq!(through_rten(tensor).bytes(), tensor.bytes(), "{}", tensor.data_type());
        }
        assert_eq!(tensors.each_ref().map(HostTensor::data_type), SUPPORTED_TYPES);
    }

    #[test]
    fn plain_types_are_viewed_and_not_copied() {
        let tensor = tensor_of(DataType::F32, &[1f32, 2.0]);
        let ValueOrView::View(ValueView::FloatTensor(floats)) = view(&tensor, 1).unwrap() else {
            panic!("not a view of floats");
        };
        assert_eq!(floats.data().unwrap().as_ptr(), tensor.elements::<f32>().as_ptr());
    }

    #[test]
    fn an_integer_beyond_32_bits_is_refused() {
        let reason = view(&tensor_of(DataType::I64, &[1i64 << 40]), 1).unwrap_err();
        assert_eq!(reason, "input `t` holds 1099511627776, but rten computes i64 in 32 bits");
    }

    #[test]
    fn a_smaller_batch_goes_in_at_its_own_shape() {
        let spec =
            TensorSpec { name: "t".into(), data_type: DataType::F32, shape: vec![2], is_batched: true };
        let tensor = HostTensor::zeroed(&spec, 4);
        assert_eq!(view(&tensor, 3).unwrap().shape().as_ref(), [3, 2]);
    }

    #[test]
    fn a_strided_result_is_stored_row_major() {
        let mut transposed = Tensor::from_data(&[2, 3], vec![1, 2, 3, 4, 5, 6]);
        transposed.transpose();
        let mut output = tensor_of(DataType::I32, &[0i32; 6]);
        store(&Value::from(transposed), &mut output).unwrap();
        assert_eq!(output.shape(), [3, 2]);
        assert_eq!(output.elements::<i32>(), [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn a_result_of_another_type_than_declared_is_an_error() {
        let mut output = tensor_of(DataType::F32, &[0f32]);
        let reason = store(&Value::from(Tensor::from(1i32)), &mut output).unwrap_err();
        assert!(reason.starts_with("output `t` is declared as f32, but rten computed"), "{reason}");
    }
}
