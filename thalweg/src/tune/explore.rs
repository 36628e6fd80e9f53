//! Which candidates are worth measuring, where predictions can tell.
//!
//! In: slices as they are measured. Out: the next candidate to measure, and for every candidate what was predicted
//! before it was. A few probes come first: they tell what the stages take, what a CUDA graph saves and how streams
//! share the device. Then the candidate with the largest expected improvement over the best one known is measured: the
//! method of Jones, Schonlau and Welch ("Efficient Global Optimization of Expensive Black-Box Functions", Journal of
//! Global Optimization 13, 1998), on logarithms of throughputs. It ends where no candidate is left that has a chance to
//! be noticeably faster, and the best one known was measured with each kind of CUDA graph, each way to wait and each
//! number of copy lanes.

use std::cmp::min_by_key;
use std::collections::{BTreeMap, BTreeSet};

use super::outcome::is_calmer;
use super::probes::probes;
use super::{Limits, Slice};
use crate::backend::{CudaGraph, Wait};
use crate::capacity::{Observation, Prediction, Predictor};
use crate::measure::distribution::normal_cdf;
use crate::pool::Configuration;
use crate::units::Nanos;

/// Being faster by this part is worth looking for: the search promises 97 % of what is possible.
const NOTICEABLE: f64 = 0.03;

/// A candidate with a smaller probability than this to be noticeably faster than the best one known is not measured:
/// of two hundred searches, two may miss something for each such candidate, and candidates that are predicted alike
/// are mostly wrong together.
const SMALL_CHANCE: f64 = 0.01;

/// Part of the candidates that the first round measures at most, once there is one that may win. Those that are still
/// worth it come in later rounds, half as many in each as there are contenders: a third of the time for what is new.
const FIRST_EXPLORED: f64 = 0.08;

/// So many may be measured in the first round in any case: the probes and a few that follow from them.
const LEAST_EXPLORED: usize = 14;

/// A kind of CUDA graph that failed so often and never ran is refused by the backend.
const REFUSED_AFTER: usize = 2;

/// A predicted latency above this many times its limit is far outside. A prediction of a mean says little
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
    /// Which one it is.
    pub candidate: usize,
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
    /// How the submitters of those wait that predictions are made for, which know nothing of waiting, and the copy lanes
    /// of those, of which they know nothing either.
    usual: Usual,
    /// Candidates to measure before predictions count, next one last.
    probes: Vec<usize>,
    /// Which of them was chosen last.
    chosen_probe: Option<usize>,
    /// How many were measured for their latency.
    calmer_count: usize,
    is_measured: Vec<bool>,
    /// Those that the device has no room for.
    left_out: BTreeSet<Configuration>,
    /// How many candidates may be measured until the next round.
    allowed: usize,
    /// How many candidates of each kind of graph failed, and how many ran.
    runs: BTreeMap<CudaGraph, Runs>,
    /// For each candidate what was predicted last, and for a measured one what was predicted before that.
    predictions: Vec<Option<Prediction>>,
}

/// What predictions know nothing of, the way to wait and the copy lanes, as it is in the candidates that they are made
/// for: the first there is of each shape. Submitters that ask all the time come first. Those that sleep are as fast on a host
/// that has cores to spare (0.99 to 1.01), and where it has not they wake up late: MobileNetV2 on sixteen streams of an H200
/// then has 20,300 instead of 26,000 executions a second, at times 16,000, and a search that sleeps compares chance
/// (docs/benchmarks.md, "At the limit of the machine").
#[derive(Clone, Debug)]
struct Usual(BTreeMap<Configuration, (Wait, Option<usize>)>);

impl Usual {
    fn of(candidates: &[Configuration]) -> Self {
        let mut usual = BTreeMap::new();
        for candidate in candidates {
            let own = (candidate.wait, candidate.copy_lanes);
            let rank = |(wait, lanes)| (wait != Wait::Spin, wait, lanes);
            let first = usual.entry(shape(candidate)).or_insert(own);
            *first = min_by_key(own, *first, |it| rank(*it));
        }
        Self(usual)
    }

    fn is(&self, candidate: &Configuration) -> bool {
        self.0.get(&shape(candidate)) == Some(&(candidate.wait, candidate.copy_lanes))
    }
}

/// What predictions know of a candidate.
fn shape(candidate: &Configuration) -> Configuration {
    Configuration { wait: Wait::default(), copy_lanes: None, ..*candidate }
}

/// What became of the candidates of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Runs {
    failed: usize,
    ran: usize,
}

impl Exploration {
    /// Of these candidates, none of which was measured, on a device with this power limit where it is known.
    pub fn new(candidates: &[Configuration], limits: Limits, power_limit_watts: Option<f64>) -> Self {
        let usual = Usual::of(candidates);
        let is_usual = |candidate: &Configuration| usual.is(candidate);
        let mut probes = probes(candidates, is_usual);
        probes.reverse();
        let usual_count = candidates.iter().filter(|candidate| is_usual(candidate)).count();
        let count = candidates.len();
        Self {
            limits,
            power_limit_watts,
            predictor: Predictor::new(),
            usual,
            probes,
            chosen_probe: None,
            calmer_count: 0,
            is_measured: vec![false; count],
            left_out: BTreeSet::new(),
            allowed: first_explored(usual_count),
            runs: BTreeMap::new(),
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

    /// Never asks for these, of which nothing was measured yet.
    pub fn leave_out(&mut self, candidates: &[Configuration], left_out: BTreeSet<Configuration>) {
        self.left_out = left_out;
        self.find_probes(candidates);
    }

    fn find_probes(&mut self, candidates: &[Configuration]) {
        // A baseline outside the list is no candidate.
        let listed = &candidates[..self.is_measured.len()];
        self.probes = probes(listed, |other| self.may_run(other) && self.usual.is(other));
        self.probes.reverse();
    }

    /// A new round with so many contenders begins: half as many new candidates may be measured in it.
    pub fn begin_round(&mut self, contender_count: usize) {
        self.allowed = self.measured_count() + contender_count.div_ceil(2).max(1);
    }

    /// Takes the slice of one of the candidates into account.
    pub fn learn(&mut self, candidate: usize, candidates: &[Configuration], slice: &Slice) {
        let configuration = candidates[candidate];
        if let Some(is_measured) = self.is_measured.get_mut(candidate) {
            *is_measured = true;
            self.count_run(&configuration, slice);
            if self.is_refused(configuration.cuda_graph) {
                // What is left of the probes may be of that kind too.
                self.find_probes(candidates);
            }
        }
        if slice.failure.is_none() && self.usual.is(&configuration) {
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

    fn count_run(&mut self, configuration: &Configuration, slice: &Slice) {
        let runs = self.runs.entry(configuration.cuda_graph).or_default();
        if slice.failure.is_some() {
            runs.failed += 1;
        } else {
            runs.ran += 1;
        }
    }

    fn is_refused(&self, kind: CudaGraph) -> bool {
        self.runs.get(&kind).is_some_and(|runs| runs.ran == 0 && runs.failed >= REFUSED_AFTER)
    }

    fn may_run(&self, candidate: &Configuration) -> bool {
        !self.is_refused(candidate.cuda_graph) && !self.left_out.contains(candidate)
    }

    /// Whether predictions wait for the first slice of this candidate.
    pub fn is_probe(&self, candidate: usize) -> bool {
        self.chosen_probe == Some(candidate) && !self.is_measured[candidate]
    }

    /// The candidate to measure next, with this as the best one known; `None` where none is worth it, or enough were
    /// measured in this round. Without anything to predict from, each is worth it.
    pub fn choose(&mut self, candidates: &[Configuration], leader: Option<Leader>) -> Option<usize> {
        if let Some(probe) = self.choose_probe(candidates, |_| true) {
            return Some(probe);
        }
        if self.predictor.configuration_count() == 0 {
            return self.unmeasured(candidates).next();
        }
        let best = leader.map(|leader| leader.throughput);
        self.predict_all(candidates, best);
        let is_enough = best.is_some() && self.measured_count() >= self.allowed;
        let faster = if is_enough { None } else { self.most_promising(candidates, best, |_| true) };
        let other = || self.other_kind(candidates, leader?);
        let known = faster.or_else(other).or_else(|| self.calmer(candidates, leader?));
        let chosen = known.or_else(|| self.other_driving(candidates, leader?))?;
        self.predict(chosen, candidates);
        Some(chosen)
    }

    /// The candidate to measure next of those that are wanted: a probe, or the most promising of those that are more likely
    /// than not to be noticeably faster than the best one known. Less is not worth the time of the finals.
    pub fn choose_instead(
        &mut self,
        candidates: &[Configuration],
        best: Option<f64>,
        is_wanted: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if let Some(probe) = self.choose_probe(candidates, &is_wanted) {
            return Some(probe);
        }
        self.predict_all(candidates, best);
        let enough = best.map_or(0.0, |best| (1.0 + NOTICEABLE) * best);
        let is_likely = |candidate: usize| {
            self.predictions[candidate].is_some_and(|prediction| prediction.throughput.value >= enough)
        };
        self.most_promising(candidates, best, |candidate| is_wanted(candidate) && is_likely(candidate))
    }

    /// The next probe of those that are wanted.
    fn choose_probe(
        &mut self,
        candidates: &[Configuration],
        is_wanted: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let is_left = |probe: &usize| !self.is_measured[*probe] && is_wanted(*probe);
        let probe = self.probes.remove(self.probes.iter().rposition(is_left)?);
        self.predict(probe, candidates);
        self.chosen_probe = Some(probe);
        Some(probe)
    }

    /// Whether a candidate that was not measured has a chance to be noticeably faster than the best one known.
    pub fn has_more(&self, candidates: &[Configuration], leader: Leader) -> bool {
        let faster = || self.most_promising(candidates, Some(leader.throughput), |_| true);
        let driving = || self.other_driving(candidates, leader);
        self.other_kind(candidates, leader).or_else(faster).or_else(driving).is_some()
    }

    /// What is like the leader but for the kind of CUDA graph (and the submitters), where nothing of that kind was
    /// measured. Where a batch size is a surprise, it is one for every kind, and predictions of the others lag behind.
    fn other_kind(&self, candidates: &[Configuration], leader: Leader) -> Option<usize> {
        let shape = |candidate: usize| {
            let Configuration { streams, batch_size, depth, cuda_graph, .. } = candidates[candidate];
            (streams, batch_size, depth, cuda_graph)
        };
        let (streams, batch_size, depth, own) = shape(leader.candidate);
        let wanted = CudaGraph::ALL.map(|kind| (streams, batch_size, depth, kind));
        let is_known = |of: &(usize, usize, usize, CudaGraph)| {
            (0..self.is_measured.len()).any(|it| self.is_measured[it] && shape(it) == *of)
        };
        let unknown: Vec<_> = wanted.into_iter().filter(|of| of.3 != own && !is_known(of)).collect();
        let throughput = |candidate: usize| {
            let prediction = self.predictions[candidate].as_ref()?;
            let throughput = prediction.throughput.value;
            let is_possible = throughput >= HOPELESS * leader.throughput && self.excess(prediction) <= 1.0;
            (is_possible && unknown.contains(&shape(candidate))).then_some((throughput, candidate))
        };
        let fastest = self.unmeasured(candidates).filter_map(throughput);
        fastest.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))).map(|(_, candidate)| candidate)
    }

    /// What is like the leader but for the way to wait or the copy lanes, where that was not measured. How one waits
    /// matters most where executions are short, and nothing predicts either.
    fn other_driving(&self, candidates: &[Configuration], leader: Leader) -> Option<usize> {
        let shape = |candidate: usize| shape(&candidates[candidate]);
        let is_wanted = |candidate: &usize| {
            !self.is_measured[*candidate]
                && self.may_run(&candidates[*candidate])
                && shape(*candidate) == shape(leader.candidate)
        };
        (0..self.is_measured.len()).find(is_wanted)
    }

    /// The candidate with the most to hope for of those that are wanted.
    fn most_promising(
        &self,
        candidates: &[Configuration],
        best: Option<f64>,
        is_wanted: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let worth = |candidate: usize| self.worth(candidate, best).map(|worth| (worth, candidate));
        let unmeasured = self.unmeasured(candidates).filter(|candidate| is_wanted(*candidate));
        let chosen = unmeasured.filter_map(worth).max_by(|a, b| {
            let ((fits_a, gain_a), (fits_b, gain_b)) = (a.0, b.0);
            fits_a.cmp(&fits_b).then(gain_a.total_cmp(&gain_b)).then(b.1.cmp(&a.1))
        });
        chosen.map(|(_, candidate)| candidate)
    }

    /// A candidate that is predicted to be as fast as the leader and to answer sooner: the soonest.
    fn calmer(&mut self, candidates: &[Configuration], leader: Leader) -> Option<usize> {
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
        let (_, soonest) = self.unmeasured(candidates).filter_map(latency).min()?;
        self.calmer_count += 1;
        Some(soonest)
    }

    /// Candidates that were not measured and may run, of those that predictions are made for.
    fn unmeasured(&self, candidates: &[Configuration]) -> impl Iterator<Item = usize> {
        let is_wanted = |candidate: &Configuration| self.may_run(candidate) && self.usual.is(candidate);
        (0..self.is_measured.len()).filter(move |it| !self.is_measured[*it] && is_wanted(&candidates[*it]))
    }

    fn measured_count(&self) -> usize {
        self.is_measured.iter().filter(|is_measured| **is_measured).count()
    }

    fn predict_all(&mut self, candidates: &[Configuration], best: Option<f64>) {
        let is_hopeless = |candidate: &usize| {
            let upper = self.predictions[*candidate].map(|prediction| prediction.throughput.upper);
            upper.zip(best).is_some_and(|(upper, best)| upper < HOPELESS * best)
        };
        let unmeasured: Vec<usize> = self.unmeasured(candidates).filter(|it| !is_hopeless(it)).collect();
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
            Some(best) => {
                let ahead = Ahead::of(prediction, best);
                (ahead.chance_of(NOTICEABLE) >= SMALL_CHANCE).then(|| ahead.expected_improvement())?
            }
        };
        (excess <= FAR_OUTSIDE).then_some((excess <= 1.0, gain))
    }

    /// How many times over its limit the latency will be. What needs too much memory was left out.
    fn excess(&self, prediction: &Prediction) -> f64 {
        let late = self.limits.p99.map(|limit| prediction.latency.as_seconds() / limit.as_seconds());
        late.unwrap_or(0.0)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a count")]
fn first_explored(candidate_count: usize) -> usize {
    ((FIRST_EXPLORED * candidate_count as f64).ceil() as usize).max(LEAST_EXPLORED)
}

/// How far the logarithm of a throughput lies above that of the best one known: a normal variable.
struct Ahead {
    mean: f64,
    deviation: f64,
}

impl Ahead {
    fn of(prediction: &Prediction, best: f64) -> Self {
        let throughput = &prediction.throughput;
        let mean = (throughput.value / best).ln();
        Self { mean, deviation: (throughput.upper / throughput.value).ln() / TWO_SIDED }
    }

    /// The probability that it is faster by more than this part.
    fn chance_of(&self, part: f64) -> f64 {
        normal_cdf((self.mean - part.ln_1p()) / self.deviation.max(f64::MIN_POSITIVE))
    }

    fn expected_improvement(&self) -> f64 {
        expected_improvement(self.mean, self.deviation)
    }
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

#[cfg(test)]
mod tests;
