//! `thalweg convert`.

use crate::models::{CLASSIFIER_SHAPE, classifier, launch};
use crate::program::{Scratch, run};

#[test]
fn a_model_becomes_half_as_large_and_keeps_its_inputs_and_outputs() {
    let scratch = Scratch::new();
    let half = scratch.path("half.onnx");
    let line = format!("convert {{}} {CLASSIFIER_SHAPE} -o {{}} --json");
    let report = &run(&line, &[&classifier(), &half]).succeeded().json()["report"];
    assert!(report["half_nodes"].as_u64() > Some(100), "{}", report["half_nodes"]);
    assert_eq!((report["cast_count"].as_u64(), report["precision"].as_str()), (Some(2), Some("fp16")));
    assert!(report["bytes_after"].as_u64().unwrap() * 10 < report["bytes_before"].as_u64().unwrap() * 6);
    let inspect = format!("inspect {{}} {CLASSIFIER_SHAPE} --json");
    let of = |model| run(&inspect, &[model]).succeeded().json();
    let (before, after) = (of(&classifier()), of(&half));
    assert_eq!((&before["inputs"], &before["outputs"]), (&after["inputs"], &after["outputs"]));
}

#[test]
fn the_text_says_what_stayed_and_that_accuracy_was_not_measured() {
    let scratch = Scratch::new();
    let half = scratch.path("half.onnx");
    let line =
        format!("convert {{}} {CLASSIFIER_SHAPE} -o {{}} --precision bf16 --no-ranges --keep-f32 Softmax");
    let said = run(&line, &[&classifier(), &half]).succeeded();
    let text = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let kept = "1 Softmax: asked for";
    for phrase in ["nodes compute in bf16", "22, raised from 11", "not looked at", kept, "was not measured"] {
        assert!(text.contains(phrase), "{phrase}: {said:#?}");
    }
    assert!(said.stdout.lines().all(|line| line.chars().count() <= 80), "{said:#?}");
}

#[test]
fn a_name_that_nothing_has_is_refused_and_nothing_is_written() {
    let scratch = Scratch::new();
    let half = scratch.path("half.onnx");
    let line = "convert {} -o {} --no-ranges --keep-f32 Sofmax";
    run(line, &[&classifier(), &half]).refused(2, &["keep-f32 Sofmax", "no node and no operator"]);
    assert!(!half.exists());
}

#[test]
fn a_model_in_int8_is_a_quarter_as_large_and_is_compared_with_the_original() {
    let scratch = Scratch::new();
    let (quantized, table) = (scratch.path("int8.onnx"), scratch.path("table.cache"));
    let line = format!(
        "convert {{}} {CLASSIFIER_SHAPE} --precision int8 -o {{}} --save-calibration-table {{}} --json"
    );
    let json = run(&line, &[&classifier(), &quantized, &table]).succeeded().json();
    let report = &json["report"];
    assert!(report["quantized"]["Conv"].as_u64() > Some(40), "{report}");
    assert!(report["bytes_after"].as_u64().unwrap() * 2 < report["bytes_before"].as_u64().unwrap());
    assert!(json["accuracy"]["outputs"][0]["cosine"].as_f64() > Some(0.9), "{}", json["accuracy"]);
    assert!(std::fs::read_to_string(&table).unwrap().starts_with("TRT-8600-EntropyCalibration2\n"));
    // The same table gives the same model.
    let again = scratch.path("again.onnx");
    let line = "convert {} --precision int8 -o {} --calibration-table {} --no-accuracy --json";
    let json = run(line, &[&classifier(), &again, &table]).succeeded().json();
    assert_eq!(json["report"]["quantized"], report["quantized"]);
    assert!(json["accuracy"].is_null());
}

#[test]
fn int8_that_loses_more_than_was_allowed_fails_and_nothing_is_written() {
    let scratch = Scratch::new();
    let quantized = scratch.path("int8.onnx");
    let line =
        format!("convert {{}} {CLASSIFIER_SHAPE} --precision int8 -o {{}} --max-loss cosine=0.9999999");
    run(&line, &[&classifier(), &quantized]).refused(1, &["cosine=0.9999999"]);
    assert!(!quantized.exists());
}

#[test]
fn options_of_the_other_precision_are_refused() {
    let scratch = Scratch::new();
    let out = scratch.path("out.onnx");
    run("convert {} -o {} --quantize-ends", &[&classifier(), &out]).refused(1, &["for --precision int8"]);
    let line = "convert {} -o {} --precision fp32 --keep-f32 Conv";
    run(line, &[&classifier(), &out]).refused(1, &["writes the model as it is"]);
    let line = "convert {} -o {} --precision int8 --half-io";
    run(line, &[&classifier(), &out]).refused(1, &["for --precision fp16 and bf16"]);
}

#[test]
fn only_what_is_listed_is_lowered_and_the_rest_of_int8_can_be_half() {
    let scratch = Scratch::new();
    let out = scratch.path("out.onnx");
    let convert = |options: &str| {
        let line = format!("convert {{}} {CLASSIFIER_SHAPE} -o {{}} --json {options}");
        run(&line, &[&classifier(), &out]).succeeded().json()["report"].clone()
    };
    let all = convert("--precision fp16");
    let listed = convert("--precision fp16 --only Conv");
    let half = |report: &serde_json::Value| report["half_nodes"].as_u64().unwrap();
    assert!(half(&listed) > 40 && half(&listed) < half(&all), "{listed}");
    assert!(listed["kept"].to_string().contains("not_listed"), "{listed}");
    let alone = convert("--precision int8");
    let mixed = convert("--precision int8 --rest fp16");
    assert!(alone["rest"].is_null() && mixed["rest"]["half_nodes"].as_u64() > Some(100), "{mixed}");
    assert_eq!(mixed["quantized"], alone["quantized"]);
    let line = "convert {} -o {} --precision fp16 --rest fp16";
    run(line, &[&classifier(), &out]).refused(1, &["for --precision int8"]);
}

#[test]
fn a_model_in_fp32_is_the_same_to_the_last_byte() {
    let scratch = Scratch::new();
    let copy = scratch.path("copy.onnx");
    run("convert {} --precision fp32 -o {}", &[&classifier(), &copy]).succeeded();
    assert_eq!(std::fs::read(copy).unwrap(), std::fs::read(classifier()).unwrap());
}

#[test]
fn bf16_keeps_to_a_limit_by_leaving_nodes_in_fp32() {
    let scratch = Scratch::new();
    let half = scratch.path("half.onnx");
    let convert = |options: &str| {
        let line = format!("convert {{}} {CLASSIFIER_SHAPE} --precision bf16 -o {{}} --json {options}");
        run(&line, &[&classifier(), &half]).succeeded().json()
    };
    let all = convert("");
    let error =
        |json: &serde_json::Value| json["accuracy"]["outputs"][0]["max_relative_error"].as_f64().unwrap();
    assert!(error(&all) > 0.002, "{}", all["accuracy"]);
    let limited = convert("--max-loss rel=0.002");
    assert!(error(&limited) <= 0.002, "{}", limited["accuracy"]);
    let nodes = |json: &serde_json::Value| json["report"]["half_nodes"].as_u64().unwrap();
    assert!(nodes(&limited) < nodes(&all) && limited["mix"]["kept"].as_u64() > Some(0), "{}", limited["mix"]);
}

#[test]
fn the_error_of_every_layer_is_a_page() {
    let scratch = Scratch::new();
    let (quantized, folder) = (scratch.path("int8.onnx"), scratch.path("loss"));
    let line = format!(
        "convert {{}} {CLASSIFIER_SHAPE} --precision int8 -o {{}} --layers --out {{}} --max-loss rel=10"
    );
    let said = run(&line, &[&classifier(), &quantized, &folder]).succeeded();
    assert!(said.stdout.contains("layers is over rel=10"), "{said:#?}");
    assert!(said.stdout.lines().all(|line| line.chars().count() <= 80), "{said:#?}");
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("Relative error along the network") && page.contains("What stayed in FP32"));
    // The same comparison of the two files, and the page once more.
    let other = scratch.path("other");
    let line = format!("accuracy {{}} {{}} {CLASSIFIER_SHAPE} --backend cpu --out {{}} --json");
    let json = run(&line, &[&classifier(), &quantized, &other]).succeeded().json();
    let layers = json["layers"]["layers"].as_array().unwrap();
    assert!(
        layers.len() > 100 && layers.iter().any(|layer| layer["computes_in"] == "i8"),
        "{}",
        layers.len()
    );
    std::fs::remove_file(other.join("report.html")).unwrap();
    run("report {}", &[&other]).succeeded();
    assert!(other.join("report.html").exists());
}

#[test]
fn auto_keeps_to_the_limit_and_says_what_went_back() {
    let scratch = Scratch::new();
    let mixed = scratch.path("mixed.onnx");
    let line =
        format!("convert {{}} {CLASSIFIER_SHAPE} --precision auto -o {{}} --max-loss cosine=0.9995 --json");
    let json = run(&line, &[&classifier(), &mixed]).succeeded().json();
    assert!(json["accuracy"]["outputs"][0]["cosine"].as_f64() >= Some(0.9995), "{}", json["accuracy"]);
    let (kept, all) = (json["mix"]["kept"].as_u64(), json["mix"]["nodes"].as_array().unwrap().len());
    let quantized = json["report"]["quantized"]["Conv"].as_u64().unwrap_or(0);
    assert_eq!(kept.map(|kept| kept + quantized), u64::try_from(all).ok());
    let line = format!("convert {{}} {CLASSIFIER_SHAPE} --precision auto -o {{}}");
    run(&line, &[&classifier(), &mixed]).refused(1, &["add --max-loss"]);
}

#[test]
fn a_network_that_takes_bytes_says_what_the_rounding_costs_and_runs() {
    let scratch = Scratch::new();
    let (model, bytes) = (launch(&scratch), scratch.path("bytes.onnx"));
    let line = "inputs {} -o {} --scale 0.0078 --shift -1";
    let said = run(line, &[&model, &bytes]).succeeded();
    assert!(said.stdout.contains("takes input in u8") && said.stdout.contains("cosine"), "{said:#?}");
    let measured =
        run("bench {} --backend cpu --duration 0.3 --warm-up 0 --json", &[&bytes]).succeeded().json();
    assert!(measured["verification"]["verified_samples"].as_u64() > Some(0));
    run("inputs {} -o {} --max-loss rel=0.0000001", &[&model, &bytes]).refused(1, &["rel"]);
    run("inputs {} -o {} --to f32", &[&model, &bytes]).refused(1, &["f32 already"]);
    run("inputs {} -o {} --scale 1,2,3", &[&model, &bytes])
        .refused(2, &["second dimension of `input` is 64"]);
}

#[test]
fn a_model_is_not_written_over_itself() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let before = std::fs::read(&model).unwrap();
    for line in ["convert {} -o {}", "inputs {} --to u8 -o {}"] {
        run(line, &[&model, &model]).refused(1, &["is the model itself: write to another file"]);
    }
    assert_eq!(std::fs::read(&model).unwrap(), before);
}
