//! Engines in files and in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::models::{CLASSIFIER_SHAPE, classifier, launch, with_unknown_operator};
use crate::program::{Said, Scratch, command, finish, interrupt, run, start, wait_until};

/// TensorRT for RTX, whose builder needs no GPU; `None` where `scripts/fetch-tensorrt.py` did not fetch it.
fn rtx() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tensorrt/rtx-1.7");
    folder.is_dir().then_some(folder)
}

/// With a cache of its own in place of the user's.
fn own_cache(mut command: Command, scratch: &Scratch) -> Command {
    command.env("XDG_CACHE_HOME", scratch.path("xdg"));
    command
}

/// Builds the classifier with TensorRT for RTX.
fn build_rtx(scratch: &Scratch, folder: &Path, output: &Path, options: &str) -> Said {
    let line = format!("build {{}} {CLASSIFIER_SHAPE} -o {{}} --tensorrt-dir {{}} {options}");
    finish(start(own_cache(command(&line, &[&classifier(), output, folder]), scratch)))
}

#[test]
fn an_engine_is_built_into_a_file_and_measured_from_there() {
    let scratch = Scratch::new();
    let (model, engine) = (launch(&scratch), scratch.path("launch.engine"));
    let said = run("build {} -o {} --batch 4 --backend cpu", &[&model, &engine]).succeeded();
    assert!(said.stdout.contains("batch    1 to 4"), "{said:#?}");
    assert!(engine.with_added_extension("json").is_file());
    let line = "bench --engine {} --batch 4 --duration 0.5 --warm-up 0 --json";
    let measured = run(line, &[&engine]).succeeded().json();
    assert_eq!(measured["model"]["path"], model.to_str().unwrap());
    assert_eq!(measured["device"]["backend"], "cpu");
    run("bench --engine {} --batch 8", &[&engine]).refused(2, &["batch 8", "1 to 4 samples"]);
}

#[test]
fn a_build_in_json_says_what_came_out() {
    let scratch = Scratch::new();
    let (model, engine) = (launch(&scratch), scratch.path("launch.engine"));
    let built = run("build {} -o {} --backend cpu --json", &[&model, &engine]).succeeded().json();
    assert_eq!(built["size_bytes"], fs::metadata(&engine).unwrap().len());
    assert!(built["source"]["builder"].is_object(), "{built}");
    assert_eq!(built["signature"]["inputs"][0]["name"], "input");
    assert!(built["accuracy"].is_null(), "an engine of the model's own precision has nothing to lose");
}

#[test]
fn a_place_that_cannot_be_written_shows_before_the_build() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let nowhere = scratch.path("no-such-folder/launch.engine");
    run("build {} -o {} --backend cpu", &[&model, &nowhere]).refused(1, &["cannot write"]);
    let folder = scratch.path("");
    run("build {} -o {} --backend cpu", &[&model, &folder]).refused(1, &["cannot write", "directory"]);
}

#[test]
fn an_engine_that_was_damaged_or_replaced_is_refused() {
    let scratch = Scratch::new();
    let (model, engine) = (launch(&scratch), scratch.path("launch.engine"));
    run("build {} -o {} --backend cpu", &[&model, &engine]).succeeded();
    let bytes = fs::read(&engine).unwrap();
    fs::write(&engine, &bytes[..bytes.len() / 2]).unwrap();
    run("bench --engine {}", &[&engine]).refused(1, &["not a usable engine", "damaged or replaced"]);
    fs::write(engine.with_added_extension("json"), "{").unwrap();
    run("bench --engine {}", &[&engine]).refused(1, &["no label of an engine"]);
}

#[test]
fn what_decides_about_a_build_has_no_place_beside_a_built_engine() {
    let scratch = Scratch::new();
    let engine = scratch.file("x.engine", "bytes");
    for option in ["--precision int8", "--exact-fp32", "--no-cache", "--tuned x.json"] {
        run(&format!("bench --engine {{}} {option}"), &[&engine]).refused(2, &["cannot be used with"]);
    }
    run("bench", &[]).refused(2, &["required"]);
}

#[test]
fn a_lower_precision_reaches_the_processor_by_converting_the_model() {
    let scratch = Scratch::new();
    let (model, engine) = (launch(&scratch), scratch.path("launch.engine"));
    let line = "build {} -o {} --backend cpu --precision int8";
    let said = run(line, &[&model, &engine]).succeeded();
    assert!(said.stderr.contains("converting") && said.stdout.contains("converted first"), "{said:#?}");
    run("bench {} --backend cpu --precision int8", &[&model]).refused(2, &["precision int8", "use fp32"]);
    let said = run("bench {} --backend cpu --precision auto", &[&model]);
    said.refused(1, &["is no flag of a builder", "thalweg convert"]);
    let said = run("bench {} --backend cpu --precision fp16,int8", &[&model]);
    said.refused(1, &["several precisions are for `tune`"]);
}

#[test]
fn limits_of_accuracy_are_checked_when_they_are_typed() {
    let scratch = Scratch::new();
    let model = launch(&scratch);
    let line = "build {} -o x --max-loss psnr=30";
    run(line, &[&model]).refused(2, &["psnr=30", "cosine=0.999"]);
    let line = "build {} -o x --backend cpu --max-loss rel=0.1";
    run(line, &[&model]).refused(1, &["--max-loss is held against FP32", "add --precision"]);
}

#[test]
fn a_machine_without_tensorrt_says_how_to_get_it() {
    let scratch = Scratch::new();
    let engine = scratch.path("x.engine");
    let said = run("build {} -o {}", &[&launch(&scratch), &engine]);
    if said.code != Some(0) {
        said.refused(1, &["TensorRT"]);
        assert!(!engine.exists());
    }
}

#[test]
fn tensorrt_builds_without_a_gpu_and_the_second_time_the_cache_has_it() {
    let Some(folder) = rtx() else { return };
    let (scratch, mut sources) = (Scratch::new(), Vec::new());
    for name in ["first.engine", "second.engine"] {
        let said = build_rtx(&scratch, &folder, &scratch.path(name), "--batch 2 --json").succeeded();
        sources.push(said.json()["source"].clone());
    }
    assert!(sources[0]["builder"].is_object() && sources[1]["cache"].is_string(), "{sources:?}");
    let engines = ["first.engine", "second.engine"].map(|name| fs::read(scratch.path(name)).unwrap());
    assert_eq!(engines[0], engines[1]);
    let said = build_rtx(&scratch, &folder, &scratch.path("third.engine"), "--no-cache --json");
    assert!(said.succeeded().json()["source"]["builder"].is_object());
}

#[test]
fn a_damaged_entry_of_the_cache_is_built_again_with_a_warning() {
    let Some(folder) = rtx() else { return };
    let scratch = Scratch::new();
    let (engine, options) = (scratch.path("x.engine"), "--cache {}");
    let line = format!("build {{}} {CLASSIFIER_SHAPE} -o {{}} --tensorrt-dir {{}} {options}");
    let (model, cache) = (classifier(), scratch.path("cache"));
    let paths: [&Path; 4] = [&model, &engine, &folder, &cache];
    run(&line, &paths).succeeded();
    let entry = scratch.names_in("cache").into_iter().find(|name| name.ends_with(".engine")).unwrap();
    fs::write(cache.join(entry), "half").unwrap();
    let said = run(&line, &paths).succeeded();
    assert!(said.stderr.starts_with("warning: the cached engine"), "{said:#?}");
    assert!(said.stdout.contains("built in"), "{said:#?}");
}

#[test]
fn two_processes_that_want_the_same_engine_build_it_once() {
    let Some(folder) = rtx() else { return };
    let (scratch, line) =
        (Scratch::new(), format!("build {{}} {CLASSIFIER_SHAPE} -o {{}} --tensorrt-dir {{}} --json"));
    let start_one =
        |name| start(own_cache(command(&line, &[&classifier(), &scratch.path(name), &folder]), &scratch));
    let both = ["first.engine", "second.engine"].map(start_one);
    let sources = both.map(|child| finish(child).succeeded().json()["source"].clone());
    let built = sources.iter().filter(|source| source["builder"].is_object()).count();
    assert_eq!(built, 1, "{sources:?}");
    let engines = ["first.engine", "second.engine"].map(|name| fs::read(scratch.path(name)).unwrap());
    assert_eq!(engines[0], engines[1]);
}

#[test]
fn a_cache_over_its_limit_drops_the_older_engine_and_says_so() {
    let Some(folder) = rtx() else { return };
    let scratch = Scratch::new();
    let build = |options: &str| {
        let output = scratch.path("x.engine");
        build_rtx(&scratch, &folder, &output, &format!("{options} --cache-limit-gb 1e-6")).succeeded()
    };
    assert!(!build("--batch 1").stderr.contains("removed"));
    let second = build("--batch 2");
    assert!(second.stderr.contains("warning: 1 of the cached engines"), "{second:#?}");
    let left = scratch.names_in("xdg/thalweg").into_iter().filter(|name| name.ends_with(".engine"));
    assert_eq!(left.count(), 1);
}

#[test]
fn tensorrt_refuses_an_unknown_operator_in_its_own_words() {
    let Some(folder) = rtx() else { return };
    let scratch = Scratch::new();
    let (model, engine) = (with_unknown_operator(&scratch), scratch.path("x.engine"));
    let line = "build {} -o {} --no-cache --tensorrt-dir {}";
    run(line, &[&model, &engine, &folder]).refused(1, &["TensorRT cannot parse the model", "Frobnicate"]);
    assert!(!engine.exists());
}

#[test]
fn what_needs_a_gpu_is_refused_before_the_build() {
    let Some(folder) = rtx() else { return };
    let scratch = Scratch::new();
    let output = scratch.path("x.engine");
    build_rtx(&scratch, &folder, &output, "--precision fp16 --precision-route flags")
        .refused(2, &["from the ONNX file", "thalweg convert"]);
    build_rtx(&scratch, &folder, &output, "--max-loss rel=0.1").refused(1, &["--max-loss needs a GPU"]);
    build_rtx(&scratch, &folder, &output, "--export-layers layers.json")
        .refused(1, &["--export-layers needs a GPU"]);
    assert!(!output.exists());
}

#[test]
fn fp16_goes_through_the_model_where_tensorrt_has_no_flag() {
    let Some(folder) = rtx() else { return };
    let scratch = Scratch::new();
    let output = scratch.path("x.engine");
    let said = build_rtx(&scratch, &folder, &output, "--precision fp16 --json").succeeded();
    assert!(said.stderr.contains("this TensorRT takes the types of the model alone"), "{said:#?}");
    let built = said.json();
    assert_eq!(built["spec"]["options"]["precision"], "fp32");
    assert_eq!(built["precision_route"]["route"], "onnx");
    assert_eq!(built["precision_route"]["reason"], "this TensorRT takes the types of the model alone");
    assert!(built["conversion"]["half_nodes"].as_u64() > Some(100), "{}", built["conversion"]["half_nodes"]);
    assert!(output.is_file());
}

#[test]
fn int8_goes_through_the_model_where_tensorrt_has_no_flag() {
    let Some(folder) = rtx() else { return };
    let scratch = Scratch::new();
    let output = scratch.path("x.engine");
    let built = build_rtx(&scratch, &folder, &output, "--precision int8 --json").succeeded().json();
    assert_eq!(built["spec"]["options"]["precision"], "fp32");
    assert!(built["conversion"]["quantized"]["Conv"].as_u64() > Some(40), "{}", built["conversion"]);
    // What stays out of eight bits is half, since no flag of the builder would make it so.
    assert!(built["conversion"]["rest"]["half_nodes"].as_u64() > Some(100), "{}", built["conversion"]);
    let only = build_rtx(&scratch, &folder, &output, "--precision int8 --only Add --json").succeeded().json();
    assert!(only["conversion"]["quantized"]["Conv"].is_null(), "{}", only["conversion"]);
    assert!(output.is_file());
}

#[test]
fn a_process_that_waits_for_anothers_build_says_so_and_can_be_interrupted() {
    let Some(folder) = rtx() else { return };
    let scratch = Scratch::new();
    build_rtx(&scratch, &folder, &scratch.path("x.engine"), "").succeeded();
    let cache = scratch.path("xdg/thalweg");
    let names = scratch.names_in("xdg/thalweg");
    let lock = names.iter().find(|name| name.ends_with(".lock")).unwrap();
    for name in names.iter().filter(|name| *name != lock) {
        fs::remove_file(cache.join(name)).unwrap();
    }
    let held = fs::File::open(cache.join(lock)).unwrap();
    held.lock().unwrap();
    let line = format!("build {{}} {CLASSIFIER_SHAPE} -o {{}} --tensorrt-dir {{}}");
    let heard = scratch.path("stderr");
    let mut command =
        own_cache(command(&line, &[&classifier(), &scratch.path("y.engine"), &folder]), &scratch);
    command.stderr(fs::File::create(&heard).unwrap());
    let mut child = start(command);
    let waits = || fs::read_to_string(&heard).unwrap().contains("waiting for it");
    wait_until(&mut child, "a word about waiting", waits);
    interrupt(&child);
    assert_eq!(finish(child).code, Some(130));
    assert!(fs::read_to_string(&heard).unwrap().contains("the build was stopped"));
    assert!(!scratch.path("y.engine").exists());
}

#[test]
fn plugins_that_cannot_be_loaded_are_named_with_the_loaders_words() {
    let Some(folder) = rtx() else { return };
    let scratch = Scratch::new();
    let (plugins, output) = (scratch.file("libplugins.so", "no library"), scratch.path("x.engine"));
    let line = "build {} -o {} --tensorrt-dir {} --plugins {} --no-cache";
    let paths: [&Path; 4] = [&classifier(), &output, &folder, &plugins];
    run(line, &paths).refused(1, &["the plugins in", "libplugins.so", "cannot be loaded"]);
}
