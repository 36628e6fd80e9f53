//! Which nodes the user lets a lower precision have, by name and by operator.
//!
//! In: two lists. Out: for each node why it stays in FP32, if it does. What a pass makes of nodes that it may lower is
//! left to it.

use std::collections::HashSet;

use super::onnx::subgraphs;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::proto::{GraphProto, NodeProto};

/// Names of nodes and of operators: those that stay in FP32, and those that alone do not. The first list is stronger.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// What stays in FP32.
    pub keep_f32: &'a [String],
    /// What alone is lowered; all of it where the list is empty.
    pub only: &'a [String],
}

/// Why the user's lists leave a node in FP32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unselected {
    /// It is on the list of what stays.
    Kept,
    /// There is a list of what alone is lowered, and it is not on that.
    NotListed,
}

impl Selection<'_> {
    /// Whether anything was said.
    pub fn is_given(&self) -> bool {
        !(self.keep_f32.is_empty() && self.only.is_empty())
    }

    /// Why a node stays in FP32; `None` where it need not.
    pub(super) fn refusal(&self, node: &NodeProto) -> Option<Unselected> {
        let is_on = |list: &[String]| list.iter().any(|name| *name == node.label() || name == node.op_type());
        match () {
            () if is_on(self.keep_f32) => Some(Unselected::Kept),
            () if !self.only.is_empty() && !is_on(self.only) => Some(Unselected::NotListed),
            () => None,
        }
    }

    /// Refuses a name that fits nothing: it is a typing mistake.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] with the list that it is on.
    pub(super) fn check(&self, model: &Model) -> Result<()> {
        let mut known = HashSet::new();
        collect_labels(model.graph(), &mut known);
        let listed = [("keep-f32", self.keep_f32), ("only", self.only)];
        let mut listed =
            listed.into_iter().flat_map(|(list, names)| names.iter().map(move |name| (list, name)));
        match listed.find(|(_, name)| !known.contains(name.as_str())) {
            None => Ok(()),
            Some((list, name)) => Err(Error::InvalidSetting {
                name: list,
                value: name.clone(),
                reason:
                    "the model has no node and no operator of this name; `thalweg inspect` lists its operators"
                        .to_owned(),
            }),
        }
    }
}

fn collect_labels(graph: &GraphProto, names: &mut HashSet<String>) {
    for node in &graph.node {
        names.extend([node.label(), node.op_type().to_owned()]);
        subgraphs(node).for_each(|subgraph| collect_labels(subgraph, names));
    }
}
