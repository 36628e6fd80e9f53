//! CUPTI over a stand-in; see `stand_in/libcupti.rs`. A process can have one recording at a time, so one test has it.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::api::kind;
use super::*;
use crate::activity::{Activity, Entry, HostMemory, Reader, StreamKind, Writer};
use crate::places::SystemPlaces;
use crate::stand_in::Folder;

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

fn run(cupti: &Cupti, items: u32) {
    // SAFETY: the type is that of `libcupti.rs`.
    let run: unsafe extern "C" fn(u32) = unsafe { cupti.api.library().function("stand_in_run") }.unwrap();
    // SAFETY: any number may be given.
    unsafe { run(items) };
}

#[test]
fn a_recording_has_what_is_worth_it_and_an_end_and_another_can_follow() {
    let folder = Folder::new("cupti-recording");
    folder.build("libcupti.so.13", include_str!("../stand_in/libcupti.rs"));
    let open = || Cupti::open(&folder.places()).unwrap();
    let (cupti, file) = (open(), Shared::default());
    assert_eq!((cupti.version(), cupti.path()), (130_001, &*folder.path().join("libcupti.so.13")));
    let recording = Recording::start(open(), file.writer(), GraphDetail::Runs).unwrap();
    run(&cupti, 2);
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

    let second = Recording::start(open(), Shared::default().writer(), GraphDetail::Runs);
    assert_eq!(second.err(), Some(Error::RecordsAlready));

    run(&cupti, 1);
    recording.stop();
    assert_eq!(file.read().0.last(), Some(&Entry::End));
    run(&cupti, 1);
    recording.flush().unwrap();
    assert_eq!(file.read().1.len(), 12, "nothing comes behind the end");

    let file = Shared::default();
    let recording = Recording::start(open(), file.writer(), GraphDetail::Kernels).unwrap();
    run(&cupti, 1);
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
}
