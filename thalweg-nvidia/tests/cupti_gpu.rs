//! CUPTI on a real GPU: `cargo test -p thalweg-nvidia --test cupti_gpu -- --ignored --nocapture`.
//!
//! A process can have one recording at a time, so this is a program of its own with one test.
#![expect(clippy::unwrap_used, reason = "it is a test; its first functions are no `#[test]` themselves")]

mod device;

use std::fs::{self, File};
use std::io::Write;

use thalweg_nvidia::Places;
use thalweg_nvidia::activity::{Activity, Copy, Direction, Entry, HostMemory, Reader, StreamKind, Writer};
use thalweg_nvidia::cuda::{DeviceBuffer, PinnedBuffer, PinnedMemory};
use thalweg_nvidia::cupti::{Cupti, GraphDetail, Recording};

use device::{alone, context, stream};

/// Large enough that the driver copies pageable memory through a buffer of its own.
const BYTES: usize = 16 << 20;

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
