//! `component send -- SPEC`: a sender as a process of ours. It says `ready` with the moment at which its schedule starts,
//! runs it, writes down what it sent, and ends; SIGTERM ends the schedule early.

use super::{SendSpec, sent};
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::process::child::say;
use anyhow::Context;
use std::time::{Duration, Instant};

/// Runs it.
///
/// # Errors
/// The specification cannot be followed, the target cannot be reached, or the record cannot be written.
pub fn main(args: &[String]) -> anyhow::Result<Exit> {
    let path = args.first().context("a sender needs the file that says what to send")?;
    let text = std::fs::read(path).with_context(|| format!("reading {path}"))?;
    let spec: SendSpec = serde_json::from_slice(&text).with_context(|| format!("reading {path}"))?;
    let interrupt = Interrupt::watch(|| {});
    let running = loadgen::send::start(spec.options()?)?;
    say(&format!("ready {}", serde_json::json!({ "started_ns": running.started.0, "driver": running.driver })))?;
    let handle = running.handle();
    let never = Instant::now() + Duration::from_secs(24 * 3600);
    std::thread::Builder::new().name("stop".into()).spawn(move || {
        if interrupt.wait_until(never).is_err() {
            handle.stop();
        }
    })?;
    let outcome = running.finish()?;
    sent::write(&spec.record, &outcome).with_context(|| format!("writing {}", spec.record.display()))?;
    Ok(Exit::Good)
}
