//! `thalweg accuracy`.

use std::path::PathBuf;

use crate::models::{CLASSIFIER_SHAPE, classifier};
use crate::program::{Scratch, run};

#[test]
fn a_model_loses_nothing_against_itself_and_int8_loses_some() {
    let scratch = Scratch::new();
    let quantized = scratch.path("int8.onnx");
    let line = format!("convert {{}} {CLASSIFIER_SHAPE} --precision int8 -o {{}} --no-accuracy");
    run(&line, &[&classifier(), &quantized]).succeeded();
    let line = format!("accuracy {{}} {{}} {CLASSIFIER_SHAPE} --backend cpu --json");
    let cosine = |other: PathBuf| {
        let accuracy = run(&line, &[&classifier(), &other]).succeeded().json();
        assert_eq!(accuracy["is_random"], true);
        assert_eq!(accuracy["sample_count"], 16);
        accuracy["outputs"][0]["cosine"].as_f64().unwrap()
    };
    assert_eq!(cosine(classifier()), 1.0);
    let lossy = cosine(quantized);
    assert!((0.9..0.999_999).contains(&lossy), "{lossy}");
}

#[test]
fn a_limit_that_is_missed_fails_after_the_table_is_shown() {
    let scratch = Scratch::new();
    let quantized = scratch.path("int8.onnx");
    let line = format!("convert {{}} {CLASSIFIER_SHAPE} --precision int8 -o {{}} --no-accuracy");
    run(&line, &[&classifier(), &quantized]).succeeded();
    let line = format!("accuracy {{}} {{}} {CLASSIFIER_SHAPE} --backend cpu --max-loss cosine=0.9999999");
    let said = run(&line, &[&classifier(), &quantized]);
    assert!(said.stdout.contains("relative error"), "{said:#?}");
    assert!(said.code == Some(1) && said.stderr.contains("cosine=0.9999999"), "{said:#?}");
}

#[test]
fn what_is_no_model_and_what_computes_nothing_is_refused() {
    let scratch = Scratch::new();
    let empty = scratch.path("empty.engine");
    std::fs::write(&empty, "nothing").unwrap();
    let line = format!("accuracy {{}} {{}} {CLASSIFIER_SHAPE} --backend cpu");
    run(&line, &[&classifier(), &empty]).refused(2, &["engine"]);
    let line = format!("accuracy {{}} {{}} {CLASSIFIER_SHAPE} --backend simulated:h100");
    run(&line, &[&classifier(), &classifier()]).refused(1, &["computes nothing"]);
}
