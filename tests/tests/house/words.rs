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

/// Subjects and details that RFC 5248's registry has, as far as we use them.
const REGISTERED: &[(u16, &[u16])] = &[
    (0, &[0]),
    (1, &[0, 1, 2, 3, 5, 6, 7, 8, 10]),
    (2, &[1, 2, 3]),
    (3, &[0, 1, 2, 3, 4, 5]),
    (4, &[0, 1, 2, 3, 4, 6, 7]),
    (5, &[0, 1, 2, 3, 4, 6]),
    (6, &[0, 3, 7, 9]),
    (7, &[0, 1, 8, 9, 10, 11, 12, 27]),
];

#[test]
fn m_146_every_refusal_has_a_registered_status_of_its_class() {
    let mut seen = 0;
    for (file, text) in texts().filter(|(file, _)| file.starts_with("engine/src")) {
        for refusal in text.split("Refusal::fixed(").skip(1) {
            let numbers: Vec<u16> = refusal
                .split(|letter: char| !letter.is_ascii_digit())
                .filter(|digits| !digits.is_empty())
                .map_while(|digits| digits.parse().ok())
                .take(4)
                .collect();
            // What is no literal is the function itself.
            let ([code, class, subject, detail], true) = (&numbers[..], refusal.starts_with(['4', '5'])) else {
                continue;
            };
            let known = REGISTERED.iter().any(|(of, details)| of == subject && details.contains(detail));
            assert!(known && code / 100 == *class, "{}: {code} {class}.{subject}.{detail}", file.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "the refusals were found: {seen}");
}
