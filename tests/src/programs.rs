//! Where the programs of the workspace are: built once, by cargo, whoever asks first.

use crate::source::root;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which features a program is built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// As users get it.
    Plain,
    /// With the hooks at which a test may kill it.
    FailPoints,
}

impl Build {
    fn suffix(self) -> &'static str {
        match self {
            Build::Plain => "plain",
            Build::FailPoints => "fail-points",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Build::Plain => &[],
            Build::FailPoints => &["--features", "fail-points"],
        }
    }
}

/// The program `ringpost`.
pub fn ringpost(build: Build) -> PathBuf {
    program("engine", "ringpost", build)
}

/// The program `ringload`.
pub fn ringload() -> PathBuf {
    program("loadgen", "ringload", Build::Plain)
}

/// The program `ringbench`.
pub fn ringbench() -> PathBuf {
    program("bench-harness", "ringbench", Build::Plain)
}

/// The program `name` of `package`. With `RINGPOST_PROGRAMS` it is taken from that folder, as `cargo run -p tests --bin
/// programs` leaves it there; else cargo is asked each time, which costs little when nothing changed.
///
/// # Panics
/// When it does not build.
pub fn program(package: &str, name: &str, build: Build) -> PathBuf {
    let file = format!("{name}-{}", build.suffix());
    if let Some(folder) = std::env::var_os("RINGPOST_PROGRAMS") {
        let path = PathBuf::from(folder).join(&file);
        assert!(path.exists(), "{} is not there: build it by `cargo run -p tests --bin programs`", path.display());
        return path;
    }
    built(&folder(), &file, package, name, build)
}

/// Where built programs are put.
pub fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("programs")
}

/// Builds and copies: cargo leaves every variant under one name, and tests of several variants run at a time.
fn built(folder: &Path, file: &str, package: &str, name: &str, build: Build) -> PathBuf {
    fs::create_dir_all(folder).expect("a folder for programs");
    let lock = File::create(folder.join("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let made = build_by_cargo(package, name, build);
    let path = folder.join(file);
    if !same(&made, &path) {
        // A running copy keeps its file; the next start takes the new one.
        let fresh = folder.join(format!("{file}.new"));
        fs::copy(&made, &fresh).expect("room for a copy");
        fs::rename(&fresh, &path).expect("the same folder");
    }
    path
}

fn same(one: &Path, other: &Path) -> bool {
    let times = |path: &Path| fs::metadata(path).and_then(|meta| Ok((meta.len(), meta.modified()?)));
    matches!((times(one), times(other)), (Ok(one), Ok(other)) if one.0 == other.0 && one.1 <= other.1)
}

fn build_by_cargo(package: &str, name: &str, build: Build) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--message-format", "json", "-p", package, "--bin", name])
        .args(build.arguments());
    let output = command.current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{name} does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ours = artifacts.filter(|message| message["target"]["name"] == name && message["executable"].is_string());
    let found = ours.next().unwrap_or_else(|| panic!("cargo names no program {name}"));
    PathBuf::from(found["executable"].as_str().expect("a path"))
}
