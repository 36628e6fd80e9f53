//! A full TensorRT on a real GPU: `cargo test -p thalweg-nvidia --test tensorrt_gpu -- --ignored
//! --nocapture`.
//!
//! TensorRT is looked for on the loader's path (`LD_LIBRARY_PATH`); the model is a part of the binary.
#![expect(clippy::unwrap_used, reason = "it is a test; its first functions are no `#[test]` themselves")]

mod device;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::thread;

use thalweg_nvidia::cuda::{
    CudaContext, DeviceBuffer, EventClock, EventWait, PinnedMemory, Stream, StreamPriority,
};
use thalweg_nvidia::execution::{GraphScope, Job, Lane, LaneSpec, LaneStreams};
use thalweg_nvidia::tensorrt::{
    Activations, BuilderFlag, CalibrationBatches, DataType, Engine, ExecutionContext, Family, MemoryAccount,
    OptimizationProfile, ProfilingVerbosity, Refitter, ShapeRange, SharedProfiles, TensorRt, parse_onnx,
};
use thalweg_nvidia::{Error, Places};

use device::{alone, context, stream};

/// Takes `x` as `[batch, 3, 48, 192]` and gives two probabilities per sample.
const MODEL: &[u8] = include_bytes!("../../models/ppocr_cls.onnx");
const SAMPLE: [i64; 3] = [3, 48, 192];
const LARGEST_BATCH: i64 = 4;

/// Takes `x` as `[2, 8]` of FP32 and gives `found`, the places that are not zero, as `[2, count]` of integers.
const NON_ZERO: &[u8] = b"\x08\x08:Q\n\x13\n\x01x\x12\x05found\"\x07NonZero\x12\x07nonzeroZ\x13\n\x01x\x12\x0e\n\x0c\
    \x08\x01\x12\x08\n\x02\x08\x02\n\x02\x08\x08b\x1c\n\x05found\x12\x13\n\x11\x08\x07\x12\r\n\x02\x08\x02\n\x07\x12\x05countB\x04\n\0\x10\x11";

fn tensorrt() -> TensorRt {
    static OPENED: OnceLock<TensorRt> = OnceLock::new();
    OPENED.get_or_init(|| TensorRt::open(&Places::default()).unwrap()).clone()
}

fn shape(batch: i64) -> Vec<i64> {
    [&[batch], &SAMPLE[..]].concat()
}

fn set_shapes(profile: &mut OptimizationProfile) {
    let range = ShapeRange { min: shape(1), opt: shape(LARGEST_BATCH), max: shape(LARGEST_BATCH) };
    profile.set_shapes("x", range).unwrap();
}

/// What a build is told beside the shapes.
#[derive(Clone, Copy, PartialEq)]
enum Precision {
    Fp32,
    Fp16,
    Int8,
    /// FP32, and the weights can be changed later.
    Refittable,
    /// FP32, with two profiles that contexts do not share, as in 8.5.
    Unshared,
}

/// Three batches of noise.
struct Noise(Vec<Arc<DeviceBuffer>>);

impl CalibrationBatches for Noise {
    fn next_batch(&mut self, inputs: &[&str]) -> Option<Vec<Arc<DeviceBuffer>>> {
        assert_eq!(inputs, ["x"]);
        self.0.pop().map(|batch| vec![batch])
    }
}

fn noise(batch: i64) -> Vec<u8> {
    let count = batch * SAMPLE.iter().product::<i64>();
    // A linear congruential generator is noise enough (constants of Numerical Recipes).
    let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let states = std::iter::successors(Some(7_u32), next).take(usize::try_from(count).unwrap());
    states.flat_map(|state| ((state >> 16) as f32 / 65_536.0).to_ne_bytes()).collect()
}

fn build(device: &Arc<CudaContext>, precision: Precision) -> Vec<u8> {
    build_within(device, precision, &MemoryAccount::new()).unwrap()
}

fn build_within(
    device: &Arc<CudaContext>,
    precision: Precision,
    account: &MemoryAccount,
) -> Result<Vec<u8>, Error> {
    let builder = tensorrt().counted_builder_on(device, account)?;
    let mut network = builder.create_network().unwrap();
    parse_onnx(&mut network, MODEL, None).unwrap();
    network.set_input_shape("x", &shape(-1)).unwrap();
    let mut config = builder.create_config().unwrap();
    config.limit_workspace(1 << 30).unwrap();
    // The tests are about engines, not about fast ones, and this builds in seconds.
    config.set_optimization_level(1).unwrap();
    config.disable(BuilderFlag::Tf32).unwrap();
    config.set_profiling_verbosity(ProfilingVerbosity::Detailed).unwrap();
    if precision != Precision::Unshared {
        assert_eq!(config.share_profiles(), Ok(SharedProfiles::Yes));
    }
    let cache = config.use_timing_cache(&[]).unwrap();
    let mut profile = builder.create_optimization_profile().unwrap();
    set_shapes(&mut profile);
    config.add_optimization_profile(profile).unwrap();
    match precision {
        Precision::Fp32 => {}
        Precision::Unshared => {
            let mut profile = builder.create_optimization_profile().unwrap();
            set_shapes(&mut profile);
            config.add_optimization_profile(profile).unwrap();
        }
        Precision::Refittable => config.enable(BuilderFlag::Refit).unwrap(),
        Precision::Fp16 => config.enable(BuilderFlag::Fp16).unwrap(),
        Precision::Int8 => {
            let mut profile = builder.create_optimization_profile().unwrap();
            set_shapes(&mut profile);
            let stream = Stream::new(device, StreamPriority::Normal).unwrap();
            let values = noise(LARGEST_BATCH);
            let batch = || {
                let buffer = DeviceBuffer::new(device, values.len()).unwrap();
                stream.upload(&values, &buffer).unwrap();
                Arc::new(buffer)
            };
            let source = Noise(vec![batch(), batch(), batch()]);
            config.calibrate(&network, profile, Box::new(source)).unwrap();
        }
    }
    let engine = builder.build(&network, &config)?.to_vec();
    assert!(!cache.serialize().unwrap().is_empty());
    Ok(engine)
}

/// Built once: it takes a while.
fn serialized(device: &Arc<CudaContext>) -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| build(device, Precision::Fp32))
}

fn engine(device: &Arc<CudaContext>) -> Engine {
    tensorrt().runtime_on(device).unwrap().deserialize_engine(serialized(device)).unwrap()
}

/// Runs the noise through a context, at a batch size, and gives the outputs.
fn run(context: ExecutionContext, stream: &Arc<Stream>, batch: i64, graph: GraphScope) -> Vec<f32> {
    run_all(context, stream, graph, &[noise(batch)]).swap_remove(0)
}

/// Runs inputs of any number of samples through one context, one after the other, and gives the outputs of each.
fn run_all(
    context: ExecutionContext,
    stream: &Arc<Stream>,
    graph: GraphScope,
    inputs: &[Vec<u8>],
) -> Vec<Vec<f32>> {
    let sample_bytes = noise(1).len();
    let output_bytes = |input: &Vec<u8>| input.len() / sample_bytes * 2 * size_of::<f32>();
    let compute =
        context.into_compute(Arc::clone(stream), Box::new(|batch| vec![("x".into(), shape(batch as i64))]));
    let spec = LaneSpec {
        streams: LaneStreams::single(stream),
        input_byte_counts: vec![inputs.iter().map(Vec::len).max().unwrap()],
        output_byte_counts: vec![inputs.iter().map(output_bytes).max().unwrap()],
        wait: EventWait::AsContext,
    };
    let mut lane = Lane::new(&spec).unwrap();
    let mut host = lane.host_buffers(PinnedMemory::Cached).unwrap();
    let clock = EventClock::new(stream.context()).unwrap();
    let (mut jobs, mut outputs) = (BTreeMap::new(), Vec::new());
    for input in inputs {
        let (batch_size, output_bytes) = (input.len() / sample_bytes, output_bytes(input));
        let mut prepare = || {
            let (input_byte_counts, output_byte_counts) = (vec![input.len()], vec![output_bytes]);
            let compute = Arc::clone(&compute);
            let job = Job { compute, batch_size, input_byte_counts, output_byte_counts, graph };
            lane.prepare(job, &mut host).unwrap()
        };
        let job = *jobs.entry(batch_size).or_insert_with(&mut prepare);
        host.inputs[0][..input.len()].copy_from_slice(input);
        host.outputs[0].fill(0xff);
        lane.launch(job, host).unwrap();
        let finished = lane.wait(&clock).unwrap();
        finished.outcome.unwrap();
        host = finished.host;
        let values = host.outputs[0][..output_bytes].chunks_exact(4);
        outputs.push(values.map(|value| f32::from_ne_bytes(value.try_into().unwrap())).collect());
    }
    outputs
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn an_engine_tells_what_it_is() {
    let _alone = alone();
    let device = context();
    let engine = engine(&device);
    for tensor in engine.tensors() {
        println!("{tensor:?}");
    }
    assert_eq!(engine.tensors().len(), 2);
    assert_eq!(engine.tensors()[0].shape, shape(-1));
    assert_eq!(engine.profile_count().unwrap(), 1);
    let shapes = engine.profile_shapes("x", 0).unwrap();
    assert_eq!((shapes.min, shapes.max), (shape(1), shape(LARGEST_BATCH)));
    assert!(matches!(engine.profile_shapes("y", 0), Err(Error::NoSuchTensor { .. })));
    assert!(engine.device_memory_size(0).unwrap() > 0);
    let json = engine.create_inspector().unwrap().engine_json().unwrap();
    println!("{} layers, {} bytes of JSON", engine.layer_count().unwrap(), json.len());
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(value["Layers"].as_array().is_some_and(|layers| !layers.is_empty()));
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn contexts_agree_with_and_without_graph_and_at_every_batch_size() {
    let _alone = alone();
    let device = context();
    let engine = engine(&device);
    let stream = stream(&device);
    let make = || engine.create_execution_context(Activations::OwnedByContext).unwrap();
    let reference = run(make(), &stream, LARGEST_BATCH, GraphScope::Off);
    println!("{reference:?}");
    for probabilities in reference.chunks_exact(2) {
        assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-3, "{probabilities:?}");
    }
    for graph in [GraphScope::Compute, GraphScope::Copies] {
        assert_eq!(run(make(), &stream, LARGEST_BATCH, graph), reference, "{graph:?}");
    }
    let single = run(make(), &stream, 1, GraphScope::Off);
    for (one, of_many) in single.iter().zip(&reference) {
        assert!((one - of_many).abs() < 1e-4, "{single:?}");
    }
}

/// It did not where the size of an output was asked for in between: 8.6.0 then runs with the shapes before.
#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn a_context_runs_the_batch_that_its_shapes_were_set_for_last() {
    let _alone = alone();
    let device = context();
    let engine = engine(&device);
    let stream = stream(&device);
    let make = || engine.create_execution_context(Activations::OwnedByContext).unwrap();
    // Different samples each time: outputs of an execution before are right for none.
    let (samples, sample_bytes) = (noise(8), noise(1).len());
    let inputs: Vec<_> = [(0, 1), (1, 4), (3, 2), (4, 3), (5, 1), (2, 4)]
        .map(|(first, count)| samples[first * sample_bytes..(first + count) * sample_bytes].to_vec())
        .into();
    let alone = inputs
        .iter()
        .map(|input| run_all(make(), &stream, GraphScope::Off, std::slice::from_ref(input)).swap_remove(0));
    let expected: Vec<_> = alone.collect();
    assert_eq!(run_all(make(), &stream, GraphScope::Off, &inputs), expected);
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn contexts_share_activation_memory_of_the_caller() {
    let _alone = alone();
    let device = context();
    let engine = engine(&device);
    let stream = stream(&device);
    let memory = Arc::new(DeviceBuffer::new(&device, engine.device_memory_size(0).unwrap()).unwrap());
    let make = || {
        let mut context = engine.create_execution_context(Activations::UserManaged).unwrap();
        context.set_activation_memory(Arc::clone(&memory)).unwrap();
        context
    };
    let first = run(make(), &stream, LARGEST_BATCH, GraphScope::Off);
    assert_eq!(run(make(), &stream, LARGEST_BATCH, GraphScope::Compute), first);
    let mut context = engine.create_execution_context(Activations::UserManaged).unwrap();
    let small = Arc::new(DeviceBuffer::new(&device, 1).unwrap());
    assert!(matches!(context.set_activation_memory(small), Err(Error::BufferTooSmall { .. })));
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn two_contexts_use_one_profile_at_the_same_time() {
    let _alone = alone();
    let device = context();
    let engine = engine(&device);
    let first = engine.create_execution_context(Activations::OwnedByContext).unwrap();
    let second = engine.create_execution_context(Activations::OwnedByContext).unwrap();
    let outputs = [first, second].map(|context| run(context, &stream(&device), 2, GraphScope::Off));
    assert_eq!(outputs[0], outputs[1]);
}

/// What 8.5 always does, and 8.6 unless it is told otherwise.
#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn contexts_that_do_not_share_have_a_profile_each() {
    let _alone = alone();
    let device = context();
    if tensorrt().family() != Family::TensorRt8 {
        return;
    }
    let stream = stream(&device);
    let plan = build(&device, Precision::Unshared);
    let engine = tensorrt().runtime_on(&device).unwrap().deserialize_engine(&plan).unwrap();
    assert_eq!(engine.profile_count(), Ok(2));
    assert_eq!(engine.profile_shapes("x", 0), engine.profile_shapes("x", 1));
    let context = || engine.create_execution_context(Activations::OwnedByContext).unwrap();
    let (first, mut second) = (context(), context());
    let refusal = second.set_optimization_profile(0, &stream).unwrap_err();
    println!("{refusal}");
    assert!(matches!(refusal, Error::TensorRt { .. }), "{refusal}");
    second.set_optimization_profile(1, &stream).unwrap();
    let outputs = [first, second].map(|context| run(context, &stream, 2, GraphScope::Off));
    assert_eq!(outputs[0], outputs[1]);
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn four_streams_at_once_give_the_bits_that_one_gives() {
    let _alone = alone();
    let device = context();
    let engine = engine(&device);
    let bits = |outputs: &[f32]| outputs.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let make = || (engine.create_execution_context(Activations::OwnedByContext).unwrap(), stream(&device));
    for graph in [GraphScope::Off, GraphScope::Compute, GraphScope::Copies] {
        for batch in [1, LARGEST_BATCH] {
            let (alone, its_stream) = make();
            let reference = bits(&run(alone, &its_stream, batch, graph));
            let contexts: Vec<_> = (0..4).map(|_| make()).collect();
            let inputs = vec![noise(batch); 100];
            thread::scope(|scope| {
                let run = |(context, stream)| run_all(context, &stream, graph, &inputs);
                let streams: Vec<_> = contexts.into_iter().map(|it| scope.spawn(move || run(it))).collect();
                for (index, stream) in streams.into_iter().enumerate() {
                    for outputs in stream.join().unwrap() {
                        assert_eq!(bits(&outputs), reference, "{graph:?}, batch {batch}, stream {index}");
                    }
                }
            });
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn two_hundred_sets_of_streams_leave_no_memory_behind() {
    let _alone = alone();
    let device = context();
    let engine = engine(&device);
    let cycle = || {
        for graph in [GraphScope::Off, GraphScope::Compute, GraphScope::Copies] {
            let context = engine.create_execution_context(Activations::OwnedByContext).unwrap();
            run(context, &stream(&device), LARGEST_BATCH, graph);
        }
    };
    // The first ones load kernels and fill the pools of the driver and the allocator, which stay.
    (0..20).for_each(|_| cycle());
    let before = (device.memory().unwrap().free_bytes, resident_bytes());
    (0..200).for_each(|_| cycle());
    let after = (device.memory().unwrap().free_bytes, resident_bytes());
    println!("free on the device and resident on the host, in bytes: {before:?} and {after:?}");
    assert!(before.0.saturating_sub(after.0) < 16 << 20, "{before:?} {after:?}");
    assert!(after.1.saturating_sub(before.1) < 64 << 20, "{before:?} {after:?}");
}

/// Memory of this process, from Linux's `/proc/self/statm`, which counts pages.
fn resident_bytes() -> u64 {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * PAGE
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn a_shape_outside_of_the_profile_is_refused_in_tensorrts_own_words() {
    let _alone = alone();
    let mut context = engine(&context()).create_execution_context(Activations::OwnedByContext).unwrap();
    let error = context.set_input_shape("x", &shape(LARGEST_BATCH + 1)).unwrap_err();
    println!("{error}");
    assert!(matches!(&error, Error::TensorRt { said, .. } if !said.is_empty()), "{error}");
    context.set_input_shape("x", &shape(2)).unwrap();
    assert!(context.infer_shapes().is_ok_and(|missing| missing.iter().all(|name| name != "x")));
    let output = context.engine().tensors()[1].name.clone();
    assert_eq!(context.tensor_shape(&output).unwrap()[0], 2);
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn broken_engines_are_refused_in_tensorrts_own_words() {
    let _alone = alone();
    let device = context();
    let runtime = tensorrt().runtime_on(&device).unwrap();
    let whole = serialized(&device);
    let cut = whole[..whole.len() / 2].to_vec();
    for broken in [b"no engine".to_vec(), vec![7; 4096], cut] {
        let error = runtime.deserialize_engine(&broken).err().unwrap();
        println!("{error}");
        assert!(matches!(&error, Error::TensorRt { said, .. } if !said.is_empty()), "{error}");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn lower_precisions_are_close_to_fp32() {
    let _alone = alone();
    let device = context();
    let stream = stream(&device);
    let make = |engine: &Engine| engine.create_execution_context(Activations::OwnedByContext).unwrap();
    let reference = run(make(&engine(&device)), &stream, 2, GraphScope::Off);
    let has_calibrator = matches!(tensorrt().family(), Family::TensorRt8 | Family::TensorRt10);
    for (precision, limit) in [(Precision::Fp16, 2e-2), (Precision::Int8, 0.5)] {
        if !has_calibrator {
            break;
        }
        let serialized = build(&device, precision);
        let engine = tensorrt().runtime_on(&device).unwrap().deserialize_engine(&serialized).unwrap();
        let outputs = run(make(&engine), &stream, 2, GraphScope::Off);
        println!("{outputs:?} instead of {reference:?}");
        assert!(outputs.iter().zip(&reference).all(|(a, b)| (a - b).abs() < limit), "{outputs:?}");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn layers_are_measured() {
    let _alone = alone();
    let device = context();
    let mut context = engine(&device).create_execution_context(Activations::OwnedByContext).unwrap();
    let times = context.measure_layers().unwrap();
    run(context, &stream(&device), 1, GraphScope::Off);
    let times = times.take();
    println!(
        "{} layers, {:?} in all",
        times.len(),
        times.iter().map(|layer| layer.time).sum::<std::time::Duration>()
    );
    assert!(times.len() > 10);
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn device_memory_returns_when_objects_are_dropped() {
    let _alone = alone();
    let device = context();
    let cycle = || {
        let engine = engine(&device);
        drop(engine.create_execution_context(Activations::OwnedByContext).unwrap());
    };
    // The first ones load kernels, which stay.
    (0..5).for_each(|_| cycle());
    let before = device.memory().unwrap().free_bytes;
    (0..200).for_each(|_| cycle());
    let after = device.memory().unwrap().free_bytes;
    println!("{before} and {after} bytes free");
    assert!(before.saturating_sub(after) < 16 << 20, "{before} to {after}");
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn what_a_build_an_engine_and_its_contexts_take_is_counted_and_returns() {
    let _alone = alone();
    let device = context();
    let built = MemoryAccount::new();
    let serialized = build_within(&device, Precision::Fp32, &built).unwrap();
    println!("the build took {} bytes at most and keeps {}", built.peak_bytes(), built.used_bytes());
    assert!(built.peak_bytes() > 0);
    assert_eq!(built.used_bytes(), 0);
    let account = MemoryAccount::new();
    let runtime = tensorrt().counted_runtime_on(&device, &account).unwrap();
    let engine = runtime.deserialize_engine(&serialized).unwrap();
    let loaded = account.used_bytes();
    let contexts = [Activations::UserManaged, Activations::OwnedByContext].map(|activations| {
        let before = account.used_bytes();
        let context = engine.create_execution_context(activations).unwrap();
        (context, account.used_bytes() - before)
    });
    println!("the engine took {loaded} bytes, contexts {} and {}", contexts[0].1, contexts[1].1);
    let activations = engine.device_memory_size(0).unwrap() as u64;
    assert!(contexts[1].1 >= contexts[0].1 + activations, "{activations} bytes of activations");
    drop((contexts, engine, runtime));
    assert_eq!(account.used_bytes(), 0);
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn a_build_with_too_little_memory_says_how_much_it_wanted() {
    let _alone = alone();
    let limited = MemoryAccount::limited_to(64 << 10);
    let error = build_within(&context(), Precision::Fp32, &limited).unwrap_err();
    println!("{error}");
    assert!(error.is_out_of_memory(), "{error}");
    assert!(error.to_string().contains("65536 are allowed"), "{error}");
    assert_eq!(limited.used_bytes(), 0);
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn an_engine_is_refitted_when_nobody_else_has_it() {
    let _alone = alone();
    let device = context();
    let runtime = tensorrt().runtime_on(&device).unwrap();
    assert!(!engine(&device).is_refittable().unwrap());
    let engine = runtime.deserialize_engine(&build(&device, Precision::Refittable)).unwrap();
    assert!(engine.is_refittable().unwrap());
    let clone = engine.clone();
    assert_eq!(Refitter::new(clone).err(), Some(Error::EngineInUse));
    let mut refitter = Refitter::new(engine).unwrap();
    let names = refitter.weights().unwrap();
    println!("{} weights, {} first", names.len(), names[0]);
    assert!(refitter.missing_weights().unwrap().is_empty());
    let one_too_few = refitter.set_weights(&names[0], DataType::Float32, Vec::new()).unwrap_err();
    println!("{one_too_few}");
    assert!(matches!(one_too_few, Error::TensorRt { .. }), "{one_too_few}");
    let engine = refitter.refit().unwrap();
    let context = engine.create_execution_context(Activations::OwnedByContext).unwrap();
    let outputs = run(context, &stream(&device), 1, GraphScope::Off);
    assert!((outputs.iter().sum::<f32>() - 1.0).abs() < 1e-3, "{outputs:?}");
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn a_configured_context_runs_as_any_other_from_10_11_on() {
    let _alone = alone();
    let device = context();
    let engine = engine(&device);
    let mut config = match engine.create_runtime_config() {
        Ok(config) => config,
        Err(error) => {
            assert!(matches!(error, Error::NotInThisVersion { .. }), "{error}");
            return;
        }
    };
    config.set_activations(Activations::OwnedByContext).unwrap();
    let configured = engine.create_configured_context(config).unwrap();
    let plain = engine.create_execution_context(Activations::OwnedByContext).unwrap();
    let outputs = [configured, plain].map(|context| run(context, &stream(&device), 1, GraphScope::Off));
    assert_eq!(outputs[0], outputs[1]);
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn an_output_whose_shape_depends_on_the_input_tells_it_after_each_execution() {
    let _alone = alone();
    let device = context();
    let stream = stream(&device);
    let engine =
        tensorrt().runtime_on(&device).unwrap().deserialize_engine(&build_non_zero(&device)).unwrap();
    let mut context = engine.create_execution_context(Activations::OwnedByContext).unwrap();
    let shape = context.note_output_shape("found").unwrap();
    let found = engine.tensors().iter().find(|tensor| tensor.name == "found").unwrap();
    let number_bytes = found.data_type.bit_count().unwrap() / 8;
    let compute = context.into_compute(Arc::clone(&stream), Box::new(|_| Vec::new()));
    let (input_bytes, output_bytes) = (16 * 4, 2 * 16 * number_bytes);
    let mut lane = Lane::new(&LaneSpec {
        streams: LaneStreams::single(&stream),
        input_byte_counts: vec![input_bytes],
        output_byte_counts: vec![output_bytes],
        wait: EventWait::AsContext,
    })
    .unwrap();
    let mut host = lane.host_buffers(PinnedMemory::Cached).unwrap();
    let job = Job {
        compute,
        batch_size: 1,
        input_byte_counts: vec![input_bytes],
        output_byte_counts: vec![output_bytes],
        graph: GraphScope::Off,
    };
    let job = lane.prepare(job, &mut host).unwrap();
    let clock = EventClock::new(stream.context()).unwrap();
    // Places in `x` by row and column; what comes out is all rows, then all columns.
    let cases: [&[(u8, u8)]; 3] = [&[(0, 3)], &[(0, 0), (0, 7), (1, 2), (1, 5)], &[]];
    for places in cases {
        host.inputs[0].fill(0);
        for &(row, column) in places {
            let start = (usize::from(row) * 8 + usize::from(column)) * 4;
            host.inputs[0][start..start + 4].copy_from_slice(&1.5_f32.to_ne_bytes());
        }
        lane.launch(job, host).unwrap();
        let finished = lane.wait(&clock).unwrap();
        finished.outcome.unwrap();
        host = finished.host;
        assert_eq!(shape.take(), Some(vec![2, i64::try_from(places.len()).unwrap()]));
        // The numbers are small: their first byte says all.
        let numbers = host.outputs[0].chunks_exact(number_bytes).map(|number| number[0]);
        let expected = places.iter().map(|place| place.0).chain(places.iter().map(|place| place.1));
        assert!(numbers.take(2 * places.len()).eq(expected), "{places:?}");
    }
}

fn build_non_zero(device: &Arc<CudaContext>) -> Vec<u8> {
    let builder = tensorrt().builder_on(device).unwrap();
    let mut network = builder.create_network().unwrap();
    parse_onnx(&mut network, NON_ZERO, None).unwrap();
    // Without a profile 8.6.0 makes no context of an engine whose shapes depend on data.
    let mut profile = builder.create_optimization_profile().unwrap();
    let shape = || vec![2, 8];
    profile.set_shapes("x", ShapeRange { min: shape(), opt: shape(), max: shape() }).unwrap();
    let mut config = builder.create_config().unwrap();
    config.add_optimization_profile(profile).unwrap();
    builder.build(&network, &config).unwrap().to_vec()
}
