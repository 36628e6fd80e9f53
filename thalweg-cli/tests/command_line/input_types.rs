//! Networks that take bytes or FP16 on the fly.

use std::fs;

use serde_json::Value;

use crate::models::launch;
use crate::program::{Scratch, run};

const BYTES: &str = "--input-type u8 --scale 0.0078 --shift -1";

#[test]
fn an_engine_that_takes_bytes_says_what_the_rounding_costs() {
    let scratch = Scratch::new();
    let (model, engine) = (launch(&scratch), scratch.path("bytes.engine"));
    let line = format!("build {{}} -o {{}} --backend cpu {BYTES} --json");
    let said = run(&line, &[&model, &engine]).succeeded();
    assert!(said.stderr.contains("inputs as u8: cosine 0.9"), "{}", said.stderr);
    let built = said.json();
    assert_eq!(built["inputs"]["names"], serde_json::json!(["input"]));
    assert!(built["inputs"]["accuracy"]["outputs"][0]["cosine"].as_f64() > Some(0.9), "{built}");
    assert_eq!(built["signature"]["inputs"][0]["data_type"], "u8");
    let line = format!("build {{}} -o {{}} --backend cpu {BYTES} --max-loss rel=0.0000001");
    run(&line, &[&model, &engine]).refused(1, &["rel"]);
    let line = "build {} -o {} --backend cpu --input-type f16 --no-accuracy --json";
    let built = run(line, &[&model, &engine]).succeeded().json();
    assert_eq!((&built["inputs"]["type"], &built["inputs"]["accuracy"]), (&"f16".into(), &Value::Null));
}

#[test]
fn bytes_take_a_quarter_of_the_time_to_the_device() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let copy = |options: &str| {
        let line = format!(
            "bench {{}} --backend simulated:h100 --batch 65536 --duration 0.3 --warm-up 0 --json {options}"
        );
        run(&line, &[&model]).succeeded().json()["stages"]["h2d_ns"].as_f64().unwrap()
    };
    let (full, half, bytes) = (copy(""), copy("--input-type f16"), copy("--input-type u8"));
    assert!((0.45..0.6).contains(&(half / full)), "{half} of {full}");
    assert!((0.2..0.35).contains(&(bytes / full)), "{bytes} of {full}");
}

#[test]
fn what_a_search_found_for_bytes_runs_from_its_file_alone() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    let search = "tune {} --backend simulated:h100 --streams 1,2 --batch 8 --time 3 --out {}";
    let said = run(&format!("{search} {BYTES}"), &[&model, &out]).succeeded();
    let tuned: Value = serde_json::from_slice(&fs::read(out.join("tuned.json")).unwrap()).unwrap();
    assert_eq!(tuned["model"]["path"], out.join("u8.onnx").to_str().unwrap());
    fs::remove_file(&model).unwrap();
    let next = said.stderr.lines().find_map(|line| line.strip_prefix("next: thalweg ")).unwrap();
    let measured = run(&format!("{next} --json"), &[]).succeeded().json();
    assert_eq!(measured["configuration"], tuned["configuration"]);
    let line = format!("bench --tuned {{}} {BYTES}");
    run(&line, &[&out.join("tuned.json")]).refused(2, &["--tuned", "--input-type"]);
}

#[test]
fn several_engines_take_the_same_type() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    let line = format!(
        "tune {{}} --backend simulated:h100 --batch-range 1,8 --streams 1 --time 3 --out {{}} --json {BYTES}"
    );
    let outcome = run(&line, &[&model, &out]).succeeded().json();
    let hash = |place: usize| outcome["candidates"][place]["tuned"]["model"]["sha256"].clone();
    assert!(hash(0).is_string() && hash(0) == hash(1), "{outcome}");
}

#[test]
fn types_that_make_no_sense_are_refused() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    run("bench {} --scale 0.5", &[&model]).refused(1, &["add --input-type u8"]);
    run("bench {} --input-type f16 --scale 0.5", &[&model])
        .refused(1, &["--scale and --shift are for bytes"]);
    run("bench {} --input-type f32", &[&model]).refused(1, &["f32 already"]);
    run("bench {} --input-type u8 --scale 1,2,3", &[&model])
        .refused(2, &["second dimension of `input` is 64"]);
}
