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
        // The default stream is always there, and nobody can capture on it.
        let default_stream = &mut None;
        let known = if stream == 0 { Some(default_stream) } else { self.streams.get_mut(&stream) };
        match known {
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
