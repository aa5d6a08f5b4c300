//! The descriptor that a listener keeps for the moment when there is no other (F-038).

use rustix::event::{PollFd, PollFlags, Timespec};
use std::cell::RefCell;
use std::os::fd::{BorrowedFd, OwnedFd};

/// One descriptor in reserve.
pub(crate) struct Reserve(RefCell<Option<OwnedFd>>);

impl Reserve {
    /// Takes one, if there is one.
    pub(crate) fn new() -> Self {
        Self(RefCell::new(spare()))
    }

    /// Gives the reserve up for as long as it takes to accept one waiting connection, send it `reply` and close it. Never
    /// waits.
    pub(crate) fn shed(&self, listener: BorrowedFd<'_>, reply: &[u8]) {
        drop(self.0.borrow_mut().take());
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        if readable(listener)
            && let Ok(excess) = rustix::net::accept_with(listener, flags)
        {
            // A reply that does not fit into a fresh socket's buffer is lost with it.
            let _ = rustix::io::write(&excess, reply);
        }
        *self.0.borrow_mut() = spare();
    }
}

fn spare() -> Option<OwnedFd> {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok()
}

fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    matches!(rustix::event::poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
}
