//! A server under test, usually a hub: its configuration, its folder, its starts and stops.

use crate::process::Process;
use crate::programs::{Build, ringpost};
use rustix::process::Signal;
use serde_json::Value;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// The language spoken to next hops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 5321.
    Smtp,
    /// RFC 2033.
    Lmtp,
}

/// What a server is told. `..Default::default()` fills in the rest.
#[derive(Debug, Clone)]
pub struct Told {
    /// The service behind its listener.
    pub role: &'static str,
    /// The name of a hub's one next hop.
    pub hop: &'static str,
    /// The hosts of a hub's one next hop, or the hubs behind a front end.
    pub hosts: Vec<SocketAddr>,
    /// What is routed to it: `*`, a domain or what is below one.
    pub routed: &'static str,
    /// How they are spoken to.
    pub dialect: Dialect,
    /// Whose defaults hold.
    pub profile: &'static str,
    /// What 250 means.
    pub durability: &'static str,
    /// The I/O.
    pub driver: &'static str,
    /// Threads that carry mail.
    pub shards: usize,
    /// Which build of the program.
    pub build: Build,
    /// A program that starts it, with its command line behind.
    pub under: Option<PathBuf>,
    /// Further lines of the file, by section: `("receive", "chunking = false")`.
    pub more: Vec<(&'static str, String)>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            role: "hub",
            hop: "far",
            hosts: Vec::new(),
            routed: "*",
            dialect: Dialect::Smtp,
            profile: "rfc",
            durability: "disk",
            driver: "auto",
            shards: 1,
            build: Build::Plain,
            under: None,
            more: Vec::new(),
        }
    }
}

impl Told {
    /// A hub whose one next hop has this one host.
    pub fn relaying_to(host: SocketAddr) -> Self {
        Self { hosts: vec![host], ..Self::default() }
    }

    /// A front end before this one hub.
    pub fn front_end_of(hub: SocketAddr) -> Self {
        Self { role: "frontend", hosts: vec![hub], ..Self::default() }
    }

    /// The configuration file.
    fn file(&self, data: &std::path::Path) -> String {
        let hop = format!("next_hop.{}", self.hop);
        let mut sections: Vec<(&str, String)> = vec![
            ("server", format!("data_dir = {:?}\nshards = {}", data, self.shards)),
            ("server", format!("driver = {:?}\ndurability = {:?}\nfqdn = \"hub.test\"", self.driver, self.durability)),
            ("delivery", "retry = [\"50ms\"]\nmessage_retry = \"50ms\"\nhost_backoff_min = \"10ms\"".to_owned()),
            ("delivery", "host_backoff_max = \"50ms\"".to_owned()),
        ];
        // Small segments, so that a test meets their ends, unless it says otherwise.
        if !self.more.iter().any(|(section, _)| *section == "spool") {
            sections.push(("spool", "segment_size = \"4 MiB\"".to_owned()));
        }
        let dialect = if self.dialect == Dialect::Lmtp { "lmtp" } else { "smtp" };
        let hosts: Vec<String> = self.hosts.iter().map(|host| format!("\"{host}\"")).collect();
        match self.role {
            "frontend" => sections.push(("frontend", format!("hubs = [{}]", hosts.join(", ")))),
            "hub" => {
                sections.push((&hop, format!("hosts = [{}]\nprotocol = \"{dialect}\"", hosts.join(", "))));
                sections.push(("routes", format!("{:?} = {:?}", self.routed, self.hop)));
            }
            _ => {}
        }
        sections.extend(self.more.iter().cloned());
        let mut names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        let mut text =
            format!("profile = {:?}\n[[listener]]\naddress = \"127.0.0.1:0\"\nrole = {:?}\n", self.profile, self.role);
        for name in names {
            writeln!(text, "[{name}]").expect("writing to a string");
            for (_, lines) in sections.iter().filter(|(section, _)| *section == name) {
                writeln!(text, "{lines}").expect("writing to a string");
            }
        }
        text
    }
}

/// A hub with a folder of its own, started and stopped at will.
#[derive(Debug)]
pub struct Hub {
    told: Told,
    folder: TempDir,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    ready: Value,
}

impl Hub {
    /// A hub that does not run yet.
    pub fn new(told: Told) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { told, folder, running: None }
    }

    /// A hub that is ready.
    pub fn started(told: Told) -> Self {
        let mut hub = Self::new(told);
        hub.start();
        hub
    }

    /// Changes what the next start is told.
    pub fn tell(&mut self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told);
    }

    /// Where its messages rest.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
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
            return false;
        };
        let ready = line.strip_prefix("ready ").and_then(|text| serde_json::from_str(text).ok());
        self.running = Some(Running { process, ready: ready.unwrap_or_else(|| panic!("`{line}` is no readiness")) });
        true
    }

    fn spawn(&self, kill_at: Option<&str>) -> Process {
        let data = self.data();
        if !data.exists() {
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
        Process::spawn(command)
    }

    fn write_file(&self) -> PathBuf {
        let file = self.folder.path().join("ringpost.toml");
        std::fs::write(&file, self.told.file(&self.data())).expect("room for a file");
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
        let listen = &self.running().ready["listen"][0];
        let text = listen.as_str().or_else(|| listen["address"].as_str());
        text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no address in {}", self.running().ready))
    }

    /// What it said when it was ready.
    pub fn ready(&self) -> &Value {
        &self.running().ready
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the hub runs")
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.running.as_mut().expect("the hub runs").process
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
        let mut running = self.running.take().expect("the hub runs");
        let ended = running.process.wait(crate::wait::PATIENCE);
        let ended = ended.unwrap_or_else(|| panic!("the hook was not passed:\n{}", running.process.complaints()));
        let signal = std::os::unix::process::ExitStatusExt::signal(&ended);
        assert_eq!(signal, Some(9), "{ended}:\n{}", running.process.complaints());
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
        let mut running = self.running.take().expect("the hub runs");
        let ended = running.process.stop();
        assert_eq!(ended.code(), Some(0), "{}", running.process.complaints());
    }

    /// What `ringpost status --json` says.
    ///
    /// # Panics
    /// When it says nothing.
    pub fn status(&self) -> Value {
        let socket = self.data().join("admin.sock");
        let mut command = Command::new(ringpost(self.told.build));
        let output = command.args(["status", "--json", "--admin"]).arg(socket).output().expect("ringpost runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("status is JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_stands_once_with_all_its_lines() {
        let told = Told { more: vec![("receive", "chunking = false".to_owned())], ..Told::default() };
        let text = told.file(std::path::Path::new("data"));
        assert_eq!(text.matches("[server]").count(), 1);
        assert!(text.contains("[receive]\nchunking = false\n"));
        assert!(text.contains("[server]\ndata_dir = \"data\"\nshards = 1\ndriver = \"auto\"\n"));
    }
}
