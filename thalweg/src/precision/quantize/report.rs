//! What a quantisation did, as plain data.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::precision::{CalibrationMethod, ConversionReport, RangeSource};

/// What a quantisation did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizationReport {
    /// How thresholds were chosen; `None` where the table does not say.
    pub method: Option<CalibrationMethod>,
    /// What they were taken from; `None` as above.
    pub source: Option<RangeSource>,
    /// Version of ONNX's operator set that the model had.
    pub opset_before: i64,
    /// The version that it has now: 13 is the first with scales for each channel.
    pub opset: i64,
    /// Nodes that read eight bits now, by operator.
    pub quantized: BTreeMap<String, usize>,
    /// Values that are quantised, each once for all that read it.
    pub value_count: usize,
    /// Residual connections whose other branch is quantised.
    pub residual_count: usize,
    /// Averages behind such additions whose input is quantised; files of earlier versions lack them.
    #[serde(default)]
    pub pool_count: usize,
    /// Nodes that could read eight bits and do not, and why.
    pub skipped: Vec<SkippedNode>,
    /// All other nodes, which stay as they were.
    pub other_nodes: usize,
    /// Weights.
    pub weights: QuantizedWeights,
    /// What became of the nodes that stayed out of eight bits, where they were converted to half; files of earlier versions
    /// lack it.
    #[serde(default)]
    pub rest: Option<Box<ConversionReport>>,
    /// The model's size with all its weights, in bytes.
    pub bytes_before: u64,
    /// The same of the quantised model.
    pub bytes_after: u64,
}

impl QuantizationReport {
    /// How many nodes read eight bits.
    pub fn quantized_nodes(&self) -> usize {
        self.quantized.values().sum()
    }
}

/// What became of the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuantizedWeights {
    /// Tensors that are eight bits now.
    pub tensors: usize,
    /// Their elements.
    pub elements: u64,
    /// Tensors that are there in FP32 too, since other nodes read them.
    pub doubled_tensors: usize,
    /// Sum of all errors over the sum of all magnitudes, of the worst tensor.
    pub relative_error: f64,
    /// Biases that take back what rounding shifts on average; files of earlier versions lack it.
    #[serde(default)]
    pub corrected_biases: usize,
}

/// A node that could read eight bits and does not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkippedNode {
    /// Its name, or its operator and output where it has none.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why a node still reads FP32.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SkipReason {
    /// The user said so.
    Asked,
    /// The user listed what alone is lowered, and it is not on the list.
    NotListed,
    /// It loses too much for the limit.
    TooSensitive,
    /// It reads the network's inputs with no such layer in between.
    First,
    /// It makes the network's outputs with no such layer in between.
    Last,
    /// It is in a subgraph of `If`, `Loop` or `Scan`, whose values nobody can look at.
    Subgraph,
    /// What it multiplies with is calculated while the network runs.
    NoWeight,
    /// Its values are not 32-bit floating-point numbers.
    NotFp32,
    /// It reads what DequantizeLinear gives.
    Quantized,
    /// It reads what a softmax gives: eight bits have few steps for what is close to 0.
    Softmax,
    /// A weight is not finite.
    WeightNotFinite {
        /// The weight.
        tensor: String,
    },
    /// The range of what it reads is not known, or it was always 0.
    NoRange {
        /// The value.
        value: String,
    },
}

impl SkipReason {
    /// The kind of reason in a few words, for counting.
    pub fn summary(&self) -> &'static str {
        match self {
            Self::Asked => "asked for",
            Self::NotListed => "is not on the list of what is lowered",
            Self::TooSensitive => "loses too much for the limit",
            Self::First => "reads the network's input",
            Self::Last => "makes the network's output",
            Self::Subgraph => "is in a subgraph, where no range can be looked at",
            Self::NoWeight => "multiplies two values, none of which is a weight",
            Self::NotFp32 => "does not compute in fp32",
            Self::Quantized => "reads eight bits already",
            Self::Softmax => "reads what a softmax gives",
            Self::WeightNotFinite { .. } => "a weight is not finite",
            Self::NoRange { .. } => "the range of what it reads is not known, or it was always 0",
        }
    }
}

/// With the tensor that it is about.
impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.summary())?;
        match self {
            Self::WeightNotFinite { tensor: name } | Self::NoRange { value: name } => write!(f, ": `{name}`"),
            _ => Ok(()),
        }
    }
}
