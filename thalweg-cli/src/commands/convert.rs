//! `thalweg convert`: a model in half precision, as an ONNX file for use anywhere.

use serde_json::json;
use thalweg::files;
use thalweg::model::Model;
use thalweg::precision::{self, Boundary, ConversionSpec, Ranges};
use thalweg::report;

use super::input_shapes;
use crate::args::ConvertArgs;
use crate::output::Output;
use crate::progress::Bar;

pub fn run(args: &ConvertArgs, output: &Output) -> anyhow::Result<()> {
    files::check_writable(&args.output)?;
    let model = Model::read(&args.model)?;
    let bar = Bar::spin(format!("converting {} to {}", model.name(), args.precision), output);
    let ranges = ranges(args, &model, output);
    let spec = ConversionSpec {
        half: args.precision,
        keep_f32: &args.keep_f32,
        boundary: if args.half_io { Boundary::Half } else { Boundary::Unchanged },
        ranges: None,
    };
    let converted = ranges.and_then(|ranges| {
        Ok(precision::convert(&model, &ConversionSpec { ranges: ranges.as_ref(), ..spec })?)
    });
    bar.clear();
    let (converted, report) = converted?;
    converted.write(&args.output)?;
    output.result(
        || Ok(json!({ "model": args.output, "report": report })),
        |style| report::text_of_conversion(&report, &args.output, style),
    )
}

/// How large the values get. Where the `cpu` backend cannot run the network, only the samples that the user gave are
/// worth a failure.
fn ranges(args: &ConvertArgs, model: &Model, output: &Output) -> anyhow::Result<Option<Ranges>> {
    if args.no_ranges {
        return Ok(None);
    }
    let shapes = input_shapes(&args.shapes);
    match Ranges::measure(model, args.precision, &shapes, args.input.as_deref(), args.seed) {
        Ok(ranges) => Ok(Some(ranges)),
        Err(error) if args.input.is_some() => Err(error.into()),
        Err(error) => {
            let error = anyhow::Error::from(error);
            output.warning(&format!(
                "the ranges of values are not known, since the network was not run: {error:#}"
            ));
            Ok(None)
        }
    }
}
