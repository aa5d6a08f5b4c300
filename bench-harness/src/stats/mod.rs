//! Statistics over runs: what several measurements of the same thing allow to be said (perf/METHODOLOGY.md,
//! "Comparing"). Pure and seeded: the same values give the same verdict.
//!
//! The unit is a run, not a message. Pairs are compared by the logarithm of their ratio, so that twice as fast and twice
//! as slow weigh the same.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 10_000;
/// With so few pairs all 2^n sign patterns are counted; with more they are drawn.
const EXACT_PAIRS_MAX: usize = 16;
/// Patterns drawn where they are too many to count.
const DRAWN_PATTERNS: usize = 20_000;
/// Fewer pairs than this give no verdict.
pub const PAIRS_MIN: usize = 8;

/// The smallest element with at least `p` percent of all at or below it (nearest rank). `sorted` ascends; `p` is in 0..=100.
/// `None` for an empty slice.
pub fn percentile<T: Copy>(sorted: &[T], p: f64) -> Option<T> {
    let rank = (p / 100.0 * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

/// The median of `values` (mean of the two in the middle); `None` without any.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some((sorted[low] + sorted[high]) / 2.0)
}

/// Fewer values than this have no interval.
pub const INTERVAL_MIN: usize = 5;

/// The 95 % bootstrap interval of the [`median`] of `values`; `None` below [`INTERVAL_MIN`] of them.
pub fn median_interval(values: &[f64], seed: u64) -> Option<(f64, f64)> {
    if values.len() < INTERVAL_MIN {
        return None;
    }
    let middle = |values: &[f64]| median(values).expect("there are some");
    Some(bootstrap(values, &mut Pcg64Mcg::new(u128::from(seed) | 1), middle))
}

/// What is known about the ratio b/a of paired runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Geometric mean of the ratios.
    pub ratio: f64,
    /// Lower end of its 95 % bootstrap interval over pairs.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Two-sided p of the paired permutation test: how often chance alone shows a mean at least this far from 1.
    pub p: f64,
    /// The smallest ratio above 1 that so many pairs, so noisy, show with 80 % power at 5 %. `None` below two pairs.
    pub detectable: Option<f64>,
}

/// The verdict on b against a where less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// b needs less.
    Better,
    /// b needs more.
    Worse,
    /// No difference that these pairs could show.
    NoneDetectable,
}

impl Ratio {
    /// Compares the pairs `(a, b)`, all positive. `None` without pairs or with values that have no logarithm.
    pub fn of(pairs: &[(f64, f64)], seed: u64) -> Option<Self> {
        let logs: Vec<f64> = pairs.iter().map(|(a, b)| (b / a).ln()).collect();
        if logs.is_empty() || logs.iter().any(|l| !l.is_finite()) {
            return None;
        }
        let mut random = Pcg64Mcg::new(u128::from(seed) | 1);
        let (low, high) = bootstrap(&logs, &mut random, mean);
        Some(Self {
            ratio: mean(&logs).exp(),
            low: low.exp(),
            high: high.exp(),
            p: sign_permutation_p(&logs, &mut random),
            detectable: smallest_detectable(&logs).map(f64::exp),
        })
    }

    /// The verdict where less is better: at least [`PAIRS_MIN`] pairs, p below 5 %, and an interval that leaves out 1.
    pub fn verdict(&self, pairs: usize) -> Verdict {
        match () {
            () if pairs < PAIRS_MIN || self.p >= 0.05 => Verdict::NoneDetectable,
            () if self.high < 1.0 => Verdict::Better,
            () if self.low > 1.0 => Verdict::Worse,
            () => Verdict::NoneDetectable,
        }
    }
}

/// 95 % percentile-bootstrap interval of a statistic.
fn bootstrap(values: &[f64], random: &mut Pcg64Mcg, statistic: impl Fn(&[f64]) -> f64) -> (f64, f64) {
    let mut drawn = vec![0.0; values.len()];
    let mut found: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            drawn.fill_with(|| values[random.random_range(0..values.len())]);
            statistic(&drawn)
        })
        .collect();
    found.sort_unstable_by(f64::total_cmp);
    let at = |p| percentile(&found, p).expect("resamples are not empty");
    (at(2.5), at(97.5))
}

/// Two-sided p of the mean under all (or many drawn) changes of sign: exact up to [`EXACT_PAIRS_MAX`] pairs.
fn sign_permutation_p(logs: &[f64], random: &mut Pcg64Mcg) -> f64 {
    let seen = logs.iter().sum::<f64>().abs() * (1.0 - 1e-12);
    let extreme = |pattern: u64, chunk: &[f64]| -> f64 {
        chunk.iter().enumerate().map(|(i, l)| if pattern >> (i % 64) & 1 == 1 { -l } else { *l }).sum()
    };
    if logs.len() <= EXACT_PAIRS_MAX {
        let all = 1u64 << logs.len();
        let hits = (0..all).filter(|pattern| extreme(*pattern, logs).abs() >= seen).count();
        return hits as f64 / all as f64;
    }
    let drawn =
        |random: &mut Pcg64Mcg| -> f64 { logs.chunks(64).map(|c| extreme(random.random(), c)).sum::<f64>().abs() };
    let hits = (0..DRAWN_PATTERNS).filter(|_| drawn(random) >= seen).count();
    (hits + 1) as f64 / (DRAWN_PATTERNS + 1) as f64 // the pattern that was seen is one of all
}

/// Difference of means that n values with this spread show with 80 % power in a two-sided test at 5 %.
fn smallest_detectable(values: &[f64]) -> Option<f64> {
    let n = values.len();
    if n < 2 {
        return None;
    }
    let centre = mean(values);
    let variance = values.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / (n - 1) as f64;
    let freedom = (n - 1) as f64;
    let quantiles = student_t(Z_975, freedom) + student_t(Z_80, freedom);
    Some(quantiles * (variance / n as f64).sqrt())
}

/// Student's t quantile from the normal quantile `z` (Abramowitz and Stegun 26.7.5; within 1 % from 4 degrees of freedom).
fn student_t(z: f64, freedom: f64) -> f64 {
    let g1 = (z.powi(3) + z) / 4.0;
    let g2 = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let g3 = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + g1 / freedom + g2 / freedom.powi(2) + g3 / freedom.powi(3)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Normal quantiles.
const Z_975: f64 = 1.959_963_985;
const Z_80: f64 = 0.841_621_234;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let values = [15, 20, 35, 40, 50];
        for (p, expected) in [(5.0, 15), (30.0, 20), (40.0, 20), (50.0, 35), (99.0, 50), (100.0, 50), (0.0, 15)] {
            assert_eq!(percentile(&values, p), Some(expected), "p{p}");
        }
        assert_eq!(percentile::<u64>(&[], 50.0), None);
    }

    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn t_quantiles_match_the_tables() {
        // 97.5 % and 80 % of Student's t, from published tables.
        for (freedom, upper, power) in [(7.0, 2.3646, 0.8960), (9.0, 2.2622, 0.8834), (19.0, 2.0930, 0.8610)] {
            assert!((student_t(Z_975, freedom) - upper).abs() < 0.005, "{freedom}");
            assert!((student_t(Z_80, freedom) - power).abs() < 0.002, "{freedom}");
        }
    }

    #[test]
    fn the_permutation_p_is_exact_for_few_pairs() {
        // All of n pairs on one side: only the pattern seen and its mirror image are as extreme, 2 / 2^n.
        let mut random = Pcg64Mcg::new(1);
        assert_eq!(sign_permutation_p(&[0.1, 0.2, 0.3, 0.4, 0.5], &mut random), 2.0 / 32.0);
        assert_eq!(sign_permutation_p(&[0.1; 8], &mut random), 2.0 / 256.0);
        // Darwin's Zea mays, 15 pairs, differences in eighths of an inch: Fisher's exact randomisation p is 0.05267.
        let darwin = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48].map(f64::from);
        assert!((sign_permutation_p(&darwin, &mut random) - 0.05267).abs() < 0.0001);
    }

    #[test]
    fn drawn_permutations_agree_with_counted_ones() {
        let logs: Vec<f64> = (0..16).map(|i| f64::from(i % 5) - 1.3).collect();
        let exact = sign_permutation_p(&logs, &mut Pcg64Mcg::new(1));
        let doubled: Vec<f64> = logs.iter().copied().chain([0.0]).collect(); // a pair without difference changes nothing
        let drawn = sign_permutation_p(&doubled, &mut Pcg64Mcg::new(7));
        assert!((exact - drawn).abs() < 0.02, "{exact} {drawn}");
    }

    #[test]
    fn a_bootstrap_interval_matches_the_normal_one() {
        // 100 values with mean 0 and standard deviation 1 (as a sample): the mean's 95 % interval is about ±0.195.
        let values: Vec<f64> = (0..100).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let (low, high) = bootstrap(&values, &mut Pcg64Mcg::new(3), mean);
        assert!((low + 0.195).abs() < 0.03 && (high - 0.195).abs() < 0.03, "{low} {high}");
    }

    #[test]
    fn the_interval_of_a_median_holds_it_however_skewed() {
        // Their geometric mean is 1.9, and its interval lies above the median.
        let skewed = [1.0, 1.01, 1.02, 1.03, 1.04, 9.0, 9.1, 1.0, 1.02];
        let (low, high) = median_interval(&skewed, 1).expect("nine");
        assert!(low <= 1.02 && 1.02 <= high, "{low} {high}");
        let few = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(median_interval(&few, 1), None);
        // All of five equal: drawn again they are the same.
        assert_eq!(median_interval(&[2.0; 5], 1), Some((2.0, 2.0)));
    }

    #[test]
    fn a_ten_percent_loss_is_seen_and_noise_is_not() {
        let noise = [1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0];
        let worse: Vec<(f64, f64)> = noise.iter().map(|n| (10.0, 11.0 * n)).collect();
        let ratio = Ratio::of(&worse, 1).expect("positive values");
        assert!((ratio.ratio - 1.1).abs() < 0.001 && ratio.low > 1.08 && ratio.high < 1.12);
        assert_eq!(ratio.verdict(worse.len()), Verdict::Worse);
        let same: Vec<(f64, f64)> = noise.iter().map(|n| (10.0, 10.0 * n)).collect();
        assert_eq!(Ratio::of(&same, 1).expect("positive values").verdict(same.len()), Verdict::NoneDetectable);
        let better: Vec<(f64, f64)> = worse.iter().map(|(a, b)| (*b, *a)).collect();
        assert_eq!(Ratio::of(&better, 1).expect("positive values").verdict(better.len()), Verdict::Better);
        assert_eq!(ratio.verdict(PAIRS_MIN - 1), Verdict::NoneDetectable, "too few pairs for any verdict");
    }

    #[test]
    fn the_detectable_difference_shrinks_with_pairs() {
        let pairs = |n: usize| (0..n).map(|i| (1.0, if i % 2 == 0 { 1.05 } else { 0.95 })).collect::<Vec<_>>();
        let eight = Ratio::of(&pairs(8), 1).and_then(|r| r.detectable).expect("eight pairs");
        let many = Ratio::of(&pairs(32), 1).and_then(|r| r.detectable).expect("many pairs");
        // By hand: s = 0.0535 of the logs, (2.365 + 0.896) * s / sqrt 8 = 0.0617.
        assert!((eight.ln() - 0.0617).abs() < 0.001, "{}", eight.ln());
        assert!(many < eight);
    }

    #[test]
    fn what_has_no_logarithm_has_no_ratio() {
        assert_eq!(Ratio::of(&[], 1), None);
        assert_eq!(Ratio::of(&[(0.0, 1.0)], 1), None);
        assert_eq!(Ratio::of(&[(1.0, f64::NAN)], 1), None);
    }

    proptest! {
        #[test]
        fn a_percentile_is_an_element_with_its_share_at_or_below(mut values in prop::collection::vec(0u32..1000, 1..200), p in 0.0f64..=100.0) {
            values.sort_unstable();
            let found = percentile(&values, p).expect("not empty");
            let below = values.iter().filter(|v| **v <= found).count() as f64;
            let under = values.iter().filter(|v| **v < found).count() as f64;
            prop_assert!(below + 1e-9 >= p / 100.0 * values.len() as f64);
            prop_assert!(under < p / 100.0 * values.len() as f64 + 1e-9 || under == 0.0);
        }
    }
}
