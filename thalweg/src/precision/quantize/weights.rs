//! Weights as eight-bit integers: each channel has the scale that its largest magnitude asks for.

use bytes::Bytes;

use super::plan::PlannedWeight;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::precision::calibration::LARGEST_STEP;
use crate::precision::onnx::floats;

/// A weight in eight bits.
pub(super) struct QuantizedWeight {
    /// The integers, in the weight's order.
    pub integers: Bytes,
    /// One for each channel, or one for all.
    pub scales: Vec<f32>,
    /// Sum of all errors over the sum of all magnitudes.
    pub relative_error: f64,
}

impl QuantizedWeight {
    /// Rounds a weight, all of whose numbers are finite.
    pub fn of(model: &Model, weight: &PlannedWeight) -> Result<Self> {
        let numbers = floats(&model.tensor_data(&weight.tensor)?);
        let layout = Layout::of(weight)?;
        let mut scales = vec![0.0_f32; layout.channels];
        for (place, number) in numbers.iter().enumerate() {
            let scale = &mut scales[layout.channel(place)];
            *scale = scale.max(number.abs());
        }
        scales.iter_mut().for_each(|scale| *scale = scale_of(*scale));
        let (mut error, mut total) = (0.0, 0.0);
        let mut integers = Vec::with_capacity(numbers.len());
        for (place, number) in numbers.iter().enumerate() {
            let scale = scales[layout.channel(place)];
            let integer = rounded(*number, scale);
            error += (f64::from(*number) - f64::from(integer) * f64::from(scale)).abs();
            total += f64::from(number.abs());
            integers.push(integer.cast_unsigned());
        }
        let relative_error = if total > 0.0 { error / total } else { 0.0 };
        Ok(Self { integers: integers.into(), scales, relative_error })
    }
}

/// A channel of zeros takes any scale; one of subnormal numbers the smallest that every device has.
fn scale_of(largest: f32) -> f32 {
    match largest / LARGEST_STEP {
        0.0 => 1.0,
        scale => scale.max(f32::MIN_POSITIVE),
    }
}

/// To the nearest step, to the even one of two: as QuantizeLinear does it.
#[expect(clippy::cast_possible_truncation, reason = "it is within -127 and 127")]
fn rounded(number: f32, scale: f32) -> i8 {
    (number / scale).round_ties_even().clamp(-LARGEST_STEP, LARGEST_STEP) as i8
}

/// Where the channels of a row-major tensor are.
struct Layout {
    channels: usize,
    /// Elements from one channel to the next.
    stride: usize,
}

impl Layout {
    fn of(weight: &PlannedWeight) -> Result<Self> {
        let Some(axis) = weight.axis else { return Ok(Self { channels: 1, stride: 1 }) };
        let sizes: Option<Vec<usize>> =
            weight.tensor.dims.iter().map(|size| usize::try_from(*size).ok()).collect();
        let sizes = sizes.ok_or_else(|| Error::InvalidModel {
            reason: format!("tensor `{}` has an impossible shape", weight.tensor.name()),
        })?;
        Ok(Self { channels: sizes[axis], stride: sizes[axis + 1..].iter().product::<usize>().max(1) })
    }

    fn channel(&self, place: usize) -> usize {
        place / self.stride % self.channels.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::proto::TensorProto;
    use crate::model::proto::tensor_proto::DataType as OnnxDataType;
    use crate::model::sketch::Sketch;

    fn quantized(dims: &[i64], axis: Option<usize>, numbers: &[f32]) -> QuantizedWeight {
        let tensor = TensorProto {
            name: Some("w".into()),
            dims: dims.to_vec(),
            data_type: Some(OnnxDataType::Float as i32),
            float_data: numbers.to_vec(),
            ..TensorProto::default()
        };
        let model = Sketch::new().input("x", "1").output("y").node("y = Relu(x)", &[]).model();
        QuantizedWeight::of(&model, &PlannedWeight { name: "w".into(), tensor, axis }).unwrap()
    }

    fn integers(weight: &QuantizedWeight) -> Vec<i8> {
        weight.integers.iter().map(|byte| byte.cast_signed()).collect()
    }

    #[test]
    fn each_channel_has_the_scale_of_its_largest_magnitude() {
        let rows = quantized(&[2, 2], Some(0), &[127.0, -63.5, 0.0, 1.27]);
        assert_eq!((integers(&rows), rows.scales), (vec![127, -64, 0, 127], vec![1.0, 0.01]));
        let columns = quantized(&[2, 2], Some(1), &[1.27, 127.0, -1.27, 2.0]);
        assert_eq!((integers(&columns), columns.scales), (vec![127, 127, -127, 2], vec![0.01, 1.0]));
    }

    #[test]
    fn one_scale_does_for_a_weight_without_channels() {
        let all = quantized(&[2, 2, 1], None, &[12.7, -1.27, 0.0, 127.0]);
        assert_eq!((integers(&all), all.scales), (vec![13, -1, 0, 127], vec![1.0]));
    }

    #[test]
    fn zeros_and_subnormal_numbers_have_a_scale_that_is_a_normal_number() {
        let odd = quantized(&[2, 2], Some(0), &[0.0, 0.0, 1e-42, -1e-42]);
        assert_eq!(integers(&odd), [0, 0, 0, 0]);
        assert_eq!(odd.scales, [1.0, f32::MIN_POSITIVE]);
        assert_eq!(odd.relative_error, 1.0);
    }
}
