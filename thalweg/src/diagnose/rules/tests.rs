//! The rules on what was measured on a real H100: ResNet-50 FP16, TensorRT 8.6, 2026-11-22.

use super::*;
use crate::backend::CudaGraph;
use crate::capacity::DRAM_CEILING;

/// Numbers that were read, and nothing else.
fn evidence(readings: &[(Quantity, f64)]) -> Evidence {
    let mut evidence = Evidence::default();
    readings.iter().for_each(|(quantity, value)| evidence.put(*quantity, *value, "measured"));
    evidence
}

fn pool(streams: usize, batch_size: usize, cuda_graph: CudaGraph) -> Configuration {
    Configuration { streams, batch_size, cuda_graph, ..Configuration::default() }
}

fn gain(judgement: &Judgement, limit: Limit) -> f64 {
    judgement.limits.iter().find(|it| it.limit == limit).unwrap().gain_if_doubled
}

/// Streams that never pause take this for an execution, where two slots each keep them supplied.
fn back_to_back(streams: f64, executions_per_s: f64) -> (Quantity, f64) {
    (Quantity::ComputeTime, streams / executions_per_s)
}

#[test]
fn launching_kernel_by_kernel_at_batch_1_is_enqueue_bound() {
    let seen = evidence(&[
        (Quantity::Executions, 1.0 / 640e-6),
        (Quantity::EnqueueTime, 400e-6),
        (Quantity::SubmitterBusy, 400.0 / 640.0),
        (Quantity::DeviceFill, 0.09),
    ]);
    let judgement = judge(&seen, &pool(1, 1, CudaGraph::Off));
    assert_eq!(judgement.verdict, Verdict::EnqueueBound);
    assert!(gain(&judgement, Limit::Submission) > 1.4, "{:?}", judgement.limits);
    assert!(gain(&judgement, Limit::Sms) < 1.01, "{:?}", judgement.limits);
}

#[test]
fn four_streams_at_batch_1_leave_the_device_underfilled() {
    let seen = evidence(&[
        (Quantity::Executions, 5_190.0),
        back_to_back(4.0, 5_190.0),
        (Quantity::EnqueueTime, 40e-6),
        (Quantity::SubmitterBusy, 5_190.0 * 40e-6),
        (Quantity::DeviceFill, 0.33),
    ]);
    let judgement = judge(&seen, &pool(4, 1, CudaGraph::Compute));
    assert_eq!(judgement.verdict, Verdict::Underfilled);
    // Eight streams ran 9,037 inferences/s.
    let gain = gain(&judgement, Limit::Streams);
    assert!((gain / (9_037.0 / 5_190.0) - 1.0).abs() < 0.15, "{gain}");
}

#[test]
fn four_streams_at_batch_8_fill_the_sms_with_small_kernels() {
    let seen = evidence(&[
        (Quantity::Executions, 20_000.0 / 8.0),
        back_to_back(4.0, 20_000.0 / 8.0),
        (Quantity::DeviceFill, 0.89),
        (Quantity::DramFill, 0.25 / DRAM_CEILING),
        (Quantity::TensorActivity, 0.21),
    ]);
    let judgement = judge(&seen, &pool(4, 8, CudaGraph::Compute));
    assert_eq!(judgement.verdict, Verdict::ComputeBound);
    let small = judgement.findings.iter().any(|it| it.contains("a larger batch may use them better"));
    assert!(small, "{:?}", judgement.findings);
}

#[test]
fn one_stream_at_batch_128_is_compute_bound_and_says_what_the_power_limit_costs() {
    let mut seen = evidence(&[
        (Quantity::Executions, 33_700.0 / 128.0),
        back_to_back(1.0, 33_700.0 / 128.0),
        (Quantity::H2dBusy, 21.8e9 / (51.5 * f64::from(1 << 30))),
        (Quantity::DeviceFill, 0.89),
        (Quantity::DramFill, 0.55 / DRAM_CEILING),
        (Quantity::TensorActivity, 0.34),
        (Quantity::ClockShare, 1_905.0 / 1_980.0),
    ]);
    seen.throttle_reasons = vec!["power cap".to_owned()];
    let judgement = judge(&seen, &pool(1, 128, CudaGraph::Compute));
    assert_eq!(judgement.verdict, Verdict::ComputeBound);
    let clock = "the SM clock is 3.8 % below its highest (power cap)";
    assert!(judgement.findings.iter().any(|it| it == clock), "{:?}", judgement.findings);
    assert!(gain(&judgement, Limit::Copies) < 1.05);
}

#[test]
fn kernels_that_hardly_fill_an_sm_get_shorter_with_a_graph() {
    // `launch` on four streams of an H200: a graph ran 9.4 times as fast.
    let known = [
        (Quantity::Executions, 604.5),
        (Quantity::SubmitterBusy, 0.9654),
        (Quantity::EnqueueTime, 1.552e-3),
        (Quantity::ComputeTime, 1.529e-3),
        (Quantity::DeviceFill, 0.002_825),
    ];
    let gain = |more: &[(Quantity, f64)]| {
        let seen = evidence(&[&known[..], more].concat());
        Limits::of(&seen, &pool(4, 1, CudaGraph::Off)).gain_of_graph()
    };
    let (alone, bounded) = (gain(&[]), gain(&[(Quantity::KernelsAtMost, 0.002_825 * 132.0 / 604.5)]));
    assert!((bounded.value / 9.38 - 1.0).abs() < 0.15, "{bounded:?}");
    assert!(alone.value < 0.95 * bounded.value, "{alone:?}");
    assert!(bounded.lower <= bounded.value && bounded.value <= bounded.upper, "{bounded:?}");
}

#[test]
fn what_fills_a_slot_in_the_same_time_whatever_it_holds_gains_all_of_a_larger_batch() {
    let seen = evidence(&[
        (Quantity::Executions, 177.0),
        (Quantity::ComputeTime, 1.9e-3),
        (Quantity::FeedBusy, 0.84),
        (Quantity::Senders, 4.0),
        (Quantity::DeviceFill, 0.12),
    ]);
    let limits = Limits::of(&seen, &pool(2, 8, CudaGraph::Compute));
    assert!(limits.is_fed_too_slowly());
    let (waits, copies) = (limits.gain_of_larger_fills(2.0, 1.0), limits.gain_of_larger_fills(2.0, 0.0));
    // It was 1.99 to 2.07 with a feed that sleeps for 20 ms a request (BERT-base, H200).
    assert!((waits / 2.0 - 1.0).abs() < 0.1 && (copies - 1.0).abs() < 0.05, "{waits} {copies}");
}

#[test]
fn one_thread_that_fills_slots_all_the_time_starves_the_streams() {
    let seen = evidence(&[
        (Quantity::Executions, 400.0),
        (Quantity::ComputeTime, 1.1e-3),
        (Quantity::FeedBusy, 1.0),
        (Quantity::DeviceFill, 0.4),
    ]);
    let judgement = judge(&seen, &pool(2, 32, CudaGraph::Compute));
    assert_eq!(judgement.verdict, Verdict::InputStarved);
    assert!(gain(&judgement, Limit::Input) > 1.7, "{:?}", judgement.limits);
}

#[test]
fn without_counters_the_verdict_says_what_it_lacks() {
    let mut seen = evidence(&[(Quantity::Executions, 100.0), back_to_back(1.0, 100.0)]);
    seen.put_missing(Quantity::DeviceFill, "NVML is not there");
    let judgement = judge(&seen, &pool(1, 1, CudaGraph::Compute));
    assert_eq!(judgement.confidence, Confidence::Low);
    assert_eq!(judgement.missing, ["how full the device is is not known: NVML is not there"]);
}

#[test]
fn copies_that_fill_their_engine_need_no_counter() {
    let mut seen = evidence(&[
        (Quantity::Executions, 4_000.0),
        (Quantity::H2dBusy, 1.0),
        (Quantity::H2dTime, 250e-6),
        (Quantity::ComputeTime, 50e-6),
    ]);
    seen.put_missing(Quantity::DeviceFill, "NVML is not there");
    let judgement = judge(&seen, &pool(4, 1, CudaGraph::Compute));
    assert_eq!((judgement.verdict, judgement.confidence), (Verdict::TransferBound, Confidence::High));
    assert_eq!(judgement.missing, Vec::<String>::new());
    let waits = judgement.limits.iter().find(|it| it.limit == Limit::Barriers).unwrap();
    assert_eq!(waits.gain_if_doubled, 1.0, "nothing waits");
}

#[test]
fn a_copy_engine_that_several_streams_fill_is_where_trtexec_is_silent() {
    // Each copy takes half as long as the kernels, and four streams want the same engine.
    let seen = evidence(&[
        (Quantity::Executions, 2_000.0),
        (Quantity::H2dBusy, 1.0),
        (Quantity::H2dTime, 500e-6),
        (Quantity::ComputeTime, 1e-3),
        (Quantity::EnqueueTime, 20e-6),
    ]);
    assert_eq!(trtexec_verdict(&seen), None);
    let judgement = judge(&seen, &pool(4, 1, CudaGraph::Compute));
    assert_eq!(judgement.verdict, Verdict::TransferBound);
    assert!(judgement.findings.iter().any(|it| it.starts_with("trtexec would not say so")));
}

#[test]
fn where_nothing_would_gain_a_tenth_it_is_healthy() {
    let seen = evidence(&[
        (Quantity::Executions, 1_000.0),
        (Quantity::H2dBusy, 0.97),
        (Quantity::D2hBusy, 0.2),
        (Quantity::SubmitterBusy, 0.96),
        (Quantity::DeviceFill, 0.97),
        (Quantity::DramFill, 0.5),
        (Quantity::StreamsComputing, 0.97),
        back_to_back(2.0, 1_000.0),
    ]);
    let judgement = judge(&seen, &pool(2, 1, CudaGraph::Compute));
    assert_eq!(judgement.verdict, Verdict::Healthy, "{:?}", judgement.limits);
}

/// ResNet-50 FP16 at batch 1 on two streams of an H200 without a graph: 5,437 inferences/s with one on four streams.
#[test]
fn where_two_limits_hold_an_empty_device_back_together_both_are_named() {
    let mut seen = evidence(&[
        (Quantity::Executions, 2_450.0),
        (Quantity::EnqueueTime, 308e-6),
        (Quantity::SubmitterBusy, 0.80),
        (Quantity::ComputeTime, 673e-6),
        (Quantity::H2dTime, 17e-6),
        (Quantity::TurnaroundTime, 73e-6),
    ]);
    let healthy = |seen: &Evidence| {
        let judgement = judge(seen, &pool(2, 1, CudaGraph::Off));
        assert_eq!(judgement.verdict, Verdict::Healthy);
        judgement.findings
    };
    assert_eq!(healthy(&seen), [] as [&str; 0], "nobody knows how full the device is");
    seen.put(Quantity::DeviceFill, 0.12, "measured");
    let findings = healthy(&seen);
    let names_both = |text: &String| text.contains("submitting threads and streams hold it back together");
    assert!(findings.first().is_some_and(names_both), "{findings:?}");
}

/// Other streams that were tried and gained so much.
fn tried_streams(gained: f64) -> Remedy {
    use crate::diagnose::{Setup, Tried};
    use crate::measure::{Arrival, Feeding, Load};

    let load = Load { arrival: Arrival::Concurrency(2), samples_per_request: 1 };
    let ratio = |value| Estimate { value, lower: value - 0.01, upper: value + 0.01 };
    Remedy {
        knob: Knob::Streams,
        setup: Setup::new(pool(1, 1, CudaGraph::Compute), Feeding::default(), load),
        predicted: ratio(1.6),
        rests_on: None,
        build: None,
        tried: Some(Tried::Ratio(ratio(gained))),
    }
}

#[test]
fn a_verdict_whose_remedy_does_not_help_is_doubted() {
    let seen =
        evidence(&[(Quantity::Executions, 100.0), back_to_back(1.0, 100.0), (Quantity::DeviceFill, 0.1)]);
    let mut judgement = judge(&seen, &pool(1, 1, CudaGraph::Compute));
    assert_eq!((judgement.verdict, judgement.confidence), (Verdict::Underfilled, Confidence::High));
    weigh(&mut judgement, &[tried_streams(1.5)]);
    assert_eq!(judgement.confidence, Confidence::High);
    weigh(&mut judgement, &[tried_streams(1.02)]);
    assert_eq!(judgement.confidence, Confidence::Low);
}

#[test]
fn a_device_that_counters_call_half_empty_is_full_where_more_streams_gain_nothing() {
    // Matrix products of batch 4 on two streams of an H200.
    let mut seen = evidence(&[
        (Quantity::Executions, 3_767.0),
        (Quantity::ComputeTime, 0.000_509),
        (Quantity::DeviceFill, 0.55),
        (Quantity::DramFill, 0.11),
    ]);
    let configuration = pool(2, 4, CudaGraph::Compute);
    let judgement = judge(&seen, &configuration);
    assert_eq!(judgement.verdict, Verdict::Underfilled);
    assert_eq!(no_more_fits(&judgement, &seen, &[tried_streams(1.5)]), None);
    let ratio = no_more_fits(&judgement, &seen, &[tried_streams(1.02)]).expect("it gained nothing");
    let mut idle = seen.clone();
    idle.put(Quantity::DeviceFill, 0.08, "measured");
    assert_eq!(no_more_fits(&judgement, &idle, &[tried_streams(1.02)]), None);
    crate::diagnose::put_probed(&mut seen, ratio);
    let judgement = judge(&seen, &configuration);
    assert_eq!((judgement.verdict, judgement.confidence), (Verdict::ComputeBound, Confidence::Medium));
    let source = &seen.reading(Quantity::DeviceFill).unwrap().source;
    assert!(source.ends_with("1.02 times as fast, though counters see work on 55 % of it"), "{source}");
}

#[test]
fn a_graph_is_named_where_a_busy_thread_launches_late_and_not_where_there_is_nothing_to_launch() {
    let found = |busy, graph, pace| {
        let seen = evidence(&[(Quantity::LaunchGaps, 0.4), (Quantity::SubmitterBusy, busy)]);
        kernel_findings(&seen, &pool(2, 1, graph), pace)
    };
    let [finding] = &found(0.9, CudaGraph::Off, 0.95)[..] else { panic!("one finding") };
    assert!(finding.contains("while recorded") && finding.contains("40 % of their time"), "{finding}");
    assert_eq!(found(0.1, CudaGraph::Off, 0.95), [""; 0]);
    assert_eq!(found(0.9, CudaGraph::Compute, 0.95), [""; 0]);
    // The other 35 % are what recording costs.
    assert_eq!(found(0.9, CudaGraph::Off, 0.65), [""; 0]);
    assert_eq!(found(0.9, CudaGraph::Off, 1.03).len(), 1);
}

#[test]
fn grids_that_fill_the_sms_and_pinned_copies_are_no_finding() {
    let found = |fill, pageable| {
        let seen = evidence(&[(Quantity::GridFill, fill), (Quantity::PageableCopies, pageable)]);
        kernel_findings(&seen, &pool(2, 1, CudaGraph::Off), 1.0)
    };
    assert_eq!(found(0.9, 0.0), [""; 0]);
    assert_eq!(found(0.3, 0.5).len(), 2);
}

#[test]
fn of_gains_that_are_alike_a_cause_is_named_and_between_resources_the_larger() {
    let kept = include_str!("../../../../docs/data/real-cases-2026-11-30.json");
    let kept: serde_json::Value = serde_json::from_str(kept).unwrap();
    let cases = kept["cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["name"] == "transfer-fp16 1x1").unwrap();
    let seen: Evidence = serde_json::from_value(case["evidence"].clone()).unwrap();
    let judgement = judge(&seen, &pool(1, 1, CudaGraph::Off));
    let gains = [Limit::Input, Limit::Copies, Limit::Slots].map(|limit| gain(&judgement, limit));
    let alike = |a: usize, b: usize| (gains[a] / gains[b] - 1.0).abs() < SAME_GAIN;
    assert!(alike(0, 1) && alike(1, 2) && gains[1] > gains[0], "{gains:?}");
    assert_eq!(judgement.verdict, Verdict::TransferBound, "its label");
    assert!(!Limit::Copies.follows_from(Limit::Input) && !Limit::Input.follows_from(Limit::Slots));
    assert!(Limit::Slots.follows_from(Limit::Copies) && Limit::Sms.follows_from(Limit::Dram));
}
