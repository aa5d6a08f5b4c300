//! After a reload: messages whose next hop no route names any more go where their routes lead now. Whoever has no route stays
//! where he is, and goes on with the last hosts of that queue.

use super::Hub;
use super::load::HeadOctets;
use crate::io::driver::Driver;
use crate::queue::EntryId;
use crate::shell::signal::Signal;
use crate::spool::RecordId;
use crate::track::counters::Counter;
use crate::wire::EnvelopeRef;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// Messages routed between two looks at everything else.
const MESSAGES_PER_TURN: u32 = 256;

/// What is to be routed again.
#[derive(Debug, Default)]
pub(super) struct Reroute {
    /// Everything that waits in queues of no route.
    all: Cell<bool>,
    /// Messages that were under way when their route went.
    strays: RefCell<VecDeque<EntryId>>,
    due: Signal,
}

impl Reroute {
    /// Routes were installed.
    pub fn all(&self) {
        self.all.set(true);
        self.due.raise();
    }

    /// This message waits again.
    pub fn one(&self, entry: EntryId) {
        self.strays.borrow_mut().push_back(entry);
        self.due.raise();
    }
}

/// Routes again what is to be, as long as the shard runs.
pub(super) async fn run<D: Driver>(hub: Rc<Hub<D>>) {
    loop {
        hub.reroute.due.wait().await;
        if hub.reroute.all.take() {
            hub.route_orphans().await;
        }
        loop {
            let Some(stray) = hub.reroute.strays.borrow_mut().pop_front() else { break };
            if !hub.route_again(stray).await {
                hub.queues.borrow_mut().stays(stray);
            }
        }
        hub.run_actions();
    }
}

impl<D: Driver> Hub<D> {
    /// Routes again, once, what waits in queues of no route.
    async fn route_orphans(self: &Rc<Self>) {
        let (mut walk, mut done) = (self.queues.borrow().orphans(), 0_u32);
        loop {
            let Some(orphan) = self.queues.borrow().next_orphan(&mut walk) else { return };
            if !self.route_again(orphan).await {
                self.queues.borrow_mut().to_the_end(orphan, self.driver.now());
            }
            done = done.wrapping_add(1);
            if done.is_multiple_of(MESSAGES_PER_TURN) {
                self.run_actions();
                self.driver.yield_now().await;
            }
        }
    }

    /// Whether anybody has a route, and went by it.
    async fn route_again(self: &Rc<Self>, id: EntryId) -> bool {
        let taken = self.queues.borrow().find(id);
        let Some(taken) = taken else { return false };
        let in_memory = taken.content.map(|message| self.messages.borrow().get(message).envelope.clone());
        if let Some(envelope) = in_memory {
            return self.move_entry(id, &EnvelopeRef::parse(&envelope).expect("an envelope of our own making"));
        }
        let head = match RecordId::from_raw(taken.record) {
            Some(record) => self.read_record(record).await.ok(),
            None => None,
        };
        if let Some(record) = head.as_ref().and_then(HeadOctets::record)
            && let Ok(envelope) = EnvelopeRef::parse(record.envelope)
        {
            return self.move_entry(id, &envelope);
        }
        tracing::error!(cause = "spool", record = taken.record, "a message cannot be routed again; it stays");
        false
    }

    fn move_entry(&self, id: EntryId, envelope: &EnvelopeRef<'_>) -> bool {
        let mut routing = self.routing.borrow_mut();
        let (snapshot, hops, groups) = routing.parts();
        groups.fill(&snapshot.table, envelope.recipients().map(|recipient| recipient.domain()));
        let sets: Vec<_> =
            groups.groups().map(|group| (hops[group.next_hop.index()], group.recipients.to_vec())).collect();
        let content = self.queues.borrow().find(id).and_then(|taken| taken.content);
        let Some(entries) = self.queues.borrow_mut().split(id, &sets, self.driver.now()) else { return false };
        self.tally.one(Counter::Rerouted);
        if let Some(message) = content {
            self.messages.borrow_mut().get_mut(message).split_into(entries);
        }
        true
    }
}
