//! What can be typed about lower precisions and what they cost.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use thalweg::backend::{DataSheet, Precision};
use thalweg::model::DataType;
use thalweg::precision::{AccuracyLimit, CalibrationMethod, HalfType, Selection};

use super::{CacheArgs, GpuArgs, ShapeArgs};
use crate::values::{method_parser, parse_device, parse_input_type, rest_parser, target_parser};

#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// ONNX file
    pub model: PathBuf,
    /// The type to compute in: fp16, bf16, int8; with auto, int8 as far as --max-loss allows, else FP32; with fp32 the
    /// model is written as it is
    #[arg(long, value_name = "WHAT", default_value = "fp16", value_parser = target_parser())]
    pub precision: Target,
    /// File to write
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Samples to look at the ranges of values on (fp16, bf16) or to compare the result on (int8): .npy for one input,
    /// .npz with an array per input, or a folder of them [default: those of --calibrate, else random]
    #[arg(long, value_name = "FILE|DIR")]
    pub input: Option<PathBuf>,
    /// Samples for the ranges of int8, in the same form; random without it
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "calibration_table")]
    pub calibrate: Option<PathBuf>,
    #[command(flatten)]
    pub quantization: QuantizationArgs,
    /// Keep to it: cosine=0.999, top1=0.99 or rel=0.01; int8 fails where it is further from FP32, with all others nodes
    /// that lose too much stay in FP32
    #[arg(long, value_name = "LIMIT", value_delimiter = ',')]
    pub max_loss: Vec<AccuracyLimit>,
    /// Do not compare the result with FP32 on the processor
    #[arg(long, conflicts_with = "max_loss")]
    pub no_accuracy: bool,
    /// Say which layers the error comes from
    #[arg(long)]
    pub layers: bool,
    /// Folder for accuracy.json and report.html, with the error of every layer
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Convert FP32 inputs and outputs too
    #[arg(long)]
    pub half_io: bool,
    /// The device on whose data sheet auto weighs a node's time
    #[arg(long, value_name = "DEVICE", default_value = "h100", value_parser = parse_device)]
    pub for_device: DataSheet,
    /// Do not run the network to look at the ranges of its values
    #[arg(long, conflicts_with = "input")]
    pub no_ranges: bool,
    /// Seed of random samples
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub shapes: ShapeArgs,
}

#[derive(Debug, Args)]
pub struct AccuracyArgs {
    /// What is right: an ONNX file, or an engine that `build` wrote or TensorRT's own tools
    pub reference: PathBuf,
    /// What is compared with it, in the same form
    pub other: PathBuf,
    /// What runs them: auto, tensorrt or cpu
    #[arg(long, default_value = "auto")]
    pub backend: String,
    #[command(flatten)]
    pub gpu: GpuArgs,
    #[command(flatten)]
    pub shapes: ShapeArgs,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Samples to compare on: .npy for one input, .npz with an array per input, or a folder of them; random without it
    #[arg(long, value_name = "FILE|DIR")]
    pub input: Option<PathBuf>,
    /// Seed of random samples
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Fail where the second is further from the first: cosine=0.999, top1=0.99 or rel=0.01
    #[arg(long, value_name = "LIMIT", value_delimiter = ',')]
    pub max_loss: Vec<AccuracyLimit>,
    /// Say which layers the error comes from: both must be models, and run on the processor
    #[arg(long)]
    pub layers: bool,
    /// Folder for accuracy.json and report.html; of two models with the error of every layer
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct InputsArgs {
    /// ONNX file
    pub model: PathBuf,
    /// The type of its FP32 inputs: u8 or f16
    #[arg(long, value_name = "TYPE", default_value = "u8", value_parser = parse_input_type)]
    pub to: DataType,
    #[command(flatten)]
    pub line: ByteLineArgs,
    /// File to write
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Samples of the original, in FP32, to see on what rounding them costs: .npy for one input, .npz with an array per
    /// input, or a folder of them; random without it
    #[arg(long, value_name = "FILE|DIR")]
    pub input: Option<PathBuf>,
    /// Fail where that is more than this: cosine=0.999, top1=0.99 or rel=0.01
    #[arg(long, value_name = "LIMIT", value_delimiter = ',')]
    pub max_loss: Vec<AccuracyLimit>,
    /// Do not run it on the processor beside the original
    #[arg(long, conflicts_with_all = ["max_loss", "input"])]
    pub no_accuracy: bool,
    /// Seed of random samples
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub shapes: ShapeArgs,
}

/// What bytes stand for.
#[derive(Debug, Args)]
pub struct ByteLineArgs {
    /// What bytes are multiplied by: one number, or one for each channel
    #[arg(
        long, value_name = "LIST", value_delimiter = ',', default_values_t = [1.0],
        allow_hyphen_values = true
    )]
    pub scale: Vec<f32>,
    /// What is added then: one number, or one for each channel
    #[arg(
        long, value_name = "LIST", value_delimiter = ',', default_values_t = [0.0],
        allow_hyphen_values = true
    )]
    pub shift: Vec<f32>,
}

impl ByteLineArgs {
    /// Whether something was said.
    pub fn is_given(&self) -> bool {
        self.scale != [1.0] || self.shift != [0.0]
    }
}

/// The type of inputs on their way to the device.
#[derive(Debug, Args)]
pub struct InputTypeArgs {
    /// Let the network take its FP32 inputs as u8 or f16, of which the device makes FP32; samples in files are then of
    /// that type
    #[arg(long, value_name = "TYPE", value_parser = parse_input_type)]
    pub input_type: Option<DataType>,
    #[command(flatten)]
    pub line: ByteLineArgs,
}

/// What a model is converted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Fp32,
    Half(HalfType),
    Int8,
    Auto,
}

impl Target {
    /// Whether some of it is in eight bits.
    pub fn has_int8(self) -> bool {
        matches!(self, Self::Int8 | Self::Auto)
    }

    /// The builder's flag for it; `None` where it is a choice of nodes, which no flag can make.
    pub fn flag(self) -> Option<Precision> {
        match self {
            Self::Fp32 => Some(Precision::Fp32),
            Self::Half(HalfType::Fp16) => Some(Precision::Fp16),
            Self::Half(HalfType::Bf16) => Some(Precision::Bf16),
            Self::Int8 => Some(Precision::Int8),
            Self::Auto => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fp32 => f.write_str("fp32"),
            Self::Half(half) => half.fmt(f),
            Self::Int8 => f.write_str("int8"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// How a lower precision reaches a builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionRoute {
    /// The builder chooses which layers compute in a lower precision
    Flags,
    /// The model is converted and says so itself
    Onnx,
}

/// Which nodes a conversion may touch.
#[derive(Debug, Args)]
pub struct SelectionArgs {
    /// Nodes and operators that stay in FP32, by name; TensorRT 8 and 10 take that as a wish and may run them in the lower
    /// precision all the same
    #[arg(long, value_name = "NAME|OP", value_delimiter = ',')]
    pub keep_f32: Vec<String>,
    /// Nodes and operators that alone compute in the lower precision, by name; --keep-f32 is stronger, and all else stays in
    /// FP32 as it does
    #[arg(long, value_name = "NAME|OP", value_delimiter = ',')]
    pub only: Vec<String>,
}

impl SelectionArgs {
    /// As the passes take it.
    pub fn selection(&self) -> Selection<'_> {
        Selection::new(&self.keep_f32, &self.only)
    }
}

/// What becomes of the nodes that eight bits leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    Fp32,
    Half(HalfType),
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fp32 => f.write_str("fp32"),
            Self::Half(half) => half.fmt(f),
        }
    }
}

/// How a model becomes one of eight bits.
#[derive(Debug, Args)]
pub struct QuantizationArgs {
    /// How the thresholds of int8 are chosen: mse, entropy, percentile (99.99 %), minmax
    #[arg(long, value_name = "HOW", default_value = "mse", value_parser = method_parser())]
    pub calibration_method: CalibrationMethod,
    /// Take the thresholds from this file instead of samples: JSON of ours, or a calibration cache of TensorRT's
    #[arg(long, value_name = "FILE")]
    pub calibration_table: Option<PathBuf>,
    /// Write the thresholds to this file: as a calibration cache of TensorRT's where it ends in .cache, else as JSON
    #[arg(long, value_name = "FILE")]
    pub save_calibration_table: Option<PathBuf>,
    /// Quantise the first and the last layers too, which stay out of eight bits otherwise
    #[arg(long)]
    pub quantize_ends: bool,
    /// What becomes of the nodes that int8 and auto leave, as far as --keep-f32, --only and, with auto, --max-loss allow:
    /// fp32, fp16, bf16 (not on TensorRT 8) [default: for `build` and `tune` fp16 where the types of the model alone count
    /// (TensorRT 11 and RTX, cpu), else fp32, which TensorRT 8 and 10 take as a wish and may run in FP16]
    #[arg(long, value_name = "WHAT", value_parser = rest_parser())]
    pub rest: Option<Rest>,
    /// Leave biases as they are, which otherwise take back what rounding shifts on average (with samples alone)
    #[arg(long)]
    pub keep_biases: bool,
    /// Leave weights in FP32 with a QuantizeLinear behind them, and scales in FP32, as TensorRT 8 needs it; `build` knows
    /// when
    #[arg(long)]
    pub fp32_weights: bool,
}

impl QuantizationArgs {
    /// What all of them are for that [`are_given`](Self::are_given) asks about.
    pub const PURPOSE: &str = "calibration tables, --quantize-ends, --rest, --keep-biases and --fp32-weights are for \
         --precision int8 and auto, where the model is converted";

    /// Whether something was asked for that only a quantisation of the model can do.
    pub fn are_given(&self) -> bool {
        let files = [&self.calibration_table, &self.save_calibration_table];
        files.iter().any(|file| file.is_some())
            || self.quantize_ends
            || self.rest.is_some()
            || self.keep_biases
            || self.fp32_weights
    }
}
