//! Which nodes to leave in FP32, so that INT8 costs no more accuracy than is allowed.
//!
//! In: a model, a table, samples, limits, and the data sheet of a device. Out: a quantised model within the limits, and a
//! [`Mix`] that says what each node loses when it alone is quantised and what it saves. Nodes go back to FP32 in the order
//! of what they lose for the time they save; how many of them, is found by bisection, where each step is measured. That is
//! a greedy answer to a knapsack problem: the mix is within the limits because it was measured, and fast because little
//! was given up, but another one may be faster. Everything runs on the `cpu` backend, where eight-bit numbers are
//! multiplied as floats: exactly the numbers that a device's integers stand for.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::CalibrationTable;
use super::accuracy::{Accuracy, AccuracyLimit};
use super::assess::{Outputs, judged, samples_for};
use super::probe::{SampleSource, cpu_engine};
use super::quantize::{QuantizationReport, QuantizationSpec, quantize, quantized_nodes};
use crate::backend::{DataSheet, Engine};
use crate::error::{Error, Result};
use crate::measure::SampleSet;
use crate::model::{Model, NodeCost};

/// Samples on which nodes are looked at one by one: each node takes a network of its own, and the order of nodes hardly
/// depends on more of them.
const SAMPLES_FOR_ORDER: usize = 4;

/// Bytes of a number in FP16, which is what a node would be in where it is not INT8.
const HALF_BYTES: f64 = 2.0;

/// What a mix has to keep to.
#[derive(Clone, Copy, Debug)]
pub struct MixSpec<'a> {
    /// What is quantised where nothing speaks against it.
    pub quantization: QuantizationSpec<'a>,
    /// All of them must be met.
    pub limits: &'a [AccuracyLimit],
    /// What losses are measured on.
    pub source: SampleSource<'a>,
    /// The device whose time is saved.
    pub sheet: DataSheet,
}

/// A choice of nodes, and what it is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// Every node that could be quantised, the first to go back to FP32 first.
    pub nodes: Vec<NodeSensitivity>,
    /// How many of them went back.
    pub kept: usize,
    /// Mixes that were measured.
    pub tried: usize,
    /// The accuracy of the one that was chosen.
    pub accuracy: Accuracy,
}

/// What one node costs and saves in eight bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeSensitivity {
    /// Its name, or its operator and output where it has none.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// One less the cosine of the worst output of the worst sample, with this node alone in eight bits.
    pub lost_cosine: f64,
    /// Time that it saves over FP16 on paper, in nanoseconds: by the roofline of the data sheet.
    pub saved_ns: f64,
}

/// Chooses the mix for a model.
///
/// # Errors
/// As [`quantize`]; where the `cpu` backend cannot run the model, the samples cannot be read, or a limit fits no output.
pub fn choose_mix(
    model: &Model,
    table: &CalibrationTable,
    spec: &MixSpec<'_>,
) -> Result<(Model, QuantizationReport, Mix)> {
    let model = model.embedded()?;
    let trial = Trial::of(&model, table, spec)?;
    let nodes = trial.sensitivities()?;
    let names: Vec<String> = nodes.iter().map(|it| it.node.clone()).collect();
    let mut best = trial.candidate(&names, 0)?;
    let mut tried = 1;
    if !meets(&best.accuracy, spec.limits)? {
        // The last one has nothing in eight bits; between the two is the first that is good.
        best = trial.candidate(&names, names.len())?;
        tried += 1;
        let mut too_few = 0;
        while best.kept - too_few > 1 {
            let candidate = trial.candidate(&names, too_few + (best.kept - too_few) / 2)?;
            tried += 1;
            if meets(&candidate.accuracy, spec.limits)? {
                best = candidate;
            } else {
                too_few = candidate.kept;
            }
        }
    }
    let Candidate { kept, model, report, accuracy } = best;
    Ok((model, report, Mix { nodes, kept, tried, accuracy }))
}

/// Whether all limits are met. What is no question of accuracy is an error.
fn meets(accuracy: &Accuracy, limits: &[AccuracyLimit]) -> Result<bool> {
    for limit in limits {
        match limit.check(accuracy) {
            Ok(()) => {}
            Err(Error::AccuracyLost { .. }) => return Ok(false),
            Err(other) => return Err(other),
        }
    }
    Ok(true)
}

/// A mix that was measured.
struct Candidate {
    kept: usize,
    model: Model,
    report: QuantizationReport,
    accuracy: Accuracy,
}

/// What mixes are measured with.
struct Trial<'a> {
    model: &'a Model,
    table: &'a CalibrationTable,
    spec: &'a MixSpec<'a>,
    samples: SampleSet,
    /// What the original gives, for all samples and for the first few.
    expected: Outputs,
    expected_first: Outputs,
}

impl<'a> Trial<'a> {
    fn of(model: &'a Model, table: &'a CalibrationTable, spec: &'a MixSpec<'a>) -> Result<Self> {
        let engine = cpu_engine(model, spec.source.input_shapes)?;
        let samples = samples_for(&engine, spec.source.path, spec.source.seed)?;
        let expected = Outputs::for_samples(&engine, &samples)?;
        let expected_first = Outputs::for_samples(&engine, &samples.first(SAMPLES_FOR_ORDER))?;
        Ok(Self { model, table, spec, samples, expected, expected_first })
    }

    /// Every node alone in eight bits; the one that loses most for what it saves comes first.
    fn sensitivities(&self) -> Result<Vec<NodeSensitivity>> {
        let names = quantized_nodes(self.model, self.table, &self.spec.quantization)?;
        let shapes = self.model.infer_shapes(self.spec.source.input_shapes)?;
        let costs = self.model.cost(&shapes).nodes;
        let costs: HashMap<&str, &NodeCost> = costs.iter().map(|cost| (cost.name.as_str(), cost)).collect();
        let mut nodes = Vec::with_capacity(names.len());
        for name in &names {
            let others: Vec<String> = names.iter().filter(|other| *other != name).cloned().collect();
            let (engine, _, _) = self.quantized(&others)?;
            let got = Outputs::for_samples(&engine, &self.samples.first(SAMPLES_FOR_ORDER))?;
            let accuracy = self.accuracy(&self.expected_first, &got)?;
            let cosine = accuracy.outputs.iter().map(|output| output.cosine).fold(1.0, f64::min);
            let cost = costs.get(name.as_str());
            nodes.push(NodeSensitivity {
                node: name.clone(),
                operator: cost.map(|cost| cost.operator.clone()).unwrap_or_default(),
                lost_cosine: 1.0 - cosine,
                saved_ns: cost.map_or(0.0, |cost| saved_ns(cost, &self.spec.sheet)),
            });
        }
        nodes.sort_by(|a, b| b.loss_per_ns().total_cmp(&a.loss_per_ns()));
        Ok(nodes)
    }

    /// The mix in which the first `kept` of these nodes are in FP32.
    fn candidate(&self, names: &[String], kept: usize) -> Result<Candidate> {
        let (engine, model, report) = self.quantized(&names[..kept])?;
        let got = Outputs::for_samples(&engine, &self.samples)?;
        Ok(Candidate { kept, model, report, accuracy: self.accuracy(&self.expected, &got)? })
    }

    fn quantized(&self, too_sensitive: &[String]) -> Result<(Arc<dyn Engine>, Model, QuantizationReport)> {
        let quantization = QuantizationSpec { too_sensitive, ..self.spec.quantization };
        let (model, report) = quantize(self.model, self.table, &quantization)?;
        Ok((cpu_engine(&model, self.spec.source.input_shapes)?, model, report))
    }

    fn accuracy(&self, expected: &Outputs, got: &Outputs) -> Result<Accuracy> {
        judged("original on the cpu backend".to_owned(), expected, got, self.spec.source.path)
    }
}

impl NodeSensitivity {
    /// What is lost for each nanosecond that is saved. A node that saves nothing goes first.
    fn loss_per_ns(&self) -> f64 {
        if self.saved_ns > 0.0 { self.lost_cosine / self.saved_ns } else { f64::INFINITY }
    }
}

/// The time of a node in FP16 less that in INT8, each the larger one of its arithmetic's and its bytes'.
fn saved_ns(cost: &NodeCost, sheet: &DataSheet) -> f64 {
    let seconds = |flops_per_s: f64, bytes_per_number: f64| {
        // The model's numbers are FP32.
        let bytes = (cost.weight_bytes + cost.activation_bytes).0 as f64 / 4.0 * bytes_per_number;
        (cost.flops as f64 / flops_per_s).max(bytes / sheet.dram_bytes_per_s)
    };
    (seconds(sheet.fp16_flops_per_s, HALF_BYTES) - seconds(sheet.int8_ops_per_s, 1.0)) * 1e9
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::sketch::Sketch;
    use crate::precision::{CalibrationMethod, Ends, quantizable_values};

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

    fn mix(limit: AccuracyLimit) -> (QuantizationReport, Mix) {
        let (model, input_shapes) = (model(), BTreeMap::new());
        let source = SampleSource { input_shapes: &input_shapes, path: None, seed: 0 };
        let quantization = QuantizationSpec { ends: Ends::Quantize, ..QuantizationSpec::default() };
        let values = quantizable_values(&model, &quantization).unwrap();
        let table = CalibrationTable::measure(&model, &values, CalibrationMethod::MinMax, &source).unwrap();
        let sheet = DataSheet::of("h100").unwrap();
        let spec = MixSpec { quantization, limits: &[limit], source, sheet };
        let (_, report, mix) = choose_mix(&model, &table, &spec).unwrap();
        (report, mix)
    }

    #[test]
    fn nothing_goes_back_where_the_limit_is_met() {
        let (report, mix) = mix(AccuracyLimit::Cosine(0.0));
        assert_eq!((report.quantized_nodes(), mix.kept, mix.tried), (2, 0, 1));
    }

    #[test]
    fn the_sensitive_node_goes_back_first() {
        let (report, mix) = mix(AccuracyLimit::RelativeError(0.02));
        assert_eq!(mix.nodes[0].node, "MatMul -> y");
        assert!(mix.nodes[0].lost_cosine >= mix.nodes[1].lost_cosine);
        assert_eq!((report.quantized_nodes(), mix.kept), (1, 1));
        assert!(AccuracyLimit::RelativeError(0.02).check(&mix.accuracy).is_ok());
    }

    #[test]
    fn everything_goes_back_where_no_loss_is_allowed() {
        let (report, mix) = mix(AccuracyLimit::RelativeError(0.0));
        assert_eq!((report.quantized_nodes(), mix.kept), (0, 2));
        assert_eq!(mix.accuracy.outputs[0].cosine, 1.0);
    }

    #[test]
    fn eight_bits_save_half_of_what_half_precision_takes() {
        let sheet = DataSheet::of("h100").unwrap();
        let cost = NodeCost { flops: 989_400_000_000, ..NodeCost::default() };
        assert!((saved_ns(&cost, &sheet) - 0.5e6).abs() < 1e3, "{}", saved_ns(&cost, &sheet));
    }
}
