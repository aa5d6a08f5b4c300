//! Small pieces for single-threaded async code over a driver.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};

/// Wakes everybody who waits at it. Opening it while nobody waits does nothing: who waits looks at the state first.
#[derive(Debug, Default)]
pub struct Gate {
    opened: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Gate {
    /// Wakes all.
    pub fn open(&self) {
        self.opened.set(self.opened.get() + 1);
        for waker in self.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }

    /// Completes when it is opened after this was called.
    pub fn opened(&self) -> impl Future<Output = ()> + '_ {
        let before = self.opened.get();
        poll_fn(move |context| {
            if self.opened.get() != before {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// What came first of two.
#[derive(Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first.
    First(A),
    /// The second.
    Second(B),
}

impl<A, B> Either<A, B> {
    /// The first, if it was that.
    pub fn ok(self) -> Option<A> {
        match self {
            Either::First(first) => Some(first),
            Either::Second(_) => None,
        }
    }
}

/// Waits for one of two futures; the first has precedence. The other is dropped.
pub async fn either<A: Future, B: Future>(first: A, second: B) -> Either<A::Output, B::Output> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(move |context| {
        if let Poll::Ready(done) = first.as_mut().poll(context) {
            return Poll::Ready(Either::First(done));
        }
        second.as_mut().poll(context).map(Either::Second)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Context;

    #[test]
    fn a_gate_lets_through_who_waited_before_it_opened() {
        let gate = Gate::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut early = pin!(gate.opened());
        assert!(early.as_mut().poll(&mut context).is_pending());
        gate.open();
        let mut late = pin!(gate.opened());
        assert!(early.as_mut().poll(&mut context).is_ready());
        assert!(late.as_mut().poll(&mut context).is_pending());
    }

    #[test]
    fn the_first_of_two_that_are_ready_wins() {
        let mut context = Context::from_waker(Waker::noop());
        let ready = pin!(either(async { 1 }, async { 2 })).poll(&mut context);
        assert_eq!(ready, Poll::Ready(Either::First(1)));
        let second = pin!(either(std::future::pending::<()>(), async { 2 })).poll(&mut context);
        assert_eq!(second, Poll::Ready(Either::Second(2)));
    }
}
