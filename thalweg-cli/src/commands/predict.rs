//! `thalweg predict`: what devices would do with a model, on paper.

use anyhow::{Context as _, bail, ensure};
use thalweg::backend::{DataSheet, Transfers};
use thalweg::capacity::{PaperPrediction, PaperWorkload};
use thalweg::engine::EngineSource;
use thalweg::measure::Measurement;
use thalweg::model::Model;
use thalweg::report;

use super::{file, in_folder, input_shapes, own_input_type};
use crate::args::PredictArgs;
use crate::output::Output;

pub fn run(args: &PredictArgs, output: &Output) -> anyhow::Result<()> {
    let model = Model::read(&args.model)?;
    let anchor = args.measured.as_ref().map(|_| anchor(args, &model)).transpose()?;
    let mut predictions: Vec<PaperPrediction> = Vec::new();
    for sheet in &args.device {
        for &batch in &args.batch {
            for &input_type in &args.input_type {
                let shapes = input_shapes(&args.shapes);
                let paper = PaperWorkload::of(&model, &shapes, batch, (input_type, args.precision))?;
                predictions.push(paper.on(sheet, anchor));
            }
        }
    }
    output.result(|| serde_json::to_value(&predictions), |style| report::text_of_paper(&predictions, style))
}

/// Measured over predicted throughput, on the device that was measured, of what was measured there: in its precision and
/// with its shapes, whatever is to be predicted.
fn anchor(args: &PredictArgs, model: &Model) -> anyhow::Result<f64> {
    let path = in_folder(args.measured.as_ref().context("no measurement")?, &[file::MEASUREMENT]);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let measured: Measurement = serde_json::from_str(&text)
        .with_context(|| format!("{} is not the measurement.json of a bench", path.display()))?;
    ensure!(
        measured.model.sha256 == model.content_hash()?,
        "{} is of another network, {}: its speed says nothing of this one",
        path.display(),
        measured.model.path.display()
    );
    let configuration = &measured.configuration;
    let is_speed = measured.load.outstanding().is_some() && configuration.transfers == Transfers::On;
    ensure!(
        is_speed && measured.check_requests().is_ok(),
        "{} does not say how fast the network is: it was sent requests at a fixed rate, without transfers, or lost some",
        path.display()
    );
    let device = &measured.device.name;
    let Some(sheet) = DataSheet::of_device(device) else {
        bail!("no data sheet is known for the measured device, {device}: leave out --measured");
    };
    let precision = match &measured.engine {
        Some(EngineSource::Built(spec)) => spec.options.precision,
        _ => args.precision,
    };
    let types = (own_input_type(model), precision);
    let paper = PaperWorkload::of(model, &measured.model.input_shapes, configuration.batch_size, types)?;
    let paper = paper.on(&sheet, None);
    let predicted = if configuration.streams == 1 {
        paper.one_stream_inferences_per_s
    } else {
        paper.many_streams_inferences_per_s
    };
    Ok(measured.throughput_inferences_per_s.value / predicted)
}
