//! CUPTI over a stand-in; see `stand_in/libcupti.rs`.

use std::ffi::c_void;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::api::kind;
use super::*;
use crate::activity::{Activity, Entry, HostMemory, Reader, StreamKind, Writer};
use crate::places::SystemPlaces;
use crate::stand_in::Folder;

/// One test at a time: a process has one recording or one sampler.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static CUPTI: Mutex<()> = Mutex::new(());
    CUPTI.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file in memory that the test can look at.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn writer(&self) -> Writer<Box<dyn Write + Send>> {
        Writer::begin(Box::new(self.clone()) as Box<dyn Write + Send>, 1, "stand-in").unwrap()
    }

    /// All entries, and the names of the calls.
    fn read(&self) -> (Vec<Entry>, Vec<String>) {
        let bytes = self.0.lock().unwrap();
        let mut reader = Reader::begin(&bytes).unwrap();
        let (mut entries, mut calls) = (Vec::new(), Vec::new());
        while let Some(entry) = reader.next_entry().unwrap() {
            if let Entry::Activity(Activity::Call(call)) = &entry {
                calls.push(reader.name(call.name).to_owned());
            }
            entries.push(entry);
        }
        (entries, calls)
    }
}

/// The stand-in, and what it does besides CUPTI.
struct StandIn(Folder, Cupti);

impl StandIn {
    fn new() -> Self {
        let folder = Folder::new("cupti-recording");
        folder.build("libcupti.so.13", include_str!("../stand_in/libcupti.rs"));
        let cupti = Cupti::open(&folder.places()).unwrap();
        assert_eq!((cupti.version(), cupti.path()), (130_001, &*folder.path().join("libcupti.so.13")));
        Self(folder, cupti)
    }

    fn start(&self, file: &Shared, graphs: GraphDetail) -> Result<Recording> {
        Recording::start(Cupti::open(&self.0.places()).unwrap(), file.writer(), graphs)
    }

    fn run(&self, items: u32) {
        // SAFETY: the type is that of `libcupti.rs`.
        let run: unsafe extern "C" fn(u32) =
            unsafe { self.1.api.library().function("stand_in_run") }.unwrap();
        // SAFETY: any number may be given.
        unsafe { run(items) };
    }

    /// Lets no kind of this number be enabled; 0 for none.
    fn refuse(&self, kind: u32) {
        // SAFETY: as above.
        let refuse: unsafe extern "C" fn(u32) =
            unsafe { self.1.api.library().function("stand_in_refuse") }.unwrap();
        // SAFETY: as above.
        unsafe { refuse(kind) };
    }

    /// Kinds that are recorded.
    fn enabled(&self) -> usize {
        // SAFETY: as above.
        let enabled: unsafe extern "C" fn() -> usize =
            unsafe { self.1.api.library().function("stand_in_enabled") }.unwrap();
        // SAFETY: it may be called at any time.
        unsafe { enabled() }
    }
}

extern "C" fn nothing(_: *mut c_void, _: u32, _: u32, _: *const c_void) {}

/// A process keeps the CUPTI of its first recording, so all of them are in this test.
#[test]
fn recordings_follow_one_another_whatever_came_of_the_one_before() {
    let _alone = alone();
    let stand_in = StandIn::new();
    one_that_cannot_start_leaves_nothing_on(&stand_in);
    one_beside_another_user_is_refused_and_leaves_that_one_alone(&stand_in);
    one_has_what_is_worth_it_and_an_end_and_another_can_follow(&stand_in);
}

fn one_that_cannot_start_leaves_nothing_on(stand_in: &StandIn) {
    stand_in.refuse(kind::MEMSET);
    let failed = stand_in.start(&Shared::default(), GraphDetail::Runs).err();
    assert!(matches!(failed, Some(Error::Status { code: 23, .. })), "{failed:?}");
    stand_in.refuse(0);
    assert_eq!(stand_in.enabled(), 0);
}

fn one_beside_another_user_is_refused_and_leaves_that_one_alone(stand_in: &StandIn) {
    let (api, mut other) = (&stand_in.1.api, std::ptr::null_mut());
    // SAFETY: the handle is writable, and the function of the right type.
    unsafe { api.subscribe(&raw mut other, nothing, std::ptr::null_mut()) }.unwrap();
    // SAFETY: it may be called at any time.
    unsafe { api.enable(kind::MEMCPY) }.unwrap();
    let refused = stand_in.start(&Shared::default(), GraphDetail::Runs);
    assert_eq!((refused.err(), stand_in.enabled()), (Some(Error::CuptiIsTaken), 1));
    // SAFETY: as above.
    unsafe { api.disable(kind::MEMCPY) }.unwrap();
    // SAFETY: it is the handle from above.
    unsafe { api.unsubscribe(other) }.unwrap();
}

fn one_has_what_is_worth_it_and_an_end_and_another_can_follow(stand_in: &StandIn) {
    let file = Shared::default();
    let recording = stand_in.start(&file, GraphDetail::Runs).unwrap();
    stand_in.run(2);
    assert!(matches!(file.read().0[..], [Entry::Clock { activity_ns: 1_000_000, .. }]), "nothing is flushed");
    recording.flush().unwrap();
    let (entries, calls) = file.read();
    let of_one = ["cudaMemcpyAsync", "cudaLaunchKernel", "cudaGraphLaunch", "cudaStreamSynchronize"];
    assert_eq!(calls, [of_one, of_one].concat(), "cudaGetDevice says nothing");
    let activities: Vec<_> =
        entries.iter().filter_map(|it| if let Entry::Activity(it) = it { Some(*it) } else { None }).collect();
    assert!(matches!(activities[0], Activity::Stream(it) if it.kind == StreamKind::Default));
    let copies = activities.iter().filter_map(|it| if let Activity::Copy(it) = it { Some(it) } else { None });
    assert!(copies.clone().all(|it| it.host_memory == HostMemory::Pageable && it.bytes == 10_000_000));
    assert_eq!(copies.count(), 2);
    assert_eq!(activities.iter().filter(|it| matches!(it, Activity::Kernel(_))).count(), 2);
    assert_eq!(activities.iter().filter(|it| matches!(it, Activity::GraphRun(_))).count(), 2);

    let second = stand_in.start(&Shared::default(), GraphDetail::Runs);
    assert_eq!(second.err(), Some(Error::RecordsAlready));

    stand_in.run(1);
    recording.stop();
    assert_eq!((file.read().0.last(), stand_in.enabled()), (Some(&Entry::End), 0));
    stand_in.run(1);
    recording.flush().unwrap();
    assert_eq!(file.read().1.len(), 12, "nothing comes behind the end");

    let file = Shared::default();
    let recording = stand_in.start(&file, GraphDetail::Kernels).unwrap();
    stand_in.run(1);
    recording.finish();
    let (entries, calls) = file.read();
    assert_eq!(calls, of_one, "what ran in between is not there");
    assert!(!entries.iter().any(|it| matches!(it, Entry::Activity(Activity::GraphRun(_)))));
    assert_eq!(entries.last(), Some(&Entry::End));
}

#[test]
fn a_cupti_of_another_time_is_refused_with_what_would_do() {
    for (number, name) in [(17, "old"), (140_000, "new")] {
        let folder = Folder::new(&format!("cupti-{name}"));
        let source = format!(
            "#[no_mangle] pub unsafe extern \"C\" fn cuptiGetVersion(v: *mut u32) -> i32 {{ *v = {number}; 0 }}"
        );
        folder.build("libcupti.so.12", &source);
        let error = Cupti::open(&folder.places()).err().unwrap().to_string();
        assert!(
            error.contains(&format!("the interface {number}")) && error.contains("11.8 to 13"),
            "{error}"
        );
    }
}

#[test]
fn a_machine_without_cupti_gets_a_remedy() {
    let error = Cupti::open(&Folder::new("cupti-none").places()).err().unwrap().to_string();
    assert!(error.contains("libcupti.so.13") && error.contains("pip install nvidia-cuda-cupti"), "{error}");
}

/// NVIDIA's own, where somebody has unpacked its wheel and named the folder: without a driver it can be loaded, and says
/// at the latest when it is to record that it has none.
#[test]
fn nvidias_cupti_says_that_there_is_no_driver() {
    let Some(folder) = std::env::var_os("THALWEG_CUPTI_DIR") else {
        eprintln!("SKIPPED: THALWEG_CUPTI_DIR names no folder with NVIDIA's libcupti");
        return;
    };
    if Path::new("/dev/nvidiactl").exists() {
        eprintln!("SKIPPED: this machine has a driver");
        return;
    }
    let places =
        Places { directories: vec![folder.into()], system: SystemPlaces::Ignored, ..Places::default() };
    let error = match Cupti::open(&places) {
        // SAFETY: a kind of activity may be enabled at any time.
        Ok(cupti) => unsafe { cupti.api.enable(kind::MEMCPY) }.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, Error::Status { code: 15 | 999, .. }), "{error}");
    if let Ok(cupti) = Cupti::open(&places) {
        let _alone = alone();
        let error = PmSampler::start(cupti, 0).and_then(PmSampler::finish).unwrap_err();
        assert!(
            matches!(error, Error::Status { code: 15 | 999, .. } | Error::NoPmSampling { .. }),
            "{error}"
        );
    }
}
