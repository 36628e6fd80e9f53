//! INT8 by Q and DQ, for `convert` and `build`.

use thalweg::backend::DataSheet;
use thalweg::files;
use thalweg::model::Model;
use thalweg::precision::{
    self, AccuracyLimit, CalibrationTable, Ends, Mix, MixSpec, QuantizationReport, QuantizationSpec,
    SampleSource, WeightForm,
};

use crate::args::QuantizationArgs;

/// All that a quantisation is told.
pub struct Quantization<'a> {
    pub args: &'a QuantizationArgs,
    /// Samples for the ranges, where no table is given.
    pub source: SampleSource<'a>,
    pub keep_f32: &'a [String],
    /// Whether what will read the model takes weights of eight bits.
    pub takes_int8_weights: bool,
}

impl Quantization<'_> {
    /// What can be known to fail before the long work.
    pub fn check_outputs(&self) -> thalweg::Result<()> {
        self.args.save_calibration_table.iter().try_for_each(|path| files::check_writable(path))
    }

    /// The model in eight bits.
    pub fn run(&self, model: &Model) -> thalweg::Result<(Model, QuantizationReport)> {
        precision::quantize(model, &self.table(model)?, &self.spec())
    }

    /// The model in eight bits as far as the limits allow. What is lost is measured on `source`.
    pub fn run_within(
        &self,
        model: &Model,
        limits: &[AccuracyLimit],
        source: SampleSource<'_>,
        sheet: DataSheet,
    ) -> thalweg::Result<(Model, QuantizationReport, Mix)> {
        let spec = MixSpec { quantization: self.spec(), limits, source, sheet };
        precision::choose_mix(model, &self.table(model)?, &spec)
    }

    fn spec(&self) -> QuantizationSpec<'_> {
        let ends = if self.args.quantize_ends { Ends::Quantize } else { Ends::Keep };
        let is_int8 = self.takes_int8_weights && !self.args.fp32_weights;
        let weights = if is_int8 { WeightForm::Int8 } else { WeightForm::Fp32 };
        QuantizationSpec { keep_f32: self.keep_f32, too_sensitive: &[], ends, weights }
    }

    /// The thresholds, written to a file where that was asked for.
    fn table(&self, model: &Model) -> thalweg::Result<CalibrationTable> {
        let table = match &self.args.calibration_table {
            Some(path) => CalibrationTable::read(path)?,
            None => {
                let values = precision::quantizable_values(model, &self.spec())?;
                CalibrationTable::measure(model, &values, self.args.calibration_method, &self.source)?
            }
        };
        self.args.save_calibration_table.iter().try_for_each(|path| table.write(path))?;
        Ok(table)
    }
}
