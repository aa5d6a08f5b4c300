//! `Conn::next`: what is reported, in which order, and what is shown again.

use crate::harness::*;
use engine::io::driver::{Conn, Driver, Next};
use std::io::{Read, Write};

crate::each!(order:
    replies_reach_the_peer_and_bytes_reach_us
    the_end_comes_once_and_then_only_the_deadline
);

pub fn replies_reach_the_peer_and_bytes_reach_us<U: Under>() {
    U::run(async |driver| {
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
        assert!(matches!(next_all(&driver, &mut conn).await, Next::Bytes(bytes) if bytes == b"QUIT\r\n"));
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

pub fn the_end_comes_once_and_then_only_the_deadline<U: Under>() {
    U::run(async |driver| {
        let (mut conn, mut peer) = pair(&driver).await;
        peer.write_all(b"last words").expect("sent");
        drop(peer);
        assert_eq!(read_to_end(&driver, &mut conn).await, b"last words");
        let by = driver.precise_now() + QUIET;
        assert!(matches!(conn.next(by, |_| -> (usize, ()) { panic!("nothing is left") }).await, Next::Deadline));
        assert!(driver.precise_now() >= by);
    });
}
