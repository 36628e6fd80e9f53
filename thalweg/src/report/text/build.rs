//! The texts of `thalweg build`: the engine, and what its precision costs.

use std::path::Path;

use super::{Fact, Style, Tone, align_numbers, bare_table, facts, lines_of, wrap};
use crate::backend::{BuildOptions, SerializedEngine};
use crate::engine::{Source, StoredEngine};
use crate::precision::{Accuracy, RouteTaken};
use crate::report::wording;
use crate::units::Bytes;

/// An engine that was built or taken from the cache and written to `path`, as text of at most 80 columns.
pub fn text_of_build(
    stored: &StoredEngine,
    source: &Source,
    route: Option<&RouteTaken>,
    (path, style): (&Path, Style),
) -> String {
    let SerializedEngine { backend, bytes, spec, signature } = &stored.engine;
    let file = wording::printable(&path.display().to_string());
    let verdict = match source {
        Source::Builder(took) => format!("{file}: built in {:.1} s", took.as_secs_f64()),
        Source::Cache(_) => format!("{file}: the cache had it"),
    };
    let mut text = style.paint_lines(Tone::Bold, &wrap(&verdict, 80));
    text.push('\n');
    let mut lines = vec![Fact::new("size", Bytes(bytes.len() as u64).to_string())];
    let built_by = stored.origin.as_ref().and_then(|origin| origin.build_identity.as_deref());
    lines.push(Fact::new("for", wording::printable(built_by.unwrap_or(backend))));
    if let Some(spec) = spec {
        lines.push(Fact::new("options", options(&spec.options)));
    }
    lines.extend(route.map(|route| Fact::new("precision", route.to_string())));
    if let Some(signature) = signature {
        let (least, most) = signature.batch_sizes.clone().into_inner();
        let batches = if least == most { most.to_string() } else { format!("{least} to {most}") };
        lines.push(Fact::new("batch", batches));
    }
    text + &facts(lines, style)
}

/// How far the outputs are from those of FP32, as text of at most 80 columns.
pub fn text_of_accuracy(accuracy: &Accuracy, style: Style) -> String {
    let Accuracy { reference, sample_count, is_random, outputs } = accuracy;
    let (kind, doubt) =
        if *is_random { ("random samples", "; real ones would say more (--input)") } else { ("samples", "") };
    // An engine has a name, another model its path.
    let article = if Path::new(reference).extension().is_some() { "" } else { "the " };
    let title = format!("accuracy against {article}{reference}, {sample_count} {kind}{doubt}");
    let mut table = bare_table();
    table.add_row(["output", "cosine", "relative error", "same top-1", "top-5"]);
    for output in outputs {
        table.add_row([
            wording::printable(&output.output),
            format!("{:.6}", output.cosine),
            wording::error(output.max_relative_error),
            wording::agreement(output.top1_agreement),
            wording::agreement(output.top5_agreement),
        ]);
    }
    align_numbers(&mut table, 1..5);
    let lines = lines_of(&table).join("\n");
    format!("\n{}{lines}\n", style.paint_lines(Tone::Bold, &wrap(&title, 80)))
}

fn options(options: &BuildOptions) -> String {
    let mut words = vec![options.precision.to_string()];
    words.extend(options.is_exact_fp32.then(|| "exact fp32".to_owned()));
    words.extend(options.optimization_level.map(|level| format!("optimization level {level}")));
    words.extend(options.workspace_bytes.map(|bytes| format!("workspace of {}", Bytes(bytes))));
    words.extend(options.aux_streams.map(|count| format!("at most {count} auxiliary streams")));
    let tactics = options.tactics.iter();
    words.extend(
        tactics.map(|(source, is_used)| format!("{} {source}", if *is_used { "with" } else { "without" })),
    );
    words.extend(options.is_version_compatible.then(|| "version compatible".to_owned()));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use bytes::Bytes as Content;

    use super::*;
    use crate::backend::{BuildSpec, Precision};
    use crate::engine::EngineOrigin;
    use crate::model::{ModelIdentity, Signature};
    use crate::precision::OutputAccuracy;
    use crate::precision::Route;

    fn stored() -> StoredEngine {
        let options = BuildOptions {
            precision: Precision::Int8,
            optimization_level: Some(5),
            workspace_bytes: Some(2_000_000_000),
            ..BuildOptions::default()
        };
        let spec = BuildSpec { input_shapes: BTreeMap::new(), max_batch_size: 8, options };
        let model =
            ModelIdentity { path: "m.onnx".into(), sha256: "00".into(), input_shapes: BTreeMap::new() };
        StoredEngine {
            engine: SerializedEngine {
                backend: "tensorrt".into(),
                bytes: Content::from(vec![0; 1500]),
                spec: Some(spec),
                signature: Some(Signature { inputs: vec![], outputs: vec![], batch_sizes: 1..=8 }),
            },
            origin: Some(EngineOrigin {
                model,
                build_identity: Some("TensorRT 8.6.0 on NVIDIA H100".into()),
                calibration_sha256: None,
            }),
        }
    }

    #[test]
    fn an_engine_is_told_with_what_it_was_built_for() {
        let source = Source::Builder(Duration::from_millis(73_040));
        let expected = "\
m.engine: built in 73.0 s

size       1.50 kB
for        TensorRT 8.6.0 on NVIDIA H100
options    int8, optimization level 5, workspace of 2.00 GB
precision  by a flag of the builder, since that was asked for
batch      1 to 8
";
        let route = RouteTaken { route: Route::Flags, reason: "that was asked for".to_owned(), caveat: None };
        assert_eq!(
            text_of_build(&stored(), &source, Some(&route), (Path::new("m.engine"), Style::Plain)),
            expected
        );
        let cached =
            text_of_build(&stored(), &Source::Cache("c".into()), None, (Path::new("m"), Style::Plain));
        assert!(cached.starts_with("m: the cache had it\n"), "{cached}");
    }

    #[test]
    fn accuracy_is_a_row_for_each_output() {
        let output = |name: &str, top1_agreement, top5_agreement| OutputAccuracy {
            output: name.into(),
            cosine: 0.999_876_54,
            max_relative_error: 0.0123,
            top1_agreement,
            top5_agreement,
        };
        let accuracy = Accuracy {
            reference: "FP32 engine".into(),
            sample_count: 500,
            is_random: false,
            outputs: vec![output("logits", Some(0.994), Some(1.0)), output("features", None, None)],
        };
        let expected = "
accuracy against the FP32 engine, 500 samples
output      cosine  relative error  same top-1     top-5
logits    0.999877          1.2e-2     99.40 %  100.00 %
features  0.999877          1.2e-2           –         –
";
        assert_eq!(text_of_accuracy(&accuracy, Style::Plain), expected);
        let random = text_of_accuracy(&Accuracy { is_random: true, ..accuracy }, Style::Plain);
        assert!(random.contains("500 random samples; real ones would say more"), "{random}");
    }
}
