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
    scope.names.extend(graph.input.iter().map(super::proto::ValueInfoProto::name));
    scope.names.extend(graph.initializer.iter().map(super::proto::TensorProto::name));
    let sparse = graph.sparse_initializer.iter().filter_map(|tensor| tensor.values.as_ref());
    scope.names.extend(sparse.map(super::proto::TensorProto::name));
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

#[cfg(test)]
mod tests {
    use super::super::sketch::{Sketch, graph, node, value};
    use super::*;

    fn reason(sketch: Sketch) -> String {
        sketch.check().unwrap_err().to_string()
    }

    #[test]
    fn values_are_produced_once_and_before_they_are_used() {
        let sketch = Sketch::new().input("x", "4").output("y");
        let missing = sketch.clone().node("y = Add(x, z)", &[]);
        assert!(reason(missing).contains("node `Add -> y` uses `z`"));
        let late = sketch.clone().node("y = Relu(z)", &[]).node("z = Relu(x)", &[]);
        assert!(reason(late).contains("uses `z`, which nothing before it produces"));
        let twice = sketch.clone().node("y = Relu(x)", &[]).node("y = Abs(x)", &[]);
        assert!(reason(twice).contains("`y` is produced twice"));
        assert!(reason(sketch.node("z = Relu(x)", &[])).contains("no node produces output `y`"));
    }

    #[test]
    fn a_graph_has_nodes_and_outputs() {
        assert!(reason(Sketch::new().input("x", "4").output("x")).contains("no nodes"));
        assert!(reason(Sketch::new().input("x", "4").node("y = Relu(x)", &[])).contains("no outputs"));
        let twice = Sketch::new().input("x", "4").node("y = Relu(x)", &[]).output("y").output("y");
        assert!(reason(twice).contains("output `y` is declared twice"));
    }

    #[test]
    fn subgraphs_see_the_values_around_them_but_not_the_other_way() {
        let branch = |line: &str| GraphProto {
            node: vec![node(line, &[])],
            output: vec![value("b", None)],
            ..Default::default()
        };
        let sketch = Sketch::new().input("x", "4").input("c", "");
        let sees =
            sketch.clone().node("y = If(c)", &[graph("then_branch", branch("b = Relu(x)"))]).output("y");
        assert!(sees.check().is_ok());
        let hidden = sketch.node("y = If(c)", &[graph("then_branch", branch("b = Relu(x)"))]);
        assert!(reason(hidden.node("z = Relu(b)", &[]).output("z")).contains("uses `b`"));
    }

    #[test]
    fn tensors_have_the_bytes_of_their_shape() {
        let mut sketch =
            Sketch::new().input("x", "4").weights("w", &[4]).node("y = Add(x, w)", &[]).output("y");
        sketch.graph.initializer[0].dims = vec![5];
        assert!(
            reason(sketch.clone())
                .contains("tensor `w` has shape [5], which takes 20 bytes, but 16 are there")
        );
        sketch.graph.initializer[0].dims = vec![-1];
        assert!(reason(sketch.clone()).contains("impossible shape"));
        sketch.graph.initializer[0].dims = vec![i64::MAX, i64::MAX];
        assert!(reason(sketch).contains("impossible shape"));
    }

    #[test]
    fn strings_are_no_input() {
        let mut sketch = Sketch::new().input("x", "4").node("y = Identity(x)", &[]).output("y");
        if let Some(super::super::proto::type_proto::Value::TensorType(tensor)) =
            sketch.graph.input[0].r#type.as_mut().and_then(|declared| declared.value.as_mut())
        {
            tensor.elem_type = Some(OnnxDataType::String as i32);
        }
        let expected =
            "data type of `x`: expected a tensor of numbers or booleans as input, got a tensor of string";
        assert_eq!(reason(sketch), expected);
    }
}
