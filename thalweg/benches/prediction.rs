//! How well the predictor and the tuner do on devices and networks drawn at random.
//!
//! `cargo bench -p thalweg --bench prediction [-- DRAWS | SEED,SEED,...]` prints distributions over 200 draws; all devices
//! are simulated. An exhaustive search would give each candidate half a second, or the time of ten executions
//! where that is longer.

#[path = "../tests/devices/mod.rs"]
mod devices;
#[path = "../tests/draws/mod.rs"]
mod draws;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use draws::{Draw, Gain, Score, gain, score};

fn main() {
    let seeds = seeds();
    let results = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let draw = Draw::of(seed);
                    let result = (seed, label(&draw), gain(&draw), score(&draw));
                    results.lock().expect("no thread panicked").push(result);
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no thread panicked");
    results.sort_by_key(|(seed, ..)| *seed);
    println!("{} draws, simulated", seeds.len());
    print_gains(results.iter().map(|(.., gain, _)| gain).collect());
    print_scores(&mut results.iter().map(|(seed, label, _, score)| (*seed, label.as_str(), score)).collect());
}

/// The seeds that were asked for: a list of them, so many from 0 on, or 200.
fn seeds() -> Vec<u64> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(list) = arguments.iter().find(|argument| argument.contains(',')) {
        return list.split(',').filter_map(|seed| seed.parse().ok()).collect();
    }
    let count = arguments.iter().find_map(|argument| argument.parse().ok());
    (0..count.unwrap_or(200)).collect()
}

fn label(draw: &Draw) -> String {
    format!("{} on {}", draw.network, draw.parameters.sheet.key)
}

/// Shares of draws whose gain is predicted within max(0.05, 15 %).
fn print_gains(all: Vec<&Gain>) {
    let large: Vec<&Gain> = all.iter().copied().filter(|gain| gain.truth >= 1.2).collect();
    println!("\nbest number of streams over one stream, predicted within max(0.05, 15 %):");
    println!("{:28} {:>6} {:>11} {:>11} {:>11}", "draws", "", "one stream", "two as well", "always 1.0");
    for (name, gains) in [("all", all), ("true gain 1.2 or more", large)] {
        let share = |predicted: fn(&Gain) -> f64| {
            let met = gains.iter().filter(|gain| gain.is_met_by(predicted(gain))).count();
            format!("{:.1} %", 100.0 * met as f64 / gains.len().max(1) as f64)
        };
        let (one, two) = (share(|gain| gain.predicted), share(|gain| gain.probed));
        println!("{name:28} {:6} {one:>11} {two:>11} {:>11}", gains.len(), share(|_| 1.0));
    }
}

/// How close to the optimum the tuner came, and for how much time.
fn print_scores(scores: &mut Vec<(u64, &str, &Score)>) {
    scores.sort_by(|a, b| a.2.reached.total_cmp(&b.2.reached));
    println!("\nthe tuner's pick over the optimum of an exhaustive search:");
    for percentile in [0, 1, 5, 10, 25, 50, 100] {
        let index = (scores.len() - 1) * percentile / 100;
        println!("  {percentile:3} % of draws are at or below {:.2} %", 100.0 * scores[index].2.reached);
    }
    let good = scores.iter().filter(|(.., score)| score.reached >= 0.97).count();
    let most = scores.iter().map(|(.., score)| score.spent).fold(0.0, f64::max);
    println!("  {good} of {} reach 97 %; device time spent: at most {:.1} %", scores.len(), 100.0 * most);
    println!("\nworst ten:");
    for (seed, label, score) in scores.iter().take(10) {
        let Score { reached, spent, candidate_count, pick, optimum } = score;
        println!("  seed {seed}: {label}: {:.2} % in {:.1} %", 100.0 * reached, 100.0 * spent);
        println!("    of {candidate_count} candidates {pick}, not {optimum}");
    }
}
