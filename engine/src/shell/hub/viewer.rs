//! What an operator sees of single messages and does with them.

use super::Hub;
use super::failures::{Failures, Why};
use super::notice::numbers;
use crate::io::driver::Driver;
use crate::queue::{Doing, EntryId, Removal};
use crate::spool::{Outcome, RecordId};
use crate::track::counters::Counter;
use crate::track::report::{MessagePage, MessageReport, MessageStatus, Removed};
use crate::wire::Span;
use std::rc::Rc;

/// How long a removal may wait for the disk before the operator hears that it is not certain.
const DURABLE_WAIT: Span = Span::seconds(5);
/// Between two looks at whether it is durable.
const LOOK_WAIT: Span = Span::millis(1);

impl<D: Driver> Hub<D> {
    /// The messages of one page of the queues.
    pub fn page(&self, page: u32) -> MessagePage {
        let now = self.driver.now();
        let queues = self.queues.borrow();
        let mut shown = MessagePage { pages: queues.pages(), ..MessagePage::default() };
        for listed in queues.page(page, now) {
            let queue = queues.hop(listed.hop).key.to_string();
            let place = shown.queues.iter().position(|known| *known == queue).unwrap_or_else(|| {
                shown.queues.push(queue);
                shown.queues.len() - 1
            });
            shown.messages.push(MessageReport {
                entry: listed.id.parts(),
                record: listed.record,
                queue: place,
                status: match listed.doing {
                    Doing::Ready => MessageStatus::Ready,
                    Doing::Active => MessageStatus::Active,
                    Doing::Retry => MessageStatus::Retry,
                    Doing::PendingRemove => MessageStatus::PendingRemove,
                },
                bytes: listed.bytes.into(),
                attempts: listed.attempts.into(),
                retry_ms: listed.retry_at.map(|at| at.since(now).as_millis()),
                age_ms: listed.age.as_millis(),
                left_ms: listed.left.as_millis(),
                recipients: numbers(listed.recipients),
            });
        }
        shown
    }

    /// Takes these messages out of their queues, and waits until that is on disk; what came of each. Their senders are told
    /// where `tells` says so.
    pub async fn take_out_all(self: &Rc<Self>, entries: &[(u32, u32)], tells: bool) -> Vec<Removed> {
        let mut removed: Vec<Removed> =
            entries.iter().map(|&parts| self.remove_one(EntryId::from_parts(parts), tells)).collect();
        self.run_actions();
        if !self.is_written_down().await {
            removed.iter_mut().filter(|done| **done == Removed::Done).for_each(|done| *done = Removed::Unsure);
        }
        removed
    }

    fn remove_one(self: &Rc<Self>, entry: EntryId, tells: bool) -> Removed {
        let removal = self.queues.borrow_mut().condemn(entry, tells);
        match removal {
            Removal::Gone => Removed::Gone,
            Removal::Pending => {
                // What was lent and lies untaken comes home, and goes, before anything else can happen.
                self.run_actions();
                if self.queues.borrow().find(entry).is_none() { Removed::Done } else { Removed::Pending }
            }
            Removal::Now if self.take_out(entry, tells) => Removed::Done,
            Removal::Now => Removed::Refused,
        }
    }

    /// Takes out a message that waits; `false`, and it stays, while outcomes cannot be written down.
    pub(super) fn take_out(&self, entry: EntryId, tells: bool) -> bool {
        if !self.can_settle() {
            return false;
        }
        let (taken, recipients) = {
            let queues = self.queues.borrow();
            (queues.find(entry), queues.unsettled(entry).map_or_else(Vec::new, numbers))
        };
        let Some(taken) = taken else { return true };
        let Some(record) = RecordId::from_raw(taken.record) else { return false };
        let count = recipients.len() as u64;
        if tells {
            if !self.fail_later(record, taken.content, Failures::of(recipients, Why::deleted())) {
                return false;
            }
        } else {
            recipients.into_iter().for_each(|recipient| self.settle(record, recipient, Outcome::Removed));
        }
        tracing::warn!(cause = "operator", record = %record, recipients = count, tells, "a message was taken out of its queue");
        self.tally.add(Counter::Removed, count);
        let content = self.queues.borrow_mut().removed(entry, self.driver.now());
        if let Some(message) = content {
            self.messages.borrow_mut().release(message);
        }
        true
    }

    /// Waits until all that became of messages so far is durable, for a while; whether it is.
    async fn is_written_down(&self) -> bool {
        let by = self.driver.now() + DURABLE_WAIT;
        let mut last = None;
        loop {
            if last.is_none() && self.can_settle() && !self.notices.borrow().are_unread() {
                last = Some(self.last_settle.get());
            }
            if last.is_some_and(|last| last <= self.settled_upto.get()) {
                return true;
            }
            if self.driver.now() >= by {
                return false;
            }
            self.driver.sleep(LOOK_WAIT).await;
        }
    }
}
