//! A network on a device with something to feed it: all that measurements of it share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Experiment, Load, Pacing, Reference, SampleSet};
use crate::backend::{Backend, BuildOptions, DeviceSpec, Engine};
use crate::engine::{self, MaxBatch};
use crate::error::Result;
use crate::model::{Model, ModelIdentity};
use crate::pool::Configuration;

/// Samples where none are given: enough that a swapped buffer shows, few enough to check quickly.
const RANDOM_SAMPLES: usize = 8;

/// What to prepare.
#[derive(Clone, Debug)]
pub struct WorkloadSpec {
    /// Whole shapes with the batch in front, for inputs with open dimensions.
    pub input_shapes: BTreeMap<String, Vec<usize>>,
    /// The largest batch.
    pub max_batch: MaxBatch,
    /// What the builder may do.
    pub options: BuildOptions,
    /// A NumPy file with samples; `None` for random ones.
    pub input: Option<PathBuf>,
    /// Seed of the random samples.
    pub seed: u64,
}

impl Default for WorkloadSpec {
    /// The model's own shapes, batch 1, random samples.
    fn default() -> Self {
        Self {
            input_shapes: BTreeMap::new(),
            max_batch: MaxBatch::Exactly(1),
            options: BuildOptions::default(),
            input: None,
            seed: 0,
        }
    }
}

/// An engine, samples for it, and what they must give.
pub struct Workload {
    /// Which network it is.
    pub model: ModelIdentity,
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// The device it runs on.
    pub device: DeviceSpec,
    /// What goes in.
    pub inputs: SampleSet,
    /// What must come out.
    pub reference: Reference,
}

impl Workload {
    /// Builds the engine, gets the samples, and runs each of them once on a single stream.
    ///
    /// # Errors
    /// What [`engine::build`], [`SampleSet::read`] and [`Reference::compute`] say.
    pub fn prepare(backend: &dyn Backend, model: &Model, spec: &WorkloadSpec) -> Result<Self> {
        let engine = engine::build(backend, model, &spec.input_shapes, spec.max_batch, &spec.options)?;
        let inputs = match &spec.input {
            Some(path) => SampleSet::read(path, engine.signature())?,
            None => SampleSet::random(engine.signature(), RANDOM_SAMPLES, spec.seed),
        };
        let reference = Reference::compute(&engine, &inputs)?;
        let model = model.identity(&spec.input_shapes)?;
        Ok(Self { model, engine, device: backend.device().clone(), inputs, reference })
    }

    /// One configuration under one load.
    pub fn experiment(&self, configuration: Configuration, load: Load, pacing: Pacing) -> Experiment<'_> {
        Experiment { workload: self, configuration, load, pacing }
    }
}
