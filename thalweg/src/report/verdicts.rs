//! What a diagnosis and a loss are in sentences, for the text and the HTML report.

use super::wording::{self, NONE};
use crate::backend::CudaGraph;
use crate::capacity::{CurvePoint, Demand, DemandSource, Resource};
use crate::diagnose::{Diagnosis, HEALTHY_GAIN, KernelReading, Limit, Quantity, Remedy, Tried, Verdict};
use crate::measure::Measurement;
use crate::precision::{LayerErrors, LossReport};
use crate::units::Nanos;

/// Two directions of which the one is busy for so much of the time of the other are named together.
const BOTH_WAYS: f64 = 0.9;

/// Seconds of a resource that are as good as none.
const NOTHING_S: f64 = 1e-9;

/// `Underfilled: nothing is full, too little work is on the device at once. If that limit (streams) were …`
pub(super) fn verdict(diagnosis: &Diagnosis) -> String {
    let judgement = &diagnosis.judgement;
    let name = capitalised(&judgement.verdict.to_string());
    let meaning = meaning(diagnosis);
    let Some(first) = judgement.limits.first() else { return format!("{name}: {meaning}.") };
    let gain = wording::number(first.gain_if_doubled);
    let limit = limit(diagnosis, first.limit);
    let which = if judgement.verdict == Verdict::Healthy { "the closest of them" } else { "that limit" };
    let overload = diagnosis.measurement.overload().map(|served| format!(" {}.", overload(served)));
    format!(
        "{name}: {meaning}. If {which} ({limit}) were twice as far, it would run {gain} times as fast.{}",
        overload.unwrap_or_default()
    )
}

/// `21.1 % of the requests that came were answered, the others wait: latencies grow for as long as they come`
pub(super) fn overload(served: f64) -> String {
    let served = format!("{:.1} %", 100.0 * served);
    format!(
        "{served} of the requests that came were answered, the others wait: latencies grow for as long as they come"
    )
}

/// That the submitting thread shared its core with somebody else, where it was the limit.
pub(super) fn company(measurement: &Measurement) -> Option<String> {
    let submitters = measurement.configuration.submitters;
    let share = measurement.stages.limiting_company(measurement.executions_per_s, submitters);
    share.filter(|share| *share >= COMPANY_TOLD).map(|share| {
        let has_graph = measurement.configuration.cuda_graph != CudaGraph::Off;
        format!(
            "somebody else worked on the submitting thread's core, or on its other hyperthread, in {} of the time of its \
             calls, which makes them slower{}",
            wording::percent(share),
            if has_graph { "" } else { "; with a CUDA graph they are few" }
        )
    })
}

/// Less than this part of the time in company costs a few per cent.
const COMPANY_TOLD: f64 = 0.1;

fn meaning(diagnosis: &Diagnosis) -> &'static str {
    match diagnosis.judgement.verdict {
        Verdict::ComputeBound if diagnosis.measurement.device.is_host() => "the cores are full",
        Verdict::ComputeBound => "the SMs are full",
        Verdict::MemoryBound => "the device's DRAM is full",
        Verdict::TransferBound => copying(diagnosis),
        Verdict::EnqueueBound => "the threads that submit work are the limit, not the device",
        Verdict::Underfilled => "nothing is full, too little work is on the device at once",
        Verdict::SynchronisationBound => "streams wait for the host, or for each other, between executions",
        Verdict::InputStarved => "there is not enough to run, the device could do more",
        Verdict::Throttled => "clocks are held back",
        Verdict::Healthy => "it runs close to its limits, and no single one is worth moving",
    }
}

/// Which way it copies more: each has an engine of its own.
fn copying(diagnosis: &Diagnosis) -> &'static str {
    let busy = |quantity| diagnosis.evidence.value(quantity).unwrap_or(0.0);
    let (to_device, to_host) = (busy(Quantity::H2dBusy), busy(Quantity::D2hBusy));
    if to_device.max(to_host) == 0.0 {
        return "copies between host and device fill the bus";
    }
    match to_device.min(to_host) / to_device.max(to_host) {
        share if share >= BOTH_WAYS => "copies to the device and back both fill the bus",
        _ if to_device > to_host => "copies to the device fill the bus",
        _ => "copies to the host fill the bus",
    }
}

/// What each resource is asked for: `H2D copy engine 12.0 us, SMs 31.0 us (estimated) for each inference`.
pub(super) fn demands(diagnosis: &Diagnosis) -> Option<String> {
    let demand = |(resource, demand): (Resource, Demand)| {
        let source = if demand.source == DemandSource::Estimated { " (estimated)" } else { "" };
        format!("{resource} {}{source}", Nanos::from_seconds(demand.seconds))
    };
    let all = diagnosis.outlook.as_ref()?.demands.all();
    let demands: Vec<String> = all.filter(|(_, it)| it.seconds >= NOTHING_S).map(demand).collect();
    Some(format!("{} for each inference", demands.join(", ")))
}

/// What other numbers of streams would reach, by the model that `tune` predicts with.
pub(super) fn streams(diagnosis: &Diagnosis) -> Option<String> {
    let curve = &diagnosis.outlook.as_ref()?.curve;
    let point =
        |it: &CurvePoint| format!("{} with {}", wording::number(it.prediction.throughput.value), it.streams);
    let points: Vec<String> = curve.points.iter().map(point).collect();
    let (points, sentence) = (points.join(", "), curve.sentence()?);
    Some(format!("{points} inferences/s, predicted for all slots at work; {sentence}"))
}

/// A limit by name; on the `cpu` backend the device is its cores.
pub(super) fn limit(diagnosis: &Diagnosis, limit: Limit) -> String {
    match limit {
        Limit::Sms if diagnosis.measurement.device.is_host() => "cores".to_owned(),
        other => other.to_string(),
    }
}

/// What was gained in all.
pub(super) fn gained(diagnosis: &Diagnosis) -> String {
    let is_tried = |remedy: &Remedy| matches!(remedy.tried, Some(Tried::Ratio(_) | Tried::Failed(_)));
    let was_tried = diagnosis.remedies.iter().any(is_tried);
    match &diagnosis.gained {
        Some(gained) => {
            let other = if gained.setup.engine.is_given() {
                ""
            } else {
                " Its outputs are those of another engine: `thalweg accuracy` tells what that loses."
            };
            let (old, new) = (diagnosis.measurement.load, gained.setup.load);
            let is_more = old.outstanding().is_none() && new.outstanding().is_some();
            let load = if is_more { format!(" and another load: {new}") } else { String::new() };
            format!("Gained {} with {}{load}.{other}", wording::times(&gained.ratio), gained.setup)
        }
        None if was_tried => "Nothing that was tried is faster.".to_owned(),
        None => "Nothing was tried.".to_owned(),
    }
}

/// What reading the device's counters costs, or that nobody knows. The events that take stage times stay on either way:
/// executions are waited for by them.
pub(super) fn observing(diagnosis: &Diagnosis) -> Option<String> {
    const EVENTS: &str = "what stage times cost by events is told by `thalweg bench --overhead`";
    let measurement = &diagnosis.measurement;
    // In virtual time neither costs anything, and a host has no events.
    let is_gpu = !measurement.device.is_host() && !measurement.device.is_simulated();
    let has_counters = measurement.counters.as_ref().is_some_and(|it| it.sm_activity.is_some());
    match diagnosis.observing {
        Some(ratio) => {
            let [value, lower, upper] = [ratio.value, ratio.lower, ratio.upper].map(wording::percent);
            Some(format!("reading counters leaves {value} ({lower} to {upper}) of the throughput; {EVENTS}"))
        }
        None if is_gpu && has_counters => Some(format!(
            "what reading counters costs was not measured, since that takes turns as trying does; {EVENTS}"
        )),
        None => None,
    }
}

/// `inputs as u8: inputs of 151 kB in place of 602 kB for each sample, …`
pub(super) fn predictions(diagnosis: &Diagnosis) -> impl Iterator<Item = String> {
    let is_worth_it = |remedy: &&Remedy| remedy.predicted.value >= HEALTHY_GAIN;
    let rests =
        |remedy: &Remedy| Some(format!("{remedy}: {}", wording::printable(remedy.rests_on.as_ref()?)));
    diagnosis.remedies.iter().filter(is_worth_it).filter_map(rests)
}

/// `2.0 times, 14.2 us, 132 blocks of 256 threads, 168 registers, evenness 100 %`
pub(super) fn kernel(kernel: &KernelReading) -> String {
    format!(
        "{} times, {}, {} blocks of {} threads, {} registers, evenness {}",
        wording::number(kernel.per_execution),
        kernel.mean,
        kernel.blocks,
        kernel.threads,
        kernel.registers,
        wording::percent(kernel.grid_fill)
    )
}

/// What recording each kernel costs, where that was done.
pub(super) fn recording(diagnosis: &Diagnosis) -> Option<String> {
    let kernels = diagnosis.kernels.as_ref()?;
    let graphs = kernels.graph_pace.map(|pace| format!(", and graphs as a whole {}", wording::percent(pace)));
    let graphs = graphs.unwrap_or_default();
    Some(format!(
        "recording each kernel leaves about {} of the throughput{graphs}, by one turn each",
        wording::percent(kernels.pace)
    ))
}

/// A reading's number with its unit.
pub(super) fn value(quantity: Quantity, value: f64) -> String {
    match quantity.unit() {
        "share" => wording::percent(value),
        "s" => Nanos::from_seconds(value).to_string(),
        "bytes/s" => format!("{} GB/s", wording::number(value / 1e9)),
        unit if unit.starts_with('1') => format!("{} {unit}", wording::number(value)).replace(" 1/s", "/s"),
        unit => format!("{} {unit}", wording::number(value)),
    }
}

/// What came of a remedy: a ratio, a reason, or nothing.
pub(super) fn tried(remedy: &Remedy) -> String {
    let built = remedy.build.map(|time| format!(", its engine built in {time}")).unwrap_or_default();
    match &remedy.tried {
        None => NONE.to_owned(),
        Some(Tried::Ratio(ratio)) => wording::times(ratio) + &built,
        Some(Tried::Untried(reason)) => format!("not tried: {}", wording::printable(reason)),
        Some(Tried::Failed(reason)) => format!("failed: {}", wording::printable(reason)),
    }
}

/// `int8.onnx keeps a cosine of 0.999310 with model.onnx; its largest relative error is 3.1e-2.`
pub(super) fn loss(report: &LossReport) -> String {
    let name = |path: &std::path::Path| {
        wording::printable(&path.file_name().unwrap_or(path.as_os_str()).display().to_string())
    };
    let (other, reference) = (name(&report.other), name(&report.reference));
    let outputs = report.accuracy.iter().flat_map(|accuracy| &accuracy.outputs);
    let cosine = outputs.clone().map(|output| output.cosine).reduce(f64::min);
    let error = outputs.map(|output| output.max_relative_error).reduce(f64::max);
    match cosine.zip(error) {
        Some((cosine, error)) => format!(
            "{other} keeps a cosine of {cosine:.6} with {reference}; its largest relative error is {}.",
            wording::error(error)
        ),
        None => format!("The outputs of {other} were not compared with those of {reference}."),
    }
}

/// `First layer over the limit: conv3 (Conv, computes in i8), relative error 3.1e-2, cosine 0.998.`
pub(super) fn first_over(found: &LayerErrors) -> String {
    let limits = found.limits.join(", ");
    match found.first_over.and_then(|index| found.layers.get(index)) {
        Some(layer) => format!(
            "First of {} layers over {limits}: {} ({}, computes in {}), relative error {}, cosine {:.6}.",
            wording::count(found.layers.len()),
            wording::printable(&layer.node),
            wording::printable(&layer.operator),
            layer.computes_in,
            wording::error(layer.max_relative_error),
            layer.cosine
        ),
        None if found.limits.is_empty() => {
            format!("{} layers were compared, without a limit.", wording::count(found.layers.len()))
        }
        None => format!("None of {} layers is over {limits}.", wording::count(found.layers.len())),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn company_is_told_where_submitting_is_the_limit_and_there_was_enough_of_it() {
        let told = |busy: f64, share| {
            let mut measurement = samples::measurement(samples::configuration(1, 1), 20);
            measurement.stages.enqueue = Nanos::from_seconds(busy / measurement.executions_per_s);
            measurement.stages.shared_core = share;
            company(&measurement)
        };
        let text = told(0.9, Some(0.63)).unwrap();
        assert!(text.starts_with("somebody else worked on the submitting thread's core"), "{text}");
        assert!(text.contains("in 63.0 % of the time"), "{text}");
        let silent = [told(0.2, Some(0.63)), told(0.9, Some(0.05)), told(0.9, None)];
        assert_eq!(silent, [None, None, None]);
    }
}
