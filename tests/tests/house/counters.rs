//! A counter that nobody counts is worse than none: it says that nothing happened (I-10).

use std::path::Path;
use tests::source::{root, rust_files};

/// Where counters are declared and read.
const READERS: &[&str] = &["engine/src/track", "engine/src/control", "engine/src/admin"];

#[test]
fn i_010_every_counter_is_counted_somewhere() {
    let declared = std::fs::read_to_string(root().join("engine/src/track/counters.rs")).expect("there");
    let kinds = ["\" Counter: \"", "\" Gauge: \""];
    let rows = declared.lines().filter(|line| kinds.iter().any(|kind| line.contains(kind)));
    let names: Vec<&str> = rows.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 40, "the table is read: {names:?}");
    let counts =
        rust_files("engine/src").into_iter().filter(|file| !READERS.iter().any(|at| file.starts_with(Path::new(at))));
    let counted: String = counts.map(|file| std::fs::read_to_string(root().join(file)).expect("there")).collect();
    let is_counted = |name: &&str| {
        counted
            .match_indices(&format!("Counter::{name}"))
            .any(|(at, found)| !counted[at + found.len()..].starts_with(|next: char| next.is_alphanumeric()))
    };
    let never: Vec<&&str> = names.iter().filter(|name| !is_counted(name)).collect();
    assert!(never.is_empty(), "declared and never counted: {never:?}");
}
