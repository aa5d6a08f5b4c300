//! What an operator sees of single messages, and takes out: page by page, so that millions cost no more at a time than a
//! thousand do.

use super::Queues;
use super::destination::HopId;
use super::entry::{EntryId, State};
use super::recipients::Members;
use crate::wire::{Span, Tick};

/// What a message is doing (docs/PROFILES.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Waiting for its turn.
    Ready,
    /// Being sent, or lent to a shard that may send it, or its outcome is not yet durable.
    Active,
    /// Its last attempt failed, or every host of its queue has.
    Retry,
    /// Being sent; taken out when that comes to nothing.
    PendingRemove,
}

/// One message of one queue.
#[derive(Debug, Clone)]
pub struct Listed<'a> {
    /// Names it.
    pub id: EntryId,
    /// Its queue.
    pub hop: HopId,
    /// Its record.
    pub record: u64,
    /// Octets of trace headers and content, saturating.
    pub bytes: u32,
    /// Attempts begun.
    pub attempts: u16,
    /// What it is doing.
    pub doing: Doing,
    /// When it is tried again, where it waits for that by itself.
    pub retry_at: Option<Tick>,
    /// How long ago it was received, to the second.
    pub age: Span,
    /// How long until it is given up, to the second.
    pub left: Span,
    /// Its unsettled recipients.
    pub recipients: Members<'a>,
}

/// What came of taking a message out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It waits: write down what becomes of it, then call [`Queues::removed`].
    Now,
    /// It is under way: [`super::Action::Remove`] names it if that comes to nothing.
    Pending,
    /// There is no such message any more.
    Gone,
}

impl Queues {
    /// Pages of messages, used or empty: [`Queues::page`] is asked for each of them.
    pub fn pages(&self) -> u32 {
        self.entries.pages()
    }

    /// The messages of one page, in no order; of other shards none.
    pub fn page(&self, page: u32, now: Tick) -> impl Iterator<Item = Listed<'_>> {
        let (first, entries) = self.entries.page(page);
        let used = (first..).zip(entries).filter(|(_, entry)| entry.state != State::Free && !entry.is_guest());
        used.map(move |(index, entry)| {
            let id = self.entries.id(index);
            let hop = &self.hops[entry.hop as usize];
            let doing = match entry.state {
                State::Sending | State::Settling if self.condemned.contains_key(&id) => Doing::PendingRemove,
                // What is lent may lie untaken, as what waits does.
                State::Sending if super::expiry::is_lent(entry) && hop.in_retry() => Doing::Retry,
                State::Sending if super::expiry::is_lent(entry) => Doing::Ready,
                State::Sending | State::Settling => Doing::Active,
                State::Deferred => Doing::Retry,
                _ if hop.in_retry() => Doing::Retry,
                _ => Doing::Ready,
            };
            Listed {
                id,
                hop: HopId(entry.hop),
                record: entry.record,
                bytes: entry.bytes,
                attempts: entry.attempts,
                doing,
                retry_at: (entry.state == State::Deferred).then_some(entry.when),
                age: self.expiry.age(entry.expires, now),
                left: self.expiry.left(entry.expires, now),
                recipients: Members::new(entry.words(&self.wide), &[], &[]),
            }
        })
    }

    /// An operator wants a message out of its queue; `tells` says whether its sender is to hear of it, for later.
    pub fn condemn(&mut self, id: EntryId, tells: bool) -> Removal {
        let Some(index) = self.entries.find(id).filter(|&index| !self.entries[index].is_guest()) else {
            return Removal::Gone;
        };
        match self.entries[index].state {
            State::Sending | State::Settling => {
                self.condemned.insert(id, tells);
                if super::expiry::is_lent(&self.entries[index]) {
                    self.expiry.recall(self.entries[index].hop);
                    self.mark(self.entries[index].hop);
                }
                Removal::Pending
            }
            _ => Removal::Now,
        }
    }

    /// A message that waited was taken out: what became of its recipients is written down. The content handle that it had.
    pub fn removed(&mut self, id: EntryId, now: Tick) -> Option<u32> {
        let index = self.unqueue(id)?;
        let content = self.entries[index].content;
        self.release(index, now);
        (content != super::entry::NONE).then_some(content)
    }

    /// A message waits again: if it was to be taken out meanwhile, it is now.
    pub(super) fn note_condemned(&mut self, index: u32) {
        if !self.condemned.is_empty()
            && let Some(tells) = self.condemned.remove(&self.entries.id(index))
        {
            self.scheduler.removals.push_back((self.entries.id(index), tells));
        }
    }

    /// The next message that was to be taken out and waits now.
    pub(super) fn next_removal(&mut self) -> Option<(EntryId, bool)> {
        while let Some((id, tells)) = self.scheduler.removals.pop_front() {
            let waits = |index: u32| !matches!(self.entries[index].state, State::Sending | State::Settling);
            if self.entries.find(id).is_some_and(waits) {
                return Some((id, tells));
            }
        }
        None
    }
}
