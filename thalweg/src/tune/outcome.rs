//! What a search found, as plain data.

use serde::{Deserialize, Serialize};

use super::Sweep;
use crate::backend::DeviceSpec;
use crate::capacity::{Curve, Prediction};
use crate::engine::EngineSource;
use crate::measure::{Estimate, LatencySummary, Measurement};
use crate::model::{ModelIdentity, Signature};
use crate::pool::Configuration;
use crate::units::Nanos;

/// Version of [`TuneOutcome`]'s format.
pub const OUTCOME_VERSION: u32 = 1;

/// What the winner has to respect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Largest 99th percentile of the latency, from the intended send time to readable outputs.
    #[serde(rename = "p99_ns")]
    pub p99: Option<Nanos>,
    /// Most memory in bytes: of a device that has its own, as predicted; else of the process.
    pub memory_bytes: Option<u64>,
}

/// What is known about a candidate and the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compliance {
    /// It keeps every limit, with 95 % confidence.
    Keeps,
    /// It breaks one, with 95 % confidence.
    Breaks,
    /// Too few records to say.
    Unproven,
}

/// A latency below this part of another is worth a throughput that is smaller by no more than the search cares for:
/// what differs by less may be noise.
const CALMER: f64 = 0.9;

/// Whether a latency is shorter than another by enough to matter.
pub(super) fn is_calmer(latency: Nanos, than: Nanos) -> bool {
    latency.as_seconds() < CALMER * than.as_seconds()
}

/// Why a candidate was measured no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It won.
    Winner,
    /// Still in the race when the search ended.
    Contender,
    /// It left the race: it was slower than another one with 95 % confidence, or by far in a single slice, or, where
    /// speeds are predicted, there was next to nothing to be hoped for.
    Slower,
    /// It breaks a limit.
    OverLimit,
    /// It could not run; the text is in the candidate.
    Failed,
    /// The search ended before it was measured.
    NotMeasured,
    /// Predicted to be slower than the best one known with so little doubt that it was not measured.
    Unpromising,
    /// It was not measured: it needs more of the device's memory than there is, or than the limit allows; the text is in
    /// the candidate.
    DoesNotFit,
    /// Outside the space; measured only to compare the winner with it.
    Baseline,
}

/// One configuration and all that was measured of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The configuration.
    pub configuration: Configuration,
    /// How many slices of the search it was measured in.
    pub slice_count: usize,
    /// Inferences per second over all its slices; `None` before the first.
    pub throughput_inferences_per_s: Option<Estimate>,
    /// Latencies over all its slices.
    pub latency: Option<LatencySummary>,
    /// Whether it keeps the limits.
    pub compliance: Compliance,
    /// Where it stands.
    pub standing: Standing,
    /// Why it could not run.
    pub failure: Option<String>,
    /// What was predicted for it before it was measured; `None` where nothing was known then, and for devices
    /// whose slices say nothing to predict from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Prediction>,
}

/// Why the search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// One candidate was left, or those left cannot be told apart by more than the search cares for.
    Decided,
    /// The time was up.
    TimeUp,
    /// The user stopped it.
    Interrupted,
}

/// The result of `tune`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TuneOutcome {
    /// [`OUTCOME_VERSION`].
    pub schema_version: u32,
    /// What was tuned.
    pub model: ModelIdentity,
    /// What it takes to have its engine again; files of earlier versions lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineSource>,
    /// Where.
    pub device: DeviceSpec,
    /// Its inputs and outputs; files of earlier versions lack them.
    #[serde(default)]
    pub signature: Option<Signature>,
    /// Under which limits.
    pub limits: Limits,
    /// Size of requests; `None` is a whole batch each.
    pub samples_per_request: Option<usize>,
    /// How long the search took.
    #[serde(rename = "search_time_ns")]
    pub search_time: Nanos,
    /// Why it ended.
    pub ending: Ending,
    /// Every candidate, best first; those over a limit after those that keep them.
    pub candidates: Vec<Candidate>,
    /// Index of the best in `candidates`; `None` where nothing keeps the limits.
    pub winner: Option<usize>,
    /// The second best, and the winner's throughput over its throughput.
    pub runner_up: Option<Comparison>,
    /// The default that the winner is compared with ([`baseline`](super::baseline), with requests that fit into its batch), and
    /// the winner's throughput over its throughput.
    pub baseline: Option<Comparison>,
    /// Indices of the candidates that no other beats in both throughput and p99 (or the largest latency
    /// where p99 is not known), by rising throughput.
    pub pareto: Vec<usize>,
    /// One sentence that says what won and why.
    pub verdict: String,
    /// Predictions for the winner with other numbers of streams, from all that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curve: Option<Curve>,
    /// The winner, measured once more at length, with records for the timeline.
    pub confirmation: Option<Measurement>,
    /// How many measurements were made while heat or the like held the device back, though they were repeated once.
    #[serde(default)]
    pub disturbed_slices: usize,
    /// All candidates measured, where that was asked for after the search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
}

/// The winner against another candidate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Index of the other in `candidates`.
    pub candidate: usize,
    /// The winner's throughput over the other's. Measured in interleaved slices of one run.
    pub ratio: Estimate,
}
