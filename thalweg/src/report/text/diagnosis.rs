//! The text for a diagnosis: verdict, evidence, remedies and what came of them.

use super::{Fact, Style, Tone, align_numbers, bare_table, facts, lines_of, simulated, wrap};
use crate::diagnose::{Diagnosis, KernelReading, KernelSummary, Reading, Remedy};
use crate::report::verdicts;
use crate::report::wording;

/// Remedies that are listed; the rest is in the JSON.
const REMEDIES_SHOWN: usize = 8;

/// Kernels that are listed; the JSON has more.
const KERNELS_SHOWN: usize = 5;

/// Letters of a kernel's name that are shown: NVIDIA's have their kind in front and tell sizes behind.
const KERNEL_NAME: usize = 36;

/// A diagnosis as text of at most 80 columns.
pub fn text_of_diagnosis(diagnosis: &Diagnosis, style: Style) -> String {
    let mut text = simulated(&diagnosis.measurement.device, style);
    for remark in wording::remarks(&diagnosis.measurement) {
        text += &style.paint_lines(Tone::Warning, &wrap(&remark, 80));
    }
    text += &style.paint_lines(Tone::Bold, &wrap(&verdicts::verdict(diagnosis), 80));
    text += &facts(summary(diagnosis), style);
    text.push('\n');
    text += &table(limit_rows(diagnosis), &["limit", "reached", "if it were twice as far"], 1..3, style);
    text.push('\n');
    text += &table(evidence_rows(diagnosis), &["evidence", "", "source"], 1..2, style);
    text += &missing(diagnosis);
    if let Some(kernels) = diagnosis.kernels.as_ref().filter(|kernels| !kernels.largest.is_empty()) {
        text.push('\n');
        text += &table(kernel_rows(kernels), &["kernel", "of their time", "each"], 1..2, style);
    }
    if !diagnosis.remedies.is_empty() {
        text.push('\n');
        text += &table(remedy_rows(diagnosis), &["remedy", "predicted", "measured"], 1..2, style);
    }
    text.push('\n');
    let tone = if diagnosis.gained.is_some() { Tone::Good } else { Tone::Dim };
    text + &style.paint_lines(tone, &wrap(&verdicts::gained(diagnosis), 80))
}

fn summary(diagnosis: &Diagnosis) -> Vec<Fact> {
    let throughput = &diagnosis.measurement.throughput_inferences_per_s;
    let judgement = &diagnosis.judgement;
    let mut facts = vec![
        Fact::new("setup", wording::printable(&diagnosis.setup.configuration.to_string())),
        Fact::new("load", diagnosis.setup.load.to_string()),
        Fact::new("throughput", format!("{} inferences/s", wording::with_half_width(throughput))),
        Fact::new("confidence", judgement.confidence.to_string()),
    ];
    let caveats =
        judgement.missing.iter().map(|it| Fact::toned("caveat", wording::printable(it), Tone::Warning));
    facts.extend(caveats);
    facts.extend(verdicts::company(&diagnosis.measurement).map(|it| Fact::toned("core", it, Tone::Warning)));
    facts.extend(judgement.findings.iter().map(|it| Fact::new("also", wording::printable(it))));
    facts.extend(diagnosis.advice.iter().map(|it| Fact::new("advice", it.as_str())));
    facts.extend(verdicts::demands(diagnosis).map(|it| Fact::new("demands", it)));
    facts.extend(verdicts::streams(diagnosis).map(|it| Fact::new("streams", it)));
    facts.extend(verdicts::predictions(diagnosis).map(|it| Fact::new("predicted", it)));
    facts.extend(verdicts::observing(diagnosis).map(|it| Fact::new("observing", it)));
    facts.extend(verdicts::recording(diagnosis).map(|it| Fact::new("recording", it)));
    let remarks = diagnosis.kernels.iter().flat_map(|kernels| &kernels.remarks);
    facts.extend(remarks.map(|it| Fact::toned("caveat", wording::printable(it), Tone::Warning)));
    facts
}

fn limit_rows(diagnosis: &Diagnosis) -> Vec<[String; 3]> {
    let row = |reading: &crate::diagnose::LimitReading| {
        let gain = format!("{} times", wording::number(reading.gain_if_doubled));
        [verdicts::limit(diagnosis, reading.limit), wording::percent(reading.pressure), gain]
    };
    diagnosis.judgement.limits.iter().map(row).collect()
}

fn evidence_rows(diagnosis: &Diagnosis) -> Vec<[String; 3]> {
    let known = diagnosis.evidence.readings.iter().filter_map(|reading| Some((reading, reading.value?)));
    let row = |(reading, value): (&Reading, f64)| {
        [
            reading.quantity.to_string(),
            verdicts::value(reading.quantity, value),
            wording::printable(&reading.source),
        ]
    };
    known.map(row).collect()
}

/// What is not available, by reason.
fn missing(diagnosis: &Diagnosis) -> String {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for reading in diagnosis.evidence.readings.iter().filter(|reading| reading.value.is_none()) {
        let name = reading.quantity.to_string();
        match reasons.iter_mut().find(|(reason, _)| *reason == reading.source) {
            Some((_, names)) => names.push(name),
            None => reasons.push((&reading.source, vec![name])),
        }
    }
    let line = |(reason, names): &(&str, Vec<String>)| {
        let line = format!("not available: {}, because {}", names.join(", "), wording::printable(reason));
        wrap(&line, 80) + "\n"
    };
    reasons.iter().map(line).collect()
}

fn remedy_rows(diagnosis: &Diagnosis) -> Vec<[String; 3]> {
    let row =
        |remedy: &Remedy| [remedy.to_string(), wording::times(&remedy.predicted), verdicts::tried(remedy)];
    diagnosis.remedies.iter().take(REMEDIES_SHOWN).map(row).collect()
}

fn kernel_rows(kernels: &KernelSummary) -> Vec<[String; 3]> {
    let row = |kernel: &KernelReading| {
        let name = wording::shortened(&wording::printable(&kernel.name), KERNEL_NAME);
        [name, wording::percent(kernel.share), verdicts::kernel(kernel)]
    };
    kernels.largest.iter().take(KERNELS_SHOWN).map(row).collect()
}

fn table(rows: Vec<[String; 3]>, head: &[&str; 3], numbers: std::ops::Range<usize>, style: Style) -> String {
    let mut table = bare_table();
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_width(super::WIDTH);
    table.set_header(head);
    table.add_rows(rows);
    align_numbers(&mut table, numbers);
    let mut lines = lines_of(&table);
    lines[0] = style.paint(Tone::Dim, &lines[0]);
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::Quantity;
    use crate::report::samples;

    #[test]
    fn says_the_verdict_first_and_fits_80_columns() {
        let text = text_of_diagnosis(&samples::diagnosis(), Style::Plain);
        assert!(text.starts_with("Underfilled: nothing is full"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("also        the SM clock is 3.8 % below its highest (power cap)\n"), "{text}");
        let cost = "observing   reading counters leaves 99.8 % (99.4 % to 100.2 %)";
        assert!(text.contains(cost), "{text}");
        assert!(text.contains("DRAM") && text.contains("14.3 %"), "{text}");
        assert!(text.contains("1.52 times (1.50 to 1.54)") && text.contains("Gained 1.52 times"), "{text}");
    }

    #[test]
    fn demands_other_numbers_of_streams_and_the_way_of_the_copies_are_told() {
        use crate::capacity::{Observation, Predictor};
        use crate::diagnose::{Outlook, Verdict};
        let mut diagnosis = samples::diagnosis();
        let mut predictor = Predictor::new();
        predictor.learn(Observation::of(&diagnosis.measurement));
        let configuration = diagnosis.setup.configuration;
        let demands = predictor.demands(&configuration).unwrap();
        diagnosis.outlook =
            Some(Outlook { demands, curve: predictor.curve(&configuration, &[1, 4]).unwrap() });
        let text = text_of_diagnosis(&diagnosis, Style::Plain);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(
            text.contains("demands     H2D copy engine ") && text.contains("for each inference"),
            "{text}"
        );
        assert!(text.contains("\nstreams     ") && text.contains(" with 1, "), "{text}");
        diagnosis.judgement.verdict = Verdict::TransferBound;
        for (h2d, d2h, says) in [
            (0.95, 0.2, "copies to the device fill the bus"),
            (0.2, 0.95, "copies to the host fill the bus"),
            (0.93, 0.95, "copies to the device and back both fill the bus"),
        ] {
            diagnosis.evidence.put(Quantity::H2dBusy, h2d, "events");
            diagnosis.evidence.put(Quantity::D2hBusy, d2h, "events");
            let text = text_of_diagnosis(&diagnosis, Style::Plain);
            assert!(text.starts_with(&format!("Transfer-bound: {says}.")), "{text}");
        }
    }

    #[test]
    fn what_is_not_available_is_named_with_its_reason_and_cannot_drive_the_terminal() {
        let mut diagnosis = samples::diagnosis();
        let fill = Quantity::DeviceFill;
        diagnosis.evidence.put_missing(fill, "NVML said\u{1b}[2J no");
        diagnosis.judgement = crate::diagnose::judge(&diagnosis.evidence, &diagnosis.setup.configuration);
        let text = text_of_diagnosis(&diagnosis, Style::Plain);
        assert!(text.contains("not available: device fill, because NVML said [2J no\n"), "{text}");
        assert!(text.contains("confidence  low\n"), "{text}");
        assert!(text.contains("failed: out of [2J memory") && !text.contains('\u{1b}'), "{text}");
    }
}
