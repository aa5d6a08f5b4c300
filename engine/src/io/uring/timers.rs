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

/// The heap is cleared of dead entries once it has more than so many, and so many times those that may live.
const STALE_MIN: usize = 1_024;
const STALE_TIMES: usize = 4;

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

    /// Adds an entry; none for an instant that never comes.
    pub fn add(&mut self, at: Tick, target: Target) {
        if at != Tick::NEVER {
            self.heap.push(Reverse((at, target)));
        }
    }

    /// Whether most entries are dead, with so many connections that may have a live one each.
    pub fn is_stale(&self, conns: usize) -> bool {
        self.heap.len() > STALE_MIN + STALE_TIMES * (self.sleepers.len() + conns)
    }

    /// Drops the dead entries. `conn_at` is the instant of a connection's live one.
    pub fn compact(&mut self, conn_at: impl Fn(u32) -> Option<Tick>) {
        let sleepers = &self.sleepers;
        self.heap.retain(|Reverse((at, target))| match target {
            Target::Conn(key) => conn_at(*key) == Some(*at),
            Target::Sleeper(key) => sleepers.get(*key as usize).is_some_and(|sleeper| sleeper.at == *at),
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_entries_do_not_pile_up() {
        let mut timers = Timers::default();
        timers.add(Tick::NEVER, Target::Conn(0));
        assert_eq!(timers.next(), Tick::NEVER);
        let live = timers.sleepers.insert(Sleeper { at: Tick(7), waker: None });
        timers.add(Tick(7), Target::Sleeper(u32::try_from(live).expect("the first")));
        // One connection moves its deadline forth again and again; one sleeper after the other is dropped.
        let most = u64::try_from(STALE_MIN + 2 * STALE_TIMES).expect("small");
        for step in 0..most {
            assert!(!timers.is_stale(1), "{step}");
            let target = if step % 2 == 1 { Target::Conn(0) } else { Target::Sleeper(9) };
            timers.add(Tick(1_000_000 - step), target);
        }
        assert!(timers.is_stale(1));
        let last = Tick(1_000_000 - (most - 1));
        timers.compact(|key| (key == 0).then_some(last));
        assert_eq!(timers.heap.len(), 2);
        assert_eq!(timers.next(), Tick(7));
        assert_eq!(timers.due(Tick(8)), None, "a sleeper is woken, not told");
        assert_eq!(timers.due(last), Some((last, 0)));
    }
}
