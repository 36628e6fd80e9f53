//! GPM: counters that a GPU of the Hopper generation or newer keeps all the time, for anybody to read.
//!
//! A metric is the mean between two samples. NVIDIA's list:
//! <https://docs.nvidia.com/deploy/nvml-api/group__nvmlGpmEnums.html>.

use std::ffi::c_uint;
use std::fmt;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::nvml::NvmlDevice;
use crate::nvml::api::{GPM_VERSION, GpmMetric, GpmMetricsRequest, GpmSupport, NvmlApi, SampleHandle};
use crate::version;

/// Values of `nvmlGpmMetricId_t` in nvml.h, in the order of [`GpmMetrics`].
const METRIC_IDS: [c_uint; 7] = [1, 2, 3, 5, 10, 21, 20];

/// Whoever takes a sample or reads two has this. NVML calls itself thread-safe, and samples of several threads crash inside it
/// at times, even those of several devices: seen with driver 580.159.04 and two pools side by side, and by others
/// (<https://github.com/DataDog/datadog-agent/pull/54458>).
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    // Nothing is kept behind the lock, so whoever panicked has left nothing half done.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// NVML counts PCIe traffic in MiB/s.
const BYTES_PER_MIB: f64 = 1_048_576.0;

/// Means over the time between two readings. Where a value is not to be had, the error says why.
#[derive(Clone, Debug, PartialEq)]
pub struct GpmMetrics {
    /// Share of the time in which any graphics or compute work ran, 0 to 1.
    pub graphics_utilisation: Result<f64>,
    /// Share of SMs that had at least one warp, 0 to 1: an upper estimate of how full they were.
    pub sm_utilisation: Result<f64>,
    /// Warps on the SMs over the most that fit, 0 to 1.
    pub sm_occupancy: Result<f64>,
    /// Share of the time in which tensor pipes were active, 0 to 1.
    pub tensor_utilisation: Result<f64>,
    /// Bandwidth of the device memory that was used over the theoretical one, 0 to 1. A device copy, which does
    /// nothing else, reads 0.84 on an H100.
    pub dram_utilisation: Result<f64>,
    /// What came over PCIe, in bytes per second.
    pub pcie_rx_bytes_per_s: Result<f64>,
    /// What went over PCIe, in bytes per second.
    pub pcie_tx_bytes_per_s: Result<f64>,
}

/// Reads the metrics of one device again and again.
pub struct GpmSampler {
    device: NvmlDevice,
    earlier: Sample,
    later: Sample,
}

impl GpmSampler {
    /// Takes the first sample.
    ///
    /// # Errors
    /// [`Error::NoGpm`] where the device has no GPM; [`Error::MissingSymbol`] where the driver is older than GPM.
    pub fn start(device: &NvmlDevice) -> Result<Self> {
        let mut sampler = Self::new(device)?;
        sampler.begin()?;
        Ok(sampler)
    }

    #[doc(alias = "nvmlGpmQueryDeviceSupport")]
    fn new(device: &NvmlDevice) -> Result<Self> {
        let mut support = GpmSupport { version: GPM_VERSION, is_supported: 0 };
        // SAFETY: the device is NVML's; the structure is writable and says its version.
        unsafe { device.api().gpm_support(device.handle, &raw mut support) }?;
        if support.is_supported == 0 {
            return Err(Error::NoGpm { device: device.uuid.clone() });
        }
        Ok(Self { earlier: Sample::new(device)?, later: Sample::new(device)?, device: device.clone() })
    }

    fn begin(&mut self) -> Result<()> {
        self.earlier.take(&self.device)
    }

    /// The metrics since the last reading or the start, or rather between the last times before both at which the device
    /// has renewed its counters, which an H200 does every 100 ms. Where that did not happen in between, they are not known.
    ///
    /// # Errors
    /// Where NVML gives no sample; a metric that is missing is an error in its place.
    #[doc(alias = "nvmlGpmMetricsGet")]
    pub fn read(&mut self) -> Result<GpmMetrics> {
        self.later.take(&self.device)?;
        let mut request = GpmMetricsRequest::new(self.earlier.handle, self.later.handle, METRIC_IDS);
        let turn = turn();
        // SAFETY: both samples were taken and live; the request says its version and how many metrics it asks for.
        unsafe { self.device.api().gpm_metrics(&raw mut *request) }?;
        drop(turn);
        mem::swap(&mut self.earlier, &mut self.later);
        Ok(GpmMetrics::new(self.device.api(), request.metrics()))
    }
}

/// How long to wait before it is seen whether the device has renewed its counters. A look takes a tenth of a millisecond,
/// up to several where the driver is busy.
const LOOK: Duration = Duration::from_millis(5);

/// Begins when the device renews its counters, so that the first reading covers no time before the start.
#[derive(Debug)]
pub struct RenewedGpm(State);

#[derive(Debug)]
enum State {
    Waiting(Search),
    Begun(GpmSampler),
    /// A reading has failed.
    Lost(Error),
}

/// A thread of its own that looks for a renewal. It ends with this.
#[derive(Debug)]
struct Search {
    /// `None` once it was joined.
    thread: Option<JoinHandle<Result<Found>>>,
    is_over: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Found {
    sampler: GpmSampler,
    is_renewed: bool,
}

impl RenewedGpm {
    /// Begins to wait. No sample is taken before it returns, since whoever starts this may be who keeps the device busy.
    ///
    /// # Errors
    /// As [`GpmSampler::start`]; [`Error::NoThread`] where the system has no thread for it.
    pub fn start(device: &NvmlDevice) -> Result<Self> {
        let mut sampler = GpmSampler::new(device)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let look = move || {
            sampler.begin()?;
            let mut is_renewed = false;
            // Relaxed: the thread is joined after that, and nothing else is shared.
            while !is_renewed && !until.load(Ordering::Relaxed) {
                thread::sleep(LOOK);
                is_renewed = sampler.read()?.is_known();
            }
            Ok(Found { sampler, is_renewed })
        };
        let thread = thread::Builder::new().name("thalweg-gpm".to_owned()).spawn(look);
        let thread = thread.map_err(|error| Error::NoThread { reason: error.to_string() })?;
        Ok(Self(State::Waiting(Search { thread: Some(thread), is_over })))
    }

    /// The metrics since the last reading or, for the first one, since the counters were renewed.
    ///
    /// # Errors
    /// As [`GpmSampler::read`]; [`Error::NoReading`] where they were not renewed in between.
    ///
    /// # Panics
    /// Where the thread has panicked.
    pub fn read(&mut self) -> Result<GpmMetrics> {
        let lost = State::Lost(Error::NoReading { what: "GPM counters after an error" });
        let (mut sampler, has_begun) = match mem::replace(&mut self.0, lost) {
            State::Waiting(mut search) => {
                let found = search.end().expect("bug: it was not ended before");
                let found = found.expect("bug: reading counters has panicked")?;
                (found.sampler, found.is_renewed)
            }
            State::Begun(sampler) => (sampler, true),
            State::Lost(error) => return Err(error),
        };
        let metrics = sampler.read()?;
        self.0 = State::Begun(sampler);
        if has_begun && metrics.is_known() {
            Ok(metrics)
        } else {
            Err(Error::NoReading { what: "GPM counters of so short a time" })
        }
    }
}

impl Search {
    /// Waits for the thread; `None` where that has been done.
    fn end(&mut self) -> Option<thread::Result<Result<Found>>> {
        self.is_over.store(true, Ordering::Relaxed);
        Some(self.thread.take()?.join())
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        // What it found or why it ended is of no use any more.
        drop(self.end());
    }
}

impl GpmMetrics {
    /// Whether the counters were renewed in between: otherwise rates of the memory are not known, and the rest is 0.
    fn is_known(&self) -> bool {
        self.dram_utilisation.is_ok() || self.sm_utilisation.as_ref().is_ok_and(|it| *it > 0.0)
    }

    fn new(api: &NvmlApi, metrics: &[GpmMetric]) -> Self {
        let value = |index: usize, what| value(api, &metrics[index], what);
        let fraction = |index, what| value(index, what).map(|percent| percent / 100.0);
        let rate = |index, what| value(index, what).map(|mib_per_s| mib_per_s * BYTES_PER_MIB);
        Self {
            graphics_utilisation: fraction(0, "graphics utilisation"),
            sm_utilisation: fraction(1, "SM utilisation"),
            sm_occupancy: fraction(2, "SM occupancy"),
            tensor_utilisation: fraction(3, "tensor utilisation"),
            dram_utilisation: fraction(4, "DRAM utilisation"),
            pcie_rx_bytes_per_s: rate(5, "PCIe receive rate"),
            pcie_tx_bytes_per_s: rate(6, "PCIe transmit rate"),
        }
    }
}

fn value(api: &NvmlApi, metric: &GpmMetric, what: &'static str) -> Result<f64> {
    version::check(api.library(), "nvmlGpmMetricsGet", metric.status)?;
    if metric.value.is_finite() { Ok(metric.value) } else { Err(Error::NoReading { what }) }
}

impl fmt::Debug for GpmSampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GpmSampler").field("device", &self.device).finish_non_exhaustive()
    }
}

/// Memory of NVML for one sample.
struct Sample {
    handle: SampleHandle,
    device: NvmlDevice,
}

// SAFETY: a sample is written through `&mut` only, and calls that NVML does not take at once have their turns.
unsafe impl Send for Sample {}
// SAFETY: as above.
unsafe impl Sync for Sample {}

impl Sample {
    #[doc(alias = "nvmlGpmSampleAlloc")]
    fn new(device: &NvmlDevice) -> Result<Self> {
        let mut handle = ptr::null_mut();
        // SAFETY: `handle` is writable, and NVML is initialised.
        unsafe { device.api().gpm_sample_allocate(&raw mut handle) }?;
        Ok(Self { handle, device: device.clone() })
    }

    #[doc(alias = "nvmlGpmSampleGet")]
    fn take(&mut self, device: &NvmlDevice) -> Result<()> {
        let _turn = turn();
        // SAFETY: the device and the sample are NVML's, and nobody else uses the sample.
        unsafe { device.api().gpm_sample_take(device.handle, self.handle) }
    }
}

impl Drop for Sample {
    #[doc(alias = "nvmlGpmSampleFree")]
    fn drop(&mut self) {
        // SAFETY: nobody else has the handle; the device keeps NVML initialised.
        let _ = unsafe { self.device.api().gpm_sample_free(self.handle) };
    }
}
