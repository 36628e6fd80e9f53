//! `thalweg convert`: a model in a lower precision, as an ONNX file for use anywhere.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::ensure;
use serde_json::json;
use thalweg::model::Model;
use thalweg::precision::{
    self, Accuracy, Boundary, ConversionReport, ConversionSpec, HalfType, Mix, QuantizationReport, Ranges,
    SampleSource,
};
use thalweg::{files, report};

use super::input_shapes;
use super::quantize::Quantization;
use crate::args::{ConvertArgs, Target};
use crate::output::Output;
use crate::progress::Bar;

pub fn run(args: &ConvertArgs, output: &Output) -> anyhow::Result<()> {
    files::check_writable(&args.output)?;
    let model = Model::read(&args.model)?;
    match args.precision {
        Target::Half(half) => to_half(args, half, &model, output),
        Target::Int8 | Target::Auto => to_int8(args, &model, output),
    }
}

fn to_half(args: &ConvertArgs, half: HalfType, model: &Model, output: &Output) -> anyhow::Result<()> {
    let is_for_int8 = args.calibrate.is_some() || !args.max_loss.is_empty() || args.quantization.are_given();
    ensure!(
        !is_for_int8,
        "--calibrate, --max-loss and the like are for --precision int8: {half} does not run here"
    );
    let bar = Bar::spin(format!("converting {} to {half}", model.name()), output);
    let converted = converted_to_half(args, half, model);
    bar.clear();
    let (converted, report, remark) = converted?;
    remark.iter().for_each(|remark| output.warning(remark));
    converted.write(&args.output)?;
    output.result(
        || Ok(json!({ "model": args.output, "report": report })),
        |style| report::text_of_conversion(&report, &args.output, style),
    )
}

fn converted_to_half(
    args: &ConvertArgs,
    half: HalfType,
    model: &Model,
) -> anyhow::Result<(Model, ConversionReport, Option<String>)> {
    let look = Look {
        half,
        input_shapes: &input_shapes(&args.shapes),
        samples: args.input.as_deref(),
        seed: args.seed,
    };
    let (ranges, remark) = if args.no_ranges { (None, None) } else { look.ranges(model)? };
    let spec = ConversionSpec {
        half,
        keep_f32: &args.keep_f32,
        boundary: if args.half_io { Boundary::Half } else { Boundary::Unchanged },
        ranges: ranges.as_ref(),
    };
    let (converted, report) = precision::convert(model, &spec)?;
    Ok((converted, report, remark))
}

fn to_int8(args: &ConvertArgs, model: &Model, output: &Output) -> anyhow::Result<()> {
    let is_for_half = args.half_io || args.no_ranges;
    ensure!(
        !is_for_half,
        "--half-io and --no-ranges are for --precision fp16 and bf16: int8 needs its ranges"
    );
    let is_auto = args.precision == Target::Auto;
    ensure!(!is_auto || !args.max_loss.is_empty(), "--precision auto keeps to a limit: add --max-loss");
    let bar = Bar::spin(format!("quantising {}", model.name()), output);
    let quantized = quantized(args, model, is_auto);
    bar.clear();
    let Quantized { model, report, accuracy, mix } = quantized?;
    if let Some(accuracy) = &accuracy {
        args.max_loss.iter().try_for_each(|limit| limit.check(accuracy))?;
    }
    model.write(&args.output)?;
    output.result(
        || Ok(json!({ "model": args.output, "report": report, "accuracy": accuracy, "mix": mix })),
        |style| {
            let mix = mix.as_ref().map(|mix| report::text_of_mix(mix, style));
            let accuracy = accuracy.as_ref().map(|accuracy| report::text_of_accuracy(accuracy, style));
            report::text_of_quantization(&report, &args.output, style)
                + &mix.unwrap_or_default()
                + &accuracy.unwrap_or_default()
        },
    )
}

/// A model in eight bits and what is known of it.
struct Quantized {
    model: Model,
    report: QuantizationReport,
    /// Beside the original, on the processor.
    accuracy: Option<Accuracy>,
    /// What was weighed, where nodes were chosen.
    mix: Option<Mix>,
}

fn quantized(args: &ConvertArgs, original: &Model, is_auto: bool) -> thalweg::Result<Quantized> {
    let input_shapes = input_shapes(&args.shapes);
    let source =
        SampleSource { input_shapes: &input_shapes, path: args.calibrate.as_deref(), seed: args.seed };
    let quantization =
        Quantization { args: &args.quantization, source, keep_f32: &args.keep_f32, takes_int8_weights: true };
    quantization.check_outputs()?;
    let compared_on = SampleSource { path: args.input.as_deref().or(source.path), ..source };
    if is_auto {
        let (model, report, mix) =
            quantization.run_within(original, &args.max_loss, compared_on, args.for_device)?;
        return Ok(Quantized { model, report, accuracy: Some(mix.accuracy.clone()), mix: Some(mix) });
    }
    let (model, report) = quantization.run(original)?;
    let accuracy = match args.no_accuracy {
        true => None,
        false => Some(precision::assess_on_cpu(original, &model, &compared_on)?),
    };
    Ok(Quantized { model, report, accuracy, mix: None })
}

/// What the ranges of values are looked at with.
pub struct Look<'a> {
    pub half: HalfType,
    pub input_shapes: &'a BTreeMap<String, Vec<usize>>,
    /// A NumPy file, or a folder of them; `None` for random samples.
    pub samples: Option<&'a Path>,
    pub seed: u64,
}

impl Look<'_> {
    /// How large the values get, or what people should know where that could not be seen. Where the `cpu` backend
    /// cannot run the network, only samples that the user gave are worth a failure.
    pub fn ranges(&self, model: &Model) -> anyhow::Result<(Option<Ranges>, Option<String>)> {
        match Ranges::measure(model, self.half, self.input_shapes, self.samples, self.seed) {
            Ok(ranges) => Ok((Some(ranges), None)),
            Err(error) if self.samples.is_some() => Err(error.into()),
            Err(error) => {
                let remark = format!(
                    "the ranges of values are not known, since the network could not be run: {}",
                    first_line(&error)
                );
                Ok((None, Some(remark)))
            }
        }
    }
}

/// What rten says goes on for screens where a network has hundreds of values.
fn first_line(error: &thalweg::Error) -> String {
    const MOST_CHARACTERS: usize = 300;
    let text = error.to_string();
    let line: String = text.lines().next().unwrap_or_default().chars().take(MOST_CHARACTERS).collect();
    if line.len() < text.len() { line + " ..." } else { line }
}
