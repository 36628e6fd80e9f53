//! NumPy files that do not fit the model.

use std::path::Path;

use crate::arrays::{npy, npz};
use crate::models::{launch, with_two_inputs};
use crate::program::{Said, Scratch, run};

fn bench(model: &Path, input: &Path) -> Said {
    run("bench {} --duration 0.5 --warm-up 0 --input {}", &[model, input])
}

#[test]
fn arrays_that_fit_are_taken() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    bench(&model, &scratch.file("x.npy", npy("<f4", &[3, 64]))).succeeded();
    bench(&model, &scratch.file("x.npz", npz(&[("input", npy("<f4", &[3, 64]))]))).succeeded();
}

#[test]
fn another_type_or_shape_is_shown_beside_what_the_model_takes() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let refused = |descr: &str, shape: &[usize], phrases: &[&str]| {
        bench(&model, &scratch.file("x.npy", npy(descr, shape))).refused(2, phrases);
    };
    refused("<f8", &[3, 64], &["data type of `input`: expected f32, got '<f8' in", "x.npy", "astype"]);
    refused("<i4", &[3, 64], &["data type of `input`: expected f32, got '<i4'"]);
    refused("<f4", &[3, 65], &["shape of `input`: expected [64]", "got [3, 65] in", "x.npy"]);
    refused("<f4", &[3, 2, 64], &["shape of `input`", "got [3, 2, 64]"]);
    refused("<f4", &[0, 64], &["shape of `input`", "got [0, 64]"]);
}

#[test]
fn a_wrong_name_and_a_missing_array_are_named() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let array = || npy("<f4", &[3, 64]);
    bench(&model, &scratch.file("x.npz", npz(&[("images", array())])))
        .refused(2, &["the model has no input `images`; it has `input`"]);
    bench(&model, &scratch.file("x.npz", npz(&[]))).refused(2, &["x.npz: it has no array for input `input`"]);

    let model = with_two_inputs(&scratch);
    bench(&model, &scratch.file("x.npz", npz(&[("input", array())])))
        .refused(2, &["x.npz: it has no array for input `other`"]);
    bench(&model, &scratch.file("x.npy", array()))
        .refused(2, &["the model has the inputs `input`, `other`: give an .npz file with one array each"]);
    let uneven = npz(&[("input", array()), ("other", npy("<f4", &[2, 64]))]);
    bench(&model, &scratch.file("x.npz", uneven))
        .refused(2, &["shape of `other`: expected 3 samples, as of `input`, got 2 samples"]);
}

#[test]
fn files_that_are_no_arrays_or_cut_off_are_named_with_the_reason() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let refused = |name: &str, bytes: &[u8], phrases: &[&str]| {
        let phrases = [phrases, &["cannot read", name]].concat();
        bench(&model, &scratch.file(name, bytes)).refused(1, &phrases);
    };
    refused("text.npy", b"buy milk\n", &["magic not found"]);
    refused("text.npz", b"buy milk\n", &["invalid Zip archive"]);
    let array = npy("<f4", &[3, 64]);
    refused("cut.npy", &array[..array.len() - 1], &["the file is cut off"]);
    let archive = npz(&[("input", array)]);
    refused("cut.npz", &archive[..archive.len() - 30], &["invalid Zip archive"]);
    bench(&model, &scratch.path("missing.npy"))
        .refused(1, &["cannot read", "missing.npy", "No such file or directory"]);
}

#[test]
fn bad_samples_end_a_search_before_it_begins() {
    let scratch = Scratch::new();
    let input = scratch.file("x.npy", npy("<f8", &[3, 64]));
    run("tune {} --input {} --out {}", &[&launch(&scratch), &input, &scratch.path("out")])
        .refused(2, &["data type of `input`"]);
    assert_eq!(scratch.names_in("out"), [".lock"]);
}
