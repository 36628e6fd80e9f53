//! ONNX models: reading, shapes, cost, and well-known networks to try.
//!
//! In: a file, bytes or messages. Out: a [`Model`] that is checked once and never changes, and what follows
//! from it: its [`Signature`], the [`Shapes`] of all its values, its [`Cost`]. Running it is left to
//! [`backend`](crate::backend).

mod attributes;
mod checks;
mod cost;
mod data_type;
mod format;
mod identity;
mod inspection;
mod large;
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, reason = "generated")]
pub mod proto;
mod resolve;
mod shapes;
mod signature;
#[cfg(test)]
pub(crate) mod sketch;
mod tensor_data;
mod tensor_info;
pub mod zoo;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::files::write_whole;

pub use cost::{Cost, NodeCost};
pub use data_type::DataType;
pub use identity::ModelIdentity;
pub(crate) use identity::as_text;
pub use inspection::{Batching, CostSummary, InspectedTensor, Inspection, OperatorSummary};
pub use shapes::{Shape, Shapes};
pub use signature::{Signature, TensorSpec};
pub use tensor_info::{Dimension, TensorInfo};

use tensor_data::ExternalFiles;

/// An ONNX model, read and checked. It never changes; clones share what was read.
#[derive(Clone)]
pub struct Model {
    path: PathBuf,
    name: String,
    /// The bytes it was decoded from; `None` where it was made from messages.
    source: Option<Bytes>,
    proto: Arc<proto::ModelProto>,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    external: Arc<ExternalFiles>,
    hash: Arc<OnceLock<String>>,
}

/// Without the weights, which may be gigabytes.
impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut model = f.debug_struct("Model");
        model.field("path", &self.path).field("inputs", &self.inputs).field("outputs", &self.outputs);
        model.finish_non_exhaustive()
    }
}

impl Model {
    /// Reads and checks a model file. Files of external data are read when they are first needed.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, otherwise as [`from_bytes`](Self::from_bytes).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        Self::from_bytes(bytes.into(), path)
    }

    /// Decodes and checks a model. `path` names it in messages and says in which folder its external data is.
    ///
    /// # Errors
    /// [`Error::NotOnnx`] where the bytes are something else, otherwise as [`from_proto`](Self::from_proto).
    pub fn from_bytes(bytes: Bytes, path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let proto = format::decode(&bytes).map_err(|reason| Error::NotOnnx { path: path.clone(), reason })?;
        let model = Self::from_proto(proto, path)?;
        Ok(Self { source: Some(bytes), ..model })
    }

    /// Checks a model that is already decoded. `path` as in [`from_bytes`](Self::from_bytes).
    ///
    /// # Errors
    /// [`Error::NotOnnx`] where it has no graph, [`Error::InvalidModel`] where the graph contradicts itself,
    /// [`Error::DataTypeMismatch`] where an input or output holds something else than numbers or booleans.
    pub fn from_proto(proto: proto::ModelProto, path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let Some(graph) = &proto.graph else {
            return Err(Error::NotOnnx { path, reason: "it has no graph".into() });
        };
        checks::check(graph)?;
        let inputs = tensor_info::inputs(graph)?;
        let outputs = tensor_info::outputs(graph)?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = stem.unwrap_or_else(|| graph.name().to_owned());
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let external = Arc::new(ExternalFiles::in_folder(folder));
        let proto = Arc::new(proto);
        Ok(Self { path, name, source: None, proto, inputs, outputs, external, hash: Arc::default() })
    }

    /// Where it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's name without its ending, or else the graph's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The decoded messages.
    pub fn proto(&self) -> &proto::ModelProto {
        &self.proto
    }

    /// The main graph.
    #[expect(clippy::missing_panics_doc, reason = "every way to make a model checks that it has a graph")]
    pub fn graph(&self) -> &proto::GraphProto {
        self.proto.graph.as_ref().expect("bug: `from_proto` refuses models without a graph")
    }

    /// The inputs that a caller must give: those of the graph that are no initializers.
    pub fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    /// The outputs, in the model's order.
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    /// Domain and version of each operator set it uses. ONNX's own domain is spelled out as `ai.onnx`.
    pub fn opsets(&self) -> Vec<(String, i64)> {
        let spelled = |domain: &str| if domain.is_empty() { "ai.onnx".into() } else { domain.to_owned() };
        self.proto.opset_import.iter().map(|set| (spelled(set.domain()), set.version())).collect()
    }

    /// SHA-256 in hexadecimal over the model's bytes and all its external data files. Computed once.
    ///
    /// # Errors
    /// [`Error::ExternalData`] where such a file cannot be read.
    pub fn content_hash(&self) -> Result<String> {
        if let Some(hash) = self.hash.get() {
            return Ok(hash.clone());
        }
        let mut digest = Sha256::new();
        digest.update(self.encode());
        for (location, bytes) in self.external.read_all(self.graph())? {
            // The length in between keeps bytes from moving from one file to the next unnoticed.
            digest.update(location.as_bytes());
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(&bytes);
        }
        let hex = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Ok(self.hash.get_or_init(|| hex).clone())
    }

    /// The elements of a tensor of this model, little-endian and row-major. Not copied where the model stores
    /// them as raw bytes, here or in an external file; a file is read once.
    ///
    /// # Errors
    /// [`Error::ExternalData`] where the file is missing, too short or outside the model's folder;
    /// [`Error::InvalidModel`] where the tensor has no bytes of its shape and type.
    pub fn tensor_data(&self, tensor: &proto::TensorProto) -> Result<Bytes> {
        self.external.tensor_data(tensor)
    }

    /// The model as an ONNX file's bytes: those it was read from, or newly encoded. External data stays
    /// where it is; see [`embedded`](Self::embedded).
    pub fn encode(&self) -> Bytes {
        self.source.clone().unwrap_or_else(|| self.proto.encode_to_vec().into())
    }

    /// Whether some tensors keep their data in other files.
    pub fn has_external_data(&self) -> bool {
        tensor_data::all_tensors(self.graph()).into_iter().any(tensor_data::is_external)
    }

    /// The same model with all external data inside, so that it can be moved.
    ///
    /// # Errors
    /// [`Error::ExternalData`] where such a file cannot be used.
    pub fn embedded(&self) -> Result<Self> {
        if !self.has_external_data() {
            return Ok(self.clone());
        }
        let mut proto = proto::ModelProto::clone(&self.proto);
        if let Some(graph) = &mut proto.graph {
            self.external.embed(graph)?;
        }
        Self::from_proto(proto, &self.path)
    }

    /// Writes the model, whole or not at all: into a temporary file beside `path` that is then renamed.
    /// External data is embedded where `path` is in another folder, since it would not be found from there. What is
    /// more than one file can hold, 2 GiB, goes into another one beside it, `path` with `.data` behind it.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be written, [`Error::ExternalData`] where one cannot be embedded.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let is_beside = path.parent() == self.path.parent();
        let model = if is_beside { self.clone() } else { self.embedded()? };
        if model.proto.encoded_len() > large::LARGEST_FILE {
            return large::write(&model, path);
        }
        write_whole(path, &model.encode())
    }

    /// What tells it from other models, run with these shapes.
    ///
    /// # Errors
    /// As [`content_hash`](Self::content_hash).
    pub fn identity(&self, input_shapes: &BTreeMap<String, Vec<usize>>) -> Result<ModelIdentity> {
        Ok(ModelIdentity {
            path: self.path.clone(),
            sha256: self.content_hash()?,
            input_shapes: input_shapes.clone(),
        })
    }

    /// The model's inputs and outputs with every dimension but the batch fixed. `input_shapes` holds whole
    /// shapes with the batch in front, for inputs whose open dimensions need a size; an open dimension with the
    /// same symbol in another input takes the same size. What is given as the batch does not matter.
    ///
    /// Tensors have a batch dimension where every input starts with an open dimension and every output grows
    /// with it, or where all start with the same fixed size above 1. An output whose shape cannot be inferred
    /// has the declared one with open dimensions of 1, or none: then a backend knows it after the first run.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`] and [`Error::ShapeMismatch`] where `input_shapes` does not fit the model,
    /// [`Error::OpenDimension`] where it leaves a dimension open that is no batch,
    /// [`Error::InvalidSetting`] where the model cannot run `max_batch_size` samples at once.
    pub fn signature(
        &self,
        input_shapes: &BTreeMap<String, Vec<usize>>,
        max_batch_size: usize,
    ) -> Result<Signature> {
        resolve::signature(self, input_shapes, max_batch_size)
    }

    /// Whether it is written in FP16 or BF16: weights are, whatever its inputs are.
    pub fn is_half(&self) -> bool {
        let is_half = |kind: i32| {
            [proto::tensor_proto::DataType::Float16, proto::tensor_proto::DataType::Bfloat16]
                .iter()
                .any(|half| *half as i32 == kind)
        };
        let graph = self.proto().graph.as_ref();
        graph.is_some_and(|graph| graph.initializer.iter().any(|weight| is_half(weight.data_type())))
    }

    /// The shape and type of every value of the graph. `input_shapes` holds whole shapes, batch included; an
    /// open first dimension of an input that is not named counts as 1.
    ///
    /// # Errors
    /// As [`signature`](Self::signature) for the inputs; [`Error::InvalidModel`] with the node where the shapes
    /// contradict each other. Unknown operators are no error: what they produce is unknown.
    pub fn infer_shapes(&self, input_shapes: &BTreeMap<String, Shape>) -> Result<Shapes> {
        resolve::infer_shapes(self, input_shapes)
    }

    /// The element types of a graph's values, as far as they follow without any shape. `graph` is the main graph, or
    /// one inside it, and `outer` has what is known around it.
    ///
    /// # Errors
    /// [`Error::InvalidModel`] where the graph contradicts itself.
    pub(crate) fn element_types(
        &self,
        graph: &proto::GraphProto,
        outer: &HashMap<String, DataType>,
    ) -> Result<HashMap<String, DataType>> {
        shapes::element_types_of(self, graph, outer)
    }

    /// What one execution at these shapes takes: FLOPs, weights and activations, per node and in total.
    pub fn cost(&self, shapes: &Shapes) -> Cost {
        cost::cost(self, shapes)
    }
}

#[cfg(test)]
mod tests;
