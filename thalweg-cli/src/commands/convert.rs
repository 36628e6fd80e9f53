//! `thalweg convert`: a model in half precision, as an ONNX file for use anywhere.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use thalweg::model::Model;
use thalweg::precision::{self, Boundary, ConversionReport, ConversionSpec, HalfType, Ranges};
use thalweg::{files, report};

use super::input_shapes;
use crate::args::ConvertArgs;
use crate::output::Output;
use crate::progress::Bar;

pub fn run(args: &ConvertArgs, output: &Output) -> anyhow::Result<()> {
    files::check_writable(&args.output)?;
    let model = Model::read(&args.model)?;
    let bar = Bar::spin(format!("converting {} to {}", model.name(), args.precision), output);
    let converted = converted(args, &model, output);
    bar.clear();
    let (converted, report) = converted?;
    converted.write(&args.output)?;
    output.result(
        || Ok(json!({ "model": args.output, "report": report })),
        |style| report::text_of_conversion(&report, &args.output, style),
    )
}

fn converted(
    args: &ConvertArgs,
    model: &Model,
    output: &Output,
) -> anyhow::Result<(Model, ConversionReport)> {
    let look = Look {
        half: args.precision,
        input_shapes: &input_shapes(&args.shapes),
        samples: args.input.as_deref(),
        seed: args.seed,
    };
    let ranges = if args.no_ranges { None } else { look.ranges(model, output)? };
    let spec = ConversionSpec {
        half: args.precision,
        keep_f32: &args.keep_f32,
        boundary: if args.half_io { Boundary::Half } else { Boundary::Unchanged },
        ranges: ranges.as_ref(),
    };
    Ok(precision::convert(model, &spec)?)
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
    /// How large the values get. Where the `cpu` backend cannot run the network, only samples that the user gave are
    /// worth a failure.
    pub fn ranges(&self, model: &Model, output: &Output) -> anyhow::Result<Option<Ranges>> {
        match Ranges::measure(model, self.half, self.input_shapes, self.samples, self.seed) {
            Ok(ranges) => Ok(Some(ranges)),
            Err(error) if self.samples.is_some() => Err(error.into()),
            Err(error) => {
                output.warning(&format!(
                    "the ranges of values are not known, since the network could not be run: {}",
                    first_line(&error)
                ));
                Ok(None)
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
