//! Lower precisions: models converted to them, and what they cost beside FP32.
//!
//! In: a model, which [`convert`](fn@convert) turns into one that computes in half, and [`quantize`](fn@quantize) into
//! one that computes in eight bits, with a [`CalibrationTable`] that says how large its values get; or two engines and
//! samples, out of which comes an [`Accuracy`] that can be held against an [`AccuracyLimit`]. [`layer_errors`] says where
//! along the network the error arises, and a [`LossReport`] has all of it. Choosing a precision is
//! left to [`tune`](crate::tune) and to the user. Accuracy says something only for trained weights and real samples.

mod accuracy;
mod assess;
mod calibration;
mod convert;
#[cfg(test)]
mod hostile;
mod input_type;
mod layers;
mod loss;
mod mix;
mod onnx;
mod probe;
mod quantize;
mod route;
mod selection;

pub use accuracy::{Accuracy, AccuracyLimit, OutputAccuracy, compare};
pub use assess::{Assessment, assess, assess_engines, assess_on_cpu};
pub use calibration::{CalibrationMethod, CalibrationTable};
pub use convert::{
    Boundary, ConversionReport, ConversionSpec, HalfType, KeepReason, KeptNode, RangeSource, Ranges,
    ScaleForm, ValueRange, WeightReport, convert,
};
pub use input_type::{InputType, assess_inputs, with_inputs};
pub use layers::{LayerError, LayerErrors, layer_errors};
pub use loss::{Conversion, LOSS_VERSION, LossReport, Stayed};
pub use mix::{Lowering, Mix, MixSpec, NodeSensitivity, choose_mix, quantize_with_rest};
pub use probe::SampleSource;
pub use quantize::{
    BiasShifts, Ends, QuantizationReport, QuantizationSpec, QuantizedWeights, SkipReason, SkippedNode,
    WeightForm, quantizable_values, quantize,
};
pub use route::{Route, RouteTaken};
pub use selection::Selection;
