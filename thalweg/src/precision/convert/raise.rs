//! From an older operator set of ONNX to one that has what a lower precision needs.
//!
//! In: a model of operator set 7 or later. Out: one that means the same in operator set 13 or 22, or the operator that
//! stands in the way. What moved between attributes and inputs is moved; where a default changed it is written out
//! (<https://github.com/onnx/onnx/blob/main/docs/Changelog.md>). Only nodes of ONNX's own domain are looked at.

use std::collections::HashSet;

use bytes::Bytes;

use super::operators;
use crate::model::Model;
use crate::model::proto::attribute_proto::AttributeType;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::precision::onnx::{collect, int_attribute, is_own, tensor};

/// The first operator set in which convolutions, pooling and recurrent networks take BF16.
pub(in crate::precision) const WITH_BF16: i64 = 22;

/// The first operator set in which QuantizeLinear and DequantizeLinear take one scale for each channel.
pub(in crate::precision) const WITH_CHANNELS: i64 = 13;

/// The first IR versions that go with them (<https://github.com/onnx/onnx/blob/main/docs/Versioning.md>).
const IR_VERSIONS: [(i64, i64); 2] = [(WITH_CHANNELS, 7), (WITH_BF16, 10)];

/// Before it operators had another broadcasting.
const OLDEST: i64 = 7;

/// The model in operator set `target`, [`WITH_CHANNELS`] or [`WITH_BF16`], or the sentence that says why not. A later
/// one stays.
pub(in crate::precision) fn raised(model: &Model, opset: i64, target: i64) -> Result<ModelProto, String> {
    let mut proto = model.proto().clone();
    if opset >= target {
        return Ok(proto);
    }
    if opset < OLDEST {
        return Err(format!("operator set {opset} is too old: the oldest is {OLDEST}"));
    }
    let mut names = HashSet::new();
    collect(model.graph(), &mut names);
    let mut raiser = Raiser { opset, target, names, constants: Vec::new() };
    proto.graph.as_mut().map_or(Ok(()), |graph| raiser.graph(graph))?;
    for set in proto.opset_import.iter_mut().filter(|set| matches!(set.domain(), "" | "ai.onnx")) {
        set.version = Some(target);
    }
    let ir_versions = IR_VERSIONS.iter().filter(|(opset, _)| *opset <= target).map(|(_, version)| *version);
    proto.ir_version = ir_versions.chain(proto.ir_version).max();
    Ok(proto)
}

struct Raiser {
    /// That of the model.
    opset: i64,
    /// That which it gets.
    target: i64,
    names: HashSet<String>,
    /// New initializers of the graph that is being rewritten.
    constants: Vec<TensorProto>,
}

impl Raiser {
    fn graph(&mut self, graph: &mut GraphProto) -> Result<(), String> {
        let around = std::mem::take(&mut self.constants);
        let mut nodes = Vec::with_capacity(graph.node.len());
        for mut node in std::mem::take(&mut graph.node) {
            for attribute in &mut node.attribute {
                let subgraphs = attribute.g.iter_mut().chain(&mut attribute.graphs);
                subgraphs.into_iter().try_for_each(|subgraph| self.graph(subgraph))?;
            }
            if is_own(&node) {
                self.node(node, &mut nodes)?;
            } else {
                nodes.push(node);
            }
        }
        graph.node = nodes;
        graph.initializer.append(&mut self.constants);
        self.constants = around;
        Ok(())
    }

    fn node(&mut self, mut node: NodeProto, nodes: &mut Vec<NodeProto>) -> Result<(), String> {
        let refused =
            |node: &NodeProto, why: &str| Err(format!("node `{}` ({}) {why}", node.label(), node.op_type()));
        // Whether the operator became another one in this operator set, on the way that the model goes.
        let changed = |since: i64| self.opset < since && since <= self.target;
        match node.op_type() {
            "Squeeze" | "Unsqueeze" | "ReduceSum" if changed(13) => self.move_ints(&mut node, "axes", 1),
            operator if operator.starts_with("Reduce") && changed(18) => {
                self.move_ints(&mut node, "axes", 1);
            }
            "Split" if self.opset < 18 => self.split(&mut node),
            "Softmax" | "LogSoftmax" | "Hardmax" if changed(13) => {
                self.softmax(node, nodes);
                return Ok(());
            }
            "Clip" if changed(11) => self.clip(&mut node),
            "Pad" if changed(11) => {
                self.move_ints(&mut node, "pads", 1);
                self.move_float(&mut node, "value", 2);
            }
            "Slice" if changed(10) => {
                for (name, index) in [("starts", 1), ("ends", 2), ("axes", 3)] {
                    self.move_ints(&mut node, name, index);
                }
            }
            "Upsample" if self.opset == 9 => resize(&mut node),
            "Resize" if self.opset == 10 => resize(&mut node),
            "Upsample" => return refused(&node, "has its scales as an attribute"),
            "Resize"
                if changed(13)
                    && node.text("coordinate_transformation_mode") == Some("tf_half_pixel_for_nn") =>
            {
                return refused(&node, "has a coordinate transformation that ONNX has dropped");
            }
            "Dropout" if changed(12) => remove(&mut node, "ratio"),
            "BatchNormalization" if changed(9) && node.int("spatial") == Some(0) => {
                return refused(&node, "normalises each element");
            }
            "BatchNormalization" if changed(14) && node.output.len() > 1 => {
                return refused(&node, "trains");
            }
            "BatchNormalization" if changed(9) => remove(&mut node, "spatial"),
            "Scatter" => node.op_type = Some("ScatterElements".to_owned()),
            "GridSample" if changed(20) => rename_modes(&mut node),
            "RoiAlign" if changed(16) => {
                set_text(&mut node, "coordinate_transformation_mode", "output_half_pixel");
            }
            "GroupNormalization" if changed(21) => return refused(&node, MEANS_ANOTHER),
            "DFT" if changed(20) => return refused(&node, MEANS_ANOTHER),
            "TopK" if changed(10) => return refused(&node, MEANS_ANOTHER),
            "Scan" if changed(9) => return refused(&node, MEANS_ANOTHER),
            operator if operators::is_listed(operator) || UNCHANGED.contains(&operator) => {}
            _ => return refused(&node, "is not known to mean the same in later operator sets"),
        }
        nodes.push(node);
        Ok(())
    }

    /// A list in an attribute becomes an input.
    fn move_ints(&mut self, node: &mut NodeProto, name: &str, index: usize) {
        let Some(ints) = node.ints(name).map(<[i64]>::to_vec) else { return };
        remove(node, name);
        let bytes = ints.iter().flat_map(|int| int.to_le_bytes()).collect::<Vec<u8>>();
        let count = i64::try_from(ints.len()).expect("bug: a list as long as no memory");
        self.give(node, (name, index), (OnnxDataType::Int64, vec![count], bytes.into()));
    }

    /// A number in an attribute becomes an input.
    fn move_float(&mut self, node: &mut NodeProto, name: &str, index: usize) {
        let Some(float) = node.attribute(name).and_then(|attribute| attribute.f) else { return };
        remove(node, name);
        let bytes = float.to_le_bytes().to_vec();
        self.give(node, (name, index), (OnnxDataType::Float, Vec::new(), bytes.into()));
    }

    fn give(
        &mut self,
        node: &mut NodeProto,
        (name, index): (&str, usize),
        (data_type, dims, bytes): (OnnxDataType, Vec<i64>, Bytes),
    ) {
        let given = self.fresh(node, name);
        self.constants.push(tensor(given.clone(), data_type, dims, bytes));
        if node.input.len() <= index {
            node.input.resize(index + 1, String::new());
        }
        node.input[index] = given;
    }

    /// Numbers at the ends of `f32` are what the attributes were where nobody set them.
    fn clip(&mut self, node: &mut NodeProto) {
        for (name, index) in [("min", 1), ("max", 2)] {
            let limit = node.attribute(name).and_then(|attribute| attribute.f);
            match limit {
                Some(limit) if limit.abs() < f32::MAX => self.move_float(node, name, index),
                _ => remove(node, name),
            }
        }
    }

    /// From operator set 18 on it has to be told into how many parts, where it has no lengths.
    fn split(&mut self, node: &mut NodeProto) {
        if self.opset < 13 {
            self.move_ints(node, "split", 1);
        }
        if self.target >= 18 && node.input.get(1).is_none_or(String::is_empty) {
            let count = i64::try_from(node.output.len()).expect("bug: more outputs than memory");
            set_int(node, "num_outputs", count);
        }
    }

    /// Over all axes from `axis` on: flattened, over the last axis, and back.
    fn softmax(&mut self, mut node: NodeProto, nodes: &mut Vec<NodeProto>) {
        let axis = node.int("axis").unwrap_or(1);
        set_int(&mut node, "axis", -1);
        if axis == -1 {
            nodes.push(node);
            return;
        }
        // It will make another value, after which it would be called where it has no name.
        node.name = Some(node.label());
        let part = |operator: &str, inputs: &[&String], output: &String| NodeProto {
            op_type: Some(operator.to_owned()),
            name: Some(output.clone()),
            input: inputs.iter().map(|name| (*name).clone()).collect(),
            output: vec![output.clone()],
            ..NodeProto::default()
        };
        let [shape, flat, rows] = ["shape", "flat", "rows"].map(|name| self.fresh(&node, name));
        let (input, output) = (node.input[0].clone(), node.output[0].clone());
        nodes.push(part("Shape", &[&input], &shape));
        let mut flatten = part("Flatten", &[&input], &flat);
        set_int(&mut flatten, "axis", axis);
        nodes.push(flatten);
        (node.input, node.output) = (vec![flat], vec![rows.clone()]);
        nodes.push(node);
        nodes.push(NodeProto {
            name: Some(format!("{output}_back")),
            ..part("Reshape", &[&rows, &shape], &output)
        });
    }

    /// A name like the node's output and this word.
    fn fresh(&mut self, node: &NodeProto, word: &str) -> String {
        let output = node.output.first().map_or("", String::as_str);
        let mut name = format!("{output}_{word}");
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        name
    }
}

const MEANS_ANOTHER: &str = "means something else in later operator sets";

/// Operators that mean the same since operator set 7, besides those with a half version.
const UNCHANGED: [&str; 24] = [
    "And",
    "BitShift",
    "Constant",
    "ConstantOfShape",
    "ConvInteger",
    "EyeLike",
    "If",
    "IsInf",
    "Loop",
    "MatMulInteger",
    "Mod",
    "NonMaxSuppression",
    "Not",
    "OneHot",
    "Or",
    "QLinearConv",
    "QLinearMatMul",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "Scan",
    "Unique",
    "Xor",
    "Atan",
];

/// Before it had modes it rounded down, and took coordinates as multiples.
fn resize(node: &mut NodeProto) {
    node.op_type = Some("Resize".to_owned());
    node.input.insert(1, String::new());
    set_text(node, "coordinate_transformation_mode", "asymmetric");
    set_text(node, "nearest_mode", "floor");
}

fn rename_modes(node: &mut NodeProto) {
    match node.text("mode") {
        None | Some("bilinear") => set_text(node, "mode", "linear"),
        Some("bicubic") => set_text(node, "mode", "cubic"),
        Some(_) => {}
    }
}

fn remove(node: &mut NodeProto, name: &str) {
    node.attribute.retain(|attribute| attribute.name() != name);
}

fn set_int(node: &mut NodeProto, name: &str, value: i64) {
    set(node, int_attribute(name, value));
}

fn set_text(node: &mut NodeProto, name: &str, value: &'static str) {
    let (r#type, s) = (Some(AttributeType::String.into()), Some(Bytes::from_static(value.as_bytes())));
    set(node, AttributeProto { name: Some(name.to_owned()), r#type, s, ..AttributeProto::default() });
}

fn set(node: &mut NodeProto, attribute: AttributeProto) {
    remove(node, attribute.name());
    node.attribute.push(attribute);
}
