//! The CUDA streams of all executors on a GPU.

use std::sync::{Arc, Mutex, PoisonError};

use thalweg_nvidia::cuda::{CudaContext, Stream, StreamPriority};
use thalweg_nvidia::execution::LaneStreams;

use crate::backend::CudaGraph;
use crate::error::Result;

/// Executors whose streams are made before the first of them runs anything: as many as `tune` tries. CUDA runs a graph
/// faster on the streams that ran first in a process than on streams that were made later: 553 instead of 570 us for
/// ResNet-50 in FP16 at batch 1 on an H200, whatever else is changed (docs/benchmarks.md). That making them early is enough
/// is assumed.
const EARLY: usize = 8;

/// All streams that were made, the oldest first. One that nobody has is used again before another is made. The lock is
/// taken by whoever starts a pool.
#[derive(Default)]
pub(super) struct Streams(Mutex<Made>);

#[derive(Default)]
struct Made {
    compute: Vec<Arc<Stream>>,
    copies: Vec<Arc<Stream>>,
}

impl Streams {
    /// The streams of one executor: copies on streams of their own, unless a graph has them in its order.
    ///
    /// # Errors
    /// Where the driver has no more of them.
    pub fn take(&self, context: &Arc<CudaContext>, graph: CudaGraph) -> Result<LaneStreams> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.compute.is_empty() {
            for _ in 0..EARLY {
                made.compute.push(new(context)?);
                made.copies.extend([new(context)?, new(context)?]);
            }
        }
        let compute = unused(&mut made.compute, context)?;
        match graph {
            CudaGraph::Copies => Ok(LaneStreams::single(&compute)),
            CudaGraph::Off | CudaGraph::Compute => {
                let h2d = unused(&mut made.copies, context)?;
                Ok(LaneStreams { h2d, compute, d2h: unused(&mut made.copies, context)? })
            }
        }
    }
}

/// The oldest stream that nobody has, or a new one.
fn unused(streams: &mut Vec<Arc<Stream>>, context: &Arc<CudaContext>) -> Result<Arc<Stream>> {
    if let Some(unused) = streams.iter().find(|stream| Arc::strong_count(stream) == 1) {
        return Ok(Arc::clone(unused));
    }
    streams.push(new(context)?);
    Ok(Arc::clone(&streams[streams.len() - 1]))
}

fn new(context: &Arc<CudaContext>) -> Result<Arc<Stream>> {
    Ok(Arc::new(Stream::new(context, StreamPriority::default())?))
}
