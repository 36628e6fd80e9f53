//! The error along a network, layer by layer.

use super::svg::{Anchor, Canvas, Chart, Scale};
use crate::model::DataType;
use crate::precision::{LayerError, LayerErrors};
use crate::report::wording;

/// What is smaller is noise of FP32's own sums, and would stretch the axis.
const LEAST_ERROR: f64 = 1e-8;
/// Errors above that say no more than that nothing is left.
const LARGEST_ERROR: f64 = 1e3;
/// The axis reaches this many times further than the limit.
const ROOM_ABOVE_LIMIT: f64 = 2.0;
/// A label in the right part of the plot stands to the left of its point.
const RIGHT_PART: f64 = 0.6;

/// One of the two measures of an error.
struct Measure {
    heading: &'static str,
    axis: &'static str,
    /// How a limit on it begins on the command line, and the error that the limit stands for.
    limit: (&'static str, fn(f64) -> f64),
    error: fn(&LayerError) -> f64,
}

const RELATIVE_ERROR: Measure = Measure {
    heading: "Relative error along the network",
    axis: "max |a - b| / max |b|, logarithmic",
    limit: ("rel=", |limit| limit),
    error: |layer| layer.max_relative_error,
};

const LOST_COSINE: Measure = Measure {
    heading: "Lost cosine along the network",
    axis: "1 - cosine, logarithmic",
    limit: ("cosine=", |limit| 1.0 - limit),
    error: |layer| 1.0 - layer.cosine,
};

/// Both charts; none where nothing was lost.
pub(super) fn errors_along(found: &LayerErrors) -> Vec<Chart> {
    [RELATIVE_ERROR, LOST_COSINE].iter().filter_map(|measure| chart(found, measure)).collect()
}

fn chart(found: &LayerErrors, measure: &Measure) -> Option<Chart> {
    let errors: Vec<f64> = found.layers.iter().map(|layer| shown((measure.error)(layer))).collect();
    let least = errors.iter().copied().filter(|error| *error > LEAST_ERROR).fold(f64::INFINITY, f64::min);
    if !least.is_finite() {
        return None;
    }
    let limit = limit(found, measure);
    let most = errors.iter().copied().fold(0.0, f64::max).max(limit.unwrap_or(0.0) * ROOM_ABOVE_LIMIT);
    let last = (errors.len() - 1).max(1) as f64;
    let y = Scale::Log { min: least.min(limit.unwrap_or(least)) / 2.0, max: most * 2.0 };
    let x = Scale::Linear { min: 0.0, max: last };
    let mut canvas = Canvas::new(x, y);
    canvas.vertical_axis(measure.axis);
    canvas.horizontal_axis(&x.ticks(), "layer, from the input on");
    let places: Vec<_> =
        errors.iter().enumerate().map(|(index, error)| (canvas.x(index as f64), canvas.y(*error))).collect();
    canvas.path(&places, "best-line");
    for (layer, at) in found.layers.iter().zip(&places) {
        let class = if layer.computes_in == DataType::F32 { "faint" } else { "best" };
        canvas.point(*at, 2.5, class, &title(layer));
    }
    if let Some(limit) = limit {
        draw_limit(&mut canvas, limit, measure.limit.0, &found.limits);
    }
    if let Some(first) = found.first_over {
        mark(&mut canvas, places[first], &found.layers[first]);
    }
    Some(Chart { heading: measure.heading, caption: caption(found), svg: canvas.finish(measure.heading) })
}

fn shown(error: f64) -> f64 {
    if error.is_nan() { LARGEST_ERROR } else { error.clamp(LEAST_ERROR, LARGEST_ERROR) }
}

/// The strictest limit on this measure.
fn limit(found: &LayerErrors, measure: &Measure) -> Option<f64> {
    let (name, error) = measure.limit;
    let numbers = found.limits.iter().filter_map(|text| text.strip_prefix(name)?.parse().ok());
    numbers.map(error).filter(|limit| *limit > 0.0).reduce(f64::min)
}

fn draw_limit(canvas: &mut Canvas, limit: f64, name: &str, limits: &[String]) {
    let (left, right) = canvas.horizontal_ends();
    let y = canvas.y(limit);
    canvas.line((left, y), (right, y), "limit");
    let text = limits.iter().find(|text| text.starts_with(name)).cloned().unwrap_or_default();
    canvas.text((left + 6.0, y - 6.0), Anchor::Start, "limit-label", &format!("limit {text}"));
}

/// The first layer over the limit, by name, away from the nearer edge.
fn mark(canvas: &mut Canvas, (x, y): (f64, f64), layer: &LayerError) {
    canvas.point((x, y), 6.0, "first-over", &format!("first over the limit\n{}", title(layer)));
    let (left, right) = canvas.horizontal_ends();
    let is_right = (x - left) / (right - left) > RIGHT_PART;
    let (anchor, x) = if is_right { (Anchor::End, x - 10.0) } else { (Anchor::Start, x + 10.0) };
    let (top, _) = canvas.vertical_ends();
    let y = if y - 12.0 < top { y + 22.0 } else { y - 12.0 };
    canvas.text((x, y), anchor, "limit-label", &format!("first over: {}", short(&layer.node)));
}

/// Characters of a node's name that have room in the plot.
const NAME_WIDTH: usize = 36;

/// The end of a name, which tells nodes of the same block apart.
fn short(name: &str) -> String {
    let count = name.chars().count();
    if count <= NAME_WIDTH {
        return name.to_owned();
    }
    "…".chars().chain(name.chars().skip(count - NAME_WIDTH)).collect()
}

fn title(layer: &LayerError) -> String {
    format!(
        "{} ({})\ncomputes in {}\nrelative error {:.1e}, of what it reads {:.1e}\ncosine {:.6}",
        layer.node,
        layer.operator,
        layer.computes_in,
        layer.max_relative_error,
        layer.read_relative_error,
        layer.cosine
    )
}

fn caption(found: &LayerErrors) -> String {
    let kind = if found.is_random { "random samples" } else { "samples" };
    format!(
        "{} layers whose values both models have, the worst of {} {kind}. Faint: layers in f32.",
        wording::count(found.layers.len()),
        wording::count(found.sample_count)
    )
}
