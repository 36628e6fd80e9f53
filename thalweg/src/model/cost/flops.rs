//! How many arithmetic operations a node takes.
//!
//! Counted as TensorFlow's `flops_registry.py` does, where it has the operator: a multiply-add is 2; an addition,
//! a comparison, a division or a logarithm is 1 per element, and so is every other function of one number here;
//! `Softmax` is 5; pooling is the area of its kernel per result. Other operators are sums of these. Moving data
//! is 0. Operations on integers count the same.

use super::super::proto::NodeProto;
use super::super::{Shape, Shapes};

/// Subtract the maximum (2: find it, subtract), exponential, sum, divide.
const SOFTMAX: u64 = 5;
/// Mean (1), variance (3: subtract, square, add), normalise (1), scale and shift (2).
const NORMALIZATION: u64 = 7;
/// With fixed statistics only a scale and a shift are left.
const BATCH_NORMALIZATION: u64 = 2;
/// Negate, exponential, add, divide.
const SIGMOID: u64 = 4;
/// Divide by the scale, round, add the zero point, clip.
const QUANTIZE: u64 = 4;
/// Subtract the zero point, multiply by the scale.
const DEQUANTIZE: u64 = 2;
/// `a + t * (b - a)`.
const LINEAR_INTERPOLATION: u64 = 3;
/// Four points, a multiply-add each.
const CUBIC_INTERPOLATION: u64 = 8;

/// The operations of a node; `None` where its operator or a shape that they depend on is unknown.
pub fn of_node(node: &NodeProto, shapes: &Shapes) -> Option<u64> {
    let view = View { node, shapes };
    let operator = node.op_type();
    match operator {
        "Conv" | "ConvInteger" | "FusedConv" | "DeformConv" => view.conv(1, 2),
        "QLinearConv" => view.conv(3, 8),
        "ConvTranspose" => view.conv_transpose(),
        "MatMul" | "MatMulInteger" | "MatMulIntegerToFloat" | "DynamicQuantizeMatMul" | "MatMulNBits" => {
            view.matmul(0)
        }
        "QLinearMatMul" => view.matmul(0),
        "FusedMatMul" => view.matmul(node.int("transA").unwrap_or(0)),
        "Gemm" | "FusedGemm" => {
            let bias = if view.has_input(2) { view.output_count()? } else { 0 };
            Some(view.matmul(node.int("transA").unwrap_or(0))?.saturating_add(bias))
        }
        "Einsum" => view.einsum(),
        "LSTM" | "DynamicQuantizeLSTM" => view.recurrent(4),
        "GRU" => view.recurrent(3),
        "RNN" => view.recurrent(1),
        "Attention" | "MultiHeadAttention" => view.attention(),
        "MaxPool" | "AveragePool" | "LpPool" => {
            let mut kernel = node.ints("kernel_shape")?.iter().map(|size| u64::try_from(*size).ok());
            let area = kernel.try_fold(1u64, |area, size| Some(area.saturating_mul(size?)));
            Some(view.output_count()?.saturating_mul(area?))
        }
        "Resize" | "Upsample" | "GridSample" => view.resize(),
        // One operand less than there are inputs, each once per element of the result.
        "Max" | "Min" | "Sum" | "Mean" => {
            let operands = u64::try_from(node.input.len()).ok()?.saturating_sub(1).max(1);
            Some(view.output_count()?.saturating_mul(operands))
        }
        _ if reads_every_element(operator) => view.count(node.input.first()?),
        _ => Some(view.output_count()?.saturating_mul(per_output_element(operator)?)),
    }
}

/// Reductions: an operation per element of the input.
fn reads_every_element(operator: &str) -> bool {
    operator.starts_with("Reduce")
        || matches!(
            operator,
            "GlobalAveragePool"
                | "GlobalMaxPool"
                | "GlobalLpPool"
                | "ArgMax"
                | "ArgMin"
                | "TopK"
                | "CumSum"
                | "CumProd"
        )
}

/// Operations per element of the first output.
fn per_output_element(operator: &str) -> Option<u64> {
    if is_data_movement(operator) {
        return Some(0);
    }
    Some(match operator {
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "And" | "Or" | "Xor" | "Not" | "Equal" | "Less"
        | "Greater" | "LessOrEqual" | "GreaterOrEqual" | "Where" | "BitShift" | "BitwiseAnd"
        | "BitwiseOr" | "BitwiseXor" | "BitwiseNot" => 1,
        "Relu" | "Abs" | "Neg" | "Floor" | "Ceil" | "Round" | "Sign" | "Sqrt" | "Reciprocal" | "Exp"
        | "Log" | "Erf" | "Tanh" | "Sin" | "Cos" | "Tan" | "Asin" | "Acos" | "Atan" | "Sinh" | "Cosh"
        | "Asinh" | "Acosh" | "Atanh" | "IsNaN" | "IsInf" | "ThresholdedRelu" => 1,
        // A comparison and what follows from it.
        "Clip" | "LeakyRelu" | "PRelu" | "Softsign" | "Softplus" | "Shrink" => 2,
        "Elu" | "Celu" | "Selu" => 3,
        // Multiply-add, clip; HardSwish multiplies once more.
        "HardSigmoid" => 4,
        "HardSwish" => 5,
        "Sigmoid" => SIGMOID,
        "Swish" | "QuickGelu" => SIGMOID + 1,
        // Softplus, tanh, multiply.
        "Mish" => 4,
        // x / 2 * (1 + erf(x / sqrt 2)).
        "Gelu" | "FastGelu" => 5,
        "BiasGelu" => 6,
        "Softmax" | "LogSoftmax" => SOFTMAX,
        "Hardmax" => 2,
        "BatchNormalization" => BATCH_NORMALIZATION,
        "LayerNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "GroupNorm"
        | "MeanVarianceNormalization" => NORMALIZATION,
        "SkipLayerNormalization" => NORMALIZATION + 1,
        // Without the mean: square, add, scale, weight.
        "RMSNormalization" | "SimplifiedLayerNormalization" => 4,
        "SkipSimplifiedLayerNormalization" => 5,
        // Square, add, scale.
        "LpNormalization" | "LRN" => 3,
        "QuantizeLinear" => QUANTIZE,
        "DequantizeLinear" => DEQUANTIZE,
        // The range first.
        "DynamicQuantizeLinear" => QUANTIZE + 2,
        // Two products and a sum per element.
        "RotaryEmbedding" => 3,
        "QLinearAdd" | "QLinearMul" => 1 + 2 * DEQUANTIZE + QUANTIZE,
        "QLinearSigmoid" => SIGMOID + DEQUANTIZE + QUANTIZE,
        _ => return None,
    })
}

/// Operators that only copy, select or make elements.
fn is_data_movement(operator: &str) -> bool {
    matches!(
        operator,
        "Reshape"
            | "Flatten"
            | "Transpose"
            | "Squeeze"
            | "Unsqueeze"
            | "Concat"
            | "Split"
            | "Slice"
            | "Gather"
            | "GatherElements"
            | "GatherND"
            | "Scatter"
            | "ScatterElements"
            | "ScatterND"
            | "Expand"
            | "Tile"
            | "Pad"
            | "Shape"
            | "Size"
            | "Constant"
            | "ConstantOfShape"
            | "Range"
            | "OneHot"
            | "Identity"
            | "Dropout"
            | "Cast"
            | "CastLike"
            | "DepthToSpace"
            | "SpaceToDepth"
            | "Trilu"
            | "EyeLike"
            | "ReverseSequence"
    )
}

/// A node with the shapes around it.
struct View<'a> {
    node: &'a NodeProto,
    shapes: &'a Shapes,
}

impl View<'_> {
    fn has_input(&self, index: usize) -> bool {
        self.node.input.get(index).is_some_and(|name| !name.is_empty())
    }

    fn input(&self, index: usize) -> Option<&[usize]> {
        self.shapes.shape(self.node.input.get(index)?)
    }

    fn output(&self) -> Option<&[usize]> {
        self.shapes.shape(self.node.output.first()?)
    }

    fn count(&self, name: &str) -> Option<u64> {
        self.shapes.shape(name).map(product)
    }

    fn output_count(&self) -> Option<u64> {
        self.output().map(product)
    }

    /// Every output element is a sum over the input channels of its group and the kernel.
    fn conv(&self, weight: usize, bias: usize) -> Option<u64> {
        let per_element = multiply_adds(product(self.input(weight)?.get(1..)?));
        let per_element = per_element.saturating_add(u64::from(self.has_input(bias)));
        Some(self.output_count()?.saturating_mul(per_element))
    }

    /// Every input element is spread over the output channels of its group and the kernel.
    fn conv_transpose(&self) -> Option<u64> {
        let per_element = multiply_adds(product(self.input(1)?.get(1..)?));
        let products = product(self.input(0)?).saturating_mul(per_element);
        let bias = if self.has_input(2) { self.output_count()? } else { 0 };
        Some(products.saturating_add(bias))
    }

    /// Every output element is a sum over the depth: the left operand's columns, or its rows if transposed.
    fn matmul(&self, is_transposed: i64) -> Option<u64> {
        let left = self.input(0)?;
        let depth = if is_transposed == 0 { left.last()? } else { left.get(left.len().checked_sub(2)?)? };
        Some(self.output_count()?.saturating_mul(multiply_adds(*depth as u64)))
    }

    /// A multiply-add for every combination of all axes; with one operand only additions.
    fn einsum(&self) -> Option<u64> {
        let equation: String = self.node.text("equation")?.split_whitespace().collect();
        let terms = equation.split("->").next()?.split(',');
        let mut sizes = std::collections::BTreeMap::new();
        for (index, term) in terms.enumerate() {
            for (axis, size) in term.chars().zip(self.input(index)?) {
                let known = sizes.entry(axis).or_insert(*size);
                *known = (*known).max(*size);
            }
        }
        let combinations = product(&sizes.into_values().collect::<Shape>());
        let factors = self.node.input.len() as u64;
        Some(if factors == 1 {
            combinations
        } else {
            multiply_adds(combinations).saturating_mul(factors - 1)
        })
    }

    /// Per step, sample and direction: `gates` products with the input and with the last state; then for each
    /// gate two additions and an activation, and the update of the state.
    fn recurrent(&self, gates: u64) -> Option<u64> {
        let &[steps, batch, width] = self.input(0)? else { return None };
        let hidden = match self.node.int("hidden_size") {
            Some(hidden) => u64::try_from(hidden).ok()?,
            None => *self.input(2)?.last()? as u64,
        };
        let directions = if self.node.text("direction") == Some("bidirectional") { 2 } else { 1 };
        let depth = (width as u64).saturating_add(hidden);
        let products = multiply_adds(depth).saturating_mul(gates).saturating_mul(hidden);
        let point_wise = hidden.saturating_mul(gates * (2 + SIGMOID) + STATE_UPDATE);
        let per_step = products.saturating_add(point_wise);
        Some(product(&[steps, batch, directions]).saturating_mul(per_step))
    }

    /// Scores, softmax and weighted sum; the joint form projects its input first.
    fn attention(&self) -> Option<u64> {
        let output = product(self.output()?);
        let query = self.input(0)?;
        let is_joint = self.node.op_type() == "Attention" && self.node.domain() == "com.microsoft";
        let (queries, keys, projection) = if is_joint {
            let projected = product(query).saturating_mul(*self.input(1)?.last()? as u64);
            (output, *query.get(1)? as u64, multiply_adds(projected))
        } else {
            let key = self.input(1)?;
            (product(query), *key.get(key.len().checked_sub(2)?)? as u64, 0)
        };
        let heads = match query {
            [_, heads, _, _] => *heads as u64,
            _ => ["num_heads", "q_num_heads"].iter().find_map(|name| self.node.int(name))?.unsigned_abs(),
        };
        let rows = product(query.get(..1)?).saturating_mul(*query.get(query.len().checked_sub(2)?)? as u64);
        let scores = rows.saturating_mul(heads).saturating_mul(keys);
        let products = multiply_adds(queries.saturating_add(output).saturating_mul(keys));
        Some(projection.saturating_add(products).saturating_add(scores.saturating_mul(SOFTMAX)))
    }

    /// One interpolation on the last scaled axis, twice (or four times) as many on each one before it.
    fn resize(&self) -> Option<u64> {
        let (input, output) = (self.input(0)?, self.output()?);
        let scaled = input.iter().zip(output).filter(|(from, to)| from != to).count();
        let (scaled, default) = match self.node.op_type() {
            "GridSample" => (input.len().checked_sub(2)?, "linear"),
            _ => (scaled, "nearest"),
        };
        let (points, cost) = match self.node.text("mode").unwrap_or(default) {
            "linear" | "bilinear" => (2u64, LINEAR_INTERPOLATION),
            "cubic" | "bicubic" => (4, CUBIC_INTERPOLATION),
            _ => return Some(0),
        };
        let interpolations = (0..scaled).fold(0u64, |sum, _| sum.saturating_mul(points).saturating_add(1));
        Some(product(output).saturating_mul(cost).saturating_mul(interpolations))
    }
}

/// Forget, add, apply the activation, let out: `f * c + i * g`, `o * tanh(c)`.
const STATE_UPDATE: u64 = 5;

fn multiply_adds(count: u64) -> u64 {
    count.saturating_mul(2)
}

fn product(shape: &[usize]) -> u64 {
    shape.iter().fold(1, |product, size| product.saturating_mul(*size as u64))
}
