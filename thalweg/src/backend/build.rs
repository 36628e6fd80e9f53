//! How an engine is built, and what comes out: plain data that a cache can store.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thalweg_nvidia::tensorrt::TacticSource;

use crate::error::{Error, Result};
use crate::model::Signature;

/// How to build an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildSpec {
    /// Shapes of inputs with open dimensions, as whole shapes with the batch in front. Inputs that are
    /// not named keep the model's shape.
    pub input_shapes: BTreeMap<String, Vec<usize>>,
    /// The largest batch that will be run.
    pub max_batch_size: usize,
    /// What the builder may do.
    #[serde(default)]
    pub options: BuildOptions,
}

/// What the builder of an engine may do. The default is the builder's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuildOptions {
    /// The least precision that layers may compute in.
    pub precision: Precision,
    /// Whether FP32 products keep all their digits: without it TensorRT rounds their inputs to TF32.
    pub is_exact_fp32: bool,
    /// How hard TensorRT looks for fast kernels, 0 to 5.
    pub optimization_level: Option<u8>,
    /// Most device memory that a kernel may ask for besides activations, in bytes.
    pub workspace_bytes: Option<u64>,
    /// Most streams that one execution may use besides its own.
    pub aux_streams: Option<u8>,
    /// Where TensorRT may take kernels from, or may not, unlike its own choice.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tactics: BTreeMap<TacticSource, bool>,
    /// Whether later versions of TensorRT can run the engine.
    pub is_version_compatible: bool,
    /// The smallest batch that will be run, where it is more than one: kernels need not suit smaller ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_batch_size: Option<usize>,
}

impl BuildOptions {
    /// For backends that have nothing to choose.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for another precision than FP32.
    pub(super) fn check_fp32(&self, backend: &str) -> Result<()> {
        if self.precision == Precision::Fp32 {
            return Ok(());
        }
        Err(Error::InvalidSetting {
            name: "precision",
            value: self.precision.to_string(),
            reason: format!("the {backend} backend computes as the model says: use fp32"),
        })
    }
}

/// The least precision that layers may compute in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// What the model declares, FP32 as a rule.
    #[default]
    Fp32,
    /// FP16 where that is faster.
    Fp16,
    /// BF16 where that is faster.
    Bf16,
    /// INT8 or FP16 where that is faster, with ranges from calibration.
    Int8,
}

impl Precision {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Fp32, Self::Fp16, Self::Bf16, Self::Int8];

    /// Bytes of one of its numbers.
    pub fn element_bytes(self) -> f64 {
        match self {
            Self::Fp32 => 4.0,
            Self::Fp16 | Self::Bf16 => 2.0,
            Self::Int8 => 1.0,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

/// An engine as bytes, with all that is needed to decide whether it can be loaded.
#[derive(Clone, Debug)]
pub struct SerializedEngine {
    /// The backend that built it.
    pub backend: String,
    /// The engine.
    pub bytes: Bytes,
    /// How it was built; `None` where that is not known, as for a file of somebody else's.
    pub spec: Option<BuildSpec>,
    /// What the model declares to go in and to come out; `None` where only the engine itself tells.
    pub signature: Option<Signature>,
}

impl SerializedEngine {
    /// Refuses what another backend has built.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] naming both.
    pub(super) fn check_backend(&self, backend: &str) -> Result<()> {
        if self.backend == backend {
            return Ok(());
        }
        Err(Error::InvalidSetting {
            name: "engine",
            value: format!("of the {} backend", self.backend),
            reason: format!("the {backend} backend only loads its own"),
        })
    }
}
