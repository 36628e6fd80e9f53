//! The state of a GPU at one moment.

use std::ffi::{c_int, c_uint};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::nvml::NvmlDevice;
use crate::nvml::api::{CLOCK_MEMORY, CLOCK_SM, DeviceHandle, Memory, NvmlApi, SENSOR_GPU, Utilisation};

/// What NVML says of a GPU at one moment. Where a value is not to be had, the error says why.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceState {
    /// Clock of the SMs, in MHz.
    pub sm_clock_mhz: Result<u32>,
    /// The highest that clock can be, in MHz.
    pub sm_clock_max_mhz: Result<u32>,
    /// Clock of the memory, in MHz.
    pub memory_clock_mhz: Result<u32>,
    /// What it draws, in watts; from the Ampere generation on the mean of the last second.
    pub power_watts: Result<f64>,
    /// What it may draw, in watts.
    pub power_limit_watts: Result<f64>,
    /// Temperature of the chip, in degrees Celsius.
    pub temperature_c: Result<u32>,
    /// What keeps the clocks down; empty where nothing does.
    pub throttle_reasons: Result<Vec<ThrottleReason>>,
    /// Memory that is taken, by all processes and the driver, in bytes.
    pub memory_used_bytes: Result<u64>,
    /// Size of the memory, in bytes.
    pub memory_total_bytes: Result<u64>,
    /// Generation of the PCIe link at this moment; an idle GPU lowers it.
    pub pcie_generation: Result<u32>,
    /// Lanes of the PCIe link.
    pub pcie_width: Result<u32>,
    /// The highest generation that the link can have, with this GPU in this machine.
    pub pcie_generation_max: Result<u32>,
    /// The most lanes that it can have.
    pub pcie_width_max: Result<u32>,
    /// Share of the last sample period (1/6 to 1 s) in which any kernel ran, 0 to 1. It says nothing about how many
    /// SMs that kernel filled.
    pub gpu_utilisation: Result<f64>,
}

/// The clock of a GPU's SMs at one moment, and what holds it back.
#[derive(Clone, Debug, PartialEq)]
pub struct ClockState {
    /// Clock of the SMs, in MHz.
    pub sm_clock_mhz: Result<u32>,
    /// What keeps the clocks down; empty where nothing does.
    pub throttle_reasons: Result<Vec<ThrottleReason>>,
}

/// What keeps the clocks of a GPU down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ThrottleReason {
    /// Nothing runs.
    Idle,
    /// Somebody has set clocks for applications.
    ApplicationClocks,
    /// The power limit.
    PowerCap,
    /// The hardware has halved the clocks or worse: heat, power brake or a drop of the supply.
    HardwareSlowdown,
    /// The GPU keeps step with others of a group.
    SyncBoost,
    /// The driver lowers the clocks against heat.
    SoftwareThermal,
    /// The hardware lowers the clocks against heat.
    HardwareThermal,
    /// The system's power supply asks for less.
    PowerBrake,
    /// Clocks that the display needs.
    DisplayClocks,
    /// A reason that NVML did not have when this was written.
    Unknown,
}

/// Bits of `nvmlClocksEventReasons` in nvml.h.
const REASONS: [(u64, ThrottleReason); 9] = [
    (0x1, ThrottleReason::Idle),
    (0x2, ThrottleReason::ApplicationClocks),
    (0x4, ThrottleReason::PowerCap),
    (0x8, ThrottleReason::HardwareSlowdown),
    (0x10, ThrottleReason::SyncBoost),
    (0x20, ThrottleReason::SoftwareThermal),
    (0x40, ThrottleReason::HardwareThermal),
    (0x80, ThrottleReason::PowerBrake),
    (0x100, ThrottleReason::DisplayClocks),
];

impl ThrottleReason {
    /// Whether work runs slower because of it: not so where there is none.
    pub fn is_throttling(self) -> bool {
        self != Self::Idle
    }

    fn from_bits(bits: u64) -> Vec<Self> {
        let known = REASONS.iter().fold(0, |known, (bit, _)| known | bit);
        let named = REASONS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, reason)| *reason);
        named.chain((bits & !known != 0).then_some(Self::Unknown)).collect()
    }
}

impl NvmlDevice {
    /// Its clock now: two calls, a small part of what [`state`](Self::state) takes.
    pub fn clock_state(&self) -> ClockState {
        ClockState { sm_clock_mhz: self.clock(CLOCK_SM), throttle_reasons: self.throttle_reasons() }
    }

    /// Its state now. Takes some milliseconds, and disturbs no work on the GPU.
    pub fn state(&self) -> DeviceState {
        let memory = self.memory();
        DeviceState {
            sm_clock_mhz: self.clock(CLOCK_SM),
            sm_clock_max_mhz: self.max_clock(CLOCK_SM),
            memory_clock_mhz: self.clock(CLOCK_MEMORY),
            power_watts: self.power().map(watts),
            power_limit_watts: self.power_limit().map(watts),
            temperature_c: self.temperature(),
            throttle_reasons: self.throttle_reasons(),
            memory_used_bytes: memory.as_ref().map(|memory| memory.used).map_err(Clone::clone),
            memory_total_bytes: memory.map(|memory| memory.total),
            pcie_generation: self.pcie_generation(),
            pcie_width: self.pcie_width(),
            pcie_generation_max: self.pcie_generation_max(),
            pcie_width_max: self.pcie_width_max(),
            gpu_utilisation: self.gpu_utilisation(),
        }
    }

    #[doc(alias = "nvmlDeviceGetClockInfo")]
    fn clock(&self, kind: c_int) -> Result<u32> {
        // SAFETY: the device is NVML's and the number writable.
        self.number(|api, device, mhz| unsafe { api.clock(device, kind, mhz) })
    }

    /// What it has drawn since its driver was loaded, in joules.
    ///
    /// # Errors
    /// Where it does not count that, as before the Volta generation.
    #[doc(alias = "nvmlDeviceGetTotalEnergyConsumption")]
    pub fn energy_joules(&self) -> Result<f64> {
        let mut millijoules = 0;
        // SAFETY: the device is NVML's and the number writable.
        unsafe { self.api().energy(self.handle, &raw mut millijoules) }?;
        Ok(millijoules as f64 / 1e3)
    }

    #[doc(alias = "nvmlDeviceGetMaxClockInfo")]
    fn max_clock(&self, kind: c_int) -> Result<u32> {
        // SAFETY: as above.
        self.number(|api, device, mhz| unsafe { api.max_clock(device, kind, mhz) })
    }

    #[doc(alias = "nvmlDeviceGetPowerUsage")]
    fn power(&self) -> Result<u32> {
        // SAFETY: as above.
        self.number(|api, device, milliwatts| unsafe { api.power(device, milliwatts) })
    }

    #[doc(alias = "nvmlDeviceGetEnforcedPowerLimit")]
    fn power_limit(&self) -> Result<u32> {
        // SAFETY: as above.
        self.number(|api, device, milliwatts| unsafe { api.power_limit(device, milliwatts) })
    }

    #[doc(alias = "nvmlDeviceGetTemperature")]
    fn temperature(&self) -> Result<u32> {
        // SAFETY: as above.
        self.number(|api, device, celsius| unsafe { api.temperature(device, SENSOR_GPU, celsius) })
    }

    #[doc(alias = "nvmlDeviceGetCurrPcieLinkGeneration")]
    fn pcie_generation(&self) -> Result<u32> {
        // SAFETY: as above.
        self.number(|api, device, generation| unsafe { api.pcie_generation(device, generation) })
    }

    #[doc(alias = "nvmlDeviceGetCurrPcieLinkWidth")]
    fn pcie_width(&self) -> Result<u32> {
        // SAFETY: as above.
        self.number(|api, device, lanes| unsafe { api.pcie_width(device, lanes) })
    }

    #[doc(alias = "nvmlDeviceGetMaxPcieLinkGeneration")]
    fn pcie_generation_max(&self) -> Result<u32> {
        // SAFETY: as above.
        self.number(|api, device, generation| unsafe { api.max_pcie_generation(device, generation) })
    }

    #[doc(alias = "nvmlDeviceGetMaxPcieLinkWidth")]
    fn pcie_width_max(&self) -> Result<u32> {
        // SAFETY: as above.
        self.number(|api, device, lanes| unsafe { api.max_pcie_width(device, lanes) })
    }

    fn number(&self, read: impl FnOnce(&NvmlApi, DeviceHandle, *mut c_uint) -> Result<()>) -> Result<u32> {
        let mut number = 0;
        read(self.api(), self.handle, &raw mut number)?;
        Ok(number)
    }

    /// Under its new name first, which drivers from 535 on have.
    #[doc(alias = "nvmlDeviceGetCurrentClocksEventReasons")]
    #[doc(alias = "nvmlDeviceGetCurrentClocksThrottleReasons")]
    fn throttle_reasons(&self) -> Result<Vec<ThrottleReason>> {
        let mut bits = 0;
        // SAFETY: the device is NVML's and the number writable.
        let mut read = unsafe { self.api().event_reasons(self.handle, &raw mut bits) };
        if matches!(read, Err(Error::MissingSymbol { .. })) {
            // SAFETY: as above.
            read = unsafe { self.api().throttle_reasons(self.handle, &raw mut bits) };
        }
        read.map(|()| ThrottleReason::from_bits(bits))
    }

    #[doc(alias = "nvmlDeviceGetMemoryInfo")]
    fn memory(&self) -> Result<Memory> {
        let mut memory = Memory::default();
        // SAFETY: the device is NVML's and the structure writable.
        unsafe { self.api().memory(self.handle, &raw mut memory) }?;
        Ok(memory)
    }

    #[doc(alias = "nvmlDeviceGetUtilizationRates")]
    fn gpu_utilisation(&self) -> Result<f64> {
        let mut percent = Utilisation::default();
        // SAFETY: the device is NVML's and the structure writable.
        unsafe { self.api().utilisation(self.handle, &raw mut percent) }?;
        Ok(f64::from(percent.gpu) / 100.0)
    }
}

fn watts(milliwatts: u32) -> f64 {
    f64::from(milliwatts) / 1000.0
}
