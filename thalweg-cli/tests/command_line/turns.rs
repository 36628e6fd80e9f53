//! What is measured in turns: a pool beside a bare loop, and two pools on one device.

use crate::models::launch;
use crate::program::{Scratch, run};

#[test]
fn two_tuned_networks_share_a_device_and_each_is_told_what_it_loses() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    run("tune {} --backend cpu --streams 1 --batch 1,2 --time 2 --out {}", &[&model, &out]).succeeded();
    let tuned = out.join("tuned.json");
    let line = "bench --tuned {} --beside {} --duration 2";
    let text = run(line, &[&tuned, &tuned]).succeeded().stdout;
    assert!(text.starts_with("Together they do ") && text.contains("\nsecond"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let both = run(&format!("{line} --json"), &[&tuned, &tuned]).succeeded().json();
    for pool in both["pools"].as_array().unwrap() {
        assert_eq!(pool["turns"].as_array().unwrap().len(), 3);
        assert!(pool["ratio"]["value"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn what_cannot_be_measured_in_turns_is_refused() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    run("bench {} --backend cpu --overhead", &[&model]).refused(2, &["overhead cpu: only tensorrt"]);
    run("tune {} --backend simulated:h100 --streams 1 --batch 1 --time 2 --out {}", &[&model, &out])
        .succeeded();
    let tuned = out.join("tuned.json");
    let line = "bench --tuned {} --backend simulated:h100 --beside {}";
    run(line, &[&tuned, &tuned]).refused(2, &["in virtual time one pool runs at a time"]);
}
