//! Rows of the list by connections and size: where a figure holds, and where it does not. Each cell in few pairs, by the
//! means of the row that it is a cell of; nothing is promised of any.

use super::foreign::Load;
use super::hops::{HOP, Hop, RELAY};
use super::markdown::{CONNECTIONS, by_connections, by_connections_head};
use super::measured::{Bench, Measured};
use super::{Compared, Found, Unmeasured};
use crate::exit::Exit;
use crate::process::ComponentError;
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
    /// A component failed to start or died.
    #[serde(skip)]
    pub component_failed: bool,
}

/// Whether `only` names a row or a part of it.
pub fn is_row(only: &str) -> bool {
    ROWS.iter().any(|row| row.name.contains(only))
}

/// The names of all rows.
pub fn names() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.name).collect()
}

/// Valid when every cell is, and none is missing.
pub(super) fn validity(cells: &[Cell], was_interrupted: bool) -> Validity {
    let bad = cells.iter().filter(|cell| cell.invalid || cell.ratio.is_none());
    let of_cells = bad.map(|cell| format!("{}, {}, {}: {}", cell.row, size(cell.bytes), cell.connections, cell.note));
    let interrupted = was_interrupted.then(|| "the run was interrupted".to_owned());
    let nothing = cells.is_empty().then(|| "nothing was measured".to_owned());
    Validity::from_reasons(interrupted.into_iter().chain(nothing).chain(of_cells).collect())
}

/// How a run that told `cells` ends, and that did what is `broken` to mail.
pub fn exit(cells: &[Cell], broken: &[String]) -> Exit {
    match () {
        () if !broken.is_empty() => Exit::Failed,
        () if cells.iter().any(|cell| cell.component_failed) => Exit::Component,
        () if cfg!(debug_assertions)
            || cells.is_empty()
            || cells.iter().any(|cell| cell.invalid || cell.ratio.is_none()) =>
        {
            Exit::Invalid
        }
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
                let found = match row.name {
                    "relay" => self.relay_cell(load),
                    "shards" => self.shards_cell(load),
                    "acknowledgement" => self.acknowledgement_cell(load),
                    side => {
                        let [generator, sink] = both.get_or_insert_with(|| self.generator_and_sink(load)).clone();
                        if side == "sink" { sink } else { generator }
                    }
                };
                let cell = cell(row.name, load, found);
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
            Err(error) => [(); 2].map(|()| Err(unmeasured(&error))),
        }
    }

    /// What a cell's runs found, out of the way of the next cell's.
    fn taken(&mut self, done: anyhow::Result<()>) -> Tried {
        let found = self.findings.remove(HERE);
        done.map_err(|error| unmeasured(&error))?;
        found.unwrap_or_else(|| Err("nothing was found".into()))
    }
}

type Tried = Result<Found, Unmeasured>;

fn unmeasured(error: &anyhow::Error) -> Unmeasured {
    let component_failed = error.chain().any(|cause| cause.is::<ComponentError>());
    Unmeasured { why: format!("{error:#}"), component_failed }
}

fn cell(row: &'static str, load: Load, found: Tried) -> Cell {
    let Load { connections, bytes } = load;
    let empty = Cell {
        row,
        bytes,
        connections,
        ratio: None,
        compared: None,
        note: String::new(),
        invalid: false,
        component_failed: false,
    };
    match found {
        Ok(found) => Cell {
            ratio: Some(found.value),
            compared: found.compared,
            note: found.note,
            invalid: found.invalid,
            ..empty
        },
        Err(not) => Cell { note: not.why, component_failed: not.component_failed, ..empty },
    }
}

fn size(bytes: u64) -> &'static str {
    SIZES.iter().find(|(known, _)| *known == bytes).map_or("?", |(_, size)| size)
}

/// A table for each row and size that has a figure, as those of hops; below them what could not be measured.
pub(super) fn markdown(out: &mut String, cells: &[Cell]) {
    for row in &ROWS {
        for (bytes, size) in SIZES {
            let of_row = cells.iter().filter(|cell| cell.row == row.name && cell.bytes == bytes);
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
    let missing = cells.iter().filter(|cell| cell.ratio.is_none());
    for cell in missing {
        let note = cell.note.replace('\n', " ");
        // Writing to a String cannot fail.
        let _ = writeln!(out, "\nNot measured: {}, {}, {}: {note}", cell.row, size(cell.bytes), cell.connections);
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
            cell("relay", load(1, 4096), Ok(found())),
            cell("relay", load(256, 4096), Ok(found())),
            cell("relay", load(1, 100 << 10), Ok(found())),
            cell("sink", load(16, 4096), Err("no\nsmtp-sink".into())),
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
        assert_eq!(exit(&cells, &[]).code(), 3, "not all of it was measured");
        let died = Cell { component_failed: true, ..cells[3].clone() };
        assert_eq!(exit(&[died], &[]).code(), 4);
        assert!(is_row("ack") && is_row("") && !is_row("T-hop"));
    }
}
