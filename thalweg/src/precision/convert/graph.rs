//! Rewriting graphs: nodes in half, weights converted, and casts where a value is read in the other form.
//!
//! In: a model and a [`ConversionSpec`]. Out: its main graph, rewritten, and a [`ConversionReport`]. Which nodes
//! become half is decided in [`node`](super::node). A graph is gone through once, front to back: each node says in
//! which form it makes its values, and notes in which form it wants what it reads. Then it is known which values
//! exist in one form and are read in the other. What a subgraph wants of the graph around it, that one provides.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::node::{Decision, Judge};
use super::operators;
use super::scope::{Form, Origin, Scope, Wants};
use super::{Boundary, ConversionReport, ConversionSpec, HalfType, KeepReason, KeptNode, WeightReport};
use crate::error::Result;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::type_proto::Value as Type;
use crate::model::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use crate::model::{DataType, Model};
use crate::precision::onnx::{self, constant, floats, int_attribute};

/// What came of rewriting.
pub(super) struct Rewritten {
    pub graph: GraphProto,
    pub report: ConversionReport,
    /// Nodes that compute in half.
    pub half_nodes: Vec<String>,
    /// What DequantizeLinear gives in half to nodes that stay in FP32: a cast would come between the two.
    pub torn: HashSet<String>,
}

/// Rewrites the graphs of one model.
pub(super) struct Rewriter<'a> {
    model: &'a Model,
    judge: Judge<'a>,
    names: Names,
    report: ConversionReport,
    /// Weights that are too large for half, to count each once.
    clipped: BTreeSet<String>,
    half_nodes: Vec<String>,
    torn: HashSet<String>,
}

impl<'a> Rewriter<'a> {
    /// Nothing is rewritten yet.
    pub fn new(model: &'a Model, judge: Judge<'a>) -> Self {
        let Judge { spec, opset, .. } = judge;
        let report = ConversionReport {
            precision: spec.half,
            opset_before: opset,
            opset,
            not_raised: None,
            half_nodes: 0,
            unmeasured_nodes: 0,
            folded_nodes: 0,
            not_folded: Vec::new(),
            other_nodes: 0,
            moving_nodes: 0,
            kept: Vec::new(),
            cast_count: 0,
            weights: WeightReport::default(),
            bytes_before: 0,
            bytes_after: 0,
            ranges: spec.ranges.map(|ranges| ranges.source().clone()),
        };
        let names = Names::of(model, spec);
        Self {
            model,
            judge,
            names,
            report,
            clipped: BTreeSet::new(),
            half_nodes: Vec::new(),
            torn: HashSet::new(),
        }
    }

    /// The main graph, rewritten.
    pub fn main_graph(mut self) -> Result<Rewritten> {
        let (graph, _) = self.graph(self.model.graph(), None)?;
        Ok(Rewritten { graph, report: self.report, half_nodes: self.half_nodes, torn: self.torn })
    }

    fn half(&self) -> HalfType {
        self.judge.spec.half
    }

    /// A graph, rewritten, and what it wants of those around it.
    fn graph(&mut self, graph: &GraphProto, outer: Option<&Scope<'_>>) -> Result<(GraphProto, Wants)> {
        let mut scope = Scope::new(self.model, graph, self.half(), outer)?;
        let is_half_boundary = outer.is_none() && self.judge.spec.boundary == Boundary::Half;
        let boundary = if is_half_boundary { Form::Half } else { Form::Full };
        for input in &graph.input {
            if scope.own_origin(input.name()) != Some(Origin::Weight) {
                scope.define(input.name(), boundary);
            }
        }
        let mut wants = Wants::new();
        let mut nodes = Vec::with_capacity(graph.node.len());
        for (place, node) in graph.node.iter().enumerate() {
            let decision = self.judge.decide(node, place, &scope);
            nodes.push(self.node(node, &decision, &mut scope, &mut wants)?);
            self.count(node, decision, &scope);
        }
        let outputs = graph.output.iter().map(ValueInfoProto::name);
        wants.extend(outputs.filter(|name| scope.origin(name).is_some()).map(|it| (it.to_owned(), boundary)));
        let (own, of_outer) = wants.into_iter().partition(|(name, _)| scope.own_origin(name).is_some());
        let assembly = Assembly { scope: &scope, wants: own, boundary };
        Ok((self.assemble(graph, nodes, &assembly)?, of_outer))
    }

    /// One node, with the names of the forms that it reads and makes.
    fn node(
        &mut self,
        node: &NodeProto,
        decision: &Decision,
        scope: &mut Scope<'_>,
        wants: &mut Wants,
    ) -> Result<NodeProto> {
        let mut rewritten = node.clone();
        for attribute in &mut rewritten.attribute {
            for subgraph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                let (graph, wanted) = self.graph(subgraph, Some(scope))?;
                *subgraph = graph;
                wants.extend(wanted);
            }
        }
        for (index, name) in rewritten.input.iter_mut().enumerate() {
            let form = match scope.origin(name) {
                None => continue,
                Some(Origin::Made(form)) if *decision == Decision::Any => form,
                _ if *decision == Decision::Half && operators::is_half_input(node.op_type(), index) => {
                    Form::Half
                }
                _ => Form::Full,
            };
            let is_kept = matches!(decision, Decision::Keep(_)) && form == Form::Full;
            if is_kept && scope.is_dequantized(name) && scope.origin(name) == Some(Origin::Made(Form::Half)) {
                self.torn.insert(name.clone());
            }
            wants.insert((name.clone(), form));
            *name = self.names.of_form(name, form);
        }
        if constant(node).is_some() {
            // A weight: it is there in both forms already.
            return Ok(rewritten);
        }
        for (index, name) in rewritten.output.iter_mut().enumerate() {
            let is_half = *decision == Decision::Half && operators::is_half_output(node.op_type(), index);
            let form = if is_half { Form::Half } else { Form::Full };
            scope.define(name, form);
            if node.op_type() == "DequantizeLinear" {
                scope.dequantized.insert(name.clone());
            }
            if scope.own_origin(name).is_some() {
                *name = self.names.of_form(name, form);
            }
        }
        Ok(rewritten)
    }

    fn count(&mut self, node: &NodeProto, decision: Decision, scope: &Scope<'_>) {
        let report = &mut self.report;
        match decision {
            Decision::Half => {
                report.half_nodes += 1;
                report.unmeasured_nodes += usize::from(report.ranges.is_some() && scope.is_inner());
                self.half_nodes.push(node.label());
            }
            Decision::Moves => report.moving_nodes += 1,
            Decision::Any | Decision::Other => report.other_nodes += 1,
            Decision::Keep(reason) => {
                if let KeepReason::WeightOverflow { tensor, .. } = &reason
                    && self.clipped.insert(tensor.clone())
                {
                    report.weights.clipped += scope.weight(tensor).map_or(0, |weight| weight.loss.clipped);
                }
                report.kept.push(KeptNode {
                    node: node.label(),
                    operator: node.op_type().to_owned(),
                    reason,
                });
            }
        }
    }

    /// The graph of its rewritten nodes, with casts, weights and declared types.
    fn assemble(
        &mut self,
        graph: &GraphProto,
        nodes: Vec<NodeProto>,
        assembly: &Assembly<'_>,
    ) -> Result<GraphProto> {
        let mut assembled = GraphProto {
            name: graph.name.clone(),
            doc_string: graph.doc_string.clone(),
            sparse_initializer: graph.sparse_initializer.clone(),
            quantization_annotation: graph.quantization_annotation.clone(),
            metadata_props: graph.metadata_props.clone(),
            initializer: self.weights(graph, assembly)?,
            ..GraphProto::default()
        };
        for input in &graph.input {
            assembled.node.extend(self.cast(input.name(), assembly));
        }
        for (node, original) in nodes.into_iter().zip(&graph.node) {
            let is_gone = constant(original).is_some_and(|tensor| !assembly.has(tensor.name(), Form::Full));
            assembled.node.extend((!is_gone).then_some(node));
            for name in &original.output {
                assembled.node.extend(self.cast(name, assembly));
            }
        }
        let inputs = graph.input.iter().filter(|input| !assembly.is_converted_weight(input.name()));
        assembled.input = inputs.map(|input| self.declared(input, assembly.boundary)).collect();
        assembled.output = graph.output.iter().map(|it| self.declared(it, assembly.boundary)).collect();
        for value in &graph.value_info {
            assembled.value_info.extend(self.value_info(value, assembly));
        }
        Ok(assembled)
    }

    /// The weights in the forms that are read.
    fn weights(&mut self, graph: &GraphProto, assembly: &Assembly<'_>) -> Result<Vec<TensorProto>> {
        let mut tensors = Vec::with_capacity(graph.initializer.len());
        for tensor in &graph.initializer {
            if assembly.scope.own_origin(tensor.name()) != Some(Origin::Weight) {
                tensors.push(tensor.clone());
            } else if assembly.has(tensor.name(), Form::Full) {
                let name = self.names.of_form(tensor.name(), Form::Full);
                tensors.push(TensorProto { name: Some(name), ..tensor.clone() });
            }
        }
        for (name, form) in &assembly.wants {
            if *form == Form::Half && assembly.scope.own_origin(name) == Some(Origin::Weight) {
                tensors.extend(self.half_weight(name, assembly)?);
            }
        }
        Ok(tensors)
    }

    fn half_weight(&mut self, name: &str, assembly: &Assembly<'_>) -> Result<Option<TensorProto>> {
        let Some(weight) = assembly.scope.weight(name) else { return Ok(None) };
        let values = floats(&self.model.tensor_data(&weight.tensor)?);
        let report = &mut self.report.weights;
        report.tensors += 1;
        report.elements += weight.loss.elements;
        report.subnormal += weight.loss.subnormal;
        report.flushed_to_zero += weight.loss.flushed;
        report.doubled_tensors += usize::from(assembly.has(name, Form::Full));
        Ok(Some(TensorProto {
            name: Some(self.names.of_form(name, Form::Half)),
            dims: weight.tensor.dims.clone(),
            data_type: Some(self.half().onnx()),
            raw_data: Some(self.half().encode(&values)),
            doc_string: weight.tensor.doc_string.clone(),
            ..TensorProto::default()
        }))
    }

    /// The cast of a value that is read in the form in which it is not made.
    fn cast(&mut self, name: &str, assembly: &Assembly<'_>) -> Option<NodeProto> {
        let Some(Origin::Made(native)) = assembly.scope.own_origin(name) else { return None };
        let (other, onnx) = match native {
            Form::Full => (Form::Half, self.half().onnx()),
            Form::Half => (Form::Full, OnnxDataType::Float as i32),
        };
        if !assembly.wants.contains(&(name.to_owned(), other)) {
            return None;
        }
        self.report.cast_count += 1;
        let output = self.names.of_form(name, other);
        Some(NodeProto {
            name: Some(self.names.all.fresh(&format!("{output}_cast"))),
            op_type: Some("Cast".to_owned()),
            input: vec![self.names.of_form(name, native)],
            output: vec![output],
            attribute: vec![int_attribute("to", onnx.into())],
            ..NodeProto::default()
        })
    }

    /// What is declared about a value, once for each form in which it exists.
    fn value_info(&mut self, value: &ValueInfoProto, assembly: &Assembly<'_>) -> Vec<ValueInfoProto> {
        if assembly.scope.own_origin(value.name()).is_none() {
            return vec![value.clone()];
        }
        let forms = [Form::Full, Form::Half].into_iter().filter(|form| assembly.has(value.name(), *form));
        forms
            .map(|form| {
                let declared = self.declared(value, form);
                ValueInfoProto { name: Some(self.names.of_form(value.name(), form)), ..declared }
            })
            .collect()
    }

    /// The same declaration with the element type of a form. It keeps its name: that of an input or output is fixed.
    fn declared(&self, value: &ValueInfoProto, form: Form) -> ValueInfoProto {
        let mut value = value.clone();
        if let Some(Type::TensorType(tensor)) = value.r#type.as_mut().and_then(|it| it.value.as_mut())
            && form == Form::Half
            && DataType::from_onnx(tensor.elem_type()) == Some(DataType::F32)
        {
            tensor.elem_type = Some(self.half().onnx());
        }
        value
    }
}

/// What is known of a graph once all its nodes were seen.
struct Assembly<'a> {
    scope: &'a Scope<'a>,
    /// Of the graph's own values.
    wants: Wants,
    /// The form of inputs and outputs.
    boundary: Form,
}

impl Assembly<'_> {
    /// Whether a value exists in a form. A weight that nobody reads stays as it is.
    fn has(&self, name: &str, form: Form) -> bool {
        let is_wanted = |form| self.wants.contains(&(name.to_owned(), form));
        match self.scope.own_origin(name) {
            Some(Origin::Made(native)) => native == form || is_wanted(form),
            Some(Origin::Weight) if form == Form::Full => is_wanted(Form::Full) || !is_wanted(Form::Half),
            _ => is_wanted(form),
        }
    }

    fn is_converted_weight(&self, name: &str) -> bool {
        self.scope.own_origin(name) == Some(Origin::Weight) && !self.has(name, Form::Full)
    }
}

/// Names for the two forms of a value. The one that callers or the original know keeps its name.
struct Names {
    all: onnx::Names,
    /// The name of the other form, by the name of the value.
    other: HashMap<String, String>,
    /// Values whose own name is that of the half form.
    half_keeps_name: HashSet<String>,
    half: HalfType,
}

impl Names {
    fn of(model: &Model, spec: &ConversionSpec<'_>) -> Self {
        let mut half_keeps_name = HashSet::new();
        if spec.boundary == Boundary::Half {
            let ends = model.inputs().iter().chain(model.outputs());
            let full = ends.filter(|end| end.data_type == DataType::F32);
            half_keeps_name.extend(full.map(|end| end.name.clone()));
        }
        Self { all: onnx::Names::of(model), other: HashMap::new(), half_keeps_name, half: spec.half }
    }

    fn of_form(&mut self, name: &str, form: Form) -> String {
        let keeps_name = if self.half_keeps_name.contains(name) { Form::Half } else { Form::Full };
        if form == keeps_name {
            return name.to_owned();
        }
        if let Some(other) = self.other.get(name) {
            return other.clone();
        }
        let suffix = if form == Form::Half { self.half.to_string() } else { "fp32".to_owned() };
        let other = self.all.fresh(&format!("{name}_{suffix}"));
        self.other.insert(name.to_owned(), other.clone());
        other
    }
}
