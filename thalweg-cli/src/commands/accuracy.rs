//! `thalweg accuracy`: what two models or engines give for the same samples.

use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use thalweg::backend::{self, Backend, BuildOptions, Engine};
use thalweg::engine::{self, Cache, EngineRequest, MaxBatch, StoredEngine};
use thalweg::files::OutputFolder;
use thalweg::model::Model;
use thalweg::precision::{self, Accuracy, LayerErrors, SampleSource};
use thalweg::report;

use super::loss::{self, Loss};
use super::{cache, input_shapes, surroundings};
use crate::args::AccuracyArgs;
use crate::output::Output;
use crate::progress::Bar;

pub fn run(args: &AccuracyArgs, output: &Output) -> anyhow::Result<()> {
    let folder = args.out.as_deref().map(OutputFolder::claim).transpose()?;
    let sides = [Side::read(&args.reference)?, Side::read(&args.other)?];
    let backend = backend::open(backend_name(args, &sides), &surroundings(&args.gpu))?;
    let cache = cache(&args.cache, backend.as_ref(), output)?;
    let bar = Bar::spin(format!("comparing {}", args.other.display()), output);
    let accuracy = compared(args, &sides, backend.as_ref(), cache.as_ref());
    let layers = accuracy.is_ok().then(|| layers(args, &sides, output)).transpose();
    bar.clear();
    let (accuracy, layers) = (accuracy?, layers?.flatten());
    let report = Loss { reference: &args.reference, other: &args.other, limits: &args.max_loss };
    let report = report.report(Some(accuracy.clone()), layers, None, None);
    output.result(
        || {
            let mut value = serde_json::to_value(&accuracy)?;
            value["layers"] = serde_json::to_value(&report.layers)?;
            Ok(value)
        },
        |style| {
            let layers = report.layers.as_ref().filter(|_| args.layers);
            let layers = layers.map(|layers| report::text_of_layers(layers, style));
            report::text_of_accuracy(&accuracy, style) + &layers.unwrap_or_default()
        },
    )?;
    if let Some(folder) = &folder {
        loss::write(&report, folder, output)?;
    }
    Ok(args.max_loss.iter().try_for_each(|limit| limit.check(&accuracy))?)
}

/// The error of every layer, where somebody wants it and both are models.
fn layers(args: &AccuracyArgs, sides: &[Side; 2], output: &Output) -> anyhow::Result<Option<LayerErrors>> {
    let [Side::Model(reference), Side::Model(other)] = sides else {
        ensure!(!args.layers, "--layers compares two models: what is inside an engine cannot be seen");
        return Ok(None);
    };
    if !args.layers && args.out.is_none() {
        return Ok(None);
    }
    let input_shapes = input_shapes(&args.shapes);
    let source = SampleSource { input_shapes: &input_shapes, path: args.input.as_deref(), seed: args.seed };
    let found = precision::layer_errors(reference, other, &source, &args.max_loss);
    if args.layers { Ok(Some(found?)) } else { Ok(loss::layers_if_known(found, output)) }
}

/// One of the two that are compared.
enum Side {
    Model(Box<Model>),
    Engine(Box<StoredEngine>),
}

impl Side {
    /// By the file's ending: what is no `.onnx` is an engine.
    fn read(path: &Path) -> thalweg::Result<Self> {
        if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("onnx")) {
            return Ok(Self::Model(Box::new(Model::read(path)?)));
        }
        Ok(Self::Engine(Box::new(StoredEngine::read(path)?)))
    }
}

/// The backend that was asked for; an engine runs on its own only.
fn backend_name<'a>(args: &'a AccuracyArgs, sides: &'a [Side]) -> &'a str {
    let of_engine = sides.iter().find_map(|side| match side {
        Side::Engine(stored) => Some(stored.engine.backend.as_str()),
        Side::Model(_) => None,
    });
    of_engine.filter(|_| args.backend == "auto").unwrap_or(&args.backend)
}

fn compared(
    args: &AccuracyArgs,
    sides: &[Side; 2],
    backend: &dyn Backend,
    cache: Option<&Cache>,
) -> anyhow::Result<Accuracy> {
    let [reference, other] = sides.each_ref().map(|side| match side {
        Side::Engine(stored) => backend.load(&stored.engine),
        Side::Model(model) => {
            // FP32 with all its digits: what is compared is the models.
            let options = BuildOptions { is_exact_fp32: true, ..BuildOptions::default() };
            let request = EngineRequest {
                model,
                input_shapes: &input_shapes(&args.shapes),
                max_batch: MaxBatch::UpTo(1),
                options: &options,
                calibration: None,
                watch: None,
            };
            engine::build(backend, &request, cache).map(|built| built.engine)
        }
    });
    let (reference, other): (Arc<dyn Engine>, Arc<dyn Engine>) = (reference?, other?);
    let is_real = !reference.is_simulated() && !other.is_simulated();
    ensure!(is_real, "a simulated device computes nothing: use --backend cpu");
    let name = args.reference.display().to_string();
    Ok(precision::assess_engines(name, &reference, &other, args.input.as_deref(), args.seed)?)
}
