//! One self-contained HTML page: no network, no external fonts or scripts, charts as inline SVG.
//!
//! The charts are drawn here and show without JavaScript, except for single kernels and calls, which are too many
//! for SVG; the script adds tooltips that follow the
//! pointer, sorting, and zooming into the timeline. What comes from a model (names, paths, error texts)
//! is hostile until escaped: the template escapes everything but our own SVG, and `svg` escapes in there.

mod activity;
mod candidate_table;
mod diagnosis_tables;
mod facts;
mod loss_charts;
mod loss_tables;
mod measurement_charts;
mod page;
mod search_charts;
mod svg;
mod timeline;
mod watched_tables;

use minijinja::{Environment, value::Serde};

use crate::diagnose::Diagnosis;
use crate::error::{Error, Result};
use crate::measure::Measurement;
use crate::precision::LossReport;
use crate::tune::TuneOutcome;
use crate::watch::{Program, Watched};

use page::Page;

/// The result of a search as an HTML page.
///
/// # Errors
/// [`Error::Bug`] where the page's template does not fit its data.
pub fn html_of_tuning(outcome: &TuneOutcome) -> Result<String> {
    render(&Page::of_tuning(outcome))
}

/// One measured configuration as an HTML page.
///
/// # Errors
/// [`Error::Bug`] where the page's template does not fit its data.
pub fn html_of_measurement(measurement: &Measurement) -> Result<String> {
    render(&Page::of_measurement(measurement))
}

/// A diagnosis as an HTML page.
///
/// # Errors
/// [`Error::Bug`] where the page's template does not fit its data.
pub fn html_of_diagnosis(diagnosis: &Diagnosis) -> Result<String> {
    render(&Page::of_diagnosis(diagnosis))
}

/// What was seen of a command as an HTML page; `None` where nothing of it used CUDA. The first of its processes gives the
/// timeline, where it is still here.
///
/// # Errors
/// [`Error::Bug`] where the page's template does not fit its data.
pub fn html_of_watched(watched: &Watched, program: Option<&Program>) -> Result<Option<String>> {
    Page::of_watched(watched, program).as_ref().map(render).transpose()
}

/// What a lower precision costs as an HTML page.
///
/// # Errors
/// [`Error::Bug`] where the page's template does not fit its data.
pub fn html_of_loss(report: &LossReport) -> Result<String> {
    render(&Page::of_loss(report))
}

/// Whether a page has single kernels and calls in it, which are in no other file of a result.
pub fn has_timeline(page: &str) -> bool {
    page.contains("id=\"activity-data\"")
}

fn render(page: &Page) -> Result<String> {
    let bug = |error: minijinja::Error| Error::Bug(format!("report template: {error:#}"));
    let mut environment = Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    // The name ends in `.html` before `.jinja`, which turns escaping on.
    environment.add_template("report.html.jinja", include_str!("report.html.jinja")).map_err(bug)?;
    environment.add_global("css", include_str!("report.css"));
    environment.add_global("js", include_str!("report.js"));
    environment.add_global("activity_js", include_str!("activity.js"));
    environment
        .get_template("report.html.jinja")
        .and_then(|template| template.render(Serde(page)))
        .map_err(bug)
}

#[cfg(test)]
mod tests;
