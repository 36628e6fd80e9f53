//! What NVML says of a GPU and of the processes on it, reading after reading.
//!
//! In: which GPU, or a process that is on it. Out: [`Reading`]s as plain data. It needs no rights and disturbs nothing,
//! and it works for any process, also one that has been running for long.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thalweg_nvidia::nvml::{Nvml, NvmlDevice};

use super::threads::Threads;
use crate::backend::{Counters, Observer, Surroundings, tensorrt};
use crate::error::{Error, Result};
use crate::units::{Bytes, Nanos};

/// Bytes per second and lane of PCIe by generation, from the third on (PCI-SIG: 8, 16, 32 and 64 GT/s; the first three
/// lose 2 of 130 bits to their encoding).
const PCIE_LANE_RATES: [f64; 4] = [0.985e9, 1.969e9, 3.938e9, 7.563e9];

/// Share of that rate which a pinned copy reaches: 55.3 of 63 GB/s on an H100 (51.5 GiB/s).
const COPY_SHARE: f64 = 0.87;

/// Reads one GPU again and again.
pub struct Gauges {
    device: NvmlDevice,
    name: String,
    meter: Box<dyn Observer>,
    threads: Threads,
    start: Instant,
    last_us: u64,
}

/// What was read at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Nanoseconds since 1970.
    #[serde(rename = "unix_ns")]
    pub unix: Nanos,
    /// Clocks and power now, and means of the counters since the reading before.
    pub counters: Counters,
    /// Share of NVML's last sample period (1/6 to 1 s) in which any kernel ran: it says nothing about how many SMs
    /// that filled.
    pub gpu_utilisation: Option<f64>,
    /// Memory that is taken, by all processes and the driver.
    #[serde(rename = "memory_used_bytes")]
    pub memory_used: Option<Bytes>,
    /// Size of the memory.
    #[serde(rename = "memory_total_bytes")]
    pub memory_total: Option<Bytes>,
    /// What the GPU may draw, in watts.
    pub power_limit_watts: Option<f64>,
    /// What the PCIe link can carry in one direction, in bytes per second, as far as copies reach that.
    pub pcie_limit_bytes_per_s: Option<f64>,
    /// The processes that compute on it.
    pub processes: Vec<ProcessReading>,
    /// Share of a core that the busiest thread of these processes had since the reading before: near 1 it may be the one
    /// that submits, or one that waits by asking. `None` where the system does not know the processes' threads.
    #[serde(default)]
    pub busiest_thread: Option<f64>,
}

/// What one process takes of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessReading {
    /// Its number outside of all containers.
    pub process: u32,
    /// Memory of the GPU that it has.
    #[serde(rename = "memory_bytes")]
    pub memory: Option<Bytes>,
    /// Share of NVML's last samples in which kernels of it ran.
    pub gpu_utilisation: Option<f64>,
}

/// Readings of one GPU, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GpuReadings {
    /// What NVIDIA calls the GPU.
    pub name: String,
    /// What tells it from all others.
    pub uuid: String,
    /// What was read.
    pub readings: Vec<Reading>,
}

impl GpuReadings {
    /// What a reader should know where none of these processes was seen on the GPU: the first was read, and the
    /// processes may have used another.
    pub fn doubt(&self, processes: &[u32]) -> Option<String> {
        let seen = |reading: &Reading| reading.processes.iter().any(|it| processes.contains(&it.process));
        if processes.is_empty() || self.readings.is_empty() || self.readings.iter().any(seen) {
            return None;
        }
        Some(format!(
            "the gauges are of {}, {}, on which NVML saw no process of the command: it may have used another GPU, which \
             --device names (inside of a container, and of a process that ends within a period, NVML tells nothing)",
            self.name, self.uuid
        ))
    }
}

/// A quantity of a [`Reading`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// Share of time with any kernel.
    GpuUtilisation,
    /// Share of SMs with any warp.
    SmActivity,
    /// Warps on the SMs.
    SmOccupancy,
    /// Share of time in which tensor pipes ran.
    TensorActivity,
    /// Traffic of the device's memory.
    Dram,
    /// Traffic to the device.
    PcieRx,
    /// Traffic from the device.
    PcieTx,
    /// Time on a core of the busiest thread of the processes on the GPU.
    BusiestThread,
    /// Memory that is taken.
    Memory,
    /// Clock of the SMs.
    SmClock,
    /// Power.
    Power,
}

impl Gauge {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 11] = [
        Self::GpuUtilisation,
        Self::SmActivity,
        Self::SmOccupancy,
        Self::TensorActivity,
        Self::Dram,
        Self::PcieRx,
        Self::PcieTx,
        Self::BusiestThread,
        Self::Memory,
        Self::SmClock,
        Self::Power,
    ];

    /// What it was, in the unit of [`limit`](Self::limit), and as a share where that is 1.
    pub fn value(self, reading: &Reading) -> Option<f64> {
        let counters = &reading.counters;
        match self {
            Self::GpuUtilisation => reading.gpu_utilisation,
            Self::SmActivity => counters.sm_activity,
            Self::SmOccupancy => counters.sm_occupancy,
            Self::TensorActivity => counters.tensor_activity,
            Self::Dram => counters.dram_utilisation,
            Self::PcieRx => counters.pcie_rx_bytes_per_s,
            Self::PcieTx => counters.pcie_tx_bytes_per_s,
            Self::BusiestThread => reading.busiest_thread,
            Self::Memory => reading.memory_used.map(|bytes| bytes.0 as f64),
            Self::SmClock => counters.sm_clock_mhz,
            Self::Power => counters.power_watts,
        }
    }

    /// The most that it could be.
    pub fn limit(self, reading: &Reading) -> Option<f64> {
        match self {
            Self::GpuUtilisation
            | Self::SmActivity
            | Self::SmOccupancy
            | Self::TensorActivity
            | Self::Dram
            | Self::BusiestThread => Some(1.0),
            Self::PcieRx | Self::PcieTx => reading.pcie_limit_bytes_per_s,
            Self::Memory => reading.memory_total.map(|bytes| bytes.0 as f64),
            Self::SmClock => reading.counters.sm_clock_max_mhz,
            Self::Power => reading.power_limit_watts,
        }
    }
}

/// Reads a GPU on a thread of its own until it is [stopped](Self::stop).
pub struct Watcher {
    stop: Sender<()>,
    thread: JoinHandle<GpuReadings>,
}

impl Watcher {
    /// Reads once in each period.
    ///
    /// # Errors
    /// [`Error::Bug`] where the operating system gives no thread.
    pub fn start(mut gauges: Gauges, period: Duration) -> Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let watch = move || {
            let mut readings = Vec::new();
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(period) {
                readings.push(gauges.read());
            }
            GpuReadings { name: gauges.name, uuid: gauges.device.uuid().to_owned(), readings }
        };
        let thread = thread::Builder::new().name("thalweg-gauges".to_owned()).spawn(watch);
        let thread = thread.map_err(|error| Error::Bug(format!("no thread for the gauges: {error}")))?;
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub fn stop(self) -> GpuReadings {
        // Where the thread has gone there is nobody to hear it, and nothing was read.
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_default()
    }
}

impl Gauges {
    /// Opens the GPU of `surroundings`, by NVML's number (the order on the PCI bus) or UUID; the first without one.
    ///
    /// # Errors
    /// Where NVML or the GPU is not there.
    pub fn open(surroundings: &Surroundings) -> Result<Self> {
        let nvml = Nvml::open(&surroundings.places())?;
        let Some(wanted) = &surroundings.device else {
            return Self::of(first(nvml.devices()?)?);
        };
        match wanted.parse::<usize>() {
            Ok(index) => {
                let devices = nvml.devices()?;
                let count = devices.len();
                let found = devices.into_iter().nth(index);
                Self::of(
                    found.ok_or_else(|| no_device(wanted, &format!("there are {count}, counted from 0")))?,
                )
            }
            Err(_) => Self::of(nvml.device_by_uuid(wanted)?),
        }
    }

    /// Opens the first GPU that a process computes on.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::InvalidSetting`] where the process is on none.
    pub fn open_for(process: u32, surroundings: &Surroundings) -> Result<Self> {
        if surroundings.device.is_some() {
            return Self::open(surroundings);
        }
        let devices = Nvml::open(&surroundings.places())?.devices()?;
        let has_it = |device: &&NvmlDevice| {
            let processes = device.compute_processes().unwrap_or_default();
            processes.iter().any(|it| it.process == process)
        };
        let found = devices.iter().find(has_it).cloned();
        Self::of(found.ok_or_else(|| Error::InvalidSetting {
            name: "pid",
            value: process.to_string(),
            reason: "no GPU has a process of this number; NVML knows processes by their numbers outside of containers, \
                     so inside of one name the GPU with --device"
                .to_owned(),
        })?)
    }

    fn of(device: NvmlDevice) -> Result<Self> {
        let name = device.name()?;
        let mut meter = tensorrt::meter(device.clone());
        meter.start();
        let (threads, last_us) = (Threads::default(), unix_now().0 / 1000);
        Ok(Self { device, name, meter, threads, start: Instant::now(), last_us })
    }

    /// What NVIDIA calls the GPU.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What tells the GPU from all others.
    pub fn uuid(&self) -> &str {
        self.device.uuid()
    }

    /// Reads it now. Counters are means since the last reading; NVIDIA's are some 100 ms apart, so over a much shorter
    /// time they are not known.
    pub fn read(&mut self) -> Reading {
        let mut counters = self.meter.read();
        let elapsed = self.start.elapsed();
        counters.window = Nanos::from_duration(elapsed);
        self.start = Instant::now();
        let state = self.device.state();
        // Whoever looks on does not mind what the last second had in it.
        counters.power_watts = counters.power_watts.or(state.power_watts.clone().ok());
        let later_than = std::mem::replace(&mut self.last_us, unix_now().0 / 1000);
        let processes = self.device.compute_processes().unwrap_or_default();
        let process = |it: &thalweg_nvidia::nvml::ProcessOnDevice| ProcessReading {
            process: it.process,
            memory: it.memory_bytes.map(Bytes),
            gpu_utilisation: self.device.process_utilisation(it.process, later_than).ok().flatten(),
        };
        let busiest_thread = self.threads.busiest(processes.iter().map(|it| it.process), elapsed);
        Reading {
            unix: unix_now(),
            busiest_thread,
            counters,
            gpu_utilisation: state.gpu_utilisation.ok(),
            memory_used: state.memory_used_bytes.ok().map(Bytes),
            memory_total: state.memory_total_bytes.ok().map(Bytes),
            power_limit_watts: state.power_limit_watts.ok(),
            pcie_limit_bytes_per_s: state
                .pcie_generation_max
                .ok()
                .zip(state.pcie_width_max.ok())
                .and_then(|(generation, lanes)| pcie_limit(generation, lanes)),
            processes: processes.iter().map(process).collect(),
        }
    }
}

fn first(devices: Vec<NvmlDevice>) -> Result<NvmlDevice> {
    devices.into_iter().next().ok_or_else(|| no_device("0", "NVML knows no GPU"))
}

fn no_device(wanted: &str, reason: &str) -> Error {
    Error::InvalidSetting { name: "device", value: wanted.to_owned(), reason: reason.to_owned() }
}

/// What copies reach over a link of so many lanes; `None` for generations before the third.
fn pcie_limit(generation: u32, lanes: u32) -> Option<f64> {
    let place = usize::try_from(generation).ok()?.checked_sub(3)?;
    let rate = PCIE_LANE_RATES.get(place).or(PCIE_LANE_RATES.last())?;
    Some(rate * f64::from(lanes) * COPY_SHARE)
}

fn unix_now() -> Nanos {
    Nanos::from_duration(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_on_which_no_watched_process_was_seen_is_named() {
        let process = ProcessReading { process: 42, memory: None, gpu_utilisation: None };
        let reading = Reading {
            unix: Nanos(1),
            counters: Counters::default(),
            gpu_utilisation: None,
            memory_used: None,
            memory_total: None,
            power_limit_watts: None,
            pcie_limit_bytes_per_s: None,
            processes: vec![process],
            busiest_thread: None,
        };
        let (name, uuid) = ("NVIDIA H100".to_owned(), "GPU-1".to_owned());
        let gpu = GpuReadings { name, uuid, readings: vec![reading] };
        assert_eq!(gpu.doubt(&[7, 42]), None, "42 is on it");
        assert_eq!(gpu.doubt(&[]), None, "nothing used CUDA");
        let doubt = gpu.doubt(&[7]).unwrap();
        assert!(doubt.starts_with("the gauges are of NVIDIA H100, GPU-1, on which"), "{doubt}");
        assert_eq!(GpuReadings::default().doubt(&[7]), None, "nothing was read");
    }

    #[test]
    fn a_link_carries_what_its_generation_and_its_lanes_allow() {
        let in_gb = |generation, lanes| pcie_limit(generation, lanes).map(|rate| (rate / 1e9).round());
        assert_eq!(in_gb(5, 16), Some(55.0));
        assert_eq!(in_gb(4, 16), Some(27.0));
        assert_eq!(in_gb(3, 8), Some(7.0));
        assert_eq!(in_gb(2, 16), None);
    }
}
