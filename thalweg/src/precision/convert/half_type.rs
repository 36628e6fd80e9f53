//! The two half types: their limits, and tensors converted to them with an account of what was lost.
//!
//! In: numbers in `f32`. Out: the same in two bytes each, and a [`Loss`]. What follows from a loss is left to
//! [`graph`](super::graph).

use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use crate::model::DataType;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;

/// A floating-point type of 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HalfType {
    /// IEEE 754 binary16: 11 significant bits, up to 65504.
    Fp16,
    /// The upper half of an `f32`: 8 significant bits, and all of its range.
    Bf16,
}

impl HalfType {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Fp16, Self::Bf16];

    /// Its elements as a tensor has them.
    pub const fn data_type(self) -> DataType {
        match self {
            Self::Fp16 => DataType::F16,
            Self::Bf16 => DataType::BF16,
        }
    }

    /// ONNX's number for it.
    pub(super) const fn onnx(self) -> i32 {
        match self {
            Self::Fp16 => OnnxDataType::Float16 as i32,
            Self::Bf16 => OnnxDataType::Bfloat16 as i32,
        }
    }

    /// The largest finite number: 65504 and 3.39e38 (IEEE 754-2019, table 3.5; `half::bf16::MAX`).
    pub fn largest(self) -> f64 {
        match self {
            Self::Fp16 => f16::MAX.to_f64(),
            Self::Bf16 => bf16::MAX.to_f64(),
        }
    }

    /// The smallest number with all its significant bits; what is smaller is subnormal: 6.1e-5 and 1.2e-38 (as
    /// [`largest`](Self::largest)).
    pub fn smallest_normal(self) -> f64 {
        match self {
            Self::Fp16 => f16::MIN_POSITIVE.to_f64(),
            Self::Bf16 => bf16::MIN_POSITIVE.to_f64(),
        }
    }

    /// Whether a finite number becomes infinite: it lies half a step or more above the largest one.
    pub fn overflows(self, value: f32) -> bool {
        value.is_finite() && self.rounded(value).is_infinite()
    }

    /// The nearest number of this type.
    pub(super) fn rounded(self, value: f32) -> f32 {
        match self {
            Self::Fp16 => f16::from_f32(value).to_f32(),
            Self::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }

    /// Little-endian bytes of each number.
    pub(super) fn encode(self, values: &[f32]) -> Bytes {
        let bits = |value: &f32| match self {
            Self::Fp16 => f16::from_f32(*value).to_bits(),
            Self::Bf16 => bf16::from_f32(*value).to_bits(),
        };
        values.iter().flat_map(|value| bits(value).to_le_bytes()).collect::<Vec<u8>>().into()
    }

    /// What numbers lose on the way into this type.
    pub(super) fn loss(self, values: &[f32]) -> Loss {
        let mut loss = Loss { elements: values.len() as u64, ..Loss::default() };
        let (mut error, mut total) = (0.0, 0.0);
        for &value in values.iter().filter(|value| value.is_finite() && **value != 0.0) {
            let rounded = self.rounded(value);
            let magnitude = f64::from(value.abs());
            loss.clipped += u64::from(rounded.is_infinite());
            loss.subnormal += u64::from(magnitude < self.smallest_normal() && rounded != 0.0);
            loss.flushed += u64::from(rounded == 0.0);
            loss.largest = loss.largest.max(magnitude);
            error += (f64::from(rounded) - f64::from(value)).abs();
            total += magnitude;
        }
        loss.relative_error = if total > 0.0 { error / total } else { 0.0 };
        loss
    }
}

impl fmt::Display for HalfType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
        })
    }
}

/// What a tensor loses in a half type. Zeros, infinities and NaN lose nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Loss {
    pub elements: u64,
    /// Finite numbers that become infinite.
    pub clipped: u64,
    /// Numbers that are left with fewer significant bits.
    pub subnormal: u64,
    /// Numbers that become zero.
    pub flushed: u64,
    /// The largest finite magnitude.
    pub largest: f64,
    /// Sum of all errors over the sum of all magnitudes.
    pub relative_error: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp16_overflows_half_a_step_above_its_largest_number() {
        assert!(!HalfType::Fp16.overflows(65_519.0));
        assert!(HalfType::Fp16.overflows(65_520.0));
        assert!(!HalfType::Fp16.overflows(f32::INFINITY));
        assert!(!HalfType::Bf16.overflows(1e38));
        assert!(HalfType::Bf16.overflows(f32::MAX));
    }

    #[test]
    fn losses_are_counted_by_their_kind() {
        let loss = HalfType::Fp16.loss(&[0.0, 1.0, 1e-6, 1e-9, 1e6, f32::NAN, f32::INFINITY]);
        assert_eq!((loss.elements, loss.subnormal, loss.flushed, loss.clipped), (7, 1, 1, 1));
        let harmless = HalfType::Bf16.loss(&[1.0, 1e-6, 1e-9, 1e6]);
        assert_eq!((harmless.subnormal, harmless.flushed, harmless.clipped), (0, 0, 0));
        assert!(harmless.relative_error < 4e-3);
    }

    #[test]
    fn bytes_are_little_endian() {
        assert_eq!(HalfType::Fp16.encode(&[1.0, -2.0])[..], [0x00, 0x3c, 0x00, 0xc0]);
        assert_eq!(HalfType::Bf16.encode(&[1.0])[..], [0x80, 0x3f]);
    }
}
