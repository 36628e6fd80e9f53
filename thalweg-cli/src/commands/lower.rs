//! A model in a lower precision, for `convert`, `build` and `tune`.

use anyhow::ensure;
use thalweg::backend::DataSheet;
use thalweg::files;
use thalweg::model::Model;
use thalweg::precision::{
    self, AccuracyLimit, BiasShifts, Boundary, CalibrationTable, Conversion, ConversionSpec, Ends, HalfType,
    Lowering, Mix, MixSpec, QuantizationSpec, Ranges, SampleSource, ScaleForm, Selection, WeightForm,
};

use crate::args::{QuantizationArgs, Rest, Target};

/// All that is said of a conversion.
pub struct Lower<'a> {
    pub target: Target,
    pub selection: Selection<'a>,
    pub boundary: Boundary,
    pub quantization: &'a QuantizationArgs,
    /// Samples for the thresholds of INT8, where no table is given.
    pub calibration: SampleSource<'a>,
    /// Samples for the ranges of values, and for what is lost.
    pub source: SampleSource<'a>,
    /// Whether ranges of values are looked at.
    pub looks_at_ranges: bool,
    /// What nodes have to keep to together; INT8 chooses no nodes by them, `auto` does.
    pub limits: &'a [AccuracyLimit],
    /// The device whose time is weighed.
    pub sheet: DataSheet,
    /// What becomes of the nodes that eight bits leave, where the user did not say.
    pub rest: Rest,
    /// Whether what will read the model takes weights of eight bits.
    pub takes_int8_weights: bool,
    /// Whether it takes scales in half.
    pub takes_half_scales: bool,
}

/// What came of it.
pub struct Lowered {
    pub model: Model,
    pub conversion: Conversion,
    /// What was weighed, where nodes were chosen by what they lose.
    pub mix: Option<Mix>,
    /// What people should know.
    pub remark: Option<String>,
}

impl Lower<'_> {
    /// What can be known to fail before the long work.
    pub fn check(&self) -> anyhow::Result<()> {
        let is_limited = self.target != Target::Auto || !self.limits.is_empty();
        ensure!(is_limited, "--precision auto keeps to a limit: add --max-loss");
        let table = &self.quantization.save_calibration_table;
        Ok(table.iter().try_for_each(|path| files::check_writable(path))?)
    }

    /// Converts the model.
    ///
    /// # Errors
    /// What the conversion says, and that FP32 is no conversion.
    pub fn run(&self, original: &Model) -> anyhow::Result<Lowered> {
        match self.target {
            Target::Fp32 => anyhow::bail!("fp32 is what the model has: there is nothing to convert"),
            Target::Half(half) => self.in_half(half, original),
            Target::Int8 | Target::Auto => self.in_int8(original),
        }
    }

    fn in_half(&self, half: HalfType, original: &Model) -> anyhow::Result<Lowered> {
        let (ranges, remark) = if self.looks_at_ranges { self.ranges(half, original)? } else { (None, None) };
        let spec = self.conversion_spec(half, ranges.as_ref());
        if !self.limits.is_empty() {
            return Ok(Lowered { remark, ..self.within(original, Lowering::Half(spec))? });
        }
        let (model, report) = precision::convert(original, &spec)?;
        Ok(Lowered { model, conversion: Conversion::Half(Box::new(report)), mix: None, remark })
    }

    fn in_int8(&self, original: &Model) -> anyhow::Result<Lowered> {
        let table = self.table(original)?;
        let shifts = self.shifts(original, &table)?;
        let spec = QuantizationSpec { shifts: shifts.as_ref(), ..self.quantization_spec() };
        let half = match self.quantization.rest.unwrap_or(self.rest) {
            Rest::Fp32 => None,
            Rest::Half(half) => Some(half),
        };
        let (ranges, remark) = match half {
            Some(half) if self.looks_at_ranges => self.ranges(half, original)?,
            _ => (None, None),
        };
        let rest = half.map(|half| self.conversion_spec(half, ranges.as_ref()));
        if self.target == Target::Auto {
            let lowering = Lowering::Int8 { table: &table, spec, rest };
            return Ok(Lowered { remark, ..self.within(original, lowering)? });
        }
        let (model, conversion) = precision::quantize_with_rest(original, &table, &spec, rest.as_ref())?;
        Ok(Lowered { model, conversion, mix: None, remark })
    }

    /// Lowered as far as the limits allow.
    fn within(&self, original: &Model, lowering: Lowering<'_>) -> anyhow::Result<Lowered> {
        let spec = MixSpec { lowering, limits: self.limits, source: self.source, sheet: self.sheet };
        let (model, conversion, mix) = precision::choose_mix(original, &spec)?;
        Ok(Lowered { model, conversion, mix: Some(mix), remark: None })
    }

    fn conversion_spec<'s>(&'s self, half: HalfType, ranges: Option<&'s Ranges>) -> ConversionSpec<'s> {
        let Self { selection, boundary, .. } = *self;
        // What needs the weights in FP32 is TensorRT 8, which needs the scales so too.
        let is_half = self.takes_half_scales && !self.quantization.fp32_weights;
        let scales = if is_half { ScaleForm::Half } else { ScaleForm::Fp32 };
        ConversionSpec { half, selection, too_sensitive: &[], boundary, ranges, scales }
    }

    fn quantization_spec(&self) -> QuantizationSpec<'_> {
        let ends = if self.quantization.quantize_ends { Ends::Quantize } else { Ends::Keep };
        let is_int8 = self.takes_int8_weights && !self.quantization.fp32_weights;
        let weights = if is_int8 { WeightForm::Int8 } else { WeightForm::Fp32 };
        QuantizationSpec { selection: self.selection, too_sensitive: &[], ends, weights, shifts: None }
    }

    /// What rounding shifts on average, where there are real samples to see it on.
    fn shifts(&self, model: &Model, table: &CalibrationTable) -> thalweg::Result<Option<BiasShifts>> {
        if self.quantization.keep_biases || self.calibration.path.is_none() {
            return Ok(None);
        }
        BiasShifts::measure(model, table, &self.quantization_spec(), &self.calibration).map(Some)
    }

    /// The thresholds, written to a file where that was asked for.
    fn table(&self, model: &Model) -> thalweg::Result<CalibrationTable> {
        let table = match &self.quantization.calibration_table {
            Some(path) => CalibrationTable::read(path)?,
            None => {
                let values = precision::quantizable_values(model, &self.quantization_spec())?;
                let method = self.quantization.calibration_method;
                CalibrationTable::measure(model, &values, method, &self.calibration)?
            }
        };
        self.quantization.save_calibration_table.iter().try_for_each(|path| table.write(path))?;
        Ok(table)
    }

    /// How large the values get, or what people should know where that could not be seen. Where the `cpu` backend
    /// cannot run the network, only samples that the user gave are worth a failure.
    fn ranges(&self, half: HalfType, model: &Model) -> anyhow::Result<(Option<Ranges>, Option<String>)> {
        let SampleSource { input_shapes, path, seed } = self.source;
        match Ranges::measure(model, half, input_shapes, path, seed) {
            Ok(ranges) => Ok((Some(ranges), None)),
            Err(error) if path.is_some() => Err(error.into()),
            Err(error) => {
                let remark = format!(
                    "the ranges of values are not known, since the network could not be run: {}",
                    first_line(&error)
                );
                Ok((None, Some(remark)))
            }
        }
    }
}

/// What rten says goes on for screens where a network has hundreds of values.
pub fn first_line(error: &thalweg::Error) -> String {
    const MOST_CHARACTERS: usize = 300;
    let text = error.to_string();
    let line: String = text.lines().next().unwrap_or_default().chars().take(MOST_CHARACTERS).collect();
    if line.len() < text.len() { line + " ..." } else { line }
}
