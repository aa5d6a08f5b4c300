//! `result.json`, schema 1 (README.md, "Reading a result"): what a run found, for scripts and for the report.
//!
//! A figure that was not measured is `None`, printed as `null`, never 0. Reading is lenient (a key that is missing is not
//! measured), so that results of older versions stay readable.

use crate::failover::Summary;
use loadgen::correlate::Accounts;
pub use loadgen::report::schema::{Host, Latency, Messages, PerProcess, Quantiles, Rate, SCHEMA};
use loadgen::validity::Validity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct RunResult {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The program that wrote it.
    pub tool: String,
    /// Its version.
    pub version: String,
    /// The commit it was built from.
    pub git: Option<String>,
    /// When the run began, RFC 3339.
    pub started: String,
    /// Where.
    pub host: Host,
    /// What was run.
    pub scenario: String,
    /// Its parts.
    pub phases: Vec<Phase>,
    /// What a 250 meant.
    pub durability: String,
    /// The main phase's figures, at the top level as schema 1 has them.
    #[serde(flatten)]
    pub main: Figures,
    /// One entry per kind of fault.
    pub failover: Vec<Summary>,
    /// `uring`, `tokio-uring` or `epoll`; several when processes differ.
    pub driver: String,
    /// `direct` or `buffered`.
    pub commit: Option<String>,
    /// `exchange`, `rfc` or `bench`.
    pub profile: String,
    /// What chose the moments of faults, and everything else that is chosen.
    pub seed: Option<u64>,
    /// Every process of the run.
    pub processes: Vec<Process>,
    /// One line: which side had which cores.
    pub placement: String,
    /// One line: by whom a message goes, from the load to its end.
    pub way: String,
}

impl RunResult {
    /// One of this program on `host`, of which nothing is measured yet.
    pub fn begun(started: jiff::Timestamp, host: Host) -> Self {
        Self {
            schema: SCHEMA,
            tool: "ringbench".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            git: engine::app::GIT.map(str::to_owned),
            started: started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            host,
            ..Self::default()
        }
    }
}

/// One part of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Phase {
    /// `probe`, `latency`, `next-hop`, `hub`, …
    pub name: String,
    /// What it is for, in a few words for people.
    pub about: String,
    /// Whether latencies mean anything: a phase that drives the target to its limit has none worth reading.
    pub saturating: bool,
    /// Measured seconds.
    pub seconds: f64,
    /// Octets of a message; `None` for a corpus of many sizes.
    pub size_bytes: Option<u64>,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Its faults, if any struck in it.
    pub failover: Option<Summary>,
}

impl Phase {
    /// Of a run of several parts, which one it belongs to: `4 KiB`.
    pub fn part(&self) -> Option<&str> {
        self.name.split_once(PART_MARK).map(|(_, part)| part)
    }
}

/// Between a phase's name and that of its part.
pub const PART_MARK: &str = " · ";

/// The figures of a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Figures {
    /// Messages per second.
    pub rate: Rate,
    /// (Message, recipient) pairs.
    pub pairs: Accounts,
    /// Messages.
    pub messages: Messages,
    /// How messages ended that were not accepted, and how many: `451`, `550`, `no reply`, …
    pub not_accepted: BTreeMap<String, u64>,
    /// Microseconds.
    pub latency_us: Latency,
    /// Intended send time to the moment the generator turned to it, microseconds: how punctual it was.
    pub schedule_lag_us: Quantiles,
    /// Mean time of each step of a transaction, in its order; microseconds. They add up to the mean service time.
    pub step_us: Vec<(String, Option<f64>)>,
    /// User and system time of each kind of process for each acknowledged message.
    pub cpu_us_per_message: PerProcess,
    /// Counted by the I/O layer.
    pub syscalls_per_message: PerProcess,
    /// Octets of content copied in user space.
    pub copied_bytes_per_message: PerProcess,
    /// In a build that counts them.
    pub allocations_per_message: PerProcess,
    /// Writes that were durable when they ended; several messages share one.
    pub stable_writes_per_message: PerProcess,
    /// Octets written to files.
    pub written_bytes_per_message: PerProcess,
    /// Most memory resident at once.
    pub peak_rss_bytes: PerProcess,
    /// Whether the figures may be used.
    pub validity: Validity,
    /// What kept the rate down: `engine`, `generator`, `sink` or `disk`. Never `network`, which loopback does not have
    /// (perf/METHODOLOGY.md, "Valid or not").
    pub limited_by: Option<String>,
}

/// The verdict on a whole: valid when every part is; every reason once, said of the part it was found in.
pub fn judge_whole<'a>(parts: impl IntoIterator<Item = (&'a str, &'a Validity)>) -> Validity {
    let mut reasons: Vec<String> = Vec::new();
    for (name, part) in parts {
        for reason in &part.reasons {
            let said = format!("{name}: {reason}");
            if !reasons.contains(&said) {
                reasons.push(said);
            }
        }
        if !part.valid && part.reasons.is_empty() {
            reasons.push(format!("{name}: not measured"));
        }
    }
    Validity::from_reasons(reasons)
}

/// One process of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Process {
    /// `hub-1`.
    pub name: String,
    /// What its figures are summed under: `hub`, `frontend`, `mailbox`, `loadgen`, `sink`.
    pub kind: String,
    /// The cores it was kept on; empty for any.
    pub cores: Vec<usize>,
    /// Its command line.
    pub command: String,
    /// User and system time of it alone for each acknowledged message of the main phase; `None` for a process of a part
    /// that has no main phase.
    pub cpu_us_per_message: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_1_has_its_keys_at_the_top() {
        let result = RunResult { schema: SCHEMA, tool: "ringbench".into(), ..RunResult::default() };
        let json = serde_json::to_value(&result).expect("plain data");
        for key in [
            "schema",
            "tool",
            "version",
            "git",
            "started",
            "host",
            "scenario",
            "phases",
            "durability",
            "rate",
            "pairs",
            "messages",
            "latency_us",
            "cpu_us_per_message",
            "syscalls_per_message",
            "copied_bytes_per_message",
            "allocations_per_message",
            "peak_rss_bytes",
            "failover",
            "validity",
            "limited_by",
            "driver",
            "commit",
            "profile",
        ] {
            assert!(json.get(key).is_some(), "{key} is missing");
        }
        assert!(json["rate"]["offered_per_s"].is_null(), "not measured is null, not 0");
        assert!(json["latency_us"]["delivery"]["p999"].is_null());
        assert!(json["host"]["disk_sync_us"]["p99"].is_null());
    }

    #[test]
    fn a_result_reads_back_and_missing_keys_are_not_measured() {
        let mut result = RunResult { schema: SCHEMA, scenario: "hub-hop".into(), ..RunResult::default() };
        result.main.rate.offered_per_s = Some(500.0);
        result.main.cpu_us_per_message.insert("hub".into(), Some(12.5));
        result.phases.push(Phase { name: "latency".into(), ..Phase::default() });
        let text = serde_json::to_string(&result).expect("plain data");
        assert_eq!(serde_json::from_str::<RunResult>(&text).expect("our own text"), result);
        let sparse: RunResult =
            serde_json::from_str(r#"{"schema":1,"scenario":"x","unknown_key":3}"#).expect("lenient");
        assert_eq!((sparse.scenario.as_str(), sparse.main.rate.achieved_per_s), ("x", None));
    }

    #[test]
    fn a_run_is_as_valid_as_its_worst_part() {
        let good = Validity::from_reasons(vec![]);
        let bad = Validity::from_reasons(vec!["late".into()]);
        assert!(judge_whole([("a", &good), ("b", &good)]).valid);
        let whole = judge_whole([("a", &bad), ("b", &good), ("a", &bad), ("c", &Validity::default())]);
        assert_eq!((whole.valid, whole.reasons), (false, vec!["a: late".to_owned(), "c: not measured".to_owned()]));
    }
}
