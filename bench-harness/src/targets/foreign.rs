//! Our load generator and sink beside Postfix's smtp-source and smtp-sink, where those are to be had. By DATA: smtp-sink
//! knows no CHUNKING. Each is compared with the same partner: generators before our sink, sinks behind our generator.

use super::measured::{Bench, part};
use crate::interrupt::Interrupt;
use crate::load::sent;
use crate::observe::process::usage;
use crate::plan::{Content, Pace, Phase, Sink, Topology};
use crate::process::{Component, Program, Spec};
use crate::run::perform;
use crate::stage::Stage;
use anyhow::{Context, bail};
use loadgen::record::State;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CONNECTIONS: u32 = 50;
const BYTES: u64 = 4096;
/// Before anything counts.
const WARM_UP_S: f64 = 0.4;
/// smtp-sink listens within this.
const LISTEN_WAIT: Duration = Duration::from_secs(5);

/// A program of Postfix's, with the folders of its libraries.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tool {
    program: PathBuf,
    libraries: String,
}

/// Finds `name` in a folder that `tests/peers/fetch` has filled, else where the system has it.
fn tool(name: &str, peers: Option<&Path>) -> Option<Tool> {
    let unpacked = peers.map(|folder| {
        let root = folder.join("root");
        let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
        let libraries = ["usr/lib/postfix".to_owned(), format!("usr/lib/{machine}"), format!("lib/{machine}")];
        let libraries: Vec<String> = libraries.iter().map(|below| root.join(below).display().to_string()).collect();
        Tool { program: root.join("usr/sbin").join(name), libraries: libraries.join(":") }
    });
    let installed = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"]
        .map(|folder| Tool { program: Path::new(folder).join(name), libraries: String::new() });
    unpacked.into_iter().chain(installed).find(|tool| tool.program.is_file())
}

/// CPU time of a process for each message, and messages a second.
struct Cost {
    cpu_us: f64,
    rate_per_s: f64,
}

impl Bench<'_> {
    pub(super) fn foreign(&mut self) -> anyhow::Result<()> {
        let missing = |name: &str| format!("{name} is not here: `tests/peers/fetch DIR`, then `--peers DIR`");
        let source = tool("smtp-source", self.peers).with_context(|| missing("smtp-source"))?;
        let sink = tool("smtp-sink", self.peers).with_context(|| missing("smtp-sink"))?;
        let part = part(1, sink_only());
        let scratch = self.folder.scratch().join("targets-foreign");
        let mut stage = Stage::start(&part, self.folder.path(), &scratch)?;
        let (mut sources, mut sinks) = (Vec::new(), Vec::new());
        for _ in 0..self.effort.pairs {
            self.tell("T-load-cpu", "smtp-source, smtp-sink and ours");
            let ours = perform::perform(&mut stage, &part, &self.phase(), None, &self.around())?.phase;
            let of = |kind: &str| ours.figures.cpu_us_per_message.get(kind).copied().flatten();
            let (load, swallowed) = (of("loadgen").context("no CPU time")?, of("sink").context("no CPU time")?);
            let theirs = self.smtp_source(&stage, &source)?;
            sources.push((theirs.cpu_us, load));
            self.note_run("smtp-source", &theirs);
            let theirs = self.smtp_sink(&stage, &part, &sink)?;
            sinks.push((theirs.cpu_us, swallowed));
            self.note_run("smtp-sink", &theirs);
            let rate_per_s = ours.figures.rate.achieved_per_s.unwrap_or(0.0);
            self.note_run("loadgen", &Cost { cpu_us: load, rate_per_s });
            self.note_run("sink", &Cost { cpu_us: swallowed, rate_per_s });
        }
        stage.stop();
        self.ratio("T-load-cpu", &sources, "µs")?;
        self.ratio("T-sink-cpu", &sinks, "µs")
    }

    fn note_run(&mut self, what: &str, cost: &Cost) {
        let (cpu_us, rate_per_s) = (cost.cpu_us, cost.rate_per_s);
        self.runs.push(serde_json::json!({
            "id": "T-load-cpu", "what": what, "cpu_us_per_message": cpu_us, "rate_per_s": rate_per_s,
            "connections": CONNECTIONS, "bytes": BYTES,
        }));
    }

    fn phase(&self) -> Phase {
        let content = Content::Bytes(BYTES);
        let mut phase = Phase::new("load", "", Pace::FlatOut, CONNECTIONS, content, self.effort.seconds);
        phase.warm_up_s = WARM_UP_S;
        phase.by_data = true;
        phase
    }

    /// smtp-source before our sink.
    fn smtp_source(&self, stage: &Stage, tool: &Tool) -> anyhow::Result<Cost> {
        let to = stage.entry()?.to_string();
        let (sessions, bytes) = (CONNECTIONS.to_string(), BYTES.to_string());
        let args =
            ["-d", "-s", &sessions, "-m", "100000000", "-l", &bytes, "-f", "a@load.test", "-t", "user1@sink.test"];
        let mut source = self.start(stage, "smtp-source", tool, &[&args[..], &[&to]].concat())?;
        let taken = || stage.sink_messages();
        let used = |source: &Component| usage(source.pid()).context("smtp-source ended");
        wait(self.interrupt, WARM_UP_S)?;
        let (from, before, began) = (taken()?, used(&source)?, Instant::now());
        wait(self.interrupt, self.effort.seconds)?;
        let (until, after, took) = (taken()?, used(&source)?, began.elapsed());
        if let Some(death) = source.death() {
            return Err(death.into());
        }
        let messages = until.saturating_sub(from);
        if messages == 0 {
            bail!("smtp-source sent nothing");
        }
        let cpu_us = after.cpu_us_since(&before) as f64 / messages as f64;
        Ok(Cost { cpu_us, rate_per_s: messages as f64 / took.as_secs_f64() })
    }

    /// smtp-sink behind our generator.
    fn smtp_sink(&mut self, stage: &Stage, part: &crate::plan::Part, tool: &Tool) -> anyhow::Result<Cost> {
        let at = free_port()?;
        let to = at.to_string();
        // As root it asks for a user. Another one would free it from dying with us.
        let user: &[&str] = if rustix::process::geteuid().is_root() { &["-u", "root"] } else { &[] };
        let sink = self.start(stage, "smtp-sink", tool, &[user, &[&to, "1000"]].concat())?;
        let until = Instant::now() + LISTEN_WAIT;
        while TcpStream::connect_timeout(&at, LISTEN_WAIT).is_err() {
            if Instant::now() > until {
                bail!("smtp-sink does not listen on {at}");
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let phase = self.phase();
        let around = self.around();
        let mut spec = perform::spec_of(stage, part, &phase, None, &around)?;
        spec.target = at;
        let mut sender = perform::start_sender(stage, &spec, &around)?;
        let used = || usage(sink.pid()).context("smtp-sink ended");
        wait(self.interrupt, WARM_UP_S)?;
        let before = used()?;
        wait(self.interrupt, self.effort.seconds)?;
        let after = used()?;
        perform::await_sender(&mut sender)?;
        let outcome = sent::read(&spec.record, &spec)?;
        let done = outcome
            .all_records()
            .filter(|record| record.state == State::Accepted && record.intended() >= outcome.warm_up);
        let messages = done.count();
        if messages == 0 {
            bail!("smtp-sink took nothing");
        }
        let cpu_us = after.cpu_us_since(&before) as f64 / messages as f64;
        Ok(Cost { cpu_us, rate_per_s: messages as f64 / self.effort.seconds })
    }

    fn start(&self, stage: &Stage, name: &str, tool: &Tool, args: &[&str]) -> anyhow::Result<Component> {
        let mut all = vec![tool.libraries.clone(), tool.program.display().to_string()];
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        let spec =
            Spec { name: name.into(), program: Program::Foreign, cores: stage.placement().load.clone(), args: all };
        Ok(Component::start(&spec, self.folder.path())?)
    }
}

fn wait(interrupt: &Interrupt, seconds: f64) -> anyhow::Result<()> {
    Ok(interrupt.wait_until(Instant::now() + Duration::from_secs_f64(seconds))?)
}

fn sink_only() -> Topology {
    let sinks = vec![Sink { name: "sink".into(), chunking: false }];
    Topology { sinks, servers: Vec::new(), entry: "sink".into(), mailbox_every: 0 }
}

fn free_port() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_taken_from_where_it_was_unpacked() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().join("root/usr/sbin");
        std::fs::create_dir_all(&place).expect("made");
        assert_eq!(tool("smtp-nothing", Some(folder.path())), None);
        std::fs::write(place.join("smtp-nothing"), "").expect("written");
        let found = tool("smtp-nothing", Some(folder.path())).expect("unpacked");
        assert_eq!(found.program, place.join("smtp-nothing"));
        assert!(found.libraries.contains("root/usr/lib/postfix:"), "{}", found.libraries);
    }
}
