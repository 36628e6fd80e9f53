//! FP16 and BF16 as a pass over ONNX files, for runtimes that take the precision of each layer from the file.
//!
//! In: a [`Model`] and a [`ConversionSpec`]. Out: a model that computes in a half type wherever that is known to be
//! sound, and a [`ConversionReport`] that says which nodes stayed in FP32 and why. A value that is read in both types
//! is cast once, right behind the node that makes it; weights are converted here and cast never, and what
//! nodes make of weights alone is one. Integers, shapes and
//! the values that sizes are calculated from are left alone. INT8 is not this pass's business.

mod fold;
mod graph;
mod half_type;
mod node;
mod operators;
pub(super) mod raise;
mod ranges;
mod report;
mod scope;
mod sizes;

use std::borrow::Cow;
use std::collections::HashSet;

use prost::Message as _;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::precision::Selection;
use crate::precision::onnx::{IR_WITH_FREE_INITIALIZERS, onnx_opset};
use crate::precision::selection::Resolved;
use fold::Folded;
use graph::{Rewriter, Rewritten};
use node::Judge;

pub use half_type::HalfType;
pub use ranges::{RangeSource, Ranges, ValueRange};
pub use report::{ConversionReport, KeepReason, KeptNode, WeightReport};

/// What to convert to, and what to leave.
#[derive(Clone, Copy, Debug)]
pub struct ConversionSpec<'a> {
    /// The type to compute in.
    pub half: HalfType,
    /// What the user lets compute in half. What only moves values goes with them, listed or not.
    pub selection: Selection<'a>,
    /// Names of nodes that stay in FP32 because they lose too much, as [`choose_mix`](super::choose_mix) finds them.
    pub too_sensitive: &'a [String],
    /// The types of the model's inputs and outputs.
    pub boundary: Boundary,
    /// How large the values get, where that was looked at.
    pub ranges: Option<&'a Ranges>,
    /// The type of the scales around eight bits.
    pub scales: ScaleForm,
}

/// The type of QuantizeLinear's and DequantizeLinear's scales, and with it of what is on their other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScaleForm {
    /// Half where operator set 19 can be had, the first with such scales: then no cast comes between eight bits and half.
    #[default]
    Half,
    /// FP32, for what reads no other ones: the operator set is not raised for them, and what reads eight bits computes in
    /// FP32.
    Fp32,
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
/// [`Error::InvalidSetting`] where a name in `selection` is neither a node nor an operator of the model, or where BF16
/// is asked for and the model's operator set is older than BF16 and cannot be raised; [`Error::ExternalData`] and
/// [`Error::InvalidModel`] where the model's weights cannot be read.
pub fn convert(model: &Model, spec: &ConversionSpec<'_>) -> Result<(Model, ConversionReport)> {
    Prepared::of(model, spec)?.convert(spec.too_sensitive)
}

/// A model as it is before nodes are judged: in the operator set that it needs, with its constants folded. All of that is
/// the same whichever nodes are too sensitive, so one serves many conversions.
pub(super) struct Prepared<'a> {
    spec: ConversionSpec<'a>,
    resolved: Cow<'a, Resolved>,
    folded: Folded,
    bytes_before: u64,
    opset_before: i64,
    not_raised: Option<String>,
}

impl<'a> Prepared<'a> {
    /// Prepares a model. The lists name nodes of this one.
    pub fn of(model: &Model, spec: &ConversionSpec<'a>) -> Result<Self> {
        let model = model.embedded()?;
        let resolved = spec.selection.resolve(&model)?;
        let bytes_before = model.proto().encoded_len() as u64;
        let opset_before = onnx_opset(&model);
        let (model, not_raised) = with_opset(model, spec, opset_before)?;
        let folded = fold::folded(&model)?;
        Ok(Self { spec: *spec, resolved, folded, bytes_before, opset_before, not_raised })
    }

    /// The model with all but these nodes in half.
    pub fn convert(&self, too_sensitive: &[String]) -> Result<(Model, ConversionReport)> {
        let Folded { model, node_count, refused } = &self.folded;
        let mut proto = model.proto().clone();
        let Rewritten { graph, mut report, .. } = self.rewritten(too_sensitive)?;
        proto.graph = Some(graph);
        if proto.ir_version() < IR_WITH_FREE_INITIALIZERS {
            proto.ir_version = Some(IR_WITH_FREE_INITIALIZERS);
        }
        (report.opset_before, report.not_raised) = (self.opset_before, self.not_raised.clone());
        (report.folded_nodes, report.not_folded) = (*node_count, refused.clone());
        report.bytes_before = self.bytes_before;
        report.bytes_after = proto.encoded_len() as u64;
        Ok((Model::from_proto(proto, model.path())?, report))
    }

    /// The names of the nodes that [`convert`] would have compute in half, in the model's order.
    pub fn half_nodes(&self) -> Result<Vec<String>> {
        Ok(self.rewritten(self.spec.too_sensitive)?.half_nodes)
    }

    /// Where a node stays in FP32 and reads what DequantizeLinear would give in half, that stays in FP32 too, and with it
    /// all that reads it: then the graph is rewritten anew.
    fn rewritten(&self, too_sensitive: &[String]) -> Result<Rewritten> {
        let (model, selection) = (&self.folded.model, self.spec.selection.with(&self.resolved));
        let spec = &ConversionSpec { selection, too_sensitive, ..self.spec };
        let mut full_dequantized = HashSet::new();
        loop {
            let judge = Judge { spec, opset: onnx_opset(model), full_dequantized: &full_dequantized };
            let rewritten = Rewriter::new(model, judge).main_graph()?;
            if rewritten.torn.is_empty() {
                return Ok(rewritten);
            }
            full_dequantized.extend(rewritten.torn);
        }
    }
}

/// The first operator set in which QuantizeLinear and DequantizeLinear take scales in half.
const WITH_HALF_SCALES: i64 = 19;

/// The first operator set with operators for BF16 at all.
const FIRST_WITH_BF16: i64 = 13;

/// The model in an operator set that has the half type, and what the report says if that is a later one than its own
/// could be.
fn with_opset(model: Model, spec: &ConversionSpec<'_>, opset: i64) -> Result<(Model, Option<String>)> {
    let half = spec.half;
    let has_scales = || model.graph().node.iter().any(|node| node.op_type() == "DequantizeLinear");
    let needed = match half {
        HalfType::Bf16 => raise::WITH_BF16,
        HalfType::Fp16 if spec.scales == ScaleForm::Half && has_scales() => WITH_HALF_SCALES,
        HalfType::Fp16 => opset,
    };
    if opset >= needed {
        return Ok((model, None));
    }
    match raise::raised(&model, opset, raise::WITH_BF16) {
        Ok(raised) => Ok((Model::from_proto(raised, model.path())?, None)),
        // Without scales in half the border to eight bits stays in FP32.
        Err(reason) if half == HalfType::Fp16 || opset >= FIRST_WITH_BF16 => Ok((model, Some(reason))),
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
