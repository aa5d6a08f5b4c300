//! Rows of the list by connections and size: where a figure holds, and where it does not. Each cell in few pairs, by the
//! means of the row that it is a cell of; nothing is promised of any.

use super::foreign::Load;
use super::hops::{HOP, Hop, RELAY};
use super::markdown::{CONNECTIONS, by_connections, by_connections_head};
use super::measured::{Bench, Measured};
use super::{Compared, End, Found, Unmeasured};
use crate::exit::Exit;
use loadgen::validity::Validity;
use serde::Serialize;
use std::fmt::Write;

/// Sizes of a content, as people say them.
const SIZES: [(u64, &str); 2] = [(4096, "4 KiB"), (100 << 10, "100 KiB")];
/// What a cell is called among findings until it is taken from there.
const HERE: &str = "grid";

/// One row of the grid, and what its two sides are called.
struct Row {
    name: &'static str,
    title: &'static str,
    sides: [&'static str; 2],
}

const ROWS: [Row; 5] = [
    Row { name: "relay", title: "relay by BDAT in mode none, CPU per message", sides: ["relay", "pump"] },
    Row { name: "shards", title: "hop by BDAT, CPU per message", sides: ["two shards", "one shard"] },
    Row {
        name: "acknowledgement",
        title: "acknowledgement p99 at half load",
        sides: ["acknowledgement", "the disk's sync"],
    },
    Row { name: "generator", title: "generator by DATA, CPU per message", sides: ["ours", "smtp-source"] },
    Row { name: "sink", title: "sink by DATA, CPU per message", sides: ["ours", "smtp-sink"] },
];

/// One figure of the grid.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// `relay`, `shards`, `acknowledgement`, `generator`, `sink`.
    pub row: &'static str,
    /// Octets of a message.
    pub bytes: u64,
    /// Connections of the load.
    pub connections: u32,
    /// Median of ours / theirs; `None`: not measured.
    pub ratio: Option<f64>,
    /// What stands behind it.
    pub compared: Option<Compared>,
    /// How, or why not.
    pub note: String,
    /// The figure is shown, and proves nothing.
    pub invalid: bool,
    /// How it ended.
    #[serde(skip)]
    pub end: End,
}

/// Whether `only` names a row or a part of it.
pub fn is_row(only: &str) -> bool {
    ROWS.iter().any(|row| row.name.contains(only))
}

/// The names of all rows.
pub fn names() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.name).collect()
}

/// Valid when every cell that was tried is.
pub(super) fn validity(cells: &[Cell], was_interrupted: bool) -> Validity {
    let bad = cells.iter().filter(|cell| cell.end.is_bad());
    let of_cells = bad.map(|cell| format!("{}: {}", place(cell.row, cell.bytes, cell.connections), cell.note));
    let interrupted = was_interrupted.then(|| "the run was interrupted".to_owned());
    let nothing = cells.iter().all(|cell| cell.end == End::NotTried).then(|| "nothing was measured".to_owned());
    Validity::from_reasons(interrupted.into_iter().chain(nothing).chain(of_cells).collect())
}

/// How a run that told `cells` ends, and that did what is `broken` to mail.
pub fn exit(cells: &[Cell], broken: &[String]) -> Exit {
    match () {
        () if !broken.is_empty() => Exit::Failed,
        () if cells.iter().any(|cell| cell.end == End::ComponentFailed) => Exit::Component,
        () if !validity(cells, false).valid => Exit::Invalid,
        () => Exit::Good,
    }
}

impl Bench<'_> {
    /// Every cell of the rows that are wanted.
    pub(super) fn measure_grid(mut self) -> Measured {
        let only = self.only;
        let wanted = |row: &&Row| row.name.contains(only);
        let loads =
            SIZES.iter().flat_map(|(bytes, _)| CONNECTIONS.map(|connections| Load { connections, bytes: *bytes }));
        for load in loads {
            // One series of runs tells of generator and sink.
            let mut both = None;
            for row in ROWS.iter().filter(wanted) {
                if self.interrupt.asked() {
                    break;
                }
                self.progress.say(&format!("{}, {}, {} connections", row.title, size(load.bytes), load.connections));
                self.cell = Some(place(row.name, load.bytes, load.connections));
                let found = match row.name {
                    "relay" => self.relay_cell(load),
                    "shards" => self.shards_cell(load),
                    "acknowledgement" => self.acknowledgement_cell(load),
                    side => {
                        let [generator, sink] = both.get_or_insert_with(|| self.generator_and_sink(load)).clone();
                        if side == "sink" { sink } else { generator }
                    }
                };
                let cell = cell(row.name, load, found, cfg!(debug_assertions));
                self.progress.line(&format!("{}: {}", row.name, cell.note));
                self.grid.push(cell);
            }
        }
        self.ended()
    }

    fn relay_cell(&mut self, load: Load) -> Tried {
        let hop = Hop { connections: load.connections, bytes: load.bytes, ..RELAY };
        let done = self.against_pump(HERE, hop).map(drop);
        self.taken(done)
    }

    fn shards_cell(&mut self, load: Load) -> Tried {
        let hop = Hop { connections: load.connections, bytes: load.bytes, ..HOP };
        let done = self.one_and_two(HERE, hop).and_then(|(cpu, _)| self.ratio(HERE, &cpu, "µs"));
        self.taken(done)
    }

    fn acknowledgement_cell(&mut self, load: Load) -> Tried {
        let done = self.acknowledgements(HERE, load).and_then(|[syncs, _]| self.ratio(HERE, &syncs, "µs"));
        self.taken(done)
    }

    fn generator_and_sink(&mut self, load: Load) -> [Tried; 2] {
        let pairs = self.beside_postfix(load, &[2]).map(|mut pairs| pairs.remove(0));
        match pairs {
            Ok((sources, sinks)) => [sources, sinks].map(|pairs| {
                let done = self.ratio(HERE, &pairs, "µs");
                self.taken(done)
            }),
            Err(error) => [(); 2].map(|()| Err(Unmeasured::from(&error))),
        }
    }

    /// What a cell's runs found, out of the way of the next cell's.
    fn taken(&mut self, done: anyhow::Result<()>) -> Tried {
        let found = self.findings.remove(HERE);
        done.map_err(|error| Unmeasured::from(&error))?;
        found.unwrap_or_else(|| Err("nothing was found".into()))
    }
}

type Tried = Result<Found, Unmeasured>;

/// A build for debugging (`is_debug`) shows its figures, and they prove nothing.
fn cell(row: &'static str, load: Load, found: Tried, is_debug: bool) -> Cell {
    let Load { connections, bytes } = load;
    let empty = Cell {
        row,
        bytes,
        connections,
        ratio: None,
        compared: None,
        note: String::new(),
        invalid: false,
        end: End::Measured,
    };
    match found {
        Ok(found) => {
            let note = if is_debug && !found.invalid { crate::DEBUG_BUILD.to_owned() } else { found.note };
            let invalid = is_debug || found.invalid;
            let end = if invalid { End::Invalid } else { End::Measured };
            Cell { ratio: Some(found.value), compared: found.compared, note, invalid, end, ..empty }
        }
        Err(not) => Cell { note: not.why, end: not.end, ..empty },
    }
}

fn size(bytes: u64) -> &'static str {
    SIZES.iter().find(|(known, _)| *known == bytes).map_or("?", |(_, size)| size)
}

/// Where a cell stands, for people.
fn place(row: &str, bytes: u64, connections: u32) -> String {
    format!("{row}, {}, {connections}", size(bytes))
}

/// A table for each row and size that has a figure, as those of hops; below them the figures that prove nothing, and what
/// could not be measured.
pub(super) fn markdown(out: &mut String, cells: &[Cell]) {
    for row in &ROWS {
        for (bytes, size) in SIZES {
            let of_row = cells.iter().filter(|cell| cell.row == row.name && cell.bytes == bytes && !cell.invalid);
            let measured: Vec<(u32, f64, Compared)> =
                of_row.filter_map(|cell| Some((cell.connections, cell.ratio?, cell.compared?))).collect();
            if measured.is_empty() {
                continue;
            }
            by_connections_head(out, &format!("{}, {size}", row.title), row.sides);
            for (connections, ratio, compared) in measured {
                by_connections(out, connections, ratio, compared);
            }
        }
    }
    for cell in cells.iter().filter(|cell| cell.invalid || cell.ratio.is_none()) {
        let (place, note) = (place(cell.row, cell.bytes, cell.connections), cell.note.replace('\n', " "));
        // Writing to a String cannot fail.
        let _ = match cell.ratio {
            Some(ratio) => writeln!(out, "\nNot valid: {place}: {ratio:.2}; {note}"),
            None => writeln!(out, "\nNot measured: {place}: {note}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::Counted;
    use super::*;

    #[test]
    fn a_grid_stands_in_tables_by_connections_and_tells_what_is_missing() {
        let compared = Compared {
            ours: 12.0,
            theirs: 6.0,
            low: Some(1.9),
            high: Some(2.1),
            pairs: 3,
            counted: Counted::default(),
        };
        let found = || Found { value: 2.0, note: "of 3".into(), invalid: false, compared: Some(compared) };
        let load = |connections, bytes| Load { connections, bytes };
        let cells = [
            cell("relay", load(1, 4096), Ok(found()), false),
            cell("relay", load(256, 4096), Ok(found()), false),
            cell("relay", load(1, 100 << 10), Ok(found()), false),
            cell(
                "relay",
                load(16, 4096),
                Ok(Found { value: 2.5, note: "late".into(), invalid: true, ..found() }),
                false,
            ),
            cell("sink", load(16, 4096), Err("no\nsmtp-sink".into()), false),
        ];
        let mut text = String::new();
        markdown(&mut text, &cells);
        let line = "12.0 µs | 6.00 µs | 2.00 | 1.90–2.10 | 3 | – | – | – |";
        let small = "| relay by BDAT in mode none, CPU per message, 4 KiB, connections | relay | pump | ratio |";
        assert!(text.contains(small) && text.contains(&format!("| 1 | {line}\n| 256 | {line}\n")), "{text}");
        assert!(text.contains("100 KiB, connections | relay | pump"), "{text}");
        assert!(
            !text.contains("sink by DATA, CPU") && text.contains("Not measured: sink, 4 KiB, 16: no smtp-sink"),
            "{text}"
        );
        assert!(text.contains("Not valid: relay, 4 KiB, 16: 2.50; late") && !text.contains("| 16 |"), "{text}");
        assert_eq!(exit(&cells[..3], &[]).code(), 0);
        assert_eq!(exit(&cells[..4], &[]).code(), 3, "not all of it is valid");
        assert_eq!(exit(&cells[4..], &[]).code(), 3, "not all of it was measured");
        assert_eq!(exit(&cells[..3], &["relay, 4 KiB, 1: 2 lost".to_owned()]).code(), 1);
        let with = |end| [cells[0].clone(), Cell { end, ..cells[4].clone() }];
        assert_eq!(exit(&with(End::ComponentFailed), &[]).code(), 4);
        assert_eq!(exit(&with(End::NotTried), &[]).code(), 0, "nobody has given the means");
        assert_eq!(exit(&with(End::NotTried)[1..], &[]).code(), 3, "nothing else was asked for");
        let debug = cell("relay", load(1, 4096), Ok(found()), true);
        assert_eq!((debug.invalid, validity(&[debug], false).valid), (true, false));
        assert!(is_row("ack") && is_row("") && !is_row("T-hop"));
    }
}
