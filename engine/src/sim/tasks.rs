//! The tasks of one simulated shard: first in, first out, as in production. Wakers may be held anywhere, since waking a
//! shard across threads goes by its driver in production and everything is one thread here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

/// Shards that have something to do, by their numbers. Shared with every waker.
pub type Awake = Arc<Mutex<Vec<usize>>>;

/// What wakers of one shard reach.
struct Ready {
    shard: usize,
    queue: Mutex<VecDeque<Arc<Wakeup>>>,
    awake: Awake,
}

/// A task's waker.
struct Wakeup {
    slot: usize,
    /// Stands in the queue.
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, Ordering::Relaxed) {
            return;
        }
        let ready = self.ready.clone();
        let mut queue = locked(&ready.queue);
        queue.push_back(self);
        if queue.len() == 1 {
            locked(&ready.awake).push(ready.shard);
        }
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Slot {
    task: Option<Task>,
    wakeup: Arc<Wakeup>,
}

/// The tasks of one shard.
pub struct Tasks {
    ready: Arc<Ready>,
    slots: RefCell<Vec<Option<Slot>>>,
    free: RefCell<Vec<usize>>,
    stopped: Cell<bool>,
}

impl Tasks {
    /// None yet, for shard number `shard`.
    pub fn new(shard: usize, awake: Awake) -> Self {
        let ready = Arc::new(Ready { shard, queue: Mutex::default(), awake });
        Self { ready, slots: RefCell::default(), free: RefCell::default(), stopped: Cell::new(false) }
    }

    /// Adds a task; it runs for the first time behind everything that is ready now. Nothing is added after `stop`.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        if self.stopped.get() {
            return;
        }
        let task: Task = Box::pin(task);
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            self.slots.borrow_mut().push(None);
            self.slots.borrow().len() - 1
        });
        let wakeup = Arc::new(Wakeup { slot, queued: AtomicBool::new(false), ready: self.ready.clone() });
        self.slots.borrow_mut()[slot] = Some(Slot { task: Some(task), wakeup: wakeup.clone() });
        wakeup.wake();
    }

    /// Runs the first task that is ready; whether there was one.
    pub fn run_one(&self) -> bool {
        let Some(wakeup) = locked(&self.ready.queue).pop_front() else { return false };
        wakeup.queued.store(false, Ordering::Relaxed);
        // Taken out while it runs, so that a task may spawn.
        let task = match self.slots.borrow_mut().get_mut(wakeup.slot) {
            Some(Some(slot)) if Arc::ptr_eq(&slot.wakeup, &wakeup) => slot.task.take(),
            _ => None,
        };
        let Some(mut task) = task else { return true };
        let waker = Waker::from(wakeup.clone());
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.slots.borrow_mut()[wakeup.slot] = None;
            self.free.borrow_mut().push(wakeup.slot);
            drop(task);
        } else if let Some(Some(slot)) = self.slots.borrow_mut().get_mut(wakeup.slot) {
            slot.task = Some(task);
        }
        true
    }

    /// Whether nothing is ready.
    pub fn is_idle(&self) -> bool {
        locked(&self.ready.queue).is_empty()
    }

    /// Drops every task, and what is spawned from now on.
    pub fn stop(&self) {
        self.stopped.set(true);
        let slots = self.slots.borrow().len();
        for slot in 0..slots {
            let task = self.slots.borrow_mut()[slot].take();
            drop(task);
        }
        locked(&self.ready.queue).clear();
    }
}

/// What a mutex of this one thread holds.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use std::task::Poll;

    #[test]
    fn tasks_run_in_the_order_of_their_wakes_until_they_are_stopped() {
        let awake = Awake::default();
        let tasks = Tasks::new(3, awake.clone());
        let story = Rc::new(RefCell::new(Vec::new()));
        for name in ["a", "b"] {
            let story = story.clone();
            tasks.spawn(async move {
                for step in 1..=2 {
                    story.borrow_mut().push(format!("{name}{step}"));
                    let mut yielded = false;
                    std::future::poll_fn(|context| {
                        context.waker().wake_by_ref();
                        if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                }
            });
        }
        assert_eq!(*locked(&awake), [3], "told once");
        while tasks.run_one() {}
        assert_eq!(*story.borrow(), ["a1", "b1", "a2", "b2"]);
        let held = story.clone();
        tasks.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        tasks.run_one();
        tasks.stop();
        tasks.spawn(async { unreachable!("nothing runs any more") });
        assert!(tasks.is_idle());
        assert_eq!(Rc::strong_count(&story), 1, "what a task held is dropped with it");
    }
}
