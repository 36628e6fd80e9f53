//! The model as TensorRT's parser gets it: every dimension fixed that the engine has fixed.

use prost::Message as _;

use crate::error::Result;
use crate::model::proto::ValueInfoProto;
use crate::model::proto::tensor_shape_proto::Dimension;
use crate::model::proto::tensor_shape_proto::dimension::Value as Size;
use crate::model::proto::type_proto::Value as Type;
use crate::model::{Model, Signature, TensorSpec};

/// The symbol of every input's batch dimension: TensorRT takes dimensions of one name for equal, and these are.
const BATCH: &str = "batch";

/// The model as an ONNX file's bytes, with the shapes of `signature`. Weights in files of their own come along, so
/// that it does not matter where the model lies.
///
/// TensorRT would take open dimensions of the same name for equal, and exporters call them all `?`.
///
/// # Errors
/// [`Error::ExternalData`](crate::Error::ExternalData) where weights cannot be read.
pub(super) fn with_shapes(model: &Model, signature: &Signature) -> Result<Vec<u8>> {
    let mut proto = model.embedded()?.proto().clone();
    for value in proto.graph.iter_mut().flat_map(|graph| &mut graph.input) {
        if let Some(input) = signature.inputs.iter().find(|input| input.name == value.name()) {
            set_shape(value, input, signature);
        }
    }
    Ok(proto.encode_to_vec())
}

fn set_shape(value: &mut ValueInfoProto, input: &TensorSpec, signature: &Signature) {
    let Some(Type::TensorType(tensor)) = value.r#type.as_mut().and_then(|it| it.value.as_mut()) else {
        return;
    };
    let (least, most) = (*signature.batch_sizes.start(), *signature.batch_sizes.end());
    let sizes = input.shape_at(most).into_iter().enumerate();
    let dimension = |(index, size)| {
        let is_open = index == 0 && input.is_batched && least < most;
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let value = if is_open { Size::DimParam(BATCH.to_owned()) } else { Size::DimValue(size) };
        Dimension { value: Some(value), ..Dimension::default() }
    };
    tensor.shape.get_or_insert_default().dim = sizes.map(dimension).collect();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::Dimension;
    use crate::model::zoo::Network;

    fn first_input(max_batch_size: usize) -> Vec<Dimension> {
        let model = Model::from_proto(Network::Launch.generate(0), "launch.onnx").unwrap();
        let signature = model.signature(&BTreeMap::new(), max_batch_size).unwrap();
        let bytes = with_shapes(&model, &signature).unwrap();
        Model::from_bytes(bytes.into(), "launch.onnx").unwrap().inputs()[0].shape.clone()
    }

    #[test]
    fn only_a_batch_that_varies_stays_open() {
        assert_eq!(first_input(8), [Dimension::Open("batch".into()), Dimension::Fixed(64)]);
        assert_eq!(first_input(1), [Dimension::Fixed(1), Dimension::Fixed(64)]);
    }
}
