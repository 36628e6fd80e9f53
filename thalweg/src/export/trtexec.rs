//! The nearest command line of `trtexec`, TensorRT's own benchmark.

use std::fmt::Write as _;

use super::{ENGINE_FILE, origin, sizes, wants_queues};
use crate::backend::work_queues::{DEFAULT, MOST, VARIABLE};
use crate::backend::{CudaGraph, Transfers, Wait};
use crate::model::Signature;
use crate::tune::TunedConfig;

pub(super) fn command(tuned: &TunedConfig, signature: &Signature) -> String {
    let configuration = &tuned.configuration;
    let shapes = signature
        .inputs
        .iter()
        .map(|input| format!("{}:{}", input.name, sizes(&input.shape_at(configuration.batch_size), "x")));
    let mut words = vec![
        format!("--loadEngine={ENGINE_FILE}"),
        quoted(&format!("--shapes={}", shapes.collect::<Vec<_>>().join(","))),
        format!("--infStreams={}", configuration.streams),
    ];
    let switches = [
        (configuration.cuda_graph != CudaGraph::Off, "--useCudaGraph"),
        (configuration.wait == Wait::Spin, "--useSpinWait"),
        (configuration.submitters > 1, "--threads"),
        (configuration.transfers == Transfers::Off, "--noDataTransfers"),
    ];
    words.extend(switches.into_iter().filter(|(is_on, _)| *is_on).map(|(_, switch)| switch.to_owned()));
    let mut text = format!("#!/bin/sh\n{}#\n", origin(tuned, "#"));
    for remark in remarks(tuned) {
        let _ = writeln!(text, "# {remark}");
    }
    if wants_queues(tuned, None) {
        let _ = writeln!(text, "export {VARIABLE}=\"${{{VARIABLE}:-{MOST}}}\"");
    }
    text + "exec trtexec " + &words.join(" \\\n  ") + " \"$@\"\n"
}

/// What trtexec does otherwise.
fn remarks(tuned: &TunedConfig) -> Vec<String> {
    let configuration = &tuned.configuration;
    let mut remarks = vec![
        "Its throughput counts queries of a whole batch; multiply it by the batch size.".to_owned(),
        "It sends one set of buffers again and again, so nobody fills inputs and its results cannot be used."
            .to_owned(),
    ];
    if configuration.depth != 2 {
        remarks.push(format!(
            "It keeps two executions of each stream in flight; the tuned depth of {} has no option.",
            configuration.depth
        ));
    }
    if wants_queues(tuned, None) {
        remarks.push(format!(
            "Its streams may wait for each other in CUDA's own {DEFAULT} queues, so it gets as many as there can be."
        ));
    }
    if configuration.cuda_graph == CudaGraph::Copies {
        remarks.push("Its graph has the computation only; the tuned one has the copies too.".to_owned());
    }
    if let Some(lanes) = configuration.copy_lanes {
        remarks.push(format!(
            "Each of its streams has copy streams of its own; the tuned {lanes} that all share have no option."
        ));
    }
    if configuration.submitters > 1 {
        remarks.push(format!(
            "--threads is one thread for each stream; tuned were {} for {} streams.",
            configuration.submitters, configuration.streams
        ));
    }
    if configuration.wait == Wait::Hybrid {
        remarks.push("Asking for a while and then sleeping has no option; it sleeps.".to_owned());
    }
    remarks
}

/// For a POSIX shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
