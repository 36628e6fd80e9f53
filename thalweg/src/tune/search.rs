//! Which candidate to measure next, when to stop, and which one wins.
//!
//! A state machine without a clock and without threads: [`Search::next`] says which candidate to measure,
//! [`Search::record`] takes the [`Slice`]. The same candidates, policy and slices lead to the same decisions,
//! so a journal of slices is all it takes to continue a search.
//!
//! Where predictions can tell ([`Search::guided`]), the first round measures only candidates that are worth it (see
//! `explore.rs`), and each round ends with those that have become so; otherwise the first round measures all.
//!
//! The method is successive elimination (Even-Dar, Mannor and Mansour, "Action Elimination and Stopping
//! Conditions for the Multi-Armed Bandit", JMLR 7, 2006), known in model selection as racing (Maron and
//! Moore, "Hoeffding Races", NIPS 1993): measure every candidate that is still in the race once per round,
//! in a freshly shuffled order, and drop those that are slower than another with confidence. Differences
//! are taken within rounds, so drift of the machine cancels (see `race.rs`).

use std::collections::BTreeMap;

use super::explore::{Exploration, Leader, expected_improvement};
use super::outcome::is_calmer;
use super::race::Race;
use super::slice::{compliance, is_doubtful, latency_of};
use super::{Compliance, Limits, Slice, Standing};
use crate::backend::Wait;
use crate::capacity::{Prediction, Predictor};
use crate::measure::LatencySummary;
use crate::measure::stats::CONFIDENCE;
use crate::pool::Configuration;
use crate::random::Random;
use crate::units::Nanos;

/// How a search decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Seed of the order within rounds.
    pub seed: u64,
    /// Probability with which the best candidate survives the whole search.
    pub confidence: f64,
    /// Rounds that two candidates must share before an interval decides between them.
    pub min_slices: usize,
    /// Differences below this fraction are not worth more measuring.
    pub indifference: f64,
    /// A candidate below this fraction of another in their first common round is dropped at once.
    pub far_behind: f64,
}

impl Default for Policy {
    /// - 95 % confidence, as every interval in this library.
    /// - Three rounds: with two, one disturbance decides.
    /// - 1 %: repeated runs of one configuration differ by about as much on an idle machine, so a smaller
    ///   gain would not be seen again.
    /// - 60 %: the noise of a slice is a few per cent, so 40 % is beyond ten standard deviations; it frees
    ///   half the candidates of a usual space after one round.
    fn default() -> Self {
        Self { seed: 0, confidence: CONFIDENCE, min_slices: 3, indifference: 0.01, far_behind: 0.6 }
    }
}

/// In a guided search: the improvement to expect of a candidate over the leader below which it is not measured
/// again: a tenth of what repeated runs differ by.
const WORTH_ANOTHER_SLICE: f64 = 0.001;

/// In a guided search: what slices of one configuration differ by at least, whatever their intervals say.
const LEAST_NOISE: f64 = 0.005;

/// In a guided search: the most that one slice is taken to be off by. A short one is cut into blocks of few
/// executions, which differ by more than slices do. Slices of ten executions a stream are off by 1.1 % (root mean
/// square over simulated devices), and one in a hundred by three times as much.
const MOST_NOISE: f64 = 0.02;

/// In a guided search: so many contenders are measured again in the second round, half as many in the next one, and so
/// on (Karnin, Koren and Somekh, "Almost Optimal Exploration in Multi-Armed Bandits", ICML 2013), but never fewer than
/// the least, so that the best one has company.
const MOST_CONTENDERS: usize = 6;
const LEAST_CONTENDERS: usize = 2;
const MOST_HALVINGS: usize = 8;

/// Standard deviations of a 95 % interval to each side.
const TWO_SIDED: f64 = 1.96;

/// A search under way.
#[derive(Clone, Debug)]
pub struct Search {
    candidates: Vec<Configuration>,
    limits: Limits,
    policy: Policy,
    random: Random,
    /// Of each candidate: the round of each slice. Slices outside the race have no round.
    slices: Vec<Vec<(Option<usize>, Slice)>>,
    /// Where each candidate stood when the last round ended.
    standings: Vec<Standing>,
    /// Why candidates are not measured that the device has no room for.
    left_out: BTreeMap<usize, String>,
    /// Who is still to be measured in this round, next one last.
    queue: Vec<usize>,
    round: usize,
    is_decided: bool,
    /// What predictions say, where they are asked.
    exploration: Option<Exploration>,
}

impl Search {
    /// A search over these candidates. The first round takes them in this order, later rounds shuffle.
    pub fn new(candidates: Vec<Configuration>, limits: Limits, policy: Policy) -> Self {
        let count = candidates.len();
        Self {
            candidates,
            limits,
            policy,
            random: Random::new(policy.seed),
            slices: vec![Vec::new(); count],
            standings: vec![Standing::NotMeasured; count],
            left_out: BTreeMap::new(),
            queue: (0..count).rev().collect(),
            round: 0,
            is_decided: count == 0,
            exploration: None,
        }
    }

    /// A search that measures only those candidates that predictions leave a chance. Where slices say nothing to
    /// predict from, it measures all. The power limit of the device helps where it is known.
    pub fn guided(
        candidates: Vec<Configuration>,
        limits: Limits,
        policy: Policy,
        power_limit_watts: Option<f64>,
    ) -> Self {
        let exploration = Exploration::new(&candidates, limits, power_limit_watts);
        let mut search = Self::new(candidates, limits, policy);
        search.queue.clear();
        search.exploration = Some(exploration);
        search.explore();
        search
    }

    /// Adds a configuration that takes no part in the race and cannot win, and gives its index.
    pub fn add_baseline(&mut self, configuration: Configuration) -> usize {
        self.candidates.push(configuration);
        self.slices.push(Vec::new());
        self.standings.push(Standing::Baseline);
        self.candidates.len() - 1
    }

    /// Takes candidates out before anything was measured, with the reason: the device has no room for them.
    ///
    /// # Panics
    /// Where something was measured.
    pub fn leave_out(&mut self, left_out: BTreeMap<usize, String>) {
        assert!(self.slices.iter().all(Vec::is_empty), "candidates leave before the search begins");
        for &candidate in left_out.keys() {
            self.standings[candidate] = Standing::DoesNotFit;
        }
        self.queue.retain(|candidate| !left_out.contains_key(candidate));
        if let Some(exploration) = &mut self.exploration {
            let configurations = left_out.keys().map(|candidate| self.candidates[*candidate]);
            exploration.leave_out(&self.candidates, configurations.collect());
            self.queue.clear();
            self.left_out = left_out;
            self.explore();
        } else {
            self.left_out = left_out;
        }
        self.is_decided = self.queue.is_empty();
    }

    /// The candidates, in the order that every index refers to.
    pub fn candidates(&self) -> &[Configuration] {
        &self.candidates
    }

    /// The candidate to measure next; `None` once the search is decided.
    pub fn next(&self) -> Option<usize> {
        self.queue.last().copied()
    }

    /// Asks for another candidate instead of the next one, which there is no time for: one that `fits` holds for, and that
    /// predictions wait for or think worth a slice. `None` where there is none, and where the next one was measured before.
    pub fn pass_over(&mut self, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let next = self.next().filter(|next| self.slices[*next].is_empty())?;
        let best = self.leader().map(|leader| leader.throughput);
        let is_other = |candidate| candidate != next && fits(candidate);
        let other = self.exploration.as_mut()?.choose_instead(&self.candidates, best, is_other)?;
        self.queue.pop();
        self.queue.push(other);
        Some(other)
    }

    /// Takes the slice of the candidate that [`next`](Self::next) named. Ends the round after its last one.
    ///
    /// # Panics
    /// Where the slice is of another candidate.
    pub fn record(&mut self, candidate: usize, slice: Slice) {
        assert_eq!(self.queue.pop(), Some(candidate), "a slice that was not asked for");
        self.learn(candidate, &slice);
        self.slices[candidate].push((Some(self.round), slice));
        self.update_standing(candidate);
        if self.queue.is_empty() {
            self.explore();
        }
        if self.queue.is_empty() {
            self.end_round();
        }
    }

    /// Takes a slice that was measured outside the race. It counts for limits and latencies, and not for
    /// speed, since the others were not measured beside it.
    pub fn record_aside(&mut self, candidate: usize, slice: Slice) {
        self.learn(candidate, &slice);
        self.slices[candidate].push((None, slice));
        self.update_standing(candidate);
    }

    /// The round that is being measured, counted from 0.
    pub fn round(&self) -> usize {
        self.round
    }

    /// How many candidates are still to be measured in this round.
    pub fn queued_count(&self) -> usize {
        self.queue.len()
    }

    /// Whether predictions choose what is measured.
    pub fn is_guided(&self) -> bool {
        self.exploration.is_some()
    }

    /// Whether predictions wait for the first slice of this candidate.
    pub fn is_probe(&self, candidate: usize) -> bool {
        self.exploration.as_ref().is_some_and(|exploration| exploration.is_probe(candidate))
    }

    /// What was predicted for a candidate before it was measured, or else last.
    pub fn prediction(&self, candidate: usize) -> Option<&Prediction> {
        self.exploration.as_ref()?.prediction(candidate)
    }

    /// What the slices taught, where predictions are asked.
    pub fn predictor(&self) -> Option<&Predictor> {
        self.exploration.as_ref().map(Exploration::predictor)
    }

    /// How many candidates were in the race when this round began.
    pub fn contender_count(&self) -> usize {
        let is_in = |standing: &&Standing| matches!(standing, Standing::Contender | Standing::NotMeasured);
        self.standings.iter().filter(is_in).count()
    }

    /// Whether the search came to its end by itself.
    pub fn is_decided(&self) -> bool {
        self.is_decided
    }

    /// Where a candidate stands.
    pub fn standing(&self, candidate: usize) -> Standing {
        self.standings[candidate]
    }

    /// All slices of a candidate, in the order in which they were measured.
    pub fn slices(&self, candidate: usize) -> impl Iterator<Item = &Slice> + Clone {
        self.slices[candidate].iter().map(|(_, slice)| slice)
    }

    /// Slices of a candidate in which it ran.
    pub(super) fn good_slices(&self, candidate: usize) -> impl Iterator<Item = &Slice> + Clone {
        self.slices(candidate).filter(|slice| slice.failure.is_none())
    }

    /// Why a candidate could not run.
    pub fn failure(&self, candidate: usize) -> Option<&str> {
        let left_out = self.left_out.get(&candidate).map(String::as_str);
        left_out.or_else(|| self.slices(candidate).find_map(|slice| slice.failure.as_deref()))
    }

    /// Latencies over all slices of a candidate.
    pub fn latency(&self, candidate: usize) -> Option<LatencySummary> {
        latency_of(self.good_slices(candidate))
    }

    /// What is known about a candidate and the limits.
    pub fn compliance(&self, candidate: usize) -> Compliance {
        if self.slices[candidate].is_empty() {
            return Compliance::Unproven;
        }
        compliance(&self.limits, self.good_slices(candidate))
    }

    /// Inferences per second of a candidate, freed from the drift of the machine: for ranking.
    pub fn scores(&self) -> Vec<Option<f64>> {
        let race = self.race();
        (0..self.candidates.len()).map(|candidate| race.score(candidate).map(f64::exp)).collect()
    }

    /// Throughputs of two candidates in the rounds that measured both.
    pub(super) fn common_rounds(&self, first: usize, second: usize) -> Vec<(f64, f64)> {
        let throughput = |slice: &Slice| slice.throughput_inferences_per_s.value;
        let in_round = |round: &Option<usize>| self.slices[second].iter().find(|(at, _)| at == round);
        let raced =
            self.slices[first].iter().filter(|(round, slice)| round.is_some() && slice.failure.is_none());
        raced
            .filter_map(|(round, slice)| {
                in_round(round).map(|(_, other)| (throughput(slice), throughput(other)))
            })
            .filter(|(_, other)| *other > 0.0)
            .collect()
    }

    /// The fastest but one that may run under the limits: what to compare `winner` with.
    pub fn runner_up(&self, winner: usize) -> Option<usize> {
        let race = self.race();
        let others: Vec<usize> = self.possible(&race).into_iter().filter(|other| *other != winner).collect();
        fastest(&race, &others)
    }

    /// The best that is known now. Among those that keep the limits, or where none is proven to among those
    /// that may: the fastest, or a candidate with shorter latency that is as fast for all that matters.
    /// `None` before anything was measured, and where every candidate failed or breaks a limit.
    pub fn winner(&self) -> Option<usize> {
        let race = self.race();
        let possible = self.possible(&race);
        let kept = possible.iter().copied().filter(|c| self.compliance(*c) == Compliance::Keeps);
        let kept: Vec<usize> = kept.collect();
        let eligible = if kept.is_empty() { possible } else { kept };
        let fastest = fastest(&race, &eligible)?;
        let mut equals = eligible;
        equals.retain(|candidate| *candidate == fastest || self.is_equal(&race, *candidate, fastest));
        // Summing up latencies takes time, and mostly there is nothing to choose.
        if equals.len() == 1 { Some(fastest) } else { equals.into_iter().min_by_key(|c| self.simplicity(*c)) }
    }

    /// Shorter latency first, then the smaller knobs.
    fn simplicity(&self, candidate: usize) -> (Nanos, Configuration) {
        let p50 = self.latency(candidate).map_or(Nanos(u64::MAX), |latency| latency.p50);
        (p50, self.candidates[candidate])
    }

    /// Of the others that look as fast for all that matters, the one with the shortest latency, where that is
    /// shorter than `winner`'s, or no longer and it leaves the core free that `winner` asks on all the time.
    pub fn calmer(&self, winner: usize) -> Option<usize> {
        let race = self.race();
        let own = race.score(winner)?;
        let compliance = self.compliance(winner);
        let is_wanted = |candidate: &usize| {
            let is_fast = race.score(*candidate).is_some_and(|score| score > own + (1.0 - self.tie()).ln());
            is_fast && self.compliance(*candidate) == compliance && self.wins_ties(*candidate, winner)
        };
        self.possible(&race).into_iter().filter(is_wanted).min_by_key(|candidate| self.simplicity(*candidate))
    }

    /// Whether it is to be preferred to another one that is as fast: it answers sooner, or no later and leaves the core free
    /// that the other one asks on all the time.
    pub fn wins_ties(&self, candidate: usize, over: usize) -> bool {
        let latencies = self.latency(candidate).zip(self.latency(over));
        let Some((own, other)) = latencies.map(|(own, other)| (own.p50, other.p50)) else { return false };
        let sleeps = |candidate: usize| self.candidates[candidate].wait == Wait::Block;
        let spares = sleeps(candidate) && !sleeps(over);
        is_calmer(own, other) || (spares && !is_calmer(other, own))
    }

    /// What may turn out to be a tie: as much noise as there are differences that do not matter.
    fn tie(&self) -> f64 {
        2.0 * self.policy.indifference
    }

    fn race(&self) -> Race {
        let reading = |(round, slice): &(Option<usize>, Slice)| {
            let reading = slice.throughput_inferences_per_s.value.ln();
            let counts = slice.failure.is_none() && reading.is_finite();
            round.filter(|_| counts).map(|round| (round, reading))
        };
        let readings = self.slices.iter().map(|slices| slices.iter().filter_map(reading).collect());
        Race::of(readings.collect(), self.miss())
    }

    /// Of the probability of losing the best candidate, round r may spend the part 6 / (pi r)^2, which sums
    /// to one over all rounds, and each of the others may spend an equal part of that (Bonferroni): the same
    /// split as in Even-Dar et al.
    fn miss(&self) -> f64 {
        let round = self.round.max(1) as f64;
        let others = self.candidates.len().saturating_sub(1).max(1) as f64;
        let of_round = 6.0 / (std::f64::consts::PI * round).powi(2);
        (1.0 - self.policy.confidence) * of_round / others
    }

    /// Candidates that were measured, ran, and do not break a limit.
    fn possible(&self, race: &Race) -> Vec<usize> {
        let is_out = |standing| matches!(standing, Standing::Failed | Standing::OverLimit);
        let all = 0..self.candidates.len();
        all.filter(|c| race.score(*c).is_some() && !is_out(self.standings[*c])).collect()
    }

    fn learn(&mut self, candidate: usize, slice: &Slice) {
        if let Some(exploration) = &mut self.exploration {
            exploration.learn(candidate, &self.candidates, slice);
        }
    }

    /// Queues the next candidate that is worth measuring though it was not in the race, if there is one.
    fn explore(&mut self) {
        let leader = self.leader();
        let Some(exploration) = &mut self.exploration else { return };
        self.queue.extend(exploration.choose(&self.candidates, leader));
    }

    /// Whether predictions leave a candidate that was not measured a chance.
    fn has_more(&self) -> bool {
        let exploration = self.exploration.as_ref().zip(self.leader());
        exploration.is_some_and(|(it, leader)| it.has_more(&self.candidates, leader))
    }

    /// The candidate with the highest throughput of those that may win.
    fn leader(&self) -> Option<Leader> {
        let may_win = |candidate: &usize| {
            matches!(self.standings[*candidate], Standing::Contender | Standing::Slower)
                && !is_doubtful(&self.limits, self.good_slices(*candidate))
        };
        // The mean of all, since the luckiest of many slices is too good.
        let throughput = |candidate: usize| {
            let throughputs =
                self.good_slices(candidate).map(|slice| slice.throughput_inferences_per_s.value);
            let (sum, count) = throughputs.fold((0.0, 0.0), |(sum, count), it| (sum + it, count + 1.0));
            (count > 0.0).then_some((sum / count, candidate))
        };
        let known = (0..self.candidates.len()).filter(may_win).filter_map(throughput);
        let (throughput, fastest) = known.max_by(|a, b| a.0.total_cmp(&b.0))?;
        let latency = self.latency(fastest).map_or(Nanos::ZERO, |latency| latency.p50);
        Some(Leader { candidate: fastest, throughput, latency })
    }

    fn update_standing(&mut self, candidate: usize) {
        if self.failure(candidate).is_some() {
            self.standings[candidate] = Standing::Failed;
        } else if self.standings[candidate] == Standing::Baseline {
            // It stays what it is, whatever limits it breaks.
        } else if self.compliance(candidate) == Compliance::Breaks {
            self.standings[candidate] = Standing::OverLimit;
        } else if matches!(self.standings[candidate], Standing::NotMeasured | Standing::Unpromising) {
            self.standings[candidate] = Standing::Contender;
        }
    }

    /// Judges everyone afresh. So a candidate returns to the race where the one that beat it turns out to
    /// break a limit.
    fn end_round(&mut self) {
        self.round += 1;
        // A round that measures all ends when all were measured, so this concerns guided searches only.
        for standing in self.standings.iter_mut().filter(|standing| **standing == Standing::NotMeasured) {
            *standing = Standing::Unpromising;
        }
        let race = self.race();
        let possible = self.possible(&race);
        let Some(fastest) = fastest(&race, &possible) else {
            self.is_decided = true;
            return;
        };
        for &candidate in &possible {
            let is_beaten = candidate != fastest && self.is_beaten(&race, candidate, fastest, &possible);
            self.standings[candidate] = if is_beaten { Standing::Slower } else { Standing::Contender };
        }
        let mut contenders = possible;
        contenders.retain(|candidate| self.standings[*candidate] == Standing::Contender);
        if self.settles(&race, &contenders, fastest) && !self.has_more() {
            self.is_decided = true;
        } else {
            self.begin_round(&race, &mut contenders);
            self.random.shuffle(&mut contenders);
            self.queue = contenders;
        }
    }

    /// In a guided search, only the best contenders are measured in each round: predictions leave many that are nearly
    /// equal, and a few long slices tell more than many short ones.
    fn begin_round(&mut self, race: &Race, contenders: &mut Vec<usize>) {
        let Some(exploration) = &mut self.exploration else { return };
        let score = |candidate: &usize| race.score(*candidate).unwrap_or(f64::NEG_INFINITY);
        contenders.sort_by(|a, b| score(b).total_cmp(&score(a)));
        contenders.truncate((MOST_CONTENDERS >> (self.round - 1).min(MOST_HALVINGS)).max(LEAST_CONTENDERS));
        exploration.begin_round(contenders.len());
    }

    /// Whether another is faster with confidence. In a guided search, where neighbours are predicted from each
    /// other and the finals follow: whether little is to be hoped for.
    fn is_beaten(&self, race: &Race, candidate: usize, fastest: usize, possible: &[usize]) -> bool {
        if self.is_guided() {
            return self.hope(race, candidate, fastest) < WORTH_ANOTHER_SLICE;
        }
        possible.iter().any(|other| *other != candidate && self.beats(race, *other, candidate))
    }

    /// The improvement to expect of a candidate over the fastest, on a logarithmic scale.
    fn hope(&self, race: &Race, candidate: usize, fastest: usize) -> f64 {
        let (Some(own), Some(best)) = (race.score(candidate), race.score(fastest)) else { return 0.0 };
        expected_improvement(own - best, self.noise(candidate).hypot(self.noise(fastest)))
    }

    /// Standard error of the logarithm of a candidate's throughput, from the intervals of its slices.
    fn noise(&self, candidate: usize) -> f64 {
        let of_slice = |slice: &Slice| {
            let throughput = slice.throughput_inferences_per_s;
            ((throughput.upper - throughput.lower) / (2.0 * TWO_SIDED * throughput.value))
                .clamp(LEAST_NOISE, MOST_NOISE)
        };
        let squares: Vec<f64> = self.good_slices(candidate).map(|slice| of_slice(slice).powi(2)).collect();
        squares.iter().sum::<f64>().sqrt() / squares.len() as f64
    }

    /// Whether more rounds could not change what the search cares for: all that are left are as good as the
    /// fastest, and it keeps the limits.
    fn settles(&self, race: &Race, contenders: &[usize], fastest: usize) -> bool {
        let mut others = contenders.iter().filter(|candidate| **candidate != fastest);
        self.compliance(fastest) == Compliance::Keeps && others.all(|c| self.is_equal(race, *c, fastest))
    }

    fn beats(&self, race: &Race, first: usize, second: usize) -> bool {
        let Some(difference) = race.difference(first, second) else { return false };
        let is_far_ahead = difference.value > -self.policy.far_behind.ln();
        let is_proven =
            difference.rounds >= self.policy.min_slices && difference.value > difference.half_width;
        is_far_ahead || is_proven
    }

    /// Whether the second is faster than the first by less than the search cares for, with confidence.
    fn is_equal(&self, race: &Race, first: usize, second: usize) -> bool {
        let Some(difference) = race.difference(first, second) else { return false };
        let least = difference.value - difference.half_width;
        difference.rounds >= self.policy.min_slices && least > (1.0 - self.policy.indifference).ln()
    }
}

fn fastest(race: &Race, candidates: &[usize]) -> Option<usize> {
    let score = |candidate: &usize| race.score(*candidate).unwrap_or(f64::NEG_INFINITY);
    candidates.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b)))
}

#[cfg(test)]
mod tests;
