//! `thalweg predict`: what devices would do with a model, on paper.

use anyhow::{Context as _, bail, ensure};
use thalweg::backend::DataSheet;
use thalweg::capacity::{PaperPrediction, PaperWorkload};
use thalweg::measure::Measurement;
use thalweg::model::{DataType, Model};
use thalweg::report;

use super::{file, in_folder, input_shapes};
use crate::args::PredictArgs;
use crate::output::Output;

pub fn run(args: &PredictArgs, output: &Output) -> anyhow::Result<()> {
    let model = Model::read(&args.model)?;
    let anchor = args.measured.as_ref().map(|_| anchor(args, &model)).transpose()?;
    let mut predictions: Vec<PaperPrediction> = Vec::new();
    for sheet in &args.device {
        for &batch in &args.batch {
            for &input_type in &args.input_type {
                predictions.push(workload(args, &model, batch, input_type)?.on(sheet, anchor));
            }
        }
    }
    output.result(|| serde_json::to_value(&predictions), |style| report::text_of_paper(&predictions, style))
}

fn workload(
    args: &PredictArgs,
    model: &Model,
    batch: usize,
    input_type: DataType,
) -> anyhow::Result<PaperWorkload> {
    let shapes = input_shapes(&args.shapes);
    Ok(PaperWorkload::of(model, &shapes, batch, (input_type, args.precision))?)
}

/// Measured over predicted throughput, on the device that was measured.
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
    let device = &measured.device.name;
    let Some(sheet) = DataSheet::of_device(device) else {
        bail!("no data sheet is known for the measured device, {device}: leave out --measured");
    };
    let configuration = &measured.configuration;
    let paper = workload(args, model, configuration.batch_size, DataType::F32)?.on(&sheet, None);
    let predicted = if configuration.streams == 1 {
        paper.one_stream_inferences_per_s
    } else {
        paper.many_streams_inferences_per_s
    };
    Ok(measured.throughput_inferences_per_s.value / predicted)
}
