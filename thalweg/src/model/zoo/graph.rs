//! Writes an ONNX graph node by node, and fills in seeded random weights at the end.
//!
//! Networks of the zoo call it in the order of execution, so the graph is sorted. A node and the tensor it
//! makes have one name, which is also the name that engines and profilers show. Nothing is checked here:
//! the tests of the zoo and `scripts/check-zoo.py` do that.

use bytes::Bytes;

use crate::model::proto::attribute_proto::AttributeType;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::tensor_shape_proto::Dimension;
use crate::model::proto::tensor_shape_proto::dimension::Value as DimensionValue;
use crate::model::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};

/// TensorRT 8.5, ONNX Runtime and rten all read it.
const OPSET_VERSION: i64 = 17;
/// The one that came out with opset 17 (ONNX 1.12).
const IR_VERSION: i64 = 8;
/// Name of the dynamic first dimension of every input and output.
const BATCH_DIMENSION: &str = "batch";

/// Deviation of the bias of convolutions: small beside activations near 1, yet a lost bias would show.
const BIAS_DEVIATION: f64 = 0.05;

/// A tensor of the graph.
#[derive(Clone)]
pub(super) struct Tensor(String);

/// Value of a node's attribute.
pub(super) enum Attribute<'a> {
    Int(i64),
    Ints(&'a [i64]),
}

/// How random weights are spread.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    mean: f64,
    deviation: f64,
    /// Weights of one filter, where each filter sums up to 0.
    filter: Option<usize>,
}

impl Spread {
    /// Around `mean`.
    pub const fn around(mean: f64, deviation: f64) -> Self {
        Self { mean, deviation, filter: None }
    }

    /// Around 0, so that each sum of `fan_in` products is `gain` times as large as its inputs.
    pub fn sums(fan_in: i64, gain: f64) -> Self {
        Self::around(0.0, gain / (fan_in as f64).sqrt())
    }

    /// Like [`sums`](Self::sums) for filters that sum up to 0 themselves. Without that the mean of rectified
    /// inputs outgrows their differences layer by layer, until a deep network answers all images alike:
    /// L. Huang et al., "Centered Weight Normalization in Accelerating Training of Deep Neural Networks", 2017.
    pub fn filters(fan_in: i64, gain: f64) -> Self {
        Self { filter: Some(to_count(fan_in)), ..Self::sums(fan_in, gain) }
    }
}

/// Gain that keeps the mean square through a ReLU and independent weights, since half of the inputs' is lost:
/// K. He et al., "Delving Deep into Rectifiers", 2015, equation 10.
pub(super) const RELU_GAIN: f64 = std::f64::consts::SQRT_2;
/// Gain that keeps the variance through a ReLU and filters that sum up to 0: a rectified normal number keeps
/// (1 - 1/π)/2 of its variance.
pub(super) const RELU_FILTER_GAIN: f64 = 1.712_858_5;

/// A square convolution with bias that keeps height and width at stride 1.
#[derive(Clone, Copy)]
pub(super) struct Convolution {
    pub inputs: i64,
    pub outputs: i64,
    pub kernel: i64,
    pub stride: i64,
    pub groups: i64,
    /// Deviation of the output as a multiple of the input's.
    pub gain: f64,
}

impl Convolution {
    /// Stride 1, one group, behind a ReLU.
    pub const fn new(kernel: i64, inputs: i64, outputs: i64) -> Self {
        Self { inputs, outputs, kernel, stride: 1, groups: 1, gain: RELU_FILTER_GAIN }
    }
}

/// A graph in the making.
pub(super) struct Graph {
    proto: GraphProto,
    /// Spreads of the tensors without bytes, in their order.
    spreads: Vec<Spread>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        let proto = GraphProto { name: Some(name.to_owned()), ..GraphProto::default() };
        Self { proto, spreads: Vec::new() }
    }

    /// Declares an input `[batch, sample...]`.
    pub fn input(&mut self, name: &str, data_type: OnnxDataType, sample: &[i64]) -> Tensor {
        self.proto.input.push(value_info(name, data_type, sample));
        Tensor(name.to_owned())
    }

    /// Declares a tensor an output `[batch, sample...]` of type FP32.
    pub fn output(&mut self, tensor: &Tensor, sample: &[i64]) {
        self.proto.output.push(value_info(&tensor.0, OnnxDataType::Float, sample));
    }

    /// FP32 weights, to be filled with random numbers at the end.
    pub fn weights(&mut self, name: &str, shape: &[i64], spread: Spread) -> Tensor {
        self.spreads.push(spread);
        self.initializer(name, OnnxDataType::Float, shape, None)
    }

    /// An FP32 scalar.
    pub fn scalar(&mut self, name: &str, value: f32) -> Tensor {
        self.initializer(name, OnnxDataType::Float, &[], Some(value.to_le_bytes().to_vec()))
    }

    /// A list of INT64: shapes, axes, indices.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> Tensor {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, OnnxDataType::Int64, &[length(values)], Some(bytes))
    }

    fn initializer(
        &mut self,
        name: &str,
        data_type: OnnxDataType,
        shape: &[i64],
        bytes: Option<Vec<u8>>,
    ) -> Tensor {
        self.proto.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            data_type: Some(data_type.into()),
            dims: shape.to_vec(),
            raw_data: bytes.map(Bytes::from),
            ..TensorProto::default()
        });
        Tensor(name.to_owned())
    }

    /// Adds a node without attributes and with one output, which gets the node's name.
    pub fn apply(&mut self, name: &str, operator: &str, inputs: &[&Tensor]) -> Tensor {
        self.node(name, operator, inputs, &[])
    }

    /// Adds a node with attributes and one output, which gets the node's name.
    pub fn node(
        &mut self,
        name: &str,
        operator: &str,
        inputs: &[&Tensor],
        attributes: &[(&str, Attribute<'_>)],
    ) -> Tensor {
        self.proto.node.push(NodeProto {
            name: Some(name.to_owned()),
            op_type: Some(operator.to_owned()),
            input: inputs.iter().map(|tensor| tensor.0.clone()).collect(),
            output: vec![name.to_owned()],
            attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
            ..NodeProto::default()
        });
        Tensor(name.to_owned())
    }

    /// A convolution with random weights and bias. All attributes are written out, since not every reader
    /// fills in ONNX's defaults.
    pub fn convolution(&mut self, name: &str, input: &Tensor, conv: Convolution) -> Tensor {
        let Convolution { inputs, outputs, kernel, stride, groups, gain } = conv;
        let shape = [outputs, inputs / groups, kernel, kernel];
        let spread = Spread::filters(shape[1..].iter().product(), gain);
        let weight = self.weights(&format!("{name}.weight"), &shape, spread);
        let bias = self.weights(&format!("{name}.bias"), &[outputs], Spread::around(0.0, BIAS_DEVIATION));
        let attributes = [
            ("kernel_shape", Attribute::Ints(&[kernel; 2])),
            ("strides", Attribute::Ints(&[stride; 2])),
            ("pads", Attribute::Ints(&[kernel / 2; 4])),
            ("dilations", Attribute::Ints(&[1; 2])),
            ("group", Attribute::Int(groups)),
        ];
        self.node(name, "Conv", &[input, &weight, &bias], &attributes)
    }

    /// A convolution with a ReLU behind it.
    pub fn convolution_relu(&mut self, name: &str, input: &Tensor, conv: Convolution) -> Tensor {
        let linear = self.convolution(name, input, conv);
        self.apply(&format!("{name}.relu"), "Relu", &[&linear])
    }

    /// The end of an image classifier: averages `channels` planes and makes 1000 `logits` of them.
    pub fn classify(&mut self, input: &Tensor, channels: i64) {
        const CLASSES: i64 = 1000;
        let pooled = self.apply("pool", "GlobalAveragePool", &[input]);
        let features = self.node("flatten", "Flatten", &[&pooled], &[("axis", Attribute::Int(1))]);
        let weight = self.weights("logits.weight", &[CLASSES, channels], Spread::filters(channels, 1.0));
        let bias = self.weights("logits.bias", &[CLASSES], Spread::around(0.0, BIAS_DEVIATION));
        let logits =
            self.node("logits", "Gemm", &[&features, &weight, &bias], &[("transB", Attribute::Int(1))]);
        self.output(&logits, &[CLASSES]);
    }

    /// Reshapes all but the batch dimension.
    pub fn reshape(&mut self, name: &str, input: &Tensor, sample: &[i64]) -> Tensor {
        // 0 stands for the input's own size, so the batch stays open.
        let shape = self.integers(&format!("{name}.shape"), &[&[0], sample].concat());
        self.apply(name, "Reshape", &[input, &shape])
    }

    /// The graph without its random weights.
    #[cfg(test)]
    pub fn proto(&self) -> &GraphProto {
        &self.proto
    }

    /// The finished model, with weights that follow from `seed`.
    pub fn into_model(mut self, seed: u64) -> ModelProto {
        let mut random = SplitMix64(seed);
        let without_bytes = self.proto.initializer.iter_mut().filter(|tensor| tensor.raw_data.is_none());
        for (tensor, spread) in without_bytes.zip(self.spreads) {
            tensor.raw_data = Some(Bytes::from(random.fill(to_count(tensor.dims.iter().product()), spread)));
        }
        ModelProto {
            ir_version: Some(IR_VERSION),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(OPSET_VERSION),
            }],
            producer_name: Some("thalweg".to_owned()),
            // No version beside it: the bytes stay the same from one release to the next.
            graph: Some(self.proto),
            ..ModelProto::default()
        }
    }
}

fn attribute(name: &str, value: &Attribute<'_>) -> AttributeProto {
    let empty = AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() };
    match value {
        Attribute::Int(value) => {
            AttributeProto { r#type: Some(AttributeType::Int.into()), i: Some(*value), ..empty }
        }
        Attribute::Ints(values) => {
            AttributeProto { r#type: Some(AttributeType::Ints.into()), ints: values.to_vec(), ..empty }
        }
    }
}

fn value_info(name: &str, data_type: OnnxDataType, sample: &[i64]) -> ValueInfoProto {
    let batch = DimensionValue::DimParam(BATCH_DIMENSION.to_owned());
    let sizes = sample.iter().map(|&size| DimensionValue::DimValue(size));
    let dim = std::iter::once(batch).chain(sizes);
    let dim = dim.map(|value| Dimension { value: Some(value), ..Dimension::default() }).collect();
    let tensor =
        type_proto::Tensor { elem_type: Some(data_type.into()), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

fn length(values: &[i64]) -> i64 {
    i64::try_from(values.len()).expect("bug: the zoo writes short lists")
}

fn to_count(size: i64) -> usize {
    usize::try_from(size).expect("bug: the zoo's sizes are positive")
}

/// Sebastiano Vigna's public-domain generator (<https://prng.di.unimi.it/splitmix64.c>): one addition and
/// one mix per number, and any seed is a good one.
struct SplitMix64(u64);

/// Mean of the sum of four integers below 65536.
const SUM_MEAN: i64 = 2 * 65_535;
/// Its variance: that of one integer below n is (n² - 1)/12.
const SUM_VARIANCE: f64 = 4.0 * (65_536.0 * 65_536.0 - 1.0) / 12.0;

impl SplitMix64 {
    fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The sum of the four 16-bit parts of a random number: an integer that is nearly normal and never more
    /// than 3.47 deviations from [`SUM_MEAN`].
    fn next_sum(&mut self) -> i64 {
        let random = self.next_number();
        let sum = (random & 0xffff) + ((random >> 16) & 0xffff) + ((random >> 32) & 0xffff) + (random >> 48);
        sum.cast_signed()
    }

    /// Little-endian FP32 numbers.
    ///
    /// Sums are exact in integers; one conversion, one product and one addition follow, which IEEE 754 rounds
    /// the same way everywhere: so the bytes are the same on every machine.
    fn fill(&mut self, count: usize, spread: Spread) -> Vec<u8> {
        // Without filters the size of a chunk makes no difference.
        const CHUNK: usize = 1024;
        let (size, divisor) = spread.filter.map_or((CHUNK, 1), |filter| (filter, filter));
        #[expect(clippy::cast_possible_truncation, reason = "rounding to the weights' type is the purpose")]
        let (scale, mean) =
            ((spread.deviation / (SUM_VARIANCE.sqrt() * divisor as f64)) as f32, spread.mean as f32);
        let mut bytes = vec![0; 4 * count];
        let mut sums = vec![0; size];
        for chunk in bytes.chunks_mut(4 * size) {
            let sums = &mut sums[..chunk.len() / 4];
            sums.fill_with(|| self.next_sum());
            let centre = if spread.filter.is_some() { sums.iter().sum() } else { SUM_MEAN };
            for (element, sum) in chunk.chunks_exact_mut(4).zip(sums) {
                let value = (*sum * divisor as i64 - centre) as f32 * scale + mean;
                element.copy_from_slice(&value.to_le_bytes());
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(bytes: &[u8]) -> Vec<f64> {
        bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
    }

    #[test]
    fn splitmix64_gives_the_published_numbers() {
        let mut random = SplitMix64(1_234_567);
        assert_eq!(random.next_number(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_number(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn weights_have_the_spread_that_was_asked_for() {
        let values = floats(&SplitMix64(1).fill(100_000, Spread::around(3.0, 0.5)));
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        // Five standard errors of a sample of 100 000.
        assert!((mean - 3.0).abs() < 0.008, "{mean}");
        assert!((variance.sqrt() - 0.5).abs() < 0.006, "{}", variance.sqrt());
        assert!(values.iter().all(|value| (value - 3.0).abs() < 0.5 * 3.47));
    }

    #[test]
    fn filters_sum_up_to_zero_and_keep_their_deviation() {
        let values = floats(&SplitMix64(1).fill(1000 * 100, Spread::filters(100, 2.0)));
        for filter in values.chunks_exact(100) {
            assert!(filter.iter().sum::<f64>().abs() < 1e-5);
        }
        let mean_square = values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64;
        // 2/√100, less the one degree of freedom of 100 that the sum takes.
        assert!((mean_square.sqrt() - 0.199).abs() < 0.002, "{}", mean_square.sqrt());
    }

    #[test]
    fn rectified_normal_numbers_keep_the_share_of_variance_that_the_gain_makes_up_for() {
        let values = floats(&SplitMix64(1).fill(100_000, Spread::around(0.0, 1.0)));
        let rectified: Vec<_> = values.iter().map(|value| value.max(0.0)).collect();
        let mean = rectified.iter().sum::<f64>() / rectified.len() as f64;
        let variance =
            rectified.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / rectified.len() as f64;
        assert!((variance * RELU_FILTER_GAIN.powi(2) - 1.0).abs() < 0.03, "{variance}");
    }
}
