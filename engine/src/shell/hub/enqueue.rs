//! The third step: recipients are routed, and one entry stands in the queue of each distinct next hop.

use super::Hub;
use crate::io::driver::{Driver, Notify};
use crate::queue::{Action, HopId, NewEntry, Priority, Queues};
use crate::settings::{Host, Settings};
use crate::shell::hub::deliver;
use crate::spool::Outcome;
use crate::track::counters::Counter;
use crate::wire::{DeliveryType, EnvelopeRef, HostAddress, NextHopKey, Tick};
use smallvec::SmallVec;
use std::rc::Rc;
use std::sync::Arc;

/// Which queue a recipient goes to.
pub(super) struct Routing {
    settings: Arc<Settings>,
    /// In the order of `settings.next_hops`.
    hops: Vec<(String, HopId)>,
}

impl Routing {
    pub fn of(settings: &Arc<Settings>, queues: &mut Queues, now: Tick) -> Self {
        let keys: Vec<(NextHopKey, Vec<HostAddress>)> = settings
            .next_hops
            .iter()
            .map(|(name, hop)| {
                let hosts = hop.hosts.iter().filter_map(|host| match host {
                    Host::Address(address) => Some(HostAddress::equal(*address)),
                    Host::Name(..) => None,
                });
                let key = NextHopKey {
                    delivery: DeliveryType::SmartHost,
                    domain: name.as_str().into(),
                    connector: "".into(),
                };
                (key, hosts.collect())
            })
            .collect();
        let mut ids = Vec::new();
        queues.install(keys.iter().map(|(key, hosts)| (key, hosts.as_slice())), now, &mut ids);
        let hops = settings.next_hops.keys().cloned().zip(ids).collect();
        Self { settings: settings.clone(), hops }
    }

    fn hop(&self, domain: &[u8]) -> Option<HopId> {
        let domain = std::str::from_utf8(domain).ok()?;
        let name = self.settings.routes.next_hop(domain)?;
        self.hops.iter().find(|(hop, _)| hop == name).map(|(_, id)| *id)
    }
}

/// The recipients of one next hop, as a bitmap.
type Group = (HopId, SmallVec<[u64; 1]>);

impl<D: Driver> Hub<D> {
    /// Queues a message that is durable: one entry for each next hop of its recipients.
    pub(super) fn enqueue(&self, handle: u32, now: Tick) {
        let (record, bytes, received, groups, unrouted) = {
            let messages = self.messages.borrow();
            let message = messages.get(handle);
            let envelope = EnvelopeRef::parse(&message.envelope).expect("an envelope of our own making");
            let (groups, unrouted) = self.route(&envelope);
            let bytes = message.trace.len() as u64 + message.facts.bytes;
            (message.record, bytes, message.received, groups, unrouted)
        };
        for &recipient in &unrouted {
            self.tally.one(Counter::DsnOwed);
            self.settle(record, recipient, Outcome::Failed);
        }
        {
            let mut messages = self.messages.borrow_mut();
            let message = messages.get_mut(handle);
            message.entries = u32::try_from(groups.len()).expect("few next hops");
            message.undivided = groups.len() == 1 && unrouted.is_empty();
        }
        if groups.is_empty() {
            self.messages.borrow_mut().remove(handle);
            return;
        }
        let received = u32::try_from(received.0 / 1_000_000).unwrap_or(0);
        let mut queues = self.queues.borrow_mut();
        for (hop, recipients) in &groups {
            let entry = NewEntry {
                record: record.raw(),
                recipients,
                bytes,
                received,
                priority: Priority::Normal,
                content: Some(handle),
            };
            queues.enqueue(*hop, entry, now);
        }
    }

    fn route(&self, envelope: &EnvelopeRef<'_>) -> (SmallVec<[Group; 2]>, SmallVec<[u16; 4]>) {
        let routing = self.routing.borrow();
        let mut groups: SmallVec<[Group; 2]> = SmallVec::new();
        let mut unrouted = SmallVec::new();
        let words = (envelope.recipient_count() as usize).div_ceil(64);
        for (index, recipient) in envelope.recipients().enumerate() {
            let Some(hop) = routing.hop(recipient.domain()) else {
                unrouted.push(u16::try_from(index).unwrap_or(u16::MAX));
                continue;
            };
            let at = groups.iter().position(|(of, _)| *of == hop).unwrap_or_else(|| {
                groups.push((hop, SmallVec::from_elem(0, words)));
                groups.len() - 1
            });
            groups[at].1[index / 64] |= 1 << (index % 64);
        }
        (groups, unrouted)
    }

    /// Does what the queues ask for, until they ask for nothing.
    pub(super) fn run_actions(self: &Rc<Self>) {
        let now = self.driver.now();
        loop {
            let action = self.queues.borrow_mut().next_action(now);
            match action {
                None => break,
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
