//! How attempts end: per recipient, and for the whole transaction.

use super::entry::{EntryId, NONE, State, flag};
use super::{Note, Queues, recipients};
use crate::wire::{Span, Tick};

/// How one recipient was answered on its own: at RCPT, or after the dot by LMTP. Whoever was accepted and waits for the end
/// of the transaction is not reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipientOutcome {
    /// Delivered (LMTP): settled.
    Delivered,
    /// 5yz: settled as failed, a notice is owed. The others are not touched (F-068).
    Failed,
    /// 4yz: stays queued for the message's own retry, no next host in the same attempt (F-065, M-091).
    Deferred,
    /// 452 for one recipient too many: goes in a further transaction at once, if this one settles anybody (F-089, M-034).
    TooMany,
}

/// How a transaction ended, for all recipients not reported on their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 2yz: settled.
    Delivered,
    /// 5yz at MAIL, DATA or the end: settled as failed, a notice is owed.
    Failed,
    /// 4yz at MAIL, DATA or the end, or every recipient refused: the host lives, the message waits.
    Deferred,
    /// Nothing of it was tried, or only behind a refused command (503): back to the head at once, counted as nothing.
    NotAttempted,
    /// The connection ended, or said 421, after its envelope had begun and before its last octet, or it was the one whose MAIL was
    /// refused as every other is: at once over another connection, but once only; then it waits (F-064, F-072).
    Interrupted,
    /// This host cannot take it, as its extensions say, and another of its next hop may ([`Queues::has_other_host`]): nothing
    /// was tried, and it goes there; when no such host can be reached, it waits for its own retry (M-091, M-175).
    Elsewhere,
    /// Its content could not be read here: nothing was tried, nobody's health suffers, the message waits (F-028).
    Unreadable,
    /// The connection ended after its last octet and before the reply: perhaps delivered. Sent again as `Interrupted`;
    /// counted, window W5.
    Unknown,
}

/// What became of a message when its attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All recipients are settled; the entry is gone.
    Gone {
        /// The content handle it had.
        content: Option<u32>,
    },
    /// It stays queued, nothing new is to be written down for it.
    Waits,
    /// It stays queued and does nothing until [`Queues::settle_is_durable`] (M-102).
    AwaitsSettle,
}

impl Queues {
    /// One recipient of a message being sent was answered on its own. The caller writes a settle for `Delivered` and
    /// `Failed`.
    ///
    /// # Panics
    /// When the message is not being sent, or the recipient is not one that it offers.
    pub fn recipient(&mut self, id: EntryId, recipient: usize, outcome: RecipientOutcome) {
        let index = self.sending(id);
        let hop = self.entries[index].hop as usize;
        match outcome {
            RecipientOutcome::Delivered | RecipientOutcome::Failed => {
                let settled = recipients::take(self.entries[index].words_mut(&mut self.wide), recipient);
                assert!(settled, "recipient {recipient} is settled once");
                self.entries[index].set(flag::PROGRESS);
                let totals = &mut self.hops[hop].totals;
                match outcome {
                    RecipientOutcome::Delivered => totals.delivered += 1,
                    _ => totals.failed += 1,
                }
            }
            RecipientOutcome::Deferred => self.note_recipient(index, recipient, flag::PUT_OFF),
            RecipientOutcome::TooMany => self.note_recipient(index, recipient, flag::REST),
        }
    }

    /// A message was lent, no shard's connections took it, and it was called home: how its attempt ended, which was none. When
    /// its time is over it is given up now, and by a shard without connections of its own not lent again before.
    ///
    /// # Panics
    /// When the message is not being sent.
    pub fn untaken(&mut self, id: EntryId, now: Tick) -> Outcome {
        let index = self.sending(id);
        let has_no_connections = self.hops[self.entries[index].hop as usize].cap == 0;
        if self.came_home(index, now) && has_no_connections { Outcome::Elsewhere } else { Outcome::NotAttempted }
    }

    /// A message's attempt ended. The caller writes a settle for each of [`Queues::recipients`] (asked before this call)
    /// when the outcome is `Delivered` or `Failed`.
    ///
    /// # Panics
    /// When the message is not being sent.
    pub fn finish(&mut self, id: EntryId, outcome: Outcome, now: Tick) -> Fate {
        let index = self.sending(id);
        let hop = self.entries[index].hop as usize;
        if outcome == Outcome::Elsewhere {
            self.note_unfit(index);
        }
        self.land(index, outcome, now);
        match outcome {
            Outcome::Delivered | Outcome::Failed => {
                let settled = self.settle_offered(index);
                let totals = &mut self.hops[hop].totals;
                match outcome {
                    Outcome::Delivered => totals.delivered += settled,
                    _ => totals.failed += settled,
                }
            }
            Outcome::Unknown => self.hops[hop].totals.unknown += self.offered(index).count() as u64,
            Outcome::NotAttempted => {
                let entry = &mut self.entries[index];
                entry.attempts = entry.attempts.saturating_sub(1);
            }
            Outcome::Unreadable => self.hops[hop].totals.unreadable += 1,
            Outcome::Deferred | Outcome::Interrupted | Outcome::Elsewhere => {}
        }
        let entry = &self.entries[index];
        let stays_a_guest = entry.is_guest() && outcome == Outcome::Elsewhere;
        if !stays_a_guest && recipients::is_empty(entry.words(&self.wide)) {
            return self.go(index, now);
        }
        self.stay(index, outcome, now)
    }

    /// The outcomes of a message's last attempt are durable: it may be tried again when its time has come (M-102). Does
    /// nothing when it does not wait for that.
    pub fn settle_is_durable(&mut self, id: EntryId, now: Tick) {
        let Some(index) = self.entries.find(id) else { return };
        if self.entries[index].state == State::Settling {
            self.hops[self.entries[index].hop as usize].settling -= 1;
            self.put_back(index, now);
        }
    }

    /// Nobody will say when the outcomes of a message's last attempt are durable: it waits for its own retry time, which is
    /// far behind the next batch.
    pub(super) fn settle_is_overdue(&mut self, id: EntryId, now: Tick) {
        if let Some(index) = self.entries.find(id) {
            self.entries[index].when = Tick::NEVER;
            self.drop_note(index);
            self.settle_is_durable(id, now);
        }
    }

    fn go(&mut self, index: u32, now: Tick) -> Fate {
        let content = self.entries[index].content;
        self.release(index, now);
        Fate::Gone { content: (content != NONE).then_some(content) }
    }

    /// Decides between at once and later for what is left, and whether the disk comes first.
    fn stay(&mut self, index: u32, outcome: Outcome, now: Tick) -> Fate {
        if outcome == Outcome::Elsewhere {
            return self.go_elsewhere(index, now);
        }
        let entry = &mut self.entries[index];
        let progress = entry.has(flag::PROGRESS);
        let at_once = match outcome {
            Outcome::NotAttempted => true,
            Outcome::Interrupted | Outcome::Unknown if !entry.has(flag::HURRIED) => {
                entry.set(flag::HURRIED);
                true
            }
            Outcome::Interrupted | Outcome::Unknown | Outcome::Unreadable | Outcome::Elsewhere => false,
            Outcome::Delivered | Outcome::Failed | Outcome::Deferred => entry.has(flag::REST) && progress,
        };
        entry.clear(flag::PROGRESS);
        self.forget_rest(index);
        // Who was put off one by one is not offered again before the message's retry: nobody else, and it is no use to hurry.
        let at_once = at_once && self.offered(index).next().is_some();
        if !at_once {
            // Deferred as a whole: nobody is left for a further transaction.
            self.drop_note(index);
            self.hops[self.entries[index].hop as usize].totals.deferred += u64::from(outcome != Outcome::Unreadable);
        }
        let entry = &mut self.entries[index];
        // Until it is put back, `when` holds which of the two it will be.
        entry.when = if at_once { Tick(0) } else { Tick::NEVER };
        if !progress {
            self.put_back(index, now);
            return Fate::Waits;
        }
        entry.state = State::Settling;
        self.hops[entry.hop as usize].settling += 1;
        Fate::AwaitsSettle
    }

    /// To the head of its lane, or to its own retry time, as `when` says.
    pub(super) fn put_back(&mut self, index: u32, now: Tick) {
        let hop_index = self.entries[index].hop;
        let hop = &mut self.hops[hop_index as usize];
        if self.entries[index].when == Tick(0) {
            hop.push_front(&mut self.entries, index);
        } else {
            let entry = &mut self.entries[index];
            entry.state = State::Deferred;
            entry.place = NONE;
            entry.when = now + self.options.message_ladder.wait(entry.attempts).max(Span::millis(1));
            hop.deferred += 1;
            self.retries.put(&mut self.entries, index);
            self.shed_deferred(index);
        }
        self.note_condemned(index);
        self.note_stray(index);
        self.mark(hop_index);
    }

    /// Its own retry time has come: behind all others, which have shown no trouble.
    pub(super) fn retry_is_due(&mut self, index: u32) {
        let entry = &mut self.entries[index];
        entry.clear(flag::HURRIED);
        let hop_index = entry.hop;
        let hop = &mut self.hops[hop_index as usize];
        hop.deferred -= 1;
        hop.push_back(&mut self.entries, index);
        self.mark(hop_index);
    }

    fn sending(&self, id: EntryId) -> u32 {
        let index = self.entries.find(id).expect("outcomes are told of messages being sent");
        assert!(self.entries[index].state == State::Sending, "outcomes are told of messages being sent");
        index
    }

    /// Settles everybody for whom the end of the attempt speaks; how many.
    fn settle_offered(&mut self, index: u32) -> u64 {
        let settled = self.offered(index).count() as u64;
        let entry = &mut self.entries[index];
        if settled > 0 {
            entry.set(flag::PROGRESS);
        }
        match self.notes.get(entry.place as usize) {
            None => entry.words_mut(&mut self.wide).fill(0),
            Some(note) => {
                // What is left are those noted: intersect with them, word by word.
                let words = entry.words(&self.wide).len();
                for at in 0..words {
                    let word = |set: u32| self.wide.words(set).get(at).copied().unwrap_or(0);
                    let kept = word(note.put_off) | word(note.rest);
                    entry.words_mut(&mut self.wide)[at] &= kept;
                }
            }
        }
        settled
    }

    pub(super) fn note_recipient(&mut self, index: u32, recipient: usize, kind: u8) {
        self.entries[index].set(kind);
        let note = self.note(index);
        let set = if kind == flag::PUT_OFF { note.put_off } else { note.rest };
        self.wide.add(set, recipient);
    }

    /// What attempts leave behind for a message; empty when they have left nothing so far.
    pub(super) fn note(&mut self, index: u32) -> Note {
        let entry = &mut self.entries[index];
        if entry.place == NONE {
            let mut empty = || self.wide.insert(&[]);
            let note = Note { put_off: empty(), rest: empty(), unfit: empty() };
            entry.place = u32::try_from(self.notes.insert(note)).expect("notes are named by 32 bits");
        }
        self.notes[entry.place as usize]
    }

    /// Whoever was left for a further transaction is offered by the next attempt.
    pub(super) fn forget_rest(&mut self, index: u32) {
        let entry = &mut self.entries[index];
        entry.clear(flag::REST);
        if let Some(note) = self.notes.get(entry.place as usize) {
            self.wide.words_mut(note.rest).fill(0);
        }
        if !self.entries[index].has(flag::PUT_OFF) && self.unfit(index).is_none_or(recipients::is_empty) {
            self.drop_note(index);
        }
    }

    /// Forgets what attempts noted. Only while `place` is not a place in the heap.
    pub(super) fn drop_note(&mut self, index: u32) {
        let entry = &mut self.entries[index];
        if entry.state == State::Deferred || entry.place == NONE {
            return;
        }
        let note = self.notes.remove(entry.place as usize);
        self.wide.remove(note.put_off);
        self.wide.remove(note.rest);
        self.wide.remove(note.unfit);
        entry.place = NONE;
        entry.clear(flag::OF_ATTEMPT);
    }
}
