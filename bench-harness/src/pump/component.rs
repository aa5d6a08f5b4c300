//! The pump's own processes: `component pump -- relay …` and `component pump -- load …`.

use super::{Mark, SourceReport};
use crate::exit::{Exit, UsageError};
use crate::process::child::say;
use crate::result::Quantiles;
use crate::stats::percentile;
use anyhow::Context;
use clap::{Args, Parser};
use engine::io::choice::DriverChoice;
use engine::io::driver::Stable;
use engine::io::launch::{Launch, launch};
use engine::shell::pump::{Form, PATIENCE, Pump, PumpError, PumpOptions, PumpSink, PumpSource};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

#[derive(Debug, Parser)]
#[command(name = "pump", no_binary_name = true)]
enum Part {
    Relay(Relay),
    Load(Load),
}

#[derive(Debug, Args)]
struct Relay {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    sink: SocketAddr,
    #[arg(long)]
    size: usize,
    #[arg(long)]
    durability: String,
    #[arg(long)]
    driver: DriverChoice,
    #[arg(long)]
    shards: usize,
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    no_answers: bool,
    #[arg(long)]
    one_per_write: Option<usize>,
}

#[derive(Debug, Args)]
struct Load {
    #[arg(long)]
    target: SocketAddr,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    size: usize,
    #[arg(short)]
    connections: usize,
    #[arg(long)]
    seconds: f64,
    #[arg(long)]
    driver: DriverChoice,
    #[arg(long)]
    no_answers: bool,
}

/// Runs one of them.
///
/// # Errors
/// The driver that was named is refused, or the partner does not answer.
pub fn main(args: &[String]) -> anyhow::Result<Exit> {
    match Part::try_parse_from(args).map_err(|error| UsageError(error.to_string()))? {
        Part::Relay(relay) => run_relay(relay),
        Part::Load(load) => run_load(&load),
    }
}

fn run_relay(relay: Relay) -> anyhow::Result<Exit> {
    let (folder, stable) = match relay.durability.as_str() {
        "none" => (None, Stable::No),
        "os" => (Some(relay.folder), Stable::No),
        "disk" => (Some(relay.folder), Stable::Yes),
        other => return Err(UsageError(format!("durability {other}: none, os or disk")).into()),
    };
    let (trouble, told) = channel();
    let options = PumpOptions {
        listen: relay.listen,
        sink: relay.sink,
        frame_bytes: relay.size,
        form: relay.one_per_write.map_or(Form::Batched, |connections| Form::OnePerWrite { connections }),
        answers: !relay.no_answers,
        folder,
        stable,
        patience: PATIENCE,
        trouble,
    };
    // A log that is to be stable is opened past the page cache, or not at all.
    let commit = options.folder.is_some().then_some(if stable == Stable::Yes { "direct" } else { "buffered" });
    let choice = Launch { driver: relay.driver, cores: vec![None; relay.shards] };
    let running = launch(&choice, Pump(Arc::new(options)))?;
    await_listener(relay.listen, &told)?;
    let ready = serde_json::json!({ "listen": [relay.listen.to_string()], "driver": running.driver, "commit": commit });
    say(&format!("ready {ready}"))?;
    // It ends by an error or by being killed: our harness decides when the run is over.
    match told.recv() {
        Ok(error) => Err(error.into()),
        Err(_) => Ok(running.join().map(|()| Exit::Good)?),
    }
}

fn run_load(load: &Load) -> anyhow::Result<Exit> {
    let one = Launch { driver: load.driver, cores: vec![None] };
    let (trouble, told) = channel();
    let sink = PumpSink {
        listen: load.listen,
        frame_bytes: load.size,
        answers: !load.no_answers,
        received_bytes: Arc::default(),
        trouble: trouble.clone(),
    };
    let _sink = launch(&one, sink)?;
    await_listener(load.listen, &told)?;
    say(&format!("ready {}", serde_json::json!({ "listen": [load.listen.to_string()] })))?;
    await_listener(load.target, &told)?;
    let (answered, stop): (Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
    let source = PumpSource {
        target: load.target,
        connections: load.connections,
        frame_bytes: load.size,
        answered: answered.clone(),
        stop: stop.clone(),
        latency_us: Arc::default(),
        trouble,
    };
    let latency_us = source.latency_us.clone();
    let began = Instant::now();
    let running = launch(&one, source)?;
    let mark = || Mark { answered: answered.load(Ordering::Relaxed), at_us: began.elapsed().as_micros() as u64 };
    for at in [load.seconds * 0.2, load.seconds * 1.2] {
        let left = Duration::from_secs_f64(at).saturating_sub(began.elapsed());
        // Told nothing: the time is over, and all is well.
        if let Ok(error) = told.recv_timeout(left) {
            return Err(error.into());
        }
        say(&serde_json::to_string(&mark())?)?;
    }
    stop.store(true, Ordering::Relaxed);
    running.join()?;
    if let Ok(error) = told.try_recv() {
        return Err(error.into());
    }
    let mut times = std::mem::take(&mut *latency_us.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    times.sort_unstable();
    let at = |p| percentile(&times, p).map(f64::from);
    let service_us = Quantiles { p50: at(50.0), p90: at(90.0), p99: at(99.0), p999: at(99.9), max: at(100.0) };
    say(&serde_json::to_string(&SourceReport { service_us })?)?;
    Ok(Exit::Good)
}

/// Waits until something accepts at `address`. The one place that polls: a listener of another process says nothing.
fn await_listener(address: SocketAddr, told: &Receiver<PumpError>) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > until => {
                return Err(error).with_context(|| format!("nobody listens on {address}"));
            }
            Err(_) => {
                if let Ok(error) = told.recv_timeout(Duration::from_millis(5)) {
                    return Err(error.into());
                }
            }
        }
    }
}
