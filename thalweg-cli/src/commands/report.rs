//! `thalweg report`: an earlier result, shown again.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::de::DeserializeOwned;
use thalweg::diagnose::Diagnosis;
use thalweg::files::write_whole;
use thalweg::measure::Measurement;
use thalweg::precision::LossReport;
use thalweg::report;
use thalweg::tune::{BuildOutcome, OUTCOME_VERSION, TuneOutcome};
use thalweg::watch::Watched;

use super::file;
use crate::args::ReportArgs;
use crate::output::Output;

pub fn run(args: &ReportArgs, output: &Output) -> anyhow::Result<()> {
    let path = args.folder.join(file::OUTCOME);
    let definitions = |style| if args.explain { report::text_of_definitions(style) } else { String::new() };
    if path.exists() {
        let outcome: TuneOutcome = read(&path)?;
        ensure!(
            outcome.schema_version <= OUTCOME_VERSION,
            "{} is of schema_version {}, this program reads {OUTCOME_VERSION}: use a newer one",
            path.display(),
            outcome.schema_version
        );
        write_report(&args.folder, &report::html_of_tuning(&outcome)?, output)?;
        return output.result(
            || serde_json::to_value(&outcome),
            |style| report::text_of_tuning(&outcome, style) + &definitions(style),
        );
    }
    let builds = args.folder.join(file::BUILDS);
    if builds.exists() {
        let outcome: BuildOutcome = read(&builds)?;
        return output
            .result(|| serde_json::to_value(&outcome), |style| report::text_of_builds(&outcome, style));
    }
    let loss = args.folder.join(file::ACCURACY);
    if loss.exists() {
        let loss: LossReport = read(&loss)?;
        write_report(&args.folder, &report::html_of_loss(&loss)?, output)?;
        return output.result(
            || serde_json::to_value(&loss),
            |style| {
                let accuracy = loss.accuracy.as_ref().map(|it| report::text_of_accuracy(it, style));
                let layers = loss.layers.as_ref().map(|it| report::text_of_layers(it, style));
                accuracy.unwrap_or_default() + &layers.unwrap_or_default()
            },
        );
    }
    let diagnosis = args.folder.join(file::DIAGNOSIS);
    if diagnosis.exists() {
        let diagnosis: Diagnosis = read(&diagnosis)?;
        write_page_without_timeline(&args.folder, &report::html_of_diagnosis(&diagnosis)?, output)?;
        return output.result(
            || serde_json::to_value(&diagnosis),
            |style| report::text_of_diagnosis(&diagnosis, style) + &definitions(style),
        );
    }
    let watched = args.folder.join(file::WATCHED);
    if watched.exists() {
        let watched: Watched = read(&watched)?;
        if let Some(page) = report::html_of_watched(&watched, None)? {
            write_page_without_timeline(&args.folder, &page, output)?;
        }
        return output
            .result(|| serde_json::to_value(&watched), |style| report::text_of_watched(&watched, style));
    }
    let measurement = args.folder.join(file::MEASUREMENT);
    ensure!(
        measurement.exists(),
        "{} holds no result of bench, diagnose, tune, watch or accuracy",
        args.folder.display()
    );
    let measurement: Measurement = read(&measurement)?;
    write_report(&args.folder, &report::html_of_measurement(&measurement)?, output)?;
    output.result(
        || serde_json::to_value(&measurement),
        |style| report::text_of_measurement(&measurement, style) + &definitions(style),
    )
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not a result", path.display()))
}

/// Single kernels and calls are no part of the data: only the page that was written with them has them, so that one stays.
fn write_page_without_timeline(folder: &Path, html: &str, output: &Output) -> anyhow::Result<()> {
    let path = folder.join(file::REPORT);
    if std::fs::read_to_string(&path).is_ok_and(|page| report::has_timeline(&page)) {
        output
            .note(&format!("{} stays as it is: a new one would lack the kernels and calls", path.display()));
        return Ok(());
    }
    write_report(folder, html, output)
}

fn write_report(folder: &Path, html: &str, output: &Output) -> anyhow::Result<()> {
    write_whole(&folder.join(file::REPORT), html.as_bytes())?;
    output.written(folder, &[file::REPORT]);
    Ok(())
}
