//! Models to run and models that cannot be run.

use std::path::{Path, PathBuf};

use thalweg::model::proto::tensor_proto::DataLocation;
use thalweg::model::proto::tensor_shape_proto::dimension::Value as Size;
use thalweg::model::proto::type_proto::Value as Type;
use thalweg::model::proto::{ModelProto, StringStringEntryProto, ValueInfoProto};
use thalweg::model::zoo::Network;
use thalweg::model::{Model, proto::tensor_shape_proto::Dimension};

use crate::program::Scratch;

/// The real network that comes with the repository: one input `x` of `[?, 3, ?, ?]`.
pub fn classifier() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/ppocr_cls.onnx")
}

/// What the classifier needs on the command line.
pub const CLASSIFIER_SHAPE: &str = "--shape x=1x3x48x192";

/// A network of tiny operators: one input `input` of `[batch, 64]`.
pub fn launch(scratch: &Scratch) -> PathBuf {
    altered(scratch, "launch.onnx", |_| {})
}

/// The network of tiny operators after a change, written to a file.
pub fn altered(scratch: &Scratch, name: &str, change: impl FnOnce(&mut ModelProto)) -> PathBuf {
    let mut proto = Network::Launch.generate(0);
    change(&mut proto);
    let path = scratch.path(name);
    Model::from_proto(proto, &path).unwrap().write(&path).unwrap();
    path
}

/// Its first operator is one that nobody has.
pub fn with_unknown_operator(scratch: &Scratch) -> PathBuf {
    altered(scratch, "unknown-operator.onnx", |proto| {
        let node = &mut proto.graph.as_mut().unwrap().node[0];
        node.op_type = Some("Frobnicate".into());
        node.name = Some("first".into());
    })
}

/// Its first tensor of weights is in a file that does not exist.
pub fn with_missing_weights(scratch: &Scratch) -> PathBuf {
    altered(scratch, "missing-weights.onnx", |proto| {
        let tensor = &mut proto.graph.as_mut().unwrap().initializer[0];
        tensor.raw_data = None;
        tensor.float_data.clear();
        tensor.data_location = Some(DataLocation::External as i32);
        let location =
            StringStringEntryProto { key: Some("location".into()), value: Some("weights.bin".into()) };
        tensor.external_data = vec![location];
    })
}

/// Takes one sample, never more: its first dimension is fixed.
pub fn without_batch(scratch: &Scratch) -> PathBuf {
    altered(scratch, "without-batch.onnx", |proto| {
        let graph = proto.graph.as_mut().unwrap();
        for value in graph.input.iter_mut().chain(&mut graph.output) {
            first_dimension(value).value = Some(Size::DimValue(1));
        }
    })
}

/// Has a second input, `other`, like the first.
pub fn with_two_inputs(scratch: &Scratch) -> PathBuf {
    altered(scratch, "two-inputs.onnx", |proto| {
        let graph = proto.graph.as_mut().unwrap();
        let other = ValueInfoProto { name: Some("other".into()), ..graph.input[0].clone() };
        graph.input.push(other);
    })
}

fn first_dimension(value: &mut ValueInfoProto) -> &mut Dimension {
    let Some(Type::TensorType(tensor)) = value.r#type.as_mut().unwrap().value.as_mut() else {
        panic!("not a tensor");
    };
    &mut tensor.shape.as_mut().unwrap().dim[0]
}
