//! The planned nodes, reading eight bits: new initializers, and a QuantizeLinear and a DequantizeLinear behind each
//! planned value.
//!
//! In: a model and a [`Plan`]. Out: its messages, rewritten. Values keep their names, so that subgraphs and readers in
//! FP32 are not touched.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use super::bias::Twin;
use super::plan::{Plan, PlannedBias, PlannedWeight};
use super::report::QuantizedWeights;
use super::weights::QuantizedWeight;
use super::{QuantizationSpec, WeightForm};
use crate::error::Result;
use crate::model::Model;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use crate::precision::CalibrationTable;
use crate::precision::onnx::{
    Names, float_tensor, floats, int_attribute, names_read_in, remove_unread, tensor,
};

/// The model with all that is planned, and what became of its weights.
pub(super) fn rewrite(
    model: &Model,
    plan: &Plan,
    table: &CalibrationTable,
    spec: &QuantizationSpec<'_>,
) -> Result<(ModelProto, QuantizedWeights)> {
    let mut rewriter = Rewriter::new(model, spec.weights);
    let mut proto = model.proto().clone();
    let Some(graph) = &mut proto.graph else { return Ok((proto, rewriter.report)) };
    let pairs = rewriter.pairs(plan, table);
    for planned in &plan.nodes {
        let node = &mut graph.node[planned.place];
        node.input[0].clone_from(&pairs[&planned.value].dequantized);
        node.input[1] = rewriter.weight(model, &planned.weight)?;
        let shift = spec.shifts.and_then(|shifts| shifts.get(node.output.first()?));
        if let (Some(shift), Some(bias)) = (shift, &planned.bias) {
            let name = rewriter.bias(model, bias, shift)?;
            let inputs = &mut graph.node[bias.place].input;
            inputs.resize(inputs.len().max(bias.index + 1), String::new());
            inputs[bias.index] = name;
        }
    }
    let pools = plan.pools.iter().map(|place| (*place, 0));
    for (place, index) in plan.residuals.iter().copied().chain(pools) {
        let input = &mut graph.node[place].input[index];
        *input = pairs[input.as_str()].dequantized.clone();
    }
    rewriter.assemble(graph, pairs);
    rewriter.remove_unread(graph, plan);
    Ok((proto, rewriter.report))
}

/// The model as it is, with a quantised twin beside each planned node that can have another bias, and their differences.
pub(super) fn with_twins(
    model: &Model,
    plan: &Plan,
    table: &CalibrationTable,
) -> Result<(ModelProto, Vec<Twin>)> {
    let mut rewriter = Rewriter::new(model, WeightForm::Int8);
    let mut proto = model.proto().clone();
    let Some(graph) = &mut proto.graph else { return Ok((proto, Vec::new())) };
    let pairs = rewriter.pairs(plan, table);
    let mut twins = Vec::new();
    let mut nodes_behind: HashMap<usize, Vec<NodeProto>> = HashMap::new();
    for planned in &plan.nodes {
        let node = &graph.node[planned.place];
        let (Some(bias), Some(output)) = (&planned.bias, node.output.first()) else { continue };
        let mut twin = node.clone();
        twin.input[0].clone_from(&pairs[&planned.value].dequantized);
        twin.input[1] = rewriter.weight(model, &planned.weight)?;
        twin.output = vec![rewriter.names.fresh(&format!("{output}_twin"))];
        twin.name = Some(rewriter.names.fresh(&format!("{output}_twin_node")));
        let difference = rewriter.names.fresh(&format!("{output}_error"));
        let subtraction = rewriter.node("Sub", &[&twin.output[0], output], &difference);
        let behind = nodes_behind.entry(planned.place).or_default();
        behind.extend([twin, subtraction]);
        // Channels come first where there is space behind them.
        let is_spatial = matches!(node.op_type(), "Conv" | "ConvTranspose");
        let error = if is_spatial {
            let mean = rewriter.names.fresh(&format!("{output}_mean_error"));
            behind.push(rewriter.node("GlobalAveragePool", &[&difference], &mean));
            mean
        } else {
            difference
        };
        twins.push(Twin { output: output.clone(), error, channels: bias.channels });
    }
    let nodes = std::mem::take(&mut graph.node).into_iter().enumerate();
    let with_twins = nodes.flat_map(|(place, node)| {
        std::iter::once(node).chain(nodes_behind.remove(&place).into_iter().flatten())
    });
    graph.node = with_twins.collect();
    rewriter.assemble(graph, pairs);
    Ok((proto, twins))
}

/// What stands behind one value.
struct Pair {
    dequantized: String,
    nodes: [NodeProto; 2],
}

struct Rewriter {
    names: Names,
    form: WeightForm,
    /// New ones.
    initializers: Vec<TensorProto>,
    /// New nodes for weights, by the value that is read of them.
    weight_nodes: HashMap<String, Vec<NodeProto>>,
    /// The zero point of all values, once there is one.
    zeros: Option<String>,
    /// What a quantised weight is read as, by its tensor and its channels' dimension.
    weights: HashMap<(String, Option<usize>), String>,
    report: QuantizedWeights,
}

impl Rewriter {
    fn new(model: &Model, form: WeightForm) -> Self {
        Self {
            names: Names::of(model),
            form,
            initializers: Vec::new(),
            weight_nodes: HashMap::new(),
            zeros: None,
            weights: HashMap::new(),
            report: QuantizedWeights::default(),
        }
    }

    /// A bias without this shift.
    fn bias(&mut self, model: &Model, bias: &PlannedBias, shift: &[f32]) -> Result<String> {
        let old = match &bias.tensor {
            Some(tensor) => floats(&model.tensor_data(tensor)?),
            None => vec![0.0; shift.len()],
        };
        let numbers: Vec<f32> = old.iter().zip(shift).map(|(number, shift)| number - shift).collect();
        let wish = bias.tensor.as_ref().map_or("bias", TensorProto::name);
        let channels = i64::try_from(numbers.len()).expect("bug: a list as long as no memory");
        self.report.corrected_biases += 1;
        Ok(self.floats(&format!("{wish}_corrected"), &[channels], &numbers))
    }

    fn pairs(&mut self, plan: &Plan, table: &CalibrationTable) -> BTreeMap<String, Pair> {
        let values = plan.values();
        let scaled = values.into_iter().filter_map(|name| table.scale(&name).map(|scale| (name, scale)));
        scaled.map(|(name, scale)| (name.clone(), self.pair(&name, scale))).collect()
    }

    fn pair(&mut self, value: &str, scale: f32) -> Pair {
        let scale_name = self.floats(&format!("{value}_scale"), &[], &[scale]);
        let zero = self.zero();
        let quantized = self.names.fresh(&format!("{value}_int8"));
        let dequantized = self.names.fresh(&format!("{value}_dequantized"));
        let quantize = self.node("QuantizeLinear", &[value, &scale_name, &zero], &quantized);
        let dequantize = self.node("DequantizeLinear", &[&quantized, &scale_name, &zero], &dequantized);
        Pair { dequantized, nodes: [quantize, dequantize] }
    }

    /// The value that a node reads instead of this weight. Nodes that agree on the channels share it.
    fn weight(&mut self, model: &Model, weight: &PlannedWeight) -> Result<String> {
        let key = (weight.tensor.name().to_owned(), weight.axis);
        if let Some(known) = self.weights.get(&key) {
            return Ok(known.clone());
        }
        let quantized = QuantizedWeight::of(model, weight)?;
        self.report.tensors += 1;
        self.report.elements += quantized.integers.len() as u64;
        self.report.relative_error = self.report.relative_error.max(quantized.relative_error);
        let name = weight.tensor.name();
        let channels = i64::try_from(quantized.scales.len()).expect("bug: a list as long as no memory");
        let scale_dims = if weight.axis.is_some() { vec![channels] } else { Vec::new() };
        let scale = self.floats(&format!("{name}_scale"), &scale_dims, &quantized.scales);
        let zero_bytes = vec![0; quantized.scales.len()];
        let zero = self.integers(&format!("{name}_zero"), scale_dims, zero_bytes.into());
        let mut nodes = Vec::new();
        let integers = match self.form {
            WeightForm::Int8 => {
                self.integers(&format!("{name}_int8"), weight.tensor.dims.clone(), quantized.integers)
            }
            WeightForm::Fp32 => {
                let output = self.names.fresh(&format!("{name}_int8"));
                let node = self.node("QuantizeLinear", &[&weight.name, &scale, &zero], &output);
                nodes.push(with_axis(node, weight.axis));
                output
            }
        };
        let dequantized = self.names.fresh(&format!("{name}_dequantized"));
        let node = self.node("DequantizeLinear", &[&integers, &scale, &zero], &dequantized);
        nodes.push(with_axis(node, weight.axis));
        self.weight_nodes.insert(dequantized.clone(), nodes);
        self.weights.insert(key, dequantized.clone());
        Ok(dequantized)
    }

    /// Puts the new nodes to where what they read is there, and before those who read them.
    fn assemble(&mut self, graph: &mut GraphProto, mut pairs: BTreeMap<String, Pair>) {
        graph.initializer.append(&mut self.initializers);
        let mut nodes = Vec::with_capacity(graph.node.len() + 2 * (pairs.len() + self.weights.len()));
        for input in &graph.input {
            nodes.extend(pairs.remove(input.name()).into_iter().flat_map(|pair| pair.nodes));
        }
        for node in std::mem::take(&mut graph.node) {
            for name in &node.input {
                nodes.extend(self.weight_nodes.remove(name).into_iter().flatten());
            }
            let made: Vec<_> = node.output.iter().filter_map(|name| pairs.remove(name)).collect();
            nodes.push(node);
            nodes.extend(made.into_iter().flat_map(|pair| pair.nodes));
        }
        graph.node = nodes;
    }

    /// Takes weights away that nobody reads in FP32 any more.
    fn remove_unread(&mut self, graph: &mut GraphProto, plan: &Plan) {
        let weights = plan.nodes.iter().map(|node| &node.weight.tensor);
        let biases = plan.nodes.iter().filter_map(|node| node.bias.as_ref()?.tensor.as_ref());
        let mut planned: HashSet<String> = weights.chain(biases).map(|it| it.name().to_owned()).collect();
        for node in graph.node.iter().filter(|node| node.op_type() == "Identity") {
            if node.input.first().is_some_and(|name| planned.contains(name)) {
                planned.extend(node.output.iter().cloned());
            }
        }
        remove_unread(graph, &planned);
        if self.form == WeightForm::Int8 {
            let read: HashSet<&str> = names_read_in(graph).into_iter().collect();
            let tensors: HashSet<&str> = plan.nodes.iter().map(|node| node.weight.tensor.name()).collect();
            self.report.doubled_tensors = tensors.into_iter().filter(|name| read.contains(name)).count();
        }
    }

    fn zero(&mut self) -> String {
        if let Some(zero) = &self.zeros {
            return zero.clone();
        }
        let zero = self.integers("zero_int8", Vec::new(), vec![0].into());
        self.zeros = Some(zero.clone());
        zero
    }

    fn floats(&mut self, wish: &str, dims: &[i64], numbers: &[f32]) -> String {
        let name = self.names.fresh(wish);
        self.initializers.push(float_tensor(name.clone(), dims.to_vec(), numbers.iter().copied()));
        name
    }

    fn integers(&mut self, wish: &str, dims: Vec<i64>, bytes: Bytes) -> String {
        let name = self.names.fresh(wish);
        self.initializers.push(tensor(name.clone(), OnnxDataType::Int8, dims, bytes));
        name
    }

    fn node(&mut self, operator: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            name: Some(self.names.fresh(&format!("{output}_{operator}"))),
            op_type: Some(operator.to_owned()),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }
}

/// Along which dimension each scale counts. Without channels nothing needs to be said.
fn with_axis(mut node: NodeProto, axis: Option<usize>) -> NodeProto {
    let number = |axis| i64::try_from(axis).expect("bug: more dimensions than bytes");
    node.attribute.extend(axis.map(|axis| int_attribute("axis", number(axis))));
    node
}
