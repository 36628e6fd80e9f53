//! A deliberately hostile model, and what all passes make of it.
//!
//! It has NaN, infinities and subnormal numbers among its weights, values over the whole range of FP32, weights that
//! several nodes and graphs share, and subgraphs in `If` and `Loop`. Each pass has to handle a node or to refuse it by
//! name, and what it wrote has to run.

use std::collections::BTreeMap;

use super::probe::cpu_engine;
use super::{
    AccuracyLimit, Boundary, CalibrationMethod, CalibrationTable, ConversionSpec, Ends, HalfType, KeepReason,
    Lowering, MixSpec, QuantizationSpec, Ranges, SampleSource, SkipReason, choose_mix, compare, convert,
    layer_errors, quantizable_values, quantize,
};
use crate::backend::DataSheet;
use crate::measure::{Reference, SampleSet};
use crate::model::Model;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::type_proto::Value as Type;
use crate::model::proto::{GraphProto, TensorProto, ValueInfoProto};
use crate::model::sketch::{self, Sketch};

/// What is finite in the hostile model has to stay this close.
const LEAST_COSINE: f64 = 0.99;

/// `y` is finite, `z` is not.
fn model() -> Model {
    let rows: [(&str, [f32; 4]); 4] = [
        ("shared", [0.5, -0.25, 0.75, 0.125]),
        ("tiny", [1e-42, 0.0, -1e-44, 1e-45]),
        ("huge", [3e37, 1.0, -3e37, 1e-30]),
        ("odd", [f32::NAN, f32::NEG_INFINITY, 0.0, 1.0]),
    ];
    let mut sketch = Sketch::new().input("x", "1,4").declared_output("y", "1,4").declared_output("z", "1,4");
    for (name, numbers) in rows {
        sketch = sketch.weights(name, &[4, 4]);
        sketch.graph.initializer.last_mut().unwrap().float_data = numbers.repeat(4);
    }
    sketch.graph.initializer.push(TensorProto {
        name: Some("flag".into()),
        data_type: Some(OnnxDataType::Bool as i32),
        raw_data: Some(vec![1].into()),
        ..TensorProto::default()
    });
    let sketch = sketch.integers("count", &[2]).node("a = MatMul(x, shared)", &[]);
    let sketch = sketch.node("b = MatMul(x, tiny)", &[]).node("c = MatMul(x, huge)", &[]);
    let sketch = sketch.node("d = MatMul(x, odd)", &[]).node("chosen = If(flag)", &branches());
    let sketch = sketch.node("looped = Loop(count, , chosen)", &[sketch::graph("body", body())]);
    let sketch = sketch.node("e = MatMul(looped, shared)", &[]).node("y = Sum(e, b, a)", &[]);
    sketch.node("z = Add(c, d)", &[]).model()
}

/// Both read values and weights of the graph around them.
fn branches() -> [crate::model::proto::AttributeProto; 2] {
    let branch = |line: &str| {
        let inner = Sketch::new().declared_output("inner", "1,4").node(line, &[]);
        inner.node("inner = Tanh(h)", &[]).graph
    };
    let lines = [("then_branch", "h = MatMul(a, shared)"), ("else_branch", "h = MatMul(a, odd)")];
    lines.map(|(name, line)| sketch::graph(name, branch(line)))
}

/// What a turn makes is what the next one reads.
fn body() -> GraphProto {
    let mut body = Sketch::new().graph;
    body.input = vec![
        typed("turn", OnnxDataType::Int64),
        typed("go", OnnxDataType::Bool),
        sketch::value("s", Some("1,4")),
    ];
    body.node = vec![
        sketch::node("m = MatMul(s, shared)", &[]),
        sketch::node("t = Add(m, a)", &[]),
        sketch::node("on = Identity(go)", &[]),
    ];
    body.output = vec![typed("on", OnnxDataType::Bool), sketch::value("t", Some("1,4"))];
    body
}

fn typed(name: &str, data_type: OnnxDataType) -> ValueInfoProto {
    let mut value = sketch::value(name, Some(""));
    if let Some(Type::TensorType(tensor)) = value.r#type.as_mut().and_then(|it| it.value.as_mut()) {
        tensor.elem_type = Some(data_type as i32);
    }
    value
}

fn source(input_shapes: &BTreeMap<String, Vec<usize>>) -> SampleSource<'_> {
    SampleSource { input_shapes, path: None, seed: 5 }
}

fn half(half: HalfType, ranges: Option<&Ranges>) -> ConversionSpec<'_> {
    ConversionSpec {
        half,
        selection: super::Selection::default(),
        too_sensitive: &[],
        boundary: Boundary::Unchanged,
        ranges,
        scales: super::ScaleForm::Half,
    }
}

/// `y` and `z` of one random sample.
fn outputs(model: &Model) -> [Vec<f64>; 2] {
    let engine = cpu_engine(model, &BTreeMap::new()).unwrap();
    let samples = SampleSet::random(engine.signature(), 1, 5);
    let reference = Reference::compute(&engine, &samples).unwrap();
    [0, 1].map(|index| reference.output(0, index).to_vec())
}

fn assert_close(original: &Model, converted: &Model) {
    let ([y, z], [got_y, got_z]) = (outputs(original), outputs(converted));
    assert!(y.iter().all(|number| number.is_finite()), "{y:?}");
    let cosine = compare("y", &[&y], &[&got_y], false).unwrap().cosine;
    assert!(cosine >= LEAST_COSINE, "{cosine}: {y:?}, {got_y:?}");
    for (number, got) in z.iter().zip(&got_z) {
        assert_eq!(
            (number.is_nan(), number.is_infinite()),
            (got.is_nan(), got.is_infinite()),
            "{z:?}, {got_z:?}"
        );
    }
}

#[test]
fn half_is_sound_or_refused_by_name() {
    let (model, input_shapes) = (model(), BTreeMap::new());
    for kind in HalfType::ALL {
        let ranges = Ranges::measure(&model, kind, &input_shapes, None, 5).unwrap();
        let (converted, report) = convert(&model, &half(kind, Some(&ranges))).unwrap();
        assert_close(&model, &converted);
        let reason = |node: &str| &report.kept.iter().find(|kept| kept.node == node).unwrap().reason;
        if kind == HalfType::Fp16 {
            assert!(matches!(reason("MatMul -> c"), KeepReason::WeightOverflow { .. }));
            assert!(matches!(reason("MatMul -> b"), KeepReason::WeightUnderflow { .. }));
        }
        // Those in the branches and in the loop are half too.
        assert!(report.half_nodes >= 6, "{kind}: {report:?}");
    }
}

#[test]
fn eight_bits_are_sound_or_refused_by_name() {
    let (model, input_shapes) = (model(), BTreeMap::new());
    let spec = QuantizationSpec { ends: Ends::Quantize, ..QuantizationSpec::default() };
    let values = quantizable_values(&model, &spec).unwrap();
    for method in CalibrationMethod::ALL {
        let table = CalibrationTable::measure(&model, &values, method, &source(&input_shapes)).unwrap();
        let (quantized, report) = quantize(&model, &table, &spec).unwrap();
        assert_close(&model, &quantized);
        let reason = |node: &str| &report.skipped.iter().find(|skipped| skipped.node == node).unwrap().reason;
        assert!(matches!(reason("MatMul -> d"), SkipReason::WeightNotFinite { .. }));
        assert_eq!(
            (reason("MatMul -> h"), reason("MatMul -> m")),
            (&SkipReason::Subgraph, &SkipReason::Subgraph)
        );
        // The branches and the loop read the weight that is eight bits outside.
        assert_eq!(report.weights.doubled_tensors, 1);
    }
}

#[test]
fn a_mix_and_the_error_of_every_layer_are_found_all_the_same() {
    let (model, input_shapes) = (model(), BTreeMap::new());
    let (source, sheet) = (source(&input_shapes), DataSheet::of("h100").unwrap());
    let limits = [AccuracyLimit::RelativeError(0.001)];
    let spec =
        MixSpec { lowering: Lowering::Half(half(HalfType::Bf16, None)), limits: &limits, source, sheet };
    let (converted, _, mix) = choose_mix(&model, &spec).unwrap();
    assert!(limits[0].check(&mix.accuracy).is_ok() && mix.kept > 0, "{mix:?}");
    let found = layer_errors(&model, &converted, &source, &limits).unwrap();
    let names: Vec<_> = found.layers.iter().map(|layer| layer.value.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "chosen", "looped", "e", "y", "z"]);
}
