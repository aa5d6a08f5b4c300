//! Small fixed workloads whose instructions are counted (`.ci/instructions`): the same work, octet by octet, each time,
//! without I/O, so that a count moves only when the code does.
//!
//! `workloads` prints the names; `workloads NAME` runs one.

#![forbid(unsafe_code)]

use engine::smtp::Profile;
use engine::smtp::server::{AcceptAll, Event, ServerOptions, ServerSession, Verdict};
use engine::spool::{
    BATCH_BYTES_MAX, Content, Durability, Facts, FileId, Log, LogOptions, NewRecord, Numbers, Outcome, RecordKind,
    Secret, Want, WriteResult,
};
use engine::sys::lockfree::HotRing;
use engine::sys::slice::{Budget, Pool};
use engine::wire::{EnvelopeRef, Tick, Wall};
use std::hint::black_box;
use std::sync::Arc;

type Workload = (&'static str, fn());

const WORKLOADS: &[Workload] = &[
    ("leases", leases),
    ("server-data", || serve(&by_data())),
    ("server-chunks", || serve(&by_chunks())),
    ("envelopes", envelopes),
    ("spool-append", append_and_settle),
    ("hot-ring", hot_ring),
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

/// A log on segments that hold a quarter of what is appended, so that some are closed, freed and used again.
fn append_and_settle() {
    let options = LogOptions {
        shard: 0,
        durability: Durability::Disk,
        segment_bytes: 1 << 20,
        batch_bytes_max: BATCH_BYTES_MAX,
        numbers: Numbers::of_shard(1, 0, 1),
    };
    let mut log = Log::new(options, Pool::new(Budget::new(64 << 20)));
    let content = content();
    let facts = Facts { body_bytes: content.len() as u64, ends_with_crlf: true, ..Facts::default() };
    let record = NewRecord {
        kind: RecordKind::Message,
        envelope: ENVELOPE,
        recipients: 2,
        trace: b"Received: from client.test by server.test\r\n",
        facts: &facts,
        priority: 1,
        received: Wall(0),
        content: Content::Octets(&[&content]),
        settles: &[],
    };
    let mut files = 0;
    for number in 0..4 * MESSAGES {
        let appended = patiently(&mut log, &mut files, |log| log.append(&record));
        for recipient in 0..2 {
            patiently(&mut log, &mut files, |log| log.settle(appended.id, recipient, Outcome::Delivered));
        }
        if number % 16 == 15 {
            write_all(&mut log, &mut files);
        }
    }
    write_all(&mut log, &mut files);
    assert!(files < 4, "segments are used again: {files} files");
}

/// What `act` comes to once the log has room for it.
fn patiently<T>(log: &mut Log, files: &mut u32, mut act: impl FnMut(&mut Log) -> Result<T, engine::spool::Full>) -> T {
    loop {
        match act(log) {
            Ok(done) => return done,
            Err(engine::spool::Full::Segment) => write_all(log, files),
            Err(full) => panic!("{full}"),
        }
    }
}

/// Brings what the log asks for, and takes its writes as done.
fn write_all(log: &mut Log, files: &mut u32) {
    loop {
        match log.wants() {
            Some(Want::File) => {
                *files += 1;
                log.give(FileId(*files), Secret([7; 16]));
            }
            Some(Want::Recycle(file)) => log.give(file, Secret([8; 16])),
            None => {}
        }
        let Some(order) = log.seal() else { return };
        let bytes = usize::try_from(order.bytes).expect("a batch fits");
        black_box(log.written(order.parts, WriteResult::Octets(bytes)));
    }
}

/// Tickets through a hot ring, as many at a time as a hub lends.
fn hot_ring() {
    let ring = HotRing::new(64);
    for round in 0..MESSAGES {
        for ticket in 0..48 {
            ring.push(round * 48 + ticket).expect("there is room");
        }
        for ticket in 0..48 {
            assert_eq!(ring.pop(), Some(round * 48 + ticket));
        }
    }
}
