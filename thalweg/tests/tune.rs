//! Tuning a device for tests through the public API, with the real clock.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use support::Doubler;
use thalweg::backend::{DeviceSpec, Engine};
use thalweg::files::OutputFolder;
use thalweg::measure::{Feeding, Reference, SampleSet, StopSignal, Workload};
use thalweg::model::ModelIdentity;
use thalweg::tune::{Earlier, Limits, Policy, Space, TuneJob, TunedConfig, tune};

/// Every execution takes as long as this, whatever its batch.
const EXECUTION: Duration = Duration::from_millis(2);

#[test]
fn streams_and_batches_win_where_an_execution_costs_the_same_for_any_batch() {
    let engine: Arc<dyn Engine> = Arc::new(Doubler::new(4).with_delays(&[EXECUTION]));
    let device = DeviceSpec {
        backend: "cpu".to_owned(),
        name: "doubler".to_owned(),
        core_count: 2,
        memory_bytes: None,
        versions: BTreeMap::new(),
    };
    let inputs = SampleSet::random(engine.signature(), 8, 1);
    let reference = Reference::compute(&engine, &inputs).unwrap();
    let folder = std::env::temp_dir().join(format!("thalweg-tune-doubler-{}", std::process::id()));
    let mut space = Space::for_device(&device, engine.signature());
    space.threads_per_stream = vec![1];
    space.batch_sizes = vec![1, 4];
    let model = ModelIdentity { path: "none".into(), sha256: "0".to_owned(), input_shapes: BTreeMap::new() };
    let job = TuneJob {
        model: model.clone(),
        device: device.clone(),
        signature: engine.signature().clone(),
        space,
        limits: Limits::default(),
        samples_per_request: None,
        budget: Duration::from_secs(4),
        sample_time: None,
        policy: Policy::default(),
        folder: OutputFolder::claim(&folder).unwrap(),
        earlier: Earlier::Refuse,
    };
    let workload = Workload { model, engine, device, inputs, feeding: Feeding::default(), reference };
    let outcome = tune(&job, &workload, &StopSignal::default(), &mut |_| {}).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();

    let tuned = TunedConfig::of(&outcome).unwrap();
    assert_eq!((tuned.configuration.streams, tuned.configuration.batch_size), (2, 4), "{}", outcome.verdict);
    // One stream at batch 1 does an eighth of the work in the same time.
    let baseline = outcome.baseline.unwrap().ratio.value;
    assert!((4.0..16.0).contains(&baseline), "{baseline}: {}", outcome.verdict);
    let confirmation = outcome.confirmation.unwrap();
    assert!(confirmation.verification.verified_samples > 0 && !confirmation.records.is_empty());
}
