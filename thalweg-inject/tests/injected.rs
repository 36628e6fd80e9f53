//! The library in a process of its own, as a CUDA driver loads it: a program that does what the driver does, over a
//! stand-in for CUPTI.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use thalweg_inject::{EXTENSION, variable};
use thalweg_nvidia::activity::{Activity, Entry, Reader};

/// A folder of one test, removed when it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("injected-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("activities")).unwrap();
        Self(path)
    }

    fn compile(&self, source: &str, name: &str, options: &[&str]) {
        let file = self.0.join(format!("{}.rs", name.replace('.', "_")));
        fs::write(&file, source).unwrap();
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let done = Command::new(rustc)
            .args(["--edition=2021", "--crate-name=stand_in"])
            .args(options)
            .arg("-o")
            .arg(self.0.join(name))
            .arg(file)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn add_cupti(&self) {
        let source = include_str!("../../thalweg-nvidia/src/stand_in/libcupti.rs");
        self.compile(source, "libcupti.so.13", &["--crate-type=cdylib"]);
    }

    /// Runs the program with arguments, its driver told to inject.
    fn run(&self, words: &[&str]) -> Output {
        self.compile(include_str!("../../thalweg-nvidia/src/stand_in/program.rs"), "program", &[]);
        Command::new(self.0.join("program"))
            .args(words)
            .env("CUDA_INJECTION64_PATH", library())
            .env("LD_LIBRARY_PATH", &self.0)
            .env(variable::FOLDER, self.0.join("activities"))
            .output()
            .unwrap()
    }

    /// Entries of the one file that was written, and the program that it names.
    fn read(&self) -> (Vec<Entry>, String) {
        let mut files = fs::read_dir(self.0.join("activities")).unwrap().map(|entry| entry.unwrap().path());
        let file = files.next().unwrap();
        assert!(files.next().is_none() && file.extension().unwrap() == EXTENSION);
        let bytes = fs::read(file).unwrap();
        let mut reader = Reader::begin(&bytes).unwrap();
        let entries = std::iter::from_fn(|| reader.next_entry().unwrap()).collect();
        (entries, reader.program().to_owned())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The shared library that cargo has built beside this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let library = test.with_file_name("libthalweg_inject.so");
    assert!(library.is_file(), "no {}", library.display());
    library
}

fn kernels(entries: &[Entry]) -> usize {
    entries.iter().filter(|entry| matches!(entry, Entry::Activity(Activity::Kernel(_)))).count()
}

#[test]
fn a_program_that_ends_leaves_all_that_it_did_and_an_end() {
    let scratch = Scratch::new();
    scratch.add_cupti();
    let done = scratch.run(&["items=1000"]);
    assert!(done.status.success() && done.stdout.is_empty() && done.stderr.is_empty(), "{done:?}");
    let (entries, program) = scratch.read();
    assert!(program.ends_with("/program"), "{program}");
    assert_eq!(kernels(&entries), 1000);
    assert_eq!(entries.last(), Some(&Entry::End));
}

#[test]
fn a_program_that_crashes_leaves_what_was_flushed() {
    let scratch = Scratch::new();
    scratch.add_cupti();
    let done = scratch.run(&["items=10", "sleep_ms=1500", "items=5", "abort"]);
    assert!(!done.status.success());
    let (entries, _) = scratch.read();
    assert_eq!(kernels(&entries), 10);
    assert_ne!(entries.last(), Some(&Entry::End));
}

#[test]
fn a_forked_child_writes_nothing_into_the_file_of_its_parent() {
    let scratch = Scratch::new();
    scratch.add_cupti();
    let done = scratch.run(&["items=10", "fork", "items=5"]);
    assert!(done.status.success(), "{done:?}");
    let (entries, _) = scratch.read();
    assert_eq!(kernels(&entries), 15, "the parent's, not the child's");
    assert_eq!(entries.iter().filter(|entry| **entry == Entry::End).count(), 1);
}

#[test]
fn a_machine_without_cupti_runs_the_program_and_says_why_there_is_nothing() {
    let scratch = Scratch::new();
    let done = scratch.run(&["items=0"]);
    assert!(done.status.success(), "{done:?}");
    let (entries, _) = scratch.read();
    let [Entry::Remark(reason), Entry::End] = &entries[..] else { panic!("unexpected: {entries:?}") };
    assert!(reason.starts_with("nothing was recorded: CUPTI is not there"), "{reason}");
}
