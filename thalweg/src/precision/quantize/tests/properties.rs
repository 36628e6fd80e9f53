//! What holds for every graph, tried on random ones and on hostile ones.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::*;
use crate::measure::{Reference, SampleSet};
use crate::precision::probe::cpu_engine;
use crate::precision::{CalibrationMethod, SampleSource, compare};
use crate::random::Random;

const GRAPHS: u64 = 40;
const WIDTH: usize = 16;

/// What eight bits may cost on these graphs, whose weights are random: each layer adds an error of about 1 %.
const LEAST_COSINE: f64 = 0.98;

/// A graph of random nodes over tensors of `[1, 16]`.
struct Draft {
    random: Random,
    sketch: Sketch,
    values: Vec<String>,
}

impl Draft {
    fn model(seed: u64) -> Model {
        let sketch = Sketch::new().input("x", "1,16").declared_output("y", "1,16");
        let mut draft = Self { random: Random::new(seed), sketch, values: vec!["x".to_owned()] };
        for _ in 0..12 {
            draft.grow();
        }
        let last = draft.values.last().unwrap().clone();
        draft.sketch.node(&format!("y = Identity({last})"), &[]).model()
    }

    fn pick(&mut self) -> String {
        // Late values more often, so that the graphs get deep.
        let place = self.random.below(self.values.len()).max(self.random.below(self.values.len()));
        self.values[place].clone()
    }

    fn grow(&mut self) {
        let name = format!("v{}", self.values.len());
        let (a, b) = (self.pick(), self.pick());
        let line = match self.random.below(6) {
            0 => format!("{name} = Relu({a})"),
            1 => format!("{name} = Add({a}, {b})"),
            2 => format!("{name} = Tanh({a})"),
            3 => format!("{name} = Gemm({a}, {}, {})", self.weight(&[WIDTH, WIDTH]), self.weight(&[WIDTH])),
            _ => format!("{name} = MatMul({a}, {})", self.weight(&[WIDTH, WIDTH])),
        };
        self.sketch = self.sketch.clone().node(&line, &[]);
        self.values.push(name);
    }

    /// A weight of this shape: a new one, or one that the graph has already.
    fn weight(&mut self, dims: &[usize]) -> String {
        let dims: Vec<i64> = dims.iter().map(|size| i64::try_from(*size).unwrap()).collect();
        let known = self.sketch.graph.initializer.iter().find(|tensor| tensor.dims == dims);
        if let Some(known) = known.filter(|_| self.random.below(3) == 0) {
            return known.name().to_owned();
        }
        let name = format!("k{}", self.sketch.graph.initializer.len());
        self.sketch = self.sketch.clone().weights(&name, &dims);
        let tensor = self.sketch.graph.initializer.last_mut().unwrap();
        for number in &mut tensor.float_data {
            *number = self.random.below(1024) as f32 / 2048.0 - 0.25;
        }
        name
    }
}

/// A graph of random nodes over images of `[1, 8, 6, 6]`: convolutions, residual additions, pooling, concatenation, and a
/// branch with a convolution in it.
fn drawn_images(seed: u64) -> Model {
    let sketch = Sketch::new().input("x", "1,8,6,6").declared_output("y", "1,8,1,1");
    let mut draft = Draft { random: Random::new(seed), sketch, values: vec!["x".to_owned()] };
    let flag = TensorProto {
        name: Some("flag".into()),
        data_type: Some(OnnxDataType::Bool as i32),
        int32_data: vec![i32::from(seed.is_multiple_of(2))],
        ..TensorProto::default()
    };
    draft.sketch.graph.initializer.push(flag);
    for _ in 0..12 {
        draft.grow_image();
    }
    let last = draft.values.last().unwrap().clone();
    draft.sketch.node(&format!("y = GlobalAveragePool({last})"), &[]).model()
}

impl Draft {
    fn grow_image(&mut self) {
        let name = format!("v{}", self.values.len());
        let (a, b) = (self.pick(), self.pick());
        let padded = [sketch::ints("kernel_shape", &[3, 3]), sketch::ints("pads", &[1, 1, 1, 1])];
        let grouped = [padded[0].clone(), padded[1].clone(), sketch::int("group", 8)];
        let mut add = |line: String, attributes: &[_]| {
            self.sketch = self.sketch.clone().node(&line, attributes);
        };
        match self.random.below(9) {
            0 => add(format!("{name} = Relu({a})"), &[]),
            1 => add(format!("{name} = Add({a}, {b})"), &[]),
            2 => add(format!("{name} = MaxPool({a})"), &padded),
            3 => add(format!("{name} = AveragePool({a})"), &padded),
            4 => {
                add(format!("{name}_both = Concat({a}, {b})"), &[sketch::int("axis", 1)]);
                let weight = self.weight(&[8, 16, 1, 1]);
                self.sketch = self.sketch.clone().node(&format!("{name} = Conv({name}_both, {weight})"), &[]);
            }
            5 => {
                let weight = self.weight(&[8, 1, 3, 3]);
                self.sketch = self.sketch.clone().node(&format!("{name} = Conv({a}, {weight})"), &grouped);
            }
            6 => {
                let weight = self.weight(&[8, 8, 1, 1]);
                let branch = |line: &str| {
                    let sketch = Sketch::new().output(&format!("{name}_inner"));
                    sketch.node(&format!("{name}_inner = {line}"), &[]).graph
                };
                // Names are unique in a graph and those around it, but two branches may share theirs.
                let convolution = sketch::graph("then_branch", branch(&format!("Conv({a}, {weight})")));
                let other = sketch::graph("else_branch", branch(&format!("Relu({a})")));
                self.sketch = self.sketch.clone().node(&format!("{name} = If(flag)"), &[convolution, other]);
            }
            _ => {
                let (weight, bias) = (self.weight(&[8, 8, 3, 3]), self.weight(&[8]));
                let line = format!("{name}_sum = Conv({a}, {weight}, {bias})");
                // A residual connection around it.
                self.sketch = self.sketch.clone().node(&line, &padded);
                self.sketch = self.sketch.clone().node(&format!("{name} = Add({name}_sum, {b})"), &[]);
            }
        }
        self.values.push(name);
    }
}

fn outputs(model: &Model) -> Vec<f64> {
    let engine = cpu_engine(model, &BTreeMap::new()).unwrap();
    let samples = SampleSet::random(engine.signature(), 1, 7);
    Reference::compute(&engine, &samples).unwrap().output(0, 0).to_vec()
}

fn calibrated(model: &Model, spec: &QuantizationSpec<'_>) -> CalibrationTable {
    let values = quantizable_values(model, spec).unwrap();
    let input_shapes = BTreeMap::new();
    let source = SampleSource { input_shapes: &input_shapes, path: None, seed: 7 };
    CalibrationTable::measure(model, &values, CalibrationMethod::MinMax, &source).unwrap()
}

/// Every name is made once, before it is read, and QuantizeLinear stands once behind a value.
fn assert_is_sound(graph: &GraphProto) {
    let initializers = graph.initializer.iter().map(TensorProto::name);
    let mut known: HashSet<&str> =
        initializers.chain(graph.input.iter().map(crate::model::proto::ValueInfoProto::name)).collect();
    let mut quantized = HashSet::new();
    let mut names = HashSet::new();
    for node in &graph.node {
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            assert!(known.contains(name.as_str()), "{} reads {name} too early", node.label());
        }
        for name in &node.output {
            assert!(known.insert(name), "{name} is made twice");
        }
        assert!(node.name().is_empty() || names.insert(node.name()), "two nodes are called {}", node.name());
        if node.op_type() == "QuantizeLinear" {
            assert!(quantized.insert(&node.input[0]), "{} is quantised twice", node.input[0]);
        }
    }
}

#[test]
fn a_random_graph_stays_valid_and_gives_the_same_within_the_limit() {
    let mut quantized_nodes = 0;
    for model in (0..GRAPHS).map(Draft::model) {
        quantized_nodes += quantized_nodes_of(&model);
    }
    assert!(quantized_nodes > 100, "{quantized_nodes}");
}

#[test]
fn a_random_graph_of_images_stays_valid_and_gives_the_same_within_the_limit() {
    let mut quantized_nodes = 0;
    let mut drawn: HashMap<String, usize> = HashMap::new();
    for model in (0..GRAPHS).map(drawn_images) {
        quantized_nodes += quantized_nodes_of(&model);
        for node in &model.graph().node {
            *drawn.entry(node.op_type().to_owned()).or_default() += 1;
        }
    }
    assert!(quantized_nodes > 100, "{quantized_nodes}");
    for operator in ["Conv", "Add", "MaxPool", "AveragePool", "Concat", "If"] {
        assert!(drawn.get(operator) > Some(&10), "{operator}: {drawn:?}");
    }
}

/// Quantises a model in every form, checks the results, and counts the quantised nodes of all.
fn quantized_nodes_of(model: &Model) -> usize {
    let (table, input_shapes) = (calibrated(model, &all()), BTreeMap::new());
    let source = SampleSource { input_shapes: &input_shapes, path: None, seed: 7 };
    let measured = BiasShifts::measure(model, &table, &all(), &source).unwrap();
    let expected = outputs(model);
    let forms = [(WeightForm::Int8, None), (WeightForm::Fp32, None), (WeightForm::Int8, Some(&measured))];
    let quantized_nodes = forms.map(|(weights, shifts)| {
        let spec = QuantizationSpec { weights, shifts, ..all() };
        let (quantized, report) = quantize(model, &table, &spec).unwrap();
        assert_is_sound(quantized.graph());
        let types = quantized.element_types(quantized.graph(), &HashMap::new()).unwrap();
        assert_eq!(types.get("y"), Some(&crate::model::DataType::F32));
        let cosine = compare("y", &[&expected], &[&outputs(&quantized)], false).unwrap().cosine;
        assert!(cosine >= LEAST_COSINE, "{cosine}: {:?}", lines(model.graph()));
        report.quantized_nodes()
    });
    quantized_nodes.iter().sum()
}

#[test]
fn names_that_are_taken_are_not_given_again() {
    let sketch = Sketch::new().input("x", "1,4").output("y").output("x_int8").weights("w", &[4, 4]);
    let sketch = sketch.weights("w_int8", &[4, 4]).node("x_int8 = Relu(x)", &[]);
    let sketch = sketch.node("a = MatMul(x, w)", &[]).node("y = MatMul(a, w_int8)", &[]);
    let (quantized, _) = quantized(&sketch.model(), &all());
    assert_is_sound(quantized.graph());
    assert_eq!(quantized.outputs().len(), 2);
}

#[test]
fn a_hostile_model_is_quantised_where_that_is_sound() {
    let mut sketch = Sketch::new().input("x", "1,4").declared_output("y", "1,4");
    let extremes: [(&str, [f32; 4]); 4] = [
        ("tiny", [1e-42, 0.0, -1e-44, 1e-45]),
        ("huge", [f32::MAX, 1.0, -f32::MAX, 1e-30]),
        ("odd", [f32::NAN, f32::NEG_INFINITY, 0.0, 1.0]),
        ("nothing", [0.0; 4]),
    ];
    for (name, numbers) in extremes {
        sketch = sketch.weights(name, &[4, 4]);
        let tensor = sketch.graph.initializer.last_mut().unwrap();
        tensor.float_data = numbers.repeat(4);
    }
    let sketch = sketch.node("a = MatMul(x, tiny)", &[]).node("b = MatMul(x, huge)", &[]);
    let sketch = sketch.node("c = MatMul(x, odd)", &[]).node("d = MatMul(x, nothing)", &[]);
    let sketch = sketch.node("e = MatMul(d, nothing)", &[]).node("f = MatMul(c, tiny)", &[]);
    let sketch = sketch.node("y = Sum(a, b, e, f)", &[]);
    let model = sketch.model();
    let table = calibrated(&model, &all());
    let (quantized, report) = quantize(&model, &table, &all()).unwrap();
    assert_is_sound(quantized.graph());
    assert_eq!(report.quantized_nodes(), 3);
    assert!(matches!(reason_of(&report, "MatMul -> c"), SkipReason::WeightNotFinite { .. }));
    assert_eq!(reason_of(&report, "MatMul -> e"), SkipReason::NoRange { value: "d".to_owned() });
    assert_eq!(reason_of(&report, "MatMul -> f"), SkipReason::NoRange { value: "c".to_owned() });
    let scales = quantized.graph().initializer.iter().filter(|tensor| tensor.name().ends_with("_scale"));
    for scale in scales {
        let bytes = quantized.tensor_data(scale).unwrap();
        assert!(
            crate::precision::onnx::floats(&bytes).iter().all(|scale| scale.is_normal()),
            "{}",
            scale.name()
        );
    }
}

/// What is compared on the `cpu` backend is only as good as its Q and DQ: halves go to the even neighbour, what is beyond
/// is cut off, and each channel has its scale.
#[test]
fn the_cpu_backend_rounds_as_onnx_says() {
    let mut sketch = Sketch::new().input("x", "1,4").declared_output("y", "2,4");
    let initializer = |name: &str, dims: &[i64], data_type: OnnxDataType, bytes: Vec<u8>| TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(data_type as i32),
        raw_data: Some(bytes.into()),
        ..TensorProto::default()
    };
    let floats =
        |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    let far = [0.5, 1.5, 200.0, -200.0_f32];
    sketch.graph.initializer = vec![
        initializer("far", &[4], OnnxDataType::Float, floats(&far)),
        initializer("none", &[], OnnxDataType::Float, floats(&[0.0])),
        initializer("one", &[], OnnxDataType::Float, floats(&[1.0])),
        initializer("zero", &[], OnnxDataType::Int8, vec![0]),
        initializer("w", &[2, 1], OnnxDataType::Int8, vec![2, 0xfd]),
        initializer("scales", &[2], OnnxDataType::Float, floats(&[1.0, 10.0])),
    ];
    let sketch = sketch.node("gone = Mul(x, none)", &[]).node("there = Add(gone, far)", &[]);
    let sketch = sketch.node("q = QuantizeLinear(there, one, zero)", &[]);
    let sketch = sketch.node("d = DequantizeLinear(q, one, zero)", &[]);
    let sketch = sketch.node("v = DequantizeLinear(w, scales)", &[sketch::int("axis", 0)]);
    let model = sketch.node("y = Mul(v, d)", &[]).model();
    let rounded = [0.0, 2.0, 127.0, -128.0];
    let expected: Vec<f64> = [2.0, -30.0].iter().flat_map(|v| rounded.map(|d| v * d)).collect();
    assert_eq!(outputs(&model), expected);
}
