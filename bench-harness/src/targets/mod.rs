//! The performance promises of `SPECIFICATION.md`, measured on this machine.
//!
//! Ratios are taken in one run, interleaved with the byte pump. What was not measured is `null` and says why; nothing here
//! is compared with a figure of another machine.

mod beside;
mod foreign;
mod grid;
mod hops;
mod list;
mod markdown;
mod measured;
mod memory;
mod pairs;
mod steps;
mod times;

pub use grid::{Cell, exit as grid_exit, is_row as is_grid_row, names as grid_names};
pub use list::{TARGETS, Target};
pub use markdown::markdown;
pub use measured::Asked;

use crate::exit::Exit;
use crate::folder::ResultFolder;
use crate::interrupt::Interrupt;
use crate::observe::host;
use crate::process::ComponentError;
use crate::process::placement::Placement;
use crate::progress::Progress;
use crate::result::RunResult;
use crate::topology::PROFILE;
use loadgen::validity::Validity;
use measured::{Bench, Measured};
use serde::Serialize;
use std::collections::BTreeMap;

/// The note of a row that nobody asked for, or that `--quick` leaves out.
const NOT_IN_THIS_RUN: &str = "not measured in this run";

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
    pub target: Option<f64>,
    /// As [`Target`]'s.
    pub stretch: Option<f64>,
    /// Whether `measured` is within that.
    #[serde(skip)]
    pub is_stretch: bool,
    /// What was found; `None` when it was not measured.
    pub measured: Option<f64>,
    /// `<` or `≤`: how `measured` has to stand to both.
    pub bound: &'static str,
    /// Of all three.
    pub unit: &'static str,
    /// Whether `measured` is within `target`.
    pub holds: Option<bool>,
    /// What stands behind a ratio.
    pub compared: Option<Compared>,
    /// How it was measured, or why not.
    pub note: String,
    /// What measures it again.
    pub command: String,
    /// How it ended.
    #[serde(skip)]
    pub end: End,
}

/// Both sides of a ratio, each in the unit that its note names.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Compared {
    /// Median over the pairs.
    pub ours: f64,
    /// The same of what it is compared with.
    pub theirs: f64,
    /// 95 % bootstrap interval of the median of the ratios; `None` where there are too few pairs for one.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// How many.
    pub pairs: usize,
    /// What our side counted of itself in its last run.
    pub counted: Counted,
}

/// What an engine counts of itself, per message; `None` where it does not.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Counted {
    /// System calls, without those of memory and of waiting.
    pub syscalls: Option<f64>,
    /// Allocations.
    pub allocations: Option<f64>,
    /// Octets copied in user space.
    pub copied_bytes: Option<f64>,
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
    /// What stands behind a ratio.
    pub compared: Option<Compared>,
}

/// Why a figure is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmeasured {
    /// In words.
    pub why: String,
    /// How its row ends.
    pub end: End,
}

impl From<&str> for Unmeasured {
    /// For a reason that is no component's.
    fn from(why: &str) -> Self {
        Self { why: why.to_owned(), end: End::Unmeasured }
    }
}

impl From<&anyhow::Error> for Unmeasured {
    fn from(error: &anyhow::Error) -> Self {
        let end = match () {
            () if error.chain().any(|cause| cause.is::<NotHere>()) => End::NotTried,
            () if error.chain().any(|cause| cause.is::<ComponentError>()) => End::ComponentFailed,
            () => End::Unmeasured,
        };
        Self { why: format!("{error:#}"), end }
    }
}

/// What this machine does not have, or nobody gave it for this run: a figure that needs it is no part of the run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotHere(pub String);

/// What was found, by id; an `Err` says why not.
pub type Findings = BTreeMap<&'static str, Result<Found, Unmeasured>>;

/// How a figure ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It may be quoted.
    Measured,
    /// It was measured, and not validly.
    Invalid,
    /// It was asked for, and could not be measured.
    Unmeasured,
    /// The same, because a component failed to start or died.
    ComponentFailed,
    /// This run, this machine or this program does not measure it.
    NotTried,
}

impl End {
    /// It was tried, and there is no figure that may be quoted.
    fn is_bad(self) -> bool {
        matches!(self, Self::Invalid | Self::Unmeasured | Self::ComponentFailed)
    }
}

/// Joins targets and findings.
///
/// A build for debugging (`is_debug`) shows its figures, and they hold nothing.
pub fn rows(only: &str, findings: &Findings, is_debug: bool) -> Vec<Row> {
    let row = |target: &Target| {
        let (measured, holds, note, end) = match findings.get(target.id) {
            Some(Ok(found)) if found.invalid => (Some(found.value), None, found.note.clone(), End::Invalid),
            Some(Ok(found)) if is_debug => (Some(found.value), None, crate::DEBUG_BUILD.to_owned(), End::Invalid),
            Some(Ok(found)) => {
                let holds = target.target.map(|bound| target.is_within(found.value, bound));
                (Some(found.value), holds, found.note.clone(), End::Measured)
            }
            Some(Err(not)) => (None, None, not.why.clone(), not.end),
            None if target.unmeasured.is_empty() => (None, None, NOT_IN_THIS_RUN.to_owned(), End::NotTried),
            None => (None, None, target.unmeasured.to_owned(), End::NotTried),
        };
        let bound = target.sign();
        let is_stretch = target.stretch.zip(measured).is_some_and(|(stretch, found)| target.is_within(found, stretch));
        let Target { id, promise, figure, target, stretch, unit, .. } = *target;
        let command = format!("ringbench targets --only {id}");
        let compared = findings.get(id).and_then(|found| found.as_ref().ok()?.compared);
        Row {
            id,
            promise,
            figure,
            target,
            stretch,
            is_stretch,
            measured,
            bound,
            unit,
            holds,
            compared,
            note,
            command,
            end,
        }
    };
    TARGETS.iter().filter(|target| is_wanted(only, target.id)).map(row).collect()
}

/// How a run that told `rows` ends: a promise that is broken comes before everything, a component that failed before a figure
/// that is missing. What nobody tried is missed by nobody, unless nothing else was asked for. Promises about mail itself are
/// broken by any run (`broken`), whatever it was for.
pub fn exit(rows: &[Row], broken: &[String]) -> Exit {
    let any = |ends: &[End]| rows.iter().any(|row| ends.contains(&row.end));
    match () {
        () if !broken.is_empty() || rows.iter().any(|row| row.holds == Some(false)) => Exit::Failed,
        () if any(&[End::ComponentFailed]) => Exit::Component,
        () if any(&[End::Invalid, End::Unmeasured]) || !any(&[End::Measured]) => Exit::Invalid,
        () => Exit::Good,
    }
}

/// One line that names the figures that are not there, or not valid; `None` when there are none.
pub fn missing(rows: &[Row]) -> Option<String> {
    let was_tried = rows.iter().any(|row| row.end != End::NotTried);
    let is_missing = |row: &&Row| match row.end {
        End::Measured => false,
        End::Invalid | End::Unmeasured | End::ComponentFailed => true,
        End::NotTried => !was_tried,
    };
    let ids: Vec<&str> = rows.iter().filter(is_missing).map(|row| row.id).collect();
    (!ids.is_empty()).then(|| format!("not measured, or not validly (each row says why): {}", ids.join(", ")))
}

/// Whether `--only` names `id`: in full, or, where it is no id, a part of it.
pub fn is_wanted(only: &str, id: &str) -> bool {
    id == only || (id.contains(only) && !TARGETS.iter().any(|target| target.id == only))
}

/// How they are measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Effort {
    /// Interleaved pairs for a ratio.
    pub pairs: usize,
    /// The same for a ratio that nothing is promised of.
    pub pairs_beside: usize,
    /// Measured time of each run.
    pub seconds: f64,
    /// Faults of each kind.
    pub faults: usize,
    /// Runs at half load, each with the disk alone before and behind it.
    pub latency_runs: usize,
    /// Measured time of each.
    pub latency_s: f64,
    /// How long the disk alone is measured.
    pub sync_s: f64,
    /// Nothing is begun that would not be done within so many seconds, as far as those before it tell.
    pub seconds_max: Option<f64>,
    /// Also what takes long: memory of queued mail, two shards, foreign tools, the figures that are only shown.
    pub everything: bool,
}

impl Effort {
    /// Some fifteen minutes for a grid: few pairs for each of many cells.
    pub const GRID: Self = Self { pairs: 3, latency_runs: 3, ..Self::FULL };
    /// A look at each cell.
    pub const GRID_QUICK: Self = Self { pairs: 1, everything: true, seconds_max: None, ..Self::QUICK };
    /// A minute in all.
    pub const QUICK: Self = Self {
        pairs: 2,
        pairs_beside: 1,
        seconds: 1.0,
        faults: 1,
        latency_runs: 1,
        latency_s: 3.0,
        sync_s: 0.4,
        seconds_max: Some(60.0),
        everything: false,
    };
    /// Some twenty minutes.
    pub const FULL: Self = Self {
        pairs: 9,
        pairs_beside: 5,
        seconds: 1.5,
        faults: 9,
        latency_runs: 5,
        latency_s: 4.0,
        sync_s: 1.0,
        seconds_max: None,
        everything: true,
    };
}

/// All that a measurement tells.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What every result has: on what, how, and whether every row that was tried is valid.
    #[serde(flatten)]
    pub result: RunResult,
    /// How it was measured.
    pub effort: Effort,
    /// Whether optimisation was off: then nothing holds.
    pub debug_build: bool,
    /// How long it took.
    pub took_s: f64,
    /// The figures.
    pub targets: Vec<Row>,
    /// The same rows by connections and size, where those were asked for instead.
    pub grid: Vec<Cell>,
    /// Every single run behind them.
    pub runs: Vec<serde_json::Value>,
    /// What runs did to mail that no measurement excuses: lost, altered or doubled it.
    pub broken: Vec<String>,
}

impl Report {
    /// As `result.json` has it, with the keys of its schema. There is no main phase whose messages could be counted: each run has
    /// its own.
    ///
    /// # Errors
    /// Never: it is plain data.
    pub fn document(&self) -> serde_json::Result<serde_json::Value> {
        let mut document = serde_json::to_value(self)?;
        for key in ["pairs", "messages"] {
            document[key] = serde_json::Value::Null;
        }
        Ok(document)
    }
}

/// Measures what was asked for.
pub fn measure(asked: &Asked<'_>, folder: &ResultFolder, interrupt: &Interrupt, progress: &Progress) -> Report {
    let (started, began) = (jiff::Timestamp::now(), std::time::Instant::now());
    let host = host::here(folder.scratch());
    let bench = Bench::new(asked, folder, interrupt, progress);
    let found = if asked.grid { bench.measure_grid() } else { bench.measure() };
    progress.end();
    let of_list = || rows(asked.only, &found.findings, cfg!(debug_assertions));
    let targets = if asked.grid { Vec::new() } else { of_list() };
    let Measured { runs, driver, commit, broken, failover, grid, .. } = found;
    let mut result = RunResult {
        scenario: "targets".into(),
        profile: PROFILE.into(),
        durability: "disk".into(),
        driver,
        commit,
        failover,
        placement: Placement::here(1).describe(),
        seed: Some(asked.seed),
        ..RunResult::begun(started, host)
    };
    result.main.validity =
        if asked.grid { grid::validity(&grid, interrupt.asked()) } else { validity(&targets, interrupt.asked()) };
    Report {
        result,
        effort: asked.effort,
        debug_build: cfg!(debug_assertions),
        took_s: began.elapsed().as_secs_f64(),
        targets,
        grid,
        runs,
        broken,
    }
}

/// Valid when every row that was tried is.
fn validity(rows: &[Row], was_interrupted: bool) -> Validity {
    let of_rows = rows.iter().filter(|row| row.end.is_bad()).map(|row| format!("{}: {}", row.id, row.note));
    let nothing = rows.iter().all(|row| row.end == End::NotTried).then(|| "nothing was measured".to_owned());
    let interrupted = was_interrupted.then(|| "the run was interrupted".to_owned());
    Validity::from_reasons(interrupted.into_iter().chain(nothing).chain(of_rows).collect())
}

/// The rows as a table for a terminal.
pub fn table(rows: &[Row]) -> String {
    let figure =
        |value: f64, unit: &str| format!("{} {unit}", crate::html::text::significant(value)).trim_end().to_owned();
    let bound = |value: Option<f64>, row: &Row| {
        value.map_or_else(String::new, |value| format!("{} {}", row.bound, figure(value, row.unit)))
    };
    let mut out =
        format!("{:<22} {:>16} {:>14} {:>14}  {:<13} {}\n", "id", "measured", "target", "stretch", "holds", "promise");
    let (shown, left): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.note != NOT_IN_THIS_RUN);
    for row in shown {
        let holds = match row.holds {
            Some(true) if row.is_stretch => "yes, stretch",
            Some(true) => "yes",
            Some(false) => "NO",
            None => "–",
        };
        out.push_str(&format!(
            "{:<22} {:>16} {:>14} {:>14}  {holds:<13} {}\n    {}\n    {}\n    $ {}\n",
            row.id,
            row.measured.map_or_else(|| "–".to_owned(), |value| figure(value, row.unit)),
            bound(row.target, row),
            bound(row.stretch, row),
            row.promise,
            row.figure,
            row.note,
            row.command,
        ));
    }
    if !left.is_empty() {
        let ids: Vec<&str> = left.iter().map(|row| row.id).collect();
        out.push_str(&format!("{NOT_IN_THIS_RUN}: {}\n", ids.join(", ")));
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
        assert!(TARGETS.iter().all(|target| target.stretch <= target.target), "nothing is promised without a target");
        for id in ["T-hop-4k-50", "T-hop-4k-256", "T-hop-100k-50", "T-outage-hub"] {
            assert!(ids.contains(&id), "{id} stays");
        }
    }

    #[test]
    fn p_052_what_could_not_be_measured_is_no_good_end() {
        const ID: &str = "T-hop-4k-50";
        let found = |value, invalid| Ok(Found { value, note: String::new(), invalid, compared: None });
        let failed = || Err(Unmeasured { why: "hub ended".into(), end: End::ComponentFailed });
        let ends_as = |only: &str, findings: &[(&'static str, Result<Found, Unmeasured>)], is_debug| {
            let rows = rows(only, &findings.iter().cloned().collect(), is_debug);
            (exit(&rows, &[]).code(), missing(&rows))
        };
        let named = |id: &str| Some(format!("not measured, or not validly (each row says why): {id}"));
        assert_eq!(ends_as("", &[(ID, found(1.4, false))], false), (0, None), "what nobody tried is missed by nobody");
        assert_eq!(ends_as("", &[(ID, found(1.6, false))], false), (1, None));
        assert_eq!(ends_as("", &[(ID, found(1.6, true))], false), (3, named(ID)), "an invalid figure breaks nothing");
        assert_eq!(
            ends_as("", &[(ID, found(1.4, false))], true),
            (3, named(ID)),
            "a build for debugging holds nothing"
        );
        assert_eq!(ends_as("", &[(ID, Err("no smtp-source".into()))], false), (3, named(ID)));
        assert_eq!(ends_as("", &[(ID, failed())], false), (4, named(ID)));
        let other = ("T-hop-4k-256", found(9.0, false));
        assert_eq!(
            ends_as("", &[(ID, failed()), other.clone()], false),
            (1, named(ID)),
            "a broken promise comes first"
        );
        let shown = ("T-hop-4k-16", found(9.0, false));
        assert_eq!(ends_as("", &[(ID, found(1.4, false)), shown], false), (0, None), "nothing is promised of it");
        assert_eq!(ends_as("T-hop-tls-100k", &[], false), (3, named("T-hop-tls-100k")), "nothing else was asked for");
        let rows = rows("", &[(ID, found(1.4, false))].into(), false);
        assert_eq!(exit(&rows, &["T-hop-4k-50: 1 lost".to_owned()]), Exit::Failed, "a fast hop that loses mail");
    }

    #[test]
    fn a_result_has_the_keys_of_its_schema() {
        let found = |invalid| Ok(Found { value: 1.4, note: "late".into(), invalid, compared: None });
        let document = |findings: Findings| {
            let targets = rows("", &findings, false);
            let mut result = RunResult { schema: crate::result::SCHEMA, ..RunResult::default() };
            result.main.validity = validity(&targets, false);
            let (effort, runs, broken) = (Effort::QUICK, Vec::new(), Vec::new());
            let report =
                Report { result, effort, debug_build: false, took_s: 1.0, targets, grid: Vec::new(), runs, broken };
            report.document().expect("plain data")
        };
        let good = document([("T-hop-4k-50", found(false))].into());
        for key in ["schema", "host", "phases", "failover", "limited_by", "rate", "driver", "targets", "runs"] {
            assert!(good.get(key).is_some(), "{key}");
        }
        assert_eq!(good["validity"]["valid"], true);
        assert!(good["pairs"].is_null() && good["rate"]["achieved_per_s"].is_null(), "not measured is null, not 0");
        let bad = document([("T-hop-4k-50", found(false)), ("T-ack-p99", found(true))].into());
        assert_eq!(bad["validity"]["reasons"], serde_json::json!(["T-ack-p99: late"]));
        assert_eq!(document(Findings::new())["validity"]["valid"], false);
    }

    #[test]
    fn what_a_machine_does_not_have_is_no_part_of_a_run() {
        let not = |error: anyhow::Error| Err(Unmeasured::from(&error));
        let few = || not(anyhow::Error::from(NotHere("needs four cores".into())).context("two shards"));
        let good = Ok(Found { value: 1.4, note: String::new(), invalid: false, compared: None });
        let without: Findings = [("T-hop-4k-50", good), ("T-shards-rate", few())].into();
        let told = rows("", &without, false);
        assert!(validity(&told, false).valid, "{:?}", validity(&told, false));
        assert_eq!((exit(&told, &[]), missing(&told)), (Exit::Good, None));
        assert!(table(&told).contains("two shards: needs four cores"), "it says why not");
        let alone = rows("T-shards-rate", &without, false);
        assert_eq!(
            (exit(&alone, &[]), validity(&alone, false).valid),
            (Exit::Invalid, false),
            "nothing else was asked for"
        );
        let failed: Findings = [("T-shards-rate", not(anyhow::anyhow!("no CPU time")))].into();
        assert!(!validity(&rows("", &failed, false), false).valid);
    }

    #[test]
    fn p_110_p_111_as_much_as_the_bound_is_not_below_it() {
        let told = |id: &'static str, value| {
            let found = Found { value, note: String::new(), invalid: false, compared: None };
            let rows = rows(id, &[(id, Ok(found))].into(), false);
            let row = rows.iter().find(|row| row.id == id).expect("there");
            (row.holds, row.is_stretch, table(&rows))
        };
        for (id, bound) in [("T-outage-hub", 200.0), ("T-outage-next-hop", 200.0), ("T-outage-hub-p50", 100.0)] {
            assert_eq!(told(id, bound).0, Some(false), "{id}");
            assert_eq!(told(id, bound - 10.0).0, Some(true), "{id}");
            assert!(told(id, bound).2.contains(&format!("< {bound:.0}")), "{}", told(id, bound).2);
        }
        assert_eq!((told("T-outage-hub", 50.0).1, told("T-outage-hub", 40.0).1), (false, true));
        assert_eq!(told("T-lost-hub", 0.0).0, Some(true), "none is at most none");
    }

    #[test]
    fn p_052_what_was_not_measured_is_null_and_says_why() {
        let found = |value| Ok(Found { value, note: "of 2".into(), invalid: false, compared: None });
        let findings: Findings = [
            ("T-hop-4k-50", found(1.4)),
            ("T-hop-4k-256", found(1.6)),
            ("T-hop-100k-50", Err("the pump did not start".into())),
            ("T-hop-4k-16", found(1.7)),
            ("T-ack-p99", Ok(Found { value: 1.0, note: "late".into(), invalid: true, compared: None })),
        ]
        .into();
        let rows = rows("", &findings, false);
        let of = |id: &str| rows.iter().find(|row| row.id == id).map(|row| (row.measured, row.holds));
        assert_eq!(of("T-hop-4k-50"), Some((Some(1.4), Some(true))));
        assert_eq!(of("T-hop-4k-256"), Some((Some(1.6), Some(false))));
        assert_eq!(of("T-hop-100k-50"), Some((None, None)));
        assert_eq!(of("T-ack-p99"), Some((Some(1.0), None)), "an invalid figure holds nothing");
        assert_eq!(of("T-hop-4k-16"), Some((Some(1.7), None)), "nothing is promised of it");
        assert_eq!(of("T-hop-tls-100k"), Some((None, None)));
        let json = serde_json::to_value(&rows).expect("plain data");
        let large =
            json.as_array().and_then(|rows| rows.iter().find(|row| row["id"] == "T-hop-100k-50")).expect("there");
        for key in ["id", "figure", "target", "stretch", "measured", "unit", "holds"] {
            assert!(large.get(key).is_some(), "{key}");
        }
        assert!(large["measured"].is_null() && large["holds"].is_null());
        assert!(table(&rows).contains("NO"));
        assert_eq!(super::rows("outage-hub", &findings, false).len(), 2);
        assert_eq!(super::rows("T-hop-4k-1", &findings, false).len(), 1, "not T-hop-4k-16");
        let debug = super::rows("T-hop-4k-50", &findings, true);
        assert_eq!((debug[0].measured, debug[0].holds), (Some(1.4), None));
    }
}
