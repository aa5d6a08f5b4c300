//! Two shards in one thread: one that may have no connections and lends all it keeps, and one that sends it.

use super::super::load::NO_MEMORY_WAIT;
use super::*;
use crate::sys::slice::Fill;

const MESSAGES: usize = 20;

struct Pair {
    driver: Epoll,
    faults: Faults,
    pool: Pool,
    hubs: Vec<Rc<Hub<Faulty<Epoll>>>>,
    lender: usize,
    sink: SocketAddr,
    stored: Rc<Tally>,
    counts: Rc<Tally>,
}

impl Pair {
    fn start(driver: Epoll, folder: &Path) -> Self {
        let mut settings = settings();
        settings.delivery.connections_per_hop_max = 1;
        let settings = Arc::new(settings);
        let pool = Pool::new(Budget::new(16 << 20));
        let stored = tally();
        let sink = sink(&driver, &settings, &Pool::new(Budget::new(8 << 20)), &stored);
        let faults = Faults::none();
        let faulty = Faulty::new(driver.clone(), faults.clone());
        let exchange = Exchange::between(2);
        let hubs: Vec<_> = (0..2)
            .map(|shard| {
                let parts = HubParts {
                    settings: settings.clone(),
                    shard: (shard, 2),
                    pool: pool.clone(),
                    tally: tally(),
                    dir: Some(faulty.root(folder).expect("the folder opens")),
                    direct: false,
                    routes: routes("sink", sink),
                    next: (1, 1),
                    exchange: exchange.clone(),
                };
                Hub::new(faulty.clone(), parts)
            })
            .collect();
        let lender = hubs.iter().position(|hub| hub.caps.of(&key("sink"), Default::default()) == 0);
        let lender = lender.expect("one connection for two");
        let counts = hubs[lender].tally.clone();
        hubs[lender].start();
        let pair = Self { driver, faults, pool, hubs, lender, sink, stored, counts };
        pair.hear(lender);
        pair
    }

    /// This shard looks at what others leave for it.
    fn hear(&self, shard: usize) {
        let (hub, driver) = (self.hubs[shard].clone(), self.driver.clone());
        self.driver.spawn(async move {
            loop {
                hub.crossed();
                driver.sleep(Span::millis(1)).await;
            }
        });
    }

    /// The other one has connections from now on, and waits for tickets.
    fn start_borrower(&self) {
        self.hubs[1 - self.lender].start();
        self.hear(1 - self.lender);
    }

    fn lender(&self) -> &Rc<Hub<Faulty<Epoll>>> {
        &self.hubs[self.lender]
    }

    /// Whatever memory there is.
    fn grab(&self, held: &mut Vec<Fill>) {
        for bytes in [1 << 20, 256 << 10, 64 << 10, 16 << 10, 4 << 10] {
            held.extend(std::iter::from_fn(|| self.pool.fill(bytes)));
        }
    }

    /// All the memory there is, and no content in memory.
    fn exhaust(&self) -> Vec<Fill> {
        let mut held = Vec::new();
        self.grab(&mut held);
        self.lender().relieve();
        self.grab(&mut held);
        let mut in_memory = 0;
        self.lender().messages.borrow_mut().each(|_| in_memory += 1);
        assert_eq!(in_memory, 0, "all of it has left memory");
        held
    }

    /// Time for whatever must not happen.
    async fn pass(&self, held: Option<&mut Vec<Fill>>) {
        let mut none = Vec::new();
        let exhausted = held.is_some();
        let held = held.unwrap_or(&mut none);
        for _ in 0..40 {
            self.driver.sleep(NO_MEMORY_WAIT).await;
            if exhausted {
                self.grab(held);
            }
        }
    }

    async fn all_is_stored(&self) {
        let stored = || self.stored.read(Counter::Stored) == MESSAGES as u64;
        wait_until(&self.driver, "everything to be stored", stored).await;
        let queued = || self.hubs.iter().map(|hub| hub.queued()).sum::<u32>();
        wait_until(&self.driver, "the queues to be empty", || queued() == 0).await;
        assert_eq!(self.stored.read(Counter::Stored), MESSAGES as u64, "once");
    }
}

/// Runs `test` where the lender keeps messages, and nobody sends them yet.
fn lending(test: impl AsyncFnOnce(Pair)) {
    let folder = tempfile::tempdir().expect("a folder");
    epoll::run(&epoll::Options::default(), async |driver| {
        let pair = Pair::start(driver.clone(), folder.path());
        let at = serve_on(&Faulty::new(driver.clone(), pair.faults.clone()), pair.lender());
        send(&driver, at, MESSAGES).await;
        test(pair).await;
    })
    .expect("runs");
}

#[test]
fn f_040_lending_waits_for_memory_and_goes_on_when_there_is_some() {
    lending(async |pair| {
        let mut held = pair.exhaust();
        pair.start_borrower();
        pair.pass(Some(&mut held)).await;
        // What others give back meanwhile may be enough for some.
        assert!(pair.stored.read(Counter::Stored) < MESSAGES as u64, "there is next to no memory");
        drop(held);
        pair.all_is_stored().await;
        assert!(pair.counts.read(Counter::Lent) >= MESSAGES as u64);
    });
}

#[test]
fn f_024_lending_waits_for_outcomes_to_be_written() {
    lending(async |pair| {
        let idle = || !pair.lender().log.borrow().pending() && !pair.lender().log.borrow().is_writing();
        wait_until(&pair.driver, "the log to be idle", idle).await;
        // A write that ends would try again what is owed.
        pair.faults.inject(Rule::new(Op::Write, Fault::Held));
        pair.pass(None).await;
        pair.lender().owe(spool::RecordId::from_raw(u64::MAX).expect("an id"));
        pair.start_borrower();
        pair.pass(None).await;
        let lent = pair.counts.read(Counter::Lent);
        assert_eq!((lent, pair.stored.read(Counter::Stored)), (0, 0), "nothing whose outcome could not be written");
        pair.faults.heal();
        pair.lender().retry_settles();
        pair.all_is_stored().await;
    });
}

#[test]
fn a_ring_that_a_reload_took_while_lending_waited_is_not_lent_to() {
    lending(async |pair| {
        let mut held = pair.exhaust();
        pair.start_borrower();
        pair.pass(Some(&mut held)).await;
        for hub in &pair.hubs {
            hub.install_routes(routes("another", pair.sink));
        }
        pair.pass(Some(&mut held)).await;
        drop(held);
        pair.all_is_stored().await;
        assert!(pair.counts.read(Counter::Rerouted) >= MESSAGES as u64);
    });
}
