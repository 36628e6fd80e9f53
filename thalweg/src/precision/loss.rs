//! All that is known of what a lower precision costs, as plain data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Accuracy, ConversionReport, LayerErrors, Mix, QuantizationReport};

/// Version of [`LossReport`]'s format.
pub const LOSS_VERSION: u32 = 1;

/// What a model or an engine loses against another one, where, and what was done to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossReport {
    /// [`LOSS_VERSION`].
    pub schema_version: u32,
    /// What is right.
    pub reference: PathBuf,
    /// What was compared with it.
    pub other: PathBuf,
    /// The limits, as on the command line.
    pub limits: Vec<String>,
    /// Its outputs; `None` where they were not compared.
    pub accuracy: Option<Accuracy>,
    /// Its layers; `None` where they were not compared, as those of an engine.
    pub layers: Option<LayerErrors>,
    /// How it was made of the reference, where that was done in the same run.
    pub conversion: Option<Conversion>,
    /// What was weighed, where nodes were chosen by what they lose.
    pub mix: Option<Mix>,
}

/// What a conversion did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Conversion {
    /// To FP16 or BF16.
    Half(Box<ConversionReport>),
    /// To INT8.
    Int8(Box<QuantizationReport>),
}

/// A node that stayed in FP32, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Stayed<'a> {
    /// Its name.
    pub node: &'a str,
    /// Its operator.
    pub operator: &'a str,
    /// Why, in a few words.
    pub reason: String,
}

impl Conversion {
    /// The precision, and how many nodes compute in it now.
    pub fn lowered(&self) -> (String, usize) {
        match self {
            Self::Half(report) => (report.precision.to_string(), report.half_nodes),
            Self::Int8(report) => ("int8".to_owned(), report.quantized_nodes()),
        }
    }

    /// Every node that could be in the lower precision and is not. Around eight bits a node may be there twice: for them, and
    /// for half.
    pub fn stayed(&self) -> Vec<Stayed<'_>> {
        match self {
            Self::Half(report) => kept(report).collect(),
            Self::Int8(report) => {
                let skipped = report.skipped.iter().map(|it| Stayed {
                    node: &it.node,
                    operator: &it.operator,
                    reason: it.reason.summary().to_owned(),
                });
                skipped.chain(report.rest.iter().flat_map(|rest| kept(rest))).collect()
            }
        }
    }

    /// The model's size in bytes before and after.
    pub fn sizes(&self) -> (u64, u64) {
        match self {
            Self::Half(report) => (report.bytes_before, report.bytes_after),
            Self::Int8(report) => (report.bytes_before, report.bytes_after),
        }
    }
}

/// What stayed in FP32 where all else is half.
fn kept(report: &ConversionReport) -> impl Iterator<Item = Stayed<'_>> {
    report.kept.iter().map(|it| Stayed {
        node: &it.node,
        operator: &it.operator,
        reason: it.reason.summary(),
    })
}
