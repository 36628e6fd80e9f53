//! `ILogger`: what TensorRT says.
//!
//! The library keeps the first logger that it was given for whatever it says outside of an object, so a
//! [`Logger`] lives for ever. Which logger gets a line therefore says little about whose it is. The thread
//! does: a line that is said on a thread inside of a call belongs to that call, and [`hear`] collects it
//! there.

use std::cell::RefCell;
use std::ffi::{c_char, c_void};
use std::sync::Arc;

use serde::Serialize;

use super::{Entry, InterfaceInfo, Panics, Vtable, api_language, never_destroyed};
use crate::tensorrt::abi::{Abi, Family};
use crate::tensorrt::object::text_at;

/// How serious a line of TensorRT's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// TensorRT cannot go on.
    InternalError,
    /// What was asked for failed.
    Error,
    /// It goes on, but something is other than asked for.
    Warning,
    /// What it is doing.
    Info,
    /// Far more than that.
    Verbose,
}

impl Severity {
    /// The numbers of `ILogger::Severity`, the same in every version.
    fn of(number: i32) -> Self {
        match number {
            0 => Self::InternalError,
            1 => Self::Error,
            2 => Self::Warning,
            3 => Self::Info,
            _ => Self::Verbose,
        }
    }
}

/// Takes each line that TensorRT logs. It is called from several threads, also of TensorRT's own.
pub type LogSink = Arc<dyn Fn(Severity, &str) + Send + Sync>;

/// What TensorRT said during a call.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) errors: Vec<String>,
    warnings: Vec<String>,
    /// What our own allocator refused, which is no error where TensorRT found another way.
    pub(crate) refusal: Option<String>,
}

impl Said {
    /// The reason of a failure: without a driver, TensorRT calls it a warning.
    pub(crate) fn into_reason(self) -> Vec<String> {
        let mut reason = if self.errors.is_empty() { self.warnings } else { self.errors };
        reason.extend(self.refusal);
        reason
    }
}

thread_local! {
    /// What was said on this thread inside of the calls that are in progress on it, innermost last.
    static HEARD: RefCell<Vec<Said>> = const { RefCell::new(Vec::new()) };
}

/// Runs a call into TensorRT and returns what it logged on this thread.
pub(crate) fn hear<T>(call: impl FnOnce() -> T) -> (T, Said) {
    HEARD.with_borrow_mut(|heard| heard.push(Said::default()));
    let result = call();
    let said = HEARD.with_borrow_mut(Vec::pop);
    (result, said.unwrap_or_default())
}

/// Adds a line to what the innermost call on this thread has said.
fn keep(severity: Severity, text: &str) {
    HEARD.with_borrow_mut(|heard| {
        let Some(said) = heard.last_mut() else { return };
        match severity {
            Severity::InternalError | Severity::Error => said.errors.push(text.to_owned()),
            Severity::Warning => said.warnings.push(text.to_owned()),
            Severity::Info | Severity::Verbose => {}
        }
    });
}

/// An `ILogger`.
#[repr(C)]
pub(crate) struct Logger {
    vtable: *const Entry,
    sink: Option<LogSink>,
    panics: Arc<Panics>,
}

// SAFETY: the vtable is never written, the sink and the panics are `Sync`.
unsafe impl Sync for Logger {}
// SAFETY: as above, and all of it is `Send`.
unsafe impl Send for Logger {}

impl Logger {
    /// A logger that lives until the process ends.
    pub(crate) fn leak(abi: Abi, sink: Option<LogSink>, panics: Arc<Panics>) -> &'static Self {
        let vtable = match abi.family {
            Family::TensorRt8 | Family::TensorRt10 => PLAIN.address(),
            Family::TensorRt11 | Family::Rtx1 => VERSIONED.address(),
        };
        Box::leak(Box::new(Self { vtable, sink, panics }))
    }

    /// What TensorRT takes for an `ILogger*`.
    pub(crate) fn as_ptr(&'static self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

/// `ILogger` has no base class until 10.
static PLAIN: Vtable<3> = Vtable::new([log as Entry, never_destroyed as Entry, never_destroyed as Entry]);

static VERSIONED: Vtable<5> = Vtable::new([
    api_language as Entry,
    interface_info as Entry,
    never_destroyed as Entry,
    never_destroyed as Entry,
    log as Entry,
]);

unsafe extern "C" fn interface_info(_: *const c_void) -> InterfaceInfo {
    InterfaceInfo::of(c"ILogger")
}

/// `ILogger::log`
unsafe extern "C" fn log(this: *const Logger, severity: i32, message: *const c_char) {
    // SAFETY: TensorRT passes the logger it was given, which lives for ever and is never written.
    let logger = unsafe { &*this };
    logger.panics.guard((), || {
        // SAFETY: TensorRT passes a text that it keeps until this returns.
        let text = unsafe { text_at(message) }.unwrap_or_default();
        let severity = Severity::of(severity);
        keep(severity, text.trim_end());
        if let Some(sink) = &logger.sink {
            sink(severity, text.trim_end());
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::tensorrt::object::code_at;
    use crate::version::Version;

    type Log = unsafe extern "C" fn(*const c_void, i32, *const c_char);

    /// Logs as TensorRT does: through the entry of the vtable that the family has.
    fn say(logger: &'static Logger, entry: usize, severity: i32, text: &std::ffi::CStr) {
        // SAFETY: a vtable has this entry, as the tests below say.
        let code = unsafe { code_at(logger.as_ptr(), entry) };
        // SAFETY: it is the entry of `log`.
        let log = unsafe { std::mem::transmute::<Entry, Log>(code) };
        // SAFETY: logger and text live.
        unsafe { log(logger.as_ptr(), severity, text.as_ptr()) };
    }

    fn logger(family: Family, sink: Option<LogSink>) -> &'static Logger {
        let version = Version { major: 0, minor: 0, patch: None };
        Logger::leak(Abi { family, version }, sink, Arc::default())
    }

    #[test]
    fn lines_come_through_the_entry_of_each_family() {
        for (family, entry) in
            [(Family::TensorRt8, 0), (Family::TensorRt10, 0), (Family::TensorRt11, 4), (Family::Rtx1, 4)]
        {
            let lines = Arc::new(Mutex::new(Vec::new()));
            let kept = Arc::clone(&lines);
            let sink: LogSink = Arc::new(move |severity, text: &str| {
                kept.lock().unwrap().push((severity, text.to_owned()));
            });
            say(logger(family, Some(sink)), entry, 2, c"a warning\n");
            assert_eq!(*lines.lock().unwrap(), [(Severity::Warning, "a warning".to_owned())]);
        }
    }

    #[test]
    fn errors_belong_to_the_innermost_call_of_their_thread() {
        let logger = logger(Family::TensorRt10, None);
        let (inner, outer) = hear(|| {
            say(logger, 0, 1, c"outer");
            std::thread::scope(|scope| scope.spawn(|| say(logger, 0, 1, c"elsewhere")).join().unwrap());
            hear(|| say(logger, 0, 0, c"inner")).1
        });
        assert_eq!(inner.errors, ["inner"]);
        assert_eq!(outer.errors, ["outer"]);
        say(logger, 0, 1, c"outside of any call");
    }

    #[test]
    fn warnings_are_the_reason_where_there_are_no_errors() {
        let logger = logger(Family::TensorRt10, None);
        let ((), said) = hear(|| say(logger, 0, 2, c"no driver"));
        assert_eq!(said.into_reason(), ["no driver"]);
        let ((), said) = hear(|| {
            say(logger, 0, 2, c"slow");
            say(logger, 0, 1, c"wrong");
        });
        assert_eq!(said.into_reason(), ["wrong"]);
    }
}
