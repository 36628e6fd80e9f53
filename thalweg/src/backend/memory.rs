//! Device memory that executors of an engine take, known before it is taken.

use serde::{Deserialize, Serialize};

/// Device memory of a loaded engine and of each of its executors. Contexts and graphs take some more, which no builder
/// tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineMemory {
    /// The weights, which all executors share, in bytes.
    pub weights_bytes: u64,
    /// What one executor computes in, in bytes.
    pub activation_bytes: u64,
    /// What one execution context keeps besides, in bytes.
    pub context_bytes: u64,
    /// Execution contexts of each executor: one for each size of executions, and with CUDA graphs as many for each slot.
    pub context_count: usize,
    /// Inputs and outputs of one slot, in bytes.
    pub slot_bytes: u64,
    /// Slots of each executor.
    pub depth: usize,
    /// Samples that a slot has room for.
    pub batch_size: usize,
    /// What is free besides the weights, in bytes.
    pub free_bytes: u64,
}

impl EngineMemory {
    /// Bytes of each executor: its activations, its contexts and its slots.
    pub fn executor_bytes(&self) -> u64 {
        let contexts = self.context_bytes * self.context_count as u64;
        self.activation_bytes + contexts + self.slot_bytes * self.depth as u64
    }

    /// Bytes of the engine with so many executors.
    pub fn total_bytes(&self, executor_count: usize) -> u64 {
        self.weights_bytes + self.executor_bytes() * executor_count as u64
    }

    /// The most executors that fit into what is free.
    pub fn largest_executor_count(&self) -> u64 {
        self.free_bytes / self.executor_bytes().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executors_share_weights_and_have_all_else_of_their_own() {
        let memory = EngineMemory {
            weights_bytes: 1000,
            activation_bytes: 62,
            context_bytes: 2,
            context_count: 4,
            slot_bytes: 10,
            depth: 3,
            batch_size: 8,
            free_bytes: 350,
        };
        assert_eq!(memory.executor_bytes(), 100);
        assert_eq!(memory.total_bytes(4), 1400);
        assert_eq!(memory.largest_executor_count(), 3);
    }
}
