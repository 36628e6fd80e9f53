//! The driver over its stand-in: what is found, who keeps what alive, and how failures read.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::error::Error;
use crate::stand_in::Folder;
use crate::stand_in::cuda::{DriverStandIn, Live};

#[test]
fn a_device_is_described_and_what_the_driver_does_not_tell_is_none() {
    let stand_in = DriverStandIn::new("driver-device");
    let device = stand_in.driver.device("GPU-0707").unwrap();
    assert_eq!(stand_in.driver.device("MIG-0707").unwrap().properties(), device.properties());
    let properties = device.properties();
    assert_eq!((properties.name.as_str(), properties.index), ("Stand-in", 0));
    assert_eq!(properties.uuid, "GPU-07070707-0707-0707-0707-070707070707");
    assert_eq!(properties.compute_capability, (9, 0));
    assert_eq!((properties.sm_count, properties.copy_engine_count), (132, Some(3)));
    assert_eq!((properties.sm_clock_max_mhz, properties.l2_cache_bytes), (Some(1980), None));
    assert!(!properties.is_integrated);
    assert_eq!(stand_in.driver.cuda_version().unwrap().to_string(), "12.9");
}

#[test]
fn an_unknown_device_is_refused_with_those_that_there_are() {
    let stand_in = DriverStandIn::new("driver-unknown");
    for wanted in ["1", "GPU-5fd4", ""] {
        let error = stand_in.driver.device(wanted).unwrap_err();
        assert!(matches!(error, Error::NoSuchDevice { .. }), "{error}");
        assert!(error.to_string().contains("0 (GPU-07070707-"), "{error}");
    }
}

#[test]
fn a_driver_that_does_not_start_keeps_its_code_and_its_name() {
    let folder = Folder::new("driver-start");
    let source = r#"
        #[no_mangle] pub extern "C" fn cuDriverGetVersion(_: *mut i32) -> i32 { 0 }
        #[no_mangle] pub extern "C" fn cuInit(_: u32) -> i32 { 100 }
        #[no_mangle] pub unsafe extern "C" fn cuGetErrorName(_: i32, name: *mut *const u8) -> i32 {
            *name = b"CUDA_ERROR_NO_DEVICE\0".as_ptr();
            0
        }"#;
    folder.build("libcuda.so.1", source);
    let error = Driver::open(&folder.places()).unwrap_err();
    assert_eq!(error.to_string(), "cuInit failed with status 100 (CUDA_ERROR_NO_DEVICE)");
}

#[test]
fn a_function_that_the_driver_lacks_is_an_error_of_the_call_that_needs_it() {
    let folder = Folder::new("driver-old");
    folder.build("libcuda.so.1", "#[no_mangle] pub extern \"C\" fn cuInit(_: u32) -> i32 { 0 }");
    let driver = Driver::open(&folder.places()).unwrap();
    let error = driver.devices().unwrap_err();
    assert!(matches!(error, Error::MissingSymbol { symbol: "cuDeviceGetCount", .. }), "{error}");
}

#[test]
fn what_is_made_in_a_context_keeps_it_alive() {
    let stand_in = DriverStandIn::new("driver-parents");
    let context = stand_in.context();
    let buffer = DeviceBuffer::new(&context, 1000).unwrap();
    let stream = Stream::new(&context, StreamPriority::Highest).unwrap();
    drop(context);
    assert_eq!(stand_in.live().contexts, 1);
    let memory = stream.context().memory().unwrap();
    // TensorRT 8.6 may write that much, in steps of 512 bytes.
    assert_eq!((memory.total_bytes - memory.free_bytes, buffer.byte_count()), (1024, 1000));
    drop(buffer);
    assert_eq!(stream.context().memory().unwrap().free_bytes, memory.total_bytes);
    drop(stream);
    assert_eq!(stand_in.live(), Live::NOTHING);
}

#[test]
fn how_the_host_waits_is_said_before_the_context_is_made_or_not_at_all() {
    let stand_in = DriverStandIn::new("driver-wait");
    let device = stand_in.driver.device("0").unwrap();
    stand_in.take_log();
    drop(device.retain_primary_context(HostWait::Block).unwrap());
    let retained = ["cuDevicePrimaryCtxSetFlags", "cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease"];
    assert_eq!(stand_in.take_log(), retained);
    drop(device.retain_primary_context(HostWait::Unchanged).unwrap());
    assert_eq!(stand_in.take_log(), retained[1..]);
}

#[test]
fn out_of_memory_is_an_error_that_ends_nothing() {
    let stand_in = DriverStandIn::new("driver-full");
    let context = stand_in.context();
    let error = DeviceBuffer::new(&context, 1 << 40).unwrap_err();
    assert!(matches!(error, Error::Status { function: "cuMemAlloc_v2", code: 2, .. }), "{error}");
    assert!(!error.is_sticky());
    assert!(DeviceBuffer::new(&context, 1 << 10).is_ok());
}

#[test]
fn bytes_go_to_the_device_and_come_back() {
    let stand_in = DriverStandIn::new("driver-copies");
    let context = stand_in.context();
    let stream = Stream::new(&context, StreamPriority::Normal).unwrap();
    let buffer = DeviceBuffer::new(&context, 4).unwrap();
    stream.upload(&[1, 2, 3, 4], &buffer).unwrap();
    let mut back = [0; 4];
    stream.download(&buffer, &mut back).unwrap();
    assert_eq!(back, [1, 2, 3, 4]);
    stream.zero(&buffer).unwrap();
    stream.download(&buffer, &mut back).unwrap();
    assert_eq!(back, [0; 4]);
    let error = stream.upload(&[0; 5], &buffer).unwrap_err();
    assert_eq!(error.to_string(), "device buffer 0 has 4 bytes, but 5 are needed");
    assert!(matches!(stream.download(&buffer, &mut [0; 5]), Err(Error::WrongSize { .. })));
}

#[test]
fn pinned_memory_begins_with_zeros_and_may_be_empty() {
    let stand_in = DriverStandIn::new("driver-pinned");
    let context = stand_in.context();
    let mut buffer = PinnedBuffer::new(&context, 3, PinnedMemory::Cached).unwrap();
    assert_eq!(&buffer[..], &[0; 3]);
    buffer[2] = 7;
    assert_eq!(buffer.iter().sum::<u8>(), 7);
    let empty = PinnedBuffer::new(&context, 0, PinnedMemory::WriteCombined).unwrap();
    assert!(empty.is_empty());
    assert_eq!(DeviceBuffer::new(&context, 0).unwrap().byte_count(), 0);
}

#[test]
fn a_reserve_gives_out_again_what_was_dropped_and_keeps_no_more_than_its_limit() {
    let stand_in = DriverStandIn::new("driver-reserve");
    let context = stand_in.context();
    let reserve = PinnedReserve::new(&context, 120);
    let cached = |byte_count| reserve.take(byte_count, PinnedMemory::Cached).unwrap();
    let locked = || stand_in.live().host_buffers;
    let (mut large, small) = (cached(100), cached(10));
    assert_eq!((&large[..], locked()), (&[0; 100][..], 2));
    large.fill(7);
    drop((large, small));
    assert_eq!(locked(), 2);
    // Half of the large one is too much to leave unused, and the small one is of another kind.
    let other = (cached(49), reserve.take(10, PinnedMemory::WriteCombined).unwrap());
    assert_eq!(locked(), 4);
    let again = cached(60);
    assert_eq!((&again[..], again.byte_count(), locked()), (&[0; 60][..], 60, 4));
    drop(again);
    assert_eq!(locked(), 4);
    // 10 and 100 are there already, and those that came before have to go.
    drop(other);
    assert_eq!(locked(), 2, "of 49 and 10");
    drop(reserve.take(30, PinnedMemory::Pageable).unwrap());
    stand_in.fail("cuMemHostAlloc", 2);
    let last = cached(1_000);
    assert_eq!(locked(), 1, "what was kept makes room for what is needed");
    drop(reserve);
    drop(last);
    assert_eq!(locked(), 0);
}

#[test]
fn every_thread_may_use_what_another_has_made() {
    let stand_in = DriverStandIn::new("driver-threads");
    let context = stand_in.context();
    let stream = Arc::new(Stream::new(&context, StreamPriority::Normal).unwrap());
    let buffer = thread::spawn(move || {
        let buffer = DeviceBuffer::new(stream.context(), 2).unwrap();
        stream.upload(&[5, 6], &buffer).unwrap();
        buffer
    });
    let buffer = buffer.join().unwrap();
    thread::spawn(move || drop(buffer)).join().unwrap();
    assert_eq!(stand_in.live().device_buffers, 0);
}

#[test]
fn an_event_is_complete_when_its_stream_has_come_to_it() {
    let stand_in = DriverStandIn::new("driver-events");
    let context = stand_in.context();
    let stream = Stream::new(&context, StreamPriority::Normal).unwrap();
    let event = || Event::new(&context, EventTiming::On, EventWait::Block).unwrap();
    let (first, second) = (event(), event());
    stand_in.set_delay(1);
    first.record(&stream).unwrap();
    second.record(&stream).unwrap();
    assert!(!stream.is_idle().unwrap());
    assert!(!second.is_complete().unwrap());
    assert!(second.is_complete().unwrap());
    assert!(stream.is_idle().unwrap());
    assert!((second.elapsed_ms(&first).unwrap() - 1.0).abs() < f32::EPSILON);
    assert!((first.elapsed_ms(&second).unwrap() + 1.0).abs() < f32::EPSILON);
    let never = event();
    assert!(matches!(never.elapsed_ms(&first), Err(Error::Status { code: 400, .. })));
}

#[test]
fn an_event_finds_its_place_on_the_clock_of_the_host() {
    let stand_in = DriverStandIn::new("driver-clock");
    let context = stand_in.context();
    let before = Instant::now();
    let mut clock = EventClock::new(&context).unwrap();
    clock.renew().unwrap();
    let after = Instant::now();
    assert!(clock.uncertainty() <= after - before && !clock.is_stale());
    let stream = Stream::new(&context, StreamPriority::Normal).unwrap();
    let event = Event::new(&context, EventTiming::On, EventWait::AsContext).unwrap();
    // The stand-in's clock goes on by one millisecond per operation; the best reading was one of the last five.
    event.record(&stream).unwrap();
    event.wait().unwrap();
    let time = clock.host_time(&event).unwrap();
    assert!(time >= before + Duration::from_millis(1) && time <= after + Duration::from_millis(5));
}

#[test]
fn times_shift_in_both_directions() {
    let now = Instant::now();
    assert_eq!(shifted(now, 1.5), now + Duration::from_micros(1500));
    assert_eq!(shifted(now, -0.5) + Duration::from_micros(500), now);
    assert_eq!(shifted(now, f32::NAN), now);
}

#[test]
fn making_and_dropping_two_hundred_times_leaves_nothing() {
    let stand_in = DriverStandIn::new("driver-leak");
    for _ in 0..200 {
        let context = stand_in.context();
        let stream = Stream::new(&context, StreamPriority::Normal).unwrap();
        let event = Event::new(&context, EventTiming::Off, EventWait::Block).unwrap();
        event.record(&stream).unwrap();
        let _pinned = PinnedBuffer::new(&context, 64, PinnedMemory::Cached).unwrap();
        let _buffer = DeviceBuffer::new(&context, 64).unwrap();
        let _graph = Graph::capture(&stream, || Ok(())).unwrap();
    }
    assert_eq!(stand_in.live(), Live::NOTHING);
}
