//! Files that are no model, and models that cannot be run.

use std::fs;
use std::path::Path;

use crate::models::{
    CLASSIFIER_SHAPE, classifier, launch, with_missing_weights, with_unknown_operator, without_batch,
};
use crate::program::{Scratch, run};

/// Each command that reads a model refuses it in the same words, and leaves no result.
fn refused_by_all(scratch: &Scratch, model: &Path, phrases: &[&str]) {
    let name = model.file_name().unwrap().to_str().unwrap();
    let phrases = [phrases, &[name]].concat();
    run("inspect {}", &[model]).refused(1, &phrases);
    run("bench {} --out {}", &[model, &scratch.path("bench")]).refused(1, &phrases);
    run("tune {} --out {}", &[model, &scratch.path("tune")]).refused(1, &phrases);
    for folder in ["bench", "tune"] {
        assert_eq!(scratch.names_in(folder), [".lock"]);
    }
}

#[test]
fn a_text_file_is_called_one() {
    let scratch = Scratch::new();
    let model = scratch.file("notes.onnx", "buy milk\n");
    refused_by_all(&scratch, &model, &["is not a readable ONNX model: it is a text file"]);
}

#[test]
fn an_empty_file_is_called_empty() {
    let scratch = Scratch::new();
    let model = scratch.file("empty.onnx", "");
    refused_by_all(&scratch, &model, &["is not a readable ONNX model: it is empty"]);
}

#[test]
fn an_archive_is_called_one_with_what_to_do() {
    let scratch = Scratch::new();
    let model = scratch.file("model.onnx", crate::arrays::npz(&[("x", vec![0; 100])]));
    refused_by_all(&scratch, &model, &["it is a zip archive", "export it to ONNX first"]);
}

#[test]
fn a_truncated_model_is_called_truncated() {
    let scratch = Scratch::new();
    let whole = fs::read(classifier()).unwrap();
    let model = scratch.file("half.onnx", &whole[..whole.len() / 2]);
    refused_by_all(&scratch, &model, &["is not a readable ONNX model", "it is truncated or damaged"]);
}

#[test]
fn random_bytes_are_called_something_else() {
    let scratch = Scratch::new();
    let bytes: Vec<u8> =
        (1..4096_u32).map(|index| index.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let model = scratch.file("noise.onnx", bytes);
    refused_by_all(&scratch, &model, &["is not a readable ONNX model", "damaged"]);
}

#[test]
fn a_missing_file_and_a_folder_are_named_with_what_the_system_says() {
    let scratch = Scratch::new();
    let missing = scratch.path("missing.onnx");
    refused_by_all(&scratch, &missing, &["cannot read", "No such file or directory"]);
    let folder = scratch.path("folder.onnx");
    fs::create_dir(&folder).unwrap();
    refused_by_all(&scratch, &folder, &["cannot read", "Is a directory"]);
}

#[test]
fn weights_in_a_missing_file_are_named_with_their_tensor() {
    let scratch = Scratch::new();
    let model = with_missing_weights(&scratch);
    let phrases = ["keeps its data in", "weights.bin", "cannot be used", "No such file"];
    run("bench {}", &[&model]).refused(1, &phrases);
    run("tune {} --out {}", &[&model, &scratch.path("out")]).refused(1, &phrases);
}

#[test]
fn an_unknown_operator_is_named_with_its_node() {
    let scratch = Scratch::new();
    let model = with_unknown_operator(&scratch);
    let phrases = ["the cpu backend cannot run operator `Frobnicate`", "node `first`"];
    run("bench {} --backend cpu", &[&model]).refused(1, &phrases);
    run("tune {} --backend cpu --out {}", &[&model, &scratch.path("out")]).refused(1, &phrases);
    // It can still be looked at.
    let said = run("inspect {}", &[&model]).succeeded();
    assert!(said.stdout.contains("Frobnicate"), "{said:#?}");
}

#[test]
fn shapes_that_do_not_fit_are_shown_beside_what_the_model_takes() {
    let model = classifier();
    for command in ["inspect", "bench", "tune --out {}"] {
        let scratch = Scratch::new();
        let out = scratch.path("out");
        let refused = |shape: &str, phrases: &[&str]| {
            let line = format!("{command} {{}} --shape {shape}");
            let paths: &[&Path] = if command.contains("{}") { &[&out, &model] } else { &[&model] };
            run(&line, paths).refused(2, phrases);
        };
        refused("x=1x3x48", &["shape of `x`", "expected [?, 3, ?, ?], got [1, 3, 48]"]);
        refused("x=1x4x48x192", &["shape of `x`", "expected [?, 3, ?, ?], got [1, 4, 48, 192]"]);
        refused("y=1x3x48x192", &["the model has no input `y`; it has `x`"]);
        refused("x=1x3xwide", &["`x=1x3xwide` is not of the form name=1x3x224x224"]);
        refused("x=1x0x48x192", &["`x=1x0x48x192` is not of the form"]);
        refused("1x3x48x192", &["`1x3x48x192` is not of the form"]);
    }
}

#[test]
fn an_open_dimension_is_asked_for_with_an_example() {
    let phrases = ["input `x` is [?, 3, ?, ?]", "for example --shape x=1x3x224x224"];
    run("bench {}", &[&classifier()]).refused(2, &phrases);
    let scratch = Scratch::new();
    run("tune {} --out {}", &[&classifier(), &scratch.path("out")]).refused(2, &phrases);
}

#[test]
fn a_batch_is_refused_where_the_model_has_no_batch_dimension() {
    let scratch = Scratch::new();
    let model = without_batch(&scratch);
    run("bench {} --batch 4", &[&model]).refused(2, &["batch 4: "]);
    run("tune {} --batch 1,4 --out {}", &[&model, &scratch.path("out")]).refused(2, &["batch 4: "]);
    run("bench {} --duration 0.5 --warm-up 0", &[&model]).succeeded();
}

#[test]
fn a_shape_that_no_memory_holds_is_refused() {
    let refused = |size: &str, phrases: &[&str]| {
        let line = format!("bench {{}} --shape x=1x3x{size}");
        run(&line, &[&classifier()]).refused(2, phrases);
    };
    refused("1000000x1000000", &["shape x=[3, 1000000, 1000000]: a single node", "the machine has"]);
    refused("4000000000x4000000000", &["shape of `x`: expected a tensor that fits in memory"]);
}

#[test]
fn a_batch_that_no_memory_holds_is_refused() {
    let scratch = Scratch::new();
    let line = format!("bench {{}} {CLASSIFIER_SHAPE} --batch 100000000");
    run(&line, &[&classifier()]).refused(2, &["batch 100000000: ", "the machine has"]);
    run("bench {} --depth 4000000000", &[&launch(&scratch)])
        .refused(2, &["depth 4000000000: ", "the machine has"]);
}
