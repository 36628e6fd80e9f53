//! `If`: the branch that is taken where the condition is known, or else what the branches that can run agree on.
//!
//! `Loop` and `Scan` stay unknown: how often they run and what they carry depends on the data.

use super::super::proto::{GraphProto, NodeProto, ValueInfoProto};
use super::{Branch, Scope, Shapes, Value, infer_graph};

/// A branch with the values that it hands out.
type Taken = (Vec<Value>, Option<Branch>);

/// One value per output of an `If` node, and the branch that is taken, where that is known.
pub fn infer_if(node: &NodeProto, scope: &Scope<'_>) -> Result<Taken, String> {
    let condition = node.input.first().and_then(|name| scope.get(name)?.elements.as_ref()?.first().copied());
    if let Some(condition) = condition {
        return infer_branch(node, if condition == 0.0 { "else_branch" } else { "then_branch" }, scope);
    }
    match (infer_branch(node, "then_branch", scope), infer_branch(node, "else_branch", scope)) {
        (Ok((yes, _)), Ok((no, _))) => {
            Ok((yes.into_iter().zip(no).map(|(yes, no)| common(yes, &no)).collect(), None))
        }
        // A branch that cannot run with these shapes is not the one that is taken.
        (Ok(only), Err(_)) | (Err(_), Ok(only)) => Ok(only),
        (Err(reason), Err(_)) => Err(reason),
    }
}

fn infer_branch(node: &NodeProto, attribute: &'static str, scope: &Scope<'_>) -> Result<Taken, String> {
    let Some(graph) = node.attribute(attribute).and_then(|attribute| attribute.g.as_ref()) else {
        return Ok((Vec::new(), None));
    };
    let inner = Scope { outer: Some(scope), model: scope.model, shapes: Shapes::default() };
    let mut shapes = infer_graph(graph, inner)?;
    take_in(graph, scope, &mut shapes);
    let value = |name: &str| shapes.values.get(name).cloned().unwrap_or_default();
    let outputs = graph.output.iter().map(|output| value(output.name())).collect();
    Ok((outputs, Some(Branch { attribute, shapes })))
}

/// Adds what the branch and those inside it use from outside, so that its shapes can be read without the graphs
/// around it.
fn take_in(graph: &GraphProto, scope: &Scope<'_>, shapes: &mut Shapes) {
    let inside = shapes.branches.values().flat_map(|branch| branch.shapes.values.keys());
    let used = graph.node.iter().flat_map(|node| &node.input).chain(inside).map(String::as_str);
    let used = used.chain(graph.output.iter().map(ValueInfoProto::name));
    let missing = used.filter(|name| !shapes.values.contains_key(*name));
    let taken: Vec<_> =
        missing.filter_map(|name| Some((name.to_owned(), scope.get(name)?.clone()))).collect();
    shapes.values.extend(taken);
}

fn common(yes: Value, no: &Value) -> Value {
    Value {
        data_type: yes.data_type.filter(|_| yes.data_type == no.data_type),
        shape: yes.shape.filter(|shape| no.shape.as_ref() == Some(shape)),
        elements: yes.elements.filter(|elements| no.elements.as_ref() == Some(elements)),
    }
}
