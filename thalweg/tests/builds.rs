//! Tuning over several engines through the public API, on a simulated device whose kernels depend on how they are built,
//! and on one that fails.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use thalweg::Error;
use thalweg::backend::simulated::{Parameters, SimulatedBackend};
use thalweg::backend::{
    Backend, BuildEvent, BuildOptions, BuildOrder, BuildWatch, DeviceSpec, Engine, SerializedEngine,
};
use thalweg::engine::{EngineSource, MaxBatch};
use thalweg::files::OutputFolder;
use thalweg::measure::{Estimate, StopSignal, Workload, WorkloadSpec};
use thalweg::model::Model;
use thalweg::model::zoo::Network;
use thalweg::pool::Configuration;
use thalweg::tune::{
    BuildBudget, BuildCandidate, BuildOutcome, Earlier, Finalist, Limits, Policy, Space, TuneJob,
    TunedConfig, race_builds, saturating_load, tune,
};
use thalweg::units::Nanos;

use support::Doubler;

/// A simulated H100 whose builder finds faster kernels the higher the level is, and at one level never ends.
struct Levelled {
    device: DeviceSpec,
    endless: Option<u8>,
}

impl Levelled {
    fn new(endless: Option<u8>) -> Self {
        Self { device: SimulatedBackend::preset("h100").unwrap().device().clone(), endless }
    }

    /// Gaps and ramps of kernels are an eighth longer for each level below 5.
    fn of_level(level: u8) -> SimulatedBackend {
        let mut parameters = Parameters::preset("h100").unwrap();
        let longer = 1.0 + f64::from(5 - level) / 8.0;
        parameters.kernels.gap_s *= longer;
        parameters.kernels.ramp_s *= longer;
        SimulatedBackend::new(parameters, 0)
    }
}

impl Backend for Levelled {
    fn device(&self) -> &DeviceSpec {
        &self.device
    }

    fn build(&self, order: &BuildOrder<'_>) -> Result<SerializedEngine, Error> {
        if order.spec.options.optimization_level == self.endless {
            return until_stopped(order);
        }
        Self::of_level(5).build(order)
    }

    fn load(&self, engine: &SerializedEngine) -> Result<Arc<dyn Engine>, Error> {
        let level = engine.spec.as_ref().and_then(|spec| spec.options.optimization_level);
        Self::of_level(level.unwrap_or(3)).load(engine)
    }
}

/// A build that only its watch ends.
fn until_stopped(order: &BuildOrder<'_>) -> Result<SerializedEngine, Error> {
    let watch = order.watch.expect("who starts it watches it");
    while watch.tell(BuildEvent::Progress { phase: "kernels", fraction: 0.5 }).is_continue() {
        thread::sleep(Duration::from_millis(1));
    }
    Err(Error::BuildStopped)
}

fn workload(backend: &Levelled, level: u8, watch: Option<BuildWatch>) -> Result<Workload, Error> {
    let model = Model::from_proto(Network::Launch.generate(0), "launch.onnx").unwrap();
    let options = BuildOptions { optimization_level: Some(level), ..BuildOptions::default() };
    let spec = WorkloadSpec { options, max_batch: MaxBatch::Exactly(4), watch, ..WorkloadSpec::default() };
    Workload::prepare(backend, &model, &spec)
}

/// A folder of one test, removed when it ends.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn searched(workload: &Workload, name: &str) -> TunedConfig {
    let path = std::env::temp_dir().join(format!("thalweg-builds-{name}-{}", std::process::id()));
    let folder = Folder(path);
    let job = TuneJob {
        model: workload.model.clone(),
        engine: workload.source.clone(),
        device: workload.device.clone(),
        signature: workload.engine.signature().clone(),
        space: Space::for_device(&workload.device, workload.engine.signature()),
        limits: Limits::default(),
        samples_per_request: None,
        feeding: workload.feeding,
        budget: Duration::from_secs(2),
        sample_time: None,
        policy: Policy::default(),
        folder: OutputFolder::claim(&folder.0).unwrap(),
        earlier: Earlier::Refuse,
    };
    let outcome = tune(&job, workload, &StopSignal::default(), &mut |_| {}).unwrap();
    TunedConfig::of(&outcome).unwrap()
}

#[test]
fn the_engine_with_the_faster_kernels_wins_by_what_they_gain() {
    let backend = Levelled::new(None);
    let levels = [3, 1, 5];
    let workloads = levels.map(|level| workload(&backend, level, None).unwrap());
    let tuned: Vec<_> =
        workloads.iter().zip(levels).map(|(it, level)| searched(it, &level.to_string())).collect();
    let finalists: Vec<_> =
        workloads.iter().zip(&tuned).map(|(workload, tuned)| Finalist { workload, tuned }).collect();
    let ratios = race_builds(&finalists, Duration::from_secs(3), 0, &StopSignal::default()).unwrap();
    let ratios = ratios.into_iter().map(Result::unwrap);
    let candidates =
        levels.iter().zip(tuned).zip(ratios).map(|((level, tuned), over_first)| BuildCandidate {
            name: format!("level {level}"),
            precision_route: None,
            options: BuildOptions { optimization_level: Some(*level), ..BuildOptions::default() },
            build_time: Some(Nanos(1)),
            accuracy: None,
            tuned: Some(tuned),
            over_first,
            refused: None,
        });
    let outcome = BuildOutcome::of(Vec::new(), Duration::from_secs(2), candidates.collect());

    let [first, slow, fast] = &outcome.candidates[..] else { panic!("{outcome:?}") };
    assert_eq!(outcome.winner, Some(2));
    let searched = |it: &BuildCandidate| it.tuned.as_ref().unwrap().throughput_inferences_per_s.value;
    for other in [slow, fast] {
        let (ratio, seen) = (other.over_first.unwrap(), searched(other) / searched(first));
        assert!((ratio.value / seen - 1.0).abs() < 0.05, "{}: {ratio:?} in turns, {seen} alone", other.name);
    }
    assert!(slow.over_first.unwrap().upper < 0.95 && fast.over_first.unwrap().lower > 1.05, "{outcome:?}");
    // What is deployed says how its engine was built.
    let Some(EngineSource::Built(spec)) = &fast.tuned.as_ref().unwrap().engine else { panic!("{fast:?}") };
    assert_eq!(spec.options.optimization_level, Some(5));
}

/// Engines as the finals find them: what their searches said does not matter.
fn finals(engines: Vec<Doubler>) -> Result<Vec<Result<Option<Estimate>, String>>, Error> {
    let configuration = Configuration { streams: 2, depth: 1, ..Configuration::default() };
    let load = saturating_load(&configuration, None);
    let found = searched(&workload(&Levelled::new(None), 5, None).unwrap(), "any");
    let tuned = TunedConfig { configuration, load, ..found };
    // What such an engine gives is known from one that is sound.
    let workload = |engine| Workload { engine: Arc::new(engine), ..support::workload(Arc::new(doubler())) };
    let workloads: Vec<_> = engines.into_iter().map(workload).collect();
    let finalists: Vec<_> = workloads.iter().map(|workload| Finalist { workload, tuned: &tuned }).collect();
    race_builds(&finalists, Duration::ZERO, 0, &StopSignal::default())
}

fn doubler() -> Doubler {
    Doubler::new(1).with_delays(&[Duration::from_millis(5)])
}

#[test]
fn a_device_that_is_lost_in_the_finals_is_no_fault_of_an_engine() {
    let error = finals(vec![doubler(), doubler().failing_after_pools(1)]).unwrap_err();
    assert!(error.is_device_lost() && error.to_string().contains("the bus is silent"), "{error}");
}

#[test]
fn where_the_first_engine_fails_in_the_finals_the_others_are_compared_with_the_next() {
    // One of its streams breaks, and the other one goes on.
    let broken = doubler().with_delays(&[1, 20].map(Duration::from_millis)).breaking_after(20);
    let slow = doubler().with_delays(&[Duration::from_millis(15)]);
    let ratios = finals(vec![broken, doubler(), slow]).unwrap();
    let [Err(reason), Ok(None), Ok(Some(ratio))] = &ratios[..] else { panic!("{ratios:?}") };
    assert!(reason.starts_with("1 of 2 streams failed for good"), "{reason}");
    assert!(ratio.value < 0.7, "{ratio:?}");
}

#[test]
fn builds_end_with_their_time_and_those_that_are_left_are_told() {
    let backend = Levelled::new(Some(4));
    let mut budget = BuildBudget::new(Some(Duration::from_secs(1)));
    let watch = || BuildWatch::new(|_| std::ops::ControlFlow::Continue(()));
    let mut build = |level| {
        if let Some(refusal) = budget.refusal() {
            return Err(refusal);
        }
        let start = Instant::now();
        let built = workload(&backend, level, Some(budget.watched(watch())));
        match built {
            // However long that took here.
            Ok(_) => budget.count_built(Duration::from_millis(1)),
            Err(_) => budget.count_failed(start.elapsed()),
        }
        built.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(build(3), Ok(()));
    assert_eq!(build(4), Err(Error::BuildStopped.to_string()));
    let refusal = build(5).unwrap_err();
    assert!(refusal.ends_with("of the 1.00 s that builds may take"), "{refusal}");
}
