//! Predictions where the answer is known: by hand, and from ResNet-50 on an H100.

use super::*;
use crate::backend::{Counters, CudaGraph};
use crate::capacity::DRAM_CEILING;
use crate::capacity::synthetic::{alone, beside, with_counters};

fn predictor(observations: impl IntoIterator<Item = Observation>) -> Predictor {
    let mut predictor = Predictor::new();
    predictor.learn_all(observations);
    predictor
}

fn streams(observation: &Observation, streams: usize) -> Configuration {
    Configuration { streams, ..observation.configuration }
}

fn close(got: f64, expected: f64, tolerance: f64) {
    assert!((got / expected - 1.0).abs() <= tolerance, "{got} is not {expected}");
}

#[test]
fn nothing_is_predicted_from_nothing() {
    assert_eq!(Predictor::new().predict(&Configuration::default()), None);
    let mut silent = alone(1, 100.0);
    silent.stages.compute = Nanos::ZERO;
    assert_eq!(predictor([silent]).configuration_count(), 0);
}

#[test]
fn what_was_measured_is_predicted_again() {
    let one = alone(8, 1000.0);
    let prediction = predictor([one.clone()]).predict(&one.configuration).unwrap();
    close(prediction.throughput.value, 1000.0, 0.01);
    // 16 samples are in flight.
    close(prediction.latency.as_seconds(), 0.016, 0.01);
}

#[test]
fn a_full_device_gains_nothing_from_streams() {
    let counters = Counters { dram_utilisation: Some(0.84), sm_activity: Some(1.0), ..Counters::default() };
    let one = with_counters(alone(8, 1000.0), counters);
    let predictor = predictor([one.clone()]);
    let curve = predictor.curve(&one.configuration, &[1, 2, 4, 8]).unwrap();
    close(curve.gain().unwrap(), 1.0, 0.02);
    assert_eq!(curve.saturation(), Some((1, Resource::Dram)));
}

#[test]
fn a_device_a_tenth_full_gains_by_every_stream_but_for_their_disturbance() {
    let counters = Counters { dram_utilisation: Some(0.02), sm_activity: Some(0.05), ..Counters::default() };
    let one = with_counters(alone(1, 1000.0), counters);
    let prediction = predictor([one.clone()]).predict(&streams(&one, 4)).unwrap();
    assert!(prediction.throughput.value > 2700.0 && !prediction.is_saturated(), "{prediction:?}");
}

#[test]
fn what_two_streams_leave_empty_a_larger_batch_fills() {
    let counters = Counters { dram_utilisation: Some(0.03), sm_activity: Some(0.12), ..Counters::default() };
    let two = with_counters(beside(&alone(1, 1500.0), 2, 2950.0), counters);
    let larger = Configuration { batch_size: 4, ..two.configuration };
    let prediction = predictor([two]).predict(&larger).unwrap();
    assert!(prediction.throughput.value > 2.5 * 2950.0, "{prediction:?}");
}

#[test]
fn a_larger_batch_gains_of_a_full_device_by_what_its_pipes_leave_idle() {
    let gain = |tensor_activity, dram_utilisation| {
        let counters =
            Counters { sm_activity: Some(1.0), tensor_activity, dram_utilisation, ..Counters::default() };
        let alone = with_counters(alone(8, 1000.0), counters);
        let larger = Configuration { batch_size: 32, ..alone.configuration };
        predictor([alone]).predict(&larger).unwrap().throughput.value / 1000.0
    };
    close(gain(Some(0.6), Some(0.2)), 1.0, 0.02);
    close(gain(Some(0.0), Some(DRAM_CEILING)), 1.0, 0.02);
    // As ResNet-50 and BERT-base at batch 8 with several streams: 1.35 and 1.48 (H200).
    close(gain(Some(0.25), Some(0.28)), 1.34, 0.03);
    close(gain(Some(0.2), Some(0.25)), 1.40, 0.03);
    // Who does without tensor pipes may be busy all the same.
    assert!(gain(Some(0.001), Some(0.1)) < 1.3 && gain(None, None) < 1.3);
}

#[test]
fn a_slow_copy_engine_is_named_and_caps_the_streams() {
    let mut one = alone(4, 1000.0);
    // 4 ms of kernels and 3 ms of copies overlap in one stream.
    one.stages.h2d = Nanos(3_000_000);
    let counters = Counters { sm_activity: Some(0.1), ..Counters::default() };
    let one = with_counters(one, counters);
    let prediction = predictor([one.clone()]).predict(&streams(&one, 8)).unwrap();
    assert_eq!(prediction.first_saturating, Resource::H2dEngine);
    close(prediction.bounds.resources.unwrap(), 4.0 / 0.003, 1e-6);
    close(prediction.throughput.value, 4.0 / 0.003, 0.05);
    assert!(prediction.is_saturated());
}

#[test]
fn launching_without_a_graph_is_the_limit_until_there_is_one() {
    let with_graph = alone(1, 2000.0);
    let mut without = alone(1, 1250.0);
    without.configuration.cuda_graph = CudaGraph::Off;
    without.stages.enqueue = Nanos(800_000);
    let counters = Counters { sm_activity: Some(0.1), ..Counters::default() };
    let predictor = predictor([with_counters(with_graph.clone(), counters), without.clone()]);
    let prediction = predictor.predict(&streams(&without, 4)).unwrap();
    assert_eq!(prediction.first_saturating, Resource::SubmittingThread);
    close(prediction.throughput.value, 1250.0, 0.03);
    let prediction = predictor.predict(&streams(&with_graph, 4)).unwrap();
    assert!(prediction.throughput.value > 5400.0, "{prediction:?}");
}

#[test]
fn a_probe_of_two_streams_is_believed_and_one_that_agrees_narrows_all_numbers_of_streams() {
    let one = alone(8, 1000.0);
    let two = beside(&one, 2, 1300.0);
    let before = predictor([one.clone()]);
    let surprised = predictor([one.clone(), two.clone()]);
    close(surprised.predict(&two.configuration).unwrap().throughput.value, 1300.0, 0.02);

    let expected = before.predict(&two.configuration).unwrap().throughput.value;
    let after = predictor([one.clone(), beside(&one, 2, 0.95 * expected)]);
    let width = |predictor: &Predictor| {
        let throughput = predictor.predict(&streams(&one, 4)).unwrap().throughput;
        throughput.upper / throughput.lower
    };
    assert!(width(&after) < width(&before));
}

#[test]
fn memory_grows_with_the_samples_that_slots_have_room_for() {
    let using = |batch_size, memory| Observation { memory_bytes: Some(memory), ..alone(batch_size, 100.0) };
    let predictor = predictor([using(1, 1_020), using(4, 1_080)]);
    let prediction = predictor.predict(&using(16, 0).configuration).unwrap();
    assert_eq!(prediction.memory, Some(Bytes(1_320)));
}

/// ResNet-50 FP16 on an H100 with a CUDA graph, images/s: batch size, then 1, 2, 4 and 8 streams.
const RESNET: [(usize, [f64; 4]); 4] = [
    (1, [1_900.0, 2_882.0, 5_254.0, 9_037.0]),
    (8, [12_860.0, 16_680.0, 18_961.0, 20_146.0]),
    (32, [26_457.0, 29_111.0, 28_316.0, 28_539.0]),
    (128, [31_928.0, 34_279.0, 33_851.0, 33_699.0]),
];

/// One stream of the table: its inputs of 602,112 bytes a sample are copied at 51.5 GiB/s.
fn resnet(batch_size: usize, throughput: f64) -> Observation {
    let mut one = alone(batch_size, throughput);
    one.stages.h2d = Nanos::from_seconds(batch_size as f64 * 602_112.0 / (51.5 * f64::from(1 << 30)));
    one.stages.enqueue = Nanos(20_000);
    one
}

/// Given one stream at every batch and two streams at this one: predicted over measured for 4 and 8 streams.
fn resnet_errors(probed: usize) -> Vec<(usize, usize, f64, bool)> {
    let ones = RESNET.map(|(batch_size, cells)| resnet(batch_size, cells[0]));
    let two = beside(&ones[probed], 2, RESNET[probed].1[1]);
    let predictor = predictor(ones.iter().cloned().chain([two]));
    let cell = |one: &Observation, count: usize, measured: f64| {
        let Estimate { value, lower, upper } = predictor.predict(&streams(one, count)).unwrap().throughput;
        let is_inside = lower <= measured && measured <= upper;
        (one.configuration.batch_size, count, value / measured, is_inside)
    };
    let rows = ones.iter().zip(RESNET);
    rows.flat_map(|(one, (_, cells))| [cell(one, 4, cells[2]), cell(one, 8, cells[3])]).collect()
}

#[test]
fn resnet_on_four_and_eight_streams_is_predicted_from_one_and_a_probe_of_two_at_batch_8() {
    let errors = resnet_errors(1);
    let far: Vec<_> = errors.iter().filter(|(.., ratio, _)| (ratio - 1.0).abs() > 0.09).collect();
    // At batch 1, eight streams reach 9,037/s where 6,390/s are predicted: two streams disturb each other, and
    // nothing tells yet that six more hardly do. The interval knows.
    assert!(matches!(far[..], [(1, 8, ratio, true)] if *ratio > 0.7), "{errors:.2?}");
    assert!(errors.iter().all(|(.., is_inside)| *is_inside), "{errors:.2?}");
}

#[test]
fn whatever_batch_of_resnet_is_probed_three_of_four_cells_are_within_fifteen_per_cent() {
    let errors: Vec<_> = (0..RESNET.len()).flat_map(resnet_errors).collect();
    let near = errors.iter().filter(|(.., ratio, _)| (ratio - 1.0).abs() < 0.15).count();
    assert!(near * 4 >= errors.len() * 3, "{near} of {}: {errors:.2?}", errors.len());
}

#[test]
fn copies_of_ordinary_memory_hold_the_submitter_up_for_as_long_as_the_batch_is_large() {
    // ResNet-50 at batch 8 with pageable inputs on an H200: nearly all of the enqueue call is copying.
    let mut one = alone(8, 5_118.0);
    one.stages.enqueue = Nanos(1_367_000);
    one.stages.copy_calls = Nanos(1_334_000);
    one.stages.compute = Nanos(635_000);
    let gain = |one: &Observation| {
        let predictor = predictor([one.clone()]);
        let at = |batch_size| {
            let configuration = Configuration { batch_size, ..one.configuration };
            predictor.predict(&configuration).unwrap().throughput.value
        };
        at(32) / at(8)
    };
    // Measured: 1.45, since the first megabyte takes longest.
    assert!((1.0..1.3).contains(&gain(&one)), "{}", gain(&one));
    // Launches take as long for any batch.
    one.stages.copy_calls = Nanos::ZERO;
    assert!(gain(&one) > 1.9, "{}", gain(&one));
}

/// What a larger batch brought to the real cases of a file in which nothing was wrong, as predicted from their evidence
/// alone and as measured (docs/benchmarks.md, "Thirty-one real cases").
fn gains_of_batches(file: &str) -> Vec<(String, f64, f64)> {
    let path = format!("{}/../docs/data/{file}", env!("CARGO_MANIFEST_DIR"));
    let kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let of_case = |case: &serde_json::Value| {
        let (name, remedy) = (case["name"].as_str()?.to_owned(), &case["remedy"]);
        let batch_size = remedy["what"].as_str()?.strip_prefix("batch ")?.parse().unwrap();
        // `resnet50-fp16 4x1 graph compute`, and behind a comma what is wrong.
        let (streams, own) = name.split(' ').nth(1).filter(|_| !name.contains(','))?.split_once('x')?;
        let own = own.parse().unwrap();
        let readings = case["evidence"]["readings"].as_array()?;
        let reading =
            |quantity: &str| readings.iter().find(|it| it["quantity"] == quantity)?["value"].as_f64();
        let time = |quantity| Some(Nanos::from_seconds(reading(quantity)?));
        let mut observation = alone(own, reading("executions")? * own as f64);
        observation.configuration.streams = streams.parse().unwrap();
        if !name.contains("graph compute") {
            observation.configuration.cuda_graph = CudaGraph::Off;
        }
        observation.stages.enqueue = time("enqueue_time")?;
        observation.stages.h2d = time("h2d_time")?;
        observation.stages.compute = time("compute_time")?;
        observation.stages.d2h = time("d2h_time")?;
        observation.counters = Some(Counters {
            sm_activity: reading("device_fill"),
            tensor_activity: reading("tensor_activity"),
            dram_utilisation: reading("dram_fill").map(|fill| fill * DRAM_CEILING),
            sm_clock_mhz: reading("clock_share"),
            sm_clock_max_mhz: Some(1.0),
            ..Counters::default()
        });
        let (now, larger) =
            (observation.configuration, Configuration { batch_size, ..observation.configuration });
        let predictor = predictor([observation]);
        let throughput = |of| predictor.predict(&of).map(|it| it.throughput.value);
        Some((name, throughput(larger)? / throughput(now)?, remedy["measured"].as_f64()?))
    };
    kept["cases"].as_array().unwrap().iter().filter_map(of_case).collect()
}

/// With all work by the power of 0.8 `compute` is promised 1.49 where 1.07 comes, and `memory` 1.40 and 1.09.
#[test]
fn larger_batches_of_real_cases_follow_from_their_evidence() {
    for file in ["real-cases-2026-11-30-fifth.json", "real-cases-2026-11-30-sixth.json"] {
        let gains = gains_of_batches(file);
        let is_hit = |(_, predicted, measured): &&(String, f64, f64)| {
            (predicted - measured).abs() <= (0.15 * measured).max(0.05)
        };
        let hits = gains.iter().filter(is_hit).count();
        assert!(gains.len() == 17 && hits >= 15, "{file}: {hits} of {}: {gains:.2?}", gains.len());
    }
}
