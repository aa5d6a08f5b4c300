//! `ringbench pump`: the raw byte pump, the floor that a hub is compared with. It receives, commits and sends on the same
//! octets without mail (engine::shell::pump has the data path); here are its processes and its measurement.
//!
//! The relay is one process on the engine's cores; source and sink are one process on the load's.

mod component;

pub use component::main as component_main;

use crate::folder::ResultFolder;
use crate::interrupt::{Interrupt, Interrupted};
use crate::observe::host;
use crate::observe::process::{Usage, usage};
use crate::process::placement::Placement;
use crate::process::{Component, ComponentError, Program, Spec};
use crate::result::{Figures, Latency, Messages, Phase, Rate, RunResult};
use crate::run::measure::CORES_BUSY;
use anyhow::Context;
use loadgen::validity::Validity;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

/// The `scenario` of a pump's plan and result.
pub const PUMP: &str = "pump";

/// What to pump.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PumpPlan {
    /// [`PUMP`], which tells its file from those of other plans.
    pub scenario: String,
    /// Connections of the source.
    pub connections: usize,
    /// Octets of a frame.
    pub frame_bytes: usize,
    /// Measured time, behind a warm-up of a fifth of it.
    pub seconds: f64,
    /// `none`, `os` or `disk`.
    pub durability: String,
    /// As `--driver` spells it.
    pub driver: String,
    /// Threads of the relay.
    pub shards: usize,
    /// Whether the sink answers each frame, and the relay holds it until then.
    pub answers: bool,
    /// One frame per write, over so many connections of each thread, each frame answered before the next leaves;
    /// `None`: all that are there in one write.
    pub one_per_write: Option<usize>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PumpFigures {
    /// Frames acknowledged per second.
    pub rate_per_s: f64,
    /// User and system time of the relay for each.
    pub relay_cpu_us: f64,
    /// Of source and sink together.
    pub load_cpu_us: f64,
    /// Service time: from sending a frame to its acknowledgement, microseconds. The loop is closed, a frame leaves when the one
    /// before it was answered, so there is no response time.
    pub service_us: crate::result::Quantiles,
    /// The driver in use.
    pub driver: String,
    /// `direct` or `buffered`; `None` where nothing is written.
    pub commit: Option<String>,
    /// What an acknowledgement meant.
    pub durability: String,
    /// As the plan's.
    pub answers: bool,
    /// As the plan's.
    pub one_per_write: Option<usize>,
    /// Frames counted.
    pub frames: u64,
}

/// What the source process prints when it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SourceReport {
    service_us: crate::result::Quantiles,
}

/// A mark that the source process prints: frames answered so far, at the end of warm-up and of the measured time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Mark {
    answered: u64,
    at_us: u64,
}

/// Runs the pump once. `folder` takes its processes' stderr, and its log while it runs.
///
/// # Errors
/// A component does not start or dies, or the folder cannot be used.
pub fn run(plan: &PumpPlan, folder: &ResultFolder, interrupt: &Interrupt) -> anyhow::Result<PumpFigures> {
    let placement = Placement::here(plan.shards);
    let data =
        tempfile::Builder::new().prefix("pump-").tempdir_in(folder.scratch()).context("making the pump's folder")?;
    let (relay_at, sink_at) = (free_port()?, free_port()?);
    let load = Spec {
        name: "pump-load".into(),
        program: Program::Pump,
        cores: placement.load,
        args: load_args(plan, relay_at, sink_at),
    };
    let relay = Spec {
        name: "pump".into(),
        program: Program::Pump,
        cores: placement.engine,
        args: relay_args(plan, relay_at, sink_at, data.path()),
    };
    // The sink listens before the relay connects; the source waits for the relay.
    let mut load = Component::start(&load, folder.path())?;
    let mut relay = Component::start(&relay, folder.path())?;
    let measured = measure(&mut load, &relay, plan, interrupt);
    // What the source complains of then is the relay's death.
    if let Some(death) = relay.death() {
        return Err(death.into());
    }
    let (began, ended, before, after, report) = measured?;
    let frames = ended.answered - began.answered;
    let per_frame =
        |before: Option<Usage>, after: Option<Usage>| Some(after?.cpu_us_since(&before?) as f64 / frames.max(1) as f64);
    Ok(PumpFigures {
        rate_per_s: frames as f64 * 1e6 / (ended.at_us - began.at_us).max(1) as f64,
        relay_cpu_us: per_frame(before.0, after.0).context("the relay's CPU time cannot be read")?,
        load_cpu_us: per_frame(before.1, after.1).context("the source's CPU time cannot be read")?,
        service_us: report.service_us,
        driver: relay.said("driver").unwrap_or_default(),
        commit: relay.said("commit"),
        durability: plan.durability.clone(),
        answers: plan.answers,
        one_per_write: plan.one_per_write,
        frames,
    })
}

/// A pump's figures as `result.json` has those of every run: a frame stands for a message, the relay for the engine.
///
/// `started` is when it began, by the wall clock; `folder` where it ran.
pub fn result(plan: &PumpPlan, found: &PumpFigures, started: jiff::Timestamp, folder: &Path) -> RunResult {
    let placement = Placement::here(plan.shards);
    let mut reasons = Vec::new();
    if found.frames == 0 {
        reasons.push("no frame was acknowledged".to_owned());
    }
    if cfg!(debug_assertions) {
        reasons.push(crate::DEBUG_BUILD.to_owned());
    }
    let cpu = [("pump", found.relay_cpu_us), ("loadgen", found.load_cpu_us)];
    let figures = Figures {
        rate: Rate { offered_per_s: None, achieved_per_s: Some(found.rate_per_s) },
        messages: Messages { intended: found.frames, accepted: found.frames },
        latency_us: Latency { service: found.service_us, ..Latency::default() },
        cpu_us_per_message: cpu.map(|(kind, us)| (kind.to_owned(), Some(us))).into(),
        validity: Validity::from_reasons(reasons),
        limited_by: limited_by(plan, found, &placement).map(str::to_owned),
        ..Figures::default()
    };
    let phase = Phase {
        name: "pump".into(),
        about: "Frames of octets, received, committed and sent on without mail.".into(),
        saturating: true,
        seconds: plan.seconds,
        size_bytes: Some(plan.frame_bytes as u64),
        figures: figures.clone(),
        ..Phase::default()
    };
    RunResult {
        scenario: PUMP.into(),
        phases: vec![phase],
        durability: found.durability.clone(),
        main: figures,
        driver: found.driver.clone(),
        commit: found.commit.clone(),
        profile: "bench".into(),
        placement: placement.describe(),
        way: "source → pump → sink".into(),
        ..RunResult::begun(started, host::here(folder))
    }
}

/// What kept it from being faster: who had no time left on his cores, or, where both share one, used more of what they have;
/// `None` where both had (the disk, or waiting for each other).
fn limited_by(plan: &PumpPlan, found: &PumpFigures, placement: &Placement) -> Option<&'static str> {
    let (load_us, relay_us) = (found.load_cpu_us, found.relay_cpu_us);
    let is_busy = |cpu_us: f64, cores: usize| cpu_us * found.rate_per_s / 1e6 > CORES_BUSY * cores.max(1) as f64;
    let Placement { engine, load } = placement;
    let of_load_alone = load.iter().filter(|core| !engine.contains(core)).count();
    // Nothing is pinned where there is one core.
    let is_shared = engine.is_empty() || of_load_alone < load.len();
    match () {
        () if is_busy(load_us, load.len()) => Some("generator"),
        () if is_busy(relay_us, engine.len().min(plan.shards)) => Some("engine"),
        () if is_shared && is_busy(load_us + relay_us, engine.len() + of_load_alone) => {
            Some(if load_us > relay_us { "generator" } else { "engine" })
        }
        () => None,
    }
}

type UsageOfBoth = (Option<Usage>, Option<Usage>);

fn measure(
    load: &mut Component,
    relay: &Component,
    plan: &PumpPlan,
    interrupt: &Interrupt,
) -> anyhow::Result<(Mark, Mark, UsageOfBoth, UsageOfBoth, SourceReport)> {
    let began = await_line(load, plan, interrupt)?;
    let before = (usage(relay.pid()), usage(load.pid()));
    let ended = await_line(load, plan, interrupt)?;
    let after = (usage(relay.pid()), usage(load.pid()));
    Ok((began, ended, before, after, await_line(load, plan, interrupt)?))
}

fn relay_args(plan: &PumpPlan, listen: SocketAddr, sink: SocketAddr, folder: &Path) -> Vec<String> {
    let mut args = ["relay", "--listen", &listen.to_string(), "--sink", &sink.to_string()].map(str::to_owned).to_vec();
    args.extend(["--size".into(), plan.frame_bytes.to_string(), "--durability".into(), plan.durability.clone()]);
    args.extend(["--driver".into(), plan.driver.clone(), "--shards".into(), plan.shards.to_string()]);
    args.extend(["--folder".into(), folder.display().to_string()]);
    args.extend((!plan.answers).then(|| "--no-answers".to_owned()));
    args.extend(plan.one_per_write.map(|connections| format!("--one-per-write={connections}")));
    args
}

fn load_args(plan: &PumpPlan, target: SocketAddr, sink: SocketAddr) -> Vec<String> {
    let mut args = ["load", "--target", &target.to_string(), "--listen", &sink.to_string()].map(str::to_owned).to_vec();
    args.extend(["--size".into(), plan.frame_bytes.to_string(), "-c".into(), plan.connections.to_string()]);
    args.extend(["--seconds".into(), plan.seconds.to_string(), "--driver".into(), plan.driver.clone()]);
    args.extend((!plan.answers).then(|| "--no-answers".to_owned()));
    args
}

fn await_line<T: for<'a> Deserialize<'a>>(
    load: &mut Component,
    plan: &PumpPlan,
    interrupt: &Interrupt,
) -> anyhow::Result<T> {
    let patience = Duration::from_secs_f64(plan.seconds * 2.0 + 20.0);
    let Some(line) = load.line(patience, interrupt) else {
        if interrupt.asked() {
            return Err(Interrupted.into());
        }
        load.wait(Duration::from_secs(1));
        let silent = ComponentError::Silent { name: load.name().to_owned(), waited: patience, tail: String::new() };
        return Err(load.death().unwrap_or(silent).into());
    };
    serde_json::from_str(&line).with_context(|| format!("the pump's source said `{line}`"))
}

/// A port of loopback that was free a moment ago: shards that share a port need its number beforehand.
fn free_port() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_time_left_limits_a_pump() {
        let plan = PumpPlan {
            scenario: PUMP.into(),
            connections: 50,
            frame_bytes: 4096,
            seconds: 1.0,
            durability: "disk".into(),
            driver: "auto".into(),
            shards: 1,
            answers: true,
            one_per_write: None,
        };
        // 100 000 frames a second: 10 µs of each is a core.
        let limited_on = |cores: &[usize], shards, relay_cpu_us, load_cpu_us| {
            let found = PumpFigures {
                rate_per_s: 100_000.0,
                relay_cpu_us,
                load_cpu_us,
                service_us: crate::result::Quantiles::default(),
                driver: "uring".into(),
                commit: None,
                durability: "disk".into(),
                answers: true,
                one_per_write: None,
                frames: 1,
            };
            limited_by(&PumpPlan { shards, ..plan.clone() }, &found, &Placement::of(cores, shards))
        };
        let limited = |relay_cpu_us, load_cpu_us| limited_on(&[0, 1, 2], 1, relay_cpu_us, load_cpu_us);
        assert_eq!(limited(9.0, 5.0), Some("engine"), "one shard has one core");
        assert_eq!(limited(9.0, 9.0), Some("generator"));
        assert_eq!(limited(5.0, 5.0), None);
        assert_eq!(limited_on(&[0], 1, 4.0, 5.5), Some("generator"), "they share the one that there is");
        assert_eq!(limited_on(&[0], 1, 3.0, 2.0), None);
        assert_eq!(limited_on(&[0, 1], 2, 12.0, 7.0), Some("engine"), "both are full");
        assert_eq!(limited_on(&[0, 1], 2, 8.0, 7.0), None);
    }
}
