//! The pool on real threads, with a device that doubles its input.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::{BREAK, Counted, Doubler, FAIL, WIDTH};
use thalweg::Error;
use thalweg::backend::{Engine, Wait};
use thalweg::pool::{Configuration, ExecutionPool, LocalPool, NoResponse, Order, Producer, Response};
use thalweg::units::{Clock, Nanos};

fn start(engine: Doubler, configuration: Configuration) -> ExecutionPool {
    ExecutionPool::start(Arc::new(engine), &configuration, Clock::start()).expect("the pool starts")
}

/// One request whose samples all have this value.
fn send(producer: &Producer, samples: usize, value: f32) -> u64 {
    let mut reservation = producer.reserve(samples).expect("there is room");
    reservation.input_as::<f32>("x").expect("the input exists").fill(value);
    reservation.commit(value.to_bits().into())
}

fn sent_value(response: &Response) -> f32 {
    f32::from_bits(u32::try_from(response.tag()).expect("a tag is a value's bits"))
}

fn assert_doubled(response: &Response) {
    assert!(response.error().is_none(), "{:?}", response.error());
    let expected = vec![2.0 * sent_value(response); response.samples().len() * WIDTH];
    assert_eq!(response.output_as::<f32>(0), expected, "request {}", response.sequence());
}

#[test]
fn every_request_gets_its_own_answer_whatever_the_shape_of_the_pool() {
    for (streams, depth, submitters, batch_size) in
        [(1, 1, 1, 1), (1, 3, 1, 4), (4, 2, 1, 2), (4, 2, 3, 4), (3, 1, 3, 8)]
    {
        let configuration = Configuration {
            streams,
            depth,
            submitters,
            batch_size,
            batching_delay: Nanos(20_000),
            ..Configuration::default()
        };
        let pool = start(Doubler::new(8), configuration);
        let producers: Vec<_> = (0..3)
            .map(|thread| {
                let producer = pool.producer();
                std::thread::spawn(move || {
                    for request in 0..200 {
                        send(&producer, 1 + request % batch_size, (thread * 1000 + request) as f32);
                    }
                })
            })
            .collect();
        let answered: BTreeSet<u64> = pool
            .responses(Order::Completion)
            .take(600)
            .map(|response| {
                assert_doubled(&response);
                response.sequence()
            })
            .collect();
        assert_eq!(answered, (0..600).collect(), "{configuration}");
        producers.into_iter().for_each(|thread| thread.join().expect("a producer ends well"));
        pool.stop().expect("the pool stops");
    }
}

#[test]
fn responses_come_in_order_of_submission_though_streams_differ_in_speed() {
    let delays = [Duration::from_millis(3), Duration::from_micros(100)];
    let configuration = Configuration { streams: 2, depth: 2, ..Configuration::default() };
    let pool = start(Doubler::new(1).with_delays(&delays), configuration);
    let producer = pool.producer();
    let sender = std::thread::spawn(move || {
        for i in 0..60 {
            send(&producer, 1, i as f32);
        }
    });
    let sequences: Vec<_> = pool.responses(Order::Submission).take(60).map(|r| r.sequence()).collect();
    assert_eq!(sequences, (0..60).collect::<Vec<_>>());
    sender.join().expect("the sender ends well");
}

#[test]
fn a_slot_runs_as_the_smallest_prepared_execution_that_holds_it() {
    let ran_as = |engine: Doubler, configuration: Configuration| -> Vec<usize> {
        let pool = start(engine, configuration);
        let producer = pool.producer();
        let mut responses = pool.responses(Order::Completion);
        let run = |samples| {
            send(&producer, samples, samples as f32);
            let response = responses.next().expect("it is answered");
            assert_doubled(&response);
            assert_eq!(response.request_samples(), samples);
            response.batch_size()
        };
        (1..=8).map(run).collect()
    };
    let prepared = || Doubler::new(8).preparing_executions();
    let down_to =
        |smallest_batch| Configuration { batch_size: 8, smallest_batch, ..Configuration::default() };
    assert_eq!(ran_as(prepared(), down_to(None)), [8; 8]);
    assert_eq!(ran_as(prepared(), down_to(Some(1))), [1, 2, 4, 4, 8, 8, 8, 8]);
    assert_eq!(ran_as(prepared(), down_to(Some(3))), [3, 3, 3, 6, 6, 6, 8, 8]);
    // What the engine cannot run is not prepared.
    assert_eq!(ran_as(prepared().with_smallest_batch(4), down_to(Some(1))), [4, 4, 4, 4, 8, 8, 8, 8]);
    // Who prepares nothing runs what there is.
    assert_eq!(ran_as(Doubler::new(8), down_to(Some(4))), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn small_requests_have_executions_down_to_their_size_or_an_eighth_of_the_batch() {
    let smallest = |batch_size, samples| {
        Configuration { batch_size, ..Configuration::default() }.for_requests_of(samples).smallest_batch
    };
    assert_eq!(
        [smallest(8, 1), smallest(8, 3), smallest(8, 8), smallest(1, 1)],
        [Some(1), Some(3), None, None]
    );
    assert_eq!([smallest(128, 1), smallest(128, 32)], [Some(16), Some(32)]);
}

#[test]
fn small_requests_travel_together_within_the_batching_delay() {
    let configuration = Configuration {
        batch_size: 4,
        depth: 1,
        batching_delay: Nanos::from_seconds(5.0),
        ..Configuration::default()
    };
    let pool = start(Doubler::new(4), configuration);
    let producer = pool.producer();
    (0..4).for_each(|i| {
        send(&producer, 1, i as f32);
    });
    let responses: Vec<_> = pool.responses(Order::Completion).take(4).collect();
    for response in &responses {
        assert_eq!(response.batch_size(), 4, "the full slot did not wait for five seconds");
        assert_doubled(response);
    }
}

#[test]
fn a_slot_that_does_not_fill_up_starts_after_the_batching_delay() {
    let configuration = Configuration {
        batch_size: 4,
        batching_delay: Nanos::from_seconds(0.02),
        ..Configuration::default()
    };
    let pool = start(Doubler::new(4), configuration);
    let sent = Instant::now();
    send(&pool.producer(), 1, 7.0);
    let response = pool.responses(Order::Completion).next().expect("it is answered");
    assert!(sent.elapsed() >= Duration::from_millis(20), "{:?}", sent.elapsed());
    assert_eq!(response.batch_size(), 1);
    assert_doubled(&response);
}

#[test]
fn a_producer_waits_until_a_response_is_dropped() {
    let configuration = Configuration { depth: 1, ..Configuration::default() };
    let pool = start(Doubler::new(1), configuration);
    let producer = pool.producer();
    send(&producer, 1, 1.0);
    let held = pool.responses(Order::Completion).next().expect("it is answered");
    let (granted, grants) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let sequence = send(&producer, 1, 2.0);
        granted.send(sequence).expect("the test listens");
    });
    assert!(grants.recv_timeout(Duration::from_millis(30)).is_err(), "the only slot is being read");
    assert_doubled(&held);
    drop(held);
    assert_eq!(grants.recv().expect("now there is room"), 1);
    waiter.join().expect("the waiter ends well");
}

#[test]
fn a_pool_without_requests_says_that_it_lacks_input() {
    let pool =
        start(Doubler::new(8), Configuration { streams: 2, submitters: 2, ..Configuration::default() });
    let first = pool.state();
    assert!(first.is_input_starved() && first.executors == 2, "{first:?}");
    std::thread::sleep(Duration::from_millis(20));
    let share = pool.producer().state().starved_share_since(&first).unwrap();
    assert!(share > 0.99, "{share}");
    pool.stop().expect("the pool stops");
}

#[test]
fn a_pool_whose_calls_take_long_looks_whether_its_core_is_shared() {
    let configuration = Configuration { streams: 2, submitters: 2, ..Configuration::default() };
    let pool = start(Doubler::new(1).with_calls_of(Duration::from_millis(11)), configuration);
    let before = pool.state();
    assert_eq!(before.shared_core_share_since(&before), None);
    let mut responses = pool.responses(Order::Completion);
    for _ in 0..4 {
        send(&pool.producer(), 1, 1.0);
        assert_doubled(&responses.next().expect("it is answered"));
    }
    let after = pool.state();
    let share = after.shared_core_share_since(&before);
    // Other processors and unoptimised code do not tell.
    let can_tell = cfg!(target_arch = "x86_64") && !cfg!(debug_assertions);
    assert_eq!(share.is_some(), can_tell, "{after:?}");
    assert!(share.is_none_or(|share| (0.0..=1.0).contains(&share)), "{after:?}");
}

#[test]
fn a_failed_execution_keeps_its_inputs_and_the_stream_goes_on() {
    let configuration = Configuration { depth: 3, ..Configuration::default() };
    let pool = start(Doubler::new(1), configuration);
    let producer = pool.producer();
    let mut responses = pool.responses(Order::Submission);
    for value in [1.0, FAIL, 2.0] {
        send(&producer, 1, value);
    }
    assert_doubled(&responses.next().expect("answered"));
    let failed = responses.next().expect("answered");
    let error = failed.error().expect("it failed").to_string();
    assert!(error.contains("this sample cannot be doubled"), "{error}");
    assert_eq!(failed.inputs()[0].elements::<f32>(), [FAIL; WIDTH]);
    drop(failed);
    assert_doubled(&responses.next().expect("answered"));
}

#[test]
fn a_broken_stream_does_not_take_the_others_down() {
    let configuration = Configuration { streams: 2, depth: 1, ..Configuration::default() };
    let pool = start(Doubler::new(1), configuration);
    let producer = pool.producer();
    let mut responses = pool.responses(Order::Completion);
    send(&producer, 1, BREAK);
    let broken = responses.next().expect("answered");
    assert!(broken.error().is_some());
    assert_eq!(broken.inputs()[0].elements::<f32>(), [BREAK; WIDTH]);
    let lost_stream = broken.slot().executor;
    drop(broken);
    for i in 0..20 {
        send(&producer, 1, i as f32);
        let response = responses.next().expect("answered");
        assert_ne!(response.slot().executor, lost_stream);
        assert_doubled(&response);
    }
    send(&producer, 1, BREAK);
    assert!(responses.next().expect("answered").error().is_some());
    let error = producer.reserve(1).map(|_| ()).expect_err("no stream is left");
    assert!(matches!(error, Error::NoExecutor { executor_count: 2 }), "{error}");
}

#[test]
fn stopping_answers_everything_that_was_committed_and_refuses_the_rest() {
    let configuration = Configuration {
        streams: 2,
        depth: 4,
        batch_size: 4,
        batching_delay: Nanos::from_seconds(5.0),
        ..Configuration::default()
    };
    let pool = start(Doubler::new(4).with_delays(&[Duration::from_millis(2)]), configuration);
    let producer = pool.producer();
    let responses = pool.responses(Order::Completion);
    (0..6).for_each(|i| {
        send(&producer, 3, i as f32);
    });
    let stopped = Instant::now();
    pool.stop().expect("the pool stops");
    assert!(stopped.elapsed() < Duration::from_secs(2), "open slots do not wait for their delay");
    let answered: Vec<_> = responses.inspect(assert_doubled).map(|r| r.sequence()).collect();
    assert_eq!(answered.len(), 6);
    assert!(matches!(producer.reserve(1), Err(Error::Stopped)));
}

#[test]
fn a_dropped_reservation_gives_its_room_back() {
    let configuration = Configuration { depth: 1, ..Configuration::default() };
    let pool = start(Doubler::new(1), configuration);
    let producer = pool.producer();
    for _ in 0..5 {
        drop(producer.reserve(1).expect("the room came back"));
    }
    send(&producer, 1, 3.0);
    assert_doubled(&pool.responses(Order::Completion).next().expect("answered"));
}

#[test]
fn who_has_read_a_slot_fills_it_again_without_asking() {
    let configuration = Configuration { streams: 2, depth: 2, batch_size: 4, ..Configuration::default() };
    let pool = start(Doubler::new(4), configuration);
    let (producer, mut responses) = (pool.producer(), pool.responses(Order::Completion));
    (0..4).for_each(|i| {
        send(&producer, 4, i as f32);
    });
    let mut answered = BTreeSet::new();
    for i in 4..400 {
        let response = responses.next().expect("a response");
        assert_doubled(&response);
        assert!(answered.insert(response.sequence()));
        let slot = response.slot();
        let mut room = producer.refill(response).expect("nobody else wants it");
        assert_eq!((room.slot(), room.samples()), (slot, 0..4));
        room.input_as::<f32>("x").expect("the input exists").fill(i as f32);
        room.commit((i as f32).to_bits().into());
    }
    pool.stop().expect("the pool stops");
    answered.extend(responses.map(|response| response.sequence()));
    assert_eq!(answered, (0..400).collect());
}

#[test]
fn a_pool_is_driven_by_whoever_reads_its_responses() {
    for wait in Wait::ALL {
        let configuration =
            Configuration { streams: 2, depth: 2, batch_size: 4, wait, ..Configuration::default() };
        let mut pool =
            LocalPool::start(Arc::new(Doubler::new(4)), &configuration, Clock::start()).expect("it starts");
        let patience = Duration::from_millis(20);
        assert!(matches!(pool.next_within(patience), Err(NoResponse::Yet)), "nothing was sent");
        assert!(pool.state().is_input_starved());
        let producer = pool.producer();
        let sender = std::thread::spawn({
            let producer = producer.clone();
            move || {
                for i in 0..4 {
                    send(&producer, 4, i as f32);
                }
            }
        });
        let mut answered = BTreeSet::new();
        for i in 4..400 {
            let response = pool.next_within(Duration::from_secs(20)).expect("a response");
            assert_doubled(&response);
            assert!(answered.insert(response.sequence()));
            let Some(mut room) = producer.refill(response) else {
                panic!("{wait}: nobody else wants it");
            };
            room.input_as::<f32>("x").expect("the input exists").fill(i as f32);
            room.commit((i as f32).to_bits().into());
        }
        // Whoever waits for room is heard only while somebody drives.
        while answered.len() < 400 {
            answered.insert(pool.next_within(Duration::from_secs(20)).expect("a response").sequence());
        }
        sender.join().expect("the sender ends well");
        assert_eq!(answered, (0..400).collect(), "{wait}");
        drop(pool);
        assert!(matches!(producer.reserve(1), Err(Error::Stopped)));
    }
}

#[test]
fn a_pool_whose_slots_all_run_waits_for_the_device_itself() {
    let waits_of = |wait, depth| {
        let waits = Arc::new(AtomicUsize::new(0));
        // Streams that differ in speed, so that executions do not end in the order of their starts.
        let delays = [Duration::from_micros(300), Duration::from_micros(100)];
        let doubler: Arc<dyn Engine> = Arc::new(Doubler::new(1).with_delays(&delays));
        let engine = Counted { engine: doubler, polls: Arc::default(), waits: Arc::clone(&waits) };
        let configuration = Configuration { streams: 2, depth, wait, ..Configuration::default() };
        let mut pool = LocalPool::start(Arc::new(engine), &configuration, Clock::start()).expect("it starts");
        let producer = pool.producer();
        let sender = std::thread::spawn({
            let producer = producer.clone();
            move || {
                for i in 0..2 * depth {
                    send(&producer, 1, i as f32);
                }
            }
        });
        let mut next = || pool.next_within(Duration::from_secs(20)).expect("a response");
        let mut answered = BTreeSet::new();
        for _ in 0..500 {
            let response = next();
            assert_doubled(&response);
            assert!(answered.insert(response.sequence()));
            let value = response.tag();
            producer.refill(response).expect("nobody else wants it").commit(value);
        }
        sender.join().expect("the sender ends well");
        answered.extend((0..2 * depth).map(|_| next().sequence()));
        assert_eq!(answered, (0..500 + 2 * depth as u64).collect(), "{wait}");
        waits.load(Ordering::Relaxed)
    };
    let waits = waits_of(Wait::Block, 2);
    assert!(waits > 50, "{waits}");
    assert_eq!(waits_of(Wait::Spin, 2), 0);
    // A stream would stand still while another one is waited for.
    assert_eq!(waits_of(Wait::Block, 1), 0);
}

#[test]
fn executions_of_different_sizes_do_not_wait_for_each_other() {
    let waits = Arc::new(AtomicUsize::new(0));
    let doubler: Arc<dyn Engine> = Arc::new(Doubler::new(2).with_delays(&[Duration::from_millis(20)]));
    let engine = Counted { engine: doubler, polls: Arc::default(), waits: Arc::clone(&waits) };
    let configuration = Configuration { depth: 2, batch_size: 2, ..Configuration::default() };
    let pool = ExecutionPool::start(Arc::new(engine), &configuration, Clock::start()).expect("it starts");
    let producer = pool.producer();
    for samples in [1, 2] {
        send(&producer, samples, 1.0);
    }
    pool.responses(Order::Completion).take(2).for_each(|response| assert_doubled(&response));
    assert_eq!(waits.load(Ordering::Relaxed), 0);
}

#[test]
fn whoever_asks_a_pool_that_waits_for_the_device_is_answered_when_that_has_finished() {
    let configuration = Configuration { depth: 2, ..Configuration::default() };
    let pool = start(Doubler::new(1).with_delays(&[Duration::from_millis(20)]), configuration);
    let producer = pool.producer();
    for i in 0..2 {
        send(&producer, 1, i as f32);
    }
    assert!(!pool.state().is_input_starved());
    let third = std::thread::spawn(move || send(&producer, 1, 2.0));
    let responses = pool.responses(Order::Completion).take(3).inspect(assert_doubled);
    assert_eq!(responses.map(|it| it.sequence()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(third.join().expect("it was granted"), 2);
}

#[test]
fn a_local_pool_that_is_dropped_finishes_what_runs_and_has_one_submitter() {
    let configuration = Configuration { depth: 2, ..Configuration::default() };
    let slow = Doubler::new(1).with_delays(&[Duration::from_millis(20)]);
    let mut pool = LocalPool::start(Arc::new(slow), &configuration, Clock::start()).expect("it starts");
    let producer = pool.producer();
    let sender = std::thread::spawn(move || {
        for i in 0..2 {
            send(&producer, 1, i as f32);
        }
    });
    while !sender.is_finished() {
        if let Ok(response) = pool.next_within(Duration::from_millis(1)) {
            assert_doubled(&response);
        }
    }
    // The second one runs.
    drop(pool);
    let two = Configuration { streams: 2, submitters: 2, ..Configuration::default() };
    let refused = LocalPool::start(Arc::new(Doubler::new(1)), &two, Clock::start()).err();
    assert!(matches!(refused, Some(Error::InvalidSetting { name: "submitters", .. })), "{refused:?}");
}

#[test]
fn a_reader_that_fills_slots_again_does_not_keep_a_pool_from_stopping() {
    let configuration = Configuration { streams: 4, depth: 2, ..Configuration::default() };
    let delays = [Duration::from_millis(2)];
    let pool = start(Doubler::new(1).with_delays(&delays), configuration);
    let (producer, responses) = (pool.producer(), pool.responses(Order::Completion));
    for i in 0..8 {
        send(&producer, 1, i as f32);
    }
    let begun = Instant::now();
    let reader = std::thread::spawn(move || {
        for response in responses {
            let value = response.tag();
            // A pool that goes on for ever is let go in the end.
            let is_late = begun.elapsed() > Duration::from_secs(10);
            if let Some(room) = producer.refill(response).filter(|_| !is_late) {
                room.commit(value);
            }
        }
    });
    std::thread::sleep(Duration::from_millis(30));
    let asked = Instant::now();
    pool.stop().expect("the pool stops");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    reader.join().expect("the reader ends well");
}

#[test]
fn a_slot_that_others_read_or_wait_for_goes_home() {
    let configuration = Configuration {
        batch_size: 2,
        depth: 1,
        batching_delay: Nanos::from_seconds(5.0),
        ..Configuration::default()
    };
    let pool = start(Doubler::new(2), configuration);
    let (producer, mut responses) = (pool.producer(), pool.responses(Order::Completion));
    (0..2).for_each(|i| {
        send(&producer, 1, i as f32);
    });
    let shared: Vec<_> = responses.by_ref().take(2).collect();
    assert!(shared.into_iter().all(|response| producer.refill(response).is_none()), "two requests shared it");

    send(&producer, 2, 5.0);
    let response = responses.next().expect("a response");
    let waiting = producer.request(2).expect("it may wait");
    std::thread::sleep(Duration::from_millis(50));
    assert!(waiting.try_take().is_none() && producer.refill(response).is_none(), "somebody waits for it");
    drop(waiting.wait().expect("who waits gets it"));

    send(&producer, 2, 6.0);
    let response = responses.next().expect("a response");
    drop(producer.refill(response).expect("nobody else wants it"));
    send(&producer, 2, 7.0);
    assert_doubled(&responses.next().expect("what was given up again is free"));
}

#[test]
fn room_that_was_asked_for_and_never_fetched_comes_back() {
    let pool = start(Doubler::new(1), Configuration { depth: 1, ..Configuration::default() });
    let producer = pool.producer();
    // The only slot is granted, and nobody reads the answer.
    let asked = producer.request(1).expect("the pool runs");
    std::thread::sleep(Duration::from_millis(20));
    drop(asked);
    send(&producer, 1, 3.0);
    let mut responses = pool.responses(Order::Completion);
    assert_doubled(&responses.next().expect("the slot came back"));
}

#[test]
fn requests_and_configurations_that_cannot_be_are_refused_by_name() {
    let refusal = |configuration: Configuration| {
        let engine = Arc::new(Doubler::new(4));
        ExecutionPool::start(engine, &configuration, Clock::start())
            .map(|_| ())
            .expect_err("refused")
            .to_string()
    };
    let default = Configuration::default();
    assert_eq!(refusal(Configuration { streams: 0, ..default }), "streams 0: must be at least 1");
    assert_eq!(
        refusal(Configuration { submitters: 2, ..default }),
        "submitters 2: there are only 1 streams to drive"
    );
    assert_eq!(
        refusal(Configuration { batch_size: 8, ..default }),
        "batch 8: the engine runs 1 to 4 samples"
    );
    for smallest in [0, 3] {
        let smallest_batch = Some(smallest);
        assert_eq!(
            refusal(Configuration { batch_size: 2, smallest_batch, ..default }),
            format!("smallest-batch {smallest}: a slot has room for 1 to 2 samples")
        );
    }
    let pool = start(Doubler::new(4), Configuration { batch_size: 2, ..default });
    let error = pool.producer().reserve(3).map(|_| ()).expect_err("refused").to_string();
    assert_eq!(error, "samples 3: a request has 1 to 2 samples, the batch size");
}

#[test]
fn every_way_to_wait_answers_every_request() {
    for wait in Wait::ALL {
        let configuration =
            Configuration { streams: 3, submitters: 2, batch_size: 2, wait, ..Configuration::default() };
        let pool = start(Doubler::new(2).with_delays(&[Duration::from_micros(150)]), configuration);
        let producer = pool.producer();
        let sender = std::thread::spawn(move || {
            for i in 0..300 {
                send(&producer, 1 + i % 2, i as f32);
            }
        });
        let responses = pool.responses(Order::Completion).take(300).inspect(assert_doubled);
        assert_eq!(responses.map(|it| it.sequence()).collect::<BTreeSet<_>>(), (0..300).collect(), "{wait}");
        sender.join().expect("the sender ends well");
        pool.stop().expect("the pool stops");
    }
}

#[test]
fn only_a_spinning_submitter_asks_all_the_time_and_only_while_something_runs() {
    const EXECUTION: Duration = Duration::from_millis(30);
    let asked = |wait| {
        let polls = Arc::new(AtomicUsize::new(0));
        let doubler: Arc<dyn Engine> = Arc::new(Doubler::new(1).with_delays(&[EXECUTION]));
        let engine = Counted { engine: doubler, polls: Arc::clone(&polls), waits: Arc::default() };
        let configuration = Configuration { wait, ..Configuration::default() };
        let pool = ExecutionPool::start(Arc::new(engine), &configuration, Clock::start()).expect("it starts");
        send(&pool.producer(), 1, 1.0);
        assert_doubled(&pool.responses(Order::Completion).next().expect("answered"));
        let busy = polls.load(Ordering::Relaxed);
        std::thread::sleep(EXECUTION);
        (busy, polls.load(Ordering::Relaxed) - busy)
    };
    for wait in Wait::ALL {
        let (busy, idle) = asked(wait);
        match wait {
            Wait::Block => assert!(busy < 20, "{busy}"),
            Wait::Spin => assert!(busy > 200, "{busy}"),
            Wait::Hybrid => assert!(busy > 1, "{busy}"),
        }
        assert!(idle < 20, "{wait}: {idle}");
    }
}
