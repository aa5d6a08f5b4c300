//! What one message costs in each machine on its way, without any I/O: session, envelope, spool, crossing.
#![forbid(unsafe_code)]
#![allow(missing_docs)] // criterion's macros make functions without any

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::smtp::Profile;
use engine::smtp::client::{Body, BodyForm, ClientEvent, ClientOptions, ClientSession, Outbox, Transaction};
use engine::smtp::server::{AcceptAll, Event, ServerOptions, ServerSession, Verdict};
use engine::spool::{
    BATCH_BYTES_MAX, Content, Durability, Facts, FileId, Log, LogOptions, NewRecord, Numbers, Outcome, RecordKind,
    SEGMENT_BYTES, Secret, WriteResult,
};
use engine::sys::lockfree::HotRing;
use engine::sys::slice::{Budget, Pool};
use engine::wire::{EnvelopeRef, Tick, Wall};
use std::hint::black_box;
use std::sync::Arc;

fn session(now: Tick) -> ServerSession {
    let options = Arc::new(ServerOptions::new(Profile::Bench, "bench.test"));
    let address = ([127, 0, 0, 1], 25).into();
    let mut session = ServerSession::new(options, address, address, false, now);
    let mut out = Vec::new();
    session.greet(None, &mut out);
    session.step(b"EHLO client.test\r\n", now, &AcceptAll, &mut out);
    session
}

/// One whole transaction by BDAT or DATA: every command, the scan of the content, the verdict.
fn transactions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    for bytes in [4 << 10, 100 << 10] {
        let body = perf::message(bytes);
        let mut bdat = b"MAIL FROM:<ann@a.test> BODY=8BITMIME\r\nRCPT TO:<bob@b.test>\r\n".to_vec();
        let mut data = bdat.clone();
        bdat.extend_from_slice(format!("BDAT {} LAST\r\n", body.len()).as_bytes());
        bdat.extend_from_slice(&body);
        data.extend_from_slice(b"DATA\r\n");
        let mut content = body.clone();
        content.extend_from_slice(b".\r\n");
        group.throughput(Throughput::Bytes(body.len() as u64));
        for (name, parts) in [("bdat", vec![bdat]), ("data", vec![data, content])] {
            let now = Tick(1);
            let (mut session, mut out) = (session(now), Vec::new());
            group.bench_function(format!("{name} {} KiB", bytes >> 10), |bencher| {
                bencher.iter(|| {
                    for part in &parts {
                        feed(&mut session, part, now, &mut out);
                    }
                    out.clear();
                });
            });
        }
    }
    group.finish();
}

/// Commands that make no message: reading lines, verbs and arguments, and writing the answers.
fn commands(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commands");
    let path = b"MAIL FROM:<ann@a.test> SIZE=4096 BODY=8BITMIME\r\nRCPT TO:<bob@b.test>\r\nRSET\r\n";
    // A pipelining client sends a segment of the network full; what must end a group (RFC 2920 §3.1) comes alone.
    let group_of_17 = path.repeat(17);
    for (name, octets, count) in
        [("MAIL, RCPT, RSET", &group_of_17[..], 51), ("NOOP", b"NOOP\r\n", 1), ("EHLO", b"EHLO client.test\r\n", 1)]
    {
        let now = Tick(1);
        let (mut session, mut out) = (session(now), Vec::new());
        group.throughput(Throughput::Elements(count));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                feed(&mut session, black_box(octets), now, &mut out);
                out.clear();
            });
        });
    }
    group.finish();
}

/// What a client session says goes nowhere.
struct Nowhere;

impl Outbox for Nowhere {
    fn text(&mut self, octets: &[u8]) {
        black_box(octets);
    }

    fn body(&mut self, _token: u32, _form: BodyForm) {}
}

/// The client's half of a message: offering it, and reading the four replies (to RSET, MAIL, RCPT, BDAT), which came in one piece.
fn replies(criterion: &mut Criterion) {
    let now = Tick(1);
    let mut client = ClientSession::new(Arc::new(ClientOptions::new("bench.test")), now);
    read(&mut client, b"220 hub.test\r\n250-hub.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n", now);
    let encoded = envelope();
    let body = perf::message(4 << 10);
    let facts = engine::smtp::content_facts(&body);
    let replies =
        b"250 2.0.0 Reset\r\n250 2.1.0 Sender OK\r\n250 2.1.5 Recipient OK\r\n250 2.0.0 Queued as 123456789\r\n";
    let mut group = criterion.benchmark_group("replies");
    group.throughput(Throughput::Elements(4));
    group.bench_function("of one message", |bencher| {
        bencher.iter(|| {
            let transaction = Transaction {
                envelope: EnvelopeRef::parse(&encoded).expect("our own"),
                recipients: None,
                facts: &facts,
                body: Body::Whole(body.len() as u64),
                identity: None,
            };
            client.offer(1, &transaction, now, &mut Nowhere).expect("there is room");
            assert_eq!(read(&mut client, black_box(replies), now), 1, "the message is done");
        });
    });
    group.finish();
}

/// Shows `octets` to the session; how many messages were done by them.
fn read(client: &mut ClientSession, mut octets: &[u8], now: Tick) -> usize {
    let mut done = 0;
    loop {
        let (taken, event) = client.on_bytes(octets, now, &mut Nowhere);
        octets = &octets[taken..];
        match event {
            ClientEvent::More => break,
            ClientEvent::Done { .. } => done += 1,
            ClientEvent::Ready | ClientEvent::Recipient { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(octets.is_empty(), "everything was read");
    done
}

fn feed(session: &mut ServerSession, octets: &[u8], now: Tick, out: &mut Vec<u8>) {
    let mut at = 0;
    loop {
        let step = session.step(&octets[at..], now, &AcceptAll, out);
        at += step.consumed;
        match step.event {
            Event::More => break,
            Event::Message(slot) => {
                session.on_verdict(slot, Verdict::Accepted { id: 1, message_id: b"" }, now, out);
            }
            Event::Body(range) => {
                black_box(range);
            }
            Event::Begin { .. } | Event::Insert(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(at, octets.len(), "everything was consumed");
}

fn envelope() -> Vec<u8> {
    let now = Tick(1);
    let (mut session, mut out) = (session(now), Vec::new());
    session.step(b"MAIL FROM:<ann@a.test>\r\nRCPT TO:<bob@b.test>\r\n", now, &AcceptAll, &mut out);
    session.envelope().bytes().to_vec()
}

fn envelopes(criterion: &mut Criterion) {
    let encoded = envelope();
    criterion.bench_function("envelope/parse", |bencher| {
        bencher.iter(|| EnvelopeRef::parse(black_box(&encoded)).expect("our own").recipient_count());
    });
}

/// Appending and settling one message, its share of a batch of 64 included; the write itself is taken as done.
fn spool(criterion: &mut Criterion) {
    let pool = Pool::new(Budget::new(1 << 30));
    let options = LogOptions {
        shard: 0,
        durability: Durability::Disk,
        segment_bytes: SEGMENT_BYTES,
        batch_bytes_max: BATCH_BYTES_MAX,
        numbers: Numbers::of_shard(1, 0, 1),
    };
    let mut log = Log::new(options, pool);
    let (body, envelope) = (perf::message(4 << 10), envelope());
    let facts = Facts { body_bytes: body.len() as u64, ends_with_crlf: true, ..Facts::default() };
    let mut files = 0;
    criterion.bench_function("spool/append and settle, 64 of 4 KiB", |bencher| {
        bencher.iter(|| {
            for _ in 0..64 {
                let record = NewRecord {
                    kind: RecordKind::Message,
                    envelope: &envelope,
                    recipients: 1,
                    trace: b"Received: from bench\r\n",
                    facts: &facts,
                    priority: 1,
                    received: Wall(0),
                    content: Content::Octets(&[&body]),
                    settles: &[],
                };
                let appended = loop {
                    match log.append(&record) {
                        Ok(appended) => break appended,
                        Err(_) => write_all(&mut log, &mut files),
                    }
                };
                while log.settle(appended.id, 0, Outcome::Delivered).is_err() {
                    write_all(&mut log, &mut files);
                }
            }
            write_all(&mut log, &mut files);
        });
    });
}

fn write_all(log: &mut Log, files: &mut u32) {
    loop {
        match log.wants() {
            Some(engine::spool::Want::File) => {
                *files += 1;
                log.give(FileId(*files), Secret([7; 16]));
            }
            Some(engine::spool::Want::Recycle(file)) => log.give(file, Secret([8; 16])),
            None => {}
        }
        let Some(order) = log.seal() else { break };
        let bytes = usize::try_from(order.bytes).expect("a batch fits");
        log.written(order.parts, WriteResult::Octets(bytes));
    }
}

fn hot_ring(criterion: &mut Criterion) {
    let ring = HotRing::new(1024);
    criterion.bench_function("hot ring/push and pop", |bencher| {
        bencher.iter(|| {
            ring.push(black_box(7u64)).expect("room");
            ring.pop()
        });
    });
}

criterion_group!(benches, transactions, commands, replies, envelopes, spool, hot_ring);
criterion_main!(benches);
