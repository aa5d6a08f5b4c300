//! Every key of the file, with what it means, what it takes and where it goes: the one table that reading, checking,
//! `--print-defaults` and the hints for mistyped names share.

use super::kinds::{Bytes, Choice, Count, Flag, Kind, List, Maybe, OrAuto, OrOff, Steps, Value, Wait};
use super::places::{AbsolutePath, Address, DomainName, HostPort, Range, SocketPath, StorePath, UserName};
use super::problem::Complaint;
use crate::settings::*;
use crate::shell::hub::PIECE_BYTES_MAX;
use crate::spool::SEGMENT_BYTES_LIMIT;
use crate::wire::Span;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One key of a section that is kept in an `S`.
pub(super) struct Key<S> {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub what: &'static str,
    /// What it takes.
    pub rule: fn() -> String,
    /// An example.
    pub sample: fn() -> String,
    /// Puts the value in its place, or says everything that is wrong with it.
    pub read: fn(&mut S, &Value<'_>) -> Vec<Complaint>,
    /// The value in its place as the file writes it; `None` when nothing was said.
    pub show: fn(&S) -> Option<String>,
}

macro_rules! keys {
    ($name:ident: $section:ty { $($key:ident => $($field:ident).+ : $kind:expr, $what:literal;)+ }) => {
        pub(super) const $name: &[Key<$section>] = &[$(Key {
            name: stringify!($key),
            what: $what,
            rule: || ($kind).rule(),
            sample: || ($kind).sample(),
            read: |section, value| match ($kind).read(value) {
                Ok(found) => { section.$($field).+ = found; Vec::new() }
                Err(complaints) => complaints,
            },
            show: |section| ($kind).show(&section.$($field).+),
        }),+];
    };
}

/// Hosts of one next hop (M-094 bounds what a name may bring in the same way).
pub(super) const HOSTS_MAX: usize = 100;
/// Ranges of addresses in one list.
const RANGES_MAX: usize = 1_000;
/// Octets of a segment, at least: a batch with the longest envelope, trace and piece of a large body fits in with room for
/// more, and the largest body spans no more segments than a record can name.
const SEGMENT_BYTES_LEAST: u64 = 4 << 20;
const _: () = assert!(SEGMENT_BYTES_LEAST >= 2 * PIECE_BYTES_MAX as u64, "a fresh segment takes any piece of a body");
/// Domains in one list.
const DOMAINS_MAX: usize = 100_000;
/// Shards of one process.
const SHARDS_MAX: u32 = 256;
const DAY: Span = Span::hours(24);
const MILLISECOND: Span = Span::millis(1);

/// What `[server]` says, before the machine was asked and the rest decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ServerText {
    pub fqdn: Option<String>,
    pub data_dir: Option<PathBuf>,
    pub user: Option<String>,
    pub shards: Option<u32>,
    pub cores: Option<Option<Vec<u32>>>,
    pub driver: DriverChoice,
    pub durability: Durability,
    pub memory_budget: u64,
    pub admin: Option<Option<PathBuf>>,
    pub metrics: Option<SocketAddr>,
    pub drain_wait: Span,
}

/// What a `[[listener]]` says besides its own limits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ListenerText {
    pub address: Option<SocketAddr>,
    pub role: Option<Role>,
    pub protocol: Protocol,
}

const DRIVER: Choice<DriverChoice> = Choice {
    names: &[
        ("auto", DriverChoice::Auto),
        ("uring", DriverChoice::Uring),
        ("tokio-uring", DriverChoice::TokioUring),
        ("epoll", DriverChoice::Epoll),
    ],
    later: &[],
};
const DURABILITY: Choice<Durability> = Choice {
    names: Durability::NAMES,
    later: &[("replica", "\"disk\" until shadow copies are"), ("disk+replica", "\"disk\" until shadow copies are")],
};
const PROTOCOL: Choice<Protocol> = Choice { names: Protocol::NAMES, later: &[] };
pub(super) const ROLE: Choice<Role> = Choice {
    names: Role::NAMES,
    later: &[
        ("mailbox-submission", "\"hub\", \"frontend\" or \"mailbox-delivery\""),
        ("edge", "\"hub\", \"frontend\" or \"mailbox-delivery\""),
    ],
};
pub(super) const PROFILE: Choice<Profile> = Choice { names: Profile::NAMES, later: &[] };
const RECEIVED: Choice<ReceivedForm> = Choice { names: ReceivedForm::NAMES, later: &[] };

keys! { SERVER: ServerText {
    fqdn => fqdn: Maybe(DomainName), "our name in greetings, EHLO and Received; the machine's own unless said";
    data_dir => data_dir: Maybe(AbsolutePath("/var/lib/ringpost")), "the folder of the spool, mode 0700; a hub needs one";
    user => user: Maybe(UserName), "the user to become when started as root";
    shards => shards: OrAuto(Count(1, SHARDS_MAX)), "threads that carry mail; auto: one for each core";
    cores => cores: OrAuto(OrOff(List(Count(0, 4095), SHARDS_MAX as usize))), "the core of each shard; auto: pinned where there is a shard for every core";
    driver => driver: DRIVER, "which I/O; a named one that the machine refuses ends the start";
    durability => durability: DURABILITY, "what 250 means: in memory, written, or synced";
    memory_budget => memory_budget: Bytes(16 << 20, 1 << 44), "content in memory, of all shards together; a message may have a quarter of it";
    admin => admin: Maybe(OrOff(SocketPath)), "the socket of `ringpost status`; admin.sock in data_dir unless said";
    metrics => metrics: OrOff(Address("127.0.0.1:9925")), "where /metrics is served; loopback only";
    drain_wait => drain_wait: Wait(Span::ZERO, Span::hours(1)), "how long a drain may take after SIGTERM";
}}

keys! { LISTENER: ListenerText {
    address => address: Maybe(Address("127.0.0.1:2525")), "where to listen; loopback until role ports speak TLS";
    role => role: Maybe(ROLE), "the service behind it";
    protocol => protocol: PROTOCOL, "its language";
}}

keys! { RECEIVE: Receive {
    size_max => size_max: Bytes(64 << 10, 1 << 40), "octets of a message, announced by SIZE";
    header_max => header_max: Bytes(4 << 10, 64 << 20), "octets of a header section";
    header_fields_max => header_fields_max: Count(100, 10_000_000), "fields of a header section";
    recipients_max => recipients_max: Count(100, 1_000_000), "recipients of a transaction";
    hops_max => hops_max: Count(1, 500), "Received headers before a message counts as looping";
    errors_max => errors_max: Count(1, 10_000), "commands in error before 421";
    idle_commands_max => idle_commands_max: Count(1, 1_000_000), "commands in a row that bring no message nearer, as NOOP and RSET, before 421";
    refused_recipients_max => refused_recipients_max: Count(1, 1_000_000), "recipients refused in a row before 421";
    connections_max => connections_max: Count(1, 1_000_000), "connections to a listener";
    connections_per_source_max => connections_per_source_max: Count(1, 1_000_000), "of those, from one address";
    in_flight_max => in_flight_max: Count(1, 64), "transactions that may run ahead of their commits";
    command_wait => command_wait: Wait(Span::seconds(1), DAY), "silence while a command is awaited";
    data_wait => data_wait: Wait(Span::seconds(1), DAY), "silence inside a body";
    session_max => session_max: OrOff(Wait(Span::seconds(1), Span::hours(24 * 7))), "a session's length, looked at between transactions";
    tarpit_wait => tarpit_wait: Wait(Span::ZERO, Span::minutes(5)), "delay of the answer to a command in error, or of a refusal for good";
    rate_min => rate_min: OrOff(Bytes(1, 1 << 30)), "octets per second that a body must reach after its first minute";
    greeting_wait => greeting_wait: Wait(Span::ZERO, Span::minutes(1)), "how long the greeting is held back to see who talks before it";
    refuse_early_talkers => refuse_early_talkers: Flag, "refuse who talks before the greeting; needs greeting_wait";
    odd_names => odd_names: Flag, "tolerate EHLO names that are no domain, as with an underscore";
    strict_paths => strict_paths: Flag, "refuse white space between FROM: and <";
    normalize_from => normalize_from: List(Range, RANGES_MAX), "clients whose bare LF by DATA becomes CRLF, against RFC 5321; everybody else's message is refused";
    strict_pipelining => strict_pipelining: Flag, "close on octets that come behind EHLO or DATA before the reply to it";
    pipelining => pipelining: Flag, "offer PIPELINING";
    chunking => chunking: Flag, "offer CHUNKING";
    eight_bit_mime => eight_bit_mime: Flag, "offer 8BITMIME";
    dsn => dsn: Flag, "offer DSN (RFC 3461)";
    enhanced_status_codes => enhanced_status_codes: Flag, "offer ENHANCEDSTATUSCODES";
    announce_size => announce_size: Flag, "offer SIZE";
    received => received: RECEIVED, "the form of our Received header";
}}

keys! { DELIVERY: Delivery {
    connections_max => connections_max: Count(1, 1_000_000), "outgoing connections";
    connections_per_hop_max => connections_per_hop_max: Count(1, 100_000), "of those, to one next hop";
    messages_per_connection_max => messages_per_connection_max: Count(1, 1_000_000_000), "messages before a connection is closed";
    in_flight_max => in_flight_max: Count(1, 64), "transactions in flight on a connection to a peer with CHUNKING";
    recipients_max => recipients_max: Count(1, 100_000), "recipients of one outgoing transaction";
    chunking => chunking: Flag, "use BDAT where the peer offers CHUNKING";
    connect_wait => connect_wait: Wait(MILLISECOND, Span::hours(1)), "for a connection";
    greeting_wait => greeting_wait: Wait(MILLISECOND, Span::hours(1)), "for the greeting";
    command_wait => command_wait: Wait(MILLISECOND, Span::hours(1)), "for the answer to EHLO, RSET and the like";
    mail_wait => mail_wait: Wait(MILLISECOND, Span::hours(1)), "for the answer to MAIL";
    rcpt_wait => rcpt_wait: Wait(MILLISECOND, Span::hours(1)), "for the answer to RCPT";
    data_wait => data_wait: Wait(MILLISECOND, Span::hours(1)), "for 354";
    block_wait => block_wait: Wait(MILLISECOND, Span::hours(1)), "for a block of the body to leave";
    dot_wait => dot_wait: Wait(MILLISECOND, Span::hours(1)), "for the answer to the final dot or last chunk";
    quit_wait => quit_wait: Wait(MILLISECOND, Span::minutes(5)), "for 221";
    idle_wait => idle_wait: Wait(Span::ZERO, Span::hours(1)), "how long an idle connection is kept";
    queue_idle_wait => queue_idle_wait: Wait(Span::seconds(5), Span::hours(1)), "how long an empty queue is shown";
    session_max => session_max: Wait(Span::seconds(1), DAY), "a session's length, looked at between transactions";
    retry => retry: Steps, "when a next hop is tried again whose hosts all failed";
    message_retry => message_retry: Wait(MILLISECOND, DAY), "when a message is tried again that was deferred by itself";
    expire_after => expire_after: Wait(Span::seconds(5), Span::hours(24 * 90)), "when a message is given up: its recipients have failed (4.4.7)";
    reports => reports: Flag, "tell senders by a report who failed for good; else it is on record alone";
    host_backoff_min => host_backoff_min: Wait(MILLISECOND, Span::hours(1)), "how long a failed host of a next hop is left alone at first, while others work";
    host_backoff_max => host_backoff_max: Wait(MILLISECOND, DAY), "how long it is left alone at most: the wait doubles until it answers";
}}

keys! { ACCESS: Access {
    relay_from => relay_from: List(Range, RANGES_MAX), "clients that may relay; a list replaces the default";
    trusted_front_ends => trusted_front_ends: List(Range, RANGES_MAX), "peers whose word about the client behind them is taken";
    accepted_domains => accepted_domains: List(DomainName, DOMAINS_MAX), "domains that anybody may send to";
}}

keys! { NEXT_HOP: NextHop {
    hosts => hosts: List(HostPort(25), HOSTS_MAX), "its hosts, of equal standing; the addresses of a name are tried in order";
    protocol => protocol: PROTOCOL, "its language";
    connections_max => connections_max: Maybe(Count(1, 100_000)), "connections to it, instead of [delivery] connections_per_hop_max";
    send_eight_bit => send_eight_bit: Flag, "send 8-bit content as it is to hosts without 8BITMIME, against RFC 6152; else it fails with 5.6.3";
    long_lines => long_lines: Maybe(Flag), "send lines over 998 octets as they are; else such a message fails with 5.6.0; not in profile rfc unless said";
}}

keys! { FRONTEND: NextHop {
    hubs => hosts: List(HostPort(2525), HOSTS_MAX), "the hubs behind a front end";
    connections_max => connections_max: Maybe(Count(1, 100_000)), "connections to them, instead of [delivery] connections_per_hop_max";
}}

keys! { STORE: Settings {
    path => store: StorePath, "where mailbox delivery puts messages: Maildir folders below it, or nowhere";
}}

keys! { SPOOL: Spool {
    segment_size => segment_bytes: Bytes(SEGMENT_BYTES_LEAST, SEGMENT_BYTES_LIMIT), "one preallocated file of the log";
    settle_wait => settle_wait: Wait(Span::ZERO, Span::seconds(1)), "how long an outcome may wait for the next batch";
    rewrite_rate => rewrite_rate: Bytes(0, 1 << 40), "octets a second that a shard may write again to get sparse segments back; 0: none";
    free_min => free_min: Bytes(0, 1 << 44), "room that stays free on the file system: below it mail is refused for now";
}}

keys! { LOG: Log {
    format => format: Choice { names: LogFormat::NAMES, later: &[] }, "for people or for machines";
    level => level: Choice { names: Level::NAMES, later: &[] }, "the least that is said";
}}

impl ServerText {
    pub fn of(server: &Server) -> ServerText {
        ServerText {
            fqdn: None,
            data_dir: server.data_dir.clone(),
            user: server.user.clone(),
            shards: None,
            cores: None,
            driver: server.driver,
            durability: server.durability,
            memory_budget: server.memory_budget,
            admin: None,
            metrics: server.metrics,
            drain_wait: server.drain_wait,
        }
    }
}

/// The tables of a file and the names that may stand in each, where names are fixed.
pub(super) fn tables() -> Vec<(&'static str, Vec<&'static str>)> {
    fn names<S>(keys: &[Key<S>]) -> Vec<&'static str> {
        keys.iter().map(|key| key.name).collect()
    }
    vec![
        ("server", names(SERVER)),
        ("listener", [names(LISTENER), names(RECEIVE)].concat()),
        ("receive", names(RECEIVE)),
        ("delivery", names(DELIVERY)),
        ("access", names(ACCESS)),
        ("next_hop", names(NEXT_HOP)),
        ("routes", Vec::new()),
        ("frontend", names(FRONTEND)),
        ("mailboxes", Vec::new()),
        ("store", names(STORE)),
        ("spool", names(SPOOL)),
        ("log", names(LOG)),
    ]
}
