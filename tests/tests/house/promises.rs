//! `SPECIFICATION.md` names what holds each promise: here the names are held to the tests that exist.

use std::collections::BTreeSet;
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
