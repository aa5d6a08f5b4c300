//! Giving up: whoever has waited for too long fails.
//!
//! An entry keeps the second in which its time is over. Nothing is sorted by it, since nearly everybody leaves before:
//! every page of entries is looked through once in [`Expiry::turn`], one page after the other, so that a million that wait
//! cost no more at a time than a thousand do. Whoever is due is told by [`Action::Expire`] up to a turn late, and again a
//! turn later when the caller left him where he is.
//!
//! Age counts by the monotonic clock while the server runs; what it was when the server started comes from the record. So a
//! wall clock that jumps neither empties a queue nor keeps it for ever (F-056).
//!
//! [`Action::Expire`]: super::Action::Expire

use super::Queues;
use super::destination::{Hop, HopId};
use super::entry::{Entry, EntryId, NONE, OF_A_GUEST, State};
use crate::planted;
use crate::wire::{Span, Tick};
use std::collections::{BTreeSet, VecDeque};

/// All entries are looked at within this at the latest, and within a 64th of the time they have.
const TURN_MAX: Span = Span::minutes(1);
const TURNS: u64 = 64;

/// For so long a host is hoped for before a message fails whose next hop has none, or as long as a message may wait at all,
/// if that is less: the resolver may be slow when a server starts, and a route that is missing takes somebody to reload.
const HOST_WAIT_MAX: Span = Span::hours(1);

const SECOND: u64 = Span::seconds(1).0;

/// Who is looked at next, and who was found.
#[derive(Debug)]
pub(super) struct Expiry {
    after: Span,
    page: u32,
    /// When the next page is looked at; of no meaning while nothing is queued.
    at: Tick,
    due: VecDeque<EntryId>,
    /// Queues of which something is due that was lent, or that an operator has suspended.
    recalls: BTreeSet<u32>,
}

impl Expiry {
    pub fn new(after: Span) -> Self {
        Self { after, page: 0, at: Tick(0), due: VecDeque::new(), recalls: BTreeSet::new() }
    }

    /// The second in which a message of this age is given up.
    pub fn second(&self, age: Span, now: Tick) -> u32 {
        let at = now + Span(self.after.0.saturating_sub(age.0));
        u32::try_from(at.0.div_ceil(SECOND)).unwrap_or(u32::MAX).min(OF_A_GUEST - 1)
    }

    /// How old a message is that is given up in this second, to the second.
    pub fn age(&self, second: u32, now: Tick) -> Span {
        (now + self.after).since(Tick(u64::from(second).saturating_mul(SECOND)))
    }

    /// How long until a message is given up whose time is over in this second, to the second.
    pub fn left(&self, second: u32, now: Tick) -> Span {
        Tick(u64::from(second).saturating_mul(SECOND)).since(now)
    }

    /// Nobody is given up untried because the server was down for long: his next hop is tried first, if there is a host or
    /// hope for one. To be lent is no try yet; and where this shard may not connect, or an operator holds the queue, there is none.
    fn has_had_a_try(&self, entry: &Entry, hop: &Hop, now: Tick) -> bool {
        let hope = self.after.min(HOST_WAIT_MAX);
        let attempts = entry.attempts.saturating_sub(u16::from(is_lent(entry)));
        let is_beyond_hope = || {
            let over = Tick(u64::from(entry.expires).saturating_mul(SECOND));
            let waits_for_others = hop.cap == 0 || hop.suspended;
            hop.has_no_host() && now.since(hop.hostless) >= hope || waits_for_others && now.since(over) >= hope
        };
        attempts > 0 || hop.failures > 0 || is_beyond_hope()
    }

    /// Whether its time is over, and it had its try.
    fn is_due(&self, entry: &Entry, hop: &Hop, now: Tick) -> bool {
        u64::from(entry.expires) <= now.0 / SECOND && self.has_had_a_try(entry, hop, now)
    }

    /// What lies lent and untaken of this queue is to come home.
    pub fn recall(&mut self, hop: u32) {
        self.recalls.insert(hop);
    }

    /// How long it takes to look at everybody once.
    fn turn(&self) -> Span {
        Span((self.after.0 / TURNS).clamp(1, TURN_MAX.0))
    }
}

impl Queues {
    /// The first of some messages was queued.
    pub(super) fn expiry_begins(&mut self, now: Tick) {
        self.expiry.at = self.expiry.at.max(now + self.expiry.turn());
    }

    /// When the next page of entries is looked at.
    pub(super) fn next_expiry(&self) -> Tick {
        if self.entries.live() > 0 { self.expiry.at } else { Tick::NEVER }
    }

    /// Looks at one page, when its time has come.
    pub(super) fn look_for_expired(&mut self, now: Tick) {
        if self.next_expiry() > now {
            return;
        }
        let mut found = std::mem::take(&mut self.expiry.due);
        let mut recalls = std::mem::take(&mut self.expiry.recalls);
        let is_stuck = |hop: &Hop| planted!(ExpiryByProgress) && hop.failures > 0;
        let due = |entry: &Entry| {
            let hop = &self.hops[entry.hop as usize];
            self.expiry.is_due(entry, hop, now) && !is_stuck(hop)
        };
        let (first, page) = self.entries.page(self.expiry.page);
        let of_page = (first..).zip(page.iter()).filter(|(_, entry)| waits(entry) && due(entry));
        found.extend(of_page.map(|(index, _)| self.entries.id(index)));
        let lent = page.iter().filter(|entry| is_lent(entry) && due(entry));
        recalls.extend(lent.map(|entry| entry.hop));
        (self.expiry.due, self.expiry.recalls) = (found, recalls);
        let pages = self.entries.pages().max(1);
        self.expiry.page = (self.expiry.page + 1) % pages;
        self.expiry.at = now + Span(self.expiry.turn().0 / u64::from(pages));
    }

    /// The next message whose time is over, if it still waits.
    pub(super) fn next_expired(&mut self) -> Option<EntryId> {
        while let Some(id) = self.expiry.due.pop_front() {
            if self.entries.find(id).is_some_and(|index| waits(&self.entries[index])) {
                return Some(id);
            }
        }
        None
    }

    /// A queue of which something lent may lie untaken although its time is over: where every host is dead, nobody would
    /// take it any more.
    pub(super) fn next_recall(&mut self) -> Option<HopId> {
        self.expiry.recalls.pop_first().map(HopId)
    }

    /// A message that was lent is here again, and nobody took it. Whether it is to be given up.
    pub(super) fn came_home(&mut self, index: u32, now: Tick) -> bool {
        let entry = &self.entries[index];
        let due = self.expiry.is_due(entry, &self.hops[entry.hop as usize], now);
        if due {
            self.expiry.due.push_back(self.entries.id(index));
        }
        due
    }

    /// Gives up a message that waits: all its unsettled recipients have failed, and the caller has written that down. The
    /// content handle that it had.
    pub fn expire(&mut self, id: EntryId, now: Tick) -> Option<u32> {
        let failed = self.unsettled(id).map_or(0, |members| members.count() as u64);
        let index = self.unqueue(id)?;
        let entry = &self.entries[index];
        let content = (entry.content != NONE).then_some(entry.content);
        self.hops[entry.hop as usize].totals.failed += failed;
        self.release(index, now);
        content
    }
}

/// Another shard may send it.
pub(super) fn is_lent(entry: &Entry) -> bool {
    entry.state == State::Sending && entry.link == NONE && !entry.is_guest()
}

fn waits(entry: &Entry) -> bool {
    matches!(entry.state, State::Waiting | State::Elsewhere | State::Deferred)
}
