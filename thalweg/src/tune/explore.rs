//! Which candidates are worth measuring, where predictions can tell.
//!
//! In: slices as they are measured. Out: the next candidate to measure, and for every candidate what was predicted
//! before it was. A few probes come first: they tell what the stages take, what a CUDA graph saves and how streams
//! share the device. Then the candidate with the largest expected improvement over the best one known is measured,
//! until the largest is not worth it: the method of Jones, Schonlau and Welch ("Efficient Global Optimization of
//! Expensive Black-Box Functions", Journal of Global Optimization 13, 1998), on logarithms of throughputs.

use super::outcome::is_calmer;
use super::{Limits, Slice};
use crate::backend::CudaGraph;
use crate::capacity::{Observation, Prediction, Predictor};
use crate::measure::distribution::normal_cdf;
use crate::pool::Configuration;
use crate::units::Nanos;

/// An expected improvement below this is not worth a slice: a tenth of what repeated runs differ by.
const WORTHWHILE: f64 = 0.001;

/// Part of the candidates that are measured at most, once there is one that may win: beyond it a search costs more
/// than it can gain.
const MOST_EXPLORED: f64 = 0.08;

/// So many may be measured in any case: the probes and a few that follow from them.
const LEAST_EXPLORED: usize = 14;

/// A predicted latency or memory above this many times its limit is far outside. A prediction of a mean says little
/// about a p99, so what is nearer is measured, after those that are predicted to keep the limits.
const FAR_OUTSIDE: f64 = 2.0;

/// A candidate whose prediction is below this part of the best one known is not predicted again at each step.
const HOPELESS: f64 = 0.5;

/// Standard deviations of a 95 % interval to each side.
const TWO_SIDED: f64 = 1.96;

/// A candidate is worth a slice for its shorter latency alone where its throughput is predicted to be at most this
/// part below the leader's: the search's indifference, since a prediction is a mean.
const TIE: f64 = 0.01;

/// So many are measured for their latency at most.
const MOST_CALMER: usize = 2;

/// The best candidate known that may win.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leader {
    /// Inferences per second.
    pub throughput: f64,
    /// Median of its requests.
    pub latency: Nanos,
}

/// What is known about candidates without measuring them.
#[derive(Clone, Debug)]
pub(super) struct Exploration {
    limits: Limits,
    power_limit_watts: Option<f64>,
    predictor: Predictor,
    /// Candidates to measure before predictions count, next one last.
    probes: Vec<usize>,
    /// How many were measured for their latency.
    calmer_count: usize,
    is_measured: Vec<bool>,
    /// For each candidate what was predicted last, and for a measured one what was predicted before that.
    predictions: Vec<Option<Prediction>>,
}

impl Exploration {
    /// Of these candidates, none of which was measured, on a device with this power limit where it is known.
    pub fn new(candidates: &[Configuration], limits: Limits, power_limit_watts: Option<f64>) -> Self {
        let mut probes = probes(candidates);
        probes.reverse();
        let count = candidates.len();
        Self {
            limits,
            power_limit_watts,
            predictor: Predictor::new(),
            probes,
            calmer_count: 0,
            is_measured: vec![false; count],
            predictions: vec![None; count],
        }
    }

    /// What was predicted for a candidate: before it was measured, or else last.
    pub fn prediction(&self, candidate: usize) -> Option<&Prediction> {
        self.predictions.get(candidate)?.as_ref()
    }

    /// What the measured candidates taught.
    pub fn predictor(&self) -> &Predictor {
        &self.predictor
    }

    /// Takes a slice into account. A baseline outside the list teaches too.
    pub fn learn(&mut self, candidate: usize, configuration: Configuration, slice: &Slice) {
        if let Some(is_measured) = self.is_measured.get_mut(candidate) {
            *is_measured = true;
        }
        if slice.failure.is_none() {
            self.predictor.learn(Observation {
                configuration,
                throughput_inferences_per_s: slice.throughput_inferences_per_s,
                stages: slice.stages,
                counters: slice.counters.clone(),
                memory_bytes: slice.memory_bytes,
                power_limit_watts: self.power_limit_watts,
            });
        }
    }

    /// The candidate to measure next, with this as the best one known; `None` where none is worth it. Without
    /// anything to predict from, each is.
    pub fn choose(&mut self, candidates: &[Configuration], leader: Option<Leader>) -> Option<usize> {
        while let Some(probe) = self.probes.pop() {
            if !self.is_measured[probe] {
                self.predict(probe, candidates);
                return Some(probe);
            }
        }
        if self.predictor.configuration_count() == 0 {
            return self.unmeasured().next();
        }
        let best = leader.map(|leader| leader.throughput);
        self.predict_all(candidates, best);
        let is_enough = best.is_some() && self.measured_count() >= self.most_explored();
        let faster = if is_enough { None } else { self.most_promising(best) };
        faster.or_else(|| self.calmer(leader?))
    }

    /// The candidate with the most to hope for.
    fn most_promising(&self, best: Option<f64>) -> Option<usize> {
        let worth = |candidate: usize| self.worth(candidate, best).map(|worth| (worth, candidate));
        let chosen = self.unmeasured().filter_map(worth).max_by(|a, b| {
            let ((fits_a, gain_a), (fits_b, gain_b)) = (a.0, b.0);
            fits_a.cmp(&fits_b).then(gain_a.total_cmp(&gain_b)).then(b.1.cmp(&a.1))
        });
        chosen.map(|(_, candidate)| candidate)
    }

    /// A candidate that is predicted to be as fast as the leader and to answer sooner: the soonest.
    fn calmer(&mut self, leader: Leader) -> Option<usize> {
        if self.calmer_count == MOST_CALMER {
            return None;
        }
        let latency = |candidate: usize| {
            let prediction = self.predictions[candidate].as_ref()?;
            let is_tie = prediction.throughput.value >= (1.0 - TIE) * leader.throughput;
            let is_wanted =
                is_tie && is_calmer(prediction.latency, leader.latency) && self.excess(prediction) <= 1.0;
            is_wanted.then_some((prediction.latency, candidate))
        };
        let (_, soonest) = self.unmeasured().filter_map(latency).min()?;
        self.calmer_count += 1;
        Some(soonest)
    }

    fn unmeasured(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.is_measured.len()).filter(|candidate| !self.is_measured[*candidate])
    }

    fn measured_count(&self) -> usize {
        self.is_measured.iter().filter(|is_measured| **is_measured).count()
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a count")]
    fn most_explored(&self) -> usize {
        let part = MOST_EXPLORED * self.is_measured.len() as f64;
        (part.ceil() as usize).max(LEAST_EXPLORED)
    }

    fn predict_all(&mut self, candidates: &[Configuration], best: Option<f64>) {
        let is_hopeless = |candidate: &usize| {
            let upper = self.predictions[*candidate].map(|prediction| prediction.throughput.upper);
            upper.zip(best).is_some_and(|(upper, best)| upper < HOPELESS * best)
        };
        let unmeasured: Vec<usize> = self.unmeasured().filter(|candidate| !is_hopeless(candidate)).collect();
        unmeasured.into_iter().for_each(|candidate| self.predict(candidate, candidates));
    }

    fn predict(&mut self, candidate: usize, candidates: &[Configuration]) {
        self.predictions[candidate] = self.predictor.predict(&candidates[candidate]);
    }

    /// Whether it is predicted to keep the limits, and the improvement to expect of it. `None` where that is not
    /// worth a slice.
    fn worth(&self, candidate: usize, best: Option<f64>) -> Option<(bool, f64)> {
        let prediction = self.predictions[candidate].as_ref()?;
        let excess = self.excess(prediction);
        let gain = match best {
            None => prediction.throughput.value.ln(),
            Some(best) => Some(improvement_over(best, prediction)).filter(|gain| *gain > WORTHWHILE)?,
        };
        (excess <= FAR_OUTSIDE).then_some((excess <= 1.0, gain))
    }

    /// How many times over a limit it will be.
    fn excess(&self, prediction: &Prediction) -> f64 {
        let late = self.limits.p99.map(|limit| prediction.latency.as_seconds() / limit.as_seconds());
        let memory = prediction.memory.zip(self.limits.memory_bytes);
        let large = memory.map(|(bytes, limit)| bytes.0 as f64 / limit as f64);
        late.unwrap_or(0.0).max(large.unwrap_or(0.0))
    }
}

/// The mean of how far the logarithm of a throughput may lie above that of `best`.
fn improvement_over(best: f64, prediction: &Prediction) -> f64 {
    let throughput = &prediction.throughput;
    let ahead = (throughput.value / best).ln();
    let deviation = (throughput.upper / throughput.value).ln() / TWO_SIDED;
    expected_improvement(ahead, deviation)
}

/// The mean of what a normal variable of this mean and standard deviation exceeds zero by.
pub(super) fn expected_improvement(ahead: f64, deviation: f64) -> f64 {
    if deviation <= 0.0 {
        return ahead.max(0.0);
    }
    let z = ahead / deviation;
    let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
    ahead * normal_cdf(z) + deviation * density
}

/// What tells most, in this order: one stream at a medium, the smallest and the largest batch; many streams at the
/// medium and, since a small batch may fit into caches that a larger one does not, at the smallest; and one stream
/// without a graph.
fn probes(candidates: &[Configuration]) -> Vec<usize> {
    let mut batches: Vec<usize> = candidates.iter().map(|candidate| candidate.batch_size).collect();
    batches.sort_unstable();
    batches.dedup();
    let (Some(&smallest), Some(&largest)) = (batches.first(), batches.last()) else { return Vec::new() };
    let medium = batches[batches.len() / 2];
    let streams = candidates.iter().map(|candidate| candidate.streams).max().unwrap_or(1);
    let graphs = [CudaGraph::Compute, CudaGraph::Copies, CudaGraph::Off];
    let has = |kind: &CudaGraph| candidates.iter().any(|candidate| candidate.cuda_graph == *kind);
    let graph = graphs.into_iter().find(has).unwrap_or_default();
    let wanted = [
        (1, medium, graph),
        (1, smallest, graph),
        (1, largest, graph),
        (streams, medium, graph),
        (streams, smallest, graph),
        (1, smallest, CudaGraph::Off),
    ];
    let mut probes: Vec<usize> = Vec::new();
    for (streams, batch_size, cuda_graph) in wanted {
        let wanted = Configuration { streams, batch_size, cuda_graph, ..Configuration::default() };
        let nearest = (0..candidates.len()).min_by_key(|index| difference(&candidates[*index], &wanted));
        probes.extend(nearest.filter(|probe| !probes.contains(probe)));
    }
    probes
}

/// How much a candidate differs from what is wanted: first in what is probed, then in the rest.
fn difference(candidate: &Configuration, wanted: &Configuration) -> [usize; 5] {
    [
        usize::from(candidate.cuda_graph != wanted.cuda_graph),
        candidate.batch_size.abs_diff(wanted.batch_size),
        candidate.streams.abs_diff(wanted.streams),
        candidate.depth.abs_diff(wanted.depth),
        candidate.submitters.abs_diff(wanted.submitters),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Counters;
    use crate::measure::{Estimate, StageSummary};
    use crate::tune::synthetic::slice;
    use crate::units::Nanos;

    fn space() -> Vec<Configuration> {
        let mut candidates = Vec::new();
        for streams in [1, 2, 4, 8] {
            for batch_size in [1, 4, 16, 64] {
                for cuda_graph in CudaGraph::ALL {
                    candidates.push(Configuration { streams, batch_size, cuda_graph, ..Default::default() });
                }
            }
        }
        candidates
    }

    /// A device that one stream fills: 1 ms and 0.1 ms for each sample, 0.5 ms to launch without a graph.
    fn full_device(configuration: &Configuration) -> Slice {
        let batch = configuration.batch_size as f64;
        let launching = if configuration.cuda_graph == CudaGraph::Off { 0.5e-3 } else { 10e-6 };
        let alone = 1e-3 + 0.1e-3 * batch;
        let throughput = batch / alone;
        let compute = Nanos::from_seconds(configuration.streams as f64 * alone);
        let counters =
            Counters { dram_utilisation: Some(0.84), sm_activity: Some(1.0), ..Counters::default() };
        Slice {
            throughput_inferences_per_s: Estimate {
                value: throughput,
                lower: 0.995 * throughput,
                upper: 1.005 * throughput,
            },
            stages: StageSummary { enqueue: Nanos::from_seconds(launching), compute, ..Default::default() },
            counters: Some(counters),
            ..slice(throughput)
        }
    }

    /// By Little's law.
    fn slice_latency(configuration: &Configuration, throughput: f64) -> Nanos {
        let in_flight = configuration.streams * configuration.depth * configuration.batch_size;
        Nanos::from_seconds(in_flight as f64 / throughput)
    }

    fn explore(measure: impl Fn(&Configuration) -> Slice, limits: Limits) -> (Exploration, Vec<usize>) {
        let candidates = space();
        let mut exploration = Exploration::new(&candidates, limits, None);
        let (mut leader, mut order): (Option<Leader>, _) = (None, Vec::new());
        while let Some(candidate) = exploration.choose(&candidates, leader) {
            let slice = measure(&candidates[candidate]);
            let throughput = slice.throughput_inferences_per_s.value;
            if leader.is_none_or(|leader| leader.throughput < throughput) {
                leader =
                    Some(Leader { throughput, latency: slice_latency(&candidates[candidate], throughput) });
            }
            exploration.learn(candidate, candidates[candidate], &slice);
            order.push(candidate);
        }
        (exploration, order)
    }

    #[test]
    fn the_probes_are_six_different_candidates() {
        let candidates = space();
        let probed: Vec<_> = probes(&candidates)
            .into_iter()
            .map(|index| {
                (candidates[index].streams, candidates[index].batch_size, candidates[index].cuda_graph)
            })
            .collect();
        let graph = CudaGraph::Compute;
        assert_eq!(
            probed,
            [
                (1, 16, graph),
                (1, 1, graph),
                (1, 64, graph),
                (8, 16, graph),
                (8, 1, graph),
                (1, 1, CudaGraph::Off)
            ]
        );
    }

    #[test]
    fn on_a_full_device_few_candidates_are_measured_and_the_best_is_among_them() {
        let (_, order) = explore(full_device, Limits::default());
        assert!(order.len() <= LEAST_EXPLORED, "{order:?}");
        assert!(order.iter().any(|index| space()[*index].batch_size == 64), "{order:?}");
    }

    #[test]
    fn a_measured_candidate_keeps_what_was_predicted_before() {
        let (exploration, order) = explore(full_device, Limits::default());
        // The first was measured before anything was known.
        assert!(exploration.prediction(order[0]).is_none());
        let last = *order.last().unwrap();
        let measured = full_device(&space()[last]).throughput_inferences_per_s.value;
        let predicted = exploration.prediction(last).unwrap().throughput;
        assert!(predicted.lower < measured && measured < predicted.upper, "{predicted:?} {measured}");
    }

    #[test]
    fn without_stage_times_every_candidate_is_measured() {
        let (_, order) = explore(|_| slice(100.0), Limits::default());
        assert_eq!(order.len(), space().len());
    }

    #[test]
    fn a_latency_far_above_the_limit_is_not_measured_beyond_the_probes() {
        let limits = Limits { p99: Some(Nanos(3_000_000)), memory_bytes: None };
        let (_, order) = explore(full_device, limits);
        let beyond = order.iter().skip(6).map(|index| space()[*index].batch_size);
        assert!(beyond.clone().all(|batch_size| batch_size < 64), "{:?}", beyond.collect::<Vec<_>>());
    }

    #[test]
    fn an_expected_improvement_is_what_integration_gives() {
        // Integrated numerically: a normal variable of mean -0.05 and deviation 0.1, above zero.
        assert!((expected_improvement(-0.05, 0.1) - 0.019_780).abs() < 1e-5);
        assert_eq!((expected_improvement(0.2, 0.0), expected_improvement(-0.2, 0.0)), (0.2, 0.0));
    }
}
