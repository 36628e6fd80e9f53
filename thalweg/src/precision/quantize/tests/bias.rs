//! Biases that take back what rounding shifts.

use std::collections::BTreeMap;

use super::*;
use crate::measure::{Reference, SampleSet};
use crate::precision::SampleSource;
use crate::precision::probe::cpu_engine;

/// A weight whose rows differ, all positive, so that errors of one sign do not cancel out.
fn positive(mut sketch: Sketch, name: &str, dims: &[i64]) -> Sketch {
    sketch = sketch.weights(name, dims);
    let numbers = &mut sketch.graph.initializer.last_mut().unwrap().float_data;
    numbers.iter_mut().enumerate().for_each(|(place, number)| *number = (place + 1) as f32 / 8.0);
    sketch
}

/// A table with steps so wide that what is below 0.4 becomes 0 and all else 0.8.
fn coarse(values: &[String]) -> CalibrationTable {
    let lines: String = values.iter().map(|name| format!("{name}: {:08x}\n", 0.8_f32.to_bits())).collect();
    CalibrationTable::parse(format!("TRT-8600-EntropyCalibration2\n{lines}").as_bytes()).unwrap()
}

fn outputs(model: &Model) -> Vec<f64> {
    let engine = cpu_engine(model, &BTreeMap::new()).unwrap();
    let samples = SampleSet::random(engine.signature(), 8, 0);
    let values = Reference::compute(&engine, &samples).unwrap();
    (0..8).flat_map(|sample| values.output(sample, 0).to_vec()).collect()
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

/// How far the mean output of a model is from the original's in eight bits, with biases as they are and with others; and how
/// many there are.
fn shifted(model: &Model) -> (f64, f64, usize) {
    let table = coarse(&quantizable_values(model, &all()).unwrap());
    let input_shapes = BTreeMap::new();
    let source = SampleSource { input_shapes: &input_shapes, path: None, seed: 0 };
    let shifts = BiasShifts::measure(model, &table, &all(), &source).unwrap();
    let corrected = QuantizationSpec { shifts: Some(&shifts), ..all() };
    let [(as_it_was, _), (corrected, report)] =
        [all(), corrected].map(|spec| quantize(model, &table, &spec).unwrap());
    let original = mean(&outputs(model));
    let off = |model: &Model| (mean(&outputs(model)) - original).abs();
    (off(&as_it_was), off(&corrected), report.weights.corrected_biases)
}

#[test]
fn a_bias_takes_back_what_rounding_shifts_on_average() {
    let image = || positive(Sketch::new().input("x", "1,2,3,3").output("y"), "w", &[2, 2, 1, 1]);
    let row = || positive(Sketch::new().input("x", "1,4").output("y"), "w", &[4, 4]);
    let step = sketch::ints("strides", &[2, 2]);
    let models = [
        image().node("y = Conv(x, w)", &[]),
        image().weights("b", &[2]).node("y = Conv(x, w, b)", std::slice::from_ref(&step)),
        image().weights("b", &[2]).node("y = ConvTranspose(x, w, b)", &[step]),
        row().weights("b", &[4]).node("y = Gemm(x, w, b)", &[sketch::int("transB", 1)]),
        row().weights("b", &[4]).node("a = MatMul(x, w)", &[]).node("y = Add(b, a)", &[]),
    ];
    for sketch in models {
        let model = sketch.model();
        let (before, after, count) = shifted(&model);
        assert!(before > 0.001 && after < before / 100.0, "{before} {after}: {:?}", lines(model.graph()));
        assert_eq!(count, 1);
    }
}

#[test]
fn an_old_bias_goes_with_the_other_names_that_it_has() {
    let sketch = positive(Sketch::new().input("x", "1,4").output("y"), "w", &[4, 4]).weights("b", &[4]);
    let sketch = sketch.node("c = Identity(b)", &[]).node("d = Identity(c)", &[]);
    let model = sketch.node("y = Gemm(x, w, d)", &[]).model();
    let table = coarse(&quantizable_values(&model, &all()).unwrap());
    let source = SampleSource { input_shapes: &BTreeMap::new(), path: None, seed: 0 };
    let shifts = BiasShifts::measure(&model, &table, &all(), &source).unwrap();
    let spec = QuantizationSpec { shifts: Some(&shifts), ..all() };
    let (quantized, report) = quantize(&model, &table, &spec).unwrap();
    assert_eq!(report.weights.corrected_biases, 1);
    assert!(!lines(quantized.graph()).iter().any(|line| line.starts_with("Identity")));
    assert!(initializer(&quantized, "b").is_none());
}

#[test]
fn a_bias_that_others_read_or_that_is_scaled_stays_as_it_is() {
    let row = || positive(Sketch::new().input("x", "1,4").output("y"), "w", &[4, 4]).weights("b", &[4]);
    // Another reader sees what is between the product and the addition.
    let read = row().node("a = MatMul(x, w)", &[]).node("c = Add(a, b)", &[]).node("y = Mul(a, c)", &[]);
    let alone = row().node("a = MatMul(x, w)", &[]).node("y = Mul(a, b)", &[]);
    for sketch in [read, alone] {
        assert_eq!(shifted(&sketch.model()).2, 0);
    }
    // The bias of one node is read by another one too, which keeps the old one.
    let shared = row().node("a = Gemm(x, w, b)", &[]).node("y = Add(a, b)", &[]);
    let model = shared.model();
    let (_, after, count) = shifted(&model);
    assert!(count == 1 && after < 1e-4, "{count} {after}");
}

#[test]
fn a_mix_of_some_nodes_has_the_shifts_of_these_alone() {
    let sketch = positive(Sketch::new().input("x", "1,4").output("y"), "w", &[4, 4]).weights("b", &[4]);
    let model = sketch.node("a = Gemm(x, w, b)", &[]).node("y = Gemm(a, w, b)", &[]).model();
    let table = coarse(&quantizable_values(&model, &all()).unwrap());
    let input_shapes = BTreeMap::new();
    let source = SampleSource { input_shapes: &input_shapes, path: None, seed: 0 };
    let shifts = BiasShifts::measure(&model, &table, &all(), &source).unwrap();
    let too_sensitive = ["Gemm -> a".to_owned()];
    let spec = QuantizationSpec { shifts: Some(&shifts), too_sensitive: &too_sensitive, ..all() };
    let (quantized, report) = quantize(&model, &table, &spec).unwrap();
    assert_eq!(report.weights.corrected_biases, 1);
    assert!(initializer(&quantized, "b").is_some() && initializer(&quantized, "b_corrected").is_some());
}
