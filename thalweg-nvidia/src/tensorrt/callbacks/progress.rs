//! `IProgressMonitor`: how far a build is, from TensorRT 10 on.

use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Entry, InterfaceInfo, Panics, Vtable, api_language, never_destroyed};
use crate::tensorrt::object::text_at;

/// One step of a build. Phases nest, and several may be open at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildProgress<'a> {
    /// A phase begins.
    Started {
        /// What TensorRT calls it; unique among the open ones.
        phase: &'a str,
        /// The phase that it is a part of.
        parent: Option<&'a str>,
        /// How many steps it will take.
        steps: u32,
    },
    /// A step of a phase is done.
    Step {
        /// The phase.
        phase: &'a str,
        /// The step, from 0.
        step: u32,
    },
    /// A phase ends, maybe before its last step.
    Finished {
        /// The phase.
        phase: &'a str,
    },
}

/// Takes each step of a build. `Break` on a [`BuildProgress::Step`] cancels the build. It is called from several
/// threads, also of TensorRT's own.
pub type ProgressSink = Arc<dyn Fn(BuildProgress<'_>) -> ControlFlow<()> + Send + Sync>;

/// A monitor at an address that does not change.
pub(crate) struct ProgressMonitor(Box<Monitor>);

/// An `IProgressMonitor`.
#[repr(C)]
struct Monitor {
    vtable: *const Entry,
    sink: ProgressSink,
    panics: Arc<Panics>,
}

impl ProgressMonitor {
    pub(crate) fn new(sink: ProgressSink, panics: Arc<Panics>) -> Self {
        Self(Box::new(Monitor { vtable: VTABLE.address(), sink, panics }))
    }

    /// What TensorRT takes for an `IProgressMonitor*`. It is good as long as this lives.
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        std::ptr::from_ref::<Monitor>(&self.0).cast_mut().cast()
    }
}

static VTABLE: Vtable<7> = Vtable::new([
    api_language as Entry,
    interface_info as Entry,
    never_destroyed as Entry,
    never_destroyed as Entry,
    phase_start as Entry,
    step_complete as Entry,
    phase_finish as Entry,
]);

unsafe extern "C" fn interface_info(_: *const c_void) -> InterfaceInfo {
    InterfaceInfo::of(c"IProgressMonitor")
}

/// `phaseStart`
unsafe extern "C" fn phase_start(
    this: *const Monitor,
    phase: *const c_char,
    parent: *const c_char,
    steps: i32,
) {
    // SAFETY: TensorRT passes the monitor it was given, which lives as long as the configuration that has it.
    let monitor = unsafe { &*this };
    monitor.panics.guard((), || {
        // SAFETY: TensorRT keeps both texts until this returns.
        let phase = unsafe { text_at(phase) }.unwrap_or_default();
        // SAFETY: as above.
        let parent = unsafe { text_at(parent) };
        let steps = u32::try_from(steps).unwrap_or(0);
        // Only the end of a step can cancel.
        let _ = (monitor.sink)(BuildProgress::Started { phase: &phase, parent: parent.as_deref(), steps });
    });
}

/// `stepComplete`: false cancels the build, as a panic does.
unsafe extern "C" fn step_complete(this: *const Monitor, phase: *const c_char, step: i32) -> bool {
    // SAFETY: as in `phase_start`.
    let monitor = unsafe { &*this };
    monitor.panics.guard(false, || {
        // SAFETY: as in `phase_start`.
        let phase = unsafe { text_at(phase) }.unwrap_or_default();
        let step = u32::try_from(step).unwrap_or(0);
        (monitor.sink)(BuildProgress::Step { phase: &phase, step }).is_continue()
    })
}

/// `phaseFinish`
unsafe extern "C" fn phase_finish(this: *const Monitor, phase: *const c_char) {
    // SAFETY: as in `phase_start`.
    let monitor = unsafe { &*this };
    monitor.panics.guard((), || {
        // SAFETY: as in `phase_start`.
        let phase = unsafe { text_at(phase) }.unwrap_or_default();
        let _ = (monitor.sink)(BuildProgress::Finished { phase: &phase });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_cancels_the_build_and_is_kept() {
        let panics = Arc::new(Panics::default());
        let monitor = ProgressMonitor::new(Arc::new(|_| panic!("stop")), Arc::clone(&panics));
        // SAFETY: monitor and text live.
        let goes_on = unsafe { step_complete(monitor.as_ptr().cast(), c"tactics".as_ptr(), 0) };
        assert!(!goes_on);
        let raised = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panics.raise()));
        assert_eq!(raised.unwrap_err().downcast_ref::<&str>(), Some(&"stop"));
    }

    #[test]
    fn a_break_cancels_the_build() {
        let sink: ProgressSink = Arc::new(|progress| match progress {
            BuildProgress::Step { phase: "tactics", step: 2 } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        let monitor = ProgressMonitor::new(sink, Arc::default());
        // SAFETY: monitor and text live.
        let goes_on = |step| unsafe { step_complete(monitor.as_ptr().cast(), c"tactics".as_ptr(), step) };
        assert!(goes_on(1));
        assert!(!goes_on(2));
    }
}
