//! What the passes ask of a graph: names that are free, constants, and the operator set. And what they make alike: tensors,
//! declared values, and a graph without what nobody reads any more.

use std::collections::HashSet;

use bytes::Bytes;

use crate::model::Model;
use crate::model::proto::attribute_proto::AttributeType;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::tensor_shape_proto::{Dimension, dimension};
use crate::model::proto::type_proto::{Tensor, Value as Type};
use crate::model::proto::{
    AttributeProto, GraphProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
};

/// The first IR version in which an initializer need not be listed among the inputs (ONNX's IR specification,
/// "Version 4").
pub(super) const IR_WITH_FREE_INITIALIZERS: i64 = 4;

/// The version of ONNX's own operator set.
pub(super) fn onnx_opset(model: &Model) -> i64 {
    let sets = &model.proto().opset_import;
    let own = sets.iter().find(|set| matches!(set.domain(), "" | "ai.onnx"));
    own.map_or(1, OperatorSetIdProto::version)
}

/// Whether an operator is of ONNX's own domain.
pub(super) fn is_own(node: &NodeProto) -> bool {
    matches!(node.domain(), "" | "ai.onnx")
}

/// The graphs inside a node.
pub(super) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// All names that a node or the subgraphs in it read.
pub(super) fn names_read(node: &NodeProto) -> impl Iterator<Item = &str> {
    let inner: Vec<&str> = subgraphs(node).flat_map(names_read_in).collect();
    node.input.iter().map(String::as_str).chain(inner)
}

/// All names that a graph's nodes, the subgraphs in them and its outputs read.
pub(super) fn names_read_in(graph: &GraphProto) -> Vec<&str> {
    let outputs = graph.output.iter().map(ValueInfoProto::name);
    graph.node.iter().flat_map(names_read).chain(outputs).collect()
}

/// The names of a model, and new ones that it does not have.
pub(super) struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// All names of the main graph and those inside it.
    pub fn of(model: &Model) -> Self {
        let mut taken = HashSet::new();
        collect(model.graph(), &mut taken);
        Self { taken }
    }

    /// A name like this one that nothing in the model has.
    pub fn fresh(&mut self, wish: &str) -> String {
        let numbered = (1..).map(|number| format!("{wish}_{number}"));
        let mut candidates = std::iter::once(wish.to_owned()).chain(numbered);
        let name = candidates.find(|name| !self.taken.contains(name)).expect("bug: numbers ran out");
        self.taken.insert(name.clone());
        name
    }
}

/// All names of a graph and those inside it.
pub(super) fn collect(graph: &GraphProto, names: &mut HashSet<String>) {
    names.extend(graph.input.iter().chain(&graph.output).map(|value| value.name().to_owned()));
    names.extend(graph.initializer.iter().map(|tensor| tensor.name().to_owned()));
    for node in &graph.node {
        names.insert(node.name().to_owned());
        names.extend(node.input.iter().chain(&node.output).cloned());
        subgraphs(node).for_each(|subgraph| collect(subgraph, names));
    }
}

/// Values that do not depend on the graph's inputs.
pub(super) fn fixed(graph: &GraphProto) -> HashSet<&str> {
    let mut fixed: HashSet<&str> = graph.initializer.iter().map(TensorProto::name).collect();
    for node in &graph.node {
        let is_random = node.op_type().starts_with("Random") || subgraphs(node).next().is_some();
        let mut given = node.input.iter().filter(|name| !name.is_empty());
        if !is_random && given.all(|name| fixed.contains(name.as_str())) {
            fixed.extend(node.output.iter().map(String::as_str));
        }
    }
    fixed
}

/// The tensor of a `Constant` of FP32, under the name of its value.
pub(super) fn constant(node: &NodeProto) -> Option<TensorProto> {
    if node.op_type() != "Constant" || !is_own(node) {
        return None;
    }
    let name = node.output.first()?.clone();
    let attribute = node.attribute.first()?;
    let of_floats = |dims: Vec<i64>, floats: Vec<f32>| TensorProto {
        dims,
        data_type: Some(OnnxDataType::Float as i32),
        float_data: floats,
        ..TensorProto::default()
    };
    let tensor = match attribute.name() {
        "value" => attribute.t.clone()?,
        "value_float" => of_floats(Vec::new(), vec![attribute.f()]),
        "value_floats" => {
            let count = i64::try_from(attribute.floats.len()).ok()?;
            of_floats(vec![count], attribute.floats.clone())
        }
        _ => return None,
    };
    let is_full = tensor.data_type() == OnnxDataType::Float as i32;
    is_full.then_some(TensorProto { name: Some(name), ..tensor })
}

/// Takes away which of these values nobody reads any more: nodes that make nothing else, initializers, and what is declared
/// of them. None of them may be an input without an initializer.
pub(super) fn remove_unread(graph: &mut GraphProto, values: &HashSet<String>) {
    loop {
        let read: HashSet<String> = names_read_in(graph).into_iter().map(str::to_owned).collect();
        let is_unread = |name: &str| values.contains(name) && !read.contains(name);
        let count = graph.node.len();
        graph.node.retain(|node| !node.output.iter().all(|name| is_unread(name)));
        // What nodes read that have gone may be unread now.
        if graph.node.len() == count {
            graph.initializer.retain(|tensor| !is_unread(tensor.name()));
            graph.input.retain(|input| !is_unread(input.name()));
            graph.value_info.retain(|value| !is_unread(value.name()));
            return;
        }
    }
}

/// An FP32 initializer.
pub(super) fn float_tensor(name: String, dims: Vec<i64>, numbers: impl Iterator<Item = f32>) -> TensorProto {
    tensor(name, OnnxDataType::Float, dims, numbers.flat_map(f32::to_le_bytes).collect())
}

/// An initializer of these bytes.
pub(super) fn tensor(name: String, data_type: OnnxDataType, dims: Vec<i64>, bytes: Bytes) -> TensorProto {
    TensorProto {
        name: Some(name),
        dims,
        data_type: Some(data_type.into()),
        raw_data: Some(bytes),
        ..TensorProto::default()
    }
}

/// An FP32 input or output: a list of this size, or of an undeclared shape.
pub(super) fn float_value(name: &str, size: Option<i64>) -> ValueInfoProto {
    let dimension =
        |size| Dimension { value: Some(dimension::Value::DimValue(size)), ..Dimension::default() };
    let shape = size.map(|size| TensorShapeProto { dim: vec![dimension(size)] });
    let tensor = Tensor { elem_type: Some(OnnxDataType::Float.into()), shape };
    let declared = TypeProto { value: Some(Type::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(declared), ..ValueInfoProto::default() }
}

/// An attribute that is a number, such as a Cast's `to`.
pub(super) fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int.into()),
        i: Some(value),
        ..AttributeProto::default()
    }
}

/// Little-endian bytes as numbers.
pub(super) fn floats(bytes: &Bytes) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}
