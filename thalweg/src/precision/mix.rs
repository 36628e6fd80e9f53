//! Which nodes to leave in FP32, so that a lower precision costs no more accuracy than is allowed.
//!
//! In: a model, a [`Lowering`], samples, limits, and the data sheet of a device. Out: a converted model within the limits,
//! and a [`Mix`] that says what each node loses when it alone is lowered and what it saves. Nodes go back to FP32 in the
//! order of what they lose for the time they save, those first that break a limit by themselves; how many of them, is
//! found by bisection, where each step is measured.
//! What stays out of eight bits can be half, within the same limits: all of it where half alone keeps to them, so that the
//! mix is chosen with half around it, else as much as they leave room for once the mix is chosen.
//! That is a greedy answer to a knapsack problem: the mix is within the limits because it was measured, and fast because
//! little was given up, but another one may be faster. Everything runs on the `cpu` backend, where eight-bit numbers are
//! multiplied as floats, exactly the numbers that a device's integers stand for, and halves are rounded.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::CalibrationTable;
use super::accuracy::{Accuracy, AccuracyLimit};
use super::assess::{Outputs, judged, samples_for};
use super::convert::{ConversionSpec, Prepared, convert};
use super::loss::Conversion;
use super::probe::{SampleSource, cpu_engine};
use super::quantize::{QuantizationSpec, quantize, quantized_nodes};
use super::selection::{Resolved, Selection};
use crate::backend::DataSheet;
use crate::error::{Error, Result};
use crate::measure::SampleSet;
use crate::model::{Model, NodeCost};

/// Samples on which nodes are looked at one by one: each takes a network of its own, and the order of nodes hardly
/// depends on more of them.
const SAMPLES_FOR_ORDER: usize = 4;

/// Neighbours that go into half together, so that there are about so many groups: nearly every node can be half, each
/// group takes a network of its own, and a border between both types takes casts.
const MOST_GROUPS: usize = 48;

/// Bytes of a number in FP32 and FP16.
const FULL_BYTES: f64 = 4.0;
const HALF_BYTES: f64 = 2.0;

/// What a model is lowered by.
#[derive(Clone, Copy, Debug)]
pub enum Lowering<'a> {
    /// Eight bits, with thresholds of a table. Each node is looked at alone.
    Int8 {
        /// The thresholds.
        table: &'a CalibrationTable,
        /// What is quantised where nothing speaks against it.
        spec: QuantizationSpec<'a>,
        /// What becomes of all else, where it is not to stay in FP32.
        rest: Option<ConversionSpec<'a>>,
    },
    /// Half precision where nothing speaks against it. Neighbours are looked at together.
    Half(ConversionSpec<'a>),
}

/// What a mix has to keep to.
#[derive(Clone, Copy, Debug)]
pub struct MixSpec<'a> {
    /// What nodes are lowered by.
    pub lowering: Lowering<'a>,
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
    /// Every node that could be lowered, or group of neighbours, the first to go back to FP32 first.
    pub nodes: Vec<NodeSensitivity>,
    /// How many of them went back.
    pub kept: usize,
    /// Mixes that were measured.
    pub tried: usize,
    /// The accuracy of the one that was chosen.
    pub accuracy: Accuracy,
    /// The choice among what stayed out of eight bits, where not all of it could be half; files of earlier versions lack it.
    #[serde(default)]
    pub rest: Option<Box<Mix>>,
}

/// What one node, or a group of neighbours, costs and saves in the lower precision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeSensitivity {
    /// Its name, or its operator and output where it has none; of a group that of the first.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// How many nodes the group has; files of earlier versions lack it.
    #[serde(default = "one")]
    pub node_count: usize,
    /// One less the cosine of the worst output of the worst sample, with this alone in the lower precision.
    pub lost_cosine: f64,
    /// The relative error of the same; files of earlier versions lack it.
    #[serde(default)]
    pub relative_error: f64,
    /// Time that it saves on paper, in nanoseconds: INT8 over FP16, and FP16 over FP32, by the roofline of the data sheet.
    pub saved_ns: f64,
}

const fn one() -> usize {
    1
}

/// Chooses the mix for a model.
///
/// # Errors
/// As [`quantize`] and [`convert`](fn@convert); where the `cpu` backend cannot run the model, the samples cannot be read,
/// or a limit fits no output.
pub fn choose_mix(model: &Model, spec: &MixSpec<'_>) -> Result<(Model, Conversion, Mix)> {
    let model = model.embedded()?;
    // What the user's lists name, they name in the original.
    let lists = spec.lowering.lists(&model)?;
    let spec = &MixSpec { lowering: spec.lowering.with(&lists), ..*spec };
    let original = Original::of(&model, &spec.source)?;
    let trial = Trial::of(&original, &model, spec)?;
    let Lowering::Int8 { table, spec: quantization, rest: Some(rest) } = spec.lowering else {
        return chosen(&trial);
    };
    // With nothing in eight bits: the most accurate of all.
    let names: Vec<String> = trial.subject.groups()?.into_iter().flatten().collect();
    let (in_half, _) = trial.subject.lowered(&names)?;
    if meets(&trial.accuracy(&in_half, &original.all)?, spec.limits)? {
        return chosen(&trial);
    }
    let full = MixSpec { lowering: Lowering::Int8 { table, spec: quantization, rest: None }, ..*spec };
    let (quantized, conversion, mix) = chosen(&Trial::of(&original, &model, &full)?)?;
    let half = MixSpec { lowering: Lowering::Half(rest), ..*spec };
    let (mixed, of_rest, mix_of_rest) = chosen(&Trial::of(&original, &quantized, &half)?)?;
    let conversion = with_rest(conversion, of_rest);
    let (accuracy, tried) = (mix_of_rest.accuracy.clone(), mix.tried);
    Ok((mixed, conversion, Mix { accuracy, tried, rest: Some(Box::new(mix_of_rest)), ..mix }))
}

/// What was done in eight bits, with what was done to the rest.
fn with_rest(conversion: Conversion, of_rest: Conversion) -> Conversion {
    match (conversion, of_rest) {
        (Conversion::Int8(mut report), Conversion::Half(rest)) => {
            report.bytes_after = rest.bytes_after;
            report.opset = rest.opset;
            report.rest = Some(rest);
            Conversion::Int8(report)
        }
        (conversion, _) => conversion,
    }
}

/// Quantises a model and converts the rest of it to half, without a limit.
///
/// # Errors
/// As [`quantize`] and [`convert`](fn@convert).
pub fn quantize_with_rest(
    model: &Model,
    table: &CalibrationTable,
    spec: &QuantizationSpec<'_>,
    rest: Option<&ConversionSpec<'_>>,
) -> Result<(Model, Conversion)> {
    let lowering = Lowering::Int8 { table, spec: *spec, rest: rest.copied() };
    let lists = lowering.lists(model)?;
    let Lowering::Int8 { spec, rest, .. } = lowering.with(&lists) else {
        unreachable!("bug: lists do not change what a model is lowered by")
    };
    let (quantized, report) = quantize(model, table, &spec)?;
    let conversion = Conversion::Int8(Box::new(report));
    let Some(rest) = rest else { return Ok((quantized, conversion)) };
    let (mixed, report) = convert(&quantized, &rest)?;
    Ok((mixed, with_rest(conversion, Conversion::Half(Box::new(report)))))
}

/// The mix of a trial.
fn chosen(trial: &Trial<'_>) -> Result<(Model, Conversion, Mix)> {
    let groups = trial.sensitivities()?;
    let mut best = trial.candidate(&groups, 0)?;
    let mut tried = 1;
    if !meets(&best.accuracy, trial.spec.limits)? {
        // The last one has nothing in the lower precision; between the two is the first that is good.
        best = trial.candidate(&groups, groups.len())?;
        tried += 1;
        let mut too_few = 0;
        while best.kept - too_few > 1 {
            let candidate = trial.candidate(&groups, too_few + (best.kept - too_few) / 2)?;
            tried += 1;
            if meets(&candidate.accuracy, trial.spec.limits)? {
                best = candidate;
            } else {
                too_few = candidate.kept;
            }
        }
    }
    let Candidate { kept, model, conversion, accuracy } = best;
    let nodes = groups.into_iter().map(|group| group.sensitivity).collect();
    Ok((model, conversion, Mix { nodes, kept, tried, accuracy, rest: None }))
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

/// The nodes that the user's lists name, for eight bits and for half.
struct Lists<'a> {
    of_int8: Cow<'a, Resolved>,
    of_half: Cow<'a, Resolved>,
}

impl<'a> Lowering<'a> {
    fn lists(&self, original: &Model) -> Result<Lists<'a>> {
        let (int8, half) = match self {
            Self::Int8 { spec, rest, .. } => (Some(spec.selection), rest.map(|rest| rest.selection)),
            Self::Half(spec) => (None, Some(spec.selection)),
        };
        let resolve = |selection: Option<Selection<'a>>| selection.unwrap_or_default().resolve(original);
        Ok(Lists { of_int8: resolve(int8)?, of_half: resolve(half)? })
    }

    /// The same, with lists whose names are not looked up in what it is applied to.
    fn with<'b>(self, lists: &'b Lists<'_>) -> Lowering<'b>
    where
        'a: 'b,
    {
        let half = |spec: ConversionSpec<'a>| ConversionSpec {
            selection: spec.selection.with(&lists.of_half),
            ..spec
        };
        match self {
            Self::Int8 { table, spec, rest } => Lowering::Int8 {
                table,
                spec: QuantizationSpec { selection: spec.selection.with(&lists.of_int8), ..spec },
                rest: rest.map(half),
            },
            Self::Half(spec) => Lowering::Half(half(spec)),
        }
    }

    fn subject(&self, model: &'a Model) -> Result<Subject<'a>> {
        Ok(match *self {
            Self::Int8 { table, spec, rest } => Subject::Int8 { model, table, spec, rest },
            Self::Half(spec) => Subject::Half(Box::new(Prepared::of(model, &spec)?)),
        })
    }

    /// The time of a node in the higher precision less that in the lower one, each the larger one of its arithmetic's and
    /// its bytes'. What is INT8 would be FP16 otherwise, and what is half FP32.
    fn saved_ns(&self, cost: &NodeCost, sheet: &DataSheet) -> f64 {
        let seconds = |flops_per_s: f64, bytes_per_number: f64| {
            // The model's numbers are FP32.
            let bytes = (cost.weight_bytes + cost.activation_bytes).0 as f64 / FULL_BYTES * bytes_per_number;
            (cost.flops as f64 / flops_per_s).max(bytes / sheet.dram_bytes_per_s)
        };
        let half = seconds(sheet.fp16_flops_per_s, HALF_BYTES);
        1e9 * match self {
            Self::Int8 { .. } => half - seconds(sheet.int8_ops_per_s, 1.0),
            Self::Half(_) => seconds(sheet.fp32_flops_per_s, FULL_BYTES) - half,
        }
    }
}

/// A model to lower, with all that is the same for each of its mixes done.
enum Subject<'a> {
    Int8 {
        model: &'a Model,
        table: &'a CalibrationTable,
        spec: QuantizationSpec<'a>,
        rest: Option<ConversionSpec<'a>>,
    },
    Half(Box<Prepared<'a>>),
}

impl Subject<'_> {
    /// The nodes that would be lowered, in groups that are looked at together.
    fn groups(&self) -> Result<Vec<Vec<String>>> {
        match self {
            Self::Int8 { model, table, spec, .. } => {
                Ok(quantized_nodes(model, table, spec)?.into_iter().map(|name| vec![name]).collect())
            }
            Self::Half(prepared) => {
                let nodes = prepared.half_nodes()?;
                let size = nodes.len().div_ceil(MOST_GROUPS).max(1);
                Ok(nodes.chunks(size).map(<[String]>::to_vec).collect())
            }
        }
    }

    /// The model with all but these nodes lowered.
    fn lowered(&self, too_sensitive: &[String]) -> Result<(Model, Conversion)> {
        match self {
            Self::Int8 { model, table, spec, rest } => {
                let spec = QuantizationSpec { too_sensitive, ..*spec };
                quantize_with_rest(model, table, &spec, rest.as_ref())
            }
            Self::Half(prepared) => {
                let (model, report) = prepared.convert(too_sensitive)?;
                Ok((model, Conversion::Half(Box::new(report))))
            }
        }
    }
}

/// A mix that was measured.
struct Candidate {
    kept: usize,
    model: Model,
    conversion: Conversion,
    accuracy: Accuracy,
}

/// Nodes that go back together.
struct Group {
    names: Vec<String>,
    is_over_alone: bool,
    sensitivity: NodeSensitivity,
}

/// Samples, and what the original gives for them.
struct Expected {
    samples: SampleSet,
    outputs: Outputs,
}

/// What mixes are held against.
struct Original {
    all: Expected,
    /// The first few.
    first: Expected,
}

impl Original {
    fn of(model: &Model, source: &SampleSource<'_>) -> Result<Self> {
        let engine = cpu_engine(model, source.input_shapes)?;
        let expected = |samples: SampleSet| -> Result<Expected> {
            Ok(Expected { outputs: Outputs::for_samples(&engine, &samples)?, samples })
        };
        let samples = samples_for(&engine, source.path, source.seed)?;
        Ok(Self { first: expected(samples.first(SAMPLES_FOR_ORDER))?, all: expected(samples)? })
    }
}

/// What mixes are measured with.
struct Trial<'a> {
    original: &'a Original,
    model: &'a Model,
    spec: &'a MixSpec<'a>,
    subject: Subject<'a>,
}

impl<'a> Trial<'a> {
    /// A model to lower, and the original that it is held against.
    fn of(original: &'a Original, model: &'a Model, spec: &'a MixSpec<'a>) -> Result<Self> {
        Ok(Self { original, model, spec, subject: spec.lowering.subject(model)? })
    }

    /// Every group alone in the lower precision; the one that loses most for what it saves comes first.
    fn sensitivities(&self) -> Result<Vec<Group>> {
        let groups = self.subject.groups()?;
        let shapes = self.model.infer_shapes(self.spec.source.input_shapes)?;
        let costs = self.model.cost(&shapes).nodes;
        let costs: HashMap<&str, &NodeCost> = costs.iter().map(|cost| (cost.name.as_str(), cost)).collect();
        let mut weighed = Vec::with_capacity(groups.len());
        for (place, names) in groups.iter().enumerate() {
            let others = groups.iter().enumerate().filter(|(other, _)| *other != place);
            let others: Vec<String> = others.flat_map(|(_, names)| names).cloned().collect();
            let (model, _) = self.subject.lowered(&others)?;
            let accuracy = self.accuracy(&model, &self.original.first)?;
            let is_over_alone = !meets(&accuracy, self.spec.limits)?;
            let outputs = accuracy.outputs;
            let saved = names.iter().filter_map(|name| costs.get(name.as_str()));
            let saved = saved.map(|cost| self.spec.lowering.saved_ns(cost, &self.spec.sheet));
            let first = names.first().cloned().unwrap_or_default();
            let operator = costs.get(first.as_str()).map(|cost| cost.operator.clone()).unwrap_or_default();
            let sensitivity = NodeSensitivity {
                node: first,
                operator,
                node_count: names.len(),
                lost_cosine: 1.0 - outputs.iter().map(|output| output.cosine).fold(1.0, f64::min),
                relative_error: outputs.iter().map(|output| output.max_relative_error).fold(0.0, f64::max),
                saved_ns: saved.sum(),
            };
            weighed.push(Group { names: names.clone(), is_over_alone, sensitivity });
        }
        let is_relative = |limit: &AccuracyLimit| matches!(limit, AccuracyLimit::RelativeError(_));
        let measure = if self.spec.limits.iter().any(is_relative) { relative_error } else { lost_cosine };
        let order = |group: &Group| group.sensitivity.loss_per_ns(measure);
        // What is over a limit by itself is in no good mix, whatever it saves.
        weighed.sort_by(|a, b| {
            b.is_over_alone.cmp(&a.is_over_alone).then_with(|| order(b).total_cmp(&order(a)))
        });
        Ok(weighed)
    }

    /// The mix in which the first `kept` of these groups are in FP32.
    fn candidate(&self, groups: &[Group], kept: usize) -> Result<Candidate> {
        let names: Vec<String> = groups[..kept].iter().flat_map(|group| &group.names).cloned().collect();
        let (model, conversion) = self.subject.lowered(&names)?;
        let accuracy = self.accuracy(&model, &self.original.all)?;
        Ok(Candidate { kept, model, conversion, accuracy })
    }

    fn accuracy(&self, model: &Model, expected: &Expected) -> Result<Accuracy> {
        let Expected { samples, outputs } = expected;
        let SampleSource { input_shapes, path, .. } = self.spec.source;
        let got = Outputs::for_samples(&cpu_engine(model, input_shapes)?, samples)?;
        judged("original on the cpu backend".to_owned(), outputs, &got, path)
    }
}

fn lost_cosine(of: &NodeSensitivity) -> f64 {
    of.lost_cosine
}

fn relative_error(of: &NodeSensitivity) -> f64 {
    of.relative_error
}

impl NodeSensitivity {
    /// What is lost for each nanosecond that is saved. A node that saves nothing goes first.
    fn loss_per_ns(&self, measure: fn(&Self) -> f64) -> f64 {
        if self.saved_ns > 0.0 { measure(self) / self.saved_ns } else { f64::INFINITY }
    }
}

#[cfg(test)]
mod tests;
