//! What can be typed: commands, options and their help.

mod load;
mod precision;
mod results;
mod watching;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use thalweg::backend::{
    CudaGraph, DataSheet, PlantedFault, Precision, TacticSource, TimesTaken, Transfers, Wait,
};
use thalweg::export::Format;
use thalweg::measure::Feeding;
use thalweg::model::DataType;
use thalweg::model::zoo::Network;
use thalweg::precision::AccuracyLimit;

use crate::values::{
    BatchRange, CopyLanes, Counts, counters_parser, format_parser, graph_parser, network_parser,
    parse_batch_range, parse_copy_lanes, parse_count, parse_counts, parse_delay, parse_device, parse_fault,
    parse_feeding, parse_input_type, parse_positive, parse_seconds, parse_shape, parse_span, parse_tactics,
    precision_parser, stage_times_parser, target_parser, transfers_parser, wait_parser,
};

pub use load::{LoadArgs, Spacing};
pub use precision::{
    AccuracyArgs, ByteLineArgs, ConvertArgs, InputTypeArgs, InputsArgs, PrecisionRoute, QuantizationArgs,
    Rest, SelectionArgs, Target,
};
pub use results::{CompareArgs, ExportArgs, ReportArgs};
pub use watching::{TopArgs, WatchArgs};

/// Finds, proves and runs the fastest way to push inferences through a network on several streams.
#[derive(Debug, Parser)]
#[command(name = "thalweg", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but the result
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what this machine has to run networks on, and what is missing
    Doctor(DoctorArgs),
    /// Show a model's inputs, outputs and cost
    Inspect(InspectArgs),
    /// Write a well-known network with seeded random weights as an ONNX file
    Model(ModelArgs),
    /// Convert a model to FP16, BF16 or INT8 and write it as an ONNX file
    Convert(ConvertArgs),
    /// Let a model take its inputs as bytes or in FP16, and write it as an ONNX file
    Inputs(InputsArgs),
    /// Build an engine and write it to a file
    Build(BuildArgs),
    /// Compare what two models or engines give for the same samples
    Accuracy(AccuracyArgs),
    /// Measure one configuration
    Bench(BenchArgs),
    /// Say what limits one configuration, with evidence, and try what would help
    Diagnose(DiagnoseArgs),
    /// Find the best configuration under a latency and memory limit
    Tune(Box<TuneArgs>),
    /// Compare devices on paper, from data sheets: nothing is run
    Predict(PredictArgs),
    /// Turn a tuned configuration into a file for Triton, trtexec or C++
    Export(ExportArgs),
    /// Say which of two results is faster, by how much, and whether they can be compared (exit code 3 where not)
    Compare(CompareArgs),
    /// Say what a program that Thalweg did not write does with its GPU, and what that costs
    Watch(WatchArgs),
    /// Show what a GPU does now, as bars
    Top(TopArgs),
    /// Show the result of an earlier `bench`, `diagnose`, `tune` or `watch` again
    Report(ReportArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff)
    Man,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Tell the device memory that this engine takes, instead
    #[arg(long, value_name = "FILE")]
    pub engine: Option<PathBuf>,
    /// Slots of each stream
    #[arg(long, default_value_t = 2, requires = "engine", value_parser = parse_count)]
    pub depth: usize,
    /// Samples per execution [default: the engine's most]
    #[arg(long, requires = "engine", value_parser = parse_count)]
    pub batch: Option<usize>,
    /// Smallest execution that is prepared for a batch that is not full [default: the whole batch]
    #[arg(long, value_name = "N", requires = "engine", value_parser = parse_count)]
    pub smallest_batch: Option<usize>,
    /// What is replayed as a CUDA graph, which takes an execution context for each slot
    #[arg(
        long, value_name = "WHAT", default_value = "off", requires = "engine", value_parser = graph_parser()
    )]
    pub cuda_graph: CudaGraph,
    #[command(flatten)]
    pub gpu: GpuArgs,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// ONNX file
    pub model: PathBuf,
    /// Samples per execution
    #[arg(long, default_value_t = 1, value_parser = parse_count)]
    pub batch: usize,
    #[command(flatten)]
    pub shapes: ShapeArgs,
}

#[derive(Debug, Args)]
pub struct PredictArgs {
    /// ONNX file
    pub model: PathBuf,
    /// Devices to compare
    #[arg(long, value_name = "LIST", value_delimiter = ',', required = true, value_parser = parse_device)]
    pub device: Vec<DataSheet>,
    /// measurement.json of a `bench` to anchor the predictions on
    #[arg(long, value_name = "FILE")]
    pub measured: Option<PathBuf>,
    /// Batch sizes
    #[arg(
        long, value_name = "LIST", value_delimiter = ',', default_values_t = [1, 8, 32],
        value_parser = parse_count
    )]
    pub batch: Vec<usize>,
    /// Types that inputs are copied in: f32, f16, u8
    #[arg(
        long, value_name = "LIST", value_delimiter = ',', default_value = "f32",
        value_parser = parse_input_type
    )]
    pub input_type: Vec<DataType>,
    /// How numbers are stored and multiplied: fp32, fp16, int8
    #[arg(long, default_value = "fp16", value_parser = precision_parser())]
    pub precision: Precision,
    #[command(flatten)]
    pub shapes: ShapeArgs,
}

#[derive(Debug, Args)]
pub struct ModelArgs {
    /// The network
    #[arg(value_parser = network_parser())]
    pub name: Network,
    /// File to write
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Debug, Args)]
pub struct ShapeArgs {
    /// Shape of an input with open dimensions, the batch in front: name=1x3x224x224
    #[arg(long = "shape", value_name = "NAME=SHAPE", value_parser = parse_shape)]
    pub shapes: Vec<(String, Vec<usize>)>,
}

/// On what to run it, and what goes in.
#[derive(Debug, Args)]
pub struct WorkloadArgs {
    /// What runs the network: auto, tensorrt, cpu, or a simulated device such as simulated:h100
    #[arg(long, default_value = "auto")]
    pub backend: String,
    #[command(flatten)]
    pub gpu: GpuArgs,
    /// Performance counters: NVML's gpm, CUPTI's pm sampling (needs rights), auto for pm where no gpm is, off to see their
    /// cost [default: auto for diagnose, gpm for the others]
    #[arg(long, value_name = "SOURCE", value_parser = counters_parser())]
    pub counters: Option<thalweg::backend::CounterChoice>,
    #[command(flatten)]
    pub builder: BuilderArgs,
    #[command(flatten)]
    pub cache: CacheArgs,
    #[command(flatten)]
    pub shapes: ShapeArgs,
    /// Samples to feed: .npy for one input, .npz with an array per input, or a folder of them; random without it
    #[arg(long, value_name = "FILE|DIR")]
    pub input: Option<PathBuf>,
    /// How samples get into the slots: copied by N threads, or resident: copied once, as in trtexec [default: 1 thread
    /// where the cores compute, else half of the cores, at most 8]
    #[arg(long, value_name = "N|resident", value_parser = parse_feeding)]
    pub feed: Option<Feeding>,
    /// Seed of random samples, and of the search
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// What the builder of an engine may do (tensorrt backend).
#[derive(Debug, Args)]
pub struct BuilderArgs {
    /// The least precision that layers may compute in: fp32, fp16, int8; `build` and `tune` also take bf16, and auto,
    /// which is int8 as far as --max-loss allows; `tune` takes several [default: fp32; on simulated devices fp16]
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = target_parser())]
    pub precision: Vec<Target>,
    /// Samples for the ranges of int8: .npy for one input, .npz with an array per input, or a folder of them
    #[arg(long, value_name = "FILE|DIR")]
    pub calibrate: Option<PathBuf>,
    #[command(flatten)]
    pub inputs: InputTypeArgs,
    /// Compute FP32 products with all digits instead of TF32's
    #[arg(long)]
    pub exact_fp32: bool,
    /// How hard to look for fast kernels, 0 to 5; `tune` takes several
    #[arg(
        long, value_name = "N", value_delimiter = ',',
        value_parser = clap::value_parser!(u8).range(0..=5)
    )]
    pub optimization_level: Vec<u8>,
    /// Most device memory that a kernel may need besides activations, in megabytes (10^6 bytes)
    #[arg(long, value_name = "MB", value_parser = parse_count)]
    pub workspace_mb: Option<usize>,
    /// Most streams that one execution may use besides its own; `tune` takes several
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub aux_streams: Vec<u8>,
    /// Batches that the engine runs, as in 8 or 5-8, with kernels for the largest; `tune` takes several and builds an
    /// engine for each [default: 1 up to the largest batch]
    #[arg(long, value_name = "RANGE", value_delimiter = ',', value_parser = parse_batch_range)]
    pub batch_range: Vec<BatchRange>,
    /// Where to take kernels from, or not, such as -jit-convolutions,+cudnn: cublas, cublas-lt, cudnn,
    /// edge-mask-convolutions, jit-convolutions [default: as TensorRT does]
    #[arg(long, value_name = "+|-SOURCE", value_delimiter = ',', allow_hyphen_values = true, value_parser = parse_tactics)]
    pub tactics: Vec<(TacticSource, bool)>,
    /// Let later versions of TensorRT run the engine
    #[arg(long)]
    pub version_compatible: bool,
    /// Kernel timings that builds share, used and added to: wrong for good if the GPU was busy with something else
    #[arg(long, value_name = "FILE")]
    pub timing_cache: Option<PathBuf>,
}

/// Engines that were built before.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// Folder of built engines [default: $XDG_CACHE_HOME/thalweg, else ~/.cache/thalweg]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Gigabytes (10^9 bytes) of built engines to keep; those used longest ago go first [default: 10]
    #[arg(long, value_name = "GB", value_parser = parse_positive, conflicts_with = "no_cache")]
    pub cache_limit_gb: Option<f64>,
    /// Build always, and keep nothing for the next time
    #[arg(long, conflicts_with = "cache")]
    pub no_cache: bool,
}

/// Which GPU, and where its libraries are.
#[derive(Debug, Args)]
pub struct GpuArgs {
    /// Folder with TensorRT's libraries, looked into before all others
    #[arg(long, value_name = "DIR")]
    pub tensorrt_dir: Option<PathBuf>,
    /// Library with plugins for TensorRT; may be given several times
    #[arg(long, value_name = "LIB")]
    pub plugins: Vec<PathBuf>,
    /// Which GPU: CUDA's number for it, or its UUID
    #[arg(long, value_name = "INDEX|UUID")]
    pub device: Option<String>,
}

/// What a tuned configuration decides.
const KNOBS: [&str; 17] = [
    "streams",
    "batch",
    "smallest_batch",
    "batch_range",
    "depth",
    "submitters",
    "threads_per_stream",
    "cuda_graph",
    "copy_lanes",
    "wait",
    "transfers",
    "batching_delay_ms",
    "plant_fault",
    "shapes",
    "input_type",
    "scale",
    "shift",
];

/// What decides which engine is built.
const ENGINE_MAKERS: [&str; 18] = [
    "model",
    "shapes",
    "input_type",
    "scale",
    "shift",
    "precision",
    "calibrate",
    "exact_fp32",
    "optimization_level",
    "workspace_mb",
    "aux_streams",
    "tactics",
    "batch_range",
    "version_compatible",
    "timing_cache",
    "cache",
    "cache_limit_gb",
    "no_cache",
];

/// What `tune` may ask of a lower precision, which an engine that is built has already.
const PRECISION_MAKERS: [&str; 10] = [
    "calibration_method",
    "calibration_table",
    "save_calibration_table",
    "quantize_ends",
    "rest",
    "keep_biases",
    "fp32_weights",
    "keep_f32",
    "only",
    "max_loss",
];

#[derive(Debug, Args)]
pub struct BuildArgs {
    /// ONNX file
    pub model: PathBuf,
    /// File to write; what is known of the engine goes into FILE.json beside it
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Largest number of samples per execution
    #[arg(long, default_value_t = 1, value_parser = parse_count, conflicts_with = "batch_range")]
    pub batch: usize,
    /// What builds it
    #[arg(long, default_value = "tensorrt")]
    pub backend: String,
    #[command(flatten)]
    pub gpu: GpuArgs,
    #[command(flatten)]
    pub builder: BuilderArgs,
    #[command(flatten)]
    pub shapes: ShapeArgs,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// How fp16 and int8 reach TensorRT: as a flag of its builder, or by converting the model first [default: flags
    /// where TensorRT still has them (8 and 10), else onnx]
    #[arg(long, value_name = "HOW", value_enum)]
    pub precision_route: Option<PrecisionRoute>,
    #[command(flatten)]
    pub quantization: QuantizationArgs,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// The device on whose data sheet auto weighs a node's time
    #[arg(long, value_name = "DEVICE", default_value = "h100", value_parser = parse_device)]
    pub for_device: DataSheet,
    /// Samples to compare a lower precision with FP32 on [default: those of --calibrate, else random]
    #[arg(long, value_name = "FILE|DIR")]
    pub input: Option<PathBuf>,
    /// Fail where a lower precision is further from FP32, with auto keep to it: cosine=0.999, top1=0.99 or rel=0.01
    #[arg(long, value_name = "LIMIT", value_delimiter = ',')]
    pub max_loss: Vec<AccuracyLimit>,
    /// Do not compare a lower precision with FP32, which takes a second build
    #[arg(long, conflicts_with_all = ["max_loss", "input"])]
    pub no_accuracy: bool,
    /// Folder for accuracy.json and report.html; where the model was converted, with the error of every layer
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write what became of the network's layers to this file, as TensorRT's JSON
    #[arg(long, value_name = "FILE")]
    pub export_layers: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Measure it in turns with the same executions launched in a bare loop: what requests, slots and comparing outputs
    /// cost (tensorrt backend)
    #[arg(long, conflicts_with_all = ["out", "save_outputs", "beside"])]
    pub overhead: bool,
    /// Share the device with this other tuned configuration: each alone and both at once, in turns
    #[arg(long, value_name = "TUNED", conflicts_with_all = ["out", "save_outputs"])]
    pub beside: Option<PathBuf>,
    /// Folder for measurement.json, report.html and trace.json
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write the outputs of every sample to this .npz file
    #[arg(long, value_name = "FILE")]
    pub save_outputs: Option<PathBuf>,
    /// Explain every number
    #[arg(long)]
    pub explain: bool,
}

#[derive(Debug, Args)]
pub struct DiagnoseArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// How many remedies to try, the most promising first
    #[arg(long = "try", value_name = "N", default_value_t = 3)]
    pub tries: usize,
    /// Record no kernels at the end, as where another profiler uses CUPTI
    #[arg(long)]
    pub no_kernels: bool,
    /// Folder for diagnosis.json and report.html, and trace.json where kernels were recorded
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// One configuration of one network under one load.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// ONNX file
    #[arg(required_unless_present_any = ["tuned", "engine"])]
    pub model: Option<PathBuf>,
    /// Run this engine, which `build` wrote or TensorRT's own tools
    #[arg(long, value_name = "FILE", conflicts_with_all = ENGINE_MAKERS)]
    pub engine: Option<PathBuf>,
    #[command(flatten)]
    pub workload: WorkloadArgs,
    /// Run what `tune` found, on its model unless another is named
    #[arg(long, value_name = "FILE", conflicts_with_all = KNOBS, conflicts_with = "engine")]
    pub tuned: Option<PathBuf>,
    /// Streams, each with its own execution context
    #[arg(long, default_value_t = 1, value_parser = parse_count)]
    pub streams: usize,
    /// Samples per execution
    #[arg(long, default_value_t = 1, value_parser = parse_count)]
    pub batch: usize,
    /// Smallest execution that is prepared for a batch that is not full: of N samples, then 2N and so on [default: the whole
    /// batch; with smaller --request-samples the larger of that and an eighth of the batch]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub smallest_batch: Option<usize>,
    /// Slots of each stream: executions in flight or being filled
    #[arg(long, default_value_t = 2, value_parser = parse_count)]
    pub depth: usize,
    /// Host threads that drive the streams
    #[arg(long, default_value_t = 1, value_parser = parse_count)]
    pub submitters: usize,
    /// Computing threads of each stream (cpu backend) [default: cores / streams]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub threads_per_stream: Option<usize>,
    /// What is replayed as a CUDA graph
    #[arg(long, value_name = "WHAT", default_value = "off", value_parser = graph_parser())]
    pub cuda_graph: CudaGraph,
    /// Pairs of copy streams that all streams share in turn [default: a pair for each stream]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub copy_lanes: Option<usize>,
    /// How submitters wait for executions: asleep, asking all the time, or asking for a while and then asleep
    #[arg(long, value_name = "HOW", default_value = "block", value_parser = wait_parser())]
    pub wait: Wait,
    /// Whether inputs and outputs are copied; off measures the device's computations alone
    #[arg(long, value_name = "ON|OFF", default_value = "on", value_parser = transfers_parser())]
    pub transfers: Transfers,
    /// Of which executions the times of stages are taken; some saves CPU time of a GPU's host [default: each, or as tuned]
    #[arg(long, value_name = "EACH|SOME", value_parser = stage_times_parser())]
    pub stage_times: Option<TimesTaken>,
    /// Do something wrong on purpose, for tests of the diagnosis: pageable, default-stream, wait-per-item or
    /// slow-feed=MS
    #[arg(long, value_name = "FAULT", hide = true, value_parser = parse_fault)]
    pub plant_fault: Option<PlantedFault>,
    /// How long an execution waits for more samples
    #[arg(
        long, value_name = "MS", default_value_t = 0.0,
        value_parser = parse_delay, allow_negative_numbers = true
    )]
    pub batching_delay_ms: f64,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Longest time to measure, in seconds, or until there is something to tell; it ends earlier once three windows agree
    #[arg(
        long, value_name = "S", default_value = "10",
        value_parser = parse_span, allow_negative_numbers = true
    )]
    pub duration: Duration,
    /// Discarded time at the start, in seconds
    #[arg(
        long, value_name = "S", default_value = "0.5",
        value_parser = parse_seconds, allow_negative_numbers = true
    )]
    pub warm_up: Duration,
}

#[derive(Debug, Args)]
pub struct TuneArgs {
    /// ONNX file
    #[arg(required_unless_present = "engine")]
    pub model: Option<PathBuf>,
    /// Tune this engine, which `build` wrote or TensorRT's own tools
    #[arg(
        long, value_name = "FILE", conflicts_with_all = ENGINE_MAKERS,
        conflicts_with_all = PRECISION_MAKERS
    )]
    pub engine: Option<PathBuf>,
    #[command(flatten)]
    pub workload: WorkloadArgs,
    /// Streams to try
    #[arg(long, value_name = "LIST", default_value = "auto", value_parser = parse_counts)]
    pub streams: Counts,
    /// Batch sizes to try; auto is powers of two up to 128, on cores 16
    #[arg(long, value_name = "LIST", default_value = "auto", value_parser = parse_counts)]
    pub batch: Counts,
    /// Smallest execution that all prepare for batches that are not full: of N samples, then 2N and so on [default: the larger
    /// of --request-samples and an eighth of the batch]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub smallest_batch: Option<usize>,
    /// Slots per stream to try
    #[arg(long, value_name = "LIST", default_value = "auto", value_parser = parse_counts)]
    pub depth: Counts,
    /// Numbers of submitting threads to try
    #[arg(long, value_name = "LIST", default_value = "auto", value_parser = parse_counts)]
    pub submitters: Counts,
    /// Computing threads of each stream to try (cpu backend)
    #[arg(long, value_name = "LIST", default_value = "auto", value_parser = parse_counts)]
    pub threads_per_stream: Counts,
    /// CUDA graphs to try: off, compute, copies [default: what the device can]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = graph_parser())]
    pub cuda_graph: Vec<CudaGraph>,
    /// Pairs of copy streams to try: own for each stream's own, or how many all streams share; with own in the list the
    /// search is among own pairs, and the best one is tried with each other number [default: own]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_copy_lanes)]
    pub copy_lanes: Vec<CopyLanes>,
    /// Ways to wait to try: block, spin, hybrid [default: block, and spin on a GPU]; the best one is tried with each
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = wait_parser())]
    pub wait: Vec<Wait>,
    /// Batching delays to try, in milliseconds
    #[arg(
        long, value_name = "LIST", value_delimiter = ',',
        value_parser = parse_delay, allow_negative_numbers = true
    )]
    pub batching_delay_ms: Vec<f64>,
    /// Samples of each request [default: a whole batch]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub request_samples: Option<usize>,
    #[command(flatten)]
    pub quantization: QuantizationArgs,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Refuse a precision that is further from FP32, with auto keep to it: cosine=0.999, top1=0.99 or rel=0.01
    #[arg(long, value_name = "LIMIT", value_delimiter = ',')]
    pub max_loss: Vec<AccuracyLimit>,
    /// Largest 99th percentile of the latency, in milliseconds
    #[arg(long, value_name = "MS", value_parser = parse_positive, allow_negative_numbers = true)]
    pub p99_ms: Option<f64>,
    /// Most memory in gigabytes (10^9 bytes): of a GPU, as predicted before anything is measured; else of the process
    #[arg(long, value_name = "GB", value_parser = parse_positive, allow_negative_numbers = true)]
    pub memory_gb: Option<f64>,
    /// How long the search may take, in seconds, builds not counted; several engines share it, and their winners are
    /// measured in turns in the last sixth
    #[arg(
        long, value_name = "S", default_value = "60",
        value_parser = parse_span, allow_negative_numbers = true
    )]
    pub time: Duration,
    /// How long it may take to have all engines, in seconds: to convert, build and compare them; one is built in any case,
    /// and those that are not are named [default: as long as it takes]
    #[arg(long, value_name = "S", value_parser = parse_span, allow_negative_numbers = true)]
    pub build_time: Option<Duration>,
    /// Afterwards, measure every candidate for so many seconds and compare the best of them with the winner
    #[arg(long, value_name = "S", value_parser = parse_span, allow_negative_numbers = true)]
    pub sweep: Option<Duration>,
    /// Folder for the journal, tuned.json, report.html and trace.json
    #[arg(long, value_name = "DIR", default_value = "thalweg-out")]
    pub out: PathBuf,
    /// Continue the journal in the folder
    #[arg(long)]
    pub resume: bool,
    /// Write the winner for these too: triton, trtexec, cpp
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = format_parser())]
    pub export: Vec<Format>,
}
