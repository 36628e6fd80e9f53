//! The pass as a whole, on small drawn graphs.

mod bias;
mod properties;

use super::*;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::{GraphProto, TensorProto};
use crate::model::sketch::{self, Sketch};

/// A table in which everything reaches 1.27, so that each step is 0.01.
fn table(values: &[String]) -> CalibrationTable {
    let lines: String = values.iter().map(|name| format!("{name}: {:08x}\n", 0.01_f32.to_bits())).collect();
    CalibrationTable::parse(format!("TRT-8600-EntropyCalibration2\n{lines}").as_bytes()).unwrap()
}

fn all() -> QuantizationSpec<'static> {
    QuantizationSpec { ends: Ends::Quantize, ..QuantizationSpec::default() }
}

/// All but these nodes and operators.
fn without(keep_f32: &[String]) -> Selection<'_> {
    Selection::new(keep_f32, &[])
}

fn quantized(model: &Model, spec: &QuantizationSpec<'_>) -> (Model, QuantizationReport) {
    let values = quantizable_values(model, spec).unwrap();
    quantize(model, &table(&values), spec).unwrap()
}

/// Operators in order, each with what it reads first, and with its second input if that is made by a node: `Conv x w`.
fn lines(graph: &GraphProto) -> Vec<String> {
    let made: Vec<_> = graph.node.iter().flat_map(|node| &node.output).collect();
    let line = |node: &crate::model::proto::NodeProto| {
        let second = node.input.get(1).filter(|name| made.contains(name));
        let read: Vec<_> = node.input.first().into_iter().chain(second).map(String::as_str).collect();
        format!("{} {}", node.op_type(), read.join(" "))
    };
    graph.node.iter().map(line).collect()
}

fn initializer<'a>(model: &'a Model, name: &str) -> Option<&'a TensorProto> {
    model.graph().initializer.iter().find(|tensor| tensor.name() == name)
}

fn reason_of(report: &QuantizationReport, node: &str) -> SkipReason {
    let skipped = report.skipped.iter().find(|it| it.node == node);
    skipped.unwrap_or_else(|| panic!("{node} is not skipped")).reason.clone()
}

fn convolutions(sketch: Sketch, names: &[&str]) -> Sketch {
    names.iter().fold(sketch, |sketch, name| sketch.weights(name, &[2, 2, 1, 1]))
}

#[test]
fn a_convolution_reads_eight_bits_and_its_weight_is_stored_in_them() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y"), &["w"]);
    let model = sketch.node("y = Conv(x, w)", &[]).model();
    let (quantized, report) = quantized(&model, &all());
    let expected = [
        "QuantizeLinear x",
        "DequantizeLinear x_int8",
        "DequantizeLinear w_int8",
        "Conv x_dequantized w_dequantized",
    ];
    assert_eq!(lines(quantized.graph()), expected);
    let weight = initializer(&quantized, "w_int8").unwrap();
    assert_eq!((weight.data_type(), &weight.dims[..]), (OnnxDataType::Int8 as i32, &[2, 2, 1, 1][..]));
    assert_eq!(initializer(&quantized, "w_scale").unwrap().dims, [2]);
    assert!(initializer(&quantized, "w").is_none());
    assert_eq!((report.quantized["Conv"], report.value_count, report.weights.tensors), (1, 1, 1));
}

#[test]
fn readers_of_a_value_share_one_pair_and_others_read_it_as_before() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y"), &["w", "v"]);
    let sketch = sketch.node("a = Conv(x, w)", &[]).node("b = Conv(x, v)", &[]);
    let sketch = sketch.node("c = Sigmoid(x)", &[]).node("d = Max(a, b)", &[]).node("y = Mul(c, d)", &[]);
    let (quantized, report) = quantized(&sketch.model(), &all());
    let lines = lines(quantized.graph());
    assert_eq!(lines.iter().filter(|line| line.starts_with("QuantizeLinear")).count(), 1);
    assert!(lines.contains(&"Sigmoid x".to_owned()), "{lines:?}");
    assert_eq!((report.quantized["Conv"], report.value_count), (2, 1));
}

#[test]
fn a_residual_addition_gets_its_other_branch_in_eight_bits() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y"), &["w", "v", "u"]);
    let sketch = sketch.node("a = Conv(x, w)", &[]).node("b = Relu(a)", &[]).node("c = Conv(b, v)", &[]);
    let sketch = sketch.node("d = Add(c, x)", &[]).node("e = Relu(d)", &[]).node("y = Conv(e, u)", &[]);
    let (quantized, report) = quantized(&sketch.model(), &all());
    assert!(lines(quantized.graph()).contains(&"Add c x_dequantized".to_owned()));
    assert_eq!((report.residual_count, report.value_count), (1, 3));
}

#[test]
fn an_average_behind_a_residual_addition_reads_eight_bits_and_no_other_does() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y").output("z"), &["w", "v"]);
    let sketch = sketch.node("a = Conv(x, w)", &[]).node("b = Add(a, x)", &[]).node("c = Relu(b)", &[]);
    let sketch = sketch.node("y = GlobalAveragePool(c)", &[]).node("d = Conv(x, v)", &[]);
    let (quantized, report) = quantized(&sketch.node("z = GlobalAveragePool(d)", &[]).model(), &all());
    let lines = lines(quantized.graph());
    assert!(lines.contains(&"GlobalAveragePool c_dequantized".to_owned()), "{lines:?}");
    assert!(lines.contains(&"GlobalAveragePool d".to_owned()), "{lines:?}");
    assert_eq!((report.residual_count, report.pool_count), (1, 1));
}

#[test]
fn additions_and_averages_that_are_asked_to_stay_read_what_they_read() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y"), &["w"]);
    let sketch = sketch.node("a = Conv(x, w)", &[]).node("b = Add(a, x)", &[]);
    let model = sketch.node("y = GlobalAveragePool(b)", &[]).model();
    let lines_without = |kept: &[&str]| {
        let keep_f32: Vec<String> = kept.iter().map(|name| (*name).to_owned()).collect();
        lines(quantized(&model, &QuantizationSpec { selection: without(&keep_f32), ..all() }).0.graph())
    };
    assert!(lines_without(&[]).contains(&"Add a x_dequantized".to_owned()));
    assert!(lines_without(&["Add"]).contains(&"Add a".to_owned()));
    let without_average = lines_without(&["GlobalAveragePool"]);
    assert!(without_average.contains(&"Add a x_dequantized".to_owned()), "{without_average:?}");
    assert!(without_average.contains(&"GlobalAveragePool b".to_owned()), "{without_average:?}");
}

#[test]
fn a_bias_that_is_reshaped_first_does_not_hide_the_residual_addition() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y"), &["w"]).weights("b", &[2]);
    let sketch = sketch.integers("shape", &[1, 2, 1, 1]).node("c = Reshape(b, shape)", &[]);
    let sketch = sketch.node("d = Conv(x, w)", &[]).node("e = Add(d, c)", &[]);
    let (quantized, report) = quantized(&sketch.node("y = Add(x, e)", &[]).model(), &all());
    assert!(lines(quantized.graph()).contains(&"Add x_dequantized e".to_owned()));
    assert_eq!(report.residual_count, 1);
}

#[test]
fn of_two_convolutions_of_one_size_the_later_one_takes_the_addition_along() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y"), &["w", "v"]);
    let sketch = sketch.node("short = Conv(x, w)", &[]).node("b = Relu(x)", &[]);
    let sketch = sketch.node("long = Conv(b, v)", &[]).node("y = Add(long, short)", &[]);
    let (quantized, _) = quantized(&sketch.model(), &all());
    assert!(lines(quantized.graph()).contains(&"Add long short_dequantized".to_owned()));
}

#[test]
fn of_two_convolutions_the_smaller_one_takes_the_addition_along() {
    let sketch = Sketch::new().input("x", "1,2,4,4").output("y").weights("large", &[2, 2, 3, 3]);
    let sketch = sketch.weights("small", &[2, 2, 1, 1]).node("b = Relu(x)", &[]);
    let sketch = sketch.node("c = Conv(x, small)", &[]);
    let sketch = sketch.node("d = Conv(b, large)", &[sketch::ints("pads", &[1, 1, 1, 1])]);
    let (quantized, _) = quantized(&sketch.node("y = Add(c, d)", &[]).model(), &all());
    assert!(lines(quantized.graph()).contains(&"Add c d_dequantized".to_owned()));
}

#[test]
fn an_addition_behind_a_value_that_others_read_is_left_alone() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y").output("c"), &["w"]);
    let sketch = sketch.node("c = Conv(x, w)", &[]).node("y = Add(c, x)", &[]);
    let (_, report) = quantized(&sketch.model(), &all());
    assert_eq!(report.residual_count, 0);
}

#[test]
fn first_and_last_layers_stay_in_fp32_unless_asked_otherwise() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y"), &["w", "v", "u"]);
    let sketch = sketch.node("a = Conv(x, w)", &[]).node("b = Conv(a, v)", &[]).node("y = Conv(b, u)", &[]);
    let model = sketch.model();
    let (_, report) = quantized(&model, &QuantizationSpec::default());
    assert_eq!(report.quantized["Conv"], 1);
    assert_eq!(reason_of(&report, "Conv -> a"), SkipReason::First);
    assert_eq!(reason_of(&report, "Conv -> y"), SkipReason::Last);
    assert_eq!(quantized(&model, &all()).1.quantized["Conv"], 3);
}

#[test]
fn names_of_nodes_and_operators_stay_in_fp32_where_asked() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y"), &["w"]).weights("v", &[4, 4]);
    let model = sketch.node("a = Conv(x, w)", &[]).node("y = MatMul(a, v)", &[]).model();
    let keep_f32 = ["MatMul".to_owned()];
    let (_, report) = quantized(&model, &QuantizationSpec { selection: without(&keep_f32), ..all() });
    assert_eq!(reason_of(&report, "MatMul -> y"), SkipReason::Asked);
    let only = ["Conv -> a".to_owned()];
    let selection = Selection::new(&[], &only);
    let (_, report) = quantized(&model, &QuantizationSpec { selection, ..all() });
    assert_eq!(reason_of(&report, "MatMul -> y"), SkipReason::NotListed);
    assert_eq!(report.quantized_nodes(), 1);
    let keep_f32 = ["Matmul".to_owned()];
    let error =
        quantizable_values(&model, &QuantizationSpec { selection: without(&keep_f32), ..all() }).unwrap_err();
    assert!(error.to_string().contains("no node and no operator"), "{error}");
}

#[test]
fn channels_are_where_the_operator_has_them() {
    let sketch = Sketch::new().input("x", "1,3").output("y").weights("g", &[3, 5]).weights("t", &[6, 5]);
    let sketch = sketch.weights("m", &[6, 7]).node("a = Gemm(x, g)", &[]);
    let model =
        sketch.node("b = Gemm(a, t)", &[sketch::int("transB", 1)]).node("y = MatMul(b, m)", &[]).model();
    let (quantized, _) = quantized(&model, &all());
    let counts = ["g_scale", "t_scale", "m_scale"].map(|name| initializer(&quantized, name).unwrap().dims[0]);
    assert_eq!(counts, [5, 6, 7]);
    let axis = |name: &str| {
        let reads = |node: &&crate::model::proto::NodeProto| node.output[0] == name;
        quantized.graph().node.iter().find(reads).unwrap().int("axis")
    };
    assert_eq!(["g_dequantized", "t_dequantized", "m_dequantized"].map(axis), [Some(1), Some(0), Some(1)]);
}

#[test]
fn a_weight_that_somebody_reads_in_fp32_is_there_in_both_forms() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y"), &["w"]);
    let sketch = sketch.node("a = Conv(x, w)", &[]).node("b = Conv(a, w)", &[]).node("y = Add(b, w)", &[]);
    let (quantized, report) = quantized(&sketch.model(), &all());
    assert!(initializer(&quantized, "w").is_some() && initializer(&quantized, "w_int8").is_some());
    assert_eq!((report.weights.tensors, report.weights.doubled_tensors), (1, 1));
    let of_weight = |line: &&String| line.starts_with("DequantizeLinear w");
    assert_eq!(lines(quantized.graph()).iter().filter(of_weight).count(), 1);
}

#[test]
fn a_weight_under_another_name_is_found_and_the_name_goes() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y"), &["w"]);
    let model = sketch.node("v = Identity(w)", &[]).node("y = Conv(x, v)", &[]).model();
    let (quantized, _) = quantized(&model, &all());
    assert!(!lines(quantized.graph()).iter().any(|line| line.starts_with("Identity")));
    assert!(initializer(&quantized, "w").is_none());
}

#[test]
fn weights_can_stay_as_they_are_with_a_pair_behind_them() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y"), &["w"]);
    let model = sketch.node("y = Conv(x, w)", &[]).model();
    let (quantized, _) = quantized(&model, &QuantizationSpec { weights: WeightForm::Fp32, ..all() });
    let lines = lines(quantized.graph());
    assert_eq!(lines[2..4], ["QuantizeLinear w".to_owned(), "DequantizeLinear w_int8".to_owned()]);
    assert!(initializer(&quantized, "w").is_some() && initializer(&quantized, "w_int8").is_none());
}

#[test]
fn what_cannot_be_quantised_is_named_with_the_reason() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y"), &["good"]);
    let mut sketch = convolutions(sketch, &["bad"]);
    sketch.graph.initializer[1].float_data[0] = f32::NAN;
    let sketch = sketch.node("a = Conv(x, bad)", &[]).node("b = Softmax(a)", &[]);
    let sketch = sketch.node("c = MatMul(b, good)", &[]).node("d = MatMul(c, a)", &[]);
    let body = Sketch::new().output("inner").node("inner = MatMul(d, good)", &[]).graph;
    let branches = ["then_branch", "else_branch"].map(|name| sketch::graph(name, body.clone()));
    let sketch = sketch.node("flag = IsNaN(d)", &[]).node("y = If(flag)", &branches);
    let (_, report) = quantized(&sketch.model(), &all());
    let bad = SkipReason::WeightNotFinite { tensor: "bad".to_owned() };
    assert_eq!(reason_of(&report, "Conv -> a"), bad);
    assert_eq!(reason_of(&report, "MatMul -> c"), SkipReason::Softmax);
    assert_eq!(reason_of(&report, "MatMul -> d"), SkipReason::NoWeight);
    assert_eq!(reason_of(&report, "MatMul -> inner"), SkipReason::Subgraph);
    assert_eq!(report.quantized_nodes(), 0);
}

#[test]
fn a_value_without_a_range_leaves_its_reader_in_fp32() {
    let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y"), &["w"]);
    let model = sketch.node("y = Conv(x, w)", &[]).model();
    let zero = CalibrationTable::parse(b"TRT-8600-EntropyCalibration2\nx: 00000000\n").unwrap();
    for table in [CalibrationTable::default(), zero] {
        let (same, report) = quantize(&model, &table, &all()).unwrap();
        assert_eq!(reason_of(&report, "Conv -> y"), SkipReason::NoRange { value: "x".to_owned() });
        assert_eq!(same.graph(), model.graph());
    }
}

#[test]
fn an_older_operator_set_is_raised_or_refused_by_name() {
    let draw = |operator: &str, opset| {
        let sketch = convolutions(Sketch::new().input("x", "1,2,4,4").output("y"), &["w"]);
        let sketch = sketch.node("a = Conv(x, w)", &[]).node(&format!("y = {operator}(a)"), &[]);
        let mut proto = sketch.proto();
        proto.opset_import[0].version = Some(opset);
        Model::from_proto(proto, "old.onnx").unwrap()
    };
    let (raised, report) = quantized(&draw("Relu", 11), &all());
    assert_eq!((report.opset_before, report.opset, raised.opsets()[0].1), (11, 13, 13));
    let error = quantize(&draw("Mystery", 11), &CalibrationTable::default(), &all()).unwrap_err().to_string();
    assert!(error.contains("Mystery") && error.contains("operator set 13"), "{error}");
    // Before anything is calibrated for it.
    let asked = quantizable_values(&draw("Mystery", 11), &all()).unwrap_err().to_string();
    assert_eq!(asked, error);
    assert_eq!(quantized(&draw("Mystery", 13), &all()).1.opset, 13);
}
