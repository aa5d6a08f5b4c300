//! The run queue of one shard's thread: tasks, woken by index, run first in, first out.
//!
//! No atomics and no allocation per wake: a waker is a number (executor, generation, index) in place of a pointer. It may
//! be moved anywhere but works on its own thread only; a wake from another thread would be lost, so it panics instead.
//! Across threads one wakes the driver (`Remote`), never a task.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

/// Polls of one turn, so that tasks that wake each other for ever cannot keep the loop from its I/O.
const POLLS_PER_TURN: usize = 8192;

static NEXT_EXECUTOR: AtomicU16 = AtomicU16::new(1);

thread_local! {
    /// What wakers of this thread reach. Set while an executor of this thread is alive.
    static CURRENT: RefCell<Option<Rc<Ready>>> = const { RefCell::new(None) };
}

struct Ready {
    executor: u16,
    queue: RefCell<VecDeque<u32>>,
    /// Per task slot: its generation, and whether it stands in the queue.
    marks: RefCell<Vec<(u16, bool)>>,
    /// Who is woken now runs next.
    is_urgent: Cell<bool>,
}

impl Ready {
    fn wake(&self, generation: u16, index: u32) {
        let mut marks = self.marks.borrow_mut();
        let Some(mark) = marks.get_mut(index as usize) else { return };
        if mark.0 == generation && !mark.1 {
            mark.1 = true;
            let mut queue = self.queue.borrow_mut();
            if self.is_urgent.get() { queue.push_front(index) } else { queue.push_back(index) }
        }
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The tasks of one thread.
pub struct Executor {
    ready: Rc<Ready>,
    tasks: RefCell<Vec<Option<Task>>>,
    free: RefCell<Vec<u32>>,
    alive: Cell<usize>,
}

impl Executor {
    /// The executor of this thread.
    ///
    /// # Panics
    /// When this thread has one already.
    pub fn new() -> Self {
        let executor = NEXT_EXECUTOR.fetch_add(1, Ordering::Relaxed);
        let ready = Rc::new(Ready {
            executor,
            queue: RefCell::default(),
            marks: RefCell::default(),
            is_urgent: Cell::default(),
        });
        CURRENT.with(|current| {
            let previous = current.borrow_mut().replace(ready.clone());
            assert!(previous.is_none(), "one executor per thread");
        });
        Self { ready, tasks: RefCell::default(), free: RefCell::default(), alive: Cell::new(0) }
    }

    /// Adds a task; it runs for the first time behind everything that is ready now.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let task: Task = Box::pin(task);
        let index = self.free.borrow_mut().pop();
        let index = if let Some(index) = index {
            self.tasks.borrow_mut()[index as usize] = Some(task);
            index
        } else {
            let mut tasks = self.tasks.borrow_mut();
            tasks.push(Some(task));
            self.ready.marks.borrow_mut().push((0, false));
            u32::try_from(tasks.len() - 1).expect("fewer than 2^32 tasks")
        };
        self.alive.set(self.alive.get() + 1);
        let generation = self.ready.marks.borrow()[index as usize].0;
        self.ready.wake(generation, index);
    }

    /// Tasks that have not ended.
    pub fn alive(&self) -> usize {
        self.alive.get()
    }

    /// Whether nothing is ready to run.
    pub fn is_idle(&self) -> bool {
        self.ready.queue.borrow().is_empty()
    }

    /// Wakes a task that is to run before all that are ready.
    pub fn wake_next(&self, waker: Waker) {
        self.ready.is_urgent.set(true);
        waker.wake();
        self.ready.is_urgent.set(false);
    }

    /// Runs what is ready, and what becomes ready by that, until `is_enough`, up to a bound. Returns the polls made.
    pub fn turn(&self, is_enough: impl Fn() -> bool) -> usize {
        let mut polls = 0;
        while polls < POLLS_PER_TURN && !is_enough() {
            let Some(index) = self.ready.queue.borrow_mut().pop_front() else { break };
            self.poll(index);
            polls += 1;
        }
        polls
    }

    fn poll(&self, index: u32) {
        let generation = {
            let mut marks = self.ready.marks.borrow_mut();
            let mark = &mut marks[index as usize];
            mark.1 = false;
            mark.0
        };
        // Taken out while it runs, so that a task may spawn.
        let Some(mut task) = self.tasks.borrow_mut()[index as usize].take() else { return };
        let waker = waker(self.ready.executor, generation, index);
        let ended = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        if ended {
            drop(task);
            self.ready.marks.borrow_mut()[index as usize].0 = generation.wrapping_add(1);
            self.free.borrow_mut().push(index);
            self.alive.set(self.alive.get() - 1);
        } else {
            self.tasks.borrow_mut()[index as usize] = Some(task);
        }
    }

    /// Drops every task. What they own may wake and spawn no more.
    pub fn clear(&self) {
        let slots = self.tasks.borrow().len();
        for index in 0..slots {
            let task = self.tasks.borrow_mut()[index].take();
            drop(task);
        }
        self.ready.queue.borrow_mut().clear();
    }
}

impl Default for Executor {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.clear();
        CURRENT.with(|current| current.borrow_mut().take());
    }
}

/// Completes after everything that is ready now has run once.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

const TABLE: RawWakerVTable = RawWakerVTable::new(|number| RawWaker::new(number, &TABLE), wake, wake, |_| ());

fn waker(executor: u16, generation: u16, index: u32) -> Waker {
    let number = (usize::from(executor) << 48) | (usize::from(generation) << 32) | index as usize;
    // SAFETY: the table's functions never read through the pointer: it is a number. Clone copies it, drop does nothing, and
    // wake works on thread-local state only, after checking that this is the right thread, so the waker may be sent anywhere.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::without_provenance(number), &TABLE)) }
}

#[expect(clippy::cast_possible_truncation, reason = "the number's fields are cut out")]
#[expect(clippy::panic, reason = "a waker that left its shard: what it wakes is no memory of this thread")]
fn wake(number: *const ()) {
    let number = number.addr();
    let (executor, generation, index) = ((number >> 48) as u16, (number >> 32) as u16, number as u32);
    CURRENT.with(|current| match &*current.borrow() {
        Some(ready) if ready.executor == executor => ready.wake(generation, index),
        Some(_) => panic!("a task was woken from another shard's thread"),
        // The executor is gone, or is being dropped: nobody is left to run the task.
        None => {}
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;

    #[test]
    fn tasks_run_in_the_order_of_their_wakes_and_yield_to_all_that_is_ready() {
        let executor = Executor::new();
        let story = Rc::new(RefCell::new(Vec::new()));
        for name in ["a", "b"] {
            let story = story.clone();
            executor.spawn(async move {
                story.borrow_mut().push(format!("{name}1"));
                yield_now().await;
                story.borrow_mut().push(format!("{name}2"));
            });
        }
        executor.turn(|| false);
        assert_eq!(*story.borrow(), ["a1", "b1", "a2", "b2"]);
        assert_eq!((executor.alive(), executor.is_idle()), (0, true));
    }

    #[test]
    fn an_old_waker_does_not_wake_the_slots_next_task() {
        let executor = Executor::new();
        let kept = Rc::new(RefCell::new(None::<Waker>));
        let keep = kept.clone();
        executor.spawn(async move {
            std::future::poll_fn(|context| {
                keep.borrow_mut().replace(context.waker().clone());
                Poll::Ready(())
            })
            .await;
        });
        executor.turn(|| false);
        let polls = Rc::new(Cell::new(0));
        let count = polls.clone();
        executor.spawn(async move {
            std::future::poll_fn(|_| {
                count.set(count.get() + 1);
                Poll::<()>::Pending
            })
            .await;
        });
        executor.turn(|| false);
        kept.borrow().as_ref().expect("kept").wake_by_ref();
        executor.turn(|| false);
        assert_eq!(polls.get(), 1);
    }

    #[test]
    fn a_wake_from_another_shard_is_not_lost_in_silence() {
        let executor = Executor::new();
        let waker = waker(executor.ready.executor, 0, 0);
        let other = std::thread::spawn(move || {
            let _other = Executor::new();
            waker.wake();
        });
        assert!(other.join().is_err());
    }
}
