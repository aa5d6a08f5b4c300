//! The third step: recipients are routed, and one entry stands in the queue of each distinct next hop.

use super::Hub;
use crate::io::driver::{Driver, Notify};
use crate::queue::{Action, HopId, NewEntry, Outcome, Priority, Queues, part_of};
use crate::route::{Groups, Manners, Snapshot};
use crate::settings::Durability;
use crate::shell::hub::deliver;
use crate::shell::short::{DROP_PERCENT, RELIEVED_PERCENT};
use crate::wire::{EnvelopeRef, NextHopKey, Span, Tick};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// Bodies in memory are dropped of so many messages at a time, and so many times where that is enough: nothing else waits long.
const RELIEVE_MESSAGES: usize = 64;
const RELIEVE_TIMES: u32 = 32;

/// How many connections this shard may have to one destination.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    /// Of all shards together, where a next hop does not say otherwise.
    pub per_hop_max: u32,
    pub shard: u32,
    pub shards: u32,
    /// Shards that have no part send by those that have one.
    pub shared: bool,
}

impl Caps {
    /// How many this shard may have to this one.
    pub fn of(&self, key: &NextHopKey, manners: Manners) -> u32 {
        let cap = manners.connections_max.unwrap_or(self.per_hop_max);
        let turn = key.domain.bytes().fold(0u32, |sum, octet| sum.wrapping_mul(31).wrapping_add(octet.into()));
        let part = part_of(cap, turn, self.shard, self.shards);
        if self.shared { part } else { part.max(1) }
    }
}

/// Which queue a recipient goes to, by the last snapshot.
pub(super) struct Routing {
    snapshot: Arc<Snapshot>,
    /// The queue of each next hop in the table.
    hops: Vec<HopId>,
    groups: Groups,
    /// How each queue's hosts are spoken to, also of queues that no route names any more.
    manners: BTreeMap<HopId, Manners>,
}

impl Routing {
    /// Takes a snapshot over into the queues.
    pub fn of(snapshot: Arc<Snapshot>, queues: &mut Queues, caps: &Caps, now: Tick) -> Self {
        let mut hops = Vec::new();
        queues.suspend(snapshot.suspended.clone());
        queues.install(snapshot.table.keys_and_hosts(), now, &mut hops);
        let manners: BTreeMap<HopId, Manners> = hops.iter().copied().zip(snapshot.manners.iter().copied()).collect();
        for (hop, (key, _)) in hops.iter().zip(snapshot.table.keys_and_hosts()) {
            queues.limit(*hop, caps.of(key, manners.get(hop).copied().unwrap_or_default()));
        }
        Self { snapshot, hops, groups: Groups::new(), manners }
    }

    /// Each next hop's queue and name.
    pub fn hops(&self) -> impl Iterator<Item = (HopId, &NextHopKey)> {
        self.hops.iter().copied().zip(self.snapshot.table.keys_and_hosts().map(|(key, _)| key))
    }

    /// The snapshot, the queue of each of its next hops, and room to group a message's recipients.
    pub fn parts(&mut self) -> (&Snapshot, &[HopId], &mut Groups) {
        (&self.snapshot, &self.hops, &mut self.groups)
    }

    /// Takes over how the hosts of queues are spoken to that no route names any more, as long as there are such queues.
    pub fn keep_manners(&mut self, before: &Routing, queues: &Queues) {
        for (hop, _) in queues.hops() {
            if let Some(manners) = before.manners.get(&hop) {
                self.manners.entry(hop).or_insert(*manners);
            }
        }
    }

    /// How a queue's hosts are spoken to.
    pub fn manners(&self, hop: HopId) -> Manners {
        self.manners.get(&hop).copied().unwrap_or_default()
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
        let unreachable = !groups.unroutable().is_empty();
        message.entries = u32::try_from(groups.groups().count()).expect("few next hops") + u32::from(unreachable);
        message.undivided = message.entries == 1;
        drop(messages);
        let mut queues = self.queues.borrow_mut();
        let entry = NewEntry {
            record: record.raw(),
            recipients: &[],
            bytes,
            age: Span::ZERO,
            priority: Priority::Normal,
            content: Some(handle),
        };
        for group in groups.groups() {
            let entry = NewEntry { recipients: group.recipients, ..entry };
            queues.enqueue(hops[group.next_hop.index()], entry, now);
        }
        if unreachable {
            // Accepted already, and the routes are ours: they wait for others (I-9).
            tracing::warn!(cause = "route", record = %record, "recipients have no route: they wait for one");
            let hop = queues.unreachable(now);
            queues.enqueue(hop, NewEntry { recipients: groups.unroutable(), ..entry }, now);
        }
    }

    /// When memory is short, forgets content that is on disk, of messages that leave last; it is read again when their turn
    /// comes (F-040, first step).
    pub(super) fn relieve(&self) {
        self.short.look(self.pool.budget());
        if !self.is_short() || self.settings.server.durability == Durability::None {
            return;
        }
        let (mut messages, mut queues) = (self.messages.borrow_mut(), self.queues.borrow_mut());
        let now = self.driver.now();
        for time in 0.. {
            let percent = self.pool.budget().percent();
            let enough = percent < RELIEVED_PERCENT || (percent < DROP_PERCENT && time >= RELIEVE_TIMES);
            if enough || !queues.shed_content(RELIEVE_MESSAGES, now, |handle| messages.release(handle)) {
                break;
            }
        }
        if self.is_short() {
            // What other shards lent stands in memory here, where its owner cannot let go of it.
            queues.part_with_all_guests();
        }
    }

    /// Whether memory for content is short.
    pub(super) fn is_short(&self) -> bool {
        self.pool.budget().percent() >= DROP_PERCENT
    }

    /// Takes over new routes: queues keep their messages, hosts their health.
    pub fn install_routes(self: &Rc<Self>, snapshot: Arc<Snapshot>) {
        self.policy.install_routes(snapshot.clone());
        let routing = Routing::of(snapshot, &mut self.queues.borrow_mut(), &self.caps, self.driver.now());
        self.install_rings(routing.hops());
        let before = self.routing.replace(routing);
        self.routing.borrow_mut().keep_manners(&before, &self.queues.borrow());
        self.reroute.all();
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
                Some(Action::GiveBack { entry }) => self.part_with(entry, Outcome::Elsewhere),
                Some(Action::Shed { content }) => self.messages.borrow_mut().release(content),
                Some(Action::Expire { entry }) => self.expire(entry, now),
                Some(Action::Remove { entry, tells }) => {
                    // While outcomes cannot be written down it stays, and is tried as before.
                    let _stays = self.take_out(entry, tells);
                }
                Some(Action::Reroute { entry }) => self.reroute.one(entry),
                Some(Action::Lend { hop }) => self.lend_soon(hop),
                Some(Action::Await { hop }) => self.await_tickets(hop),
                Some(Action::Serve { hop, serves }) => self.serve(hop, serves),
                Some(Action::Recall { hop }) => self.recall_tickets(hop),
                Some(Action::Leave { hop }) => self.leave_tickets(hop),
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
