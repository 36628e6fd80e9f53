//! What a conversion did, as plain data.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{HalfType, RangeSource};

/// What a conversion did. Nodes of subgraphs are counted like all others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConversionReport {
    /// The type that was converted to.
    pub precision: HalfType,
    /// Version of ONNX's operator set that the model had.
    pub opset_before: i64,
    /// The version that it has now: for BF16 it is raised to 22, the first that has it for convolutions,
    /// and for FP16 around eight bits too, since 19 is the first with scales in half.
    pub opset: i64,
    /// Why it could not be raised, if so.
    pub not_raised: Option<String>,
    /// Nodes that take and give half now.
    pub half_nodes: usize,
    /// Those of them inside `If`, `Loop` and `Scan` whose values nobody could look at, where ranges were looked at otherwise;
    /// files of earlier versions lack it.
    #[serde(default)]
    pub unmeasured_nodes: usize,
    /// Nodes that are gone, since what they make of constants is a weight now; files of earlier versions lack it.
    #[serde(default)]
    pub folded_nodes: usize,
    /// Values of constants alone that are no weights, each with the reason; files of earlier versions lack it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_folded: Vec<String>,
    /// Nodes that have nothing to do with FP32 numbers, or only look at their shape, or make other types of them.
    pub other_nodes: usize,
    /// Nodes that only move values which are FP32 anyway.
    pub moving_nodes: usize,
    /// Nodes that compute in FP32, and why.
    pub kept: Vec<KeptNode>,
    /// Casts that were put in.
    pub cast_count: usize,
    /// Weights.
    pub weights: WeightReport,
    /// The model's size with all its weights, in bytes.
    pub bytes_before: u64,
    /// The same of the converted model.
    pub bytes_after: u64,
    /// What the ranges of values were taken from; `None` where nobody looked.
    pub ranges: Option<RangeSource>,
}

/// A node that stayed in FP32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptNode {
    /// Its name, or its operator and output where it has none.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// Why.
    pub reason: KeepReason,
}

/// Why a node stays in FP32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum KeepReason {
    /// The user said so.
    Asked,
    /// The user listed what alone is lowered, and it is not on the list.
    NotListed,
    /// It loses too much for the limit.
    TooSensitive,
    /// The operator loses too much in half.
    Operator {
        /// What it would lose.
        reason: String,
    },
    /// The operator is of another domain than ONNX's, so nobody knows which types it takes.
    Foreign {
        /// The domain.
        domain: String,
    },
    /// No half version of the operator is known.
    NoHalfVersion,
    /// The operator has a half version only in a later operator set.
    Opset {
        /// The first one that has it.
        needed: i64,
    },
    /// The type of one of its inputs follows from nothing.
    UnknownType {
        /// The input.
        value: String,
    },
    /// It calculates sizes or indices, which half would round.
    Size,
    /// It reads what DequantizeLinear gives in FP32, or gives that: both together are one operation in eight bits.
    Quantized,
    /// A weight is too large.
    WeightOverflow {
        /// The weight.
        tensor: String,
        /// Its largest magnitude.
        largest: f64,
    },
    /// A weight is so small that half has too few digits for it.
    WeightUnderflow {
        /// The weight.
        tensor: String,
        /// Sum of all errors over the sum of all magnitudes.
        relative_error: f64,
    },
    /// A value gets too large.
    Overflow {
        /// The value.
        value: String,
        /// Its largest magnitude.
        largest: f64,
    },
    /// A value is so small that half has too few digits for it.
    Underflow {
        /// The value.
        value: String,
        /// Sum of all errors over the sum of all magnitudes.
        relative_error: f64,
    },
}

impl KeepReason {
    /// The kind of reason in a few words, for counting.
    pub fn summary(&self) -> String {
        match self {
            Self::Asked => "asked for".to_owned(),
            Self::NotListed => "is not on the list of what is lowered".to_owned(),
            Self::TooSensitive => "loses too much for the limit".to_owned(),
            Self::Operator { reason } => reason.clone(),
            Self::Foreign { domain } => format!("operators of {domain} have types that nobody knows"),
            Self::NoHalfVersion => "no half version of the operator is known".to_owned(),
            Self::Opset { needed } => format!("has a half version from operator set {needed} on"),
            Self::UnknownType { .. } => "the type of an input is not known".to_owned(),
            Self::Size => "calculates sizes or indices, which half would round".to_owned(),
            Self::Quantized => "is one operation in eight bits with what stays in fp32".to_owned(),
            Self::WeightOverflow { .. } => "a weight is too large for half".to_owned(),
            Self::WeightUnderflow { .. } => "a weight is too small for half's digits".to_owned(),
            Self::Overflow { .. } => "values get too large for half".to_owned(),
            Self::Underflow { .. } => "values are too small for half's digits".to_owned(),
        }
    }
}

/// With the tensor that it is about.
impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())?;
        match self {
            Self::UnknownType { value } => write!(f, ": `{value}`"),
            Self::WeightOverflow { tensor: name, largest } | Self::Overflow { value: name, largest } => {
                write!(f, ": `{name}` reaches {largest:.3e}")
            }
            Self::WeightUnderflow { tensor: name, relative_error }
            | Self::Underflow { value: name, relative_error } => {
                write!(f, ": `{name}` would be off by {:.1} %", relative_error * 100.0)
            }
            _ => Ok(()),
        }
    }
}

/// What became of the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightReport {
    /// Tensors that are half now.
    pub tensors: usize,
    /// Their elements.
    pub elements: u64,
    /// Elements that have fewer significant bits than the type has, since they are so small.
    pub subnormal: u64,
    /// Elements that became zero.
    pub flushed_to_zero: u64,
    /// Elements beyond the type's largest number. Nodes that read them stay in FP32, so there are none in half.
    pub clipped: u64,
    /// Tensors that are there in both types, since nodes of both read them.
    pub doubled_tensors: usize,
}
