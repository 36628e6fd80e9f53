//! Well-known networks with seeded random weights, written without any file or download.
//!
//! In goes a [`Network`] and a seed, out comes an ONNX model of opset 17 with a dynamic batch dimension. All
//! machines get the same bytes. Random weights cost as much time as trained ones, and activations keep their
//! size through all layers; but nothing was learned, so accuracy must not be judged on them. Reading,
//! checking and running a model is left to others.

mod bert;
mod graph;
mod mobilenet;
mod resnet;
mod synthetic;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use self::graph::Graph;
use super::proto::ModelProto;
use crate::error::Error;

/// A network that the library can write itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Image classifier, v1.5: `images` `[batch, 3, 224, 224]` to `logits` `[batch, 1000]`.
    Resnet50,
    /// Image classifier for small devices: `images` `[batch, 3, 224, 224]` to `logits` `[batch, 1000]`.
    MobilenetV2,
    /// Text encoder: INT64 `input_ids` (below 30522), `attention_mask` and `token_type_ids` (0 or 1), all
    /// `[batch, 128]`, to `last_hidden_state` `[batch, 128, 768]` and `pooled` `[batch, 768]`.
    BertBase,
    /// Large matrix products: `input` `[batch, 512]` to `scores` `[batch, 512]`.
    Compute,
    /// Passes over a large matrix: `input` `[batch, 2048]` to `scores` `[batch, 2048]`.
    Memory,
    /// A large input, hardly any work: `images` `[batch, 3, 1024, 1024]` to `lines` `[batch, 3, 64]`.
    Transfer,
    /// Hundreds of tiny kernels: `input` `[batch, 64]` to `output` `[batch, 64]`.
    Launch,
    /// Convolutions of few tiles: `input` `[batch, 16, 14, 14]` to `output` `[batch, 784]`.
    Underfilled,
    /// Nothing stands out: `images` to `result`, both `[batch, 3, 256, 256]`.
    Balanced,
}

impl Network {
    /// All of them: three that are well known, then six that each show one bottleneck.
    pub const ALL: [Self; 9] = [
        Self::Resnet50,
        Self::MobilenetV2,
        Self::BertBase,
        Self::Compute,
        Self::Memory,
        Self::Transfer,
        Self::Launch,
        Self::Underfilled,
        Self::Balanced,
    ];

    /// Its name in commands and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resnet50 => "resnet50",
            Self::MobilenetV2 => "mobilenet_v2",
            Self::BertBase => "bert_base",
            Self::Compute => "compute",
            Self::Memory => "memory",
            Self::Transfer => "transfer",
            Self::Launch => "launch",
            Self::Underfilled => "underfilled",
            Self::Balanced => "balanced",
        }
    }

    /// What it is and what bounds it on a large GPU, in one line.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Resnet50 => {
                "ResNet-50 v1.5 image classifier: underfilled at batch 1, compute-bound at batch 128"
            }
            Self::MobilenetV2 => {
                "MobileNetV2 image classifier: many small kernels, memory-bound in large batches"
            }
            Self::BertBase => "BERT base text encoder, 128 tokens: compute-bound from small batches on",
            Self::Compute => "eight matrix products of 4.3 GFLOP: compute-bound",
            Self::Memory => "a 34 MB matrix scaled by its rows and columns in turn: memory-bound",
            Self::Transfer => "every 256th pixel of a 12.6 MB image: transfer-bound (H2D)",
            Self::Launch => "160 dependent layers of 64x64: enqueue-bound",
            Self::Underfilled => "16 convolutions that fill an eighth of a large GPU: underfilled at batch 1",
            Self::Balanced => "a small image-to-image network: transfers, arithmetic and memory take alike",
        }
    }

    /// Writes the network with random weights that follow from `seed`.
    ///
    /// ```
    /// use thalweg::model::zoo::Network;
    ///
    /// let model = Network::Launch.generate(7);
    /// assert_eq!(model, Network::Launch.generate(7));
    /// assert_ne!(model, Network::Launch.generate(8));
    /// ```
    pub fn generate(self, seed: u64) -> ModelProto {
        self.graph().into_model(seed)
    }

    fn graph(self) -> Graph {
        match self {
            Self::Resnet50 => resnet::resnet50(),
            Self::MobilenetV2 => mobilenet::mobilenet_v2(),
            Self::BertBase => bert::bert_base(),
            Self::Compute => synthetic::compute(),
            Self::Memory => synthetic::memory(),
            Self::Transfer => synthetic::transfer(),
            Self::Launch => synthetic::launch(),
            Self::Underfilled => synthetic::underfilled(),
            Self::Balanced => synthetic::balanced(),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|network| network.name() == name).ok_or_else(|| Error::InvalidSetting {
            name: "network",
            value: format!("`{name}`"),
            reason: format!("the known ones are {}", Self::ALL.map(Self::name).join(", ")),
        })
    }
}

#[cfg(test)]
mod tests;
