//! Models that one ONNX file cannot hold.
//!
//! In: a model with all its data inside, however large. Out: two files, the model and its tensors beside it, as ONNX's
//! page on external data has them (<https://onnx.ai/onnx/repo-docs/ExternalData.html>).

use std::path::Path;

use bytes::Bytes;
use prost::Message as _;

use super::Model;
use super::proto::tensor_proto::DataLocation;
use super::proto::{StringStringEntryProto, TensorProto};
use super::tensor_data::{all_tensors_mut, byte_count};
use crate::error::{Error, Result};
use crate::files::{write_pieces, write_whole};

/// Protocol Buffers' largest message, in bytes (<https://protobuf.dev/programming-guides/proto-limits/>).
pub(super) const LARGEST_FILE: usize = i32::MAX as usize;

/// Smaller tensors stay in the model, as ONNX's own tools have it: shapes and scales are read without the other file.
const LEAST_BYTES: usize = 1024;

/// Where tensors begin in the other file, so that it can be mapped to memory: the page named above asks for it.
const ALIGNMENT: usize = 4096;

/// Zeros to align with.
static PADDING: [u8; ALIGNMENT] = [0; ALIGNMENT];

/// Writes a model and, beside it under the same name with `.data` behind it, its tensors.
///
/// # Errors
/// [`Error::Io`] where a file cannot be written, [`Error::InvalidModel`] for a tensor without the bytes of its shape.
pub(super) fn write(model: &Model, path: &Path) -> Result<()> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Err(Error::io("write", path)(std::io::ErrorKind::InvalidFilename.into()));
    };
    let location = format!("{name}.data");
    let mut proto = model.proto().clone();
    let (mut pieces, mut offset) = (Vec::<Bytes>::new(), 0);
    for tensor in proto.graph.iter_mut().flat_map(all_tensors_mut) {
        // Strings have no size of their own and stay.
        if !byte_count(tensor).is_ok_and(|count| count >= LEAST_BYTES) {
            continue;
        }
        let bytes = model.tensor_data(tensor)?;
        refer(tensor, &location, (offset, bytes.len()));
        let padding = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
        offset += bytes.len() + padding;
        pieces.extend([bytes, Bytes::from_static(&PADDING[..padding])]);
    }
    // The model last: whoever finds it finds its data too.
    write_pieces(&path.with_file_name(&location), pieces.iter().map(|piece| &piece[..]))?;
    write_whole(path, &proto.encode_to_vec())
}

fn refer(tensor: &mut TensorProto, location: &str, (offset, length): (usize, usize)) {
    let entry =
        |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
    let described = TensorProto {
        name: tensor.name.take(),
        dims: std::mem::take(&mut tensor.dims),
        data_type: tensor.data_type,
        doc_string: tensor.doc_string.take(),
        metadata_props: std::mem::take(&mut tensor.metadata_props),
        data_location: Some(DataLocation::External.into()),
        external_data: vec![
            entry("location", location.to_owned()),
            entry("offset", offset.to_string()),
            entry("length", length.to_string()),
        ],
        ..TensorProto::default()
    };
    *tensor = described;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sketch::Sketch;

    #[test]
    fn tensors_go_beside_the_model_and_come_back_the_same() {
        let mut sketch = Sketch::new().input("x", "1,32").output("y").weights("small", &[32]);
        sketch = sketch.weights("large", &[32, 32]).weights("larger", &[64, 32]);
        for (place, number) in sketch.graph.initializer[1].float_data.iter_mut().enumerate() {
            *number = place as f32;
        }
        let sketch = sketch.node("a = MatMul(x, large)", &[]).node("y = Add(a, small)", &[]);
        let model = sketch.model();
        let folder = std::env::temp_dir().join(format!("thalweg-large-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("model.onnx");
        write(&model, &path).unwrap();
        assert_eq!(std::fs::metadata(folder.join("model.onnx.data")).unwrap().len(), 4096 + 8192);
        let again = Model::read(&path).unwrap();
        let is_outside: Vec<_> =
            again.graph().initializer.iter().map(|tensor| !tensor.external_data.is_empty()).collect();
        assert_eq!(is_outside, [false, true, true]);
        for (before, after) in model.graph().initializer.iter().zip(&again.graph().initializer) {
            assert_eq!((before.name(), &before.dims), (after.name(), &after.dims));
            assert_eq!(model.tensor_data(before).unwrap(), again.tensor_data(after).unwrap());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
