//! `thalweg tune` over several precisions: each has a model, an engine and a search of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use thalweg::backend::{self, Backend, DataSheet, Precision};
use thalweg::files::OutputFolder;
use thalweg::measure::{Workload, WorkloadSpec};
use thalweg::model::Model;
use thalweg::precision::{self, Accuracy, Assessment, Boundary, SampleSource};
use thalweg::tune::{Finalist, PrecisionCandidate, PrecisionOutcome, TunedConfig, race_precisions};
use thalweg::{report, tune as search};

use super::lower::{Lower, first_line};
use super::{build_options, cache, file, input_shapes, surroundings_of, tune};
use crate::args::{Target, TuneArgs};
use crate::output::Output;
use crate::progress::{Bar, Interrupts};

/// The part of the time that the searches have; the winners need the rest to be measured in turns.
const PART_OF_SEARCHES: f64 = 0.85;

/// Whose data sheet `auto` weighs a node's time by where the device has none here.
const SHEET: &str = "h100";

pub fn run(args: &TuneArgs, folder: &OutputFolder, output: &Output) -> anyhow::Result<()> {
    let targets = &args.workload.builder.precision;
    ensure!(args.sweep.is_none(), "--sweep judges one search: over several precisions there are many");
    ensure!(!args.resume, "--resume continues one search: over several precisions there are many");
    let interrupts = Interrupts::catch()?;
    let backend = backend::open(&args.workload.backend, &surroundings_of(&args.workload))?;
    let session = Session { args, backend: backend.as_ref(), interrupts: &interrupts, output };
    let model = Model::read(args.model.as_deref().context("precisions are compared on a model: name one")?)?;
    let time = args.time.mul_f64(PART_OF_SEARCHES / targets.len() as f64);
    let mut entrants = Vec::with_capacity(targets.len());
    for target in targets {
        entrants.push(session.entrant(*target, &model, folder.path(), time)?);
    }
    let candidates = raced(entrants, args.workload.seed, &interrupts)?;
    let limits = args.max_loss.iter().map(ToString::to_string).collect();
    let outcome = PrecisionOutcome::of(limits, candidates);
    folder.write(file::PRECISIONS, &serde_json::to_vec_pretty(&outcome)?)?;
    let winner = outcome.winner.and_then(|winner| outcome.candidates[winner].tuned.as_ref());
    winner.map(|tuned| tuned.write(&folder.path().join(file::TUNED))).transpose()?;
    output.result(|| serde_json::to_value(&outcome), |style| report::text_of_precisions(&outcome, style))?;
    let written: &[&str] =
        if winner.is_some() { &[file::PRECISIONS, file::TUNED] } else { &[file::PRECISIONS] };
    output.written(folder.path(), written);
    ensure!(winner.is_some(), "no precision ran within the limits");
    Ok(())
}

/// One precision: what runs it, where it may, and what is known of it.
struct Entrant {
    workload: Option<Workload>,
    candidate: PrecisionCandidate,
}

/// What all precisions are tuned with.
struct Session<'a> {
    args: &'a TuneArgs,
    backend: &'a dyn Backend,
    interrupts: &'a Interrupts,
    output: &'a Output,
}

impl Session<'_> {
    /// Lowers the model, builds its engine, compares it with FP32 and searches, each only where the step before went
    /// well. What goes wrong with one precision is no reason to give up the others.
    fn entrant(
        &self,
        target: Target,
        model: &Model,
        folder: &Path,
        time: Duration,
    ) -> anyhow::Result<Entrant> {
        let folder = OutputFolder::claim(&folder.join(target.to_string()))?;
        search::journal::Journal::check_absent(&folder)?;
        let mut candidate = PrecisionCandidate {
            precision: target.to_string(),
            accuracy: None,
            tuned: None,
            over_first: None,
            refused: None,
        };
        let prepared = self.prepared(target, model, &folder);
        let (workload, accuracy) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                candidate.refused = Some(reason(&error));
                return Ok(Entrant { workload: None, candidate });
            }
        };
        let lost = accuracy
            .as_ref()
            .map(|accuracy| self.args.max_loss.iter().try_for_each(|limit| limit.check(accuracy)));
        candidate.accuracy = accuracy;
        if let Some(Err(lost)) = lost {
            candidate.refused = Some(lost.to_string());
            return Ok(Entrant { workload: None, candidate });
        }
        match self.tuned(&workload, folder, time) {
            Ok(tuned) => candidate.tuned = tuned,
            Err(error) => candidate.refused = Some(reason(&error)),
        }
        Ok(Entrant { workload: Some(workload), candidate })
    }

    /// The engine with samples, and what it loses against FP32.
    fn prepared(
        &self,
        target: Target,
        model: &Model,
        folder: &OutputFolder,
    ) -> anyhow::Result<(Workload, Option<Accuracy>)> {
        let lowered = match target {
            Target::Fp32 => None,
            _ => Some(self.lowered(target, model, folder)?),
        };
        let by_types = self.backend.takes_types_from_model();
        let allowed = match target {
            Target::Half(_) if !by_types => Precision::Fp16,
            Target::Int8 | Target::Auto if !by_types => Precision::Int8,
            _ => Precision::Fp32,
        };
        let (bar, watch) = self.interrupts.watch(&format!("{} in {target}", model.name()), self.output);
        let spec = WorkloadSpec {
            options: build_options(&self.args.workload.builder, allowed),
            cache: cache(&self.args.workload.cache, self.backend, self.output)?,
            watch: Some(watch),
            ..tune::spec(self.args)
        };
        let workload = Workload::prepare(self.backend, lowered.as_ref().unwrap_or(model), &spec);
        let accuracy = match (&workload, target) {
            (Ok(workload), target) if target != Target::Fp32 => Some(self.accuracy(workload, model, &spec)),
            _ => None,
        };
        bar.clear();
        Ok((workload?, accuracy.transpose()?))
    }

    /// The model in a precision, which is written where the search's other files will be.
    fn lowered(&self, target: Target, model: &Model, folder: &OutputFolder) -> anyhow::Result<Model> {
        let workload = &self.args.workload;
        let input_shapes = input_shapes(&workload.shapes);
        let calibrate = workload.builder.calibrate.as_deref();
        let path = workload.input.as_deref().or(calibrate);
        let source = SampleSource { input_shapes: &input_shapes, path, seed: workload.seed };
        let lower = Lower {
            target,
            keep_f32: &[],
            boundary: Boundary::Unchanged,
            quantization: &self.args.quantization,
            calibration: SampleSource { path: calibrate, ..source },
            source,
            looks_at_ranges: true,
            limits: if target == Target::Auto { &self.args.max_loss } else { &[] },
            sheet: DataSheet::of(SHEET).expect("bug: the sheet is one of ours"),
            takes_int8_weights: self.backend.takes_int8_weights(),
        };
        lower.check()?;
        let bar = Bar::spin(format!("converting {} to {target}", model.name()), self.output);
        let lowered = lower.run(model);
        bar.clear();
        let lowered = lowered?;
        lowered.remark.iter().for_each(|remark| self.output.warning(remark));
        let path = folder.path().join("model.onnx");
        lowered.model.write(&path)?;
        // Read again, so that what is tuned is known by the file that it can be run from.
        Ok(Model::read(path)?)
    }

    fn accuracy(&self, workload: &Workload, model: &Model, spec: &WorkloadSpec) -> anyhow::Result<Accuracy> {
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

    fn tuned(
        &self,
        workload: &Workload,
        folder: OutputFolder,
        time: Duration,
    ) -> anyhow::Result<Option<TunedConfig>> {
        let bar = Bar::over(time, self.output);
        let job = tune::job(self.args, workload, folder, time);
        let stop = &self.interrupts.stop;
        let outcome = search::tune(&job, workload, stop, &mut |progress| bar.show(&progress));
        bar.clear();
        Ok(tune::write(&outcome?, &job.folder, &self.args.export)?.0)
    }
}

/// Measures the winners of all searches in turns and notes how they did against the first.
fn raced(
    entrants: Vec<Entrant>,
    seed: u64,
    interrupts: &Interrupts,
) -> anyhow::Result<Vec<PrecisionCandidate>> {
    let finalist = |entrant: &Entrant| entrant.workload.is_some() && entrant.candidate.tuned.is_some();
    let finalists: Vec<Finalist<'_>> = entrants
        .iter()
        .filter_map(|entrant| {
            let (workload, tuned) = (entrant.workload.as_ref()?, entrant.candidate.tuned.as_ref()?);
            Some(Finalist { workload, tuned })
        })
        .collect();
    let mut ratios = race_precisions(&finalists, seed, &interrupts.stop)?.into_iter();
    drop(finalists);
    let first = entrants.iter().position(finalist);
    let with_ratio = |(place, entrant): (usize, Entrant)| {
        let is_behind = finalist(&entrant) && Some(place) != first;
        let mut candidate = entrant.candidate;
        match is_behind.then(|| ratios.next()).flatten() {
            Some(Ok(ratio)) => candidate.over_first = Some(ratio),
            Some(Err(failed)) => candidate.refused = Some(failed),
            None => {}
        }
        candidate
    };
    Ok(entrants.into_iter().enumerate().map(with_ratio).collect())
}

/// In one line: a backend may say much.
fn reason(error: &anyhow::Error) -> String {
    match error.downcast_ref::<thalweg::Error>() {
        Some(error) => first_line(error),
        None => format!("{error:#}"),
    }
}
