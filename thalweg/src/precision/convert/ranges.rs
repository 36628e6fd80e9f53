//! How large a network's values get, by running it.
//!
//! In: a model and samples. Out: [`Ranges`] of every FP32 value of its main graph. The `cpu` backend runs it, with all
//! those values as outputs, one sample after the other.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::HalfType;
use crate::backend::BuildOptions;
use crate::backend::cpu::CpuBackend;
use crate::engine::{self, EngineRequest, MaxBatch};
use crate::error::Result;
use crate::measure::{Reference, SampleSet};
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::type_proto::{Tensor, Value as Type};
use crate::model::proto::{TypeProto, ValueInfoProto};
use crate::model::{DataType, Model};

/// Random samples where none are given. Each keeps all values of the network at once.
const RANDOM_SAMPLES: usize = 2;

/// Given samples that are looked at, from the first on: more of them cost time and find little.
const MOST_SAMPLES: usize = 16;

/// How large the values of a network get.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranges {
    values: BTreeMap<String, ValueRange>,
    source: RangeSource,
}

/// What ranges were taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeSource {
    /// How many samples were run.
    pub sample_count: usize,
    /// Whether they were random numbers, which say little about real ones.
    pub is_random: bool,
    /// Values that were looked at.
    pub value_count: usize,
}

/// How large one value gets, and what it would lose in half.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ValueRange {
    /// The largest finite magnitude.
    pub largest: f64,
    /// Sum of all errors over the sum of all magnitudes, of the worst sample.
    pub relative_error: f64,
}

impl Ranges {
    /// Runs a model on samples: a NumPy file or a folder of them, or random ones from a seed.
    ///
    /// # Errors
    /// Where the `cpu` backend cannot run the model, or the samples cannot be read.
    pub fn measure(
        model: &Model,
        half: HalfType,
        input_shapes: &BTreeMap<String, Vec<usize>>,
        samples: Option<&Path>,
        seed: u64,
    ) -> Result<Self> {
        let names = full_values(model)?;
        let observed = observed(model, &names)?;
        let options = BuildOptions::default();
        let request = EngineRequest {
            model: &observed,
            input_shapes,
            max_batch: MaxBatch::UpTo(1),
            options: &options,
            calibration: None,
            watch: None,
        };
        let engine = engine::build(&CpuBackend::new(), &request, None)?.engine;
        let signature = engine.signature().clone();
        let set = match samples {
            Some(path) => SampleSet::read(path, &signature)?,
            None => SampleSet::random(&signature, RANDOM_SAMPLES, seed),
        };
        let sample_count = set.count().min(MOST_SAMPLES);
        let mut values = BTreeMap::<String, ValueRange>::new();
        for sample in 0..sample_count {
            let outputs = Reference::compute(&engine, &set.only(sample))?;
            for (index, output) in signature.outputs.iter().enumerate() {
                values.entry(output.name.clone()).or_default().add(outputs.output(0, index), half);
            }
        }
        let source = RangeSource { sample_count, is_random: samples.is_none(), value_count: values.len() };
        Ok(Self { values, source })
    }

    /// The range of a value of the original; `None` where nobody looked.
    pub fn get(&self, value: &str) -> Option<&ValueRange> {
        self.values.get(value)
    }

    /// What the ranges were taken from.
    pub fn source(&self) -> &RangeSource {
        &self.source
    }
}

impl ValueRange {
    #[expect(clippy::cast_possible_truncation, reason = "they are numbers of type f32")]
    fn add(&mut self, values: &[f64], half: HalfType) {
        let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        let loss = half.loss(&values);
        self.largest = self.largest.max(loss.largest);
        // What overflows is off without bound, and told by its size.
        let is_told = loss.clipped == 0;
        self.relative_error = self.relative_error.max(if is_told { loss.relative_error } else { 0.0 });
    }
}

/// The FP32 values that nodes of the main graph make.
fn full_values(model: &Model) -> Result<Vec<String>> {
    let types = model.element_types(model.graph(), &Default::default())?;
    let made = model.graph().node.iter().filter(|node| node.op_type() != "Constant");
    let names = made.flat_map(|node| &node.output).filter(|name| types.get(*name) == Some(&DataType::F32));
    Ok(names.cloned().collect())
}

/// The model with these values as its only outputs, besides those of its own that it must have.
fn observed(model: &Model, names: &[String]) -> Result<Model> {
    let mut proto = model.proto().clone();
    if let Some(graph) = &mut proto.graph {
        let known: Vec<_> = graph.output.iter().map(|output| output.name().to_owned()).collect();
        graph.output.extend(names.iter().filter(|name| !known.contains(name)).map(|name| output(name)));
    }
    Model::from_proto(proto, model.path())
}

fn output(name: &str) -> ValueInfoProto {
    let tensor = Tensor { elem_type: Some(OnnxDataType::Float as i32), shape: None };
    let declared = TypeProto { value: Some(Type::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(declared), ..ValueInfoProto::default() }
}
