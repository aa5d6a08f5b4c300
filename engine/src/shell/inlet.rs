//! The way back to a session: verdicts find the connection that waits for them.

use crate::io::driver::{Driver, Notify};
use crate::smtp::server::Slot;
use crate::sys::slice::Slice;
use crate::wire::{Refusal, Reply};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Waker};

/// Bits of a note to a serving connection. One bit says "look"; what there is to see stands in the inlet.
pub mod bits {
    /// Verdicts wait.
    pub const ANSWERS: u32 = 1;
    /// The server goes down.
    pub const DRAIN: u32 = 2;
    /// The server ends, whatever the session is at.
    pub const LAST_CALL: u32 = 8;
    /// What was left unconsumed may be looked at again.
    pub const AGAIN: u32 = 4;
}

/// What became of a message.
#[derive(Debug)]
pub enum Answer {
    /// Responsibility is ours.
    Accepted {
        /// Names the message in the reply.
        id: u64,
        /// The value of its Message-ID field, where the reply shows it.
        message_id: Option<Slice>,
    },
    /// Another server took it, with this reply.
    Relayed(Reply),
    /// Refused.
    Refused(Refusal),
    /// For each recipient by itself, in their order, where the protocol has a reply for each (RFC 2033 §4.2): `None` is
    /// accepted. Of who has none at the end of the list neither may be said, as of [`Answer::Silence`].
    Each {
        /// Names the message in replies.
        id: u64,
        /// What became of each.
        outcomes: Vec<Option<Refusal>>,
    },
    /// Neither may be said: the connection closes without a reply (M-049).
    Silence,
}

/// One connection's box of verdicts.
pub struct Inlet<D: Driver> {
    handle: Handle<D>,
    answers: RefCell<Vec<(Slot, Answer)>>,
    /// What was noted since the session last waited for that alone.
    noted: Cell<u32>,
    waiting: RefCell<Option<Waker>>,
}

/// What wakes a connection of this driver.
pub type Handle<D> = <<D as Driver>::Conn as crate::io::driver::Conn>::Handle;

impl<D: Driver> Inlet<D> {
    /// An empty box.
    pub fn new(handle: Handle<D>) -> Self {
        Self { handle, answers: RefCell::default(), noted: Cell::new(0), waiting: RefCell::default() }
    }

    /// Puts a verdict in and wakes the session. Nobody minds when it is gone.
    pub fn answer(&self, slot: Slot, answer: Answer) {
        self.answers.borrow_mut().push((slot, answer));
        self.note(bits::ANSWERS);
    }

    /// Wakes the session for another reason.
    pub fn note(&self, bits: u32) {
        self.handle.note(bits);
        self.noted.set(self.noted.get() | bits);
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until something is noted here or `timer` ends, without touching the connection: nothing is received meanwhile
    /// that was not asked for before. The bits, which the connection reports afterwards too; `None`: the timer ended first.
    pub async fn noted(&self, timer: impl Future<Output = ()>) -> Option<u32> {
        let mut timer = pin!(timer);
        poll_fn(|context| {
            match self.noted.take() {
                0 => {}
                bits => return Poll::Ready(Some(bits)),
            }
            if timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            *self.waiting.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Exchanges the verdicts for an empty list with the same capacity.
    pub fn swap(&self, with: &mut Vec<(Slot, Answer)>) {
        std::mem::swap(&mut *self.answers.borrow_mut(), with);
    }
}
