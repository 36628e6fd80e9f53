//! The tables of a loss report: outputs, layers that add error, nodes that stayed, sensitivities.

use std::collections::BTreeMap;

use super::candidate_table::Cell;
use super::diagnosis_tables::{PlainTable, plain};
use crate::precision::{Conversion, LayerError, LayerErrors, LossReport, Mix, OutputAccuracy};
use crate::report::wording;

/// Rows shown at most; the rest is in the JSON.
const ROWS_SHOWN: usize = 30;
/// Nodes that are named one by one for each reason.
const NODES_NAMED: usize = 8;

/// All tables that have rows.
pub(super) fn of_loss(report: &LossReport) -> Vec<PlainTable> {
    let outputs = report.accuracy.iter().map(|accuracy| outputs(&accuracy.outputs));
    let layers = report.layers.iter().map(layers);
    let stayed = report.conversion.iter().map(stayed);
    let sensitivities = report.mix.iter().map(sensitivities);
    let tables = outputs.chain(layers).chain(stayed).chain(sensitivities);
    tables.filter(PlainTable::has_rows).collect()
}

fn outputs(outputs: &[OutputAccuracy]) -> PlainTable {
    let row = |output: &OutputAccuracy| {
        vec![
            plain(wording::printable(&output.output)),
            Cell::number(format!("{:.6}", output.cosine), Some(output.cosine)),
            Cell::number(wording::error(output.max_relative_error), Some(output.max_relative_error)),
            Cell::number(wording::agreement(output.top1_agreement), output.top1_agreement),
            Cell::number(wording::agreement(output.top5_agreement), output.top5_agreement),
        ]
    };
    PlainTable::new(
        "Outputs",
        vec!["output", "cosine", "relative error", "same top-1", "top-5"],
        outputs.iter().map(row).collect(),
        "Of the worst sample. Agreement is the share of samples, for outputs that are a row of classes.",
    )
}

/// Those that add most to the error that they read.
fn layers(found: &LayerErrors) -> PlainTable {
    let added = |layer: &LayerError| layer.max_relative_error - layer.read_relative_error;
    let mut layers: Vec<&LayerError> = found.layers.iter().filter(|layer| added(layer) > 0.0).collect();
    layers.sort_by(|a, b| added(b).total_cmp(&added(a)));
    let most = layers.first().map_or(1.0, |layer| added(layer));
    let row = |layer: &&LayerError| {
        vec![
            plain(wording::printable(&layer.node)),
            Cell::with_bar(wording::error(added(layer)), added(layer), added(layer) / most),
            plain(wording::printable(&layer.operator)),
            plain(layer.computes_in.to_string()),
            Cell::number(wording::error(layer.max_relative_error), Some(layer.max_relative_error)),
        ]
    };
    PlainTable::new(
        "Where the error comes from",
        vec!["layer", "adds", "operator", "computes in", "relative error"],
        layers.iter().take(ROWS_SHOWN).map(row).collect(),
        "The relative error of a layer's values less the largest of what it reads, the layers that add most first.",
    )
}

fn stayed(conversion: &Conversion) -> PlainTable {
    let mut groups: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for it in conversion.stayed() {
        let names = groups.entry((it.reason, wording::printable(it.operator))).or_default();
        names.push(wording::printable(it.node));
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    let row = |((reason, operator), names): ((String, String), Vec<String>)| {
        let more = if names.len() > NODES_NAMED { ", ..." } else { "" };
        let named = names.iter().take(NODES_NAMED).cloned().collect::<Vec<_>>().join(", ");
        vec![
            plain(reason),
            Cell::number(format!("{} {operator}", names.len()), Some(names.len() as f64)),
            plain(named + more),
        ]
    };
    PlainTable::new(
        "What stayed in FP32, and why",
        vec!["reason", "nodes", "names"],
        groups.into_iter().map(row).collect(),
        "Nodes that could compute in the lower precision and do not.",
    )
}

fn sensitivities(mix: &Mix) -> PlainTable {
    let most = mix.nodes.iter().map(|node| node.lost_cosine).fold(f64::MIN_POSITIVE, f64::max);
    let rows = mix.nodes.iter().enumerate().take(ROWS_SHOWN).map(|(place, node)| {
        vec![
            plain(wording::printable(&node.node)),
            Cell::with_bar(wording::error(node.lost_cosine), node.lost_cosine, node.lost_cosine / most),
            plain(wording::printable(&node.operator)),
            Cell::number(format!("{:.1} ns", node.saved_ns), Some(node.saved_ns)),
            plain(if place < mix.kept { "fp32" } else { "lower" }),
        ]
    });
    PlainTable::new(
        "What each node loses alone",
        vec!["node", "lost cosine", "operator", "saves", "became"],
        rows.collect(),
        "One less the cosine of the worst output with this node alone in the lower precision, and the time that it saves \
         on paper, by the roofline of the device's data sheet. The most lost for the time saved comes first.",
    )
}
