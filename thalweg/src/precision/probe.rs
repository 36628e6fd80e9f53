//! What is inside a network while it runs: some of its values, sample by sample.
//!
//! In: a model, names of floating-point values of its main graph, and where samples come from. Out: those values, as
//! numbers. The `cpu` backend runs the network, with the values as further outputs.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::onnx::{float_value, int_attribute};
use crate::backend::cpu::CpuBackend;
use crate::backend::{BuildOptions, Engine};
use crate::engine::{self, EngineRequest, MaxBatch};
use crate::error::Result;
use crate::measure::{Reference, SampleSet};
use crate::model::proto::NodeProto;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::{DataType, Model};

/// Where the samples for a run on the `cpu` backend come from.
#[derive(Clone, Copy, Debug)]
pub struct SampleSource<'a> {
    /// Whole shapes with the batch in front, for inputs with open dimensions.
    pub input_shapes: &'a BTreeMap<String, Vec<usize>>,
    /// A NumPy file, or a folder of them; `None` for random samples.
    pub path: Option<&'a Path>,
    /// Seed of random samples.
    pub seed: u64,
}

/// A network whose values can be looked at, and samples for it.
pub(super) struct Probe {
    engine: Arc<dyn Engine>,
    samples: SampleSet,
}

impl Probe {
    /// Builds the network, with `random_count` random samples where none are given.
    pub fn new(
        model: &Model,
        values: &[String],
        source: &SampleSource<'_>,
        random_count: usize,
    ) -> Result<Self> {
        let engine = cpu_engine(&observed(model, values)?, source.input_shapes)?;
        let samples = match source.path {
            Some(path) => SampleSet::read(path, engine.signature())?,
            None => SampleSet::random(engine.signature(), random_count, source.seed),
        };
        Ok(Self { engine, samples })
    }

    /// How many samples there are.
    pub fn sample_count(&self) -> usize {
        self.samples.count()
    }

    /// Runs one sample and shows each value and each output of the network: its name and its elements.
    pub fn look(&self, sample: usize, mut each: impl FnMut(&str, &[f64])) -> Result<()> {
        let values = Reference::compute(&self.engine, &self.samples.only(sample))?;
        for (index, output) in self.engine.signature().outputs.iter().enumerate() {
            let name = output.name.strip_suffix(AS_FP32).unwrap_or(&output.name);
            each(name, values.output(0, index));
        }
        Ok(())
    }
}

/// The engine of a model on the `cpu` backend, for one sample at a time where the model lets one choose.
pub(super) fn cpu_engine(
    model: &Model,
    input_shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<Arc<dyn Engine>> {
    let options = BuildOptions::default();
    let request = EngineRequest {
        model,
        input_shapes,
        max_batch: MaxBatch::UpTo(1),
        options: &options,
        calibration: None,
        watch: None,
    };
    Ok(engine::build(&CpuBackend::new(), &request, None)?.engine)
}

/// Behind the name of a half value, that of its cast.
const AS_FP32: &str = "/as_fp32";

/// The model with these values as further outputs, besides those of its own that it must have. Half values come as FP32.
fn observed(model: &Model, names: &[String]) -> Result<Model> {
    let types = model.element_types(model.graph(), &HashMap::new())?;
    let mut proto = model.proto().clone();
    if let Some(graph) = &mut proto.graph {
        let known: Vec<_> = graph.output.iter().map(|output| output.name().to_owned()).collect();
        for name in names.iter().filter(|name| !known.contains(name)) {
            if matches!(types.get(name), Some(DataType::F16 | DataType::BF16)) {
                let full = format!("{name}{AS_FP32}");
                graph.node.push(cast(name, &full));
                graph.output.push(float_value(&full, None));
            } else {
                graph.output.push(float_value(name, None));
            }
        }
    }
    Model::from_proto(proto, model.path())
}

fn cast(from: &str, to: &str) -> NodeProto {
    NodeProto {
        name: Some(to.to_owned()),
        op_type: Some("Cast".to_owned()),
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        attribute: vec![int_attribute("to", OnnxDataType::Float as i64)],
        ..NodeProto::default()
    }
}
