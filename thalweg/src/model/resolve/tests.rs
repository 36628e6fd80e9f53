use super::super::sketch::{Sketch, ints};
use super::*;

fn given(shapes: &[(&str, &[usize])]) -> InputShapes {
    shapes.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
}

fn shapes(tensors: &[TensorSpec]) -> Vec<(&[usize], bool)> {
    tensors.iter().map(|tensor| (tensor.shape.as_slice(), tensor.is_batched)).collect()
}

/// A classifier of images of any size.
fn classifier() -> Sketch {
    Sketch::new()
        .input("images", "batch,3,height,width")
        .weights("w", &[8, 3, 1, 1])
        .node("a = Conv(images, w)", &[])
        .node("scores = GlobalAveragePool(a)", &[])
        .output("scores")
}

#[test]
fn an_open_batch_is_found_by_trying_two_sizes() {
    let signature = classifier().model().signature(&given(&[("images", &[7, 3, 32, 48])]), 16).unwrap();
    assert_eq!(shapes(&signature.inputs), [([3, 32, 48].as_slice(), true)]);
    assert_eq!(shapes(&signature.outputs), [([8, 1, 1].as_slice(), true)]);
    assert_eq!(signature.batch_sizes, 1..=16);
    assert!(signature.is_batchable());
}

#[test]
fn an_open_dimension_needs_a_size_and_the_message_says_how() {
    let error = classifier().model().signature(&given(&[]), 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "input `images` is [batch, 3, height, width]: give the size of its open dimensions, \
         for example --shape images=1x3x224x224"
    );
}

#[test]
fn examples_suit_images_of_both_layouts_and_sequences() {
    let open = |name: &str| Dimension::Open(name.into());
    let channels_last = [open("n"), open("h"), open("w"), Dimension::Fixed(3)];
    assert_eq!(example(&channels_last), "1x224x224x3");
    assert_eq!(example(&[open("n"), open("t")]), "1x16");
    assert_eq!(example(&[open("n"), open("t"), Dimension::Fixed(80)]), "1x16x80");
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let model = classifier().model();
    let error = |name: &str, shape: &[usize]| model.signature(&given(&[(name, shape)]), 1).unwrap_err();
    assert!(matches!(error("image", &[1]), Error::UnknownTensor { known, .. } if known == ["images"]));
    assert!(matches!(error("images", &[1, 3, 8]), Error::ShapeMismatch { .. }), "rank");
    assert!(matches!(error("images", &[1, 4, 8, 8]), Error::ShapeMismatch { .. }), "fixed dimension");
    assert!(matches!(error("images", &[1, 3, 0, 8]), Error::ShapeMismatch { .. }), "nothing");
    assert!(matches!(error("images", &[1, 3, 1 << 31, 1 << 31]), Error::ShapeMismatch { .. }), "too much");
}

#[test]
fn a_batch_of_nothing_is_refused() {
    let error = classifier().model().signature(&given(&[("images", &[1, 3, 8, 8])]), 0).unwrap_err();
    assert_eq!(error.to_string(), "batch 0: a batch holds at least one sample");
}

#[test]
fn a_given_size_fills_the_same_symbol_elsewhere() {
    let model = Sketch::new()
        .input("ids", "batch,length")
        .input("mask", "batch,length")
        .node("y = Mul(ids, mask)", &[])
        .output("y")
        .model();
    let signature = model.signature(&given(&[("ids", &[1, 128])]), 4).unwrap();
    assert_eq!(shapes(&signature.inputs), [([128].as_slice(), true), ([128].as_slice(), true)]);
}

#[test]
fn an_output_that_sums_over_the_batch_makes_the_model_unbatched() {
    let model =
        Sketch::new().input("x", "n,4").node("y = ReduceSum(x)", &[ints("axes", &[0])]).output("y").model();
    let signature = model.signature(&given(&[]), 1).unwrap();
    assert_eq!(shapes(&signature.inputs), [([1, 4].as_slice(), false)]);
    assert_eq!(signature.batch_sizes, 1..=1);
    let error = model.signature(&given(&[]), 2).unwrap_err().to_string();
    assert!(error.contains("output `y`") && error.contains("does not grow with the batch"), "{error}");
}

#[test]
fn an_input_without_a_batch_dimension_is_named() {
    let model =
        Sketch::new().input("x", "n,4").input("rate", "").node("y = Mul(x, rate)", &[]).output("y").model();
    let error = model.signature(&given(&[]), 8).unwrap_err().to_string();
    assert_eq!(error, "batch 8: input `rate` [] has no open batch dimension");
    assert!(!model.signature(&given(&[]), 1).unwrap().inputs[0].is_batched);
}

#[test]
fn a_fixed_batch_is_the_only_one() {
    let model = Sketch::new().input("x", "4,10").node("y = Relu(x)", &[]).output("y").model();
    let signature = model.signature(&given(&[]), 1).unwrap();
    assert_eq!((shapes(&signature.inputs), signature.batch_sizes), (vec![([10].as_slice(), true)], 4..=4));
    assert!(model.signature(&given(&[]), 4).is_ok());
    let error = model.signature(&given(&[]), 8).unwrap_err().to_string();
    assert!(error.contains("fixed batch of 4"), "{error}");
}

#[test]
fn sizes_that_are_the_same_by_chance_are_no_fixed_batch() {
    let model =
        Sketch::new().input("x", "n,4").input("s", "2,4").node("y = Add(x, s)", &[]).output("y").model();
    let signature = model.signature(&given(&[("x", &[2, 4])]), 1).unwrap();
    assert_eq!(shapes(&signature.inputs), [([2, 4].as_slice(), false), ([2, 4].as_slice(), false)]);
}

#[test]
fn a_declaration_decides_where_the_output_cannot_be_inferred() {
    let mystery = |shape: &str| {
        let mut sketch = Sketch::new().input("x", "batch,4").node("y = Mystery(x)", &[]);
        sketch.graph.node[0].domain = Some("com.example".into());
        sketch.declared_output("y", shape).model().signature(&given(&[]), 1).unwrap()
    };
    assert_eq!(shapes(&mystery("batch,7,open").outputs), [([7, 1].as_slice(), true)]);
    assert_eq!(shapes(&mystery("1,7").outputs), [([1, 7].as_slice(), false)]);
}

#[test]
fn a_model_whose_shapes_contradict_each_other_names_the_node() {
    let model =
        Sketch::new().input("x", "n,w").weights("w", &[4, 2]).node("y = MatMul(x, w)", &[]).output("y");
    let error = model.model().signature(&given(&[("x", &[1, 5])]), 1).unwrap_err().to_string();
    assert!(error.contains("node `MatMul -> y`") && error.contains("5 is not 4"), "{error}");
}
