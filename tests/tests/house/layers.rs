//! Who may import whom. An import against this table is a question of design, not a detail.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tests::source::{Named, Source, read, root, rust_files};

/// The modules of `engine`, in layer order, and what each may name of its own crate (itself always). A name with `::`
/// permits that part only.
const ENGINE: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("wire", &["sys::slice"]),
    ("smtp", &["wire", "sys::slice", "sys::classes"]),
    ("mime", &["wire", "sys::slice"]),
    ("spool", &["wire", "sys::slice", "sys::spare"]),
    ("queue", &["wire", "sys::slice", "sys::lockfree"]),
    ("route", &["wire"]),
    ("track", &["wire"]),
    ("store", &["wire", "sys::slice"]),
    ("io", &["wire", "sys"]),
    ("settings", &["wire", "smtp", "queue", "io::choice"]),
    ("roles", &["wire", "sys::slice", "smtp", "mime", "spool", "queue", "route", "track", "store", "settings"]),
    (
        "shell",
        &[
            "wire",
            "sys::slice",
            "sys::lockfree",
            "sys::spare",
            "smtp",
            "mime",
            "spool",
            "queue",
            "route",
            "track",
            "store",
            "io::driver",
            "io::choice",
            "io::launch",
            "roles",
            "settings",
        ],
    ),
    ("control", &["wire", "route", "track", "settings"]),
    (
        "admin",
        &["wire", "smtp", "mime", "spool", "queue", "route", "track", "store", "roles", "shell", "control", "settings"],
    ),
    (
        "sim",
        &[
            "wire",
            "sys::slice",
            "sys::planted",
            "smtp",
            "mime",
            "spool",
            "queue",
            "route",
            "track",
            "store",
            "io::driver",
            "io::base::events",
            "io::base::outlet",
            "io::base::signal",
            "roles",
            "settings",
            "shell",
            "control",
        ],
    ),
    (
        "config",
        &[
            "sys", "wire", "smtp", "mime", "spool", "queue", "route", "track", "store", "io", "roles", "shell",
            "control", "settings", "admin",
        ],
    ),
];

/// What the crates above may name of those below.
const ABOVE: &[(&str, &str, &[&str])] = &[
    (
        "loadgen",
        "engine",
        &["wire", "smtp", "io", "sys::slice", "sys::alloc", "app::exit", "app::interrupt", "app::program"],
    ),
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
    // What stands above all of them may be named by none.
    let known: BTreeSet<&str> = ENGINE.iter().map(|(name, _)| *name).chain(["app"]).collect();
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

/// What the tables and the drawing speak of is there: a name of nothing permits and forbids nothing.
#[test]
fn every_module_named_is_there() {
    let mut missing = Vec::new();
    let engine = ENGINE.iter().flat_map(|(name, allowed)| [*name].into_iter().chain(allowed.iter().copied()));
    let above = ABOVE.iter().flat_map(|(_, to, allowed)| allowed.iter().map(move |name| (*to, *name)));
    let named = engine.chain(CORE.iter().copied()).map(|name| ("engine", name)).chain(above);
    missing.extend(named.filter(|(of, name)| !is_module(of, name)).map(|(of, name)| format!("{of}: {name}")));
    let drawn = modules_drawn(&text_of(Path::new("ARCHITECTURE.md")));
    assert!(drawn.len() > 10, "the table of modules was not found: {drawn:?}");
    missing.extend(drawn.iter().filter(|name| !is_module("engine", name)).map(|name| format!("drawn: {name}")));
    assert!(missing.is_empty(), "no such module: {missing:?}");
    assert!(!is_module("engine", "attic") && !is_module("engine", "io::attic") && !is_module("engine", "app::attic"));
    let undrawn: Vec<_> =
        ENGINE.iter().map(|(name, _)| *name).filter(|name| !drawn.iter().any(|it| it == name)).collect();
    assert!(undrawn.is_empty(), "ARCHITECTURE.md says nothing of {undrawn:?}");
}

/// Whether `name` is a module of `of`, or an item of one: what stands first is a file or folder of its own, and what
/// follows is one, or is declared there.
fn is_module(of: &str, name: &str) -> bool {
    let source = format!("{of}/src");
    let files: Vec<PathBuf> = rust_files(&source);
    let (parent, last) = name.rsplit_once("::").unwrap_or(("", name));
    let path = Path::new(&source).join(name.replace("::", "/"));
    let is_own = |file: &PathBuf| *file == path.with_extension("rs") || file.starts_with(&path);
    let inside = Path::new(&source).join(parent.replace("::", "/"));
    let declares = |file: &PathBuf| {
        (*file == inside.with_extension("rs") || *file == inside.join("mod.rs"))
            && text_of(file).lines().any(|line| {
                ["enum", "struct", "trait", "fn"].iter().any(|kind| line.starts_with(&format!("pub {kind} {last}")))
            })
    };
    files.iter().any(is_own) || (!parent.is_empty() && files.iter().any(declares))
}

fn text_of(file: &Path) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The names in the first column of ARCHITECTURE.md's table of modules.
fn modules_drawn(text: &str) -> Vec<String> {
    let section = text.split("\n## ").find(|section| section.starts_with("Layers")).unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|row| row.split('|').next());
    rows.flat_map(|cell| cell.split(',')).map(|name| name.trim().trim_matches('`').to_owned()).collect()
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
    assert_eq!(check("engine/src/config/mod.rs", "use crate::app::exit;"), 1);
    assert_eq!(check("engine/src/smtp/mod.rs", "use std::collections::{BTreeMap, HashMap};"), 1);
    assert_eq!(check("engine/src/attic/mod.rs", ""), 1);
    assert_eq!(check("loadgen/src/sink.rs", "use engine::spool::Log; use engine::wire::Tick;"), 1);
}
