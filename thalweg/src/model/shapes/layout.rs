//! Shapes of operators that move, select, repeat or make elements.

use super::Shape;
use super::call::{
    Call, Outputs, Stop, contradiction, product, resolve_axis, signed, size, to_integer, too_large,
};

/// The rule of an operator of this file; unknown operators are [`Stop::Unknown`].
pub fn apply(call: &Call<'_>) -> Outputs {
    let shape = match call.node.op_type() {
        "Reshape" => reshape(call),
        "Flatten" => flatten(call),
        "Transpose" => transpose(call),
        "Squeeze" => squeeze(call),
        "Unsqueeze" => unsqueeze(call),
        "Concat" => concat(call),
        "Split" => return split(call),
        "Slice" => slice(call),
        "Gather" => gather(call),
        "GatherElements" => Ok(call.shape(1)?.to_vec()),
        "GatherND" => gather_nd(call),
        "Expand" => super::algebra::broadcast_shapes(call.shape(0)?, &sizes(&call.integers(1)?)?),
        "Tile" => tile(call),
        "Shape" => Ok(vec![shape_range(call)?.len()]),
        "Size" => Ok(Vec::new()),
        "Constant" => constant(call),
        "ConstantOfShape" => sizes(&call.integers(0)?),
        "RandomNormal" | "RandomUniform" => sizes(call.node.ints("shape").ok_or(Stop::Unknown)?),
        "Range" => Ok(vec![range_length(call)?]),
        "OneHot" => one_hot(call),
        // The values, then a scale and a zero point for all of them.
        "DynamicQuantizeLinear" => return Ok(vec![call.shape(0)?.to_vec(), Vec::new(), Vec::new()]),
        _ => Err(Stop::Unknown),
    };
    Ok(vec![shape?])
}

fn sizes(values: &[i64]) -> Result<Shape, Stop> {
    values.iter().map(|value| size(*value)).collect()
}

/// `0` keeps a dimension, `-1` takes what is left.
fn reshape(call: &Call<'_>) -> Result<Shape, Stop> {
    let input = call.shape(0)?;
    let wanted = call.list("shape", 1)?.ok_or(Stop::Unknown)?;
    let keeps_zero = call.is_set("allowzero");
    let mut shape = Vec::with_capacity(wanted.len());
    let mut rest = None;
    for (axis, value) in wanted.iter().enumerate() {
        shape.push(match value {
            -1 if rest.replace(axis).is_none() => 1,
            0 if !keeps_zero => match input.get(axis) {
                Some(size) => *size,
                None => return contradiction(format!("cannot reshape {input:?} to {wanted:?}")),
            },
            value => size(*value)?,
        });
    }
    let (from, to) = (product(input)?, product(&shape)?);
    match rest {
        Some(axis) if to > 0 && from % to == 0 => shape[axis] = from / to,
        None if from == to => {}
        _ => return contradiction(format!("cannot reshape {input:?} to {wanted:?}")),
    }
    Ok(shape)
}

fn flatten(call: &Call<'_>) -> Result<Shape, Stop> {
    let input = call.shape(0)?;
    // Unlike other axes this one may be the rank itself, and then everything goes in front.
    let axis = call.int("axis", 1);
    let axis = if axis == signed(input.len())? { input.len() } else { resolve_axis(axis, input.len())? };
    Ok(vec![product(&input[..axis])?, product(&input[axis..])?])
}

fn transpose(call: &Call<'_>) -> Result<Shape, Stop> {
    let input = call.shape(0)?;
    Ok(transposition(call)?.iter().map(|axis| input[*axis]).collect())
}

/// For every axis of a `Transpose`'s output the axis of its input.
pub fn transposition(call: &Call<'_>) -> Result<Vec<usize>, Stop> {
    let input = call.shape(0)?;
    let Some(order) = call.node.ints("perm").filter(|order| !order.is_empty()) else {
        return Ok((0..input.len()).rev().collect());
    };
    let axes: Vec<usize> =
        order.iter().map(|axis| resolve_axis(*axis, input.len())).collect::<Result<_, _>>()?;
    if axes.len() != input.len() || (0..axes.len()).any(|axis| !axes.contains(&axis)) {
        return contradiction(format!("cannot order {input:?} by {order:?}"));
    }
    Ok(axes)
}

fn squeeze(call: &Call<'_>) -> Result<Shape, Stop> {
    let input = call.shape(0)?;
    let Some(axes) = call.list("axes", 1)? else {
        return Ok(input.iter().copied().filter(|size| *size != 1).collect());
    };
    let axes: Vec<usize> =
        axes.iter().map(|axis| resolve_axis(*axis, input.len())).collect::<Result<_, _>>()?;
    if let Some(axis) = axes.iter().find(|axis| input[**axis] != 1) {
        return contradiction(format!("cannot drop dimension {axis} of {input:?}, which is not 1"));
    }
    Ok(input.iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, size)| *size).collect())
}

fn unsqueeze(call: &Call<'_>) -> Result<Shape, Stop> {
    let input = call.shape(0)?;
    let axes = call.list("axes", 1)?.ok_or(Stop::Unknown)?;
    let rank = input.len() + axes.len();
    if rank > super::MAX_RANK {
        return Err(Stop::Unknown);
    }
    let axes: Vec<usize> = axes.iter().map(|axis| resolve_axis(*axis, rank)).collect::<Result<_, _>>()?;
    let mut sizes = input.iter().copied();
    let shape = (0..rank).map(|axis| if axes.contains(&axis) { Some(1) } else { sizes.next() });
    // An axis that is named twice leaves one size too few.
    shape.collect::<Option<_>>().ok_or_else(|| Stop::Contradiction(format!("names an axis twice: {axes:?}")))
}

fn concat(call: &Call<'_>) -> Result<Shape, Stop> {
    let shapes = call.shapes()?;
    let (first, rest) = shapes.split_first().ok_or(Stop::Unknown)?;
    let axis = call.axis("axis", 0, first.len())?;
    let mut joined = first.to_vec();
    for shape in rest {
        let fits = shape.len() == joined.len()
            && shape.iter().zip(&joined).enumerate().all(|(at, (a, b))| at == axis || a == b);
        if !fits {
            return contradiction(format!("cannot join {first:?} and {shape:?} along dimension {axis}"));
        }
        joined[axis] = joined[axis].checked_add(shape[axis]).ok_or_else(too_large)?;
    }
    Ok(joined)
}

/// Parts as listed, or as many equal ones as there are outputs; then the last one may be smaller.
fn split(call: &Call<'_>) -> Outputs {
    let input = call.shape(0)?;
    let axis = call.axis("axis", 0, input.len())?;
    let parts = match call.list("split", 1)? {
        Some(parts) => sizes(&parts)?,
        None => equal_parts(input[axis], call.node.output.len()),
    };
    let total = parts.iter().try_fold(0usize, |sum, part| sum.checked_add(*part));
    if total != Some(input[axis]) {
        return contradiction(format!("cannot split dimension {axis} of {input:?} into {parts:?}"));
    }
    let part = |size: usize| {
        let mut shape = input.to_vec();
        shape[axis] = size;
        shape
    };
    Ok(parts.into_iter().map(part).collect())
}

fn equal_parts(size: usize, count: usize) -> Vec<usize> {
    let part = size.div_ceil(count.max(1));
    (0..count).map(|index| part.min(size.saturating_sub(part.saturating_mul(index)))).collect()
}

/// What a slice takes from one axis.
pub struct Range {
    pub axis: usize,
    pub start: i64,
    pub step: i64,
    pub count: usize,
}

fn slice(call: &Call<'_>) -> Result<Shape, Stop> {
    let mut shape = call.shape(0)?.to_vec();
    for range in slice_ranges(call)? {
        shape[range.axis] = range.count;
    }
    Ok(shape)
}

/// The ranges of a `Slice`, one per sliced axis.
pub fn slice_ranges(call: &Call<'_>) -> Result<Vec<Range>, Stop> {
    let input = call.shape(0)?;
    let starts = call.list("starts", 1)?.ok_or(Stop::Unknown)?;
    let ends = call.list("ends", 2)?.ok_or(Stop::Unknown)?;
    let axes = match call.list("axes", 3)? {
        Some(axes) => axes,
        None => (0..signed(starts.len())?).collect(),
    };
    let steps = if call.has_input(4) { call.integers(4)? } else { vec![1; starts.len()] };
    if [ends.len(), axes.len(), steps.len()].iter().any(|length| *length != starts.len()) {
        return contradiction("has starts, ends, axes and steps of different lengths".into());
    }
    let range = |index: usize| {
        let axis = resolve_axis(axes[index], input.len())?;
        range_of(axis, signed(input[axis])?, [starts[index], ends[index], steps[index]])
    };
    (0..starts.len()).map(range).collect()
}

/// Clamps as the ONNX definition of `Slice` says.
fn range_of(axis: usize, size: i64, [start, end, step]: [i64; 3]) -> Result<Range, Stop> {
    let from_start = |position: i64| if position < 0 { position.saturating_add(size) } else { position };
    let (start, end) = (from_start(start), from_start(end));
    let (start, span) = match step {
        1.. => (start.clamp(0, size), end.clamp(0, size) - start.clamp(0, size)),
        0 => return contradiction("has a step of 0".into()),
        _ => {
            let start = start.clamp(0, (size - 1).max(0));
            (start, if size == 0 { 0 } else { start - end.clamp(-1, size - 1) })
        }
    };
    let count = span.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
    Ok(Range { axis, start, step, count: usize::try_from(count).map_err(|_| too_large())? })
}

fn gather(call: &Call<'_>) -> Result<Shape, Stop> {
    let (input, indices) = (call.shape(0)?, call.shape(1)?);
    let axis = call.axis("axis", 0, input.len())?;
    Ok([&input[..axis], indices, &input[axis + 1..]].concat())
}

fn gather_nd(call: &Call<'_>) -> Result<Shape, Stop> {
    let (input, indices) = (call.shape(0)?, call.shape(1)?);
    let batch = size(call.int("batch_dims", 0))?;
    let [outer @ .., depth] = indices else { return contradiction("takes indices, not a scalar".into()) };
    match batch.checked_add(*depth).and_then(|taken| input.get(taken..)) {
        Some(rest) => Ok([outer, rest].concat()),
        None => contradiction(format!("takes {depth} indices into an input {input:?}")),
    }
}

fn tile(call: &Call<'_>) -> Result<Shape, Stop> {
    let (input, repeats) = (call.shape(0)?, sizes(&call.integers(1)?)?);
    if input.len() != repeats.len() {
        return contradiction(format!("repeats {input:?} by {repeats:?}"));
    }
    input.iter().zip(&repeats).map(|(size, times)| product(&[*size, *times])).collect()
}

/// The part of the input's shape that `Shape` gives, since operator set 15 a slice of it.
pub fn shape_range<'a>(call: &'a Call<'_>) -> Result<&'a [usize], Stop> {
    let input = call.shape(0)?;
    let rank = signed(input.len())?;
    let clamp = |position: i64| {
        let from_start = if position < 0 { position.saturating_add(rank) } else { position };
        size(from_start.clamp(0, rank))
    };
    let (start, end) = (clamp(call.int("start", 0))?, clamp(call.int("end", rank))?);
    Ok(input.get(start..end).unwrap_or_default())
}

fn constant(call: &Call<'_>) -> Result<Shape, Stop> {
    let attribute = call.node.attribute.first().ok_or(Stop::Unknown)?;
    match attribute.name() {
        "value" => call.constant(attribute.t.as_ref().ok_or(Stop::Unknown)?).shape.ok_or(Stop::Unknown),
        "value_int" | "value_float" | "value_string" => Ok(Vec::new()),
        "value_ints" => Ok(vec![attribute.ints.len()]),
        "value_floats" => Ok(vec![attribute.floats.len()]),
        "value_strings" => Ok(vec![attribute.strings.len()]),
        _ => Err(Stop::Unknown),
    }
}

fn range_length(call: &Call<'_>) -> Result<usize, Stop> {
    let bound = |index| call.elements(index)?.first().copied().ok_or(Stop::Unknown);
    let (start, limit, step) = (bound(0)?, bound(1)?, bound(2)?);
    if step == 0.0 {
        return contradiction("has a step of 0".into());
    }
    size(to_integer(((limit - start) / step).ceil().max(0.0)))
}

fn one_hot(call: &Call<'_>) -> Result<Shape, Stop> {
    let mut shape = call.shape(0)?.to_vec();
    let depth = size(*call.integers(1)?.first().ok_or(Stop::Unknown)?)?;
    let axis = call.axis("axis", -1, shape.len() + 1)?;
    shape.insert(axis, depth);
    Ok(shape)
}
