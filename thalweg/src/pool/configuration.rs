//! The knobs of a pool.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::backend::{
    CudaGraph, DeviceSpec, Engine, EngineMemory, ExecutorSpec, PlantedFault, TimesTaken, Transfers, Wait,
};
use crate::error::{Error, Result};
use crate::model::Signature;
use crate::units::{Clock, Nanos};

/// Everything that is chosen about a pool: what the tuner searches and a `TunedConfig` stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Executors, each with its own stream.
    pub streams: usize,
    /// Samples that one execution runs at most.
    pub batch_size: usize,
    /// The smallest execution that is prepared for a slot that is not full: of so many samples, twice as many and so on up to
    /// the batch size, of which it runs as the smallest that holds it. No fewer samples than the engine can run. `None`: as a
    /// full one. Engines that prepare nothing run any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest_batch: Option<usize>,
    /// Slots of each executor: executions it may have in flight or being filled.
    pub depth: usize,
    /// Host threads that drive the executors.
    pub submitters: usize,
    /// Host threads that compute for each stream; only the `cpu` backend uses them.
    pub threads_per_stream: usize,
    /// What is captured as a CUDA graph.
    #[serde(default)]
    pub cuda_graph: CudaGraph,
    /// Pairs of copy streams, to the device and back, that all executors share in turn; `None` gives each executor a
    /// pair of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_lanes: Option<usize>,
    /// How submitters wait for executions to end.
    #[serde(default)]
    pub wait: Wait,
    /// Whether executions copy. Off is for measuring only: what is asked for does not come out then.
    #[serde(default)]
    pub transfers: Transfers,
    /// Of which executions the times of stages are taken. It changes what a measurement tells, and what that costs the host;
    /// no search varies it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stage_times: TimesTaken,
    /// How long a slot that is not full waits for more samples, counted from its first one.
    #[serde(rename = "batching_delay_ns")]
    pub batching_delay: Nanos,
    /// What is done wrong on purpose. For tests of the diagnosis only; no other place sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<PlantedFault>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for Configuration {
    /// One stream, one sample, two slots so that one is filled while the other runs.
    fn default() -> Self {
        Self {
            streams: 1,
            batch_size: 1,
            smallest_batch: None,
            depth: 2,
            submitters: 1,
            threads_per_stream: 1,
            cuda_graph: CudaGraph::Off,
            copy_lanes: None,
            wait: Wait::Block,
            transfers: Transfers::On,
            stage_times: TimesTaken::Each,
            batching_delay: Nanos::ZERO,
            fault: None,
        }
    }
}

/// Where requests are small, executions down to this part of the batch are prepared: each size takes an execution context for
/// each slot that has a graph. Smaller ones answer lone requests sooner still: ResNet-50 at batch 128 on an H200 190 a second
/// with full executions, 727 with those of 16 samples, 1,024 with those of one (docs/benchmarks.md, "Small requests").
const SMALLEST_PART: usize = 8;

impl Configuration {
    /// The same for requests of so many samples, which leave slots open where they do not fill them: with executions for
    /// such slots, from the size of a request or an eighth of the batch size on.
    #[must_use]
    pub fn for_requests_of(self, samples: usize) -> Self {
        let smallest = samples.max(self.batch_size / SMALLEST_PART).max(1);
        Self { smallest_batch: Some(smallest).filter(|smallest| *smallest < self.batch_size), ..self }
    }

    /// The same with executions for slots that are not full, down to so many samples.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for cores, which run any number of samples.
    pub fn with_smallest_batch(self, smallest: usize, device: &DeviceSpec) -> Result<Self> {
        if device.is_host() {
            return Err(Error::InvalidSetting {
                name: "smallest-batch",
                value: smallest.to_string(),
                reason: "cores run any number of samples: nothing is prepared for one".to_owned(),
            });
        }
        Ok(Self { smallest_batch: Some(smallest), ..self })
    }

    /// Sizes of executions that are prepared where the engine runs at least so many samples.
    pub(crate) fn batch_steps(&self, least: usize) -> Vec<usize> {
        let smallest = self.smallest_batch.map(|smallest| smallest.max(least));
        let steps = std::iter::successors(smallest, |step| step.checked_mul(2));
        steps.take_while(|step| *step < self.batch_size).chain([self.batch_size]).collect()
    }

    /// Device memory that an engine takes with it; `None` where the device has none of its own.
    ///
    /// # Errors
    /// Where the device does not tell.
    pub fn memory(&self, engine: &dyn Engine) -> Result<Option<EngineMemory>> {
        engine.memory(&self.executor_spec(engine.signature(), Clock::start()))
    }

    /// What is asked of an engine for it.
    pub(crate) fn executor_spec(&self, signature: &Signature, clock: Clock) -> ExecutorSpec {
        ExecutorSpec {
            streams: self.streams,
            depth: self.depth,
            batch_size: self.batch_size,
            batch_steps: self.batch_steps(*signature.batch_sizes.start()),
            threads_per_stream: self.threads_per_stream,
            cuda_graph: self.cuda_graph,
            copy_lanes: self.copy_lanes,
            wait: self.wait,
            transfers: self.transfers,
            stage_times: self.stage_times,
            fault: self.fault,
            clock,
        }
    }

    /// Checks the knobs against each other and against what the engine can run.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] naming the knob.
    pub fn check(&self, signature: &Signature) -> Result<()> {
        let counts = [
            ("streams", self.streams),
            ("batch", self.batch_size),
            ("depth", self.depth),
            ("submitters", self.submitters),
            ("threads-per-stream", self.threads_per_stream),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(invalid(name, 0, "must be at least 1".to_owned()));
        }
        if self.submitters > self.streams {
            let reason = format!("there are only {} streams to drive", self.streams);
            return Err(invalid("submitters", self.submitters, reason));
        }
        self.check_copy_lanes()?;
        let possible = &signature.batch_sizes;
        if !possible.contains(&self.batch_size) {
            let reason = format!("the engine runs {} to {} samples", possible.start(), possible.end());
            return Err(invalid("batch", self.batch_size, reason));
        }
        let out_of_room = |smallest: &usize| !(1..=self.batch_size).contains(smallest);
        if let Some(smallest) = self.smallest_batch.filter(out_of_room) {
            let reason = format!("a slot has room for 1 to {} samples", self.batch_size);
            return Err(invalid("smallest-batch", smallest, reason));
        }
        if self.transfers == Transfers::Off && self.cuda_graph == CudaGraph::Copies {
            let reason = "a graph of copies has them inside: use --cuda-graph compute or off".to_owned();
            return Err(invalid("transfers", self.transfers, reason));
        }
        Ok(())
    }

    fn check_copy_lanes(&self) -> Result<()> {
        let Some(lanes) = self.copy_lanes else { return Ok(()) };
        let reason = if lanes == 0 {
            "must be at least 1".to_owned()
        } else if lanes > self.streams {
            format!("there are only {} streams to share them", self.streams)
        } else if self.cuda_graph == CudaGraph::Copies {
            "a graph of copies has them inside: use --cuda-graph compute or off".to_owned()
        } else {
            return Ok(());
        };
        Err(invalid("copy-lanes", lanes, reason))
    }
}

fn invalid(name: &'static str, value: impl fmt::Display, reason: String) -> Error {
    Error::InvalidSetting { name, value: value.to_string(), reason }
}

/// `2 streams x batch 4, 1 thread per stream`; the other knobs only where they are not the default, since hardly
/// anybody turns them.
impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = Self::default();
        write!(f, "{} x batch {}", counted(self.streams, "stream"), self.batch_size)?;
        if let Some(smallest) = self.smallest_batch {
            write!(f, " down to {smallest}")?;
        }
        write!(f, ", {} per stream", counted(self.threads_per_stream, "thread"))?;
        if self.cuda_graph != default.cuda_graph {
            write!(f, ", graph of {}", self.cuda_graph)?;
        }
        if let Some(lanes) = self.copy_lanes {
            write!(f, ", {}", counted(lanes, "copy lane"))?;
        }
        if self.depth != default.depth {
            write!(f, ", depth {}", self.depth)?;
        }
        if self.submitters != default.submitters {
            write!(f, ", {}", counted(self.submitters, "submitter"))?;
        }
        if self.wait != default.wait {
            write!(f, ", {} wait", self.wait)?;
        }
        if self.transfers != default.transfers {
            f.write_str(", without transfers")?;
        }
        if self.batching_delay != default.batching_delay {
            write!(f, ", batching delay {}", self.batching_delay)?;
        }
        if let Some(fault) = self.fault {
            write!(f, ", planted fault {fault}")?;
        }
        Ok(())
    }
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
