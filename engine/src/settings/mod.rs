//! What one server was told to do: plain values, complete and checked, made once at start by `config` and handed to every
//! shard as `Arc<Settings>`. Nothing here changes while the server runs; what may change (the routes) is published beside
//! it as snapshots.
//!
//! No text of a file, no default and no rule is known here: `profile` has the defaults, `config` the rules.

mod mailboxes;
mod profile;

pub use crate::io::choice::DriverChoice;
pub use crate::wire::{Network, NetworkError};
pub use mailboxes::{Mailboxes, Owner};

use crate::wire::Span;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Everything a server was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Whose defaults hold.
    pub profile: Profile,
    /// The process and its machine.
    pub server: Server,
    /// Where it listens, as what; at least one.
    pub listeners: Vec<Listener>,
    /// Limits and manners of receiving, before a listener's own exceptions.
    pub receive: Receive,
    /// Limits and manners of sending.
    pub delivery: Delivery,
    /// Who may do what.
    pub access: Access,
    /// The hosts mail is handed to, by name; referred to by [`Settings::routes`].
    pub next_hops: BTreeMap<String, NextHop>,
    /// Which next hop a recipient's domain goes to.
    pub routes: Routes,
    /// The hubs behind a front end; no hosts where there is no front end.
    pub hubs: NextHop,
    /// Which folder of the store an address is delivered to.
    pub mailboxes: Mailboxes,
    /// Where mailbox delivery puts messages.
    pub store: Store,
    /// The log that messages rest in.
    pub spool: Spool,
    /// What the server says about itself.
    pub log: Log,
}

impl Role {
    /// Whether a message stands in memory as a whole before it is handed on; a front end passes it on as it comes.
    pub fn holds_messages(self) -> bool {
        self != Role::Frontend
    }
}

impl Settings {
    /// The domains of ours that have no dot (M-028), in lower case, sorted.
    pub fn single_labels(&self) -> Vec<String> {
        let own = std::iter::once(self.server.fqdn.as_str());
        let accepted = self.access.accepted_domains.iter().map(String::as_str);
        let routed = self.routes.domains.keys().map(String::as_str);
        let all = own.chain(accepted).chain(routed).chain(self.mailboxes.domain_names());
        let mut names: Vec<String> = all.filter(|name| !name.contains('.')).map(str::to_ascii_lowercase).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether any listener has this role.
    pub fn plays(&self, role: Role) -> bool {
        self.listeners.iter().any(|listener| listener.role == role)
    }

    /// Whether mail that our `role` hands to `address` would come back to it (M-081): a hub's by a hub or front end of this
    /// server, a front end's by a front end. Mailbox delivery passes nothing on.
    pub fn comes_back(&self, role: Role, address: SocketAddr) -> bool {
        let returns = |to: Role| to == Role::Frontend || (to == Role::Hub && role == Role::Hub);
        self.listeners.iter().any(|listener| listener.address == address && returns(listener.role))
    }
}

/// Whose defaults hold (docs/PROFILES.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// As the documents of Exchange transport publish them.
    Exchange,
    /// As the RFCs ask.
    Rfc,
    /// As `Rfc`, with rates and caps lifted for measuring.
    Bench,
}

/// What 250 means (SPECIFICATION.md, "Durability").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The message is in memory.
    None,
    /// Written to the file, not synced.
    Os,
    /// Synced to stable storage.
    Disk,
}

/// What a listener's service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Takes responsibility, queues, relays.
    Hub,
    /// Stateless, in front of hubs.
    Frontend,
    /// Stateless, in front of a mailbox store.
    MailboxDelivery,
}

/// The language of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 5321.
    Smtp,
    /// RFC 2033.
    Lmtp,
}

/// How a Received header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceivedForm {
    /// docs/PROFILES.md, "Received fields".
    Exchange,
    /// M-073, M-075.
    Rfc,
}

/// Writes the names of an enum as configuration, flags and results spell them, and reads them back.
macro_rules! spelled {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every value with its name, in the order in which they are offered.
            pub const NAMES: &'static [(&'static str, $type)] = &[$(($name, $type::$variant)),+];

            /// The name as configuration, flags and results spell it.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.name()) }
        }
        impl FromStr for $type {
            type Err = UnknownName;
            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or(UnknownName)
            }
        }
    };
}

spelled!(Profile { Exchange = "exchange", Rfc = "rfc", Bench = "bench" });
spelled!(Durability { None = "none", Os = "os", Disk = "disk" });
spelled!(Role { Hub = "hub", Frontend = "frontend", MailboxDelivery = "mailbox-delivery" });
spelled!(Protocol { Smtp = "smtp", Lmtp = "lmtp" });
spelled!(ReceivedForm { Exchange = "exchange", Rfc = "rfc" });
spelled!(LogFormat { Text = "text", Json = "json" });
spelled!(Level { Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" });

/// A word that is none of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of the names")]
pub struct UnknownName;

/// The process and its machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Our name in greetings, EHLO and Received.
    pub fqdn: String,
    /// Tells this process from every other, in its greetings: drawn at start, in hexadecimal (M-081). Empty: it is not told.
    pub instance: String,
    /// Absolute path of the folder that holds the spool; `None` for servers that keep nothing.
    pub data_dir: Option<PathBuf>,
    /// The user to become when started as root.
    pub user: Option<String>,
    /// One shard per element, pinned to that core where `Some`; never empty.
    pub cores: Vec<Option<usize>>,
    /// Which I/O; a named one that the machine refuses ends the start.
    pub driver: DriverChoice,
    /// What 250 means.
    pub durability: Durability,
    /// Octets of content that may stand in memory, of all shards together (F-040).
    pub memory_budget: u64,
    /// The Unix socket for `ringpost status`.
    pub admin: Option<PathBuf>,
    /// Where `/metrics` is served; loopback.
    pub metrics: Option<SocketAddr>,
    /// How long a drain may take after SIGTERM.
    pub drain_wait: Span,
}

impl Server {
    /// Octets of a message that can always be had in memory, however many shards share the budget: from three quarters on
    /// content that is on disk leaves memory (F-040), and a quarter comes free whatever is under way.
    pub fn message_max(&self) -> u64 {
        self.memory_budget / 4
    }
}

/// One address that is listened on.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Loopback until role ports speak TLS (S-013). Port 0 asks the system to choose.
    pub address: SocketAddr,
    /// The service behind it.
    pub role: Role,
    /// Its language.
    pub protocol: Protocol,
    /// Its limits and manners, complete.
    pub receive: Receive,
}

/// Limits and manners of receiving.
#[derive(Debug, Clone, PartialEq)]
pub struct Receive {
    /// Octets of content; announced by SIZE.
    pub size_max: u64,
    /// Octets of the header section.
    pub header_max: u64,
    /// Fields of the header section.
    pub header_fields_max: u32,
    /// Recipients of a transaction, at least 100.
    pub recipients_max: u32,
    /// Received headers before a message counts as looping.
    pub hops_max: u32,
    /// Commands in error before 421.
    pub errors_max: u32,
    /// Commands in a row that bring no message nearer before 421; not for trusted front ends (F-137).
    pub idle_commands_max: u32,
    /// Recipients refused in a row before 421; not for trusted front ends (F-138).
    pub refused_recipients_max: u32,
    /// Connections to this listener, of all shards together.
    pub connections_max: u32,
    /// Of those, from one source.
    pub connections_per_source_max: u32,
    /// Transactions a session may run ahead of their commits, 1 to 64.
    pub in_flight_max: u32,
    /// Silence allowed while a command is awaited.
    pub command_wait: Span,
    /// Silence allowed inside a body.
    pub data_wait: Span,
    /// A session's whole length, looked at between transactions only; `None` for no limit.
    pub session_max: Option<Span>,
    /// Delay of the answer to a command in error, or of a recipient's refusal for good; not for trusted front ends (S-021).
    pub tarpit_wait: Span,
    /// Octets per second that a body must reach after its first minute; `None` for no limit (M-071).
    pub rate_min: Option<u64>,
    /// How long the greeting is held back to see who talks before it (M-017); zero: nobody looks.
    pub greeting_wait: Span,
    /// Whether a peer that talks before the greeting is refused (M-017).
    pub refuse_early_talkers: bool,
    /// Whether EHLO names outside the domain syntax are tolerated (M-005).
    pub odd_names: bool,
    /// Whether white space between `FROM:` and `<` is refused (M-021).
    pub strict_paths: bool,
    /// Clients whose bare LF becomes CRLF in content that comes by DATA (M-044).
    pub normalize_from: Vec<Network>,
    /// Whether octets right behind EHLO or DATA, before the reply, close the session (M-112).
    pub strict_pipelining: bool,
    /// Offer PIPELINING.
    pub pipelining: bool,
    /// Offer CHUNKING.
    pub chunking: bool,
    /// Offer 8BITMIME.
    pub eight_bit_mime: bool,
    /// Offer DSN.
    pub dsn: bool,
    /// Offer ENHANCEDSTATUSCODES.
    pub enhanced_status_codes: bool,
    /// Offer SIZE.
    pub announce_size: bool,
    /// The form of our Received header.
    pub received: ReceivedForm,
}

/// Limits and manners of sending.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Outgoing connections of all shards together.
    pub connections_max: u32,
    /// Of those, to one next hop.
    pub connections_per_hop_max: u32,
    /// Messages on one connection before it is closed.
    pub messages_per_connection_max: u32,
    /// Transactions in flight on one connection to a peer with CHUNKING, 1 to 64: what window W5 can hold.
    pub in_flight_max: u32,
    /// Recipients of one outgoing transaction.
    pub recipients_max: u32,
    /// Use BDAT where the peer offers CHUNKING.
    pub chunking: bool,
    /// Wait for a connection.
    pub connect_wait: Span,
    /// Wait for the greeting.
    pub greeting_wait: Span,
    /// Wait for the answer to EHLO, RSET and the like.
    pub command_wait: Span,
    /// Wait for the answer to MAIL.
    pub mail_wait: Span,
    /// Wait for the answer to RCPT.
    pub rcpt_wait: Span,
    /// Wait for 354.
    pub data_wait: Span,
    /// Wait for a block of the body to leave.
    pub block_wait: Span,
    /// Wait for the answer to the final dot or the last chunk.
    pub dot_wait: Span,
    /// Wait for 221.
    pub quit_wait: Span,
    /// How long an idle connection is kept for the next message.
    pub idle_wait: Span,
    /// How long an empty queue is shown (`QueueMaxIdleTime`).
    pub queue_idle_wait: Span,
    /// A session's whole length, looked at between transactions only (M-069).
    pub session_max: Span,
    /// When a queue whose hosts all failed is tried again.
    pub retry: Ladder,
    /// When a message that was deferred by itself is tried again.
    pub message_retry: Span,
    /// When a message is given up.
    pub expire_after: Span,
    /// Whether senders are told by a report that a recipient failed for good; else it is on record alone.
    pub reports: bool,
    /// How long a host that failed is left alone at first.
    pub host_backoff_min: Span,
    /// How long it is left alone at most.
    pub host_backoff_max: Span,
}

/// Waits between tries: so many of each step, then the last one for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    /// How often, and which wait.
    pub steps: Vec<(u32, Span)>,
    /// The wait after the steps.
    pub last: Span,
}

impl Ladder {
    /// The wait before try `attempt`, where 0 is the first one after a failure.
    pub fn wait(&self, attempt: u32) -> Span {
        let mut left = attempt;
        for (count, wait) in &self.steps {
            match left.checked_sub(*count) {
                Some(rest) => left = rest,
                None => return *wait,
            }
        }
        self.last
    }
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Access {
    /// Clients that may relay: loopback unless said otherwise (S-012).
    pub relay_from: Vec<Network>,
    /// Peers whose word about the client behind them is taken (S-018).
    pub trusted_front_ends: Vec<Network>,
    /// Domains that anybody may send to, in lower case; those below them are others (M-031).
    pub accepted_domains: Vec<String>,
}

/// A host as configuration names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// By address.
    Address(SocketAddr),
    /// By name, to be asked of the system resolver; the name is lower case.
    Name(String, u16),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(address) => write!(f, "{address}"),
            Host::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// One place mail is handed to: one queue, one or more hosts of equal standing.
#[derive(Debug, Clone, PartialEq)]
pub struct NextHop {
    /// Its hosts in the order in which they are named.
    pub hosts: Vec<Host>,
    /// Its language.
    pub protocol: Protocol,
    /// Connections to it; `None` for [`Delivery::connections_per_hop_max`].
    pub connections_max: Option<u32>,
    /// Send 8-bit content to hosts without 8BITMIME as it is, against RFC 6152 §3; else it fails with 5.6.3 (M-175).
    pub send_eight_bit: bool,
    /// Send lines over 998 octets as they are (M-054); `None` as the profile says.
    pub long_lines: Option<bool>,
}

impl NextHop {
    /// A next hop that nothing more is said about.
    pub fn of(hosts: Vec<Host>, protocol: Protocol) -> Self {
        Self { hosts, protocol, connections_max: None, send_eight_bit: false, long_lines: None }
    }
}

/// Which next hop a domain goes to. Names are those of [`Settings::next_hops`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Routes {
    /// Lower-case domains that are matched whole.
    pub domains: BTreeMap<String, String>,
    /// Lower-case domains whose subdomains are matched (`*.example.com`), without the star and its dot.
    pub below: BTreeMap<String, String>,
    /// Everything else.
    pub rest: Option<String>,
}

impl Routes {
    /// The next hop of `domain` (lower case): itself, else the nearest domain above it, else the rest.
    pub fn next_hop(&self, domain: &str) -> Option<&str> {
        if let Some(hop) = self.domains.get(domain) {
            return Some(hop);
        }
        let mut above = domain;
        while let Some((_, parent)) = above.split_once('.') {
            if let Some(hop) = self.below.get(parent) {
                return Some(hop);
            }
            above = parent;
        }
        self.rest.as_deref()
    }

    /// Whether nothing is routed.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.below.is_empty() && self.rest.is_none()
    }
}

/// Where mailbox delivery puts messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// There is no mailbox delivery.
    Absent,
    /// Takes everything for everybody and keeps nothing: for measuring.
    Null,
    /// Maildir folders below this absolute path.
    Maildir(PathBuf),
}

/// The log that messages rest in.
#[derive(Debug, Clone, PartialEq)]
pub struct Spool {
    /// Octets of a segment.
    pub segment_bytes: u64,
    /// How long an outcome may wait for the next batch.
    pub settle_wait: Span,
    /// Octets a second that each shard may write again out of segments in which little is live; 0: none.
    pub rewrite_rate: u64,
    /// Octets of the file system that stay free: below it mail is refused for now.
    pub free_min: u64,
}

/// What the server says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// The least that is said.
    pub level: Level,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What is broken.
    Error,
    /// What may break, or was refused.
    Warn,
    /// What happened.
    Info,
    /// Why it happened.
    Debug,
    /// Everything.
    Trace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_they_are_written() {
        for (name, role) in Role::NAMES {
            assert_eq!(name.parse::<Role>().as_ref(), Ok(role));
            assert_eq!(&role.to_string(), name);
        }
        assert_eq!("Hub".parse::<Role>(), Err(UnknownName));
    }

    #[test]
    fn a_ladder_takes_each_step_as_often_as_it_says_and_the_last_for_ever() {
        let ladder = Ladder { steps: vec![(4, Span::minutes(1)), (6, Span::minutes(5))], last: Span::minutes(10) };
        let minutes: Vec<u64> = (0..13).map(|attempt| ladder.wait(attempt).as_millis() / 60_000).collect();
        assert_eq!(minutes, [1, 1, 1, 1, 5, 5, 5, 5, 5, 5, 10, 10, 10]);
        assert_eq!(ladder.wait(u32::MAX), Span::minutes(10));
        assert_eq!(Ladder { steps: Vec::new(), last: Span::seconds(1) }.wait(0), Span::seconds(1));
    }

    #[test]
    fn m_081_only_what_comes_back_is_a_loop() {
        let mut settings = Settings::of(Profile::Rfc);
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        for (port, role) in [(1, Role::Hub), (2, Role::Frontend), (3, Role::MailboxDelivery)] {
            let receive = Receive::of(Profile::Rfc, role);
            settings.listeners.push(Listener { address: at(port), role, protocol: Protocol::Smtp, receive });
        }
        let back = |role| [1, 2, 3, 4].map(|port| settings.comes_back(role, at(port)));
        assert_eq!(back(Role::Hub), [true, true, false, false]);
        assert_eq!(back(Role::Frontend), [false, true, false, false]);
    }

    #[test]
    fn the_nearest_route_wins() {
        let routes = Routes {
            domains: [("a.test".into(), "exact".into())].into(),
            below: [("a.test".into(), "near".into()), ("test".into(), "far".into())].into(),
            rest: Some("smart".into()),
        };
        for (domain, hop) in [
            ("a.test", "exact"),
            ("x.a.test", "near"),
            ("y.x.a.test", "near"),
            ("b.test", "far"),
            ("test", "smart"),
            ("xa.test", "far"),
            ("example.org", "smart"),
        ] {
            assert_eq!(routes.next_hop(domain), Some(hop), "{domain}");
        }
        assert_eq!(Routes::default().next_hop("a.test"), None);
    }
}
