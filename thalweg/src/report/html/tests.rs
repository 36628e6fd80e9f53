//! Whole pages: well-formed, self-contained, safe against hostile names, and calm about missing data.

use super::*;
use crate::diagnose::KernelSummary;
use crate::measure::{Estimate, LatencySummary, Stability};
use crate::report::samples;
use crate::tune::{Candidate, Limits, Standing};
use crate::units::Nanos;

/// A page stays easy to send by mail.
const LARGEST_PAGE: usize = 1_000_000;

/// Panics where a tag is not closed by its own kind. The page writes no optional end tags away.
fn assert_well_formed(page: &str) {
    let mut open = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        let tag = &rest[at + 1..at + 1 + rest[at..].find('>').expect("a tag ends") - 1];
        rest = &rest[at + 1 + tag.len() + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap_or_default();
        match tag {
            _ if tag.starts_with('!') || tag.ends_with('/') || name == "meta" => {}
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "</{name}> closes another tag"),
            _ => open.push(name),
        }
        if ["style", "script"].contains(&name) && !tag.starts_with('/') {
            rest = &rest[rest.find(&format!("</{name}>")).expect("style and script end")..];
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

/// What must hold for every page.
fn assert_sound(page: &str) {
    assert_well_formed(page);
    assert!(!page.contains("NaN"), "a reader sees NaN");
    for infinite in ["\"inf\"", "\"-inf\"", ">inf<", " inf ", "inf%"] {
        assert!(!page.contains(infinite), "a reader sees {infinite}");
    }
    assert!(page.len() < LARGEST_PAGE, "{} bytes", page.len());
}

#[test]
fn a_search_makes_a_sound_page_that_loads_nothing() {
    let page = html_of_tuning(&samples::outcome()).unwrap();
    assert_sound(&page);
    for load in ["http://", "https://", "src=", "url(", "@import", "<link"] {
        assert!(!page.contains(load), "the page has {load}");
    }
    assert!(!page.contains("<strong>Simulated"));
    assert_eq!(page.matches("<figure>").count(), 4);
    assert_eq!(page.matches("<td").count(), 37 * 11);
}

#[test]
fn a_winner_below_another_candidate_of_its_streams_is_explained() {
    let explanation = "fell behind when both were measured again";
    let mut outcome = samples::outcome();
    assert!(!html_of_tuning(&outcome).unwrap().contains(explanation));
    let best = outcome.candidates[0].throughput_inferences_per_s.unwrap();
    let streams = outcome.candidates[0].configuration.streams;
    let mut of_streams = outcome.candidates[1..].iter_mut().filter(|it| it.configuration.streams == streams);
    let other = of_streams.find(|it| it.standing != Standing::OverLimit).unwrap();
    other.throughput_inferences_per_s = Some(Estimate { value: 1.05 * best.value, ..best });
    assert!(html_of_tuning(&outcome).unwrap().contains(explanation));
}

#[test]
fn a_loss_makes_a_sound_page_with_the_first_layer_over_the_limit_marked() {
    let page = html_of_loss(&samples::loss()).unwrap();
    assert_sound(&page);
    assert!(page.contains("int8.onnx keeps a cosine of 0.999310 with model.onnx"), "no verdict");
    assert_eq!((page.matches("<figure>").count(), page.matches("class=\"first-over\"").count()), (2, 2));
    assert_eq!(page.matches("first over: block9/conv").count(), 2);
    assert!(page.contains("limit rel=0.01") && page.contains("&lt;b&gt;logits"), "limit or escaping");
    assert_eq!(page.matches("<table class=\"plain\">").count(), 4);
    // Without layers, conversion and mix only the outputs are left.
    let bare = LossReport { layers: None, conversion: None, mix: None, ..samples::loss() };
    let page = html_of_loss(&bare).unwrap();
    assert_sound(&page);
    assert_eq!(page.matches("<table class=\"plain\">").count(), 1);
}

#[test]
fn a_diagnosis_makes_a_sound_page() {
    let page = html_of_diagnosis(&samples::diagnosis()).unwrap();
    assert_sound(&page);
    assert!(page.contains("<h1>Underfilled: nothing is full"), "no verdict");
    assert_eq!(page.matches("<table class=\"plain\">").count(), 3);
    assert!(page.contains("stand &lt;b&gt;back&lt;"), "advice is not escaped");
}

/// A page with so much in its timeline is larger, and still goes by mail.
const LARGEST_PAGE_OF_PIECES: usize = 1_600_000;

fn with_window(executions_per_stream: usize, kernels: u64) -> Diagnosis {
    let window = Some(samples::window(executions_per_stream, kernels));
    Diagnosis { window, ..samples::diagnosis() }
}

#[test]
fn kernels_lie_below_the_stages_of_the_streams_and_above_the_calls() {
    let page = html_of_diagnosis(&with_window(20, 10)).unwrap();
    assert_sound(&page);
    let start = page.find("id=\"activity-data\">").expect("no data") + "id=\"activity-data\">".len();
    let data = &page[start..start + page[start..].find("</script>").unwrap()];
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    let groups: Vec<_> = data["lanes"].as_array().unwrap().iter().map(|lane| lane["group"].clone()).collect();
    assert_eq!(groups[..12], ["stages"; 12]);
    assert_eq!(groups[12..16], ["streams"; 4]);
    assert_eq!(groups[16..], ["threads"; 5]);
    assert_eq!(data["lanes"][12]["count"], 20 * 11);
    assert_eq!(data["gauges"].as_array().unwrap().len(), 4);
}

#[test]
fn what_a_recording_says_of_itself_is_a_warning() {
    let remarks = vec!["the recording has no <end>".to_owned()];
    let kernels = KernelSummary { pace: 0.97, graph_pace: None, largest: Vec::new(), remarks };
    let diagnosis = Diagnosis { kernels: Some(kernels), ..samples::diagnosis() };
    let page = html_of_diagnosis(&diagnosis).unwrap();
    assert!(page.contains("Kernels: the recording has no &lt;end&gt;."), "no warning");
}

#[test]
fn a_hundred_thousand_pieces_make_a_page_that_goes_by_mail() {
    let page = html_of_diagnosis(&with_window(160, 90)).unwrap();
    assert_well_formed(&page);
    assert!(page.contains("100,000 pieces in "), "too few");
    assert!(page.len() < LARGEST_PAGE_OF_PIECES, "{} bytes", page.len());
}

#[test]
fn a_watched_program_has_a_timeline_where_its_activities_are_still_there() {
    let watched = samples::watched();
    let program = crate::watch::samples::naive(20).program();
    let page = html_of_watched(&watched, Some(&program)).unwrap().unwrap();
    assert_sound(&page);
    assert!(page.contains("100 pieces in ") && page.contains("CUDA stream 7 (default)"));
    let page = html_of_watched(&watched, None).unwrap().unwrap();
    assert_sound(&page);
    assert!(!page.contains("activity-data"));
}

#[test]
fn a_measurement_makes_a_sound_page() {
    let page = html_of_measurement(&samples::measurement(samples::configuration(4, 2), 100)).unwrap();
    assert_sound(&page);
    assert!(page.contains("<h1>4 streams with batch 2 run 13,348 inferences per second.</h1>"));
    assert_eq!(page.matches("<figure>").count(), 2);
}

#[test]
fn hostile_names_stay_text() {
    let hostile = "\"><script>alert('x')</script><img src=x>{{ css }}\u{1b}[2J";
    let mut outcome = samples::outcome();
    outcome.model.path = hostile.into();
    outcome.model.input_shapes.insert(hostile.to_owned(), vec![1]);
    outcome.device.name = hostile.to_owned();
    outcome.verdict = hostile.to_owned();
    outcome.candidates[3].standing = Standing::Failed;
    outcome.candidates[3].failure = Some(hostile.to_owned());
    let confirmation = outcome.confirmation.as_mut().unwrap();
    confirmation.failures.count = 1;
    confirmation.failures.first = Some(hostile.to_owned());
    let page = html_of_tuning(&outcome).unwrap();
    assert_sound(&page);
    assert_eq!(page.matches("<script>").count(), 1);
    assert!(!page.contains("<img"));
    assert!(page.contains("{{ css }}"));
}

#[test]
fn a_search_without_any_result_makes_a_sound_page() {
    let page = html_of_tuning(&samples::empty_outcome()).unwrap();
    assert_sound(&page);
    assert!(page.contains("<h1>No candidate could be measured.</h1>"));
    assert!(!page.contains("<figure>") && !page.contains("<table>"));
}

#[test]
fn candidates_that_say_nothing_make_a_sound_page() {
    let mut outcome = samples::outcome();
    outcome.confirmation = None;
    outcome.limits = Limits::default();
    let nan = Estimate { value: f64::NAN, lower: f64::NEG_INFINITY, upper: f64::INFINITY };
    let zero = Estimate { value: 0.0, lower: 0.0, upper: f64::INFINITY };
    let latency = LatencySummary { n: 0, p99: None, p999: None, ..outcome.candidates[0].latency.unwrap() };
    outcome.candidates = [nan, zero]
        .map(|estimate| Candidate {
            throughput_inferences_per_s: Some(estimate),
            latency: Some(LatencySummary { max: Nanos::ZERO, ..latency }),
            ..outcome.candidates[0].clone()
        })
        .into();
    for comparison in [&mut outcome.runner_up, &mut outcome.baseline].into_iter().flatten() {
        comparison.ratio = nan;
    }
    assert_sound(&html_of_tuning(&outcome).unwrap());
    outcome.candidates.truncate(1);
    assert_sound(&html_of_tuning(&outcome).unwrap());
}

#[test]
fn a_measurement_that_saw_nothing_makes_a_sound_page() {
    let mut measurement = samples::measurement(samples::configuration(1, 1), 0);
    measurement.windows.clear();
    measurement.used_windows = 0;
    measurement.stability = Stability::TooShort;
    measurement.throughput_inferences_per_s = Estimate { value: 0.0, lower: 0.0, upper: f64::NAN };
    let page = html_of_measurement(&measurement).unwrap();
    assert_sound(&page);
    assert!(page.contains("too few for a verdict"));
}

#[test]
fn a_large_search_stays_below_a_megabyte() {
    let mut outcome = samples::outcome();
    let row = outcome.candidates[5].clone();
    outcome.candidates.resize(1000, row);
    outcome.confirmation = Some(samples::measurement(samples::configuration(32, 1), 40));
    assert_sound(&html_of_tuning(&outcome).unwrap());
}

#[test]
fn a_simulated_run_says_so() {
    let mut outcome = samples::outcome();
    outcome.device.backend = "simulated:h100".to_owned();
    assert!(html_of_tuning(&outcome).unwrap().contains("<strong>Simulated.</strong>"));
}

#[test]
fn a_limit_broken_by_the_confirmation_is_a_warning() {
    let mut outcome = samples::outcome();
    outcome.confirmation.as_mut().unwrap().latency.p99 = Some(Nanos(4_470_000));
    let page = html_of_tuning(&outcome).unwrap();
    assert!(page.contains("had a p99 of 4.47 ms, over the limit of 4.00 ms"));
    assert!(!page.contains("kept with 95 % confidence</p>"));
}

#[test]
#[ignore = "writes pages to look at"]
fn writes_pages_to_look_at() {
    let folder = std::env::temp_dir().join("report-samples");
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, page: Result<String>| std::fs::write(folder.join(name), page.unwrap()).unwrap();
    let mut outcome = samples::outcome();
    write("tune.html", html_of_tuning(&outcome));
    write("empty.html", html_of_tuning(&samples::empty_outcome()));
    let mut measurement = samples::measurement(samples::configuration(4, 2), 600);
    write("bench.html", html_of_measurement(&measurement));
    measurement.stability = Stability::Unstable { throughput_spread: 1.31, latency_spread: 1.84 };
    measurement.device.backend = "simulated:h100".to_owned();
    write("warnings.html", html_of_measurement(&measurement));
    let mut without_copies = samples::measurement(samples::configuration(2, 1), 60);
    for record in &mut without_copies.records {
        record.stages.h2d = crate::backend::Span::default();
        record.stages.d2h = crate::backend::Span::default();
    }
    write("cpu.html", html_of_measurement(&without_copies));
    outcome.confirmation = Some(samples::measurement(samples::configuration(12, 1), 300));
    outcome.candidates.truncate(1);
    outcome.pareto = vec![0];
    write("wide.html", html_of_tuning(&outcome));
    write("kernels.html", html_of_diagnosis(&with_window(20, 10)));
    write("pieces.html", html_of_diagnosis(&with_window(160, 90)));
    let program = crate::watch::samples::naive(200).program();
    write("watch.html", html_of_watched(&samples::watched(), Some(&program)).map(Option::unwrap));
}
