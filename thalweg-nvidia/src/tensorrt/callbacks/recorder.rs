//! `IErrorRecorder`: the errors of one object, whichever thread they come from.

use std::ffi::{CString, c_char, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Entry, InterfaceInfo, Vtable, api_language, never_destroyed};
use crate::tensorrt::abi::{Abi, Family};
use crate::tensorrt::object::text_at;

/// The record of one object, at an address that does not change.
pub(crate) struct Recorder(Box<Record>);

/// An `IErrorRecorder`.
#[repr(C)]
struct Record {
    vtable: *const Entry,
    // Contended by TensorRT's own threads and the one that made the call.
    errors: Mutex<Vec<(i32, CString)>>,
}

// SAFETY: the vtable is never written, the errors are behind a lock.
unsafe impl Send for Recorder {}
// SAFETY: as above.
unsafe impl Sync for Recorder {}

impl Recorder {
    pub(crate) fn new(abi: Abi) -> Self {
        let vtable = match abi.family {
            Family::TensorRt8 => PLAIN.address(),
            Family::TensorRt10 | Family::TensorRt11 | Family::Rtx1 => VERSIONED.address(),
        };
        Self(Box::new(Record { vtable, errors: Mutex::default() }))
    }

    /// What TensorRT takes for an `IErrorRecorder*`. It is good as long as this lives.
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        std::ptr::from_ref::<Record>(&self.0).cast_mut().cast()
    }

    /// The errors since the last time, oldest first.
    pub(crate) fn take(&self) -> Vec<String> {
        let errors = std::mem::take(&mut *self.0.errors());
        errors.into_iter().map(|(_, text)| text.to_string_lossy().trim_end().to_owned()).collect()
    }
}

impl Record {
    fn errors(&self) -> MutexGuard<'_, Vec<(i32, CString)>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nth<T>(&self, index: i32, read: impl FnOnce(&(i32, CString)) -> T) -> Option<T> {
        self.errors().get(usize::try_from(index).ok()?).map(read)
    }
}

/// `IErrorRecorder` of 8 declares its destructor first and has no base class.
static PLAIN: Vtable<10> = Vtable::new([
    never_destroyed as Entry,
    never_destroyed as Entry,
    error_count as Entry,
    error_code as Entry,
    error_text as Entry,
    has_overflowed as Entry,
    clear as Entry,
    report as Entry,
    count_reference as Entry,
    count_reference as Entry,
]);

static VERSIONED: Vtable<12> = Vtable::new([
    api_language as Entry,
    interface_info as Entry,
    never_destroyed as Entry,
    never_destroyed as Entry,
    error_count as Entry,
    error_code as Entry,
    error_text as Entry,
    has_overflowed as Entry,
    clear as Entry,
    report as Entry,
    count_reference as Entry,
    count_reference as Entry,
]);

unsafe extern "C" fn interface_info(_: *const c_void) -> InterfaceInfo {
    InterfaceInfo::of(c"IErrorRecorder")
}

/// `getNbErrors`
unsafe extern "C" fn error_count(this: *const Record) -> i32 {
    // SAFETY: TensorRT passes the recorder it was given, which outlives the object that has it.
    let record = unsafe { &*this };
    i32::try_from(record.errors().len()).unwrap_or(i32::MAX)
}

/// `getErrorCode`
unsafe extern "C" fn error_code(this: *const Record, index: i32) -> i32 {
    const SUCCESS: i32 = 0;
    // SAFETY: as in `error_count`.
    let record = unsafe { &*this };
    record.nth(index, |(code, _)| *code).unwrap_or(SUCCESS)
}

/// `getErrorDesc`
unsafe extern "C" fn error_text(this: *const Record, index: i32) -> *const c_char {
    // SAFETY: as in `error_count`.
    let record = unsafe { &*this };
    // The text stays where it is until `clear` or `take`.
    record.nth(index, |(_, text)| text.as_ptr()).unwrap_or(c"".as_ptr())
}

/// `hasOverflowed`: there is room for all.
unsafe extern "C" fn has_overflowed(_: *const Record) -> bool {
    false
}

/// `clear`
unsafe extern "C" fn clear(this: *const Record) {
    // SAFETY: as in `error_count`.
    let record = unsafe { &*this };
    record.errors().clear();
}

/// `reportError`: true would stop the object's work at once, which its own return value does anyway.
unsafe extern "C" fn report(this: *const Record, code: i32, text: *const c_char) -> bool {
    // SAFETY: as in `error_count`.
    let record = unsafe { &*this };
    // SAFETY: TensorRT passes a text that it keeps until this returns.
    let text = unsafe { text_at(text) }.unwrap_or_default();
    record.errors().push((code, CString::new(text).unwrap_or_default()));
    false
}

/// `incRefCount` and `decRefCount`: this side owns the recorder, so nobody has to count.
unsafe extern "C" fn count_reference(_: *const Record) -> i32 {
    1
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::version::Version;

    #[test]
    fn what_is_reported_through_the_vtable_is_taken_once() {
        type Report = unsafe extern "C" fn(*const c_void, i32, *const c_char) -> bool;
        for (family, entry) in [(Family::TensorRt8, 7), (Family::TensorRt10, 9), (Family::Rtx1, 9)] {
            let recorder =
                Recorder::new(Abi { family, version: Version { major: 0, minor: 0, patch: None } });
            // SAFETY: both vtables are longer than that.
            let code = unsafe { recorder.0.vtable.add(entry).read() };
            // SAFETY: it is the entry of `reportError`.
            let report = unsafe { std::mem::transmute::<Entry, Report>(code) };
            // SAFETY: recorder and text live.
            let stops = unsafe { report(recorder.as_ptr(), 3, c"out of cheese".as_ptr()) };
            assert!(!stops);
            assert_eq!(recorder.take(), ["out of cheese"]);
            assert!(recorder.take().is_empty());
        }
    }

    #[test]
    fn tensorrt_can_read_back_what_it_reported() {
        let version = Version { major: 8, minor: 6, patch: None };
        let recorder = Recorder::new(Abi { family: Family::TensorRt8, version });
        let this = recorder.as_ptr().cast::<Record>();
        // SAFETY: recorder and text live, here and below.
        unsafe { report(this, 3, c"first".as_ptr()) };
        // SAFETY: see above.
        assert_eq!(unsafe { error_count(this) }, 1);
        // SAFETY: see above.
        assert_eq!(unsafe { error_code(this, 0) }, 3);
        // SAFETY: see above.
        assert_eq!(unsafe { error_code(this, 1) }, 0);
        // SAFETY: see above.
        let text = unsafe { error_text(this, 0) };
        // SAFETY: the text is still recorded.
        assert_eq!(unsafe { CStr::from_ptr(text) }, c"first");
    }
}
