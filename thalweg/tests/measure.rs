//! Measuring a device that doubles its input, with real threads and the real clock.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{Doubler, TestCounters, workload};
use thalweg::Error;
use thalweg::backend::PlantedFault;
use thalweg::measure::{
    Arrival, Feeding, Load, Measurement, Observing, Pacing, Stability, StopSignal, Workload,
    measure_what_fits,
};
use thalweg::pool::Configuration;
use thalweg::tune::saturating_load;
use thalweg::units::Nanos;

const EXECUTION: Duration = Duration::from_millis(2);

fn short() -> Pacing {
    Pacing {
        warm_up: Duration::from_millis(20),
        window: Duration::from_millis(60),
        max_windows: 6,
        longest: None,
    }
}

fn measure(workload: &Workload, configuration: Configuration, load: Load) -> thalweg::Result<Measurement> {
    workload.experiment(configuration, load, short()).run(&StopSignal::default())
}

#[test]
fn streams_that_sleep_add_up_and_every_slot_is_verified() {
    let workload = workload(Arc::new(Doubler::new(4).with_delays(&[EXECUTION])));
    let configuration = Configuration { streams: 2, batch_size: 4, ..Configuration::default() };
    let measurement = measure(&workload, configuration, saturating_load(&configuration, None)).unwrap();
    // Two streams, four samples per execution, at most 500 executions a second each.
    let throughput = measurement.throughput_inferences_per_s;
    assert!((1000.0..=4000.0).contains(&throughput.value), "{throughput:?}");
    assert!(throughput.lower <= throughput.value && throughput.value <= throughput.upper, "{throughput:?}");
    let per_execution = throughput.value / measurement.executions_per_s;
    assert!((per_execution - 4.0).abs() < 0.01, "{per_execution}");
    assert!(measurement.stages.compute >= thalweg::units::Nanos::from_duration(EXECUTION));
    assert_eq!(measurement.verification.verified_slots, 4);
    assert_eq!(measurement.verification.worst_relative_error, 0.0);
    assert_ne!(measurement.stability, Stability::TooShort);
    let from_records: usize = measurement.records.iter().map(|record| record.samples).sum();
    let used = &measurement.windows[measurement.windows.len() - measurement.used_windows..];
    assert_eq!(from_records as u64, used.iter().map(|window| window.inferences).sum::<u64>());
}

#[test]
fn a_wrong_output_is_an_error_that_names_stream_tensor_index_and_values() {
    let workload = workload(Arc::new(Doubler::new(1).wrong_on_stream(1)));
    let configuration = Configuration { streams: 2, ..Configuration::default() };
    let error = measure(&workload, configuration, saturating_load(&configuration, None)).unwrap_err();
    match error {
        Error::WrongResult { stream, batch_size, tensor, index, expected, got } => {
            assert_eq!((stream, batch_size, tensor.as_str(), index), (1, 1, "y", 1));
            assert!((got - expected - 1.0).abs() < 1e-5, "{got} {expected}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_batch_that_is_rounded_otherwise_is_compared_with_one_stream_at_its_own_size() {
    let doubler = || Doubler::new(4).rounding_batches(0.02);
    let batches_of_four = Configuration { streams: 2, batch_size: 4, ..Configuration::default() };
    let saturated = saturating_load(&batches_of_four, None);
    let measured = measure(&workload(Arc::new(doubler())), batches_of_four, saturated).unwrap();
    let verification = measured.verification;
    assert!(verification.verified_samples > 0);
    assert!(verification.worst_relative_error < 1e-6, "{verification:?}");
    assert!((verification.batch_difference.unwrap() - 0.02).abs() < 1e-3, "{verification:?}");

    // What is wrong on one of the streams is as wrong as before.
    let wrong = workload(Arc::new(doubler().wrong_on_stream(1)));
    let error = measure(&wrong, batches_of_four, saturated).unwrap_err();
    assert!(matches!(error, Error::WrongResult { stream: 1, batch_size: 4, .. }), "{error}");
}

#[test]
fn what_was_wrong_once_is_not_measured_again_and_forgotten() {
    let configuration = Configuration { batch_size: 4, ..Configuration::default() };
    let saturated = saturating_load(&configuration, None);
    // Rounding that is no reason, as every kernel has some, and a difference that no rounding explains. The first pool
    // makes the reference.
    for (rounding, wrong_pool) in [(1e-6, Some(1)), (0.5, None)] {
        let doubler = Doubler::new(4).rounding_batches(rounding);
        let doubler =
            wrong_pool.map_or(doubler, |pool| Doubler::new(4).rounding_batches(rounding).wrong_in_pool(pool));
        let error = measure(&workload(Arc::new(doubler)), configuration, saturated).unwrap_err();
        assert!(matches!(error, Error::WrongResult { batch_size: 4, .. }), "{error}");
    }
}

#[test]
fn batches_of_each_size_are_compared_with_one_stream_at_that_size() {
    // Three requests of a sample each, at two streams: executions of one to three samples.
    let load = Load { arrival: Arrival::Concurrency(3), samples_per_request: 1 };
    let configuration = Configuration { streams: 2, batch_size: 4, ..Configuration::default() };
    let doubler = || Doubler::new(4).with_delays(&[EXECUTION]).rounding_batches(0.02);
    let measured = measure(&workload(Arc::new(doubler())), configuration, load).unwrap();
    assert!(measured.verification.verified_samples > 0);
    let error = measure(&workload(Arc::new(doubler().wrong_on_stream(0))), configuration, load);
    // The reference comes from stream 0 and is as wrong; stream 1 is not.
    assert!(matches!(error, Err(Error::WrongResult { .. })), "{error:?}");
}

#[test]
fn small_requests_travel_together_and_wait_since_they_might_have_been_sent() {
    let workload = workload(Arc::new(Doubler::new(4).with_delays(&[EXECUTION])));
    let configuration = Configuration { batch_size: 4, ..Configuration::default() };
    let load = Load { arrival: Arrival::Concurrency(64), samples_per_request: 1 };
    for threads in [1, 4] {
        let experiment = workload.experiment(configuration, load, short()).fed(Feeding::Copy { threads });
        let measured = experiment.run(&StopSignal::default()).unwrap();
        let throughput = measured.throughput_inferences_per_s.value;
        let batch = throughput / measured.executions_per_s;
        assert!(batch > 3.5, "{threads}: {batch} samples travel together");
        // Little's law, over windows in which the pool had long been full.
        let there = throughput * measured.latency.mean.as_seconds();
        assert!((48.0..80.0).contains(&there), "{threads}: {there} of 64");
    }
}

#[test]
fn more_senders_of_small_requests_send_no_less() {
    // Each sender takes two milliseconds for a request, which another one may use.
    let fault = Some(PlantedFault::SlowFeed(Nanos(2_000_000)));
    let workload = workload(Arc::new(Doubler::new(8)));
    let configuration = Configuration { batch_size: 8, streams: 2, fault, ..Configuration::default() };
    let load = Load { arrival: Arrival::Concurrency(64), samples_per_request: 1 };
    let rate = |threads| {
        let experiment = workload.experiment(configuration, load, short()).fed(Feeding::Copy { threads });
        experiment.run(&StopSignal::default()).unwrap().throughput_inferences_per_s.value
    };
    let (one, four) = (rate(1), rate(4));
    assert!(one < 520.0 && four > 2.5 * one, "{one} {four}");
}

#[test]
fn small_requests_of_an_open_loop_travel_together() {
    let workload = workload(Arc::new(Doubler::new(4).with_delays(&[EXECUTION])));
    let configuration = Configuration { batch_size: 4, ..Configuration::default() };
    // Each alone would come to 500 a second at most.
    let load = Load { arrival: Arrival::PoissonRate(1_000.0), samples_per_request: 1 };
    let measured = measure(&workload, configuration, load).unwrap();
    let throughput = measured.throughput_inferences_per_s.value;
    assert!(throughput > 700.0, "{throughput}");
}

/// Measures, and ends what would go on for ever.
fn ends(doubler: Doubler, configuration: Configuration, load: Load) -> Measurement {
    let (workload, stop) = (workload(Arc::new(doubler)), StopSignal::default());
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| {
            let experiment = workload.experiment(configuration, load, short());
            experiment.fed(Feeding::Copy { threads: 1 }).run(&stop)
        });
        let begun = Instant::now();
        while !measured.is_finished() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(measured.is_finished(), "{configuration} waits for ever");
        measured.join().expect("it measures").expect("something ran")
    })
}

/// What a sender that waits for room waits for may lie ready for it in slots that were read.
#[test]
fn slots_that_are_kept_leave_nobody_waiting() {
    let slow = Some(PlantedFault::SlowFeed(Nanos(5_000_000)));
    let whole = |outstanding| Load { arrival: Arrival::Concurrency(outstanding), samples_per_request: 1 };
    // More requests than slots; submitters with unlike numbers of slots; a stream that breaks.
    let one = Configuration { fault: slow, ..Configuration::default() };
    ends(Doubler::new(1), one, whole(4));
    let uneven = Configuration { streams: 3, submitters: 2, fault: slow, ..Configuration::default() };
    ends(Doubler::new(1), uneven, saturating_load(&uneven, None));
    let two = Configuration { streams: 2, fault: slow, ..Configuration::default() };
    let measured = ends(Doubler::new(1).breaking_after(9), two, saturating_load(&two, None));
    assert!(measured.failures.count > 0, "{:?}", measured.failures);
}

#[test]
fn a_measurement_ends_soon_after_its_last_window_however_slow_its_feed() {
    let fault = Some(PlantedFault::SlowFeed(Nanos(60_000_000)));
    let configuration = Configuration { streams: 4, depth: 4, fault, ..Configuration::default() };
    let stop = StopSignal::default();
    let workload = workload(Arc::new(Doubler::new(1)));
    let load = saturating_load(&configuration, None);
    std::thread::scope(|scope| {
        let experiment = workload.experiment(configuration, load, Pacing { max_windows: 1000, ..short() });
        let measured = scope.spawn(|| experiment.fed(Feeding::Copy { threads: 1 }).run(&stop));
        std::thread::sleep(Duration::from_millis(1500));
        let asked = Instant::now();
        stop.request();
        let _ = measured.join().unwrap();
        // Sixteen slots would take a second.
        assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    });
}

#[test]
fn counters_that_take_long_to_start_are_no_part_of_a_window() {
    let configuration = Configuration { depth: 2, ..Configuration::default() };
    let load = saturating_load(&configuration, None);
    let one_window = Pacing { max_windows: 1, ..short() };
    let measure = |doubler: Doubler| {
        let workload = workload(Arc::new(doubler.with_delays(&[EXECUTION])));
        let run = workload.experiment(configuration, load, one_window).run(&StopSignal::default());
        run.unwrap().throughput_inferences_per_s.value
    };
    let plain = measure(Doubler::new(1));
    let slow = TestCounters { start_takes: Duration::from_millis(600), ..TestCounters::default() };
    let observed = measure(Doubler::new(1).with_counters(slow));
    assert!(observed > 0.5 * plain, "{observed} beside {plain}");
}

#[test]
fn counters_begin_once_the_work_is_as_old_as_what_they_tell_and_not_where_no_time_is_left() {
    let configuration = Configuration { depth: 2, ..Configuration::default() };
    let load = saturating_load(&configuration, None);
    let ms = Duration::from_millis;
    let pacing = Pacing { warm_up: ms(20), window: ms(50), max_windows: 6, longest: None };
    let starts = |lag, least_time| {
        let (lag, least_time) = (Nanos::from_duration(ms(lag)), Nanos::from_duration(ms(least_time)));
        let counters = TestCounters { lag, least_time, ..TestCounters::default() };
        let started = Arc::clone(&counters.starts);
        let workload = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION]).with_counters(counters)));
        let begun = Instant::now();
        let experiment = workload.experiment(configuration, load, pacing);
        let measurement = experiment.run(&StopSignal::default()).unwrap();
        assert!(measurement.counters.is_some(), "whatever they say");
        let started = started.lock().unwrap();
        started.iter().map(|start| start.duration_since(begun)).collect::<Vec<_>>()
    };
    let at_once = starts(0, 0);
    assert!(at_once.len() == 1 && at_once[0] >= ms(20), "{at_once:?}");
    let later = starts(100, 0);
    assert!(later.len() == 1 && later[0] >= ms(100), "{later:?}");
    assert_eq!(starts(0, 10_000), [], "no window lasts so long");
}

#[test]
fn where_only_the_clock_is_asked_no_counters_are_started() {
    let counters = TestCounters::default();
    let starts = Arc::clone(&counters.starts);
    let workload = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION]).with_counters(counters)));
    let configuration = Configuration::default();
    let experiment = workload.experiment(configuration, saturating_load(&configuration, None), short());
    let measured = experiment.observed(Observing::Clock).run(&StopSignal::default()).unwrap();
    assert!(starts.lock().unwrap().is_empty());
    let counters = measured.counters.unwrap();
    assert_eq!(counters.sm_clock_mhz, Some(TestCounters::SM_CLOCK_MHZ));
    assert!(counters.unavailable.unwrap().starts_with("they were left alone"));
    assert_eq!(measured.clocks.len(), measured.windows.len());
}

#[test]
fn windows_that_agree_do_not_end_a_measurement_before_its_counters_can_tell() {
    let configuration = Configuration { depth: 2, ..Configuration::default() };
    let load = saturating_load(&configuration, None);
    let ms = Duration::from_millis;
    let pacing = Pacing { warm_up: ms(20), window: ms(100), max_windows: 12, longest: None };
    let least_time = Nanos::from_duration(ms(400));
    let counters = TestCounters { least_time, ..TestCounters::default() };
    let starts = Arc::clone(&counters.starts);
    let workload = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION]).with_counters(counters)));
    workload.experiment(configuration, load, pacing).run(&StopSignal::default()).unwrap();
    let started = starts.lock().unwrap()[0];
    assert!(started.elapsed() >= ms(800), "{:?}", started.elapsed());
}

#[test]
fn a_measurement_ends_when_all_streams_are_lost() {
    let workload = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION]).breaking_after(20)));
    let configuration = Configuration { streams: 2, ..Configuration::default() };
    let started = Instant::now();
    let ended = measure(&workload, configuration, saturating_load(&configuration, None));
    assert!(started.elapsed() < Duration::from_secs(2), "it does not wait for ever");
    match ended {
        Ok(measurement) => {
            assert!(measurement.failures.count >= 2, "{:?}", measurement.failures);
            assert_eq!(measurement.failures.lost_streams, [0, 1].into());
            assert!(measurement.remarks[0].contains("ended before its time"), "{:?}", measurement.remarks);
        }
        Err(error) => assert!(error.to_string().contains("the stream broke"), "{error}"),
    }
}

#[test]
fn what_came_in_before_all_streams_were_lost_is_kept() {
    // Long before three windows can agree, also on a machine that is busy.
    let workload = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION]).breaking_after(24)));
    let configuration = Configuration { streams: 2, ..Configuration::default() };
    let measured = measure(&workload, configuration, saturating_load(&configuration, None)).unwrap();
    assert!(!measured.windows.is_empty() && measured.records.len() >= 8, "{}", measured.records.len());
    assert_eq!(measured.failures.lost_streams.len(), 2);
    assert!(measured.verification.verified_samples > 0);
}

#[test]
fn streams_that_do_not_fit_are_fewer_streams_and_a_remark() {
    let workload = workload(Arc::new(Doubler::new(2).with_delays(&[EXECUTION]).with_room_for(3)));
    let wanted = Configuration { streams: 8, submitters: 4, batch_size: 2, ..Configuration::default() };
    let load = |configuration: &Configuration| saturating_load(configuration, None);
    let stop = StopSignal::default();
    let measured = measure_what_fits(&workload, wanted, &load, short(), &stop).unwrap();
    assert_eq!(measured.configuration, Configuration { streams: 3, submitters: 3, ..wanted });
    assert_eq!(measured.load, saturating_load(&measured.configuration, None));
    let remark = "Of 8 streams 3 fit into the device's memory and were run: each takes all there is.";
    assert_eq!(measured.remarks, [remark]);
    let error = workload.experiment(wanted, load(&wanted), short()).run(&stop).unwrap_err();
    assert!(matches!(error, Error::DoesNotFit { streams: 8, fits: 3, .. }), "{error}");
}

#[test]
fn what_a_stream_does_otherwise_than_asked_is_in_the_measurement_once() {
    let remark = "Stream 1 runs without a CUDA graph: it is made of threads.";
    let workload = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION]).with_remark(1, remark)));
    let configuration = Configuration { streams: 2, ..Configuration::default() };
    let measured = measure(&workload, configuration, saturating_load(&configuration, None)).unwrap();
    assert_eq!(measured.remarks, [remark]);
    assert_eq!(measured.deviating_streams, [1].into());
}

#[test]
fn a_stop_ends_it_and_before_the_first_window_nothing_was_measured() {
    let workload = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION])));
    let configuration = Configuration::default();
    let stop = StopSignal::default();
    stop.request();
    let experiment =
        workload.experiment(configuration, saturating_load(&configuration, None), Pacing::default());
    let error = experiment.run(&stop).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
}

#[test]
fn the_longest_time_ends_a_measurement_though_nothing_comes() {
    let workload = workload(Arc::new(Doubler::new(1)));
    // Responses come 0, 1.5 and 3 seconds after the start.
    let load = Load { arrival: Arrival::ConstantRate(1.0 / 1.5), samples_per_request: 1 };
    let window = Duration::from_secs(60);
    let pacing = Pacing {
        warm_up: Duration::ZERO,
        window,
        max_windows: 1,
        longest: Some(Duration::from_millis(1_700)),
    };
    let started = Instant::now();
    let measured = workload.experiment(Configuration::default(), load, pacing).run(&StopSignal::default());
    let took = started.elapsed();
    assert!(took < Duration::from_millis(2_700), "{took:?}: the third response was waited for");
    assert_eq!(measured.unwrap().records.len(), 1);
}

#[test]
fn a_slot_that_is_not_full_runs_as_a_full_one_where_the_engine_asks_for_it() {
    let executions = Arc::default();
    let doubler = || Doubler::new(8).with_delays(&[EXECUTION]).rounding_batches(0.02).counted(&executions);
    let workload_of = |doubler| workload(Arc::new(doubler));
    let workload = workload_of(doubler().preparing_executions());
    let configuration = Configuration { batch_size: 8, depth: 1, ..Configuration::default() };
    let load = Load { arrival: Arrival::Concurrency(3), samples_per_request: 1 };
    let before = executions.load(std::sync::atomic::Ordering::Relaxed);
    let measured = measure(&workload, configuration, load).unwrap();
    let ran = (executions.load(std::sync::atomic::Ordering::Relaxed) - before) as f64;
    // Outputs are right, three requests share an execution at most, and executions are counted as what they are.
    assert!(measured.verification.verified_samples > 0 && measured.failures.count == 0);
    let of_requests =
        |it: &thalweg::measure::Record| it.execution_samples.is_some_and(|it| (1..=3).contains(&it));
    assert!(measured.records.iter().all(|record| record.batch_size == 8 && of_requests(record)));
    let inferences = measured.verification.samples as f64;
    let each = measured.throughput_inferences_per_s.value / measured.executions_per_s;
    assert!((inferences / ran / each - 1.0).abs() < 0.2, "{inferences} in {ran}, told {each}");
    // What batches of eight round otherwise was found out, and where they run, what smaller ones do.
    assert!(measured.verification.batch_difference.is_some());
    let partial = measure(&workload_of(doubler()), configuration, load).unwrap();
    assert!(partial.records.iter().all(|record| record.batch_size <= 3));
    assert!(partial.verification.batch_difference.is_some());
    // So it is of smaller executions that are prepared.
    let smaller = Configuration { smallest_batch: Some(2), ..configuration };
    let measured = measure(&workload_of(doubler().preparing_executions()), smaller, load).unwrap();
    assert!(measured.records.iter().all(|record| record.batch_size <= 4));
    assert!(measured.verification.batch_difference.is_some() && measured.failures.count == 0);
}

#[test]
fn what_was_cut_short_is_shown_and_compared_with_nothing() {
    let workload = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION])));
    let configuration = Configuration { streams: 2, ..Configuration::default() };
    let load = saturating_load(&configuration, None);
    let pacing = Pacing { window: Duration::from_secs(600), ..short() };
    let stopped_soon = |measure: &dyn Fn(&StopSignal) -> thalweg::Result<Measurement>| {
        let stop = StopSignal::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(400));
                stop.request();
            });
            measure(&stop)
        })
    };
    let measured = stopped_soon(&|stop| workload.experiment(configuration, load, pacing).run(stop)).unwrap();
    assert!(measured.remarks[0].contains("ended before its time"), "{:?}", measured.remarks);
    let whole = stopped_soon(&|stop| workload.experiment(configuration, load, pacing).run_whole(stop));
    assert!(matches!(whole, Err(Error::Interrupted)), "{whole:?}");
}

#[test]
fn a_measurement_with_failures_is_no_whole_one() {
    let workload = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION]).breaking_after(24)));
    let configuration = Configuration { streams: 2, ..Configuration::default() };
    let load = saturating_load(&configuration, None);
    let error =
        workload.experiment(configuration, load, short()).run_whole(&StopSignal::default()).unwrap_err();
    let text = "2 of 2 streams failed for good, and what they had not finished is missing: ";
    assert!(error.to_string().starts_with(text), "{error}");
}

#[test]
fn the_time_of_a_sample_is_its_part_of_the_smallest_batch() {
    let engine = Doubler::new(4).with_delays(&[4 * EXECUTION]);
    let whole = workload(Arc::new(engine.of_whole_batches())).reference.sample_time();
    assert!(whole >= Nanos::from_duration(EXECUTION), "{whole}");
    assert!(whole < Nanos::from_duration(3 * EXECUTION), "a quarter of an execution, not {whole}");
}

#[test]
fn a_pool_that_cannot_keep_up_cannot_hide_it() {
    let workload = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION])));
    // At most 500 a second are possible: requests wait longer and longer for their turn.
    let load = Load { arrival: Arrival::ConstantRate(2000.0), samples_per_request: 1 };
    let measurement = measure(&workload, Configuration::default(), load).unwrap();
    assert!(measurement.latency.p50.as_millis() > 30.0, "{}", measurement.latency.p50);
    assert!(matches!(measurement.stability, Stability::Unstable { .. }), "{:?}", measurement.stability);
}

#[test]
fn a_rate_below_the_capacity_is_served_at_that_rate() {
    let workload = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION])));
    let load = Load { arrival: Arrival::PoissonRate(100.0), samples_per_request: 1 };
    let configuration = Configuration { streams: 2, ..Configuration::default() };
    // So long that chance does not decide.
    let pacing = Pacing { window: 4 * short().window, ..short() };
    let measurement = workload.experiment(configuration, load, pacing).run(&StopSignal::default()).unwrap();
    let throughput = measurement.throughput_inferences_per_s.value;
    assert!((60.0..160.0).contains(&throughput), "{throughput}");
}

#[test]
fn inputs_that_several_threads_copy_are_the_same() {
    // 3 MB a sample: many pieces.
    let mut workload = workload(Arc::new(Doubler::of_size(2, 750_000)));
    let configuration = Configuration { batch_size: 2, ..Configuration::default() };
    let load = saturating_load(&configuration, None);
    for threads in [1, 4] {
        workload.feeding = Feeding::Copy { threads };
        let feed = measure(&workload, configuration, load).expect("every output is right").feed;
        let feed = feed.expect("the world's time takes feeding");
        assert_eq!(feed.feeding, workload.feeding);
        assert!(feed.busy_share > 0.0 && feed.busy_share <= 1.0, "{feed:?}");
        assert!(feed.fill_bytes_per_s > 1e8, "{feed:?}");
    }
}

#[test]
fn small_requests_that_several_threads_send_come_in_time_and_with_their_own_samples() {
    let mut workload = workload(Arc::new(Doubler::new(1)));
    workload.feeding = Feeding::Copy { threads: 4 };
    let configuration = Configuration { streams: 2, ..Configuration::default() };
    let closed = measure(&workload, configuration, saturating_load(&configuration, None));
    let closed = closed.expect("every output is right");
    assert_eq!(closed.verification.verified_slots, 4);
    let feed = closed.feed.expect("the world's time takes feeding");
    assert!(feed.busy_share > 0.0 && feed.busy_share <= 1.0, "{feed:?}");
    let open = Load { arrival: Arrival::ConstantRate(200.0), samples_per_request: 1 };
    let open = measure(&workload, configuration, open).expect("every output is right");
    let throughput = open.throughput_inferences_per_s.value;
    assert!((180.0..220.0).contains(&throughput), "{throughput}");
}

#[test]
fn resident_inputs_are_written_once_for_each_place_and_outputs_are_still_right() {
    let mut workload = workload(Arc::new(Doubler::new(2).with_delays(&[Duration::from_micros(200)])));
    workload.feeding = Feeding::Resident;
    let configuration = Configuration { streams: 2, batch_size: 2, ..Configuration::default() };
    // One sample a request, so that two share a slot.
    let load = saturating_load(&configuration, Some(1));
    let measurement = measure(&workload, configuration, load).expect("every output is right");
    let feed = measurement.feed.expect("the world's time takes feeding");
    // Four slots of two places: 8 samples were copied, and thousands ran.
    assert!(measurement.verification.samples > 100, "{:?}", measurement.verification);
    assert!(feed.busy_share < 0.2, "{feed:?}");
    assert_eq!(measurement.verification.verified_slots, 4);
}

#[test]
fn a_planted_wait_lets_no_execution_run_beside_another() {
    let workload = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION])));
    let fault = Some(PlantedFault::WaitPerItem);
    let configuration = Configuration { streams: 4, fault, ..Configuration::default() };
    let measurement = measure(&workload, configuration, saturating_load(&configuration, None)).unwrap();
    let mut spans: Vec<_> = measurement.records.iter().map(|record| record.stages.compute).collect();
    spans.sort_unstable_by_key(|span| span.start);
    assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start), "two ran side by side");
    let streams: BTreeSet<usize> = measurement.records.iter().map(|record| record.slot.executor).collect();
    assert_eq!(streams.len(), 4, "each stream has its turn");
    assert!(configuration.to_string().ends_with("planted fault wait-per-item"), "{configuration}");
}

#[test]
fn a_planted_slow_feed_keeps_the_sender_busy_and_the_streams_idle() {
    let workload = workload(Arc::new(Doubler::new(1).with_delays(&[EXECUTION])));
    let preparation = Nanos(20_000_000);
    let fault = Some(PlantedFault::SlowFeed(preparation));
    let configuration = Configuration { streams: 2, fault, ..Configuration::default() };
    let measurement = measure(&workload, configuration, saturating_load(&configuration, None)).unwrap();
    assert!(measurement.executions_per_s <= 50.0, "{}", measurement.executions_per_s);
    let feed = measurement.feed.unwrap();
    assert!(feed.busy_share > 0.7, "{feed:?}");
}
