//! Which operators of ONNX have a half version, since which operator set, and which stay in FP32 all the same.
//!
//! The operator sets are those from which a schema's type constraint of the first floating-point input admits
//! `tensor(float16)` and `tensor(bfloat16)` (<https://onnx.ai/onnx/operators/>).

use super::HalfType;

/// How an operator treats its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It computes: half is faster.
    Compute,
    /// It only moves, compares or chooses: it takes what it gets, since a cast around it would gain nothing.
    Follow,
    /// It takes any type and gives what its attributes say: it never needs a cast.
    Any,
}

/// One row: name, kind, first operator set with FP16, first with BF16.
type Row = (&'static str, Kind, i64, i64);

const fn compute(name: &'static str, fp16: i64, bf16: i64) -> Row {
    (name, Kind::Compute, fp16, bf16)
}

const fn follow(name: &'static str, fp16: i64, bf16: i64) -> Row {
    (name, Kind::Follow, fp16, bf16)
}

const fn any(name: &'static str) -> Row {
    (name, Kind::Any, 1, 13)
}

const OPERATORS: [Row; 104] = [
    compute("Abs", 1, 13),
    compute("Add", 1, 13),
    compute("Attention", 23, 23),
    compute("AveragePool", 1, 22),
    compute("BatchNormalization", 1, 14),
    compute("Ceil", 1, 13),
    compute("Celu", 28, 28),
    compute("Clip", 1, 13),
    compute("Conv", 1, 22),
    compute("ConvTranspose", 1, 22),
    compute("Cos", 7, 22),
    compute("DeformConv", 19, 22),
    compute("DequantizeLinear", 19, 19),
    compute("Div", 1, 13),
    compute("Dropout", 1, 13),
    compute("Einsum", 12, 28),
    compute("Elu", 1, 22),
    compute("Erf", 9, 13),
    compute("Floor", 1, 13),
    compute("GRU", 1, 22),
    compute("Gelu", 20, 20),
    compute("Gemm", 1, 13),
    compute("GlobalAveragePool", 1, 22),
    compute("GlobalMaxPool", 1, 22),
    compute("GridSample", 16, 22),
    compute("GroupNormalization", 21, 21),
    compute("HardSigmoid", 1, 22),
    compute("HardSwish", 14, 22),
    compute("InstanceNormalization", 1, 22),
    compute("LRN", 1, 13),
    compute("LSTM", 1, 22),
    compute("LayerNormalization", 17, 17),
    compute("LeakyRelu", 1, 16),
    compute("LogSoftmax", 1, 13),
    compute("LpPool", 1, 22),
    compute("MatMul", 1, 13),
    compute("Max", 1, 13),
    compute("MaxPool", 1, 22),
    compute("Mean", 1, 13),
    compute("Min", 1, 13),
    compute("Mish", 18, 22),
    compute("Mul", 1, 13),
    compute("Neg", 1, 13),
    compute("PRelu", 1, 16),
    compute("RMSNormalization", 23, 23),
    compute("RNN", 1, 22),
    compute("Reciprocal", 1, 13),
    compute("ReduceMax", 1, 13),
    compute("ReduceMean", 1, 13),
    compute("ReduceMin", 1, 13),
    compute("Relu", 1, 13),
    compute("Resize", 10, 13),
    compute("Round", 11, 22),
    compute("Selu", 1, 22),
    compute("Sigmoid", 1, 13),
    compute("Sign", 9, 13),
    compute("Sin", 7, 22),
    compute("Softmax", 1, 13),
    compute("Softsign", 1, 22),
    compute("Sqrt", 1, 13),
    compute("Sub", 1, 13),
    compute("Sum", 1, 13),
    compute("SwiGLU", 28, 28),
    compute("Swish", 24, 24),
    compute("Tanh", 1, 13),
    compute("ThresholdedRelu", 10, 22),
    compute("Upsample", 1, NEVER),
    follow("ArgMax", 1, 13),
    follow("ArgMin", 1, 13),
    follow("CenterCropPad", 18, 18),
    follow("Compress", 9, 28),
    follow("Concat", 1, 13),
    follow("DepthToSpace", 1, 13),
    follow("Equal", 11, 13),
    follow("Expand", 8, 13),
    follow("Flatten", 1, 13),
    follow("Gather", 1, 13),
    follow("GatherElements", 11, 13),
    follow("GatherND", 11, 13),
    follow("Greater", 1, 13),
    follow("GreaterOrEqual", 12, 16),
    follow("Hardmax", 1, 13),
    follow("Identity", 1, 13),
    follow("IsNaN", 9, 13),
    follow("Less", 1, 13),
    follow("LessOrEqual", 12, 16),
    follow("NonZero", 9, 13),
    follow("Pad", 1, 13),
    follow("Reshape", 1, 13),
    follow("QuantizeLinear", 19, 19),
    follow("ReverseSequence", 10, 28),
    follow("ScatterElements", 11, 13),
    follow("ScatterND", 11, 13),
    follow("Slice", 1, 13),
    follow("SpaceToDepth", 1, 13),
    follow("Split", 1, 13),
    follow("Squeeze", 1, 13),
    follow("Tile", 1, 13),
    follow("TopK", 1, 24),
    follow("Transpose", 1, 13),
    follow("Trilu", 14, 14),
    follow("Unsqueeze", 1, 13),
    follow("Where", 9, 16),
    any("Cast"),
];

/// No operator set has it.
const NEVER: i64 = i64::MAX;

/// Operators that are in no row above because they only look at a value's shape.
const SHAPE_READERS: [&str; 2] = ["Shape", "Size"];

/// Operators that have a half version and stay in FP32, with the reason.
const KEPT: [(&str, &str); 22] = [
    ("Pow", "a square passes FP16's largest number from 256 on"),
    ("Exp", "its result passes FP16's largest number from 11.1 on"),
    ("Log", "it magnifies what is lost near zero"),
    ("Softplus", "it takes the exponential of its input"),
    ("Acosh", "it squares its input"),
    ("Asinh", "it squares its input"),
    ("Cosh", "its result passes FP16's largest number from 11.8 on"),
    ("Sinh", "its result passes FP16's largest number from 11.8 on"),
    ("CumSum", "a running sum loses what is small against it"),
    ("CumProd", "a running product leaves the range of FP16"),
    ("ReduceSum", "a sum of many numbers leaves the range of FP16"),
    ("ReduceL1", "a sum of many numbers leaves the range of FP16"),
    ("ReduceL2", "a sum of squares leaves the range of FP16"),
    ("ReduceSumSquare", "a sum of squares leaves the range of FP16"),
    ("ReduceLogSum", "a sum of many numbers leaves the range of FP16"),
    ("ReduceLogSumExp", "a sum of exponentials leaves the range of FP16"),
    ("ReduceProd", "a product of many numbers leaves the range of FP16"),
    ("LpNormalization", "a sum of squares leaves the range of FP16"),
    ("MeanVarianceNormalization", "a sum of squares leaves the range of FP16"),
    ("DynamicQuantizeLinear", "it is the border to eight bits"),
    ("Range", "it counts, and FP16 is not exact above 2048"),
    ("RoiAlign", "its coordinates need more digits than half has"),
];

/// Operators of which TensorRT has no BF16 version: TensorRT for RTX 1.7 refuses models that have them.
const NOT_IN_TENSORRT_BF16: [&str; 2] = ["ConvTranspose", "HardSwish"];

/// What may be done with an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has a half version in this operator set.
    Half(Kind),
    /// It has one only from this operator set on.
    NeedsOpset(i64),
    /// It has one, and this is why it is not used.
    Kept(&'static str),
    /// None is known.
    Unknown,
}

/// What may be done with an operator of ONNX's own domain.
pub(super) fn verdict(operator: &str, half: HalfType, opset: i64) -> Verdict {
    if SHAPE_READERS.contains(&operator) {
        return Verdict::Half(Kind::Any);
    }
    if let Some((_, reason)) = KEPT.iter().find(|(name, _)| *name == operator) {
        return Verdict::Kept(reason);
    }
    if half == HalfType::Bf16 && NOT_IN_TENSORRT_BF16.contains(&operator) {
        return Verdict::Kept("TensorRT has no BF16 version of it");
    }
    let Some((_, kind, fp16, bf16)) = OPERATORS.iter().find(|(name, ..)| *name == operator) else {
        return Verdict::Unknown;
    };
    match if half == HalfType::Fp16 { *fp16 } else { *bf16 } {
        NEVER => Verdict::Unknown,
        since if opset < since => Verdict::NeedsOpset(since),
        _ => Verdict::Half(*kind),
    }
}

/// Whether an operator is in one of the lists here.
pub(super) fn is_listed(operator: &str) -> bool {
    let rows = OPERATORS.iter().map(|row| row.0).chain(KEPT.iter().map(|row| row.0)).chain(SHAPE_READERS);
    rows.into_iter().any(|name| name == operator)
}

/// Whether an operator's input takes the type of its first one. Others stay as they are: scales, coordinates of
/// samples, a ratio.
pub(super) fn is_half_input(operator: &str, index: usize) -> bool {
    index == 0 || !matches!(operator, "Resize" | "Upsample" | "GridSample" | "Dropout")
}

/// Whether an operator's output takes the type of its first input. The statistics of a normalisation do not.
pub(super) fn is_half_output(operator: &str, index: usize) -> bool {
    index == 0 || operator != "LayerNormalization"
}

/// Operators that calculate sizes and indices out of floating-point numbers; see [`sizes`](super::sizes).
pub(super) fn is_arithmetic(operator: &str) -> bool {
    matches!(
        operator,
        "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Floor"
            | "Ceil"
            | "Round"
            | "Sqrt"
            | "Neg"
            | "Reciprocal"
            | "Pow"
            | "Min"
            | "Max"
            | "Mod"
            | "Clip"
            | "Where"
            | "Cast"
            | "Identity"
            | "Concat"
            | "Slice"
            | "Gather"
            | "Squeeze"
            | "Unsqueeze"
            | "Reshape"
            | "Range"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_told_by_its_operator_set() {
        assert_eq!(verdict("Conv", HalfType::Fp16, 9), Verdict::Half(Kind::Compute));
        assert_eq!(verdict("Conv", HalfType::Bf16, 17), Verdict::NeedsOpset(22));
        assert_eq!(verdict("Equal", HalfType::Fp16, 9), Verdict::NeedsOpset(11));
        assert_eq!(verdict("Upsample", HalfType::Bf16, 9), Verdict::Unknown);
        assert!(matches!(verdict("Pow", HalfType::Fp16, 13), Verdict::Kept(_)));
        assert_eq!(verdict("Shape", HalfType::Bf16, 9), Verdict::Half(Kind::Any));
    }

    #[test]
    fn no_operator_is_in_two_lists() {
        let rows = OPERATORS.iter().map(|row| row.0).chain(KEPT.iter().map(|row| row.0));
        let mut names: Vec<_> = rows.collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
