//! What `tune` searches, and what it leaves to go on with.

use std::fs;

use serde_json::Value;

use crate::models::launch;
use crate::program::{Said, Scratch, run};

const SEARCH: &str = "tune {} --backend simulated:h100 --streams 1,2,4 --batch 1,8 --time 4 --out {}";

/// The command line that a search ends with.
fn next(said: &Said) -> &str {
    said.stderr.lines().find_map(|line| line.strip_prefix("next: thalweg ")).expect("a next step")
}

#[test]
fn a_search_with_a_sweep_says_how_good_its_choice_is() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    let said = run(&format!("{SEARCH} --sweep 0.5"), &[&model, &out]).succeeded();
    let text = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("the best of 18 candidates measured for 500 ms each"), "{text}");
    let outcome: Value = serde_json::from_slice(&fs::read(out.join("outcome.json")).unwrap()).unwrap();
    let sweep = &outcome["sweep"];
    assert_eq!(sweep["points"].as_array().unwrap().len(), 18);
    assert!(sweep["ratio"]["value"].as_f64().unwrap() > 0.95, "{}", sweep["ratio"]);
    assert_eq!(sweep["forecasts"].as_array().unwrap().len(), 6);
}

#[test]
fn the_command_that_a_search_ends_with_runs_the_winner_where_it_was_found() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    let said = run(SEARCH, &[&model, &out]).succeeded();
    let measured = run(&format!("{} --json", next(&said)), &[]).succeeded().json();
    assert_eq!(measured["device"]["backend"], "simulated:h100");
    let tuned: Value = serde_json::from_slice(&fs::read(out.join("tuned.json")).unwrap()).unwrap();
    assert_eq!(measured["configuration"], tuned["configuration"]);
    // The engine is the one that was tuned, not one for the winner's batch alone.
    assert_eq!(tuned["engine"]["built"]["max_batch_size"], 8);
    assert!(said.stderr.contains("--to cpp"), "{}", said.stderr);
}

#[test]
fn what_is_tuned_holds_the_confirmed_figure_and_the_real_inputs() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    run(&format!("{SEARCH} --export triton"), &[&model, &out]).succeeded();
    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(out.join(name)).unwrap()).unwrap() };
    let (tuned, outcome) = (read("tuned.json"), read("outcome.json"));
    for key in ["throughput_inferences_per_s", "latency"] {
        assert_eq!(tuned[key], outcome["confirmation"][key]);
    }
    // Simulated tensors are stand-ins; whoever runs the winner has the network's own.
    let config = fs::read_to_string(out.join("config.pbtxt")).unwrap();
    assert!(config.contains("data_type: TYPE_FP32, dims: [ 64 ]"), "{config}");
    // The folder stands for the file in it.
    let again = run("export {} --to triton", &[&out]).succeeded();
    assert_eq!(again.stdout, config);
}

#[test]
fn what_cannot_be_exported_is_refused_before_the_search() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    let line = "tune {} --backend cpu --streams 1 --batch 1 --time 600 --out {} --export cpp";
    run(line, &[&model, &out]).refused(1, &["cannot export for cpp", "the cores of a CPU"]);
    let line = "tune {} --backend cpu --streams 1 --batch 1 --time 1 --out {}";
    let said = run(line, &[&model, &out]).succeeded();
    assert!(!said.stderr.contains("thalweg export"), "{}", said.stderr);
}

#[test]
fn requests_that_no_batch_holds_are_refused_and_smaller_batches_are_left_out() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    run(&format!("{SEARCH} --request-samples 16"), &[&model, &out])
        .refused(2, &["request-samples 16", "the largest that is tried is 8"]);
    let outcome = run(&format!("{SEARCH} --request-samples 4 --json"), &[&model, &out]).succeeded().json();
    let batches =
        outcome["candidates"].as_array().unwrap().iter().map(|it| &it["configuration"]["batch_size"]);
    let points =
        run(&format!("{SEARCH} --request-samples 4 --sweep 0.2 --json"), &[&model, &scratch.path("swept")]);
    let points = &points.succeeded().json()["sweep"]["points"];
    assert!(points.as_array().unwrap().iter().all(|point| point["failure"].is_null()), "{points}");
    assert!(batches.clone().all(|batch| batch.as_u64() >= Some(4)), "{:?}", batches.collect::<Vec<_>>());
    // Executions for slots that such requests leave open are prepared, or as somebody says.
    let smallest = |options: &str| {
        let line = format!("{SEARCH} {options} --json");
        let outcome = run(&line, &[&model, &scratch.path(&options.replace(' ', ""))]).succeeded().json();
        let candidates = outcome["candidates"].as_array().unwrap().clone();
        let of_eight = candidates.into_iter().map(|it| it["configuration"].clone());
        of_eight.filter(|it| it["batch_size"] == 8).all(|it| it["smallest_batch"] == 2)
    };
    assert!(smallest("--request-samples 2") && smallest("--request-samples 1 --smallest-batch 2"));
}

#[test]
fn a_search_that_finds_nothing_within_the_limits_fails_and_shows_what_it_measured() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    let line = "tune {} --backend simulated:h100 --streams 1,2 --batch 1 --p99-ms 0.001 --time 3 --out {} --export triton";
    let said = run(line, &[&model, &out]);
    assert!(said.stdout.contains("no configuration keeps the p99 limit"), "{}", said.stdout);
    let error = "nothing that was measured keeps the limits: there is no tuned.json and no export";
    assert!(said.code == Some(1) && said.stderr.contains(error), "{said:#?}");
    assert!(out.join("outcome.json").exists() && !out.join("tuned.json").exists());
}

#[test]
fn a_simulated_device_has_no_speed_in_fp32() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let refused = ["--precision fp32: a simulated device computes in FP16", "leave it out"];
    for command in ["tune {} --out {}", "bench {} --out {}", "build {} -o {}", "diagnose {} --out {}"] {
        let line = format!("{command} --backend simulated:h100 --precision fp32");
        run(&line, &[&model, &scratch.path(&command[..4])]).refused(1, &refused);
    }
}

#[test]
fn requests_that_come_too_fast_are_told() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let line = "bench {} --backend simulated:h100 --duration 1 --rate";
    let overload = "of the requests that came were answered, the others wait";
    let said = |rate: &str| run(&format!("{line} {rate}"), &[&model]).succeeded().stdout.replace('\n', " ");
    let told = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").contains(overload);
    assert!(told(&said("1000000")) && !told(&said("100")));
    let line = "diagnose {} --backend simulated:h100 --duration 1 --try 0 --rate 1000000";
    assert!(told(&run(line, &[&model]).succeeded().stdout));
}

#[test]
fn bf16_by_a_flag_is_a_search_like_any_other() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    let line =
        "tune {} --backend simulated:h100 --precision bf16 --streams 1,2 --batch 1 --time 2 --out {} --json";
    let outcome = run(&format!("{line} --sweep 0.2"), &[&model, &out]).succeeded().json();
    assert!(outcome["sweep"].is_object(), "{outcome}");
    let tuned: Value = serde_json::from_slice(&fs::read(out.join("tuned.json")).unwrap()).unwrap();
    assert_eq!(tuned["engine"]["built"]["options"]["precision"], "bf16");
    run(&format!("{line} --resume"), &[&model, &out]).succeeded();
    // The processor takes the types of the model alone, so there it is converted.
    let line = "tune {} --backend cpu --precision bf16 --streams 1 --batch 1 --time 2 --out {}";
    run(&format!("{line} --resume"), &[&model, &scratch.path("cpu")])
        .refused(1, &["--resume continues one search", "converted"]);
}

#[test]
fn an_engine_in_a_file_is_searched_and_run_from_there() {
    let scratch = Scratch::new();
    let (model, engine, out) = (launch(&scratch), scratch.path("launch.engine"), scratch.path("out"));
    run("build {} -o {} --batch 4 --backend cpu", &[&model, &engine]).succeeded();
    let said = run("tune --engine {} --time 2 --wait block,spin --out {}", &[&engine, &out]).succeeded();
    let tuned: Value = serde_json::from_slice(&fs::read(out.join("tuned.json")).unwrap()).unwrap();
    assert_eq!(tuned["engine"]["file"], engine.to_str().unwrap());
    fs::remove_file(&model).unwrap();
    run(&format!("{} --duration 0.5", next(&said)), &[]).succeeded();
    run("tune --engine {} --precision fp16", &[&engine]).refused(2, &["--precision"]);
}

#[test]
fn a_limit_of_the_latency_is_kept_by_the_winner_and_costs_throughput() {
    let scratch = Scratch::new();
    let (model, free, bound) = (launch(&scratch), scratch.path("free"), scratch.path("bound"));
    let winner = |outcome: &Value| {
        let index = usize::try_from(outcome["winner"].as_u64().unwrap()).unwrap();
        outcome["candidates"][index].clone()
    };
    let free = run(&format!("{SEARCH} --json"), &[&model, &free]).succeeded().json();
    let fastest = winner(&free);
    let limit = fastest["latency"]["p50_ns"].as_f64().unwrap() / 2e6;
    let line = format!("{SEARCH} --p99-ms {limit} --json");
    let bound = run(&line, &[&model, &bound]).succeeded().json();
    let kept = winner(&bound);
    assert_eq!(kept["compliance"], "keeps");
    assert!(kept["latency"]["p99_ns"].as_f64().unwrap() <= limit * 1e6, "{}", kept["latency"]);
    let throughput = |it: &Value| it["throughput_inferences_per_s"]["value"].as_f64().unwrap();
    assert!(throughput(&kept) < throughput(&fastest));
}
