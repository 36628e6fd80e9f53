//! The recording of a process, one at a time: CUPTI is told what to record, and what it delivers goes to a file.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::activity::{Entry, NameId, Writer};
use crate::cupti::Cupti;
use crate::cupti::api::{
    CuptiApi, DOMAIN_DRIVER, DOMAIN_RUNTIME, FLUSH_FORCED, SECOND_SUBSCRIBER, THREAD_ID_OF_SYSTEM, kind,
};
use crate::cupti::buffers::{BUFFER_BYTES, Buffers, bytes_of};
use crate::cupti::calls::{bare_name, is_recorded};
use crate::cupti::pm_sampling;
use crate::cupti::record::{NameSource, Record, length};
use crate::error::{Error, Result};

/// Numbers without a name after which a list of calls is taken to be at its end. CUPTI 12.9 and 13.0 have no gaps at all.
const MOST_NAMELESS: u32 = 16;

/// Readings of both clocks, of which one counts. All take some microseconds.
const CLOCK_READINGS: usize = 5;

/// What runs on a device, record by record.
const WORK: [u32; 3] = [kind::CONCURRENT_KERNEL, kind::MEMCPY, kind::MEMSET];

/// What is recorded of a CUDA graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GraphDetail {
    /// Each run as a whole, which costs little.
    #[default]
    Runs,
    /// Each kernel and copy in it, which costs as much as without the graph.
    Kernels,
}

/// The recording of this process, running until it is [finished](Recording::finish) or [stopped](Recording::stop).
#[derive(Clone, Copy)]
pub struct Recording {
    shared: &'static Shared,
}

/// What CUPTI's callbacks work with.
struct Shared {
    api: CuptiApi,
    buffers: Buffers,
    /// The process that is recorded. A fork has our memory and our open file, but no CUPTI, and must write nothing.
    process: u32,
    /// CUPTI's handle for its user, which we are from the start of a recording to its stop; else null.
    subscriber: AtomicPtr<c_void>,
    // Contended by CUPTI's thread and those of the program, each of which may deliver a buffer. `None` where nothing is
    // recorded now.
    book: Mutex<Option<Book>>,
}

/// Where activities are written, and what is known of names.
struct Book {
    writer: Writer<Box<dyn Write + Send>>,
    /// Names of calls; `None` for those that are not recorded.
    calls: HashMap<(u32, u32), Option<NameId>>,
}

/// CUPTI's callbacks are told nothing but the buffer, so they find the rest here.
static SHARED: OnceLock<Shared> = OnceLock::new();

impl Recording {
    /// Starts to record this process. CUPTI stays the one of the first recording.
    ///
    /// # Errors
    /// [`Error::RecordsAlready`] where a recording runs, [`Error::SamplesAlready`] where counters are sampled,
    /// [`Error::CuptiIsTaken`] where somebody else in this process, such as a profiler, uses CUPTI, and what else CUPTI
    /// says: without a CUDA driver 999 or 15. Then nothing stays on.
    #[doc(alias = "cuptiActivityRegisterCallbacks")]
    #[doc(alias = "cuptiActivityEnable")]
    pub fn start(cupti: Cupti, writer: Writer<Box<dyn Write + Send>>, graphs: GraphDetail) -> Result<Self> {
        if pm_sampling::runs() {
            return Err(Error::SamplesAlready);
        }
        let shared = SHARED.get_or_init(|| Shared {
            api: cupti.api,
            buffers: Buffers::new(),
            process: process::id(),
            subscriber: AtomicPtr::new(ptr::null_mut()),
            book: Mutex::new(None),
        });
        shared.begin(Book { writer, calls: HashMap::new() })?;
        // Where somebody else has CUPTI nothing of theirs may be disabled.
        shared.subscribe().inspect_err(|_| shared.give_up())?;
        shared.enable(graphs).inspect_err(|_| shared.withdraw())?;
        shared.note_clock();
        Ok(Self { shared })
    }

    /// Writes what is complete by now. What is not written when the process crashes is lost.
    ///
    /// # Errors
    /// What CUPTI says.
    #[doc(alias = "cuptiActivityFlushAll")]
    pub fn flush(self) -> Result<()> {
        if !self.shared.is_ours() || self.shared.book().is_none() {
            return Ok(());
        }
        // SAFETY: the callbacks are registered; it may be called from any thread.
        unsafe { self.shared.api.flush_all(0) }
    }

    /// Writes all there is, and ends the recording of a process that ends too.
    pub fn finish(self) {
        let shared = self.shared;
        if !shared.is_ours() || shared.book().is_none() {
            return;
        }
        // SAFETY: as above. Where it fails the file lacks its end, which readers tell.
        let is_flushed = unsafe { shared.api.flush_all(FLUSH_FORCED) }.is_ok();
        let Some(mut book) = shared.book().take() else { return };
        if is_flushed {
            book.writer.put(&Entry::End);
        }
        // Nobody is left to be told.
        let _ = book.writer.flush();
    }

    /// As [`finish`](Self::finish) in a process that goes on, which CUPTI costs as little as it can from then on.
    pub fn stop(self) {
        let shared = self.shared;
        let is_on = shared.is_ours() && shared.is_subscribed();
        if is_on {
            shared.disable();
        }
        self.finish();
        if is_on {
            shared.unsubscribe();
        }
    }
}

impl Shared {
    /// Whether this is the process that is recorded, and no fork of it.
    fn is_ours(&self) -> bool {
        process::id() == self.process
    }

    fn book(&self) -> MutexGuard<'_, Option<Book>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, new: Book) -> Result<()> {
        let mut book = self.book();
        if !self.is_ours() || book.is_some() {
            return Err(Error::RecordsAlready);
        }
        *book = Some(new);
        Ok(())
    }

    /// Nothing more is written.
    fn give_up(&self) {
        *self.book() = None;
    }

    /// Makes us the one who uses CUPTI, as NVIDIA wants it before all else: activities alone have one set of callbacks for
    /// everybody, and whoever registers theirs last gets the records of all.
    #[doc(alias = "cuptiSubscribe")]
    fn subscribe(&self) -> Result<()> {
        let mut subscriber = ptr::null_mut();
        // SAFETY: the handle is writable; the function is of the type that CUPTI documents, and does nothing.
        match unsafe { self.api.subscribe(&raw mut subscriber, called, ptr::null_mut()) } {
            Err(Error::Status { code, .. }) if SECOND_SUBSCRIBER.contains(&code) => Err(Error::CuptiIsTaken),
            Err(other) => Err(other),
            Ok(()) => {
                self.subscriber.store(subscriber, Ordering::Release);
                Ok(())
            }
        }
    }

    fn is_subscribed(&self) -> bool {
        !self.subscriber.load(Ordering::Acquire).is_null()
    }

    #[doc(alias = "cuptiUnsubscribe")]
    fn unsubscribe(&self) {
        let subscriber = self.subscriber.swap(ptr::null_mut(), Ordering::AcqRel);
        if !subscriber.is_null() {
            // SAFETY: the handle is CUPTI's, and nobody else takes it from its place.
            let _ = unsafe { self.api.unsubscribe(subscriber) };
        }
    }

    /// Ends a recording that has hardly begun.
    fn withdraw(&self) {
        self.disable();
        self.give_up();
        // SAFETY: it may be called at any time. Buffers that CUPTI has already come home.
        let _ = unsafe { self.api.flush_all(FLUSH_FORCED) };
        self.unsubscribe();
    }

    fn enable(&self, graphs: GraphDetail) -> Result<()> {
        // SAFETY: it may be called at any time. Where an old CUPTI lacks it, threads go by other numbers.
        let _ = unsafe { self.api.set_thread_id_type(THREAD_ID_OF_SYSTEM) };
        // SAFETY: both are functions of the types that CUPTI documents, and never unwind.
        unsafe { self.api.register_callbacks(buffer_requested, buffer_completed) }?;
        for kind in WORK {
            // SAFETY: the callbacks are registered.
            unsafe { self.api.enable(kind) }?;
        }
        // Without these less is known, but not nothing.
        self.enable_if_possible(kind::STREAM, "which streams are default streams");
        if graphs == GraphDetail::Runs {
            self.enable_if_possible(kind::GRAPH_TRACE, "graphs as a whole");
        }
        self.enable_calls(DOMAIN_DRIVER, kind::DRIVER)?;
        self.enable_calls(DOMAIN_RUNTIME, kind::RUNTIME)
    }

    /// Takes back what [`enable`](Self::enable) asked for. What is not taken back costs time and nothing else: nobody
    /// writes it.
    #[doc(alias = "cuptiActivityDisable")]
    fn disable(&self) {
        for kind in WORK.into_iter().chain([kind::STREAM, kind::GRAPH_TRACE, kind::DRIVER, kind::RUNTIME]) {
            // SAFETY: a kind may be disabled whether or not it is enabled.
            let _ = unsafe { self.api.disable(kind) };
        }
    }

    fn enable_if_possible(&self, kind: u32, what: &str) {
        // SAFETY: the callbacks are registered.
        if let Err(error) = unsafe { self.api.enable(kind) } {
            let remark = Entry::Remark(format!("CUPTI does not record {what}: {error}"));
            self.book().iter_mut().for_each(|book| book.writer.put(&remark));
        }
    }

    /// Records the calls that are worth it, or all, where CUPTI cannot choose (before 12.3). Those that are not worth it are
    /// left out of all, since in a process that has used CUDA before CUPTI 13.0 records none of the calls that are asked
    /// for one by one.
    #[doc(alias = "cuptiActivityEnableDriverApi")]
    #[doc(alias = "cuptiActivityEnableRuntimeApi")]
    fn enable_calls(&self, domain: u32, kind: u32) -> Result<()> {
        // SAFETY: the callbacks are registered.
        unsafe { self.api.enable(kind) }?;
        for id in self.calls_to_leave_out(domain) {
            if self.leave_out(domain, id).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Lets a call that CUPTI has named not be recorded.
    fn leave_out(&self, domain: u32, id: u32) -> Result<()> {
        if domain == DOMAIN_DRIVER {
            // SAFETY: CUPTI has just named this call.
            unsafe { self.api.enable_driver_call(id, 0) }
        } else {
            // SAFETY: as above.
            unsafe { self.api.enable_runtime_call(id, 0) }
        }
    }

    /// Numbers of the calls that are not worth a record, in the driver's or the runtime's list.
    fn calls_to_leave_out(&self, domain: u32) -> Vec<u32> {
        let (mut found, mut nameless) = (Vec::new(), 0);
        for id in 1.. {
            match self.call_name(domain, id) {
                Some(name) => {
                    nameless = 0;
                    found.extend((!is_recorded(bare_name(&name))).then_some(id));
                }
                None if nameless == MOST_NAMELESS => break,
                None => nameless += 1,
            }
        }
        found
    }

    /// What CUPTI calls one of CUDA's functions.
    #[doc(alias = "cuptiGetCallbackName")]
    fn call_name(&self, domain: u32, id: u32) -> Option<String> {
        let mut name: *const c_char = ptr::null();
        // SAFETY: `name` is writable; a number that is no call's is refused.
        let code = unsafe { self.api.callback_name(domain, id, &raw mut name) }.ok()?;
        if code != 0 || name.is_null() {
            return None;
        }
        // SAFETY: CUPTI has set it to a constant of its own, which ends in a zero.
        let name = unsafe { CStr::from_ptr(name) };
        Some(name.to_string_lossy().into_owned())
    }

    /// Writes what the clock of activities shows now.
    #[doc(alias = "cuptiGetTimestamp")]
    fn note_clock(&self) {
        // A thread that is interrupted between two readings sees one of them late, so those closest together count.
        let tightest = (0..CLOCK_READINGS).filter_map(|_| self.read_clocks()).min_by_key(|(width, _)| *width);
        let mut book = self.book();
        let Some(book) = book.as_mut() else { return };
        if let Some((_, clock)) = tightest {
            book.writer.put(&clock);
        }
        // A file that cannot be written shows when it is read.
        let _ = book.writer.flush();
    }

    /// What the clock of activities shows in the middle between two readings of the world's, and how far apart those are.
    fn read_clocks(&self) -> Option<(u64, Entry)> {
        let mut activity_ns = 0;
        let before = unix_ns();
        // SAFETY: the number is writable.
        unsafe { self.api.timestamp(&raw mut activity_ns) }.ok()?;
        let width = unix_ns().checked_sub(before)?;
        Some((width, Entry::Clock { activity_ns, unix_ns: before + width / 2 }))
    }

    /// Writes the records of a buffer.
    ///
    /// # Safety
    /// - `buffer` holds `valid_size` bytes of records that CUPTI has delivered, and stays until this returns.
    #[doc(alias = "cuptiActivityGetNextRecord")]
    unsafe fn write(&self, buffer: *mut u8, valid_size: usize) {
        let mut book = self.book();
        let Some(book) = book.as_mut() else { return };
        let mut record: *mut u8 = ptr::null_mut();
        // SAFETY: the buffer holds so many bytes of records; the record is null or the one before.
        while let Ok(0) = unsafe { self.api.next_record(buffer, valid_size, &raw mut record) } {
            // SAFETY: every record begins with its kind, a 32-bit number that is aligned to 8 bytes.
            let kind = unsafe { record.cast::<u32>().read() };
            let Some(length) = length(kind) else { continue };
            // SAFETY: CUPTI has given the record, of a version that has all these fields (`Cupti::open`).
            let bytes = unsafe { bytes_of(record, length) };
            let activity = Record::new(kind, bytes).activity(|source| self.name(book, source));
            if let Some(activity) = activity {
                book.writer.put(&Entry::Activity(activity));
            }
        }
        self.note_dropped(book);
        // A disk that is full shows in a file without an end.
        let _ = book.writer.flush();
    }

    /// The number of a name in the file; `None` for calls that are not recorded.
    fn name(&self, book: &mut Book, source: NameSource) -> Option<NameId> {
        match source {
            NameSource::Text(0) => Some(book.writer.name("")),
            NameSource::Text(address) => {
                let address =
                    usize::try_from(address).expect("bug: CUDA is for platforms with 64-bit addresses");
                let text: *const c_char = ptr::with_exposed_provenance(address);
                // SAFETY: a kernel's name in a delivered record is a text of CUPTI's that ends in a zero.
                let text = unsafe { CStr::from_ptr(text) };
                Some(book.writer.name(&text.to_string_lossy()))
            }
            NameSource::Call { domain, id } => {
                if let Some(known) = book.calls.get(&(domain, id)) {
                    return *known;
                }
                let name = self.call_name(domain, id);
                let name = name.as_deref().map(bare_name).filter(|name| is_recorded(name));
                let name = name.map(|name| book.writer.name(name));
                book.calls.insert((domain, id), name);
                name
            }
        }
    }

    #[doc(alias = "cuptiActivityGetNumDroppedRecords")]
    fn note_dropped(&self, book: &mut Book) {
        let mut count = 0;
        // SAFETY: no context and stream 0 ask for those that belong to none; the count is writable.
        let asked = unsafe { self.api.dropped(ptr::null_mut(), 0, &raw mut count) };
        if asked.is_ok() && count > 0 {
            book.writer.put(&Entry::Dropped(count as u64));
        }
    }
}

/// Whether a recording of this process runs.
pub(super) fn runs() -> bool {
    SHARED.get().is_some_and(|shared| shared.book().is_some())
}

/// Nanoseconds since 1970.
fn unix_ns() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX)
}

/// CUPTI tells of a call: never, since no call is asked for. A subscriber has to have such a function.
pub(super) extern "C" fn called(_: *mut c_void, _: u32, _: u32, _: *const c_void) {}

/// CUPTI needs a buffer.
extern "C" fn buffer_requested(buffer: *mut *mut u8, size: *mut usize, most_records: *mut usize) {
    let given = SHARED.get().map_or(ptr::null_mut(), |shared| {
        panic::catch_unwind(AssertUnwindSafe(|| shared.buffers.give())).unwrap_or(ptr::null_mut())
    });
    // SAFETY: CUPTI passes three places that can be written.
    unsafe { buffer.write(given) };
    // SAFETY: as above.
    unsafe { size.write(if given.is_null() { 0 } else { BUFFER_BYTES }) };
    // SAFETY: as above. 0 stands for as many records as fit.
    unsafe { most_records.write(0) };
}

/// CUPTI delivers a buffer.
extern "C" fn buffer_completed(_: *mut c_void, _: u32, buffer: *mut u8, _: usize, valid_size: usize) {
    let Some(shared) = SHARED.get() else { return };
    // A panic must not reach CUPTI. What it has left behind may be wrong, so nothing more is written.
    let done = panic::catch_unwind(AssertUnwindSafe(|| {
        if shared.is_ours() && !buffer.is_null() {
            // SAFETY: CUPTI delivers this buffer, which stays until it is taken back below.
            unsafe { shared.write(buffer, valid_size) };
        }
        // SAFETY: CUPTI is done with the buffer, and so are we.
        unsafe { shared.buffers.take_back(buffer) };
    }));
    if done.is_err() {
        shared.give_up();
    }
}
