//! How queues move, for an operator: the rates of the last minute, the oldest message, and which queues there are to see.
//!
//! Per message two counts are kept, and nothing else is done. Whoever runs the queues calls [`Queues::look`] a few times a
//! second; it takes the counts now and then, and goes through a part of the entries, so that it costs the same at a time
//! however many wait.

use super::Queues;
use super::destination::{HopId, Totals};
use super::entry::State;
use crate::wire::{Span, Tick};

/// Rates are means of a minute: counts are taken so often, and so many are kept.
const STEP: Span = Span::seconds(5);
const STEPS: usize = 12;

/// All entries are gone through in so many looks, or in fewer where these pages are enough.
const LOOKS_PER_TURN: u32 = 240;
const PAGES_PER_LOOK_MIN: u32 = 4;

/// What one queue had counted when counts were taken, and its oldest message.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Messages that had entered and left, modulo 2^32, in the places of [`Looks::moments`].
    counts: [(u32, u32); STEPS],
    /// The second in which its oldest message is given up: of the last turn through the entries, and of this one so far.
    oldest: Option<u32>,
    oldest_so_far: Option<u32>,
}

/// Where looking stands.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// When counts were taken, the last ones in a ring; and how often in all.
    moments: [Tick; STEPS],
    taken: usize,
    /// The page of entries that is next.
    page: u32,
}

/// How one queue moves on one shard.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PaceStatus {
    /// Messages a second that entered, on the average of the last minute, or since the first look if that is less.
    pub incoming_per_s: f64,
    /// The same for those that left, whatever became of them.
    pub outgoing_per_s: f64,
    /// Age of the oldest message, to the second; found at most a turn of 240 looks ago.
    pub oldest: Option<Span>,
}

impl Queues {
    /// Takes the counts when it is time, and looks at some more entries. Cheap: for a few times a second.
    pub fn look(&mut self, now: Tick) {
        let looks = &mut self.looks;
        let last = looks.taken.checked_sub(1).map(|last| looks.moments[last % STEPS]);
        if last.is_none_or(|last| now.since(last) >= STEP) {
            let place = looks.taken % STEPS;
            looks.moments[place] = now;
            looks.taken += 1;
            self.hops.iter_mut().for_each(|hop| hop.pace.counts[place] = counted(&hop.totals));
        }
        let pages = self.entries.pages();
        for _ in 0..pages.div_ceil(LOOKS_PER_TURN).max(PAGES_PER_LOOK_MIN).min(pages) {
            self.look_at_page();
        }
    }

    fn look_at_page(&mut self) {
        let (_, page) = self.entries.page(self.looks.page);
        for entry in page.iter().filter(|entry| entry.state != State::Free && !entry.is_guest()) {
            let oldest = &mut self.hops[entry.hop as usize].pace.oldest_so_far;
            *oldest = Some(oldest.map_or(entry.expires, |oldest| oldest.min(entry.expires)));
        }
        self.looks.page += 1;
        if self.looks.page >= self.entries.pages() {
            self.looks.page = 0;
            self.hops.iter_mut().for_each(|hop| hop.pace.oldest = hop.pace.oldest_so_far.take());
        }
    }

    /// How one queue moves.
    ///
    /// # Panics
    /// When the id is from another shard.
    pub fn pace(&self, hop: HopId, now: Tick) -> PaceStatus {
        let state = &self.hops[hop.0 as usize];
        let oldest = state.pace.oldest.filter(|_| state.has_messages());
        let oldest = oldest.map(|second| self.expiry.age(second, now));
        let first = if self.looks.taken < STEPS { 0 } else { self.looks.taken % STEPS };
        if self.looks.taken == 0 {
            return PaceStatus { oldest, ..PaceStatus::default() };
        }
        let (counts, before) = (counted(&state.totals), state.pace.counts[first]);
        let seconds = now.since(self.looks.moments[first]).as_secs_f64().max(1.0);
        let rate = |now: u32, before: u32| f64::from(now.wrapping_sub(before)) / seconds;
        PaceStatus { incoming_per_s: rate(counts.0, before.0), outgoing_per_s: rate(counts.1, before.1), oldest }
    }

    /// Whether there is a queue to see: one is made by its first message, and is gone when it has been empty for a while
    /// (`QueueMaxIdleTime`), unless somebody holds it.
    ///
    /// # Panics
    /// When the id is from another shard.
    pub fn is_seen(&self, hop: HopId, now: Tick) -> bool {
        let hop = &self.hops[hop.0 as usize];
        let used = hop.totals.enqueued > 0 && now.since(hop.used) < self.options.queue_idle_wait;
        hop.live && (hop.suspended || used || hop.has_messages())
    }
}

/// Messages that have entered and left: of their differences only the last digits are needed.
#[expect(clippy::cast_possible_truncation, reason = "modulo 2^32")]
fn counted(totals: &Totals) -> (u32, u32) {
    (totals.enqueued as u32, totals.left as u32)
}
