//! FP16 and BF16, computed in FP32 and rounded.
//!
//! rten 0.27 reads FP16 as FP32 without a word, so that a network would look more exact than it is, and has no BF16 at
//! all. In: a model with its data inside. Out: one without half types, in which what was half is rounded where a node
//! makes it, as ONNX Runtime's processor provider does with FP16. Rounding is arithmetic in FP32: to the significant bits
//! of the type by Veltkamp's splitting (J.-M. Muller et al., Handbook of Floating-Point Arithmetic, section 4.4.1), which
//! differs from the standard's only where a number lies in the middle of two, and to FP16's fixed step below its smallest
//! normal number.

use std::collections::HashMap;

use half::{bf16, f16};

use super::normalise::NodeBuilder;
use crate::error::Result;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::type_proto::Value as Type;
use crate::model::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use crate::model::{DataType, Model};

/// Operators that only hand on numbers which they read: what was rounded once stays as it is.
const HANDING_ON: [&str; 24] = [
    "Concat",
    "Constant",
    "ConstantOfShape",
    "DepthToSpace",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Max",
    "MaxPool",
    "Min",
    "Neg",
    "Pad",
    "Relu",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
    "Where",
];

/// The model without half types; as it is, where it has none.
pub(super) fn in_fp32(model: &Model) -> Result<Model> {
    let mut proto = model.proto().clone();
    let mut rounding = Rounding { model, constants: Vec::new() };
    let Some(graph) = &mut proto.graph else { return Ok(model.clone()) };
    rounding.graph(graph, &HashMap::new())?;
    graph.initializer.append(&mut rounding.constants);
    Model::from_proto(proto, model.path())
}

struct Rounding<'a> {
    model: &'a Model,
    /// Numbers that the new nodes read, in the main graph.
    constants: Vec<TensorProto>,
}

impl Rounding<'_> {
    fn graph(&mut self, graph: &mut GraphProto, around: &HashMap<String, DataType>) -> Result<()> {
        let mut types = around.clone();
        types.extend(self.model.element_types(graph, around)?);
        for tensor in &mut graph.initializer {
            self.widen(tensor)?;
        }
        for value in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
            declare_fp32(value);
        }
        let mut nodes = Vec::with_capacity(graph.node.len());
        for node in std::mem::take(&mut graph.node) {
            self.node(node, &types, &mut nodes)?;
        }
        graph.node = nodes;
        Ok(())
    }

    fn node(
        &mut self,
        mut node: NodeProto,
        types: &HashMap<String, DataType>,
        nodes: &mut Vec<NodeProto>,
    ) -> Result<()> {
        let mut has_subgraphs = false;
        for attribute in &mut node.attribute {
            for subgraph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                has_subgraphs = true;
                self.graph(subgraph, types)?;
            }
            attribute.t.iter_mut().chain(&mut attribute.tensors).try_for_each(|tensor| self.widen(tensor))?;
            if matches!(attribute.name(), "to" | "dtype") && attribute.i.is_some_and(is_half) {
                attribute.i = Some(OnnxDataType::Float as i64);
            }
        }
        if has_subgraphs || HANDING_ON.contains(&node.op_type()) {
            nodes.push(node);
            return Ok(());
        }
        let mut roundings = Vec::new();
        for name in &mut node.output {
            let Some(half) = types.get(name).copied().filter(|it| is_half_type(*it)) else { continue };
            let exact = format!("{name}/exact");
            roundings.extend(self.rounded(&exact, name, half));
            *name = exact;
        }
        nodes.push(node);
        nodes.append(&mut roundings);
        Ok(())
    }

    /// The nodes that make `output` of `input` by rounding it.
    fn rounded(&mut self, input: &str, output: &str, half: DataType) -> Vec<NodeProto> {
        let made = NodeProto {
            name: Some(format!("{output} as {half}")),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        };
        let mut builder = NodeBuilder::for_parts_of(&made);
        let magnitude = builder.add("Abs", &[input]);
        let stretched = builder.add("Mul", &[input, &self.constant(splitter(half))]);
        let rest = builder.add("Sub", &[&stretched, input]);
        let rounded = builder.add("Sub", &[&stretched, &rest]);
        if half == DataType::BF16 {
            let is_small = builder.add("Less", &[&magnitude, &self.constant(BF16_LARGEST_SPLIT)]);
            builder.add("Where", &[&is_small, &rounded, input]);
            return builder.finish();
        }
        let shift = self.constant(FP16_SUBNORMAL_SHIFT);
        let shifted = builder.add("Add", &[input, &shift]);
        let stepped = builder.add("Sub", &[&shifted, &shift]);
        let is_subnormal = builder.add("Less", &[&magnitude, &self.constant(f16::MIN_POSITIVE.to_f32())]);
        let finite = builder.add("Where", &[&is_subnormal, &stepped, &rounded]);
        // What is too large becomes infinite with its sign; NaN is neither smaller than anything nor changed by this.
        let beyond = builder.add("Mul", &[input, &self.constant(f32::MAX)]);
        let is_finite = builder.add("Less", &[&magnitude, &self.constant(FP16_FIRST_INFINITE)]);
        builder.add("Where", &[&is_finite, &finite, &beyond]);
        builder.finish()
    }

    /// The name of a number that nodes can read.
    fn constant(&mut self, number: f32) -> String {
        let name = format!("half/{:08x}", number.to_bits());
        if !self.constants.iter().any(|tensor| tensor.name() == name) {
            self.constants.push(floats(&name, &[], &[number]));
        }
        name
    }

    /// A tensor of halves with the same numbers in FP32.
    fn widen(&self, tensor: &mut TensorProto) -> Result<()> {
        if !is_half(i64::from(tensor.data_type())) {
            return Ok(());
        }
        let bytes = self.model.tensor_data(tensor)?;
        let is_fp16 = tensor.data_type() == OnnxDataType::Float16 as i32;
        let wide = |bits: &[u8; 2]| match is_fp16 {
            true => f16::from_le_bytes(*bits).to_f32(),
            false => bf16::from_le_bytes(*bits).to_f32(),
        };
        let numbers: Vec<f32> = bytes.as_chunks().0.iter().map(wide).collect();
        *tensor = floats(tensor.name(), &tensor.dims, &numbers);
        Ok(())
    }
}

/// One more than two to the power of the bits that FP32 has more than the type: 24 less 11, and 24 less 8.
fn splitter(half: DataType) -> f32 {
    if half == DataType::BF16 { 65_537.0 } else { 8193.0 }
}

/// BF16's splitting passes FP32's range from here on, 2^111; larger numbers are left as they are.
const BF16_LARGEST_SPLIT: f32 = 2.596_148_4e33;

/// Numbers added to this have the step of FP16's subnormal ones, 2^-24, which FP32 has between 0.5 and 1.
const FP16_SUBNORMAL_SHIFT: f32 = 0.75;

/// Half a step above FP16's largest number.
const FP16_FIRST_INFINITE: f32 = 65_520.0;

fn is_half(onnx: i64) -> bool {
    [OnnxDataType::Float16 as i64, OnnxDataType::Bfloat16 as i64].contains(&onnx)
}

fn is_half_type(data_type: DataType) -> bool {
    matches!(data_type, DataType::F16 | DataType::BF16)
}

fn declare_fp32(value: &mut ValueInfoProto) {
    if let Some(Type::TensorType(tensor)) = value.r#type.as_mut().and_then(|it| it.value.as_mut())
        && is_half(i64::from(tensor.elem_type()))
    {
        tensor.elem_type = Some(OnnxDataType::Float as i32);
    }
}

fn floats(name: &str, dims: &[i64], numbers: &[f32]) -> TensorProto {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(OnnxDataType::Float as i32),
        raw_data: Some(bytes.into()),
        ..TensorProto::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_models::{self, graph, int, node, value, with_attribute};
    use super::super::tests::run_once;
    use super::*;
    use crate::random::Random;

    const COUNT: usize = 4096;

    /// Numbers of all magnitudes that FP16 tells apart, and beyond at both ends.
    fn numbers() -> Vec<f32> {
        let mut random = Random::new(1);
        let mut numbers = vec![0.0, -0.0, 1.0, 65_519.0, -65_520.0, 1e9, f32::INFINITY, f32::NEG_INFINITY];
        numbers.extend([f32::NAN, 6.1e-5, 6.0e-8, 2.9e-8, -1e-9, f32::MAX, f32::MIN, 1e-30]);
        while numbers.len() < COUNT {
            let exponent = random.below(50) as f32 - 30.0;
            let mantissa = 1.0 + random.below(1 << 22) as f32 / (1 << 22) as f32;
            let sign = if random.below(2) == 0 { 1.0 } else { -1.0 };
            numbers.push(sign * mantissa * exponent.exp2());
        }
        numbers
    }

    /// What a network that only casts to a type and back makes of these numbers, which it has as a weight.
    fn cast(numbers: &[f32], half: OnnxDataType) -> Vec<f64> {
        let count = i64::try_from(numbers.len()).unwrap();
        let to = |data_type: OnnxDataType| int("to", data_type as i64);
        let nodes = vec![
            node("Mul", &["x", "none"], &["gone"]),
            // Not folded while the network is loaded, since it depends on the input.
            node("Where", &["always", "numbers", "gone"], &["there"]),
            with_attribute(node("Cast", &["there"], &["half"]), to(half)),
            with_attribute(node("Cast", &["half"], &["y"]), to(OnnxDataType::Float)),
        ];
        let weights = vec![
            test_models::floats("numbers", &[1, count], numbers),
            test_models::floats("none", &[1], &[0.0]),
            test_models::weights("always", OnnxDataType::Bool, &[1], &[1]),
        ];
        let ends = |name| vec![value(name, OnnxDataType::Float, &[1, count])];
        let inputs = vec![0.0; numbers.len()];
        outputs(&test_models::model(graph(nodes, weights, ends("x"), ends("y"))), &inputs)
    }

    fn outputs(model: &Model, inputs: &[f32]) -> Vec<f64> {
        let slot = run_once(model, inputs);
        slot.outputs[0].elements::<f32>().iter().copied().map(f64::from).collect()
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_of_their_type() {
        let numbers = numbers();
        let fp16 = |number: f32| f16::from_f32(number).to_f32();
        for (number, got) in numbers.iter().zip(cast(&numbers, OnnxDataType::Float16)) {
            assert!(is_nearest(*number, fp16(*number), got), "fp16 of {number:e}: {got:e}");
        }
        let bf16 = |number: f32| bf16::from_f32(number).to_f32();
        let range = numbers.iter().filter(|number| number.abs() < 1e33 || !number.is_finite());
        let numbers: Vec<f32> = range.copied().collect();
        for (number, got) in numbers.iter().zip(cast(&numbers, OnnxDataType::Bfloat16)) {
            assert!(is_nearest(*number, bf16(*number), got), "bf16 of {number:e}: {got:e}");
        }
    }

    /// The same as the standard's, or as far away on the other side.
    fn is_nearest(number: f32, expected: f32, got: f64) -> bool {
        let (number, expected) = (f64::from(number), f64::from(expected));
        got == expected
            || (got.is_nan() && expected.is_nan())
            || (got - number).abs() == (expected - number).abs()
    }

    #[test]
    fn a_value_is_rounded_where_a_node_computes_it_and_not_where_it_is_handed_on() {
        let cast = |line, to: OnnxDataType| with_attribute(line, int("to", to as i64));
        let nodes = vec![
            cast(node("Cast", &["x"], &["h"]), OnnxDataType::Float16),
            node("Add", &["h", "w"], &["sum"]),
            node("Relu", &["sum"], &["r"]),
            cast(node("Cast", &["r"], &["y"]), OnnxDataType::Float),
        ];
        let weight = test_models::weights("w", OnnxDataType::Float16, &[1], &f16::ONE.to_le_bytes());
        let ends = |name| vec![value(name, OnnxDataType::Float, &[1, 1])];
        let model = test_models::model(graph(nodes, vec![weight], ends("x"), ends("y")));
        let rewritten = in_fp32(&model).unwrap();
        let reads = |name: &str| rewritten.graph().node.iter().filter(|it| it.input[0] == name).count();
        assert_eq!((reads("h/exact") > 0, reads("sum/exact") > 0, reads("r/exact")), (true, true, 0));
        assert_eq!(rewritten.graph().initializer[0].data_type(), OnnxDataType::Float as i32);
        // 1 + 2^-12 is no FP16: it becomes 1 at once.
        assert_eq!(outputs(&model, &[1.0 + 2_f32.powi(-12)]), [2.0]);
    }

    #[test]
    fn a_model_without_half_types_stays_as_it_is() {
        let model = test_models::dense();
        assert_eq!(in_fp32(&model).unwrap().proto(), model.proto());
    }
}
