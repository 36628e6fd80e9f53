//! `thalweg diagnose`: what limits one configuration, and whether what should help does.

use std::env;
use std::path::Path;

use thalweg::Error;
use thalweg::backend::{BuildSpec, CounterChoice, Precision, TimesTaken};
use thalweg::diagnose::{Case, Diagnosis, EngineVariant, Progress, ROUNDS, Rebuild, Setup};
use thalweg::engine::{EngineSource, MaxBatch};
use thalweg::export::builder_options;
use thalweg::files::OutputFolder;
use thalweg::measure::{Arrival, Feeding, Observing};
use thalweg::model::ModelIdentity;
use thalweg::pool::Configuration;
use thalweg::report;
use thalweg::tune::TunedConfig;

use super::bench::{Bench, NO_MODEL, pacing};
use super::{file, quoted};
use crate::args::DiagnoseArgs;
use crate::output::Output;
use crate::progress::{Bar, Interrupts};

/// Samples per execution that remedies ask for, as a multiple of what runs now.
const ROOM: usize = 4;

pub fn run(args: &DiagnoseArgs, output: &Output) -> anyhow::Result<()> {
    if args.run.stage_times == Some(TimesTaken::Some) {
        let reason = "a diagnosis rests on the times of each execution: leave it out".to_owned();
        return Err(Error::InvalidSetting {
            name: "stage-times",
            value: TimesTaken::Some.to_string(),
            reason,
        }
        .into());
    }
    let folder = args.out.as_deref().map(OutputFolder::claim).transpose()?;
    let interrupts = Interrupts::catch()?;
    // What PM sampling does to other work was never measured, so only who asks for reasons takes it unasked.
    let bench = Bench::open(&args.run, CounterChoice::Auto, output)?;
    let batch = bench.configuration.batch_size;
    // An engine's kernels are chosen for its largest batch, so where building takes time it is built for this one.
    let is_quick = bench.backend.build_identity().is_none();
    let max_batch = if is_quick { MaxBatch::UpTo(ROOM * batch) } else { MaxBatch::Exactly(batch) };
    let workload = bench.prepare(max_batch, &interrupts, output)?;
    let build = |variant: EngineVariant, batch: usize| {
        let what = if variant.is_given() { format!("batch {batch}") } else { variant.to_string() };
        output.note(&format!("building an engine for {what}, to try it"));
        let max_batch = if is_quick { MaxBatch::UpTo(ROOM * batch) } else { MaxBatch::Exactly(batch) };
        bench.prepare_variant(variant, max_batch, &interrupts, output).map_err(|error| format!("{error:#}"))
    };
    let rebuild = Rebuild { build: &build, may_grow: !is_quick && bench.may_grow() };
    let cost = bench.cost(workload.engine.as_ref());
    let case = Case {
        workload: &workload,
        setup: Setup::new(bench.configuration, workload.feeding, bench.load()),
        pacing: pacing(&args.run),
        tries: args.tries,
        rounds: ROUNDS,
        seed: args.run.workload.seed,
        model: cost.as_ref().map_err(String::as_str),
        recording: if args.no_kernels { Observing::Off } else { Observing::On },
        rebuild: if bench.has_model() { Ok(rebuild) } else { Err(NO_MODEL) },
    };
    let bar = Bar::spin(format!("measuring {}", bench.configuration), output);
    let diagnosis = thalweg::diagnose::diagnose(&case, &interrupts.stop, &mut |progress| {
        bar.say(&sentence(&progress));
    });
    bar.clear();
    let diagnosis = diagnosis?;
    show(&diagnosis, bench.tuned.as_ref(), args, folder.as_ref(), output)?;
    Ok(diagnosis.measurement.check_streams()?)
}

fn sentence(progress: &Progress<'_>) -> String {
    match progress {
        Progress::Measuring(setup) => format!("measuring {}", setup.configuration),
        Progress::Probing(setup) => format!("probing how full the device is: {}", setup.configuration),
        Progress::Trying(setup) => format!("trying {}", setup.configuration),
        Progress::Recording(setup) => format!("recording each kernel of {}", setup.configuration),
    }
}

fn show(
    diagnosis: &Diagnosis,
    tuned: Option<&TunedConfig>,
    args: &DiagnoseArgs,
    folder: Option<&OutputFolder>,
    output: &Output,
) -> anyhow::Result<()> {
    if let Some(folder) = folder {
        folder.write(file::DIAGNOSIS, &serde_json::to_vec(diagnosis)?)?;
        folder.write(file::REPORT, report::html_of_diagnosis(diagnosis)?.as_bytes())?;
        let mut written = vec![file::DIAGNOSIS, file::REPORT];
        match &diagnosis.window {
            Some(window) => {
                folder.write(file::TRACE, report::trace_of_window(window).as_bytes())?;
                written.push(file::TRACE);
            }
            // One of an earlier run would pass for this one's.
            None => folder.remove(file::TRACE)?,
        }
        output.written(folder.path(), &written);
    }
    output.result(|| serde_json::to_value(diagnosis), |style| report::text_of_diagnosis(diagnosis, style))?;
    if diagnosis.gained.is_some() {
        let origin = tuned.map(|tuned| Origin { tuned, is_moved: args.run.model.is_some() });
        output.note(&format!("next: {}", bench_command(env::args().skip(1), diagnosis, origin)));
    }
    Ok(())
}

/// Options of `diagnose` that a setup always replaces, or that `bench` does not have. All take a value.
const REPLACED: [&str; 15] = [
    "--streams",
    "--batch",
    "--smallest-batch",
    "--depth",
    "--submitters",
    "--cuda-graph",
    "--copy-lanes",
    "--wait",
    "--transfers",
    "--stage-times",
    "--batching-delay-ms",
    "--request-samples",
    "--tuned",
    "--try",
    "--out",
];

/// Options that say how requests come.
const LOAD: [&str; 3] = ["--concurrency", "--rate", "--spacing"];

/// Options about the engine's builder, which a tuned configuration has; all take a value.
const OF_BUILDER: [&str; 5] =
    ["--precision", "--optimization-level", "--workspace-mb", "--aux-streams", "--tactics"];

/// The same that take none.
const SWITCHES_OF_BUILDER: [&str; 2] = ["--exact-fp32", "--version-compatible"];

/// What was run, where a tuned configuration says it and the words do not.
#[derive(Clone, Copy)]
struct Origin<'a> {
    tuned: &'a TunedConfig,
    /// Whether the words name its model, which was moved.
    is_moved: bool,
}

impl Origin<'_> {
    /// How its engine was built, where that is known.
    fn built(&self) -> Option<&BuildSpec> {
        match self.tuned.engine.as_ref()? {
            EngineSource::Built(spec) => Some(spec),
            EngineSource::File(_) => None,
        }
    }

    /// The file of its engine, where nothing else is run.
    fn engine_file(&self) -> Option<&Path> {
        match &self.tuned.engine {
            Some(EngineSource::File(path)) if !self.is_moved => Some(path),
            _ => None,
        }
    }

    /// What to run, in front of the words, where they do not name it.
    fn network(&self, model: &ModelIdentity) -> Option<String> {
        match self.engine_file() {
            Some(path) => Some(format!("--engine {}", quoted(&path.display().to_string()))),
            None => (!self.is_moved).then(|| quoted(&model.path.display().to_string())),
        }
    }

    /// Shapes of the model's inputs; an engine in a file has its own.
    fn shapes(&self, model: &ModelIdentity) -> Vec<String> {
        if self.engine_file().is_some() {
            return Vec::new();
        }
        let shape = |(name, sizes): (&String, &Vec<usize>)| {
            let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
            quoted(&format!("--shape={name}={}", sizes.join("x")))
        };
        model.input_shapes.iter().map(shape).collect()
    }

    /// What makes `bench` build its engine, as it was for this setup.
    fn builder(&self, setup: &Setup) -> String {
        let Some(spec) = self.built() else { return String::new() };
        let (mut spec, batch) = (spec.clone(), setup.configuration.batch_size);
        spec.max_batch_size = spec.max_batch_size.max(batch);
        if spec.max_batch_size > batch {
            // Else `bench` builds it for the setup's batch alone.
            spec.options.least_batch_size.get_or_insert(1);
        }
        if setup.engine.precision.is_some() {
            spec.options.precision = Precision::Fp32;
        }
        builder_options(&spec)
    }
}

/// The command that runs what was gained: the words of this one, with the setup's options instead of their own, and
/// what a tuned configuration said.
fn bench_command(
    words: impl Iterator<Item = String>,
    diagnosis: &Diagnosis,
    origin: Option<Origin<'_>>,
) -> String {
    let before = &diagnosis.setup;
    let after = diagnosis.gained.as_ref().map_or(before, |gained| &gained.setup);
    let is_host = diagnosis.measurement.device.is_host();
    let is_built = origin.is_some_and(|origin| origin.built().is_some());
    let is_replaced = |name: &str| {
        REPLACED.contains(&name)
            || (LOAD.contains(&name) && (is_full(after) || after.load.arrival != before.load.arrival))
            || (name == "--feed" && after.feeding != before.feeding)
            || (name == "--precision" && after.engine.precision.is_some())
            // Samples of a file have the type that the inputs had.
            || (["--input-type", "--input"].contains(&name) && after.engine.input_type.is_some())
            || (name == "--threads-per-stream" && is_host)
            || (OF_BUILDER.contains(&name) && is_built)
    };
    let mut kept = Vec::new();
    let mut is_behind_command = false;
    let mut words = words.filter(|word| match word.as_str() {
        "--json" | "--quiet" | "-q" | "--no-kernels" => false,
        switch if SWITCHES_OF_BUILDER.contains(&switch) => !is_built,
        "diagnose" => std::mem::replace(&mut is_behind_command, true),
        _ => true,
    });
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some((name, _)) if is_replaced(name) => {}
            None if is_replaced(&word) => drop(words.next()),
            _ => kept.push(quoted(&word)),
        }
    }
    let model = &diagnosis.measurement.model;
    let network = origin.and_then(|origin| origin.network(model));
    let words: Vec<String> =
        network.into_iter().chain(kept).chain(origin.iter().flat_map(|it| it.shapes(model))).collect();
    let builder = origin.map(|origin| origin.builder(after)).unwrap_or_default();
    format!("thalweg bench {}{builder}{}", words.join(" "), options(before, after, is_host))
}

/// Whether the load keeps every slot supplied, as `bench` does where nobody says otherwise.
fn is_full(setup: &Setup) -> bool {
    let Configuration { streams, depth, batch_size, .. } = setup.configuration;
    let room = streams * depth * batch_size / setup.load.samples_per_request.max(1);
    matches!(setup.load.arrival, Arrival::Concurrency(count) if count >= room)
}

fn options(before: &Setup, after: &Setup, is_host: bool) -> String {
    let Setup { configuration, feeding, load, engine } = after;
    let default = Configuration::default();
    let mut text = format!(" --streams {} --batch {}", configuration.streams, configuration.batch_size);
    // On the host `bench` takes as many threads as there are cores for each stream, unless it is told.
    let threads_of_bench = if is_host { 0 } else { configuration.threads_per_stream };
    let counts = [
        ("depth", configuration.depth, default.depth),
        ("submitters", configuration.submitters, default.submitters),
        ("threads-per-stream", configuration.threads_per_stream, threads_of_bench),
        ("request-samples", load.samples_per_request, configuration.batch_size),
    ];
    for (name, count, default) in counts {
        if count != default {
            text += &format!(" --{name} {count}");
        }
    }
    // As `bench` chooses it by itself, where the size of requests is told.
    let by_requests = configuration.for_requests_of(load.samples_per_request);
    if configuration.smallest_batch != by_requests.smallest_batch.filter(|_| !is_host) {
        let smallest = configuration.smallest_batch.unwrap_or(configuration.batch_size);
        text += &format!(" --smallest-batch {smallest}");
    }
    if configuration.cuda_graph != default.cuda_graph {
        text += &format!(" --cuda-graph {}", configuration.cuda_graph);
    }
    if let Some(lanes) = configuration.copy_lanes {
        text += &format!(" --copy-lanes {lanes}");
    }
    if configuration.wait != default.wait {
        text += &format!(" --wait {}", configuration.wait);
    }
    if configuration.transfers != default.transfers {
        text += &format!(" --transfers {}", configuration.transfers);
    }
    if configuration.batching_delay != default.batching_delay {
        text += &format!(" --batching-delay-ms {}", configuration.batching_delay.as_millis());
    }
    if let (true, Feeding::Copy { threads }) = (*feeding != before.feeding, feeding) {
        text += &format!(" --feed {threads}");
    }
    text += &engine.precision.map(|it| format!(" --precision {it}")).unwrap_or_default();
    text + &engine.input_type.map(|it| format!(" --input-type {it}")).unwrap_or_default()
}
