//! Files of earlier runs that are damaged, of the future, or about something else.

use std::fs;

use serde_json::Value;

use crate::models::{CLASSIFIER_SHAPE, classifier, launch};
use crate::program::{Scratch, run};

/// Tunes the network of tiny operators for a moment into the folder `tuned`.
fn tune_a_little(scratch: &Scratch) {
    let model = launch(scratch);
    run("tune {} --batch 1,2 --streams 1 --time 2 --out {}", &[&model, &scratch.path("tuned")]).succeeded();
}

#[test]
fn a_file_that_is_no_tuned_configuration_is_refused_with_the_reason() {
    let scratch = Scratch::new();
    let refused = |bytes: &str, phrase: &str| {
        let phrases = ["some.json", "is not a usable tuned configuration", phrase];
        run("bench --tuned {}", &[&scratch.file("some.json", bytes)]).refused(1, &phrases);
    };
    refused("buy milk\n", "not JSON");
    refused("", "not JSON");
    refused("{}", "it has no schema_version");
    refused("[1, 2]", "it has no schema_version");
    refused(r#"{"schema_version": 99}"#, "its schema_version is 99, this program reads 1");
    refused(r#"{"schema_version": 1}"#, "missing field");
    run("bench --tuned {}", &[&scratch.path("missing.json")])
        .refused(1, &["cannot read", "missing.json", "No such file"]);
}

#[test]
fn results_are_not_taken_for_another_model_and_not_overwritten() {
    let scratch = Scratch::new();
    tune_a_little(&scratch);
    let (out, tuned) = (scratch.path("tuned"), scratch.path("tuned/tuned.json"));
    let journal = fs::read(out.join("journal.jsonl")).unwrap();

    let of_another = ["was tuned for another model", "launch.onnx", "expected sha256", "tune this one"];
    run("bench {} --tuned {}", &[&classifier(), &tuned]).refused(1, &of_another);

    let line = format!("tune {{}} {CLASSIFIER_SHAPE} --out {{}} --resume");
    let about_another =
        ["journal.jsonl cannot be continued: it is about another model", "launch.onnx", "--out"];
    run(&line, &[&classifier(), &out]).refused(1, &about_another);

    let model = scratch.path("launch.onnx");
    run("tune {} --out {} --batch 1,2 --streams 1 --time 2 --p99-ms 5 --resume", &[&model, &out])
        .refused(1, &["cannot be continued: its limits.p99_ns is null, this run's is 5000000"]);
    let earlier = ["journal.jsonl holds", "measurements of an earlier run", "--resume", "another --out"];
    run("tune {} --out {} --time 2", &[&model, &out]).refused(1, &earlier);

    assert_eq!(fs::read(out.join("journal.jsonl")).unwrap(), journal, "nobody touched it");
    run("bench --tuned {} --duration 0.5 --warm-up 0", &[&tuned]).succeeded();
}

#[test]
fn a_journal_that_is_something_else_is_neither_continued_nor_overwritten() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let out = scratch.path("out");
    fs::create_dir(&out).unwrap();
    let journal = scratch.file("out/journal.jsonl", "buy milk\n");
    for resume in ["", "--resume"] {
        run(&format!("tune {{}} --out {{}} --time 2 {resume}"), &[&model, &out])
            .refused(1, &["journal.jsonl", "line 1 is not from a journal"]);
    }
    assert_eq!(fs::read_to_string(journal).unwrap(), "buy milk\n");
}

#[test]
fn a_report_needs_a_result_that_it_can_read() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("empty")).unwrap();
    run("report {}", &[&scratch.path("empty")])
        .refused(1, &["empty holds no result of bench, diagnose, tune, watch or accuracy"]);
    run("report {}", &[&scratch.path("missing")])
        .refused(1, &["missing holds no result of bench, diagnose, tune, watch or accuracy"]);
    for name in ["outcome.json", "measurement.json"] {
        let file = scratch.file(&format!("empty/{name}"), "buy milk\n");
        run("report {}", &[&scratch.path("empty")]).refused(1, &[name, "is not a result", "line 1"]);
        fs::remove_file(file).unwrap();
    }
    assert_eq!(scratch.names_in("empty"), [] as [&str; 0]);
}

#[test]
fn a_result_of_the_future_is_refused() {
    let scratch = Scratch::new();
    tune_a_little(&scratch);
    run("report {}", &[&scratch.path("tuned")]).succeeded();
    let path = scratch.path("tuned/outcome.json");
    let mut outcome: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    outcome["schema_version"] = 99.into();
    fs::write(&path, outcome.to_string()).unwrap();
    run("report {}", &[&scratch.path("tuned")])
        .refused(1, &["outcome.json is of schema_version 99, this program reads 1"]);
}
