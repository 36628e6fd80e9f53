//! `thalweg inputs`: a model that takes its inputs in another type.

use serde_json::json;
use thalweg::model::{DataType, Model};
use thalweg::precision::{self, InputType, SampleSource};
use thalweg::{files, report};

use super::input_shapes;
use crate::args::InputsArgs;
use crate::output::Output;
use crate::progress::Bar;

pub fn run(args: &InputsArgs, output: &Output) -> anyhow::Result<()> {
    files::check_writable(&args.output)?;
    let model = Model::read(&args.model)?;
    let input_type = input_type(args)?;
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

fn input_type(args: &InputsArgs) -> anyhow::Result<InputType> {
    let is_line = args.scale != [1.0] || args.shift != [0.0];
    match args.to {
        DataType::U8 => Ok(InputType::U8 { scale: args.scale.clone(), shift: args.shift.clone() }),
        DataType::F16 => {
            anyhow::ensure!(!is_line, "--scale and --shift are for bytes: --to u8");
            Ok(InputType::F16)
        }
        other => anyhow::bail!("inputs are f32 already or can be f16 and u8, not {other}"),
    }
}
