//! CUDA and NVML on a real GPU: `cargo test -p thalweg-nvidia --test gpu -- --ignored --nocapture`.
//!
//! The binary needs nothing but the driver. It changes no setting of the GPU. Figures are printed; what is asserted
//! holds on any GPU of a data centre.
#![expect(clippy::unwrap_used, reason = "it is a test; its first functions are no `#[test]` themselves")]
#![expect(clippy::cast_possible_truncation, reason = "marks are bytes that wrap around")]

mod device;
mod sequence;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use thalweg_nvidia::cuda::{CudaContext, DeviceBuffer, Driver, EventClock, EventWait, PinnedMemory};
use thalweg_nvidia::execution::{
    Compute, ExecutionTimes, Finished, GraphScope, HostBuffers, Interval, Job, JobId, Lane, LaneSpec,
    LaneStreams,
};
use thalweg_nvidia::nvml::{GpmSampler, Nvml, NvmlDevice};
use thalweg_nvidia::{Error, Places};

use device::{alone, context, stream};
use sequence::{Bug, Hunt, wrong_outputs};

const MIB: usize = 1 << 20;
const GIB: f64 = (1_u64 << 30) as f64;

/// Large enough that the start of a copy does not count.
const LARGE: usize = 256 * MIB;

/// PCIe 4 x16 reaches 25 GiB/s with pinned memory, an H100 on PCIe 5 reached 51; pageable memory stays below 15.
const LEAST_PINNED_GIB_PER_S: f64 = 20.0;

fn three_streams(context: &Arc<CudaContext>) -> LaneStreams {
    LaneStreams { h2d: stream(context), compute: stream(context), d2h: stream(context) }
}

/// A lane with one input and one output of the same size, and its host buffers.
fn lane(streams: &LaneStreams, byte_count: usize) -> (Lane, HostBuffers) {
    let lane = Lane::new(&LaneSpec {
        streams: streams.clone(),
        input_byte_counts: vec![byte_count],
        output_byte_counts: vec![byte_count],
        wait: EventWait::AsContext,
    });
    let lane = lane.unwrap();
    let host = lane.host_buffers(PinnedMemory::Cached).unwrap();
    (lane, host)
}

fn job(compute: &Arc<Compute>, byte_count: usize, graph: GraphScope) -> Job {
    Job {
        compute: Arc::clone(compute),
        batch_size: 1,
        input_byte_counts: vec![byte_count],
        output_byte_counts: vec![byte_count],
        graph,
    }
}

/// Launches, waits by asking again and again, and gives the buffers and the times.
fn run(lane: &mut Lane, job: JobId, host: HostBuffers, clock: &EventClock) -> (HostBuffers, ExecutionTimes) {
    lane.launch(job, host).unwrap();
    loop {
        if let Some(Finished { host, outcome }) = lane.poll(clock) {
            return (host, outcome.unwrap());
        }
    }
}

fn seconds(interval: Interval) -> f64 {
    (interval.end - interval.start).as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn devices_are_listed_and_nvml_knows_each_by_its_uuid() {
    let _alone = alone();
    let driver = Driver::open(&Places::default()).unwrap();
    let nvml = Nvml::open(&Places::default()).unwrap();
    println!("CUDA {}, {}", driver.cuda_version().unwrap(), driver.library().path().display());
    let devices = driver.devices().unwrap();
    assert!(!devices.is_empty());
    for device in devices {
        let properties = device.properties();
        println!("{properties:#?}");
        assert!(properties.sm_count > 0 && properties.memory_total_bytes > 0);
        let same = driver.device(&properties.uuid).unwrap();
        assert_eq!(same.properties().index, properties.index);
        let state = nvml.device_by_uuid(&properties.uuid).unwrap().state();
        let total = state.memory_total_bytes.unwrap();
        assert!(total >= properties.memory_total_bytes, "NVML counts what the driver reserves too: {total}");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn bytes_come_back_through_each_kind_of_graph_on_one_and_on_three_streams() {
    let _alone = alone();
    let context = context();
    let clock = EventClock::new(&context).unwrap();
    for streams in [LaneStreams::single(&stream(&context)), three_streams(&context)] {
        let compute = Compute::copies(Arc::clone(&streams.compute));
        for graph in [GraphScope::Off, GraphScope::Compute, GraphScope::Copies] {
            let (mut lane, mut host) = lane(&streams, MIB);
            let job = lane.prepare(job(&compute, MIB, graph), &mut host).unwrap();
            let mut enqueue = Vec::new();
            for round in 0..100_u8 {
                host.inputs[0].fill(round);
                let (back, times) = run(&mut lane, job, host, &clock);
                assert!(back.outputs[0].iter().all(|byte| *byte == round), "{graph:?}, round {round}");
                let (call, times) = (times.enqueue, times.stages.unwrap());
                assert!(times.h2d.start <= times.h2d.end && times.h2d.end <= times.compute.start);
                assert!(times.compute.start <= times.compute.end && times.compute.end <= times.d2h.start);
                enqueue.push(seconds(call) * 1e6);
                host = back;
            }
            let nodes = lane.node_count(job);
            println!("{graph:?}: enqueue {:.1} us, {nodes:?} nodes in the graph", median(enqueue));
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn events_time_pinned_copies_at_the_speed_of_the_bus() {
    let _alone = alone();
    let context = context();
    let clock = EventClock::new(&context).unwrap();
    let streams = LaneStreams::single(&stream(&context));
    let (mut lane, mut host) = lane(&streams, LARGE);
    let compute = Compute::copies(Arc::clone(&streams.compute));
    let job = lane.prepare(job(&compute, LARGE, GraphScope::Off), &mut host).unwrap();
    let (mut h2d, mut d2h, mut d2d) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..11 {
        let (back, times) = run(&mut lane, job, host, &clock);
        host = back;
        let gib_per_s = |interval| LARGE as f64 / GIB / seconds(interval);
        let times = times.stages.unwrap();
        h2d.push(gib_per_s(times.h2d));
        d2h.push(gib_per_s(times.d2h));
        d2d.push(2.0 * gib_per_s(times.compute));
    }
    let (h2d, d2h, d2d) = (median(h2d), median(d2h), median(d2d));
    println!("pinned H2D {h2d:.1} GiB/s, D2H {d2h:.1} GiB/s; device copy, read and written, {d2d:.0} GiB/s");
    assert!(h2d > LEAST_PINNED_GIB_PER_S && d2h > LEAST_PINNED_GIB_PER_S);
    assert!(d2d > h2d);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn copies_of_two_lanes_overlap_in_both_directions() {
    const ROUNDS: usize = 16;
    let _alone = alone();
    let context = context();
    let clock = EventClock::new(&context).unwrap();
    let streams = three_streams(&context);
    let compute = Compute::nothing(Arc::clone(&streams.compute));
    let mut lanes: Vec<_> = (0..3).map(|_| lane(&streams, LARGE / 4)).collect();
    let jobs: Vec<_> = lanes
        .iter_mut()
        .map(|(lane, host)| lane.prepare(job(&compute, LARGE / 4, GraphScope::Off), host).unwrap())
        .collect();
    let mut hosts: Vec<_> = Vec::new();
    let mut times = Vec::new();
    let (mut lanes, first): (Vec<_>, Vec<_>) = lanes.into_iter().unzip();
    hosts.extend(first.into_iter().map(Some));
    for round in 0..ROUNDS * lanes.len() {
        let index = round % lanes.len();
        if let Some(finished) = lanes[index].wait(&clock) {
            times.push(finished.outcome.unwrap().stages.unwrap());
            hosts[index] = Some(finished.host);
        }
        lanes[index].launch(jobs[index], hosts[index].take().unwrap()).unwrap();
    }
    times.extend(lanes.iter_mut().map(|lane| lane.wait(&clock).unwrap().outcome.unwrap().stages.unwrap()));
    let start = times.iter().map(|times| times.h2d.start).min().unwrap();
    let end = times.iter().map(|times| times.d2h.end).max().unwrap();
    let busy: f64 = times.iter().map(|times| seconds(times.h2d) + seconds(times.d2h)).sum();
    let ratio = busy / (end - start).as_secs_f64();
    println!("copies in both directions: {ratio:.2} s of copies per second");
    assert!(ratio > 1.2, "with two copy engines both directions run at once");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn four_threads_never_mix_up_their_lanes_while_another_captures_graphs() {
    let _alone = alone();
    let context = context();
    let drive = |thread_index: u8| {
        let context = Arc::clone(&context);
        move || {
            let clock = EventClock::new(&context).unwrap();
            let streams = three_streams(&context);
            let compute = Compute::copies(Arc::clone(&streams.compute));
            let (mut lane, mut host) = lane(&streams, 64 * 1024);
            let graphs = [GraphScope::Off, GraphScope::Compute, GraphScope::Copies];
            let mut prepare = |graph| lane.prepare(job(&compute, 64 * 1024, graph), &mut host).unwrap();
            let jobs = graphs.map(&mut prepare);
            for round in 0..3000_usize {
                let mark = (round as u8).wrapping_mul(7).wrapping_add(thread_index);
                host.inputs[0].fill(mark);
                host.outputs[0].fill(!mark);
                let (back, _) = run(&mut lane, jobs[round % 3], host, &clock);
                assert!(
                    back.outputs[0].iter().all(|byte| *byte == mark),
                    "thread {thread_index}, round {round}"
                );
                host = back;
            }
        }
    };
    let drivers: Vec<_> = (0..4).map(|index| thread::spawn(drive(index))).collect();
    let streams = LaneStreams::single(&stream(&context));
    let compute = Compute::copies(Arc::clone(&streams.compute));
    let mut capture_count = 0;
    while drivers.iter().any(|driver| !driver.is_finished()) {
        let (mut lane, mut host) = lane(&streams, MIB);
        lane.prepare(job(&compute, MIB, GraphScope::Copies), &mut host).unwrap();
        capture_count += 1;
    }
    println!("{capture_count} captures meanwhile");
    drivers.into_iter().for_each(|driver| driver.join().unwrap());
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn thousands_of_numbers_come_out_in_their_own_outputs_and_a_planted_early_return_is_caught() {
    let _alone = alone();
    let context = context();
    for graph in [GraphScope::Off, GraphScope::Compute, GraphScope::Copies] {
        // A copy of so much takes some ten microseconds on a large GPU.
        let hunt = Hunt { graph, executions: 5000, ballast_byte_count: 16 * MIB, bug: Bug::None };
        assert_eq!(wrong_outputs(&context, hunt), 0, "{graph:?}");
        let planted = Hunt { executions: 500, bug: Bug::EarlyReturn, ..hunt };
        let wrong = wrong_outputs(&context, planted);
        println!("{graph:?}: {wrong} of 500 outputs are wrong with the planted bug");
        assert!(wrong > 0, "{graph:?}");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_capture_that_fails_says_so_and_leaves_its_lane_and_the_other_streams_alone() {
    let _alone = alone();
    let context = context();
    let clock = EventClock::new(&context).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let neighbour = {
        let (context, is_over) = (Arc::clone(&context), Arc::clone(&is_over));
        thread::spawn(move || {
            let clock = EventClock::new(&context).unwrap();
            let streams = three_streams(&context);
            let compute = Compute::copies(Arc::clone(&streams.compute));
            let (mut lane, mut host) = lane(&streams, MIB);
            let job = lane.prepare(job(&compute, MIB, GraphScope::Off), &mut host).unwrap();
            let mut round = 0_usize;
            while !is_over.load(Ordering::Relaxed) {
                round += 1;
                host.inputs[0].fill(round as u8);
                (host, _) = run(&mut lane, job, host, &clock);
                assert!(host.outputs[0].iter().all(|byte| *byte == round as u8), "round {round}");
            }
            round
        })
    };
    let streams = three_streams(&context);
    let ballast = [DeviceBuffer::new(&context, 4).unwrap(), DeviceBuffer::new(&context, 4).unwrap()];
    let (its_context, mut calls) = (Arc::clone(&context), 0);
    // Memory may not be taken on a thread that captures: the second call, that in the capture, breaks it.
    let compute = Compute::late_copies(Arc::clone(&streams.compute), ballast, move || {
        calls += 1;
        usize::from(calls == 2 && DeviceBuffer::new(&its_context, 64 * MIB).is_ok())
    });
    let (mut lane, mut host) = lane(&streams, MIB);
    let error = lane.prepare(job(&compute, MIB, GraphScope::Compute), &mut host).unwrap_err();
    println!("{error}");
    assert!(matches!(error, Error::CannotCapture { .. }), "{error}");
    let job = lane.prepare(job(&compute, MIB, GraphScope::Off), &mut host).unwrap();
    host.inputs[0].fill(7);
    let (host, _) = run(&mut lane, job, host, &clock);
    assert!(host.outputs[0].iter().all(|byte| *byte == 7));
    is_over.store(true, Ordering::Relaxed);
    println!("{} executions of the neighbour", neighbour.join().unwrap());
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn making_and_dropping_two_hundred_times_leaves_no_memory_behind() {
    let _alone = alone();
    let context = context();
    let cycle = || {
        let clock = EventClock::new(&context).unwrap();
        let streams = three_streams(&context);
        let compute = Compute::copies(Arc::clone(&streams.compute));
        let (mut lane, mut host) = lane(&streams, 8 * MIB);
        let job = lane.prepare(job(&compute, 8 * MIB, GraphScope::Copies), &mut host).unwrap();
        let (host, _) = run(&mut lane, job, host, &clock);
        // Dropped in flight, the lane waits.
        lane.launch(job, host).unwrap();
    };
    // The driver takes memory for its own pools at first.
    (0..10).for_each(|_| cycle());
    let before = context.memory().unwrap();
    (0..200).for_each(|_| cycle());
    let after = context.memory().unwrap();
    println!("free before {}, after {}", before.free_bytes, after.free_bytes);
    assert!(before.free_bytes.saturating_sub(after.free_bytes) <= 2 * MIB as u64, "{before:?} {after:?}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn contexts_are_released_and_made_again() {
    let _alone = alone();
    for _ in 0..5 {
        let context = context();
        let buffer = DeviceBuffer::new(&context, 64 * MIB).unwrap();
        drop(context);
        stream(buffer.context()).zero(&buffer).unwrap();
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn out_of_memory_is_an_error_that_ends_nothing() {
    let _alone = alone();
    let context = context();
    let error = DeviceBuffer::new(&context, 1 << 42).unwrap_err();
    println!("{error}");
    assert!(!error.is_sticky() && error.to_string().contains("CUDA_ERROR_OUT_OF_MEMORY"));
    let buffer = DeviceBuffer::new(&context, 4).unwrap();
    let stream = stream(&context);
    stream.upload(&[1, 2, 3, 4], &buffer).unwrap();
    let mut back = [0; 4];
    stream.download(&buffer, &mut back).unwrap();
    assert_eq!(back, [1, 2, 3, 4]);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn events_lie_on_the_clock_of_the_host() {
    let _alone = alone();
    let context = context();
    let mut clock = EventClock::new(&context).unwrap();
    let streams = LaneStreams::single(&stream(&context));
    let compute = Compute::copies(Arc::clone(&streams.compute));
    let (mut lane, mut host) = lane(&streams, MIB);
    let job = lane.prepare(job(&compute, MIB, GraphScope::Off), &mut host).unwrap();
    for _ in 0..50 {
        let before = Instant::now();
        let (back, times) = run(&mut lane, job, host, &clock);
        let after = Instant::now();
        host = back;
        let slack = clock.uncertainty() + Duration::from_micros(20);
        let times = times.stages.unwrap();
        assert!(times.h2d.start + slack >= before && times.d2h.end <= after + slack);
        thread::sleep(Duration::from_millis(10));
    }
    println!("uncertainty of the clock: {:?}", clock.uncertainty());
    assert!(clock.uncertainty() < Duration::from_millis(1));
    clock.renew().unwrap();
    assert!(!clock.is_stale());
}

/// NVML's view of the context's device.
fn nvml_device(context: &CudaContext) -> NvmlDevice {
    let nvml = Nvml::open(&Places::default()).unwrap();
    nvml.device_by_uuid(&context.properties().uuid).unwrap()
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn the_state_of_the_device_is_read() {
    let _alone = alone();
    let state = nvml_device(&context()).state();
    println!("{state:#?}");
    assert!(state.sm_clock_mhz.unwrap() > 0 && state.memory_clock_mhz.unwrap() > 0);
    assert!(state.power_watts.unwrap() > 0.0);
    assert!(state.memory_used_bytes.unwrap() <= state.memory_total_bytes.unwrap());
    assert!((0.0..=1.0).contains(&state.gpu_utilisation.unwrap()));
    state.throttle_reasons.unwrap();
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn gpm_tells_copies_on_the_device_from_copies_over_the_bus() {
    let _alone = alone();
    let context = context();
    let mut sampler = match GpmSampler::start(&nvml_device(&context)) {
        Ok(sampler) => sampler,
        Err(error) => return println!("no GPM here: {error}"),
    };
    let clock = EventClock::new(&context).unwrap();
    let streams = LaneStreams::single(&stream(&context));
    let (mut lane, mut host) = lane(&streams, LARGE);
    let over_the_bus = job(&Compute::nothing(Arc::clone(&streams.compute)), LARGE, GraphScope::Off);
    let over_the_bus = lane.prepare(over_the_bus, &mut host).unwrap();
    let on_the_device = Job {
        input_byte_counts: vec![0],
        output_byte_counts: vec![0],
        ..job(&Compute::copies(Arc::clone(&streams.compute)), 0, GraphScope::Off)
    };
    let on_the_device = lane.prepare(on_the_device, &mut host).unwrap();
    let mut load = |job, host| {
        sampler.read().unwrap();
        let start = Instant::now();
        let mut host = host;
        while start.elapsed() < Duration::from_secs(1) {
            host = run(&mut lane, job, host, &clock).0;
        }
        (sampler.read().unwrap(), host)
    };
    let (bus, host) = load(over_the_bus, host);
    let (device, _) = load(on_the_device, host);
    println!("over the bus: {bus:#?}\non the device: {device:#?}");
    let received = bus.pcie_rx_bytes_per_s.unwrap();
    assert!(received > 5.0 * GIB, "half of the time H2D runs");
    assert!(device.dram_utilisation.clone().unwrap() > 0.3);
    assert!(device.dram_utilisation.unwrap() > bus.dram_utilisation.unwrap());
    assert!(device.pcie_rx_bytes_per_s.unwrap() < received / 2.0);
}
