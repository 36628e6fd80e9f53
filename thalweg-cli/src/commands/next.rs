//! What a person does next with what `tune` found, as command lines.

use std::path::Path;

use thalweg::engine::EngineSource;
use thalweg::export::{self, Format, build_options};
use thalweg::tune::TunedConfig;

use super::{file, quoted};
use crate::args::TuneArgs;

/// The command lines that measure the winner again, that build its engine, and that make a program of it; `calibration`
/// is what its engine was built with.
pub fn next(args: &TuneArgs, tuned: &TunedConfig, calibration: Option<&Path>) -> Vec<String> {
    let path = quoted(&args.out.join(file::TUNED).display().to_string());
    let engine = engine_makers(args, calibration);
    let build = match &tuned.engine {
        Some(EngineSource::Built(_)) => Some(format!("to have its engine: {}{engine}", build(args, tuned))),
        _ => None,
    };
    let bench = format!("next: thalweg bench --tuned {path}{}{engine}", surroundings(args));
    let can_leave = export::check_device(&tuned.device, Format::Cpp).is_ok();
    let export = format!("to run it without Thalweg: thalweg export {path} --to cpp (or triton, trtexec)");
    [Some(bench), build, can_leave.then_some(export)].into_iter().flatten().collect()
}

/// What the file does not say: where to run it and on what.
fn surroundings(args: &TuneArgs) -> String {
    options([
        ("backend", Some(args.workload.backend.clone()).filter(|name| name != "auto")),
        ("input", args.workload.input.as_deref().map(shown)),
    ])
}

/// What the file does not say and the engine depends on: who builds it, and where it is once it is built.
fn engine_makers(args: &TuneArgs, calibration: Option<&Path>) -> String {
    let (gpu, cache) = (&args.workload.gpu, &args.workload.cache);
    let plugins = gpu.plugins.iter().map(|library| option("plugins", &shown(library)));
    let plugins: String = plugins.collect();
    let named = options([
        ("tensorrt-dir", gpu.tensorrt_dir.as_deref().map(shown)),
        ("device", gpu.device.clone()),
        ("calibrate", calibration.map(shown)),
        ("timing-cache", args.workload.builder.timing_cache.as_deref().map(shown)),
        ("cache", cache.cache.as_deref().map(shown)),
    ]);
    format!("{named}{plugins}{}", if cache.no_cache { " --no-cache" } else { "" })
}

/// Words that build the very engine, which the cache has where there is one.
fn build(args: &TuneArgs, tuned: &TunedConfig) -> String {
    let backend = Some(&tuned.device.backend).filter(|name| *name != "tensorrt").cloned();
    let model = quoted(&tuned.model.path.display().to_string());
    let engine = quoted(&args.out.join(file::ENGINE).display().to_string());
    let backend = options([("backend", backend)]);
    format!("thalweg build {model} -o {engine}{backend}{}", build_options(tuned))
}

fn options<const N: usize>(named: [(&str, Option<String>); N]) -> String {
    named.into_iter().filter_map(|(name, value)| Some(option(name, &value?))).collect()
}

fn option(name: &str, value: &str) -> String {
    format!(" --{name} {}", quoted(value))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
