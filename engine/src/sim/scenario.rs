//! One run: a world drawn from its seed, mail through it while things go wrong, then peace, then the audit.

use super::chance::Chance;
use super::disk::{Ambush, Fails, Wear};
use super::ledger::{Accounts, Breach, Ledger};
use super::machine::Doom;
use super::net::Weather;
use super::sender::Sender;
use super::server::{self, Server};
use super::sink::{Sink, Vice};
use super::trace::What;
use super::world::World;
use crate::wire::{Span, Tick};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

/// How long, after everything was healed, until all that is owed must have arrived.
const PEACE_WAIT: Span = Span::minutes(30);
/// How long it is watched afterwards for what comes twice.
const QUIET_WAIT: Span = Span::seconds(60);

/// How often it is looked what failed, by what the disks say.
const RECORDS_WAIT: Span = Span::seconds(10);
/// The domain that takes nothing before peace, and the segments of hubs where there is one.
const STAYS: &str = "stays.test";
const SMALL_SEGMENT_BYTES: u64 = 64 << 10;

/// How far off wall clocks are, in microseconds.
pub(super) const HOUR: i64 = 3_600_000_000;
pub(super) const TEN_YEARS: i64 = 87_660 * HOUR;
pub(super) const BEFORE_1970: i64 = -6 * TEN_YEARS;

/// What a run is drawn from.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Shards of each server, at most.
    pub shards_max: usize,
    /// Hubs; with more than one there is a front end.
    pub hubs_max: usize,
    /// Messages of each sender, at most.
    pub messages_max: usize,
    /// Kinds of faults that may happen.
    pub faults: Faults,
    /// How long things go wrong.
    pub trouble: Span,
    /// In one world of so many, by its seed, there is a domain that takes nothing before peace, and segments are small: what
    /// stays has to be written again for space to come back. 0: in none.
    pub stays_once_in: u64,
    /// A bug planted in every server.
    #[cfg(any(test, feature = "bugs"))]
    pub bug: Option<crate::sys::planted::Bug>,
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Processes die and are told to stop.
    pub processes: bool,
    /// Machines lose their power.
    pub machines: bool,
    /// Disks fail, stall and are full.
    pub disks: bool,
    /// The network delays, cuts and resets.
    pub network: bool,
    /// Sinks misbehave.
    pub sinks: bool,
    /// What stands on disks rots.
    pub rot: bool,
    /// Wall clocks are wrong, and are set.
    pub clocks: bool,
}

impl Faults {
    /// All of them.
    pub const ALL: Faults =
        Faults { processes: true, machines: true, disks: true, network: true, sinks: true, rot: true, clocks: true };
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            shards_max: 3,
            hubs_max: 2,
            messages_max: 60,
            faults: Faults::ALL,
            trouble: Span::seconds(10),
            stays_once_in: 4,
            #[cfg(any(test, feature = "bugs"))]
            bug: None,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// What it was drawn from.
    pub seed: u64,
    /// The hash of everything that happened.
    pub trace: u64,
    /// Events in it.
    pub events: u64,
    /// Virtual milliseconds.
    pub millis: u64,
    /// Faults that were drawn.
    pub faults: u64,
    /// Times that a server was started.
    pub starts: u32,
    /// Segments that were given up because what little was live in them was written elsewhere.
    pub rewritten: u64,
    /// How many of what.
    pub accounts: Accounts,
    /// What was not as promised.
    #[serde(serialize_with = "as_text")]
    pub breaches: Vec<Breach>,
}

fn as_text<S: serde::Serializer>(breaches: &[Breach], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(breaches.iter().map(ToString::to_string))
}

/// Runs the world of this seed.
pub fn run(seed: u64, plan: Plan) -> Report {
    run_in(&World::new(seed, false), seed, plan)
}

/// The same, with its story.
pub fn run_with_story(seed: u64, plan: Plan) -> (Report, Vec<String>) {
    let world = World::new(seed, true);
    let report = run_in(&world, seed, plan);
    (report, world.story())
}

fn run_in(world: &Rc<World>, seed: u64, plan: Plan) -> Report {
    #[cfg(any(test, feature = "bugs"))]
    let _planted = crate::sys::planted::plant(plan.bug);
    let stays = plan.stays_once_in > 0 && seed % plan.stays_once_in == plan.stays_once_in - 1;
    let scenario = Scenario::build(world, plan, stays);
    if plan.faults.clocks {
        scenario.set_first_clocks();
    }
    let began = world.now();
    scenario.clone().trouble(began + plan.trouble);
    let ledger = &scenario.ledger;
    world.run(began + plan.trouble, || false);
    scenario.heal();
    let senders = &scenario.senders;
    let is_done = scenario.is_done_by(world.now() + PEACE_WAIT);
    if !is_done && senders.get() > 0 {
        ledger.breach("I-8", format!("{} senders were not served in peace", senders.get()));
    }
    world.run(world.now() + QUIET_WAIT, || false);
    // What was settled a minute ago does not come to life by a start.
    scenario.servers.iter().for_each(|server| server.crash(Span::seconds(1)));
    world.run(world.now() + QUIET_WAIT, || false);
    ledger.forget_records();
    scenario.read_failures();
    let breaches = ledger.audit();
    let report = Report {
        seed,
        trace: world.trace.hash(),
        events: world.trace.events(),
        millis: world.now().since(began).as_millis(),
        faults: scenario.drawn.get(),
        starts: scenario.servers.iter().map(|server| server.starts()).sum(),
        rewritten: scenario.servers.iter().map(|server| server.rewritten()).sum(),
        accounts: ledger.accounts(),
        breaches,
    };
    world.end();
    report
}

struct Scenario {
    world: Rc<World>,
    ledger: Rc<Ledger>,
    servers: Vec<Rc<Server>>,
    /// Where mail enters, and the domains that it is for.
    entries: Vec<SocketAddr>,
    domains: Vec<String>,
    vice: Rc<RefCell<Vice>>,
    /// When servers give a message up, if that is soon.
    expiry: Option<Span>,
    /// Of the domain that takes nothing before peace.
    refusal: Rc<RefCell<Vice>>,
    /// Senders that are not done.
    senders: Rc<Cell<usize>>,
    drawn: Cell<u64>,
    plan: Plan,
    chance: Chance,
}

fn at(machine: &super::machine::Machine, port: u16) -> SocketAddr {
    SocketAddr::new(machine.address(), port)
}

impl Scenario {
    fn build(world: &Rc<World>, plan: Plan, stays: bool) -> Rc<Self> {
        let ledger = Ledger::new(world);
        let chance = world.chance.branch();
        let vice = Rc::new(RefCell::new(Vice::default()));
        let mut hops = sinks(world, &ledger, &vice, &chance);
        let expiry = chance.once_in(3).then(|| chance.span(Span::seconds(5)..Span::seconds(40)));
        if let Some(expiry) = expiry {
            ledger.expires_after(expiry);
            // A report may expire as well, and nobody hears of that: there the record has to do.
            ledger.without_reports();
            hops.push(("gone.test".to_owned(), vec![at(&world.machine(), 25)]));
        }
        // Where senders get their reports nothing is refused: nobody would hear of it.
        let of_senders = ("sender.test".to_owned(), vec![sink(world, &ledger, &Rc::default(), &chance)]);
        let refusal = Rc::new(RefCell::new(Vice { greeting: 1, ..Vice::default() }));
        let mut domains: Vec<String> = hops.iter().map(|(domain, _)| domain.clone()).collect();
        if stays {
            // One in seven messages is for it, or fewer.
            domains = domains.iter().cycle().take(6 * domains.len()).cloned().collect();
            hops.push((STAYS.to_owned(), vec![sink(world, &ledger, &refusal, &chance)]));
            domains.push(STAYS.to_owned());
        }
        hops.push(of_senders);
        let hubs = 1 + chance.index(plan.hubs_max);
        let shards = || 1 + chance.index(plan.shards_max);
        let front = (hubs > 1).then(|| world.machine());
        let speaks_for_others = front.as_ref().map(|machine| machine.address());
        let mut servers = Vec::new();
        let mut entries = Vec::new();
        for _ in 0..hubs {
            let machine = world.machine();
            entries.push(at(&machine, 25));
            let mut settings = server::hub(at(&machine, 25), shards(), &hops, speaks_for_others);
            settings.delivery.expire_after = expiry.unwrap_or(settings.delivery.expire_after);
            settings.delivery.reports = expiry.is_none();
            if stays {
                settings.spool.segment_bytes = SMALL_SEGMENT_BYTES;
            }
            servers.push(Server::start(world, &ledger, &machine, settings));
        }
        if let Some(machine) = front {
            let settings = server::front_end(at(&machine, 25), shards(), &entries);
            servers.push(Server::start(world, &ledger, &machine, settings));
            entries = vec![at(&machine, 25)];
        }
        let scenario = Rc::new(Self {
            world: world.clone(),
            ledger,
            servers,
            entries,
            domains,
            vice,
            expiry,
            refusal,
            senders: Rc::default(),
            drawn: Cell::new(0),
            plan,
            chance,
        });
        for _ in 0..1 + scenario.chance.index(4) {
            let messages = 1 + scenario.chance.index(plan.messages_max);
            let pause = Span(plan.trouble.0 / scenario.chance.one_of(&[8, 40, 200]));
            let most = *scenario.chance.one_of(&[20_000, 100_000, 400_000]);
            scenario.sender(messages, pause, if stays { 10_000 } else { most });
        }
        if stays {
            (0..3).for_each(|_| scenario.sender(10 * plan.messages_max, Span(plan.trouble.0 / 20), 10_000));
        }
        scenario
    }

    /// Sends so many messages of at most so many octets, with pauses between its sessions.
    fn sender(&self, messages: usize, pause: Span, bytes_max: usize) {
        let (_, mut drivers) = self.world.machine().start(&self.world, 1);
        let sim = drivers.remove(0);
        let sender = Sender {
            sim: sim.clone(),
            to: self.entries.clone(),
            domains: self.domains.clone(),
            messages,
            until: Tick::NEVER,
            pause,
            bytes_max,
            ledger: self.ledger.clone(),
            chance: self.chance.branch(),
        };
        self.senders.set(self.senders.get() + 1);
        let senders = self.senders.clone();
        crate::io::driver::Driver::spawn(&sim, async move {
            sender.run().await;
            senders.set(senders.get() - 1);
        });
    }

    /// Draws a fault now and then until `until`.
    fn trouble(self: Rc<Self>, until: Tick) {
        let next = self.chance.span(Span::millis(20)..Span(self.plan.trouble.0 / 8));
        let scenario = self.clone();
        self.world.after(next, move |world| {
            if world.now() < until {
                scenario.fault();
                scenario.trouble(until);
            }
        });
    }

    fn fault(&self) {
        let kinds = self.plan.faults;
        let drawn = self.chance.below(16);
        let server = self.chance.one_of(&self.servers);
        self.world.trace.add(self.world.now(), What::Fault, &[drawn]);
        self.world.tell(|| format!("fault {drawn} at machine {}", server.machine.number()));
        self.drawn.set(self.drawn.get() + 1);
        match drawn {
            0 | 1 if kinds.processes => server.doom(Doom::Kill),
            2 if kinds.processes => server.stop(),
            3 if kinds.machines => server.crash(self.darkness()),
            4 if kinds.machines => server.doom(Doom::Crash(self.darkness())),
            5 if kinds.disks => self.wear(server),
            6 if kinds.network => self.cut(),
            7 if kinds.network => self.weather(),
            8 if kinds.network => self.world.net.reset_some(&self.world),
            9 if kinds.sinks => self.tempt(),
            10 if kinds.sinks => self.leave(),
            11..14 if kinds.disks && kinds.machines => self.ambush(server),
            14 if kinds.rot => self.rot(server),
            15 if kinds.clocks => self.set_clock(server),
            _ => self.drawn.set(self.drawn.get() - 1),
        }
    }

    fn darkness(&self) -> Span {
        self.chance.span(Span::millis(50)..Span::seconds(3))
    }

    /// No sink takes anything for a while: what was accepted has to wait.
    fn leave(&self) {
        self.vice.borrow_mut().greeting = 1;
        let vice = self.vice.clone();
        self.world
            .after(self.chance.span(Span::millis(100)..Span::seconds(4)), move |_| vice.borrow_mut().greeting = 0);
    }

    /// Wears a disk out for a while.
    fn wear(&self, server: &Server) {
        let disk = server.machine.disk.clone();
        let chance = &self.chance;
        let now_and_then = |most: u64| if chance.once_in(2) { chance.within(2..most) } else { 0 };
        *disk.wear.borrow_mut() = Wear {
            stall_once_in: now_and_then(60),
            short_once_in: now_and_then(20),
            write_error_once_in: now_and_then(60),
            sync_error_once_in: now_and_then(20),
            read_error_once_in: now_and_then(60),
            ..Wear::default()
        };
        if chance.once_in(4) {
            disk.capacity.set(disk.used() + chance.below(3 << 20));
        }
        self.world.after(chance.span(Span::millis(50)..Span::seconds(4)), move |_| disk.heal());
    }

    /// A slow disk, on which many messages share a write; one write of the next few fails or is the last one that ends, and
    /// the process or the machine dies while it matters what was promised of it.
    fn ambush(&self, server: &Rc<Server>) {
        let chance = &self.chance;
        let slow = chance.span(Span::millis(1)..Span::millis(20));
        let disk = server.machine.disk.clone();
        disk.wear.borrow_mut().latency = Span(slow.0 / 4)..slow;
        let wait = Span(slow.0 * chance.one_of(&[1, 1, 4]));
        let (wait, darkness) = (chance.span(Span::ZERO..wait), self.darkness());
        let is_killed = chance.once_in(3);
        let victim = server.clone();
        disk.lay(Ambush {
            passing: chance.below(10),
            fails: *chance.one_of(&[None, None, Some(Fails::InPart), Some(Fails::InWord)]),
            springs: Box::new(move |world| {
                world.after(wait, move |_| if is_killed { victim.kill() } else { victim.crash(darkness) });
            }),
        });
        if self.plan.faults.sinks && chance.below(3) > 0 {
            // What is promised now has nowhere to go before.
            self.leave();
        }
        (0..2).for_each(|_| self.sender(1 + chance.index(self.plan.messages_max / 4), slow, 20_000));
        self.world.after(chance.span(Span::seconds(1)..Span::seconds(4)), move |_| disk.heal());
    }

    /// What was taken and cannot leave rots, a message or two; then a start has to read it.
    fn rot(&self, server: &Rc<Server>) {
        self.leave();
        (0..2).for_each(|_| self.sender(1 + self.chance.index(self.plan.messages_max / 4), Span::millis(5), 20_000));
        let (victim, twice, is_killed) = (server.clone(), self.chance.once_in(2), self.chance.once_in(2));
        self.world.after(self.chance.span(Span::millis(20)..Span::millis(400)), move |_| {
            if victim.rot() && twice {
                victim.rot();
            }
            if is_killed {
                victim.kill();
            }
        });
    }

    /// No server has read its wall clock yet: it may be any.
    fn set_first_clocks(&self) {
        for server in &self.servers {
            server.machine.set_clock(&self.world, *self.chance.one_of(&[0, 0, TEN_YEARS, BEFORE_1970]));
        }
    }

    /// Sets a wall clock. What a start finds is as old as the clock says, so where messages live for seconds none is set forward.
    fn set_clock(&self, server: &Server) {
        let machine = &server.machine;
        let off = machine.wall_shift.get();
        let forward = if self.expiry.is_some() { off } else { off + HOUR };
        machine.set_clock(&self.world, *self.chance.one_of(&[forward, off - HOUR, BEFORE_1970.min(off)]));
    }

    /// Cuts the ways between a server and another machine, or one way only, for a while.
    fn cut(&self) {
        let machines = self.world.machines();
        let (one, other) = (self.chance.one_of(&self.servers).machine.number(), self.chance.index(machines));
        let both = self.chance.once_in(2);
        self.world.net.cut(one, other, true);
        self.world.net.cut(other, one, both);
        self.world.after(self.chance.span(Span::millis(20)..Span::seconds(8)), move |world| {
            world.net.cut(one, other, false);
            world.net.cut(other, one, false);
        });
    }

    fn weather(&self) {
        let chance = &self.chance;
        *self.world.net.weather.borrow_mut() = Weather {
            delay_max: chance.span(Span::micros(100)..Span::millis(80)),
            pause_once_in: if chance.once_in(2) { chance.within(10..200) } else { 0 },
            reset_once_in: if chance.once_in(3) { chance.within(200..2000) } else { 0 },
            ..Weather::default()
        };
    }

    fn tempt(&self) {
        let chance = &self.chance;
        let now_and_then = || if chance.once_in(2) { chance.within(3..30) } else { 0 };
        *self.vice.borrow_mut() = Vice {
            greeting: now_and_then(),
            defers: now_and_then(),
            refuses: now_and_then(),
            ends: now_and_then(),
            late: now_and_then(),
        };
    }

    /// Whether everything that was acknowledged is over by then, and no sender waits. What is over without having come
    /// stands on a disk alone.
    fn is_done_by(&self, by: Tick) -> bool {
        let is_done = || self.senders.get() == 0 && self.ledger.is_settled();
        loop {
            let next = if self.expiry.is_some() { self.world.now() + RECORDS_WAIT } else { by };
            if self.world.run(next.min(by), is_done) {
                return true;
            }
            if self.world.now() >= by {
                return false;
            }
            self.read_failures();
        }
    }

    fn read_failures(&self) {
        self.servers.iter().for_each(|server| server.read_failures());
    }

    /// Nothing goes wrong any more.
    fn heal(&self) {
        self.world.tell(|| "peace".to_owned());
        self.world.net.heal();
        *self.vice.borrow_mut() = Vice::default();
        *self.refusal.borrow_mut() = Vice::default();
        self.servers.iter().for_each(|server| server.machine.disk.heal());
    }
}

/// One host; its address.
fn sink(world: &Rc<World>, ledger: &Rc<Ledger>, vice: &Rc<RefCell<Vice>>, chance: &Chance) -> SocketAddr {
    let machine = world.machine();
    let (_, mut drivers) = machine.start(world, 1);
    let (sim, address) = (drivers.remove(0), at(&machine, 25));
    let sink = Sink {
        sim: sim.clone(),
        at: address,
        chunking: chance.once_in(2),
        ledger: ledger.clone(),
        vice: vice.clone(),
        chance: chance.branch(),
    };
    crate::io::driver::Driver::spawn(&sim, sink.run());
    address
}

/// Sinks for some domains: each of one host or two.
fn sinks(
    world: &Rc<World>,
    ledger: &Rc<Ledger>,
    vice: &Rc<RefCell<Vice>>,
    chance: &Chance,
) -> Vec<(String, Vec<SocketAddr>)> {
    let domains = 1 + chance.index(3);
    let host = || sink(world, ledger, vice, chance);
    (0..domains).map(|number| (format!("d{number}.test"), (0..1 + chance.index(2)).map(|_| host()).collect())).collect()
}
