//! Throughput on paper: from a model's cost and a data sheet, with nothing measured on the device.
//!
//! Kernels take what they take on a [simulated device](crate::backend::simulated), after fusion, each its arithmetic or its DRAM
//! traffic: the roofline (Williams, Waterman and Patterson, "Roofline", CACM 52, 2009) at what is reached in practice.
//! Copies run beside them. What streams do to each other is left out, so take it as a sketch.

use serde::{Deserialize, Serialize};

use super::Resource;
use crate::backend::simulated::Parameters;
use crate::backend::{DataSheet, Precision};
use crate::error::Result;
use crate::model::{Cost, DataType, Model, NodeCost, Shape};
use crate::units::Bytes;

/// What DRAM reaches: a device copy on an H100 (see [`DRAM_CEILING`](super::DRAM_CEILING)).
const DRAM_SHARE: f64 = super::DRAM_CEILING;

/// What the arithmetic units reach in large kernels: ResNet-50 FP16 at batch 128 on an H100 runs 34,279 images/s
/// of 8.2 GFLOP, which is 0.28 of the peak over the whole network, layers bound by DRAM included.
const ARITHMETIC_SHARE: f64 = 0.45;

/// What nodes and weights say: QuantizeLinear and DequantizeLinear are eight bits, FP16 and BF16 weights half of 32.
fn written_in(model: &Model) -> Precision {
    let Some(graph) = &model.proto().graph else { return Precision::Fp32 };
    if graph.node.iter().any(|node| matches!(node.op_type(), "QuantizeLinear" | "DequantizeLinear")) {
        Precision::Int8
    } else if model.is_half() {
        Precision::Fp16
    } else {
        Precision::Fp32
    }
}

/// A model at one batch size and input type.
#[derive(Clone, Debug)]
pub struct PaperWorkload {
    /// Samples per execution.
    pub batch_size: usize,
    /// Type that inputs are copied in.
    pub input_type: DataType,
    /// How numbers are stored and multiplied.
    pub precision: Precision,
    /// The least precision that the model itself is written in, whatever a builder may do on top.
    pub written_in: Precision,
    cost: Cost,
    is_half: bool,
    h2d: Bytes,
    d2h: Bytes,
}

/// What a device does on paper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaperPrediction {
    /// The device's name.
    pub device: String,
    /// Samples per execution.
    pub batch_size: usize,
    /// Type that inputs are copied in.
    pub input_type: DataType,
    /// How numbers are stored and multiplied.
    pub precision: Precision,
    /// Inferences per second of one stream whose copies overlap with its kernels.
    pub one_stream_inferences_per_s: f64,
    /// Inferences per second of as many streams as it takes to fill what limits them, launched as graphs by one thread.
    pub many_streams_inferences_per_s: f64,
    /// What limits many streams.
    pub limit: Resource,
    /// FLOPs per byte moved to and from DRAM.
    pub arithmetic_intensity: f64,
    /// The intensity from which on arithmetic is the limit, at what is reached in practice.
    pub ridge_point: f64,
    /// What a measurement multiplied both by; `None` where there was none.
    pub anchor: Option<f64>,
}

/// What a throughput asks of a device, by its data sheet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PaperShares {
    /// Arithmetic over the peak of the precision, 0..1. FP32 is TF32 on the tensor cores, at half the rate of FP16, as
    /// TensorRT computes it unless it is told otherwise.
    pub arithmetic: f64,
    /// DRAM traffic over the bandwidth, were each tensor written once and read once by each of its readers: more than
    /// is moved where kernels are fused or tensors stay in a cache, so it may be above 1.
    pub traffic: f64,
}

impl PaperWorkload {
    /// A model with these input shapes, batch in front where dimensions are open.
    ///
    /// # Errors
    /// As [`Model::signature`] and [`Model::infer_shapes`].
    pub fn of(
        model: &Model,
        input_shapes: &std::collections::BTreeMap<String, Shape>,
        batch_size: usize,
        (input_type, precision): (DataType, Precision),
    ) -> Result<Self> {
        let signature = model.signature(input_shapes, batch_size)?;
        let shapes = model.infer_shapes(&signature.input_shapes(batch_size))?;
        let samples = |is_batched: bool| if is_batched { batch_size } else { 1 };
        let of_type = |is_float: bool, own: DataType| if is_float { input_type } else { own };
        let h2d = signature.inputs.iter().map(|tensor| {
            let is_float = matches!(tensor.data_type, DataType::F32 | DataType::F16);
            let element = of_type(is_float, tensor.data_type).byte_count();
            Bytes((tensor.element_count() * element * samples(tensor.is_batched)) as u64)
        });
        let d2h = signature.outputs.iter();
        Ok(Self {
            batch_size,
            input_type,
            precision,
            written_in: written_in(model),
            cost: model.cost(&shapes),
            is_half: model.is_half(),
            h2d: h2d.sum(),
            d2h: d2h.map(|it| Bytes((it.byte_count() * samples(it.is_batched)) as u64)).sum(),
        })
    }

    /// What so many inferences per second ask of a device.
    pub fn shares(&self, sheet: &DataSheet, inferences_per_s: f64) -> PaperShares {
        let executions_per_s = inferences_per_s / self.batch_size as f64;
        let (flops, bytes) = self.totals();
        PaperShares {
            arithmetic: flops * executions_per_s / sheet.tensor_flops_per_s(self.precision),
            traffic: bytes * executions_per_s / sheet.dram_bytes_per_s,
        }
    }

    /// The roofline's time of all kernels in one precision over that in another, node by node.
    pub fn time_ratio(&self, sheet: &DataSheet, from: Precision, to: Precision) -> f64 {
        let time = |precision| -> f64 {
            let peak = ARITHMETIC_SHARE * sheet.tensor_flops_per_s(precision);
            let bytes = precision.element_bytes() / self.precision.element_bytes();
            let bandwidth = DRAM_SHARE * sheet.dram_bytes_per_s;
            self.nodes().map(|node| (node.0 / peak).max(bytes * node.1 / bandwidth)).sum()
        };
        let before = time(from);
        if before > 0.0 { time(to) / before } else { 1.0 }
    }

    /// FLOPs and bytes of each node.
    fn nodes(&self) -> impl Iterator<Item = (f64, f64)> {
        // Of a model that is written in halves already the bytes are those of halves.
        let written = if self.is_half { Precision::Fp16 } else { Precision::Fp32 };
        let scale = self.precision.element_bytes() / written.element_bytes();
        let bytes = move |node: &NodeCost| (node.weight_bytes + node.activation_bytes).0 as f64 * scale;
        self.cost.nodes.iter().map(move |node| (node.flops as f64, bytes(node)))
    }

    /// FLOPs and bytes of one execution.
    fn totals(&self) -> (f64, f64) {
        self.nodes().fold((0.0, 0.0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
    }

    /// What this device does with it; `anchor` is measured over predicted throughput of another device.
    pub fn on(&self, sheet: &DataSheet, anchor: Option<f64>) -> PaperPrediction {
        let device = Parameters::of(*sheet).in_precision(self.precision);
        let asked = device.asked_by(&self.cost, self.is_half);
        let copy = |bytes: Bytes| bytes.0 as f64 / device.copy_bytes_per_s();
        let (h2d, d2h) = (copy(self.h2d), copy(self.d2h));
        let demands = [
            (asked.sm_s, Resource::Sms),
            (asked.dram_s, Resource::Dram),
            (h2d, Resource::H2dEngine),
            (d2h, Resource::D2hEngine),
            (device.host.execution_s + device.host.graph_launch_s, Resource::SubmittingThread),
        ];
        let (slowest, limit) =
            demands.into_iter().fold((0.0, Resource::Sms), |a, b| if b.0 > a.0 { b } else { a });
        let rate = |seconds: f64| self.batch_size as f64 / seconds * anchor.unwrap_or(1.0);
        let (flops, bytes) = self.totals();
        PaperPrediction {
            device: sheet.name.to_owned(),
            batch_size: self.batch_size,
            input_type: self.input_type,
            precision: self.precision,
            one_stream_inferences_per_s: rate(asked.alone_s.max(slowest)),
            many_streams_inferences_per_s: rate(slowest),
            limit,
            arithmetic_intensity: if bytes > 0.0 { flops / bytes } else { 0.0 },
            ridge_point: device.sheet.fp16_flops_per_s * device.kernels.tensor_efficiency
                / device.dram_bytes_per_s(),
            anchor,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::zoo::Network;

    fn paper(network: Network, batch_size: usize, precision: Precision) -> PaperPrediction {
        let model = Model::from_proto(network.generate(0), "network.onnx").unwrap();
        let types = (DataType::F32, precision);
        let workload = PaperWorkload::of(&model, &BTreeMap::new(), batch_size, types).unwrap();
        workload.on(&DataSheet::of("h100").unwrap(), None)
    }

    /// Nodes of so many FLOPs and bytes in FP16.
    fn of_nodes(nodes: &[(u64, u64)]) -> PaperWorkload {
        let node = |&(flops, bytes): &(u64, u64)| NodeCost {
            flops,
            activation_bytes: Bytes(2 * bytes),
            ..NodeCost::default()
        };
        PaperWorkload {
            batch_size: 4,
            input_type: DataType::F32,
            precision: Precision::Fp16,
            written_in: Precision::Fp32,
            cost: Cost { nodes: nodes.iter().map(node).collect(), ..Cost::default() },
            is_half: false,
            h2d: Bytes(0),
            d2h: Bytes(0),
        }
    }

    #[test]
    fn each_limit_is_named_and_a_large_batch_is_as_fast_as_measured() {
        let limit = |network, batch_size| paper(network, batch_size, Precision::Fp16).limit;
        assert_eq!(limit(Network::Memory, 8), Resource::Dram);
        assert_eq!(limit(Network::Transfer, 4), Resource::H2dEngine);
        assert_eq!(limit(Network::Launch, 1), Resource::SubmittingThread);
        // An H100 ran 34,279 images/s at batch 128 (2026-11-22).
        let large = paper(Network::Resnet50, 128, Precision::Fp16);
        assert_eq!(large.limit, Resource::Sms);
        let ratio = large.many_streams_inferences_per_s / 34_279.0;
        assert!((0.9..1.1).contains(&ratio), "{large:?}");
    }

    #[test]
    fn one_stream_is_no_faster_than_many_and_a_lower_precision_no_slower() {
        for network in [Network::Resnet50, Network::Launch, Network::Memory] {
            let [fp32, fp16, int8] =
                [Precision::Fp32, Precision::Fp16, Precision::Int8].map(|it| paper(network, 8, it));
            for one in [&fp32, &fp16, &int8] {
                assert!(one.one_stream_inferences_per_s <= one.many_streams_inferences_per_s, "{one:?}");
            }
            assert!(fp32.many_streams_inferences_per_s <= fp16.many_streams_inferences_per_s, "{fp32:?}");
            assert!(fp16.many_streams_inferences_per_s <= int8.many_streams_inferences_per_s, "{int8:?}");
        }
    }

    #[test]
    fn half_the_precision_halves_the_roofline_and_no_more_than_that() {
        let sheet = DataSheet::of("h100").unwrap();
        // One node of arithmetic and one of traffic.
        let workload = of_nodes(&[(1_000_000_000_000, 1), (1, 1_000_000_000)]);
        let ratio = |from, to| workload.time_ratio(&sheet, from, to);
        assert!((ratio(Precision::Fp32, Precision::Fp16) - 0.5).abs() < 1e-12);
        assert!((ratio(Precision::Fp16, Precision::Int8) - 0.5).abs() < 1e-3);
        assert_eq!(ratio(Precision::Fp16, Precision::Fp16), 1.0);
    }

    #[test]
    fn at_the_peak_all_of_it_is_asked_for() {
        let sheet = DataSheet::of("h100").unwrap();
        // Four samples of 1 TFLOP and 1 GB in all.
        let workload = of_nodes(&[(1_000_000_000_000, 1_000_000_000)]);
        let PaperShares { arithmetic, traffic } =
            workload.shares(&sheet, 4.0 * sheet.fp16_flops_per_s / 1e12);
        assert!((arithmetic - 1.0).abs() < 1e-12);
        assert!((traffic - 989.4e9 / 3.352e12).abs() < 1e-12);
    }

    #[test]
    fn an_anchor_scales_both() {
        let model = Model::from_proto(Network::Launch.generate(0), "network.onnx").unwrap();
        let types = (DataType::F32, Precision::Fp16);
        let workload = PaperWorkload::of(&model, &BTreeMap::new(), 1, types).unwrap();
        let sheet = DataSheet::of("h100").unwrap();
        let (paper, anchored) = (workload.on(&sheet, None), workload.on(&sheet, Some(0.5)));
        assert_eq!(anchored.one_stream_inferences_per_s, 0.5 * paper.one_stream_inferences_per_s);
        assert_eq!(anchored.many_streams_inferences_per_s, 0.5 * paper.many_streams_inferences_per_s);
    }
}
