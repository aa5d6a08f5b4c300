//! What a connection's task is woken by, from its own shard.

use crate::io::driver::Notify;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

/// What wakes a connection's task: notes for its user, and the driver's own reasons.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    notes: Cell<u32>,
    gone: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    /// Makes `waker` the one to wake.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        match slot.as_mut() {
            Some(known) => known.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    pub(crate) fn wake(&self) {
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The bits noted since the last call; 0 for none.
    pub(crate) fn take_notes(&self) -> u32 {
        self.notes.take()
    }

    /// The connection's user is gone: notes mean nothing any more, and nobody is there to be woken.
    pub(crate) fn close(&self) {
        self.gone.set(true);
        self.waker.take();
    }
}

/// Wakes a connection's task on its own shard.
#[derive(Debug, Clone)]
pub struct Handle(pub(crate) Rc<Signal>);

impl Notify for Handle {
    fn note(&self, bits: u32) {
        if bits != 0 && !self.0.gone.get() {
            self.0.notes.set(self.0.notes.get() | bits);
            self.0.wake();
        }
    }
}
