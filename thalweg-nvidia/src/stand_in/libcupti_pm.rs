//! Source of a stand-in for the part of `libcupti.so.13` that samples a device's counters: four samples of a chip that
//! has some of the metrics, one of them only with a second pass. All structures are read at the offsets of NVIDIA's
//! headers, and their sizes are checked.

use std::ffi::{c_char, c_int, c_void, CStr};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

const INVALID_PARAMETER: c_int = 1;
const INVALID_OPERATION: c_int = 7;
const NOT_INITIALIZED: c_int = 15;
const INVALID_METRIC_NAME: c_int = 17;
const INSUFFICIENT_PRIVILEGES: c_int = 35;
const MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED: c_int = 39;
const UNKNOWN: c_int = 999;

/// Needs two passes.
const GREEDY: &str = "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed";
const KNOWN: [&str; 6] = [
    "dram__bytes.sum.pct_of_peak_sustained_elapsed",
    "TPC.TriageCompute.sm__cycles_active.avg.pct_of_peak_sustained_elapsed",
    GREEDY,
    "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_elapsed",
    "sm__warps_active.avg.pct_of_peak_sustained_elapsed",
    "pcie__read_bytes.sum.per_second",
];

const SAMPLES: usize = 4;
/// Samples that an image has room for.
const ROOM: usize = 3;

/// What goes wrong: 1 for rights, 2 for a full buffer, 3 for a chip without metrics, 4 for an error of its own with each
/// metric, 5 with those that it does not know.
static TROUBLE: AtomicUsize = AtomicUsize::new(0);
static SUBSCRIBERS: AtomicUsize = AtomicUsize::new(0);
static PROFILERS: AtomicUsize = AtomicUsize::new(0);
static HOSTS: AtomicUsize = AtomicUsize::new(0);
static SAMPLINGS: AtomicUsize = AtomicUsize::new(0);
static STARTED: AtomicUsize = AtomicUsize::new(0);
static DECODED: AtomicUsize = AtomicUsize::new(0);

#[no_mangle]
pub extern "C" fn stand_in_trouble(trouble: usize) {
    TROUBLE.store(trouble, SeqCst);
}

/// All that was taken and not given back.
#[no_mangle]
pub extern "C" fn stand_in_live() -> usize {
    [&SUBSCRIBERS, &PROFILERS, &HOSTS, &SAMPLINGS].iter().map(|count| count.load(SeqCst)).sum()
}

unsafe fn get<T: Copy>(asked: *const c_void, offset: usize) -> T {
    asked.cast::<u8>().add(offset).cast::<T>().read_unaligned()
}

unsafe fn put<T>(asked: *mut c_void, offset: usize, value: T) {
    asked.cast::<u8>().add(offset).cast::<T>().write_unaligned(value);
}

unsafe fn is_well(asked: *const c_void, size: usize) -> bool {
    get::<usize>(asked, 0) == size && get::<usize>(asked, 8) == 0
}

unsafe fn names(list: *const *const c_char, count: usize) -> Vec<String> {
    (0..count).map(|index| CStr::from_ptr(*list.add(index)).to_string_lossy().into_owned()).collect()
}

#[no_mangle]
pub unsafe extern "C" fn cuptiGetVersion(version: *mut u32) -> c_int {
    *version = 130_001;
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiGetResultString(_code: c_int, text: *mut *const c_char) -> c_int {
    *text = c"CUPTI_ERROR_OF_THE_STAND_IN".as_ptr();
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiSubscribe(subscriber: *mut *mut c_void, _: *mut c_void, _: *mut c_void) -> c_int {
    if SUBSCRIBERS.swap(1, SeqCst) == 1 {
        return MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED;
    }
    *subscriber = ptr::addr_of!(TROUBLE).cast_mut().cast();
    0
}

#[no_mangle]
pub extern "C" fn cuptiUnsubscribe(_: *mut c_void) -> c_int {
    SUBSCRIBERS.store(0, SeqCst);
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiProfilerInitialize(asked: *mut c_void) -> c_int {
    if !is_well(asked, 16) {
        return INVALID_PARAMETER;
    }
    PROFILERS.fetch_add(1, SeqCst);
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiProfilerDeInitialize(asked: *mut c_void) -> c_int {
    if !is_well(asked, 16) {
        return INVALID_PARAMETER;
    }
    PROFILERS.fetch_sub(1, SeqCst);
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiDeviceGetChipName(asked: *mut c_void) -> c_int {
    if !is_well(asked, 32) || get::<usize>(asked, 16) != 3 {
        return INVALID_PARAMETER;
    }
    put(asked, 24, c"SI100".as_ptr());
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiPmSamplingGetCounterAvailability(asked: *mut c_void) -> c_int {
    if !is_well(asked, 40) || get::<usize>(asked, 16) != 3 {
        return INVALID_PARAMETER;
    }
    if TROUBLE.load(SeqCst) == 1 {
        return INSUFFICIENT_PRIVILEGES;
    }
    let image: *mut u8 = get(asked, 32);
    if image.is_null() {
        put(asked, 24, 4_usize);
    } else if get::<usize>(asked, 24) == 4 {
        image.copy_from(b"here".as_ptr(), 4);
    } else {
        return INVALID_PARAMETER;
    }
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiProfilerHostInitialize(asked: *mut c_void) -> c_int {
    let chip: *const c_char = get(asked, 24);
    let availability: *const u8 = get(asked, 32);
    let is_here = std::slice::from_raw_parts(availability, 4) == b"here";
    let is_sampling = get::<c_int>(asked, 16) == 1;
    if !is_well(asked, 48) || CStr::from_ptr(chip) != c"SI100" || !is_here || !is_sampling {
        return INVALID_PARAMETER;
    }
    if PROFILERS.load(SeqCst) == 0 {
        return NOT_INITIALIZED;
    }
    HOSTS.fetch_add(1, SeqCst);
    put(asked, 40, Box::into_raw(Box::new(Vec::<String>::new())));
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiProfilerHostDeinitialize(asked: *mut c_void) -> c_int {
    if !is_well(asked, 24) {
        return INVALID_PARAMETER;
    }
    drop(Box::from_raw(get::<*mut Vec<String>>(asked, 16)));
    HOSTS.fetch_sub(1, SeqCst);
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiProfilerHostConfigAddMetrics(asked: *mut c_void) -> c_int {
    if !is_well(asked, 40) {
        return INVALID_PARAMETER;
    }
    let added = names(get(asked, 24), get(asked, 32));
    let are_known = added.iter().all(|name| KNOWN.contains(&name.as_str()));
    match TROUBLE.load(SeqCst) {
        3 => return INVALID_METRIC_NAME,
        4 => return UNKNOWN,
        5 if !are_known => return UNKNOWN,
        _ if !are_known => return INVALID_METRIC_NAME,
        _ => {}
    }
    (*get::<*mut Vec<String>>(asked, 16)).extend(added);
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiProfilerHostGetConfigImageSize(asked: *mut c_void) -> c_int {
    if !is_well(asked, 32) {
        return INVALID_PARAMETER;
    }
    put(asked, 24, 2_usize);
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiProfilerHostGetConfigImage(asked: *mut c_void) -> c_int {
    if !is_well(asked, 40) || get::<usize>(asked, 24) != 2 {
        return INVALID_PARAMETER;
    }
    let metrics = &*get::<*mut Vec<String>>(asked, 16);
    let passes = if metrics.iter().any(|name| name == GREEDY) { 2 } else { 1 };
    let image: *mut u8 = get(asked, 32);
    image.write(passes);
    image.add(1).write(metrics.len() as u8);
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiProfilerHostGetNumOfPasses(asked: *mut c_void) -> c_int {
    if !is_well(asked, 40) || get::<usize>(asked, 16) != 2 {
        return INVALID_PARAMETER;
    }
    put(asked, 32, usize::from(get::<*const u8>(asked, 24).read()));
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiPmSamplingEnable(asked: *mut c_void) -> c_int {
    if !is_well(asked, 32) || get::<usize>(asked, 16) != 3 {
        return INVALID_PARAMETER;
    }
    if SAMPLINGS.swap(1, SeqCst) == 1 {
        return INVALID_OPERATION;
    }
    put(asked, 24, ptr::addr_of!(SAMPLINGS));
    0
}

unsafe fn is_object(asked: *const c_void) -> bool {
    get::<*const AtomicUsize>(asked, 16) == ptr::addr_of!(SAMPLINGS) && SAMPLINGS.load(SeqCst) == 1
}

#[no_mangle]
pub unsafe extern "C" fn cuptiPmSamplingDisable(asked: *mut c_void) -> c_int {
    if !is_well(asked, 24) || !is_object(asked) {
        return INVALID_PARAMETER;
    }
    STARTED.store(0, SeqCst);
    SAMPLINGS.store(0, SeqCst);
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiPmSamplingSetConfig(asked: *mut c_void) -> c_int {
    let image: *const u8 = get(asked, 32);
    let has_image = get::<usize>(asked, 24) == 2 && image.read() == 1;
    let goes_by_time = get::<c_int>(asked, 56) == 1 && get::<u64>(asked, 48) == 1_000_000;
    let is_right = is_well(asked, 60) && is_object(asked) && has_image && goes_by_time;
    if is_right && get::<usize>(asked, 40) > 0 { 0 } else { INVALID_PARAMETER }
}

#[no_mangle]
pub unsafe extern "C" fn cuptiPmSamplingGetCounterDataSize(asked: *mut c_void) -> c_int {
    if !is_well(asked, 56) || !is_object(asked) || names(get(asked, 24), get(asked, 32)).is_empty() {
        return INVALID_PARAMETER;
    }
    put(asked, 48, 2_usize);
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiPmSamplingCounterDataImageInitialize(asked: *mut c_void) -> c_int {
    if !is_well(asked, 40) || !is_object(asked) || get::<usize>(asked, 24) != 2 {
        return INVALID_PARAMETER;
    }
    get::<*mut u8>(asked, 32).write_bytes(0, 2);
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiPmSamplingStart(asked: *mut c_void) -> c_int {
    if !is_well(asked, 24) || !is_object(asked) || STARTED.swap(1, SeqCst) == 1 {
        return INVALID_OPERATION;
    }
    DECODED.store(0, SeqCst);
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiPmSamplingStop(asked: *mut c_void) -> c_int {
    if !is_well(asked, 24) || !is_object(asked) || STARTED.swap(0, SeqCst) == 0 {
        return INVALID_OPERATION;
    }
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiPmSamplingDecodeData(asked: *mut c_void) -> c_int {
    let image: *mut u8 = get(asked, 24);
    // Nothing is decoded on top of what is there.
    if !is_well(asked, 45) || !is_object(asked) || get::<usize>(asked, 32) != 2 || image.read() != 0 {
        return INVALID_PARAMETER;
    }
    let first = DECODED.load(SeqCst);
    let count = (SAMPLES - first).min(ROOM);
    image.write(count as u8);
    image.add(1).write(first as u8);
    DECODED.store(first + count, SeqCst);
    put::<c_int>(asked, 40, if first + count < SAMPLES { 1 } else { 2 });
    put(asked, 44, u8::from(TROUBLE.load(SeqCst) == 2));
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiPmSamplingGetCounterDataInfo(asked: *mut c_void) -> c_int {
    if !is_well(asked, 56) || get::<usize>(asked, 24) != 2 {
        return INVALID_PARAMETER;
    }
    let count = usize::from(get::<*const u8>(asked, 16).read());
    put(asked, 32, ROOM);
    put(asked, 40, count);
    put(asked, 48, count);
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiProfilerHostEvaluateToGpuValues(asked: *mut c_void) -> c_int {
    let image: *const u8 = get(asked, 24);
    let within: usize = get(asked, 40);
    if !is_well(asked, 72) || get::<usize>(asked, 32) != 2 || within >= usize::from(image.read()) {
        return INVALID_PARAMETER;
    }
    let sample = usize::from(image.add(1).read()) + within;
    let values: *mut f64 = get(asked, 64);
    for (index, name) in names(get(asked, 48), get(asked, 56)).iter().enumerate() {
        let value = match name.as_str() {
            name if name.starts_with("dram") => 80.0 + 2.0 * sample as f64,
            name if name.starts_with("TPC") => 50.0,
            name if name.starts_with("sm__inst") && sample == 0 => f64::NAN,
            name if name.starts_with("sm__inst") => 25.0,
            name if name.starts_with("sm__warps") => 12.5,
            _ => 1e9,
        };
        values.add(index).write(value);
    }
    0
}
