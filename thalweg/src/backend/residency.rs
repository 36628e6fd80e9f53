//! Which executions need no copies because an earlier one of the same slot has left its inputs on the device.

use super::{ExecutorSpec, Slot, Transfers};

/// What the slots of one executor have on the device.
pub(super) struct Residency {
    transfers: Transfers,
    /// By index of the slot: the most samples that were copied for an execution that has succeeded.
    sample_counts: Vec<usize>,
}

impl Residency {
    /// Nothing is there yet.
    pub(super) fn new(spec: &ExecutorSpec) -> Self {
        Self { transfers: spec.transfers, sample_counts: vec![0; spec.depth] }
    }

    /// Whether the slot's next execution has to copy.
    pub(super) fn must_copy(&self, slot: &Slot) -> bool {
        self.transfers == Transfers::On || self.sample_counts[slot.id.index] < slot.batch_size
    }

    /// The slot has run.
    pub(super) fn note(&mut self, slot: &Slot) {
        let count = &mut self.sample_counts[slot.id.index];
        *count = slot.batch_size.max(*count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{CudaGraph, SlotId, TimesTaken, Wait};
    use crate::units::Clock;

    fn residency(transfers: Transfers) -> Residency {
        let (wait, cuda_graph, clock) = (Wait::Block, CudaGraph::Off, Clock::start());
        let (streams, depth, batch_size, threads_per_stream) = (1, 2, 4, 1);
        Residency::new(&ExecutorSpec {
            streams,
            depth,
            batch_size,
            batch_steps: vec![batch_size],
            threads_per_stream,
            cuda_graph,
            copy_lanes: None,
            wait,
            transfers,
            stage_times: TimesTaken::Each,
            fault: None,
            clock,
        })
    }

    fn slot(index: usize, batch_size: usize) -> Slot {
        Slot { id: SlotId { executor: 0, index }, batch_size, inputs: Vec::new(), outputs: Vec::new() }
    }

    #[test]
    fn a_slot_copies_until_so_many_samples_were_there_once() {
        let mut residency = residency(Transfers::Off);
        assert!(residency.must_copy(&slot(0, 2)));
        residency.note(&slot(0, 2));
        assert!(!residency.must_copy(&slot(0, 1)) && !residency.must_copy(&slot(0, 2)));
        assert!(residency.must_copy(&slot(0, 4)), "two of its samples never were on the device");
        assert!(residency.must_copy(&slot(1, 1)), "another slot has buffers of its own");
        residency.note(&slot(0, 1));
        assert!(!residency.must_copy(&slot(0, 2)));
    }

    #[test]
    fn with_transfers_each_execution_copies() {
        let mut residency = residency(Transfers::On);
        residency.note(&slot(0, 4));
        assert!(residency.must_copy(&slot(0, 4)));
    }
}
