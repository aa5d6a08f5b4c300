//! `component send -- SPEC`: a sender as a process of ours. It says `ready` with the moment at which its schedule starts,
//! runs it, writes down what it sent, and ends; SIGTERM ends the schedule early.

use super::{SendSpec, sent};
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::process::child::say;
use anyhow::Context;
use loadgen::send::SendHandle;
use std::time::{Duration, Instant};

const TELL_EVERY: Duration = Duration::from_secs(1);

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
    let teller = running.handle();
    std::thread::Builder::new().name("progress".into()).spawn(move || tell(&teller))?;
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

/// Says once a second how many messages ended in it, and how many are under way, until the process ends.
fn tell(sender: &SendHandle) {
    let (mut before, mut since) = (0, Instant::now());
    loop {
        std::thread::park_timeout(TELL_EVERY.saturating_sub(since.elapsed()));
        let elapsed = since.elapsed();
        if elapsed < TELL_EVERY {
            continue;
        }
        let progress = sender.progress();
        let ended = progress.due.saturating_sub(progress.open);
        let per_s = ended.saturating_sub(before) as f64 / elapsed.as_secs_f64();
        (before, since) = (ended, Instant::now());
        // Nobody reads it when we are to end.
        if say(&serde_json::json!({ "per_s": per_s, "open": progress.open }).to_string()).is_err() {
            return;
        }
    }
}
