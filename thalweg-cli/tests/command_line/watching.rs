//! What `watch` and `top` print and leave, over stand-ins for CUPTI, NVML and a program that uses them.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::program::{Said, Scratch, command, finish, signal, start};

const CUPTI: &str = include_str!("../../../thalweg-nvidia/src/stand_in/libcupti.rs");
const NVML: &str = include_str!("../../../thalweg-nvidia/src/stand_in/libnvml.rs");
const PROGRAM: &str = include_str!("../../../thalweg-nvidia/src/stand_in/program.rs");

/// A folder with stand-ins, built once.
fn stand_ins() -> &'static Path {
    static BUILT: OnceLock<std::path::PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("stand-ins-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        build(CUPTI, &folder, "libcupti.so.13", &["--crate-type=cdylib"]);
        build(NVML, &folder, "libnvidia-ml.so.1", &["--crate-type=cdylib"]);
        build(PROGRAM, &folder, "program", &[]);
        folder
    })
}

fn build(source: &str, folder: &Path, name: &str, options: &[&str]) {
    let file = folder.join(format!("{}.rs", name.replace(['.', '-'], "_")));
    std::fs::write(&file, source).unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let done = Command::new(rustc)
        .args(["--edition=2021", "--crate-name=stand_in"])
        .args(options)
        .arg("-o")
        .arg(folder.join(name))
        .arg(file)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Runs a line with the stand-ins on the loader's path.
fn run(line: &str, paths: &[&Path]) -> Said {
    let mut command = command(line, paths);
    command.env("LD_LIBRARY_PATH", stand_ins());
    finish(start(command))
}

fn program() -> std::path::PathBuf {
    stand_ins().join("program")
}

#[test]
fn a_watched_command_is_told_what_costs_it_most() {
    let said = run("watch --warm-up 0 -- {} say=hello items=200", &[&program()]).succeeded();
    assert!(said.stdout.starts_with("Pageable copies cost most: "), "{}", said.stdout);
    for part in ["cudaMemcpyAsync", "7, the default stream", "200 kernels and 200 runs of graphs", "advice"] {
        assert!(said.stdout.contains(part), "no {part} in {}", said.stdout);
    }
    assert!(said.stdout.lines().all(|line| line.chars().count() <= 80), "{}", said.stdout);
    assert!(said.stderr.contains("hello"), "what the command prints is no result: {said:?}");
}

#[test]
fn as_json_each_finding_has_its_thread_its_call_its_count_and_its_time() {
    let json = run("watch --json --warm-up 0 -- {} items=200", &[&program()]).succeeded().json();
    let observation = &json["processes"][0];
    assert_eq!((&json["exit_code"], &observation["verdict"]), (&0.into(), &"pageable_copy".into()));
    let first = &observation["findings"][0];
    assert_eq!((&first["cause"], &first["call"]), (&"pageable_copy".into(), &"cudaMemcpyAsync".into()));
    assert_eq!((&first["count"], &first["bytes"]), (&200.into(), &2_000_000_000_u64.into()));
    assert!(first["thread"].as_u64().is_some() && first["lost_ns"].as_u64().unwrap() > 0);
}

#[test]
fn its_folder_has_the_data_a_page_and_a_trace_and_can_be_shown_again() {
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let line = "watch --warm-up 0 --out {} -- {} items=50";
    let said = run(line, &[&out, &program()]).succeeded();
    assert_eq!(scratch.names_in("out"), [".lock", "report.html", "trace.json", "watched.json"]);
    let trace = std::fs::read_to_string(out.join("trace.json")).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&trace).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert_eq!(events.iter().filter(|event| event["name"] == "_Z4gemmPf").count(), 50);
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("What costs time") && page.contains("cudaMemcpyAsync"));
    assert!(page.contains("activity-data") && page.contains("CUDA stream 7 (default)"), "no timeline");
    let again = run("report {}", &[&out]).succeeded();
    assert_eq!(again.stdout, said.stdout);
    assert!(again.stderr.contains("report.html stays as it is"), "{again:?}");
    assert_eq!(std::fs::read_to_string(out.join("report.html")).unwrap(), page);
    std::fs::remove_file(out.join("report.html")).unwrap();
    run("report {}", &[&out]).succeeded();
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("What costs time") && !page.contains("activity-data"));

    run("watch --out {} -- true", &[&out]).succeeded();
    assert_eq!(scratch.names_in("out"), [".lock", "watched.json"], "files of another run");
}

#[test]
fn a_command_that_fails_is_shown_and_then_an_error() {
    let said = run("watch --warm-up 0 -- {} items=20 exit=3", &[&program()]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stdout.contains("cost most") && said.stderr.contains("exit code 3"), "{said:?}");
}

#[test]
fn a_command_that_crashes_is_shown_as_far_as_it_was_recorded() {
    let said = run("watch --warm-up 0 -- {} items=20 sleep_ms=1500 abort", &[&program()]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stdout.contains("the recording has no end"), "{said:?}");
    assert!(said.stdout.contains("20 kernels"), "{said:?}");
}

#[test]
fn whoever_ends_watch_ends_the_command_and_sees_what_it_did() {
    let mut command = command("watch --warm-up 0 -- {} items=20 sleep_ms=60000", &[&program()]);
    command.env("LD_LIBRARY_PATH", stand_ins()).stdin(std::process::Stdio::null());
    let began = Instant::now();
    let watch = start(command);
    // Its items are recorded at once and written within half a second.
    std::thread::sleep(Duration::from_secs(2));
    signal(&watch, "TERM");
    let said = finish(watch);
    assert!(began.elapsed() < Duration::from_secs(30), "the command went on");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stdout.contains("20 kernels") && said.stderr.contains("ended with a signal"), "{said:?}");
}

#[test]
fn a_command_without_cuda_and_one_that_is_not_there_say_so() {
    let said = run("watch -- true", &[]).succeeded();
    assert!(said.stdout.starts_with("No process of the command started CUDA.\n"), "{said:?}");
    run("watch -- /nowhere/program", &[]).refused(1, &["cannot start /nowhere/program", "No such file"]);
    run("watch", &[]).refused(2, &["--pid <N>"]);
}

#[test]
fn a_process_is_found_on_its_gpu_and_read_for_a_while() {
    let line = "watch --pid 1001 --duration 0.35 --period 0.1 --json";
    let json = run(line, &[]).succeeded().json();
    assert_eq!((&json["process"], &json["gpu"]["uuid"]), (&1001.into(), &"GPU-new".into()));
    let readings = json["gpu"]["readings"].as_array().unwrap();
    assert!((2..=4).contains(&readings.len()), "{}", readings.len());
    assert_eq!(readings[0]["counters"]["sm_activity"], 0.02);
    assert_eq!(readings[0]["processes"][1]["memory_bytes"], 1_000_000);
}

#[test]
fn a_process_on_no_gpu_is_refused_and_so_is_a_gpu_that_is_not_there() {
    run("watch --pid 7 --duration 1", &[]).refused(2, &["pid 7", "no GPU has a process of this number"]);
    run("top --device 2 --plain", &[]).refused(2, &["device 2", "there are 2, counted from 0"]);
}

#[test]
fn without_a_terminal_top_prints_a_line_for_each_reading() {
    let said = run("top --device 1 --period 0.1 --duration 0.35", &[]).succeeded();
    let lines: Vec<_> = said.stdout.lines().collect();
    assert!((2..=5).contains(&lines.len()), "{said:?}");
    assert!(lines.iter().all(|line| line.starts_with("any kernel 37.0 %, SM activity 2.0 %")), "{said:?}");
}

#[test]
fn a_machine_without_nvml_gets_a_remedy() {
    let line = "top --plain --duration 1";
    let said = finish(start(command(line, &[])));
    // A machine with a GPU has it, and then there is nothing to refuse.
    if !Path::new("/dev/nvidiactl").exists() {
        said.refused(1, &["NVML is not there", "it comes with the NVIDIA driver"]);
    }
}
