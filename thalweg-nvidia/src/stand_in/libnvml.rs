//! Source of a stand-in for `libnvidia-ml.so.1` with two devices and a MIG slice: only `GPU-new` has GPM. It is of an
//! older driver: the reasons for low clocks go by their old name. Neither can tell its temperature.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void, CStr};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};

type Handle = *mut c_void;

const NEW: usize = 16;
const NOT_SUPPORTED: c_int = 3;
const NOT_FOUND: c_int = 6;
const INSUFFICIENT_SIZE: c_int = 7;
const UNINITIALIZED: c_int = 1;

static ENERGY_READINGS: AtomicU64 = AtomicU64::new(0);
static SESSIONS: AtomicI32 = AtomicI32::new(0);
static SAMPLES: AtomicI32 = AtomicI32::new(0);
static SAMPLE_NUMBER: AtomicI32 = AtomicI32::new(0);

/// Sessions and samples that are open.
#[no_mangle]
pub unsafe extern "C" fn stand_in_live(counts: *mut [i32; 2]) {
    *counts = [SESSIONS.load(SeqCst), SAMPLES.load(SeqCst)];
}

#[no_mangle]
pub extern "C" fn nvmlInit_v2() -> c_int {
    SESSIONS.fetch_add(1, SeqCst);
    0
}

#[no_mangle]
pub extern "C" fn nvmlShutdown() -> c_int {
    SESSIONS.fetch_sub(1, SeqCst);
    0
}

#[no_mangle]
pub extern "C" fn nvmlErrorString(code: c_int) -> *const c_char {
    match code {
        NOT_SUPPORTED => c"Not Supported".as_ptr(),
        NOT_FOUND => c"Not Found".as_ptr(),
        _ => c"Unknown Error".as_ptr(),
    }
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut Handle) -> c_int {
    if SESSIONS.load(SeqCst) == 0 {
        return UNINITIALIZED;
    }
    *device = match CStr::from_ptr(uuid).to_bytes() {
        b"GPU-new" => NEW as Handle,
        b"GPU-old" => 32 as Handle,
        b"MIG-slice" => 48 as Handle,
        _ => return NOT_FOUND,
    };
    0
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> c_int {
    write(count, 2)
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Handle) -> c_int {
    *device = if index == 0 { 32 as Handle } else { NEW as Handle };
    0
}

unsafe fn write_text(text: *mut c_char, size: c_uint, value: &CStr) -> c_int {
    assert!(size as usize >= value.to_bytes_with_nul().len());
    std::ptr::copy_nonoverlapping(value.as_ptr(), text, value.to_bytes_with_nul().len());
    0
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetUUID(device: Handle, text: *mut c_char, size: c_uint) -> c_int {
    write_text(text, size, if device as usize == NEW { c"GPU-new" } else { c"GPU-old" })
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetName(_device: Handle, text: *mut c_char, size: c_uint) -> c_int {
    write_text(text, size, c"Stand-in GPU")
}

#[repr(C)]
pub struct ProcessInfo {
    process: c_uint,
    memory_bytes: c_ulonglong,
    instances: [c_uint; 2],
}

/// Forty processes on the new device, of the first of which the memory is not known; none on the old one.
#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Handle,
    count: *mut c_uint,
    processes: *mut ProcessInfo,
) -> c_int {
    let room = *count;
    *count = if device as usize == NEW { 40 } else { 0 };
    if room < *count {
        return INSUFFICIENT_SIZE;
    }
    for index in 0..*count {
        let memory_bytes = if index == 0 { c_ulonglong::MAX } else { 1_000_000 * c_ulonglong::from(index) };
        *processes.add(index as usize) = ProcessInfo { process: 1000 + index, memory_bytes, instances: [0; 2] };
    }
    0
}

#[repr(C)]
pub struct ProcessUtilisation {
    process: c_uint,
    time: c_ulonglong,
    percent: [c_uint; 4],
}

/// Samples of two processes at times 10 and 20 on the new device, none on the old one.
#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetProcessUtilization(
    device: Handle,
    samples: *mut ProcessUtilisation,
    count: *mut c_uint,
    later_than: c_ulonglong,
) -> c_int {
    if device as usize != NEW {
        return NOT_FOUND;
    }
    let all = [(1001, 10, 30), (1001, 20, 50), (1002, 20, 90)];
    let later: Vec<_> = all.into_iter().filter(|(_, time, _)| *time > later_than).collect();
    for (index, (process, time, sm)) in later.iter().enumerate() {
        *samples.add(index) = ProcessUtilisation { process: *process, time: *time, percent: [*sm, 0, 0, 0] };
    }
    *count = later.len() as c_uint;
    0
}

unsafe fn write(number: *mut c_uint, value: c_uint) -> c_int {
    *number = value;
    0
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetClockInfo(_device: Handle, kind: c_int, mhz: *mut c_uint) -> c_int {
    write(mhz, if kind == 1 { 1755 } else { 2619 })
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetMaxClockInfo(_device: Handle, _kind: c_int, mhz: *mut c_uint) -> c_int {
    write(mhz, 1980)
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetPowerUsage(_device: Handle, milliwatts: *mut c_uint) -> c_int {
    write(milliwatts, 112_500)
}

/// Half a joule more each time that somebody asks.
#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetTotalEnergyConsumption(_device: Handle, millijoules: *mut c_ulonglong) -> c_int {
    *millijoules = 1_000_000 + 500 * ENERGY_READINGS.fetch_add(1, SeqCst);
    0
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetEnforcedPowerLimit(_device: Handle, milliwatts: *mut c_uint) -> c_int {
    write(milliwatts, 700_000)
}

#[no_mangle]
pub extern "C" fn nvmlDeviceGetTemperature(_device: Handle, _sensor: c_int, _celsius: *mut c_uint) -> c_int {
    NOT_SUPPORTED
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(
    _device: Handle,
    bits: *mut c_ulonglong,
) -> c_int {
    *bits = 0x4 | 0x40 | 0x8000;
    0
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo(_device: Handle, memory: *mut [c_ulonglong; 3]) -> c_int {
    *memory = [80, 79, 1];
    0
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetCurrPcieLinkGeneration(
    _device: Handle,
    generation: *mut c_uint,
) -> c_int {
    write(generation, 5)
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(_device: Handle, percent: *mut [c_uint; 2]) -> c_int {
    *percent = [37, 12];
    0
}

/// So many samples are alike before the device renews its counters. With 0 each is new, but for DRAM, which is never known.
static GPM_PERIOD: AtomicI32 = AtomicI32::new(0);

#[no_mangle]
pub extern "C" fn stand_in_set_gpm_period(samples: c_int) {
    GPM_PERIOD.store(samples, SeqCst);
}

static CALLS_UNDER_WAY: AtomicI32 = AtomicI32::new(0);
static OVERLAPS: AtomicI32 = AtomicI32::new(0);

/// A call that takes a while and notes whether another was under way when it began.
struct Call;

impl Call {
    fn begin() -> Self {
        OVERLAPS.fetch_add(i32::from(CALLS_UNDER_WAY.fetch_add(1, SeqCst) > 0), SeqCst);
        std::thread::sleep(std::time::Duration::from_micros(200));
        Self
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        CALLS_UNDER_WAY.fetch_sub(1, SeqCst);
    }
}

/// How often a sample was taken or read while another was.
#[no_mangle]
pub extern "C" fn stand_in_gpm_overlaps() -> c_int {
    OVERLAPS.load(SeqCst)
}

#[no_mangle]
pub unsafe extern "C" fn nvmlGpmQueryDeviceSupport(device: Handle, support: *mut [c_uint; 2]) -> c_int {
    if (*support)[0] != 1 {
        return 25;
    }
    (*support)[1] = u32::from(device as usize == NEW);
    0
}

#[no_mangle]
pub unsafe extern "C" fn nvmlGpmSampleAlloc(sample: *mut Handle) -> c_int {
    SAMPLES.fetch_add(1, SeqCst);
    *sample = Box::into_raw(Box::new(0_i32)).cast();
    0
}

#[no_mangle]
pub unsafe extern "C" fn nvmlGpmSampleFree(sample: Handle) -> c_int {
    SAMPLES.fetch_sub(1, SeqCst);
    drop(Box::from_raw(sample.cast::<i32>()));
    0
}

#[no_mangle]
pub unsafe extern "C" fn nvmlGpmSampleGet(_device: Handle, sample: Handle) -> c_int {
    let _call = Call::begin();
    *sample.cast::<i32>() = SAMPLE_NUMBER.fetch_add(1, SeqCst) + 1;
    0
}

#[repr(C)]
pub struct Metric {
    id: c_uint,
    status: c_int,
    value: f64,
    texts: [*const c_char; 3],
}

#[repr(C)]
pub struct Request {
    version: c_uint,
    count: c_uint,
    earlier: *const i32,
    later: *const i32,
    metrics: [Metric; 210],
}

/// Each metric is its number in percent, but SM occupancy is not supported, DRAM utilisation is not a number, and
/// graphics utilisation tells how many samples lie between the two.
#[no_mangle]
pub unsafe extern "C" fn nvmlGpmMetricsGet(request: *mut Request) -> c_int {
    let _call = Call::begin();
    let request = &mut *request;
    if request.version != 1 {
        return 25;
    }
    let period = GPM_PERIOD.load(SeqCst);
    let is_renewed = period == 0 || *request.later / period > *request.earlier / period;
    for metric in &mut request.metrics[..request.count as usize] {
        metric.value = match metric.id {
            1 => f64::from(*request.later - *request.earlier),
            10 if period == 0 || !is_renewed => f64::NAN,
            _ if !is_renewed => 0.0,
            id => f64::from(id),
        };
        metric.status = if metric.id == 3 { NOT_SUPPORTED } else { 0 };
    }
    0
}
