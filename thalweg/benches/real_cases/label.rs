//! What is true of a case, by ablation: everything that may limit it is moved out of the way in turn.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg::backend::DataSheet;
use thalweg::capacity::{DRAM_CEILING, PaperWorkload};
use thalweg::diagnose::{HEALTHY_GAIN, Setup, Verdict};
use thalweg::error::{Error, Result};
use thalweg::measure::{Measurement, Pacing, StopSignal, Workload};
use thalweg::random::Random;

use super::case::{Ablation, Case, EVERYTHING, GRAPH, LARGER_BATCH, ablations};
use super::verdicts;

/// Below this share of its highest clock a device that is full is throttled as well.
const HELD_CLOCK: f64 = 1.0 / HEALTHY_GAIN;

/// Of what a copy reaches DRAM moves so much where the network waits for it rather than for the SMs, ...
const FULL_DRAM: f64 = 0.75;
/// ... below this surely not, ...
const PARTLY_FULL_DRAM: f64 = 0.6;
/// ... and from here on surely. Between them either is right.
const SURELY_FULL_DRAM: f64 = 0.9;

/// Executions of each stream that a slice has at least.
const LEAST_EXECUTIONS: f64 = 8.0;

/// A slice is made longer for them up to this factor.
const MOST_STRETCH: f64 = 4.0;

/// How often, and how long.
#[derive(Clone, Copy)]
pub struct Pace {
    pub rounds: usize,
    pub slice: Duration,
}

/// A case with its label.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Labelled {
    pub name: String,
    pub case: Case,
    pub is_tuned_on: bool,
    pub label: Verdict,
    /// All verdicts that an expert would sign.
    pub right: Vec<Verdict>,
    /// As it is, in inferences per second.
    pub inferences_per_s: f64,
    /// Throughput of each ablation over that, or why it could not be measured.
    pub ratios: Vec<(String, std::result::Result<f64, String>)>,
    /// Clock of the SMs over the highest, as it is.
    pub clock: Option<f64>,
}

impl Labelled {
    /// Measures the case in turns with all ablations of it.
    pub fn by_ablation(
        case: &Case,
        workload: &Workload,
        paper: Option<&PaperWorkload>,
        pace: Pace,
    ) -> Result<Self> {
        let setup = case.setup(workload);
        let ablations = ablations(&setup, workload);
        let first = measure(workload, &setup, pace.slice)?;
        let per_execution = first.configuration.streams as f64 / first.executions_per_s;
        let slice = pace.slice.max(Duration::from_secs_f64(LEAST_EXECUTIONS * per_execution));
        let slice = slice.min(pace.slice.mul_f64(MOST_STRETCH));
        let setups: Vec<Setup> = std::iter::once(setup).chain(ablations.iter().map(|it| it.setup)).collect();
        let mut logs: Vec<std::result::Result<f64, String>> = vec![Ok(0.0); setups.len()];
        let mut random = Random::new(0);
        for _ in 0..pace.rounds {
            let mut order: Vec<usize> = (0..setups.len()).collect();
            random.shuffle(&mut order);
            for index in order {
                if let Ok(sum) = &mut logs[index] {
                    match measure(workload, &setups[index], slice) {
                        Ok(one) => *sum += one.throughput_inferences_per_s.value.ln(),
                        Err(error) => logs[index] = Err(error.to_string()),
                    }
                }
            }
        }
        let mean = |sum: &f64| sum / pace.rounds as f64;
        let base = match &logs[0] {
            Ok(sum) => mean(sum),
            Err(reason) => return Err(Error::Execution { stream: 0, slot: 0, reason: reason.clone() }),
        };
        let ratio = |log: &std::result::Result<f64, String>| match log {
            Ok(sum) => Ok(((mean(sum) - base).exp() * 1e3).round() / 1e3),
            Err(reason) => Err(reason.clone()),
        };
        let ratios: Vec<_> = logs[1..].iter().map(ratio).collect();
        let clock = clock(&first);
        let truth = Truth { ablations: &ablations, ratios: &ratios, clock };
        let (label, right) = truth.label(paper, &first);
        let named = ablations.iter().map(|it| it.what.to_owned()).zip(ratios.iter().cloned()).collect();
        Ok(Self {
            name: case.name(),
            case: case.clone(),
            is_tuned_on: case.is_tuned_on(),
            label,
            right,
            inferences_per_s: base.exp().round(),
            ratios: named,
            clock,
        })
    }

    /// `inputs resident 1.00, streams x2 1.41, …`
    pub fn line(&self) -> String {
        let text = |(what, ratio): &(String, std::result::Result<f64, String>)| match ratio {
            Ok(ratio) => format!("{what} {ratio:.2}"),
            Err(_) => format!("{what} failed"),
        };
        self.ratios.iter().map(text).collect::<Vec<_>>().join(", ")
    }
}

/// What was measured.
struct Truth<'a> {
    ablations: &'a [Ablation],
    ratios: &'a [std::result::Result<f64, String>],
    clock: Option<f64>,
}

impl Truth<'_> {
    /// The label, and all verdicts that are right: what gains most names it. Where nothing of the host's, the bus's and
    /// the streams' gains anything, not even all of it together, the device is what is full; a device cannot be doubled,
    /// so which part of it is told by the model's roofline.
    fn label(&self, paper: Option<&PaperWorkload>, measurement: &Measurement) -> (Verdict, Vec<Verdict>) {
        let gains: Vec<(Verdict, f64)> = self
            .ablations
            .iter()
            .zip(self.ratios)
            .filter_map(|(it, ratio)| Some((it.verdict?, *ratio.as_ref().ok()?)))
            .collect();
        let most = gains.iter().map(|(_, gain)| *gain).fold(1.0, f64::max);
        let everything = self.ratio(EVERYTHING).unwrap_or(1.0);
        let is_full = most < HEALTHY_GAIN && everything < HEALTHY_GAIN;
        let (label, mut right) = if is_full {
            self.full_device(paper, measurement)
        } else {
            (verdicts::label(&gains), verdicts::right(&gains))
        };
        // Larger kernels fill the SMs better: an expert would say that, or that the SMs hold work all the time.
        let batch = self.ratio(LARGER_BATCH).unwrap_or(1.0) / self.ratio(GRAPH).unwrap_or(1.0);
        if most < HEALTHY_GAIN && batch >= HEALTHY_GAIN {
            right.push(Verdict::Underfilled);
        }
        // A device that is full may be close to another limit as well.
        if is_full && most >= HEALTHY_GAIN * (1.0 - verdicts::AS_GOOD / 2.0) {
            right.extend(verdicts::right(&gains));
        }
        (label, right)
    }

    /// Which part of a device that is full. It cannot be doubled, so its counter of DRAM tells, against what a copy
    /// reaches; without that the roofline of the model, which may be wrong about fused kernels and caches. Where power holds
    /// its clock, that is right as well as what is full: simulated devices can be doubled, and gain more from twice the
    /// SMs than from the clock (suite/simulated.json, seeds 28, 39 and 62).
    fn full_device(
        &self,
        paper: Option<&PaperWorkload>,
        measurement: &Measurement,
    ) -> (Verdict, Vec<Verdict>) {
        let counted = measurement.counters.as_ref().and_then(|it| it.dram_utilisation);
        let on_paper = || {
            let sheet = DataSheet::of_device(&measurement.device.name)?;
            Some(paper?.shares(&sheet, measurement.throughput_inferences_per_s.value).traffic)
        };
        let dram = counted.or_else(on_paper).unwrap_or(0.0) / DRAM_CEILING;
        let full = if dram >= FULL_DRAM { Verdict::MemoryBound } else { Verdict::ComputeBound };
        let is_clear = counted.is_some() && !(PARTLY_FULL_DRAM..SURELY_FULL_DRAM).contains(&dram);
        let right = if is_clear { vec![full] } else { vec![Verdict::ComputeBound, Verdict::MemoryBound] };
        if self.clock.is_some_and(|clock| clock < HELD_CLOCK) {
            return (Verdict::Throttled, [vec![Verdict::Throttled], right].concat());
        }
        (full, right)
    }

    fn ratio(&self, what: &str) -> Option<f64> {
        let index = self.ablations.iter().position(|it| it.what == what)?;
        self.ratios[index].as_ref().ok().copied()
    }
}

fn clock(measurement: &Measurement) -> Option<f64> {
    let counters = measurement.counters.as_ref()?;
    Some(counters.sm_clock_mhz? / counters.sm_clock_max_mhz?)
}

/// One slice; an error where it ran otherwise than asked.
fn measure(workload: &Workload, setup: &Setup, slice: Duration) -> Result<Measurement> {
    let pacing = Pacing { warm_up: slice / 3, window: slice, max_windows: 1, longest: None };
    let experiment = workload.experiment(setup.configuration, setup.load, pacing).fed(setup.feeding);
    let measurement = experiment.run(&StopSignal::default())?;
    let failed = |reason: &str| Error::Execution { stream: 0, slot: 0, reason: reason.to_owned() };
    match (measurement.deviation(), &measurement.failures.first) {
        (Some(reason), _) => Err(failed(reason)),
        (None, Some(reason)) => Err(failed(reason)),
        (None, None) => Ok(measurement),
    }
}
