//! The text for one measured configuration.

use super::{Fact, Style, Tone, bare_table, facts, lines_of, wrap};
use crate::measure::{LatencySummary, Measurement};
use crate::report::wording;
use crate::units::Bytes;

/// One measured configuration as text of at most 80 columns.
pub fn text_of_measurement(measurement: &Measurement, style: Style) -> String {
    let device = &measurement.device;
    let mut text = String::new();
    if device.backend.starts_with("simulated") {
        text += &style.paint_lines(Tone::Warning, "Simulated: no device ran this.");
    }
    text += &style.paint_lines(Tone::Bold, &wrap(&verdict(measurement), 80));
    text += &wrap(&wording::printable(&measurement.configuration.to_string()), 80);
    text += "\n\n";
    text += &latency_table(&measurement.latency, style);
    text.push('\n');
    text += &facts(measurement_facts(measurement), style);
    text
}

/// `1,234 inferences/s (95 % interval 1,220 to 1,248), p99 8.91 ms`
pub(in crate::report) fn verdict(measurement: &Measurement) -> String {
    let throughput = &measurement.throughput_inferences_per_s;
    let (tail, latency) = wording::tail(&measurement.latency);
    let value = wording::number(throughput.value);
    let latency = match measurement.latency.n {
        0 => "no request ended in the time".to_owned(),
        _ => format!("{tail} {latency}"),
    };
    format!("{value} inferences/s (95 % interval {}), {latency}", wording::interval(throughput))
}

fn latency_table(latency: &LatencySummary, style: Style) -> String {
    let mut table = bare_table(80);
    table.set_header(["latency", "p50", "p90", "p95", "p99", "p99.9", "largest", "mean", "requests"]);
    let known = |span| wording::time((latency.n > 0).then_some(span));
    table.add_row([
        String::new(),
        known(latency.p50),
        known(latency.p90),
        known(latency.p95),
        wording::time(latency.p99),
        wording::time(latency.p999),
        known(latency.max),
        known(latency.mean),
        wording::count(latency.n),
    ]);
    super::align_numbers(&mut table, 1..9);
    let mut lines = lines_of(&table);
    lines[0] = style.paint(Tone::Dim, &lines[0]);
    if latency.n > 0 && latency.p99.is_none() {
        lines.push(format!("         p99 needs {} requests", wording::P99_RECORDS));
    }
    lines.join("\n") + "\n"
}

fn measurement_facts(measurement: &Measurement) -> Vec<Fact> {
    let inferences = wording::with_half_width(&measurement.throughput_inferences_per_s);
    let executions = wording::number(measurement.executions_per_s);
    let tone = if wording::is_stable(measurement) { Tone::Good } else { Tone::Warning };
    let mut facts = vec![
        Fact::new("throughput", format!("{inferences} inferences/s, {executions} executions/s")),
        Fact::new("stages", wording::stages(&measurement.stages)),
        Fact::new("host", wording::host(measurement)),
        Fact::new("verification", wording::verification(&measurement.verification)),
        Fact::toned("stability", wording::stability(measurement), tone),
    ];
    if let Some(failures) = wording::failures(measurement) {
        facts.push(Fact::toned("failures", failures, Tone::Warning));
    }
    facts.push(Fact::new("load", measurement.load.to_string()));
    facts.push(Fact::new("device", device(measurement)));
    facts
}

fn device(measurement: &Measurement) -> String {
    let device = &measurement.device;
    let mut parts =
        vec![wording::printable(&device.name), format!("{} backend", wording::printable(&device.backend))];
    parts.push(format!("{} cores", device.core_count));
    parts.extend(device.memory_bytes.map(|bytes| Bytes(bytes).to_string()));
    parts.extend(
        device.versions.iter().map(|(name, version)| wording::printable(&format!("{name} {version}"))),
    );
    parts.join(", ")
}
