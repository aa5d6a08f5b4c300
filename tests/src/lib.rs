//! What the whole-process tests share.

#![forbid(unsafe_code)]

pub mod chance;
pub mod corpus;
pub mod descriptors;
pub mod ledger;
pub mod peers;
pub mod process;
pub mod programs;
pub mod script;
pub mod senders;
pub mod server;
pub mod sink;
pub mod small_disk;
pub mod source;
pub mod talk;
pub mod wait;

/// Says that the test `name` cannot run here, and why. The calling test returns at once; `tests/run` counts it as skipped
/// and not as passed.
///
/// # Panics
/// When the file that collects this cannot be written.
pub fn skip(name: &str, why: &str) {
    use std::io::Write;
    eprintln!("skipped {name}: {why}");
    let Some(path) = std::env::var_os("RINGPOST_TEST_SKIPS") else { return };
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    writeln!(file.expect("the list of skipped tests"), "{name}: {why}").expect("the list of skipped tests");
}
