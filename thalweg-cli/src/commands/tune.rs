//! `thalweg tune`: the search, its files, and what to do next.

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use thalweg::Error;
use thalweg::backend::{self, Backend, CounterChoice, DeviceSpec};
use thalweg::engine::MaxBatch;
use thalweg::export::{Format, check_device, export};
use thalweg::files::OutputFolder;
use thalweg::measure::{Workload, WorkloadSpec};
use thalweg::model::Model;
use thalweg::precision::{HalfType, Route};
use thalweg::report;
use thalweg::tune::journal::Journal;
use thalweg::tune::{Earlier, Limits, Policy, Space, TuneJob, TuneOutcome, TunedConfig};

use super::network::{Network, model_of};
use super::next::next;
use super::route::RouteQuestion;
use super::variant::Variant;
use super::{
    LOSSLESS, builds, cache, check_precision, file, flag, gigabytes, input_shapes, milliseconds,
    surroundings_of,
};
use crate::args::{Target, TuneArgs};
use crate::output::Output;
use crate::progress::{Bar, Interrupts};
use crate::values::{BatchRange, Counts};

/// Largest batch that is tried on cores where the user names none: above it, latency grows and throughput does not.
const LARGEST_BATCH_OF_CORES: usize = 16;

/// The same on a GPU. ResNet-50 on an H200 gains half from 8 to 32 and a fifth from there to 128 (docs/benchmarks.md).
const LARGEST_BATCH: usize = 128;

pub fn run(args: &TuneArgs, output: &Output) -> anyhow::Result<()> {
    let folder = OutputFolder::claim(&args.out)?;
    let variants = Variant::all(&args.workload.builder);
    builds::check_conversion(args, &variants)?;
    let engine = args.engine.as_deref().map(Network::engine).transpose()?;
    let asked = args.workload.backend.as_str();
    let name = engine.as_ref().map_or(asked, |engine| engine.backend(asked));
    let backend = backend::open(name, &surroundings_of(&args.workload, CounterChoice::Gpm))?;
    let backend = backend.as_ref();
    args.export.iter().try_for_each(|format| check_device(backend.device(), *format))?;
    check_precision(&args.workload.builder, backend.device())?;
    let is_auto = variants.iter().all(|variant| variant.target == Target::Auto);
    ensure!(!backend.device().is_simulated() || args.max_loss.is_empty() || is_auto, "{LOSSLESS}");
    let variant = match &variants[..] {
        [variant] if !is_compared(args, variant.target, backend)? => variant,
        _ => return builds::run(args, &variants, &folder, backend, output),
    };
    ensure!(
        args.build_time.is_none(),
        "--build-time is for several engines: the only one is built in any case"
    );
    if !args.resume {
        Journal::check_absent(&folder)?;
    }
    let interrupts = Interrupts::catch()?;
    let network = match engine {
        Some(engine) => engine,
        None => Network::Model(model(args, &folder, output)?),
    };
    let (bar, watch) = interrupts.watch(&network.name(), output);
    let spec = WorkloadSpec {
        options: variant.options(&args.workload.builder, flag(variant.target)?),
        calibrate: args.workload.builder.calibrate.clone(),
        cache: cache(&args.workload.cache, backend, output)?,
        watch: Some(watch),
        ..spec(args, variant, backend.device())
    };
    let workload = network.prepare(backend, &spec);
    bar.clear();
    let workload = workload?;
    let bar = Bar::over(args.time, output);
    let job = job(args, variant, &workload, folder, args.time);
    let outcome = thalweg::tune::tune(&job, &workload, &interrupts.stop, &mut |progress| bar.show(&progress));
    bar.clear();
    if outcome.as_ref().is_err_and(Error::is_device_lost) {
        output.note(&format!(
            "what was measured is kept in {}: the same command with --resume goes on from there",
            job.folder.path().display()
        ));
    }
    let mut outcome = outcome?;
    let mut swept = Ok(());
    if let (Some(slice), Some(winner)) = (args.sweep, outcome.winner)
        && !interrupts.stop.is_requested()
    {
        let choice = outcome.candidates[winner].configuration;
        let bar = Bar::spin(format!("measuring every candidate, to compare the best with {choice}"), output);
        let sweep = thalweg::tune::sweep(&job, &workload, choice, slice, &interrupts.stop);
        bar.clear();
        (outcome.sweep, swept) = match sweep {
            Ok(sweep) => (Some(sweep), Ok(())),
            Err(Error::Interrupted) => (None, Err(anyhow!("the search is done, the sweep was interrupted"))),
            Err(error) => (None, Err(anyhow!(error).context("the search is done, the sweep failed"))),
        };
    }
    // What was found is worth as much where nobody can say how close to the best it comes.
    show(&outcome, &job.folder, args, output)?;
    swept
}

/// Whether an engine is converted or compared with FP32 first, as several are.
fn is_compared(args: &TuneArgs, target: Target, backend: &dyn Backend) -> anyhow::Result<bool> {
    let says_how = args.selection.selection().is_given() || args.quantization.are_given();
    if says_how || !args.max_loss.is_empty() {
        return Ok(true);
    }
    match target {
        Target::Auto => Ok(true),
        Target::Half(HalfType::Bf16) => {
            let taken = RouteQuestion::of(target, backend).answer()?;
            Ok(taken.is_some_and(|taken| taken.route == Route::Onnx))
        }
        Target::Fp32 | Target::Half(HalfType::Fp16) | Target::Int8 => Ok(false),
    }
}

/// The model that is searched. One whose inputs are changed is written and read again, so that what is tuned is known by
/// the file that it can be run from.
pub(super) fn model(args: &TuneArgs, folder: &OutputFolder, output: &Output) -> anyhow::Result<Model> {
    let path = args.model.as_deref().context("no model was named")?;
    let batches = match &args.batch {
        Counts::Auto => &[][..],
        Counts::These(batches) => batches,
    };
    let model = model_of(path, &args.workload, batches, &args.max_loss, output)?;
    let Some(to) = args.workload.builder.inputs.input_type else { return Ok(model) };
    let path = folder.path().join(format!("{to}.onnx"));
    model.write(&path)?;
    Ok(Model::read(path)?)
}

/// What engines of this search are fed with and how large they are.
pub(super) fn spec(args: &TuneArgs, variant: &Variant, device: &DeviceSpec) -> WorkloadSpec {
    WorkloadSpec {
        input_shapes: input_shapes(&args.workload.shapes),
        max_batch: variant.max_batch(max_batch(&args.batch, device)),
        input: args.workload.input.clone(),
        seed: args.workload.seed,
        feeding: args.workload.feed,
        ..WorkloadSpec::default()
    }
}

fn max_batch(batches: &Counts, device: &DeviceSpec) -> MaxBatch {
    match batches {
        Counts::Auto if device.is_host() => MaxBatch::UpTo(LARGEST_BATCH_OF_CORES),
        Counts::Auto => MaxBatch::UpTo(LARGEST_BATCH),
        Counts::These(batches) => MaxBatch::Exactly(batches.iter().copied().max().unwrap_or(1)),
    }
}

/// The search for one engine.
pub(super) fn job(
    args: &TuneArgs,
    variant: &Variant,
    workload: &Workload,
    folder: OutputFolder,
    budget: Duration,
) -> TuneJob {
    // What a program is given that runs the winner, of a simulated device too.
    let signature = workload.engine.transferred().clone();
    let limits = Limits { p99: args.p99_ms.map(milliseconds), memory_bytes: args.memory_gb.map(gigabytes) };
    TuneJob {
        model: workload.model.clone(),
        engine: workload.source.clone(),
        device: workload.device.clone(),
        space: space(args, variant, Space::for_device(&workload.device, &signature).under(&limits)),
        signature,
        limits,
        samples_per_request: args.request_samples,
        feeding: workload.feeding,
        budget,
        sample_time: Some(workload.reference.sample_time()),
        policy: Policy { seed: args.workload.seed, ..Policy::default() },
        folder,
        earlier: if args.resume { Earlier::Resume } else { Earlier::Refuse },
    }
}

/// The device's own space, with the user's lists in place of the tuner's.
fn space(args: &TuneArgs, variant: &Variant, mut space: Space) -> Space {
    let lists = [
        (&args.streams, &mut space.streams),
        (&args.batch, &mut space.batch_sizes),
        (&args.depth, &mut space.depths),
        (&args.submitters, &mut space.submitters),
    ];
    for (asked, values) in lists {
        if let Counts::These(counts) = asked {
            values.clone_from(counts);
        }
    }
    space.smallest_batch = args.smallest_batch;
    if let Counts::These(threads) = &args.threads_per_stream {
        space = space.with_threads(threads.clone());
    }
    if let Some(BatchRange { least, most }) = variant.batch_range {
        space.batch_sizes.retain(|batch| (least..=most).contains(batch));
    }
    if !args.cuda_graph.is_empty() {
        space.cuda_graphs.clone_from(&args.cuda_graph);
    }
    if !args.copy_lanes.is_empty() {
        space.copy_lanes = args.copy_lanes.iter().map(|lanes| lanes.0).collect();
    }
    if !args.wait.is_empty() {
        space.waits.clone_from(&args.wait);
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
    let (tuned, written) = write(outcome, folder, &args.export)?;
    output.result(|| serde_json::to_value(outcome), |style| report::text_of_tuning(outcome, style))?;
    output.written(folder.path(), &written);
    let calibration = args.workload.builder.calibrate.as_deref();
    tuned.iter().flat_map(|tuned| next(args, tuned, calibration)).for_each(|line| output.note(&line));
    ensure!(
        tuned.is_some(),
        "nothing that was measured keeps the limits: there is no {} and no export",
        file::TUNED
    );
    Ok(())
}

/// The files of a search: what to deploy, and the names of all.
pub(super) fn write(
    outcome: &TuneOutcome,
    folder: &OutputFolder,
    formats: &[Format],
) -> anyhow::Result<(Option<TunedConfig>, Vec<&'static str>)> {
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
        for format in formats {
            folder.write(format.file_name(), export(tuned, *format)?.as_bytes())?;
            written.push(format.file_name());
        }
    }
    Ok((tuned, written))
}
