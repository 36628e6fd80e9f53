//! The text for predictions on paper.

use super::{Style, Tone, align_numbers, bare_table, lines_of, wrap};
use crate::capacity::PaperPrediction;
use crate::report::wording;

/// Predictions from data sheets as text of at most 80 columns.
pub fn text_of_paper(predictions: &[PaperPrediction], style: Style) -> String {
    let mut text = style.paint_lines(Tone::Warning, "Predicted on paper, nothing was run.");
    let mut table = bare_table();
    let heads =
        ["device", "batch", "input", "one stream\ninf/s", "streams\ninf/s", "limit", "FLOP/B", "ridge"];
    table.set_header(heads);
    for it in predictions {
        table.add_row([
            it.device.replace("NVIDIA ", ""),
            wording::count(it.batch_size),
            format!("{:?}", it.input_type).to_lowercase(),
            wording::number(it.one_stream_inferences_per_s),
            wording::number(it.many_streams_inferences_per_s),
            it.limit.to_string(),
            wording::number(it.arithmetic_intensity),
            wording::number(it.ridge_point),
        ]);
    }
    align_numbers(&mut table, 3..5);
    align_numbers(&mut table, 6..8);
    text.push('\n');
    text += &(lines_of(&table).join("\n") + "\n\n");
    let anchor = predictions.iter().find_map(|it| it.anchor).map(|anchor| {
        format!(
            " All are multiplied by {}, which is measured over predicted on the measured device: that the ratio is \
             the same on the others is an assumption.",
            wording::number(anchor)
        )
    });
    let note = "Each node takes the longer of its arithmetic and its DRAM traffic, at what is reached in practice; \
                copies run beside it. Below the ridge DRAM is the limit, above it arithmetic.";
    text + &style.paint_lines(Tone::Dim, &wrap(&(note.to_owned() + &anchor.unwrap_or_default()), 80))
}
