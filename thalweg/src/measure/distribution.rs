//! The distributions behind confidence intervals: Student's t, the normal, and the exact binomial.
//!
//! All of them come down to the regularised incomplete beta function, so there is one numerical routine
//! to trust. Sources: Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.5; Clopper and
//! Pearson, Biometrika 26 (1934).

use std::f64::consts::PI;

/// The value that Student's t with `freedom` degrees of freedom stays below with probability `p`.
///
/// # Panics
/// Where `p` is not inside 0..1 or `freedom` is not positive.
pub fn t_quantile(p: f64, freedom: f64) -> f64 {
    assert!(p > 0.0 && p < 1.0 && freedom > 0.0, "t quantile of {p} with {freedom} degrees of freedom");
    // P(|T| > t) = I_x(freedom / 2, 1 / 2) with x = freedom / (freedom + t^2); A&S 26.5.27.
    let tail = 2.0 * p.min(1.0 - p);
    let x = beta_quantile(tail, freedom / 2.0, 0.5);
    let t = (freedom * (1.0 - x) / x).sqrt();
    if p < 0.5 { -t } else { t }
}

/// The probability that a standard normal variable is at most `z`. Series of Marsaglia, "Evaluating the
/// Normal Distribution", Journal of Statistical Software 11 (2004); exact to 15 digits for |z| < 7.
pub fn normal_cdf(z: f64) -> f64 {
    /// Beyond this the result differs from 0 or 1 by less than 1e-15.
    const FAR: f64 = 8.0;
    if z.abs() > FAR {
        return if z > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum, mut odd) = (z, z, 1.0);
    while term.abs() > f64::EPSILON * sum.abs() {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    0.5 + sum * (-0.5 * z * z).exp() / (2.0 * PI).sqrt()
}

/// One-sided lower bound of a binomial probability after `count` successes in `n` trials: the true
/// probability is above it with this `confidence`. Exact (Clopper and Pearson), so never too bold.
///
/// # Panics
/// Where `count` is above `n`.
pub fn binomial_lower_bound(count: u64, n: u64, confidence: f64) -> f64 {
    assert!(count <= n, "{count} successes in {n} trials");
    if count == 0 {
        return 0.0;
    }
    beta_quantile(1.0 - confidence, count as f64, (n - count + 1) as f64)
}

/// As [`binomial_lower_bound`], from above: the true probability is below it with this `confidence`.
///
/// # Panics
/// Where `count` is above `n`.
pub fn binomial_upper_bound(count: u64, n: u64, confidence: f64) -> f64 {
    assert!(count <= n, "{count} successes in {n} trials");
    if count == n {
        return 1.0;
    }
    beta_quantile(confidence, (count + 1) as f64, (n - count) as f64)
}

/// The x at which the regularised incomplete beta function is `p`. Bisection: slow and safe, until no double
/// lies between the ends.
fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if incomplete_beta(middle, a, b) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// The regularised incomplete beta function `I_x(a, b)`.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let front = (a * x.ln() + b * (-x).ln_1p() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)).exp();
    // The fraction converges fast on this side of the mean; I_x(a, b) = 1 - I_{1-x}(b, a) gives the other.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(x, a, b) / a
    } else {
        1.0 - front * beta_fraction(1.0 - x, b, a) / b
    }
}

/// The continued fraction A&S 26.5.8, evaluated from the front (Lentz, Applied Optics 15, 1976).
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    /// Terms needed grow with the square root of the arguments: enough for millions of records.
    const MOST_TERMS: u32 = 10_000;
    /// Stands in for a denominator of zero.
    const TINY: f64 = 1e-300;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut numerator = 1.0;
    let mut denominator = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = denominator;
    for term in 1..MOST_TERMS {
        let m = f64::from(term);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = fraction;
        for coefficient in [even, odd] {
            denominator = 1.0 / away_from_zero(1.0 + coefficient * denominator);
            numerator = away_from_zero(1.0 + coefficient / numerator);
            fraction *= denominator * numerator;
        }
        if (fraction - before).abs() <= f64::EPSILON * fraction.abs() {
            break;
        }
    }
    fraction
}

/// Logarithm of the gamma function for positive arguments: Stirling's series (A&S 6.1.41) from 10 on,
/// smaller arguments shifted up there.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 10.0 {
        shift += x.ln();
        x += 1.0;
    }
    let y = 1.0 / (x * x);
    let series = (1.0 / 12.0 - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y * (1.0 / 1680.0 - y / 1188.0)))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1e-3), "{got} is not {expected}");
    }

    // Expected values: scipy.stats t.ppf, norm.cdf, beta.ppf.
    #[test]
    fn quantiles_of_t_agree_with_tables() {
        close(t_quantile(0.975, 1.0), 12.706_204_736_174_69);
        close(t_quantile(0.975, 9.0), 2.262_157_162_798_2);
        close(t_quantile(0.9995, 4.0), 8.610_301_581_379_52);
        close(t_quantile(0.025, 30.0), -2.042_272_456_301_24);
    }

    #[test]
    fn the_normal_agrees_with_tables() {
        close(normal_cdf(0.0), 0.5);
        close(normal_cdf(1.959_963_984_540_054), 0.975);
        close(normal_cdf(-3.0), 0.001_349_898_031_63);
    }

    #[test]
    fn a_percent_is_proven_by_299_records_without_an_excess() {
        assert!(binomial_upper_bound(0, 298, 0.95) > 0.01);
        assert!(binomial_upper_bound(0, 299, 0.95) <= 0.01);
    }

    #[test]
    fn binomial_bounds_agree_with_clopper_and_pearson() {
        close(binomial_lower_bound(10, 500, 0.95), 0.010_889_901_301_8);
        close(binomial_upper_bound(10, 500, 0.95), 0.033_688_272_331_14);
        close(binomial_upper_bound(20_000, 2_000_000, 0.95), 0.010_116_501_393_44);
        close(binomial_lower_bound(0, 5, 0.95), 0.0);
        close(binomial_upper_bound(5, 5, 0.95), 1.0);
    }
}
