//! Simulated devices drawn at random, each off from the preset of a real one.

use std::time::Duration;

use thalweg::backend::DataSheet;
use thalweg::backend::simulated::Parameters;
use thalweg::random::Random;

/// A simulated device has found its clock by then.
pub const CLOCK_SETTLES: Duration = Duration::from_millis(50);

/// Those that data sheets were there of when the first draws were made: another one would change them all.
const DEVICES: [&str; 4] = ["h100", "a100", "l4", "orin"];

/// What draws go down to.
pub struct Least {
    /// Part of the bus's rate that copies reach.
    pub copy_efficiency: f64,
    /// The clock of a busy device over its highest one.
    pub sustained_clock: f64,
}

/// Everything that data sheets do not say is off by up to a factor of two or three from the preset.
pub fn drawn(random: &mut Random, least: &Least) -> Parameters {
    let sheet = DataSheet::of(DEVICES[random.below(DEVICES.len())]).expect("a data sheet");
    let mut parameters = Parameters::preset(sheet.key).expect("a preset");
    let mut between = |low: f64, high: f64| low * (high / low).powf(random.unit());
    for knob in [
        &mut parameters.kernels.ramp_s,
        &mut parameters.kernels.block_s,
        &mut parameters.kernels.gap_s,
        &mut parameters.kernels.tile,
        &mut parameters.kernels.cache_reach,
        &mut parameters.host.launch_s,
        &mut parameters.host.graph_launch_s,
        &mut parameters.host.execution_s,
    ] {
        *knob *= between(0.5, 2.0);
    }
    parameters.kernels.tensor_efficiency = between(0.3, 0.9);
    parameters.kernels.crowding = between(0.05, 1.5);
    parameters.copies.efficiency = between(least.copy_efficiency, 0.9);
    parameters.host.contention = between(0.05, 1.0);
    parameters.host.wake_s = between(2e-6, 40e-6);
    parameters.clock.sustained = between(least.sustained_clock, 1.0);
    parameters.jitter = between(0.005, 0.05);
    parameters
}
