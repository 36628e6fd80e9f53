//! The few pieces of SVG that the charts are made of: scales with round ticks, and a canvas.
//!
//! Colours and fonts are classes of `report.css`. A `title` becomes a tooltip, with or without script.

use std::fmt::Write as _;

use serde::Serialize;

/// A drawing with what there is to say about it.
#[derive(Serialize)]
pub(super) struct Chart {
    pub(super) heading: &'static str,
    pub(super) caption: String,
    pub(super) svg: String,
}

/// Text made safe for element content and quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            '\n' => escaped.push('\n'),
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

/// Turns values into fractions of an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// Equal distances are equal differences.
    Linear { min: f64, max: f64 },
    /// Equal distances are equal ratios; both ends are above zero.
    Log { min: f64, max: f64 },
}

/// Largest over smallest value from which a logarithmic scale shows more than it hides.
const LOG_FROM_RATIO: f64 = 20.0;

impl Scale {
    /// From zero to a round number at or above `max`.
    pub(super) fn from_zero(max: f64) -> Self {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        let step = round_step(max);
        Self::Linear { min: 0.0, max: (max / step).ceil() * step }
    }

    /// Between round numbers around `min` and `max`; from zero where that wastes less than half of the axis.
    pub(super) fn between(min: f64, max: f64) -> Self {
        if !min.is_finite() || !max.is_finite() || min < max / 2.0 || min >= max {
            return Self::from_zero(max);
        }
        let step = round_step(max - min);
        Self::Linear { min: (min / step).floor() * step, max: (max / step).ceil() * step }
    }

    /// Over positive values: linear from zero, or logarithmic where they differ a lot.
    pub(super) fn over(min: f64, max: f64) -> Self {
        if min > 0.0 && max / min > LOG_FROM_RATIO {
            return Self::Log { min: min / 1.25, max: max * 1.25 };
        }
        Self::from_zero(max)
    }

    /// 0 at the start of the axis, 1 at its end.
    pub(super) fn fraction(self, value: f64) -> f64 {
        let fraction = match self {
            Self::Linear { min, max } => (value - min) / (max - min),
            Self::Log { min, max } => (value / min).ln() / (max / min).ln(),
        };
        if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) }
    }

    /// Round values to label, about five.
    pub(super) fn ticks(self) -> Vec<f64> {
        match self {
            Self::Linear { min, max } => {
                let step = round_step(max - min);
                let first = (min / step).ceil();
                (0..20)
                    .map(|index| (first + f64::from(index)) * step)
                    .take_while(|it| *it <= max + step * 1e-6)
                    .collect()
            }
            Self::Log { min, max } => {
                let mantissas: &[f64] = if max / min > 200.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let decades = (-9..15).map(|exponent| 10f64.powi(exponent));
                let values =
                    decades.flat_map(|decade| mantissas.iter().map(move |mantissa| mantissa * decade));
                values.filter(|it| (min..=max).contains(it)).collect()
            }
        }
    }
}

/// A step of 1, 2 or 5 times a power of ten that cuts `span` into four to eight parts.
fn round_step(span: f64) -> f64 {
    let rough = span / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0].map(|factor| factor * power).into_iter().find(|step| span / step <= 8.0);
    step.unwrap_or(10.0 * power)
}

/// Ticks below are labelled as powers of ten.
const LEAST_IN_DIGITS: f64 = 1e-3;

/// Labels for the ticks of one axis, all with the same suffix: `0`, `5k`, `10k` or `0`, `0.5`, `1`.
pub(super) fn tick_labels(ticks: &[f64]) -> Vec<String> {
    let (unit, suffix) = match ticks.iter().copied().fold(0.0, f64::max) {
        top if top >= 1e6 => (1e6, "M"),
        top if top >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let label = |tick: &f64| {
        if *tick != 0.0 && tick.abs() < LEAST_IN_DIGITS {
            return format!("{tick:e}");
        }
        let digits = format!("{:.4}", tick / unit);
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        if digits == "0" { "0".to_owned() } else { format!("{digits}{suffix}") }
    };
    ticks.iter().map(label).collect()
}

/// Where a text stands against its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing with a plot area inside margins for axes.
pub(super) struct Canvas {
    body: String,
    x: Scale,
    y: Scale,
}

/// Width of a chart in user units: two fit side by side at about their natural size.
pub(super) const WIDTH: f64 = 560.0;
/// Height of a chart in user units.
pub(super) const HEIGHT: f64 = 330.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 46.0;

impl Canvas {
    pub(super) fn new(x: Scale, y: Scale) -> Self {
        Self { body: String::new(), x, y }
    }

    /// User units of a value on the horizontal axis.
    pub(super) fn x(&self, value: f64) -> f64 {
        LEFT + self.x.fraction(value) * (WIDTH - LEFT - RIGHT)
    }

    /// User units of a value on the vertical axis.
    pub(super) fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.fraction(value) * (HEIGHT - TOP - BOTTOM)
    }

    /// The horizontal axis with these ticks and a name that says the unit.
    pub(super) fn horizontal_axis(&mut self, ticks: &[f64], name: &str) {
        let base = HEIGHT - BOTTOM;
        self.line((LEFT, base), (WIDTH - RIGHT, base), "axis");
        for (&tick, label) in ticks.iter().zip(tick_labels(ticks)) {
            let x = self.x(tick);
            self.line((x, base), (x, base + 4.0), "axis");
            self.text((x, base + 18.0), Anchor::Middle, "tick", &label);
        }
        self.text((WIDTH - RIGHT, HEIGHT - 8.0), Anchor::End, "name", name);
    }

    /// Rules across the plot at round values, and the axis' name above them.
    pub(super) fn vertical_axis(&mut self, name: &str) {
        let ticks = self.y.ticks();
        for (&tick, label) in ticks.iter().zip(tick_labels(&ticks)) {
            let y = self.y(tick);
            self.line((LEFT, y), (WIDTH - RIGHT, y), "rule");
            self.text((LEFT - 8.0, y + 4.0), Anchor::End, "tick", &label);
        }
        self.text((0.0, 12.0), Anchor::Start, "name", name);
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.draw(format_args!(
            r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
            from.0, from.1, to.0, to.1
        ));
    }

    /// Straight lines through points in user units.
    pub(super) fn path(&mut self, points: &[(f64, f64)], class: &str) {
        let mut commands = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            commands += &format!("{command}{x:.1} {y:.1}");
        }
        self.draw(format_args!(r#"<path class="{class}" d="{commands}"/>"#));
    }

    pub(super) fn point(&mut self, (x, y): (f64, f64), radius: f64, class: &str, title: &str) {
        self.draw(format_args!(
            r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius}"><title>{}</title></circle>"#,
            escape(title)
        ));
    }

    /// A bar from the horizontal axis up to `value`, between two values on that axis.
    pub(super) fn bar(&mut self, (from, to): (f64, f64), value: f64, class: &str, title: &str) {
        let (left, right, top) = (self.x(from), self.x(to), self.y(value));
        self.draw(format_args!(
            r#"<rect class="{class}" x="{:.1}" y="{top:.1}" width="{:.1}" height="{:.1}"><title>{}</title></rect>"#,
            left + 0.5,
            f64::max(right - left - 1.0, 0.5),
            HEIGHT - BOTTOM - top,
            escape(title)
        ));
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.draw(format_args!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#,
            escape(text)
        ));
    }

    /// The top and the bottom of the plot area in user units.
    pub(super) fn vertical_ends(&self) -> (f64, f64) {
        (TOP, HEIGHT - BOTTOM)
    }

    /// The left and the right end of the plot area in user units.
    pub(super) fn horizontal_ends(&self) -> (f64, f64) {
        (LEFT, WIDTH - RIGHT)
    }

    /// The whole drawing; `label` says in words what it shows.
    pub(super) fn finish(self, label: &str) -> String {
        format!(
            r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">{}</svg>"#,
            escape(label),
            self.body
        )
    }

    fn draw(&mut self, element: std::fmt::Arguments<'_>) {
        self.body.write_fmt(element).expect("bug: a String takes any text");
        self.body.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_axis() {
        assert_eq!(Scale::from_zero(34_279.0).ticks(), [0.0, 5e3, 10e3, 15e3, 20e3, 25e3, 30e3, 35e3]);
        assert_eq!(
            Scale::from_zero(0.0).ticks(),
            [0.0, 0.2, 0.4, 0.6, 0.8, 1.0].map(|it: f64| (it * 5.0).round() * 0.2)
        );
        assert_eq!(Scale::over(1.0, 60.0).ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
    }

    #[test]
    fn ticks_of_one_axis_have_one_suffix() {
        assert_eq!(tick_labels(&[0.0, 5_000.0, 10_000.0]), ["0", "5k", "10k"]);
        assert_eq!(tick_labels(&[0.0, 0.05, 2.5, 500.0]), ["0", "0.05", "2.5", "500"]);
        assert_eq!(tick_labels(&[1e-5, 2e-4, 0.01]), ["1e-5", "2e-4", "0.01"]);
        assert_eq!(tick_labels(&[500_000.0, 2_500_000.0]), ["0.5M", "2.5M"]);
    }

    #[test]
    fn a_value_outside_the_scale_stays_on_the_canvas() {
        let scale = Scale::Linear { min: 0.0, max: 10.0 };
        assert_eq!([-1.0, 5.0, 11.0, f64::NAN].map(|it| scale.fraction(it)), [0.0, 0.5, 1.0, 0.0]);
        assert_eq!(Scale::Linear { min: 3.0, max: 3.0 }.fraction(3.0), 0.0);
    }

    #[test]
    fn hostile_text_is_escaped() {
        assert_eq!(escape("<script>'\"&\u{1b}"), "&lt;script&gt;&#39;&quot;&amp; ");
    }
}
