//! ResNet-50 v1.5: K. He et al., "Deep Residual Learning for Image Recognition", 2015, with the stride of a
//! down-sampling block in its 3x3 convolution, as torchvision and MLPerf have it.

use super::graph::{Attribute, Convolution, Graph, RELU_FILTER_GAIN, Tensor};
use crate::model::proto::tensor_proto::DataType as OnnxDataType;

/// Blocks and inner channels of the four stages.
const STAGES: [(usize, i64); 4] = [(3, 64), (4, 128), (6, 256), (3, 512)];
/// A block gives out four times its inner channels.
const EXPANSION: i64 = 4;
/// Each of the 16 residual branches adds a sixteenth to the variance, which so grows e-fold at most.
const RESIDUAL_SHARE: f64 = 0.25;

/// Writes the network. Batch normalisation is folded into the convolutions in front of it, as every
/// engine builder does: its 26,560 pairs of scale and shift become 26,560 biases, so that of the
/// 25,557,032 parameters usually counted 25,530,472 are left.
pub(super) fn resnet50() -> Graph {
    let mut graph = Graph::new("resnet50");
    let images = graph.input("images", OnnxDataType::Float, &[3, 224, 224]);
    let stem = Convolution { stride: 2, gain: 1.0, ..Convolution::new(7, 3, 64) };
    let stem = graph.convolution_relu("stem", &images, stem);
    let attributes = [
        ("kernel_shape", Attribute::Ints(&[3; 2])),
        ("strides", Attribute::Ints(&[2; 2])),
        ("pads", Attribute::Ints(&[1; 4])),
    ];
    let mut x = graph.node("stem.pool", "MaxPool", &[&stem], &attributes);
    let mut channels = 64;
    for (stage, (blocks, inner)) in (1..).zip(STAGES) {
        for block in 0..blocks {
            let stride = if stage > 1 && block == 0 { 2 } else { 1 };
            let shape = Bottleneck { inputs: channels, inner, stride };
            x = bottleneck(&mut graph, &format!("layer{stage}.{block}"), &x, shape);
            channels = EXPANSION * inner;
        }
    }
    graph.classify(&x, channels);
    graph
}

#[derive(Clone, Copy)]
struct Bottleneck {
    inputs: i64,
    inner: i64,
    stride: i64,
}

fn bottleneck(graph: &mut Graph, name: &str, input: &Tensor, shape: Bottleneck) -> Tensor {
    let Bottleneck { inputs, inner, stride } = shape;
    let outputs = EXPANSION * inner;
    let x = graph.convolution_relu(&format!("{name}.conv1"), input, Convolution::new(1, inputs, inner));
    let spatial = Convolution { stride, ..Convolution::new(3, inner, inner) };
    let x = graph.convolution_relu(&format!("{name}.conv2"), &x, spatial);
    let branch =
        Convolution { gain: RESIDUAL_SHARE * RELU_FILTER_GAIN, ..Convolution::new(1, inner, outputs) };
    let branch = graph.convolution(&format!("{name}.conv3"), &x, branch);
    let shortcut = if inputs == outputs {
        input.clone()
    } else {
        let projection = Convolution { stride, ..Convolution::new(1, inputs, outputs) };
        graph.convolution(&format!("{name}.shortcut"), input, projection)
    };
    let sum = graph.apply(&format!("{name}.add"), "Add", &[&branch, &shortcut]);
    graph.apply(&format!("{name}.relu"), "Relu", &[&sum])
}
