//! A node together with what is known about its inputs: all that a rule needs.

use super::super::proto::{NodeProto, TensorProto};
use super::{MAX_RANK, Scope, Shape, Value};

/// Why a rule has no answer.
#[derive(Debug, PartialEq)]
pub enum Stop {
    /// Something that it depends on is unknown.
    Unknown,
    /// The node cannot run with these shapes. As a sentence whose subject is the node.
    Contradiction(String),
}

/// The shapes of a node's outputs, from the first on; outputs beyond them are unknown.
pub type Outputs = Result<Vec<Shape>, Stop>;

/// A node and its inputs.
pub struct Call<'a> {
    pub node: &'a NodeProto,
    /// Version of ONNX's own operator set.
    pub opset: i64,
    scope: &'a Scope<'a>,
}

impl<'a> Call<'a> {
    pub fn new(node: &'a NodeProto, scope: &'a Scope<'a>) -> Self {
        let sets = &scope.model.proto().opset_import;
        let own = sets.iter().find(|set| matches!(set.domain(), "" | "ai.onnx"));
        Self { node, opset: own.map_or(1, super::super::proto::OperatorSetIdProto::version), scope }
    }

    /// What is known about an input; nothing where it is left out.
    pub fn input(&self, index: usize) -> Option<&Value> {
        let name = self.node.input.get(index).filter(|name| !name.is_empty())?;
        self.scope.get(name)
    }

    /// Whether an optional input is given.
    pub fn has_input(&self, index: usize) -> bool {
        self.node.input.get(index).is_some_and(|name| !name.is_empty())
    }

    /// The shape of an input.
    pub fn shape(&self, index: usize) -> Result<&[usize], Stop> {
        let shape = self.input(index).and_then(|value| value.shape.as_deref());
        shape.filter(|shape| shape.len() <= MAX_RANK).ok_or(Stop::Unknown)
    }

    /// The shapes of all inputs that are given.
    pub fn shapes(&self) -> Result<Vec<&[usize]>, Stop> {
        (0..self.node.input.len()).filter(|index| self.has_input(*index)).map(|i| self.shape(i)).collect()
    }

    /// The elements of an input.
    pub fn elements(&self, index: usize) -> Result<&[f64], Stop> {
        self.input(index).and_then(|value| value.elements.as_deref()).ok_or(Stop::Unknown)
    }

    /// The elements of an input as integers.
    pub fn integers(&self, index: usize) -> Result<Vec<i64>, Stop> {
        Ok(self.elements(index)?.iter().copied().map(to_integer).collect())
    }

    /// A list that older operator sets give as an attribute and newer ones as an input. `None` where neither
    /// is there.
    pub fn list(&self, attribute: &str, input: usize) -> Result<Option<Vec<i64>>, Stop> {
        match self.node.ints(attribute) {
            Some(list) => Ok(Some(list.to_vec())),
            None if self.has_input(input) => self.integers(input).map(Some),
            None => Ok(None),
        }
    }

    /// An integer attribute, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.node.int(name).unwrap_or(default)
    }

    /// A flag, which ONNX writes as an integer.
    pub fn is_set(&self, name: &str) -> bool {
        self.int(name, 0) != 0
    }

    /// An axis attribute, counted from the start.
    pub fn axis(&self, name: &str, default: i64, rank: usize) -> Result<usize, Stop> {
        resolve_axis(self.int(name, default), rank)
    }

    /// The elements of a tensor in an attribute.
    pub fn constant(&self, tensor: &TensorProto) -> Value {
        super::constant(self.scope.model, tensor)
    }
}

/// An axis counted from the start; negative ones count from the end.
pub fn resolve_axis(axis: i64, rank: usize) -> Result<usize, Stop> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let from_start = if axis < 0 { axis.checked_add(signed) } else { Some(axis) };
    from_start
        .and_then(|axis| usize::try_from(axis).ok())
        .filter(|axis| *axis < rank)
        .ok_or_else(|| Stop::Contradiction(format!("has axis {axis}, its input has {rank} dimensions")))
}

/// A size that a rule calculated.
pub fn size(value: i64) -> Result<usize, Stop> {
    usize::try_from(value).map_err(|_| Stop::Contradiction(format!("would make a dimension of {value}")))
}

/// A size as a signed number, to calculate with.
pub fn signed(size: usize) -> Result<i64, Stop> {
    i64::try_from(size).map_err(|_| too_large())
}

/// A product of sizes.
pub fn product(sizes: &[usize]) -> Result<usize, Stop> {
    super::element_count(sizes).ok_or_else(too_large)
}

/// The contradiction of a size that does not fit 64 bits.
pub fn too_large() -> Stop {
    Stop::Contradiction("would make a tensor that is too large for any memory".into())
}

/// For `ok_or_else` and `Err`: a contradiction.
pub fn contradiction<T>(reason: String) -> Result<T, Stop> {
    Err(Stop::Contradiction(reason))
}

/// Rounds towards zero; saturates.
#[expect(clippy::cast_possible_truncation, reason = "saturates, and \"to the end\" is meant to")]
pub fn to_integer(value: f64) -> i64 {
    value as i64
}
