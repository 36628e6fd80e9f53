use super::super::sketch::{Sketch, graph, int, ints, node, value};
use std::collections::BTreeMap;

use super::*;

fn cost_of(sketch: Sketch, x: &[usize]) -> Cost {
    let model = sketch.output("y").model();
    let shapes = model.infer_shapes(&BTreeMap::from([("x".into(), x.to_vec())])).unwrap();
    model.cost(&shapes)
}

#[test]
fn a_convolution_costs_two_flops_per_multiply_add() {
    // The first layer of ResNet-50: 118 million multiply-adds at 224 x 224.
    let attributes = [ints("strides", &[2, 2]), ints("pads", &[3, 3, 3, 3])];
    let sketch = Sketch::new().input("x", "n,c,h,w").weights("w", &[64, 3, 7, 7]);
    let cost = cost_of(sketch.node("y = Conv(x, w)", &attributes), &[1, 3, 224, 224]);
    assert_eq!(cost.flops, 2 * 118_013_952);
    assert_eq!(cost.weight_bytes, Bytes(64 * 3 * 49 * 4));
    assert_eq!(cost.activation_bytes, Bytes(4 * (3 * 224 * 224 + 64 * 112 * 112)));
    assert_eq!(cost.nodes[0].output_shape.as_deref(), Some([1, 64, 112, 112].as_slice()));
}

#[test]
fn groups_divide_the_work() {
    let sketch = Sketch::new().input("x", "n,c,h,w").weights("w", &[32, 1, 3, 3]);
    let sketch = sketch.node("y = Conv(x, w)", &[int("group", 32), ints("pads", &[1, 1, 1, 1])]);
    assert_eq!(cost_of(sketch, &[1, 32, 8, 8]).flops, 2 * 32 * 8 * 8 * 9);
}

#[test]
fn a_shared_weight_is_read_once_in_total() {
    let sketch = Sketch::new()
        .input("x", "n,8")
        .weights("w", &[8, 8])
        .node("a = MatMul(x, w)", &[])
        .node("y = MatMul(a, w)", &[]);
    let cost = cost_of(sketch, &[4, 8]);
    assert_eq!(cost.nodes.iter().map(|node| node.weight_bytes.0).sum::<u64>(), 2 * 256);
    assert_eq!(cost.weight_bytes, Bytes(256));
    assert_eq!(cost.flops, 2 * 2 * 4 * 8 * 8);
    assert_eq!(cost.arithmetic_intensity(), Some(1024.0 / (256.0 + 4.0 * 128.0)));
}

#[test]
fn work_on_constants_is_done_before_and_views_are_free() {
    let sketch = Sketch::new()
        .input("x", "n,8")
        .weights("w", &[8, 8])
        .integers("flat", &[-1])
        .node("t = Transpose(w)", &[])
        .node("a = MatMul(x, t)", &[])
        .node("y = Reshape(a, flat)", &[]);
    let cost = cost_of(sketch, &[1, 8]);
    assert_eq!((cost.nodes[0].flops, cost.nodes[0].activation_bytes), (0, Bytes(0)));
    assert_eq!(cost.nodes[1].weight_bytes, Bytes(256));
    assert_eq!((cost.nodes[2].flops, cost.nodes[2].activation_bytes), (0, Bytes(0)));
}

#[test]
fn looking_up_rows_reads_only_these_rows() {
    let sketch = Sketch::new().input("x", "n,2").weights("table", &[1000, 16]);
    let sketch = sketch.integers("rows", &[3, 7]).node("r = Gather(table, rows)", &[]);
    let cost = cost_of(sketch.node("y = MatMul(x, r)", &[]), &[1, 2]);
    assert_eq!(cost.flops, 2 * 16 * 2, "the look-up itself is done in advance: {cost:?}");
    let mut sketch =
        Sketch::new().input("x", "n").weights("table", &[1000, 16]).node("y = Gather(table, x)", &[]);
    sketch.graph.output.clear();
    assert_eq!(cost_of(sketch, &[5]).weight_bytes, Bytes(5 * 16 * 4));
}

#[test]
fn unknown_nodes_are_named() {
    let mut sketch = Sketch::new().input("x", "n,8").node("y = Mystery(x)", &[]);
    sketch.graph.node[0].name = Some("odd one".into());
    let cost = cost_of(sketch, &[1, 8]);
    assert_eq!(cost.unknown_nodes, ["odd one"]);
}

#[test]
fn sizes_beyond_64_bits_saturate() {
    let sketch = Sketch::new().input("x", "n,m").node("y = Relu(x)", &[]);
    let cost = cost_of(sketch, &[usize::MAX, usize::MAX]);
    assert_eq!(cost.flops, u64::MAX);
    assert_eq!(cost.unknown_nodes.len(), 1, "bytes that do not fit are unknown");
}

#[test]
fn a_dequantised_weight_is_read_as_it_is_stored() {
    let mut sketch = Sketch::new()
        .input("x", "n,8")
        .weights("w", &[64])
        .weights("scale", &[1])
        .integers("square", &[8, 8])
        .node("d = DequantizeLinear(w, scale)", &[])
        .node("s = Reshape(d, square)", &[])
        .node("y = MatMul(x, s)", &[]);
    let weight = &mut sketch.graph.initializer[0];
    weight.data_type = Some(crate::model::proto::tensor_proto::DataType::Int8 as i32);
    weight.int32_data = vec![1; 64];
    weight.float_data.clear();
    // 64 bytes, 4 of the scale, 16 of the shape.
    assert_eq!(cost_of(sketch, &[1, 8]).nodes[2].weight_bytes, Bytes(64 + 4 + 16));
}

#[test]
fn a_branch_costs_what_is_in_it() {
    let branch = |line: &str| GraphProto {
        node: vec![node(line, &[])],
        output: vec![value("b", None)],
        ..Default::default()
    };
    let branches =
        [graph("then_branch", branch("b = MatMul(x, w)")), graph("else_branch", branch("b = Relu(x)"))];
    let sketch = |condition: i64| {
        let sketch = Sketch::new().input("x", "n,8").weights("w", &[8, 8]).integers("c", &[condition]);
        sketch.node("y = If(c)", &branches)
    };
    let taken = cost_of(sketch(1), &[1, 8]);
    assert_eq!((taken.flops, taken.weight_bytes), (2 * 64, Bytes(256)));
    assert_eq!(cost_of(sketch(0), &[1, 8]).flops, 8);
}
