//! Command lines that cannot be obeyed.

use std::path::Path;

use crate::models::{CLASSIFIER_SHAPE, classifier, launch};
use crate::program::{Scratch, run};

/// Each of these ends with exit code 2 and names the option, or the value where the option is clear.
fn refused(command: &str, cases: &[(&str, &[&str])]) {
    let scratch = Scratch::new();
    let out = scratch.path("out");
    for (options, phrases) in cases {
        let line = format!("{command} {{}} --out {{}} {CLASSIFIER_SHAPE} {options}");
        run(&line, &[&classifier(), &out]).refused(2, phrases);
        assert!(!out.join("journal.jsonl").exists(), "{options}");
    }
}

#[test]
fn counts_of_zero_are_refused() {
    refused(
        "bench",
        &[
            ("--streams 0", &["'0' for '--streams", "not a whole number above 0"]),
            ("--batch 0", &["'0' for '--batch", "not a whole number above 0"]),
            ("--depth 0", &["'0' for '--depth"]),
            ("--submitters 0", &["'0' for '--submitters"]),
            ("--threads-per-stream 0", &["'0' for '--threads-per-stream"]),
            ("--concurrency 0", &["'0' for '--concurrency"]),
            ("--request-samples 0", &["'0' for '--request-samples"]),
            ("--streams 10000000000", &["'10000000000' for '--streams", "more than 4294967295"]),
            ("--batch 4 --request-samples 5", &["request-samples 5: a request has 1 to 4 samples"]),
        ],
    );
    refused(
        "tune",
        &[
            (
                "--streams 0",
                &["'0' for '--streams", "`0` is not a whole number above 0; give a list like 1,2,4, or auto"],
            ),
            ("--streams abc", &["'abc' for '--streams", "`abc` is not a whole number above 0"]),
            ("--batch 1,,2", &["'1,,2' for '--batch", "`` is not a whole number above 0"]),
            ("--depth 2,0", &["'2,0' for '--depth", "`0` is not a whole number"]),
            ("--request-samples 0", &["'0' for '--request-samples"]),
        ],
    );
    let line = format!("inspect {{}} {CLASSIFIER_SHAPE} --batch 0");
    run(&line, &[&classifier()]).refused(2, &["'0' for '--batch"]);
}

#[test]
fn times_rates_and_limits_that_cannot_be_are_refused() {
    refused(
        "bench",
        &[
            ("--batching-delay-ms -1", &["'-1' for '--batching-delay-ms", "milliseconds, 0 or more"]),
            ("--batching-delay-ms nan", &["'nan' for '--batching-delay-ms"]),
            ("--rate 0", &["'0' for '--rate", "not a number above 0"]),
            ("--rate -5", &["'-5' for '--rate"]),
            ("--rate inf", &["'inf' for '--rate"]),
            ("--duration 0", &["'0' for '--duration", "seconds above 0"]),
            ("--duration 1e300", &["'1e300' for '--duration", "not a possible number of seconds"]),
            ("--warm-up -1", &["'-1' for '--warm-up"]),
        ],
    );
    refused(
        "tune",
        &[
            ("--p99-ms -1", &["'-1' for '--p99-ms", "not a number above 0"]),
            ("--memory-gb 0", &["'0' for '--memory-gb"]),
            ("--time 0", &["'0' for '--time", "seconds above 0"]),
            ("--time soon", &["'soon' for '--time"]),
            ("--batching-delay-ms 0,-1", &["'-1' for '--batching-delay-ms"]),
        ],
    );
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    refused(
        "bench",
        &[
            ("--streams 2 --submitters 3", &["submitters 3: there are only 2 streams to drive"]),
            ("--rate 5 --concurrency 2", &["'--rate <PER_S>' cannot be used with '--concurrency <N>'"]),
            ("--spacing constant", &["--rate <PER_S>"]),
        ],
    );
}

#[test]
fn more_threads_than_a_machine_can_have_are_refused_and_leave_the_folder_free() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    let too_many = ["streams 100000: ", "at most 1024"];
    run("bench {} --streams 100000", &[&model]).refused(2, &too_many);
    run("tune {} --streams 100000 --time 2 --out {}", &[&model, &out]).refused(2, &too_many);
    run("tune {} --streams 1 --batch 1 --time 2 --out {}", &[&model, &out]).succeeded();
}

#[test]
fn a_tuned_configuration_takes_no_second_opinion() {
    let scratch = Scratch::new();
    let tuned = scratch.file("tuned.json", "{}");
    for option in ["--streams 1", "--batch 1", "--depth 2", "--threads-per-stream 1", CLASSIFIER_SHAPE] {
        let name = option.split(' ').next().unwrap();
        let line = format!("bench --tuned {{}} {option}");
        run(&line, &[&tuned]).refused(2, &["'--tuned <FILE>' cannot be used with", name]);
    }
}

#[test]
fn unknown_names_are_refused_with_those_that_exist() {
    refused("bench", &[("--backend nonsense", &["backend nonsense: the backends are auto", "cpu"])]);
    refused("tune", &[("--backend nonsense", &["backend nonsense: the backends are auto", "cpu"])]);
    let scratch = Scratch::new();
    run("model nonsense -o {}", &[&scratch.path("x.onnx")])
        .refused(2, &["'nonsense' for '<NAME>'", "resnet50", "balanced"]);
    run("completions klingon", &[]).refused(2, &["'klingon' for '<SHELL>'", "bash"]);
    run("dance", &[]).refused(2, &["unrecognized subcommand 'dance'"]);
}

#[test]
fn a_gpu_is_chosen_only_where_there_may_be_one() {
    for backend in ["cpu", "simulated:h100"] {
        let options = format!("--backend {backend} --device 3");
        refused("bench", &[(&options, &["device 3: it chooses a GPU", backend])]);
    }
}

#[test]
fn a_missing_model_is_asked_for() {
    for line in ["bench", "tune", "inspect"] {
        run(line, &[]).refused(2, &["required arguments were not provided", "<MODEL>"]);
    }
}

#[test]
fn a_network_is_written_whole_or_not_at_all() {
    let scratch = Scratch::new();
    let file = scratch.file("file", "");
    run("model launch -o {}", &[&file.join("below.onnx")])
        .refused(1, &["cannot write", "below.onnx", "Not a directory"]);
    run("model launch -o {}", &[Path::new("/proc/launch.onnx")])
        .refused(1, &["cannot write /proc/launch.onnx: "]);
    std::fs::create_dir(scratch.path("folder")).unwrap();
    run("model launch -o {}", &[&scratch.path("folder")]).refused(1, &["cannot write", "Is a directory"]);
    assert_eq!(scratch.names_in(""), ["file", "folder"]);
    run("model launch -o {}", &[&scratch.path("launch.onnx")]).succeeded();
    assert_eq!(scratch.names_in(""), ["file", "folder", "launch.onnx"]);
}
