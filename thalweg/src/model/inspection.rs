//! What there is to know about a model without running it.
//!
//! In: a [`Model`], sizes for its open dimensions, and a batch size. Out: an [`Inspection`], plain data.
//! A model whose dimensions are left open still shows what is known without them. The text for people is left
//! to [`report`](crate::report).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::proto::tensor_proto::DataType as OnnxDataType;
use super::proto::{GraphProto, TensorProto};
use super::{Cost, DataType, Model, NodeCost, Shape, Shapes, TensorInfo, tensor_data};
use crate::error::{Error, Result};
use crate::units::Bytes;

/// Enough to see where the arithmetic is, few enough to read. All nodes are in [`Cost::nodes`].
const EXPENSIVE_NODES: usize = 10;

/// What there is to know about a model without running it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// The model's name.
    pub name: String,
    /// Where it came from.
    pub path: String,
    /// Size of the ONNX file, without external data.
    pub file_bytes: Bytes,
    /// Whether some tensors keep their data in other files.
    pub has_external_data: bool,
    /// Name and version of the program that wrote the file; empty where it does not say.
    pub producer: String,
    /// Version of ONNX's file format; 0 where the file does not say.
    pub ir_version: i64,
    /// Version of each operator set by its domain.
    pub opsets: BTreeMap<String, i64>,
    /// Inputs, in the model's order.
    pub inputs: Vec<InspectedTensor>,
    /// Outputs, in the model's order.
    pub outputs: Vec<InspectedTensor>,
    /// How many samples one execution takes.
    pub batching: Batching,
    /// Trained numbers: elements of all stored tensors, without single numbers and 64-bit integers, which are
    /// constants of formulas, shapes and indices.
    pub parameter_count: u64,
    /// The operators, the one with the most FLOPs first, or the most frequent one where there is no cost.
    pub operators: Vec<OperatorSummary>,
    /// What one execution takes; `None` where dimensions are left open.
    pub cost: Option<CostSummary>,
    /// Which dimension is open and how to give its size, where there is no cost.
    pub open_dimension: Option<String>,
}

/// An input or output: as the file declares it, and as it is in the inspected execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InspectedTensor {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub data_type: DataType,
    /// The declared shape for people: `[batch, 3, 224, 224]`, with `?` for a dimension without a symbol.
    pub declared_shape: String,
    /// The whole shape, batch included; `None` where it is unknown.
    pub shape: Option<Shape>,
}

/// How many samples one execution takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Batching {
    /// Any number.
    Any,
    /// Always this number, above 1.
    Fixed {
        /// The number.
        batch_size: usize,
    },
    /// One.
    Single {
        /// Why there cannot be more.
        reason: String,
    },
    /// Dimensions are left open, so it could not be tried.
    Unknown,
}

/// All nodes of one operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorSummary {
    /// ONNX name of the operator.
    pub operator: String,
    /// Number of nodes.
    pub count: usize,
    /// Their arithmetic operations; `None` where dimensions are left open.
    pub flops: Option<u64>,
    /// Weights and activations that they read and write; `None` as above. A weight that several nodes read
    /// counts for each.
    pub bytes: Option<Bytes>,
}

/// What one execution takes, without the list of all nodes. See [`Cost`] for how it is counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostSummary {
    /// Samples of the execution.
    pub batch_size: usize,
    /// Arithmetic operations; a multiply-add counts as 2.
    pub flops: u64,
    /// Weights read. One that several nodes read counts once.
    pub weight_bytes: Bytes,
    /// Activations read and written by all nodes.
    pub activation_bytes: Bytes,
    /// FLOPs per byte of weights and activations; `None` where nothing moves.
    pub arithmetic_intensity_flops_per_byte: Option<f64>,
    /// The nodes with the most FLOPs, at most ten, the most expensive one first.
    pub most_expensive_nodes: Vec<NodeCost>,
    /// Names of the nodes whose operator or shapes are unknown: what they take is missing above.
    pub unknown_nodes: Vec<String>,
}

impl Inspection {
    /// Looks at a model as it would run with these whole input shapes, batch in front, and this batch size. A
    /// model with a fixed batch is looked at with that one where `batch_size` is 1. Open dimensions without a
    /// size are no error: see [`open_dimension`](Self::open_dimension).
    ///
    /// # Errors
    /// As [`Model::signature`] but for [`Error::OpenDimension`]; [`Error::InvalidModel`] where shapes contradict
    /// each other.
    pub fn of(model: &Model, input_shapes: &BTreeMap<String, Shape>, batch_size: usize) -> Result<Self> {
        match Execution::of(model, input_shapes, batch_size) {
            Ok(execution) => {
                let cost = model.cost(&execution.shapes);
                let mut inspection = Self::without_execution(model, Some(&cost));
                let tensors = inspection.inputs.iter_mut().chain(&mut inspection.outputs);
                tensors.for_each(|it| it.shape = execution.shapes.shape(&it.name).map(<[_]>::to_vec));
                inspection.batching = batching(model, input_shapes)?;
                inspection.cost = Some(CostSummary::of(cost, execution.batch_size));
                Ok(inspection)
            }
            Err(open @ Error::OpenDimension { .. }) => {
                let open_dimension = Some(open.to_string());
                Ok(Self { open_dimension, ..Self::without_execution(model, None) })
            }
            Err(other) => Err(other),
        }
    }

    /// What the file says, with what `cost` knows about its operators.
    fn without_execution(model: &Model, cost: Option<&Cost>) -> Self {
        let proto = model.proto();
        let tensors = |declared: &[TensorInfo]| declared.iter().map(InspectedTensor::of).collect();
        Self {
            name: model.name().to_owned(),
            path: model.path().to_string_lossy().into_owned(),
            file_bytes: Bytes(model.encode().len() as u64),
            has_external_data: model.has_external_data(),
            producer: format!("{} {}", proto.producer_name(), proto.producer_version()).trim().to_owned(),
            ir_version: proto.ir_version(),
            opsets: model.opsets().into_iter().collect(),
            inputs: tensors(model.inputs()),
            outputs: tensors(model.outputs()),
            batching: Batching::Unknown,
            parameter_count: parameter_count(model.graph()),
            operators: operators(model.graph(), cost),
            cost: None,
            open_dimension: None,
        }
    }
}

impl InspectedTensor {
    fn of(declared: &TensorInfo) -> Self {
        let TensorInfo { name, data_type, .. } = declared.clone();
        Self { name, data_type, declared_shape: declared.display_shape(), shape: None }
    }
}

impl CostSummary {
    fn of(cost: Cost, batch_size: usize) -> Self {
        let arithmetic_intensity_flops_per_byte = cost.arithmetic_intensity();
        let Cost { flops, weight_bytes, activation_bytes, mut nodes, unknown_nodes } = cost;
        nodes.retain(|node| node.flops > 0);
        nodes.sort_by_key(|node| Reverse((node.flops, moved(node))));
        nodes.truncate(EXPENSIVE_NODES);
        Self {
            batch_size,
            flops,
            weight_bytes,
            activation_bytes,
            arithmetic_intensity_flops_per_byte,
            most_expensive_nodes: nodes,
            unknown_nodes,
        }
    }
}

/// One execution that the model allows.
struct Execution {
    batch_size: usize,
    shapes: Shapes,
}

impl Execution {
    fn of(model: &Model, input_shapes: &BTreeMap<String, Shape>, batch_size: usize) -> Result<Self> {
        let signature = model.signature(input_shapes, batch_size)?;
        let batch_size = batch_size.max(*signature.batch_sizes.start());
        let shapes = model.infer_shapes(&signature.input_shapes(batch_size))?;
        Ok(Self { batch_size, shapes })
    }
}

/// Found by asking for two samples, and why not where the answer is no.
fn batching(model: &Model, input_shapes: &BTreeMap<String, Shape>) -> Result<Batching> {
    let smallest = *model.signature(input_shapes, 1)?.batch_sizes.start();
    if smallest > 1 {
        return Ok(Batching::Fixed { batch_size: smallest });
    }
    match model.signature(input_shapes, 2) {
        Ok(_) => Ok(Batching::Any),
        Err(Error::InvalidSetting { reason, .. }) => Ok(Batching::Single { reason }),
        Err(other) => Err(other),
    }
}

fn parameter_count(graph: &GraphProto) -> u64 {
    let is_trained = |tensor: &&TensorProto| {
        !tensor.dims.is_empty() && tensor.data_type != Some(OnnxDataType::Int64.into())
    };
    let elements = |tensor: &TensorProto| {
        let sizes = tensor.dims.iter().map(|size| u64::try_from(*size).unwrap_or(0));
        sizes.fold(1, u64::saturating_mul)
    };
    let trained = tensor_data::all_tensors(graph).into_iter().filter(is_trained);
    trained.map(elements).fold(0, u64::saturating_add)
}

/// One entry for each operator of the main graph; `cost` has its nodes in the same order.
fn operators(graph: &GraphProto, cost: Option<&Cost>) -> Vec<OperatorSummary> {
    let mut summaries = BTreeMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        let node_cost = cost.and_then(|cost| cost.nodes.get(index));
        let summary = summaries.entry(node.op_type()).or_insert_with(|| OperatorSummary {
            operator: node.op_type().to_owned(),
            count: 0,
            flops: node_cost.map(|_| 0),
            bytes: node_cost.map(|_| Bytes::default()),
        });
        summary.count += 1;
        if let Some(node_cost) = node_cost {
            summary.flops = summary.flops.map(|flops| flops.saturating_add(node_cost.flops));
            summary.bytes = summary.bytes.map(|bytes| bytes + moved(node_cost));
        }
    }
    // Stable, so that equals stay in alphabetic order.
    let mut summaries: Vec<_> = summaries.into_values().collect();
    summaries.sort_by_key(|it| Reverse((it.flops, it.bytes, it.count)));
    summaries
}

fn moved(node: &NodeCost) -> Bytes {
    node.weight_bytes + node.activation_bytes
}

#[cfg(test)]
mod tests {
    use super::super::sketch::Sketch;
    use super::*;

    fn inspect(sketch: Sketch, batch_size: usize) -> Result<Inspection> {
        Inspection::of(&sketch.model(), &BTreeMap::new(), batch_size)
    }

    fn classifier(input: &str) -> Sketch {
        Sketch::new()
            .input("x", input)
            .weights("w", &[4, 8])
            .weights("v", &[8, 2])
            .integers("flat", &[-1, 2])
            .node("a = MatMul(x, w)", &[])
            .node("b = Relu(a)", &[])
            .node("c = MatMul(b, v)", &[])
            .node("y = Reshape(c, flat)", &[])
            .declared_output("y", "batch,2")
    }

    #[test]
    fn an_open_batch_costs_what_was_asked_for() {
        let inspection = inspect(classifier("batch,4"), 3).unwrap();
        assert_eq!(inspection.batching, Batching::Any);
        assert_eq!(inspection.opsets, BTreeMap::from([("ai.onnx".into(), 17)]));
        assert_eq!((inspection.name.as_str(), inspection.path.as_str()), ("sketch", "sketch.onnx"));
        let tensors: Vec<_> = inspection.inputs.iter().chain(&inspection.outputs).collect();
        assert_eq!(tensors[0].declared_shape, "[batch, 4]");
        assert_eq!(tensors[0].shape, Some(vec![3, 4]));
        assert_eq!(tensors[1].shape, Some(vec![3, 2]));
        let cost = inspection.cost.unwrap();
        assert_eq!((cost.batch_size, cost.flops), (3, 3 * (2 * 4 * 8 + 8 + 2 * 8 * 2)));
        assert_eq!(inspection.open_dimension, None);
    }

    #[test]
    fn operators_and_nodes_come_with_the_most_arithmetic_first() {
        let inspection = inspect(classifier("batch,4"), 1).unwrap();
        let operator = |name: &str, count, flops, bytes| OperatorSummary {
            operator: name.into(),
            count,
            flops: Some(flops),
            bytes: Some(Bytes(bytes)),
        };
        let matmul = operator("MatMul", 2, 96, 4 * (4 + 32 + 8 + 8 + 16 + 2));
        let relu = operator("Relu", 1, 8, 64);
        let reshape = &inspection.operators[2];
        assert_eq!(inspection.operators[..2], [matmul, relu]);
        assert_eq!((reshape.operator.as_str(), reshape.flops), ("Reshape", Some(0)));
        let nodes = inspection.cost.unwrap().most_expensive_nodes;
        assert_eq!(nodes.iter().map(|node| node.flops).collect::<Vec<_>>(), [64, 32, 8]);
    }

    #[test]
    fn shapes_and_single_numbers_are_no_parameters() {
        let sketch = classifier("batch,4").weights("epsilon", &[]);
        assert_eq!(inspect(sketch, 1).unwrap().parameter_count, 4 * 8 + 8 * 2);
    }

    #[test]
    fn open_dimensions_leave_what_the_file_says() {
        let sketch = Sketch::new().input("x", "batch,t").node("y = Relu(x)", &[]).output("y");
        let inspection = inspect(sketch, 1).unwrap();
        assert_eq!(inspection.cost, None);
        assert_eq!(inspection.batching, Batching::Unknown);
        assert_eq!(inspection.inputs[0].shape, None);
        assert_eq!((inspection.operators[0].count, inspection.operators[0].flops), (1, None));
        let open = inspection.open_dimension.unwrap();
        assert!(open.starts_with("input `x` is [batch, t]: give the size"), "{open}");
    }

    #[test]
    fn a_fixed_batch_is_found_and_costs_as_a_whole() {
        let inspection = inspect(classifier("8,4"), 1).unwrap();
        assert_eq!(inspection.batching, Batching::Fixed { batch_size: 8 });
        assert_eq!(inspection.cost.unwrap().batch_size, 8);
        assert!(matches!(inspect(classifier("8,4"), 4), Err(Error::InvalidSetting { name: "batch", .. })));
    }

    #[test]
    fn a_model_without_batch_says_why() {
        let inspection = inspect(classifier("1,4"), 1).unwrap();
        let reason = "input `x` [1, 4] has no open batch dimension".into();
        assert_eq!(inspection.batching, Batching::Single { reason });
    }

    #[test]
    fn json_carries_the_kind_of_batching_and_units_in_names() {
        let json = serde_json::to_value(inspect(classifier("8,4"), 8).unwrap()).unwrap();
        assert_eq!(json["batching"], serde_json::json!({ "kind": "fixed", "batch_size": 8 }));
        assert!(json["cost"]["arithmetic_intensity_flops_per_byte"].as_f64().unwrap() > 0.0);
        assert_eq!(json["inputs"][0]["data_type"], "f32");
    }
}
