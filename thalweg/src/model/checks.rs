//! Whether a graph holds together: every value is produced once and before it is used, every tensor has the
//! bytes that its shape and type take.

use std::collections::HashSet;

use super::proto::tensor_proto::DataType as OnnxDataType;
use super::proto::{GraphProto, NodeProto, TensorProto};
use super::tensor_data;
use crate::error::{Error, Result};

/// Names that exist in a graph so far. Subgraphs see those of the graphs around them.
struct Scope<'a> {
    outer: Option<&'a Scope<'a>>,
    names: HashSet<&'a str>,
}

impl<'a> Scope<'a> {
    fn knows(&self, name: &str) -> bool {
        self.names.contains(name) || self.outer.is_some_and(|outer| outer.knows(name))
    }

    /// Optional inputs and outputs that are left out have an empty name.
    fn define(&mut self, name: &'a str, node: &NodeProto) -> Result<()> {
        if !name.is_empty() && !self.names.insert(name) {
            return invalid(format!(
                "`{name}` is produced twice, the second time by node `{}`",
                node.label()
            ));
        }
        Ok(())
    }
}

/// Checks a main graph and its subgraphs.
pub fn check(graph: &GraphProto) -> Result<()> {
    if graph.node.is_empty() {
        return invalid("the graph has no nodes".into());
    }
    if graph.output.is_empty() {
        return invalid("the graph has no outputs".into());
    }
    check_graph(graph, None)
}

/// Subgraphs are nested no deeper than prost's recursion limit, so this recursion ends.
fn check_graph(graph: &GraphProto, outer: Option<&Scope<'_>>) -> Result<()> {
    let mut scope = Scope { outer, names: HashSet::new() };
    scope.names.extend(graph.input.iter().map(|input| input.name()));
    scope.names.extend(graph.initializer.iter().map(|tensor| tensor.name()));
    let sparse = graph.sparse_initializer.iter().filter_map(|tensor| tensor.values.as_ref());
    scope.names.extend(sparse.map(|tensor| tensor.name()));
    graph.initializer.iter().try_for_each(check_tensor)?;
    for node in &graph.node {
        check_node(node, &scope)?;
        for name in &node.output {
            scope.define(name, node)?;
        }
    }
    match graph.output.iter().find(|output| !scope.knows(output.name())) {
        Some(output) => invalid(format!("no node produces output `{}`", output.name())),
        None => check_duplicate_outputs(graph),
    }
}

fn check_node(node: &NodeProto, scope: &Scope<'_>) -> Result<()> {
    if let Some(missing) = node.input.iter().find(|name| !name.is_empty() && !scope.knows(name)) {
        let node = node.label();
        return invalid(format!("node `{node}` uses `{missing}`, which nothing before it produces"));
    }
    for attribute in &node.attribute {
        attribute.t.iter().chain(&attribute.tensors).try_for_each(check_tensor)?;
        for subgraph in attribute.g.iter().chain(&attribute.graphs) {
            check_graph(subgraph, Some(scope))?;
        }
    }
    Ok(())
}

fn check_duplicate_outputs(graph: &GraphProto) -> Result<()> {
    let mut seen = HashSet::new();
    match graph.output.iter().find(|output| !seen.insert(output.name())) {
        Some(output) => invalid(format!("output `{}` is declared twice", output.name())),
        None => Ok(()),
    }
}

/// External data is checked when it is read.
fn check_tensor(tensor: &TensorProto) -> Result<()> {
    if tensor.data_type() == OnnxDataType::String as i32 {
        return Ok(());
    }
    let expected = tensor_data::byte_count(tensor)?;
    if tensor_data::is_external(tensor) { Ok(()) } else { tensor_data::check_size(tensor, expected) }
}

fn invalid(reason: String) -> Result<()> {
    Err(Error::InvalidModel { reason })
}
