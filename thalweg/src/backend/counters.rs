//! What a device says about itself while it works: plain data, and the trait that reads it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::Nanos;

/// Over less time than this the energy that was drawn says nothing of the power: it is counted in steps.
pub(crate) const LEAST_TIME_OF_POWER: Nanos = Nanos(500_000_000);

/// Reads a device's counters over a stretch of time. Reading disturbs what runs as little as it can.
pub trait Observer: Send {
    /// Starts a new stretch.
    fn start(&mut self);

    /// How old what counters tell may be. They are started so long after the work that they shall tell of.
    fn lag(&self) -> Nanos {
        Nanos::ZERO
    }

    /// How long a stretch has to be before they can tell anything of it.
    fn least_time(&self) -> Nanos {
        Nanos::ZERO
    }

    /// Averages since [`start`](Self::start).
    fn read(&mut self) -> Counters;

    /// The clock at this moment, which takes far less time than [`read`](Self::read); `None` where nobody tells.
    fn clock(&mut self) -> Option<ClockReading> {
        None
    }
}

/// An observer of which only the clock is asked: its counters take milliseconds of a core, which would pass for work of the
/// pool where CPU time is what is measured.
pub(crate) struct ClockAlone(pub Box<dyn Observer>);

impl Observer for ClockAlone {
    fn start(&mut self) {}

    fn read(&mut self) -> Counters {
        let ClockReading { sm_clock_mhz, throttle_reasons } = self.0.clock().unwrap_or_default();
        let unavailable = Some("they were left alone, so as not to take CPU time".to_owned());
        Counters { sm_clock_mhz, throttle_reasons, unavailable, ..Counters::default() }
    }

    fn clock(&mut self) -> Option<ClockReading> {
        self.0.clock()
    }
}

/// The clock of the SMs at one moment, and what held it back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClockReading {
    /// Clock of the SMs in MHz.
    pub sm_clock_mhz: Option<f64>,
    /// Why it was lower than it could be, as in [`Counters::throttle_reasons`].
    pub throttle_reasons: Vec<String>,
}

impl ClockReading {
    /// What held the clock back though the work did not ask for it.
    pub fn disturbance(&self) -> Option<&str> {
        disturbance(&self.throttle_reasons)
    }
}

/// Which of a GPU's performance counters are read. Clocks and power are read in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CounterChoice {
    /// NVML's GPM; where the GPU or its driver has none, CUPTI's PM sampling.
    #[default]
    Auto,
    /// NVML's GPM alone.
    Gpm,
    /// CUPTI's PM sampling alone.
    PmSampling,
    /// None: to see what reading them costs.
    Off,
}

impl CounterChoice {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Gpm, Self::PmSampling, Self::Off];
}

/// `auto`, `gpm`, `pm` or `off`, as on the command line.
impl fmt::Display for CounterChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Gpm => "gpm",
            Self::PmSampling => "pm",
            Self::Off => "off",
        })
    }
}

/// Where a GPU's counters come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CounterSource {
    /// The GPU keeps them itself, and NVML reads them.
    Gpm,
    /// CUPTI has the GPU write samples of them.
    PmSampling,
}

/// As a source of evidence.
impl fmt::Display for CounterSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gpm => "the device's counters (NVML's GPM)",
            Self::PmSampling => "the device's counters (CUPTI's PM sampling)",
        })
    }
}

/// Averages over a stretch of time. Fractions are of the device's own maximum and lie in 0..1.
///
/// The names and meanings are those of NVML's GPM metrics (Hopper and newer):
/// <https://docs.nvidia.com/deploy/nvml-api/group__nvmlGpmEnums.html>, also where they come from elsewhere. `None` where
/// the device, its driver or the right to read it is missing; [`unavailable`](Self::unavailable) says why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// How long the stretch was, at the start of which counters may have had to be waited for.
    #[serde(rename = "window_ns")]
    pub window: Nanos,
    /// Where the counters of the SMs, the DRAM and PCIe come from; `None` where there are none, or the device is simulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<CounterSource>,
    /// Share of SMs, averaged over time, on which any warp was resident: an upper estimate of how full the
    /// SMs are, since a resident warp may wait.
    pub sm_activity: Option<f64>,
    /// Resident warps over the most that fit.
    pub sm_occupancy: Option<f64>,
    /// Share of cycles in which a tensor pipe was busy.
    pub tensor_activity: Option<f64>,
    /// DRAM traffic over the theoretical maximum. A plain copy reaches about 0.84 on an H100, not 1.
    pub dram_utilisation: Option<f64>,
    /// Traffic from host to device, in bytes per second.
    pub pcie_rx_bytes_per_s: Option<f64>,
    /// Traffic from device to host, in bytes per second.
    pub pcie_tx_bytes_per_s: Option<f64>,
    /// Clock of the SMs in MHz.
    pub sm_clock_mhz: Option<f64>,
    /// The highest clock of the SMs in MHz.
    pub sm_clock_max_mhz: Option<f64>,
    /// Power drawn in watts; on a GPU the mean of the time, `None` for less than half a second.
    pub power_watts: Option<f64>,
    /// Why clocks were lower than they could be, in the driver's words; empty where nothing held them back.
    pub throttle_reasons: Vec<String>,
    /// Why some of the above are missing.
    pub unavailable: Option<String>,
}

/// Reasons of a lower clock that come from the state of the machine and not from the work: heat, and whoever supplies
/// its power. They pass, so what was measured meanwhile is not repeated by another day's run. A power cap does not pass:
/// the same work meets it again. The names are those of `nvmlClocksEventReasons` in nvml.h.
const DISTURBANCES: [&str; 4] = ["HardwareSlowdown", "SoftwareThermal", "HardwareThermal", "PowerBrake"];

impl Counters {
    /// What held the clock back though the work did not ask for it.
    pub fn disturbance(&self) -> Option<&str> {
        disturbance(&self.throttle_reasons)
    }
}

fn disturbance(reasons: &[String]) -> Option<&str> {
    reasons.iter().map(String::as_str).find(|reason| DISTURBANCES.contains(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_is_a_disturbance_and_a_power_cap_is_not() {
        let held_back = |reasons: &[&str]| Counters {
            throttle_reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            ..Counters::default()
        };
        assert_eq!(held_back(&["PowerCap"]).disturbance(), None);
        assert_eq!(held_back(&["PowerCap", "HardwareThermal"]).disturbance(), Some("HardwareThermal"));
        assert_eq!(Counters::default().disturbance(), None);
    }
}
