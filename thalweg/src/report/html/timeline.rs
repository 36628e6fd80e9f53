//! What each stream did when: lanes for H2D, compute and D2H over the last executions.
//!
//! The drawing stretches with the page, so it holds no text: labels and times are HTML beside it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use super::svg::{Scale, tick_labels};
use crate::backend::Span;
use crate::measure::{Execution, Measurement, Running, executions, has_all_times, sweep, took_place};
use crate::report::wording;
use crate::units::Nanos;

/// Executions shown of each stream: enough for a pattern, few enough to see each.
const EXECUTIONS_PER_STREAM: usize = 40;
/// Executions shown at most. Each takes up to 600 bytes, and a page must stay easy to send.
const MOST_EXECUTIONS: usize = 480;
/// Streams shown at most, the first ones.
const MOST_STREAMS: usize = 32;
/// Width of the drawing in its own units, whatever its size on the page.
const UNITS: f64 = 1000.0;
/// What is shorter than this many units is drawn this wide, or it could not be seen.
const NARROWEST: f64 = 0.6;
/// Space between two streams, in pixels.
const GAP: usize = 9;

/// A drawing of lanes and the texts around it.
#[derive(Serialize)]
pub(super) struct Timeline {
    caption: String,
    svg: String,
    height: usize,
    labels: Vec<Label>,
    stages: Vec<Stage>,
    ticks: Vec<Tick>,
    span_ms: f64,
}

/// The name of a stream beside its lanes.
#[derive(Serialize)]
struct Label {
    text: String,
    top: usize,
}

/// A stage in its colour, with its median time.
#[derive(Serialize)]
struct Stage {
    class: &'static str,
    name: &'static str,
    median: String,
}

#[derive(Serialize)]
struct Tick {
    percent: f64,
    text: String,
}

/// The stages on the device: class in the style sheet, name, and when it ran.
fn stages_of(execution: &Execution) -> [(&'static str, &'static str, Span); 3] {
    let times = execution.times;
    [("h2d", "H2D", times.h2d), ("compute", "compute", times.compute), ("d2h", "D2H", times.d2h)]
}

/// From the start of the first stage on the device to the end of the last.
fn extent(execution: &Execution) -> Span {
    let spans = || stages_of(execution).into_iter().map(|(.., span)| span).filter(|span| took_place(*span));
    Span {
        start: spans().map(|span| span.start).min().unwrap_or_default(),
        end: spans().map(|span| span.end).max().unwrap_or_default(),
    }
}

/// The timeline of the last executions; `None` where there are no records of any, or where times were taken of some only.
pub(super) fn timeline(measurement: &Measurement) -> Option<Timeline> {
    if !has_all_times(&measurement.records) {
        return None;
    }
    let executions = last_executions(measurement);
    let start = extent(executions.first()?).start;
    let end = executions.iter().map(|it| extent(it).end).max()?;
    let window = Span { start, end };
    let streams: BTreeSet<_> = executions.iter().map(|it| it.slot.executor).collect();
    let lanes = Lanes::new(&executions, streams.into_iter().take(MOST_STREAMS).collect());
    Some(Timeline {
        caption: caption(&executions, window, &lanes),
        svg: draw(&executions, window, &lanes),
        height: lanes.height(),
        labels: lanes.labels(),
        stages: stages(measurement, &lanes),
        ticks: ticks(window.duration().as_millis()),
        span_ms: window.duration().as_millis(),
    })
}

/// The executions that ended last, by start.
fn last_executions(measurement: &Measurement) -> Vec<Execution> {
    let mut executions = executions(&measurement.records);
    executions.retain(|it| took_place(extent(it)));
    executions.sort_by_key(|it| extent(it).end);
    let streams: BTreeSet<_> = executions.iter().map(|it| it.slot.executor).collect();
    let shown = (EXECUTIONS_PER_STREAM * streams.len()).min(MOST_EXECUTIONS);
    let mut last = executions.split_off(executions.len().saturating_sub(shown));
    last.sort_by_key(|it| extent(it).start);
    last
}

/// Which streams and which stages have a lane, and how high it is.
struct Lanes {
    streams: Vec<usize>,
    stages: Vec<&'static str>,
    height: usize,
}

impl Lanes {
    fn new(executions: &[Execution], streams: Vec<usize>) -> Self {
        let takes_place = |class: &str| {
            executions.iter().flat_map(stages_of).any(|(it, _, span)| it == class && took_place(span))
        };
        let stages: Vec<_> =
            ["h2d", "compute", "d2h"].into_iter().filter(|class| takes_place(class)).collect();
        let height = match streams.len() * stages.len() {
            0..=4 => 22,
            5..=12 => 14,
            13..=24 => 9,
            _ => 6,
        };
        Self { streams, stages, height }
    }

    fn stream_height(&self) -> usize {
        self.stages.len() * self.height
    }

    fn height(&self) -> usize {
        self.streams.len() * (self.stream_height() + GAP)
    }

    /// The upper edge of a stream's first lane.
    fn stream_top(&self, place: usize) -> usize {
        place * (self.stream_height() + GAP) + GAP / 2
    }

    /// The upper edge of a lane, where it is shown.
    fn top(&self, stream: usize, class: &str) -> Option<usize> {
        let place = self.streams.iter().position(|it| *it == stream)?;
        let lane = self.stages.iter().position(|it| *it == class)?;
        Some(self.stream_top(place) + lane * self.height)
    }

    fn labels(&self) -> Vec<Label> {
        let label = |(place, stream): (usize, &usize)| Label {
            text: format!("stream {stream}"),
            top: self.stream_top(place) + self.stream_height() / 2,
        };
        self.streams.iter().enumerate().map(label).collect()
    }
}

fn draw(executions: &[Execution], window: Span, lanes: &Lanes) -> String {
    let mut svg = format!(
        r#"<svg viewBox="0 0 {UNITS} {}" preserveAspectRatio="none" role="img" aria-label="Timeline of the streams">"#,
        lanes.height()
    );
    for place in 0..lanes.streams.len() {
        let (top, height) = (lanes.stream_top(place), lanes.stream_height());
        svg += &format!(r#"<rect class="lane" x="0" y="{top}" width="{UNITS}" height="{height}"/>"#);
    }
    for execution in executions {
        for (class, name, span) in stages_of(execution) {
            if let Some(top) = lanes.top(execution.slot.executor, class).filter(|_| took_place(span)) {
                let (x, width) = place(span, window);
                let title = format!(
                    "{name} {}, batch {}\n{}\nfrom {:.3} to {:.3} ms",
                    span.duration(),
                    execution.batch_size,
                    execution.slot,
                    span.start.since(window.start).as_millis(),
                    span.end.since(window.start).as_millis()
                );
                let height = lanes.height - 1;
                let rect = format_args!(
                    r#"<rect class="{class}" x="{x:.2}" y="{top}" width="{width:.2}" height="{height}"><title>{title}</title></rect>"#
                );
                svg.write_fmt(rect).expect("bug: a String takes any text");
            }
        }
        svg.push('\n');
    }
    svg + "</svg>"
}

/// Start and width of a span in units of the drawing.
fn place(span: Span, window: Span) -> (f64, f64) {
    let scale = UNITS / window.duration().as_seconds().max(1e-9);
    let x = span.start.since(window.start).as_seconds() * scale;
    let width = (span.duration().as_seconds() * scale).max(NARROWEST);
    (x, width.min(UNITS - x).max(0.0))
}

fn ticks(span_ms: f64) -> Vec<Tick> {
    let values = Scale::Linear { min: 0.0, max: span_ms }.ticks();
    let labels = tick_labels(&values);
    let tick = |(value, text): (f64, String)| Tick { percent: value / span_ms * 100.0, text };
    values.into_iter().zip(labels).map(tick).collect()
}

fn stages(measurement: &Measurement, lanes: &Lanes) -> Vec<Stage> {
    let medians = &measurement.stages;
    let stages = [
        Stage { class: "h2d", name: "H2D", median: medians.h2d.to_string() },
        Stage { class: "compute", name: "compute", median: medians.compute.to_string() },
        Stage { class: "d2h", name: "D2H", median: medians.d2h.to_string() },
    ];
    stages.into_iter().filter(|stage| lanes.stages.contains(&stage.class)).collect()
}

fn caption(executions: &[Execution], window: Span, lanes: &Lanes) -> String {
    let overlap = Overlap::of(executions);
    let of_window =
        |span: Nanos| wording::percent(span.as_seconds() / window.duration().as_seconds().max(1e-9));
    let mut caption = format!(
        "The last {} executions, {}. Compute ran in at least one stream for {} of this time",
        wording::count(executions.len()),
        window.duration(),
        of_window(overlap.computing),
    );
    caption += &match lanes.streams.len() {
        1 => ".".to_owned(),
        _ => format!(", and in two or more for {}.", of_window(overlap.computing_twice)),
    };
    if overlap.copying > Nanos::ZERO {
        let hidden =
            wording::percent(overlap.copying_while_computing.as_seconds() / overlap.copying.as_seconds());
        caption += &format!(" {hidden} of the copy time was hidden behind compute.");
    }
    let streams: BTreeSet<_> = executions.iter().map(|it| it.slot.executor).collect();
    if streams.len() > lanes.streams.len() {
        caption += &format!(" {} more streams are not shown.", streams.len() - lanes.streams.len());
    }
    caption
}

/// How long stages ran at the same time.
#[derive(Debug, Default, PartialEq, Eq)]
struct Overlap {
    computing: Nanos,
    computing_twice: Nanos,
    copying: Nanos,
    copying_while_computing: Nanos,
}

impl Overlap {
    fn of(executions: &[Execution]) -> Self {
        let mut overlap = Self::default();
        sweep(executions.iter().map(|execution| execution.times), |span, running| overlap.add(span, running));
        overlap
    }

    fn add(&mut self, span: Nanos, running: Running) {
        let Running { copies, computations } = running;
        let counted = [
            (&mut self.computing, computations > 0),
            (&mut self.computing_twice, computations > 1),
            (&mut self.copying, copies > 0),
            (&mut self.copying_while_computing, copies > 0 && computations > 0),
        ];
        for (total, _) in counted.into_iter().filter(|(_, counts)| *counts) {
            *total += span;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{SlotId, StageTimes};
    use crate::report::samples;

    fn execution(stream: usize, h2d: (u64, u64), compute: (u64, u64)) -> Execution {
        let span = |(start, end)| Span { start: Nanos(start), end: Nanos(end) };
        let times = StageTimes { h2d: span(h2d), compute: span(compute), ..StageTimes::default() };
        Execution { slot: SlotId { executor: stream, index: 0 }, batch_size: 1, times }
    }

    #[test]
    fn overlap_adds_up_what_ran_at_the_same_time() {
        let overlap = Overlap::of(&[execution(0, (0, 10), (10, 50)), execution(1, (20, 30), (30, 70))]);
        let expected = Overlap {
            computing: Nanos(60),
            computing_twice: Nanos(20),
            copying: Nanos(20),
            copying_while_computing: Nanos(10),
        };
        assert_eq!(overlap, expected);
    }

    #[test]
    fn shows_a_bounded_number_of_executions() {
        let timeline = timeline(&samples::measurement(samples::configuration(8, 1), 100)).unwrap();
        assert_eq!(timeline.svg.matches(r#"<rect class="compute""#).count(), 8 * EXECUTIONS_PER_STREAM);
        assert_eq!(timeline.labels.len(), 8);
    }

    #[test]
    fn a_device_without_copies_has_one_lane_per_stream() {
        let mut measurement = samples::measurement(samples::configuration(2, 1), 20);
        for record in &mut measurement.records {
            record.stages.h2d = Span { start: record.stages.compute.start, end: record.stages.compute.start };
            record.stages.d2h = Span::default();
        }
        let timeline = timeline(&measurement).unwrap();
        assert_eq!(timeline.stages.len(), 1);
        assert!(!timeline.caption.contains("copy time"), "{}", timeline.caption);
    }

    #[test]
    fn no_records_are_no_timeline() {
        assert!(timeline(&samples::measurement(samples::configuration(1, 1), 0)).is_none());
    }
}
