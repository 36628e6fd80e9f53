//! Throughput against streams, and the Pareto front: what the search saw of its candidates.

use super::svg::{Anchor, Canvas, Chart, Scale};
use crate::measure::{Estimate, LatencySummary};
use crate::report::wording;
use crate::tune::{Candidate, Standing, TuneOutcome};
use crate::units::Nanos;

/// Points drawn at most: the list is ordered, so those left out are the slowest.
const POINTS_SHOWN: usize = 400;

/// Fewer candidates show nothing that the numbers do not say.
const FEWEST_POINTS: usize = 2;
/// The axis reaches this many times the limit, so that its line and label stay inside the plot.
const ROOM_ABOVE_LIMIT: f64 = 1.15;

/// A candidate that was measured.
struct Measured<'a> {
    index: usize,
    candidate: &'a Candidate,
    throughput: Estimate,
}

fn measured(outcome: &TuneOutcome) -> Vec<Measured<'_>> {
    let with_throughput = |(index, candidate): (usize, &'_ Candidate)| {
        let throughput = candidate.throughput_inferences_per_s.filter(|it| it.value.is_finite())?;
        Some((index, throughput))
    };
    let known = outcome.candidates.iter().enumerate().filter_map(with_throughput);
    known
        .take(POINTS_SHOWN)
        .map(|(index, throughput)| Measured { index, candidate: &outcome.candidates[index], throughput })
        .collect()
}

/// Everything known about a candidate, one fact per line.
pub(super) fn candidate_title(candidate: &Candidate) -> String {
    let mut lines = vec![candidate.configuration.to_string()];
    if let Some(throughput) = &candidate.throughput_inferences_per_s {
        let value = wording::number(throughput.value);
        lines.push(format!("{value} inferences/s, 95 % interval {}", wording::interval(throughput)));
    }
    if let Some(latency) = &candidate.latency {
        let (tail, span) = wording::tail(latency);
        lines.push(format!("p50 {}, {tail} {span} (n = {})", latency.p50, wording::count(latency.n)));
    }
    lines.push(wording::standing_sentence(candidate));
    lines.join("\n")
}

/// Throughput against the number of streams: the best of each number joined, all others faint.
pub(super) fn throughput_by_streams(outcome: &TuneOutcome) -> Option<Chart> {
    let points = measured(outcome);
    if points.len() < FEWEST_POINTS {
        return None;
    }
    let predicted = predicted_points(outcome).map(|(_, value)| value);
    let top = points.iter().flat_map(|it| [it.throughput.value, it.throughput.upper]);
    let top = top.chain(predicted).fold(0.0, finite_max);
    let counts: std::collections::BTreeSet<_> =
        points.iter().map(|it| it.candidate.configuration.streams).collect();
    let (&fewest, &most) = counts.first().zip(counts.last())?;
    let mut canvas = Canvas::new(stream_scale(fewest, most), Scale::from_zero(top));
    canvas.vertical_axis("inferences/s");
    let ticks: Vec<_> = spread_out(&canvas, counts.iter().map(|&count| count as f64));
    canvas.horizontal_axis(&ticks, "streams");
    let best: Vec<_> = counts.iter().filter_map(|&count| best_of(&points, outcome, count)).collect();
    for point in points.iter().filter(|it| !best.iter().any(|best| best.index == it.index)) {
        let at = position(&canvas, point);
        canvas.point(at, 3.0, faint_class(point.candidate), &candidate_title(point.candidate));
    }
    let line: Vec<_> = best.iter().map(|point| position(&canvas, point)).collect();
    canvas.path(&line, "best-line");
    if outcome.curve.is_some() {
        canvas.path(&predicted_line(&canvas, outcome), "predicted-line");
    }
    for point in &best {
        draw_best(&mut canvas, point, outcome.winner == Some(point.index));
    }
    Some(Chart {
        heading: "Throughput against streams",
        caption: streams_caption(&points) + finals_caption(&points, outcome) + predicted_caption(outcome),
        svg: canvas.finish("Throughput against the number of streams"),
    })
}

/// Streams and predicted inferences/s of the winner's other knobs.
fn predicted_points(outcome: &TuneOutcome) -> impl Iterator<Item = (usize, f64)> + '_ {
    let points = outcome.curve.iter().flat_map(|curve| &curve.points);
    points.map(|point| (point.streams, point.prediction.throughput.value))
}

fn predicted_line(canvas: &Canvas, outcome: &TuneOutcome) -> Vec<(f64, f64)> {
    predicted_points(outcome).map(|(streams, value)| (canvas.x(streams as f64), canvas.y(value))).collect()
}

fn predicted_caption(outcome: &TuneOutcome) -> &'static str {
    if outcome.curve.is_some() { " Dashed: predicted for the winner's batch." } else { "" }
}

/// The best that may win: the winner itself, or else the first of the list, which is in order. What breaks
/// a limit counts only where everything does.
fn best_of<'a, 'b>(
    points: &'b [Measured<'a>],
    outcome: &TuneOutcome,
    streams: usize,
) -> Option<&'b Measured<'a>> {
    let may_win =
        |it: &&Measured<'_>| outcome.winner.is_none() || it.candidate.standing != Standing::OverLimit;
    let mut of_count =
        points.iter().filter(|it| it.candidate.configuration.streams == streams).filter(may_win);
    let winner = of_count.clone().find(|it| outcome.winner == Some(it.index));
    winner.or_else(|| of_count.next())
}

/// How a candidate is drawn that is not among the best.
fn faint_class(candidate: &Candidate) -> &'static str {
    if candidate.standing == Standing::OverLimit { "over" } else { "faint" }
}

fn streams_caption(points: &[Measured<'_>]) -> String {
    let has_over = points.iter().any(|it| it.candidate.standing == Standing::OverLimit);
    let (within, over) =
        if has_over { (" within the limits", " Hollow red: over a limit.") } else { ("", "") };
    format!(
        "The candidate{within} that came furthest at each number of streams, with its 95 % interval, labelled with its batch. \
         Faint: the others.{over}"
    )
}

/// Where a faint point stands above the winner, which was measured again and more often since.
fn finals_caption(points: &[Measured<'_>], outcome: &TuneOutcome) -> &'static str {
    let winner = points.iter().find(|it| outcome.winner == Some(it.index));
    let is_above = |point: &Measured<'_>, winner: &Measured<'_>| {
        let streams = |it: &Measured<'_>| it.candidate.configuration.streams;
        let is_over = point.candidate.standing == Standing::OverLimit;
        streams(point) == streams(winner) && !is_over && point.throughput.value > winner.throughput.value
    };
    if winner.is_some_and(|winner| points.iter().any(|point| is_above(point, winner))) {
        " A faint one above the winner fell behind when both were measured again, or could not be told from it."
    } else {
        ""
    }
}

fn draw_best(canvas: &mut Canvas, point: &Measured<'_>, is_winner: bool) {
    let (x, y) = position(canvas, point);
    let title = candidate_title(point.candidate);
    let (low, high) = (canvas.y(point.throughput.lower), canvas.y(point.throughput.upper));
    canvas.line((x, low), (x, high), "interval");
    let (radius, class) = if is_winner { (6.5, "winner") } else { (4.5, "best") };
    canvas.point((x, y), radius, class, &title);
    let label = format!("batch {}", point.candidate.configuration.batch_size);
    let (left, right) = canvas.horizontal_ends();
    let anchor = match x {
        x if x > right - 24.0 => Anchor::End,
        x if x < left + 24.0 => Anchor::Start,
        _ => Anchor::Middle,
    };
    canvas.text(
        (x, f64::min(y, high) - 10.0),
        anchor,
        if is_winner { "mark strong" } else { "mark" },
        &label,
    );
}

fn position(canvas: &Canvas, point: &Measured<'_>) -> (f64, f64) {
    (canvas.x(point.candidate.configuration.streams as f64), canvas.y(point.throughput.value))
}

/// Streams that a linear axis shows well; more are tried in doublings.
const LINEAR_STREAMS: usize = 10;

fn stream_scale(fewest: usize, most: usize) -> Scale {
    let (min, max) = (fewest as f64, most as f64);
    if most <= LINEAR_STREAMS || fewest == 0 {
        // Half a stream of room on both sides.
        Scale::Linear { min: min - 0.5, max: max + 0.5 }
    } else {
        Scale::Log { min: min / 1.2, max: max * 1.2 }
    }
}

/// Those values whose labels have room, from the left.
fn spread_out(canvas: &Canvas, values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut last = f64::NEG_INFINITY;
    values
        .filter(|&value| {
            let has_room = canvas.x(value) - last > 24.0;
            if has_room {
                last = canvas.x(value);
            }
            has_room
        })
        .collect()
}

/// Throughput against the tail of the latency, with the front and the limit.
pub(super) fn pareto(outcome: &TuneOutcome) -> Option<Chart> {
    let points: Vec<_> =
        measured(outcome).into_iter().filter_map(|it| Some((tail_ms(&it.candidate.latency?), it))).collect();
    if points.len() < FEWEST_POINTS {
        return None;
    }
    let limit = outcome.limits.p99.map(Nanos::as_millis);
    let tails = || points.iter().map(|(tail, _)| *tail).chain(limit.map(|it| it * ROOM_ABOVE_LIMIT));
    let most = points.iter().map(|(_, it)| it.throughput.value).reduce(finite_max)?;
    let y = Scale::over(tails().fold(f64::INFINITY, f64::min), tails().fold(0.0, finite_max));
    let mut canvas = Canvas::new(Scale::from_zero(most), y);
    canvas.vertical_axis(if matches!(y, Scale::Log { .. }) {
        "p99 latency, ms, logarithmic"
    } else {
        "p99 latency, ms"
    });
    canvas.horizontal_axis(&Scale::from_zero(most).ticks(), "inferences/s");
    if let Some(limit) = limit {
        draw_limit(&mut canvas, limit);
    }
    let place =
        |canvas: &Canvas, (tail, it): &(f64, Measured<'_>)| (canvas.x(it.throughput.value), canvas.y(*tail));
    let on_front = |it: &Measured<'_>| outcome.pareto.contains(&it.index);
    let by_index = |index: &usize| points.iter().find(|(_, it)| it.index == *index);
    let front: Vec<_> = outcome.pareto.iter().filter_map(by_index).map(|it| place(&canvas, it)).collect();
    for point in points.iter().filter(|(_, it)| !on_front(it) && outcome.winner != Some(it.index)) {
        canvas.point(
            place(&canvas, point),
            3.0,
            faint_class(point.1.candidate),
            &candidate_title(point.1.candidate),
        );
    }
    canvas.path(&steps(&front), "best-line");
    for point in points.iter().filter(|(_, it)| on_front(it) || outcome.winner == Some(it.index)) {
        let (radius, class) =
            if outcome.winner == Some(point.1.index) { (6.5, "winner") } else { (4.5, "best") };
        canvas.point(place(&canvas, point), radius, class, &candidate_title(point.1.candidate));
    }
    if let Some(winner) = points.iter().find(|(_, it)| outcome.winner == Some(it.index)) {
        let at = place(&canvas, winner);
        label_winner(&mut canvas, at);
    }
    Some(Chart {
        heading: "What throughput costs in latency",
        caption: pareto_caption(
            points.iter().any(|(_, it)| it.candidate.latency.is_some_and(|it| it.p99.is_none())),
        ),
        svg: canvas.finish("Throughput against p99 latency"),
    })
}

fn pareto_caption(has_stand_ins: bool) -> String {
    let stand_ins = if has_stand_ins { " Where there is no p99, the largest latency stands in." } else { "" };
    format!(
        "Joined: the Pareto front. No candidate is both faster and shorter in p99 than one on it.{stand_ins}"
    )
}

fn draw_limit(canvas: &mut Canvas, limit_ms: f64) {
    let (left, right) = canvas.horizontal_ends();
    let y = canvas.y(limit_ms);
    canvas.line((left, y), (right, y), "limit");
    canvas.text(
        (left + 6.0, y - 6.0),
        Anchor::Start,
        "limit-label",
        &format!("limit {} ms", wording::number(limit_ms)),
    );
}

/// To the lower right: a candidate there would be better in both, so there is none to cover.
fn label_winner(canvas: &mut Canvas, (x, y): (f64, f64)) {
    let (_, right) = canvas.horizontal_ends();
    let (anchor, x) = if x + WINNER_WIDTH < right { (Anchor::Start, x + 8.0) } else { (Anchor::End, right) };
    canvas.text((x, y + 18.0), anchor, "mark strong", "winner");
}

/// Room for the word in user units.
const WINNER_WIDTH: f64 = 56.0;

/// A front is a staircase: between two of its candidates there is nothing to choose.
fn steps(front: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let corners = front.windows(2).flat_map(|pair| [pair[0], (pair[0].0, pair[1].1)]);
    corners.chain(front.last().copied()).collect()
}

fn tail_ms(latency: &LatencySummary) -> f64 {
    wording::tail(latency).1.as_millis()
}

fn finite_max(a: f64, b: f64) -> f64 {
    if b.is_finite() { a.max(b) } else { a }
}
