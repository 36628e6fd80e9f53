//! The text of `thalweg tune` over several precisions.

use super::{Style, Tone, align_numbers, bare_table, lines_of, wrap};
use crate::precision::{Accuracy, OutputAccuracy};
use crate::report::wording::{self, NONE};
use crate::tune::{PrecisionCandidate, PrecisionOutcome};

/// Which precision won and what each loses and gains, as text of at most 80 columns.
pub fn text_of_precisions(outcome: &PrecisionOutcome, style: Style) -> String {
    let mut table = bare_table();
    table.add_row(["", "precision", "cosine", "error", "best", "inferences/s", "times the first"]);
    for (place, it) in outcome.candidates.iter().enumerate() {
        let mark = if outcome.winner == Some(place) { "*" } else { "" };
        table.add_row([mark.to_owned(), it.precision.clone()].into_iter().chain(columns(it)));
    }
    align_numbers(&mut table, 2..4);
    align_numbers(&mut table, 5..6);
    let lines = lines_of(&table).join("\n");
    let refused = outcome.candidates.iter().filter_map(|it| {
        let reason = wording::printable(it.refused.as_ref()?);
        Some(wrap(&format!("{} takes no part: {reason}", it.precision), 80) + "\n")
    });
    let refused: String = refused.collect();
    let gap = if refused.is_empty() { "" } else { "\n" };
    format!("{}\n{lines}\n{gap}{refused}", style.paint_lines(Tone::Bold, &wrap(&verdict(outcome), 80)))
}

fn columns(it: &PrecisionCandidate) -> [String; 5] {
    let worst = |of: fn(&OutputAccuracy) -> f64, pick: fn(f64, f64) -> f64| {
        let outputs = it.accuracy.iter().flat_map(|accuracy: &Accuracy| &accuracy.outputs);
        outputs.map(of).reduce(pick)
    };
    let none = || NONE.to_owned();
    let cosine = worst(|output| output.cosine, f64::min);
    let error = worst(|output| output.max_relative_error, f64::max);
    let best = it
        .tuned
        .as_ref()
        .map(|tuned| format!("{} x {}", tuned.configuration.streams, tuned.configuration.batch_size));
    let throughput = it.tuned.as_ref().map(|it| wording::number(it.throughput_inferences_per_s.value));
    [
        cosine.map_or_else(none, |cosine| format!("{cosine:.6}")),
        error.map_or_else(none, wording::error),
        best.unwrap_or_else(none),
        throughput.unwrap_or_else(none),
        it.over_first.as_ref().map_or_else(none, wording::times),
    ]
}

/// `int8 wins: 2.00 times (1.90 to 2.10) fp32, within cosine=0.99`
fn verdict(outcome: &PrecisionOutcome) -> String {
    let within = match &outcome.limits[..] {
        [] => String::new(),
        limits => format!(", within {}", limits.join(", ")),
    };
    let Some(winner) = outcome.winner.map(|index| &outcome.candidates[index]) else {
        return format!("no precision ran{within}");
    };
    let first = outcome.candidates.iter().find(|it| it.tuned.is_some() && it.refused.is_none());
    match (&winner.over_first, first) {
        (Some(ratio), Some(first)) => {
            let precision = &winner.precision;
            format!("{precision} wins: {} {}{within}", wording::times(ratio), first.precision)
        }
        _ => format!("{} wins: no other is surely faster{within}", winner.precision),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Estimate;
    use crate::report::samples;
    use crate::tune::synthetic::tuned;

    #[test]
    fn the_winner_is_named_with_its_ratio_and_the_others_with_their_reasons() {
        let candidate = |precision: &str| PrecisionCandidate {
            precision: precision.to_owned(),
            accuracy: None,
            tuned: Some(tuned()),
            over_first: None,
            refused: None,
        };
        let int8 = PrecisionCandidate {
            accuracy: samples::loss().accuracy,
            over_first: Some(Estimate { value: 2.0, lower: 1.9, upper: 2.1 }),
            ..candidate("int8")
        };
        let reason = "accuracy of `y` is cosine=0.5: below cosine=0.99".to_owned();
        let lost = PrecisionCandidate { tuned: None, refused: Some(reason), ..candidate("fp16") };
        let outcome =
            PrecisionOutcome::of(vec!["cosine=0.99".to_owned()], vec![candidate("fp32"), int8, lost]);
        let text = text_of_precisions(&outcome, Style::Plain);
        assert!(
            text.starts_with("int8 wins: 2.00 times (1.90 to 2.10) fp32, within cosine=0.99\n"),
            "{text}"
        );
        assert!(text.contains("*  int8       0.999310  3.1e-2"), "{text}");
        assert!(text.contains("fp16 takes no part: accuracy of `y`"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
