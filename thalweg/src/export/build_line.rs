//! The words of `thalweg build` that make a tuned configuration's engine.

use crate::backend::{BuildSpec, Precision};
use crate::engine::EngineSource;
use crate::tune::TunedConfig;

/// Options of `thalweg build` for the very engine, each with a space before it; where the file does not know how that was
/// built, those for its batch. Model, output, backend, calibration and plugins are the caller's: the file does not have
/// them.
pub fn build_options(tuned: &TunedConfig) -> String {
    let shape = |(name, sizes): (&String, &Vec<usize>)| {
        option("shape", &format!("{name}={}", super::sizes(sizes, "x")))
    };
    let shapes: String = tuned.model.input_shapes.iter().map(shape).collect();
    match &tuned.engine {
        Some(EngineSource::Built(spec)) => of_spec(spec, &shapes),
        Some(EngineSource::File(_)) | None => {
            option("batch", &tuned.configuration.batch_size.to_string()) + &shapes
        }
    }
}

fn of_spec(spec: &BuildSpec, shapes: &str) -> String {
    let batch = match spec.options.least_batch_size {
        None => option("batch", &spec.max_batch_size.to_string()),
        Some(_) => String::new(),
    };
    // It would take a second engine, in FP32.
    let accuracy = if spec.options.precision == Precision::Fp32 { "" } else { " --no-accuracy" };
    format!("{batch}{}{shapes}{accuracy}", builder_options(spec))
}

/// Of these options those for the builder, which `thalweg bench` has too, and the range of batches where there is one. The
/// batch of an engine without a range, and shapes, are the caller's.
pub fn builder_options(spec: &BuildSpec) -> String {
    let most = spec.max_batch_size;
    let spec = &spec.options;
    let range = spec.least_batch_size.map(|least| match least {
        least if least == most => most.to_string(),
        least => format!("{least}-{most}"),
    });
    let tactic = |(source, is_used): (_, &bool)| format!("{}{source}", if *is_used { "+" } else { "-" });
    let tactics: Vec<String> = spec.tactics.iter().map(tactic).collect();
    let named = [
        ("batch-range", range),
        ("precision", (spec.precision != Precision::Fp32).then(|| spec.precision.to_string())),
        ("optimization-level", spec.optimization_level.map(|level| level.to_string())),
        ("workspace-mb", spec.workspace_bytes.map(|bytes| (bytes / 1_000_000).to_string())),
        ("aux-streams", spec.aux_streams.map(|count| count.to_string())),
        ("tactics", Some(tactics.join(",")).filter(|text| !text.is_empty())),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some(option(name, &value?)));
    let switches =
        [(spec.is_exact_fp32, " --exact-fp32"), (spec.is_version_compatible, " --version-compatible")];
    let switches = switches.into_iter().filter(|(is_on, _)| *is_on).map(|(_, word)| word.to_owned());
    named.chain(switches).collect()
}

fn option(name: &str, value: &str) -> String {
    format!(" --{name} {}", shell_word(value))
}

/// A text as a POSIX shell takes it for one word.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:=,+-".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_a_shell_would_split_are_quoted() {
        assert_eq!(shell_word("a.onnx"), "a.onnx");
        assert_eq!(shell_word("my model's.onnx"), "'my model'\\''s.onnx'");
        assert_eq!(shell_word(""), "''");
    }
}
