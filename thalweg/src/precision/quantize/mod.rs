//! INT8 as a pass over ONNX files: explicit QuantizeLinear and DequantizeLinear, where TensorRT makes eight-bit kernels
//! of them.
//!
//! In: a [`Model`], a [`CalibrationTable`] and a [`QuantizationSpec`]. Out: a model whose convolutions and matrix
//! products read eight-bit numbers, and a [`QuantizationReport`] that says which do not and why. Weights have a scale
//! for each channel, values one for the whole tensor, all symmetric: TensorRT takes nothing else. A pair of Q and DQ
//! stands once behind each value and serves all its quantised readers. Where a residual connection joins a convolution,
//! its other branch is quantised too, so that the addition becomes part of the convolution's kernel
//! (<https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html>, "Q/DQ Layer-
//! Placement Recommendations"), and so is what an average behind such an addition reads. Maximum pooling, concatenation and
//! whatever else only moves numbers is left alone: TensorRT moves Q and DQ across them. Nothing else that is not read by a
//! quantised node is touched.

mod bias;
mod plan;
mod report;
mod rewrite;
mod weights;

use prost::Message as _;

use super::CalibrationTable;
use super::Selection;
use super::convert::raise;
use super::onnx::{IR_WITH_FREE_INITIALIZERS, onnx_opset};
use crate::error::{Error, Result};
use crate::model::Model;
use plan::Plan;

pub use bias::BiasShifts;
pub use report::{QuantizationReport, QuantizedWeights, SkipReason, SkippedNode};

/// What to quantise, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuantizationSpec<'a> {
    /// What the user lets be quantised.
    pub selection: Selection<'a>,
    /// Names of nodes that stay in FP32 because they lose too much, as [`choose_mix`](super::choose_mix) finds them.
    pub too_sensitive: &'a [String],
    /// What becomes of the first and the last layers.
    pub ends: Ends,
    /// How weights are stored.
    pub weights: WeightForm,
    /// What rounding shifts on average, which biases take back; without it they stay as they are.
    pub shifts: Option<&'a BiasShifts>,
}

/// What becomes of the layers that read the network's inputs and of those that make its outputs. They cost the most
/// accuracy and, as a rule, little time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ends {
    /// They stay in FP32.
    #[default]
    Keep,
    /// They are quantised like all others.
    Quantize,
}

/// How quantised weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightForm {
    /// As eight-bit integers with a DequantizeLinear.
    #[default]
    Int8,
    /// As they were, with a QuantizeLinear and a DequantizeLinear: TensorRT 8 takes no eight-bit initializers.
    Fp32,
}

/// The values that a table needs thresholds for, so that all that can be quantised will be.
///
/// # Errors
/// As [`quantize`], but for what is wrong with a table.
pub fn quantizable_values(model: &Model, spec: &QuantizationSpec<'_>) -> Result<Vec<String>> {
    Ok(planned(&model.embedded()?, spec, None)?.1.values())
}

/// The names of the nodes that [`quantize`] would quantise, in the model's order.
pub(super) fn quantized_nodes(
    model: &Model,
    table: &CalibrationTable,
    spec: &QuantizationSpec<'_>,
) -> Result<Vec<String>> {
    let (model, plan) = planned(model, spec, Some(table))?;
    Ok(plan.nodes.iter().map(|planned| model.graph().node[planned.place].label()).collect())
}

/// Quantises a model. It takes and gives the same tensors, in FP32 as before; a node keeps its name.
///
/// # Errors
/// [`Error::InvalidSetting`] where a name in `selection` is neither a node nor an operator of the model, or where the
/// model's operator set has no scales for each channel and cannot be raised; [`Error::ExternalData`] and
/// [`Error::InvalidModel`] where the model's weights cannot be read.
pub fn quantize(
    model: &Model,
    table: &CalibrationTable,
    spec: &QuantizationSpec<'_>,
) -> Result<(Model, QuantizationReport)> {
    let original = model.embedded()?;
    let (model, plan) = planned(&original, spec, Some(table))?;
    let (mut proto, weights) = rewrite::rewrite(&model, &plan, table, spec)?;
    proto.ir_version = Some(proto.ir_version().max(IR_WITH_FREE_INITIALIZERS));
    let report = QuantizationReport {
        method: table.method,
        source: table.source.clone(),
        opset_before: onnx_opset(&original),
        opset: onnx_opset(&model),
        quantized: plan.operator_counts(&model),
        value_count: plan.values().len(),
        residual_count: plan.residuals.len(),
        pool_count: plan.pools.len(),
        skipped: plan.skipped,
        other_nodes: plan.other_nodes,
        weights,
        rest: None,
        bytes_before: original.proto().encoded_len() as u64,
        bytes_after: proto.encoded_len() as u64,
    };
    Ok((Model::from_proto(proto, model.path())?, report))
}

/// The model in an operator set with scales for each channel, and what is quantised of it. The lists name nodes of the
/// model as it was.
fn planned(
    model: &Model,
    spec: &QuantizationSpec<'_>,
    table: Option<&CalibrationTable>,
) -> Result<(Model, Plan)> {
    let resolved = spec.selection.resolve(model)?;
    let spec = &QuantizationSpec { selection: spec.selection.with(&resolved), ..*spec };
    let model = with_scales_for_channels(model)?;
    let plan = Plan::of(&model, spec, table)?;
    Ok((model, plan))
}

fn with_scales_for_channels(model: &Model) -> Result<Model> {
    let opset = onnx_opset(model);
    if opset >= raise::WITH_CHANNELS {
        return Ok(model.clone());
    }
    match raise::raised(model, opset, raise::WITH_CHANNELS) {
        Ok(raised) => Model::from_proto(raised, model.path()),
        Err(reason) => Err(Error::InvalidSetting {
            name: "precision",
            value: "int8".to_owned(),
            reason: format!(
                "the model's operator set {opset} has no scales for each channel and cannot be raised, since {reason}: export the model with operator set {}",
                raise::WITH_CHANNELS
            ),
        }),
    }
}

#[cfg(test)]
mod tests;
