//! The functions of NVML that this crate calls, and the structures that go with them.
//!
//! NVIDIA's reference: <https://docs.nvidia.com/deploy/nvml-api/index.html>.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};

use crate::table::function_table;

/// `nvmlDevice_t`, a pointer to a structure of NVML's own.
pub(super) type DeviceHandle = *mut c_void;
/// `nvmlGpmSample_t`, likewise.
pub(super) type SampleHandle = *mut c_void;

/// `NVML_CLOCK_SM`.
pub(super) const CLOCK_SM: c_int = 1;
/// `NVML_CLOCK_MEM`.
pub(super) const CLOCK_MEMORY: c_int = 2;
/// `NVML_TEMPERATURE_GPU`.
pub(super) const SENSOR_GPU: c_int = 0;
/// `NVML_GPM_SUPPORT_VERSION` and `NVML_GPM_METRICS_GET_VERSION`.
pub(super) const GPM_VERSION: c_uint = 1;

/// Room for metrics. `NVML_GPM_METRIC_MAX` grows with the versions of NVML (210 in 12.9) while the version of the
/// structure stays, so there is more room here than any of them has; NVML uses as many as it is told.
const GPM_METRIC_CAPACITY: usize = 512;

/// `nvmlMemory_t`.
#[repr(C)]
#[derive(Default)]
pub(super) struct Memory {
    pub(super) total: c_ulonglong,
    pub(super) free: c_ulonglong,
    pub(super) used: c_ulonglong,
}

/// `nvmlUtilization_t`: percentages.
#[repr(C)]
#[derive(Default)]
pub(super) struct Utilisation {
    pub(super) gpu: c_uint,
    pub(super) memory: c_uint,
}

/// `nvmlProcessInfo_t`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct ProcessInfo {
    pub(super) process: c_uint,
    pub(super) memory_bytes: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

/// `nvmlProcessUtilizationSample_t`: percentages.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct ProcessUtilisation {
    pub(super) process: c_uint,
    /// Microseconds since 1970.
    pub(super) time: c_ulonglong,
    pub(super) sm: c_uint,
    pub(super) memory: c_uint,
    encoder: c_uint,
    decoder: c_uint,
}

/// `nvmlGpmSupport_t`.
#[repr(C)]
pub(super) struct GpmSupport {
    pub(super) version: c_uint,
    pub(super) is_supported: c_uint,
}

/// `nvmlGpmMetric_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct GpmMetric {
    pub(super) id: c_uint,
    pub(super) status: c_int,
    pub(super) value: f64,
    /// Short name, long name and unit.
    texts: [*mut c_char; 3],
}

/// `nvmlGpmMetricsGet_t`.
#[repr(C)]
pub(super) struct GpmMetricsRequest {
    version: c_uint,
    count: c_uint,
    first: SampleHandle,
    second: SampleHandle,
    metrics: [GpmMetric; GPM_METRIC_CAPACITY],
}

impl GpmMetricsRequest {
    /// Asks for these metrics between two samples.
    pub(super) fn new<const COUNT: usize>(
        first: SampleHandle,
        second: SampleHandle,
        ids: [c_uint; COUNT],
    ) -> Box<Self> {
        const { assert!(COUNT <= GPM_METRIC_CAPACITY) };
        let none = GpmMetric { id: 0, status: 0, value: 0.0, texts: [std::ptr::null_mut(); 3] };
        let mut metrics = [none; GPM_METRIC_CAPACITY];
        for (metric, id) in metrics.iter_mut().zip(ids) {
            metric.id = id;
        }
        #[expect(clippy::cast_possible_truncation, reason = "checked above")]
        let count = COUNT as c_uint;
        Box::new(Self { version: GPM_VERSION, count, first, second, metrics })
    }

    /// NVML's answers, in the order of the question.
    pub(super) fn metrics(&self) -> &[GpmMetric] {
        &self.metrics[..self.count as usize]
    }
}

function_table! {
    /// Functions of `libnvidia-ml.so.1` with the parameters of `nvml.h` (CUDA 12.9).
    NvmlApi
    checked {
        "nvmlInit_v2" init();
        "nvmlShutdown" shutdown();
        "nvmlDeviceGetHandleByUUID" device_by_uuid(uuid: *const c_char, device: *mut DeviceHandle);
        "nvmlDeviceGetCount_v2" device_count(count: *mut c_uint);
        "nvmlDeviceGetHandleByIndex_v2" device_by_index(index: c_uint, device: *mut DeviceHandle);
        "nvmlDeviceGetUUID" uuid(device: DeviceHandle, text: *mut c_char, size: c_uint);
        "nvmlDeviceGetName" name(device: DeviceHandle, text: *mut c_char, size: c_uint);
        "nvmlDeviceGetClockInfo" clock(device: DeviceHandle, kind: c_int, mhz: *mut c_uint);
        "nvmlDeviceGetMaxClockInfo" max_clock(device: DeviceHandle, kind: c_int, mhz: *mut c_uint);
        "nvmlDeviceGetPowerUsage" power(device: DeviceHandle, milliwatts: *mut c_uint);
        "nvmlDeviceGetTotalEnergyConsumption" energy(device: DeviceHandle, millijoules: *mut c_ulonglong);
        "nvmlDeviceGetEnforcedPowerLimit" power_limit(device: DeviceHandle, milliwatts: *mut c_uint);
        "nvmlDeviceGetTemperature" temperature(device: DeviceHandle, sensor: c_int, celsius: *mut c_uint);
        "nvmlDeviceGetCurrentClocksThrottleReasons" throttle_reasons(device: DeviceHandle, bits: *mut c_ulonglong);
        "nvmlDeviceGetCurrentClocksEventReasons" event_reasons(device: DeviceHandle, bits: *mut c_ulonglong);
        "nvmlDeviceGetMemoryInfo" memory(device: DeviceHandle, memory: *mut Memory);
        "nvmlDeviceGetCurrPcieLinkGeneration" pcie_generation(device: DeviceHandle, generation: *mut c_uint);
        "nvmlDeviceGetCurrPcieLinkWidth" pcie_width(device: DeviceHandle, lanes: *mut c_uint);
        "nvmlDeviceGetUtilizationRates" utilisation(device: DeviceHandle, percent: *mut Utilisation);
        "nvmlDeviceGetMaxPcieLinkGeneration" max_pcie_generation(device: DeviceHandle, generation: *mut c_uint);
        "nvmlDeviceGetMaxPcieLinkWidth" max_pcie_width(device: DeviceHandle, lanes: *mut c_uint);
        "nvmlGpmQueryDeviceSupport" gpm_support(device: DeviceHandle, support: *mut GpmSupport);
        "nvmlGpmSampleAlloc" gpm_sample_allocate(sample: *mut SampleHandle);
        "nvmlGpmSampleFree" gpm_sample_free(sample: SampleHandle);
        "nvmlGpmSampleGet" gpm_sample_take(device: DeviceHandle, sample: SampleHandle);
        "nvmlGpmMetricsGet" gpm_metrics(request: *mut GpmMetricsRequest);
    }
    polled {
        "nvmlDeviceGetComputeRunningProcesses_v3" compute_processes(
            device: DeviceHandle, count: *mut c_uint, processes: *mut ProcessInfo
        );
        "nvmlDeviceGetProcessUtilization" process_utilisation(
            device: DeviceHandle, samples: *mut ProcessUtilisation, count: *mut c_uint, later_than: c_ulonglong
        );
    }
}
