//! The third step: recipients are routed, and one entry stands in the queue of each distinct next hop.

use super::Hub;
use crate::io::driver::{Driver, Notify};
use crate::queue::{Action, HopId, NewEntry, Priority, Queues};
use crate::route::{Groups, Manners, Snapshot};
use crate::settings::Durability;
use crate::shell::hub::deliver;
use crate::spool::Outcome;
use crate::track::counters::Counter;
use crate::wire::{EnvelopeRef, Tick};
use std::rc::Rc;
use std::sync::Arc;

/// From so many hundredths of the memory budget on bodies in memory are dropped, and how many messages' at a time.
const RELIEVE_PERCENT: u32 = 75;
const RELIEVE_MESSAGES: usize = 256;

/// Which queue a recipient goes to, by the last snapshot.
pub(super) struct Routing {
    snapshot: Arc<Snapshot>,
    /// The queue of each next hop in the table.
    hops: Vec<HopId>,
    groups: Groups,
}

impl Routing {
    /// Takes a snapshot over into the queues.
    pub fn of(snapshot: Arc<Snapshot>, queues: &mut Queues, now: Tick) -> Self {
        let mut hops = Vec::new();
        queues.install(snapshot.table.keys_and_hosts(), now, &mut hops);
        Self { snapshot, hops, groups: Groups::new() }
    }

    /// The snapshot, the queue of each of its next hops, and room to group a message's recipients.
    pub fn parts(&mut self) -> (&Snapshot, &[HopId], &mut Groups) {
        (&self.snapshot, &self.hops, &mut self.groups)
    }

    /// How a queue's hosts are spoken to.
    pub fn manners(&self, hop: HopId) -> Manners {
        let index = self.hops.iter().position(|known| *known == hop);
        index.and_then(|index| self.snapshot.manners.get(index)).copied().unwrap_or_default()
    }
}

impl<D: Driver> Hub<D> {
    /// Queues a message that is durable: one entry for each next hop of its recipients.
    pub(super) fn enqueue(&self, handle: u32, now: Tick) {
        let mut routing = self.routing.borrow_mut();
        let (snapshot, hops, groups) = routing.parts();
        let mut messages = self.messages.borrow_mut();
        let message = messages.get_mut(handle);
        let envelope = EnvelopeRef::parse(&message.envelope).expect("an envelope of our own making");
        groups.fill(&snapshot.table, envelope.recipients().map(|recipient| recipient.domain()));
        let (record, bytes) = (message.record, message.trace.len() as u64 + message.facts.bytes);
        let received = u32::try_from(message.received.0 / 1_000_000).unwrap_or(0);
        message.entries = u32::try_from(groups.groups().count()).expect("few next hops");
        message.undivided = message.entries == 1 && groups.unroutable().is_empty();
        if message.entries == 0 {
            messages.remove(handle);
        }
        drop(messages);
        for (recipient, reason) in groups.unroutable() {
            tracing::warn!(cause = "route", %reason, "a recipient has no route");
            self.tally.one(Counter::DsnOwed);
            self.settle(record, u16::try_from(*recipient).unwrap_or(u16::MAX), Outcome::Failed);
        }
        let mut queues = self.queues.borrow_mut();
        for group in groups.groups() {
            let entry = NewEntry {
                record: record.raw(),
                recipients: group.recipients,
                bytes,
                received,
                priority: Priority::Normal,
                content: Some(handle),
            };
            queues.enqueue(hops[group.next_hop.index()], entry, now);
        }
    }

    /// When memory is short, forgets content that is on disk, of messages that leave last; it is read again when their turn
    /// comes (F-040, first step).
    pub(super) fn relieve(&self) {
        let percent = self.pool.budget().percent();
        self.tally.set(
            Counter::MemoryStep,
            u64::from((percent >= 75) as u8 + (percent >= 90) as u8 + (percent >= 100) as u8),
        );
        if percent < RELIEVE_PERCENT || self.settings.server.durability == Durability::None {
            return;
        }
        let mut messages = self.messages.borrow_mut();
        self.queues.borrow_mut().shed_content(RELIEVE_MESSAGES, |handle| messages.release(handle));
    }

    /// Takes over new routes: queues keep their messages, hosts their health.
    pub fn install_routes(self: &Rc<Self>, snapshot: Arc<Snapshot>) {
        self.policy.install_routes(snapshot.clone());
        let routing = Routing::of(snapshot, &mut self.queues.borrow_mut(), self.driver.now());
        *self.routing.borrow_mut() = routing;
        self.run_actions();
    }

    /// Does what the queues ask for, until they ask for nothing.
    pub(super) fn run_actions(self: &Rc<Self>) {
        let now = self.driver.now();
        loop {
            let action = self.queues.borrow_mut().next_action(now);
            match action {
                None => break,
                Some(Action::Connect { conn, .. }) if self.draining.get() => {
                    self.queues.borrow_mut().closed(conn, None, now);
                    break;
                }
                Some(Action::Connect { conn, hop, host, by }) => {
                    let task = deliver::run(self.clone(), deliver::Order { conn, hop, host, by });
                    self.driver.spawn(task);
                }
                Some(Action::Feed { conn }) => self.note_link(conn, deliver::FEED),
                Some(Action::Close { conn }) => self.note_link(conn, deliver::CLOSE),
            }
        }
        self.timer.raise();
    }

    fn note_link(&self, conn: crate::queue::ConnId, bits: u32) {
        if let Some(Some((serial, handle))) = self.links.borrow().get(conn.index as usize)
            && *serial == conn.serial
        {
            handle.note(bits);
        }
    }
}
