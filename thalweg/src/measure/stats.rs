//! Summaries of raw records: percentiles, means and ratios with their confidence intervals.
//!
//! Pure functions over slices of numbers; the same input and seed give the same result. What to cut into
//! blocks and which records to use is the caller's decision.

use hdrhistogram::Histogram;

use super::distribution::{normal_cdf, t_quantile};
use super::{Estimate, LatencySummary};
use crate::random::Random;
use crate::units::Nanos;

/// Confidence of every [`Estimate`].
pub const CONFIDENCE: f64 = 0.95;

/// Records from which on a p99 is given. With fewer than 299, the largest record is below the true p99
/// with more than 5 % probability (0.99^299 < 0.05), so no upper bound exists.
pub const RECORDS_FOR_P99: usize = 300;

/// Records from which on a p99.9 is given; the same argument with 0.999.
pub const RECORDS_FOR_P999: usize = 3_000;

/// Resamples of a bootstrap. Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), ask for
/// 1,000 to 2,000 for percentile intervals.
const RESAMPLES: usize = 2_000;

/// The smallest record that at least a fraction `p` of all records (0..=1) does not exceed: nearest rank,
/// so always a latency that occurred.
///
/// # Panics
/// Where `sorted` is empty.
pub fn percentile(sorted: &[Nanos], p: f64) -> Nanos {
    sorted[rank(sorted.len(), p)]
}

/// Index of the nearest rank: `ceil(p x n) - 1`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rank lies between 1 and n, both usize"
)]
fn rank(n: usize, p: f64) -> usize {
    /// A product such as 0.07 x 100 = 7.000000000000001 must not count as above 7.
    const ROUNDING: f64 = 1e-9;
    let rank = (p * n as f64 - ROUNDING).ceil().clamp(1.0, n as f64);
    rank as usize - 1
}

impl LatencySummary {
    /// Summary of raw latencies, which it sorts; `None` where there are none.
    pub fn of(latencies: &mut [Nanos]) -> Option<Self> {
        latencies.sort_unstable();
        let max = *latencies.last()?;
        let n = latencies.len();
        let sum: u128 = latencies.iter().map(|latency| u128::from(latency.0)).sum();
        // A mean is never above the maximum, so the fallback is never taken.
        let mean = u64::try_from(sum / n as u128).unwrap_or(max.0);
        let at = |p| percentile(latencies, p);
        Some(Self {
            n,
            mean: Nanos(mean),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: (n >= RECORDS_FOR_P99).then(|| at(0.99)),
            p999: (n >= RECORDS_FOR_P999).then(|| at(0.999)),
            max,
        })
    }

    /// Summary of latencies in nanoseconds that were put into a histogram, with its resolution; `None`
    /// where it is empty.
    pub fn of_histogram(latencies: &Histogram<u64>) -> Option<Self> {
        let n = usize::try_from(latencies.len()).ok().filter(|n| *n > 0)?;
        let at = |p| Nanos(latencies.value_at_quantile(p));
        Some(Self {
            n,
            mean: Nanos::from_seconds(latencies.mean() / 1e9),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: (n >= RECORDS_FOR_P99).then(|| at(0.99)),
            p999: (n >= RECORDS_FOR_P999).then(|| at(0.999)),
            max: Nanos(latencies.max()),
        })
    }
}

/// The mean of a series with its interval, by resampling whole blocks of it.
///
/// Each number is the mean of one block of consecutive records of equal length, long enough that
/// neighbouring blocks hardly depend on each other (Künsch, Annals of Statistics 17, 1989). The interval
/// is the *expanded* percentile interval (Hesterberg, "What Teachers Should Know About the Bootstrap",
/// The American Statistician 69, 2015): a plain percentile interval is too narrow for few blocks.
///
/// `None` for fewer than two blocks.
pub fn block_bootstrap_mean(blocks: &[f64], seed: u64) -> Option<Estimate> {
    let n = blocks.len();
    if n < 2 {
        return None;
    }
    let mut random = Random::new(seed);
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| resampled_mean(blocks, &mut random)).collect();
    means.sort_unstable_by(f64::total_cmp);
    let tail = expanded_tail(n);
    let value = mean(blocks);
    Some(Estimate {
        value,
        lower: means[rank(RESAMPLES, tail)].min(value),
        upper: means[rank(RESAMPLES, 1.0 - tail)].max(value),
    })
}

/// How much probability to cut off at each end, so that `n` blocks give an interval as wide as t would.
fn expanded_tail(n: usize) -> f64 {
    let n = n as f64;
    let t = t_quantile((1.0 + CONFIDENCE) / 2.0, n - 1.0);
    normal_cdf(-(n / (n - 1.0)).sqrt() * t)
}

fn resampled_mean(blocks: &[f64], random: &mut Random) -> f64 {
    let sum: f64 = (0..blocks.len()).map(|_| blocks[random.below(blocks.len())]).sum();
    sum / blocks.len() as f64
}

/// Arithmetic mean; NaN for no values.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard deviation of a sample (divisor n - 1); `None` for fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// The mean with its interval from Student's t; `None` for fewer than two values.
pub fn t_mean(values: &[f64]) -> Option<Estimate> {
    let n = values.len() as f64;
    let error = standard_deviation(values)? / n.sqrt();
    let half_width = t_quantile((1.0 + CONFIDENCE) / 2.0, n - 1.0) * error;
    let value = mean(values);
    Some(Estimate { value, lower: value - half_width, upper: value + half_width })
}

/// Mean ratio of pairs that were measured side by side, `numerator / denominator`, with its interval.
///
/// Geometric mean and Student's t on the logarithms: what slows both halves of a pair by the same factor
/// cancels, and swapping the halves gives the inverse. `None` for fewer than two pairs or numbers that are
/// not positive.
pub fn paired_ratio(pairs: &[(f64, f64)]) -> Option<Estimate> {
    t_mean(&log_ratios(pairs)?).map(ratio_of_logs)
}

/// As [`paired_ratio`], but by ranks, so that a few pairs of which one half was disturbed do not decide.
///
/// The estimate of Hodges and Lehmann, which is the median of all means of two, with the interval of Wilcoxon's signed
/// ranks (Hollander, Wolfe and Chicken, "Nonparametric Statistical Methods", 2014, sections 3.2 and 3.3). `None` for fewer
/// than six pairs, which have no such interval of 95 %.
pub fn paired_ratio_by_ranks(pairs: &[(f64, f64)]) -> Option<Estimate> {
    let logs = log_ratios(pairs)?;
    let outside = signed_ranks_outside(logs.len())?;
    let with_later = |(index, one): (usize, &f64)| -> Vec<f64> {
        logs[index..].iter().map(|other| one.midpoint(*other)).collect()
    };
    let mut means: Vec<f64> = logs.iter().enumerate().flat_map(with_later).collect();
    means.sort_unstable_by(f64::total_cmp);
    let (last, middle) = (means.len() - 1, means.len() / 2);
    let value = means[middle].midpoint(means[last - middle]);
    Some(ratio_of_logs(Estimate { value, lower: means[outside], upper: means[last - outside] }))
}

/// How many of the means of two, from either end, lie outside of the interval for so many values; `None` where none can.
fn signed_ranks_outside(count: usize) -> Option<usize> {
    let mut ways = vec![1.0]; // to have each sum of ranks
    for rank in 1..=count {
        let sums = ways.len() + rank;
        let without = |sum: usize| ways.get(sum).copied().unwrap_or(0.0);
        ways = (0..sums).map(|sum| without(sum) + sum.checked_sub(rank).map_or(0.0, without)).collect();
    }
    let all: f64 = ways.iter().sum();
    let mut below = 0.0;
    let sums_in_tail = ways.iter().take_while(|ways| {
        below += **ways / all;
        below <= (1.0 - CONFIDENCE) / 2.0
    });
    sums_in_tail.count().checked_sub(1)
}

/// Logarithms of the ratios; `None` where a number is not positive.
fn log_ratios(pairs: &[(f64, f64)]) -> Option<Vec<f64>> {
    let is_positive = |value: f64| value > 0.0 && value.is_finite();
    let log = |(numerator, denominator): &(f64, f64)| {
        (is_positive(*numerator) && is_positive(*denominator)).then(|| (numerator / denominator).ln())
    };
    pairs.iter().map(log).collect()
}

fn ratio_of_logs(Estimate { value, lower, upper }: Estimate) -> Estimate {
    Estimate { value: value.exp(), lower: lower.exp(), upper: upper.exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(values: impl IntoIterator<Item = u64>) -> Vec<Nanos> {
        values.into_iter().map(Nanos).collect()
    }

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-9 * expected.abs(), "{got} is not {expected}");
    }

    #[test]
    fn signed_ranks_have_the_critical_values_of_the_tables() {
        // Two-sided, 5 %: Hollander, Wolfe and Chicken, table A.4; none below six.
        let values = [(5, None), (6, Some(0)), (7, Some(2)), (8, Some(3)), (10, Some(8)), (15, Some(25))];
        values.iter().for_each(|(count, value)| assert_eq!(signed_ranks_outside(*count), *value, "{count}"));
    }

    #[test]
    fn by_ranks_one_disturbed_pair_of_seven_does_not_decide() {
        let pairs: Vec<_> = [1.0, 1.01, 0.52, 0.99, 1.02, 1.0, 0.98].map(|ratio| (ratio, 1.0)).into();
        let (by_ranks, mean) = (paired_ratio_by_ranks(&pairs).unwrap(), paired_ratio(&pairs).unwrap());
        assert!((by_ranks.value - 0.995).abs() < 0.01 && mean.value < 0.92, "{by_ranks:?} {mean:?}");
        assert!(
            by_ranks.lower < 0.8 && by_ranks.upper < 1.02 && by_ranks.lower < by_ranks.value,
            "{by_ranks:?}"
        );
        let swapped: Vec<_> = pairs.iter().map(|(one, other)| (*other, *one)).collect();
        close(paired_ratio_by_ranks(&swapped).unwrap().value, by_ranks.value.recip());
        assert_eq!(paired_ratio_by_ranks(&pairs[..5]), None);
        assert_eq!(paired_ratio_by_ranks(&[(0.0, 1.0); 7]), None);
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        // The example of Wikipedia's article "Percentile": nearest ranks of 15, 20, 35, 40, 50.
        let sorted = nanos([15, 20, 35, 40, 50]);
        assert_eq!([0.05, 0.3, 0.4, 0.5, 1.0].map(|p| percentile(&sorted, p).0), [15, 20, 20, 35, 50]);
        let hundred = nanos(1..=100);
        assert_eq!([0.07, 0.9, 0.99].map(|p| percentile(&hundred, p).0), [7, 90, 99]);
    }

    #[test]
    fn a_percentile_needs_the_records_that_support_it() {
        let summary = |n| LatencySummary::of(&mut nanos((1..=n).rev())).unwrap();
        assert_eq!(summary(299).p99, None);
        assert_eq!(summary(300).p99, Some(Nanos(297)));
        assert_eq!(summary(2_999).p999, None);
        assert_eq!(summary(3_000).p999, Some(Nanos(2_997)));
        assert_eq!(summary(3_000).mean, Nanos(1_500));
        assert_eq!(LatencySummary::of(&mut []), None);
    }

    #[test]
    fn a_histogram_gives_the_same_summary_within_its_resolution() {
        let mut latencies = nanos((1..=3_000).map(|i| 1_000_000 + i * 500));
        let mut histogram = Histogram::new(3).unwrap();
        for latency in &latencies {
            histogram.record(latency.0).unwrap();
        }
        let exact = LatencySummary::of(&mut latencies).unwrap();
        let coarse = LatencySummary::of_histogram(&histogram).unwrap();
        let pairs =
            [(exact.p50, coarse.p50), (exact.p99.unwrap(), coarse.p99.unwrap()), (exact.mean, coarse.mean)];
        for (exact, coarse) in pairs {
            assert!((coarse.0 as f64 / exact.0 as f64 - 1.0).abs() < 1e-3, "{exact} and {coarse}");
        }
        assert_eq!(coarse.n, 3_000);
    }

    #[test]
    fn the_bootstrap_covers_the_truth_as_often_as_it_says() {
        let mut random = Random::new(11);
        let covered = (0..400).filter(|seed| {
            // Sums of twelve uniform numbers: nearly normal, mean 6.
            let blocks: Vec<f64> = (0..10).map(|_| (0..12).map(|_| random.unit()).sum()).collect();
            let estimate = block_bootstrap_mean(&blocks, *seed).unwrap();
            estimate.lower <= 6.0 && 6.0 <= estimate.upper
        });
        // 95 % of 400 is 380, with a standard deviation of 4.4.
        let covered = covered.count();
        assert!((367..=393).contains(&covered), "{covered} of 400");
    }

    #[test]
    fn one_block_has_no_interval() {
        assert_eq!(block_bootstrap_mean(&[5.0], 0), None);
    }

    #[test]
    fn the_t_interval_agrees_with_scipy() {
        // scipy.stats.t.interval(0.95, 4, loc=mean, scale=sem) of these values.
        let estimate = t_mean(&[9.8, 10.2, 10.4, 9.9, 10.1]).unwrap();
        close(estimate.value, 10.08);
        close(estimate.lower, 9.783_556_783_493);
        close(estimate.upper, 10.376_443_216_507);
    }

    #[test]
    fn a_ratio_ignores_what_slows_both_halves_of_a_pair() {
        let estimate = paired_ratio(&[(2.0, 1.0), (20.2, 10.0), (0.198, 0.1)]).unwrap();
        assert!(estimate.lower < 2.0 && 2.0 < estimate.upper, "{estimate:?}");
        assert!(estimate.upper / estimate.lower < 1.06, "{estimate:?}");
        let inverse = paired_ratio(&[(1.0, 2.0), (10.0, 20.2), (0.1, 0.198)]).unwrap();
        close(inverse.value, 1.0 / estimate.value);
        assert_eq!(paired_ratio(&[(1.0, 0.0), (1.0, 1.0)]), None);
    }
}
