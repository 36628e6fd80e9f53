//! Prepared jobs, launched over and over with nothing around them: what any way to drive the device can at most reach.

use std::mem;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::execution::{HostBuffers, JobId, Lane, StageMarks};

/// How a replay waits for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayWait {
    /// It sleeps until the oldest execution has ended.
    Sleep,
    /// It asks for one execution after the other, again and again.
    Ask,
}

/// Lanes with a job each. One thread launches them, and each again as soon as it has ended: the graph, or the compute
/// stage where there is none, and one mark behind it. Nobody fills inputs or reads outputs, nobody takes times unless that
/// is asked for, and there are no copies but those inside of a graph.
pub struct Replay {
    looped: Vec<Looped>,
}

struct Looped {
    lane: Lane,
    job: JobId,
    host: HostBuffers,
}

impl Replay {
    /// Of these lanes, in the order in which they are launched, each with the host buffers that its job was prepared with.
    ///
    /// # Errors
    /// As [`Lane::launch`], where one of them could not be launched.
    pub fn new(lanes: impl IntoIterator<Item = (Lane, JobId, HostBuffers)>) -> Result<Self> {
        let looped = |(lane, job, host): (Lane, JobId, HostBuffers)| {
            lane.check_replay(job, &host)?;
            Ok(Looped { lane, job, host })
        };
        Ok(Self { looped: lanes.into_iter().map(looped).collect::<Result<_>>()? })
    }

    /// Launches for so long, waits for what runs then, and gives the number of executions.
    ///
    /// # Errors
    /// What CUDA or a compute stage says; nothing runs then.
    pub fn run(&mut self, time: Duration, wait: ReplayWait, marks: StageMarks) -> Result<u64> {
        let end = Instant::now() + time;
        let launched = self.launch_until(end, wait, marks);
        self.settle().and(launched)
    }

    fn launch_until(&mut self, end: Instant, wait: ReplayWait, marks: StageMarks) -> Result<u64> {
        self.looped.iter_mut().try_for_each(|looped| looped.launch(marks))?;
        let mut count = self.looped.len() as u64;
        while Instant::now() < end {
            for looped in &mut self.looped {
                let event = looped.lane.finish_event();
                match wait {
                    ReplayWait::Sleep => event.wait()?,
                    ReplayWait::Ask if event.is_complete()? => {}
                    ReplayWait::Ask => continue,
                }
                if marks == StageMarks::All {
                    looped.lane.read_marks(looped.job)?;
                }
                looped.launch(marks)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Waits for everything that was launched, and gives the first error.
    fn settle(&self) -> Result<()> {
        let waits: Vec<Result<()>> = self.looped.iter().map(|looped| looped.lane.synchronize()).collect();
        waits.into_iter().collect()
    }
}

impl Looped {
    fn launch(&mut self, marks: StageMarks) -> Result<()> {
        // SAFETY: lane and host buffers are here until `Replay` is dropped, which waits; nobody else reaches them.
        unsafe { self.lane.launch_bare(self.job, marks) }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if self.settle().is_err() {
            // Nothing proves that the device is done, and it might write to outputs.
            self.looped.drain(..).for_each(|looped| mem::forget(looped.host));
        }
    }
}
