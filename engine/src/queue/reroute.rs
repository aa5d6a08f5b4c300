//! Messages whose next hop no installed route names any more: found, and moved to the queues that their routes name now.
//!
//! Until somebody moves them, or when no route names anything for them, they go on with the last hosts of their queue. A
//! message that was under way when its route went is named by [`Action::Reroute`] when it is to wait again.
//!
//! [`Action::Reroute`]: super::Action::Reroute

use super::destination::{Hop, HopId};
use super::entry::{EntryId, State};
use super::recipients::{self, Members};
use super::{NewEntry, Queues};
use crate::wire::{NextHopKey, Span, Tick};
use std::collections::VecDeque;

/// A walk through what waits in queues that no installed route names: as many turns for each lane of each of them as it held
/// messages when the walk began, so that none of them keeps another waiting.
#[derive(Debug)]
pub struct Orphans {
    lanes: VecDeque<Lane>,
}

/// One lane of a queue, by their places, and its turns left.
#[derive(Debug)]
struct Lane {
    hop: usize,
    lane: usize,
    left: u32,
}

impl Queues {
    /// The queue of recipients that no route leads to: it has no hosts, no shard lends from it, and every reload has its
    /// messages routed again. Made when it is needed, forgotten when it has been empty for a while.
    pub fn unreachable(&mut self, now: Tick) -> HopId {
        let index = self.hop_for(&NextHopKey::unreachable(), now);
        self.hops[index as usize].pinned = false;
        HopId(index)
    }

    /// Begins a walk through the messages that wait in queues that no installed route names.
    pub fn orphans(&self) -> Orphans {
        let orphaned = self.hops.iter().enumerate().filter(|(_, hop)| hop.is_orphaned());
        let lanes = orphaned.flat_map(|(hop, orphan)| {
            let lanes = orphan.lanes.iter().enumerate();
            lanes.map(move |(lane, list)| Lane { hop, lane, left: list.count })
        });
        Orphans { lanes: lanes.filter(|lane| lane.left > 0).collect() }
    }

    /// The next message of the walk: whoever is told of one moves it, elsewhere ([`Queues::split`]) or
    /// [to the end](Queues::to_the_end), before asking again.
    pub fn next_orphan(&self, walk: &mut Orphans) -> Option<EntryId> {
        while let Some(at) = walk.lanes.front_mut() {
            let hop = self.hops.get(at.hop).filter(|hop| at.left > 0 && hop.is_orphaned());
            let first = hop.map(|hop| hop.lanes[at.lane].head).filter(|&head| head != super::entry::NONE);
            if let Some(first) = first {
                at.left -= 1;
                return Some(self.entries.id(first));
            }
            walk.lanes.pop_front();
        }
        None
    }

    /// The unsettled recipients of a message, ascending.
    pub fn unsettled(&self, id: EntryId) -> Option<Members<'_>> {
        let entry = &self.entries[self.entries.find(id)?];
        Some(Members::new(entry.words(&self.wide), &[], &[]))
    }

    /// No other route takes this message.
    pub fn stays(&mut self, id: EntryId) {
        if let Some(index) = self.entries.find(id) {
            self.see_off(HopId(self.entries[index].hop));
        }
    }

    /// Moves a message that is not being sent behind all others of its queue, and says that it [stays](Queues::stays).
    pub fn to_the_end(&mut self, id: EntryId, now: Tick) {
        if let Some(index) = self.unqueue(id) {
            self.queue_last(index, now);
        }
    }

    /// Nobody shares what is left of a next hop that is gone: it leaves by the shard that holds it, if at all.
    fn see_off(&mut self, hop: HopId) {
        let state = &self.hops[hop.0 as usize];
        if state.is_orphaned() && state.cap == 0 {
            self.limit(hop, 1);
        }
    }

    /// Moves the recipients of a message that is not being sent to other queues, each set of them as an entry of its own;
    /// who is in no set stays, behind all others. Gives how many entries stand for the message now in place of one; `None`,
    /// and nothing is changed, when nobody is in a set, or the message is being sent, or gone.
    pub fn split(&mut self, id: EntryId, sets: &[(HopId, Vec<u64>)], now: Tick) -> Option<u32> {
        let mut unsettled = self.unsettled(id)?;
        let named = |recipient| sets.iter().any(|(_, wanted)| recipients::contains(wanted, recipient));
        unsettled.find(|&recipient| named(recipient))?;
        let index = self.unqueue(id)?;
        let mut entries = 0;
        for (hop, wanted) in sets {
            let entry = &mut self.entries[index];
            let words = entry.words_mut(&mut self.wide);
            let mut moved: Vec<u64> = words.iter().zip(wanted).map(|(word, wanted)| word & wanted).collect();
            words.iter_mut().zip(&moved).for_each(|(word, moved)| *word &= !moved);
            while moved.last() == Some(&0) {
                moved.pop();
            }
            if moved.is_empty() {
                continue;
            }
            let entry = &self.entries[index];
            let new = NewEntry {
                record: entry.record,
                recipients: &moved,
                bytes: u64::from(entry.bytes),
                age: Span::ZERO,
                priority: entry.priority(),
                content: (entry.content != super::entry::NONE).then_some(entry.content),
            };
            self.enqueue_until(entry.expires, *hop, new, now);
            entries += 1;
        }
        if recipients::is_empty(self.entries[index].words(&self.wide)) {
            self.release(index, now);
            return Some(entries);
        }
        self.queue_last(index, now);
        Some(entries + 1)
    }

    /// A message that was taken out of its queue stays in it, behind all others.
    fn queue_last(&mut self, index: u32, now: Tick) {
        let hop = HopId(self.entries[index].hop);
        let state = &mut self.hops[hop.0 as usize];
        state.push_back(&mut self.entries, index);
        state.used = now;
        self.mark(hop.0);
        self.see_off(hop);
    }

    /// Messages of orphaned queues that wait for a retry of their own wait for a route instead: a new one is a new chance.
    pub(super) fn recall_deferred(&mut self) {
        let orphaned = |hop: &Hop| hop.is_orphaned() && hop.deferred > 0;
        if !self.hops.iter().any(orphaned) {
            return;
        }
        let of_orphans = |index: &u32| self.hops[self.entries[*index].hop as usize].is_orphaned();
        let recalled: Vec<u32> = self.retries.members().filter(of_orphans).collect();
        for index in recalled {
            self.retries.remove(&mut self.entries, index);
            self.retry_is_due(index);
        }
    }

    /// A message waits again: if its queue was orphaned meanwhile, it is to be routed again.
    pub(super) fn note_stray(&mut self, index: u32) {
        let entry = &self.entries[index];
        if self.hops[entry.hop as usize].is_orphaned() && !entry.is_guest() {
            self.scheduler.strays.push_back(self.entries.id(index));
        }
    }

    /// The next message to be routed again, if it still waits for that.
    pub(super) fn next_stray(&mut self) -> Option<EntryId> {
        while let Some(id) = self.scheduler.strays.pop_front() {
            let waits =
                |index: u32| matches!(self.entries[index].state, State::Waiting | State::Elsewhere | State::Deferred);
            if self.entries.find(id).is_some_and(waits) {
                return Some(id);
            }
        }
        None
    }
}

impl Hop {
    /// No installed route names it.
    pub fn is_orphaned(&self) -> bool {
        self.live && !self.pinned
    }
}
