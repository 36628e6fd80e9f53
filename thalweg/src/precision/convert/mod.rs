//! FP16 and BF16 as a pass over ONNX files, for runtimes that take the precision of each layer from the file.
//!
//! In: a [`Model`] and a [`ConversionSpec`]. Out: a model that computes in a half type wherever that is known to be
//! sound, and a [`ConversionReport`] that says which nodes stayed in FP32 and why. A value that is read in both types
//! is cast once, right behind the node that makes it; weights are converted here and cast never. Integers, shapes and
//! the values that sizes are calculated from are left alone. INT8 is not this pass's business.

mod graph;
mod half_type;
mod node;
mod operators;
pub(super) mod raise;
mod ranges;
mod report;
mod scope;
mod sizes;

use prost::Message as _;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::precision::onnx::{IR_WITH_FREE_INITIALIZERS, check_keep_f32, onnx_opset};
use graph::Rewriter;

pub use half_type::HalfType;
pub use ranges::{RangeSource, Ranges, ValueRange};
pub use report::{ConversionReport, KeepReason, KeptNode, WeightReport};

/// What to convert to, and what to leave.
#[derive(Clone, Copy, Debug)]
pub struct ConversionSpec<'a> {
    /// The type to compute in.
    pub half: HalfType,
    /// Names of nodes and of operators that stay in FP32.
    pub keep_f32: &'a [String],
    /// Names of nodes that stay in FP32 because they lose too much, as [`choose_mix`](super::choose_mix) finds them.
    pub too_sensitive: &'a [String],
    /// The types of the model's inputs and outputs.
    pub boundary: Boundary,
    /// How large the values get, where that was looked at.
    pub ranges: Option<&'a Ranges>,
}

/// The types of a converted model's inputs and outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Boundary {
    /// As they were: callers need not know of the conversion.
    #[default]
    Unchanged,
    /// FP32 inputs and outputs become half too, which halves what is copied.
    Half,
}

/// Converts a model. It takes and gives the same tensors by name, and a node keeps its name.
///
/// # Errors
/// [`Error::InvalidSetting`] where a name in `keep_f32` is neither a node nor an operator of the model, or where BF16
/// is asked for and the model's operator set is older than BF16 and cannot be raised; [`Error::ExternalData`] and
/// [`Error::InvalidModel`] where the model's weights cannot be read.
pub fn convert(model: &Model, spec: &ConversionSpec<'_>) -> Result<(Model, ConversionReport)> {
    let model = model.embedded()?;
    check_keep_f32(&model, spec.keep_f32)?;
    let bytes_before = model.proto().encoded_len() as u64;
    let opset_before = onnx_opset(&model);
    let (model, not_raised) = with_opset(model, spec.half, opset_before)?;
    let opset = onnx_opset(&model);
    let mut proto = model.proto().clone();
    let mut rewriter = Rewriter::new(&model, spec, opset);
    proto.graph = Some(rewriter.main_graph()?);
    if proto.ir_version() < IR_WITH_FREE_INITIALIZERS {
        proto.ir_version = Some(IR_WITH_FREE_INITIALIZERS);
    }
    let mut report = rewriter.into_report();
    (report.opset_before, report.not_raised) = (opset_before, not_raised);
    report.bytes_before = bytes_before;
    report.bytes_after = proto.encoded_len() as u64;
    Ok((Model::from_proto(proto, model.path())?, report))
}

/// The names of the nodes that [`convert`] would have compute in half, in the model's order.
pub(super) fn half_nodes(model: &Model, spec: &ConversionSpec<'_>) -> Result<Vec<String>> {
    let (model, _) = with_opset(model.embedded()?, spec.half, onnx_opset(model))?;
    let mut rewriter = Rewriter::new(&model, spec, onnx_opset(&model));
    rewriter.main_graph()?;
    Ok(rewriter.into_half_nodes())
}

/// The first operator set with operators for BF16 at all.
const FIRST_WITH_BF16: i64 = 13;

/// The model in an operator set that has the half type, and what the report says if that is a later one than its own
/// could be.
fn with_opset(model: Model, half: HalfType, opset: i64) -> Result<(Model, Option<String>)> {
    if half == HalfType::Fp16 || opset >= raise::WITH_BF16 {
        return Ok((model, None));
    }
    match raise::raised(&model, opset, raise::WITH_BF16) {
        Ok(raised) => Ok((Model::from_proto(raised, model.path())?, None)),
        Err(reason) if opset >= FIRST_WITH_BF16 => Ok((model, Some(reason))),
        Err(reason) => Err(Error::InvalidSetting {
            name: "precision",
            value: half.to_string(),
            reason: format!(
                "the model's operator set {opset} has no BF16 and cannot be raised, since {reason}: use fp16, or export the model with operator set {}",
                raise::WITH_BF16
            ),
        }),
    }
}

#[cfg(test)]
mod tests;
