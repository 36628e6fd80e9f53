//! What one execution of a model takes: arithmetic, weights and activations moved, per node and in total.
//!
//! In: a [`Model`] and the [`Shapes`] of its values. Out: a [`Cost`]. It is a count on paper, before fusion and
//! caches: FLOPs are exact for products and convolutions, bytes are an upper bound. What an engine really moves
//! is left to `profiling`, what a device makes of it to `capacity`.

mod flops;

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::proto::{GraphProto, NodeProto, TensorProto};
use super::shapes::Branch;
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
    /// Every node of the main graph, in its order. An `If` stands for the branch that it takes.
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
    /// The most activations that a single node reads and writes.
    pub fn largest_node_bytes(&self) -> Bytes {
        self.nodes.iter().map(|node| node.activation_bytes).max().unwrap_or_default()
    }

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
    graph_cost(model.graph(), Ledger { shapes, constants: HashMap::new(), weights_read: HashMap::new() })
}

/// The cost of a graph whose `ledger` knows the constants of the graphs around it.
fn graph_cost<'a>(graph: &'a GraphProto, mut ledger: Ledger<'a>) -> Cost {
    ledger.store_initializers(graph);
    let mut cost = Cost::default();
    for node in &graph.node {
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
    /// Every value that depends on no input, with its bytes as stored.
    constants: HashMap<&'a str, Bytes>,
    /// The most that one node reads of each of them.
    weights_read: HashMap<&'a str, Bytes>,
}

impl<'a> Ledger<'a> {
    fn store_initializers(&mut self, graph: &'a GraphProto) {
        for name in graph.initializer.iter().map(TensorProto::name) {
            self.constants.insert(name, Bytes(self.shapes.byte_count(name).unwrap_or(0)));
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
        if let Some(branch) = self.shapes.branch(node) {
            return self.enter_branch(node, branch, cost);
        }
        cost.weight_bytes = self.read_weights(node);
        let flops = flops::of_node(node, self.shapes);
        cost.flops = flops.unwrap_or(0);
        let activations = self.activations(node);
        cost.activation_bytes = Bytes(activations.unwrap_or(0));
        (cost, flops.is_some() && activations.is_some())
    }

    /// An `If` costs what the branch costs that it takes.
    fn enter_branch(&mut self, node: &'a NodeProto, branch: &'a Branch, cost: NodeCost) -> (NodeCost, bool) {
        let Some(graph) = node.attribute(branch.attribute).and_then(|attribute| attribute.g.as_ref()) else {
            return (cost, false);
        };
        let names = branch.shapes.iter().map(|(name, ..)| name);
        let constants = names.filter_map(|name| Some((name, *self.constants.get(name)?))).collect();
        let inside =
            graph_cost(graph, Ledger { shapes: &branch.shapes, constants, weights_read: HashMap::new() });
        // Nothing outside the branch reads its weights, so the node stands for all of them.
        self.weights_read.insert(node.output[0].as_str(), inside.weight_bytes);
        let Cost { flops, weight_bytes, activation_bytes, unknown_nodes, .. } = inside;
        (NodeCost { flops, weight_bytes, activation_bytes, ..cost }, unknown_nodes.is_empty())
    }

    /// Whether the node only works on constants or shapes: then an engine does it once, when it is built. Its
    /// outputs are weights too, of the size that they are stored in: a dequantised weight stays as small as
    /// the quantised one.
    fn is_done_in_advance(&mut self, node: &'a NodeProto) -> bool {
        let mut inputs = node.input.iter().filter(|name| !name.is_empty());
        let has_subgraph = node.attribute.iter().any(|attribute| attribute.g.is_some());
        let is_constant = inputs.all(|name| self.constants.contains_key(name.as_str())) && !has_subgraph;
        let follows_from_shapes = node.output.iter().all(|name| self.shapes.is_calculated(name));
        if !is_constant && !follows_from_shapes {
            return false;
        }
        let stored: Bytes = self.constants_of(node).map(|name| self.constants[name]).sum();
        for name in &node.output {
            let own = Bytes(self.shapes.byte_count(name).unwrap_or(0));
            // A `Constant` node is an initializer in another place.
            let bytes = if node.op_type() == "Constant" { own } else { own.min(stored) };
            self.constants.insert(name, bytes);
        }
        true
    }

    /// The distinct constants among the inputs of a node.
    fn constants_of(&self, node: &'a NodeProto) -> impl Iterator<Item = &'a str> {
        let names: HashSet<_> = node.input.iter().map(String::as_str).collect();
        names.into_iter().filter(|name| self.constants.contains_key(name))
    }

    fn read_weights(&mut self, node: &'a NodeProto) -> Bytes {
        let most = if takes_a_part(node) { self.bytes_of(node.output.first()) } else { None };
        let names: Vec<_> = self.constants_of(node).collect();
        let read = names.into_iter().map(|name| {
            let stored = self.constants[name];
            let read = most.map_or(stored, |most| stored.min(Bytes(most)));
            let before = self.weights_read.entry(name).or_default();
            *before = read.max(*before);
            read
        });
        read.sum()
    }

    /// Bytes of activations that go in and out; `None` where one of them is unknown.
    fn activations(&self, node: &NodeProto) -> Option<u64> {
        if is_view(node) {
            return Some(0);
        }
        let outputs = node.output.iter().filter(|name| !name.is_empty());
        let written = self.total_bytes(outputs)?;
        let distinct: HashSet<_> = node.input.iter().filter(|name| !name.is_empty()).collect();
        let inputs = distinct.into_iter().filter(|name| !self.constants.contains_key(name.as_str()));
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
