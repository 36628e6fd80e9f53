//! CUPTI on a real GPU: `cargo test -p thalweg-nvidia --test cupti_gpu -- --ignored --nocapture`.
//!
//! A process can have one recording or one sampler at a time, so this is a program of its own, and `alone` keeps its tests
//! apart. PM sampling needs root or a driver that lets everybody read counters.
#![expect(clippy::unwrap_used, reason = "it is a test; its first functions are no `#[test]` themselves")]

mod device;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use thalweg_nvidia::Places;
use thalweg_nvidia::activity::{Activity, Copy, Direction, Entry, HostMemory, Reader, StreamKind, Writer};
use thalweg_nvidia::cuda::{DeviceBuffer, PinnedBuffer, PinnedMemory, Stream};
use thalweg_nvidia::cupti::{Cupti, GraphDetail, PmMetrics, PmSampler, Recording};
use thalweg_nvidia::nvml::{GpmMetrics, GpmSampler, Nvml};

use device::{alone, context, stream};

/// Large enough that the driver copies pageable memory through a buffer of its own.
const BYTES: usize = 16 << 20;

/// More than any cache holds.
const LARGE: usize = 1 << 30;

/// How long each load runs: NVIDIA's GPM changes every 100 ms.
const LOAD: Duration = Duration::from_secs(2);

/// What a stretch of memsets and uploads is like.
struct Load {
    stream: Arc<Stream>,
    large: DeviceBuffer,
    small: DeviceBuffer,
    pinned: PinnedBuffer,
}

impl Load {
    /// Fills device memory, and uploads a little each time; how often.
    fn run(&self) -> usize {
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < LOAD {
            self.stream.zero(&self.large).unwrap();
            self.stream.upload(&self.pinned, &self.small).unwrap();
            self.stream.synchronize().unwrap();
            count += 1;
        }
        count
    }
}

/// Whether two values are of the same size, or both next to nothing.
fn agree(one: f64, other: f64, next_to_nothing: f64) -> bool {
    let (least, most) = (one.min(other), one.max(other));
    most < next_to_nothing || least * 1.5 > most
}

/// Where GPM is there too, values are held against it, one after the other: both at a time is only looked at.
#[test]
#[ignore = "needs an NVIDIA GPU and the right to read its counters"]
fn pm_sampling_says_what_gpm_says() {
    let _alone = alone();
    let context = context();
    let device = context.properties().clone();
    let load = Load {
        stream: stream(&context),
        large: DeviceBuffer::new(&context, LARGE).unwrap(),
        small: DeviceBuffer::new(&context, BYTES).unwrap(),
        pinned: PinnedBuffer::new(&context, BYTES, PinnedMemory::Cached).unwrap(),
    };
    let start = || PmSampler::start(Cupti::open(&Places::default()).unwrap(), device.index).unwrap();
    let gpm = || GpmSampler::start(&Nvml::open(&Places::default())?.device_by_uuid(&device.uuid)?);
    load.run();

    let clock = || Nvml::open(&Places::default())?.device_by_uuid(&device.uuid)?.state().sm_clock_mhz;
    let alone = load.run();
    println!("SMs at {:?} MHz without", clock());
    let sampler = start();
    let sampled = load.run();
    println!("SMs at {:?} MHz while they are sampled", clock());
    let finish = Instant::now();
    let busy = sampler.finish().unwrap();
    println!("{sampled} rounds sampled, {alone} without; {:?} to finish", finish.elapsed());
    println!("PM sampling: {busy:#?}");
    let sampler = start();
    std::thread::sleep(LOAD);
    let idle = sampler.finish().unwrap();
    println!("idle: {idle:#?}");
    assert!(busy.sample_count > 1000, "one each millisecond: {}", busy.sample_count);
    assert!(busy.dram_utilisation.unwrap() > 0.3 && idle.dram_utilisation.unwrap() < 0.1);
    assert!(busy.sm_utilisation.unwrap() > 0.2 && idle.sm_utilisation.unwrap() < 0.1);
    let fractions =
        |it: &PmMetrics| [it.dram_utilisation, it.sm_utilisation, it.sm_occupancy, it.tensor_utilisation];
    let all = fractions(&busy).into_iter().chain(fractions(&idle)).flatten();
    assert!(all.clone().all(|value| (0.0..=1.0).contains(&value)), "{:?}", all.collect::<Vec<_>>());

    let path = std::env::temp_dir().join(format!("thalweg-cupti-after-{}.activity", std::process::id()));
    let file: Box<dyn Write + Send> = Box::new(File::create(&path).unwrap());
    let writer = Writer::begin(file, std::process::id(), "test").unwrap();
    let recording =
        Recording::start(Cupti::open(&Places::default()).unwrap(), writer, GraphDetail::Runs).unwrap();
    load.stream.upload(&load.pinned, &load.small).unwrap();
    load.stream.synchronize().unwrap();
    recording.stop();
    assert_eq!(directions(&fs::read(&path).unwrap()), [Direction::H2d], "a recording after a sampler");
    fs::remove_file(&path).unwrap();

    let mut gpm = match gpm() {
        Ok(gpm) => gpm,
        Err(error) => return println!("no GPM here: {error}"),
    };
    load.run();
    let GpmMetrics { dram_utilisation, sm_utilisation, sm_occupancy, pcie_rx_bytes_per_s, .. } = {
        let metrics = gpm.read().unwrap();
        println!("GPM: {metrics:#?}");
        metrics
    };
    let sampler = start();
    load.run();
    println!("at a time: {:#?}, {:#?}", gpm.read(), sampler.finish());
    assert!(agree(busy.dram_utilisation.unwrap(), dram_utilisation.unwrap(), 0.0));
    assert!(agree(busy.sm_utilisation.unwrap(), sm_utilisation.unwrap(), 0.05));
    let others =
        [(busy.sm_occupancy, sm_occupancy, 0.1), (busy.pcie_rx_bytes_per_s, pcie_rx_bytes_per_s, 1e9)];
    for (ours, theirs, next_to_nothing) in others {
        if let (Some(ours), Ok(theirs)) = (ours, theirs) {
            assert!(agree(ours, theirs, next_to_nothing), "{ours} and {theirs}");
        }
    }
}

/// Which ways were copied, in the order of the file.
fn directions(file: &[u8]) -> Vec<Direction> {
    let mut reader = Reader::begin(file).unwrap();
    let entries = std::iter::from_fn(|| reader.next_entry().unwrap());
    let copies = entries.filter_map(|entry| match entry {
        Entry::Activity(Activity::Copy(copy)) => Some(copy.direction),
        _ => None,
    });
    copies.collect()
}

/// Which threads made the calls.
fn callers(file: &[u8]) -> BTreeSet<u32> {
    let mut reader = Reader::begin(file).unwrap();
    let entries = std::iter::from_fn(|| reader.next_entry().unwrap());
    let threads = entries.filter_map(|entry| match entry {
        Entry::Activity(Activity::Call(call)) => Some(call.thread),
        _ => None,
    });
    threads.collect()
}

/// The system's number of this thread.
fn thread_id() -> u32 {
    let own = fs::read_link("/proc/thread-self").unwrap();
    own.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn calls_of_threads_that_live_on_are_recorded_and_of_those_that_have_ended() {
    let _alone = alone();
    let context = context();
    let [lasting, ended] = [(), ()].map(|()| {
        let target = DeviceBuffer::new(&context, BYTES).unwrap();
        (stream(&context), target, PinnedBuffer::new(&context, BYTES, PinnedMemory::Cached).unwrap())
    });
    let upload = |(stream, target, pinned): &(Arc<Stream>, DeviceBuffer, PinnedBuffer)| {
        stream.upload(pinned, target).unwrap();
        stream.synchronize().unwrap();
    };
    let path = std::env::temp_dir().join(format!("thalweg-cupti-threads-{}.activity", std::process::id()));
    let file: Box<dyn Write + Send> = Box::new(File::create(&path).unwrap());
    let writer = Writer::begin(file, std::process::id(), "test").unwrap();
    let recording =
        Recording::start(Cupti::open(&Places::default()).unwrap(), writer, GraphDetail::Kernels).unwrap();
    let (is_done, both) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| upload(&ended)).join().unwrap();
        scope.spawn(|| {
            upload(&lasting);
            is_done.wait();
            both.wait();
        });
        is_done.wait();
        recording.stop();
        both.wait();
    });
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(directions(&bytes), [Direction::H2d, Direction::H2d]);
    assert_eq!(callers(&bytes).len(), 2, "{:?}", callers(&bytes));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn copies_are_recorded_with_their_calls_and_their_memory_and_again_after_a_stop() {
    let _alone = alone();
    let path = std::env::temp_dir().join(format!("thalweg-cupti-{}.activity", std::process::id()));
    let file: Box<dyn Write + Send> = Box::new(File::create(&path).unwrap());
    let cupti = Cupti::open(&Places::default()).unwrap();
    println!("CUPTI {} in {}", cupti.version(), cupti.path().display());
    let writer = Writer::begin(file, std::process::id(), "test").unwrap();
    let recording = Recording::start(cupti, writer, GraphDetail::Runs).unwrap();
    let context = context();
    let stream = stream(&context);
    let target = DeviceBuffer::new(&context, BYTES).unwrap();
    let pinned = PinnedBuffer::new(&context, BYTES, PinnedMemory::Cached).unwrap();
    stream.upload(&pinned, &target).unwrap();
    stream.upload(&vec![1; BYTES], &target).unwrap();
    stream.download(&target, &mut vec![0; BYTES]).unwrap();
    stream.synchronize().unwrap();
    recording.stop();
    stream.upload(&pinned, &target).unwrap();
    stream.synchronize().unwrap();
    let bytes = fs::read(&path).unwrap();

    let file: Box<dyn Write + Send> = Box::new(File::create(&path).unwrap());
    let writer = Writer::begin(file, std::process::id(), "test").unwrap();
    let recording =
        Recording::start(Cupti::open(&Places::default()).unwrap(), writer, GraphDetail::Kernels).unwrap();
    stream.download(&target, &mut vec![0; BYTES]).unwrap();
    stream.synchronize().unwrap();
    recording.stop();
    let again = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(directions(&again), [Direction::D2h], "what ran in between was recorded");
    assert_eq!(callers(&again), BTreeSet::from([thread_id()]), "calls of a process that runs already");

    let mut reader = Reader::begin(&bytes).unwrap();
    let (mut copies, mut calls, mut streams, mut ends) = (Vec::<Copy>::new(), Vec::new(), Vec::new(), 0);
    while let Some(entry) = reader.next_entry().unwrap() {
        match entry {
            Entry::Activity(Activity::Copy(copy)) => copies.push(copy),
            Entry::Activity(Activity::Call(call)) => {
                calls.push((reader.name(call.name).to_owned(), call));
            }
            Entry::Activity(Activity::Stream(stream)) => streams.push(stream.kind),
            Entry::Remark(text) => println!("remark: {text}"),
            Entry::End => ends += 1,
            _ => {}
        }
    }
    println!("{copies:#?}\n{calls:#?}\n{streams:?}");
    let kinds: Vec<_> = copies.iter().map(|copy| (copy.direction, copy.host_memory)).collect();
    let expected = [
        (Direction::H2d, HostMemory::Pinned),
        (Direction::H2d, HostMemory::Pageable),
        (Direction::D2h, HostMemory::Pageable),
    ];
    assert_eq!(kinds, expected);
    assert!(copies.iter().all(|copy| copy.bytes == BYTES as u64 && copy.work.end_ns > copy.work.start_ns));
    let asked = |copy: &Copy| {
        let found = calls.iter().find(|(_, call)| call.correlation == copy.work.correlation);
        found.map(|(name, _)| name.as_str())
    };
    let names: Vec<_> = copies.iter().map(asked).collect();
    assert_eq!(names, [Some("cuMemcpyHtoDAsync"), Some("cuMemcpyHtoDAsync"), Some("cuMemcpyDtoHAsync")]);
    assert!(calls.iter().any(|(name, _)| name == "cuStreamSynchronize"));
    assert!(calls.iter().all(|(_, call)| call.thread > 0 && call.end_ns >= call.start_ns));
    assert!(streams.contains(&StreamKind::NonBlocking), "our stream was made: {streams:?}");
    assert_eq!(ends, 1);
}
