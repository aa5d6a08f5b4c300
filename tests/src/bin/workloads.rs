//! Small fixed workloads whose instructions are counted (`.ci/instructions`): the same work, octet by octet, each time,
//! without I/O, so that a count moves only when the code does.
//!
//! `workloads` prints the names; `workloads NAME` runs one.

#![forbid(unsafe_code)]

use engine::smtp::Profile;
use engine::smtp::server::{AcceptAll, Event, ServerOptions, ServerSession, Verdict};
use engine::sys::slice::{Budget, Pool};
use engine::wire::{EnvelopeRef, Tick};
use std::hint::black_box;
use std::sync::Arc;

type Workload = (&'static str, fn());

const WORKLOADS: &[Workload] = &[
    ("leases", leases),
    ("server-data", || serve(&by_data())),
    ("server-chunks", || serve(&by_chunks())),
    ("envelopes", envelopes),
];
const MESSAGES: usize = 200;

fn main() {
    let Some(wanted) = std::env::args().nth(1) else {
        for (name, _) in WORKLOADS {
            println!("{name}");
        }
        return;
    };
    let Some((_, run)) = WORKLOADS.iter().find(|(name, _)| *name == wanted) else {
        eprintln!("no workload `{wanted}`");
        std::process::exit(2);
    };
    run();
}

/// Messages of 4 KiB copied into leased memory, cut up and given back.
fn leases() {
    let pool = Pool::new(Budget::new(8 << 20));
    let message = [b'x'; 4096];
    for _ in 0..MESSAGES {
        let mut fill = pool.fill(5000).expect("within the budget");
        fill.put(&message);
        let slice = fill.take();
        black_box(slice.sub(1..4000));
    }
}

/// 4 KiB of mail in lines of 64 octets, some of which begin with a dot.
fn content() -> Vec<u8> {
    let mut text = b"From: ann@a.test\r\nSubject: counted\r\n\r\n".to_vec();
    for line in 0..63 {
        text.extend_from_slice(if line % 8 == 0 { b"..".as_slice() } else { b"xx" });
        text.extend_from_slice(&[b'y'; 60]);
        text.extend_from_slice(b"\r\n");
    }
    text
}

const ENVELOPE: &[u8] =
    b"MAIL FROM:<ann@a.test> SIZE=4096 BODY=8BITMIME\r\nRCPT TO:<bob@b.test>\r\nRCPT TO:<eve@c.test>\r\n";

/// What a client sends in one go: it waits for the reply to EHLO and to DATA, and for nothing else.
type Segments = Vec<Vec<u8>>;

fn by_data() -> Segments {
    let begin = [ENVELOPE, b"DATA\r\n"].concat();
    let mut segments = vec![b"EHLO client.test\r\n".to_vec(), begin.clone()];
    segments.resize(MESSAGES + 1, [&content(), b".\r\n".as_slice(), &begin].concat());
    segments.push([&content(), b".\r\n".as_slice()].concat());
    segments
}

fn by_chunks() -> Segments {
    let content = content();
    let one = [b"RSET\r\n", ENVELOPE, format!("BDAT {} LAST\r\n", content.len()).as_bytes(), &content].concat();
    vec![b"EHLO client.test\r\n".to_vec(), one.repeat(MESSAGES)]
}

/// A server session is shown each segment in pieces of at most 16 KiB and accepts everything.
fn serve(segments: &Segments) {
    let address = "127.0.0.1:25".parse().expect("an address");
    let options = Arc::new(ServerOptions::new(Profile::Bench, "server.test"));
    let mut session = ServerSession::new(options, address, address, false, Tick(0));
    let mut out = Vec::with_capacity(64 << 10);
    session.greet(None, &mut out);
    let mut messages = 0;
    for segment in segments {
        let (mut at, mut shown) = (0, 0);
        while shown < segment.len() {
            shown = (shown + (16 << 10)).min(segment.len());
            let (consumed, taken) = show(&mut session, &segment[at..shown], &mut out);
            at += consumed;
            messages += taken;
            out.clear();
        }
        assert_eq!(at, segment.len(), "a segment is consumed whole");
    }
    assert_eq!(messages, MESSAGES, "every message is taken");
}

/// Octets consumed and messages taken.
fn show(session: &mut ServerSession, octets: &[u8], out: &mut Vec<u8>) -> (usize, usize) {
    let (mut at, mut messages) = (0, 0);
    loop {
        let step = session.step(&octets[at..], Tick(0), &AcceptAll, out);
        at += step.consumed;
        match step.event {
            Event::Message(slot) => {
                messages += 1;
                session.on_verdict(slot, Verdict::Accepted { id: 1, message_id: b"" }, Tick(0), out);
            }
            Event::More => return (at, messages),
            Event::Close => panic!("the session is over: {}", String::from_utf8_lossy(out)),
            other => drop(black_box(other)),
        }
    }
}

/// Envelopes read from their disk form, every recipient looked at.
fn envelopes() {
    let mut envelope = engine::wire::EnvelopeBuf::new();
    let limits = engine::wire::PathLimits::RFC;
    for at in 0..20 {
        let path = format!("<r{at}@b.test>");
        envelope.stage_recipient(path.as_bytes(), limits).expect("a path");
        envelope.commit();
    }
    for _ in 0..MESSAGES {
        let read = EnvelopeRef::parse(envelope.bytes()).expect("what was written");
        for recipient in read.recipients() {
            black_box(recipient.domain());
        }
    }
}
