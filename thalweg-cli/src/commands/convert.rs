//! `thalweg convert`: a model in a lower precision, as an ONNX file for use anywhere.

use anyhow::ensure;
use serde_json::json;
use thalweg::files::OutputFolder;
use thalweg::model::Model;
use thalweg::precision::{self, Accuracy, Boundary, LayerErrors, SampleSource};
use thalweg::{files, report};

use super::loss::{self, Loss};
use super::lower::{Lower, Lowered, first_line};
use super::{check_other, input_shapes};
use crate::args::{ConvertArgs, QuantizationArgs, Rest, Target};
use crate::output::Output;
use crate::progress::Bar;

pub fn run(args: &ConvertArgs, output: &Output) -> anyhow::Result<()> {
    check_options(args)?;
    files::check_writable(&args.output)?;
    check_other(&args.model, &args.output)?;
    let folder = args.out.as_deref().map(OutputFolder::claim).transpose()?;
    let model = Model::read(&args.model)?;
    if args.precision == Target::Fp32 {
        return copy(args, &model, output);
    }
    let bar = Bar::spin(format!("converting {} to {}", model.name(), args.precision), output);
    let converted = converted(args, &model);
    bar.clear();
    let Converted { lowered, accuracy, layers, remark } = converted?;
    lowered.remark.iter().chain(&remark).for_each(|remark| output.warning(remark));
    if let Some(accuracy) = &accuracy {
        args.max_loss.iter().try_for_each(|limit| limit.check(accuracy))?;
    }
    lowered.model.write(&args.output)?;
    let loss = Loss { reference: &args.model, other: &args.output, limits: &args.max_loss };
    let loss = loss.report(accuracy, layers, Some(lowered.conversion), lowered.mix);
    output.result(
        || {
            Ok(json!({
                "model": args.output,
                "report": loss.conversion,
                "accuracy": loss.accuracy,
                "mix": loss.mix,
                "layers": loss.layers,
            }))
        },
        |style| {
            let conversion = loss.conversion.as_ref();
            let conversion = conversion.map(|it| report::text_of_conversion(it, &args.output, style));
            let mix = loss.mix.as_ref().map(|mix| report::text_of_mix(mix, style));
            let accuracy = loss.accuracy.as_ref().map(|accuracy| report::text_of_accuracy(accuracy, style));
            let layers = loss.layers.as_ref().filter(|_| args.layers);
            let layers = layers.map(|layers| report::text_of_layers(layers, style));
            conversion.unwrap_or_default()
                + &mix.unwrap_or_default()
                + &accuracy.unwrap_or_else(|| report::text_of_unknown_accuracy(style))
                + &layers.unwrap_or_default()
        },
    )?;
    folder.iter().try_for_each(|folder| loss::write(&loss, folder, output))
}

/// What says nothing about the precision that was asked for.
fn check_options(args: &ConvertArgs) -> anyhow::Result<()> {
    let is_for_int8 = args.calibrate.is_some() || args.quantization.are_given();
    let is_for_half = args.half_io || args.no_ranges;
    match args.precision {
        Target::Fp32 => ensure!(
            !(is_for_int8 || is_for_half)
                && args.max_loss.is_empty()
                && !args.selection.selection().is_given(),
            "--precision fp32 writes the model as it is: nothing can be asked of its precision"
        ),
        Target::Half(half) => {
            ensure!(!args.quantization.are_given(), QuantizationArgs::PURPOSE);
            ensure!(
                args.calibrate.is_none(),
                "--calibrate is for --precision int8 and auto: {half} needs no thresholds"
            );
        }
        Target::Int8 | Target::Auto => ensure!(
            !is_for_half,
            "--half-io and --no-ranges are for --precision fp16 and bf16: int8 needs its ranges"
        ),
    }
    Ok(())
}

/// The model as it is, with its data: in the file itself, or beside it where that would be too large.
fn copy(args: &ConvertArgs, model: &Model, output: &Output) -> anyhow::Result<()> {
    model.write(&args.output)?;
    output.result(
        || Ok(json!({ "model": args.output })),
        |_| format!("{}: {} as it was\n", args.output.display(), model.name()),
    )
}

/// A converted model and what is known of it.
struct Converted {
    lowered: Lowered,
    /// Beside the original, on the processor.
    accuracy: Option<Accuracy>,
    layers: Option<LayerErrors>,
    /// Why there is no accuracy, where that was meant to be.
    remark: Option<String>,
}

fn converted(args: &ConvertArgs, original: &Model) -> anyhow::Result<Converted> {
    let input_shapes = input_shapes(&args.shapes);
    let path = args.input.as_deref().or(args.calibrate.as_deref());
    let source = SampleSource { input_shapes: &input_shapes, path, seed: args.seed };
    let lower = Lower {
        target: args.precision,
        selection: args.selection.selection(),
        boundary: if args.half_io { Boundary::Half } else { Boundary::Unchanged },
        quantization: &args.quantization,
        calibration: SampleSource { path: args.calibrate.as_deref(), ..source },
        source,
        looks_at_ranges: !args.no_ranges,
        limits: &args.max_loss,
        sheet: args.for_device,
        rest: Rest::Fp32,
        takes_int8_weights: true,
        takes_half_scales: true,
    };
    lower.check()?;
    let lowered = lower.run(original)?;
    let (accuracy, remark) = accuracy(args, original, &lowered, &source)?;
    let wants_layers = args.layers || args.out.is_some();
    let layers = wants_layers
        .then(|| precision::layer_errors(original, &lowered.model, &source, &args.max_loss))
        .transpose()?;
    Ok(Converted { lowered, accuracy, layers, remark })
}

/// What was lost, or why that is not known. Where nobody named samples or a limit, a network that does not run here is
/// no failure.
fn accuracy(
    args: &ConvertArgs,
    original: &Model,
    lowered: &Lowered,
    source: &SampleSource<'_>,
) -> anyhow::Result<(Option<Accuracy>, Option<String>)> {
    if let Some(mix) = &lowered.mix {
        return Ok((Some(mix.accuracy.clone()), None));
    }
    if args.no_accuracy || args.no_ranges {
        return Ok((None, None));
    }
    match precision::assess_on_cpu(original, &lowered.model, source) {
        Ok(accuracy) => Ok((Some(accuracy), None)),
        Err(error) if source.path.is_none() && args.max_loss.is_empty() => {
            Ok((None, Some(format!("what is lost is not known: {}", first_line(&error)))))
        }
        Err(error) => Err(error.into()),
    }
}
