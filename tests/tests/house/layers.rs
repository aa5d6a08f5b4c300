//! Who may import whom. An import against this table is a question of design, not a detail.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tests::source::{Named, Source, read, rust_files};

/// The modules of `engine`, in layer order, and what each may name of its own crate (itself always). A name with `::`
/// permits that part only.
const ENGINE: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("wire", &["sys::slice"]),
    ("smtp", &["wire", "sys::slice", "sys::classes"]),
    ("mime", &["wire", "sys::slice"]),
    ("spool", &["wire", "sys::slice"]),
    ("queue", &["wire", "sys::slice", "sys::lockfree"]),
    ("route", &["wire"]),
    ("track", &["wire"]),
    ("store", &["wire", "sys::slice"]),
    ("io", &["wire", "sys"]),
    ("settings", &["wire", "io::launch::DriverChoice"]),
    ("shard", &["wire", "sys::slice", "sys::lockfree", "io::driver"]),
    ("roles", &["wire", "sys::slice", "smtp", "mime", "spool", "queue", "route", "track", "store", "settings"]),
    (
        "shell",
        &[
            "wire",
            "sys::slice",
            "sys::lockfree",
            "smtp",
            "mime",
            "spool",
            "queue",
            "route",
            "track",
            "store",
            "io::driver",
            "io::launch",
            "shard",
            "roles",
            "settings",
        ],
    ),
    ("control", &["wire", "route", "track", "settings"]),
    (
        "admin",
        &[
            "wire", "smtp", "mime", "spool", "queue", "route", "track", "store", "shard", "roles", "shell", "control",
            "settings",
        ],
    ),
    (
        "config",
        &[
            "sys", "wire", "smtp", "mime", "spool", "queue", "route", "track", "store", "io", "shard", "roles",
            "shell", "control", "settings", "admin",
        ],
    ),
];

/// What the crates above may name of those below.
const ABOVE: &[(&str, &str, &[&str])] = &[
    ("loadgen", "engine", &["wire", "smtp", "shard", "io", "sim", "sys::slice", "sys::alloc", "app::exit"]),
    (
        "bench-harness",
        "engine",
        &["wire", "io", "sys::slice", "sys::alloc", "smtp", "shell::pump", "settings", "config", "track", "app"],
    ),
    ("engine", "loadgen", &[]),
    ("engine", "bench_harness", &[]),
    ("loadgen", "bench_harness", &[]),
];

/// Modules that decide and own no socket, file, clock or thread.
const CORE: &[&str] = &["wire", "smtp", "mime", "spool", "queue", "route", "track", "store", "roles"];

/// What a module of the core must not name: time, randomness and bytes come in as arguments; a map of the standard
/// library iterates in another order each run, which breaks replay.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "tokio",
    "tokio_uring",
    "io_uring",
    "rustix",
    "libc",
    "socket2",
];

fn permits(allowed: &str, segments: &[String]) -> bool {
    allowed.split("::").enumerate().all(|(at, word)| segments.get(at).is_some_and(|segment| segment == word))
}

/// The first folder or file below `src`, without its ending: the module of the crate that `file` belongs to.
fn module_of(file: &Path) -> Option<String> {
    let below = file.iter().skip_while(|part| *part != "src").nth(1)?.to_str()?;
    Some(below.strip_suffix(".rs").unwrap_or(below).to_owned())
}

/// `named` from the crate's root on, when it names something of its own crate in another file.
fn within_crate(file: &Path, named: &Named) -> Option<Vec<String>> {
    let first = named.segments.first()?.as_str();
    if first == "crate" {
        return Some(named.segments[1..].to_vec());
    }
    if first != "super" {
        return None;
    }
    let mut module: Vec<String> = file
        .with_extension("")
        .iter()
        .skip_while(|part| *part != "src")
        .skip(1)
        .map(|part| part.to_string_lossy().into_owned())
        .filter(|part| part != "mod" && part != "lib")
        .collect();
    let ups = named.segments.iter().take_while(|segment| *segment == "super").count();
    for _ in 0..ups.saturating_sub(named.inline_depth) {
        module.pop()?;
    }
    if ups < named.inline_depth {
        return None;
    }
    module.extend(named.segments.iter().skip(ups).cloned());
    Some(module)
}

/// The files below `folder` that are not tests alone: a test may know what it likes.
fn code_of(folder: &str) -> Vec<PathBuf> {
    let mut files = rust_files(folder);
    files.retain(|file| !file.iter().any(|part| part == "tests.rs" || part == "tests"));
    files
}

/// Breaches of the engine's table in `source`, which is `file`.
fn engine_breaches(file: &Path, source: &Source) -> Vec<String> {
    let Some(module) = module_of(file).filter(|_| file.starts_with("engine")) else { return Vec::new() };
    if matches!(module.as_str(), "lib" | "bin" | "app") {
        return Vec::new();
    }
    let Some((_, allowed)) = ENGINE.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{}: the table of layers does not know `{module}`", file.display())];
    };
    let known: BTreeSet<&str> = ENGINE.iter().map(|(name, _)| *name).collect();
    let mut breaches = Vec::new();
    for named in source.named.iter().filter(|named| !named.in_test) {
        let Some(path) = within_crate(file, named) else { continue };
        let Some(to) = path.first() else { continue };
        if *to == module || !known.contains(to.as_str()) {
            continue;
        }
        if !allowed.iter().any(|allowed| permits(allowed, &path)) {
            breaches.push(format!("{}:{}: {module} must not name {}", file.display(), named.line, path.join("::")));
        }
    }
    breaches
}

fn crate_breaches(file: &Path, source: &Source) -> Vec<String> {
    let Some(own) = file.iter().next().and_then(|part| part.to_str()) else { return Vec::new() };
    let mut breaches = Vec::new();
    for (from, to, allowed) in ABOVE.iter().filter(|(from, ..)| *from == own) {
        for named in source.named.iter().filter(|named| !named.in_test && named.segments[0] == *to) {
            if !allowed.iter().any(|allowed| permits(allowed, &named.segments[1..])) {
                breaches.push(format!(
                    "{}:{}: {from} must not name {}",
                    file.display(),
                    named.line,
                    named.segments.join("::")
                ));
            }
        }
    }
    breaches
}

fn impurities(file: &Path, source: &Source) -> Vec<String> {
    let core = module_of(file).is_some_and(|module| CORE.contains(&module.as_str()));
    let named = source.named.iter().filter(|named| core && !named.in_test);
    named
        .filter(|named| IMPURE.iter().any(|impure| permits(impure, &named.segments)))
        .map(|named| format!("{}:{}: the core must not name {}", file.display(), named.line, named.segments.join("::")))
        .collect()
}

#[test]
fn imports_follow_the_layers() {
    let mut breaches = Vec::new();
    for file in code_of("engine/src") {
        breaches.extend(engine_breaches(&file, &read(&file)));
    }
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn crates_follow_the_layers() {
    let mut breaches = Vec::new();
    for file in ["engine/src", "loadgen/src", "bench-harness/src"].into_iter().flat_map(code_of) {
        breaches.extend(crate_breaches(&file, &read(&file)));
    }
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn the_core_owns_no_socket_file_clock_or_thread() {
    let mut breaches = Vec::new();
    for file in code_of("engine/src") {
        breaches.extend(impurities(&file, &read(&file)));
    }
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn a_breach_is_seen() {
    let check = |file: &str, text: &str| {
        let source = Source::parse(text).expect("Rust");
        let file = Path::new(file);
        engine_breaches(file, &source).len() + crate_breaches(file, &source).len() + impurities(file, &source).len()
    };
    assert_eq!(check("engine/src/spool/record.rs", "use crate::wire::Tick; use crate::sys::slice::Slice;"), 0);
    assert_eq!(check("engine/src/spool/record.rs", "use crate::queue::Lane;"), 1);
    assert_eq!(check("engine/src/spool/record.rs", "use super::super::queue::Lane;"), 1);
    assert_eq!(check("engine/src/spool/record.rs", "use super::segment::Segment;"), 0);
    assert_eq!(check("engine/src/spool/mod.rs", "fn f() { crate::io::driver::now() }"), 1);
    assert_eq!(
        check("engine/src/spool/mod.rs", "mod tests { use super::Spool; } #[cfg(test)] mod t { use crate::io::X; }"),
        0
    );
    assert_eq!(check("engine/src/smtp/mod.rs", "use crate::sys::{slice, ring};"), 1);
    assert_eq!(check("engine/src/smtp/mod.rs", "use std::collections::{BTreeMap, HashMap};"), 1);
    assert_eq!(check("engine/src/attic/mod.rs", ""), 1);
    assert_eq!(check("loadgen/src/sink.rs", "use engine::spool::Log; use engine::wire::Tick;"), 1);
}
