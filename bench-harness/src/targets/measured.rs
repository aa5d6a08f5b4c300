//! The runs behind the targets.

use super::{Effort, Findings, Found};
use crate::folder::ResultFolder;
use crate::interrupt::Interrupt;
use crate::observe::host::Host;
use crate::observe::process::resident_bytes;
use crate::plan::{Content, Engine, Fault, Pace, Part, Phase, Role, Server, Sink, Topology};
use crate::progress::Progress;
use crate::pump::{self, PumpPlan};
use crate::result;
use crate::run::perform::{Around, perform};
use crate::stage::Stage;
use crate::stats::{Ratio, median};
use anyhow::Context;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Idle connections to be opened: below the usual limit of descriptors.
const IDLE_CONNECTIONS: usize = 800;
/// Messages left in a queue, twice: their difference is what they take.
const QUEUED_MESSAGES: f64 = 20_000.0;

/// One hub hop to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Hop {
    connections: u32,
    bytes: u64,
    by_data: bool,
    shards: usize,
}

const HOP: Hop = Hop { connections: 50, bytes: 4096, by_data: false, shards: 1 };

/// Does the runs.
pub struct Bench<'a> {
    effort: Effort,
    folder: &'a ResultFolder,
    interrupt: &'a Interrupt,
    progress: &'a Progress,
    number: u32,
    findings: Findings,
}

impl<'a> Bench<'a> {
    /// Nothing is measured yet.
    pub fn new(effort: &Effort, folder: &'a ResultFolder, interrupt: &'a Interrupt, progress: &'a Progress) -> Self {
        Self { effort: *effort, folder, interrupt, progress, number: 0, findings: Findings::new() }
    }

    /// Measures what is wanted; each group of targets that one series of runs tells.
    pub fn findings(&mut self, wanted: impl Fn(&str) -> bool) -> Findings {
        let any = |ids: &[&'static str]| ids.iter().any(|id| wanted(id));
        type Step<'b> = (&'static [&'static str], fn(&mut Bench<'b>) -> anyhow::Result<()>, bool);
        let steps: [Step<'a>; 8] = [
            (&["T-hop-4k-50", "T-syscalls-50", "T-copies-4k", "T-alloc-4k"], |b| b.hop_4k_50(), true),
            (&["T-hop-4k-256", "T-syscalls-256"], |b| b.hop_4k_256(), true),
            (&["T-hop-100k-50", "T-copies-100k"], |b| b.hop_100k(), true),
            (&["T-hop-data-4k-50"], |b| b.hop_data(), false),
            (&["T-ack-p99"], |b| b.acknowledgement(), true),
            (&["T-outage-next-hop", "T-lost-next-hop"], |b| b.outage("next-hop"), true),
            (&["T-outage-hub", "T-lost-hub"], |b| b.outage("hub"), true),
            (&["T-shards-2", "T-mem-idle", "T-mem-queued"], |b| b.slow_ones(), false),
        ];
        for (ids, step, is_quick) in steps {
            if !any(ids) || self.interrupt.asked() || !(is_quick || self.effort.everything) {
                continue;
            }
            self.progress.say(ids[0]);
            if let Err(error) = step(self) {
                let why = format!("{error:#}");
                ids.iter().for_each(|id| {
                    self.findings.entry(id).or_insert_with(|| Err(why.clone()));
                });
            }
        }
        std::mem::take(&mut self.findings)
    }

    fn found(&mut self, id: &'static str, value: f64, note: String) {
        self.findings.insert(id, Ok(Found { value, note, invalid: false }));
    }

    fn hop_4k_50(&mut self) -> anyhow::Result<()> {
        let phase = self.against_pump("T-hop-4k-50", HOP)?;
        self.counted("T-syscalls-50", &phase.figures.syscalls_per_message, 1.0);
        self.copies("T-copies-4k", &phase.figures.copied_bytes_per_message, 4096.0);
        self.counted("T-alloc-4k", &phase.figures.allocations_per_message, 1.0);
        Ok(())
    }

    fn hop_4k_256(&mut self) -> anyhow::Result<()> {
        let phase = self.against_pump("T-hop-4k-256", Hop { connections: 256, ..HOP })?;
        self.counted("T-syscalls-256", &phase.figures.syscalls_per_message, 1.0);
        Ok(())
    }

    fn hop_100k(&mut self) -> anyhow::Result<()> {
        let phase = self.against_pump("T-hop-100k-50", Hop { bytes: 100 << 10, ..HOP })?;
        self.copies("T-copies-100k", &phase.figures.copied_bytes_per_message, 102_400.0);
        Ok(())
    }

    fn hop_data(&mut self) -> anyhow::Result<()> {
        self.against_pump("T-hop-data-4k-50", Hop { by_data: true, ..HOP }).map(drop)
    }

    /// To a tenth: envelopes and trace fields are copied too, and are no content.
    fn copies(&mut self, id: &'static str, per_message: &result::PerProcess, content_bytes: f64) {
        self.counted(id, per_message, content_bytes);
        if let Some(Ok(found)) = self.findings.get_mut(id) {
            found.value = (found.value * 10.0).round() / 10.0;
        }
    }

    fn counted(&mut self, id: &'static str, per_message: &result::PerProcess, unit: f64) {
        match per_message.get("hub").copied().flatten() {
            Some(value) => self.found(id, value / unit, "counted by the engine".into()),
            None => {
                self.findings.insert(id, Err("this build or engine does not count it".into()));
            }
        }
    }

    /// Pairs of pump and hub, in turn first and second; their ratio's median, and the last hub run.
    fn against_pump(&mut self, id: &'static str, hop: Hop) -> anyhow::Result<result::Phase> {
        let mut pairs = Vec::new();
        let mut last = None;
        for pair in 0..self.effort.pairs {
            let (pump, hub) = if pair % 2 == 0 {
                let pump = self.pump(hop)?;
                (pump, self.hub(hop)?)
            } else {
                let hub = self.hub(hop)?;
                (self.pump(hop)?, hub)
            };
            pairs.push((pump, hub_cpu(&hub)?));
            last = Some(hub);
        }
        self.ratio(id, &pairs)?;
        last.context("no pair was measured")
    }

    fn ratio(&mut self, id: &'static str, pairs: &[(f64, f64)]) -> anyhow::Result<()> {
        let ratios: Vec<f64> = pairs.iter().map(|(a, b)| b / a).collect();
        let middle = median(&ratios).context("no pair was measured")?;
        let interval = Ratio::of(pairs, 1).context("a run used no CPU time that the kernel counts")?;
        let (of, with) = (
            median(&pairs.iter().map(|p| p.1).collect::<Vec<_>>()),
            median(&pairs.iter().map(|p| p.0).collect::<Vec<_>>()),
        );
        let note = format!(
            "median of {} pairs, 95 % {:.2}–{:.2}; {:.1} against {:.1} µs",
            pairs.len(),
            interval.low,
            interval.high,
            of.unwrap_or(f64::NAN),
            with.unwrap_or(f64::NAN)
        );
        self.found(id, middle, note);
        Ok(())
    }

    fn pump(&mut self, hop: Hop) -> anyhow::Result<f64> {
        let plan = PumpPlan {
            connections: hop.connections as usize,
            frame_bytes: hop.bytes as usize,
            seconds: self.effort.seconds,
            durability: "disk".into(),
            driver: "auto".into(),
            shards: hop.shards,
            answers: true,
            one_per_write: hop.by_data.then_some(16),
        };
        Ok(pump::run(&plan, self.folder.scratch(), self.interrupt)?.relay_cpu_us)
    }

    fn hub(&mut self, hop: Hop) -> anyhow::Result<result::Phase> {
        let content = Content::Bytes(hop.bytes);
        let mut phase = Phase::new("hop", "", Pace::FlatOut, hop.connections, content, self.effort.seconds);
        phase.warm_up_s = self.effort.seconds * 0.2;
        phase.by_data = hop.by_data;
        let mut part = part(hop.shards, one_hub());
        part.topology.sinks[0].chunking = !hop.by_data;
        Ok(self.phases(&part, &[phase])?.remove(0))
    }

    /// Runs phases on one stage, each at its pace; flat-out ones give the rate to those behind them.
    fn phases(&mut self, part: &Part, phases: &[Phase]) -> anyhow::Result<Vec<result::Phase>> {
        self.number += 1;
        let scratch = self.folder.scratch().join(format!("targets-{}", self.number));
        let mut stage = Stage::start(part, self.folder.path(), &scratch)?;
        let mut found = Vec::new();
        let mut probed = 0.0;
        for phase in phases {
            self.number += 1;
            let around = Around {
                folder: self.folder.path(),
                scratch: self.folder.scratch(),
                interrupt: self.interrupt,
                number: self.number,
                seed: 1,
            };
            let rate = match phase.pace {
                Pace::FlatOut => None,
                Pace::PerSecond(per_s) => Some(per_s),
                Pace::ShareOfProbe(share) => Some(f64::max(probed * share, 1.0)),
            };
            let measured = perform(&mut stage, part, phase, rate, &around)?.phase;
            if phase.pace == Pace::FlatOut {
                probed = measured.figures.rate.achieved_per_s.unwrap_or(0.0);
            }
            found.push(measured);
        }
        stage.stop();
        Ok(found)
    }

    fn probe(&self) -> Phase {
        let mut probe = Phase::new("probe", "", Pace::FlatOut, 50, Content::Bytes(4096), self.effort.seconds.max(2.0));
        probe.warm_up_s = 0.5;
        probe
    }

    fn acknowledgement(&mut self) -> anyhow::Result<()> {
        let seconds = self.effort.seconds * 2.0;
        let latency = Phase::new("latency", "", Pace::ShareOfProbe(0.5), 50, Content::Bytes(4096), seconds);
        let before = sync_p99(self.folder)?;
        let phases = self.phases(&part(1, one_hub()), &[self.probe(), latency])?;
        let sync = f64::midpoint(before, sync_p99(self.folder)?);
        let latency = &phases[1];
        let p99 = latency.figures.latency_us.response.p99.context("nothing was acknowledged")?;
        let validity = &latency.figures.validity;
        let note = if validity.valid {
            format!("{p99:.0} against {sync:.0} µs")
        } else {
            format!("NOT VALID: {}", validity.reasons.join("; "))
        };
        self.findings.insert("T-ack-p99", Ok(Found { value: p99 / sync, note, invalid: !validity.valid }));
        Ok(())
    }

    fn outage(&mut self, kind: &'static str) -> anyhow::Result<()> {
        let (topology, victim, ids) = match kind {
            "hub" => (two_hubs(), "hub-2", ["T-outage-hub", "T-lost-hub"]),
            _ => (two_sinks(), "sink-b", ["T-outage-next-hop", "T-lost-next-hop"]),
        };
        // Quick: no time to see ten steady seconds; outage needs none.
        let every = if self.effort.everything { 14.0 } else { 4.0 };
        let seconds = 2.0 + every * self.effort.faults as f64;
        let mut phase = Phase::new(kind, "", Pace::ShareOfProbe(0.5), 50, Content::Bytes(4096), seconds);
        phase.warm_up_s = 0.5;
        phase.fault_kind = Some(kind.to_owned());
        phase.faults = (0..self.effort.faults)
            .map(|index| {
                let strike_s = 2.0 + every * index as f64 + 0.077 * (index % 7) as f64;
                Fault { victim: victim.to_owned(), strike_s, heal_s: strike_s + 1.5 }
            })
            .collect();
        let phases = self.phases(&part(1, topology), &[self.probe(), phase])?;
        let figures = &phases[1].figures;
        let summary = phases[1].failover.as_ref().context("no fault could be judged")?;
        let worst = summary.outage_ms.max.context("no fault could be judged")?;
        let note = format!(
            "{} faults, buckets of {:.0} ms, debt {:.2} message·s",
            summary.faults, summary.bucket_ms, summary.debt_message_s
        );
        let invalid = !figures.validity.valid;
        let note = if invalid { format!("NOT VALID: {}", figures.validity.reasons.join("; ")) } else { note };
        self.findings.insert(ids[0], Ok(Found { value: worst, note, invalid }));
        self.found(ids[1], figures.pairs.lost as f64, format!("of {}", figures.pairs.intended));
        Ok(())
    }

    fn slow_ones(&mut self) -> anyhow::Result<()> {
        let mut pairs = Vec::new();
        for _ in 0..self.effort.pairs {
            let one = hub_cpu(&self.hub(HOP)?)?;
            pairs.push((one, hub_cpu(&self.hub(Hop { shards: 2, ..HOP })?)?));
        }
        self.ratio("T-shards-2", &pairs)?;
        self.idle_memory()?;
        self.queued_memory()
    }

    fn idle_memory(&mut self) -> anyhow::Result<()> {
        let scratch = self.folder.scratch().join("targets-idle");
        let mut stage = Stage::start(&part(1, one_hub()), self.folder.path(), &scratch)?;
        let pid = stage.pid("hub").context("the hub does not run")?;
        let at = stage.entry()?;
        let mut held = Vec::new();
        // The first ones fill what is made once.
        held.push(idle_connection(at)?);
        let before = resident_bytes(pid).context("the hub's memory cannot be read")?;
        for _ in 0..IDLE_CONNECTIONS {
            held.push(idle_connection(at)?);
        }
        let after = resident_bytes(pid).context("the hub's memory cannot be read")?;
        stage.check()?;
        let each = after.saturating_sub(before) as f64 / IDLE_CONNECTIONS as f64;
        self.found("T-mem-idle", each, format!("resident memory over {IDLE_CONNECTIONS} connections behind EHLO"));
        drop(held);
        stage.stop();
        Ok(())
    }

    /// Two amounts of mail that nobody takes, with little memory for content: what the second amount adds.
    fn queued_memory(&mut self) -> anyhow::Result<()> {
        let mut part = part(1, one_hub());
        part.engine.memory_budget = Some(16 << 20);
        let scratch = self.folder.scratch().join("targets-queued");
        let mut stage = Stage::start(&part, self.folder.path(), &scratch)?;
        let pid = stage.pid("hub").context("the hub does not run")?;
        stage.hold_back(true)?;
        let mut resident = Vec::new();
        let mut messages = Vec::new();
        for _ in 0..3 {
            self.number += 1;
            let around = Around {
                folder: self.folder.path(),
                scratch: self.folder.scratch(),
                interrupt: self.interrupt,
                number: self.number,
                seed: 1,
            };
            let seconds = 2.0;
            let mut phase =
                Phase::new("fill", "", Pace::PerSecond(QUEUED_MESSAGES / seconds), 50, Content::Bytes(4096), seconds);
            phase.warm_up_s = 0.0;
            let accepted = crate::run::perform::fill(&mut stage, &part, &phase, &around)?;
            messages.push(accepted as f64);
            resident.push(resident_bytes(pid).context("the hub's memory cannot be read")? as f64);
        }
        // The first fill makes what is made once; the next two tell.
        let each = (resident[2] - resident[0]) / (messages[1] + messages[2]).max(1.0);
        self.found(
            "T-mem-queued",
            each.max(0.0),
            format!("resident memory over {:.0} messages of 4 KiB", messages[1] + messages[2]),
        );
        Ok(())
    }
}

fn hub_cpu(phase: &result::Phase) -> anyhow::Result<f64> {
    phase.figures.cpu_us_per_message.get("hub").copied().flatten().context("the hub's CPU time is not known")
}

fn sync_p99(folder: &ResultFolder) -> anyhow::Result<f64> {
    Host::here(folder.scratch()).disk_sync_us.p99.context("the disk's sync cannot be measured")
}

/// A session that has said EHLO and waits.
fn idle_connection(at: std::net::SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    read_reply(&mut reader)?;
    stream.write_all(b"EHLO idle.test\r\n")?;
    read_reply(&mut reader)?;
    Ok(stream)
}

fn read_reply(reader: &mut impl BufRead) -> anyhow::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.as_bytes() {
            [b'2', _, _, b' ', ..] => return Ok(()),
            [b'2', _, _, b'-', ..] => {}
            _ => anyhow::bail!("the hub said `{}`", line.trim()),
        }
    }
}

fn part(shards: usize, topology: Topology) -> Part {
    let engine = Engine { durability: "disk".into(), driver: "auto".into(), shards, memory_budget: None };
    Part { label: String::new(), engine, topology, phases: Vec::new() }
}

fn sinks(names: &[&str]) -> Vec<Sink> {
    names.iter().map(|name| Sink { name: (*name).into(), chunking: true }).collect()
}

fn server(name: &str, role: Role, next: &[&str]) -> Server {
    let next = next.iter().map(|name| (*name).to_owned()).collect();
    Server { name: name.into(), role, next, mailboxes: Vec::new() }
}

fn one_hub() -> Topology {
    let servers = vec![server("hub", Role::Hub, &["sink"])];
    Topology { sinks: sinks(&["sink"]), servers, entry: "hub".into(), mailbox_every: 0 }
}

fn two_sinks() -> Topology {
    let servers = vec![server("hub", Role::Hub, &["sink-a", "sink-b"])];
    Topology { sinks: sinks(&["sink-a", "sink-b"]), servers, entry: "hub".into(), mailbox_every: 0 }
}

fn two_hubs() -> Topology {
    let hub = |name| server(name, Role::Hub, &["sink"]);
    let servers = vec![hub("hub-1"), hub("hub-2"), server("front-end", Role::Frontend, &["hub-1", "hub-2"])];
    Topology { sinks: sinks(&["sink"]), servers, entry: "front-end".into(), mailbox_every: 0 }
}
