//! A C++ program that runs the configuration with nothing but TensorRT and the CUDA runtime.

use super::{ENGINE_FILE, origin, wants_queues};
use crate::backend::work_queues::{DEFAULT, MOST, VARIABLE};
use crate::backend::{CudaGraph, Transfers, Wait};
use crate::tune::TunedConfig;

/// The program, with `@NAME@` where the configuration goes.
const TEMPLATE: &str = include_str!("pipeline.cpp");

/// The program, or why there is none.
pub(super) fn program(tuned: &TunedConfig) -> Result<String, String> {
    let configuration = &tuned.configuration;
    if configuration.transfers == Transfers::Off {
        return Err("a program without transfers computes on nothing: tune with them".to_owned());
    }
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
        ("@COPY_LANES@", configuration.copy_lanes.unwrap_or(configuration.streams).to_string()),
        ("@GRAPH@", graph.to_owned()),
        ("@WAIT@\n", wait_remark(configuration.wait).to_owned()),
        ("@QUEUES@\n", wants_queues(tuned, configuration.copy_lanes).then(more_queues).unwrap_or_default()),
        ("@SPIN@", (configuration.wait != Wait::Block).to_string()),
    ];
    Ok(values.iter().fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(name, value)))
}

/// CUDA reads the variable when the process makes its context.
fn more_queues() -> String {
    format!(
        "  // With CUDA's own {DEFAULT} work queues these streams may wait for each other. What the user has set stays.\n  \
         setenv(\"{VARIABLE}\", \"{MOST}\", 0);\n"
    )
}

/// What the program does otherwise than the tuned way to wait.
fn wait_remark(wait: Wait) -> &'static str {
    match wait {
        Wait::Block | Wait::Spin => "",
        Wait::Hybrid => {
            "// Tuned was to ask for 100 us and then to sleep; cudaEventSynchronize does one or the other. This asks all the time.\n"
        }
    }
}
