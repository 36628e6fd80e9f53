//! What the model that [`tune`](crate::tune) predicts with says of a workload: what it asks each resource for, and what
//! other numbers of streams would reach.
//!
//! In: a measurement, and one of a single stream where there is one. Out: an [`Outlook`]. No verdict rests on it.
//!
//! The model knows pools whose slots all have work. What was measured while slots were empty teaches it nothing. Nor do several
//! streams tell what fewer reach: on a full device N of them take N times the demand of what is full, however long one
//! takes alone, which may be anything from that demand to all of their time.

use serde::{Deserialize, Serialize};

use super::Limits;
use crate::capacity::{Curve, Observation, Predictor, ServiceDemands};
use crate::measure::{Arrival, Measurement};

/// Numbers of streams that are looked at, besides that of the workload: those that a search looks at.
const STREAMS: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// A workload with work for every slot, as predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// Seconds of each resource for one inference.
    pub demands: ServiceDemands,
    /// Throughput over the number of streams, all else as it is, from the fewest that were measured on.
    pub curve: Curve,
}

impl Outlook {
    /// `None` where nothing was measured with work for every slot, where executions run one by one whatever there is, and on a
    /// host, where streams share the cores.
    pub(super) fn of(
        measurement: &Measurement,
        alone: Option<&Measurement>,
        limits: &Limits,
    ) -> Option<Self> {
        if measurement.device.is_host() || limits.runs_one_by_one() {
            return None;
        }
        let is_supplied = has_work_for_all_slots(measurement);
        let predictor = if is_supplied { learnt(measurement, alone) } else { supplied(measurement, alone)? };
        let own = measurement.configuration.streams;
        let fewest = alone.map_or(own, |it| it.configuration.streams);
        let mut streams = [&STREAMS[..], &[own]].concat();
        streams.retain(|it| *it >= fewest);
        streams.sort_unstable();
        streams.dedup();
        let demands = predictor.demands(&measurement.configuration)?;
        Some(Self { demands, curve: predictor.curve(&measurement.configuration, &streams)? })
    }
}

/// What one stream alone tells of all others, where it had work for every slot and the setup as it is has not.
pub(super) fn supplied(measurement: &Measurement, alone: Option<&Measurement>) -> Option<Predictor> {
    let alone = alone.filter(|it| has_work_for_all_slots(it) && !has_work_for_all_slots(measurement))?;
    let mut predictor = Predictor::new();
    predictor.learn(Observation::of(alone));
    Some(predictor)
}

/// Whether a closed loop keeps enough requests outstanding for every slot, and who fills them is not the limit.
fn has_work_for_all_slots(measurement: &Measurement) -> bool {
    let slots = measurement.configuration.streams * measurement.configuration.depth;
    let samples = slots * measurement.configuration.batch_size;
    let load = measurement.load;
    let is_fed = !measurement.feed.is_some_and(|feed| feed.is_limiting());
    is_fed
        && matches!(load.arrival, Arrival::Concurrency(count) if count * load.samples_per_request >= samples)
}

/// What one stream alone and the setup as it is tell of all others.
pub(super) fn learnt(measurement: &Measurement, alone: Option<&Measurement>) -> Predictor {
    let mut predictor = Predictor::new();
    predictor.learn_all(alone.into_iter().chain([measurement]).map(Observation::of));
    predictor
}
