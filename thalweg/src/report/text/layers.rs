//! The text of an error along a network.

use super::inspection::tail_of;
use super::{Style, Tone, align_numbers, bare_table, lines_of, wrap};
use crate::precision::{LayerError, LayerErrors};
use crate::report::{verdicts, wording};

/// Layers that are shown, those that add most.
const MOST_LAYERS: usize = 12;

/// Columns for the name of a node.
const NAME_WIDTH: usize = 34;

/// Where the error of a converted model comes from, as text of at most 80 columns.
pub fn text_of_layers(found: &LayerErrors, style: Style) -> String {
    let added = |layer: &LayerError| layer.max_relative_error - layer.read_relative_error;
    let mut layers: Vec<(usize, &LayerError)> = found.layers.iter().enumerate().collect();
    layers.sort_by(|(_, a), (_, b)| added(b).total_cmp(&added(a)));
    layers.truncate(MOST_LAYERS);
    layers.sort_by_key(|(place, _)| *place);
    let mut table = bare_table();
    table.add_row(["", "those that add most", "operator", "in", "error", "adds"]);
    for (place, layer) in layers {
        table.add_row([
            place.to_string(),
            tail_of(&layer.node, NAME_WIDTH),
            wording::printable(&layer.operator),
            layer.computes_in.to_string(),
            wording::error(layer.max_relative_error),
            wording::error(added(layer)),
        ]);
    }
    align_numbers(&mut table, 0..1);
    align_numbers(&mut table, 4..6);
    let title = verdicts::first_over(found);
    let lines = lines_of(&table).join("\n");
    format!("\n{}{lines}\n", style.paint_lines(Tone::Bold, &wrap(&title, 80)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn layers_are_in_the_order_of_the_network_and_the_first_over_the_limit_is_named() {
        let report = samples::loss();
        let text = text_of_layers(report.layers.as_ref().unwrap(), Style::Plain);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.starts_with("\nFirst of 20 layers over rel=0.01: block9/conv (Conv,"), "{text}");
        let places: Vec<usize> =
            text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        assert_eq!(places.len(), MOST_LAYERS);
        assert!(places.is_sorted(), "{text}");
    }
}
