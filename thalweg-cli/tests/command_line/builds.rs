//! `thalweg tune` over several engines: precisions and other options of their builds.

use std::fs;

use serde_json::Value;

use crate::models::{CLASSIFIER_SHAPE, classifier, launch};
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
    assert!(said.code == Some(1) && said.stderr.contains("no engine ran within the limits"), "{said:#?}");
    assert!(said.stdout.contains("int8 takes no part"), "{said:#?}");
    assert!(!folder.join("tuned.json").exists());
}

#[test]
fn each_batch_range_has_an_engine_and_the_winner_can_be_built_again() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    let of_engine = " --timing-cache t.timings --plugins a.so --plugins b.so --no-cache";
    let line = "tune {} --backend simulated:h100 --batch-range 1,5-8 --streams 1,2 --time 6 --out {} \
                --calibrate samples-for-int8-alone.npy";
    let said = run(&format!("{line}{of_engine}"), &[&model, &out]).succeeded();
    assert!(said.stdout.starts_with("Simulated: no device ran this.\nbatch 5-8 wins: "), "{}", said.stdout);
    let outcome: Value = serde_json::from_slice(&fs::read(out.join("builds.json")).unwrap()).unwrap();
    assert_eq!(run("report {}", &[&out]).succeeded().stdout, said.stdout);
    let [one, many] = &outcome["candidates"].as_array().unwrap()[..] else { panic!("{outcome}") };
    assert_eq!((&one["name"], &many["name"]), (&"batch 1".into(), &"batch 5-8".into()));
    // Eight samples take hardly longer than one.
    assert!(many["over_first"]["lower"].as_f64() > Some(2.0), "{many}");
    let tuned: Value = serde_json::from_slice(&fs::read(out.join("tuned.json")).unwrap()).unwrap();
    assert_eq!(tuned["configuration"]["batch_size"], 8);
    let built = &tuned["engine"]["built"];
    assert_eq!((&built["options"]["least_batch_size"], &built["max_batch_size"]), (&5.into(), &8.into()));

    let commands = |start: &str| {
        let command = said.stderr.lines().find_map(|it| it.strip_prefix(start)).unwrap();
        // Only with these it is the same engine.
        assert!(command.contains(of_engine), "{command}");
        command.to_owned()
    };
    let measured = run(&format!("{} --json", commands("next: thalweg ")), &[]).succeeded().json();
    assert_eq!(measured["configuration"], tuned["configuration"]);
    let build = commands("to have its engine: thalweg ");
    let built_again = run(&format!("{build} --json"), &[]).succeeded().json();
    assert_eq!(&built_again["spec"], built);
    assert!(out.join("tuned.engine").is_file());
}

#[test]
fn what_is_not_built_for_lack_of_time_is_named() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    let line = "tune {} --backend cpu --optimization-level 3,5 --aux-streams 0,1 --build-time 0.000001 --streams 1 \
                --batch 1 --time 3 --out {} --json";
    let outcome = run(line, &[&model, &out]).succeeded().json();
    let names = ["level 3, aux 0", "level 3, aux 1", "level 5, aux 0", "level 5, aux 1"];
    for (candidate, name) in outcome["candidates"].as_array().unwrap().iter().zip(names) {
        assert_eq!(candidate["name"], name);
        let refused = candidate["refused"].as_str().unwrap_or_default();
        assert_eq!(refused.starts_with("not built: those before took"), name != names[0], "{candidate}");
        assert_eq!(candidate["build_time_ns"].is_null(), name != names[0], "{candidate}");
    }
    assert_eq!(outcome["winner"], 0);
    // What it would have taken is there to be tried with more time.
    assert_eq!(outcome["candidates"][3]["options"]["optimization_level"], 5);
}

#[test]
fn the_time_for_builds_runs_on_past_an_engine_that_loses_too_much() {
    let scratch = Scratch::new();
    let line = format!(
        "tune {{}} {CLASSIFIER_SHAPE} --backend cpu --precision int8,fp32 --max-loss cosine=0.9999999 \
         --build-time 0.000001 --streams 1 --batch 1 --time 2 --out {{}} --json"
    );
    let outcome = run(&line, &[&classifier(), &scratch.path("out")]).succeeded().json();
    assert!(outcome["candidates"][0]["refused"].as_str().unwrap().contains("cosine="), "{outcome}");
    assert_eq!(outcome["winner"], 1, "{outcome}");
}

#[test]
fn values_that_are_named_twice_are_one_engine_and_a_folder_takes_one_run() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    let line = "tune {} --backend simulated:h100 --streams 1 --batch 1 --time 2 --out {} \
                --precision fp16,fp16 --optimization-level 3,5,3 --json";
    let outcome = run(line, &[&model, &out]).succeeded().json();
    let names: Vec<_> = outcome["candidates"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["level 3", "level 5"]);
    run(line, &[&model, &out]).refused(1, &["journal.jsonl cannot be continued", "choose another --out"]);
}

#[test]
fn a_search_of_one_engine_keeps_its_folder() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    let line = "tune {} --backend simulated:h100 --streams 1 --batch 1 --time 2 --out {}";
    run(line, &[&model, &out]).succeeded();
    let tuned = fs::read(out.join("tuned.json")).unwrap();
    run(&format!("{line} --optimization-level 3,5"), &[&model, &out])
        .refused(1, &["journal.jsonl cannot be continued", "choose another --out"]);
    assert_eq!(fs::read(out.join("tuned.json")).unwrap(), tuned);
}

#[test]
fn the_command_for_an_engine_in_a_lower_precision_builds_no_other() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    let line = "tune {} --backend simulated:h100 --precision fp16 --streams 1 --batch 1 --time 2 --out {} --no-cache";
    let said = run(line, &[&model, &out]).succeeded();
    let start = "to have its engine: thalweg ";
    let build = said.stderr.lines().find_map(|line| line.strip_prefix(start)).unwrap();
    let built = run(&format!("{build} --json"), &[]).succeeded().json();
    assert_eq!((&built["spec"]["options"]["precision"], &built["accuracy"]), (&"fp16".into(), &Value::Null));
}

#[test]
fn one_engine_in_eight_bits_may_have_its_rest_in_half() {
    let scratch = Scratch::new();
    let line = format!(
        "tune {{}} {CLASSIFIER_SHAPE} --backend cpu --precision int8 --rest fp16 --streams 1 --batch 1 --time 2 \
         --out {{}} --json"
    );
    let outcome = run(&line, &[&classifier(), &scratch.path("out")]).succeeded().json();
    let [int8] = &outcome["candidates"].as_array().unwrap()[..] else { panic!("{outcome}") };
    assert!(int8["tuned"].is_object() && int8["accuracy"].is_object(), "{int8}");
    run(&format!("{line} --resume"), &[&classifier(), &scratch.path("other")])
        .refused(1, &["--resume continues one search", "converted"]);
}

#[test]
fn what_is_asked_of_eight_bits_is_refused_where_no_engine_has_any() {
    let scratch = Scratch::new();
    let (model, out) = (launch(&scratch), scratch.path("out"));
    for option in ["--rest fp16", "--keep-biases"] {
        let name = option.split(' ').next().unwrap();
        let refused = [name, "are for --precision int8 and auto"];
        for engines in ["--optimization-level 3,5", "--precision fp16", "--precision fp32,fp16", ""] {
            let line = format!("tune {{}} --backend simulated:h100 --out {{}} {engines} {option}");
            run(&line, &[&model, &out]).refused(1, &refused);
        }
        let line = format!("build {{}} -o {{}} --backend simulated:h100 --precision fp16 {option}");
        run(&line, &[&model, &out.join("m.engine")]).refused(1, &refused);
        let line = format!("convert {{}} -o {{}} --precision fp16 {option}");
        run(&line, &[&model, &out.join("m.onnx")]).refused(1, &refused);
        let line = format!(
            "build {{}} -o {{}} --backend simulated:h100 --precision int8 --precision-route flags {option}"
        );
        run(&line, &[&model, &out.join("m.engine")]).refused(1, &[name, "leave --precision-route out"]);
    }
}

#[test]
fn an_engine_that_is_built_takes_no_word_about_its_precision() {
    let scratch = Scratch::new();
    let engine = scratch.file("x.engine", "bytes");
    for option in ["--only Conv", "--keep-f32 Conv", "--rest fp16", "--keep-biases", "--max-loss rel=0.1"] {
        let name = option.split(' ').next().unwrap();
        let line = format!("tune --engine {{}} {option}");
        run(&line, &[&engine]).refused(2, &["'--engine <FILE>' cannot be used with", name]);
    }
}

#[test]
fn several_engines_are_for_tune_alone() {
    let scratch = Scratch::new();
    let (model, engine) = (launch(&scratch), scratch.path("m.engine"));
    let alone = "are for `tune` alone";
    run("bench {} --optimization-level 3,5", &[&model]).refused(1, &[alone]);
    run("build {} -o {} --batch-range 1,2-4", &[&model, &engine]).refused(1, &[alone]);
    run("tune {} --build-time 60 --out {}", &[&model, &engine])
        .refused(1, &["--build-time is for several engines"]);
    run("bench {} --batch-range 8-5", &[&model]).refused(2, &["nor a range of them"]);
}

#[test]
fn an_engine_for_a_range_of_batches_runs_these() {
    let scratch = Scratch::new();
    let (model, engine) = (launch(&scratch), scratch.path("m.engine"));
    let said = run("build {} -o {} --backend cpu --batch-range 3-6", &[&model, &engine]).succeeded();
    assert!(said.stdout.contains("batch    3 to 6"), "{said:#?}");
    let short = "--duration 0.2 --warm-up 0";
    run(&format!("bench --engine {{}} --batch 3 {short}"), &[&engine]).succeeded();
    run("bench --engine {} --batch 2", &[&engine]).refused(2, &["batch 2", "3 to 6 samples"]);
    run(&format!("bench {{}} --backend cpu --batch-range 4 --batch 4 {short}"), &[&model]).succeeded();
}
