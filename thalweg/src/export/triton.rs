//! A `config.pbtxt` for Triton's TensorRT backend.
//!
//! Names and meanings of the fields: `model_config.proto` of Triton's repository "common", and "Model Configuration" in
//! its user guide.

use std::fmt::Write as _;

use super::{ENGINE_FILE, origin, sizes, wants_queues};
use crate::backend::work_queues::{DEFAULT, MOST, VARIABLE};
use crate::backend::{CudaGraph, Transfers, Wait};
use crate::model::{DataType, Signature, TensorSpec};
use crate::tune::TunedConfig;

/// The file's text, or why there is none.
pub(super) fn config(tuned: &TunedConfig, signature: &Signature) -> Result<String, String> {
    let configuration = &tuned.configuration;
    if configuration.transfers == Transfers::Off {
        return Err("Triton always copies inputs and outputs".to_owned());
    }
    // Without a batch dimension everywhere Triton must not put one in front of the shapes.
    let max_batch_size = if signature.is_batched() { configuration.batch_size } else { 0 };
    let mut text = origin(tuned, "#");
    for remark in remarks(tuned) {
        let _ = writeln!(text, "# {remark}");
    }
    let _ = write!(
        text,
        "\nbackend: \"tensorrt\"\ndefault_model_filename: \"{ENGINE_FILE}\"\nmax_batch_size: {max_batch_size}\n"
    );
    for (kind, tensors) in [("input", &signature.inputs), ("output", &signature.outputs)] {
        let each = tensors
            .iter()
            .map(|tensor| described(tensor, &dims(tensor, max_batch_size, configuration.batch_size)));
        let _ = write!(text, "{kind} [\n{}\n]\n", each.collect::<Vec<_>>().join(",\n"));
    }
    let _ = writeln!(text, "instance_group [ {{ count: {}, kind: KIND_GPU }} ]", configuration.streams);
    if max_batch_size > 1 {
        let _ = write!(
            text,
            "dynamic_batching {{\n  preferred_batch_size: [ {max_batch_size} ]\n  max_queue_delay_microseconds: {}\n}}\n",
            configuration.batching_delay.0 / 1000
        );
    }
    Ok(text + &optimization(tuned, signature, max_batch_size))
}

/// `  { name: "x", data_type: TYPE_FP32, dims: [ 3, 224, 224 ] }`.
fn described(tensor: &TensorSpec, dims: &str) -> String {
    // A scalar has no dimensions, and Triton wants at least one.
    let (dims, reshape) = if dims.is_empty() { ("1", ", reshape: { shape: [ ] }") } else { (dims, "") };
    let (name, kind) = (quoted(&tensor.name), data_type(tensor.data_type));
    format!("  {{ name: {name}, data_type: {kind}, dims: [ {dims} ]{reshape} }}")
}

/// The shape as Triton wants it: without the batch, where it puts that in front itself.
fn dims(tensor: &TensorSpec, max_batch_size: usize, batch_size: usize) -> String {
    if max_batch_size > 0 { sizes(&tensor.shape, ", ") } else { sizes(&tensor.shape_at(batch_size), ", ") }
}

fn data_type(of: DataType) -> &'static str {
    match of {
        DataType::F32 => "TYPE_FP32",
        DataType::F16 => "TYPE_FP16",
        DataType::BF16 => "TYPE_BF16",
        DataType::F64 => "TYPE_FP64",
        DataType::I8 => "TYPE_INT8",
        DataType::I16 => "TYPE_INT16",
        DataType::I32 => "TYPE_INT32",
        DataType::I64 => "TYPE_INT64",
        DataType::U8 => "TYPE_UINT8",
        DataType::U16 => "TYPE_UINT16",
        DataType::U32 => "TYPE_UINT32",
        DataType::U64 => "TYPE_UINT64",
        DataType::Bool => "TYPE_BOOL",
    }
}

fn optimization(tuned: &TunedConfig, signature: &Signature, max_batch_size: usize) -> String {
    let configuration = &tuned.configuration;
    let mut cuda =
        format!("    busy_wait_events: {}\n    output_copy_stream: true\n", configuration.wait == Wait::Spin);
    if configuration.cuda_graph != CudaGraph::Off {
        let inputs = signature.inputs.iter().map(|input| {
            let dims = dims(input, max_batch_size, configuration.batch_size);
            format!("input {{ key: {}, value: {{ dim: [ {dims} ] }} }}", quoted(&input.name))
        });
        let inputs: Vec<_> = inputs.collect();
        cuda.push_str("    graphs: true\n");
        if max_batch_size > 0 {
            let mut least = *signature.batch_sizes.start();
            for step in configuration.batch_steps(least) {
                cuda.push_str(&graph(step, Some(least), &inputs));
                least = step + 1;
            }
        } else {
            cuda.push_str(&graph(0, None, &inputs));
        }
    }
    let pinned = "  input_pinned_memory { enable: true }\n  output_pinned_memory { enable: true }\n";
    format!("optimization {{\n  cuda {{\n{cuda}  }}\n  eager_batching: true\n{pinned}}}\n")
}

/// A graph of a batch size, which also runs smaller ones down to `least`, with whatever lies in the rest, as the pool does.
fn graph(batch_size: usize, least: Option<usize>, inputs: &[String]) -> String {
    let mut text = format!("    graph_spec {{\n      batch_size: {batch_size}\n");
    inputs.iter().for_each(|input| _ = writeln!(text, "      {input}"));
    if let Some(least) = least.filter(|least| *least < batch_size) {
        let inputs = inputs.join(" ");
        let _ = writeln!(text, "      graph_lower_bound {{ batch_size: {least} {inputs} }}");
    }
    text + "    }\n"
}

/// What Triton does otherwise.
fn remarks(tuned: &TunedConfig) -> Vec<String> {
    let configuration = &tuned.configuration;
    let mut remarks = vec![
        "Each instance has a thread, a stream and an execution context of its own.".to_owned(),
        format!(
            "The tuned {} slots of each stream have no field: Triton prepares one batch beside the one that runs.",
            configuration.depth
        ),
    ];
    if configuration.batch_size > 1 && configuration.cuda_graph == CudaGraph::Off {
        remarks.push(
            "A batch that is not full was run in a context that keeps its shapes. Triton sets other shapes for it, which \
             takes the host a millisecond with TensorRT 8.6."
                .to_owned(),
        );
    }
    if wants_queues(tuned, None) {
        remarks.push(format!(
            "Start the server with {VARIABLE}={MOST}: with CUDA's own {DEFAULT} queues streams may wait for each other."
        ));
    }
    if configuration.submitters < configuration.streams {
        remarks.push(format!(
            "Tuned were {} submitting threads for {} streams; without graphs more threads launch more slowly.",
            configuration.submitters, configuration.streams
        ));
    }
    if configuration.cuda_graph == CudaGraph::Copies {
        remarks.push("Triton's graph has the computation only; the tuned one has the copies too.".to_owned());
    }
    if let Some(lanes) = configuration.copy_lanes {
        remarks.push(format!(
            "Each instance copies on streams of its own; the tuned {lanes} that all share have no field."
        ));
    }
    if configuration.wait == Wait::Hybrid {
        remarks.push("Asking for a while and then sleeping has no field; it sleeps.".to_owned());
    }
    remarks
}

/// A string of the protocol buffers' text format.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
