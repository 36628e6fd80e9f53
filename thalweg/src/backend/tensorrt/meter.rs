//! What a GPU says about itself: NVML's state, and counters of NVML's GPM or of CUPTI's PM sampling.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thalweg_nvidia::Places;
use thalweg_nvidia::cupti::{Cupti, PmMetrics, PmSampler};
use thalweg_nvidia::nvml::{GpmMetrics, NvmlDevice, RenewedGpm};

use crate::backend::{ClockReading, CounterChoice, CounterSource, Counters, LEAST_TIME_OF_POWER, Observer};
use crate::units::Nanos;

/// An H200 renews the counters of NVML's GPM so often, and gives out those that it had one renewal before
/// (docs/benchmarks.md, "What GPM's readings are of").
const GPM_PERIOD: Nanos = Nanos(100_000_000);

/// What NVML calls power is the mean of so long.
const TIME_OF_NVMLS_POWER: Duration = Duration::from_secs(1);

/// How one GPU can be asked.
#[derive(Clone)]
pub(super) struct CounterAccess {
    /// The GPU as NVML sees it, or why it does not.
    pub nvml: Result<NvmlDevice, thalweg_nvidia::Error>,
    /// `None` where only NVML may be asked.
    pub sampling: Option<PmSampling>,
    pub choice: CounterChoice,
}

/// What PM sampling needs.
#[derive(Clone)]
pub(super) struct PmSampling {
    /// Where CUPTI may be.
    pub places: Places,
    /// CUDA's number for the GPU.
    pub device_index: u32,
}

impl PmSampling {
    fn start(&self) -> Result<Sampler, thalweg_nvidia::Error> {
        PmSampler::start(Cupti::open(&self.places)?, self.device_index).map(Sampler::Pm)
    }
}

/// Reads a GPU's counters between two times.
pub(super) struct Meter {
    access: CounterAccess,
    sampler: Option<Sampler>,
    /// Why there are no counters, or not the better ones.
    reasons: Vec<String>,
    start: Instant,
    energy: EnergyBefore,
}

/// What was drawn until a moment, where the device counts that.
#[derive(Clone, Copy)]
struct Energy {
    at: Instant,
    joules: Option<f64>,
}

impl Energy {
    fn unknown() -> Self {
        Self { at: Instant::now(), joules: None }
    }

    fn now(access: &CounterAccess) -> Self {
        let joules = access.nvml.as_ref().ok().and_then(|device| device.energy_joules().ok());
        Self { at: Instant::now(), joules }
    }

    /// The mean power since then, unless that was just now. What NVML calls power is the mean of the last second, whatever ran
    /// then.
    fn power_since(&self, earlier: &Self) -> Option<f64> {
        let time = self.at.saturating_duration_since(earlier.at);
        let joules = self.joules? - earlier.joules?;
        (Nanos::from_duration(time) >= LEAST_TIME_OF_POWER).then(|| joules / time.as_secs_f64())
    }
}

/// What was drawn until the start or the last reading. The first is asked for by a thread of its own: the answer takes
/// milliseconds, and whoever starts the meter may be who keeps the device busy.
enum EnergyBefore {
    Asked(JoinHandle<Energy>),
    Known(Energy),
}

impl EnergyBefore {
    fn ask(access: &CounterAccess) -> Self {
        let of_thread = access.clone();
        let thread = thread::Builder::new().name("thalweg-energy".to_owned());
        let asked = thread.spawn(move || Energy::now(&of_thread));
        asked.map_or_else(|_| Self::Known(Energy::unknown()), Self::Asked)
    }

    fn known(self) -> Energy {
        match self {
            Self::Asked(thread) => thread.join().unwrap_or_else(|_| Energy::unknown()),
            Self::Known(energy) => energy,
        }
    }
}

enum Sampler {
    Gpm(RenewedGpm),
    Pm(PmSampler),
}

impl Meter {
    pub fn new(access: CounterAccess) -> Self {
        let energy = EnergyBefore::Known(Energy::unknown());
        let reasons = vec!["what was measured was too short for counters".to_owned()];
        Self { access, sampler: None, reasons, start: Instant::now(), energy }
    }

    fn may_be_gpm(&self) -> bool {
        let is_wanted = matches!(self.access.choice, CounterChoice::Auto | CounterChoice::Gpm);
        is_wanted && self.access.nvml.is_ok()
    }

    /// Takes the first source that can be had.
    fn find_sampler(&mut self) -> Option<Sampler> {
        let CounterAccess { nvml, sampling, choice } = &self.access;
        let gpm = || nvml.clone().and_then(|device| RenewedGpm::start(&device)).map(Sampler::Gpm);
        let pm = || sampling.as_ref().map(PmSampling::start);
        let attempts = match choice {
            CounterChoice::Off => {
                self.reasons.push("they were left alone, as was asked for".to_owned());
                return None;
            }
            CounterChoice::Gpm => [Some(gpm()), None],
            CounterChoice::PmSampling => [pm(), None],
            CounterChoice::Auto => match gpm() {
                Ok(sampler) => [Some(Ok(sampler)), None],
                Err(error) => [Some(Err(error)), pm()],
            },
        };
        let mut found = None;
        for attempt in attempts.into_iter().flatten() {
            match attempt {
                Ok(sampler) => found = Some(sampler),
                Err(error) => self.reasons.push(error.to_string()),
            }
        }
        found
    }

    /// Averages since the start; with GPM since the last reading. After PM sampling there is no more until a new start.
    fn read_counters(&mut self, counters: &mut Counters) -> Result<(), thalweg_nvidia::Error> {
        match self.sampler.take() {
            Some(Sampler::Gpm(mut sampler)) => {
                let metrics = sampler.read();
                self.sampler = Some(Sampler::Gpm(sampler));
                put_gpm(counters, metrics?);
            }
            Some(Sampler::Pm(sampler)) => {
                let metrics = sampler.finish()?;
                // Why there was nothing better is of no interest where something is there.
                self.reasons.clear();
                if !metrics.missing.is_empty() {
                    let (chip, missing) = (&metrics.chip, metrics.missing.join(", "));
                    let why = metrics.refusal.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
                    self.reasons.push(format!("CUPTI's PM sampling of a {chip} gives no {missing}{why}"));
                }
                put_sampled(counters, &metrics);
            }
            None => {}
        }
        Ok(())
    }
}

fn put_gpm(counters: &mut Counters, metrics: GpmMetrics) {
    counters.source = Some(CounterSource::Gpm);
    counters.sm_activity = metrics.sm_utilisation.ok();
    counters.sm_occupancy = metrics.sm_occupancy.ok();
    counters.tensor_activity = metrics.tensor_utilisation.ok();
    counters.dram_utilisation = metrics.dram_utilisation.ok();
    counters.pcie_rx_bytes_per_s = metrics.pcie_rx_bytes_per_s.ok();
    counters.pcie_tx_bytes_per_s = metrics.pcie_tx_bytes_per_s.ok();
}

fn put_sampled(counters: &mut Counters, metrics: &PmMetrics) {
    counters.source = Some(CounterSource::PmSampling);
    counters.sm_activity = metrics.sm_utilisation;
    counters.sm_occupancy = metrics.sm_occupancy;
    counters.tensor_activity = metrics.tensor_utilisation;
    counters.dram_utilisation = metrics.dram_utilisation;
    counters.pcie_rx_bytes_per_s = metrics.pcie_rx_bytes_per_s;
    counters.pcie_tx_bytes_per_s = metrics.pcie_tx_bytes_per_s;
}

impl Observer for Meter {
    fn lag(&self) -> Nanos {
        if self.may_be_gpm() { GPM_PERIOD } else { Nanos::ZERO }
    }

    fn least_time(&self) -> Nanos {
        self.lag()
    }

    fn start(&mut self) {
        // One that runs still gives its place back first.
        self.sampler = None;
        self.reasons.clear();
        self.sampler = self.find_sampler();
        self.start = Instant::now();
        self.energy = EnergyBefore::ask(&self.access);
    }

    fn read(&mut self) -> Counters {
        let mut counters =
            Counters { window: Nanos::from_duration(self.start.elapsed()), ..Counters::default() };
        // At the end of the stretch, while the last executions still run.
        let state = self.access.nvml.as_ref().map(NvmlDevice::state).map_err(Clone::clone);
        // What goes wrong in one reading is no reason of the next one.
        let of_start = self.reasons.clone();
        if let Err(error) = self.read_counters(&mut counters) {
            self.reasons.push(error.to_string());
        }
        if let Err(error) = &state {
            // Clocks and power are missing too.
            let error = error.to_string();
            self.reasons.extend((!self.reasons.contains(&error)).then_some(error));
        }
        let reasons = std::mem::replace(&mut self.reasons, of_start);
        counters.unavailable = (!reasons.is_empty()).then(|| reasons.join("; "));
        let Ok(state) = state else { return counters };
        counters.sm_clock_mhz = state.sm_clock_mhz.ok().map(f64::from);
        counters.sm_clock_max_mhz = state.sm_clock_max_mhz.ok().map(f64::from);
        let energy = Energy::now(&self.access);
        let before = std::mem::replace(&mut self.energy, EnergyBefore::Known(energy)).known();
        let is_nvmls_enough = energy.at.duration_since(before.at) >= TIME_OF_NVMLS_POWER;
        let power = || state.power_watts.ok().filter(|_| is_nvmls_enough);
        counters.power_watts = energy.power_since(&before).or_else(power);
        let reasons = state.throttle_reasons.unwrap_or_default();
        counters.throttle_reasons = reasons.iter().map(|reason| format!("{reason:?}")).collect();
        counters
    }

    fn clock(&mut self) -> Option<ClockReading> {
        let state = self.access.nvml.as_ref().ok()?.clock_state();
        let reasons = state.throttle_reasons.ok()?;
        Some(ClockReading {
            sm_clock_mhz: state.sm_clock_mhz.ok().map(f64::from),
            throttle_reasons: reasons.iter().map(|reason| format!("{reason:?}")).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_nvidia::SystemPlaces;
    use thalweg_nvidia::nvml::Nvml;

    fn nowhere() -> Places {
        Places { directories: Vec::new(), site_packages: Vec::new(), system: SystemPlaces::Ignored }
    }

    fn read(choice: CounterChoice, sampling: Option<PmSampling>) -> Counters {
        let nvml = Err(Nvml::open(&nowhere()).expect_err("there is no library in no place"));
        let mut meter = Meter::new(CounterAccess { nvml, sampling, choice });
        meter.start();
        meter.read()
    }

    #[test]
    fn without_nvml_there_is_a_reason_in_place_of_every_number() {
        let missing = Nvml::open(&nowhere()).expect_err("there is no library in no place");
        let counters = read(CounterChoice::Auto, None);
        assert_eq!(counters.unavailable, Some(missing.to_string()));
        assert_eq!((counters.sm_activity, counters.sm_clock_mhz, counters.source), (None, None, None));
    }

    #[test]
    fn where_neither_source_is_there_both_reasons_are_told_and_left_alone_is_a_reason_too() {
        let sampling = || Some(PmSampling { places: nowhere(), device_index: 0 });
        let reason = |choice| read(choice, sampling()).unavailable.unwrap_or_default();
        let auto = reason(CounterChoice::Auto);
        let (nvml, cupti) = (auto.find("NVML is not there"), auto.find("; CUPTI is not there"));
        assert!(nvml < cupti && nvml.is_some(), "{auto}");
        assert!(!reason(CounterChoice::Gpm).contains("CUPTI"));
        assert!(reason(CounterChoice::PmSampling).starts_with("CUPTI is not there"));
        assert!(reason(CounterChoice::Off).starts_with("they were left alone"));
    }
}
