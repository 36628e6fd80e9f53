//! Random numbers that are the same for the same seed on every machine.
//!
//! For shuffles, resampling and arrival times. Not for secrets.

/// A seeded random generator: xoshiro256++ (Blackman and Vigna, "Scrambled Linear Pseudorandom Number
/// Generators", 2021), its state filled by SplitMix64 as its authors advise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The generator of this seed. Every seed is a good one, 0 included.
    pub fn new(seed: u64) -> Self {
        let mut counter = seed;
        Self { state: std::array::from_fn(|_| split_mix(&mut counter)) }
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Uniform in `0.0..1.0`, with all 53 bits that a fraction has.
    pub fn unit(&mut self) -> f64 {
        const ONE_IN_2_POW_53: f64 = 1.0 / (1u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 * ONE_IN_2_POW_53
    }

    /// Uniform in `0..n`: the high half of a 128-bit product. Its bias is below `n / 2^64`.
    ///
    /// # Panics
    /// Where `n` is 0.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the product's high half is below n, which is a usize"
    )]
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "nothing is below 0");
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Exponentially distributed with this mean: the gaps of a Poisson process.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        // 1 - unit() is in (0, 1], so the logarithm is finite.
        -mean * (1.0 - self.unit()).ln()
    }

    /// Puts the items in random order, each order equally likely (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}

/// Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
fn split_mix(counter: &mut u64) -> u64 {
    *counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *counter;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First outputs of SplitMix64 for seed 0, as published with java.util.SplittableRandom.
    #[test]
    fn the_seed_is_spread_as_published() {
        let mut counter = 0;
        assert_eq!(split_mix(&mut counter), 0xe220_a839_7b1d_cdaf);
        assert_eq!(split_mix(&mut counter), 0x6e78_9e6a_a1b9_65f4);
    }

    /// Computed by hand from the published recurrence for the state 1, 2, 3, 4.
    #[test]
    fn the_sequence_is_xoshiro256_plus_plus() {
        let mut random = Random { state: [1, 2, 3, 4] };
        let first: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223]);
    }

    #[test]
    fn every_value_below_n_is_equally_likely() {
        let mut random = Random::new(7);
        let mut counts = [0_i32; 5];
        for _ in 0..10_000 {
            counts[random.below(5)] += 1;
        }
        // Six standard deviations of a binomial count: sqrt(10,000 x 0.2 x 0.8) = 40.
        assert!(counts.iter().all(|count| (count - 2_000).abs() < 240), "{counts:?}");
    }

    #[test]
    fn exponential_gaps_have_their_mean() {
        let mut random = Random::new(3);
        let sum: f64 = (0..20_000).map(|_| random.exponential(2.5)).sum();
        assert!((sum / 20_000.0 - 2.5).abs() < 0.1, "mean {}", sum / 20_000.0);
    }

    #[test]
    fn a_shuffle_keeps_every_item_and_depends_on_the_seed_only() {
        let shuffled = |seed| {
            let mut items: Vec<usize> = (0..50).collect();
            Random::new(seed).shuffle(&mut items);
            items
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut sorted = shuffled(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }
}
