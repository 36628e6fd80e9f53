//! The execution pool: requests in, executions on several streams, responses out.
//!
//! ```text
//!   Producer ── reserve ──> Submitter (thread): Scheduler, slots ── enqueue ──> Executor (stream)
//!      │  <── slot ────────     │     │   ▲                                        │
//!      └─ fills in place,       │     │   └── completion ──────────────────────────┘
//!         commit ───────────────┘     └── response ──> Responses ── drop ──> slot is free again
//! ```
//!
//! A [`Producer`] asks for room in a slot, fills it in place on its own thread and commits it. The
//! [`scheduler`] decides which slot, and when it runs. Outputs are read in place too: a [`Response`]
//! holds its slot until it is dropped, or until its reader [fills it again](Producer::refill).
//!
//! # No contended lock on the hot path
//! Each submitter owns its scheduler, executors and slots; slots travel by value through channels
//! (crossbeam's, which are lock-free unless a receiver sleeps). What several threads write is two
//! atomic counters: the sequence number and each submitter's count of outstanding requests.
//! Channels have the room that they can need from the start, and what travels in them is used again, so an execution
//! allocates nothing. `cargo bench -p thalweg --bench pool` measures what all this costs.

mod configuration;
mod core_probe;
mod local;
mod patience;
mod producer;
mod response;
mod running;
pub mod scheduler;
mod state;
mod submitter;
mod virtual_time;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};

use crate::backend::{Engine, Executor, Observer, PlantedFault};
use crate::error::{Error, Result};
use crate::model::Signature;
use crate::units::Clock;

use producer::{Entrance, SpareReplies, SubmitterAddress};
use scheduler::SchedulerSpec;
use submitter::{Links, Submitter, SubmitterSpec};

#[cfg(test)]
pub(crate) use scheduler::faults;

pub use configuration::Configuration;
pub use local::LocalPool;
pub(crate) use producer::Came;
pub use producer::{Producer, Reservation, RoomRequest};
pub use response::{NoResponse, Order, Response, Responses};
pub use state::PoolState;
pub use virtual_time::VirtualPool;

/// Requests that may wait for room in front of each submitter. A producer that waits is a blocked
/// thread, so real pools stay far below; a server refuses before it gets here.
pub(crate) const QUEUE_CAPACITY: usize = 4096;

/// Messages of one slot in an inbox: the slot itself on its way, and executors that say that something has ended.
const INBOX_PER_SLOT: usize = 4;

/// Room for what is sent once, such as the wish to stop.
const INBOX_SLACK: usize = 64;

/// Executors, the threads that drive them, and the way in and out.
///
/// Dropping it stops it: what was committed is finished, and its responses can still be read.
pub struct ExecutionPool {
    entrance: Arc<Entrance>,
    responses: Receiver<Response>,
    threads: Vec<JoinHandle<()>>,
    observer: Option<Box<dyn Observer>>,
}

impl ExecutionPool {
    /// Makes the executors and starts the submitters. All times count on `clock`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] where the configuration does not fit the engine, and whatever the
    /// backend says where it cannot make the executors.
    pub fn start(engine: Arc<dyn Engine>, configuration: &Configuration, clock: Clock) -> Result<Self> {
        let Parts { entrance, responses, submitters, observer } = Parts::of(engine, configuration, clock)?;
        let threads = submitters.into_iter().enumerate().map(|(index, submitter)| spawn(submitter, index));
        Ok(Self { entrance, responses, threads: threads.collect::<Result<_>>()?, observer })
    }

    /// A way in.
    pub fn producer(&self) -> Producer {
        Producer::new(Arc::clone(&self.entrance))
    }

    /// The way out. Several readers share the responses between them, except in order of submission,
    /// which needs a single reader from the start.
    pub fn responses(&self, order: Order) -> Responses {
        Responses::new(self.responses.clone(), order)
    }

    /// Whether its executors have something to run, and for how long they had nothing. Submitters answer between two
    /// messages, and where all slots run when an execution ends; asking costs each of them about as much as a request does.
    pub fn state(&self) -> PoolState {
        self.entrance.state()
    }

    /// Whoever can say what the device does, once; `None` where nobody can.
    pub fn take_observer(&mut self) -> Option<Box<dyn Observer>> {
        self.observer.take()
    }

    /// What goes in and what comes out.
    pub fn signature(&self) -> &Signature {
        &self.entrance.signature
    }

    /// Accepts nothing new, finishes what was committed, and ends the threads. Waits for reservations
    /// that are still being filled.
    ///
    /// # Errors
    /// [`Error::Bug`] if a submitter panicked.
    pub fn stop(mut self) -> Result<()> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Result<()> {
        self.entrance.stop();
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                result = Err(Error::Bug("a submitter thread panicked".to_owned()));
            }
        }
        result
    }
}

impl Drop for ExecutionPool {
    fn drop(&mut self) {
        // A panic of a submitter was printed by its thread; there is nobody to return it to.
        drop(self.shut_down());
    }
}

/// A pool before anything drives its submitters.
struct Parts {
    entrance: Arc<Entrance>,
    responses: Receiver<Response>,
    submitters: Vec<Submitter>,
    observer: Option<Box<dyn Observer>>,
}

impl Parts {
    fn of(engine: Arc<dyn Engine>, configuration: &Configuration, clock: Clock) -> Result<Self> {
        let signature = engine.signature().clone();
        configuration.check(&signature)?;
        let batch_steps: Arc<[usize]> = execution_sizes(engine.as_ref(), configuration).into();
        let executors = engine.executors(&configuration.executor_spec(&signature, clock.clone()))?;
        let observer = executors.first().and_then(|executor| executor.observer());
        let slot_count = configuration.streams * configuration.depth;
        let most_outstanding = QUEUE_CAPACITY + slot_count * configuration.batch_size;
        // Each unread response has a share of a slot, so there is room for all of them, also where a scheduler with a
        // bug gives the same share to several requests: that is for a comparison of outputs to find.
        let (response_sender, responses) = bounded(most_outstanding);
        let (mut addresses, mut submitters) = (Vec::new(), Vec::new());
        let mut first_executor = 0;
        for share in shares(executors, configuration.submitters) {
            let (address, inbox) = bounded(most_outstanding + INBOX_PER_SLOT * slot_count + INBOX_SLACK);
            let life = Arc::new(());
            let (outstanding, waiting) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            addresses.push(SubmitterAddress {
                sender: address.clone(),
                outstanding: Arc::clone(&outstanding),
                waiting: Arc::clone(&waiting),
                life: Arc::downgrade(&life),
            });
            let (responses, clock) = (response_sender.clone(), clock.clone());
            let links = Links { inbox, address, responses, outstanding, waiting, life, clock };
            let spec = scheduler_spec(configuration, &signature, share.len());
            let executor_count = share.len();
            let shape = SubmitterSpec {
                first_executor,
                batch_steps: Arc::clone(&batch_steps),
                wait: configuration.wait,
                waits_per_item: configuration.fault == Some(PlantedFault::WaitPerItem),
            };
            submitters.push(Submitter::new(spec, share, shape, links));
            first_executor += executor_count;
        }
        let entrance = Arc::new(Entrance {
            submitters: addresses,
            next_sequence: AtomicU64::new(0),
            batch_size: configuration.batch_size,
            queue_capacity: QUEUE_CAPACITY,
            most_outstanding,
            spare_replies: SpareReplies::new(),
            watching: Mutex::new(()),
            executor_count: configuration.streams,
            signature,
            clock,
            is_stopping: AtomicBool::new(false),
        });
        Ok(Self { entrance, responses, submitters, observer })
    }
}

/// The numbers of samples that executions may have, ascending.
pub(crate) fn execution_sizes(engine: &dyn Engine, configuration: &Configuration) -> Vec<usize> {
    let least = *engine.signature().batch_sizes.start();
    if engine.prepares_executions() {
        configuration.batch_steps(least)
    } else {
        (least..=configuration.batch_size).collect()
    }
}

fn scheduler_spec(
    configuration: &Configuration,
    signature: &Signature,
    executor_count: usize,
) -> SchedulerSpec {
    SchedulerSpec {
        executor_count,
        depth: configuration.depth,
        batch_size: configuration.batch_size,
        shares_slots: signature.is_batchable(),
        batching_delay: configuration.batching_delay,
        queue_capacity: QUEUE_CAPACITY,
    }
}

/// Splits the executors among the submitters, as evenly as possible, keeping their order.
fn shares(executors: Vec<Box<dyn Executor>>, submitters: usize) -> Vec<Vec<Box<dyn Executor>>> {
    let total = executors.len();
    let mut rest = executors.into_iter();
    (0..submitters)
        .map(|submitter| {
            let size = total / submitters + usize::from(submitter < total % submitters);
            rest.by_ref().take(size).collect()
        })
        .collect()
}

fn spawn(submitter: Submitter, index: usize) -> Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(format!("thalweg-submitter-{index}"));
    builder.spawn(move || submitter.run()).map_err(Error::io("start", "a submitter thread"))
}
