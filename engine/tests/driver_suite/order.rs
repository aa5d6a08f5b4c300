//! `Conn::next`: what is reported, in which order, and what is shown again.

use crate::harness::*;
use engine::io::driver::{Conn, Driver, Next, Notify, SEND_ROOM_BYTES, UNREAD_BYTES};
use engine::wire::{Span, Tick};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

crate::each!(order:
    replies_reach_the_peer_and_bytes_reach_us
    what_is_left_is_shown_again_with_what_arrives_behind_it
    what_is_left_is_shown_again_after_a_note_and_not_before
    notes_come_first_and_are_ored
    a_note_wakes_a_task_that_waits
    bytes_come_before_a_deadline_that_has_passed
    a_deadline_does_not_end_anything
    a_deadline_that_moves_is_met_when_it_passes
    the_end_comes_once_and_after_everything_that_was_sent
    notes_and_what_is_left_are_reported_after_the_end
    f_053_a_reset_is_told_once_and_after_what_arrived_before
    a_dropped_next_loses_nothing
    what_stays_unread_is_bounded
    no_more_is_received_than_there_is_room_for
    f_040_who_is_paused_receives_no_more_and_goes_on_later
    a_connection_that_receives_nothing_ends_in_order
    m_116_a_peer_that_does_not_read_is_not_read_until_there_is_room
);

pub fn replies_reach_the_peer_and_bytes_reach_us<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        conn.put(b"220 ready\r\n");
        let mut peer = elsewhere(&driver, move || {
            let mut line = [0; 11];
            peer.read_exact(&mut line).expect("a banner");
            assert_eq!(&line, b"220 ready\r\n");
            peer.write_all(b"QUIT\r\n").expect("sent");
            peer
        })
        .await;
        until_shown(&driver, &mut conn, b"QUIT\r\n").await;
        conn.put(b"221 bye\r\n");
        drop(conn);
        elsewhere(&driver, move || {
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).expect("FIN, not reset");
            assert_eq!(rest, b"221 bye\r\n");
        })
        .await;
    });
}

pub fn what_is_left_is_shown_again_with_what_arrives_behind_it<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        peer.write_all(b"EHLO a\r\nMAIL").expect("sent");
        until_shown(&driver, &mut conn, b"EHLO a\r\nMAIL").await;
        conn.handle().note(1);
        assert!(matches!(next_none(&driver, &mut conn).await, Next::Note(1)));
        let consumed = conn.next(soon(&driver), |bytes| (8, bytes.len())).await;
        assert!(matches!(consumed, Next::Bytes(12)));
        nothing(&driver, &mut conn).await;
        peer.write_all(b" FROM:<>\r\n").expect("sent");
        until_shown(&driver, &mut conn, b"MAIL FROM:<>\r\n").await;
    });
}

pub fn what_is_left_is_shown_again_after_a_note_and_not_before<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        peer.write_all(b"DATA\r\n").expect("sent");
        until_shown(&driver, &mut conn, b"DATA\r\n").await;
        for round in 1..4 {
            nothing(&driver, &mut conn).await;
            conn.handle().note(round);
            assert!(matches!(next_none(&driver, &mut conn).await, Next::Note(bits) if bits == round));
            assert!(matches!(next_none(&driver, &mut conn).await, Next::Bytes(bytes) if bytes == b"DATA\r\n"));
        }
        nothing(&driver, &mut conn).await;
    });
}

pub fn notes_come_first_and_are_ored<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        peer.write_all(b"x").expect("sent");
        until_shown(&driver, &mut conn, b"x").await;
        let handle = conn.handle();
        handle.note(0b001);
        handle.clone().note(0b100);
        drop(peer);
        // Bytes, the end and the deadline are true as well, or will be.
        let past = Tick(1);
        assert!(matches!(conn.next(past, |bytes| (0, bytes.len())).await, Next::Note(0b101)));
        assert!(matches!(conn.next(past, |bytes| (1, bytes.to_vec())).await, Next::Bytes(bytes) if bytes == b"x"));
        assert!(matches!(next_all(&driver, &mut conn).await, Next::End));
        assert!(matches!(conn.next(past, |_| (0, ())).await, Next::Deadline));
    });
}

pub fn a_note_wakes_a_task_that_waits<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, _peer) = pair(&driver).await;
        let handle = conn.handle();
        let seen = Rc::new(Cell::new(0));
        let (task_driver, task_seen) = (driver.clone(), seen.clone());
        driver.spawn(async move {
            while let Next::Note(bits) = next_none(&task_driver, &mut conn).await {
                task_seen.set(task_seen.get() | bits);
            }
        });
        for bit in 0..8 {
            driver.sleep(Span::millis(1)).await;
            handle.note(1 << bit);
        }
        until(&driver, || seen.get() == 0xff).await;
    });
}

pub fn bytes_come_before_a_deadline_that_has_passed<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        assert!(matches!(conn.next(Tick(1), |_| (0, ())).await, Next::Deadline));
        peer.write_all(b"NOOP\r\n").expect("sent");
        until_shown(&driver, &mut conn, b"NOOP\r\n").await;
        conn.handle().note(1);
        assert!(matches!(conn.next(Tick(1), |_| (0, ())).await, Next::Note(1)));
        assert!(matches!(conn.next(Tick(1), |bytes| (6, bytes.len())).await, Next::Bytes(6)));
        assert!(matches!(conn.next(Tick(1), |_| (0, ())).await, Next::Deadline));
    });
}

pub fn a_deadline_does_not_end_anything<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        for round in 0..3_u8 {
            nothing(&driver, &mut conn).await;
            peer.write_all(&[round]).expect("sent");
            assert!(matches!(next_all(&driver, &mut conn).await, Next::Bytes(bytes) if bytes == [round]));
        }
    });
}

pub fn a_deadline_that_moves_is_met_when_it_passes<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let begin = driver.precise_now();
        // Far, then near, then a little farther: the connection's timer must follow in both directions.
        for wait in [Span::minutes(5), Span::millis(60), Span::minutes(5), Span::millis(120), Span::millis(180)] {
            let by = begin + wait;
            if wait >= Span::minutes(1) {
                peer.write_all(b"x").expect("sent");
                assert!(matches!(conn.next(by, |bytes| (bytes.len(), ())).await, Next::Bytes(())));
                continue;
            }
            assert!(matches!(conn.next(by, |_| (0, ())).await, Next::Deadline));
            assert!(driver.precise_now() >= by, "{wait} was early");
        }
        assert!(driver.precise_now().since(begin) < Span::seconds(30), "a timer overslept");
    });
}

pub fn the_end_comes_once_and_after_everything_that_was_sent<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        peer.write_all(b"last words").expect("sent");
        drop(peer);
        assert_eq!(read_to_end(&driver, &mut conn).await, b"last words");
        nothing(&driver, &mut conn).await;
    });
}

pub fn notes_and_what_is_left_are_reported_after_the_end<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        peer.write_all(b"RSET\r\nQUIT\r\n").expect("sent");
        until_shown(&driver, &mut conn, b"RSET\r\nQUIT\r\n").await;
        peer.shutdown(std::net::Shutdown::Write).expect("connected");
        assert!(matches!(next_none(&driver, &mut conn).await, Next::End));
        nothing(&driver, &mut conn).await;
        conn.handle().note(4);
        assert!(matches!(next_none(&driver, &mut conn).await, Next::Note(4)));
        let shown = conn.next(soon(&driver), |bytes| (6, bytes.to_vec())).await;
        assert!(matches!(shown, Next::Bytes(bytes) if bytes == b"RSET\r\nQUIT\r\n"));
        conn.handle().note(8);
        assert!(matches!(next_none(&driver, &mut conn).await, Next::Note(8)));
        assert!(matches!(next_all(&driver, &mut conn).await, Next::Bytes(bytes) if bytes == b"QUIT\r\n"));
        nothing(&driver, &mut conn).await;
        // The other direction is still open.
        conn.put(b"221\r\n");
        drop(conn);
        let reply = elsewhere(&driver, move || {
            let mut reply = Vec::new();
            peer.read_to_end(&mut reply).expect("FIN");
            reply
        });
        assert_eq!(reply.await, b"221\r\n");
    });
}

pub fn f_053_a_reset_is_told_once_and_after_what_arrived_before<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        peer.write_all(b"421 going\r\n").expect("sent");
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("valid");
        drop(peer);
        let mut seen = Vec::new();
        loop {
            match next_all(&driver, &mut conn).await {
                Next::Bytes(bytes) => seen.extend(bytes),
                Next::Broken(io::ErrorKind::ConnectionReset) => break,
                other => panic!("{other:?} after a reset"),
            }
        }
        assert_eq!(seen, b"421 going\r\n");
        nothing(&driver, &mut conn).await;
        conn.put(b"nobody is left to read this");
        nothing(&driver, &mut conn).await;
        conn.handle().note(2);
        assert!(matches!(next_all(&driver, &mut conn).await, Next::Note(2)));
    });
}

pub fn a_dropped_next_loses_nothing<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let sent = numbered(64 << 10);
        let expected = sent.clone();
        let writer = start(&driver, move || {
            for part in sent.chunks(97) {
                peer.write_all(part).expect("sent");
            }
            peer
        });
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            // Polled once and dropped while it may wait; what it returned counts.
            match poll_once(next_all(&driver, &mut conn)) {
                std::task::Poll::Ready(Next::Bytes(bytes)) => seen.extend(bytes),
                std::task::Poll::Ready(other) => panic!("{other:?}"),
                std::task::Poll::Pending => driver.yield_now().await,
            }
            if seen.len() % 3 == 0
                && let Next::Bytes(bytes) = conn.next(Tick(1), |bytes| (bytes.len(), bytes.to_vec())).await
            {
                seen.extend(bytes);
            }
            driver.sleep(Span::micros(50)).await;
        }
        assert!(seen == expected, "octets were lost, doubled or moved");
        writer.finish(&driver).await;
    });
}

pub fn what_stays_unread_is_bounded<U: Under>() {
    /// All shared receive buffers of a driver (ARCHITECTURE.md: 1 to 2 MiB): what may arrive before a receive is cancelled.
    const RECEIVE_BUFFERS_MAX: usize = 2 << 20;
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let sent = numbered(24 << 20);
        let expected = sent.clone();
        let writer = start(&driver, move || peer.write_all(&sent).expect("read in the end"));
        let mut longest = 0;
        let quiet = driver.precise_now() + QUIET + QUIET;
        loop {
            match conn.next(quiet, |bytes| (0, bytes.len())).await {
                Next::Bytes(count) => longest = longest.max(count),
                Next::Deadline => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(longest > 0 && longest <= UNREAD_BYTES + RECEIVE_BUFFERS_MAX, "{longest} octets unread");
        conn.handle().note(1);
        assert!(matches!(next_none(&driver, &mut conn).await, Next::Note(1)));
        assert!(read_to_end(&driver, &mut conn).await == expected, "octets were lost, doubled or moved");
        writer.finish(&driver).await;
    });
}

pub fn m_116_a_peer_that_does_not_read_is_not_read_until_there_is_room<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let pool = pool();
        let block = slice(&pool, &numbered(1 << 20));
        const BLOCKS: usize = 24; // more than two socket buffers hold
        for _ in 0..BLOCKS {
            conn.push(block.clone());
        }
        assert_eq!(conn.unsent(), BLOCKS << 20);
        peer.write_all(b"are you there?").expect("sent");
        nothing(&driver, &mut conn).await;
        assert!(conn.unsent() > SEND_ROOM_BYTES, "the peer's buffers took it all: nothing is tested");
        let reader = start(&driver, move || {
            let mut read = vec![0; BLOCKS << 20];
            peer.read_exact(&mut read).expect("all of it");
            (peer, read)
        });
        let (mut room, mut bytes) = (0, Vec::new());
        while room == 0 || bytes.len() < 14 {
            match next_all(&driver, &mut conn).await {
                Next::Room => room += 1,
                Next::Bytes(more) => bytes.extend(more),
                other => panic!("{other:?}"),
            }
            assert!(conn.unsent() < SEND_ROOM_BYTES, "shown or told before there was room");
        }
        assert_eq!((room, &*bytes), (1, &b"are you there?"[..]));
        let (_peer, read) = reader.finish(&driver).await;
        assert!(read.chunks(1 << 20).all(|chunk| *chunk == *block), "octets were lost, doubled or moved");
        nothing(&driver, &mut conn).await;
    });
}

pub fn no_more_is_received_than_there_is_room_for<U: Under>() {
    const ROOM: usize = 10_000;
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        conn.set_receive_room(ROOM);
        let sent = numbered(300_000);
        let expected = sent.clone();
        let writer = start(&driver, move || peer.write_all(&sent).expect("sent"));
        let mut consumed = 0;
        while consumed < expected.len() {
            conn.handle().note(1);
            assert!(matches!(next_none(&driver, &mut conn).await, Next::Note(1)));
            let end = expected.len().min(consumed + ROOM);
            until_shown(&driver, &mut conn, &expected[consumed..end]).await;
            if consumed == 0 {
                nothing(&driver, &mut conn).await;
            }
            assert_eq!(driver.counts().received_bytes, end as u64, "{consumed} octets are consumed");
            conn.handle().note(1);
            assert!(matches!(next_none(&driver, &mut conn).await, Next::Note(1)));
            match conn.next(soon(&driver), |bytes| (1 + bytes.len() / 2, ())).await {
                Next::Bytes(()) => consumed += 1 + (end - consumed) / 2,
                other => panic!("{other:?} although octets stand unread"),
            }
        }
        writer.finish(&driver).await;
        assert!(matches!(next_all(&driver, &mut conn).await, Next::End));
    });
}

/// Also where the kernel was asked to receive until told otherwise.
pub fn f_040_who_is_paused_receives_no_more_and_goes_on_later<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let sent = numbered(40_000);
        peer.write_all(&sent[..8]).expect("sent");
        until_shown(&driver, &mut conn, &sent[..8]).await;
        nothing(&driver, &mut conn).await;
        conn.set_receive_room(0);
        driver.sleep(QUIET).await;
        let (before, rest) = (driver.counts().received_bytes, sent[8..].to_vec());
        let peer = elsewhere(&driver, move || {
            peer.write_all(&rest).expect("it fits into the socket's buffers");
            peer
        })
        .await;
        driver.sleep(QUIET).await;
        assert_eq!(driver.counts().received_bytes, before, "it was paused");
        conn.set_receive_room(usize::MAX);
        conn.handle().note(1);
        assert!(matches!(next_none(&driver, &mut conn).await, Next::Note(1)));
        until_shown(&driver, &mut conn, &sent).await;
        drop(peer);
    });
}

pub fn a_connection_that_receives_nothing_ends_in_order<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        conn.set_receive_room(0);
        let talker = start(&driver, move || {
            peer.write_all(&numbered(20_000)).expect("sent");
            let mut heard = Vec::new();
            peer.read_to_end(&mut heard).expect("FIN, not reset");
            heard
        });
        nothing(&driver, &mut conn).await;
        assert_eq!(driver.counts().received_bytes, 0);
        conn.put(b"421 bye\r\n");
        drop(conn);
        assert_eq!(talker.finish(&driver).await, b"421 bye\r\n");
    });
}
