//! The text of `thalweg tune` over several engines.

use std::time::Duration;

use super::{Style, Tone, align_numbers, bare_table, lines_of, simulated, wrap};
use crate::measure::Estimate;
use crate::precision::{Accuracy, OutputAccuracy};
use crate::report::wording::{self, NONE};
use crate::tune::{BuildCandidate, BuildOutcome};
use crate::units::Nanos;

/// Longer names take several lines, so that a table keeps to 80 columns.
const LONGEST_NAME: usize = 22;

/// Which engine won and what each loses and gains, as text of at most 80 columns.
pub fn text_of_builds(outcome: &BuildOutcome, style: Style) -> String {
    let candidates = &outcome.candidates;
    let is_compared = candidates.iter().any(|it| it.accuracy.is_some());
    let head = ["", "engine", "cosine", "error", "built in", "best", "inferences/s", "times the first"];
    let mut table = bare_table();
    table.add_row(kept(head.map(str::to_owned), is_compared));
    for (place, it) in candidates.iter().enumerate() {
        let mark = if outcome.winner == Some(place) { "*" } else { "" };
        table.add_row(kept(row(mark, it), is_compared));
    }
    let accuracies = if is_compared { 2 } else { 0 };
    align_numbers(&mut table, 2..3 + accuracies);
    align_numbers(&mut table, 4 + accuracies..5 + accuracies);
    let lines = lines_of(&table).join("\n");
    let refused = candidates.iter().filter_map(|it| {
        let reason = wording::printable(it.refused.as_ref()?);
        Some(wrap(&format!("{} takes no part: {reason}", it.name), 80) + "\n")
    });
    let refused: String = refused.collect();
    let gap = if refused.is_empty() { "" } else { "\n" };
    let (verdict, times) = (wrap(&verdict(outcome), 80), wrap(&times(outcome), 80));
    let device = candidates.iter().find_map(|it| it.tuned.as_ref()).map(|tuned| &tuned.device);
    let banner = device.map(|device| simulated(device, style)).unwrap_or_default();
    format!("{banner}{}\n{lines}\n\n{times}\n{gap}{refused}", style.paint_lines(Tone::Bold, &verdict))
}

/// Cells of a row, without those of the accuracy where nobody asked for it.
fn kept(cells: [String; 8], is_compared: bool) -> Vec<String> {
    let of_accuracy = |index: usize| (2..4).contains(&index);
    let cells = cells.into_iter().enumerate();
    cells.filter(|(index, _)| is_compared || !of_accuracy(*index)).map(|(_, cell)| cell).collect()
}

fn row(mark: &str, it: &BuildCandidate) -> [String; 8] {
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
    let ratio = |ratio: Estimate| format!("{} ({})", wording::number(ratio.value), wording::interval(&ratio));
    [
        mark.to_owned(),
        wrap(&it.name, LONGEST_NAME),
        cosine.map_or_else(none, |cosine| format!("{cosine:.6}")),
        error.map_or_else(none, wording::error),
        it.build_time.map_or_else(none, |time| time.to_string()),
        best.unwrap_or_else(none),
        throughput.unwrap_or_else(none),
        it.over_first.map_or_else(none, ratio),
    ]
}

/// `int8 wins: 2.00 times (1.90 to 2.10) fp32, within cosine=0.99`
fn verdict(outcome: &BuildOutcome) -> String {
    let within = match &outcome.limits[..] {
        [] => String::new(),
        limits => format!(", within {}", limits.join(", ")),
    };
    let Some(winner) = outcome.winner.map(|index| &outcome.candidates[index]) else {
        return format!("no engine ran{within}");
    };
    let first = outcome.candidates.iter().find(|it| it.ran());
    let has_others = outcome.candidates.iter().filter(|it| it.tuned.is_some()).count() > 1;
    let has_ratios = outcome.candidates.iter().any(|it| it.over_first.is_some());
    let why = match (&winner.over_first, first) {
        (Some(ratio), Some(first)) => format!("wins: {} {}", wording::times(ratio), first.name),
        _ if has_ratios => "wins: no other is surely faster".to_owned(),
        // The finals were stopped, or all others failed in them.
        _ if has_others => "wins by default: no other was measured beside it".to_owned(),
        _ => "wins: no other ran".to_owned(),
    };
    format!("{} {why}{within}", winner.name)
}

/// What the search's time holds, and what it does not.
fn times(outcome: &BuildOutcome) -> String {
    let built = outcome.candidates.iter().filter_map(|it| it.build_time);
    let builds: Duration = built.map(Nanos::to_duration).sum();
    format!(
        "converting, building and comparing took {}, which --time does not count; each engine was searched for up to {}",
        Nanos::from_duration(builds),
        outcome.search_time
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;
    use crate::tune::synthetic::build_candidate;

    const SEARCH: Duration = Duration::from_secs(17);

    #[test]
    fn the_winner_is_named_with_its_ratio_and_the_others_with_their_reasons() {
        let int8 = BuildCandidate {
            accuracy: samples::loss().accuracy,
            over_first: Some(Estimate { value: 2.0, lower: 1.9, upper: 2.1 }),
            ..build_candidate("int8")
        };
        let reason = "accuracy of `y` is cosine=0.5: below cosine=0.99".to_owned();
        let lost = BuildCandidate { tuned: None, refused: Some(reason), ..build_candidate("fp16") };
        let candidates = vec![build_candidate("fp32"), int8, lost];
        let outcome = BuildOutcome::of(vec!["cosine=0.99".to_owned()], SEARCH, candidates);
        let text = text_of_builds(&outcome, Style::Plain);
        assert!(
            text.starts_with("int8 wins: 2.00 times (1.90 to 2.10) fp32, within cosine=0.99\n"),
            "{text}"
        );
        assert!(text.contains("*  int8    0.999310  3.1e-2"), "{text}");
        assert!(text.contains("fp16 takes no part: accuracy of `y`"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn one_that_was_compared_with_no_other_wins_by_default_alone() {
        let stopped =
            BuildCandidate { refused: Some("it was stopped".to_owned()), ..build_candidate("fp16") };
        let slower = Estimate { value: 0.9, lower: 0.8, upper: 1.0 };
        let cases = [
            (stopped.clone(), "fp32 wins by default: no other was measured beside it\n"),
            (BuildCandidate { tuned: None, ..stopped }, "fp32 wins: no other ran\n"),
            (
                BuildCandidate { over_first: Some(slower), ..build_candidate("fp16") },
                "fp32 wins: no other is surely faster\n",
            ),
        ];
        for (other, verdict) in cases {
            let outcome = BuildOutcome::of(vec![], SEARCH, vec![build_candidate("fp32"), other]);
            let text = text_of_builds(&outcome, Style::Plain);
            assert!(text.starts_with(verdict), "{text}");
        }
    }

    #[test]
    fn engines_of_one_precision_are_compared_without_columns_of_accuracy() {
        let fast = BuildCandidate {
            over_first: Some(Estimate { value: 1.06, lower: 1.02, upper: 1.1 }),
            ..build_candidate("fp16, level 5, aux 2, batch 16-32")
        };
        let reason = "not built: those before took 6.40 s of the 5.00 s that builds may take".to_owned();
        let late = BuildCandidate {
            build_time: None,
            tuned: None,
            refused: Some(reason),
            ..build_candidate("fp16, level 4, aux 2, batch 16-32")
        };
        let first = build_candidate("fp16, level 3, aux 2, batch 16-32");
        let text = text_of_builds(&BuildOutcome::of(vec![], SEARCH, vec![first, fast, late]), Style::Plain);
        let expected = "\
fp16, level 5, aux 2, batch 16-32 wins: 1.06 times (1.02 to 1.10) fp16, level 3,
aux 2, batch 16-32

   engine                 built in  best   inferences/s  times the first
   fp16, level 3, aux 2,    3.20 s  2 x 1           100  –
   batch 16-32
*  fp16, level 5, aux 2,    3.20 s  2 x 1           100  1.06 (1.02 to 1.10)
   batch 16-32
   fp16, level 4, aux 2,         –  –                 –  –
   batch 16-32

converting, building and comparing took 6.40 s, which --time does not count;
each engine was searched for up to 17.0 s

fp16, level 4, aux 2, batch 16-32 takes no part: not built: those before took
6.40 s of the 5.00 s that builds may take
";
        assert_eq!(text, expected);
    }
}
