//! Reports: what a shard answers when the control plane asks how it stands, and what the whole server answers a person.
//! The JSON form of [`Status`] is the answer of the admin socket and of `ringpost status --json`; keys are only ever added.

use super::counters::Counts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How one shard stands. Times are relative, so that no clock has to be shared.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ShardReport {
    /// Its queues.
    pub queues: Vec<QueueReport>,
    /// What it has counted, of the same moment.
    pub counts: Counts,
}

/// One queue of one shard, or of the server when shards were added up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct QueueReport {
    /// The next hop as configuration names it.
    pub next_hop: String,
    /// This shard has no such queue to see: none ever, or not any more (`QueueMaxIdleTime`). It is left out where all say so.
    #[serde(skip)]
    pub unseen: bool,
    /// `SmartHostConnectorDelivery` and the like (docs/PROFILES.md).
    pub delivery_type: String,
    /// `Active`, `Connecting`, `Ready`, `Retry` or `Suspended`.
    pub status: QueueStatus,
    /// Of all shards' messages, how many lie lent in the next hop's hot ring and nobody has taken: every shard sees the same number, and
    /// whoever keeps them counts them in `sending`. In the sum they are waiting, which they do.
    #[serde(skip)]
    pub untaken: u64,
    /// Messages that could leave now.
    pub waiting: u64,
    /// Messages under way.
    pub sending: u64,
    /// Messages that wait for their own retry.
    pub deferred: u64,
    /// Messages held by an operator.
    pub suspended: u64,
    /// Age of the oldest message, in milliseconds; `None` for an empty queue.
    pub oldest_ms: Option<u64>,
    /// Messages a second that entered and that left, on the average of the last minute.
    #[serde(default)]
    pub incoming_per_s: f64,
    /// See `incoming_per_s`.
    #[serde(default)]
    pub outgoing_per_s: f64,
    /// Outgoing less incoming: below zero it grows.
    #[serde(default)]
    pub velocity_per_s: f64,
    /// The last failure of a connection, or what the next hop said last instead of yes, without addresses of people.
    pub last_error: Option<String>,
    /// Milliseconds since then.
    #[serde(default)]
    pub last_error_ms: Option<u64>,
    /// In Retry: milliseconds until the next try.
    pub next_retry_ms: Option<u64>,
    /// Milliseconds since it was last tried from Retry.
    #[serde(default)]
    pub last_retry_ms: Option<u64>,
    /// Failures of all hosts in a row.
    pub retry_count: u64,
    /// Recipients delivered, put off, and failed for good.
    pub delivered: u64,
    /// See `delivered`.
    pub put_off: u64,
    /// See `delivered`.
    pub failed: u64,
    /// Its hosts.
    pub hosts: Vec<HostReport>,
}

impl QueueReport {
    /// Messages in the queue, whatever they wait for.
    pub fn messages(&self) -> u64 {
        self.waiting.saturating_add(self.sending).saturating_add(self.deferred).saturating_add(self.suspended)
    }
}

/// A page of the messages of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MessagePage {
    /// Pages of this shard; they stay where they are while messages come and go.
    pub pages: u32,
    /// The next hops of the queues that `MessageReport::queue` counts.
    pub queues: Vec<String>,
    /// Its messages, in no order.
    pub messages: Vec<MessageReport>,
}

/// A message in one queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageReport {
    /// Names it to its shard, as long as it is in this queue.
    pub entry: (u32, u32),
    /// Its record on disk: the same in every queue.
    pub record: u64,
    /// Its queue, by the place in `MessagePage::queues`.
    pub queue: usize,
    /// What it is doing.
    pub status: MessageStatus,
    /// Octets of trace header and content.
    pub bytes: u64,
    /// Attempts begun.
    pub attempts: u64,
    /// Milliseconds until it is tried again, where it waits for that by itself.
    pub retry_ms: Option<u64>,
    /// Milliseconds since it was received, to the second.
    pub age_ms: u64,
    /// Milliseconds until it is given up, to the second.
    pub left_ms: u64,
    /// Its unsettled recipients in this queue, by their numbers in the record.
    pub recipients: Vec<u16>,
}

/// Status of a message (docs/PROFILES.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageStatus {
    /// Waiting for its turn.
    Ready,
    /// Being sent.
    Active,
    /// Its last attempt failed, or every host of its queue has.
    Retry,
    /// Being sent; taken out when that comes to nothing.
    PendingRemove,
}

impl MessageStatus {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            MessageStatus::Ready => "Ready",
            MessageStatus::Active => "Active",
            MessageStatus::Retry => "Retry",
            MessageStatus::PendingRemove => "PendingRemove",
        }
    }
}

/// What came of taking a message out of its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Removed {
    /// It is gone, and stays so after a restart.
    Done,
    /// It is being sent; it goes if that comes to nothing.
    Pending,
    /// It was gone before.
    Gone,
    /// It stays: nothing can be written down now.
    Refused,
    /// It is gone; whether it stays so after a kill is not certain yet.
    Unsure,
}

/// Status of a queue (docs/PROFILES.md), in the order in which one shard's outweighs another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum QueueStatus {
    /// Nothing to send now.
    #[default]
    Ready,
    /// Opening its first connection.
    Connecting,
    /// All hosts failed; waits for the next try.
    Retry,
    /// Transmitting, or about to.
    Active,
    /// Held by an operator.
    Suspended,
}

impl QueueStatus {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            QueueStatus::Ready => "Ready",
            QueueStatus::Connecting => "Connecting",
            QueueStatus::Retry => "Retry",
            QueueStatus::Active => "Active",
            QueueStatus::Suspended => "Suspended",
        }
    }
}

/// One host of a next hop.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HostReport {
    /// Its address with port.
    pub address: String,
    /// How it is thought to be.
    pub health: Health,
    /// Connections open.
    pub connections: u64,
    /// Messages under way.
    pub sending: u64,
    /// Its last failure, until it is connected again.
    pub last_error: Option<String>,
}

/// Health of a host, in the order in which one shard's word outweighs another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Never tried.
    #[default]
    Unknown,
    /// Its last connection worked.
    Alive,
    /// Left alone for a while.
    Dead,
}

impl Health {
    /// Its name in reports and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Alive => "alive",
            Health::Dead => "dead",
        }
    }
}

/// How the whole server stands.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Our name.
    pub server: String,
    /// The program's version.
    pub version: String,
    /// The commit it was built from.
    pub git: Option<String>,
    /// Its process.
    pub pid: u32,
    /// The folder that it keeps, where it has one.
    #[serde(default)]
    pub data_dir: Option<String>,
    /// `starting`, `serving`, `draining`.
    pub state: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Whose defaults hold.
    pub profile: String,
    /// What 250 means.
    pub durability: String,
    /// The I/O in use.
    pub driver: String,
    /// `direct` or `buffered`; `None` for servers that keep nothing.
    pub commit: Option<String>,
    /// Whether every shard answered and no role is unable to work.
    pub healthy: bool,
    /// What is served where.
    pub roles: Vec<RoleReport>,
    /// The shards.
    pub shards: Vec<ShardLine>,
    /// The queues of all shards, added up by next hop.
    pub queues: Vec<QueueReport>,
    /// Every counter, added up.
    pub counters: BTreeMap<String, u64>,
    /// Costs of an accepted message.
    pub per_message: PerMessage,
    /// What a kill could repeat.
    #[serde(default)]
    pub windows: Windows,
    /// Recipients that failed for good and are owed a notice.
    pub dsn_owed: u64,
    /// What became of the last reload.
    pub reload: Reload,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RoleReport {
    /// `hub`, `frontend`, `mailbox-delivery`.
    pub role: String,
    /// The address bound.
    pub listen: String,
    /// Whether it can do its work now.
    pub healthy: bool,
    /// Why not.
    pub why: Option<String>,
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ShardLine {
    /// Its number.
    pub shard: u64,
    /// The core it is pinned to.
    pub core: Option<u64>,
    /// Whether it answered in time.
    pub answered: bool,
    /// Connections from clients.
    pub connections_in: u64,
    /// Connections to next hops.
    pub connections_out: u64,
    /// Messages queued.
    pub queued: u64,
    /// Octets of the memory budget in use.
    pub memory_used_bytes: u64,
    /// Messages answered with 250.
    pub messages_accepted: u64,
}

/// How many messages a kill could make come twice, each for one next hop (I-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Windows {
    /// Outcomes that are not yet on disk, now: W1.
    pub w1: u64,
    /// The most of them at a time since the start.
    pub w1_max: u64,
    /// Messages under way to a next hop, whose replies were not read, now: W5.
    pub w5: u64,
    /// A kill now makes no more than so many come twice.
    pub duplicates_max: u64,
}

/// Costs of an accepted message, on the average since the start; `None` before the first message and for what this build
/// does not count.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PerMessage {
    /// Octets of content copied in user space.
    pub copied_bytes: Option<f64>,
    /// System calls.
    pub syscalls: Option<f64>,
    /// Allocations.
    pub allocations: Option<f64>,
    /// Durable writes.
    pub stable_writes: Option<f64>,
}

/// What became of reloads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reload {
    /// Reloads that took effect.
    pub done: u64,
    /// Reloads that did not: what was before still holds.
    pub refused: u64,
    /// Why the last one did not; `None` when it did.
    pub error: Option<String>,
}

/// Adds up the queues of several shards by next hop, sorted by name; those that nobody sees are left out.
pub fn merge(reports: &[ShardReport]) -> Vec<QueueReport> {
    let mut merged: BTreeMap<&str, QueueReport> = BTreeMap::new();
    for queue in reports.iter().flat_map(|report| &report.queues) {
        match merged.get_mut(queue.next_hop.as_str()) {
            Some(sum) => sum.add(queue),
            None => {
                merged.insert(&queue.next_hop, queue.clone());
            }
        }
    }
    merged.into_values().filter(|queue| !queue.unseen).map(QueueReport::with_untaken_waiting).collect()
}

impl QueueReport {
    /// What is lent and lies there is waiting. A ring is looked at by each shard at its own moment, so what it held may have left.
    fn with_untaken_waiting(self) -> Self {
        let untaken = self.untaken.min(self.sending);
        Self { sending: self.sending - untaken, waiting: self.waiting.saturating_add(untaken), ..self }
    }

    fn add(&mut self, other: &QueueReport) {
        self.unseen &= other.unseen;
        self.untaken = self.untaken.max(other.untaken);
        self.status = self.status.max(other.status);
        self.incoming_per_s += other.incoming_per_s;
        self.outgoing_per_s += other.outgoing_per_s;
        self.velocity_per_s += other.velocity_per_s;
        for (mine, theirs) in [
            (&mut self.waiting, other.waiting),
            (&mut self.sending, other.sending),
            (&mut self.deferred, other.deferred),
            (&mut self.suspended, other.suspended),
            (&mut self.delivered, other.delivered),
            (&mut self.put_off, other.put_off),
            (&mut self.failed, other.failed),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        self.oldest_ms = self.oldest_ms.max(other.oldest_ms);
        self.next_retry_ms = [self.next_retry_ms, other.next_retry_ms].into_iter().flatten().min();
        self.last_retry_ms = [self.last_retry_ms, other.last_retry_ms].into_iter().flatten().min();
        self.retry_count = self.retry_count.max(other.retry_count);
        let age = |queue: &QueueReport| queue.last_error_ms.unwrap_or(u64::MAX);
        if self.last_error.is_none() || (other.last_error.is_some() && age(other) < age(self)) {
            self.last_error.clone_from(&other.last_error);
            self.last_error_ms = other.last_error_ms;
        }
        for host in &other.hosts {
            match self.hosts.iter_mut().find(|mine| mine.address == host.address) {
                Some(mine) => mine.add(host),
                None => self.hosts.push(host.clone()),
            }
        }
    }
}

impl HostReport {
    fn add(&mut self, other: &HostReport) {
        self.health = self.health.max(other.health);
        self.connections = self.connections.saturating_add(other.connections);
        self.sending = self.sending.saturating_add(other.sending);
        if self.last_error.is_none() {
            self.last_error.clone_from(&other.last_error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(next_hop: &str, waiting: u64, status: QueueStatus) -> QueueReport {
        QueueReport { next_hop: next_hop.into(), waiting, status, ..QueueReport::default() }
    }

    fn shard(queues: Vec<QueueReport>) -> ShardReport {
        ShardReport { queues, ..ShardReport::default() }
    }

    #[test]
    fn queues_of_shards_are_added_up_by_next_hop() {
        let host = |health, connections| HostReport {
            address: "10.0.0.1:25".into(),
            health,
            connections,
            ..HostReport::default()
        };
        let one = QueueReport {
            oldest_ms: Some(5),
            next_retry_ms: None,
            last_retry_ms: Some(70),
            incoming_per_s: 2.0,
            velocity_per_s: -2.0,
            last_error: Some("450 4.2.0 busy".into()),
            last_error_ms: Some(9),
            // Of a shard that only lends its connections.
            unseen: true,
            hosts: vec![host(Health::Alive, 2)],
            ..queue("smart", 3, QueueStatus::Ready)
        };
        let two = QueueReport {
            oldest_ms: Some(9),
            next_retry_ms: Some(100),
            last_retry_ms: Some(30),
            incoming_per_s: 1.0,
            outgoing_per_s: 0.5,
            velocity_per_s: -0.5,
            last_error: Some("timed out".into()),
            last_error_ms: Some(8),
            hosts: vec![host(Health::Dead, 1), HostReport { address: "10.0.0.2:25".into(), ..HostReport::default() }],
            sending: 1,
            ..queue("smart", 4, QueueStatus::Retry)
        };
        let merged = merge(&[
            shard(vec![queue("b", 1, QueueStatus::Active), one]),
            shard(vec![two, QueueReport { unseen: true, ..queue("idle", 0, QueueStatus::Ready) }]),
            ShardReport::default(),
        ]);
        assert_eq!(merged.iter().map(|queue| queue.next_hop.as_str()).collect::<Vec<_>>(), ["b", "smart"]);
        let smart = &merged[1];
        assert_eq!((smart.waiting, smart.messages(), smart.status), (7, 8, QueueStatus::Retry));
        assert_eq!((smart.oldest_ms, smart.next_retry_ms, smart.last_retry_ms), (Some(9), Some(100), Some(30)));
        assert_eq!((smart.incoming_per_s, smart.outgoing_per_s, smart.velocity_per_s), (3.0, 0.5, -2.5));
        assert_eq!((smart.last_error.as_deref(), smart.last_error_ms), (Some("timed out"), Some(8)), "the later one");
        assert_eq!(smart.hosts.len(), 2);
        assert_eq!((smart.hosts[0].health, smart.hosts[0].connections), (Health::Dead, 3));
    }

    #[test]
    fn what_is_lent_and_taken_by_nobody_is_waiting() {
        let of = |waiting, sending, untaken| QueueReport {
            sending,
            untaken,
            ..queue("smart", waiting, QueueStatus::Active)
        };
        let shard = |queue| shard(vec![queue]);
        for (reports, sum) in [
            // Of the first shard's nine that are lent four are under way with the second.
            (vec![of(1, 9, 5), of(0, 2, 5)], (6, 6)),
            // Two were taken before the second shard looked; the third has no connection to it and no ring.
            (vec![of(0, 9, 5), of(0, 0, 3), of(0, 0, 0)], (5, 4)),
            // Some were answered before their owner looked.
            (vec![of(0, 1, 3), of(0, 0, 3)], (1, 0)),
            (vec![of(4, 2, 0)], (4, 2)),
        ] {
            let merged = merge(&reports.into_iter().map(shard).collect::<Vec<_>>());
            assert_eq!((merged[0].waiting, merged[0].sending), sum);
        }
    }

    #[test]
    fn a_status_is_read_back_from_its_json() {
        let status = Status {
            server: "a.test".into(),
            queues: vec![queue("smart", 1, QueueStatus::Retry)],
            counters: [("queued".to_owned(), 1)].into(),
            per_message: PerMessage { syscalls: Some(0.25), ..PerMessage::default() },
            windows: Windows { w1: 3, w1_max: 9, w5: 8, duplicates_max: 11 },
            ..Status::default()
        };
        let text = serde_json::to_string(&status).expect("JSON");
        assert!(text.contains("\"status\":\"Retry\"") && text.contains("\"allocations\":null"), "{text}");
        assert_eq!(serde_json::from_str::<Status>(&text).expect("a status"), status);
    }
}
