//! The parts of `result.json`, schema 1, that every tool of ours writes alike: one definition for `ringload` and
//! `ringbench`. What was not measured is `null`, never 0; reading is lenient.

use crate::record::histogram::Percentiles;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The schema written here.
pub const SCHEMA: u32 = 1;

/// A figure for each kind of process.
pub type PerProcess = BTreeMap<String, Option<f64>>;

/// The machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Host {
    /// Cores this process may use.
    pub cores: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// Kind of the file system that held the spools.
    pub fs: Option<String>,
    /// What a synced write of 4 KiB into an existing file takes there, microseconds.
    pub disk_sync_us: SyncTimes,
}

/// How long the disk takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct SyncTimes {
    /// Median.
    pub p50: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
}

impl Host {
    /// This machine, but for its disks.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: cpu_name(&read("/proc/cpuinfo")),
            ..Self::default()
        }
    }
}

fn cpu_name(cpuinfo: &str) -> String {
    let named = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    named.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// Messages per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Rate {
    /// Intended messages / schedule length.
    pub offered_per_s: Option<f64>,
    /// Acknowledged inside the schedule / schedule length.
    pub achieved_per_s: Option<f64>,
}

/// Counts of messages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Messages {
    /// In the schedule.
    pub intended: u64,
    /// Acknowledged with 250.
    pub accepted: u64,
}

/// The three times of a message (perf/METHODOLOGY.md, "Times of one message").
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Latency {
    /// Intended send time to 250.
    pub response: Quantiles,
    /// Actual start to 250.
    pub service: Quantiles,
    /// Intended send time to arrival at the sink.
    pub delivery: Quantiles,
}

/// Percentiles of a histogram, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Quantiles {
    /// Median.
    pub p50: Option<f64>,
    /// 90 %.
    pub p90: Option<f64>,
    /// 99 %.
    pub p99: Option<f64>,
    /// 99.9 %.
    pub p999: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
}

impl Quantiles {
    /// The five with their names.
    pub fn named(&self) -> [(&'static str, Option<f64>); 5] {
        [("p50", self.p50), ("p90", self.p90), ("p99", self.p99), ("p99.9", self.p999), ("max", self.max)]
    }
}

impl From<Option<Percentiles>> for Quantiles {
    fn from(times: Option<Percentiles>) -> Self {
        let of = |value: fn(&Percentiles) -> u64| times.as_ref().map(|times| value(times) as f64);
        Self { p50: of(|t| t.p50), p90: of(|t| t.p90), p99: of(|t| t.p99), p999: of(|t| t.p999), max: of(|t| t.max) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_a_name() {
        assert_eq!(cpu_name("processor\t: 0\nmodel name\t: AMD EPYC 7763\n"), "AMD EPYC 7763");
        assert_eq!(cpu_name(""), std::env::consts::ARCH);
        let here = Host::here();
        assert!(here.cores >= 1 && !here.kernel.is_empty());
    }

    #[test]
    fn p_052_times_that_were_not_measured_are_null_each() {
        assert_eq!(Quantiles::from(None), Quantiles::default());
        let json = serde_json::to_value(Latency::default()).expect("plain data");
        assert!(json["delivery"]["p999"].is_null());
        let five = Percentiles { p50: 1, p90: 2, p99: 3, p999: 4, max: 5 };
        let all: Vec<_> = Quantiles::from(Some(five)).named().into_iter().filter_map(|(_, value)| value).collect();
        assert_eq!(all, [1.0, 2.0, 3.0, 4.0, 5.0]);
    }
}
