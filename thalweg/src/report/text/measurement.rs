//! The text for one measured configuration.

use super::{Fact, Style, Tone, bare_table, facts, lines_of, simulated, wrap};
use crate::measure::{LatencySummary, Measurement, has_all_times};
use crate::report::{verdicts, wording};
use crate::units::Bytes;

/// One measured configuration as text of at most 80 columns.
pub fn text_of_measurement(measurement: &Measurement, style: Style) -> String {
    let mut text = simulated(&measurement.device, style);
    for remark in wording::remarks(measurement) {
        text += &style.paint_lines(Tone::Warning, &wrap(&remark, 80));
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
    let mut table = bare_table();
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
        Fact::new("stages", wording::stages(&measurement.stages, has_all_times(&measurement.records))),
    ];
    facts.extend(measurement.overlap.as_ref().map(|it| Fact::new("overlap", wording::overlap(it))));
    facts.extend(wording::clocks(measurement).map(|text| Fact::new("clocks", text)));
    facts.extend([
        Fact::new("host", wording::host(measurement)),
        Fact::new("verification", wording::verification(&measurement.verification)),
        Fact::toned("stability", wording::stability(measurement), tone),
    ]);
    if let Some(failures) = wording::failures(measurement) {
        facts.push(Fact::toned("failures", failures, Tone::Warning));
    }
    facts.extend(wording::starvation(measurement).map(|text| Fact::toned("starved", text, Tone::Warning)));
    facts.extend(verdicts::company(measurement).map(|text| Fact::toned("core", text, Tone::Warning)));
    facts.push(Fact::new("load", measurement.load.to_string()));
    facts.extend(
        measurement.overload().map(|it| Fact::toned("overload", verdicts::overload(it), Tone::Warning)),
    );
    facts.extend(wording::feed(measurement).map(|text| Fact::new("inputs", text)));
    facts.extend(
        measurement.engine.as_ref().map(|it| Fact::new("engine", wording::printable(&it.to_string()))),
    );
    let model = measurement.model.path.display().to_string();
    facts.push(Fact::new("model", wording::printable(&model)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{ClockReading, Counters, Transfers};
    use crate::measure::{Estimate, Failures, Stability, Verification};
    use crate::report::samples;

    #[test]
    fn says_the_verdict_first_and_then_what_it_rests_on() {
        let measurement = samples::measurement(samples::configuration(4, 2), 500);
        let expected = "\
13,348 inferences/s (95 % interval 13,201 to 13,495), p99 1.10 ms
4 streams x batch 2, 1 thread per stream, 2 submitters

latency     p50     p90      p95      p99    p99.9  largest    mean  requests
         796 us  999 us  1.04 ms  1.10 ms  1.99 ms  2.18 ms  805 us     4,000

throughput    13,348 ± 147 inferences/s, 6,674 executions/s
stages        enqueue 12.0 us, H2D 47.9 us, compute 528 us, D2H 18.0 us
              (medians)
overlap       99.8 % of the copies under another computation, two or more stages
              in 99.5 % of the time
host          2.38 cores busy, 1.31 GB resident
verification  4,096 of 5,000 samples compared with the single-stream reference,
              worst relative error 2.1e-7
stability     stable: the last 3 of 5 windows agree within 1.4 % in throughput
              and 3.2 % in latency
load          closed loop, 16 outstanding, 1 per request
model         models/resnet50-v1.5.onnx
device        NVIDIA H100 80GB HBM3, tensorrt backend, 16 cores, 85.5 GB, CUDA
              driver 580.82, TensorRT 10.16.1, thalweg 0.1.0
";
        assert_eq!(text_of_measurement(&measurement, Style::Plain), expected);
    }

    #[test]
    fn says_what_is_missing_and_what_went_wrong() {
        let mut measurement = samples::measurement(samples::configuration(2, 1), 50);
        measurement.device.backend = "simulated:h100".to_owned();
        measurement.stability = Stability::Unstable { throughput_spread: 1.31, latency_spread: 1.84 };
        measurement.verification = Verification::default();
        measurement.failures = Failures {
            count: 3,
            first: Some("out of\u{1b}[2J memory".to_owned()),
            lost_streams: [1].into(),
            has_lost_device: true,
        };
        let expected = "\
Simulated: no device ran this.
4,425 inferences/s (95 % interval 4,377 to 4,474), largest latency 769 us
2 streams x batch 1, 1 thread per stream, 2 submitters

latency     p50     p90     p95  p99  p99.9  largest    mean  requests
         585 us  735 us  751 us    –      –   769 us  589 us       100
         p99 needs 300 requests

throughput    4,425 ± 49 inferences/s, 4,425 executions/s
stages        enqueue 12.0 us, H2D 36.2 us, compute 398 us, D2H 13.6 us
              (medians)
overlap       94.9 % of the copies under another computation, two or more stages
              in 98.1 % of the time
host          2.38 cores busy, 1.31 GB resident
verification  no outputs were compared with a reference
stability     not stable: the last of 5 windows differ by 31.0 % in throughput
              and 84.0 % in latency; all of them were used, so trust the numbers
              less
failures      3 requests failed, the first with: out of [2J memory; stream 1
              failed for good
load          closed loop, 4 outstanding, 1 per request
model         models/resnet50-v1.5.onnx
device        NVIDIA H100 80GB HBM3, simulated:h100 backend, 16 cores, 85.5 GB,
              CUDA driver 580.82, TensorRT 10.16.1, thalweg 0.1.0
";
        assert_eq!(text_of_measurement(&measurement, Style::Plain), expected);
    }

    #[test]
    fn clocks_are_told_with_what_held_them_back_and_in_which_part_of_the_windows() {
        let mut measurement = samples::measurement(samples::configuration(2, 1), 50);
        let reading = |reasons: &[&str]| ClockReading {
            sm_clock_mhz: Some(1_755.0),
            throttle_reasons: reasons.iter().map(|it| (*it).to_owned()).collect(),
        };
        measurement.counters = Some(Counters {
            sm_clock_mhz: Some(1_755.0),
            sm_clock_max_mhz: Some(1_980.0),
            power_watts: Some(412.0),
            throttle_reasons: vec!["Idle".to_owned()],
            ..Counters::default()
        });
        let line = |measurement: &Measurement| {
            let text = text_of_measurement(measurement, Style::Plain);
            text.lines().find_map(|line| Some(line.strip_prefix("clocks")?.trim().to_owned())).unwrap()
        };
        assert_eq!(line(&measurement), "SMs at 1,755 of 1,980 MHz, 412 W, nothing held them back");
        measurement.clocks = vec![reading(&["SoftwareThermal"]), reading(&[])];
        measurement.counters.as_mut().unwrap().throttle_reasons = vec!["SoftwareThermal".to_owned()];
        let told = line(&measurement);
        assert!(told.starts_with("SMs at 1,755 of 1,980 MHz, 412 W, held back by SoftwareThermal"), "{told}");
        let text = text_of_measurement(&measurement, Style::Plain);
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(words.join(" ").contains("SoftwareThermal (1 of 2 windows disturbed)"), "{text}");
    }

    #[test]
    fn what_was_done_otherwise_stands_before_the_numbers() {
        let mut measurement = samples::measurement(samples::configuration(2, 1), 50);
        measurement.configuration.transfers = Transfers::Off;
        measurement.remarks = vec!["Of 8 streams 2 fit into the device's memory.".to_owned()];
        let expected = "\
Transfers were off: only each slot's first execution copied its inputs and
outputs. These are figures of the computation alone, not of a service.
Of 8 streams 2 fit into the device's memory.
4,425 inferences/s";
        let text = text_of_measurement(&measurement, Style::Plain);
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("2 submitters, without transfers"), "{text}");
    }

    #[test]
    fn a_measurement_that_saw_nothing_has_no_numbers() {
        let mut measurement = samples::measurement(samples::configuration(1, 1), 0);
        measurement.throughput_inferences_per_s =
            Estimate { value: f64::NAN, lower: f64::NAN, upper: f64::NAN };
        measurement.stability = Stability::TooShort;
        let text = text_of_measurement(&measurement, Style::Plain);
        assert!(
            text.starts_with("– inferences/s (95 % interval – to –), no request ended in the time\n"),
            "{text}"
        );
        assert!(!text.contains("NaN"), "{text}");
    }
}
