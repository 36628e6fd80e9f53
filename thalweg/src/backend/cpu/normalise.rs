//! Rewrites what rten 0.27 rejects or would compute wrongly although it has the operator.
//!
//! In: a model with its data inside. Out: one that means the same by the ONNX specification
//! (<https://onnx.ai/onnx/operators/>) and that rten reads in this way. What cannot be rewritten is refused,
//! since rten would silently compute something else. Operators that rten lacks are left to
//! [`operators`](super::operators).

use std::collections::HashMap;

use super::eight_bit::{self, Products};
use super::operators::unsupported;
use crate::error::Result;
use crate::model::proto::attribute_proto::AttributeType;
use crate::model::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
};

/// Softmax normalises one axis from this operator set on; before, all axes from `axis` to the last.
const SOFTMAX_OF_ONE_AXIS: i64 = 13;
/// Resize has an input `roi` from this operator set on; before, it is what Upsample was.
const RESIZE_WITH_ROI: i64 = 11;

/// Rewrites all nodes of a model. `ranks` holds the number of dimensions of tensors where it is known.
pub(super) fn normalise(
    model: &mut ModelProto,
    ranks: &HashMap<String, usize>,
    products: Products,
) -> Result<()> {
    let opset = model.opset_import.iter().find(|set| matches!(set.domain(), "" | "ai.onnx"));
    let opset = opset.map_or(i64::MAX, OperatorSetIdProto::version);
    let context = Context { opset, ranks, products };
    model.graph.as_mut().map_or(Ok(()), |graph| context.graph(graph))
}

struct Context<'a> {
    opset: i64,
    ranks: &'a HashMap<String, usize>,
    products: Products,
}

impl Context<'_> {
    fn graph(&self, graph: &mut GraphProto) -> Result<()> {
        let weights: HashMap<_, _> = graph.initializer.iter().map(named_rank).collect();
        let mut rewritten = Vec::with_capacity(graph.node.len());
        for mut node in std::mem::take(&mut graph.node) {
            for attribute in &mut node.attribute {
                for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                    self.graph(inner)?;
                }
            }
            if node.name().is_empty() {
                // Errors of rten name the node, or nothing.
                node.name = Some(node.label());
            }
            let rank = |name: &String| weights.get(name).or_else(|| self.ranks.get(name)).copied();
            let input_ranks: Vec<_> = node.input.iter().map(rank).collect();
            self.node(node, &input_ranks, &mut rewritten)?;
        }
        graph.node = rewritten;
        Ok(())
    }

    fn node(&self, mut node: NodeProto, ranks: &[Option<usize>], out: &mut Vec<NodeProto>) -> Result<()> {
        if !matches!(node.domain(), "" | "ai.onnx") {
            if node.op_type() == "DynamicQuantizeLSTM" && self.products == Products::Saturating {
                return Err(unsupported(&node, "rten overflows in it on processors without AVX-512 VNNI"));
            }
            out.push(node);
            return Ok(());
        }
        match node.op_type() {
            "Conv" | "ConvInteger" | "ConvTranspose" => convolution(&mut node, ranks)?,
            "MaxPool" | "AveragePool" => pooling(&mut node)?,
            "Resize" => self.resize(&mut node)?,
            // rten takes the last axis where ONNX takes the second.
            "QuantizeLinear" if node.int("axis").is_none() => set_int(&mut node, "axis", 1),
            "Softmax" | "LogSoftmax" if self.opset < SOFTMAX_OF_ONE_AXIS => {
                out.extend(softmax_of_many_axes(node, ranks.first().copied().flatten()));
                return Ok(());
            }
            _ => {}
        }
        let is_integer = matches!(node.op_type(), "ConvInteger" | "MatMulInteger");
        if is_integer && self.products == Products::Saturating {
            out.extend(eight_bit::in_floats(&node, ranks)?);
        } else {
            out.push(node);
        }
        Ok(())
    }

    fn resize(&self, node: &mut NodeProto) -> Result<()> {
        if node.text("mode") == Some("cubic") {
            return Err(unsupported(node, "rten has no cubic interpolation and would take the linear one"));
        }
        if self.opset < RESIZE_WITH_ROI {
            node.op_type = Some("Upsample".into());
        }
        Ok(())
    }
}

/// rten takes the number of spatial dimensions from `kernel_shape`, which is optional in ONNX, and needs one
/// element for each of them in the other attributes.
fn convolution(node: &mut NodeProto, ranks: &[Option<usize>]) -> Result<()> {
    let of_list = |name: &str, per_dimension: usize| node.ints(name).map(|list| list.len() / per_dimension);
    let of_tensor = |index: usize| ranks.get(index).copied().flatten()?.checked_sub(2);
    let spatial = of_list("kernel_shape", 1)
        .or_else(|| of_list("strides", 1))
        .or_else(|| of_list("dilations", 1))
        .or_else(|| of_list("pads", 2))
        .or_else(|| of_tensor(1))
        .or_else(|| of_tensor(0));
    let Some(spatial) = spatial else {
        return Err(unsupported(node, "nothing says how many dimensions its kernel has"));
    };
    default_ints(node, "strides", vec![1; spatial]);
    default_ints(node, "dilations", vec![1; spatial]);
    default_ints(node, "pads", vec![0; 2 * spatial]);
    refuse_same_lower(node)
}

/// rten needs `strides`, which are optional in ONNX.
fn pooling(node: &mut NodeProto) -> Result<()> {
    let spatial = node.ints("kernel_shape").map_or(0, <[i64]>::len);
    default_ints(node, "strides", vec![1; spatial]);
    refuse_same_lower(node)
}

/// rten reads `SAME_LOWER` as `SAME_UPPER`. They differ where the padding of a dimension is odd; with
/// stride 1 it is `(size - 1) * dilation`.
fn refuse_same_lower(node: &NodeProto) -> Result<()> {
    if node.text("auto_pad") != Some("SAME_LOWER") {
        return Ok(());
    }
    let dilations = node.ints("dilations").unwrap_or_default();
    let dilation = |axis: usize| dilations.get(axis).copied().unwrap_or(1);
    let kernel = node.ints("kernel_shape").unwrap_or_default();
    let is_even = |(axis, size): (usize, &i64)| size % 2 != 0 || dilation(axis) % 2 == 0;
    let is_symmetric = !kernel.is_empty()
        && kernel.iter().enumerate().all(is_even)
        && node.ints("strides").unwrap_or_default().iter().all(|&stride| stride == 1);
    if is_symmetric {
        return Ok(());
    }
    Err(unsupported(node, "rten would pad at the end where `auto_pad` SAME_LOWER asks for the start"))
}

/// Softmax over all axes from `axis` on: the one axis where that is the last, else flattened and back.
fn softmax_of_many_axes(mut node: NodeProto, rank: Option<usize>) -> Vec<NodeProto> {
    let axis = node.int("axis").unwrap_or(1);
    let last = rank.and_then(|rank| i64::try_from(rank).ok()).map(|rank| rank - 1);
    if axis == -1 || Some(axis) == last {
        set_int(&mut node, "axis", -1);
        return vec![node];
    }
    let Some(input) = node.input.first() else { return vec![node] };
    let mut builder = NodeBuilder::for_parts_of(&node);
    let shape = builder.add("Shape", &[input]);
    let flat = builder.add("Flatten", &[input]);
    set_int(builder.last(), "axis", axis);
    let rows = builder.add(node.op_type(), &[&flat]);
    set_int(builder.last(), "axis", -1);
    builder.add("Reshape", &[&rows, &shape]);
    builder.finish()
}

/// Builds the nodes that one node becomes. The last one makes the node's output.
pub(super) struct NodeBuilder {
    name: String,
    output: String,
    nodes: Vec<NodeProto>,
}

impl NodeBuilder {
    pub(super) fn for_parts_of(node: &NodeProto) -> Self {
        let output = node.output.first().cloned().unwrap_or_default();
        Self { name: node.name().to_owned(), output, nodes: Vec::new() }
    }

    /// Adds a node and gives the name of its output.
    pub(super) fn add(&mut self, op_type: &str, inputs: &[&str]) -> String {
        let output = format!("{}/{}", self.output, self.nodes.len());
        self.nodes.push(NodeProto {
            name: Some(format!("{} ({op_type} {})", self.name, self.nodes.len())),
            op_type: Some(op_type.into()),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.clone()],
            ..Default::default()
        });
        output
    }

    /// The node that was added last, for its attributes.
    pub(super) fn last(&mut self) -> &mut NodeProto {
        self.nodes.last_mut().expect("bug: attributes are set after a node was added")
    }

    pub(super) fn finish(mut self) -> Vec<NodeProto> {
        let output = std::mem::take(&mut self.output);
        self.last().output = vec![output];
        self.nodes
    }
}

fn named_rank(tensor: &TensorProto) -> (String, usize) {
    (tensor.name().to_owned(), tensor.dims.len())
}

fn default_ints(node: &mut NodeProto, name: &str, ints: Vec<i64>) {
    if node.attribute(name).is_none() {
        set_ints(node, name, ints);
    }
}

pub(super) fn set_ints(node: &mut NodeProto, name: &str, ints: Vec<i64>) {
    let r#type = Some(AttributeType::Ints.into());
    set(node, AttributeProto { name: Some(name.into()), r#type, ints, ..Default::default() });
}

pub(super) fn set_int(node: &mut NodeProto, name: &str, value: i64) {
    let (r#type, i) = (Some(AttributeType::Int.into()), Some(value));
    set(node, AttributeProto { name: Some(name.into()), r#type, i, ..Default::default() });
}

fn set(node: &mut NodeProto, attribute: AttributeProto) {
    node.attribute.retain(|other| other.name() != attribute.name());
    node.attribute.push(attribute);
}

#[cfg(test)]
mod tests {
    use super::super::test_models::{graph, int, ints, node, proto, text, value, with_attribute};
    use super::*;
    use crate::model::proto::tensor_proto::DataType as OnnxDataType;

    /// The nodes that one node of an old or new operator set becomes, with `x` of the given rank.
    fn rewritten(node: NodeProto, opset: i64, rank: Option<usize>) -> Result<Vec<NodeProto>> {
        rewritten_for(Products::Exact, node, opset, rank)
    }

    fn rewritten_for(
        products: Products,
        node: NodeProto,
        opset: i64,
        rank: Option<usize>,
    ) -> Result<Vec<NodeProto>> {
        let ends = |name| vec![value(name, OnnxDataType::Float, &[1])];
        let mut model = proto(graph(vec![node], Vec::new(), ends("x"), ends("y")), opset);
        let ranks = rank.map(|rank| ("x".to_owned(), rank)).into_iter().collect();
        normalise(&mut model, &ranks, products)?;
        Ok(model.graph.unwrap_or_default().node)
    }

    fn operators(nodes: &[NodeProto]) -> Vec<&str> {
        nodes.iter().map(NodeProto::op_type).collect()
    }

    #[test]
    fn a_convolution_gets_one_element_for_each_dimension_of_its_kernel() {
        for (conv, rank) in [
            (node("Conv", &["x", "w"], &["y"]), Some(4)),
            (with_attribute(node("Conv", &["x", "w"], &["y"]), ints("strides", &[1, 1])), None),
            (with_attribute(node("Conv", &["x", "w"], &["y"]), ints("kernel_shape", &[3, 3])), None),
        ] {
            let nodes = rewritten(conv, 17, rank).unwrap();
            assert_eq!(nodes[0].ints("strides"), Some(&[1, 1][..]));
            assert_eq!(nodes[0].ints("dilations"), Some(&[1, 1][..]));
            assert_eq!(nodes[0].ints("pads"), Some(&[0, 0, 0, 0][..]));
        }
    }

    #[test]
    fn given_attributes_stay_as_they_are() {
        let pool = with_attribute(node("MaxPool", &["x"], &["y"]), ints("kernel_shape", &[2]));
        let nodes = rewritten(with_attribute(pool, ints("strides", &[3])), 17, None).unwrap();
        assert_eq!(nodes[0].ints("strides"), Some(&[3][..]));
    }

    #[test]
    fn padding_at_the_start_is_refused_only_where_it_differs() {
        let pool = |kernel: i64| {
            let pool = with_attribute(node("MaxPool", &["x"], &["y"]), text("auto_pad", "SAME_LOWER"));
            with_attribute(pool, ints("kernel_shape", &[kernel]))
        };
        assert!(rewritten(pool(3), 17, None).is_ok());
        let error = rewritten(pool(2), 17, None).unwrap_err().to_string();
        assert!(error.starts_with("the cpu backend cannot run operator `MaxPool`"), "{error}");
    }

    #[test]
    fn an_old_softmax_over_several_axes_is_flattened() {
        let softmax = || with_attribute(node("Softmax", &["x"], &["y"]), int("axis", 1));
        let flattened = rewritten(softmax(), 11, Some(3)).unwrap();
        assert_eq!(operators(&flattened), ["Shape", "Flatten", "Softmax", "Reshape"]);
        assert_eq!(operators(&rewritten(softmax(), 11, None).unwrap()).len(), 4);
        assert_eq!(operators(&rewritten(softmax(), 11, Some(2)).unwrap()), ["Softmax"]);
        assert_eq!(operators(&rewritten(softmax(), 13, Some(3)).unwrap()), ["Softmax"]);
    }

    #[test]
    fn the_first_resize_was_an_upsample() {
        let resize = || node("Resize", &["x", "scales"], &["y"]);
        assert_eq!(operators(&rewritten(resize(), 10, None).unwrap()), ["Upsample"]);
        assert_eq!(operators(&rewritten(resize(), 11, None).unwrap()), ["Resize"]);
    }

    #[test]
    fn cubic_interpolation_is_refused() {
        let cubic = with_attribute(node("Resize", &["x", "", "scales"], &["y"]), text("mode", "cubic"));
        let error = rewritten(cubic, 17, None).unwrap_err().to_string();
        assert!(error.contains("no cubic interpolation"), "{error}");
    }

    #[test]
    fn quantisation_is_per_channel_by_default() {
        let quantise = node("QuantizeLinear", &["x", "scale"], &["y"]);
        assert_eq!(rewritten(quantise, 17, None).unwrap()[0].int("axis"), Some(1));
    }

    #[test]
    fn products_of_integers_become_floats_only_where_rten_overflows() {
        let product = || node("MatMulInteger", &["x", "w"], &["y"]);
        assert_eq!(operators(&rewritten(product(), 17, None).unwrap()), ["MatMulInteger"]);
        let floats = rewritten_for(Products::Saturating, product(), 17, None).unwrap();
        assert_eq!(operators(&floats), ["Cast", "Cast", "MatMul", "Round", "Cast"]);
        assert_eq!(floats[4].output, ["y"]);
    }

    #[test]
    fn a_quantised_lstm_is_refused_where_rten_overflows() {
        let lstm = || NodeProto {
            domain: Some("com.microsoft".into()),
            ..node("DynamicQuantizeLSTM", &["x"], &["y"])
        };
        assert!(rewritten(lstm(), 17, None).is_ok());
        let error = rewritten_for(Products::Saturating, lstm(), 17, None).unwrap_err().to_string();
        assert!(error.contains("`com.microsoft.DynamicQuantizeLSTM`"), "{error}");
    }
}
