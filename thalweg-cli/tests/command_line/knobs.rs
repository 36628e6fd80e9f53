//! How submitters wait, copy lanes, and executions without transfers.

use crate::models::launch;
use crate::program::{Scratch, run};

const SHORT: &str = "--warm-up 0 --duration 0.2";

#[test]
fn every_way_to_wait_measures_and_is_told() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    for wait in ["block", "spin", "hybrid"] {
        let said = run(&format!("bench {{}} --json --wait {wait} {SHORT}"), &[&model]).succeeded().json();
        assert_eq!(said["configuration"]["wait"], wait);
        assert!(said["verification"]["verified_samples"].as_u64() > Some(0));
    }
    let text = run(&format!("bench {{}} --wait spin {SHORT}"), &[&model]).succeeded().stdout;
    assert!(text.contains(", spin wait"), "{text}");
    run("bench {} --wait nap", &[&model]).refused(2, &["'nap' for '--wait", "block, spin, hybrid"]);
}

#[test]
fn smaller_executions_are_prepared_where_requests_are_small_or_somebody_says_so() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let smallest = |options: &str| {
        let line = format!("bench {{}} --backend simulated:h100 --json {SHORT} {options}");
        run(&line, &[&model]).succeeded().json()["configuration"]["smallest_batch"].as_u64()
    };
    assert_eq!(smallest("--batch 8"), None);
    assert_eq!(smallest("--batch 8 --request-samples 8"), None);
    assert_eq!(smallest("--batch 8 --request-samples 3"), Some(3));
    assert_eq!(smallest("--batch 32 --request-samples 1"), Some(4));
    assert_eq!(smallest("--batch 32 --request-samples 1 --smallest-batch 1"), Some(1));
    assert_eq!(smallest("--batch 8 --smallest-batch 2"), Some(2));
    let out = scratch.path("out");
    run("bench {} --batch 8 --smallest-batch 2", &[&model]).refused(2, &["smallest-batch 2: cores run any"]);
    let line = "tune {} --batch 8 --smallest-batch 2 --out {}";
    run(line, &[&model, &out]).refused(2, &["smallest-batch 2: cores run any"]);
    let line = "bench {} --backend simulated:h100 --batch 8 --smallest-batch 9";
    run(line, &[&model]).refused(2, &["smallest-batch 9: a slot has room for 1 to 8 samples"]);
}

#[test]
fn a_batch_in_a_shape_is_not_taken_for_an_option() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let line = format!("bench {{}} --backend simulated:h100 --shape input=8x64 {SHORT}");
    let inputs = run("inspect {} --json", &[&model]).succeeded().json()["inputs"][0]["name"].clone();
    let line = line.replace("input=", &format!("{}=", inputs.as_str().unwrap()));
    let said = run(&line, &[&model]).succeeded();
    assert!(said.stderr.contains("is ignored: use --batch"), "{}", said.stderr);
    for line in [line.replace("=8x64", "=1x64"), line + " --batch 8"] {
        let said = run(&line, &[&model]).succeeded();
        assert!(!said.stderr.contains("warning"), "{}", said.stderr);
    }
}

#[test]
fn figures_without_transfers_say_so_first() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let line = format!("bench {{}} --backend simulated:h100 --transfers off {SHORT}");
    let text = run(&line, &[&model]).succeeded().stdout;
    assert!(text.contains("Transfers were off"), "{text}");
    let said = run(&(line + " --json"), &[&model]).succeeded().json();
    assert_eq!(said["configuration"]["transfers"], "off");
    assert_eq!((&said["stages"]["h2d_ns"], &said["stages"]["d2h_ns"]), (&0.into(), &0.into()));
}

#[test]
fn transfers_stay_where_they_cannot_be_left_out() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let refused = |options: &str, phrase: &str| {
        run(&format!("bench {{}} --transfers off {options}"), &[&model]).refused(2, &[phrase]);
    };
    refused("--backend cpu", "transfers off: the cpu backend");
    refused(
        "--backend simulated:h100 --cuda-graph copies",
        "transfers off: a graph of copies has them inside",
    );
    refused("--backend simulated:h100 --feed 2", "feed 2: with --transfers off");
}

#[test]
fn copy_lanes_are_told_and_tried_where_somebody_asks() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let line = "bench {} --backend simulated:h100 --streams 4 --copy-lanes 2";
    let text = run(&format!("{line} {SHORT}"), &[&model]).succeeded().stdout;
    assert!(text.contains(", 2 copy lanes"), "{text}");
    run("bench {} --backend cpu --copy-lanes 1", &[&model]).refused(2, &["copy-lanes 1: the cpu backend"]);
    let out = scratch.path("out");
    let line = "tune {} --backend simulated:h100 --streams 4 --batch 1 --cuda-graph off --copy-lanes own,2 --time 3 --json --out {}";
    let said = run(line, &[&model, &out]).succeeded().json();
    let tried = said["candidates"].as_array().unwrap().iter();
    let tried = tried.filter(|it| !it["throughput_inferences_per_s"].is_null());
    assert!(tried.clone().any(|it| it["configuration"]["copy_lanes"] == 2), "{said}");
    assert!(tried.clone().any(|it| it["configuration"]["copy_lanes"].is_null()));
}
