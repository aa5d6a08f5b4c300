//! The reactor end to end: an echo server and a client in one shard.

#![forbid(unsafe_code)]

use engine::io::driver::{Conn, Driver, Next, Open, Stable};
use engine::io::uring::{self, Setup, Uring};
use engine::sys::outgoing::Outgoing;
use engine::sys::ring::Ring;
use engine::sys::slice::{Budget, Pool};
use engine::wire::Span;
use std::cell::Cell;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::rc::Rc;

#[path = "../../tests/src/skip.rs"]
mod skip;

fn on_ring<F, Fut>(setup: Setup, f: F)
where
    F: FnOnce(Uring) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    skip::unless_refused(uring::run(setup, f));
}

#[test]
fn octets_come_back_through_shared_buffers_and_aimed_chunks() {
    on_ring(Setup::default(), |driver| async move {
        let listener = driver.listen("127.0.0.1:0".parse().expect("address")).expect("listens");
        let at = driver.local(&listener).expect("bound");
        let server = driver.clone();
        driver.spawn(async move {
            let mut conn = server.accept(&listener).await.expect("accepts");
            loop {
                let seen = conn.next(server.now() + Span::seconds(5), |octets| (octets.len(), octets.to_vec())).await;
                match seen {
                    Next::Bytes(octets) => conn.put(&octets),
                    Next::Room => {}
                    Next::End => break,
                    other => panic!("{other:?}"),
                }
            }
        });
        let pool = Pool::new(Budget::new(8 << 20));
        let mut conn = driver.connect(at, driver.now() + Span::seconds(5)).await.expect("connects");
        let mut fill = pool.fill(1 << 20).expect("fits");
        for index in 0..fill.room() {
            fill.spare()[index] = (index % 251) as u8;
        }
        fill.advance(fill.room());
        let sent = fill.take();
        conn.push(sent.clone());
        let mut back = Vec::new();
        while back.len() < sent.len() {
            if back.len() > sent.len() / 2 {
                conn.aim(pool.fill(64 << 10).expect("fits"));
            }
            match conn.next(driver.now() + Span::seconds(5), |octets| (octets.len(), octets.to_vec())).await {
                Next::Bytes(octets) => back.extend(octets),
                Next::Filled(fill, octets) => {
                    assert_eq!(fill.filled(), octets);
                    back.extend(fill.written());
                }
                Next::Room => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(back == *sent, "what comes back is what was sent");
    });
}

#[test]
fn a_direct_durable_write_reads_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    on_ring(Setup::default(), |driver| async move {
        let dir = driver.root(&path).expect("opens");
        let file = driver.open(&dir, "log", Open::Create { direct: true }).await.expect("creates");
        driver.allocate(&file, 1 << 20).await.expect("allocates");
        let pool = Pool::new(Budget::new(8 << 20));
        let mut fill = pool.fill(8192).expect("fits");
        fill.put(b"hello");
        fill.pad_to(4096);
        let (written, parts) = driver.write(&file, vec![fill.take()], 4096, Stable::Yes).await;
        assert_eq!((written.expect("written"), parts.len()), (4096, 1));
        let (read, fill) = driver.read(&file, pool.fill(4096).expect("fits"), 4096).await;
        assert_eq!(read.expect("read"), 4096);
        assert_eq!(&fill.written()[..6], b"hello\0");
        assert_eq!(driver.size(&file).expect("size"), 1 << 20);
        driver.rename(&dir, "log", &dir, "log2").await.expect("renames");
        assert_eq!(driver.list(&dir).await.expect("lists")[0].name, "log2");
        assert!(driver.open(&dir, "../x", Open::Read).await.is_err());
    });
}

/// A queue of one request, and one of two completions.
fn tiny() -> uring::Setup {
    uring::Setup { submissions: 1, completions: 2, ..uring::Setup::default() }
}

/// Of a hundred writes begun in one turn, each ends once, with its own octets where it was told, and those that waited are
/// counted.
#[test]
fn f_047_requests_beyond_the_queue_wait_and_are_done() {
    const WRITES: u64 = 100;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    on_ring(tiny(), |driver| async move {
        let dir = driver.root(&path).expect("opens");
        let file = driver.open(&dir, "log", Open::Create { direct: false }).await.expect("creates");
        let pool = Pool::new(Budget::new(8 << 20));
        let ended = Rc::new(Cell::new(0));
        for index in 0..WRITES {
            let mut fill = pool.fill(4096).expect("fits");
            fill.put(&[u8::try_from(index).expect("small"); 4096]);
            let (writer, file, ended) = (driver.clone(), file.clone(), ended.clone());
            driver.spawn(async move {
                let (written, parts) = writer.write(&file, vec![fill.take()], index * 4096, Stable::No).await;
                assert_eq!((written.expect("written"), parts.len()), (4096, 1));
                ended.set(ended.get() + 1);
            });
        }
        while ended.get() < WRITES {
            driver.sleep(Span::millis(1)).await;
        }
        let written = std::fs::read(path.join("log")).expect("written");
        assert!((0..WRITES).all(|index| written[index as usize * 4096..][..4096] == [index as u8; 4096]));
        let counts = driver.counts();
        assert_eq!(counts.writes, WRITES);
        assert!(counts.requests_waited >= WRITES - 1, "{counts:?}");
    });
}

/// A hundred sends of one octet, on one socket: the kernel makes each as it takes it, so that they arrive as they were taken.
/// Half of them are asked for while others wait.
#[test]
fn f_047_requests_beyond_the_queue_are_taken_in_order() {
    let mut ring = match Ring::new(tiny()) {
        Err(error) => return skip::unless_refused(Err(error)),
        Ok(ring) => ring,
    };
    let (near, mut far) = std::os::unix::net::UnixStream::pair().expect("sockets");
    let send = |ring: &mut Ring, octets: Range<u8>| {
        for octet in octets {
            let mut out = Outgoing::default();
            out.put(&[octet]);
            ring.send(u64::from(octet), near.as_fd(), &mut out);
        }
    };
    send(&mut ring, 0..50);
    ring.turn(0).expect("a turn");
    send(&mut ring, 50..100);
    while ring.in_flight() > 0 {
        ring.turn(1_000_000).expect("a turn");
        while let Some(done) = ring.reap() {
            assert_eq!(done.result, 1, "request {}", done.user);
        }
    }
    assert!(ring.waited() >= 98, "{} waited", ring.waited());
    let mut came = [0; 100];
    far.read_exact(&mut came).expect("as many");
    assert!(came.iter().copied().eq(0..100), "{came:?}");
}

/// What many sockets bring between two turns, more than the queue of completions holds, arrives, each octet once.
#[test]
fn f_046_completions_beyond_the_queue_are_counted_and_none_is_lost() {
    on_ring(tiny(), |driver| async move {
        let listener = driver.listen("127.0.0.1:0".parse().expect("address")).expect("listens");
        let at = driver.local(&listener).expect("bound");
        let seen = Rc::new(Cell::new(0));
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(std::net::TcpStream::connect(at).expect("it listens"));
            let mut conn = driver.accept(&listener).await.expect("accepts");
            let (server, seen) = (driver.clone(), seen.clone());
            driver.spawn(async move {
                let by = || server.now() + Span::seconds(60);
                while let Next::Bytes(count) = conn.next(by(), |octets| (octets.len(), octets.len())).await {
                    seen.set(seen.get() + count);
                }
            });
        }
        let mut sent = 0;
        while driver.counts().completions_overflowed == 0 {
            assert!(sent < 100_000, "{:?}", driver.counts());
            for client in &mut clients {
                client.write_all(b"x").expect("an open connection");
                sent += 1;
            }
            while seen.get() < sent {
                driver.sleep(Span::millis(1)).await;
            }
        }
        assert_eq!(seen.get(), sent);
    });
}
