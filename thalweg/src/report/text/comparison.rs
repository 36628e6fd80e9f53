//! The text of `thalweg compare`.

use super::{Fact, Style, Tone, facts, wrap};
use crate::measure::{Comparison, Difference, Estimate};
use crate::report::wording;

/// Two results beside each other, as text of at most 80 columns.
pub fn text_of_comparison(comparison: &Comparison, style: Style) -> String {
    let (tone, verdict) = verdict(comparison);
    let mut text = style.paint_lines(tone, &wrap(&verdict, 80));
    for objection in &comparison.objections {
        let line = format!("compared in spite of the {}: {}", objection.kind, objection.text);
        text += &style.paint_lines(Tone::Warning, &wrap(&line, 80));
    }
    text.push('\n');
    let [first, second] = &comparison.configurations;
    let rate = |it: &Estimate| format!("{:.0} inferences/s ({:.0} to {:.0})", it.value, it.lower, it.upper);
    let [before, after] = &comparison.throughputs_inferences_per_s;
    let mut lines = vec![
        Fact::new("first", format!("{}: {first}", rate(before))),
        Fact::new("second", format!("{}: {second}", rate(after))),
        Fact::new("p50", format!("{:.3} times the first's", comparison.p50_latency)),
    ];
    if comparison.engines[0] != comparison.engines[1] {
        let [first, second] = comparison
            .engines
            .each_ref()
            .map(|it| it.as_ref().map_or_else(|| "one that is not known".to_owned(), ToString::to_string));
        lines.push(Fact::new("engines", wording::printable(&format!("{first} / {second}"))));
    }
    let p99 = comparison.p99_latency;
    lines.extend(p99.map(|ratio| Fact::new("p99", format!("{ratio:.3} times the first's"))));
    text + &facts(lines, style)
}

fn verdict(comparison: &Comparison) -> (Tone, String) {
    let Estimate { value, lower, upper } = comparison.throughput;
    let interval = format!("{value:.3} times the throughput of the first ({lower:.3} to {upper:.3})");
    match comparison.verdict {
        Difference::Faster => (Tone::Good, format!("The second is faster: {interval}.")),
        Difference::Slower => (Tone::Warning, format!("The second is slower: {interval}.")),
        Difference::NotSeen => (Tone::Bold, format!("No difference can be seen: the second has {interval}.")),
    }
}
