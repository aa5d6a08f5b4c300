//! Writing down what became of recipients.

use super::Hub;
use super::deliver::FEED;
use crate::hook;
use crate::io::driver::{Driver, Notify};
use crate::planted;
use crate::queue::EntryId;
use crate::shell::hooks;
use crate::spool::{Outcome, RecordId, Ticket};
use crate::track::counters::Counter;
use crate::wire::Tick;
use std::collections::VecDeque;

/// An outcome that the log had no room for.
#[derive(Debug)]
pub(super) struct Unsettled {
    record: RecordId,
    recipient: u16,
    outcome: Outcome,
    /// Who waits for it to be durable.
    entries: Vec<EntryId>,
}

/// Outcomes that a kill would forget: window W1 (I-3).
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    /// How many each batch carries that is not yet durable, oldest first.
    batches: VecDeque<(Ticket, u64)>,
    count: u64,
    /// The most there were at a time.
    peak: u64,
}

impl Unsynced {
    /// One more stands in the batch of this ticket.
    fn add(&mut self, ticket: Ticket) {
        match self.batches.back_mut() {
            Some((last, count)) if *last == ticket => *count += 1,
            _ => self.batches.push_back((ticket, 1)),
        }
        self.count += 1;
        self.peak = self.peak.max(self.count);
    }

    /// Everything up to this ticket is durable; how many outcomes became it now.
    fn durable(&mut self, up_to: Ticket) -> u64 {
        let before = self.count;
        while let Some(&(ticket, count)) = self.batches.front().filter(|(ticket, _)| *ticket <= up_to) {
            debug_assert!(count > 0, "batch {ticket:?} was counted");
            self.count -= count;
            self.batches.pop_front();
        }
        before - self.count
    }
}

impl<D: Driver> Hub<D> {
    /// Outcomes not yet durable, now and at most since the start.
    pub(super) fn unsynced_settles(&self) -> (u64, u64) {
        let owed = self.unsettled.borrow().len() as u64;
        let unsynced = self.unsynced.borrow();
        (unsynced.count + owed, unsynced.peak.max(unsynced.count + owed))
    }

    /// Writes down one outcome. It shares the next batch, which is at most `settle_wait` away.
    pub(super) fn settle(&self, record: RecordId, recipient: u16, outcome: Outcome) {
        hook!("K13");
        hooks::outcome();
        if planted!(DoubleSettle) {
            let _full = self.log.borrow_mut().settle(record, recipient ^ 1, outcome);
        }
        match self.log.borrow_mut().settle(record, recipient, outcome) {
            Ok(ticket) => self.settled_in(ticket),
            Err(_) => {
                self.unsettled.borrow_mut().push_back(Unsettled { record, recipient, outcome, entries: Vec::new() });
                self.segments.raise();
            }
        }
        self.settle_is_due();
    }

    pub(super) fn settled_in(&self, ticket: Ticket) {
        // Ticket 0: everything about it was durable before; what others wait for is not.
        self.last_settle.set(self.last_settle.get().max(ticket));
        if ticket > self.settled_upto.get() {
            self.unsynced.borrow_mut().add(ticket);
        } else {
            self.tally.one(Counter::Settles);
            hooks::outcomes_durable(1);
        }
    }

    pub(super) fn settle_is_due(&self) {
        if !self.settle_due.replace(true) {
            self.settled.raise();
        }
    }

    /// As if the log had had no room for an outcome of this record.
    #[cfg(test)]
    pub(super) fn hold_back(&self, record: RecordId) {
        let owed = Unsettled { record, recipient: 0, outcome: Outcome::Delivered, entries: Vec::new() };
        self.unsettled.borrow_mut().push_back(owed);
    }

    /// Whether outcomes can be written down now; no new delivery begins while not (F-024).
    pub(super) fn can_settle(&self) -> bool {
        self.unsettled.borrow().is_empty() && !self.notices.borrow().wait()
    }

    /// Tries again what the log had no room for.
    pub(super) fn retry_settles(&self) {
        if self.can_settle() {
            return;
        }
        loop {
            let Some(owed) = self.unsettled.borrow_mut().pop_front() else { break };
            match self.log.borrow_mut().settle(owed.record, owed.recipient, owed.outcome) {
                Ok(ticket) => {
                    self.settled_in(ticket);
                    owed.entries.into_iter().for_each(|entry| self.await_last_settle(entry));
                }
                Err(_) => {
                    self.unsettled.borrow_mut().push_front(owed);
                    return;
                }
            }
            self.settle_is_due();
        }
        self.write_notices();
        if !self.can_settle() {
            return;
        }
        // Connections that found no room for outcomes took nothing, and nobody else would tell them.
        for (_, handle) in self.links.borrow().iter().flatten() {
            handle.note(FEED);
        }
        self.lend_on();
    }

    /// This entry goes on only when everything settled so far is durable (M-102).
    pub(super) fn await_settle(&self, entry: EntryId) {
        if self.notices.borrow_mut().hold(entry) {
            return;
        }
        if let Some(last) = self.unsettled.borrow_mut().back_mut() {
            last.entries.push(entry);
            return;
        }
        self.await_last_settle(entry);
    }

    pub(super) fn await_last_settle(&self, entry: EntryId) {
        let last = self.last_settle.get();
        if last <= self.settled_upto.get() {
            return self.queues.borrow_mut().settle_is_durable(entry, self.driver.now());
        }
        self.settling.borrow_mut().push_back((last, entry));
    }

    /// Outcomes up to this ticket are durable: a kill forgets them no more.
    pub(super) fn count_durable(&self, up_to: Ticket) {
        let count = self.unsynced.borrow_mut().durable(up_to);
        self.tally.add(Counter::Settles, count);
        hooks::outcomes_durable(count);
    }

    /// Those who waited for outcomes up to this ticket go on.
    pub(super) fn settles_are_durable(&self, up_to: Ticket, now: Tick) {
        loop {
            let due = self.settling.borrow().front().is_some_and(|(ticket, _)| *ticket <= up_to);
            let Some((_, entry)) = due.then(|| self.settling.borrow_mut().pop_front()).flatten() else { return };
            self.queues.borrow_mut().settle_is_durable(entry, now);
        }
    }
}
