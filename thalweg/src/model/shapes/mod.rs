//! The shape and element type of every value of a graph, for given input shapes.
//!
//! In: the graph and the shapes of its inputs, all sizes known. Out: [`Shapes`]. Because all sizes are known,
//! the subgraphs that compute shapes (`Shape`, `Gather`, `Concat`, ...) are simply calculated: a [`Value`]
//! carries its elements while they are few. The rules are in the sibling files, one function per family of
//! operators; what a rule cannot know (unknown operators, sizes that depend on the data) stays unknown.
//!
//! The rules are our own, not those of rten-shape-inference: that crate calculates with symbols in unchecked
//! 32-bit integers, which a damaged model overflows, and has no fractions, which `Resize` subgraphs need.

mod algebra;
mod call;
mod element_types;
mod fold;
mod layout;
mod rules;
mod spatial;
mod subgraph;

use std::collections::{BTreeMap, HashMap};

use super::proto::{GraphProto, NodeProto, TensorProto};
use super::{DataType, Dimension, Model, tensor_info};
use crate::error::{Error, Result};
use call::{Call, Stop};

/// Sizes of a value's dimensions, batch included.
pub type Shape = Vec<usize>;

/// Above this many elements a value holds data, not a shape, and is not calculated. Shapes have up to eight;
/// masks and position lists that shapes are taken from stay below a few thousand.
const MAX_FOLDED_ELEMENTS: usize = 4096;

/// Values of more dimensions stay unknown: no runtime has them (NumPy stops at 64), and rules that compare axes
/// with each other stay fast on damaged files.
const MAX_RANK: usize = 64;

/// What is known about one value of a graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Value {
    pub data_type: Option<DataType>,
    pub shape: Option<Shape>,
    /// The elements themselves, where they follow from shapes and constants. Integers are exact up to 2^53;
    /// larger ones only occur as "to the end", which survives rounding.
    pub elements: Option<Vec<f64>>,
}

/// Shape and element type of the values of a graph, by name.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    values: HashMap<String, Value>,
    /// The branch that each `If` takes, by the name of its first output, where that is known.
    branches: HashMap<String, Branch>,
}

/// One branch of an `If`.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    /// The attribute that holds its graph.
    pub attribute: &'static str,
    /// Its values, and those from outside that it uses.
    pub shapes: Shapes,
}

impl Shapes {
    /// The shape of a value, batch included; `None` where it is unknown.
    pub fn shape(&self, value: &str) -> Option<&[usize]> {
        self.values.get(value)?.shape.as_deref()
    }

    /// The element type of a value; `None` where it is unknown.
    pub fn data_type(&self, value: &str) -> Option<DataType> {
        self.values.get(value)?.data_type
    }

    /// The bytes of a value; `None` where its shape or type is unknown.
    pub fn byte_count(&self, value: &str) -> Option<u64> {
        let elements = self
            .shape(value)?
            .iter()
            .try_fold(1u64, |product, size| product.checked_mul(u64::try_from(*size).ok()?))?;
        elements.checked_mul(self.data_type(value)?.byte_count() as u64)
    }

    /// Whether a value's elements follow from shapes and constants alone.
    pub(super) fn is_calculated(&self, value: &str) -> bool {
        self.values.get(value).is_some_and(|value| value.elements.is_some())
    }

    /// The branch that an `If` takes; `None` where that depends on the data.
    pub(super) fn branch(&self, node: &NodeProto) -> Option<&Branch> {
        self.branches.get(node.output.first()?)
    }

    /// Name, element type and shape of every value, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<DataType>, Option<&[usize]>)> {
        let sorted: BTreeMap<_, _> = self.values.iter().collect();
        sorted.into_iter().map(|(name, value)| (name.as_str(), value.data_type, value.shape.as_deref()))
    }
}

/// See [`Model::infer_shapes`]. `input_shapes` has a shape for every input.
pub(super) fn infer(model: &Model, input_shapes: &BTreeMap<String, Shape>) -> Result<Shapes> {
    let mut values = HashMap::new();
    for input in model.inputs() {
        let shape = input_shapes.get(&input.name).cloned();
        values.insert(input.name.clone(), Value { data_type: Some(input.data_type), shape, elements: None });
    }
    let scope = Scope { outer: None, model, shapes: Shapes { values, ..Shapes::default() } };
    infer_graph(model.graph(), scope).map_err(|reason| Error::InvalidModel {
        reason: format!("{reason}; the inputs are {}", describe(input_shapes)),
    })
}

/// See [`Model::element_types`].
pub(super) fn element_types_of(
    model: &Model,
    graph: &GraphProto,
    outer: &HashMap<String, DataType>,
) -> Result<HashMap<String, DataType>> {
    let typed = |data_type| Value { data_type: Some(data_type), ..Value::default() };
    let mut values: HashMap<_, _> =
        outer.iter().map(|(name, data_type)| (name.clone(), typed(*data_type))).collect();
    let declared = graph.input.iter().filter_map(|it| Some((it.name(), tensor_info::declared_type(it)?)));
    values.extend(declared.map(|(name, data_type)| (name.to_owned(), typed(data_type))));
    let scope = Scope { outer: None, model, shapes: Shapes { values, ..Shapes::default() } };
    let shapes = infer_graph(graph, scope).map_err(|reason| Error::InvalidModel { reason })?;
    let known = shapes.values.into_iter().filter(|(name, _)| !outer.contains_key(name));
    Ok(known.filter_map(|(name, value)| Some((name, value.data_type?))).collect())
}

/// The values of a graph so far. Subgraphs see those of the graphs around them.
struct Scope<'a> {
    outer: Option<&'a Scope<'a>>,
    model: &'a Model,
    shapes: Shapes,
}

impl Scope<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.shapes.values.get(name).or_else(|| self.outer?.get(name))
    }
}

/// Infers all values of a graph whose inputs are in `scope`. The error says which node cannot be.
fn infer_graph(graph: &GraphProto, mut scope: Scope<'_>) -> Result<Shapes, String> {
    for tensor in &graph.initializer {
        scope.shapes.values.insert(tensor.name().to_owned(), constant(scope.model, tensor));
    }
    let declared: HashMap<_, _> =
        graph.value_info.iter().chain(&graph.output).map(|value| (value.name(), value)).collect();
    for node in &graph.node {
        let inferred = match node.op_type() {
            "If" => subgraph::infer_if(node, &scope),
            _ => infer_node(node, &scope).map(|outputs| (outputs, None)),
        };
        let (outputs, branch) =
            inferred.map_err(|reason| format!("node `{}` ({}) {reason}", node.label(), node.op_type()))?;
        if let (Some(name), Some(branch)) = (node.output.first(), branch) {
            scope.shapes.branches.insert(name.clone(), branch);
        }
        for (name, mut value) in node.output.iter().zip(outputs) {
            if let Some(declared) = declared.get(name.as_str()) {
                value.data_type = value.data_type.or_else(|| tensor_info::declared_type(declared));
                value.shape = value.shape.or_else(|| fixed(&tensor_info::declared_shape(declared)?));
            }
            scope.shapes.values.insert(name.clone(), value);
        }
    }
    Ok(scope.shapes)
}

/// One value per output of the node.
fn infer_node(node: &NodeProto, scope: &Scope<'_>) -> Result<Vec<Value>, String> {
    let call = Call::new(node, scope);
    let shapes = match rules::apply(&call) {
        Ok(shapes) => shapes,
        Err(Stop::Unknown) => Vec::new(),
        Err(Stop::Contradiction(reason)) => return Err(reason),
    };
    let mut elements = fold::elements(&call, &shapes);
    let mut shapes = shapes.into_iter();
    let output = |index| {
        let data_type = element_types::of_output(&call, index);
        Value { data_type, shape: shapes.next(), elements: elements.next().flatten() }
    };
    Ok((0..node.output.len()).map(output).collect())
}

/// A tensor of the model, with its elements where it is small.
fn constant(model: &Model, tensor: &TensorProto) -> Value {
    let sizes = tensor.dims.iter().map(|size| usize::try_from(*size).ok());
    let shape: Option<Shape> = sizes.collect();
    let data_type = DataType::from_onnx(tensor.data_type());
    let elements = match (&shape, data_type) {
        (Some(shape), Some(data_type)) if element_count(shape).is_some_and(|n| n <= MAX_FOLDED_ELEMENTS) => {
            model.tensor_data(tensor).ok().and_then(|bytes| fold::decode(data_type, &bytes))
        }
        _ => None,
    };
    Value { data_type, shape, elements }
}

/// Number of elements; `None` where it does not fit.
fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))
}

/// The sizes of a declared shape that leaves nothing open.
fn fixed(shape: &[Dimension]) -> Option<Shape> {
    let size = |dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => Some(*size),
        Dimension::Open(_) => None,
    };
    shape.iter().map(size).collect()
}

fn describe(input_shapes: &BTreeMap<String, Shape>) -> String {
    let inputs: Vec<_> = input_shapes.iter().map(|(name, shape)| format!("`{name}` {shape:?}")).collect();
    inputs.join(", ")
}

#[cfg(test)]
mod tests;
