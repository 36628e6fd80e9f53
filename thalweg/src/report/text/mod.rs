//! Results as text for a terminal of 80 columns: the verdict first, then the numbers behind it.
//!
//! Whether colours are wanted is the caller's business; the text is the same with and without them.

mod build;
mod builds;
mod comparison;
mod conversion;
mod diagnosis;
mod examination;
mod inspection;
mod layers;
mod measurement;
mod paper;
mod quantization;
mod tuning;
mod turns;
mod watching;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::definitions;
use crate::backend::DeviceSpec;

pub use build::{text_of_accuracy, text_of_build};
pub use builds::text_of_builds;
pub use comparison::text_of_comparison;
pub use conversion::{text_of_conversion, text_of_converted_nodes, text_of_unknown_accuracy};
pub use diagnosis::text_of_diagnosis;
pub use examination::{text_of_examination, text_of_memory};
pub use inspection::text_of_inspection;
pub use layers::text_of_layers;
pub use measurement::text_of_measurement;
pub use paper::text_of_paper;
pub use quantization::text_of_mix;
pub use tuning::text_of_tuning;
pub use turns::{text_of_neighbours, text_of_overhead};
pub use watching::{bars_of_reading, line_of_reading, text_of_gpu, text_of_watched};

/// Columns that every line fits in: what a terminal has if nobody changed it.
const WIDTH: u16 = 80;

/// Whether the text carries ANSI colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// No escape sequences: for files, pipes and `NO_COLOR`.
    Plain,
    /// A few ANSI colours: for a terminal.
    Color,
}

/// What a piece of text is, as far as its colour goes.
#[derive(Clone, Copy)]
enum Tone {
    Bold,
    Good,
    Warning,
    Dim,
}

/// What a reader has to know first of a device that is simulated; nothing of others.
fn simulated(device: &DeviceSpec, style: Style) -> String {
    if device.is_simulated() {
        style.paint_lines(Tone::Warning, "Simulated: no device ran this.")
    } else {
        String::new()
    }
}

impl Style {
    fn paint(self, tone: Tone, text: &str) -> String {
        let code = match (self, tone) {
            (Self::Plain, _) => return text.to_owned(),
            (_, Tone::Bold) => 1,
            (_, Tone::Good) => 32,
            (_, Tone::Warning) => 33,
            (_, Tone::Dim) => 2,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// Paints each line for itself, so that a pager that cuts lines keeps the colour right.
    fn paint_lines(self, tone: Tone, text: &str) -> String {
        text.lines().map(|line| self.paint(tone, line) + "\n").collect()
    }
}

/// The definitions of all metrics and knobs, for `--explain`.
pub fn text_of_definitions(style: Style) -> String {
    facts(definitions().iter().map(|(name, text)| Fact::new(name, *text)), style)
}

/// One line of a list of facts: a name and what there is to say.
struct Fact {
    name: &'static str,
    text: String,
    tone: Option<Tone>,
}

impl Fact {
    fn new(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, text: text.into(), tone: None }
    }

    fn toned(name: &'static str, text: impl Into<String>, tone: Tone) -> Self {
        Self { tone: Some(tone), ..Self::new(name, text) }
    }
}

/// Names in a column of their own, texts wrapped beside them.
fn facts(facts: impl IntoIterator<Item = Fact>, style: Style) -> String {
    let facts: Vec<_> = facts.into_iter().collect();
    let name_width = facts.iter().map(|fact| fact.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for fact in facts {
        let wrapped = wrap(&fact.text, usize::from(WIDTH) - name_width - 2);
        for (index, line) in wrapped.lines().enumerate() {
            let name = if index == 0 { fact.name } else { "" };
            let line = fact.tone.map_or_else(|| line.to_owned(), |tone| style.paint(tone, line));
            text += &format!("{}  {line}\n", style.paint(Tone::Dim, &format!("{name:name_width$}")));
        }
    }
    text
}

/// `text` in lines of at most `width` characters. A word that is longer is cut.
fn wrap(text: &str, width: usize) -> String {
    let mut table = bare_table();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(WIDTH));
    table.add_row([text]);
    lines_with_gap(&table, 0).join("\n")
}

/// A table without rules, one line for each line of a cell.
fn bare_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// Lines of a table, with two spaces between columns, or one where the lines would not fit otherwise.
fn lines_of(table: &Table) -> Vec<String> {
    let wide = lines_with_gap(table, 2);
    let fits = wide.iter().all(|line| line.chars().count() <= usize::from(WIDTH));
    if fits { wide } else { lines_with_gap(table, 1) }
}

fn lines_with_gap(table: &Table, gap: u16) -> Vec<String> {
    let mut table = table.clone();
    let last = table.column_count().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { gap }));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Aligns the columns from `first` on to the right, as numbers are.
fn align_numbers(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in table.column_iter_mut().skip(columns.start).take(columns.len()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_fit_80_columns() {
        let text = text_of_definitions(Style::Plain);
        assert!(text.starts_with("inferences/s        Samples whose outputs became readable"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn colours_change_nothing_but_the_colours() {
        let plain = text_of_definitions(Style::Plain);
        let color = text_of_definitions(Style::Color);
        assert_ne!(color, plain);
        assert_eq!(color.replace("\u{1b}[2m", "").replace("\u{1b}[0m", ""), plain);
    }

    #[test]
    fn words_longer_than_a_line_are_cut() {
        assert_eq!(wrap("abcdefgh ij", 5), "abcde\nfgh\nij");
    }
}
