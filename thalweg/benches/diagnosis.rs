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

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cases::{Case, Labelled, is_tuned_on, suite, suite_path};
use thalweg::diagnose::{Evidence, Verdict, trtexec_verdict};

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
    for (name, is_tuned_on) in [("tuned on", true), ("evaluated only", false)] {
        let part = judged.iter().filter(|(labelled, ..)| labelled.is_tuned_on == is_tuned_on);
        let pairs: Vec<(&Labelled, Verdict)> =
            part.map(|(labelled, judgement, _)| (labelled, judgement.verdict)).collect();
        print_matrix(name, &pairs);
    }
    print_trtexec(&judged.iter().map(|(labelled, _, evidence)| (labelled, evidence)).collect::<Vec<_>>());
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

/// What `trtexec` would print of the same measurements; it is silent where no median stands out.
fn print_trtexec(cases: &[(&Labelled, &Evidence)]) {
    let said: Vec<(&Labelled, Verdict)> = cases
        .iter()
        .filter_map(|(labelled, evidence)| Some((*labelled, trtexec_verdict(evidence)?)))
        .collect();
    let right = said.iter().filter(|(labelled, verdict)| labelled.right().contains(verdict)).count();
    println!(
        "\ntrtexec's rules on the same measurements: {right} of {} right, {} times wrong, {} times silent",
        cases.len(),
        said.len() - right,
        cases.len() - said.len()
    );
}

/// How well the gain of each case's first remedy is predicted.
fn score_remedies() {
    let suite = suite();
    let tried = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    in_parallel(|| {
        while let Some(labelled) = suite.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(gain) = Case::of(labelled.seed).first_remedy() {
                tried.lock().expect("no thread panicked").push((labelled.is_tuned_on, gain));
            }
        }
    });
    let tried = tried.into_inner().expect("no thread panicked");
    let is_near = |predicted: f64, truth: f64| (predicted - truth).abs() <= (0.15 * truth).max(0.05);
    println!("gain of the first remedy, predicted within max(0.05, 15 %):");
    for (name, least) in [("all that were tried", 0.0), ("a gain of 1.2 or more", 1.2)] {
        for (part, is_tuned_on) in [("tuned on", true), ("evaluated only", false)] {
            let of: Vec<(f64, f64)> = tried
                .iter()
                .filter(|(tuned_on, (_, truth))| *tuned_on == is_tuned_on && *truth >= least)
                .map(|(_, gain)| *gain)
                .collect();
            let near = of.iter().filter(|(predicted, truth)| is_near(*predicted, *truth)).count();
            let nothing = of.iter().filter(|(_, truth)| is_near(1.0, *truth)).count();
            println!("  {name:22} {part:15} {near} of {}; always 1.0: {nothing}", of.len());
        }
    }
}

fn print_matrix(name: &str, pairs: &[(&Labelled, Verdict)]) {
    let short = |verdict: Verdict| verdict.to_string().chars().take(7).collect::<String>();
    let exact = pairs.iter().filter(|(labelled, verdict)| labelled.label == *verdict).count();
    let right = pairs.iter().filter(|(labelled, verdict)| labelled.right().contains(verdict)).count();
    let share = |count: usize| 100.0 * count as f64 / pairs.len().max(1) as f64;
    println!(
        "\n{name}: {} cases, {:.1} % right, {:.1} % the label itself",
        pairs.len(),
        share(right),
        share(exact)
    );
    print!("{:24}", "label \\ verdict");
    Verdict::ALL.iter().for_each(|verdict| print!(" {:>7}", short(*verdict)));
    println!();
    for label in Verdict::ALL {
        print!("{label:24}");
        for verdict in Verdict::ALL {
            let count = pairs.iter().filter(|pair| (pair.0.label, pair.1) == (label, verdict)).count();
            print!(" {:>7}", if count == 0 { "·".to_owned() } else { count.to_string() });
        }
        println!();
    }
}

fn in_parallel(work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(&work);
        }
    });
}
