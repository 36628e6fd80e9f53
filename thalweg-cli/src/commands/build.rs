//! `thalweg build`: a model becomes an engine in a file.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde_json::json;
use thalweg::backend::{self, Backend, Engine, Precision};
use thalweg::engine::{self, Built, MaxBatch, StoredEngine};
use thalweg::files;
use thalweg::measure::WorkloadSpec;
use thalweg::model::Model;
use thalweg::precision::{self, Accuracy, Assessment};
use thalweg::report;

use super::{build_options, cache, input_shapes, surroundings};
use crate::args::BuildArgs;
use crate::output::Output;
use crate::progress::Interrupts;

pub fn run(args: &BuildArgs, output: &Output) -> anyhow::Result<()> {
    check_outputs(args)?;
    let interrupts = Interrupts::catch()?;
    let backend = backend::open_to_build(&args.backend, &surroundings(&args.gpu))?;
    check_device(args, backend.as_ref())?;
    let model = Model::read(&args.model)?;
    let (bar, watch) = interrupts.watch(model.name(), output);
    let spec = WorkloadSpec {
        input_shapes: input_shapes(&args.shapes),
        max_batch: MaxBatch::Exactly(args.batch),
        options: build_options(&args.builder),
        calibrate: args.builder.calibrate.clone(),
        cache: cache(&args.cache, backend.as_ref(), output)?,
        watch: Some(watch),
        input: args.input.clone().or_else(|| args.builder.calibrate.clone()),
        ..WorkloadSpec::default()
    };
    let built = build(backend.as_ref(), &model, &spec, !args.no_accuracy);
    bar.clear();
    let (built, accuracy) = built?;
    if let Some(accuracy) = &accuracy {
        args.max_loss.iter().try_for_each(|limit| limit.check(accuracy))?;
    }
    built.stored.write(&args.output)?;
    if let Some(path) = &args.export_layers {
        export_layers(built.engine.as_deref(), path)?;
    }
    show(&built, accuracy.as_ref(), &args.output, output)
}

fn check_outputs(args: &BuildArgs) -> thalweg::Result<()> {
    [Some(&args.output), args.export_layers.as_ref()]
        .into_iter()
        .flatten()
        .try_for_each(|path| files::check_writable(path))
}

/// What needs a GPU is refused before the build where there is none.
fn check_device(args: &BuildArgs, backend: &dyn Backend) -> anyhow::Result<()> {
    ensure!(
        backend.can_run() || args.export_layers.is_none(),
        "--export-layers needs a GPU: what became of the layers is known once the engine is loaded"
    );
    ensure!(
        backend.can_run() || args.max_loss.is_empty(),
        "--max-loss needs a GPU: accuracy is known once the engine runs"
    );
    Ok(())
}

/// A built engine, loaded where there is a device.
type Ready = Built<Option<Arc<dyn Engine>>>;

/// Builds the engine. Where there is a device, it is loaded too, so that it is known to run, and where its precision is
/// lower than the model's, compared with FP32.
fn build(
    backend: &dyn Backend,
    model: &Model,
    spec: &WorkloadSpec,
    is_compared: bool,
) -> thalweg::Result<(Ready, Option<Accuracy>)> {
    let calibration = spec.calibration(model)?;
    let request = spec.request(model, calibration.as_ref());
    let cache = spec.cache.as_ref();
    if !backend.can_run() {
        return Ok((engine::build_for_later(backend, &request, cache)?.map(|()| None), None));
    }
    let built = engine::build(backend, &request, cache)?;
    let accuracy = if is_compared && spec.options.precision != Precision::Fp32 {
        let samples = spec.input.as_deref();
        let assessment = Assessment { backend, request, cache, samples, seed: spec.seed };
        Some(precision::assess(&built.engine, &assessment)?)
    } else {
        None
    };
    Ok((built.map(Some), accuracy))
}

fn export_layers(engine: Option<&dyn Engine>, path: &Path) -> anyhow::Result<()> {
    let layers = engine.and_then(Engine::layers_json).context("this backend does not tell its layers")??;
    Ok(files::write_whole(path, layers.as_bytes())?)
}

fn show<T>(
    built: &Built<T>,
    accuracy: Option<&Accuracy>,
    path: &Path,
    output: &Output,
) -> anyhow::Result<()> {
    let StoredEngine { engine, origin } = &built.stored;
    output.result(
        || {
            Ok(json!({
                "engine": path,
                "size_bytes": engine.bytes.len(),
                "source": built.source,
                "remarks": built.remarks,
                "backend": engine.backend,
                "origin": origin,
                "spec": engine.spec,
                "signature": engine.signature,
                "accuracy": accuracy,
            }))
        },
        |style| {
            let accuracy = accuracy.map(|accuracy| report::text_of_accuracy(accuracy, style));
            report::text_of_build(&built.stored, &built.source, path, style) + &accuracy.unwrap_or_default()
        },
    )
}
