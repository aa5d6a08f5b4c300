//! A hub in one thread with its sender and its store: what needs a look inside it.

mod bad_heads;
mod bad_reads;
mod bad_segment;
mod carried;
mod dsn;
mod notice;
mod odd_replies;
mod sharing;
mod sparse;
mod together;

#[path = "../../../../tests/src/skip.rs"]
mod skip;

use super::quarantine::Quarantine;
use super::*;
use crate::io::choice::DriverChoice;
use crate::io::driver::{Conn, Next};
use crate::io::epoll::{self, Epoll};
use crate::io::faulty::{Errno, Fault, Faults, Faulty, Op, Rule};
use crate::route::RouteTable;
use crate::settings::Store;
use crate::shell::inlet::Inlet;
use crate::shell::mailbox::MailboxDelivery;
use crate::shell::serve::{Admission, Lobby, Service, serve};
use crate::smtp::server::ServerOptions;
use crate::spool::{Content, Facts, NewRecord, RecordKind};
use crate::sys::slice::Budget;
use crate::track::counters::{Board, Counter};
use crate::track::report::{QueueReport, QueueStatus};
use crate::wire::{DeliveryType, NextHopKey};
use std::net::SocketAddr;
use std::path::Path;

fn tally() -> Rc<Tally> {
    Rc::new(Board::new(1).1.remove(0))
}

fn serve_on<D: Driver, S: Service<D>>(driver: &D, service: &Rc<S>) -> SocketAddr {
    serve_up_to(driver, service, 0)
}

/// Serves messages of so many octets at most; 0: of any number.
fn serve_up_to<D: Driver, S: Service<D>>(driver: &D, service: &Rc<S>, size_max: u64) -> SocketAddr {
    let listener = driver.listen(([127, 0, 0, 1], 0).into()).expect("a port");
    let at = driver.local(&listener).expect("bound");
    let options = Arc::new(ServerOptions { size_max, ..ServerOptions::new(crate::smtp::Profile::Bench, "hub.test") });
    let (driver, service) = (driver.clone(), service.clone());
    driver.clone().spawn(async move {
        while let Ok(conn) = driver.accept(&listener).await {
            let inlet = Rc::new(Inlet::new(conn.handle()));
            let admission = Admission { inlet, trusted: false, refuse: None, lobby: Lobby::new(tally()) };
            driver.spawn(serve(driver.clone(), service.clone(), options.clone(), conn, admission));
        }
    });
    at
}

struct World {
    driver: Epoll,
    faults: Faults,
    hub: Rc<Hub<Faulty<Epoll>>>,
    at: SocketAddr,
    counts: Rc<Tally>,
    stored: Rc<Tally>,
}

/// For measuring, with small segments.
fn settings() -> Settings {
    let mut settings = Settings::of(Profile::Bench);
    settings.store = Store::Null;
    settings.spool.segment_bytes = 1 << 20;
    settings.spool.free_min = 0;
    settings
}

/// A store that keeps nothing, and takes messages of so many octets at most.
fn sink(driver: &Epoll, settings: &Arc<Settings>, stored: &Rc<Tally>, size_max: u64) -> SocketAddr {
    let pool = Pool::new(Budget::new(8 << 20));
    let store = MailboxDelivery::open(driver.clone(), settings, pool, stored.clone()).expect("null opens");
    serve_up_to(driver, &Rc::new(Rc::new(store)), size_max)
}

fn key(name: &str) -> NextHopKey {
    NextHopKey { delivery: DeliveryType::SmartHost, domain: name.into(), connector: "".into() }
}

/// Everything goes to a next hop of this name and these hosts.
fn routes(name: &str, sinks: &[SocketAddr]) -> Arc<Snapshot> {
    let table = RouteTable::smart_host(key(name), sinks).expect("a route");
    Arc::new(Snapshot { table, manners: vec![Default::default()], ..Snapshot::default() })
}

/// Sends so many small messages in one go and waits until all are acknowledged.
async fn send(driver: &Epoll, at: SocketAddr, count: usize) {
    send_from(driver, at, count, "ann@a.test").await;
}

async fn send_from(driver: &Epoll, at: SocketAddr, count: usize, sender: &str) {
    send_each(driver, at, (sender, "Subject: x\r\n\r\n"), count).await;
}

/// The same with this content.
async fn send_each(driver: &Epoll, at: SocketAddr, (sender, content): (&str, &str), count: usize) {
    let mut conn = driver.connect(at, driver.now() + Span::seconds(20)).await.expect("it listens");
    let bytes = content.len();
    let one = format!("MAIL FROM:<{sender}>\r\nRCPT TO:<bob@b.test>\r\nBDAT {bytes} LAST\r\n{content}");
    conn.put(b"EHLO client.test\r\n");
    let (mut heard, mut said) = (String::new(), false);
    while heard.matches("Queued as").count() < count {
        let by = driver.now() + Span::seconds(60);
        match conn.next(by, |octets| (octets.len(), octets.to_vec())).await {
            Next::Bytes(octets) => heard.push_str(&String::from_utf8_lossy(&octets)),
            Next::Deadline => panic!("nothing more after {heard}"),
            Next::Room => {}
            other => panic!("{other:?} after {heard}"),
        }
        if heard.contains("\n250 ") && !std::mem::replace(&mut said, true) {
            conn.put(one.repeat(count).as_bytes());
        }
    }
}

/// A next hop that answers commands, and bodies by DATA, as `answer` says.
fn next_hop(driver: &Epoll, answer: impl FnMut(&str) -> &'static str + 'static) -> SocketAddr {
    let listener = driver.listen(([127, 0, 0, 1], 0).into()).expect("a port");
    let (at, driver, answer) = (driver.local(&listener).expect("bound"), driver.clone(), Rc::new(RefCell::new(answer)));
    driver.clone().spawn(async move {
        while let Ok(conn) = driver.accept(&listener).await {
            driver.spawn(talk(driver.clone(), conn, answer.clone()));
        }
    });
    at
}

async fn talk<C: Conn>(driver: Epoll, mut conn: C, answer: Rc<RefCell<impl FnMut(&str) -> &'static str>>) {
    conn.put(b"220 scripted.test\r\n");
    let (mut heard, mut in_body) = (String::new(), false);
    let by = driver.now() + Span::seconds(600);
    while let Next::Bytes(octets) = conn.next(by, |octets| (octets.len(), octets.to_vec())).await {
        heard.push_str(&String::from_utf8_lossy(&octets));
        while let Some((command, rest)) = heard.split_once(if in_body { "\r\n.\r\n" } else { "\r\n" }) {
            let said = answer.borrow_mut()(command);
            conn.put(said.as_bytes());
            in_body = said.starts_with("354");
            heard = rest.to_owned();
        }
    }
}

async fn wait_until(driver: &Epoll, what: &str, condition: impl Fn() -> bool) {
    let by = driver.now() + Span::seconds(60);
    while !condition() {
        assert!(driver.now() < by, "{what}");
        driver.sleep(Span::millis(2)).await;
    }
}

/// A log as a start on this folder has it, and what it is to tell.
fn reopened(folder: &Path) -> (Log, spool::Backlog) {
    let mut left = recover::recover(folder, DriverChoice::Epoll, 1).expect("it is read");
    let options = log_options(&settings(), 0, Numbers::of_shard(left.recovered.next_number, 0, 1));
    let mut log = Log::new(options, Pool::new(Budget::new(8 << 20)));
    let backlog = log.adopt(left.recovered.adoptions.remove(0));
    (log, backlog)
}

/// A message that nobody waits for, put into the log; its record.
fn append(world: &World) -> Result<spool::RecordId, spool::Full> {
    let body = [b'x'; 200_000];
    let facts = Facts {
        body_bytes: body.len() as u64,
        crc32c: crc_fast::crc32_iscsi(&body),
        longest_line: 1,
        ends_with_crlf: true,
        ..Facts::default()
    };
    let new = NewRecord {
        kind: RecordKind::Message,
        envelope: b"nobody",
        recipients: 1,
        trace: b"",
        facts: &facts,
        priority: 1,
        received: world.driver.wall(),
        content: Content::Octets(&[&body]),
        settles: &[],
    };
    world.hub.log.borrow_mut().append(&new).map(|appended| appended.id)
}

impl World {
    fn start(driver: Epoll, folder: &Path) -> Self {
        let world = Self::open(driver, folder, (1, 1));
        world.hub.start();
        world
    }

    /// A hub that has not begun yet; its first record and its first file have these numbers.
    fn open(driver: Epoll, folder: &Path, next: (u64, u32)) -> Self {
        Self::open_as(driver, folder, next, settings())
    }

    fn open_as(driver: Epoll, folder: &Path, next: (u64, u32), settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let pool = Pool::new(Budget::new(64 << 20));
        let (stored, counts) = (tally(), tally());
        let sink = sink(&driver, &settings, &stored, 0);
        let faults = Faults::none();
        let faulty = Faulty::new(driver.clone(), faults.clone());
        let parts = HubParts {
            settings,
            shard: (0, 1),
            pool,
            tally: counts.clone(),
            dir: Some(faulty.root(folder).expect("the folder opens")),
            direct: false,
            routes: routes("sink", &[sink]),
            next,
            exchange: None,
        };
        let hub = Hub::new(faulty.clone(), parts);
        let at = serve_on(&faulty, &hub);
        Self { driver, faults, hub, at, counts, stored }
    }

    async fn send(&self, count: usize) {
        send(&self.driver, self.at, count).await;
    }

    /// The record of the one message there is.
    fn record(&self) -> spool::RecordId {
        let mut records = Vec::new();
        self.hub.messages.borrow_mut().each(|message| records.push(message.record));
        let [record] = records[..] else { panic!("{records:?}") };
        record
    }

    async fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        wait_until(&self.driver, what, condition).await;
    }
}

/// Runs `test` on a hub that keeps so many messages, since its next hop refuses connections.
fn holding(count: usize, test: impl AsyncFnOnce(World)) {
    let folder = tempfile::tempdir().expect("a folder");
    epoll::run(&epoll::Options::default(), async |driver| {
        let world = World::start(driver, folder.path());
        world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
        world.send(count).await;
        test(world).await;
    })
    .expect("runs");
}

/// Runs `test` on a hub that has taken over what an earlier one left below `path`, and has not begun yet.
fn again(path: &Path, test: impl AsyncFnOnce(&World)) {
    let mut left = recover::recover(path, DriverChoice::Epoll, 1).expect("it is read");
    let adoption = left.recovered.adoptions.remove(0);
    epoll::run(&epoll::Options::default(), async |driver| {
        let world = World::open(driver, path, (left.recovered.next_number, left.next_file));
        world.hub.adopt(adoption).await.expect("its files open");
        test(&world).await;
    })
    .expect("runs");
}

/// F-018: content that changed in memory is noticed on the sample, and what leaves in its place is what the disk has.
#[test]
fn f_018_a_message_that_changed_in_memory_is_read_from_the_spool() {
    const MESSAGES: usize = 130;
    holding(MESSAGES, async |world| {
        // As if an octet of each had changed: the checksum of what was received is another.
        world.hub.messages.borrow_mut().each(|message| message.crc32c ^= 1);
        world.faults.heal();
        let all = || world.stored.read(Counter::Stored) == MESSAGES as u64;
        world.wait_until("everything is delivered", all).await;
        assert_eq!(world.counts.read(Counter::Damage), 3, "the first, and then one in 64");
        let reads = world.faults.seen().iter().filter(|seen| seen.op == Op::Read).count();
        assert!(reads >= 3, "they were read: {reads}");
    });
}

/// F-028, I-8: a record that the disk refuses once is read at once all the same; one that it refuses twice waits to be read
/// again, is shown, and is queued then, unless it was settled meanwhile.
#[test]
fn f_028_p_032_a_record_that_the_disk_refuses_is_asked_for_until_it_is_queued() {
    holding(1, async |world| {
        let (hub, record) = (&world.hub, world.record());
        let unreadable = || {
            let queue = hub.report().into_iter().find(|queue| queue.next_hop == "Unreadable" && !queue.unseen);
            queue.map(|queue| (queue.status, queue.messages(), queue.next_retry_ms.is_some()))
        };
        let unread = Some((QueueStatus::Retry, 1, true));
        for refusals in [1, 2] {
            let before = hub.queued();
            let refused = |nth| Rule::new(Op::Read, Fault::Fails(Errno::IO)).nth(nth);
            (1..=refusals).for_each(|nth| world.faults.inject(refused(nth)));
            let strikes = world.faults.strikes();
            hub.requeue(record, None, None).await;
            assert!(world.faults.strikes() >= strikes + refusals as usize, "it was read");
            assert_eq!(hub.queued(), before + 1, "it counts, {refusals} refused");
            if refusals > 1 {
                world.wait_until("it is shown", || unreadable() == unread).await;
            }
            world.wait_until("it is read", || unreadable().is_none()).await;
            assert_eq!(hub.queued(), before + 1);
        }
        assert_eq!(world.counts.read(Counter::Redelivered), 2);
        world.faults.inject(Rule::new(Op::Read, Fault::Fails(Errno::IO)));
        hub.requeue(record, None, None).await;
        world.wait_until("it is shown", || unreadable() == unread).await;
        hub.settle(record, 0, spool::Outcome::Delivered);
        world.wait_until("it is settled", || hub.log.borrow().fetch(record).is_none()).await;
        world.faults.heal();
        world.wait_until("nobody asks for it", || unreadable().is_none()).await;
        assert_eq!(world.counts.read(Counter::Redelivered), 2);
    });
}

/// M-102: an outcome that needs no write does not let those go on who wait for one that does.
#[test]
fn m_102_an_outcome_of_a_record_that_is_gone_leaves_others_waiting() {
    holding(1, async |world| {
        world.hub.settle(world.record(), 0, crate::spool::Outcome::Delivered);
        let last = world.hub.last_settle.get();
        assert!(last > world.hub.settled_upto.get());
        let gone = crate::spool::RecordId::from_raw(u64::MAX).expect("an id");
        world.hub.settle(gone, 0, crate::spool::Outcome::Delivered);
        assert_eq!(world.hub.last_settle.get(), last);
    });
}

/// F-027: a file that was moved, but not durably, is put away by the next try.
#[test]
fn f_027_a_file_that_a_failed_sync_left_in_quarantine_is_put_away_by_the_next_try() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    epoll::run(&epoll::Options::default(), move |driver| async move {
        let faults = Faults::none();
        let faulty = Faulty::new(driver, faults.clone());
        let spool = faulty.root(&path).expect("the folder opens");
        let file = crate::spool::FileId(7);
        let (name, aside) = (segments::name(file), path.join("quarantine"));
        std::fs::create_dir(&aside).expect("ours");
        for (earlier, expected) in [(None, name.clone()), (Some(&name), format!("{name}.1"))] {
            if let Some(earlier) = earlier {
                std::fs::write(aside.join(earlier), b"an earlier one").expect("ours");
            }
            // Of the folder that it goes to, and of the one that it leaves.
            for nth in [1, 2] {
                std::fs::write(path.join(&name), b"bad").expect("ours");
                faults.inject(Rule::new(Op::SyncDir, Fault::Fails(Errno::IO)).nth(nth));
                let mut quarantine = Quarantine::open(&faulty, &spool).await.expect("it opens");
                quarantine.take(file).await.expect_err("the sync failed");
                faults.heal();
                assert!(!path.join(&name).exists(), "it was moved");
                let mut again = Quarantine::open(&faulty, &spool).await.expect("it opens");
                assert_eq!(again.take(file).await.expect("it is there").as_ref(), Some(&expected));
                assert_eq!(std::fs::read(aside.join(&expected)).expect("there"), b"bad");
                std::fs::remove_file(aside.join(&expected)).expect("ours");
            }
        }
        let mut quarantine = Quarantine::open(&faulty, &spool).await.expect("it opens");
        assert_eq!(quarantine.take(crate::spool::FileId(8)).await.expect("nothing failed"), None, "it is nowhere");
    })
    .expect("runs");
}

/// P-009: what an earlier life left is queued while new mail is taken. Here none of it can be read before the new one is
/// acknowledged.
#[test]
fn p_009_mail_is_taken_before_what_was_left_is_queued() {
    // More than a segment holds: what is in the oldest has to be read from its footer.
    const LEFT: usize = 8000;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    epoll::run(&epoll::Options::default(), async |driver| {
        let world = World::start(driver, &path);
        world.faults.inject(Rule::new(Op::Connect, Fault::Fails(Errno::CONNREFUSED)));
        for _ in 0..LEFT / 1000 {
            world.send(1000).await;
        }
    })
    .expect("runs");
    again(&path, async |world| {
        world.faults.inject(Rule::new(Op::Read, Fault::Held));
        world.hub.start();
        world.send(1).await;
        assert_eq!(world.counts.read(Counter::Redelivered), 0, "nothing of it was read");
        world.faults.heal();
        let all = || world.stored.read(Counter::Stored) == LEFT as u64 + 1;
        world.wait_until("everything is delivered", all).await;
        assert_eq!(world.counts.read(Counter::Redelivered), LEFT as u64);
    });
}

/// a queue in Retry says why, since when messages wait, and when it is tried again.
#[test]
fn x_206_a_queue_in_retry_shows_its_cause_and_its_times() {
    holding(3, async |world| {
        let found = RefCell::new(None);
        let is_in_retry = || {
            world.hub.publish();
            let is_retried = |queue: &QueueReport| queue.status == QueueStatus::Retry && queue.retry_count > 1;
            *found.borrow_mut() = world.hub.report().into_iter().find(is_retried);
            found.borrow().is_some()
        };
        world.wait_until("the queue to be in Retry", is_in_retry).await;
        let queue = found.take().expect("it was seen");
        assert_eq!((queue.next_hop.as_str(), queue.messages()), ("sink", 3));
        assert_eq!(queue.last_error.as_deref(), Some("connection refused"));
        assert!(queue.last_error_ms <= queue.oldest_ms.map(|ms| ms + 2000));
        assert!(queue.next_retry_ms.is_some() && queue.last_retry_ms.is_some() && queue.oldest_ms.is_some());
        assert!(queue.incoming_per_s >= 0.0 && queue.outgoing_per_s == 0.0 && queue.velocity_per_s <= 0.0);
    });
}

/// The rows of queues are proved on these (`queue::tests`): a server that is told nothing else has no others.
#[test]
fn m_096_m_101_f_060_a_servers_queues_have_the_options_of_its_profile() {
    for (profile, options) in [
        (Profile::Exchange, queue::Options::exchange()),
        (Profile::Rfc, queue::Options::rfc()),
        (Profile::Bench, queue::Options::bench()),
    ] {
        assert_eq!(queue_options(&Settings::of(profile)), options, "{profile:?}");
    }
}
