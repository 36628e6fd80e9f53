//! What a lower precision costs: an engine's outputs beside those of FP32.
//!
//! In: an engine, how it was built, and samples. Out: an [`Accuracy`], which can be held against an
//! [`AccuracyLimit`]. Choosing a precision is left to [`tune`](crate::tune) and to the user. Accuracy says something
//! only for trained weights and real samples.

mod accuracy;
mod assess;

pub use accuracy::{Accuracy, AccuracyLimit, OutputAccuracy, compare};
pub use assess::{Assessment, assess};
