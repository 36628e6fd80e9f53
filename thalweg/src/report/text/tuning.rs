//! The text for a search: verdict, winner, the best candidates.

use comfy_table::Table;

use super::{Fact, Style, Tone, align_numbers, bare_table, facts, lines_of, wrap};
use crate::report::wording::{self, NONE};
use crate::tune::{Candidate, Comparison, Standing, TuneOutcome};
use crate::units::Nanos;

/// Rows of the table: the interesting end of the list. The rest is in the HTML and the JSON.
const CANDIDATES_SHOWN: usize = 10;

/// The result of a search as text of at most 80 columns.
pub fn text_of_tuning(outcome: &TuneOutcome, style: Style) -> String {
    let mut text = String::new();
    if outcome.device.backend.starts_with("simulated") {
        text += &style.paint_lines(Tone::Warning, "Simulated: no device ran this.");
    }
    text += &style.paint_lines(Tone::Bold, &wrap(&wording::printable(&outcome.verdict), 80));
    text.push('\n');
    text += &facts(summary(outcome), style);
    if !outcome.candidates.is_empty() {
        text.push('\n');
        text += &candidate_table(outcome, style);
        text.push('\n');
        text += &style.paint_lines(Tone::Dim, &wrap(&footnote(outcome), 80));
    }
    text
}

fn summary(outcome: &TuneOutcome) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(winner) = outcome.winner.and_then(|index| outcome.candidates.get(index)) {
        facts.push(Fact::toned("winner", winner.configuration.to_string(), Tone::Good));
        facts.push(Fact::new("search", candidate_numbers(winner)));
    } else {
        facts.push(Fact::toned("winner", "none", Tone::Warning));
    }
    if let Some(confirmation) = &outcome.confirmation {
        let verdict = super::measurement::verdict(confirmation);
        facts.push(Fact::new("confirmed", format!("{verdict}; {}", wording::stability(confirmation))));
        facts.push(Fact::new("verification", wording::verification(&confirmation.verification)));
        facts
            .extend(wording::failures(confirmation).map(|text| Fact::toned("failures", text, Tone::Warning)));
    }
    facts.extend(
        outcome.baseline.as_ref().map(|it| Fact::new("default", comparison(outcome, it, "the default"))),
    );
    facts.extend(
        outcome.runner_up.as_ref().map(|it| Fact::new("runner-up", comparison(outcome, it, "the runner-up"))),
    );
    facts.extend(wording::limits(&outcome.limits).map(|limits| {
        let winner = outcome.winner.and_then(|index| outcome.candidates.get(index));
        let kept = winner.map_or(String::new(), |it| format!("; {}", wording::compliance(it.compliance)));
        Fact::new("limits", format!("{limits}{kept}"))
    }));
    facts.push(Fact::new("ending", wording::ending(outcome)));
    facts
}

/// `1,234 ± 14 inferences/s, p50 6.42 ms, p99 8.91 ms`
fn candidate_numbers(candidate: &Candidate) -> String {
    let Some(throughput) = &candidate.throughput_inferences_per_s else {
        return wording::standing_sentence(candidate);
    };
    let mut numbers = format!("{} inferences/s", wording::with_half_width(throughput));
    if let Some(latency) = &candidate.latency {
        let (tail, span) = wording::tail(latency);
        numbers += &format!(", p50 {}, {tail} {span}", latency.p50);
    }
    numbers
}

/// `3.42 times (3.31 to 3.53) the default, 1 stream, batch 1`
fn comparison(outcome: &TuneOutcome, comparison: &Comparison, name: &str) -> String {
    let other = outcome.candidates.get(comparison.candidate);
    let other = other.map_or(String::new(), |it| format!(" ({})", wording::short(&it.configuration)));
    format!("{} the throughput of {name}{other}", wording::times(&comparison.ratio))
}

fn candidate_table(outcome: &TuneOutcome, style: Style) -> String {
    let has_delay = outcome.candidates.iter().any(|it| it.configuration.batching_delay > Nanos::ZERO);
    let shown = outcome.candidates.iter().take(CANDIDATES_SHOWN).enumerate();
    let mut table = bare_table(80);
    table.set_header(heads(has_delay));
    for (index, candidate) in shown.clone() {
        table.add_row(row(candidate, outcome.pareto.contains(&index), has_delay));
    }
    align_candidate_columns(&mut table);
    let lines = lines_of(&table);
    // A head of two lines, then one line per candidate: no cell wraps that far below 80 columns.
    let head = lines.len().saturating_sub(shown.len());
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let candidate = number.checked_sub(head).and_then(|index| outcome.candidates.get(index));
        text += &match candidate.map(|it| it.standing) {
            None => style.paint(Tone::Dim, line),
            Some(Standing::Winner) => style.paint(Tone::Good, line),
            Some(Standing::OverLimit | Standing::Failed) => style.paint(Tone::Dim, line),
            Some(_) => line.clone(),
        };
        text.push('\n');
    }
    text
}

fn heads(has_delay: bool) -> Vec<&'static str> {
    let mut heads = vec!["", "streams", "batch", "depth", "sub-\nmitters", "threads"];
    if has_delay {
        heads.push("delay\nms");
    }
    heads.extend(["inferences/s", "p50\nms", "p99\nms", "standing"]);
    heads
}

fn row(candidate: &Candidate, is_on_front: bool, has_delay: bool) -> Vec<String> {
    let it = &candidate.configuration;
    let mut row = vec![if is_on_front { "*" } else { "" }.to_owned()];
    row.extend(
        [it.streams, it.batch_size, it.depth, it.submitters, it.threads_per_stream].map(wording::count),
    );
    if has_delay {
        row.push(wording::millis(it.batching_delay));
    }
    let throughput = &candidate.throughput_inferences_per_s;
    row.push(throughput.as_ref().map_or_else(|| NONE.to_owned(), wording::with_half_width));
    let latency = |span: Option<Nanos>| span.map_or_else(|| NONE.to_owned(), wording::millis);
    row.push(latency(candidate.latency.map(|it| it.p50)));
    row.push(latency(candidate.latency.and_then(|it| it.p99)));
    row.push(wording::standing(candidate.standing).to_owned());
    row
}

fn align_candidate_columns(table: &mut Table) {
    let standing = table.column_count().saturating_sub(1);
    align_numbers(table, 1..standing);
}

fn footnote(outcome: &TuneOutcome) -> String {
    let mut notes = Vec::new();
    if !outcome.pareto.is_empty() {
        notes.push("* on the Pareto front: no other is better in both throughput and p99.".to_owned());
    }
    let hidden = outcome.candidates.len().saturating_sub(CANDIDATES_SHOWN);
    if hidden > 0 {
        let plural = if hidden == 1 { "candidate is" } else { "candidates are" };
        notes.push(format!("{} more {plural} not shown.", wording::count(hidden)));
    }
    notes.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn look() {
        println!("{}", text_of_tuning(&samples::outcome(), Style::Plain));
        println!(
            "{}",
            crate::report::text_of_measurement(
                &samples::measurement(samples::configuration(4, 2), 500),
                Style::Plain
            )
        );
    }
}
