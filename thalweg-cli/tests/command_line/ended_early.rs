//! Searches that are killed, interrupted or met by another one: nothing measured is lost.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::models::{CLASSIFIER_SHAPE, classifier, launch};
use crate::program::{Scratch, command, finish, interrupt, run, start, wait_until};

/// A header and three more lines.
const LINES: usize = 4;

/// Eight candidates in a few seconds.
const SEARCH: &str = "tune {} --json --streams 1,2 --batch 1,2,4,8 --threads-per-stream 1 --out {}";

/// Starts a search and waits until its journal has some lines.
fn search_under_way(scratch: &Scratch, model: &Path, seconds: u32) -> Child {
    let line = format!("{SEARCH} --time {seconds}");
    let mut search = start(command(&line, &[model, &scratch.path("out")]));
    let journal = scratch.path("out/journal.jsonl");
    wait_until(&mut search, "a journal with some lines", || lines(&journal).len() >= LINES);
    search
}

/// The whole lines of a journal, as far as it is written.
fn lines(journal: &Path) -> Vec<String> {
    let text = fs::read_to_string(journal).unwrap_or_default();
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect()
}

fn measurements(lines: &[String]) -> u64 {
    let kinds = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone());
    kinds.filter(|kind| kind == "slice" || kind == "final").count() as u64
}

fn counted_slices(outcome: &Value) -> u64 {
    let candidates = outcome["candidates"].as_array().unwrap();
    candidates.iter().map(|candidate| candidate["slice_count"].as_u64().unwrap()).sum()
}

#[test]
fn a_killed_search_continues_with_all_that_it_had_measured() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let mut search = search_under_way(&scratch, &model, 6);
    search.kill().unwrap();
    assert_eq!(finish(search).code, None, "a signal ended it");

    let journal = scratch.path("out/journal.jsonl");
    let before = lines(&journal);
    assert_eq!(scratch.names_in("out"), [".lock", "journal.jsonl"]);
    // As if it had been killed in the middle of a line.
    OpenOptions::new().append(true).open(&journal).unwrap().write_all(b"{\"kind\":\"sli").unwrap();

    let line = format!("{SEARCH} --time 6");
    let count = format!("journal.jsonl holds {} measurements of an earlier run", measurements(&before));
    run(&line, &[&model, &scratch.path("out")]).refused(1, &[&count, "continue with --resume"]);

    let outcome = run(&(line + " --resume"), &[&model, &scratch.path("out")]).succeeded().json();
    let after = lines(&journal);
    assert_eq!(after[..before.len()], before, "what was written stays as it was");
    assert!(after.len() > before.len(), "and it went on");
    assert_eq!(counted_slices(&outcome), measurements(&after), "the slices of before count");
    assert_ne!(outcome["winner"], Value::Null);
    let names = [".lock", "journal.jsonl", "outcome.json", "report.html", "trace.json", "tuned.json"];
    assert_eq!(scratch.names_in("out"), names);
}

#[test]
fn an_interrupted_search_gives_what_it_has_and_keeps_others_out_until_then() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let search = search_under_way(&scratch, &model, 60);

    let out = scratch.path("out");
    let busy = ["out is in use by another run: give each run its own --out"];
    run("tune {} --time 60 --out {}", &[&model, &out]).refused(1, &busy);
    run("tune {} --time 60 --out {} --resume", &[&model, &out]).refused(1, &busy);
    run("bench {} --duration 60 --out {}", &[&model, &out]).refused(1, &busy);

    interrupt(&search);
    let outcome = finish(search).succeeded().json();
    assert_eq!(outcome["ending"], "interrupted");
    assert!(outcome["verdict"].as_str().unwrap().len() > 10, "{}", outcome["verdict"]);
    let journal = lines(&scratch.path("out/journal.jsonl"));
    assert!(journal.len() >= LINES);
    assert_eq!(counted_slices(&outcome), measurements(&journal));
    for name in ["outcome.json", "report.html"] {
        assert!(scratch.path("out").join(name).exists(), "{name}");
    }
    let stored: Value = serde_json::from_slice(&fs::read(out.join("outcome.json")).unwrap()).unwrap();
    assert_eq!(stored["ending"], "interrupted");
}

#[test]
fn a_search_whose_sweep_is_interrupted_leaves_what_it_found() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let out = scratch.path("out");
    let line = format!("{SEARCH} --time 2 --sweep 600");
    let mut search = start(command(&line, &[&model, &out]));
    let journal = out.join("journal.jsonl");
    // A search adds to its journal until its end. A sweep does not, which takes more than an hour here.
    let (mut count, mut since) = (0, Instant::now());
    wait_until(&mut search, "the end of the search", || {
        let lines = lines(&journal);
        if lines.len() != count {
            (count, since) = (lines.len(), Instant::now());
        }
        lines.iter().any(|line| line.contains("\"final\"")) && since.elapsed() > Duration::from_secs(4)
    });
    interrupt(&search);
    let said = finish(search);
    let error = "the search is done, the sweep was interrupted";
    assert!(said.code == Some(1) && said.stderr.contains(error), "{said:#?}");
    assert_ne!(said.json()["winner"], Value::Null);
    let stored: Value = serde_json::from_slice(&fs::read(out.join("outcome.json")).unwrap()).unwrap();
    assert_ne!(stored["winner"], Value::Null);
    assert!(out.join("tuned.json").exists());
}

#[test]
fn nothing_more_is_converted_or_built_once_somebody_interrupts() {
    let scratch = Scratch::new();
    let out = scratch.path("out");
    // Eight engines in FP16 before the first one in BF16.
    let ranges = "--batch-range 1,2,3,4,5,6,7,8";
    let line = format!(
        "tune {{}} {CLASSIFIER_SHAPE} --precision fp16,bf16 --max-loss cosine=0.1 {ranges} --out {{}}"
    );
    let mut search = start(command(&line, &[&classifier(), &out]));
    wait_until(&mut search, "the first model", || out.join("fp16.onnx").exists());
    interrupt(&search);
    finish(search).refused(130, &["the build was stopped"]);
    assert!(!out.join("bf16.onnx").exists());
}

/// Whether a process has a submitter. The kernel keeps 15 characters of a thread's name.
fn has_submitter(threads: &Path) -> bool {
    let names = fs::read_dir(threads).into_iter().flatten().flatten();
    let names = names.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    names.into_iter().any(|name| name.starts_with("thalweg-submitt"))
}

#[test]
fn an_interrupted_measurement_shows_what_it_has_or_says_that_there_is_nothing() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let line = "bench {} --json --warm-up 0 --duration 60 --out {}";
    let mut bench = start(command(line, &[&model, &scratch.path("out")]));
    let threads = format!("/proc/{}/task", bench.id());
    wait_until(&mut bench, "a thread that drives streams", || has_submitter(Path::new(&threads)));
    interrupt(&bench);
    let said = finish(bench);
    match said.code {
        Some(0) => assert!(said.json()["throughput_inferences_per_s"].is_object(), "{said:#?}"),
        _ => said.refused(1, &["interrupted before anything was measured"]),
    }
}

#[test]
fn a_measurement_interrupted_in_its_first_window_keeps_what_came_in() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let line = "bench {} --json --warm-up 0 --duration 600 --out {}";
    let mut bench = start(command(line, &[&model, &scratch.path("out")]));
    let threads = format!("/proc/{}/task", bench.id());
    wait_until(&mut bench, "a thread that drives streams", || has_submitter(Path::new(&threads)));
    thread::sleep(Duration::from_secs(1));
    interrupt(&bench);
    let said = finish(bench).succeeded().json();
    assert_eq!(said["windows"].as_array().unwrap().len(), 1);
    assert!(said["remarks"][0].as_str().unwrap().starts_with("The measurement ended before its time"));
    let stored = fs::read(scratch.path("out/measurement.json")).unwrap();
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    assert!(stored["records"].as_array().unwrap().len() >= 8);
}
