//! What a quantisation did, and what its nodes lose, for the text of `thalweg convert`: what reads eight bits now, and why
//! the rest does not.

use std::collections::BTreeMap;

use super::inspection::tail_of;
use super::{Fact, Style, Tone, align_numbers, bare_table, facts, lines_of, wrap};
use crate::precision::{Mix, NodeSensitivity, QuantizationReport, SkippedNode};
use crate::report::wording;

/// Skipped nodes that are named one by one for each reason; the rest is counted.
const MOST_EXAMPLES: usize = 3;

/// Nodes of a mix that are shown.
const MOST_NODES: usize = 10;

/// Columns for the name of a node.
const NAME_WIDTH: usize = 26;

/// Which nodes went back to FP32, as text of at most 80 columns.
pub fn text_of_mix(mix: &Mix, style: Style) -> String {
    let title = format!(
        "{} of {} nodes{} went back to fp32; {} {} measured",
        mix.kept,
        mix.nodes.len(),
        if mix.nodes.iter().any(|node| node.node_count > 1) { " and groups of neighbours" } else { "" },
        mix.tried,
        if mix.tried == 1 { "mix was" } else { "mixes were" }
    );
    let mut table = bare_table();
    table.add_row(["most lost for the time saved", "operator", "lost cosine", "error", "saved ns", ""]);
    for (place, node) in mix.nodes.iter().enumerate().take(MOST_NODES) {
        table.add_row([
            group_name(node),
            wording::printable(&node.operator),
            wording::error(node.lost_cosine),
            wording::error(node.relative_error),
            format!("{:.1}", node.saved_ns),
            if place < mix.kept { "fp32" } else { "lower" }.to_owned(),
        ]);
    }
    align_numbers(&mut table, 2..5);
    let lines = lines_of(&table).join("\n");
    let rest = mix.rest.as_ref().map(|rest| text_of_mix(rest, style)).unwrap_or_default();
    format!("\n{}{lines}\n{rest}", style.paint_lines(Tone::Bold, &wrap(&title, 80)))
}

/// The name of a node, or of the first of its group with how many follow.
fn group_name(node: &NodeSensitivity) -> String {
    match node.node_count {
        0 | 1 => tail_of(&node.node, NAME_WIDTH),
        count => format!("{} + {}", tail_of(&node.node, NAME_WIDTH - 5), count - 1),
    }
}

pub(super) fn verdict(report: &QuantizationReport) -> String {
    let count = report.quantized_nodes();
    let weighted_count = count + report.skipped.len();
    format!("{count} of {weighted_count} convolutions and matrix products read int8")
}

pub(super) fn details(report: &QuantizationReport, style: Style) -> String {
    let operators = report.quantized.iter().map(|(operator, count)| format!("{count} {operator}"));
    let operators: Vec<_> = operators.collect();
    let lines = vec![
        Fact::new("in int8", if operators.is_empty() { "nothing".to_owned() } else { operators.join(", ") }),
        Fact::new("values", format!("{} quantised, each once for all that read it", report.value_count)),
        Fact::new("residuals", residuals(report)),
        others(report),
        Fact::new("opset", wording::opset(report.opset_before, report.opset)),
        Fact::new("weights", weights(report)),
        Fact::new("size", wording::sizes(report.bytes_before, report.bytes_after)),
        Fact::new("ranges", ranges(report)),
    ];
    facts(lines, style) + &reasons(&report.skipped)
}

fn residuals(report: &QuantizationReport) -> String {
    let mut text = format!("{} with their other branch in int8", report.residual_count);
    if report.pool_count > 0 {
        text += &format!(", and {} averages behind them", report.pool_count);
    }
    text
}

fn others(report: &QuantizationReport) -> Fact {
    match &report.rest {
        None => Fact::new("others", format!("{} nodes as they were", report.other_nodes)),
        Some(rest) => Fact::new(
            "the rest",
            format!(
                "{} nodes in {}, those with eight bits among them; {} in fp32; {} casts",
                rest.half_nodes,
                rest.precision,
                rest.kept.len(),
                rest.cast_count
            ),
        ),
    }
}

fn weights(report: &QuantizationReport) -> String {
    let it = &report.weights;
    let mut text = format!("{} tensors converted, {} elements", it.tensors, it.elements);
    text += &format!(", the worst off by {:.1} %", it.relative_error * 100.0);
    if it.corrected_biases > 0 {
        text += &format!("; {} biases take back what that shifts on average", it.corrected_biases);
    }
    if it.doubled_tensors > 0 {
        text += &format!("; {} tensors are there in fp32 too", it.doubled_tensors);
    }
    text
}

fn ranges(report: &QuantizationReport) -> String {
    let method = report.method.map_or_else(|| "from a table".to_owned(), |method| format!("by {method}"));
    match &report.source {
        None => method,
        Some(source) if source.is_random => {
            format!(
                "{method}, {} random samples; real ones would say more (--calibrate)",
                source.sample_count
            )
        }
        Some(source) => format!("{method}, {} samples", source.sample_count),
    }
}

fn reasons(skipped: &[SkippedNode]) -> String {
    let mut by_reason: BTreeMap<&str, Vec<&SkippedNode>> = BTreeMap::new();
    for node in skipped {
        by_reason.entry(node.reason.summary()).or_default().push(node);
    }
    let line = |(reason, nodes): (&str, Vec<&SkippedNode>)| {
        let named: Vec<_> =
            nodes.iter().take(MOST_EXAMPLES).map(|node| wording::printable(&node.node)).collect();
        let more = if nodes.len() > named.len() { ", ..." } else { "" };
        wrap(&format!("{} not in int8: {reason} ({}{more})", nodes.len(), named.join(", ")), 80)
    };
    let lines: Vec<_> = by_reason.into_iter().map(line).collect();
    if lines.is_empty() { String::new() } else { format!("\n{}\n", lines.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use crate::precision::{
        Accuracy, CalibrationMethod, Conversion, QuantizedWeights, RangeSource, SkipReason,
    };
    use crate::report::text_of_conversion;

    fn report() -> QuantizationReport {
        let skipped = |node: &str, reason| SkippedNode { node: node.into(), operator: "Conv".into(), reason };
        QuantizationReport {
            method: Some(CalibrationMethod::Mse),
            source: Some(RangeSource { sample_count: 8, is_random: true, value_count: 3 }),
            opset_before: 11,
            opset: 13,
            quantized: [("Conv".to_owned(), 2), ("Gemm".to_owned(), 1)].into(),
            value_count: 3,
            residual_count: 1,
            pool_count: 1,
            skipped: vec![
                skipped("first", SkipReason::First),
                skipped("odd", SkipReason::NoRange { value: "x".into() }),
            ],
            other_nodes: 7,
            weights: QuantizedWeights {
                tensors: 3,
                elements: 1000,
                doubled_tensors: 1,
                relative_error: 0.012,
                corrected_biases: 0,
            },
            rest: None,
            bytes_before: 4000,
            bytes_after: 1200,
        }
    }

    #[test]
    fn a_quantisation_is_told_with_what_stayed_and_why() {
        let expected = "\
int8.onnx: 3 of 5 convolutions and matrix products read int8

in int8    2 Conv, 1 Gemm
values     3 quantised, each once for all that read it
residuals  1 with their other branch in int8, and 1 averages behind them
others     7 nodes as they were
opset      13, raised from 11
weights    3 tensors converted, 1000 elements, the worst off by 1.2 %; 1 tensors
           are there in fp32 too
size       4.00 kB before, 1.20 kB now
ranges     by mse, 8 random samples; real ones would say more (--calibrate)

1 not in int8: reads the network's input (first)
1 not in int8: the range of what it reads is not known, or it was always 0 (odd)
";
        let conversion = Conversion::Int8(Box::new(report()));
        assert_eq!(text_of_conversion(&conversion, Path::new("int8.onnx"), Style::Plain), expected);
    }

    #[test]
    fn a_mix_shows_the_nodes_that_lose_most_and_what_became_of_them() {
        let node = |name: &str, lost_cosine| NodeSensitivity {
            node: name.into(),
            operator: "Conv".into(),
            node_count: 1,
            relative_error: 0.01,
            lost_cosine,
            saved_ns: 12.34,
        };
        let accuracy =
            Accuracy { reference: "r".into(), sample_count: 1, is_random: false, outputs: Vec::new() };
        let nodes = vec![node("stem/a_name_that_is_longer_than_its_column", 0.063), node("head", 1e-4)];
        let mix = Mix { nodes, kept: 1, tried: 3, accuracy, rest: None };
        let text = text_of_mix(&mix, Style::Plain);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.starts_with("\n1 of 2 nodes went back to fp32; 3 mixes were measured\n"), "{text}");
        let ends: Vec<_> = text.lines().skip(3).map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(ends, [Some("fp32"), Some("lower")], "{text}");
        assert!(text.contains("…") && text.contains("than_its_column"), "{text}");
    }
}
