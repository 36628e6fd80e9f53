//! What limits a workload, with the evidence; what would help and by how much; and whether it did.
//!
//! ```text
//! Measurement -> Evidence -> Limits -> Judgement (rules)
//!                                  \-> remedies, predicted -> trial -> what was gained
//! ```
//!
//! In: a [`Case`], one setup of one workload. Out: a [`Diagnosis`], plain data. It runs the same on every backend;
//! where a device tells less about itself the verdict rests on less, and says so. Searching for the best of all
//! configurations is left to [`tune`](crate::tune).

mod evidence;
mod limits;
mod remedies;
mod rules;
mod trial;

use std::cmp::Ordering::Equal;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::measure::{Estimate, Measurement, Pacing, StopSignal, Workload, measure_what_fits};
use crate::pool::Configuration;

pub use evidence::{Evidence, Quantity, Reading};
pub use limits::{Limit, Limits};
pub use remedies::{Knob, Remedy, Setup, Tried, advice, remedies};
pub use rules::{Confidence, HEALTHY_GAIN, Judgement, LimitReading, Verdict, judge, trtexec_verdict, weigh};

use trial::{Entrant, as_asked, race};

/// A remedy whose predicted interval ends below this is not worth trying: it would gain less than a turn's noise.
const WORTH_TRYING: f64 = 1.02;

/// What is to be diagnosed.
pub struct Case<'a> {
    /// The network on its device.
    pub workload: &'a Workload,
    /// How it runs. The feeding is the workload's own unless this says otherwise.
    pub setup: Setup,
    /// How long the first measurement takes.
    pub pacing: Pacing,
    /// How many remedies are tried.
    pub tries: usize,
    /// Order of the turns.
    pub seed: u64,
    /// Makes a workload whose engine runs so many samples, for batches that the given one cannot run, or says why
    /// there is none; `None` to leave those untried.
    pub larger: Option<&'a dyn Fn(usize) -> Result<Workload, String>>,
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
    /// What may help, the most promising first.
    pub remedies: Vec<Remedy>,
    /// The best that was tried; `None` where nothing that was tried helped.
    pub gained: Option<Gained>,
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
    let wanted = case.setup.configuration;
    let measurement = measure_what_fits(case.workload, wanted, &load, case.pacing, stop)?;
    let setup = case.setup.with(measurement.configuration);
    let mut evidence = Evidence::of(&measurement);
    let mut judgement = judge(&evidence, &setup.configuration);
    if case.tries > 0 && evidence.value(Quantity::DeviceFill).is_none() && !judgement.missing.is_empty() {
        probe(case, &setup, &mut evidence, stop, progress)?;
        judgement = judge(&evidence, &setup.configuration);
    }
    let limits = Limits::of(&evidence, &setup.configuration);
    let alone = alone(case, &setup, stop, progress)?;
    let mut remedies = remedies(&measurement, alone.as_ref(), setup.feeding, &limits);
    let gained = try_out(case, &setup, &mut remedies, stop, progress)?;
    weigh(&mut judgement, &remedies);
    let advice = advice(judgement.verdict, &measurement.device);
    let measurement = Measurement { records: Vec::new(), ..measurement };
    Ok(Diagnosis { judgement, evidence, remedies, gained, advice, setup, measurement })
}

/// Where no counter says how full the device is, twice the streams do: on an empty device they gain twice, on a full
/// one nothing.
fn probe(
    case: &Case<'_>,
    setup: &Setup,
    evidence: &mut Evidence,
    stop: &StopSignal,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<()> {
    let twice = Configuration { streams: 2 * setup.configuration.streams, ..setup.configuration };
    let entrants = [*setup, setup.with(twice)].map(|setup| Entrant { workload: case.workload, setup });
    let mut show = |setup: &Setup| progress(Progress::Probing(setup));
    if let Some(Tried::Ratio(ratio)) = race(&entrants, case.seed, stop, &mut show)?.into_iter().next() {
        let fill = ratio.value.recip().min(1.0);
        let source = format!("probe: twice the streams ran {:.2} times as fast", ratio.value);
        evidence.put(Quantity::DeviceFill, fill, source);
    }
    Ok(())
}

/// One stream by itself: what several do beside each other says little about one, and predictions start from one. A
/// failure costs precision and nothing else, unless the program itself is wrong.
fn alone(
    case: &Case<'_>,
    setup: &Setup,
    stop: &StopSignal,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Option<Measurement>> {
    if case.tries == 0 || setup.configuration.streams == 1 {
        return Ok(None);
    }
    let setup = setup.with(Configuration { streams: 1, submitters: 1, ..setup.configuration });
    progress(Progress::Probing(&setup));
    match trial::measure(&Entrant { workload: case.workload, setup }, stop).and_then(as_asked) {
        Err(error @ Error::Bug(_)) => Err(error),
        Err(_) => Ok(None),
        Ok(measured) => Ok(Some(measured)),
    }
}

/// Tries the first remedies, and then all together that helped.
fn try_out(
    case: &Case<'_>,
    setup: &Setup,
    remedies: &mut [Remedy],
    stop: &StopSignal,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Option<Gained>> {
    let can_run = |setup: &Setup| {
        let batches = &case.workload.engine.signature().batch_sizes;
        case.larger.is_some() || batches.contains(&setup.configuration.batch_size)
    };
    let is_worth_it = |it: &&mut Remedy| it.predicted.upper >= WORTH_TRYING && can_run(&it.setup);
    let mut chosen: Vec<&mut Remedy> = remedies.iter_mut().filter(is_worth_it).take(case.tries).collect();
    if chosen.is_empty() {
        return Ok(None);
    }
    let largest = chosen.iter().map(|it| it.setup.configuration.batch_size).max().unwrap_or(1);
    let bench = Bench::with_room_for(case, largest);
    let mut compare = |setups: &[Setup]| {
        let entrants: Vec<Entrant<'_>> =
            setups.iter().map(|&setup| Entrant { workload: bench.workload(&setup), setup }).collect();
        race(&entrants, case.seed, stop, &mut |setup| progress(Progress::Trying(setup)))
    };
    let setups: Vec<Setup> = std::iter::once(*setup).chain(chosen.iter().map(|it| it.setup)).collect();
    for (remedy, tried) in chosen.iter_mut().zip(compare(&setups)?) {
        remedy.tried = Some(bench.explained(&remedy.setup, tried));
    }
    chosen.retain(|remedy| remedy.ratio().is_some_and(|ratio| ratio.lower >= WORTH_TRYING));
    chosen.sort_by(|a, b| {
        b.ratio().map(|it| it.value).partial_cmp(&a.ratio().map(|it| it.value)).unwrap_or(Equal)
    });
    let Some(best) = chosen.first() else { return Ok(None) };
    let alone = best.ratio().map(|ratio| Gained { setup: best.setup, ratio });
    let together = chosen.iter().fold(*setup, |all, remedy| all.with_knob_of(setup, remedy));
    if together == best.setup {
        return Ok(alone);
    }
    let tried = compare(&[*setup, best.setup, together])?;
    let ratios = [best.setup, together].into_iter().zip(tried).filter_map(|(setup, tried)| match tried {
        Tried::Ratio(ratio) => Some(Gained { setup, ratio }),
        Tried::Failed(_) => None,
    });
    let ratios: Vec<Gained> = ratios.collect();
    if ratios.is_empty() {
        return Ok(alone);
    }
    let helped = ratios.into_iter().filter(|gained| gained.ratio.lower >= WORTH_TRYING);
    Ok(helped.max_by(|a, b| a.ratio.value.total_cmp(&b.ratio.value)))
}

/// The workload, and a second one where a batch is larger than what its engine runs.
struct Bench<'a> {
    given: &'a Workload,
    larger: Option<Result<Workload, String>>,
}

impl<'a> Bench<'a> {
    fn with_room_for(case: &Case<'a>, batch_size: usize) -> Self {
        let fits = case.workload.engine.signature().batch_sizes.contains(&batch_size);
        let larger = if fits { None } else { case.larger.map(|make| make(batch_size)) };
        Self { given: case.workload, larger }
    }

    /// Where none runs the batch the given one refuses it.
    fn workload(&self, setup: &Setup) -> &Workload {
        let fits = self.given.engine.signature().batch_sizes.contains(&setup.configuration.batch_size);
        match &self.larger {
            Some(Ok(larger)) if !fits => larger,
            _ => self.given,
        }
    }

    /// The same, with the reason why there is no larger engine in place of the refusal that followed.
    fn explained(&self, setup: &Setup, tried: Tried) -> Tried {
        let fits = self.given.engine.signature().batch_sizes.contains(&setup.configuration.batch_size);
        match &self.larger {
            Some(Err(reason)) if !fits => Tried::Failed(reason.clone()),
            _ => tried,
        }
    }
}
