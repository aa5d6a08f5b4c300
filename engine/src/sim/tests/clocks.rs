//! Wall clocks that are set while servers run and while they are down.

use crate::io::driver::Driver;
use crate::sim::ledger::Ledger;
use crate::sim::scenario::{BEFORE_1970, HOUR, TEN_YEARS};
use crate::sim::server::{self, Server};
use crate::sim::sink::{Sink, Vice};
use crate::sim::world::World;
use crate::track::counters::Counter;
use crate::wire::Span;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

const MESSAGES: usize = 12;

/// A hub, and a next hop that takes nothing as long as its vice says so.
struct Scene {
    world: Rc<World>,
    ledger: Rc<Ledger>,
    hub: Rc<Server>,
    at: SocketAddr,
    vice: Rc<RefCell<Vice>>,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let world = World::new(seed, false);
        let ledger = Ledger::new(&world);
        let (machine, far) = (world.machine(), world.machine());
        let [at, to] = [&machine, &far].map(|machine| SocketAddr::new(machine.address(), 25));
        let vice = Rc::new(RefCell::new(Vice { greeting: 1, ..Vice::default() }));
        let sim = far.start(&world, 1).1.remove(0);
        let (book, chance, habit) = (ledger.clone(), world.chance.branch(), vice.clone());
        sim.spawn(Sink { sim: sim.clone(), at: to, chunking: true, ledger: book, vice: habit, chance }.run());
        let settings = server::hub(at, 2, &[("d.test".to_owned(), vec![to])], None);
        let hub = Server::start(&world, &ledger, &machine, settings);
        Self { world, ledger, hub, at, vice }
    }

    fn run(&self, span: Span, done: impl FnMut() -> bool) -> bool {
        self.world.run(self.world.now() + span, done)
    }

    fn set_clock(&self, off: i64) {
        self.hub.machine.set_clock(&self.world, off);
    }

    /// Mail comes, and all of it is taken.
    fn takes_mail(&self, story: &str) {
        let before = self.ledger.accounts();
        super::send(&self.world, &self.ledger, self.at, "d.test", (MESSAGES, Span::millis(20), 4_000));
        let taken = || {
            let now = self.ledger.accounts();
            now.messages >= before.messages + MESSAGES && now.unknown + now.refused == 0
        };
        assert!(self.run(Span::minutes(1), taken), "{story}: {}", self.ledger.accounts());
    }

    /// The next hop takes everything; all of it comes, once, and each message has a name of its own.
    fn end(self, story: &str) {
        *self.vice.borrow_mut() = Vice::default();
        let done = || self.ledger.is_settled() && self.hub.counted(Counter::Queued) == 0;
        assert!(self.run(Span::minutes(20), done), "{story}: {}", self.ledger.accounts());
        self.run(Span::minutes(1), || false);
        let accounts = self.ledger.accounts();
        assert_eq!((accounts.duplicates, self.ledger.audit()), (0, Vec::new()), "{story}: {accounts}");
        assert_eq!((accounts.delivered, accounts.reported), (accounts.acknowledged, 0), "{story}: {accounts}");
        assert_eq!(self.ledger.names(), accounts.messages, "{story}");
        self.world.end();
    }
}

/// M-072: nothing is given up, nothing waits for the old time to come again, and sessions go on.
#[test]
fn f_056_a_wall_clock_that_is_set_moves_no_timer_and_gives_nobody_up() {
    for off in [HOUR, -HOUR, TEN_YEARS, BEFORE_1970] {
        let (scene, story) = (Scene::new(56), format!("set by {off}"));
        scene.takes_mail(&story);
        scene.set_clock(off);
        scene.takes_mail(&story);
        let tried = scene.hub.counted(Counter::ConnectionsMade);
        scene.run(Span::minutes(30), || false);
        assert!(scene.hub.counted(Counter::ConnectionsMade) > tried, "{story}: tried again");
        assert_eq!(scene.hub.counted(Counter::DsnOwed), 0, "{story}: nobody is given up");
        scene.end(&story);
    }
}

/// I-2, I-3: what stands in the spool is known by what it is, not by when.
#[test]
fn f_057_names_and_files_stay_unique_when_a_clock_went_back_before_a_start() {
    for off in [[0, -HOUR, -2 * HOUR], [0, BEFORE_1970, BEFORE_1970], [TEN_YEARS, 0, BEFORE_1970]] {
        let (scene, story) = (Scene::new(57), format!("set to {off:?}"));
        for (start, off) in off.into_iter().enumerate() {
            scene.set_clock(off);
            scene.takes_mail(&story);
            let starts = scene.hub.starts();
            if start == 1 {
                scene.hub.crash(Span::seconds(1))
            } else {
                scene.hub.kill()
            }
            assert!(scene.run(Span::minutes(1), || scene.hub.starts() > starts), "{story}: it starts again");
        }
        scene.takes_mail(&story);
        scene.end(&story);
    }
}
