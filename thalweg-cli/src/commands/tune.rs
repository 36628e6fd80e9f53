//! `thalweg tune`: the search, its files, and what to do next.

use thalweg::backend;
use thalweg::engine::MaxBatch;
use thalweg::export::export;
use thalweg::files::OutputFolder;
use thalweg::measure::{Workload, WorkloadSpec};
use thalweg::model::Model;
use thalweg::report;
use thalweg::tune::journal::Journal;
use thalweg::tune::{Earlier, Limits, Policy, Space, TuneJob, TuneOutcome, TunedConfig};

use super::{build_options, cache, file, gigabytes, input_shapes, milliseconds, surroundings_of};
use crate::args::TuneArgs;
use crate::output::Output;
use crate::progress::{Bar, Interrupts};
use crate::values::Counts;

/// Largest batch that is tried where the user names none: above it, latency grows and throughput on the
/// devices seen so far does not.
const LARGEST_BATCH: usize = 16;

pub fn run(args: &TuneArgs, output: &Output) -> anyhow::Result<()> {
    let folder = OutputFolder::claim(&args.out)?;
    if !args.resume {
        Journal::check_absent(&folder)?;
    }
    let interrupts = Interrupts::catch()?;
    let backend = backend::open(&args.workload.backend, &surroundings_of(&args.workload))?;
    let model = Model::read(&args.model)?;
    let (bar, watch) = interrupts.watch(model.name(), output);
    let spec = WorkloadSpec {
        input_shapes: input_shapes(&args.workload.shapes),
        max_batch: max_batch(&args.batch),
        options: build_options(&args.workload.builder),
        calibrate: args.workload.builder.calibrate.clone(),
        cache: cache(&args.workload.cache, backend.as_ref(), output)?,
        watch: Some(watch),
        input: args.workload.input.clone(),
        seed: args.workload.seed,
        feeding: args.workload.feed,
    };
    let workload = Workload::prepare(backend.as_ref(), &model, &spec);
    bar.clear();
    let workload = workload?;
    let bar = Bar::over(args.time, output);
    let job = job(args, &workload, folder);
    let outcome = thalweg::tune::tune(&job, &workload, &interrupts.stop, &mut |progress| bar.show(&progress));
    bar.clear();
    show(&outcome?, &job.folder, args, output)
}

fn max_batch(batches: &Counts) -> MaxBatch {
    match batches {
        Counts::Auto => MaxBatch::UpTo(LARGEST_BATCH),
        Counts::These(batches) => MaxBatch::Exactly(batches.iter().copied().max().unwrap_or(1)),
    }
}

fn job(args: &TuneArgs, workload: &Workload, folder: OutputFolder) -> TuneJob {
    let signature = workload.engine.signature().clone();
    let limits = Limits { p99: args.p99_ms.map(milliseconds), memory_bytes: args.memory_gb.map(gigabytes) };
    TuneJob {
        model: workload.model.clone(),
        device: workload.device.clone(),
        space: space(args, Space::for_device(&workload.device, &signature).under(&limits)),
        signature,
        limits,
        samples_per_request: args.request_samples,
        budget: args.time,
        sample_time: Some(workload.reference.sample_time()),
        policy: Policy { seed: args.workload.seed, ..Policy::default() },
        folder,
        earlier: if args.resume { Earlier::Resume } else { Earlier::Refuse },
    }
}

/// The device's own space, with the user's lists in place of the tuner's.
fn space(args: &TuneArgs, mut space: Space) -> Space {
    let lists = [
        (&args.streams, &mut space.streams),
        (&args.batch, &mut space.batch_sizes),
        (&args.depth, &mut space.depths),
        (&args.submitters, &mut space.submitters),
        (&args.threads_per_stream, &mut space.threads_per_stream),
    ];
    for (asked, values) in lists {
        if let Counts::These(counts) = asked {
            values.clone_from(counts);
        }
    }
    if !args.cuda_graph.is_empty() {
        space.cuda_graphs.clone_from(&args.cuda_graph);
    }
    if !args.batching_delay_ms.is_empty() {
        space.batching_delays = args.batching_delay_ms.iter().copied().map(milliseconds).collect();
    }
    space
}

fn show(
    outcome: &TuneOutcome,
    folder: &OutputFolder,
    args: &TuneArgs,
    output: &Output,
) -> anyhow::Result<()> {
    let mut written = vec![file::OUTCOME, file::REPORT];
    folder.write(file::OUTCOME, &serde_json::to_vec(outcome)?)?;
    folder.write(file::REPORT, report::html_of_tuning(outcome)?.as_bytes())?;
    if let Some(confirmation) = &outcome.confirmation {
        folder.write(file::TRACE, report::trace(&confirmation.records).as_bytes())?;
        written.push(file::TRACE);
    }
    let tuned = TunedConfig::of(outcome);
    if let Some(tuned) = &tuned {
        tuned.write(&folder.path().join(file::TUNED))?;
        written.push(file::TUNED);
        for format in &args.export {
            folder.write(format.file_name(), export(tuned, *format)?.as_bytes())?;
            written.push(format.file_name());
        }
    }
    output.result(|| serde_json::to_value(outcome), |style| report::text_of_tuning(outcome, style))?;
    output.written(folder.path(), &written);
    if tuned.is_some() {
        let tuned = args.out.join(file::TUNED);
        output.note(&format!("next: thalweg bench --tuned {}", tuned.display()));
    }
    Ok(())
}
