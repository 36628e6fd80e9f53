//! A C++ program that runs the configuration with nothing but TensorRT and the CUDA runtime.

use super::{ENGINE_FILE, origin};
use crate::backend::{CudaGraph, Wait};
use crate::tune::TunedConfig;

/// The program, with `@NAME@` where the configuration goes.
const TEMPLATE: &str = include_str!("pipeline.cpp");

pub(super) fn program(tuned: &TunedConfig) -> String {
    let configuration = &tuned.configuration;
    let graph = match configuration.cuda_graph {
        CudaGraph::Off => "Graph::kOff",
        CudaGraph::Compute => "Graph::kCompute",
        CudaGraph::Copies => "Graph::kCopies",
    };
    let values = [
        ("@ORIGIN@\n", origin(tuned, "//")),
        ("@ENGINE@", ENGINE_FILE.to_owned()),
        ("@STREAMS@", configuration.streams.to_string()),
        ("@DEPTH@", configuration.depth.to_string()),
        ("@BATCH@", configuration.batch_size.to_string()),
        ("@SUBMITTERS@", configuration.submitters.to_string()),
        ("@GRAPH@", graph.to_owned()),
        ("@SPIN@", (configuration.wait != Wait::Block).to_string()),
    ];
    values.iter().fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(name, value))
}
