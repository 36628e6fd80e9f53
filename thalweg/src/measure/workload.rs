//! A network on a device with something to feed it: all that measurements of it share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Experiment, Feeding, Load, Observing, Pacing, Reference, SampleSet};
use crate::backend::{Backend, BuildOptions, BuildWatch, Calibration, DeviceSpec, Engine};
use crate::engine::{self, Cache, EngineRequest, EngineSource, MaxBatch, StoredEngine};
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
    /// A NumPy file, or a folder of them, with samples for the ranges of INT8.
    pub calibrate: Option<PathBuf>,
    /// The engines that were built before; `None` to build always.
    pub cache: Option<Cache>,
    /// Who hears how far a build is.
    pub watch: Option<BuildWatch>,
    /// A NumPy file, or a folder of them, with samples; `None` for random ones.
    pub input: Option<PathBuf>,
    /// Seed of the random samples, and of when requests of an open loop come.
    pub seed: u64,
    /// How samples get into the slots; `None` for what suits the device.
    pub feeding: Option<Feeding>,
}

impl Default for WorkloadSpec {
    /// The model's own shapes, batch 1, no cache, random samples.
    fn default() -> Self {
        Self {
            input_shapes: BTreeMap::new(),
            max_batch: MaxBatch::Exactly(1),
            options: BuildOptions::default(),
            calibrate: None,
            cache: None,
            watch: None,
            input: None,
            seed: 0,
            feeding: None,
        }
    }
}

/// An engine, samples for it, and what they must give.
pub struct Workload {
    /// Which network it is.
    pub model: ModelIdentity,
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// What it takes to have the engine again; `None` where nobody knows.
    pub source: Option<EngineSource>,
    /// The device it runs on.
    pub device: DeviceSpec,
    /// What goes in.
    pub inputs: SampleSet,
    /// Seed of when requests of an open loop come.
    pub seed: u64,
    /// How that gets into the slots.
    pub feeding: Feeding,
    /// What must come out.
    pub reference: Reference,
}

impl Workload {
    /// Builds the engine or takes it from the cache, gets the samples, and runs each of them once on a single
    /// stream.
    ///
    /// # Errors
    /// What [`engine::build`], [`SampleSet::read`] and [`Reference::compute`] say.
    pub fn prepare(backend: &dyn Backend, model: &Model, spec: &WorkloadSpec) -> Result<Self> {
        let calibration = spec.calibration(model)?;
        let request = spec.request(model, calibration.as_ref());
        let built = engine::build(backend, &request, spec.cache.as_ref())?;
        let source = built.stored.engine.spec.map(EngineSource::Built);
        let fed = Self::feed(backend, built.engine, model.identity(&spec.input_shapes)?, spec)?;
        Ok(Self { source, ..fed })
    }

    /// The same for an engine that was built elsewhere and read from `path`. Of `spec` only the samples count.
    ///
    /// # Errors
    /// What [`Backend::load`], [`SampleSet::read`] and [`Reference::compute`] say.
    pub fn of_engine(
        backend: &dyn Backend,
        stored: &StoredEngine,
        path: &Path,
        spec: &WorkloadSpec,
    ) -> Result<Self> {
        let engine = backend.load(&stored.engine)?;
        let fed = Self::feed(backend, engine, stored.identity(path), spec)?;
        Ok(Self { source: Some(EngineSource::File(path.to_owned())), ..fed })
    }

    fn feed(
        backend: &dyn Backend,
        engine: Arc<dyn Engine>,
        model: ModelIdentity,
        spec: &WorkloadSpec,
    ) -> Result<Self> {
        let inputs = match &spec.input {
            Some(path) => SampleSet::read(path, engine.signature())?,
            None => SampleSet::random(engine.signature(), RANDOM_SAMPLES, spec.seed),
        };
        let reference = Reference::compute(&engine, &inputs)?;
        let device = backend.device().clone();
        let feeding = spec.feeding.unwrap_or_else(|| Feeding::suited_to(&device));
        Ok(Self { model, engine, source: None, device, inputs, seed: spec.seed, feeding, reference })
    }

    /// One configuration under one load.
    pub fn experiment(&self, configuration: Configuration, load: Load, pacing: Pacing) -> Experiment<'_> {
        let (feeding, observing) = (self.feeding, Observing::On);
        Experiment { workload: self, configuration, load, pacing, feeding, observing }
    }
}

impl WorkloadSpec {
    /// The samples for the ranges of INT8, where some were named.
    ///
    /// # Errors
    /// As [`SampleSet::read`].
    pub fn calibration(&self, model: &Model) -> Result<Option<Calibration>> {
        let Some(path) = &self.calibrate else { return Ok(None) };
        let (MaxBatch::Exactly(batch) | MaxBatch::UpTo(batch)) = self.max_batch;
        // The batch does not matter for one sample's shape, but not every model can run one sample or so many.
        let signature =
            model.signature(&self.input_shapes, batch).or_else(|_| model.signature(&self.input_shapes, 1))?;
        Ok(Some(SampleSet::read(path, &signature)?.calibration(&signature)))
    }

    /// The order for the engine, with the samples of [`calibration`](Self::calibration).
    pub fn request<'a>(
        &'a self,
        model: &'a Model,
        calibration: Option<&'a Calibration>,
    ) -> EngineRequest<'a> {
        EngineRequest {
            model,
            input_shapes: &self.input_shapes,
            max_batch: self.max_batch,
            options: &self.options,
            calibration,
            watch: self.watch.as_ref(),
        }
    }
}
