//! What limits a workload, with the evidence; what would help and by how much; and whether it did.
//!
//! ```text
//! Measurement -> Evidence -> Limits -> Judgement (rules)
//!                                  \-> remedies, predicted -> trial -> what was gained -> kernels, one by one
//! ```
//!
//! In: a [`Case`], one setup of one workload. Out: a [`Diagnosis`], plain data. It runs the same on every backend;
//! where a device tells less about itself the verdict rests on less, and says so. Searching for the best of all
//! configurations is left to [`tune`](crate::tune).

mod engines;
mod evidence;
mod kernels;
mod limits;
mod outlook;
mod remedies;
mod rules;
mod trial;
mod waiting;

use std::cmp::Ordering::Equal;

use serde::{Deserialize, Serialize};

use crate::backend::TimesTaken;
use crate::capacity::PaperWorkload;
use crate::error::{Error, Result};
use crate::measure::{
    Estimate, Measurement, Observing, Pacing, StopSignal, Workload, measure_what_fits, narrowed,
};
use crate::pool::Configuration;

pub use engines::{EngineVariant, Rebuild};
pub use evidence::{Evidence, Quantity, Reading};
pub use kernels::{KernelReading, KernelSummary, KernelWindow};
pub use limits::{Limit, Limits};
pub use outlook::Outlook;
pub use remedies::{Knob, Remedy, Setup, Tried, advice, remedies};
pub use rules::{Confidence, HEALTHY_GAIN, Judgement, LimitReading, Verdict, judge, trtexec_verdict, weigh};
pub use trial::ROUNDS;

use engines::{Bench, engine_remedies, untried};
use rules::{kernel_findings, no_more_fits};
use trial::as_asked;
pub(crate) use trial::{Entrant, Turns, race};

/// A remedy whose predicted interval ends below this is not worth trying: it would gain less than a turn's noise.
const WORTH_TRYING: f64 = 1.02;

/// What the source of a number begins with that no counter tells, but a setup that was measured for it.
const PROBE: &str = "probe";

/// Building an engine takes minutes, so one has to promise what makes a workload less than healthy.
const WORTH_BUILDING: f64 = HEALTHY_GAIN;

/// What is to be diagnosed.
pub struct Case<'a> {
    /// The network on its device.
    pub workload: &'a Workload,
    /// How it runs. The feeding is the workload's own unless this says otherwise.
    pub setup: Setup,
    /// How long the first measurement takes. Turns of trials are no longer than a window of it.
    pub pacing: Pacing,
    /// How many remedies are tried.
    pub tries: usize,
    /// How often a remedy and the setup as it is take turns; [`ROUNDS`] give a useful interval, fewer than three none.
    pub rounds: usize,
    /// Order of the turns.
    pub seed: u64,
    /// What the network computes and moves, for a roofline that stands without any counter, or why that is not known, as
    /// of an engine that came without its model.
    pub model: Result<&'a PaperWorkload, &'a str>,
    /// Whether each kernel is recorded at the end, where the engine can.
    pub recording: Observing,
    /// Builds other engines, for larger batches, smaller inputs and lower precisions, or why nobody can.
    pub rebuild: Result<Rebuild<'a>, &'a str>,
}

/// What a diagnosis is doing, for whoever shows it.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// The setup as it is.
    Measuring(&'a Setup),
    /// Twice the streams, since nothing else tells how full the device is; or one, to predict from.
    Probing(&'a Setup),
    /// Remedies, in turns with the setup as it is.
    Trying(&'a Setup),
    /// Each kernel of the setup as it is.
    Recording(&'a Setup),
}

/// The best setup that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gained {
    /// What to run.
    pub setup: Setup,
    /// Its throughput over the baseline's, measured in turns.
    pub ratio: Estimate,
}

/// What limits a workload, and what was done about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The verdict with all that the rules say.
    #[serde(flatten)]
    pub judgement: Judgement,
    /// What it rests on.
    pub evidence: Evidence,
    /// What it asks each resource for, and what other numbers of streams would reach, where that can be told.
    #[serde(default)]
    pub outlook: Option<Outlook>,
    /// What may help, the most promising first.
    pub remedies: Vec<Remedy>,
    /// The best that was tried; `None` where nothing that was tried helped.
    pub gained: Option<Gained>,
    /// Throughput while the device's counters are read over that while they are left alone, measured in turns; `None`
    /// where nobody tried, or where there are none.
    #[serde(default)]
    pub observing: Option<Estimate>,
    /// The kernels, where they were recorded one by one.
    #[serde(default)]
    pub kernels: Option<KernelSummary>,
    /// All that was recorded then, which is large: for a timeline, and no part of the data.
    #[serde(skip)]
    pub window: Option<KernelWindow>,
    /// What would help and no knob of the pool does, in whole sentences.
    pub advice: Vec<String>,
    /// The setup as it was.
    pub setup: Setup,
    /// The measurement of it, without its records.
    pub measurement: Measurement,
}

/// Measures a setup, judges it, and tries what may help.
///
/// # Errors
/// As [`Experiment::run`](crate::measure::Experiment::run) for the first measurement. A remedy that fails is part of
/// the result. Where `stop` comes later, the result is of what there was until then.
pub fn diagnose(
    case: &Case<'_>,
    stop: &StopSignal,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Diagnosis> {
    progress(Progress::Measuring(&case.setup));
    let load = |configuration: &Configuration| case.setup.with(*configuration).load;
    // Evidence is about each execution.
    let wanted = Configuration { stage_times: TimesTaken::Each, ..case.setup.configuration };
    let measurement = measure_what_fits(case.workload, wanted, &load, case.pacing, stop)?;
    let setup = case.setup.with(measurement.configuration);
    let mut evidence = Evidence::of(&measurement);
    evidence.read_roofline(case.model, &measurement);
    let mut trials = Trials { case, setup, measured: &measurement, stop, progress };
    let mut judgement = judge(&evidence, &setup.configuration);
    if case.tries > 0 && evidence.value(Quantity::DeviceFill).is_none() && !judgement.missing.is_empty() {
        trials.probe(&mut evidence)?;
        judgement = judge(&evidence, &setup.configuration);
    }
    let limits = Limits::of(&evidence, &setup.configuration);
    let alone = trials.alone()?;
    let mut remedies = remedies(&measurement, alone.as_ref(), setup.feeding, &limits);
    let engine = case.workload.engine.as_ref();
    remedies.extend(engine_remedies(engine, case.model.ok(), (setup, &measurement), &evidence, &limits));
    remedies.sort_by(|a, b| b.predicted.value.total_cmp(&a.predicted.value));
    let (gained, observing) = trials.run(&mut remedies)?;
    // On a host more streams share the same cores.
    if !measurement.device.is_host()
        && let Some(ratio) = no_more_fits(&judgement, &evidence, &remedies)
    {
        put_probed(&mut evidence, ratio);
        judgement = judge(&evidence, &setup.configuration);
    }
    weigh(&mut judgement, &remedies);
    let (kernels, window) = trials.record(&mut evidence)?.unzip();
    let pace = kernels.as_ref().map_or(1.0, |kernels: &KernelSummary| kernels.pace);
    judgement.findings.extend(kernel_findings(&evidence, &setup.configuration, pace));
    let advice = advice(judgement.verdict, &measurement.device, engine.precision());
    let outlook = Outlook::of(&measurement, alone.as_ref(), &limits);
    let measurement = Measurement { records: Vec::new(), ..measurement };
    Ok(Diagnosis {
        judgement,
        evidence,
        outlook,
        remedies,
        gained,
        observing,
        kernels,
        window,
        advice,
        setup,
        measurement,
    })
}

/// How full a device is by what twice the streams gained: they gain twice on an empty one and nothing on a full one. What
/// counters said before stands beside it.
fn put_probed(evidence: &mut Evidence, ratio: Estimate) {
    let counted = evidence.value(Quantity::DeviceFill);
    let counted = counted.map_or_else(String::new, |fill| {
        format!(", though counters see work on {:.0} % of it", 100.0 * fill)
    });
    let source = format!("{PROBE}: twice the streams ran {:.2} times as fast{counted}", ratio.value);
    evidence.put(Quantity::DeviceFill, ratio.value.recip().min(1.0), source);
}

/// What is measured besides the setup as it is.
struct Trials<'a, 'p> {
    case: &'a Case<'a>,
    setup: Setup,
    measured: &'a Measurement,
    stop: &'a StopSignal,
    progress: &'p mut dyn FnMut(Progress<'_>),
}

impl<'a> Trials<'a, '_> {
    /// Where no counter says how full the device is, twice the streams do: on an empty device they gain twice, on a full
    /// one nothing.
    fn probe(&mut self, evidence: &mut Evidence) -> Result<()> {
        let configuration = self.setup.configuration;
        let twice = Configuration { streams: 2 * configuration.streams, ..configuration };
        let entrants = [self.setup, self.setup.with(twice)].map(|setup| self.entrant(setup));
        let turns = self.turns();
        let mut show = |setup: &Setup| (self.progress)(Progress::Probing(setup));
        let probe = race(&entrants, turns, self.stop, &mut show)?;
        if let Tried::Ratio(ratio) = probe.over(0, 1) {
            put_probed(evidence, ratio);
        }
        Ok(())
    }

    /// One stream by itself: what several do beside each other says little about one, and predictions start from one. A
    /// failure costs precision and nothing else, unless the program itself is wrong.
    fn alone(&mut self) -> Result<Option<Measurement>> {
        let configuration = self.setup.configuration;
        if self.case.tries == 0 || configuration.streams == 1 {
            return Ok(None);
        }
        let setup = self.setup.with(narrowed(&configuration, 1));
        (self.progress)(Progress::Probing(&setup));
        match trial::measure(&self.entrant(setup), self.stop).and_then(as_asked) {
            Err(error @ Error::Bug(_)) => Err(error),
            Err(_) => Ok(None),
            Ok(measured) => Ok(Some(measured)),
        }
    }

    /// The setup once more, each of its kernels recorded.
    fn record(&mut self, evidence: &mut Evidence) -> Result<Option<(KernelSummary, KernelWindow)>> {
        let engine = &self.case.workload.engine;
        let Some(recorder) = engine.recorder().filter(|_| self.case.recording == Observing::On) else {
            return Ok(None);
        };
        (self.progress)(Progress::Recording(&self.setup));
        kernels::record(evidence, recorder, &self.entrant(self.setup), self.stop)
    }

    /// Tries the first remedies, and then all together that helped; finds out beside them what observing costs.
    fn run(&mut self, remedies: &mut [Remedy]) -> Result<(Option<Gained>, Option<Estimate>)> {
        let case = self.case;
        let mut bench = Bench::new(case.workload, case.rebuild);
        let mut chosen = choose(remedies, case.tries, &mut bench, self.stop);
        let observing = self.try_each(&mut chosen, &bench)?;
        chosen.retain(|remedy| remedy.ratio().is_some_and(|ratio| ratio.lower >= WORTH_TRYING));
        chosen.sort_by(|a, b| {
            b.ratio().map(|it| it.value).partial_cmp(&a.ratio().map(|it| it.value)).unwrap_or(Equal)
        });
        Ok((self.try_together(&chosen, &bench)?, observing))
    }

    /// Each remedy by itself. Gives the throughput with counters over that without.
    fn try_each(&mut self, chosen: &mut [&mut Remedy], bench: &Bench<'_>) -> Result<Option<Estimate>> {
        let mut entrants = vec![self.entrant(self.setup)];
        entrants.extend(chosen.iter().map(|it| self.entrant_on(bench, it.setup)));
        // In virtual time counters cost nothing.
        let is_simulated = self.case.workload.engine.is_simulated();
        let has_counters = self.measured.counters.as_ref().is_some_and(|it| it.sm_activity.is_some());
        if has_counters && !is_simulated && self.case.tries > 0 {
            entrants.push(Entrant { observing: Observing::Off, ..entrants[0] });
        }
        if entrants.len() == 1 {
            return Ok(None);
        }
        let mut tried = self.race(&entrants)?;
        let unobserved = tried.drain(chosen.len()..).next();
        for (remedy, tried) in chosen.iter_mut().zip(tried) {
            // Where none runs the batch the given one refuses it; why there is no larger one says more.
            let reason = bench.failure(&remedy.setup).filter(|_| bench.workload(&remedy.setup).is_none());
            remedy.tried = Some(reason.map_or(tried, |reason| Tried::Failed(reason.to_owned())));
        }
        Ok(match unobserved {
            Some(Tried::Ratio(Estimate { value, lower, upper })) => {
                Some(Estimate { value: value.recip(), lower: upper.recip(), upper: lower.recip() })
            }
            _ => None,
        })
    }

    /// All together that helped, the best first, beside the best one.
    fn try_together(&mut self, helped: &[&mut Remedy], bench: &Bench<'_>) -> Result<Option<Gained>> {
        let Some(best) = helped.first() else { return Ok(None) };
        let base = self.setup;
        let alone = best.ratio().map(|ratio| Gained { setup: best.setup, ratio });
        // A combination that would need yet another engine is left alone.
        let together = helped.iter().fold(base, |all, remedy| {
            let more = all.with_knob_of(&base, remedy);
            if bench.workload(&more).is_some() { more } else { all }
        });
        if together == best.setup {
            return Ok(alone);
        }
        let setups = [base, best.setup, together];
        let tried = self.race(&setups.map(|setup| self.entrant_on(bench, setup)))?;
        let ratios = setups[1..].iter().zip(tried).filter_map(|(&setup, tried)| match tried {
            Tried::Ratio(ratio) => Some(Gained { setup, ratio }),
            Tried::Failed(_) | Tried::Untried(_) => None,
        });
        let ratios: Vec<Gained> = ratios.collect();
        if ratios.is_empty() {
            return Ok(alone);
        }
        let helped = ratios.into_iter().filter(|gained| gained.ratio.lower >= WORTH_TRYING);
        Ok(helped.max_by(|a, b| a.ratio.value.total_cmp(&b.ratio.value)))
    }

    fn race(&mut self, entrants: &[Entrant<'_>]) -> Result<Vec<Tried>> {
        let turns = self.turns();
        let mut show = |setup: &Setup| (self.progress)(Progress::Trying(setup));
        Ok(race(entrants, turns, self.stop, &mut show)?.over_first())
    }

    fn turns(&self) -> Turns {
        Turns { rounds: self.case.rounds, seed: self.case.seed }
    }

    fn entrant(&self, setup: Setup) -> Entrant<'a> {
        Entrant::new(self.case.workload, setup, self.measured).within(self.case.pacing.window)
    }

    fn entrant_on<'b>(&self, bench: &'b Bench<'a>, setup: Setup) -> Entrant<'b>
    where
        'a: 'b,
    {
        let workload = bench.workload(&setup).unwrap_or(self.case.workload);
        Entrant::new(workload, setup, self.measured).within(self.case.pacing.window)
    }
}

/// The first remedies that are worth trying, each with an engine that runs it. Those that would need another one, where
/// there is none, keep the reason and take nobody's place.
fn choose<'r>(
    remedies: &'r mut [Remedy],
    tries: usize,
    bench: &mut Bench<'_>,
    stop: &StopSignal,
) -> Vec<&'r mut Remedy> {
    let mut chosen: Vec<&mut Remedy> = Vec::new();
    for remedy in remedies {
        let is_other_engine = !remedy.setup.engine.is_given();
        if let Some(reason) = bench.refusal().filter(|_| is_other_engine && tries > 0) {
            remedy.tried = Some(untried(reason));
            continue;
        }
        let is_worth_it = remedy.predicted.upper >= WORTH_TRYING
            && (!is_other_engine || remedy.predicted.value >= WORTH_BUILDING);
        if chosen.len() == tries || !is_worth_it || !bench.may_run(&remedy.setup) || stop.is_requested() {
            continue;
        }
        if is_other_engine {
            bench.provide(&remedy.setup);
            if let Some(reason) = bench.failure(&remedy.setup) {
                remedy.tried = Some(untried(reason));
                continue;
            }
        }
        chosen.push(remedy);
    }
    // One engine for the largest batch runs the smaller ones as well.
    let in_pool = chosen.iter().map(|it| it.setup).filter(|it| it.engine.is_given());
    if let Some(largest) = in_pool.max_by_key(|it| it.configuration.batch_size) {
        bench.provide(&largest);
    }
    chosen.iter_mut().for_each(|it| it.build = bench.build_time(&it.setup));
    chosen
}
