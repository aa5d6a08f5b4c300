//! A front end whose way to a hub goes wrong: its messages go to another hub.
#![forbid(unsafe_code)]

use engine::io::driver::{Conn, Driver, Next, Notify, SEND_ROOM_BYTES};
use engine::io::faulty::{Fault, Faults, Faulty, Op, Rule};
use engine::route::{NextHop, Snapshot};
use engine::settings::{Profile, Settings, Store};
use engine::shell::frontend::FrontEnd;
use engine::shell::inlet::Inlet;
use engine::shell::mailbox::MailboxDelivery;
use engine::shell::serve::{Admission, Lobby, Service, serve};
use engine::smtp::server::ServerOptions;
use engine::sys::slice::{Budget, Pool};
use engine::track::counters::{Board, Counter, Tally};
use engine::wire::{DeliveryType, HostAddress, NextHopKey, Span};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

#[path = "../../tests/src/skip.rs"]
mod skip;
mod under;

use under::{OnEpoll, OnTokioUring, OnUring, Under};

/// Every test on each of the drivers.
macro_rules! each {
    ($($test:ident)*) => {
        each!(on_epoll OnEpoll: $($test)*);
        each!(on_uring OnUring: $($test)*);
        each!(on_tokio_uring OnTokioUring: $($test)*);
    };
    ($module:ident $under:ident: $($test:ident)*) => {
        mod $module {
            $(#[test] fn $test() { super::$test::<super::$under>(); })*
        }
    };
}

each! {
    f_100_behind_a_streamed_message_a_connection_has_its_send_room_again
    f_100_what_waits_for_a_connection_that_does_not_come_goes_to_another_hub
    f_100_slow_streamed_messages_keep_little_of_the_memory_that_others_used
    m_118_f_066_f_100_what_a_hub_says_503_to_goes_to_another_hub
    m_118_f_066_f_100_a_hub_that_says_503_to_mail_fails_nobody_for_good
}

fn tally() -> Rc<Tally> {
    let (_, mut tallies) = Board::new(1);
    Rc::new(tallies.remove(0))
}

/// Serves `service` on a port of the system's choice; `trusted` to front ends that say for whom they speak.
fn serve_on<D: Driver, S: Service<D>>(driver: &D, service: &Rc<S>, trusted: bool) -> SocketAddr {
    let listener = driver.listen(([127, 0, 0, 1], 0).into()).expect("a port");
    let at = driver.local(&listener).expect("bound");
    let options = Arc::new(ServerOptions::new(engine::smtp::Profile::Bench, "host.test"));
    let (driver, service) = (driver.clone(), service.clone());
    driver.clone().spawn(async move {
        while let Ok(conn) = driver.accept(&listener).await {
            let inlet = Rc::new(Inlet::new(conn.handle()));
            let admission = Admission { inlet, trusted, refuse: None, lobby: Lobby::new(tally()) };
            driver.spawn(serve(driver.clone(), service.clone(), options.clone(), conn, admission));
        }
    });
    at
}

/// A store that stands for a hub: where it is, and what it counts.
fn hub<D: Driver>(driver: &D, settings: &Arc<Settings>) -> (SocketAddr, Rc<Tally>) {
    let counts = tally();
    let pool = Pool::new(Budget::new(16 << 20));
    let store = MailboxDelivery::open(driver.clone(), settings, pool, counts.clone()).expect("null opens");
    (serve_on(driver, &Rc::new(Rc::new(store)), true), counts)
}

/// A client that has said EHLO.
async fn meet<D: Driver>(driver: &D, to: SocketAddr) -> D::Conn {
    let mut conn = driver.connect(to, driver.now() + Span::seconds(5)).await.expect("it listens");
    let mut heard = String::new();
    listen(driver, &mut conn, &mut heard, " ready\r\n").await;
    conn.put(b"EHLO client.test\r\n");
    listen(driver, &mut conn, &mut heard, "250 HELP\r\n").await;
    conn
}

/// Sends one message; all that was said.
async fn send<D: Driver>(driver: &D, to: SocketAddr, body: &[u8]) -> String {
    let (mut conn, mut heard) = (meet(driver, to).await, String::new());
    conn.put(format!("MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT {} LAST\r\n", body.len()).as_bytes());
    conn.put(body);
    conn.put(b"QUIT\r\n");
    listen(driver, &mut conn, &mut heard, "\r\n221 ").await;
    heard
}

/// Adds what is said up to this, or to the end of the connection.
async fn listen<D: Driver>(driver: &D, conn: &mut D::Conn, heard: &mut String, end: &str) {
    while !heard.contains(end) {
        match conn.next(driver.now() + Span::seconds(60), |octets| (octets.len(), octets.to_vec())).await {
            Next::Bytes(octets) => heard.push_str(&String::from_utf8_lossy(&octets)),
            Next::Room | Next::Note(_) => {}
            _ => break,
        }
    }
}

fn settings() -> Arc<Settings> {
    let mut settings = Settings::of(Profile::Bench);
    settings.store = Store::Null;
    Arc::new(settings)
}

/// A front end before `hubs`, whose connections to them meet `faults`: where it is.
fn front<D: Driver>(driver: &D, faults: &Faults, settings: &Arc<Settings>, hubs: &[SocketAddr]) -> SocketAddr {
    let (pool, counts) = (Pool::new(Budget::new(16 << 20)), tally());
    front_of(driver, (pool, counts), faults, settings, hubs)
}

/// The same, that takes its memory from this pool and counts here.
fn front_of<D: Driver>(
    driver: &D,
    (pool, counts): (Pool, Rc<Tally>),
    faults: &Faults,
    settings: &Arc<Settings>,
    hubs: &[SocketAddr],
) -> SocketAddr {
    let key = NextHopKey { delivery: DeliveryType::SmartHost, domain: "hubs".into(), connector: "".into() };
    let hosts = hubs.iter().copied().map(HostAddress::equal).collect();
    let routes = Snapshot { hubs: NextHop { key, hosts }, ..Snapshot::default() };
    let front = FrontEnd::new(Faulty::new(driver.clone(), faults.clone()), settings, pool, counts, &routes);
    serve_on(&Faulty::new(driver.clone(), Faults::none()), &Rc::new(front), false)
}

/// A body of one line, and one that is streamed.
fn bodies() -> [Vec<u8>; 2] {
    [b"Subject: small\r\n\r\nx\r\n".to_vec(), b"0123456789abc\r\n".repeat(20_000)]
}

/// What a connection may hold unsent of a streamed message is little; of those behind it as much as of others.
fn f_100_behind_a_streamed_message_a_connection_has_its_send_room_again<U: Under>() {
    U::run(|driver| async move {
        let (settings, faults) = (settings(), Faults::none());
        let (hub, counts) = hub(&driver, &settings);
        let at = front(&driver, &faults, &settings, &[hub]);
        let [small, large] = bodies();
        for (body, room) in [(&small, None), (&large, Some(16 << 10)), (&small, Some(SEND_ROOM_BYTES))] {
            let heard = send(&driver, at, body).await;
            assert!(heard.lines().nth(2).is_some_and(|verdict| verdict.starts_with("250 2.")), "{heard}");
            assert_eq!(faults.send_room(), room);
        }
        assert_eq!(counts.read(Counter::Stored), 3);
    });
}

/// One of two hubs never answers a connection, as a listener that was closed while it came: each message that waits for it,
/// small or streamed, goes to the other one, and none waits for the connection to fail.
fn f_100_what_waits_for_a_connection_that_does_not_come_goes_to_another_hub<U: Under>() {
    U::run(|driver| async move {
        let settings = settings();
        let ((well, counts), (lost, unasked)) = (hub(&driver, &settings), hub(&driver, &settings));
        let faults = Faults::none();
        faults.inject(Rule::new(Op::Connect, Fault::Held).named(&lost.to_string()));
        let at = front(&driver, &faults, &settings, &[lost, well]);
        let bodies = bodies();
        for round in 0..10 {
            for body in &bodies {
                let heard = send(&driver, at, body).await;
                let verdict = heard.lines().nth(2).is_some_and(|verdict| verdict.starts_with("250 2."));
                assert!(verdict, "round {round}, {} octets: {heard}", body.len());
            }
        }
        assert!(faults.strikes() > 0, "the lost one was asked");
        assert_eq!((counts.read(Counter::Stored), unasked.read(Counter::Stored)), (20, 0));
        faults.heal();
    });
}

/// Clients that take their time with large bodies, and mail that passes between them: of its memory they keep nothing.
fn f_100_slow_streamed_messages_keep_little_of_the_memory_that_others_used<U: Under>() {
    const SLOW: usize = 5;
    U::run(|driver| async move {
        let (settings, faults) = (settings(), Faults::none());
        let (hub, _) = hub(&driver, &settings);
        let (pool, counts) = (Pool::new(Budget::new(16 << 20)), tally());
        let budget = pool.budget().clone();
        let at = front_of(&driver, (pool, counts.clone()), &faults, &settings, &[hub]);
        let small = b"0123456789abc\r\n".repeat(500);
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            let before = counts.read(Counter::ContentIn);
            let mut conn = meet(&driver, at).await;
            conn.put(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 1000000 LAST\r\n");
            conn.put(&[b'x'; 100_000]);
            slow.push(conn);
            while counts.read(Counter::ContentIn) == before {
                driver.sleep(Span::millis(1)).await;
            }
            // More than what is small is packed in.
            for _ in 0..36 {
                let heard = send(&driver, at, &small).await;
                assert!(heard.lines().nth(2).is_some_and(|verdict| verdict.starts_with("250 2.")), "{heard}");
            }
        }
        let (most, shared) = (SLOW * (96 << 10), 256 << 10);
        assert!(budget.leased_bytes() <= most + shared, "{} octets", budget.leased_bytes());
    });
}

/// A hub that takes no transaction: where it is, and how often it was asked for one.
fn refusing_hub<D: Driver>(driver: &D) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = driver.listen(([127, 0, 0, 1], 0).into()).expect("a port");
    let (at, asked) = (driver.local(&listener).expect("bound"), Rc::<Cell<usize>>::default());
    let (driver, counts) = (driver.clone(), asked.clone());
    driver.clone().spawn(async move {
        while let Ok(mut conn) = driver.accept(&listener).await {
            let (driver, counts) = (driver.clone(), counts.clone());
            driver.clone().spawn(async move {
                conn.put(b"220 hub.test\r\n");
                let mut line = Vec::new();
                while let Some(octet) = octet(&driver, &mut conn).await {
                    line.push(octet);
                    if octet == b'\n' {
                        counts.set(counts.get() + usize::from(line.starts_with(b"MAIL")));
                        conn.put(answer(&line));
                        line.clear();
                    }
                }
            });
        }
    });
    (at, asked)
}

/// What such a hub answers to a line: it offers nothing, so that each comes by itself.
fn answer(line: &[u8]) -> &'static [u8] {
    match line.get(..4) {
        Some(b"QUIT") => b"221 hub.test\r\n",
        Some(b"MAIL" | b"RCPT" | b"DATA") => b"503 5.5.1 Not now\r\n",
        _ => b"250 hub.test\r\n",
    }
}

/// The next octet; nothing behind the last one.
async fn octet<D: Driver>(driver: &D, conn: &mut D::Conn) -> Option<u8> {
    let handle = conn.handle();
    loop {
        match conn.next(driver.now() + Span::seconds(60), |octets| (1, (octets[0], octets.len()))).await {
            Next::Bytes((octet, shown)) => {
                if shown > 1 {
                    // What is left is shown again.
                    handle.note(1);
                }
                return Some(octet);
            }
            Next::Room | Next::Note(_) => {}
            _ => return None,
        }
    }
}

/// Its word about MAIL is none about a message: that one is taken elsewhere.
fn m_118_f_066_f_100_what_a_hub_says_503_to_goes_to_another_hub<U: Under>() {
    U::run(|driver| async move {
        let settings = settings();
        let ((odd, asked), (well, counts)) = (refusing_hub(&driver), hub(&driver, &settings));
        let at = front(&driver, &Faults::none(), &settings, &[odd, well]);
        let [small, _] = bodies();
        let mut sent = 0;
        while sent < 10 || asked.get() == 0 {
            let heard = send(&driver, at, &small).await;
            assert!(heard.lines().nth(2).is_some_and(|verdict| verdict.starts_with("250 2.")), "{sent}: {heard}");
            sent += 1;
            assert!(sent < 1000, "the odd one was never asked");
        }
        assert_eq!(counts.read(Counter::Stored), sent);
    });
}

/// Where there is no other one its sender may send it again.
fn m_118_f_066_f_100_a_hub_that_says_503_to_mail_fails_nobody_for_good<U: Under>() {
    U::run(|driver| async move {
        let settings = settings();
        let (odd, asked) = refusing_hub(&driver);
        let at = front(&driver, &Faults::none(), &settings, &[odd]);
        let [small, _] = bodies();
        for _ in 0..100 {
            let heard = send(&driver, at, &small).await;
            // As long as the hub counts as dead a message is put off before its content.
            let refusal = heard.lines().find(|line| !line.starts_with("25"));
            assert!(refusal.is_some_and(|line| line.starts_with("451 4.")), "{heard}");
            if asked.get() > 0 {
                return;
            }
        }
        panic!("it was never asked");
    });
}
