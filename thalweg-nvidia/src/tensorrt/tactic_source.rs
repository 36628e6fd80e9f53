//! `TacticSource`: where a builder takes its kernels from.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::abi::{Abi, Family};
use crate::error::{Error, Result};

/// Where a builder may take kernels from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TacticSource {
    /// cuBLAS. TensorRT 8 and 10.
    Cublas,
    /// cuBLASLt. TensorRT 8 and 10.
    CublasLt,
    /// cuDNN. TensorRT 8 and 10.
    Cudnn,
    /// Convolutions with tables of their edges, which take memory for speed.
    EdgeMaskConvolutions,
    /// Convolutions that are compiled during the build.
    JitConvolutions,
}

impl TacticSource {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Cublas, Self::CublasLt, Self::Cudnn, Self::EdgeMaskConvolutions, Self::JitConvolutions];

    /// Its bit in `TacticSources` of NvInfer.h.
    pub(super) fn bit(self, abi: Abi) -> Result<u32> {
        let has_libraries = matches!(abi.family, Family::TensorRt8 | Family::TensorRt10);
        let number = match self {
            Self::Cublas => has_libraries.then_some(0),
            Self::CublasLt => has_libraries.then_some(1),
            Self::Cudnn => has_libraries.then_some(2),
            Self::EdgeMaskConvolutions => Some(if has_libraries { 3 } else { 0 }),
            Self::JitConvolutions => Some(if has_libraries { 4 } else { 1 }),
        };
        let missing = || Error::NotInThisVersion { method: self.method(), version: abi.version, since: None };
        number.map(|number| 1 << number).ok_or_else(missing)
    }

    fn method(self) -> &'static str {
        match self {
            Self::Cublas => "TacticSource::kCUBLAS",
            Self::CublasLt => "TacticSource::kCUBLAS_LT",
            Self::Cudnn => "TacticSource::kCUDNN",
            Self::EdgeMaskConvolutions => "TacticSource::kEDGE_MASK_CONVOLUTIONS",
            Self::JitConvolutions => "TacticSource::kJIT_CONVOLUTIONS",
        }
    }
}

impl fmt::Display for TacticSource {
    /// TensorRT's word for it, in small letters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cublas => "cublas",
            Self::CublasLt => "cublas-lt",
            Self::Cudnn => "cudnn",
            Self::EdgeMaskConvolutions => "edge-mask-convolutions",
            Self::JitConvolutions => "jit-convolutions",
        })
    }
}
