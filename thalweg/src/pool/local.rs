//! The pool without a submitting thread: whoever reads its responses drives it.
//!
//! In: an engine and a configuration with one submitter. Out: responses, each of which its reader may answer with the next
//! request ([`Producer::refill`]). So an execution passes from the device to its reader and back on one thread, and wakes
//! nobody: where executions take some microseconds, that is most of what a pool costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::producer::{Entrance, Producer};
use super::response::{NoResponse, Response};
use super::state::PoolState;
use super::submitter::Submitter;
use super::{Configuration, Parts};
use crate::backend::{Engine, Observer};
use crate::error::{Error, Result};
use crate::units::Clock;

/// Executors that are driven by the thread that reads their responses, and the way in and out.
///
/// Nothing starts and nothing ends but in [`next_within`](Self::next_within). Requests that have to wait for room come
/// from other threads, and are heard when the execution that is waited for has ended; the thread that drives would wait
/// for itself. As submitting threads do, it leaves a core on which somebody else works for another one near it that it may run
/// on; one that is bound to fewer than four cores stays. Dropping it accepts nothing new, finishes what was committed, and waits for reservations that are still
/// being filled.
pub struct LocalPool {
    entrance: Arc<Entrance>,
    responses: Receiver<Response>,
    submitter: Submitter,
    observer: Option<Box<dyn Observer>>,
}

impl LocalPool {
    /// Makes the executors. All times count on `clock`.
    ///
    /// # Errors
    /// As [`ExecutionPool::start`](super::ExecutionPool::start); and [`Error::InvalidSetting`] for several submitters.
    pub fn start(engine: Arc<dyn Engine>, configuration: &Configuration, clock: Clock) -> Result<Self> {
        let Parts { entrance, responses, mut submitters, observer } =
            Parts::of(engine, configuration, clock)?;
        let submitter = submitters.pop().filter(|_| submitters.is_empty());
        let submitter = submitter.ok_or_else(|| Error::InvalidSetting {
            name: "submitters",
            value: configuration.submitters.to_string(),
            reason: "one thread drives all executors".to_owned(),
        })?;
        Ok(Self { entrance, responses, submitter, observer })
    }

    /// A way in.
    pub fn producer(&self) -> Producer {
        Producer::new(Arc::clone(&self.entrance))
    }

    /// As [`ExecutionPool::take_observer`](super::ExecutionPool::take_observer).
    pub fn take_observer(&mut self) -> Option<Box<dyn Observer>> {
        self.observer.take()
    }

    /// As [`ExecutionPool::state`](super::ExecutionPool::state), without asking anybody.
    pub fn state(&self) -> PoolState {
        self.submitter.state()
    }

    /// Starts what is to be started until there is a response, and for no longer than this time and the execution that
    /// runs.
    ///
    /// # Errors
    /// [`NoResponse::Yet`] where none came in time.
    pub fn next_within(&mut self, patience: Duration) -> Result<Response, NoResponse> {
        let end = Instant::now() + patience;
        loop {
            if let Ok(response) = self.responses.try_recv() {
                return Ok(response);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NoResponse::Yet);
            }
            self.submitter.pass(Some(left));
        }
    }
}

impl Drop for LocalPool {
    fn drop(&mut self) {
        self.entrance.stop();
        while !self.submitter.has_finished() {
            self.submitter.pass(None);
        }
    }
}
