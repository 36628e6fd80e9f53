//! Settings and environment, as groups of names and texts.

use serde::Serialize;

use crate::backend::DeviceSpec;
use crate::diagnose::Diagnosis;
use crate::measure::{Measurement, has_all_times};
use crate::model::ModelIdentity;
use crate::precision::LossReport;
use crate::report::{verdicts, watching, wording};
use crate::tune::TuneOutcome;
use crate::units::Bytes;
use crate::watch::{Observation, Watched};

/// What belongs together, under one heading.
#[derive(Serialize)]
pub(super) struct FactGroup {
    heading: &'static str,
    facts: Vec<Fact>,
}

#[derive(Serialize)]
struct Fact {
    name: String,
    text: String,
}

fn fact(name: &str, text: impl Into<String>) -> Fact {
    Fact { name: name.to_owned(), text: text.into() }
}

pub(super) fn of_tuning(outcome: &TuneOutcome) -> Vec<FactGroup> {
    let mut groups = vec![search(outcome)];
    groups.extend(outcome.confirmation.as_ref().map(|it| measurement("Confirming measurement", it)));
    groups.extend([device(&outcome.device), model(&outcome.model)]);
    groups
}

pub(super) fn of_measurement(measured: &Measurement) -> Vec<FactGroup> {
    vec![measurement("Measurement", measured), device(&measured.device), model(&measured.model)]
}

pub(super) fn of_diagnosis(diagnosis: &Diagnosis) -> Vec<FactGroup> {
    let judgement = &diagnosis.judgement;
    let sentences = |name: &str, all: &[String]| -> Vec<Fact> {
        all.iter().map(|text| fact(name, wording::printable(text))).collect()
    };
    let mut facts = vec![fact("verdict", judgement.verdict.to_string())];
    facts.extend(sentences("also", &judgement.findings));
    facts.extend(sentences("advice", &diagnosis.advice));
    facts.extend(verdicts::demands(diagnosis).map(|it| fact("demands", it)));
    facts.extend(verdicts::streams(diagnosis).map(|it| fact("streams", it)));
    facts.extend(verdicts::predictions(diagnosis).map(|it| fact("predicted", it)));
    facts.extend(verdicts::observing(diagnosis).map(|it| fact("observing", it)));
    facts.extend(verdicts::recording(diagnosis).map(|it| fact("recording", it)));
    facts.push(fact("in all", verdicts::gained(diagnosis)));
    let measured = &diagnosis.measurement;
    vec![
        FactGroup { heading: "Diagnosis", facts },
        measurement("Measurement", measured),
        device(&measured.device),
        model(&measured.model),
    ]
}

pub(super) fn of_watched(watched: &Watched, observation: &Observation) -> Vec<FactGroup> {
    let mut facts = vec![
        fact("process", observation.process.to_string()),
        fact("device", observation.device.to_string()),
        fact("kernels", wording::count(observation.kernel_count)),
        fact("runs of graphs", wording::count(observation.graph_run_count)),
        fact("two or more streams at once", wording::percent(observation.sharing.computing_twice)),
        fact("pinned copies", format!("{} GB/s", wording::number(observation.pinned_bytes_per_s / 1e9))),
        fact("the command ran", watched.wall.to_string()),
    ];
    facts.extend(observation.gaps.iter().map(|gap| fact("gaps", watching::gap(gap))));
    vec![FactGroup { heading: "Seen", facts }]
}

pub(super) fn of_loss(report: &LossReport) -> Vec<FactGroup> {
    let path = |path: &std::path::Path| wording::printable(&path.display().to_string());
    let mut compared =
        vec![fact("reference", path(&report.reference)), fact("compared with it", path(&report.other))];
    let limits = if report.limits.is_empty() { "none".to_owned() } else { report.limits.join(", ") };
    compared.push(fact("limits", limits));
    if let Some(accuracy) = &report.accuracy {
        let kind = if accuracy.is_random { "random" } else { "given" };
        compared.push(fact("samples", format!("{}, {kind}", wording::count(accuracy.sample_count))));
    }
    let mut groups = vec![FactGroup { heading: "Comparison", facts: compared }];
    groups.extend(report.conversion.as_ref().map(|conversion| {
        let (precision, lowered) = conversion.lowered();
        let (before, after) = conversion.sizes();
        let facts = vec![
            fact("precision", precision),
            fact("nodes in it", wording::count(lowered)),
            fact("nodes in FP32", wording::count(conversion.stayed().len())),
            fact("size", wording::sizes(before, after)),
        ];
        FactGroup { heading: "Conversion", facts }
    }));
    groups
}

fn search(outcome: &TuneOutcome) -> FactGroup {
    let limits = wording::limits(&outcome.limits).unwrap_or_else(|| "none".to_owned());
    let mut facts = vec![fact("search", wording::ending(outcome)), fact("limits", limits)];
    let comparisons = [("over the default", &outcome.baseline), ("over the runner-up", &outcome.runner_up)];
    for (name, comparison) in comparisons {
        let Some(comparison) = comparison else { continue };
        let other = outcome.candidates.get(comparison.candidate);
        let other = other.map_or(String::new(), |it| format!(", which is {}", it.configuration));
        facts.push(fact(name, format!("{}{other}", wording::times(&comparison.ratio))));
    }
    FactGroup { heading: "Search", facts }
}

fn measurement(heading: &'static str, measurement: &Measurement) -> FactGroup {
    let throughput = &measurement.throughput_inferences_per_s;
    let executions = wording::number(measurement.executions_per_s);
    let mut facts = vec![
        fact("configuration", measurement.configuration.to_string()),
        fact("load", measurement.load.to_string()),
        fact(
            "throughput",
            format!("{} inferences/s, {executions} executions/s", wording::with_half_width(throughput)),
        ),
        fact("latency", latency(measurement)),
        fact("stages", wording::stages(&measurement.stages, has_all_times(&measurement.records))),
    ];
    facts.extend(measurement.overlap.as_ref().map(|it| fact("overlap", wording::overlap(it))));
    facts.extend(wording::clocks(measurement).map(|text| fact("clocks", text)));
    facts.extend([
        fact("host", wording::host(measurement)),
        fact("verification", wording::verification(&measurement.verification)),
        fact("stability", wording::stability(measurement)),
    ]);
    facts.extend(wording::feed(measurement).map(|text| fact("inputs", text)));
    facts.extend(wording::starvation(measurement).map(|text| fact("starved", text)));
    facts.extend(verdicts::company(measurement).map(|text| fact("core", text)));
    facts.extend(measurement.overload().map(|it| fact("overload", verdicts::overload(it))));
    facts.extend(wording::failures(measurement).map(|text| fact("failures", text)));
    FactGroup { heading, facts }
}

fn latency(measurement: &Measurement) -> String {
    let latency = &measurement.latency;
    if latency.n == 0 {
        return "no request ended in the time".to_owned();
    }
    let optional = [("p99", latency.p99), ("p99.9", latency.p999)];
    let optional = optional.into_iter().filter_map(|(name, span)| Some(format!("{name} {}", span?)));
    let mut parts =
        vec![format!("p50 {}", latency.p50), format!("p90 {}", latency.p90), format!("p95 {}", latency.p95)];
    parts.extend(optional);
    parts.push(format!("largest {}, mean {}", latency.max, latency.mean));
    format!("{} (n = {})", parts.join(", "), wording::count(latency.n))
}

fn device(device: &DeviceSpec) -> FactGroup {
    let mut facts = vec![
        fact("device", device.name.as_str()),
        fact("backend", device.backend.as_str()),
        fact("cores", wording::count(device.core_count)),
    ];
    facts.extend(device.memory_bytes.map(|bytes| fact("memory", Bytes(bytes).to_string())));
    facts.extend(device.versions.iter().map(|(name, version)| fact(name, version.as_str())));
    FactGroup { heading: "Device", facts }
}

fn model(model: &ModelIdentity) -> FactGroup {
    let mut facts =
        vec![fact("file", model.path.display().to_string()), fact("SHA-256", model.sha256.as_str())];
    for (input, shape) in &model.input_shapes {
        let sizes: Vec<_> = shape.iter().map(usize::to_string).collect();
        facts.push(fact(input, sizes.join(" x ")));
    }
    FactGroup { heading: "Model", facts }
}
