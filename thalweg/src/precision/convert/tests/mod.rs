//! The pass as a whole, on small drawn graphs.

mod properties;

use std::collections::BTreeMap;

use super::*;
use crate::model::DataType;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::{GraphProto, TensorProto};
use crate::model::sketch::{self, Sketch};

fn spec(half: HalfType) -> ConversionSpec<'static> {
    ConversionSpec {
        half,
        selection: Selection::default(),
        too_sensitive: &[],
        boundary: Boundary::Unchanged,
        ranges: None,
        scales: ScaleForm::Half,
    }
}

fn to_fp16(sketch: Sketch) -> (Model, ConversionReport) {
    convert(&sketch.model(), &spec(HalfType::Fp16)).unwrap()
}

/// Operators in order, each with what it reads and makes: `Cast x > x_fp16`.
fn lines(graph: &GraphProto) -> Vec<String> {
    let line = |node: &crate::model::proto::NodeProto| {
        format!("{} {} > {}", node.op_type(), node.input.join(" "), node.output.join(" "))
    };
    graph.node.iter().map(line).collect()
}

fn initializer<'a>(model: &'a Model, name: &str) -> Option<&'a TensorProto> {
    model.graph().initializer.iter().find(|tensor| tensor.name() == name)
}

fn floats(name: &str, values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: vec![i64::try_from(values.len()).unwrap()],
        data_type: Some(OnnxDataType::Float as i32),
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn with_weight(mut sketch: Sketch, name: &str, values: &[f32]) -> Sketch {
    sketch.graph.initializer.push(floats(name, values));
    sketch
}

#[test]
fn a_chain_is_cast_once_on_the_way_in_and_once_on_the_way_out() {
    let sketch = Sketch::new().input("x", "1,3").output("y").weights("w", &[3, 4]);
    let sketch = sketch.node("a = MatMul(x, w)", &[]).node("y = Relu(a)", &[]);
    let (model, report) = to_fp16(sketch);
    let expected =
        ["Cast x > x_fp16", "MatMul x_fp16 w_fp16 > a_fp16", "Relu a_fp16 > y_fp16", "Cast y_fp16 > y"];
    assert_eq!(lines(model.graph()), expected);
    assert_eq!((report.half_nodes, report.cast_count, report.kept.len()), (2, 2, 0));
    assert_eq!(initializer(&model, "w_fp16").unwrap().data_type(), OnnxDataType::Float16 as i32);
    assert!(initializer(&model, "w").is_none());
    let types: Vec<_> = model.inputs().iter().chain(model.outputs()).map(|it| it.data_type).collect();
    assert_eq!(types, [DataType::F32; 2]);
}

#[test]
fn readers_in_the_other_form_share_one_cast() {
    let sketch = Sketch::new().input("x", "1,3").output("y").output("z");
    let sketch = sketch.node("a = Relu(x)", &[]).node("b = Sigmoid(x)", &[]);
    let sketch = sketch.node("y = Exp(a)", &[]).node("z = Pow(a, b)", &[]);
    let (model, report) = to_fp16(sketch);
    assert_eq!(report.cast_count, 3);
    assert_eq!(lines(model.graph()).iter().filter(|line| *line == "Cast a_fp16 > a").count(), 1);
    assert!(report.kept.iter().all(|node| matches!(node.reason, KeepReason::Operator { .. })));
}

#[test]
fn inputs_and_outputs_become_half_where_asked_and_keep_their_names() {
    let sketch = Sketch::new().input("x", "1,3").output("y").node("y = Relu(x)", &[]);
    let spec = ConversionSpec { boundary: Boundary::Half, ..spec(HalfType::Fp16) };
    let (model, report) = convert(&sketch.model(), &spec).unwrap();
    assert_eq!((lines(model.graph()), report.cast_count), (vec!["Relu x > y".to_owned()], 0));
    assert_eq!(model.inputs()[0].data_type, DataType::F16);
    assert_eq!(model.outputs()[0].data_type, DataType::F16);
}

#[test]
fn a_weight_that_half_cannot_hold_keeps_its_node_in_fp32() {
    let sketch = Sketch::new().input("x", "1,2").output("y").output("z");
    let sketch = with_weight(sketch, "huge", &[1e6, 1.0]);
    let sketch = with_weight(sketch, "tiny", &[1e-12]);
    let sketch = sketch.node("y = Mul(x, huge)", &[]).node("z = Add(x, tiny)", &[]);
    let (model, report) = to_fp16(sketch);
    assert_eq!(lines(model.graph()), ["Mul x huge > y", "Add x tiny > z"]);
    let reasons: Vec<_> = report.kept.iter().map(|node| node.reason.to_string()).collect();
    assert_eq!(reasons[0], "a weight is too large for half: `huge` reaches 1.000e6");
    assert_eq!(reasons[1], "a weight is too small for half's digits: `tiny` would be off by 100.0 %");
    assert_eq!((report.weights.clipped, report.weights.tensors), (1, 0));
}

#[test]
fn infinities_and_nan_in_weights_stay_what_they_are() {
    let sketch = Sketch::new().input("x", "1,3").output("y");
    let sketch = with_weight(sketch, "mask", &[f32::NEG_INFINITY, f32::NAN, 0.0]);
    let (model, report) = to_fp16(sketch.node("y = Add(x, mask)", &[]));
    assert_eq!(report.half_nodes, 1);
    let bytes = model.tensor_data(initializer(&model, "mask_fp16").unwrap()).unwrap();
    let halves: Vec<_> = bytes.as_chunks().0.iter().map(|two| half::f16::from_le_bytes(*two)).collect();
    assert_eq!(halves[0], half::f16::NEG_INFINITY);
    assert!(halves[1].is_nan() && halves[2].to_f32() == 0.0);
}

#[test]
fn a_weight_that_is_read_in_both_forms_is_there_twice() {
    let sketch = Sketch::new().input("x", "1,3").output("y").output("z").weights("w", &[3]);
    let sketch = sketch.node("y = Mul(x, w)", &[]).node("z = Pow(x, w)", &[]);
    let (model, report) = to_fp16(sketch);
    assert!(initializer(&model, "w").is_some() && initializer(&model, "w_fp16").is_some());
    assert_eq!(report.weights.doubled_tensors, 1);
}

#[test]
fn constants_are_converted_and_not_cast() {
    let value = sketch::tensor("value", floats("", &[2.0]));
    let sketch = Sketch::new().input("x", "1,3").output("y");
    let sketch = sketch.node("c = Constant()", &[value]).node("y = Mul(x, c)", &[]);
    let (model, report) = to_fp16(sketch);
    assert_eq!(report.cast_count, 2);
    assert_eq!(lines(model.graph())[1], "Mul x_fp16 c_fp16 > y_fp16");
    assert!(initializer(&model, "c_fp16").is_some());
}

#[test]
fn what_calculates_sizes_stays_exact() {
    let sketch = Sketch::new().input("x", "1,3,h,w").output("y").weights("two", &[4]);
    let sketch = sketch.node("shape = Shape(x)", &[]);
    let sketch = sketch.node("real = Cast(shape)", &[sketch::int("to", 1)]);
    let sketch = sketch.node("half = Mul(real, two)", &[]);
    let sketch = sketch.node("size = Cast(half)", &[sketch::int("to", 7)]);
    let sketch = sketch.node("a = Relu(x)", &[]).node("y = Resize(a, , , size)", &[]);
    let (model, report) = to_fp16(sketch);
    assert_eq!(report.kept.len(), 1);
    assert_eq!(report.kept[0].reason, KeepReason::Size);
    assert!(lines(model.graph()).contains(&"Mul real two > half".to_owned()));
    assert!(lines(model.graph()).contains(&"Resize a_fp16   size > y_fp16".to_owned()));
}

#[test]
fn nodes_and_operators_stay_where_the_user_says_so() {
    let draw = || {
        let mut sketch = Sketch::new().input("x", "1,3").output("y");
        sketch = sketch.node("a = Relu(x)", &[]).node("y = Sigmoid(a)", &[]);
        sketch.graph.node[0].name = Some("first".into());
        sketch.model()
    };
    for (name, kept) in [("first", "first"), ("Sigmoid", "Sigmoid -> y")] {
        let keep = [name.to_owned()];
        let (_, report) = convert(
            &draw(),
            &ConversionSpec { selection: Selection::new(&keep, &[]), ..spec(HalfType::Fp16) },
        )
        .unwrap();
        assert_eq!((report.kept[0].node.as_str(), &report.kept[0].reason), (kept, &KeepReason::Asked));
        assert_eq!(report.half_nodes, 1);
    }
    let keep = ["Conf".to_owned()];
    let error =
        convert(&draw(), &ConversionSpec { selection: Selection::new(&keep, &[]), ..spec(HalfType::Fp16) })
            .unwrap_err();
    assert!(error.to_string().contains("no node and no operator of this name"), "{error}");
}

#[test]
fn where_there_is_a_list_of_what_alone_is_lowered_all_else_that_computes_stays() {
    let sketch = Sketch::new().input("x", "1,3").output("y").node("a = Relu(x)", &[]);
    let sketch = sketch.node("b = Flatten(a)", &[]).node("c = Relu(b)", &[]);
    let model = sketch.node("d = Sigmoid(c)", &[]).node("y = Relu(d)", &[]).model();
    let (only, keep_f32) = (["Relu".to_owned()], ["Relu -> y".to_owned()]);
    let convert = |selection| convert(&model, &ConversionSpec { selection, ..spec(HalfType::Fp16) });
    let (half, report) = convert(Selection::new(&keep_f32, &only)).unwrap();
    let reasons: Vec<_> = report.kept.iter().map(|it| (it.node.as_str(), it.reason.clone())).collect();
    let expected = [("Sigmoid -> d", KeepReason::NotListed), ("Relu -> y", KeepReason::Asked)];
    assert_eq!(reasons, expected);
    // What only moves goes with its neighbours: there is no cast between the two that are listed.
    assert!(lines(half.graph()).contains(&"Flatten a_fp16 > b_fp16".to_owned()), "{:?}", lines(half.graph()));
    let only = ["Rely".to_owned()];
    let error = convert(Selection::new(&[], &only)).unwrap_err().to_string();
    assert!(error.contains("only Rely") && error.contains("no node and no operator"), "{error}");
}

#[test]
fn lists_name_nodes_as_they_are_called_in_the_original() {
    let draw = || {
        let sketch = Sketch::new().input("x", "1,3,4,4").output("y").weights("scales", &[4]);
        let sketch = sketch.node("a = Softmax(x)", &[sketch::int("axis", 1)]);
        of_opset(sketch.node("b = Upsample(a, scales)", &[]).node("y = Relu(b)", &[]), 9)
    };
    let spec = spec(HalfType::Bf16);
    let kept = |keep_f32: &str, only: &[&str]| {
        let (keep_f32, only) =
            ([keep_f32.to_owned()], only.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        let selection = Selection::new(if keep_f32[0].is_empty() { &[] } else { &keep_f32 }, &only);
        let (_, report) = convert(&draw(), &ConversionSpec { selection, ..spec }).unwrap();
        assert_eq!(report.opset, 22);
        let kept = report.kept.into_iter().filter(|it| it.operator != "Reshape");
        kept.map(|it| (it.operator, it.reason)).collect::<Vec<_>>()
    };
    let asked = |operator: &str| vec![(operator.to_owned(), KeepReason::Asked)];
    // In operator set 22 it is Resize, and the other one makes a value of another name.
    for name in ["Upsample", "Upsample -> b"] {
        assert_eq!(kept(name, &[]), asked("Resize"), "{name}");
    }
    for name in ["Softmax", "Softmax -> a"] {
        assert_eq!(kept(name, &[]), asked("Softmax"), "{name}");
        let not_listed = ["Resize", "Relu"].map(|it| (it.to_owned(), KeepReason::NotListed));
        assert_eq!(kept("", &[name]), not_listed, "{name}");
    }
    let later = ["Resize".to_owned()];
    let selection = Selection::new(&later, &[]);
    assert!(convert(&draw(), &ConversionSpec { selection, ..spec }).is_err());
}

#[test]
fn a_list_of_what_alone_is_lowered_need_not_name_dequantisation() {
    let sketch = Sketch::new().input("x", "1,4").output("y").weights("scale", &[]).weights("w", &[4, 4]);
    let sketch = sketch.node("q = QuantizeLinear(x, scale)", &[]).node("d = DequantizeLinear(q, scale)", &[]);
    let model = sketch.node("m = MatMul(d, w)", &[]).node("y = Relu(m)", &[]).model();
    let half_nodes = |only: &str| {
        let only = [only.to_owned()];
        let selection = Selection::new(&[], &only);
        let (half, report) = convert(&model, &ConversionSpec { selection, ..spec(HalfType::Fp16) }).unwrap();
        let kept: Vec<_> = report.kept.into_iter().map(|it| (it.operator, it.reason)).collect();
        (lines(half.graph()), kept)
    };
    let (lines, kept) = half_nodes("MatMul");
    assert!(lines.contains(&"MatMul d_fp16 w_fp16 > m_fp16".to_owned()), "{lines:?}");
    assert_eq!(kept, [("Relu".to_owned(), KeepReason::NotListed)]);
    // It stays in FP32 with a reader that does.
    let (lines, kept) = half_nodes("Relu");
    assert!(lines.contains(&"MatMul d w > m".to_owned()), "{lines:?}");
    let expected = [("DequantizeLinear", KeepReason::Quantized), ("MatMul", KeepReason::NotListed)];
    assert_eq!(kept, expected.map(|(operator, reason)| (operator.to_owned(), reason)));
}

#[test]
fn what_nodes_make_of_constants_alone_is_a_weight() {
    let mut sketch = Sketch::new().input("x", "1,3").output("y").weights("w", &[2, 3]).weights("b", &[2]);
    for tensor in &mut sketch.graph.initializer {
        tensor.float_data.iter_mut().enumerate().for_each(|(place, it)| *it = place as f32);
    }
    let sketch = sketch.node("t = Transpose(w)", &[sketch::ints("perm", &[1, 0])]);
    let sketch = sketch.node("n = Neg(t)", &[]).node("m = MatMul(x, n)", &[]);
    let sketch = sketch.node("c = Concat(b, b)", &[sketch::int("axis", 0)]).node("r = Relu(c)", &[]);
    let sketch = sketch.node("p = Mul(m, b)", &[]).node("s = Concat(p, p)", &[sketch::int("axis", 1)]);
    let model = sketch.node("y = Add(s, r)", &[]).model();
    let (half, report) = convert(&model, &spec(HalfType::Fp16)).unwrap();
    let graph = half.graph();
    let folded = graph.initializer.iter().find(|tensor| tensor.name() == "n_fp16").unwrap();
    assert_eq!(folded.dims, [3, 2]);
    let numbers = half.tensor_data(folded).unwrap();
    let numbers: Vec<f32> =
        numbers.chunks(2).map(|two| half::f16::from_le_bytes([two[0], two[1]]).to_f32()).collect();
    assert_eq!(numbers, [0.0, -3.0, -1.0, -4.0, -2.0, -5.0]);
    assert_eq!(report.folded_nodes, 4);
    let operators: Vec<_> = graph.node.iter().map(crate::model::proto::NodeProto::op_type).collect();
    assert!(!operators.contains(&"Transpose") && !operators.contains(&"Neg"), "{operators:?}");
    // The weight itself is gone, since nobody reads it any more.
    assert!(!graph.initializer.iter().any(|tensor| tensor.name() == "w"));
}

#[test]
fn a_weight_that_folding_leaves_unread_is_no_input_of_an_old_file_any_more() {
    let mut sketch = Sketch::new().input("x", "1,2").output("y").weights("w", &[2, 2]);
    sketch.graph.input.push(sketch::value("w", Some("2,2")));
    sketch.graph.value_info.push(sketch::value("t", Some("2,2")));
    let sketch = sketch.node("t = Neg(w)", &[]).node("n = Neg(t)", &[]);
    let (half, report) = to_fp16(sketch.node("y = MatMul(x, n)", &[]));
    assert_eq!(report.folded_nodes, 2);
    let inputs: Vec<_> = half.graph().input.iter().map(crate::model::proto::ValueInfoProto::name).collect();
    assert_eq!((inputs, half.graph().value_info.len()), (vec!["x"], 0));
    assert!(initializer(&half, "w").is_none());
}

#[test]
fn a_constant_that_cannot_be_calculated_stays_and_the_others_are_weights() {
    let sketch = Sketch::new().input("x", "1,3").output("y").weights("w", &[3]).weights("v", &[3]);
    let sketch = sketch.node("a = Neg(w)", &[]).node("c = Mul(x, a)", &[]);
    // The backend lacks the one operator, and of the other one nobody knows the shape.
    let refused = sketch.clone().node("d = Selu(v)", &[]);
    let unknown = sketch.node("b = Strange(v)", &[]).node("d = Cast(b)", &[sketch::int("to", 1)]);
    for (sketch, why) in [(refused, "Selu"), (unknown, "its shape is not known")] {
        let (half, report) = to_fp16(sketch.node("y = Add(c, d)", &[]));
        assert_eq!(report.folded_nodes, 1, "{why}");
        assert!(initializer(&half, "a_fp16").is_some(), "{why}");
        let [of_d] = &report.not_folded[..] else { panic!("{:?}", report.not_folded) };
        assert!(of_d.starts_with("`d`: ") && of_d.contains(why), "{of_d}");
    }
}

#[test]
fn a_constant_that_grows_more_than_what_it_is_made_of_stays_a_node() {
    let large = 100_000_000;
    let sketch = Sketch::new().input("x", "1,3").output("y").output("z").output("u");
    let sketch = sketch.weights("w", &[100, 100]).weights("small", &[1]).weights("one", &[1]);
    let sketch = sketch.integers("shape", &[9000]).integers("large", &[large]).integers("axis", &[0]);
    // As large as the weights of another value would allow, and too large to be tried.
    let sketch = sketch.node("t = Transpose(w)", &[]).node("e = Expand(small, shape)", &[]);
    let sketch = sketch.node("f = Expand(one, large)", &[]).node("g = ReduceSum(f, axis)", &[]);
    let sketch = sketch.node("s = ReduceSum(x)", &[sketch::int("keepdims", 0)]);
    let sketch = sketch.node("y = Mul(s, t)", &[]).node("z = Mul(s, e)", &[]).node("u = Mul(s, g)", &[]);
    let (half, report) = to_fp16(sketch);
    assert!(initializer(&half, "t_fp16").is_some());
    let operators: Vec<_> = half.graph().node.iter().map(crate::model::proto::NodeProto::op_type).collect();
    assert_eq!(operators.iter().filter(|it| **it == "Expand").count(), 2, "{operators:?}");
    let [of_e, of_g] = &report.not_folded[..] else { panic!("{:?}", report.not_folded) };
    assert!(of_e.starts_with("`e`: `e` would have 9000 elements"), "{of_e}");
    assert!(of_g.starts_with("`g`: `f` would have 100000000 elements"), "{of_g}");
}

#[test]
fn weights_of_eight_bits_keep_their_dequantisation() {
    let mut sketch = Sketch::new().input("x", "1,2").output("y").weights("scale", &[]);
    sketch.graph.initializer.push(TensorProto {
        name: Some("w".into()),
        dims: vec![2, 2],
        data_type: Some(OnnxDataType::Int8 as i32),
        raw_data: Some(vec![1, 2, 3, 4].into()),
        ..TensorProto::default()
    });
    let sketch = sketch.node("d = DequantizeLinear(w, scale)", &[]);
    let model = sketch.node("t = Transpose(d)", &[]).node("y = MatMul(x, t)", &[]).model();
    let (half, report) = convert(&model, &spec(HalfType::Fp16)).unwrap();
    assert_eq!(report.folded_nodes, 0);
    assert!(half.graph().node.iter().any(|node| node.op_type() == "DequantizeLinear"));
}

#[test]
fn branches_read_the_forms_that_the_graph_around_them_makes() {
    let branch = |operator: &str| {
        let sketch = Sketch::new().output("inner").weights("v", &[3]);
        sketch.node("b = Mul(a, v)", &[]).node(&format!("inner = {operator}(b)"), &[]).graph
    };
    let mut sketch = Sketch::new().input("x", "1,3").output("y");
    let mut condition = sketch::value("flag", Some(""));
    if let Some(crate::model::proto::type_proto::Value::TensorType(tensor)) =
        condition.r#type.as_mut().and_then(|it| it.value.as_mut())
    {
        tensor.elem_type = Some(OnnxDataType::Bool as i32);
    }
    sketch.graph.input.push(condition);
    let sketch = sketch.node("a = Relu(x)", &[]);
    let branches =
        [sketch::graph("then_branch", branch("Sigmoid")), sketch::graph("else_branch", branch("Exp"))];
    let original = sketch.node("y = If(flag)", &branches).model();
    let (model, report) = convert(&original, &spec(HalfType::Fp16)).unwrap();
    let graph = |index: usize| model.graph().node[2].attribute[index].g.as_ref().unwrap();
    assert_eq!(lines(model.graph())[..2], ["Cast x > x_fp16", "Relu x_fp16 > a_fp16"]);
    let then_lines = ["Mul a_fp16 v_fp16 > b_fp16", "Sigmoid b_fp16 > inner_fp16", "Cast inner_fp16 > inner"];
    assert_eq!(lines(graph(0)), then_lines);
    assert_eq!(lines(graph(1)), ["Mul a_fp16 v_fp16 > b_fp16", "Cast b_fp16 > b", "Exp b > inner"]);
    assert_eq!((report.half_nodes, report.cast_count), (4, 3));
    // Nobody looks into branches, and with ranges of the rest that is counted.
    assert_eq!(report.unmeasured_nodes, 0);
    let line = Sketch::new().input("x", "1,3").output("y").node("y = Relu(x)", &[]).model();
    let ranges = Ranges::measure(&line, HalfType::Fp16, &BTreeMap::new(), None, 0).unwrap();
    let (_, report) =
        convert(&original, &ConversionSpec { ranges: Some(&ranges), ..spec(HalfType::Fp16) }).unwrap();
    assert_eq!((report.half_nodes, report.unmeasured_nodes), (4, 3));
}

fn of_opset(sketch: Sketch, opset: i64) -> Model {
    let mut proto = sketch.proto();
    proto.opset_import[0].version = Some(opset);
    Model::from_proto(proto, "m.onnx").unwrap()
}

#[test]
fn bf16_raises_the_operator_set_and_fp16_does_not() {
    let draw = || {
        let sketch = Sketch::new().input("x", "1,3,4").output("y");
        let axes = [sketch::ints("axes", &[0])];
        of_opset(sketch.node("a = Squeeze(x)", &axes).node("y = Softmax(a)", &[sketch::int("axis", 0)]), 11)
    };
    let (model, report) = convert(&draw(), &spec(HalfType::Bf16)).unwrap();
    assert_eq!((report.opset_before, report.opset, report.not_raised), (11, 22, None));
    let expected = [
        "Squeeze x a_axes > a",
        "Shape a > y_shape",
        "Flatten a > y_flat",
        "Cast y_flat > y_flat_bf16",
        "Softmax y_flat_bf16 > y_rows_bf16",
        "Reshape y_rows_bf16 y_shape > y_bf16",
        "Cast y_bf16 > y",
    ];
    assert_eq!(lines(model.graph()), expected);
    let (_, report) = convert(&draw(), &spec(HalfType::Fp16)).unwrap();
    assert_eq!((report.opset_before, report.opset), (11, 11));
}

#[test]
fn scales_become_half_where_they_may_and_the_operator_set_has_them() {
    let draw = |last: &str, opset| {
        let sketch = Sketch::new().input("x", "1,4").output("y").weights("scale", &[]).weights("w", &[4, 4]);
        let sketch =
            sketch.node("q = QuantizeLinear(x, scale)", &[]).node("d = DequantizeLinear(q, scale)", &[]);
        of_opset(sketch.node("m = MatMul(d, w)", &[]).node(&format!("y = {last}(m)"), &[]), opset)
    };
    let (_, report) = convert(&draw("Relu", 17), &spec(HalfType::Fp16)).unwrap();
    assert_eq!((report.opset, report.not_raised, report.half_nodes), (22, None, 3));
    // What reads the model may know neither the later operator set nor such scales.
    let full = ConversionSpec { scales: ScaleForm::Fp32, ..spec(HalfType::Fp16) };
    for opset in [17, 21] {
        let (half, report) = convert(&draw("Relu", opset), &full).unwrap();
        assert_eq!((report.opset, report.not_raised), (opset, None));
        let expected = [
            "QuantizeLinear x scale > q",
            "DequantizeLinear q scale > d",
            "MatMul d w > m",
            "Cast m > m_fp16",
            "Relu m_fp16 > y_fp16",
            "Cast y_fp16 > y",
        ];
        assert_eq!(lines(half.graph()), expected);
    }
    let (_, report) = convert(&draw("Strange", 17), &spec(HalfType::Fp16)).unwrap();
    assert_eq!((report.opset, report.half_nodes), (17, 0));
    assert!(report.not_raised.unwrap().contains("(Strange)"));
}

#[test]
fn an_operator_that_cannot_be_raised_is_named() {
    let draw = |opset| {
        let sketch = Sketch::new().input("x", "1,3").output("y").node("a = Relu(x)", &[]);
        of_opset(sketch.node("y = Strange(a)", &[]), opset)
    };
    let error = convert(&draw(11), &spec(HalfType::Bf16)).unwrap_err().to_string();
    assert!(error.contains("operator set 11 has no BF16") && error.contains("(Strange)"), "{error}");
    let (_, report) = convert(&draw(15), &spec(HalfType::Bf16)).unwrap();
    assert_eq!((report.opset, report.half_nodes), (15, 1));
    assert!(report.not_raised.unwrap().contains("(Strange)"));
}
