//! A loaded engine, and the executors that it makes.

use std::sync::Arc;

use thalweg_nvidia::cuda::{CudaContext, DeviceBuffer, PinnedReserve, Stream};
use thalweg_nvidia::execution::{self, Compute, LaneStreams, ReplayWait, StageMarks};
use thalweg_nvidia::tensorrt::{self, Activations, MemoryAccount};

use super::executor::TensorRtExecutor;
use super::meter::CounterAccess;
use super::profiles::Profiles;
use super::streams::{SharedLanes, Streams};
use super::{build, tensors};
use crate::backend::fitting::make_all;
use crate::backend::{
    CudaGraph, Engine, EngineMemory, Executor, ExecutorSpec, PlantedFault, Precision, Recorder, Replay,
    Timing, Wait,
};
use crate::error::{Error, Result, Room};
use crate::model::{Signature, TensorSpec};
use crate::units::Bytes;

/// The optimization profile that contexts use, or that theirs are like.
const PROFILE: usize = 0;

/// An engine on a GPU.
pub(super) struct TensorRtEngine {
    pub engine: tensorrt::Engine,
    pub profiles: Arc<Profiles>,
    pub signature: Signature,
    pub precision: Option<Precision>,
    pub context: Arc<CudaContext>,
    pub streams: Arc<Streams>,
    /// What slots of pools before have left.
    pub host_memory: Arc<PinnedReserve>,
    pub counters: CounterAccess,
    pub recorder: Recorder,
    pub taken: Taken,
    /// Whether somebody reads which layer is which.
    pub names_ranges: bool,
}

/// Device memory that TensorRT took when the engine was loaded, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Taken {
    /// For the engine itself: its weights.
    pub engine: u64,
    /// For an execution context besides its activations.
    pub context: u64,
}

impl Taken {
    /// Asks the account of an engine that nobody else uses yet, with a context of its own for the purpose. `plan` is
    /// the size of the serialised engine.
    ///
    /// # Errors
    /// Where not even one context fits.
    pub fn by(engine: &tensorrt::Engine, account: &MemoryAccount, plan: usize) -> Result<Self> {
        let loaded = account.used_bytes();
        let context = engine.create_execution_context(Activations::UserManaged)?;
        let with_context = account.used_bytes();
        drop(context);
        // An engine that takes its weights later tells nothing yet; they are about as large as the plan.
        let engine = if loaded == 0 { plan as u64 } else { loaded };
        Ok(Self { engine, context: with_context.saturating_sub(loaded) })
    }
}

impl Engine for TensorRtEngine {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn precision(&self) -> Option<Precision> {
        self.precision
    }

    fn memory(&self, spec: &ExecutorSpec) -> Result<Option<EngineMemory>> {
        self.memory_of(spec).map(Some)
    }

    fn layers_json(&self) -> Option<Result<String>> {
        let inspector = self.engine.create_inspector();
        Some(inspector.and_then(|inspector| inspector.engine_json()).map_err(Error::from))
    }

    fn executors(self: Arc<Self>, spec: &ExecutorSpec) -> Result<Vec<Box<dyn Executor>>> {
        self.check_room(spec)?;
        let shared = self.streams.shared_lanes(&self.context, spec)?;
        let executor = |stream| -> Result<Box<dyn Executor>> {
            Ok(Box::new(TensorRtExecutor::new(Arc::clone(&self), stream, spec, &shared)?))
        };
        make_all(spec.streams, executor)
    }

    fn replay(self: Arc<Self>, spec: &ExecutorSpec) -> Result<Option<Replay>> {
        self.check_room(spec)?;
        let shared = self.streams.shared_lanes(&self.context, spec)?;
        let lanes =
            |stream| TensorRtExecutor::new(Arc::clone(&self), stream, spec, &shared)?.into_lanes(spec);
        let mut lanes = (0..spec.streams).map(lanes).collect::<Result<Vec<_>>>()?;
        // One of each stream in turn, so that the oldest is always the next to wait for.
        let of_depth = |_| lanes.iter_mut().filter_map(Vec::pop).collect::<Vec<_>>();
        let lanes: Vec<_> = (0..spec.depth).flat_map(of_depth).collect();
        let mut replay = execution::Replay::new(lanes)?;
        let wait = if spec.wait == Wait::Block { ReplayWait::Sleep } else { ReplayWait::Ask };
        Ok(Some(Box::new(move |time, times| {
            let marks = if times == Timing::Taken { StageMarks::All } else { StageMarks::Last };
            Ok(replay.run(time, wait, marks)?)
        })))
    }

    fn recorder(&self) -> Option<&Recorder> {
        Some(&self.recorder)
    }

    fn prepares_executions(&self) -> bool {
        true
    }
}

impl TensorRtEngine {
    /// A compute stage with an execution context of its own, in memory that contexts of the same stream share.
    pub fn compute(&self, stream: &Arc<Stream>, memory: &Arc<DeviceBuffer>) -> Result<Arc<Compute>> {
        let profile = self.profiles.claim();
        let mut context = self.engine.create_execution_context(Activations::UserManaged)?;
        if profile.number() != context.optimization_profile() {
            context.set_optimization_profile(profile.number(), stream)?;
        }
        context.set_activation_memory(Arc::clone(memory))?;
        if !self.names_ranges {
            context.name_no_ranges()?;
        }
        let inputs: Vec<TensorSpec> = self
            .signature
            .inputs
            .iter()
            .filter(|it| tensors::is_open(&self.engine, &it.name))
            .cloned()
            .collect();
        let shapes = move |batch_size| {
            // It goes with the context.
            let _ = &profile;
            inputs.iter().map(|input| (input.name.clone(), build::shape(input, batch_size))).collect()
        };
        Ok(context.into_compute(Arc::clone(stream), Box::new(shapes)))
    }

    /// Memory that the contexts of one stream compute in, one after the other.
    pub fn activation_memory(&self) -> Result<Arc<DeviceBuffer>> {
        let byte_count = self.engine.device_memory_size(PROFILE)?;
        Ok(Arc::new(DeviceBuffer::new(&self.context, byte_count)?))
    }

    /// The streams of one executor, unless a planted fault puts everything on the default stream.
    pub fn streams(&self, spec: &ExecutorSpec, executor: usize, shared: &SharedLanes) -> Result<LaneStreams> {
        if spec.fault == Some(PlantedFault::DefaultStream) {
            return Ok(LaneStreams::single(&Arc::new(Stream::default_of(&self.context))));
        }
        self.streams.take(&self.context, spec.cuda_graph, executor, shared)
    }

    fn memory_of(&self, spec: &ExecutorSpec) -> Result<EngineMemory> {
        let ExecutorSpec { depth, batch_size, .. } = *spec;
        let tensors = [&self.signature.inputs, &self.signature.outputs].into_iter();
        let slot: usize = tensors.flat_map(|tensors| byte_counts(tensors, batch_size)).sum();
        Ok(EngineMemory {
            weights_bytes: self.taken.engine,
            activation_bytes: self.engine.device_memory_size(PROFILE)? as u64,
            context_bytes: self.taken.context,
            context_count: context_count(spec),
            slot_bytes: slot as u64,
            depth,
            batch_size,
            free_bytes: self.context.memory()?.free_bytes,
        })
    }

    /// Whether there is room for so many streams, before any of it is taken.
    fn check_room(&self, spec: &ExecutorSpec) -> Result<()> {
        self.check_profiles(spec)?;
        self.check_memory(spec)
    }

    fn check_profiles(&self, spec: &ExecutorSpec) -> Result<()> {
        let Some(most) = self.profiles.most_contexts() else { return Ok(()) };
        let needed = context_count(spec);
        let fits = most / needed;
        if spec.streams <= fits {
            return Ok(());
        }
        let sizes = spec.batch_steps.len();
        let mut reason =
            format!("each takes {needed} of the {most} optimization profiles, which contexts cannot share");
        if sizes > 1 {
            let (whole, fewer) = (spec.batch_size, needed / sizes);
            reason += &format!("; with --smallest-batch {whole} each takes {fewer}");
        }
        Err(Error::DoesNotFit { streams: spec.streams, fits, room: Room::Profiles, reason })
    }

    fn check_memory(&self, spec: &ExecutorSpec) -> Result<()> {
        let memory = self.memory_of(spec)?;
        if spec.streams as u64 <= memory.largest_executor_count() {
            return Ok(());
        }
        Err(Error::DoesNotFit {
            streams: spec.streams,
            fits: usize::try_from(memory.largest_executor_count()).unwrap_or(usize::MAX),
            room: Room::Memory,
            reason: format!(
                "each takes {} at batch {} besides {} of weights, and {} are free",
                Bytes(memory.executor_bytes()),
                spec.batch_size,
                Bytes(memory.weights_bytes),
                Bytes(memory.free_bytes),
            ),
        })
    }
}

/// Execution contexts of one executor, each of which keeps its shapes: for each size of executions one for each graph, or
/// one for all slots.
fn context_count(spec: &ExecutorSpec) -> usize {
    spec.batch_steps.len() * if spec.cuda_graph == CudaGraph::Off { 1 } else { spec.depth }
}

/// Bytes of each tensor at a batch size.
pub(super) fn byte_counts(tensors: &[TensorSpec], batch_size: usize) -> Vec<usize> {
    tensors.iter().map(|tensor| tensor.byte_count_at(batch_size)).collect()
}
