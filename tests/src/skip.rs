//! Tests that cannot run where they are. Tests of other crates reach this file by its path, and use what they need of it.

#![allow(dead_code, reason = "each crate that reaches this file uses a part of it")]

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};

/// Says that the test `name` cannot run here, and why. The calling test returns at once; `tests/run` counts it as skipped
/// and not as passed.
///
/// # Panics
/// When the file that collects this cannot be written.
pub fn skip(name: &str, why: &str) {
    note(&format!("{name}: {why}"));
}

/// The same of a part of a test that runs on without it: `tests/run` counts the part as skipped, and the test as what it is.
///
/// # Panics
/// As [`skip`].
pub fn skip_part(name: &str, why: &str) {
    note(&format!("(part) {name}: {why}"));
}

fn note(line: &str) {
    eprintln!("skipped {line}");
    let Some(path) = std::env::var_os("RINGPOST_TEST_SKIPS") else { return };
    let file = OpenOptions::new().append(true).create(true).open(path);
    writeln!(file.expect("the list of skipped tests"), "{line}").expect("the list of skipped tests");
}

/// For a test that asked for a driver: where the kernel refuses io_uring (a sysctl, a container, an old one) the test is
/// skipped under its thread's name, which is the test's.
///
/// # Panics
/// When the driver did not start for another reason.
pub fn unless_refused(ran: io::Result<()>) {
    match ran {
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
            skip(std::thread::current().name().unwrap_or("a test"), &format!("io_uring is refused: {error}"));
        }
        ran => ran.expect("the driver starts"),
    }
}
