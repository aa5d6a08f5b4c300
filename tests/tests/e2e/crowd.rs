//! Crowds of clients that do nothing, or next to nothing: what they cost, and that nobody else feels them (F-121 to F-123).

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use tests::descriptors::allow;
use tests::ledger::{content, sender};
use tests::peers::trace_before;
use tests::server::{Server, Told};
use tests::sink::{Offers, Sink};
use tests::talk::Talk;
use tests::wait::until;

/// Clients that say EHLO and nothing more.
const IDLE: usize = 10_000;
/// Clients that are slow: half of them in commands, a quarter in bodies, and a quarter stop inside a body.
const SLOW: usize = 1_000;
/// What a build for tests may take for an idle connection, octets: by io_uring, and by the runtimes of others, on epoll and
/// on io_uring. What is released promises less (P-108), and a benchmark measures it.
const IDLE_BYTES_MAX: u64 = 6 << 10;
const IDLE_BYTES_MAX_ELSEWHERE: u64 = 16 << 10;
/// A body under way has a chunk of 16 KiB besides; its envelope and what aligns it take less than as much again.
const BODY_BYTES: u64 = 32 << 10;
/// Open files that are for something else.
const OTHER_FILES: usize = 500;

fn may_open(count: usize, test: &str) -> bool {
    let allowed = allow(count + OTHER_FILES);
    if allowed < count + OTHER_FILES {
        tests::skip(test, &format!("{allowed} open files are allowed, {} needed", count + OTHER_FILES));
        return false;
    }
    true
}

/// A greeted connection. Sources take turns, as in a crowd.
fn greeted(nth: usize, to: SocketAddr) -> TcpStream {
    let from = Ipv4Addr::new(127, 0, 1, u8::try_from(nth % 250).expect("below 250") + 1);
    let talk = Talk::connect_from(from.into(), to).expect("a connection");
    let mut stream = talk.stream().try_clone().expect("a second handle");
    read_to(&mut stream, "220 ");
    stream
}

/// A session that has said EHLO.
fn idle(nth: usize, to: SocketAddr) -> TcpStream {
    let mut stream = greeted(nth, to);
    stream.write_all(b"EHLO client.test\r\n").expect("it reads");
    read_to(&mut stream, "250 ");
    stream
}

/// A session that is inside a body.
fn in_a_body(nth: usize, to: SocketAddr) -> TcpStream {
    let mut stream = idle(nth, to);
    stream.write_all(b"MAIL FROM:<slow@a.test>\r\nRCPT TO:<bob@b.test>\r\nDATA\r\n").expect("it reads");
    read_to(&mut stream, "354 ");
    stream.write_all(b"Subject: slow\r\n\r\nS").expect("it reads");
    stream
}

/// Reads whole lines until the last begins with `last`.
fn read_to(stream: &mut TcpStream, last: &str) {
    let (mut text, mut octets) = (String::new(), [0; 512]);
    while !(text.ends_with("\r\n") && text.lines().last().is_some_and(|line| line.starts_with(last))) {
        let count = stream.read(&mut octets).expect("a reply");
        assert!(count > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&octets[..count]));
    }
}

/// One more octet, if the peer still takes any: whoever was cut off is found by reading.
fn drip(stream: &mut TcpStream, octet: &[u8]) {
    let _ = stream.write(octet);
}

/// Whether the server has ended the session. It says why before it does.
fn is_over(stream: &mut TcpStream) -> bool {
    let mut octets = [0; 512];
    match stream.read(&mut octets) {
        Ok(0) => true,
        Ok(count) => {
            let text = String::from_utf8_lossy(&octets[..count]);
            assert!(text.starts_with("421 4.4.2 "), "it is told why: {text:?}");
            false
        }
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// A client with manners: its messages are accepted, one after the other.
fn is_served(hub: &Server, ids: Range<u64>) {
    let mut talk = Talk::hello(hub.address()).expect("a greeting");
    for id in ids {
        let reply = talk.send(&sender(id), &["bob@b.test"], &content(id)).expect("a reply");
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    assert_eq!(talk.say("QUIT").expect("a reply").code, 221);
}

/// Each of them came once and whole, and nothing else did.
fn all_came(sink: &Sink, ids: Range<u64>) {
    let count = usize::try_from(ids.end - ids.start).expect("few");
    let taken = sink.wait_for(count);
    assert_eq!(taken.len(), count, "nothing else is a message");
    for id in ids {
        let one = taken.iter().find(|one| one.from == sender(id)).unwrap_or_else(|| panic!("{id} did not come"));
        assert!(trace_before(&content(id), &one.content).is_some(), "{id} is changed");
    }
}

fn open(hub: &Server) -> usize {
    usize::try_from(hub.counter("connections_in")).expect("few")
}

fn idle_bytes_max(hub: &Server) -> u64 {
    if hub.ready()["driver"] == "uring" { IDLE_BYTES_MAX } else { IDLE_BYTES_MAX_ELSEWHERE }
}

/// Its memory when nobody is there, once the first connections and messages took what they take only once.
fn memory_at_rest(hub: &mut Server, ids: Range<u64>) -> u64 {
    let first: Vec<TcpStream> = (0..200).map(|nth| idle(nth, hub.address())).collect();
    is_served(hub, ids);
    drop(first);
    until("the first ones to be gone", || (open(hub) == 0).then_some(()));
    hub.process().resident_bytes()
}

#[test]
fn f_123_i_6_ten_thousand_idle_connections_cost_little_and_harm_nobody() {
    if !may_open(IDLE, "f_123_i_6_ten_thousand_idle_connections_cost_little_and_harm_nobody") {
        return;
    }
    for driver in tests::drivers("f_123_i_6_ten_thousand_idle_connections_cost_little_and_harm_nobody") {
        let sink = Sink::start(Offers { chunking: true });
        let mut hub = Server::started(Told { driver, ..Told::relaying_to(sink.address()) });
        let before = memory_at_rest(&mut hub, 0..20);
        let crowd: Vec<TcpStream> = (0..IDLE).map(|nth| idle(nth, hub.address())).collect();
        until("all of them", || (open(&hub) == IDLE).then_some(()));
        let grown = hub.process().resident_bytes().saturating_sub(before);
        let each = grown / u64::try_from(IDLE).expect("few");
        println!("{driver}: {each} octets for each of {IDLE} idle connections");
        let most = idle_bytes_max(&hub);
        assert!(
            each <= most,
            "{driver}: {each} octets for each of {IDLE} idle connections, at most {most} are allowed"
        );
        is_served(&hub, 20..40);
        all_came(&sink, 0..40);
        // The crowd is served as well, whoever of it wakes up.
        for mut one in crowd.iter().step_by(1_000) {
            one.write_all(b"NOOP\r\n").expect("it reads");
            read_to(&mut one.try_clone().expect("a second handle"), "250 ");
        }
        drop(crowd);
        until("all of them to be gone", || (open(&hub) == 0).then_some(()));
        hub.stop();
    }
}

/// Who connects and closes, in whatever way and place, leaves nothing behind: no connection, no descriptor, no flood in the
/// log.
#[test]
fn f_125_i_7_who_connects_and_closes_leaves_nothing_behind() {
    const COUNT: usize = 2_000;
    for driver in tests::drivers("f_125_i_7_who_connects_and_closes_leaves_nothing_behind") {
        let sink = Sink::start(Offers { chunking: true });
        let mut hub = Server::started(Told { driver, ..Told::relaying_to(sink.address()) });
        // Connections to the next hop and files of the spool are there before the crowd is.
        is_served(&hub, 0..20);
        sink.wait_for(20);
        until("the first one to be gone", || (open(&hub) == 0).then_some(()));
        let (files, lines) = (hub.descriptors(), hub.process().said().len());
        for nth in 0..COUNT {
            let from = Ipv4Addr::new(127, 0, 1, u8::try_from(nth % 250).expect("below 250") + 1);
            let mut talk = Talk::connect_from(from.into(), hub.address()).expect("a connection");
            match nth % 4 {
                0 => {}
                1 => drop(talk.reply().expect("a greeting")),
                // Octets that are never read make of the close a reset.
                2 => talk.write(b"EHLO client.test\r\nMAIL FROM:<a@a.test>\r\n").expect("room"),
                _ => talk.write(b"\0\xff\x16\x03").expect("room"),
            }
        }
        is_served(&hub, 20..40);
        until("all of them to be gone", || (open(&hub) == 0).then_some(()));
        until("their descriptors to be closed", || (hub.descriptors() <= files).then_some(()));
        let said = hub.process().said().len() - lines;
        assert!(said < COUNT / 10, "{driver}: {said} lines about {COUNT} connections");
        all_came(&sink, 0..40);
        hub.stop();
    }
}

/// Octets that come one by one keep nobody's place: the time for a command is for the whole of it, and a body that stands
/// still is given up. All the while others are served, and nothing of what was given up is a message.
#[test]
fn f_121_f_122_a_thousand_slow_senders_harm_nobody_and_are_cleared() {
    if !may_open(SLOW, "f_121_f_122_a_thousand_slow_senders_harm_nobody_and_are_cleared") {
        return;
    }
    let sink = Sink::start(Offers { chunking: true });
    let told = Told::relaying_to(sink.address()).with("receive", "command_wait = \"5s\"\ndata_wait = \"5s\"");
    let mut hub = Server::started(told);
    let before = memory_at_rest(&mut hub, 0..20);
    let mut stalled: Vec<TcpStream> = (0..SLOW / 4).map(|nth| in_a_body(nth, hub.address())).collect();
    let mut in_bodies: Vec<TcpStream> = (0..SLOW / 4).map(|nth| in_a_body(nth, hub.address())).collect();
    let mut in_commands: Vec<TcpStream> = (0..SLOW / 2).map(|nth| greeted(nth, hub.address())).collect();
    let grown = hub.process().resident_bytes().saturating_sub(before);
    println!("{grown} octets for {SLOW} slow senders");
    let half = u64::try_from(SLOW / 2).expect("few");
    let allowed = 2 * half * idle_bytes_max(&hub) + half * BODY_BYTES;
    assert!(grown <= allowed, "{grown} octets for {SLOW} slow senders, {allowed} are allowed");
    for stream in in_commands.iter().chain(&in_bodies).chain(&stalled) {
        stream.set_nonblocking(true).expect("a socket");
    }
    let mut id = 20;
    // They go on dripping until whoever does it in commands, or stands still, is cut off; meanwhile mail flows.
    until("the slow ones to be cut off", || {
        in_bodies.iter_mut().for_each(|stream| drip(stream, b"x"));
        in_commands.iter_mut().for_each(|stream| drip(stream, b"N"));
        in_commands.retain_mut(|stream| !is_over(stream));
        stalled.retain_mut(|stream| !is_over(stream));
        is_served(&hub, id..id + 1);
        id += 1;
        (in_commands.is_empty() && stalled.is_empty()).then_some(())
    });
    // Now the others stop as well.
    until("those in bodies to be cut off", || {
        in_bodies.retain_mut(|stream| !is_over(stream));
        in_bodies.is_empty().then_some(())
    });
    until("all of them to be gone", || (open(&hub) == 0).then_some(()));
    all_came(&sink, 0..id);
    hub.stop();
}
