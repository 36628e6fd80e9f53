//! The types of a tensor's elements.

use std::fmt;

use serde::Serialize;

/// Type of a tensor's elements (`DataType`, the same numbers in every version).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// 32-bit floating point.
    Float32,
    /// 16-bit floating point (IEEE 754).
    Float16,
    /// 8-bit signed integer.
    Int8,
    /// 32-bit signed integer.
    Int32,
    /// One byte, 0 or 1.
    Bool,
    /// 8-bit unsigned integer.
    Uint8,
    /// 8-bit floating point (E4M3).
    Float8,
    /// 16-bit floating point with the exponent of 32 bits.
    BFloat16,
    /// 64-bit signed integer.
    Int64,
    /// 4-bit signed integer, two in a byte.
    Int4,
    /// 4-bit floating point, two in a byte.
    Float4,
    /// 8-bit exponent without mantissa, the scale of `Float4`.
    E8M0,
    /// One that this program does not know, by TensorRT's number.
    Other(i32),
}

impl DataType {
    pub(crate) fn of(number: i32) -> Self {
        match number {
            0 => Self::Float32,
            1 => Self::Float16,
            2 => Self::Int8,
            3 => Self::Int32,
            4 => Self::Bool,
            5 => Self::Uint8,
            6 => Self::Float8,
            7 => Self::BFloat16,
            8 => Self::Int64,
            9 => Self::Int4,
            10 => Self::Float4,
            11 => Self::E8M0,
            other => Self::Other(other),
        }
    }

    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Float32 => 0,
            Self::Float16 => 1,
            Self::Int8 => 2,
            Self::Int32 => 3,
            Self::Bool => 4,
            Self::Uint8 => 5,
            Self::Float8 => 6,
            Self::BFloat16 => 7,
            Self::Int64 => 8,
            Self::Int4 => 9,
            Self::Float4 => 10,
            Self::E8M0 => 11,
            Self::Other(other) => other,
        }
    }

    /// Bits of one element, `None` where the type is not known.
    pub fn bit_count(self) -> Option<usize> {
        Some(match self {
            Self::Int64 => 64,
            Self::Float32 | Self::Int32 => 32,
            Self::Float16 | Self::BFloat16 => 16,
            Self::Int8 | Self::Bool | Self::Uint8 | Self::Float8 | Self::E8M0 => 8,
            Self::Int4 | Self::Float4 => 4,
            Self::Other(_) => return None,
        })
    }

    /// Bytes of a tensor without padding. `None` where the type is not known, a size is open (negative) or
    /// the number is larger than an address.
    pub fn byte_count(self, shape: &[i64]) -> Option<usize> {
        let sizes = shape.iter().map(|size| usize::try_from(*size).ok());
        let elements = sizes.into_iter().try_fold(1_usize, |product, size| product.checked_mul(size?))?;
        Some(elements.checked_mul(self.bit_count()?)?.div_ceil(8))
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float32 => f.write_str("float32"),
            Self::Float16 => f.write_str("float16"),
            Self::Int8 => f.write_str("int8"),
            Self::Int32 => f.write_str("int32"),
            Self::Bool => f.write_str("bool"),
            Self::Uint8 => f.write_str("uint8"),
            Self::Float8 => f.write_str("float8"),
            Self::BFloat16 => f.write_str("bfloat16"),
            Self::Int64 => f.write_str("int64"),
            Self::Int4 => f.write_str("int4"),
            Self::Float4 => f.write_str("float4"),
            Self::E8M0 => f.write_str("e8m0"),
            Self::Other(number) => write!(f, "data type {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_its_types_number() {
        assert!((0..20).all(|number| DataType::of(number).number() == number));
    }

    #[test]
    fn bytes_follow_from_type_and_shape() {
        assert_eq!(DataType::Float32.byte_count(&[1, 3, 224, 224]), Some(602_112));
        assert_eq!(DataType::Float16.byte_count(&[]), Some(2));
        assert_eq!(DataType::Int4.byte_count(&[3]), Some(2));
        assert_eq!(DataType::Int8.byte_count(&[0, 7]), Some(0));
    }

    #[test]
    fn open_sizes_unknown_types_and_overflow_have_no_bytes() {
        assert_eq!(DataType::Float32.byte_count(&[-1, 3]), None);
        assert_eq!(DataType::of(99).byte_count(&[1]), None);
        assert_eq!(DataType::Int64.byte_count(&[i64::MAX, i64::MAX]), None);
        assert_eq!(DataType::Int64.byte_count(&[i64::MAX]), None);
    }
}
