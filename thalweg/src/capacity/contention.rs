//! How much executions slow each other down when several streams compute at once.
//!
//! Each alone would fill part of the device. As long as the parts fit side by side they hardly disturb each other;
//! once they do not, the device is shared. Between the two, kernels that fill the device alternate with kernels
//! that do not, so the transition is gradual. The slow-down of `k` executions is
//! `(alone^p + (k^p - 1) fill^p)^(1/p)` with `alone = 1 + disturbance x (1 - 1/k)`: 1 for one, `k x fill` for many,
//! and `p` says how sharp the bend is. With `p = 1` and no disturbance it is Amdahl's law for throughput (Gunther's
//! universal scalability law without its coherency term). The disturbance is what ResNet-50 at batch 1 shows on an
//! H100: a second stream costs both a quarter of their speed, the next six together hardly more, and the device
//! is still half empty.

/// Bends that are tried against what was measured.
const BENDS: [f64; 9] = [1.0, 1.3, 1.6, 2.0, 2.5, 3.2, 4.0, 6.0, 10.0];

/// The bend before anything was measured. With the disturbance free too, that of one to eight streams on an H200 is 1.15 for
/// MobileNetV2 and 3.2 for BERT-base at batch 1, 2.5, 4 and 1.8 for ResNet-50 at 1, 8 and 32, and 1 for BERT-base at 16
/// (docs/data/limit-2026-11-29-reserve.json); 2.5 is closest to the exact solution (mean value analysis) for kernels of
/// which half fill the device and half leave it idle.
const USUAL_BEND: f64 = 2.0;

/// How far the logarithm of the bend may be from the usual one: a factor of 1.8.
const BEND_SPREAD: f64 = 0.6;

/// Steps in which the place of the fill between its two estimates is tried.
const PLACES: usize = 10;

/// Where the fill lies between the lower and the upper estimate before anything was measured, on a logarithmic
/// scale. The upper one counts SMs, and few kernels share an SM; the lower one supposes that a small batch could use
/// the device as well as a large one.
const USUAL_PLACE: f64 = 0.7;

/// How far it may be from there.
const PLACE_SPREAD: f64 = 0.35;

/// Disturbances that are tried.
const DISTURBANCES: [f64; 8] = [0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.95, 1.2];

/// The disturbance before anything was measured, and how far it may be from there. ResNet-50 at batch 1 on an H100
/// has 0.64.
const USUAL_DISTURBANCE: f64 = 0.5;
const DISTURBANCE_SPREAD: f64 = 0.3;

/// Settings that are kept, the most probable ones: the others together hardly count.
const MOST_SETTINGS: usize = 64;

/// A fill below this cannot be told from nothing.
const LEAST_FILL: f64 = 0.01;

/// How well the law describes a measured slow-down: 5 %.
const LAW_SPREAD: f64 = 0.05;

/// The law for executions of one batch size.
#[derive(Clone, Copy, Debug)]
struct Law {
    /// Part of the device that one execution fills while it computes, 0..1.
    fill: f64,
    /// Sharpness of the bend.
    bend: f64,
    /// What company costs even on an empty device, as a part of the time alone.
    disturbance: f64,
}

impl Law {
    /// How many times longer an execution takes when so many compute at once.
    fn slow_down(&self, concurrency: f64) -> f64 {
        if concurrency <= 1.0 {
            return 1.0;
        }
        let disturbed = 1.0 + self.disturbance * (1.0 - concurrency.recip());
        let shared = (concurrency.powf(self.bend) - 1.0) * self.fill.powf(self.bend);
        (disturbed.powf(self.bend) + shared).powf(self.bend.recip())
    }
}

/// How many times longer an execution takes, by the number of those that compute at once: one for none and for
/// one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Contention {
    /// As it most likely is.
    pub likely: Vec<f64>,
    /// As it is where contention is one standard deviation worse.
    pub pessimistic: Vec<f64>,
    /// Part of the device that one execution most likely fills.
    pub fill: f64,
}

/// Two estimates of how full one execution makes the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FillRange {
    /// What is certainly used: DRAM, tensor pipes, or the work that a larger batch proves to be possible.
    pub lower: f64,
    /// The share of SMs on which anything was resident.
    pub upper: f64,
}

/// What is known of contention for all batch sizes together: settings that agree with what was seen, with their
/// probabilities, which sum to one.
#[derive(Clone, Debug)]
pub(super) struct Calibration(Vec<(f64, Setting)>);

/// One way to turn the range of a fill into a law.
#[derive(Clone, Copy, Debug)]
struct Setting {
    /// Where the fill lies in its range, on a logarithmic scale: 0 at the lower end, 1 at the upper one.
    place: f64,
    bend: f64,
    disturbance: f64,
}

/// A slow-down that was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenSlowDown {
    /// What is known of the fill at its batch size.
    pub range: FillRange,
    /// Executions that computed at once, on average.
    pub concurrency: f64,
    /// Compute time over that of one alone.
    pub slow_down: f64,
}

impl Calibration {
    /// What agrees with these slow-downs and with what is usual: Bayes' rule on a grid of settings.
    pub fn to(seen: &[SeenSlowDown]) -> Self {
        let mut settings: Vec<(f64, Setting)> =
            grid().map(|setting| (setting.misfit(seen), setting)).collect();
        settings.sort_by(|a, b| a.0.total_cmp(&b.0));
        settings.truncate(MOST_SETTINGS);
        let least = settings.first().map_or(0.0, |(misfit, _)| *misfit);
        settings.iter_mut().for_each(|(misfit, _)| *misfit = (-0.5 * (*misfit - least)).exp());
        let sum: f64 = settings.iter().map(|(weight, _)| weight).sum();
        settings.iter_mut().for_each(|(weight, _)| *weight /= sum);
        Self(settings)
    }

    /// What that means for executions with this range of fills, up to so many at once.
    pub fn contention(&self, range: FillRange, most: usize) -> Contention {
        let laws: Vec<(f64, Law)> =
            self.0.iter().map(|(weight, setting)| (*weight, setting.law(range))).collect();
        let (likely, pessimistic) = (0..=most).map(|count| slow_down(&laws, count)).unzip();
        let fill = laws.iter().map(|(weight, law)| weight * law.fill.ln()).sum::<f64>().exp();
        Contention { likely, pessimistic, fill }
    }
}

/// The likely and the pessimistic slow-down, from the mean and the standard deviation of its logarithm.
fn slow_down(laws: &[(f64, Law)], count: usize) -> (f64, f64) {
    let (mut mean, mut square) = (0.0, 0.0);
    for (weight, law) in laws {
        let value = law.slow_down(count as f64).ln();
        mean += weight * value;
        square += weight * value * value;
    }
    let deviation = (square - mean * mean).max(0.0).sqrt();
    (mean.exp(), (mean + deviation).exp())
}

fn grid() -> impl Iterator<Item = Setting> {
    (0..=PLACES).flat_map(|step| {
        let place = step as f64 / PLACES as f64;
        BENDS
            .into_iter()
            .flat_map(move |bend| DISTURBANCES.map(|disturbance| Setting { place, bend, disturbance }))
    })
}

impl Setting {
    fn law(&self, range: FillRange) -> Law {
        let (lower, upper) = (range.lower.max(LEAST_FILL), range.upper.max(LEAST_FILL));
        let fill = lower.powf(1.0 - self.place) * upper.powf(self.place);
        Law { fill: fill.clamp(0.0, 1.0), bend: self.bend, disturbance: self.disturbance }
    }

    /// Minus twice the logarithm of its probability, but for a constant.
    fn misfit(&self, seen: &[SeenSlowDown]) -> f64 {
        let prior = ((self.place - USUAL_PLACE) / PLACE_SPREAD).powi(2)
            + ((self.bend / USUAL_BEND).ln() / BEND_SPREAD).powi(2)
            + ((self.disturbance - USUAL_DISTURBANCE) / DISTURBANCE_SPREAD).powi(2);
        let of_one = |seen: &SeenSlowDown| {
            let predicted = self.law(seen.range).slow_down(seen.concurrency);
            ((seen.slow_down / predicted).ln() / LAW_SPREAD).powi(2)
        };
        prior + seen.iter().map(of_one).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: FillRange = FillRange { lower: 0.2, upper: 0.8 };

    fn law(fill: f64, bend: f64) -> Law {
        Law { fill, bend, disturbance: 0.0 }
    }

    #[test]
    fn one_is_never_slowed_down_and_many_share_the_device() {
        let law_of_a_quarter = law(0.25, 3.0);
        assert_eq!(law_of_a_quarter.slow_down(1.0), 1.0);
        let many = law_of_a_quarter.slow_down(64.0);
        assert!((many / 16.0 - 1.0).abs() < 1e-3, "{many}");
        assert!((law(1.0, 2.0).slow_down(3.0) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn executions_that_fit_side_by_side_do_not_slow_each_other_down() {
        let four = law(0.125, 10.0).slow_down(4.0);
        assert!(four < 1.001, "{four}");
    }

    #[test]
    fn company_on_an_empty_device_costs_at_most_the_disturbance() {
        let disturbed = Law { fill: 0.0, bend: 2.0, disturbance: 0.6 };
        assert!((disturbed.slow_down(2.0) - 1.3).abs() < 1e-12);
        assert!(disturbed.slow_down(1000.0) < 1.6);
    }

    #[test]
    fn what_was_seen_moves_the_law_and_makes_it_more_certain() {
        let truth = law(0.28, 4.0);
        let seen = [2.0, 4.0, 8.0].map(|concurrency| SeenSlowDown {
            range: RANGE,
            concurrency,
            slow_down: truth.slow_down(concurrency),
        });
        let (before, after) =
            (Calibration::to(&[]).contention(RANGE, 16), Calibration::to(&seen).contention(RANGE, 16));
        let error = after.likely[16] / truth.slow_down(16.0) - 1.0;
        assert!(error.abs() < 0.1, "{after:?}");
        let spread = |contention: &Contention| contention.pessimistic[16] / contention.likely[16];
        assert!(spread(&after) < spread(&before), "{} {}", spread(&after), spread(&before));
        assert!((after.fill / truth.fill - 1.0).abs() < 0.1, "{}", after.fill);
    }
}
