//! Arbitrary bytes as an ONNX model: whatever they are, reading them ends, and ends without a panic.
//!
//! Needs a nightly compiler and `cargo install cargo-fuzz`. To run it for ten minutes, from the root:
//!
//! ```sh
//! scripts/fetch-models.py && fuzz/seed-corpus.py
//! cargo +nightly fuzz run -s none onnx -- -max_len=200000 -rss_limit_mb=4096 -timeout=20 -max_total_time=600
//! ```
//!
//! `-s none` leaves out the address sanitizer: all code that runs here is safe Rust but for a few dependencies,
//! and it makes compiling several times as long.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use thalweg::model::{Dimension, Inspection, Model};

/// Given for each open dimension: enough for the strides and windows of common image networks.
const OPEN_SIZE: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(model) = Model::from_bytes(bytes.to_vec().into(), "fuzz.onnx") {
        ask_everything(&model);
        assert_survives_encoding(&model);
    }
});

/// Everything that can be asked of a model without running it. Errors are fine, panics are not.
fn ask_everything(model: &Model) {
    let open = open_shapes(model);
    for (shapes, batch_size) in [(BTreeMap::new(), 1), (open.clone(), 1), (open, 2)] {
        let _ = Inspection::of(model, &shapes, batch_size);
        let Ok(signature) = model.signature(&shapes, batch_size) else { continue };
        if let Ok(shapes) = model.infer_shapes(&signature.input_shapes(batch_size)) {
            let _ = model.cost(&shapes);
        }
        for tensor in signature.inputs.iter().chain(&signature.outputs) {
            let _ = tensor.byte_count() * batch_size;
        }
    }
    for tensor in &model.graph().initializer {
        let _ = model.tensor_data(tensor);
    }
    let _ = model.opsets();
    let _ = model.has_external_data();
}

/// Shapes of all inputs with open dimensions.
fn open_shapes(model: &Model) -> BTreeMap<String, Vec<usize>> {
    let size = |dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => *size,
        Dimension::Open(_) => OPEN_SIZE,
    };
    let shapes =
        model.inputs().iter().map(|input| (input.name.clone(), input.shape.iter().map(size).collect()));
    shapes.collect()
}

/// A model that was accepted has the same inputs and outputs after writing and reading it.
fn assert_survives_encoding(model: &Model) {
    let copy = Model::from_proto(model.proto().clone(), "fuzz.onnx").expect("it was accepted before");
    let again = Model::from_bytes(copy.encode(), "fuzz.onnx").expect("it was accepted before");
    assert_eq!(again.inputs(), model.inputs());
    assert_eq!(again.outputs(), model.outputs());
}
