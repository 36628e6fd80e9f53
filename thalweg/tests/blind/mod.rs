//! An engine whose device tells nothing about itself: as where NVML or the rights to its counters are missing.

use std::sync::Arc;

use thalweg::backend::{Completion, Engine, Executor, ExecutorSpec, Precision, Rejected, Slot, Waker};
use thalweg::error::Result;
use thalweg::model::Signature;
use thalweg::units::Nanos;

pub struct BlindEngine(pub Arc<dyn Engine>);

impl Engine for BlindEngine {
    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn transferred(&self) -> &Signature {
        self.0.transferred()
    }

    fn precision(&self) -> Option<Precision> {
        self.0.precision()
    }

    fn executors(self: Arc<Self>, spec: &ExecutorSpec) -> Result<Vec<Box<dyn Executor>>> {
        let executors = Arc::clone(&self.0).executors(spec)?;
        Ok(executors.into_iter().map(|it| Box::new(BlindExecutor(it)) as Box<dyn Executor>).collect())
    }

    fn is_simulated(&self) -> bool {
        self.0.is_simulated()
    }
}

/// Does everything that the other does, but shows it to no observer.
struct BlindExecutor(Box<dyn Executor>);

impl Executor for BlindExecutor {
    fn take_slot(&mut self) -> Option<Slot> {
        self.0.take_slot()
    }

    fn enqueue(&mut self, slot: Slot) -> Result<(), Box<Rejected>> {
        self.0.enqueue(slot)
    }

    fn poll(&mut self) -> Option<Completion> {
        self.0.poll()
    }

    fn wake_with(&mut self, waker: Waker) {
        self.0.wake_with(waker);
    }

    fn run_until(&mut self, limit: Nanos) -> Nanos {
        self.0.run_until(limit)
    }
}
