//! Everything that the template shows, ready to print.

use serde::Serialize;

use super::activity::Activity;
use super::candidate_table::CandidateTable;
use super::diagnosis_tables::PlainTable;
use super::facts::{self, FactGroup};
use super::loss_charts::errors_along;
use super::loss_tables;
use super::measurement_charts::{latency_distribution, throughput_over_time};
use super::search_charts::{pareto, throughput_by_streams};
use super::svg::Chart;
use super::timeline::{Timeline, timeline};
use crate::backend::DeviceSpec;
use crate::diagnose::{Diagnosis, Gained, Judgement};
use crate::measure::{Estimate, LatencySummary, Measurement};
use crate::model::ModelIdentity;
use crate::precision::{Accuracy, LossReport, OutputAccuracy};
use crate::report::definitions::{definitions, loss_definitions};
use crate::report::lanes::Lanes;
use crate::report::{verdicts, watching, wording};
use crate::tune::{Candidate, Comparison, TuneOutcome};
use crate::units::Nanos;
use crate::watch::{Observation, Program, Watched};

/// A whole page.
#[derive(Serialize)]
pub(super) struct Page {
    title: String,
    kicker: String,
    is_simulated: bool,
    /// What the reader has to know before believing the numbers.
    warnings: Vec<String>,
    verdict: String,
    configuration: String,
    figures: Vec<Figure>,
    charts: Vec<Chart>,
    timeline: Option<Timeline>,
    activity: Option<Activity>,
    table: Option<CandidateTable>,
    tables: Vec<PlainTable>,
    facts: Vec<FactGroup>,
    definitions: &'static [(&'static str, &'static str)],
}

/// A big number.
#[derive(Serialize)]
struct Figure {
    label: String,
    value: String,
    unit: String,
    note: String,
}

impl Page {
    pub(super) fn of_tuning(outcome: &TuneOutcome) -> Self {
        let winner = outcome.winner.and_then(|index| outcome.candidates.get(index));
        let confirmation = outcome.confirmation.as_ref();
        let of_search = [throughput_by_streams(outcome), pareto(outcome)];
        let of_winner =
            [confirmation.and_then(latency_distribution), confirmation.and_then(throughput_over_time)];
        Self {
            title: format!("{} tuned on {}", file_name(&outcome.model), outcome.device.name),
            kicker: kicker("tune", &outcome.model, &outcome.device),
            is_simulated: outcome.device.is_simulated(),
            warnings: tuning_warnings(outcome),
            verdict: outcome.verdict.clone(),
            configuration: winner.map_or_else(|| "No winner".to_owned(), |it| it.configuration.to_string()),
            figures: winner.map_or_else(|| search_figures(outcome), |winner| winner_figures(outcome, winner)),
            charts: of_search.into_iter().chain(of_winner).flatten().collect(),
            timeline: confirmation.and_then(timeline),
            activity: None,
            table: CandidateTable::of(outcome),
            tables: Vec::new(),
            facts: facts::of_tuning(outcome),
            definitions: definitions(),
        }
    }

    pub(super) fn of_diagnosis(diagnosis: &Diagnosis) -> Self {
        let measurement = &diagnosis.measurement;
        let mut figures = vec![throughput_figure(&measurement.throughput_inferences_per_s)];
        figures.extend(diagnosis.gained.as_ref().map(gain_figure));
        figures.extend(confidence_figure(&diagnosis.judgement));
        Self {
            title: format!("{} on {}", diagnosis.judgement.verdict, measurement.device.name),
            kicker: kicker("diagnose", &measurement.model, &measurement.device),
            is_simulated: measurement.device.is_simulated(),
            warnings: diagnosis_warnings(diagnosis),
            verdict: verdicts::verdict(diagnosis),
            configuration: diagnosis.setup.to_string(),
            figures,
            charts: Vec::new(),
            timeline: None,
            activity: diagnosis
                .window
                .as_ref()
                .and_then(Lanes::of_window)
                .map(|lanes| Activity::of(&lanes, "Kernel by kernel")),
            table: None,
            tables: PlainTable::of(diagnosis),
            facts: facts::of_diagnosis(diagnosis),
            definitions: definitions(),
        }
    }

    /// The process that used its GPU longest, whose activities are `program`'s; `None` where none did.
    pub(super) fn of_watched(watched: &Watched, program: Option<&Program>) -> Option<Self> {
        let observation = watched.processes.first()?;
        let path = wording::printable(&observation.program);
        let device = watched.gpu.as_ref().map_or("a GPU", |gpu| &gpu.name);
        Some(Self {
            title: format!("{path} on {device}"),
            kicker: format!("thalweg watch  ·  {path}  ·  {}", wording::printable(device)),
            is_simulated: false,
            warnings: observation.remarks.iter().map(|it| wording::printable(it)).collect(),
            verdict: watching::verdict(observation),
            configuration: wording::printable(&watched.command.join(" ")),
            figures: watched_figures(observation),
            charts: Vec::new(),
            timeline: None,
            activity: program
                .and_then(|program| Lanes::of_program(program, watched.gpu.as_ref()))
                .map(|lanes| Activity::of(&lanes, "What ran when")),
            table: None,
            tables: PlainTable::of_watched(watched, observation),
            facts: facts::of_watched(watched, observation),
            definitions: &[],
        })
    }

    pub(super) fn of_loss(report: &LossReport) -> Self {
        let of_file = |path: &std::path::Path| {
            wording::printable(&path.file_name().unwrap_or(path.as_os_str()).display().to_string())
        };
        let (other, reference) = (of_file(&report.other), of_file(&report.reference));
        let accuracy = report.accuracy.as_ref();
        Self {
            title: format!("{other} against {reference}"),
            kicker: format!("thalweg accuracy  ·  {other}  ·  {reference}"),
            is_simulated: false,
            warnings: accuracy
                .filter(|it| it.is_random)
                .map(|_| RANDOM_SAMPLES.to_owned())
                .into_iter()
                .collect(),
            verdict: verdicts::loss(report),
            configuration: report.layers.as_ref().map(verdicts::first_over).unwrap_or_default(),
            figures: accuracy.map(loss_figures).unwrap_or_default(),
            charts: report.layers.as_ref().map(errors_along).unwrap_or_default(),
            timeline: None,
            activity: None,
            table: None,
            tables: loss_tables::of_loss(report),
            facts: facts::of_loss(report),
            definitions: loss_definitions(),
        }
    }

    pub(super) fn of_measurement(measurement: &Measurement) -> Self {
        let charts = [latency_distribution(measurement), throughput_over_time(measurement)];
        let configuration = measurement.configuration.to_string();
        let mut figures = vec![throughput_figure(&measurement.throughput_inferences_per_s)];
        figures.extend(latency_figures(&measurement.latency));
        Self {
            title: format!("{configuration} on {}", measurement.device.name),
            kicker: kicker("bench", &measurement.model, &measurement.device),
            is_simulated: measurement.device.is_simulated(),
            warnings: warnings(measurement),
            verdict: verdict(measurement),
            configuration,
            figures,
            charts: charts.into_iter().flatten().collect(),
            timeline: timeline(measurement),
            activity: None,
            table: None,
            tables: Vec::new(),
            facts: facts::of_measurement(measurement),
            definitions: definitions(),
        }
    }
}

/// What random numbers are worth.
const RANDOM_SAMPLES: &str =
    "The samples were random numbers. Real ones would say more: name them with --input.";

fn loss_figures(accuracy: &Accuracy) -> Vec<Figure> {
    let samples = format!("worst of {} samples", wording::count(accuracy.sample_count));
    let figure = |label: &str, value: String, note: &str| Figure {
        label: label.to_owned(),
        value,
        unit: String::new(),
        note: note.to_owned(),
    };
    let worst = |of: fn(&OutputAccuracy) -> f64, pick: fn(f64, f64) -> f64| {
        accuracy.outputs.iter().map(of).reduce(pick)
    };
    let cosine = worst(|output| output.cosine, f64::min);
    let error = worst(|output| output.max_relative_error, f64::max);
    let top1 = accuracy.outputs.iter().filter_map(|output| output.top1_agreement).reduce(f64::min);
    let figures = [
        cosine.map(|cosine| figure("Cosine", format!("{cosine:.6}"), &samples)),
        error.map(|error| figure("Relative error", wording::error(error), &samples)),
        top1.map(|share| figure("Same top-1", wording::agreement(Some(share)), "share of samples")),
    ];
    figures.into_iter().flatten().collect()
}

/// `thalweg tune  ·  resnet50.onnx  ·  NVIDIA H100`
fn kicker(command: &str, model: &ModelIdentity, device: &DeviceSpec) -> String {
    format!("thalweg {command}  ·  {}  ·  {}", file_name(model), device.name)
}

fn file_name(model: &ModelIdentity) -> String {
    model.path.file_name().unwrap_or(model.path.as_os_str()).display().to_string()
}

/// `4 streams with batch 2 run 13,348 inferences per second.`
fn verdict(measurement: &Measurement) -> String {
    let configuration = &measurement.configuration;
    let value = wording::number(measurement.throughput_inferences_per_s.value);
    let (streams, run) = match configuration.streams {
        1 => ("One stream".to_owned(), "runs"),
        streams => (format!("{streams} streams"), "run"),
    };
    format!("{streams} with batch {} {run} {value} inferences per second.", configuration.batch_size)
}

fn tuning_warnings(outcome: &TuneOutcome) -> Vec<String> {
    let mut warnings = outcome.confirmation.as_ref().map(warnings).unwrap_or_default();
    warnings.extend(wording::broken_when_confirmed(outcome).map(|text| format!("Limit: {text}.")));
    warnings
}

fn diagnosis_warnings(diagnosis: &Diagnosis) -> Vec<String> {
    let missing = diagnosis.judgement.missing.iter().map(|text| format!("Not known: {text}."));
    let recording = diagnosis.kernels.iter().flat_map(|kernels| &kernels.remarks);
    let recording = recording.map(|text| format!("Kernels: {}.", wording::printable(text)));
    warnings(&diagnosis.measurement).into_iter().chain(missing).chain(recording).collect()
}

fn gain_figure(gained: &Gained) -> Figure {
    Figure {
        label: "Gained".to_owned(),
        value: wording::number(gained.ratio.value),
        unit: "times as it was".to_owned(),
        note: format!("95 % interval {}", wording::interval(&gained.ratio)),
    }
}

fn watched_figures(observation: &Observation) -> Vec<Figure> {
    let figure = |label: &str, share: f64, note: String| Figure {
        label: label.to_owned(),
        value: wording::number(share * 100.0),
        unit: "%".to_owned(),
        note,
    };
    let sharing = &observation.sharing;
    let mut figures = vec![figure("Computing", sharing.computing, format!("of {}", observation.window))];
    let losses = observation.findings.first().map(|first| {
        figure("Lost most", first.share, format!("{} to {}", first.lost, watching::name(first.cause)))
    });
    figures.extend(losses);
    figures.extend(sharing.copies_under_compute.map(|share| {
        figure("Copies beside a computation", share, format!("copying {}", wording::percent(sharing.copying)))
    }));
    figures
}

fn confidence_figure(judgement: &Judgement) -> Option<Figure> {
    let first = judgement.limits.first()?;
    Some(Figure {
        label: "Confidence".to_owned(),
        value: judgement.confidence.to_string(),
        unit: String::new(),
        note: format!("{} {} reached", first.limit, wording::percent(first.pressure)),
    })
}

fn warnings(measurement: &Measurement) -> Vec<String> {
    let unstable = (!wording::is_stable(measurement))
        .then(|| format!("Stability of the measurement: {}.", wording::stability(measurement)));
    let unverified = (measurement.verification.verified_samples == 0)
        .then(|| format!("Verification: {}.", wording::verification(&measurement.verification)));
    let failures = wording::failures(measurement).map(|failures| format!("{failures}."));
    wording::remarks(measurement)
        .into_iter()
        .chain([unstable, unverified, failures].into_iter().flatten())
        .collect()
}

fn winner_figures(outcome: &TuneOutcome, winner: &Candidate) -> Vec<Figure> {
    // The confirmation did not take part in the choice, so it is free of the luck that helped to win.
    let confirmed = outcome.confirmation.as_ref();
    let throughput =
        confirmed.map(|it| it.throughput_inferences_per_s).or(winner.throughput_inferences_per_s);
    let latency = confirmed.map(|it| it.latency).or(winner.latency);
    let mut figures: Vec<_> = throughput.iter().map(throughput_figure).collect();
    figures.extend(latency.filter(|it| it.n > 0).map(|latency| {
        let (name, span) = wording::tail(&latency);
        let note = outcome.limits.p99.map(|limit| limit_note(span, limit, winner));
        time_figure(name, span, note.unwrap_or_else(|| latency_note(&latency)))
    }));
    figures.extend(outcome.baseline.as_ref().map(|baseline| speed_up_figure(outcome, baseline)));
    figures
}

/// The verdict on the limit comes from the search; the number shown may come from the confirmation.
fn limit_note(span: Nanos, limit: Nanos, winner: &Candidate) -> String {
    if span > limit {
        return format!("over the limit of {limit}");
    }
    format!("limit {limit}, {}", wording::compliance(winner.compliance))
}

/// What there is to say without a winner.
fn search_figures(outcome: &TuneOutcome) -> Vec<Figure> {
    let measured = outcome.candidates.iter().filter(|it| it.slice_count > 0).count();
    vec![Figure {
        label: "Candidates measured".to_owned(),
        value: wording::count(measured),
        unit: format!("of {}", wording::count(outcome.candidates.len())),
        note: format!("in {}", outcome.search_time),
    }]
}

fn throughput_figure(throughput: &Estimate) -> Figure {
    Figure {
        label: "Throughput".to_owned(),
        value: wording::number(throughput.value),
        unit: "inferences/s".to_owned(),
        note: format!("95 % interval {}", wording::interval(throughput)),
    }
}

fn latency_figures(latency: &LatencySummary) -> Vec<Figure> {
    if latency.n == 0 {
        return Vec::new();
    }
    let (name, span) = wording::tail(latency);
    let note = latency_note(latency);
    vec![time_figure("median", latency.p50, format!("mean {}", latency.mean)), time_figure(name, span, note)]
}

fn latency_note(latency: &LatencySummary) -> String {
    let n = wording::count(latency.n);
    match latency.p99 {
        Some(_) => format!("of {n} requests, largest {}", latency.max),
        None => format!("of {n} requests; a p99 needs {}", wording::P99_RECORDS),
    }
}

fn time_figure(name: &str, span: Nanos, note: String) -> Figure {
    let text = span.to_string();
    let (value, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let label =
        if name.contains("latency") { "Largest latency".to_owned() } else { format!("Latency, {name}") };
    Figure { label, value: value.to_owned(), unit: unit.to_owned(), note }
}

fn speed_up_figure(outcome: &TuneOutcome, baseline: &Comparison) -> Figure {
    let other = outcome.candidates.get(baseline.candidate);
    let other =
        other.map_or(String::new(), |it| format!(", against {}", wording::beside_winner(outcome, it)));
    Figure {
        label: "Speed-up".to_owned(),
        value: wording::number(baseline.ratio.value),
        unit: "times the default".to_owned(),
        note: format!("95 % interval {}{other}", wording::interval(&baseline.ratio)),
    }
}
