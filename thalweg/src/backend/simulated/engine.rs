//! Engine and executors of a simulated device: the seam on one side, the event model on the other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::{Device, Submission};
use super::meter::Meter;
use super::parameters::Parameters;
use super::phases::Program;
use crate::backend::residency::Residency;
use crate::backend::{
    Completion, CudaGraph, Engine, EngineMemory, Executor, ExecutorSpec, HostTensor, Observer, PlantedFault,
    Precision, Rejected, Slot, SlotId, Span, Waker,
};
use crate::error::{Error, Result, Room};
use crate::model::{DataType, Model, Signature, TensorSpec};
use crate::units::{Bytes, Nanos, VirtualClock};

/// A network on a simulated device.
///
/// Its tensors are stand-ins: one 64-bit word per sample (or per tensor without a batch dimension) for all
/// its elements, since ten seconds on a large device would move hundreds of gigabytes. Copies take the time of
/// the real tensors. Each output word depends on all input words of its sample, so a buffer that is swapped or
/// overwritten shows as a wrong output.
pub(super) struct SimulatedEngine {
    parameters: Parameters,
    model: Model,
    /// What the model declares.
    declared: Signature,
    /// The stand-ins.
    signature: Signature,
    /// By batch size.
    work: Mutex<BTreeMap<usize, Work>>,
    seed: u64,
    /// Pools made so far: each has its own noise.
    pool_count: AtomicU64,
}

impl SimulatedEngine {
    pub fn new(parameters: Parameters, model: Model, declared: Signature, seed: u64) -> Self {
        let stand_in = |tensor: &TensorSpec| TensorSpec {
            data_type: DataType::I64,
            shape: Vec::new(),
            ..tensor.clone()
        };
        let signature = Signature {
            inputs: declared.inputs.iter().map(stand_in).collect(),
            outputs: declared.outputs.iter().map(stand_in).collect(),
            batch_sizes: declared.batch_sizes.clone(),
        };
        let work = Mutex::new(BTreeMap::new());
        Self { parameters, model, declared, signature, work, seed, pool_count: AtomicU64::new(0) }
    }

    /// What an execution of this batch takes. The cost is counted once for each batch size.
    fn work(&self, batch_size: usize) -> Result<Work> {
        let mut known = lock(&self.work);
        if let Some(work) = known.get(&batch_size) {
            return Ok(work.clone());
        }
        let shapes = self.model.infer_shapes(&self.declared.input_shapes(batch_size))?;
        let cost = self.model.cost(&shapes);
        let work = Work {
            program: Arc::new(self.parameters.program(&cost, self.model.is_half())),
            weight_bytes: cost.weight_bytes.0,
            largest_node_bytes: cost.largest_node_bytes().0,
        };
        known.insert(batch_size, work.clone());
        Ok(work)
    }

    fn check_memory(&self, spec: &ExecutorSpec) -> Result<()> {
        let memory = self.memory_of(spec.depth, spec.batch_size)?;
        let (needed, available) = (memory.total_bytes(spec.streams), self.parameters.sheet.memory);
        if needed <= available.0 {
            return Ok(());
        }
        let fits = usize::try_from(memory.largest_executor_count()).unwrap_or(usize::MAX);
        Err(Error::DoesNotFit {
            streams: spec.streams,
            fits,
            room: Room::Memory,
            reason: format!("at batch {} they need {} of {available}", spec.batch_size, Bytes(needed)),
        })
    }

    /// Weights once; for each executor the activations, and for each of its slots inputs and outputs.
    fn memory_of(&self, depth: usize, batch_size: usize) -> Result<EngineMemory> {
        let work = self.work(batch_size)?;
        let scale = self.parameters.element_bytes / DataType::F32.byte_count() as f64;
        let weights = whole_bytes(work.weight_bytes as f64 * scale);
        // The largest node's tensors, and a second set that is being written meanwhile.
        let activations = whole_bytes(2.0 * work.largest_node_bytes as f64 * scale);
        let transfers = transfer_bytes(&self.declared.inputs, batch_size)
            + transfer_bytes(&self.declared.outputs, batch_size);
        Ok(EngineMemory {
            weights_bytes: weights.0,
            activation_bytes: activations.0,
            context_bytes: 0,
            context_count: 1,
            slot_bytes: whole_bytes(transfers).0,
            depth,
            batch_size,
            free_bytes: self.parameters.sheet.memory.0.saturating_sub(weights.0),
        })
    }
}

/// What an execution takes at one batch size.
#[derive(Clone)]
struct Work {
    program: Arc<Program>,
    weight_bytes: u64,
    /// Activations of the node that has most of them.
    largest_node_bytes: u64,
}

fn transfer_bytes(tensors: &[TensorSpec], batch_size: usize) -> f64 {
    tensors.iter().map(|tensor| tensor.byte_count_at(batch_size) as f64).sum()
}

impl Engine for SimulatedEngine {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn transferred(&self) -> &Signature {
        &self.declared
    }

    fn precision(&self) -> Option<Precision> {
        Some(if self.parameters.element_bytes > 1.0 { Precision::Fp16 } else { Precision::Int8 })
    }

    fn memory(&self, spec: &ExecutorSpec) -> Result<Option<EngineMemory>> {
        self.memory_of(spec.depth, spec.batch_size).map(Some)
    }

    /// As a TensorRT engine, which it stands for.
    fn prepares_executions(&self) -> bool {
        true
    }

    fn is_simulated(&self) -> bool {
        true
    }

    fn executors(self: Arc<Self>, spec: &ExecutorSpec) -> Result<Vec<Box<dyn Executor>>> {
        self.check_memory(spec)?;
        PlantedFault::check_without_driver(spec.fault, "simulated")?;
        let pool = self.pool_count.fetch_add(1, Ordering::Relaxed);
        let device = Device::new(self.parameters, spec, self.seed ^ pool.rotate_left(32));
        let device = Arc::new(Mutex::new(device));
        let executor = |stream| -> Box<dyn Executor> {
            Box::new(SimulatedExecutor {
                engine: Arc::clone(&self),
                device: Arc::clone(&device),
                stream,
                cuda_graph: spec.cuda_graph,
                residency: Residency::new(spec),
                clock: spec.clock.virtual_clock().cloned(),
                slots: (0..spec.depth).rev().map(|index| self.slot(stream, index, spec.batch_size)).collect(),
            })
        };
        Ok((0..spec.streams).map(executor).collect())
    }
}

impl SimulatedEngine {
    fn slot(&self, executor: usize, index: usize, batch_size: usize) -> Slot {
        let zeroed = |tensors: &[TensorSpec]| {
            tensors.iter().map(|tensor| HostTensor::zeroed(tensor, batch_size)).collect()
        };
        let (inputs, outputs) = (zeroed(&self.signature.inputs), zeroed(&self.signature.outputs));
        Slot { id: SlotId { executor, index }, batch_size: 0, inputs, outputs }
    }
}

struct SimulatedExecutor {
    engine: Arc<SimulatedEngine>,
    /// Shared with the other executors of the pool.
    device: Arc<Mutex<Device>>,
    stream: usize,
    cuda_graph: CudaGraph,
    residency: Residency,
    /// Whoever runs the pool moves it. Without it the device runs at once whatever is enqueued.
    clock: Option<VirtualClock>,
    slots: Vec<Slot>,
}

impl Executor for SimulatedExecutor {
    fn take_slot(&mut self) -> Option<Slot> {
        self.slots.pop()
    }

    fn enqueue(&mut self, slot: Slot) -> Result<(), Box<Rejected>> {
        let program = match self.engine.work(slot.batch_size) {
            Ok(work) => work.program,
            Err(error) => return Err(Box::new(Rejected { slot, error })),
        };
        let mut device = lock(&self.device);
        let start_s = self.clock.as_ref().map_or(device.totals().now_s, |clock| clock.now().as_seconds());
        let call = self.call(&mut device, start_s, program.kernel_count);
        let enqueue = Span { start: Nanos::from_seconds(start_s), end: Nanos::from_seconds(call.end_s) };
        if let Some(clock) = &self.clock {
            clock.set(enqueue.end);
        }
        let launches_kernels = self.cuda_graph == CudaGraph::Off;
        let launch_each_s = (call.end_s - call.copy_at_s) / program.kernel_count as f64;
        let copied = if self.residency.must_copy(&slot) { 1.0 } else { 0.0 };
        self.residency.note(&slot);
        let submission = Submission {
            enqueue,
            copy_at_s: call.copy_at_s,
            launch_at_s: if launches_kernels { call.copy_at_s } else { call.end_s },
            launch_each_s: if launches_kernels { launch_each_s } else { 0.0 },
            h2d_bytes: copied * transfer_bytes(&self.engine.declared.inputs, slot.batch_size),
            d2h_bytes: copied * transfer_bytes(&self.engine.declared.outputs, slot.batch_size),
            compute,
            program,
            slot,
        };
        device.submit(self.stream, submission);
        if self.clock.is_none() {
            device.run_until(Nanos(u64::MAX));
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        lock(&self.device).take_finished(self.stream)
    }

    fn wake_with(&mut self, waker: Waker) {
        lock(&self.device).wake_with(self.stream, waker);
    }

    fn observer(&self) -> Option<Box<dyn Observer>> {
        let start = lock(&self.device).totals();
        Some(Box::new(Meter { device: Arc::clone(&self.device), start, glanced: start }))
    }

    fn run_until(&mut self, limit: Nanos) -> Nanos {
        lock(&self.device).run_until(limit)
    }
}

/// When the parts of an enqueue call happen.
struct Call {
    copy_at_s: f64,
    end_s: f64,
}

impl SimulatedExecutor {
    /// An enqueue call: part of it needs the driver's lock, and takes longer the more threads want it.
    fn call(&self, device: &mut Device, start_s: f64, kernel_count: usize) -> Call {
        /// Threads beyond these wait asleep and disturb nobody.
        const MOST_WAITERS: f64 = 16.0;
        let host = &self.engine.parameters.host;
        let launches_s = match self.cuda_graph {
            CudaGraph::Off => host.launch_s * kernel_count as f64,
            CudaGraph::Compute | CudaGraph::Copies => host.graph_launch_s,
        };
        let total_s = (host.execution_s + launches_s) * device.jitter();
        let locked_s = total_s * host.locked_share;
        let wanted_at_s = start_s + host.execution_s.min(total_s - locked_s);
        let got_at_s = wanted_at_s.max(device.driver_free_at_s);
        let waiters = ((got_at_s - wanted_at_s) / locked_s).min(MOST_WAITERS);
        let held_s = locked_s * (1.0 + host.contention * waiters);
        device.driver_free_at_s = got_at_s + held_s;
        Call {
            copy_at_s: wanted_at_s,
            end_s: device.driver_free_at_s + (total_s - locked_s) - (wanted_at_s - start_s),
        }
    }
}

/// The network: each output word is a hash of all input words of its sample.
fn compute(slot: &mut Slot) {
    let word = |tensor: &HostTensor, sample: usize| {
        let words = tensor.elements::<i64>();
        words[if tensor.spec().is_batched { sample } else { 0 }]
    };
    // The batch before may have been smaller.
    for output in slot.outputs.iter_mut().filter(|output| output.spec().is_batched) {
        output.reshape(&[slot.batch_size]);
    }
    for sample in 0..slot.batch_size {
        let digest = slot.inputs.iter().fold(0, |digest, input| mixed(digest ^ word(input, sample)));
        for (index, output) in slot.outputs.iter_mut().enumerate() {
            let is_batched = output.spec().is_batched;
            output.elements_mut::<i64>()[if is_batched { sample } else { 0 }] = mixed(digest ^ index as i64);
        }
    }
}

/// Spreads every bit over 52 bits, which `f64` holds exactly (the last step of SplitMix64).
fn mixed(word: i64) -> i64 {
    let mut bits = word.cast_unsigned().wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 12).cast_signed()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from float saturate")]
fn whole_bytes(bytes: f64) -> Bytes {
    Bytes(bytes as u64)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here is left half done by a panic that could be continued from.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
