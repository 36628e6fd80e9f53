//! MobileNetV2 1.0 for 224x224 images: M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear
//! Bottlenecks", 2018, table 2.

use super::graph::{Convolution, Graph, RELU_FILTER_GAIN, Tensor};
use crate::model::proto::tensor_proto::DataType as OnnxDataType;

/// Expansion, output channels, blocks, and stride of the first block: table 2 of the paper.
const STAGES: [(i64, i64, usize, i64); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];
const STEM_CHANNELS: i64 = 32;
const HEAD_CHANNELS: i64 = 1280;
/// Each of the 10 residual branches adds a tenth to the variance, which so grows e-fold at most.
const RESIDUAL_SHARE: f64 = 0.316;

/// Writes the network. Batch normalisation is folded into the convolutions: its 17,056 pairs of scale and
/// shift become 17,056 biases, so that of the 3,504,872 parameters usually counted 3,487,816 are left.
pub(super) fn mobilenet_v2() -> Graph {
    let mut network = MobileNet::new();
    let images = network.graph.input("images", OnnxDataType::Float, &[3, 224, 224]);
    let stem = Convolution { stride: 2, gain: 1.0, ..Convolution::new(3, 3, STEM_CHANNELS) };
    let mut x = network.convolution_relu6("stem", &images, stem);
    let mut channels = STEM_CHANNELS;
    for (stage, (expansion, outputs, blocks, first_stride)) in (1..).zip(STAGES) {
        for block in 0..blocks {
            let stride = if block == 0 { first_stride } else { 1 };
            let shape = InvertedResidual { inputs: channels, expansion, outputs, stride };
            x = network.inverted_residual(&format!("stage{stage}.{block}"), &x, shape);
            channels = outputs;
        }
    }
    let head = Convolution { gain: 1.0, ..Convolution::new(1, channels, HEAD_CHANNELS) };
    let x = network.convolution_relu6("head", &x, head);
    network.graph.classify(&x, HEAD_CHANNELS);
    network.graph
}

struct MobileNet {
    graph: Graph,
    zero: Tensor,
    six: Tensor,
}

#[derive(Clone, Copy)]
struct InvertedResidual {
    inputs: i64,
    expansion: i64,
    outputs: i64,
    stride: i64,
}

impl MobileNet {
    fn new() -> Self {
        let mut graph = Graph::new("mobilenet_v2");
        let zero = graph.scalar("relu6.min", 0.0);
        let six = graph.scalar("relu6.max", 6.0);
        Self { graph, zero, six }
    }

    fn convolution_relu6(&mut self, name: &str, input: &Tensor, conv: Convolution) -> Tensor {
        let linear = self.graph.convolution(name, input, conv);
        self.graph.apply(&format!("{name}.relu6"), "Clip", &[&linear, &self.zero, &self.six])
    }

    fn inverted_residual(&mut self, name: &str, input: &Tensor, shape: InvertedResidual) -> Tensor {
        let InvertedResidual { inputs, expansion, outputs, stride } = shape;
        let inner = expansion * inputs;
        let mut x = input.clone();
        if expansion > 1 {
            // A bottleneck is linear, so what comes in was not rectified.
            let expand = Convolution { gain: 1.0, ..Convolution::new(1, inputs, inner) };
            x = self.convolution_relu6(&format!("{name}.expand"), &x, expand);
        }
        let depthwise = Convolution { stride, groups: inner, ..Convolution::new(3, inner, inner) };
        x = self.convolution_relu6(&format!("{name}.depthwise"), &x, depthwise);
        let is_residual = stride == 1 && inputs == outputs;
        let share = if is_residual { RESIDUAL_SHARE } else { 1.0 };
        let project = Convolution { gain: share * RELU_FILTER_GAIN, ..Convolution::new(1, inner, outputs) };
        x = self.graph.convolution(&format!("{name}.project"), &x, project);
        if is_residual {
            x = self.graph.apply(&format!("{name}.add"), "Add", &[&x, input]);
        }
        x
    }
}
