//! The text for a search: verdict, winner, the best candidates.

use super::{Fact, Style, Tone, align_numbers, bare_table, facts, lines_of, simulated, wrap};
use crate::backend::Wait;
use crate::pool::Configuration;
use crate::report::wording::{self, NONE};
use crate::tune::{Candidate, Comparison, Standing, TuneOutcome};
use crate::units::Nanos;

/// Rows of the table: the interesting end of the list. The rest is in the HTML and the JSON.
const CANDIDATES_SHOWN: usize = 10;

/// The result of a search as text of at most 80 columns.
pub fn text_of_tuning(outcome: &TuneOutcome, style: Style) -> String {
    let mut text = simulated(&outcome.device, style);
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
    facts.extend(wording::streams_predicted(outcome).map(|text| Fact::new("streams", text)));
    let broken = wording::broken_when_confirmed(outcome);
    facts.extend(broken.map(|text| Fact::toned("", text, Tone::Warning)));
    facts.push(Fact::new("ending", wording::ending(outcome)));
    facts.extend(wording::left_out(outcome).map(|text| Fact::new("left out", text)));
    if outcome.disturbed_slices > 0 {
        let text = format!(
            "{} measurements were made while heat or the power supply held the device back, though they were repeated: \
             trust them less",
            wording::count(outcome.disturbed_slices)
        );
        facts.push(Fact::toned("disturbed", text, Tone::Warning));
    }
    if let Some(sweep) = &outcome.sweep {
        facts.push(Fact::new("sweep", wording::sweep(sweep, outcome.search_time)));
        facts.extend(wording::forecasts(&sweep.forecasts).map(|text| Fact::new("forecast", text)));
    }
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
    let other = other.map_or(String::new(), |it| format!(" ({})", wording::beside_winner(outcome, it)));
    format!("{} the throughput of {name}{other}", wording::times(&comparison.ratio))
}

/// A knob: its name, the head of its column, and its value.
struct Knob {
    name: &'static str,
    head: &'static str,
    value: fn(&Configuration) -> String,
}

const KNOBS: [Knob; 9] = [
    Knob { name: "streams", head: "streams", value: |it| wording::count(it.streams) },
    Knob { name: "batch", head: "batch", value: |it| wording::count(it.batch_size) },
    Knob { name: "depth", head: "depth", value: |it| wording::count(it.depth) },
    Knob { name: "submitters", head: "sub-\nmitters", value: |it| wording::count(it.submitters) },
    Knob { name: "threads", head: "threads", value: |it| wording::count(it.threads_per_stream) },
    Knob { name: "graph", head: "graph", value: |it| it.cuda_graph.to_string() },
    Knob { name: "copy lanes", head: "copy\nlanes", value: |it| wording::copy_lanes(it.copy_lanes) },
    Knob { name: "wait", head: "wait", value: |it| it.wait.to_string() },
    Knob { name: "delay", head: "delay", value: |it| it.batching_delay.to_string() },
];

/// Streams and batch are shown even where they are the same for all candidates.
const KNOBS_ALWAYS_SHOWN: usize = 2;

/// The knobs with a column, and those that are the same for all candidates.
fn knobs(candidates: &[Candidate]) -> (Vec<&'static Knob>, Vec<&'static Knob>) {
    let varies = |knob: &Knob| {
        let mut values = candidates.iter().map(|it| (knob.value)(&it.configuration));
        values.next().is_some_and(|first| values.any(|other| other != first))
    };
    let (shown, same): (Vec<_>, Vec<_>) =
        KNOBS.iter().enumerate().partition(|(index, knob)| *index < KNOBS_ALWAYS_SHOWN || varies(knob));
    let knob = |(_, knob): (usize, &'static Knob)| knob;
    (shown.into_iter().map(knob).collect(), same.into_iter().map(knob).collect())
}

fn candidate_table(outcome: &TuneOutcome, style: Style) -> String {
    let (knobs, _) = knobs(&outcome.candidates);
    let shown = &outcome.candidates[..outcome.candidates.len().min(CANDIDATES_SHOWN)];
    let mut table = bare_table();
    let heads = knobs.iter().map(|knob| knob.head);
    let predicted = predicts(outcome).then_some("pre-\ndicted");
    let results = ["inferences/s"].into_iter().chain(predicted).chain(["p50\nms", "p99\nms", "standing"]);
    table.set_header([""].into_iter().chain(heads).chain(results));
    for (index, candidate) in shown.iter().enumerate() {
        let mut row = row(candidate, &knobs, outcome.pareto.contains(&index));
        if predicts(outcome) {
            let predicted = candidate.predicted.map(|it| wording::number(it.throughput.value));
            row.insert(knobs.len() + 2, predicted.unwrap_or_else(|| NONE.to_owned()));
        }
        table.add_row(row);
    }
    let standing = table.column_count().saturating_sub(1);
    align_numbers(&mut table, 1..standing);
    let lines = lines_of(&table);
    // Nothing is wrapped, so below the head each line is a candidate.
    let (head, rows) = lines.split_at(lines.len() - shown.len());
    let head = style.paint_lines(Tone::Dim, &head.join("\n"));
    let rows = rows.iter().zip(shown).map(|(line, candidate)| paint_candidate(style, candidate, line) + "\n");
    head + &rows.collect::<String>()
}

/// Whether anything was predicted before it was measured.
fn predicts(outcome: &TuneOutcome) -> bool {
    outcome.candidates.iter().any(|candidate| candidate.predicted.is_some())
}

fn paint_candidate(style: Style, candidate: &Candidate, line: &str) -> String {
    match candidate.standing {
        Standing::Winner => style.paint(Tone::Good, line),
        Standing::Contender | Standing::Slower | Standing::Baseline => line.to_owned(),
        Standing::OverLimit
        | Standing::Failed
        | Standing::DoesNotFit
        | Standing::NotMeasured
        | Standing::Unpromising => style.paint(Tone::Dim, line),
    }
}

fn row(candidate: &Candidate, knobs: &[&Knob], is_on_front: bool) -> Vec<String> {
    let mut row = vec![if is_on_front { "*" } else { "" }.to_owned()];
    row.extend(knobs.iter().map(|knob| (knob.value)(&candidate.configuration)));
    let throughput = &candidate.throughput_inferences_per_s;
    row.push(throughput.as_ref().map_or_else(|| NONE.to_owned(), wording::with_half_width));
    let latency = |span: Option<Nanos>| span.map_or_else(|| NONE.to_owned(), wording::millis);
    row.push(latency(candidate.latency.map(|it| it.p50)));
    row.push(latency(candidate.latency.and_then(|it| it.p99)));
    row.push(wording::standing(candidate.standing).to_owned());
    row
}

fn footnote(outcome: &TuneOutcome) -> String {
    let mut notes = Vec::new();
    if !outcome.pareto.is_empty() {
        notes.push("* on the Pareto front: no other is better in both throughput and p99.".to_owned());
    }
    notes.extend(same_for_all(&outcome.candidates));
    match outcome.candidates.len().saturating_sub(CANDIDATES_SHOWN) {
        0 => {}
        1 => notes.push("One more candidate is not shown.".to_owned()),
        hidden => notes.push(format!("{} more candidates are not shown.", wording::count(hidden))),
    }
    notes.join(" ")
}

/// The values of the knobs without a column. No batching delay, no core kept busy by waiting and copy streams of each
/// stream's own are nothing to say.
fn same_for_all(candidates: &[Candidate]) -> Option<String> {
    let first = &candidates.first()?.configuration;
    let is_said = |knob: &&Knob| match knob.name {
        "delay" => first.batching_delay > Nanos::ZERO,
        "wait" => first.wait != Wait::Block,
        "copy lanes" => first.copy_lanes.is_some(),
        _ => true,
    };
    let (_, same) = knobs(candidates);
    let values =
        same.into_iter().filter(is_said).map(|knob| format!("{} {}", knob.name, (knob.value)(first)));
    let values: Vec<_> = values.collect();
    (!values.is_empty()).then(|| format!("The same for all: {}.", values.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Estimate;
    use crate::report::samples;
    use crate::tune::Ending;

    #[test]
    fn says_the_verdict_first_and_then_what_it_rests_on() {
        let expected = "\
2 streams with batch 32 run 13.6 times the inferences of the default, at a p99
under the limit of 4 ms.

winner        2 streams x batch 32, 1 thread per stream, 2 submitters
search        30,386 ± 425 inferences/s, p50 2.65 ms, p99 3.58 ms
confirmed     30,386 inferences/s (95 % interval 30,052 to 30,720), p99 3.61 ms;
              stable: the last 3 of 5 windows agree within 1.4 % in throughput
              and 3.2 % in latency
verification  4,096 of 5,000 samples compared with the single-stream reference,
              worst relative error 2.1e-7
default       13.6 times (13.3 to 13.9) the throughput of the default (1 stream,
              batch 1, 1 submitter)
runner-up     1.03 times (1.02 to 1.04) the throughput of the runner-up (4
              streams, batch 16)
limits        p99 at most 4.00 ms; kept with 95 % confidence
ending        36 of 37 candidates measured in 61.2 s; the search ended because
              it was decided: no other candidate can be faster by a relevant
              margin

   streams  batch     sub-  inferences/s   p50   p99  standing
                   mitters                  ms    ms
*        2     32        2  30,386 ± 425  2.65  3.58  winner
         4     16        2  29,235 ± 409  2.71  3.86  close
*        3     16        2  28,884 ± 404  2.12  2.82  slower
*        2     16        2  27,152 ± 380  1.48  2.00  slower
         6      8        2  25,816 ± 361  2.46  3.34  slower
         4      8        2  25,469 ± 357  1.60  2.22  slower
*        3      8        2  24,638 ± 345  1.24  1.65  slower
         1     32        1  22,952 ± 321  1.64  2.16  slower
*        2      8        2  21,457 ± 300  0.94  1.27  slower
         8      4        2  20,849 ± 292  2.03  2.72  slower

* on the Pareto front: no other is better in both throughput and p99. The same
for all: depth 2, threads 1, graph off. 27 more candidates are not shown.
";
        assert_eq!(text_of_tuning(&samples::outcome(), Style::Plain), expected);
    }

    #[test]
    fn says_what_to_think_of_a_search_without_a_winner() {
        let expected = "\
No candidate could be measured.

winner  none
ending  0 of 0 candidates measured in 61.2 s; the search was interrupted; more
        time may find a faster one
";
        let outcome = TuneOutcome { ending: Ending::Interrupted, ..samples::empty_outcome() };
        assert_eq!(text_of_tuning(&outcome, Style::Plain), expected);
    }

    #[test]
    fn the_widest_table_fits_80_columns() {
        let mut outcome = samples::outcome();
        for (index, candidate) in outcome.candidates.iter_mut().enumerate() {
            candidate.configuration.batching_delay = Nanos(250_000 * index as u64);
            candidate.configuration.depth = index;
            candidate.configuration.threads_per_stream = index;
            candidate.throughput_inferences_per_s =
                Some(Estimate { value: 123_456.0, lower: 122_222.0, upper: 124_690.0 });
        }
        let text = text_of_tuning(&outcome, Style::Plain);
        assert!(text.contains("123,456 ± 1,234"), "{text}");
        for head in ["streams batch depth", "threads", "delay"] {
            assert!(text.contains(head), "{head} is missing in {text}");
        }
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
    }

    #[test]
    fn the_winner_is_green_and_nothing_else_changes() {
        let color = text_of_tuning(&samples::outcome(), Style::Color);
        assert!(
            color.lines().any(|line| line.starts_with("\u{1b}[32m*") && line.contains("winner")),
            "{color}"
        );
        let plain = ["1", "2", "32", "33", "0"]
            .iter()
            .fold(color, |text, code| text.replace(&format!("\u{1b}[{code}m"), ""));
        assert_eq!(plain, text_of_tuning(&samples::outcome(), Style::Plain));
    }

    #[test]
    fn a_verdict_cannot_drive_the_terminal() {
        let outcome = TuneOutcome { verdict: "\u{1b}[2Jgone".to_owned(), ..samples::empty_outcome() };
        assert!(!text_of_tuning(&outcome, Style::Plain).contains('\u{1b}'));
    }
}
