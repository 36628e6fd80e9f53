//! A device for tests: a thread per stream that doubles its input, and does what its script says.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thalweg::backend::{
    ClockReading, Completion, Counters, CudaGraph, DeviceSpec, Engine, Executor, ExecutorSpec, HostTensor,
    Observer, Outcome, Rejected, Slot, SlotId, Span, StageTimes, Waker,
};
use thalweg::measure::{Feeding, Reference, SampleSet, Workload};
use thalweg::model::{DataType, ModelIdentity, Signature, TensorSpec};
use thalweg::units::{Clock, Nanos};
use thalweg::{Error, Room};

/// A sample with this value makes its execution fail.
pub const FAIL: f32 = -1.0;
/// A sample with this value breaks its executor for good.
pub const BREAK: f32 = -2.0;

/// Values of one sample.
pub const WIDTH: usize = 3;

/// A workload of this engine with eight random samples, on a made-up device.
pub fn workload(engine: Arc<dyn Engine>) -> Workload {
    let inputs = SampleSet::random(engine.signature(), 8, 1);
    let reference = Reference::compute(&engine, &inputs).expect("one stream gives a reference");
    let device = DeviceSpec {
        backend: "test".to_owned(),
        name: "doubler".to_owned(),
        core_count: 2,
        memory_bytes: None,
        versions: BTreeMap::new(),
    };
    let model = ModelIdentity { path: "none".into(), sha256: "0".to_owned(), input_shapes: BTreeMap::new() };
    Workload { model, engine, source: None, device, inputs, seed: 0, feeding: Feeding::default(), reference }
}

/// An engine whose output is twice its input.
pub struct Doubler {
    signature: Signature,
    /// How long an execution takes, by stream; the last entry holds for all further streams.
    delays: Vec<Duration>,
    /// How long a call takes that starts one.
    call_time: Duration,
    /// Executions after which every stream breaks.
    lifetime: Option<usize>,
    /// Pools that it makes before the device fails for good.
    sound_pools: usize,
    pools: AtomicUsize,
    /// A stream that gives wrong outputs.
    wrong_stream: Option<usize>,
    /// A pool, counted from 0, all streams of which give wrong outputs.
    wrong_pool: Option<usize>,
    /// The relative error of batches of more than one sample, as if other kernels rounded them otherwise.
    batch_error: f32,
    /// The most streams that it makes.
    room: usize,
    /// A stream that does otherwise than asked, and what it says of that.
    remark: Option<(usize, String)>,
    /// What every stream says where a CUDA graph is asked for, and runs without one.
    refusal: Option<String>,
    /// Whether a slot that is not full runs as an execution that was prepared.
    prepares_executions: bool,
    /// What its streams' counters are like; `None` where they have none.
    counters: Option<TestCounters>,
    executions: Arc<AtomicUsize>,
    last: Arc<Mutex<Option<Instant>>>,
}

impl Doubler {
    pub fn new(max_batch_size: usize) -> Self {
        Self::of_size(max_batch_size, WIDTH)
    }

    /// With so many numbers a sample.
    pub fn of_size(max_batch_size: usize, width: usize) -> Self {
        let tensor = |name: &str| TensorSpec {
            name: name.to_owned(),
            data_type: DataType::F32,
            shape: vec![width],
            is_batched: true,
        };
        let signature = Signature {
            inputs: vec![tensor("x")],
            outputs: vec![tensor("y")],
            batch_sizes: 1..=max_batch_size,
        };
        Self {
            signature,
            delays: vec![Duration::ZERO],
            call_time: Duration::ZERO,
            lifetime: None,
            sound_pools: usize::MAX,
            pools: AtomicUsize::new(0),
            wrong_stream: None,
            wrong_pool: None,
            batch_error: 0.0,
            room: usize::MAX,
            remark: None,
            refusal: None,
            prepares_executions: false,
            counters: None,
            executions: Arc::default(),
            last: Arc::default(),
        }
    }

    /// Runs its largest batch and no other.
    pub fn of_whole_batches(mut self) -> Self {
        let most = *self.signature.batch_sizes.end();
        self.signature.batch_sizes = most..=most;
        self
    }

    /// Runs no fewer samples than these.
    pub fn with_smallest_batch(mut self, smallest: usize) -> Self {
        self.signature.batch_sizes = smallest..=*self.signature.batch_sizes.end();
        self
    }

    /// Runs a slot that is not full as an execution that was prepared.
    pub fn preparing_executions(self) -> Self {
        Self { prepares_executions: true, ..self }
    }

    /// Keeps when the last execution of any of its streams ended.
    pub fn noting(self, last: &Arc<Mutex<Option<Instant>>>) -> Self {
        Self { last: Arc::clone(last), ..self }
    }

    /// Counts the executions of all its streams here.
    pub fn counted(self, executions: &Arc<AtomicUsize>) -> Self {
        Self { executions: Arc::clone(executions), ..self }
    }

    pub fn with_delays(self, delays: &[Duration]) -> Self {
        Self { delays: delays.to_vec(), ..self }
    }

    /// Calls that start an execution take so long.
    pub fn with_calls_of(self, call_time: Duration) -> Self {
        Self { call_time, ..self }
    }

    pub fn breaking_after(self, executions: usize) -> Self {
        Self { lifetime: Some(executions), ..self }
    }

    /// Fails for good once it has made so many pools.
    pub fn failing_after_pools(self, count: usize) -> Self {
        Self { sound_pools: count, ..self }
    }

    pub fn with_room_for(self, streams: usize) -> Self {
        Self { room: streams, ..self }
    }

    pub fn with_remark(self, stream: usize, remark: &str) -> Self {
        Self { remark: Some((stream, remark.to_owned())), ..self }
    }

    pub fn refusing_graphs(self, remark: &str) -> Self {
        Self { refusal: Some(remark.to_owned()), ..self }
    }

    /// Has counters.
    pub fn with_counters(self, counters: TestCounters) -> Self {
        Self { counters: Some(counters), ..self }
    }

    pub fn rounding_batches(self, relative_error: f32) -> Self {
        Self { batch_error: relative_error, ..self }
    }

    pub fn wrong_in_pool(self, pool: usize) -> Self {
        Self { wrong_pool: Some(pool), ..self }
    }

    pub fn wrong_on_stream(self, stream: usize) -> Self {
        Self { wrong_stream: Some(stream), ..self }
    }
}

impl Engine for Doubler {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn prepares_executions(&self) -> bool {
        self.prepares_executions
    }

    fn executors(self: Arc<Self>, spec: &ExecutorSpec) -> Result<Vec<Box<dyn Executor>>, Error> {
        if spec.streams > self.room {
            let reason = "each takes all there is".to_owned();
            return Err(Error::DoesNotFit {
                streams: spec.streams,
                fits: self.room,
                room: Room::Memory,
                reason,
            });
        }
        let pool = self.pools.fetch_add(1, Ordering::Relaxed);
        let is_sound = pool < self.sound_pools;
        let executor = |stream: usize| -> Box<dyn Executor> {
            let script = Script {
                delay: self.delays[stream.min(self.delays.len() - 1)],
                lifetime: self.lifetime.unwrap_or(if is_sound { usize::MAX } else { 0 }),
                has_device: is_sound,
                is_wrong: self.wrong_stream == Some(stream) || self.wrong_pool == Some(pool),
                batch_error: self.batch_error,
                executions: Arc::clone(&self.executions),
                last: Arc::clone(&self.last),
            };
            let remark = self.remark.clone().filter(|(of, _)| *of == stream).map(|(_, remark)| remark);
            let refusal = self.refusal.clone().filter(|_| spec.cuda_graph != CudaGraph::Off);
            let mut executor = DoublingExecutor::new(stream, &self.signature, spec, script);
            executor.remark = remark.or(refusal);
            executor.counters = self.counters.clone();
            executor.call_time = self.call_time;
            Box::new(executor)
        };
        Ok((0..spec.streams).map(executor).collect())
    }
}

/// What one stream does.
#[derive(Clone)]
struct Script {
    delay: Duration,
    lifetime: usize,
    has_device: bool,
    is_wrong: bool,
    batch_error: f32,
    executions: Arc<AtomicUsize>,
    last: Arc<Mutex<Option<Instant>>>,
}

struct DoublingExecutor {
    unused: Vec<Slot>,
    work: Option<Sender<Slot>>,
    done: Receiver<Completion>,
    /// One that was waited for.
    awaited: Option<Completion>,
    running: usize,
    waker: Sender<Waker>,
    thread: Option<JoinHandle<()>>,
    remark: Option<String>,
    counters: Option<TestCounters>,
    call_time: Duration,
}

impl DoublingExecutor {
    fn new(stream: usize, signature: &Signature, spec: &ExecutorSpec, script: Script) -> Self {
        let buffers = |tensors: &[TensorSpec]| -> Vec<_> {
            tensors.iter().map(|tensor| HostTensor::zeroed(tensor, spec.batch_size)).collect()
        };
        let slot = |index| Slot {
            id: SlotId { executor: stream, index },
            batch_size: 0,
            inputs: buffers(&signature.inputs),
            outputs: buffers(&signature.outputs),
        };
        let (work, inbox) = channel();
        let (finished, done) = channel();
        let (waker, wakers) = channel();
        let clock = spec.clock.clone();
        let thread = std::thread::spawn(move || execute_all(&inbox, &finished, &wakers, &clock, &script));
        Self {
            unused: (0..spec.depth).map(slot).collect(),
            work: Some(work),
            done,
            awaited: None,
            running: 0,
            waker,
            thread: Some(thread),
            remark: None,
            counters: None,
            call_time: Duration::ZERO,
        }
    }
}

fn execute_all(
    inbox: &Receiver<Slot>,
    finished: &Sender<Completion>,
    wakers: &Receiver<Waker>,
    clock: &Clock,
    script: &Script,
) {
    let mut waker = None;
    let mut is_broken = false;
    for (execution, mut slot) in inbox.iter().enumerate() {
        let start = clock.now();
        std::thread::sleep(script.delay);
        script.executions.fetch_add(1, Ordering::Relaxed);
        *script.last.lock().expect("nobody panics with it") = Some(Instant::now());
        is_broken |= execution >= script.lifetime;
        let outcome = match is_broken {
            true if !script.has_device => device_lost(),
            true => lost(),
            false => double(&mut slot, script.batch_error),
        };
        if script.is_wrong {
            slot.outputs[0].elements_mut::<f32>()[1] += 1.0;
        }
        is_broken |= matches!(outcome, Outcome::Lost(_));
        let times = StageTimes { compute: Span { start, end: clock.now() }, ..StageTimes::default() };
        if finished.send(Completion { slot, outcome, times }).is_ok() {
            // A submitter that spins sets none.
            waker = wakers.try_iter().last().or(waker);
            waker.iter().for_each(Waker::wake);
        }
    }
}

fn device_lost() -> Outcome {
    Outcome::Lost(Error::DeviceLost { stream: 0, slot: 0, reason: "the bus is silent".to_owned() })
}

fn lost() -> Outcome {
    Outcome::Lost(Error::Execution { stream: 0, slot: 0, reason: "the stream broke".to_owned() })
}

fn double(slot: &mut Slot, batch_error: f32) -> Outcome {
    let factor = if slot.batch_size > 1 { 2.0 * (1.0 + batch_error) } else { 2.0 };
    let samples = 0..slot.batch_size;
    let input: &[f32] = bytemuck::cast_slice(slot.inputs[0].samples(samples.clone()));
    if input.contains(&BREAK) {
        return lost();
    }
    if input.contains(&FAIL) {
        let (stream, index) = (slot.id.executor, slot.id.index);
        let reason = "this sample cannot be doubled".to_owned();
        return Outcome::Failed(Error::Execution { stream, slot: index, reason });
    }
    let output: &mut [f32] = bytemuck::cast_slice_mut(slot.outputs[0].samples_mut(samples));
    for (to, from) in output.iter_mut().zip(input) {
        *to = factor * from;
    }
    Outcome::Done
}

impl Executor for DoublingExecutor {
    fn take_slot(&mut self) -> Option<Slot> {
        (!self.unused.is_empty()).then(|| self.unused.remove(0))
    }

    fn enqueue(&mut self, slot: Slot) -> Result<(), Box<Rejected>> {
        if self.call_time > Duration::ZERO {
            std::thread::sleep(self.call_time);
        }
        self.work.as_ref().expect("open until drop").send(slot).expect("the thread lives until drop");
        self.running += 1;
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        let completion = self.awaited.take().or_else(|| self.done.try_recv().ok())?;
        self.running -= 1;
        Some(completion)
    }

    fn wait(&mut self) -> bool {
        if self.running > 0 && self.awaited.is_none() {
            self.awaited = self.done.recv().ok();
        }
        self.awaited.is_some()
    }

    fn observer(&self) -> Option<Box<dyn Observer>> {
        self.counters.clone().map(|counters| -> Box<dyn Observer> { Box::new(counters) })
    }

    fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    fn wake_with(&mut self, waker: Waker) {
        self.waker.send(waker).expect("the thread lives until drop");
    }
}

impl Drop for DoublingExecutor {
    fn drop(&mut self) {
        self.work = None;
        self.thread.take().expect("dropped once").join().expect("the test device does not panic");
    }
}

/// Counters that say nothing.
#[derive(Clone, Default)]
pub struct TestCounters {
    /// What starting them takes.
    pub start_takes: Duration,
    pub lag: Nanos,
    pub least_time: Nanos,
    /// When they were started.
    pub starts: Arc<Mutex<Vec<Instant>>>,
}

impl TestCounters {
    /// What its clock says.
    pub const SM_CLOCK_MHZ: f64 = 1500.0;
}

impl Observer for TestCounters {
    fn lag(&self) -> Nanos {
        self.lag
    }

    fn least_time(&self) -> Nanos {
        self.least_time
    }

    fn start(&mut self) {
        self.starts.lock().expect("no start has panicked").push(Instant::now());
        std::thread::sleep(self.start_takes);
    }

    fn read(&mut self) -> Counters {
        Counters::default()
    }

    fn clock(&mut self) -> Option<ClockReading> {
        Some(ClockReading { sm_clock_mhz: Some(Self::SM_CLOCK_MHZ), ..ClockReading::default() })
    }
}

/// An engine that counts how often its executors are asked for a completion, and how often they are waited for.
pub struct Counted {
    pub engine: Arc<dyn Engine>,
    pub polls: Arc<AtomicUsize>,
    pub waits: Arc<AtomicUsize>,
}

impl Engine for Counted {
    fn signature(&self) -> &Signature {
        self.engine.signature()
    }

    fn executors(self: Arc<Self>, spec: &ExecutorSpec) -> Result<Vec<Box<dyn Executor>>, Error> {
        let counted = |executor| -> Box<dyn Executor> {
            let (polls, waits) = (Arc::clone(&self.polls), Arc::clone(&self.waits));
            Box::new(CountedExecutor { executor, polls, waits })
        };
        Ok(Arc::clone(&self.engine).executors(spec)?.into_iter().map(counted).collect())
    }
}

struct CountedExecutor {
    executor: Box<dyn Executor>,
    polls: Arc<AtomicUsize>,
    waits: Arc<AtomicUsize>,
}

impl Executor for CountedExecutor {
    fn take_slot(&mut self) -> Option<Slot> {
        self.executor.take_slot()
    }

    fn enqueue(&mut self, slot: Slot) -> Result<(), Box<Rejected>> {
        self.executor.enqueue(slot)
    }

    fn poll(&mut self) -> Option<Completion> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        self.executor.poll()
    }

    fn wait(&mut self) -> bool {
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.executor.wait()
    }

    fn expect_sleep(&mut self) {
        self.executor.expect_sleep();
    }

    fn wake_with(&mut self, waker: Waker) {
        self.executor.wake_with(waker);
    }
}
