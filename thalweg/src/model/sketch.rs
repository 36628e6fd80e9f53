//! Small models for tests, drawn in a few lines.

use super::Model;
use super::proto::tensor_proto::DataType as OnnxDataType;
use super::proto::tensor_shape_proto::{Dimension, dimension::Value};
use super::proto::type_proto::{Tensor, Value as Type};
use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
};
use crate::error::Result;

/// A model in the making.
#[derive(Clone)]
pub struct Sketch {
    pub graph: GraphProto,
}

impl Sketch {
    pub fn new() -> Self {
        Self { graph: GraphProto { name: Some("sketch".into()), ..Default::default() } }
    }

    /// An `f32` input. Its shape as text: `batch,3,?`.
    pub fn input(mut self, name: &str, shape: &str) -> Self {
        self.graph.input.push(value(name, Some(shape)));
        self
    }

    /// An `f32` output of undeclared shape.
    pub fn output(mut self, name: &str) -> Self {
        self.graph.output.push(value(name, None));
        self
    }

    /// An `f32` output of declared shape.
    pub fn declared_output(mut self, name: &str, shape: &str) -> Self {
        self.graph.output.push(value(name, Some(shape)));
        self
    }

    /// An `f32` initializer of ones.
    pub fn weights(mut self, name: &str, dims: &[i64]) -> Self {
        let count = usize::try_from(dims.iter().product::<i64>()).unwrap();
        self.graph.initializer.push(TensorProto {
            name: Some(name.into()),
            dims: dims.to_vec(),
            data_type: Some(OnnxDataType::Float as i32),
            float_data: vec![1.0; count],
            ..Default::default()
        });
        self
    }

    /// A list of integers as initializer.
    pub fn integers(mut self, name: &str, values: &[i64]) -> Self {
        self.graph.initializer.push(TensorProto {
            name: Some(name.into()),
            dims: vec![i64::try_from(values.len()).unwrap()],
            data_type: Some(OnnxDataType::Int64 as i32),
            int64_data: values.to_vec(),
            ..Default::default()
        });
        self
    }

    /// A node, as `y = Conv(x, w)`; an empty place is an input that is left out.
    pub fn node(mut self, line: &str, attributes: &[AttributeProto]) -> Self {
        self.graph.node.push(node(line, attributes));
        self
    }

    pub fn proto(self) -> ModelProto {
        ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
            graph: Some(self.graph),
            ..Default::default()
        }
    }

    pub fn check(self) -> Result<Model> {
        Model::from_proto(self.proto(), "sketch.onnx")
    }

    pub fn model(self) -> Model {
        self.check().unwrap()
    }
}

pub fn node(line: &str, attributes: &[AttributeProto]) -> NodeProto {
    let (outputs, call) = line.split_once('=').unwrap();
    let (operator, inputs) = call.trim().split_once('(').unwrap();
    let names = |list: &str| list.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
    let inputs = inputs.trim_end_matches(')');
    NodeProto {
        input: if inputs.is_empty() { Vec::new() } else { names(inputs) },
        output: names(outputs),
        op_type: Some(operator.into()),
        attribute: attributes.to_vec(),
        ..Default::default()
    }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), i: Some(value), ..Default::default() }
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: Some(name.into()), ints: values.to_vec(), ..Default::default() }
}

pub fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { name: Some(name.into()), s: Some(value.to_owned().into()), ..Default::default() }
}

pub fn tensor(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto { name: Some(name.into()), t: Some(value), ..Default::default() }
}

pub fn graph(name: &str, value: GraphProto) -> AttributeProto {
    AttributeProto { name: Some(name.into()), g: Some(value), ..Default::default() }
}

pub fn value(name: &str, shape: Option<&str>) -> ValueInfoProto {
    let tensor = Tensor { elem_type: Some(OnnxDataType::Float as i32), shape: shape.map(shape_proto) };
    let declared = TypeProto { value: Some(Type::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(declared), ..Default::default() }
}

fn shape_proto(text: &str) -> TensorShapeProto {
    let value = |part: &str| match part.parse() {
        Ok(size) => Value::DimValue(size),
        Err(_) => Value::DimParam(part.into()),
    };
    let parts = text.split(',').filter(|part| !part.is_empty());
    let dim = parts.map(|part| Dimension { value: Some(value(part)), ..Default::default() }).collect();
    TensorShapeProto { dim }
}
