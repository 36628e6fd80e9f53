//! Constants out of nodes that read nothing else, such as a transposed weight: folded they are weights like all others,
//! whose range is known before the network runs.
//!
//! In: a model. Out: the same with such values as initializers, and why others are none. Only FP32 values of the main graph
//! that others read are calculated, by the `cpu` backend, which runs the part of the graph that makes them; what it cannot
//! run stays. Sizes and indices, and eight bits, which have to stay with their DequantizeLinear, are left alone.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::error::Result;
use crate::measure::{Reference, SampleSet};
use crate::model::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};
use crate::model::{DataType, Model, Shapes};
use crate::precision::onnx::{Names, fixed, float_tensor, float_value, is_own, names_read, remove_unread};
use crate::precision::probe::cpu_engine;

/// A value, and each on the way to it, may be this many times as large as the weights that it is made of, or have so many
/// elements anyway: what repeats a number a million times is better left to a node.
const MOST_GROWTH: usize = 2;
const SMALL: usize = 4096;

/// Operators whose results are not calculated here.
const LEFT_ALONE: [&str; 2] = ["Constant", "ConstantOfShape"];

/// What came of folding.
pub(super) struct Folded {
    pub model: Model,
    /// How many nodes are gone.
    pub node_count: usize,
    /// Values that could be weights and are not, each with the reason.
    pub refused: Vec<String>,
}

/// The model with its constants folded.
pub(super) fn folded(model: &Model) -> Result<Folded> {
    let unchanged = |refused| Folded { model: model.clone(), node_count: 0, refused };
    let values = wanted(model)?;
    if values.is_empty() {
        return Ok(unchanged(Vec::new()));
    }
    let (tensors, refused) = constants(model, &values);
    let mut proto = model.proto().clone();
    let Some(graph) = proto.graph.as_mut().filter(|_| !tensors.is_empty()) else {
        return Ok(unchanged(refused));
    };
    let count = graph.node.len();
    let folded: HashSet<String> = tensors.iter().map(|tensor| tensor.name().to_owned()).collect();
    graph.node.retain(|node| !node.output.iter().any(|name| folded.contains(name)));
    graph.initializer.extend(tensors);
    let of_part = Part::of(model.graph(), &values).nodes.into_iter();
    let of_part = of_part.flat_map(|node| names_read(node).chain(node.output.iter().map(String::as_str)));
    remove_unread(graph, &of_part.map(str::to_owned).collect());
    let node_count = count - graph.node.len();
    Ok(Folded { model: Model::from_proto(proto, model.path())?, node_count, refused })
}

/// The values as initializers, and why others are none. All are run at once, and each for itself where that fails: what the
/// backend refuses stays as it is, and nothing else.
fn constants(model: &Model, values: &[String]) -> (Vec<TensorProto>, Vec<String>) {
    if let Ok(all) = calculated(model, values) {
        return all;
    }
    let (mut tensors, mut refused) = (Vec::new(), Vec::new());
    for value in values {
        match calculated(model, std::slice::from_ref(value)) {
            Ok((calculated, too_large)) => {
                tensors.extend(calculated);
                refused.extend(too_large);
            }
            Err(error) => {
                let said = error.to_string();
                refused.push(format!("`{value}`: {}", said.lines().next().unwrap_or_default()));
            }
        }
    }
    (tensors, refused)
}

/// Those of the values that are not too large, as initializers, and why the others are none.
///
/// # Errors
/// Where the backend refuses one of them.
fn calculated(model: &Model, values: &[String]) -> Result<(Vec<TensorProto>, Vec<String>)> {
    let shapes = Part::of(model.graph(), values).model(model)?.infer_shapes(&BTreeMap::new())?;
    let (mut small, mut refused) = (Vec::new(), Vec::new());
    for value in values {
        match Part::of(model.graph(), std::slice::from_ref(value)).obstacle(value, &shapes) {
            None => small.push(value.clone()),
            Some(reason) => refused.push(format!("`{value}`: {reason}")),
        }
    }
    let tensors = if small.is_empty() { Vec::new() } else { Part::of(model.graph(), &small).run(model)? };
    Ok((tensors, refused))
}

/// The FP32 values that could be weights and that nodes read which depend on the graph's inputs.
fn wanted(model: &Model) -> Result<Vec<String>> {
    let graph = model.graph();
    let types = model.element_types(graph, &HashMap::new())?;
    let fixed = fixed(graph);
    let mut excluded: HashSet<&str> = HashSet::new();
    let mut makers: HashMap<&str, &NodeProto> = HashMap::new();
    for node in &graph.node {
        let is_excluded = !is_own(node)
            || node.output.len() != 1
            || matches!(node.op_type(), "QuantizeLinear" | "DequantizeLinear")
            || node.input.iter().any(|name| excluded.contains(name.as_str()));
        for name in &node.output {
            makers.insert(name, node);
            if is_excluded {
                excluded.insert(name);
            }
        }
    }
    let is_part = |name: &str| fixed.contains(name) && !excluded.contains(name);
    let outputs: HashSet<&str> = graph.output.iter().map(ValueInfoProto::name).collect();
    let is_wanted = |name: &&str| {
        let is_calculated = makers.get(name).is_some_and(|node| !LEFT_ALONE.contains(&node.op_type()));
        is_calculated && types.get(*name) == Some(&DataType::F32) && is_part(name) && !outputs.contains(name)
    };
    let mut values: Vec<String> = Vec::new();
    let mut known: HashSet<&str> = HashSet::new();
    let readers = graph.node.iter().filter(|node| node.output.iter().any(|name| !is_part(name)));
    for name in readers.flat_map(names_read).filter(is_wanted) {
        if known.insert(name) {
            values.push(name.to_owned());
        }
    }
    Ok(values)
}

/// The part of a graph that makes values of constants.
struct Part<'a> {
    nodes: Vec<&'a NodeProto>,
    initializers: Vec<&'a TensorProto>,
    values: &'a [String],
}

impl<'a> Part<'a> {
    fn of(graph: &'a GraphProto, values: &'a [String]) -> Self {
        let mut wanted: HashSet<&str> = values.iter().map(String::as_str).collect();
        let mut nodes = Vec::new();
        for node in graph.node.iter().rev() {
            if node.output.iter().any(|name| wanted.contains(name.as_str())) {
                wanted.extend(names_read(node));
                nodes.push(node);
            }
        }
        nodes.reverse();
        let initializers = graph.initializer.iter().filter(|it| wanted.contains(it.name())).collect();
        Self { nodes, initializers, values }
    }

    /// Why this value, whose part it is, is better left to nodes.
    fn obstacle(&self, value: &str, shapes: &Shapes) -> Option<String> {
        let of_nodes = self.nodes.iter().filter(|node| node.op_type() == "Constant");
        let of_nodes = of_nodes.flat_map(|node| &node.attribute).map(attribute_size);
        let of_weights = self.initializers.iter().map(|tensor| size(&tensor.dims));
        let of_all = of_nodes.chain(of_weights).fold(0, usize::saturating_add);
        let most = of_all.saturating_mul(MOST_GROWTH).max(SMALL);
        let element_count = |name: &str| {
            let shape = shapes.shape(name)?;
            Some(shape.iter().fold(1, |count: usize, size| count.saturating_mul(*size)))
        };
        if element_count(value).is_none() {
            return Some("its shape is not known before it is calculated".to_owned());
        }
        let made = self.nodes.iter().flat_map(|node| &node.output);
        made.filter_map(|name| Some((name, element_count(name)?)))
            .find(|(_, count)| *count > most)
            .map(|(name, count)| format!("`{name}` would have {count} elements, and is made of {of_all}"))
    }

    /// The part as a model, whose first output means nothing.
    fn model(&self, model: &Model) -> Result<Model> {
        // An engine has to have an input.
        let mut names = Names::of(model);
        let (trigger, echo) = (names.fresh("trigger"), names.fresh("echo"));
        let mut node: Vec<NodeProto> = self.nodes.iter().map(|node| (*node).clone()).collect();
        node.push(NodeProto {
            op_type: Some("Identity".to_owned()),
            input: vec![trigger.clone()],
            output: vec![echo.clone()],
            ..NodeProto::default()
        });
        let outputs = std::iter::once(&echo).chain(self.values).map(|name| float_value(name, None));
        let graph = GraphProto {
            name: Some("constants".to_owned()),
            input: vec![float_value(&trigger, Some(1))],
            output: outputs.collect(),
            node,
            initializer: self.initializers.iter().map(|tensor| (*tensor).clone()).collect(),
            ..GraphProto::default()
        };
        let mut proto = model.proto().clone();
        proto.graph = Some(graph);
        Model::from_proto(proto, model.path())
    }

    /// The values as initializers.
    fn run(&self, model: &Model) -> Result<Vec<TensorProto>> {
        let engine = cpu_engine(&self.model(model)?, &BTreeMap::new())?;
        let results = Reference::compute(&engine, &SampleSet::random(engine.signature(), 1, 0))?;
        let mut tensors = Vec::new();
        for (index, output) in engine.signature().outputs.iter().enumerate() {
            let numbers = results.output(0, index);
            let dims = output.shape_at(1);
            let is_known = dims.iter().product::<usize>() == numbers.len();
            if self.values.contains(&output.name) && is_known {
                let dims = dims.iter().map(|size| i64::try_from(*size).expect("bug: more than memory"));
                #[expect(clippy::cast_possible_truncation, reason = "they are numbers of type f32")]
                let numbers = numbers.iter().map(|number| *number as f32);
                tensors.push(float_tensor(output.name.clone(), dims.collect(), numbers));
            }
        }
        Ok(tensors)
    }
}

/// The elements of what a `Constant` says.
fn attribute_size(attribute: &AttributeProto) -> usize {
    let of_tensor = attribute.t.as_ref().map_or(1, |tensor| size(&tensor.dims));
    of_tensor.max(attribute.floats.len()).max(attribute.ints.len())
}

fn size(dims: &[i64]) -> usize {
    let sizes = dims.iter().map(|size| usize::try_from(*size).unwrap_or(0));
    sizes.fold(1, usize::saturating_mul)
}
