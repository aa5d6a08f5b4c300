//! The figures as tables for `perf/README.md`.

use super::{Compared, Report, Row};
use crate::html::text::significant;
use crate::result::RunResult;
use loadgen::report::schema::Host;
use std::fmt::Write;

/// Connections and contents of the tables of hops.
pub(super) const CONNECTIONS: [u32; 4] = [1, 16, 50, 256];
const CONTENTS: [(&str, &str); 4] =
    [("4k", "BDAT, 4 KiB"), ("100k", "BDAT, 100 KiB"), ("data-4k", "DATA, 4 KiB"), ("data-100k", "DATA, 100 KiB")];

/// The whole measurement: on what, the promises, the hops by connections, what could not be measured.
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    let RunResult { driver, durability, profile, placement, started, host, .. } = &report.result;
    let (took_s, seed) = (report.took_s, report.result.seed.unwrap_or_default());
    let commit = report.result.commit.as_deref().unwrap_or("unknown");
    let git = report.result.git.as_deref().unwrap_or("unknown");
    let Host { cpu, cores, kernel, .. } = host;
    let _ = writeln!(
        out,
        "Host: {cpu}, {cores} cores, {kernel}; {placement}; durability `{durability}`, driver `{driver}`, commit \
         `{commit}`, profile `{profile}`; sources `{git}`; {started}, {took_s:.0} s; seed {seed}.\n"
    );
    promises(&mut out, &report.targets);
    hops(&mut out, &report.targets);
    super::grid::markdown(&mut out, &report.grid);
    out
}

fn promises(out: &mut String, rows: &[Row]) {
    let rows: Vec<&Row> =
        rows.iter().filter(|row| !row.promise.is_empty() && row.note != super::NOT_IN_THIS_RUN).collect();
    if !rows.is_empty() {
        out.push_str("| id | figure | measured | promise | how |\n|---|---|---|---|---|\n");
    }
    for row in rows {
        let measured = row.measured.map_or_else(|| "–".to_owned(), |value| with_interval(value, row));
        let target = row
            .target
            .map_or_else(String::new, |target| format!("{} {}", row.bound, in_unit(target.to_string(), row.unit)));
        let _ = writeln!(out, "| `{}` | {} | {measured} | {target} | {} |", row.id, row.figure, cell(&row.note));
    }
}

fn hops(out: &mut String, rows: &[Row]) {
    let of = |content: &str, connections: u32| {
        let id = format!("T-hop-{content}-{connections}");
        rows.iter().find(|row| row.id == id)?.compared
    };
    let is_measured = |content: &str| CONNECTIONS.iter().any(|&connections| of(content, connections).is_some());
    for (content, title) in CONTENTS.into_iter().filter(|(content, _)| is_measured(content)) {
        by_connections_head(out, title, ["hop", "pump"]);
        for connections in CONNECTIONS {
            if let Some(compared) = of(content, connections) {
                let ratio = rows.iter().find(|row| row.id == format!("T-hop-{content}-{connections}"));
                let ratio = ratio.and_then(|row| row.measured).unwrap_or(f64::NAN);
                by_connections(out, connections, ratio, compared);
            }
        }
    }
}

/// The head of a table with a line for each number of connections, and what its two sides are called.
pub(super) fn by_connections_head(out: &mut String, title: &str, [ours, theirs]: [&str; 2]) {
    let columns = format!("{ours} | {theirs} | ratio | 95 % | pairs | system calls | allocations | octets copied");
    let _ = writeln!(out, "\n| {title}, connections | {columns} |\n|---|---|---|---|---|---|---|---|---|");
}

/// One line of it.
pub(super) fn by_connections(out: &mut String, connections: u32, ratio: f64, compared: Compared) {
    let Compared { ours, theirs, low, high, pairs, counted } = compared;
    let _ = writeln!(
        out,
        "| {connections} | {} µs | {} µs | {ratio:.2} | {} | {pairs} | {} | {} | {} |",
        significant(ours),
        significant(theirs),
        interval(low, high).unwrap_or_else(|| "–".to_owned()),
        or_dash(counted.syscalls),
        or_dash(counted.allocations),
        or_dash(counted.copied_bytes)
    );
}

fn or_dash(counted: Option<f64>) -> String {
    counted.map_or_else(|| "–".to_owned(), significant)
}

fn with_interval(value: f64, row: &Row) -> String {
    match row.compared {
        Some(Compared { low, high, .. }) => {
            let interval = interval(low, high).map_or_else(String::new, |interval| format!(" ({interval})"));
            format!("{value:.2}{interval}")
        }
        None => in_unit(significant(value), row.unit),
    }
}

/// In words; `None` where there is none.
pub(super) fn interval(low: Option<f64>, high: Option<f64>) -> Option<String> {
    low.zip(high).map(|(low, high)| format!("{low:.2}–{high:.2}"))
}

fn in_unit(figure: String, unit: &str) -> String {
    let unit = unit.trim_start_matches('×');
    if unit.is_empty() { figure } else { format!("{figure} {unit}") }
}

/// One line, and no column of its own.
fn cell(note: &str) -> String {
    note.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::super::{Counted, Effort, Findings, Found, rows};
    use super::*;

    #[test]
    fn hops_stand_by_connections_and_what_was_not_measured_is_left_out() {
        let hop = |ours, theirs| {
            let counted = Counted { syscalls: Some(0.25), ..Counted::default() };
            let compared = Compared { ours, theirs, low: Some(1.4), high: Some(1.6), pairs: 9, counted };
            Ok(Found { value: ours / theirs, note: "a | b".into(), invalid: false, compared: Some(compared) })
        };
        let findings: Findings = [
            ("T-hop-4k-50", hop(9.0, 6.0)),
            ("T-hop-4k-1", hop(40.0, 20.0)),
            ("T-mem-idle", Ok(Found { value: 4096.0, note: "all".into(), invalid: false, compared: None })),
            ("T-ack-p99", Err("the disk does not\nanswer".into())),
        ]
        .into();
        let report = Report {
            result: RunResult { driver: "uring".into(), seed: Some(7), ..RunResult::default() },
            effort: Effort::FULL,
            debug_build: false,
            took_s: 1.0,
            targets: rows("", &findings, false),
            grid: Vec::new(),
            runs: Vec::new(),
            broken: Vec::new(),
        };
        let text = markdown(&report);
        assert!(text.contains("| `T-hop-4k-50` | "), "{text}");
        assert!(text.contains("| 1.50 (1.40–1.60) | ≤ 1.5 | a \\| b |"), "{text}");
        assert!(
            text.contains("| 1 | 40.0 µs | 20.0 µs | 2.00 | 1.40–1.60 | 9 | 0.250 | – | – |\n| 50 | 9.00 µs"),
            "{text}"
        );
        assert!(text.contains("| `T-ack-p99` |") && text.contains("| – | ≤ 3 | the disk does not answer |"), "{text}");
        assert!(!text.contains("100 KiB, connections") && !text.contains("T-shards-2"), "{text}");
    }
}
