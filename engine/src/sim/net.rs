//! The network: connections as two queues of segments, listeners, and ways between machines that delay, cut and heal.
//!
//! A segment is an arbitrary piece of what was sent. Segments of one direction arrive in order; where the way is cut or
//! the other machine is down they are sent again with growing waits, as TCP does, until the sender gives up.

use super::conn::End;
use super::machine::{Machine, Process};
use super::trace::{What, digest};
use super::world::World;
use crate::wire::{Span, Tick};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Waker;

/// The first wait before a segment is sent again; it doubles.
const AGAIN_WAIT: Span = Span::millis(200);
/// After so many tries a connection is given up.
const TRIES_MAX: u32 = 9;
/// Connections that wait to be accepted.
const BACKLOG: usize = 128;

/// What travels.
#[derive(Debug)]
pub(super) enum Segment {
    Octets(Vec<u8>),
    Fin,
    Reset,
}

/// What the network does to those who use it.
#[derive(Debug, Clone)]
pub struct Weather {
    /// The time that a segment takes.
    pub delay_min: Span,
    /// The same, at most.
    pub delay_max: Span,
    /// Once in so many segments there is a pause (loss, a busy switch).
    pub pause_once_in: u64,
    /// How long such a pause is, at most.
    pub pause_max: Span,
    /// Segments are cut at random places.
    pub cuts: bool,
    /// Once in so many segments a connection is reset.
    pub reset_once_in: u64,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            delay_min: Span::micros(40),
            delay_max: Span::micros(400),
            pause_once_in: 0,
            pause_max: Span::millis(300),
            cuts: true,
            reset_once_in: 0,
        }
    }
}

/// A socket that listens.
pub(super) struct Listening {
    pub number: u64,
    pub at: SocketAddr,
    pub process: Rc<Process>,
    pub queue: RefCell<VecDeque<Rc<End>>>,
    pub waker: RefCell<Option<Waker>>,
}

/// All connections, listeners and ways.
#[derive(Default)]
pub(super) struct Net {
    number: Cell<u64>,
    ends: RefCell<BTreeMap<u64, Rc<End>>>,
    listeners: RefCell<BTreeMap<u64, Rc<Listening>>>,
    /// Ways that are cut, from machine to machine.
    cut: RefCell<BTreeSet<(usize, usize)>>,
    pub weather: RefCell<Weather>,
}

impl Net {
    pub fn next_number(&self) -> u64 {
        self.number.set(self.number.get() + 1);
        self.number.get()
    }

    /// Whether segments get from one machine to another.
    pub fn is_open(&self, from: usize, to: &Machine) -> bool {
        to.is_up() && !self.cut.borrow().contains(&(from, to.number()))
    }

    pub fn cut(&self, from: usize, to: usize, is_cut: bool) {
        let mut cut = self.cut.borrow_mut();
        if is_cut {
            cut.insert((from, to))
        } else {
            cut.remove(&(from, to))
        };
    }

    pub fn heal(&self) {
        self.cut.borrow_mut().clear();
        *self.weather.borrow_mut() = Weather::default();
    }

    /// How long the next segment takes.
    pub fn delay(&self, world: &World, same_machine: bool) -> Span {
        let weather = self.weather.borrow();
        if same_machine {
            return world.chance.span(Machine::LOOPBACK..Span::micros(60));
        }
        let pause = match world.chance.once_in(weather.pause_once_in) {
            true => world.chance.span(Span::ZERO..weather.pause_max),
            false => Span::ZERO,
        };
        world.chance.span(weather.delay_min..weather.delay_max) + pause
    }

    pub fn listen(&self, mut at: SocketAddr, process: &Rc<Process>) -> io::Result<Rc<Listening>> {
        let machine = &process.machine;
        let is_ours = at.ip() == machine.address() || at.ip().is_loopback() || at.ip().is_unspecified();
        if !is_ours {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if at.port() == 0 {
            at.set_port(machine.free_port());
        }
        let taken = |other: &Rc<Listening>| {
            other.at == at && other.process.machine.number() == machine.number() && !Rc::ptr_eq(&other.process, process)
        };
        if self.listeners.borrow().values().any(taken) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let number = self.next_number();
        let listening = Rc::new(Listening {
            number,
            at,
            process: process.clone(),
            queue: RefCell::default(),
            waker: RefCell::default(),
        });
        self.listeners.borrow_mut().insert(number, listening.clone());
        Ok(listening)
    }

    /// The listener is gone; those who waited to be accepted are reset.
    pub fn unlisten(&self, world: &Rc<World>, listening: &Listening) {
        self.listeners.borrow_mut().remove(&listening.number);
        for end in listening.queue.take() {
            end.reset(world);
        }
    }

    /// A connection from `from` arrives at `to`, on `machine`. `None`: nobody listens.
    pub fn arrive_at(
        &self,
        world: &Rc<World>,
        from: (&Rc<Process>, SocketAddr),
        machine: &Machine,
        to: SocketAddr,
    ) -> Option<Rc<End>> {
        let listening = {
            let listeners = self.listeners.borrow();
            let hears = |other: &&Rc<Listening>| {
                let ip = other.at.ip();
                let same_address = ip.is_unspecified() || ip == to.ip();
                other.process.machine.number() == machine.number() && other.at.port() == to.port() && same_address
            };
            let hearing: Vec<_> = listeners.values().filter(hears).collect();
            (!hearing.is_empty()).then(|| (*world.chance.one_of(&hearing)).clone())?
        };
        if listening.queue.borrow().len() >= BACKLOG {
            return None;
        }
        let (near, far) = End::pair(self, from, (&listening.process, to));
        world.trace.add(world.now(), What::Connected, &[near.number, u64::from(to.port())]);
        let mut ends = self.ends.borrow_mut();
        ends.insert(near.number, near.clone());
        ends.insert(far.number, far.clone());
        listening.queue.borrow_mut().push_back(far);
        if let Some(waker) = listening.waker.borrow_mut().take() {
            waker.wake();
        }
        Some(near)
    }

    pub fn forget(&self, number: u64) {
        self.ends.borrow_mut().remove(&number);
    }

    pub fn end_of(&self, number: u64) -> Option<Rc<End>> {
        self.ends.borrow().get(&number).cloned()
    }

    /// The kernel closes what a process held: a reset where something was unread, else FIN.
    pub fn process_died(&self, world: &Rc<World>, process: &Rc<Process>) {
        let its_own = |other: &&Rc<Listening>| Rc::ptr_eq(&other.process, process);
        let listening: Vec<_> = self.listeners.borrow().values().filter(its_own).cloned().collect();
        listening.iter().for_each(|listening| self.unlisten(world, listening));
        for end in self.ends_of(|end| Rc::ptr_eq(&end.process, process)) {
            end.orphan(world);
        }
    }

    /// Nobody on this machine knows of any connection any more, and nobody was told.
    pub fn machine_died(&self, machine: usize) {
        self.listeners.borrow_mut().retain(|_, listening| listening.process.machine.number() != machine);
        self.ends.borrow_mut().retain(|_, end| end.process.machine.number() != machine);
    }

    fn ends_of(&self, of: impl Fn(&End) -> bool) -> Vec<Rc<End>> {
        self.ends.borrow().values().filter(|end| of(end)).cloned().collect()
    }

    /// Resets one connection that crosses the network, if there is one.
    pub fn reset_some(&self, world: &Rc<World>) {
        let crossing = self.ends_of(|end| end.is_open() && end.peer_machine != end.process.machine.number());
        if !crossing.is_empty() {
            world.chance.one_of(&crossing).reset(world);
        }
    }

    pub fn end(&self) {
        self.ends.borrow_mut().clear();
        self.listeners.borrow_mut().clear();
    }
}

/// Lets the first segment of `end` travel, unless one is under way.
pub(super) fn travel(world: &Rc<World>, end: &Rc<End>) {
    if end.transit.borrow().is_empty() || end.travelling.replace(true) {
        return;
    }
    let same_machine = end.peer_machine == end.process.machine.number();
    let at = (world.now() + world.net.delay(world, same_machine)).max(end.last_arrival.get());
    arrive_later(world, end.number, at, 0);
}

fn arrive_later(world: &Rc<World>, number: u64, at: Tick, tries: u32) {
    world.at(at, move |world| arrive(world, number, tries));
}

/// The first segment of this end arrives, or is sent again.
fn arrive(world: &Rc<World>, number: u64, tries: u32) {
    let Some(end) = world.net.end_of(number) else { return };
    if !world.is_open(end.process.machine.number(), end.peer_machine) {
        if tries >= TRIES_MAX {
            return end.broken(world, io::ErrorKind::TimedOut);
        }
        let wait = Span(AGAIN_WAIT.0 << tries);
        return arrive_later(world, number, world.now() + wait, tries + 1);
    }
    end.travelling.set(false);
    end.last_arrival.set(world.now());
    let Some(segment) = end.transit.borrow_mut().pop_front() else { return };
    let reset_once_in = world.net.weather.borrow().reset_once_in;
    let digest = match &segment {
        Segment::Octets(octets) => digest(octets),
        Segment::Fin => 1,
        Segment::Reset => 2,
    };
    world.trace.add(world.now(), What::Arrival, &[number, digest]);
    match world.net.end_of(end.other) {
        Some(other) => other.hear(world, segment),
        // Whoever it was for is no more.
        None if matches!(segment, Segment::Octets(_)) => end.broken(world, io::ErrorKind::ConnectionReset),
        None => {}
    }
    if end.is_open() && world.chance.once_in(reset_once_in) {
        end.reset(world);
    }
    travel(world, &end);
    end.forget_if_over(world);
}
