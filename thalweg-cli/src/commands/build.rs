//! `thalweg build`: a model becomes an engine in a file.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::json;
use thalweg::backend::{self, Backend, BuildOptions, Engine, Precision, Surroundings};
use thalweg::engine::{self, Built, EngineRequest, MaxBatch, StoredEngine};
use thalweg::files;
use thalweg::measure::WorkloadSpec;
use thalweg::model::Model;
use thalweg::precision::{
    self, Accuracy, Assessment, Boundary, ConversionReport, ConversionSpec, HalfType, QuantizationReport,
    SampleSource,
};
use thalweg::report;

use super::convert::Look;
use super::quantize::Quantization;
use super::{build_options, cache, input_shapes, surroundings};
use crate::args::{BuildArgs, PrecisionRoute};
use crate::output::Output;
use crate::progress::Interrupts;

pub fn run(args: &BuildArgs, output: &Output) -> anyhow::Result<()> {
    check_outputs(args)?;
    let timing_cache = args.builder.timing_cache.clone();
    let surroundings = Surroundings { timing_cache, ..surroundings(&args.gpu) };
    let backend = backend::open_to_build(&args.backend, &surroundings)?;
    check_device(args, backend.as_ref())?;
    let routed = routed(args, backend.as_ref(), output)?;
    // From here on: a conversion may be ended like any other program.
    let interrupts = Interrupts::catch()?;
    let model = &routed.model;
    let (bar, watch) = interrupts.watch(model.name(), output);
    let spec = WorkloadSpec {
        input_shapes: input_shapes(&args.shapes),
        max_batch: MaxBatch::Exactly(args.batch),
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
        &Shown { built: &built, accuracy: accuracy.as_ref(), conversion: routed.conversion.as_ref() },
        &args.output,
        output,
    )
}

/// The model that is built, and how its precision reaches the builder.
struct Routed {
    model: Model,
    options: BuildOptions,
    /// The model as it was, and what its conversion did, where it was converted.
    original: Option<Model>,
    conversion: Option<Conversion>,
}

/// What a conversion did.
#[derive(Serialize)]
#[serde(untagged)]
enum Conversion {
    Half(Box<ConversionReport>),
    Int8(Box<QuantizationReport>),
}

/// A lower precision as a flag where the backend has one, else by converting the model.
fn routed(args: &BuildArgs, backend: &dyn Backend, output: &Output) -> anyhow::Result<Routed> {
    let (model, options) = (Model::read(&args.model)?, build_options(&args.builder));
    let precision = options.precision;
    ensure!(
        args.precision_route.is_none() || precision != Precision::Fp32,
        "--precision-route is for --precision fp16 and int8: fp32 has one way only"
    );
    let by_types = backend.takes_types_from_model();
    let default = if by_types { PrecisionRoute::Onnx } else { PrecisionRoute::Flags };
    let route = args.precision_route.unwrap_or(default);
    if precision == Precision::Fp32 || route == PrecisionRoute::Flags {
        ensure!(
            !args.quantization.are_given(),
            "calibration tables, --quantize-ends and --fp32-weights are for --precision int8 --precision-route onnx"
        );
        return Ok(Routed { model, options, original: None, conversion: None });
    }
    let reason = if by_types { "this TensorRT takes the types of the model alone" } else { "as asked for" };
    output.note(&format!("converting {} to {precision} first: {reason}", model.name()));
    let (converted, conversion) = match precision {
        Precision::Int8 => in_int8(args, backend, &model)?,
        _ => in_fp16(args, &model, output)?,
    };
    // Where there is a flag, it allows the types that the model has.
    let options = BuildOptions { precision: if by_types { Precision::Fp32 } else { precision }, ..options };
    Ok(Routed { model: converted, options, original: Some(model), conversion: Some(conversion) })
}

fn in_fp16(args: &BuildArgs, model: &Model, output: &Output) -> anyhow::Result<(Model, Conversion)> {
    let look = Look {
        half: HalfType::Fp16,
        input_shapes: &input_shapes(&args.shapes),
        samples: args.input.as_deref().or(args.builder.calibrate.as_deref()),
        seed: 0,
    };
    let (ranges, remark) = look.ranges(model)?;
    remark.iter().for_each(|remark| output.warning(remark));
    let spec = ConversionSpec {
        half: HalfType::Fp16,
        keep_f32: &[],
        boundary: Boundary::Unchanged,
        ranges: ranges.as_ref(),
    };
    let (converted, report) = precision::convert(model, &spec)?;
    Ok((converted, Conversion::Half(Box::new(report))))
}

fn in_int8(args: &BuildArgs, backend: &dyn Backend, model: &Model) -> anyhow::Result<(Model, Conversion)> {
    let path = args.builder.calibrate.as_deref();
    let quantization = Quantization {
        args: &args.quantization,
        source: SampleSource { input_shapes: &input_shapes(&args.shapes), path, seed: 0 },
        keep_f32: &[],
        takes_int8_weights: backend.takes_int8_weights(),
    };
    quantization.check_outputs()?;
    let (converted, report) = quantization.run(model)?;
    Ok((converted, Conversion::Int8(Box::new(report))))
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
    ensure!(
        args.builder.precision != Precision::Fp32 || args.max_loss.is_empty(),
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

/// What a build's result consists of.
struct Shown<'a> {
    built: &'a Ready,
    accuracy: Option<&'a Accuracy>,
    conversion: Option<&'a Conversion>,
}

fn show(shown: &Shown<'_>, path: &Path, output: &Output) -> anyhow::Result<()> {
    let Shown { built, accuracy, conversion } = *shown;
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
                "conversion": conversion,
            }))
        },
        |style| {
            let accuracy = accuracy.map(|accuracy| report::text_of_accuracy(accuracy, style));
            let conversion = conversion.map(|conversion| match conversion {
                Conversion::Half(report) => report::text_of_converted_nodes(report, style),
                Conversion::Int8(report) => report::text_of_quantized_nodes(report, style),
            });
            report::text_of_build(&built.stored, &built.source, path, style)
                + &conversion.unwrap_or_default()
                + &accuracy.unwrap_or_default()
        },
    )
}
