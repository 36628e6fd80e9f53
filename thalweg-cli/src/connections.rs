//! CUDA's work queues: as many as the streams of a command need, before CUDA starts.
//!
//! The device takes work from a number of queues that the driver reads from `CUDA_DEVICE_MAX_CONNECTIONS` when the
//! process makes its context; streams beyond that number share queues and wait for each other, though nothing in
//! them does. A program without `unsafe` cannot change its own environment, so where more are needed the program
//! starts itself again, as the same process, with the variable set. What the user has set stays.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process;

use thalweg::backend::CudaGraph;
use thalweg::tune::TunedConfig;

use crate::args::{Command, RunArgs, TuneArgs};
use crate::output::Output;
use crate::values::Counts;

/// What the driver reads (CUDA C++ Programming Guide, "CUDA Environment Variables").
const VARIABLE: &str = "CUDA_DEVICE_MAX_CONNECTIONS";

/// How many queues there are where nobody says anything, and the most there can be (the same table).
const DEFAULT: usize = 8;
const MOST: &str = "32";

/// CUDA streams of each of our streams whose copies are not in its graph: inputs, computation, outputs.
const CUDA_STREAMS: usize = 3;

/// What is set, as text.
pub fn setting() -> Option<String> {
    env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned())
}

/// Starts the program again with more queues, if the command may need them and nobody has set their number.
/// It returns where it need not, or cannot.
pub fn raise_if_needed(command: &Command, output: &Output) {
    if env::var_os(VARIABLE).is_some() || most_cuda_streams(command) <= DEFAULT {
        return;
    }
    let mut words = env::args_os();
    let name = words.next().unwrap_or_default();
    let error = match env::current_exe() {
        Ok(program) => process::Command::new(program).arg0(name).args(words).env(VARIABLE, MOST).exec(),
        Err(error) => error,
    };
    output.warning(&format!(
        "{VARIABLE} could not be raised to {MOST} ({error}): streams may wait for each other; set it yourself"
    ));
}

/// The most CUDA streams that a command makes; 0 where it runs nothing on a GPU.
fn most_cuda_streams(command: &Command) -> usize {
    match command {
        Command::Bench(args) if may_be_a_gpu(&args.run.workload.backend) => {
            let (streams, graph) = of_run(&args.run);
            let (others, other_graph) = args.beside.as_deref().map_or((0, CudaGraph::Off), of_tuned);
            cuda_streams(streams, graph).saturating_add(cuda_streams(others, other_graph))
        }
        // It tries twice the streams, and other kinds of graph.
        Command::Diagnose(args) if may_be_a_gpu(&args.run.workload.backend) => {
            cuda_streams(of_run(&args.run).0.saturating_mul(2), CudaGraph::Off)
        }
        Command::Tune(args) if may_be_a_gpu(&args.workload.backend) => of_tune(args),
        _ => 0,
    }
}

/// `auto` takes a GPU where there is one. To find out costs more than to start again for nothing.
fn may_be_a_gpu(backend: &str) -> bool {
    matches!(backend, "auto" | "tensorrt")
}

/// Streams and graph of one configuration.
fn of_run(args: &RunArgs) -> (usize, CudaGraph) {
    args.tuned.as_deref().map_or((args.streams, args.cuda_graph), of_tuned)
}

fn of_tuned(path: &Path) -> (usize, CudaGraph) {
    // A file that cannot be read is refused later, with the reason.
    TunedConfig::read(path)
        .map_or((0, CudaGraph::Off), |tuned| (tuned.configuration.streams, tuned.configuration.cuda_graph))
}

fn of_tune(args: &TuneArgs) -> usize {
    // Where nobody names numbers of streams the tuner tries up to eight.
    let streams = match &args.streams {
        Counts::Auto => DEFAULT,
        Counts::These(counts) => counts.iter().copied().max().unwrap_or(0),
    };
    let graphs = if args.cuda_graph.is_empty() { &CudaGraph::ALL[..] } else { &args.cuda_graph };
    graphs.iter().map(|graph| cuda_streams(streams, *graph)).max().unwrap_or(0)
}

fn cuda_streams(streams: usize, graph: CudaGraph) -> usize {
    if graph == CudaGraph::Copies { streams } else { streams.saturating_mul(CUDA_STREAMS) }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    fn most(line: &str) -> usize {
        most_cuda_streams(&Cli::parse_from(line.split_whitespace()).command)
    }

    #[test]
    fn each_stream_has_three_of_cudas_unless_its_graph_has_the_copies() {
        assert_eq!(most("thalweg bench m.onnx --streams 2"), 6);
        assert_eq!(most("thalweg bench m.onnx --streams 9 --cuda-graph compute"), 27);
        assert_eq!(most("thalweg bench m.onnx --streams 9 --cuda-graph copies"), 9);
        assert_eq!(most("thalweg diagnose m.onnx"), 6);
        assert_eq!(most("thalweg diagnose m.onnx --streams 4 --cuda-graph copies"), 24);
        assert_eq!(most("thalweg tune m.onnx"), 24);
        assert_eq!(most("thalweg tune m.onnx --streams 1,4,2 --cuda-graph copies"), 4);
        assert_eq!(most("thalweg tune m.onnx --streams 1,4,2 --cuda-graph copies,off"), 12);
    }

    #[test]
    fn what_runs_nothing_on_a_gpu_needs_none() {
        assert_eq!(most("thalweg bench m.onnx --streams 9 --backend cpu"), 0);
        assert_eq!(most("thalweg tune m.onnx --backend simulated:h100"), 0);
        assert_eq!(most("thalweg doctor"), 0);
        assert_eq!(most("thalweg bench --tuned nothing-here.json"), 0);
    }
}
