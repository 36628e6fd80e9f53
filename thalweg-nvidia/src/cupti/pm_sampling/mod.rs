//! PM sampling: a GPU's counters, read by CUPTI some thousand times a second, for GPUs whose driver keeps none itself.
//!
//! In: a [`Cupti`] of CUDA 12.6 or newer and a device. Out: means over the time of a [`PmSampler`], with the meanings
//! that [`nvml`](crate::nvml)'s GPM gives them, or the reason why there are none: it needs rights that a driver gives to
//! administrators alone unless it is told otherwise. A thread does all of it, so who measures waits for its start
//! alone, some hundred milliseconds.
//!
//! NVIDIA's guide: <https://docs.nvidia.com/cupti/main/main.html#cupti-pm-sampling-api>.

pub(super) mod parameters;
mod session;

#[cfg(test)]
mod tests;

use std::ffi::CStr;
use std::panic;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::cupti::api::{CuptiApi, SECOND_SUBSCRIBER};
use crate::cupti::{Cupti, recording};
use crate::error::{Error, Result};

use session::{Prepared, Profiler, Sampling};

/// The oldest interface with PM sampling: `CUPTI_API_VERSION` of 12.6.
const OLDEST_VERSION: u32 = 24;

/// How often samples are taken out of the hardware's buffer.
const PERIOD: Duration = Duration::from_millis(200);

/// `CUPTI_ERROR_INSUFFICIENT_PRIVILEGES`.
const INSUFFICIENT_PRIVILEGES: i32 = 35;

/// A percentage as a fraction.
const PERCENT: f64 = 0.01;

/// What is wanted of a device, the most important first: where not all can be counted at a time the last ones are left
/// out. Each has the names that NVIDIA gives it, the best first; which of them a chip has, only CUPTI knows. Those with
/// `Triage` are for sampling, where the others are for one kernel at a time. Over all that CUPTI 13.0 knows (Volta to
/// Blackwell) the first names are there but for DRAM and PCIe on GPUs within a system on a chip, which have neither.
const WANTED: [Wanted; 6] = [
    Wanted {
        what: "DRAM utilisation",
        metrics: &[
            c"dram__bytes.sum.pct_of_peak_sustained_elapsed",
            c"dram__throughput.avg.pct_of_peak_sustained_elapsed",
            c"FBSP.TriageCompute.dramc__throughput.avg.pct_of_peak_sustained_elapsed",
        ],
        unit: PERCENT,
    },
    Wanted {
        what: "SM utilisation",
        metrics: &[
            c"sm__cycles_active.avg.pct_of_peak_sustained_elapsed",
            c"TPC.TriageCompute.sm__cycles_active.avg.pct_of_peak_sustained_elapsed",
        ],
        unit: PERCENT,
    },
    Wanted {
        what: "tensor utilisation",
        metrics: &[
            c"sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
            c"TPC.TriageCompute.sm__pipe_tensor_cycles_active_realtime.avg.pct_of_peak_sustained_elapsed",
            c"sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_elapsed",
        ],
        unit: PERCENT,
    },
    Wanted {
        what: "SM occupancy",
        metrics: &[
            c"sm__warps_active.avg.pct_of_peak_sustained_elapsed",
            c"sm__warps_active_realtime.avg.pct_of_peak_sustained_elapsed",
            c"TPC.TriageCompute.tpc__warps_active_realtime.avg.pct_of_peak_sustained_elapsed",
        ],
        unit: PERCENT,
    },
    Wanted {
        what: "PCIe receive rate",
        metrics: &[c"pcie__read_bytes.sum.per_second", c"PCI.TriageCompute.pcie__read_bytes.sum.per_second"],
        unit: 1.0,
    },
    Wanted {
        what: "PCIe transmit rate",
        metrics: &[
            c"pcie__write_bytes.sum.per_second",
            c"PCI.TriageCompute.pcie__write_bytes.sum.per_second",
        ],
        unit: 1.0,
    },
];

struct Wanted {
    what: &'static str,
    metrics: &'static [&'static CStr],
    /// What a value is multiplied by.
    unit: f64,
}

/// Means over the time of a sampler. `None` where the chip does not count it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PmMetrics {
    /// What NVIDIA calls the chip, for example `GA102`.
    pub chip: String,
    /// Samples that the means are over.
    pub sample_count: u64,
    /// Bandwidth of the device memory that was used over the theoretical one, 0 to 1.
    pub dram_utilisation: Option<f64>,
    /// Share of SMs that had at least one warp, 0 to 1.
    pub sm_utilisation: Option<f64>,
    /// Share of the time in which tensor pipes were active, 0 to 1.
    pub tensor_utilisation: Option<f64>,
    /// Warps on the SMs over the most that fit, 0 to 1.
    pub sm_occupancy: Option<f64>,
    /// What came over PCIe, in bytes per second.
    pub pcie_rx_bytes_per_s: Option<f64>,
    /// What went over PCIe, in bytes per second.
    pub pcie_tx_bytes_per_s: Option<f64>,
    /// What the chip does not count, or not together with the rest.
    pub missing: Vec<&'static str>,
    /// What CUPTI said of the first that is missing for another reason than that.
    pub refusal: Option<Error>,
}

/// Samples one device until it is [finished](Self::finish) or dropped. A process can have one at a time, and no
/// [`Recording`](crate::cupti::Recording) beside it.
#[derive(Debug)]
pub struct PmSampler {
    /// Nothing is ever sent: the thread ends when this is dropped.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<Result<PmMetrics>>>,
}

impl PmSampler {
    /// Samples the device that CUDA gives this number from its return on. What fails later is told at the end.
    ///
    /// # Errors
    /// [`Error::NoPmSampling`] where CUPTI is older, [`Error::SamplesAlready`] or [`Error::RecordsAlready`] where this
    /// process uses CUPTI already, [`Error::NoThread`] where the system gives no thread,
    /// [`Error::NoRightToCounters`] where the driver keeps counters for administrators, [`Error::CuptiIsTaken`] beside
    /// another profiler, [`Error::NoMetrics`], and what else CUPTI says.
    pub fn start(cupti: Cupti, device_index: u32) -> Result<Self> {
        if cupti.version < OLDEST_VERSION {
            return Err(Error::NoPmSampling { version: cupti.version, path: cupti.path().to_owned() });
        }
        let claim = Claim::make()?;
        if recording::runs() {
            return Err(Error::RecordsAlready);
        }
        let (running, stopped) = mpsc::channel();
        let (started, is_started) = mpsc::sync_channel(1);
        let work = move || {
            let _claim = claim;
            sample(&cupti.api, device_index as usize, &started, &stopped).map_err(explain)
        };
        let thread = thread::Builder::new().name("pm-sampling".to_owned()).spawn(work);
        let thread = thread.map_err(|error| Error::NoThread { reason: error.to_string() })?;
        let mut sampler = Self { running: Some(running), thread: Some(thread) };
        match is_started.recv() {
            Ok(()) => Ok(sampler),
            // The thread ended before it had begun.
            Err(_) => Err(sampler.join().and_then(Result::err).unwrap_or(Error::NoSamples)),
        }
    }

    /// Takes no more samples and gives what they say.
    ///
    /// # Errors
    /// [`Error::SamplesLost`] or [`Error::NoSamples`] where there is nothing to say, and what else CUPTI says.
    pub fn finish(mut self) -> Result<PmMetrics> {
        self.join().unwrap_or(Err(Error::NoSamples))
    }

    fn join(&mut self) -> Option<Result<PmMetrics>> {
        self.running = None;
        let ended = self.thread.take()?.join();
        Some(ended.unwrap_or_else(|payload| panic::resume_unwind(payload)))
    }
}

impl Drop for PmSampler {
    fn drop(&mut self) {
        self.running = None;
        // A panic of the thread was told where it happened.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Whether a sampler of this process runs.
pub(super) fn runs() -> bool {
    SAMPLES.load(Ordering::Acquire)
}

static SAMPLES: AtomicBool = AtomicBool::new(false);

/// The one sampler of this process.
struct Claim;

impl Claim {
    fn make() -> Result<Self> {
        if SAMPLES.swap(true, Ordering::AcqRel) { Err(Error::SamplesAlready) } else { Ok(Self) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        SAMPLES.store(false, Ordering::Release);
    }
}

/// Says when it has begun, and samples until the other end of `stopped` is gone.
fn sample(
    api: &CuptiApi,
    device_index: usize,
    started: &SyncSender<()>,
    stopped: &Receiver<()>,
) -> Result<PmMetrics> {
    check_free(api)?;
    let profiler = Profiler::start(api)?;
    let chip = profiler.chip(device_index)?;
    let availability = profiler.counter_availability(device_index)?;
    let Choice { prepared, order, refusal } = choose(&profiler, &chip, &availability)?;
    let mut sampling = Sampling::start(&prepared, device_index, &chip)?;
    // Whoever waits for it is there.
    let _ = started.send(());
    let mut sums = Sums { of: [(0.0, 0); WANTED.len()], order, sample_count: 0 };
    loop {
        let is_over = stopped.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout);
        if is_over {
            sampling.stop()?;
        }
        sampling.drain(|values| sums.add(values))?;
        if is_over {
            let metrics = sums.metrics(chip.to_string_lossy().into_owned())?;
            return Ok(PmMetrics { refusal, ..metrics });
        }
    }
}

/// Whether nobody else in this process uses CUPTI, which is told to whoever wants to be its user.
#[doc(alias = "cuptiSubscribe")]
fn check_free(api: &CuptiApi) -> Result<()> {
    let mut subscriber = ptr::null_mut();
    // SAFETY: the handle is writable; the function is of the type that CUPTI documents, and does nothing.
    match unsafe { api.subscribe(&raw mut subscriber, recording::called, ptr::null_mut()) } {
        Err(Error::Status { code, .. }) if SECOND_SUBSCRIBER.contains(&code) => Err(Error::CuptiIsTaken),
        Err(other) => Err(other),
        // SAFETY: the handle is CUPTI's, and nobody else has it.
        Ok(()) => unsafe { api.unsubscribe(subscriber) },
    }
}

/// The metrics that the chip can count at a time.
struct Choice<'a> {
    prepared: Prepared<'a>,
    /// Which of [`WANTED`] each of them is.
    order: Vec<usize>,
    /// Why the first of the others is none, where that is not for the chip.
    refusal: Option<Error>,
}

fn choose<'a>(profiler: &'a Profiler<'_>, chip: &'a CStr, availability: &'a [u8]) -> Result<Choice<'a>> {
    let (mut best, mut names, mut order, mut refusal) = (None, Vec::new(), Vec::new(), None);
    'wanted: for (index, wanted) in WANTED.iter().enumerate() {
        let mut refused = None;
        for name in wanted.metrics {
            names.push(*name);
            match profiler.prepare(chip, availability, &names) {
                Ok(Some(prepared)) => {
                    best = Some(prepared);
                    order.push(index);
                    continue 'wanted;
                }
                Ok(None) => {}
                Err(error @ Error::Status { .. }) => refused = refused.or(Some(error)),
                Err(other) => return Err(other),
            }
            names.pop();
        }
        refusal = refusal.or(refused);
    }
    match best {
        Some(prepared) => Ok(Choice { prepared, order, refusal }),
        None => {
            Err(refusal.unwrap_or_else(|| Error::NoMetrics { chip: chip.to_string_lossy().into_owned() }))
        }
    }
}

/// Samples, added up.
struct Sums {
    /// Sum and count for each of [`WANTED`].
    of: [(f64, u32); WANTED.len()],
    /// Which of them a sample's values are.
    order: Vec<usize>,
    sample_count: u64,
}

impl Sums {
    /// All samples are equally long, so they count alike.
    fn add(&mut self, values: &[f64]) {
        self.sample_count += 1;
        for (index, value) in self.order.iter().zip(values) {
            if value.is_finite() {
                self.of[*index].0 += value * WANTED[*index].unit;
                self.of[*index].1 += 1;
            }
        }
    }

    fn metrics(&self, chip: String) -> Result<PmMetrics> {
        if self.sample_count == 0 {
            return Err(Error::NoSamples);
        }
        let mean = |(sum, count): (f64, u32)| (count > 0).then(|| sum / f64::from(count));
        let [dram, sm, tensor, occupancy, rx, tx] = self.of.map(mean);
        let missing = WANTED.iter().zip(self.of).filter(|(_, (_, count))| *count == 0);
        Ok(PmMetrics {
            chip,
            sample_count: self.sample_count,
            dram_utilisation: dram,
            sm_utilisation: sm,
            tensor_utilisation: tensor,
            sm_occupancy: occupancy,
            pcie_rx_bytes_per_s: rx,
            pcie_tx_bytes_per_s: tx,
            missing: missing.map(|(wanted, _)| wanted.what).collect(),
            refusal: None,
        })
    }
}

/// What to do about a lack of rights.
fn explain(error: Error) -> Error {
    match error {
        Error::Status { function, code: INSUFFICIENT_PRIVILEGES, .. } => {
            Error::NoRightToCounters { function }
        }
        other => other,
    }
}
