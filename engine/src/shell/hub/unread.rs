//! Messages of an earlier run that the disk does not give back when they are to be queued. Nobody knows to whom they go; they
//! wait here by name, are shown as a queue of their own, and are read again by the ladder of queues until each is queued or
//! not there any more (F-028, I-8).

use super::Hub;
use super::load::LoadError;
use crate::io::driver::Driver;
use crate::queue::Ladder;
use crate::shell::signal::Signal;
use crate::spool::RecordId;
use crate::track::counters::Counter;
use crate::track::report::{QueueReport, QueueStatus};
use crate::wire::Tick;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// Records read between two looks at everything else.
const RECORDS_PER_TURN: usize = 256;

/// What is to be read again: eight octets a message, at most as many as there were at the start.
pub(super) struct Unread {
    records: RefCell<VecDeque<RecordId>>,
    ladder: Ladder,
    /// Rounds behind which some were left, in a row.
    rounds: Cell<u16>,
    last: Cell<Option<Tick>>,
    next: Cell<Option<Tick>>,
    error: RefCell<String>,
    came: Signal,
}

impl Unread {
    /// Nothing; rounds will follow each other by this ladder.
    pub fn new(ladder: Ladder) -> Self {
        Self {
            records: RefCell::default(),
            ladder,
            rounds: Cell::new(0),
            last: Cell::new(None),
            next: Cell::new(None),
            error: RefCell::default(),
            came: Signal::default(),
        }
    }

    /// Messages that wait.
    pub fn count(&self) -> usize {
        self.records.borrow().len()
    }

    /// One more.
    pub fn add(&self, id: RecordId) {
        self.records.borrow_mut().push_back(id);
        self.came.raise();
    }

    /// As a queue; `None` while it is empty.
    pub fn report(&self, now: Tick) -> Option<QueueReport> {
        (self.count() > 0).then(|| QueueReport {
            next_hop: "Unreadable".to_owned(),
            delivery_type: "Undefined".to_owned(),
            status: QueueStatus::Retry,
            deferred: self.count() as u64,
            last_error: Some(self.error.borrow().clone()),
            next_retry_ms: self.next.get().map(|at| at.since(now).as_millis()),
            last_retry_ms: self.last.get().map(|at| now.since(at).as_millis()),
            retry_count: u64::from(self.rounds.get()),
            ..QueueReport::default()
        })
    }

    /// The first was read again: it goes, or it comes back behind the others.
    fn turn(&self, stays: bool) {
        let mut records = self.records.borrow_mut();
        let first = records.pop_front();
        records.extend(first.filter(|_| stays));
    }
}

/// Reads again what waits for it, as long as the shard runs.
pub(super) async fn run<D: Driver>(hub: Rc<Hub<D>>) {
    loop {
        hub.unread.came.wait().await;
        hub.unread.rounds.set(0);
        while hub.unread.count() > 0 {
            let rounds = hub.unread.rounds.get().saturating_add(1);
            let next = hub.driver.now() + hub.unread.ladder.wait(rounds);
            hub.unread.next.set(Some(next));
            hub.driver.sleep_until(next).await;
            hub.read_again().await;
            hub.unread.rounds.set(rounds);
            hub.unread.last.set(Some(next));
        }
    }
}

impl<D: Driver> Hub<D> {
    /// Queues a record whose envelope has to be read; when that fails, it is read again later.
    pub(super) async fn queue_unread(self: &Rc<Self>, id: RecordId) {
        if self.read_and_queue(id).await.is_err() {
            tracing::error!(cause = "spool", record = %id, "a message that an earlier run left cannot be read: it is tried again");
            self.unread.add(id);
        }
    }

    async fn read_again(self: &Rc<Self>) {
        for done in 1..=self.unread.count() {
            let first = self.unread.records.borrow().front().copied();
            let Some(id) = first else { break };
            let read = self.read_and_queue(id).await;
            self.unread.turn(read.is_err());
            if done.is_multiple_of(RECORDS_PER_TURN) {
                self.run_actions();
                self.driver.yield_now().await;
            }
        }
        self.run_actions();
        if self.unread.count() > 0 {
            tracing::error!(cause = "spool", messages = self.unread.count(), "messages still cannot be read");
        }
    }

    async fn read_and_queue(self: &Rc<Self>, id: RecordId) -> Result<(), LoadError> {
        let queued = match self.read_record(id).await {
            Ok(read) => self.enqueue_read(id, &read).ok_or(read.damaged()),
            // Settled meanwhile.
            Err(LoadError::Gone) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = &queued {
            self.tally.one(Counter::Unreadable);
            *self.unread.error.borrow_mut() = error.to_string();
        }
        queued
    }
}
