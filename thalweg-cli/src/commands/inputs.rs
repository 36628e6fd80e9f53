//! `thalweg inputs`: a model that takes its inputs in another type.

use serde_json::json;
use thalweg::model::Model;
use thalweg::precision::{self, SampleSource};
use thalweg::{files, report};

use super::input_type::input_type;
use super::{check_other, input_shapes};
use crate::args::InputsArgs;
use crate::output::Output;
use crate::progress::Bar;

pub fn run(args: &InputsArgs, output: &Output) -> anyhow::Result<()> {
    files::check_writable(&args.output)?;
    check_other(&args.model, &args.output)?;
    let model = Model::read(&args.model)?;
    let input_type = input_type(args.to, &args.line)?;
    let (converted, names) = precision::with_inputs(&model, &input_type)?;
    let source = SampleSource {
        input_shapes: &input_shapes(&args.shapes),
        path: args.input.as_deref(),
        seed: args.seed,
    };
    let bar = Bar::spin(format!("comparing with {}", model.name()), output);
    let accuracy = match args.no_accuracy {
        true => Ok(None),
        false => precision::assess_inputs(&model, &converted, &input_type, &source).map(Some),
    };
    bar.clear();
    let accuracy = accuracy?;
    if let Some(accuracy) = &accuracy {
        args.max_loss.iter().try_for_each(|limit| limit.check(accuracy))?;
    }
    converted.write(&args.output)?;
    output.result(
        || Ok(json!({ "model": args.output, "inputs": names, "type": input_type, "accuracy": accuracy })),
        |style| {
            let accuracy = accuracy.as_ref().map(|accuracy| report::text_of_accuracy(accuracy, style));
            let written = format!("{} takes {} in {}\n", args.output.display(), names.join(", "), args.to);
            written + &accuracy.unwrap_or_default()
        },
    )
}
