//! What a connection has to tell: the order of events of [`Next`] as one function over what was received, what is queued
//! and what woke its task. A driver gives it a way to receive and a timer.

use crate::io::base::inbox::Inbox;
use crate::io::base::outlet::Outlet;
use crate::io::driver::{IoCounts, Next};
use crate::sys::slice::Fill;
use crate::wire::Tick;
use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll};

/// After so many events in a row without a wait, a connection lets the others run.
const STREAK_MAX: u32 = 64;

/// What a driver does for a connection that is asked for its next event.
pub(crate) trait Ways {
    /// The sending direction.
    fn outlet(&self) -> &Outlet;
    /// Receives into `into`, which is not empty: no more is asked of the kernel than fits. 0 is the peer's FIN.
    fn poll_receive(&mut self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Ready when `by` has passed.
    fn poll_deadline(&mut self, context: &mut Context<'_>, by: Tick) -> Poll<()>;
    /// Memory in common to receive into what is shown; `keep_scratch` takes it back.
    fn lend_scratch(&self) -> Vec<u8>;
    fn keep_scratch(&self, scratch: Vec<u8>);
    /// Changes the counts of the I/O layer.
    fn count(&self, change: impl FnOnce(&mut IoCounts));
}

/// One call of `Conn::next`.
struct Ask<S> {
    by: Tick,
    /// Called once at most.
    see: Option<S>,
}

/// The receiving direction of a connection, and what was told of both.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) inbox: Inbox,
    /// Events in a row.
    streak: u32,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { inbox: Inbox::new(), streak: 0 }
    }

    /// As `Conn::next`.
    pub(crate) fn next<R>(
        &mut self,
        mut ways: impl Ways,
        by: Tick,
        see: impl FnOnce(&[u8]) -> (usize, R),
    ) -> impl Future<Output = Next<R>> {
        let mut ask = Ask { by, see: Some(see) };
        poll_fn(move |context| {
            if self.streak >= STREAK_MAX {
                self.streak = 0;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let next = self.poll(context, &mut ways, &mut ask);
            self.streak = if next.is_ready() { self.streak + 1 } else { 0 };
            next
        })
    }

    /// The order of events, as it stands in the contract.
    fn poll<R, S>(&mut self, context: &mut Context<'_>, ways: &mut impl Ways, ask: &mut Ask<S>) -> Poll<Next<R>>
    where
        S: FnOnce(&[u8]) -> (usize, R),
    {
        ways.outlet().signal().register(context.waker());
        let notes = ways.outlet().signal().take_notes();
        if notes != 0 {
            self.inbox.renew();
            return Poll::Ready(Next::Note(notes));
        }
        if !ways.outlet().is_above()
            && let Some(next) = self.poll_receive(context, ways, ask)
        {
            return Poll::Ready(next);
        }
        if ways.outlet().take_room() {
            return Poll::Ready(Next::Room);
        }
        if let Some(kind) = ways.outlet().broken() {
            self.inbox.break_off(kind);
        }
        match self.inbox.tell_end() {
            Some(Ok(())) => return Poll::Ready(Next::End),
            Some(Err(kind)) => return Poll::Ready(Next::Broken(kind)),
            None => {}
        }
        ways.poll_deadline(context, ask.by).map(|()| Next::Deadline)
    }

    fn poll_receive<R, S>(
        &mut self,
        context: &mut Context<'_>,
        ways: &mut impl Ways,
        ask: &mut Ask<S>,
    ) -> Option<Next<R>>
    where
        S: FnOnce(&[u8]) -> (usize, R),
    {
        if let Some((fill, moved)) = self.inbox.take_aim() {
            return self.poll_aimed(context, ways, fill, moved);
        }
        let room = self.inbox.room();
        if room > 0 {
            let mut scratch = ways.lend_scratch();
            let most = room.min(scratch.len());
            let shown = self.poll_shown(context, ways, &mut scratch[..most], ask);
            ways.keep_scratch(scratch);
            if shown.is_some() {
                return shown;
            }
        }
        if self.inbox.is_fresh() {
            let see = ask.see.take().expect("see is called once");
            return Some(Next::Bytes(self.inbox.show(see)));
        }
        None
    }

    fn poll_aimed<R>(
        &mut self,
        context: &mut Context<'_>,
        ways: &mut impl Ways,
        mut fill: Fill,
        moved: usize,
    ) -> Option<Next<R>> {
        let mut added = moved;
        if fill.room() > 0 && self.inbox.is_open() {
            let received = self.receive(context, ways, fill.spare());
            fill.advance(received);
            added += received;
        }
        ways.count(|counts| counts.copied_bytes += moved as u64);
        if added == 0 {
            self.inbox.keep_aim(fill);
            return None;
        }
        // What the chunk had no room for is shown next, although it may have been seen before the aim.
        self.inbox.renew();
        Some(Next::Filled(fill, added))
    }

    /// Receives into `scratch`; shows it at once if nothing stands before it.
    fn poll_shown<R, S>(
        &mut self,
        context: &mut Context<'_>,
        ways: &mut impl Ways,
        scratch: &mut [u8],
        ask: &mut Ask<S>,
    ) -> Option<Next<R>>
    where
        S: FnOnce(&[u8]) -> (usize, R),
    {
        let received = self.receive(context, ways, scratch);
        let bytes = &scratch[..received];
        if bytes.is_empty() {
            return None;
        }
        if self.inbox.unread().is_empty() {
            let see = ask.see.take().expect("see is called once");
            let (answer, kept) = self.inbox.show_directly(bytes, see);
            ways.count(|counts| counts.copied_bytes += kept as u64);
            return Some(Next::Bytes(answer));
        }
        self.inbox.append(bytes);
        ways.count(|counts| counts.copied_bytes += received as u64);
        None
    }

    /// Octets received into `into`; 0 when there are none now. The end of the stream goes to the inbox.
    fn receive(&mut self, context: &mut Context<'_>, ways: &mut impl Ways, into: &mut [u8]) -> usize {
        match ways.poll_receive(context, into) {
            Poll::Pending => return 0,
            Poll::Ready(Ok(0)) => self.inbox.finish(),
            Poll::Ready(Err(error)) => self.inbox.break_off(error.kind()),
            Poll::Ready(Ok(received)) => {
                ways.count(|counts| counts.received_bytes += received as u64);
                return received;
            }
        }
        0
    }
}
