//! Many connections and few descriptors. These tests count and limit the process's own descriptors, so each has a process.

use crate::harness::*;
use engine::io::driver::{Conn, Driver, Next, Open};
use engine::wire::Span;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::cell::Cell;
use std::net::TcpStream;
use std::rc::Rc;

crate::each!(many: f_048_f_049_many_senders_and_slow_readers_lose_nothing; alone
    i_007_ten_thousand_connections_leave_no_descriptor
    thousands_of_idle_connections_all_answer
    f_038_accept_without_descriptors_is_an_error_and_goes_on_later
    f_049_an_accept_that_ended_is_begun_again_once
    f_039_connect_and_open_without_descriptors_are_errors
    i_007_files_leave_no_descriptor
    i_007_openings_that_nobody_waits_for_leave_no_descriptor
);

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

/// Allows `soft` descriptors.
fn limit_descriptors(soft: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum }).expect("below the maximum");
}

/// Serves each connection of `listener`: answers every octet, until the peer ends.
fn serve<D: Driver>(driver: &D, listener: D::Listener) -> Rc<Cell<usize>> {
    let served = Rc::new(Cell::new(0));
    let (count, server) = (served.clone(), driver.clone());
    driver.spawn(async move {
        while let Ok(mut conn) = server.accept(&listener).await {
            let (count, driver) = (count.clone(), server.clone());
            server.spawn(async move {
                while let Next::Bytes(bytes) = next_all(&driver, &mut conn).await {
                    conn.put(&bytes);
                }
                count.set(count.get() + 1);
            });
        }
    });
    served
}

pub fn i_007_ten_thousand_connections_leave_no_descriptor<U: Under>() {
    const WAVES: usize = 50;
    const AT_ONCE: usize = 200;
    limit_descriptors(4096);
    U::run(async move |driver| {
        let listener = driver.listen(anywhere()).expect("a free port");
        let at = driver.local(&listener).expect("bound");
        let served = serve(&driver, listener);
        driver.sleep(Span::millis(1)).await;
        let before = open_descriptors();
        for wave in 1..=WAVES {
            for index in 0..AT_ONCE {
                let client = driver.clone();
                driver.spawn(async move {
                    let mut conn = client.connect(at, soon(&client)).await.expect("listening");
                    conn.put(b"x");
                    until_shown(&client, &mut conn, b"x").await;
                    if index % 4 == 0 { conn.abort() } else { drop(conn) }
                });
            }
            until(&driver, || served.get() == wave * AT_ONCE).await;
        }
        until(&driver, || open_descriptors() <= before).await;
    });
}

/// Buffers run out under it where they are few: a receive ends then, and is armed again once, no sooner than one came back.
/// Two at a time would mix up what they bring.
pub fn f_048_f_049_many_senders_and_slow_readers_lose_nothing<U: Under>() {
    const SENDERS: usize = 200;
    const OCTETS: usize = 100_000;
    let content = |sender: usize| (0..OCTETS).map(move |at| (sender * 31 + at * 7 + at / 251) as u8);
    U::run(async move |driver| {
        let listener = driver.listen(anywhere()).expect("a free port");
        let at = driver.local(&listener).expect("bound");
        let intact = Rc::new(Cell::new(0));
        let (count, server) = (intact.clone(), driver.clone());
        driver.spawn(async move {
            while let Ok(mut conn) = server.accept(&listener).await {
                let (count, driver) = (count.clone(), server.clone());
                server.spawn(async move {
                    let mut came = Vec::new();
                    while let Next::Bytes(bytes) = next_all(&driver, &mut conn).await {
                        came.extend(bytes);
                        // What arrives meanwhile keeps its buffers.
                        driver.sleep(Span::micros(300)).await;
                    }
                    let sender = usize::from(came[0]) | usize::from(came[1]) << 8;
                    assert!(came[2..].iter().copied().eq(content(sender)), "what sender {sender} sent");
                    count.set(count.get() + 1);
                });
            }
        });
        for sender in 0..SENDERS {
            let client = driver.clone();
            driver.spawn(async move {
                let mut conn = client.connect(at, soon(&client)).await.expect("listening");
                conn.put(&[(sender & 255) as u8, (sender >> 8) as u8]);
                let all: Vec<u8> = content(sender).collect();
                for piece in all.chunks(20_000) {
                    conn.put(piece);
                    client.sleep(Span::micros(500)).await;
                }
                conn.finish();
                // The peer's end says that it has read everything.
                while let Next::Bytes(_) = next_all(&client, &mut conn).await {}
            });
        }
        until(&driver, || intact.get() == SENDERS).await;
    });
}

pub fn thousands_of_idle_connections_all_answer<U: Under>() {
    let maximum = getrlimit(Resource::Nofile).maximum.unwrap_or(20_000);
    limit_descriptors(maximum);
    let count = usize::try_from(maximum.saturating_sub(200) / 2).expect("small").min(5_000);
    U::run(async move |driver| {
        let listener = driver.listen(anywhere()).expect("a free port");
        let at = driver.local(&listener).expect("bound");
        let served = serve(&driver, listener);
        let mut idle = Vec::new();
        for _ in 0..count {
            idle.push(driver.connect(at, soon(&driver)).await.expect("listening"));
        }
        for conn in &mut idle {
            conn.put(b"y");
        }
        for conn in &mut idle {
            until_shown(&driver, conn, b"y").await;
        }
        drop(idle);
        until(&driver, || served.get() == count).await;
    });
}

pub fn f_038_accept_without_descriptors_is_an_error_and_goes_on_later<U: Under>() {
    const PEERS: usize = 8;
    U::run(async move |driver| {
        let listener = driver.listen(anywhere()).expect("a free port");
        let at = driver.local(&listener).expect("bound");
        let peers: Vec<_> = (0..PEERS).map(|_| TcpStream::connect(at).expect("listening")).collect();
        let spent = open_descriptors() as u64;
        limit_descriptors(3); // the highest number plus one, so that none is free
        for _ in 0..3 {
            let error = driver.accept(&listener).await.err().expect("no descriptor is left");
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
        }
        limit_descriptors(spent + 100);
        for _ in 0..PEERS {
            driver.accept(&listener).await.expect("they waited in the backlog");
        }
        drop(peers);
    });
}

/// Where it goes on by itself, what it fails by ends it. Were it begun twice then, one of the two would hold the port when the
/// other is ended with its listener.
pub fn f_049_an_accept_that_ended_is_begun_again_once<U: Under>() {
    const PEERS: usize = 8;
    U::run(async move |driver| {
        let listener = driver.listen(anywhere()).expect("a free port");
        let at = driver.local(&listener).expect("bound");
        let peers = [(); PEERS].map(|()| TcpStream::connect(at).expect("listening"));
        let spent = open_descriptors() as u64;
        limit_descriptors(3);
        for _ in 0..3 {
            let error = driver.accept(&listener).await.err().expect("no descriptor is left");
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
        }
        limit_descriptors(spent + 100);
        for _ in &peers {
            driver.accept(&listener).await.expect("they waited in the backlog");
        }
        assert!(poll_once(driver.accept(&listener)).is_pending(), "each came once");
        drop(listener);
        until(&driver, || TcpStream::connect(at).is_err()).await;
    });
}

pub fn f_039_connect_and_open_without_descriptors_are_errors<U: Under>() {
    U::run(async move |driver| {
        let listener = driver.listen(anywhere()).expect("a free port");
        let at = driver.local(&listener).expect("bound");
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let root = driver.root(folder.path()).expect("a folder");
        // Once each, so that what a driver opens for itself is open.
        driver.connect(at, soon(&driver)).await.expect("listening").abort();
        drop(driver.open(&root, "one", Open::Create { direct: false }).await.expect("created"));
        let spent = open_descriptors() as u64;
        limit_descriptors(3);
        let no_descriptor = Some(rustix::io::Errno::MFILE.raw_os_error());
        let error = driver.connect(at, soon(&driver)).await.err().expect("no descriptor is left");
        assert_eq!(error.raw_os_error(), no_descriptor);
        let error = driver.open(&root, "one", Open::Read).await.err().expect("no descriptor is left");
        assert_eq!(error.raw_os_error(), no_descriptor);
        limit_descriptors(spent + 100);
        driver.open(&root, "one", Open::Read).await.expect("descriptors again");
        driver.connect(at, soon(&driver)).await.expect("descriptors again");
    });
}

pub fn i_007_files_leave_no_descriptor<U: Under>() {
    U::run(async move |driver| {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let root = driver.root(folder.path()).expect("a folder");
        driver.create_dir(&root, "sub").await.expect("made");
        drop(driver.open(&root, "f", Open::Create { direct: false }).await.expect("created"));
        let before = open_descriptors();
        for _ in 0..500 {
            let file = driver.open(&root, "f", Open::Write { direct: false }).await.expect("there");
            let clone = file.clone();
            drop(file);
            assert_eq!(driver.size(&clone).expect("still open"), 0);
            let dir = driver.dir(&root, "sub").await.expect("there");
            assert!(driver.list(&dir).await.expect("readable").is_empty());
            assert!(driver.open(&root, "missing", Open::Read).await.is_err());
        }
        until(&driver, || open_descriptors() <= before).await;
    });
}

pub fn i_007_openings_that_nobody_waits_for_leave_no_descriptor<U: Under>() {
    U::run(async move |driver| {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let root = driver.root(folder.path()).expect("a folder");
        driver.create_dir(&root, "sub").await.expect("made");
        drop(driver.open(&root, "f", Open::Create { direct: false }).await.expect("created"));
        let before = open_descriptors();
        for _ in 0..200 {
            // Begun, and let go before the system has answered.
            let _begun = poll_once(driver.open(&root, "f", Open::Read));
            let _begun = poll_once(driver.dir(&root, "sub"));
        }
        // What was begun before this has been answered with it, on every driver.
        for _ in 0..10 {
            drop(driver.open(&root, "f", Open::Read).await.expect("there"));
        }
        until(&driver, || open_descriptors() <= before).await;
    });
}
