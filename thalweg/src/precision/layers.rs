//! Where along a network an error arises.
//!
//! In: a model, one that was made of it, and samples. Out: [`LayerErrors`], one for each value that both have, in the
//! network's order. Both run on the `cpu` backend with those values as further outputs. What is in subgraphs stays in
//! there.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::accuracy::{AccuracyLimit, OutputAccuracy, compare};
use super::onnx::fixed;
use super::probe::{Probe, SampleSource};
use crate::error::Result;
use crate::model::proto::NodeProto;
use crate::model::{DataType, Model};

/// Random samples where none are given, and the most that are looked at: each keeps all values of both networks.
const MOST_SAMPLES: usize = 4;

/// How an error grows along a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerErrors {
    /// How many samples were compared.
    pub sample_count: usize,
    /// Whether they were random numbers.
    pub is_random: bool,
    /// The limits that layers were held against, as on the command line; those on classes fit outputs alone.
    pub limits: Vec<String>,
    /// Every layer whose values both models have, in the original's order.
    pub layers: Vec<LayerError>,
    /// The first of them that is over a limit.
    pub first_over: Option<usize>,
}

/// How far the values of one layer are from the original's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerError {
    /// The node's name, or its operator and output where it has none.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// The value that was compared: the node's first output.
    pub value: String,
    /// What the layer computes in.
    pub computes_in: DataType,
    /// Cosine between both, of the worst sample.
    pub cosine: f64,
    /// max abs(a - b) over max abs(b), of the worst sample.
    pub max_relative_error: f64,
    /// The largest relative error of what the layer reads: what is above it was added here.
    pub read_relative_error: f64,
}

/// Compares two models layer by layer.
///
/// # Errors
/// Where the `cpu` backend cannot run one of them, the samples cannot be read, or a value has another shape.
pub fn layer_errors(
    original: &Model,
    converted: &Model,
    source: &SampleSource<'_>,
    limits: &[AccuracyLimit],
) -> Result<LayerErrors> {
    let (original, converted) = (original.embedded()?, converted.embedded()?);
    let pairs = pairs(&original, &converted)?;
    let names = |of: fn(&Pair) -> &String| pairs.iter().map(of).cloned().collect::<Vec<_>>();
    let reference = Probe::new(&original, &names(|pair| &pair.value), source, MOST_SAMPLES)?;
    let other = Probe::new(&converted, &names(|pair| &pair.counterpart), source, MOST_SAMPLES)?;
    let sample_count = reference.sample_count().min(MOST_SAMPLES);
    let mut worst: HashMap<String, OutputAccuracy> = HashMap::new();
    for sample in 0..sample_count {
        let compared = compare_sample(&reference, &other, &pairs, sample)?;
        for found in compared {
            let known = worst.entry(found.output.clone()).or_insert_with(|| found.clone());
            known.cosine = known.cosine.min(found.cosine);
            known.max_relative_error = known.max_relative_error.max(found.max_relative_error);
        }
    }
    let layers = layers(pairs, &worst);
    let is_over = |layer: &LayerError| limits.iter().any(|limit| !layer.meets(*limit));
    Ok(LayerErrors {
        sample_count,
        is_random: source.path.is_none(),
        limits: limits.iter().map(ToString::to_string).collect(),
        first_over: layers.iter().position(is_over),
        layers,
    })
}

impl LayerError {
    /// A limit on classes says nothing of a layer.
    fn meets(&self, limit: AccuracyLimit) -> bool {
        match limit {
            AccuracyLimit::Cosine(least) => self.cosine >= least,
            AccuracyLimit::RelativeError(most) => self.max_relative_error <= most,
            AccuracyLimit::Top1(_) => true,
        }
    }
}

/// A layer that both models have.
struct Pair {
    node: String,
    operator: String,
    reads: Vec<String>,
    /// Its first output in the original and in the converted model.
    value: String,
    counterpart: String,
    computes_in: DataType,
}

/// A value keeps its name, or has that of its half type behind it.
fn pairs(original: &Model, converted: &Model) -> Result<Vec<Pair>> {
    let types = original.element_types(original.graph(), &HashMap::new())?;
    let other = Other::of(converted)?;
    let is_full = |name: &String| types.get(name) == Some(&DataType::F32);
    // What follows from weights alone is no layer: it has no error, or that of the weights.
    let fixed = fixed(original.graph());
    let mut pairs = Vec::new();
    for node in &original.graph().node {
        let is_layer = |name: &&String| is_full(name) && !fixed.contains(name.as_str());
        let Some(value) = node.output.first().filter(is_layer) else { continue };
        let Some(counterpart) = other.counterpart(value) else { continue };
        pairs.push(Pair {
            node: node.label(),
            operator: node.op_type().to_owned(),
            reads: node.input.clone(),
            value: value.clone(),
            computes_in: other.computes_in(&counterpart),
            counterpart,
        });
    }
    Ok(pairs)
}

/// What is known of the converted model.
struct Other<'a> {
    types: HashMap<String, DataType>,
    makers: HashMap<&'a str, &'a NodeProto>,
    /// What DequantizeLinear gives.
    dequantized: HashSet<&'a str>,
}

impl<'a> Other<'a> {
    fn of(model: &'a Model) -> Result<Self> {
        let nodes = &model.graph().node;
        let made = |node: &'a NodeProto| node.output.iter().map(move |name| (name.as_str(), node));
        let dequantizing = nodes.iter().filter(|node| node.op_type() == "DequantizeLinear");
        Ok(Self {
            types: model.element_types(model.graph(), &HashMap::new())?,
            makers: nodes.iter().flat_map(made).collect(),
            dequantized: dequantizing.flat_map(|node| &node.output).map(String::as_str).collect(),
        })
    }

    fn counterpart(&self, value: &str) -> Option<String> {
        let names = [value.to_owned(), format!("{value}_fp16"), format!("{value}_bf16")];
        names.into_iter().find(|name| {
            let is_float = self.types.get(name).is_some_and(|data_type| data_type.is_float());
            is_float && self.makers.contains_key(name.as_str())
        })
    }

    /// A value in FP32 may be the cast of what was computed in half.
    fn computes_in(&self, value: &str) -> DataType {
        let full = DataType::F32;
        let Some(node) = self.makers.get(value) else { return full };
        let read = node.input.first().map(String::as_str).unwrap_or_default();
        if self.dequantized.contains(read) {
            return DataType::I8;
        }
        let name = if node.op_type() == "Cast" { read } else { value };
        self.types
            .get(name)
            .copied()
            .filter(|it| matches!(it, DataType::F16 | DataType::BF16))
            .unwrap_or(full)
    }
}

fn compare_sample(
    reference: &Probe,
    other: &Probe,
    pairs: &[Pair],
    sample: usize,
) -> Result<Vec<OutputAccuracy>> {
    let mut expected: HashMap<String, Vec<f64>> = HashMap::new();
    reference.look(sample, |name, numbers| {
        expected.insert(name.to_owned(), numbers.to_vec());
    })?;
    let values: HashMap<&str, &str> =
        pairs.iter().map(|pair| (pair.counterpart.as_str(), pair.value.as_str())).collect();
    let mut compared = Vec::with_capacity(pairs.len());
    other.look(sample, |name, got| {
        let expected = values.get(name).and_then(|value| Some((*value, expected.get(*value)?)));
        compared.extend(expected.map(|(value, expected)| compare(value, &[expected], &[got], false)));
    })?;
    compared.into_iter().collect()
}

fn layers(pairs: Vec<Pair>, worst: &HashMap<String, OutputAccuracy>) -> Vec<LayerError> {
    let error = |name: &String| worst.get(name).map_or(0.0, |found| found.max_relative_error);
    let layer = |pair: Pair| {
        let found = worst.get(&pair.value)?;
        Some(LayerError {
            read_relative_error: pair.reads.iter().map(error).fold(0.0, f64::max),
            node: pair.node,
            operator: pair.operator,
            value: pair.value,
            computes_in: pair.computes_in,
            cosine: found.cosine,
            max_relative_error: found.max_relative_error,
        })
    };
    pairs.into_iter().filter_map(layer).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::sketch::Sketch;
    use crate::precision::{Boundary, ConversionSpec, HalfType, Selection, convert};

    /// `a = x + 0.1` in both types, `b` hands on, `c` magnifies.
    fn model() -> Model {
        let mut sketch = Sketch::new().input("x", "1,4").declared_output("y", "1,4");
        for (name, number) in [("tenth", 0.1), ("large", 1000.1)] {
            sketch = sketch.weights(name, &[4]);
            let tensor = sketch.graph.initializer.last_mut().unwrap();
            tensor.float_data = vec![number; 4];
        }
        let sketch = sketch.node("a = Add(x, tenth)", &[]).node("b = Relu(a)", &[]);
        sketch.node("c = Sub(b, large)", &[]).node("d = Add(c, large)", &[]).node("y = Tanh(d)", &[]).model()
    }

    fn errors(keep_f32: &[String], limits: &[AccuracyLimit]) -> LayerErrors {
        let (model, input_shapes) = (model(), BTreeMap::new());
        let spec = ConversionSpec {
            half: HalfType::Fp16,
            selection: Selection::new(keep_f32, &[]),
            too_sensitive: &[],
            boundary: Boundary::Unchanged,
            ranges: None,
            scales: super::super::ScaleForm::Half,
        };
        let (converted, _) = convert(&model, &spec).unwrap();
        let source = SampleSource { input_shapes: &input_shapes, path: None, seed: 3 };
        layer_errors(&model, &converted, &source, limits).unwrap()
    }

    #[test]
    fn the_layer_that_adds_the_error_is_named_and_the_first_over_the_limit_marked() {
        let found = errors(&[], &[AccuracyLimit::RelativeError(0.01)]);
        let names: Vec<_> = found.layers.iter().map(|layer| layer.value.as_str()).collect();
        assert_eq!((names, found.sample_count), (vec!["a", "b", "c", "d", "y"], MOST_SAMPLES));
        let [a, b, c, d, _] = &found.layers[..] else { panic!("{found:?}") };
        // What is left of a number between 0 and 1 beside 1000 has steps of a half.
        assert!(a.max_relative_error < 1e-3 && c.max_relative_error < 1e-3, "{found:?}");
        assert!(d.max_relative_error > 0.05 && d.read_relative_error == c.max_relative_error, "{found:?}");
        assert_eq!(b.max_relative_error, a.max_relative_error);
        assert_eq!((found.first_over, &found.limits[..]), (Some(3), &["rel=0.01".to_owned()][..]));
        assert!(found.layers.iter().all(|layer| layer.computes_in == DataType::F16));
    }

    #[test]
    fn layers_that_stay_in_fp32_are_told_and_lose_nothing_by_themselves() {
        let keep = ["Sub", "Add", "Relu", "Tanh"].map(str::to_owned);
        let found = errors(&keep, &[AccuracyLimit::Top1(1.0)]);
        assert!(found.layers.iter().all(|layer| layer.computes_in == DataType::F32), "{found:?}");
        assert!(found.layers.iter().all(|layer| layer.max_relative_error == 0.0), "{found:?}");
        assert_eq!(found.first_over, None);
    }
}
