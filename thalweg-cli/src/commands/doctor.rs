//! `thalweg doctor`: what is here, what is missing, how to get it; and what an engine takes of it.

use std::path::Path;

use anyhow::Context as _;
use serde_json::json;
use thalweg::engine::StoredEngine;
use thalweg::pool::Configuration;
use thalweg::{backend, report};

use super::surroundings;
use crate::args::DoctorArgs;
use crate::connections;
use crate::output::Output;

pub fn run(args: &DoctorArgs, output: &Output) -> anyhow::Result<()> {
    if let Some(engine) = &args.engine {
        return show_memory(engine, args, output);
    }
    let mut examination = backend::examine(&surroundings(&args.gpu))?;
    examination.max_connections = connections::setting();
    output.result(
        || serde_json::to_value(&examination),
        |style| report::text_of_examination(&examination, style),
    )
}

fn show_memory(path: &Path, args: &DoctorArgs, output: &Output) -> anyhow::Result<()> {
    let stored = StoredEngine::read(path)?;
    let backend = backend::open(&stored.engine.backend, &surroundings(&args.gpu))?;
    let engine = backend.load(&stored.engine)?;
    let batch_size = args.batch.unwrap_or(*engine.signature().batch_sizes.end());
    let DoctorArgs { depth, smallest_batch, cuda_graph, .. } = *args;
    let configuration =
        Configuration { depth, batch_size, smallest_batch, cuda_graph, ..Configuration::default() };
    let memory = configuration.memory(engine.as_ref())?;
    let memory = memory.context("the engine takes memory of the host only")?;
    output.result(
        || {
            Ok(json!({
                "engine": path,
                "memory": memory,
                "executor_bytes": memory.executor_bytes(),
                "largest_stream_count": memory.largest_executor_count(),
            }))
        },
        |style| report::text_of_memory(&memory, style),
    )
}
