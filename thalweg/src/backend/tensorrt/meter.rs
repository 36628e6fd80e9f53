//! What a GPU says about itself: NVML's state and its GPM counters.

use std::time::Instant;

use thalweg_nvidia::nvml::{GpmSampler, NvmlDevice};

use crate::backend::{Counters, Observer};
use crate::units::Nanos;

/// Reads a GPU's counters between two times.
pub(super) struct Meter {
    device: Result<NvmlDevice, thalweg_nvidia::Error>,
    leaves_counters: bool,
    sampler: Option<Result<GpmSampler, thalweg_nvidia::Error>>,
    start: Instant,
}

impl Meter {
    /// `leaves_counters` as in [`Surroundings`](crate::backend::Surroundings): clocks and power are read nevertheless.
    pub fn new(device: Result<NvmlDevice, thalweg_nvidia::Error>, leaves_counters: bool) -> Self {
        Self { device, leaves_counters, sampler: None, start: Instant::now() }
    }

    /// GPM's averages, or why there are none.
    fn read_gpm(&mut self, counters: &mut Counters) -> Result<(), thalweg_nvidia::Error> {
        let sampler = match &mut self.sampler {
            Some(Ok(sampler)) => sampler,
            Some(Err(error)) => return Err(error.clone()),
            None => return Ok(()),
        };
        let metrics = sampler.read()?;
        counters.sm_activity = metrics.sm_utilisation.ok();
        counters.sm_occupancy = metrics.sm_occupancy.ok();
        counters.tensor_activity = metrics.tensor_utilisation.ok();
        counters.dram_utilisation = metrics.dram_utilisation.ok();
        counters.pcie_rx_bytes_per_s = metrics.pcie_rx_bytes_per_s.ok();
        counters.pcie_tx_bytes_per_s = metrics.pcie_tx_bytes_per_s.ok();
        Ok(())
    }
}

impl Observer for Meter {
    fn start(&mut self) {
        let device = self.device.as_ref().ok().filter(|_| !self.leaves_counters);
        self.sampler = device.map(GpmSampler::start);
        self.start = Instant::now();
    }

    fn read(&mut self) -> Counters {
        let mut counters =
            Counters { window: Nanos::from_duration(self.start.elapsed()), ..Counters::default() };
        let left = self.leaves_counters.then(|| "they were left alone, as was asked for".to_owned());
        counters.unavailable = self.read_gpm(&mut counters).err().map(|error| error.to_string()).or(left);
        let device = match &self.device {
            Ok(device) => device,
            Err(error) => return Counters { unavailable: Some(error.to_string()), ..counters },
        };
        // At the end of the stretch, while the last executions still run.
        let state = device.state();
        counters.sm_clock_mhz = state.sm_clock_mhz.ok().map(f64::from);
        counters.sm_clock_max_mhz = state.sm_clock_max_mhz.ok().map(f64::from);
        counters.power_watts = state.power_watts.ok();
        let reasons = state.throttle_reasons.unwrap_or_default();
        counters.throttle_reasons = reasons.iter().map(|reason| format!("{reason:?}")).collect();
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_nvidia::nvml::Nvml;
    use thalweg_nvidia::{Places, SystemPlaces};

    #[test]
    fn without_nvml_there_is_a_reason_in_place_of_every_number() {
        let nowhere =
            Places { directories: Vec::new(), site_packages: Vec::new(), system: SystemPlaces::Ignored };
        let missing = Nvml::open(&nowhere).expect_err("there is no library in no place");
        let mut meter = Meter::new(Err(missing.clone()), false);
        meter.start();
        let counters = meter.read();
        assert_eq!(counters.unavailable, Some(missing.to_string()));
        assert_eq!((counters.sm_activity, counters.sm_clock_mhz), (None, None));
    }
}
