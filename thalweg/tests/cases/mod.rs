//! Simulated workloads with one known limit each: what a diagnosis is judged by.
//!
//! A case follows from its seed: a network on a device whose parameters are off from the preset, one resource of it
//! often made scarce, run in some configuration under some load. The truth comes from the simulator and not from the
//! rules: every limit is moved to twice as far in turn, and the label is the one that gains most.

#![allow(dead_code, reason = "the benchmark and the test use a part of it each")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::devices::{CLOCK_SETTLES, Least, drawn};
use crate::verdicts;

use serde::{Deserialize, Serialize};
use thalweg::backend::simulated::{Parameters, SimulatedBackend};
use thalweg::backend::{Counters, CudaGraph};
use thalweg::diagnose::{self, Evidence, Judgement, Limit, Setup, Verdict, judge};
use thalweg::engine::MaxBatch;
use thalweg::measure::{Arrival, Load, Measurement, Observing, Pacing, StopSignal, Workload, WorkloadSpec};
use thalweg::model::Model;
use thalweg::model::zoo::Network;
use thalweg::pool::Configuration;
use thalweg::random::Random;
use thalweg::units::Bytes;

/// Time of a look, and executions of each stream in it at least: noise is 0.3 % then.
const LOOK: (Duration, usize) = (Duration::from_secs(1), 120);

/// Seeds from here on draw what is rare among the others: a host that looks seldom, and kernels that fill the device
/// while they run, so that streams which wait for the host are what is missing, and not more of them.
pub const SELDOM_LOOKED_AT: u64 = 10_000;

/// Networks whose kernels do so on most devices.
const FULL_KERNELS: [Network; 4] =
    [Network::Compute, Network::Memory, Network::Balanced, Network::MobilenetV2];

/// One workload on one device.
pub struct Case {
    pub seed: u64,
    pub network: Network,
    parameters: Parameters,
    pub configuration: Configuration,
    load: Load,
}

/// What a case is and what is true of it, as the suite's file keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Labelled {
    pub seed: u64,
    /// For people.
    pub what: String,
    pub label: Verdict,
    /// Whether rules and constants were chosen with a look at it; the others were only evaluated.
    pub is_tuned_on: bool,
    /// Throughput with each limit twice as far over the throughput as it is.
    pub gains: Vec<(Limit, f64)>,
}

impl Labelled {
    /// All verdicts that are right.
    pub fn right(&self) -> Vec<Verdict> {
        verdicts::right(&by_verdict(&self.gains))
    }
}

fn by_verdict(gains: &[(Limit, f64)]) -> Vec<(Verdict, f64)> {
    gains.iter().map(|(limit, gain)| (Verdict::of(*limit), *gain)).collect()
}

/// The file of the suite.
pub fn suite_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../suite/simulated.json")
}

/// The suite, as it was labelled.
pub fn suite() -> Vec<Labelled> {
    let text = std::fs::read_to_string(suite_path()).expect("the suite's file");
    serde_json::from_str(&text).expect("the suite's file is a list of cases")
}

/// Half of all seeds, by the last step of SplitMix64.
pub fn is_tuned_on(seed: u64) -> bool {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ (bits >> 31)) & 1 == 0
}

impl Case {
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6469_6167_6e6f_7365);
        // Without the one whose weights take longer to write than the device takes to simulate.
        let networks = Network::ALL.into_iter().filter(|network| *network != Network::BertBase);
        let networks: Vec<Network> = networks.collect();
        let mut network = networks[random.below(networks.len())];
        if seed >= SELDOM_LOOKED_AT {
            network = FULL_KERNELS[random.below(FULL_KERNELS.len())];
        }

        let mut parameters = drawn(&mut random, &Least { copy_efficiency: 0.4, sustained_clock: 0.8 });
        // Twice of anything fits.
        parameters.sheet.memory = Bytes(1 << 50);
        let mut configuration = Configuration {
            streams: [1, 2, 4, 8][random.below(4)],
            batch_size: [1, 2, 4, 8, 16, 32][random.below(6)],
            depth: [1, 2, 2, 2][random.below(4)],
            cuda_graph: CudaGraph::ALL[random.below(3)],
            ..Configuration::default()
        };
        configuration.submitters = [1, 1, 1, 2][random.below(4)].min(configuration.streams);
        if seed >= SELDOM_LOOKED_AT {
            configuration.batch_size = configuration.batch_size.max(8);
        }
        let kind = if seed >= SELDOM_LOOKED_AT { Scarce::Looks } else { Scarce::of(random.below(8)) };
        make_scarce(&mut parameters, &mut configuration, kind, &mut random);
        let full = configuration.streams * configuration.depth;
        let load = |arrival| Load { arrival, samples_per_request: configuration.batch_size };
        let mut case =
            Self { seed, network, parameters, configuration, load: load(Arrival::Concurrency(full)) };
        if seed >= SELDOM_LOOKED_AT {
            // As long as kernels run, more or less, nobody looks whether they have ended.
            let compute = case.measure().stages.compute.as_seconds();
            case.parameters.host.wake_s = compute * (0.3 + random.unit());
            return case;
        }
        case.load = match random.below(6) {
            0 => {
                let share = 0.3 + 0.6 * random.unit();
                let capacity = case.throughput() / configuration.batch_size as f64;
                load(Arrival::ConstantRate((capacity * share * 100.0).round() / 100.0))
            }
            1 if full > 1 => load(Arrival::Concurrency(1 + random.below(full - 1))),
            _ => case.load,
        };
        case
    }

    /// `resnet50 on l4, 4 streams x batch 2, …`
    pub fn what(&self) -> String {
        format!("{} on {}, {}; {}", self.network, self.parameters.sheet.key, self.configuration, self.load)
    }

    /// Moves every limit to twice as far, and names the one that gains most.
    pub fn labelled(&self) -> Labelled {
        let base = self.throughput();
        let gains: Vec<(Limit, f64)> = Limit::ALL
            .into_iter()
            .map(|limit| (limit, ((self.doubled(limit).throughput() / base) * 1e3).round() / 1e3))
            .collect();
        let label = verdicts::label(&by_verdict(&gains));
        let is_tuned_on = is_tuned_on(self.seed);
        Labelled { seed: self.seed, what: self.what(), label, is_tuned_on, gains }
    }

    /// What the rules say.
    pub fn judged(&self) -> (Judgement, Evidence) {
        let evidence = Evidence::of(&self.measure());
        (judge(&evidence, &self.configuration), evidence)
    }

    /// The same with counters that nobody may read, and with clocks but without GPM, as before Hopper, beside what the
    /// rules say of the same measurement with all of them.
    pub fn judged_with_less(&self) -> (Judgement, [Judgement; 2]) {
        let measured = self.measure();
        let judged = |measurement: &Measurement| judge(&Evidence::of(measurement), &self.configuration);
        let whole = judged(&measured);
        let known = measured.counters.clone().unwrap_or_default();
        let counters = Counters {
            sm_clock_mhz: known.sm_clock_mhz,
            sm_clock_max_mhz: known.sm_clock_max_mhz,
            throttle_reasons: known.throttle_reasons,
            unavailable: Some("this GPU has no GPM".to_owned()),
            ..Counters::default()
        };
        let without_counters = judged(&Measurement { counters: None, ..measured.clone() });
        (whole, [without_counters, judged(&Measurement { counters: Some(counters), ..measured })])
    }

    /// Tries the first remedy: what was predicted of it and what it gave; `None` where none is worth trying.
    pub fn first_remedy(&self) -> Option<(f64, f64)> {
        // Room for the batches that remedies ask for.
        let batch = 4 * self.configuration.batch_size;
        let workload = workload(self.network, self.parameters, batch);
        let case = diagnose::Case {
            workload: &workload,
            setup: Setup::new(self.configuration, workload.feeding, self.load),
            pacing: Pacing::default(),
            tries: 1,
            rounds: diagnose::ROUNDS,
            seed: self.seed,
            model: Err("there is no model"),
            recording: Observing::On,
            rebuild: Err("nobody builds other engines here"),
        };
        let diagnosis = diagnose::diagnose(&case, &StopSignal::default(), &mut |_| {}).expect("it runs");
        diagnosis.remedies.iter().find_map(|it| Some((it.predicted.value, it.ratio()?.value)))
    }

    pub fn throughput(&self) -> f64 {
        self.measure().throughput_inferences_per_s.value
    }

    pub fn measure(&self) -> Measurement {
        let workload = workload(self.network, self.parameters, self.configuration.batch_size);
        let sample_s = workload.reference.sample_time().as_seconds();
        let executions = (LOOK.1 * self.configuration.streams) as f64;
        let least = sample_s * self.configuration.batch_size as f64 * executions;
        let window = LOOK.0.max(Duration::from_secs_f64(least));
        let pacing =
            Pacing { warm_up: (window / 5).max(CLOCK_SETTLES), window, max_windows: 1, longest: None };
        let experiment = workload.experiment(self.configuration, self.load, pacing);
        experiment.run(&StopSignal::default()).expect("it runs")
    }

    fn doubled(&self, limit: Limit) -> Self {
        let mut case = Self { seed: self.seed, network: self.network, parameters: self.parameters, ..*self };
        let Parameters { sheet, host, copies, clock, .. } = &mut case.parameters;
        match limit {
            Limit::Input => {
                case.load.arrival = match case.load.arrival {
                    Arrival::Concurrency(count) => Arrival::Concurrency(2 * count),
                    Arrival::ConstantRate(rate) => Arrival::ConstantRate(2.0 * rate),
                    Arrival::PoissonRate(rate) => Arrival::PoissonRate(2.0 * rate),
                };
            }
            Limit::Submission => {
                host.execution_s /= 2.0;
                host.launch_s /= 2.0;
                host.graph_launch_s /= 2.0;
            }
            Limit::Copies => {
                sheet.pcie_bytes_per_s *= 2.0;
                copies.latency_s /= 2.0;
            }
            Limit::Clock => clock.sustained = (2.0 * clock.sustained).min(1.0),
            // No simulated host or device lets executions wait for each other.
            Limit::Barriers => {}
            Limit::Slots => case.configuration.depth *= 2,
            Limit::Dram => sheet.dram_bytes_per_s *= 2.0,
            Limit::Sms => {
                sheet.sm_count *= 2;
                sheet.fp16_flops_per_s *= 2.0;
                sheet.fp32_flops_per_s *= 2.0;
            }
            Limit::Streams => case.configuration.streams *= 2,
        }
        // More slots are of use only to a loop that fills them.
        let slots = |it: &Configuration| it.streams * it.depth;
        if matches!(self.load.arrival, Arrival::Concurrency(count) if count >= slots(&self.configuration)) {
            let Arrival::Concurrency(count) = &mut case.load.arrival else { unreachable!("a closed loop") };
            *count = (*count).max(slots(&case.configuration));
        }
        case
    }
}

/// What is short.
#[derive(Clone, Copy)]
enum Scarce {
    Bus,
    Dram,
    Host,
    Power,
    Looks,
    Tensor,
    Nothing,
}

impl Scarce {
    /// By the throw of a die with eight sides.
    fn of(throw: usize) -> Self {
        match throw {
            0 => Self::Bus,
            1 => Self::Dram,
            2 => Self::Host,
            3 => Self::Power,
            4 => Self::Looks,
            5 => Self::Tensor,
            _ => Self::Nothing,
        }
    }
}

/// Often one thing is short, as on a machine that somebody asks about.
fn make_scarce(
    parameters: &mut Parameters,
    configuration: &mut Configuration,
    kind: Scarce,
    random: &mut Random,
) {
    let scarce = 2f64.powf(1.0 + 3.0 * random.unit());
    match kind {
        Scarce::Bus => parameters.sheet.pcie_bytes_per_s /= scarce,
        Scarce::Dram => parameters.sheet.dram_bytes_per_s /= scarce,
        Scarce::Host => {
            parameters.host.launch_s *= scarce;
            parameters.host.graph_launch_s *= scarce;
            parameters.host.execution_s *= scarce;
        }
        Scarce::Power => parameters.clock.sustained /= scarce.min(3.0),
        // The host looks seldom, and nothing is enqueued ahead.
        Scarce::Looks => {
            parameters.host.wake_s *= 4.0 * scarce;
            configuration.depth = 1;
        }
        Scarce::Tensor => parameters.kernels.tensor_efficiency /= scarce,
        Scarce::Nothing => {}
    }
}

fn workload(network: Network, parameters: Parameters, batch: usize) -> Workload {
    let model = Model::from_proto(network.generate(0), "network.onnx").expect("a model");
    let backend = SimulatedBackend::new(parameters, 0);
    let spec = WorkloadSpec { max_batch: MaxBatch::Exactly(batch), ..WorkloadSpec::default() };
    Workload::prepare(&backend, &model, &spec).expect("a workload")
}
