//! What the predictor learns from: one configuration that was measured, reduced to what its model uses.

use crate::backend::{Counters, DataSheet, DeviceSpec};
use crate::measure::{Estimate, Measurement, StageSummary};
use crate::pool::Configuration;

/// One measured configuration. Its executions were full batches, and as many requests were outstanding as
/// its slots hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// What ran.
    pub configuration: Configuration,
    /// Inferences (samples) per second.
    pub throughput_inferences_per_s: Estimate,
    /// Median times of the stages.
    pub stages: StageSummary,
    /// What the device said about itself meanwhile.
    pub counters: Option<Counters>,
    /// Resident memory of the process in bytes.
    pub memory_bytes: Option<u64>,
    /// Power limit of the device in watts, as its data sheet gives it.
    pub power_limit_watts: Option<f64>,
}

impl Observation {
    /// The part of a measurement that predictions are made from.
    pub fn of(measurement: &Measurement) -> Self {
        Self {
            configuration: measurement.configuration,
            throughput_inferences_per_s: measurement.throughput_inferences_per_s,
            stages: measurement.stages,
            counters: measurement.counters.clone(),
            memory_bytes: measurement.host_memory_bytes,
            power_limit_watts: power_limit_watts(&measurement.device),
        }
    }

    /// Executions per second.
    pub fn executions_per_s(&self) -> f64 {
        self.throughput_inferences_per_s.value / self.configuration.batch_size as f64
    }

    /// Whether there is something to learn from: it ran, and the device said how long its kernels took.
    pub fn is_usable(&self) -> bool {
        let throughput = self.throughput_inferences_per_s.value;
        throughput.is_finite() && throughput > 0.0 && self.stages.compute.0 > 0
    }
}

/// The power limit on the data sheet of a device, where one is known by its name.
pub(crate) fn power_limit_watts(device: &DeviceSpec) -> Option<f64> {
    DataSheet::of_device(&device.name).map(|sheet| sheet.power_limit_watts)
}
