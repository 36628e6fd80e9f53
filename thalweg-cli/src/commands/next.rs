//! What a person does next with what `tune` found, as command lines.

use std::path::Path;

use thalweg::backend::{BuildSpec, Precision};
use thalweg::engine::EngineSource;
use thalweg::tune::TunedConfig;

use super::{file, quoted};
use crate::args::TuneArgs;
use crate::values::BatchRange;

/// The command lines that measure the winner again, that build its engine, and that make a program of it; `calibration`
/// is what its engine was built with.
pub fn next(args: &TuneArgs, tuned: &TunedConfig, calibration: Option<&Path>) -> Vec<String> {
    let path = quoted(&args.out.join(file::TUNED).display().to_string());
    let engine = engine_makers(args, calibration);
    let build = match &tuned.engine {
        Some(EngineSource::Built(spec)) => {
            Some(format!("to have its engine: {}{engine}", build(args, tuned, spec)))
        }
        _ => None,
    };
    let bench = format!("next: thalweg bench --tuned {path}{}{engine}", surroundings(args));
    let export = format!("to run it without Thalweg: thalweg export {path} --to cpp (or triton, trtexec)");
    [Some(bench), build, Some(export)].into_iter().flatten().collect()
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
fn build(args: &TuneArgs, tuned: &TunedConfig, spec: &BuildSpec) -> String {
    let most = spec.max_batch_size;
    let range = spec.options.least_batch_size.map(|least| BatchRange { least, most });
    let backend = Some(&tuned.device.backend).filter(|name| *name != "tensorrt").cloned();
    let spec = &spec.options;
    let tactic = |(source, is_used): (&_, &bool)| format!("{}{source}", if *is_used { "+" } else { "-" });
    let tactics: Vec<String> = spec.tactics.iter().map(tactic).collect();
    let named = [
        ("backend", backend),
        ("batch", range.is_none().then(|| most.to_string())),
        ("batch-range", range.map(|range| range.to_string())),
        ("precision", (spec.precision != Precision::Fp32).then(|| spec.precision.to_string())),
        ("optimization-level", spec.optimization_level.map(|level| level.to_string())),
        ("workspace-mb", spec.workspace_bytes.map(|bytes| (bytes / 1_000_000).to_string())),
        ("aux-streams", spec.aux_streams.map(|count| count.to_string())),
        ("tactics", Some(tactics.join(",")).filter(|text| !text.is_empty())),
    ];
    let shape = |(name, sizes): (&String, &Vec<usize>)| {
        let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
        format!(" --shape {}", quoted(&format!("{name}={}", sizes.join("x"))))
    };
    let shapes: String = tuned.model.input_shapes.iter().map(shape).collect();
    let switches = [
        (spec.is_exact_fp32, " --exact-fp32"),
        (spec.is_version_compatible, " --version-compatible"),
        // It would take a second engine, in FP32.
        (spec.precision != Precision::Fp32, " --no-accuracy"),
    ];
    let switches: String = switches.iter().filter(|(is_on, _)| *is_on).map(|(_, word)| *word).collect();
    let model = quoted(&tuned.model.path.display().to_string());
    let engine = quoted(&args.out.join(file::ENGINE).display().to_string());
    format!("thalweg build {model} -o {engine}{}{shapes}{switches}", options(named))
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
