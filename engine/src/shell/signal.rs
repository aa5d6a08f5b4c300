//! Waking one task of the same shard: a flag and a waker. Raising a raised signal costs a store.

use crate::io::driver::Driver;
use crate::wire::Tick;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Raised by anybody, taken by the one task that waits for it.
#[derive(Debug, Default)]
pub struct Signal {
    raised: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    /// Wakes the task that waits, now or when it comes to wait.
    pub fn raise(&self) {
        #[cfg(any(test, feature = "bugs"))]
        if crate::planted!(LostWakeUp) && crate::sys::planted::is_lost() {
            self.raised.set(true);
            return;
        }
        if !self.raised.replace(true)
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Completes when the signal was raised since the last time.
    pub async fn wait(&self) {
        std::future::poll_fn(|context| self.poll(context)).await;
    }

    /// What `work` comes to; `None`, with `work` dropped, when the signal is raised before.
    pub async fn unless_raised<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|context| match self.poll(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => work.as_mut().poll(context).map(Some),
        })
        .await
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.raised.replace(false) {
            return Poll::Ready(());
        }
        *self.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

/// A signal with a time-out that may move: later for nothing, earlier for one timer.
pub struct Alarm<D: Driver> {
    driver: D,
    armed: Tick,
    sleep: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<D: Driver> Alarm<D> {
    /// An alarm that is not set.
    pub fn new(driver: D) -> Self {
        Self { driver, armed: Tick::NEVER, sleep: None }
    }

    /// Completes when `signal` is raised, or at `at` or soon after; whether it was the time.
    pub async fn wait(&mut self, signal: &Signal, at: Tick) -> bool {
        std::future::poll_fn(|context| {
            if signal.poll(context).is_ready() {
                return Poll::Ready(false);
            }
            loop {
                if self.driver.now() >= at {
                    return Poll::Ready(true);
                }
                if self.sleep.is_none() || at < self.armed {
                    if at == Tick::NEVER {
                        return Poll::Pending;
                    }
                    let driver = self.driver.clone();
                    self.sleep = Some(Box::pin(async move { driver.sleep_until(at).await }));
                    self.armed = at;
                }
                let sleep = self.sleep.as_mut().expect("set above");
                if sleep.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.sleep = None;
                self.armed = Tick::NEVER;
            }
        })
        .await
    }
}
