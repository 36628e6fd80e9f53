//! Shapes of broadcasting, matrix products, reductions, recurrent layers and attention.

use super::Shape;
use super::call::{Call, Outputs, Stop, contradiction, product, resolve_axis, size};

/// Element-wise on inputs of different shapes.
pub fn broadcast(call: &Call<'_>) -> Outputs {
    // The quantised forms interleave each operand with its scale and zero point: a, a_scale, a_zero, b, ...
    if call.node.op_type().starts_with("QLinear") {
        return Ok(vec![broadcast_shapes(call.shape(0)?, call.shape(3)?)?]);
    }
    let shapes = call.shapes()?;
    let (first, rest) = shapes.split_first().ok_or(Stop::Unknown)?;
    let all = rest.iter().try_fold(first.to_vec(), |result, shape| broadcast_shapes(&result, shape))?;
    Ok(vec![all])
}

/// ONNX's multidirectional broadcasting: aligned at the last dimension, a size of 1 stretches.
pub fn broadcast_shapes(left: &[usize], right: &[usize]) -> Result<Shape, Stop> {
    let rank = left.len().max(right.len());
    let size_at = |shape: &[usize], axis: usize| {
        let missing = rank - shape.len();
        if axis < missing { 1 } else { shape[axis - missing] }
    };
    let sizes = (0..rank).map(|axis| match (size_at(left, axis), size_at(right, axis)) {
        (1, size) | (size, 1) => Ok(size),
        (l, r) if l == r => Ok(l),
        _ => contradiction(format!("cannot broadcast {left:?} and {right:?}")),
    });
    sizes.collect()
}

/// A matrix product as in NumPy; `right` is the position of the second operand.
pub fn matmul(call: &Call<'_>, right: usize) -> Outputs {
    Ok(vec![matmul_shapes(call.shape(0)?, call.shape(right)?)?])
}

fn matmul_shapes(left: &[usize], right: &[usize]) -> Result<Shape, Stop> {
    // A vector counts as a row on the left and as a column on the right; that dimension is dropped again.
    let (left_batch, rows, depth) = match left {
        [] => return contradiction("multiplies a scalar as if it were a matrix".into()),
        [depth] => (&[][..], None, *depth),
        [batch @ .., rows, depth] => (batch, Some(*rows), *depth),
    };
    let (right_batch, right_depth, columns) = match right {
        [] => return contradiction("multiplies a scalar as if it were a matrix".into()),
        [depth] => (&[][..], *depth, None),
        [batch @ .., depth, columns] => (batch, *depth, Some(*columns)),
    };
    if depth != right_depth {
        return contradiction(format!("cannot multiply {left:?} by {right:?}: {depth} is not {right_depth}"));
    }
    let mut shape = broadcast_shapes(left_batch, right_batch)?;
    shape.extend(rows);
    shape.extend(columns);
    Ok(shape)
}

/// ONNX Runtime's product with transposed operands.
pub fn fused_matmul(call: &Call<'_>) -> Outputs {
    if call.is_set("transBatchA") || call.is_set("transBatchB") {
        return Err(Stop::Unknown);
    }
    let left = transposed(call.shape(0)?, call.is_set("transA"));
    let right = transposed(call.shape(1)?, call.is_set("transB"));
    Ok(vec![matmul_shapes(&left, &right)?])
}

fn transposed(shape: &[usize], is_transposed: bool) -> Shape {
    let mut shape = shape.to_vec();
    if let (true, [.., rows, columns]) = (is_transposed, shape.as_mut_slice()) {
        std::mem::swap(rows, columns);
    }
    shape
}

/// ONNX Runtime's product with weights of few bits, whose shape is in the attributes.
pub fn matmul_n_bits(call: &Call<'_>) -> Outputs {
    let mut shape = call.shape(0)?.to_vec();
    *shape.last_mut().ok_or(Stop::Unknown)? = size(call.node.int("N").ok_or(Stop::Unknown)?)?;
    Ok(vec![shape])
}

/// `alpha * A * B + beta * C` on matrices.
pub fn gemm(call: &Call<'_>) -> Outputs {
    let left = transposed(call.shape(0)?, call.is_set("transA"));
    let right = transposed(call.shape(1)?, call.is_set("transB"));
    if left.len() != 2 || right.len() != 2 {
        return contradiction(format!("multiplies {left:?} by {right:?}, which are no two matrices"));
    }
    Ok(vec![matmul_shapes(&left, &right)?])
}

/// A sum of products over named axes. Ellipses stay unknown.
pub fn einsum(call: &Call<'_>) -> Outputs {
    let equation: String = call.node.text("equation").unwrap_or_default().split_whitespace().collect();
    let (terms, result) = equation.split_once("->").ok_or(Stop::Unknown)?;
    if equation.contains('.') {
        return Err(Stop::Unknown);
    }
    let mut sizes = std::collections::BTreeMap::new();
    for (index, term) in terms.split(',').enumerate() {
        let shape = call.shape(index)?;
        if term.chars().count() != shape.len() {
            return contradiction(format!("names axes `{term}` of an input {shape:?}"));
        }
        for (axis, size) in term.chars().zip(shape) {
            let known = sizes.entry(axis).or_insert(*size);
            match (*known, *size) {
                (1, size) => *known = size,
                (known, size) if size != 1 && known != size => {
                    return contradiction(format!("has axis `{axis}` with sizes {known} and {size}"));
                }
                _ => {}
            }
        }
    }
    let shape: Option<Shape> = result.chars().map(|axis| sizes.get(&axis).copied()).collect();
    Ok(vec![shape.ok_or(Stop::Unknown)?])
}

/// `ReduceSum` and its like. The axes moved from an attribute to an input in operator sets 13 and 18.
pub fn reduce(call: &Call<'_>) -> Outputs {
    let shape = call.shape(0)?;
    let axes = call.list("axes", 1)?.filter(|axes| !axes.is_empty());
    let axes: Vec<usize> = match axes {
        Some(axes) => axes.iter().map(|axis| resolve_axis(*axis, shape.len())).collect::<Result<_, _>>()?,
        None if call.is_set("noop_with_empty_axes") => return Ok(vec![shape.to_vec()]),
        None => (0..shape.len()).collect(),
    };
    Ok(vec![without_axes(shape, &axes, call.int("keepdims", 1) != 0)])
}

/// `ArgMax`, `ArgMin`.
pub fn arg_reduce(call: &Call<'_>) -> Outputs {
    let shape = call.shape(0)?;
    let axis = call.axis("axis", 0, shape.len())?;
    Ok(vec![without_axes(shape, &[axis], call.int("keepdims", 1) != 0)])
}

fn without_axes(shape: &[usize], axes: &[usize], keeps_dimensions: bool) -> Shape {
    let reduced = |(axis, size): (usize, &usize)| match axes.contains(&axis) {
        true if keeps_dimensions => Some(1),
        true => None,
        false => Some(*size),
    };
    shape.iter().enumerate().filter_map(reduced).collect()
}

/// Values and indices of the largest elements.
pub fn top_k(call: &Call<'_>) -> Outputs {
    let mut shape = call.shape(0)?.to_vec();
    let axis = call.axis("axis", -1, shape.len())?;
    let k = match call.node.int("k") {
        Some(k) => k,
        None => *call.integers(1)?.first().ok_or(Stop::Unknown)?,
    };
    shape[axis] = size(k)?;
    Ok(vec![shape.clone(), shape])
}

/// Recurrent layers: the whole sequence, the last hidden state and, of an LSTM, the last cell state.
pub fn recurrent(call: &Call<'_>) -> Outputs {
    let &[first, second, _] = call.shape(0)? else {
        return contradiction(format!("takes a sequence of 3 dimensions, not {:?}", call.shape(0)?));
    };
    let directions = if call.node.text("direction") == Some("bidirectional") { 2 } else { 1 };
    let hidden = match call.node.int("hidden_size") {
        Some(hidden) => size(hidden)?,
        None => *call.shape(2)?.last().ok_or(Stop::Unknown)?,
    };
    if call.int("layout", 0) == 1 {
        let state = vec![first, directions, hidden];
        return Ok(vec![vec![first, second, directions, hidden], state.clone(), state]);
    }
    let state = vec![directions, second, hidden];
    Ok(vec![vec![first, directions, second, hidden], state.clone(), state])
}

/// Attention over separate projections, or in ONNX Runtime's form over a joint one.
pub fn attention(call: &Call<'_>) -> Outputs {
    match (call.node.op_type(), call.node.domain()) {
        ("Attention", "com.microsoft") => joint_attention(call),
        ("Attention", _) => own_attention(call),
        _ => match (call.shape(0)?, call.shape(2)?) {
            (&[batch, sequence, _], &[_, _, value]) => Ok(vec![vec![batch, sequence, value]]),
            _ => Err(Stop::Unknown),
        },
    }
}

fn joint_attention(call: &Call<'_>) -> Outputs {
    let &[batch, sequence, _] = call.shape(0)? else { return Err(Stop::Unknown) };
    let hidden = match call.node.ints("qkv_hidden_sizes") {
        Some([_, _, value]) => size(*value)?,
        _ => call.shape(1)?.last().ok_or(Stop::Unknown)? / 3,
    };
    Ok(vec![vec![batch, sequence, hidden]])
}

/// ONNX's own operator: the result, the keys and values with those of the past, and the scores.
fn own_attention(call: &Call<'_>) -> Outputs {
    let [batch, query_heads, queries, _] = by_heads(call, 0, "q_num_heads")?;
    let [_, key_heads, mut keys, key_depth] = by_heads(call, 1, "kv_num_heads")?;
    let [_, _, _, depth] = by_heads(call, 2, "kv_num_heads")?;
    if call.has_input(4) {
        let past = *call.shape(4)?.get(2).ok_or(Stop::Unknown)?;
        keys = keys.checked_add(past).ok_or(Stop::Unknown)?;
    }
    let result = match call.shape(0)?.len() {
        3 => vec![batch, queries, product(&[query_heads, depth])?],
        _ => vec![batch, query_heads, queries, depth],
    };
    let present = |depth| vec![batch, key_heads, keys, depth];
    Ok(vec![result, present(key_depth), present(depth), vec![batch, query_heads, queries, keys]])
}

/// `[batch, heads, length, depth]` of an input that may have its heads side by side.
fn by_heads(call: &Call<'_>, index: usize, attribute: &str) -> Result<[usize; 4], Stop> {
    match *call.shape(index)? {
        [batch, heads, length, depth] => Ok([batch, heads, length, depth]),
        [batch, length, width] => match size(call.int(attribute, 1))? {
            0 => contradiction(format!("has {attribute} 0")),
            heads => Ok([batch, heads, length, width / heads]),
        },
        _ => Err(Stop::Unknown),
    }
}
