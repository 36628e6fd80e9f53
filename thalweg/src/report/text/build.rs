//! The text of `thalweg build`.

use std::path::Path;

use super::{Fact, Style, Tone, facts, wrap};
use crate::backend::{BuildOptions, SerializedEngine};
use crate::engine::{Source, StoredEngine};
use crate::report::wording;
use crate::units::Bytes;

/// An engine that was built or taken from the cache and written to `path`, as text of at most 80 columns.
pub fn text_of_build(stored: &StoredEngine, source: &Source, path: &Path, style: Style) -> String {
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
    if let Some(signature) = signature {
        let (least, most) = signature.batch_sizes.clone().into_inner();
        let batches = if least == most { most.to_string() } else { format!("{least} to {most}") };
        lines.push(Fact::new("batch", batches));
    }
    text + &facts(lines, style)
}

fn options(options: &BuildOptions) -> String {
    let mut words = vec![options.precision.to_string()];
    words.extend(options.is_exact_fp32.then(|| "exact fp32".to_owned()));
    words.extend(options.optimization_level.map(|level| format!("optimization level {level}")));
    words.extend(options.workspace_bytes.map(|bytes| format!("workspace of {}", Bytes(bytes))));
    words.extend(options.aux_streams.map(|count| format!("at most {count} auxiliary streams")));
    words.extend(options.is_version_compatible.then(|| "version compatible".to_owned()));
    words.join(", ")
}
