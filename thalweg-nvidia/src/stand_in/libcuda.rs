//! Source of a stand-in for `libcuda.so.1`: the tests build it as a library of its own.
//!
//! It has one device whose memory is the host's. What is enqueued runs late: when somebody waits, or when an event
//! was asked for more often than `stand_in_set_delay` says; then only as much of it as the wait needs, and work of
//! the youngest stream first where events allow that. So a buffer that is freed or read too soon shows, and so does
//! a stream that does not wait for another.
//! Every access of late work is checked against the memory that is allocated then: a fault makes all calls fail
//! with 700, as on a real device.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_uint, c_void, CStr};
use std::sync::Mutex;

type Handle = *mut c_void;

const TOTAL_BYTES: usize = 1 << 30;
const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const INVALID_CONTEXT: c_int = 201;
const INVALID_HANDLE: c_int = 400;
const NOT_READY: c_int = 600;
const ILLEGAL_ADDRESS: c_int = 700;
const CAPTURE_INVALIDATED: c_int = 901;

#[derive(Clone, Copy)]
enum Op {
    /// Target, source, bytes, and whether each end must be allocated.
    Copy(usize, usize, usize, bool, bool),
    Fill(usize, u8, usize),
    /// An event, and which of all records it is.
    Record(usize, usize),
    /// The stream waits for this record.
    Wait(usize),
}

#[derive(Default)]
struct State {
    next_handle: usize,
    contexts: i32,
    device: BTreeMap<usize, Vec<u8>>,
    host: BTreeMap<usize, Vec<u8>>,
    streams: BTreeMap<usize, Option<Vec<Op>>>,
    events: BTreeMap<usize, Option<f32>>,
    graphs: BTreeMap<usize, Vec<Op>>,
    executables: BTreeMap<usize, Vec<Op>>,
    /// In the order in which it was enqueued, each with its stream.
    pending: Vec<(usize, Op)>,
    record_count: usize,
    break_next: Option<c_int>,
    clock_ms: f32,
    delay: u32,
    queries: u32,
    failures: Vec<(String, c_int)>,
    sticky: c_int,
    log: String,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

thread_local! {
    static HAS_CONTEXT: Cell<bool> = const { Cell::new(false) };
}

/// One call of the driver: logged, and refused where the test asked for that.
fn call(name: &str, body: impl FnOnce(&mut State) -> c_int) -> c_int {
    let mut guard = STATE.lock().unwrap();
    let state = guard.get_or_insert_with(State::default);
    state.log.push_str(name);
    state.log.push('\n');
    if let Some(index) = state.failures.iter().position(|(failing, _)| failing == name) {
        return state.failures.remove(index).1;
    }
    if state.sticky != 0 {
        return state.sticky;
    }
    let code = body(state);
    if state.sticky != 0 {
        state.sticky
    } else {
        code
    }
}

/// As `call`, for functions that need a current context.
fn call_in_context(name: &str, body: impl FnOnce(&mut State) -> c_int) -> c_int {
    call(name, |state| if HAS_CONTEXT.get() { body(state) } else { INVALID_CONTEXT })
}

impl State {
    fn handle(&mut self) -> usize {
        self.next_handle += 16;
        self.next_handle
    }

    fn enqueue(&mut self, stream: Handle, op: Op) -> c_int {
        let stream = stream as usize;
        match self.streams.get_mut(&stream) {
            Some(Some(captured)) => captured.push(op),
            Some(None) => {
                self.record_count += 1;
                let numbered =
                    if let Op::Record(event, _) = op { Op::Record(event, self.record_count) } else { op };
                self.pending.push((stream, numbered));
            }
            None => return INVALID_HANDLE,
        }
        0
    }

    fn is_allocated(memory: &BTreeMap<usize, Vec<u8>>, address: usize, byte_count: usize) -> bool {
        let owner = memory.range(..=address).next_back();
        owner.is_some_and(|(start, bytes)| address + byte_count <= start + bytes.len())
    }

    fn is_live(&self, address: usize, byte_count: usize) -> bool {
        [&self.device, &self.host].iter().any(|memory| Self::is_allocated(memory, address, byte_count))
    }

    /// Runs work until none of this kind is left.
    fn run_until_none(&mut self, is_wanted: impl Fn(&(usize, Op)) -> bool) {
        while self.sticky == 0 && self.pending.iter().any(&is_wanted) {
            let next = self.next().expect("some work can always run: waits are for earlier records");
            let (_, op) = self.pending.remove(next);
            self.run(op);
        }
    }

    /// The first work of the youngest stream that can run.
    fn next(&self) -> Option<usize> {
        let mut streams: Vec<_> = self.pending.iter().map(|(stream, _)| *stream).collect();
        streams.sort_unstable();
        let mut first =
            streams.iter().rev().map(|stream| self.pending.iter().position(|(s, _)| s == stream).unwrap());
        first.find(|index| !matches!(self.pending[*index].1, Op::Wait(record) if self.is_ahead(record)))
    }

    fn is_ahead(&self, record: usize) -> bool {
        self.pending.iter().any(|(_, op)| matches!(op, Op::Record(_, pending) if *pending == record))
    }

    /// The last record of an event that is still to come, or 0.
    fn last_record(&self, event: Handle) -> usize {
        let records = self.pending.iter().filter_map(|(_, op)| match op {
            Op::Record(recorded, record) if *recorded == event as usize => Some(*record),
            _ => None,
        });
        records.last().unwrap_or(0)
    }

    fn run(&mut self, op: Op) {
        self.clock_ms += 1.0;
        if let Some(code) = self.break_next.take() {
            self.sticky = code;
            return;
        }
        match op {
            Op::Copy(target, source, count, checks_target, checks_source) => {
                let is_bad = (checks_target && !self.is_live(target, count))
                    || (checks_source && !self.is_live(source, count));
                if is_bad {
                    self.sticky = ILLEGAL_ADDRESS;
                } else {
                    unsafe { std::ptr::copy(source as *const u8, target as *mut u8, count) };
                }
            }
            Op::Fill(target, value, count) => unsafe {
                std::ptr::write_bytes(target as *mut u8, value, count)
            },
            Op::Record(event, _) => {
                if let Some(time) = self.events.get_mut(&event) {
                    *time = Some(self.clock_ms);
                }
            }
            Op::Wait(_) => {}
        }
    }

    fn is_pending(&self, event: Handle) -> bool {
        self.last_record(event) != 0
    }
}

/// Work that records an event.
fn records(event: Handle) -> impl Fn(&(usize, Op)) -> bool {
    move |(_, op)| matches!(op, Op::Record(recorded, _) if *recorded == event as usize)
}

// What tests ask for.

#[no_mangle]
pub extern "C" fn stand_in_set_delay(queries: c_uint) {
    call("stand_in_set_delay", |state| {
        state.delay = queries;
        0
    });
}

/// The next call of the function fails with this code.
#[no_mangle]
pub unsafe extern "C" fn stand_in_fail(name: *const c_char, code: c_int) {
    let name = CStr::from_ptr(name).to_str().unwrap().to_owned();
    call("stand_in_fail", |state| {
        state.failures.push((name, code));
        0
    });
}

/// The next work that runs fails, and everything else from then on.
#[no_mangle]
pub extern "C" fn stand_in_break_later(code: c_int) {
    call("stand_in_break_later", |state| {
        state.break_next = Some(code);
        0
    });
}

/// Device buffers, host buffers, streams, events, graphs, executable graphs, contexts.
#[no_mangle]
pub unsafe extern "C" fn stand_in_live(counts: *mut [usize; 7]) {
    let guard = STATE.lock().unwrap();
    let Some(state) = &*guard else { return };
    *counts = [
        state.device.len(),
        state.host.len(),
        state.streams.len(),
        state.events.len(),
        state.graphs.len(),
        state.executables.len(),
        state.contexts as usize,
    ];
}

/// The names of all functions called since the last time.
#[no_mangle]
pub unsafe extern "C" fn stand_in_take_log(text: *mut c_char, length: usize) {
    let mut guard = STATE.lock().unwrap();
    let state = guard.get_or_insert_with(State::default);
    let log = std::mem::take(&mut state.log);
    assert!(log.len() < length);
    std::ptr::copy_nonoverlapping(log.as_ptr(), text.cast(), log.len());
    *text.add(log.len()) = 0;
}

// The driver.

#[no_mangle]
pub extern "C" fn cuInit(_flags: c_uint) -> c_int {
    call("cuInit", |_| 0)
}

#[no_mangle]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_int {
    *version = 12_090;
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuGetErrorName(code: c_int, name: *mut *const c_char) -> c_int {
    let text = match code {
        OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        ILLEGAL_ADDRESS => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        CAPTURE_INVALIDATED => c"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
        _ => return INVALID_VALUE,
    };
    *name = text.as_ptr();
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuGetErrorString(code: c_int, text: *mut *const c_char) -> c_int {
    if code != OUT_OF_MEMORY {
        return INVALID_VALUE;
    }
    *text = c"out of memory".as_ptr();
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    *count = 1;
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, index: c_int) -> c_int {
    *device = index;
    0
}

unsafe fn write(text: *mut c_char, value: &CStr) -> c_int {
    std::ptr::copy_nonoverlapping(value.as_ptr(), text, value.to_bytes_with_nul().len());
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, _length: c_int, _device: c_int) -> c_int {
    write(name, c"Stand-in")
}

#[no_mangle]
pub unsafe extern "C" fn cuDeviceGetPCIBusId(text: *mut c_char, _length: c_int, _device: c_int) -> c_int {
    write(text, c"FFFF:00:00.0")
}

#[no_mangle]
pub unsafe extern "C" fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], _device: c_int) -> c_int {
    *uuid = [7; 16];
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) -> c_int {
    *bytes = TOTAL_BYTES;
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) -> c_int {
    *value = match attribute {
        13 => 1_980_000,
        16 => 132,
        18 => 0,
        40 => 3,
        75 => 9,
        76 => 0,
        _ => return INVALID_VALUE,
    };
    0
}

#[no_mangle]
pub extern "C" fn cuDevicePrimaryCtxSetFlags_v2(_device: c_int, _flags: c_uint) -> c_int {
    call("cuDevicePrimaryCtxSetFlags", |_| 0)
}

#[no_mangle]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut Handle, _device: c_int) -> c_int {
    call("cuDevicePrimaryCtxRetain", |state| {
        state.contexts += 1;
        unsafe { *context = 8 as Handle };
        0
    })
}

#[no_mangle]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(_device: c_int) -> c_int {
    call("cuDevicePrimaryCtxRelease", |state| {
        state.contexts -= 1;
        0
    })
}

#[no_mangle]
pub extern "C" fn cuCtxSetCurrent(_context: Handle) -> c_int {
    HAS_CONTEXT.set(true);
    0
}

#[no_mangle]
pub extern "C" fn cuCtxSynchronize() -> c_int {
    call_in_context("cuCtxSynchronize", |state| {
        state.run_until_none(|_| true);
        0
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> c_int {
    *least = 0;
    *greatest = -5;
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> c_int {
    call_in_context("cuMemGetInfo", |state| {
        let used: usize = state.device.values().map(Vec::len).sum();
        unsafe { (*free, *total) = (TOTAL_BYTES - used, TOTAL_BYTES) };
        0
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuMemAlloc_v2(address: *mut u64, byte_count: usize) -> c_int {
    call_in_context("cuMemAlloc", |state| {
        if byte_count == 0 {
            return INVALID_VALUE;
        }
        if byte_count > TOTAL_BYTES {
            return OUT_OF_MEMORY;
        }
        let bytes = vec![0xEE; byte_count];
        let start = bytes.as_ptr() as usize;
        state.device.insert(start, bytes);
        unsafe { *address = start as u64 };
        0
    })
}

#[no_mangle]
pub extern "C" fn cuMemFree_v2(address: u64) -> c_int {
    call_in_context("cuMemFree", |state| {
        if state.device.remove(&(address as usize)).is_some() {
            0
        } else {
            INVALID_VALUE
        }
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuMemHostAlloc(memory: *mut Handle, byte_count: usize, _flags: c_uint) -> c_int {
    call_in_context("cuMemHostAlloc", |state| {
        if byte_count == 0 {
            return INVALID_VALUE;
        }
        let mut bytes = vec![0xEE; byte_count];
        let start = bytes.as_mut_ptr();
        state.host.insert(start as usize, bytes);
        unsafe { *memory = start.cast() };
        0
    })
}

#[no_mangle]
pub extern "C" fn cuMemFreeHost(memory: Handle) -> c_int {
    call_in_context("cuMemFreeHost", |state| {
        if state.host.remove(&(memory as usize)).is_some() {
            0
        } else {
            INVALID_VALUE
        }
    })
}

#[no_mangle]
pub extern "C" fn cuMemsetD8Async(address: u64, value: u8, byte_count: usize, stream: Handle) -> c_int {
    call_in_context("cuMemsetD8Async", |state| {
        state.enqueue(stream, Op::Fill(address as usize, value, byte_count))
    })
}

#[no_mangle]
pub extern "C" fn cuMemcpyHtoDAsync_v2(
    target: u64,
    source: Handle,
    byte_count: usize,
    stream: Handle,
) -> c_int {
    call_in_context("cuMemcpyHtoDAsync", |state| {
        let is_pinned = State::is_allocated(&state.host, source as usize, byte_count);
        state.enqueue(stream, Op::Copy(target as usize, source as usize, byte_count, true, is_pinned))
    })
}

#[no_mangle]
pub extern "C" fn cuMemcpyDtoHAsync_v2(
    target: Handle,
    source: u64,
    byte_count: usize,
    stream: Handle,
) -> c_int {
    call_in_context("cuMemcpyDtoHAsync", |state| {
        let is_pinned = State::is_allocated(&state.host, target as usize, byte_count);
        state.enqueue(stream, Op::Copy(target as usize, source as usize, byte_count, is_pinned, true))
    })
}

#[no_mangle]
pub extern "C" fn cuMemcpyDtoDAsync_v2(target: u64, source: u64, byte_count: usize, stream: Handle) -> c_int {
    call_in_context("cuMemcpyDtoDAsync", |state| {
        state.enqueue(stream, Op::Copy(target as usize, source as usize, byte_count, true, true))
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuStreamCreateWithPriority(
    stream: *mut Handle,
    flags: c_uint,
    _priority: c_int,
) -> c_int {
    call_in_context("cuStreamCreate", |state| {
        if flags != 1 {
            return INVALID_VALUE;
        }
        let handle = state.handle();
        state.streams.insert(handle, None);
        unsafe { *stream = handle as Handle };
        0
    })
}

#[no_mangle]
pub extern "C" fn cuStreamDestroy_v2(stream: Handle) -> c_int {
    call_in_context("cuStreamDestroy", |state| {
        if state.streams.remove(&(stream as usize)).is_some() {
            0
        } else {
            INVALID_HANDLE
        }
    })
}

#[no_mangle]
pub extern "C" fn cuStreamSynchronize(stream: Handle) -> c_int {
    call_in_context("cuStreamSynchronize", |state| {
        state.run_until_none(|(owner, _)| *owner == stream as usize);
        0
    })
}

#[no_mangle]
pub extern "C" fn cuStreamQuery(stream: Handle) -> c_int {
    call_in_context("cuStreamQuery", |state| {
        let is_idle = state.pending.iter().all(|(owner, _)| *owner != stream as usize);
        if is_idle {
            0
        } else {
            NOT_READY
        }
    })
}

#[no_mangle]
pub extern "C" fn cuStreamWaitEvent(stream: Handle, event: Handle, _flags: c_uint) -> c_int {
    call_in_context("cuStreamWaitEvent", |state| {
        let record = state.last_record(event);
        state.enqueue(stream, Op::Wait(record))
    })
}

#[no_mangle]
pub extern "C" fn cuStreamBeginCapture_v2(stream: Handle, mode: c_int) -> c_int {
    call_in_context("cuStreamBeginCapture", |state| match state.streams.get_mut(&(stream as usize)) {
        Some(capture @ None) if mode == 1 => {
            *capture = Some(Vec::new());
            0
        }
        _ => INVALID_HANDLE,
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuStreamEndCapture(stream: Handle, graph: *mut Handle) -> c_int {
    call_in_context("cuStreamEndCapture", |state| {
        let Some(ops) = state.streams.get_mut(&(stream as usize)).and_then(Option::take) else {
            return INVALID_HANDLE;
        };
        let handle = state.handle();
        state.graphs.insert(handle, ops);
        unsafe { *graph = handle as Handle };
        0
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuEventCreate(event: *mut Handle, _flags: c_uint) -> c_int {
    call_in_context("cuEventCreate", |state| {
        let handle = state.handle();
        state.events.insert(handle, None);
        unsafe { *event = handle as Handle };
        0
    })
}

#[no_mangle]
pub extern "C" fn cuEventDestroy_v2(event: Handle) -> c_int {
    call_in_context("cuEventDestroy", |state| {
        if state.events.remove(&(event as usize)).is_some() {
            0
        } else {
            INVALID_HANDLE
        }
    })
}

#[no_mangle]
pub extern "C" fn cuEventRecord(event: Handle, stream: Handle) -> c_int {
    call_in_context("cuEventRecord", |state| state.enqueue(stream, Op::Record(event as usize, 0)))
}

#[no_mangle]
pub extern "C" fn cuEventRecordWithFlags(event: Handle, stream: Handle, _flags: c_uint) -> c_int {
    call_in_context("cuEventRecordWithFlags", |state| state.enqueue(stream, Op::Record(event as usize, 0)))
}

#[no_mangle]
pub extern "C" fn cuEventQuery(event: Handle) -> c_int {
    call_in_context("cuEventQuery", |state| {
        if state.is_pending(event) {
            state.queries += 1;
            if state.queries <= state.delay {
                return NOT_READY;
            }
            state.queries = 0;
            state.run_until_none(records(event));
        }
        0
    })
}

#[no_mangle]
pub extern "C" fn cuEventSynchronize(event: Handle) -> c_int {
    call_in_context("cuEventSynchronize", |state| {
        state.run_until_none(records(event));
        0
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle) -> c_int {
    call_in_context("cuEventElapsedTime", |state| {
        let time = |event: Handle| state.events.get(&(event as usize)).copied().flatten();
        let (Some(start), Some(end)) = (time(start), time(end)) else { return INVALID_HANDLE };
        unsafe { *milliseconds = end - start };
        0
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuGraphGetNodes(graph: Handle, _nodes: *mut Handle, count: *mut usize) -> c_int {
    call_in_context("cuGraphGetNodes", |state| {
        unsafe { *count = state.graphs[&(graph as usize)].len() };
        0
    })
}

#[no_mangle]
pub unsafe extern "C" fn cuGraphInstantiateWithFlags(
    executable: *mut Handle,
    graph: Handle,
    _flags: u64,
) -> c_int {
    call_in_context("cuGraphInstantiate", |state| {
        let ops = state.graphs[&(graph as usize)].clone();
        let handle = state.handle();
        state.executables.insert(handle, ops);
        unsafe { *executable = handle as Handle };
        0
    })
}

#[no_mangle]
pub extern "C" fn cuGraphUpload(_executable: Handle, _stream: Handle) -> c_int {
    call_in_context("cuGraphUpload", |_| 0)
}

#[no_mangle]
pub extern "C" fn cuGraphLaunch(executable: Handle, stream: Handle) -> c_int {
    call_in_context("cuGraphLaunch", |state| {
        let Some(ops) = state.executables.get(&(executable as usize)).cloned() else { return INVALID_HANDLE };
        ops.into_iter().map(|op| state.enqueue(stream, op)).max().unwrap_or(0)
    })
}

#[no_mangle]
pub extern "C" fn cuGraphExecDestroy(executable: Handle) -> c_int {
    call_in_context("cuGraphExecDestroy", |state| {
        if state.executables.remove(&(executable as usize)).is_some() {
            0
        } else {
            INVALID_HANDLE
        }
    })
}

#[no_mangle]
pub extern "C" fn cuGraphDestroy(graph: Handle) -> c_int {
    call_in_context("cuGraphDestroy", |state| {
        if state.graphs.remove(&(graph as usize)).is_some() {
            0
        } else {
            INVALID_HANDLE
        }
    })
}
