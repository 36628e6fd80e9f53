//! CUDA's work queues. The device takes work from a number of them that the driver reads from an environment variable when
//! the process makes its context; streams beyond that number share queues and wait for each other, though nothing in them
//! does. A library without `unsafe` cannot set the variable: who starts the process does.

/// What the driver reads (CUDA C++ Programming Guide, "CUDA Environment Variables").
pub const VARIABLE: &str = "CUDA_DEVICE_MAX_CONNECTIONS";

/// How many queues there are where nobody says anything (the same table).
pub const DEFAULT: usize = 8;

/// The most that there can be (the same table).
pub const MOST: usize = 32;

/// CUDA streams for copies that a stream, or a copy lane that streams share, has: to the device and back.
const COPY_STREAMS: usize = 2;

/// Queues that executors can use at once: one for the kernels of each, one for each of its `aux_streams`, and two for each
/// of the `copy_lanes`, of which each executor has one where they are `None`. Copies in a graph take queues too, though
/// no stream of ours: ResNet-50 at batch 1 on eight streams (H200) has 5,070 executions a second with eight queues and
/// 9,100 with 32. Where the build was not told the auxiliary streams TensorRT decides, and they are not counted.
pub fn needed(streams: usize, copy_lanes: Option<usize>, aux_streams: usize) -> usize {
    let lanes = copy_lanes.unwrap_or(streams).min(streams);
    let computing = streams.saturating_mul(1 + aux_streams);
    computing.saturating_add(lanes.saturating_mul(COPY_STREAMS))
}
