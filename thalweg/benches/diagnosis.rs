//! The labelled suite of simulated workloads: writing its labels, and judging the rules by them.
//!
//! `cargo bench -p thalweg --bench diagnosis` prints a confusion matrix over `suite/simulated.json`, for the cases that
//! the rules were tuned on and for those that were only evaluated. With `-- label 0 400` it draws the cases of these
//! seeds, finds out by ablation what is true of each, and adds them to the file; no rule is asked for that. `-- details`
//! explains what the rules got wrong of the cases that they may be tuned on, `-- evidence` prints what they see of those,
//! and `-- evidence 400 500` of others that are not in the suite. `-- remedies` tries each case's first remedy and compares
//! what it gave with what was predicted.

#[path = "../tests/cases/mod.rs"]
mod cases;
#[path = "../tests/devices/mod.rs"]
mod devices;
#[path = "../tests/verdicts/mod.rs"]
mod verdicts;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cases::{Case, Labelled, is_tuned_on, suite, suite_path};
use thalweg::diagnose::{Verdict, trtexec_verdict};
use verdicts::{Gain, Judged, print_gains, print_scores};

/// Cases of each verdict that the suite keeps.
const PER_VERDICT: usize = 12;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seeds: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let asks = |word: &str| arguments.iter().any(|argument| argument == word);
    match seeds.as_slice() {
        [first, last] if asks("label") => label(*first..*last),
        [first, last] if asks("evidence") => print_evidence(Some(*first..*last)),
        _ if asks("evidence") => print_evidence(None),
        _ if asks("remedies") => score_remedies(),
        _ => score(asks("details")),
    }
}

/// Labels the cases of these seeds and adds them to the suite, as long as it has few of their kind.
fn label(seeds: Range<u64>) {
    let labelled = Mutex::new(Vec::new());
    let next = AtomicU64::new(seeds.start);
    in_parallel(|| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let case = Case::of(seed).labelled();
            println!("{seed:6} {:24} {}", case.label, case.what);
            labelled.lock().expect("no thread panicked").push(case);
        }
    });
    let mut cases = suite();
    cases.retain(|known| !seeds.contains(&known.seed));
    cases.extend(labelled.into_inner().expect("no thread panicked"));
    cases.sort_by_key(|case| (case.label, case.seed));
    let mut kept: BTreeMap<Verdict, Vec<Labelled>> = BTreeMap::new();
    for case in cases {
        let of = kept.entry(case.label).or_default();
        if of.len() < PER_VERDICT {
            of.push(case);
        }
    }
    let line = |case: &Labelled| serde_json::to_string(case).expect("plain data");
    let lines: Vec<String> = kept.values().flatten().map(line).collect();
    std::fs::write(suite_path(), format!("[\n{}\n]\n", lines.join(",\n"))).expect("the suite's file");
}

/// Prints what the rules see of cases that they may be tuned on, one JSON object a line: of the suite's, or of these
/// seeds, which need not be in the suite.
fn print_evidence(seeds: Option<Range<u64>>) {
    let suite = if seeds.is_none() { suite() } else { Vec::new() };
    let seeds: Vec<u64> = seeds.map_or_else(|| suite.iter().map(|it| it.seed).collect(), Range::collect);
    let next = AtomicUsize::new(0);
    in_parallel(|| {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            if is_tuned_on(*seed) {
                let case = Case::of(*seed);
                let known = suite.iter().find(|labelled| labelled.seed == *seed);
                let labelled = known.cloned().unwrap_or_else(|| case.labelled());
                let (_, evidence) = case.judged();
                let line = serde_json::json!({
                    "case": labelled, "configuration": case.configuration, "evidence": evidence,
                });
                println!("{line}");
            }
        }
    });
}

/// Judges every case and compares.
fn score(shows_details: bool) {
    let suite = suite();
    let judged = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    in_parallel(|| {
        while let Some(labelled) = suite.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (judgement, evidence) = Case::of(labelled.seed).judged();
            judged.lock().expect("no thread panicked").push((labelled.clone(), judgement, evidence));
        }
    });
    let mut judged = judged.into_inner().expect("no thread panicked");
    judged.sort_by_key(|(labelled, ..)| (labelled.label, labelled.seed));
    let scored = judged.iter().map(|(labelled, judgement, evidence)| Judged {
        is_tuned_on: labelled.is_tuned_on,
        label: labelled.label,
        right: labelled.right(),
        verdict: judgement.verdict,
        trtexec: trtexec_verdict(evidence),
    });
    print_scores(&scored.collect::<Vec<_>>());
    for (labelled, judgement, evidence) in judged.iter().filter(|(labelled, judgement, _)| {
        shows_details && labelled.is_tuned_on && !labelled.right().contains(&judgement.verdict)
    }) {
        println!("\nseed {}: {}: {} not {}", labelled.seed, labelled.what, judgement.verdict, labelled.label);
        println!("  true: {:?}", labelled.gains);
        for it in &judgement.limits {
            print!("  {:?} {:.2} {:.2}", it.limit, it.pressure, it.gain_if_doubled);
        }
        println!();
        for reading in &evidence.readings {
            if let Some(value) = reading.value {
                print!(" {:?} {value:.3e}", reading.quantity);
            }
        }
        println!();
    }
}

/// How well the gain of each case's first remedy is predicted.
fn score_remedies() {
    let suite = suite();
    let tried = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    in_parallel(|| {
        while let Some(labelled) = suite.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some((predicted, measured)) = Case::of(labelled.seed).first_remedy() {
                let gain = Gain { is_tuned_on: labelled.is_tuned_on, predicted, measured };
                tried.lock().expect("no thread panicked").push(gain);
            }
        }
    });
    print_gains(&tried.into_inner().expect("no thread panicked"));
}

fn in_parallel(work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(&work);
        }
    });
}
