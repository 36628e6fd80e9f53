//! Element types of tensors.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::proto::tensor_proto::DataType as OnnxDataType;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum DataType {
    F32,
    F16,
    BF16,
    F64,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    Bool,
}

impl DataType {
    /// The type behind ONNX's number for it; `None` for strings, complex numbers and types below 8 bits.
    pub fn from_onnx(number: i32) -> Option<Self> {
        Some(match OnnxDataType::try_from(number).ok()? {
            OnnxDataType::Float => Self::F32,
            OnnxDataType::Float16 => Self::F16,
            OnnxDataType::Bfloat16 => Self::BF16,
            OnnxDataType::Double => Self::F64,
            OnnxDataType::Int8 => Self::I8,
            OnnxDataType::Uint8 => Self::U8,
            OnnxDataType::Int16 => Self::I16,
            OnnxDataType::Uint16 => Self::U16,
            OnnxDataType::Int32 => Self::I32,
            OnnxDataType::Uint32 => Self::U32,
            OnnxDataType::Int64 => Self::I64,
            OnnxDataType::Uint64 => Self::U64,
            OnnxDataType::Bool => Self::Bool,
            _ => return None,
        })
    }

    /// Size of one element in bytes.
    pub const fn byte_count(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// Whether its values are floating-point numbers.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F64)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F64 => "f64",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I16 => "i16",
            Self::U16 => "u16",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::Bool => "bool",
        })
    }
}
