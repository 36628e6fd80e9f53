use super::super::sketch::{Sketch, graph, int, ints, node, text};
use super::*;
use crate::model::proto::GraphProto;

/// The shape of `y` in a sketch whose input `x` is given.
fn shape_of_y(sketch: Sketch, x: &[usize]) -> Option<Shape> {
    infer_y(sketch, x).unwrap()
}

fn infer_y(sketch: Sketch, x: &[usize]) -> Result<Option<Shape>> {
    let shapes = sketch.output("y").model().infer_shapes(&BTreeMap::from([("x".into(), x.to_vec())]))?;
    Ok(shapes.shape("y").map(<[_]>::to_vec))
}

/// One node from the image `x` to `y`.
fn on_image(line: &str, attributes: &[crate::model::proto::AttributeProto]) -> Sketch {
    Sketch::new().input("x", "n,c,h,w").node(line, attributes)
}

#[test]
fn a_convolution_slides_a_dilated_kernel_over_padding() {
    let sketch = Sketch::new().input("x", "n,c,h,w").weights("w", &[8, 3, 3, 3]);
    let strided = [ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1])];
    let plain = sketch.clone().node("y = Conv(x, w)", &strided);
    assert_eq!(shape_of_y(plain, &[2, 3, 224, 224]), Some(vec![2, 8, 112, 112]));
    let dilated = sketch.clone().node("y = Conv(x, w)", &[ints("dilations", &[2, 3])]);
    assert_eq!(shape_of_y(dilated, &[1, 3, 10, 10]), Some(vec![1, 8, 6, 4]));
    let same = sketch.node("y = Conv(x, w)", &[text("auto_pad", "SAME_UPPER"), ints("strides", &[2, 2])]);
    assert_eq!(shape_of_y(same, &[1, 3, 7, 8]), Some(vec![1, 8, 4, 4]));
}

#[test]
fn a_convolution_names_the_channels_that_do_not_fit() {
    let sketch = Sketch::new().input("x", "n,c,h,w").weights("w", &[8, 3, 3, 3]).node("y = Conv(x, w)", &[]);
    let error = infer_y(sketch, &[1, 4, 8, 8]).unwrap_err().to_string();
    assert!(error.contains("node `Conv -> y` (Conv) takes 3 channels"), "{error}");
    assert!(error.contains("`x` [1, 4, 8, 8]"), "{error}");
}

#[test]
fn pooling_that_rounds_up_never_starts_beyond_the_image() {
    let pool = [ints("kernel_shape", &[1, 1]), ints("strides", &[2, 2]), int("ceil_mode", 1)];
    assert_eq!(shape_of_y(on_image("y = MaxPool(x)", &pool), &[1, 1, 2, 3]), Some(vec![1, 1, 1, 2]));
    let pool = [ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), int("ceil_mode", 1)];
    assert_eq!(shape_of_y(on_image("y = MaxPool(x)", &pool), &[1, 1, 6, 7]), Some(vec![1, 1, 3, 3]));
}

#[test]
fn a_transposed_convolution_undoes_the_stride() {
    let sketch = Sketch::new().input("x", "n,c,h,w").weights("w", &[3, 4, 2, 2]);
    let sketch = sketch.node("y = ConvTranspose(x, w)", &[ints("strides", &[2, 2]), int("group", 1)]);
    assert_eq!(shape_of_y(sketch, &[1, 3, 5, 6]), Some(vec![1, 4, 10, 12]));
}

#[test]
fn matrix_products_broadcast_their_batches() {
    let sketch = Sketch::new().input("x", "n,c,h,w").weights("w", &[5, 4, 6]).node("y = MatMul(x, w)", &[]);
    assert_eq!(shape_of_y(sketch, &[2, 1, 3, 4]), Some(vec![2, 5, 3, 6]));
    assert_eq!(matmul(&[4], &[4]), Some(vec![]));
    assert_eq!(matmul(&[2, 3, 4], &[4]), Some(vec![2, 3]));
    assert_eq!(matmul(&[3, 4], &[5, 6]), None);
}

fn matmul(left: &[usize], right: &[i64]) -> Option<Shape> {
    let names: Vec<_> = left.iter().map(ToString::to_string).collect();
    let sketch = Sketch::new().input("x", &names.join(",")).weights("w", right).node("y = MatMul(x, w)", &[]);
    infer_y(sketch, left).ok().flatten()
}

#[test]
fn a_shape_that_the_graph_computes_is_calculated() {
    // As exporters write `x.view(x.shape[0], -1)`, with the second size computed from the input too.
    let sketch = Sketch::new()
        .input("x", "n,c,h,w")
        .integers("first", &[0])
        .integers("rest", &[1])
        .integers("end", &[i64::MAX])
        .node("s = Shape(x)", &[])
        .node("n = Gather(s, first)", &[])
        .node("tail = Slice(s, rest, end)", &[])
        .node("count = ReduceProd(tail)", &[])
        .node("both = Concat(n, count)", &[int("axis", 0)])
        .node("y = Reshape(x, both)", &[]);
    assert_eq!(shape_of_y(sketch, &[2, 3, 4, 5]), Some(vec![2, 60]));
}

#[test]
fn scales_round_as_in_single_precision() {
    let mut sketch = on_image("y = Resize(x, , scales)", &[]).weights("scales", &[4]);
    sketch.graph.initializer[0].float_data = vec![1.0, 1.0, 0.7, 2.0];
    assert_eq!(shape_of_y(sketch, &[1, 3, 10, 10]), Some(vec![1, 3, 7, 20]));
}

#[test]
fn paddings_go_through_transposes_and_reversed_slices() {
    // As PyTorch exports `F.pad(x, (1, 2))`: the last dimension comes first and has to go to the end.
    let sketch = Sketch::new()
        .input("x", "n,w")
        .integers("pairs", &[1, 2, 0, 0])
        .integers("two", &[-1, 2])
        .integers("last", &[-1])
        .integers("before", &[i64::MIN + 1])
        .integers("axis", &[0])
        .integers("flat", &[-1])
        .node("rows = Reshape(pairs, two)", &[])
        .node("reversed = Slice(rows, last, before, axis, last)", &[])
        .node("columns = Transpose(reversed)", &[ints("perm", &[1, 0])])
        .node("pads = Reshape(columns, flat)", &[])
        .node("y = Pad(x, pads)", &[]);
    assert_eq!(shape_of_y(sketch, &[3, 10]), Some(vec![3, 13]));
}

#[test]
fn slices_clamp_and_step_backwards() {
    let slice = |start: i64, end: i64, step: i64| {
        let sketch = Sketch::new()
            .input("x", "n,w")
            .integers("start", &[start])
            .integers("end", &[end])
            .integers("axis", &[-1])
            .integers("step", &[step])
            .node("y = Slice(x, start, end, axis, step)", &[]);
        shape_of_y(sketch, &[2, 10]).map(|shape| shape[1])
    };
    assert_eq!(slice(2, 100, 3), Some(3));
    assert_eq!(slice(-3, i64::MAX, 1), Some(3));
    assert_eq!(slice(-1, i64::MIN, -1), Some(10));
    assert_eq!(slice(8, 2, 1), Some(0));
}

#[test]
fn reductions_know_axes_from_attributes_and_inputs() {
    let by_attribute = on_image("y = ReduceMean(x)", &[ints("axes", &[-1, 2]), int("keepdims", 0)]);
    assert_eq!(shape_of_y(by_attribute, &[2, 3, 4, 5]), Some(vec![2, 3]));
    let by_input = on_image("y = ReduceSum(x, axes)", &[]).integers("axes", &[1]);
    assert_eq!(shape_of_y(by_input, &[2, 3, 4, 5]), Some(vec![2, 1, 4, 5]));
}

#[test]
fn recurrent_layers_return_the_sequence_and_the_last_state() {
    let sketch = Sketch::new()
        .input("x", "t,n,w")
        .weights("w", &[2, 16, 3])
        .weights("r", &[2, 16, 4])
        .node("s, y = LSTM(x, w, r)", &[int("hidden_size", 4), text("direction", "bidirectional")]);
    assert_eq!(shape_of_y(sketch, &[7, 2, 3]), Some(vec![2, 2, 4]));
}

#[test]
fn unknown_operators_leave_only_what_follows_from_them_unknown() {
    let mut sketch = on_image("a = Relu(x)", &[]).node("b = Relu(x)", &[]).node("y = Add(b, x)", &[]);
    sketch.graph.node[1].domain = Some("com.example".into());
    let shapes =
        sketch.output("y").model().infer_shapes(&BTreeMap::from([("x".into(), vec![1; 4])])).unwrap();
    assert_eq!(shapes.shape("a"), Some([1; 4].as_slice()));
    assert_eq!((shapes.shape("b"), shapes.shape("y")), (None, None));
    assert_eq!((shapes.data_type("a"), shapes.data_type("b")), (Some(DataType::F32), None));
}

#[test]
fn what_the_file_declares_fills_a_gap() {
    let mut sketch = on_image("y = Mystery(x)", &[]).declared_output("y", "1,10");
    sketch.graph.node[0].domain = Some("com.example".into());
    let shapes = sketch.model().infer_shapes(&BTreeMap::from([("x".into(), vec![1; 4])])).unwrap();
    assert_eq!(shapes.shape("y"), Some([1, 10].as_slice()));
    assert_eq!(shapes.byte_count("y"), Some(40));
}

#[test]
fn a_branch_that_cannot_run_is_not_the_one_taken() {
    let branch = |line: &str| GraphProto {
        node: vec![node(line, &[])],
        output: vec![crate::model::sketch::value("b", None)],
        ..Default::default()
    };
    let sketch = |no: &str| {
        let branches = [graph("then_branch", branch("b = Relu(x)")), graph("else_branch", branch(no))];
        Sketch::new().input("x", "n,4").input("c", "").weights("w", &[5, 6]).node("y = If(c)", &branches)
    };
    assert_eq!(shape_of_y(sketch("b = MatMul(x, w)"), &[2, 4]), Some(vec![2, 4]));
    assert_eq!(shape_of_y(sketch("b = Transpose(x)"), &[2, 4]), None);
}

#[test]
fn types_follow_the_operators() {
    let sketch = on_image("s = Shape(x)", &[])
        .node("h = Cast(x)", &[int("to", 10)])
        .node("m = Greater(x, x)", &[])
        .node("q, scale, zero = DynamicQuantizeLinear(x)", &[])
        .node("y = Where(m, h, h)", &[])
        .output("y");
    let shapes = sketch.model().infer_shapes(&BTreeMap::from([("x".into(), vec![1; 4])])).unwrap();
    let types = ["s", "h", "m", "q", "scale", "y"].map(|name| shapes.data_type(name).unwrap());
    use DataType::{Bool, F16, F32, I64, U8};
    assert_eq!(types, [I64, F16, Bool, U8, F32, F16]);
}
