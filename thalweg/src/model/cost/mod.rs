//! What one execution of a model takes: arithmetic, weights and activations moved, per node and in total.
//!
//! In: a [`Model`] and the [`Shapes`] of its values. Out: a [`Cost`]. It is a count on paper, before fusion and
//! caches: FLOPs are exact for products and convolutions, bytes are an upper bound. What an engine really moves
//! is left to `profiling`, what a device makes of it to `capacity`.

mod flops;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::proto::NodeProto;
use super::{Model, Shape, Shapes};
use crate::units::Bytes;

/// What one execution takes, in total and node by node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Arithmetic operations; a multiply-add counts as 2.
    pub flops: u64,
    /// Weights read. One that several nodes read counts once.
    pub weight_bytes: Bytes,
    /// Activations read and written by all nodes.
    pub activation_bytes: Bytes,
    /// Every node of the main graph, in its order.
    pub nodes: Vec<NodeCost>,
    /// Names of the nodes whose operator or shapes are unknown: what they take is missing above.
    pub unknown_nodes: Vec<String>,
}

/// What one node takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeCost {
    /// Its name, or else its operator and output.
    pub name: String,
    /// ONNX name of its operator.
    pub operator: String,
    /// Arithmetic operations; a multiply-add counts as 2.
    pub flops: u64,
    /// Weights read, as stored in the file.
    pub weight_bytes: Bytes,
    /// Activations read and written.
    pub activation_bytes: Bytes,
    /// Shape of its first output, where it is known.
    pub output_shape: Option<Shape>,
}

impl Cost {
    /// FLOPs per byte of weights and activations; `None` where nothing moves.
    pub fn arithmetic_intensity(&self) -> Option<f64> {
        intensity(self.flops, self.weight_bytes + self.activation_bytes)
    }
}

impl NodeCost {
    /// FLOPs per byte of weights and activations; `None` where nothing moves.
    pub fn arithmetic_intensity(&self) -> Option<f64> {
        intensity(self.flops, self.weight_bytes + self.activation_bytes)
    }
}

fn intensity(flops: u64, bytes: Bytes) -> Option<f64> {
    (bytes.0 > 0).then(|| flops as f64 / bytes.0 as f64)
}

/// See [`Model::cost`].
pub(super) fn cost(model: &Model, shapes: &Shapes) -> Cost {
    let mut ledger = Ledger::new(model, shapes);
    let mut cost = Cost::default();
    for node in &model.graph().node {
        let (node_cost, is_known) = ledger.enter(node);
        if !is_known {
            cost.unknown_nodes.push(node_cost.name.clone());
        }
        cost.flops = cost.flops.saturating_add(node_cost.flops);
        cost.activation_bytes += node_cost.activation_bytes;
        cost.nodes.push(node_cost);
    }
    cost.weight_bytes = ledger.weights_read.values().copied().sum();
    cost
}

/// Who reads which weights, while the nodes are gone through in order.
struct Ledger<'a> {
    shapes: &'a Shapes,
    /// For each value that depends on no input: the initializers that it is made from.
    sources: HashMap<&'a str, Vec<&'a str>>,
    /// Bytes of each initializer.
    stored: HashMap<&'a str, Bytes>,
    /// The most that one node reads of each initializer.
    weights_read: BTreeMap<&'a str, Bytes>,
}

impl<'a> Ledger<'a> {
    fn new(model: &'a Model, shapes: &'a Shapes) -> Self {
        let tensors = &model.graph().initializer;
        let bytes = |name| Bytes(shapes.byte_count(name).unwrap_or(0));
        Self {
            shapes,
            sources: tensors.iter().map(|tensor| (tensor.name(), vec![tensor.name()])).collect(),
            stored: tensors.iter().map(|tensor| (tensor.name(), bytes(tensor.name()))).collect(),
            weights_read: BTreeMap::new(),
        }
    }

    /// The cost of the next node, and whether it is known.
    fn enter(&mut self, node: &'a NodeProto) -> (NodeCost, bool) {
        let output_shape = node.output.first().and_then(|name| self.shapes.shape(name)).map(<[_]>::to_vec);
        let mut cost = NodeCost {
            name: node.label(),
            operator: node.op_type().into(),
            output_shape,
            ..NodeCost::default()
        };
        if self.is_done_in_advance(node) {
            return (cost, true);
        }
        cost.weight_bytes = self.read_weights(node);
        let flops = flops::of_node(node, self.shapes);
        cost.flops = flops.unwrap_or(0);
        let activations = self.activations(node);
        cost.activation_bytes = Bytes(activations.unwrap_or(0));
        (cost, flops.is_some() && activations.is_some())
    }

    /// Whether the node only works on constants or shapes: then an engine does it once, when it is built. Its
    /// outputs stand for the weights that they are made from.
    fn is_done_in_advance(&mut self, node: &'a NodeProto) -> bool {
        if node.op_type() == "Constant" {
            self.store(node.output.first());
            return true;
        }
        let mut inputs = node.input.iter().filter(|name| !name.is_empty());
        let has_subgraph = node.attribute.iter().any(|attribute| attribute.g.is_some());
        let is_constant = inputs.all(|name| self.sources.contains_key(name.as_str())) && !has_subgraph;
        let follows_from_shapes = node.output.iter().all(|name| self.shapes.is_calculated(name));
        if is_constant || follows_from_shapes {
            let sources: Vec<_> = self.sources_of(node).into_iter().collect();
            self.sources.extend(node.output.iter().map(|name| (name.as_str(), sources.clone())));
        }
        is_constant || follows_from_shapes
    }

    /// A `Constant` node is an initializer in another place.
    fn store(&mut self, name: Option<&'a String>) {
        if let Some(name) = name {
            self.stored.insert(name, Bytes(self.bytes_of(Some(name)).unwrap_or(0)));
            self.sources.insert(name, vec![name]);
        }
    }

    fn sources_of(&self, node: &NodeProto) -> HashSet<&'a str> {
        let sources = node.input.iter().filter_map(|name| self.sources.get(name.as_str()));
        sources.flatten().copied().collect()
    }

    fn read_weights(&mut self, node: &'a NodeProto) -> Bytes {
        let most = if takes_a_part(node) { self.bytes_of(node.output.first()) } else { None };
        let mut total = Bytes(0);
        for source in self.sources_of(node) {
            let stored = self.stored.get(source).copied().unwrap_or_default();
            let read = most.map_or(stored, |most| stored.min(Bytes(most)));
            let before = self.weights_read.entry(source).or_default();
            *before = read.max(*before);
            total += read;
        }
        total
    }

    /// Bytes of activations that go in and out; `None` where one of them is unknown.
    fn activations(&self, node: &NodeProto) -> Option<u64> {
        if is_view(node) {
            return Some(0);
        }
        let outputs = node.output.iter().filter(|name| !name.is_empty());
        let written = self.total_bytes(outputs)?;
        let distinct: HashSet<_> = node.input.iter().filter(|name| !name.is_empty()).collect();
        let inputs = distinct.into_iter().filter(|name| !self.sources.contains_key(name.as_str()));
        let read = self.total_bytes(inputs)?;
        let read = if takes_a_part(node) { read.min(written) } else { read };
        Some(read.saturating_add(written))
    }

    fn total_bytes<'n>(&self, names: impl IntoIterator<Item = &'n String>) -> Option<u64> {
        names.into_iter().try_fold(0u64, |total, name| Some(total.saturating_add(self.bytes_of(Some(name))?)))
    }

    fn bytes_of(&self, name: Option<&String>) -> Option<u64> {
        self.shapes.byte_count(name?)
    }
}

/// Operators that read only what they hand on.
fn takes_a_part(node: &NodeProto) -> bool {
    matches!(node.op_type(), "Gather" | "GatherElements" | "GatherND" | "Slice")
}

/// Operators that give the same bytes another shape: engines do nothing for them.
fn is_view(node: &NodeProto) -> bool {
    matches!(node.op_type(), "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Identity" | "Dropout")
}

#[cfg(test)]
mod tests;
