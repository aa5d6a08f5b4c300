//! Parts that must see the same: where a header section ends, by the session that receives it and by who reads it later.
#![forbid(unsafe_code)]

use engine::mime::header::fields;
use engine::smtp::Profile;
use engine::smtp::server::{AcceptAll, Event, ServerOptions, ServerSession};
use engine::wire::Tick;
use proptest::prelude::*;
use std::sync::Arc;

/// Octets of the header section as a session counts them that receives `content` by BDAT, cut at `cut`; `None` when it
/// takes no such content.
fn received(content: &[u8], cut: usize) -> Option<u64> {
    let here = "192.0.2.1:25".parse().expect("an address");
    let options = ServerOptions { strict_pipelining: false, ..ServerOptions::new(Profile::Bench, "mx.test") };
    let mut session = ServerSession::new(Arc::new(options), here, here, false, Tick(1));
    let mut out = Vec::new();
    session.greet(None, &mut out);
    let command =
        format!("EHLO c.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT {} LAST\r\n", content.len());
    let (first, rest) = content.split_at(cut.min(content.len()));
    let mut unread = Vec::new();
    for piece in [command.as_bytes(), first, rest] {
        unread.extend_from_slice(piece);
        loop {
            let step = session.step(&unread, Tick(1), &AcceptAll, &mut out);
            unread.drain(..step.consumed);
            match step.event {
                Event::More | Event::Paused => break,
                Event::Message(_) => return Some(session.content().header_bytes),
                Event::Discard | Event::Close => return None,
                Event::Begin { .. } | Event::Body(_) | Event::Insert(_) => {}
            }
        }
    }
    None
}

fn read(content: &[u8]) -> u64 {
    let mut all = fields(content);
    all.by_ref().for_each(drop);
    all.bytes() as u64
}

#[test]
fn f_132_tricks_at_the_boundary_are_seen_the_same() {
    for content in [
        &b"To: x\r\n  \r\nCc: y\r\n\r\nbody\r\n"[..],
        b" folded first\r\nTo: x\r\n\r\n",
        b"From someone\r\nTo: x\r\n\r\n",
        b"To: x\r\nno colon\r\nCc: y\r\n",
        b"To: x\r\n\t\r\n\t\r\n\r\n",
        b": empty name\r\n\r\n",
        b"To : x\r\n\r\n",
        b"\r\nTo: x\r\n",
        b"To: x",
    ] {
        for cut in 0..=content.len() {
            assert_eq!(received(content, cut), Some(read(content)), "{} cut at {cut}", content.escape_ascii());
        }
    }
    // A bare CR before the empty line: not taken at all, so that nobody can see it in two ways.
    for content in [&b"To: x\r\n\r\r\nCc: y\r\n\r\n"[..], b"To: x\r\r\n\r\n", b"To: x\n\nbody\r\n"] {
        assert_eq!(received(content, 0), None, "{}", content.escape_ascii());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn f_132_m_204_whatever_is_taken_has_one_header_section(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                &b"\r\n"[..], b"\r", b"\n", b" ", b"\t", b":", b"a", b"To: x\r\n", b"From x\r\n", b"\0", b"\xe9", b".\r\n",
            ]),
            0..14,
        ),
        cut in 0usize..60,
    ) {
        let content = parts.concat();
        if let Some(bytes) = received(&content, cut) {
            prop_assert_eq!(bytes, read(&content), "{}", content.escape_ascii());
        }
    }
}
