//! Machines and the processes on them: what dies with a process, and what with its machine.

use super::chance::Chance;
use super::disk::Disk;
use super::driver::Sim;
use super::nth::Nth;
use super::trace::What;
use super::world::World;
use crate::wire::Span;
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

/// A computer.
pub struct Machine {
    number: usize,
    up: Cell<bool>,
    /// The processes that live.
    processes: RefCell<Vec<Rc<Process>>>,
    next_port: Cell<u16>,
    /// What its wall clock is off by, in microseconds.
    pub wall_shift: Cell<i64>,
    /// Its disk.
    pub disk: Rc<Disk>,
    /// Which operation of its processes fails.
    pub nth: Nth,
}

/// How a process is to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doom {
    /// Killed.
    Kill,
    /// With its machine, whose power comes back after this time.
    Crash(Span),
}

/// A process on a machine.
pub struct Process {
    pub(super) machine: Rc<Machine>,
    pub(super) threads: RefCell<Vec<usize>>,
    alive: Cell<bool>,
    /// It dies after so many further polls of its tasks, and how.
    doom: Cell<Option<(u64, Doom)>>,
}

impl Machine {
    pub(super) fn new(number: usize, chance: &Chance) -> Rc<Self> {
        Rc::new(Self {
            number,
            up: Cell::new(true),
            processes: RefCell::default(),
            next_port: Cell::new(32_768),
            wall_shift: Cell::new(0),
            disk: Disk::new(number, chance),
            nth: Nth::default(),
        })
    }

    /// Its number, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Its address.
    pub fn address(&self) -> IpAddr {
        let number = u16::try_from(self.number + 1).expect("a few machines");
        let [high, low] = number.to_be_bytes();
        Ipv4Addr::new(10, 0, high, low).into()
    }

    /// Somebody sets its wall clock, so many microseconds off the truth.
    pub fn set_clock(&self, world: &World, off: i64) {
        self.wall_shift.set(off);
        self.lives(world, 5, "the wall clock is set");
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.up.get()
    }

    /// A port for a connection that it makes, or for a listener that asks for any.
    pub(super) fn free_port(&self) -> u16 {
        let port = self.next_port.get();
        self.next_port.set(if port == u16::MAX { 32_768 } else { port + 1 });
        port
    }

    /// Starts a process of so many threads, and gives each one's driver.
    pub fn start(self: &Rc<Self>, world: &Rc<World>, threads: usize) -> (Rc<Process>, Vec<Sim>) {
        let process = Rc::new(Process {
            machine: self.clone(),
            threads: RefCell::default(),
            alive: Cell::new(true),
            doom: Cell::new(None),
        });
        self.lives(world, 1, "a process starts");
        self.processes.borrow_mut().push(process.clone());
        let drivers = (0..threads).map(|_| Sim::new(world.clone(), world.thread(&process))).collect();
        (process, drivers)
    }

    /// Kills a process: its tasks are gone, its connections are closed by the kernel, what it has written stays.
    pub fn kill(&self, world: &Rc<World>, process: &Rc<Process>) {
        if process.alive.replace(false) {
            self.lives(world, 2, "a process is killed");
            self.bury(world, process);
            world.net.process_died(world, process);
        }
    }

    fn lives(&self, world: &World, step: u64, what: &str) {
        world.trace.add(world.now(), What::Life, &[self.number as u64, step]);
        world.tell(|| format!("machine {}: {what}", self.number));
    }

    fn bury(&self, world: &Rc<World>, process: &Rc<Process>) {
        for thread in process.threads.take() {
            world.end_thread(thread);
        }
        self.processes.borrow_mut().retain(|other| !Rc::ptr_eq(other, process));
    }

    /// The power fails: processes, connections and all that the disk had not made stable are gone.
    pub fn crash(&self, world: &Rc<World>) {
        if !self.up.replace(false) {
            return;
        }
        self.lives(world, 3, "the power fails");
        let processes = self.processes.borrow().clone();
        for process in processes {
            process.alive.set(false);
            self.bury(world, &process);
        }
        world.net.machine_died(self.number);
        self.disk.crash();
    }

    /// The power fails, and comes back after `span`.
    pub fn crash_for(self: &Rc<Self>, world: &Rc<World>, span: Span) {
        self.crash(world);
        let machine = self.clone();
        world.after(span, move |world| machine.boot(world));
    }

    /// The world ends: nobody closes anything any more.
    pub(super) fn forsake(&self) {
        self.processes.borrow().iter().for_each(|process| process.alive.set(false));
    }

    /// The power is back.
    pub fn boot(&self, world: &World) {
        self.up.set(true);
        self.lives(world, 4, "the power is back");
    }

    /// How long its disk, or its way to itself, takes at least.
    pub(super) const LOOPBACK: Span = Span::micros(15);
}

impl Process {
    /// Whether it lives.
    pub fn is_alive(&self) -> bool {
        self.alive.get()
    }

    /// It dies after so many further polls of its tasks: between any two steps of its code that wait.
    pub fn doom(&self, polls: u64, how: Doom) {
        self.doom.set(Some((polls, how)));
    }

    /// The end comes.
    pub(super) fn meet(self: &Rc<Self>, world: &Rc<World>, how: Doom) {
        match how {
            Doom::Kill => self.machine.kill(world, self),
            Doom::Crash(span) => self.machine.crash_for(world, span),
        }
    }

    /// Counts a poll; how it dies, if that was the last.
    pub(super) fn polled(&self) -> Option<Doom> {
        let (polls, how) = self.doom.get()?;
        self.doom.set(polls.checked_sub(1).map(|polls| (polls, how)));
        (polls == 0).then_some(how)
    }
}
