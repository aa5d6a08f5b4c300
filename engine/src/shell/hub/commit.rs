//! The second step: one write at a time, and what follows from how it ended.

use super::{Hub, Waiting};
use crate::hook;
use crate::io::driver::{Driver, Stable};
use crate::planted;
use crate::shell::inlet::Answer;
use crate::spool::{FileId, Order, Ticket, WriteResult, Written};
use crate::sys::slice::Slice;
use crate::track::counters::Counter;
use crate::wire::{Refusal, Tick};
use std::rc::Rc;

/// The reply when a write failed and the message is cancelled for good (F-026, M-048).
const NOT_KEPT: Refusal = Refusal::fixed(451, (4, 3, 0), "The message could not be stored; try again later");

/// How long to wait for memory to write with.
const NO_MEMORY_WAIT: crate::wire::Span = crate::wire::Span::millis(5);

/// Messages whose write failed: nothing is said before it is sure that they will not be delivered.
pub(super) struct Doubt<D: Driver> {
    cancelled_by: Ticket,
    waiting: Vec<Waiting<D>>,
}

/// Writes batches as long as the shard runs. Outcomes alone do not raise the signal at once: they wait for the next
/// batch of messages, or for [`settle_timer`].
pub(super) async fn run<D: Driver>(hub: Rc<Hub<D>>) {
    loop {
        hub.commit.wait().await;
        // What arrived in this turn still joins the batch (measured: without it 1.04 to 1.13 times).
        hub.driver.yield_now().await;
        let order = hub.log.borrow_mut().seal();
        let (due, last) = (hub.settle_due.take(), hub.last_settle.get());
        let Some(order) = order else {
            if hub.log.borrow().pending() {
                // No memory to write with: make some, and come back.
                hub.settle_due.set(due);
                hub.relieve();
                hub.driver.sleep(NO_MEMORY_WAIT).await;
                hub.commit.raise();
            }
            continue;
        };
        perform(&hub, order).await;
        hub.retry_stalled();
        hub.retry_settles();
        let due = due && hub.log.borrow().pending() && hub.settled_upto.get() < last;
        if due {
            // What was written was something else: the outcomes that were due still wait.
            hub.settle_due.set(true);
        }
        if due || hub.log.borrow().is_urgent() || !hub.waiting.borrow().is_empty() {
            hub.commit.raise();
        }
        hub.segments.raise();
        hub.rewriting.written.raise();
    }
}

/// Sees to it that an outcome waits for its batch no longer than it may.
pub(super) async fn settle_timer<D: Driver>(hub: Rc<Hub<D>>) {
    loop {
        hub.settled.wait().await;
        hub.driver.sleep(hub.settings.spool.settle_wait).await;
        if hub.settle_due.get() {
            hub.commit.raise();
        }
    }
}

async fn perform<D: Driver>(hub: &Rc<Hub<D>>, order: Order) {
    let mut order = order;
    loop {
        let began = hub.driver.now();
        #[cfg(feature = "fail-points")]
        let carries = hub.log.borrow().in_flight();
        let is_apart = hub.log.borrow().is_writing_apart();
        let (parts, result) = write(hub, order).await;
        let took = hub.driver.now().since(began);
        hub.tally.add(Counter::CommitUs, took.as_micros());
        if is_apart {
            hub.rewriting_held_up(took);
        }
        let written = hub.log.borrow_mut().written(parts, result);
        match written {
            Written::Durable(ticket) => {
                hook!("K7", carries.messages);
                hook!("K15", carries.settles > 0);
                return hub.durable(ticket);
            }
            Written::Chore => return,
            Written::Rest(rest) => order = rest,
            Written::Failed(failure) => {
                hub.tally.one(Counter::CommitErrors);
                tracing::error!(file = failure.file.0, "a write to the spool failed; its segment is set aside");
                hub.distrust(failure.file);
                return hub.failed(&failure);
            }
        }
    }
}

async fn write<D: Driver>(hub: &Rc<Hub<D>>, order: Order) -> (Vec<Slice>, WriteResult) {
    let Order { file: id, at, parts, bytes, stable } = order;
    let Some(file) = hub.file(id) else {
        // Durability `none` keeps nothing: the batch is as safe as it will ever be.
        return (parts, WriteResult::Octets(usize::try_from(bytes).unwrap_or(usize::MAX)));
    };
    #[cfg(feature = "fail-points")]
    let carries = hub.log.borrow().in_flight();
    #[cfg(feature = "fail-points")]
    super::dying::in_write(hub, &file, carries, super::dying::Torn { at, parts: &parts, stable }).await;
    #[cfg(any(test, feature = "bugs"))]
    if planted!(RewrittenTail) {
        return rewrite_tail(hub, &file, at, parts).await;
    }
    let stable = if stable && !planted!(Early250) { Stable::Yes } else { Stable::No };
    let (written, parts) = hub.driver.write(&file, parts, at, stable).await;
    #[cfg(feature = "fail-points")]
    if (carries.messages || carries.settles > 0) && crate::shell::hooks::fails() {
        return (parts, WriteResult::Failed);
    }
    match written {
        Ok(octets) => (parts, WriteResult::Octets(octets)),
        Err(_) if planted!(TrustedSync) && hub.driver.sync(&file).await.is_ok() => {
            (parts, WriteResult::Octets(usize::try_from(bytes).unwrap_or(usize::MAX)))
        }
        Err(error) => {
            tracing::error!(%error, file = id.0, at, "cannot write to the spool");
            (parts, WriteResult::Failed)
        }
    }
}

/// A bug to be found: the write begins a block earlier, with what stands there already.
#[cfg(any(test, feature = "bugs"))]
async fn rewrite_tail<D: Driver>(
    hub: &Rc<Hub<D>>,
    file: &D::File,
    at: u64,
    parts: Vec<Slice>,
) -> (Vec<Slice>, WriteResult) {
    use crate::sys::slice::BLOCK_BYTES;
    let before = at.saturating_sub(BLOCK_BYTES as u64);
    let mut all = parts.clone();
    if let Some(mut tail) = hub.pool.fill(BLOCK_BYTES).filter(|_| before > 0) {
        tail.limit(BLOCK_BYTES);
        let (read, tail) = hub.driver.read(file, tail, before).await;
        if read.is_ok_and(|read| read == BLOCK_BYTES) {
            all.insert(0, { tail }.take());
        }
    }
    let extra = if all.len() > parts.len() { BLOCK_BYTES } else { 0 };
    let (written, _) = hub.driver.write(file, all, at - extra as u64, Stable::Yes).await;
    let result = written.map_or(WriteResult::Failed, |octets| WriteResult::Octets(octets.saturating_sub(extra)));
    (parts, result)
}

impl<D: Driver> Hub<D> {
    /// The open file of a segment; `None` in durability `none`.
    pub(super) fn file(&self, id: FileId) -> Option<D::File> {
        if self.settings.server.durability == crate::settings::Durability::None {
            return None;
        }
        self.files.borrow().get(&id).map(|segment| segment.file.clone())
    }

    /// Every record up to `ticket` is durable: answers, queues, and lets go on what waited for outcomes that are.
    fn durable(self: &Rc<Self>, ticket: Ticket) {
        let now = self.driver.now();
        self.tally.one(Counter::Commits);
        let settled_upto = self.log.borrow().settled_upto();
        self.settled_upto.set(settled_upto);
        self.count_durable(settled_upto);
        self.notices_are_durable(ticket);
        self.reports_are_durable(ticket);
        loop {
            let last = if planted!(WrongBatch) { Ticket(ticket.0 + 1) } else { ticket };
            let Some(waiting) = self.pop_waiting(last) else { break };
            self.accepted(&waiting, now);
        }
        self.settles_are_durable(settled_upto, now);
        self.refuse_cancelled(settled_upto);
        self.relieve();
        self.run_actions();
    }

    fn pop_waiting(&self, up_to: Ticket) -> Option<Waiting<D>> {
        let mut waiting = self.waiting.borrow_mut();
        let due = waiting.front().is_some_and(|first| first.ticket <= up_to);
        due.then(|| waiting.pop_front()).flatten()
    }

    fn accepted(&self, waiting: &Waiting<D>, now: Tick) {
        let (id, message_id) = {
            let messages = self.messages.borrow();
            let message = messages.get(waiting.message);
            self.tally.add(Counter::ContentIn, message.facts.bytes);
            (message.id, self.shows_message_ids.then(|| message.message_id()).flatten())
        };
        self.tally.one(Counter::MessagesAccepted);
        self.tally.add(Counter::AcknowledgeUs, now.since(waiting.since).as_micros());
        waiting.inlet.answer(waiting.slot, Answer::Accepted { id, message_id });
        #[cfg(feature = "fail-points")]
        if crate::shell::hooks::is_next("K9") {
            // The reply leaves first: its connection dies, before the queue knows.
            return crate::shell::hooks::arm();
        }
        hook!("K9");
        self.enqueue(waiting.message, now);
    }

    /// A batch could not be written. What was in it is refused only when its cancelling is durable.
    fn failed(&self, failure: &crate::spool::Failure) {
        let mut lost = Vec::new();
        let mut doubtful = Vec::new();
        {
            let mut all = self.waiting.borrow_mut();
            for waiting in std::mem::take(&mut *all) {
                if failure.in_doubt == Some(waiting.ticket) {
                    doubtful.push(waiting);
                } else if failure.unwritten.as_ref().is_some_and(|unwritten| unwritten.contains(&waiting.ticket.0)) {
                    lost.push(waiting);
                } else {
                    all.push_back(waiting);
                }
            }
        }
        for waiting in lost {
            self.refuse_message(&waiting, Answer::Refused(NOT_KEPT));
        }
        self.drop_doubts_of(failure);
        self.notices_failed(failure);
        self.reports_failed(failure);
        match failure.cancelled_by {
            Some(cancelled_by) => self.doubts.borrow_mut().push(Doubt { cancelled_by, waiting: doubtful }),
            None => doubtful.iter().for_each(|waiting| self.refuse_message(waiting, Answer::Silence)),
        }
        self.commit.raise();
        self.segments.raise();
    }

    /// When a batch fails that may carry cancels itself, nobody waits until they are durable after all: silence.
    fn drop_doubts_of(&self, failure: &crate::spool::Failure) {
        let unwritten = failure.unwritten.as_ref().map(|unwritten| Ticket(*unwritten.start()));
        let first = failure.in_doubt.into_iter().chain(unwritten).min();
        let is_lost = |cancelled_by: Ticket| first.is_some_and(|first| first <= cancelled_by);
        let mut doubts = self.doubts.borrow_mut();
        let silent: Vec<_> = doubts.extract_if(.., |doubt| is_lost(doubt.cancelled_by)).collect();
        drop(doubts);
        for waiting in silent.iter().flat_map(|doubt| &doubt.waiting) {
            self.refuse_message(waiting, Answer::Silence);
        }
    }

    fn refuse_cancelled(&self, settled_upto: Ticket) {
        if self.doubts.borrow().is_empty() {
            return;
        }
        let due: Vec<_> = self.doubts.borrow_mut().extract_if(.., |doubt| doubt.cancelled_by <= settled_upto).collect();
        for waiting in due.iter().flat_map(|doubt| &doubt.waiting) {
            self.tally.one(Counter::Cancels);
            self.refuse_message(waiting, Answer::Refused(NOT_KEPT));
        }
    }

    fn refuse_message(&self, waiting: &Waiting<D>, answer: Answer) {
        self.tally.one(Counter::MessagesDeferred);
        self.messages.borrow_mut().remove(waiting.message);
        waiting.inlet.answer(waiting.slot, answer);
    }
}
