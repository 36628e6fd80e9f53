//! A network that rten has loaded, and what its trial run says about its outputs.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use bytes::Bytes;
use rten::{LoadError, ModelOptions, NodeId, RunOptions, ShapeInferenceMode, ThreadPool, Value, ValueOrView};
use rten_tensor::prelude::*;

use super::executor::CpuExecutor;
use super::{operators, tensors};
use crate::backend::{
    CudaGraph, DeviceSpec, Engine, Executor, ExecutorSpec, HostTensor, PlantedFault, SerializedEngine,
    Transfers,
};
use crate::error::{Error, Result};
use crate::model::proto::NodeProto;
use crate::model::{Model, Signature, TensorSpec};
use crate::units;

/// Computing threads of all streams together. No machine gains from more, and rten panics where the operating
/// system has none left: containers often allow some thousands.
const MOST_THREADS: usize = 1024;

/// A network with its weights, shared by all streams.
pub(super) struct Network {
    model: rten::Model,
    inputs: Vec<NodeId>,
    outputs: Vec<NodeId>,
}

/// Why a network gave no results.
pub(super) enum Fault {
    /// rten refused this execution.
    Failed(Box<rten::RunError>),
    /// rten panicked; what it left behind is unknown.
    Panicked(String),
}

impl Network {
    /// Weights are packed once, for a second copy of them in memory: products of a few rows with large
    /// matrices take less than half the time (12 of 768 x 3072 with 4 rows: 11 ms instead of 27 ms on an AVX2
    /// processor). Convolutional networks gain nothing measurable.
    fn load(model: &Model, bytes: &Bytes) -> Result<Self> {
        let rten_model = ModelOptions::with_all_ops()
            .prepack_weights(true)
            .shape_inference(shape_inference(model))
            .load(bytes.to_vec())
            .map_err(|error| operators::load_error(model.proto(), &error))?;
        let id = |name: &str| {
            let missing = |_| Error::InvalidModel { reason: format!("rten does not find tensor `{name}`") };
            rten_model.node_id(name).map_err(missing)
        };
        let inputs = model.inputs().iter().map(|tensor| id(&tensor.name)).collect::<Result<_>>()?;
        let outputs = model.outputs().iter().map(|tensor| id(&tensor.name)).collect::<Result<_>>()?;
        Ok(Self { model: rten_model, inputs, outputs })
    }

    /// Runs the network on the threads of `pool`: without one, rten would take its global pool.
    pub(super) fn run(
        &self,
        inputs: Vec<ValueOrView<'_>>,
        pool: &Arc<ThreadPool>,
    ) -> Result<Vec<Value>, Fault> {
        let inputs = self.inputs.iter().copied().zip(inputs).collect();
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(pool)));
        let run = || self.model.run(inputs, &self.outputs, Some(options));
        // The network is only read while it runs. The one thing that a panic could leave half done is rten's
        // cache of plans, behind a lock that then panics too.
        match panic::catch_unwind(AssertUnwindSafe(run)) {
            Ok(result) => result.map_err(|error| Fault::Failed(Box::new(error))),
            Err(payload) => Err(Fault::Panicked(panic_text(payload.as_ref()))),
        }
    }
}

/// rten 0.27 infers the output of DynamicQuantizeLSTM as if its weights were laid out as those of LSTM, and
/// folds the wrong sizes into the network. It loses some fusions without inference, so only where needed.
fn shape_inference(model: &Model) -> ShapeInferenceMode {
    let is_affected = |node: &&NodeProto| node.op_type() == "DynamicQuantizeLSTM";
    match operators::nodes(Some(model.graph())).iter().any(is_affected) {
        true => ShapeInferenceMode::Off,
        false => ShapeInferenceMode::On,
    }
}

/// Tells whether rten can load a model, without keeping it.
pub(super) fn check_loads(model: &Model, bytes: &Bytes) -> Result<()> {
    let loaded: Result<_, LoadError> =
        ModelOptions::with_all_ops().enable_optimization(false).load(bytes.to_vec());
    loaded.map(drop).map_err(|error| operators::load_error(model.proto(), &error))
}

/// A network and its signature as the trial run confirmed it.
pub(super) struct CpuEngine {
    network: Arc<Network>,
    signature: Signature,
    memory_bytes: Option<u64>,
}

/// Refuses shapes of which one node alone reads and writes more than there is: to be without memory ends the process.
fn check_room(model: &Model, declared: &Signature, memory_bytes: Option<u64>) -> Result<()> {
    // Where shapes cannot be inferred, trying it tells more.
    let smallest = *declared.batch_sizes.start();
    let Ok(shapes) = model.infer_shapes(&declared.input_shapes(smallest)) else { return Ok(()) };
    let largest = model.cost(&shapes).largest_node_bytes();
    match memory_bytes {
        Some(memory) if largest.0 > memory => {
            let shapes = declared.inputs.iter().map(|it| format!("{}={:?}", it.name, it.shape));
            let memory = units::Bytes(memory);
            Err(Error::InvalidSetting {
                name: "shape",
                value: shapes.collect::<Vec<_>>().join(" "),
                reason: format!("a single node reads and writes {largest}, the machine has {memory}"),
            })
        }
        _ => Ok(()),
    }
}

impl CpuEngine {
    /// Loads a network and tries it, so that what cannot work fails now.
    pub(super) fn load(engine: &SerializedEngine, device: &DeviceSpec) -> Result<Self> {
        let model = Model::from_bytes(engine.bytes.clone(), "engine.onnx")?;
        let declared = engine.signature.clone().expect("bug: an engine of ours without its signature");
        check_room(&model, &declared, device.memory_bytes)?;
        let network = Network::load(&model, &engine.bytes)?;
        let trial = Trial { model: &model, network: &network, pool: pool_of(device.core_count) };
        let signature = trial.confirm(declared)?;
        Ok(Self { network: Arc::new(network), signature, memory_bytes: device.memory_bytes })
    }

    /// Refuses what would end the process: it can neither be without a thread nor without memory.
    fn check_fits(&self, spec: &ExecutorSpec) -> Result<()> {
        if spec.cuda_graph != CudaGraph::Off {
            return Err(Error::InvalidSetting {
                name: "cuda-graph",
                value: spec.cuda_graph.to_string(),
                reason: "the cpu backend has no CUDA graphs: use off".to_owned(),
            });
        }
        if let Some(lanes) = spec.copy_lanes {
            return Err(Error::InvalidSetting {
                name: "copy-lanes",
                value: lanes.to_string(),
                reason: "the cpu backend copies nothing: leave it out".to_owned(),
            });
        }
        if spec.transfers != Transfers::On {
            return Err(Error::InvalidSetting {
                name: "transfers",
                value: spec.transfers.to_string(),
                reason: "the cpu backend computes where the samples are, and copies nothing: use on"
                    .to_owned(),
            });
        }
        PlantedFault::check_without_driver(spec.fault, super::NAME)?;
        let refused = |settings: &[(&'static str, usize)], reason| {
            let largest = settings.iter().max_by_key(|(_, value)| value);
            let (name, value) = largest.expect("bug: no settings to blame");
            Err(Error::InvalidSetting { name, value: value.to_string(), reason })
        };
        let threads = spec.streams.saturating_mul(spec.threads_per_stream);
        if threads > MOST_THREADS {
            let settings = [("streams", spec.streams), ("threads-per-stream", spec.threads_per_stream)];
            return refused(&settings, format!("{threads} threads in all, at most {MOST_THREADS} can be"));
        }
        let slots = spec.streams.saturating_mul(spec.depth);
        let bytes = units::Bytes(slots.saturating_mul(self.slot_bytes(spec.batch_size)) as u64);
        match self.memory_bytes {
            Some(memory) if bytes.0 > memory => {
                let settings = [("batch", spec.batch_size), ("streams", spec.streams), ("depth", spec.depth)];
                let memory = units::Bytes(memory);
                refused(&settings, format!("inputs and outputs need {bytes}, the machine has {memory}"))
            }
            _ => Ok(()),
        }
    }

    fn slot_bytes(&self, batch_size: usize) -> usize {
        let tensors = self.signature.inputs.iter().chain(&self.signature.outputs);
        tensors.map(|tensor| tensor.byte_count_at(batch_size)).fold(0, usize::saturating_add)
    }
}

impl Engine for CpuEngine {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn executors(self: Arc<Self>, spec: &ExecutorSpec) -> Result<Vec<Box<dyn Executor>>> {
        check_setting("streams", spec.streams)?;
        check_setting("depth", spec.depth)?;
        check_setting("threads-per-stream", spec.threads_per_stream)?;
        let (smallest, largest) = (*self.signature.batch_sizes.start(), *self.signature.batch_sizes.end());
        if !self.signature.batch_sizes.contains(&spec.batch_size) {
            return Err(Error::InvalidSetting {
                name: "batch",
                value: spec.batch_size.to_string(),
                reason: format!("the engine was built for {smallest} to {largest}"),
            });
        }
        self.check_fits(spec)?;
        (0..spec.streams)
            .map(|stream| {
                let executor = CpuExecutor::start(stream, &self.network, &self.signature, spec)?;
                Ok(Box::new(executor) as Box<dyn Executor>)
            })
            .collect()
    }
}

/// A pool of its own; rten's global one would be as large as the machine.
pub(super) fn pool_of(thread_count: usize) -> Arc<ThreadPool> {
    Arc::new(ThreadPool::with_num_threads(thread_count))
}

fn check_setting(name: &'static str, value: usize) -> Result<()> {
    if value > 0 {
        return Ok(());
    }
    Err(Error::InvalidSetting { name, value: value.to_string(), reason: "must be at least 1".into() })
}

/// Runs of a network on made-up inputs.
struct Trial<'a> {
    model: &'a Model,
    network: &'a Network,
    pool: Arc<ThreadPool>,
}

impl Trial<'_> {
    /// The signature with the output shapes that the network really has. A network whose outputs do not
    /// follow the batch has one batch size, its smallest, and no batch dimension.
    fn confirm(&self, mut signature: Signature) -> Result<Signature> {
        let (smallest, largest) = (*signature.batch_sizes.start(), *signature.batch_sizes.end());
        let has_integers = signature.inputs.iter().any(|input| !input.data_type.is_float());
        let shapes = match self.output_shapes(&signature, smallest) {
            Ok(shapes) => shapes,
            // Integers may be sizes or choose a branch, so real ones may well work; the model's word must do.
            Err(_) if has_integers => return Ok(signature),
            Err(error) => return Err(error),
        };
        let obstacle = match samples_of(&signature, &shapes, smallest) {
            Ok(samples) => {
                for (output, sample) in signature.outputs.iter_mut().zip(samples) {
                    output.shape = sample;
                }
                if smallest == largest { None } else { self.obstacle_to_batches(&signature, smallest + 1) }
            }
            Err(reason) => Some(reason),
        };
        match obstacle {
            None => Ok(signature),
            Some(reason) if largest > 1 => Err(Error::InvalidSetting {
                name: "batch",
                value: largest.to_string(),
                reason: format!("this model can only run {smallest} at a time: {reason}"),
            }),
            Some(_) => Ok(without_batches(signature, shapes)),
        }
    }

    /// Why the network cannot run `batch_size` samples at once, if so.
    fn obstacle_to_batches(&self, signature: &Signature, batch_size: usize) -> Option<String> {
        let shapes = match self.output_shapes(signature, batch_size) {
            Ok(shapes) => shapes,
            Err(error) => return Some(format!("with {batch_size}, {error}")),
        };
        let samples = match samples_of(signature, &shapes, batch_size) {
            Ok(samples) => samples,
            Err(reason) => return Some(reason),
        };
        let changed = signature.outputs.iter().zip(samples).find(|(output, sample)| output.shape != *sample);
        changed.map(|(output, sample)| {
            format!(
                "a sample of output `{}` is {:?} alone and {sample:?} in a batch of {batch_size}",
                output.name, output.shape
            )
        })
    }

    /// Shapes of all outputs for inputs of zeros, or of ones where a network cannot take zeros, for example
    /// as the length of something.
    fn output_shapes(&self, signature: &Signature, batch_size: usize) -> Result<Vec<Vec<usize>>> {
        let on_zeros = self.run(signature, batch_size, 0);
        on_zeros.or_else(|error| self.run(signature, batch_size, 1).map_err(|_| error))
    }

    fn run(&self, signature: &Signature, batch_size: usize, integer: u8) -> Result<Vec<Vec<usize>>> {
        let inputs: Vec<_> =
            signature.inputs.iter().map(|spec| input_of(spec, batch_size, integer)).collect();
        let views = inputs.iter().map(|input| tensors::view(input, batch_size));
        let views = views.collect::<Result<_, _>>().map_err(Error::Bug)?;
        match self.network.run(views, &self.pool) {
            Ok(values) => Ok(values.iter().map(|value| value.shape().to_vec()).collect()),
            Err(Fault::Failed(error)) => Err(operators::run_error(self.model.proto(), &error)),
            Err(Fault::Panicked(text)) => {
                Err(Error::InvalidModel { reason: format!("rten panicked in a trial run: {text}") })
            }
        }
    }
}

/// An input filled with one number; floats stay zero. A little-endian integer of any width is its low byte
/// first.
fn input_of(spec: &TensorSpec, batch_size: usize, integer: u8) -> HostTensor {
    let mut tensor = HostTensor::zeroed(spec, batch_size);
    if !spec.data_type.is_float() {
        for low_byte in tensor.bytes_mut().iter_mut().step_by(spec.data_type.byte_count()) {
            *low_byte = integer;
        }
    }
    tensor
}

/// The shape of one sample of each output, or why there is no such thing.
fn samples_of(
    signature: &Signature,
    shapes: &[Vec<usize>],
    batch_size: usize,
) -> Result<Vec<Vec<usize>>, String> {
    let sample = |(output, shape): (&TensorSpec, &Vec<usize>)| match shape.split_first() {
        _ if !output.is_batched => Ok(shape.clone()),
        Some((&first, rest)) if first == batch_size => Ok(rest.to_vec()),
        _ => {
            Err(format!("output `{}` is {shape:?} for {batch_size}, without the batch in front", output.name))
        }
    };
    signature.outputs.iter().zip(shapes).map(sample).collect()
}

/// The signature of a network that runs its smallest batch as one sample.
fn without_batches(signature: Signature, output_shapes: Vec<Vec<usize>>) -> Signature {
    let batch_size = *signature.batch_sizes.start();
    let whole = |spec: TensorSpec| TensorSpec { shape: spec.shape_at(batch_size), is_batched: false, ..spec };
    let outputs = signature.outputs.into_iter().zip(output_shapes);
    Signature {
        inputs: signature.inputs.into_iter().map(whole).collect(),
        outputs: outputs.map(|(spec, shape)| TensorSpec { shape, is_batched: false, ..spec }).collect(),
        batch_sizes: 1..=1,
    }
}

/// What a panic said.
fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DataType;

    fn signature(is_batched: bool) -> Signature {
        let tensor = |name: &str| TensorSpec {
            name: name.into(),
            data_type: DataType::F32,
            shape: vec![3],
            is_batched,
        };
        Signature { inputs: vec![tensor("x")], outputs: vec![tensor("y")], batch_sizes: 1..=4 }
    }

    #[test]
    fn an_output_must_have_the_batch_in_front() {
        assert_eq!(samples_of(&signature(true), &[vec![2, 5]], 2), Ok(vec![vec![5]]));
        assert_eq!(samples_of(&signature(false), &[vec![1, 5]], 2), Ok(vec![vec![1, 5]]));
        let reason = samples_of(&signature(true), &[vec![1, 5]], 2).unwrap_err();
        assert_eq!(reason, "output `y` is [1, 5] for 2, without the batch in front");
        assert!(samples_of(&signature(true), &[vec![]], 1).is_err());
    }

    #[test]
    fn without_batches_every_shape_is_whole() {
        let single = without_batches(signature(true), vec![vec![7]]);
        assert_eq!(single.batch_sizes, 1..=1);
        assert_eq!((single.inputs[0].shape_at(1), single.outputs[0].shape_at(1)), (vec![1, 3], vec![7]));
    }
}
