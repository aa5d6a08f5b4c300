//! Our load generator and sink beside Postfix's smtp-source and smtp-sink, where those are to be had. By DATA: smtp-sink
//! knows no CHUNKING. Each is compared with the same partner: generators before our sink, sinks behind our generator. Ours
//! pipelines as RFC 2920 allows, the end of a body and the next envelope in one write; smtp-source knows no pipelining. What
//! ours costs with one transaction at a time stands beside it.

use super::NotHere;
use super::measured::{Bench, part};
use super::pairs::Pairs;
use crate::interrupt::Interrupt;
use crate::load::sent;
use crate::observe::monotonic;
use crate::observe::process::{Usage, usage};
use crate::plan::{Content, Pace, Part, Phase, Sink, Topology};
use crate::process::{Component, Program, Spec};
use crate::result;
use crate::run::perform;
use crate::stage::Stage;
use anyhow::{Context, bail};
use engine::wire::{Span, Tick};
use loadgen::record::State;
use loadgen::send::Outcome;
use loadgen::validity::Validity;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What generator and sink are compared by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub connections: u32,
    pub bytes: u64,
}

pub(super) const LOAD: Load = Load { connections: 50, bytes: 4096 };
/// Before anything counts.
const WARM_UP_S: f64 = 0.4;
/// smtp-sink listens within this.
const LISTEN_WAIT: Duration = Duration::from_secs(5);

/// Transactions under way on a connection, and the figures of generator and sink that it is measured for. By DATA there are
/// two at most: a body, and the envelope behind it.
const WAYS: [(u32, &str, &str); 2] = [(2, "T-load-cpu", "T-sink-cpu"), (1, "T-load-cpu-1", "T-sink-cpu-1")];

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
        let wanted = WAYS.iter().filter(|way| self.is_wanted(way.1) || self.is_wanted(way.2)).copied();
        let wanted: Vec<(u32, &'static str, &'static str)> = wanted.collect();
        let in_flight: Vec<u32> = wanted.iter().map(|way| way.0).collect();
        let pairs = self.beside_postfix(LOAD, &in_flight)?;
        for ((_, load, sink), (sources, sinks)) in wanted.into_iter().zip(pairs) {
            self.ratio(load, &sources, "µs")?;
            self.ratio(sink, &sinks, "µs")?;
        }
        Ok(())
    }

    /// CPU time for each message of smtp-source and of our generator, of smtp-sink and of our sink, in pairs: for each number
    /// of transactions under way.
    pub(super) fn beside_postfix(&mut self, load: Load, in_flight: &[u32]) -> anyhow::Result<Vec<(Pairs, Pairs)>> {
        let found = |name: &str| {
            tool(name, self.peers).ok_or_else(|| match self.peers {
                None => NotHere(format!("{name} is not here: `tests/peers/fetch DIR`, then `--peers DIR`")).into(),
                Some(folder) => {
                    anyhow::anyhow!("{name} is not below {}: `tests/peers/fetch` puts it there", folder.display())
                }
            })
        };
        let (source, sink) = (found("smtp-source")?, found("smtp-sink")?);
        let part = part(1, sink_only());
        let scratch = self.folder.scratch().join("targets-foreign");
        let mut stage = Stage::start(&part, self.folder.path(), &scratch)?;
        let mut pairs: Vec<(Pairs, Pairs)> = in_flight.iter().map(|_| Default::default()).collect();
        for _ in 0..self.effort.pairs {
            self.tell("T-load-cpu", "smtp-source, smtp-sink and ours");
            let theirs = self.smtp_source(&stage, &source, load)?;
            self.note_run("smtp-source", load, 1, &theirs, None);
            for (&in_flight, (sources, sinks)) in in_flight.iter().zip(&mut pairs) {
                let (generated, swallowed, validity) = self.ours(&mut stage, &part, load, in_flight)?;
                sources.add(theirs.cpu_us, generated, &[&validity]);
                let behind = self.smtp_sink(&stage, &part, &sink, &self.phase(load, in_flight))?;
                sinks.add(behind.cpu_us, swallowed, &[&validity]);
                self.note_run("smtp-sink", load, in_flight, &behind, None);
            }
        }
        stage.stop();
        Ok(pairs)
    }

    /// CPU time for each message of our generator and of our sink, one before the other, and whether the run is valid.
    fn ours(
        &mut self,
        stage: &mut Stage,
        part: &Part,
        load: Load,
        in_flight: u32,
    ) -> anyhow::Result<(f64, f64, Validity)> {
        self.tell("T-load-cpu", "ours");
        let ours = self.performed("T-load-cpu", stage, part, &self.phase(load, in_flight), None)?;
        let of = |kind: &str| ours.figures.cpu_us_per_message.get(kind).copied().flatten().context("no CPU time");
        let rate_per_s = ours.figures.rate.achieved_per_s.unwrap_or(0.0);
        for kind in ["loadgen", "sink"] {
            self.note_run(kind, load, in_flight, &Cost { cpu_us: of(kind)?, rate_per_s }, Some(&ours));
        }
        Ok((of("loadgen")?, of("sink")?, ours.figures.validity.clone()))
    }

    fn note_run(&mut self, what: &str, load: Load, in_flight: u32, cost: &Cost, ours: Option<&result::Phase>) {
        let Cost { cpu_us, rate_per_s } = *cost;
        self.runs.push(serde_json::json!({
            "id": "T-load-cpu", "what": what, "cpu_us_per_message": cpu_us, "rate_per_s": rate_per_s,
            "connections": load.connections, "bytes": load.bytes, "in_flight": in_flight,
            "pairs": ours.map(|run| &run.figures.pairs), "validity": ours.map(|run| &run.figures.validity),
        }));
    }

    fn phase(&self, load: Load, in_flight: u32) -> Phase {
        let content = Content::Bytes(load.bytes);
        let mut phase = Phase::new("load", "", Pace::FlatOut, load.connections, content, self.effort.seconds);
        phase.warm_up_s = WARM_UP_S;
        phase.by_data = true;
        phase.in_flight = in_flight;
        phase
    }

    /// smtp-source before our sink.
    fn smtp_source(&self, stage: &Stage, tool: &Tool, load: Load) -> anyhow::Result<Cost> {
        let to = stage.entry()?.to_string();
        let (sessions, bytes) = (load.connections.to_string(), load.bytes.to_string());
        let args =
            ["-d", "-s", &sessions, "-m", "100000000", "-l", &bytes, "-f", "a@load.test", "-t", "user1@sink.test"];
        let mut source = self.start(stage, "smtp-source", tool, &[&args[..], &[&to]].concat())?;
        // The sink takes its time to answer: both ends are alike in it.
        let look = |source: &Component| anyhow::Ok((stage.sink_messages()?, Mark::of(source)?));
        wait(self.interrupt, WARM_UP_S)?;
        let (from, before) = look(&source)?;
        wait(self.interrupt, self.effort.seconds)?;
        let (until, after) = look(&source)?;
        if let Some(death) = source.death() {
            return Err(death.into());
        }
        let messages = until.saturating_sub(from);
        if messages == 0 {
            bail!("smtp-source sent nothing");
        }
        Ok(before.cost(&after, messages))
    }

    /// smtp-sink behind our generator.
    fn smtp_sink(&mut self, stage: &Stage, part: &Part, tool: &Tool, phase: &Phase) -> anyhow::Result<Cost> {
        self.tell("T-sink-cpu", "smtp-sink");
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
        let around = self.around();
        let mut spec = perform::spec_of(stage, part, phase, None, &around)?;
        spec.target = at;
        let mut sender = perform::start_sender(stage, &spec, &around)?;
        let started = perform::started_at(&sender)?;
        let mark = |after_s: f64| {
            self.interrupt.wait_until(perform::instant_of(started + Span::micros((after_s * 1e6) as u64)))?;
            Mark::of(&sink)
        };
        let (before, after) = (mark(phase.warm_up_s)?, mark(phase.length_s())?);
        perform::await_sender(&mut sender)?;
        let messages = answered(&sent::read(&spec.record, &spec)?, before.at, after.at);
        if messages == 0 {
            bail!("smtp-sink took nothing");
        }
        Ok(before.cost(&after, messages))
    }

    fn start(&self, stage: &Stage, name: &str, tool: &Tool, args: &[&str]) -> anyhow::Result<Component> {
        let mut all = vec![tool.libraries.clone(), tool.program.display().to_string()];
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        let spec =
            Spec { name: name.into(), program: Program::Foreign, cores: stage.placement().load.clone(), args: all };
        Ok(Component::start(&spec, self.folder.path())?)
    }
}

/// What a process had used at a moment.
struct Mark {
    at: Tick,
    usage: Usage,
}

impl Mark {
    fn of(component: &Component) -> anyhow::Result<Self> {
        let usage = usage(component.pid()).context("a foreign tool ended")?;
        Ok(Self { at: monotonic(), usage })
    }

    /// What `messages` between this moment and `later` cost each.
    fn cost(&self, later: &Self, messages: u64) -> Cost {
        let seconds = later.at.since(self.at).as_secs_f64();
        Cost {
            cpu_us: later.usage.cpu_us_since(&self.usage) as f64 / messages as f64,
            rate_per_s: messages as f64 / seconds,
        }
    }
}

/// Messages whose 250 was read between two moments.
fn answered(outcome: &Outcome, from: Tick, until: Tick) -> u64 {
    let accepted = outcome.all_records().filter(|record| record.state == State::Accepted);
    accepted.filter(|record| (from..until).contains(&(outcome.started + record.answered()))).count() as u64
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
