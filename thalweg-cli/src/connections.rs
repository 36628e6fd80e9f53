//! CUDA's work queues: as many as the streams of a command need, before CUDA starts.
//!
//! A program without `unsafe` cannot change its own environment, so where more are needed the program starts itself again,
//! as the same process, with the variable set. What the user has set stays.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process;

use thalweg::backend::CudaGraph;
use thalweg::backend::work_queues::{self, DEFAULT, MOST, VARIABLE};
use thalweg::tune::TunedConfig;

use crate::args::{BuilderArgs, Command, RunArgs, TuneArgs};
use crate::output::Output;
use crate::values::{CopyLanes, Counts};

/// What is set, as text.
pub fn setting() -> Option<String> {
    env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned())
}

/// Starts the program again with more queues, if the command may need them and nobody has set their number.
/// It returns where it need not, or cannot.
pub fn raise_if_needed(command: &Command, output: &Output) {
    if env::var_os(VARIABLE).is_some() || most_queues(command) <= DEFAULT {
        return;
    }
    let mut words = env::args_os();
    let name = words.next().unwrap_or_default();
    let error = match env::current_exe() {
        Ok(program) => {
            process::Command::new(program).arg0(name).args(words).env(VARIABLE, MOST.to_string()).exec()
        }
        Err(error) => error,
    };
    output.warning(&format!(
        "{VARIABLE} could not be raised to {MOST} ({error}): streams may wait for each other; set it yourself"
    ));
}

/// The most queues that what a command runs can use at once; 0 where it runs nothing on a GPU.
fn most_queues(command: &Command) -> usize {
    match command {
        Command::Bench(args) if may_be_a_gpu(&args.run.workload.backend) => {
            let own = of_run(&args.run).queues();
            own.saturating_add(args.beside.as_deref().map_or(0, |path| of_tuned(path).queues()))
        }
        // It tries twice the streams, and other kinds of graph.
        Command::Diagnose(args) if may_be_a_gpu(&args.run.workload.backend) => {
            let shape = of_run(&args.run);
            let streams = shape.streams.saturating_mul(2);
            Shape { streams, ..shape }.queues()
        }
        Command::Tune(args) if may_be_a_gpu(&args.workload.backend) => of_tune(args),
        _ => 0,
    }
}

/// `auto` takes a GPU where there is one. To find out costs more than to start again for nothing.
fn may_be_a_gpu(backend: &str) -> bool {
    matches!(backend, "auto" | "tensorrt")
}

/// What decides how many queues a configuration can use.
#[derive(Clone, Copy)]
struct Shape {
    streams: usize,
    copy_lanes: Option<usize>,
    aux_streams: usize,
}

impl Shape {
    fn queues(self) -> usize {
        work_queues::needed(self.streams, self.copy_lanes, self.aux_streams)
    }
}

fn of_run(args: &RunArgs) -> Shape {
    let RunArgs { streams, copy_lanes, .. } = *args;
    let aux_streams = most_aux_streams(&args.workload.builder);
    match args.tuned.as_deref() {
        Some(path) => {
            let tuned = of_tuned(path);
            Shape { aux_streams: aux_streams.max(tuned.aux_streams), ..tuned }
        }
        None => Shape { streams, copy_lanes, aux_streams },
    }
}

fn of_tuned(path: &Path) -> Shape {
    // A file that cannot be read is refused later, with the reason.
    let Ok(tuned) = TunedConfig::read(path) else {
        return Shape { streams: 0, copy_lanes: None, aux_streams: 0 };
    };
    let (streams, copy_lanes) = (tuned.configuration.streams, tuned.configuration.copy_lanes);
    Shape { streams, copy_lanes, aux_streams: tuned.aux_streams() }
}

/// The most of those that the builder is asked to try.
fn most_aux_streams(args: &BuilderArgs) -> usize {
    args.aux_streams.iter().copied().max().unwrap_or(0).into()
}

fn of_tune(args: &TuneArgs) -> usize {
    // Where nobody names numbers of streams the tuner tries up to 32, for which there are never enough.
    let streams = match &args.streams {
        Counts::Auto => DEFAULT,
        Counts::These(counts) => counts.iter().copied().max().unwrap_or(0),
    };
    let has_copies_in_graphs = args.cuda_graph.is_empty() || args.cuda_graph.contains(&CudaGraph::Copies);
    let has_own_lanes = args.copy_lanes.is_empty() || has_copies_in_graphs;
    let lanes = args.copy_lanes.iter().copied().chain(has_own_lanes.then_some(CopyLanes(None)));
    let aux_streams = most_aux_streams(&args.workload.builder);
    let shapes = lanes.map(|lanes| Shape { streams, copy_lanes: lanes.0, aux_streams });
    shapes.map(Shape::queues).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    fn most(line: &str) -> usize {
        most_queues(&Cli::parse_from(line.split_whitespace()).command)
    }

    #[test]
    fn each_stream_wants_three_queues() {
        assert_eq!(most("thalweg bench m.onnx --streams 2"), 6);
        assert_eq!(most("thalweg bench m.onnx --streams 9 --cuda-graph compute"), 27);
        assert_eq!(most("thalweg bench m.onnx --streams 9 --cuda-graph copies"), 27);
        assert_eq!(most("thalweg diagnose m.onnx"), 6);
        assert_eq!(most("thalweg diagnose m.onnx --streams 4 --cuda-graph copies"), 24);
        assert_eq!(most("thalweg tune m.onnx"), 24);
        assert_eq!(most("thalweg tune m.onnx --streams 1,2 --cuda-graph copies"), 6);
        assert_eq!(most("thalweg tune m.onnx --streams 1,4,2 --cuda-graph copies,off"), 12);
    }

    #[test]
    fn streams_that_share_copy_lanes_have_one_each_and_two_for_a_lane() {
        assert_eq!(most("thalweg bench m.onnx --streams 6 --copy-lanes 1"), 8);
        assert_eq!(most("thalweg diagnose m.onnx --streams 3 --copy-lanes 1"), 8);
        assert_eq!(most("thalweg tune m.onnx --copy-lanes 1,2 --cuda-graph compute"), 12);
        assert_eq!(most("thalweg tune m.onnx --copy-lanes 1,2"), 24, "graphs of copies share none");
        assert_eq!(most("thalweg tune m.onnx --copy-lanes own,2"), 24);
    }

    #[test]
    fn each_execution_has_its_auxiliary_streams_besides() {
        assert_eq!(most("thalweg bench m.onnx --streams 2 --aux-streams 2"), 10);
        assert_eq!(most("thalweg tune m.onnx --streams 2 --cuda-graph copies --aux-streams 0,3"), 12);
    }

    #[test]
    fn what_runs_nothing_on_a_gpu_needs_none() {
        assert_eq!(most("thalweg bench m.onnx --streams 9 --backend cpu"), 0);
        assert_eq!(most("thalweg tune m.onnx --backend simulated:h100"), 0);
        assert_eq!(most("thalweg doctor"), 0);
        assert_eq!(most("thalweg bench --tuned nothing-here.json"), 0);
    }
}
