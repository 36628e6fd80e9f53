//! Numbers and sentences that the text and the HTML report share.

use crate::backend::{ClockReading, CudaGraph, Transfers};
use crate::measure::{
    Estimate, FeedSummary, Feeding, LatencySummary, Measurement, Overlap, Stability, StageSummary,
    Verification,
};
use crate::pool::Configuration;
use crate::tune::{Candidate, Compliance, Ending, Forecast, Limits, Standing, Sweep, TuneOutcome};
use crate::units::{Bytes, Nanos, grouped, three_digits};

/// Stands where there is no number.
pub(super) const NONE: &str = "–";

/// Records that a p99 needs for a 95 % upper bound: 1 - 0.99^n >= 0.95 from n = 299 on.
pub(super) const P99_RECORDS: usize = 300;

/// `34,279`, `617`, `4.82`: three significant digits, all digits from 1,000 on. [`NONE`] for NaN and
/// infinity, which must never reach a reader.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    match value.abs() {
        v if v > 0.0 && v < 0.01 => format!("{value:.1e}"),
        _ => three_digits(value),
    }
}

/// `5,120`
pub(super) fn count(value: impl TryInto<u64>) -> String {
    value.try_into().map_or_else(|_| NONE.to_owned(), |value: u64| grouped(&value.to_string()))
}

/// `8.21 GFLOP`: arithmetic operations in powers of ten.
pub(super) fn flops(value: u64) -> String {
    let (value, prefix) = match value {
        0..1_000 => return format!("{value} FLOP"),
        1_000..1_000_000 => (value as f64 / 1e3, "k"),
        1_000_000..1_000_000_000 => (value as f64 / 1e6, "M"),
        1_000_000_000..1_000_000_000_000 => (value as f64 / 1e9, "G"),
        _ => (value as f64 / 1e12, "T"),
    };
    format!("{} {prefix}FLOP", number(value))
}

/// `25.5 million`: a count whose last digits do not matter.
pub(super) fn magnitude(value: u64) -> String {
    let (value, unit) = match value {
        0..1_000_000 => return count(value),
        1_000_000..1_000_000_000 => (value as f64 / 1e6, "million"),
        _ => (value as f64 / 1e9, "billion"),
    };
    format!("{} {unit}", number(value))
}

/// `1,220 to 1,248`
pub(super) fn interval(estimate: &Estimate) -> String {
    format!("{} to {}", number(estimate.lower), number(estimate.upper))
}

/// `1,234 ± 14`: half the width of the interval, to the same decimals as the value.
pub(super) fn with_half_width(estimate: &Estimate) -> String {
    let half = (estimate.upper - estimate.lower) / 2.0;
    if !half.is_finite() {
        return number(estimate.value);
    }
    let value = number(estimate.value);
    let decimals = value.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let half = if half >= 999.5 { number(half) } else { format!("{half:.decimals$}") };
    format!("{value} ± {half}")
}

/// `3.42 times (3.31 to 3.53)`
pub(super) fn times(ratio: &Estimate) -> String {
    format!("{} times ({})", number(ratio.value), interval(ratio))
}

/// An error or a loss: `1.2e-3`, and from a tenth on `0.312`.
pub(super) fn error(error: f64) -> String {
    match error {
        _ if !error.is_finite() => "not finite".to_owned(),
        _ if error.abs() >= 0.1 => number(error),
        _ => format!("{error:.1e}"),
    }
}

/// The share of samples that agree, where there is one: `99.40 %`.
pub(super) fn agreement(share: Option<f64>) -> String {
    share.map_or_else(|| NONE.to_owned(), |share| format!("{:.2} %", share * 100.0))
}

/// `3.2 %` from 0.032.
pub(super) fn percent(fraction: f64) -> String {
    if fraction.is_finite() { format!("{:.1} %", fraction * 100.0) } else { NONE.to_owned() }
}

/// `8.91 ms`, or [`NONE`].
pub(super) fn time(span: Option<Nanos>) -> String {
    span.map_or_else(|| NONE.to_owned(), |span| span.to_string())
}

/// `8.91`: three significant digits in milliseconds, for a column whose head says the unit.
pub(super) fn millis(span: Nanos) -> String {
    let value = span.as_millis();
    if value > 0.0 && value < 0.1 { format!("{value:.3}") } else { number(value) }
}

/// The first letters of a name that is longer than `most`: `sm90_xmma_gemm_f16f16…`.
pub(super) fn shortened(name: &str, most: usize) -> String {
    match name.char_indices().nth(most) {
        Some(_) => name.chars().take(most - 1).chain("…".chars()).collect(),
        None => name.to_owned(),
    }
}

/// Text of others without control characters, so that a name cannot drive the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Copy lanes that are shared, or `own`.
pub(super) fn copy_lanes(lanes: Option<usize>) -> String {
    lanes.map_or_else(|| "own".to_owned(), count)
}

/// `4 streams, batch 2`, its CUDA graph, and of the other knobs those that differ from another configuration's.
fn short_beside(configuration: &Configuration, other: &Configuration) -> String {
    let Configuration { streams, batch_size, cuda_graph, .. } = *configuration;
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let graph = match cuda_graph {
        CudaGraph::Off if other.cuda_graph == CudaGraph::Off => String::new(),
        CudaGraph::Off => ", no graph".to_owned(),
        graph => format!(", graph of {graph}"),
    };
    let knob = |value: usize, of_other: usize, noun: &str, each: &str| {
        if value == of_other { String::new() } else { format!(", {value} {noun}{}{each}", plural(value)) }
    };
    let threads = configuration.threads_per_stream;
    let others = [
        knob(threads, other.threads_per_stream, "thread", " per stream"),
        knob(configuration.depth, other.depth, "slot", " per stream"),
        knob(configuration.submitters, other.submitters, "submitter", ""),
        match configuration.copy_lanes {
            lanes if lanes == other.copy_lanes => String::new(),
            Some(lanes) => format!(", {lanes} copy lane{}", plural(lanes)),
            None => ", copy lanes of their own".to_owned(),
        },
    ]
    .concat();
    format!("{streams} stream{}, batch {batch_size}{graph}{others}", plural(streams))
}

/// A candidate with what sets it apart from the winner.
pub(super) fn beside_winner(outcome: &TuneOutcome, candidate: &Candidate) -> String {
    let winner = outcome.winner.and_then(|winner| outcome.candidates.get(winner)).unwrap_or(candidate);
    short_beside(&candidate.configuration, &winner.configuration)
}

/// The p99, or the largest latency where there are too few requests for one, with its name.
pub(super) fn tail(latency: &LatencySummary) -> (&'static str, Nanos) {
    latency.p99.map_or(("largest latency", latency.max), |p99| ("p99", p99))
}

/// One sentence on whether the numbers may be trusted.
pub(super) fn stability(measurement: &Measurement) -> String {
    let spreads = |throughput: f64, latency: f64| {
        format!("{} in throughput and {} in latency", percent(throughput - 1.0), percent(latency - 1.0))
    };
    match measurement.stability {
        Stability::Stable { throughput_spread, latency_spread } => format!(
            "stable: the last {} of {} windows agree within {}",
            measurement.used_windows,
            measurement.windows.len(),
            spreads(throughput_spread, latency_spread)
        ),
        Stability::Unstable { throughput_spread, latency_spread } => format!(
            "not stable: the last of {} windows differ by {}; all of them were used, so trust the numbers less",
            measurement.windows.len(),
            spreads(throughput_spread, latency_spread)
        ),
        Stability::TooShort => {
            let windows = match measurement.windows.len() {
                1 => "1 window is".to_owned(),
                count => format!("{count} windows are"),
            };
            format!("not known: {windows} too few for a verdict; measure for longer")
        }
    }
}

/// Whether [`stability`] is good news.
pub(super) fn is_stable(measurement: &Measurement) -> bool {
    matches!(measurement.stability, Stability::Stable { .. })
}

/// One sentence on how outputs compared with the reference.
pub(super) fn verification(verification: &Verification) -> String {
    if verification.verified_samples == 0 {
        return "no outputs were compared with a reference".to_owned();
    }
    let of_batch = verification.batch_difference.map_or_else(String::new, |difference| {
        format!(" at the same batch, which differs by {difference:.1e} from a sample alone")
    });
    format!(
        "{} of {} samples compared with the single-stream reference{of_batch}, worst relative error {}",
        count(verification.verified_samples),
        count(verification.samples),
        relative_error(verification.worst_relative_error)
    )
}

fn relative_error(error: f64) -> String {
    match error {
        e if !e.is_finite() => NONE.to_owned(),
        0.0 => "0 (bit-identical)".to_owned(),
        e => format!("{e:.1e}"),
    }
}

/// `enqueue 12.0 us, H2D 41.0 us, compute 6.20 ms, D2H 3.10 us (medians)`, without copies that take no time.
pub(super) fn stages(stages: &StageSummary, has_all_times: bool) -> String {
    let named =
        [("enqueue", stages.enqueue), ("H2D", stages.h2d), ("compute", stages.compute), ("D2H", stages.d2h)];
    let shown: Vec<_> = named
        .iter()
        .filter(|(name, span)| *span > Nanos::ZERO || *name == "compute")
        .map(|(name, span)| format!("{name} {span}"))
        .collect();
    let of = if has_all_times {
        "medians"
    } else {
        "medians of some executions; a timeline needs --stage-times each"
    };
    format!("{} ({of})", shown.join(", "))
}

/// `81.3 % of the copies under another computation, two or more stages in 45.0 % of the time`
pub(super) fn overlap(overlap: &Overlap) -> String {
    let copies = overlap.copies_under_compute;
    let copies = copies.map(|share| format!("{} of the copies under another computation, ", percent(share)));
    format!(
        "{}two or more stages in {} of the time",
        copies.unwrap_or_default(),
        percent(overlap.two_or_more_stages)
    )
}

/// `7.80 cores busy, 312 MB resident`
pub(super) fn host(measurement: &Measurement) -> String {
    let cores = format!("{} cores busy", number(measurement.host_cpu_cores));
    match measurement.host_memory_bytes {
        Some(bytes) => format!("{cores}, {} resident", Bytes(bytes)),
        None => cores,
    }
}

/// `SMs at 1,755 of 1,980 MHz, 412 W, held back by PowerCap`; `None` where nobody tells.
pub(super) fn clocks(measurement: &Measurement) -> Option<String> {
    let counters = measurement.counters.as_ref()?;
    let clock = counters.sm_clock_mhz.map(|clock| match counters.sm_clock_max_mhz {
        Some(most) => format!("SMs at {} of {} MHz", number(clock), number(most)),
        None => format!("SMs at {} MHz", number(clock)),
    });
    let power = counters.power_watts.map(|watts| format!("{} W", number(watts)));
    // An idle device is nothing that holds clocks back.
    let reasons = counters.throttle_reasons.iter().filter(|reason| *reason != "Idle");
    let reasons: Vec<String> = reasons.map(|reason| printable(reason)).collect();
    let held = match (reasons.is_empty(), &clock) {
        // Who does not tell reasons has none to tell either.
        (true, _) if measurement.clocks.is_empty() && counters.throttle_reasons.is_empty() => None,
        (true, None) => None,
        (true, Some(_)) => Some("nothing held them back".to_owned()),
        (false, _) => Some(format!("held back by {}{}", reasons.join(", "), disturbed_windows(measurement))),
    };
    let parts: Vec<String> = clock.into_iter().chain(power).chain(held).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Whether heat or the power supply, which pass, held clocks back in some windows only.
fn disturbed_windows(measurement: &Measurement) -> String {
    let is_disturbed = |it: &&ClockReading| it.disturbance().is_some();
    match measurement.clocks.iter().filter(is_disturbed).count() {
        0 => String::new(),
        disturbed => format!(" ({disturbed} of {} windows disturbed)", measurement.clocks.len()),
    }
}

/// `3 requests failed, the first with: …`, or `None` where none did.
pub(super) fn failures(measurement: &Measurement) -> Option<String> {
    let failures = &measurement.failures;
    let plural = if failures.count == 1 { "" } else { "s" };
    let first = failures.first.as_deref().map(|text| format!(", the first with: {}", printable(text)));
    let lost: Vec<_> = failures.lost_streams.iter().map(usize::to_string).collect();
    let lost = match &lost[..] {
        [] => String::new(),
        [one] => format!("; stream {one} failed for good"),
        several => format!("; streams {} failed for good", several.join(", ")),
    };
    (failures.count > 0).then(|| {
        format!("{} request{plural} failed{}{lost}", count(failures.count), first.unwrap_or_default())
    })
}

/// `copied by 8 threads, 34 % of the time at 31.0 GB/s`; `None` in virtual time.
pub(super) fn feed(measurement: &Measurement) -> Option<String> {
    let feed = measurement.feed.as_ref()?;
    let rate = number(feed.fill_bytes_per_s / 1e9);
    Some(match feed.feeding {
        Feeding::Resident => feed.feeding.to_string(),
        Feeding::Copy { .. } => {
            format!("{}, {} of the time at {rate} GB/s", feed.feeding, percent(feed.busy_share))
        }
    })
}

/// That the streams waited for their inputs, where they did.
pub(super) fn starvation(measurement: &Measurement) -> Option<String> {
    let share = measurement.starved_share.filter(|share| *share >= STARVATION_TOLD);
    let share = share.map(|share| format!("streams had nothing to run in {} of their time", percent(share)));
    let is_limiting = measurement.feed.as_ref().is_some_and(FeedSummary::is_limiting);
    let limit = is_limiting.then(|| {
        "filling the slots was the limit, not the device: let more threads copy (--feed), or see with --feed resident \
         what the device can do"
            .to_owned()
    });
    let parts: Vec<String> = share.into_iter().chain(limit).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// A smaller part of the time for want of input is no news: between an answer and the next request something passes.
const STARVATION_TOLD: f64 = 0.05;

/// What a reader has to know before the numbers, in whole sentences.
pub(super) fn remarks(measurement: &Measurement) -> Vec<String> {
    let transfers = (measurement.configuration.transfers == Transfers::Off).then(|| {
        "Transfers were off: only each slot's first execution copied its inputs and outputs. These are figures of the computation alone, not of a service."
            .to_owned()
    });
    let others = measurement.remarks.iter().map(|remark| printable(remark));
    transfers.into_iter().chain(others).collect()
}

/// The limits as `p99 at most 10.0 ms, memory at most 2.00 GB`, or `None` where there are none.
pub(super) fn limits(limits: &Limits) -> Option<String> {
    let p99 = limits.p99.map(|p99| format!("p99 at most {p99}"));
    let memory = limits.memory_bytes.map(|bytes| format!("memory at most {}", Bytes(bytes)));
    let limits: Vec<_> = p99.into_iter().chain(memory).collect();
    (!limits.is_empty()).then(|| limits.join(", "))
}

/// How the limits are kept, as the end of a sentence.
pub(super) fn compliance(compliance: Compliance) -> &'static str {
    match compliance {
        Compliance::Keeps => "kept with 95 % confidence",
        Compliance::Breaks => "broken with 95 % confidence",
        Compliance::Unproven => "not proven: too few requests",
    }
}

/// That the confirmation broke the limit which the winner kept in the search, where it did.
pub(super) fn broken_when_confirmed(outcome: &TuneOutcome) -> Option<String> {
    let limit = outcome.limits.p99?;
    let (name, span) = tail(&outcome.confirmation.as_ref()?.latency);
    let sentence = format!(
        "the confirming measurement had a {name} of {span}, over the limit of {limit}: measure again, or take a \
         candidate with more room"
    );
    (span > limit).then_some(sentence)
}

/// What the winner's batch will do with other numbers of streams, where it was predicted.
pub(super) fn streams_predicted(outcome: &TuneOutcome) -> Option<String> {
    Some(format!("predicted: {}", outcome.curve.as_ref()?.sentence()?))
}

/// Where a candidate stands, in at most eight letters for a table.
pub(super) fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Winner => "winner",
        Standing::Contender => "close",
        Standing::Slower => "slower",
        Standing::OverLimit => "over",
        Standing::Failed => "failed",
        Standing::DoesNotFit => "no room",
        Standing::NotMeasured => "not run",
        Standing::Unpromising => "unlikely",
        Standing::Baseline => "baseline",
    }
}

/// Where a candidate stands, in full.
pub(super) fn standing_sentence(candidate: &Candidate) -> String {
    match candidate.standing {
        Standing::Winner => "won".to_owned(),
        Standing::Contender => "still in the race when the search ended".to_owned(),
        Standing::Slower => "left the race: slower than the leader".to_owned(),
        Standing::OverLimit => "breaks a limit".to_owned(),
        Standing::Failed => {
            format!("could not run: {}", printable(candidate.failure.as_deref().unwrap_or("no reason given")))
        }
        Standing::DoesNotFit => {
            format!("left out: {}", printable(candidate.failure.as_deref().unwrap_or("no reason given")))
        }
        Standing::NotMeasured => "the search ended before it was measured".to_owned(),
        Standing::Unpromising => "predicted to be slower, so not measured".to_owned(),
        Standing::Baseline => "measured only to compare the winner with it".to_owned(),
    }
}

/// `12 candidates do not fit: 8 streams x batch 16, 1 thread per stream needs …`
pub(super) fn left_out(outcome: &TuneOutcome) -> Option<String> {
    let left_out = || outcome.candidates.iter().filter(|it| it.standing == Standing::DoesNotFit);
    let first = left_out().next()?;
    let (count, verb) = match left_out().count() {
        1 => ("one candidate".to_owned(), "does"),
        several => (format!("{} candidates", count(several)), "do"),
    };
    let reason = printable(first.failure.as_deref().unwrap_or("no reason given"));
    Some(format!("{count} {verb} not fit and were not measured; {}: {reason}", first.configuration))
}

/// `128 candidates in 60.0 s; decided: …`
pub(super) fn ending(outcome: &TuneOutcome) -> String {
    let why = match outcome.ending {
        Ending::Decided => {
            "ended because it was decided: no other candidate can be faster by a relevant margin"
        }
        Ending::TimeUp => "ended because the time was up; more time may find a faster one",
        Ending::Interrupted => "was interrupted; more time may find a faster one",
    };
    let measured = outcome.candidates.iter().filter(|candidate| candidate.slice_count > 0).count();
    format!(
        "{} of {} candidates measured in {}; the search {why}",
        count(measured),
        count(outcome.candidates.len()),
        outcome.search_time
    )
}

/// `0.99 times (0.97 to 1.01) the best of 48 candidates measured for 500 ms each (2 streams x batch 8 ...); the search
/// took 12.1 % of their time`
pub(super) fn sweep(sweep: &Sweep, search_time: Nanos) -> String {
    let best = sweep.best.and_then(|best| sweep.points.get(best));
    let failed = sweep.points.iter().filter(|point| point.failure.is_some()).count();
    let failed = if failed == 0 { String::new() } else { format!(", {} of which failed", count(failed)) };
    let disturbed = sweep.points.iter().filter(|point| point.disturbance().is_some()).count();
    let disturbed = if disturbed == 0 {
        String::new()
    } else {
        format!(", {} of which heat or the power supply held back twice", count(disturbed))
    };
    let crowded = sweep.points.iter().filter(|point| point.is_crowded()).count();
    let crowded = if crowded == 0 {
        String::new()
    } else {
        format!(", {} of which shared the submitting thread's core each time", count(crowded))
    };
    let left_out = match sweep.left_out.len() {
        0 => String::new(),
        left_out => format!(
            ", and {} left out that need more device memory than there is or is allowed",
            count(left_out)
        ),
    };
    let measured = format!(
        "{} candidates measured for {} each{failed}{disturbed}{crowded}{left_out}",
        count(sweep.points.len()),
        sweep.slice
    );
    let share = percent(search_time.as_seconds() / sweep.time.as_seconds());
    match (best, &sweep.ratio) {
        (Some(best), Some(ratio)) => format!(
            "{} the best of {measured} ({}), both measured again in turns; the search took {share} of their time",
            times(ratio),
            best.configuration
        ),
        _ => format!("none of {measured} could be compared with the winner"),
    }
}

/// How large a model was, and is now: `102 MB before, 51.2 MB now`
pub(super) fn sizes(bytes_before: u64, bytes_after: u64) -> String {
    format!("{} before, {} now", Bytes(bytes_before), Bytes(bytes_after))
}

/// A model's operator set, and from which one it was raised: `22, raised from 11`
pub(super) fn opset(before: i64, after: i64) -> String {
    if after == before { after.to_string() } else { format!("{after}, raised from {before}") }
}

/// How often one stream and a probe would have told what more streams bring; `None` where there was nothing to tell.
pub(super) fn forecasts(forecasts: &[Forecast]) -> Option<String> {
    let hits = |is_hit: fn(&Forecast) -> bool| forecasts.iter().filter(|forecast| is_hit(forecast)).count();
    let (streams, gain) = (hits(Forecast::has_the_streams), hits(Forecast::has_the_gain));
    let (nothing, shown) = (hits(Forecast::is_no_gain), hits(Forecast::is_shown));
    (!forecasts.is_empty()).then(|| {
        format!(
            "from one stream and a probe the number of streams is right within a factor of two for {streams} of {} shapes, \
             what they gain within 15 % for {gain} (with no gain it would be for {nothing}, with what the probe shows for {shown})",
            forecasts.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::{LeftOut, SweepPoint};

    #[test]
    fn numbers_are_grouped_and_never_nan() {
        assert_eq!(number(1_234_567.4), "1,234,567");
        assert_eq!(number(-1234.0), "-1,234");
        assert_eq!(number(999.6), "1,000");
        assert_eq!(number(4.821), "4.82");
        assert_eq!(number(0.0), "0.00");
        assert_eq!(number(0.004), "4.0e-3");
        assert_eq!(number(f64::NAN), NONE);
        assert_eq!(number(f64::INFINITY), NONE);
    }

    #[test]
    fn candidates_of_a_sweep_that_have_no_room_are_left_out_and_not_failed() {
        let configuration = Configuration::default();
        let point = |failure| SweepPoint {
            configuration,
            throughput_inferences_per_s: Estimate { value: 100.0, lower: 99.0, upper: 101.0 },
            stages: StageSummary::default(),
            counters: None,
            failure,
            compliance: Compliance::Keeps,
        };
        let sweep = Sweep {
            slice: Nanos(500_000_000),
            time: Nanos(10_000_000_000),
            again: Nanos::ZERO,
            points: vec![point(None), point(Some("it fell over".to_owned()))],
            left_out: vec![LeftOut { configuration, reason: "it is too large".to_owned() }; 3],
            best: None,
            choice: configuration,
            turns: Vec::new(),
            ratio: None,
            forecasts: Vec::new(),
        };
        let expected = "none of 2 candidates measured for 500 ms each, 1 of which failed, and 3 left out that need more \
                        device memory than there is or is allowed could be compared with the winner";
        assert_eq!(super::sweep(&sweep, Nanos(1_000_000_000)), expected);
        let mut crowded = sweep;
        let stages = &mut crowded.points[0].stages;
        (stages.enqueue, stages.shared_core) = (Nanos(9_000_000), Some(0.5));
        let told = super::sweep(&crowded, Nanos(1_000_000_000));
        assert!(told.contains("1 of which shared the submitting thread's core each time, and"), "{told}");
    }

    #[test]
    fn a_configuration_beside_another_names_what_differs() {
        let winner = Configuration {
            streams: 4,
            cuda_graph: CudaGraph::Compute,
            submitters: 2,
            ..Configuration::default()
        };
        assert_eq!(short_beside(&winner, &winner), "4 streams, batch 1, graph of compute");
        let plain = Configuration { cuda_graph: CudaGraph::Off, submitters: 1, ..winner };
        assert_eq!(short_beside(&plain, &winner), "4 streams, batch 1, no graph, 1 submitter");
        let threads = Configuration { streams: 1, threads_per_stream: 4, ..plain };
        assert_eq!(short_beside(&threads, &plain), "1 stream, batch 1, 4 threads per stream");
    }

    #[test]
    fn large_counts_keep_three_digits() {
        assert_eq!(flops(0), "0 FLOP");
        assert_eq!(flops(8_210_000_000), "8.21 GFLOP");
        assert_eq!(flops(u64::MAX), "18,446,744 TFLOP");
        assert_eq!(magnitude(9_408), "9,408");
        assert_eq!(magnitude(25_530_472), "25.5 million");
    }

    #[test]
    fn the_half_width_has_the_decimals_of_its_value() {
        let estimate = |value, lower, upper| Estimate { value, lower, upper };
        assert_eq!(with_half_width(&estimate(12345.0, 12300.0, 12390.0)), "12,345 ± 45");
        assert_eq!(with_half_width(&estimate(3.2, 3.1, 3.3)), "3.20 ± 0.10");
        assert_eq!(with_half_width(&estimate(3.2, f64::NEG_INFINITY, f64::INFINITY)), "3.20");
    }

    #[test]
    fn a_name_cannot_drive_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }

    #[test]
    fn very_short_times_keep_digits_in_milliseconds() {
        assert_eq!(millis(Nanos(41_300)), "0.041");
        assert_eq!(millis(Nanos(8_910_000)), "8.91");
    }
}
