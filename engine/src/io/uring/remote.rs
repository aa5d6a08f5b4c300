//! Waking a shard's thread from others: a flag, and an event counter that is raised only when the thread sleeps.

use super::reactor::Reactor;
use crate::io::driver::Remote;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::Poll;

struct Shared {
    /// Somebody called `wake` since the thread last looked.
    pending: AtomicBool,
    /// The thread is in the kernel, or about to be, and looks at `pending` only when the counter is raised.
    asleep: AtomicBool,
    counter: OwnedFd,
}

/// Wakes one reactor.
#[derive(Clone)]
pub struct UringRemote(Arc<Shared>);

impl Remote for UringRemote {
    fn wake(&self) {
        self.0.pending.store(true, Ordering::Release);
        // Either this thread sees `asleep`, or the sleeper sees `pending`: both write first and then read.
        fence(Ordering::SeqCst);
        if self.0.asleep.load(Ordering::Relaxed) && self.0.asleep.swap(false, Ordering::AcqRel) {
            // The counter cannot overflow: it is raised once per sleep. Nothing else can fail.
            let _ = rustix::io::write(&self.0.counter, &1u64.to_ne_bytes());
        }
    }
}

impl UringRemote {
    /// A fresh flag and counter, and the counter's descriptor for the ring.
    pub fn new() -> io::Result<(Self, Rc<OwnedFd>)> {
        let counter = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
        let for_ring = Rc::new(counter.try_clone()?);
        let shared = Shared { pending: AtomicBool::new(false), asleep: AtomicBool::new(false), counter };
        Ok((Self(Arc::new(shared)), for_ring))
    }

    /// Announces sleep. `false`: somebody woke this thread already, do not sleep.
    pub fn fall_asleep(&self) -> bool {
        self.0.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.0.pending.load(Ordering::Relaxed) {
            self.rouse();
            return false;
        }
        true
    }

    /// The thread is awake.
    pub fn rouse(&self) {
        self.0.asleep.store(false, Ordering::Relaxed);
    }

    /// Whether `wake` was called and not yet taken.
    pub fn is_pending(&self) -> bool {
        self.0.pending.load(Ordering::Relaxed)
    }

    /// Whether `wake` was called since the last time.
    pub fn take(&self) -> bool {
        self.0.pending.load(Ordering::Relaxed) && self.0.pending.swap(false, Ordering::AcqRel)
    }
}

/// Completes when the reactor was woken from another thread.
pub async fn woken(reactor: Rc<Reactor>) {
    std::future::poll_fn(|context| {
        if reactor.remote.take() {
            return Poll::Ready(());
        }
        *reactor.woken.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    })
    .await;
}
