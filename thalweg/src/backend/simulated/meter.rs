//! What a simulated device says about itself: averages over virtual time, as NVML's GPM gives them.

use std::sync::{Arc, Mutex, PoisonError};

use super::device::Device;
use super::parameters::Parameters;
use crate::backend::{ClockReading, Counters, Observer};
use crate::units::Nanos;

/// Totals since the device was made, in seconds of full use; bytes for the bus.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub now_s: f64,
    pub sm_resident_s: f64,
    pub sm_share_s: f64,
    pub dram_s: f64,
    pub tensor_s: f64,
    pub clock_s: f64,
    pub throttled_s: f64,
    pub h2d_bytes: f64,
    pub d2h_bytes: f64,
}

/// Reads the totals of a device at two times.
pub(super) struct Meter {
    pub device: Arc<Mutex<Device>>,
    pub start: Totals,
    /// When the clock was asked for last.
    pub glanced: Totals,
}

impl Meter {
    fn totals(&self) -> (Totals, Parameters) {
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        (device.totals(), *device.parameters())
    }
}

impl Observer for Meter {
    fn start(&mut self) {
        self.start = self.totals().0;
        self.glanced = self.start;
    }

    fn read(&mut self) -> Counters {
        let (end, parameters) = self.totals();
        let seconds = end.now_s - self.start.now_s;
        let average =
            |total: fn(&Totals) -> f64| (seconds > 0.0).then(|| (total(&end) - total(&self.start)) / seconds);
        let sheet = parameters.sheet;
        let idle = parameters.clock.idle_power;
        let throttled = average(|totals| totals.throttled_s).is_some_and(|share| share > 0.0);
        Counters {
            window: Nanos::from_seconds(seconds),
            source: None,
            sm_activity: average(|totals| totals.sm_resident_s),
            sm_occupancy: None,
            tensor_activity: average(|totals| totals.tensor_s),
            dram_utilisation: average(|totals| totals.dram_s)
                .map(|busy| busy * parameters.kernels.dram_ceiling),
            pcie_rx_bytes_per_s: average(|totals| totals.h2d_bytes),
            pcie_tx_bytes_per_s: average(|totals| totals.d2h_bytes),
            sm_clock_mhz: average(|totals| totals.clock_s).map(|share| share * sheet.sm_clock_max_mhz),
            sm_clock_max_mhz: Some(sheet.sm_clock_max_mhz),
            power_watts: average(|totals| totals.sm_share_s)
                .map(|busy| sheet.power_limit_watts * (idle + (1.0 - idle) * busy)),
            throttle_reasons: reasons(throttled),
            unavailable: Some("occupancy is not simulated".to_owned()),
        }
    }

    /// The mean since it was asked for last.
    fn clock(&mut self) -> Option<ClockReading> {
        let (now, parameters) = self.totals();
        let before = std::mem::replace(&mut self.glanced, now);
        let seconds = now.now_s - before.now_s;
        (seconds > 0.0).then(|| ClockReading {
            sm_clock_mhz: Some((now.clock_s - before.clock_s) / seconds * parameters.sheet.sm_clock_max_mhz),
            throttle_reasons: reasons(now.throttled_s > before.throttled_s),
        })
    }
}

fn reasons(throttled: bool) -> Vec<String> {
    if throttled { vec!["power limit (simulated)".to_owned()] } else { Vec::new() }
}
