//! `put`, `push`, `unsent`, `finish`: what leaves, when, and in which order.

use crate::harness::*;
use engine::io::driver::{Conn, Driver, Next};
use engine::shell::outbound::on_deadline;
use engine::smtp::client::{ClientEvent, ClientOptions, ClientSession, ClientTimers, DownReason};
use engine::wire::{Span, Tick};
use socket2::{Domain, Socket, Type};
use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

crate::each!(sending:
    text_and_slices_leave_in_order
    one_turn_leaves_in_one_piece
    what_is_sent_is_no_longer_unsent_and_its_memory_is_free
    a_finished_connection_still_receives
    finish_waits_for_what_is_queued
    a_slow_reader_gets_everything_and_delays_nobody
    f_083_a_large_body_is_seen_to_move_before_all_of_it_left
    f_083_a_slow_reader_is_cut_only_when_it_takes_nothing
    f_053_sending_to_a_peer_that_is_gone_breaks_and_frees_everything
    octets_are_counted
);

/// Everything that the peer reads until FIN.
fn read_all(mut peer: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    peer.read_to_end(&mut all).expect("FIN, not reset");
    all
}

pub fn text_and_slices_leave_in_order<U: Under>() {
    for seed in 1..=4 {
        U::run(async move |driver| {
            let (mut conn, peer) = pair(&driver).await;
            let pool = pool();
            let mut dice = Dice::new(seed);
            let stream = numbered(3 << 20);
            let mut rest = &stream[..];
            let reader = start(&driver, move || read_all(peer));
            while !rest.is_empty() {
                let most = if dice.below(4) == 0 { 200_000 } else { 900 };
                let step = (1 + dice.below(most)).min(rest.len());
                if dice.below(2) == 0 {
                    conn.put(&rest[..step])
                } else {
                    conn.push(slice(&pool, &rest[..step]))
                }
                rest = &rest[step..];
                if dice.below(20) == 0 {
                    driver.yield_now().await;
                }
            }
            conn.put(b"");
            conn.finish();
            assert!(reader.finish(&driver).await == stream, "seed {seed}: octets were lost, doubled or moved");
        });
    }
}

pub fn one_turn_leaves_in_one_piece<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let pool = pool();
        for index in 0..20_u8 {
            conn.put(&[index; 10]);
            conn.push(slice(&pool, &[index; 10]));
        }
        // A driver that sent each part by itself would let the reader see the first one alone.
        let first = elsewhere(&driver, move || {
            let mut buffer = [0; 4096];
            let count = peer.read(&mut buffer).expect("sent");
            (count, peer)
        });
        assert_eq!(first.await.0, 400);
    });
}

pub fn what_is_sent_is_no_longer_unsent_and_its_memory_is_free<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, peer) = pair(&driver).await;
        let pool = pool();
        conn.put(b"text");
        conn.push(slice(&pool, &[7; 5000]));
        assert_eq!(conn.unsent(), 5004);
        nothing(&driver, &mut conn).await;
        assert_eq!(conn.unsent(), 0);
        let budget = pool.budget().clone();
        until(&driver, || budget.leased_bytes() == 0).await;
        drop(peer);
    });
}

pub fn a_finished_connection_still_receives<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        conn.put(b"all I have");
        conn.finish();
        let peer = elsewhere(&driver, move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).expect("FIN");
            assert_eq!(all, b"all I have");
            std::io::Write::write_all(&mut peer, b"thanks").expect("still open");
            peer
        })
        .await;
        peer.shutdown(Shutdown::Write).expect("connected");
        assert_eq!(read_to_end(&driver, &mut conn).await, b"thanks");
    });
}

pub fn finish_waits_for_what_is_queued<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, peer) = pair(&driver).await;
        let pool = pool();
        let block = slice(&pool, &numbered(1 << 20));
        for _ in 0..16 {
            conn.push(block.clone());
        }
        conn.finish();
        nothing(&driver, &mut conn).await;
        let read = elsewhere(&driver, move || read_all(peer)).await;
        assert!(read.len() == 16 << 20 && read.chunks(1 << 20).all(|chunk| *chunk == *block));
    });
}

pub fn f_083_a_large_body_is_seen_to_move_before_all_of_it_left<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        assert_eq!(conn.sent_at(), Tick(0), "nothing was sent");
        let pool = pool();
        let block = slice(&pool, &numbered(1 << 20));
        let whole = 64 << 20;
        while conn.unsent() < whole {
            conn.push(block.clone());
        }
        // The peer takes a quarter of it and then no more.
        let peer = start(&driver, move || {
            peer.read_exact(&mut vec![0; 16 << 20]).expect("sent");
            peer
        });
        until(&driver, || conn.unsent() <= whole - (16 << 20)).await;
        assert!(conn.unsent() > 0, "the peer's buffers took it all: nothing is tested");
        let first = conn.sent_at();
        assert!(Tick(0) < first && first <= driver.now());
        let mut peer = peer.finish(&driver).await;
        // It goes on, and the instant moves with it.
        while driver.now() == first {
            driver.yield_now().await;
        }
        let left = conn.unsent();
        let rest = start(&driver, move || peer.read_exact(&mut vec![0; 48 << 20]));
        until(&driver, || conn.unsent() < left && conn.sent_at() > first).await;
        rest.finish(&driver).await.expect("sent");
    });
}

/// A connection to a peer far away: little of what is sent fits into the peer's buffer.
async fn to_a_narrow_peer<D: Driver>(driver: &D) -> (D::Conn, TcpStream) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.set_tcp_mss(1_000).expect("a small segment");
    listener.set_recv_buffer_size(4 << 10).expect("a small buffer");
    listener.bind(&anywhere().into()).and_then(|()| listener.listen(1)).expect("a free port");
    let listener = TcpListener::from(listener);
    let conn = driver.connect(listener.local_addr().expect("bound"), soon(driver)).await.expect("it listens");
    let (peer, _) = elsewhere(driver, move || listener.accept().expect("it connects")).await;
    (conn, peer)
}

/// Far less than a socket's buffer each time that the block timer is about to end: that keeps a connection, and nothing does not.
pub fn f_083_a_slow_reader_is_cut_only_when_it_takes_nothing<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = to_a_narrow_peer(&driver).await;
        let block = Span::millis(100);
        let timers = ClientTimers { block, ..ClientTimers::default() };
        let options = ClientOptions { timers, ..ClientOptions::new("c.test") };
        let mut session = ClientSession::new(Arc::new(options), driver.now());
        let part = slice(&pool(), &numbered(1 << 20));
        (0..8).for_each(|_| conn.push(part.clone()));
        until(&driver, || conn.sent_at() > Tick(0) || conn.taken_at() > Tick(0)).await;
        for _ in 0..8 {
            let deadline = session.deadline(true);
            driver.sleep_until(deadline).await;
            // What the last round left room for has been sent.
            until(&driver, || driver.precise_now() >= conn.taken_at() + block).await;
            let before = conn.taken_at();
            peer = elsewhere(&driver, move || {
                peer.read_exact(&mut [0; 16 << 10]).expect("sent");
                peer
            })
            .await;
            until(&driver, || conn.taken_at() > before + Span::millis(50)).await;
            assert_eq!(on_deadline(&mut session, &conn, deadline), ClientEvent::More);
        }
        let cut = |event| matches!(event, ClientEvent::Down(DownReason::TimedOut(_)));
        until(&driver, || cut(on_deadline(&mut session, &conn, driver.now()))).await;
        assert!(conn.unsent() > 0, "the sockets' buffers took it all: nothing is tested");
        conn.abort();
    });
}

pub fn a_slow_reader_gets_everything_and_delays_nobody<U: Under>() {
    U::run(async move |driver| {
        let (mut slow, mut slow_peer) = pair(&driver).await;
        let (mut quick, mut quick_peer) = pair(&driver).await;
        let pool = pool();
        let block = slice(&pool, &numbered(1 << 20));
        for _ in 0..16 {
            slow.push(block.clone());
        }
        let talk = start(&driver, move || {
            for round in 0..500_u32 {
                std::io::Write::write_all(&mut quick_peer, &round.to_be_bytes()).expect("sent");
                let mut reply = [0; 4];
                quick_peer.read_exact(&mut reply).expect("an echo");
                assert_eq!(reply, round.to_be_bytes());
            }
        });
        loop {
            match next_all(&driver, &mut quick).await {
                Next::Bytes(bytes) => quick.put(&bytes),
                Next::End | Next::Broken(_) => break,
                other => panic!("{other:?}"),
            }
        }
        talk.finish(&driver).await;
        assert!(slow.unsent() > 0, "the slow peer's buffers took it all: nothing is tested");
        slow.finish();
        let read = elsewhere(&driver, move || {
            let (mut read, mut buffer) = (0, vec![0; 10_000]);
            loop {
                match slow_peer.read(&mut buffer).expect("FIN") {
                    0 => return read,
                    count => read += count,
                }
            }
        });
        assert_eq!(read.await, 16 << 20);
    });
}

pub fn f_053_sending_to_a_peer_that_is_gone_breaks_and_frees_everything<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let pool = pool();
        let block = slice(&pool, &[1; 1 << 20]);
        for _ in 0..24 {
            conn.push(block.clone());
        }
        drop(block);
        elsewhere(&driver, move || {
            let mut some = [0; 1000];
            peer.read_exact(&mut some).expect("sent");
            // Closed with unread octets: a reset.
        })
        .await;
        loop {
            match next_all(&driver, &mut conn).await {
                Next::Broken(_) => break,
                Next::Room | Next::End => {}
                other => panic!("{other:?}"),
            }
        }
        conn.put(b"into the void");
        let budget = pool.budget().clone();
        until(&driver, || budget.leased_bytes() == 0).await;
    });
}

pub fn octets_are_counted<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let before = driver.counts();
        conn.put(&[1; 1000]);
        elsewhere(&driver, move || {
            let mut all = [0; 1000];
            peer.read_exact(&mut all).expect("sent");
            std::io::Write::write_all(&mut peer, &[2; 700]).expect("sent");
        })
        .await;
        assert_eq!(read_to_end(&driver, &mut conn).await.len(), 700);
        let after = driver.counts();
        assert_eq!((after.sent_bytes - before.sent_bytes, after.received_bytes - before.received_bytes), (1000, 700));
        assert!(after.syscalls > before.syscalls);
    });
}
