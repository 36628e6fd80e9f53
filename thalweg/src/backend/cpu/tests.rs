use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::test_models::*;
use super::*;
use crate::backend::{
    BuildOrder, Completion, CudaGraph, Executor, ExecutorSpec, Outcome, Slot, TimesTaken, Transfers, Wait,
    Waker,
};
use crate::model::proto::NodeProto;
use crate::model::proto::tensor_proto::DataType as OnnxDataType;
use crate::units::Clock;

fn build_spec(max_batch_size: usize) -> BuildSpec {
    BuildSpec { max_batch_size, ..BuildSpec::default() }
}

fn engine(model: &Model, max_batch_size: usize) -> Arc<dyn Engine> {
    let backend = CpuBackend::new();
    backend.load(&backend.build(&BuildOrder::new(model, &build_spec(max_batch_size))).unwrap()).unwrap()
}

fn executor_spec(streams: usize, depth: usize, batch_size: usize) -> ExecutorSpec {
    ExecutorSpec {
        streams,
        depth,
        batch_size,
        batch_steps: vec![batch_size],
        threads_per_stream: 1,
        cuda_graph: CudaGraph::Off,
        copy_lanes: None,
        wait: Wait::Block,
        transfers: Transfers::On,
        stage_times: TimesTaken::Each,
        fault: None,
        clock: Clock::start(),
    }
}

fn executor(model: &Model, depth: usize, batch_size: usize) -> Box<dyn Executor> {
    let mut executors = engine(model, batch_size).executors(&executor_spec(1, depth, batch_size)).unwrap();
    executors.pop().unwrap()
}

fn wait(executor: &mut Box<dyn Executor>) -> Completion {
    loop {
        if let Some(completion) = executor.poll() {
            return completion;
        }
        thread::sleep(Duration::from_micros(50));
    }
}

fn run(executor: &mut Box<dyn Executor>, slot: Slot) -> Completion {
    executor.enqueue(slot).map_err(|rejected| rejected.error).unwrap();
    wait(executor)
}

/// Runs a model once on the elements of its single input.
pub(super) fn run_once<T: bytemuck::Pod>(model: &Model, input: &[T]) -> Slot {
    let mut executor = executor(model, 1, 1);
    let mut slot = executor.take_slot().unwrap();
    slot.inputs[0].elements_mut::<T>().copy_from_slice(input);
    let completion = run(&mut executor, slot);
    assert!(matches!(completion.outcome, Outcome::Done), "{:?}", completion.outcome);
    completion.slot
}

fn build_error(model: &Model, max_batch_size: usize) -> String {
    CpuBackend::new().build(&BuildOrder::new(model, &build_spec(max_batch_size))).unwrap_err().to_string()
}

#[test]
fn computes_the_right_numbers_at_every_batch_size() {
    let mut executor = executor(&dense(), 1, 4);
    let mut slot = executor.take_slot().unwrap();
    for batch_size in [4, 1, 3, 2] {
        for sample in 0..batch_size {
            let x = sample as f32;
            slot.inputs[0].samples_mut(sample..sample + 1).copy_from_slice(bytemuck::cast_slice(&[x, 1.0]));
        }
        slot.batch_size = batch_size;
        slot = run(&mut executor, slot).slot;
        let expected: Vec<f32> = (0..batch_size).flat_map(|sample| [sample as f32 + 2.5, 0.0]).collect();
        assert_eq!(slot.outputs[0].shape(), [batch_size, 2]);
        assert_eq!(slot.outputs[0].elements::<f32>(), expected);
    }
}

#[test]
fn types_that_rten_lacks_come_back_as_declared() {
    let one = weights("one", OnnxDataType::Int64, &[1], bytemuck::cast_slice(&[1i64]));
    let nodes = vec![
        node("Add", &["x", "one"], &["next"]),
        node("Less", &["x", "one"], &["is_small"]),
        node("Identity", &["x"], &["same"]),
    ];
    let long = |name| value(name, OnnxDataType::Int64, &[BATCH, 3]);
    let outputs = vec![long("next"), value("is_small", OnnxDataType::Bool, &[BATCH, 3]), long("same")];
    let slot = run_once(&model(graph(nodes, vec![one], vec![long("x")], outputs)), &[-7i64, 0, 5]);
    assert_eq!(slot.outputs[0].elements::<i64>(), [-6, 1, 6]);
    assert_eq!(slot.outputs[1].elements::<u8>(), [1, 1, 0]);
    assert_eq!(slot.outputs[2].elements::<i64>(), [-7, 0, 5]);
}

#[test]
fn two_executors_with_two_slots_return_all_they_were_given() {
    let mut executors = engine(&dense(), 1).executors(&executor_spec(2, 2, 1)).unwrap();
    for (stream, executor) in executors.iter_mut().enumerate() {
        for index in 0..2 {
            let mut slot = executor.take_slot().unwrap();
            assert_eq!((slot.id.executor, slot.id.index), (stream, index));
            slot.inputs[0].elements_mut::<f32>()[0] = (10 * stream + index) as f32;
            executor.enqueue(slot).map_err(|rejected| rejected.error).unwrap();
        }
        assert!(executor.take_slot().is_none());
    }
    for (stream, executor) in executors.iter_mut().enumerate() {
        for index in 0..2 {
            let slot = wait(executor).slot;
            assert_eq!((slot.id.executor, slot.id.index), (stream, index));
            assert_eq!(slot.outputs[0].elements::<f32>()[0], (10 * stream + index) as f32 + 0.5);
        }
    }
}

#[test]
fn a_failed_execution_leaves_the_next_one_alone() {
    let mut executor = executor(&lookup(), 1, 1);
    let mut slot = executor.take_slot().unwrap();
    slot.inputs[0].elements_mut::<i64>()[0] = 7;
    let failed = run(&mut executor, slot);
    let Outcome::Failed(error) = failed.outcome else { panic!("{:?}", failed.outcome) };
    assert!(error.to_string().starts_with("execution failed on stream 0, slot 0: operator"), "{error}");

    let mut slot = failed.slot;
    slot.inputs[0].elements_mut::<i64>()[0] = 2;
    let done = run(&mut executor, slot);
    assert!(matches!(done.outcome, Outcome::Done));
    assert_eq!(done.slot.outputs[0].elements::<f32>(), [30.0]);
}

#[test]
fn a_panic_loses_its_executor_but_no_slot_and_no_other_executor() {
    let mut executors = engine(&negated(), 1).executors(&executor_spec(2, 2, 1)).unwrap();
    let mut healthy = executors.pop().unwrap();
    let mut broken = executors.pop().unwrap();
    let (mut first, second) = (broken.take_slot().unwrap(), broken.take_slot().unwrap());
    first.inputs[0].elements_mut::<i32>()[0] = i32::MIN;
    for slot in [first, second] {
        broken.enqueue(slot).map_err(|rejected| rejected.error).unwrap();
    }
    for index in 0..2 {
        let completion = wait(&mut broken);
        let Outcome::Lost(error) = completion.outcome else { panic!("{:?}", completion.outcome) };
        assert!(error.to_string().contains("rten panicked: attempt to divide with overflow"), "{error}");
        assert_eq!(completion.slot.id.index, index);
    }
    let slot = healthy.take_slot().unwrap();
    assert!(matches!(run(&mut healthy, slot).outcome, Outcome::Done));
}

#[test]
fn enqueue_returns_long_before_the_execution_ends() {
    let spec = executor_spec(1, 1, 1);
    let mut executor = engine(&slow(), 1).executors(&spec).unwrap().pop().unwrap();
    let slot = executor.take_slot().unwrap();
    executor.enqueue(slot).map_err(|rejected| rejected.error).unwrap();
    let returned = spec.clock.now();
    let times = wait(&mut executor).times;
    assert!(returned < times.compute.end, "returned at {returned}, computed until {}", times.compute.end);
    assert!(times.enqueue.end <= times.h2d.start && times.h2d.end <= times.compute.start);
    assert!(times.compute.end <= times.d2h.start && times.d2h.start <= times.d2h.end);
}

#[test]
fn the_waker_is_called_once_for_each_execution() {
    let woken = Arc::new(AtomicUsize::new(0));
    let mut executor = executor(&dense(), 1, 1);
    let mut slot = executor.take_slot().unwrap();
    let counter = Arc::clone(&woken);
    executor.wake_with(Waker::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    for _ in 0..3 {
        slot = run(&mut executor, slot).slot;
    }
    // Joins the worker, which calls the waker last.
    drop(executor);
    assert_eq!(woken.load(Ordering::SeqCst), 3);
}

#[test]
fn dropping_an_executor_waits_for_the_execution_it_is_in_and_no_other() {
    let mut executor = executor(&slow(), 8, 1);
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    executor.wake_with(Waker::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    while let Some(slot) = executor.take_slot() {
        executor.enqueue(slot).map_err(|rejected| rejected.error).unwrap();
    }
    drop(executor);
    assert!(woken.load(Ordering::SeqCst) < 8);
}

#[test]
fn a_batch_that_the_executor_cannot_run_comes_back_with_its_slot() {
    let mut executor = executor(&dense(), 1, 2);
    let mut slot = executor.take_slot().unwrap();
    slot.batch_size = 3;
    let rejected = executor.enqueue(slot).unwrap_err();
    assert_eq!(rejected.error.to_string(), "batch 3: this executor runs 1 to 2 at once");
    assert_eq!(rejected.slot.batch_size, 3);
}

#[test]
fn impossible_executors_are_refused_with_the_setting_that_is_wrong() {
    let engine = engine(&dense(), 4);
    let error = |spec| Arc::clone(&engine).executors(&spec).err().unwrap().to_string();
    assert_eq!(error(executor_spec(0, 1, 1)), "streams 0: must be at least 1");
    assert_eq!(error(executor_spec(1, 0, 1)), "depth 0: must be at least 1");
    assert_eq!(error(executor_spec(1, 1, 5)), "batch 5: the engine was built for 1 to 4");
    let no_threads = ExecutorSpec { threads_per_stream: 0, ..executor_spec(1, 1, 1) };
    assert_eq!(error(no_threads), "threads-per-stream 0: must be at least 1");
    assert_eq!(error(executor_spec(2000, 1, 1)), "streams 2000: 2000 threads in all, at most 1024 can be");
    let deep = error(executor_spec(1, usize::MAX / 2, 1));
    assert!(deep.starts_with("depth 9223372036854775807: inputs and outputs need"), "{deep}");
}

fn of_domain(domain: &str, node: NodeProto) -> NodeProto {
    NodeProto { domain: Some(domain.into()), ..node }
}

fn chain(nodes: Vec<NodeProto>) -> Model {
    let ends = |name| vec![value(name, OnnxDataType::Float, &[BATCH, 4])];
    model(graph(nodes, Vec::new(), ends("x"), ends("y")))
}

#[test]
fn a_missing_operator_is_named_with_its_domain_and_node() {
    let made_up = of_domain("com.example", node("Frobnicate", &["x"], &["a"]));
    let made_up = NodeProto { name: Some("frob".into()), ..made_up };
    let known = of_domain("com.microsoft", node("QuickGelu", &["a"], &["b"]));
    let unknown = of_domain("com.microsoft", node("BiasSplitGelu", &["b", "b"], &["y"]));
    assert_eq!(
        build_error(&chain(vec![made_up, known, unknown]), 1),
        "the cpu backend cannot run operator `com.example.Frobnicate` (node `frob`): \
         rten 0.27.0 has no implementation of it, nor of `com.microsoft.BiasSplitGelu`"
    );
}

#[test]
fn operators_of_microsoft_that_rten_has_are_accepted() {
    let quick = of_domain("com.microsoft", node("QuickGelu", &["x"], &["y"]));
    let slot = run_once(&chain(vec![quick]), &[0f32; 4]);
    assert_eq!(slot.outputs[0].elements::<f32>(), [0.0; 4]);
}

#[test]
fn a_missing_operator_is_found_inside_a_branch() {
    let branch = |op_type: &str| {
        let outputs = vec![value("inner", OnnxDataType::Float, &[BATCH, 4])];
        graph(vec![node(op_type, &["x"], &["inner"])], Vec::new(), Vec::new(), outputs)
    };
    let choice = with_attribute(node("If", &["condition"], &["y"]), subgraph("then_branch", branch("Relu")));
    let choice = with_attribute(choice, subgraph("else_branch", branch("Frobnicate")));
    let condition = weights("condition", OnnxDataType::Bool, &[], &[1]);
    let ends = |name| vec![value(name, OnnxDataType::Float, &[BATCH, 4])];
    let model = model(graph(vec![choice], vec![condition], ends("x"), ends("y")));
    let error = build_error(&model, 1);
    assert!(error.starts_with("the cpu backend cannot run operator `Frobnicate`: rten"), "{error}");
}

#[test]
fn an_attribute_that_rten_lacks_is_told_about_its_operator() {
    let unknown = with_attribute(node("Relu", &["x"], &["y"]), int("slope", 2));
    let unknown = NodeProto { name: Some("act".into()), ..unknown };
    let error = build_error(&chain(vec![unknown]), 1);
    assert!(error.starts_with("the cpu backend cannot run operator `Relu` (node `act`): "), "{error}");
}

#[test]
fn a_type_that_rten_lacks_is_refused_by_the_tensors_name() {
    let ends = |name| vec![value(name, OnnxDataType::Uint16, &[BATCH, 4])];
    let model = model(graph(vec![node("Identity", &["x"], &["y"])], Vec::new(), ends("x"), ends("y")));
    let error = build_error(&model, 1);
    assert!(error.starts_with("data type of `x`: expected one that the cpu backend can run"), "{error}");
}

#[test]
fn a_network_with_the_batch_built_in_runs_one_at_a_time() {
    let shape = weights("shape", OnnxDataType::Int64, &[2], bytemuck::cast_slice(&[1i64, 4]));
    let nodes = vec![node("Reshape", &["x", "shape"], &["y"])];
    let inputs = vec![value("x", OnnxDataType::Float, &[BATCH, 2, 2])];
    let outputs = vec![value("y", OnnxDataType::Float, &[BATCH, 4])];
    let model = model(graph(nodes, vec![shape], inputs, outputs));
    let single = engine(&model, 1);
    assert_eq!(single.signature().batch_sizes, 1..=1);
    assert_eq!(single.signature().outputs[0].shape_at(1), [1, 4]);
    let error = build_error(&model, 4);
    assert!(error.starts_with("batch 4: "), "{error}");
}

#[test]
fn a_convolution_without_optional_attributes_runs() {
    let kernel = floats("w", &[1, 1, 2, 2], &[1.0, 1.0, 1.0, 1.0]);
    let nodes = vec![node("Conv", &["x", "w"], &["y"])];
    let inputs = vec![value("x", OnnxDataType::Float, &[BATCH, 1, 3, 3])];
    let outputs = vec![value("y", OnnxDataType::Float, &[BATCH, 1, 2, 2])];
    let model = model(graph(nodes, vec![kernel], inputs, outputs));
    let slot = run_once(&model, &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    assert_eq!(slot.outputs[0].elements::<f32>(), [12.0, 16.0, 24.0, 28.0]);
}

#[test]
fn an_engine_of_another_backend_is_refused() {
    let backend = CpuBackend::new();
    let built = backend.build(&BuildOrder::new(&dense(), &build_spec(1))).unwrap();
    let foreign = SerializedEngine { backend: "tensorrt".into(), ..built };
    let error = backend.load(&foreign).err().unwrap().to_string();
    assert_eq!(error, "engine of the tensorrt backend: the cpu backend only loads its own");
}

#[test]
fn the_device_names_the_processor_and_every_version() {
    let device = CpuBackend::new().device().clone();
    assert!(device.core_count > 0 && !device.name.is_empty());
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
    let entry = format!("name = \"rten\"\nversion = \"{}\"\n", device.versions["rten"]);
    assert!(lock.contains(&entry), "the lock file has another version than {entry}");
}

/// Sums that overflow 16 bits, with zero points for each kernel: exact on every processor.
#[test]
fn products_of_8_bit_integers_do_not_overflow() {
    let kernels = weights("w", OnnxDataType::Uint8, &[2, 1, 1, 4], &[255, 255, 255, 255, 0, 1, 2, 3]);
    let zeros = [
        weights("x_zero", OnnxDataType::Uint8, &[], &[5]),
        weights("w_zero", OnnxDataType::Uint8, &[2], &[0, 1]),
    ];
    let nodes = vec![node("ConvInteger", &["x", "w", "x_zero", "w_zero"], &["y"])];
    let inputs = vec![value("x", OnnxDataType::Uint8, &[BATCH, 1, 1, 4])];
    let outputs = vec![value("y", OnnxDataType::Int32, &[BATCH, 2, 1, 1])];
    let initializers = std::iter::once(kernels).chain(zeros).collect();
    let slot = run_once(&model(graph(nodes, initializers, inputs, outputs)), &[255u8, 255, 255, 5]);
    // 3 x 250 x 255, and 250 x (-1 + 0 + 1).
    assert_eq!(slot.outputs[0].elements::<i32>(), [191_250, 0]);
}
