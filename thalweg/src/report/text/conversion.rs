//! The text of `thalweg convert`: what computes in a lower precision, and why the rest does not.

use std::collections::BTreeMap;
use std::path::Path;

use super::quantization;
use super::{Fact, Style, Tone, facts, wrap};
use crate::precision::{Conversion, ConversionReport, KeptNode};
use crate::report::wording;

/// Kept nodes that are named one by one for each reason; the rest is counted.
const MOST_EXAMPLES: usize = 3;

/// A conversion whose result is at `path`, as text of at most 80 columns.
pub fn text_of_conversion(conversion: &Conversion, path: &Path, style: Style) -> String {
    let file = wording::printable(&path.display().to_string());
    let (verdict, details) = told(conversion, style);
    style.paint_lines(Tone::Bold, &wrap(&format!("{file}: {verdict}"), 80)) + "\n" + &details
}

/// A conversion on the way to an engine, as text of at most 80 columns.
pub fn text_of_converted_nodes(conversion: &Conversion, style: Style) -> String {
    let (verdict, details) = told(conversion, style);
    format!("\n{}{details}", style.paint_lines(Tone::Bold, &wrap(&format!("converted first: {verdict}"), 80)))
}

/// What stands where no accuracy is known, as text of at most 80 columns.
pub fn text_of_unknown_accuracy(style: Style) -> String {
    let doubt = "What this costs in accuracy was not measured. `thalweg accuracy` compares two models, `thalweg \
                 build --input` an engine with FP32 on a GPU.";
    format!("\n{}", style.paint_lines(Tone::Dim, &wrap(doubt, 80)))
}

fn told(conversion: &Conversion, style: Style) -> (String, String) {
    match conversion {
        Conversion::Half(report) => (verdict(report), details(report, style)),
        Conversion::Int8(report) => (quantization::verdict(report), quantization::details(report, style)),
    }
}

fn verdict(report: &ConversionReport) -> String {
    let node_count = report.half_nodes + report.other_nodes + report.moving_nodes + report.kept.len();
    format!("{} of {node_count} nodes compute in {}", report.half_nodes, report.precision)
}

fn details(report: &ConversionReport, style: Style) -> String {
    let lines = vec![
        Fact::new(
            "in fp32",
            format!("{} nodes that compute, {} that move values", report.kept.len(), report.moving_nodes),
        ),
        Fact::new(
            "others",
            format!("{} nodes without fp32 values, or that only look at them", report.other_nodes),
        ),
        Fact::new("casts", format!("{} put in", report.cast_count)),
        Fact::new("opset", opset(report)),
        Fact::new("weights", weights(report)),
        Fact::new("size", wording::sizes(report.bytes_before, report.bytes_after)),
        Fact::new("ranges", ranges(report)),
    ];
    facts(lines, style) + &reasons(&report.kept, style)
}

fn opset(report: &ConversionReport) -> String {
    let ConversionReport { opset_before, opset, not_raised, .. } = report;
    match not_raised {
        Some(reason) => format!("{opset}, not raised since {}", wording::printable(reason)),
        None => wording::opset(*opset_before, *opset),
    }
}

fn weights(report: &ConversionReport) -> String {
    let it = &report.weights;
    let mut text = format!("{} tensors converted, {} elements", it.tensors, it.elements);
    text +=
        &format!(", {} subnormal, {} now zero, {} too large", it.subnormal, it.flushed_to_zero, it.clipped);
    if it.doubled_tensors > 0 {
        text += &format!("; {} tensors are there in both types", it.doubled_tensors);
    }
    if let Some(first) = report.not_folded.first() {
        let count = report.not_folded.len();
        text += &format!("; {count} values of constants are still calculated: {}", wording::printable(first));
    }
    text
}

fn ranges(report: &ConversionReport) -> String {
    match &report.ranges {
        None => "not looked at".to_owned(),
        Some(source) => {
            let kind =
                if source.is_random { "random samples; real ones say more (--input)" } else { "samples" };
            let mut text = format!("of {} values on {} {kind}", source.value_count, source.sample_count);
            if report.unmeasured_nodes > 0 {
                let count = report.unmeasured_nodes;
                text += &format!("; {count} half nodes are in If or Loop, where no range can be looked at");
            }
            text
        }
    }
}

/// Which operators stayed, and why, most nodes first.
fn reasons(kept: &[KeptNode], style: Style) -> String {
    if kept.is_empty() {
        return String::new();
    }
    let mut groups: BTreeMap<(&str, String), Vec<&KeptNode>> = BTreeMap::new();
    for node in kept {
        groups.entry((&node.operator, node.reason.summary())).or_default().push(node);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
    let mut text = format!("\n{}", style.paint_lines(Tone::Bold, "nodes that stay in fp32, and why"));
    for ((operator, reason), nodes) in &groups {
        let names = nodes.iter().take(MOST_EXAMPLES).map(|node| wording::printable(&node.node));
        let names = names.collect::<Vec<_>>().join(", ");
        let more = if nodes.len() > MOST_EXAMPLES { ", ..." } else { "" };
        let operator = wording::printable(operator);
        text += &wrap(&format!("{} {operator}: {reason} ({names}{more})", nodes.len()), 80);
        text.push('\n');
    }
    text
}
