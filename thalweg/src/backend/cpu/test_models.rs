//! Tiny models for the tests of this backend, built message by message.

use bytes::Bytes;

use crate::model::Model;
use crate::model::proto::attribute_proto::AttributeType;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::tensor_shape_proto::{Dimension, dimension};
use crate::model::proto::type_proto;
use crate::model::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
};

/// Stands for the open batch dimension in [`value`].
pub const BATCH: i64 = -1;

pub fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    NodeProto {
        op_type: Some(op_type.into()),
        input: owned(inputs),
        output: owned(outputs),
        ..Default::default()
    }
}

pub fn with_attribute(mut node: NodeProto, attribute: AttributeProto) -> NodeProto {
    node.attribute.push(attribute);
    node
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    let r#type = Some(AttributeType::Int.into());
    AttributeProto { name: Some(name.into()), r#type, i: Some(value), ..Default::default() }
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let r#type = Some(AttributeType::Ints.into());
    AttributeProto { name: Some(name.into()), r#type, ints: values.to_vec(), ..Default::default() }
}

pub fn text(name: &str, value: &'static str) -> AttributeProto {
    let (r#type, s) = (Some(AttributeType::String.into()), Some(Bytes::from_static(value.as_bytes())));
    AttributeProto { name: Some(name.into()), r#type, s, ..Default::default() }
}

pub fn subgraph(name: &str, graph: GraphProto) -> AttributeProto {
    let r#type = Some(AttributeType::Graph.into());
    AttributeProto { name: Some(name.into()), r#type, g: Some(graph), ..Default::default() }
}

pub fn value(name: &str, data_type: OnnxDataType, shape: &[i64]) -> ValueInfoProto {
    let dimension = |&size: &i64| {
        let value = match size {
            BATCH => dimension::Value::DimParam("batch".into()),
            size => dimension::Value::DimValue(size),
        };
        Dimension { value: Some(value), ..Default::default() }
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dimension).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(data_type.into()), shape: Some(shape) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(r#type), ..Default::default() }
}

pub fn floats(name: &str, shape: &[i64], elements: &[f32]) -> TensorProto {
    weights(name, OnnxDataType::Float, shape, bytemuck::cast_slice(elements))
}

pub fn weights(name: &str, data_type: OnnxDataType, shape: &[i64], bytes: &[u8]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(data_type.into()),
        dims: shape.to_vec(),
        raw_data: Some(Bytes::copy_from_slice(bytes)),
        ..Default::default()
    }
}

pub fn graph(
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
) -> GraphProto {
    GraphProto {
        name: Some("test".into()),
        node: nodes,
        initializer: weights,
        input: inputs,
        output: outputs,
        ..Default::default()
    }
}

pub fn proto(graph: GraphProto, opset: i64) -> ModelProto {
    let domains = ["", "com.microsoft", "com.example"];
    let import = |domain: &str| {
        let version = if domain.is_empty() { opset } else { 1 };
        OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) }
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: domains.map(import).to_vec(),
        graph: Some(graph),
        ..Default::default()
    }
}

pub fn model(graph: GraphProto) -> Model {
    Model::from_proto(proto(graph, 17), "test.onnx").unwrap()
}

/// `y = relu(x W + b)`: `x` is `[batch, 2]`, W is `[[1, -1], [2, 1]]`, b is `[0.5, -1]`.
pub fn dense() -> Model {
    let nodes = vec![
        node("MatMul", &["x", "w"], &["xw"]),
        node("Add", &["xw", "b"], &["sum"]),
        node("Relu", &["sum"], &["y"]),
    ];
    let weights = vec![floats("w", &[2, 2], &[1.0, -1.0, 2.0, 1.0]), floats("b", &[2], &[0.5, -1.0])];
    let inputs = vec![value("x", OnnxDataType::Float, &[BATCH, 2])];
    model(graph(nodes, weights, inputs, vec![value("y", OnnxDataType::Float, &[BATCH, 2])]))
}

/// `y = x / -1` in 32-bit integers, over which rten panics where `x` is the smallest integer.
pub fn negated() -> Model {
    let divisor = weights("minus_one", OnnxDataType::Int32, &[1], bytemuck::cast_slice(&[-1i32]));
    let nodes = vec![node("Div", &["x", "minus_one"], &["y"])];
    let ends = |name| vec![value(name, OnnxDataType::Int32, &[BATCH, 1])];
    model(graph(nodes, vec![divisor], ends("x"), ends("y")))
}

/// `y = table[x]` with a table of three floats; other indices fail.
pub fn lookup() -> Model {
    let nodes = vec![node("Gather", &["table", "x"], &["y"])];
    let inputs = vec![value("x", OnnxDataType::Int64, &[BATCH])];
    let outputs = vec![value("y", OnnxDataType::Float, &[BATCH])];
    model(graph(nodes, vec![floats("table", &[3], &[10.0, 20.0, 30.0])], inputs, outputs))
}

/// Ten products of square matrices: some milliseconds of work.
pub fn slow() -> Model {
    const SIDE: i64 = 96;
    const STEPS: usize = 10;
    let names: Vec<_> = (0..=STEPS).map(|step| format!("x{step}")).collect();
    let steps = names.windows(2).map(|pair| node("MatMul", &[&pair[0], "w"], &[&pair[1]])).collect();
    let elements = vec![0.01; usize::try_from(SIDE * SIDE).unwrap()];
    let ends = |name| vec![value(name, OnnxDataType::Float, &[BATCH, SIDE, SIDE])];
    model(graph(steps, vec![floats("w", &[SIDE, SIDE], &elements)], ends("x0"), ends("x10")))
}
