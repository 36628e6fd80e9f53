//! The distribution of the latency, and throughput over time: what one measurement saw.

use std::ops::RangeInclusive;

use super::svg::{Anchor, Canvas, Chart, Scale};
use crate::measure::{Measurement, Window};
use crate::report::wording;
use crate::units::Nanos;

/// Bars of the histogram at least and at most; between them 2 n^(1/3), the Rice rule.
const BINS: RangeInclusive<usize> = 12..=48;
/// Fewer records make no distribution.
const FEWEST_RECORDS: usize = 20;
/// The axis ends at the largest latency or this many times the 99th percentile, so that one straggler
/// does not flatten the rest. The caption counts what lies beyond.
const BEYOND_P99: f64 = 1.5;
/// Room above the highest bar for the labels of the percentiles.
const HEADROOM: f64 = 1.28;
/// Windows drawn at most, the last ones.
const WINDOWS_SHOWN: usize = 200;

/// The histogram of all latencies with their percentiles.
pub(super) fn latency_distribution(measurement: &Measurement) -> Option<Chart> {
    let mut latencies: Vec<f64> =
        measurement.records.iter().map(|record| record.latency().as_millis()).collect();
    if latencies.len() < FEWEST_RECORDS {
        return None;
    }
    latencies.sort_by(f64::total_cmp);
    let n = latencies.len();
    let (least, most, p99) = (latencies[0], latencies[n - 1], latencies[n * 99 / 100]);
    let end = f64::min(most, p99 * BEYOND_P99);
    let scale = Scale::between(least, end);
    let bins = counts(&latencies, scale);
    let highest = bins.iter().map(|(_, count)| *count).max().unwrap_or(1);
    let mut canvas = Canvas::new(scale, Scale::from_zero(highest as f64 * HEADROOM));
    canvas.vertical_axis("requests");
    canvas.horizontal_axis(&scale.ticks(), "latency, ms");
    for ((from, to), count) in bins.iter().filter(|(_, count)| *count > 0) {
        let share = wording::percent(*count as f64 / n as f64);
        let title = format!(
            "{} requests, {share}\n{} to {} ms",
            wording::count(*count),
            wording::number(*from),
            wording::number(*to)
        );
        canvas.bar((*from, *to), *count as f64, "bar", &title);
    }
    draw_percentiles(&mut canvas, measurement);
    let beyond = latencies.iter().filter(|it| **it > axis_end(scale)).count();
    Some(Chart {
        heading: "How long requests took",
        caption: distribution_caption(n, beyond, measurement.latency.max),
        svg: canvas.finish("Histogram of the latency of all requests"),
    })
}

fn distribution_caption(n: usize, beyond: usize, max: Nanos) -> String {
    let tail = match beyond {
        0 => String::new(),
        _ => format!(" {} more lie beyond the right end, up to {max}.", wording::count(beyond)),
    };
    format!(
        "Latency of {} requests, from the intended send time to readable outputs.{tail}",
        wording::count(n)
    )
}

fn axis_end(scale: Scale) -> f64 {
    let (Scale::Linear { max, .. } | Scale::Log { max, .. }) = scale;
    max
}

/// Equal bins over a linear scale, each with its ends and how many values fell into it.
fn counts(values: &[f64], scale: Scale) -> Vec<((f64, f64), usize)> {
    let (Scale::Linear { min, max } | Scale::Log { min, max }) = scale;
    let bins = BINS.rev().find(|bins| bins.pow(3) <= 8 * values.len()).unwrap_or(*BINS.start());
    let width = (max - min) / bins as f64;
    let ends = (0..bins).map(|bin| (min + width * bin as f64, min + width * (bin + 1) as f64));
    ends.map(|(from, to)| ((from, to), between(values, from, to))).collect()
}

/// How many of the sorted values lie in `from..to`.
fn between(sorted: &[f64], from: f64, to: f64) -> usize {
    sorted.partition_point(|it| *it < to) - sorted.partition_point(|it| *it < from)
}

fn draw_percentiles(canvas: &mut Canvas, measurement: &Measurement) {
    let latency = &measurement.latency;
    let marks = [("p50", Some(latency.p50)), ("p90", Some(latency.p90)), ("p99", latency.p99)];
    let (top, base) = canvas.vertical_ends();
    let (_, right) = canvas.horizontal_ends();
    for (row, (name, span)) in marks.into_iter().enumerate() {
        let Some(span) = span else { continue };
        let x = canvas.x(span.as_millis());
        // One row each: percentiles lie close together where latencies are steady.
        let y = top + 12.0 + 16.0 * row as f64;
        canvas.line((x, y - 10.0), (x, base), "percentile");
        let (anchor, x) = if x > right - 80.0 { (Anchor::End, x - 5.0) } else { (Anchor::Start, x + 5.0) };
        canvas.text((x, y), anchor, "mark", &format!("{name} {span}"));
    }
}

/// Throughput of each window, with those that count in full colour.
pub(super) fn throughput_over_time(measurement: &Measurement) -> Option<Chart> {
    let skipped = measurement.windows.len().saturating_sub(WINDOWS_SHOWN);
    let windows = &measurement.windows[skipped..];
    let (first, last) = windows.first().zip(windows.last())?;
    let seconds = |at: Nanos| at.since(first.start).as_seconds();
    let top = windows.iter().map(Window::throughput).fold(0.0, f64::max);
    let scale = Scale::Linear { min: 0.0, max: f64::max(seconds(last.end), 1e-9) };
    let mut canvas = Canvas::new(scale, Scale::from_zero(top * 1.05));
    canvas.vertical_axis("inferences/s");
    canvas.horizontal_axis(&scale.ticks(), "seconds after the warm-up");
    let first_used = windows.len().saturating_sub(measurement.used_windows);
    for (index, window) in windows.iter().enumerate() {
        let (class, used) =
            if index >= first_used { ("window", "used") } else { ("window unused", "not used") };
        let title = format!(
            "window {}, {used}\n{} inferences/s, mean latency {}",
            skipped + index + 1,
            wording::number(window.throughput()),
            window.mean_latency
        );
        let ends = (seconds(window.start), seconds(window.end));
        canvas.bar(ends, window.throughput(), class, &title);
        let y = canvas.y(window.throughput());
        canvas.line((canvas.x(ends.0), y), (canvas.x(ends.1), y), class);
    }
    Some(Chart {
        heading: "Whether it was steady",
        caption: format!(
            "Throughput of each window; those in colour were used. Stability: {}.",
            wording::stability(measurement)
        ),
        svg: canvas.finish("Throughput of each measurement window over time"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn every_latency_up_to_the_end_of_the_axis_falls_into_one_bin() {
        let values: Vec<f64> = (0..1000).map(|index| 1.0 + f64::from(index) / 1000.0).collect();
        let bins = counts(&values, Scale::between(1.0, 2.0));
        assert_eq!(bins.iter().map(|(_, count)| count).sum::<usize>(), 1000);
        assert_eq!(bins.len(), 20);
    }

    #[test]
    fn stragglers_are_counted_in_words() {
        let mut measurement = samples::measurement(samples::configuration(2, 1), 200);
        let straggler = &mut measurement.records[7];
        straggler.readable = straggler.intended + Nanos(900_000_000);
        measurement.latency = samples::latency(&measurement.records);
        let chart = latency_distribution(&measurement).unwrap();
        assert!(chart.caption.contains("beyond the right end, up to 900 ms"), "{}", chart.caption);
    }

    #[test]
    fn a_handful_of_records_makes_no_distribution() {
        assert!(latency_distribution(&samples::measurement(samples::configuration(2, 1), 5)).is_none());
    }
}
