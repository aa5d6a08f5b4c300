//! Fake hosts and connections around [`Queues`], driven by events in simulated time.

use super::super::*;
use crate::wire::{DeliveryType, Span};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

/// How a fake host behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Answers each message so long after the one before on the same connection.
    Up(Span),
    /// Refuses connections.
    Refuse,
    /// Lets connection attempts hang.
    Blackhole,
    /// Accepts and never greets; the client gives up after its timer.
    Mute(Span),
    /// Answers the first command of each message with 421.
    PushBack,
    /// Greets and says 503 to each MAIL.
    Unwilling,
    /// Takes messages and never answers.
    Stall,
    /// Takes no message, as its extensions say.
    Unfit,
    /// Answers each message with 4yz.
    Defer,
    /// Takes one message, answers it, closes.
    OneEach(Span),
    /// Accepts so many connections and refuses more.
    UpTo(u32, Span),
    /// Answers like `Up`, and takes no large message, as its extensions say.
    Small(Span),
}

#[derive(Debug)]
enum Event {
    Connected(ConnId),
    Failed(ConnId, Cause),
    Answer(ConnId),
}

#[derive(Debug)]
struct Conn {
    host: SocketAddr,
    ready: bool,
    held: VecDeque<Taken>,
}

/// How often a host that refuses from the first is tried within `span` while others work: each time its doubled wait is over.
pub fn tries_due(options: &Options, span: Span) -> usize {
    let (mut tries, mut at, mut wait) = (1, options.probe_wait, options.probe_wait);
    while at <= span {
        tries += 1;
        wait = Span((2 * wait.0).min(options.probe_wait_max.0));
        at = at + wait;
    }
    tries
}

/// A delivered message: record, when, by whom.
pub type Delivery = (u64, Tick, SocketAddr);

pub struct World {
    pub queues: Queues,
    pub now: Tick,
    pub hops: Vec<HopId>,
    pub modes: BTreeMap<SocketAddr, Mode>,
    /// Records of large messages.
    pub large: BTreeSet<u64>,
    pub delivered: Vec<Delivery>,
    /// Failed because no host takes them.
    pub failed: Vec<u64>,
    /// Given up, and when.
    pub expired: Vec<(u64, Tick)>,
    /// Attempts by host.
    pub connects: Vec<(Tick, SocketAddr)>,
    /// The most attempts that were under way at once, by host.
    pub attempts_peak: BTreeMap<SocketAddr, u32>,
    pub connections_peak: usize,
    pub window: u32,
    conns: BTreeMap<ConnId, Conn>,
    events: BTreeMap<(Tick, u64), Event>,
    sequence: u64,
    next_record: u64,
}

pub fn host(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], number))
}

pub fn key(name: &str) -> NextHopKey {
    NextHopKey { delivery: DeliveryType::SmartHost, domain: name.into(), connector: "".into() }
}

impl World {
    /// One next hop for each list of hosts; every host is up and takes 1 ms per message.
    pub fn new(options: Options, hops: &[&[u16]]) -> Self {
        let now = Tick(0) + Span::hours(1);
        let mut queues = Queues::new(options);
        let keys: Vec<NextHopKey> = (0..hops.len()).map(|index| key(&format!("hop{index}"))).collect();
        let hosts: Vec<Vec<HostAddress>> =
            hops.iter().map(|hosts| hosts.iter().map(|&number| HostAddress::equal(host(number))).collect()).collect();
        let mut ids = Vec::new();
        queues.install(keys.iter().zip(hosts.iter().map(Vec::as_slice)), now, &mut ids);
        let modes = hops.iter().flat_map(|hosts| hosts.iter());
        World {
            queues,
            now,
            hops: ids,
            modes: modes.map(|&number| (host(number), Mode::Up(Span::millis(1)))).collect(),
            large: BTreeSet::new(),
            delivered: Vec::new(),
            failed: Vec::new(),
            expired: Vec::new(),
            connects: Vec::new(),
            attempts_peak: BTreeMap::new(),
            connections_peak: 0,
            window: 8,
            conns: BTreeMap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            next_record: 0,
        }
    }

    /// One next hop of hosts with these names: the numbers are the addresses of each, in the order of the resolver.
    pub fn named(options: Options, names: &[&[u16]]) -> Self {
        let mut world = Self::new(options, &[&names.concat()]);
        let addresses = names.iter().flat_map(|name| (0..).zip(name.iter()));
        let hosts: Vec<HostAddress> =
            addresses.map(|(preference, &number)| HostAddress { preference, address: host(number) }).collect();
        world.queues.install([(&key("hop0"), hosts.as_slice())], world.now, &mut Vec::new());
        world
    }

    pub fn set(&mut self, number: u16, mode: Mode) {
        self.modes.insert(host(number), mode);
    }

    /// These hosts take no message from now on, as their extensions say.
    pub fn unfit(&mut self, numbers: &[u16]) {
        numbers.iter().for_each(|&number| self.set(number, Mode::Unfit));
    }

    /// A reload: the first next hop has these hosts from now on; those it had not are up.
    pub fn reinstall(&mut self, hosts: &[u16]) {
        for &number in hosts {
            self.modes.entry(host(number)).or_insert(Mode::Up(Span::millis(1)));
        }
        let hosts: Vec<HostAddress> = hosts.iter().map(|&number| HostAddress::equal(host(number))).collect();
        self.queues.install([(&key("hop0"), hosts.as_slice())], self.now, &mut Vec::new());
    }

    /// The host dies: its connections break at once, with their messages unanswered, and it refuses new ones.
    pub fn kill(&mut self, number: u16) {
        self.set(number, Mode::Refuse);
        let dead = host(number);
        let broken: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| conn.host == dead && conn.ready).map(|(&id, _)| id).collect();
        for id in broken {
            self.break_connection(id, Cause::Broken);
        }
    }

    pub fn send(&mut self, hop: usize) -> u64 {
        self.send_aged(hop, Span::ZERO)
    }

    /// One that is large, before all others.
    pub fn send_large(&mut self, hop: usize) -> u64 {
        self.large.insert(self.next_record + 1);
        self.send_as(hop, Span::ZERO, Priority::High)
    }

    /// One that was received so long ago, before a restart.
    pub fn send_aged(&mut self, hop: usize, age: Span) -> u64 {
        self.send_as(hop, age, Priority::Normal)
    }

    fn send_as(&mut self, hop: usize, age: Span, priority: Priority) -> u64 {
        self.next_record += 1;
        let new = NewEntry { record: self.next_record, recipients: &[1], bytes: 4096, age, priority, content: None };
        self.queues.enqueue(self.hops[hop], new, self.now);
        self.act();
        self.next_record
    }

    /// Sends one message to the hop every `each`, for `span`.
    pub fn send_for(&mut self, hop: usize, each: Span, span: Span) {
        let end = self.now + span;
        while self.now < end {
            self.send(hop);
            self.run_for(each);
        }
    }

    /// Sends one message to each of these hops.
    pub fn send_to_each(&mut self, hops: impl IntoIterator<Item = usize>) {
        for hop in hops {
            self.send(hop);
        }
    }

    /// Sends one message to each of these hops every `each`, for `span`.
    pub fn send_all_for(&mut self, hops: std::ops::Range<usize>, each: Span, span: Span) {
        let end = self.now + span;
        while self.now < end {
            self.send_to_each(hops.clone());
            self.run_for(each);
        }
    }

    pub fn run_for(&mut self, span: Span) {
        let end = self.now + span;
        self.act();
        let mut turns = 0;
        loop {
            let event = self.events.keys().next().map_or(Tick::NEVER, |&(at, _)| at);
            let next = event.min(self.queues.next_timer());
            if next > end {
                break;
            }
            turns = if next > self.now { 0 } else { turns + 1 };
            assert!(turns < 100_000, "the world turns without moving at {:?}", self.now);
            self.now = self.now.max(next);
            if self.queues.next_timer() <= self.now {
                self.queues.on_timer(self.now);
            }
            if event <= self.now {
                let (_, event) = self.events.pop_first().expect("seen above");
                self.happen(event);
            }
            self.act();
        }
        self.now = end;
    }

    /// Records delivered at or after `from`.
    pub fn delivered_since(&self, from: Tick) -> usize {
        self.delivered.iter().filter(|(_, at, _)| *at >= from).count()
    }

    pub fn delivered_by(&self, number: u16) -> usize {
        self.delivered.iter().filter(|(_, _, by)| *by == host(number)).count()
    }

    pub fn connects_to(&self, number: u16) -> usize {
        self.connects.iter().filter(|(_, to)| *to == host(number)).count()
    }

    /// Every record sent was delivered at least once.
    pub fn assert_nothing_lost(&self) {
        let seen: BTreeSet<u64> = self.delivered.iter().map(|(record, _, _)| *record).collect();
        assert_eq!(seen.len() as u64, self.next_record, "every message arrives");
        assert_eq!(self.queues.messages(), 0);
    }

    /// Every record sent was delivered, or no host takes it.
    pub fn assert_all_left(&self) {
        let seen: BTreeSet<u64> =
            self.delivered.iter().map(|(record, ..)| *record).chain(self.failed.clone()).collect();
        assert_eq!((seen.len() as u64, self.queues.messages()), (self.next_record, 0));
    }

    fn after(&mut self, span: Span, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + span, self.sequence), event);
    }

    fn act(&mut self) {
        let mut actions = 0;
        while let Some(action) = self.queues.next_action(self.now) {
            actions += 1;
            assert!(actions < 100_000, "the scheduler comes to rest");
            match action {
                Action::Connect { conn, host, by, .. } => self.connect(conn, host.address, by),
                Action::Feed { conn } => self.feed(conn),
                Action::Close { conn } => drop(self.conns.remove(&conn).expect("only what is open is closed")),
                Action::Expire { entry } => {
                    self.expired.push((self.queues.find(entry).expect("it waits").record, self.now));
                    assert_eq!(self.queues.expire(entry, self.now), None);
                }
                Action::Shed { .. }
                | Action::GiveBack { .. }
                | Action::Lend { .. }
                | Action::Await { .. }
                | Action::Serve { .. }
                | Action::Leave { .. }
                | Action::Recall { .. }
                | Action::Remove { .. }
                | Action::Reroute { .. } => {
                    panic!("there is one shard, and its routes stay")
                }
            }
        }
        self.connections_peak = self.connections_peak.max(self.conns.len());
        self.queues.assert_places(self.now);
    }

    fn connect(&mut self, id: ConnId, host: SocketAddr, by: Tick) {
        self.connects.push((self.now, host));
        let open = self.conns.values().filter(|conn| conn.host == host).count() as u32;
        self.conns.insert(id, Conn { host, ready: false, held: VecDeque::new() });
        let attempts = self.conns.values().filter(|conn| conn.host == host && !conn.ready).count() as u32;
        let peak = self.attempts_peak.entry(host).or_default();
        *peak = attempts.max(*peak);
        let quick = Span::micros(100);
        match self.modes[&host] {
            Mode::Refuse => self.after(quick, Event::Failed(id, Cause::Refused)),
            Mode::UpTo(most, _) if open >= most => self.after(quick, Event::Failed(id, Cause::Greeting(421))),
            Mode::Blackhole => self.after(by.since(self.now), Event::Failed(id, Cause::TimedOut)),
            Mode::Mute(wait) => self.after(wait, Event::Failed(id, Cause::TimedOut)),
            _ => self.after(quick, Event::Connected(id)),
        }
    }

    fn feed(&mut self, id: ConnId) {
        let room = Room { messages: u32::MAX, bytes: u64::MAX };
        let mut taken = Vec::new();
        self.queues.take(id, room, self.now, &mut taken);
        let conn = self.conns.get_mut(&id).expect("only open connections are fed");
        let was_idle = conn.held.is_empty();
        let mode = self.modes[&conn.host];
        let large = &self.large;
        let unfit = |taken: &Taken| match mode {
            Mode::Unfit => true,
            Mode::Small(_) => large.contains(&taken.record),
            _ => false,
        };
        let (unfit, fit): (Vec<_>, Vec<_>) = taken.into_iter().partition(unfit);
        conn.held.extend(fit);
        unfit.iter().for_each(|taken| self.turn_away(id, taken));
        let conn = &self.conns[&id];
        if !was_idle || conn.held.is_empty() {
            return;
        }
        self.await_answer(id, mode);
    }

    /// What the host of a connection cannot take goes to another, if there is one.
    fn turn_away(&mut self, id: ConnId, taken: &Taken) {
        if self.queues.has_other_host(id, Some(taken.id)) {
            assert_eq!(self.queues.finish(taken.id, Outcome::Elsewhere, self.now), Fate::Waits);
        } else {
            self.queues.finish(taken.id, Outcome::Failed, self.now);
            self.failed.push(taken.record);
        }
    }

    /// A host that has taken messages without answering says now that it cannot take them.
    pub fn turn_away_all(&mut self, number: u16) {
        let at = host(number);
        let conns: Vec<ConnId> = self.conns.iter().filter(|(_, conn)| conn.host == at).map(|(&id, _)| id).collect();
        for id in conns {
            let held = std::mem::take(&mut self.conns.get_mut(&id).expect("seen above").held);
            held.iter().for_each(|taken| self.turn_away(id, taken));
        }
    }

    fn await_answer(&mut self, id: ConnId, mode: Mode) {
        match mode {
            Mode::Up(service) | Mode::OneEach(service) | Mode::UpTo(_, service) | Mode::Small(service) => {
                self.after(service, Event::Answer(id))
            }
            Mode::Unfit | Mode::Stall | Mode::Mute(_) | Mode::Blackhole => {}
            Mode::PushBack | Mode::Unwilling | Mode::Defer | Mode::Refuse => {
                self.after(Span::micros(100), Event::Answer(id))
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Connected(id) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.ready = true;
                    self.queues.connected(id, self.window, self.now);
                }
            }
            Event::Failed(id, cause) => {
                self.conns.remove(&id);
                self.queues.closed(id, Some(cause), self.now);
            }
            Event::Answer(id) => self.answer(id),
        }
    }

    fn answer(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let (host, mode) = (conn.host, self.modes[&conn.host]);
        if mode == Mode::PushBack {
            return self.break_connection(id, Cause::PushBack);
        }
        if mode == Mode::Unwilling {
            return self.break_connection(id, Cause::Mail(503));
        }
        if mode == Mode::Stall {
            return;
        }
        let Some(first) = conn.held.pop_front() else { return };
        let outcome = if mode == Mode::Defer { Outcome::Deferred } else { Outcome::Delivered };
        let fate = self.queues.finish(first.id, outcome, self.now);
        if outcome == Outcome::Delivered {
            assert!(matches!(fate, Fate::Gone { .. }));
            self.delivered.push((first.record, self.now, host));
        }
        if matches!(mode, Mode::OneEach(_)) {
            return self.break_connection(id, Cause::Broken);
        }
        self.feed(id);
        if self.conns.get(&id).is_some_and(|conn| !conn.held.is_empty()) && self.pending_answers(id) == 0 {
            self.await_answer(id, mode);
        }
    }

    fn pending_answers(&self, id: ConnId) -> usize {
        self.events.values().filter(|event| matches!(event, Event::Answer(at) if *at == id)).count()
    }

    /// The first message under way was begun, the others not.
    fn break_connection(&mut self, id: ConnId, cause: Cause) {
        let conn = self.conns.remove(&id).expect("open");
        for (at, taken) in conn.held.iter().enumerate().rev() {
            let outcome = match (at, cause) {
                (0, Cause::Broken) => Outcome::Unknown,
                (0, _) => Outcome::Interrupted,
                _ => Outcome::NotAttempted,
            };
            self.queues.finish(taken.id, outcome, self.now);
        }
        self.queues.closed(id, Some(cause), self.now);
    }
}
