//! One thread's loop, and what it keeps.

use super::conn::{self, Connection, SPARE_CARRIES, SPARE_OUTS};
use super::files::Commits;
use super::listener::{self, Listening};
use super::remote::UringRemote;
use super::timers::Timers;
use crate::io::base::turn::{STOP_QUIET, STOP_WAIT};
use crate::io::driver::IoCounts;
use crate::sys::exec::Executor;
use crate::sys::outgoing::Outgoing;
use crate::sys::ring::{Done, Returned, Ring, Setup};
use crate::sys::spare::Spare;
use crate::wire::{Span, Tick};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The longest sleep of the loop, so that a lost wake-up would cost a delay, not a hang.
const SLEEP_MAX: Span = Span::seconds(1);
/// Room of the aimed receives that the kernel is given at a time, octets: with the octets' source, and what else the
/// tasks touch, it fits into a core's second-level cache.
const AIMED_BYTES_MAX: usize = 256 << 10;
/// How often a turn may do so before it sends what is queued.
const HANDOVERS_PER_TURN: usize = 16;

/// What a completion belongs to: the upper half of its `user` number; the lower half is a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Ignore = 0,
    Receive = 1,
    Send = 2,
    Accept = 3,
    Once = 4,
    Wake = 5,
}

impl Kind {
    fn of(user: u64) -> (Kind, usize) {
        let kind = match user >> 32 {
            1 => Kind::Receive,
            2 => Kind::Send,
            3 => Kind::Accept,
            4 => Kind::Once,
            5 => Kind::Wake,
            _ => Kind::Ignore,
        };
        (kind, usize::try_from(user & 0xffff_ffff).expect("32 bits"))
    }
}

/// The `user` number of an operation.
pub(super) fn user(kind: Kind, key: usize) -> u64 {
    ((kind as u64) << 32) | u64::from(u32::try_from(key).expect("fewer than 2^32 of a kind"))
}

/// A one-shot operation's result.
pub(super) struct Outcome {
    pub result: i32,
    pub returned: Returned,
}

impl Outcome {
    /// A count, or the system's error.
    pub fn count(&self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

enum Once {
    Waiting(Option<Waker>),
    Done(Done),
    /// Nobody waits any more; the result is dropped when it comes.
    Abandoned,
}

/// Everything of one thread.
pub(super) struct Reactor {
    pub ring: RefCell<Ring>,
    exec: Executor,
    pub conns: RefCell<Slab<Connection>>,
    pub listeners: RefCell<Slab<Listening>>,
    onces: RefCell<Slab<Once>>,
    pub timers: RefCell<Timers>,
    /// Connections with something to send, or to do once their task let go of them, at the end of the turn.
    pub dirty: RefCell<Vec<u32>>,
    /// Connections whose shared buffers must be given back at the end of the turn.
    pub leased: RefCell<Vec<u32>>,
    /// Emptied buffers of connections, for reuse.
    pub spare_carries: RefCell<Spare<Vec<u8>, SPARE_CARRIES>>,
    /// Emptied gather lists, for reuse.
    pub spare_outs: RefCell<Spare<Outgoing, SPARE_OUTS>>,
    pub remote: UringRemote,
    counter: Rc<OwnedFd>,
    pub woken: RefCell<Option<Waker>>,
    now: Cell<Tick>,
    generation: Cell<u32>,
    /// The main task has ended: nothing is waited for any more.
    done: Cell<bool>,
    counts: Cell<IoCounts>,
    /// Durable writes under way.
    pub commits: Commits,
    /// Room in the chunks of the aimed receives begun since the last submission, octets.
    aimed: Cell<usize>,
}

/// CLOCK_MONOTONIC.
pub(super) fn clock() -> Tick {
    crate::io::monotonic()
}

impl Reactor {
    pub fn new(setup: Setup) -> io::Result<Rc<Self>> {
        let mut ring = Ring::new(setup)?;
        let (remote, counter) = UringRemote::new()?;
        ring.read_counter(user(Kind::Wake, 0), &counter);
        Ok(Rc::new(Self {
            ring: RefCell::new(ring),
            exec: Executor::new(),
            conns: RefCell::default(),
            listeners: RefCell::default(),
            onces: RefCell::default(),
            timers: RefCell::default(),
            dirty: RefCell::default(),
            leased: RefCell::default(),
            spare_carries: RefCell::default(),
            spare_outs: RefCell::default(),
            remote,
            counter,
            woken: RefCell::default(),
            now: Cell::new(clock()),
            generation: Cell::new(0),
            done: Cell::new(false),
            counts: Cell::default(),
            commits: Commits::default(),
            aimed: Cell::default(),
        }))
    }

    pub fn now(&self) -> Tick {
        self.now.get()
    }

    /// A number that no living connection has; never 0.
    pub fn next_generation(&self) -> u32 {
        let generation = self.generation.get().wrapping_add(1).max(1);
        self.generation.set(generation);
        generation
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.exec.spawn(task);
    }

    pub fn count(&self, change: impl FnOnce(&mut IoCounts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    pub fn counts(&self) -> IoCounts {
        let mut counts = self.counts.get();
        let ring = self.ring.borrow();
        counts.syscalls += ring.syscalls();
        (counts.requests_waited, counts.completions_overflowed) = (ring.waited(), ring.overflows());
        counts.allocations = crate::sys::alloc::allocations_here();
        counts
    }

    /// Runs `main` to its end, and everything spawned meanwhile beside it.
    pub fn run(self: &Rc<Self>, main: impl Future<Output = ()> + 'static) -> io::Result<()> {
        let reactor = self.clone();
        self.spawn(async move {
            main.await;
            reactor.done.set(true);
        });
        while !self.done.get() {
            if let Err(error) = self.turn(SLEEP_MAX) {
                // Tasks and ring hold each other: nothing would ever be closed.
                self.exec.clear();
                self.conns.borrow_mut().clear();
                return Err(error);
            }
        }
        self.shut_down()
    }

    /// One turn of the loop, which sleeps for `longest` at most.
    fn turn(self: &Rc<Self>, longest: Span) -> io::Result<()> {
        self.now.set(clock());
        self.fire_timers();
        self.run_tasks()?;
        conn::end_of_turn(self);
        let wait = if self.exec.is_idle() && !self.done.get() { self.wait_span(longest) } else { Span::ZERO };
        // A wake-up that nobody waits for is kept for who asks next; it does not keep the thread awake.
        let may_sleep = wait > Span::ZERO && (self.remote.fall_asleep() || self.woken.borrow().is_none());
        if !may_sleep {
            self.ring.borrow_mut().turn(0)?;
        } else {
            self.ring.borrow_mut().turn(wait.0)?;
            self.remote.rouse();
        }
        self.now.set(clock());
        self.reap();
        if self.remote_pending()
            && let Some(waker) = self.woken.borrow_mut().take()
        {
            waker.wake();
        }
        Ok(())
    }

    /// Runs what is ready. The kernel copies whatever an aimed receive finds while it takes it: only a few are handed over
    /// at a time, and their tasks run at once, as long as the octets are in this core's cache.
    fn run_tasks(self: &Rc<Self>) -> io::Result<()> {
        for _ in 0..HANDOVERS_PER_TURN {
            self.exec.turn(|| self.aimed.get() >= AIMED_BYTES_MAX);
            if self.aimed.take() < AIMED_BYTES_MAX {
                return Ok(());
            }
            self.ring.borrow_mut().turn(0)?;
            self.reap();
        }
        // Bodies that never pause come first, but keep nobody else waiting for longer than that.
        self.exec.turn(|| false);
        self.aimed.set(0);
        Ok(())
    }

    /// An aimed receive of so much room was begun.
    pub fn aimed(&self, bytes: usize) {
        self.aimed.set(self.aimed.get() + bytes);
    }

    /// Wakes a task that is to run before all that are ready.
    pub fn wake_next(&self, waker: Waker) {
        self.exec.wake_next(waker);
    }

    fn remote_pending(&self) -> bool {
        self.woken.borrow().is_some() && self.remote.is_pending()
    }

    fn wait_span(&self, longest: Span) -> Span {
        self.timers.borrow().next().since(clock()).min(longest)
    }

    fn fire_timers(&self) {
        loop {
            let due = self.timers.borrow_mut().due(self.now());
            let Some((at, key)) = due else { break };
            conn::on_timer(self, key as usize, at);
        }
        let mut timers = self.timers.borrow_mut();
        let conns = self.conns.borrow();
        if timers.is_stale(conns.len()) {
            timers.compact(|key| conns.get(key as usize).map(Connection::timer_at));
        }
    }

    fn reap(self: &Rc<Self>) {
        loop {
            let done = self.ring.borrow_mut().reap();
            let Some(done) = done else { break };
            match Kind::of(done.user) {
                (Kind::Receive, key) => conn::on_receive(self, key, done),
                (Kind::Send, key) => conn::on_send(self, key, done),
                (Kind::Accept, key) => listener::on_accept(self, key, done),
                (Kind::Once, key) => self.on_once(key, done),
                (Kind::Wake, _) => {
                    self.ring.borrow_mut().read_counter(user(Kind::Wake, 0), &self.counter);
                }
                (Kind::Ignore, _) => {}
            }
        }
    }

    fn on_once(&self, key: usize, done: Done) {
        let mut onces = self.onces.borrow_mut();
        match std::mem::replace(&mut onces[key], Once::Done(done)) {
            Once::Waiting(Some(waker)) => waker.wake(),
            Once::Waiting(None) | Once::Done(_) => {}
            Once::Abandoned => {
                onces.remove(key);
            }
        }
    }

    /// Begins a one-shot operation and waits for it. Dropped half-way, the operation goes on and its memory stays alive.
    pub async fn once(self: &Rc<Self>, begin: impl FnOnce(&mut Ring, u64) -> usize) -> Outcome {
        let done = self.begin_once(begin).0.await;
        Outcome { result: done.result, returned: done.returned }
    }

    /// The same for an operation that opens a descriptor.
    pub async fn open_once(self: &Rc<Self>, begin: impl FnOnce(&mut Ring, u64) -> usize) -> io::Result<OwnedFd> {
        let done = self.begin_once(begin).0.await;
        let errno = -done.result;
        done.into_fd().ok_or_else(|| io::Error::from_raw_os_error(errno))
    }

    /// Begins a one-shot operation; the second value is its key in the ring, for cancelling it.
    pub fn begin_once(self: &Rc<Self>, begin: impl FnOnce(&mut Ring, u64) -> usize) -> (OnceFuture, usize) {
        let key = self.onces.borrow_mut().insert(Once::Waiting(None));
        let ring_key = begin(&mut self.ring.borrow_mut(), user(Kind::Once, key));
        (OnceFuture { reactor: self.clone(), key, taken: false }, ring_key)
    }

    /// Drops every task; then lets connections send what is queued and linger, for a bounded time. Those that have sent
    /// everything, and whose peers keep still, keep the end waiting no longer than that takes to see.
    fn shut_down(self: &Rc<Self>) -> io::Result<()> {
        self.exec.clear();
        let until = clock() + STOP_WAIT;
        self.done.set(false);
        let (mut seen, mut quiet_since) = (self.moved(), clock());
        while clock() < until && !self.conns.borrow().is_empty() {
            self.turn(STOP_QUIET)?;
            let moved = self.moved();
            if moved != seen || conn::any_unsent(self) {
                (seen, quiet_since) = (moved, clock());
            } else if clock() >= quiet_since + STOP_QUIET {
                break;
            }
        }
        // What was begun goes to the kernel while its descriptors are still ours: their numbers may be others' next.
        self.ring.borrow_mut().flush()?;
        self.conns.borrow_mut().clear();
        self.listeners.borrow_mut().clear();
        self.exec.clear();
        Ok(())
    }

    /// Octets sent and received so far.
    fn moved(&self) -> u64 {
        let counts = self.counts.get();
        counts.sent_bytes.wrapping_add(counts.received_bytes)
    }
}

/// A one-shot operation under way.
pub(super) struct OnceFuture {
    reactor: Rc<Reactor>,
    key: usize,
    taken: bool,
}

impl Future for OnceFuture {
    type Output = Done;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Done> {
        let this = &mut *self;
        let mut onces = this.reactor.onces.borrow_mut();
        match &mut onces[this.key] {
            Once::Waiting(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            Once::Done(_) => {
                this.taken = true;
                let Once::Done(done) = onces.remove(this.key) else { unreachable!("matched above") };
                Poll::Ready(done)
            }
            Once::Abandoned => unreachable!("abandoned by drop only"),
        }
    }
}

impl Drop for OnceFuture {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut onces = self.reactor.onces.borrow_mut();
        match &onces[self.key] {
            Once::Waiting(_) => onces[self.key] = Once::Abandoned,
            _ => drop(onces.remove(self.key)),
        }
    }
}
