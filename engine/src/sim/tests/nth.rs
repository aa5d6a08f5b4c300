//! F-184: one server's whole cycle - start, accept, make stable, deliver, settle, reclaim, die, recover - in which every single
//! operation fails once. The loop is complete: it ends when the cycle needs no more. Operations take turns with the errnos
//! that they can give; with `RINGPOST_SIM_ERRNOS=all` each of them fails with every one.

use crate::io::driver::Driver;
use crate::sim::ledger::{Accounts, Ledger};
use crate::sim::net::Weather;
use crate::sim::nth::Op;
use crate::sim::sender::Sender;
use crate::sim::server::{self, Server};
use crate::sim::sink::{Sink, Vice};
use crate::sim::world::World;
use crate::track::counters::Counter;
use crate::wire::{Span, Tick};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

const MESSAGES: usize = 14;
const SEGMENT_BYTES: u64 = 64 << 10;
/// More than the cycle takes.
const OPERATIONS_MAX: u64 = 5_000;

struct Cycle {
    world: Rc<World>,
    ledger: Rc<Ledger>,
    hub: Rc<Server>,
    refusal: Rc<RefCell<Vice>>,
    at: SocketAddr,
}

impl Cycle {
    /// A server, of whose operations so many pass before one fails.
    fn new(passing: u64, errno: usize) -> Self {
        let world = World::new(184, false);
        *world.net.weather.borrow_mut() = Weather { cuts: false, ..Weather::default() };
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
        machine.nth.lay(passing, errno);
        let hub = Server::start(&world, &ledger, &machine, settings);
        Self { world, ledger, hub, refusal, at }
    }

    /// Sends so many messages; whether all of them were begun and answered in time.
    fn sends(&self, messages: usize) -> bool {
        let sim = self.world.machine().start(&self.world, 1).1.remove(0);
        let sender = Sender {
            sim: sim.clone(),
            to: vec![self.at],
            domains: [vec!["leaves.test".to_owned(); 3], vec!["stays.test".to_owned()]].concat(),
            messages,
            until: Tick::NEVER,
            pause: Span::millis(4),
            bytes_max: 14_000,
            ledger: self.ledger.clone(),
            chance: self.world.chance.branch(),
        };
        let sent = Rc::new(Cell::new(false));
        let told = sent.clone();
        sim.spawn(async move {
            sender.run().await;
            told.set(true);
        });
        self.run(600, || sent.get())
    }

    fn run(&self, seconds: u64, done: impl FnMut() -> bool) -> bool {
        self.world.run(self.world.now() + Span::seconds(seconds), done)
    }

    fn starts_again(&self) -> bool {
        let starts = self.hub.starts();
        self.hub.kill();
        self.run(600, || self.hub.starts() > starts && self.hub.is_alive())
    }

    /// Goes through all of it; what failed, and what was not as promised.
    fn judge(self) -> (Option<Op>, Option<String>) {
        let nth = &self.hub.machine.nth;
        let mut broken = Vec::new();
        let mut must = |holds: bool, what: &'static str| broken.extend((!holds).then_some(what));
        must(self.sends(MESSAGES), "senders were not served");
        self.run(5, || false);
        must(self.starts_again(), "it did not start behind the failure");
        *self.refusal.borrow_mut() = Vice::default();
        let done = || self.ledger.is_settled() && self.hub.is_alive() && self.hub.counted(Counter::Queued) == 0;
        must(self.run(1800, done), "not everything was delivered");
        self.run(5, || false);
        let met = nth.met();
        nth.lift();
        must(self.starts_again(), "it did not start in peace");
        let before = self.ledger.accounts();
        must(self.sends(MESSAGES / 2) && self.run(600, || self.ledger.is_settled()), "mail does not flow in peace");
        self.run(60, || false);
        let (accounts, breaches) = (self.ledger.accounts(), self.ledger.audit());
        let not_taken = |it: Accounts| it.refused + it.unknown;
        must(not_taken(accounts) == not_taken(before), "mail is refused in peace");
        must(breaches.is_empty(), "the ledger does not add up");
        self.world.end();
        (met, (!broken.is_empty()).then(|| format!("{broken:?}: {accounts}, {breaches:?}")))
    }
}

/// I-1, I-3, I-9: each failure has the right class of answer, and nothing promised is lost, whatever starts find.
#[test]
fn f_184_every_operation_of_a_cycle_fails_once_and_nothing_promised_is_lost() {
    let all_errnos = std::env::var("RINGPOST_SIM_ERRNOS").is_ok_and(|said| said == "all");
    let mut given = BTreeSet::new();
    let (mut operations, mut faults): (BTreeMap<Op, u64>, u64) = Default::default();
    let mut broken = Vec::new();
    let mut passing = 0;
    loop {
        assert!(passing < OPERATIONS_MAX, "it never ends");
        // Prime to the lengths of what recurs, so that each kind of operation meets all of its errnos.
        let turn = usize::try_from(passing.wrapping_mul(7) / 5).expect("few");
        let (met, wrong) = Cycle::new(passing, turn).judge();
        let mut judge = |errno: i32, wrong: Option<String>| {
            broken.extend(wrong.map(|wrong| format!("operation {passing}, {met:?}, errno {errno}: {wrong}")));
        };
        let Some(op) = met else { break judge(0, wrong) };
        let count = op.errnos().len();
        let mut tried = vec![op.errnos()[turn % count]];
        judge(tried[0], wrong);
        for at in (1..count).filter(|_| all_errnos) {
            let errno = op.errnos()[(turn + at) % count];
            judge(errno, Cycle::new(passing, turn + at).judge().1);
            tried.push(errno);
        }
        *operations.entry(op).or_default() += 1;
        faults += tried.len() as u64;
        given.extend(tried.into_iter().map(|errno| (op, errno)));
        passing += 1;
    }
    println!("{passing} operations, {faults} faults of {} kinds: {operations:?}", given.len());
    assert!(broken.is_empty(), "{} of {faults}: {broken:#?}", broken.len());
    let met = |op| operations.contains_key(&op);
    let all = [Op::Create, Op::Allocate, Op::Write, Op::Read, Op::SyncFolder, Op::List, Op::Accept, Op::Connect];
    assert!(all.into_iter().all(met) && faults >= passing, "{operations:?}");
    // Whatever is asked for often enough gives each of its errnos, now and then.
    for (op, _) in operations.iter().filter(|(op, count)| **count > 4 * op.errnos().len() as u64) {
        assert!(op.errnos().iter().all(|&errno| given.contains(&(*op, errno))), "{op:?}: {given:?}");
    }
}
