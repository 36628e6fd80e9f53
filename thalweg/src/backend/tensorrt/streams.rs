//! The CUDA streams of all executors on a GPU.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thalweg_nvidia::cuda::{CudaContext, Stream, StreamPriority};
use thalweg_nvidia::execution::LaneStreams;

use crate::backend::{CudaGraph, ExecutorSpec};
use crate::error::Result;

/// All streams that were made, the oldest first. One that nobody has is used again before another is made: CUDA runs a
/// graph 3.5 % faster on some streams than on others, the first of a process among them (docs/benchmarks.md). The lock is
/// taken by whoever starts a pool.
#[derive(Default)]
pub(super) struct Streams(Mutex<Made>);

#[derive(Default)]
struct Made {
    compute: Vec<Arc<Stream>>,
    copies: Vec<Arc<Stream>>,
}

/// Two streams for copies: to the device and back.
#[derive(Clone)]
struct CopyLane {
    h2d: Arc<Stream>,
    d2h: Arc<Stream>,
}

/// The copy lanes that the executors of one pool share; none where each has its own. That a stream is in use shows only
/// once somebody has it, so shared ones are listed here before the first executor is made.
pub(super) struct SharedLanes(Vec<CopyLane>);

impl SharedLanes {
    /// That of one executor: they take them in turn.
    fn of(&self, executor: usize) -> Option<CopyLane> {
        let count = self.0.len();
        (count > 0).then(|| self.0[executor % count].clone())
    }
}

impl Streams {
    /// The copy lanes of a pool that are shared.
    ///
    /// # Errors
    /// Where the driver has no more streams.
    pub fn shared_lanes(&self, context: &Arc<CudaContext>, spec: &ExecutorSpec) -> Result<SharedLanes> {
        let mut made = self.made();
        let count = spec.copy_lanes.unwrap_or(0).min(spec.streams);
        let mut lanes = Vec::with_capacity(count);
        for _ in 0..count {
            lanes.push(made.copy_lane(context)?);
        }
        Ok(SharedLanes(lanes))
    }

    /// The streams of one executor: copies on shared streams or on its own, unless a graph has them in its order.
    ///
    /// # Errors
    /// Where the driver has no more of them.
    pub fn take(
        &self,
        context: &Arc<CudaContext>,
        graph: CudaGraph,
        executor: usize,
        shared: &SharedLanes,
    ) -> Result<LaneStreams> {
        let mut made = self.made();
        let compute = unused(&mut made.compute, context)?;
        if graph == CudaGraph::Copies {
            return Ok(LaneStreams::single(&compute));
        }
        let CopyLane { h2d, d2h } = match shared.of(executor) {
            Some(lane) => lane,
            None => made.copy_lane(context)?,
        };
        Ok(LaneStreams { h2d, compute, d2h })
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Made {
    fn copy_lane(&mut self, context: &Arc<CudaContext>) -> Result<CopyLane> {
        let h2d = unused(&mut self.copies, context)?;
        Ok(CopyLane { h2d, d2h: unused(&mut self.copies, context)? })
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
