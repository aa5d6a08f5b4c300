//! The sender's shell: connections, pace, the end.

use super::lane::{Lane, Pacing};
use super::talk::{Part, Talk, Workload};
use super::{SendOptions, Transfer};
use crate::clock::{process_cpu, thread_cpu};
use crate::correlate::RecipientRefusal;
use crate::local::{Gate, either};
use crate::record::MessageRecord;
use crate::record::histogram::Times;
use crate::workload::recipients::Recipients;
use engine::io::driver::{Conn, Driver, IoCounts, Next, Notify, Remote};
use engine::io::launch::Program;
use engine::io::launch::be_punctual;
use engine::smtp::client::{ClientOptions, DownReason};
use engine::wire::{Mailbox, Span, Tick};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock};

/// Work may be waiting, or the end has come.
const LOOK: u32 = 1;
/// Faster schedules than one message in this time are taken up in groups: a timer costs more than a message.
const QUANTUM: Span = Span::micros(50);
/// A closed loop whose connections are all busy is looked at so often.
const CLOSED_LOOK: Span = Span::millis(1);
/// Before a broken connection is opened again: the first wait, doubled each time up to the longest.
const RECONNECT_FIRST: Span = Span::millis(10);
const RECONNECT_LONGEST: Span = Span::millis(500);
/// One attempt to connect.
const CONNECT_ATTEMPT: Span = Span::seconds(5);
/// QUIT is answered within this, or not waited for.
const QUITTING: Span = Span::seconds(1);

type Wake = Box<dyn Fn() + Send + Sync>;

/// What shards and the thread that started them share.
pub(super) struct Shared {
    started: AtomicU64,
    stops: AtomicU32,
    wakes: Vec<OnceLock<Wake>>,
    due: Vec<AtomicU64>,
    open: Vec<AtomicU64>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("shards", &self.wakes.len()).finish_non_exhaustive()
    }
}

/// How far a sender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Messages that became due.
    pub due: u64,
    /// Of those, without an outcome.
    pub open: u64,
}

impl Shared {
    pub(super) fn new(shards: usize) -> Arc<Self> {
        let zeros = || (0..shards).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self {
            started: AtomicU64::new(0),
            stops: AtomicU32::new(0),
            wakes: (0..shards).map(|_| OnceLock::new()).collect(),
            due: zeros(),
            open: zeros(),
        })
    }

    fn wake_all(&self) {
        self.wakes.iter().filter_map(OnceLock::get).for_each(|wake| wake());
    }

    pub(super) fn begin(&self, at: Tick) {
        self.started.store(at.0, Ordering::Release);
        self.wake_all();
    }

    pub(super) fn stop(&self) {
        self.stops.fetch_add(1, Ordering::AcqRel);
        self.wake_all();
    }

    pub(super) fn progress(&self) -> Progress {
        let sum = |of: &[AtomicU64]| of.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        Progress { due: sum(&self.due), open: sum(&self.open) }
    }
}

/// What one shard has to report.
#[derive(Debug)]
pub(super) struct ShardReport {
    pub(super) shard: usize,
    pub(super) records: Vec<MessageRecord>,
    pub(super) refusals: Vec<RecipientRefusal>,
    /// The first 4yz or 5yz, and when it was read.
    pub(super) first_refusal: Option<(Tick, String)>,
    /// User and system time from the end of the warm-up to the end of the schedule, and how long that was.
    pub(super) cpu: Used,
    pub(super) cpu_over: Span,
    pub(super) counts: IoCounts,
    pub(super) connect: Times,
    pub(super) greeting: Times,
    pub(super) hello: Times,
    /// Connections that were greeted, from the first one on.
    pub(super) connections: u64,
    /// Connections that ended before we wanted.
    pub(super) broken: u64,
    /// Attempts to connect that failed.
    pub(super) refused: u64,
    pub(super) stopped: bool,
    pub(super) drained: bool,
}

/// User and system time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Used {
    /// Of this thread.
    pub(super) thread: Span,
    /// Of the process: what waits for the threads and shows how far they are costs as well.
    pub(super) process: Span,
}

impl Used {
    fn now() -> Self {
        Self { thread: thread_cpu(), process: process_cpu() }
    }

    fn since(self, before: Self) -> Self {
        let since = |now: Span, before: Span| Span(now.0.saturating_sub(before.0));
        Self { thread: since(self.thread, before.thread), process: since(self.process, before.process) }
    }
}

/// The program that every shard runs.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) options: Arc<SendOptions>,
    pub(super) client: Arc<ClientOptions>,
    pub(super) recipients: Arc<Recipients>,
    pub(super) mailboxes: Arc<Vec<Mailbox>>,
    pub(super) shared: Arc<Shared>,
    pub(super) ready: Arc<Mutex<mpsc::Sender<(usize, String)>>>,
    pub(super) report: Arc<Mutex<mpsc::Sender<ShardReport>>>,
}

type Handle<D> = <<D as Driver>::Conn as Conn>::Handle;

struct World<D: Driver> {
    driver: D,
    sender: Sender,
    shard: usize,
    load: Workload,
    lane: RefCell<Lane>,
    begun: Cell<bool>,
    slots: BTreeMap<usize, Slot<Handle<D>>>,
    /// Slots to be asked when something is due, the one longest idle first. Some may have found work by themselves.
    idle: RefCell<VecDeque<usize>>,
    /// Something happened that the pace keeper has to see: a message ended, a stop, the start.
    changed: Gate,
    /// Opens at what cannot wait for the next message to become due: a stop, or a connection that ended and gave messages back.
    urgent: Gate,
    stops: Cell<u32>,
    /// No message will be offered any more.
    closing: Cell<bool>,
    ready: Cell<usize>,
    last_error: RefCell<String>,
    connect: RefCell<[Times; 3]>,
    connections: Cell<u64>,
    broken: Cell<u64>,
    refused: Cell<u64>,
    talking: Cell<usize>,
}

/// The place of one connection after another.
struct Slot<H> {
    handle: RefCell<Option<H>>,
    /// It stands in `idle`.
    listed: Cell<bool>,
    /// It can take a message now.
    has_room: Cell<bool>,
}

impl<H: Notify> Slot<H> {
    fn empty() -> Self {
        Self { handle: RefCell::new(None), listed: Cell::new(false), has_room: Cell::new(false) }
    }

    fn note(&self) {
        if let Some(handle) = &*self.handle.borrow() {
            handle.note(LOOK);
        }
    }
}

impl Program for Sender {
    async fn run<D: Driver>(self, driver: D, shard: usize) {
        if self.options.punctual {
            be_punctual();
        }
        let shared = self.shared.clone();
        let (ready, report) = (self.ready.clone(), self.report.clone());
        let world = Rc::new(World::new(self, driver.clone(), shard));
        let remote = driver.remote();
        let _ = shared.wakes[shard].set(Box::new(move || remote.wake()));
        driver.spawn(listen(world.clone()));
        for &slot in world.slots.keys() {
            world.talking.set(world.talking.get() + 1);
            driver.spawn(keep_talking(world.clone(), slot));
        }
        world.await_connections(world.slots.len()).await;
        say(&ready, (world.ready.get(), world.last_error.borrow().clone()));
        while !world.begun.get() && world.stops.get() == 0 {
            world.changed.opened().await;
        }
        let (cpu, cpu_over) = keep_pace(&world).await;
        let drained = world.end().await;
        say(&report, world.report(cpu, cpu_over, drained));
    }
}

fn say<T>(channel: &Mutex<mpsc::Sender<T>>, what: T) {
    if let Ok(channel) = channel.lock() {
        // Nobody listens when the sender was given up.
        let _ = channel.send(what);
    }
}

impl Sender {
    /// The connections of one shard.
    fn slots(&self, shard: usize) -> std::ops::Range<usize> {
        let (connections, shards) = (self.options.connections, self.options.cores.len());
        connections * shard / shards..connections * (shard + 1) / shards
    }
}

impl<D: Driver> World<D> {
    fn new(sender: Sender, driver: D, shard: usize) -> Self {
        let options = &sender.options;
        let slots = sender.slots(shard).map(|slot| (slot, Slot::empty())).collect();
        let load = Workload {
            contents: options.contents.prepare(),
            source: options.contents.clone(),
            recipients: sender.recipients.clone(),
            mailboxes: sender.mailboxes.clone(),
            run: options.run,
            sender_domain: options.sender_domain.clone(),
        };
        let lane = Lane::new(&options.pacing, shard, options.cores.len(), Tick::NEVER);
        Self {
            load,
            lane: RefCell::new(lane),
            driver,
            sender,
            shard,
            begun: Cell::new(false),
            slots,
            idle: RefCell::default(),
            changed: Gate::default(),
            urgent: Gate::default(),
            stops: Cell::new(0),
            closing: Cell::new(false),
            ready: Cell::new(0),
            last_error: RefCell::default(),
            connect: RefCell::default(),
            connections: Cell::new(0),
            broken: Cell::new(0),
            refused: Cell::new(0),
            talking: Cell::new(0),
        }
    }

    fn options(&self) -> &SendOptions {
        &self.sender.options
    }

    async fn await_connections(&self, wanted: usize) {
        let until = self.driver.now() + self.options().connect_wait;
        while self.ready.get() < wanted && self.driver.now() < until && self.stops.get() == 0 {
            either(self.changed.opened(), self.driver.sleep_until(until)).await;
        }
    }

    /// Takes over what the starting thread changed.
    fn look(&self) {
        let shared = &self.sender.shared;
        let started = shared.started.load(Ordering::Acquire);
        if started != 0 && !self.begun.replace(true) {
            let options = self.options();
            let lane = Lane::new(&options.pacing, self.shard, options.cores.len(), Tick(started));
            *self.lane.borrow_mut() = lane;
        }
        self.stops.set(shared.stops.load(Ordering::Acquire));
        if self.stops.get() > 0 {
            self.lane.borrow_mut().stop();
        }
        self.changed.open();
        self.urgent.open();
    }

    /// Wakes as many connections with room as there are messages waiting.
    fn wake_idle(&self, messages: usize) {
        let mut idle = self.idle.borrow_mut();
        let mut left = messages;
        while let Some(slot) = (left > 0).then(|| idle.pop_front()).flatten().and_then(|slot| self.slots.get(&slot)) {
            slot.listed.set(false);
            if slot.has_room.get() {
                slot.note();
                left -= 1;
            }
        }
    }

    fn note_all(&self) {
        self.slots.values().for_each(Slot::note);
    }

    /// Gives a connection what waits for it, and queues what it has to say.
    fn take_turn(
        &self,
        conn: &mut D::Conn,
        talk: &mut Talk,
        (number, slot): (usize, &Slot<Handle<D>>),
        quitting: bool,
    ) {
        let mut lane = self.lane.borrow_mut();
        if self.begun.get() && !quitting {
            talk.offer(&mut lane, &self.load, &|| self.driver.precise_now());
            slot.has_room.set(talk.has_room());
            if slot.has_room.get() && !slot.listed.replace(true) {
                self.idle.borrow_mut().push_back(number);
            }
        }
        talk.flush(&mut lane, &self.load, self.driver.now(), |part| match part {
            Part::Text(text) => conn.put(text),
            Part::Body(slice) => conn.push(slice.clone()),
        });
        if lane.counts().1 == 0 {
            self.changed.open();
        }
    }

    fn publish(&self) {
        let (due, open) = self.lane.borrow().counts();
        let shared = &self.sender.shared;
        shared.due[self.shard].store(due as u64, Ordering::Relaxed);
        shared.open[self.shard].store(open as u64, Ordering::Relaxed);
    }

    /// Says goodbye on every connection; `false` when messages are without an outcome.
    async fn end(&self) -> bool {
        let drained = self.lane.borrow().is_finished(self.driver.now());
        self.closing.set(true);
        self.changed.open();
        self.note_all();
        let until = self.driver.now() + QUITTING;
        while self.talking.get() > 0 && self.driver.now() < until {
            either(self.changed.opened(), self.driver.sleep_until(until)).await;
        }
        drained
    }

    fn report(&self, cpu: Used, cpu_over: Span, drained: bool) -> ShardReport {
        let mut lane = self.lane.replace(Lane::new(&self.options().pacing, 0, 1, Tick::NEVER));
        let first_refusal = lane.take_first_refusal().map(|(at, reply)| (at, reply.to_string()));
        let (records, refusals) = lane.into_records();
        let [connect, greeting, hello] = self.connect.take();
        ShardReport {
            shard: self.shard,
            records,
            refusals,
            first_refusal,
            cpu,
            cpu_over,
            counts: self.driver.counts(),
            connect,
            greeting,
            hello,
            connections: self.connections.get(),
            broken: self.broken.get(),
            refused: self.refused.get(),
            stopped: self.stops.get() > 0,
            drained,
        }
    }
}

/// Hears the starting thread.
async fn listen<D: Driver>(world: Rc<World<D>>) {
    loop {
        world.driver.woken().await;
        world.look();
    }
}

/// Takes up what is due when it is due, until everything has an outcome or the drain is over. Gives the CPU time between
/// the end of the warm-up and the end of the schedule.
async fn keep_pace<D: Driver>(world: &Rc<World<D>>) -> (Used, Span) {
    let driver = &world.driver;
    let options = world.options();
    let start = Tick(world.sender.shared.started.load(Ordering::Acquire));
    let end = start + options.pacing.length();
    let meter = Rc::new(Meter { from: start + options.warm_up, until: end, marks: RefCell::default() });
    driver.spawn(meter.clone().run(driver.clone()));
    // Closed loops begin by themselves: every connection that is ready looks.
    driver.sleep_until(start).await;
    world.note_all();
    let mut give_up = end + options.drain;
    loop {
        let now = driver.precise_now();
        let (waiting, next, finished) = {
            let mut lane = world.lane.borrow_mut();
            lane.take_due(now);
            (lane.waiting(), lane.next_due(), lane.is_finished(now))
        };
        world.publish();
        if world.stops.get() > 0 {
            give_up = give_up.min(now + options.drain);
        }
        if finished || now >= give_up || world.stops.get() > 1 {
            return meter.read(driver.now());
        }
        world.wake_idle(waiting);
        match next {
            Some(at) if matches!(options.pacing, Pacing::ClosedAt(_)) && at <= now => {
                world.wake_idle(1);
                driver.sleep(CLOSED_LOOK).await;
            }
            Some(at) => {
                either(world.urgent.opened(), driver.sleep_until(at.max(now + QUANTUM))).await;
            }
            None => {
                either(world.changed.opened(), driver.sleep_until(give_up)).await;
            }
        }
    }
}

/// CPU time between two instants.
struct Meter {
    from: Tick,
    until: Tick,
    marks: RefCell<Vec<(Tick, Used)>>,
}

impl Meter {
    async fn run<D: Driver>(self: Rc<Self>, driver: D) {
        for at in [self.from, self.until] {
            driver.sleep_until(at).await;
            self.marks.borrow_mut().push((driver.precise_now(), Used::now()));
        }
    }

    /// CPU time, and over how long; when stopped early, up to `now`.
    fn read(&self, now: Tick) -> (Used, Span) {
        let marks = self.marks.borrow();
        match marks[..] {
            [from, until, ..] => (until.1.since(from.1), until.0.since(from.0)),
            [from] => (Used::now().since(from.1), now.since(from.0)),
            [] => (Used::default(), Span::ZERO),
        }
    }
}

/// One connection after another on one slot.
async fn keep_talking<D: Driver>(world: Rc<World<D>>, number: usize) {
    let slot = world.slots.get(&number).expect("a slot of this shard");
    let targets = &world.options().targets;
    let (mut attempt, mut wait) = (number, RECONNECT_FIRST);
    while !world.closing.get() {
        let target = targets[attempt % targets.len()];
        let asked = world.driver.precise_now();
        let spoke = match world.driver.connect(target, asked + CONNECT_ATTEMPT).await {
            Ok(conn) => talk(&world, conn, (number, slot), asked).await,
            Err(error) => {
                world.refused.set(world.refused.get() + 1);
                *world.last_error.borrow_mut() = format!("{target}: {error}");
                false
            }
        };
        if world.closing.get() {
            break;
        }
        if spoke {
            wait = RECONNECT_FIRST;
        } else {
            attempt += 1;
            let again = world.driver.now() + wait;
            while world.driver.now() < again && !world.closing.get() {
                either(world.driver.sleep_until(again), world.changed.opened()).await;
            }
            wait = RECONNECT_LONGEST.min(wait + wait);
        }
    }
    world.talking.set(world.talking.get() - 1);
    world.changed.open();
}

/// One connection's life; whether it ever was of use.
async fn talk<D: Driver>(
    world: &World<D>,
    mut conn: D::Conn,
    (number, slot): (usize, &Slot<Handle<D>>),
    asked: Tick,
) -> bool {
    let connected = world.driver.precise_now();
    *slot.handle.borrow_mut() = Some(conn.handle());
    let mut talk = Talk::new(world.sender.client.clone(), connected);
    let reason = converse(world, &mut conn, &mut talk, (number, slot)).await;
    *slot.handle.borrow_mut() = None;
    slot.has_room.set(false);
    let us = |from: Tick, to: Tick| to.since(from).as_micros();
    let Some(ready) = talk.ready.filter(|_| talk.useless.is_none()) else {
        *world.last_error.borrow_mut() = format!("{}: {}", conn.peer(), talk.why(reason));
        return false;
    };
    let greeted = talk.greeted.unwrap_or(connected);
    let mut times = world.connect.borrow_mut();
    times[0].record(us(asked, connected));
    times[1].record(us(connected, greeted));
    times[2].record(us(greeted, ready));
    if !world.closing.get() {
        world.broken.set(world.broken.get() + 1);
        world.ready.set(world.ready.get().saturating_sub(1));
    }
    world.changed.open();
    true
}

async fn converse<D: Driver>(
    world: &World<D>,
    conn: &mut D::Conn,
    talk: &mut Talk,
    (number, slot): (usize, &Slot<Handle<D>>),
) -> DownReason {
    let driver = &world.driver;
    let now = || driver.precise_now();
    let (mut counted, mut quitting) = (false, false);
    loop {
        if talk.is_ready() && !counted && world.options().transfer == Transfer::Bdat && !talk.offers_chunking() {
            talk.useless = Some("it does not offer CHUNKING");
            return DownReason::Closing;
        }
        if talk.is_ready() && !counted {
            counted = true;
            world.connections.set(world.connections.get() + 1);
            world.ready.set(world.ready.get() + 1);
            world.changed.open();
        }
        if world.closing.get() && !quitting {
            if !talk.is_ready() {
                // Nothing to say goodbye to.
                return DownReason::Quit;
            }
            quitting = true;
            talk.quit(driver.now());
        }
        if !quitting && talk.is_over() {
            quitting = true;
            talk.quit(driver.now());
        }
        world.take_turn(conn, talk, (number, slot), quitting);
        let by = talk.deadline(conn.unsent() > 0);
        let next = conn.next(by, |bytes| talk.see(bytes, &mut world.lane.borrow_mut(), now())).await;
        let down = match next {
            Next::Bytes(down) => down,
            Next::Room => {
                talk.on_room(conn.sent_at());
                None
            }
            Next::Note(_) | Next::Filled(..) => None,
            Next::End | Next::Broken(_) => talk.on_lost(&mut world.lane.borrow_mut(), now()),
            Next::Deadline => talk.on_timeout(&mut world.lane.borrow_mut(), conn, now()),
        };
        if let Some(reason) = down {
            world.changed.open();
            world.urgent.open();
            return reason;
        }
    }
}
