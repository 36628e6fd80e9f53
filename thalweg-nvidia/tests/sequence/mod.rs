//! A hunt for buffers that are used too early: each input carries a number, which must come out in its own output.
//!
//! Four streams with two slots each run at once, and everything takes random times: the computation on the device,
//! the host between the copies, and whoever asks for the end. The stand-in for the driver runs the same hunt as a GPU.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use thalweg_nvidia::cuda::{
    CudaContext, DeviceBuffer, EventClock, EventWait, PinnedMemory, Stream, StreamPriority,
};
use thalweg_nvidia::execution::{Compute, GraphScope, HostBuffers, Job, JobId, Lane, LaneSpec, LaneStreams};

const STREAMS: u64 = 4;
const SLOTS: usize = 2;

/// Large enough that a copy over the bus takes some microseconds.
const BYTE_COUNT: usize = 256 * 1024;

/// A computation copies its ballast fewer times than this.
const MOST_BALLAST: u64 = 8;

/// Longest sleep of the host between two calls, in microseconds.
const LONGEST_SLEEP: u64 = 60;

/// A bug in the lanes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    None,
    /// Buffers come back before the device is done with them.
    EarlyReturn,
}

/// What is run.
#[derive(Clone, Copy)]
pub struct Hunt {
    pub graph: GraphScope,
    pub executions: usize,
    /// Bytes that a computation copies besides, several times.
    pub ballast_byte_count: usize,
    pub bug: Bug,
}

/// Runs the executions and counts the outputs that are not those of their input.
pub fn wrong_outputs(context: &Arc<CudaContext>, hunt: Hunt) -> usize {
    let clock = EventClock::new(context).unwrap();
    let mut dice = Dice(1);
    let mut slots: Vec<_> = (0..STREAMS).flat_map(|stream| executor(context, hunt, stream)).collect();
    if hunt.bug == Bug::EarlyReturn {
        // SAFETY: all slots live until the context has finished, below.
        slots.iter_mut().for_each(|slot| unsafe { slot.lane.plant_early_return() });
    }
    let (mut sequence, mut ended, mut wrong) = (0, 0, 0);
    while ended < hunt.executions {
        for slot in &mut slots {
            if dice.below(4) == 0 {
                continue;
            }
            if let Some(host) = slot.host.take() {
                sequence += 1;
                slot.launch(sequence, host);
                // At times whoever asks for the end is quick.
                if dice.below(2) == 0 {
                    continue;
                }
            }
            if let Some(finished) = slot.lane.poll(&clock) {
                ended += 1;
                wrong += usize::from(!holds(&finished.host.outputs[0], slot.sequence));
                slot.host = Some(finished.host);
            }
        }
    }
    context.synchronize().unwrap();
    wrong
}

struct Slot {
    lane: Lane,
    job: JobId,
    /// `None` while it runs.
    host: Option<HostBuffers>,
    sequence: u64,
}

impl Slot {
    fn launch(&mut self, sequence: u64, mut host: HostBuffers) {
        fill(&mut host.inputs[0], sequence);
        fill(&mut host.outputs[0], !sequence);
        self.sequence = sequence;
        self.lane.launch(self.job, host).unwrap();
    }
}

/// The slots of one executor, on streams of its own.
fn executor(context: &Arc<CudaContext>, hunt: Hunt, seed: u64) -> Vec<Slot> {
    let Hunt { graph, ballast_byte_count, .. } = hunt;
    let stream = || Arc::new(Stream::new(context, StreamPriority::Normal).unwrap());
    let streams = match graph {
        GraphScope::Copies => LaneStreams::single(&stream()),
        GraphScope::Off | GraphScope::Compute => {
            LaneStreams { h2d: stream(), compute: stream(), d2h: stream() }
        }
    };
    let slot = |index: usize| {
        let mut dice = Dice(seed * 16 + index as u64 + 2);
        let count = move || {
            thread::sleep(Duration::from_micros(dice.below(LONGEST_SLEEP)));
            usize::try_from(dice.below(MOST_BALLAST)).unwrap()
        };
        let ballast = [(); 2].map(|()| DeviceBuffer::new(context, ballast_byte_count).unwrap());
        let compute = Compute::late_copies(Arc::clone(&streams.compute), ballast, count);
        let spec = LaneSpec {
            streams: streams.clone(),
            input_byte_counts: vec![BYTE_COUNT],
            output_byte_counts: vec![BYTE_COUNT],
            wait: EventWait::AsContext,
        };
        let mut lane = Lane::new(&spec).unwrap();
        let mut host = lane.host_buffers(PinnedMemory::Cached).unwrap();
        let (input_byte_counts, output_byte_counts) = (vec![BYTE_COUNT], vec![BYTE_COUNT]);
        let job = Job { compute, batch_size: 1, input_byte_counts, output_byte_counts, graph };
        let job = lane.prepare(job, &mut host).unwrap();
        Slot { lane, job, host: Some(host), sequence: 0 }
    };
    (0..SLOTS).map(slot).collect()
}

fn fill(buffer: &mut [u8], sequence: u64) {
    buffer.as_chunks_mut::<8>().0.fill(sequence.to_ne_bytes());
}

fn holds(buffer: &[u8], sequence: u64) -> bool {
    buffer.as_chunks::<8>().0.iter().all(|word| *word == sequence.to_ne_bytes())
}

/// A linear congruential generator (Knuth, MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
