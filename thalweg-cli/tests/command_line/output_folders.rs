//! Folders that cannot take results: found out before the long work, not after.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::models::launch;
use crate::program::{Scratch, command, finish, run, start};

/// Well below the minute that the search was given, and enough for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

fn refused_at_once(model: &Path, out: &Path, phrases: &[&str]) {
    for line in ["tune {} --time 60 --out {}", "bench {} --duration 60 --out {}"] {
        let start = Instant::now();
        run(line, &[model, out]).refused(1, phrases);
        assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
        assert!(!out.join("journal.jsonl").exists());
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named_at_once() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let file = scratch.file("file", "kept");
    refused_at_once(&model, &file.join("below"), &["cannot create", "file/below: Not a directory"]);
    refused_at_once(&model, &file, &["cannot create", "file: File exists"]);
    // Nobody can write there, not even root.
    refused_at_once(&model, Path::new("/proc/thalweg"), &["cannot create /proc/thalweg: "]);
    refused_at_once(&model, Path::new("/proc"), &["cannot create /proc/.lock: "]);
    assert_eq!(fs::read_to_string(file).unwrap(), "kept");
}

/// A file system in memory; taken away when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this user may not mount.
    fn mount(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512k", "thalweg-test"]).arg(&path);
        let is_mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        is_mounted.then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_named_at_once() {
    let scratch = Scratch::new();
    let Some(disk) = SmallDisk::mount(scratch.path("disk")) else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let out = disk.0.join("out");
    refused_at_once(&launch(&scratch), &out, &["cannot write", "No space left on device"]);
    assert_eq!(scratch.names_in("disk/out"), [".lock"]);

    let network = disk.0.join("network.onnx");
    run("model mobilenet_v2 -o {}", &[&network]).refused(1, &["cannot write", "No space left on device"]);
    assert_eq!(scratch.names_in("disk"), ["out"], "no part of a file stays");
}

#[test]
fn a_result_that_stdout_cannot_take_is_a_failure() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let mut full = command("inspect {}", &[&model]);
    full.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    finish(start(full)).refused(1, &["cannot write to stdout: No space left on device"]);
}
