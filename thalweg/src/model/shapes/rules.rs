//! Which rule gives the output shapes of which operator.

use super::call::{Call, Outputs, Stop};
use super::{algebra, layout, spatial};

/// Domains whose operators we know: ONNX's own, and those of ONNX Runtime, which its optimiser and quantiser
/// put into files. Another domain may use a known name for something else.
pub const KNOWN_DOMAINS: [&str; 3] = ["", "ai.onnx", "com.microsoft"];

/// The output shapes of a node.
pub fn apply(call: &Call<'_>) -> Outputs {
    if !KNOWN_DOMAINS.contains(&call.node.domain()) {
        return Err(Stop::Unknown);
    }
    let operator = call.node.op_type();
    if is_element_wise(operator) {
        return same_as_first(call);
    }
    if is_broadcast(operator) {
        return algebra::broadcast(call);
    }
    if operator.starts_with("Reduce") {
        return algebra::reduce(call);
    }
    match operator {
        "Conv" | "ConvInteger" | "FusedConv" | "DeformConv" => spatial::conv(call, 1),
        "QLinearConv" => spatial::conv(call, 3),
        "ConvTranspose" => spatial::conv_transpose(call),
        "MaxPool" | "AveragePool" | "LpPool" => spatial::pool(call),
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" | "QLinearGlobalAveragePool" => {
            spatial::global_pool(call)
        }
        "Resize" | "Upsample" => spatial::resize(call),
        "DepthToSpace" => spatial::depth_to_space(call),
        "SpaceToDepth" => spatial::space_to_depth(call),
        "Pad" => spatial::pad(call),
        "GridSample" => spatial::grid_sample(call),
        "RoiAlign" => spatial::roi_align(call),
        "MatMul" | "MatMulInteger" | "MatMulIntegerToFloat" | "DynamicQuantizeMatMul" => {
            algebra::matmul(call, 1)
        }
        "QLinearMatMul" => algebra::matmul(call, 3),
        "MatMulNBits" => algebra::matmul_n_bits(call),
        "FusedMatMul" => algebra::fused_matmul(call),
        "Gemm" | "FusedGemm" => algebra::gemm(call),
        "Einsum" => algebra::einsum(call),
        "LSTM" | "GRU" | "RNN" | "DynamicQuantizeLSTM" => algebra::recurrent(call),
        "Attention" | "MultiHeadAttention" => algebra::attention(call),
        "ArgMax" | "ArgMin" => algebra::arg_reduce(call),
        "TopK" => algebra::top_k(call),
        "LayerNormalization" => layer_normalization(call),
        "SkipLayerNormalization"
        | "SimplifiedLayerNormalization"
        | "SkipSimplifiedLayerNormalization"
        | "RMSNormalization" => same_as_first(call),
        // The second output is the mask.
        "Dropout" => Ok(vec![call.shape(0)?.to_vec(); 2]),
        _ => layout::apply(call),
    }
}

/// The first output has the shape of the first input. Further outputs (masks, statistics of training) stay
/// unknown.
fn same_as_first(call: &Call<'_>) -> Outputs {
    Ok(vec![call.shape(0)?.to_vec()])
}

/// The result; then, for training, the mean and the inverse deviation of every group.
fn layer_normalization(call: &Call<'_>) -> Outputs {
    let shape = call.shape(0)?.to_vec();
    let axis = call.axis("axis", -1, shape.len())?;
    let mut statistics = shape.clone();
    statistics[axis..].fill(1);
    Ok(vec![shape, statistics.clone(), statistics])
}

/// Operators that change elements, not shapes. Also those that work along an axis, such as `Softmax`.
fn is_element_wise(operator: &str) -> bool {
    is_activation(operator)
        || matches!(
            operator,
            "Abs"
                | "Acos"
                | "Acosh"
                | "Asin"
                | "Asinh"
                | "Atan"
                | "Atanh"
                | "BatchNormalization"
                | "Bernoulli"
                | "BitwiseNot"
                | "Cast"
                | "CastLike"
                | "Ceil"
                | "Clip"
                | "Cos"
                | "Cosh"
                | "CumProd"
                | "CumSum"
                | "DequantizeLinear"
                | "Erf"
                | "Exp"
                | "EyeLike"
                | "Floor"
                | "GroupNormalization"
                | "GroupNorm"
                | "Identity"
                | "InstanceNormalization"
                | "IsInf"
                | "IsNaN"
                | "LRN"
                | "Log"
                | "LpNormalization"
                | "MeanVarianceNormalization"
                | "Neg"
                | "Not"
                | "QuantizeLinear"
                | "RandomNormalLike"
                | "RandomUniformLike"
                | "Reciprocal"
                | "ReverseSequence"
                | "Round"
                | "Scatter"
                | "ScatterElements"
                | "ScatterND"
                | "Sign"
                | "Sin"
                | "Sinh"
                | "Sqrt"
                | "Tan"
                | "Trilu"
                | "RotaryEmbedding"
        )
}

fn is_activation(operator: &str) -> bool {
    matches!(
        operator,
        "Relu"
            | "LeakyRelu"
            | "PRelu"
            | "Sigmoid"
            | "HardSigmoid"
            | "HardSwish"
            | "Tanh"
            | "Softmax"
            | "LogSoftmax"
            | "Hardmax"
            | "Elu"
            | "Selu"
            | "Celu"
            | "Gelu"
            | "FastGelu"
            | "BiasGelu"
            | "QuickGelu"
            | "Mish"
            | "Swish"
            | "Softplus"
            | "Softsign"
            | "Shrink"
            | "ThresholdedRelu"
            | "QLinearSigmoid"
            | "QLinearLeakyRelu"
            | "QLinearSoftmax"
    )
}

fn is_broadcast(operator: &str) -> bool {
    matches!(
        operator,
        "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Pow"
            | "Mod"
            | "And"
            | "Or"
            | "Xor"
            | "Equal"
            | "Less"
            | "Greater"
            | "LessOrEqual"
            | "GreaterOrEqual"
            | "Where"
            | "Max"
            | "Min"
            | "Sum"
            | "Mean"
            | "BitShift"
            | "BitwiseAnd"
            | "BitwiseOr"
            | "BitwiseXor"
            | "QLinearAdd"
            | "QLinearMul"
    )
}
