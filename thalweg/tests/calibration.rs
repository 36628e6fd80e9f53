//! The simulated H100 against the real one: ResNet-50 FP16 by `trtexec` 8.6 with CUDA graphs, in inferences/s.
//!
//! Each row is predicted with parameters that were fitted to the other three rows only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thalweg::backend::simulated::{Parameters, SimulatedBackend};
use thalweg::backend::{Backend, BuildOrder, BuildSpec, CudaGraph, SerializedEngine};
use thalweg::measure::{Feeding, Pacing, Reference, SampleSet, StopSignal, Workload};
use thalweg::model::Model;
use thalweg::model::zoo::Network;
use thalweg::pool::Configuration;
use thalweg::tune::saturating_load;

const STREAMS: [usize; 4] = [1, 2, 4, 8];
const BATCHES: [usize; 4] = [1, 8, 32, 128];

/// Measured on an NVIDIA H100 80GB HBM3 with driver 580.159.04, transfers included: a row for each batch, a
/// column for each number of streams.
const MEASURED: [[f64; 4]; 4] = [
    [1_900.0, 2_882.0, 5_254.0, 9_037.0],
    [12_860.0, 16_680.0, 18_961.0, 20_146.0],
    [26_457.0, 29_111.0, 28_316.0, 28_539.0],
    [31_928.0, 34_279.0, 33_851.0, 33_699.0],
];

/// The parameters that are fitted, and how to reach them.
type Knob = (&'static str, fn(&mut Parameters) -> &mut f64);
const KNOBS: [Knob; 7] = [
    ("ramp_us", |p| &mut p.kernels.ramp_s),
    ("block_us", |p| &mut p.kernels.block_s),
    ("gap_us", |p| &mut p.kernels.gap_s),
    ("crowding", |p| &mut p.kernels.crowding),
    ("tile", |p| &mut p.kernels.tile),
    ("tensor_efficiency", |p| &mut p.kernels.tensor_efficiency),
    ("cache_reach", |p| &mut p.kernels.cache_reach),
];

/// What it costs to turn a knob by a factor of e, in the unit of the loss. Twelve cells do not settle seven knobs: without
/// it a fit wanders along valleys in which its own cells hardly change and the others do. Changing one knob by a half
/// costs as much as being off by another 1.3 % everywhere.
const RESERVE: f64 = 0.001;

struct Bench {
    model: Model,
    engine: SerializedEngine,
}

impl Bench {
    fn new() -> Self {
        let model = Model::from_proto(Network::Resnet50.generate(0), "resnet50.onnx").expect("a model");
        let spec = BuildSpec { max_batch_size: 128, ..BuildSpec::default() };
        let backend = SimulatedBackend::preset("h100").expect("a preset");
        let engine = backend.build(&BuildOrder::new(&model, &spec)).expect("an engine");
        Self { model, engine }
    }

    /// Inferences per second of each cell of these rows.
    fn simulate(&self, parameters: Parameters, rows: &[usize]) -> Vec<[f64; 4]> {
        let backend = SimulatedBackend::new(parameters, 0);
        let engine = backend.load(&self.engine).expect("it loads");
        let inputs = SampleSet::random(engine.signature(), 8, 0);
        let reference = Reference::compute(&engine, &inputs).expect("a reference");
        let model = self.model.identity(&BTreeMap::new()).expect("an identity");
        let device = backend.device().clone();
        let workload = Workload {
            model,
            engine: Arc::clone(&engine),
            source: None,
            device,
            seed: 0,
            inputs,
            feeding: Feeding::default(),
            reference,
        };
        let row = |row: &usize| STREAMS.map(|streams| cell(&workload, BATCHES[*row], streams));
        rows.iter().map(row).collect()
    }

    /// Mean squared logarithm of simulated over measured.
    fn loss(&self, parameters: Parameters, rows: &[usize]) -> f64 {
        let simulated = self.simulate(parameters, rows);
        let errors = rows.iter().zip(simulated).flat_map(|(row, cells)| {
            MEASURED[*row].into_iter().zip(cells).map(|(measured, cell)| (cell / measured).ln().powi(2))
        });
        errors.sum::<f64>() / (rows.len() * STREAMS.len()) as f64
    }

    /// What a fit makes small: the loss, and a little of how far it went from round numbers.
    fn cost(&self, mut parameters: Parameters, rows: &[usize]) -> f64 {
        let loss = self.loss(parameters, rows);
        let mut round = neutral();
        let distances =
            KNOBS.iter().map(|(_, knob)| (*knob(&mut parameters) / *knob(&mut round)).ln().powi(2));
        loss + RESERVE * distances.sum::<f64>()
    }

    /// Turns one knob after the other as long as that helps, in ever smaller steps.
    fn fit(&self, rows: &[usize]) -> (Parameters, f64) {
        let mut best = neutral();
        let mut least = self.cost(best, rows);
        let mut step = 1.5_f64;
        while step > 1.03 {
            let before = least;
            for (_, knob) in KNOBS {
                for factor in [step, 1.0 / step] {
                    let mut tried = best;
                    *knob(&mut tried) *= factor;
                    let cost = self.cost(tried, rows);
                    if cost < least {
                        (best, least) = (tried, cost);
                        break;
                    }
                }
            }
            if least > 0.97 * before {
                step = step.sqrt();
            }
        }
        (best, self.loss(best, rows))
    }
}

/// Round numbers that nothing was fitted to.
fn neutral() -> Parameters {
    let mut parameters = Parameters::preset("h100").expect("a preset");
    parameters.kernels.ramp_s = 3e-6;
    parameters.kernels.block_s = 1e-6;
    parameters.kernels.gap_s = 3e-6;
    parameters.kernels.crowding = 0.5;
    parameters.kernels.tile = 8192.0;
    parameters.kernels.cache_reach = 1.0;
    parameters.kernels.tensor_efficiency = 0.5;
    parameters
}

fn cell(workload: &Workload, batch_size: usize, streams: usize) -> f64 {
    let configuration =
        Configuration { streams, batch_size, cuda_graph: CudaGraph::Compute, ..Configuration::default() };
    // Some forty executions of each stream.
    let milliseconds = 15 + batch_size as u64;
    let pacing = Pacing {
        warm_up: Duration::from_millis(milliseconds / 2),
        window: Duration::from_millis(milliseconds * 2),
        max_windows: 1,
        longest: None,
    };
    let load = saturating_load(&configuration, None);
    let measurement = workload.experiment(configuration, load, pacing).run(&StopSignal::default());
    measurement.expect("it runs").throughput_inferences_per_s.value
}

#[test]
fn each_row_of_the_resnet50_table_follows_from_the_other_rows() {
    let bench = Bench::new();
    let mut good = 0;
    for left_out in 0..BATCHES.len() {
        let rows: Vec<usize> = (0..BATCHES.len()).filter(|row| *row != left_out).collect();
        let (parameters, loss) = bench.fit(&rows);
        let cells = bench.simulate(parameters, &[left_out])[0];
        let ratios: Vec<f64> = cells.iter().zip(MEASURED[left_out]).map(|(cell, it)| cell / it).collect();
        println!("batch {:3}: simulated {cells:8.0?}, over measured {ratios:.2?}", BATCHES[left_out]);
        println!("           fit {:.1} %: {:.3?}", 100.0 * loss.sqrt(), values(parameters));
        good += ratios.iter().filter(|ratio| (0.85..=1.15).contains(*ratio)).count();
    }
    println!("{good} of 16 cells within 15 %");
    assert!(good >= 14, "only {good} of 16");
}

#[test]
#[ignore = "prints the fit that the preset was taken from"]
fn fit_to_all_rows() {
    let bench = Bench::new();
    let rows = [0, 1, 2, 3];
    let (parameters, loss) = bench.fit(&rows);
    let preset = Parameters::preset("h100").expect("a preset");
    for (name, parameters, loss) in [("fit", parameters, loss), ("preset", preset, bench.loss(preset, &rows))]
    {
        println!("{name} {:.1} %: {:.4?}", 100.0 * loss.sqrt(), values(parameters));
        for (row, cells) in bench.simulate(parameters, &rows).into_iter().enumerate() {
            let ratios: Vec<f64> = cells.iter().zip(MEASURED[row]).map(|(cell, it)| cell / it).collect();
            println!("batch {:3}: simulated {cells:8.0?}, over measured {ratios:.2?}", BATCHES[row]);
        }
    }
}

fn values(mut parameters: Parameters) -> Vec<(&'static str, f64)> {
    KNOBS
        .iter()
        .map(|(name, knob)| (*name, *knob(&mut parameters) * if name.ends_with("_us") { 1e6 } else { 1.0 }))
        .collect()
}
