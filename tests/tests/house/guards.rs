//! Guards that stand in the sources: what the kernel is not asked for, which maps there are, how files are made, what a
//! release checks, and how much `unsafe` there is.

use std::path::PathBuf;
use tests::source::{read, root, rust_files};

/// Blocks, functions and traits that are `unsafe`, all of them in `engine/src/sys`, are at most so many. Whoever needs more
/// says why.
const UNSAFE_MAX: usize = 50;

/// The engine's sources.
fn engine() -> Vec<PathBuf> {
    rust_files("engine").into_iter().filter(|file| file.starts_with("engine/src")).collect()
}

/// Lines of the engine's sources that hold one of these, as `file:line`, comments left out.
fn lines_with(words: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in engine() {
        let text = std::fs::read_to_string(root().join(&file)).expect("a readable file");
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if words.iter().any(|word| line.to_ascii_lowercase().contains(&word.to_ascii_lowercase())) {
                found.push((format!("{}:{}", file.display(), at + 1), line.to_owned()));
            }
        }
    }
    found
}

/// A thread of the kernel that polls keeps the credentials of when its ring was made, and a personality those that it
/// captured: neither is asked for.
#[test]
fn s_002_no_ring_keeps_credentials() {
    assert!(!lines_with(&["io_uring"]).is_empty(), "the sources are read");
    let found = lines_with(&["sqpoll", "personality"]);
    assert!(found.is_empty(), "{found:?}");
}

/// Every file is new when it is made, and none is made in a folder that others share.
#[test]
fn s_009_files_are_made_new_and_in_our_own_folders() {
    let made = lines_with(&["O_CREAT", "OFlags::CREATE", "create_new("]);
    assert!(made.len() >= 2, "the sources are read");
    let lax: Vec<_> = made
        .iter()
        .filter(|(_, line)| !line.contains("EXCL") && !line.contains("contains(") && !line.contains("create_new(true)"))
        .collect();
    assert!(lax.is_empty(), "{lax:?}");
    let shared = lines_with(&["temp_dir()", "\"/tmp", "\"/var/tmp", "\"/dev/shm"]);
    assert!(shared.is_empty(), "{shared:?}");
}

/// Maps are ordered or indexed. A hash map would need a key of its own, random for each process, and a test of it.
#[test]
fn s_033_no_map_hashes_what_a_peer_chose() {
    let mut found = Vec::new();
    for file in engine() {
        let hashed =
            |segment: &String| ["HashMap", "HashSet", "hash_map", "hashbrown", "DashMap"].contains(&segment.as_str());
        let named = read(&file).named.into_iter().filter(|named| !named.in_test && named.segments.iter().any(hashed));
        found.extend(named.map(|named| format!("{}:{}", file.display(), named.line)));
    }
    assert!(found.is_empty(), "{found:?}");
}

/// What stands in `[profile.release]`.
#[test]
fn s_034_s_044_a_release_checks_its_arithmetic_and_a_panic_ends_it() {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let release = text.split("[profile.release]").nth(1).expect("the section").split("\n[").next().expect("its lines");
    for wanted in ["overflow-checks = true", "panic = \"abort\""] {
        assert!(release.lines().any(|line| line.starts_with(wanted)), "{wanted}: {release}");
    }
}

/// What reads the network or the disk may not index, either; elsewhere an index is our own.
#[test]
fn s_044_the_lints_against_panics_stand_where_they_were() {
    let holds = |file: &str, lints: &[&str]| {
        let text = std::fs::read_to_string(root().join(file)).expect(file);
        let denied = |lint: &&str| text.lines().any(|line| line.contains("not(test), deny(") && line.contains(*lint));
        assert!(lints.iter().all(denied), "{file} no longer denies {lints:?}");
    };
    for library in ["engine", "loadgen", "bench-harness"] {
        holds(&format!("{library}/src/lib.rs"), &["clippy::unwrap_used", "clippy::panic"]);
    }
    for reader in ["wire", "smtp", "mime", "spool", "store"] {
        holds(
            &format!("engine/src/{reader}/mod.rs"),
            &["clippy::indexing_slicing", "clippy::expect_used", "clippy::panic"],
        );
    }
}

#[test]
fn s_043_the_count_of_unsafe_is_known_and_does_not_grow() {
    let count: usize = engine().iter().map(|file| read(file).unsafe_lines.len()).sum();
    assert!((1..=UNSAFE_MAX).contains(&count), "{count} places with `unsafe` in engine/src/sys");
}
