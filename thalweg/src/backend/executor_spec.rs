//! What a pool asks of an engine's executors: how many, of what shape, and how they are driven.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::PlantedFault;
use crate::units::Clock;

/// How many executors to make, and of what shape.
#[derive(Clone, Debug)]
pub struct ExecutorSpec {
    /// Number of executors.
    pub streams: usize,
    /// Slots of each executor.
    pub depth: usize,
    /// Samples that a slot has room for.
    pub batch_size: usize,
    /// Sizes of executions, in samples, ascending, the last one `batch_size`: what is prepared where an engine
    /// [prepares executions](super::Engine::prepares_executions).
    pub batch_steps: Vec<usize>,
    /// Host threads that compute for each executor; only the `cpu` backend uses them.
    pub threads_per_stream: usize,
    /// What is captured as a CUDA graph; `cpu` knows only [`CudaGraph::Off`].
    pub cuda_graph: CudaGraph,
    /// Pairs of copy streams that the executors share in turn; `None` for a pair of each executor's own. `cpu` knows only
    /// that.
    pub copy_lanes: Option<usize>,
    /// How the submitter will wait.
    pub wait: Wait,
    /// Whether executions copy; `cpu` knows only [`Transfers::On`].
    pub transfers: Transfers,
    /// Of which executions the times of stages are taken.
    pub stage_times: TimesTaken,
    /// What is done wrong on purpose; executors plant what the device's driver has to do with.
    pub fault: Option<PlantedFault>,
    /// The clock of all times in completions.
    pub clock: Clock,
}

/// What is replayed as a CUDA graph, which costs the host one call instead of one for each kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CudaGraph {
    /// Nothing: every kernel is launched by itself.
    #[default]
    Off,
    /// The kernels. Copies go on streams of their own and overlap with other executions of the executor.
    Compute,
    /// Kernels and copies, in the order of one stream: executions overlap across executors only.
    Copies,
}

impl CudaGraph {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Off, Self::Compute, Self::Copies];
}

/// `off`, `compute` or `copies`, as on the command line.
impl fmt::Display for CudaGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Compute => "compute",
            Self::Copies => "copies",
        })
    }
}

/// How a submitter waits for its executors. In virtual time it makes no difference: there a completion is seen at
/// the moment that the device model gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// It sleeps until an executor has finished something: no core is busy, but a completion is seen some ten
    /// microseconds late.
    #[default]
    Block,
    /// It asks again and again while something runs, which keeps one core busy for each submitter.
    Spin,
    /// It asks for a short time, then sleeps.
    Hybrid,
}

impl Wait {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Block, Self::Spin, Self::Hybrid];
}

/// `block`, `spin` or `hybrid`, as on the command line.
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Block => "block",
            Self::Spin => "spin",
            Self::Hybrid => "hybrid",
        })
    }
}

/// Of which executions the times of their stages on the device are taken, where that costs something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimesTaken {
    /// Of each one, as a timeline and a diagnosis need it.
    #[default]
    Each,
    /// Of one in ten milliseconds of each stream, which tells what stages take. On a GPU it saves marks and readings, some
    /// twenty microseconds of CPU time of an execution; backends where times cost nothing take all.
    Some,
}

impl TimesTaken {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Each, Self::Some];
}

/// `each` or `some`, as on the command line.
impl fmt::Display for TimesTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Each => "each",
            Self::Some => "some",
        })
    }
}

/// Whether executions copy their inputs to the device and their outputs back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transfers {
    /// Each does.
    #[default]
    On,
    /// Only a slot's first, so that there is something to compute on and something to compare. Later ones compute on
    /// what that one has left on the device, and a response keeps its outputs. It shows what the device computes
    /// without the bus; nothing that was asked for later comes out.
    Off,
}

impl Transfers {
    /// Both.
    pub const ALL: [Self; 2] = [Self::On, Self::Off];
}

/// `on` or `off`, as on the command line.
impl fmt::Display for Transfers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}
