//! The figures that `ringbench targets` knows, in the order of `SPECIFICATION.md`.

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Stays for ever.
    pub id: &'static str,
    /// Its number in `SPECIFICATION.md`; empty for those that a later part of it will have.
    pub promise: &'static str,
    /// What is measured.
    pub figure: &'static str,
    /// At most this; `None` for a figure that is shown beside those that are promised.
    pub target: Option<f64>,
    /// Better: at most this.
    pub stretch: Option<f64>,
    /// Less than both of them, and not as much.
    pub is_below: bool,
    /// Of all three figures.
    pub unit: &'static str,
    /// Why it is `null` here, if it always is.
    pub unmeasured: &'static str,
}

const fn at_most(
    id: &'static str,
    promise: &'static str,
    figure: &'static str,
    target: f64,
    stretch: f64,
    unit: &'static str,
) -> Target {
    Target { id, promise, figure, target: Some(target), stretch: Some(stretch), is_below: false, unit, unmeasured: "" }
}

const fn below(
    id: &'static str,
    promise: &'static str,
    figure: &'static str,
    target: f64,
    stretch: f64,
    unit: &'static str,
) -> Target {
    Target { is_below: true, ..at_most(id, promise, figure, target, stretch, unit) }
}

const fn shown(id: &'static str, figure: &'static str, unit: &'static str) -> Target {
    Target { id, promise: "", figure, target: None, stretch: None, is_below: false, unit, unmeasured: "" }
}

impl Target {
    /// Whether `value` is within `bound`, one of its two.
    pub fn is_within(&self, value: f64, bound: f64) -> bool {
        if self.is_below { value < bound } else { value <= bound }
    }

    /// How its bounds are written.
    pub fn sign(&self) -> &'static str {
        if self.is_below { "<" } else { "≤" }
    }
}

const fn not_here(mut target: Target, why: &'static str) -> Target {
    target.unmeasured = why;
    target
}

/// All of them.
pub const TARGETS: &[Target] = &[
    at_most("T-hop-4k-50", "P-100", "hub hop by BDAT, CPU per message / pump, 50 connections, 4 KiB", 1.5, 1.2, "×"),
    at_most("T-hop-4k-256", "P-100", "hub hop by BDAT, CPU per message / pump, 256 connections, 4 KiB", 1.5, 1.2, "×"),
    shown("T-hop-4k-16", "hub hop by BDAT, CPU per message / pump, 16 connections, 4 KiB", "×"),
    shown("T-hop-4k-1", "hub hop by BDAT, CPU per message / pump, 1 connection, 4 KiB", "×"),
    at_most(
        "T-hop-100k-50",
        "P-101",
        "hub hop by BDAT, CPU per message / pump, 50 connections, 100 KiB",
        1.3,
        1.15,
        "×",
    ),
    shown("T-hop-100k-1", "hub hop by BDAT, CPU per message / pump, 1 connection, 100 KiB", "×"),
    shown("T-hop-100k-16", "hub hop by BDAT, CPU per message / pump, 16 connections, 100 KiB", "×"),
    shown("T-hop-100k-256", "hub hop by BDAT, CPU per message / pump, 256 connections, 100 KiB", "×"),
    at_most(
        "T-hop-data-4k-50",
        "P-102",
        "hub hop by DATA, CPU per message / pump with one message per write, 50 connections, 4 KiB",
        1.6,
        1.25,
        "×",
    ),
    shown(
        "T-hop-data-4k-256",
        "hub hop by DATA, CPU per message / pump with one message per write, 256 connections, 4 KiB",
        "×",
    ),
    shown(
        "T-hop-data-4k-16",
        "hub hop by DATA, CPU per message / pump with one message per write, 16 connections, 4 KiB",
        "×",
    ),
    shown(
        "T-hop-data-4k-1",
        "hub hop by DATA, CPU per message / pump with one message per write, 1 connection, 4 KiB",
        "×",
    ),
    shown(
        "T-hop-data-100k-50",
        "hub hop by DATA, CPU per message / pump with one message per write, 50 connections, 100 KiB",
        "×",
    ),
    shown(
        "T-hop-data-100k-256",
        "hub hop by DATA, CPU per message / pump with one message per write, 256 connections, 100 KiB",
        "×",
    ),
    shown(
        "T-hop-data-100k-16",
        "hub hop by DATA, CPU per message / pump with one message per write, 16 connections, 100 KiB",
        "×",
    ),
    shown(
        "T-hop-data-100k-1",
        "hub hop by DATA, CPU per message / pump with one message per write, 1 connection, 100 KiB",
        "×",
    ),
    at_most("T-shards-2", "P-103", "CPU per message, two shards / one, 50 connections, 4 KiB", 1.10, 1.03, "×"),
    at_most(
        "T-shards-rate",
        "P-103",
        "twice the rate of one shard / the rate of two, where each shard and the load have cores of their own",
        1.67,
        1.11,
        "×",
    ),
    at_most("T-copies-4k", "P-104", "user-space copies of content, in and out, to a tenth, 4 KiB", 1.0, 1.0, "copies"),
    at_most(
        "T-copies-100k",
        "P-104",
        "user-space copies of content, in and out, to a tenth, 100 KiB",
        1.0,
        0.4,
        "copies",
    ),
    at_most("T-alloc-4k", "P-105", "allocations per message, 50 connections, 4 KiB", 1.0, 0.2, ""),
    at_most("T-syscalls-50", "P-106", "system calls per message, 50 connections, 4 KiB", 0.5, 0.3, ""),
    at_most("T-syscalls-256", "P-106", "system calls per message, 256 connections, 4 KiB", 0.15, 0.06, ""),
    at_most(
        "T-ack-p99",
        "P-107",
        "acknowledgement p99 at half load / the disk's own sync p99, 50 connections, 4 KiB",
        3.0,
        1.5,
        "×",
    ),
    shown(
        "T-ack-p99-load",
        "the same / the disk alone under as many writes of the same size, each from when it was due, p99",
        "×",
    ),
    at_most("T-mem-idle", "P-108", "memory of an idle connection", 4096.0, 1024.0, "octets"),
    at_most("T-mem-queued", "P-109", "memory of a queued message whose content is on disk", 100.0, 72.0, "octets"),
    below(
        "T-outage-next-hop",
        "P-110",
        "outage when one of two next hops is killed at half load, worst",
        200.0,
        50.0,
        "ms",
    ),
    below("T-outage-next-hop-p50", "P-110", "the same, median", 100.0, 50.0, "ms"),
    at_most("T-lost-next-hop", "P-110", "messages lost then", 0.0, 0.0, "messages"),
    below(
        "T-outage-hub",
        "P-111",
        "outage when a hub behind a front end is killed at half load, worst",
        200.0,
        50.0,
        "ms",
    ),
    below("T-outage-hub-p50", "P-111", "the same, median", 100.0, 50.0, "ms"),
    at_most("T-lost-hub", "P-111", "messages lost then", 0.0, 0.0, "messages"),
    shown("T-outage-none", "the same when nothing is killed: what disk and machine do by themselves, worst", "ms"),
    shown("T-outage-none-p50", "the same, median", "ms"),
    shown("T-lost-none", "messages lost then", "messages"),
    at_most(
        "T-load-cpu",
        "P-112",
        "load generator, CPU per message / smtp-source, by DATA, pipelined, 50 connections, 4 KiB",
        0.25,
        0.125,
        "×",
    ),
    at_most(
        "T-sink-cpu",
        "P-112",
        "sink, CPU per message / smtp-sink, by DATA, pipelined, 50 connections, 4 KiB",
        0.25,
        0.125,
        "×",
    ),
    shown("T-load-cpu-1", "the same of the load generator, one transaction at a time", "×"),
    shown("T-sink-cpu-1", "the same of the sink, one transaction at a time", "×"),
    at_most(
        "T-relay-4k-50",
        "P-113",
        "relay by BDAT in mode none, CPU per message / pump that keeps nothing, 50 connections, 4 KiB",
        1.3,
        1.15,
        "×",
    ),
    at_most("T-idle-p99", "P-114", "p99 of a steady hop beside 10 000 idle connections / alone", 2.0, 1.2, "×"),
    at_most("T-slow-p99", "P-114", "the same beside 1 000 slow senders", 2.0, 1.2, "×"),
    at_most("T-dead-p99", "P-114", "delivery p99 beside a next hop that refuses connections / alone", 2.0, 1.2, "×"),
    at_most("T-dead-rate", "P-114", "highest rate alone / beside it", 1.053, 1.02, "×"),
    at_most("T-silent-p99", "P-114", "delivery p99 beside a next hop that hangs / alone", 2.0, 1.2, "×"),
    at_most("T-silent-rate", "P-114", "highest rate alone / beside it", 1.053, 1.02, "×"),
    not_here(
        at_most("T-hop-tls-100k", "", "hub hop over TLS 1.3 / clear hop and cipher, 100 KiB", 1.3, 1.1, "×"),
        "no TLS yet",
    ),
    not_here(
        at_most("T-tracking", "", "tracking log on / off, CPU per message", 1.02, 1.02, "×"),
        "no tracking log yet",
    ),
];
