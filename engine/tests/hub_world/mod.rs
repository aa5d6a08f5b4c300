//! A hub on a disk that may go wrong, and what it is asked and delivers.

use crate::skip;
use crate::under::{OnEpoll, OnTokioUring, OnUring, Under};
use arc_swap::ArcSwap;
use engine::io::choice::DriverChoice;
use engine::io::driver::{Conn, Driver, Next};
use engine::io::faulty::{Faults, Faulty};
use engine::io::uring::Uring;
use engine::route::{RouteTable, Snapshot};
use engine::settings::{Profile, Settings, Store};
use engine::shell::hub::{Hub, HubParts};
use engine::shell::inlet::Inlet;
use engine::shell::mailbox::MailboxDelivery;
use engine::shell::serve::{Admission, Lobby, Service, serve};
use engine::smtp::server::ServerOptions;
use engine::sys::slice::{Budget, Pool};
use engine::track::counters::{Board, Counter, Tally};
use engine::wire::{DeliveryType, NextHopKey, Span};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use tempfile::TempDir;

pub const MESSAGES: usize = 24;

/// What does the I/O below the faults, and how a spool is written and recovered on it.
pub trait Disk: Under {
    /// Whether segments are written past the page cache.
    const DIRECT: bool = false;
    /// What it is called where a spool is recovered.
    const CHOICE: DriverChoice;
}

impl Disk for OnEpoll {
    const CHOICE: DriverChoice = DriverChoice::Epoll;
}

impl Disk for OnUring {
    const CHOICE: DriverChoice = DriverChoice::Uring;
}

impl Disk for OnTokioUring {
    const CHOICE: DriverChoice = DriverChoice::TokioUring;
}

/// [`OnUring`] with direct writes.
pub struct OnUringDirectly;

impl Under for OnUringDirectly {
    type Driver = Uring;
    fn run<F, Fut>(f: F)
    where
        F: FnOnce(Uring) -> Fut,
        Fut: Future<Output = ()> + 'static,
    {
        if takes_direct() {
            OnUring::run(f);
        } else {
            let name = std::thread::current().name().unwrap_or("a test").to_owned();
            skip::skip(&name, "the folder for temporary files takes no direct I/O");
        }
    }
}

impl Disk for OnUringDirectly {
    const DIRECT: bool = true;
    const CHOICE: DriverChoice = DriverChoice::Uring;
}

/// Whether folders for temporary files take direct I/O.
pub fn takes_direct() -> bool {
    let folder = folder();
    let takes = Rc::new(std::cell::Cell::new(false));
    let told = takes.clone();
    OnEpoll::run(|driver| async move {
        let dir = driver.root(folder.path()).expect("the folder opens");
        told.set(engine::shell::hub::takes_direct(&driver, &dir, 0).await);
    });
    takes.get()
}

/// What became of the messages of one run.
#[derive(Debug, Default)]
pub struct Story {
    pub accepted: usize,
    pub deferred: usize,
    /// Connections that closed without a reply.
    pub silent: usize,
    pub delivered: u64,
    /// How often the disk went wrong.
    pub strikes: usize,
}

pub fn tally() -> Rc<Tally> {
    let (_, mut tallies) = Board::new(1);
    Rc::new(tallies.remove(0))
}

/// Serves `service` on a port of the system's choice; a verdict is waited for so long.
pub fn serve_on<D: Driver, S: Service<D>>(driver: &D, service: &Rc<S>, verdict: Span) -> SocketAddr {
    let listener = driver.listen(([127, 0, 0, 1], 0).into()).expect("a port");
    let at = driver.local(&listener).expect("bound");
    let mut options = ServerOptions::new(engine::smtp::Profile::Bench, "hub.test");
    options.timers.verdict = verdict;
    let options = Arc::new(options);
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

/// Sends one message; the code that it was answered with, at MAIL if it was refused there. 0 when there was none.
pub async fn send<D: Driver>(driver: &D, to: SocketAddr, number: usize, body_bytes: usize) -> u16 {
    let mut conn = driver.connect(to, driver.now() + Span::seconds(5)).await.expect("the hub listens");
    let line = "seventy octets of content, or very nearly so, stand on this line here.\r\n";
    let body = format!("Subject: {number}\r\n\r\n{}", line.repeat(body_bytes / line.len() + 1));
    let size = body.len();
    let transaction =
        format!("MAIL FROM:<ann@a.test> SIZE={size}\r\nRCPT TO:<bob@b.test>\r\nBDAT {size} LAST\r\n{body}");
    // Greeting, EHLO, MAIL, RCPT and BDAT.
    let mut final_replies = 0;
    let mut pending = Vec::new();
    loop {
        let next = conn.next(driver.now() + Span::seconds(20), |octets| (octets.len(), octets.to_vec())).await;
        match next {
            Next::Bytes(octets) => pending.extend(octets),
            Next::Room => continue,
            _ => return 0,
        }
        while let Some(end) = pending.windows(2).position(|pair| pair == b"\r\n") {
            let reply: Vec<u8> = pending.drain(..end + 2).collect();
            if reply[3] != b' ' {
                continue;
            }
            final_replies += 1;
            match final_replies {
                1 => conn.put(b"EHLO client.test\r\n"),
                2 => conn.put(transaction.as_bytes()),
                3 | 5 if final_replies == 5 || reply[0] != b'2' => {
                    return String::from_utf8_lossy(&reply[..3]).parse().expect("a code");
                }
                _ => {}
            }
        }
    }
}

/// A hub on a disk that may go wrong, and the store that it delivers to.
pub struct World<U: Disk> {
    pub driver: U::Driver,
    pub faults: Faults,
    pub hub: Rc<Hub<Faulty<U::Driver>>>,
    pub at: SocketAddr,
    /// The hub's counters and the store's.
    pub counts: Rc<Tally>,
    pub stored: Rc<Tally>,
}

/// How long verdicts are waited for where a test says nothing else.
pub const VERDICT: Span = Span::minutes(5);

impl<U: Disk> World<U> {
    pub fn start(driver: U::Driver, folder: &Path, faults: Faults) -> Self {
        Self::patient(driver, folder, faults, VERDICT)
    }

    /// A hub whose clients get a verdict within this time or none.
    pub fn patient(driver: U::Driver, folder: &Path, faults: Faults, verdict: Span) -> Self {
        Self::with_memory(driver, folder, faults, (verdict, 64 << 20))
    }

    /// The same with so many octets for content.
    pub fn with_memory(driver: U::Driver, folder: &Path, faults: Faults, limits: (Span, usize)) -> Self {
        Self::with_settings(driver, folder, faults, limits, Settings::of(Profile::Bench))
    }

    /// The same with these settings, as far as they are not about where things are.
    pub fn with_settings(
        driver: U::Driver,
        folder: &Path,
        faults: Faults,
        (verdict, memory): (Span, usize),
        mut settings: Settings,
    ) -> Self {
        settings.store = Store::Null;
        settings.spool.segment_bytes = 1 << 20;
        settings.spool.free_min = 0;
        let settings = Arc::new(settings);
        let pool = Pool::new(Budget::new(memory));
        let stored = tally();
        let store_pool = Pool::new(Budget::new(64 << 20));
        let store = MailboxDelivery::open(driver.clone(), &settings, store_pool, stored.clone()).expect("null opens");
        let sink = serve_on(&driver, &Rc::new(Rc::new(store)), VERDICT);
        let key = NextHopKey { delivery: DeliveryType::SmartHost, domain: "sink".into(), connector: "".into() };
        let table = RouteTable::smart_host(key, &[sink]).expect("a route");
        let routes =
            ArcSwap::from_pointee(Snapshot { table, manners: vec![Default::default()], ..Snapshot::default() });
        let faulty = Faulty::new(driver.clone(), faults.clone());
        let counts = tally();
        let parts = HubParts {
            settings: settings.clone(),
            shard: (0, 1),
            pool,
            tally: counts.clone(),
            dir: Some(faulty.root(folder).expect("the folder opens")),
            direct: U::DIRECT,
            routes: routes.load_full(),
            next: (1, 1),
            exchange: None,
        };
        let hub = Hub::new(faulty.clone(), parts);
        hub.start();
        let at = serve_on(&faulty, &hub, verdict);
        Self { driver, faults, hub, at, counts, stored }
    }

    /// Sends all messages, one by one.
    pub async fn send_all(&self, body_bytes: usize) -> Story {
        let mut story = Story::default();
        for number in 0..MESSAGES {
            match send(&self.driver, self.at, number, body_bytes).await {
                250 => story.accepted += 1,
                0 => story.silent += 1,
                code if code / 100 == 4 => story.deferred += 1,
                code => panic!("I-9: our own trouble is answered with {code}"),
            }
        }
        story
    }

    pub async fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let by = self.driver.now() + Span::seconds(30);
        while !condition() {
            assert!(self.driver.now() < by, "{what}: {} stored", self.stored.read(Counter::Stored));
            self.driver.sleep(Span::millis(2)).await;
        }
    }
}

pub fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).expect("ours");
    folder
}
