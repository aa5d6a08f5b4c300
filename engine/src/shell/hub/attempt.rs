//! How attempts end: from what a next hop said of a message to what is written down of it.

use super::Hub;
use super::failures::{Failures, Why};
use super::messages::Message;
use super::notice::numbers;
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
    /// Who was refused for good on his own.
    pub failures: Failures,
    /// Why the others failed, if they did.
    pub why: Option<Why>,
}

/// A recipient that was answered on its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    pub recipient: u32,
    pub outcome: RecipientOutcome,
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

    /// A recipient was answered on its own. Who failed is written down when the attempt ends, with all others who did.
    pub(super) fn answered(&self, entry: EntryId, message: u32, answer: Answered) {
        let Answered { recipient, outcome } = answer;
        self.queues.borrow_mut().recipient(entry, recipient as usize, outcome);
        match outcome {
            RecipientOutcome::Delivered => {
                self.tally.one(Counter::Delivered);
                let record = self.messages.borrow().get(message).record;
                let number = u16::try_from(recipient).unwrap_or(u16::MAX);
                self.settle(record, number, Outcome::Delivered);
            }
            RecipientOutcome::Failed => {}
            RecipientOutcome::Deferred | RecipientOutcome::TooMany => self.tally.one(Counter::Deferred),
        }
    }

    /// An attempt ended: outcomes that are final are written down, the rest waits as the queue says.
    pub(super) fn conclude(&self, mut attempt: Attempt, outcome: queue::Outcome, now: Tick) {
        match outcome {
            queue::Outcome::Delivered => self.deliver_rest(&attempt),
            queue::Outcome::Failed => self.fail_rest(&mut attempt),
            queue::Outcome::Unknown => self.tally.one(Counter::Unknown),
            queue::Outcome::NotAttempted | queue::Outcome::Unreadable | queue::Outcome::Elsewhere => {
                self.tally.one(Counter::NotAttempted)
            }
            queue::Outcome::Deferred | queue::Outcome::Interrupted => self.tally.one(Counter::Deferred),
        }
        self.fail(attempt.message, attempt.failures);
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
        let (taken, failed) = {
            let queues = self.queues.borrow();
            (queues.find(entry), queues.unsettled(entry).map_or_else(Vec::new, numbers))
        };
        let Some(taken) = taken else { return };
        let Some(record) = RecordId::from_raw(taken.record) else { return };
        let count = failed.len() as u64;
        if !self.fail_later(record, taken.content, Failures::of(failed, Why::expired())) {
            return;
        }
        tracing::warn!(cause = "expired", status = "4.4.7", record = %record, recipients = count,
            "a message was not delivered in its time and is given up");
        self.tally.add(Counter::Expired, count);
        let content = self.queues.borrow_mut().expire(entry, now);
        if let Some(message) = content {
            self.messages.borrow_mut().release(message);
        }
    }

    /// Whoever was not answered on his own was delivered to.
    fn deliver_rest(&self, attempt: &Attempt) {
        let (record, all) = {
            let messages = self.messages.borrow();
            let message = messages.get(attempt.message);
            let whole = attempt.whole && message.whole_in_one_entry();
            self.tally.add(Counter::ContentOut, message.facts.bytes);
            (message.record, whole.then_some(message.recipients))
        };
        if let Some(count) = all {
            self.tally.add(Counter::Delivered, u64::from(count));
            self.settle(record, if count == 1 { 0 } else { ALL_RECIPIENTS }, Outcome::Delivered);
            return;
        }
        for recipient in self.queues.borrow().recipients(attempt.entry) {
            self.tally.one(Counter::Delivered);
            let recipient = u16::try_from(recipient).expect("recipients are numbered by 16 bits");
            self.settle(record, recipient, Outcome::Delivered);
        }
    }

    /// Whoever was not answered on his own has failed.
    fn fail_rest(&self, attempt: &mut Attempt) {
        let failed = numbers(self.queues.borrow().recipients(attempt.entry));
        attempt.failures.add_all(failed, attempt.why.take().unwrap_or_else(Why::unknown));
    }
}
