//! What the model that [`tune`](crate::tune) predicts with says of a workload: what it asks each resource for, and what
//! other numbers of streams would reach.
//!
//! In: a measurement, and one of a single stream where there is one. Out: an [`Outlook`]. No verdict rests on it.

use serde::{Deserialize, Serialize};

use crate::capacity::{Curve, Observation, Predictor, ServiceDemands};
use crate::measure::Measurement;

/// Numbers of streams that are looked at, besides that of the workload: those that a search looks at.
const STREAMS: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// A workload with work for every slot, as predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// Seconds of each resource for one inference.
    pub demands: ServiceDemands,
    /// Throughput over the number of streams, all else as it is.
    pub curve: Curve,
}

impl Outlook {
    /// `None` where nothing usable was measured, and on a host, where streams share the cores.
    pub(super) fn of(measurement: &Measurement, alone: Option<&Measurement>) -> Option<Self> {
        if measurement.device.is_host() {
            return None;
        }
        let predictor = learnt(measurement, alone);
        let mut streams = [&STREAMS[..], &[measurement.configuration.streams]].concat();
        streams.sort_unstable();
        streams.dedup();
        let demands = predictor.demands(&measurement.configuration)?;
        Some(Self { demands, curve: predictor.curve(&measurement.configuration, &streams)? })
    }
}

/// What one stream alone and the setup as it is tell of all others.
pub(super) fn learnt(measurement: &Measurement, alone: Option<&Measurement>) -> Predictor {
    let mut predictor = Predictor::new();
    predictor.learn_all(alone.into_iter().chain([measurement]).map(Observation::of));
    predictor
}
