//! The bytes of a tensor, wherever the model keeps them: as raw bytes, in typed fields, or in another file.
//!
//! Sizes in a model file are claims of a stranger: every product is checked and nothing is allocated before
//! the bytes are known to be there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::proto::tensor_proto::{DataLocation, DataType as OnnxDataType};
use super::proto::{AttributeProto, GraphProto, TensorProto};
use crate::error::{Error, Result};

/// The files beside a model that hold its tensors. Each is read once, when it is first needed.
pub struct ExternalFiles {
    folder: PathBuf,
    /// Contended only where several threads build engines from one model at the same time.
    files: Mutex<BTreeMap<String, Bytes>>,
}

impl ExternalFiles {
    /// Nothing is read yet.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder, files: Mutex::default() }
    }

    /// See [`Model::tensor_data`](super::Model::tensor_data).
    pub fn tensor_data(&self, tensor: &TensorProto) -> Result<Bytes> {
        let expected = byte_count(tensor)?;
        if is_external(tensor) {
            return self.external_data(tensor, expected);
        }
        check_size(tensor, expected)?;
        Ok(match &tensor.raw_data {
            Some(raw) if !raw.is_empty() => raw.clone(),
            _ => typed_data(tensor).into(),
        })
    }

    /// Every external file of a graph by its location, in order of the locations.
    pub fn read_all(&self, graph: &GraphProto) -> Result<BTreeMap<String, Bytes>> {
        let external = all_tensors(graph).into_iter().filter(|tensor| is_external(tensor));
        let read = |tensor| {
            let location = entry(tensor, "location").unwrap_or_default();
            Ok((location.to_owned(), self.file(tensor, location)?))
        };
        external.map(read).collect()
    }

    /// Replaces every reference to a file by the bytes.
    pub fn embed(&self, graph: &mut GraphProto) -> Result<()> {
        for tensor in all_tensors_mut(graph) {
            if is_external(tensor) {
                tensor.raw_data = Some(self.tensor_data(tensor)?);
                tensor.external_data.clear();
                tensor.data_location = None;
            }
        }
        Ok(())
    }

    fn external_data(&self, tensor: &TensorProto, expected: usize) -> Result<Bytes> {
        let location = entry(tensor, "location").unwrap_or_default();
        let file = self.file(tensor, location)?;
        let offset = number(tensor, "offset")?.unwrap_or(0);
        let length = number(tensor, "length")?.unwrap_or(expected);
        if length != expected {
            let reason = format!("its shape and type take {expected} bytes, but {length} are declared");
            return Err(self.unusable(tensor, location, reason));
        }
        let end = offset.checked_add(length).filter(|end| *end <= file.len()).ok_or_else(|| {
            let reason = format!("it has {} bytes, needed are {length} from {offset} on", file.len());
            self.unusable(tensor, location, reason)
        })?;
        Ok(file.slice(offset..end))
    }

    fn file(&self, tensor: &TensorProto, location: &str) -> Result<Bytes> {
        let is_inside = Path::new(location)
            .components()
            .all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !is_inside {
            let reason = "a model's data must be in the model's folder or below it".to_owned();
            return Err(self.unusable(tensor, location, reason));
        }
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = files.get(location) {
            return Ok(bytes.clone());
        }
        let read = fs::read(self.folder.join(location));
        let bytes = Bytes::from(read.map_err(|error| self.unusable(tensor, location, error.to_string()))?);
        files.insert(location.to_owned(), bytes.clone());
        Ok(bytes)
    }

    fn unusable(&self, tensor: &TensorProto, location: &str, reason: String) -> Error {
        Error::ExternalData { tensor: tensor.name().to_owned(), path: self.folder.join(location), reason }
    }
}

/// Whether the bytes are in another file.
pub fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location() == DataLocation::External
}

/// Every tensor of a graph and its subgraphs: initializers and attributes.
pub fn all_tensors(graph: &GraphProto) -> Vec<&TensorProto> {
    let mut tensors: Vec<_> = graph.initializer.iter().collect();
    for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
        tensors.extend(attribute.t.iter().chain(&attribute.tensors));
        for subgraph in attribute.g.iter().chain(&attribute.graphs) {
            tensors.extend(all_tensors(subgraph));
        }
    }
    tensors
}

/// The same, to be changed.
pub fn all_tensors_mut(graph: &mut GraphProto) -> Vec<&mut TensorProto> {
    let mut tensors: Vec<_> = graph.initializer.iter_mut().collect();
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        let AttributeProto { t, tensors: list, g, graphs, .. } = attribute;
        tensors.extend(t.iter_mut().chain(list));
        for subgraph in g.iter_mut().chain(graphs) {
            tensors.extend(all_tensors_mut(subgraph));
        }
    }
    tensors
}

/// Number of elements that a tensor declares.
pub fn element_count(tensor: &TensorProto) -> Result<usize> {
    let mut sizes = tensor.dims.iter().map(|dim| usize::try_from(*dim).ok());
    let count = sizes.try_fold(1usize, |product, size| product.checked_mul(size?));
    count.ok_or_else(|| invalid(tensor, &format!("has an impossible shape {:?}", tensor.dims)))
}

/// Bytes that a tensor's elements take; 4-bit elements are packed in pairs.
pub fn byte_count(tensor: &TensorProto) -> Result<usize> {
    let count = element_count(tensor)?;
    let bits = bits_per_element(tensor)
        .ok_or_else(|| invalid(tensor, &format!("has elements of unknown type {}", tensor.data_type())))?;
    let total = count.checked_mul(bits).map(|total| total.div_ceil(8));
    total.ok_or_else(|| invalid(tensor, &format!("has an impossible shape {:?}", tensor.dims)))
}

/// Whether a tensor that is not external has as many bytes as its shape and type take.
pub fn check_size(tensor: &TensorProto, expected: usize) -> Result<()> {
    let found = match &tensor.raw_data {
        Some(raw) if !raw.is_empty() => raw.len(),
        _ => typed_byte_count(tensor),
    };
    if found == expected {
        return Ok(());
    }
    let reason = format!("has shape {:?}, which takes {expected} bytes, but {found} are there", tensor.dims);
    Err(invalid(tensor, &reason))
}

/// `None` for strings, which have no fixed size, and for types that we do not know.
fn bits_per_element(tensor: &TensorProto) -> Option<usize> {
    use OnnxDataType as Type;
    Some(match Type::try_from(tensor.data_type()).ok()? {
        Type::Uint2 | Type::Int2 => 2,
        Type::Uint4 | Type::Int4 | Type::Float4e2m1 => 4,
        Type::Uint8 | Type::Int8 | Type::Bool => 8,
        // Floats of six bits are not packed: each takes a byte.
        Type::Float6e2m3
        | Type::Float6e3m2
        | Type::Float8e4m3fn
        | Type::Float8e4m3fnuz
        | Type::Float8e5m2
        | Type::Float8e5m2fnuz
        | Type::Float8e8m0 => 8,
        Type::Float16 | Type::Bfloat16 | Type::Uint16 | Type::Int16 => 16,
        Type::Float | Type::Int32 | Type::Uint32 => 32,
        Type::Double | Type::Int64 | Type::Uint64 | Type::Complex64 => 64,
        Type::Complex128 => 128,
        Type::Undefined | Type::String => return None,
    })
}

/// Bytes of one entry of `int32_data`, which ONNX uses for all types up to 32 bits; entries of types below a
/// byte hold one packed byte each.
fn int32_entry_bytes(tensor: &TensorProto) -> usize {
    bits_per_element(tensor).map_or(4, |bits| bits.div_ceil(8)).min(4)
}

fn uint64_entry_bytes(tensor: &TensorProto) -> usize {
    if tensor.data_type() == OnnxDataType::Uint32 as i32 { 4 } else { 8 }
}

fn typed_byte_count(tensor: &TensorProto) -> usize {
    tensor.float_data.len() * 4
        + tensor.double_data.len() * 8
        + tensor.int64_data.len() * 8
        + tensor.int32_data.len() * int32_entry_bytes(tensor)
        + tensor.uint64_data.len() * uint64_entry_bytes(tensor)
}

/// A tensor fills at most one of the typed fields, so joining them all is the one that is filled.
fn typed_data(tensor: &TensorProto) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(typed_byte_count(tensor));
    bytes.extend(tensor.float_data.iter().flat_map(|value| value.to_le_bytes()));
    bytes.extend(tensor.double_data.iter().flat_map(|value| value.to_le_bytes()));
    bytes.extend(tensor.int64_data.iter().flat_map(|value| value.to_le_bytes()));
    let width = int32_entry_bytes(tensor);
    bytes.extend(tensor.int32_data.iter().flat_map(|value| value.to_le_bytes().into_iter().take(width)));
    let width = uint64_entry_bytes(tensor);
    bytes.extend(tensor.uint64_data.iter().flat_map(|value| value.to_le_bytes().into_iter().take(width)));
    bytes
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    tensor
        .external_data
        .iter()
        .find(|entry| entry.key() == key)
        .map(super::proto::StringStringEntryProto::value)
}

fn number(tensor: &TensorProto, key: &str) -> Result<Option<usize>> {
    let parse = |text: &str| {
        let bad = || invalid(tensor, &format!("has external data with {key} `{text}`, which is no number"));
        text.parse().map_err(|_| bad())
    };
    entry(tensor, key).map(parse).transpose()
}

fn invalid(tensor: &TensorProto, reason: &str) -> Error {
    Error::InvalidModel { reason: format!("tensor `{}` {reason}", tensor.name()) }
}

#[cfg(test)]
mod tests;
