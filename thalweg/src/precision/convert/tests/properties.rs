//! What holds for every graph, tried on random ones and on a hostile one.
//!
//! Weights and inputs are multiples of 1/8, which both half types hold exactly. So a converted graph whose half types
//! are read as FP32 again must compute what the original computes, to the last bit: every node is still there, and
//! reads what it read before.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::*;
use crate::backend::BuildOptions;
use crate::backend::cpu::CpuBackend;
use crate::engine::{self, EngineRequest, MaxBatch};
use crate::measure::{Reference, SampleSet};
use crate::random::Random;

const GRAPHS: u64 = 60;
const WIDTH: usize = 4;

/// A graph of random nodes over tensors of `[1, 4]`.
struct Draft {
    random: Random,
    sketch: Sketch,
    values: Vec<String>,
    prefix: &'static str,
}

impl Draft {
    fn new(seed: u64) -> Self {
        let sketch = Sketch::new().input("x", "1,4").input("x_fp16", "1,4").declared_output("y", "1,4");
        let values = vec!["x".to_owned(), "x_fp16".to_owned()];
        Self { random: Random::new(seed), sketch, values, prefix: "v" }
    }

    fn model(mut self) -> Model {
        let flag = TensorProto {
            dims: vec![],
            data_type: Some(OnnxDataType::Bool as i32),
            raw_data: Some(vec![1].into()),
            ..floats("flag", &[])
        };
        self.sketch.graph.initializer.push(flag);
        for _ in 0..10 {
            self.grow();
        }
        let branches = ["then_branch", "else_branch"].map(|name| sketch::graph(name, self.branch()));
        self.sketch = self.sketch.clone().node("chosen = If(flag)", &branches);
        let last = self.pick();
        self.sketch = self.sketch.clone().node(&format!("y = Add(chosen, {last})"), &[]);
        self.sketch.model()
    }

    fn branch(&mut self) -> GraphProto {
        let outer = std::mem::replace(&mut self.sketch, Sketch::new().declared_output("inner", "1,4"));
        let count = self.values.len();
        let prefix = std::mem::replace(&mut self.prefix, "w");
        for _ in 0..4 {
            self.grow();
        }
        let last = self.pick();
        let branch = self.sketch.clone().node(&format!("inner = Neg({last})"), &[]).graph;
        self.values.truncate(count);
        (self.sketch, self.prefix) = (outer, prefix);
        branch
    }

    fn pick(&mut self) -> String {
        let place = self.random.below(self.values.len());
        self.values[place].clone()
    }

    /// One more node, half of them of operators that stay in FP32.
    fn grow(&mut self) {
        let name = format!("{}{}", self.prefix, self.values.len());
        let (a, b) = (self.pick(), self.pick());
        let line = match self.random.below(8) {
            0 => format!("{name} = Relu({a})"),
            1 => format!("{name} = Max({a}, {b})"),
            2 => format!("{name} = Sub({a}, {b})"),
            3 => format!("{name} = Identity({a})"),
            4 => format!("{name} = Softplus({a})"),
            5 => format!("{name} = Tanh({a})"),
            6 => {
                let weight = self.weight(WIDTH);
                format!("{name} = Add({a}, {weight})")
            }
            _ => {
                let weight = self.weight(WIDTH);
                format!("{name} = Min({weight}, {b})")
            }
        };
        self.sketch = self.sketch.clone().node(&line, &[]);
        self.values.push(name);
    }

    /// A weight of the graph, or one that it has already.
    fn weight(&mut self, count: usize) -> String {
        let known = self.sketch.graph.initializer.iter().map(|tensor| tensor.name().to_owned());
        let known: Vec<_> = known.filter(|name| name != "flag").collect();
        if !known.is_empty() && self.random.below(2) == 0 {
            return known[self.random.below(known.len())].clone();
        }
        let name = format!("{}k{}", self.prefix, self.values.len());
        let values: Vec<_> = (0..count).map(|_| self.random.below(32) as f32 / 8.0 - 2.0).collect();
        self.sketch = with_weight(self.sketch.clone(), &name, &values);
        name
    }
}

/// The same model with every half type read as FP32.
fn widened(model: &Model, half: HalfType) -> Model {
    fn widen(model: &Model, graph: &mut GraphProto, half: HalfType) {
        for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.data_type() == half.onnx()) {
            let wide: Vec<f32> = match half {
                HalfType::Fp16 => {
                    halves(model, tensor).map(|bits| half::f16::from_bits(bits).to_f32()).collect()
                }
                HalfType::Bf16 => {
                    halves(model, tensor).map(|bits| half::bf16::from_bits(bits).to_f32()).collect()
                }
            };
            *tensor = TensorProto { dims: tensor.dims.clone(), ..floats(tensor.name(), &wide) };
        }
        for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
            if attribute.name() == "to" && attribute.i == Some(i64::from(half.onnx())) {
                attribute.i = Some(OnnxDataType::Float as i64);
            }
            attribute.g.iter_mut().for_each(|graph| widen(model, graph, half));
        }
    }
    let mut proto = model.proto().clone();
    widen(model, proto.graph.as_mut().unwrap(), half);
    Model::from_proto(proto, "widened.onnx").unwrap()
}

fn halves(model: &Model, tensor: &TensorProto) -> impl Iterator<Item = u16> {
    let bytes = model.tensor_data(tensor).unwrap();
    let bits: Vec<u16> = bytes.as_chunks().0.iter().map(|two| u16::from_le_bytes(*two)).collect();
    bits.into_iter()
}

/// The outputs on one random sample.
fn outputs(model: &Model) -> Vec<f64> {
    let (input_shapes, options) = (BTreeMap::new(), BuildOptions::default());
    let request = EngineRequest {
        model,
        input_shapes: &input_shapes,
        max_batch: MaxBatch::Exactly(1),
        options: &options,
        calibration: None,
        watch: None,
    };
    let engine = engine::build(&CpuBackend::new(), &request, None).unwrap().engine;
    let samples = SampleSet::random(engine.signature(), 1, 7);
    Reference::compute(&engine, &samples).unwrap().output(0, 0).to_vec()
}

/// Every node of ONNX's own domain has one floating-point type among its inputs, but for casts and `If`.
fn assert_types_agree(model: &Model, graph: &GraphProto, around: &HashMap<String, DataType>) {
    let mut types = around.clone();
    types.extend(model.element_types(graph, around).unwrap());
    for node in &graph.node {
        let read: HashSet<_> = node.input.iter().filter_map(|name| types.get(name)).collect();
        let floats = read.iter().filter(|data_type| data_type.is_float()).count();
        assert!(floats <= 1, "{} reads {read:?}", node.label());
        for subgraph in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
            assert_types_agree(model, subgraph, &types);
        }
    }
}

/// How many casts there are, in subgraphs too; each graph casts a value once at most.
fn assert_no_cast_twice(graph: &GraphProto) -> usize {
    let casts: Vec<_> = graph.node.iter().filter(|node| node.op_type() == "Cast").collect();
    let values: HashSet<_> = casts.iter().map(|node| &node.input[0]).collect();
    assert_eq!(values.len(), casts.len());
    let subgraphs = graph.node.iter().flat_map(crate::precision::onnx::subgraphs);
    casts.len() + subgraphs.map(assert_no_cast_twice).sum::<usize>()
}

#[test]
fn a_random_graph_computes_the_same_with_types_that_agree_and_no_cast_twice() {
    for seed in 0..GRAPHS {
        let original = Draft::new(seed).model();
        for half in HalfType::ALL {
            let (converted, report) = convert(&original, &spec(half)).unwrap();
            assert_types_agree(&converted, converted.graph(), &HashMap::new());
            assert_eq!(assert_no_cast_twice(converted.graph()), report.cast_count, "seed {seed}");
            let (expected, got) = (outputs(&original), outputs(&widened(&converted, half)));
            assert_eq!(got, expected, "seed {seed}, {half}");
        }
    }
}

#[test]
fn names_that_are_taken_are_not_given_again() {
    let sketch = Sketch::new().input("x", "1,4").output("y").output("x_fp16");
    let sketch = sketch.node("x_fp16 = Exp(x)", &[]).node("y = Relu(x)", &[]);
    let (model, _) = to_fp16(sketch);
    let expected = ["Cast x > x_fp16_1", "Exp x > x_fp16", "Relu x_fp16_1 > y_fp16", "Cast y_fp16 > y"];
    assert_eq!(lines(model.graph()), expected);
}

#[test]
fn a_loop_body_takes_and_gives_what_it_did() {
    let mut body = Sketch::new().graph;
    let typed = |name: &str, data_type: OnnxDataType| {
        let mut value = sketch::value(name, Some(""));
        if let Some(crate::model::proto::type_proto::Value::TensorType(tensor)) =
            value.r#type.as_mut().and_then(|it| it.value.as_mut())
        {
            tensor.elem_type = Some(data_type as i32);
        }
        value
    };
    body.input = vec![
        typed("i", OnnxDataType::Int64),
        typed("go", OnnxDataType::Bool),
        sketch::value("s", Some("1,4")),
    ];
    body.node = vec![sketch::node("t = Add(s, a)", &[]), sketch::node("on = Identity(go)", &[])];
    body.output = vec![typed("on", OnnxDataType::Bool), sketch::value("t", Some("1,4"))];
    let sketch = Sketch::new().input("x", "1,4").output("y").integers("count", &[3]);
    let sketch = sketch.node("a = Relu(x)", &[]).node("s0 = Sigmoid(x)", &[]);
    let sketch =
        sketch.node("sum = Loop(count, , s0)", &[sketch::graph("body", body)]).node("y = Relu(sum)", &[]);
    let (model, report) = to_fp16(sketch);
    assert_types_agree(&model, model.graph(), &HashMap::new());
    let looped = model.graph().node.iter().find(|node| node.op_type() == "Loop").unwrap();
    assert_eq!((looped.input[2].as_str(), looped.output[0].as_str()), ("s0", "sum"));
    let body = looped.attribute[0].g.as_ref().unwrap();
    let expected = ["Cast s > s_fp16", "Add s_fp16 a_fp16 > t_fp16", "Cast t_fp16 > t", "Identity go > on"];
    assert_eq!(lines(body), expected);
    assert_eq!((report.half_nodes, report.kept.len()), (4, 0));
}

#[test]
fn a_hostile_model_is_converted_where_that_is_sound() {
    let sketch = Sketch::new().input("x", "1,3").output("y").output("z");
    let sketch = with_weight(sketch, "odd", &[f32::NAN, f32::NEG_INFINITY, 1e-7]);
    let sketch = with_weight(sketch, "wide", &[1e-30, 1.0, 1e30]);
    let sketch = with_weight(sketch, "shared", &[0.1, 0.2, 0.3]);
    let sketch = sketch.node("a = Add(x, odd)", &[]).node("b = Mul(a, wide)", &[]);
    let sketch = sketch.node("c = Mul(b, shared)", &[]).node("d = Mystery(c)", &[]);
    let sketch = sketch.node("y = Mul(d, shared)", &[]).node("z = Exp(shared)", &[]);
    let (model, report) = to_fp16(sketch);
    assert_types_agree(&model, model.graph(), &HashMap::new());
    let why: Vec<_> =
        report.kept.iter().map(|node| (node.operator.as_str(), node.reason.summary())).collect();
    let operators: Vec<_> = why.iter().map(|(operator, _)| *operator).collect();
    assert_eq!(operators, ["Add", "Mul", "Mystery", "Exp"]);
    assert!(why[0].1.contains("too small") && why[1].1.contains("too large"), "{why:?}");
    assert_eq!(report.weights.doubled_tensors, 1);
}

#[test]
fn values_that_leave_the_range_of_fp16_on_data_stay_in_fp32() {
    let sketch = Sketch::new().input("x", "1,3").declared_output("y", "1,3");
    let sketch = with_weight(sketch, "large", &[60_000.0, 60_000.0, 60_000.0]);
    let sketch = sketch.node("a = Add(x, large)", &[]).node("b = Add(a, large)", &[]);
    let model = sketch.node("y = Tanh(b)", &[]).model();
    let ranges = Ranges::measure(&model, HalfType::Fp16, &BTreeMap::new(), None, 0).unwrap();
    assert!(ranges.get("b").unwrap().largest > 65_504.0);
    assert_eq!((ranges.source().is_random, ranges.source().value_count), (true, 3));
    let with_ranges = ConversionSpec { ranges: Some(&ranges), ..spec(HalfType::Fp16) };
    let (_, report) = convert(&model, &with_ranges).unwrap();
    assert_eq!((report.half_nodes, report.kept.len()), (0, 3));
    assert!(matches!(report.kept[1].reason, KeepReason::Overflow { .. }));
    let (_, report) =
        convert(&model, &ConversionSpec { half: HalfType::Bf16, ranges: None, ..with_ranges }).unwrap();
    assert_eq!(report.half_nodes, 3);
}

#[test]
fn a_model_without_fp32_stays_as_it_is() {
    let mut model = Sketch::new().integers("one", &[1]).node("a = Add(one, one)", &[]).graph;
    model.node.push(sketch::node("y = Neg(a)", &[]));
    let mut sketch = Sketch::new().output("y");
    sketch.graph.node = model.node;
    sketch.graph.initializer = model.initializer;
    if let Some(crate::model::proto::type_proto::Value::TensorType(tensor)) =
        sketch.graph.output[0].r#type.as_mut().and_then(|it| it.value.as_mut())
    {
        tensor.elem_type = Some(OnnxDataType::Int64 as i32);
    }
    let original = sketch.model();
    let (converted, report) = convert(&original, &spec(HalfType::Fp16)).unwrap();
    assert_eq!(converted.encode(), original.encode());
    assert_eq!((report.other_nodes, report.cast_count), (2, 0));
}
