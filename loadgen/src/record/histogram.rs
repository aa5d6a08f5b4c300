//! Histograms of times: 1 µs to 1 h with 3 significant digits (perf/METHODOLOGY.md). Nothing is clipped: what does not fit is
//! counted, and makes the run invalid.

use serde::Serialize;
use std::io;

/// The longest time a histogram holds, in microseconds: one hour.
pub const HISTOGRAM_US_MAX: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// Times in microseconds.
#[derive(Debug, Clone)]
pub struct Times {
    histogram: hdrhistogram::Histogram<u64>,
    overflowed: u64,
}

/// The percentiles that results show, in microseconds. Absent (`null`) when nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, Default)]
pub struct Percentiles {
    /// Half of all are at or below.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// All.
    pub max: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self::new()
    }
}

impl Times {
    /// Empty.
    pub fn new() -> Self {
        let histogram = hdrhistogram::Histogram::new_with_bounds(1, HISTOGRAM_US_MAX, SIGNIFICANT_DIGITS)
            .expect("constant bounds that the library takes");
        Self { histogram, overflowed: 0 }
    }

    /// One more time of `us` microseconds; below one counts as one.
    pub fn record(&mut self, us: u64) {
        if us > HISTOGRAM_US_MAX || self.histogram.record(us.max(1)).is_err() {
            self.overflowed += 1;
        }
    }

    /// Adds everything in `other`.
    pub fn merge(&mut self, other: &Times) {
        self.histogram.add(&other.histogram).expect("the same bounds everywhere");
        self.overflowed += other.overflowed;
    }

    /// Times recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Times above [`HISTOGRAM_US_MAX`].
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// The value that `quantile` (0 to 1) of all are at or below; `None` when empty.
    pub fn at(&self, quantile: f64) -> Option<u64> {
        (self.count() > 0).then(|| self.histogram.value_at_quantile(quantile))
    }

    /// The greatest; `None` when empty.
    pub fn max(&self) -> Option<u64> {
        (self.count() > 0).then(|| self.histogram.max())
    }

    /// How many are above `us`.
    pub fn count_above(&self, us: u64) -> u64 {
        self.histogram
            .iter_recorded()
            .filter(|step| step.value_iterated_to() > us)
            .map(|step| step.count_at_value())
            .sum()
    }

    /// What results show; `None` when empty.
    pub fn percentiles(&self) -> Option<Percentiles> {
        Some(Percentiles {
            p50: self.at(0.5)?,
            p90: self.at(0.9)?,
            p99: self.at(0.99)?,
            p999: self.at(0.999)?,
            max: self.max()?,
        })
    }

    /// Writes the percentile distribution as HdrHistogram tools print it (`.hgrm`), in microseconds.
    ///
    /// # Errors
    /// Those of `into`.
    pub fn write_hgrm(&self, into: &mut impl io::Write) -> io::Result<()> {
        writeln!(into, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
        let mut total = 0u64;
        for step in self.histogram.iter_quantiles(5) {
            total += step.count_since_last_iteration();
            let quantile = step.quantile_iterated_to();
            let (value, inverse) = (step.value_iterated_to(), 1.0 / (1.0 - quantile));
            if quantile < 1.0 {
                writeln!(into, "{value:>12.3} {quantile:>2.12} {total:>10} {inverse:>14.2}")?;
            } else {
                writeln!(into, "{value:>12.3} {quantile:>2.12} {total:>10}")?;
            }
        }
        let (mean, deviation) = (self.histogram.mean(), self.histogram.stdev());
        writeln!(into, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]")?;
        writeln!(into, "#[Max     = {:>12}, Total count    = {:>12}]", self.histogram.max(), self.count())?;
        let (buckets, sub_buckets) = (self.histogram.buckets(), self.histogram.distinct_values());
        writeln!(into, "#[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]")
    }

    pub(crate) fn inner(&self) -> &hdrhistogram::Histogram<u64> {
        &self.histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_not_clipped() {
        let mut times = Times::new();
        times.record(HISTOGRAM_US_MAX);
        times.record(HISTOGRAM_US_MAX + 1);
        times.record(u64::MAX);
        assert_eq!((times.count(), times.overflowed()), (1, 2));
    }

    #[test]
    fn percentiles_have_three_digits_and_merge_by_histogram() {
        let (mut one, mut other) = (Times::new(), Times::new());
        assert_eq!(one.percentiles(), None);
        (1..=500).for_each(|us| one.record(us));
        (501..=1000).for_each(|us| other.record(us));
        one.merge(&other);
        let shown = one.percentiles().expect("a thousand");
        assert_eq!(shown, Percentiles { p50: 500, p90: 900, p99: 990, p999: 999, max: 1000 });
        assert_eq!(one.count_above(990), 10);
        one.record(0);
        assert_eq!(one.at(0.0), Some(1));
    }

    #[test]
    fn the_distribution_ends_with_its_greatest_value() {
        let mut times = Times::new();
        (1..=100).for_each(|ms| times.record(ms * 1000));
        let mut text = Vec::new();
        times.write_hgrm(&mut text).expect("memory takes it");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("Total count    =          100"), "{text}");
        assert!(text.lines().any(|line| line.split_whitespace().nth(2) == Some("100")), "{text}");
    }
}
