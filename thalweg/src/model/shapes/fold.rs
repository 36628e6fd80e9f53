//! Calculates the elements of small values, so that shapes which a graph computes become known.
//!
//! Everything is calculated as `f64`, whose integers are exact up to 2^53; integer types are rounded towards
//! zero after each step, as ONNX does.

use half::{bf16, f16};

use super::call::{Call, Stop};
use super::layout::{shape_range, slice_ranges, transposition};
use super::{DataType, MAX_FOLDED_ELEMENTS, Shape, element_count, element_types};

type Elements = Vec<f64>;

/// The elements of each output, as far as they follow from the inputs' elements.
pub fn elements(call: &Call<'_>, shapes: &[Shape]) -> std::vec::IntoIter<Option<Elements>> {
    let is_small = |shape: &Shape| element_count(shape).is_some_and(|count| count <= MAX_FOLDED_ELEMENTS);
    if shapes.is_empty() || !shapes.iter().all(is_small) {
        return Vec::new().into_iter();
    }
    let outputs = match call.node.op_type() {
        "Split" => split(call, shapes).unwrap_or_default(),
        _ => single(call, &shapes[0]).into_iter().collect(),
    };
    let fits = |(elements, shape): (Elements, &Shape)| {
        Some(elements).filter(|elements| element_count(shape) == Some(elements.len()))
    };
    outputs.into_iter().zip(shapes).map(fits).collect::<Vec<_>>().into_iter()
}

/// Little-endian bytes as numbers.
pub fn decode(data_type: DataType, bytes: &[u8]) -> Option<Elements> {
    fn all<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Elements {
        bytes.as_chunks::<N>().0.iter().map(|chunk| value(*chunk)).collect()
    }
    Some(match data_type {
        DataType::F32 => all(bytes, |b| f64::from(f32::from_le_bytes(b))),
        DataType::F16 => all(bytes, |b| f16::from_le_bytes(b).to_f64()),
        DataType::BF16 => all(bytes, |b| bf16::from_le_bytes(b).to_f64()),
        DataType::F64 => all(bytes, f64::from_le_bytes),
        DataType::I8 => all(bytes, |b| f64::from(i8::from_le_bytes(b))),
        DataType::U8 | DataType::Bool => all(bytes, |b| f64::from(u8::from_le_bytes(b))),
        DataType::I16 => all(bytes, |b| f64::from(i16::from_le_bytes(b))),
        DataType::U16 => all(bytes, |b| f64::from(u16::from_le_bytes(b))),
        DataType::I32 => all(bytes, |b| f64::from(i32::from_le_bytes(b))),
        DataType::U32 => all(bytes, |b| f64::from(u32::from_le_bytes(b))),
        DataType::I64 => all(bytes, |b| i64::from_le_bytes(b) as f64),
        DataType::U64 => all(bytes, |b| u64::from_le_bytes(b) as f64),
    })
}

fn single(call: &Call<'_>, shape: &Shape) -> Option<Elements> {
    let operator = call.node.op_type();
    if let Some(operation) = unary(operator) {
        return Some(call.elements(0).ok()?.iter().map(|x| operation(*x)).collect());
    }
    if let Some(operation) = binary(operator) {
        return zip_all(call, shape, operation);
    }
    match operator {
        "Shape" => Some(shape_range(call).ok()?.iter().map(|size| *size as f64).collect()),
        "Size" => Some(vec![element_count(call.shape(0).ok()?)? as f64]),
        "Constant" => constant(call),
        "ConstantOfShape" => {
            let value = call.node.tensor("value").map(|tensor| call.constant(tensor).elements);
            let value = value.map_or(Some(0.0), |elements| elements?.first().copied())?;
            Some(vec![value; element_count(shape)?])
        }
        // These change the shape around the elements, or nothing.
        "Identity" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Dropout" => {
            Some(call.elements(0).ok()?.to_vec())
        }
        "Expand" => stretched(call, 0, shape),
        "Cast" => cast(call),
        "Where" => where_(call, shape),
        "Range" => range(call, shape),
        "Concat" => concat(call),
        "Gather" => gather(call),
        "Slice" => slice(call, shape),
        "Transpose" => transpose(call, shape),
        "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin" => reduce(call, shape),
        _ => None,
    }
}

fn unary(operator: &str) -> Option<fn(f64) -> f64> {
    Some(match operator {
        "Neg" => |x| -x,
        "Abs" => f64::abs,
        "Floor" => f64::floor,
        "Ceil" => f64::ceil,
        "Round" => f64::round_ties_even,
        "Sqrt" => f64::sqrt,
        "Not" => |x| truth(x == 0.0),
        _ => return None,
    })
}

fn binary(operator: &str) -> Option<fn(f64, f64) -> f64> {
    Some(match operator {
        "Add" => |a, b| a + b,
        "Sub" => |a, b| a - b,
        "Mul" => |a, b| a * b,
        "Div" => |a, b| a / b,
        "Pow" => f64::powf,
        "Mod" => |a, b| a - b * (a / b).floor(),
        "Max" => f64::max,
        "Min" => f64::min,
        "Equal" => |a, b| truth(a == b),
        "Less" => |a, b| truth(a < b),
        "Greater" => |a, b| truth(a > b),
        "LessOrEqual" => |a, b| truth(a <= b),
        "GreaterOrEqual" => |a, b| truth(a >= b),
        "And" => |a, b| truth(a != 0.0 && b != 0.0),
        "Or" => |a, b| truth(a != 0.0 || b != 0.0),
        _ => return None,
    })
}

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// Two or more inputs, broadcast and joined element by element.
fn zip_all(call: &Call<'_>, shape: &Shape, operation: fn(f64, f64) -> f64) -> Option<Elements> {
    let mut result = stretched(call, 0, shape)?;
    for index in 1..call.node.input.len() {
        let right = stretched(call, index, shape)?;
        for (left, right) in result.iter_mut().zip(right) {
            *left = operation(*left, right);
        }
    }
    Some(rounded(call, result))
}

/// Brings results to what their type can hold: integers without fractions, `f32` with its own precision, so
/// that a following `Floor` sees what it would see in a real run.
#[expect(clippy::cast_possible_truncation, reason = "the loss of precision is the purpose")]
fn rounded(call: &Call<'_>, elements: Elements) -> Elements {
    match element_types::of_output(call, 0) {
        Some(DataType::F32) => elements.into_iter().map(|x| f64::from(x as f32)).collect(),
        Some(data_type) if !data_type.is_float() => elements.into_iter().map(f64::trunc).collect(),
        _ => elements,
    }
}

/// An input's elements broadcast to a shape.
fn stretched(call: &Call<'_>, index: usize, shape: &Shape) -> Option<Elements> {
    let (elements, from) = (call.elements(index).ok()?, call.shape(index).ok()?);
    let missing = shape.len().checked_sub(from.len())?;
    let source = |at: &[usize]| {
        let at = at[missing..].iter().zip(from);
        Some(at.map(|(position, size)| if *size == 1 { 0 } else { *position }).collect())
    };
    rearranged(elements, from, shape, source)
}

/// Elements in a new order: `source` says for a position in the result where it is in the input.
fn rearranged(
    elements: &[f64],
    from: &[usize],
    to: &[usize],
    source: impl Fn(&[usize]) -> Option<Vec<usize>>,
) -> Option<Elements> {
    let mut at = vec![0; to.len()];
    let mut result = Vec::new();
    for _ in 0..element_count(to)? {
        let position =
            source(&at)?.iter().zip(from).fold(0, |offset, (position, size)| offset * size + position);
        result.push(*elements.get(position)?);
        for (position, size) in at.iter_mut().zip(to).rev() {
            *position += 1;
            if *position < *size {
                break;
            }
            *position = 0;
        }
    }
    Some(result)
}

fn constant(call: &Call<'_>) -> Option<Elements> {
    let attribute = call.node.attribute.first()?;
    Some(match attribute.name() {
        "value" => call.constant(attribute.t.as_ref()?).elements?,
        "value_int" => vec![attribute.i? as f64],
        "value_ints" => attribute.ints.iter().map(|value| *value as f64).collect(),
        "value_float" => vec![f64::from(attribute.f?)],
        "value_floats" => attribute.floats.iter().copied().map(f64::from).collect(),
        _ => return None,
    })
}

fn cast(call: &Call<'_>) -> Option<Elements> {
    let elements = call.elements(0).ok()?.iter();
    Some(match element_types::of_output(call, 0)? {
        DataType::Bool => elements.map(|x| truth(*x != 0.0)).collect(),
        data_type if data_type.is_float() => elements.copied().collect(),
        _ => elements.map(|x| x.trunc()).collect(),
    })
}

fn where_(call: &Call<'_>, shape: &Shape) -> Option<Elements> {
    let condition = stretched(call, 0, shape)?;
    let choices = stretched(call, 1, shape)?.into_iter().zip(stretched(call, 2, shape)?);
    Some(
        condition
            .iter()
            .zip(choices)
            .map(|(condition, (yes, no))| if *condition == 0.0 { no } else { yes })
            .collect(),
    )
}

fn range(call: &Call<'_>, shape: &Shape) -> Option<Elements> {
    let (start, step) = (call.elements(0).ok()?.first()?, call.elements(2).ok()?.first()?);
    Some((0..element_count(shape)?).map(|index| start + step * index as f64).collect())
}

/// Along the first axis, which is the only one that shapes have.
fn concat(call: &Call<'_>) -> Option<Elements> {
    let axis = call.axis("axis", 0, call.shape(0).ok()?.len()).ok()?;
    let inputs = (0..call.node.input.len()).map(|index| call.elements(index));
    (axis == 0).then(|| inputs.collect::<Result<Vec<_>, Stop>>().ok())?.map(|inputs| inputs.concat())
}

fn gather(call: &Call<'_>) -> Option<Elements> {
    let (input, shape) = (call.elements(0).ok()?, call.shape(0).ok()?);
    if call.axis("axis", 0, shape.len()).ok()? != 0 {
        return None;
    }
    let block = element_count(&shape[1..])?;
    let mut gathered = Vec::new();
    for index in call.integers(1).ok()? {
        let row = super::call::resolve_axis(index, shape[0]).ok()?;
        gathered.extend_from_slice(&input[row * block..(row + 1) * block]);
    }
    Some(gathered)
}

fn slice(call: &Call<'_>, shape: &Shape) -> Option<Elements> {
    let ranges = slice_ranges(call).ok()?;
    let source = |at: &[usize]| {
        let mut source = at.to_vec();
        for range in &ranges {
            let steps = i64::try_from(at[range.axis]).ok()?;
            source[range.axis] = usize::try_from(range.start + range.step.checked_mul(steps)?).ok()?;
        }
        Some(source)
    };
    rearranged(call.elements(0).ok()?, call.shape(0).ok()?, shape, source)
}

fn transpose(call: &Call<'_>, shape: &Shape) -> Option<Elements> {
    let order = transposition(call).ok()?;
    let source = |at: &[usize]| {
        let mut source = vec![0; at.len()];
        order.iter().zip(at).for_each(|(axis, position)| source[*axis] = *position);
        Some(source)
    };
    rearranged(call.elements(0).ok()?, call.shape(0).ok()?, shape, source)
}

fn split(call: &Call<'_>, shapes: &[Shape]) -> Option<Vec<Elements>> {
    let mut rest = call.elements(0).ok()?;
    if shapes.iter().any(|shape| shape.len() != 1) {
        return None;
    }
    let part = |shape: &Shape| {
        let (part, left) = rest.split_at_checked(shape[0])?;
        rest = left;
        Some(part.to_vec())
    };
    shapes.iter().map(part).collect()
}

/// Of everything to one element.
fn reduce(call: &Call<'_>, shape: &Shape) -> Option<Elements> {
    let elements = call.elements(0).ok()?.iter().copied();
    if element_count(shape)? != 1 {
        return None;
    }
    let result = match call.node.op_type() {
        "ReduceProd" => elements.product(),
        "ReduceSum" => elements.sum(),
        "ReduceMax" => elements.reduce(f64::max)?,
        _ => elements.reduce(f64::min)?,
    };
    Some(vec![result])
}
