//! `thalweg bench`: one configuration, measured.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use thalweg::Error;
use thalweg::backend::{
    self, Backend, BuildOptions, CounterChoice, DeviceSpec, Engine, Precision, Transfers,
};
use thalweg::capacity::PaperWorkload;
use thalweg::diagnose::EngineVariant;
use thalweg::engine::{EngineSource, MaxBatch};
use thalweg::files::OutputFolder;
use thalweg::measure::{
    self, Arrival, Feeding, Load, Measurement, Neighbour, Pacing, Workload, WorkloadSpec, measure_what_fits,
};
use thalweg::pool::Configuration;
use thalweg::report;
use thalweg::tune::{TunedConfig, saturating_load};
use thalweg::units::Bytes;

use super::network::{Network, model_of};
use super::variant::Variant;
use super::{
    cache, check_precision, file, flag, input_shapes, milliseconds, own_input_type, surroundings_of,
};
use crate::args::{BenchArgs, LoadArgs, RunArgs, Spacing};
use crate::output::Output;
use crate::progress::{Bar, Interrupts};

/// Windows that a measurement has at most; its time is divided by this.
const WINDOWS: u32 = 10;

pub fn run(args: &BenchArgs, output: &Output) -> anyhow::Result<()> {
    let folder = args.out.as_deref().map(OutputFolder::claim).transpose()?;
    let interrupts = Interrupts::catch()?;
    let bench = Bench::open(&args.run, CounterChoice::Gpm, output)?;
    let Bench { tuned, configuration, .. } = &bench;
    let workload = bench.prepare(MaxBatch::Exactly(configuration.batch_size), &interrupts, output)?;
    if let Some(path) = &args.save_outputs {
        workload.reference.write(path, workload.engine.signature())?;
    }
    note_memory(&workload, configuration, output)?;
    if args.overhead {
        return show_overhead(&bench, &workload, &interrupts, output);
    }
    if let Some(beside) = &args.beside {
        return show_neighbours(&bench, &workload, beside, &interrupts, output);
    }
    let load = |configuration: &Configuration| load(&args.run.load, tuned.as_ref(), configuration);
    let bar = Bar::spin(format!("measuring {configuration}"), output);
    let measurement =
        measure_what_fits(&workload, *configuration, &load, pacing(&args.run), &interrupts.stop);
    bar.clear();
    let measurement = measurement?;
    show(&measurement, args, folder.as_ref(), output)?;
    Ok(measurement.check_streams()?)
}

/// Turns of `--overhead`: CPU times differ by a third from one to the next, so they are judged by ranks.
const OVERHEAD_TURNS: usize = 15;

/// Turns of `--beside`: the fewest that give an interval.
const BESIDE_TURNS: usize = 3;

/// What the pool costs; the time of a run is that of all its turns.
fn show_overhead(
    bench: &Bench<'_>,
    workload: &Workload,
    interrupts: &Interrupts,
    output: &Output,
) -> anyhow::Result<()> {
    let what = (bench.configuration, bench.load());
    let bar = Bar::spin(format!("measuring {} beside a bare loop", bench.configuration), output);
    let overhead =
        measure::overhead(workload, what, bench.part(OVERHEAD_TURNS), OVERHEAD_TURNS, &interrupts.stop);
    bar.clear();
    let overhead = overhead?;
    output.result(|| serde_json::to_value(&overhead), |style| report::text_of_overhead(&overhead, style))
}

/// This configuration and another one on the same device.
fn show_neighbours(
    bench: &Bench<'_>,
    workload: &Workload,
    beside: &Path,
    interrupts: &Interrupts,
    output: &Output,
) -> anyhow::Result<()> {
    let tuned = TunedConfig::read(beside)?;
    let network = Network::of_tuned(&tuned, None)?;
    let max_batch = MaxBatch::Exactly(tuned.configuration.batch_size);
    let spec = WorkloadSpec { input: None, ..bench.spec(Some(&tuned), max_batch, output)? };
    let other = network.prepare(bench.backend.as_ref(), &spec)?;
    let pools = [
        Neighbour { workload, configuration: bench.configuration, load: bench.load() },
        Neighbour { workload: &other, configuration: tuned.configuration, load: tuned.load },
    ];
    let bar = Bar::spin("measuring each alone and both at once".to_owned(), output);
    let neighbours = measure::neighbours(pools, bench.part(BESIDE_TURNS), BESIDE_TURNS, &interrupts.stop);
    bar.clear();
    let neighbours = neighbours?;
    output
        .result(|| serde_json::to_value(&neighbours), |style| report::text_of_neighbours(&neighbours, style))
}

/// Why nothing is known of a network, and nothing else is built.
pub(super) const NO_MODEL: &str = "the engine came without its model";

/// One configuration of one network on one device, before anything is built.
pub(super) struct Bench<'a> {
    args: &'a RunArgs,
    pub tuned: Option<TunedConfig>,
    network: Network,
    pub backend: Box<dyn Backend>,
    pub configuration: Configuration,
}

impl<'a> Bench<'a> {
    /// `counters` are read where nobody says which.
    pub fn open(args: &'a RunArgs, counters: CounterChoice, output: &Output) -> anyhow::Result<Self> {
        let tuned = args.tuned.as_deref().map(TunedConfig::read).transpose()?;
        let network = match (&tuned, &args.model) {
            (Some(tuned), model) => Network::of_tuned(tuned, model.as_deref())?,
            (None, Some(model)) => {
                Network::Model(model_of(model, &args.workload, &[args.batch], &[], output)?)
            }
            (None, None) => Network::engine(args.engine.as_deref().context("no model was named")?)?,
        };
        let name = network.backend(&args.workload.backend);
        let backend = backend::open(name, &surroundings_of(&args.workload, counters))?;
        check_precision(&args.workload.builder, backend.device())?;
        for difference in tuned.iter().flat_map(|tuned| tuned.differences(backend.device())) {
            output.warning(&difference);
        }
        let configuration = match &tuned {
            Some(TunedConfig { configuration, .. }) => Configuration {
                stage_times: args.stage_times.unwrap_or(configuration.stage_times),
                ..*configuration
            },
            // Only where the cores compute do streams share them.
            None if backend.device().is_host() => configuration(args, backend.device().core_count),
            None => configuration(args, 1),
        };
        let configuration = with_partial_batches(configuration, args, tuned.as_ref(), backend.device())?;
        check_feeding(args.workload.feed, &configuration)?;
        Ok(Self { args, tuned, network, backend, configuration })
    }

    /// Builds the engine, or takes it from the cache, and gets samples for it.
    pub fn prepare(
        &self,
        max_batch: MaxBatch,
        interrupts: &Interrupts,
        output: &Output,
    ) -> anyhow::Result<Workload> {
        self.prepare_variant(EngineVariant::default(), max_batch, interrupts, output)
    }

    /// The same of another engine than the one that was asked for, to see what that would gain.
    pub fn prepare_variant(
        &self,
        variant: EngineVariant,
        max_batch: MaxBatch,
        interrupts: &Interrupts,
        output: &Output,
    ) -> anyhow::Result<Workload> {
        let mut spec = self.spec(self.tuned.as_ref(), max_batch, output)?;
        if let Some(precision) = variant.precision {
            let has_ranges = spec.calibrate.is_some() || self.backend.build_identity().is_none();
            ensure!(
                precision != Precision::Int8 || has_ranges,
                "the ranges of int8 need samples: --calibrate"
            );
            spec.options.precision = precision;
        }
        let retyped = variant.input_type.map(|to| self.network.with_inputs(to)).transpose()?;
        if retyped.is_some() {
            // Samples of a file have the type that the inputs had; what is in them makes nothing faster.
            spec.input = None;
        }
        let network = retyped.as_ref().unwrap_or(&self.network);
        let (bar, watch) = interrupts.watch(&network.name(), output);
        spec.watch = Some(watch);
        let workload = network.prepare(self.backend.as_ref(), &spec);
        bar.clear();
        Ok(workload?)
    }

    /// What to prepare: the engine that was tuned, or what the command line asks for.
    fn spec(
        &self,
        tuned: Option<&TunedConfig>,
        max_batch: MaxBatch,
        output: &Output,
    ) -> anyhow::Result<WorkloadSpec> {
        let args = &self.args.workload;
        let max_batch = Variant::only(&args.builder)?.max_batch(max_batch);
        let (max_batch, options) = engine_as_tuned(tuned, max_batch, self.asked()?)?;
        Ok(WorkloadSpec {
            input_shapes: match tuned {
                Some(tuned) => tuned.model.input_shapes.clone(),
                None => input_shapes(&args.shapes),
            },
            max_batch,
            options,
            calibrate: args.builder.calibrate.clone(),
            cache: cache(&args.cache, self.backend.as_ref(), output)?,
            watch: None,
            input: args.input.clone(),
            seed: args.seed,
            feeding: args.feed,
        })
    }

    /// How long each of the three parts of a turn is measured, so that so many turns take the time of a run beside their
    /// warm-ups.
    fn part(&self, turns: usize) -> Duration {
        self.args.duration.div_f64((3 * turns) as f64)
    }

    /// What the command line lets the builder do.
    fn asked(&self) -> anyhow::Result<BuildOptions> {
        let builder = &self.args.workload.builder;
        let variant = Variant::only(builder)?;
        Ok(variant.options(builder, flag(variant.target)?))
    }

    /// The load that was asked for.
    pub fn load(&self) -> Load {
        load(&self.args.load, self.tuned.as_ref(), &self.configuration)
    }

    /// What the network computes and moves in this engine, or why that is not known.
    pub fn cost(&self, engine: &dyn Engine) -> Result<PaperWorkload, String> {
        let Network::Model(model) = &self.network else { return Err(NO_MODEL.to_owned()) };
        let args = &self.args.workload;
        let shapes = match &self.tuned {
            Some(tuned) => tuned.model.input_shapes.clone(),
            None => input_shapes(&args.shapes),
        };
        let asked = match self.tuned.as_ref().and_then(|tuned| tuned.engine.as_ref()) {
            Some(EngineSource::Built(spec)) => spec.options.precision,
            _ => self.asked().map_err(|error| error.to_string())?.precision,
        };
        // A simulated device has kernels of one precision, whatever is asked for.
        let precision = engine.precision().unwrap_or(asked);
        let types = (own_input_type(model), precision);
        let cost = PaperWorkload::of(model, &shapes, self.configuration.batch_size, types);
        cost.map_err(|error| error.to_string())
    }

    /// Whether other engines can be built.
    pub fn has_model(&self) -> bool {
        matches!(self.network, Network::Model(..))
    }

    /// Whether an engine for a larger batch can be built: not where it was built elsewhere, nor where the user says which
    /// batches it runs.
    pub fn may_grow(&self) -> bool {
        self.has_model() && self.args.workload.builder.batch_range.is_empty()
    }
}

/// Largest batch and options of the engine that was tuned, which the cache has; otherwise what was asked for.
fn engine_as_tuned(
    tuned: Option<&TunedConfig>,
    max_batch: MaxBatch,
    asked: BuildOptions,
) -> anyhow::Result<(MaxBatch, BuildOptions)> {
    let engine = tuned.and_then(|tuned| tuned.engine.as_ref());
    let Some(EngineSource::Built(spec)) = engine else { return Ok((max_batch, asked)) };
    let is_as_tuned = asked == spec.options || asked == BuildOptions::default();
    anyhow::ensure!(is_as_tuned, "it was tuned with other options of the builder: leave them out");
    // Whoever wants a larger one gets it.
    let max_batch = match max_batch {
        MaxBatch::Exactly(batch) => MaxBatch::Exactly(batch.max(spec.max_batch_size)),
        MaxBatch::UpTo(batch) => MaxBatch::UpTo(batch.max(spec.max_batch_size)),
    };
    Ok((max_batch, spec.options.clone()))
}

/// Tells the device memory that the streams will take. A simulated device's is nothing to run out of.
fn note_memory(workload: &Workload, configuration: &Configuration, output: &Output) -> anyhow::Result<()> {
    if workload.device.is_simulated() {
        return Ok(());
    }
    if let Some(memory) = configuration.memory(workload.engine.as_ref())? {
        output.note(&format!(
            "device memory: {} of weights and {} x {} (activations and slots); at most {} streams fit",
            Bytes(memory.weights_bytes),
            configuration.streams,
            Bytes(memory.executor_bytes()),
            memory.largest_executor_count()
        ));
    }
    Ok(())
}

fn configuration(args: &RunArgs, core_count: usize) -> Configuration {
    let share = (core_count / args.streams.max(1)).max(1);
    Configuration {
        streams: args.streams,
        batch_size: args.batch,
        smallest_batch: None,
        depth: args.depth,
        submitters: args.submitters,
        threads_per_stream: args.threads_per_stream.unwrap_or(share),
        cuda_graph: args.cuda_graph,
        copy_lanes: args.copy_lanes,
        wait: args.wait,
        transfers: args.transfers,
        stage_times: args.stage_times.unwrap_or_default(),
        batching_delay: milliseconds(args.batching_delay_ms),
        fault: args.plant_fault,
    }
}

/// Executions for slots that requests leave open, as far down as the user says, as it was tuned, or as the requests are
/// small. Cores run any number of samples.
fn with_partial_batches(
    configuration: Configuration,
    args: &RunArgs,
    tuned: Option<&TunedConfig>,
    device: &DeviceSpec,
) -> thalweg::Result<Configuration> {
    let tuned = tuned.map(|tuned| tuned.load.samples_per_request);
    match (args.smallest_batch, args.load.request_samples) {
        (Some(smallest), _) => configuration.with_smallest_batch(smallest, device),
        (None, Some(samples)) if !device.is_host() && tuned != Some(samples) => {
            Ok(configuration.for_requests_of(samples))
        }
        (None, _) => Ok(configuration),
    }
}

/// Without transfers a slot keeps its first inputs, so nothing else may be asked of it.
fn check_feeding(asked: Option<Feeding>, configuration: &Configuration) -> thalweg::Result<()> {
    match (configuration.transfers, asked) {
        (Transfers::Off, Some(Feeding::Copy { threads })) => Err(Error::InvalidSetting {
            name: "feed",
            value: threads.to_string(),
            reason: "with --transfers off a slot keeps the inputs that it had first: use resident".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Requests as large as they were when the configuration was tuned, and as many as it takes to keep the
/// pool busy, unless the user says otherwise.
fn load(args: &LoadArgs, tuned: Option<&TunedConfig>, configuration: &Configuration) -> Load {
    let tuned = tuned.map(|tuned| tuned.load.samples_per_request);
    let saturating = saturating_load(configuration, args.request_samples.or(tuned));
    let arrival = match (args.rate, args.spacing, args.concurrency) {
        (Some(rate), Spacing::Poisson, _) => Arrival::PoissonRate(rate),
        (Some(rate), Spacing::Constant, _) => Arrival::ConstantRate(rate),
        (None, _, Some(concurrency)) => Arrival::Concurrency(concurrency),
        (None, _, None) => saturating.arrival,
    };
    Load { arrival, ..saturating }
}

pub(super) fn pacing(args: &RunArgs) -> Pacing {
    Pacing {
        warm_up: args.warm_up,
        window: args.duration / WINDOWS,
        max_windows: WINDOWS as usize,
        longest: Some(args.duration),
    }
}

fn show(
    measurement: &Measurement,
    args: &BenchArgs,
    folder: Option<&OutputFolder>,
    output: &Output,
) -> anyhow::Result<()> {
    if let Some(folder) = folder {
        folder.write(file::MEASUREMENT, &serde_json::to_vec(measurement)?)?;
        folder.write(file::REPORT, report::html_of_measurement(measurement)?.as_bytes())?;
        folder.write(file::TRACE, report::trace(&measurement.records).as_bytes())?;
        output.written(folder.path(), &[file::MEASUREMENT, file::REPORT, file::TRACE]);
    }
    output.result(
        || serde_json::to_value(Measurement { records: Vec::new(), ..measurement.clone() }),
        |style| {
            let definitions = args.explain.then(|| report::text_of_definitions(style));
            report::text_of_measurement(measurement, style) + &definitions.unwrap_or_default()
        },
    )
}
