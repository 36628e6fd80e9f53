//! Tests of all networks of the zoo. `scripts/check-zoo.py` runs them in ONNX Runtime besides.

use std::collections::{BTreeMap, HashSet};

use prost::Message;
use sha2::{Digest, Sha256};

use super::Network;
use crate::model::proto::tensor_proto::{DataLocation, DataType as OnnxDataType};
use crate::model::proto::tensor_shape_proto::dimension::Value as DimensionValue;
use crate::model::proto::{GraphProto, ModelProto, ValueInfoProto, type_proto};
use crate::model::{CostSummary, Inspection, Model, OperatorSummary};

const SEED: u64 = 1;

fn parameter_count(graph: &GraphProto) -> i64 {
    let floats = graph
        .initializer
        .iter()
        .filter(|tensor| tensor.data_type == Some(OnnxDataType::Float.into()) && !tensor.dims.is_empty());
    floats.map(|tensor| tensor.dims.iter().product::<i64>()).sum()
}

fn graph(model: &ModelProto) -> &GraphProto {
    model.graph.as_ref().unwrap()
}

fn dimensions(value: &ValueInfoProto) -> Vec<DimensionValue> {
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.clone().unwrap().value else {
        panic!("{:?} is no tensor", value.name)
    };
    tensor.shape.unwrap().dim.into_iter().map(|dimension| dimension.value.unwrap()).collect()
}

fn assert_is_well_formed(graph: &GraphProto) {
    let mut known = HashSet::new();
    let declared = graph.input.iter().map(|input| input.name.clone().unwrap());
    for name in declared.chain(graph.initializer.iter().map(|tensor| tensor.name.clone().unwrap())) {
        assert!(known.insert(name.clone()), "{name} is there twice");
    }
    let mut used = HashSet::new();
    for node in &graph.node {
        for input in &node.input {
            assert!(known.contains(input), "{input} of {:?} is not made before it", node.name);
            used.insert(input.clone());
        }
        assert_eq!(node.output.len(), 1);
        assert!(known.insert(node.output[0].clone()), "{} is made twice", node.output[0]);
    }
    for output in &graph.output {
        assert!(known.contains(output.name()), "output {} is never made", output.name());
        used.insert(output.name().to_owned());
    }
    assert_eq!(known, used, "something is made and not used");
    for value in graph.input.iter().chain(&graph.output) {
        let dimensions = dimensions(value);
        assert_eq!(dimensions[0], DimensionValue::DimParam("batch".to_owned()));
        assert!(dimensions[1..].iter().all(|size| matches!(size, DimensionValue::DimValue(1..))));
    }
}

#[test]
fn resnet50_has_its_published_parameters_less_the_folded_ones() {
    assert_eq!(parameter_count(Network::Resnet50.graph().proto()), 25_557_032 - 26_560);
}

#[test]
fn mobilenet_v2_has_its_published_parameters_less_the_folded_ones() {
    assert_eq!(parameter_count(Network::MobilenetV2.graph().proto()), 3_504_872 - 17_056);
}

#[test]
fn bert_base_has_its_published_parameters() {
    assert_eq!(parameter_count(Network::BertBase.graph().proto()), 109_482_240);
}

/// What one sample takes. Weights are said to be in a file that nobody reads, which saves making them.
fn cost(network: Network) -> (CostSummary, Vec<OperatorSummary>) {
    let mut graph = network.graph().proto().clone();
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.raw_data.is_none()) {
        tensor.data_location = Some(DataLocation::External.into());
    }
    let proto = ModelProto { graph: Some(graph), ..ModelProto::default() };
    let model = Model::from_proto(proto, network.name()).unwrap();
    let inspection = Inspection::of(&model, &BTreeMap::new(), 1).unwrap();
    (inspection.cost.unwrap(), inspection.operators)
}

/// GFLOP of all operators, and of the products and convolutions alone, which is what is published.
fn gflop(network: Network) -> (f64, f64) {
    let (cost, operators) = cost(network);
    assert_eq!(cost.unknown_nodes, [""; 0]);
    let products = operators.iter().filter(|it| ["Conv", "Gemm", "MatMul"].contains(&it.operator.as_str()));
    let products: u64 = products.filter_map(|it| it.flops).sum();
    (cost.flops as f64 / 1e9, products as f64 / 1e9)
}

#[track_caller]
fn assert_within_one_percent(got: f64, expected: f64) {
    assert!((got / expected - 1.0).abs() < 0.01, "expected {expected}, got {got}");
}

/// torchvision lists 4.09 billion multiply-adds for `ResNet50_Weights` (v1.5), and a multiply-add is 2 FLOPs:
/// <https://docs.pytorch.org/vision/main/models/generated/torchvision.models.resnet50.html>.
#[test]
fn resnet50_costs_its_published_flops() {
    let (all, products) = gflop(Network::Resnet50);
    assert_within_one_percent(products, 2.0 * 4.09);
    assert_within_one_percent(all, 8.2);
}

/// M. Sandler et al., "MobileNetV2", 2018, table 4: 300 million multiply-adds. The bias of each of the 6.7 million
/// results of convolutions comes on top.
#[test]
fn mobilenet_v2_costs_its_published_flops() {
    let (all, products) = gflop(Network::MobilenetV2);
    assert_within_one_percent(products, 2.0 * 0.300 + 0.0067);
    assert_within_one_percent(all, 0.62);
}

/// Z. Sun et al., "MobileBERT", 2020, table 4: 22.5 billion FLOPs at 128 tokens. Per layer and token 12 h² for
/// weights and 2 l h for attention are multiplied and added, at h = 768 and l = 128: 22.35 billion in 12 layers.
#[test]
fn bert_base_costs_its_published_flops() {
    let (all, products) = gflop(Network::BertBase);
    assert_within_one_percent(products, 22.35);
    assert_within_one_percent(all, 22.4);
    assert_within_one_percent(all, 22.5);
}

#[test]
fn the_launch_network_has_hundreds_of_nodes() {
    assert_eq!(Network::Launch.graph().proto().node.len(), 480);
}

#[test]
fn every_graph_is_sorted_and_complete_with_an_open_batch() {
    for network in Network::ALL {
        assert_is_well_formed(network.graph().proto());
    }
}

#[test]
fn the_synthetic_networks_make_small_files() {
    const MOST_PARAMETERS: i64 = 70_000_000 / 4;
    for network in &Network::ALL[3..] {
        assert!(parameter_count(network.graph().proto()) < MOST_PARAMETERS, "{network}");
    }
}

#[test]
fn every_constant_has_bytes_for_its_elements() {
    let model = Network::MobilenetV2.generate(SEED);
    for tensor in &graph(&model).initializer {
        let element_size = if tensor.data_type == Some(OnnxDataType::Int64.into()) { 8 } else { 4 };
        let elements = tensor.dims.iter().product::<i64>();
        let bytes = tensor.raw_data.as_ref().unwrap().len();
        assert_eq!(i64::try_from(bytes).unwrap(), element_size * elements, "{}", tensor.name());
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_every_machine() {
    let bytes = Network::Balanced.generate(SEED).encode_to_vec();
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "a524da4a2ff431943bfa0560ff93d048f96020a679066e2f03aa70b9c35bc770");
}

#[test]
fn another_seed_gives_other_weights_in_the_same_graph() {
    let [one, other] = [1, 2].map(|seed| Network::MobilenetV2.generate(seed));
    assert_eq!(graph(&one).node, graph(&other).node);
    let weights = |model: &ModelProto| -> Vec<_> {
        let tensors = graph(model).initializer.iter();
        tensors.filter(|tensor| tensor.dims.len() == 4).map(|tensor| tensor.raw_data.clone()).collect()
    };
    assert!(weights(&one).iter().zip(&weights(&other)).all(|(one, other)| one != other));
    assert_eq!(one.encoded_len(), other.encoded_len());
}

#[test]
fn names_survive_a_round_trip_through_text_and_json() {
    for network in Network::ALL {
        assert_eq!(network.to_string().parse::<Network>().unwrap(), network);
        assert_eq!(serde_json::to_string(&network).unwrap(), format!("\"{network}\""));
        assert!(!network.description().contains('\n'));
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    let message = "resnet51".parse::<Network>().unwrap_err().to_string();
    assert!(
        message.starts_with("network `resnet51`: the known ones are resnet50, mobilenet_v2,"),
        "{message}"
    );
}
