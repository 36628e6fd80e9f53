//! What is done with results: comparing two, exporting the winner.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::models::launch;
use crate::program::{Scratch, run};

fn bench(scratch: &Scratch, model: &Path, name: &str, streams: &str) -> PathBuf {
    let out = scratch.path(name);
    let line = "bench {} --backend simulated:h100 --streams {} --cuda-graph compute --duration 3 --out {}";
    run(line, &[model, Path::new(streams), &out]).succeeded();
    out
}

/// A copy of a result with something changed in it.
fn changed(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let text = std::fs::read_to_string(folder.join("measurement.json")).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    change(&mut value);
    let path = folder.join(name);
    std::fs::write(&path, value.to_string()).unwrap();
    path
}

#[test]
fn more_streams_are_faster_and_fewer_are_slower_and_the_exit_code_says_so() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let (one, four) = (bench(&scratch, &model, "one", "1"), bench(&scratch, &model, "four", "4"));

    let said = run("compare {} {} --fail-below 1.0", &[&one, &four]).succeeded();
    assert!(said.stdout.starts_with("The second is faster: "), "{}", said.stdout);
    assert!(said.stdout.lines().all(|line| line.chars().count() <= 80), "{}", said.stdout);

    let said = run("compare {} {} --json --fail-below 0.97", &[&four, &one.join("measurement.json")]);
    assert_eq!((said.code, &said.json()["verdict"]), (Some(1), &"slower".into()));
    assert!(said.stderr.contains("times the throughput of the first, less than 0.97"), "{}", said.stderr);
}

#[test]
fn a_result_compared_with_itself_shows_no_difference() {
    let scratch = Scratch::new();
    let one = bench(&scratch, &launch(&scratch), "one", "1");
    let said = run("compare {} {} --json --fail-below 1", &[&one, &one]).succeeded();
    assert_eq!(said.json()["verdict"], "not_seen");
    assert_eq!(said.json()["throughput"]["value"], 1.0);
}

#[test]
fn engines_that_differ_are_told_apart() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let of = |precision: &str| {
        let out = scratch.path(precision);
        let line = "bench {} --backend simulated:h100 --duration 3 --precision {} --out {}";
        let said = run(line, &[&model, Path::new(precision), &out]).succeeded();
        assert!(said.stdout.contains(&format!("engine        {precision}, ")), "{}", said.stdout);
        out
    };
    let said = run("compare {} {}", &[&of("fp16"), &of("int8")]).succeeded();
    assert!(said.stdout.contains("fp16, batch 1 / int8, batch 1"), "{}", said.stdout);
    // Where nobody names one, a simulated device computes in FP16.
    let said = run("compare {} {}", &[&of("fp16"), &bench(&scratch, &model, "one", "1")]).succeeded();
    assert!(!said.stdout.contains("engines"), "{}", said.stdout);
    run("compare {} {}", &[&scratch.path(""), &of("fp16")])
        .refused(1, &["has no measurement.json nor outcome.json"]);
}

#[test]
fn copies_that_are_left_out_are_another_load_in_virtual_time_too() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let (with, without) = (scratch.path("with"), scratch.path("without"));
    let line = "bench {} --backend simulated:h100 --duration 3 --transfers {} --out {}";
    run(line, &[&model, Path::new("on"), &with]).succeeded();
    run(line, &[&model, Path::new("off"), &without]).succeeded();
    run("compare {} {}", &[&with, &without]).refused(3, &["in different ways", "--despite load"]);
}

#[test]
fn what_makes_a_comparison_meaningless_refuses_it_until_it_is_overruled() {
    let scratch = Scratch::new();
    let one = bench(&scratch, &launch(&scratch), "one", "1");
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 6] = [
        ("device", |it| it["device"]["name"] = "another".into(), "the other on another"),
        ("model", |it| it["model"]["sha256"] = "0".into(), "different networks"),
        ("versions", |it| it["device"]["versions"]["thalweg"] = "9".into(), "and 9"),
        ("incomplete", |it| it["failures"]["count"] = 3.into(), "3 requests of the second failed"),
        ("clocks", |it| it["counters"]["sm_clock_mhz"] = 500.0.into(), "and 500 MHz"),
        ("clocks", |it| it["counters"]["sm_clock_mhz"] = Value::Null, "of the second is not known"),
    ];
    for (kind, change, reason) in cases {
        let other = changed(&one, &format!("{kind}.json"), change);
        run("compare {} {}", &[&one, &other])
            .refused(3, &["cannot be compared", reason, &format!("--despite {kind}")]);
        let said = run("compare {} {} --despite {}", &[&one, &other, Path::new(kind)]).succeeded();
        assert!(said.stdout.contains(&format!("in spite of the {kind}")), "{}", said.stdout);
    }
}

#[test]
fn what_held_the_clocks_back_in_most_windows_counts_and_in_one_does_not() {
    let scratch = Scratch::new();
    let one = bench(&scratch, &launch(&scratch), "one", "1");
    let reasons = |it: &mut Value| it["counters"]["throttle_reasons"] = ["PowerCap"].as_slice().into();
    let once = changed(&one, "once.json", reasons);
    run("compare {} {}", &[&one, &once]).succeeded();
    let always = changed(&one, "always.json", |it| {
        reasons(it);
        for clock in it["clocks"].as_array_mut().expect("a clock for each window") {
            clock["throttle_reasons"] = ["PowerCap"].as_slice().into();
        }
    });
    run("compare {} {}", &[&one, &always])
        .refused(3, &["nothing held back the clocks of the first, PowerCap"]);
}

#[test]
fn a_refusal_names_all_that_has_to_be_overruled() {
    let scratch = Scratch::new();
    let one = bench(&scratch, &launch(&scratch), "one", "1");
    let other = changed(&one, "other.json", |it| {
        it["device"]["name"] = "another".into();
        it["device"]["versions"]["thalweg"] = "9".into();
    });
    run("compare {} {}", &[&one, &other]).refused(3, &["--despite device,versions overrules that"]);
    run("compare {} {} --despite device,versions", &[&one, &other]).succeeded();
}

#[test]
fn the_winner_of_a_search_can_be_compared_with_a_measurement() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let one = bench(&scratch, &model, "one", "1");
    let tuned = scratch.path("tuned");
    let line = "tune {} --backend simulated:h100 --batch 1 --time 5 --out {}";
    run(line, &[&model, &tuned]).succeeded();
    let said = run("compare {} {} --despite unsteady --json", &[&one, &tuned]).succeeded();
    assert!(said.json()["throughput"]["value"].as_f64().unwrap() > 1.0, "{}", said.stdout);
}

#[test]
fn the_winner_is_exported_by_the_search_and_later() {
    let scratch = Scratch::new();
    let tuned = scratch.path("tuned");
    let line = "tune {} --backend simulated:h100 --batch 1 --time 5 --out {} --export triton,trtexec,cpp";
    run(line, &[&launch(&scratch), &tuned]).succeeded();
    for (format, name) in [("triton", "config.pbtxt"), ("trtexec", "trtexec.sh"), ("cpp", "pipeline.cpp")] {
        let written = std::fs::read_to_string(tuned.join(name)).unwrap();
        let said = run("export {} --to {}", &[&tuned.join("tuned.json"), Path::new(format)]).succeeded();
        assert_eq!(said.stdout, written, "{format}");
    }
}

#[test]
fn what_is_no_result_is_refused_by_name() {
    let scratch = Scratch::new();
    let list = scratch.file("list.json", "[1, 2]");
    run("compare {} {}", &[&list, &list])
        .refused(1, &["list.json is neither a result of bench nor one of tune"]);
}
