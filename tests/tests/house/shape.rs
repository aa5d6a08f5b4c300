//! Files that somebody declares, functions and files of readable length, and `unsafe` in one place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tests::source::{Source, files, read, rust_files};

const CRATES: &[&str] = &["engine", "loadgen", "bench-harness", "tests", "fuzz", "perf"];
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 1000;

/// Functions that were longer when the rule came, as `file name`. This list only shrinks.
const LONG_FUNCTIONS: &[&str] = &[];

/// Files that cargo takes for the root of a crate: libraries, programs, tests, benches, examples, build scripts.
fn roots() -> Vec<PathBuf> {
    let all = CRATES.iter().flat_map(|name| rust_files(name));
    all.filter(|file| {
        let parts: Vec<_> = file.iter().skip(1).map(|part| part.to_string_lossy()).collect();
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        matches!(
            parts.as_slice(),
            ["build.rs"]
                | ["src", "lib.rs" | "main.rs"]
                | ["src", "bin", _]
                | ["src", "bin", _, "main.rs"]
                | ["tests" | "benches" | "examples", _]
                | ["tests" | "benches" | "examples", _, "main.rs"]
                | ["loom", "src", "lib.rs"]
        )
    })
    .collect()
}

/// The folder in which the modules of `file` lie.
fn folder_of_modules(file: &Path, is_root: bool) -> PathBuf {
    let folder = file.parent().expect("a file lies in a folder");
    let stem = file.file_stem().expect("a file has a name");
    if is_root || stem == "mod" { folder.to_owned() } else { folder.join(stem) }
}

/// Where the file of a declared module may lie.
fn candidates(file: &Path, is_root: bool, names: &[String], path: Option<&str>) -> Vec<PathBuf> {
    if let Some(path) = path {
        return vec![file.parent().expect("a file lies in a folder").join(path)];
    }
    let place = names.iter().fold(folder_of_modules(file, is_root), |folder, name| folder.join(name));
    vec![place.with_extension("rs"), place.join("mod.rs")]
}

fn reach(file: &Path, is_root: bool, reached: &mut BTreeSet<PathBuf>) {
    if !reached.insert(file.to_owned()) {
        return;
    }
    for declared in read(file).declared {
        for candidate in candidates(file, is_root, &declared.names, declared.path.as_deref()) {
            if tests::source::root().join(&candidate).exists() {
                reach(&candidate, false, reached);
            }
        }
    }
}

#[test]
fn every_source_file_is_declared_by_somebody() {
    let mut reached = BTreeSet::new();
    for root in roots() {
        reach(&root, true, &mut reached);
    }
    let all: Vec<_> = CRATES.iter().flat_map(|name| rust_files(name)).collect();
    let lost: Vec<_> = all.iter().filter(|file| !reached.contains(*file)).collect();
    assert!(lost.is_empty(), "nobody declares {lost:?}");
    assert!(reached.contains(Path::new("tests/tests/house/shape.rs")), "this very file is reached by its declaration");
}

#[test]
fn no_function_is_longer_than_seventy_lines() {
    let mut long = Vec::new();
    for file in CRATES.iter().flat_map(|name| rust_files(name)) {
        for function in read(&file).functions.iter().filter(|function| function.lines > FUNCTION_LINES_MAX) {
            let name = format!("{} {}", file.display(), function.name);
            if !LONG_FUNCTIONS.contains(&name.as_str()) {
                long.push(format!(
                    "{}:{}: {} has {} lines",
                    file.display(),
                    function.line,
                    function.name,
                    function.lines
                ));
            }
        }
    }
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

#[test]
fn no_file_is_longer_than_a_thousand_lines() {
    let mut long = Vec::new();
    for file in CRATES.iter().flat_map(|name| rust_files(name)) {
        let text = std::fs::read_to_string(tests::source::root().join(&file)).expect("a readable file");
        if text.lines().count() > FILE_LINES_MAX {
            long.push(file);
        }
    }
    assert!(long.is_empty(), "{long:?}");
}

/// S-043: `unsafe` only in `sys/`, behind safe types.
#[test]
fn s_043_unsafe_stands_in_sys_alone() {
    let mut found = Vec::new();
    for file in CRATES.iter().flat_map(|name| rust_files(name)).filter(|file| !file.starts_with("engine/src/sys")) {
        found.extend(read(&file).unsafe_lines.iter().map(|line| format!("{}:{line}", file.display())));
    }
    assert!(found.is_empty(), "unsafe outside engine/src/sys: {found:?}");
}

/// S-043: and no crate can change its mind in a corner: all but the engine's library forbid it for good.
#[test]
fn s_043_every_crate_but_the_engine_forbids_unsafe() {
    let mut lax = Vec::new();
    for root in roots() {
        let attributes = read(&root).inner_attributes;
        let wanted = if root == Path::new("engine/src/lib.rs") { "deny (unsafe_code)" } else { "forbid (unsafe_code)" };
        // A fuzz target's entry is made by a macro that needs an exported symbol; the models compile a file of `sys`.
        if !root.starts_with("fuzz")
            && !root.starts_with("tests/loom")
            && !attributes.iter().any(|attribute| attribute == wanted)
        {
            lax.push(root);
        }
    }
    assert!(lax.is_empty(), "these crate roots do not forbid unsafe code: {lax:?}");
}

#[test]
fn a_breach_of_shape_is_seen() {
    let long = format!("fn f() {{\n{}}}", "g();\n".repeat(70));
    assert_eq!(Source::parse(&long).expect("Rust").functions[0].lines, 72);
    let place = candidates(Path::new("engine/src/io/mod.rs"), false, &["epoll".to_owned()], None);
    assert_eq!(place, [PathBuf::from("engine/src/io/epoll.rs"), PathBuf::from("engine/src/io/epoll/mod.rs")]);
    let place = candidates(Path::new("engine/src/io/epoll.rs"), false, &["files".to_owned()], None);
    assert_eq!(place[0], PathBuf::from("engine/src/io/epoll/files.rs"));
    assert!(files("tests").contains(&PathBuf::from("tests/run")));
}
