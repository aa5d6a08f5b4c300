//! A server under test, in any role: its configuration, its folder, its starts and stops.

use crate::process::Process;
use crate::programs::{Build, ringpost};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The language of a listener, or the one spoken to next hops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 5321.
    Smtp,
    /// RFC 2033.
    Lmtp,
}

/// What a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Keeps messages until its next hop, which has these hosts and is spoken to like this, has them.
    Hub(Vec<SocketAddr>, Dialect),
    /// Keeps nothing, in front of these hubs.
    Frontend(Vec<SocketAddr>),
    /// Keeps nothing, in front of Maildir folders below this one; without it takes everything and forgets it. Its listener
    /// speaks this.
    Mailboxes(Option<PathBuf>, Dialect),
}

/// What a server is told. `..Default::default()` fills in the rest.
#[derive(Debug, Clone)]
pub struct Told {
    /// What it is.
    pub role: Role,
    /// Where it listens.
    pub address: SocketAddr,
    /// The name of a hub's one next hop.
    pub hop: &'static str,
    /// What a hub routes to its next hop: `*`, a domain or what is below one.
    pub routed: &'static str,
    /// Whose defaults hold.
    pub profile: &'static str,
    /// What 250 means.
    pub durability: &'static str,
    /// The I/O; unless a test chooses it, what [`crate::driver`] says.
    pub driver: &'static str,
    /// Threads that carry mail.
    pub shards: usize,
    /// Which build of the program.
    pub build: Build,
    /// A program that starts it, with its command line behind.
    pub under: Option<PathBuf>,
    /// Further lines of its listener.
    pub listener: String,
    /// The lines of further listeners.
    pub beside: Vec<String>,
    /// Next hops and hubs are named `localhost`.
    pub by_name: bool,
    /// Further lines of the file, by section: `("receive", "chunking = false")`.
    pub more: Vec<(&'static str, String)>,
    /// Where a service manager listens (`NOTIFY_SOCKET`).
    pub notify: Option<PathBuf>,
    /// Of batches of messages and outcomes, the one whose write is taken for failed after it was made.
    pub fail_write: Option<u64>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            role: Role::Hub(Vec::new(), Dialect::Smtp),
            address: ([127, 0, 0, 1], 0).into(),
            hop: "far",
            routed: "*",
            profile: "rfc",
            durability: "disk",
            driver: crate::driver(),
            shards: 1,
            build: Build::Plain,
            under: None,
            listener: String::new(),
            beside: Vec::new(),
            by_name: false,
            more: Vec::new(),
            notify: None,
            fail_write: None,
        }
    }
}

impl Told {
    /// A hub whose one next hop has this one host.
    pub fn relaying_to(host: SocketAddr) -> Self {
        Self::relaying_to_any(vec![host])
    }

    /// A hub whose one next hop has these hosts.
    pub fn relaying_to_any(hosts: Vec<SocketAddr>) -> Self {
        Self { role: Role::Hub(hosts, Dialect::Smtp), ..Self::default() }
    }

    /// A front end before this one hub.
    pub fn front_end_of(hub: SocketAddr) -> Self {
        Self::before(vec![hub])
    }

    /// A front end before these hubs.
    pub fn before(hubs: Vec<SocketAddr>) -> Self {
        Self { role: Role::Frontend(hubs), ..Self::default() }
    }

    /// Mailbox delivery into folders below `store`, spoken to by LMTP.
    pub fn keeping_in(store: &Path) -> Self {
        Self { role: Role::Mailboxes(Some(store.to_owned()), Dialect::Lmtp), ..Self::default() }
    }

    /// The hub's next hop has this one host from its next start on.
    pub fn relay_to(&mut self, host: SocketAddr) {
        self.role = Role::Hub(vec![host], Dialect::Smtp);
    }

    /// What goes to senders at `a.test`, reports above all, has a next hop of its own with this one host.
    #[must_use]
    pub fn with_senders_at(self, host: SocketAddr) -> Self {
        let hop = format!("hosts = [\"{host}\"]");
        self.with("next_hop.senders", hop).with("routes", "\"a.test\" = \"senders\"")
    }

    /// With further lines of a section.
    #[must_use]
    pub fn with(mut self, section: &'static str, lines: impl Into<String>) -> Self {
        self.more.push((section, lines.into()));
        self
    }

    /// The socket for `status`: a hub's where it puts it by itself.
    fn admin(&self, folder: &Path) -> PathBuf {
        if matches!(self.role, Role::Hub(..)) { data_in(folder).join("admin.sock") } else { folder.join("admin.sock") }
    }

    /// The configuration file of a server whose files stand in `folder`.
    fn file(&self, folder: &Path) -> String {
        let hop = format!("next_hop.{}", self.hop);
        let mut sections: Vec<(&str, String)> = vec![
            ("server", format!("fqdn = \"server.test\"\nadmin = {:?}\nshards = {}", self.admin(folder), self.shards)),
            ("server", format!("driver = {:?}\ndurability = {:?}", self.driver, self.durability)),
        ];
        let dialect = |dialect: &Dialect| if *dialect == Dialect::Lmtp { "lmtp" } else { "smtp" };
        let name = |host: &SocketAddr| match self.by_name {
            true => format!("\"localhost:{}\"", host.port()),
            false => format!("\"{host}\""),
        };
        let list = |hosts: &[SocketAddr]| hosts.iter().map(name).collect::<Vec<_>>().join(", ");
        let (role, protocol) = match &self.role {
            Role::Hub(hosts, next) => {
                let hosts = format!("hosts = [{}]\nprotocol = {:?}", list(hosts), dialect(next));
                sections.push(("server", format!("data_dir = {:?}", data_in(folder))));
                // Tries that follow each other within a test, unless it says otherwise.
                if !self.more.iter().any(|(section, lines)| *section == "delivery" && lines.contains("host_backoff")) {
                    sections.push(("delivery", RETRY.to_owned()));
                }
                sections.push((&hop, hosts));
                sections.push(("routes", format!("{:?} = {:?}", self.routed, self.hop)));
                // Small segments, so that a test meets their ends, unless it says otherwise.
                if !self.more.iter().any(|(section, _)| *section == "spool") {
                    sections.push(("spool", "segment_size = \"4 MiB\"".to_owned()));
                }
                ("hub", "smtp")
            }
            Role::Frontend(hubs) => {
                sections.push(("frontend", format!("hubs = [{}]", list(hubs))));
                ("frontend", "smtp")
            }
            Role::Mailboxes(store, spoken) => {
                let path = store.as_ref().map_or_else(|| "null".into(), |path| path.to_string_lossy());
                sections.push(("store", format!("path = {path:?}")));
                ("mailbox-delivery", dialect(spoken))
            }
        };
        sections.extend(self.more.iter().cloned());
        let listener = format!("address = \"{}\"\nrole = {role:?}\nprotocol = {protocol:?}", self.address);
        let mut head = format!("profile = {:?}\n[[listener]]\n{listener}\n{}\n", self.profile, self.listener);
        head.extend(self.beside.iter().map(|lines| format!("[[listener]]\n{lines}\n")));
        written(&head, &sections)
    }
}

/// Tries that follow each other within a test.
const RETRY: &str =
    "retry = [\"50ms\"]\nmessage_retry = \"50ms\"\nhost_backoff_min = \"10ms\"\nhost_backoff_max = \"50ms\"";

/// Lines of `[delivery]`: every wait for a next hop, or a hub, is this.
pub fn waits(wait: &str) -> String {
    let names = ["connect", "greeting", "command", "mail", "rcpt", "data", "block", "dot", "quit"];
    names.map(|name| format!("{name}_wait = {wait:?}\n")).concat()
}

/// The folder of a hub's spool.
fn data_in(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// `head`, then every section once with all its lines.
fn written(head: &str, sections: &[(&str, String)]) -> String {
    let mut names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    let mut text = head.to_owned();
    for name in names {
        writeln!(text, "[{name}]").expect("writing to a string");
        for (_, lines) in sections.iter().filter(|(section, _)| *section == name) {
            writeln!(text, "{lines}").expect("writing to a string");
        }
    }
    text
}

/// A server with a folder of its own, started and stopped at will.
#[derive(Debug)]
pub struct Server {
    told: Told,
    folder: TempDir,
    running: Option<Running>,
    /// What its deaths at hooks explain.
    explained: u32,
    places: BTreeSet<String>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    ready: Value,
}

impl Server {
    /// A server that does not run yet.
    pub fn new(told: Told) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { told, folder, running: None, explained: 0, places: BTreeSet::new() }
    }

    /// A server that does not run yet, whose files stand below `place`.
    pub fn new_in(place: &Path, told: Told) -> Self {
        let folder = tempfile::tempdir_in(place).expect("a folder");
        Self { told, folder, running: None, explained: 0, places: BTreeSet::new() }
    }

    /// A server that is ready.
    pub fn started(told: Told) -> Self {
        let mut server = Self::new(told);
        server.start();
        server
    }

    /// Changes what the next start is told.
    pub fn tell(&mut self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told);
    }

    /// Where the messages of a hub rest.
    pub fn data(&self) -> PathBuf {
        data_in(self.folder.path())
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(&mut self) {
        let mut process = self.spawn(None);
        let ready = process.ready();
        self.running = Some(Running { process, ready });
    }

    /// Starts it where it must not run: what it said when it ended with exit code 2.
    ///
    /// # Panics
    /// When it runs, or ends in another way.
    pub fn refuses(&self) -> String {
        let mut process = self.spawn(None);
        let ended = process.wait(crate::wait::PATIENCE).expect("it ends by itself");
        assert_eq!(ended.code(), Some(2), "{}", process.complaints());
        process.complaints()
    }

    /// Starts it to die at a hook: `K7:3` is the third time that K7 is passed. Gives whether it became ready first.
    pub fn start_to_die(&mut self, at: &str) -> bool {
        let mut process = self.spawn(Some(at));
        let Some(line) = process.line() else {
            let ended = process.wait(crate::wait::PATIENCE).expect("it closed its output");
            assert!(
                std::os::unix::process::ExitStatusExt::signal(&ended) == Some(9),
                "{ended}:\n{}",
                process.complaints()
            );
            self.hear(&process);
            return false;
        };
        let ready = line.strip_prefix("ready ").and_then(|text| serde_json::from_str(text).ok());
        self.running = Some(Running { process, ready: ready.unwrap_or_else(|| panic!("`{line}` is no readiness")) });
        true
    }

    fn spawn(&self, kill_at: Option<&str>) -> Process {
        let data = self.data();
        if !data.exists() && matches!(self.told.role, Role::Hub(..)) {
            std::fs::create_dir(&data).expect("a folder for data");
            std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).expect("our own folder");
        }
        let file = self.write_file();
        let program = ringpost(self.told.build);
        let mut command = Command::new(self.told.under.as_ref().unwrap_or(&program));
        if self.told.under.is_some() {
            command.arg(&program);
        }
        command.args(["run", "--allow-root", "--config"]).arg(&file);
        command.env("RUST_BACKTRACE", "1");
        if let Some(hook) = kill_at {
            command.env("RINGPOST_KILL_AT", hook);
        }
        if let Some(manager) = &self.told.notify {
            command.env("NOTIFY_SOCKET", manager);
        }
        if let Some(write) = self.told.fail_write {
            assert!(self.told.build == Build::FailPoints, "only that build knows how to fail");
            command.env("RINGPOST_FAIL_WRITE", write.to_string());
        }
        Process::spawn(command)
    }

    fn write_file(&self) -> PathBuf {
        let file = self.folder.path().join("ringpost.toml");
        std::fs::write(&file, self.told.file(self.folder.path())).expect("room for a file");
        file
    }

    /// SIGHUP, and waits until what it was told since its start holds.
    ///
    /// # Panics
    /// When it does not run, or refuses the file.
    pub fn reload(&mut self) {
        let before = self.status()["reload"]["done"].as_u64();
        self.write_file();
        self.process().signal(Signal::HUP);
        crate::wait::until("the reload", || {
            let reload = self.status()["reload"].clone();
            assert!(reload["error"].is_null(), "{reload}");
            (reload["done"].as_u64() > before).then_some(())
        });
    }

    /// Where it listens.
    ///
    /// # Panics
    /// When it does not run.
    pub fn address(&self) -> SocketAddr {
        self.address_of(0)
    }

    /// Where its listener of this number listens.
    ///
    /// # Panics
    /// When it does not run, or has none.
    pub fn address_of(&self, listener: usize) -> SocketAddr {
        let listen = &self.running().ready["listen"][listener];
        let text = listen.as_str().or_else(|| listen["address"].as_str());
        text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no address in {}", self.running().ready))
    }

    /// What it said when it was ready.
    pub fn ready(&self) -> &Value {
        &self.running().ready
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the server runs")
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.running.as_mut().expect("the server runs").process
    }

    /// Descriptors that it has open.
    ///
    /// # Panics
    /// When it does not run.
    pub fn descriptors(&mut self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process().pid())).expect("it runs").count()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.process.kill();
        }
    }

    /// Waits until it has been killed at the hook it was started for.
    ///
    /// # Panics
    /// When it ends in another way or lives on.
    pub fn died(&mut self) {
        let mut running = self.running.take().expect("the server runs");
        let ended = running.process.wait(crate::wait::PATIENCE);
        let ended = ended.unwrap_or_else(|| panic!("the hook was not passed:\n{}", running.process.complaints()));
        let signal = std::os::unix::process::ExitStatusExt::signal(&ended);
        assert_eq!(signal, Some(9), "{ended}:\n{}", running.process.complaints());
        self.hear(&running.process);
    }

    fn hear(&mut self, died: &Process) {
        let (place, explained) = last_words(died);
        self.explained += explained;
        self.places.insert(place);
    }

    /// Where it has died at hooks, as `K16 in segments.rs`.
    pub fn places(&self) -> &BTreeSet<String> {
        &self.places
    }

    /// How many messages it may have sent again because it died at hooks: those whose outcome was not durable (W1), and
    /// those in flight (W5), as it counted them itself.
    pub fn explained(&self) -> u32 {
        self.explained
    }

    /// Whether it has ended by itself or by a hook.
    pub fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_none_or(|running| running.process.wait(std::time::Duration::ZERO).is_some())
    }

    /// SIGTERM: it drains and ends well.
    ///
    /// # Panics
    /// When it does not end with exit code 0.
    pub fn stop(&mut self) {
        self.stop_saying();
    }

    /// The same; all that it said.
    ///
    /// # Panics
    /// As there.
    pub fn stop_saying(&mut self) -> String {
        let mut running = self.running.take().expect("the server runs");
        let ended = running.process.stop();
        let said = running.process.complaints();
        assert_eq!(ended.code(), Some(0), "{said}");
        said
    }

    /// How many messages stand in its queues.
    ///
    /// # Panics
    /// When it does not say.
    pub fn queued(&self) -> u64 {
        queued_in(&self.status())
    }

    /// The same of one that may die any moment: `None` when it did before it answered.
    pub fn try_queued(&self) -> Option<u64> {
        self.try_status().as_ref().ok().map(queued_in)
    }

    /// What `ringpost status --json` says.
    ///
    /// # Panics
    /// When it says nothing.
    pub fn status(&self) -> Value {
        self.try_status().unwrap_or_else(|said| panic!("{said}"))
    }

    fn try_status(&self) -> Result<Value, String> {
        // 1 is an answer too: it is not healthy.
        match self.ask(&["status", "--json"]) {
            (Some(0 | 1), said, _) => Ok(serde_json::from_str(&said).expect("status is JSON")),
            (_, _, complaint) => Err(complaint),
        }
    }

    /// What `ringpost` says to these words about this server: exit code, standard output, standard error.
    pub fn ask(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(ringpost(self.told.build));
        command.args(words).arg("--admin").arg(self.told.admin(self.folder.path()));
        let output = command.output().expect("ringpost runs");
        let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

fn queued_in(status: &Value) -> u64 {
    let queues = status["queues"].as_array().expect("queues");
    let parts = ["waiting", "sending", "deferred", "suspended"];
    let of = |queue: &Value| -> u64 { parts.iter().map(|part| queue[*part].as_u64().expect("a count")).sum() };
    queues.iter().map(of).sum()
}

/// What a process that dies at a hook says at the end: outcomes that are not durable, and transactions in flight.
/// Where it died, and how many messages it may have sent again.
fn last_words(process: &Process) -> (String, u32) {
    crate::wait::until("its last words", || {
        let said = process.complaints();
        // Another of its threads may have said something meanwhile.
        let (place, last) = said.lines().find_map(|line| line.strip_prefix("killed at "))?.split_once(": ")?;
        let counts: Option<u32> = last.split(", ").map(|part| part.split(' ').next()?.parse::<u32>().ok()).sum();
        Some((place.to_owned(), counts?))
    })
}

impl Server {
    /// One of its counters, summed over its shards.
    ///
    /// # Panics
    /// When it says nothing, or has none of this name.
    pub fn counter(&self, name: &str) -> u64 {
        let status = self.status();
        status["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {status:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_stands_once_with_all_its_lines() {
        let told = Told { more: vec![("receive", "chunking = false".to_owned())], ..Told::default() };
        let text = told.file(Path::new("own"));
        assert_eq!(text.matches("[server]").count(), 1);
        assert!(text.contains("[receive]\nchunking = false\n"));
        assert!(text.contains("[server]\nfqdn = \"server.test\"\nadmin = \"own/data/admin.sock\"\nshards = 1\n"));
    }
}
