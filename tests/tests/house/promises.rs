//! `SPECIFICATION.md` names what holds each promise: here the names are held to the tests that exist, and what it says of
//! figures to the tables of `perf/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use tests::source::{read, root, rust_files};

/// One row of a table of promises.
#[derive(Debug)]
struct Promise {
    id: String,
    held_by: String,
}

/// The rows that begin with a number like P-001; the last column is what holds them.
fn promises(text: &str) -> Vec<Promise> {
    let rows = text.lines().filter(|line| line.starts_with("| P-"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").map(str::trim).collect();
        Promise { id: cells[0].to_owned(), held_by: cells.last().expect("a last column").to_string() }
    })
    .collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn specification() -> Vec<Promise> {
    promises(&std::fs::read_to_string(root().join("SPECIFICATION.md")).expect("SPECIFICATION.md"))
}

#[test]
fn every_promise_has_a_number_of_its_own_and_something_that_holds_it() {
    let promises = specification();
    assert!(promises.len() > 30, "the tables are read");
    let numbers: BTreeSet<&str> = promises.iter().map(|promise| promise.id.as_str()).collect();
    assert_eq!(numbers.len(), promises.len(), "two promises share a number");
    for promise in &promises {
        let is_held = promise.held_by.contains("pending") || quoted(&promise.held_by).next().is_some();
        assert!(is_held, "{}: name a test, a run, or say pending: {:?}", promise.id, promise.held_by);
    }
}

#[test]
fn every_test_that_a_promise_names_exists() {
    let files = ["engine", "loadgen", "bench-harness", "tests"].into_iter().flat_map(rust_files);
    let functions: BTreeSet<String> =
        files.flat_map(|file| read(&file).functions).map(|function| function.name).collect();
    let mut missing = Vec::new();
    for promise in specification() {
        // A run is a command, with blanks in it, or a program.
        let tests = quoted(&promise.held_by).filter(|name| name.contains('_') && !name.contains(' '));
        missing.extend(tests.filter(|name| !functions.contains(*name)).map(|name| format!("{}: {name}", promise.id)));
    }
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

/// Cells of the table rows of `text` that begin with `start`.
fn rows<'t>(text: &'t str, start: &str) -> Vec<Vec<&'t str>> {
    let rows = text.lines().filter(|line| line.starts_with(start));
    rows.map(|row| row.trim_matches(['|', ' ']).split(" | ").map(str::trim).collect()).collect()
}

/// What a run is said to have shown: by `SPECIFICATION.md`, or in the words of `perf/README.md`.
fn verdict(held_by: &str) -> &'static str {
    let words = [("not reached", "no"), ("reached in part", "in part"), ("reached", "yes")];
    words.into_iter().find(|(word, _)| held_by.contains(word)).map_or("not said", |(_, verdict)| verdict)
}

/// Figures by the promise that they belong to, as the list of `ringbench targets` has both.
fn targets(list: &str) -> BTreeMap<&str, Vec<&str>> {
    let quoted: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    let mut found = BTreeMap::<&str, Vec<&str>>::new();
    for pair in quoted.windows(2).filter(|pair| pair[0].starts_with("T-") && pair[1].starts_with("P-")) {
        found.entry(pair[1]).or_default().push(pair[0]);
    }
    found
}

/// Whoever pastes new figures mends what is said of them, in both documents.
#[test]
fn what_is_said_of_figures_is_what_was_measured() {
    let text = |name: &str| std::fs::read_to_string(root().join(name)).expect("a document");
    let (figures, list) = (text("perf/README.md"), text("bench-harness/src/targets/list.rs"));
    let said: BTreeMap<&str, Vec<&str>> = rows(&figures, "| P-").into_iter().map(|row| (row[0], row)).collect();
    let measured: BTreeMap<&str, &str> =
        rows(&figures, "| `T-").into_iter().map(|row| (row[0].trim_matches('`'), row[2])).collect();
    let targets = targets(&list);
    assert!(targets.len() > 10 && measured.len() > 20, "the list and the tables are read");
    let mut wrong = Vec::new();
    for (promise, ids) in &targets {
        let Some(row) = said.get(promise) else {
            wrong.push(format!("perf/README.md does not say whether {promise} is reached"));
            continue;
        };
        let specified = specification().into_iter().find(|it| it.id == *promise).expect("a promise of its own");
        if !row[4].starts_with(verdict(&specified.held_by)) {
            wrong.push(format!("{promise} is reached: {} here, {:?} there", row[4], specified.held_by));
        }
        for id in ids {
            let figure = measured.get(id).and_then(|figure| figure.split(' ').next()).unwrap_or("missing");
            if figure != "–" && !row[3].split([' ', ',', ';']).any(|word| word == figure) {
                wrong.push(format!("{promise}: {id} is {figure}, not told in {:?}", row[3]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn figures_are_read_right() {
    assert_eq!(
        targets("at_most(\"T-a\", \"P-100\", \"of b\"), shown(\"T-c\", \"c\")"),
        [("P-100", vec!["T-a"])].into()
    );
    assert_eq!(rows("| P-1 | a | b |\n| Q | c |", "| P-"), [["P-1", "a", "b"]]);
    let said = ["`x`: not reached", "`x`: reached in part: at 50", "`x`: reached", "pending"].map(verdict);
    assert_eq!(said, ["no", "in part", "yes", "not said"]);
}

#[test]
fn a_row_is_read_right() {
    let text = "| id | promise | held by |\n| P-001 | a, `b` | `c_d` `e_f` |\nno row\n| P-002 | g | pending |\n";
    let promises = promises(text);
    assert_eq!(promises.len(), 2);
    assert_eq!(
        (promises[0].id.as_str(), quoted(&promises[0].held_by).collect::<Vec<_>>()),
        ("P-001", vec!["c_d", "e_f"])
    );
}
