//! Which nodes of a model are quantised, and which values for that. Nothing is changed here.
//!
//! In: a model, what the user wants, and a table where there is one already. Out: a [`Plan`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Ends, QuantizationSpec, SkipReason, SkippedNode};
use crate::error::Result;
use crate::model::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use crate::model::{DataType, Model};
use crate::precision::CalibrationTable;
use crate::precision::onnx::{constant, fixed, floats, is_own, names_read, names_read_in, subgraphs};
use crate::precision::selection::Unselected;

/// Operators with eight-bit kernels worth having: the weighted ones.
const WEIGHTED: [&str; 4] = ["Conv", "ConvTranspose", "Gemm", "MatMul"];

/// Which input of a weighted node its bias is.
const BIAS: usize = 2;

/// Operators that hand on what they read, for the question where a value comes from.
const MOVING: [&str; 7] = ["Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Dropout"];

/// Activations that become part of the kernel in front of them.
const FUSED_ACTIVATIONS: [&str; 2] = ["Relu", "Clip"];

/// What is quantised.
pub(super) struct Plan {
    /// Weighted nodes, by their place in the main graph.
    pub nodes: Vec<PlannedNode>,
    /// Additions one of whose inputs is quantised: the node's place and the input's index.
    pub residuals: Vec<(usize, usize)>,
    /// Pooling nodes whose input is quantised, by their place.
    pub pools: Vec<usize>,
    /// Weighted nodes that stay in FP32.
    pub skipped: Vec<SkippedNode>,
    /// All others.
    pub other_nodes: usize,
    /// The inputs of `residuals` and `pools`.
    joined_values: BTreeSet<String>,
}

/// A node that will read eight bits.
pub(super) struct PlannedNode {
    /// Its place in the main graph.
    pub place: usize,
    /// The value that it reads.
    pub value: String,
    /// What it multiplies with.
    pub weight: PlannedWeight,
    /// Where a mean error can be taken back; `None` where there is no such place.
    pub bias: Option<PlannedBias>,
}

/// A bias that can be another one.
#[derive(Clone)]
pub(super) struct PlannedBias {
    /// The node that adds it: the weighted one, or an addition right behind it.
    pub place: usize,
    /// The input of that node.
    pub index: usize,
    /// Its numbers; `None` where there is none so far.
    pub tensor: Option<TensorProto>,
    /// How many channels it has.
    pub channels: usize,
}

/// A weight that will be eight bits.
#[derive(Clone)]
pub(super) struct PlannedWeight {
    /// The name by which the node reads it.
    pub name: String,
    /// Its numbers, under the name that they have as an initializer or constant.
    pub tensor: TensorProto,
    /// The dimension of its channels, each of which has its own scale; `None` for one scale.
    pub axis: Option<usize>,
}

impl Plan {
    /// The plan for a model. Without a table every value counts as known.
    pub fn of(model: &Model, spec: &QuantizationSpec<'_>, table: Option<&CalibrationTable>) -> Result<Self> {
        let survey = Survey::of(model)?;
        let mut plan = Self {
            nodes: Vec::new(),
            residuals: Vec::new(),
            pools: Vec::new(),
            skipped: Vec::new(),
            other_nodes: 0,
            joined_values: BTreeSet::new(),
        };
        for (place, node) in model.graph().node.iter().enumerate() {
            plan.skip_inner(node);
            if !is_weighted(node) {
                plan.other_nodes += 1;
                continue;
            }
            match survey.judge(node, spec).and_then(|weight| survey.check_range(node, weight, table)) {
                Ok(weight) => {
                    let bias = survey.bias(node, place, &weight);
                    plan.nodes.push(PlannedNode { place, value: node.input[0].clone(), weight, bias });
                }
                Err(reason) => plan.skipped.push(skipped(node, reason)),
            }
        }
        plan.find_residuals(&survey, spec, table);
        plan.find_pools(&survey, spec, table);
        Ok(plan)
    }

    /// The values to quantise, each once.
    pub fn values(&self) -> Vec<String> {
        let read = self.nodes.iter().map(|node| node.value.clone());
        read.chain(self.joined_values.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The planned nodes by operator.
    pub fn operator_counts(&self, model: &Model) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for planned in &self.nodes {
            *counts.entry(model.graph().node[planned.place].op_type().to_owned()).or_default() += 1;
        }
        counts
    }

    fn skip_inner(&mut self, node: &NodeProto) {
        for inner in subgraphs(node).flat_map(|graph| &graph.node) {
            self.skip_inner(inner);
            if is_weighted(inner) {
                self.skipped.push(skipped(inner, SkipReason::Subgraph));
            } else {
                self.other_nodes += 1;
            }
        }
    }

    /// Additions of what a quantised convolution makes and something else: that something is quantised, since TensorRT
    /// makes one kernel of the convolution and the addition if the other operand has eight bits.
    fn find_residuals(
        &mut self,
        survey: &Survey<'_>,
        spec: &QuantizationSpec<'_>,
        table: Option<&CalibrationTable>,
    ) {
        // Places of quantised nodes, and how many numbers each multiplies with.
        let quantized: HashMap<usize, i64> =
            self.nodes.iter().map(|node| (node.place, node.weight.tensor.dims.iter().product())).collect();
        for (place, node) in survey.graph.node.iter().enumerate() {
            let [left, right] = &node.input[..] else { continue };
            if node.op_type() != "Add" || !is_own(node) || left == right || is_kept(node, spec) {
                continue;
            }
            let fused = [left, right].map(|name| survey.convolution_behind(name, &quantized));
            let other = match fused {
                [None, None] => continue,
                [Some(_), None] => 1,
                [None, Some(_)] => 0,
                // A kernel with an addition is a slower one, so the smaller of two convolutions takes it along, whose
                // outputs are as large; of two alike the later one. TensorRT with a calibrator does the same.
                [Some(left), Some(right)] => {
                    let rank = |place| (Reverse(quantized[&place]), place);
                    usize::from(rank(left) > rank(right))
                }
            };
            let value = &node.input[other];
            if survey.is_activation(value) && is_known(table, value) {
                self.residuals.push((place, other));
                self.joined_values.insert(value.clone());
            }
        }
    }

    /// Averages of what a residual addition makes: a kernel with an addition gives what its other operand is, eight
    /// bits, so that a reader in floating-point would tear the addition off it.
    fn find_pools(
        &mut self,
        survey: &Survey<'_>,
        spec: &QuantizationSpec<'_>,
        table: Option<&CalibrationTable>,
    ) {
        let additions: HashSet<usize> = self.residuals.iter().map(|(place, _)| *place).collect();
        for (place, node) in survey.graph.node.iter().enumerate() {
            let is_average = matches!(node.op_type(), "AveragePool" | "GlobalAveragePool") && is_own(node);
            let is_wanted = is_average && !is_kept(node, spec);
            let Some(value) = node.input.first().filter(|_| is_wanted) else { continue };
            let addition = survey.before_activation(value);
            if addition.is_some_and(|addition| additions.contains(&addition)) && is_known(table, value) {
                self.pools.push(place);
                self.joined_values.insert(value.clone());
            }
        }
    }
}

/// Whether a node that joins quantised ones was asked to stay in FP32. A list of what alone is quantised is about
/// weighted nodes: what joins them goes with them.
fn is_kept(node: &NodeProto, spec: &QuantizationSpec<'_>) -> bool {
    spec.selection.refusal(node) == Some(Unselected::Kept)
}

/// Whether a value has a scale. Without a table every one has.
fn is_known(table: Option<&CalibrationTable>, value: &str) -> bool {
    table.is_none_or(|table| table.scale(value).is_some())
}

fn skipped(node: &NodeProto, reason: SkipReason) -> SkippedNode {
    SkippedNode { node: node.label(), operator: node.op_type().to_owned(), reason }
}

fn is_weighted(node: &NodeProto) -> bool {
    is_own(node) && WEIGHTED.contains(&node.op_type())
}

/// What is known of the main graph.
struct Survey<'a> {
    model: &'a Model,
    graph: &'a GraphProto,
    types: HashMap<String, DataType>,
    /// FP32 initializers and constants, also by the names that `Identity` gives them.
    weights: HashMap<&'a str, TensorProto>,
    /// Values that follow from initializers and constants alone.
    fixed: HashSet<&'a str>,
    /// The place of the node that makes a value.
    makers: HashMap<&'a str, usize>,
    /// How many nodes, subgraphs and outputs read a value.
    readers: HashMap<&'a str, usize>,
    /// Values with a weighted node before them, and with one behind them.
    has_before: HashSet<&'a str>,
    has_behind: HashSet<&'a str>,
}

impl<'a> Survey<'a> {
    fn of(model: &'a Model) -> Result<Self> {
        let graph = model.graph();
        let types = model.element_types(graph, &HashMap::new())?;
        let makers = |(place, node): (usize, &'a NodeProto)| {
            node.output.iter().map(move |name| (name.as_str(), place))
        };
        Ok(Self {
            model,
            graph,
            types,
            weights: weights(graph),
            fixed: fixed(graph),
            makers: graph.node.iter().enumerate().flat_map(makers).collect(),
            readers: readers(graph),
            has_before: with_weighted_before(graph),
            has_behind: with_weighted_behind(graph),
        })
    }

    /// The weight of a node that can be quantised, or why it cannot.
    fn judge(&self, node: &NodeProto, spec: &QuantizationSpec<'_>) -> Result<PlannedWeight, SkipReason> {
        match spec.selection.refusal(node) {
            Some(Unselected::Kept) => return Err(SkipReason::Asked),
            Some(Unselected::NotListed) => return Err(SkipReason::NotListed),
            None => {}
        }
        if spec.too_sensitive.contains(&node.label()) {
            return Err(SkipReason::TooSensitive);
        }
        let [value, name, ..] = &node.input[..] else { return Err(SkipReason::NoWeight) };
        if [value, name].iter().any(|name| self.comes_from(name, "DequantizeLinear")) {
            return Err(SkipReason::Quantized);
        }
        if self.types.get(value) != Some(&DataType::F32) {
            return Err(SkipReason::NotFp32);
        }
        if self.comes_from(value, "Softmax") {
            return Err(SkipReason::Softmax);
        }
        let Some(tensor) = self.weights.get(name.as_str()).filter(|_| self.is_activation(value)) else {
            return Err(SkipReason::NoWeight);
        };
        self.check_ends(node, spec)?;
        self.check_finite(tensor)?;
        Ok(PlannedWeight { name: name.clone(), tensor: tensor.clone(), axis: channel_axis(node, tensor) })
    }

    fn check_ends(&self, node: &NodeProto, spec: &QuantizationSpec<'_>) -> Result<(), SkipReason> {
        if spec.ends == Ends::Quantize {
            return Ok(());
        }
        if !self.has_before.contains(node.input[0].as_str()) {
            return Err(SkipReason::First);
        }
        let has_behind = node.output.iter().any(|name| self.has_behind.contains(name.as_str()));
        if has_behind { Ok(()) } else { Err(SkipReason::Last) }
    }

    fn check_finite(&self, tensor: &TensorProto) -> Result<(), SkipReason> {
        let numbers = self.model.tensor_data(tensor).map(|bytes| floats(&bytes));
        let is_finite = numbers.is_ok_and(|numbers| numbers.iter().all(|number| number.is_finite()));
        let tensor = tensor.name().to_owned();
        if is_finite { Ok(()) } else { Err(SkipReason::WeightNotFinite { tensor }) }
    }

    /// The bias of a node: its own, also where it has none so far, or what an addition right behind it adds.
    fn bias(&self, node: &NodeProto, place: usize, weight: &PlannedWeight) -> Option<PlannedBias> {
        let channels = channel_count(node, &weight.tensor)?;
        let of = |place: usize, index: usize, name: &str| {
            let tensor = self.weights.get(name)?;
            let count = tensor.dims.iter().product::<i64>();
            let is_for_channels = usize::try_from(count) == Ok(channels) && tensor.dims.len() == 1;
            is_for_channels.then(|| PlannedBias { place, index, tensor: Some(tensor.clone()), channels })
        };
        if node.op_type() == "MatMul" {
            let output = node.output.first()?;
            let mut readers = self.graph.node.iter().enumerate();
            let (place, addition) = readers.find(|(_, other)| other.input.contains(output))?;
            let is_alone = self.readers.get(output.as_str()) == Some(&1);
            let index = addition.input.iter().position(|name| name != output)?;
            let is_sum = addition.op_type() == "Add" && is_own(addition) && addition.input.len() == 2;
            return if is_alone && is_sum { of(place, index, &addition.input[index]) } else { None };
        }
        match node.input.get(BIAS).filter(|name| !name.is_empty()) {
            Some(name) => of(place, BIAS, name),
            None => Some(PlannedBias { place, index: BIAS, tensor: None, channels }),
        }
    }

    fn check_range(
        &self,
        node: &NodeProto,
        weight: PlannedWeight,
        table: Option<&CalibrationTable>,
    ) -> Result<PlannedWeight, SkipReason> {
        let value = &node.input[0];
        if is_known(table, value) { Ok(weight) } else { Err(SkipReason::NoRange { value: value.clone() }) }
    }

    /// Whether a value is made while the network runs.
    fn is_activation(&self, name: &str) -> bool {
        self.types.get(name) == Some(&DataType::F32) && !self.fixed.contains(name)
    }

    /// Whether a value is what this operator gives, moved perhaps.
    fn comes_from(&self, name: &str, operator: &str) -> bool {
        let mut name = name;
        while let Some(place) = self.makers.get(name) {
            let maker = &self.graph.node[*place];
            if maker.op_type() == operator {
                return true;
            }
            match maker.input.first() {
                Some(input) if MOVING.contains(&maker.op_type()) => name = input,
                _ => return false,
            }
        }
        false
    }

    /// The quantised convolution that makes a value, with nothing behind it but what becomes part of its kernel and
    /// nobody else who reads what is in between.
    fn convolution_behind(&self, name: &str, quantized: &HashMap<usize, i64>) -> Option<usize> {
        let mut name = name;
        loop {
            let place = *self.makers.get(name)?;
            let node = &self.graph.node[place];
            if self.readers.get(name) != Some(&1) {
                return None;
            }
            match node.op_type() {
                "Conv" => return quantized.contains_key(&place).then_some(place),
                "BatchNormalization" => name = node.input.first()?,
                "Add" | "Mul" => name = self.scaled(node)?,
                _ => return None,
            }
        }
    }

    /// The place of the node that makes a value, before its activation if it has one.
    fn before_activation(&self, name: &str) -> Option<usize> {
        let place = *self.makers.get(name)?;
        let node = &self.graph.node[place];
        let is_activation = is_own(node) && FUSED_ACTIVATIONS.contains(&node.op_type());
        if is_activation { self.makers.get(node.input.first()?.as_str()).copied() } else { Some(place) }
    }

    /// What a node adds a weight to, or multiplies with one.
    fn scaled<'b>(&self, node: &'b NodeProto) -> Option<&'b str> {
        let [left, right] = &node.input[..] else { return None };
        match (self.is_activation(left), self.is_activation(right)) {
            (true, false) => Some(left),
            (false, true) => Some(right),
            _ => None,
        }
    }
}

/// How many channels a weighted node makes; `None` where that is not plain to see, or a bias would be scaled.
fn channel_count(node: &NodeProto, weight: &TensorProto) -> Option<usize> {
    let attribute = |name: &str| node.attribute.iter().find(|it| it.name() == name);
    let integer = |name: &str, otherwise: i64| attribute(name).map_or(otherwise, AttributeProto::i);
    let count = match (node.op_type(), &weight.dims[..]) {
        ("Conv", [count, ..]) => *count,
        ("ConvTranspose", [_, count, ..]) => count.checked_mul(integer("group", 1))?,
        ("Gemm", [rows, columns]) if attribute("beta").is_none_or(|beta| beta.f() == 1.0) => {
            if integer("transB", 0) == 0 { *columns } else { *rows }
        }
        ("MatMul", [_, count]) => *count,
        _ => return None,
    };
    usize::try_from(count).ok().filter(|count| *count > 0)
}

/// The dimension along which a weight's channels are: those of the result, so that a scale can be taken out of the sum.
fn channel_axis(node: &NodeProto, tensor: &TensorProto) -> Option<usize> {
    let rank = tensor.dims.len();
    let axis = match node.op_type() {
        "Conv" => 0,
        // With groups the second dimension is the channels of one group.
        "ConvTranspose" if node.int("group").unwrap_or(1) == 1 => 1,
        "Gemm" => usize::from(node.int("transB").unwrap_or(0) == 0),
        "MatMul" if rank == 2 => 1,
        _ => return None,
    };
    (axis < rank).then_some(axis)
}

/// FP32 initializers and constants, also under other names.
fn weights(graph: &GraphProto) -> HashMap<&str, TensorProto> {
    let is_full = |tensor: &&TensorProto| DataType::from_onnx(tensor.data_type()) == Some(DataType::F32);
    let initializers = graph.initializer.iter().filter(is_full);
    let mut weights: HashMap<&str, TensorProto> =
        initializers.map(|tensor| (tensor.name(), tensor.clone())).collect();
    for node in &graph.node {
        let Some(output) = node.output.first() else { continue };
        if let Some(tensor) = constant(node) {
            weights.insert(output, tensor);
        }
        if node.op_type() == "Identity"
            && let Some(tensor) = node.input.first().and_then(|input| weights.get(input.as_str()))
        {
            weights.insert(output, tensor.clone());
        }
    }
    weights
}

fn readers(graph: &GraphProto) -> HashMap<&str, usize> {
    let mut readers = HashMap::new();
    for name in names_read_in(graph) {
        *readers.entry(name).or_default() += 1;
    }
    readers
}

fn with_weighted_before(graph: &GraphProto) -> HashSet<&str> {
    let mut found = HashSet::new();
    for node in &graph.node {
        if is_weighted(node) || names_read(node).any(|name| found.contains(name)) {
            found.extend(node.output.iter().map(String::as_str));
        }
    }
    found
}

fn with_weighted_behind(graph: &GraphProto) -> HashSet<&str> {
    let mut found: HashSet<&str> = HashSet::new();
    for node in graph.node.iter().rev() {
        if is_weighted(node) || node.output.iter().any(|name| found.contains(name.as_str())) {
            found.extend(names_read(node));
        }
    }
    found
}
