//! Bugs that tests plant in the scheduler, to see that a measurement finds them.

use std::cell::Cell;

use super::Event;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Room that holds samples which have not run yet is handed out again.
    RoomReusedTooEarly,
    /// The scheduler never hears of this completion, counted from 0.
    LostCompletion(u32),
}

thread_local! {
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Runs `action` with a bug in every scheduler of this thread.
pub(crate) fn with<T>(fault: Fault, action: impl FnOnce() -> T) -> T {
    PLANTED.set(Some(fault));
    let result = action();
    PLANTED.set(None);
    result
}

/// Where a producer is told to put its samples.
pub(super) fn offset(right: usize) -> usize {
    if PLANTED.get() == Some(Fault::RoomReusedTooEarly) { 0 } else { right }
}

/// Whether the scheduler misses this event.
pub(super) fn swallows(event: Event) -> bool {
    match (PLANTED.get(), event) {
        (Some(Fault::LostCompletion(0)), Event::Completed { .. }) => {
            PLANTED.set(None);
            true
        }
        (Some(Fault::LostCompletion(left)), Event::Completed { .. }) => {
            PLANTED.set(Some(Fault::LostCompletion(left - 1)));
            false
        }
        _ => false,
    }
}
