//! ONNX models: reading, shapes, cost, and well-known networks to try.

mod data_type;
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, reason = "generated")]
pub mod proto;
mod signature;
pub mod zoo;

use std::path::PathBuf;

pub use data_type::DataType;
pub use signature::{Signature, TensorSpec};

/// An ONNX model, read and checked.
#[derive(Clone, Debug)]
pub struct Model {
    path: PathBuf,
    proto: proto::ModelProto,
}
