//! Rows that tests, comments and documents name stand in `docs/ROWS.md`, each once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tests::source::{read, root, rust_files};

/// The rows of the tables, in order.
fn known(text: &str) -> Vec<String> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.map(str::trim).filter_map(row).collect()
}

/// `text` if it names a row: `M-043`, `F-010`, `S-012`, `I-4`, `K12`.
fn row(text: &str) -> Option<String> {
    let kind = text.chars().next()?;
    let number = text.get(1..)?;
    let digits = match kind {
        'M' | 'F' | 'S' | 'X' => number.strip_prefix('-').filter(|digits| digits.len() == 3)?,
        'I' => number.strip_prefix('-').filter(|digits| digits.len() <= 2)?,
        'K' => Some(number).filter(|digits| digits.len() <= 2)?,
        _ => return None,
    };
    let good = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
    good.then(|| text.to_owned())
}

/// The rows that a function is named after: those of `f_010_f_137_a_story`.
fn of_name(name: &str) -> Vec<String> {
    let mut parts = name.split('_');
    let mut rows = Vec::new();
    while let (Some(kind), Some(number)) = (parts.next(), parts.next()) {
        let Ok(number) = number.parse::<u32>() else { break };
        match kind {
            "m" | "f" | "s" | "x" => rows.push(format!("{}-{number:03}", kind.to_uppercase())),
            "i" => rows.push(format!("I-{number}")),
            "k" => rows.push(format!("K{number}")),
            _ => break,
        }
    }
    rows
}

/// The rows that a text names.
fn of_text(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-').filter_map(row)
}

/// Files below `folder` that end so.
fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.') || name == "target");
        if path.is_dir() && !hidden {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|have| have == ending) {
            found.push(path);
        }
    }
}

#[test]
fn every_row_that_anything_names_is_explained_once() {
    let index = std::fs::read_to_string(root().join("docs/ROWS.md")).expect("docs/ROWS.md");
    let rows = known(&index);
    let known: BTreeSet<&str> = rows.iter().map(String::as_str).collect();
    assert!(known.len() > 250, "the tables are read");
    assert_eq!(known.len(), rows.len(), "a row stands there twice");
    let mut missing: BTreeMap<String, String> = BTreeMap::new();
    let mut named = |row: String, place: &str| {
        if !known.contains(row.as_str()) {
            missing.entry(row).or_insert_with(|| place.to_owned());
        }
    };
    for file in ["engine", "loadgen", "bench-harness", "tests", "fuzz", "perf"].into_iter().flat_map(rust_files) {
        for function in read(&file).functions {
            of_name(&function.name).into_iter().for_each(|row| named(row, &function.name));
        }
    }
    let mut texts = Vec::new();
    ["rs", "md", "smtp"].iter().for_each(|ending| files(&root(), ending, &mut texts));
    assert!(texts.len() > 200, "the tree is read");
    for path in texts.iter().filter(|path| !path.ends_with("tests/tests/house/rows.rs")) {
        let text = std::fs::read_to_string(path).expect("a readable file");
        of_text(&text).for_each(|row| named(row, &path.display().to_string()));
    }
    assert!(missing.is_empty(), "no line in docs/ROWS.md: {missing:#?}");
}

/// Rows that comments and documents name and no test is named after: of features that are not here yet.
#[rustfmt::skip]
const WITHOUT_A_TEST: [&str; 24] = [
    "M-040", "M-094", "F-011", "F-025", "F-031", "F-034", "F-037", "F-041", "F-042", "F-043", "F-044", "F-051", "F-054",
    "F-055", "F-059", "F-075", "F-082", "F-097", "F-152", "F-179", "F-189", "S-003", "S-006", "S-010",
];

/// No row loses its only test unnoticed. Hooks stand in tests that pass them by name.
#[test]
fn every_row_has_a_test_named_after_it() {
    let index = std::fs::read_to_string(root().join("docs/ROWS.md")).expect("docs/ROWS.md");
    let mut tested = BTreeSet::new();
    for file in ["engine", "loadgen", "bench-harness", "tests"].into_iter().flat_map(rust_files) {
        read(&file).functions.iter().for_each(|function| tested.extend(of_name(&function.name)));
    }
    let mut scripts = Vec::new();
    files(&root().join("tests/scripts"), "smtp", &mut scripts);
    assert!(scripts.len() > 5, "the scripts are read");
    for script in scripts {
        let text = std::fs::read_to_string(&script).expect("a readable file");
        tested.extend(of_text(&text));
    }
    let bare: Vec<String> =
        known(&index).into_iter().filter(|row| !row.starts_with('K') && !tested.contains(row)).collect();
    assert_eq!(bare, WITHOUT_A_TEST);
}

#[test]
fn rows_are_read_right() {
    assert_eq!(of_name("f_010_m_17_i_007_k_3_a_1_story"), ["F-010", "M-017", "I-7", "K3"]);
    assert_eq!(of_name("many_1_things"), Vec::<String>::new());
    assert_eq!(
        of_text("as M-043 (S-012, F-01) and I-12, K7; KM-1 I-123").collect::<Vec<_>>(),
        ["M-043", "S-012", "I-12", "K7"]
    );
    assert_eq!(known("| row | asks |\n|---|---|\n| M-001 | one |\nM-002\n| K1 | two |"), ["M-001", "K1"]);
}
