//! INT8 by Q and DQ, for `convert` and `build`.

use thalweg::files;
use thalweg::model::Model;
use thalweg::precision::{
    self, CalibrationTable, Ends, QuantizationReport, QuantizationSpec, SampleSource, WeightForm,
};

use crate::args::QuantizationArgs;

/// All that a quantisation is told.
pub struct Quantization<'a> {
    pub args: &'a QuantizationArgs,
    /// Samples for the ranges, where no table is given.
    pub source: SampleSource<'a>,
    pub keep_f32: &'a [String],
    pub weights: WeightForm,
}

impl Quantization<'_> {
    /// What can be known to fail before the long work.
    pub fn check_outputs(&self) -> thalweg::Result<()> {
        self.args.save_calibration_table.iter().try_for_each(|path| files::check_writable(path))
    }

    /// The model in eight bits. The table of thresholds is written where that was asked for.
    pub fn run(&self, model: &Model) -> thalweg::Result<(Model, QuantizationReport)> {
        let ends = if self.args.quantize_ends { Ends::Quantize } else { Ends::Keep };
        let spec = QuantizationSpec { keep_f32: self.keep_f32, ends, weights: self.weights };
        let table = self.table(model, &spec)?;
        if let Some(path) = &self.args.save_calibration_table {
            table.write(path)?;
        }
        precision::quantize(model, &table, &spec)
    }

    fn table(&self, model: &Model, spec: &QuantizationSpec<'_>) -> thalweg::Result<CalibrationTable> {
        if let Some(path) = &self.args.calibration_table {
            return CalibrationTable::read(path);
        }
        let values = precision::quantizable_values(model, spec)?;
        CalibrationTable::measure(model, &values, self.args.calibration_method, &self.source)
    }
}
