//! The text for predictions on paper.

use super::{Style, Tone, align_numbers, bare_table, lines_of, wrap};
use crate::capacity::PaperPrediction;
use crate::report::wording;

/// Predictions from data sheets as text of at most 80 columns.
pub fn text_of_paper(predictions: &[PaperPrediction], style: Style) -> String {
    // All are of one command line.
    let precision = predictions.first().map(|it| format!(" in {}", it.precision)).unwrap_or_default();
    let title = format!("Predicted on paper{precision}, nothing was run.");
    let mut text = style.paint_lines(Tone::Warning, &title);
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
    let note = "Kernels as on a simulated device (bench --backend simulated:h100), where streams take nothing from each other; \
                copies run beside them. `streams` is as many as it takes to fill the limit, launched as graphs by one thread. \
                Below the ridge (FLOP/B) DRAM is the limit, above it arithmetic.";
    text + &style.paint_lines(Tone::Dim, &wrap(&(note.to_owned() + &anchor.unwrap_or_default()), 80))
}
