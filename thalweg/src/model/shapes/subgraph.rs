//! `If`: the branch that is taken where the condition is known, or else what the branches that can run agree on.
//!
//! `Loop` and `Scan` stay unknown: how often they run and what they carry depends on the data.

use std::collections::HashMap;

use super::super::proto::NodeProto;
use super::{Scope, Value, infer_graph};

/// One value per output of an `If` node.
pub fn infer_if(node: &NodeProto, scope: &Scope<'_>) -> Result<Vec<Value>, String> {
    let condition = node.input.first().and_then(|name| scope.get(name)?.elements.as_ref()?.first().copied());
    match condition {
        Some(condition) => branch(node, if condition == 0.0 { "else_branch" } else { "then_branch" }, scope),
        None => {
            let branches = (branch(node, "then_branch", scope), branch(node, "else_branch", scope));
            match branches {
                (Ok(yes), Ok(no)) => Ok(yes.into_iter().zip(no).map(|(yes, no)| common(yes, &no)).collect()),
                // A branch that cannot run with these shapes is not the one that is taken.
                (Ok(only), Err(_)) | (Err(_), Ok(only)) => Ok(only),
                (Err(reason), Err(_)) => Err(reason),
            }
        }
    }
}

fn branch(node: &NodeProto, name: &str, scope: &Scope<'_>) -> Result<Vec<Value>, String> {
    let Some(graph) = node.attribute(name).and_then(|attribute| attribute.g.as_ref()) else {
        return Ok(Vec::new());
    };
    let inner = Scope { outer: Some(scope), model: scope.model, values: HashMap::new() };
    let values = infer_graph(graph, inner)?;
    let value = |name: &str| values.get(name).or_else(|| scope.get(name)).cloned().unwrap_or_default();
    Ok(graph.output.iter().map(|output| value(output.name())).collect())
}

fn common(yes: Value, no: &Value) -> Value {
    Value {
        data_type: yes.data_type.filter(|_| yes.data_type == no.data_type),
        shape: yes.shape.filter(|shape| no.shape.as_ref() == Some(shape)),
        elements: yes.elements.filter(|elements| no.elements.as_ref() == Some(elements)),
    }
}
