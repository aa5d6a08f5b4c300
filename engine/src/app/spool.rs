//! `ringpost spool`: a spool that no server runs on, read as a start reads it.

use super::cli::SpoolFlags;
use super::data_dir::DataDir;
use super::{Exit, exit, print};
use crate::shell::hub::inspect;
use crate::spool::{Cause, Damage, Recovered, ScannedSegment};
use serde::Serialize;
use std::fmt::Write as _;

/// The result for machines.
#[derive(Serialize)]
struct Report {
    data_dir: String,
    good: bool,
    messages: usize,
    segments: Vec<Segment>,
    blank: Vec<String>,
    damage: Vec<Place>,
}

#[derive(Serialize)]
struct Segment {
    file: String,
    number: u64,
    state: &'static str,
    bytes: u64,
    used_bytes: u64,
    messages: usize,
}

#[derive(Serialize)]
struct Place {
    file: String,
    offset: u64,
    bytes: u64,
    cause: &'static str,
    record: Option<String>,
}

/// Says what is in a spool, and what is damaged. Its lock is held so long.
pub(super) fn check(flags: &SpoolFlags) -> Exit {
    let _lock = match DataDir::look(&flags.data_dir) {
        Ok(lock) => lock,
        Err(line) => return exit::fail(Exit::Usage, &line),
    };
    let left = match inspect(&flags.data_dir) {
        Ok(left) => left,
        Err(failure) => {
            return exit::fail(if failure.usage { Exit::Usage } else { Exit::Component }, &failure.text);
        }
    };
    let report = report(flags.data_dir.display().to_string(), &left.recovered);
    let text =
        if flags.json { serde_json::to_string_pretty(&report).unwrap_or_default() + "\n" } else { people(&report) };
    match print(text.as_bytes()) {
        Exit::Good if !report.good => Exit::Failed,
        exit => exit,
    }
}

fn report(data_dir: String, recovered: &Recovered) -> Report {
    Report {
        data_dir,
        good: recovered.damage.is_empty(),
        messages: recovered.live_count(),
        segments: recovered.segments().map(segment).collect(),
        blank: recovered.blank.iter().map(|file| format!("{:08x}.segment", file.0)).collect(),
        damage: recovered.damage.iter().map(place).collect(),
    }
}

fn segment(scanned: &ScannedSegment) -> Segment {
    Segment {
        file: format!("{:08x}.segment", scanned.file().0),
        number: scanned.head().number.get(),
        state: if scanned.is_closed() { "closed" } else { "open" },
        bytes: scanned.head().segment_bytes,
        used_bytes: scanned.batches_end(),
        messages: scanned.live_count(),
    }
}

fn place(damage: &Damage) -> Place {
    Place {
        file: format!("{:08x}.segment", damage.file.0),
        offset: damage.offset,
        bytes: damage.bytes,
        cause: match damage.cause {
            Cause::Torn => "torn",
            Cause::Rot => "rot",
        },
        record: damage.record.map(|id| id.to_string()),
    }
}

/// The result for people. Writing to a String cannot fail.
fn people(report: &Report) -> String {
    let mut out = String::new();
    let _never =
        writeln!(out, "{:<17} {:>8} {:<7} {:>12} {:>12} {:>9}", "FILE", "NUMBER", "STATE", "BYTES", "USED", "MESSAGES");
    for Segment { file, number, state, bytes, used_bytes, messages } in &report.segments {
        let _never = writeln!(out, "{file:<17} {number:>8} {state:<7} {bytes:>12} {used_bytes:>12} {messages:>9}");
    }
    for file in &report.blank {
        let _never = writeln!(out, "{file:<17} {:>8} blank", "");
    }
    for Place { file, offset, bytes, cause, record } in &report.damage {
        let record = record.as_ref().map_or(String::new(), |id| format!(", record {id}"));
        let _never = writeln!(out, "damage: {file}: {cause} at {offset}, {bytes} octets{record}");
    }
    let verdict = if report.good { "good" } else { "damaged; a start puts that aside and goes on with the rest" };
    let (messages, places) = (report.messages, report.damage.len());
    let _never = writeln!(out, "{}: {messages} messages, {places} damaged places: {verdict}", report.data_dir);
    out
}
