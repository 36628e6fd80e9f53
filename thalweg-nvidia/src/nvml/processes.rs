//! Which processes compute on a GPU, and what each takes of it.

use std::ffi::{c_int, c_uint, c_ulonglong};

use crate::error::Result;
use crate::nvml::NvmlDevice;
use crate::nvml::api::{ProcessInfo, ProcessUtilisation};
use crate::version;

/// Processes for which there is room at first; NVML says when it needs more.
const ROOM: usize = 32;

/// Times that a list is asked for again after it has grown.
const MOST_TRIES: usize = 3;

/// `NVML_ERROR_INSUFFICIENT_SIZE`: there is not room enough, and the count says how much there would have to be.
const INSUFFICIENT_SIZE: c_int = 7;
/// `NVML_ERROR_NOT_FOUND`: there are no samples.
const NOT_FOUND: c_int = 6;

/// `NVML_VALUE_NOT_AVAILABLE`.
const NOT_AVAILABLE: c_ulonglong = c_ulonglong::MAX;

/// A process that computes on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessOnDevice {
    /// The operating system's number of it, outside of all containers.
    pub process: u32,
    /// Memory of the device that it has, in bytes; `None` where the driver does not tell, as inside of a container.
    pub memory_bytes: Option<u64>,
}

impl NvmlDevice {
    /// The processes that compute on it.
    ///
    /// # Errors
    /// Where NVML does not tell.
    #[doc(alias = "nvmlDeviceGetComputeRunningProcesses_v3")]
    pub fn compute_processes(&self) -> Result<Vec<ProcessOnDevice>> {
        let list =
            self.list("nvmlDeviceGetComputeRunningProcesses_v3", |list: &mut [ProcessInfo], count| {
                // SAFETY: the device is NVML's, and the list has room for as many as `count` says.
                unsafe { self.api().compute_processes(self.handle, count, list.as_mut_ptr()) }
            })?;
        let process = |info: ProcessInfo| ProcessOnDevice {
            process: info.process,
            memory_bytes: (info.memory_bytes != NOT_AVAILABLE).then_some(info.memory_bytes),
        };
        Ok(list.into_iter().map(process).collect())
    }

    /// Share of the time, 0 to 1, in which kernels of a process ran, as the mean of NVML's samples (1/6 to 1 s each)
    /// later than a moment in microseconds since 1970; `None` where there is none. It says nothing about how many SMs
    /// they filled.
    ///
    /// # Errors
    /// Where NVML does not tell, as on a MIG slice.
    #[doc(alias = "nvmlDeviceGetProcessUtilization")]
    pub fn process_utilisation(&self, process: u32, later_than_us: u64) -> Result<Option<f64>> {
        let samples =
            self.list("nvmlDeviceGetProcessUtilization", |list: &mut [ProcessUtilisation], count| {
                // SAFETY: the device is NVML's, and the list has room for as many as `count` says.
                unsafe {
                    self.api().process_utilisation(self.handle, list.as_mut_ptr(), count, later_than_us)
                }
            })?;
        let own = samples.iter().filter(|sample| sample.process == process && sample.time > later_than_us);
        let count = own.clone().count();
        let sum: f64 = own.map(|sample| f64::from(sample.sm) / 100.0).sum();
        Ok((count > 0).then(|| sum / count as f64))
    }

    /// A list of which NVML knows the length, in as much room as it takes.
    fn list<T: Copy + Default>(
        &self,
        function: &'static str,
        mut fill: impl FnMut(&mut [T], &mut c_uint) -> Result<c_int>,
    ) -> Result<Vec<T>> {
        let mut list = vec![T::default(); ROOM];
        let mut tries = 0;
        loop {
            let mut count = c_uint::try_from(list.len()).unwrap_or(c_uint::MAX);
            let code = fill(&mut list, &mut count)?;
            tries += 1;
            match code {
                NOT_FOUND => return Ok(Vec::new()),
                // Between two calls it may have grown.
                INSUFFICIENT_SIZE if tries < MOST_TRIES => {
                    list.resize(count as usize + ROOM, T::default());
                }
                code => {
                    version::check(self.api().library(), function, code)?;
                    list.truncate(count as usize);
                    return Ok(list);
                }
            }
        }
    }
}
