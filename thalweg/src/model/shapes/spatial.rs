//! Shapes of operators on images and sequences: `[batch, channels, spatial...]`.

use super::Shape;
use super::call::{Call, Outputs, Stop, contradiction, product, signed, size, to_integer, too_large};

/// How a window moves over one spatial axis.
struct Window {
    /// The extent of the kernel with its dilation.
    extent: i64,
    stride: i64,
    pad_begin: i64,
    pad_end: i64,
}

/// Convolution; `weight` is the position of the weights `[out channels, in channels / group, kernel...]`.
pub fn conv(call: &Call<'_>, weight: usize) -> Outputs {
    let (input, weights) = (call.shape(0)?, call.shape(weight)?);
    if input.len() < 3 || input.len() != weights.len() {
        return contradiction(format!("cannot convolve {input:?} with weights {weights:?}"));
    }
    let group = size(call.int("group", 1))?;
    let channels = product(&[weights[1], group])?;
    if input[1] != channels {
        let found = input[1];
        return contradiction(format!("takes {channels} channels, its input {input:?} has {found}"));
    }
    let spatial = slide(call, &input[2..], &weights[2..])?;
    Ok(vec![[&[input[0], weights[0]], spatial.as_slice()].concat()])
}

/// Pooling. A second output, the indices of the maxima, has the same shape.
pub fn pool(call: &Call<'_>) -> Outputs {
    let input = call.shape(0)?;
    let kernel = call.node.ints("kernel_shape").unwrap_or_default();
    if input.len() < 3 || kernel.len() != input.len() - 2 {
        return contradiction(format!("has a kernel {kernel:?} for an input {input:?}"));
    }
    let kernel: Shape = kernel.iter().map(|extent| size(*extent)).collect::<Result<_, _>>()?;
    let spatial = slide(call, &input[2..], &kernel)?;
    let shape = [&input[..2], &spatial].concat();
    Ok(vec![shape.clone(), shape])
}

/// One value per channel.
pub fn global_pool(call: &Call<'_>) -> Outputs {
    let input = call.shape(0)?;
    if input.len() < 2 {
        return contradiction(format!("takes [batch, channels, ...], not {input:?}"));
    }
    let mut shape = vec![1; input.len()];
    shape[..2].copy_from_slice(&input[..2]);
    // The quantised form may keep its channels last.
    if call.is_set("channels_last") {
        let last = input.len() - 1;
        shape[1] = 1;
        shape[last] = input[last];
    }
    Ok(vec![shape])
}

/// The number of positions of a kernel on every spatial axis.
fn slide(call: &Call<'_>, input: &[usize], kernel: &[usize]) -> Result<Shape, Stop> {
    let windows = windows(call, input, kernel)?;
    let rounds_up = call.is_set("ceil_mode");
    let positions = |(window, size): (&Window, &usize)| window.positions(signed(*size)?, rounds_up);
    windows.iter().zip(input).map(positions).collect()
}

impl Window {
    fn positions(&self, input: i64, rounds_up: bool) -> Result<usize, Stop> {
        let padded = input.checked_add(self.pad_begin).and_then(|sum| sum.checked_add(self.pad_end));
        let room = padded.and_then(|padded| padded.checked_sub(self.extent)).ok_or_else(too_large)?;
        if room < 0 {
            let extent = self.extent;
            return contradiction(format!(
                "has a kernel of {extent}, larger than its padded input of {input}"
            ));
        }
        let mut steps = room / self.stride;
        // A window that would start beyond the input and the padding in front of it is left out.
        if rounds_up
            && room % self.stride != 0
            && (steps + 1).saturating_mul(self.stride) < input.saturating_add(self.pad_begin)
        {
            steps += 1;
        }
        size(steps + 1)
    }
}

fn windows(call: &Call<'_>, input: &[usize], kernel: &[usize]) -> Result<Vec<Window>, Stop> {
    let rank = kernel.len();
    let strides = positive_list(call, "strides", rank)?;
    let dilations = positive_list(call, "dilations", rank)?;
    let pads = pads(call, rank)?;
    let is_same = matches!(call.node.text("auto_pad"), Some("SAME_UPPER" | "SAME_LOWER"));
    let window = |axis: usize| {
        let extent = extent(kernel[axis], dilations[axis])?;
        let stride = strides[axis];
        let (mut pad_begin, mut pad_end) = (pads[axis], pads[rank + axis]);
        if is_same {
            // As many positions as strides fit, however much padding that takes.
            let input = signed(input[axis])?;
            let covered =
                (div_ceil(input, stride) - 1).checked_mul(stride).and_then(|s| s.checked_add(extent));
            let needed = (covered.ok_or_else(too_large)? - input).max(0);
            (pad_begin, pad_end) = (needed / 2, needed - needed / 2);
        }
        Ok(Window { extent, stride, pad_begin, pad_end })
    };
    (0..rank).map(window).collect()
}

fn div_ceil(value: i64, divisor: i64) -> i64 {
    value / divisor + i64::from(value % divisor != 0)
}

fn extent(kernel: usize, dilation: i64) -> Result<i64, Stop> {
    let steps = signed(kernel)? - 1;
    if steps < 0 {
        return contradiction("has a kernel of size 0".into());
    }
    steps.checked_mul(dilation).and_then(|extent| extent.checked_add(1)).ok_or_else(too_large)
}

/// A list of positive numbers, by default all 1.
fn positive_list(call: &Call<'_>, name: &str, rank: usize) -> Result<Vec<i64>, Stop> {
    let list = match call.node.ints(name) {
        Some(list) if !list.is_empty() => list.to_vec(),
        _ => vec![1; rank],
    };
    if list.len() != rank || list.iter().any(|value| *value < 1) {
        return contradiction(format!("has {name} {list:?} for {rank} spatial dimensions"));
    }
    Ok(list)
}

/// Paddings at the start of every axis, then at the end of every axis.
fn pads(call: &Call<'_>, rank: usize) -> Result<Vec<i64>, Stop> {
    let is_explicit = matches!(call.node.text("auto_pad"), None | Some("NOTSET" | ""));
    let list = match call.node.ints("pads") {
        Some(list) if is_explicit && !list.is_empty() => list.to_vec(),
        _ => vec![0; 2 * rank],
    };
    if list.len() != 2 * rank {
        return contradiction(format!("has pads {list:?} for {rank} spatial dimensions"));
    }
    Ok(list)
}

/// Transposed convolution; the weights are `[in channels, out channels / group, kernel...]`.
pub fn conv_transpose(call: &Call<'_>) -> Outputs {
    let (input, weights) = (call.shape(0)?, call.shape(1)?);
    if input.len() < 3 || input.len() != weights.len() || input[1] != weights[0] {
        return contradiction(format!("cannot convolve {input:?} with weights {weights:?}"));
    }
    let channels = product(&[weights[1], size(call.int("group", 1))?])?;
    let rank = input.len() - 2;
    let strides = positive_list(call, "strides", rank)?;
    let dilations = positive_list(call, "dilations", rank)?;
    let pads = pads(call, rank)?;
    let extra = call.node.ints("output_padding").unwrap_or_default();
    let is_same = matches!(call.node.text("auto_pad"), Some("SAME_UPPER" | "SAME_LOWER"));
    let spatial = |axis: usize| {
        let input = signed(input[axis + 2])?;
        if is_same {
            return size(input.checked_mul(strides[axis]).ok_or_else(too_large)?);
        }
        let covered = (input - 1).checked_mul(strides[axis]);
        let extra = extra.get(axis).copied().unwrap_or(0);
        let parts = [extent(weights[axis + 2], dilations[axis])?, extra];
        let total = parts.iter().try_fold(covered.ok_or_else(too_large)?, |sum, part| sum.checked_add(*part));
        let padding = pads[axis].checked_add(pads[rank + axis]).ok_or_else(too_large)?;
        size(total.and_then(|total| total.checked_sub(padding)).ok_or_else(too_large)?)
    };
    let spatial: Shape = match call.node.ints("output_shape") {
        // Some exporters write the whole shape, the standard asks for the spatial part.
        Some(list) if list.len() >= rank => {
            list[list.len() - rank..].iter().map(|value| size(*value)).collect::<Result<_, _>>()?
        }
        _ => (0..rank).map(spatial).collect::<Result<_, _>>()?,
    };
    Ok(vec![[&[input[0], channels], spatial.as_slice()].concat()])
}

/// `Resize` and the older `Upsample`: sizes, or scales that are rounded down.
pub fn resize(call: &Call<'_>) -> Outputs {
    let input = call.shape(0)?;
    let axes: Vec<usize> = match call.node.ints("axes") {
        Some(axes) => {
            let resolve = |axis: &i64| super::call::resolve_axis(*axis, input.len());
            axes.iter().map(resolve).collect::<Result<_, _>>()?
        }
        None => (0..input.len()).collect(),
    };
    let mut shape = input.to_vec();
    if call.has_input(3) && !call.integers(3)?.is_empty() {
        let policy = call.node.text("keep_aspect_ratio_policy");
        if !matches!(policy, None | Some("stretch")) {
            return Err(Stop::Unknown);
        }
        for (axis, wanted) in axes.iter().zip(call.integers(3)?) {
            shape[*axis] = size(wanted)?;
        }
        return Ok(vec![shape]);
    }
    for (axis, scale) in axes.iter().zip(scales(call)?) {
        shape[*axis] = size(scaled(input[*axis], scale))?;
    }
    Ok(vec![shape])
}

/// Runtimes multiply in single precision: 10 times 0.7 is 7 there, and 6.9999999 before rounding to it.
#[expect(clippy::cast_possible_truncation, reason = "that is what runtimes do")]
fn scaled(size: usize, scale: f64) -> i64 {
    to_integer(f64::from((size as f32 * scale as f32).floor()))
}

/// Scales are the attribute of `Upsample` 7, its second input from 9 on and that of `Resize` 10, then the third.
fn scales(call: &Call<'_>) -> Result<Vec<f64>, Stop> {
    if let Some(attribute) = call.node.attribute("scales") {
        return Ok(attribute.floats.iter().map(|scale| f64::from(*scale)).collect());
    }
    let position = if call.node.op_type() == "Upsample" || call.opset < 11 { 1 } else { 2 };
    Ok(call.elements(position)?.to_vec())
}

/// Blocks of channels become blocks of pixels.
pub fn depth_to_space(call: &Call<'_>) -> Outputs {
    let (&[batch, channels, height, width], block) = (call.shape(0)?, size(call.int("blocksize", 1))?) else {
        return contradiction(format!("takes 4 dimensions, not {:?}", call.shape(0)?));
    };
    let area = product(&[block, block])?;
    if area == 0 || channels % area != 0 {
        return contradiction(format!("cannot divide {channels} channels into blocks of {block} by {block}"));
    }
    Ok(vec![vec![batch, channels / area, product(&[height, block])?, product(&[width, block])?]])
}

/// Blocks of pixels become blocks of channels.
pub fn space_to_depth(call: &Call<'_>) -> Outputs {
    let (&[batch, channels, height, width], block) = (call.shape(0)?, size(call.int("blocksize", 1))?) else {
        return contradiction(format!("takes 4 dimensions, not {:?}", call.shape(0)?));
    };
    if block == 0 || height % block != 0 || width % block != 0 {
        return contradiction(format!("cannot divide {height} by {width} pixels into blocks of {block}"));
    }
    Ok(vec![vec![batch, product(&[channels, block, block])?, height / block, width / block]])
}

/// Padding, also with negative amounts, which cut off.
pub fn pad(call: &Call<'_>) -> Outputs {
    let input = call.shape(0)?;
    let pads = call.list("pads", 1)?.ok_or(Stop::Unknown)?;
    let axes: Vec<usize> = if call.has_input(3) {
        let resolve = |axis: &i64| super::call::resolve_axis(*axis, input.len());
        call.integers(3)?.iter().map(resolve).collect::<Result<_, _>>()?
    } else {
        (0..input.len()).collect()
    };
    if pads.len() != 2 * axes.len() {
        return contradiction(format!("has pads {pads:?} for {} dimensions", axes.len()));
    }
    let mut shape = input.to_vec();
    for (index, axis) in axes.iter().enumerate() {
        let padding = pads[index].checked_add(pads[axes.len() + index]);
        let total = padding.and_then(|padding| padding.checked_add(i64::try_from(input[*axis]).ok()?));
        shape[*axis] = size(total.ok_or_else(too_large)?)?;
    }
    Ok(vec![shape])
}

/// Samples of an image at given points: the image's channels, the grid's extent.
pub fn grid_sample(call: &Call<'_>) -> Outputs {
    let (input, grid) = (call.shape(0)?, call.shape(1)?);
    let ([batch, channels, ..], [_, extent @ .., _]) = (input, grid) else { return Err(Stop::Unknown) };
    Ok(vec![[&[*batch, *channels], extent].concat()])
}

/// Regions of interest cut out at one size.
pub fn roi_align(call: &Call<'_>) -> Outputs {
    let ([_, channels, ..], [regions, ..]) = (call.shape(0)?, call.shape(1)?) else {
        return Err(Stop::Unknown);
    };
    let (height, width) = (size(call.int("output_height", 1))?, size(call.int("output_width", 1))?);
    Ok(vec![vec![*regions, *channels, height, width]])
}
