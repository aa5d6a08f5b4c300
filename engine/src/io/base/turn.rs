//! One thread's loop on tokio: the shard's tasks, the end of a turn, timers, the wake-up from other threads, and an end
//! that loses no last reply.
//!
//! Two task sets are nested. The inner one holds what the driver's user spawns, and dies with the user's future. The
//! outer one holds the driver's own tasks (sending at the end of a turn, lingering): it runs after the inner one had its
//! turn, and outlives it for a bounded time.

use crate::io::driver::IoCounts;
use crate::wire::{Span, Tick, Wall};
use rustix::rand::GetRandomFlags;
use rustix::time::{ClockId, clock_gettime};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::task::{AbortHandle, LocalSet};
use tokio::time::{Instant, Sleep};

/// How long connections that were dropped may go on sending and lingering after the user's future has ended.
pub(crate) const STOP_WAIT: Span = Span::seconds(2);
/// Those that have sent everything, and whose peers say nothing for so long, keep the end waiting no longer: no octet is on its
/// way whose reset could overtake the last reply.
pub(crate) const STOP_QUIET: Span = Span::millis(250);

/// One receive call takes at most so many octets into the shared buffer.
pub(crate) const RECEIVE_BYTES: usize = 32 << 10;

/// Something with octets to send at the end of the turn.
pub(crate) trait Flush {
    /// Sends what the kernel takes; sees to the rest itself.
    fn flush(self: Rc<Self>);
}

/// CLOCK_MONOTONIC as `Tick`, and the same instants as tokio spells them.
struct Clock {
    instant: Instant,
    tick: Tick,
}

impl Clock {
    fn read() -> Tick {
        let time = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Tick(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0)))
    }

    fn instant(&self, at: Tick) -> Instant {
        self.instant + Duration::from_nanos(at.since(self.tick).0)
    }
}

/// Wakes a driver on tokio from any thread.
#[derive(Debug, Clone)]
pub struct Remote(Arc<RemoteState>);

#[derive(Debug, Default)]
struct RemoteState {
    pending: AtomicBool,
    notify: tokio::sync::Notify,
}

impl crate::io::driver::Remote for Remote {
    /// A system call only for the first wake-up since the driver answered the last one.
    fn wake(&self) {
        if !self.0.pending.swap(true, Ordering::AcqRel) {
            self.0.notify.notify_one();
        }
    }
}

/// The thread's loop, shared by everything that a driver gives out.
pub struct Turn {
    tasks: RefCell<Option<Rc<LocalSet>>>,
    house: RefCell<Option<Rc<LocalSet>>>,
    clock: Clock,
    remote: Remote,
    unflushed: RefCell<VecDeque<Rc<dyn Flush>>>,
    flusher: RefCell<Option<Waker>>,
    /// Dropped connections that still send or linger, and who waits for them to end.
    closing: Cell<usize>,
    closed: RefCell<Option<Waker>>,
    /// How many of them have sent everything and wait for their peers, and what they heard and began: a count that grows.
    lingering: Cell<usize>,
    heard: Cell<u64>,
    panicked: Cell<bool>,
    root: RefCell<Option<Waker>>,
    counts: Cell<IoCounts>,
    parks: Arc<AtomicU64>,
    scratch: Cell<Vec<u8>>,
}

impl Turn {
    /// A turn for the runtime that this is called in; `parks` counts how often its thread waited.
    pub(crate) fn new(parks: Arc<AtomicU64>) -> Rc<Self> {
        Rc::new(Self {
            tasks: RefCell::new(None),
            house: RefCell::new(None),
            clock: Clock { instant: Instant::now(), tick: Clock::read() },
            remote: Remote(Arc::default()),
            unflushed: RefCell::default(),
            flusher: RefCell::new(None),
            closing: Cell::new(0),
            closed: RefCell::new(None),
            lingering: Cell::new(0),
            heard: Cell::new(0),
            panicked: Cell::new(false),
            root: RefCell::new(None),
            counts: Cell::default(),
            parks,
            scratch: Cell::default(),
        })
    }

    /// Runs `main` and what it spawns until `main` ends; then lets dropped connections end, for a bounded time.
    ///
    /// # Panics
    /// When a spawned task panicked.
    pub(crate) async fn run(self: &Rc<Self>, main: impl Future<Output = ()>) {
        let (tasks, house) = (Rc::new(LocalSet::new()), Rc::new(LocalSet::new()));
        *self.tasks.borrow_mut() = Some(tasks.clone());
        *self.house.borrow_mut() = Some(house.clone());
        house.spawn_local(flush_every_turn(self.clone()));
        house
            .run_until(async {
                tasks.run_until(self.until_panic(main)).await;
                self.tasks.borrow_mut().take();
                drop(tasks);
                if !self.panicked.get() {
                    let limit = self.clock.instant(self.now() + STOP_WAIT);
                    // What is not closed by then is closed with the task set.
                    let _ = tokio::time::timeout_at(limit, self.all_closed()).await;
                }
            })
            .await;
        self.house.borrow_mut().take();
        drop(house);
        assert!(!self.panicked.get(), "a task panicked");
    }

    async fn until_panic(&self, main: impl Future<Output = ()>) {
        let mut main = pin!(main);
        poll_fn(|context| {
            *self.root.borrow_mut() = Some(context.waker().clone());
            if self.panicked.get() { Poll::Ready(()) } else { main.as_mut().poll(context) }
        })
        .await;
    }

    /// Completes when nothing is left that sends or hears.
    async fn all_closed(&self) {
        loop {
            let heard = self.heard.get();
            let none_left = poll_fn(|context| {
                *self.closed.borrow_mut() = Some(context.waker().clone());
                if self.closing.get() == 0 { Poll::Ready(()) } else { Poll::Pending }
            });
            let closed = self.before(self.now() + STOP_QUIET, none_left).await.is_some();
            if closed || (self.lingering.get() == self.closing.get() && self.heard.get() == heard) {
                return;
            }
        }
    }

    /// A connection that is closing has heard something from its peer.
    pub(crate) fn heard(&self) {
        self.heard.set(self.heard.get().wrapping_add(1));
    }

    /// Runs what a connection that is closing does when everything is sent.
    pub(crate) async fn linger(&self, by: Tick, to_the_end: impl Future<Output = ()>) {
        self.heard();
        self.lingering.set(self.lingering.get() + 1);
        self.before(by, to_the_end).await;
        self.lingering.set(self.lingering.get() - 1);
    }

    pub(crate) fn now(&self) -> Tick {
        Clock::read()
    }

    pub(crate) fn wall(&self) -> Wall {
        let time = clock_gettime(ClockId::Realtime);
        Wall(time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1_000))
    }

    pub(crate) fn random(&self, mut into: &mut [u8]) {
        while !into.is_empty() {
            let chunk = into.len().min(256); // never cut short by a signal up to here
            let got = rustix::rand::getrandom(&mut into[..chunk], GetRandomFlags::empty()).unwrap_or(0);
            into = &mut into[got..];
        }
    }

    /// Runs `task` among the user's tasks. When the user's future has ended, it is dropped.
    pub(crate) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let tasks = self.tasks.borrow().clone();
        if let Some(tasks) = tasks {
            let watch = PanicWatch(self.clone());
            tasks.spawn_local(async move {
                task.await;
                drop(watch);
            });
        }
    }

    /// Runs a task of the driver's own; it may go on for a while after the user's future has ended. `None` after that.
    pub(crate) fn spawn_in_house(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) -> Option<AbortHandle> {
        let house = self.house.borrow().clone();
        let watch = PanicWatch(self.clone());
        let task = async move {
            task.await;
            drop(watch);
        };
        house.map(|house| house.spawn_local(task).abort_handle())
    }

    /// As `spawn_in_house`, for the end of a dropped connection: the end of the loop waits for it.
    pub(crate) fn spawn_closing(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let counted = Closing::of(self);
        self.spawn_in_house(async move {
            task.await;
            drop(counted);
        });
    }

    /// Has `flush` called at the end of this turn.
    pub(crate) fn flush_later(&self, flush: Rc<dyn Flush>) {
        self.unflushed.borrow_mut().push_back(flush);
        if let Some(flusher) = self.flusher.borrow_mut().take() {
            flusher.wake();
        }
    }

    /// Completes at `at` or soon after.
    pub(crate) async fn sleep_until(&self, at: Tick) {
        if at == Tick::NEVER {
            return std::future::pending().await;
        }
        while self.now() < at {
            tokio::time::sleep_until(self.clock.instant(at)).await;
        }
    }

    /// `future`, unless `by` passes first.
    pub(crate) async fn before<T>(&self, by: Tick, future: impl Future<Output = T>) -> Option<T> {
        if by == Tick::NEVER {
            return Some(future.await);
        }
        tokio::time::timeout_at(self.clock.instant(by), future).await.ok()
    }

    /// Completes after everything that is ready now has run once: a task of its own stands behind all of it.
    pub(crate) async fn yield_now(self: &Rc<Self>) {
        let passed = Rc::new(Cell::new(false));
        let mut asked = false;
        poll_fn(|context| {
            if passed.get() {
                return Poll::Ready(());
            }
            if !asked {
                asked = true;
                let (passed, waker) = (passed.clone(), context.waker().clone());
                self.spawn(async move {
                    passed.set(true);
                    waker.wake();
                });
            }
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Completes when woken from another thread since the last time it completed.
    pub(crate) async fn woken(&self) {
        let state = &self.remote.0;
        while !state.pending.swap(false, Ordering::AcqRel) {
            state.notify.notified().await;
        }
    }

    pub(crate) fn counts(&self) -> IoCounts {
        let mut counts = self.counts.get();
        counts.syscalls += self.parks.load(Ordering::Relaxed);
        counts.allocations = crate::sys::alloc::allocations_here();
        counts
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut IoCounts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// Lends the shared receive buffer; `keep_scratch` takes it back.
    pub(crate) fn lend_scratch(&self) -> Vec<u8> {
        let mut scratch = self.scratch.take();
        scratch.resize(RECEIVE_BYTES, 0);
        scratch
    }

    pub(crate) fn keep_scratch(&self, scratch: Vec<u8>) {
        self.scratch.set(scratch);
    }
}

async fn flush_every_turn(turn: Rc<Turn>) {
    loop {
        poll_fn(|context| {
            if !turn.unflushed.borrow().is_empty() {
                return Poll::Ready(());
            }
            *turn.flusher.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        while let Some(next) = turn.next_unflushed() {
            next.flush();
        }
    }
}

impl Turn {
    fn next_unflushed(&self) -> Option<Rc<dyn Flush>> {
        self.unflushed.borrow_mut().pop_front()
    }
}

/// Counts a connection that is closing.
struct Closing(Rc<Turn>);

impl Closing {
    fn of(turn: &Rc<Turn>) -> Self {
        turn.closing.set(turn.closing.get() + 1);
        Self(turn.clone())
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.closing.set(self.0.closing.get() - 1);
        if self.0.closing.get() == 0
            && let Some(waker) = self.0.closed.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

/// Lives in a task; ends the loop when the task panics, which tokio alone would swallow.
struct PanicWatch(Rc<Turn>);

impl Drop for PanicWatch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked.set(true);
            if let Some(root) = self.0.root.borrow_mut().take() {
                root.wake();
            }
        }
    }
}

/// One timer for many deadlines: it is set again only when it fires too early, or when a deadline lies before it.
#[derive(Default)]
pub(crate) struct LazyTimer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Tick,
}

impl LazyTimer {
    /// Ready when `by` has passed.
    pub(crate) fn poll(&mut self, turn: &Turn, by: Tick, context: &mut std::task::Context<'_>) -> Poll<()> {
        if by == Tick::NEVER {
            return Poll::Pending;
        }
        loop {
            if turn.now() >= by {
                return Poll::Ready(());
            }
            let instant = |at: Tick| turn.clock.instant(at);
            let sleep = self.sleep.get_or_insert_with(|| {
                self.armed = by;
                Box::pin(tokio::time::sleep_until(instant(by)))
            });
            if self.armed > by || sleep.is_elapsed() {
                sleep.as_mut().reset(instant(by));
                self.armed = by;
            }
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
