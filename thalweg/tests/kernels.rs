//! The window in which a diagnosis records each kernel: over a stand-in for CUPTI, beside an engine of the `cpu` backend.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thalweg::backend::cpu::CpuBackend;
use thalweg::backend::{CudaGraph, Engine, Executor, ExecutorSpec, GraphDetail, Recorder, Surroundings};
use thalweg::diagnose::{self, Diagnosis, Quantity, Setup};
use thalweg::error::Result;
use thalweg::measure::{Arrival, Load, Observing, Pacing, StopSignal, Workload, WorkloadSpec};
use thalweg::model::zoo::Network;
use thalweg::model::{Model, Signature};
use thalweg::pool::Configuration;
use thalweg::report::{Style, html_of_diagnosis, text_of_diagnosis};

/// An engine of another backend whose work can be recorded.
struct Recorded {
    engine: Arc<dyn Engine>,
    recorder: Recorder,
}

impl Engine for Recorded {
    fn signature(&self) -> &Signature {
        self.engine.signature()
    }

    fn executors(self: Arc<Self>, spec: &ExecutorSpec) -> Result<Vec<Box<dyn Executor>>> {
        // Graphs are the stand-in's.
        Arc::clone(&self.engine).executors(&ExecutorSpec { cuda_graph: CudaGraph::Off, ..spec.clone() })
    }

    fn recorder(&self) -> Option<&Recorder> {
        Some(&self.recorder)
    }
}

/// Items of 1.2 ms that the stand-in runs: more than a turn is long.
const ITEMS: u32 = 3000;

/// A folder with a library from Rust source, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn with_cupti(test: &str, source: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("libcupti.rs"), source).unwrap();
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let done = Command::new(rustc)
            .args(["--edition=2021", "--crate-name=stand_in", "--crate-type=cdylib", "-o"])
            .arg(path.join("libcupti.so.13"))
            .arg(path.join("libcupti.rs"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Self(path)
    }

    /// The stand-in, which has run [`ITEMS`] when a recording ends: the same for all tests, since a process keeps the CUPTI
    /// of its first recording.
    fn with_stand_in(test: &str) -> Self {
        const SOURCE: &str = include_str!("../../thalweg-nvidia/src/stand_in/libcupti.rs");
        const NONE: &str = "const ITEMS_AT_END: u32 = 0;";
        assert!(SOURCE.contains(NONE));
        Self::with_cupti(test, &SOURCE.replace(NONE, &format!("const ITEMS_AT_END: u32 = {ITEMS};")))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process can have one recording at a time, and the tests may be threads of one.
// Contended by them.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn diagnosed(cupti: &Folder, sm_count: u32, cuda_graph: CudaGraph, recording: Observing) -> Diagnosis {
    let _alone = alone();
    let model = Model::from_proto(Network::Underfilled.generate(0), "network.onnx").unwrap();
    let mut workload = Workload::prepare(&CpuBackend::new(), &model, &WorkloadSpec::default()).unwrap();
    let surroundings = Surroundings { directories: vec![cupti.0.clone()], ..Surroundings::default() };
    let recorder = Recorder::new(&surroundings, "GPU-of-nobody", sm_count);
    workload.engine = Arc::new(Recorded { engine: Arc::clone(&workload.engine), recorder });
    let configuration = Configuration { cuda_graph, ..Configuration::default() };
    let load = Load {
        arrival: Arrival::Concurrency(configuration.streams * configuration.depth),
        samples_per_request: 1,
    };
    let case = diagnose::Case {
        workload: &workload,
        setup: Setup::new(configuration, workload.feeding, load),
        pacing: Pacing { window: Duration::from_millis(200), max_windows: 1, ..Pacing::default() },
        tries: 0,
        rounds: diagnose::ROUNDS,
        seed: 0,
        model: Err("there is no model"),
        recording,
        rebuild: Err("nobody builds other engines here"),
    };
    diagnose::diagnose(&case, &StopSignal::default(), &mut |_| {}).unwrap()
}

#[track_caller]
fn assert_near(diagnosis: &Diagnosis, quantity: Quantity, expected: f64) {
    let reading = diagnosis.evidence.reading(quantity).unwrap();
    let value = reading.value.unwrap();
    // The window cuts off items at both ends.
    assert!((value / expected - 1.0).abs() < 0.05, "{quantity}: {value}, not {expected}");
    assert!(reading.source.starts_with("CUPTI, each kernel recorded, at "), "{}", reading.source);
}

#[test]
fn what_was_recorded_becomes_evidence_findings_and_a_window_on_the_measurements_clock() {
    let folder = Folder::with_stand_in("kernels");
    let diagnosis = diagnosed(&folder, 264, CudaGraph::Off, Observing::On);
    // Each item copies for a millisecond, launches for 4 and 10 us, computes for 100 us and waits for 141 us.
    assert_near(&diagnosis, Quantity::KernelsRunning, 100.0 / 1200.0);
    assert_near(&diagnosis, Quantity::LargestKernels, 1.0);
    assert_near(&diagnosis, Quantity::GridFill, 132.0 / 264.0);
    assert_near(&diagnosis, Quantity::KernelGaps, 1100.0 / 1200.0);
    assert_near(&diagnosis, Quantity::LaunchTime, 7e-6);
    assert_near(&diagnosis, Quantity::LauncherBusy, (1009.0 + 4.0 + 10.0) / 1200.0);
    assert_near(&diagnosis, Quantity::LauncherWaits, 141.0 / 1200.0);
    assert_near(&diagnosis, Quantity::PageableCopies, 1.0);
    let findings = diagnosis.judgement.findings.join("\n");
    assert!(findings.contains("50 % of the SMs' time is used"), "{findings}");
    assert!(
        findings.contains("100 % of the bytes between host and device go through memory that"),
        "{findings}"
    );

    let summary = diagnosis.kernels.as_ref().unwrap();
    // The stand-in costs nothing, so the two turns differ by what else runs on this machine.
    assert!((0.2..5.0).contains(&summary.pace), "{summary:?}");
    assert_eq!(summary.graph_pace, None);
    let [kernel] = &summary.largest[..] else { panic!("one kernel: {summary:?}") };
    assert_eq!((kernel.name.as_str(), kernel.blocks, kernel.threads), ("_Z4gemmPf", 132, 256));
    assert_eq!((kernel.share, kernel.mean.0, kernel.grid_fill), (1.0, 100_000, 0.5));

    let window = diagnosis.window.as_ref().unwrap();
    let used = &window.measurement.windows[..];
    let (start, end) = (used[0].start, used[used.len() - 1].end);
    assert!(window.program.work.iter().all(|work| (start..end).contains(&work.span.start)));
    // Each request is an execution.
    let kernels = window.program.work.iter().filter(|work| work.computes()).count();
    let per_execution = kernels as f64 / window.measurement.records.len() as f64;
    assert_near(&diagnosis, Quantity::KernelsPerExecution, per_execution);
    assert!((kernel.per_execution / per_execution - 1.0).abs() < 1e-9, "{kernel:?}");

    let text = text_of_diagnosis(&diagnosis, Style::Plain);
    assert!(text.contains("evenness of grids") && text.contains("recording each kernel leaves"), "{text}");
    assert!(html_of_diagnosis(&diagnosis).unwrap().contains("_Z4gemmPf"));
}

#[test]
fn graphs_are_recorded_as_a_whole_first_and_then_kernel_by_kernel() {
    let folder = Folder::with_stand_in("graphs");
    let diagnosis = diagnosed(&folder, 132, CudaGraph::Compute, Observing::On);
    let run = diagnosis.evidence.reading(Quantity::GraphRunTime).unwrap();
    assert!((run.value.unwrap() - 50e-6).abs() < 1e-9, "{run:?}");
    assert!(run.source.starts_with("CUPTI, graphs as a whole, at "), "{}", run.source);
    // In the second turn the stand-in's graphs tell nothing, and what is left is as without them.
    assert_near(&diagnosis, Quantity::KernelsRunning, 100.0 / 1200.0);
    // Calls are told by the turn that was disturbed less.
    for quantity in [Quantity::LaunchTime, Quantity::LauncherBusy, Quantity::LauncherWaits] {
        let reading = diagnosis.evidence.reading(quantity).unwrap();
        assert!(reading.value.is_some() && reading.source == run.source, "{reading:?}");
    }
    assert!(diagnosis.kernels.unwrap().graph_pace.is_some_and(|pace| pace > 0.0));
    let late = "a CUDA graph launches all of an execution at once";
    assert!(!diagnosis.judgement.findings.iter().any(|it| it.contains(late)), "{:?}", diagnosis.judgement);
}

#[test]
fn a_recording_ends_also_where_the_work_panics() {
    let _alone = alone();
    let folder = Folder::with_stand_in("panic");
    let surroundings = Surroundings { directories: vec![folder.0.clone()], ..Surroundings::default() };
    let recorder = Recorder::new(&surroundings, "GPU-of-nobody", 132);
    let record = |work: fn() -> u32| recorder.record(GraphDetail::Kernels, work).map(|(done, _)| done);
    panic::catch_unwind(AssertUnwindSafe(|| record(|| panic!("of the work")))).unwrap_err();
    assert_eq!(record(|| 42).unwrap(), 42);
}

#[test]
fn a_cupti_that_cannot_be_read_is_a_reason_in_place_of_every_number() {
    let old = "#[no_mangle] pub unsafe extern \"C\" fn cuptiGetVersion(v: *mut u32) -> i32 { *v = 17; 0 }";
    let diagnosis = diagnosed(&Folder::with_cupti("old-cupti", old), 132, CudaGraph::Off, Observing::On);
    let reading = diagnosis.evidence.reading(Quantity::GridFill).unwrap();
    assert!(reading.value.is_none() && reading.source.contains("the interface 17"), "{}", reading.source);
    assert_eq!((&diagnosis.kernels, &diagnosis.window), (&None, &None));
    let text = text_of_diagnosis(&diagnosis, Style::Plain);
    assert!(text.contains("not available: kernels in an execution, any kernel running"), "{text}");
}

#[test]
fn nothing_is_recorded_where_nobody_wants_it() {
    let folder = Folder::with_stand_in("no-kernels");
    let diagnosis = diagnosed(&folder, 132, CudaGraph::Off, Observing::Off);
    assert!(diagnosis.evidence.reading(Quantity::GridFill).is_none() && diagnosis.kernels.is_none());
}
