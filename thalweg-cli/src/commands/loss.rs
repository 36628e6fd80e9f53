//! What a lower precision costs, as files: for `convert`, `build` and `accuracy`.

use std::path::Path;

use thalweg::files::OutputFolder;
use thalweg::precision::{Accuracy, AccuracyLimit, Conversion, LOSS_VERSION, LayerErrors, LossReport, Mix};
use thalweg::report;

use super::file;
use super::lower::first_line;
use crate::output::Output;

/// What was compared with what.
pub struct Loss<'a> {
    pub reference: &'a Path,
    pub other: &'a Path,
    pub limits: &'a [AccuracyLimit],
}

impl Loss<'_> {
    /// With all that came of it.
    pub fn report(
        &self,
        accuracy: Option<Accuracy>,
        layers: Option<LayerErrors>,
        conversion: Option<Conversion>,
        mix: Option<Mix>,
    ) -> LossReport {
        LossReport {
            schema_version: LOSS_VERSION,
            reference: self.reference.to_owned(),
            other: self.other.to_owned(),
            limits: self.limits.iter().map(ToString::to_string).collect(),
            accuracy,
            layers,
            conversion,
            mix,
        }
    }
}

/// The error of every layer for a report that has room for it; that the processor cannot run a network is no failure.
pub fn layers_if_known(found: thalweg::Result<LayerErrors>, output: &Output) -> Option<LayerErrors> {
    let unknown = |error| output.warning(&format!("the report has no layers: {}", first_line(&error)));
    found.map_err(unknown).ok()
}

/// As data and as a page.
pub fn write(report: &LossReport, folder: &OutputFolder, output: &Output) -> anyhow::Result<()> {
    folder.write(file::ACCURACY, &serde_json::to_vec_pretty(report)?)?;
    folder.write(file::REPORT, report::html_of_loss(report)?.as_bytes())?;
    output.written(folder.path(), &[file::ACCURACY, file::REPORT]);
    Ok(())
}
