//! What becomes of one node.
//!
//! In: a node and the values around it. Out: a [`Decision`]. Nothing is changed here.

use std::collections::HashSet;

use super::operators::{self, Kind, Verdict};
use super::scope::{Form, Origin, Scope};
use super::{ConversionSpec, HalfType, KeepReason, ScaleForm, ValueRange};
use crate::model::DataType;
use crate::model::proto::NodeProto;
use crate::precision::onnx::subgraphs;
use crate::precision::selection::Unselected;

/// Weights and values whose digits are lost to more than this share stay in FP32. Rounding alone costs at most 2^-11
/// of each number in FP16 and 2^-8 in BF16, so that what is above has fallen out of the type's range.
const MOST_RELATIVE_ERROR: f64 = 0.01;

/// Values may get this much larger on other samples than on those that were looked at.
const HEADROOM: f64 = 2.0;

/// What becomes of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    /// It computes in half.
    Half,
    /// It only moves FP32 values, which stay FP32.
    Moves,
    /// It reads each value in the form that there is.
    Any,
    /// It has nothing to do with FP32 values, or its subgraphs have.
    Other,
    /// It stays in FP32.
    Keep(KeepReason),
}

/// What all nodes of a model are judged by.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    pub spec: &'a ConversionSpec<'a>,
    pub opset: i64,
    /// What DequantizeLinear gives to nodes that stay in FP32: it stays with them.
    pub full_dequantized: &'a HashSet<String>,
}

impl Judge<'_> {
    /// What becomes of the node at this place of its graph.
    pub fn decide(&self, node: &NodeProto, place: usize, scope: &Scope<'_>) -> Decision {
        let is_full = |name: &String| scope.data_type(name) == Some(DataType::F32);
        let has_full = node.input.iter().chain(&node.output).any(is_full);
        let has_subgraphs = subgraphs(node).next().is_some();
        if !has_full || has_subgraphs || matches!(node.op_type(), "Constant" | "ConstantOfShape") {
            return Decision::Other;
        }
        let unselected = self.spec.selection.refusal(node);
        if unselected == Some(Unselected::Kept) {
            return Decision::Keep(KeepReason::Asked);
        }
        if self.spec.too_sensitive.contains(&node.label()) {
            return Decision::Keep(KeepReason::TooSensitive);
        }
        if !matches!(node.domain(), "" | "ai.onnx") {
            return Decision::Keep(KeepReason::Foreign { domain: node.domain().to_owned() });
        }
        let has_scales = matches!(node.op_type(), "QuantizeLinear" | "DequantizeLinear");
        if has_scales && self.spec.scales == ScaleForm::Fp32 {
            return Decision::Keep(KeepReason::Quantized);
        }
        let gives_full = node.output.first().is_some_and(|name| self.full_dequantized.contains(name));
        if node.op_type() == "DequantizeLinear" && gives_full {
            return Decision::Keep(KeepReason::Quantized);
        }
        match operators::verdict(node.op_type(), self.spec.half, self.opset) {
            Verdict::Half(Kind::Any) => Decision::Any,
            // DequantizeLinear goes with who reads it.
            Verdict::Half(Kind::Compute) if unselected.is_some() && node.op_type() != "DequantizeLinear" => {
                Decision::Keep(KeepReason::NotListed)
            }
            _ if scope.sizes.contains(&place) => Decision::Keep(KeepReason::Size),
            Verdict::Kept(reason) => Decision::Keep(KeepReason::Operator { reason: reason.to_owned() }),
            Verdict::NeedsOpset(needed) => Decision::Keep(KeepReason::Opset { needed }),
            Verdict::Unknown => Decision::Keep(KeepReason::NoHalfVersion),
            Verdict::Half(kind) => {
                match obstacle(node, kind, scope).or_else(|| self.out_of_range(node, scope)) {
                    Some(reason) => Decision::Keep(reason),
                    None if kind == Kind::Follow => follow(node, scope),
                    None => Decision::Half,
                }
            }
        }
    }

    /// Why the values that a node reads or makes do not fit in half, as far as somebody looked.
    fn out_of_range(&self, node: &NodeProto, scope: &Scope<'_>) -> Option<KeepReason> {
        let ranges = self.spec.ranges?;
        let is_made = |name: &&String| matches!(scope.origin(name), Some(Origin::Made(_)));
        let outputs = node.output.iter().filter(|name| scope.data_type(name) == Some(DataType::F32));
        let values = half_inputs(node).filter(is_made).chain(outputs);
        values
            .filter_map(|name| Some((name, ranges.get(name)?)))
            .find_map(|(name, range)| reason_of_range(name, range, self.spec.half))
    }
}

fn reason_of_range(name: &str, range: &ValueRange, half: HalfType) -> Option<KeepReason> {
    let value = name.to_owned();
    if range.largest * HEADROOM > half.largest() {
        return Some(KeepReason::Overflow { value, largest: range.largest });
    }
    let relative_error = range.relative_error;
    (relative_error > MOST_RELATIVE_ERROR).then_some(KeepReason::Underflow { value, relative_error })
}

/// Why a node's inputs forbid half.
fn obstacle(node: &NodeProto, kind: Kind, scope: &Scope<'_>) -> Option<KeepReason> {
    half_inputs(node).find_map(|name| {
        if scope.data_type(name).is_none() {
            return Some(KeepReason::UnknownType { value: name.clone() });
        }
        let is_full = scope.origin(name) != Some(Origin::Made(Form::Half));
        if kind == Kind::Compute && is_full && scope.is_dequantized(name) {
            return Some(KeepReason::Quantized);
        }
        let loss = &scope.weight(name)?.loss;
        let tensor = name.clone();
        if loss.clipped > 0 {
            return Some(KeepReason::WeightOverflow { tensor, largest: loss.largest });
        }
        let relative_error = loss.relative_error;
        (relative_error > MOST_RELATIVE_ERROR)
            .then_some(KeepReason::WeightUnderflow { tensor, relative_error })
    })
}

/// A node that moves values takes half where one of them is half, or where all are weights.
fn follow(node: &NodeProto, scope: &Scope<'_>) -> Decision {
    let origins: Vec<_> = half_inputs(node).filter_map(|name| scope.origin(name)).collect();
    let is_half = origins.contains(&Origin::Made(Form::Half));
    let is_weight = origins.iter().all(|origin| *origin == Origin::Weight);
    match origins.is_empty() {
        true => Decision::Other,
        false if is_half || is_weight => Decision::Half,
        false => Decision::Moves,
    }
}

/// The inputs that would be half with the node.
fn half_inputs(node: &NodeProto) -> impl Iterator<Item = &String> {
    let given = node.input.iter().enumerate().filter(|(_, name)| !name.is_empty());
    given.filter(|(index, _)| operators::is_half_input(node.op_type(), *index)).map(|(_, name)| name)
}
