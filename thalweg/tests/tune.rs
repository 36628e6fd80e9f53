//! Tuning a device for tests through the public API, with the real clock.

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use support::Doubler;
use thalweg::Error;
use thalweg::backend::simulated::SimulatedBackend;
use thalweg::backend::{CudaGraph, DeviceSpec, Engine};
use thalweg::engine::MaxBatch;
use thalweg::files::OutputFolder;
use thalweg::measure::{Feeding, Reference, SampleSet, StopSignal, Workload, WorkloadSpec};
use thalweg::model::zoo::Network;
use thalweg::model::{Model, ModelIdentity};
use thalweg::pool::Configuration;
use thalweg::report::{self, Style};
use thalweg::tune::{
    Candidate, Compliance, Earlier, Limits, Policy, Space, Standing, TuneJob, TuneOutcome, TunedConfig, tune,
};
use thalweg::units::Bytes;

/// Every execution takes as long as this, whatever its batch.
const EXECUTION: Duration = Duration::from_millis(2);

fn workload(engine: Doubler) -> Workload {
    let engine: Arc<dyn Engine> = Arc::new(engine);
    let device = DeviceSpec {
        backend: "cpu".to_owned(),
        name: "doubler".to_owned(),
        core_count: 2,
        memory_bytes: None,
        versions: BTreeMap::new(),
    };
    let model = ModelIdentity { path: "none".into(), sha256: "0".to_owned(), input_shapes: BTreeMap::new() };
    let inputs = SampleSet::random(engine.signature(), 8, 1);
    let reference = Reference::compute(&engine, &inputs).expect("one stream gives a reference");
    Workload { model, engine, source: None, device, inputs, seed: 0, feeding: Feeding::default(), reference }
}

fn tuned(workload: &Workload, space: Space, name: &str) -> TuneOutcome {
    let folder = Folder::new(name);
    tuned_in(&folder, workload, space, Earlier::Refuse).expect("something was measured")
}

fn tuned_in(
    folder: &Folder,
    workload: &Workload,
    space: Space,
    earlier: Earlier,
) -> Result<TuneOutcome, Error> {
    tune(&job(folder, workload, space, earlier), workload, &StopSignal::default(), &mut |_| {})
}

fn job(folder: &Folder, workload: &Workload, space: Space, earlier: Earlier) -> TuneJob {
    TuneJob {
        model: workload.model.clone(),
        engine: None,
        device: workload.device.clone(),
        signature: workload.engine.signature().clone(),
        space,
        limits: Limits::default(),
        samples_per_request: None,
        feeding: workload.feeding,
        budget: Duration::from_secs(4),
        sample_time: None,
        policy: Policy::default(),
        folder: OutputFolder::claim(&folder.0).expect("the folder is ours"),
        earlier,
    }
}

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("thalweg-tune-{name}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn streams_and_batches_win_where_an_execution_costs_the_same_for_any_batch() {
    let workload = workload(Doubler::new(4).with_delays(&[EXECUTION]));
    let mut space = Space::for_device(&workload.device, workload.engine.signature());
    space.threads_per_stream = vec![1];
    space.batch_sizes = vec![1, 4];
    let outcome = tuned(&workload, space, "doubler");

    let tuned = TunedConfig::of(&outcome).unwrap();
    assert_eq!((tuned.configuration.streams, tuned.configuration.batch_size), (2, 4), "{}", outcome.verdict);
    // One stream at batch 1 does an eighth of the work in the same time.
    let baseline = outcome.baseline.unwrap().ratio.value;
    assert!((4.0..16.0).contains(&baseline), "{baseline}: {}", outcome.verdict);
    let confirmation = outcome.confirmation.unwrap();
    assert!(confirmation.verification.verified_samples > 0 && !confirmation.records.is_empty());
}

#[test]
fn a_device_that_fails_for_good_ends_the_search_which_goes_on_without_that_candidate() {
    for sound_pools in [0, 1, 2] {
        let failing = Doubler::new(1).with_delays(&[EXECUTION]).failing_after_pools(sound_pools);
        let mut workload = workload(Doubler::new(1).with_delays(&[EXECUTION]));
        let sound = std::mem::replace(&mut workload.engine, Arc::new(failing));
        let mut space = Space::for_device(&workload.device, workload.engine.signature());
        space.threads_per_stream = vec![1];
        let folder = Folder::new(&format!("lost-{sound_pools}"));
        let error =
            tuned_in(&folder, &workload, space.clone(), Earlier::Refuse).expect_err("nothing runs on");
        assert!(error.is_device_lost() && error.to_string().contains("the bus is silent"), "{error}");
        let journal = std::fs::read_to_string(folder.0.join("journal.jsonl")).expect("the journal is kept");
        let slices = journal.lines().filter(|line| line.contains(r#""kind":"slice""#));
        let (failed, good): (Vec<_>, Vec<_>) = slices.partition(|line| line.contains("the bus is silent"));
        assert_eq!(good.len(), sound_pools.min(2), "{journal}");
        // The third pool is one of the finals, in which nothing is given up.
        assert_eq!(failed.len(), usize::from(sound_pools < 2), "{journal}");

        workload.engine = sound;
        let outcome = tuned_in(&folder, &workload, space, Earlier::Resume).expect("another process goes on");
        let failures = outcome.candidates.iter().filter(|candidate| candidate.failure.is_some());
        assert_eq!(failures.count(), failed.len());
        assert!(outcome.winner.is_some());
    }
}

#[test]
fn streams_that_break_without_the_device_are_the_fault_of_their_candidate() {
    let mut workload = workload(Doubler::new(1).with_delays(&[EXECUTION]));
    workload.engine = Arc::new(Doubler::new(1).with_delays(&[EXECUTION]).breaking_after(0));
    let mut space = Space::for_device(&workload.device, workload.engine.signature());
    space.threads_per_stream = vec![1];
    let error = tuned_in(&Folder::new("broken"), &workload, space, Earlier::Refuse).expect_err("none ran");
    assert!(!error.is_device_lost() && error.to_string().contains("the stream broke"), "{error}");
}

#[test]
fn a_candidate_that_runs_without_the_graph_it_asks_for_is_out_with_that_reason() {
    let remark = "Stream 0 runs without a CUDA graph: nothing here can be captured.";
    let workload = workload(Doubler::new(1).with_delays(&[EXECUTION]).refusing_graphs(remark));
    let mut space = Space::for_device(&workload.device, workload.engine.signature());
    space.threads_per_stream = vec![1];
    space.cuda_graphs = CudaGraph::ALL.to_vec();
    let outcome = tuned(&workload, space, "refusal");

    let graphs: Vec<_> =
        outcome.candidates.iter().filter(|it| it.configuration.cuda_graph != CudaGraph::Off).collect();
    assert_eq!(graphs.len(), 4);
    let reason =
        "it did otherwise than asked: Stream 0 runs without a CUDA graph: nothing here can be captured";
    assert!(graphs.iter().all(|it| it.standing == Standing::Failed && it.failure.as_deref() == Some(reason)));
    let winner = &outcome.candidates[outcome.winner.unwrap()];
    assert_eq!((winner.configuration.cuda_graph, winner.configuration.streams), (CudaGraph::Off, 2));
}

#[test]
fn streams_that_the_memory_has_no_room_for_are_known_before_they_run() {
    let workload = workload(Doubler::new(1).with_delays(&[EXECUTION]).with_room_for(2));
    let mut space = Space::for_device(&workload.device, workload.engine.signature());
    (space.streams, space.threads_per_stream) = (vec![1, 2, 4], vec![1]);
    let outcome = tuned(&workload, space, "room");
    let winner = outcome.candidates[outcome.winner.unwrap()].configuration;
    assert_eq!(winner.streams, 2);
    let failed: Vec<_> = outcome.candidates.iter().filter(|it| it.standing == Standing::Failed).collect();
    assert_eq!(failed.iter().map(|it| it.configuration.streams).collect::<Vec<_>>(), [4]);
    let reason = failed[0].failure.as_deref().unwrap();
    assert!(reason.starts_with("4 streams do not fit into the device's memory, 2 do"), "{reason}");
}

#[test]
fn what_needs_more_device_memory_than_allowed_is_not_measured_and_told_with_its_need() {
    let model = Model::from_proto(Network::Resnet50.generate(0), "network.onnx").expect("a model");
    let backend = SimulatedBackend::preset("h100").expect("a device");
    let spec = WorkloadSpec { max_batch: MaxBatch::Exactly(8), ..WorkloadSpec::default() };
    let workload = Workload::prepare(&backend, &model, &spec).expect("it runs");
    let needs = |streams, batch_size| {
        let (depth, cuda_graph) = (2, CudaGraph::Compute);
        let configuration = Configuration { depth, batch_size, cuda_graph, ..Configuration::default() };
        let memory = configuration.memory(workload.engine.as_ref()).expect("it is known");
        memory.expect("the device has its own").total_bytes(streams)
    };
    let limit = needs(4, 8);
    let space = Space {
        streams: vec![1, 4, 8],
        batch_sizes: vec![1, 8],
        cuda_graphs: vec![CudaGraph::Compute],
        ..Space::for_device(&workload.device, workload.engine.signature())
    };
    let folder = Folder::new("memory-limit");
    let job = TuneJob {
        limits: Limits { p99: None, memory_bytes: Some(limit) },
        ..job(&folder, &workload, space, Earlier::Refuse)
    };
    let outcome =
        tune(&job, &workload, &StopSignal::default(), &mut |_| {}).expect("the others are measured");
    let left_out: Vec<_> =
        outcome.candidates.iter().filter(|it| it.standing == Standing::DoesNotFit).collect();
    assert_eq!(left_out.len(), 1);
    let Candidate { configuration, slice_count, failure, .. } = left_out[0];
    assert_eq!((configuration.streams, configuration.batch_size, *slice_count), (8, 8, 0));
    let (needed, limit) = (Bytes(needs(8, 8)), Bytes(limit));
    let reason = format!("it needs {needed} of device memory, {limit} are allowed");
    assert_eq!(failure.as_deref(), Some(reason.as_str()));
    let winner = &outcome.candidates[outcome.winner.expect("something fits")];
    assert_eq!(winner.compliance, Compliance::Keeps);
    let text = report::text_of_tuning(&outcome, Style::Plain);
    assert!(text.contains("left out") && text.contains("one candidate does not fit"), "{text}");
}
