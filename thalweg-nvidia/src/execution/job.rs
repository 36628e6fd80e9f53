//! One way to run the compute stage in a lane.

use std::sync::Arc;

use crate::cuda::{Graph, PinnedBuffer};
use crate::error::{Error, Result};
use crate::execution::{Compute, HostBuffers};

/// What a lane runs: a compute stage at one batch size.
#[derive(Clone, Debug)]
pub struct Job {
    /// What runs between the copies. For a graph, one of its own: NVIDIA asks for one execution context per graph.
    pub compute: Arc<Compute>,
    /// How many samples it runs.
    pub batch_size: usize,
    /// How many bytes of each input are copied, from its start; 0 to leave the input on the device as it is.
    pub input_byte_counts: Vec<usize>,
    /// How many bytes of each output are copied, from its start; 0 to leave the output on the device.
    pub output_byte_counts: Vec<usize>,
    /// What of it is launched as one CUDA graph.
    pub graph: GraphScope,
}

/// What of a job is captured as a CUDA graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GraphScope {
    /// Nothing: every operation is enqueued by itself.
    #[default]
    Off,
    /// The compute stage. Copies may overlap with the computations of other lanes on the same compute stream.
    Compute,
    /// Copies and compute stage, all on the compute stream: one call per execution, and copies overlap only with
    /// other streams. It runs with the host buffers that it was prepared with.
    Copies,
}

/// A job that was prepared in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobId(pub(super) usize);

/// A job with its graph.
pub(super) struct PreparedJob {
    pub(super) job: Job,
    pub(super) graph: Option<Graph>,
    /// Where the host buffers of a graph with copies are: inputs, then outputs.
    pub(super) host_addresses: Option<(Vec<usize>, Vec<usize>)>,
}

impl Job {
    /// Whether the buffers are as many as the job's, and large enough.
    pub(super) fn check(&self, host: &HostBuffers) -> Result<()> {
        check_sizes("input", &self.input_byte_counts, &host.inputs, PinnedBuffer::byte_count)?;
        check_sizes("output", &self.output_byte_counts, &host.outputs, PinnedBuffer::byte_count)
    }
}

impl PreparedJob {
    /// Whether a launch may use these buffers.
    pub(super) fn check(&self, host: &HostBuffers) -> Result<()> {
        self.job.check(host)?;
        let Some((inputs, outputs)) = &self.host_addresses else { return Ok(()) };
        check_addresses("input", inputs, &host.inputs)?;
        check_addresses("output", outputs, &host.outputs)
    }
}

/// Each launch asks, so nothing here allocates.
pub(super) fn check_sizes<B>(
    what: &'static str,
    needed: &[usize],
    buffers: &[B],
    size: impl Fn(&B) -> usize,
) -> Result<()> {
    if needed.len() != buffers.len() {
        return Err(Error::WrongCount { what, expected: needed.len(), got: buffers.len() });
    }
    let mut pairs = needed.iter().copied().zip(buffers.iter().map(size)).enumerate();
    match pairs.find(|(_, (needed, there))| needed > there) {
        Some((index, (expected, got))) => Err(Error::WrongSize { what, index, expected, got }),
        None => Ok(()),
    }
}

/// The same address and, as `check_sizes` has seen, enough bytes: whichever buffer it is, the graph may use it.
fn check_addresses(what: &'static str, captured: &[usize], buffers: &[PinnedBuffer]) -> Result<()> {
    let moved = captured.iter().zip(addresses(buffers)).position(|(captured, now)| *captured != now);
    moved.map_or(Ok(()), |index| Err(Error::OtherBuffer { what, index }))
}

pub(super) fn addresses(buffers: &[PinnedBuffer]) -> impl Iterator<Item = usize> {
    buffers.iter().map(|buffer| buffer.as_ptr().addr())
}
