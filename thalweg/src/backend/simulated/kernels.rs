//! What a network asks of a device: the kernels that an engine would run, from the model's cost.
//!
//! In: the [`Cost`] of one execution at a batch size. Out: a list of [`Kernel`]s after the fusions that every
//! engine does. How long they take is left to [`phases`](super::phases).

use crate::model::{Cost, NodeCost};

/// One kernel of an engine, as far as its cost goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kernel {
    /// Arithmetic operations; a multiply-add counts as 2.
    pub flops: f64,
    /// Elements of its output: they can be computed side by side.
    pub outputs: f64,
    /// Activations read and written, in bytes as of FP32.
    pub activation_bytes: f64,
    /// Weights read, in bytes as of FP32.
    pub weight_bytes: f64,
    /// Whether tensor cores do the arithmetic.
    pub is_product: bool,
}

/// The share of an element-wise node's traffic that stays when it is fused into the kernel before it: its
/// first input and its output are that kernel's own output, so of two inputs and one output one is left.
const FUSED_SHARE: f64 = 1.0 / 3.0;

/// The kernels of an execution of this cost, in order. A network has at least one. What is written in halves has half the
/// bytes in its cost.
pub(super) fn kernels(cost: &Cost, is_half: bool) -> Vec<Kernel> {
    let mut kernels: Vec<Kernel> = Vec::new();
    for node in cost.nodes.iter().filter(|node| node.activation_bytes.0 > 0) {
        match kernels.last_mut() {
            Some(before) if is_elementwise(&node.operator) => fuse(node, before),
            _ => kernels.push(kernel(node)),
        }
    }
    if kernels.is_empty() {
        kernels.push(kernel(&NodeCost::default()));
    }
    if is_half {
        for kernel in &mut kernels {
            kernel.activation_bytes *= 2.0;
            kernel.weight_bytes *= 2.0;
        }
    }
    kernels
}

fn kernel(node: &NodeCost) -> Kernel {
    let outputs = node.output_shape.iter().flatten().product::<usize>().max(1);
    Kernel {
        flops: node.flops as f64,
        outputs: outputs as f64,
        activation_bytes: node.activation_bytes.0 as f64,
        weight_bytes: node.weight_bytes.0 as f64,
        is_product: is_product(&node.operator),
    }
}

/// Element-wise work rides along; a second input still has to be read.
fn fuse(node: &NodeCost, before: &mut Kernel) {
    if matches!(node.operator.as_str(), "Add" | "Sub" | "Mul" | "Div") {
        before.activation_bytes += node.activation_bytes.0 as f64 * FUSED_SHARE;
    }
}

fn is_product(operator: &str) -> bool {
    matches!(operator, "Conv" | "ConvTranspose" | "Gemm" | "MatMul" | "LSTM" | "GRU" | "Attention")
}

/// Operators that TensorRT fuses into the kernel before them, or among each other:
/// <https://docs.nvidia.com/deeplearning/tensorrt/latest/performance/optimization.html> (layer fusion).
fn is_elementwise(operator: &str) -> bool {
    const NAMES: [&str; 27] = [
        "Abs",
        "Add",
        "BatchNormalization",
        "Cast",
        "Ceil",
        "Clip",
        "Div",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Log",
        "Mul",
        "Neg",
        "Pow",
        "PRelu",
        "Relu",
        "Sigmoid",
        "Sin",
        "Softplus",
        "Sqrt",
        "Sub",
        "Tanh",
    ];
    NAMES.contains(&operator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    fn node(operator: &str) -> NodeCost {
        NodeCost {
            operator: operator.into(),
            flops: 1000,
            activation_bytes: Bytes(300),
            output_shape: Some(vec![2, 50]),
            ..NodeCost::default()
        }
    }

    #[test]
    fn element_wise_nodes_ride_along_and_a_residual_is_read_once_more() {
        let nodes = ["Conv", "BatchNormalization", "Add", "Relu", "MaxPool"].map(node).to_vec();
        let cost = Cost { nodes, ..Cost::default() };
        let kernels_of = |is_half| kernels(&cost, is_half);
        let kernels = kernels_of(false);
        assert_eq!(kernels.len(), 2);
        assert_eq!((kernels[0].activation_bytes, kernels[0].outputs), (400.0, 100.0));
        assert!(kernels[0].is_product && !kernels[1].is_product);
        assert_eq!(kernels_of(true)[0].activation_bytes, 800.0, "as if it were written in FP32");
    }

    #[test]
    fn a_network_without_work_is_one_empty_kernel() {
        assert_eq!(kernels(&Cost::default(), false).len(), 1);
    }
}
