//! From bytes to ONNX messages, or to the reason why they are none.

use bytes::Bytes;
use prost::Message as _;

use super::proto::ModelProto;

/// What other files start with: offset of the mark, the mark, what it is.
const MARKS: &[(usize, &[u8], &str)] = &[
    (0, b"\x1f\x8b", "it is gzip-compressed: unpack it first"),
    (0, b"PK\x03\x04", "it is a zip archive, perhaps a PyTorch model: unpack or export it to ONNX first"),
    (0, b"ptrt", "it is a serialised TensorRT engine"),
    (0, b"ftrt", "it is a serialised TensorRT engine"),
    (0, b"GGUF", "it is a GGUF model"),
    (0, b"RTEN", "it is an RTen model"),
    (0, b"\x89HDF", "it is an HDF5 file, perhaps a Keras model"),
    (0, b"\x80\x02", "it is a Python pickle, perhaps a PyTorch model: export it to ONNX first"),
    (0, b"version https://git-lfs", "it is a Git LFS pointer: fetch the file with `git lfs pull`"),
    (4, b"TFL3", "it is a TensorFlow Lite model"),
    (4, b"ORTM", "it is an ONNX Runtime (.ort) model: use the .onnx file that it was made from"),
    (8, b"{\"", "it is a safetensors file: weights without a graph"),
];

/// Bytes that are looked at to tell text: a protobuf message has bytes outside ASCII in its first lines.
const TEXT_BYTES: usize = 256;

/// Decodes a model without copying its tensors. The error is the reason, for [`Error::NotOnnx`](crate::Error).
pub fn decode(bytes: &Bytes) -> Result<ModelProto, String> {
    if bytes.is_empty() {
        return Err("it is empty".into());
    }
    if let Some(reason) = other_format(bytes) {
        return Err(reason.into());
    }
    ModelProto::decode(bytes.clone()).map_err(|error| {
        let message = error.to_string();
        // prost has no kinds of errors; this is its word for a field that is longer than what is left.
        if is_text(bytes) {
            "it is a text file".to_owned()
        } else if message.contains("underflow") {
            format!("it is truncated or damaged ({message})")
        } else {
            format!("it is something else or damaged ({message})")
        }
    })
}

fn other_format(bytes: &[u8]) -> Option<&'static str> {
    let text = bytes.trim_ascii_start();
    if text.starts_with(b"<!DOCTYPE") || text.starts_with(b"<html") || text.starts_with(b"<!doctype") {
        return Some("it is an HTML page, perhaps the answer of a server in place of the file");
    }
    let found =
        MARKS.iter().find(|(at, mark, _)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(mark)));
    found.map(|(_, _, reason)| *reason)
}

/// Whether it starts like text. Only for what could not be decoded: a tiny model may look like text too.
fn is_text(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(TEXT_BYTES)];
    start.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(bytes: &'static [u8]) -> String {
        decode(&Bytes::from_static(bytes)).expect_err("not a model")
    }

    #[test]
    fn names_the_format_it_got_instead() {
        assert_eq!(reason(b""), "it is empty");
        assert!(reason(b"\x1f\x8b\x08\x00").contains("gzip"));
        assert!(reason(b"PK\x03\x04....").contains("zip"));
        assert!(reason(b"ptrt\x00\x00").contains("TensorRT"));
        assert_eq!(reason(b"hello\n"), "it is a text file");
        assert!(reason(b"\n <!DOCTYPE html><html>").contains("HTML"));
        assert!(reason(b"\x40\0\0\0\0\0\0\0{\"a\":{}}").contains("safetensors"));
    }

    #[test]
    fn a_model_that_ends_too_early_is_called_truncated() {
        let model = ModelProto { producer_name: Some("somebody".into()), ..Default::default() };
        let bytes = Bytes::from(model.encode_to_vec());
        let reason = decode(&bytes.slice(..bytes.len() - 3)).expect_err("cut off");
        assert!(reason.contains("truncated"), "{reason}");
    }
}
