//! How many seconds of each resource one inference asks for.
//!
//! In: a measurement of one stream, where nobody else disturbs, and what the device said about itself meanwhile.
//! Out: a [`Demand`] for each [`Resource`]. The utilisation law (Denning and Buzen, "The Operational Analysis of
//! Queueing Network Models", ACM Computing Surveys 10, 1978) makes it from what a counter shows: demand =
//! utilisation / throughput. Kernels hold SMs, tensor pipes and DRAM at the same time, so their demands are
//! compared and never added.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Observation;

/// DRAM utilisation at which DRAM is full: what a device-to-device copy reads on an H100 (GPM, 2026-11-22). The
/// rest goes to refreshing and to turning between reads and writes.
pub const DRAM_CEILING: f64 = 0.84;

/// SM activity at which SMs are full: what eight streams read on an H200 (GPM, 2026-11-29) that gain nothing over four,
/// 0.97 to 0.995 with ResNet-50 at batches 8 to 128 and 0.94 with BERT-base at 16. The rest is where kernels begin and end.
pub const SM_CEILING: f64 = 0.97;

/// What a stage's median is worth: two measurements of the same configuration differ by about as much.
const MEASURED_UNCERTAINTY: f64 = 0.03;

/// GPM's counters are averages over a window whose edges do not fall on executions.
const COUNTED_UNCERTAINTY: f64 = 0.1;

/// Where the fill of the SMs is only bracketed.
const ESTIMATED_UNCERTAINTY: f64 = 0.5;

/// What an inference needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Host threads that submit executions, with the driver's lock that they share.
    SubmittingThread,
    /// The engine that copies from host to device.
    H2dEngine,
    /// The engine that copies from device to host.
    D2hEngine,
    /// Streaming multiprocessors.
    Sms,
    /// Tensor pipes of the SMs.
    TensorPipes,
    /// Memory of the device.
    Dram,
}

/// As the subject of a sentence, without an article.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SubmittingThread => "submitting thread",
            Self::H2dEngine => "H2D copy engine",
            Self::D2hEngine => "D2H copy engine",
            Self::Sms => "SMs",
            Self::TensorPipes => "tensor pipes",
            Self::Dram => "DRAM",
        })
    }
}

impl Resource {
    /// `the SMs are`, `DRAM is`: for a sentence that goes on with what they are.
    pub fn with_verb(self) -> String {
        match self {
            Self::Dram => "DRAM is".to_owned(),
            Self::Sms | Self::TensorPipes => format!("the {self} are"),
            Self::SubmittingThread | Self::H2dEngine | Self::D2hEngine => format!("the {self} is"),
        }
    }
}

/// Where a demand comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DemandSource {
    /// From times or counters of a measurement.
    Measured,
    /// From estimates: nothing measured says it directly.
    Estimated,
}

/// How much of one resource one inference takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    /// Seconds per inference.
    pub seconds: f64,
    /// Where it comes from.
    pub source: DemandSource,
    /// Relative uncertainty, one standard deviation.
    pub uncertainty: f64,
}

/// How much of every resource one inference takes, at one batch size; `None` where nothing tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceDemands {
    /// Host threads.
    pub submitting_thread: Option<Demand>,
    /// The H2D copy engine.
    pub h2d_engine: Option<Demand>,
    /// The D2H copy engine.
    pub d2h_engine: Option<Demand>,
    /// The SMs: compute time x the part of them that is filled.
    pub sms: Option<Demand>,
    /// Tensor pipes.
    pub tensor_pipes: Option<Demand>,
    /// DRAM, as a part of what it can really move.
    pub dram: Option<Demand>,
}

impl ServiceDemands {
    /// From one stream that ran alone. The fill of the SMs is bracketed: the share of SMs on which anything was
    /// resident is its upper end, what tensor pipes and DRAM certainly did is its lower one.
    pub fn of(alone: &Observation) -> Self {
        let batch = alone.configuration.batch_size as f64;
        let throughput = alone.throughput_inferences_per_s.value;
        let stage = |time: crate::units::Nanos| measured(time.as_seconds() / batch, MEASURED_UNCERTAINTY);
        let counters = alone.counters.as_ref();
        let counted =
            |part: Option<f64>| Some(measured(part?.clamp(0.0, 1.0) / throughput, COUNTED_UNCERTAINTY));
        let tensor_pipes = counted(counters.and_then(|counters| counters.tensor_activity));
        let dram = counted(counters.and_then(dram_fill));
        let resident = counters.and_then(|counters| counters.sm_activity).map(|part| part / throughput);
        let upper = resident.unwrap_or(f64::INFINITY).min(alone.stages.compute.as_seconds() / batch);
        let lower = [tensor_pipes, dram].iter().flatten().map(|demand| demand.seconds).fold(0.0, f64::max);
        Self {
            submitting_thread: Some(stage(alone.stages.enqueue)),
            h2d_engine: Some(stage(alone.stages.h2d)),
            d2h_engine: Some(stage(alone.stages.d2h)),
            sms: Some(estimated(lower.midpoint(upper.max(lower)))),
            tensor_pipes,
            dram,
        }
    }

    /// Every resource with what it is asked for, where that is known.
    pub fn all(&self) -> impl Iterator<Item = (Resource, Demand)> {
        let all = [
            (Resource::SubmittingThread, self.submitting_thread),
            (Resource::H2dEngine, self.h2d_engine),
            (Resource::D2hEngine, self.d2h_engine),
            (Resource::Sms, self.sms),
            (Resource::TensorPipes, self.tensor_pipes),
            (Resource::Dram, self.dram),
        ];
        all.into_iter().filter_map(|(resource, demand)| Some((resource, demand?)))
    }

    /// The resource that is asked for longest, and for how long. Where DRAM or the tensor pipes are nearly as busy
    /// as the SMs, they are named: an SM that waits for them is busy too.
    pub fn largest(&self) -> Option<(Resource, Demand)> {
        let (resource, demand) = self.all().max_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds))?;
        if resource != Resource::Sms {
            return Some((resource, demand));
        }
        let behind = [(Resource::Dram, self.dram), (Resource::TensorPipes, self.tensor_pipes)];
        let causes = behind.into_iter().filter_map(|(resource, demand)| Some((resource, demand?)));
        let cause = causes.max_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds));
        Some(cause.filter(|(_, cause)| cause.seconds >= CAUSE * demand.seconds).unwrap_or((resource, demand)))
    }
}

/// From this part of the SMs' demand on, what they wait for counts as the cause: kernels start and end with
/// phases that use neither DRAM nor tensor pipes.
const CAUSE: f64 = 0.85;

/// How full DRAM was, 1 being what it can really move.
pub(super) fn dram_fill(counters: &crate::backend::Counters) -> Option<f64> {
    counters.dram_utilisation.map(|utilisation| utilisation / DRAM_CEILING)
}

/// How full the SMs were, 1 being what kernels of several streams can fill. A simulated device counts without a source.
pub(super) fn sm_fill(counters: &crate::backend::Counters) -> Option<f64> {
    let ceiling = counters.source.map_or(1.0, |_| SM_CEILING);
    counters.sm_activity.map(|activity| activity / ceiling)
}

/// A demand that was measured.
pub(super) fn measured(seconds: f64, uncertainty: f64) -> Demand {
    Demand { seconds, source: DemandSource::Measured, uncertainty }
}

/// A demand that is bracketed or calculated.
pub(super) fn estimated(seconds: f64) -> Demand {
    Demand { seconds, source: DemandSource::Estimated, uncertainty: ESTIMATED_UNCERTAINTY }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Counters;
    use crate::capacity::synthetic::{alone, with_counters};

    #[test]
    fn demand_is_utilisation_over_throughput() {
        // 400 inferences/s at batch 4, so 100 executions/s.
        let counters = Counters {
            sm_activity: Some(0.6),
            tensor_activity: Some(0.2),
            dram_utilisation: Some(0.42),
            ..Counters::default()
        };
        let demands = ServiceDemands::of(&with_counters(alone(4, 400.0), counters));
        let seconds = |demand: Option<Demand>| demand.unwrap().seconds;
        assert!((seconds(demands.tensor_pipes) - 0.0005).abs() < 1e-12);
        // 42 % of the data sheet is half of what DRAM can do.
        assert!((seconds(demands.dram) - 0.00125).abs() < 1e-12);
        assert!((seconds(demands.sms) - (0.00125 + 0.0015) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn what_the_sms_wait_for_is_named_instead_of_them() {
        let sms = Some(estimated(1.0));
        let waiting = ServiceDemands { sms, dram: Some(estimated(0.9)), ..ServiceDemands::default() };
        assert_eq!(waiting.largest().unwrap().0, Resource::Dram);
        let busy = ServiceDemands { sms, dram: Some(estimated(0.5)), ..ServiceDemands::default() };
        assert_eq!(busy.largest().unwrap().0, Resource::Sms);
        assert_eq!(ServiceDemands::default().largest(), None);
    }
}
