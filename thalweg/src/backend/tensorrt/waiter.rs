//! Waiting for the device on a thread of its own, so that a submitter can sleep in its inbox.
//!
//! In: events behind executions, in the order in which they will be complete. Out: calls of the submitter's waker.

use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use thalweg_nvidia::execution::FinishEvent;

use crate::backend::Waker;
use crate::error::{Error, Result};

/// A thread that sleeps until the device has finished something, and wakes the submitter.
pub(super) struct Waiter {
    events: Option<Sender<FinishEvent>>,
    wakers: Sender<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Waiter {
    /// For a stream of so many slots.
    pub(super) fn start(stream: usize, depth: usize) -> Result<Self> {
        // Each slot is watched once while it runs; that of its last run may still lie here.
        let (events, watched) = bounded(2 * depth);
        let (wakers, new_wakers) = unbounded();
        let builder = thread::Builder::new().name(format!("thalweg-waiter-{stream}"));
        let run = move || wait_for_all(&watched, &new_wakers);
        let thread = builder.spawn(run).map_err(Error::io("start", "a waiting thread"))?;
        Ok(Self { events: Some(events), wakers, thread: Some(thread) })
    }

    pub(super) fn watch(&self, event: FinishEvent) {
        if let Some(events) = &self.events {
            // The thread lives as long as we do.
            drop(events.send(event));
        }
    }

    pub(super) fn wake_with(&self, waker: Waker) {
        drop(self.wakers.send(waker));
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // Without it the thread ends after what is enqueued, which is to be done before buffers go.
        self.events = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            drop(thread.join());
        }
    }
}

fn wait_for_all(events: &Receiver<FinishEvent>, wakers: &Receiver<Waker>) {
    let mut waker = None;
    for event in events {
        // A failure is reported by whoever polls the lane; here it only means that the wait is over.
        let _ = event.wait();
        waker = wakers.try_iter().last().or(waker);
        if let Some(waker) = &waker {
            waker.wake();
        }
    }
}
