//! What a device can do and what will limit it, predicted from little that was measured.
//!
//! In: [`Observation`]s, each of one measured configuration. Out: [`ServiceDemands`] (seconds of each resource for
//! one inference), [`Bounds`] (what nothing can exceed), and from a [`Predictor`] the [`Prediction`] for any other
//! configuration and the [`Curve`] over streams. It knows a device only by what was measured on it. What to
//! measure next is left to [`tune`](crate::tune).

mod batch_curve;
mod bounds;
mod clocks;
mod contention;
mod curve;
mod demand;
mod events;
mod observation;
mod paper;
mod prediction;
mod residual;
#[cfg(test)]
mod synthetic;
mod workload;

pub(crate) use batch_curve::IDLE_GROWTH;
pub use bounds::Bounds;
pub use curve::{Curve, CurvePoint};
pub use demand::{DRAM_CEILING, Demand, DemandSource, Resource, ServiceDemands};
pub use observation::Observation;
pub(crate) use observation::power_limit_watts;
pub use paper::{PaperPrediction, PaperShares, PaperWorkload};
pub use prediction::{FULL, Prediction, Predictor};
pub(crate) use workload::{COPY_CALLS, held_by_copies};
