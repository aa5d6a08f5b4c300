//! How attempts end: from what a next hop said of a message to what is written down of it.

use super::Hub;
use super::messages::Message;
use crate::io::driver::Driver;
use crate::queue::{self, EntryId, Fate, RecipientOutcome};
use crate::spool::{ALL_RECIPIENTS, Outcome, RecordId};
use crate::track::counters::Counter;
use crate::wire::Tick;

/// A transaction of one of our messages.
pub(super) struct Attempt {
    pub entry: EntryId,
    pub message: u32,
    /// It was for all of the message's recipients, and none was answered on its own.
    pub whole: bool,
}

impl<D: Driver> Hub<D> {
    /// The recipients that an attempt is for, unless it is for all of the message's.
    pub(super) fn offered(&self, entry: EntryId, message: &Message) -> Option<Box<[u32]>> {
        if message.recipients == 1 {
            return None;
        }
        let queues = self.queues.borrow();
        let offered = queues.recipients(entry).map(|index| u32::try_from(index).unwrap_or(u32::MAX));
        let offered: Box<[u32]> = offered.collect();
        (offered.len() < usize::from(message.recipients)).then_some(offered)
    }

    /// A recipient was answered on its own.
    pub(super) fn answered(&self, entry: EntryId, message: u32, recipient: u32, outcome: RecipientOutcome) {
        self.queues.borrow_mut().recipient(entry, recipient as usize, outcome);
        let (settled, counter) = match outcome {
            RecipientOutcome::Delivered => (Outcome::Delivered, Counter::Delivered),
            RecipientOutcome::Failed => (Outcome::Failed, Counter::DsnOwed),
            RecipientOutcome::Deferred | RecipientOutcome::TooMany => return self.tally.one(Counter::Deferred),
        };
        self.tally.one(counter);
        let record = self.messages.borrow().get(message).record;
        self.settle(record, u16::try_from(recipient).unwrap_or(u16::MAX), settled);
    }

    /// An attempt ended: outcomes that are final are written down, the rest waits as the queue says.
    pub(super) fn conclude(&self, attempt: &Attempt, outcome: queue::Outcome, now: Tick) {
        match outcome {
            queue::Outcome::Delivered => self.settle_rest(attempt, Outcome::Delivered, Counter::Delivered),
            queue::Outcome::Failed => self.settle_rest(attempt, Outcome::Failed, Counter::DsnOwed),
            queue::Outcome::Unknown => self.tally.one(Counter::Unknown),
            queue::Outcome::NotAttempted | queue::Outcome::Unreadable | queue::Outcome::Elsewhere => {
                self.tally.one(Counter::NotAttempted)
            }
            queue::Outcome::Deferred | queue::Outcome::Interrupted => self.tally.one(Counter::Deferred),
        }
        let fate = self.queues.borrow_mut().finish(attempt.entry, outcome, now);
        match fate {
            Fate::Gone { content } => {
                if let Some(message) = content {
                    self.messages.borrow_mut().release(message);
                }
            }
            Fate::AwaitsSettle => self.await_settle(attempt.entry),
            Fate::Waits => {}
        }
    }

    /// The time of a message is over: whoever of its recipients is not settled has failed, durably (M-097). While outcomes
    /// cannot be written down it stays, and its turn comes again.
    pub(super) fn expire(&self, entry: EntryId, now: Tick) {
        if !self.can_settle() {
            return;
        }
        let (record, recipients) = {
            let queues = self.queues.borrow();
            let record = queues.find(entry).and_then(|taken| RecordId::from_raw(taken.record));
            (record, queues.unsettled(entry).map_or_else(Vec::new, Iterator::collect::<Vec<usize>>))
        };
        let Some(record) = record else { return };
        tracing::warn!(cause = "expired", status = "4.4.7", record = %record, recipients = recipients.len(),
            "a message was not delivered in its time and is given up");
        self.tally.add(Counter::DsnOwed, recipients.len() as u64);
        self.tally.add(Counter::Expired, recipients.len() as u64);
        for recipient in recipients {
            self.settle(record, u16::try_from(recipient).expect("recipients are numbered by 16 bits"), Outcome::Failed);
        }
        let content = self.queues.borrow_mut().expire(entry, now);
        if let Some(message) = content {
            self.messages.borrow_mut().release(message);
        }
    }

    fn settle_rest(&self, attempt: &Attempt, outcome: Outcome, counter: Counter) {
        let (record, all) = {
            let messages = self.messages.borrow();
            let message = messages.get(attempt.message);
            let whole = attempt.whole && message.whole_in_one_entry();
            self.tally.add(Counter::ContentOut, message.facts.bytes);
            (message.record, whole.then_some(message.recipients))
        };
        if let Some(count) = all {
            self.tally.add(counter, u64::from(count));
            self.settle(record, if count == 1 { 0 } else { ALL_RECIPIENTS }, outcome);
            return;
        }
        let queues = self.queues.borrow();
        for recipient in queues.recipients(attempt.entry) {
            self.tally.one(counter);
            self.settle(record, u16::try_from(recipient).expect("recipients are numbered by 16 bits"), outcome);
        }
    }
}
