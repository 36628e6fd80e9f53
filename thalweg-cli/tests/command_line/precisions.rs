//! `thalweg tune` over several precisions.

use crate::models::{CLASSIFIER_SHAPE, classifier};
use crate::program::{Scratch, run};

#[test]
fn each_precision_has_a_search_and_the_winners_are_measured_in_turns() {
    let scratch = Scratch::new();
    let folder = scratch.path("out");
    let line = format!(
        "tune {{}} {CLASSIFIER_SHAPE} --backend cpu --precision fp32,int8,auto --max-loss cosine=0.999 \
         --streams 1 --batch 1 --time 6 --out {{}} --json"
    );
    let json = run(&line, &[&classifier(), &folder]).succeeded().json();
    let [fp32, int8, auto] = &json["candidates"].as_array().unwrap()[..] else { panic!("{json}") };
    assert!(fp32["tuned"].is_object() && fp32["accuracy"].is_null(), "{fp32}");
    // On random samples eight bits lose more than that, and the mix does not.
    assert!(int8["refused"].as_str().unwrap().contains("cosine=0.999"), "{int8}");
    assert!(int8["tuned"].is_null());
    assert!(auto["accuracy"]["outputs"][0]["cosine"].as_f64() >= Some(0.999), "{auto}");
    assert!(auto["over_first"]["value"].as_f64() > Some(0.0), "{auto}");
    assert!(json["winner"].as_u64().is_some_and(|winner| winner != 1), "{json}");
    // The winner runs from its file alone.
    let tuned = folder.join("tuned.json");
    let line = "bench --backend cpu --tuned {} --duration 0.5 --warm-up 0 --json";
    let measured = run(line, &[&tuned]).succeeded().json();
    assert!(measured["throughput_inferences_per_s"]["value"].as_f64() > Some(0.0));
}

#[test]
fn where_no_precision_is_good_enough_nothing_is_deployed() {
    let scratch = Scratch::new();
    let folder = scratch.path("out");
    let line = format!(
        "tune {{}} {CLASSIFIER_SHAPE} --backend cpu --precision int8 --max-loss cosine=0.9999999 --time 2 --out {{}}"
    );
    let said = run(&line, &[&classifier(), &folder]);
    assert!(said.code == Some(1) && said.stderr.contains("no precision ran within the limits"), "{said:#?}");
    assert!(said.stdout.contains("int8 takes no part"), "{said:#?}");
    assert!(!folder.join("tuned.json").exists());
}
