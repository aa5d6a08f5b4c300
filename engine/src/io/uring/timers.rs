//! Timers: a heap of instants, each naming a connection or a sleeper.
//!
//! A connection has at most one live entry, at or before its deadline: moving a deadline later costs nothing, and the
//! entry finds out when it fires. Entries that were overtaken are recognised by their instant and dropped.

use super::reactor::Reactor;
use crate::wire::Tick;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Whom an entry wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The connection with this key.
    Conn(u32),
    /// The sleeper with this key.
    Sleeper(u32),
}

struct Sleeper {
    at: Tick,
    waker: Option<Waker>,
}

/// The heap and the sleepers.
#[derive(Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Tick, Target)>>,
    sleepers: Slab<Sleeper>,
}

impl Timers {
    /// The earliest entry's instant; live or not.
    pub fn next(&self) -> Tick {
        self.heap.peek().map_or(Tick::NEVER, |Reverse((at, _))| *at)
    }

    /// Adds an entry.
    pub fn add(&mut self, at: Tick, target: Target) {
        self.heap.push(Reverse((at, target)));
    }

    /// Takes an entry that is due. A sleeper is woken here; a connection is the caller's to look at.
    pub fn due(&mut self, now: Tick) -> Option<(Tick, u32)> {
        while self.next() <= now {
            let Reverse((at, target)) = self.heap.pop()?;
            match target {
                Target::Conn(key) => return Some((at, key)),
                Target::Sleeper(key) => {
                    if let Some(sleeper) = self.sleepers.get_mut(key as usize)
                        && sleeper.at == at
                        && let Some(waker) = sleeper.waker.take()
                    {
                        waker.wake();
                    }
                }
            }
        }
        None
    }
}

struct Sleep {
    reactor: Rc<Reactor>,
    key: usize,
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.reactor.timers.borrow_mut().sleepers.remove(self.key);
    }
}

/// Completes at `at` or soon after.
pub async fn sleep_until(reactor: Rc<Reactor>, at: Tick) {
    let key = {
        let mut timers = reactor.timers.borrow_mut();
        let key = timers.sleepers.insert(Sleeper { at, waker: None });
        timers.add(at, Target::Sleeper(u32::try_from(key).expect("fewer than 2^32 sleepers")));
        key
    };
    let sleep = Sleep { reactor, key };
    std::future::poll_fn(|context| {
        if sleep.reactor.now() >= at {
            return Poll::Ready(());
        }
        let mut timers = sleep.reactor.timers.borrow_mut();
        timers.sleepers[sleep.key].waker = Some(context.waker().clone());
        Poll::Pending
    })
    .await;
}
