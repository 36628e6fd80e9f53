//! Inputs in another type on the fly, as `thalweg inputs` does it for good.
//!
//! The model is changed before anything else sees it: precisions, engines, the cache and files of samples then are those of
//! a network that takes bytes or FP16.

use std::path::Path;

use anyhow::ensure;
use serde::Serialize;
use thalweg::model::{DataType, Model};
use thalweg::precision::{self, Accuracy, AccuracyLimit, InputType, SampleSource};

use super::input_shapes;
use super::lower::first_line;
use crate::args::{ByteLineArgs, InputTypeArgs, ShapeArgs};
use crate::output::Output;
use crate::progress::Bar;

/// What became of a model's inputs.
#[derive(Debug, Serialize)]
pub struct Retyping {
    #[serde(rename = "type")]
    input_type: InputType,
    /// The inputs that were changed.
    names: Vec<String>,
    /// What rounding them costs; `None` where that is not asked or cannot be measured.
    accuracy: Option<Accuracy>,
}

/// How the original is compared with the model whose inputs were changed.
#[derive(Clone, Copy)]
pub struct Comparison<'a> {
    pub shapes: &'a ShapeArgs,
    pub seed: u64,
    pub limits: &'a [AccuracyLimit],
}

/// The model of a file with its inputs in the type that is asked for. What rounding costs is measured on random samples
/// and told; without a comparison it is not.
///
/// # Errors
/// Where it has no inputs to change, where a limit is not kept, and where there are limits and nothing can be measured.
pub fn retyped(
    path: &Path,
    args: &InputTypeArgs,
    comparison: Option<Comparison<'_>>,
    output: &Output,
) -> anyhow::Result<(Model, Option<Retyping>)> {
    let model = Model::read(path)?;
    let Some(input_type) = asked(args)? else { return Ok((model, None)) };
    let (changed, names) = precision::with_inputs(&model, &input_type)?;
    let mut accuracy = None;
    if let Some(Comparison { shapes, seed, limits }) = comparison {
        let input_shapes = input_shapes(shapes);
        // Files have samples of the new type, which lose nothing.
        let source = SampleSource { input_shapes: &input_shapes, path: None, seed };
        let bar = Bar::spin(format!("comparing with {}", model.name()), output);
        let measured = precision::assess_inputs(&model, &changed, &input_type, &source);
        bar.clear();
        match measured {
            Ok(measured) => {
                limits.iter().try_for_each(|limit| limit.check(&measured))?;
                output.note(&told(&input_type, &measured));
                accuracy = Some(measured);
            }
            Err(error) if !limits.is_empty() => return Err(error.into()),
            Err(error) => {
                output
                    .warning(&format!("what rounding the inputs costs is not known: {}", first_line(&error)));
            }
        }
    }
    Ok((changed, Some(Retyping { input_type, names, accuracy })))
}

/// What is asked of the inputs; `None` where they stay as they are.
fn asked(args: &InputTypeArgs) -> anyhow::Result<Option<InputType>> {
    ensure!(
        args.input_type.is_some() || !args.line.is_given(),
        "--scale and --shift say what bytes stand for: add --input-type u8"
    );
    args.input_type.map(|to| input_type(to, &args.line)).transpose()
}

/// A type with what bytes stand for.
pub fn input_type(to: DataType, line: &ByteLineArgs) -> anyhow::Result<InputType> {
    match to {
        DataType::U8 => Ok(InputType::U8 { scale: line.scale.clone(), shift: line.shift.clone() }),
        DataType::F16 => {
            ensure!(!line.is_given(), "--scale and --shift are for bytes: take u8");
            Ok(InputType::F16)
        }
        other => anyhow::bail!("inputs are f32 already or can be f16 and u8, not {other}"),
    }
}

/// `inputs as u8: cosine 0.999832, relative error 1.2e-2 beside the original on the cpu backend, 16 random samples`
fn told(input_type: &InputType, accuracy: &Accuracy) -> String {
    let name = if *input_type == InputType::F16 { "f16" } else { "u8" };
    let outputs = &accuracy.outputs;
    let cosine = outputs.iter().map(|output| output.cosine).fold(1.0, f64::min);
    let error = outputs.iter().map(|output| output.max_relative_error).fold(0.0, f64::max);
    format!(
        "inputs as {name}: cosine {cosine:.6}, relative error {error:.1e} beside the {}, {} random samples",
        accuracy.reference, accuracy.sample_count
    )
}
