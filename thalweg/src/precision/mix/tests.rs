//! Mixes of small drawn graphs.

use std::collections::BTreeMap;

use super::*;
use crate::model::sketch::Sketch;
use crate::precision::{
    Boundary, CalibrationMethod, Ends, HalfType, ScaleForm, Selection, quantizable_values,
};

/// `good` is exact in eight bits; `bad` has columns whose numbers cancel out, so that rounding them is all that is
/// left of the sum.
fn model() -> Model {
    let mut sketch = Sketch::new().input("x", "1,4").declared_output("y", "1,4").weights("good", &[4, 4]);
    sketch = sketch.weights("bad", &[4, 4]);
    let cancelling = [1000.3_f32, 999.1, 998.7, 997.9];
    let numbers = cancelling.iter().enumerate().flat_map(|(row, number)| {
        let sign = if row % 2 == 0 { 1.0 } else { -1.0 };
        [sign * number, sign * number * 0.9, sign * number * 1.1, sign * number]
    });
    sketch.graph.initializer[1].float_data = numbers.collect();
    let sketch = sketch.node("a = MatMul(x, good)", &[]).node("b = Tanh(a)", &[]);
    sketch.node("y = MatMul(b, bad)", &[]).model()
}

fn mix(limit: AccuracyLimit) -> (usize, Mix) {
    let (_, conversion, mix) = mix_with(limit, None);
    (conversion.lowered().1, mix)
}

fn in_half(half: HalfType) -> ConversionSpec<'static> {
    let (selection, too_sensitive) = (Selection::default(), &[]);
    ConversionSpec {
        half,
        selection,
        too_sensitive,
        boundary: Boundary::Unchanged,
        ranges: None,
        scales: ScaleForm::Half,
    }
}

fn mix_with(limit: AccuracyLimit, rest: Option<ConversionSpec<'_>>) -> (Model, Conversion, Mix) {
    let (model, input_shapes) = (model(), BTreeMap::new());
    let source = SampleSource { input_shapes: &input_shapes, path: None, seed: 0 };
    let quantization = QuantizationSpec { ends: Ends::Quantize, ..QuantizationSpec::default() };
    let values = quantizable_values(&model, &quantization).unwrap();
    let table = CalibrationTable::measure(&model, &values, CalibrationMethod::MinMax, &source).unwrap();
    let sheet = DataSheet::of("h100").unwrap();
    let lowering = Lowering::Int8 { table: &table, spec: quantization, rest };
    let spec = MixSpec { lowering, limits: &[limit], source, sheet };
    choose_mix(&model, &spec).unwrap()
}

fn rest_of(conversion: &Conversion) -> &super::super::ConversionReport {
    let Conversion::Int8(report) = conversion else { panic!("{conversion:?}") };
    report.rest.as_ref().unwrap()
}

#[test]
fn what_stays_out_of_eight_bits_is_half_where_half_keeps_to_the_limit() {
    let limit = AccuracyLimit::Cosine(0.0);
    let (model, conversion, mix) = mix_with(limit, Some(in_half(HalfType::Fp16)));
    assert_eq!((conversion.lowered().1, mix.kept, &mix.rest), (2, 0, &None));
    // The products in eight bits give half, so that nothing but the output is cast.
    let rest = rest_of(&conversion);
    assert_eq!((rest.precision, rest.cast_count, rest.kept.len()), (HalfType::Fp16, 1, 0), "{rest:?}");
    assert_eq!(rest.opset, 22);
    let types = model.element_types(model.graph(), &HashMap::new()).unwrap();
    assert_eq!(types.get("y"), Some(&crate::model::DataType::F32));
}

#[test]
fn what_stays_out_of_eight_bits_is_in_fp32_as_far_as_half_loses_too_much() {
    // BF16 loses more than this in the product whose columns cancel out, eight bits do not in the other one.
    let limit = AccuracyLimit::RelativeError(0.01);
    let (_, conversion, mix) = mix_with(limit, Some(in_half(HalfType::Bf16)));
    assert!(limit.check(&mix.accuracy).is_ok(), "{mix:?}");
    let rest = mix.rest.as_ref().unwrap();
    assert!(rest.kept > 0, "{rest:?}");
    let reasons: Vec<_> = rest_of(&conversion).kept.iter().map(|it| it.node.as_str()).collect();
    assert!(reasons.contains(&"MatMul -> y"), "{reasons:?}");
}

#[test]
fn lists_may_name_what_the_first_step_takes_away() {
    // The constant is gone once the product reads eight bits.
    let mut sketch = Sketch::new().input("x", "1,2").output("y");
    let tensor = Sketch::new().weights("", &[2, 2]).graph.initializer.remove(0);
    sketch = sketch.node("w = Constant()", &[crate::model::sketch::tensor("value", tensor)]);
    let model = sketch.node("a = MatMul(x, w)", &[]).node("y = Relu(a)", &[]).model();
    let (keep_f32, only) = (["Constant -> w".to_owned()], ["MatMul".to_owned(), "Constant".to_owned()]);
    let selection = Selection::new(&keep_f32, &only);
    let spec = QuantizationSpec { ends: Ends::Quantize, selection, ..QuantizationSpec::default() };
    let rest = ConversionSpec { selection, ..in_half(HalfType::Fp16) };
    let source = SampleSource { input_shapes: &BTreeMap::new(), path: None, seed: 0 };
    let values = quantizable_values(&model, &spec).unwrap();
    let table = CalibrationTable::measure(&model, &values, CalibrationMethod::MinMax, &source).unwrap();
    let (_, conversion) = quantize_with_rest(&model, &table, &spec, Some(&rest)).unwrap();
    assert_eq!(conversion.lowered().1, 1);
    let kept: Vec<_> = rest_of(&conversion).kept.iter().map(|it| it.node.as_str()).collect();
    assert_eq!(kept, ["Relu -> y"]);
    let limits = [AccuracyLimit::Cosine(0.0)];
    let lowering = Lowering::Int8 { table: &table, spec, rest: Some(rest) };
    let sheet = DataSheet::of("h100").unwrap();
    let (_, conversion, _) =
        choose_mix(&model, &MixSpec { lowering, limits: &limits, source, sheet }).unwrap();
    assert_eq!(conversion.lowered().1, 1);
}

#[test]
fn nothing_goes_back_where_the_limit_is_met() {
    let (lowered, mix) = mix(AccuracyLimit::Cosine(0.0));
    assert_eq!((lowered, mix.kept, mix.tried), (2, 0, 1));
}

#[test]
fn the_sensitive_node_goes_back_first() {
    let (lowered, mix) = mix(AccuracyLimit::RelativeError(0.02));
    assert_eq!(mix.nodes[0].node, "MatMul -> y");
    assert!(mix.nodes[0].lost_cosine >= mix.nodes[1].lost_cosine);
    assert_eq!((lowered, mix.kept), (1, 1));
    assert!(AccuracyLimit::RelativeError(0.02).check(&mix.accuracy).is_ok());
}

#[test]
fn everything_goes_back_where_no_loss_is_allowed() {
    let (lowered, mix) = mix(AccuracyLimit::RelativeError(0.0));
    assert_eq!((lowered, mix.kept), (0, 2));
    assert_eq!(mix.accuracy.outputs[0].cosine, 1.0);
}

#[test]
fn eight_bits_save_half_of_what_half_precision_takes() {
    let sheet = DataSheet::of("h100").unwrap();
    let cost = NodeCost { flops: 989_400_000_000, ..NodeCost::default() };
    let table = CalibrationTable::default();
    let spec = QuantizationSpec::default();
    let lowering = Lowering::Int8 { table: &table, spec, rest: None };
    let saved = lowering.saved_ns(&cost, &sheet);
    assert!((saved - 0.5e6).abs() < 1e3, "{saved}");
}

#[test]
fn half_keeps_to_a_limit_by_leaving_the_sensitive_nodes_in_fp32() {
    let (model, input_shapes) = (model(), BTreeMap::new());
    let source = SampleSource { input_shapes: &input_shapes, path: None, seed: 0 };
    let spec = ConversionSpec {
        half: HalfType::Bf16,
        selection: Selection::default(),
        too_sensitive: &[],
        boundary: Boundary::Unchanged,
        ranges: None,
        scales: ScaleForm::Half,
    };
    let sheet = DataSheet::of("h100").unwrap();
    let chosen = |limit: f64| {
        let limits = [AccuracyLimit::RelativeError(limit)];
        let spec = MixSpec { lowering: Lowering::Half(spec), limits: &limits, source, sheet };
        let (_, conversion, mix) = choose_mix(&model, &spec).unwrap();
        assert!(limits[0].check(&mix.accuracy).is_ok());
        (conversion.lowered().1, mix.kept, mix.nodes[0].node.clone())
    };
    assert_eq!(chosen(10.0), (3, 0, "MatMul -> y".to_owned()));
    let (lowered, kept, first) = chosen(0.02);
    assert!(lowered > 0 && lowered < 3 && kept == 3 - lowered, "{lowered} {kept}");
    assert_eq!(first, "MatMul -> y");
}

#[test]
fn a_choice_tells_of_constants_that_were_folded_before_it() {
    let mut sketch = Sketch::new().input("x", "1,4").declared_output("y", "1,4").weights("w", &[4, 4]);
    sketch = sketch.node("t = Transpose(w)", &[]).node("a = MatMul(x, t)", &[]);
    let model = sketch.node("y = Tanh(a)", &[]).model();
    let source = SampleSource { input_shapes: &BTreeMap::new(), path: None, seed: 0 };
    let (limits, sheet) = ([AccuracyLimit::Cosine(0.0)], DataSheet::of("h100").unwrap());
    let spec = in_half(HalfType::Fp16);
    let mix_spec = MixSpec { lowering: Lowering::Half(spec), limits: &limits, source, sheet };
    let (chosen, conversion, mix) = choose_mix(&model, &mix_spec).unwrap();
    assert_eq!((conversion.lowered().1, mix.kept), (2, 0));
    let (converted, report) = convert(&model, &spec).unwrap();
    assert_eq!((report.folded_nodes, conversion), (1, Conversion::Half(Box::new(report))));
    assert_eq!(chosen.proto(), converted.proto());
}
