//! The element type of a node's outputs.

use super::super::{DataType, tensor_info};
use super::call::Call;
use super::rules::KNOWN_DOMAINS;

/// The type of one output. Where nothing else is said it is that of the first input.
pub fn of_output(call: &Call<'_>, index: usize) -> Option<DataType> {
    let input = |index: usize| call.input(index).and_then(|value| value.data_type);
    match (call.node.op_type(), index) {
        // The first output of a loop's body is its condition, which the loop keeps to itself.
        ("Loop", _) => body_output(call, index + 1),
        ("Scan", _) => body_output(call, index),
        // What these hand out is said elsewhere, or by nobody we know.
        ("If" | "TfIdfVectorizer", _) => None,
        _ if !KNOWN_DOMAINS.contains(&call.node.domain()) => None,
        ("Cast" | "BitCast", _) => attribute(call, "to"),
        ("CastLike", _) => input(1),
        ("Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero" | "NonMaxSuppression", _)
        | ("TopK" | "MaxPool", 1) => Some(DataType::I64),
        ("Unique", 1..) => Some(DataType::I64),
        (
            "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" | "Not" | "And" | "Or" | "Xor"
            | "IsNaN" | "IsInf",
            _,
        )
        | ("Dropout", 1) => Some(DataType::Bool),
        ("Where", _) => input(1).or_else(|| input(2)),
        ("Constant", _) => constant(call),
        ("ConstantOfShape", _) => match call.node.tensor("value") {
            Some(value) => DataType::from_onnx(value.data_type()),
            None => Some(DataType::F32),
        },
        ("RandomNormal" | "RandomUniform", _) => attribute(call, "dtype").or(Some(DataType::F32)),
        ("RandomNormalLike" | "RandomUniformLike" | "EyeLike" | "Bernoulli", _) => {
            attribute(call, "dtype").or_else(|| input(0))
        }
        ("OneHot", _) => input(2),
        ("QuantizeLinear", _) => input(2).or_else(|| attribute(call, "output_dtype")).or(Some(DataType::U8)),
        ("DequantizeLinear", _) => input(1),
        ("DynamicQuantizeLinear", 0) => Some(DataType::U8),
        ("DynamicQuantizeLinear", 1) => Some(DataType::F32),
        ("DynamicQuantizeLinear", _) => Some(DataType::U8),
        ("ConvInteger" | "MatMulInteger", _) => Some(DataType::I32),
        ("MatMulIntegerToFloat", _) => input(2),
        ("DynamicQuantizeMatMul", _) => Some(DataType::F32),
        ("QLinearConv" | "QLinearMatMul", _) => input(7),
        _ => input(0),
    }
}

fn attribute(call: &Call<'_>, name: &str) -> Option<DataType> {
    DataType::from_onnx(i32::try_from(call.node.int(name)?).ok()?)
}

/// What the body of a loop declares about one of its outputs.
fn body_output(call: &Call<'_>, index: usize) -> Option<DataType> {
    let body = call.node.attribute("body")?.g.as_ref()?;
    tensor_info::declared_type(body.output.get(index)?)
}

fn constant(call: &Call<'_>) -> Option<DataType> {
    let attribute = call.node.attribute.first()?;
    match attribute.name() {
        "value" => DataType::from_onnx(attribute.t.as_ref()?.data_type()),
        "value_int" | "value_ints" => Some(DataType::I64),
        "value_float" | "value_floats" => Some(DataType::F32),
        _ => None,
    }
}
