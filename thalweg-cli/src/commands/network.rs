//! What a command runs: a model that it builds an engine of, or an engine that was built before.

use std::path::{Path, PathBuf};

use thalweg::backend::Backend;
use thalweg::engine::{EngineSource, StoredEngine};
use thalweg::measure::{Workload, WorkloadSpec};
use thalweg::model::{DataType, Model};
use thalweg::precision::{AccuracyLimit, InputType, with_inputs};
use thalweg::tune::TunedConfig;

use super::bench::NO_MODEL;
use super::input_shapes;
use super::input_type::{Comparison, retyped};
use crate::args::{ShapeArgs, WorkloadArgs};
use crate::output::Output;

/// What is measured.
pub enum Network {
    Model(Model),
    Engine(PathBuf, Box<StoredEngine>),
}

/// The model with inputs of the type that was asked for, and what that costs told. It is to run these batches.
pub fn model_of(
    path: &Path,
    args: &WorkloadArgs,
    batches: &[usize],
    limits: &[AccuracyLimit],
    output: &Output,
) -> anyhow::Result<Model> {
    let comparison = Comparison { shapes: &args.shapes, seed: args.seed, limits };
    let model = retyped(path, &args.builder.inputs, Some(comparison), output)?.0;
    remark_on_batches(&model, &args.shapes, batches, output);
    Ok(model)
}

/// `trtexec` takes the batch from the shape; here it has an option of its own.
fn remark_on_batches(model: &Model, args: &ShapeArgs, batches: &[usize], output: &Output) {
    let shapes = input_shapes(args);
    for (name, shape) in &shapes {
        let batch = shape.first().copied().unwrap_or(1);
        if batch <= 1 || batches.contains(&batch) {
            continue;
        }
        let signature = model.signature(&shapes, batch);
        if signature.is_ok_and(|signature| *signature.batch_sizes.start() < batch) {
            output.warning(&format!("the batch of {batch} in --shape {name} is ignored: use --batch"));
        }
    }
}

impl Network {
    pub fn model(path: &Path) -> anyhow::Result<Self> {
        Ok(Self::Model(Model::read(path)?))
    }

    pub fn engine(path: &Path) -> anyhow::Result<Self> {
        Ok(Self::Engine(path.to_owned(), Box::new(StoredEngine::read(path)?)))
    }

    /// What was tuned; its model may have been moved to another path.
    pub fn of_tuned(tuned: &TunedConfig, moved_to: Option<&Path>) -> anyhow::Result<Self> {
        let network = match (&tuned.engine, moved_to) {
            (Some(EngineSource::File(path)), None) => Self::engine(path)?,
            (_, moved_to) => Self::model(moved_to.unwrap_or(&tuned.model.path))?,
        };
        tuned.check_model(&network.content_hash()?)?;
        Ok(network)
    }

    /// The same with FP32 inputs in another type, bytes as they are.
    pub fn with_inputs(&self, to: DataType) -> anyhow::Result<Self> {
        let Self::Model(model) = self else { anyhow::bail!(NO_MODEL) };
        let input_type = match to {
            DataType::F16 => InputType::F16,
            _ => InputType::U8 { scale: vec![1.0], shift: vec![0.0] },
        };
        Ok(Self::Model(with_inputs(model, &input_type)?.0))
    }

    /// What results of it are filed under.
    fn content_hash(&self) -> thalweg::Result<String> {
        match self {
            Self::Model(model) => model.content_hash(),
            Self::Engine(path, stored) => Ok(stored.identity(path).sha256),
        }
    }

    /// The backend that was asked for; an engine runs on its own only.
    pub fn backend<'b>(&'b self, asked: &'b str) -> &'b str {
        match self {
            Self::Engine(_, stored) if asked == "auto" => &stored.engine.backend,
            _ => asked,
        }
    }

    pub fn name(&self) -> String {
        match self {
            Self::Model(model) => model.name().to_owned(),
            Self::Engine(path, _) => path.display().to_string(),
        }
    }

    pub fn prepare(&self, backend: &dyn Backend, spec: &WorkloadSpec) -> thalweg::Result<Workload> {
        match self {
            Self::Model(model) => Workload::prepare(backend, model, spec),
            Self::Engine(path, stored) => Workload::of_engine(backend, stored, path, spec),
        }
    }
}
