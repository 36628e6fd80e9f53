//! Damaged and hostile model files end in an error or a model, quickly, and never in a panic.

#![allow(clippy::unwrap_used, reason = "a test file")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use thalweg::model::Model;
use thalweg::model::proto::tensor_proto::DataType;
use thalweg::model::proto::tensor_shape_proto::{Dimension, dimension::Value};
use thalweg::model::proto::type_proto::{Tensor, Value as Type};
use thalweg::model::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
};

/// Numbers that overflow, divide by zero, point backwards or ask for all memory there is.
const NASTY: [i64; 10] = [0, -1, 1, 2, 7, i64::MAX, i64::MIN, 1 << 31, 1 << 40, i64::MAX / 2];

/// Operators with a rule that calculates.
const OPERATORS: [&str; 40] = [
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "Resize",
    "Upsample",
    "DepthToSpace",
    "SpaceToDepth",
    "Pad",
    "GridSample",
    "RoiAlign",
    "MatMul",
    "Gemm",
    "FusedMatMul",
    "Einsum",
    "LSTM",
    "GRU",
    "Attention",
    "ArgMax",
    "TopK",
    "ReduceSum",
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Concat",
    "Split",
    "Slice",
    "Gather",
    "GatherND",
    "Expand",
    "Tile",
    "Shape",
    "ConstantOfShape",
    "Range",
    "OneHot",
    "Div",
    "Mod",
    "LayerNormalization",
];

/// Attributes that these operators read, with lists and numbers to be filled in.
const ATTRIBUTES: [&str; 24] = [
    "strides",
    "pads",
    "dilations",
    "kernel_shape",
    "axes",
    "axis",
    "perm",
    "starts",
    "ends",
    "steps",
    "split",
    "group",
    "blocksize",
    "keepdims",
    "batch_dims",
    "hidden_size",
    "k",
    "start",
    "end",
    "output_shape",
    "ceil_mode",
    "shape",
    "q_num_heads",
    "kv_num_heads",
];

/// A small generator (splitmix64), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }

    fn nasty_list(&mut self) -> Vec<i64> {
        (0..self.roll(6)).map(|_| self.pick(&NASTY)).collect()
    }
}

/// Everything that can be asked of a model.
fn exercise(model: &Model) {
    let sizes = [1usize, 3, 1 << 33];
    for size in sizes {
        let shape = |input: &thalweg::model::TensorInfo| vec![size; input.shape.len()];
        let shapes: BTreeMap<_, _> =
            model.inputs().iter().map(|input| (input.name.clone(), shape(input))).collect();
        let _ = model.signature(&shapes, 2);
        if let Ok(shapes) = model.infer_shapes(&shapes) {
            let _ = model.cost(&shapes);
        }
    }
    let _ = model.signature(&BTreeMap::new(), 1);
    for tensor in &model.graph().initializer {
        let _ = model.tensor_data(tensor);
    }
}

fn value(name: &str, rank: usize) -> ValueInfoProto {
    let dimension = || Dimension { value: Some(Value::DimParam("n".into())), ..Default::default() };
    let shape = Some(TensorShapeProto { dim: (0..rank).map(|_| dimension()).collect() });
    let tensor = Tensor { elem_type: Some(DataType::Float as i32), shape };
    let declared = TypeProto { value: Some(Type::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(declared), ..Default::default() }
}

fn list(name: &str, values: Vec<i64>) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: vec![i64::try_from(values.len()).unwrap()],
        data_type: Some(DataType::Int64 as i32),
        int64_data: values,
        ..Default::default()
    }
}

/// A chain of operators with attributes and constants that make no sense.
fn nonsense(dice: &mut Dice) -> ModelProto {
    let mut graph = GraphProto { input: vec![value("v0", dice.roll(6))], ..Default::default() };
    graph.initializer = (0..4).map(|index| list(&format!("c{index}"), dice.nasty_list())).collect();
    let steps = 1 + dice.roll(4);
    for step in 0..steps {
        let constants: Vec<_> = (0..dice.roll(5)).map(|_| format!("c{}", dice.roll(4))).collect();
        let attribute = |dice: &mut Dice| AttributeProto {
            name: Some(dice.pick(&ATTRIBUTES).into()),
            i: Some(dice.pick(&NASTY)),
            ints: dice.nasty_list(),
            ..Default::default()
        };
        let input = [format!("v{}", dice.roll(step + 1))].into_iter().chain(constants).collect();
        graph.node.push(NodeProto {
            input,
            output: vec![format!("v{}", step + 1)],
            op_type: Some(dice.pick(&OPERATORS).into()),
            attribute: (0..dice.roll(4)).map(|_| attribute(dice)).collect(),
            ..Default::default()
        });
    }
    graph.output = vec![value(&format!("v{steps}"), 2)];
    ModelProto { graph: Some(graph), ..Default::default() }
}

#[test]
fn nonsense_attributes_and_sizes_are_survived() {
    let mut dice = Dice(7);
    let accepted = (0..1_500).filter_map(|_| Model::from_proto(nonsense(&mut dice), "n.onnx").ok());
    let count = accepted.inspect(exercise).count();
    assert!(count > 1_000, "most of them must get past the checks to test anything: {count}");
}

#[test]
fn flipped_and_missing_bytes_are_survived() {
    let mut dice = Dice(11);
    let mut read = 0;
    for _ in 0..1_500 {
        let mut bytes = nonsense(&mut dice).encode_to_vec();
        for _ in 0..=dice.roll(3) {
            let at = dice.roll(bytes.len());
            bytes[at] = dice.roll(256).try_into().unwrap();
        }
        bytes.truncate(bytes.len() - dice.roll(bytes.len()) * dice.roll(2));
        if let Ok(model) = Model::from_bytes(Bytes::from(bytes), "m.onnx") {
            exercise(&model);
            read += 1;
        }
    }
    assert!(read > 50, "some must still be models: {read}");
}

#[test]
fn random_bytes_are_no_model() {
    let mut dice = Dice(13);
    for length in 0..2_000 {
        let bytes: Vec<u8> = (0..length).map(|_| dice.roll(256).try_into().unwrap()).collect();
        assert!(Model::from_bytes(Bytes::from(bytes), "r.onnx").is_err());
    }
}

#[test]
fn deep_nesting_is_refused() {
    let mut graph = GraphProto::default();
    for _ in 0..150 {
        let attribute = AttributeProto { name: Some("g".into()), g: Some(graph), ..Default::default() };
        let node = NodeProto { op_type: Some("If".into()), attribute: vec![attribute], ..Default::default() };
        graph = GraphProto { node: vec![node], ..Default::default() };
    }
    let bytes = ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec();
    let error = Model::from_bytes(bytes.into(), "deep.onnx").unwrap_err().to_string();
    assert!(error.contains("recursion limit"), "{error}");
}

#[test]
fn long_lists_do_not_make_it_slow() {
    let long: Vec<i64> = (0..200_000).map(|index| index % 3).collect();
    let operators = ["Transpose", "Squeeze", "Unsqueeze", "ReduceSum", "Slice", "Split", "Reshape"];
    let start = Instant::now();
    for operator in operators {
        let ints =
            |name: &str| AttributeProto { name: Some(name.into()), ints: long.clone(), ..Default::default() };
        let names = ["perm", "axes", "starts", "ends", "split", "shape"];
        let node = NodeProto {
            input: vec!["x".into()],
            output: vec!["y".into()],
            op_type: Some(operator.into()),
            attribute: names.map(ints).to_vec(),
            ..Default::default()
        };
        let graph = GraphProto {
            input: vec![value("x", 1000)],
            output: vec![value("y", 1)],
            node: vec![node],
            ..Default::default()
        };
        let model =
            Model::from_proto(ModelProto { graph: Some(graph), ..Default::default() }, "l.onnx").unwrap();
        exercise(&model);
    }
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
}
