//! What `diagnose` prints and leaves.

use crate::arrays::npy;
use crate::models::launch;
use crate::program::{Scratch, run};

const QUICK: &str = "diagnose {} --backend simulated:h100 --duration 0.5 --warm-up 0.1";

#[test]
fn a_diagnosis_says_verdict_evidence_and_what_was_gained_in_80_columns() {
    let scratch = Scratch::new();
    let said = run(QUICK, &[&launch(&scratch)]).succeeded();
    assert!(said.stdout.starts_with("Simulated: no device ran this.\nEnqueue-bound: "), "{}", said.stdout);
    for part in ["\nevidence", "\nlimit", "\nremedy", "\nGained ", "not available: filling slots"] {
        assert!(said.stdout.contains(part), "no {part} in {}", said.stdout);
    }
    assert!(said.stdout.lines().all(|line| line.chars().count() <= 80), "{}", said.stdout);
}

#[test]
fn the_command_that_it_ends_with_runs_what_was_gained() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let said = run(QUICK, &[&model]).succeeded();
    let next = said.stderr.lines().find_map(|line| line.strip_prefix("next: thalweg ")).unwrap();
    assert!(next.starts_with("bench ") && next.contains(" --backend simulated:h100 "), "{next}");
    let measured = run(&format!("{next} --json"), &[]).succeeded().json();
    let throughput = measured["throughput_inferences_per_s"]["value"].as_f64().unwrap();
    let before = run(&format!("{QUICK} --try 0 --json"), &[&model]).succeeded().json();
    let before = before["measurement"]["throughput_inferences_per_s"]["value"].as_f64().unwrap();
    assert!(throughput > 1.5 * before, "{throughput} after {before}");
}

#[test]
fn that_command_prepares_the_executions_that_were_tried() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    for options in
        ["--batch 8 --request-samples 1", "--batch 8 --request-samples 1 --smallest-batch 8", "--batch 8"]
    {
        let line = format!("{QUICK} {options}");
        let said = run(&line, &[&model]).succeeded();
        let next = said.stderr.lines().find_map(|line| line.strip_prefix("next: thalweg ")).unwrap();
        let measured = run(&format!("{next} --json"), &[]).succeeded().json();
        let tried = run(&format!("{line} --json"), &[&model]).succeeded().json();
        let gained = &tried["gained"]["setup"]["configuration"];
        assert!(gained.is_object(), "{}", tried["gained"]);
        assert_eq!(
            measured["configuration"]["smallest_batch"], gained["smallest_batch"],
            "{options}: {next}"
        );
        assert_eq!(measured["configuration"]["batch_size"], gained["batch_size"], "{options}: {next}");
    }
}

#[test]
fn another_engine_is_built_and_part_of_the_command_where_the_model_is_there_and_predicted_elsewhere() {
    let scratch = Scratch::new();
    let (model, engine) = (scratch.path("transfer.onnx"), scratch.path("transfer.engine"));
    run("model transfer -o {}", &[&model]).succeeded();
    let how =
        "--backend simulated:h100 --duration 0.5 --warm-up 0.1 --streams 4 --batch 8 --cuda-graph compute";
    let said = run(&format!("diagnose {{}} {how}"), &[&model]).succeeded();
    assert!(said.stdout.contains("inputs as u8") && said.stdout.contains("built in"), "{}", said.stdout);
    let next = said.stderr.lines().find_map(|line| line.strip_prefix("next: thalweg ")).unwrap();
    assert!(next.ends_with(" --input-type u8"), "{next}");
    run(&format!("{next} --quiet"), &[]).succeeded();

    run("build {} -o {} --backend simulated:h100 --batch 8", &[&model, &engine]).succeeded();
    let json = run(&format!("diagnose --engine {{}} {how} --json"), &[&engine]).succeeded().json();
    let reason = "the engine came without its model";
    let remedies = json["remedies"].as_array().unwrap();
    let bytes = remedies.iter().find(|remedy| remedy["setup"]["engine"]["input_type"] == "u8").unwrap();
    assert!(bytes["predicted"]["value"].as_f64().unwrap() > 1.5, "{bytes}");
    assert_eq!(bytes["tried"]["untried"], reason);
    let readings = json["evidence"]["readings"].as_array().unwrap();
    let paper = readings.iter().find(|it| it["quantity"] == "paper_arithmetic").unwrap();
    assert!(paper["value"].is_null() && paper["source"] == reason, "{paper}");
}

#[test]
fn that_command_leaves_out_samples_of_the_type_that_inputs_no_longer_have() {
    let scratch = Scratch::new();
    let model = scratch.path("transfer.onnx");
    run("model transfer -o {}", &[&model]).succeeded();
    // A simulated device's tensors are one whole number for each sample.
    let samples = scratch.file("samples.npy", npy("<i8", &[2]));
    let line = "diagnose {} --input {} --backend simulated:h100 --duration 0.5 --warm-up 0.1 --streams 4 --batch 8 \
                --cuda-graph compute";
    let said = run(line, &[&model, &samples]).succeeded();
    let next = said.stderr.lines().find_map(|line| line.strip_prefix("next: thalweg ")).unwrap();
    assert!(next.ends_with(" --input-type u8") && !next.contains("samples.npy"), "{next}");
    run(&format!("{next} --quiet"), &[]).succeeded();
}

#[test]
fn that_command_keeps_what_a_tuned_configuration_said() {
    let scratch = Scratch::new();
    let (model, tuned) = (launch(&scratch), scratch.path("tuned"));
    let line = "tune {} --backend simulated:h100 --streams 1 --batch 1 --cuda-graph off --batching-delay-ms 0.5 --time 3 --out {}";
    run(line, &[&model, &tuned]).succeeded();
    let said = run(&format!("{QUICK} --tuned {{}}"), &[&model, &tuned.join("tuned.json")]).succeeded();
    let next = said.stderr.lines().find_map(|line| line.strip_prefix("next: thalweg ")).unwrap();
    assert!(next.contains(" --batching-delay-ms 0.5") && !next.contains("--tuned"), "{next}");
    run(&format!("{next} --quiet"), &[]).succeeded();
}

#[test]
fn that_command_builds_the_engine_that_was_tuned_and_drives_it_the_same_way() {
    let scratch = Scratch::new();
    let (model, tuned) = (launch(&scratch), scratch.path("tuned"));
    let of_builder = "--precision fp16 --optimization-level 4 --tactics=-cudnn --exact-fp32";
    let line = format!(
        "tune {{}} --backend simulated:h100 {of_builder} --batch-range 2-8 --streams 1 --batch 2 --cuda-graph off \
         --wait hybrid --time 3 --out {{}}"
    );
    run(&line, &[&model, &tuned]).succeeded();
    let tuned = tuned.join("tuned.json");
    let line = "diagnose --backend simulated:h100 --duration 0.5 --warm-up 0.1 --tuned {}";
    let said = run(line, &[&tuned]).succeeded();
    let next = said.stderr.lines().find_map(|line| line.strip_prefix("next: thalweg ")).unwrap();
    let parts =
        ["--precision fp16", "--optimization-level 4", "--tactics -cudnn", "--exact-fp32", "--wait hybrid"];
    for part in parts {
        assert_eq!(next.matches(part).count(), 1, "{part} in {next}");
    }
    assert!(next.contains(" --batch-range 2-") && !next.contains("--no-accuracy"), "{next}");
    run(&format!("{next} --quiet"), &[]).succeeded();
}

#[test]
fn that_command_runs_the_engine_in_a_file_that_was_tuned() {
    let scratch = Scratch::new();
    let (model, engine) = (launch(&scratch), scratch.path("launch.engine"));
    run("build {} -o {} --batch 4 --backend simulated:h100", &[&model, &engine]).succeeded();
    let out = scratch.path("tuned");
    let line = "tune --engine {} --streams 1 --batch 1 --cuda-graph off --time 2 --out {}";
    run(line, &[&engine, &out]).succeeded();
    let line = "diagnose --duration 0.5 --warm-up 0.1 --tuned {}";
    let said = run(line, &[&out.join("tuned.json")]).succeeded();
    let next = said.stderr.lines().find_map(|line| line.strip_prefix("next: thalweg ")).unwrap();
    assert!(next.starts_with(&format!("bench --engine {} ", engine.display())), "{next}");
    run(&format!("{next} --quiet"), &[]).succeeded();
}

#[test]
fn as_json_it_names_the_verdict_and_tries_only_what_was_asked() {
    let scratch = Scratch::new();
    let said = run(&format!("{QUICK} --try 0 --json"), &[&launch(&scratch)]).succeeded();
    let json = said.json();
    assert_eq!(json["verdict"], "enqueue-bound");
    assert!(json["remedies"].as_array().unwrap().iter().all(|remedy| remedy["tried"].is_null()));
    assert!(json["gained"].is_null());
}

#[test]
fn a_rate_that_the_device_keeps_up_with_starves_it() {
    let scratch = Scratch::new();
    let line = format!("{QUICK} --cuda-graph compute --rate 200 --spacing constant --try 1 --json");
    let json = run(&line, &[&launch(&scratch)]).succeeded().json();
    assert_eq!(json["verdict"], "input-starved");
    assert_eq!(json["remedies"][0]["knob"], "load");
    assert!(json["gained"]["ratio"]["value"].as_f64().unwrap() > 1.5);
}

#[test]
fn on_the_cpu_it_is_diagnosed_by_what_exists_there() {
    let scratch = Scratch::new();
    let line = "diagnose {} --backend cpu --duration 0.3 --warm-up 0 --try 0 --json";
    let json = run(line, &[&launch(&scratch)]).succeeded().json();
    assert!(json["verdict"].is_string());
    let readings = json["evidence"]["readings"].as_array().unwrap();
    let reading = |name: &str| readings.iter().find(|it| it["quantity"] == name).unwrap();
    assert_eq!(reading("device_fill")["source"], "CPU time of the process over its cores");
    assert!(reading("dram_fill")["value"].is_null());
}

#[test]
fn its_folder_has_the_data_and_a_page() {
    let scratch = Scratch::new();
    let out = scratch.path("out");
    std::fs::create_dir_all(&out).unwrap();
    std::fs::write(out.join("trace.json"), "of an earlier run").unwrap();
    run(&format!("{QUICK} --try 0 --out {{}}"), &[&launch(&scratch), &out]).succeeded();
    assert_eq!(scratch.names_in("out"), [".lock", "diagnosis.json", "report.html"]);
    let shown = run("report {}", &[&out]).succeeded();
    assert!(shown.stdout.contains("Enqueue-bound: "), "{}", shown.stdout);
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("How close each limit is") && page.contains("<h2>Evidence</h2>"));
}
