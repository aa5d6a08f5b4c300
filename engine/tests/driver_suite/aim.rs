//! `Conn::aim` and `give_back`: octets that go straight into a chunk.

use crate::harness::*;
use engine::io::driver::{Conn, Driver, Next, Notify};
use engine::sys::slice::Fill;
use engine::wire::Tick;
use std::cell::Cell;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::rc::Rc;

crate::each!(aim:
    what_is_received_fills_the_chunk_and_the_rest_is_shown
    octets_received_before_the_aim_come_first
    what_an_aim_leaves_is_shown_at_once
    an_aim_holds_across_notes_and_deadlines
    a_chunk_is_filled_behind_what_stands_in_it
    given_back_octets_are_shown_first
    given_back_octets_are_aimed_first
    one_chunk_at_a_time
    the_end_comes_while_aimed
    f_050_a_dropped_connection_gives_the_chunk_back_when_the_kernel_is_done
    any_mixture_of_aims_and_looks_keeps_the_stream
    bodies_that_never_pause_keep_no_other_connection_waiting
);

/// The next event, which is to be a filled chunk.
async fn filled<D: Driver>(driver: &D, conn: &mut D::Conn) -> (Fill, usize) {
    match conn.next(soon(driver), |bytes| (0, bytes.to_vec())).await {
        Next::Filled(fill, count) => (fill, count),
        other => panic!("{other:?} while aimed"),
    }
}

/// Aims until the chunk is full.
async fn fill_up<D: Driver>(driver: &D, conn: &mut D::Conn, mut chunk: Fill) -> Fill {
    while chunk.room() > 0 {
        let (before, room) = (chunk.filled(), chunk.room());
        conn.aim(chunk);
        let (back, count) = filled(driver, conn).await;
        assert!(count > 0 && count <= room, "{count} octets in a room of {room}");
        assert_eq!((back.filled(), back.room()), (before + count, room - count));
        chunk = back;
    }
    chunk
}

pub fn what_is_received_fills_the_chunk_and_the_rest_is_shown<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let pool = pool();
        let sent = numbered(600_000);
        let expected = sent.clone();
        let writer = start(&driver, move || {
            peer.write_all(&sent).expect("sent");
            peer
        });
        let mut chunk = fill_up(&driver, &mut conn, fill(&pool, 500_000)).await;
        assert!(*chunk.take() == expected[..500_000], "octets were lost, doubled or moved");
        drop(writer.finish(&driver).await);
        assert!(read_to_end(&driver, &mut conn).await == expected[500_000..], "octets were lost, doubled or moved");
    });
}

pub fn octets_received_before_the_aim_come_first<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let pool = pool();
        peer.write_all(b"BDAT 12\r\nfirst ").expect("sent");
        until_shown(&driver, &mut conn, b"BDAT 12\r\nfirst ").await;
        conn.handle().note(1);
        assert!(matches!(next_none(&driver, &mut conn).await, Next::Note(1)));
        assert!(matches!(conn.next(soon(&driver), |bytes| (9, bytes.len())).await, Next::Bytes(15)));
        conn.aim(fill(&pool, 12));
        let (chunk, count) = filled(&driver, &mut conn).await;
        assert_eq!((count, chunk.written()), (6, &b"first "[..]));
        conn.aim(chunk);
        peer.write_all(b"secondNOOP\r\n").expect("sent");
        let (mut chunk, _) = filled(&driver, &mut conn).await;
        chunk = fill_up(&driver, &mut conn, chunk).await;
        assert_eq!(&*chunk.take(), b"first second");
        until_shown(&driver, &mut conn, b"NOOP\r\n").await;
    });
}

pub fn what_an_aim_leaves_is_shown_at_once<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let pool = pool();
        peer.write_all(b"bodyRSET\r\n").expect("sent");
        until_shown(&driver, &mut conn, b"bodyRSET\r\n").await;
        conn.aim(fill(&pool, 4));
        let (chunk, count) = filled(&driver, &mut conn).await;
        assert_eq!((count, chunk.written()), (4, &b"body"[..]));
        // The peer sends nothing more and no note comes: it is waiting for the reply to this.
        assert!(matches!(next_none(&driver, &mut conn).await, Next::Bytes(bytes) if bytes == b"RSET\r\n"));
    });
}

pub fn an_aim_holds_across_notes_and_deadlines<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let pool = pool();
        conn.aim(fill(&pool, 100));
        for round in 1..4 {
            nothing(&driver, &mut conn).await;
            conn.handle().note(round);
            assert!(matches!(next_none(&driver, &mut conn).await, Next::Note(bits) if bits == round));
            assert!(matches!(conn.next(Tick(1), |_| (0, ())).await, Next::Deadline));
        }
        peer.write_all(b"content").expect("sent");
        conn.handle().note(7);
        assert!(matches!(next_none(&driver, &mut conn).await, Next::Note(7)));
        let (chunk, count) = filled(&driver, &mut conn).await;
        assert_eq!((count, chunk.written()), (7, &b"content"[..]));
        // Without another aim, what comes is shown.
        peer.write_all(b"QUIT\r\n").expect("sent");
        until_shown(&driver, &mut conn, b"QUIT\r\n").await;
    });
}

pub fn a_chunk_is_filled_behind_what_stands_in_it<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let pool = pool();
        let mut chunk = fill(&pool, 64);
        chunk.put(b"taken");
        let taken = chunk.take();
        chunk.put(b"written ");
        conn.aim(chunk);
        peer.write_all(b"received").expect("sent");
        let (mut chunk, mut count) = filled(&driver, &mut conn).await;
        while count < 8 {
            conn.aim(chunk);
            let (back, more) = filled(&driver, &mut conn).await;
            (chunk, count) = (back, count + more);
        }
        assert_eq!((&*chunk.take(), &*taken), (&b"written received"[..], &b"taken"[..]));
    });
}

pub fn given_back_octets_are_shown_first<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let pool = pool();
        conn.aim(fill(&pool, 1000));
        peer.write_all(b"the end\r\n.\r\nMAIL").expect("sent");
        let mut chunk = loop {
            let (chunk, _) = filled(&driver, &mut conn).await;
            if chunk.filled() == 16 {
                break chunk;
            }
            conn.aim(chunk);
        };
        chunk.retreat(4);
        conn.give_back(b"MAIL");
        assert_eq!(&*chunk.take(), b"the end\r\n.\r\n");
        assert!(matches!(next_none(&driver, &mut conn).await, Next::Bytes(bytes) if bytes == b"MAIL"));
        peer.write_all(b" FROM:<>\r\n").expect("sent");
        until_shown(&driver, &mut conn, b"MAIL FROM:<>\r\n").await;
    });
}

pub fn given_back_octets_are_aimed_first<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let pool = pool();
        peer.write_all(b"behind").expect("sent");
        until_shown(&driver, &mut conn, b"behind").await;
        conn.give_back(b"before, ");
        let mut chunk = fill_up(&driver, &mut conn, fill(&pool, 14)).await;
        assert_eq!(&*chunk.take(), b"before, behind");
    });
}

pub fn one_chunk_at_a_time<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let pool = pool();
        let mut full = fill(&pool, 4);
        full.put(b"full");
        assert!(!takes_aim(&mut conn, full), "aimed at a full chunk");
        conn.aim(fill(&pool, 10));
        assert!(!takes_aim(&mut conn, fill(&pool, 10)), "aimed at two chunks");
        peer.write_all(b"x").expect("sent");
        assert_eq!(filled(&driver, &mut conn).await.1, 1);
    });
}

fn takes_aim(conn: &mut impl Conn, chunk: Fill) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| conn.aim(chunk))).is_ok()
}

pub fn the_end_comes_while_aimed<U: Under>() {
    U::run(async move |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        let pool = pool();
        peer.write_all(b"half a body").expect("sent");
        let mut chunk = fill_up(&driver, &mut conn, fill(&pool, 11)).await;
        assert_eq!(&*chunk.take(), b"half a body");
        conn.aim(fill(&pool, 100));
        drop(peer);
        assert!(matches!(next_none(&driver, &mut conn).await, Next::End));
        nothing(&driver, &mut conn).await;
        conn.handle().note(1);
        assert!(matches!(next_none(&driver, &mut conn).await, Next::Note(1)));
    });
}

pub fn f_050_a_dropped_connection_gives_the_chunk_back_when_the_kernel_is_done<U: Under>() {
    U::run(async move |driver| {
        let pool = pool();
        for round in 0..20 {
            let (mut conn, mut peer) = pair(&driver).await;
            conn.aim(fill(&pool, 64 << 10));
            nothing_yet(&mut conn);
            peer.write_all(b"late").expect("sent");
            if round % 2 == 0 {
                drop(conn)
            } else {
                conn.abort()
            }
            drop(peer);
        }
        let budget = pool.budget().clone();
        until(&driver, || budget.leased_bytes() == 0).await;
    });
}

/// Polls once, so that the receive is under way.
fn nothing_yet(conn: &mut impl Conn) {
    let _ = poll_once(conn.next(Tick::NEVER, |_| (0, ())));
}

pub fn any_mixture_of_aims_and_looks_keeps_the_stream<U: Under>() {
    for seed in 1..=6 {
        U::run(async move |driver| {
            println!("seed {seed}");
            let (mut conn, mut peer) = pair(&driver).await;
            let sent = numbered(1 << 20);
            let expected = sent.clone();
            let writer = start(&driver, move || {
                let mut dice = Dice::new(seed + 100);
                let mut rest = &sent[..];
                while !rest.is_empty() {
                    let step = (1 + dice.below(9000)).min(rest.len());
                    peer.write_all(&rest[..step]).expect("sent");
                    rest = &rest[step..];
                }
            });
            let seen = receive_by_dice(&driver, &mut conn, &mut Dice::new(seed)).await;
            assert!(seen == expected, "seed {seed}: octets were lost, doubled or moved");
            writer.finish(&driver).await;
        });
    }
}

async fn receive_by_dice<D: Driver>(driver: &D, conn: &mut D::Conn, dice: &mut Dice) -> Vec<u8> {
    let pool = pool();
    let mut seen = Vec::new();
    let mut aimed = false;
    loop {
        if !aimed && dice.below(3) == 0 {
            conn.aim(fill(&pool, 1 + dice.below(20_000)));
            aimed = true;
        }
        if dice.below(4) == 0 {
            conn.handle().note(1);
        }
        // Consumes all, a part, or nothing until the next note.
        let share = dice.below(4);
        let by = if dice.below(8) == 0 { Tick(1) } else { soon(driver) };
        let see = |bytes: &[u8]| {
            let count = if share == 3 { 0 } else { bytes.len() / (share + 1) };
            (count, bytes[..count].to_vec())
        };
        match conn.next(by, see).await {
            Next::Bytes(bytes) => {
                assert!(!aimed, "shown while aimed");
                seen.extend(bytes);
                conn.handle().note(2);
            }
            Next::Filled(mut chunk, count) => {
                aimed = false;
                let back = dice.below(count + 1);
                seen.extend(&chunk.written()[..count - back]);
                let rest = chunk.written()[count - back..].to_vec();
                chunk.retreat(back);
                conn.give_back(&rest);
            }
            Next::Note(_) | Next::Deadline | Next::Room => {}
            Next::End => break,
            other => panic!("{other:?}"),
        }
    }
    if !aimed {
        seen.extend(what_is_left(driver, conn).await);
    }
    seen
}

/// What was left unconsumed before the end: shown once more after a note.
async fn what_is_left<D: Driver>(driver: &D, conn: &mut D::Conn) -> Vec<u8> {
    conn.handle().note(1);
    assert!(matches!(next_all(driver, conn).await, Next::Note(_)));
    match conn.next(Tick(1), |bytes| (bytes.len(), bytes.to_vec())).await {
        Next::Bytes(bytes) => bytes,
        Next::Deadline => Vec::new(),
        other => panic!("{other:?} after the end"),
    }
}

/// Sends `octets`, or as many as the system takes before anybody reads; how many.
fn send_ahead(peer: &mut TcpStream, octets: &[u8]) -> usize {
    peer.set_nonblocking(true).expect("valid");
    let mut sent = 0;
    while sent < octets.len() {
        match peer.write(&octets[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    sent
}

/// All their octets are there before the first is received, in pieces enough for hundreds of turns: who is not heard
/// between them is heard when they have ended.
pub fn bodies_that_never_pause_keep_no_other_connection_waiting<U: Under>() {
    const BODIES: usize = 128;
    const BODY_BYTES: usize = 256 << 10;
    const PIECE_BYTES: usize = 4 << 10;
    U::run(async move |driver| {
        let pool = pool();
        let (mut bodies, mut sent) = (Vec::new(), 0);
        for _ in 0..BODIES {
            let (conn, mut peer) = pair(&driver).await;
            sent += send_ahead(&mut peer, &[0; BODY_BYTES]);
            bodies.push((conn, peer));
        }
        let (mut other, mut caller) = pair(&driver).await;
        caller.write_all(b"x").expect("sent");
        let received = Rc::new(Cell::new(0));
        for (mut conn, peer) in bodies {
            let (driver, pool, received) = (driver.clone(), pool.clone(), received.clone());
            driver.clone().spawn(async move {
                let _stays_open = peer;
                loop {
                    conn.aim(fill(&pool, PIECE_BYTES));
                    let (_, count) = filled(&driver, &mut conn).await;
                    received.set(received.get() + count);
                }
            });
        }
        until_shown(&driver, &mut other, b"x").await;
        let meanwhile = received.get();
        assert!(meanwhile < sent / 2, "{meanwhile} of {sent} octets came first");
        until(&driver, || received.get() == sent).await;
    });
}
