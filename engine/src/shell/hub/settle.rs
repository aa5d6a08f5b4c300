//! Writing down what became of recipients.

use super::Hub;
use super::deliver::FEED;
use crate::hook;
use crate::io::driver::{Driver, Notify};
use crate::queue::EntryId;
use crate::spool::{Outcome, RecordId, Ticket};
use crate::track::counters::Counter;
use crate::wire::Tick;

/// An outcome that the log had no room for.
#[derive(Debug)]
pub(super) struct Unsettled {
    record: RecordId,
    recipient: u16,
    outcome: Outcome,
    /// Who waits for it to be durable.
    entries: Vec<EntryId>,
}

impl<D: Driver> Hub<D> {
    /// Writes down one outcome. It shares the next batch, which is at most `settle_wait` away.
    pub(super) fn settle(&self, record: RecordId, recipient: u16, outcome: Outcome) {
        hook!("K13");
        self.tally.one(Counter::Settles);
        match self.log.borrow_mut().settle(record, recipient, outcome) {
            Ok(ticket) => self.last_settle.set(ticket),
            Err(_) => {
                self.unsettled.borrow_mut().push_back(Unsettled { record, recipient, outcome, entries: Vec::new() });
                self.segments.raise();
            }
        }
        self.settle_is_due();
        hook!("K14");
    }

    fn settle_is_due(&self) {
        if !self.settle_due.replace(true) {
            self.settled.raise();
        }
    }

    /// Whether outcomes can be written down now; no new delivery begins while not (F-024).
    pub(super) fn can_settle(&self) -> bool {
        self.unsettled.borrow().is_empty()
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
                    self.last_settle.set(ticket);
                    self.settling.borrow_mut().extend(owed.entries.into_iter().map(|entry| (ticket, entry)));
                }
                Err(_) => {
                    self.unsettled.borrow_mut().push_front(owed);
                    return;
                }
            }
            self.settle_is_due();
        }
        // Connections that found no room for outcomes took nothing, and nobody else would tell them.
        for (_, handle) in self.links.borrow().iter().flatten() {
            handle.note(FEED);
        }
    }

    /// This entry goes on only when everything settled so far is durable (M-102).
    pub(super) fn await_settle(&self, entry: EntryId) {
        if let Some(last) = self.unsettled.borrow_mut().back_mut() {
            last.entries.push(entry);
            return;
        }
        if self.last_settle.get() <= self.durable_up_to.get() {
            return self.queues.borrow_mut().settle_is_durable(entry, self.driver.now());
        }
        self.settling.borrow_mut().push_back((self.last_settle.get(), entry));
    }

    pub(super) fn settles_are_durable(&self, up_to: Ticket, now: Tick) {
        loop {
            let due = self.settling.borrow().front().is_some_and(|(ticket, _)| *ticket <= up_to);
            let Some((_, entry)) = due.then(|| self.settling.borrow_mut().pop_front()).flatten() else { return };
            self.queues.borrow_mut().settle_is_durable(entry, now);
        }
    }
}
