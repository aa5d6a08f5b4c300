//! The desk: the only way by which a shard and the control plane speak. Two bounded queues for each shard, one in each
//! direction; neither side ever waits for the other.
//!
//! A shard calls [`ShardDesk::wake_by`] once, then [`ShardDesk::take`] whenever it is woken, and answers by
//! [`ShardDesk::tell`]. What is told while the control plane is stuck and the queue is full comes back to the shard, which
//! drops it or keeps it: mail goes on (ARCHITECTURE.md, "Control plane").

use super::counters::Tally;
use super::report::{MessagePage, Removed, ShardReport};
use crate::wire::Span;
use crossbeam::queue::ArrayQueue;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Orders that a shard may leave lying.
pub const ORDERS_MAX: usize = 16;
/// Notices that the control plane may leave lying, for each shard.
pub const NOTICES_MAX: usize = 64;

/// What the control plane asks of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Answer with [`Notice::Report`] and this number.
    Report(u64),
    /// A new snapshot of the routes was published.
    Routes,
    /// The queue of this name, if it is in Retry, is tried at once.
    Retry(Arc<str>),
    /// Answer with [`Notice::Page`], this number, and the messages of this page.
    Page(u64, u32),
    /// Take these messages out, tell their senders or not, and answer with [`Notice::Removed`] and this number.
    Remove(u64, Arc<[(u32, u32)]>, bool),
    /// Take no new connections, finish what is under way, end with [`Notice::Stopped`] within this time.
    Drain(Span),
}

/// What a shard tells the control plane.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// It serves. Said once.
    Ready(Ready),
    /// How it stands, with the number of the order.
    Report(u64, Box<ShardReport>),
    /// Messages, with the number of the order.
    Page(u64, Box<MessagePage>),
    /// What came of each message that was to be taken out, with the number of the order.
    Removed(u64, Vec<Removed>),
    /// It cannot begin, and why, in one line with the remedy. Said instead of `Ready`.
    Failed(Failure),
    /// It has stopped; so many messages stay on disk.
    Stopped {
        /// Messages that wait for the next start.
        left: u64,
    },
}

/// A shard that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The addresses it listens on, in the order of the settings' listeners.
    pub listen: Vec<SocketAddr>,
    /// How it commits: `direct` or `buffered`; `None` for servers that keep nothing.
    pub commit: Option<&'static str>,
}

/// Why a shard cannot begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whether the user can mend it: exit 2, else 4.
    pub usage: bool,
    /// What, where, and what to do.
    pub text: String,
}

/// What both sides of one shard's desk hold.
struct Desk {
    orders: ArrayQueue<Order>,
    notices: ArrayQueue<Notice>,
    wake_shard: OnceLock<Box<dyn Fn() + Send + Sync>>,
    wake_control: Arc<dyn Fn() + Send + Sync>,
}

/// A shard's side.
#[derive(Clone)]
pub struct ShardDesk(Arc<Desk>);

/// The control plane's side.
#[derive(Clone)]
pub struct ControlDesk(Arc<Desk>);

/// Everything by which one shard touches the control plane.
#[derive(Debug)]
pub struct ShardLink {
    /// Its counters.
    pub tally: Tally,
    /// Its side of its desk.
    pub desk: ShardDesk,
}

/// The links of all shards, for whoever starts their threads: each shard takes its own, once.
#[derive(Debug, Clone)]
pub struct Links(Arc<Mutex<Vec<Option<ShardLink>>>>);

impl Links {
    /// Links in the order of the shards.
    pub fn new(links: Vec<ShardLink>) -> Links {
        Links(Arc::new(Mutex::new(links.into_iter().map(Some).collect())))
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The link of shard number `shard`; `None` when there is no such shard or its link was taken.
    pub fn take(&self, shard: usize) -> Option<ShardLink> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(shard)?.take()
    }
}

/// Both sides of a new desk. `wake_control` is called, from the shard's thread, after something was told; it must not wait.
pub fn desk(wake_control: Arc<dyn Fn() + Send + Sync>) -> (ShardDesk, ControlDesk) {
    let desk = Arc::new(Desk {
        orders: ArrayQueue::new(ORDERS_MAX),
        notices: ArrayQueue::new(NOTICES_MAX),
        wake_shard: OnceLock::new(),
        wake_control,
    });
    (ShardDesk(desk.clone()), ControlDesk(desk))
}

impl ShardDesk {
    /// From now on the control plane calls `wake`, from its own thread, after it left an order: `Remote::wake`. Orders left
    /// before are there to take.
    pub fn wake_by(&self, wake: impl Fn() + Send + Sync + 'static) {
        let wake: Box<dyn Fn() + Send + Sync> = Box::new(wake);
        assert!(self.0.wake_shard.set(wake).is_ok(), "a desk belongs to one shard");
        // An order that came before had nobody to announce it. The fence pairs with that of `order`: either the waker is
        // seen there, or the order is seen here.
        fence(Ordering::SeqCst);
        if !self.0.orders.is_empty() {
            self.0.wake();
        }
    }

    /// The oldest order not yet taken.
    pub fn take(&self) -> Option<Order> {
        self.0.orders.pop()
    }

    /// Tells the control plane.
    ///
    /// # Errors
    /// Gives `notice` back when too many lie there unread.
    pub fn tell(&self, notice: Notice) -> Result<(), Notice> {
        self.0.notices.push(notice)?;
        (self.0.wake_control)();
        Ok(())
    }
}

impl ControlDesk {
    /// Leaves an order.
    ///
    /// # Errors
    /// Gives `order` back when the shard has left too many lying: it is stuck.
    pub fn order(&self, order: Order) -> Result<(), Order> {
        self.0.orders.push(order)?;
        fence(Ordering::SeqCst);
        self.0.wake();
        Ok(())
    }

    /// The oldest notice not yet taken.
    pub fn take(&self) -> Option<Notice> {
        self.0.notices.pop()
    }
}

impl Desk {
    fn wake(&self) {
        if let Some(wake) = self.wake_shard.get() {
            wake();
        }
    }
}

impl fmt::Debug for ShardDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardDesk").field("orders", &self.0.orders.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ControlDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlDesk").field("notices", &self.0.notices.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn counter() -> (Arc<AtomicUsize>, Arc<dyn Fn() + Send + Sync>) {
        let count = Arc::new(AtomicUsize::new(0));
        let wake = count.clone();
        let wake = move || {
            wake.fetch_add(1, Ordering::Relaxed);
        };
        (count, Arc::new(wake))
    }

    #[test]
    fn orders_and_notices_cross_in_their_order_and_wake_the_other_side() {
        let (woken, wake) = counter();
        let (shard, control) = desk(wake);
        assert_eq!(control.order(Order::Routes), Ok(()), "before the shard is there");
        let (shard_woken, wake_shard) = counter();
        shard.wake_by(move || wake_shard());
        assert_eq!(shard_woken.load(Ordering::Relaxed), 1, "for the order that lay there");
        assert_eq!(control.order(Order::Report(7)), Ok(()));
        assert_eq!(shard_woken.load(Ordering::Relaxed), 2);
        assert_eq!((shard.take(), shard.take(), shard.take()), (Some(Order::Routes), Some(Order::Report(7)), None));
        assert_eq!(shard.tell(Notice::Stopped { left: 3 }), Ok(()));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert_eq!((control.take(), control.take()), (Some(Notice::Stopped { left: 3 }), None));
    }

    #[test]
    fn i_6_neither_side_grows_or_waits_when_the_other_is_stuck() {
        let (_, wake) = counter();
        let (shard, control) = desk(wake);
        for _ in 0..ORDERS_MAX {
            assert_eq!(control.order(Order::Routes), Ok(()));
        }
        assert_eq!(control.order(Order::Report(1)), Err(Order::Report(1)));
        for _ in 0..NOTICES_MAX {
            assert_eq!(shard.tell(Notice::Stopped { left: 0 }), Ok(()));
        }
        assert_eq!(shard.tell(Notice::Stopped { left: 1 }), Err(Notice::Stopped { left: 1 }));
    }
}
