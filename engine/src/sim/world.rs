//! A simulated world: one virtual clock, the events to come, the machines, and the loop that lets one thing happen at a
//! time. Everything is one thread; which of several shards goes on first is drawn.

use super::chance::Chance;
use super::conn::End;
use super::machine::{Machine, Process};
use super::net::Net;
use super::tasks::{Awake, Tasks, locked};
use super::trace::{Trace, What};
use crate::io::driver::{IoCounts, UNREAD_BYTES};
use crate::wire::{Span, Tick};
use std::cell::{Cell, RefCell};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Waker;

/// The wall clock at the start of every world: 2026-01-01, in microseconds.
pub const WALL_AT_START: i64 = 1_767_225_600_000_000;
/// When every world begins: not 0, so that instants before it can be spoken of.
const START: Tick = Tick(1_000_000_000_000);
/// Polls of one turn, so that a task that wakes itself for ever does not keep the world from going on.
const POLLS_PER_TURN: u64 = 8192;
/// Turns at one instant before somebody is said to spin.
const TURNS_PER_INSTANT: u64 = 1_000_000;

/// Something to do.
type Deed = Box<dyn FnOnce(&Rc<World>)>;

/// What happens at a time.
enum Act {
    Wake(Waker),
    Do(Deed),
}

struct Event {
    at: Tick,
    /// Events of one instant happen in the order in which they were planned.
    number: u64,
    act: Act,
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

/// One simulated thread.
pub(super) struct Shard {
    pub tasks: Tasks,
    pub process: Rc<Process>,
    /// Connections that have something to send when the turn ends.
    pub flushes: RefCell<Vec<Rc<End>>>,
    pub counts: Cell<IoCounts>,
    /// Memory to receive into, in common to all connections.
    pub scratch: Cell<Vec<u8>>,
}

impl Shard {
    /// Changes the counts of the I/O layer.
    pub fn count(&self, change: impl FnOnce(&mut IoCounts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// Lends what is received into; `scratch` takes it back.
    pub fn lend_scratch(&self) -> Vec<u8> {
        let mut scratch = self.scratch.take();
        scratch.resize(UNREAD_BYTES, 0);
        scratch
    }
}

/// Everything there is.
pub struct World {
    now: Cell<Tick>,
    planned: Cell<u64>,
    events: RefCell<BinaryHeap<Reverse<Event>>>,
    awake: Awake,
    shards: RefCell<Vec<Option<Rc<Shard>>>>,
    machines: RefCell<Vec<Rc<Machine>>>,
    /// Whatever is drawn.
    pub chance: Chance,
    /// What happened.
    pub trace: Trace,
    /// Connections and the ways between machines.
    pub(super) net: Net,
    /// What happened, for people; `None` when nobody asked.
    story: Option<RefCell<Vec<String>>>,
}

impl World {
    /// The world of this seed: nothing in it yet. With `story` it can be told what happened.
    pub fn new(seed: u64, story: bool) -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(START),
            planned: Cell::new(0),
            events: RefCell::default(),
            awake: Awake::default(),
            shards: RefCell::default(),
            machines: RefCell::default(),
            chance: Chance::new(seed),
            trace: Trace::new(),
            net: Net::default(),
            story: story.then(RefCell::default),
        })
    }

    /// Now.
    pub fn now(&self) -> Tick {
        self.now.get()
    }

    /// Something for the story.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        if let Some(story) = &self.story {
            let micros = self.now().since(START).as_micros();
            story.borrow_mut().push(format!("{:>5}.{:06} {}", micros / 1_000_000, micros % 1_000_000, what()));
        }
    }

    /// The story so far, line by line.
    pub fn story(&self) -> Vec<String> {
        self.story.as_ref().map(RefCell::take).unwrap_or_default()
    }

    /// Adds a machine, with an empty disk.
    pub fn machine(self: &Rc<Self>) -> Rc<Machine> {
        let number = self.machines.borrow().len();
        let machine = Machine::new(number, &self.chance);
        self.machines.borrow_mut().push(machine.clone());
        machine
    }

    /// How many machines there are.
    pub fn machines(&self) -> usize {
        self.machines.borrow().len()
    }

    /// The machine with this address.
    pub(super) fn machine_at(&self, address: IpAddr) -> Option<Rc<Machine>> {
        self.machines.borrow().iter().find(|machine| machine.address() == address).cloned()
    }

    /// Whether segments get from one machine to another now.
    pub(super) fn is_open(&self, from: usize, to: usize) -> bool {
        self.machines.borrow().get(to).is_some_and(|to| self.net.is_open(from, to))
    }

    /// Does `act` at `at`.
    pub fn at(&self, at: Tick, act: impl FnOnce(&Rc<World>) + 'static) {
        self.plan(at, Act::Do(Box::new(act)));
    }

    /// Does `act` after `span`.
    pub fn after(&self, span: Span, act: impl FnOnce(&Rc<World>) + 'static) {
        self.at(self.now() + span, act);
    }

    pub(super) fn wake_at(&self, at: Tick, waker: Waker) {
        self.plan(at, Act::Wake(waker));
    }

    fn plan(&self, at: Tick, act: Act) {
        let number = self.planned.get();
        self.planned.set(number + 1);
        self.events.borrow_mut().push(Reverse(Event { at: at.max(self.now()), number, act }));
    }

    /// Adds a thread to a process.
    pub(super) fn thread(&self, process: &Rc<Process>) -> Rc<Shard> {
        let number = self.shards.borrow().len();
        let shard = Rc::new(Shard {
            tasks: Tasks::new(number, self.awake.clone()),
            process: process.clone(),
            flushes: RefCell::default(),
            counts: Cell::default(),
            scratch: Cell::default(),
        });
        self.shards.borrow_mut().push(Some(shard.clone()));
        process.threads.borrow_mut().push(number);
        shard
    }

    /// Ends a thread: its tasks are dropped.
    pub(super) fn end_thread(&self, number: usize) {
        let shard = self.shards.borrow_mut()[number].take();
        if let Some(shard) = shard {
            shard.tasks.stop();
            shard.flushes.borrow_mut().clear();
        }
    }

    /// Lets the world go on until `done`, at the latest until `by`; whether it is done. Nothing left to happen counts as
    /// time that passes.
    ///
    /// # Panics
    /// When a task spins: the clock stands still for ever.
    pub fn run(self: &Rc<Self>, by: Tick, mut done: impl FnMut() -> bool) -> bool {
        let mut turns = 0;
        loop {
            if done() {
                return true;
            }
            if self.one_turn() {
                turns += 1;
                assert!(turns < TURNS_PER_INSTANT, "somebody spins at {:?}", self.now());
                continue;
            }
            turns = 0;
            let next = self.events.borrow().peek().map(|Reverse(event)| event.at);
            match next {
                Some(at) if at <= by => self.next_event(),
                _ => {
                    self.now.set(self.now().max(by));
                    return done();
                }
            }
        }
    }

    fn next_event(self: &Rc<Self>) {
        let Some(Reverse(event)) = self.events.borrow_mut().pop() else { return };
        self.now.set(event.at);
        match event.act {
            Act::Wake(waker) => waker.wake(),
            Act::Do(act) => act(self),
        }
    }

    /// One turn of one shard that has something to do; whether there was one.
    fn one_turn(self: &Rc<Self>) -> bool {
        let number = {
            let mut awake = locked(&self.awake);
            if awake.is_empty() {
                return false;
            }
            let drawn = self.chance.index(awake.len());
            awake.swap_remove(drawn)
        };
        let Some(shard) = self.shards.borrow()[number].clone() else { return true };
        let mut polls = 0;
        while polls < POLLS_PER_TURN && shard.tasks.run_one() {
            polls += 1;
            if let Some(how) = shard.process.polled() {
                self.trace.add(self.now(), What::Turn, &[number as u64, polls]);
                shard.process.meet(self, how);
                return true;
            }
        }
        if polls > 0 {
            self.trace.add(self.now(), What::Turn, &[number as u64, polls]);
            let flushes = shard.flushes.take();
            flushes.iter().for_each(|end| end.flush(self));
            if !shard.tasks.is_idle() {
                locked(&self.awake).push(number);
            }
        }
        true
    }

    /// Ends everything: nothing refers to the world any more.
    pub fn end(&self) {
        self.machines.borrow().iter().for_each(|machine| machine.forsake());
        let threads = self.shards.borrow().len();
        (0..threads).for_each(|number| self.end_thread(number));
        self.events.borrow_mut().clear();
        self.net.end();
        self.machines.borrow_mut().clear();
    }
}
