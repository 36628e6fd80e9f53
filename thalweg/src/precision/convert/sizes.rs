//! Which nodes calculate sizes and indices with floating-point numbers.
//!
//! Exporters write `Shape`, `Cast`, `Mul`, `Floor`, `Cast` where they mean an integer: half is exact only up to 2048
//! (FP16) or 256 (BF16), so these few scalars stay as they are. They are found from both ends: what follows from
//! shapes alone, and what only ends in integers.

use std::collections::{HashMap, HashSet};

use super::operators::is_arithmetic;
use crate::model::DataType;
use crate::model::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use crate::precision::onnx::subgraphs;

/// The places of all such nodes in a graph.
pub(super) fn nodes(graph: &GraphProto) -> HashSet<usize> {
    let mut found = from_shapes(graph);
    found.extend(into_integers(graph));
    found
}

/// Nodes that calculate with shapes and constants alone.
fn from_shapes(graph: &GraphProto) -> HashSet<usize> {
    let mut constants: HashSet<&str> = graph.initializer.iter().map(TensorProto::name).collect();
    let mut sizes: HashSet<&str> = HashSet::new();
    let mut found = HashSet::new();
    for (place, node) in graph.node.iter().enumerate() {
        let given = || node.input.iter().map(String::as_str).filter(|name| !name.is_empty());
        let is_size = match node.op_type() {
            "Constant" => {
                constants.extend(node.output.iter().map(String::as_str));
                false
            }
            "Shape" | "Size" => true,
            operator if is_arithmetic(operator) => {
                given().any(|name| sizes.contains(name))
                    && given().all(|name| sizes.contains(name) || constants.contains(name))
            }
            _ => false,
        };
        if is_size {
            found.insert(place);
            sizes.extend(node.output.iter().map(String::as_str));
        }
    }
    found
}

/// Nodes whose results are only read, over further such nodes, as integers or as scales.
fn into_integers(graph: &GraphProto) -> HashSet<usize> {
    let mut readers: HashMap<&str, Vec<(usize, usize)>> = HashMap::new();
    for (place, node) in graph.node.iter().enumerate() {
        for (index, name) in node.input.iter().enumerate() {
            readers.entry(name).or_default().push((place, index));
        }
    }
    let visible_outside = read_elsewhere(graph);
    let mut found = HashSet::new();
    for (place, node) in graph.node.iter().enumerate().rev() {
        let ends = |name: &String| {
            let readers = readers.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
            !visible_outside.contains(name.as_str())
                && readers.iter().all(|(reader, index)| {
                    found.contains(reader) || wants_exact(&graph.node[*reader], *index)
                })
        };
        let is_read = node.output.iter().any(|name| readers.contains_key(name.as_str()));
        if is_arithmetic(node.op_type()) && is_read && node.output.iter().all(ends) {
            found.insert(place);
        }
    }
    found
}

/// Values that are read outside of the graph's own nodes: by its caller, or in subgraphs.
fn read_elsewhere(graph: &GraphProto) -> HashSet<&str> {
    let mut names: HashSet<&str> = graph.output.iter().map(ValueInfoProto::name).collect();
    for subgraph in graph.node.iter().flat_map(subgraphs) {
        names.extend(subgraph.node.iter().flat_map(|node| &node.input).map(String::as_str));
        names.extend(read_elsewhere(subgraph));
    }
    names
}

/// Whether a node makes a size of this input.
fn wants_exact(node: &NodeProto, index: usize) -> bool {
    match node.op_type() {
        "Cast" => {
            let to = node.int("to").and_then(|to| i32::try_from(to).ok());
            to.and_then(DataType::from_onnx).is_some_and(|to| !to.is_float() && to != DataType::Bool)
        }
        "Resize" | "Upsample" => index > 0,
        "Range" => true,
        _ => false,
    }
}
