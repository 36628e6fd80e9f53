//! The cases of `suite/real.json`: what is run, and what is changed in turn to find out what limits it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thalweg::backend::{CudaGraph, PlantedFault, Precision, Transfers};
use thalweg::diagnose::{Setup, Verdict};
use thalweg::measure::{Arrival, Feeding, Load, Workload};
use thalweg::model::zoo::Network;
use thalweg::pool::Configuration;

/// One way to run one engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub network: Network,
    pub precision: Precision,
    pub streams: usize,
    pub batch: usize,
    #[serde(default = "two")]
    pub depth: usize,
    #[serde(default)]
    pub cuda_graph: CudaGraph,
    /// Requests outstanding; `None` for as many as there are slots.
    #[serde(default)]
    pub concurrency: Option<usize>,
    #[serde(default)]
    pub fault: Option<PlantedFault>,
    /// What whoever wrote the case down expects. The label is what the ablations say.
    pub expected: Verdict,
}

fn two() -> usize {
    2
}

/// The file of the suite.
pub fn suite_path() -> PathBuf {
    Path::new("suite/real.json").to_path_buf()
}

impl Case {
    /// The name of its engine's file.
    pub fn engine(&self) -> String {
        format!("{}-{}", self.network, self.precision)
    }

    /// `resnet50-fp16 4x8 graph compute, pageable`
    pub fn name(&self) -> String {
        let mut name = format!("{} {}x{}", self.engine(), self.streams, self.batch);
        if self.cuda_graph != CudaGraph::Off {
            name += &format!(" graph {}", self.cuda_graph);
        }
        if let Some(count) = self.concurrency {
            name += &format!(", {count} outstanding");
        }
        if let Some(fault) = self.fault {
            name += &format!(", {fault}");
        }
        name
    }

    /// Half of all names, by a hash of the name (FNV-1a, folded).
    pub fn is_tuned_on(&self) -> bool {
        let hash = self.name().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        (hash ^ (hash >> 32)) & 1 == 0
    }

    /// As it runs. A simulated device and a CPU have no driver to do anything wrong with, and a CPU no graphs.
    pub fn setup(&self, workload: &Workload) -> Setup {
        let has_driver = workload.device.backend == "tensorrt";
        let is_host = workload.device.is_host();
        let fault = self.fault.filter(|fault| {
            has_driver || !matches!(fault, PlantedFault::PageableMemory | PlantedFault::DefaultStream)
        });
        let configuration = Configuration {
            streams: self.streams,
            batch_size: self.batch,
            depth: self.depth,
            cuda_graph: if is_host { CudaGraph::Off } else { self.cuda_graph },
            fault,
            ..Configuration::default()
        };
        let outstanding = self.concurrency.unwrap_or(self.streams * self.depth);
        let load = Load { arrival: Arrival::Concurrency(outstanding), samples_per_request: self.batch };
        Setup::new(configuration, workload.feeding, load)
    }
}

/// A setup with one thing moved out of the way.
#[derive(Clone, Debug)]
pub struct Ablation {
    pub what: &'static str,
    /// What limits the workload if this makes it faster; `None` where it only tells whether the device is full.
    pub verdict: Option<Verdict>,
    pub setup: Setup,
}

/// Twice the batch, on top of a graph: what launching costs is no matter of the batch.
pub const LARGER_BATCH: &str = "batch x2, with graph";

/// The graph that [`LARGER_BATCH`] is compared with, where the setup has none.
pub const GRAPH: &str = "graph of compute";

/// Everything that the host and the bus do moved out of the way, and twice the streams.
pub const EVERYTHING: &str = "all of them";

/// What is moved out of the way of a setup, each by itself, and then everything together.
pub fn ablations(setup: &Setup, workload: &Workload) -> Vec<Ablation> {
    let is_host = workload.device.is_host();
    let base = setup.configuration;
    let mut ablations = Vec::new();
    let mut add = |what, verdict, setup| ablations.push(Ablation { what, verdict, setup });
    let with = |configuration: Configuration| setup.with(configuration);
    let graph = if is_host { CudaGraph::Off } else { CudaGraph::Compute };
    let full = Arrival::Concurrency(base.streams * base.depth);

    add("inputs resident", Some(Verdict::InputStarved), Setup { feeding: Feeding::Resident, ..*setup });
    if setup.load.arrival != full {
        let load = Load { arrival: full, ..setup.load };
        add("slots all asked for", Some(Verdict::InputStarved), Setup { load, ..*setup });
    }
    if let Some(fault) = base.fault {
        let sound = with(Configuration { fault: None, ..base });
        add("fault removed", Some(verdict_of(fault)), sound);
    }
    if !is_host {
        let resident = Setup { feeding: Feeding::Resident, ..*setup };
        let silent = Configuration { transfers: Transfers::Off, ..base };
        add("transfers off", Some(Verdict::TransferBound), resident.with(silent));
    }
    if base.cuda_graph == CudaGraph::Off && !is_host {
        let captured = Configuration { cuda_graph: graph, ..base };
        add(GRAPH, Some(Verdict::EnqueueBound), with(captured));
    }
    if base.streams > 1 {
        let submitters = Configuration { submitters: 2, ..base };
        add("submitters x2", Some(Verdict::EnqueueBound), with(submitters));
    }
    let deeper = Configuration { depth: 2 * base.depth, ..base };
    add("slots x2", Some(Verdict::SynchronisationBound), with(deeper));
    let streams = Configuration { streams: 2 * base.streams, ..base };
    add("streams x2", Some(Verdict::Underfilled), with(streams));
    let larger = Configuration { batch_size: 2 * base.batch_size, cuda_graph: graph, ..base };
    if workload.engine.signature().batch_sizes.contains(&larger.batch_size) {
        add(LARGER_BATCH, None, with(larger));
    }
    let transfers = if is_host { Transfers::On } else { Transfers::Off };
    let free = Configuration { cuda_graph: graph, transfers, fault: None, ..streams };
    let everything =
        Setup { load: Load { arrival: full, ..setup.load }, feeding: Feeding::Resident, ..*setup };
    let free = Configuration { submitters: free.streams.min(4), ..free };
    add(EVERYTHING, None, everything.with(free));
    ablations
}

fn verdict_of(fault: PlantedFault) -> Verdict {
    match fault {
        PlantedFault::PageableMemory => Verdict::TransferBound,
        PlantedFault::DefaultStream | PlantedFault::WaitPerItem => Verdict::SynchronisationBound,
        PlantedFault::SlowFeed(_) => Verdict::InputStarved,
    }
}
