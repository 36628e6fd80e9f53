//! `thalweg build`: a model becomes an engine in a file.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde_json::json;
use thalweg::backend::{self, Backend, BuildOptions, Engine, Precision, Surroundings};
use thalweg::engine::{self, Built, EngineRequest, MaxBatch, StoredEngine};
use thalweg::files::{self, OutputFolder};
use thalweg::measure::WorkloadSpec;
use thalweg::model::Model;
use thalweg::precision::{
    self, Accuracy, Assessment, Boundary, Conversion, LayerErrors, Mix, Route, RouteTaken, SampleSource,
};
use thalweg::report;

use super::input_type::{Comparison, Retyping, retyped};
use super::loss::{self, Loss};
use super::lower::{Lower, Lowered};
use super::route::{self, RouteQuestion, default_rest, needs_conversion};
use super::variant::Variant;
use super::{LOSSLESS, cache, check_precision, input_shapes, surroundings};
use crate::args::{BuildArgs, QuantizationArgs, Target};
use crate::output::Output;
use crate::progress::Interrupts;

pub fn run(args: &BuildArgs, output: &Output) -> anyhow::Result<()> {
    let variant = Variant::only(&args.builder)?;
    check_outputs(args)?;
    let folder = args.out.as_deref().map(OutputFolder::claim).transpose()?;
    let timing_cache = args.builder.timing_cache.clone();
    let surroundings = Surroundings { timing_cache, ..surroundings(&args.gpu) };
    let backend = backend::open_to_build(&args.backend, &surroundings)?;
    check_device(args, variant.target, backend.as_ref())?;
    check_precision(&args.builder, backend.device())?;
    let (model, retyping) = model(args, output)?;
    let routed = routed(args, (model, &variant), backend.as_ref(), output)?;
    // From here on: a conversion may be ended like any other program.
    let interrupts = Interrupts::catch()?;
    let model = &routed.model;
    let (bar, watch) = interrupts.watch(model.name(), output);
    let spec = WorkloadSpec {
        input_shapes: input_shapes(&args.shapes),
        max_batch: variant.max_batch(MaxBatch::Exactly(args.batch)),
        options: routed.options.clone(),
        // A converted model has its ranges inside.
        calibrate: args.builder.calibrate.clone().filter(|_| routed.original.is_none()),
        cache: cache(&args.cache, backend.as_ref(), output)?,
        watch: Some(watch),
        input: args.input.clone().or_else(|| args.builder.calibrate.clone()),
        ..WorkloadSpec::default()
    };
    let built = build(backend.as_ref(), &routed, &spec, !args.no_accuracy);
    bar.clear();
    let (built, accuracy) = built?;
    if let Some(accuracy) = &accuracy {
        args.max_loss.iter().try_for_each(|limit| limit.check(accuracy))?;
    }
    built.stored.write(&args.output)?;
    if let Some(path) = &args.export_layers {
        export_layers(built.engine.as_deref(), path)?;
    }
    show(
        &Shown {
            built: &built,
            route: routed.taken.as_ref(),
            accuracy: accuracy.as_ref(),
            conversion: routed.conversion.as_ref(),
            retyping: retyping.as_ref(),
        },
        &args.output,
        output,
    )?;
    let Some(folder) = &folder else { return Ok(()) };
    let layers = layers(args, &routed, output);
    let loss = Loss { reference: &args.model, other: &args.output, limits: &args.max_loss };
    loss::write(&loss.report(accuracy, layers, routed.conversion, routed.mix), folder, output)
}

/// The model, with inputs of the type that was asked for.
fn model(args: &BuildArgs, output: &Output) -> anyhow::Result<(Model, Option<Retyping>)> {
    let comparison = Comparison { shapes: &args.shapes, seed: 0, limits: &args.max_loss };
    retyped(&args.model, &args.builder.inputs, (!args.no_accuracy).then_some(comparison), output)
}

/// The error of every layer on the processor, where the model was converted.
fn layers(args: &BuildArgs, routed: &Routed, output: &Output) -> Option<LayerErrors> {
    let original = routed.original.as_ref()?;
    let input_shapes = input_shapes(&args.shapes);
    let path = args.input.as_deref().or(args.builder.calibrate.as_deref());
    let source = SampleSource { input_shapes: &input_shapes, path, seed: 0 };
    loss::layers_if_known(precision::layer_errors(original, &routed.model, &source, &args.max_loss), output)
}

/// The model that is built, and how its precision reaches the builder.
struct Routed {
    model: Model,
    options: BuildOptions,
    /// How its precision reaches the builder; `None` for FP32.
    taken: Option<RouteTaken>,
    /// The model as it was, and what its conversion did, where it was converted.
    original: Option<Model>,
    conversion: Option<Conversion>,
    /// What was weighed, where nodes were chosen by what they lose.
    mix: Option<Mix>,
}

/// A lower precision as a flag where the backend has one, else by converting the model.
fn routed(
    args: &BuildArgs,
    (model, variant): (Model, &Variant),
    backend: &dyn Backend,
    output: &Output,
) -> anyhow::Result<Routed> {
    let target = variant.target;
    let selection = args.selection.selection();
    ensure!(
        target != Target::Fp32 || !(args.quantization.are_given() || selection.is_given()),
        "--precision fp32 builds the model as it is: nothing can be asked of its conversion"
    );
    ensure!(target.has_int8() || !args.quantization.are_given(), QuantizationArgs::PURPOSE);
    let question = RouteQuestion {
        asked: args.precision_route,
        rest: args.quantization.rest,
        needs_conversion: needs_conversion(target, &args.quantization, &args.selection),
        ..RouteQuestion::of(target, backend)
    };
    let taken = question.answer()?;
    let route = taken.as_ref().map(|taken| taken.route);
    let options = variant.options(&args.builder, route::allowed(target, route, question.by_types));
    if route != Some(Route::Onnx) {
        return Ok(Routed { model, options, taken, original: None, conversion: None, mix: None });
    }
    // A conversion takes a while. A flag is told with the engine.
    taken.iter().for_each(|taken| output.note(&format!("{target} {taken}")));
    let lowered = lowered(args, target, backend, &model)?;
    lowered.remark.iter().for_each(|remark| output.warning(remark));
    let Lowered { model: converted, conversion, mix, .. } = lowered;
    Ok(Routed { model: converted, options, taken, original: Some(model), conversion: Some(conversion), mix })
}

fn lowered(
    args: &BuildArgs,
    target: Target,
    backend: &dyn Backend,
    model: &Model,
) -> anyhow::Result<Lowered> {
    let input_shapes = input_shapes(&args.shapes);
    let calibrate = args.builder.calibrate.as_deref();
    let source =
        SampleSource { input_shapes: &input_shapes, path: args.input.as_deref().or(calibrate), seed: 0 };
    let lower = Lower {
        target,
        selection: args.selection.selection(),
        boundary: Boundary::Unchanged,
        quantization: &args.quantization,
        calibration: SampleSource { path: calibrate, ..source },
        source,
        looks_at_ranges: true,
        // What half loses is for the engine to show.
        limits: if target == Target::Auto { &args.max_loss } else { &[] },
        sheet: args.for_device,
        rest: default_rest(backend),
        takes_int8_weights: backend.takes_int8_weights(),
        takes_half_scales: backend.takes_half_scales(),
    };
    lower.check()?;
    lower.run(model)
}

fn check_outputs(args: &BuildArgs) -> thalweg::Result<()> {
    [Some(&args.output), args.export_layers.as_ref()]
        .into_iter()
        .flatten()
        .try_for_each(|path| files::check_writable(path))
}

/// What needs a GPU is refused before the build where there is none.
fn check_device(args: &BuildArgs, target: Target, backend: &dyn Backend) -> anyhow::Result<()> {
    ensure!(
        backend.can_run() || args.export_layers.is_none(),
        "--export-layers needs a GPU: what became of the layers is known once the engine is loaded"
    );
    ensure!(
        backend.can_run() || args.max_loss.is_empty() || target == Target::Auto,
        "--max-loss needs a GPU: accuracy is known once the engine runs"
    );
    ensure!(
        !backend.device().is_simulated() || args.max_loss.is_empty() || target == Target::Auto,
        "{LOSSLESS}"
    );
    ensure!(
        target != Target::Fp32 || args.max_loss.is_empty() || args.builder.inputs.input_type.is_some(),
        "--max-loss is held against FP32, and this is FP32: add --precision fp16 or int8"
    );
    Ok(())
}

/// A built engine, loaded where there is a device.
type Ready = Built<Option<Arc<dyn Engine>>>;

/// Builds the engine. Where there is a device, it is loaded too, so that it is known to run, and where its precision is
/// lower than the model's, compared with FP32.
fn build(
    backend: &dyn Backend,
    routed: &Routed,
    spec: &WorkloadSpec,
    is_compared: bool,
) -> thalweg::Result<(Ready, Option<Accuracy>)> {
    let model = &routed.model;
    let calibration = spec.calibration(model)?;
    let request = spec.request(model, calibration.as_ref());
    let cache = spec.cache.as_ref();
    if !backend.can_run() {
        return Ok((engine::build_for_later(backend, &request, cache)?.map(|()| None), None));
    }
    let built = engine::build(backend, &request, cache)?;
    let is_lower = spec.options.precision != Precision::Fp32 || routed.original.is_some();
    let accuracy = if is_compared && is_lower {
        let samples = spec.input.as_deref();
        let request = EngineRequest { model: routed.original.as_ref().unwrap_or(model), ..request };
        let assessment = Assessment { backend, request, cache, samples, seed: spec.seed };
        precision::assess(&built.engine, &assessment)?
    } else {
        None
    };
    Ok((built.map(Some), accuracy))
}

fn export_layers(engine: Option<&dyn Engine>, path: &Path) -> anyhow::Result<()> {
    let layers = engine.and_then(Engine::layers_json).context("this backend does not tell its layers")??;
    Ok(files::write_whole(path, layers.as_bytes())?)
}

/// What a build's result consists of.
struct Shown<'a> {
    built: &'a Ready,
    route: Option<&'a RouteTaken>,
    accuracy: Option<&'a Accuracy>,
    conversion: Option<&'a Conversion>,
    retyping: Option<&'a Retyping>,
}

fn show(shown: &Shown<'_>, path: &Path, output: &Output) -> anyhow::Result<()> {
    let Shown { built, route, accuracy, conversion, retyping } = *shown;
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
                "precision_route": route,
                "accuracy": accuracy,
                "conversion": conversion,
                "inputs": retyping,
            }))
        },
        |style| {
            let accuracy = accuracy.map(|accuracy| report::text_of_accuracy(accuracy, style));
            let conversion = conversion.map(|conversion| report::text_of_converted_nodes(conversion, style));
            report::text_of_build(&built.stored, &built.source, route, (path, style))
                + &conversion.unwrap_or_default()
                + &accuracy.unwrap_or_default()
        },
    )
}
