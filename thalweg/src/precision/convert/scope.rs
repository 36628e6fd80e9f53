//! What a graph's values are while it is rewritten: their types, and the form in which each exists.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::onnx::{constant, floats};
use super::half_type::{HalfType, Loss};
use crate::error::Result;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::model::proto::{GraphProto, TensorProto};
use crate::model::{DataType, Model};

/// A value as `f32` or as half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Form {
    Full,
    Half,
}

/// Where an FP32 value of the original comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A node or an input gives it in this form; the other one takes a cast.
    Made(Form),
    /// It is a weight: both forms are free.
    Weight,
}

/// Values in the form in which somebody reads them.
pub(super) type Wants = BTreeSet<(String, Form)>;

/// The values of one graph. Subgraphs see those of the graphs around them.
pub(super) struct Scope<'a> {
    outer: Option<&'a Scope<'a>>,
    types: HashMap<String, DataType>,
    origins: HashMap<String, Origin>,
    weights: HashMap<String, Weight>,
    /// Values that DequantizeLinear gives.
    pub dequantized: HashSet<String>,
    /// Nodes, by their place, that calculate sizes.
    pub sizes: HashSet<usize>,
}

/// An FP32 initializer or `Constant`.
pub(super) struct Weight {
    pub tensor: TensorProto,
    pub loss: Loss,
}

impl<'a> Scope<'a> {
    /// The graph's inputs and weights are there; what nodes make is added by [`define`](Self::define).
    pub fn new(
        model: &Model,
        graph: &GraphProto,
        half: HalfType,
        outer: Option<&'a Scope<'a>>,
    ) -> Result<Self> {
        let around = outer.map(Scope::all_types).unwrap_or_default();
        let mut scope = Self {
            outer,
            types: model.element_types(graph, &around)?,
            origins: HashMap::new(),
            weights: HashMap::new(),
            dequantized: HashSet::new(),
            sizes: super::sizes::nodes(graph),
        };
        for input in &graph.input {
            scope.define(input.name(), Form::Full);
        }
        let initializers = graph.initializer.iter().cloned();
        for tensor in initializers.chain(graph.node.iter().filter_map(constant)) {
            scope.add_weight(model, tensor, half)?;
        }
        Ok(scope)
    }

    fn add_weight(&mut self, model: &Model, tensor: TensorProto, half: HalfType) -> Result<()> {
        if tensor.data_type() == OnnxDataType::Float as i32 {
            let loss = half.loss(&floats(&model.tensor_data(&tensor)?));
            self.origins.insert(tensor.name().to_owned(), Origin::Weight);
            self.weights.insert(tensor.name().to_owned(), Weight { tensor, loss });
        }
        Ok(())
    }

    fn all_types(&self) -> HashMap<String, DataType> {
        let mut types = self.outer.map(Scope::all_types).unwrap_or_default();
        types.extend(self.types.iter().map(|(name, data_type)| (name.clone(), *data_type)));
        types
    }

    /// An FP32 value exists in this form from now on. Values of other types are ignored.
    pub fn define(&mut self, name: &str, form: Form) {
        if self.types.get(name) == Some(&DataType::F32) {
            self.origins.insert(name.to_owned(), Origin::Made(form));
        }
    }

    /// The type of a value of the original; `None` where it follows from nothing.
    pub fn data_type(&self, name: &str) -> Option<DataType> {
        self.types.get(name).copied().or_else(|| self.outer?.data_type(name))
    }

    /// Where an FP32 value comes from; `None` for all others.
    pub fn origin(&self, name: &str) -> Option<Origin> {
        match self.origins.get(name) {
            Some(origin) => Some(*origin),
            // A value of this graph hides nothing: names are unique in a graph and those around it.
            None => self.outer?.origin(name),
        }
    }

    /// Where an FP32 value of this very graph comes from.
    pub fn own_origin(&self, name: &str) -> Option<Origin> {
        self.origins.get(name).copied()
    }

    /// An FP32 weight of this graph or one around it.
    pub fn weight(&self, name: &str) -> Option<&Weight> {
        self.weights.get(name).or_else(|| self.outer?.weight(name))
    }

    /// Whether the graph is inside another one.
    pub fn is_inner(&self) -> bool {
        self.outer.is_some()
    }

    /// Whether DequantizeLinear gives a value.
    pub fn is_dequantized(&self, name: &str) -> bool {
        self.dequantized.contains(name) || self.outer.is_some_and(|outer| outer.is_dequantized(name))
    }
}
