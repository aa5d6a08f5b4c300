//! How connections begin and end: connect, accept, drop, abort.

use crate::harness::*;
use engine::io::driver::{Conn, Driver, Next, Notify};
use engine::wire::Span;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;

crate::each!(ending:
    addresses_are_those_of_the_socket
    a_connect_arrives
    a_refused_connect_says_so
    a_connect_that_hangs_times_out
    a_dropped_connect_harms_no_other
    a_dropped_accept_loses_no_connection
    shards_share_a_port
    f_038_a_shed_connection_is_told_and_closed
    a_dropped_connection_sends_everything_first
    the_last_reply_survives_a_peer_that_keeps_sending
    a_dropped_connection_does_not_linger_for_ever
    what_a_connection_keeps_goes_with_its_descriptor
    the_end_does_not_wait_for_peers_that_keep_still
    the_end_of_a_server_resets_no_peer_that_keeps_sending
    an_aborted_connection_is_reset
    an_aborted_connection_drops_its_queue
    a_note_to_a_connection_that_is_gone_does_nothing
    connections_of_tasks_that_end_with_the_driver_are_closed
);

pub fn addresses_are_those_of_the_socket<U: Under>() {
    U::run(async move |driver| {
        let (conn, peer) = pair(&driver).await;
        assert_eq!(conn.peer(), peer.local_addr().expect("bound"));
        assert_eq!(conn.local(), peer.peer_addr().expect("connected"));
    });
}

pub fn a_connect_arrives<U: Under>() {
    U::run(async move |driver| {
        let listener = TcpListener::bind(anywhere()).expect("a free port");
        let at = listener.local_addr().expect("bound");
        let mut conn = driver.connect(at, soon(&driver)).await.expect("listening");
        conn.put(b"EHLO\r\n");
        assert_eq!(conn.peer(), at);
        let (mut peer, from) = listener.accept().expect("connected");
        assert_eq!(conn.local(), from);
        let command = elsewhere(&driver, move || {
            let mut command = [0; 6];
            peer.read_exact(&mut command).expect("sent");
            peer.write_all(b"250\r\n").expect("sent");
            (command, peer)
        })
        .await;
        assert_eq!(&command.0, b"EHLO\r\n");
        until_shown(&driver, &mut conn, b"250\r\n").await;
    });
}

pub fn a_refused_connect_says_so<U: Under>() {
    U::run(async move |driver| {
        let closed = TcpListener::bind(anywhere()).expect("a free port").local_addr().expect("bound");
        let error = driver.connect(closed, soon(&driver)).await.err().expect("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

pub fn a_connect_that_hangs_times_out<U: Under>() {
    U::run(async move |driver| {
        // A full backlog: the system drops further requests.
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        listener.bind(&anywhere().into()).expect("a free port");
        listener.listen(0).expect("bound");
        let at = listener.local_addr().expect("bound").as_socket().expect("IPv4");
        let _first = TcpStream::connect(at).expect("the backlog's one place");
        let mut timed_out = 0;
        for _ in 0..3 {
            let by = driver.precise_now() + QUIET;
            match driver.connect(at, by).await {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                    assert!(driver.precise_now() >= by);
                    timed_out += 1;
                }
            }
        }
        assert!(timed_out > 0, "the backlog was never full");
    });
}

pub fn a_dropped_connect_harms_no_other<U: Under>() {
    U::run(async move |driver| {
        let [one, two] = [(); 2].map(|()| TcpListener::bind(anywhere()).expect("a free port"));
        let [to_one, to_two] = [&one, &two].map(|listener| listener.local_addr().expect("bound"));
        for round in 0..50_u8 {
            // Dropped before the kernel has heard of it; the other may get its descriptor's number.
            drop(poll_once(driver.connect(to_one, soon(&driver))));
            let mut conn = driver.connect(to_two, soon(&driver)).await.expect("listening");
            conn.put(&[round]);
            let listener = two.try_clone().expect("a descriptor");
            let seen = elsewhere(&driver, move || {
                let mut octet = [0];
                listener.accept().expect("connected").0.read_exact(&mut octet).expect("sent");
                octet[0]
            });
            assert_eq!(seen.await, round);
        }
    });
}

pub fn a_dropped_accept_loses_no_connection<U: Under>() {
    U::run(async move |driver| {
        let listener = driver.listen(anywhere()).expect("a free port");
        let at = driver.local(&listener).expect("bound");
        let mut peers = Vec::new();
        let mut seen = 0;
        for _ in 0..50 {
            seen += usize::from(poll_once(driver.accept(&listener)).is_ready());
            peers.push(TcpStream::connect(at).expect("listening"));
            seen += usize::from(poll_once(driver.accept(&listener)).is_ready());
            driver.yield_now().await;
        }
        while seen < 50 {
            driver.accept(&listener).await.expect("it waits");
            seen += 1;
        }
        drop(peers);
    });
}

pub fn shards_share_a_port<U: Under>() {
    U::run(async move |driver| {
        let one = Rc::new(driver.listen(anywhere()).expect("a free port"));
        let at = driver.local(&one).expect("bound");
        let two = Rc::new(driver.listen(at).expect("shared"));
        let counts: [Rc<std::cell::Cell<usize>>; 2] = Default::default();
        for (listener, count) in [&one, &two].into_iter().zip(&counts) {
            let (driver_too, listener, count) = (driver.clone(), listener.clone(), count.clone());
            driver.spawn(async move {
                while driver_too.accept(&listener).await.is_ok() {
                    count.set(count.get() + 1);
                }
            });
        }
        let peers: Vec<_> = (0..64).map(|_| TcpStream::connect(at).expect("listening")).collect();
        until(&driver, || counts[0].get() + counts[1].get() == 64).await;
        assert!(counts.iter().all(|count| count.get() > 0), "one listener got nothing");
        drop(peers);
    });
}

pub fn f_038_a_shed_connection_is_told_and_closed<U: Under>() {
    U::run(async move |driver| {
        let listener = driver.listen(anywhere()).expect("a free port");
        let at = driver.local(&listener).expect("bound");
        driver.shed(&listener, b"nobody waits: nothing happens\r\n");
        let mut peer = TcpStream::connect(at).expect("listening");
        driver.shed(&listener, b"421 4.3.2 too many\r\n");
        let told = elsewhere(&driver, move || {
            let mut told = Vec::new();
            peer.read_to_end(&mut told).expect("FIN");
            told
        });
        assert_eq!(told.await, b"421 4.3.2 too many\r\n");
        let _peer = TcpStream::connect(at).expect("still listening");
        driver.accept(&listener).await.expect("still accepting");
    });
}

pub fn a_dropped_connection_sends_everything_first<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let pool = pool();
        let block = slice(&pool, &numbered(1 << 20));
        for _ in 0..16 {
            conn.push(block.clone());
        }
        conn.put(b"bye");
        drop(conn);
        let read = elsewhere(&driver, move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).expect("FIN, not reset");
            all
        })
        .await;
        assert_eq!((read.len(), &read[16 << 20..]), ((16 << 20) + 3, &b"bye"[..]));
        assert!(read[..16 << 20].chunks(1 << 20).all(|chunk| *chunk == *block));
    });
}

/// A lingering close: without it the last reply dies in a reset.
pub fn the_last_reply_survives_a_peer_that_keeps_sending<U: Under>() {
    for _ in 0..5 {
        U::run(async move |driver| {
            let (mut conn, mut peer) = pair(&driver).await;
            let client = start(&driver, move || {
                peer.write_all(&numbered(8 << 20)).expect("the server reads to the end");
                peer.shutdown(Shutdown::Write).expect("connected");
                let mut reply = Vec::new();
                peer.read_to_end(&mut reply).expect("no reset");
                reply
            });
            assert!(matches!(next_all(&driver, &mut conn).await, Next::Bytes(_)));
            conn.put(b"552 5.3.4 too much\r\n");
            drop(conn);
            assert_eq!(client.finish(&driver).await, b"552 5.3.4 too much\r\n");
        });
    }
}

pub fn a_dropped_connection_does_not_linger_for_ever<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        conn.put(b"221\r\n");
        drop(conn);
        let mut peer = elsewhere(&driver, move || {
            let mut reply = Vec::new();
            peer.read_to_end(&mut reply).expect("FIN");
            assert_eq!(reply, b"221\r\n");
            peer
        })
        .await;
        // The peer never closes. Once the driver has, what the peer sends is answered by a reset.
        until(&driver, || peer.write_all(b"x").is_err()).await;
    });
}

/// However it ends: by a peer that closes or never does, or that takes nothing of what is sent, or by a reset.
pub fn what_a_connection_keeps_goes_with_its_descriptor<U: Under>() {
    U::run(async move |driver| {
        let is_kept = |what: &Rc<()>| Rc::strong_count(what) > 1;
        let what = [(); 4].map(|()| Rc::new(()));
        let pool = pool();
        let mut peers = Vec::new();
        let began = driver.precise_now();
        for (at, what) in what.iter().enumerate() {
            let (mut conn, peer) = pair(&driver).await;
            conn.keep(Rc::new(()));
            conn.keep(what.clone());
            peers.push(peer);
            match at {
                0 | 1 => drop(conn),
                2 => {
                    let block = slice(&pool, &[3; 1 << 20]);
                    (0..24).for_each(|_| conn.push(block.clone()));
                    drop(conn);
                }
                _ => conn.abort(),
            }
        }
        let first = peers.remove(0);
        until(&driver, || !is_kept(&what[3])).await;
        // The driver waits for each of these, for two seconds at least; the machine may be slow.
        let (lingers, sends) = (is_kept(&what[1]), is_kept(&what[2]));
        let is_late = driver.precise_now().since(began) >= Span::seconds(2);
        assert!(is_late || (lingers && sends), "lingers: {lingers}, sends: {sends}");
        drop(first);
        until(&driver, || !is_kept(&what[0]) && !is_kept(&what[1])).await;
        drop(peers);
        until(&driver, || !is_kept(&what[2])).await;
    });
}

/// Whoever keeps his connection open and says nothing does not hold up the end of a server. Of several rounds the shortest
/// counts: a machine may be slow.
pub fn the_end_does_not_wait_for_peers_that_keep_still<U: Under>() {
    let round = || {
        let (peers, held) = std::sync::mpsc::channel();
        let began = std::time::Instant::now();
        U::run(async move |driver| {
            let (mut conn, peer) = pair(&driver).await;
            conn.put(b"421\r\n");
            drop(conn);
            peers.send(peer).expect("kept");
        });
        let took = began.elapsed();
        let mut reply = Vec::new();
        held.recv().expect("kept").read_to_end(&mut reply).expect("no reset");
        assert_eq!(reply, b"421\r\n");
        took
    };
    let shortest = (0..5).map(|_| round()).min().expect("rounds");
    assert!(shortest < std::time::Duration::from_secs(1), "{shortest:?}");
}

/// The last reply before the end of a server survives as well. Of several rounds one that holds is enough: a machine may be so
/// slow that the end does not wait for it; no buffers between the two hold what the peer sends.
pub fn the_end_of_a_server_resets_no_peer_that_keeps_sending<U: Under>() {
    let round = || {
        let (out, client) = std::sync::mpsc::channel();
        U::run(async move |driver| {
            let (mut conn, mut peer) = pair(&driver).await;
            let sending = std::thread::spawn(move || {
                peer.write_all(&vec![b'x'; 24 << 20])?;
                peer.shutdown(Shutdown::Write)?;
                let mut reply = Vec::new();
                peer.read_to_end(&mut reply).map(|_| reply)
            });
            assert!(matches!(next_all(&driver, &mut conn).await, Next::Bytes(_)));
            conn.put(b"421 4.3.2 closing\r\n");
            drop(conn);
            out.send(sending).expect("kept");
        });
        client.recv().expect("kept").join().expect("no panic")
    };
    let heard = (0..8).any(|_| round().is_ok_and(|reply| reply == b"421 4.3.2 closing\r\n"));
    assert!(heard, "every last reply died in a reset");
}

pub fn an_aborted_connection_is_reset<U: Under>() {
    U::run(async move |driver| {
        let (conn, mut peer) = pair(&driver).await;
        conn.abort();
        let error = elsewhere(&driver, move || peer.read(&mut [0; 10])).await.expect_err("a reset, not FIN");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

pub fn an_aborted_connection_drops_its_queue<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let pool = pool();
        let block = slice(&pool, &[3; 1 << 20]);
        for _ in 0..24 {
            conn.push(block.clone());
        }
        drop(block);
        nothing(&driver, &mut conn).await;
        assert!(conn.unsent() > 0, "the peer's buffers took it all: nothing is tested");
        conn.abort();
        let budget = pool.budget().clone();
        until(&driver, || budget.leased_bytes() == 0).await;
        let end = elsewhere(&driver, move || {
            let mut all = Vec::new();
            (peer.read_to_end(&mut all), all.len())
        });
        let (end, read) = end.await;
        assert!(end.is_err() && read < 24 << 20, "{end:?} after {read}");
    });
}

pub fn a_note_to_a_connection_that_is_gone_does_nothing<U: Under>() {
    U::run(async move |driver| {
        let (conn, _peer) = pair(&driver).await;
        let (aborted, _other_peer) = pair(&driver).await;
        let handles = [conn.handle(), aborted.handle()];
        drop(conn);
        aborted.abort();
        for _ in 0..3 {
            handles.iter().for_each(|handle| handle.note(u32::MAX));
            driver.yield_now().await;
        }
    });
}

pub fn connections_of_tasks_that_end_with_the_driver_are_closed<U: Under>() {
    let (out, peer) = std::sync::mpsc::channel();
    U::run(async move |driver| {
        let (mut conn, its_peer) = pair(&driver).await;
        let task_driver = driver.clone();
        driver.spawn(async move {
            conn.put(b"421 4.3.2 closing\r\n");
            while !matches!(next_all(&task_driver, &mut conn).await, Next::End) {}
        });
        driver.sleep(Span::millis(1)).await;
        out.send(its_peer).expect("awaited");
    });
    let mut rest = Vec::new();
    peer.recv().expect("connected").read_to_end(&mut rest).expect("FIN");
    assert_eq!(rest, b"421 4.3.2 closing\r\n");
}
