//! Sparse segments are rewritten, and each of its writes in turn is the last one, fails, or finds the disk full. One hub; one
//! of its next hops takes nothing until the end, so that what goes there stays and is moved. Everything else has left, and its
//! outcomes are durable, before that begins: no window is open, and nothing comes twice.

use crate::io::driver::Driver;
use crate::settings::Durability;
use crate::sim::disk::{Ambush, Fails};
use crate::sim::ledger::Ledger;
use crate::sim::sender::Sender;
use crate::sim::server::{self, Server};
use crate::sim::sink::{Sink, Vice};
use crate::sim::world::World;
use crate::track::counters::Counter;
use crate::wire::{Span, Tick};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

/// Messages, of which some have recipients that take them, some such that do not, some of both.
const MESSAGES: usize = 240;
/// One name in so many is of those that do not.
const STAYS_ONCE_IN: usize = 7;
/// Octets of a segment.
const SEGMENT_BYTES: u64 = 64 << 10;
/// More writes than rewriting all of them takes.
const WRITES_MAX: u64 = 400;

struct Scene {
    world: Rc<World>,
    ledger: Rc<Ledger>,
    hub: Rc<Server>,
    at: SocketAddr,
    refusal: Rc<RefCell<Vice>>,
}

/// How the story of one write goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The process is killed behind it.
    Killed,
    /// The power fails behind it.
    Dark,
    /// The power fails, and any of its sectors are on the disk.
    Torn,
    /// It gets EIO, and any of its sectors are on the disk.
    Fails,
    /// It gets EIO, and all of it is on the disk.
    FailsInWord,
}

impl Scene {
    /// Everything was taken, and what leaves has left.
    fn new(durability: Durability) -> Self {
        let world = World::new(12, false);
        let ledger = Ledger::new(&world);
        let machine = world.machine();
        let at = SocketAddr::new(machine.address(), 25);
        let refusal = Rc::new(RefCell::new(Vice { greeting: 1, ..Vice::default() }));
        let hop = |name: &str, vice: Rc<RefCell<Vice>>| {
            let far = world.machine();
            let (sim, at) = (far.start(&world, 1).1.remove(0), SocketAddr::new(far.address(), 25));
            let (ledger, chance) = (ledger.clone(), world.chance.branch());
            sim.spawn(Sink { sim: sim.clone(), at, chunking: true, ledger, vice, chance }.run());
            (name.to_owned(), vec![at])
        };
        let hops = [hop("leaves.test", Rc::default()), hop("stays.test", refusal.clone())];
        let mut settings = server::hub(at, 1, &hops, None);
        settings.spool.segment_bytes = SEGMENT_BYTES;
        settings.server.durability = durability;
        let hub = Server::start(&world, &ledger, &machine, settings);
        let scene = Self { world, ledger, hub, at, refusal };
        let sent = scene.send(MESSAGES);
        let taken = || sent.get() && scene.hub.counted(Counter::SettlesWaiting) == 0;
        assert!(scene.run(60, taken), "{}", scene.ledger.accounts());
        scene
    }

    /// Sends so many messages, and says when that is done.
    fn send(&self, messages: usize) -> Rc<Cell<bool>> {
        let sim = self.world.machine().start(&self.world, 1).1.remove(0);
        let mut domains = vec!["leaves.test".to_owned(); STAYS_ONCE_IN - 1];
        domains.push("stays.test".to_owned());
        let sender = Sender {
            sim: sim.clone(),
            to: vec![self.at],
            domains,
            messages,
            until: Tick::NEVER,
            pause: Span::millis(4),
            bytes_max: 4_000,
            ledger: self.ledger.clone(),
            chance: self.world.chance.branch(),
        };
        let done = Rc::new(Cell::new(false));
        let told = done.clone();
        sim.spawn(async move {
            sender.run().await;
            told.set(true);
        });
        done
    }

    fn run(&self, seconds: u64, done: impl FnMut() -> bool) -> bool {
        self.world.run(self.world.now() + Span::seconds(seconds), done)
    }

    /// Rewriting has begun.
    fn begin(&self) {
        let begun = || self.hub.counted(Counter::RewrittenBytes) > 0;
        assert!(self.run(60, begun), "nothing is rewritten");
    }

    /// When so many more stable writes have passed the next one meets its fate; whether one did, by and by.
    fn doom(&self, passing: u64, fate: Fate) -> bool {
        let sprung = Rc::new(Cell::new(false));
        let (struck, victim) = (sprung.clone(), self.hub.clone());
        let fails = match fate {
            Fate::Killed | Fate::Dark => None,
            Fate::Torn | Fate::Fails => Some(Fails::InPart),
            Fate::FailsInWord => Some(Fails::InWord),
        };
        let springs = Box::new(move |_: &Rc<World>| {
            struck.set(true);
            match fate {
                Fate::Killed => victim.kill(),
                Fate::Dark | Fate::Torn => victim.crash(Span::millis(50)),
                Fate::Fails | Fate::FailsInWord => {}
            }
        });
        self.hub.machine.disk.lay(Ambush { passing, fails, springs });
        let is_met = self.run(20, || sprung.get());
        if !is_met {
            self.hub.machine.disk.heal();
        }
        is_met
    }

    /// The next hop takes everything; it all comes, where nothing died once, and else no more often than a death explains.
    fn end_busy(self, dies: bool, story: &str) {
        self.run(20, || false);
        *self.refusal.borrow_mut() = Vice::default();
        let done = self.run(3600, || self.ledger.is_settled() && self.hub.counted(Counter::Queued) == 0);
        let (accounts, breaches) = (self.ledger.accounts(), self.ledger.audit());
        assert!(done && breaches.is_empty(), "{story}: {accounts}, {breaches:?}");
        assert!(dies || accounts.duplicates == 0, "{story}: {accounts}");
        self.world.end();
    }

    /// Where nothing else was under way: it all comes, once, and is known to have come by the next start.
    fn end(self, story: &str) {
        self.run(10, || false);
        *self.refusal.borrow_mut() = Vice::default();
        let done = self.run(3600, || self.ledger.is_settled() && self.hub.counted(Counter::Queued) == 0);
        assert!(done, "{story}: {}, {:?}", self.ledger.accounts(), self.ledger.audit());
        self.run(1, || false);
        self.hub.kill();
        let starts = self.hub.starts();
        assert!(self.run(60, || self.hub.starts() > starts), "{story}: it starts again");
        self.run(30, || false);
        let accounts = self.ledger.accounts();
        assert_eq!((accounts.duplicates, self.ledger.audit()), (0, Vec::new()), "{story}: {accounts}");
        assert_eq!((accounts.delivered, accounts.unknown), (accounts.acknowledged, 0), "{story}: {accounts}");
        self.world.end();
    }
}

/// Every write from where rewriting begins meets this fate in turn, until all of them pass; with new mail meanwhile, or without.
fn each_write(fate: Fate, busy: bool) {
    let (mut between, mut behind) = (0, 0);
    for passing in (0..WRITES_MAX).step_by(if busy { 3 } else { 1 }) {
        let scene = Scene::new(Durability::Disk);
        scene.begin();
        if busy {
            scene.send(MESSAGES / 4);
        }
        let sprung = scene.doom(passing, fate);
        let given_up = scene.hub.rewritten() > 0;
        let story = format!("{fate:?} at write {passing}, busy: {busy}");
        if busy {
            scene.end_busy(!matches!(fate, Fate::Fails | Fate::FailsInWord), &story)
        } else {
            scene.end(&story)
        }
        if !sprung {
            println!("{story}: the last; {between} before the first segment was given up, {behind} behind it");
            assert!(between > 0 && behind > 2, "{between}, {behind}");
            return;
        }
        (between, behind) = (between + u64::from(!given_up), behind + u64::from(given_up));
    }
    panic!("it never ends");
}

/// K17, I-1, I-3: copies that are there while the old ones count, marks without the reuse that they are for, heads of the next
/// life: wherever a start finds it, everything is there, once.
#[test]
fn f_008_p_013_killed_behind_any_write_of_rewriting_a_hub_has_everything_once() {
    each_write(Fate::Killed, false);
    each_write(Fate::Killed, true);
}

#[test]
fn f_008_p_013_without_power_behind_any_write_of_rewriting_a_hub_has_everything_once() {
    each_write(Fate::Dark, false);
    each_write(Fate::Dark, true);
}

#[test]
fn f_014_p_013_whichever_write_of_rewriting_is_torn_a_hub_has_everything_once() {
    each_write(Fate::Torn, false);
    each_write(Fate::Torn, true);
}

/// F-026: nobody waits for what is moved, so nobody is refused; names that it had go on meaning it.
#[test]
fn f_026_f_027_p_013_whichever_write_of_rewriting_fails_everything_comes_once() {
    for fate in [Fate::Fails, Fate::FailsInWord] {
        each_write(fate, false);
        each_write(fate, true);
    }
}

/// F-022, F-024: where there is no room for a further segment, rewriting makes it, and mail is taken again.
#[test]
fn f_022_p_013_on_a_full_disk_rewriting_makes_the_room_that_mail_needs() {
    full_disk(None);
    for fate in [Fate::Killed, Fate::Dark, Fate::Torn, Fate::Fails, Fate::FailsInWord] {
        for passing in [0, 1, 2, 3, 5, 8] {
            full_disk(Some((fate, passing)));
        }
    }
}

fn full_disk(doom: Option<(Fate, u64)>) {
    let (scene, story) = (Scene::new(Durability::Disk), format!("full, {doom:?}"));
    let dies = doom.is_some_and(|(fate, _)| !matches!(fate, Fate::Fails | Fate::FailsInWord));
    let disk = &scene.hub.machine.disk;
    let mut used = disk.used();
    disk.capacity.set(used);
    scene.send(MESSAGES);
    let short = || scene.hub.counted(Counter::SpoolShort) > 0;
    assert!(scene.run(60, short), "{story}: there is room left");
    if let Some((fate, passing)) = doom {
        assert!(scene.doom(passing, fate), "{story}");
        // A start begins a segment of its own, and a bad one goes on taking its room: there has to be that one.
        used += SEGMENT_BYTES;
        disk.capacity.set(used);
    }
    // A start frees what is dead; it may be enough.
    let has_begun = scene.run(60, || scene.hub.rewritten() > 1);
    assert!(has_begun || dies, "{story}: nothing is rewritten");
    for _ in 0..2 {
        // Nobody sends twice what was refused: what is taken now is taken because there is room again.
        let before = scene.ledger.accounts().acknowledged;
        scene.run(10, || false);
        scene.send(MESSAGES / 8);
        let taken = || scene.ledger.accounts().acknowledged > before + 10;
        assert!(scene.run(60, taken), "{story}: {}", scene.ledger.accounts());
    }
    assert!(disk.used() <= used, "{story}: it had no more room than that");
    if doom.is_some() {
        // What was put aside of it takes room as well, and of segments so small too little is kept for outcomes.
        disk.heal();
    }
    scene.end_busy(dies, &story);
}

/// P-003: in mode `os` what a stop left on the disk is not lost by being moved, when the power fails.
#[test]
fn f_013_p_013_in_mode_os_what_was_on_the_disk_is_not_lost_by_being_moved() {
    for passing in 0..WRITES_MAX {
        let scene = Scene::new(Durability::Os);
        let starts = scene.hub.starts();
        scene.hub.stop();
        assert!(scene.run(60, || scene.hub.starts() > starts), "it starts again");
        scene.begin();
        let sprung = scene.doom(passing, Fate::Dark);
        scene.end(&format!("os, at write {passing}"));
        if !sprung {
            println!("os: {passing} writes");
            return assert!(passing > 1, "{passing}");
        }
    }
    panic!("it never ends");
}
