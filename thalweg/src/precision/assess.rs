//! Running an engine and one in FP32 on the same samples.

use std::path::Path;
use std::sync::Arc;

use super::accuracy::{Accuracy, OutputAccuracy, compare};
use super::probe::{SampleSource, cpu_engine};
use crate::backend::cpu::CpuBackend;
use crate::backend::{Backend, BuildOptions, Engine, Precision};
use crate::engine::{self, Cache, EngineRequest, MaxBatch};
use crate::error::{Error, Result};
use crate::measure::{Reference, SampleSet};
use crate::model::{Model, Signature, TensorSpec};

/// Random samples where none are given.
const RANDOM_SAMPLES: usize = 16;

/// What an engine is compared with.
#[derive(Clone, Copy)]
pub struct Assessment<'a> {
    /// What builds and runs the FP32 engine.
    pub backend: &'a dyn Backend,
    /// How the engine was built.
    pub request: EngineRequest<'a>,
    /// The engines that were built before.
    pub cache: Option<&'a Cache>,
    /// A NumPy file, or a folder of them; `None` for random samples.
    pub samples: Option<&'a Path>,
    /// Seed of random samples.
    pub seed: u64,
}

/// Compares an engine's outputs with those of an exact FP32 engine of the same model, or of the `cpu` backend where
/// there is no such engine. `None` for a simulated device, which computes nothing.
///
/// # Errors
/// Where neither can run the model or the samples cannot be read.
pub fn assess(engine: &Arc<dyn Engine>, assessment: &Assessment<'_>) -> Result<Option<Accuracy>> {
    if engine.is_simulated() {
        return Ok(None);
    }
    let (name, exact) = exact_engine(assessment)?;
    let Assessment { samples, seed, .. } = *assessment;
    let expected = Outputs::of(&exact, samples, seed)?;
    // The device's memory is free for the next one.
    drop(exact);
    judged(name, &expected, &Outputs::of(engine, samples, seed)?, samples).map(Some)
}

/// Compares an engine's outputs with those of another one, called `name`, on a NumPy file or a folder of them, or on
/// random samples from a seed.
///
/// # Errors
/// Where one of them fails, the samples cannot be read, or an output of the engine is none of the reference's.
pub fn assess_engines(
    name: String,
    reference: &Arc<dyn Engine>,
    engine: &Arc<dyn Engine>,
    samples: Option<&Path>,
    seed: u64,
) -> Result<Accuracy> {
    let expected = Outputs::of(reference, samples, seed)?;
    judged(name, &expected, &Outputs::of(engine, samples, seed)?, samples)
}

/// Compares a converted model's outputs with the original's, both on the `cpu` backend.
///
/// # Errors
/// Where that cannot run one of them, or the samples cannot be read.
pub fn assess_on_cpu(original: &Model, converted: &Model, source: &SampleSource<'_>) -> Result<Accuracy> {
    let reference = cpu_engine(original, source.input_shapes)?;
    let engine = cpu_engine(converted, source.input_shapes)?;
    assess_engines("original on the cpu backend".to_owned(), &reference, &engine, source.path, source.seed)
}

/// How far the outputs are from those that are right.
pub(super) fn judged(
    reference: String,
    expected: &Outputs,
    got: &Outputs,
    samples: Option<&Path>,
) -> Result<Accuracy> {
    let outputs: Result<Vec<_>> = got.signature.outputs.iter().map(|it| judge(it, expected, got)).collect();
    Ok(Accuracy {
        reference,
        sample_count: got.values.sample_count(),
        is_random: samples.is_none(),
        outputs: outputs?,
    })
}

/// The samples of a NumPy file or a folder of them, or random ones from a seed.
pub(super) fn samples_for(engine: &Arc<dyn Engine>, samples: Option<&Path>, seed: u64) -> Result<SampleSet> {
    match samples {
        Some(path) => SampleSet::read(path, engine.signature()),
        None => Ok(SampleSet::random(engine.signature(), RANDOM_SAMPLES, seed)),
    }
}

/// What an engine gave for every sample.
pub(super) struct Outputs {
    signature: Signature,
    values: Reference,
}

impl Outputs {
    fn of(engine: &Arc<dyn Engine>, samples: Option<&Path>, seed: u64) -> Result<Self> {
        Self::for_samples(engine, &samples_for(engine, samples, seed)?)
    }

    /// What it gives for these.
    pub fn for_samples(engine: &Arc<dyn Engine>, samples: &SampleSet) -> Result<Self> {
        Ok(Self { values: Reference::compute(engine, samples)?, signature: engine.signature().clone() })
    }

    /// One output of every sample.
    fn output(&self, name: &str) -> Result<Vec<&[f64]>> {
        let index = self.signature.output_index(name)?;
        Ok((0..self.values.sample_count()).map(|sample| self.values.output(sample, index)).collect())
    }
}

fn judge(output: &TensorSpec, expected: &Outputs, got: &Outputs) -> Result<OutputAccuracy> {
    // A single number per sample is no choice between classes.
    let is_classes = output.is_batched && matches!(output.shape[..], [classes] if classes > 1);
    compare(&output.name, &expected.output(&output.name)?, &got.output(&output.name)?, is_classes)
}

/// The FP32 engine with its name.
fn exact_engine(assessment: &Assessment<'_>) -> Result<(String, Arc<dyn Engine>)> {
    let given = &assessment.request;
    let options = BuildOptions {
        precision: Precision::Fp32,
        is_exact_fp32: true,
        least_batch_size: None,
        ..given.options.clone()
    };
    // Samples run one by one, so the smallest engine does, where the model has a choice.
    let exact = |max_batch| EngineRequest { options: &options, calibration: None, max_batch, ..*given };
    let build = |backend: &dyn Backend, request| engine::build(backend, &request, assessment.cache);
    let either = |backend: &dyn Backend| match build(backend, exact(MaxBatch::Exactly(1))) {
        Err(Error::InvalidSetting { name: "batch", .. }) => build(backend, exact(given.max_batch)),
        other => other,
    };
    match either(assessment.backend) {
        Ok(built) => Ok(("FP32 engine".to_owned(), built.engine)),
        Err(error @ Error::BuildStopped) => Err(error),
        Err(error) => match either(&CpuBackend::new()) {
            Ok(built) => Ok(("cpu backend".to_owned(), built.engine)),
            // That of the device says more.
            Err(_) => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::backend::simulated::SimulatedBackend;
    use crate::model::Model;
    use crate::model::zoo::Network;

    /// An engine of `backend` against itself.
    fn against_itself(backend: &dyn Backend) -> Option<Accuracy> {
        let model = Model::from_proto(Network::Launch.generate(0), "launch.onnx").unwrap();
        let (input_shapes, options) = (BTreeMap::new(), BuildOptions::default());
        let request = EngineRequest {
            model: &model,
            input_shapes: &input_shapes,
            max_batch: MaxBatch::Exactly(4),
            options: &options,
            calibration: None,
            watch: None,
        };
        let engine = engine::build(backend, &request, None).unwrap().engine;
        let assessment = Assessment { backend, request, cache: None, samples: None, seed: 0 };
        assess(&engine, &assessment).unwrap()
    }

    #[test]
    fn an_engine_loses_nothing_against_itself() {
        let accuracy = against_itself(&CpuBackend::new()).unwrap();
        assert_eq!((accuracy.sample_count, accuracy.is_random), (RANDOM_SAMPLES, true));
        assert_eq!(accuracy.reference, "FP32 engine");
        let [output] = &accuracy.outputs[..] else { panic!("{accuracy:?}") };
        assert_eq!((output.cosine, output.max_relative_error), (1.0, 0.0));
        assert_eq!(output.top1_agreement, Some(1.0));
    }

    #[test]
    fn nobody_knows_what_a_simulated_device_loses() {
        assert!(against_itself(&SimulatedBackend::preset("h100").unwrap()).is_none());
    }
}
