//! `thalweg build`: a model becomes an engine in a file.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::json;
use thalweg::backend::{self, Backend, Engine};
use thalweg::engine::{self, Built, EngineRequest, MaxBatch, StoredEngine};
use thalweg::files;
use thalweg::measure::WorkloadSpec;
use thalweg::model::Model;
use thalweg::report;

use super::{build_options, cache, input_shapes, surroundings};
use crate::args::BuildArgs;
use crate::output::Output;
use crate::progress::Interrupts;

pub fn run(args: &BuildArgs, output: &Output) -> anyhow::Result<()> {
    files::check_writable(&args.output)?;
    if let Some(path) = &args.export_layers {
        files::check_writable(path)?;
    }
    let interrupts = Interrupts::catch()?;
    let backend = backend::open_to_build(&args.backend, &surroundings(&args.gpu))?;
    ensure!(
        args.export_layers.is_none() || backend.can_run(),
        "--export-layers needs a GPU: TensorRT tells what became of the layers once the engine is loaded"
    );
    let model = Model::read(&args.model)?;
    let (bar, watch) = interrupts.watch(model.name(), output);
    let spec = WorkloadSpec {
        input_shapes: input_shapes(&args.shapes),
        max_batch: MaxBatch::Exactly(args.batch),
        options: build_options(&args.builder),
        calibrate: args.builder.calibrate.clone(),
        cache: cache(&args.cache, backend.as_ref(), output)?,
        watch: Some(watch),
        ..WorkloadSpec::default()
    };
    let built = build(backend.as_ref(), &model, &spec);
    bar.clear();
    let built = built?;
    built.stored.write(&args.output)?;
    if let Some(path) = &args.export_layers {
        export_layers(built.engine.as_deref(), path)?;
    }
    show(&built, &args.output, output)
}

/// Loads the engine too, where there is a GPU, so that it is known to run.
fn build(
    backend: &dyn Backend,
    model: &Model,
    spec: &WorkloadSpec,
) -> thalweg::Result<Built<Option<std::sync::Arc<dyn Engine>>>> {
    let calibration = spec.calibration(model)?;
    let request = EngineRequest {
        model,
        input_shapes: &spec.input_shapes,
        max_batch: spec.max_batch,
        options: &spec.options,
        calibration: calibration.as_ref(),
        watch: spec.watch.as_ref(),
    };
    if backend.can_run() {
        Ok(engine::build(backend, &request, spec.cache.as_ref())?.map(Some))
    } else {
        Ok(engine::build_for_later(backend, &request, spec.cache.as_ref())?.map(|()| None))
    }
}

fn export_layers(engine: Option<&dyn Engine>, path: &Path) -> anyhow::Result<()> {
    let layers = engine.and_then(Engine::layers_json).context("this backend does not tell its layers")??;
    Ok(files::write_whole(path, layers.as_bytes())?)
}

fn show<T>(built: &Built<T>, path: &Path, output: &Output) -> anyhow::Result<()> {
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
            }))
        },
        |style| report::text_of_build(&built.stored, &built.source, path, style),
    )
}
