//! Prediction and search on simulated devices and networks drawn at random: the worst that the benchmark of 200
//! draws has found (`cargo bench -p thalweg --bench prediction`), so that it does not get worse.

mod devices;
mod draws;

use draws::{ALLOWED_SHARE, Draw, Score, gain, score};

/// The ten seeds with the smallest shares of the optimum, and four that searches before this one missed.
const WORST: [u64; 14] = [119, 166, 59, 93, 181, 152, 87, 97, 91, 35, 161, 117, 130, 100];

/// The least share of the optimum that the tuner promises.
const REACHED: f64 = 0.97;

#[test]
fn the_tuner_does_no_worse_on_its_worst_draws() {
    let (one_half, other_half) = WORST.split_at(WORST.len() / 2);
    std::thread::scope(|scope| {
        scope.spawn(|| one_half.iter().for_each(check));
        other_half.iter().for_each(check);
    });
}

fn check(seed: &u64) {
    let Score { reached, spent, pick, optimum, .. } = score(&Draw::of(*seed));
    println!("seed {seed}: {:.1} % in {:.1} %", 100.0 * reached, 100.0 * spent);
    assert!(reached >= REACHED, "seed {seed}: {reached:.3}, {pick} not {optimum}");
    assert!(spent <= ALLOWED_SHARE, "seed {seed}: {spent:.3}");
}

#[test]
fn one_stream_and_a_probe_of_two_predict_what_more_streams_gain() {
    let gains: Vec<_> = (0..40).map(|seed| gain(&Draw::of(seed))).collect();
    let met = |gains: &[&draws::Gain]| {
        gains.iter().filter(|gain| gain.is_met_by(gain.probed)).count() as f64 / gains.len() as f64
    };
    let all: Vec<_> = gains.iter().collect();
    let large: Vec<_> = gains.iter().filter(|gain| gain.truth >= 1.2).collect();
    assert!(large.len() >= 10 && met(&all) >= 0.9 && met(&large) >= 0.85, "{} {}", met(&all), met(&large));
    // Without streams to gain from, "1.0" would do as well.
    assert!(large.iter().all(|gain| !gain.is_met_by(1.0)));
}
