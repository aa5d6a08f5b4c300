//! What a run will do, before it does anything: which processes, which load, which faults, when. Pure data.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What messages are made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Content {
    /// Generated, so many octets each.
    Bytes(u64),
    /// Real mail, replayed octet by octet.
    Corpus(PathBuf),
    /// The same, from the corpus that this program brings.
    OwnCorpus,
}

/// How the engine's processes are started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// `none`, `os`, `disk`.
    pub durability: String,
    /// As `--driver` spells it.
    pub driver: String,
    /// Threads of each process.
    pub shards: usize,
    /// Octets of content in a hub's memory; `None`: the engine's own bound.
    pub memory_budget: Option<u64>,
    /// Octets of a hub's spool segments; `None`: the engine's own.
    pub segment_bytes: Option<u64>,
}

/// The service of an engine process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Role {
    /// Keeps and forwards.
    Hub,
    /// Passes on to hubs, keeps nothing.
    Frontend,
    /// Puts into mailboxes.
    MailboxDelivery,
}

impl Role {
    /// As the engine's configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Frontend => "frontend",
            Self::MailboxDelivery => "mailbox-delivery",
        }
    }

    /// The key of its figures in `result.json`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Frontend => "frontend",
            Self::MailboxDelivery => "mailbox",
        }
    }
}

/// One engine process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Unique in its topology.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Names of the servers or sinks it hands mail to; for a hub: everything but mailboxes.
    pub next: Vec<String>,
    /// For a hub: names of the mailbox-delivery servers for [`MAILBOX_DOMAIN`].
    pub mailboxes: Vec<String>,
}

/// Recipients in this domain live in mailboxes; all others at the sinks.
pub const MAILBOX_DOMAIN: &str = "mailbox.test";
/// Recipients at the sinks.
pub const SINK_DOMAIN: &str = "sink.test";

/// One sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// Unique in its topology.
    pub name: String,
    /// Whether it offers CHUNKING: without it mail comes by DATA.
    pub chunking: bool,
}

/// Who hands mail to whom.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Started first.
    pub sinks: Vec<Sink>,
    /// In this order: each one's next hops stand before it.
    pub servers: Vec<Server>,
    /// Where the load enters.
    pub entry: String,
    /// One message in so many goes to a mailbox; 0 for none.
    pub mailbox_every: u32,
}

/// How fast messages come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Pace {
    /// As many as are acknowledged: finds the highest rate, and no latency.
    FlatOut,
    /// Open loop, so many a second.
    PerSecond(f64),
    /// Open loop, this share of the rate that the last flat-out phase found.
    ShareOfProbe(f64),
}

/// The victim of a fault that does not happen: what is seen around it comes from the machine alone.
pub const NOBODY: &str = "nobody";

/// A process that is killed and started again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Whom; or [`NOBODY`].
    pub victim: String,
    /// Seconds after the phase's first message.
    pub strike_s: f64,
    /// The same: when it is started again.
    pub heal_s: f64,
}

/// One stretch of load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Short, with hyphens.
    pub name: String,
    /// For people: one sentence.
    pub about: String,
    /// How fast.
    pub pace: Pace,
    /// Connections of the load generator.
    pub connections: u32,
    /// What messages are made of.
    pub content: Content,
    /// Sent before anything counts.
    pub warm_up_s: f64,
    /// Measured.
    pub seconds: f64,
    /// What is killed when, in order of time.
    pub faults: Vec<Fault>,
    /// What kind of thing fails, as `failover[].kind` says it.
    pub fault_kind: Option<String>,
    /// Next hops refuse while the load lasts, so that everything stays where it was accepted; then they take it.
    pub held_back: bool,
    /// Bodies go by DATA even where CHUNKING is offered.
    pub by_data: bool,
    /// Transactions under way on one connection.
    pub in_flight: u32,
    /// Its figures are the run's.
    pub is_main: bool,
}

impl Phase {
    /// A phase without faults at `pace`.
    pub fn new(name: &str, about: &str, pace: Pace, connections: u32, content: Content, seconds: f64) -> Self {
        Self {
            name: name.to_owned(),
            about: about.to_owned(),
            pace,
            connections,
            content,
            warm_up_s: (seconds * 0.2).min(2.0),
            seconds,
            faults: Vec::new(),
            fault_kind: None,
            held_back: false,
            by_data: false,
            in_flight: 1,
            is_main: false,
        }
    }

    /// The same phase as the run's main one.
    pub fn main(mut self) -> Self {
        self.is_main = true;
        self
    }

    /// From its first message to its last.
    pub fn length_s(&self) -> f64 {
        self.warm_up_s + self.seconds
    }
}

/// One topology with its phases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Told apart from the run's other parts by this: `2 shards`; empty when there is one.
    pub label: String,
    /// How its engine is started.
    pub engine: Engine,
    /// Its processes.
    pub topology: Topology,
    /// In order.
    pub phases: Vec<Phase>,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The scenario's name.
    pub scenario: String,
    /// For everything that is chosen.
    pub seed: u64,
    /// One after another, each with fresh processes.
    pub parts: Vec<Part>,
}

impl Plan {
    /// Seconds of load in all.
    pub fn length_s(&self) -> f64 {
        self.parts.iter().flat_map(|part| &part.phases).map(Phase::length_s).sum()
    }
}

impl Topology {
    /// The server of that name.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.name == name)
    }

    /// The sink of that name, by its place.
    pub fn sink(&self, name: &str) -> Option<usize> {
        self.sinks.iter().position(|sink| sink.name == name)
    }

    /// Where most of what `server` takes goes.
    fn onward<'a>(&self, server: &'a Server) -> impl Iterator<Item = &'a str> + use<'a> {
        let into_mailboxes = self.mailbox_every == 1 && !server.mailboxes.is_empty();
        let names = if into_mailboxes { &server.mailboxes } else { &server.next };
        names.iter().map(String::as_str)
    }

    /// The way of a message, for people: `load → front-end → hub-1 or hub-2 → sink`.
    pub fn way(&self) -> String {
        let mut steps = vec!["load".to_owned()];
        let mut here = vec![self.entry.as_str()];
        // No way is longer than all servers one behind the other, and a sink.
        for _ in 0..=self.servers.len() {
            if here.is_empty() {
                break;
            }
            steps.push(here.join(" or "));
            let mut next: Vec<&str> =
                here.iter().filter_map(|name| self.server(name)).flat_map(|at| self.onward(at)).collect();
            next.sort_unstable();
            next.dedup();
            here = next;
        }
        let mut way = steps.join(" → ");
        if self.mailbox_every > 1 {
            way.push_str(&format!("; one message in {} to mailbox delivery", self.mailbox_every));
        }
        way
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Options, Scenario, quickstart};

    #[test]
    fn the_way_of_a_message_is_told() {
        let engine = Engine {
            durability: "disk".into(),
            driver: "auto".into(),
            shards: 1,
            memory_budget: None,
            segment_bytes: None,
        };
        let whole = quickstart(&engine, &Content::Bytes(4096), 1);
        assert_eq!(
            whole.parts[0].topology.way(),
            "load → front-end → hub-1 or hub-2 → sink-a or sink-b; one message in 50 to mailbox delivery"
        );
        let options = Options {
            content: None,
            sizes: Vec::new(),
            shard_counts: Vec::new(),
            connections: None,
            rate_per_s: None,
            seconds: None,
            engine,
            cores: 2,
            seed: 1,
        };
        for (name, way) in [
            ("hub-hop", "load → hub → sink"),
            ("mailbox", "load → hub → mailbox"),
            ("sink-only", "load → sink"),
            ("failover-next-hop", "load → hub → sink-a or sink-b"),
        ] {
            let plan = Scenario::find(name).expect("a scenario").plan(&options);
            assert_eq!(plan.parts[0].topology.way(), way);
        }
    }
}
