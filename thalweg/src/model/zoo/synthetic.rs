//! Six small networks, each bound by one thing on a GPU, to show what a diagnosis looks like.
//!
//! Sizes are chosen by the data sheet of an H100 SXM (NVIDIA, 2023): 990 TFLOP/s FP16 and 495 TFLOP/s TF32
//! in the tensor cores without sparsity, 3.35 TB/s of DRAM, 132 SMs, 50 MB of L2, PCIe 5.0 x16, of which
//! about 55 GB/s arrive; and by 2 to 3 µs of host time for each kernel launched without a CUDA graph. The
//! numbers below are for one sample and computed from these, not measured. A million is 10⁶.

use super::graph::{Attribute, Convolution, Graph, RELU_FILTER_GAIN, RELU_GAIN, Spread, Tensor};
use crate::model::proto::tensor_proto::DataType as OnnxDataType;

/// Deviation of the frequencies of [`waves`]: neighbours differ, and FP16 still resolves the phase.
const FREQUENCY_SPREAD: Spread = Spread::around(0.0, 2.0);

/// Makes a matrix `[batch, rows, columns]` of an input `[batch, rows]`, so that a large tensor costs hardly
/// any transfer: element (r, c) is the sine of input r times frequency c. A plain product would have rank 1.
fn waves(graph: &mut Graph, rows: i64, columns: i64) -> Tensor {
    let input = graph.input("input", OnnxDataType::Float, &[rows]);
    let column = graph.reshape("column", &input, &[rows, 1]);
    let frequencies = graph.weights("frequencies", &[1, 1, columns], FREQUENCY_SPREAD);
    let phase = graph.apply("phase", "Mul", &[&column, &frequencies]);
    graph.apply("waves", "Sin", &[&phase])
}

/// Projects `[batch, rows, columns]` on one random vector: the output `scores` is `[batch, rows]`.
fn score(graph: &mut Graph, input: &Tensor, rows: i64, columns: i64) {
    let weight = graph.weights("scores.weight", &[columns, 1], Spread::sums(columns, 1.0));
    let product = graph.apply("scores.matmul", "MatMul", &[input, &weight]);
    let scores = graph.reshape("scores", &product, &[rows]);
    graph.output(&scores, &[rows]);
}

/// Compute-bound: eight products of a 512x2048 and a 2048x2048 matrix.
///
/// 34.4 GFLOP: 35 µs at the FP16 peak. In FP16 a product moves 12.6 MB at batch 1, so it has 340 FLOP per
/// byte where the ridge is at 295 (TF32: 170 of 148), and the two weights it alternates between (16.8 MB)
/// stay in L2. Transfers take 2 KB each way, launches are about 10. The tiles of one product fill the SMs
/// only once; more batch makes the verdict firmer.
pub(super) fn compute() -> Graph {
    const ROWS: i64 = 512;
    const COLUMNS: i64 = 2048;
    const PRODUCTS: usize = 8;
    let mut graph = Graph::new("compute");
    let mut x = waves(&mut graph, ROWS, COLUMNS);
    // Two weights for all products: enough for a chain that cannot be multiplied out, and a small file.
    let spread = Spread::sums(COLUMNS, RELU_GAIN);
    let weights = ["even.weight", "odd.weight"].map(|name| graph.weights(name, &[COLUMNS; 2], spread));
    for (product, weight) in (0..PRODUCTS).zip(weights.iter().cycle()) {
        x = graph.apply(&format!("product{product}"), "MatMul", &[&x, weight]);
        x = graph.apply(&format!("product{product}.relu"), "Relu", &[&x]);
    }
    score(&mut graph, &x, ROWS, COLUMNS);
    graph
}

/// Memory-bound: divides a 2048x4096 matrix by the mean magnitude of its columns and its rows in turn,
/// six times in all, as in R. Sinkhorn and P. Knopp, "Concerning nonnegative matrices", 1967.
///
/// The tensor is 33.6 MB in FP32. A mean over rows needs all of them, the next one all columns, so no fused
/// kernel can keep it on the chip: each step reads it at least once and writes it once (twice where the mean
/// is a pass of its own), 0.4 to 0.6 GB in all, or 120 to 180 µs. 4 operations per element and step make
/// 0.2 GFLOP: less than 1 FLOP per byte. Read and written tensor exceed the L2 in FP32 at batch 1, in FP16
/// from batch 2 on. Transfers take 8 KB each way, launches are 10 to 20.
pub(super) fn memory() -> Graph {
    const ROWS: i64 = 2048;
    const COLUMNS: i64 = 4096;
    const STEPS: usize = 6;
    let mut graph = Graph::new("memory");
    let mut x = waves(&mut graph, ROWS, COLUMNS);
    for (step, axis) in (0..STEPS).zip([1, 2].into_iter().cycle()) {
        let name = format!("step{step}");
        let magnitude = graph.apply(&format!("{name}.magnitude"), "Abs", &[&x]);
        let attributes = [("axes", Attribute::Ints(&[axis])), ("keepdims", Attribute::Int(1))];
        let mean = graph.node(&format!("{name}.mean"), "ReduceMean", &[&magnitude], &attributes);
        let scaled = graph.apply(&format!("{name}.scaled"), "Div", &[&x, &mean]);
        // Without a non-linearity between them all divisions could be gathered into one.
        x = graph.apply(&format!("{name}.tanh"), "Tanh", &[&scaled]);
    }
    score(&mut graph, &x, ROWS, COLUMNS);
    graph
}

/// Transfer-bound (H2D): picks every 16th pixel in both directions of three 1024x1024 planes and averages
/// each line.
///
/// The input is 12.6 MB: 229 µs over PCIe. The device reads at most 0.8 MB of it, in one or two kernels of
/// a few µs. The output is 768 bytes.
pub(super) fn transfer() -> Graph {
    const SIDE: i64 = 1024;
    const STEP: i64 = 16;
    let mut graph = Graph::new("transfer");
    let images = graph.input("images", OnnxDataType::Float, &[3, SIDE, SIDE]);
    let starts = graph.integers("pixels.starts", &[0, 0]);
    let ends = graph.integers("pixels.ends", &[SIDE, SIDE]);
    let axes = graph.integers("pixels.axes", &[2, 3]);
    let steps = graph.integers("pixels.steps", &[STEP, STEP]);
    let pixels = graph.apply("pixels", "Slice", &[&images, &starts, &ends, &axes, &steps]);
    let weight = graph.weights("weighted.weight", &[SIDE / STEP], Spread::around(1.0, 0.5));
    let weighted = graph.apply("weighted", "Mul", &[&pixels, &weight]);
    let attributes = [("axes", Attribute::Ints(&[3])), ("keepdims", Attribute::Int(0))];
    let lines = graph.node("lines", "ReduceMean", &[&weighted], &attributes);
    graph.output(&lines, &[3, SIDE / STEP]);
    graph
}

/// Enqueue-bound: 160 residual layers of 64x64, each a product, a `Tanh` and a sum.
///
/// A layer computes 8 kFLOP and reads 16 KB, both far below a µs of the device, and depends on the one
/// before it. 480 nodes become 160 to 320 kernels, or 0.3 to 1 ms of launches without a CUDA graph, against
/// about 2 µs of device time for each. Transfers take 256 bytes each way.
pub(super) fn launch() -> Graph {
    const FEATURES: i64 = 64;
    const LAYERS: usize = 160;
    let mut graph = Graph::new("launch");
    let mut x = graph.input("input", OnnxDataType::Float, &[FEATURES]);
    // Each layer adds at most 1/160 to the mean square, so rounding errors grow little on the long way.
    let gain = 1.0 / (LAYERS as f64).sqrt();
    for layer in 0..LAYERS {
        let name = format!("layer{layer}");
        let weight = graph.weights(&format!("{name}.weight"), &[FEATURES; 2], Spread::sums(FEATURES, gain));
        let product = graph.apply(&format!("{name}.matmul"), "MatMul", &[&x, &weight]);
        let branch = graph.apply(&format!("{name}.tanh"), "Tanh", &[&product]);
        let sum = if layer + 1 == LAYERS { "output" } else { &format!("{name}.add") };
        x = graph.apply(sum, "Add", &[&x, &branch]);
    }
    graph.output(&x, &[FEATURES]);
    graph
}

/// Underfilled: 16 residual 3x3 convolutions of 256 channels on planes of 14x14.
///
/// One convolution is 231 MFLOP, but its 196x256 outputs are only 16 tiles of 64x64 for 132 SMs: an eighth
/// of the device. 3.7 GFLOP would take 4 µs of a full device at the FP16 peak and take at least 30 µs of an
/// eighth of it, one convolution after the other. Kernels of several µs each keep ahead of the launches.
/// Transfers take 12.5 KB in and 3 KB out. From batch 8 on the device is full.
pub(super) fn underfilled() -> Graph {
    const SIDE: i64 = 14;
    const INPUTS: i64 = 16;
    const CHANNELS: i64 = 256;
    const OUTPUTS: i64 = 4;
    let mut graph = Graph::new("underfilled");
    let input = graph.input("input", OnnxDataType::Float, &[INPUTS, SIDE, SIDE]);
    let stem = Convolution { gain: 1.0, ..Convolution::new(1, INPUTS, CHANNELS) };
    let x = graph.convolution_relu("stem", &input, stem);
    let x = residual_chain(&mut graph, &x, CHANNELS, 16);
    let head = graph.convolution("head", &x, Convolution::new(1, CHANNELS, OUTPUTS));
    let output = graph.node("output", "Flatten", &[&head], &[("axis", Attribute::Int(1))]);
    graph.output(&output, &[OUTPUTS * SIDE * SIDE]);
    graph
}

/// Balanced: a small image-to-image network in which nothing stands out.
///
/// At batch 8, for each sample: 0.79 MB in and 0.79 MB out, 14 µs of PCIe each; 2.8 GFLOP, 6 µs at the
/// TF32 peak and about 14 at what convolutions of 64 channels reach; 25 MB of activations, 8 µs of DRAM;
/// about 20 launches, 50 µs shared by 8 samples.
pub(super) fn balanced() -> Graph {
    const SIDE: i64 = 256;
    const CHANNELS: i64 = 64;
    /// Planes are a quarter as high and wide inside.
    const SCALE: i64 = 4;
    let mut graph = Graph::new("balanced");
    let images = graph.input("images", OnnxDataType::Float, &[3, SIDE, SIDE]);
    let stem = Convolution { stride: 2, gain: 1.0, ..Convolution::new(3, 3, CHANNELS / 2) };
    let x = graph.convolution_relu("stem", &images, stem);
    let halve = Convolution { stride: 2, ..Convolution::new(3, CHANNELS / 2, CHANNELS) };
    let x = graph.convolution_relu("halve", &x, halve);
    let x = residual_chain(&mut graph, &x, CHANNELS, 8);
    let head = graph.convolution("head", &x, Convolution::new(3, CHANNELS, 3 * SCALE * SCALE));
    let result = graph.node("result", "DepthToSpace", &[&head], &[("blocksize", Attribute::Int(SCALE))]);
    graph.output(&result, &[3, SIDE, SIDE]);
    graph
}

/// `count` times x + ReLU(convolution(x)), each a 3x3 convolution of as many channels as it gets.
fn residual_chain(graph: &mut Graph, input: &Tensor, channels: i64, count: u32) -> Tensor {
    // Each branch adds about 1/count to the variance, which so grows e-fold.
    let gain = RELU_FILTER_GAIN / f64::from(count).sqrt();
    let mut x = input.clone();
    for layer in 0..count {
        let conv = Convolution { gain, ..Convolution::new(3, channels, channels) };
        let branch = graph.convolution_relu(&format!("layer{layer}"), &x, conv);
        x = graph.apply(&format!("layer{layer}.add"), "Add", &[&x, &branch]);
    }
    x
}
