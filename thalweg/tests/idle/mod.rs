//! A device that computes nothing, so that what is left is the pool.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use thalweg::backend::{
    Completion, Engine, Executor, ExecutorSpec, HostTensor, Outcome, Rejected, Slot, SlotId, Span,
    StageTimes, Waker,
};
use thalweg::model::{DataType, Signature, TensorSpec};
use thalweg::units::{Clock, Nanos};

/// An engine whose executions are over before they begin, or last as long as they are told to.
pub struct Nothing {
    signature: Signature,
    lasting: Option<Duration>,
}

impl Nothing {
    pub fn new() -> Self {
        let tensor = |name: &str| TensorSpec {
            name: name.to_owned(),
            data_type: DataType::F32,
            shape: vec![1],
            is_batched: true,
        };
        let signature =
            Signature { inputs: vec![tensor("x")], outputs: vec![tensor("y")], batch_sizes: 1..=1 };
        Self { signature, lasting: None }
    }

    /// Executions of an executor last so long, one after the other.
    #[allow(dead_code, reason = "not every program that has this module needs it")]
    pub fn lasting(time: Duration) -> Self {
        Self { lasting: Some(time), ..Self::new() }
    }
}

impl Engine for Nothing {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn executors(self: Arc<Self>, spec: &ExecutorSpec) -> thalweg::Result<Vec<Box<dyn Executor>>> {
        let slot = |executor, index| Slot {
            id: SlotId { executor, index },
            batch_size: 0,
            inputs: vec![HostTensor::zeroed(&self.signature.inputs[0], 1)],
            outputs: vec![HostTensor::zeroed(&self.signature.outputs[0], 1)],
        };
        Ok((0..spec.streams)
            .map(|executor| -> Box<dyn Executor> {
                let unused = (0..spec.depth).map(|index| slot(executor, index)).collect();
                match self.lasting {
                    None => Box::new(IdleExecutor { unused, done: VecDeque::new(), waker: None }),
                    Some(time) => Box::new(TimedExecutor::new(unused, time, spec.clock.clone())),
                }
            })
            .collect())
    }
}

struct IdleExecutor {
    unused: Vec<Slot>,
    done: VecDeque<Slot>,
    waker: Option<Waker>,
}

impl Executor for IdleExecutor {
    fn take_slot(&mut self) -> Option<Slot> {
        self.unused.pop()
    }

    fn enqueue(&mut self, slot: Slot) -> Result<(), Box<Rejected>> {
        self.done.push_back(slot);
        if let Some(waker) = &self.waker {
            waker.wake();
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        let slot = self.done.pop_front()?;
        Some(Completion { slot, outcome: Outcome::Done, times: StageTimes::default() })
    }

    fn wake_with(&mut self, waker: Waker) {
        self.waker = Some(waker);
    }
}

/// An executor with a thread that stands for its stream.
struct TimedExecutor {
    unused: Vec<Slot>,
    /// Slots that run, and when each was enqueued.
    stream: Sender<(Instant, Slot)>,
    running: usize,
    shared: Arc<(Mutex<Shared>, Condvar)>,
}

#[derive(Default)]
struct Shared {
    done: VecDeque<(Slot, StageTimes)>,
    waker: Option<Waker>,
    /// Whether the submitter sleeps until it is woken.
    is_expected: bool,
}

impl TimedExecutor {
    fn new(unused: Vec<Slot>, time: Duration, clock: Clock) -> Self {
        let (stream, work) = mpsc::channel();
        let shared = Arc::<(Mutex<Shared>, Condvar)>::default();
        let device = Arc::clone(&shared);
        thread::spawn(move || run_stream(&work, time, &clock, &device));
        Self { unused, stream, running: 0, shared }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run_stream(
    work: &Receiver<(Instant, Slot)>,
    time: Duration,
    clock: &Clock,
    (shared, has_finished): &(Mutex<Shared>, Condvar),
) {
    let mut free = Instant::now();
    while let Ok((enqueued, slot)) = work.recv() {
        let start = free.max(enqueued);
        free = start + time;
        thread::sleep(free.saturating_duration_since(Instant::now()));
        let end = clock.now() - Nanos::from_duration(free.elapsed());
        let compute = Span { start: end - Nanos::from_duration(time), end };
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.done.push_back((slot, StageTimes { compute, ..StageTimes::default() }));
        has_finished.notify_one();
        if std::mem::take(&mut shared.is_expected) {
            shared.waker.iter().for_each(Waker::wake);
        }
    }
}

impl Executor for TimedExecutor {
    fn take_slot(&mut self) -> Option<Slot> {
        self.unused.pop()
    }

    fn enqueue(&mut self, slot: Slot) -> Result<(), Box<Rejected>> {
        self.stream.send((Instant::now(), slot)).expect("the stream lives as long as its executor");
        self.running += 1;
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        let (slot, times) = self.shared().done.pop_front()?;
        self.running -= 1;
        Some(Completion { slot, outcome: Outcome::Done, times })
    }

    fn wait(&mut self) -> bool {
        let has_finished = &self.shared.1;
        drop(has_finished.wait_while(self.shared(), |shared| self.running > 0 && shared.done.is_empty()));
        self.running > 0
    }

    fn expect_sleep(&mut self) {
        let mut shared = self.shared();
        shared.is_expected = shared.done.is_empty();
        if let (false, Some(waker)) = (shared.is_expected, &shared.waker) {
            waker.wake();
        }
    }

    fn wake_with(&mut self, waker: Waker) {
        self.shared().waker = Some(waker);
    }
}
