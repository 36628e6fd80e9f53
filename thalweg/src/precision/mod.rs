//! Lower precisions: models converted to them, and what they cost beside FP32.
//!
//! In: a model, which [`convert`](fn@convert) turns into one that computes in half, and [`quantize`](fn@quantize) into
//! one that computes in eight bits, with a [`CalibrationTable`] that says how large its values get; or two engines and
//! samples, out of which comes an [`Accuracy`] that can be held against an [`AccuracyLimit`]. Choosing a precision is
//! left to [`tune`](crate::tune) and to the user. Accuracy says something only for trained weights and real samples.

mod accuracy;
mod assess;
mod calibration;
mod convert;
mod input_type;
mod mix;
mod onnx;
mod probe;
mod quantize;

pub use accuracy::{Accuracy, AccuracyLimit, OutputAccuracy, compare};
pub use assess::{Assessment, assess, assess_engines, assess_on_cpu};
pub use calibration::{CalibrationMethod, CalibrationTable};
pub use convert::{
    Boundary, ConversionReport, ConversionSpec, HalfType, KeepReason, KeptNode, RangeSource, Ranges,
    ValueRange, WeightReport, convert,
};
pub use input_type::{InputType, assess_inputs, with_inputs};
pub use mix::{Mix, MixSpec, NodeSensitivity, choose_mix};
pub use probe::SampleSource;
pub use quantize::{
    Ends, QuantizationReport, QuantizationSpec, QuantizedWeights, SkipReason, SkippedNode, WeightForm,
    quantizable_values, quantize,
};
