//! What no file of the project may say.

use std::path::{Path, PathBuf};
use tests::source::{files, root};

/// Places that exist on one machine only. Tests take their folders from the system.
const PLACES: &[&str] = &[concat!("/tm", "p/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];

/// Files in which such a place is meant: an attack on a folder, what a service unit says to an operator.
const PLACES_MEANT: &[&str] = &["engine/tests/driver_suite/files.rs"];

/// Tests wait for a condition; what must poll does so in one place.
const SLEEPERS: &[&str] = &["tests/src/wait.rs"];

fn texts() -> impl Iterator<Item = (PathBuf, String)> {
    let project =
        files("").into_iter().filter(|file| !file.starts_with("tests/corpus") && !file.starts_with("fuzz/corpus"));
    project.filter_map(|file| {
        let text = std::fs::read_to_string(root().join(&file)).ok()?;
        Some((file, text))
    })
}

fn lines_with<'a>(text: &'a str, words: &'a [&str]) -> impl Iterator<Item = usize> + 'a {
    let lines = text.lines().enumerate();
    lines.filter(|(_, line)| words.iter().any(|word| line.contains(word))).map(|(at, _)| at + 1)
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let mut found = Vec::new();
    for (file, text) in texts().filter(|(file, _)| !PLACES_MEANT.iter().any(|meant| file == Path::new(meant))) {
        found.extend(lines_with(&text, PLACES).map(|line| format!("{}:{line}", file.display())));
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn tests_wait_for_a_condition_and_never_sleep() {
    let sleep = [concat!("thread::", "sleep"), concat!("\nsl", "eep ")];
    let mut found = Vec::new();
    for (file, text) in texts().filter(|(file, _)| file.iter().any(|part| part == "tests")) {
        if file.extension().is_some_and(|ending| ending == "rs") && !SLEEPERS.iter().any(|one| file == Path::new(one)) {
            found.extend(lines_with(&text, &sleep).map(|line| format!("{}:{line}", file.display())));
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_todo_names_its_issue() {
    let word = concat!("TO", "DO");
    let mut found = Vec::new();
    for (file, text) in texts() {
        for line in lines_with(&text, &[word]) {
            let says = text.lines().nth(line - 1).expect("it was just found");
            if !says.contains('#') {
                found.push(format!("{}:{line}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_breach_of_words_is_seen() {
    let place = concat!("see /tm", "p/x");
    assert_eq!(lines_with(&format!("a\n{place}\n"), PLACES).collect::<Vec<_>>(), [2]);
    assert!(texts().any(|(file, _)| file == Path::new("tests/tests/house/words.rs")));
    assert!(texts().any(|(file, _)| file == Path::new(".ci/run")));
}
