//! The performance promises of `SPECIFICATION.md`, measured on this machine.
//!
//! Ratios are taken in one run, interleaved with the byte pump. What was not measured is `null` and says why; nothing here
//! is compared with a figure of another machine.

mod measured;

use crate::folder::ResultFolder;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use serde::Serialize;
use std::collections::BTreeMap;

/// One promise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Stays for ever.
    pub id: &'static str,
    /// Its number in `SPECIFICATION.md`; empty for those that a later part of it will have.
    pub promise: &'static str,
    /// What is measured.
    pub figure: &'static str,
    /// At most this.
    pub target: f64,
    /// Better: at most this.
    pub stretch: Option<f64>,
    /// Of all three figures.
    pub unit: &'static str,
    /// Why it is `null` here, if it always is.
    pub unmeasured: &'static str,
}

const fn at_most(
    id: &'static str,
    promise: &'static str,
    figure: &'static str,
    target: f64,
    stretch: f64,
    unit: &'static str,
) -> Target {
    Target { id, promise, figure, target, stretch: Some(stretch), unit, unmeasured: "" }
}

const fn not_here(mut target: Target, why: &'static str) -> Target {
    target.unmeasured = why;
    target
}

/// All of them.
pub const TARGETS: &[Target] = &[
    at_most("T-hop-4k-50", "P-100", "hub hop by BDAT, CPU per message / pump, 50 connections, 4 KiB", 1.5, 1.2, "×"),
    at_most("T-hop-4k-256", "P-100", "hub hop by BDAT, CPU per message / pump, 256 connections, 4 KiB", 1.5, 1.2, "×"),
    at_most(
        "T-hop-100k-50",
        "P-101",
        "hub hop by BDAT, CPU per message / pump, 50 connections, 100 KiB",
        1.3,
        1.15,
        "×",
    ),
    at_most(
        "T-hop-data-4k-50",
        "P-102",
        "hub hop by DATA, CPU per message / pump, 50 connections, 4 KiB",
        1.6,
        1.25,
        "×",
    ),
    at_most("T-shards-2", "P-103", "CPU per message, two shards / one", 1.10, 1.03, "×"),
    at_most("T-copies-4k", "P-104", "user-space copies of content, in and out, to a tenth, 4 KiB", 1.0, 1.0, "copies"),
    at_most(
        "T-copies-100k",
        "P-104",
        "user-space copies of content, in and out, to a tenth, 100 KiB",
        1.0,
        0.4,
        "copies",
    ),
    at_most("T-alloc-4k", "P-105", "allocations per message, 4 KiB", 1.0, 0.2, "per message"),
    at_most("T-syscalls-50", "P-106", "system calls per message, 50 connections, 4 KiB", 0.5, 0.3, "per message"),
    at_most("T-syscalls-256", "P-106", "system calls per message, 256 connections, 4 KiB", 0.15, 0.06, "per message"),
    at_most("T-ack-p99", "P-107", "acknowledgement p99 at half load / the disk's own sync p99", 3.0, 1.5, "×"),
    at_most("T-mem-idle", "P-108", "memory of an idle connection", 4096.0, 1024.0, "octets"),
    at_most("T-mem-queued", "P-109", "memory of a queued message whose content is on disk", 100.0, 72.0, "octets"),
    at_most(
        "T-outage-next-hop",
        "P-110",
        "outage when one of two next hops is killed at half load, worst",
        200.0,
        50.0,
        "ms",
    ),
    at_most("T-lost-next-hop", "P-110", "messages lost then", 0.0, 0.0, "messages"),
    at_most(
        "T-outage-hub",
        "P-111",
        "outage when a hub behind a front end is killed at half load, worst",
        200.0,
        50.0,
        "ms",
    ),
    at_most("T-lost-hub", "P-111", "messages lost then", 0.0, 0.0, "messages"),
    not_here(
        at_most("T-load-cpu", "P-112", "load generator, CPU per message / smtp-source", 0.25, 0.125, "×"),
        "needs smtp-source beside it",
    ),
    not_here(
        at_most("T-sink-cpu", "P-112", "sink, CPU per message / smtp-sink", 0.25, 0.125, "×"),
        "needs smtp-sink beside it",
    ),
    not_here(
        at_most("T-hop-tls-100k", "", "hub hop over TLS 1.3 / clear hop and cipher, 100 KiB", 1.3, 1.1, "×"),
        "no TLS yet",
    ),
    not_here(
        at_most("T-tracking", "", "tracking log on / off, CPU per message", 1.02, 1.02, "×"),
        "no tracking log yet",
    ),
];

/// A target with what was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// As [`Target`]'s.
    pub id: &'static str,
    /// As [`Target`]'s.
    pub promise: &'static str,
    /// As [`Target`]'s.
    pub figure: &'static str,
    /// As [`Target`]'s.
    pub target: f64,
    /// As [`Target`]'s.
    pub stretch: Option<f64>,
    /// What was found; `None` when it was not measured.
    pub measured: Option<f64>,
    /// Of all three.
    pub unit: &'static str,
    /// Whether `measured` is within `target`.
    pub holds: Option<bool>,
    /// How it was measured, or why not.
    pub note: String,
}

/// One measured figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The figure.
    pub value: f64,
    /// How sure, from how many runs.
    pub note: String,
    /// The measurement was not valid: the figure is shown, and holds nothing.
    pub invalid: bool,
}

/// What was found, by id; an `Err` says why not.
pub type Findings = BTreeMap<&'static str, Result<Found, String>>;

/// Joins targets and findings.
///
/// A build for debugging (`is_debug`) shows its figures, and they hold nothing.
pub fn rows(only: &str, findings: &Findings, is_debug: bool) -> Vec<Row> {
    let row = |target: &Target| {
        let (measured, holds, note) = match findings.get(target.id) {
            Some(Ok(found)) if found.invalid => (Some(found.value), None, found.note.clone()),
            Some(Ok(found)) if is_debug => (Some(found.value), None, crate::DEBUG_BUILD.to_owned()),
            Some(Ok(found)) => (Some(found.value), Some(found.value <= target.target), found.note.clone()),
            Some(Err(why)) => (None, None, why.clone()),
            None if target.unmeasured.is_empty() => (None, None, "not measured in this run".to_owned()),
            None => (None, None, target.unmeasured.to_owned()),
        };
        let Target { id, promise, figure, target, stretch, unit, .. } = *target;
        Row { id, promise, figure, target, stretch, measured, unit, holds, note }
    };
    TARGETS.iter().filter(|target| target.id.contains(only)).map(row).collect()
}

/// How they are measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Interleaved pairs for a ratio.
    pub pairs: usize,
    /// Measured time of each run.
    pub seconds: f64,
    /// Faults of each kind.
    pub faults: usize,
    /// Also what takes long: memory, two shards.
    pub everything: bool,
}

impl Effort {
    /// A minute in all.
    pub const QUICK: Self = Self { pairs: 2, seconds: 1.5, faults: 1, everything: false };
    /// Half an hour.
    pub const FULL: Self = Self { pairs: 10, seconds: 5.0, faults: 9, everything: true };
}

/// Measures what `only` names (a part of ids; empty for all).
pub fn measure(
    only: &str,
    effort: &Effort,
    folder: &ResultFolder,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Vec<Row> {
    let mut bench = measured::Bench::new(effort, folder, interrupt, progress);
    let findings = bench.findings(|id| id.contains(only));
    progress.end();
    rows(only, &findings, cfg!(debug_assertions))
}

/// The rows as a table for a terminal.
pub fn table(rows: &[Row]) -> String {
    let figure = |value: Option<f64>, unit: &str| {
        value.map_or_else(|| "–".to_owned(), |value| format!("{} {unit}", crate::html::text::significant(value)))
    };
    let mut out = format!("{:<18} {:>16} {:>16} {:>16}  {}\n", "id", "target", "stretch", "measured", "holds");
    for row in rows {
        let holds = match row.holds {
            Some(true) if row.stretch.zip(row.measured).is_some_and(|(stretch, found)| found <= stretch) => {
                "yes, stretch"
            }
            Some(true) => "yes",
            Some(false) => "NO",
            None => "–",
        };
        let target = format!("≤ {}", figure(Some(row.target), row.unit));
        let stretch = row.stretch.map_or_else(String::new, |stretch| format!("≤ {}", figure(Some(stretch), row.unit)));
        out.push_str(&format!(
            "{:<18} {target:>16} {stretch:>16} {:>16}  {holds:<13} {}\n{:18} {}\n",
            row.id,
            figure(row.measured, row.unit),
            row.note,
            "",
            row.figure
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_stretch_is_harder() {
        let mut ids: Vec<&str> = TARGETS.iter().map(|target| target.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), TARGETS.len());
        assert!(TARGETS.iter().all(|target| target.stretch.is_none_or(|stretch| stretch <= target.target)));
        for id in ["T-hop-4k-50", "T-hop-4k-256", "T-hop-100k-50", "T-outage-hub"] {
            assert!(ids.contains(&id), "{id} stays");
        }
    }

    #[test]
    fn p_052_what_was_not_measured_is_null_and_says_why() {
        let found = |value| Ok(Found { value, note: "of 2".into(), invalid: false });
        let findings: Findings = [
            ("T-hop-4k-50", found(1.4)),
            ("T-hop-4k-256", found(1.6)),
            ("T-hop-100k-50", Err("the pump did not start".to_owned())),
            ("T-ack-p99", Ok(Found { value: 1.0, note: "late".into(), invalid: true })),
        ]
        .into();
        let rows = rows("", &findings, false);
        let of = |id: &str| rows.iter().find(|row| row.id == id).map(|row| (row.measured, row.holds));
        assert_eq!(of("T-hop-4k-50"), Some((Some(1.4), Some(true))));
        assert_eq!(of("T-hop-4k-256"), Some((Some(1.6), Some(false))));
        assert_eq!(of("T-hop-100k-50"), Some((None, None)));
        assert_eq!(of("T-ack-p99"), Some((Some(1.0), None)), "an invalid figure holds nothing");
        assert_eq!(of("T-hop-tls-100k"), Some((None, None)));
        let json = serde_json::to_value(&rows).expect("plain data");
        for key in ["id", "figure", "target", "stretch", "measured", "unit", "holds"] {
            assert!(json[2].get(key).is_some(), "{key}");
        }
        assert!(json[2]["measured"].is_null() && json[2]["holds"].is_null());
        assert!(table(&rows).contains("NO"));
        assert_eq!(super::rows("outage", &findings, false).len(), 2);
        let debug = super::rows("T-hop-4k-50", &findings, true);
        assert_eq!((debug[0].measured, debug[0].holds), (Some(1.4), None));
    }
}
