//! Pools of a real engine on a real GPU: `cargo test --release -p thalweg --test pools_on_a_gpu -- --ignored
//! --nocapture`.
//!
//! TensorRT is looked for on the loader's path (`LD_LIBRARY_PATH`); the model is a part of the binary.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use thalweg::backend::{self, BuildOptions, BuildOrder, BuildSpec, CudaGraph, Engine, Surroundings};
use thalweg::model::Model;
use thalweg::pool::{Configuration, ExecutionPool, LocalPool, Order, Producer, Reservation, Response};
use thalweg::units::Clock;
use thalweg_nvidia::Places;
use thalweg_nvidia::cuda::{CudaContext, Driver, HostWait};

const MODEL: &[u8] = include_bytes!("../../models/ppocr_cls.onnx");
const LARGEST_BATCH: usize = 4;
const GRAPHS: [CudaGraph; 3] = [CudaGraph::Off, CudaGraph::Compute, CudaGraph::Copies];

/// One test at a time: they measure the same device.
fn alone() -> MutexGuard<'static, ()> {
    static DEVICE: Mutex<()> = Mutex::new(());
    DEVICE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn device() -> Arc<CudaContext> {
    let driver = Driver::open(&Places::default()).unwrap();
    driver.device("0").unwrap().retain_primary_context(HostWait::Unchanged).unwrap()
}

/// Built once: it takes a while.
fn engine() -> Arc<dyn Engine> {
    static LOADED: OnceLock<Arc<dyn Engine>> = OnceLock::new();
    let load = || {
        let backend = backend::open("tensorrt", &Surroundings::default()).unwrap();
        let model = Model::from_bytes(MODEL.into(), "ppocr_cls.onnx").unwrap();
        let spec = BuildSpec {
            input_shapes: BTreeMap::from([("x".to_owned(), vec![1, 3, 48, 192])]),
            max_batch_size: LARGEST_BATCH,
            options: BuildOptions { optimization_level: Some(1), ..BuildOptions::default() },
        };
        backend.load(&backend.build(&BuildOrder::new(&model, &spec)).unwrap()).unwrap()
    };
    Arc::clone(LOADED.get_or_init(load))
}

fn configuration(streams: usize, cuda_graph: CudaGraph) -> Configuration {
    Configuration {
        streams,
        depth: 2,
        batch_size: LARGEST_BATCH,
        submitters: 1,
        cuda_graph,
        ..Configuration::default()
    }
}

fn pool(streams: usize, cuda_graph: CudaGraph) -> ExecutionPool {
    ExecutionPool::start(engine(), &configuration(streams, cuda_graph), Clock::start()).unwrap()
}

/// Sends requests with these numbers, each a whole batch of noise of its own, and gives their outputs bit by bit.
fn answers(pool: &ExecutionPool, numbers: Range<u64>) -> BTreeMap<u64, Vec<u32>> {
    let count = numbers.clone().count();
    std::thread::scope(|scope| {
        let producer = pool.producer();
        scope.spawn(move || numbers.for_each(|number| send(&producer, number)));
        let responses = pool.responses(Order::Completion).take(count);
        responses.map(|response| (response.tag(), bits(&response))).collect()
    })
}

/// The same, each slot filled again as soon as its outputs were read.
fn answers_of_kept_slots(pool: &mut LocalPool, slots: u64, numbers: Range<u64>) -> BTreeMap<u64, Vec<u32>> {
    let producer = pool.producer();
    let (first, mut rest) = (numbers.start..numbers.start + slots, numbers.start + slots..numbers.end);
    std::thread::scope(|scope| {
        let sender = producer.clone();
        scope.spawn(move || first.for_each(|number| send(&sender, number)));
        let mut next = || pool.next_within(Duration::from_secs(20)).unwrap();
        // Nobody keeps a slot while others still wait for theirs.
        let mut read: VecDeque<Response> = (0..slots).map(|_| next()).collect();
        let mut answered = BTreeMap::new();
        for _ in numbers {
            let response = read.pop_front().unwrap_or_else(&mut next);
            answered.insert(response.tag(), bits(&response));
            if let Some(number) = rest.next() {
                fill(producer.refill(response).unwrap(), number);
            }
        }
        answered
    })
}

fn send(producer: &Producer, number: u64) {
    fill(producer.reserve(LARGEST_BATCH).unwrap(), number);
}

fn fill(mut reservation: Reservation, number: u64) {
    // A linear congruential generator is noise enough (constants of Numerical Recipes).
    let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let states = std::iter::successors(Some(u32::try_from(number).unwrap()), next).skip(1);
    let values = reservation.input_as::<f32>("x").unwrap();
    values.iter_mut().zip(states).for_each(|(value, state)| *value = (state >> 16) as f32 / 65_536.0);
    reservation.commit(number);
}

fn bits(response: &Response) -> Vec<u32> {
    assert!(response.error().is_none(), "{:?}", response.error());
    response.output_as::<f32>(0).iter().map(|value| value.to_bits()).collect()
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn outputs_on_every_stream_are_the_bits_that_one_stream_gives() {
    let _alone = alone();
    const DIFFERENT: u64 = 24;
    let single = pool(1, CudaGraph::Off);
    let reference = answers(&single, 0..DIFFERENT);
    single.stop().unwrap();
    let distinct: std::collections::BTreeSet<_> = reference.values().collect();
    assert_eq!(distinct.len() as u64, DIFFERENT, "the network does not tell the inputs apart");
    for graph in GRAPHS {
        for streams in [2, 8] {
            let pool = pool(streams, graph);
            for _ in 0..100 {
                assert_eq!(answers(&pool, 0..DIFFERENT), reference, "{streams} streams, {graph:?}");
            }
            pool.stop().unwrap();
            let (configuration, slots) = (configuration(streams, graph), 2 * streams as u64);
            let mut pool = LocalPool::start(engine(), &configuration, Clock::start()).unwrap();
            for _ in 0..100 {
                let kept = answers_of_kept_slots(&mut pool, slots, 0..DIFFERENT);
                assert_eq!(kept, reference, "{streams} streams, {graph:?}, slots that are kept");
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn two_hundred_pools_leave_no_memory_behind() {
    let _alone = alone();
    let device = device();
    let cycle = |index: usize| {
        let pool = pool(2, GRAPHS[index % GRAPHS.len()]);
        assert_eq!(answers(&pool, 0..8).len(), 8);
        pool.stop().unwrap();
    };
    // The first ones load kernels and fill the pools of the driver and the allocator, which stay.
    (0..20).for_each(cycle);
    let before = (device.memory().unwrap().free_bytes, resident_bytes());
    (0..200).for_each(cycle);
    let after = (device.memory().unwrap().free_bytes, resident_bytes());
    println!(
        "bytes free on the device and resident on the host: {before:?} before 200 pools, {after:?} after"
    );
    assert!(before.0.saturating_sub(after.0) < 16 << 20, "{before:?} {after:?}");
    assert!(after.1.saturating_sub(before.1) < 64 << 20, "{before:?} {after:?}");
}

/// Memory of this process, from Linux's `/proc/self/statm`, which counts pages.
fn resident_bytes() -> u64 {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * PAGE
}

/// Small requests that share slots, on many streams, so that slots are seldom full. Another batch may have other kernels, so
/// each is compared with what it gets alone at the same size of execution.
#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn requests_of_one_sample_get_the_bits_that_they_get_alone() {
    let _alone = alone();
    const DIFFERENT: u64 = 24;
    // By number of the request, with the size of the execution that it was in.
    let answers =
        |configuration: Configuration, senders: u64, rounds: usize| -> Vec<(u64, usize, Vec<u32>)> {
            let pool = ExecutionPool::start(engine(), &configuration, Clock::start()).unwrap();
            let mut answers = Vec::new();
            for _ in 0..rounds {
                std::thread::scope(|scope| {
                    for sender in 0..senders {
                        let producer = pool.producer();
                        let numbers = (0..DIFFERENT).filter(move |number| number % senders == sender);
                        scope.spawn(move || numbers.for_each(|it| fill(producer.reserve(1).unwrap(), it)));
                    }
                    let responses =
                        pool.responses(Order::Completion).take(usize::try_from(DIFFERENT).unwrap());
                    answers.extend(responses.map(|it| (it.tag(), it.batch_size(), bits(&it))));
                });
            }
            pool.stop().unwrap();
            answers
        };
    let steps = [1, 2, LARGEST_BATCH];
    let alone = steps.map(|batch_size| Configuration { batch_size, ..configuration(1, CudaGraph::Off) });
    let reference: BTreeMap<_, _> = alone
        .into_iter()
        .flat_map(|alone| answers(alone, 1, 1))
        .map(|(number, step, bits)| ((step, number), bits))
        .collect();
    let distinct: std::collections::BTreeSet<_> = reference.values().collect();
    assert!(distinct.len() as u64 >= DIFFERENT, "the network does not tell the inputs apart");
    for graph in GRAPHS {
        for streams in [1, 8] {
            for smallest_batch in [None, Some(1)] {
                let configuration = Configuration { smallest_batch, ..configuration(streams, graph) };
                let mut sizes = std::collections::BTreeSet::new();
                for (number, step, bits) in answers(configuration, 5, 100) {
                    assert_eq!(Some(&bits), reference.get(&(step, number)), "{configuration}: {step}");
                    sizes.insert(step);
                }
                println!("{configuration}: executions of {sizes:?} samples");
                assert!(smallest_batch.is_some() || sizes == [LARGEST_BATCH].into());
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and a full TensorRT"]
fn what_does_not_fit_the_profile_is_refused_and_the_other_requests_go_on() {
    let _alone = alone();
    let pool = pool(4, CudaGraph::Compute);
    let reference = answers(&pool, 0..4);
    std::thread::scope(|scope| {
        let producer = pool.producer();
        let refused = scope.spawn(move || {
            let too_large = producer.reserve(LARGEST_BATCH + 1).err().unwrap();
            let configuration = Configuration { batch_size: LARGEST_BATCH + 1, ..Configuration::default() };
            let no_pool = ExecutionPool::start(engine(), &configuration, Clock::start()).err().unwrap();
            (too_large, no_pool)
        });
        (0..50).for_each(|_| assert_eq!(answers(&pool, 0..4), reference));
        let (too_large, no_pool) = refused.join().unwrap();
        println!("{too_large}; {no_pool}");
    });
    pool.stop().unwrap();
}
