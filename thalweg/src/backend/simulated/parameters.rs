//! What a simulated device is made of: its data sheet, and how far practice stays behind it.

use crate::backend::{DataSheet, Precision};
use crate::error::{Error, Result};

/// A simulated device. Times are in seconds, rates per second, shares in 0..1.
///
/// The presets take ceilings from data sheets. What data sheets do not say was fitted to ResNet-50 FP16 on a
/// real H100 (`cargo test --release -p thalweg --test calibration -- --include-ignored --nocapture` shows the
/// fit) and is taken for the others unchanged: only the H100 is calibrated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// What the vendor promises.
    pub sheet: DataSheet,
    /// Bytes of one weight or activation in the engine: 2 for FP16.
    pub element_bytes: f64,
    /// What kernels reach of it.
    pub kernels: KernelParameters,
    /// Copies between host and device.
    pub copies: CopyParameters,
    /// The host's side of an execution.
    pub host: HostParameters,
    /// Clocks under load.
    pub clock: ClockParameters,
    /// Executions differ by up to this share of their time, to either side.
    pub jitter: f64,
}

/// What kernels reach of the data sheet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelParameters {
    /// Share of the peak arithmetic that a full grid of tiles reaches.
    pub tensor_efficiency: f64,
    /// Share of the peak DRAM bandwidth that is reached at all: 0.84 was read for a copy on an H100.
    pub dram_ceiling: f64,
    /// Size of the tensors of which half the traffic misses the L2 cache, as a multiple of its size.
    pub cache_reach: f64,
    /// From the start of a kernel until its thread blocks do their work: loading code, filling pipelines.
    pub ramp_s: f64,
    /// Time of an SM for each thread block besides its arithmetic.
    pub block_s: f64,
    /// Elements of the output that one thread block computes.
    pub tile: f64,
    /// From the end of a kernel to the start of the next in its stream.
    pub gap_s: f64,
    /// How much longer gaps and ramps take when many streams are active, as a share of their time: kernels
    /// side by side share caches and schedulers. Half of it shows with two streams.
    pub crowding: f64,
    /// How much less or more than its share a stretch of kernels may get among many streams, as a part of its
    /// time. Half of it shows with two streams.
    pub unevenness: f64,
}

/// Copies between host and device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CopyParameters {
    /// Share of the bus's bandwidth that a pinned copy reaches.
    pub efficiency: f64,
    /// Time of a copy besides its bytes.
    pub latency_s: f64,
}

/// The host's side of an execution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostParameters {
    /// Work of the submitting thread for each execution, whatever is launched.
    pub execution_s: f64,
    /// Launching one kernel without a graph.
    pub launch_s: f64,
    /// Launching a graph.
    pub graph_launch_s: f64,
    /// Share of an enqueue in which the thread holds the driver's lock.
    pub locked_share: f64,
    /// How much longer the locked part takes for each thread that waits for the lock, as a share of it.
    pub contention: f64,
    /// From the end of an execution on the device to the submitter's seeing it.
    pub wake_s: f64,
}

/// Clocks under load: power grows with the busy share of the SMs and the square of the clock, and the card
/// holds it at its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockParameters {
    /// Share of the highest clock that the power limit allows under full load.
    pub sustained: f64,
    /// Time over which the load is averaged.
    pub memory_s: f64,
    /// Power drawn while idle, as a share of the limit.
    pub idle_power: f64,
}

impl Parameters {
    /// The preset of this short name, see [`DataSheet::of`].
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] with the names there are.
    pub fn preset(key: &str) -> Result<Self> {
        let sheet = DataSheet::of(key).ok_or_else(|| {
            let known: Vec<_> = DataSheet::all().iter().map(|sheet| sheet.key).collect();
            Error::InvalidSetting {
                name: "backend",
                value: format!("simulated:{key}"),
                reason: format!("the simulated devices are {}", known.join(", ")),
            }
        })?;
        Ok(Self::of(sheet))
    }

    /// The preset of a device with this data sheet.
    pub(crate) fn of(sheet: DataSheet) -> Self {
        let clock = ClockParameters { sustained: sustained_clock(sheet.key), ..CLOCK };
        Self { sheet, element_bytes: 2.0, kernels: KERNELS, copies: COPIES, host: HOST, clock, jitter: 0.02 }
    }

    /// The same device with layers in a precision, by the data sheet's rate for it: eight bits are half of FP16's bytes, and FP32
    /// is TF32 on the tensor cores, at half the rate of FP16, as TensorRT computes it unless it is told otherwise.
    pub(crate) fn in_precision(self, precision: Precision) -> Self {
        let sheet = DataSheet { fp16_flops_per_s: self.sheet.tensor_flops_per_s(precision), ..self.sheet };
        Self { sheet, element_bytes: precision.element_bytes(), ..self }
    }

    /// Bytes per second that kernels reach.
    pub fn dram_bytes_per_s(&self) -> f64 {
        self.sheet.dram_bytes_per_s * self.kernels.dram_ceiling
    }

    /// Bytes per second of a pinned copy, one direction.
    pub fn copy_bytes_per_s(&self) -> f64 {
        self.sheet.pcie_bytes_per_s * self.copies.efficiency
    }
}

/// Fitted to all 16 cells of the ResNet-50 table of an H100, which they then meet within 5 %. The ceiling of
/// the DRAM was read there for a plain copy. The unevenness gives executions of eight streams the coefficient of
/// variation that they have there: 2.6 %, where one stream has 0.3 % (ResNet-50 FP16 at batch 1 and 8, PyTorch 2.11
/// with CUDA graphs); the throughput of each tenth of such a run was within 2 % of the others'.
const KERNELS: KernelParameters = KernelParameters {
    tensor_efficiency: 0.75,
    dram_ceiling: 0.84,
    cache_reach: 0.776,
    ramp_s: 4.28e-6,
    block_s: 1.0e-6,
    tile: 5461.0,
    gap_s: 2.10e-6,
    crowding: 0.83,
    unevenness: 0.25,
};

/// Pinned copies on an H100 reach 51.5 GiB/s of the 63 GB/s of its bus.
const COPIES: CopyParameters = CopyParameters { efficiency: 0.878, latency_s: 4.0e-6 };

/// One thread enqueues ResNet-50, some 60 kernels, in 0.48 to 0.85 ms on the H100's host. Eight threads that
/// enqueue without graphs reach 503 executions/s there, a quarter of what one thread can do.
const HOST: HostParameters = HostParameters {
    execution_s: 8.0e-6,
    launch_s: 8.0e-6,
    graph_launch_s: 12.0e-6,
    locked_share: 0.8,
    contention: 0.4,
    wake_s: 8.0e-6,
};

/// No throttling was seen on the H100 with ResNet-50.
const CLOCK: ClockParameters = ClockParameters { sustained: 1.0, memory_s: 0.01, idle_power: 0.12 };

/// Cards with little power for their SMs cannot hold their highest clock: an estimate, not a measurement.
fn sustained_clock(key: &str) -> f64 {
    match key {
        "l4" => 0.65,
        "orin" => 0.9,
        _ => 1.0,
    }
}
