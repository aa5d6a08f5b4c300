//! What an operator may set about queues, with the values of the three profiles: a server's settings begin with these.

use super::retry::Ladder;
use crate::wire::Span;

/// Settings of one shard's queues. Caps are per shard: [`Options::share_of`] divides a server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Waits of a queue whose hosts all failed (docs/PROFILES.md; M-096).
    pub queue_ladder: Ladder,
    /// Waits of a message by its own 4yz.
    pub message_ladder: Ladder,
    /// How long a dead host is left alone at first while others of its next hop work; also what halves the memory of a
    /// slow one.
    pub probe_wait: Span,
    /// How long it is left alone at most: the wait doubles with every failure until it answers a message.
    pub probe_wait_max: Span,
    /// A message is given up when it is this old (M-097).
    pub expire_after: Span,
    /// How long a connection attempt may take.
    pub connect_wait: Span,
    /// The same when another host of the next hop is connected (F-061).
    pub connect_wait_alternative: Span,
    /// After so long an unanswered attempt no longer keeps another host from being tried.
    pub attempt_stagger: Span,
    /// After so long without work a connection is closed.
    pub idle_wait: Span,
    /// An unused queue of a next hop that no route names is forgotten after so long (`QueueMaxIdleTime`).
    pub queue_idle_wait: Span,
    /// A host is passed over when its delay exceeds eight times the best host's by more than this.
    pub slow_tolerance: Span,
    /// Connections at most, to all destinations.
    pub connections_max: u32,
    /// Connections at most, to one destination.
    pub connections_per_destination: u32,
    /// Connections to one destination before its answers have shown that it bears more.
    pub connections_start: u32,
    /// New connections a minute, to all destinations; `None`: as many as needed (`MaxConnectionRatePerMinute`).
    pub connections_per_minute: Option<u32>,
    /// Another connection is worth opening for so many messages waiting or under way.
    pub work_per_connection: u32,
    /// A connection is closed after so many messages (`SmtpMaxMessagesPerConnection`).
    pub messages_per_connection: u32,
    /// Recipients offered in one transaction (M-098).
    pub recipients_per_transaction: u32,
    /// Messages under way to a host that has not answered yet, at most.
    pub host_window_start: u32,
    /// Messages under way to one host, at most.
    pub host_window_max: u32,
    /// Whether content that leaves memory can be had again: messages that wait for their own retry keep none (F-040).
    pub sheds_content: bool,
    /// Messages lent to other shards at once, at most; 0 where there is no other.
    pub lent_max: u32,
}

impl Options {
    /// The documented values of the product whose behaviour is kept (docs/PROFILES.md).
    pub fn exchange() -> Self {
        Self {
            queue_ladder: Ladder::new(&[(4, Span::minutes(1)), (6, Span::minutes(5))], Span::minutes(10)),
            message_ladder: Ladder::new(&[], Span::minutes(15)),
            expire_after: Span::hours(48),
            connections_per_minute: Some(1200),
            messages_per_connection: 20,
            ..Self::rfc()
        }
    }

    /// The values of RFC 5321 §4.5.4.1 (M-096): two tries within the first hour, then every half an hour, growing to 3 h.
    pub fn rfc() -> Self {
        Self {
            queue_ladder: Ladder::new(
                &[(2, Span::minutes(15)), (4, Span::minutes(30)), (4, Span::hours(1))],
                Span::hours(3),
            ),
            message_ladder: Ladder::new(&[], Span::minutes(30)),
            probe_wait: Span::seconds(1),
            probe_wait_max: Span::minutes(5),
            expire_after: Span::hours(5 * 24),
            connect_wait: Span::seconds(30),
            connect_wait_alternative: Span::seconds(5),
            attempt_stagger: Span::millis(250),
            idle_wait: Span::seconds(30),
            queue_idle_wait: Span::minutes(3),
            slow_tolerance: Span::millis(100),
            connections_max: 1_000,
            connections_per_destination: 20,
            connections_start: 4,
            connections_per_minute: None,
            work_per_connection: 2,
            messages_per_connection: 1_000,
            recipients_per_transaction: 100,
            host_window_start: 64,
            host_window_max: 65_536,
            sheds_content: false,
            lent_max: 0,
        }
    }

    /// For measuring: caps lifted, waits short (F-091).
    pub fn bench() -> Self {
        Self {
            queue_ladder: Ladder::new(&[(10, Span::millis(100)), (10, Span::millis(500))], Span::seconds(2)),
            message_ladder: Ladder::new(&[], Span::seconds(1)),
            probe_wait: Span::millis(50),
            probe_wait_max: Span::seconds(1),
            connect_wait: Span::seconds(5),
            connect_wait_alternative: Span::seconds(1),
            attempt_stagger: Span::millis(20),
            connections_max: 10_000,
            connections_per_destination: 256,
            connections_start: 16,
            work_per_connection: 16,
            messages_per_connection: 1_000_000_000,
            host_window_start: 1024,
            ..Self::rfc()
        }
    }

    /// One shard's share of these caps, never less than one.
    pub fn share_of(mut self, shards: u32) -> Self {
        let share = |cap: u32| cap.div_ceil(shards.max(1)).max(1);
        self.connections_max = share(self.connections_max);
        self.connections_per_destination = share(self.connections_per_destination);
        self.connections_start = share(self.connections_start);
        self.connections_per_minute = self.connections_per_minute.map(share);
        self
    }
}

/// Shard number `shard`'s part of `cap` connections to one destination: the parts of all shards are `cap` in sum, and some
/// may be none. `turn` says where to begin, so that not the same shard serves every destination of a small cap.
pub fn part_of(cap: u32, turn: u32, shard: u32, shards: u32) -> u32 {
    let shards = shards.max(1);
    let place = (shard % shards + turn % shards) % shards;
    cap / shards + u32::from(place < cap % shards)
}
