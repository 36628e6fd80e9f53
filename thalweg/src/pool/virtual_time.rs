//! The pool in virtual time: the same submitters and the same scheduler as with threads, driven by one event
//! loop on one thread.
//!
//! In: an engine of a simulated device. Whoever calls sends requests, reads responses, and lets time go on
//! with [`VirtualPool::step`]. A submitter is a simulated thread: while it enqueues, its own time goes on, and
//! what reaches it meanwhile waits.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::producer::{Entrance, Producer, RoomRequest};
use super::response::Response;
use super::state::PoolState;
use super::submitter::Submitter;
use super::{Configuration, Parts};
use crate::backend::{Engine, Observer, Wait};
use crate::error::{Error, Result};
use crate::units::{Clock, Nanos, VirtualClock};

/// Later than anything that happens.
const NEVER: Nanos = Nanos(u64::MAX);

/// A pool whose time is moved by hand.
pub struct VirtualPool {
    hands: VirtualClock,
    entrance: Arc<Entrance>,
    producer: Producer,
    responses: Receiver<Response>,
    threads: Vec<SimulatedThread>,
    observer: Option<Box<dyn Observer>>,
}

struct SimulatedThread {
    submitter: Submitter,
    /// Until then it is busy.
    free_at: Nanos,
    busy: Nanos,
}

impl VirtualPool {
    /// Makes the executors of a simulated engine; the time is zero.
    ///
    /// # Errors
    /// As [`ExecutionPool::start`](super::ExecutionPool::start).
    pub fn start(engine: Arc<dyn Engine>, configuration: &Configuration) -> Result<Self> {
        let hands = VirtualClock::default();
        // Nobody waits in virtual time, so each way to wait is the one that is woken.
        let configuration = Configuration { wait: Wait::Block, ..*configuration };
        let parts = Parts::of(engine, &configuration, hands.clock())?;
        let thread = |submitter| SimulatedThread { submitter, free_at: Nanos::ZERO, busy: Nanos::ZERO };
        Ok(Self {
            hands,
            producer: Producer::new(Arc::clone(&parts.entrance)),
            entrance: parts.entrance,
            responses: parts.responses,
            threads: parts.submitters.into_iter().map(thread).collect(),
            observer: parts.observer,
        })
    }

    /// The clock of all times.
    pub fn clock(&self) -> Clock {
        self.hands.clock()
    }

    /// Whoever can say what the device does, once; `None` where nobody can.
    pub fn take_observer(&mut self) -> Option<Box<dyn Observer>> {
        self.observer.take()
    }

    /// Asks for room in a slot; the answer comes with later steps.
    ///
    /// # Errors
    /// As [`Producer::reserve`].
    pub fn request(&self, samples: usize) -> Result<RoomRequest> {
        self.producer.request(samples)
    }

    /// The next response that is there now.
    pub fn try_response(&self) -> Option<Response> {
        self.responses.try_recv().ok()
    }

    /// Time that all submitting threads together were busy.
    pub fn busy_time(&self) -> Nanos {
        self.threads.iter().map(|thread| thread.busy).sum()
    }

    /// Whether its executors have something to run, and for how long they had nothing.
    pub fn state(&self) -> PoolState {
        PoolState::sum(self.threads.iter().map(|thread| thread.submitter.state()))
    }

    /// Asks for the end: what was committed is finished, nothing new is accepted.
    pub fn stop(&self) {
        self.entrance.stop();
    }

    /// Does what is to be done now; where nothing is, lets time pass to the next event and at most to `limit`.
    ///
    /// # Errors
    /// [`Error::Bug`] where `limit` is `None` and nothing will ever happen again.
    pub fn step(&mut self, limit: Option<Nanos>) -> Result<()> {
        let now = self.hands.now();
        if let Some(ready) = self.ready_thread(now) {
            self.take_turn(ready, now);
            return Ok(());
        }
        let next = self.threads.iter().map(SimulatedThread::next_turn).min().unwrap_or(NEVER);
        let until = next.min(limit.unwrap_or(NEVER));
        let device = self.threads.iter_mut().find_map(|thread| thread.submitter.executor());
        let reached = device.map_or(until, |device| device.run_until(until));
        if reached == NEVER {
            return Err(Error::Bug(
                "nothing runs and nothing is waited for: a completion was lost".to_owned(),
            ));
        }
        self.hands.set(reached.max(now));
        Ok(())
    }

    /// The thread that is free and has had something to do for longest.
    fn ready_thread(&self, now: Nanos) -> Option<usize> {
        let ready = self.threads.iter().enumerate().filter(|(_, thread)| thread.next_turn() <= now);
        ready.min_by_key(|(_, thread)| thread.free_at).map(|(index, _)| index)
    }

    /// The thread's own time runs on while it enqueues; everybody else's stands still.
    fn take_turn(&mut self, index: usize, now: Nanos) {
        let thread = &mut self.threads[index];
        thread.submitter.turn();
        thread.free_at = self.hands.now();
        thread.busy += thread.free_at - now;
        self.hands.set(now);
    }
}

impl SimulatedThread {
    /// When it has something to do and is free to do it.
    fn next_turn(&self) -> Nanos {
        let wanted =
            if self.submitter.has_mail() { Nanos::ZERO } else { self.submitter.deadline().unwrap_or(NEVER) };
        wanted.max(self.free_at)
    }
}
