//! What a hub tells the control plane about itself.

use super::Hub;
use crate::io::driver::Driver;
use crate::queue::{HopStatus, HostStatus, Status};
use crate::track::counters::Counter;
use crate::track::report::{Health, HostReport, QueueReport, QueueStatus};
use crate::wire::{DeliveryType, Span, Tick};
use std::rc::Rc;

impl<D: Driver> Hub<D> {
    /// How its queues stand.
    pub fn report(&self) -> Vec<QueueReport> {
        let now = self.driver.now();
        let queues = self.queues.borrow();
        let report = queues.hops().map(|(id, status)| {
            let pace = queues.pace(id, now);
            QueueReport {
                hosts: queues.hosts(id).map(|host| host_report(&host)).collect(),
                unseen: !queues.is_seen(id, now),
                untaken: self.share.as_ref().map_or(0, |share| share.untaken(id)),
                incoming_per_s: pace.incoming_per_s,
                outgoing_per_s: pace.outgoing_per_s,
                velocity_per_s: pace.outgoing_per_s - pace.incoming_per_s,
                oldest_ms: pace.oldest.map(Span::as_millis),
                ..queue_report(&status, now)
            }
        });
        report.chain(self.unread.report(now)).collect()
    }

    /// Messages in its queues.
    pub fn queued(&self) -> u32 {
        let unread = u32::try_from(self.unread.count()).unwrap_or(u32::MAX);
        self.queues.borrow().messages().saturating_add(unread)
    }

    /// Sets the gauges.
    pub fn publish(&self) {
        let mut queues = self.queues.borrow_mut();
        queues.look(self.driver.now());
        queues.host_news(|next_hop, host| {
            let (host, is_dead, why) = (host.address, host.alive == Some(false), host.last_error);
            if is_dead {
                let why = why.map(tracing::field::display);
                tracing::warn!(cause = "host", %next_hop, %host, why, "a host is dead: it is looked for");
            } else {
                tracing::info!(cause = "host", %next_hop, %host, "a host is dead no more");
            }
        });
        drop(queues);
        let queues = self.queues.borrow();
        let (mut sending, mut connections) = (0, 0);
        for (_, status) in queues.hops() {
            sending += u64::from(status.sending);
            connections += u64::from(status.connections.0);
        }
        let queued = u64::from(self.queued());
        self.tally.set(Counter::Queued, queued.saturating_sub(sending));
        self.tally.set(Counter::Sending, sending);
        self.tally.set(Counter::QueuedBytes, queues.bytes());
        self.tally.set(Counter::ConnectionsOut, connections);
        self.tally.set(Counter::Segments, self.files.borrow().len() as u64);
        self.tally.set(Counter::HeadsFailed, u64::from(self.log.borrow().heads_failed()));
        self.tally.set(Counter::SpoolShort, u64::from(self.log.borrow().is_short()));
        let (unsynced, peak) = self.unsynced_settles();
        self.tally.set(Counter::SettlesWaiting, unsynced);
        self.tally.set(Counter::SettlesWaitingMax, peak);
        if let Some(dir) = &self.dir {
            self.tally.set(Counter::SpoolFree, self.driver.free_bytes(dir).unwrap_or(0));
        }
    }
}

impl<D: Driver> Hub<D> {
    /// An operator asks for a try of this queue now.
    pub fn retry(self: &Rc<Self>, queue: &str) {
        let mut queues = self.queues.borrow_mut();
        let found = queues.hops().find(|(_, status)| &*status.key.domain == queue).map(|(hop, _)| hop);
        if found.is_some_and(|hop| queues.retry(hop, self.driver.now())) {
            drop(queues);
            self.run_actions();
        }
    }

    /// The furthest step taken since the last time because memory is short.
    pub fn memory_step(&self) -> u64 {
        self.short.worst_since(self.pool.budget())
    }
}

fn queue_report(status: &HopStatus<'_>, now: Tick) -> QueueReport {
    QueueReport {
        next_hop: status.key.to_string(),
        delivery_type: status.key.delivery.as_str().to_owned(),
        status: match status.status {
            Status::Active => QueueStatus::Active,
            Status::Connecting => QueueStatus::Connecting,
            Status::Ready => QueueStatus::Ready,
            Status::Retry => QueueStatus::Retry,
            Status::Suspended => QueueStatus::Suspended,
        },
        waiting: status.waiting.iter().map(|&count| u64::from(count)).sum(),
        sending: u64::from(status.sending),
        deferred: u64::from(status.deferred),
        last_error: match status.key.delivery {
            DeliveryType::Unreachable => Some("no route leads to the recipients' domains".to_owned()),
            _ => status.last_error.map(|error| error.to_string()),
        },
        last_error_ms: status.last_error.map(|error| now.since(error.at).as_millis()),
        next_retry_ms: status.next_retry.map(|at| at.since(now).as_millis()),
        last_retry_ms: status.last_retry.map(|at| now.since(at).as_millis()),
        retry_count: u64::from(status.retry_count),
        delivered: status.totals.delivered,
        put_off: status.totals.deferred,
        failed: status.totals.failed,
        ..QueueReport::default()
    }
}

fn host_report(host: &HostStatus) -> HostReport {
    HostReport {
        address: host.address.to_string(),
        health: match host.alive {
            None => Health::Unknown,
            Some(true) => Health::Alive,
            Some(false) => Health::Dead,
        },
        connections: u64::from(host.connections.0),
        sending: u64::from(host.sending),
        last_error: host.last_error.map(|cause| cause.to_string()),
    }
}
