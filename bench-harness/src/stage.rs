//! The processes of one topology while they run: started downstream first, watched, killed and brought back on demand,
//! and asked for what they counted. Everything ends with this value.

use crate::observe::counters::{self, Counters};
use crate::observe::monotonic;
use crate::observe::process::{Usage, usage};
use crate::plan::{Part, Role, Server};
use crate::process::placement::Placement;
use crate::process::words::{STDERR, appended};
use crate::process::{Component, ComponentError, Program, READY_WAIT, Spec};
use crate::topology::{Neighbours, PROFILE, configuration};
use anyhow::{Context, bail};
use engine::wire::Tick;
use loadgen::ledger::{Delivery, FLAG_UNRECORDED};
use loadgen::sink::admin::{AdminAddress, AdminClient};
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a stopped process may take to end.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// A sink that is to die keeps still for so long: what it took until then is known in full.
const LAST_BREATH_MS: u64 = 60_000;
/// A server that did not say what it is is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// A 250 that nobody explains.
pub const UNKNOWN: &str = "unknown";

/// A process, or the place of one that was killed.
#[derive(Debug)]
struct Seat {
    spec: Spec,
    kind: &'static str,
    /// Engine processes only.
    role: Option<Role>,
    component: Option<Component>,
    /// How it was started, for people.
    command: String,
    address: SocketAddr,
    /// Where its files are, for mailbox delivery.
    data: PathBuf,
    /// What its dead predecessors used.
    before: Usage,
    /// What its dead predecessors took: sinks only.
    ledger: Vec<Delivery>,
    /// What each thread of theirs used, in nanoseconds: sinks only.
    cpu_ns: Vec<u64>,
    /// Ended though nobody here killed it.
    lost: bool,
}

/// One topology, running.
#[derive(Debug)]
pub struct Stage {
    part: Part,
    folder: PathBuf,
    seats: BTreeMap<String, Seat>,
    placement: Placement,
    /// What each server says of itself.
    facts: BTreeMap<String, BTreeMap<String, String>>,
}

/// Counts that the sinks and the servers gave when asked.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// By the process's name; absent when it does not run or does not answer.
    pub servers: BTreeMap<String, Counters>,
}

impl Stage {
    /// Starts every process of `part`. `folder` takes their stderr, `scratch` their data.
    ///
    /// # Errors
    /// A component that does not start; the others are ended again.
    pub fn start(part: &Part, folder: &Path, scratch: &Path) -> anyhow::Result<Self> {
        let placement = Placement::here(part.engine.shards);
        let mut stage = Self {
            part: part.clone(),
            folder: folder.to_owned(),
            seats: BTreeMap::new(),
            placement,
            facts: BTreeMap::new(),
        };
        for sink in &part.topology.sinks {
            let spec = Spec {
                name: sink.name.clone(),
                program: Program::Sink,
                cores: stage.placement.load.clone(),
                args: Vec::new(),
            };
            stage.add(spec, "sink", None, any_port(), scratch, sink.chunking)?;
        }
        for server in &part.topology.servers {
            let spec = Spec {
                name: server.name.clone(),
                program: Program::Engine,
                cores: stage.placement.engine.clone(),
                args: Vec::new(),
            };
            stage.add(spec, server.role.kind(), Some(server.role), any_port(), scratch, true)?;
            let facts = stage.facts_of(&server.name)?;
            stage.facts.insert(server.name.clone(), facts);
        }
        Ok(stage)
    }

    /// What `name` says of itself; nothing where it has no metrics.
    fn facts_of(&mut self, name: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let Some(at) = self.metrics_at(name) else { return Ok(BTreeMap::new()) };
        let said = patiently(Instant::now() + READY_WAIT, || counters::facts(at), || self.check())?;
        Ok(said.map_err(|source| ComponentError::Mute { name: name.to_owned(), source })?)
    }

    fn add(
        &mut self,
        mut spec: Spec,
        kind: &'static str,
        role: Option<Role>,
        listen: SocketAddr,
        scratch: &Path,
        chunking: bool,
    ) -> anyhow::Result<()> {
        let data = scratch.join(&spec.name);
        // The engine keeps mail only where nobody else may look.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&data);
        made.with_context(|| format!("making {}", data.display()))?;
        if role.is_none() {
            spec.args = vec!["--name".into(), format!("{}.test", spec.name)];
            if !chunking {
                spec.args.push("--no-chunking".into());
            }
        }
        let mut seat = Seat {
            spec,
            kind,
            role,
            component: None,
            command: String::new(),
            address: listen,
            data,
            before: Usage::default(),
            ledger: Vec::new(),
            cpu_ns: Vec::new(),
            lost: false,
        };
        self.fill(&mut seat)?;
        self.seats.insert(seat.spec.name.clone(), seat);
        Ok(())
    }

    /// Starts the process of a seat, at the address it had if it had one.
    fn fill(&self, seat: &mut Seat) -> anyhow::Result<()> {
        let mut spec = seat.spec.clone();
        match seat.role {
            None => spec.args.extend(["--listen".into(), seat.address.to_string()]),
            Some(_) => spec.args = self.engine_arguments(seat)?,
        }
        let component = Component::start(&spec, &self.folder)?;
        let listening = component.listening();
        let first = listening.first().with_context(|| format!("{} does not say where it listens", spec.name))?;
        seat.address = first.parse().with_context(|| format!("{} listens on `{first}`", spec.name))?;
        seat.command = format!("{} {}", spec.program.title(), spec.args.join(" "));
        seat.component = Some(component);
        Ok(())
    }

    fn engine_arguments(&self, seat: &Seat) -> anyhow::Result<Vec<String>> {
        let name = &seat.spec.name;
        let server = self.part.topology.server(name).with_context(|| format!("there is no server {name}"))?;
        let file = self.folder.join(format!("{name}.toml"));
        let text = configuration(server, &self.part.engine, seat.address, &self.neighbours(server)?, &seat.data);
        // What it says has its place first: beside that the file is known for a run's, whatever comes between.
        let words = self.folder.join(format!("{name}.{STDERR}"));
        appended(&words)?;
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        let mut args = vec!["run".to_owned(), "--config".to_owned(), file.display().to_string()];
        if rustix::process::geteuid().is_root() {
            args.push("--allow-root".to_owned());
        }
        Ok(args)
    }

    fn neighbours(&self, server: &Server) -> anyhow::Result<Neighbours> {
        let addresses =
            |names: &[String]| names.iter().map(|name| self.address(name)).collect::<anyhow::Result<Vec<_>>>();
        let hands_on = |other: &Server| other.role == Role::Frontend && other.next.contains(&server.name);
        Ok(Neighbours {
            next: addresses(&server.next)?,
            mailboxes: addresses(&server.mailboxes)?,
            behind_front_end: self.part.topology.servers.iter().any(hands_on),
        })
    }

    fn seat(&mut self, name: &str) -> anyhow::Result<&mut Seat> {
        self.seats.get_mut(name).with_context(|| format!("there is no process {name}"))
    }

    /// Where `name` listens.
    ///
    /// # Errors
    /// There is nobody of that name.
    pub fn address(&self, name: &str) -> anyhow::Result<SocketAddr> {
        self.seats.get(name).map(|seat| seat.address).with_context(|| format!("there is no process {name}"))
    }

    /// Where the load enters.
    ///
    /// # Errors
    /// The topology names nobody.
    pub fn entry(&self) -> anyhow::Result<SocketAddr> {
        self.address(&self.part.topology.entry)
    }

    /// Whether the load enters at `name`: it answers senders itself.
    pub fn is_entry(&self, name: &str) -> bool {
        self.part.topology.entry == name
    }

    /// The hubs among which a front end chooses when it does not take `name`, with `name`; empty when no front end hands it mail.
    pub fn hubs_beside(&self, name: &str) -> &[String] {
        let mut servers = self.part.topology.servers.iter().filter(|server| server.role == Role::Frontend);
        servers.find(|server| server.next.iter().any(|next| next == name)).map_or(&[], |server| &server.next)
    }

    /// The names of all hubs.
    pub fn hubs(&self) -> Vec<&str> {
        let hubs = self.part.topology.servers.iter().filter(|server| server.role == Role::Hub);
        hubs.map(|server| server.name.as_str()).collect()
    }

    /// What the readiness lines say about `key`, of those engine processes that say anything: each value once.
    pub fn said(&self, key: &str) -> Vec<String> {
        let mut all: Vec<String> = self
            .seats
            .values()
            .filter(|seat| seat.role.is_some())
            .filter_map(|seat| seat.component.as_ref()?.said(key))
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// What a 250 means, as the hubs say: `unknown` where there is none, or none says.
    pub fn durability(&self) -> String {
        let said = self.facts("durability", |server| server.role == Role::Hub);
        if said.is_empty() { UNKNOWN.to_owned() } else { said.join(", ") }
    }

    /// The profile, as the servers say; empty where there are none.
    pub fn profile(&self) -> String {
        self.facts("profile", |_| true).join(", ")
    }

    /// What the servers say of themselves and the plan does not.
    pub fn differs(&self) -> Option<String> {
        let servers = &self.part.topology.servers;
        let has_hub = servers.iter().any(|server| server.role == Role::Hub);
        let durability = (self.durability(), &self.part.engine.durability[..]);
        let profile = (self.profile(), PROFILE);
        let all = [("durability", durability, has_hub), ("profile", profile, !servers.is_empty())];
        let told = |(what, (said, planned), is_due): (&str, (String, &str), bool)| {
            (is_due && said != planned)
                .then(|| format!("{what} is `{said}`, as the servers say, and was to be `{planned}`"))
        };
        let reasons: Vec<String> = all.into_iter().filter_map(told).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn facts(&self, key: &str, of: impl Fn(&Server) -> bool) -> Vec<String> {
        let servers = self.part.topology.servers.iter().filter(|server| of(server));
        let mut all: Vec<String> =
            servers.filter_map(|server| self.facts.get(&server.name)?.get(key).cloned()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Who runs where.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Name, kind, cores and command line of every process.
    pub fn processes(&self) -> Vec<crate::result::Process> {
        let describe = |seat: &Seat| crate::result::Process {
            name: seat.spec.name.clone(),
            kind: seat.kind.to_owned(),
            cores: seat.spec.cores.clone(),
            command: seat.command.clone(),
            cpu_us_per_message: None,
        };
        self.seats.values().map(describe).collect()
    }

    /// Kills `name` at once; gives the moment, and the one at which it was no more. A sink is asked for what it took while it
    /// goes on, then made to take nothing more and asked for the rest: nothing that it took is forgotten.
    ///
    /// # Errors
    /// Nobody of that name runs, or the sink does not answer.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<(Tick, Tick)> {
        let seat = self.seat(name)?;
        let Some(mut component) = seat.component.take() else { bail!("{name} does not run") };
        let mut struck = monotonic();
        if seat.role.is_none() {
            let mut admin = admin_of(&component)?;
            // What it took so far is read while it goes on: what is left then is little, and so is the silence before its end.
            let asking = || format!("asking {name} for what it took");
            let mut took = admin.ledger().with_context(asking)?;
            took.retain(|delivery| !delivery.is(FLAG_UNRECORDED));
            struck = monotonic();
            admin.pause(LAST_BREATH_MS).with_context(|| format!("quieting {name}"))?;
            let rest = admin.ledger_from(took.len()).with_context(asking)?;
            seat.ledger.extend(took.into_iter().chain(rest));
            let used = admin.counts().with_context(|| format!("asking {name} for what it used"))?.shard_cpu_ns;
            seat.cpu_ns = over_lives(&seat.cpu_ns, &used);
        }
        let used = usage(component.pid()).unwrap_or_default();
        component.kill();
        seat.before = add(seat.before, used);
        Ok((struck, monotonic()))
    }

    /// Starts `name` again where it was, and gives the moment at which it said it was ready.
    ///
    /// # Errors
    /// It does not start.
    pub fn revive(&mut self, name: &str) -> anyhow::Result<Tick> {
        let mut seat = self.seats.remove(name).with_context(|| format!("there is no process {name}"))?;
        let filled = if seat.component.is_some() { Ok(()) } else { self.fill(&mut seat) };
        self.seats.insert(name.to_owned(), seat);
        filled.map(|()| monotonic())
    }

    /// Tells the sink `name` what to do.
    ///
    /// # Errors
    /// No sink of that name runs, or it does not answer.
    pub fn admin(&self, name: &str) -> anyhow::Result<AdminClient> {
        let seat = self.seats.get(name).filter(|seat| seat.role.is_none());
        let component = seat.and_then(|seat| seat.component.as_ref());
        admin_of(component.with_context(|| format!("no sink {name} runs"))?)
    }

    /// Lets the sinks refuse everything, or take mail again.
    ///
    /// # Errors
    /// A sink does not answer.
    pub fn hold_back(&mut self, hold: bool) -> anyhow::Result<()> {
        for seat in self.seats.values().filter(|seat| seat.role.is_none()) {
            let Some(component) = &seat.component else { continue };
            let mut admin = admin_of(component)?;
            if hold {
                admin.fault("accept:refuse")?;
                admin.fault("any:close")?;
            } else {
                admin.clear()?;
            }
        }
        Ok(())
    }

    /// Whether every process that should run does; those that ended by themselves are remembered.
    pub fn check(&mut self) -> Result<(), ComponentError> {
        for seat in self.seats.values_mut() {
            if let Some(death) = seat.component.as_mut().and_then(Component::death) {
                seat.lost = true;
                return Err(death);
            }
        }
        Ok(())
    }

    /// Names of those that ended though nobody here killed them.
    pub fn lost(&mut self) -> Vec<String> {
        let _ = self.check();
        self.seats.values().filter(|seat| seat.lost).map(|seat| seat.spec.name.clone()).collect()
    }

    /// What each process used since its first start, with what it was before it was killed.
    pub fn usage(&self) -> BTreeMap<String, Usage> {
        let used = |seat: &Seat| {
            let now = seat.component.as_ref().and_then(|component| usage(component.pid())).unwrap_or_default();
            (seat.spec.name.clone(), add(seat.before, now))
        };
        self.seats.values().map(used).collect()
    }

    /// The process id of `name`, while it runs.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.seats.get(name)?.component.as_ref().map(Component::pid)
    }

    /// The place of `name` among the sinks, if it is one.
    pub fn route(&self, name: &str) -> Option<u16> {
        self.part.topology.sink(name).and_then(|place| u16::try_from(place).ok())
    }

    /// The kind under which `name`'s figures are added up.
    pub fn kind(&self, name: &str) -> Option<&'static str> {
        self.seats.get(name).map(|seat| seat.kind)
    }

    /// The engine's counters, of every server that answers.
    pub fn counts(&self) -> Counts {
        let ask = |name: &String| Some((name.clone(), self.metrics_of(name, counters::fetch)?));
        Counts { servers: self.seats.keys().filter_map(ask).collect() }
    }

    fn metrics_of<T>(&self, name: &str, ask: impl Fn(SocketAddr) -> std::io::Result<T>) -> Option<T> {
        ask(self.metrics_at(name)?).ok()
    }

    fn metrics_at(&self, name: &str) -> Option<SocketAddr> {
        self.seats.get(name)?.component.as_ref()?.said("metrics")?.parse().ok()
    }

    /// Messages that the hubs still hold; `None` when one of them does not say.
    pub fn queued(&self) -> Option<u64> {
        let counts = self.counts();
        let hubs = self.part.topology.servers.iter().filter(|server| server.role == Role::Hub);
        let held = |server: &Server| {
            let counters = counts.servers.get(&server.name)?;
            let of = |name: &str| counters.get(name).copied().unwrap_or(0.0);
            counters.contains_key("ringpost_queued").then(|| (of("ringpost_queued") + of("ringpost_sending")) as u64)
        };
        hubs.map(held).sum()
    }

    /// What every sink took in all its lives, by its place in the topology.
    ///
    /// # Errors
    /// A sink does not answer.
    pub fn ledgers(&self) -> anyhow::Result<Vec<Vec<Delivery>>> {
        let of = |name: &String| -> anyhow::Result<Vec<Delivery>> {
            let seat = self.seats.get(name).with_context(|| format!("there is no sink {name}"))?;
            let mut all = seat.ledger.clone();
            if let Some(component) = &seat.component {
                all.extend(admin_of(component)?.ledger().with_context(|| format!("asking {name} for what it took"))?);
            }
            Ok(all)
        };
        self.part.topology.sinks.iter().map(|sink| of(&sink.name)).collect()
    }

    /// Messages that all sinks took so far.
    ///
    /// # Errors
    /// A sink does not answer.
    pub fn sink_messages(&self) -> anyhow::Result<u64> {
        let sinks = self.seats.values().filter(|seat| seat.role.is_none());
        sinks.filter_map(|seat| seat.component.as_ref()).map(|sink| Ok(admin_of(sink)?.counts()?.messages)).sum()
    }

    /// The folders that mailbox delivery writes to.
    pub fn mailboxes(&self) -> Vec<PathBuf> {
        let is_store = |seat: &&Seat| seat.role == Some(Role::MailboxDelivery);
        self.seats.values().filter(is_store).map(|seat| seat.data.clone()).collect()
    }

    /// When each sink told it, and what each of its threads used in all its lives, from their own counts.
    ///
    /// # Errors
    /// A sink does not answer.
    pub fn sink_cpu_ns(&self) -> anyhow::Result<Vec<(u64, Vec<u64>)>> {
        let sinks = self.seats.values().filter(|seat| seat.role.is_none());
        sinks
            .filter_map(|seat| Some((seat, seat.component.as_ref()?)))
            .map(|(seat, component)| {
                let counts = admin_of(component)?.counts()?;
                Ok((counts.at_ns, over_lives(&seat.cpu_ns, &counts.shard_cpu_ns)))
            })
            .collect()
    }

    /// Ends everything in order, upstream first, so that nobody misses a neighbour.
    pub fn stop(&mut self) {
        let servers = self.part.topology.servers.iter().rev().map(|server| server.name.clone());
        let sinks = self.part.topology.sinks.iter().map(|sink| sink.name.clone());
        for name in servers.chain(sinks) {
            if let Some(component) = self.seats.get_mut(&name).and_then(|seat| seat.component.as_mut()) {
                // One that does not end in time is killed: the figures are taken already.
                let _ = component.stop(STOP_WAIT);
            }
        }
    }
}

fn admin_of(component: &Component) -> anyhow::Result<AdminClient> {
    let said = component.said("admin").with_context(|| format!("{} has no admin address", component.name()))?;
    let address: AdminAddress = said.parse().map_err(anyhow::Error::msg)?;
    Ok(AdminClient::connect(&address)?)
}

/// Asks until there is an answer, while all is well; gives the last refusal when the time is over.
fn patiently<T>(
    until: Instant,
    mut ask: impl FnMut() -> std::io::Result<T>,
    mut check: impl FnMut() -> Result<(), ComponentError>,
) -> Result<std::io::Result<T>, ComponentError> {
    loop {
        check()?;
        let answer = ask();
        if answer.is_ok() || Instant::now() >= until {
            return Ok(answer);
        }
        std::thread::park_timeout(ASK_AGAIN);
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn add(a: Usage, b: Usage) -> Usage {
    Usage {
        user_us: a.user_us + b.user_us,
        system_us: a.system_us + b.system_us,
        rss_peak_bytes: a.rss_peak_bytes.max(b.rss_peak_bytes),
    }
}

/// What threads used in earlier lives and in this one: a new life begins at nothing, which is no idleness.
fn over_lives(before: &[u64], now: &[u64]) -> Vec<u64> {
    let threads = before.len().max(now.len());
    let of = |used: &[u64], thread: usize| used.get(thread).copied().unwrap_or(0);
    (0..threads).map(|thread| of(before, thread) + of(now, thread)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_answers_late_has_answered() {
        let late = |answers_at: u32, until: Instant| {
            let mut asked = 0;
            let answer = || {
                asked += 1;
                if asked < answers_at { Err(std::io::Error::other("timed out")) } else { Ok(asked) }
            };
            patiently(until, answer, || Ok(())).expect("nobody died")
        };
        assert_eq!(late(3, Instant::now() + READY_WAIT).expect("the third time"), 3);
        assert!(late(2, Instant::now()).is_err(), "there is an end to it");
        let dead = || Err(ComponentError::Stuck { name: "hub".into(), waited: Duration::ZERO });
        assert!(patiently(Instant::now(), || Ok(()), dead).is_err());
    }

    #[test]
    fn a_killed_sinks_work_is_counted_over_its_lives() {
        assert_eq!(over_lives(&[], &[5, 7]), [5, 7]);
        assert_eq!(over_lives(&[5, 7], &[1, 0]), [6, 7]);
        assert_eq!(over_lives(&[5, 7], &[]), [5, 7]);
    }
}
