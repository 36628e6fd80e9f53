//! What a model's file declares about its inputs and outputs.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::DataType;
use super::proto::tensor_proto::DataType as OnnxDataType;
use super::proto::tensor_shape_proto::dimension::Value;
use super::proto::type_proto::Value as Type;
use super::proto::{GraphProto, TensorShapeProto, ValueInfoProto};
use crate::error::{Error, Result};

/// An input or output as the model declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub data_type: DataType,
    /// Its dimensions, batch included. Empty for a scalar, and where the model does not even say how many
    /// there are.
    pub shape: Vec<Dimension>,
}

/// One dimension of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Always this size.
    Fixed(usize),
    /// Any size. Dimensions with the same symbol have the same size; the symbol may be empty.
    Open(String),
}

impl TensorInfo {
    /// Its shape for people: `[batch, 3, 224, 224]`, with `?` for a dimension without a symbol.
    pub fn display_shape(&self) -> String {
        let dimensions: Vec<_> = self.shape.iter().map(ToString::to_string).collect();
        format!("[{}]", dimensions.join(", "))
    }
}

/// The name, the type and the shape: `images f32 [batch, 3, 224, 224]`.
impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.data_type, self.display_shape())
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Open(symbol) if symbol.is_empty() => f.write_str("?"),
            Self::Open(symbol) => f.write_str(symbol),
        }
    }
}

/// The graph's inputs that are no initializers. Old files (before IR version 4) list both together.
pub(super) fn inputs(graph: &GraphProto) -> Result<Vec<TensorInfo>> {
    let initializers: HashSet<_> = graph.initializer.iter().map(super::proto::TensorProto::name).collect();
    let given = graph.input.iter().filter(|input| !initializers.contains(input.name()));
    given.map(|input| tensor_info("input", input)).collect()
}

/// The graph's outputs.
pub(super) fn outputs(graph: &GraphProto) -> Result<Vec<TensorInfo>> {
    graph.output.iter().map(|output| tensor_info("output", output)).collect()
}

/// The declared shape; `None` where the file does not say how many dimensions there are.
pub(super) fn declared_shape(value: &ValueInfoProto) -> Option<Vec<Dimension>> {
    match value.r#type.as_ref()?.value.as_ref()? {
        Type::TensorType(tensor) => tensor.shape.as_ref().map(dimensions),
        _ => None,
    }
}

/// The declared element type, where it is a tensor of one that we know.
pub(super) fn declared_type(value: &ValueInfoProto) -> Option<DataType> {
    match value.r#type.as_ref()?.value.as_ref()? {
        Type::TensorType(tensor) => DataType::from_onnx(tensor.elem_type()),
        _ => None,
    }
}

/// Sizes of zero and below are what some exporters write for an open dimension.
fn dimensions(shape: &TensorShapeProto) -> Vec<Dimension> {
    let dimension = |value: &Option<Value>| match value {
        Some(Value::DimValue(size)) => match usize::try_from(*size) {
            Ok(size) if size > 0 => Dimension::Fixed(size),
            _ => Dimension::Open(String::new()),
        },
        Some(Value::DimParam(symbol)) => Dimension::Open(symbol.clone()),
        None => Dimension::Open(String::new()),
    };
    shape.dim.iter().map(|dim| dimension(&dim.value)).collect()
}

fn tensor_info(role: &str, value: &ValueInfoProto) -> Result<TensorInfo> {
    let name = value.name().to_owned();
    let data_type = declared_type(value).ok_or_else(|| Error::DataTypeMismatch {
        tensor: name.clone(),
        expected: format!("a tensor of numbers or booleans as {role}"),
        got: describe_type(value),
    })?;
    Ok(TensorInfo { name, data_type, shape: declared_shape(value).unwrap_or_default() })
}

fn describe_type(value: &ValueInfoProto) -> String {
    let kind = match value.r#type.as_ref().and_then(|declared| declared.value.as_ref()) {
        Some(Type::TensorType(tensor)) => {
            let data_type = OnnxDataType::try_from(tensor.elem_type()).unwrap_or(OnnxDataType::Undefined);
            return format!("a tensor of {}", data_type.as_str_name().to_lowercase());
        }
        Some(Type::SequenceType(_)) => "a sequence",
        Some(Type::MapType(_)) => "a map",
        Some(Type::OptionalType(_)) => "an optional value",
        Some(Type::SparseTensorType(_)) => "a sparse tensor",
        Some(Type::OpaqueType(_)) => "an opaque value",
        None => "nothing declared",
    };
    kind.into()
}
