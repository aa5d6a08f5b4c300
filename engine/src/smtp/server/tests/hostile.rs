//! Floods and bombs: bounded in memory, taken or refused, and nothing said behind the end.

use super::support::*;
use crate::smtp::Profile;
use crate::smtp::server::ServerOptions;

/// Octets shown at a time.
const PIECE: usize = 16 << 10;

fn in_data(options: ServerOptions) -> Bench {
    let mut bench = Bench::new(options).hello();
    bench.feed(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n");
    bench.out.clear();
    bench
}

#[test]
fn f_138_a_million_recipients_get_452_beyond_the_most_and_memory_stays_flat() {
    let options = options(Profile::Rfc);
    let most = options.recipients_max as usize;
    let mut bench = Bench::new(options).hello();
    bench.ask("MAIL FROM:<a@a.test>");
    let (mut taken, mut refused) = (0, 0);
    let thousand: Vec<u8> = (0..1000).flat_map(|at| format!("RCPT TO:<r{at}@b.test>\r\n").into_bytes()).collect();
    for _ in 0..1000 {
        for piece in thousand.chunks(PIECE) {
            bench.feed(piece);
            for code in bench.codes() {
                match code.as_str() {
                    "250 2.1.5" => taken += 1,
                    "452 4.5.3" => refused += 1,
                    other => assert_eq!(other, "421 4.7.0", "the only other answer"),
                }
            }
            assert!(bench.session.held_bytes() < 2 * PIECE);
            assert!(bench.session.envelope().bytes().len() < 64 * most + 1000);
        }
    }
    assert_eq!(taken, most);
    assert_eq!((refused, bench.closed), (10_000, true), "of a million");
}

/// However many they are, the session keeps a part of one line; each is answered, in order.
#[test]
fn f_133_a_million_pipelined_commands_are_answered_in_flat_memory() {
    let mut bench = Bench::new(ServerOptions { idle_commands_max: u32::MAX, ..options(Profile::Rfc) }).hello();
    let lines = b"NOOP\r\nVRFY x\r\n".repeat(1_000);
    let mut answers = 0;
    for _ in 0..500 {
        for piece in lines.chunks(PIECE) {
            bench.feed(piece);
            for code in bench.codes() {
                assert_eq!(code, ["250 2.0.0", "252 2.5.0"][answers % 2]);
                answers += 1;
            }
            assert!(bench.session.held_bytes() < 2 * PIECE && bench.out.capacity() < 64 * PIECE);
        }
    }
    assert!(answers == 1_000_000 && !bench.closed);
}

/// The bound stops the keeping at once, not the reading: the refusal comes at the real end.
#[test]
fn f_127_a_million_header_fields_are_refused_in_flat_memory() {
    let mut bench = in_data(options(Profile::Rfc));
    let fields = b"X: y\r\n".repeat(1_000);
    for _ in 0..1_000 {
        bench.feed(&fields);
        assert!(bench.session.held_bytes() < 2 * PIECE);
    }
    bench.feed(b"\r\nbody\r\n.\r\nNOOP\r\n");
    assert_eq!(bench.codes(), ["552 5.3.4", "250 2.0.0"]);
    assert!(bench.messages.is_empty());
}

#[test]
fn f_148_nothing_is_answered_or_taken_behind_quit_and_421() {
    for (ends, last) in [(vec!["QUIT"], "221 2.0.0"), (vec!["XYZZY"; 21], "421 4.7.0")] {
        let mut bench = Bench::rfc().hello();
        let mut codes = Vec::new();
        for line in ends {
            codes.extend(bench.ask(line));
            bench.wait();
            codes.extend(bench.codes());
        }
        assert_eq!(codes.last().map(String::as_str), Some(last));
        assert!(bench.closed);
        bench.feed(b"NOOP\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nevil\r\n.\r\n");
        assert!(bench.out.is_empty() && bench.messages.is_empty(), "behind {last}");
    }
}

#[test]
fn f_142_mime_bombs_are_octets_like_any_others() {
    let parts = b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n".repeat(100_000);
    let deep: Vec<u8> = (0..10_000)
        .flat_map(|at| format!("Content-Type: multipart/mixed; boundary=\"b{at}\"\r\n\r\n--b{at}\r\n").into_bytes())
        .collect();
    let flood = [vec![b'='; 900].as_slice(), b"\r\n"].concat().repeat(10_000);
    for bomb in [parts, deep, flood] {
        let content =
            [b"Subject: bomb\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n", &bomb[..]]
                .concat();
        for way in [Way::Shown, Way::Aimed] {
            let mut bench = in_data(options(Profile::Rfc));
            bench.way = way;
            for piece in content.chunks(PIECE) {
                bench.feed(piece);
                assert!(bench.session.held_bytes() < 2 * PIECE);
            }
            bench.feed(b".\r\n");
            assert_eq!(bench.codes(), ["250 2.0.0"]);
            assert!(bench.messages[0].content == content, "byte for byte");
        }
    }
}

#[test]
fn f_141_a_body_without_an_end_is_cut_off_in_flat_memory() {
    let most = 100_000;
    let piece = b"0123456789abcdef\r\n".repeat(100);
    for way in [Way::Shown, Way::Aimed] {
        let mut bench = in_data(ServerOptions { size_max: most, ..options(Profile::Rfc) });
        bench.way = way;
        let mut shown = 0;
        while !bench.closed {
            bench.feed(&piece);
            shown += piece.len() as u64;
            assert!(bench.session.held_bytes() < 2 * PIECE);
            assert!(shown < 3 * most, "somebody who does not stop is left");
        }
        assert!(shown > most && bench.messages.is_empty());
        bench.feed(b".\r\nMAIL FROM:<a@a.test>\r\n");
        assert!(bench.codes().iter().all(|code| code == "552 5.3.4"), "nothing else is said");
    }
}
