//! Constants out of nodes that read nothing else, such as a transposed weight: folded they are weights like all others,
//! whose range is known before the network runs.
//!
//! In: a model. Out: the same with such values as initializers. Only FP32 values of the main graph that others read are
//! calculated, by the `cpu` backend, which runs the part of the graph that makes them; what it cannot run stays. Sizes and
//! indices, and eight bits, which have to stay with their DequantizeLinear, are left alone.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::error::Result;
use crate::measure::{Reference, SampleSet};
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::type_proto::{Tensor, Value as Type};
use crate::model::proto::{GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto};
use crate::model::{DataType, Model};
use crate::precision::onnx::{Names, fixed, is_own, subgraphs};
use crate::precision::probe::cpu_engine;

/// A value may be this many times as large as the weights that it is made of, or have so many elements anyway: what
/// repeats a number a million times is better left to a node.
const MOST_GROWTH: usize = 2;
const SMALL: usize = 4096;

/// Operators whose results are not calculated here.
const LEFT_ALONE: [&str; 4] = ["Constant", "ConstantOfShape", "QuantizeLinear", "DequantizeLinear"];

/// The model with its constants folded, and how many nodes that took away.
pub(super) fn folded(model: &Model) -> Result<(Model, usize)> {
    let Some(part) = Part::of(model)? else { return Ok((model.clone(), 0)) };
    // What the backend refuses stays as it is.
    let Ok(tensors) = part.run(model) else { return Ok((model.clone(), 0)) };
    let mut proto = model.proto().clone();
    let Some(graph) = &mut proto.graph else { return Ok((model.clone(), 0)) };
    let count = graph.node.len();
    let folded: HashSet<String> = tensors.iter().map(|tensor| tensor.name().to_owned()).collect();
    graph.node.retain(|node| !node.output.iter().any(|name| folded.contains(name)));
    graph.initializer.extend(tensors);
    remove_unread(graph, &part.nodes);
    let count = count - graph.node.len();
    Ok((Model::from_proto(proto, model.path())?, count))
}

/// The part of a graph that makes constants.
struct Part {
    nodes: Vec<NodeProto>,
    /// The values that nodes outside of it read.
    values: Vec<String>,
}

impl Part {
    fn of(model: &Model) -> Result<Option<Self>> {
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
            is_calculated
                && types.get(*name) == Some(&DataType::F32)
                && is_part(name)
                && !outputs.contains(name)
        };
        let mut values: Vec<String> = Vec::new();
        let readers = graph.node.iter().filter(|node| node.output.iter().any(|name| !is_part(name)));
        for name in readers.flat_map(names_read).filter(is_wanted) {
            if !values.iter().any(|known| known == name) {
                values.push(name.to_owned());
            }
        }
        if values.is_empty() {
            return Ok(None);
        }
        let mut wanted: HashSet<&str> = values.iter().map(String::as_str).collect();
        for node in graph.node.iter().rev() {
            if node.output.iter().any(|name| wanted.contains(name.as_str())) {
                wanted.extend(node.input.iter().map(String::as_str));
            }
        }
        let is_made_for = |node: &&NodeProto| node.output.iter().any(|name| wanted.contains(name.as_str()));
        let nodes = graph.node.iter().filter(is_made_for).cloned().collect();
        Ok(Some(Self { nodes, values }))
    }

    /// The values as initializers.
    fn run(&self, model: &Model) -> Result<Vec<TensorProto>> {
        let read: HashSet<&str> = self.nodes.iter().flat_map(names_read).collect();
        let initializers = model.graph().initializer.iter().filter(|it| read.contains(it.name()));
        let initializer: Vec<TensorProto> = initializers.cloned().collect();
        let elements = |tensor: &TensorProto| tensor.dims.iter().product::<i64>();
        let size = usize::try_from(initializer.iter().map(elements).sum::<i64>()).unwrap_or(0);
        // An engine has to have an input.
        let mut names = Names::of(model);
        let (trigger, echo) = (names.fresh("trigger"), names.fresh("echo"));
        let mut node = self.nodes.clone();
        node.push(NodeProto {
            op_type: Some("Identity".to_owned()),
            input: vec![trigger.clone()],
            output: vec![echo.clone()],
            ..NodeProto::default()
        });
        let outputs = std::iter::once(&echo).chain(&self.values).map(|name| value(name, None));
        let graph = GraphProto {
            name: Some("constants".to_owned()),
            input: vec![value(&trigger, Some(1))],
            output: outputs.collect(),
            node,
            initializer,
            ..GraphProto::default()
        };
        let mut proto = model.proto().clone();
        proto.graph = Some(graph);
        let engine = cpu_engine(&Model::from_proto(proto, model.path())?, &BTreeMap::new())?;
        let results = Reference::compute(&engine, &SampleSet::random(engine.signature(), 1, 0))?;
        let mut tensors = Vec::new();
        for (index, output) in engine.signature().outputs.iter().enumerate() {
            let numbers = results.output(0, index);
            let dims = output.shape_at(1);
            let is_known = dims.iter().product::<usize>() == numbers.len();
            let is_small = numbers.len() <= (MOST_GROWTH * size).max(SMALL);
            if self.values.contains(&output.name) && is_known && is_small {
                tensors.push(tensor(&output.name, &dims, numbers));
            }
        }
        Ok(tensors)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "they are numbers of type f32")]
fn tensor(name: &str, dims: &[usize], numbers: &[f64]) -> TensorProto {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| (*number as f32).to_le_bytes()).collect();
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.iter().map(|size| i64::try_from(*size).expect("bug: more than memory")).collect(),
        data_type: Some(OnnxDataType::Float as i32),
        raw_data: Some(bytes.into()),
        ..TensorProto::default()
    }
}

/// Takes away what only these nodes read.
fn remove_unread(graph: &mut GraphProto, nodes: &[NodeProto]) {
    let of_part: HashSet<&str> = nodes
        .iter()
        .flat_map(|node| names_read(node).chain(node.output.iter().map(String::as_str)))
        .collect();
    loop {
        let mut read: HashSet<String> = graph.output.iter().map(|output| output.name().to_owned()).collect();
        read.extend(graph.node.iter().flat_map(names_read).map(str::to_owned));
        let is_unread = |name: &str| of_part.contains(name) && !read.contains(name);
        let count = graph.node.len();
        graph.node.retain(|node| !node.output.iter().all(|name| is_unread(name)));
        if graph.node.len() == count {
            let inputs: HashSet<&str> = graph.input.iter().map(ValueInfoProto::name).collect();
            graph.initializer.retain(|tensor| inputs.contains(tensor.name()) || !is_unread(tensor.name()));
            return;
        }
    }
}

/// All names that a node and the graphs in it read.
fn names_read(node: &NodeProto) -> impl Iterator<Item = &str> {
    let inner: Vec<&str> = subgraphs(node)
        .flat_map(|graph| {
            graph.node.iter().flat_map(names_read).chain(graph.output.iter().map(ValueInfoProto::name))
        })
        .collect();
    node.input.iter().map(String::as_str).chain(inner)
}

fn value(name: &str, size: Option<i64>) -> ValueInfoProto {
    use crate::model::proto::tensor_shape_proto::{Dimension, dimension};
    let shape = size.map(|size| crate::model::proto::TensorShapeProto {
        dim: vec![Dimension { value: Some(dimension::Value::DimValue(size)), ..Dimension::default() }],
    });
    let tensor = Tensor { elem_type: Some(OnnxDataType::Float as i32), shape };
    let declared = TypeProto { value: Some(Type::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(declared), ..ValueInfoProto::default() }
}
