//! The sending direction of a connection, in common to its user's end and to what outlives that: what is queued, how far
//! its end has come, and whom to wake.

use crate::io::base::outbox::Outbox;
use crate::io::base::signal::{Handle, Signal};
use crate::sys::slice::Slice;
use crate::wire::{Span, Tick};
use std::cell::{Cell, Ref, RefCell};
use std::io;
use std::rc::Rc;

/// How long a dropped connection waits for the peer's FIN after its own.
pub(crate) const LINGER: Span = Span::seconds(2);
/// How long a dropped connection waits for a peer that takes no octet of what is queued.
pub(crate) const SEND_STALL: Span = Span::seconds(30);

/// What a connection sends, and how it ends.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    signal: Rc<Signal>,
    outbox: RefCell<Outbox>,
    sent_at: Cell<Tick>,
    /// The connection is gone, by this.
    broken: Cell<Option<io::ErrorKind>>,
    /// FIN follows what is queued; it was sent.
    finishing: Cell<bool>,
    finished: Cell<bool>,
    flush_asked: Cell<bool>,
}

impl Outlet {
    /// What wakes the connection's task.
    pub(crate) fn handle(&self) -> Handle {
        Handle(self.signal.clone())
    }

    pub(crate) fn signal(&self) -> &Signal {
        &self.signal
    }

    /// What is queued.
    pub(crate) fn outbox(&self) -> Ref<'_, Outbox> {
        self.outbox.borrow()
    }

    pub(crate) fn unsent(&self) -> usize {
        self.outbox.borrow().unsent()
    }

    /// Why the connection is gone, if it is.
    pub(crate) fn broken(&self) -> Option<io::ErrorKind> {
        self.broken.get()
    }

    /// Whether FIN was sent.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.get()
    }

    /// Queues a copy of `bytes`, unless nothing is sent any more. Whether it did.
    pub(crate) fn put(&self, bytes: &[u8]) -> bool {
        self.takes() && {
            self.outbox.borrow_mut().put(bytes);
            true
        }
    }

    /// Queues `slice`, unless nothing is sent any more. Whether it did.
    pub(crate) fn push(&self, slice: Slice) -> bool {
        self.takes() && {
            self.outbox.borrow_mut().push(slice);
            true
        }
    }

    fn takes(&self) -> bool {
        !self.finishing.get() && self.broken.get().is_none()
    }

    /// As `Conn::set_send_room`.
    pub(crate) fn set_room(&self, bytes: usize) {
        self.outbox.borrow_mut().set_room(bytes);
    }

    /// The end of this turn is to send. Whether it was not asked to before.
    pub(crate) fn ask_flush(&self) -> bool {
        !self.flush_asked.replace(true)
    }

    /// The end of the turn has come.
    pub(crate) fn flushes(&self) {
        self.flush_asked.set(false);
    }

    /// As `Conn::sent_at`.
    pub(crate) fn sent_at(&self) -> Tick {
        self.sent_at.get()
    }

    /// So many octets were handed to the kernel at `now`; `tell_progress` says so.
    pub(crate) fn sent(&self, bytes: usize, now: Tick) {
        self.sent_at.set(now);
        self.outbox.borrow_mut().sent(bytes);
    }

    /// Wakes whoever waits for room, or until everything is sent.
    pub(crate) fn tell_progress(&self) {
        let outbox = self.outbox.borrow();
        let wake = outbox.unsent() == 0 || outbox.has_room_to_tell();
        drop(outbox);
        if wake {
            self.signal.wake();
        }
    }

    /// FIN follows what is queued.
    pub(crate) fn finish(&self) {
        self.finishing.set(true);
    }

    /// Whether FIN is to be sent now: once, when it is to follow and nothing stands before it.
    pub(crate) fn take_fin(&self) -> bool {
        let due = self.finishing.get() && self.unsent() == 0 && self.broken.get().is_none();
        due && !self.finished.replace(true)
    }

    /// The connection is gone: nothing that is queued leaves.
    pub(crate) fn fail(&self, kind: io::ErrorKind) {
        self.clear();
        self.broken.set(Some(kind));
        self.signal.wake();
    }

    /// Drops what is queued.
    pub(crate) fn clear(&self) {
        self.outbox.borrow_mut().clear();
    }

    /// Whether so much is queued that the peer is not read from.
    pub(crate) fn is_above(&self) -> bool {
        self.outbox.borrow().is_above()
    }

    /// Once after what is queued fell below the limit.
    pub(crate) fn take_room(&self) -> bool {
        self.outbox.borrow_mut().take_room()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fin_is_sent_once_and_behind_what_is_queued() {
        let outlet = Outlet::default();
        assert!(outlet.put(b"221 bye\r\n"));
        assert!(!outlet.take_fin(), "nobody wants it");
        outlet.finish();
        assert!(!outlet.put(b"more"), "FIN follows what was queued before");
        assert!(!outlet.take_fin(), "octets stand before it");
        outlet.sent(9, Tick(7));
        assert_eq!(outlet.sent_at(), Tick(7));
        assert!(outlet.take_fin() && !outlet.take_fin() && outlet.is_finished());
    }

    #[test]
    fn a_connection_that_is_gone_takes_and_sends_nothing() {
        let outlet = Outlet::default();
        outlet.put(b"250 ok\r\n");
        outlet.fail(io::ErrorKind::ConnectionReset);
        assert_eq!((outlet.unsent(), outlet.broken()), (0, Some(io::ErrorKind::ConnectionReset)));
        assert!(!outlet.put(b"250 ok\r\n"));
        outlet.finish();
        assert!(!outlet.take_fin());
    }
}
