//! Which candidates have room in the device's memory, known before they are measured.

use super::{Instruments, Limits};
use crate::backend::EngineMemory;
use crate::error::Result;
use crate::pool::Configuration;
use crate::units::Bytes;

/// Why a configuration does not fit into the memory of a device that has its own; `None` where it fits, or where the
/// device has none.
///
/// # Errors
/// What the device says where it does not tell its memory.
pub(super) fn lack_of_room(
    instruments: &Instruments<'_>,
    configuration: &Configuration,
    limits: &Limits,
) -> Result<Option<String>> {
    let memory = (instruments.memory)(configuration)?;
    Ok(memory.and_then(|memory| lack(&memory, configuration.streams, limits)))
}

fn lack(memory: &EngineMemory, streams: usize, limits: &Limits) -> Option<String> {
    let needed = memory.total_bytes(streams);
    // The weights are on the device already.
    let free = memory.weights_bytes + memory.free_bytes;
    let told =
        |room: u64, is: &str| format!("it needs {} of device memory, {} {is}", Bytes(needed), Bytes(room));
    match limits.memory_bytes {
        Some(limit) if needed > limit => Some(told(limit, "are allowed")),
        _ => (needed > free).then(|| told(free, "are there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_the_limit_and_what_is_free_are_told_with_what_is_needed() {
        let memory = EngineMemory {
            weights_bytes: 1_000_000_000,
            activation_bytes: 900_000_000,
            context_bytes: 0,
            context_count: 1,
            slot_bytes: 50_000_000,
            depth: 2,
            batch_size: 8,
            free_bytes: 3_500_000_000,
        };
        let told = |streams, memory_bytes| lack(&memory, streams, &Limits { p99: None, memory_bytes });
        assert_eq!(told(3, None), None);
        let lacking = told(4, None).unwrap();
        assert_eq!(lacking, "it needs 5.00 GB of device memory, 4.50 GB are there");
        assert_eq!(told(2, Some(3_000_000_000)), None);
        let allowed = told(3, Some(3_000_000_000)).unwrap();
        assert_eq!(allowed, "it needs 4.00 GB of device memory, 3.00 GB are allowed");
    }
}
