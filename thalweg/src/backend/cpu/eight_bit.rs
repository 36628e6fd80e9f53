//! Products of 8-bit integers, in floats where rten would get them wrong.
//!
//! On x86-64 without AVX-512 VNNI, rten 0.27 adds pairs of 8-bit products in 16 bits, with saturation
//! (`may_saturate` in rten-gemm). With the full range of 8 bits that overflows silently: a convolution of a
//! real model was off by 31 %. 32-bit floats hold such sums exactly up to 2^24, which is 258 of the largest
//! products, and round them to 24 bits beyond.

use super::normalise::{NodeBuilder, set_int, set_ints};
use super::operators::unsupported;
use crate::error::Result;
use crate::model::proto::NodeProto;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;

/// How rten adds products of 8-bit integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Products {
    /// In 32 bits.
    Exact,
    /// In 16 bits with saturation.
    Saturating,
}

impl Products {
    /// On the processor that this runs on.
    pub(super) fn of_this_processor() -> Self {
        #[cfg(target_arch = "x86_64")]
        if !is_x86_feature_detected!("avx512vnni") {
            return Self::Saturating;
        }
        Self::Exact
    }
}

/// ConvInteger or MatMulInteger as the operator on floats: `round(f(a - a_zero, b - b_zero))` as integers.
/// `ranks` are those of the node's inputs.
pub(super) fn in_floats(node: &NodeProto, ranks: &[Option<usize>]) -> Result<Vec<NodeProto>> {
    let operator = node.op_type().trim_end_matches("Integer");
    let spatial = node.ints("strides").map_or(0, <[i64]>::len);
    // A vector of zero points is one for each row of the left matrix, column of the right one, or kernel.
    let (left_axes, right_axes) = match operator {
        "Conv" => (Vec::new(), (1..).take(1 + spatial).collect()),
        _ => (vec![1], Vec::new()),
    };
    let mut builder = NodeBuilder::for_parts_of(node);
    let left = centred(&mut builder, node, ranks, (0, left_axes))?;
    let right = centred(&mut builder, node, ranks, (1, right_axes))?;
    let product = builder.add(operator, &[&left, &right]);
    builder.last().attribute.clone_from(&node.attribute);
    let rounded = builder.add("Round", &[&product]);
    builder.add("Cast", &[&rounded]);
    set_int(builder.last(), "to", i64::from(i32::from(OnnxDataType::Int32)));
    Ok(builder.finish())
}

/// Input `index` minus its zero point as floats; a vector of zero points gets `axes` so that it fits.
fn centred(
    builder: &mut NodeBuilder,
    node: &NodeProto,
    ranks: &[Option<usize>],
    (index, axes): (usize, Vec<i64>),
) -> Result<String> {
    let floats = |builder: &mut NodeBuilder, tensor: &str| {
        let output = builder.add("Cast", &[tensor]);
        set_int(builder.last(), "to", i64::from(i32::from(OnnxDataType::Float)));
        output
    };
    let Some(values) = node.input.get(index) else {
        return Err(unsupported(node, "it has too few inputs"));
    };
    let values = floats(builder, values);
    let zero_index = index + 2;
    let Some(zero) = node.input.get(zero_index).filter(|name| !name.is_empty()) else { return Ok(values) };
    let mut zero = floats(builder, zero);
    match ranks.get(zero_index).copied().flatten() {
        Some(0) => {}
        Some(1) if axes.is_empty() => {}
        Some(1) => {
            zero = builder.add("Unsqueeze", &[&zero]);
            set_ints(builder.last(), "axes", axes);
        }
        _ => return Err(unsupported(node, "the shape of its zero points is unknown or has several axes")),
    }
    Ok(builder.add("Sub", &[&values, &zero]))
}
