//! Source of a stand-in for `libcupti.so.13`: it delivers the records of a small program, a few calls and their work for
//! each item, as if that had run on a device. Only what was enabled is recorded.

use std::collections::BTreeSet;
use std::ffi::{c_char, c_int, c_void, CStr};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::Mutex;

type Requested = extern "C" fn(*mut *mut u8, *mut usize, *mut usize);
type Completed = extern "C" fn(*mut c_void, u32, *mut u8, usize, usize);
type Callback = extern "C" fn(*mut c_void, u32, u32, *const c_void);

const DRIVER: u32 = 1;
const RUNTIME: u32 = 2;
const MAX_LIMIT_REACHED: c_int = 12;
const INVALID_PARAMETER: c_int = 1;
const MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED: c_int = 39;
const NOT_COMPATIBLE: c_int = 23;

const CALLS: [(u32, u32, &CStr); 7] = [
    (DRIVER, 1, c"cuInit"),
    (DRIVER, 3, c"cuCtxSynchronize"),
    (RUNTIME, 1, c"cudaGetDevice_v3020"),
    (RUNTIME, 3, c"cudaMemcpyAsync_v3020"),
    (RUNTIME, 4, c"cudaLaunchKernel_v7000"),
    (RUNTIME, 5, c"cudaStreamSynchronize_v3020"),
    (RUNTIME, 6, c"cudaGraphLaunch_v10000"),
];

#[derive(Default)]
struct State {
    has_subscriber: bool,
    /// A kind that cannot be enabled.
    refused: Option<u32>,
    callbacks: Option<(Requested, Completed)>,
    kinds: BTreeSet<u32>,
    /// Calls that are left out of their kinds.
    left_out: BTreeSet<(u32, u32)>,
    records: Vec<Vec<u8>>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);
static NOW: AtomicU64 = AtomicU64::new(1_000_000);

fn with<T>(change: impl FnOnce(&mut State) -> T) -> T {
    let mut state = STATE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    change(state.get_or_insert_with(State::default))
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
pub extern "C" fn cuptiSetThreadIdType(kind: c_int) -> c_int {
    if kind == 1 { 0 } else { INVALID_PARAMETER }
}

#[no_mangle]
pub unsafe extern "C" fn cuptiGetTimestamp(nanoseconds: *mut u64) -> c_int {
    *nanoseconds = NOW.load(SeqCst);
    0
}

#[no_mangle]
pub extern "C" fn cuptiActivityRegisterCallbacks(requested: Requested, completed: Completed) -> c_int {
    with(|state| state.callbacks = Some((requested, completed)));
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiSubscribe(subscriber: *mut *mut c_void, _: Callback, _: *mut c_void) -> c_int {
    if with(|state| std::mem::replace(&mut state.has_subscriber, true)) {
        return MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED;
    }
    *subscriber = &STATE as *const Mutex<Option<State>> as *mut c_void;
    0
}

#[no_mangle]
pub extern "C" fn cuptiUnsubscribe(subscriber: *mut c_void) -> c_int {
    let had_one = with(|state| std::mem::replace(&mut state.has_subscriber, false));
    if had_one && !subscriber.is_null() { 0 } else { INVALID_PARAMETER }
}

#[no_mangle]
pub extern "C" fn cuptiActivityEnable(kind: u32) -> c_int {
    with(|state| {
        if state.refused == Some(kind) {
            return NOT_COMPATIBLE;
        }
        state.kinds.insert(kind);
        // The whole kind overrides what was said of single calls before.
        state.left_out.retain(|&(domain, _)| kind_of(domain) != kind);
        0
    })
}

/// Refuses to enable a kind from now on; 0 for none.
#[no_mangle]
pub extern "C" fn stand_in_refuse(kind: u32) {
    with(|state| state.refused = (kind > 0).then_some(kind));
}

/// How many kinds are enabled.
#[no_mangle]
pub extern "C" fn stand_in_enabled() -> usize {
    with(|state| state.kinds.len())
}

/// Items that the program has run by the time that nobody asks for kernels any more: for tests that cannot call
/// `stand_in_run`, which put another number here.
const ITEMS_AT_END: u32 = 0;

#[no_mangle]
pub extern "C" fn cuptiActivityDisable(kind: u32) -> c_int {
    if kind == 10 && ITEMS_AT_END > 0 {
        stand_in_run(ITEMS_AT_END);
    }
    with(|state| state.kinds.remove(&kind));
    0
}

/// The kind of the calls of a list.
fn kind_of(domain: u32) -> u32 {
    if domain == DRIVER { 4 } else { 5 }
}

/// As CUPTI 13.0 does it in a process that has used CUDA before: a call can be left out of its kind, but one that is
/// asked for without the kind is not recorded.
fn set_call(domain: u32, id: u32, is_recorded: u8) -> c_int {
    if !CALLS.iter().any(|call| (call.0, call.1) == (domain, id)) {
        return INVALID_PARAMETER;
    }
    with(|state| match is_recorded {
        0 => state.left_out.insert((domain, id)),
        _ => state.left_out.remove(&(domain, id)),
    });
    0
}

#[no_mangle]
pub extern "C" fn cuptiActivityEnableDriverApi(id: u32, is_recorded: u8) -> c_int {
    set_call(DRIVER, id, is_recorded)
}

#[no_mangle]
pub extern "C" fn cuptiActivityEnableRuntimeApi(id: u32, is_recorded: u8) -> c_int {
    set_call(RUNTIME, id, is_recorded)
}

#[no_mangle]
pub unsafe extern "C" fn cuptiGetCallbackName(domain: u32, id: u32, name: *mut *const c_char) -> c_int {
    match CALLS.iter().find(|call| (call.0, call.1) == (domain, id)) {
        Some(call) => {
            *name = call.2.as_ptr();
            0
        }
        None => INVALID_PARAMETER,
    }
}

#[no_mangle]
pub unsafe extern "C" fn cuptiActivityGetNumDroppedRecords(_: *mut c_void, _: u32, count: *mut usize) -> c_int {
    *count = 0;
    0
}

/// Sizes of the records of CUPTI 13.0, by kind.
fn size(kind: u32) -> usize {
    match kind {
        1 => 96,
        2 => 88,
        4 | 5 => 40,
        10 => 216,
        37 => 24,
        51 => 56,
        _ => panic!("the stand-in makes no records of kind {kind}"),
    }
}

#[no_mangle]
pub unsafe extern "C" fn cuptiActivityGetNextRecord(buffer: *mut u8, valid: usize, record: *mut *mut u8) -> c_int {
    let next = if (*record).is_null() { buffer } else { (*record).add(size((*record).cast::<u32>().read())) };
    if next as usize >= buffer as usize + valid {
        return MAX_LIMIT_REACHED;
    }
    *record = next;
    0
}

#[no_mangle]
pub unsafe extern "C" fn cuptiActivityFlushAll(_flag: u32) -> c_int {
    let (callbacks, records) = with(|state| (state.callbacks, std::mem::take(&mut state.records)));
    let Some((requested, completed)) = callbacks else { return 7 };
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        let (mut buffer, mut room, mut most) = (std::ptr::null_mut(), 0, 0);
        requested(&mut buffer, &mut room, &mut most);
        assert!(!buffer.is_null() && buffer as usize % 8 == 0 && most == 0);
        let mut used = 0;
        while let Some(record) = records.next_if(|record| used + record.len() <= room) {
            std::ptr::copy_nonoverlapping(record.as_ptr(), buffer.add(used), record.len());
            used += record.len();
        }
        completed(std::ptr::null_mut(), 0, buffer, room, used);
    }
    0
}

/// Adds a record of a kind with these fields of 1, 4 or 8 bytes.
fn put(kind: u32, fields: &[(usize, &[u8])]) {
    let mut bytes = vec![0; size(kind)];
    bytes[..4].copy_from_slice(&kind.to_ne_bytes());
    for (offset, field) in fields {
        bytes[*offset..offset + field.len()].copy_from_slice(field);
    }
    with(|state| state.records.push(bytes));
}

struct Span(u64, u64);

fn put_call(id: u32, correlation: u32, span: &Span) {
    if with(|state| state.kinds.contains(&kind_of(RUNTIME)) && !state.left_out.contains(&(RUNTIME, id))) {
        let thread = std::process::id();
        put(5, &[(4, &id.to_ne_bytes()), (8, &span.0.to_ne_bytes()), (16, &span.1.to_ne_bytes()),
            (28, &thread.to_ne_bytes()), (32, &correlation.to_ne_bytes())]);
    }
}

fn put_kernel(correlation: u32, span: &Span) {
    if with(|state| state.kinds.contains(&10)) {
        let name = c"_Z4gemmPf".as_ptr() as u64;
        put(10, &[(16, &span.0.to_ne_bytes()), (24, &span.1.to_ne_bytes()), (44, &1_u32.to_ne_bytes()),
            (48, &7_u32.to_ne_bytes()), (52, &132_u32.to_ne_bytes()), (56, &1_u32.to_ne_bytes()),
            (60, &1_u32.to_ne_bytes()), (64, &256_u32.to_ne_bytes()), (68, &1_u32.to_ne_bytes()),
            (72, &1_u32.to_ne_bytes()), (92, &correlation.to_ne_bytes()), (104, &name.to_ne_bytes())]);
    }
}

fn put_copy(correlation: u32, span: &Span, bytes: u64) {
    if with(|state| state.kinds.contains(&1)) {
        put(1, &[(4, &[1, 1, 3]), (8, &bytes.to_ne_bytes()), (16, &span.0.to_ne_bytes()),
            (24, &span.1.to_ne_bytes()), (36, &1_u32.to_ne_bytes()), (40, &7_u32.to_ne_bytes()),
            (44, &correlation.to_ne_bytes())]);
    }
}

fn put_graph(correlation: u32, span: &Span) {
    if with(|state| state.kinds.contains(&51)) {
        put(51, &[(4, &correlation.to_ne_bytes()), (8, &span.0.to_ne_bytes()), (16, &span.1.to_ne_bytes()),
            (28, &1_u32.to_ne_bytes()), (32, &1_u32.to_ne_bytes()), (36, &7_u32.to_ne_bytes())]);
    }
}

/// A program that runs so many items on the default stream: each 10 MB of pageable memory copied in a millisecond, a
/// kernel of 100 us and a graph of 50 us, for all of which it waits.
#[no_mangle]
pub extern "C" fn stand_in_run(items: u32) {
    if with(|state| state.kinds.contains(&37)) {
        put(37, &[(4, &1_u32.to_ne_bytes()), (8, &7_u32.to_ne_bytes()), (16, &3_u32.to_ne_bytes())]);
    }
    for item in 0..items {
        let start = NOW.fetch_add(1_200_000, SeqCst);
        let at = |us: u64| start + us * 1000;
        let first = item * 4 + 1;
        put_call(1, 0, &Span(at(0), at(1)));
        put_call(3, first, &Span(at(1), at(1010)));
        put_copy(first, &Span(at(5), at(1005)), 10_000_000);
        put_call(4, first + 1, &Span(at(1012), at(1016)));
        put_kernel(first + 1, &Span(at(1018), at(1118)));
        put_call(6, first + 2, &Span(at(1020), at(1030)));
        put_graph(first + 2, &Span(at(1119), at(1169)));
        put_call(5, first + 3, &Span(at(1031), at(1172)));
    }
}
