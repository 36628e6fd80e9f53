//! The search over sweeps of a real GPU (docs/benchmarks.md, "At the limit of the machine"): what it picks is held against
//! the best of the 48 or 60 configurations that were measured there. A slice gives what the sweep had, with noise.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::synthetic::{Folder, measurement, model, normal, recorded_sweeps, signature};
use super::super::{Earlier, Policy, Space, Sweep, SweepPoint, tune_with};
use super::*;
use crate::backend::{Counters, CudaGraph, TimesTaken, Wait};
use crate::measure::{Estimate, Feeding};
use crate::random::Random;

/// Standard deviation of the noise of a slice of 150 ms; longer ones have less.
const NOISE: f64 = 0.012;

/// Counters of a shorter slice are not known.
const LEAST_TIME_OF_COUNTERS: Duration = Duration::from_millis(320);

/// The warm-up of such a slice and half a second.
const LEAST_TIME_OF_POWER: Duration = Duration::from_millis(770);

const SEEDS: u64 = 5;

/// One network at one batch size in every configuration of a space.
struct Recorded {
    name: String,
    device: DeviceSpec,
    batch_size: usize,
    points: BTreeMap<Configuration, SweepPoint>,
    /// What it took to make a pool, for each of its slots.
    setup_of_slot: Duration,
    /// How many times as long it takes in the search.
    setup_in_search: f64,
}

impl Recorded {
    /// Names are for folders, so no two tests may share one.
    fn of(name: String, sweep: Sweep, device: DeviceSpec) -> Self {
        let slots = |it: &SweepPoint| f64::from(slots(&it.configuration));
        // A point took half a second or, as in `pace`, so many executions of each slot.
        let length = |point: &SweepPoint| {
            let batch_size = point.configuration.batch_size as f64;
            (3.2 * slots(point) * batch_size / throughput(point)).max(0.5)
        };
        let setups = sweep.time.as_seconds() - sweep.points.iter().map(length).sum::<f64>();
        Self {
            name,
            device,
            batch_size: sweep.choice.batch_size,
            setup_of_slot: Duration::from_secs_f64(setups / sweep.points.iter().map(slots).sum::<f64>()),
            setup_in_search: 1.0,
            points: sweep.points.into_iter().map(|point| (shape(&point.configuration), point)).collect(),
        }
    }

    /// What the search picks in an eighth of the time of the sweep, over the best.
    fn picked(&self, seed: u64) -> f64 {
        let folder = Folder::new(&format!("recorded-{}-{seed}", self.name));
        let outcome = self.search(&self.job(&folder, seed));
        let best = self.points.values().map(throughput).fold(0.0, f64::max);
        let winner = &outcome.candidates[outcome.winner.unwrap()].configuration;
        throughput(&self.points[&shape(winner)]) / best
    }

    fn search(&self, job: &TuneJob) -> TuneOutcome {
        let (clock, random) = (Cell::new(Duration::ZERO), RefCell::new(Random::new(job.policy.seed)));
        let mut measure = |trial: &Trial| {
            let setup = self.setup_of_slot.mul_f64(self.setup_in_search) * slots(&trial.configuration);
            clock.set(clock.get() + trial.duration() + setup);
            Ok(self.measure(trial, &mut random.borrow_mut()))
        };
        let instruments = &mut Instruments {
            measure: &mut measure,
            memory: &|_| Ok(None),
            elapsed: &|| clock.get(),
            is_stopped: &|| false,
        };
        let outcome = tune_with(job, instruments, &mut |_| {}).unwrap();
        assert!(clock.get() < job.budget.mul_f64(1.25), "{}: {:?}", self.name, clock.get());
        outcome
    }

    fn job(&self, folder: &Folder, seed: u64) -> TuneJob {
        let signature = signature(self.batch_size);
        let of_point = |it| Duration::from_millis(500) + self.setup_of_slot * slots(it);
        let sweep: Duration = self.points.keys().map(of_point).sum();
        let streams: BTreeSet<usize> = self.points.keys().map(|it| it.streams).collect();
        TuneJob {
            model: model(),
            engine: None,
            device: self.device.clone(),
            space: Space {
                streams: streams.into_iter().collect(),
                batch_sizes: vec![self.batch_size],
                depths: vec![2, 3],
                submitters: vec![1],
                cuda_graphs: CudaGraph::ALL.to_vec(),
                waits: vec![Wait::Block, Wait::Spin],
                ..Space::for_device(&self.device, &signature)
            },
            signature,
            limits: Limits::default(),
            samples_per_request: None,
            feeding: Feeding::default(),
            budget: sweep / 8,
            sample_time: None,
            policy: Policy { seed, ..Policy::default() },
            folder: folder.claim(),
            earlier: Earlier::Refuse,
        }
    }

    fn measure(&self, trial: &Trial, random: &mut Random) -> Measurement {
        // The baseline is not in the sweep, and wins nothing.
        let Some(point) = self.points.get(&shape(&trial.configuration)) else {
            return measurement(trial, 1.0);
        };
        let noise = NOISE * (0.15 / trial.duration().as_secs_f64()).sqrt();
        let value = throughput(point) * (noise * normal(random)).exp();
        let (lower, upper) = (value * (1.0 - 2.0 * noise), value * (1.0 + 2.0 * noise));
        Measurement {
            throughput_inferences_per_s: Estimate { value, lower, upper },
            stages: point.stages,
            counters: counters_of(point, trial.duration()),
            device: self.device.clone(),
            ..measurement(trial, value)
        }
    }
}

/// Of a slice that is too short for them there are none, and power takes half a second longer than what comes before it.
fn counters_of(point: &SweepPoint, time: Duration) -> Option<Counters> {
    let counters = point.counters.clone().filter(|_| time >= LEAST_TIME_OF_COUNTERS)?;
    let power_watts = counters.power_watts.filter(|_| time >= LEAST_TIME_OF_POWER);
    Some(Counters { power_watts, ..counters })
}

fn throughput(point: &SweepPoint) -> f64 {
    point.throughput_inferences_per_s.value
}

/// Whatever times were taken of it.
fn shape(configuration: &Configuration) -> Configuration {
    Configuration { stage_times: TimesTaken::Each, ..*configuration }
}

/// The sweeps in a file, by the names of their cells.
fn recorded(file: &str) -> BTreeMap<String, Recorded> {
    let of_cell = |(cell, sweep, device): (String, Sweep, DeviceSpec)| {
        (cell.clone(), Recorded::of(format!("{file}-{cell}"), sweep, device))
    };
    recorded_sweeps(file).into_iter().map(of_cell).collect()
}

/// How many searches pick what reaches 97 % of the best, of how many.
fn hits(recorded: &Recorded) -> (usize, usize) {
    let parts: Vec<f64> = (0..SEEDS).map(|seed| recorded.picked(seed)).collect();
    (parts.iter().filter(|part| **part >= 0.97).count(), parts.len())
}

fn hits_of(file: &str) -> (usize, usize) {
    let all = recorded(file);
    all.values().map(hits).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// That two streams are among the probes was decided on these, so they hold it: 79 of 140 before, with 20 seeds, and 138
/// then.
#[test]
fn an_eighth_of_the_time_is_enough_to_find_what_is_nearly_the_best_of_seven_real_sweeps() {
    let (hits, count) = hits_of("limit-2026-11-29-reserve.json");
    assert!(hits >= 34 && count == 35, "{hits} of {count}");
}

/// These are of another machine. Where one point of a sweep was lucky, nothing comes within three per cent of it.
#[test]
fn so_it_is_mostly_on_four_sweeps_that_nothing_was_decided_on() {
    let (hits, count) = hits_of("limit-2026-11-29.json");
    assert!(hits >= 16 && count == 20, "{hits} of {count}");
}

#[test]
fn so_it_is_with_up_to_sixteen_streams() {
    let (hits, count) = hits_of("limit-2026-11-30-sixteen.json");
    assert!(hits >= 33 && count == 35, "{hits} of {count}");
}

/// Those that sleep are up to a quarter slower here with MobileNetV2, which no search found while predictions were made for
/// them. Of ResNet-50 at batch 32 one point in sixty was lucky, without a graph: sleepers found it in 15 of 20 searches.
#[test]
fn so_it_is_where_other_machines_keep_the_hosts_cores_busy() {
    let mut all = recorded("limit-2026-11-30-busy.json");
    let lucky = hits(&all.remove("resnet50,32").unwrap());
    let (hits, count) = all.values().map(hits).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!(hits >= 24 && count == 25, "{hits} of {count}");
    assert!(lucky.0 >= 1, "{lucky:?}");
}

/// Nothing was decided on these eight sweeps; the searches of that run itself chose 0.989 to 1.009 of the best.
#[test]
fn so_it_is_on_a_quiet_host() {
    let (hits, count) = hits_of("limit-2026-11-30-quiet.json");
    assert!(hits >= 38 && count == 40, "{hits} of {count}");
}

/// Nor on these, on which the searches of the run itself chose 0.984 to 1.015 of the best.
#[test]
fn so_it_is_on_a_quiet_host_once_more() {
    let (hits, count) = hits_of("limit-2026-12-01.json");
    assert!(hits >= 38 && count == 40, "{hits} of {count}");
}

/// Nor on these, in which points that had to share their core were measured again, so that setting up looks longer than it was.
/// The searches of the run itself chose 0.982 to 1.034 of the best.
#[test]
fn so_it_is_where_submitters_leave_a_core_that_they_share() {
    let (hits, count) = hits_of("limit-2026-12-01-core.json");
    assert!(hits >= 38 && count == 40, "{hits} of {count}");
}

/// BERT-base, whose pools took half as long again in its search as in the sweep behind it.
fn with_slow_pools() -> Recorded {
    let mut recorded = recorded("limit-2026-11-30-sixteen.json").remove("bert_base,1").unwrap();
    recorded.setup_in_search = 1.5;
    recorded.name.push_str("-slow");
    recorded
}

/// What was to be measured next had no time for its 48 slots, and the search ended with eight streams, 5 % below the sixteen
/// that there was time for (3 of 20 seeds then).
#[test]
fn where_there_is_no_time_for_what_promises_most_something_shorter_is_measured() {
    assert_eq!(hits(&with_slow_pools()), (5, 5));
}

#[test]
fn a_search_that_has_passed_something_over_is_continued() {
    let recorded = with_slow_pools();
    let folder = Folder::new("recorded-passed-over");
    recorded.search(&recorded.job(&folder, 0));
    let journal = std::fs::read_to_string(folder.path().join(JOURNAL_FILE)).unwrap();
    assert_eq!(journal.matches("\"kind\":\"instead\"").count(), 1, "{journal}");
    let job = recorded.job(&folder, 0);
    let outcome = recorded.search(&TuneJob { earlier: Earlier::Resume, budget: 2 * job.budget, ..job });
    let winner = outcome.candidates[outcome.winner.unwrap()].configuration;
    assert_eq!(winner.streams, 16, "{winner}");
}
