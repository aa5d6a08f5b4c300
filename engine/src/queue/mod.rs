//! Queues: what waits for which next hop, when it leaves, by which host, over how many connections.
//!
//! [`Queues`] is one shard's. It owns no socket, no clock and no content: the shell tells it what happened and when, and
//! it answers what to do. One queue per next hop; trouble with one is invisible to the others.
//!
//! ```text
//!  enqueue ─► Waiting ──take/lend──► Sending ──finish──► gone (all recipients settled)
//!               ▲  ▲                    │ ├─ Deferred ──► Deferred ─(its own retry time)─┐
//!               │  │                    │ └─ some settled ─► Settling ─(settle durable)──┤
//!               │  └── NotAttempted, first break: at the head again ◄────────────────────┘
//!               └─ Elsewhere: taken next by a connection of a host that was not asked; Deferred when none can be reached
//! ```
//! The shell's side of the contract:
//! - After anything was told, call [`Queues::next_action`] until it answers `None`, and do what it says: open a connection,
//!   wake one to take messages, close one.
//! - A connection that has room calls [`Queues::take`]; each message taken ends by exactly one [`Queues::finish`], after any
//!   [`Queues::recipient`] that were answered on their own. When [`Fate::AwaitsSettle`] comes back, call
//!   [`Queues::settle_is_durable`] once the outcomes are on disk (M-102).
//! - A connection that ends reports its unfinished messages first, then [`Queues::closed`], with no `next_action` between.
//! - A message borrowed from another shard ends by [`Queues::returned`]. When the host could not take it and
//!   [`Queues::has_other_host`], the shell calls [`Queues::keep_guest`] instead and keeps what it borrowed under that id: the
//!   guest is taken and finished like one of our own, or [`Action::GiveBack`] says that its owner is to have it back.
//! - Call [`Queues::on_timer`] when [`Queues::next_timer`] has come. Every wait hangs on it (I-8).
//!
//! Bounds: 64 octets a message and next hop, and 4 while it waits for its own retry; at most two attempts at once on a
//! host not known to live; caps of connections per destination and in sum; half of the sum at most for hosts not known to
//! live, beside those tried in a queue's own places. Nothing is allocated per message in steady state: slabs grow by pages
//! and are kept.
//!
//! Conformance: M-087, M-091, M-097, M-098, M-101, M-102; F-056, F-060 to F-065, F-072, F-089, F-091 to F-094.

mod concurrency;
mod connections;
mod destination;
mod elsewhere;
mod entry;
mod expiry;
mod health;
mod held;
mod lane;
mod link;
mod listing;
mod options;
mod outcome;
mod pace;
mod places;
mod recipients;
mod reroute;
mod retry;
mod scheduler;
mod share;
mod status;
mod timers;
mod trouble;

#[cfg(test)]
mod tests;

pub use destination::{HopId, Totals};
pub use entry::{EntryId, Priority};
pub use health::Cause;
pub use link::ConnId;
pub use listing::{Doing, Listed, Removal};
pub use options::{Options, part_of};
pub use outcome::{Fate, Outcome, RecipientOutcome};
pub use pace::PaceStatus;
pub use recipients::Members;
pub use reroute::Orphans;
pub use retry::Ladder;
pub use scheduler::{Action, Room, Taken};
pub use share::{LENT_PER_HOP_MAX, RingView};
pub use status::{HopStatus, HostStatus, Status};
pub use trouble::LastError;

use crate::wire::{HostAddress, NextHopKey, Span, Tick};
use destination::Hop;
use entry::{Entries, NONE, State, flag};
use expiry::Expiry;
use health::Host;
use link::Links;
use pace::Looks;
use recipients::Wide;
use scheduler::Scheduler;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use timers::Heap;

/// A message for one next hop, as it enters its queue.
#[derive(Debug, Clone, Copy)]
pub struct NewEntry<'a> {
    /// Its record on disk.
    pub record: u64,
    /// The recipients that go to this hop, as a bitmap over their indexes in the record: bit `i % 64` of word `i / 64`.
    pub recipients: &'a [u64],
    /// Octets of trace headers and content.
    pub bytes: u64,
    /// How long ago it was received.
    pub age: Span,
    /// Its priority.
    pub priority: Priority,
    /// The caller's handle of its content in memory, if it is there.
    pub content: Option<u32>,
}

/// What attempts leave for later.
#[derive(Debug, Clone, Copy)]
struct Note {
    /// Recipients deferred by their own 4yz: they wait for the message's retry.
    put_off: u32,
    /// Recipients for a further transaction at once.
    rest: u32,
    /// Hosts that cannot take the message, by their places among those of its hop.
    unfit: u32,
}

/// All queues of one shard.
#[derive(Debug)]
pub struct Queues {
    options: Options,
    entries: Entries,
    wide: Wide,
    notes: Slab<Note>,
    hops: Vec<Hop>,
    free_hops: Vec<u32>,
    by_key: BTreeMap<NextHopKey, u32>,
    /// Names of queues that an operator holds.
    suspended: Arc<BTreeSet<String>>,
    /// Messages that an operator wants out and that are under way, and whether their senders are to hear of it.
    condemned: BTreeMap<EntryId, bool>,
    links: Links,
    retries: Heap,
    hop_timers: Heap,
    expiry: Expiry,
    looks: Looks,
    /// Entries that stand for messages of other shards.
    guests: u32,
    scheduler: Scheduler,
}

impl Queues {
    /// Empty queues.
    pub fn new(options: Options) -> Self {
        let scheduler = Scheduler::new(&options);
        Self {
            expiry: Expiry::new(options.expire_after),
            options,
            entries: Entries::new(),
            wide: Wide::default(),
            notes: Slab::new(),
            hops: Vec::new(),
            free_hops: Vec::new(),
            by_key: BTreeMap::new(),
            suspended: Arc::default(),
            condemned: BTreeMap::new(),
            links: Links::new(),
            retries: Heap::default(),
            hop_timers: Heap::default(),
            looks: Looks::default(),
            guests: 0,
            scheduler,
        }
    }

    /// Takes over a new set of next hops, in the order of a routing snapshot; `ids` is filled with their ids in that order.
    ///
    /// Queues keep their messages and hosts their health; a host that is gone finishes what it has under way. The queue of
    /// a next hop that is gone goes on with its last hosts until it is empty, or until [`Queues::split`] moves its
    /// messages.
    pub fn install<'a>(
        &mut self,
        hops: impl IntoIterator<Item = (&'a NextHopKey, &'a [HostAddress])>,
        now: Tick,
        ids: &mut Vec<HopId>,
    ) {
        ids.clear();
        self.recall_elsewhere();
        self.hops.iter_mut().for_each(|hop| hop.pinned = false);
        for (key, hosts) in hops {
            let index = self.hop_for(key, now);
            self.hops[index as usize].pinned = true;
            self.set_hosts(index, hosts, now);
            self.mark(index);
            ids.push(HopId(index));
        }
        for index in 0..self.hops.len() {
            let hop = &self.hops[index];
            if hop.is_orphaned() {
                self.mark(u32::try_from(index).expect("hops are named by 32 bits"));
            }
        }
        self.recall_deferred();
    }

    fn hop_for(&mut self, key: &NextHopKey, now: Tick) -> u32 {
        if let Some(&index) = self.by_key.get(key) {
            return index;
        }
        let mut hop = Hop::new(key.clone(), &self.options, now);
        hop.suspended = held::is_held(&self.suspended, &hop);
        let index = match self.free_hops.pop() {
            Some(index) => {
                self.hops[index as usize] = hop;
                index
            }
            None => {
                self.hops.push(hop);
                u32::try_from(self.hops.len() - 1).expect("hops are named by 32 bits")
            }
        };
        self.by_key.insert(key.clone(), index);
        index
    }

    fn set_hosts(&mut self, index: u32, hosts: &[HostAddress], now: Tick) {
        let hop = &mut self.hops[index as usize];
        if hosts.is_empty() && !hop.has_no_host() {
            hop.hostless = now;
        }
        let was_there = |host: &Host, at: &HostAddress| !host.retired && host.at.address == at.address;
        let came = hosts.iter().any(|at| !hop.hosts.iter().any(|host| was_there(host, at)));
        let mut went = false;
        for host in &mut hop.hosts {
            let retired = !hosts.iter().any(|at| at.address == host.at.address);
            went |= retired && !host.retired;
            host.retired = retired;
        }
        if came || went {
            // Those that were tried before were not the only hope then.
            hop.round += 1;
        }
        if came {
            hop.retry_at = Tick::NEVER;
        }
        for &at in hosts {
            if let Some(host) = hop.hosts.iter_mut().find(|host| host.at.address == at.address) {
                host.at = at;
                continue;
            }
            let new = Host::new(at, self.options.host_window_start);
            match hop.hosts.iter_mut().find(|host| host.retired && host.is_unused()) {
                Some(slot) => *slot = new,
                None => hop.hosts.push(new),
            }
        }
        self.close_idle_of_retired(index);
    }

    /// Puts a message behind all others of its priority. At least one recipient must be in the set.
    pub fn enqueue(&mut self, hop: HopId, new: NewEntry<'_>, now: Tick) -> EntryId {
        let expires = self.expiry.second(new.age, now);
        self.enqueue_until(expires, hop, new, now)
    }

    /// The same for a message whose time is over in this second, whatever its age.
    fn enqueue_until(&mut self, expires: u32, hop: HopId, new: NewEntry<'_>, now: Tick) -> EntryId {
        assert!(self.hops[hop.0 as usize].live, "messages enter queues that exist");
        assert!(!recipients::is_empty(new.recipients), "an entry has recipients");
        let index = self.entries.allocate();
        let wide = new.recipients.len() > 1;
        let bits = match wide {
            true => u64::from(self.wide.insert(new.recipients)),
            false => new.recipients[0],
        };
        let entry = &mut self.entries[index];
        entry.record = new.record;
        entry.recipients = bits;
        entry.expires = expires;
        entry.hop = hop.0;
        entry.content = new.content.unwrap_or(NONE);
        entry.flags = new.priority as u8 | if wide { flag::WIDE } else { 0 };
        self.entries.weigh(index, new.bytes);
        if self.entries.live() == 1 {
            self.expiry_begins(now);
        }
        let hop_state = &mut self.hops[hop.0 as usize];
        if hop_state.queued() == 0 {
            hop_state.moved = now;
        }
        hop_state.push_back(&mut self.entries, index);
        hop_state.totals.enqueued += 1;
        hop_state.used = now;
        self.mark(hop.0);
        self.entries.id(index)
    }

    /// Takes a message that is not being sent out of its queue; `false` when it is being sent, or gone.
    pub fn remove(&mut self, id: EntryId, now: Tick) -> bool {
        let Some(index) = self.unqueue(id) else { return false };
        self.release(index, now);
        true
    }

    /// A message's record, octets and content handle, as long as it is queued.
    pub fn find(&self, id: EntryId) -> Option<Taken> {
        self.entries.find(id).map(|index| self.taken(index))
    }

    /// Notes that a message's content is in memory now, under this handle, or no longer; the handle it had before.
    pub fn set_content(&mut self, id: EntryId, content: Option<u32>) -> Option<u32> {
        let index = self.entries.find(id)?;
        let before = std::mem::replace(&mut self.entries[index].content, content.unwrap_or(NONE));
        (before != NONE).then_some(before)
    }

    /// When memory is short: looks at `most` messages of the queue that has stood still longest, the longest of several,
    /// those that leave last first, forgets their content handles and hands each to `drop`. The others keep theirs until it
    /// has given all: a next hop that hangs takes no memory from those that move (I-5). `false` when nothing waits with
    /// content anywhere. A message is looked at once, however often this is called.
    pub fn shed_content(&mut self, most: usize, now: Tick, drop: impl FnMut(u32)) -> bool {
        let giving = self.hops.iter_mut().filter(|hop| hop.live && !hop.is_bare());
        let Some(hop) = giving.max_by_key(|hop| (now.since(hop.moved).0 / Span::seconds(1).0, hop.queued())) else {
            return false;
        };
        let lists = hop.lanes.iter_mut().rev().chain([&mut hop.elsewhere]);
        let list = lists.into_iter().find(|list| !list.is_bare()).expect("something in it is not bare");
        list.strip(&mut self.entries, most, drop);
        true
    }

    /// A message that waits for its own retry needs its content no sooner than that.
    fn shed_deferred(&mut self, index: u32) {
        let entry = &mut self.entries[index];
        if self.options.sheds_content && entry.content != NONE {
            self.scheduler.shed.push(std::mem::replace(&mut entry.content, NONE));
        }
    }

    /// The unsettled recipients that this attempt offers, and for which its end will speak: all but those whose own
    /// answer was told by [`Queues::recipient`], ascending.
    pub fn recipients(&self, id: EntryId) -> Members<'_> {
        let index = self.entries.find(id).expect("recipients are asked of messages being sent");
        self.offered(index)
    }

    fn offered(&self, index: u32) -> Members<'_> {
        let entry = &self.entries[index];
        let (put_off, rest) = match self.notes.get(entry.place as usize) {
            Some(note) if !matches!(entry.state, State::Deferred | State::Free) => {
                (self.wide.words(note.put_off), self.wide.words(note.rest))
            }
            _ => (&[][..], &[][..]),
        };
        Members::new(entry.words(&self.wide), put_off, rest)
    }

    /// Takes a message out of whatever list or heap it is in.
    fn unqueue(&mut self, id: EntryId) -> Option<u32> {
        let index = self.entries.find(id)?;
        let hop = &mut self.hops[self.entries[index].hop as usize];
        match self.entries[index].state {
            State::Waiting => hop.remove_waiting(&mut self.entries, index),
            State::Deferred => {
                self.retries.remove(&mut self.entries, index);
                hop.deferred -= 1;
            }
            State::Elsewhere => self.leave_elsewhere(index),
            State::Sending | State::Settling | State::Free => return None,
        }
        Some(index)
    }

    fn release(&mut self, index: u32, now: Tick) {
        self.drop_note(index);
        if !self.condemned.is_empty() {
            self.condemned.remove(&self.entries.id(index));
        }
        let entry = &self.entries[index];
        if entry.has(flag::WIDE) {
            self.wide.remove(entry.wide_index());
        }
        let hop = entry.hop;
        let guest = entry.is_guest();
        self.guests -= u32::from(guest);
        let state = &mut self.hops[hop as usize];
        state.totals.left += u64::from(!guest);
        (state.used, state.moved) = (now, if guest { state.moved } else { now });
        self.entries.release(index);
        self.mark(hop);
    }
}
