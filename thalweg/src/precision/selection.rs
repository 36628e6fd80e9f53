//! Which nodes the user lets a lower precision have, by name and by operator.
//!
//! In: two lists. Out: for each node why it stays in FP32, if it does. What a pass makes of nodes that it may lower is
//! left to it.

use std::borrow::Cow;
use std::collections::HashSet;

use super::onnx::subgraphs;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::proto::{GraphProto, NodeProto};

/// Names of nodes and of operators: those that stay in FP32, and those that alone do not. The first list is stronger.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// What stays in FP32.
    keep_f32: &'a [String],
    /// What alone is lowered; all of it where the list is empty.
    only: &'a [String],
    /// The nodes that the lists name, once that is known.
    resolved: Option<&'a Resolved>,
}

/// Why the user's lists leave a node in FP32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unselected {
    /// It is on the list of what stays.
    Kept,
    /// There is a list of what alone is lowered, and it is not on that.
    NotListed,
}

/// The nodes that lists name. A pass rewrites a model in steps, in which operators get other names and nodes come and go:
/// names mean what they mean in the model that the user knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Resolved {
    keep_f32: Listed,
    only: Listed,
}

/// The nodes of one list, by what they make, and by their own name where no other node has it: raising the operator set
/// changes the one or the other at most.
#[derive(Clone, Debug, Default)]
struct Listed {
    outputs: HashSet<String>,
    labels: HashSet<String>,
}

impl<'a> Selection<'a> {
    /// What stays in FP32, and what alone is lowered: all of it where that list is empty.
    pub fn new(keep_f32: &'a [String], only: &'a [String]) -> Self {
        Self { keep_f32, only, resolved: None }
    }

    /// Whether anything was said.
    pub fn is_given(&self) -> bool {
        !(self.keep_f32.is_empty() && self.only.is_empty())
    }

    /// The nodes that the lists name: of this model, or of the one that they were resolved on already. A name that fits
    /// nothing is refused: it is a typing mistake.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] with the list that it is on.
    pub(super) fn resolve(&self, model: &Model) -> Result<Cow<'a, Resolved>> {
        if let Some(resolved) = self.resolved {
            return Ok(Cow::Borrowed(resolved));
        }
        let mut nodes = Vec::new();
        if self.is_given() {
            collect_nodes(model.graph(), &mut nodes);
        }
        Ok(Cow::Owned(Resolved {
            keep_f32: listed(&nodes, "keep-f32", self.keep_f32)?,
            only: listed(&nodes, "only", self.only)?,
        }))
    }

    /// The same lists, with the nodes that they name.
    pub(super) fn with<'b>(self, resolved: &'b Resolved) -> Selection<'b>
    where
        'a: 'b,
    {
        Selection { resolved: Some(resolved), ..self }
    }

    /// Why a node stays in FP32; `None` where it need not.
    pub(super) fn refusal(&self, node: &NodeProto) -> Option<Unselected> {
        if !self.is_given() {
            return None;
        }
        let resolved = self.resolved.expect("bug: passes resolve the lists before they judge nodes");
        match () {
            () if resolved.keep_f32.has(node) => Some(Unselected::Kept),
            () if !self.only.is_empty() && !resolved.only.has(node) => Some(Unselected::NotListed),
            () => None,
        }
    }
}

impl Listed {
    fn has(&self, node: &NodeProto) -> bool {
        self.labels.contains(&node.label()) || node.output.iter().any(|name| self.outputs.contains(name))
    }
}

fn listed(nodes: &[(String, &NodeProto)], list: &'static str, names: &[String]) -> Result<Listed> {
    let is_named =
        |name: &String, (label, node): &(String, &NodeProto)| name == label || name == node.op_type();
    if let Some(name) = names.iter().find(|name| !nodes.iter().any(|node| is_named(name, node))) {
        return Err(Error::InvalidSetting {
            name: list,
            value: name.clone(),
            reason:
                "the model has no node and no operator of this name; `thalweg inspect` lists its operators"
                    .to_owned(),
        });
    }
    let (named, others): (Vec<_>, Vec<_>) =
        nodes.iter().partition(|node| names.iter().any(|name| is_named(name, node)));
    let others: HashSet<&str> = others.iter().map(|(label, _)| label.as_str()).collect();
    let labels = named.iter().map(|(label, _)| label).filter(|label| !others.contains(label.as_str()));
    let outputs = named.iter().flat_map(|(_, node)| &node.output).filter(|name| !name.is_empty());
    Ok(Listed { outputs: outputs.cloned().collect(), labels: labels.cloned().collect() })
}

fn collect_nodes<'m>(graph: &'m GraphProto, nodes: &mut Vec<(String, &'m NodeProto)>) {
    for node in &graph.node {
        nodes.push((node.label(), node));
        subgraphs(node).for_each(|subgraph| collect_nodes(subgraph, nodes));
    }
}
