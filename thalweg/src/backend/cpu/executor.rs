//! A stream of the `cpu` backend: a thread with its own share of the cores that runs one execution after the
//! other.
//!
//! In: slots with filled inputs, through a channel. Out: completions, through another. Nothing is locked, and
//! `enqueue` only hands over.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender};
use rten::ThreadPool;

use super::engine::{Fault, Network, pool_of};
use super::tensors;
use crate::backend::{
    Completion, Executor, ExecutorSpec, HostTensor, Outcome, Rejected, Slot, SlotId, Span, StageTimes, Waker,
};
use crate::error::{Error, Result};
use crate::model::Signature;
use crate::units::Clock;

/// A stream and its slots.
pub(super) struct CpuExecutor {
    /// Slots that nobody took yet, the first one last.
    slots: Vec<Slot>,
    batch_sizes: RangeInclusive<usize>,
    clock: Clock,
    // The order of these fields matters: dropping both ends of the channels tells the worker to stop after
    // the execution it is in, and dropping `_worker` then waits for that.
    queue: Sender<Job>,
    finished: Receiver<Completion>,
    wakers: Sender<Waker>,
    _worker: JoinOnDrop,
}

/// An execution on its way to the worker.
struct Job {
    slot: Slot,
    enqueue: Span,
}

impl CpuExecutor {
    /// Starts the thread of stream number `stream` and makes its slots.
    pub(super) fn start(
        stream: usize,
        network: &Arc<Network>,
        signature: &Signature,
        spec: &ExecutorSpec,
    ) -> Result<Self> {
        // There are never more executions than slots, so neither channel ever blocks its sender.
        let (queue, jobs) = crossbeam_channel::bounded(spec.depth);
        let (done, finished) = crossbeam_channel::bounded(spec.depth);
        let (wakers, new_wakers) = crossbeam_channel::unbounded();
        let pool = pool_of(spec.threads_per_stream);
        let network = Arc::clone(network);
        let worker = Worker {
            network,
            pool: Arc::clone(&pool),
            clock: spec.clock.clone(),
            done,
            new_wakers,
            waker: None,
            lost: None,
        };
        // Inside the pool, so that an execution starts on the thread that received it: handing it over to
        // another one and back takes some 10 us.
        let run = move || pool.run(|| worker.run(&jobs));
        let thread = thread::Builder::new().name(format!("thalweg-stream-{stream}")).spawn(run);
        let thread = thread.map_err(|error| Error::InvalidSetting {
            name: "streams",
            value: spec.streams.to_string(),
            reason: format!("no thread for stream {stream}: {error}"),
        })?;
        Ok(Self {
            slots: (0..spec.depth).rev().map(|index| slot_of(stream, index, signature, spec)).collect(),
            batch_sizes: *signature.batch_sizes.start()..=spec.batch_size,
            clock: spec.clock.clone(),
            queue,
            finished,
            wakers,
            _worker: JoinOnDrop(Some(thread)),
        })
    }
}

fn slot_of(stream: usize, index: usize, signature: &Signature, spec: &ExecutorSpec) -> Slot {
    let zeroed = |tensor| HostTensor::zeroed(tensor, spec.batch_size);
    Slot {
        id: SlotId { executor: stream, index },
        batch_size: spec.batch_size,
        inputs: signature.inputs.iter().map(zeroed).collect(),
        outputs: signature.outputs.iter().map(zeroed).collect(),
    }
}

impl Executor for CpuExecutor {
    fn take_slot(&mut self) -> Option<Slot> {
        self.slots.pop()
    }

    fn enqueue(&mut self, slot: Slot) -> Result<(), Box<Rejected>> {
        let start = self.clock.now();
        if !self.batch_sizes.contains(&slot.batch_size) {
            let (smallest, largest) = (self.batch_sizes.start(), self.batch_sizes.end());
            let error = Error::InvalidSetting {
                name: "batch",
                value: slot.batch_size.to_string(),
                reason: format!("this executor runs {smallest} to {largest} at once"),
            };
            return Err(Box::new(Rejected { slot, error }));
        }
        // The span ends before the worker can see it; what is left is one step of a channel.
        let enqueue = Span { start, end: self.clock.now() };
        self.queue.try_send(Job { slot, enqueue }).map_err(|refused| {
            let error =
                Error::Bug("an executor was given more slots than it has, or its thread is gone".into());
            Box::new(Rejected { slot: refused.into_inner().slot, error })
        })
    }

    fn poll(&mut self) -> Option<Completion> {
        self.finished.try_recv().ok()
    }

    fn wake_with(&mut self, waker: Waker) {
        // Where the worker is gone there is nobody to be woken by.
        let _ = self.wakers.send(waker);
    }
}

/// Runs executions on its own thread.
struct Worker {
    network: Arc<Network>,
    pool: Arc<ThreadPool>,
    clock: Clock,
    done: Sender<Completion>,
    new_wakers: Receiver<Waker>,
    waker: Option<Waker>,
    /// Why it can run no more.
    lost: Option<String>,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        for mut job in jobs {
            let mut times = StageTimes { enqueue: job.enqueue, ..Default::default() };
            let outcome = self.execute(&mut job.slot, &mut times);
            if self.done.send(Completion { slot: job.slot, outcome, times }).is_err() {
                // The executor was dropped; nobody waits for the rest.
                return;
            }
            // Only now: a waker set before the submitter saw this completion must be called for it.
            self.waker = self.new_wakers.try_iter().last().or_else(|| self.waker.take());
            if let Some(waker) = &self.waker {
                waker.wake();
            }
        }
    }

    fn execute(&mut self, slot: &mut Slot, times: &mut StageTimes) -> Outcome {
        let SlotId { executor: stream, index } = slot.id;
        let error = |reason| Error::Execution { stream, slot: index, reason };
        if let Some(reason) = &self.lost {
            return Outcome::Lost(error(reason.clone()));
        }
        match self.try_execute(slot, times) {
            Ok(()) => Outcome::Done,
            Err(Failure::OfExecution(reason)) => Outcome::Failed(error(reason)),
            Err(Failure::OfExecutor(reason)) => {
                self.lost = Some(reason.clone());
                Outcome::Lost(error(reason))
            }
        }
    }

    fn try_execute(&self, slot: &mut Slot, times: &mut StageTimes) -> Result<(), Failure> {
        let clock = &self.clock;
        times.h2d.start = clock.now();
        let views = slot.inputs.iter().map(|input| tensors::view(input, slot.batch_size));
        let views = views.collect::<Result<Vec<_>, _>>()?;
        times.h2d.end = clock.now();

        times.compute.start = times.h2d.end;
        let results = self.network.run(views, &self.pool);
        times.compute.end = clock.now();

        times.d2h.start = times.compute.end;
        for (result, output) in results?.iter().zip(&mut slot.outputs) {
            tensors::store(result, output)?;
        }
        times.d2h.end = clock.now();
        Ok(())
    }
}

/// What an execution that went wrong takes with it.
enum Failure {
    OfExecution(String),
    OfExecutor(String),
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::OfExecution(reason)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Failed(error) => Self::OfExecution(error.to_string()),
            Fault::Panicked(text) => Self::OfExecutor(format!("rten panicked: {text}")),
        }
    }
}

/// Waits for a thread when dropped.
struct JoinOnDrop(Option<JoinHandle<()>>);

impl Drop for JoinOnDrop {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // A panic of the worker itself was already reported by the panic hook.
            let _ = thread.join();
        }
    }
}
