//! One session of `tune`: asks the search, measures, keeps the journal, tells the progress.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::journal::{Entry, JOURNAL_FILE, Journal, Reading, SetupTime};
use super::room::lack_of_room;
use super::settle::{is_out, settle};
use super::summary::{Roles, pareto, rank};
use super::verdict::verdict;
use super::{
    Ending, Finals, Instruments, Limits, OUTCOME_VERSION, Progress, Search, Slice, Standing, Trial, TuneJob,
    TuneOutcome, baseline, pace, saturating_load,
};
use crate::backend::DeviceSpec;
use crate::capacity::{Curve, power_limit_watts};
use crate::error::{Error, Result};
use crate::measure::Measurement;
use crate::pool::Configuration;
use crate::units::Nanos;
use replay::{open_journal, replay};

/// How often the finals are held again because they showed that the winner breaks a limit.
const MOST_FINALS: usize = 3;

/// A session under way.
pub(super) struct Run<'a, 'i> {
    job: &'a TuneJob,
    instruments: &'a mut Instruments<'i>,
    progress: &'a mut dyn FnMut(Progress<'_>),
    search: Search,
    /// Index of the baseline in the search.
    baseline: usize,
    journal: Journal,
    /// Time of earlier sessions.
    earlier: Duration,
    /// In earlier sessions too.
    setup: SetupTime,
    first_failure: Option<Error>,
}

impl<'a, 'i> Run<'a, 'i> {
    /// Lists the candidates, opens the journal and replays it.
    pub fn start(
        job: &'a TuneJob,
        instruments: &'a mut Instruments<'i>,
        progress: &'a mut dyn FnMut(Progress<'_>),
    ) -> Result<Self> {
        let (mut search, baseline) = fresh_search(job)?;
        let of_space = |index: &usize| search.standing(*index) != Standing::Baseline;
        let candidate_count = (0..search.candidates().len()).filter(of_space).count();
        let (mut journal, entries) = open_journal(job)?;
        if entries.is_empty() {
            leave_out_the_large((&mut search, baseline), job, instruments, &mut journal)?;
        }
        let replayed = replay(&mut search, entries, &job.folder.path().join(JOURNAL_FILE))?;
        progress(Progress::Started { candidate_count, resumed_slices: replayed.slice_count });
        Ok(Self {
            job,
            instruments,
            progress,
            search,
            baseline,
            journal,
            earlier: replayed.elapsed.to_duration(),
            setup: replayed.setup,
            first_failure: None,
        })
    }

    /// Measures round after round until the search is decided, the time is up, or the user stops it.
    pub fn race(&mut self) -> Result<Ending> {
        let mut paced = None;
        while let Some(candidate) = self.search.next() {
            if (self.instruments.is_stopped)() {
                return self.ended(Ending::Interrupted);
            }
            let end = self.race_end();
            let left = end.saturating_sub(self.elapsed());
            let length = match paced {
                Some((round, length)) if round == self.search.round() => length,
                _ => self.slice_length(left),
            };
            paced = Some((self.search.round(), length));
            let trial = self.race_trial(candidate, length, left);
            // The first slice is taken in any case, or there would be nothing to report.
            if left < self.time_of(&trial) && self.has_slices() {
                if self.pass_over(candidate, length, left)? {
                    continue;
                }
                return self.ended(Ending::TimeUp);
            }
            if !self.race_once(candidate, &trial)? {
                return self.ended(Ending::Interrupted);
            }
        }
        self.ended(Ending::Decided)
    }

    /// What a slice of the race would be, of this length if all is well.
    fn race_trial(&self, candidate: usize, length: Duration, left: Duration) -> Trial {
        // In virtual time counters tell at any moment.
        let rests_on_counters = self.search.is_probe(candidate) && !self.job.device.is_simulated();
        let length = if rests_on_counters { pace::long_enough_for_counters(length) } else { length };
        // Predictions are learnt from every slice, so none may be too short to be true.
        let time = if self.search.is_guided() { self.race_end() } else { left };
        self.trial(candidate, length, pace::longest_slice(time))
    }

    /// Turns to a candidate for which there is time instead of the next one, mostly because its pool would take too long to
    /// make; false where there is none that is worth it.
    fn pass_over(&mut self, next: usize, length: Duration, left: Duration) -> Result<bool> {
        let fits = |candidate: &usize| self.time_of(&self.race_trial(*candidate, length, left)) <= left;
        let fitting: BTreeSet<usize> = (0..self.search.candidates().len()).filter(fits).collect();
        let found = self.search.pass_over(|candidate| fitting.contains(&candidate));
        if let Some(candidate) = found {
            let text = |candidate: usize| self.search.candidates()[candidate].to_string();
            let (configuration, of) = (text(candidate), text(next));
            self.journal.add(&Entry::Instead { candidate, configuration, of })?;
        }
        Ok(found.is_some())
    }

    fn slice_length(&self, left: Duration) -> Duration {
        if self.search.round() == 0 {
            pace::first_round_slice(self.job.budget, self.search.candidates().len())
        } else if self.search.is_guided() {
            pace::halving_round_slice(left, self.search.queued_count())
        } else {
            pace::later_round_slice(left, self.search.queued_count())
        }
    }

    /// When a slice of the race has to be over. What predictions ask for first matters more than long finals do, or a
    /// slow network would get finalists before the best was seen.
    fn race_end(&self) -> Duration {
        let is_first = self.search.round() == 0;
        let reserve = if is_first { pace::reserve(self.job.budget) } else { self.reserve() };
        self.job.budget.saturating_sub(reserve)
    }

    /// Time at the end that belongs to the finalists.
    fn reserve(&self) -> Duration {
        let of = if self.search.is_guided() { pace::guided_reserve } else { pace::reserve };
        of(self.job.budget)
    }

    /// One slice of the race; false where the user stopped it.
    fn race_once(&mut self, candidate: usize, trial: &Trial) -> Result<bool> {
        let elapsed = self.elapsed();
        (self.progress)(Progress::Measuring {
            round: self.search.round(),
            contender_count: self.search.contender_count(),
            configuration: &trial.configuration,
            elapsed,
        });
        let measured = self.measure(trial);
        self.note_loss(candidate, &measured)?;
        let Some((slice, _)) = measured? else { return Ok(false) };
        self.journal.add(&Entry::Slice(self.reading(candidate, &slice)))?;
        let before = self.standings();
        self.search.record(candidate, slice.clone());
        let leader = self.search.winner().map(|leader| &self.search.candidates()[leader]);
        (self.progress)(Progress::Measured { configuration: &trial.configuration, slice: &slice, leader });
        self.tell_dropped(&before)?;
        Ok(true)
    }

    /// Writes down which candidate the device was lost with, so that a search that is resumed does not begin with it
    /// again, to lose the device again.
    fn note_loss<T>(&mut self, candidate: usize, measured: &Result<T>) -> Result<()> {
        match measured {
            Err(error) if error.is_device_lost() => {
                self.journal.add(&Entry::Slice(self.reading(candidate, &Slice::failed(error))))
            }
            _ => Ok(()),
        }
    }

    /// Refuses to go on where there is nothing to report.
    pub fn check_something_ran(&mut self, ending: Ending) -> Result<()> {
        let indices = 0..self.search.candidates().len();
        let is_known = |index: &usize| {
            self.search.slices(*index).next().is_some() || self.search.failure(*index).is_some()
        };
        let measured: Vec<usize> = indices.filter(is_known).collect();
        // What was left out beforehand did not run either.
        let has_run = measured.iter().any(|index| self.search.slices(*index).next().is_some());
        if !has_run && ending == Ending::Interrupted {
            return Err(Error::Interrupted);
        }
        let failures: Vec<&str> = measured.iter().filter_map(|index| self.search.failure(*index)).collect();
        if failures.len() < measured.len() {
            return Ok(());
        }
        let candidate_count = measured.len();
        let first = failures.first().copied().unwrap_or_default().to_owned();
        Err(self.first_failure.take().unwrap_or(Error::NothingRan { candidate_count, first }))
    }

    /// Measures the winner, the runner-up and the baseline side by side, and the winner once more at length.
    pub fn finals(&mut self, ending: Ending) -> Result<(Roles, Finals)> {
        let mut held = (self.roles(), Finals::default());
        if ending == Ending::Interrupted {
            return Ok(held);
        }
        let reserve = self.reserve();
        for _ in 0..MOST_FINALS {
            let roles = self.roles();
            // Where the race was decided early, its time is there for the finals too.
            let last_look =
                roles.winner.map_or(Duration::ZERO, |winner| self.time_of(&self.least_last_look(winner)));
            let least = pace::reserve(self.job.budget);
            let end = self.job.budget.max(self.elapsed() + least).saturating_sub(last_look);
            held = (roles, self.final_rounds(roles, end)?);
            let has_time = self.elapsed() + reserve <= self.job.budget && !(self.instruments.is_stopped)();
            if self.roles().winner == roles.winner || !has_time {
                break;
            }
        }
        let (mut roles, mut finals) = held;
        if roles.winner.is_some_and(|winner| is_out(&self.search, winner)) {
            roles = self.roles();
        }
        roles = settle(&self.search, &finals, roles, self.job.policy.indifference);
        if let Some(winner) = roles.winner {
            finals.last_look = self.last_look(winner)?;
        }
        Ok((roles, finals))
    }

    /// How the search ended, once the finals are over: nothing is decided where the user did not wait for them.
    pub fn ended_in_finals(&mut self, ending: Ending) -> Result<Ending> {
        let is_news = ending != Ending::Interrupted && (self.instruments.is_stopped)();
        if is_news { self.ended(Ending::Interrupted) } else { Ok(ending) }
    }

    fn roles(&self) -> Roles {
        let winner = self.search.winner();
        let runner_up = winner.and_then(|winner| self.search.runner_up(winner));
        let calmer = winner.and_then(|winner| self.search.calmer(winner));
        Roles { winner, runner_up, calmer, baseline: self.baseline }
    }

    fn final_rounds(&mut self, roles: Roles, end: Duration) -> Result<Finals> {
        let mut finals = Finals::default();
        let finalists = self.finalists(roles);
        if finalists.len() < 2 {
            return Ok(finals);
        }
        let time = self.final_time(end);
        let rounds = pace::final_rounds(time, finalists.len());
        let schedule = Finals::schedule(&finalists, rounds, self.job.policy.seed);
        let step_count = schedule.len();
        let setups = finalists.iter().map(|finalist| self.setup_of(&self.search.candidates()[*finalist]));
        let setup = setups.sum::<Duration>() / u32::try_from(finalists.len()).unwrap_or(u32::MAX);
        let length = pace::final_slice(time, step_count, setup);
        for (step, (round, finalist)) in schedule.into_iter().enumerate() {
            let left = end.saturating_sub(self.elapsed());
            let trial = self.final_trial(finalist, length);
            if self.time_of(&trial) > left {
                break;
            }
            (self.progress)(Progress::Confirming { configuration: &trial.configuration, step, step_count });
            let Some((slice, _)) = self.measure_finalist(finalist, &trial)? else { break };
            if slice.failure.is_none() {
                finals.record(round, finalist, slice.throughput_inferences_per_s.value);
            }
        }
        Ok(finals)
    }

    /// What the finals may take: where the race was decided early, the rest of its time too. Where there are limits,
    /// the finals may show that the winner breaks one, and others have to follow. Where nothing predicts, so that
    /// everything was measured at length already, the last measurement of the winner keeps its part.
    fn final_time(&self, end: Duration) -> Duration {
        let left = end.saturating_sub(self.elapsed());
        if self.job.limits != Limits::default() {
            return pace::final_part(self.reserve()).min(left);
        }
        let kept = if self.search.is_guided() { Duration::ZERO } else { pace::last_part(self.reserve()) };
        pace::final_time(left.saturating_sub(kept))
    }

    fn finalists(&self, roles: Roles) -> Vec<usize> {
        let mut finalists: Vec<usize> = roles.winner.into_iter().chain(roles.runner_up).collect();
        finalists.extend(roles.calmer.filter(|calmer| !finalists.contains(calmer)));
        let is_able = self.search.failure(roles.baseline).is_none();
        if !finalists.is_empty() && is_able && !finalists.contains(&roles.baseline) {
            finalists.push(roles.baseline);
        }
        finalists
    }

    fn last_look(&mut self, winner: usize) -> Result<Option<Measurement>> {
        let reserve = self.reserve();
        let left = self.job.budget.saturating_sub(self.elapsed());
        let length = pace::last_look_window(reserve);
        let slice = self.trial(winner, length, left.max(length));
        // As it will run: with the times of each execution MobileNetV2 on 32 streams (H200) confirms 17,800 of 31,000 a second.
        let left = left.saturating_sub(self.setup_of(&slice.configuration));
        let shortest = self.trial(winner, Duration::ZERO, left.max(length));
        let trial = pace::last_look(slice, shortest, left);
        (self.progress)(Progress::LastLook { configuration: &trial.configuration });
        let measured = self.measure_finalist(winner, &trial)?;
        Ok(measured.and_then(|(_, measurement)| measurement))
    }

    fn measure_finalist(
        &mut self,
        finalist: usize,
        trial: &Trial,
    ) -> Result<Option<(Slice, Option<Measurement>)>> {
        if (self.instruments.is_stopped)() {
            return Ok(None);
        }
        let Some((slice, measurement)) = self.measure(trial)? else { return Ok(None) };
        self.journal.add(&Entry::Final(self.reading(finalist, &slice)))?;
        self.search.record_aside(finalist, slice.clone());
        Ok(Some((slice, measurement)))
    }

    /// Measures, and once more where the device was held back by heat or the like. What is disturbed again counts all
    /// the same: it may be like that for hours.
    fn measure(&mut self, trial: &Trial) -> Result<Option<(Slice, Option<Measurement>)>> {
        let first = self.measure_once(trial)?;
        let disturbance = first.as_ref().and_then(|(slice, _)| slice.disturbance());
        let Some(reason) = disturbance else { return Ok(first) };
        let text = format!("{}: measured again after {reason}", trial.configuration);
        self.journal.add(&Entry::Note { text })?;
        Ok(self.measure_once(trial)?.or(first))
    }

    /// Measures, and makes a failure of the candidate a slice; `None` where the user stopped it.
    fn measure_once(&mut self, trial: &Trial) -> Result<Option<(Slice, Option<Measurement>)>> {
        let start = self.elapsed();
        let measured = (self.instruments.measure)(trial);
        let overhead = self.elapsed().saturating_sub(start + trial.duration());
        match measured {
            Ok(measurement) => {
                self.setup.time += Nanos::from_duration(overhead);
                self.setup.slots += slots(&trial.configuration);
                Ok(Some((Slice::of(&measurement, &self.job.limits), Some(measurement))))
            }
            Err(Error::Interrupted) => Ok(None),
            Err(error @ Error::Bug(_)) => Err(error),
            // Nothing can run after a device was lost: that is no fault of the candidates to come, which a new
            // process measures when the search is resumed.
            Err(error) if error.is_device_lost() => Err(error),
            Err(error) => {
                let slice = Slice::failed(&error);
                self.first_failure.get_or_insert(error);
                Ok(Some((slice, None)))
            }
        }
    }

    /// How long it will take, with what it takes to make the pool: as much for each slot as those before.
    fn time_of(&self, trial: &Trial) -> Duration {
        trial.duration() + self.setup_of(&trial.configuration)
    }

    fn setup_of(&self, configuration: &Configuration) -> Duration {
        self.setup.time.to_duration() / self.setup.slots.max(1) * slots(configuration)
    }

    /// As long as it takes: a slice that is too short would flatter whoever has many streams.
    fn final_trial(&self, finalist: usize, length: Duration) -> Trial {
        self.trial(finalist, length, Duration::MAX)
    }

    fn least_last_look(&self, winner: usize) -> Trial {
        pace::least_last_look(self.final_trial(winner, Duration::ZERO), self.job.budget)
    }

    /// Of this length, or of up to `most` where the network is slow.
    fn trial(&self, candidate: usize, length: Duration, most: Duration) -> Trial {
        let configuration = self.search.candidates()[candidate];
        let load = saturating_load(&configuration, self.job.samples_per_request);
        let expected = self.expected_throughput(candidate);
        pace::trial(configuration, load, pace::stretched(length, &configuration, expected, most))
    }

    /// The candidate's own throughput, or the middle of those that are known.
    fn expected_throughput(&self, candidate: usize) -> Option<f64> {
        let last = |index: usize| self.search.good_slices(index).last();
        let throughput = |slice: &Slice| slice.throughput_inferences_per_s.value;
        if let Some(own) = last(candidate) {
            return Some(throughput(own));
        }
        if let Some(prediction) = self.search.prediction(candidate) {
            return Some(prediction.throughput.value);
        }
        let all = 0..self.search.candidates().len();
        let mut known: Vec<f64> = all.filter_map(last).map(throughput).collect();
        known.sort_unstable_by(f64::total_cmp);
        let middle = known.get(known.len() / 2).copied();
        middle.or(self.job.sample_time.map(|time| 1.0 / time.as_seconds()))
    }

    fn has_slices(&self) -> bool {
        (0..self.search.candidates().len()).any(|index| self.search.slices(index).next().is_some())
    }

    fn elapsed(&self) -> Duration {
        self.earlier + (self.instruments.elapsed)()
    }

    fn reading(&self, candidate: usize, slice: &Slice) -> Reading {
        let configuration = self.search.candidates()[candidate].to_string();
        let elapsed = Nanos::from_duration(self.elapsed());
        let predicted = self.search.prediction(candidate).copied();
        Reading { candidate, configuration, predicted, slice: slice.clone(), elapsed, setup: self.setup }
    }

    fn standings(&self) -> Vec<Standing> {
        (0..self.search.candidates().len()).map(|index| self.search.standing(index)).collect()
    }

    fn tell_dropped(&mut self, before: &[Standing]) -> Result<()> {
        for (index, before) in before.iter().enumerate() {
            let standing = self.search.standing(index);
            let is_dropped = matches!(standing, Standing::Slower | Standing::OverLimit | Standing::Failed);
            if is_dropped && standing != *before {
                let configuration = &self.search.candidates()[index];
                (self.progress)(Progress::Dropped { configuration, standing });
                self.journal.add(&Entry::Note { text: format!("{configuration}: {standing:?}") })?;
            }
        }
        Ok(())
    }

    fn ended(&mut self, ending: Ending) -> Result<Ending> {
        self.journal.add(&Entry::Ended { ending })?;
        Ok(ending)
    }

    /// Predictions for a candidate with every number of streams in the space.
    fn curve(&self, candidate: usize) -> Option<Curve> {
        let mut streams = self.job.space.streams.clone();
        streams.sort_unstable();
        streams.dedup();
        self.search.predictor()?.curve(&self.search.candidates()[candidate], &streams)
    }

    /// Puts everything together.
    pub fn finish(self, ending: Ending, roles: Roles, mut finals: Finals) -> TuneOutcome {
        let confirmation = finals.last_look.take();
        let all = 0..self.search.candidates().len();
        let slices = all.flat_map(|candidate| self.search.slices(candidate));
        let disturbed_slices = slices.filter(|slice| slice.disturbance().is_some()).count();
        let ranking = rank(&self.search, &finals, roles);
        let curve = roles.winner.and_then(|winner| self.curve(winner));
        let confirmed = confirmation.as_ref().map(|it| it.throughput_inferences_per_s);
        TuneOutcome {
            schema_version: OUTCOME_VERSION,
            model: self.job.model.clone(),
            engine: self.job.engine.clone(),
            device: self.job.device.clone(),
            signature: Some(self.job.signature.clone()),
            limits: self.job.limits,
            samples_per_request: self.job.samples_per_request,
            search_time: Nanos::from_duration(self.elapsed()),
            ending,
            winner: ranking.winner,
            runner_up: ranking.runner_up,
            baseline: ranking.baseline,
            pareto: pareto(&ranking.candidates),
            verdict: verdict(&ranking, &self.job.limits, curve.as_ref(), confirmed),
            curve,
            confirmation,
            sweep: None,
            disturbed_slices,
            candidates: ranking.candidates,
        }
    }
}

/// A search that knows nothing yet, and the index of the baseline in it.
fn fresh_search(job: &TuneJob) -> Result<(Search, usize)> {
    let candidates = job.candidates()?;
    let mut search = if predicts(&job.device) {
        Search::guided(candidates, job.limits, job.policy, power_limit_watts(&job.device))
    } else {
        Search::new(candidates, job.limits, job.policy)
    };
    let baseline = baseline(&job.signature, &job.device);
    let batch_size = baseline.batch_size.max(job.samples_per_request.unwrap_or(1));
    let baseline = Configuration { batch_size, ..baseline };
    let known = search.candidates().iter().position(|candidate| *candidate == baseline);
    let baseline = known.unwrap_or_else(|| search.add_baseline(baseline));
    Ok((search, baseline))
}

/// Takes out what the device has no room for, and writes down why, so that a search that is resumed leaves out the same.
fn leave_out_the_large(
    (search, baseline): (&mut Search, usize),
    job: &TuneJob,
    instruments: &Instruments<'_>,
    journal: &mut Journal,
) -> Result<()> {
    let mut left_out = BTreeMap::new();
    for (candidate, configuration) in search.candidates().iter().enumerate() {
        // The baseline stays what it is, whatever limits it breaks.
        let memory_bytes = job.limits.memory_bytes.filter(|_| candidate != baseline);
        let limits = Limits { memory_bytes, ..job.limits };
        let Some(reason) = lack_of_room(instruments, configuration, &limits)? else { continue };
        let entry =
            Entry::LeftOut { candidate, configuration: configuration.to_string(), reason: reason.clone() };
        journal.add(&entry)?;
        left_out.insert(candidate, reason);
    }
    if !left_out.is_empty() {
        search.leave_out(left_out);
    }
    Ok(())
}

fn slots(configuration: &Configuration) -> u32 {
    u32::try_from(configuration.streams * configuration.depth).unwrap_or(u32::MAX)
}

/// Whether measurements on this device say what predictions need. On the `cpu` backend streams share cores, caches
/// and a memory bus with threads of their own, which the model of a GPU does not describe.
fn predicts(device: &DeviceSpec) -> bool {
    !device.is_host()
}

#[cfg(test)]
mod recorded;
mod replay;
#[cfg(test)]
mod tests;
