//! Sharing work with other shards: what this one keeps is sent by connections of others, and the reverse. The owner keeps
//! the message, its entry and its outcome; whoever borrows it only sends.

use super::Hub;
use super::attempt::{Answered, Attempt};
use super::exchange::{Exchange, Return, Ring, Ticket};
use super::failures::{Failures, Why};
use super::load::{LoadError, NO_MEMORY_WAIT};
use super::messages::Message;
use crate::io::driver::Driver;
use crate::queue::{ConnId, EntryId, HopId, Outcome, RingView, Room, Taken};
use crate::shell::hooks::InFlight;
use crate::shell::signal::Signal;
use crate::sys::lockfree::{Receiver, SleepFlag};
use crate::track::counters::Counter;
use crate::wire::{NextHopKey, Tick};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// One shard's end of the [`Exchange`].
pub(super) struct Share {
    exchange: Arc<Exchange>,
    me: usize,
    inbox: Receiver<Return>,
    sleeper: SleepFlag,
    rings: RefCell<BTreeMap<HopId, Ring>>,
    /// Which of them each mark stands for.
    marked: RefCell<BTreeMap<u32, Vec<HopId>>>,
    /// Queues that have something to lend.
    due: RefCell<VecDeque<HopId>>,
    lend: Signal,
    /// Messages of others under way here.
    pub borrowed: Cell<u32>,
    /// Of those, the ones that wait for another host than one that cannot take them, by what our queues name them.
    guests: RefCell<BTreeMap<EntryId, Guest>>,
}

impl Share {
    pub fn new(exchange: Arc<Exchange>, me: usize) -> Self {
        let (inbox, sleeper) = exchange.inbox(me);
        Self {
            exchange,
            me,
            inbox,
            sleeper,
            rings: RefCell::default(),
            marked: RefCell::default(),
            due: RefCell::default(),
            lend: Signal::default(),
            borrowed: Cell::new(0),
            guests: RefCell::default(),
        }
    }

    fn ring(&self, hop: HopId) -> Option<Ring> {
        self.rings.borrow().get(&hop).cloned()
    }

    /// Messages of all shards that lie in the ring of `hop`.
    pub fn untaken(&self, hop: HopId) -> u64 {
        self.rings.borrow().get(&hop).map_or(0, |ring| ring.len() as u64)
    }

    /// Whether this is the ring of `hop` still: a reload may have taken it away.
    fn has(&self, hop: HopId, ring: &Ring) -> bool {
        self.rings.borrow().get(&hop).is_some_and(|now| now.is(ring))
    }

    fn view(&self, ring: &Ring) -> RingView {
        RingView {
            tickets: u32::try_from(ring.len()).unwrap_or(u32::MAX),
            awaiting: ring.is_awaited_by(self.me),
            asking: ring.is_offered_by(self.me),
            serving: ring.is_served_by(self.me),
        }
    }

    fn wake(&self, shard: Option<usize>, ring: &Ring) {
        if let Some(shard) = shard {
            self.exchange.wake(shard, ring);
        }
    }
}

/// A message of another shard that a connection of ours is sending.
#[derive(Debug)]
pub(super) struct Loan {
    pub owner: usize,
    pub taken: Tick,
    pub answers: Vec<Answered>,
    /// Who was refused for good on his own.
    pub failures: Failures,
    /// Why the others failed, if they did.
    pub why: Option<Why>,
    pub in_flight: InFlight,
}

impl Loan {
    pub fn new(owner: usize, taken: Tick) -> Self {
        Self {
            owner,
            taken,
            answers: Vec::new(),
            failures: Failures::default(),
            why: None,
            in_flight: InFlight::default(),
        }
    }
}

/// A message of another shard that a host of ours could not take.
#[derive(Debug)]
pub(super) struct Guest {
    /// Its entry at the shard that keeps it.
    pub entry: EntryId,
    pub loan: Loan,
    /// Its octets here.
    pub message: u32,
    /// The recipients offered, by their indexes in the record; `None`: all of them.
    pub offered: Option<Box<[u32]>>,
}

/// Lends what queues have to lend, as long as the shard runs.
pub(super) async fn lend<D: Driver>(hub: Rc<Hub<D>>) {
    let Some(share) = &hub.share else { return };
    loop {
        share.lend.wait().await;
        // As for our own connections: outcomes that cannot be written must not grow in number (F-024).
        while hub.can_settle() {
            let Some(hop) = share.due.borrow_mut().pop_front() else { break };
            hub.lend_from(share, hop).await;
            hub.driver.yield_now().await;
        }
    }
}

/// As owner.
impl<D: Driver> Hub<D> {
    /// A queue has more than this shard's connections take.
    pub(super) fn lend_soon(&self, hop: HopId) {
        if let Some(share) = &self.share {
            share.due.borrow_mut().push_back(hop);
            share.lend.raise();
        }
    }

    /// Outcomes can be written again: what is due to be lent is looked at.
    pub(super) fn lend_on(&self) {
        if let Some(share) = &self.share {
            share.lend.raise();
        }
    }

    /// Puts tickets into a queue's ring if somebody waits for them, or serves where no connection of ours ever will; else
    /// whoever begins to wait or to serve tells.
    async fn lend_from(self: &Rc<Self>, share: &Share, hop: HopId) {
        let Some(ring) = share.ring(hop) else { return };
        // Not to ourselves: this shard has enough to do.
        share.wake(ring.no_longer_await(share.me), &ring);
        let needy = self.queues.borrow().is_needy(hop);
        if self.draining.get() || !ring.may_offer(share.me, needy) {
            return self.queues.borrow_mut().saw_ring(hop, share.view(&ring));
        }
        let mut taken = Vec::new();
        {
            let mut queues = self.queues.borrow_mut();
            let most = queues.lendable(hop).min(if self.is_short() { 1 } else { u32::MAX });
            queues.lend(hop, most, self.driver.now(), &mut taken);
        }
        if !self.lend_all(share, hop, &ring, taken).await {
            self.relieve();
            // Nothing is lent again before whoever holds the memory, or the read that waits for it, had a turn.
            self.driver.sleep(NO_MEMORY_WAIT).await;
        }
        if share.has(hop, &ring) {
            let mut queues = self.queues.borrow_mut();
            queues.saw_ring(hop, share.view(&ring));
            queues.has_lent(hop);
        }
        self.run_actions();
    }

    /// Makes tickets of what was taken. `false`: memory was short, and the rest is back in the queue.
    async fn lend_all(self: &Rc<Self>, share: &Share, hop: HopId, ring: &Ring, taken: Vec<Taken>) -> bool {
        let mut left = VecDeque::from(taken);
        let mut enough = true;
        let wanted = || !self.draining.get() && share.has(hop, ring);
        while wanted()
            && let Some(next) = left.front()
        {
            match self.whole(next).await {
                // A disk read ago, somebody waited for it.
                Ok(message) if wanted() => self.lend_one(share, ring, next, message),
                Ok(_) => break,
                Err(LoadError::Memory) => {
                    enough = false;
                    break;
                }
                Err(error) => self.not_to_be_had(next, &error),
            }
            left.pop_front();
            if self.is_short() {
                break;
            }
        }
        // The last one first: each goes back to the head.
        left.iter().rev().for_each(|taken| self.put_back(taken));
        enough
    }

    fn lend_one(self: &Rc<Self>, share: &Share, ring: &Ring, taken: &Taken, message: u32) {
        let ticket = {
            let messages = self.messages.borrow();
            let message = messages.get(message);
            let offered = self.offered(taken.id, message);
            Box::new(Ticket { owner: share.me, entry: taken.id, message: message.lent(), offered })
        };
        match ring.push(ticket) {
            Ok(shard) => {
                self.tally.one(Counter::Lent);
                self.tally.one(Counter::CrossingsSent);
                share.wake(shard, ring);
            }
            Err(_) => {
                self.tally.one(Counter::CrossingsFull);
                self.put_back(taken);
            }
        }
    }

    /// What became of a message that was lent.
    fn came_back(self: &Rc<Self>, back: Return) {
        // In flight to the end of this: what became of it is written down then.
        let Return { entry, answers, outcome, failures, why, in_flight: _to_the_end } = back;
        let now = self.driver.now();
        let outcome = outcome.unwrap_or_else(|| self.queues.borrow_mut().untaken(entry, now));
        let content = self.queues.borrow().find(entry).and_then(|taken| taken.content);
        let message = content.expect("a message that is lent stays in memory");
        let whole = answers.is_empty() && self.messages.borrow().get(message).recipients == 1;
        answers.into_iter().for_each(|answer| self.answered(entry, message, answer));
        self.conclude(Attempt { entry, message, whole, failures, why }, outcome, now);
    }
}

/// As borrower.
impl<D: Driver> Hub<D> {
    /// This shard's connections to a next hop have room.
    pub(super) fn await_tickets(&self, hop: HopId) {
        let Some((share, ring)) = self.share.as_ref().and_then(|share| Some((share, share.ring(hop)?))) else { return };
        if self.draining.get() {
            return;
        }
        if ring.await_tickets(share.me) {
            ring.lenders().for_each(|shard| share.exchange.wake(shard, &ring));
        } else {
            self.queues.borrow_mut().saw_ring(hop, share.view(&ring));
        }
    }

    /// This shard has connections to a next hop, or none any more.
    pub(super) fn serve(&self, hop: HopId, serves: bool) {
        let Some((share, ring)) = self.share.as_ref().and_then(|share| Some((share, share.ring(hop)?))) else { return };
        ring.serve(share.me, serves && !self.draining.get());
        if serves {
            ring.lenders().for_each(|shard| share.exchange.wake(shard, &ring));
        }
    }

    /// Whether tickets of others are there whose turn it is before more of our own.
    pub(super) fn is_turn_of_others(&self, conn: ConnId) -> bool {
        self.share.as_ref().is_some_and(|share| {
            let room = self.queues.borrow().room_for_others(conn, self.driver.now());
            room.is_some_and(|(hop, _)| share.untaken(hop) > 0)
        })
    }

    /// It takes no tickets for a next hop any more: who was to be woken for one is told.
    pub(super) fn leave_tickets(&self, hop: HopId) {
        if let Some(share) = &self.share
            && let Some(ring) = share.ring(hop)
        {
            share.wake(ring.no_longer_await(share.me), &ring);
        }
    }

    /// Tickets for a connection that has room and nothing of our own to send.
    pub(super) fn borrow(&self, conn: ConnId, room: Room, now: Tick, out: &mut Vec<Ticket>) {
        let Some(share) = &self.share else { return };
        let mut queues = self.queues.borrow_mut();
        let Some((hop, most)) = queues.room_for_others(conn, now) else { return };
        // Not cloned: nothing that shards share is written where nothing crosses.
        let rings = share.rings.borrow();
        let Some(ring) = rings.get(&hop) else { return };
        let (mut count, mut bytes) = (0, 0);
        while count < most.min(room.messages) && (count == 0 || bytes < room.bytes) {
            let Some(ticket) = ring.pop() else { break };
            bytes += ticket.message.facts.bytes;
            out.push(*ticket);
            count += 1;
        }
        queues.borrowed(conn, count, now);
        queues.saw_ring(hop, share.view(ring));
        share.borrowed.set(share.borrowed.get() + count);
        self.tally.add(Counter::Borrowed, u64::from(count));
    }

    /// A borrowed message's attempt has ended on this connection; `known` is what our queues named it, if it was a guest.
    /// When other hosts may take it, it stays for them.
    pub(super) fn borrowed_ended(
        self: &Rc<Self>,
        conn: ConnId,
        known: Option<EntryId>,
        guest: Guest,
        outcome: Outcome,
    ) {
        let Some(share) = &self.share else { return };
        let now = self.driver.now();
        let mut queues = self.queues.borrow_mut();
        let outcome = match outcome {
            Outcome::Elsewhere if self.draining.get() => Outcome::NotAttempted,
            outcome => outcome,
        };
        if outcome == Outcome::Elsewhere {
            let id = known.unwrap_or_else(|| queues.keep_guest(conn, guest.loan.taken, now));
            if known.is_some() {
                queues.finish(id, outcome, now);
            }
            share.guests.borrow_mut().insert(id, guest);
            return;
        }
        match known {
            Some(id) => drop(queues.finish(id, outcome, now)),
            None => queues.returned(conn, outcome, guest.loan.taken, now),
        }
        drop(queues);
        self.send_home(share, guest, outcome);
    }

    /// A message that was taken, if it is a guest.
    pub(super) fn take_guest(&self, taken: EntryId) -> Option<Guest> {
        self.share.as_ref()?.guests.borrow_mut().remove(&taken)
    }

    /// No host may take a guest now, or its time here is over: its owner has it back.
    pub(super) fn part_with(self: &Rc<Self>, id: EntryId, outcome: Outcome) {
        if let Some(share) = &self.share
            && let Some(guest) = self.take_guest(id)
        {
            self.send_home(share, guest, outcome);
        }
    }

    fn send_home(self: &Rc<Self>, share: &Share, guest: Guest, outcome: Outcome) {
        let Guest { entry, loan: Loan { owner, answers, failures, why, in_flight, .. }, message, .. } = guest;
        self.messages.borrow_mut().release(message);
        share.borrowed.set(share.borrowed.get() - 1);
        self.hand_back(share, owner, Return { entry, answers, outcome: Some(outcome), failures, why, in_flight });
    }

    fn hand_back(self: &Rc<Self>, share: &Share, owner: usize, back: Return) {
        if owner == share.me {
            return self.came_back(back);
        }
        self.tally.one(Counter::CrossingsSent);
        share.exchange.give_back(owner, back);
    }

    /// The time of something in this ring is over, and while the hosts are dead nobody would take it (M-097).
    pub(super) fn recall_tickets(self: &Rc<Self>, hop: HopId) {
        if let Some(share) = &self.share
            && let Some(ring) = share.ring(hop)
        {
            self.send_tickets_home(share, &ring, None);
        }
    }

    fn send_tickets_home(self: &Rc<Self>, share: &Share, ring: &Ring, outcome: Option<Outcome>) {
        while let Some(ticket) = ring.pop() {
            let back = Return {
                entry: ticket.entry,
                answers: Vec::new(),
                outcome,
                failures: Failures::default(),
                why: None,
                in_flight: InFlight::default(),
            };
            self.hand_back(share, ticket.owner, back);
        }
    }

    /// Takes part in no ring's work any more, and gives back what waits there.
    fn clear(self: &Rc<Self>, share: &Share, hop: HopId, ring: &Ring) {
        share.wake(ring.no_longer_await(share.me), ring);
        ring.serve(share.me, false);
        self.send_tickets_home(share, ring, Some(Outcome::NotAttempted));
        self.queues.borrow_mut().offered_by_others(hop, 0);
    }
}

/// As both.
impl<D: Driver> Hub<D> {
    /// Another shard has left something here: looks at everything that crosses.
    pub fn crossed(self: &Rc<Self>) {
        let Some(share) = &self.share else { return };
        share.sleeper.awake();
        while let Some(back) = share.inbox.pop() {
            self.came_back(back);
        }
        if self.draining.get() {
            self.leave_rings();
        } else {
            let (rings, marked) = (share.rings.borrow(), share.marked.borrow());
            share.exchange.take_marks(share.me, |mark| {
                for hop in marked.get(&mark).into_iter().flatten() {
                    self.look_into(share, *hop, &rings[hop]);
                }
            });
        }
        self.run_actions();
    }

    /// Another shard has chosen this one for something in this ring.
    fn look_into(&self, share: &Share, hop: HopId, ring: &Ring) {
        let mut queues = self.queues.borrow_mut();
        if !queues.serves_others(hop) {
            // Whoever woke this shard for a ticket meant somebody who can take it.
            share.wake(ring.no_longer_await(share.me), ring);
        }
        queues.saw_ring(hop, share.view(ring));
    }

    /// Whether nothing has been left here: who leaves something from now on wakes this shard.
    pub fn may_sleep(&self) -> bool {
        self.share.as_ref().is_none_or(|share| share.sleeper.may_sleep(|| share.inbox.is_empty()))
    }

    /// Gives back everything that waits in rings, and takes nothing from them any more.
    pub(super) fn leave_rings(self: &Rc<Self>) {
        let Some(share) = &self.share else { return };
        self.queues.borrow_mut().part_with_all_guests();
        let rings: Vec<_> = share.rings.borrow().iter().map(|(hop, ring)| (*hop, ring.clone())).collect();
        for (hop, ring) in &rings {
            self.clear(share, *hop, ring);
        }
    }

    /// Has the rings of these next hops, and leaves all others.
    pub(super) fn install_rings<'a>(self: &Rc<Self>, hops: impl Iterator<Item = (HopId, &'a NextHopKey)>) {
        let Some(share) = &self.share else { return };
        let rings: BTreeMap<HopId, Ring> = hops.map(|(hop, key)| (hop, share.exchange.ring(key))).collect();
        let mut marked: BTreeMap<u32, Vec<HopId>> = BTreeMap::new();
        rings.iter().for_each(|(hop, ring)| marked.entry(ring.mark).or_default().push(*hop));
        share.marked.replace(marked);
        let before = share.rings.replace(rings);
        for (hop, ring) in before.iter().filter(|(hop, _)| !share.rings.borrow().contains_key(hop)) {
            self.clear(share, *hop, ring);
        }
        let mut queues = self.queues.borrow_mut();
        for (hop, ring) in share.rings.borrow().iter().filter(|(hop, _)| !before.contains_key(hop)) {
            // Whatever was said of a ring that is gone is begun again with this one.
            queues.saw_ring(*hop, share.view(ring));
        }
    }
}

impl Message {
    /// The same octets for another shard.
    fn lent(&self) -> Message {
        Message { entries: 1, undivided: true, ..self.clone() }
    }
}
