//! Which operators rten has, and whose node an error of rten is about.
//!
//! A model with an operator that rten lacks is refused before anything runs, in the words of ONNX: operator,
//! domain, node. Attributes and types that rten lacks are found when it loads the model.

use std::collections::HashMap;

use prost::Message;
use rten::{LoadError, LoadErrorKind, ModelOptions, RunError, RunErrorKind};

use super::{NAME, RTEN_VERSION};
use crate::error::{Error, Result};
use crate::model::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};

/// rten's words for an operator that it does not have. Its error type is private, so there is only the text.
const NOT_IN_RTEN: &str = "operator not supported or not enabled";

/// How other runtimes name a domain where ONNX's own is meant.
const ONNX_DOMAIN: &str = "ai.onnx";

/// Refuses a model with operators that rten lacks. The error names the first one and lists the others.
pub(super) fn check(model: &ModelProto) -> Result<()> {
    let mut known: HashMap<String, bool> = HashMap::new();
    let options = ModelOptions::with_all_ops();
    let mut missing: Vec<&NodeProto> = Vec::new();
    for node in nodes(model.graph.as_ref()) {
        let is_known = known.entry(qualified_name(node)).or_insert_with(|| is_in_rten(node, &options));
        let is_listed = missing.iter().any(|other| qualified_name(other) == qualified_name(node));
        if !*is_known && !is_listed {
            missing.push(node);
        }
    }
    let Some((first, others)) = missing.split_first() else { return Ok(()) };
    Err(unsupported(first, missing_reason(model, first, others)))
}

/// An error of loading, told about the node or tensor it names.
pub(super) fn load_error(model: &ModelProto, error: &LoadError) -> Error {
    let culprit = error.node().and_then(|name| node_about(model, name));
    match (error.kind(), culprit) {
        (LoadErrorKind::OperatorInvalid | LoadErrorKind::GraphError, Some(node)) => {
            unsupported(node, error.to_string())
        }
        _ => Error::InvalidModel { reason: format!("rten cannot load it: {error}") },
    }
}

/// An error of the trial run, told about the node it names.
pub(super) fn run_error(model: &ModelProto, error: &RunError) -> Error {
    let name = error.node_path().into_iter().flatten().next_back();
    match (error.kind(), name.and_then(|name| node_about(model, name))) {
        (RunErrorKind::OperatorError, Some(node)) => unsupported(node, error.to_string()),
        _ => Error::InvalidModel { reason: format!("rten cannot run it: {error}") },
    }
}

/// The refusal of one node.
pub(super) fn unsupported(node: &NodeProto, reason: impl Into<String>) -> Error {
    Error::UnsupportedOperator {
        backend: NAME.into(),
        operator: qualified_name(node),
        node: node.name().to_owned(),
        reason: reason.into(),
    }
}

/// All nodes of a graph and of the graphs inside its nodes.
pub(super) fn nodes(graph: Option<&GraphProto>) -> Vec<&NodeProto> {
    let mut found = Vec::new();
    for node in graph.iter().flat_map(|graph| &graph.node) {
        found.push(node);
        for attribute in &node.attribute {
            found.extend(nodes(attribute.g.as_ref()));
            found.extend(attribute.graphs.iter().flat_map(|graph| nodes(Some(graph))));
        }
    }
    found
}

fn missing_reason(model: &ModelProto, first: &NodeProto, others: &[&NodeProto]) -> String {
    let is_function = model
        .functions
        .iter()
        .any(|function| function.name() == first.op_type() && function.domain() == first.domain());
    if is_function {
        return "it is a function of the model itself: inline it first, for example with onnx.inliner".into();
    }
    let mut reason = format!("rten {RTEN_VERSION} has no implementation of it");
    if !others.is_empty() {
        let names: Vec<_> = others.iter().map(|node| format!("`{}`", qualified_name(node))).collect();
        reason += &format!(", nor of {}", names.join(", "));
    }
    reason
}

/// Asks rten itself, with a model of this one node: a list of names here would age.
fn is_in_rten(node: &NodeProto, options: &ModelOptions) -> bool {
    if node.op_type() == "Constant" {
        // Not an operator to rten, which reads it as an initializer.
        return true;
    }
    let output = "output".to_owned();
    let bare = NodeProto {
        op_type: node.op_type.clone(),
        domain: node.domain.clone(),
        output: vec![output.clone()],
        ..Default::default()
    };
    let graph = GraphProto {
        name: Some("probe".into()),
        node: vec![bare],
        output: vec![ValueInfoProto { name: Some(output), ..Default::default() }],
        ..Default::default()
    };
    let opset = OperatorSetIdProto { version: Some(PROBE_OPSET), ..Default::default() };
    let probe = ModelProto {
        ir_version: Some(PROBE_IR_VERSION),
        opset_import: vec![opset],
        graph: Some(graph),
        ..Default::default()
    };
    // Any other complaint, for example of a missing attribute, means that rten knows the operator.
    let loaded = options.load(probe.encode_to_vec());
    !loaded.is_err_and(|error| error.to_string().contains(NOT_IN_RTEN))
}

/// Any that rten reads will do.
const PROBE_OPSET: i64 = 21;
const PROBE_IR_VERSION: i64 = 10;

fn qualified_name(node: &NodeProto) -> String {
    match node.domain() {
        "" | ONNX_DOMAIN => node.op_type().to_owned(),
        domain => format!("{domain}.{}", node.op_type()),
    }
}

/// The node of this name, or else the first that reads or makes the tensor of this name: rten reports an
/// initializer that it cannot read under the initializer's name.
fn node_about<'a>(model: &'a ModelProto, name: &str) -> Option<&'a NodeProto> {
    let nodes = nodes(model.graph.as_ref());
    let touches = |node: &&&NodeProto| node.input.iter().chain(&node.output).any(|tensor| tensor == name);
    let named = nodes.iter().find(|node| node.name() == name);
    named.or_else(|| nodes.iter().find(touches)).copied()
}
