//! Two shards in one thread: one that may have no connections and lends all it keeps, and one that sends it.

use super::super::load::NO_MEMORY_WAIT;
use super::notice::{SAID, assert_owed, on_disk, refusing};
use super::*;
use crate::sys::slice::Fill;

const MESSAGES: usize = 20;

struct Pair {
    driver: Epoll,
    faults: Faults,
    /// Of a third shard, with the budget of both. It has nothing to do, and keeps what it had for reuse.
    idle: Pool,
    hubs: Vec<Rc<Hub<Faulty<Epoll>>>>,
    lender: usize,
    sinks: Vec<SocketAddr>,
    stored: Rc<Tally>,
    counts: Rc<Tally>,
}

impl Pair {
    /// With a sink for each of these: the octets of a message that it takes, 0 for any number.
    fn start(driver: Epoll, folder: &Path, sinks: &[u64]) -> Self {
        let mut settings = settings();
        settings.delivery.connections_per_hop_max = 1;
        let settings = Arc::new(settings);
        let pool = Pool::new(Budget::new(16 << 20));
        let stored = tally();
        let sinks: Vec<_> = sinks.iter().map(|&most| sink(&driver, &settings, &stored, most)).collect();
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
                    routes: routes("sink", &sinks),
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
        let idle = Pool::new(pool.budget().clone());
        let pair = Self { driver, faults, idle, hubs, lender, sinks, stored, counts };
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
            held.extend(std::iter::from_fn(|| self.idle.fill(bytes)));
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
        self.all_is_settled().await;
        assert_eq!(self.stored.read(Counter::Stored), MESSAGES as u64, "once");
    }

    async fn all_is_settled(&self) {
        let queued = || self.hubs.iter().map(|hub| hub.queued()).sum::<u32>();
        wait_until(&self.driver, "the queues to be empty", || queued() == 0).await;
    }
}

/// Runs `test` where the lender keeps messages, and nobody sends them yet.
fn lending(test: impl AsyncFnOnce(Pair)) {
    lending_to(&[0], test);
}

/// The same, for sinks that take messages of so many octets.
fn lending_to(sinks: &[u64], test: impl AsyncFnOnce(Pair)) {
    let folder = tempfile::tempdir().expect("a folder");
    lending_in(folder.path(), sinks, test);
}

fn lending_in(folder: &Path, sinks: &[u64], test: impl AsyncFnOnce(Pair)) {
    epoll::run(&epoll::Options::default(), async |driver| {
        let pair = Pair::start(driver.clone(), folder, sinks);
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
        pair.lender().hold_back(spool::RecordId::from_raw(u64::MAX).expect("an id"));
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
            hub.install_routes(routes("another", &pair.sinks));
        }
        pair.pass(Some(&mut held)).await;
        drop(held);
        pair.all_is_stored().await;
        // What others give back meanwhile may have been enough for some.
        assert!(pair.counts.read(Counter::Rerouted) > 0);
    });
}

#[test]
fn a_ring_that_comes_back_with_its_route_is_lent_to_again() {
    lending(async |pair| {
        let install = |routes: Arc<Snapshot>| pair.hubs.iter().for_each(|hub| hub.install_routes(routes.clone()));
        let mut held = pair.exhaust();
        pair.start_borrower();
        pair.pass(Some(&mut held)).await;
        // Lending waits for memory. No route leads anywhere meanwhile.
        install(Arc::default());
        pair.pass(Some(&mut held)).await;
        drop(held);
        pair.pass(None).await;
        install(routes("sink", &pair.sinks));
        pair.all_is_stored().await;
    });
}

/// A next hop that answers the first body before it came.
fn hasty(driver: &Epoll) -> SocketAddr {
    let mut early = Some("354 go on\r\n250 2.0.0 taken\r\n");
    next_hop(driver, move |command| match command {
        "DATA" => early.take().unwrap_or("354 go on\r\n"),
        _ => "250 2.0.0 fine\r\n",
    })
}

#[test]
fn f_081_what_is_lent_comes_home_when_it_is_answered_before_its_body() {
    lending(async |pair| {
        let routes = routes("sink", &[hasty(&pair.driver)]);
        pair.hubs.iter().for_each(|hub| hub.install_routes(routes.clone()));
        pair.start_borrower();
        pair.all_is_settled().await;
        let borrowed = pair.hubs[1 - pair.lender].share.as_ref().map(|share| share.borrowed.get());
        assert_eq!((borrowed, pair.counts.read(Counter::Unknown)), (Some(0), 1), "its outcome is unknown, once");
    });
}

#[test]
fn f_068_who_is_refused_what_was_lent_is_on_record_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    lending_in(folder.path(), &[0], async |pair| {
        let routes = routes("sink", &[refusing(&pair.driver, 1)]);
        pair.hubs.iter().for_each(|hub| hub.install_routes(routes.clone()));
        pair.start_borrower();
        let settled = || pair.counts.read(Counter::Settles) == MESSAGES as u64;
        wait_until(&pair.driver, "the outcomes", settled).await;
        let counts = [Counter::DsnOwed, Counter::Lent].map(|counter| pair.counts.read(counter));
        assert_eq!(counts, [MESSAGES as u64; 2], "whoever keeps them counts them");
    });
    assert_owed(&on_disk(folder.path()), MESSAGES, "5.1.1", SAID);
}

#[test]
fn m_175_what_is_lent_and_no_host_can_take_fails_when_each_was_asked() {
    lending_to(&[10, 10, 10], async |pair| {
        pair.start_borrower();
        pair.all_is_settled().await;
        let sum = |counter| pair.hubs.iter().map(|hub| hub.tally.read(counter)).sum::<u64>();
        let ended = (sum(Counter::DsnOwed), sum(Counter::Expired), pair.stored.read(Counter::Stored));
        assert_eq!(ended, (MESSAGES as u64, 0, 0), "they end as on the shard that keeps them");
        assert!(sum(Counter::Attempts) >= 3 * MESSAGES as u64, "each host was asked");
    });
}

#[test]
fn m_091_what_is_lent_and_one_host_cannot_take_goes_to_another() {
    lending_to(&[10, 0], async |pair| {
        pair.start_borrower();
        pair.all_is_stored().await;
        assert_eq!(pair.counts.read(Counter::Lent), MESSAGES as u64, "each was lent once");
    });
}

#[test]
fn i_12_a_drain_sends_home_what_waits_for_another_host() {
    lending_to(&[10, 0], async |pair| {
        // To the second host there is no way for now, and it does not end.
        pair.faults.inject(Rule::new(Op::Connect, Fault::Held).nth(2));
        pair.start_borrower();
        let borrower = &pair.hubs[1 - pair.lender];
        let borrowed = || borrower.share.as_ref().map_or(0, |share| share.borrowed.get());
        let attempts = || borrower.tally.read(Counter::Attempts);
        wait_until(&pair.driver, "all to wait with the borrower", || attempts() == MESSAGES as u64).await;
        assert_eq!((borrowed(), pair.lender().queued(), borrower.queued()), (MESSAGES as u32, MESSAGES as u32, 0));
        borrower.drain(pair.driver.now() + Span::seconds(60)).await;
        let home = || pair.lender().queues.borrow().hops().all(|(_, hop)| hop.sending == 0);
        wait_until(&pair.driver, "all to be home", home).await;
        assert_eq!((borrowed(), pair.lender().queued()), (0, MESSAGES as u32));
    });
}
