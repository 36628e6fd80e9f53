//! Lower precisions: models converted to them, and what they cost beside FP32.
//!
//! In: a model, which [`convert`](fn@convert) turns into one that computes in half; or an engine, how it was built, and
//! samples, out of which comes an [`Accuracy`] that can be held against an [`AccuracyLimit`]. Choosing a precision is left to [`tune`](crate::tune) and to the user. Accuracy says something
//! only for trained weights and real samples.

mod accuracy;
mod assess;
mod convert;

pub use accuracy::{Accuracy, AccuracyLimit, OutputAccuracy, compare};
pub use assess::{Assessment, assess};
pub use convert::{
    Boundary, ConversionReport, ConversionSpec, HalfType, KeepReason, KeptNode, RangeSource, Ranges,
    ValueRange, WeightReport, convert,
};
