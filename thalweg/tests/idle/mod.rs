//! A device that does nothing at all, so that what is left is the pool.

use std::collections::VecDeque;
use std::sync::Arc;

use thalweg::backend::{
    Completion, Engine, Executor, ExecutorSpec, HostTensor, Outcome, Rejected, Slot, SlotId, StageTimes,
    Waker,
};
use thalweg::model::{DataType, Signature, TensorSpec};

/// An engine whose executions are over before they begin.
pub struct Nothing {
    signature: Signature,
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
        Self { signature }
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
                Box::new(IdleExecutor { unused, done: VecDeque::new(), waker: None })
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
