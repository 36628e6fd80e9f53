//! Predictions on paper.

use std::path::{Path, PathBuf};

use crate::models::launch;
use crate::program::{Scratch, run};

#[test]
fn a_prediction_says_that_nothing_was_run_and_fits_80_columns() {
    let scratch = Scratch::new();
    let said = run("predict {} --device l4,h100 --batch 1,8", &[&launch(&scratch)]).succeeded();
    assert!(said.stdout.starts_with("Predicted on paper in fp16, nothing was run.\n"), "{}", said.stdout);
    let rows = said.stdout.lines().filter(|line| line.starts_with("L4") || line.starts_with("H100"));
    assert_eq!(rows.count(), 4);
    assert!(said.stdout.lines().all(|line| line.chars().count() <= 80), "{}", said.stdout);
}

#[test]
fn as_json_it_has_an_entry_for_every_device_batch_and_input_type() {
    let scratch = Scratch::new();
    let line = "predict {} --device a100,orin --batch 1,2,4 --input-type f32,u8 --json";
    let said = run(line, &[&launch(&scratch)]).succeeded();
    assert_eq!(said.json().as_array().unwrap().len(), 12);
    assert!(said.json()[0]["ridge_point"].as_f64().unwrap() > 1.0);
}

#[test]
fn a_device_that_nobody_knows_is_refused_with_those_that_are() {
    let scratch = Scratch::new();
    let said = run("predict {} --device h900", &[&launch(&scratch)]);
    said.refused(2, &["the devices are h100, h200, a100, l4, orin"]);
}

/// Measures the model, and says where that is written.
fn measured(scratch: &Scratch, model: &Path, options: &str) -> PathBuf {
    let out = scratch.path("bench");
    let bench = "bench {} --backend simulated:h100 --batch 4 --duration 0.5 --warm-up 0.1 --out {}";
    run(&format!("{bench} {options}"), &[model, &out]).succeeded();
    out.join("measurement.json")
}

#[test]
fn what_was_measured_anchors_the_prediction_on_the_same_device() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let measurement = measured(&scratch, &model, "");
    let text = std::fs::read_to_string(&measurement).unwrap();
    let measured: serde_json::Value = serde_json::from_str(&text).unwrap();

    let line = "predict {} --device h100,l4 --batch 4 --measured {} --json";
    let said = run(line, &[&model, &measurement]).succeeded();
    let rate = |index: usize| said.json()[index]["one_stream_inferences_per_s"].as_f64().unwrap();
    let expected = measured["throughput_inferences_per_s"]["value"].as_f64().unwrap();
    assert!((rate(0) / expected - 1.0).abs() < 1e-9, "{} is not {expected}", rate(0));
    let anchor = said.json()[0]["anchor"].as_f64().unwrap();
    assert_eq!(said.json()[1]["anchor"].as_f64(), Some(anchor));

    let said = run("predict {} --device h100 --batch 4 --measured {}", &[&model, &measurement]).succeeded();
    assert!(said.stdout.contains("All are multiplied by"), "{}", said.stdout);
}

#[test]
fn what_was_measured_is_held_against_what_is_predicted_of_it() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let measurement = measured(&scratch, &model, "");
    let anchor = |precision: &str| {
        let line = format!("predict {{}} --device h100 --measured {{}} --json --precision {precision}");
        run(&line, &[&model, &measurement]).succeeded().json()[0]["anchor"].as_f64().unwrap()
    };
    assert_eq!(anchor("fp32"), anchor("fp16"), "it was measured in one precision, whatever is predicted");

    let line = "predict {} --device h100 --measured {}";
    for option in ["--rate 100", "--transfers off"] {
        let measurement = measured(&scratch, &model, option);
        run(line, &[&model, &measurement]).refused(1, &["does not say how fast the network is"]);
    }
}

#[test]
fn a_model_that_is_written_in_half_is_no_faster_for_it() {
    let scratch = Scratch::new();
    let (model, half) = (scratch.path("memory.onnx"), scratch.path("half.onnx"));
    run("model memory -o {}", &[&model]).succeeded();
    run("convert {} -o {} --precision fp16 --no-accuracy", &[&model, &half]).succeeded();
    let predicted = |model: &Path| {
        let said = run("predict {} --device h100 --precision fp16 --batch 4 --json", &[model]).succeeded();
        said.json()[0]["many_streams_inferences_per_s"].as_f64().unwrap()
    };
    let simulated = |model: &Path| {
        let line =
            "bench {} --backend simulated:h100 --precision fp16 --batch 4 --streams 2 --duration 0.2 --json";
        let said = run(line, &[model]).succeeded();
        said.json()["throughput_inferences_per_s"]["value"].as_f64().unwrap()
    };
    for (name, ratio) in [
        ("on paper", predicted(&half) / predicted(&model)),
        ("simulated", simulated(&half) / simulated(&model)),
    ] {
        assert!((0.9..1.1).contains(&ratio), "{name}: {ratio}");
    }
}

#[test]
fn a_measurement_that_anchors_nothing_is_refused() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let foreign = scratch.file("list.json", "[1, 2]");
    let line = "predict {} --device h100 --measured {}";
    run(line, &[&model, &foreign]).refused(1, &["list.json is not the measurement.json of a bench"]);
    // Nor does the speed of another network.
    let (other, out) = (scratch.path("other.onnx"), scratch.path("bench"));
    run("model underfilled -o {}", &[&other]).succeeded();
    let bench = "bench {} --backend simulated:h100 --duration 0.5 --warm-up 0.1 --out {}";
    run(bench, &[&other, &out]).succeeded();
    run(line, &[&model, &out.join("measurement.json")])
        .refused(1, &["is of another network, ", "other.onnx"]);
    let absent = scratch.path("absent.json");
    run(line, &[&model, &absent]).refused(1, &["cannot read", "absent.json"]);

    let out = scratch.path("bench");
    run("bench {} --backend cpu --duration 0.2 --warm-up 0 --out {}", &[&model, &out]).succeeded();
    let on_cpu = out.join("measurement.json");
    run(line, &[&model, &on_cpu])
        .refused(1, &["no data sheet is known for the measured device", "--measured"]);
}
