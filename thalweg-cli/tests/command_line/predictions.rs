//! Predictions on paper.

use crate::models::launch;
use crate::program::{Scratch, run};

#[test]
fn a_prediction_says_that_nothing_was_run_and_fits_80_columns() {
    let scratch = Scratch::new();
    let said = run("predict {} --device l4,h100 --batch 1,8", &[&launch(&scratch)]).succeeded();
    assert!(said.stdout.starts_with("Predicted on paper, nothing was run.\n"), "{}", said.stdout);
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
    said.refused(2, &["the devices are h100, a100, l4, orin"]);
}
