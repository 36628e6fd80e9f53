//! `thalweg tune` over several engines: each has a model, a build and a search of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use thalweg::Error;
use thalweg::backend::{Backend, BuildOptions, DataSheet};
use thalweg::files::OutputFolder;
use thalweg::measure::{Workload, WorkloadSpec};
use thalweg::model::Model;
use thalweg::precision::{self, Accuracy, Assessment, Boundary, Route, RouteTaken, SampleSource};
use thalweg::tune::{BuildBudget, BuildCandidate, BuildOutcome, Finalist, TunedConfig, race_builds};
use thalweg::units::Nanos;
use thalweg::{report, tune as search};

use super::lower::{Lower, first_line};
use super::next::next;
use super::route::{self, RouteQuestion, default_rest, needs_conversion};
use super::variant::Variant;
use super::{cache, file, input_shapes, tune};
use crate::args::{QuantizationArgs, Target, TuneArgs};
use crate::output::Output;
use crate::progress::{Bar, Interrupts};

/// The part of the time that the searches have; the winners need the rest to be measured in turns.
const PART_OF_SEARCHES: f64 = 0.85;

/// Whose data sheet `auto` weighs a node's time by where the device has none here.
const SHEET: &str = "h100";

/// Where a search does not continue, and is judged by nothing.
const WITHOUT_ONE: &str =
    "several engines, and one that is converted or compared with FP32, have theirs in folders of their own";

pub fn run(
    args: &TuneArgs,
    variants: &[Variant],
    folder: &OutputFolder,
    backend: &dyn Backend,
    output: &Output,
) -> anyhow::Result<()> {
    ensure!(args.sweep.is_none(), "--sweep judges one search: {WITHOUT_ONE}");
    ensure!(!args.resume, "--resume continues one search: {WITHOUT_ONE}");
    // What `report` would show instead of what comes out now.
    check_no_search(folder)?;
    let interrupts = Interrupts::catch()?;
    let session = Session { args, backend, interrupts: &interrupts, output, folder };
    let mut entrants = session.built(variants)?;
    let ready = entrants.iter().filter(|entrant| entrant.workload.is_some()).count();
    let time = args.time.mul_f64(PART_OF_SEARCHES / ready.max(1) as f64);
    let finals = args.time.mul_f64(1.0 - PART_OF_SEARCHES);
    let searched = session.search_each(&mut entrants, time);
    let ended = searched.and_then(|()| raced(&mut entrants, finals, args.workload.seed, &interrupts));
    let candidates = entrants.into_iter().map(|entrant| entrant.candidate).collect();
    let limits = args.max_loss.iter().map(ToString::to_string).collect();
    let outcome = BuildOutcome::of(limits, time, candidates);
    let shown = session.show(&outcome, variants);
    if ended.is_err() {
        output.note(&format!(
            "what the searches measured is kept in the engines' folders in {}: begin again with another --out",
            folder.path().display()
        ));
    }
    ended.and(shown)
}

/// Refuses what is asked of a conversion that no engine needs.
pub fn check_conversion(args: &TuneArgs, variants: &[Variant]) -> anyhow::Result<()> {
    let has = |is: fn(Target) -> bool| variants.iter().any(|variant| is(variant.target));
    ensure!(
        has(|target| target != Target::Fp32) || !args.selection.selection().is_given(),
        "--keep-f32 and --only are about a lower precision: add --precision"
    );
    ensure!(has(Target::has_int8) || !args.quantization.are_given(), QuantizationArgs::PURPOSE);
    Ok(())
}

/// Refuses a folder that has an earlier search, before anything is built.
fn check_no_search(folder: &OutputFolder) -> thalweg::Result<()> {
    search::journal::Journal::check_absent(folder).map_err(|error| match error {
        Error::EarlierJournal { path, .. } => {
            let reason = "over several engines no search is: choose another --out".to_owned();
            Error::Mismatch { path, reason }
        }
        other => other,
    })
}

/// One engine: what runs it, where it may, and what is known of it.
struct Entrant<'a> {
    variant: &'a Variant,
    /// Where its search leaves its files.
    folder: Option<OutputFolder>,
    workload: Option<Workload>,
    candidate: BuildCandidate,
}

impl Entrant<'_> {
    /// What its search found, with what runs it.
    fn finalist(&self) -> Option<Finalist<'_>> {
        Some(Finalist { workload: self.workload.as_ref()?, tuned: self.candidate.tuned.as_ref()? })
    }
}

/// What all engines are tuned with.
struct Session<'a> {
    args: &'a TuneArgs,
    backend: &'a dyn Backend,
    interrupts: &'a Interrupts,
    output: &'a Output,
    folder: &'a OutputFolder,
}

impl Session<'_> {
    /// Builds the engines one after the other, as long as there is time. What goes wrong with one is no reason to give
    /// up the others.
    fn built<'v>(&self, variants: &'v [Variant]) -> anyhow::Result<Vec<Entrant<'v>>> {
        let folders =
            variants.iter().map(|variant| self.folder_of(variant)).collect::<anyhow::Result<Vec<_>>>()?;
        let model = tune::model(self.args, self.folder, self.output)?;
        let mut models = Models { original: &model, converted: Vec::new() };
        let mut budget = BuildBudget::new(self.args.build_time);
        let built = |(folder, variant)| {
            let entrant = self.entrant(variant, folder, &mut models, &mut budget)?;
            // What was built is in the cache; nobody waits for the others.
            if self.interrupts.stop.is_requested() { Err(Error::BuildStopped.into()) } else { Ok(entrant) }
        };
        folders.into_iter().zip(variants).map(built).collect()
    }

    fn folder_of(&self, variant: &Variant) -> anyhow::Result<OutputFolder> {
        let folder = OutputFolder::claim(&self.folder.path().join(variant.folder()))?;
        check_no_search(&folder)?;
        Ok(folder)
    }

    /// Converts the model, builds its engine and compares it with FP32, each only where the step before went well.
    fn entrant<'v>(
        &self,
        variant: &'v Variant,
        folder: OutputFolder,
        models: &mut Models<'_>,
        budget: &mut BuildBudget,
    ) -> anyhow::Result<Entrant<'v>> {
        let (taken, no_route) = match self.route(variant.target) {
            Ok(taken) => (taken, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut entrant = Entrant {
            variant,
            folder: Some(folder),
            workload: None,
            candidate: BuildCandidate {
                name: variant.name.clone(),
                options: self.options(variant, taken.as_ref()),
                precision_route: taken,
                build_time: None,
                accuracy: None,
                tuned: None,
                over_first: None,
                refused: no_route.or_else(|| budget.refusal()),
            },
        };
        let candidate = &mut entrant.candidate;
        if candidate.refused.is_some() {
            return Ok(entrant);
        }
        let start = Instant::now();
        let prepared = self.prepared(variant, &candidate.options, models, budget);
        let took = start.elapsed();
        candidate.build_time = Some(Nanos::from_duration(took));
        match prepared {
            Ok((workload, accuracy)) => {
                let mut limits =
                    self.args.max_loss.iter().filter_map(|limit| limit.check(accuracy.as_ref()?).err());
                candidate.refused = limits.next().map(|lost| lost.to_string());
                candidate.accuracy = accuracy;
                entrant.workload = Some(workload).filter(|_| candidate.refused.is_none());
            }
            Err(error) => candidate.refused = Some(self.reason(&error)),
        }
        // One that loses too much is no engine to tune either.
        match entrant.workload {
            Some(_) => budget.count_built(took),
            None => budget.count_failed(took),
        }
        Ok(entrant)
    }

    /// How a precision reaches the builder: as a flag as for one engine alone, else by converting the model.
    fn route(&self, target: Target) -> anyhow::Result<Option<RouteTaken>> {
        let mut precisions = self.args.workload.builder.precision.iter();
        let is_alone = precisions.all(|other| *other == target) && self.args.max_loss.is_empty();
        let compared =
            "engines of several precisions or within a limit are compared by the files of their models";
        let needs_conversion = needs_conversion(target, &self.args.quantization, &self.args.selection);
        let needs_conversion = needs_conversion.or((!is_alone).then_some(compared));
        let rest = self.args.quantization.rest;
        RouteQuestion { rest, needs_conversion, ..RouteQuestion::of(target, self.backend) }.answer()
    }

    /// Whether a precision needs no other model.
    fn is_flag(&self, target: Target) -> bool {
        let taken = self.route(target).ok().flatten();
        taken.is_none_or(|taken| taken.route == Route::Flags)
    }

    /// The samples that the builder takes ranges from: a converted model has them inside.
    fn calibration(&self, target: Target) -> Option<&Path> {
        let samples = self.args.workload.builder.calibrate.as_deref();
        samples.filter(|_| target == Target::Int8 && self.is_flag(target))
    }

    fn options(&self, variant: &Variant, taken: Option<&RouteTaken>) -> BuildOptions {
        let by_types = self.backend.takes_types_from_model();
        let precision = route::allowed(variant.target, taken.map(|taken| taken.route), by_types);
        variant.options(&self.args.workload.builder, precision)
    }

    /// The engine with samples, and what it loses against FP32 where its model was converted.
    fn prepared(
        &self,
        variant: &Variant,
        options: &BuildOptions,
        models: &mut Models<'_>,
        budget: &BuildBudget,
    ) -> anyhow::Result<(Workload, Option<Accuracy>)> {
        let original = models.original;
        let is_flag = self.is_flag(variant.target);
        let model = if is_flag { original } else { models.converted(variant.target, self)? };
        let name = format!("{} ({})", original.name(), variant.name);
        let (bar, watch) = self.interrupts.watch(&name, self.output);
        let spec = WorkloadSpec {
            options: options.clone(),
            calibrate: self.calibration(variant.target).map(ToOwned::to_owned),
            cache: cache(&self.args.workload.cache, self.backend, self.output)?,
            watch: Some(budget.watched(watch)),
            ..tune::spec(self.args, variant, self.backend.device())
        };
        let workload = Workload::prepare(self.backend, model, &spec);
        let accuracy = match &workload {
            Ok(workload) if !is_flag => self.accuracy(workload, original, &spec),
            _ => Ok(None),
        };
        bar.clear();
        Ok((workload?, accuracy?))
    }

    /// The model in a precision, written where the search's files are.
    fn lowered(&self, target: Target, model: &Model) -> anyhow::Result<Model> {
        let workload = &self.args.workload;
        let input_shapes = input_shapes(&workload.shapes);
        let calibrate = workload.builder.calibrate.as_deref();
        let path = workload.input.as_deref().or(calibrate);
        let source = SampleSource { input_shapes: &input_shapes, path, seed: workload.seed };
        let lower = Lower {
            target,
            selection: self.args.selection.selection(),
            boundary: Boundary::Unchanged,
            quantization: &self.args.quantization,
            calibration: SampleSource { path: calibrate, ..source },
            source,
            looks_at_ranges: true,
            limits: if target == Target::Auto { &self.args.max_loss } else { &[] },
            sheet: DataSheet::of(SHEET).expect("bug: the sheet is one of ours"),
            rest: default_rest(self.backend),
            takes_int8_weights: self.backend.takes_int8_weights(),
            takes_half_scales: self.backend.takes_half_scales(),
        };
        lower.check()?;
        let bar = Bar::spin(format!("converting {} to {target}", model.name()), self.output);
        let lowered = lower.run(model);
        bar.clear();
        let lowered = lowered?;
        lowered.remark.iter().for_each(|remark| self.output.warning(remark));
        let path = self.folder.path().join(format!("{target}.onnx"));
        lowered.model.write(&path)?;
        // Read again, so that what is tuned is known by the file that it can be run from.
        Ok(Model::read(path)?)
    }

    fn accuracy(
        &self,
        workload: &Workload,
        model: &Model,
        spec: &WorkloadSpec,
    ) -> anyhow::Result<Option<Accuracy>> {
        let calibration = spec.calibration(model)?;
        let request = spec.request(model, calibration.as_ref());
        let assessment = Assessment {
            backend: self.backend,
            request,
            cache: spec.cache.as_ref(),
            samples: spec.input.as_deref(),
            seed: spec.seed,
        };
        Ok(precision::assess(&workload.engine, &assessment)?)
    }

    /// Searches the best configuration of each engine that takes part.
    ///
    /// # Errors
    /// Where the device is lost: then those to come are not searched, and what was found before stays.
    fn search_each(&self, entrants: &mut [Entrant<'_>], time: Duration) -> anyhow::Result<()> {
        let mut ended = Ok(());
        for entrant in entrants.iter_mut().filter(|entrant| entrant.workload.is_some()) {
            match &ended {
                Ok(()) => ended = self.search(entrant, time),
                Err(_) => {
                    entrant.candidate.refused = Some("not searched: the device was lost before".to_owned());
                }
            }
        }
        ended
    }

    /// Searches the best configuration of an engine.
    ///
    /// # Errors
    /// Where the device is lost, so that no other engine could run.
    fn search(&self, entrant: &mut Entrant<'_>, time: Duration) -> anyhow::Result<()> {
        let (Some(workload), Some(folder)) = (&entrant.workload, entrant.folder.take()) else {
            return Ok(());
        };
        match self.tuned(entrant.variant, workload, folder, time) {
            Ok(tuned) => entrant.candidate.tuned = tuned,
            Err(error) => {
                entrant.candidate.refused = Some(self.reason(&error));
                return if is_device_lost(&error) { Err(error) } else { Ok(()) };
            }
        }
        Ok(())
    }

    fn tuned(
        &self,
        variant: &Variant,
        workload: &Workload,
        folder: OutputFolder,
        time: Duration,
    ) -> anyhow::Result<Option<TunedConfig>> {
        let bar = Bar::over(time, self.output);
        let job = tune::job(self.args, variant, workload, folder, time);
        let stop = &self.interrupts.stop;
        let outcome = search::tune(&job, workload, stop, &mut |progress| bar.show(&progress));
        bar.clear();
        Ok(tune::write(&outcome?, &job.folder, &self.args.export)?.0)
    }

    fn show(&self, outcome: &BuildOutcome, variants: &[Variant]) -> anyhow::Result<()> {
        let Self { args, folder, output, .. } = self;
        folder.write(file::BUILDS, &serde_json::to_vec_pretty(outcome)?)?;
        let found = |winner: usize| Some((&variants[winner], outcome.candidates[winner].tuned.as_ref()?));
        let winner = outcome.winner.and_then(found);
        winner.map(|(_, tuned)| tuned.write(&folder.path().join(file::TUNED))).transpose()?;
        output.result(|| serde_json::to_value(outcome), |style| report::text_of_builds(outcome, style))?;
        let written: &[&str] = if winner.is_some() { &[file::BUILDS, file::TUNED] } else { &[file::BUILDS] };
        output.written(folder.path(), written);
        let (variant, tuned) = winner.context("no engine ran within the limits")?;
        next(args, tuned, self.calibration(variant.target)).iter().for_each(|line| output.note(line));
        Ok(())
    }

    /// In one line: a backend may say much.
    fn reason(&self, error: &anyhow::Error) -> String {
        match error.downcast_ref::<Error>() {
            Some(Error::BuildStopped) if !self.interrupts.stop.is_requested() => {
                "its build was stopped: the time of --build-time was up".to_owned()
            }
            Some(error) => first_line(error),
            None => format!("{error:#}"),
        }
    }
}

fn is_device_lost(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(Error::is_device_lost)
}

/// The model, and what it was converted to so far, or why that failed.
struct Models<'a> {
    original: &'a Model,
    converted: Vec<(Target, Result<Model, String>)>,
}

impl Models<'_> {
    /// The model in a precision; converted once for all engines.
    fn converted(&mut self, target: Target, session: &Session<'_>) -> anyhow::Result<&Model> {
        let place = match self.converted.iter().position(|(known, _)| *known == target) {
            Some(place) => place,
            None => {
                let lowered = session.lowered(target, self.original).map_err(|error| session.reason(&error));
                self.converted.push((target, lowered));
                self.converted.len() - 1
            }
        };
        self.converted[place].1.as_ref().map_err(|reason| anyhow::anyhow!("{reason}"))
    }
}

/// Measures the winners of all searches in turns and notes how they did against the first.
fn raced(
    entrants: &mut [Entrant<'_>],
    time: Duration,
    seed: u64,
    interrupts: &Interrupts,
) -> anyhow::Result<()> {
    let finalists: Vec<Finalist<'_>> = entrants.iter().filter_map(Entrant::finalist).collect();
    let ratios = race_builds(&finalists, time, seed, &interrupts.stop)?;
    let finalists = entrants.iter_mut().filter(|entrant| entrant.finalist().is_some());
    for (Entrant { candidate, .. }, ratio) in finalists.zip(ratios) {
        match ratio {
            Ok(ratio) => candidate.over_first = ratio,
            Err(failed) => candidate.refused = Some(failed),
        }
    }
    Ok(())
}
